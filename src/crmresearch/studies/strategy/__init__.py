"""Study 5: what a bank should do for whom, and whether it pays."""

from crmresearch.studies.strategy.capture import leavers
from crmresearch.studies.strategy.offers import aimed, held, paid, potential
from crmresearch.studies.strategy.policies import by_band, policy
from crmresearch.studies.strategy.segments import companies, gain, profile, stability
