"""Study 3: what it costs to win a customer, and what it costs to keep one."""

from crmresearch.studies.cost.budget import five_to_one, response_curves, split
from crmresearch.studies.cost.campaigns import saved, targeted
from crmresearch.studies.cost.evidence import further_calls, gates, per_sale, published
from crmresearch.studies.cost.grid import definitions, ratios
from crmresearch.studies.cost.groups import ratios_by
from crmresearch.studies.cost.losing import five_points, payback, replacement, retention_point
from crmresearch.studies.cost.targeting import policies, uplift
from crmresearch.studies.cost.winning import jointly, response
