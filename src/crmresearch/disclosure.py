"""The one door: which rows of a table the rules hide, the table as it may leave, and how its cells are written.

Every displayed, drawn or written table passes :func:`protect`; thresholds stand in :mod:`.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import rounding, words
from crmresearch.errors import InputError
from crmresearch.rules import Whose, rules

Counts = Sequence[str] | Sequence[Sequence[str]]
NOTHING = "–"  # a cell without a value
REASON = "suppressed"  # column that names the rule which hides a row
FREE = ["channel", "acquisition_channel", "segment", "city", "campaign"]  # somebody may have typed their names
WHOSE = "whose"  # column that says whose a row's money is (:class:`.rules.Whose`); it is taken out
ROUND = "round"  # columns whose numbers were rounded with counts: again they would move further
OFF = "off"  # numbers of hidden rows, and the most people that stand behind each, until the result is made
say = words.of("top.disclosure")

IDENTIFIER_COLUMNS = ("customer_id", "prospect_id", "account_id", "client_id", "referrer_id", "manager_id")


@dataclass(frozen=True)
class Protected:
    """A table that may leave, and what was taken out of it.

    Attributes
    ----------
    frame : DataFrame
        Copy of the table. In a hidden row nothing is left but the names of what it is about, and the rule.
    rules : dict of str to int
        Rows hidden, by rule.
    counts : sequence
        What the table was protected by; the frame remembers it too.
    """

    frame: pd.DataFrame
    rules: dict[str, int]
    counts: Counts

    @property
    def suppressed(self) -> int:
        """Rows hidden."""
        return sum(self.rules.values())


def protect(frame: pd.DataFrame, counts: Counts = ("n",), parts: bool = True) -> Protected:
    """Hide the rows of a table that rules do not let out; see :func:`hidden`. What is hidden stays so when done again.

    Numbers, flags, and text behind the first number (a note, say) are taken out of a hidden row. The index and the
    text before the first number name the cells and are kept, so numeric keys (year, tenure) belong in the index.

    Parameters
    ----------
    frame : DataFrame
        Aggregates, one row per cell. A column ``whose`` says whose money a row holds (:func:`.rules.whose`), and is
        taken out.
    counts : sequence of str, or of sequences of str
        Columns that count people, as for :func:`hidden`.
    parts : bool
        Whether rows may be parts of a total.

    Raises
    ------
    InputError
        If the frame carries a column, or an index, that identifies people, or lacks a column that it is to count by.
    """
    named = [*map(str, frame.columns), *(str(n) for n in frame.index.names if n is not None)]
    bad = [c for c in named if c.lower() in IDENTIFIER_COLUMNS]
    if bad:
        raise InputError(
            f"a table with the identifier column{'s' if len(bad) > 1 else ''} {', '.join(bad)} cannot be "
            "displayed or written; aggregate it, or write it to restricted/"
        )
    columns = list(dict.fromkeys(c for group in grouped(counts) for c in group))
    if lacking := [c for c in columns if c not in frame.columns]:
        raise InputError(
            f"a table with the columns {', '.join(map(str, frame.columns))} counts people by {', '.join(lacking)}, "
            "which it lacks; name the columns that count people"
        )
    if WHOSE in frame and not all(isinstance(w, Whose) for w in frame[WHOSE]):
        raise InputError("a table does not say of each row whose its money is; give rules.whose of the contributions")
    heavy = frame[WHOSE].map(lambda w: w.dominated).astype(bool) if WHOSE in frame else None
    out = frame.drop(columns=[WHOSE], errors="ignore").copy()
    why = hidden(out.drop(columns=[REASON], errors="ignore"), counts, heavy, parts).map(
        {"": ""} | dict(say.names("rules"))
    )
    why.index = out.index
    if REASON in out:
        why = out[REASON].fillna("").where(out[REASON].fillna("").ne(""), why)
    off = why.ne("").to_numpy()
    out.attrs |= {"counts": counts, "parts": parts, WHOSE: heavy is not None or out.attrs.get(WHOSE, False)}
    exact = out
    if rules.base > 1 and columns:
        out = rounding.frame(out, columns, done=out.attrs.get(ROUND, ()))
        out.attrs[ROUND] = [*map(str, out.columns)]
    if not off.any():
        return Protected(out, {}, counts)
    numbers = [pd.api.types.is_numeric_dtype(t) for t in out.dtypes]
    people = exact.loc[off, columns].apply(pd.to_numeric, errors="coerce").max(axis=1) if columns else None
    most = np.full(int(off.sum()), np.inf) if people is None else people.fillna(np.inf).to_numpy(float)
    told = zip(exact.loc[off].select_dtypes("float").to_numpy().tolist(), most.tolist(), strict=True)
    out.attrs[OFF] = out.attrs.get(OFF, {}) | {v: n for row, n in told for v in row if v not in (0, 1)}
    first = numbers.index(True) if True in numbers else len(numbers)
    for place, column in enumerate(out.columns):
        values, dtype = out[column], out[column].dtype
        if pd.api.types.is_bool_dtype(dtype):
            out[column] = values.astype(object).mask(off, None)
        elif pd.api.types.is_numeric_dtype(dtype):
            out[column] = values.astype(float).mask(off)
        elif column in columns or pd.api.types.is_datetime64_any_dtype(dtype):
            out[column] = values.mask(off)
        elif place > first and column != REASON:
            out[column] = values.astype(object).mask(off, "")
    out[REASON] = why
    out = _unnamed(out, why.eq(say.names("rules")["few"]).to_numpy())
    return Protected(out, {str(k): int(v) for k, v in why[off].value_counts().items()}, counts)


def _unnamed(out: pd.DataFrame, rare: np.ndarray) -> pd.DataFrame:
    """Take the names of what few people are in, where somebody may have typed them."""
    other = say("other", least=rules.least)
    for column in out.columns.intersection(FREE):
        out[column] = out[column].astype(object).mask(rare, other)
    if set(FREE) & set(out.index.names):
        keys = out.index.to_frame(index=False).astype(object)
        for level in keys.columns.intersection(FREE):
            keys[level] = keys[level].mask(rare, other)
        out.index = pd.MultiIndex.from_frame(keys) if keys.shape[1] > 1 else pd.Index(keys.iloc[:, 0])
    return out


def safe(frame: pd.DataFrame, counts: Counts = ("n",), parts: bool = True) -> pd.DataFrame:
    """Return the table as it may leave: what a study makes sentences and figures from."""
    return protect(frame, counts, parts).frame


def declared(frame: pd.DataFrame, counts: Counts | None = None) -> Protected:
    """Protect a table by the counts it declares: these, or those it was protected by before, or its column ``n``.

    Raises
    ------
    InputError
        If a table with rows declares none.
    """
    if counts is None:
        counts = frame.attrs.get("counts", ("n",) if "n" in frame or frame.empty else None)
    if frame.empty:
        return Protected(frame, {}, counts or ())
    if counts is None:
        raise InputError(
            f"a table with the columns {', '.join(map(str, frame.columns))} declares no count of people; name those "
            "that count people in counts=(...), or give counts=() where no row is about people"
        )
    return protect(frame, counts, frame.attrs.get("parts", True))


def coarse(events: Any) -> np.ndarray:
    """Mark the rows of a curve that stay so that it takes no step of a few: the first, and each after enough events."""
    kept, since = [], 0.0
    for at, count in enumerate(np.asarray(events, dtype=float)):
        since += count
        kept.append(at == 0 or not 0 < since < rules.least)
        since = 0.0 if kept[-1] else since
    return np.array(kept, dtype=bool)


def few(n: float) -> str:
    """Say that an estimate rests on too few people to be shown; empty where it does not."""
    return say("few", least=rules.least) if 0 < n < rules.least else ""


def model_allowed(n: float, parameters: float, events: float = np.inf) -> bool:
    """Tell whether a model leaves enough residual degrees of freedom, and events a parameter, to be published."""
    return n - parameters >= rules.freedom and events >= rules.per_parameter * parameters


def grouped(counts: Counts) -> list[list[str]]:
    """Counts by the whole they are part of: the first of each group is the whole, and one group may stand alone."""
    if _flat(counts):
        return [list(map(str, counts))] if counts else []
    return [[g] if isinstance(g, str) else list(g) for g in counts]


def _flat(counts: Counts) -> bool:
    return all(isinstance(c, str) for c in counts)


def hidden(frame: pd.DataFrame, counts: Counts, dominated: pd.Series | None = None, parts: bool = True) -> pd.Series:
    """Name the rule that hides each row of a table; empty where it may be shown.

    ``few``: a count of some people, but too few. ``unknown``: no count. ``difference``: a part leaves too few of its
    whole, or is nearly all of it. ``dominance``: see :class:`.rules.Whose`. ``total``: with this row shown, a hidden
    one could be had back from a total: of every line of the table two rows are hidden at least, which together count
    twice the threshold, and in a table of two keys whatever linear programming would find out is hidden too.

    Parameters
    ----------
    frame : DataFrame
        One row per cell; keys of a crossed table are the levels of its index.
    counts : sequence of str, or of sequences of str
        Columns that count people. Those of one group are a whole and parts of it, in this order.
    dominated : Series of bool, optional
        Rows whose money one or two people make.
    parts : bool
        Whether rows may be parts of a total.
    """
    why = pd.Series("", index=range(len(frame)), dtype=object)
    if frame.empty:
        return why
    groups = grouped(counts)
    columns = list(dict.fromkeys(c for g in groups for c in g))
    people = pd.DataFrame({c: pd.to_numeric(frame[c], errors="coerce").to_numpy() for c in columns})
    if dominated is not None:
        why[np.asarray(dominated, dtype=bool)] = "dominance"
    for group in groups:
        for at, whole in enumerate(group):
            for part in group[at + 1 :]:
                gap = (people[whole] - people[part]).abs()
                most = people[[whole, part]].min(axis=1) > rules.part * people[[whole, part]].max(axis=1)
                why[((gap > 0) & (gap < rules.least)) | (most & (gap > 0))] = "difference"
    if columns:
        why[people.isna().any(axis=1)] = "unknown"
        why[((people > 0) & (people < rules.least)).any(axis=1)] = "few"
        if parts:
            _totals(why, people, _lines(frame))
    return why


def _lines(frame: pd.DataFrame) -> list[np.ndarray]:
    """Rows that add up to a total somebody may know: all, or along each key of a crossed table."""
    if frame.index.nlevels == 1:
        return [np.arange(len(frame))]
    keys = frame.index.to_frame(index=False)
    lines: list[np.ndarray] = []
    for level in keys:
        others = [c for c in keys if c != level]
        lines += [rows.to_numpy() for rows in keys.groupby(others, dropna=False).groups.values()]
    return lines


def _totals(why: pd.Series, people: pd.DataFrame, lines: list[np.ndarray]) -> None:
    """Hide further rows until no hidden one can be had back from the totals of its lines."""
    changed = bool((why != "").any())
    while changed:
        changed = False
        for line in lines:
            changed |= _close(why, people, line)
        if not changed and len(lines) > 1:
            changed = _attack(why, people, lines)


def _close(why: pd.Series, people: pd.DataFrame, line: np.ndarray) -> bool:
    """Hide the next smallest row of a line that hides too little; tell whether there was one."""
    out = (why[line] != "").to_numpy()
    if not out.any() or out.all():
        return False
    for column in people:
        own = people[column].to_numpy(dtype=float)[line]
        at_risk = (own[out] > 0) & (own[out] < rules.least)
        if (out.sum() == 1 and own[out].sum() > 0) or (at_risk.any() and np.nansum(own[out]) < 2 * rules.least):
            rest = np.where(out | ~(own > 0), np.inf, own)
            if np.isfinite(rest.min()):
                why[line[int(rest.argmin())]] = "total"
                return True
    return False


def interval(people: np.ndarray, out: np.ndarray, lines: list[np.ndarray], row: int) -> tuple[float, float]:
    """Find what somebody who knows all totals and all rows shown can tell of a hidden count, by linear programming."""
    from scipy.optimize import linprog

    free = np.flatnonzero(out)
    place = {int(r): k for k, r in enumerate(free)}
    equal = np.zeros((len(lines), free.size))
    for i, line in enumerate(lines):
        equal[i, [place[int(r)] for r in line if out[r]]] = 1.0
    goal = np.zeros(free.size)
    goal[place[row]] = 1.0
    known = equal @ people[free]
    ends = [linprog(sign * goal, A_eq=equal, b_eq=known, bounds=(0, None)).fun for sign in (1, -1)]
    return float(ends[0]), -float(ends[1])


def _attack(why: pd.Series, people: pd.DataFrame, lines: list[np.ndarray]) -> bool:
    """Hide one more row of the lines of a count that linear programming would find; tell whether there was one."""
    out = (why != "").to_numpy()
    for column in people:
        own = people[column].fillna(0).to_numpy(dtype=float)
        for row in np.flatnonzero(out & (own > 0) & (own < rules.least)):
            low, high = interval(own, out, lines, int(row))
            # of a line that is hidden as a whole no cell can be less certain than its total
            whole = [own[line].sum() for line in lines if row in line and out[line].all()]
            if high - low >= min([rules.least - 1, *whole]):
                continue
            near = np.concatenate([line for line in lines if row in line])
            rest = [r for r in near if not out[r] and own[r] > 0]
            if rest:
                why[min(rest, key=lambda r: own[r])] = "total"
                return True
    return False


def _cell(value: Any, digits: int, plain: bool = False, size: float = 0.0) -> str:
    """Write a cell; ``size`` is the largest number of its estimate and interval, which are written alike."""
    if value is None or (not isinstance(value, str | bool) and pd.api.types.is_scalar(value) and pd.isna(value)):
        return NOTHING
    if isinstance(value, bool | np.bool_):
        return words.local("yes" if value else "no")
    if isinstance(value, int | np.integer):
        return f"{value}" if plain else f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isinf(number):
            return "∞" if number > 0 else "-∞"
        if number == 0:
            return "0"
        size = max(size, abs(number))
        if digits == 0 and size < 10:  # as a sentence tells money of any currency: two digits that count
            digits = 1 - math.floor(math.log10(size))
        if size >= 1000 or (number.is_integer() and abs(number) >= 10):
            return f"{round(number) + 0.0:,.0f}"
        return f"{number:.1e}" if size < 10.0**-digits else f"{round(number, digits) + 0.0:,.{digits}f}"
    return words.cell(str(value))


def _index_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Move a meaningful index into columns, so that every column has a header."""
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame
    return frame.reset_index(names=[n or "" for n in frame.index.names])


def _columns(frame: pd.DataFrame, digits: int) -> list[tuple[str, str, bool, list[str]]]:
    """Columns as they are read: own name, heading, whether of numbers, cells; an estimate and its interval are one.

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
    found: list[tuple[str, str, bool, list[str]]] = []
    other: list[tuple[str, str, bool, list[str]]] = []
    for k, name in enumerate(names):
        if k in taken:
            low = taken[k]
            trio = shown.iloc[:, [k, low, low + 1]]
            sizes = trio.astype(float).abs().replace(np.inf, np.nan).max(axis=1).fillna(0.0)
            own, *two = (
                [_cell(v, digits, size=s) for v, s in zip(trio.iloc[:, c], sizes, strict=True)] for c in range(3)
            )
            pairs = zip(*two, strict=True)
            spans = [f"[{a}, {b}]" if {a, b} != {NOTHING} else "" for a, b in pairs]
            if low != k:
                spans = [f"{v} {span}".strip() for v, span in zip(own, spans, strict=True)]
            heading = words.local(name.removesuffix("low").removesuffix("_") if low == k else name)
            found.append((name, f"{heading} [{say('interval')}]".strip(), True, [s or NOTHING for s in spans]))
        elif k not in lows and k - 1 not in lows:
            other.append((name, words.local(name), number[k], cells[k]))
    labels = 0 if 0 in taken else next((k for k, (*_, numeric, _) in enumerate(other) if k and numeric), len(other))
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
        slack = 1e-9 * (1 + value[known].abs().replace(np.inf, 0))
        within = (value[known] >= ends[known].iloc[:, 0] - slack) & (value[known] <= ends[known].iloc[:, 1] + slack)
        if (known.any() and within.all()) or (ends.isna().all(axis=None) and value.isna().all()):  # or all are hidden
            return k
    return low


def _ends_at(names: list[str], k: int) -> bool:
    """Whether the lower and the upper end of one interval stand there."""
    return names[k].endswith("low") and names[k + 1] == f"{names[k].removesuffix('low')}high"


def text(frame: pd.DataFrame, digits: int = 3) -> str:
    """Write a (protected) table as text with rounded numbers."""
    columns = _columns(frame, digits)
    return pd.DataFrame({k: cells for k, (*_, cells) in enumerate(columns)}).to_string(
        index=False, header=[heading for _, heading, *_ in columns]
    )


def html(frame: pd.DataFrame, digits: int = 3) -> str:
    """Write a (protected) table as HTML: numbers to the right, every column with a header, no styles.

    Which columns count people stands with it, by place, whatever language its headings are in: see :func:`places`.
    """
    columns = _columns(frame, digits)
    align = ['style="text-align: right"' if numeric else 'style="text-align: left"' for *_, numeric, _ in columns]
    head = "".join(f'<th scope="col" {a}>{escape(text)}</th>' for a, (_, text, *_) in zip(align, columns, strict=True))
    rows = []
    for row in zip(*(cells for *_, cells in columns), strict=True):
        rows.append("<tr>" + "".join(f"<td {a}>{escape(v)}</td>" for a, v in zip(align, row, strict=True)) + "</tr>")
    told = places([name for name, *_ in columns], grouped(frame.attrs["counts"])) if "counts" in frame.attrs else ""
    return f'<table class="dataframe"{told}><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def places(columns: Sequence[str], groups: Sequence[Sequence[str]]) -> str:
    """Write which columns of a table in HTML count people: the places of a whole and of its parts, group by group."""
    told = " ".join(",".join(str(columns.index(c)) for c in group if c in columns) for group in groups)
    return f' data-people="{told}"'
