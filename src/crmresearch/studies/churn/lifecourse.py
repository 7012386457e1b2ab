"""The life-course table (S28): how many are judged, won, developed, kept, lost, won back, and how they move."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.survival.transitions import carried_gap, transitions
from crmresearch.figures import Picture
from crmresearch.result import Result, leading, study

ORDER = ("not met", "declined", "won", "kept", "developed", "lost", "won back")
say = words.of("churn.stages")


@study
def stages(counts: Mapping[str, pd.DataFrame]) -> Result:
    """Yearly transitions between stages of the life course, and whether they add up.

    Parameters
    ----------
    counts : mapping
        ``paths`` and ``stages`` from :func:`crmresearch.data.reductions.churn.life_course`.

    Returns
    -------
    Result
        Table: ``from, to, n, of, probability, ci_low, ci_high`` over all years. The estimate is the largest gap
        between the stage counts carried forward by transitions and those counted date by date, as a share of people.
    """
    paths = counts["paths"]
    years = len(paths.columns) - 2
    if years < 1 or paths.empty:
        raise NotApplicable(say("short"), "customers")
    people = int(paths["n"].sum())
    seen = counts["stages"].pivot_table(index="date", columns="stage", values="n", aggfunc="sum", fill_value=0)
    gap = carried_gap(paths, seen) / people
    gap = gap if gap > 1e-12 else 0.0  # rounding
    table = leading(transitions(paths, ORDER), "from", "to", "probability", "ci_low", "ci_high")
    table = safe(table.set_index(["from", "to"]), ("of", "n")).reset_index()
    moves = table.set_index(["from", "to"])

    hidden = moves["n"].isna()

    def chance(start: str, end: str) -> str:
        if (start, end) not in moves.index:
            return say("none")
        return say("untold") if hidden[start, end] else say("chance", row=moves.loc[start, end])

    new = [("not met", s) for s in ("won", "kept", "developed", "declined")]
    *met, turned = moves["n"].reindex(new).fillna(0).astype(int)
    back = int(seen.iloc[-1].get("won back", 0))
    period = say("period_one") if years == 1 else say("period", years=years)
    first = [say("met", period=period, met=sum(met)), say("turned", turned=turned) if turned else say("unrecorded")]
    parts = [
        say("hidden", period=period) if hidden.reindex(new, fill_value=False).any() else "".join(first),
        say(
            "moves",
            grown=chance("won", "developed"),
            lost=chance("won", "lost"),
            developed=chance("developed", "lost"),
            kept=chance("kept", "lost"),
        )
        if seen.get("developed", seen.sum(axis=1) * 0).any()
        else say("merely", lost=chance("won", "lost"), kept=chance("kept", "lost")),  # without holdings nobody is
        say("back", back=back) if back else say("no_back"),
        say("carried", gap=gap, people=people),
    ]
    shown = [s for s in ORDER if s != "not met" and s in seen.columns]
    largest = seen[shown].iloc[-1].idxmax()
    title = say("title", stage=largest, n=int(seen[largest].iloc[-1]))
    data = seen.rename(index=lambda d: d[:7]).rename_axis("label").reset_index()
    data = data.melt("label", [s for s in shown if seen[s].sum()], "part", "count")
    return Result(
        table,
        "".join(parts),
        estimates={"S28": Estimate(gap, gap, gap, say("unit"), people)},
        picture=Picture(
            "distribution", data.assign(n=data["count"]), title, say("x"), say("y"), {"upright": True, "ordered": True}
        ),
        details={"stages": seen, "gap": gap},
    )
