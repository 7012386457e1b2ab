"""Study 1: how customer value is distributed, how lasting it is, and what a customer is worth.

Frames in, results out: the frames come from :mod:`crmresearch.reductions.value`.
"""

from crmresearch.value.equity import equity_accounting, equity_flows
from crmresearch.value.forecast import calibration, calibration_windows, holdout, tracking
from crmresearch.value.inequality import gini, hill, intervals, lorenz, share_below, top_share
from crmresearch.value.margin import MarginModel, clv_by_band, fit_margin, monthly_discount, tenure_curves
from crmresearch.value.markov import chain_value, markov_value
from crmresearch.value.purchases import (
    PurchaseModel,
    fit_purchases,
    purchase_calibration,
    purchase_holdout,
    purchase_tracking,
    purchase_value,
    purchase_value_windows,
    residual_value,
    spend_gates,
)
from crmresearch.value.rfm import rfm_scores, rfm_segments
from crmresearch.value.shares import concentration, concentration_by_window, distribution
from crmresearch.value.stability import bands, core_overlap, jaccard, regression_to_mean, transitions
from crmresearch.value.vintages import age_period_cohort, vintages

__all__ = [
    "MarginModel",
    "PurchaseModel",
    "age_period_cohort",
    "bands",
    "calibration",
    "calibration_windows",
    "chain_value",
    "clv_by_band",
    "concentration",
    "concentration_by_window",
    "core_overlap",
    "distribution",
    "equity_accounting",
    "equity_flows",
    "fit_margin",
    "fit_purchases",
    "gini",
    "hill",
    "holdout",
    "intervals",
    "jaccard",
    "lorenz",
    "markov_value",
    "monthly_discount",
    "purchase_calibration",
    "purchase_holdout",
    "purchase_tracking",
    "purchase_value",
    "purchase_value_windows",
    "regression_to_mean",
    "residual_value",
    "rfm_scores",
    "rfm_segments",
    "share_below",
    "spend_gates",
    "tenure_curves",
    "top_share",
    "tracking",
    "transitions",
    "vintages",
]
