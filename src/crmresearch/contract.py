"""The tables of a customer database: columns, types, units, rules, and how a broken load is reported.

The tables are declared once, in :data:`TABLES`. From that declaration come the pandera schema of a frame
(:func:`schema`) and the one SQL pass that checks a loaded table inside the engine (:func:`check_sql`): pandera on sixty
million rows takes minutes and prints rows, the engine takes seconds and returns counts and row numbers.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crmresearch.errors import InputError

if TYPE_CHECKING:
    import datetime

    import pandas as pd
    import pandera.pandas as pa

__all__ = [
    "CAUSES",
    "TABLES",
    "Column",
    "ContractError",
    "Problem",
    "Rule",
    "Table",
    "check_frame",
    "check_sql",
    "nearest",
    "problems_from",
    "schema",
]

CAUSES = ("voluntary", "bank_initiated", "death", "dormant", "unknown")  # why a customer left
CONSENT = ("yes", "no", "not recorded")
EXAMPLES = 5  # row numbers shown per broken rule

SQL_TYPE = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "date": "DATE",
    "month": "DATE",
    "money": "DECIMAL(18,2)",
    "number": "DOUBLE",
    "count": "BIGINT",
    "flag": "BOOLEAN",
}
PANDAS_TYPE = {
    "id": "str",
    "text": "str",
    "date": "datetime64[ns]",
    "month": "datetime64[ns]",
    "money": "float64",
    "number": "float64",
    "count": "Int64",
    "flag": "boolean",
}
WANTED = {
    "id": "text",
    "text": "text",
    "date": "a date (YYYY-MM-DD, or declare date_format)",
    "month": "a date (YYYY-MM-DD, first of the month, or declare date_format)",
    "money": "an amount of money: finite, below 10^16, decimal point",
    "number": "a finite number with a decimal point",
    "count": "a whole number",
    "flag": "true or false (also yes/no, 1/0)",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Name in the contract.
    kind : {'id', 'text', 'date', 'month', 'money', 'number', 'count', 'flag'}
        Type and meaning; money is stored exactly, in whole hundredths of the bank's currency.
    required : bool
        Whether a bank that brings the table must bring the column.
    nullable : bool
        Whether single values may be missing.
    allowed : tuple of str
        The only values, if they are enumerated.
    low, high : float, optional
        Smallest and largest value.
    default : str, optional
        SQL that fills a column the bank does not bring; ``{start}`` is the observation start.
    """

    name: str
    kind: str
    required: bool = True
    nullable: bool = False
    allowed: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    default: str | None = None


@dataclass(frozen=True)
class Rule:
    """A rule over several columns of one row, for both engines.

    Parameters
    ----------
    column : str
        Column the report names.
    says : str
        The rule in words, as it should be.
    broken : str
        SQL condition that is true where the rule is broken.
    holds : callable
        The same on a frame: true where the rule holds.
    needs : tuple of str
        Columns without which the rule says nothing.
    """

    column: str
    says: str
    broken: str
    holds: Callable[[pd.DataFrame], pd.Series]
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """One table: what a row is, its columns, key, rules, and whether it takes columns of the bank's own."""

    name: str
    row: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    refers: tuple[tuple[str, str, str], ...] = ()  # column, other table, its column
    open: bool = False  # takes columns beyond the contract without their being mapped

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in the contract."""
        return tuple(c.name for c in self.columns)


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


def _id(name: str, required: bool = True, nullable: bool = False) -> Column:
    return Column(name, "id", required, nullable)


def _maybe(name: str, kind: str, **more: Any) -> Column:
    return Column(name, kind, required=False, nullable=True, **more)


def _not_before(later: str, earlier: str, strict: bool = False) -> Rule:
    word, sql = ("be after", "<=") if strict else ("not be before", "<")

    def holds(f: pd.DataFrame) -> pd.Series:
        order = f[later] > f[earlier] if strict else f[later] >= f[earlier]
        return order | f[later].isna() | f[earlier].isna()

    return Rule(later, f"{later} must {word} {earlier}", f"{later} {sql} {earlier}", holds, (later, earlier))


_OWNER = (("customer_id", "customers", "customer_id"),)

_ALL = (
    Table(
        "customers",
        "customer",
        (
            _id("customer_id"),
            Column("acquired_on", "date"),
            Column("observed_from", "date", required=False, default="greatest(acquired_on, DATE '{start}')"),
            _maybe("left_on", "date"),
            _maybe("exit_cause", "text", allowed=CAUSES, default="CASE WHEN left_on IS NOT NULL THEN 'unknown' END"),
            _maybe("acquisition_channel", "text"),
            _id("referrer_id", required=False, nullable=True),
            _id("city_id", required=False, nullable=True),
            _maybe("city_tier", "count", low=1, high=9),
            _maybe("birth_year", "count", low=1850, high=2150),
            _id("manager_id", required=False, nullable=True),
            Column("consent_analysis", "text", required=False, allowed=CONSENT, default="'not recorded'"),
            Column("consent_marketing", "text", required=False, allowed=CONSENT, default="'not recorded'"),
        ),
        key=("customer_id",),
        rules=(
            _not_before("left_on", "acquired_on"),
            _not_before("observed_from", "acquired_on"),
            Rule(
                "left_on",
                "left_on must not be before observed_from",
                "left_on < observed_from AND left_on >= acquired_on",
                lambda f: ~((f["left_on"] < f["observed_from"]) & (f["left_on"] >= f["acquired_on"])),
                ("left_on", "observed_from", "acquired_on"),
            ),
            Rule(
                "exit_cause",
                "exit_cause must be present exactly when left_on is",
                "(left_on IS NULL) <> (exit_cause IS NULL)",
                lambda f: f["left_on"].isna() == f["exit_cause"].isna(),
                ("left_on", "exit_cause"),
            ),
        ),
        refers=(("referrer_id", "customers", "customer_id"),),
    ),
    Table(
        "holdings",
        "product held",
        (
            _id("customer_id"),
            Column("product_family", "text"),
            Column("opened_on", "date"),
            _maybe("closed_on", "date"),
            _maybe("term_months", "count", low=0),
            _maybe("rate_type", "text", allowed=("fixed", "floating")),
            _maybe("principal_guaranteed", "flag"),
            _maybe("yield_annual", "number"),
        ),
        rules=(_not_before("closed_on", "opened_on"),),
        refers=_OWNER,
    ),
    Table(
        "monthly",
        "customer and month",
        (
            _id("customer_id"),
            Column("month", "month"),
            Column("balance", "money"),
            Column("net_interest", "money"),
            Column("fees", "money"),
            Column("service_cost", "money"),
            Column("risk_cost", "money"),
            _maybe("allocated_cost", "money"),
        ),
        key=("customer_id", "month"),
        refers=_OWNER,
    ),
    Table(
        "transactions",
        "transaction",
        (
            _id("customer_id"),
            Column("occurred_on", "date"),
            Column("amount", "money"),
            _maybe("channel", "text"),
            _maybe("status", "text"),
        ),
        refers=_OWNER,
    ),
    Table(
        "prospects",
        "prospect",
        (
            _id("prospect_id"),
            Column("channel", "text"),
            Column("first_contact_on", "date"),
            Column("spend", "money", low=0),
            Column("won", "flag"),
            _id("customer_id", required=False, nullable=True),
        ),
        key=("prospect_id",),
        rules=(
            Rule(
                "customer_id",
                "customer_id must be empty unless the prospect was won",
                "customer_id IS NOT NULL AND NOT won",
                lambda f: f["customer_id"].isna() | f["won"].fillna(True).astype(bool),
                ("customer_id", "won"),
            ),
        ),
        refers=_OWNER,
    ),
    Table(
        "contacts",
        "campaign contact",
        (
            _id("customer_id"),
            Column("contacted_on", "date"),
            Column("purpose", "text", allowed=("retain", "develop")),
            _id("campaign_id"),
            Column("arm", "text"),
            Column("randomised", "flag"),
            Column("channel", "text"),
            Column("cost", "money", low=0),
            _maybe("responded", "flag"),
        ),
        refers=_OWNER,
    ),
    Table(
        "survey",
        "invited customer and wave",
        (
            _id("customer_id"),
            Column("wave_on", "date", required=False, nullable=True),
            Column("sampled", "flag"),
            Column("responded", "flag"),
            _maybe("weight", "number", low=0),
        ),
        key=("customer_id", "wave_on"),
        rules=(
            Rule(
                "responded",
                "responded must be false unless sampled",
                "responded AND NOT sampled",
                lambda f: ~(f["responded"].fillna(False).astype(bool) & ~f["sampled"].fillna(True).astype(bool)),
                ("responded", "sampled"),
            ),
        ),
        refers=_OWNER,
        open=True,
    ),
    Table(
        "markets",
        "city and month",
        (
            _id("city_id"),
            Column("month", "month"),
            Column("tier", "count", low=1, high=9),
            Column("own_share", "number", low=0, high=1),
            Column("rival_branches", "count", low=0),
            _maybe("rival_entered_on", "date"),
        ),
        key=("city_id", "month"),
    ),
    Table(
        "service",
        "service event",
        (
            _id("customer_id"),
            Column("occurred_on", "date"),
            Column("kind", "text"),
            Column("channel", "text"),
            _maybe("wait_minutes", "number", low=0),
            _maybe("steps", "count", low=0),
            _maybe("resolved", "flag"),
        ),
        refers=_OWNER,
    ),
    Table(
        "spells",
        "customer, without dates",
        (
            _id("customer_id"),
            Column("entry_months", "number", low=0),
            Column("exit_months", "number", low=0),
            Column("event", "flag"),
            _maybe("cause", "text", allowed=CAUSES),
        ),
        key=("customer_id",),
        rules=(_not_before("exit_months", "entry_months", strict=True),),
        refers=_OWNER,
        open=True,
    ),
    Table(
        "snapshot", "customer, as one summary", (_id("customer_id"),), key=("customer_id",), refers=_OWNER, open=True
    ),
    Table(
        "choices",
        "choice task and option",
        (_id("customer_id"), _id("task_id"), _id("option_id"), Column("chosen", "flag")),
        key=("customer_id", "task_id", "option_id"),
        refers=_OWNER,
        open=True,
    ),
)

TABLES: dict[str, Table] = {t.name: t for t in _ALL}


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the closest valid name, or the list of them."""
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean '{close[0]}'?" if close else "valid names: " + ", ".join(valid)


def close_to(name: str, absent: Iterable[str]) -> str | None:
    """Return the column of the contract that ``name`` is probably a misspelling of."""
    close = difflib.get_close_matches(name, list(absent), n=1, cutoff=0.85)
    return close[0] if close else None


# --- the rules of a column, in words and in SQL ------------------------------------------------------------------------


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


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _checks(table: Table, present: Sequence[str], tables: Sequence[str], end: datetime.date | None) -> list[_Check]:
    found: list[_Check] = []
    for c in (c for c in table.columns if c.name in present):
        q = _q(c.name)
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
            broken = f"{_q(column)} NOT IN (SELECT {_q(key)} FROM {_q(other)} WHERE {_q(key)} IS NOT NULL)"
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
        key = ", ".join(_q(k) for k in table.key)
        whole = _whole_key(table)
        groups = f"SELECT count(*) AS n FROM {_q(table.name)} WHERE {whole} GROUP BY {key}"
        repeats = f"(SELECT coalesce(sum(n - 1), 0) FROM ({groups}))"
    sql = f"SELECT count(*), {repeats}, {outer} FROM (SELECT rowid AS r, {inner} FROM {_q(table.name)})"
    return sql, checks


def _whole_key(table: Table) -> str:
    """A missing key is reported as missing, not as a repeat of another missing key."""
    return " AND ".join(f"{_q(k)} IS NOT NULL" for k in table.key if not table[k].nullable)


def repeats_sql(table: Table) -> str:
    """Write the query for the row ids of repeated keys (all but the first of each); run only when there are any."""
    key = ", ".join(_q(k) for k in table.key)
    return (
        f"SELECT rowid FROM {_q(table.name)} WHERE {_whole_key(table)} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY rowid) > 1 "
        f"ORDER BY rowid LIMIT {EXAMPLES}"
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


# --- the same on a frame -----------------------------------------------------------------------------------------------


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
