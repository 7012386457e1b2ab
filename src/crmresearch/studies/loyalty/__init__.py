"""Study 4: from satisfaction to loyalty to contribution.

Measurement (:mod:`.measurement`), structure (:mod:`.structure`), form (:mod:`.form`), behaviour (:mod:`.behaviour`,
:mod:`.response`, :mod:`.dynamics`) and word of mouth (:mod:`.referral`); the statistics behind them are in
:mod:`crmresearch.estimators.measurement`.
"""

from crmresearch.studies.loyalty.answers import declared_model, prepare_items
from crmresearch.studies.loyalty.behaviour import (
    exit_hazard,
    intention_behaviour,
    later_contribution,
    other_banks,
    privacy_behaviour,
)
from crmresearch.studies.loyalty.dynamics import change_asymmetry, changes, cross_lagged, drift, mediation
from crmresearch.studies.loyalty.form import (
    asymmetry,
    dose_response,
    importance_performance,
    moderation,
    ordinal_regression,
)
from crmresearch.studies.loyalty.measurement import (
    common_method,
    factor_models,
    htmt,
    invariance,
    item_summary,
    ordinal_beside_linear,
    path_gates,
    reliability,
)
from crmresearch.studies.loyalty.referral import referral_gaps, referral_rate
from crmresearch.studies.loyalty.response import nonresponse
from crmresearch.studies.loyalty.structure import beside_sem, effects, path_model, prediction
