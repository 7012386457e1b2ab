"""Study 1: how customer value is distributed, how lasting it is, and what a customer is worth."""

from crmresearch.value.concentration import (
    concentration,
    concentration_by_window,
    distribution,
    gini,
    hill,
    intervals,
    lorenz,
    share_below,
    top_share,
)

__all__ = [
    "concentration",
    "concentration_by_window",
    "distribution",
    "gini",
    "hill",
    "intervals",
    "lorenz",
    "share_below",
    "top_share",
]
