"""Study 3: what it costs to win a customer, and what it costs to keep one."""

from crmresearch.cost.acquisition import WinModel, response, selection_bound, win_model
from crmresearch.cost.aipw import Aipw, aipw, sensitivity_bounds
from crmresearch.cost.allocation import Curve, Optimum, customer_equity, five_to_one, optimum, split
from crmresearch.cost.calls import per_sale
from crmresearch.cost.curves import response_curves
from crmresearch.cost.grid import definitions, ratios
from crmresearch.cost.groups import ratios_by
from crmresearch.cost.loss import customer_value, elasticities, five_points, replacement, retention_point
from crmresearch.cost.payback import payback
from crmresearch.cost.published import gates, published
from crmresearch.cost.ratio import LINES, SEVERAL, Fieller, Functional, fieller, lifetime_cost, mean_ratio
from crmresearch.cost.retention import saved, targeted
from crmresearch.cost.selection import Selection, censored_selection, inverse_mills, jointly, two_step
from crmresearch.cost.uplift import policies, qini, uplift

__all__ = [
    "LINES",
    "SEVERAL",
    "Aipw",
    "Curve",
    "Fieller",
    "Functional",
    "Optimum",
    "Selection",
    "WinModel",
    "aipw",
    "censored_selection",
    "customer_equity",
    "customer_value",
    "definitions",
    "elasticities",
    "fieller",
    "five_points",
    "five_to_one",
    "gates",
    "inverse_mills",
    "jointly",
    "lifetime_cost",
    "mean_ratio",
    "optimum",
    "payback",
    "per_sale",
    "policies",
    "published",
    "qini",
    "ratios",
    "ratios_by",
    "replacement",
    "response",
    "response_curves",
    "retention_point",
    "saved",
    "selection_bound",
    "sensitivity_bounds",
    "split",
    "targeted",
    "two_step",
    "uplift",
    "win_model",
]
