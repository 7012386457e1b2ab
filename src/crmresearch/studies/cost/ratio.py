"""What a new customer costs over what an old one costs: nine ratios, each with its own definition and interval.

Money and outcomes are summed over *blocks* of people (a person, or a thousandth of them drawn by lot), so that an
estimate, its error and its dependence on the other estimates all come from one small frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import LEVEL, Estimate
from crmresearch.result import Check

Array = NDArray[np.float64]

SEVERAL = 2.0  # "several times" is claimed when the lower bound of the ratio passes this
WEAK = 3.0  # |z| of a denominator below which percentile intervals mean nothing
MIN_WINS = 10  # wins below which no cost per win is estimated
MIN_AT_RISK = 50  # customers at risk below which a tenure curve ends

NUMERATORS = {
    "all": "all acquisition spend, failed prospects included, per win",
    "won": "acquisition spend on the won, per win",
    "marginal": "acquisition spend for one more win, at observed spend",
}
DENOMINATORS = {
    "year": "retention spend per customer-year, all customers pooled",
    "tenure": "retention spend over a completed tenure, corrected for censoring",
    "saved": "campaign spend per customer-year saved, treated less control",
}
LINES = {
    ("all", "year"): "S40",
    ("all", "tenure"): "S40b",
    ("all", "saved"): "S40c",
    ("won", "year"): "S40d",
    ("won", "tenure"): "S40e",
    ("won", "saved"): "S40f",
    ("marginal", "year"): "S40g",
    ("marginal", "tenure"): "S40h",
    ("marginal", "saved"): "S40i",
}


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


RESERVED = (
    "block", "channel", "segment", "n", "spend", "spend_squared", "spend_won", "won", "spend_randomised", "currency",
    "log_months", "ended", "profit",
)  # fmt: skip


def further(frame: pd.DataFrame) -> tuple[str, ...]:
    """Columns of numbers that are no spend, outcome or key: what to hold fixed."""
    numbers = frame.select_dtypes("number").columns
    return tuple(c for c in numbers if c not in RESERVED and frame[c].min() < frame[c].max())


def undated(frame: pd.DataFrame, *money: str) -> Missing | None:
    """Tell why a frame of customers cannot show money over tenure, if it cannot."""
    if "tenure_month" not in frame:
        return Missing("the data have no dates, so nothing can be followed over tenure", ("customers", "monthly"))
    lacking = [c.replace("_", " ") for c in money if c not in frame]
    return Missing(f"no {' and no '.join(lacking)} is recorded by month", ("monthly",)) if lacking else None


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

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the normal interval."""
        half = _critical(level) * self.se
        return self.value - half, self.value + half


def covariance(a: Functional, b: Functional) -> float:
    """Sampling covariance of two functionals of the same blocks."""
    g = len(a.influence)
    return float((a.influence - a.influence.mean()) @ (b.influence - b.influence.mean()) * g / max(g - 1, 1))


def _critical(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def constant(value: float, blocks: int) -> Functional:
    """Return a number that is known, e.g. a price."""
    return Functional(value, np.zeros(blocks))


def by_block(frame: pd.DataFrame, column: str, blocks: int) -> Array:
    """Sum a column over blocks."""
    weights = frame[column].to_numpy(float)
    return np.bincount(frame["block"].to_numpy(np.intp), weights, minlength=blocks).astype(float)


def mean_ratio(numerator: Array, denominator: Array) -> Functional:
    """Ratio of two totals, from block totals; the linearisation is the ratio estimator's usual one."""
    total = denominator.sum()
    if not total > 0:
        return Functional(np.nan, np.full(len(numerator), np.nan))
    value = numerator.sum() / total
    return Functional(
        float(value), (numerator - value * denominator) / total, lambda w: (w @ numerator) / (w @ denominator)
    )


def product(*parts: Functional) -> Functional:
    """Product of functionals, linearised."""
    values = np.array([p.value for p in parts])
    influence = sum(
        (np.prod(np.delete(values, i)) * p.influence for i, p in enumerate(parts)), np.zeros(len(parts[0].influence))
    )
    return Functional(
        float(values.prod()), np.asarray(influence), lambda w: np.prod([p.redrawn(w) for p in parts], axis=0)
    )


def difference(a: Functional, b: Functional) -> Functional:
    """``a`` less ``b``."""
    return Functional(a.value - b.value, a.influence - b.influence)


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

    def covers(self, truth: float) -> bool:
        """Tell whether a number belongs to the set."""
        if self.kind == "unbounded":
            return True
        inside = self.low <= truth <= self.high
        return inside if self.kind == "bounded" else not (self.low < truth < self.high)

    def text(self, digits: int = 2) -> str:
        """Write the set in words."""
        if self.kind == "unbounded":
            return "unbounded"
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"[{low}, {high}]" if self.kind == "bounded" else f"below {low} or above {high}"


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
        Critical value; by default that of a 95% interval. A larger one gives simultaneous sets.

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
    c2 = (_critical(LEVEL) if critical is None else critical) ** 2
    a = denominator**2 - c2 * var_d
    b = numerator * denominator - c2 * cov
    c = numerator**2 - c2 * var_n
    root = b * b - a * c
    if a > 0:
        half = np.sqrt(max(root, 0.0))
        return Fieller("bounded", float((b - half) / a), float((b + half) / a))
    if a < 0 and root > 0:
        ends = sorted(((b - np.sqrt(root)) / a, (b + np.sqrt(root)) / a))
        return Fieller("disjoint", float(ends[0]), float(ends[1]))
    return Fieller("unbounded", -np.inf, np.inf)


def ratio_set(n: Functional, d: Functional, critical: float | None = None) -> Fieller:
    """Fieller's set of the ratio of two functionals of the same blocks."""
    return fieller(n.value, d.value, n.variance, d.variance, covariance(n, d), critical)


def ratio_estimate(n: Functional, d: Functional, count: int, unit: str = "ratio", bound: float = SEVERAL) -> Estimate:
    """Ratio with Fieller's set and the one-sided p-value against ``bound``.

    A set that is not bounded is given as an infinite interval with a closed gate: the verdict is ``undecided``.
    """
    checks: tuple[Check, ...] = ()
    value = n.value / d.value if d.value else np.nan
    found = ratio_set(n, d)
    low, high = (found.low, found.high) if found.kind == "bounded" else (-np.inf, np.inf)
    if found.kind != "bounded":
        words = f"Fieller's set is {found.text()}; the denominator is {abs(d.z):.1f} standard errors from zero"
        checks = (Check("bounded ratio", "closed", words, "undecided"),)
    # the hypothesis is about n - bound * d, which is linear: no ratio of normals is needed
    gap = difference(n, product(constant(bound, len(d.influence)), d))
    # a denominator that may be negative would let a negative ratio pass: both must hold, the larger p counts
    p = max(_one_sided(gap), _one_sided(d))
    se = float(np.sqrt(max(n.variance - 2 * value * covariance(n, d) + value**2 * d.variance, 0)) / abs(d.value))
    return Estimate(float(value), float(low), float(high), unit, count, p_value=p, se=se, checks=checks)


def _one_sided(f: Functional) -> float:
    """p-value of the hypothesis that the estimand is at most zero."""
    from scipy.special import ndtr

    return float(ndtr(-f.z)) if np.isfinite(f.z) else float(f.value <= 0)


@dataclass(frozen=True)
class LifetimeCost:
    """Expected cost over a tenure that is only partly seen; made by :func:`lifetime_cost`."""

    cost: Functional
    years: Functional
    months: int
    survival: Array
    rate: Array


def lifetime_cost(
    upkeep: pd.DataFrame, column: str, blocks: int, horizon_months: int, discount_annual: float = 0.0
) -> LifetimeCost:
    """Cost of a completed tenure, corrected for censoring and late entry.

    E(T) = sum over tenure months k of v^k S_k c_k, with S_k the share still there at the start of month k (from
    the exit rates of the months before, as exits over customer-months) and c_k the cost per customer-month at risk.

    Parameters
    ----------
    upkeep : DataFrame
        One row per block and tenure month: ``block``, ``tenure_month`` (from 0), ``months`` (customer-months at
        risk), ``exits`` (customers who left in it) and the cost column.
    column : str
        Cost column, money.
    blocks : int
        Number of blocks.
    horizon_months : int
        Tenure at which the sum ends, if it is seen that long.
    discount_annual : float
        Annual discount rate; month k is discounted by (1 + d)^(-(k + 1/2) / 12).

    Returns
    -------
    LifetimeCost
        ``months`` is where the sum ended: the horizon, or the last month before fewer than 50 customers are at risk.

    References
    ----------
    Lin, Feuer, Etzioni, Wax (1997). Estimating medical costs from incomplete follow-up data. *Biometrics* 53, 419-434.
    """
    at_risk, exits, cost = (_month_matrix(upkeep, c, blocks, horizon_months) for c in ("months", "exits", column))
    enough = at_risk.sum(0) >= MIN_AT_RISK
    enough[0] |= 2 * at_risk[:, 0].sum() >= MIN_AT_RISK  # the month of winning is seen in half, on average
    last = int(np.argmin(enough)) if not enough.all() else horizon_months
    if last == 0:
        nan = Functional(np.nan, np.full(blocks, np.nan))
        return LifetimeCost(nan, nan, 0, np.zeros(0), np.zeros(0))
    at_risk, exits, cost = at_risk[:, :last], exits[:, :last], cost[:, :last]
    total = at_risk.sum(0)
    hazard, rate = exits.sum(0) / total, cost.sum(0) / total
    survival = np.exp(-(np.cumsum(hazard) - hazard))
    discount = (1 + discount_annual) ** (-(np.arange(last) + 0.5) / 12)

    def again(w: Array, money: bool) -> Array:
        total_w = w @ at_risk
        rates = (w @ exits) / total_w
        per_month = (w @ cost) / total_w if money else 1 / 12
        return np.asarray((discount * per_month * np.exp(rates - np.cumsum(rates, axis=1))).sum(axis=1))

    d_hazard = (exits - hazard * at_risk) / total

    def expected(per_month: Array, own: Array, money: bool) -> Functional:
        weight = discount * survival * per_month
        later = weight.sum() - np.cumsum(weight)  # what is lost after month j, per unit of log survival
        influence = own @ (discount * survival) - d_hazard @ later
        return Functional(float(weight.sum()), influence, functools.partial(again, money=money))

    return LifetimeCost(
        expected(rate, (cost - rate * at_risk) / total, True),
        expected(np.full(last, 1 / 12), np.zeros_like(cost), False),
        last,
        survival,
        rate,
    )


def _month_matrix(frame: pd.DataFrame, column: str, blocks: int, months: int) -> Array:
    month, block = frame["tenure_month"].to_numpy(np.intp), frame["block"].to_numpy(np.intp)
    keep = month < months
    flat = np.bincount(
        block[keep] * months + month[keep], frame[column].to_numpy(float)[keep], minlength=blocks * months
    )
    return flat.astype(float).reshape(blocks, months)


def simultaneous(pairs: Sequence[tuple[Functional, Functional]], seed: int, draws: int = 20_000) -> float:
    """Critical value that makes Fieller's sets of several ratios hold together.

    The largest |n - r d| over its standard error, drawn from the joint normal law of the numerators less ratio times
    denominators (single-step max-t).

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
        return _critical(LEVEL)
    correlation = np.array(lines) @ np.array(lines).T
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    rng = np.random.default_rng(seed)
    largest = np.abs(rng.standard_normal((draws, len(lines))) @ root.T).max(axis=1)
    return float(np.quantile(largest, LEVEL))


def resampled(blocks: int, resamples: int, seed: int) -> Array:
    """How often each block is drawn, one row per resample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples).astype(float)


def unit_of(frame: Any) -> int:
    """Return the number of blocks a frame's block numbers need."""
    return int(frame["block"].max()) + 1
