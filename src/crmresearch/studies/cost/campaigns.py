"""What keeping costs: exits prevented by a randomised and by a targeted campaign, and money per customer saved.

"Saved" is always a difference between offered customers and comparable ones without the offer; customers who were
offered something and stayed are not thereby saved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.blocks import Array, Functional, checked, constant, unit_of
from crmresearch.estimators.causal.aipw import MIN_ARM, aipw, tipping
from crmresearch.estimators.causal.campaign import NEEDED, covariates_of, difference, drawn, path, within
from crmresearch.estimators.inference import Fieller, wilson, z
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import balanced
from crmresearch.result import Result, gate, study
from crmresearch.rules import whose
from crmresearch.studies.cost.common import of, ratio_row, row, written

say = words.of("cost.saved")
tell = words.of("cost.targeted")

EDGE = 0.05  # estimated chance of an offer below which, or above one less which, few comparable customers exist
MOST_AT_EDGE = 0.10  # share of customers there that closes the overlap gate
MIN_LEFT = 10  # exits an arm needs


@study
def saved(campaigns: pd.DataFrame, *, horizon_months: int = 12, currency: str = "") -> Result:
    """Exits prevented by randomised offers, and what a customer and a customer-year saved cost (intention to treat).

    Parameters
    ----------
    campaigns : DataFrame
        One row per eligible customer and campaign: ``block``, ``campaign_id``, ``arm``, ``treated`` (0/1),
        ``randomised``, ``cost`` (money, of the campaign), ``left`` (whether the customer left while followed),
        ``months`` (until leaving or the end of follow-up, at least the horizon for those who stayed); ``responded``
        (0/1) if recorded.
    horizon_months : int
        Months after the contact.
    currency : str
        For labels.

    Returns
    -------
    Result
        Estimate ``S42``: exit incidence at the horizon, offered less control. ``details``: ``kept``, ``years``
        (customer-years per head), ``spend`` (money per head), all offered less control.

    Raises
    ------
    InputError
        If columns are missing, costs are negative, or follow-up is shorter than the horizon.

    Notes
    -----
    Money per customer saved is spend over exits prevented, with Fieller's set. The complier effect divides by the share
    who took the offer up; it needs the offer to do nothing to those who did not. Deferral: the share of the effect
    at the horizon still there at twice the horizon.
    """
    rows = drawn(campaigns, single=True)
    short = ~rows["left"].to_numpy(bool) & (rows["months"].to_numpy(float) < horizon_months - 1e-9)
    if short.any():
        raise InputError(say("short", count=int(short.sum()), months=horizon_months))
    blocks, n = unit_of(campaigns), len(rows)
    left, years = within(rows, horizon_months)
    t = rows["treated"].to_numpy(bool)
    exits, stay = difference(rows, left, blocks), difference(rows, years, blocks)
    spend, kept = difference(rows, rows["cost"].to_numpy(float), blocks), -1.0 * exits
    arms = {True: wilson(left[t].sum(), t.sum()), False: wilson(left[~t].sum(), (~t).sum())}
    each, priced = ratio_row(say("per_customer"), spend, kept), bool(rows["cost"].any())
    found = [
        row(say("offered"), *arms[True]),
        row(say("control"), *arms[False]),
        row(say("difference"), *of(exits)),
        row(say("years"), *of(stay, 100)),
    ]
    if priced:
        found += [row(say("spend"), *of(spend)), each, ratio_row(say("per_year"), spend, stay)]
    if "responded" in rows and rows["responded"].notna().any() and rows.loc[t, "responded"].astype(float).sum() > 0:
        took = difference(rows, rows["responded"].fillna(0).to_numpy(float), blocks)
        found += [row(say("took"), *of(took)), ratio_row(say("complier"), exits, took)]
    for r in found:
        r.setdefault("set", written(Fieller("bounded", r["ci_low"], r["ci_high"]), ",.4g"))
    curve = path(rows, horizon_months)
    late = curve[curve["month"] == 2 * horizon_months]
    deferral = ""
    if len(late):
        deferral = say("late", months=2 * horizon_months, points=100 * late.iloc[0][["kept", "low", "high"]])
    # an offer that may as well lose customers has no price for one saved
    some = 0 < each["ci_low"] < np.inf
    price = say("cost" if some else "no_cost", row=each, currency=currency) if priced else say("unpriced")
    sentence = words.joined(
        [
            say("sentence", offered=arms[True][0], control=arms[False][0], months=horizon_months, points=100.0 * exits),
            price.replace(" .", "."),
            deferral,
        ],
        by=" ",
    )
    events = int(min(left[t].sum(), left[~t].sum()))
    return Result(
        pd.DataFrame(found).assign(n=n, whose=whose(rows["cost"])),
        sentence,
        checks=(gate(say, "exits", events >= MIN_LEFT, events=events, least=MIN_LEFT), balanced(rows)),
        estimates={"S42": exits.estimate(say("unit"), n)},
        picture=_kept(curve, n, horizon_months, exits),
        money=["value"],
        details={"kept": kept, "years": stay, "spend": spend, "blocks": blocks, "horizon_months": horizon_months},
    )


def _kept(curve: pd.DataFrame, n: int, horizon_months: int, exits: Functional) -> Picture:
    """Customers kept by the offer, month by month."""
    data = curve.rename(columns={"month": "x", "kept": "y"}).assign(group=say("label", n=n), n=n)
    marks = [Mark(0, axis="y"), Mark(horizon_months, say("mark", horizon=horizon_months), "limit")]
    title = say("title", kept=-1.0 * exits, horizon=horizon_months) if exits.high < 0 else say("title_open")
    title = say("title_lost", horizon=horizon_months) if exits.low > 0 else title
    return Picture("curves", data, title, say("x"), say("y"), {"unit": "percent", "marks": marks})


@study
def targeted(campaigns: pd.DataFrame, *, horizon_months: int = 12, currency: str = "") -> Result:
    """Effect of a campaign that was aimed, not drawn: weighting and doubly robust, with overlap gate and sensitivity.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`saved`, with the customers who could have been contacted and were not, and columns ``x_...`` known
        before the contact.
    horizon_months : int
        Months after the contact.
    currency : str
        For labels.

    Returns
    -------
    Result
        Exit incidence, offered less comparable others: plain difference, weighting, regression, doubly robust. Its
        verdict can only be read with the declared assumption that nothing unseen steered the offers.

    Raises
    ------
    InputError
        If columns are missing.
    """
    checked(campaigns, NEEDED, ("cost", "months"), "campaigns")
    rows = campaigns[~campaigns["randomised"].to_numpy(bool)]
    names = covariates_of(campaigns)
    if rows.empty or rows["treated"].nunique() < 2:
        raise NotApplicable(tell("none"), "contacts")
    if not names:
        raise NotApplicable(tell("unknown"), "customers")
    if rows["treated"].value_counts().min() < MIN_ARM:
        raise NotApplicable(tell("small", least=MIN_ARM))
    blocks, n = unit_of(campaigns), len(rows)
    left, years = within(rows, horizon_months)
    if not left.any():
        raise NotApplicable(tell("nobody", n=n, months=horizon_months), "customers")
    fit, stay = aipw(rows, left, names, blocks), aipw(rows, years, names, blocks)
    t = rows["treated"].to_numpy(float)
    spend = constant(float(rows["cost"].to_numpy(float)[t == 1].mean()), blocks)
    naive = difference(rows.assign(campaign_id=0), left, blocks)
    table = pd.DataFrame(
        [
            row(tell("naive"), *of(naive)),
            row(tell("weighting"), *of(fit.weighted)),
            row(tell("regression"), *of(fit.regressed)),
            row(tell("eligible"), *of(fit.effect)),
            row(tell("offered"), *of(fit.effect_treated)),
            *([ratio_row(tell("per_customer"), spend, -1.0 * fit.effect_treated)] if spend.value else []),
            row(tell("years"), *of(stay.effect_treated, 100)),
        ]
    ).drop(columns="set", errors="ignore")
    calmed, said = _calmed(rows, horizon_months)
    edge = float(((fit.propensity < EDGE) | (fit.propensity > 1 - EDGE)).mean())
    rare = Deviation(*wilson(edge * n, n), limit=MOST_AT_EDGE)
    # the sign is lost where the bounds, widened by the sampling error of one side, reach zero
    tip = tipping(t, left, fit.propensity, fit.effect.se * z(0.90), np.sign(fit.effect.value))
    sentence = tell("sentence", naive=100 * fit.naive, effect=100.0 * fit.effect)
    sentence += tell("no_overlap") if rare.closed else "."
    return Result(
        pd.concat([table.assign(n=n), calmed], ignore_index=True).assign(whose=whose(rows["cost"])),
        words.joined([sentence, said], by=" "),
        checks=(gate(tell, "overlap", rare, low=EDGE, high=1 - EDGE), gate(tell, "unseen", None, tip=tip)),
        estimates={"targeted": fit.effect.estimate(say("unit"), n)},
        picture=_chances(t, fit.propensity, tell("title_closed" if rare.closed else "title", edge=edge)),
        money=["value"],
        digits=4,
    )


def _calmed(rows: pd.DataFrame, horizon_months: int) -> tuple[pd.DataFrame, str]:
    """Regression to the mean: how many of those who complained and got no offer complain again a horizon later."""
    if not {"x_complaint", "complaint_after"} <= set(rows.columns):
        return pd.DataFrame(), ""
    there = (rows["months"].to_numpy(float) >= horizon_months) & (rows["x_complaint"].to_numpy(float) > 0)
    out: list[dict[str, Any]] = []
    share, interval = 0.0, [0.0, 0.0]
    for arm, label in ((1, tell("again_offered", months=horizon_months)), (0, tell("again", months=horizon_months))):
        again = rows["complaint_after"].to_numpy(float)[there & (rows["treated"].to_numpy() == arm)]
        if len(again) < MIN_LEFT:
            return pd.DataFrame(), ""
        share, *interval = wilson(again.sum(), len(again))
        out.append(row(label, share, *interval, n=len(again)))
    return pd.DataFrame(out), tell("calmed", share=share, low=interval[0], high=interval[1])


def _chances(treated: Array, propensity: Array, title: str) -> Picture:
    """Estimated chances of an offer, of offered and other customers."""
    arms: dict[float, Any] = {
        1.0: tell("label_offered", n=int((treated == 1).sum())),
        0.0: tell("label_others", n=int((treated == 0).sum())),
    }
    order = np.argsort(-treated, kind="stable")
    data = pd.DataFrame({"value": propensity[order], "group": [arms[arm] for arm in treated[order]]})
    marks = [Mark(at, style="limit") for at in (EDGE, 1 - EDGE)]
    return Picture(
        "distribution", data, title, tell("x"), tell("y"), {"unit": "percent", "limits": (0, 1), "marks": marks}
    )
