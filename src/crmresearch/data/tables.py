"""The tables of a customer database, declared once in ``tables.yaml``: columns, types, units, keys and rules.

Everything that checks a bank is derived from :data:`TABLES` (see `contract`). Money is in the bank's declared currency,
dates are days, rates are per year unless a name says otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

CONSENT = ("yes", "no", "not recorded")
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
    """A rule over several columns of one row.

    Parameters
    ----------
    column : str
        Column the report names.
    says : str
        The rule in words, as it should be.
    broken : str
        SQL condition that is true where the rule is broken.
    needs : tuple of str
        Columns without which the rule says nothing.
    formula : str
        What, derived in the column's place, keeps the rule.
    """

    column: str
    says: str
    broken: str
    needs: tuple[str, ...]
    formula: str = ""


@dataclass(frozen=True)
class Table:
    """One table: what a row is, its columns, key, rules, and whether it takes columns of the bank's own."""

    name: str
    row: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    refers: str = ""  # the column that names a customer of another row
    open: bool = False  # takes columns beyond the contract without their being mapped
    dated: bool = True  # whether a row happened on its first date

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in the contract."""
        return tuple(c.name for c in self.columns)

    @property
    def day(self) -> str | None:
        """The first date of a row, which is when it happened (later ones may lie open); None where there is none."""
        return None if not self.dated else next((c.name for c in self.columns if c.kind in ("date", "month")), None)


def _column(name: str, facts: Any) -> Column:
    """Read one column: its kind, or a mapping with it; ``?`` makes it optional, with gaps."""
    more = dict(facts) if isinstance(facts, Mapping) else {"kind": facts}
    kind = str(more.pop("kind"))
    if kind.endswith("?"):
        more = {"required": False, "nullable": True} | more
    return Column(name, kind.removesuffix("?"), allowed=tuple(more.pop("allowed", ())), **more)


def _rule(
    column: str, says: str = "", broken: str = "", needs: Sequence[str] = (), formula: str = "", **order: str
) -> Rule:
    """Read one rule, or the order of two columns (``not_before``, ``after``)."""
    for word, earlier in order.items():
        sign = "<=" if word == "after" else "<"
        says, broken = f"{column} must {ORDER[word]} {earlier}", f"{column} {sign} {earlier}"
        needs = (column, earlier)
    return Rule(column, says, broken, tuple(needs), formula)


def _table(name: str, facts: Mapping[str, Any]) -> Table:
    return Table(
        name,
        facts["row"],
        tuple(_column(c, about) for c, about in facts["columns"].items()),
        tuple(facts.get("key", ())),
        tuple(_rule(**rule) for rule in facts.get("rules", ())),
        facts.get("refers", "customer_id" if "customer_id" in facts["columns"] else ""),
        facts.get("open", False),
        facts.get("dated", True),
    )


ORDER = {"not_before": "not be before", "after": "be after"}


class _Tables(Mapping[str, Table]):
    """The tables of one part of the declaration, by name, read when first asked for: opening a bank starts fast."""

    def __init__(self, part: int) -> None:
        self.part = part

    @functools.cached_property
    def _all(self) -> dict[str, Table]:
        import yaml

        facts = list(yaml.safe_load_all((files(__package__) / "tables.yaml").read_bytes()))[self.part]
        return {name: _table(name, about) for name, about in facts.items()}

    def __getitem__(self, name: str) -> Table:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


TABLES: Mapping[str, Table] = _Tables(0)
STEPS: Mapping[str, Table] = _Tables(1)  # worked into the others, and not kept
