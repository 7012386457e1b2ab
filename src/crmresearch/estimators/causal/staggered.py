"""Effects of what reaches units at different times: by group and time, summed up, by imputation, bounded, and naive.

A panel is an array of units by periods, and ``first`` the period in which each unit is treated first, counted from 0;
infinite where it never is. A difference of two groups within each unit as the outcome makes a triple difference.

Each of these effects is a weighted sum of the means of groups of units (treated first at the same time) in periods. So
an effect is kept as its weights: errors follow from the second moments of each group, whatever the number of units.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crmresearch.errors import InputError
from crmresearch.estimators.inference import LEVEL, by_cluster, complete

Kind = TypeVar("Kind", bound="Effects")
WEBB = np.sqrt([0.5, 1.0, 1.5])  # with either sign


class Panel:
    """A balanced panel of units that are treated from some period on, and of others; its groups in order of treatment.

    Units treated from the first period on are left out, and counted in ``left_out``: no period before is known of them.
    """

    def __init__(self, y: ArrayLike, first: ArrayLike, cluster: ArrayLike | None = None):
        (values,) = complete(outcome=y)
        start = np.asarray(first, dtype=float)
        if values.ndim != 2 or start.shape != values.shape[:1]:
            raise InputError("a panel is an array of units by periods, with one first treated period a unit")
        if np.isnan(start).any():
            raise InputError("the first treated period is missing; where a unit is never treated it is infinite")
        start = np.where(start >= values.shape[1], np.inf, start)
        keep = start > 0
        if not (np.isfinite(start) & keep).any():
            raise InputError("no unit is treated after the first period, so that no before stands beside its after")
        self.kept, self.left_out = keep, int((~keep).sum())
        self.values, self.first = (values, start) if keep.all() else (values[keep], start[keep])
        self.cluster = None if cluster is None else np.asarray(cluster)[keep]
        self.groups, self.code, self.size = np.unique(self.first, return_inverse=True, return_counts=True)
        self.periods = values.shape[1]
        self.rows = [np.flatnonzero(self.code == g) for g in range(len(self.groups))]
        self.mean = np.stack([self.values[rows].mean(axis=0) for rows in self.rows])

    @cached_property
    def moments(self) -> list[np.ndarray]:
        """Covariance of the mean of each group, between periods."""
        gaps = (self.values[rows] - mean for rows, mean in zip(self.rows, self.mean, strict=True))
        return [gap.T @ gap / len(gap) ** 2 for gap in gaps]

    @property
    def since(self) -> np.ndarray:
        """Periods since treatment, by group and period; minus infinity where it never comes."""
        return np.arange(self.periods) - self.groups[:, None]


@dataclass(frozen=True)
class Effects:
    """Effects on groups of units, of either kind below.

    Attributes
    ----------
    panel : Panel
    group : array
        First treated period of those an effect is of; nan where several groups are pooled.
    when : array
        Period of an effect, or the time since treatment.
    n : array
        Treated units behind each effect.
    """

    panel: Panel
    group: np.ndarray
    when: np.ndarray
    n: np.ndarray

    if TYPE_CHECKING:

        @property
        def effect(self) -> np.ndarray:
            """Values of the effects."""

        @property
        def influence(self) -> np.ndarray:
            """What each unit adds to the error of each effect, (units, effects)."""

        def _summed(self, w: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Weighted sum of the last two fields, with what each unit of a group adds to its error beside."""

    @property
    def cluster(self) -> np.ndarray | None:
        """What was assigned together."""
        return self.panel.cluster

    @property
    def covariance(self) -> np.ndarray:
        """Of the effects, by cluster."""
        return by_cluster(self.influence, self.cluster)

    @property
    def se(self) -> np.ndarray:
        """Standard errors; nan where a single unit was treated, from which none can be had."""
        return np.where(self.n > 1, np.sqrt(np.diag(self.covariance)), np.nan)

    def where(self, keep: np.ndarray) -> Self:
        """Keep some of the effects."""
        return replace(self, **{f.name: getattr(self, f.name)[keep] for f in fields(self)[1:]})

    def mean(self, weights: ArrayLike | None = None) -> Self:
        """Mean of the effects, by weights that are given and not estimated; equal ones else."""
        w = np.full(len(self.when), 1 / len(self.when)) if weights is None else np.asarray(weights, dtype=float)
        return self._one(w, np.zeros(len(self.panel.groups)))

    def pooled(self, when: float = math.nan) -> Self:
        """Mean of the effects by treated units, whose errors know that these weights are estimated.

        Without that part a group of one unit would bring no error of its own.
        """
        group = np.searchsorted(self.panel.groups, self.group)
        units = self.panel.size[group]
        w = units / units.sum()
        gap = np.bincount(group, self.effect - w @ self.effect, len(self.panel.groups))
        return self._one(w, gap / units.sum(), when)

    def _one(self, w: np.ndarray, extra: np.ndarray, when: float = math.nan) -> Self:
        known = np.unique(self.group)
        one = known[0] if len(known) == 1 else math.nan
        n = self.n.max() if np.isnan(known).any() else self.panel.size[np.isin(self.panel.groups, known)].sum()
        head = (np.array([one]), np.array([when]), np.array([n]))
        return type(self)(self.panel, *head, *(part[None] for part in self._summed(w, extra)))


@dataclass(frozen=True)
class Means(Effects):
    """Effects as weighted sums of the means of groups in periods.

    Attributes
    ----------
    weight : array, (effects, groups, periods)
        Of the mean of each group in each period.
    shift : array, (effects, groups)
        What each unit of a group adds to the error because weights are estimated.
    """

    weight: np.ndarray
    shift: np.ndarray

    @cached_property
    def effect(self) -> np.ndarray:
        """Values of the effects."""
        return np.asarray(self.weight.reshape(len(self.weight), -1) @ self.panel.mean.ravel())

    @property
    def influence(self) -> np.ndarray:
        """What each unit adds to the error of each effect, (units, effects)."""
        p = self.panel
        out = np.empty((len(p.first), len(self.when)))
        for g, rows in enumerate(p.rows):
            out[rows] = (p.values[rows] - p.mean[g]) @ self.weight[:, g].T / len(rows) + self.shift[:, g]
        return out

    @property
    def covariance(self) -> np.ndarray:
        """Of the effects, by cluster."""
        p = self.panel
        if p.cluster is not None:
            return super().covariance
        parts = (w @ m @ w.T for w, m in zip(self.weight.swapaxes(0, 1), p.moments, strict=True))
        return np.asarray(sum(parts) + (self.shift * p.size) @ self.shift.T)

    @property
    def se(self) -> np.ndarray:
        """Standard errors; nan where a single unit was treated, from which none can be had."""
        p = self.panel
        if p.cluster is not None:
            return super().se
        square = self.shift**2 @ p.size
        for g, moment in enumerate(p.moments):
            some = np.flatnonzero(self.weight[:, g].any(axis=1))
            w = self.weight[some, g]
            square[some] += ((w @ moment) * w).sum(axis=1)
        return np.where(self.n > 1, np.sqrt(square), np.nan)

    def _summed(self, w: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tensordot(w, self.weight, 1), w @ self.shift + extra


def cells(panel: Panel, controls: str, base: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Comparisons of :func:`group_time`: group (by number), period, period before, and which groups are controls."""
    p = panel
    starts = p.groups[np.isfinite(p.groups)].astype(int)
    g, t = (a.ravel() for a in np.indices((len(starts), p.periods)))
    against = np.where((t < starts[g]) & (base == "varying"), t - 1, starts[g] - 1)
    other = np.isinf(p.groups) & np.ones((len(g), 1), bool)
    if controls == "not yet":
        other = (p.groups > np.maximum(t, against)[:, None]) & (np.arange(len(p.groups)) != g[:, None])
    keep = (against >= 0) & (against != t) & other.any(axis=1)
    if not keep.any():
        raise InputError("no unit remains untreated, so that nothing can be compared; use units treated later or never")
    return g[keep], t[keep], against[keep], other[keep]


def group_time(
    panel: Panel, *, controls: Literal["never", "not yet"] = "never", base: Literal["varying", "universal"] = "varying"
) -> Means:
    """Effect of treatment on each group of units first treated together, in each period.

    Parameters
    ----------
    panel : Panel
    controls : {'never', 'not yet'}
        Units that are never treated, or those that are not treated yet as well.
    base : {'varying', 'universal'}
        What a period before treatment is compared with: the period before it, or the last one before treatment.

    Raises
    ------
    InputError
        If none remains for comparison.

    References
    ----------
    Callaway and Sant'Anna (2021), *Journal of Econometrics* 225, 200-230.
    """
    p = panel
    g, t, against, other = cells(panel, controls, base)
    units = np.where(other, p.size, 0)
    share = units / units.sum(axis=1, keepdims=True)
    gap = (p.mean[:, t] - p.mean[:, against]).T
    shift = ((share * gap).sum(axis=1, keepdims=True) - gap) * share / p.size
    k = np.arange(len(g))
    weight = np.zeros((len(g), len(p.groups), p.periods))
    weight[k, :, t] = -share
    weight[k, :, against] = share
    weight[k, g, t] += 1
    weight[k, g, against] -= 1
    return Means(p, p.groups[g], t.astype(float), p.size[g], weight, shift)


# --- summed up --------------------------------------------------------------------------------------------------------


def joined(parts: list[Kind]) -> Kind:
    """Put effects on the same units beside each other."""
    columns = (np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(parts[0])[1:])
    return type(parts[0])(parts[0].panel, *columns)


def by_event(fit: Kind) -> Kind:
    """Effects by periods since treatment, 0 the first treated one; groups weighted by their units."""
    since = fit.when - fit.group
    return joined([fit.where(since == e).pooled(e) for e in np.unique(since)])


def by_time(fit: Kind) -> Kind:
    """Effects by period, of all who are treated by then."""
    after = treated(fit)
    return joined([after.where(after.when == t).pooled(t) for t in np.unique(after.when)])


def by_group(fit: Kind) -> Kind:
    """Mean effect on each group over its treated periods; ``pooled`` gives the mean over treated units."""
    after = treated(fit)
    return joined([after.where(after.group == g).mean() for g in np.unique(after.group)])


def treated(fit: Kind, window: int | None = None) -> Kind:
    """Keep the effects after treatment; with a window its periods alone, of groups that are seen that long."""
    since = fit.when - fit.group
    if window is None:
        return fit.where(since >= 0)
    seen = fit.group[since == window - 1]
    if not len(seen):
        raise InputError(f"no group is seen for {window} periods after its treatment; use a shorter window")
    return fit.where((since >= 0) & (since < window) & np.isin(fit.group, seen))


def by_block(fit: Kind, length: int, before: int, after: int) -> Kind:
    """Effects by blocks of periods since treatment less the last block before it; needs the universal base.

    Parameters
    ----------
    fit : Effects
    length : int
        Periods of a block.
    before, after : int
        Blocks that are told; groups that are not seen in all of them are left out.
    """
    blocks = [b for b in range(-before, after) if b != -1]
    rows = []
    for g in np.unique(fit.group):
        since = np.where(fit.group == g, fit.when - g, np.nan)  # the base itself, at -1, is 0 and has no column
        inside = [(since >= length * b) & (since < length * (b + 1)) for b in (-1, *blocks)]
        if [k.sum() for k in inside] == [length - 1, *[length] * len(blocks)]:
            rows.append((g, [(k.astype(float) - inside[0]) / length for k in inside[1:]]))
    if not rows:
        raise InputError(f"no group is seen for {before} and {after} blocks of {length} before and after its treatment")
    return joined([
        joined([fit.where(fit.group == g).mean(w[j][fit.group == g]) for g, w in rows]).pooled(float(b))
        for j, b in enumerate(blocks)
    ])  # fmt: skip


@dataclass(frozen=True)
class Several:
    """Effects of separate panels put together by weights that are given; fields as those of :class:`Effects`."""

    when: np.ndarray
    effect: np.ndarray
    influence: np.ndarray
    n: np.ndarray
    cluster: np.ndarray | None

    @property
    def covariance(self) -> np.ndarray:
        """Of the effects, by cluster."""
        return by_cluster(self.influence, self.cluster)

    @property
    def se(self) -> np.ndarray:
        """Standard errors."""
        return np.sqrt(np.diag(self.covariance))


def across(parts: Sequence[Effects], weights: ArrayLike) -> Several:
    """Weighted mean of the same effects in separate panels, whose units may share clusters."""
    w = np.asarray(weights, dtype=float)
    w = w / w.sum()
    psi = np.concatenate([one * p.influence for one, p in zip(w, parts, strict=True)])
    effect = sum(one * p.effect for one, p in zip(w, parts, strict=True))
    clusters = [p.cluster for p in parts]
    cluster = None if any(c is None for c in clusters) else np.concatenate([c for c in clusters if c is not None])
    return Several(parts[0].when, np.asarray(effect), psi, sum(p.n for p in parts), cluster)  # type: ignore[arg-type]


# --- few units --------------------------------------------------------------------------------------------------------


def wild(effects: Effects | Several, *, draws: int, seed: int) -> tuple[np.ndarray, float]:
    """Critical values from a wild bootstrap by cluster, for few of them: influences times Webb's six weights.

    Each draw has its own errors, so that the values allow for what few clusters tell of these.

    Returns
    -------
    pointwise : array
        What the error of each effect is multiplied by for its interval.
    together : float
        The same for intervals that hold all effects at once.

    References
    ----------
    Webb (2023), *Canadian Journal of Economics* 56, 839-858; Kline and Santos (2012), *Journal of Econometric Methods*
    1, 23-41, on the bootstrap of influences.
    """
    psi = effects.influence
    if effects.cluster is not None:
        code = np.unique(effects.cluster, return_inverse=True)[1]
        psi = np.stack([np.bincount(code, column) for column in psi.T], axis=1)
    rng, n = np.random.default_rng(seed), len(psi)
    weight = rng.choice(np.r_[-WEBB, WEBB], (draws, n))
    drawn = weight @ psi
    t = np.abs(drawn) / np.sqrt(weight**2 @ psi**2 - drawn**2 / n)
    few = math.sqrt(n / (n - 1))
    return few * np.quantile(t, LEVEL, axis=0), few * float(np.quantile(t.max(axis=1), LEVEL))


def wild_interval(one: Effects | Several, *, draws: int, seed: int) -> tuple[float, float, float]:
    """Value of the first effect, and the ends of its interval by :func:`wild`."""
    value, half = float(one.effect[0]), float(wild(one, draws=draws, seed=seed)[0][0] * one.se[0])
    return value, value - half, value + half


# --- imputation -------------------------------------------------------------------------------------------------------


def imputed(panel: Panel, window: int | None = None) -> Means:
    """Mean effect on the treated against what units and periods without treatment foretell.

    Unit and period effects are fitted to all periods without treatment. Errors take every departure of an effect from
    the mean for error, and hold for effects that differ, on the side of wide intervals.

    Parameters
    ----------
    panel : Panel
    window : int, optional
        Periods from treatment on that count, of units that are seen that long; all by default.

    References
    ----------
    Borusyak, Jaravel and Spiess (2024), *Review of Economic Studies* 91, 3253-3285; Gardner (2022), arXiv 2207.05943.
    """
    free = panel.since < 0
    if not free.any(axis=0).all():
        raise InputError("in the last periods every unit is treated; leave these periods out")
    wanted = ~free
    if window is not None:
        wanted &= (panel.since < window) & (panel.groups + window <= panel.periods)[:, None]
    if not wanted.any():
        raise InputError(f"no unit is seen for {window} periods after its treatment; use a shorter window")
    each = wanted / (panel.size @ wanted).sum()
    share = each - _fitted(panel, each, free) * free
    gap = panel.mean - _fitted(panel, panel.mean * free, free)
    effect = float(panel.size @ (each * gap).sum(axis=1))
    shift = (share * (gap - effect * wanted)).sum(axis=1)
    return _single(panel, share, shift, int(panel.size @ wanted.any(axis=1)))


def _single(panel: Panel, share: np.ndarray, shift: np.ndarray, n: int) -> Means:
    nan = np.array([math.nan])
    return Means(panel, nan, nan, np.array([n]), (panel.size[:, None] * share)[None], shift[None])


def _fitted(panel: Panel, sums: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Unit plus period effects whose sums over free cells, by unit and by period, are those of the cells given."""
    each = free / free.sum(axis=1, keepdims=True)
    system = np.diag(panel.size @ free) - free.T @ (each * panel.size[:, None])
    right = panel.size @ (sums - each * sums.sum(axis=1, keepdims=True))
    period = np.zeros(panel.periods)  # the last one's is 0
    period[:-1] = np.linalg.solve(system[:-1, :-1], right[:-1])
    return ((sums.sum(axis=1) - free @ period) / free.sum(axis=1))[:, None] + period


# --- naive ------------------------------------------------------------------------------------------------------------


def two_way(panel: Panel) -> Means:
    """Coefficient of treatment beside unit and period effects: the naive row.

    It compares the newly treated with those treated before as well, and is no mean of effects where these grow. Errors
    have no factor for degrees of freedom.

    References
    ----------
    Goodman-Bacon (2021), *Journal of Econometrics* 225, 254-277.
    """

    def demeaned(a: np.ndarray) -> np.ndarray:
        period = panel.size @ a / panel.size.sum()
        return np.asarray(a - a.mean(axis=1, keepdims=True) - period + period.mean())

    d = demeaned((panel.since >= 0).astype(float))
    share = d / (panel.size @ (d * d)).sum()
    b = float(panel.size @ (share * panel.mean).sum(axis=1))
    shift = (share * (demeaned(panel.mean) - b * d)).sum(axis=1)
    return _single(panel, share, shift, int(panel.size[np.isfinite(panel.groups)].sum()))


def decomposed(panel: Panel) -> pd.DataFrame:
    """Comparisons of two groups that the coefficient of :func:`two_way` is made of.

    Returns
    -------
    DataFrame
        ``kind`` (treated against untreated; earlier against later, and later against earlier, which takes treated units
        as controls), ``group``, ``against``, ``weight`` (sum 1), ``effect``.

    References
    ----------
    Goodman-Bacon (2021), theorem 1.
    """
    on = (panel.since >= 0).mean(axis=1)
    start = np.minimum(panel.groups, panel.periods).astype(int)

    def step(a: int, b: int, low: int, at: int, high: int) -> float:
        gap = panel.mean[a] - panel.mean[b]
        return float(gap[at:high].mean() - gap[low:at].mean())

    rows = []
    for a, b in itertools.combinations(range(len(on)), 2):  # a is the earlier one
        both, (s, e), end = float(panel.size[a] * panel.size[b]), start[[a, b]], panel.periods
        kind = "earlier against later" if on[b] else "treated against untreated"
        rows.append((kind, a, b, both * (on[a] - on[b]) * (1 - on[a]), step(a, b, 0, s, e)))
        if on[b]:
            rows.append(("later against earlier", b, a, both * on[b] * (on[a] - on[b]), step(b, a, s, e, end)))
    table = pd.DataFrame(rows, columns=["kind", "group", "against", "weight", "effect"])
    named = {k: panel.groups[table[k]] for k in ("group", "against")}
    return table.assign(weight=table["weight"] / table["weight"].sum(), **named)
