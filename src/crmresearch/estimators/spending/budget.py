"""How to split a budget between winning and keeping: the optimum, its identity, its shadow price and its interval.

The value of a prospect, when A is spent on winning and R a year on keeping, is that of Blattberg and Deighton (1996):

    CE(A, R) = a(A) V(R) - A,    V(R) = m + (m r(R) - R) / (1 + d - r(R)),

with the share won a(A), the share retained a year r(R), the margin m a year and the discount rate d. Both shares are
saturating curves ``floor + (ceiling - floor) (1 - exp(-rate spend))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.blocks import Array
from crmresearch.estimators.inference import LEVEL

MOST_PRICE = 1e12  # a budget in which one more unit is worth more than this cannot be priced


@dataclass(frozen=True)
class Curve:
    """A saturating response to spend, or several at once.

    Parameters
    ----------
    ceiling : float or array
        Share reached with unlimited spend, at most 1.
    rate : float or array
        Speed of saturation, per unit of money.
    floor : float or array
        Share without any spend.
    """

    ceiling: Any
    rate: Any
    floor: Any = 0.0

    def __post_init__(self) -> None:
        floor, ceiling, rate = np.broadcast_arrays(self.floor, self.ceiling, self.rate)
        bad = ~((floor >= 0) & (floor < ceiling) & (ceiling <= 1) & (rate > 0))
        if bad.any():
            raise InputError(
                f"a response curve needs 0 <= floor < ceiling <= 1 and a positive rate, not floor {floor[bad][0]:g}, "
                f"ceiling {ceiling[bad][0]:g}, rate {rate[bad][0]:g}"
            )

    def __call__(self, spend: Any) -> Any:
        """Share at a level of spend."""
        return self.ceiling - (self.ceiling - self.floor) * np.exp(-self.rate * np.asarray(spend, float))

    def slope(self, spend: Any) -> Any:
        """Share gained for one more unit of money."""
        return (self.ceiling - self.floor) * self.rate * np.exp(-self.rate * np.asarray(spend, float))


@dataclass(frozen=True)
class Optimum:
    """Best spends and what they mean; money per prospect, and per customer and year. Arrays where curves were arrays.

    Attributes
    ----------
    acquisition, retention : float
        Spend per prospect, and per customer and year.
    equity : float
        Value of a prospect less all spend.
    value : float
        Value of a won customer (retention spend taken off).
    marginal_acquisition, marginal_retention : float
        Money for one more customer won, or retained; infinite at a spend of zero that should not be raised.
    shadow_price : float
        Value gained for one more unit of budget; 0 when the budget does not bind.
    average_ratio : float
        Spend per win over retention spend per *retained* customer, (A / a) / (R / r).
    budget_used : float
        Present value of all spend per prospect.
    corner : bool
        Whether one of the spends is zero.
    """

    acquisition: Any
    retention: Any
    equity: Any
    value: Any
    marginal_acquisition: Any
    marginal_retention: Any
    shadow_price: Any
    average_ratio: Any
    budget_used: Any
    corner: Any


def interval(draws: Array) -> tuple[float, float]:
    """Percentile ends of resamples that may be infinite: values that were drawn, none between two of them."""
    tail = round((1 - LEVEL) / 2, 12)  # exactly, as a tie decides which of two neighbours it is
    low, high = np.quantile(draws, [tail, 1 - tail], method="closest_observation")
    return float(low), float(high)


def customer_equity(acquisition: Any, retention: Any, margin: Any, won: Curve, kept: Curve, discount: float) -> Any:
    """Return the value of a prospect, net of all spend (arrays broadcast)."""
    r = kept(retention)
    value = margin + (margin * r - np.asarray(retention, float)) / (1 + discount - r)
    return won(acquisition) * value - np.asarray(acquisition, float)


def _best_retention(margin: Any, kept: Curve, discount: float, price: Any) -> Any:
    """Spend that makes the last retained customer cost G / price - k (see :func:`optimum`); 0 if none is worth it.

    With r = c - h exp(-s R) and T = m (1+d) / price the condition (T - R) r'(R) = 1 + d - r(R) reads
    u exp(u) = (1 + d - c) / h exp(s T - 1) for u = s (T - R) - 1; Wright's omega solves it without overflow.
    """
    from scipy.special import wrightomega

    rise, top = kept.ceiling - kept.floor, margin * (1 + discount) / price
    u = wrightomega(np.log((1 + discount - kept.ceiling) / rise) + kept.rate * top - 1)
    return np.maximum(top - (1 + u) / kept.rate, 0.0)


def _spends(margin: Any, won: Curve, kept: Curve, discount: float, price: Any) -> tuple[Any, Any, Any]:
    """Best spends, and the present value of all spend, at a price of budget (1 + shadow price)."""
    retention = _best_retention(margin, kept, discount, price)
    rest = 1 + discount - kept(retention)
    upkeep = retention / rest
    first = won.slope(0.0) * (margin * (1 + discount) / rest / price - upkeep)
    acquisition = np.log(np.maximum(first, 1.0)) / won.rate
    return acquisition, retention, acquisition + won(acquisition) * upkeep


def _price(budget: Any, margin: Any, won: Curve, kept: Curve, discount: float) -> Any:
    """Price of budget, at least 1, at which the best spends use no more than it; by halving on the log scale."""
    used = _spends(margin, won, kept, discount, 1.0)[2]
    low, high = np.zeros(np.shape(used)), np.full(np.shape(used), np.log(MOST_PRICE))
    if np.any(_spends(margin, won, kept, discount, np.exp(high))[2] > budget):
        raise FitError(f"no spends use a budget of {np.min(budget):g} per prospect; it is too small to price")
    for _ in range(80):
        middle = (low + high) / 2
        over = _spends(margin, won, kept, discount, np.exp(middle))[2] > budget
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return np.where(used > budget, np.exp(high), 1.0)


def optimum(margin: Any, won: Curve, kept: Curve, discount: float, budget: Any = None) -> Optimum:
    """Best split between winning and keeping, free or within a budget.

    Parameters
    ----------
    margin : float or array
        Contribution per customer and year before retention spend, money.
    won, kept : Curve
        Share of prospects won by spend per prospect; share of customers retained a year by spend per customer-year.
    discount : float
        Annual discount rate.
    budget : float or array, optional
        Present value of all spend per prospect, money. None: free.

    Returns
    -------
    Optimum

    Raises
    ------
    InputError
        If margin, discount or budget is out of range.
    FitError
        If the budget cannot be met.

    Notes
    -----
    With gross value G(R) = m (1+d) / (1+d-r), upkeep k(R) = R / (1+d-r) and shadow price L, the first-order conditions
    are 1/a'(A) = 1/r'(R) = G/(1+L) - k. With L = 0 the right side is the customer's value V: one more customer won and
    one more retained cost the same, and both cost what a customer is worth. With a binding budget both lie below V.

    References
    ----------
    Blattberg, Deighton (1996). Manage marketing by the customer equity test. *Harvard Business Review* 74(4).
    Pfeifer (2005). The optimal ratio of acquisition and retention costs. *J. Targeting* 13, 179-188.
    """
    if not (np.all(np.asarray(margin) > 0) and discount > 0):
        raise InputError(f"the optimum needs a positive margin and discount rate; the rate is {discount:g}")
    if budget is not None and not np.all(np.asarray(budget) >= 0):
        raise InputError(f"a budget cannot be negative ({np.min(budget):g})")
    price = 1.0 if budget is None else _price(budget, margin, won, kept, discount)
    acquisition, retention, used = _spends(margin, won, kept, discount, price)
    r, a = kept(retention), won(acquisition)
    with np.errstate(divide="ignore", invalid="ignore"):  # nothing spent, nothing kept or nobody won
        ratio = np.where((retention > 0) & (a > 0), acquisition / a / (retention / r), np.inf)
    found = {
        "acquisition": acquisition,
        "retention": retention,
        "equity": customer_equity(acquisition, retention, margin, won, kept, discount),
        "value": margin + (margin * r - retention) / (1 + discount - r),
        "marginal_acquisition": 1 / won.slope(acquisition),
        "marginal_retention": 1 / kept.slope(retention),
        "shadow_price": price - 1,
        "average_ratio": ratio,
        "budget_used": used,
        "corner": (acquisition == 0) | (retention == 0),
    }
    shape = np.shape(acquisition)
    return Optimum(**{name: np.broadcast_to(v, shape) if shape else np.asarray(v).item() for name, v in found.items()})
