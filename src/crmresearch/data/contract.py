"""The contract of a customer database: what is checked, in the engine or on a frame, and how faults are reported.

The tables are declared in :mod:`crmresearch.data.tables`. From that one declaration come the pandera schema of a frame
(:func:`schema`) and the one SQL pass that checks a loaded table inside the engine (:func:`check_sql`): pandera on sixty
million rows takes minutes and prints rows, the engine takes seconds and returns counts and row numbers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmresearch.data.tables import PANDAS_TYPE, TABLES, WANTED, Column, Rule, Table
from crmresearch.errors import InputError

if TYPE_CHECKING:
    import datetime

    import pandas as pd
    import pandera.pandas as pa


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
    """A bank that breaks the contract; ``problems`` holds every broken rule of the load."""

    def __init__(self, bank: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
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


# --- the rules of a column, in words and in SQL ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Check:
    column: str
    rule: str
    broken: str  # SQL, true where broken
    hint: str = ""
    needs: tuple[str, ...] = ()


_HINTS = {
    "missing": "fill the values in, or leave these rows out with a reason",
    "allowed": "recode the values in bank.yaml (recode: {column: {theirs: ours}})",
    "future": "correct observation_end in bank.yaml, or the dates",
    "refers": "bring the missing rows, or drop the rows that point to nobody",
    "duplicate": "keep one row per key",
}


def _rule_missing(c: Column) -> str:
    return f"{c.name} must not be missing"


def _rule_allowed(c: Column) -> str:
    return f"{c.name} must be one of {', '.join(c.allowed)}"


def _rule_range(c: Column) -> str:
    if c.high is None:
        return f"{c.name} must be at least {c.low:g}"
    return f"{c.name} must be from {c.low:g} to {c.high:g}"


def _rule_key(table: Table) -> str:
    return f"{' + '.join(table.key)} must be unique"


def _rule_type(c: Column) -> str:
    return f"{c.name} must be {WANTED[c.kind]}"


def _rule_end(c: Column) -> str:
    return f"{c.name} must not be after the observation end"


_RULE_MONTH = "month must be the first day of a month"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _checks(table: Table, present: Sequence[str], tables: Sequence[str], end: datetime.date | None) -> list[_Check]:
    found: list[_Check] = []
    for c in (c for c in table.columns if c.name in present):
        q = quoted(c.name)
        if not c.nullable:
            found.append(_Check(c.name, _rule_missing(c), f"{q} IS NULL", _HINTS["missing"]))
        if c.allowed:
            values = ", ".join(f"'{v}'" for v in c.allowed)
            found.append(_Check(c.name, _rule_allowed(c), f"{q} NOT IN ({values})", _HINTS["allowed"]))
        if c.low is not None:
            high = "" if c.high is None else f" OR {q} > {c.high!r}"
            found.append(_Check(c.name, _rule_range(c), f"{q} < {c.low!r}{high}"))
        if c.kind == "month":
            found.append(_Check(c.name, _RULE_MONTH, f"day({q}) <> 1"))
        if c.kind in ("date", "month") and end is not None:
            found.append(_Check(c.name, _rule_end(c), f"{q} > DATE '{end:%Y-%m-%d}'", _HINTS["future"]))
    found += [_Check(r.column, r.says, r.broken, "", r.needs) for r in table.rules if set(r.needs) <= set(present)]
    for column, other, key in table.refers:
        if column in present and other in tables:
            broken = (
                f"{quoted(column)} NOT IN (SELECT {quoted(key)} FROM {quoted(other)} WHERE {quoted(key)} IS NOT NULL)"
            )
            found.append(_Check(column, f"{column} must occur in {other}.{key}", broken, _HINTS["refers"]))
    return found


def check_sql(
    table: Table,
    present: Sequence[str],
    tables: Sequence[str] = (),
    end: datetime.date | None = None,
    unreadable: Sequence[str] = (),
) -> tuple[str, list[_Check]]:
    """Write the single pass that checks a loaded table.

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

    Returns
    -------
    sql : str
        Returns one row: the table's row count, the repeats of its key, then a count and up to five row ids per check.
    checks : list
        The checks, in the order of the result; pass both results on to :func:`problems_from`.
    """
    spoilt = {c for c in unreadable if c in table.names}
    checks = [
        c
        for c in _checks(table, present, tables, end)
        if not spoilt & set(c.needs) and not (c.column in spoilt and c.rule == _rule_missing(table[c.column]))
    ]
    inner = ", ".join(f"({c.broken}) AS v{i}" for i, c in enumerate(checks))
    outer = ", ".join(
        f"count(*) FILTER (WHERE v{i}), min(r, {EXAMPLES}) FILTER (WHERE v{i})" for i in range(len(checks))
    )
    repeats = "0"
    if table.key and set(table.key) <= set(present):
        key = ", ".join(quoted(k) for k in table.key)
        whole = _whole_key(table)
        groups = f"SELECT count(*) AS n FROM {quoted(table.name)} WHERE {whole} GROUP BY {key}"
        repeats = f"(SELECT coalesce(sum(n - 1), 0) FROM ({groups}))"
    sql = f"SELECT count(*), {repeats}, {outer} FROM (SELECT rowid AS r, {inner} FROM {quoted(table.name)})"
    return sql, checks


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
        found.append(Problem(table.name, table.key[0], _rule_key(table), int(row[1]), examples, _HINTS["duplicate"]))
    for i, c in enumerate(checks):
        n, ids = row[2 + 2 * i], row[3 + 2 * i]
        if n:
            found.append(Problem(table.name, c.column, c.rule, int(n), tuple(r + 1 for r in ids), c.hint))
    return found


# --- the same on a frame ---------------------------------------------------------------------------------------------


def schema(table: str | Table, end: datetime.date | None = None) -> pa.DataFrameSchema:
    """Return the pandera schema of a table.

    Uniqueness is declared on the frame, not on the column: pandera's Ibis backend passes duplicates of
    ``Column(unique=True)`` in silence.

    Parameters
    ----------
    table : str or Table
        Name of a table in :data:`TABLES`.
    end : date, optional
        Observation end.
    """
    import numpy as np
    import pandas as pd
    import pandera.pandas as pa

    table = TABLES[table] if isinstance(table, str) else table
    columns = {}
    for c in table.columns:
        checks = []
        if c.allowed:
            checks.append(pa.Check.isin(c.allowed, error=_rule_allowed(c)))
        if c.low is not None:
            checks.append(_range_check(pa, c))
        if c.kind == "month":
            checks.append(pa.Check(lambda s: s.dt.day == 1, error=_RULE_MONTH))
        if c.kind in ("date", "month") and end is not None:
            checks.append(pa.Check.le(pd.Timestamp(end), error=_rule_end(c)))
        if c.kind in ("money", "number"):
            checks.append(pa.Check(lambda s: np.isfinite(s), error=_rule_type(c)))
        columns[c.name] = pa.Column(
            PANDAS_TYPE[c.kind], checks, nullable=c.nullable, required=c.required, coerce=True, name=c.name
        )
    rules = [_frame_check(pa, r) for r in table.rules]
    return pa.DataFrameSchema(
        columns,
        checks=rules,
        unique=list(table.key) or None,
        report_duplicates="exclude_first",
        strict=False,
        name=table.name,
    )


def _range_check(pa: Any, column: Column) -> Any:
    import numpy as np

    low, high = column.low, np.inf if column.high is None else column.high
    # what is not finite is reported as that alone
    return pa.Check(lambda s: s.between(low, high) | np.isinf(s.astype("float64")), error=_rule_range(column))


def _frame_check(pa: Any, rule: Rule) -> Any:
    import numpy as np
    import pandas as pd

    def holds(f: pd.DataFrame) -> pd.Series:
        if not set(rule.needs) <= set(f.columns):
            return pd.Series(True, index=f.index)
        return rule.holds(f[list(rule.needs)].replace([np.inf, -np.inf], np.nan)).astype(bool)

    return pa.Check(holds, error=rule.says)


def check_frame(table: str, frame: pd.DataFrame, end: datetime.date | None = None) -> list[Problem]:
    """Check a small frame with pandera and report as the engine does.

    Parameters
    ----------
    table : str
        Name of a table in :data:`TABLES`.
    frame : DataFrame
        Columns of that table.
    end : date, optional
        Observation end.
    """
    from pandera.errors import SchemaErrors

    t = TABLES[table]
    frame = frame.reset_index(drop=True)
    try:
        schema(t, end).validate(frame, lazy=True)
    except SchemaErrors as error:
        keyless = frame[[k for k in t.key if k in frame.columns and not t[k].nullable]].isna().any(axis=1)
        return _from_pandera(t, error.failure_cases, set(frame.index[keyless]))
    return []


def _from_pandera(table: Table, cases: pd.DataFrame, keyless: set[int]) -> list[Problem]:
    rows: dict[tuple[str, str], set[int]] = {}
    for check, column, index in zip(cases["check"], cases["column"], cases["index"], strict=True):
        if check == "column_in_dataframe":
            name = cases.loc[cases["check"].eq(check), "failure_case"].iloc[0]
            rows.setdefault((name, f"column {name} is missing"), set())
            continue
        if check == "multiple_fields_uniqueness":
            where = (table.key[0], _rule_key(table))
            if index in keyless:  # reported as missing
                continue
        elif check == "not_nullable":
            where = (column, _rule_missing(table[column]))
        elif str(check).startswith(("coerce_dtype", "dtype")):
            where = (column, _rule_type(table[column]))
        else:
            rule = next((r for r in table.rules if r.says == check), None)
            where = (rule.column if rule else column, check)
        rows.setdefault(where, set()).add(int(index))
    return [
        Problem(table.name, column, rule, len(ids), tuple(sorted(i + 1 for i in ids)[:EXAMPLES]))
        for (column, rule), ids in rows.items()
    ]


@dataclass
class Report:
    """Problems of a load, gathered before anything is raised."""

    bank: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, *problems: Problem) -> None:
        """Note problems."""
        self.problems += problems

    def raise_if_any(self) -> None:
        """Raise one error with all problems, in the order of the tables."""
        if self.problems:
            order = list(TABLES)
            rank = {name: i for i, name in enumerate(order)}
            raise ContractError(self.bank, sorted(self.problems, key=lambda p: rank.get(p.table, -1)))
