"""What notebook 06 takes out of the engine: markets and their rivals, income, stays and wins by place and month.

Places and regions are numbers here; the same place has the same number in every frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import (
    as_float,
    day_after,
    first_of_month,
    grouped,
    month_number,
    needs,
    whole_months,
)
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis


def _cities(bank: Bank) -> ibis.Table:
    """Number every place of the markets, with the first month of rivals and whether they were there from the start."""
    import ibis

    t = bank.table("markets")
    month = month_number(t.month)
    came = month.min(where=t.rival_branches > 0)
    told = month_number(t.rival_entered_on).min() if bank.require("markets.rival_entered_on") is None else came
    always = (came == month.min()).fill_null(False)
    if bank.require("markets.always_treated") is None:
        always = ibis.coalesce(t.always_treated.any(), always)
    c = t.group_by("city_id").aggregate(came=ibis.coalesce(told, came), always=always)
    return c.mutate(city=ibis.dense_rank().over(ibis.window(order_by="city_id")))


@needs("markets")
def markets(bank: Bank) -> pd.DataFrame | Missing:
    """Shares and rivals by place and month.

    Returns
    -------
    DataFrame
        ``city``, ``month`` (since the year 0), ``tier``, ``share``, ``rivals`` (branches), ``entered`` (month of the
        first rival: the date the bank gives, or the first month with a branch; minus infinity where rivals were there
        from the start, as ``always_treated`` says, or else from the first month on; infinity where none came),
        ``region`` (the place itself where the bank names none), ``owner_share`` and ``intensity`` (of relationship
        management; missing where the bank brings none).
    """
    import ibis

    t = bank.table("markets")
    t = t.inner_join(_cities(bank), "city_id")
    columns = ("region_id", "owner_share", "crm_intensity")
    region, owners, managed = (bank.require(f"markets.{c}") is None for c in columns)
    frame = bank.frame(
        t.select(
            city=t.city,
            month=month_number(t.month),
            tier=t.tier,
            share=as_float(t.own_share),
            rivals=t.rival_branches,
            came=as_float(t.came),
            always=t.always,
            region=t.region_id if region else t.city,
            owner_share=as_float(t.owner_share) if owners else ibis.null("float64"),
            intensity=as_float(t.crm_intensity) if managed else ibis.null("float64"),
        ).order_by("city", "month")
    )
    entered = frame.pop("came").fillna(np.inf).mask(frame.pop("always").astype(bool), -np.inf)
    return frame.assign(region=pd.factorize(frame["region"])[0], entered=entered)


@needs("markets", "monthly", "customers.city_id")
def income(bank: Bank) -> pd.DataFrame | Missing:
    """Income from customers by place and month.

    Returns
    -------
    DataFrame
        ``city``, ``month``, ``income``, its ``squares`` and sizes ``gross``, ``n`` customers.
    """
    kinds = [k for k in ("net_interest", "fees") if bank.require(f"monthly.{k}") is None]
    if not kinds:
        return Missing("no income of customers is recorded", ("monthly",))
    m, c = bank.table("monthly"), bank.table("customers").select("customer_id", "city_id")
    t = m.inner_join(c, "customer_id").inner_join(_cities(bank), "city_id")
    first, last = whole_months(bank)
    t = t.filter(t.month.between(first_of_month(first), first_of_month(last)))
    own = sum(as_float(t[k].fill_null(0)) for k in kinds)
    sums = {"income": sum(as_float(t[k].sum().fill_null(0)) for k in kinds), "squares": (own * own).sum()}
    sums["gross"] = own.abs().sum()
    return grouped(bank, t, {"city": t.city, "month": month_number(t.month)}, **sums, n=t.count())


@needs("customers.left_on")
def stays(bank: Bank) -> pd.DataFrame | Missing:
    """Customers at risk and exits by place, calendar month and year of tenure.

    A customer is at risk in a month that begins after the acquisition and before the exit.

    Returns
    -------
    DataFrame
        ``city`` (-1 where no market is known), ``month``, ``year`` of tenure (0 the first; 10 all later ones),
        ``at_risk``, ``exits``.
    """
    import ibis

    t = bank.table("customers")
    t = t.mutate(city=ibis.literal(-1))
    if bank.require("markets", "customers.city_id") is None:
        cities = _cities(bank).select(known="city_id", place="city")
        t = t.left_join(cities, t.city_id == cities.known)
        t = t.mutate(city=t.place.fill_null(-1))
    start, end = month_number(bank.about.observation_start), month_number(day_after(bank)) - 1
    if bank.about.observation_start.day > 1:
        start += 1
    joined, seen = month_number(t.acquired_on), month_number(t.observed_from)
    whole = (t.observed_from.day() > 1).cast("int32")  # at risk from the first month that is seen whole
    by = {"city": t.city, "joined": joined, "first": ibis.greatest(joined + 1, seen + whole, start)}
    frame = grouped(bank, t, by | {"gone": month_number(t.left_on).fill_null(end + 1)}, n=t.count())
    frame = frame[(frame["gone"] >= frame["first"]) & (frame["first"] <= end)]
    if frame.empty:
        return Missing(f"no customer of the bank '{bank.name}' is at risk for a whole month", ("customers",))
    keys, row = np.unique(frame[["city", "joined"]].to_numpy(int), axis=0, return_inverse=True)
    months = end - start + 1
    change, exits = np.zeros((len(keys), months + 1)), np.zeros((len(keys), months + 1))
    gone = np.minimum(frame["gone"].to_numpy(int), end + 1) - start
    np.add.at(change, (row, frame["first"].to_numpy(int) - start), frame["n"])
    np.add.at(change, (row, np.minimum(gone + 1, months)), -frame["n"])
    np.add.at(exits, (row, gone), frame["n"])
    month = np.arange(start, end + 1)
    out = pd.DataFrame({
        "city": np.repeat(keys[:, 0], months),
        "month": np.tile(month, len(keys)),
        "year": np.clip((month - keys[:, 1:]) // 12, 0, 10).ravel(),
        "at_risk": np.cumsum(change, axis=1)[:, :months].ravel(),
        "exits": exits[:, :months].ravel(),
    })  # fmt: skip
    out = out[out["at_risk"] > 0].groupby(["city", "month", "year"], as_index=False).sum()
    return out.astype({"at_risk": "int64", "exits": "int64"})


@needs("prospects")
def winning(bank: Bank) -> pd.DataFrame | Missing:
    """Spend on prospects and wins by month of first contact: ``month``, ``spend``, its ``squares``, ``won``, ``n``."""
    t = bank.table("prospects")
    spent = as_float(t.spend)
    sums = {"spend": as_float(t.spend.sum()), "squares": (spent * spent).sum(), "won": t.won.cast("int64").sum()}
    return grouped(bank, t, {"month": month_number(t.first_contact_on)}, **sums, n=t.count())


@needs("markets", "monthly", "customers.left_on", "customers.city_id")
def after_entry(
    bank: Bank, *, window: int, before: int = 12, best: float = 0.2, moved: int = 0
) -> pd.DataFrame | Missing:
    """Exits after the entry of rivals, and at the same dates where none ever came, by value fixed beforehand.

    Parameters
    ----------
    bank : Bank
    window : int
        Months that are followed.
    before : int
        Months before the date at which the balance is read.
    best : float
        Share of the bank's customers, by that balance, that counts as of high value.
    moved : int
        Months by which dates are moved, for a look at what cannot be an effect.

    Returns
    -------
    DataFrame
        ``city``, ``entered`` (whether rivals came there at all), ``date`` (month), ``high``, ``n`` customers at risk,
        ``exits`` within the window, ``exposure`` (months at risk within it). Places with rivals from the start are left
        out, and so are dates that are not seen for the whole window, or whose balances are not known.
    """
    import ibis

    place = _cities(bank).filter(lambda r: ~r.always)
    first, last = whole_months(bank)
    known = [d + moved for d in bank.frame(place.select("came").distinct())["came"].dropna().astype(int)]
    dates = [d for d in known if d - before >= first and d + window - 1 <= last]
    if not dates or not bank.scalar(place.came.isnull().any()):
        return Missing("no entry of rivals is seen long enough, with places beside it where none came", ("markets",))
    m = bank.table("monthly")
    m = m.select("customer_id", date=month_number(m.month) + before, balance=as_float(m.balance))
    m = m.filter(m.date.isin(dates))
    m = m.mutate(high=ibis.percent_rank().over(ibis.window(group_by="date", order_by=ibis.desc("balance"))) < best)
    c = bank.table("customers").select("customer_id", "city_id", "left_on").inner_join(place, "city_id")
    t = m.inner_join(c, "customer_id")
    t = t.filter(t.came.isnull() | (t.came + moved == t.date))
    gone = month_number(t.left_on)
    t = t.filter(t.left_on.isnull() | (gone >= t.date))
    stay = ibis.least(ibis.coalesce(gone, t.date + window) - t.date, window)
    half = ((stay < window) & gone.notnull()).cast("float64") / 2  # who leaves is there for half of the month
    by = {"city": t.city, "entered": t.came.notnull(), "date": t.date, "high": t.high}
    sums = {"n": t.count(), "exits": (stay < window).sum(), "exposure": as_float((stay + half).sum())}
    return grouped(bank, t, by, **sums)


@needs("customers.left_on", "transactions.direction", "transactions.counterparty")
def payments(bank: Bank, *, lag: int = 1) -> pd.DataFrame | Missing:
    """Customers at risk and exits by quarter and by where the payments of a year before it went.

    Parameters
    ----------
    bank : Bank
    lag : int
        Quarters between that year and the quarter.

    Returns
    -------
    DataFrame
        ``quarter``, ``year`` of tenure (10 all later ones), ``share`` of payments to outside platforms, in steps of
        five points (payments are counted: one large transfer would stand for a year), ``n`` customers there when the
        quarter begins, who had come before that year and paid in it, ``exits`` in the quarter.
    """
    import ibis

    start = bank.period("transactions")[0]
    first, last = -(-month_number(start) // 3) + (start.day > 1), month_number(day_after(bank)) // 3 - 1
    t = bank.table("transactions")
    t = t.filter((t.direction == "out") & t.counterparty.notnull())
    paid = {"all": t.count(), "platform": (t.counterparty == "platform").sum()}
    t = t.group_by("customer_id", paid_in=month_number(t.occurred_on) // 3).aggregate(**paid)
    later = ibis.array([ibis.literal(lag + k, "int32") for k in range(1, 5)])
    t = t.mutate(ahead=later.unnest())
    t = t.group_by("customer_id", quarter=t.paid_in + t.ahead)
    t = t.aggregate(all=lambda r: r["all"].sum(), platform=lambda r: r.platform.sum())
    c = bank.table("customers").select("customer_id", "acquired_on", "left_on")
    t = t.inner_join(c, "customer_id")
    gone, came = month_number(t.left_on) // 3, month_number(t.acquired_on) // 3
    t = t.filter(t.quarter.between(first + lag + 4, last) & (came < t.quarter - lag - 4))
    t = t.filter(t.left_on.isnull() | (gone >= t.quarter))
    by = {
        "quarter": t.quarter,
        "year": ibis.least((t.quarter - came) // 4, 10),
        "share": (as_float(t.platform) / as_float(t["all"]) * 20).round().cast("int64") / 20,
    }
    frame = grouped(bank, t, by, n=t.count(), exits=(gone == t.quarter).fill_null(False).sum())
    if frame.empty:
        return Missing("no customer is seen long enough after a year of payments", ("transactions",))
    return frame
