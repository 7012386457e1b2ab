"""How to split a budget between winning and keeping: the optimum, its identity, its shadow price and its interval.

The value of a prospect, when A is spent on winning and R a year on keeping, is that of Blattberg and Deighton (1996):

    CE(A, R) = a(A) V(R) - A,    V(R) = m + (m r(R) - R) / (1 + d - r(R)),

with the share won a(A), the share retained a year r(R), the margin m a year and the discount rate d. Both shares are
saturating curves ``floor + (ceiling - floor) (1 - exp(-rate spend))``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study

Array = NDArray[np.float64]

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
        raise InputError(f"the optimum needs a positive margin and discount rate, not {margin} and {discount:g}")
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


@study
def split(
    curves: pd.DataFrame, *, discount_annual: float = 0.08, budget: float | None = None, currency: str = ""
) -> Result:
    """Optimal split of spend between winning and keeping, with its interval.

    Parameters
    ----------
    curves : DataFrame
        First row the estimates, further rows resamples of them: ``margin`` (money a year), ``won_floor``,
        ``won_ceiling``, ``won_rate``, ``kept_floor``, ``kept_ceiling``, ``kept_rate``; ``spend_acquisition`` and
        ``spend_retention`` (what is spent now), ``most_acquisition`` and ``most_retention`` (the largest spends
        tried), ``n``.
    discount_annual : float
        Annual discount rate.
    budget : float, optional
        Present value of all spend per prospect for the bound optimum; by default that of the present spends.
    currency : str
        For labels.

    Raises
    ------
    InputError
        If columns are missing or there are fewer than 50 resamples.
    """
    from crmresearch.studies.cost.ratio import checked

    names = ("margin", "won_floor", "won_ceiling", "won_rate", "kept_floor", "kept_ceiling", "kept_rate")
    spends = [f"{which}_{side}" for which in ("spend", "most") for side in ("acquisition", "retention")]
    checked(curves, (*names, *spends, "n"), what="curves")
    if len(curves) < 51:
        raise InputError(f"{len(curves) - 1} resamples of the curves; the interval of the optimum needs 50")
    c = {name: curves[name].to_numpy(float) for name in curves}
    won = Curve(c["won_ceiling"], c["won_rate"], c["won_floor"])
    kept = Curve(c["kept_ceiling"], c["kept_rate"], c["kept_floor"])
    spent = c["spend_acquisition"], c["spend_retention"]
    used = spent[0] + won(spent[0]) * spent[1] / (1 + discount_annual - kept(spent[1]))
    free = optimum(c["margin"], won, kept, discount_annual)
    bound = optimum(c["margin"], won, kept, discount_annual, used if budget is None else np.full(len(used), budget))
    gains = free.equity - customer_equity(*spent, c["margin"], won, kept, discount_annual)
    rows: list[dict[str, Any]] = []
    for name, found in (("free", free), ("within the budget", bound)):
        for field, words in (
            ("acquisition", "spend per prospect"),
            ("retention", "spend per customer-year"),
            ("marginal_acquisition", "cost of one more customer won"),
            ("marginal_retention", "cost of one more customer kept"),
            ("value", "value of a customer"),
            ("average_ratio", "average cost of winning over keeping"),
            ("shadow_price", "shadow price of the budget"),
            ("equity", "value of a prospect, net"),
        ):
            values = getattr(found, field)
            low, high = np.quantile(values[1:], [0.025, 0.975], method="closest_observation")  # values may be infinite
            rows.append({"optimum": name, "quantity": words, "value": values[0], "ci_low": low, "ci_high": high})
    count = int(curves["n"].iloc[0])
    table = pd.DataFrame(rows).assign(n=count)
    corners = float(free.corner[1:].mean())
    best = Optimum(**{f.name: getattr(free, f.name)[0] for f in fields(free)})
    gain, (low_gain, high_gain) = gains[0], np.quantile(gains[1:], [0.025, 0.975])
    sentence = (
        f"{_in_words(best)} Against present spends the optimum adds {gain:,.2f} [{low_gain:,.2f}, {high_gain:,.2f}] "
        f"{currency} per prospect."
    )
    tried = float(curves["most_acquisition"].iloc[0]), float(curves["most_retention"].iloc[0])
    checks = (
        Check.of(
            "inner optimum",
            not best.corner,
            f"the best spends are {best.acquisition:,.1f} and {best.retention:,.1f}; {corners:.0%} of resamples put "
            "one of them at zero, where marginal costs need not be equal",
            "undecided",
        ),
        Check.of(
            "optimum within what was tried",
            best.acquisition <= tried[0] and best.retention <= tried[1],
            f"best spend per prospect {best.acquisition:,.0f}, tried up to {tried[0]:,.0f}; best spend per "
            f"customer-year {best.retention:,.0f}, tried up to {tried[1]:,.0f}",
            "undecided",
        ),
    )
    estimates = {
        f"spend_per_{name}": Estimate(float(row["value"]), float(row["ci_low"]), float(row["ci_high"]), "money", count)
        for name, row in (("prospect", rows[0]), ("customer_year", rows[1]))
    }
    details = {"free": free, "bound": bound, "curves": curves, "discount": discount_annual, "gain": gain}
    return Result(
        table,
        sentence.replace("  ", " "),
        checks=checks,
        estimates=estimates,
        draw=lambda ax: draw_split(ax, curves, free, bound, discount_annual, currency),
        alt=(
            "Map of the value of a prospect by spend on winning (horizontal) and on keeping (vertical), with "
            "contour lines; "
            f"the optimum lies at {best.acquisition:,.1f} and {best.retention:,.1f}, its resamples form a "
            "cloud around it, "
            "and present spends are marked."
        ),
        details=details,
        figsize=(7.6, 5.2),
    )


def _in_words(best: Optimum) -> str:
    if not best.corner:
        return (
            f"At the free optimum one more customer won costs {best.marginal_acquisition:,.0f}, one more kept "
            f"{best.marginal_retention:,.0f}, and a customer is worth {best.value:,.0f}: the three are equal "
            "there, while "
            f"average costs stand at {best.average_ratio:,.1f} to one. A high average ratio is no reason to move money."
        )
    name, first = (
        ("keeping", best.marginal_retention) if best.retention == 0 else ("winning", best.marginal_acquisition)
    )
    return (
        f"At the free optimum nothing is spent on {name}: there the first customer would cost {first:,.0f}, "
        "and a customer "
        f"is worth {best.value:,.0f}."
    )


def five_to_one(ratio: float = 5.0, discount_annual: float = 0.10) -> Result:
    """Show a bank at its optimum whose average costs stand at a given ratio, free and with half the budget.

    An example, not an estimate: the curves are chosen so that the best spends give exactly this ratio of average costs.

    Parameters
    ----------
    ratio : float
        Spend per win over retention spend per retained customer.
    discount_annual : float
        Annual discount rate.

    References
    ----------
    Pfeifer (2005). The optimal ratio of acquisition and retention costs. *J. Targeting* 13, 179-188.
    """
    from scipy.optimize import brentq

    kept, margin = Curve(0.9, 0.1), 80.0

    def best(log_rate: float) -> Optimum:
        return optimum(margin, Curve(0.4, float(np.exp(log_rate))), kept, discount_annual)

    if not discount_annual <= 0.3:
        raise InputError(
            f"with a discount rate of {discount_annual:.0%} this example has no inner optimum; use at most 30%"
        )
    rate = brentq(lambda v: best(v).average_ratio - ratio, np.log(0.008), np.log(1.0), xtol=1e-14)
    free = best(rate)
    won = Curve(0.4, float(np.exp(rate)))
    half = optimum(margin, won, kept, discount_annual, free.budget_used / 2)
    rows = [
        {
            "budget": name,
            "spend per prospect": o.acquisition,
            "spend per customer-year": o.retention,
            "average ratio": o.average_ratio,
            "one more won costs": o.marginal_acquisition,
            "one more kept costs": o.marginal_retention,
            "a customer is worth": o.value,
            "shadow price": o.shadow_price,
        }
        for name, o in (("free", free), ("half of that", half))
    ]
    return Result(
        pd.DataFrame(rows),
        f"In this example winning costs {free.average_ratio:.1f} times as much as keeping on average, and no "
        "money should "
        f"move: one more customer costs {free.marginal_acquisition:,.0f} either way, which is what he is "
        "worth. With half the "
        f"budget both cost {half.marginal_acquisition:,.0f}, less than the {half.value:,.0f} he is worth, and "
        "one more unit of "
        f"budget would add {half.shadow_price:.2f}.",
        counts=(),
        digits=2,
        details={"free": free, "half": half, "won": won, "kept": kept, "margin": margin},
    )


def draw_split(ax: Any, curves: pd.DataFrame, free: Optimum, bound: Optimum, discount: float, currency: str) -> Any:
    """Draw the iso-profit map of the two budgets, with the optimum, its resamples, and the present spends."""
    from crmresearch import figures

    first = curves.iloc[0]
    won = Curve(first["won_ceiling"], first["won_rate"], first["won_floor"])
    kept = Curve(first["kept_ceiling"], first["kept_rate"], first["kept_floor"])
    xs, ys = free.acquisition, free.retention
    right = max(np.quantile(xs, 0.975), first["spend_acquisition"], bound.acquisition[0]) * 1.5 or 1.0
    top = max(np.quantile(ys, 0.975), first["spend_retention"], bound.retention[0]) * 1.5 or 1.0
    x, y = np.meshgrid(np.linspace(0, right, 120), np.linspace(0, top, 120))
    z = customer_equity(x, y, first["margin"], won, kept, discount)
    levels = free.equity[0] - np.ptp(z) * np.array([0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.005])
    lines = ax.contour(x, y, z, levels=levels, colors=figures.GREY, linewidths=0.8)
    ax.clabel(lines, fmt=lambda v: f"{v:,.1f}", fontsize=7)
    ax.plot(xs[1:], ys[1:], ".", color=figures.PALETTE[0], alpha=0.25, ms=4, label="optimum in resamples")
    ax.plot(xs[0], ys[0], "o", color=figures.PALETTE[0], ms=8, label="free optimum")
    ax.plot(
        bound.acquisition[0], bound.retention[0], "s", color=figures.PALETTE[2], ms=7, label="optimum within the budget"
    )
    ax.plot(
        first["spend_acquisition"], first["spend_retention"], "X", color=figures.PALETTE[1], ms=8, label="spent now"
    )
    unit = f", {currency}" if currency else ""
    ax.set(
        xlim=(0, right),
        ylim=(0, top),
        xlabel=f"spend per prospect{unit}",
        ylabel=f"spend on offers per customer-year{unit}",
    )
    ax.set_title(f"Value of a prospect, net of all spend{unit}")
    title = f"n = {int(first['n']):,} prospects, {len(xs) - 1} resamples"
    ax.legend(loc="upper right", title=title, frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
    return ax
