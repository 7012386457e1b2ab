"""What study 1 takes out of the engine: contribution by customer, month of tenure or year, and purchase summaries.

Everything heavy runs inside the engine; at most one row per customer leaves it, ordered. Sums are exact (money is
decimal) and become floating point in the last projection.
"""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import block_of, whole_of
from crmresearch.data.reductions.expressions import (
    add_months,
    as_float,
    band_of,
    contribution_of,
    first_of_month,
    grouped,
    month_number,
    needs,
    ordered,
    whole_months,
)
from crmresearch.errors import InputError, Missing, NotApplicable, answered

if TYPE_CHECKING:
    import ibis


FOLDS = 20  # groups of customers for the jackknife
LOOKBACK = 12  # months before a date, with its own, that ``before`` adds up
# columns of a snapshot that measure value, summed where there are several
SNAPSHOT = {
    "fees": ("total_sym_statement_fee", "total_sym_sanction_interest"),
    "interest": ("total_sym_interest_credited",),
    "turnover": ("sum_amount",),
    "spend": ("total_trans_amt",),
}


@answered()
def month_end(bank: Bank, months_before: int = 0) -> Any:
    """Return a month, ``YYYY-MM``, counted back from the last whole one observed; Missing for a bank without dates."""
    if not bank.about.dated:
        return Missing(f"the bank '{bank.name}' has no dates", ("monthly",))
    return f"{first_of_month(whole_months(bank)[1] - months_before):%Y-%m}"


def _number(month: str) -> int:
    """Months since year 0 of ``YYYY-MM``."""
    try:
        year, part = month.split("-")
        return month_number(datetime.date(int(year), int(part), 1))
    except ValueError:
        raise InputError(f"month {month!r} is not of the form YYYY-MM") from None


def _observed(bank: Bank, months: int = 1) -> int:
    """Whole months that ``monthly`` was observed for; refused where they are fewer than are needed."""
    first, last = whole_months(bank)
    if last - first + 1 < months:
        observed = f"the bank was observed for {max(last - first + 1, 0)} whole ones"
        raise NotApplicable(f"{months} months are needed and {observed}", "monthly")
    return last - first + 1


def _start(bank: Bank) -> int:
    return whole_months(bank)[0]


def _window(bank: Bank, months: int) -> tuple[datetime.date, datetime.date]:
    """Return the first and the last day of the window of ``months`` that ends with the last whole month."""
    first, last = _last(bank, months)
    return first, add_months(last, 1) - datetime.timedelta(days=1)


def _monthly(bank: Bank) -> ibis.Table:
    """Return the whole months of ``monthly`` with contribution, fully loaded margin and the month as a number."""
    t = bank.table("monthly")
    t = t.filter(t.month.between(*map(first_of_month, whole_months(bank))))
    number, money = month_number(t.month).cast("int32"), contribution_of(bank, t)
    return t.select(
        "customer_id", "month", "balance", number=number, contribution=money, fully_loaded=money - t.allocated_cost
    )


def _band_at(bank: Bank, t: ibis.Table, now: int) -> Any:
    """Bank's own value band of the balance at the end of a month; None for a bank that declares none."""
    return band_of(bank, t.balance.max(where=t.number == now))


def _banded(bank: Bank, frame: pd.DataFrame) -> pd.DataFrame:
    return ordered(bank, frame, *(str(c) for c in frame if str(c).startswith("band")))


def _loads(bank: Bank) -> bool:
    """Whether costs are allocated, and not yet part of what the bank counts as contribution."""
    return bank.require("monthly.allocated_cost") is None and "-allocated_cost" not in bank.about.contribution


def _sum(t: ibis.Table, inside: Any) -> Any:
    """Contribution of some months; zero where there is none."""
    return as_float(t.contribution.sum(where=inside).fill_null(0))


def _last(bank: Bank, months: int) -> tuple[datetime.date, datetime.date]:
    """First and last month (as days) of the window of ``months`` that ends with the last whole month."""
    if months < 1:
        raise InputError(f"a window of {months} months; it needs at least one")
    end = _number(month_end(bank))
    return first_of_month(end - months + 1), first_of_month(end)


def _spend_in(bank: Bank, names: Mapping[int, str]) -> pd.DataFrame:
    """Spend of every customer acquired so far, in windows of whole months by date; zero where nothing was bought.

    Windows that were not covered in full are left out; ``attrs["window"]`` has first and last day of the longest.
    """
    first, last = bank.period("transactions")
    starts = {m: (pd.Timestamp(last) + pd.Timedelta(days=1) - pd.DateOffset(months=m)).date() for m in names}
    fits = [m for m in names if starts[m] >= first]
    if not fits:
        raise NotApplicable(
            f"{min(names)} months are needed; purchases are known from {first} to {last}", "transactions"
        )
    t = bank.table("transactions")
    sums = {names[m]: t.amount.sum(where=t.occurred_on >= starts[m]).fill_null(0) for m in fits}
    spend = t.filter(t.occurred_on <= last).group_by("customer_id").aggregate(**sums)
    frame = bank.frame(spend.mutate(**{names[m]: as_float(spend[names[m]]) for m in fits}).order_by("customer_id"))
    frame.attrs["window"] = min(starts[m] for m in fits), last
    return frame


@needs(per="customers")
def contribution(bank: Bank, *, months: int = 12) -> pd.DataFrame | Missing:
    """Contribution of each customer in the last ``months``.

    Parameters
    ----------
    bank : Bank
        With ``monthly`` and its money; else a ``snapshot`` with fees, interest, turnover or spend, whose period then
        stands for the window; else, without ``monthly``, ``transactions`` (spend of everybody who ever bought).
    months : int
        Length of the window, ending with the observation.

    Returns
    -------
    DataFrame
        ``customer_id``, ``contribution``, ``fully_loaded`` where costs are allocated; or the snapshot's ``fees``,
        ``interest``, ``turnover``, ``spend``; or ``spend``. Customers with at least one month in the window.
    """
    missing = bank.require("monthly.contribution")
    if missing is None:
        _observed(bank, months)
        first, last = _last(bank, months)
        t = _monthly(bank)
        t = t.filter(t.month.between(first, last))
        loaded = ["fully_loaded"] if _loads(bank) else []
        frame = grouped(bank, t, **{name: as_float(t[name].sum()) for name in ("contribution", *loaded)})
        frame.attrs["window"] = _window(bank, months)
        return frame
    if bank.require("snapshot") is None:
        return _snapshot(bank)
    if bank.require("monthly") is None:  # accounts, whose transactions are no purchases
        return missing
    if bank.require("transactions") is None:
        return _spend_in(bank, {months: "spend"})
    return Missing(f"the bank '{bank.name}' brings neither monthly nor transactions nor snapshot", ("monthly",))


@needs("monthly.contribution")
def margins(bank: Bank, *, months: int = 12) -> pd.DataFrame | Missing:
    """As :func:`contribution`, for banks that know costs; Missing where only spend, fees or turnover is known."""
    return contribution(bank, months=months)


def _snapshot(bank: Bank) -> pd.DataFrame | Missing:
    """Value columns of a snapshot; customers for whom they are not known are left out."""
    there = bank.columns("snapshot")
    found = {name: parts for name, parts in SNAPSHOT.items() if all(p in there for p in parts)}
    if not found:
        return Missing("the snapshot has no column of fees, interest, turnover or spend", ("monthly", "snapshot"))
    t = bank.table("snapshot")
    known = t.filter(*(t[p].notnull() for parts in found.values() for p in parts))
    columns = {name: functools.reduce(operator.add, (as_float(t[p]) for p in parts)) for name, parts in found.items()}
    return bank.frame(known.select("customer_id", **columns).order_by("customer_id"))


@needs(per="customers")
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
    missing = bank.require("monthly.contribution")
    purchases = bank.require("transactions") is None and bank.require("monthly") is not None
    if missing is not None and (not purchases or bank.require("snapshot") is None):
        return missing
    if missing is not None:
        return _spend_in(bank, {m: f"spend_{m}" for m in sorted(set(windows))})
    fits = [m for m in sorted(set(windows)) if m <= _observed(bank, min(windows))]
    t = _monthly(bank)
    sums = {f"contribution_{m}": as_float(t.contribution.sum(where=t.month >= _last(bank, m)[0])) for m in fits}
    frame = grouped(bank, t.filter(t.month.between(*_last(bank, max(fits)))), **sums)
    frame.attrs["window"] = _window(bank, max(fits))
    return frame


@needs("monthly.contribution", per="customers")
def yearly(bank: Bank, *, years: int = 3) -> pd.DataFrame | Missing:
    """Contribution of each customer in the last years, counted back from the end of the observation.

    Returns
    -------
    DataFrame
        ``customer_id`` and ``year_<YYYY-MM>`` (its last month), oldest first; missing where the customer was not there.
        As many years as were observed in full, at most ``years``; fewer than two are :class:`Missing`. Where the bank
        declares value bands of its own, ``band_<YYYY-MM>`` by the last balance of each year.
    """
    if years < 2:
        raise InputError(f"years is {years}; stability needs two or more")
    full = min(years, _observed(bank, 24) // 12)
    end = _number(month_end(bank))
    t = _monthly(bank)
    sums = {}
    for k in reversed(range(full)):
        inside = t.month.between(first_of_month(end - 12 * k - 11), first_of_month(end - 12 * k))
        sums[f"year_{month_end(bank, 12 * k)}"] = as_float(t.contribution.sum(where=inside))
        last = t.balance.argmax(t.number, where=inside)
        sums |= {f"band_{month_end(bank, 12 * k)}": own for own in [band_of(bank, last)] if own is not None}
    return _banded(bank, grouped(bank, t.filter(t.month.between(*_last(bank, 12 * full))), **sums))


def _owners(bank: Bank) -> ibis.Table:
    """Return customers with the month they were acquired in and their group."""
    c = whole_of(bank).table("customers")
    return c.select(
        "customer_id",
        start=month_number(c.acquired_on).cast("int32"),
        fold=block_of(c.customer_id, bank.pseudonymous) % FOLDS,
    )


def _followed(bank: Bank, t: ibis.Table, end: int) -> ibis.Table:
    """Add owners to months, and whether a month before ``end`` was the owner's last."""
    last = t.group_by("customer_id").aggregate(final=t.number.max())
    rows = t.join(_owners(bank).join(last, "customer_id"), "customer_id")
    return rows.mutate(gone=(rows.number == rows.final) & (rows.final < end))


def _counted(rows: ibis.Table, end: int) -> dict[str, Any]:
    return {
        "n": rows.count(),
        "at_risk": (rows.number < end).sum(),
        "exits": rows.gone.sum().fill_null(0),
        "contribution": as_float(rows.contribution.sum()),
        "gross_contribution": as_float(rows.contribution.abs().sum()),
    }


@needs("customers", "monthly.contribution")
def tenure_margin(bank: Bank, *, until: str | None = None, since: str | None = None) -> pd.DataFrame | Missing:
    """Customers, exits and contribution by month of tenure and group of customers.

    A customer enters at the tenure of the first month seen (late entry); who has no month after one that is followed by
    ``until`` has left in it.

    Parameters
    ----------
    until, since : str, optional
        Last and first month used, ``YYYY-MM``; default: all that was observed.

    Returns
    -------
    DataFrame
        ``fold``, ``tenure_month`` (0 is the month of acquisition), ``n`` customers there and their
        ``contribution`` (sum; ``gross_contribution`` of its sizes), ``at_risk`` those of them whose next month was
        observed, of whom ``exits`` left.
    """
    end = _number(until or month_end(bank))
    t = _monthly(bank)
    t = t.filter(t.month <= first_of_month(end))
    if since is not None:
        t = t.filter(t.month >= first_of_month(_number(since)))
    rows = _followed(bank, t, end)
    by = {"fold": rows.fold, "tenure_month": rows.number - rows.start}
    return grouped(bank, rows, by, **_counted(rows, end))


@needs("customers", "monthly.contribution")
def vintages(bank: Bank) -> pd.DataFrame | Missing:
    """Customers, exits and contribution by year of acquisition, year of the calendar and group of customers.

    All years end with the month the observation ends with, so that age is exactly calendar less vintage. An oldest year
    that was not observed in full is left out.

    Returns
    -------
    DataFrame
        ``fold``, ``vintage`` and ``period`` (last month of each year, ``YYYY-MM``), ``age`` (years between them; 0 is
        the year of acquisition), ``customers``, ``n`` customer-months and their ``contribution`` (sum;
        ``gross_contribution`` of its sizes), ``at_risk`` those of them whose next month was observed, of which
        ``exits`` were the last.
    """
    end, full = _number(month_end(bank)), _observed(bank, 12) // 12
    t = _monthly(bank)
    t = t.filter(t.month.between(*_last(bank, 12 * full)))
    rows = _followed(bank, t, end)
    vintage, period = (((end - m) // 12).cast("int32") for m in (rows.start, rows.number))
    counts = {"customers": rows.customer_id.nunique(), **_counted(rows, end)}
    table = rows.group_by("fold", vintage=vintage, period=period).aggregate(**counts)
    frame = bank.frame(table.order_by("fold", lambda r: -r.vintage, lambda r: -r.period))
    frame.insert(3, "age", frame["vintage"] - frame["period"])
    for column in ("vintage", "period"):
        frame[column] = [first_of_month(end - 12 * int(k)).strftime("%Y-%m") for k in frame[column]]
    return frame


@needs("customers", "monthly.contribution")
def tenure_windows(bank: Bank, *, until: str, windows: Sequence[int] = (12, 24, 36)) -> pd.DataFrame | Missing:
    """Tenure tables of several calibration windows that end with ``until``: :func:`tenure_margin` with a ``window``."""
    end = _number(until)
    fits = [w for w in sorted(set(windows)) if end - w + 1 >= _start(bank)]
    if not fits:
        return Missing(f"no window of {tuple(windows)} months fits before {until}", ("monthly",))
    parts = []
    for window in fits:
        table = tenure_margin(bank, until=until, since=f"{first_of_month(end - window + 1):%Y-%m}")
        if isinstance(table, Missing):
            return table
        parts.append(table.assign(window=window))
    return pd.concat(parts, ignore_index=True)


@needs("customers", "monthly.contribution", per="customers")
def customers_at(bank: Bank, *, at: str | None = None) -> pd.DataFrame | Missing:
    """Customers at the end of a month: what they brought before it, and in the two years after.

    Parameters
    ----------
    at : str, optional
        Month, ``YYYY-MM``; default: the last observed.

    Returns
    -------
    DataFrame
        ``customer_id``, ``fold``, ``tenure`` (months since the month of acquisition), ``months_before``, ``before``,
        ``months_all``, ``all`` (the whole history seen), ``months_after``, ``after`` (the next 12 months),
        ``months_second``, ``second`` (the 12 after those). The after columns count what was observed. ``band`` where
        the bank declares value bands of its own.
    """
    now = _number(at or month_end(bank))
    if now - LOOKBACK + 1 < _start(bank):
        starts = f"the bank starts in {bank.about.observation_start:%Y-%m}"
        return Missing(f"{LOOKBACK} months before the end of {at} were not observed; {starts}", ("monthly",))
    t = _monthly(bank)
    spans = {
        "before": t.number.between(now - LOOKBACK + 1, now),
        "all": t.number <= now,
        "after": t.number.between(now + 1, now + 12),
        "second": t.number.between(now + 13, now + 24),
    }
    own = {"band": band} if (band := _band_at(bank, t, now)) is not None else {}
    sums: dict[str, Any] = {"here": (t.number == now).sum(), **own}
    for name, inside in spans.items():
        sums[f"months_{name}"] = inside.sum().cast("int32")
        sums[name] = _sum(t, inside)
    rows = t.filter(t.number <= now + 24).group_by("customer_id").aggregate(**sums).filter(lambda r: r.here > 0)
    joined = rows.join(_owners(bank), "customer_id").mutate(tenure=lambda r: now - r.start)
    names = [f"{p}{n}" for n in spans for p in ("months_", "")]
    return _banded(
        bank, bank.frame(joined.select("customer_id", "fold", "tenure", *names, *own).order_by("customer_id"))
    )


@needs("customers", "monthly.contribution", per="customers")
def equity(bank: Bank, *, opening: str, closing: str) -> pd.DataFrame | Missing:
    """Customers at two dates, and what they brought in between, for the accounting of customer equity.

    Returns
    -------
    DataFrame
        ``customer_id``, ``fold``, ``known`` (seen before the opening date, though perhaps not at it), and for both
        dates ``here_*``, ``tenure_*``, ``months_before_*``, ``before_*``; ``realised`` (contribution after the opening
        month up to the closing one). Everybody seen at or between the two dates. ``band_*`` where the bank declares
        value bands of its own.
    """
    first, last = _number(opening), _number(closing)
    if last <= first:
        raise InputError(f"closing {closing} must come after opening {opening}")
    if first - LOOKBACK + 1 < _start(bank):
        return Missing(f"{LOOKBACK} months before the end of {opening} were not observed", ("monthly",))
    t = _monthly(bank)
    sums: dict[str, Any] = {
        "known": (t.number <= first).any(),
        "seen": t.number.between(first, last).any(),
        "realised": _sum(t, t.number.between(first + 1, last)),
    }
    for name, now in (("opening", first), ("closing", last)):
        inside = t.number.between(now - LOOKBACK + 1, now)
        sums[f"here_{name}"] = (t.number == now).any()
        sums[f"months_before_{name}"] = inside.sum().cast("int32")
        sums[f"before_{name}"] = _sum(t, inside)
        sums |= {f"band_{name}": band for band in [_band_at(bank, t, now)] if band is not None}
    rows = t.filter(t.number <= last).group_by("customer_id").aggregate(**sums).filter(lambda r: r.seen)
    joined = rows.join(_owners(bank), "customer_id")
    joined = joined.mutate(tenure_opening=first - joined.start, tenure_closing=last - joined.start)
    names = [f"{c}_{d}" for d in ("opening", "closing") for c in ("here", "tenure", "months_before", "before")]
    names += [c for c in sums if c.startswith("band_")]
    found = bank.frame(joined.select("customer_id", "fold", "known", *names, "realised").order_by("customer_id"))
    return _banded(bank, found)


@needs("monthly.contribution")
def contribution_by_month(bank: Bank, *, at: str) -> pd.DataFrame | Missing:
    """Contribution in each month of the year after ``at``, of the customers who were there in it.

    Returns
    -------
    DataFrame
        ``ahead`` (1 is the month after), ``n`` customers still there, ``contribution``, and its standard error
        ``se`` (of the sum, over the customers of ``at``); sums over customers of its ``squares`` and sizes ``gross``.
    """
    now = _number(at)
    t = _monthly(bank)
    here = t.filter(t.number == now).select("customer_id")
    size = int(bank.scalar(here.count()))
    later = t.filter(t.number.between(now + 1, now + 12)).semi_join(here, "customer_id")
    later = later.mutate(ahead=later.number - now, value=as_float(later.contribution))
    sums = {"contribution": as_float(later.contribution.sum()), "squares": (later.value * later.value).sum()}
    sums["gross"] = later.value.abs().sum()
    frame = grouped(bank, later, ["ahead"], n=later.count(), **sums)
    spread = frame["squares"] - frame["contribution"] ** 2 / max(size, 1)
    return frame.assign(se=spread.clip(lower=0) ** 0.5)
