"""Are the estimators right? Run them on simulated banks whose truth is known, and publish the result.

Each study adds a module here with ``ESTIMATORS: list[Estimator]``; :func:`run` finds them.
"""

from __future__ import annotations

from crmresearch.recover.facts import marginal_facts
from crmresearch.recover.harness import Estimator, discover
from crmresearch.recover.report import decisions, estimates, failures, gates, overview, published
from crmresearch.recover.summary import COLUMNS, read, run, stored_limits, summarise

__all__ = [
    "COLUMNS",
    "Estimator",
    "decisions",
    "discover",
    "estimates",
    "failures",
    "gates",
    "marginal_facts",
    "overview",
    "published",
    "read",
    "run",
    "stored_limits",
    "summarise",
]
