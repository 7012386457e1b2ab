"""What study 8 takes out of the engine: branches by quarter, customers near a threshold, visits, managers."""

from crmresearch.data.reductions.cost.offers import campaigns
from crmresearch.data.reductions.service.branches import branch_quarters
from crmresearch.data.reductions.service.people import (
    answers_by_waiting,
    balances,
    handling_by_steps,
    managed,
    near_threshold,
    stays_by_waiting,
)
