"""What study 3 takes out of the engine: spend and outcome of prospects, upkeep of customers, and campaigns."""

from crmresearch.data.reductions.cost.offers import campaigns
from crmresearch.data.reductions.cost.spend import (
    acquisition,
    contacts_per_sale,
    currency,
    joint,
    period,
    prospects,
    upkeep,
)
