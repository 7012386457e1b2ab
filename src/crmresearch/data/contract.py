"""The contract of a customer database: what is checked inside the engine, and how faults are reported.

The tables are declared in :mod:`crmresearch.data.tables`. From that declaration comes the one SQL pass that checks a
loaded table (:func:`check_sql`): seconds for sixty million rows, and it returns counts and row numbers, never values.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crmresearch.data.tables import CONSENT, TABLES, Column, Table
from crmresearch.errors import InputError

if TYPE_CHECKING:
    import datetime


EXAMPLES = 5  # row numbers shown per broken rule


@dataclass(frozen=True)
class Problem:
    """One broken rule of a load: how many rows, up to five of their numbers, and what to try; never a value."""

    table: str
    column: str
    rule: str
    rows: int = 0
    examples: tuple[int, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.table}.{self.column}" if self.column else self.table
        where = ""
        if self.rows:
            shown = ", ".join(f"{r}" for r in self.examples)
            where = f" ({self.rows:,} row{'s' if self.rows != 1 else ''}{f': {shown}' if shown else ''}"
            where += ", …)" if self.rows > len(self.examples) > 0 else ")"
        return f"{place}: {self.rule}{where}" + (f". Try: {self.hint}" if self.hint else "")


class ContractError(InputError):
    """A bank that breaks the contract; ``problems`` holds every broken rule of the load, in the order of the tables."""

    def __init__(self, bank: str, problems: Sequence[Problem]) -> None:
        order = list(TABLES)
        self.problems = tuple(sorted(problems, key=lambda p: order.index(p.table) if p.table in order else -1))
        n = len(self.problems)
        lines = "\n".join(f"  - {p}" for p in self.problems)
        note = "\nRow 1 is the first row of data in the source." if any(p.examples for p in self.problems) else ""
        super().__init__(f"bank '{bank}' was not loaded, {n} problem{'s' if n != 1 else ''}:\n{lines}{note}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest valid name, or the list of them."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean '{close[0]}'?" if close else "valid names: " + ", ".join(valid)


def close_to(name: str, absent: Iterable[str]) -> str | None:
    """Return the column of the contract that ``name`` is probably a misspelling of."""
    close = difflib.get_close_matches(name, list(absent), n=1, cutoff=0.85)
    return close[0] if close else None


def lacking(table: Table, there: Iterable[str], others: Iterable[str], origin: str) -> list[Problem]:
    """Name the required columns that are not there, and a column of the source that bears the name in another form."""
    alike = {"_".join(name.casefold().split()): flow(name) for name in others}
    found = []
    for c in (c for c in table.columns if c.required and c.name not in there):
        hint = f"map it in bank.yaml (columns: {{{c.name}: {alike.get(c.name, 'theirs')}}})"
        found.append(Problem(table.name, c.name, f"column {c.name} is missing from {origin}", hint=hint))
    return found


# --- the rules of a column, in words and in SQL ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Check:
    column: str
    rule: str
    broken: str  # SQL, true where broken
    hint: str = ""
    needs: tuple[str, ...] = ()
    late: str = ""  # SQL, the days by which two days are the wrong way round, where some may be declared tolerable


_HINTS = {
    "rows": "correct these rows, or leave them out with a reason",
    "month": "declare derived: {{{column}: first_of_month({column})}} in bank.yaml",
    "missing": "fill the values in, or leave these rows out with a reason",
    "unsaid": "declare derived: {{{column}: \"coalesce({column}, 'not recorded')\"}} in bank.yaml",
    "derived": 'correct the rows, or declare derived: {{{column}: "{formula}"}} in bank.yaml',
    "allowed": "recode the values in bank.yaml (recode: {{{column}: {{theirs: {ours}}}}})",
    "future": "correct observation_end in bank.yaml or the dates, or declare missing: {{{column}: [9999-12-31]}}",
    "dates": "correct the dates; if one stands for none, declare missing: {{{column}: [1900-01-01]}}",
    "codes": "correct them, or declare those that stand for none (missing: {{{column}: [99]}})",
    "scale": 'correct them, or compute them (derived: {{{column}: "theirs / 100"}})',
    "refers": "bring the missing rows, or drop the rows that point to nobody",
    "duplicate": "keep one row per key",
    "late": "correct the dates, or declare tolerance_days: {{{table}: {days}}} in bank.yaml",
}


def _missing(c: Column) -> str:
    return f"{c.name} must not be missing"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def flow(name: str) -> str:
    """Write the name of a column within brackets of YAML."""
    return name if re.fullmatch(r"[^\W\d](?:[\w .-]*[\w.-])?", name) else "'" + name.replace("'", "''") + "'"


def literal(text: object) -> str:
    """Write a text for SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def _checks(
    table: Table, present: Sequence[str], tables: Sequence[str], end: datetime.date | None, tolerance: int
) -> list[_Check]:
    found: list[_Check] = []
    for c in (c for c in table.columns if c.name in present):
        q = quoted(c.name)
        if not c.nullable:
            found.append(
                _Check(
                    c.name,
                    _missing(c),
                    f"{q} IS NULL",
                    _HINTS["unsaid" if c.allowed == CONSENT else "missing"].format(column=c.name),
                )
            )
        if c.allowed:
            values = ", ".join(f"'{v}'" for v in c.allowed)
            says = f"{c.name} must be one of {', '.join(c.allowed)}"
            found.append(
                _Check(
                    c.name, says, f"{q} NOT IN ({values})", _HINTS["allowed"].format(column=c.name, ours=c.allowed[0])
                )
            )
        if c.low is not None:
            says = f"at least {c.low:g}" if c.high is None else f"from {c.low:g} to {c.high:g}"
            high = "" if c.high is None else f" OR {q} > {c.high!r}"
            hint = _HINTS["codes" if c.nullable else "scale"].format(column=c.name)
            found.append(_Check(c.name, f"{c.name} must be {says}", f"{q} < {c.low!r}{high}", hint))
        if c.kind == "month":
            found.append(
                _Check(
                    c.name,
                    "month must be the first day of a month",
                    f"day({q}) <> 1",
                    _HINTS["month"].format(column=c.name),
                )
            )
        if c.kind in ("date", "month") and end is not None:
            says = f"{c.name} must not be after the observation end"
            found.append(_Check(c.name, says, f"{q} > DATE '{end:%Y-%m-%d}'", _HINTS["future"].format(column=c.name)))
    for r in (r for r in table.rules if set(r.needs) <= set(present)):
        kind = "derived" if r.formula else "dates" if table[r.column].kind == "date" else "rows"
        hint = _HINTS[kind].format(column=r.column, formula=r.formula)
        found.append(_Check(r.column, r.says, r.broken, hint, r.needs))
    if (owner := _owner(table, present, tables)) is not None:
        broken = f"{quoted(owner)} IS NOT NULL AND _id IS NULL"
        found.append(_Check(owner, f"{owner} must occur in customers.customer_id", broken, _HINTS["refers"]))
        for column, says, late in _orders(table, present):
            found.append(_Check(column, says, f"{late} > {tolerance}", _HINTS["late"], (owner,), late))
    return found


def _owner(table: Table, present: Sequence[str], tables: Sequence[str]) -> str | None:
    """Return the column that names a customer of another row, where customers are there to be looked up."""
    return table.refers if table.refers in present and "customers" in tables else None


def _orders(table: Table, present: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Say how the days of a table lie to those of its customer: column, the rule, and by how many days it is broken."""
    if table.name == "customers":
        late = "date_diff('day', acquired_on, _since)"
        yield "referrer_id", "referrer_id must name a customer acquired no later", late
    for c in table.columns if table.name not in ("customers", "prospects") else ():  # prospects may be won back
        if c.kind in ("date", "month") and c.name in present:
            since, day = "_month" if c.kind == "month" else "_since", quoted(c.name)
            yield (
                c.name,
                f"{c.name} must not be before acquired_on of its customer",
                f"date_diff('day', {day}, {since})",
            )
            yield c.name, f"{c.name} must not be after left_on of its customer", f"date_diff('day', _until, {day})"


def check_sql(
    table: Table,
    present: Sequence[str],
    tables: Sequence[str] = (),
    end: datetime.date | None = None,
    unreadable: Sequence[str] = (),
    tolerance: int = 0,
    numbered: bool = True,
) -> tuple[str, list[_Check]]:
    """Write the single pass that checks a loaded table, in words that the seam can say to every engine.

    Parameters
    ----------
    table : Table
        The declaration.
    present : sequence of str
        Columns the loaded table has.
    tables : sequence of str
        Loaded tables that keys may point to.
    end : date, optional
        Observation end; nothing may be dated after it.
    unreadable : sequence of str
        Columns some of whose values could not be read and are now missing; that is reported once, as what it is.
    tolerance : int
        Days by which rows may lie outside the time in which their customer was one.
    numbered : bool
        Whether rows have numbers, as those of a loaded table do.

    Returns
    -------
    sql : str
        Returns one row: the table's row count, the repeats of its key, then a count and up to five row ids per check,
        and the most days by which a row lies outside the time of its customer.
    checks : list
        The checks, in the order of the result; pass both results on to :func:`problems_from`.
    """
    spoilt = {c for c in unreadable if c in table.names}
    checks = [
        c
        for c in _checks(table, present, tables, end, tolerance)
        if not spoilt & set(c.needs) and not (c.column in spoilt and c.rule == _missing(table[c.column]))
    ]
    inner = [f"({c.broken}) AS v{i}" for i, c in enumerate(checks)]
    first = f"min(r, {EXAMPLES}) FILTER (WHERE v{{0}})" if numbered else "NULL"
    outer = "".join(f"count(*) FILTER (WHERE v{i}), {first.format(i)}, " for i in range(len(checks)))
    repeats = "0"
    if table.key and set(table.key) <= set(present):
        key = ", ".join(quoted(k) for k in table.key)
        whole = _whole_key(table)
        groups = f"SELECT count(*) AS n FROM {quoted(table.name)} WHERE {whole} GROUP BY {key}"
        repeats = f"(SELECT coalesce(sum(n - 1), 0) FROM ({groups}) AS k)"
    late = [c.late for c in checks if c.late]
    inner.append((f"greatest({', '.join(late)})" if late[1:] else "".join(late) or "0") + " AS late")
    rows = f"(SELECT rowid AS r, * FROM {quoted(table.name)}) AS t" if numbered else f"{quoted(table.name)} AS t"
    if owner := _owner(table, present, tables):
        until = "max(CASE WHEN left_on >= acquired_on THEN left_on END) AS _until"
        since = f"max(acquired_on) AS _since, {until}, CAST(date_trunc('month', max(acquired_on)) AS DATE) AS _month"
        people = f"SELECT customer_id AS _id, {since} FROM customers WHERE customer_id IS NOT NULL GROUP BY customer_id"
        rows += f" LEFT JOIN ({people}) AS o ON {quoted(owner)} = _id"
    inner += ["r"] * numbered
    return f"SELECT count(*), {repeats}, {outer}max(late) FROM (SELECT {', '.join(inner)} FROM {rows}) AS c", checks


def _whole_key(table: Table) -> str:
    """A missing key is reported as missing, not as a repeat of another missing key."""
    return " AND ".join(f"{quoted(k)} IS NOT NULL" for k in table.key if not table[k].nullable)


def repeats_sql(table: Table) -> str:
    """Write the query for the row ids of repeated keys (all but the first of each); run only when there are any."""
    key = ", ".join(quoted(k) for k in table.key)
    return (
        f"SELECT rowid FROM {quoted(table.name)} WHERE {_whole_key(table)} "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY rowid) > 1 ORDER BY rowid LIMIT {EXAMPLES}"
    )


def problems_from(table: Table, row: Sequence[Any], checks: Sequence[_Check], repeated: Sequence[int]) -> list[Problem]:
    """Turn the row that :func:`check_sql` returned into problems (row ids count from 0, reported rows from 1)."""
    found = []
    if row[1]:
        examples = tuple(r + 1 for r in repeated)
        rule = f"{' + '.join(table.key)} must be unique"
        found.append(Problem(table.name, table.key[0], rule, int(row[1]), examples, _HINTS["duplicate"]))
    late = row[-1] or 0
    days = next(n * 10**k for k in range(9) for n in (1, 2, 5) if n * 10**k >= late)  # rounded up: nobody's
    for i, c in enumerate(checks):
        n, ids = row[2 + 2 * i], row[3 + 2 * i]
        if n:
            hint = c.hint.format(table=table.name, days=days) if c.late else c.hint
            found.append(Problem(table.name, c.column, c.rule, int(n), tuple(r + 1 for r in ids or ()), hint))
    return found
