"""Jump of an outcome, or of a density, where a running variable crosses a cut: local polynomials, robust intervals.

The running variable is measured from the cut; whoever stands at 0 or above is on the right. Every estimate is a
weighted sum of outcomes, so that its error is the same sum of squared residuals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crmresearch.errors import InputError
from crmresearch.estimators.inference import complete, ends, sized, two_sided_p

LEAST = 20  # values of the running variable on each side, and those that a bandwidth of the density holds at least
MATCHES = 3  # nearest neighbours whose mean a residual is taken from
NEAR = 10  # values of the running variable on each side that a preliminary bandwidth reaches
NORMAL = (3430865.4551236177795, 3840 / 7)  # bandwidths of slope and curvature for a normal density, order 2 (CJM)


@dataclass(frozen=True)
class Jump:
    """Jump of an outcome at the cut.

    Attributes
    ----------
    value, se : float
        Local linear estimate with its error, which leaves its bias out.
    corrected, robust_se : float
        Less the estimated bias; the error knows that the bias is estimated. The interval is made of these.
    bandwidth, bias_bandwidth : float
    n : tuple of int
        Within the bandwidth, left and right.
    """

    value: float
    se: float
    corrected: float
    robust_se: float
    bandwidth: float
    bias_bandwidth: float
    n: tuple[int, int]

    @property
    def interval(self) -> tuple[float, float]:
        """Bias-corrected robust interval; it need not be centred at ``value``."""
        low, high = ends(self.corrected, self.robust_se)
        return float(low), float(high)

    @property
    def p(self) -> float:
        """P-value of no jump."""
        return float(two_sided_p(self.corrected, self.robust_se))


def jump(
    x: ArrayLike,
    y: ArrayLike,
    *,
    cut: float = 0.0,
    donut: float = 0.0,
    bandwidths: tuple[float, float] | None = None,
    cluster: ArrayLike | None = None,
) -> Jump:
    """Jump of an outcome at a cut: local linear, triangular kernel, bandwidth of least mean squared error.

    Parameters
    ----------
    x, y : array
        Running variable and outcome.
    cut : float
        Value of the running variable from which on units are treated.
    donut : float
        Leave out those nearer to the cut than this, who may have moved across it.
    bandwidths : tuple, optional
        Of the estimate and of its bias; chosen from the data by default.
    cluster : array, optional
        Rows of one unit, which may stand on both sides; errors and bandwidths know that they are alike.

    Raises
    ------
    InputError
        If values are missing, or a side has fewer than 20 values of the running variable.

    References
    ----------
    Calonico, Cattaneo and Titiunik (2014), *Econometrica* 82, 2295-2326; bandwidths with Farrell (2020), *Econometrics
    Journal* 23, 192-210.
    """
    x, y = complete(running=x, outcome=y)
    keep = np.abs(x - cut) >= donut
    unit = np.arange(len(x)) if cluster is None else np.unique(np.asarray(cluster), return_inverse=True)[1]
    sides = _sides(x[keep] - cut, y[keep], unit[keep])
    h, b = bandwidths or _bandwidths(sides)
    value, moved, n = np.zeros(2), np.zeros((2, len(x))), []
    for sign, (u, v, c) in zip((-1, 1), sides, strict=True):
        near = np.abs(u) <= max(h, b)
        u, v, c = u[near], v[near], c[near]
        line, square = _weights(u, h, 1, 0), _weights(u, b, 2, 2)
        both = np.stack([line, line - (line @ u**2) * square])
        value += sign * both @ v
        error = both * _residuals(u, v)
        moved += sign * np.stack([np.bincount(c, one, len(x)) for one in error])
        n.append(int((np.abs(u) <= h).sum()))
    sized(sum(n), 4)  # a line on either side
    (plain, corrected), (se, robust) = value, np.sqrt((moved**2).sum(axis=1))
    return Jump(float(plain), float(se), float(corrected), float(robust), h, b, (n[0], n[1]))


def false_cuts(
    x: ArrayLike,
    y: ArrayLike,
    cuts: Iterable[float],
    *,
    bandwidths: tuple[float, float] | None = None,
    cluster: ArrayLike | None = None,
) -> pd.DataFrame:
    """Jumps where nobody's treatment changes, each among the units of one side of the true cut, which is 0.

    Returns
    -------
    DataFrame
        ``cut, value, low, high, p``.
    """
    x, y = complete(running=x, outcome=y)
    unit = np.arange(len(x)) if cluster is None else np.asarray(cluster)
    rows = []
    for c in cuts:
        side = (x >= 0) == (c >= 0)
        found = jump(x[side], y[side], cut=c, bandwidths=bandwidths, cluster=unit[side])
        rows.append((c, found.value, *found.interval, found.p))
    return pd.DataFrame(rows, columns=["cut", "value", "low", "high", "p"])


def _sides(x: np.ndarray, *more: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    order = np.argsort(x, kind="stable")
    right = x[order] >= 0
    sides = [tuple(a[order][k] for a in (x, *more)) for k in (~right, right)]
    least = min(len(np.unique(side[0])) for side in sides)
    if least < LEAST:
        raise InputError(f"{least} different values of the running variable on one side of the cut; it takes {LEAST}")
    return sides


def _weights(x: np.ndarray, h: float, order: int, power: int) -> np.ndarray:
    """Weights of outcomes in the coefficient of one power of a local polynomial at 0."""
    scaled = x / h
    basis = scaled[:, None] ** np.arange(order + 1)
    weighted = basis * np.maximum(1 - np.abs(scaled), 0.0)[:, None]
    return np.asarray(np.linalg.solve(basis.T @ weighted, weighted.T)[power] / h**power)


def _residuals(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Outcome less the mean of its nearest neighbours, on the scale of its error; equal values count as one place."""
    value, place, count = np.unique(x, return_inverse=True, return_counts=True)
    until, total = (np.r_[0, np.cumsum(a)] for a in (count, np.bincount(place, y)))
    low = high = np.arange(len(value))
    apart = np.r_[np.inf, value, np.inf]
    while True:
        others = until[high + 1] - until[low] - 1
        more = others < min(MATCHES, len(x) - 1)
        if not more.any():
            break
        below, above = value - np.r_[-np.inf, value][low], apart[high + 2] - value
        near = math.sqrt(np.finfo(float).eps) * np.where(np.isfinite(below + above), np.maximum(below, above), 0.0)
        low, high = low - (more & (below <= above + near)), high + (more & (above <= below + near))
    rest = (total[high + 1] - total[low])[place] - y
    n = others[place]
    return np.asarray(np.sqrt(n / (n + 1)) * (y - rest / n))


def _bandwidths(sides: list[tuple[np.ndarray, ...]]) -> tuple[float, float]:
    """Bandwidths of the estimate and of its bias, in three steps from a rule of thumb."""
    x = np.concatenate([side[0] for side in sides])
    most = np.abs(x).max()
    quarter, three = np.quantile(x, [0.25, 0.75], method="averaged_inverted_cdf")
    spread = min(x.std(ddof=1), (three - quarter) / 1.349)
    places = [np.unique(np.abs(side[0])) for side in sides]
    least = max(p[min(NEAR, len(p)) - 1] for p in places) * (1 + 1e-8)
    thumb = max(min(2.576 * spread * sum(len(p) for p in places) ** -0.2, most), least)
    whole = [np.abs(side[0]).max() * (1 + 1e-8) for side in sides]

    def step(order: int, power: int, at: list[float], penal: bool) -> float:
        left, right = (_terms(side, order, power, thumb, h) for side, h in zip(sides, at, strict=True))
        v, bias, penalty = left[0] + right[0], right[1] - left[1], left[2] + right[2]
        return float(min((v / (bias**2 + penal * penalty)) ** (1 / (2 * order + 3)), most))

    curve = max(step(3, 3, whole, False), least)
    b = step(2, 2, [curve, curve], True)
    return step(1, 0, [b, b], True), b


def _terms(side: tuple[np.ndarray, ...], order: int, power: int, h: float, wide: float) -> tuple[float, float, float]:
    """Variance, bias and variance of the bias of one coefficient on one side, up to powers of the bandwidth."""

    def near(width: float) -> list[np.ndarray]:
        return [a[np.abs(side[0]) <= width] for a in side]

    def variance(weight: np.ndarray, x: np.ndarray, y: np.ndarray, unit: np.ndarray) -> float:
        return float((np.bincount(unit, weight * _residuals(x, y)) ** 2).sum())

    rows = near(h)
    weight = _weights(rows[0], h, order, power)
    spread = (2 * power + 1) * h ** (2 * power + 1) * variance(weight, *rows)
    constant = h**power * (weight @ (rows[0] / h) ** (order + 1))
    rows = near(wide)
    weight = _weights(rows[0], wide, order + 1, order + 1)
    bias = math.sqrt(2 * (order + 1 - power)) * constant
    return spread, float(bias * (weight @ rows[1])), float(3 * bias**2 * variance(weight, *rows))


# --- density ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Density:
    """Jump of the density of the running variable at the cut.

    Attributes
    ----------
    left, right : float
        Density on either side.
    t, p : float
        Of no jump.
    bandwidths : tuple of float
    """

    left: float
    right: float
    t: float
    p: float
    bandwidths: tuple[float, float]


def density(x: ArrayLike) -> Density:
    """Test whether units sort themselves across the cut at 0: local cubic densities, bandwidths for quadratic ones.

    References
    ----------
    Cattaneo, Jansson and Ma (2020), *JASA* 115, 1449-1455; bandwidths as their software, release 3.
    """
    (values,) = complete(running=x)
    u = np.sort(values)
    _sides(u)
    h = _density_bandwidths(u)
    slope, v = _slopes(u, h, 3, 1)
    gap, variance = slope[1] - slope[0], v[0, 0] + v[1, 1] - 2 * v[0, 1]
    t = gap / math.sqrt(variance)
    return Density(float(slope[0]), float(slope[1]), float(t), float(two_sided_p(t, 1.0)), h)


def _slopes(u: np.ndarray, h: tuple[float, float], order: int, power: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficient of a power in local polynomials of the distribution function, left and right, with covariance."""
    n = len(u)
    share = (np.searchsorted(u, u, side="right") - 1) / (n - 1)
    found, psi = [], []
    for right, width in zip((False, True), h, strict=True):
        near = np.flatnonzero(((u >= 0) == right) & (np.abs(u) <= width))
        weight = np.zeros(n)
        weight[near] = _weights(u[near], width, order, power)
        found.append(weight @ share)
        above = np.r_[np.cumsum(weight[::-1])[::-1], 0.0]  # what each unit adds to the function at all units above it
        psi.append(above[np.searchsorted(u, u, side="left") + 1] / (n - 1))
    inside = (u >= -h[0]) & (u <= h[1])
    both = np.stack(psi, axis=1)[inside]
    return np.array(found), both.T @ both


def _density_bandwidths(u: np.ndarray) -> tuple[float, float]:
    """Median of the bandwidths for each side, for the difference and for the sum of the densities."""
    n, mean, sd = len(u), u.mean(), u.std(ddof=1)
    at, most, order = mean / sd, np.abs(u).max(), 2
    height = math.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    hermite = {2: at**2 - 1, 4: at**4 - 6 * at**2 + 3}
    sides = (np.sort(-u[u < 0]), u[u >= 0])

    def least(k: int) -> tuple[float, float]:
        both = [(a[min(k, len(a)) - 1], np.unique(a)[min(k, len(np.unique(a))) - 1]) for a in sides]
        return float(max(both[0])), float(max(both[1]))

    steep = sd * (5 / 4 * NORMAL[0] / (hermite[4] ** 2 * height) / n) ** (1 / 9)
    flat = sd * (1 / 4 * NORMAL[1] / (hermite[2] ** 2 * height) / n) ** (1 / 5)
    steep = max(min(steep, most), *least(LEAST + order + 3))
    flat = max(min(flat, most), *least(LEAST + order + 1))
    moment = np.array([1 / ((k + 1) * (k + 2)) for k in range(2 * order + 2)])  # of the kernel, on one side
    i = np.arange(order + 1)
    constant = np.linalg.solve(moment[i[:, None] + i], moment[i + order + 1])[1]
    curve, _ = _slopes(u, (steep, steep), order + 2, order + 1)
    _, v = _slopes(u, (flat, flat), order, 1)
    variance = n * flat * np.array([v[0, 0], v[1, 1], v[0, 0] + v[1, 1] - 2 * v[0, 1], v.sum()])
    bias = constant * np.array([curve[0], curve[1], curve[1] - curve[0], curve[1] + curve[0]])
    h = (variance / (2 * order * bias**2 * n)) ** (1 / (2 * order + 1))
    near = least(LEAST + order + 1)
    h = np.minimum(h, [-u[0], u[-1], most, most])
    h = np.maximum(h, [*near, max(near), max(near)])
    return float(np.median(h[[0, 2, 3]])), float(np.median(h[[1, 2, 3]]))
