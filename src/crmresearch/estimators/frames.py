"""What estimators ask of the frames they are given, and sums that leave out one group of customers at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crmresearch.errors import InputError
from crmresearch.rules import rules


def need(frame: Any, what: str, *columns: str) -> None:
    """Refuse a frame without these columns, or with a missing or infinite number in them.

    Parameters
    ----------
    frame : DataFrame
    what : str
        What the frame is, for the message.
    *columns : str
        Columns that must be there; those of text are only looked for.
    """
    lacking = [c for c in columns if c not in frame.columns]
    if lacking:
        raise InputError(f"{what}: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    for column in columns:
        if frame[column].dtype.kind in "bifu" and (bad := int((~np.isfinite(frame[column].to_numpy(float))).sum())):
            raise InputError(f"{what}: {column} is missing or infinite in {bad} rows; leave such rows out, or write 0")


def among(frame: Any, names: Sequence[str]) -> list[str]:
    """Return the columns of a frame with these names, in this order; one that ends in ``_`` is how names begin."""
    return [c for n in names for c in frame.columns if c == n or (n.endswith("_") and str(c).startswith(n))]


def once(frame: Any, what: str) -> None:
    """Refuse a frame in which a customer occurs twice."""
    if "customer_id" in frame.columns and (twice := int(frame["customer_id"].duplicated().sum())):
        raise InputError(f"{what}: {twice} rows repeat a customer_id; give one row per customer")


def inner(values: np.ndarray, share: float, points: int) -> np.ndarray:
    """Return where a curve is drawn: a share of the values lies beyond either end, and as many people as is allowed.

    Axes and pictures are read: where few were asked or won, a share of them would be one person, whose own value the
    end then is.
    """
    beyond = min(max(share, rules.least / len(values)), 0.5)
    return np.linspace(np.quantile(values, beyond), np.quantile(values, 1 - beyond), points)


def without_each(totals: np.ndarray) -> np.ndarray:
    """Stack the total of all groups on the totals without each group; the first axis of ``totals`` is the group."""
    full = totals.sum(axis=0)
    return np.concatenate([full[None], full - totals])
