"""What study 1 takes out of the engine: contribution by customer, month of tenure or year, and purchase summaries.

Everything heavy runs inside the engine; at most one row per customer leaves it, ordered. Sums are exact (money is
decimal) and become floating point in the last projection.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis
    import pandas as pd

    from crmresearch.bank import Bank

__all__ = [
    "contribution",
    "contribution_windows",
    "customers_at",
    "equity",
    "month_end",
    "purchases_by_period",
    "summary",
    "summary_expression",
    "tenure_margin",
    "yearly",
]

FOLDS = 20  # groups of customers for the jackknife
DAYS = {"day": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25}


def month_end(bank: Bank, months_before: int = 0) -> str:
    """Return a month, ``YYYY-MM``, counted back from the last observed one."""
    end = bank.about.observation_end
    number = end.year * 12 + end.month - 1 - months_before
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def _number(month: str) -> int:
    """Months since year 0 of ``YYYY-MM``."""
    try:
        year, part = month.split("-")
        day = datetime.date(int(year), int(part), 1)
    except ValueError:
        raise InputError(f"month {month!r} is not of the form YYYY-MM") from None
    return day.year * 12 + day.month - 1


def _day(number: int) -> datetime.date:
    return datetime.date(number // 12, number % 12 + 1, 1)


def _history(bank: Bank, *needed: str, months: int = 1) -> Missing | None:
    """Tell what is missing: tables, columns, or enough observed months."""
    missing = bank.require(*needed)
    if missing is not None:
        return missing
    start, end = bank.about.observation_start, bank.about.observation_end
    observed = (end.year - start.year) * 12 + end.month - start.month + 1
    if observed < months:
        return Missing(f"{months} months are needed and the bank was observed for {observed}", needed)
    return None


def _monthly(bank: Bank) -> ibis.Table:
    """Return ``monthly`` with contribution, fully loaded margin and the month as a number."""
    t = bank.table("monthly")
    contribution = t.net_interest + t.fees - t.service_cost - t.risk_cost
    return t.select(
        "customer_id",
        "month",
        number=(t.month.year() * 12 + t.month.month() - 1).cast("int32"),
        contribution=contribution,
        fully_loaded=contribution - t.allocated_cost,
    )


def _money(value: Any) -> Any:
    return value.cast("float64")


def _last(bank: Bank, months: int) -> tuple[datetime.date, datetime.date]:
    """First and last month (as days) of the window of ``months`` that ends with the observation."""
    if months < 1:
        raise InputError(f"a window of {months} months; it needs at least one")
    end = _number(month_end(bank))
    return _day(end - months + 1), _day(end)


def _spend_in(bank: Bank, windows: Sequence[int]) -> ibis.Table:
    """Spend of every customer acquired so far, in windows of months; zero where nothing was bought."""
    t = bank.table("transactions")
    sums = {f"spend_{m}": t.amount.sum(where=t.occurred_on >= _last(bank, m)[0]).fill_null(0) for m in windows}
    return t.filter(t.occurred_on <= bank.about.observation_end).group_by("customer_id").aggregate(**sums)


def contribution(bank: Bank, *, months: int = 12) -> pd.DataFrame | Missing:
    """Contribution of each customer in the last ``months``.

    Parameters
    ----------
    bank : Bank
        With ``monthly``; else ``transactions`` (spend of everybody who ever bought); else a ``snapshot`` with income,
        turnover or spend, whose own period then stands for the window.
    months : int
        Length of the window, ending with the observation.

    Returns
    -------
    DataFrame
        ``customer_id``, ``contribution``, ``fully_loaded`` where costs are allocated; or ``spend``; or the snapshot's
        ``income``, ``turnover``, ``spend``. Customers with at least one month in the window.
    """
    wanted = _history(bank, "monthly", months=months)
    if wanted is None:
        first, last = _last(bank, months)
        t = _monthly(bank)
        loaded = {} if bank.require("monthly.allocated_cost") else {"fully_loaded": _money(t.fully_loaded.sum())}
        inside = t.filter(t.month.between(first, last))
        return bank.frame(
            inside.group_by("customer_id").aggregate(contribution=_money(t.contribution.sum()), **loaded).order_by("customer_id")
        )
    if bank.require("monthly") is not None and bank.require("transactions") is None:
        short = _history(bank, "transactions", months=months)
        if short is not None:
            return short
        spend = _spend_in(bank, [months])
        return bank.frame(spend.select("customer_id", spend=_money(spend[f"spend_{months}"])).order_by("customer_id"))
    if bank.require("snapshot") is None and bank.require("monthly") is not None:
        found = [c for c in ("spend", "income", "turnover") if c in bank.columns("snapshot")]
        if found:
            t = bank.table("snapshot")
            known = t.filter(*(t[c].notnull() for c in found))
            return bank.frame(known.select("customer_id", **{c: _money(t[c]) for c in found}).order_by("customer_id"))
        return Missing("the snapshot has no column spend, income or turnover", ("monthly", "snapshot"))
    return wanted


def contribution_windows(bank: Bank, *, windows: Sequence[int] = (3, 6, 12, 24, 36)) -> pd.DataFrame | Missing:
    """Contribution (or spend) of each customer in several windows that end with the observation.

    Returns
    -------
    DataFrame
        ``customer_id`` and ``contribution_<months>`` (or ``spend_<months>``) for each window that was observed in full;
        missing where the customer was not there.
    """
    if not windows or min(windows) < 1:
        raise InputError(f"windows {tuple(windows)} must be positive numbers of months")
    fits = [m for m in sorted(set(windows)) if _history(bank, months=m) is None]
    missing = bank.require("monthly")
    if missing is not None and bank.require("transactions") is not None:
        return missing
    if not fits:
        return Missing(f"the bank was observed for less than {min(windows)} months", ("monthly",))
    if missing is not None:
        spend = _spend_in(bank, fits)
        columns = {f"spend_{m}": _money(spend[f"spend_{m}"]) for m in fits}
        return bank.frame(spend.select("customer_id", **columns).order_by("customer_id"))
    t = _monthly(bank)
    sums = {f"contribution_{m}": _money(t.contribution.sum(where=t.month >= _last(bank, m)[0])) for m in fits}
    first, last = _last(bank, max(fits))
    return bank.frame(t.filter(t.month.between(first, last)).group_by("customer_id").aggregate(**sums).order_by("customer_id"))


def yearly(bank: Bank, *, years: int = 3) -> pd.DataFrame | Missing:
    """Contribution of each customer in the last years, counted back from the end of the observation.

    Returns
    -------
    DataFrame
        ``customer_id`` and ``year_<YYYY-MM>`` (its last month), oldest first; missing where the customer was not there.
        As many years as were observed in full, at most ``years``; fewer than two are :class:`Missing`.
    """
    if years < 2:
        raise InputError(f"years is {years}; stability needs two or more")
    missing = _history(bank, "monthly", months=24)
    if missing is not None:
        return missing
    full = max(k for k in range(2, years + 1) if _history(bank, months=12 * k) is None)
    end = _number(month_end(bank))
    t = _monthly(bank)
    sums = {}
    for k in reversed(range(full)):
        inside = t.month.between(_day(end - 12 * k - 11), _day(end - 12 * k))
        sums[f"year_{month_end(bank, 12 * k)}"] = _money(t.contribution.sum(where=inside))
    window = t.filter(t.month.between(_day(end - 12 * full + 1), _day(end)))
    return bank.frame(window.group_by("customer_id").aggregate(**sums).order_by("customer_id"))


def _owners(bank: Bank, folds: int) -> ibis.Table:
    """Return customers with the month they were acquired in and their group, dealt out in the order of the ids."""
    import ibis

    if folds < 2:
        raise InputError(f"folds is {folds}; a jackknife needs several groups")
    c = bank.table("customers")
    return c.select(
        "customer_id",
        start=(c.acquired_on.year() * 12 + c.acquired_on.month() - 1).cast("int32"),
        fold=(ibis.row_number().over(order_by=c.customer_id) % folds).cast("int32"),
    )


def tenure_margin(
    bank: Bank, *, until: str | None = None, since: str | None = None, folds: int = FOLDS
) -> pd.DataFrame | Missing:
    """Customers, exits and contribution by month of tenure and group of customers.

    A customer enters at the tenure of the first month seen (late entry); who has no month after one that is followed by
    ``until`` has left in it.

    Parameters
    ----------
    until, since : str, optional
        Last and first month used, ``YYYY-MM``; default: all that was observed.
    folds : int
        Groups for the jackknife.

    Returns
    -------
    DataFrame
        ``fold``, ``tenure_month`` (0 is the month of acquisition), ``n`` customers there, of whom ``exits`` left,
        ``contribution`` (sum).
    """
    missing = bank.require("customers", "monthly")
    if missing is not None:
        return missing
    end = _number(until or month_end(bank))
    t = _monthly(bank)
    t = t.filter(t.month <= _day(end))
    if since is not None:
        t = t.filter(t.month >= _day(_number(since)))
    last = t.group_by("customer_id").aggregate(final=t.number.max())
    owners = _owners(bank, folds).join(last, "customer_id").select("customer_id", "start", "fold", "final")
    rows = t.join(owners, "customer_id")
    rows = rows.mutate(tenure_month=rows.number - rows.start, gone=(rows.number == rows.final) & (rows.final < end))
    table = rows.group_by("fold", "tenure_month").aggregate(
        n=rows.count(), exits=rows.gone.sum().fill_null(0), contribution=_money(rows.contribution.sum())
    )
    return bank.frame(table.order_by("fold", "tenure_month"))


def customers_at(bank: Bank, *, at: str | None = None, lookback: int = 12, folds: int = FOLDS) -> pd.DataFrame | Missing:
    """Customers at the end of a month: what they brought before it, and in the two years after.

    Parameters
    ----------
    at : str, optional
        Month, ``YYYY-MM``; default: the last observed.
    lookback : int
        Months before (and with) the date that ``before`` adds up.
    folds : int
        Groups for the jackknife.

    Returns
    -------
    DataFrame
        ``customer_id``, ``fold``, ``tenure`` (months since the month of acquisition), ``months_before``, ``before``,
        ``months_all``, ``all`` (the whole history seen), ``months_after``, ``after`` (the next 12 months),
        ``months_second``, ``second`` (the 12 after those). The after columns count what was observed.
    """
    missing = bank.require("customers", "monthly")
    if missing is not None:
        return missing
    if lookback < 1:
        raise InputError(f"lookback is {lookback} months; it must be 1 or more")
    now = _number(at or month_end(bank))
    t = _monthly(bank)
    spans = {
        "before": t.number.between(now - lookback + 1, now),
        "all": t.number <= now,
        "after": t.number.between(now + 1, now + 12),
        "second": t.number.between(now + 13, now + 24),
    }
    sums: dict[str, Any] = {"here": (t.number == now).sum()}
    for name, inside in spans.items():
        sums[f"months_{name}"] = inside.sum().cast("int32")
        sums[name] = _money(t.contribution.sum(where=inside).fill_null(0))
    rows = t.filter(t.number <= now + 24).group_by("customer_id").aggregate(**sums).filter(lambda r: r.here > 0)
    joined = rows.join(_owners(bank, folds), "customer_id").mutate(tenure=lambda r: now - r.start)
    return bank.frame(joined.select("customer_id", "fold", "tenure", *(f"{p}{n}" for n in spans for p in ("months_", ""))).order_by("customer_id"))


def equity(bank: Bank, *, opening: str, closing: str, lookback: int = 12, folds: int = FOLDS) -> pd.DataFrame | Missing:
    """Customers at two dates, and what they brought in between, for the accounting of customer equity.

    Returns
    -------
    DataFrame
        ``customer_id``, ``fold``, ``known`` (seen before the opening date, though perhaps not at it), and for both dates
        ``here_*``, ``tenure_*``, ``months_before_*``, ``before_*``; ``realised`` (contribution after the opening month
        up to the closing one). Everybody seen at or between the two dates.
    """
    missing = bank.require("customers", "monthly")
    if missing is not None:
        return missing
    first, last = _number(opening), _number(closing)
    if last <= first:
        raise InputError(f"closing {closing} must come after opening {opening}")
    t = _monthly(bank)
    sums: dict[str, Any] = {
        "known": (t.number <= first).any(),
        "seen": t.number.between(first, last).any(),
        "realised": _money(t.contribution.sum(where=t.number.between(first + 1, last)).fill_null(0)),
    }
    for name, now in (("opening", first), ("closing", last)):
        inside = t.number.between(now - lookback + 1, now)
        sums[f"here_{name}"] = (t.number == now).any()
        sums[f"months_before_{name}"] = inside.sum().cast("int32")
        sums[f"before_{name}"] = _money(t.contribution.sum(where=inside).fill_null(0))
    rows = t.filter(t.number <= last).group_by("customer_id").aggregate(**sums).filter(lambda r: r.seen)
    joined = rows.join(_owners(bank, folds), "customer_id")
    joined = joined.mutate(tenure_opening=first - joined.start, tenure_closing=last - joined.start)
    names = [f"{c}_{d}" for d in ("opening", "closing") for c in ("here", "tenure", "months_before", "before")]
    return bank.frame(joined.select("customer_id", "fold", "known", *names, "realised").order_by("customer_id"))


def summary_expression(
    transactions: ibis.Table, *, calibration_end: datetime.date, holdout_end: datetime.date | None = None, unit: str = "week"
) -> ibis.Table:
    """Purchase summary as an expression, in the definition of lifetimes; see :func:`summary`."""
    if unit not in DAYS:
        raise InputError(f"unit {unit!r}; it must be one of {', '.join(DAYS)}")
    if holdout_end is not None and holdout_end <= calibration_end:
        raise InputError(f"holdout_end {holdout_end} must come after calibration_end {calibration_end}")
    t = transactions.filter(transactions.occurred_on <= (holdout_end or calibration_end))
    days = t.group_by("customer_id", "occurred_on").aggregate(amount=t.amount.sum())
    cal = days.occurred_on <= calibration_end
    sums: dict[str, Any] = {
        "days": days.count(where=cal) if holdout_end else days.count(),
        "first": days.occurred_on.min(),
        "last": days.occurred_on.max(where=cal) if holdout_end else days.occurred_on.max(),
        "total": days.amount.sum(where=cal) if holdout_end else days.amount.sum(),
        "opening": days.amount.argmin(days.occurred_on),
    }
    if holdout_end is not None:
        sums["frequency_holdout"] = days.count(where=~cal)
        sums["spend_holdout"] = _money(days.amount.sum(where=~cal).fill_null(0))
    c = days.group_by("customer_id").aggregate(**sums)
    if holdout_end is not None:
        c = c.filter(c["first"] <= calibration_end)
    length = DAYS[unit]
    repeat = c.days - 1
    out = {
        "frequency": repeat,
        "recency": c["last"].delta(c["first"], unit="day") / length,
        "T": _literal_day(calibration_end).delta(c["first"], unit="day") / length,
        "monetary_value": (_money(c.total - c.opening) / repeat.nullif(0)).fill_null(0.0),
        "first_value": _money(c.opening),
    }
    if holdout_end is not None:
        span = (holdout_end - calibration_end).days / length
        out |= {"frequency_holdout": c.frequency_holdout, "spend_holdout": c.spend_holdout, "duration_holdout": span + c.days * 0}
    return c.select("customer_id", **out).order_by("customer_id")


def _literal_day(day: datetime.date) -> Any:
    import ibis

    return ibis.literal(day, type="date")


def summary(
    bank: Bank, *, calibration_end: datetime.date | None = None, holdout_end: datetime.date | None = None, unit: str = "week"
) -> pd.DataFrame | Missing:
    """Purchase history of each customer in the definition of lifetimes.

    Purchases of one day are one purchase; the first one is the start, not a repeat, and is left out of the monetary
    value. *Recency* here is the time from first to last purchase, not the time since the last one.

    Parameters
    ----------
    calibration_end : date, optional
        Last day of the calibration period; default: the end of the observation.
    holdout_end : date, optional
        Last day of a holdout period, which adds ``frequency_holdout`` (purchase days in it), ``spend_holdout`` and
        ``duration_holdout``.
    unit : {'day', 'week', 'month', 'year'}
        Unit of recency and T (a month is 30.4375 days).

    Returns
    -------
    DataFrame
        ``customer_id``, ``frequency``, ``recency``, ``T``, ``monetary_value`` (mean spend per repeat purchase day, 0
        without one), ``first_value`` (spend of the first day).
    """
    missing = bank.require("transactions")
    if missing is not None:
        return missing
    end = calibration_end or bank.about.observation_end
    if not bank.about.observation_start < end <= bank.about.observation_end:
        raise InputError(f"calibration_end {end} lies outside the observed period")
    return bank.frame(summary_expression(bank.table("transactions"), calibration_end=end, holdout_end=holdout_end, unit=unit))


def purchases_by_period(
    bank: Bank, *, calibration_end: datetime.date, holdout_end: datetime.date, unit: str = "week"
) -> pd.DataFrame | Missing:
    """Repeat purchases by calendar period, and first purchases of those acquired by the end of calibration.

    Returns
    -------
    DataFrame
        ``period`` (1 is the first, counted from the first purchase of all), ``starts`` (customers who bought first in
        it), ``repeats`` (repeat purchase days of customers acquired in the calibration period), ``end`` (its end, in
        units since the first purchase of all).
    """
    missing = bank.require("transactions")
    if missing is not None:
        return missing
    if unit not in DAYS:
        raise InputError(f"unit {unit!r}; it must be one of {', '.join(DAYS)}")
    t = bank.table("transactions")
    days = t.filter(t.occurred_on <= holdout_end).select("customer_id", "occurred_on").distinct()
    first = days.group_by("customer_id").aggregate(first=days.occurred_on.min())
    first = first.filter(first["first"] <= calibration_end)
    start = bank.connection.execute(first["first"].min())
    start = getattr(start, "date", lambda: start)()
    rows = days.join(first, "customer_id")
    rows = rows.mutate(
        period=(rows.occurred_on.delta(_literal_day(start), unit="day") / DAYS[unit]).floor().cast("int64") + 1,
        begins=rows.occurred_on == rows["first"],
    )
    table = rows.group_by("period").aggregate(starts=rows.begins.sum(), repeats=(~rows.begins).sum())
    return bank.frame(table.order_by("period"))
