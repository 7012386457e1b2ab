"""Customer summaries: what rows are possible, and how equal rows are counted once.

A customer summary has one row per customer: ``frequency`` (number of repeat purchases, the first one not counted),
``recency`` (time from the first to the last purchase, 0 without a repeat purchase), ``T`` (time from the first
purchase to the end of observation, same unit) and, for models of spend, ``monetary_value`` (mean spend per repeat
purchase). Recency here is the customer's age at the last purchase; in RFM segments it is the time since then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crmresearch.errors import InputError

Array = NDArray[np.float64]


def column(values: ArrayLike, name: str, most: int = 1) -> Array:
    """Return ``values`` as doubles of at most ``most`` dimensions without missing entries."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not numeric ({error}); convert it before the fit") from None
    if array.ndim > most:
        raise InputError(f"{name} has {array.ndim} dimensions; give one column")
    if array.size and not np.isfinite(array.sum()) and not np.isfinite(array).all():  # one pass when all is well
        complain(name, ~np.isfinite(array), "missing or infinite", "drop or repair these rows; nothing is imputed")
    return array


def complain(name: str, bad: NDArray[np.bool_], what: str, advice: str) -> None:
    """Raise an InputError that counts the bad rows and names the first of them, if there are any."""
    rows = np.flatnonzero(bad)
    if rows.size:
        first = ", ".join(str(i) for i in rows[:5])
        raise InputError(f"{name}: {rows.size} of {np.size(bad)} rows {what} (positions {first}); {advice}")


def integers(values: Array, name: str, least: int = 0) -> None:
    """Raise an InputError unless every value is a whole number of at least ``least``."""
    complain(name, values < least, f"below {least}", "a count cannot be; look at how the summary was made")
    complain(name, values != np.floor(values), "not whole numbers", "it counts purchases; do not average it")


def check_summary(frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> tuple[Array, Array, Array]:
    """Return frequency, recency and T as arrays, or say which rows no purchase history can have.

    Parameters
    ----------
    frequency : array_like of int
        Repeat purchases.
    recency, T : array_like of float
        Age at the last purchase and at the end of observation, in one unit of time.

    Raises
    ------
    InputError
        Rows that are missing, negative, not whole in frequency, with recency above T, with frequency 0 and recency
        above 0, or with a repeat purchase at age 0. The message counts them and names the first five positions.
    """
    x, t_x, age = column(frequency, "frequency"), column(recency, "recency"), column(T, "T")
    try:
        np.broadcast_shapes(x.shape, t_x.shape, age.shape)
    except ValueError:
        shapes = f"{x.size}, {t_x.size} and {age.size}"
        raise InputError(f"frequency, recency and T have {shapes} rows; give one row per customer") from None
    integers(x, "frequency")
    complain("recency", t_x < 0, "negative", "it is the age at the last purchase")
    complain("T", age < 0, "negative", "it is the age at the end of observation")
    complain(
        "recency", t_x > age, "above T", "the last purchase lies after the end of observation; check units and end"
    )
    odd = (x == 0) != (t_x == 0)
    if odd.any():
        complain("recency", odd & (x == 0), "above 0 with frequency 0", "without a repeat purchase recency is 0")
        complain("recency", odd, "0 with frequency above 0", "merge purchases of one day, or count time more finely")
    return x, t_x, age


def check_spend(frequency: ArrayLike, monetary_value: ArrayLike) -> tuple[Array, Array]:
    """Return frequency and mean spend as arrays, or say which rows the gamma-gamma model cannot take."""
    x, m = column(frequency, "frequency"), column(monetary_value, "monetary_value")
    if x.shape != m.shape:
        raise InputError(f"frequency and monetary_value have {x.size} and {m.size} rows; give one row per customer")
    integers(x, "frequency")
    complain(
        "frequency", x == 0, "without a repeat purchase", "fit on frame[frame.frequency > 0]: the others show no spend"
    )
    advice = "the gamma-gamma model needs positive spend; for balances that can be negative use survival x margin"
    complain("monetary_value", m <= 0, "not positive", advice)
    return x, m


def check_weights(weights: ArrayLike, rows: int) -> Array:
    """Return weights, or say which are impossible; a weight says how often a row is repeated."""
    w = column(weights, "weights")
    if w.shape != (rows,):
        raise InputError(f"weights have {w.size} rows, the data {rows}")
    complain("weights", w < 0, "negative", "a weight says how many customers a row stands for")
    if not w.sum() > 0:
        raise InputError("weights sum to 0: no customer is left")
    return w


def levels_of(x: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the counts that can occur and the position of each row's among them, so that x is looked up in tables."""
    top = int(x.max())
    if top < 100_000:
        return np.arange(top + 1.0), x.astype(np.intp)
    levels, place = np.unique(x, return_inverse=True)
    return levels, place


def _key(columns: Sequence[Array]) -> tuple[NDArray[np.int64], bool]:
    """One integer per row: exact packing when all values are whole and fit, else a hash of the bits."""
    key, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for values in columns:
        whole = values.astype(np.int64) if values.size and values.max() < 2**31 and values.min() >= 0 else None
        if whole is None or not (whole == values).all() or size * (int(whole.max()) + 1) >= 2**62:
            break
        key = key * (int(whole.max()) + 1) + whole
        size *= int(whole.max()) + 1
    else:
        return (key.astype(np.int32) if size < 2**31 else key), True
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for values in columns:
        mixed = (mixed ^ (values + 0.0).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)  # odd: a bijection each time
        mixed ^= mixed >> np.uint64(29)
    return mixed.view(np.int64), False


def collapse(
    columns: Sequence[Array], weights: Array | None = None, inverse: bool = False
) -> tuple[list[Array], Array, Any]:
    """Count equal rows once.

    Parameters
    ----------
    columns : sequence of ndarray
        Columns of doubles, one row per customer.
    weights : ndarray, optional
        How often each row is repeated; 1 when None.
    inverse : bool
        Whether to return, for every row, the position of its value among the distinct rows.

    Returns
    -------
    columns, weights, inverse
        Distinct rows, the sum of their weights, and the positions (None unless asked for).
    """
    if len(columns[0]) == 0:
        return list(columns), np.zeros(0), np.zeros(0, np.int64) if inverse else None
    key, exact = _key(columns)
    if exact and weights is None and not inverse:  # values alone decide: no permutation is needed
        key.sort()
        first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
        counts = np.diff(first, append=len(key)).astype(np.float64)
        packed, out = key[first].astype(np.int64), []
        for values in reversed(columns):
            packed, rest = np.divmod(packed, int(values.max()) + 1)
            out.append(rest.astype(np.float64))
        return out[::-1], counts, None
    order = np.argsort(key, kind="stable")
    ordered = [values[order] for values in columns]
    new = np.concatenate(([True], np.logical_or.reduce([v[1:] != v[:-1] for v in ordered])))
    key = key[order]
    if not exact and (np.concatenate(([True], key[1:] != key[:-1])) != new).any():  # two rows with one hash
        order = np.lexsort(columns[::-1])
        ordered = [values[order] for values in columns]
        new = np.concatenate(([True], np.logical_or.reduce([v[1:] != v[:-1] for v in ordered])))
    first = np.flatnonzero(new)
    summed = np.add.reduceat(np.ones(len(order)) if weights is None else weights[order], first)
    position = None
    if inverse:
        position = np.empty(len(order), dtype=np.int64)
        position[order] = np.cumsum(new) - 1
    return [v[first] for v in ordered], summed, position
