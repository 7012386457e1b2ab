"""What attributes of products are worth: study 9 on banks whose tastes are known."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from crmresearch.data.reductions import preference as reductions
from crmresearch.lab.recover.harness import Estimator, findings, given, reduced
from crmresearch.studies import preference

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate


ASKED: dict[str, Any] = {"price": "yield_bp", "service": "priority_service", "guarantee": "guaranteed"}
AGES = [35, 45, 55, 65]
DRAWN, SEED = 65_536, 20210101  # customers behind the share of the older; a seed that no trial has


def worth(bank: Bank) -> dict[str, Estimate]:
    """Lines of notebook 09, with its own parameters."""
    frame = given(reduced(bank, reductions.choices))
    spread = preference.differences(frame, price="yield_bp", attribute="guaranteed", age_bands=AGES)
    found = findings(preference.worth(frame, **ASKED, older_from=55), "S20", "S49", "S49a", "S54")
    return found | findings(spread, "S54a")


def served(bank: Bank) -> dict[str, Estimate]:
    """Exits with priority service against those with a better yield."""
    return findings(preference.served(reduced(bank, reductions.served)), "S20a")


@functools.cache
def older(world: str) -> float:
    """Share of a world's customers who have the taste of the older, from 65,536 of them."""
    from crmresearch.lab import simulated

    born = simulated.frames(simulated.Settings(DRAWN, world=world, seed=SEED), ["customers"])["customers"]["birth_year"]
    return float((born <= 1970).mean())


def planted(truth: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """What attributes are worth to everybody and to older less younger customers, basis points, with draws' errors."""
    taste, p = truth["parameters"]["taste"], older(truth["world"])
    out = {}
    for line, name in {"S20": "priority_service", "S49": "priority_service", "S49a": "guaranteed"}.items():
        young, old = (taste[age][name] / taste[age]["yield_bp"] for age in ("younger", "older"))
        out[line] = (1 - p) * young + p * old, abs(old - young) * (p * (1 - p) / DRAWN) ** 0.5
        out["S54"] = old - young, 0.0  # of the last, the guarantee
    return out


def _values(truth: dict[str, Any]) -> dict[str, float]:
    return {line: value for line, (value, _) in planted(truth).items()}


ESTIMATORS = [
    Estimator(
        "worth", "preference", worth, _values, customers=20_000, tables=("choices", "customers"),
        limits=("S54a",), nothing={"S54a": 0},
    ),
    Estimator("served", "preference", served, tables=("markets", "customers"), worlds=("wider",), limits=("S20a",)),
]  # fmt: skip
