"""RFM segments: recency, frequency and money, each cut by a stated rule.

*Recency* here is the time since the last purchase, as in RFM practice; in lifetime models the word means the time from
the first to the last purchase. The scores take a summary with the latter and turn it round.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing
from crmresearch.estimators.inference import mean_interval
from crmresearch.estimators.worth.purchases import rfm_scores, rfm_segment
from crmresearch.figures import Picture
from crmresearch.result import Result, study
from crmresearch.rules import rules, whose

say = words.of("value.rfm")
times = words.of("value")


@study
def rfm_segments(frame: pd.DataFrame, *, unit: str = "week") -> Result:
    """Customers by RFM segment, and, where there is a holdout, what the segments then bought.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`crmresearch.estimators.worth.purchases.rfm_scores`; ``frequency_holdout`` if there is a holdout.
    unit : str
        Unit of recency and T.
    """
    scores = rfm_scores(frame)
    segment = rfm_segment(scores)
    later = frame["frequency_holdout"].to_numpy(dtype=float) if "frequency_holdout" in frame else None
    rows = []
    for name, rule in say.names("rules").items():
        inside = segment == name
        n = int(inside.sum())
        if n < 2:
            continue
        means = scores.loc[inside, ["since", "purchases", "money"]].mean()
        row: dict[str, Any] = {
            "segment": name,
            "rule": rule,
            say("since", unit=times.names("units")[unit]): means["since"],
        }
        row |= {"purchases": means["purchases"], "money": means["money"]}
        if later is not None:
            row |= dict(zip(("bought", "ci_low", "ci_high"), mean_interval(later[inside]), strict=True))
        spent = scores.loc[inside, "money"] * scores.loc[inside, "purchases"]
        rows.append(row | {"share": n / len(frame), "n": n, "whose": whose(spent)})
    table = safe(pd.DataFrame(rows)) if rows else pd.DataFrame(columns=["n"])
    shown = table.dropna(subset="n")
    if shown.empty:
        return Result.not_applicable(Missing(say("few", n=len(frame), least=rules.least), ("transactions",)))
    biggest = table.loc[table["n"].idxmax()]
    sentence, title = say("sentence", biggest=biggest, n=len(frame)), say("title", biggest=biggest)
    if later is not None and shown["bought"].min() > 0:
        top, low = (shown.loc[at] for at in (shown["bought"].idxmax(), shown["bought"].idxmin()))
        sentence += say("holdout", top=top, low=low)
        title = say("title_apart", top=top, low=low) if top["ci_low"] > low["ci_high"] else say("title_alike")
    marks = table.rename(columns={"purchases" if later is None else "bought": "estimate"})
    marks = marks.reindex(columns=["estimate", "ci_low", "ci_high", "n"])
    labels = [say("mark", row=row) for _, row in table.iterrows()]
    x = say("x") if later is None else say("x_holdout")
    return Result(
        table.rename(columns=say.names("columns")),
        sentence + words.local("."),
        picture=Picture("intervals", marks.assign(label=labels, base=0.0), title, x),
        money=["money"],
        digits=2,
    )
