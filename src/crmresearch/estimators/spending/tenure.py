"""Money over a tenure that is only partly seen: its expected total, and the month in which a win has paid back."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.estimators.blocks import Array, Functional, per, product, unit_of
from crmresearch.estimators.inference import ends, jackknife

MIN_AT_RISK = 50  # customers at risk below which a tenure curve ends
GROUPS = 20  # of blocks, left out one at a time


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
    discount = _discount(last, discount_annual)

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

    cost_of = expected(rate, (cost - rate * at_risk) / total, True)
    return LifetimeCost(cost_of, expected(np.full(last, 1 / 12), np.zeros_like(cost), False), last, survival, rate)


def _discount(months: int, annual: float) -> Array:
    return np.asarray((1 + annual) ** (-(np.arange(months) + 0.5) / 12))


def _month_matrix(frame: pd.DataFrame, column: str, blocks: int, months: int) -> Array:
    month, block = frame["tenure_month"].to_numpy(np.intp), frame["block"].to_numpy(np.intp)
    keep = month < months
    flat = np.bincount(
        block[keep] * months + month[keep], frame[column].to_numpy(float)[keep], minlength=blocks * months
    )
    return flat.astype(float).reshape(blocks, months)


@dataclass(frozen=True)
class Replacement:
    """Parts of the cost of replacing a lost customer; made by :func:`replacement`. ``months`` are those seen."""

    won: Functional
    ramp: Functional
    service: Functional
    months: int

    @property
    def total(self) -> Functional:
        """Acquisition and ramp-up loss less the service cost saved."""
        return self.won + self.ramp - self.service


def replacement(
    acquisition: pd.DataFrame, tenure: pd.DataFrame, ramp_months: int, horizon_months: int, discount_annual: float
) -> Replacement:
    """Cost of replacing a lost customer, survival-weighted.

    Ramp-up loss is sum_k v^k S_k (revenue of a customer from ``ramp_months`` on - revenue at tenure month k), S_k the
    survival of new customers; saved service cost is the same sum for service cost.
    """
    blocks, old = unit_of(acquisition, tenure), tenure[tenure["tenure_month"] >= ramp_months]
    gaps, months = [], 0
    for column in ("revenue", "service_cost"):
        life = lifetime_cost(tenure, column, blocks, horizon_months, discount_annual)
        gaps.append(product(per(old, column, "months", blocks), 12.0 * life.years) - life.cost)
        months = life.months
    return Replacement(per(acquisition, "spend", "won", blocks), gaps[0], gaps[1], months)


@dataclass(frozen=True)
class Payback:
    """When a win has paid back; made by :func:`payback`.

    Attributes
    ----------
    won : Functional
        Cost per win.
    curve : DataFrame
        ``month``, ``net`` (discounted contribution so far less cost, per win) with ``low`` and ``high``.
    counted, staying : tuple of float
        Month of payback with its interval, leavers counted and of one who stays; infinite if it is not seen.
    gone, loss : tuple of float, or None
        Share gone before the month of ``staying`` and the loss on them per win, where that month is seen.
    months : int
        Months of tenure seen; 0 with too few customers.
    """

    won: Functional
    months: int
    curve: pd.DataFrame
    counted: tuple[float, float, float] = (np.nan,) * 3
    staying: tuple[float, float, float] = (np.nan,) * 3
    gone: tuple[float, float, float] | None = None
    loss: tuple[float, float, float] | None = None


def payback(acquisition: pd.DataFrame, tenure: pd.DataFrame, horizon_months: int, discount_annual: float) -> Payback:
    """Month in which discounted contribution meets the cost of winning.

    Per win, the sum over months k of v^k S_k m_k (share still there times contribution of a customer-month) meets the
    cost per win. For one customer who stays, the same without S_k gives the month before which leaving is a loss. Its
    interval, and those of the share gone before that month and of the loss on them, come from a jackknife over groups
    of blocks; the last two hold the month as it is estimated.
    """
    blocks = unit_of(acquisition, tenure)

    def lifetime(frame: pd.DataFrame, months: int) -> LifetimeCost:
        return lifetime_cost(frame, "contribution", blocks, months, discount_annual)

    won = per(acquisition, "spend", "won", blocks)
    life = lifetime(tenure, horizon_months)
    if not life.months:
        return Payback(won, 0, pd.DataFrame())
    path = [lifetime(tenure, k + 1).cost - won for k in range(life.months)]
    net, se = np.array([p.value for p in path]), np.array([p.se for p in path])
    low, high = ends(net, se)
    curve = pd.DataFrame({"month": np.arange(1, life.months + 1), "net": net, "low": low, "high": high})
    lives = [(life, won.value)]
    for k in range(GROUPS):
        part, rest = (f[f["block"] % GROUPS != k] for f in (acquisition, tenure))
        lives.append((lifetime(rest, life.months), float(part["spend"].sum() / part["won"].sum())))
    known = min(part.months for part, _ in lives)  # months seen without any of the groups
    stays = [np.cumsum(_discount(len(part.rate), discount_annual) * part.rate) - cost for part, cost in lives]
    _, _, worst, best = jackknife(np.array([s[:known] for s in stays]))
    early = _first(stays[0])
    gone = loss = None
    if early < known:
        at = int(early)

        def left(part: LifetimeCost, own: Array) -> tuple[float, float]:
            before = part.survival[:at] - part.survival[1 : at + 1]
            return float(1 - part.survival[at]), float(before @ -own[:at])

        value, _, less, more = jackknife(np.array([left(part, s) for (part, _), s in zip(lives, stays, strict=True)]))
        gone, loss = zip(value, less, more, strict=True)
    counted = _first(net), _first(high), _first(low)
    return Payback(won, life.months, curve, counted, (early, _first(best), _first(worst)), gone, loss)


def _first(path: Array) -> float:
    reached = np.flatnonzero(path >= 0)
    return float(reached[0] + 1) if reached.size else np.inf
