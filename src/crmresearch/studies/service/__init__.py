"""Study 8: what service does: branches that convert, waiting, steps, priority, invitations, managers."""

from crmresearch.studies.service.branches import beside, cohorts, conversion, handling, missing
from crmresearch.studies.service.load import customers, dose, waiting
from crmresearch.studies.service.people import invited, managed
from crmresearch.studies.service.threshold import priority
