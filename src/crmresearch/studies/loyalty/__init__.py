"""Study 4: from satisfaction to loyalty to contribution.

Measurement (:mod:`.measurement`), structure (:mod:`.structure` on :mod:`.pls` and :mod:`.sem`), form (:mod:`.form`),
behaviour (:mod:`.behaviour`, :mod:`.response`, :mod:`.dynamics`) and word of mouth (:mod:`.referral`).
"""

from crmresearch.estimators.measurement.model import DEFAULT_PATHS, PathModel, declared_model, prepare_items
from crmresearch.estimators.measurement.ordinal import OrderedLogit, fit_ordered_logit, parallel_slopes
from crmresearch.estimators.measurement.pls import PLS, covariance, fit_pls, predict_folds, resampled_covariances
from crmresearch.estimators.measurement.polychoric import polychoric, resampled_polychoric
from crmresearch.estimators.measurement.sem import SEM, bootstrap_sem, fit_sem, within_customer
from crmresearch.studies.loyalty.behaviour import (
    exit_hazard,
    intention_behaviour,
    later_contribution,
    other_banks,
    privacy_behaviour,
)
from crmresearch.studies.loyalty.dynamics import change_asymmetry, changes, cross_lagged, mediation
from crmresearch.studies.loyalty.form import (
    asymmetry,
    construct_scores,
    dose_response,
    importance_performance,
    moderation,
    ordinal_regression,
    relative_weights,
)
from crmresearch.studies.loyalty.invariance import invariance
from crmresearch.studies.loyalty.measurement import (
    common_method,
    factor_models,
    htmt,
    item_summary,
    ordinal_beside_linear,
    path_gates,
    reliability,
)
from crmresearch.studies.loyalty.panel import account_covariates, answers_with_accounts
from crmresearch.studies.loyalty.referral import referral_gaps, referral_rate
from crmresearch.studies.loyalty.response import nonresponse
from crmresearch.studies.loyalty.structure import beside_sem, effects, path_model, prediction
