"""Reductions by name, each made once: what studies ask for that do not know where data come from."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from crmresearch.data.bank import Bank


class Named:
    """Reductions of one bank, as :class:`crmresearch.studies.Frames`."""

    def __init__(self, bank: Bank) -> None:
        self.bank, self.about = bank, bank.about
        self.made: dict[str, Any] = {}

    def __call__(self, name: str, **how: Any) -> Any:
        """Return what the reduction ``module.function`` gives of the bank."""
        key = f"{name} {sorted(how.items())}"
        if key not in self.made:
            module, _, function = name.rpartition(".")
            found = import_module(f"{__package__}.{module}")
            self.made[key] = getattr(found, function)(self.bank, **how)
        return self.made[key]
