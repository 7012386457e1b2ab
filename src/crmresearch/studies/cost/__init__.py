"""Study 3: what it costs to win a customer, and what it costs to keep one."""

from crmresearch.estimators.causal.aipw import Aipw, aipw, sensitivity_bounds
from crmresearch.estimators.causal.selection import Selection, censored_selection, inverse_mills, jointly, two_step
from crmresearch.studies.cost.acquisition import WinModel, response, selection_bound, win_model
from crmresearch.studies.cost.allocation import Curve, Optimum, customer_equity, five_to_one, optimum, split
from crmresearch.studies.cost.calls import per_sale
from crmresearch.studies.cost.curves import response_curves
from crmresearch.studies.cost.grid import definitions, ratios
from crmresearch.studies.cost.groups import ratios_by
from crmresearch.studies.cost.loss import customer_value, elasticities, five_points, replacement, retention_point
from crmresearch.studies.cost.payback import payback
from crmresearch.studies.cost.published import gates, published
from crmresearch.studies.cost.ratio import LINES, SEVERAL, Fieller, Functional, fieller, lifetime_cost, mean_ratio
from crmresearch.studies.cost.retention import saved, targeted
from crmresearch.studies.cost.uplift import policies, qini, uplift
