"""The tables of a customer database, declared once: columns, types, units, keys and rules.

Everything that checks a bank is derived from :data:`TABLES` (see `contract`). Money is in the bank's declared currency,
dates are days, rates are per year unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CAUSES = ("voluntary", "bank_initiated", "death", "dormant", "unknown")  # why a customer left
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
    """

    column: str
    says: str
    broken: str
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


def _id(name: str, required: bool = True, nullable: bool = False) -> Column:
    return Column(name, "id", required, nullable)


def _maybe(name: str, kind: str, **more: Any) -> Column:
    return Column(name, kind, required=False, nullable=True, **more)


def _not_before(later: str, earlier: str, strict: bool = False) -> Rule:
    word, sql = ("be after", "<=") if strict else ("not be before", "<")

    return Rule(later, f"{later} must {word} {earlier}", f"{later} {sql} {earlier}", (later, earlier))


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
                ("left_on", "observed_from", "acquired_on"),
            ),
            Rule(
                "exit_cause",
                "exit_cause must be present exactly when left_on is",
                "(left_on IS NULL) <> (exit_cause IS NULL)",
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
            _maybe("spend_randomised", "flag"),  # whether chance, not judgement, set the spend
        ),
        key=("prospect_id",),
        rules=(
            Rule(
                "customer_id",
                "customer_id must be empty unless the prospect was won",
                "customer_id IS NOT NULL AND NOT won",
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
