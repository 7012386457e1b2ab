"""How concentrated value is: Lorenz and whale curve, Gini, shares of the best customers, with intervals that cover.

Contribution may be negative, so customers are ranked from the best and the cumulative curve can pass the total (the
*whale curve*), and the Gini coefficient, kept in its mean-difference form, can exceed 1.

The estimand is the process that makes customers what they are (a superpopulation): the interval says what another
draw of customers would show. The table of the customers themselves is a census and has no sampling error.

The plain bootstrap under-covers for skewed values, so intervals are studentised: each resample is divided by its own
influence-function standard error (bootstrap-t; Davidson 2009 for the Gini coefficient). Values are sorted once and
resampled by Poisson weights. Neighbouring values are pooled into cells before resampling, never in the tails, where a
cell is one customer; the pooled statistic is centred on itself, so pooling moves no estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import LEVEL, ends, mean_interval, wilson

TOP = (0.01, 0.10, 0.20)  # best customers whose share is reported
CELLS = 400  # cells the sorted values are pooled into; the Gini moves by less than 1e-4 of itself
BLOCK = 32  # resamples computed at once: keeps memory flat
STEPS = 200  # of a Lorenz curve at most
TAIL = 0.05  # share of customers the tail index is taken from: it tells the simulated worlds apart at 2,000 customers
STATISTICS = ("Gini", *(f"top {q:.0%} share" for q in TOP), "profitable customers' share")


def checked(values: Any, name: str = "values") -> np.ndarray:
    """Return values as an array; refuse missing ones, and fewer than two."""
    x = np.asarray(values, dtype=float).ravel()
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {x.size} rows are missing or infinite; drop customers without a value first"
        )
    if x.size < 2:
        raise InputError(f"{name}: {x.size} customers; concentration needs at least 2")
    return x


def _moments(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return statistics and their influence-function standard errors; ``x`` ascending, weights ``(resamples, x)``."""
    wx = w * x
    below, sums, squares = np.cumsum(w, axis=1), np.cumsum(wx, axis=1), np.cumsum(wx * x, axis=1)
    total, mean = below[:, -1:], sums[:, -1:] / below[:, -1:]
    rank = (below - w / 2) / total
    area = (sums - wx / 2) / total
    g = 2 * (wx * rank).sum(axis=1, keepdims=True) / (total * mean) - 1
    influence = (2 * rank - 1 - g) / mean * x - 2 / mean * area + (1 - g)
    values = [g[:, 0]]
    se = [np.sqrt(np.einsum("ij,ij,ij->i", w, influence, influence)) / total[:, 0]]
    n, m = total[:, 0], mean[:, 0]
    row, spread = np.arange(len(w)), squares[:, -1] / n - m * m
    for q in (*TOP, None):
        # what a customer has above the cut: its moments follow from the sums above it, without another pass
        if q is None:  # all that is positive: the height of the whale curve
            first = np.full(len(w), np.searchsorted(x, 0.0, side="right"))
            cut, level = np.zeros(len(w)), np.zeros(len(w))
        else:
            first = np.minimum((below < (1 - q) * total).sum(axis=1), x.size - 1)
            cut, level = x[first], x[first] * q
        s0, s1, s2 = (
            (c[:, -1] - np.where(first > 0, c[row, np.maximum(first, 1) - 1], 0.0)) / n for c in (below, sums, squares)
        )
        excess, with_x, square = s1 - cut * s0, s2 - cut * s1, s2 - 2 * cut * s1 + cut * cut * s0
        share = (excess + level) / m
        variance = square - excess**2 - 2 * share * (with_x - excess * m) + share**2 * spread
        values.append(share)
        se.append(np.sqrt(np.maximum(variance, 0.0) / n) / np.abs(m))
    return np.stack(values, axis=1), np.stack(se, axis=1)


def _pool(x: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Pool sorted values: a cell holds at most ``3 / cells`` of the customers, of their absolute value and squares."""
    if x.size <= cells:
        return x, np.ones(x.size)
    # squares make the cells of the tail narrow, where the variance comes from
    shares = (np.cumsum(w) / w.sum() for w in (np.ones(x.size), np.abs(x), x * x))
    place = np.add.reduce(list(shares)) / 3
    start = np.flatnonzero(np.diff(np.floor(place * cells - 1e-12), prepend=-1.0))
    count = np.diff(np.append(start, x.size)).astype(float)
    return np.add.reduceat(x, start) / count, count


def gini(values: Any) -> float:
    """Gini coefficient: mean absolute difference over twice the mean.

    Parameters
    ----------
    values : array-like
        One number per customer; negatives allowed, then the coefficient can exceed 1.

    Raises
    ------
    InputError
        If a value is missing or the mean is not positive (the coefficient divides by it).
    """
    x = np.sort(checked(values))
    if x.mean() <= 0:
        raise InputError("the mean value is not positive; a Gini coefficient needs a positive mean")
    rank = (np.arange(x.size) + 0.5) / x.size
    return float(2 * (x * rank).sum() / x.sum() - 1)


def lorenz(values: Any, *, smallest: int) -> pd.DataFrame:
    """Cumulative value of customers ranked from the worst (Lorenz) and from the best (whale curve).

    Parameters
    ----------
    values : array-like
        One number per customer.
    smallest : int
        Customers that a step of the curve has at least.

    Returns
    -------
    DataFrame
        ``customers`` (share), ``lorenz``, ``whale`` (cumulative shares of the total), ``n`` customers in the step.
    """
    x = np.sort(checked(values))
    steps = max(1, min(STEPS, x.size // smallest))
    at = np.unique(np.round(np.linspace(0, x.size, steps + 1)).astype(int))
    up, down = np.append(0, np.cumsum(x)), np.append(0, np.cumsum(x[::-1]))
    return pd.DataFrame(
        {"customers": at / x.size, "lorenz": up[at] / x.sum(), "whale": down[at] / x.sum(), "n": np.diff(at, prepend=0)}
    )


def hill(values: Any) -> tuple[float, float, float]:
    """Tail index of the absolute values by Hill's estimator over the largest twentieth, ten at least.

    With its interval: the inverse of the index is a mean of so many exponential spacings.
    """
    size = np.sort(np.abs(checked(values)))[::-1]
    k = min(max(10, round(TAIL * size.size)), int((size > 0).sum()) - 1)
    mean = float(np.log(size[:k] / size[k]).mean()) if k > 1 else 0.0
    if mean <= 0:
        return (float("inf"),) * 3
    low, high = ends(mean, mean / k**0.5)
    return 1 / mean, 1 / high, 1 / low if low > 0 else float("inf")


def share_below(values: Any) -> tuple[float, float, float]:
    """Share of customers below 0 with Wilson's interval."""
    x = checked(values)
    return wilson(int((x < 0).sum()), x.size)


def parts(x: np.ndarray, least: int) -> list[tuple[str, tuple[float, ...], tuple[float, ...] | None, int]]:
    """Share of negative, zero and positive values with Wilson's interval, their mean with its own, and their number.

    Fewer zeros than ``least`` are no part of their own: the rest of all would count them.
    """
    out: list[tuple[str, tuple[float, ...], tuple[float, ...] | None, int]] = []
    sides = [("negative", x < 0), ("zero", x == 0), ("positive", x > 0)]
    if 0 < (x == 0).sum() < least:
        sides[1:] = [("zero or positive", x >= 0)]
    for part, inside in sides:
        n = int(inside.sum())
        mean = mean_interval(x[inside]) if 1 < n < x.size and part != "zero" else None
        out.append((part, wilson(n, x.size), mean, n))
    return out


def quantiles(x: np.ndarray, at: Sequence[float], pooled: int = 1) -> list[tuple[float, np.ndarray, int]]:
    """Quantiles of ascending values with the interval of their order statistics, and the values beyond them.

    Each is the mean of ``pooled`` neighbouring values, so that it is nobody's own, with as many beyond; nearer the
    ends it is missing.
    """
    means = np.convolve(x, np.full(pooled, 1 / pooled), "valid") if x.size >= pooled else np.full(1, np.nan)
    out = []
    for q in at:
        place = np.array([q * x.size, *ends(q * x.size, (q * (1 - q) * x.size) ** 0.5)]).astype(int)
        first, beyond = place - pooled // 2, int(min(q, 1 - q) * x.size)
        inside = (first >= (pooled > 1) * pooled) & (first < means.size - (pooled > 1) * pooled)
        held = np.where(inside, means[np.clip(first, 0, means.size - 1)], np.nan)
        out.append((q, held, beyond))
    return out


def intervals(values: Any, *, seed: int, resamples: int = 999, cells: int = CELLS) -> pd.DataFrame:
    """Concentration statistics with studentised bootstrap intervals.

    Parameters
    ----------
    values : array-like
        One number per customer; the mean must be positive.
    seed : int
        Of the resampling weights.
    resamples : int
        Bootstrap resamples; 999 makes the end points order statistics.
    cells : int
        Cells of the pooled values the resamples run on.

    Returns
    -------
    DataFrame
        Indexed by statistic: ``estimate``, ``se``, ``ci_low``, ``ci_high``.

    Raises
    ------
    InputError
        If values are missing or their mean is not positive.

    References
    ----------
    Davidson, R. (2009). Reliable inference for the Gini index. *Journal of Econometrics* 150, 30-40.
    """
    x = np.sort(checked(values))
    if x.mean() <= 0:
        raise InputError("the mean value is not positive; shares of a total need a positive mean")
    estimate, se = (a[0] for a in _moments(x, np.ones((1, x.size))))
    pooled, count = _pool(x, cells)
    centre = _moments(pooled, count[None, :])[0][0]
    rng = np.random.default_rng(seed)
    pivots = np.empty((resamples, len(STATISTICS)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for at in range(0, resamples, BLOCK):
            rows = min(BLOCK, resamples - at)
            value, error = _moments(pooled, rng.poisson(count, size=(rows, pooled.size)).astype(float))
            pivots[at : at + rows] = np.where(error > 0, (value - centre) / error, 0.0)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(pivots, [tail, 1 - tail], axis=0)
    table = pd.DataFrame(
        {"estimate": estimate, "se": se, "ci_low": estimate - high * se, "ci_high": estimate - low * se},
        index=pd.Index(STATISTICS, name="statistic"),
    )
    # no share of non-negative values passes 1, and without losses the profitable make all of it
    if x[0] >= 0:
        table[["ci_low", "ci_high"]] = table[["ci_low", "ci_high"]].clip(0.0, 1.0)
    return table
