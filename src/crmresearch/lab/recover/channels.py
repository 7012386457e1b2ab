"""What channels do: study 7 on banks whose intentions, adoption and help are known."""

from __future__ import annotations

from typing import Any

from crmresearch.data.reductions import channels as reductions
from crmresearch.lab.recover.harness import Estimator, findings, reduced
from crmresearch.studies import channels

SEED = 2026  # the notebook's
OPTIONS: dict[str, Any] = {"window_quarters": 8, "resamples": 399, "seed": SEED}  # the notebook draws 999 times


EVERY, ACCOUNTS = ("baseline", "wider", "null"), ("customers", "monthly", "transactions")
ESTIMATORS = [
    Estimator(
        "fresh", "channels",
        lambda bank: findings(channels.fresh(reduced(bank, reductions.snapshots), seed=SEED), "S13", "S13a"),
        worlds=("wider",), tables=ACCOUNTS[:2], limits=("S13", "S13a"), seeds=200,
    ),
    Estimator(
        "adopted", "channels", lambda bank: findings(channels.adopted(reduced(bank, reductions.adoption)), "S14"),
        worlds=EVERY, tables=ACCOUNTS, limits=("S14",), nothing={"S14": 1.0}, seeds=200,
    ),
    Estimator(
        "earned", "channels", lambda bank: findings(channels.earned(reduced(bank, reductions.contribution)), "S14a"),
        worlds=EVERY, tables=ACCOUNTS, limits=("S14a",), nothing={"S14a": 0.0}, seeds=200,
    ),
    Estimator(
        "helped", "channels",
        lambda bank: findings(channels.helped(reduced(bank, reductions.helped), **OPTIONS), "S31"),
        worlds=("wider",), tables=("customers", "transactions", "branches"), limits=("S31",), seeds=200,
    ),
]  # fmt: skip
