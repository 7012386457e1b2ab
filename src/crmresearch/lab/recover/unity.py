"""Whether bank and customers gain together: study 99 on banks whose link is known."""

from __future__ import annotations

from crmresearch.data.reductions.loyalty import joined
from crmresearch.lab.recover.harness import Estimator, findings, reduced
from crmresearch.studies import unity

ESTIMATORS = [
    Estimator(
        "together", "unity",  # with the notebook's own parameters and fewer resamples
        lambda bank: findings(
            unity.together(reduced(bank, joined), benefit="net_benefit", bands=3, resamples=199, seed=1), "S58"
        ),
        worlds=("wider",), tables=("survey", "customers", "monthly"), limits=("S58",),
    ),
]  # fmt: skip
