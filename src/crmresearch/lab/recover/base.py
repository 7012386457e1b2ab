"""Simple quantities, from the reductions of studies 0 and 1: a check of the harness and of the bank itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crmresearch.data.reductions import base as reductions
from crmresearch.data.reductions.value import contribution as last_months
from crmresearch.estimators.inference import Estimate, normal, poisson_rate
from crmresearch.lab.recover.harness import Estimator, given

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


RATES = ("exit_rate.voluntary", "exit_rate.dormant", "exit_rate.any")
MEANS = {"mean.contribution": "money per customer and year", "negative_share.contribution": "share of customers"}


def exit_rates(bank: Bank) -> dict[str, Estimate]:
    """Exits per customer-year, by cause."""
    frame = given(reductions.exits(bank))
    years, exits = float(frame.groupby("year")["exposure"].first().sum()), frame.groupby("cause")["exits"].sum()
    counts = [*(int(exits.get(q.split(".")[1], 0)) for q in RATES[:-1]), int(exits.sum())]
    out = {}
    for q, count in zip(RATES, counts, strict=True):
        rate, low, high = (float(x) for x in poisson_rate(count, years))
        out[q] = Estimate(rate, low, high, "exits per year", bank.rows("customers"), se=count**0.5 / years)
    return out


def contribution(bank: Bank) -> dict[str, Estimate]:
    """Mean contribution of the last twelve months, and the share of customers who cost more than they bring."""
    value = given(last_months(bank, months=12))["contribution"].to_numpy(float)
    columns = np.array([value, value < 0], dtype=float)
    moments = zip(MEANS.items(), columns.mean(axis=1), columns.std(axis=1, ddof=1) / len(value) ** 0.5, strict=True)
    return {q: normal(mean, se, unit, len(value)) for (q, unit), mean, se in moments}


SIZES = {"null": 4_000, "no_late_entry": 4_000, "no_frailty": 4_000, "heavy_tail": 2_000}  # as other studies draw them
ESTIMATORS = [
    Estimator(
        "exit_rates", "base", exit_rates, {q: q for q in RATES}, ("baseline", "null", "no_late_entry", "no_frailty"),
        6_000, sizes=SIZES, tables=("customers",),
    ),
    Estimator(
        "contribution", "base", contribution, {q: q for q in MEANS}, ("baseline", "null", "heavy_tail"),
        6_000, sizes=SIZES, tables=("customers", "monthly"),
    ),
]  # fmt: skip
