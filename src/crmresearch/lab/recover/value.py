"""Study 1 on trial: concentration, overlap of core customers, value of customers, and a forecast of a held-out year."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crmresearch.data.reductions import value as reductions
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.worth.stability import band_names
from crmresearch.lab.recover.harness import Estimator, findings, given
from crmresearch.studies import value

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


SHARES = {
    "S19": "top20.contribution",
    "S19a": "top1.contribution",
    "S19b": "top10.contribution",
    "S19c": "gini.contribution",
    "S37": "negative_share.contribution",
}


def concentration(bank: Bank) -> dict[str, Estimate]:
    """Gini and shares of the best customers by studentised bootstrap, and the share who lose money (S19, S37)."""
    frame = given(reductions.margins(bank, months=12))
    result = value.concentration(frame, seed=1, resamples=399)
    found = findings(result, "S19", "S19a", "S19b", "S19c") | findings(value.distribution(frame), "S37")
    # too few customers in the best hundredth, or a total that is not positive: said in the checks, no number
    return {line: e for line, e in found.items() if not math.isnan(e.value)}


def core(bank: Bank) -> dict[str, Estimate]:
    """Overlap of the core customers of two years (S22)."""
    result = value.core_overlap(given(reductions.yearly(bank, years=2)), seed=1, resamples=199)
    return findings(result, "S22")


def worth(bank: Bank) -> dict[str, Estimate]:
    """Mean value of a customer over five years, all and by value band, and the gap of best and lowest band."""
    landmark = reductions.customers_at(bank, at=reductions.month_end(bank, 24))
    model = given(value.fit_margin(reductions.tenure_margin(bank), landmark))
    result = value.clv_by_band(model, given(reductions.customers_at(bank)))
    gap, n = given(result.finding("gap")), result.table.set_index("band")["n"]
    found = {"mean": result.details["mean"], **result.details["bands"]}
    out = {"value.gap": gap}
    for name, row in found.items():
        mean, se, low, high = (float(v) for v in row)
        out[f"value.{name}"] = Estimate(mean, low, high, gap.unit, int(n.get(name, n.sum())), se=se)
    return out


def forecast(bank: Bank) -> dict[str, Estimate]:
    """Predicted over actual contribution of a held-out year; 1 is the truth."""
    split = reductions.month_end(bank, 12)
    landmark = reductions.customers_at(bank, at=reductions.month_end(bank, 36))
    model = given(value.fit_margin(reductions.tenure_margin(bank, until=split), landmark))
    row = value.holdout(model, given(reductions.customers_at(bank, at=split))).details["scores"].iloc[0]
    level, se, low, high = (float(row[c]) for c in ("level", "level_se", "level_low", "level_high"))
    return {"forecast.level": Estimate(level, low, high, "predicted over actual total", int(row["n"]), se=se)}


_TABLES = ("customers", "monthly")
SIZES = {"wider": 20_000, "lifelike": 5_000}  # a bank of the reference size
WORTH = ("value.mean", "value.gap", *(f"value.{band}" for band in band_names()))
ESTIMATORS = [
    Estimator(
        "concentration", "value", concentration, SHARES, ("baseline", "wider", "lifelike", "heavy_tail", "small"),
        2_000, tables=_TABLES, sizes=SIZES,
    ),
    Estimator(
        "core", "value", core, {}, ("baseline", "wider", "lifelike"), 2_000, tables=_TABLES, limits=("S22",),
        sizes=SIZES,
    ),
    Estimator("worth", "value", worth, {}, ("baseline", "no_frailty"), 2_000, tables=_TABLES, limits=WORTH),
    Estimator(
        "forecast", "value", forecast, {"forecast.level": 1.0}, ("baseline", "no_frailty"), 2_000, tables=_TABLES
    ),
]  # fmt: skip
