"""``python -m crmresearch`` is the command ``crmresearch``."""

from crmresearch.run.cli import main

main()
