"""What notebook 07 takes out of the engine: months before exits, stays after a mobile payment, failed payments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import block_of
from crmresearch.data.reductions.expressions import (
    MOBILE,
    as_float,
    called,
    contribution_of,
    day_after,
    first_of_month,
    grouped,
    month_number,
    needs,
    tier_of,
    whole_months,
)
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis

QUARTER, YEAR = 3, 12
FAILED = ("failed", "rejected", "declined", "returned")  # states of a transaction that did not go through
EACH = 10  # months without an exit that stand for all, for every one with an exit
BLOCKS, FOLDS = 1000, 50
BASE = (-6, -4)  # months before a first mobile payment that later ones are held against
BEFORE, AFTER = 12, 24  # months around it


@needs("customers.left_on", "monthly.lookups", "monthly.lookups_last_week")
def snapshots(bank: Bank) -> pd.DataFrame | Missing:
    """Months of customers who are there at their end, and whether the next month sees an exit of their own choice.

    All months before an exit, and of the others so many that there are ten for one, drawn by customer and month.

    Returns
    -------
    DataFrame
        ``customer`` (a number), ``month``, ``exit`` (0/1), ``balance``, ``lookups``, ``last_week``; of the month
        before, ``balance_before`` and ``lookups_before`` (missing where it is not seen whole); ``tenure`` in months.
    """
    import ibis

    first, last = whole_months(bank)
    m, c = bank.table("monthly"), bank.table("customers")
    m = m.select("customer_id", "balance", "lookups", "lookups_last_week", number=month_number(m.month))
    m = m.filter(m.number.between(first, last) & m.lookups.notnull() & m.lookups_last_week.notnull())
    who = ibis.window(group_by="customer_id", order_by="number")
    lag = (m.number - m.number.lag().over(who)) == 1
    m = m.mutate(balance_before=lag.ifelse(m.balance.lag().over(who), None), lookups_before=m.lookups.lag().over(who))
    t = m.inner_join(c, "customer_id")
    seen, gone = month_number(t.observed_from) + (t.observed_from.day() > 1).cast("int32"), month_number(t.left_on)
    t = t.filter((seen <= t.number) & (t.number < last) & (t.left_on.isnull() | (gone > t.number)))
    leaves = ((gone == t.number + 1) & (t.exit_cause == "voluntary")).fill_null(False)
    lot = (block_of(t.customer_id, bank.pseudonymous) + 389 * t.number) % BLOCKS
    t = t.mutate(leaves=leaves, lot=lot)
    counted = bank.frame(t.aggregate(exits=t.leaves.sum(), n=t.count()))
    exits, n = (int(counted[k].fillna(0).iloc[0]) for k in ("exits", "n"))
    if exits == 0:
        return Missing(f"nobody leaves the bank '{bank.name}' after a month with look-ups told", ("monthly",))
    t = t.filter(t.leaves | (t.lot < max(1, round(BLOCKS * EACH * exits / max(n - exits, 1)))))
    frame = bank.frame(
        t.select(
            customer=t.customer_id,
            month=t.number,
            exit=t.leaves.cast("int8"),
            balance=as_float(t.balance),
            lookups=as_float(t.lookups),
            last_week=as_float(t.lookups_last_week),
            balance_before=as_float(t.balance_before),
            lookups_before=as_float(t.lookups_before),
            tenure=as_float(t.number + 1 - month_number(t.acquired_on)),
        ).order_by("customer", "month")
    )
    return frame.assign(customer=pd.factorize(frame["customer"])[0])


# --- after the first mobile payment -----------------------------------------------------------------------------------


def _quarters(bank: Bank) -> tuple[int, int]:
    """First and last quarter (since the year 0) of which every transaction is seen."""
    first, last = bank.period("transactions")
    month = month_number(first) + (first.day > 1)
    return -(-month // QUARTER), min(month_number(day_after(bank)), month_number(last) + 1) // QUARTER - 1


def _stays(bank: Bank, t: ibis.Table, first: int, last: int) -> ibis.Table:
    """One row for each quarter that a customer is there to see begin, with whether he or she leaves in it, and how."""
    import ibis

    month = month_number(t.observed_from) + (t.observed_from.day() > 1).cast("int32")
    begins = ibis.greatest((month + QUARTER - 1) // QUARTER, first)
    gone = month_number(t.left_on) // QUARTER
    ends = ibis.least(gone.fill_null(last), last)
    t = t.mutate(begins=begins, ends=ends, gone=gone).filter(lambda t: t.begins <= t.ends)
    t = t.mutate(quarter=ibis.range(t.begins, t.ends + 1).unnest())
    leaves = (t.gone == t.quarter).fill_null(False)
    chosen, died = (leaves & (t.exit_cause == cause) for cause in ("voluntary", "death"))
    return t.mutate(exits=chosen.cast("int8"), deaths=died.cast("int8"))


def _first_payment(t: ibis.Table) -> ibis.Table:
    """Month in which each customer's first mobile payment was made, missing where none was."""
    mobile = called(t.channel, MOBILE)
    return t.group_by("customer_id").aggregate(mobile=month_number(t.occurred_on).min(where=mobile))


@needs("customers.left_on", "transactions.channel")
def adoption(bank: Bank, *, lag: int = 1) -> pd.DataFrame | Missing:
    """Customers at risk, exits and deaths by quarter, and by how long ago the first mobile payment was made.

    Everything is read so many quarters earlier: an account that is being emptied makes no first payment. Customers who
    paid nothing in the year before are left out: they could not be seen to adopt. Follow-up begins after that year, so
    that those who adopted before the bank's transactions begin have been seen to pay by telephone.

    Returns
    -------
    DataFrame
        ``quarter``, ``tenure`` (quarters up to 8, then years), ``age`` (bands of five years; missing where the bank
        tells none), ``tier``, ``channel`` of acquisition, ``state`` (never; later: not yet; before: a customer from
        before the transactions begin who paid so in their first year; else recent, year, long: by how many quarters ago
        the payment was, more than the lag, up to three more, up to seven more, or longer), ``n`` there when the quarter
        begins, ``exits`` of their own choice and ``deaths`` in it.
    """
    import ibis

    first, last = _quarters(bank)
    t = bank.table("transactions")
    if bank.scalar(called(t.channel, MOBILE).sum().fill_null(0)) == 0:
        remedy = "recode that of payments by telephone in bank.yaml"
        return Missing(f"no transaction has a channel named {' or '.join(MOBILE)}; {remedy}", ("transactions",))
    paid = t.group_by("customer_id", paid_in=month_number(t.occurred_on) // QUARTER).aggregate()
    paid = paid.mutate(ahead=ibis.array([ibis.literal(lag + k, "int32") for k in range(1, 5)]).unnest())
    paid = paid.select("customer_id", quarter=paid.paid_in + paid.ahead).distinct()
    c = bank.table("customers").left_join(_first_payment(t), "customer_id").drop("customer_id_right")
    s = _stays(bank, c, first + lag + 4, last).inner_join(paid, ["customer_id", "quarter"])
    came, begun = month_number(s.acquired_on) // QUARTER, s.mobile // QUARTER
    since, tenure = s.quarter - begun, s.quarter - came
    early = (begun < first + 4) & (came < first)
    state = ibis.cases(
        (s.mobile.isnull(), "never"), (since <= lag, "later"), (early, "before"),
        (since <= lag + 3, "recent"), (since <= lag + 7, "year"), else_="long",
    )  # fmt: skip
    tier = tier_of(bank)
    told = {k: bank.require(f"customers.{k}") is None for k in ("birth_year", tier, "acquisition_channel")}
    text = ibis.null("string")
    age = (s.quarter // 4 - s.birth_year) // 5 * 5 if told["birth_year"] else ibis.null("int64")
    by = {
        "quarter": s.quarter,
        "tenure": (tenure < 8).ifelse(tenure, ibis.least(6 + tenure // 4, 18)),
        "age": age.clip(15, 90),
        "tier": s[tier].cast("string") if told[tier] else text,
        "channel": s.acquisition_channel if told["acquisition_channel"] else text,
        "state": state,
    }
    frame = grouped(bank, s, by, n=s.count(), exits=s.exits.sum(), deaths=s.deaths.sum())
    return Missing("no customer is followed after a year of transactions", ("transactions",)) if frame.empty else frame


@needs("monthly.contribution", "customers", "transactions.channel")
def contribution(bank: Bank) -> pd.DataFrame | Missing:
    """Contribution around a first mobile payment, and around the same months of customers who had made none by then.

    Every customer is compared at a date in each year, a month of their own, for as long as no payment of that kind is
    made. Who counts is there in the three months of the base and at the date.

    Returns
    -------
    DataFrame
        ``fold`` of customers, ``date`` (month), ``adopts`` (whether the first payment falls in it), ``since`` (months
        after the date), ``n`` customers, sums of contribution ``made``, of its ``squares`` and sizes ``gross``, and
        of its ``change`` against the base; ``there``: all who are still there, those who have come to pay by telephone
        since among them, and the sum of their ``base``.
    """
    import ibis

    first, last = whole_months(bank)
    earliest, latest = first - BASE[0], last - YEAR + 1
    if earliest > latest:
        return Missing("a year and a half is needed around a first mobile payment", ("monthly",))
    m, t = bank.table("monthly"), bank.table("transactions")
    m = m.select("customer_id", month=month_number(m.month), made=as_float(contribution_of(bank, m)))
    m = m.filter(m.month.between(first, last) & m.made.notnull())
    c = bank.table("customers").left_join(_first_payment(t), "customer_id").drop("customer_id_right")
    c = c.select("customer_id", "mobile", block=block_of(c.customer_id, bank.pseudonymous))
    own = earliest + (c.block - earliest + 12 * BLOCKS) % YEAR
    never = c.mutate(date=ibis.range(own, latest + 1, YEAR).unnest(), adopts=ibis.literal(False))
    never = never.filter(never.mobile.isnull() | (never.mobile > never.date))
    adopts = c.filter(c.mobile.between(earliest, latest)).mutate(date=c.mobile.cast("int64"), adopts=ibis.literal(True))
    columns = ["customer_id", "mobile", "block", "date", "adopts"]
    rows = never.select(columns[:3], date=never.date.cast("int64"), adopts=never.adopts).union(adopts.select(columns))
    j = rows.inner_join(m, "customer_id")
    j = j.mutate(since=j.month - j.date).filter(lambda j: j.since.between(-BEFORE, AFTER - 1))
    base = j.since.between(*BASE)
    held = {"base": j.made.mean(where=base), "held": base.sum(), "there": (j.since == 0).any()}
    k = j.group_by("customer_id", "date").aggregate(**held)
    k = k.filter((k.held == BASE[1] - BASE[0] + 1) & k.there).select("customer_id", "date", "base")
    j = j.inner_join(k, ["customer_id", "date"])
    free = j.adopts | j.mobile.isnull() | (j.month < j.mobile)
    by = {"fold": j.block % FOLDS, "date": j.date, "adopts": j.adopts, "since": j.since}
    sums = {"change": (j.made - j.base).sum(where=free), "made": j.made.sum(where=free)}
    sums |= {"squares": (j.made * j.made).sum(where=free), "gross": j.made.abs().sum(where=free), "base": j.base.sum()}
    frame = grouped(bank, j, by, n=free.sum(), there=j.count(), **sums).fillna(0)
    return frame if len(frame) else Missing("no customer is followed around a first mobile payment", ("monthly",))


# --- digital help -----------------------------------------------------------------------------------------------------


@needs("branches.help_from", "customers.branch_id", "customers.birth_year", "customers.left_on", "transactions.status")
def helped(bank: Bank, *, older_from: int = 55) -> pd.DataFrame | Missing:
    """Transactions, those that failed, stays and exits by branch, quarter, age and failures in the first year.

    Parameters
    ----------
    bank : Bank
    older_from : int
        Age at the start of the observation from which customers count as older.

    Returns
    -------
    DataFrame
        ``branch`` (a number), ``quarter``, ``helped`` (quarter in which it began to help; minus infinity where before
        the first one seen, infinity where never), ``older``, ``failing`` (whether a transaction failed in the first
        year seen), ``transactions``, ``failed``, ``at_risk``, ``exits``; ``people``: customers of that branch, age and
        failing who made a transaction in any quarter.
    """
    import ibis

    first, last = _quarters(bank)
    b = bank.table("branches")
    b = b.select(
        "branch_id", branch=ibis.dense_rank().over(ibis.window(order_by="branch_id")), helped=month_number(b.help_from)
    )
    c = bank.table("customers").inner_join(b, "branch_id")
    c = c.filter(c.birth_year.notnull())
    c = c.mutate(older=c.birth_year <= bank.about.observation_start.year - older_from)
    t = bank.table("transactions")
    t = t.mutate(fails=t.status.lower().isin(FAILED).fill_null(False), quarter=month_number(t.occurred_on) // QUARTER)
    if not bank.scalar(t.fails.any().fill_null(False)):
        return Missing(f"no transaction has a status that says it failed ({', '.join(FAILED)})", ("transactions",))
    t = t.filter(t.quarter.between(first, last))
    year = first_of_month((first + 4) * QUARTER)
    early = t.filter(t.fails & (t.occurred_on < year)).select(who="customer_id").distinct()
    c = c.left_join(early, c.customer_id == early.who).mutate(failing=lambda c: c.who.notnull())
    by: dict[str, Any] = {k: k for k in ("branch", "quarter", "older", "failing")}
    paid = t.inner_join(c.select("customer_id", "branch", "older", "failing"), "customer_id")
    groups = [k for k in by if k != "quarter"]
    people = grouped(bank, paid, groups, people=paid.customer_id.nunique())
    paid = grouped(bank, paid, list(by), transactions=paid.count(), failed=paid.fails.sum())
    s = _stays(bank, c, first, last)
    stays = grouped(bank, s, list(by), at_risk=s.count(), exits=s.exits.sum())
    when = bank.frame(b.select("branch", helped=as_float(b.helped)).order_by("branch"))
    out = paid.merge(stays, on=list(by), how="outer").merge(people, on=groups, how="left").fillna(0)
    out = out.merge(when, on="branch")
    quarter = (out["helped"] // QUARTER).fillna(float("inf"))
    return out.assign(helped=quarter.where(quarter >= first, float("-inf")))
