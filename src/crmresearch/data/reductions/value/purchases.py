"""Purchase histories for study 1: one row per customer in the definition of lifetimes, and purchases by period.

The summary is a two-stage grouping (customer and day, then customer) that runs inside the engine.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.engines import earliest
from crmresearch.data.reductions.blocks import whole_of
from crmresearch.data.reductions.expressions import DAYS_PER_MONTH, DAYS_PER_YEAR, as_float, days_between, needs
from crmresearch.errors import InputError, Missing, NotApplicable

if TYPE_CHECKING:
    import ibis


MOST_REFUNDS = 0.2  # share of rows below zero from which they are debits, not refunds
DAYS = {"day": 1.0, "week": 7.0, "month": DAYS_PER_MONTH, "year": DAYS_PER_YEAR}


def summary_expression(
    transactions: ibis.Table,
    *,
    calibration_end: datetime.date,
    holdout_end: datetime.date | None = None,
    unit: str = "week",
) -> ibis.Table:
    """Purchase summary as an expression, in the definition of lifetimes; see :func:`summary`."""
    import ibis

    if unit not in DAYS:
        raise InputError(f"unit {unit!r}; it must be one of {', '.join(DAYS)}")
    if holdout_end is not None and holdout_end <= calibration_end:
        raise InputError(f"holdout_end {holdout_end} must come after calibration_end {calibration_end}")
    t = transactions.filter(transactions.occurred_on <= (holdout_end or calibration_end))
    # a sum comes back twice as wide as its terms; a day's fits their type, and the second pass is a tenth cheaper
    days = t.group_by("customer_id", "occurred_on").aggregate(amount=t.amount.sum().cast(t.amount.type()))
    cal: Any = days.occurred_on <= calibration_end if holdout_end else None  # None: all
    sums: dict[str, Any] = {
        "days": days.count(where=cal),
        "first": days.occurred_on.min(),
        "last": days.occurred_on.max(where=cal),
        "total": days.amount.sum(where=cal),
        "opening": earliest(days.amount, days.occurred_on),
    }
    if holdout_end is not None:
        sums["frequency_holdout"] = days.count(where=~cal)
        sums["spend_holdout"] = as_float(days.amount.sum(where=~cal).fill_null(0))
    c = days.group_by("customer_id").aggregate(**sums)
    if holdout_end is not None:
        c = c.filter(c["first"] <= calibration_end)
    length = DAYS[unit]
    repeat = c.days - 1
    out = {
        "frequency": repeat,
        "recency": days_between(c["last"], c["first"]) / length,
        "T": days_between(ibis.date(calibration_end), c["first"]) / length,
        "monetary_value": (as_float(c.total - c.opening) / as_float(repeat.nullif(0))).fill_null(0.0),
        "first_value": as_float(c.opening),
    }
    if holdout_end is not None:
        span = (holdout_end - calibration_end).days / length
        out |= {
            "frequency_holdout": c.frequency_holdout,
            "spend_holdout": c.spend_holdout,
            "duration_holdout": span + c.days * 0,
        }
    return c.select("customer_id", **out).order_by("customer_id")


def split_day(bank: Bank, share: float) -> datetime.date:
    """Last day of the first ``share`` of the period that transactions cover."""
    if not 0 < share <= 1:
        raise InputError(f"calibration_share is {share}; it must lie above 0 and not above 1")
    first, last = bank.period("transactions")
    return first + datetime.timedelta(days=round(((last - first).days + 1) * share) - 1)


@needs("transactions", per="customers")
def summary(
    bank: Bank,
    *,
    calibration_share: float = 1.0,
    calibration_end: datetime.date | None = None,
    unit: str = "week",
    gross: bool = False,
) -> pd.DataFrame | Missing:
    """Purchase history of each customer in the definition of lifetimes.

    Purchases of one day are one purchase; the first one is the start, not a repeat, and is left out of the monetary
    value. *Recency* here is the time from first to last purchase, not the time since the last one.

    Parameters
    ----------
    calibration_share : float
        Share of the covered period used for calibration; what follows is the holdout. 1: no holdout.
    calibration_end : date, optional
        The last day of calibration itself, instead of the share.
    unit : {'day', 'week', 'month', 'year'}
        Unit of recency and T (a month is 30.4375 days).
    gross : bool
        Whether amounts count without their sign: money moved, for accounts with credits and debits.

    Returns
    -------
    DataFrame
        ``customer_id``, ``frequency``, ``recency``, ``T``, ``monetary_value`` (mean spend per repeat purchase day, 0
        without one), ``first_value`` (spend of the first day); with a holdout ``frequency_holdout`` (purchase days in
        it), ``spend_holdout`` and ``duration_holdout``.
    """
    t = bank.table("transactions")
    if gross:
        t = t.mutate(amount=t.amount.abs())
    return _summary(bank, t, calibration_end or split_day(bank, calibration_share), unit)


def _summary(bank: Bank, t: ibis.Table, end: datetime.date, unit: str) -> pd.DataFrame:
    first, last = bank.period("transactions")
    if not first <= end <= last:
        raise InputError(f"calibration_end {end} lies outside the covered period, {first} to {last}")
    holdout = last if end < last else None
    return bank.frame(summary_expression(t, calibration_end=end, holdout_end=holdout, unit=unit))


@needs("transactions", per="customers")
def latent_summary(bank: Bank, *, calibration_share: float = 1.0, unit: str = "week") -> pd.DataFrame | Missing:
    """As :func:`summary`, for banks whose customers leave unseen; :class:`Missing` where leaving is observed.

    A model that infers leaving from silence must not be given customers whose leaving is a recorded event.
    """
    t, refunds = _latent(bank)
    frame = _summary(bank, t, split_day(bank, calibration_share), unit)
    frame.attrs["refunds"] = refunds
    return frame


def _latent(bank: Bank) -> tuple[ibis.Table, int]:
    """Purchases, refunds taken off those of their day, and the number of refunds."""
    if bank.require("monthly") is None or bank.require("customers.left_on") is None:
        raise NotApplicable("accounts are opened and closed here, so leaving is not latent; see survival x margin")
    every, t, rows = whole_of(bank).table("transactions"), bank.table("transactions"), bank.rows("transactions")
    refunds = int(bank.scalar((every.amount < 0).sum().fill_null(0)))
    if refunds > MOST_REFUNDS * rows:
        what = f"{refunds:,} of {rows:,} are below zero"
        raise NotApplicable(f"transactions are debits and credits of accounts, not purchases: {what}")
    if refunds:
        total, back = t.amount.sum().cast(t.amount.type()), (t.amount < 0).sum()
        days = t.group_by("customer_id", "occurred_on").aggregate(amount=total, back=back)
        t = days.filter((days.amount > 0) | (days.back == 0)).drop("back")
    return t, refunds


@needs("transactions")
def purchases_by_period(bank: Bank, *, calibration_share: float = 0.5, unit: str = "week") -> pd.DataFrame | Missing:
    """Repeat purchases by calendar period of the customers acquired in the calibration period.

    Returns
    -------
    DataFrame
        ``period`` (1 begins with the first purchase of all), ``starts`` (customers whose first purchase lies in it),
        ``repeats`` (their repeat purchase days), ``calibration`` (whether it ends in the calibration period). Periods
        that the observation cuts short are left out.
    """
    import ibis

    t = _latent(bank)[0]
    if unit not in DAYS:
        raise InputError(f"unit {unit!r}; it must be one of {', '.join(DAYS)}")
    begin, last = bank.period("transactions")
    end = split_day(bank, calibration_share)
    days = t.filter(t.occurred_on <= last).select("customer_id", "occurred_on").distinct()
    first = days.group_by("customer_id").aggregate(first=days.occurred_on.min()).filter(lambda r: r["first"] <= end)
    rows = days.join(first, "customer_id")
    since = days_between(rows.occurred_on, ibis.date(begin)) / DAYS[unit]
    rows = rows.mutate(period=since.floor().cast("int64") + 1, begins=rows.occurred_on == rows["first"])
    table = rows.group_by("period").aggregate(starts=rows.begins.sum(), repeats=(~rows.begins).sum())
    table = table.mutate(calibration=table.period * DAYS[unit] <= (end - begin).days + 1)
    whole = table.filter(table.period * DAYS[unit] <= (last - begin).days + 1)
    return bank.frame(whole.order_by("period"))
