"""Simple quantities, straight from the tables: a check of the harness and of the simulated bank itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crmresearch.errors import FitError
from crmresearch.estimators.inference import Estimate
from crmresearch.lab.recover.harness import Estimator

if TYPE_CHECKING:
    import pandas as pd

    from crmresearch.data.bank import Bank

Z = 1.959963984540054


def _ratio(top: np.ndarray, bottom: np.ndarray, unit: str) -> Estimate:
    """Ratio of sums over independent rows, with a delta-method interval."""
    if bottom.sum() <= 0:
        raise FitError("the denominator of a ratio is 0; draw a larger bank")
    n, ratio = len(top), float(top.sum() / bottom.sum())
    se = float(np.sqrt(n) * (top - ratio * bottom).std(ddof=1) / bottom.sum())
    return Estimate(ratio, ratio - Z * se, ratio + Z * se, unit, n, se=se)


def _query(bank: Bank, sql: str) -> pd.DataFrame:
    return bank.frame(sql)


def exit_rates(bank: Bank) -> dict[str, Estimate]:
    """Exits per customer-year, by cause."""
    end = bank.about.observation_end
    frame = _query(
        bank,
        f"""SELECT customer_id, exit_cause,
          (coalesce(left_on, DATE '{end}' + 1) - observed_from) / 365.25 AS years
          FROM customers ORDER BY customer_id""",
    )
    years, cause = frame["years"].to_numpy(float), frame["exit_cause"].to_numpy(object)
    groups = {"voluntary": cause == "voluntary", "dormant": cause == "dormant", "any": frame["exit_cause"].notna()}
    return {f"exit_rate.{c}": _ratio(np.asarray(g, float), years, "exits per year") for c, g in groups.items()}


def contribution(bank: Bank) -> dict[str, Estimate]:
    """Mean contribution of the last twelve months, and the share of customers who cost more than they bring."""
    year = bank.about.observation_end.year
    frame = _query(
        bank,
        f"""SELECT customer_id, sum(net_interest + fees - service_cost - risk_cost)::DOUBLE AS value FROM monthly
          WHERE month >= DATE '{year}-01-01' GROUP BY customer_id ORDER BY customer_id""",
    )
    value = frame["value"].to_numpy(float)
    one = np.ones(len(value))
    return {
        "mean.contribution": _ratio(value, one, "money per customer and year"),
        "negative_share.contribution": _ratio((value < 0).astype(float), one, "share of customers"),
    }


def trial(bank: Bank) -> dict[str, Estimate]:
    """Randomised retention campaign: difference in the share still there after twelve months."""
    frame = _query(
        bank,
        """SELECT c.customer_id, c.arm = 'treatment' AS treated,
          coalesce(k.left_on > c.contacted_on + INTERVAL 12 MONTH, true) AS stayed
          FROM contacts c JOIN customers k USING (customer_id) WHERE c.campaign_id = 'trial' ORDER BY c.customer_id""",
    )
    treated, stayed = frame["treated"].to_numpy(bool), frame["stayed"].to_numpy(float)
    a, b = stayed[treated], stayed[~treated]
    difference = float(a.mean() - b.mean())
    se = float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))
    p = _upper(difference / se)
    unit = "share of customers"
    estimate = Estimate(difference, difference - Z * se, difference + Z * se, unit, len(frame), p_value=p, se=se)
    return {"campaign.itt.retention_12m": estimate}


def _upper(z: float) -> float:
    from math import erfc, sqrt

    return 0.5 * erfc(z / sqrt(2))


def cost_ratio(bank: Bank) -> dict[str, Estimate]:
    """All acquisition spend per win, and over the retention spend of a customer-year (delta method, by customer)."""
    end = bank.about.observation_end
    prospects = _query(bank, "SELECT spend::DOUBLE AS spend, won::INT AS won FROM prospects ORDER BY prospect_id")
    frame = _query(
        bank,
        f"""SELECT k.customer_id, (coalesce(left_on, DATE '{end}' + 1) - observed_from) / 365.25 AS years,
          coalesce(s.cost, 0)::DOUBLE AS cost FROM customers k LEFT JOIN
          (SELECT customer_id, sum(cost) AS cost FROM contacts WHERE purpose = 'retain' GROUP BY customer_id) s
          USING (customer_id) ORDER BY k.customer_id""",
    )
    win = _ratio(prospects["spend"].to_numpy(float), prospects["won"].to_numpy(float), "money per win")
    year = _ratio(frame["cost"].to_numpy(float), frame["years"].to_numpy(float), "money per customer-year")
    ratio = win.value / year.value
    # prospects and contacts are drawn independently
    relative = float(np.hypot((win.se or 0) / win.value, (year.se or 0) / year.value))
    low, high = ratio * np.exp(-Z * relative), ratio * np.exp(Z * relative)
    p = _upper(float(np.log(ratio / 2) / relative))
    own = Estimate(ratio, low, high, "ratio", len(frame), p_value=p, se=ratio * relative)
    return {"cost_per_win.all": win, "retention_cost.year": year, "cost_ratio.primary": own}


def _named(*names: str) -> Any:
    return _Pick(names)


class _Pick:
    """Picks estimands by name (a class, because worker processes cannot be sent a lambda)."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, truth: dict[str, Any]) -> dict[str, float]:
        return {n: truth["estimands"][n] for n in self.names if n in truth["estimands"]}


_WORLDS = ("baseline", "null", "no_late_entry", "no_frailty")
SIZES = {"null": 4_000, "no_late_entry": 4_000, "no_frailty": 4_000, "heavy_tail": 2_000}  # as other studies draw them
ESTIMATORS = [
    Estimator(
        "exit_rates",
        "base",
        exit_rates,
        _named("exit_rate.voluntary", "exit_rate.dormant", "exit_rate.any"),
        worlds=_WORLDS,
        customers=6_000,
        sizes=SIZES,
        tables=("customers",),
    ),
    Estimator(
        "contribution",
        "base",
        contribution,
        _named("mean.contribution", "negative_share.contribution"),
        worlds=("baseline", "null", "heavy_tail"),
        customers=6_000,
        sizes=SIZES,
        tables=("customers", "monthly"),
    ),
    Estimator(
        "trial",
        "base",
        trial,
        _named("campaign.itt.retention_12m"),
        customers=20_000,
        sizes=SIZES,
        seeds=500,
        tables=("customers", "contacts"),
    ),
    Estimator(
        "cost_ratio",
        "base",
        cost_ratio,
        _named("cost_per_win.all", "retention_cost.year", "cost_ratio.primary"),
        customers=6_000,
        sizes=SIZES,
        tables=("customers", "prospects", "contacts"),
    ),
]
