"""Study 2 on trial: curves, incidence, hazard ratios, restricted means, campaigns, and the gates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crmresearch.data.reductions import churn as reductions
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.survival.curves import kaplan_meier, restricted_mean_difference
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.lab.recover.harness import HARDER, Estimator, findings, given
from crmresearch.studies import churn
from crmresearch.studies.churn.index import index_hazard_ratio

if TYPE_CHECKING:
    import pandas as pd

    from crmresearch.data.bank import Bank


def _reading(curve: pd.DataFrame, column: str, time: float) -> Estimate:
    row = curve[curve["time"] <= time].iloc[-1]
    n = int(curve["at_risk"].max())
    return Estimate(row[column], row["ci_low"], row["ci_high"], "share of customers", n, se=row["se"])


def curves(bank: Bank) -> dict[str, Estimate]:
    """Survival and voluntary incidence of tenure with late entry, and a difference in months kept."""
    spells = given(reductions.spells(bank, groups=("acquisition_channel",)))
    curve = kaplan_meier(spells)
    incidence = cumulative_incidence(spells)
    own = incidence[incidence["cause"] == "voluntary"]
    out = {}
    for months in (12, 24):
        out[f"survival_{months}"] = _reading(curve, "survival", months)
        out[f"incidence_{months}.voluntary"] = _reading(own, "incidence", months)
    parts = [kaplan_meier(spells[spells["acquisition_channel"] == channel]) for channel in ("referral", "online")]
    out["restricted_mean_48.referral_less_online"] = restricted_mean_difference(parts[0], parts[1], 48)
    return out


def relationship(bank: Bank) -> dict[str, Estimate]:
    """Hazard ratio of the relationship index, three months earlier (S06), with its gates."""
    cells = given(reductions.person_months_by_lag(bank, (3, 6), groups=("city_tier",)))
    return {"S06": index_hazard_ratio(cells, given(reductions.spells(bank)), groups=("city_tier",))}


def breadth(bank: Bank) -> dict[str, Estimate]:
    """Hazard ratio per product family held at a landmark (S56)."""
    on, horizon = given(reductions.early_landmark(bank))
    return findings(churn.breadth(given(reductions.landmark(bank, on, horizon))), "S56")


def _turned(estimate: Estimate) -> Estimate:
    """Turn a change of exits into a change of customers kept."""
    return replace(estimate, value=-estimate.value, ci_low=-estimate.ci_high, ci_high=-estimate.ci_low)


def campaigns(bank: Bank) -> dict[str, Estimate]:
    """Retention contacts drawn by lot and aimed at risk, exits of every cause."""
    drawn = churn.randomised(given(reductions.arms(bank)))
    rows = given(reductions.targeted(bank))
    aimed = churn.aimed(rows.assign(cause=rows["cause"].where(rows["event"] == 0, "any")), cause="any")
    remedy = replace(given(aimed).details["remedy"], checks=(aimed.checks[0],))
    return findings(drawn, "S42", "S42a") | {
        "campaign.targeted.eligible.retention_12m": _turned(remedy),
        "campaign.targeted.naive.retention_12m": _turned(aimed.details["crude"]),
    }


def forecast(bank: Bank) -> dict[str, Estimate]:
    """Out-of-time skill of exit predictions (S15)."""
    earlier, later = (given(reductions.landmark(bank, d, 12)) for d in given(reductions.landmark_dates(bank, 12)))
    return findings(churn.forecast(earlier, later, repeats=60), "S15")


CURVES = ("survival_12", "survival_24", "incidence_12.voluntary", "incidence_24.voluntary")
CAMPAIGNS = tuple(f"campaign.targeted.{c}.retention_12m" for c in ("eligible", "naive"))
MONTHS = "restricted_mean_48.referral_less_online"
PEOPLE = ("customers", "holdings", "service")
ROWS = (*PEOPLE, "monthly", "transactions", "contacts")
BROKEN = ("non_proportional", "reverse_causation", "informative_censoring")
# fewer customers where no power is asked for
SMALLER = dict.fromkeys(("null", "no_late_entry", "no_frailty", "no_overlap", *BROKEN), 4_000) | {"lifelike": 5_000}

ESTIMATORS = [
    Estimator(
        "curves", "churn", curves, {q: q for q in CURVES}, ("baseline", "null", "no_late_entry", "no_frailty"),
        customers=6_000, sizes=SMALLER, tables=("customers",), limits=(MONTHS,), nothing={MONTHS: 0.0},
    ),
    Estimator(
        "relationship", "churn", relationship, {}, (*HARDER, "no_frailty", *BROKEN, "small"),
        customers=6_000, sizes=SMALLER | {"wider": 20_000}, tables=PEOPLE, limits=("S06",), nothing={"S06": 1.0},
    ),
    Estimator(
        "breadth", "churn", breadth, {}, (*HARDER, "no_frailty"),
        sizes=SMALLER, tables=(*PEOPLE, "monthly"), limits=("S56",), nothing={"S56": 1.0},
    ),
    Estimator(
        "campaigns", "churn", campaigns, {q: q for q in CAMPAIGNS}, (*HARDER, "no_overlap"),
        sizes=SMALLER, tables=(*PEOPLE, "monthly", "contacts"), nothing={"S42": 0.0, "S42a": 0.0},
    ),
    Estimator(
        "forecast", "churn", forecast, {}, ("baseline", "lifelike"), 8_000, sizes=SMALLER, tables=ROWS, seeds=200,
    ),
]  # fmt: skip
