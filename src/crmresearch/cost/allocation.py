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
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import FitError, InputError
from crmresearch.result import Check, Result, study

__all__ = ["Curve", "Optimum", "customer_equity", "five_to_one", "optimum", "split"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A saturating response to spend.

    Parameters
    ----------
    ceiling : float
        Share reached with unlimited spend, at most 1.
    rate : float
        Speed of saturation, per unit of money.
    floor : float
        Share without any spend.
    """

    ceiling: float
    rate: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.floor < self.ceiling <= 1 and self.rate > 0):
            raise InputError(
                f"a response curve needs 0 <= floor < ceiling <= 1 and a positive rate, not floor {self.floor:g}, "
                f"ceiling {self.ceiling:g}, rate {self.rate:g}"
            )

    def __call__(self, spend: Any) -> Any:
        """Share at a level of spend."""
        return self.ceiling - (self.ceiling - self.floor) * np.exp(-self.rate * np.asarray(spend, float))

    def slope(self, spend: Any) -> Any:
        """Share gained for one more unit of money."""
        return (self.ceiling - self.floor) * self.rate * np.exp(-self.rate * np.asarray(spend, float))


@dataclass(frozen=True)
class Optimum:
    """Best spends and what they mean; money per prospect, and per customer and year.

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

    acquisition: float
    retention: float
    equity: float
    value: float
    marginal_acquisition: float
    marginal_retention: float
    shadow_price: float
    average_ratio: float
    budget_used: float
    corner: bool


def customer_equity(acquisition: Any, retention: Any, margin: float, won: Curve, kept: Curve, discount: float) -> Any:
    """Return the value of a prospect, net of all spend (arrays broadcast)."""
    r = kept(retention)
    value = margin + (margin * r - np.asarray(retention, float)) / (1 + discount - r)
    return won(acquisition) * value - np.asarray(acquisition, float)


def _best_retention(margin: float, kept: Curve, discount: float, price: float) -> float:
    """Spend that makes the last retained customer cost G / price - k (see :func:`optimum`); 0 if none is worth it."""
    from scipy.optimize import brentq

    def gap(spend: float) -> float:
        r = float(kept(spend))
        worth = (margin * (1 + discount) / price - spend) / (1 + discount - r)
        return worth * float(kept.slope(spend)) - 1

    if gap(0.0) <= 0:
        return 0.0
    top = margin * (1 + discount) / price  # spending more than this on a customer a year always loses
    return float(brentq(gap, 0.0, top, xtol=1e-12, rtol=1e-14))


def _spends(margin: float, won: Curve, kept: Curve, discount: float, price: float) -> tuple[float, float, float]:
    """Best spends, and the present value of all spend, at a price of budget (1 + shadow price)."""
    retention = _best_retention(margin, kept, discount, price)
    r = float(kept(retention))
    gross = margin * (1 + discount) / (1 + discount - r)
    upkeep = retention / (1 + discount - r)
    worth = gross / price - upkeep
    first = float(won.slope(0.0)) * worth
    acquisition = float(np.log(first) / won.rate) if first > 1 else 0.0
    return acquisition, retention, acquisition + float(won(acquisition)) * upkeep


def optimum(margin: float, won: Curve, kept: Curve, discount: float, budget: float | None = None) -> Optimum:
    """Best split between winning and keeping, free or within a budget.

    Parameters
    ----------
    margin : float
        Contribution per customer and year before retention spend, money.
    won, kept : Curve
        Share of prospects won by spend per prospect; share of customers retained a year by spend per customer-year.
    discount : float
        Annual discount rate.
    budget : float, optional
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
    if not (margin > 0 and discount > 0):
        raise InputError(f"the optimum needs a positive margin and discount rate, not {margin:g} and {discount:g}")
    if budget is not None and not budget >= 0:
        raise InputError(f"a budget cannot be negative ({budget:g})")
    price = 1.0
    acquisition, retention, used = _spends(margin, won, kept, discount, price)
    if budget is not None and used > budget:
        from scipy.optimize import brentq

        top = 2.0
        while _spends(margin, won, kept, discount, top)[2] > budget:
            top *= 2
            if top > 1e12:
                raise FitError(f"no spends use a budget of {budget:g} per prospect; it is too small to price")
        price = float(brentq(lambda p: _spends(margin, won, kept, discount, p)[2] - budget, 1.0, top, xtol=1e-13))
        acquisition, retention, used = _spends(margin, won, kept, discount, price)
    r, a = float(kept(retention)), float(won(acquisition))
    value = margin + (margin * r - retention) / (1 + discount - r)
    spend_ratio = acquisition / a / (retention / r) if retention > 0 and a > 0 else np.inf
    return Optimum(
        acquisition,
        retention,
        float(customer_equity(acquisition, retention, margin, won, kept, discount)),
        value,
        1 / float(won.slope(acquisition)),
        1 / float(kept.slope(retention)),
        price - 1,
        spend_ratio,
        used,
        acquisition == 0 or retention == 0,
    )


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
        ``spend_retention`` (what is spent now), ``most_acquisition`` (the largest spend tried), ``n``.
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
    from crmresearch.cost.ratio import checked

    names = ("margin", "won_floor", "won_ceiling", "won_rate", "kept_floor", "kept_ceiling", "kept_rate")
    checked(curves, (*names, "spend_acquisition", "most_acquisition", "spend_retention", "n"), what="curves")
    if len(curves) < 51:
        raise InputError(f"{len(curves) - 1} resamples of the curves; the interval of the optimum needs 50")
    free, bound, now = [], [], []
    for row in curves.to_dict("records"):
        won = Curve(row["won_ceiling"], row["won_rate"], row["won_floor"])
        kept = Curve(row["kept_ceiling"], row["kept_rate"], row["kept_floor"])
        rest = 1 + discount_annual - float(kept(row["spend_retention"]))
        used = row["spend_acquisition"] + float(won(row["spend_acquisition"])) * row["spend_retention"] / rest
        free.append(optimum(row["margin"], won, kept, discount_annual))
        bound.append(optimum(row["margin"], won, kept, discount_annual, used if budget is None else budget))
        present = customer_equity(
            row["spend_acquisition"], row["spend_retention"], row["margin"], won, kept, discount_annual
        )
        now.append(float(present))
    rows = []
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
            values = np.array([getattr(o, field) for o in found])
            low, high = np.quantile(values[1:], [0.025, 0.975], method="closest_observation")  # values may be infinite
            rows.append({"optimum": name, "quantity": words, "value": values[0], "ci_low": low, "ci_high": high})
    table = pd.DataFrame(rows).assign(n=int(curves["n"].iloc[0]))
    corners = float(np.mean([o.corner for o in free[1:]]))
    best = free[0]
    gain = best.equity - now[0]
    low_gain, high_gain = np.quantile([o.equity - x for o, x in zip(free[1:], now[1:], strict=True)], [0.025, 0.975])
    sentence = (
        f"{_in_words(best)} Against present spends the optimum adds {gain:,.2f} [{low_gain:,.2f}, {high_gain:,.2f}] "
        f"{currency} per prospect."
    )
    seen = float(curves["most_acquisition"].iloc[0])
    details = {"free": free, "bound": bound, "curves": curves, "discount": discount_annual, "gain": gain}
    return Result(
        table,
        sentence.replace("  ", " "),
        checks=(
            Check.of("inner optimum", corners < 0.05, f"{corners:.0%} of resamples put one spend at zero", "undecided"),
            Check.of(
                "optimum within what was tried",
                best.acquisition <= seen,
                f"best spend per prospect {best.acquisition:,.0f}; 98% of prospects had at most {seen:,.0f}",
                "undecided",
            ),
        ),
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


def draw_split(
    ax: Any, curves: pd.DataFrame, free: list[Optimum], bound: list[Optimum], discount: float, currency: str
) -> Any:
    """Draw the iso-profit map of the two budgets, with the optimum, its resamples, and the present spends."""
    from crmresearch import figures

    first = curves.iloc[0]
    won = Curve(first["won_ceiling"], first["won_rate"], first["won_floor"])
    kept = Curve(first["kept_ceiling"], first["kept_rate"], first["kept_floor"])
    best = free[0]
    xs = np.array([o.acquisition for o in free])
    ys = np.array([o.retention for o in free])
    right = max(np.quantile(xs, 0.975), first["spend_acquisition"], bound[0].acquisition) * 1.5 or 1.0
    top = max(np.quantile(ys, 0.975), first["spend_retention"], bound[0].retention) * 1.5 or 1.0
    x, y = np.meshgrid(np.linspace(0, right, 120), np.linspace(0, top, 120))
    z = customer_equity(x, y, first["margin"], won, kept, discount)
    levels = best.equity - np.ptp(z) * np.array([0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.005])
    lines = ax.contour(x, y, z, levels=levels, colors=figures.GREY, linewidths=0.8)
    ax.clabel(lines, fmt=lambda v: f"{v:,.1f}", fontsize=7)
    ax.plot(xs[1:], ys[1:], ".", color=figures.PALETTE[0], alpha=0.25, ms=4, label="optimum in resamples")
    ax.plot(best.acquisition, best.retention, "o", color=figures.PALETTE[0], ms=8, label="free optimum")
    ax.plot(
        bound[0].acquisition, bound[0].retention, "s", color=figures.PALETTE[2], ms=7, label="optimum within the budget"
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
    ax.legend(loc="upper right", title=f"n = {int(first['n']):,}")
    return ax
