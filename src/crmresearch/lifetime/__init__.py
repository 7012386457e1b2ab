"""Lifetime models: what a customer's history says about the purchases, renewals and value still to come.

Without a contract (purchases are seen, leaving is not): :class:`BetaGeoFitter`, :class:`ModifiedBetaGeoFitter`,
:class:`ParetoNBDFitter`, :class:`NBDFitter` (no dropout) and, at fixed occasions, :class:`BetaGeoBetaBinomFitter`.
Spend per purchase: :class:`GammaGammaFitter`. With a contract (the end is seen): :class:`ShiftedBetaGeoFitter` and
:class:`BetaDiscreteWeibullFitter`. Names follow the package lifetimes where they mean the same.

Every positive parameter is estimated on the log scale with exact gradients, equal rows are counted once, weights mean
repeated rows, log-likelihoods are in the units of the data. Impossible rows raise InputError, fits without maximum
FitError; corners and flat directions give a FitWarning.
"""

from crmresearch.lifetime.base import Fitter
from crmresearch.lifetime.beta_geo import BetaGeoFitter, ModifiedBetaGeoFitter
from crmresearch.lifetime.beta_geo_beta_binom import BetaGeoBetaBinomFitter
from crmresearch.lifetime.clv import Discounting, constant_retention_value, customer_lifetime_value
from crmresearch.lifetime.contractual import BetaDiscreteWeibullFitter, ShiftedBetaGeoFitter, curve_benchmark
from crmresearch.lifetime.gamma_gamma import GammaGammaFitter
from crmresearch.lifetime.pareto_nbd import NBDFitter, ParetoNBDFitter
from crmresearch.lifetime.resample import bootstrap
from crmresearch.lifetime.summary import check_spend, check_summary

__all__ = [
    "BetaDiscreteWeibullFitter",
    "BetaGeoBetaBinomFitter",
    "BetaGeoFitter",
    "Discounting",
    "Fitter",
    "GammaGammaFitter",
    "ModifiedBetaGeoFitter",
    "NBDFitter",
    "ParetoNBDFitter",
    "ShiftedBetaGeoFitter",
    "bootstrap",
    "check_spend",
    "check_summary",
    "constant_retention_value",
    "curve_benchmark",
    "customer_lifetime_value",
]
