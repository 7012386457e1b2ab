"""Are the estimators right? Run them on simulated banks whose truth is known, and publish the result.

Each study adds a module here with ``ESTIMATORS: list[Estimator]``; :func:`run` finds them.
"""

from __future__ import annotations

from crmresearch.lab.recover.facts import marginal_facts
from crmresearch.lab.recover.harness import Estimator, discover
from crmresearch.lab.recover.many import many_lines
from crmresearch.lab.recover.report import decisions, estimates, failures, gates, overview, published
from crmresearch.lab.recover.summary import COLUMNS, read, run, stored_limits, summarise
