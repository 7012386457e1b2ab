"""Small expressions that reductions share, written so that every engine gives the same numbers.

Whole numbers are cast to float64 before they are divided (elsewhere a quotient may become a decimal of six digits), and
sums of money are exact and cast last.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.engines import PEOPLE, hashed
from crmresearch.data.reductions.blocks import bounded
from crmresearch.data.rules import SEGMENT, bands
from crmresearch.errors import Missing, NotApplicable, answered

if TYPE_CHECKING:
    import ibis


P = ParamSpec("P")
T = TypeVar("T")
MOBILE = ("mobile", "app")  # channels of a payment by telephone
DIGITAL = (*MOBILE, "online", "web", "net", "internet")  # channels that count as digital
STAFFED = ("branch", "atm", "phone", "mail", "agent", "counter", "cash", "card", "pos")  # known not to be
DAYS_PER_MONTH = 30.4375
DAYS_PER_YEAR = 365.25


def needs(
    *tables: str, per: str = ""
) -> Callable[[Callable[Concatenate[Bank, P], T]], Callable[Concatenate[Bank, P], T | Missing]]:
    """Make a reduction return :class:`Missing` for a bank that lacks one of these tables or columns.

    In a notebook it does so, too, where the reduction refuses the data (see :func:`.answered`). One whose frame has a
    row for each customer, or each row of a table (``per``), is :func:`.bounded`.
    """

    def decorate(reduction: Callable[Concatenate[Bank, P], T]) -> Callable[Concatenate[Bank, P], T | Missing]:
        @answered(lambda missing: missing, (NotApplicable,))
        @functools.wraps(reduction)
        def checked(bank: Bank, *args: P.args, **kwargs: P.kwargs) -> T | Missing:
            missing = bank.require(*tables)
            if missing is not None:
                return missing
            if not per:
                return reduction(bank, *args, **kwargs)
            return bounded(bank, per, lambda part: reduction(part, *args, **kwargs))

        return checked

    return decorate


def as_float(value: Any) -> Any:
    """Cast to double: an exact sum last of all, a whole number before it is divided."""
    return value.cast("float64")


def contribution_of(bank: Bank, monthly: ibis.Table, without: str = "") -> Any:
    """Add up what the bank counts as contribution (interest and fees, less service and risk costs); exact."""
    import ibis

    total: Any = None
    for name in (n for n in bank.about.contribution if n.removeprefix("-") != without):
        value = monthly[name.removeprefix("-")]
        if name.startswith("-"):
            total = -value if total is None else total - value
        else:
            total = value if total is None else total + value
    return ibis.literal(0) if total is None else total


def tier_of(bank: Bank) -> str:
    """Return the column of ``customers`` that groups them: the bank's own segment if it declares one, or city tier."""
    return SEGMENT if "tier" in bank.about.segments else "city_tier"


def tier_columns(bank: Bank, customers: ibis.Table, *levels: int) -> dict[str, Any]:
    """Return what models hold equal, as truth values: some city tiers, or all own segments but the largest."""
    column = tier_of(bank)
    if bank.require(f"customers.{column}") is not None:
        return {}
    apart = bank.segments[1:] if column == SEGMENT else levels
    return {f"tier_{level}": (customers[column] == level).fill_null(False) for level in apart}


def band_of(bank: Bank, balance: Any) -> Any:
    """Return the bank's own value band of a balance; None for a bank that declares none."""
    import ibis

    cuts = bank.about.segments.get("band")
    if not cuts:
        return None
    *below, last = bands(cuts)
    names = ibis.cases(*((balance < cut, name) for cut, name in zip(cuts, below, strict=True)), else_=last)
    return ibis.ifelse(balance.notnull(), names, ibis.null())


def ordered(bank: Bank, frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Give columns of :func:`band_of` their order, the lowest band first."""
    return frame.astype({c: pd.CategoricalDtype(bands(bank.about.segments["band"]), ordered=True) for c in columns})


def cut_points(column: Any, parts: int) -> ibis.Table:
    """Return the row (``q1``, ``q2``, ...) that cuts a column into parts with equally many rows.

    A row at a cut belongs below it. Not by rank: a window over all rows goes to one of an engine's many machines.
    """
    table = column.as_table()
    found = {f"q{k}": table[table.columns[0]].quantile(k / parts) for k in range(1, parts)}
    # a value that is the cut itself, on every engine
    return table.aggregate(**{name: q + 1e-12 * q.abs() for name, q in found.items()})


def cuts(bank: Bank, column: Any, parts: int) -> list[float]:
    """Return :func:`cut_points` as numbers, which no statement may hold that is kept for other banks."""
    return [float(q) for q in bank.frame(cut_points(column, parts)).to_numpy(float)[0]]


def called(channel: Any, names: Sequence[str]) -> Any:
    """Whether a channel is called so, in large letters or small."""
    return channel.lower().isin(names)


def month_number(date: Any) -> Any:
    """Months since the year 0, of a date or an expression of dates."""
    if isinstance(date, datetime.date):
        return date.year * 12 + date.month - 1
    return date.year() * 12 + date.month() - 1


def months_between(later: Any, earlier: Any, up: bool) -> Any:
    """Whole months between two dates, rounded up or down."""
    whole = month_number(later) - month_number(earlier)
    part = (later.day() > earlier.day()) if up else (later.day() < earlier.day())
    return (whole + part.cast("int32") if up else whole - part.cast("int32")).cast("int32")


def days_between(later: Any, earlier: Any) -> Any:
    """Days between two dates, as a double."""
    return as_float(later.delta(earlier, unit="day"))


def first_of_month(number: int) -> datetime.date:
    """Return the first day of a month, by its :func:`month_number`."""
    return datetime.date(number // 12, number % 12 + 1, 1)


def add_months(day: datetime.date, months: int) -> datetime.date:
    """Return the first day of the month so many months on."""
    return first_of_month(month_number(day) + months)


def day_after(bank: Bank) -> datetime.date:
    """Return the day after the observation ends."""
    end: datetime.date = bank.about.observation_end
    return end + datetime.timedelta(days=1)


def whole_months(bank: Bank, table: str = "monthly") -> tuple[int, int]:
    """Return the first and the last month of a table that were observed from their first day to their last."""
    first, last = bank.period(table)
    return month_number(first) + (first.day > 1), month_number(last + datetime.timedelta(days=1)) - 1


def open_on(holdings: ibis.Table, day: Any) -> Any:
    """Whether a product is held at the end of a day."""
    return (holdings.opened_on <= day) & (holdings.closed_on.isnull() | (holdings.closed_on > day))


def open_before(holdings: ibis.Table, day: Any) -> Any:
    """Whether a product is held when a day begins."""
    return (holdings.opened_on < day) & (holdings.closed_on.isnull() | (holdings.closed_on >= day))


def beside(table: ibis.Table, other: ibis.Table, *keys: str) -> ibis.Table:
    """Add the columns of another table, where it has a row with these keys."""
    return table.left_join(other, list(keys)).drop(*(f"{key}_right" for key in keys))


def grouped(
    bank: Bank, table: ibis.Table, by: Sequence[str] | dict[str, Any] = ("customer_id",), **columns: Any
) -> pd.DataFrame:
    """Return what is counted and summed in groups of rows, in the order of the groups."""
    keys = by if isinstance(by, dict) else {name: table[name] for name in by}
    return bank.frame(table.group_by(**keys).aggregate(**columns).order_by(*keys))


def exit_within(bank: Bank, exit_on: Any, cause: Any, since: Any, *most: int) -> dict[str, Any]:
    """Whole months from a day to an exit or to the last full month seen, whether the exit was seen, and its cause."""
    import ibis

    last = months_between(ibis.date(day_after(bank)), since, up=False)
    last = ibis.least(last, *most) if most else last  # of one value alone, Spark knows no least
    gone = ibis.greatest(months_between(exit_on, since, up=True), 1)
    seen = (exit_on.notnull() & (gone <= last)).fill_null(False)
    return {"exit": ibis.ifelse(seen, gone, last), "event": seen, "cause": ibis.ifelse(seen, cause, ibis.null())}


def equal_chances(bank: Bank, table: ibis.Table) -> ibis.Table:
    """Thin rows of customers drawn with unequal chances (``weight``) to equal ones, by a hash of the customer.

    A row stays with the chance of its weight over the largest, so that all that follows may count rows alike; one
    without a weight goes, unless none has one. A customer's draw is the same in all rows, and no block's; it is the
    identifier's own also where a pseudonym stands for it.
    """
    if "weight" not in table.columns:
        return table
    share = table.weight / table.weight.max().as_scalar()
    told = table.weight.notnull().any().as_scalar()
    if not bank.pseudonymous:
        return table.filter(~told | (hashed(table.customer_id, 3) < share * 4096).fill_null(False))
    people = bank.engine.table(PEOPLE)
    drawn = beside(table, people.select("draw", customer_id=people.code), "customer_id")
    return drawn.filter(~told | (drawn.draw < share * 4096).fill_null(False)).drop("draw")
