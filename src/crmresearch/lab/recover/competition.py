"""What competition does: study 6 on banks whose rivals, trends and effects are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crmresearch.data.reductions import competition as reductions
from crmresearch.lab.recover.harness import Estimator, findings, reduced
from crmresearch.studies import competition

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate


WINDOW = 24
OPTIONS: dict[str, Any] = {"window_months": WINDOW, "resamples": 399, "seed": 2026}  # the notebook draws 999 times


def leaving(bank: Bank) -> dict[str, Estimate]:
    """Exits after entry by value, the year before beside."""
    after = reduced(bank, reductions.after_entry, window=WINDOW)
    before = reduced(bank, reductions.after_entry, window=12, moved=-12)
    found = competition.leaving({"after": after, "before": before}, window_months=WINDOW)
    return findings(found, "S46", "S46a")


def trend(bank: Bank) -> dict[str, Estimate]:
    """Trends of exits and of the cost per win."""
    beside = {"winning": reduced(bank, reductions.winning), "markets": reduced(bank, reductions.markets)}
    return findings(competition.trend(reduced(bank, reductions.stays), beside), "S01", "S01a", "S01b")


def platforms(bank: Bank) -> dict[str, Estimate]:
    """Payments to outside platforms, read a quarter before the exit and up to it."""
    read = {name: reduced(bank, reductions.payments, lag=lag) for name, lag in (("earlier", 1), ("until", 0))}
    return findings(competition.platforms(read), "S17")


def planted(truth: dict[str, Any]) -> dict[str, float]:
    """Mean loss of share over the window, in closed form: tiers by the places that are seen that long."""
    from crmresearch.lab.simulated import Settings
    from crmresearch.lab.simulated.markets import city_tiers, entry_months, share_loss

    s = Settings(world=truth["world"], months=truth["months"])
    tier, came, loss = city_tiers(s), entry_months(s), share_loss(s)
    seen = [(k, int(g)) for k, g in enumerate(came) if np.isfinite(g) and g + WINDOW <= s.months and tier[k] > 1]
    return {"S45": -float(np.mean([loss[k, g : g + WINDOW].mean() for k, g in seen]))}


TABLES = ("markets", "customers")
ESTIMATORS = [
    Estimator(
        "entry", "competition",
        lambda bank: findings(competition.entry(reduced(bank, reductions.markets), **OPTIONS), "S45"),
        planted, tables=("markets",), customers=2_000,
    ),
    Estimator(
        "income", "competition",
        lambda bank: findings(
            competition.income(reduced(bank, reductions.markets), reduced(bank, reductions.income), **OPTIONS), "S45a"
        ),
        tables=(*TABLES, "monthly"), limits=("S45a",), nothing={"S45a": 0.0}, seeds=200,
    ),
    Estimator(
        "leaving", "competition", leaving, tables=(*TABLES, "monthly"), limits=("S46", "S46a"),
        nothing={"S46": 0.0, "S46a": 1.0}, seeds=200,
    ),
    Estimator(
        "trend", "competition", trend, tables=(*TABLES, "prospects"), limits=("S01", "S01a", "S01b"),
        nothing={"S01": 0.0, "S01a": 0.0, "S01b": 0.0}, seeds=200,
    ),
    Estimator(
        "platforms", "competition", platforms, tables=("customers", "transactions"), worlds=("wider",), limits=("S17",)
    ),
    Estimator(
        "managed", "competition",
        lambda bank: findings(
            competition.managed(reduced(bank, reductions.stays), reduced(bank, reductions.markets)), "S47"
        ),
        tables=TABLES, worlds=("wider", "risky_cities"), limits=("S47",),
    ),
]  # fmt: skip
