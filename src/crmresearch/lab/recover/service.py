"""What service does: study 8 on banks whose conversions, waits, priority and invitations are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crmresearch.data.reductions import service as reductions
from crmresearch.lab.recover.harness import Estimator, findings, reduced
from crmresearch.studies import service

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate

WINDOW = 8
OPTIONS: dict[str, Any] = {"window_quarters": WINDOW, "resamples": 399, "seed": 2026}  # the notebook draws 999 times
THRESHOLD = 50_000.0


def customers(bank: Bank) -> dict[str, Estimate]:
    """The same within customers."""
    read = {"stays": reductions.stays_by_waiting, "answers": reductions.answers_by_waiting}
    return findings(service.customers({k: reduced(bank, reduction) for k, reduction in read.items()}), "S39a", "S51a")


def priority(bank: Bank) -> dict[str, Estimate]:
    """Jump of satisfaction at the threshold."""
    read = (reductions.near_threshold, reductions.balances)
    both = (reduced(bank, reduction, threshold=THRESHOLD) for reduction in read)
    return findings(service.priority(*both), "S52")


def planted(truth: dict[str, Any]) -> dict[str, float]:
    """Effect of a conversion, as far as it is built up over the window; nothing where no branch converts."""
    from crmresearch.lab.simulated.branches import BUILDING

    whole = truth["estimands"].get("conversion.satisfaction.observed")
    share = float(np.clip(np.arange(1, WINDOW + 1) / BUILDING, 0, 1).mean())
    return {} if whole is None else {"S29": share * whole}


BRANCHES = ("customers", "branches", "pulse", "service", "monthly")
ESTIMATORS = [
    Estimator(
        "conversion", "service",
        lambda bank: findings(service.conversion(reduced(bank, reductions.branch_quarters), **OPTIONS), "S29"),
        planted, worlds=("wider", "selected_conversion"), tables=BRANCHES, seeds=400,
    ),
    Estimator(
        "handling", "service",
        lambda bank: findings(service.handling(
            *(reduced(bank, read) for read in (reductions.branch_quarters, reductions.handling_by_steps)),
            window_quarters=WINDOW,
        ), "S55", "S55a"),
        {"S55": "handling.step"}, worlds=("wider",), tables=BRANCHES, limits=("S55a",), seeds=400,
    ),
    Estimator(
        "waiting", "service",
        lambda bank: findings(service.waiting(reduced(bank, reductions.branch_quarters)), "S39", "S51"),
        {"S51": "waiting.satisfaction.by_load.observed"}, worlds=("wider", "load_lowers_quality"), tables=BRANCHES,
        limits=("S39",), seeds=400,
    ),
    Estimator(
        "customers", "service", customers, worlds=("wider",), tables=BRANCHES, limits=("S39a", "S51a"), seeds=400
    ),
    Estimator(
        "priority", "service", priority, {"S52": "priority.satisfaction.observed"}, worlds=("wider", "bunching"),
        tables=("customers", "survey", "monthly"), seeds=400,
    ),
    Estimator(
        "invited", "service",
        lambda bank: findings(service.invited(reduced(bank, reductions.campaigns), campaign="invite"), "S53"),
        {"S53": "campaign.invite.retention_12m"}, worlds=("wider",),
        tables=("customers", "contacts", "holdings", "monthly", "service"), seeds=400,
    ),
    Estimator(
        "managed", "service", lambda bank: findings(service.managed(reduced(bank, reductions.managed)), "S38"),
        worlds=("wider",), tables=("customers", "monthly", "managers"), limits=("S38",), seeds=400,
    ),
]  # fmt: skip
