"""Estimates with intervals: of normal values, ratios, proportions and draws; p-values and their multiplicity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from crmresearch.errors import InputError
from crmresearch.rules import blunt, rules

LEVEL = 0.95  # level of every interval of the project


@dataclass(frozen=True)
class Estimate:
    """One number for the ledger, with its interval.

    Parameters
    ----------
    value, ci_low, ci_high : float
        Estimate and 95% interval. An unbounded end is ``inf``; ``nan`` in all three means "not estimable", with the
        reason in a closed check.
    unit : str
        Unit in words: ``"ratio"``, ``"share of contribution"``, ``"hazard ratio"`` ...
    n : int
        Customers (or other units, named in ``unit``) the estimate rests on.
    se : float, optional
        Standard error, where one exists.
    checks : tuple of Check
        Gates of this estimate alone, beside those of the result.
    """

    value: float
    ci_low: float
    ci_high: float
    unit: str
    n: int
    se: float | None = None
    checks: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.ci_low > self.ci_high:
            raise InputError(f"interval [{self.ci_low}, {self.ci_high}] is upside down")
        for name in ("value", "ci_low", "ci_high", "se") if rules.base > 1 else ():
            object.__setattr__(self, name, blunt(getattr(self, name), self.n))

    def __format__(self, spec: str) -> str:
        """Write the estimate with its interval, e.g. ``4.41 [4.12, 4.70]``; ``spec`` formats each of the three."""
        spec = spec or ",.2f"
        return f"{self.value:{spec}} [{self.ci_low:{spec}}, {self.ci_high:{spec}}]"


def told_apart(found: Estimate, none: float = 0) -> bool:
    """Whether no effect lies outside the interval, so that a title may say one."""
    return not found.ci_low <= none <= found.ci_high


@cache
def z(level: float = LEVEL) -> float:
    """Normal quantile of a two-sided interval."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def ends(value: Any, se: Any) -> tuple[Any, Any]:
    """Ends of the normal interval, of numbers, arrays or columns."""
    half = z() * se
    return value - half, value + half


def mean_interval(x: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent values with its normal interval."""
    mean = float(x.mean())
    return mean, *ends(mean, float(x.std(ddof=1)) / x.size**0.5)


def two_sided_p(value: ArrayLike, se: ArrayLike) -> Any:
    """Normal p-value of the hypothesis that the estimand is 0, of numbers or arrays."""
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(np.asarray(value, dtype=float) / np.asarray(se, dtype=float)))


def normal(value: float, se: float, unit: str, n: int, *, log: bool = False, checks: tuple[Any, ...] = ()) -> Estimate:
    """Estimate with its normal interval.

    Parameters
    ----------
    value, se : float
        Estimate and standard error, of the logarithm if ``log`` (odds, hazard and rate ratios).
    unit, n, checks
        As in :class:`Estimate`.
    log : bool
        Write the exponential of value and ends; the standard error by the delta method.
    """
    low, high = ends(value, se)
    if log:
        value, low, high = (float(np.exp(x)) for x in (value, low, high))
        se = value * se
    return Estimate(float(value), float(low), float(high), unit, n, float(se), checks)


def wilson(count: Any, n: Any) -> tuple[Any, Any, Any]:
    """Proportion with Wilson's interval, of numbers or arrays; the interval never leaves [0, 1].

    References
    ----------
    Wilson (1927). Probable inference, the law of succession, and statistical inference. *JASA* 22, 209-212.
    """
    p, z2 = count / n, z() ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # rounding must not put an end on the wrong side of the proportion where that is 0 or 1
    low, high = np.minimum(p, np.maximum(centre - half, 0.0)), np.maximum(p, np.minimum(centre + half, 1.0))
    return (p, low, high) if np.ndim(p) else (float(p), float(low), float(high))


def newcombe(count: Any, n: Any) -> tuple[float, float, float]:
    """Difference of two proportions, the first less the second, with its interval from those of Wilson.

    References
    ----------
    Newcombe (1998). Interval estimation for the difference between independent proportions. *Statistics in Medicine*
    17, 873-890 (method 10).
    """
    share, low, high = wilson(np.asarray(count, dtype=float), np.asarray(n, dtype=float))
    gap = share[0] - share[1]
    below = np.hypot(share[0] - low[0], high[1] - share[1])
    above = np.hypot(high[0] - share[0], share[1] - low[1])
    return float(gap), float(gap - below), float(gap + above)


def poisson_rate(events: Any, exposure: Any) -> tuple[Any, Any, Any]:
    """Events per unit of exposure with the exact interval, of numbers or columns.

    References
    ----------
    Garwood (1936). Fiducial limits for the Poisson distribution. *Biometrika* 28, 437-442.
    """
    from scipy.special import chdtri

    tail = (1 - LEVEL) / 2
    low = np.where(np.asarray(events) > 0, chdtri(2 * np.maximum(events, 1), 1 - tail), 0.0) / 2 / exposure
    high = chdtri(2 * (events + 1), tail) / 2 / exposure
    return events / exposure, low, high


def ratio_delta(numerator: Any, denominator: Any, var_n: Any, var_d: Any, cov: Any = 0.0) -> tuple[Any, Any]:
    """Ratio and its standard error by the delta method, of numbers or arrays; :func:`fieller` bears weak denominators.

    References
    ----------
    Cochran (1977), *Sampling Techniques*, 2.11.
    """
    ratio = numerator / denominator
    return ratio, np.sqrt(np.maximum(var_n - 2 * ratio * cov + ratio**2 * var_d, 0.0)) / np.abs(denominator)


@dataclass(frozen=True)
class Fieller:
    """Fieller's set for a ratio: all values the data do not speak against.

    Attributes
    ----------
    kind : {'bounded', 'disjoint', 'unbounded'}
        ``bounded``: the interval [low, high]. ``disjoint``: everything outside (low, high). ``unbounded``: every
        number; nothing was learned.
    low, high : float
        End points; infinite for an unbounded set.
    """

    kind: Literal["bounded", "disjoint", "unbounded"]
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval; infinite where the set is not an interval."""
        return (self.low, self.high) if self.kind == "bounded" else (-math.inf, math.inf)

    def covers(self, truth: float) -> bool:
        """Tell whether a number belongs to the set."""
        if self.kind == "unbounded":
            return True
        inside = self.low <= truth <= self.high
        return inside if self.kind == "bounded" else not (self.low < truth < self.high)


def fieller(
    numerator: float, denominator: float, var_n: float, var_d: float, cov: float = 0.0, critical: float | None = None
) -> Fieller:
    """Fieller's confidence set for ``numerator / denominator``.

    The set holds every r with (n - r d)^2 below c^2 Var(n - r d). It is bounded exactly when the denominator differs
    significantly from zero.

    Parameters
    ----------
    numerator, denominator : float
        Estimates, jointly near normal.
    var_n, var_d, cov : float
        Their variances and covariance.
    critical : float, optional
        Critical value; by default that of one interval. A larger one gives simultaneous sets.

    Raises
    ------
    InputError
        If a variance is negative or anything is not finite.

    References
    ----------
    Fieller, E. C. (1954). Some problems in interval estimation. *JRSS B* 16, 175-185.
    """
    if not np.isfinite([numerator, denominator, var_n, var_d, cov]).all() or min(var_n, var_d) < 0:
        raise InputError("Fieller's set needs finite estimates and variances of at least zero")
    c2 = (z() if critical is None else critical) ** 2
    a = denominator**2 - c2 * var_d
    b = numerator * denominator - c2 * cov
    c = numerator**2 - c2 * var_n
    root = b * b - a * c
    if a > 0:
        half = np.sqrt(max(root, 0.0))
        return Fieller("bounded", float((b - half) / a), float((b + half) / a))
    if a < 0 and root > 0:
        low, high = sorted(((b - np.sqrt(root)) / a, (b + np.sqrt(root)) / a))
        return Fieller("disjoint", float(low), float(high))
    return Fieller("unbounded", -math.inf, math.inf)


def from_draws(draws: ArrayLike) -> tuple[Any, Any, Any]:
    """Standard error and percentile ends of draws (first axis) from a bootstrap or a posterior.

    Returns
    -------
    se, low, high
        Numbers for a single estimand, arrays for several.

    References
    ----------
    Efron and Tibshirani (1993), *An Introduction to the Bootstrap*, 13.
    """
    values = np.asarray(draws, dtype=float)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return values.std(axis=0, ddof=1), low, high


def q_values(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p-values that control the share of false discoveries.

    References
    ----------
    Benjamini and Hochberg (1995). Controlling the false discovery rate. *JRSS B* 57, 289-300.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(-p)
    scaled = p[order] * (p.size / np.arange(p.size, 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return out
