"""Marginal facts of a simulated bank beside published ones."""

from __future__ import annotations

from typing import Any


def marginal_facts(bank: Any) -> Any:
    """Later."""
    raise NotImplementedError
