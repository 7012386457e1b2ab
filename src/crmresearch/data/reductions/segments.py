"""What the segments of notebook 05 take out of the engine: what customers did, and earned; companies by year."""

from __future__ import annotations

import datetime

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    as_float,
    beside,
    contribution_of,
    days_between,
    first_of_month,
    month_number,
    needs,
    open_before,
    open_on,
    whole_months,
)
from crmresearch.errors import Missing

YEAR = 12


@needs("customers.left_on", "monthly.contribution", "transactions", per="customers")
def behaviour(bank: Bank) -> pd.DataFrame | Missing:
    """One row per customer at a date a year before the months end: what was seen before it, what was earned after it.

    Parameters
    ----------
    bank : Bank
        ``holdings`` and ``service`` add the columns they can.

    Returns
    -------
    DataFrame
        ``customer_id``; ``contribution`` of the year after (0 of months after an exit); of the year before: ``money``
        (contribution), ``frequency`` (transactions), ``recency`` (months since the last transaction, 12 at most); of
        everything seen before: ``payments`` (transactions a month) and, where the tables are there, ``families``
        (product families held at the date) and ``visits`` (service events a month). Customers there at the date who
        had been seen for a year.
    """
    import ibis

    first, last = whole_months(bank)
    m = bank.table("monthly")
    ends = bank.frame(m.aggregate(first=month_number(m.month).min(), last=month_number(m.month).max())).iloc[0]
    first, last = max(ends["first"], first), min(ends["last"], last)  # months without rows are not told; NaN stays
    cut = last - YEAR + 1
    if not cut - YEAR >= first:
        return Missing("two observed years are needed", ("monthly",))
    on, since, before = (first_of_month(k) for k in (cut, first, cut - YEAR))
    day = ibis.date(on)
    c, m, t = (bank.table(name) for name in ("customers", "monthly", "transactions"))
    there = (c.observed_from <= ibis.date(before)) & (c.left_on.isnull() | (c.left_on >= day))
    seen = ibis.greatest(c.observed_from, ibis.date(since))
    out = c.filter(there).select("customer_id", months=days_between(day, seen) / DAYS_PER_MONTH)
    money, past = contribution_of(bank, m), (m.month >= ibis.date(before)) & (m.month < day)
    value = m.group_by("customer_id").aggregate(
        contribution=as_float(money.sum(where=m.month.between(day, ibis.date(first_of_month(last))))),
        money=as_float(money.sum(where=past)),
    )
    t = t.filter((t.occurred_on < day) & (t.occurred_on >= ibis.date(since)))
    recent = t.occurred_on >= ibis.date(before)
    paid = t.group_by("customer_id").aggregate(
        recency=days_between(day, t.occurred_on.max()) / DAYS_PER_MONTH,
        frequency=as_float(recent.sum()),
        payments=as_float(t.count()),
    )
    parts = [value, paid]
    if "holdings" in bank.tables:
        h = bank.table("holdings")
        held = h.filter(open_before(h, day)).group_by("customer_id")
        parts.append(held.aggregate(families=lambda t: as_float(t.product_family.nunique())))
    if "service" in bank.tables:
        s = bank.table("service")
        s = s.filter((s.occurred_on >= ibis.date(since)) & (s.occurred_on < day))
        parts.append(s.group_by("customer_id").aggregate(visits=as_float(s.count())))
    for part in parts:
        names = [n for n in part.columns if n != "customer_id"]
        out = beside(out, part, "customer_id")
        out = out.mutate(**{n: out[n].fill_null(float(YEAR) if n == "recency" else 0.0) for n in names})
    frame = bank.frame(out.mutate(recency=ibis.least(out.recency, float(YEAR))).order_by("customer_id"))
    rates = {n: frame[n] / frame["months"] for n in ("payments", "visits") if n in frame}
    return frame.assign(**rates).drop(columns="months")


@needs("customers.customer_type", "customers.left_on", "holdings")
def companies(bank: Bank, *, family: str = "ecommerce") -> pd.DataFrame | Missing:
    """Corporate customers at the end of each year, and how many of them hold products of one family.

    Returns
    -------
    DataFrame
        ``year``, ``n``, ``with_it``; whole years, and the last day of the observation.
    """
    import ibis

    start, end = bank.about.observation_start, bank.about.observation_end
    days = [datetime.date(y, 12, 31) for y in range(start.year, end.year) if datetime.date(y, 12, 31) >= start]
    c, h = bank.table("customers"), bank.table("holdings")
    if not bank.scalar(h.filter(h.product_family == family).count()):  # of a bank that calls them otherwise it were 0%
        remedy = "recode product_family in bank.yaml"
        return Missing(f"no product is of the family {family}; {remedy}", ("holdings",))
    rows = []
    for on in [*days, end]:
        day = ibis.date(on)
        here = c.filter((c.observed_from <= day) & (c.left_on.isnull() | (c.left_on > day)))
        here = here.filter(here.customer_type == "corporate")
        held = h.filter(open_on(h, day) & (h.product_family == family))
        one = here.aggregate(n=here.count())
        two = here.semi_join(held, "customer_id").aggregate(n=lambda t: t.count())
        rows.append((on.year, int(bank.scalar(one.n.sum())), int(bank.scalar(two.n.sum()))))
    frame = pd.DataFrame(rows, columns=["year", "n", "with_it"])
    if not frame["n"].sum():
        return Missing(f"the bank '{bank.name}' has no corporate customer", ("customers",))
    return frame
