"""Study 1: how customer value is distributed, how lasting it is, and what a customer is worth.

Frames in, results out: the frames come from :mod:`crmresearch.data.reductions.value`.
"""

from crmresearch.estimators.worth.margin import fit_margin
from crmresearch.estimators.worth.purchases import fit_purchases
from crmresearch.studies.value.cohorts import age_period_cohort, vintages
from crmresearch.studies.value.equity import equity_accounting
from crmresearch.studies.value.forecast import calibration, calibration_windows, holdout, tracking
from crmresearch.studies.value.margin import clv_by_band, tenure_curves
from crmresearch.studies.value.markov import markov_value
from crmresearch.studies.value.purchases import (
    purchase_calibration,
    purchase_holdout,
    purchase_tracking,
    purchase_value,
    purchase_value_windows,
)
from crmresearch.studies.value.rfm import rfm_segments
from crmresearch.studies.value.shares import concentration, concentration_by_window, distribution
from crmresearch.studies.value.stability import core_overlap, regression_to_mean, transitions
