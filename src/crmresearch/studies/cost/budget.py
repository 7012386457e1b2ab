"""How to split a budget between winning and keeping."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError, Missing, answered
from crmresearch.estimators.blocks import by_block, checked, resampled, unit_of
from crmresearch.estimators.inference import Estimate, from_draws, wilson
from crmresearch.estimators.spending.budget import Curve, Optimum, customer_equity, interval, optimum
from crmresearch.estimators.spending.saturation import kept_curves, won_curves
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, one_in, study
from crmresearch.rules import of_groups

say = words.of("cost.split")

MIN_RESAMPLES = 50
MISFIT = 0.02  # share of prospects by which the curve may miss there
TOP = 0.1  # share of prospects, those with the largest spends, that the curve is tested on
ENDS = ["value", "ci_low", "ci_high"]
QUANTITIES = (
    "acquisition", "retention", "marginal_acquisition", "marginal_retention", "value", "average_ratio", "shadow_price",
    "equity",
)  # fmt: skip


@answered(passing=False)
def response_curves(
    prospects: pd.DataFrame | Missing,
    campaigns: pd.DataFrame | Missing,
    upkeep: pd.DataFrame | Missing,
    response: Result,
    *,
    horizon_months: int = 12,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame | Missing:
    """Estimate both curves and the margin, and resample them together.

    Parameters
    ----------
    prospects, campaigns, upkeep : DataFrame
        As for :func:`crmresearch.studies.cost.response`, :func:`~crmresearch.studies.cost.saved` and
        :func:`~crmresearch.studies.cost.ratios` (with ``contribution``).
    response : Result
        The fitted response by channel.
    horizon_months : int
        Months after a contact; a year makes the curve that of yearly retention.
    resamples, seed : int
        Resamples of blocks of people.

    Returns
    -------
    DataFrame
        For :func:`crmresearch.studies.cost.split`; the first row is the estimate.

    Notes
    -----
    Spend on keeping is that on offers; ordinary upkeep is taken off the margin.
    """
    for part in (prospects, campaigns, upkeep, response.missing):
        if isinstance(part, Missing):
            return part
    frames = (prospects, campaigns, upkeep)
    prospects, campaigns, upkeep = (f for f in frames if isinstance(f, pd.DataFrame))
    if "contribution" not in upkeep:
        return Missing(say("no_contribution"), ("monthly",))
    drawn = campaigns[campaigns["randomised"].to_numpy(bool)]
    levels = drawn.groupby(["campaign_id", "arm"], observed=True)["cost"].mean()
    if (levels > 0).sum() < 2 or not (levels == 0).any():
        return Missing(say("no_levels"))
    blocks = unit_of(prospects, campaigns, upkeep)
    weights = np.vstack([np.ones(blocks), resampled(blocks, resamples, seed)])
    won = won_curves(prospects, response.details["fits"], weights)
    out = pd.DataFrame(won, columns=["won_floor", "won_ceiling", "won_rate"])
    out[["kept_floor", "kept_ceiling", "kept_rate"]] = kept_curves(drawn, weights, horizon_months)
    money = by_block(upkeep, "contribution", blocks) - by_block(upkeep, "retention_cost", blocks)
    offers, years = one_in(campaigns) * by_block(campaigns, "cost", blocks), by_block(upkeep, "years", blocks)
    out["margin"] = (weights @ (money + offers)) / (weights @ years)
    out["spend_acquisition"] = float(prospects["spend"].mean())
    out["spend_retention"] = float(offers.sum() / years.sum())
    # a spend counts as tried if a tenth of the people got as much; what was won in that tenth tests the curve
    spend = prospects["spend"].to_numpy(float)
    top = spend >= np.quantile(spend, 1 - TOP)
    out["most_acquisition"], out["most_retention"] = float(spend[top].min()), float(levels.max())
    out["top_predicted"] = Curve(*out[["won_ceiling", "won_rate", "won_floor"]].iloc[0])(spend[top]).mean()
    won_there = prospects["won"].to_numpy(float)[top]
    out["top_won"], out["top_low"], out["top_high"] = map(float, wilson(won_there.sum(), len(won_there)))
    if not out["margin"].iloc[0] > 0:
        return Missing(say("no_margin"))
    one = (
        of_groups(prospects, "block", "spend")
        | of_groups(campaigns, "block", "cost")
        | of_groups(upkeep, "block", "contribution", "retention_cost")
    )
    return out[out["margin"] > 0].assign(n=len(prospects), whose=one).reset_index(drop=True)


@study
def split(curves: pd.DataFrame, *, discount_annual: float = 0.08, currency: str = "") -> Result:
    """Optimal split of spend between winning and keeping, free and within what is spent now, with its interval.

    Parameters
    ----------
    curves : DataFrame
        First row the estimates, further rows resamples of them: ``margin`` (money a year), ``won_floor``,
        ``won_ceiling``, ``won_rate``, ``kept_floor``, ``kept_ceiling``, ``kept_rate``; ``spend_acquisition`` and
        ``spend_retention`` (what is spent now), ``most_acquisition`` and ``most_retention`` (the largest spends
        tried), ``top_predicted``, ``top_won``, ``top_low`` and ``top_high`` (share won in the tenth with the largest
        spends, by the curve and as it was, with its interval), ``n``.
    discount_annual : float
        Annual discount rate.
    currency : str
        For labels.

    Raises
    ------
    InputError
        If columns are missing or there are fewer than 50 resamples.
    """
    names = ("margin", "won_floor", "won_ceiling", "won_rate", "kept_floor", "kept_ceiling", "kept_rate")
    spends = [f"{which}_{side}" for which in ("spend", "most") for side in ("acquisition", "retention")]
    tested = [f"top_{end}" for end in ("predicted", "won", "low", "high")]
    checked(curves, (*names, *spends, *tested, "n"), what="curves")
    if len(curves) <= MIN_RESAMPLES:
        raise InputError(say("few", count=len(curves) - 1, least=MIN_RESAMPLES))
    c = {str(name): curves[name].to_numpy(float) for name in curves if name != "whose"}
    won = Curve(c["won_ceiling"], c["won_rate"], c["won_floor"])
    kept = Curve(c["kept_ceiling"], c["kept_rate"], c["kept_floor"])
    spent = c["spend_acquisition"], c["spend_retention"]
    used = spent[0] + won(spent[0]) * spent[1] / (1 + discount_annual - kept(spent[1]))
    free = optimum(c["margin"], won, kept, discount_annual)
    bound = optimum(c["margin"], won, kept, discount_annual, used)
    now = customer_equity(*spent, c["margin"], won, kept, discount_annual)
    tried = c["most_acquisition"][0], c["most_retention"][0]
    labels, n = say.names("quantities"), int(c["n"][0])
    parts, sentences = [], []
    for name, found in (("within", bound), ("free", free)):  # the free one last: gates and estimates are of it
        one = Optimum(**{f.name: getattr(found, f.name)[0] for f in fields(found)})
        inside = one.acquisition <= tried[0] and one.retention <= tried[1]
        rows = [(labels[q], getattr(one, q), *interval(getattr(found, q)[1:])) for q in QUANTITIES]
        part = pd.DataFrame(rows, columns=["quantity", *ENDS])
        part.insert(0, "optimum", say("within") if name == "within" else say("free"))
        parts.append(part.assign(rests_on=say("data") if inside else say("beyond"), n=n))
        gains = found.equity - now
        gain = Estimate(float(gains[0]), *from_draws(gains[1:])[1:], currency, n)
        sentences.append(_told(name, one, part.set_index("quantity"), gain, tried, spent[0][0], inside))
    table = safe(pd.concat(parts, ignore_index=True).assign(whose=curves["whose"].iloc[0]), parts=False)
    off, low, high = (float(c[f"top_{end}"][0] - c["top_predicted"][0]) for end in ("won", "low", "high"))
    best = zip(("spend_per_prospect", "spend_per_customer_year"), part.iloc[:2][ENDS].to_numpy(float), strict=True)
    return Result(
        table,
        words.joined(sentences, by=" "),
        checks=(
            gate(say, "inner", not one.corner, best=one, corners=free.corner[1:].mean()),
            gate(say, "tried", inside, best=one, tried=tried),
            gate(say, "fits", Deviation(off, low, high, limit=MISFIT)),
        ),
        estimates={name: Estimate(value, low, high, "money", n) for name, (value, low, high) in best},
        picture=_map(c, free, bound, inside, discount_annual),
        money=["value"],
        details={"gain": gains[0]},
    )


def _told(
    name: str, one: Optimum, rows: pd.DataFrame, gain: Estimate, tried: tuple[float, float], now: float, inside: bool
) -> str:
    """Say one optimum: what holds at it, what it adds, and whether it lies within what was tried."""
    labels = say.names("quantities")
    winning, keeping, shadow = (rows.loc[labels[q]] for q in ("acquisition", "retention", "shadow_price"))
    if name == "within":
        ends = say("corner", best=one) if one.corner else say("agree", best=one)
        return say("budget", winning=winning, keeping=keeping, ends=ends, shadow=shadow, gain=gain)
    holds = say("inside", best=one)
    if one.corner:
        holds = say("no_keeping", best=one) if one.retention == 0 else say("no_winning", best=one)
    where = say("tried_to") if inside else say("extrapolated", tried=tried)
    times = one.acquisition / now if now else np.inf
    return say("unbound", winning=winning, times=times, where=where, holds=holds, gain=gain)


def _map(c: dict[str, Any], free: Optimum, bound: Optimum, inside: bool, discount: float) -> Picture:
    """Iso-profit map of the two budgets, with the optimum, its resamples, and the present spends."""
    won = Curve(c["won_ceiling"][0], c["won_rate"][0], c["won_floor"][0])
    kept = Curve(c["kept_ceiling"][0], c["kept_rate"][0], c["kept_floor"][0])
    now, most = (tuple(c[f"{k}_{s}"][0] for s in ("acquisition", "retention")) for k in ("spend", "most"))
    right = max(np.quantile(free.acquisition, 0.975), now[0], bound.acquisition[0]) * 1.5 or 1.0
    top = max(np.quantile(free.retention, 0.975), now[1], bound.retention[0]) * 1.5 or 1.0
    x, y = np.meshgrid(np.linspace(0, right, 120), np.linspace(0, top, 120))
    equity = customer_equity(x, y, c["margin"][0], won, kept, discount)
    steps = np.ptp(equity) * np.array([0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.005])
    levels = np.unique(np.round(free.equity[0] - steps, max(0, -int(np.floor(np.log10(steps[-1] or 1.0))))))
    cloud = pd.DataFrame({"x": free.acquisition[1:], "y": free.retention[1:], "group": say("resamples"), "pale": True})
    points = [
        (free.acquisition[0], free.retention[0], say("free_optimum") if inside else say("free_beyond"), False),
        (bound.acquisition[0], bound.retention[0], say("bound_optimum"), False),
        (*now, say("now"), False),
    ]
    data = pd.concat([cloud, pd.DataFrame(points, columns=cloud.columns)], ignore_index=True).assign(n=c["n"][0])
    edge = [Mark(most[0], say("edge"), "limit")] if most[0] < right else []
    edge += [Mark(most[1], say("edge"), "limit", "y")] if most[1] < top else []
    options = {
        "marks": edge,
        "contours": {"x": x, "y": y, "z": equity, "levels": levels},
        "xlim": (0, right),
        "ylim": (0, top),
        "unit": "money",
        "x_unit": "money",
        "legend": say("legend", n=int(c["n"][0]), count=len(free.equity) - 1),
    }
    title = say("title", acquisition=bound.acquisition[0], retention=bound.retention[0])
    return Picture("scatter", data, title, say("x"), say("y"), options, (7.6, 5.2))


def five_to_one() -> Result:
    """Show a bank at its optimum whose average costs stand at five to one, free and with half the budget.

    An example, not an estimate: the curves are chosen so that the best spends give exactly this ratio of spend per win
    over retention spend per retained customer.

    References
    ----------
    Pfeifer (2005). The optimal ratio of acquisition and retention costs. *J. Targeting* 13, 179-188.
    """
    from scipy.optimize import brentq

    kept, margin, discount = Curve(0.9, 0.1), 80.0, 0.10

    def best(log_rate: float) -> Optimum:
        return optimum(margin, Curve(0.4, float(np.exp(log_rate))), kept, discount)

    rate = brentq(lambda v: best(v).average_ratio - 5, np.log(0.008), np.log(1.0), xtol=1e-14)
    free = best(rate)
    half = optimum(margin, Curve(0.4, float(np.exp(rate))), kept, discount, free.budget_used / 2)
    table = pd.DataFrame(
        [
            {"budget": name, **{label: getattr(o, field) for field, label in say.names("example.columns").items()}}
            for name, o in ((say("example.free"), free), (say("example.half"), half))
        ]
    )
    details = {"free": free, "half": half}
    return Result(table, say("example.sentence", free=free, half=half), counts=(), digits=2, details=details)
