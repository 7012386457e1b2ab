"""What attributes of products are worth: study 9 on banks whose tastes are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crmresearch.data.reductions.preference import choices
from crmresearch.lab.recover.harness import Estimator, findings, given, reduced
from crmresearch.studies import preference

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate


ASKED: dict[str, Any] = {"price": "yield_bp", "service": "priority_service", "guarantee": "guaranteed"}
AGES = [35, 45, 55, 65]


def worth(bank: Bank) -> dict[str, Estimate]:
    """Lines of notebook 09, with its own parameters."""
    frame = given(reduced(bank, choices))
    spread = preference.differences(frame, price="yield_bp", attribute="guaranteed", age_bands=AGES)
    found = findings(preference.worth(frame, **ASKED, older_from=55), "S20", "S49", "S49a", "S54")
    return found | findings(spread, "S54a")


def _by_age(truth: dict[str, Any]) -> dict[str, float]:
    older, younger = (truth["parameters"]["taste"][age] for age in ("older", "younger"))
    return {"S54": older["guaranteed"] / older["yield_bp"] - younger["guaranteed"] / younger["yield_bp"]}


ESTIMATORS = [
    Estimator(
        "worth", "preference", worth, _by_age, ("baseline", "null"), customers=20_000, tables=("choices", "customers"),
        limits=("S20", "S49", "S49a", "S54a"), nothing=dict.fromkeys(("S20", "S49", "S49a", "S54", "S54a"), 0),
    ),
]  # fmt: skip
