"""What losing a customer costs, what a point of retention is worth, and when a win has paid for itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.blocks import Functional, checked, constant, per, unit_of
from crmresearch.estimators.spending import tenure as lives
from crmresearch.estimators.spending.retention import customer_value, estimated_elasticities, point_gain, relative_gain
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import of_groups
from crmresearch.studies.cost.common import enough_wins, need_dated, need_spend, of, ratio_row, row, wins_gate

say = words.of("cost.losing")

POINT, FIVE = 0.01, 0.05  # of the retention rate
QUOTED = 0.85  # gain in profit from five points of retention, as quoted


@study
def payback(
    acquisition: pd.DataFrame,
    tenure: pd.DataFrame,
    *,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    currency: str = "",
) -> Result:
    """Months until a won customer has paid back the cost of winning, and what those cost who leave before.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``n``, ``spend``, ``won``.
    tenure : DataFrame
        ``block``, ``tenure_month``, ``months``, ``exits``, ``contribution`` (money).
    horizon_months : int
        Longest tenure looked at.
    discount_annual : float
        Annual discount rate.
    currency : str
        For labels.
    """
    checked(acquisition, ("block", "n", "spend", "won"), ("spend", "won"), "acquisition")
    need_dated(tenure, "contribution")
    checked(tenure, ("block", "tenure_month", "months", "exits", "contribution"), what="tenure")
    wins = enough_wins(acquisition)
    need_spend(acquisition)
    found = lives.payback(acquisition, tenure, horizon_months, discount_annual)
    if not found.months:
        raise NotApplicable(say("no_curve"))
    rows = [
        row(say("payback.won"), *of(found.won)),
        row(say("payback.counted"), *found.counted),
        row(say("payback.staying"), *found.staying),
    ]
    when = [f"{m:.0f}" if np.isfinite(m) else say("payback.longer", months=found.months) for m in found.counted]
    sentence = say("payback.sentence", when=when)
    if found.gone and found.loss:
        rows += [row(say("payback.gone"), *found.gone), row(say("payback.loss"), *found.loss)]
        sentence += say("payback.leavers", found=found, money=f" {currency}".rstrip())
    curve = found.curve.rename(columns={"month": "x", "net": "y"}).assign(group=say("payback.label", wins=wins), n=wins)
    options = {"unit": "money", "marks": [Mark(0, axis="y")]}
    paid = np.isfinite(found.counted[0])
    title = say("payback.title", months=found.counted[0]) if paid else say("payback.title_longer", months=found.months)
    return Result(
        pd.DataFrame(rows).assign(
            n=wins, whose=of_groups(acquisition, "block", "spend") | of_groups(tenure, "block", "contribution")
        ),
        sentence + words.local("."),
        picture=Picture("curves", curve, title, say("payback.x"), say("payback.y"), options),
        money=["value"],
        details={"won": found.won},
    )


@study
def replacement(
    acquisition: pd.DataFrame,
    tenure: pd.DataFrame,
    *,
    ramp_months: int = 24,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    currency: str = "",
) -> Result:
    """Cost of replacing a lost customer: acquisition + ramp-up loss - saved service cost, survival-weighted.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``n``, ``spend``, ``won``.
    tenure : DataFrame
        One row per block and tenure month: ``block``, ``tenure_month``, ``months``, ``exits``, ``revenue``
        (interest and fees less risk cost) and ``service_cost``, money.
    ramp_months : int
        Tenure from which a customer counts as established.
    horizon_months : int
        Months of tenure over which the new customer is compared with an established one.
    discount_annual : float
        Annual discount rate.
    currency : str
        For the sentence.

    Returns
    -------
    Result
        The three parts and their sum, estimate ``S41``.

    Notes
    -----
    Levels by tenure compare different customers, not one customer over time: those who stayed long may always have been
    better.
    """
    checked(acquisition, ("block", "n", "spend", "won"), ("spend", "won"), "acquisition")
    need_dated(tenure, "revenue", "service_cost")
    checked(
        tenure, ("block", "tenure_month", "months", "exits", "revenue", "service_cost"), ("service_cost",), "tenure"
    )
    wins = enough_wins(acquisition)
    need_spend(acquisition)
    old = tenure[tenure["tenure_month"] >= ramp_months]
    if old["months"].sum() < lives.MIN_AT_RISK or horizon_months < ramp_months:
        raise NotApplicable(say("replacement.no_old", least=lives.MIN_AT_RISK, ramp=ramp_months))
    found = lives.replacement(acquisition, tenure, ramp_months, horizon_months, discount_annual)
    if not found.months:
        raise NotApplicable(say("no_curve"))
    parts = dict(
        zip(say.names("replacement.parts").values(), (found.won, found.ramp, found.service, found.total), strict=True)
    )
    rows = [{"part": name, "money": f.value, "ci_low": f.low, "ci_high": f.high} for name, f in parts.items()]
    one = of_groups(acquisition, "block", "spend") | of_groups(tenure, "block", "revenue", "service_cost")
    table = safe(pd.DataFrame(rows).assign(n=wins, whose=one), parts=False)
    estimate, spared = found.total.estimate(say("replacement.unit"), wins), found.service.value
    saving = say("replacement.less", money=spared) if spared > 0 else say("replacement.more", money=abs(spared))
    return Result(
        table,
        say(
            "replacement.sentence", total=estimate, won=found.won, ramp=found.ramp, saving=saving,
            months=found.months, currency=currency,
        ),
        checks=(
            wins_gate(wins),
            gate(say, "replacement.seen", found.months >= ramp_months, months=found.months,
                 horizon=horizon_months, ramp=ramp_months),
        ),
        estimates={"S41": estimate},
        picture=_waterfall(table, wins),
        money=["money"],
        digits=0,
        details={"parts": parts},
    )  # fmt: skip


def _waterfall(table: pd.DataFrame, wins: int) -> Picture:
    """Bars of the parts of replacement cost and of their sum; service cost counts the other way."""
    sign = np.array([1.0, 1.0, -1.0, 1.0])
    ends = np.sort(np.column_stack([sign * table["ci_low"], sign * table["ci_high"]]), axis=1)
    data = pd.DataFrame({"label": table["part"], "estimate": sign * table["money"], "low": ends[:, 0]})
    data = data.assign(high=ends[:, 1], base=0.0, strong=np.arange(4) == 3, n=wins)
    data.loc[2, "label"] = say("replacement.added")
    options = {"unit": "money", "marks": [Mark(0)]}
    return Picture(
        "intervals", data, say("replacement.title", total=table.iloc[-1]), say("replacement.x", wins=wins), "", options
    )


@study
def retention_point(
    tenure: pd.DataFrame,
    saved: Result | None = None,
    *,
    discount_annual: float = 0.08,
    acquisition_cost: float | Result = 0.0,
    currency: str = "",
) -> Result:
    """Value of one point of yearly retention beside what the point costs, and the elasticities.

    Parameters
    ----------
    tenure : DataFrame
        ``block``, ``years``, ``exits``, ``contribution`` (money), ``entered`` (customers whose exposure starts there).
    saved : Result, optional
        From :func:`saved`: the cost of a point is that of keeping a customer, times one in a hundred.
    discount_annual : float
        Annual discount rate.
    acquisition_cost : float or Result
        Cost per win, taken as known, or what :func:`ratios` returned, whose error is then carried into
        the elasticities, which are net of it; left out if a customer's value does not cover it.
    currency : str
        For the sentence.

    Notes
    -----
    Break-even is V(r + .01) - V(r) with V = m (1+d) / (1+d-r): what may be spent once per customer for a lasting point.
    The yearly figure spreads it over the customer's discounted life. Constant margin and retention are assumed.
    """
    need_dated(tenure, "contribution")
    checked(tenure, ("block", "years", "exits", "contribution", "entered"), ("years", "exits"), "tenure")
    win: Any = acquisition_cost
    if isinstance(win, Result):
        win = win.details.get("cost_per_win", 0.0)
    if not isinstance(win, Functional):
        win = constant(float(win), unit_of(tenure))
    blocks = max(unit_of(tenure), len(win.influence))
    hazard, margin = per(tenure, "exits", "years", blocks), per(tenure, "contribution", "years", blocks)
    kept, d = float(np.exp(-hazard.value)), discount_annual
    if not margin.value > 0:
        raise NotApplicable(say("point.loses"))
    if kept + POINT >= 1:
        raise NotApplicable(say("point.full", kept=kept))
    gain = point_gain(margin, hazard, d, POINT)
    yearly = (1 + d - kept) / (1 + d) * gain  # level payment per year with the same present value
    if not win.value < customer_value(margin.value, kept, d, "residual"):
        win = constant(0.0, blocks)
    interval = float(np.exp(-hazard.high)), float(np.exp(-hazard.low))
    rows = [
        row(say("point.kept"), kept, *interval),
        row(say("point.margin"), *of(margin)),
        row(say("point.gain"), *of(gain)),
        row(say("point.yearly"), *of(yearly)),
    ]
    price = say("point.no_price")
    if isinstance(saved, Result) and saved.applicable:
        rows.append(ratio_row(say("point.cost"), POINT * saved.details["spend"], saved.details["kept"]))
        price = say("point.price", row=rows[-1])
    share = estimated_elasticities(margin, hazard, win, d)
    rows += [row(say("point.elasticity", name=name.replace("_", " ")), *of(f)) for name, f in share.items()]
    table = pd.DataFrame(rows).drop(columns="set", errors="ignore")
    return Result(
        table.assign(n=int(tenure["entered"].sum()), whose=of_groups(tenure, "block", "contribution")),
        say("point.sentence", kept=kept, yearly=yearly, currency=currency, price=price, share=share["retention"]),
        money=["value"],
        details={
            "retention": kept,
            "retention_interval": interval,
            "gain": gain,
            "value": float(customer_value(margin.value, kept, d)),
        },
    )


@study
def five_points(retention: float | Result, discount: float) -> Result:
    """Test the sentence "five points more retention give 85% more profit" in the constant-margin model.

    Parameters
    ----------
    retention : float or Result
        Present share retained a year, or what :func:`retention_point` returned.
    discount : float
        Annual discount rate.

    Raises
    ------
    InputError
        If the rate would pass 1.

    References
    ----------
    Reichheld, Sasser (1990). Zero defections. *Harvard Business Review* 68(5), 105-111.
    """
    ends: tuple[float, ...] = ()
    if isinstance(retention, Result):
        if retention.missing is not None:
            return retention
        ends, retention = retention.details["retention_interval"], float(retention.details["retention"])
    if not 0 < retention + FIVE <= 1:
        raise InputError(say("five.beyond", points=FIVE, retention=retention))
    # every gain rises with the rate, so that the ends of its interval are those of the gain; a given rate has none
    at = np.minimum([retention, *ends], 1 - FIVE)
    gains = {
        say("five.first"): relative_gain(at, FIVE, discount, "at once"),
        say("five.later"): relative_gain(at, FIVE, discount, "residual"),
    }
    if at.max() + FIVE < 1:
        gains[say("five.lifetime")] = relative_gain(at, FIVE)
    names = ("gain", "ci_low", "ci_high")
    table = pd.DataFrame(
        [
            {"model": model, "discounted": k < 2, **dict(zip(names, gain, strict=False))}
            for k, (model, gain) in enumerate(gains.items())
        ]
    )
    low, high = table["gain"][:2].min(), table["gain"][:2].max()
    return Result(
        table,
        say("five.sentence", retention=retention, points=FIVE * 100, low=low, high=high)
        + (say("five.inside", quoted=QUOTED) if low <= QUOTED <= high else say("five.outside", quoted=QUOTED))
        + (say("five.undiscounted", gain=table["gain"][2]) if len(table) > 2 else words.local(".")),
        counts=(),
    )
