"""Moves between states at equal distances in time: chances with intervals, and whether they add up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from crmresearch.estimators.inference import wilson


def transitions(paths: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Chances of moving between states from one date to the next, over all dates.

    Parameters
    ----------
    paths : DataFrame
        The state at each date, a column each, and ``n``: people with that path.
    order : sequence of str
        States in the order wanted.

    Returns
    -------
    DataFrame
        ``from, to, n, of, probability, ci_low, ci_high``; moves that occur.
    """
    dates = [c for c in paths.columns if c != "n"]
    moves = pd.concat([paths.groupby([a, b])["n"].sum().rename_axis(["from", "to"]) for a, b in pairwise(dates)])
    moves = moves.groupby(level=[0, 1]).sum()
    moves = moves.reindex(pd.MultiIndex.from_product([list(order), list(order)], names=["from", "to"]), fill_value=0)
    out = moves[moves > 0].reset_index()
    out["of"] = out.groupby("from")["n"].transform("sum")
    out["probability"], out["ci_low"], out["ci_high"] = wilson(out["n"], out["of"])
    return out


def carried_gap(paths: pd.DataFrame, seen: pd.DataFrame) -> float:
    """Return the largest gap, in people, between states carried forward by transitions and counted date by date.

    Parameters
    ----------
    paths : DataFrame
        As for :func:`transitions`.
    seen : DataFrame
        People by date (rows) and state (columns).
    """
    dates = [c for c in paths.columns if c != "n"]
    carried = paths.groupby(dates[0])["n"].sum()
    gaps: list[Any] = [carried.sub(seen.loc[dates[0]], fill_value=0).abs().max()]
    for before, after in pairwise(dates):
        # counts of states, moved by the shares of each that went where
        steps = paths.groupby([before, after])["n"].sum()
        share = steps / steps.groupby(level=0).transform("sum")
        carried = share.mul(carried, level=0).groupby(level=1).sum()
        gaps.append(carried.sub(seen.loc[after], fill_value=0).abs().max())
    return max(float(gap) for gap in gaps)
