"""Study 2: who leaves, when, and why.

Spells are frames with ``exit`` and ``event``, optional ``entry`` (late entry), ``cause`` and ``n`` (customers a row
stands for). Every estimator respects late entry and treats ``n`` as that many rows.
"""

from crmresearch.studies.churn.contacts import aimed, randomised
from crmresearch.studies.churn.curves import causes, compare, retention
from crmresearch.studies.churn.duration import duration_dependence
from crmresearch.studies.churn.exits import definitions
from crmresearch.studies.churn.index import VERDICT_LAG, by_tenure, relationship
from crmresearch.studies.churn.landmark import breadth, standardised
from crmresearch.studies.churn.lifecourse import stages
from crmresearch.studies.churn.offered import needs
from crmresearch.studies.churn.prediction import action_list, forecast
