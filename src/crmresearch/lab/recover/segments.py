"""Segments and leavers found on trial (study 5): one class and four, and the tenth of customers ranked highest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crmresearch.data.reductions import churn, segments
from crmresearch.lab.recover.harness import Estimator, findings, given, reduced
from crmresearch.studies import strategy

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate

SEGMENTS, PART = 4, 500


def classes(bank: Bank) -> dict[str, Estimate]:
    """What segments add, and how far they are stable, with the notebook's own parameters (S43, S43a)."""
    frame = reduced(bank, segments.behaviour)
    found = findings(strategy.gain(frame, segments=SEGMENTS, seed=1), "S43")
    return found | findings(strategy.stability(frame, segments=SEGMENTS, part=PART, seed=1), "S43a")


def leavers(bank: Bank) -> dict[str, Estimate]:
    """Later leavers captured by a model beyond a recency rule (S08)."""
    earlier, later = (given(churn.landmark(bank, on, 12)) for on in given(churn.landmark_dates(bank, 12)))
    return findings(strategy.leavers(earlier, later, horizon=12, resamples=200, seed=1), "S08")


DONE = ("customers", "holdings", "monthly", "transactions", "service")
ESTIMATORS = [
    Estimator(
        "classes", "strategy", classes, {}, ("baseline", "null", "wider", "classes", "lifelike"),
        tables=DONE, limits=("S43", "S43a"), seeds=400,
    ),
    Estimator(
        "leavers", "strategy", leavers, {}, ("baseline", "null", "wider", "classes"),
        tables=(*DONE, "contacts"), limits=("S08",), seeds=200,
    ),
    Estimator(
        "companies", "strategy", lambda bank: findings(strategy.companies(given(segments.companies(bank))), "S27"),
        {"S27": "corporate.ecommerce.share"}, ("wider", "classes"), tables=("customers", "holdings"), seeds=400,
    ),
]  # fmt: skip
