"""Whether bank and customers gain together: study 99 on banks whose link is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crmresearch.data.reductions.loyalty import joined
from crmresearch.lab.recover.harness import Estimator, findings, given, reduced
from crmresearch.studies import unity

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank
    from crmresearch.estimators.inference import Estimate


def together(bank: Bank) -> dict[str, Estimate]:
    """Line of notebook 99, with its own parameters and fewer resamples."""
    frame = given(reduced(bank, joined))
    return findings(unity.together(frame, benefit="net_benefit", bands=3, resamples=199, seed=1), "S58")


ESTIMATORS = [
    Estimator(
        "together", "unity", together, worlds=("wider",), tables=("survey", "customers", "monthly"), limits=("S58",)
    )
]
