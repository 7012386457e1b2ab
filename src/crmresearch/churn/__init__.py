"""Study 2: who leaves, when, and why. Estimators on frames, and studies that return results.

Spells are frames with ``exit`` and ``event``, optional ``entry`` (late entry), ``cause`` and ``n`` (customers a row
stands for). Every estimator respects late entry and treats ``n`` as that many rows.
"""

from crmresearch.churn.breadth import breadth, standardised
from crmresearch.churn.campaigns import adjusted_difference, aimed, randomised
from crmresearch.churn.cox import CoxFit, cox, cox_bootstrap, dfbeta
from crmresearch.churn.curves import (
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
from crmresearch.churn.definitions import definitions
from crmresearch.churn.discrete import DiscreteFit, FrailtyFit, discrete_hazard, frailty, natural_spline, weibull_aft
from crmresearch.churn.duration import duration_dependence
from crmresearch.churn.finegray import fine_gray
from crmresearch.churn.forecast import ExitModel, action_list, fit_exit_model, forecast
from crmresearch.churn.gates import (
    censoring_bounds,
    enough_events,
    entry_independence,
    influence,
    overlap,
    proportional_hazards,
    proportional_hazards_test,
    separation,
)
from crmresearch.churn.incidence import aalen_johansen, cumulative_incidence
from crmresearch.churn.lifecourse import stages
from crmresearch.churn.predict import (
    area_under_curve,
    brier,
    calibration,
    capture,
    censoring_weights,
    concordance,
    decision_curve,
    score_bootstrap,
)
from crmresearch.churn.relationship import VERDICT_LAG, by_tenure, index_hazard_ratio, relationship
from crmresearch.churn.retention import causes, compare, retention
from crmresearch.churn.risk import cell_rows, read_spells

__all__ = [
    "MIN_AT_RISK",
    "VERDICT_LAG",
    "CoxFit",
    "DiscreteFit",
    "ExitModel",
    "FrailtyFit",
    "aalen_johansen",
    "action_list",
    "adjusted_difference",
    "aimed",
    "area_under_curve",
    "breadth",
    "brier",
    "by_tenure",
    "calibration",
    "capture",
    "causes",
    "cell_rows",
    "censoring_bounds",
    "censoring_weighted",
    "censoring_weights",
    "compare",
    "concordance",
    "cox",
    "cox_bootstrap",
    "cumulative_incidence",
    "decision_curve",
    "definitions",
    "dfbeta",
    "discrete_hazard",
    "duration_dependence",
    "enough_events",
    "entry_independence",
    "fine_gray",
    "first_tenure",
    "fit_exit_model",
    "forecast",
    "frailty",
    "index_hazard_ratio",
    "influence",
    "kaplan_meier",
    "life_table",
    "logrank",
    "natural_spline",
    "overlap",
    "pairwise_logrank",
    "proportional_hazards",
    "proportional_hazards_test",
    "randomised",
    "read_spells",
    "relationship",
    "restricted_mean",
    "restricted_mean_difference",
    "retention",
    "score_bootstrap",
    "separation",
    "stages",
    "standardised",
    "weibull_aft",
]
