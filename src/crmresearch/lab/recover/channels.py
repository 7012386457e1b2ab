"""What channels do: study 7 on banks whose intentions, adoption and help are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crmresearch.data.reductions import channels as reductions
from crmresearch.lab.recover.harness import Estimator, findings, reduced
from crmresearch.studies import channels

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate

SEED = 2026  # the notebook's
OPTIONS: dict[str, Any] = {"window_quarters": 8, "resamples": 399, "seed": SEED}  # the notebook draws 999 times


def fresh(bank: Bank) -> dict[str, Estimate]:
    """Gain in concordance from the last week."""
    return findings(channels.fresh(reduced(bank, reductions.snapshots), seed=SEED), "S13", "S13a")


def adopted(bank: Bank) -> dict[str, Estimate]:
    """Exits after the first mobile payment."""
    return findings(channels.adopted(reduced(bank, reductions.adoption)), "S14")


def earned(bank: Bank) -> dict[str, Estimate]:
    """Contribution in the year after it."""
    return findings(channels.earned(reduced(bank, reductions.contribution)), "S14a")


def helped(bank: Bank) -> dict[str, Estimate]:
    """Failed transactions of older customers after branches begin to help."""
    return findings(channels.helped(reduced(bank, reductions.helped), **OPTIONS), "S31")


EVERY, ACCOUNTS = ("baseline", "wider", "null"), ("customers", "monthly", "transactions")
ESTIMATORS = [
    Estimator("fresh", "channels", fresh, worlds=("wider",), tables=ACCOUNTS[:2], limits=("S13", "S13a"), seeds=200),
    Estimator(
        "adopted", "channels", adopted, worlds=EVERY, tables=ACCOUNTS, limits=("S14",), nothing={"S14": 1.0}, seeds=200
    ),
    Estimator(
        "earned", "channels", earned, worlds=EVERY, tables=ACCOUNTS, limits=("S14a",), nothing={"S14a": 0.0}, seeds=200
    ),
    Estimator(
        "helped", "channels", helped, worlds=("wider",), tables=("customers", "transactions", "branches"),
        limits=("S31",), seeds=200,
    ),
]  # fmt: skip
