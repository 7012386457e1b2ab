"""What may leave the project: the rules for small cells, dominance, curves and models.

Every displayed or written table passes :func:`protect`. The rules follow those of research data centres (at least ten
contributors, no dominating contributor, ten degrees of freedom); the constants below are the only place they are set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError

MIN_CELL = 10  # people behind a published number
MAX_SHARE_TOP = 0.5  # largest contributor's share of a published total
MAX_SHARE_TOP2 = 0.67  # share of the two largest
MIN_DF = 10  # residual degrees of freedom of a published model
HIDDEN = "<10"  # how a suppressed count is shown
NOTHING = "–"  # a cell without a value
say = words.of("top.disclosure")

IDENTIFIER_COLUMNS = ("customer_id", "prospect_id", "account_id", "client_id", "referrer_id", "manager_id")


@dataclass(frozen=True)
class Protected:
    """A table that may leave, and what was taken out of it.

    Attributes
    ----------
    frame : DataFrame
        Copy of the table; in suppressed rows every number is missing.
    suppressed : int
        Rows suppressed, those hidden as complements included.
    rule : str
        Which rule did it, in words; empty when nothing was suppressed.
    """

    frame: pd.DataFrame
    suppressed: int = 0
    rule: str = ""


def protect(frame: pd.DataFrame, counts: Sequence[str] = ("n",), threshold: int = MIN_CELL) -> Protected:
    """Suppress rows that rest on fewer than ``threshold`` people.

    A suppressed row could be recovered from a total row, or by differencing, when it is the only one; then the next
    smallest row is suppressed as well (complementary suppression). The index names the cells and is kept, so numeric
    keys (year, tenure) belong there.

    Parameters
    ----------
    frame : DataFrame
        Aggregates, one row per cell.
    counts : sequence of str
        Columns that count people. Columns that are absent are ignored; zero is a published fact and stays.
    threshold : int
        Smallest count that may be shown.

    Raises
    ------
    InputError
        If the frame carries a column that identifies people.
    """
    bad = [c for c in frame.columns if str(c) in IDENTIFIER_COLUMNS]
    if bad:
        raise InputError(
            f"a table with the identifier column{'s' if len(bad) > 1 else ''} {', '.join(map(str, bad))} cannot be "
            "displayed or written; aggregate it, or write it to restricted/"
        )
    present = [c for c in counts if c in frame.columns]
    if not present or frame.empty:
        return Protected(frame)
    people = frame[present].apply(pd.to_numeric, errors="coerce")
    smallest = people.where(people > 0).min(axis=1)  # nobody of a few who left hides no few
    small = (smallest < threshold).to_numpy()
    if not small.any():
        return Protected(frame)
    if small.sum() == 1 and (~small).sum() > 1:
        rest = smallest.where(~small)
        if rest.notna().any():
            small[int(np.nanargmin(rest.to_numpy(dtype=float)))] = True
    out = frame.copy()
    for column in out.columns:
        if pd.api.types.is_numeric_dtype(out[column].dtype) and not pd.api.types.is_bool_dtype(out[column].dtype):
            out[column] = out[column].astype(float).mask(small)
        elif column in present:
            out[column] = out[column].mask(small)
    return Protected(out, int(small.sum()), f"fewer than {threshold} people, or the complement of such a row")


def few(n: float) -> str:
    """Say that an estimate rests on too few people to be shown; empty where it does not."""
    return say("few", least=MIN_CELL) if 0 < n < MIN_CELL else ""


def dominated(contributions: Iterable[float]) -> bool:
    """Tell whether one contributor makes up over half of a total, or two over two thirds."""
    size = np.sort(np.abs(np.fromiter(contributions, dtype=float)))[::-1]
    total = size.sum()
    if total == 0:
        return False
    return bool(size[0] > MAX_SHARE_TOP * total or size[:2].sum() > MAX_SHARE_TOP2 * total)


def model_allowed(n: int, parameters: int) -> bool:
    """Tell whether a model leaves enough residual degrees of freedom to be published."""
    return n - parameters >= MIN_DF


def _cell(value: Any, digits: int, plain: bool = False) -> str:
    if value is None or (not isinstance(value, str | bool) and pd.api.types.is_scalar(value) and pd.isna(value)):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value}" if plain else f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isinf(number):
            return "∞" if number > 0 else "-∞"
        if number == 0:
            return "0"
        if abs(number) >= 1000 or (number.is_integer() and abs(number) >= 10):
            return f"{number:,.0f}"
        return f"{number:.1e}" if abs(number) < 10.0**-digits else f"{number:,.{digits}f}"
    return str(value)


def _index_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Move a meaningful index into columns, so that every column has a header."""
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame
    return frame.reset_index(names=[n or "" for n in frame.index.names])


def _columns(frame: pd.DataFrame, digits: int) -> list[tuple[str, bool, list[str]]]:
    """Columns as they are read: name, whether of numbers, cells; an estimate and the ends of its interval are one.

    What a row is stands first (the first column and the text after it), then whatever has an interval.
    """
    shown = _index_names(frame)
    names = [str(c) for c in shown.columns]
    cells = [[_cell(v, digits, name.endswith("year")) for v in shown.iloc[:, k]] for k, name in enumerate(names)]
    number = [pd.api.types.is_numeric_dtype(t) for t in shown.dtypes]
    lows = [k for k in range(len(names) - 1) if number[k] and _ends_at(names, k)]
    taken: dict[int, int] = {}  # the estimate, and where its interval begins
    for k in lows:
        taken[_estimate_of(shown, number, k, {*taken, *lows, *(low + 1 for low in lows)})] = k
    found: list[tuple[str, bool, list[str]]] = []
    other: list[tuple[str, bool, list[str]]] = []
    for k, name in enumerate(names):
        if k in taken:
            low = taken[k]
            pairs = zip(*cells[low : low + 2], strict=True)
            spans = [f"[{a}, {b}]" if {a, b} != {NOTHING} else "" for a, b in pairs]
            if low != k:
                spans = [f"{v} {span}".strip() for v, span in zip(cells[k], spans, strict=True)]
            heading = f"{name.removesuffix('low').removesuffix('_') if low == k else name} [{say('interval')}]"
            found.append((heading.strip(), True, [s or NOTHING for s in spans]))
        elif k not in lows and k - 1 not in lows:
            other.append((name, number[k], cells[k]))
    labels = 0 if 0 in taken else next((k for k, (_, numeric, _) in enumerate(other) if k and numeric), len(other))
    return [*other[:labels], *found, *other[labels:]]


def _estimate_of(shown: pd.DataFrame, number: list[bool], low: int, other: set[int]) -> int:
    """Find the column whose interval begins at ``low``: of its name, or the nearest before that lies within it.

    Where there is none the interval stands for itself. A count, an error or a p-value is no estimate.
    """
    names = [str(c) for c in shown.columns]
    stem = names[low].removesuffix("low").removesuffix("_")
    ends = shown.iloc[:, [low, low + 1]].astype(float)
    for k in reversed(range(low)):
        if k in other or not number[k]:
            continue
        if names[k] == stem:
            return k
        if names[k] in ("n", "se", "p", "q", "p_value", "q_value"):
            continue
        value = shown.iloc[:, k].astype(float)
        known = value.notna() & ends.notna().all(axis=1)
        slack = 1e-9 * (1 + value[known].abs())
        within = (value[known] >= ends[known].iloc[:, 0] - slack) & (value[known] <= ends[known].iloc[:, 1] + slack)
        if known.any() and within.all():
            return k
    return low


def _ends_at(names: list[str], k: int) -> bool:
    """Whether the lower and the upper end of one interval stand there."""
    return names[k].endswith("low") and names[k + 1] == f"{names[k].removesuffix('low')}high"


def text(frame: pd.DataFrame, digits: int = 3) -> str:
    """Write a (protected) table as text with rounded numbers."""
    columns = _columns(frame, digits)
    return pd.DataFrame({k: cells for k, (*_, cells) in enumerate(columns)}).to_string(
        index=False, header=[name for name, *_ in columns]
    )


def html(frame: pd.DataFrame, digits: int = 3) -> str:
    """Write a (protected) table as HTML: numbers to the right, every column with a header, no styles."""
    columns = _columns(frame, digits)
    align = ['style="text-align: right"' if numeric else 'style="text-align: left"' for _, numeric, _ in columns]
    head = "".join(f'<th scope="col" {a}>{escape(name)}</th>' for a, (name, *_) in zip(align, columns, strict=True))
    rows = []
    for row in zip(*(cells for *_, cells in columns), strict=True):
        rows.append("<tr>" + "".join(f"<td {a}>{escape(v)}</td>" for a, v in zip(align, row, strict=True)) + "</tr>")
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
