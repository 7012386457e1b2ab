"""The life-course table (S28): how many are judged, won, developed, kept, lost, won back, and how they move."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import Missing
from crmresearch.estimators.inference import LEVEL, Estimate
from crmresearch.estimators.survival.risk import churn_study
from crmresearch.result import Result

ORDER = ("not met", "declined", "won", "kept", "developed", "lost", "won back")


def _wilson(k: float, n: float) -> tuple[float, float]:
    from scipy.special import ndtri

    z = float(ndtri(0.5 + LEVEL / 2))
    p, centre = k / n, 1 + z * z / n
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / centre
    middle = (p + z * z / (2 * n)) / centre
    return max(middle - half, 0.0), min(middle + half, 1.0)


@churn_study
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
    paths, direct = counts["paths"], counts["stages"]
    dates = [c for c in paths.columns if c != "n"]
    if len(dates) < 2 or paths.empty:
        return Result.not_applicable(Missing("a life course needs two dates a year apart", ("customers",)))
    people = int(paths["n"].sum())
    moves = pd.concat([paths.groupby([a, b])["n"].sum().rename_axis(["from", "to"]) for a, b in pairwise(dates)])
    moves = moves.groupby(level=[0, 1]).sum()
    seen = direct.pivot_table(index="date", columns="stage", values="n", aggfunc="sum", fill_value=0)
    gap = 0.0
    carried = paths.groupby(dates[0])["n"].sum()
    for before, after in pairwise(dates):
        # stage counts, moved by the shares of each stage that went where
        steps = paths.groupby([before, after])["n"].sum()
        share = steps / steps.groupby(level=0).transform("sum")
        carried = share.mul(carried, level=0).groupby(level=1).sum()
        both = pd.concat([carried, seen.loc[after]], axis=1).fillna(0.0)
        gap = max(gap, float((both.iloc[:, 0] - both.iloc[:, 1]).abs().max()) / people)
    first = pd.concat([paths.groupby(dates[0])["n"].sum(), seen.loc[dates[0]]], axis=1).fillna(0.0)
    gap = max(gap, float((first.iloc[:, 0] - first.iloc[:, 1]).abs().max()) / people)
    rows = []
    for start in ORDER:
        if start not in moves.index.get_level_values(0):
            continue
        of = int(moves.loc[start].sum())
        for end in ORDER:
            k = int(moves.get((start, end), 0))
            if k:
                low, high = _wilson(k, of)
                rows.append(
                    {"from": start, "to": end, "n": k, "of": of, "probability": k / of, "ci_low": low, "ci_high": high}
                )
    table = pd.DataFrame(rows)

    def chance(start: str, end: str) -> str:
        hit = table[(table["from"] == start) & (table["to"] == end)]
        return f"{hit['probability'].iloc[0]:.1%}" if len(hit) else "none"

    met = moves.get(("not met", "won"), 0) + moves.get(("not met", "kept"), 0) + moves.get(("not met", "developed"), 0)
    turned = moves.get(("not met", "declined"), 0)
    won = (
        f"{met:,} were won and {turned:,} were not; "
        if turned
        else f"{met:,} were won (prospects that were not are not recorded); "
    )
    back = int(seen.iloc[-1].get("won back", 0))
    sentence = (
        f"Of people first met within the {len(dates) - 1} years, {won}of customers in their first year "
        f"{chance('won', 'developed')} are developed a year later and {chance('won', 'lost')} lost; of developed "
        f"customers {chance('developed', 'lost')} are lost within a year, of the merely kept "
        f"{chance('kept', 'lost')}. "
        + (f"{back:,} were won back. " if back else "No win-back is recorded. ")
        + f"Carried forward, the stages agree with those counted date by date to {gap:.1g} of {people:,} people."
    )
    estimate = Estimate(gap, gap, gap, "share of customers", people)

    def draw(ax: Any) -> Any:
        shown = [s for s in ORDER if s != "not met" and s in seen.columns and seen[s].sum() > 0]
        below = np.zeros(len(seen))
        x = np.arange(len(seen))
        for i, name in enumerate(shown):
            ax.bar(x, seen[name], bottom=below, width=0.7, color=figures.PALETTE[i % len(figures.PALETTE)], label=name)
            below = below + seen[name].to_numpy()
        ax.set_xticks(x, [d[:7] for d in seen.index])
        ax.set(xlabel="Date", ylabel="People met so far", title="People by stage of the life course")
        figures.money_axis(ax)
        ax.legend(ncols=2, loc="upper left")
        ax.set_ylim(0, below.max() * 1.3)
        return ax

    last = seen.iloc[-1]
    alt = (
        f"Stacked bars of people by stage at {len(seen)} yearly dates; at the last: "
        + ", ".join(f"{s} {int(last[s]):,}" for s in ORDER if s in seen.columns and s != "not met")
        + "."
    )
    return Result(
        table, sentence, (), {"S28": estimate}, draw, alt, counts=("n", "of"), details={"stages": seen, "gap": gap}
    )
