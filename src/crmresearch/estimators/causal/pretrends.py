"""How far trends that differ may carry an effect: intervals where they may go on to part as they did before."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.causal.staggered import Effects, Panel, Several, by_block, group_time
from crmresearch.estimators.inference import ends, levels, robust_ols, z
from crmresearch.estimators.verdicts import outlives

MOST = 10.0  # magnitude up to which a breakdown is looked for


def bounded(event: Effects | Several, magnitude: float, weights: ArrayLike | None = None) -> tuple[float, float]:
    """Interval of a mean effect where trends after treatment may differ as much as they did before it.

    From one period to the next the gap between trends moves at most ``magnitude`` times as far as it moved at most
    between two periods before treatment. Each of those may be the largest, in either direction: the interval holds
    those of all. It is valid and simple, and wider than the conditional sets of the reference, which use
    that the other moves are smaller.

    Parameters
    ----------
    event : Effects or Several
        By periods since treatment, with a universal base (:func:`.by_event`, :func:`.by_block`); period -1 is left out.
    magnitude : float
        0 gives the interval that takes trends for parallel.
    weights : array, optional
        Of the periods from 0 on; equal ones by default.

    References
    ----------
    Rambachan and Roth (2023), A more credible approach to parallel trends. *Review of Economic Studies* 90, 2555-2591.
    """
    mean, carried = _lines(event, magnitude, weights)
    value, se = _read(event, mean + carried)
    return float((value - z() * se).min()), float((value + z() * se).max())


def _lines(event: Effects | Several, magnitude: float, weights: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the mean effect, and of each move before that may carry it, in either direction."""
    k = len(event.when)
    after = event.when >= 0
    w = np.zeros(k)
    w[after] = 1 / after.sum() if weights is None else np.asarray(weights, dtype=float)
    reach = magnitude * float(w @ np.where(after, event.when + 1, 0.0))
    before = sorted(event.when[event.when < -1].tolist())
    moves = np.zeros((max(len(before), 1), k))
    for row, (one, two) in enumerate(itertools.pairwise([*before, -1.0])):
        moves[row, event.when == two] += 1  # the reference has no column: it is 0
        moves[row, event.when == one] -= 1
    if not before and magnitude:
        raise InputError("no two periods before treatment, by which trends could be bounded")
    return w, reach * np.concatenate([moves, -moves])


def _read(event: Effects | Several, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return lines @ event.effect, np.sqrt(np.einsum("ij,jk,ik->i", lines, event.covariance, lines))


def breakdown(event: Effects | Several, point: float = 0.0) -> float:
    """Largest magnitude at which the bounded interval does not hold a point; 0 where it always does."""
    from scipy.optimize import brentq

    low, high = bounded(event, 0.0)
    if low <= point <= high:
        return 0.0

    def gap(m: float) -> float:
        a, b = bounded(event, m)
        return a - point if low > point else point - b

    return MOST if gap(MOST) > 0 else float(brentq(gap, 0.0, MOST, xtol=1e-6))


def years(panel: Panel, year: int, after: int) -> Effects | None:
    """Years after treatment less the one before; none where no unit is seen two years before and so long after."""
    try:
        return by_block(group_time(panel, controls="not yet", base="universal"), year, 2, after)
    except InputError:
        return None


def carried(
    event: Effects | Several, magnitude: float, point: float, weights: ArrayLike | None = None
) -> tuple[float, float]:
    """Interval of a mean effect that trends, which may differ as in :func:`bounded`, carry the farthest to a point."""
    mean, moves = _lines(event, magnitude, weights)
    value, se = _read(event, mean + moves)
    side = 1.0 if mean @ event.effect > point else -1.0
    near, far = (float((side * value + k * z() * se).min()) for k in (-1, 1))
    return (near, far) if side > 0 else (-far, -near)


def standing(event: Effects | Several, magnitude: float, point: float, weights: ArrayLike | None = None) -> bool | None:
    """Tell whether an effect stays on its side of a point where trends may differ as in :func:`bounded`.

    Returns
    -------
    bool or None
        True where the interval of :func:`carried` stays on the side of the point that the plain one is on, or the plain
        one holds the point, so that nothing is decided. False where it lies wholly beyond it, and None where it holds
        the point.
    """
    plain = bounded(event, 0.0, weights)
    return plain[0] <= point <= plain[1] or outlives(point, plain, carried(event, magnitude, point, weights))


def drift(panel: Panel, year: float) -> tuple[float, float, float]:
    """Yearly trend before treatment, per standard deviation by which units are treated later, with its interval.

    Never is the latest. Units and periods have effects of their own; errors are by unit.

    Parameters
    ----------
    panel : Panel
    year : float
        Periods of a year.

    Raises
    ------
    NotApplicable
        If fewer than two units that are treated at different times are seen twice before it.
    """
    last = np.where(np.isfinite(panel.first), panel.first, panel.periods)
    late = (last - last.mean()) / last.std()
    twice = (panel.first > 1)[:, None]  # a unit that is seen once before tells of no trend
    row, period = np.nonzero((np.arange(panel.periods) < panel.first[:, None]) & twice)
    if len(np.unique(last[row])) < 2:
        raise NotApplicable("no trend before treatment is known: too few units are seen twice before it")
    x = [late[row] * period / year, np.ones(len(row)), levels(pd.Series(row)), levels(pd.Series(period))]
    b, v = robust_ols(np.column_stack(x), panel.values[row, period], row)
    low, high = ends(b[0], v[0, 0] ** 0.5)
    return float(b[0]), float(low), float(high)
