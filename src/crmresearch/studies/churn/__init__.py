"""Study 2: who leaves, when, and why. Estimators on frames, and studies that return results.

Spells are frames with ``exit`` and ``event``, optional ``entry`` (late entry), ``cause`` and ``n`` (customers a row
stands for). Every estimator respects late entry and treats ``n`` as that many rows.
"""

from crmresearch.estimators.survival.cox import CoxFit, cox, cox_bootstrap, dfbeta
from crmresearch.estimators.survival.curves import (
    MIN_AT_RISK,
    censoring_weighted,
    first_tenure,
    kaplan_meier,
    life_table,
    logrank,
    pairwise_logrank,
    restricted_mean,
    restricted_mean_difference,
)
from crmresearch.estimators.survival.discrete import (
    DiscreteFit,
    FrailtyFit,
    discrete_hazard,
    frailty,
    natural_spline,
    weibull_aft,
)
from crmresearch.estimators.survival.finegray import fine_gray
from crmresearch.estimators.survival.incidence import aalen_johansen, cumulative_incidence
from crmresearch.estimators.survival.predict import (
    area_under_curve,
    brier,
    calibration,
    capture,
    censoring_weights,
    concordance,
    decision_curve,
    score_bootstrap,
)
from crmresearch.estimators.survival.risk import cell_rows, read_spells
from crmresearch.studies.churn.breadth import breadth, standardised
from crmresearch.studies.churn.campaigns import adjusted_difference, aimed, randomised
from crmresearch.studies.churn.definitions import definitions
from crmresearch.studies.churn.duration import duration_dependence
from crmresearch.studies.churn.forecast import ExitModel, action_list, fit_exit_model, forecast
from crmresearch.studies.churn.gates import (
    censoring_bounds,
    enough_events,
    entry_independence,
    influence,
    overlap,
    proportional_hazards,
    proportional_hazards_test,
    separation,
)
from crmresearch.studies.churn.lifecourse import stages
from crmresearch.studies.churn.relationship import VERDICT_LAG, by_tenure, index_hazard_ratio, relationship
from crmresearch.studies.churn.retention import causes, compare, retention
