"""Study 7: what channels do: fresh events before exits, exits and contribution after adoption, digital help."""

from crmresearch.studies.channels.events import fresh
from crmresearch.studies.channels.exits import adopted
from crmresearch.studies.channels.help import helped
from crmresearch.studies.channels.income import earned
