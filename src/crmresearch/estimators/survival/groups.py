"""Groups compared over the tenures they share: curves, months kept, log-rank tests; censoring by group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.inference import Jackknife, jackknife
from crmresearch.estimators.survival.curves import (
    MIN_AT_RISK,
    censoring_weighted,
    kaplan_meier,
    life_table,
    logrank,
    pairwise_logrank,
    restricted_mean,
    restricted_mean_difference,
    span,
)
from crmresearch.estimators.survival.risk import read_spells

PARTS = 25  # of customers, each left out in turn


def row_at(curve: pd.DataFrame, time: float) -> pd.Series:
    """Return the row of a curve in force at a time."""
    return curve.iloc[int(np.searchsorted(curve["time"].to_numpy(), time, side="right")) - 1]


@dataclass(frozen=True)
class GroupCurves:
    """Groups compared from the tenure at which all have enough customers at risk.

    Attributes
    ----------
    start, reach : float
        Tenures, months.
    curves : dict
        Kaplan-Meier curves by group, all from ``start``.
    table : DataFrame
        ``group, n, exits, months_kept, ci_low, ci_high, difference, diff_low, diff_high, p_holm`` against the first.
    pairs : DataFrame
        Log-rank tests of every pair.
    p : float
        Of the log-rank test over all groups.
    """

    start: float
    reach: float
    curves: dict[str, pd.DataFrame]
    table: pd.DataFrame
    pairs: pd.DataFrame
    p: float


def compare_groups(spells: pd.DataFrame, by: str, horizon: float) -> GroupCurves:
    """Compare groups by their curves up to a tenure that all reach.

    Raises
    ------
    FitError
        If fewer than two groups have enough customers at risk, or they share no tenure.
    """
    spells = spells.assign(n=spells["n"] if "n" in spells.columns else 1)
    parts = {g: life_table(spells[spells[by] == g]) for g in sorted(spells[by].unique(), key=str)}
    parts = {g: table for g, table in parts.items() if (table["at_risk"] >= MIN_AT_RISK).any()}
    if len(parts) < 2:
        raise FitError(f"fewer than two groups of {by} have {MIN_AT_RISK} customers at risk")
    spans = [t["time"].to_numpy()[np.array(span(t["at_risk"].to_numpy(), MIN_AT_RISK))] for t in parts.values()]
    start = float(max(first for first, _ in spans))
    reach = float(min(horizon, *(last for _, last in spans)))
    if reach <= start:
        raise FitError(f"groups of {by} are at risk at different tenures and share none")
    kept = spells[spells[by].isin(list(parts)) & (spells["exit"] > start)]
    kept = kept.assign(entry=np.maximum(kept["entry"] if "entry" in kept.columns else 0, start))
    curves = {g: kaplan_meier(kept[kept[by] == g]) for g in parts}
    for curve in curves.values():  # everybody is counted from the common start
        curve.loc[0, "time"] = start
    pairs = pairwise_logrank(kept, by)
    reference, *others = curves
    rows = []
    for g, curve in curves.items():
        own, mean = kept[kept[by] == g], restricted_mean(curve, reach)
        row = {"group": str(g), "n": int(own["n"].sum()), "exits": int(own["n"] @ own["event"])}
        row |= {"months_kept": mean.value, "ci_low": mean.ci_low, "ci_high": mean.ci_high}
        if g in others:
            gap = restricted_mean_difference(curve, curves[reference], reach)
            row |= {"difference": gap.value, "diff_low": gap.ci_low, "diff_high": gap.ci_high}
            pair = pairs[pairs[["first", "second"]].isin([reference, g]).all(axis=1)]
            row["p_holm"] = pair["p_holm"].iloc[0]
        rows.append(row)
    return GroupCurves(start, reach, curves, pd.DataFrame(rows), pairs, float(logrank(kept, by)["p"]))


def censoring_gap(spells: pd.DataFrame, groups: Sequence[str], start: float, times: Iterable[float]) -> Jackknife:
    """By how much weighting for the censoring of each group moves the curve from ``start`` on, at some tenures.

    Customers are put into :data:`PARTS` parts by lot, each left out in turn.
    """
    code, at = spells.groupby(list(groups), dropna=False).ngroup(), list(times)
    read = read_spells(spells)
    lot = np.random.default_rng(0).multinomial(read.n.astype(int), np.full(PARTS, 1 / PARTS))

    def gaps(n: np.ndarray) -> np.ndarray:
        some = n > 0
        part = pd.DataFrame({"entry": read.entry, "exit": read.exit, "event": read.event, "n": n, "group": code})[some]
        out = []
        for one in (part, part.assign(group=0)):  # of one group it is the plain curve
            curve = censoring_weighted(one, "group")
            out.append(np.array([row_at(curve, t)["survival"] for t in (start, *at)]))
        weighted, plain = (kept[1:] / kept[0] for kept in out)
        return np.asarray(weighted - plain)

    return jackknife(np.array([gaps(read.n), *(gaps(read.n - own) for own in lot.T)]))
