"""Reductions: what runs inside the engine. A bank goes in, a small frame comes out.

One module per study. Each function takes a :class:`~crmresearch.bank.Bank` and returns an ordered frame with at most
one row per customer, or :class:`~crmresearch.errors.Missing` where the bank does not bring what it needs.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["base", "churn", "cost", "loyalty", "value"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
