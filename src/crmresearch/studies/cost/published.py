"""What others found, to hold results against, and the gates of a whole notebook in one table."""

from __future__ import annotations

import pandas as pd

from crmresearch.estimators.inference import Estimate
from crmresearch.result import Result

# Facts with their sources. "seen": the source itself was read; "second hand": a text about it; "recomputed": by us.
FINDINGS = (
    (
        "retention",
        "1% more retention raises customer value by 2.4 to 6.8%, its cost not counted",
        "Gupta, Lehmann, Stuart 2004",
        "second hand, recomputed",
    ),
    ("retention", "1% better acquisition cost raises it by 0.02 to 0.3%", "Gupta, Lehmann, Stuart 2004", "second hand"),
    (
        "retention",
        "five points fewer defections, 25 to 85% more profit per customer: present values of company examples",
        "Reichheld, Sasser 1990",
        "seen",
    ),
    (
        "retention",
        "five points from 10% halve defections; a thought experiment, no effect on firms",
        "Sharp, Loyalty Myths",
        "seen",
    ),
    (
        "ratio",
        "winning costs five to ten times as much as keeping",
        "Slater, Narver 2000",
        "second hand, origin not found",
    ),
    (
        "ratio",
        "at the optimum marginal costs equal customer value; average ratios of 2.3 to 4.7 there",
        "Pfeifer 2005",
        "seen, recomputed",
    ),
    (
        "ratio",
        "4.41 [4.1, 4.7] per customer-year, 1.47 [1.4, 1.6] per tenure: teaching data",
        "SMCRM, Kumar, Petersen 2012",
        "recomputed",
    ),
    (
        "selection",
        "probit for winning, censored duration, profit with what both predict",
        "Reinartz, Thomas, Kumar 2005",
        "second hand",
    ),
    ("campaigns", "those most at risk are not the best targets", "Ascarza 2018", "seen"),
    (
        "campaigns",
        "an offer raised churn from 6.4 to 10.0%",
        "Ascarza, Iyengar, Schleicher 2016",
        "second hand",
    ),
    (
        "campaigns",
        "loyalty programmes raise retention a little; direct mail only the share of wallet",
        "Verhoef 2003",
        "seen",
    ),
)


def published() -> Result:
    """List published findings on the cost of winning and keeping, with how far each was checked."""
    table = pd.DataFrame(FINDINGS, columns=["subject", "finding", "source", "checked"])
    sure = int(table["checked"].str.contains("seen|recomputed").sum())
    return Result(
        table, f"{len(table)} published findings; of {sure} the source was read or the figure recomputed.", counts=()
    )


def gates(**results: Result) -> Result:
    """Put the gates of several results into one table.

    Parameters
    ----------
    **results : Result
        By name; those that do not apply say why.
    """
    rows = []
    for name, result in results.items():
        words = name.replace("_", " ")
        if result.missing is not None:
            rows.append((words, "all", "not applicable", str(result.missing)))
        own = [c for e in result.estimates.values() if isinstance(e, Estimate) for c in e.checks]
        for check in (*result.checks, *own):
            row = (words, check.name, check.status, check.detail)
            if row not in rows:
                rows.append(row)
    table = pd.DataFrame(rows, columns=["study", "assumption", "status", "detail"])
    count = table["status"].value_counts()
    sentence = (
        f"{count.get('open', 0)} gates are open, {count.get('closed', 0)} closed, {count.get('declared', 0)} "
        "are assumptions "
        f"that no table can show; {count.get('not applicable', 0)} studies do not apply to this bank."
    )
    return Result(table, sentence, counts=())
