"""Study 6: what competition does: trends, shares and income after rivals enter, and who leaves then."""

from crmresearch.studies.competition.exits import leaving
from crmresearch.studies.competition.outflow import platforms
from crmresearch.studies.competition.relations import managed
from crmresearch.studies.competition.rivals import cohorts, entry, income
from crmresearch.studies.competition.years import trend
