"""From arrays to tables: dates, money in whole cents, identifiers, and the two forms a table takes (pandas, Arrow)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


Array = NDArray[Any]
START = np.datetime64("2021-01", "M")  # the observation starts here, whatever its length
NO_DATE = np.iinfo(np.int32).min


@dataclass(frozen=True)
class Codes:
    """Text by position in a short list; -1 stands for a missing value."""

    codes: Array
    texts: Sequence[str] | Array


Block = dict[str, Any]  # column -> array: kind by name, see _kind


def days(time: Array) -> Array:
    """Days since 1970 of times in months from the observation start; infinite times give NO_DATE."""
    finite = np.isfinite(time)
    t = np.where(finite, time, 0.0)
    month = np.floor(t).astype(np.int64)
    first = (START + month).astype("datetime64[D]").astype(np.int64)
    length = (START + month + 1).astype("datetime64[D]").astype(np.int64) - first
    day = first + np.floor((t - month) * length).astype(np.int64)
    return np.where(finite, day, NO_DATE).astype(np.int32)


def month_starts(months: int) -> Array:
    """Day on which each month starts, and the day after the last one ends."""
    return (START + np.arange(months + 1)).astype("datetime64[D]").astype(np.int32)


def last_day(months: int) -> int:
    """Last day of the observation."""
    return int(month_starts(months)[-1]) - 1


def cents(amount: Array) -> Array:
    """Whole cents of an amount."""
    return np.rint(np.asarray(amount, dtype=np.float64) * 100).astype(np.int64)


_DATES = {"acquired_on", "observed_from", "left_on", "opened_on", "closed_on", "month", "occurred_on",
          "first_contact_on", "contacted_on", "wave_on", "rival_entered_on",
          "converted_on", "help_from", "asked_on", "priority_since"}  # fmt: skip
_MONEY = {"balance", "net_interest", "fees", "service_cost", "risk_cost", "allocated_cost", "amount", "spend", "cost",
          "outside_estimate"}  # fmt: skip
_FLAGS = {"won", "randomised", "responded", "sampled", "resolved", "chosen", "principal_guaranteed", "spend_randomised"}
_COUNTS = {"city_tier", "birth_year", "term_months", "tier", "rival_branches", "steps", "lookups", "lookups_last_week"}


def _kind(name: str, value: Any) -> str:
    if isinstance(value, Codes):
        return "text"
    for kind, names in (("date", _DATES), ("money", _MONEY), ("flag", _FLAGS), ("count", _COUNTS)):
        if name in names:
            return kind
    return "number"


def to_frame(block: Block) -> pd.DataFrame:
    """Return a frame with the contract's types; flags and counts with gaps use pandas' nullable types."""
    out: dict[str, Any] = {}
    for name, value in block.items():
        kind = _kind(name, value)
        if kind == "text":
            texts = np.array([*value.texts, None], dtype=object)  # code -1 takes the last
            out[name] = texts[value.codes]
        elif kind == "date":
            day = value.astype("int64")
            out[name] = np.where(day == NO_DATE, np.datetime64("NaT"), day.astype("datetime64[D]")).astype(
                "datetime64[ns]"
            )
        elif kind == "money":
            out[name] = value / 100.0
        elif kind == "flag":
            out[name] = pd.arrays.BooleanArray(value == 1, value < 0) if (value < 0).any() else value == 1
        elif kind == "count":
            gaps = value < 0
            out[name] = pd.arrays.IntegerArray(value.astype(np.int64), gaps) if gaps.any() else value.astype(np.int64)
        else:
            out[name] = np.asarray(value, dtype=np.float64)
    return pd.DataFrame(out, copy=False)


def _decimal(value: Array) -> pa.Array:
    import pyarrow as pa

    wide = np.empty((len(value), 2), dtype=np.int64)  # little-endian 128 bits: low half, then sign
    wide[:, 0] = value
    wide[:, 1] = value >> 63
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(value), [None, pa.py_buffer(wide)])


def to_arrow(block: Block) -> pa.RecordBatch:
    """Return an Arrow batch: money as DECIMAL(18,2), days as date32, text dictionary-encoded."""
    import pyarrow as pa

    arrays: dict[str, pa.Array] = {}
    for name, value in block.items():
        kind = _kind(name, value)
        if kind == "text":
            codes = pa.array(value.codes.astype(np.int32), mask=value.codes < 0)
            texts = pa.array(list(value.texts), type=pa.string())
            arrays[name] = pa.DictionaryArray.from_arrays(codes, texts)
        elif kind == "date":
            arrays[name] = pa.array(value.astype(np.int32), mask=value == NO_DATE).cast(pa.date32())
        elif kind == "money":
            arrays[name] = _decimal(value)
        elif kind == "flag":
            arrays[name] = pa.array(value == 1, mask=value < 0)
        elif kind == "count":
            arrays[name] = pa.array(value.astype(np.int32), mask=value < 0)
        else:
            number = np.asarray(value, dtype=np.float64)
            arrays[name] = pa.array(number, mask=np.isnan(number))
    return pa.RecordBatch.from_pydict(arrays)


def joined(blocks: Sequence[Block]) -> Block:
    """Append blocks of one table."""
    if len(blocks) == 1:
        return blocks[0]
    out: Block = {}
    for name, first in blocks[0].items():
        if not isinstance(first, Codes):
            out[name] = np.concatenate([b[name] for b in blocks])
        elif all(b[name].texts is first.texts for b in blocks):
            out[name] = Codes(np.concatenate([b[name].codes for b in blocks]), first.texts)
        else:  # texts differ by block (identifiers): lay the lists end to end
            offsets = np.cumsum([0, *(len(b[name].texts) for b in blocks)])
            codes = [np.where(b[name].codes < 0, -1, b[name].codes + o) for b, o in zip(blocks, offsets, strict=False)]
            out[name] = Codes(np.concatenate(codes), np.concatenate([np.asarray(b[name].texts) for b in blocks]))
    return out
