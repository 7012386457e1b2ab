"""The choices that studies declare, found without knowing any study by name."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from crmresearch import studies
from crmresearch.studies import Choices


@functools.cache
def choices() -> Mapping[str, Choices]:
    """Return what is declared, by line of the register, in their order."""
    found = {}
    for module in pkgutil.walk_packages(studies.__path__, f"{studies.__name__}."):
        declared = getattr(importlib.import_module(module.name), "CHOICES", None)
        if isinstance(declared, Choices):
            found[declared.line] = declared
    return dict(sorted(found.items()))
