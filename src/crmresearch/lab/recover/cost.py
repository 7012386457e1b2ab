"""Study 3 on trial: the nine ratios, responses to spend, campaigns, selection, the best split, and replacement cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crmresearch.data.reductions import cost as reductions
from crmresearch.estimators.blocks import Functional
from crmresearch.estimators.causal.selection import censored_selection
from crmresearch.estimators.inference import Estimate, normal
from crmresearch.lab.recover.harness import HARDER, Estimator, findings, given, reduced
from crmresearch.result import Check, Result
from crmresearch.studies import cost
from crmresearch.studies.cost.grid import LINES

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

SEED = 1  # of resamples; banks differ by their own seed
PEOPLE = ("customers", "prospects", "contacts")
AIMED = ("customers", "contacts", "holdings", "service", "monthly")  # aimed by what is held and complained about
CHANNELS = ("branch", "online", "agent", "referral")


def _own(f: Functional, unit: str, n: int) -> Estimate:
    low, high = f.interval()
    return Estimate(f.value, low, high, unit, n, se=f.se)


def _listed(found: Result, quantity: str, unit: str, checks: tuple[Check, ...] = ()) -> Estimate:
    """Take a number from a result's table, as it is printed."""
    row = found.table.set_index("quantity").loc[[quantity], ["value", "ci_low", "ci_high", "n"]]
    value, low, high, n = row.to_numpy(float)[0]
    return Estimate(value, low, high, unit, int(n), checks=checks)


def ratios(bank: Bank) -> dict[str, Estimate]:
    """S40 to S40i, as far as they apply."""
    response = cost.response(reduced(bank, reductions.prospects))
    saved = cost.saved(reduced(bank, reductions.campaigns))
    spent, upkeep = reduced(bank, reductions.acquisition), reduced(bank, reductions.upkeep)
    found = cost.ratios(spent, upkeep, response, saved, resamples=2, seed=SEED)
    return findings(found, *LINES.values())


def groups(bank: Bank) -> dict[str, Estimate]:
    """S40 and S40b by channel, and by segment, where spend is shared out."""
    spent, out = reduced(bank, reductions.acquisition), {}
    for by in ("channel", "segment"):
        found = cost.ratios_by(spent, reduced(bank, reductions.upkeep, by=by), by=by, resamples=2, seed=SEED)
        rows = given(found).table.query("costs == 'as paid' and line in ('S40', 'S40b')")
        names = rows["line"] + "." + rows[by].astype(str)
        numbers = rows[["ratio", "ci_low", "ci_high", "prospects"]].to_numpy(float)
        for name, (value, low, high, n) in zip(names, numbers, strict=True):
            out[name] = Estimate(value, low, high, "ratio", int(n))
    return out


def response(bank: Bank) -> dict[str, Estimate]:
    """S04, the mean slope of winning in spend, and the marginal cost by channel."""
    found = cost.response(reduced(bank, reductions.prospects))
    out = findings(found, "S04")
    out["slope"] = _own(found.details["slope"], "probability per money", found.details["n"])
    rows = found.table[found.table["note"] == ""]  # where no channel has one, the table has no such columns
    numbers = rows.reindex(columns=["marginal_cost", "marginal_low", "marginal_high", "n"]).to_numpy(float)
    for channel, (value, low, high, n) in zip(rows["channel"], numbers, strict=True):
        out[f"marginal_cost.{channel}"] = Estimate(value, low, high, "money per win", int(n))
    return out


def followed(bank: Bank) -> dict[str, Estimate]:
    """Where spend follows unseen ease, the curve as it is seen; a declared gate stands before it."""
    found = given(cost.response(reduced(bank, reductions.prospects))).details
    return {"naive: spend taken as drawn": _own(found["slope"], "probability per money", found["n"])}


def saved(bank: Bank) -> dict[str, Estimate]:
    """What an offer saves by intention to treat: exits, customer-years, its cost per customer."""
    found = given(cost.saved(reduced(bank, reductions.campaigns)))
    years = _own(found.details["years"], "years per customer", int(found.table["n"].iloc[0]))
    out = {"exits": found.estimates["S42"], "years": years}
    if found.details["spend"].value > 0:
        out["cost_per_saved"] = _listed(found, "spend per customer saved", "money per customer")
    return out


def targeted(bank: Bank) -> dict[str, Estimate]:
    """The targeted campaign: doubly robust over all eligible and those offered, and the plain difference."""
    found = cost.targeted(reduced(bank, reductions.campaigns))
    out, unit = findings(found, eligible="targeted"), "share of customers"
    # the gate on comparable customers stands before both weighted effects; the naive one has none
    out["offered"] = _listed(found, "doubly robust, those offered", unit, found.checks)
    out["naive: targeting ignored"] = _listed(found, "plain difference (targeting ignored)", unit)
    return out


def selection(bank: Bank) -> dict[str, Estimate]:
    """Winning and staying together: coefficients of spend on winning, and the correlation of the unseen."""
    frame = reduced(bank, reductions.joint)
    names = (*(c for c in frame.columns if c.startswith("channel_")), "year")
    fit = censored_selection(frame, ("spend", "spend_squared", *names), "log_months", names, "ended")
    out = {}
    for name in ("spend", "spend_squared"):
        value, se = float(fit.won[name]), float(fit.se_won[name])
        out[f"won.{name}"] = normal(value, se, "probit index per hundred", len(frame))
    out["rho"] = Estimate(fit.rho, *fit.rho_interval, "correlation", len(frame))
    return out


def split(bank: Bank) -> dict[str, Estimate]:
    """Best spend per prospect, and on offers per customer-year, free."""
    people, campaigns, upkeep = (
        reduced(bank, f) for f in (reductions.prospects, reductions.campaigns, reductions.upkeep)
    )
    curves = cost.response_curves(people, campaigns, upkeep, cost.response(people), seed=SEED)
    found = cost.split(given(curves))
    return findings(found, *found.estimates)


# --- truth --------------------------------------------------------------------------------------------------------


def _ratio_truth(truth: dict[str, Any]) -> dict[str, float]:
    e, p = truth["estimands"], truth["parameters"]
    out = {"S40": e["cost_ratio.primary"], "S40d": e["cost_ratio.won_only"]}
    if e.get("win.slope"):
        out["S40g"] = 1 / e["win.slope"] / e["retention_cost.year"]
    years = e.get("campaign.itt.years_12m")
    if years is not None and p["invite_lot"] == 0 and p["contact_cost"] > 0:
        per_offer = years / p["contact_cost"]
        out |= {"S40c": e["cost_per_win.all"] * per_offer, "S40f": e["cost_per_win.won_only"] * per_offer}
        if e.get("win.slope"):
            out["S40i"] = per_offer / e["win.slope"]
    return out


def _followed_truth(truth: dict[str, Any]) -> dict[str, float]:
    """Mean slope over the spends of the world, for the ease everybody has (Gauss-Hermite over log spend)."""
    from scipy.special import ndtri

    p = truth["parameters"]
    nodes, weight = np.polynomial.hermite_e.hermegauss(61)
    weight = weight / weight.sum()
    spread = np.hypot(p["spend_spread"], p["spend_follows_ease"])
    growth = np.exp(p["spend_trend"] * np.linspace(0.05, 4.95, 50))[:, None]  # over the five years observed
    total = 0.0
    for channel, share in p["channel_share"].items():
        s = p["channel_spend"][channel] / 100 * growth * np.exp(spread * nodes - spread**2 / 2)
        index = ndtri(p["channel_win"][channel]) + p["win_spend"] * s + p["win_spend_squared"] * s * s
        slope = np.exp(-(index**2) / 2) / np.sqrt(2 * np.pi) * (p["win_spend"] + 2 * p["win_spend_squared"] * s) / 100
        total += share / sum(p["channel_share"].values()) * float(np.mean(slope @ weight))
    return {"naive: spend taken as drawn": total}


def _saved_truth(truth: dict[str, Any]) -> dict[str, float]:
    if truth["parameters"]["invite_lot"] > 0:  # a second campaign with one offer, counted with the first
        return {}
    years, kept = (truth["estimands"].get(f"campaign.itt.{n}_12m") for n in ("years", "retention"))
    own = {} if kept is None else {"exits": -kept}
    if years is not None:
        own["years"] = years
    if kept and truth["parameters"]["contact_cost"] > 0:
        own["cost_per_saved"] = truth["parameters"]["contact_cost"] / kept
    return own


CHANNELS_AND_TIERS = (*CHANNELS, "tier 1", "tier 2", "tier 3")
GROUPS = tuple(f"{line}.{group}" for line in ("S40", "S40b") for group in CHANNELS_AND_TIERS)
RESPONSE = {"S04": "win.second_derivative", "slope": "win.slope"} | {
    f"marginal_cost.{c}": f"marginal_cost.{c}" for c in CHANNELS
}
SELECTION = {f"won.{q}": f"win_{q}" for q in ("spend", "spend_squared")}
TARGETED = {
    "eligible": "-campaign.targeted.eligible.retention_12m",
    "offered": "-campaign.targeted.retention_12m",
    "naive: targeting ignored": "-campaign.targeted.eligible.retention_12m",
}
SPENT = (*PEOPLE, "monthly")
SMALL = {"null": 4_000, "no_overlap": 4_000, "lifelike": 5_000}  # no power is asked for there
ESTIMATORS = [
    Estimator(
        "ratios", "cost", ratios, _ratio_truth, HARDER,
        tables=PEOPLE, limits=("S40b", "S40e", "S40h"), sizes=SMALL,
    ),
    Estimator("groups", "cost", groups, {}, ("baseline",), 6_000, tables=PEOPLE, limits=GROUPS),
    Estimator("response", "cost", response, RESPONSE, HARDER, tables=PEOPLE, sizes=SMALL),
    Estimator("followed", "cost", followed, _followed_truth, ("endogenous_spend",), 4_000, tables=PEOPLE),
    Estimator("saved", "cost", saved, _saved_truth, tables=AIMED, sizes=SMALL),
    Estimator(
        "targeted", "cost", targeted, TARGETED, ("baseline", "null", "no_overlap"),
        tables=AIMED, sizes=SMALL,
    ),
    Estimator("selection", "cost", selection, SELECTION, ("baseline",), 6_000, tables=SPENT, seeds=400),
    Estimator(
        "split", "cost", split, {}, ("baseline",),
        tables=SPENT, limits=("spend_per_prospect", "spend_per_customer_year"),
    ),
    Estimator(
        "replacement", "cost",
        lambda bank: findings(
            cost.replacement(reduced(bank, reductions.acquisition), reduced(bank, reductions.upkeep)), "S41"
        ),
        {}, HARDER,
        customers=6_000, tables=SPENT, limits=("S41",), sizes=SMALL | {"wider": 20_000},
    ),
]  # fmt: skip
