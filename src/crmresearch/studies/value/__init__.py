"""Study 1: how customer value is distributed, how lasting it is, and what a customer is worth.

Frames in, results out: the frames come from :mod:`crmresearch.data.reductions.value`.
"""

from crmresearch.estimators.inequality import gini, hill, intervals, lorenz, share_below, top_share
from crmresearch.studies.value.equity import equity_accounting, equity_flows
from crmresearch.studies.value.forecast import calibration, calibration_windows, holdout, tracking
from crmresearch.studies.value.margin import MarginModel, clv_by_band, fit_margin, monthly_discount, tenure_curves
from crmresearch.studies.value.markov import chain_value, markov_value
from crmresearch.studies.value.purchases import (
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
from crmresearch.studies.value.rfm import rfm_scores, rfm_segments
from crmresearch.studies.value.shares import concentration, concentration_by_window, distribution
from crmresearch.studies.value.stability import bands, core_overlap, jaccard, regression_to_mean, transitions
from crmresearch.studies.value.vintages import age_period_cohort, vintages
