"""Study 4: from satisfaction to loyalty to contribution.

Measurement (:mod:`.measurement`), structure (:mod:`.structure` on :mod:`.pls` and :mod:`.sem`), form (:mod:`.form`),
behaviour (:mod:`.behaviour`, :mod:`.response`, :mod:`.dynamics`) and word of mouth (:mod:`.referral`).
"""

from crmresearch.loyalty.behaviour import (
    exit_hazard,
    intention_behaviour,
    later_contribution,
    other_banks,
    privacy_behaviour,
)
from crmresearch.loyalty.dynamics import change_asymmetry, changes, cross_lagged, mediation
from crmresearch.loyalty.form import (
    asymmetry,
    construct_scores,
    dose_response,
    importance_performance,
    moderation,
    ordinal_regression,
    relative_weights,
)
from crmresearch.loyalty.invariance import invariance
from crmresearch.loyalty.measurement import (
    common_method,
    factor_models,
    htmt,
    item_summary,
    ordinal_beside_linear,
    path_gates,
    reliability,
)
from crmresearch.loyalty.model import DEFAULT_PATHS, PathModel, declared_model, prepare_items
from crmresearch.loyalty.ordinal import OrderedLogit, fit_ordered_logit, parallel_slopes
from crmresearch.loyalty.panel import account_covariates, answers_with_accounts
from crmresearch.loyalty.pls import PLS, covariance, fit_pls, predict_folds, resampled_covariances
from crmresearch.loyalty.polychoric import polychoric, resampled_polychoric
from crmresearch.loyalty.referral import referral_gaps, referral_rate
from crmresearch.loyalty.response import nonresponse
from crmresearch.loyalty.sem import SEM, bootstrap_sem, fit_sem, within_customer
from crmresearch.loyalty.structure import beside_sem, effects, path_model, prediction

__all__ = [
    "DEFAULT_PATHS",
    "PLS",
    "SEM",
    "OrderedLogit",
    "PathModel",
    "account_covariates",
    "answers_with_accounts",
    "asymmetry",
    "beside_sem",
    "bootstrap_sem",
    "change_asymmetry",
    "changes",
    "common_method",
    "construct_scores",
    "covariance",
    "cross_lagged",
    "declared_model",
    "dose_response",
    "effects",
    "exit_hazard",
    "factor_models",
    "fit_ordered_logit",
    "fit_pls",
    "fit_sem",
    "htmt",
    "importance_performance",
    "intention_behaviour",
    "invariance",
    "item_summary",
    "later_contribution",
    "mediation",
    "moderation",
    "nonresponse",
    "ordinal_beside_linear",
    "ordinal_regression",
    "other_banks",
    "parallel_slopes",
    "path_gates",
    "path_model",
    "polychoric",
    "predict_folds",
    "prediction",
    "prepare_items",
    "privacy_behaviour",
    "referral_gaps",
    "referral_rate",
    "relative_weights",
    "reliability",
    "resampled_covariances",
    "resampled_polychoric",
    "within_customer",
]
