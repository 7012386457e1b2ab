"""Lifetime models: what a customer's history says about the purchases, renewals and value still to come.

Without a contract (purchases are seen, leaving is not): :class:`BetaGeoFitter`, :class:`ModifiedBetaGeoFitter`,
:class:`ParetoNBDFitter`, :class:`NBDFitter` (no dropout) and, at fixed occasions, :class:`BetaGeoBetaBinomFitter`.
Spend per purchase: :class:`GammaGammaFitter`. With a contract (the end is seen): :class:`ShiftedBetaGeoFitter` and
:class:`BetaDiscreteWeibullFitter`. Names follow the package lifetimes where they mean the same.

Every positive parameter is estimated on the log scale with exact gradients, equal rows are counted once, weights mean
repeated rows, log-likelihoods are in the units of the data. Impossible rows raise InputError, fits without maximum
FitError; corners and flat directions give a FitWarning.
"""

from crmresearch.estimators.lifetime.base import Fitter
from crmresearch.estimators.lifetime.beta_geo import BetaGeoFitter, ModifiedBetaGeoFitter
from crmresearch.estimators.lifetime.beta_geo_beta_binom import BetaGeoBetaBinomFitter
from crmresearch.estimators.lifetime.clv import Discounting, customer_lifetime_value
from crmresearch.estimators.lifetime.contractual import BetaDiscreteWeibullFitter, ShiftedBetaGeoFitter
from crmresearch.estimators.lifetime.gamma_gamma import GammaGammaFitter
from crmresearch.estimators.lifetime.pareto_nbd import NBDFitter, ParetoNBDFitter
from crmresearch.estimators.lifetime.resample import bootstrap
from crmresearch.estimators.lifetime.summary import check_spend, check_summary
