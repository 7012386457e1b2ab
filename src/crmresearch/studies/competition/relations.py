"""Whether relationship management weakens what the entry of rivals does to exits (S47)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import ends, levels, normal, rates
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Result, gate, study

say = words.of("competition.managed")
YEAR = 12
LEAST = 10  # places that rivals entered, each with an intensity of its own
EXITS = 200  # what the effects of places and months rest on
EARLY = 0.1  # the same difference in the year before entry beyond which the design is not believed, log hazard


@study
def managed(stays: pd.DataFrame, markets: pd.DataFrame) -> Result:
    """Change in the entry effect on exits for one standard deviation more relationship management (S47).

    Each place is compared with itself before entry, with other places in the same month, and by the intensity that was
    set before the observation starts: a place that is risky for good drops out, and so does a month that is bad
    everywhere. Exits are told against those expected at the customers' tenure.

    Parameters
    ----------
    stays, markets : DataFrame
        From the functions of these names in :mod:`crmresearch.data.reductions.competition`.

    References
    ----------
    Olden and Møen (2022), The triple difference estimator. *Econometrics Journal* 25, 531-553.
    """
    if markets["intensity"].isna().all():
        raise NotApplicable(say("unknown"), "markets")
    rate = stays.groupby("year")[["exits", "at_risk"]].sum().pipe(lambda s: s["exits"] / s["at_risk"])
    cells = stays.assign(expected=stays["at_risk"] * stays["year"].map(rate))
    cells = cells.groupby(["city", "month"], as_index=False)[["exits", "expected"]].sum()
    both = cells.merge(markets[["city", "month", "entered", "intensity"]].dropna(), on=["city", "month"])
    both = both[np.isfinite(both["entered"]) | (both["entered"] > 0)]  # rivals from the start tell nothing
    both = both[(both["expected"] > 0) & (both.groupby("city")["exits"].transform("sum") > 0)]
    towns = both.groupby("city")[["entered", "intensity"]].first()
    entered = towns[np.isfinite(towns["entered"])]
    if entered["intensity"].nunique() < LEAST or both["exits"].sum() < EXITS:
        raise NotApplicable(say("few", n=float(len(entered)), least=LEAST, exits=EXITS), "markets", "customers")
    z = (both["intensity"] - towns["intensity"].mean()) / towns["intensity"].std(ddof=0)
    after = (both["month"] >= both["entered"]).astype(float)
    early = both["month"].between(both["entered"] - YEAR, both["entered"] - 1).astype(float)
    x = [after * z, np.ones(len(both)), after, early * z, early, levels(both["city"]), levels(both["month"])]
    b, se = rates(np.column_stack(x), both["exits"], both["expected"], [both["city"].to_numpy()])
    n = int(both["exits"].sum())
    checks = (gate(say, "early", Deviation(b[3], *ends(b[3], se[3]), limit=EARLY)),)
    found = normal(b[0], se[0], say("unit"), n, checks=checks)
    rows = [(name, b[k], *ends(b[k], se[k]), n) for name, k in (("more", 0), ("entry", 2), ("before", 3))]
    table = pd.DataFrame(rows, columns=["row", "effect", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=found, entered=float(len(entered))),
        estimates={"S47": found},
    )
