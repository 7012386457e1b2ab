"""Estimates with what each block of people contributes to them.

Money and outcomes are summed over *blocks* of people (a person, or a thousandth of them drawn by lot), so that an
estimate, its error and its dependence on the other estimates all come from one small frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import InputError
from crmresearch.estimators.inference import LEVEL, Estimate, Fieller, ends, fieller, normal, resample, z

Array = NDArray[np.float64]
SETS = 100  # of people by lot, where what each contributes to an estimate is told by set


def checked(frame: pd.DataFrame, needed: Sequence[str], not_negative: Sequence[str] = (), what: str = "frame") -> None:
    """Refuse a frame that lacks columns, is empty, has missing or negative values, or mixes currencies.

    Raises
    ------
    InputError
        Names the column, the number of rows and the first five of them.
    """
    lacking = [c for c in needed if c not in frame.columns]
    if lacking:
        raise InputError(f"{what} lacks {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    if frame.empty:
        raise InputError(f"{what} has no rows; check the period and the filters")
    if "currency" in frame.columns and len(set(frame["currency"])) > 1:
        found = ", ".join(sorted(map(str, frame["currency"].unique())))
        raise InputError(f"{what} mixes currencies ({found}); convert to one before comparing costs")
    for column in dict.fromkeys((*needed, *not_negative)):
        missing = frame[column].isna()
        if missing.any():
            raise InputError(f"{what}: {int(missing.sum())} rows without {column}, e.g. row {_rows(frame, missing)}")
    for column in not_negative:
        below = frame[column] < 0
        if below.any():
            raise InputError(
                f"{what}: {column} is negative in {int(below.sum())} rows, e.g. row {_rows(frame, below)}; "
                "book refunds as their own kind of row, or leave them out"
            )


def _rows(frame: pd.DataFrame, bad: pd.Series) -> str:
    return ", ".join(map(str, frame.index[bad.to_numpy(dtype=bool)][:5]))


@dataclass(frozen=True)
class Functional:
    """An estimate with what each block contributes to its error.

    Attributes
    ----------
    value : float
    influence : array
        One entry per block; the estimate less its truth is nearly their sum.
    again : callable, optional
        Recomputes the estimate for each row of block weights; without it resamples use the linearisation (one-step
        bootstrap, for fitted models).
    """

    value: float
    influence: Array
    again: Callable[[Array], Array] | None = None

    def redrawn(self, weights: Array) -> Array:
        """Return the estimate in each resample, given how often each block was drawn."""
        return self.again(weights) if self.again else self.value + (weights - 1) @ self.influence

    @property
    def variance(self) -> float:
        """Sampling variance from the spread of the blocks."""
        return covariance(self, self)

    @property
    def se(self) -> float:
        """Standard error."""
        return float(np.sqrt(self.variance))

    @property
    def z(self) -> float:
        """Estimate over its standard error; infinite for a constant that is not zero."""
        if self.se > 0:
            return self.value / self.se
        return float(np.inf * np.sign(self.value)) if self.value else 0.0

    def interval(self) -> tuple[float, float]:
        """Return the normal interval."""
        return ends(self.value, self.se)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.interval()[1]

    def __format__(self, spec: str) -> str:
        """Write the estimate with its interval, each by ``spec``."""
        return format(Estimate(self.value, self.low, self.high, "", 0), spec)

    def estimate(self, unit: str, n: int) -> Estimate:
        """Return the estimate for the ledger."""
        return normal(self.value, self.se, unit, n)

    def over(self, blocks: int) -> Functional:
        """Return the same, counted over more blocks."""
        return Functional(self.value, np.pad(self.influence, (0, blocks - len(self.influence))))

    def __add__(self, other: Functional) -> Functional:
        return Functional(
            self.value + other.value, self.influence + other.influence, lambda w: self.redrawn(w) + other.redrawn(w)
        )

    def __sub__(self, other: Functional) -> Functional:
        return self + -1.0 * other

    def __rmul__(self, by: float) -> Functional:
        return Functional(by * self.value, by * self.influence, lambda w: by * self.redrawn(w))


def covariance(a: Functional, b: Functional) -> float:
    """Sampling covariance of two functionals of the same blocks."""
    g = len(a.influence)
    return float((a.influence - a.influence.mean()) @ (b.influence - b.influence.mean()) * g / max(g - 1, 1))


def constant(value: float, blocks: int) -> Functional:
    """Return a number that is known, e.g. a price."""
    return Functional(value, np.zeros(blocks))


def unit_of(*frames: Any) -> int:
    """Return the number of blocks the block numbers of frames need."""
    return max(int(frame["block"].max()) + 1 for frame in frames)


def summed(frame: pd.DataFrame, value: Array, blocks: int) -> Array:
    """Sum a value of each row over blocks."""
    return np.bincount(frame["block"].to_numpy(np.intp), value, minlength=blocks).astype(float)


def by_block(frame: pd.DataFrame, column: str, blocks: int) -> Array:
    """Sum a column over blocks."""
    return summed(frame, frame[column].to_numpy(float), blocks)


def per(frame: pd.DataFrame, numerator: str, denominator: str, blocks: int) -> Functional:
    """Ratio of the totals of two columns."""
    return mean_ratio(by_block(frame, numerator, blocks), by_block(frame, denominator, blocks))


def mean_ratio(numerator: Array, denominator: Array) -> Functional:
    """Ratio of two totals, from block totals; the linearisation is the ratio estimator's usual one."""
    total = denominator.sum()
    if not total > 0:
        return Functional(np.nan, np.full(len(numerator), np.nan))
    value = numerator.sum() / total

    def again(weights: Array) -> Array:
        """Missing in a resample that holds nothing of the denominator."""
        below = weights @ denominator
        return np.divide(weights @ numerator, below, out=np.full(len(weights), np.nan), where=below > 0)

    return Functional(float(value), (numerator - value * denominator) / total, again)


def slopes(frame: pd.DataFrame) -> tuple[Functional, Functional]:
    """Slope of an outcome over what units have more of at one time than at another, and over what some have more of.

    Parameters
    ----------
    frame : DataFrame
        By block: ``n`` units; ``xx`` and ``xy``, squares and products around each unit's own means, added up; ``x``,
        ``y``, ``mean_xx`` and ``mean_xy``, these means, their squares and products, added up.

    Returns
    -------
    within, between : Functional
        The second of the means of units, each counted once.
    """
    n, x, y, xx, xy = (frame[c].to_numpy(float) for c in ("n", "x", "y", "mean_xx", "mean_xy"))
    a, b = x.sum() / n.sum(), y.sum() / n.sum()
    square, product_ = xx - 2 * a * x + n * a * a, xy - b * x - a * y + n * a * b  # around the means over all units
    return mean_ratio(frame["xy"].to_numpy(float), frame["xx"].to_numpy(float)), mean_ratio(product_, square)


def product(*parts: Functional) -> Functional:
    """Product of functionals, linearised."""
    values = np.array([p.value for p in parts])
    influence = sum(
        (np.prod(np.delete(values, i)) * p.influence for i, p in enumerate(parts)), np.zeros(len(parts[0].influence))
    )
    return Functional(
        float(values.prod()), np.asarray(influence), lambda w: np.prod([p.redrawn(w) for p in parts], axis=0)
    )


def average(shares: Sequence[float], parts: Sequence[Functional]) -> Functional:
    """Average with shares that are taken as they are."""
    value = sum(w * f.value for w, f in zip(shares, parts, strict=True))
    return Functional(value, np.sum([w * f.influence for w, f in zip(shares, parts, strict=True)], axis=0))


def left_out(value: float, without: Array) -> Functional:
    """Functional from the estimate without each block in turn (jackknife); its variance is the jackknife's."""
    g = len(without)
    return Functional(float(value), (without.mean() - without) * (g - 1) / g)


def equal(parts: Sequence[Functional]) -> tuple[float, float]:
    """Wald test that several functionals are equal: chi-square and p-value; nan with fewer than two."""
    from scipy.special import chdtrc

    if len(parts) < 2:
        return np.nan, np.nan
    cov = np.array([[covariance(a, b) for b in parts] for a in parts])
    contrast = np.eye(len(parts))[1:] - np.eye(len(parts))[0]
    gap = contrast @ np.array([f.value for f in parts])
    wald = float(gap @ np.linalg.solve(contrast @ cov @ contrast.T, gap))
    return wald, float(chdtrc(len(gap), wald))


def ratio_set(n: Functional, d: Functional, critical: float | None = None) -> Fieller:
    """Fieller's set of the ratio of two functionals of the same blocks."""
    return fieller(n.value, d.value, n.variance, d.variance, covariance(n, d), critical)


def ratio(n: Functional, d: Functional, unit: str, count: int) -> Estimate:
    """Ratio with Fieller's set; an infinite interval if it has no ends."""
    value = n.value / d.value if d.value else np.nan
    spread = n.variance - 2 * value * covariance(n, d) + value**2 * d.variance
    return Estimate(float(value), *ratio_set(n, d).ends, unit, count, se=float(np.sqrt(max(spread, 0)) / abs(d.value)))


def simultaneous(pairs: Sequence[tuple[Functional, Functional]], seed: int) -> float:
    """Critical value that makes Fieller's sets of several ratios hold together.

    The largest size of n - r d over its standard error, in 20,000 draws from the joint normal law of the numerators
    less ratio times denominators (single-step max-t).

    References
    ----------
    Hothorn, Bretz, Westfall (2008). Simultaneous inference in general parametric models. *Biometrical J.* 50, 346-363.
    """
    lines = []
    for n, d in pairs:
        influence = n.influence - n.value / d.value * d.influence
        influence = influence - influence.mean()
        size = np.linalg.norm(influence)
        if size > 0:
            lines.append(influence / size)
    if not lines:
        return z()
    values, vectors = np.linalg.eigh(np.array(lines) @ np.array(lines).T)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    largest = np.abs(np.random.default_rng(seed).standard_normal((20_000, len(lines))) @ root.T).max(axis=1)
    return float(np.quantile(largest, LEVEL))


def resampled(blocks: int, resamples: int, seed: int) -> Array:
    """How often each block is drawn, one row per resample."""
    return resample(np.random.default_rng(seed), blocks, resamples)
