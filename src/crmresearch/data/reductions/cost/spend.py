"""What study 3 takes out of the engine: spend and outcome of prospects, upkeep of customers, and campaigns.

Sums are taken over *blocks* of people, drawn by a hash of their identifier, so that sampling errors can be had from a
small frame. A won prospect and the customer he became share a block. Tenure months are calendar months since the one of
winning; the first is seen in part, and counts as that part.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import BLOCKS, block_of, bounded, person
from crmresearch.data.reductions.cost.offers import GROUPS, UNKNOWN, contacts_to, group_of, one_currency, recorded
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    as_float,
    contribution_of,
    days_between,
    grouped,
    month_number,
    needs,
    tier_of,
)
from crmresearch.errors import InputError, Missing

# Data without dates come as one summary; these are the publishers' names for the same things.
SNAPSHOT = {
    "smcrm": {"won": "acquisition", "spend": "acq_exp", "retention_cost": "ret_exp", "days": "duration"},
    "smcrm-acquisition": {
        "won": "acquisition",
        "spend": "acq_expense",
        "retention_cost": "ret_expense",
        "days": "duration",
    },
}
FIRM = ("industry", "revenue", "employees")  # what the teaching data say of a firm


def period(bank: Bank) -> str:
    """Observation period in words."""
    a = bank.about
    return f"{a.observation_start:%Y-%m} to {a.observation_end:%Y-%m}" if a.dated else "not dated"


def currency(bank: Bank) -> str:
    """Currency of all amounts; one per bank, as the contract declares."""
    return bank.about.currency


def _snapshot(bank: Bank, *names: str) -> pd.DataFrame | Missing:
    return bounded(bank, "snapshot", lambda part: _summed(part, *names))


def _summed(bank: Bank, *names: str) -> pd.DataFrame | Missing:
    """Return a summary's spend, winning, upkeep and duration under our names, and its firms; numbers as double."""
    for columns in SNAPSHOT.values():
        if bank.require(*(f"snapshot.{columns[n]}" for n in names)) is None:
            t = bank.table("snapshot")
            own = {ours: as_float(t[theirs]) for ours, theirs in columns.items() if theirs in t.columns}
            own |= {"profit": as_float(t.profit)} if "profit" in t.columns else {}
            kept = t.select("customer_id", *(c for c in FIRM if c in t.columns), **own)
            frame = bank.frame(kept.order_by("customer_id"))
            return frame.assign(block=np.arange(len(frame)))
    return Missing(
        f"the bank '{bank.name}' brings neither prospects with their spend nor a summary of it",
        ("prospects", "contacts"),
    )


@needs()
def acquisition(bank: Bank) -> pd.DataFrame | Missing:
    """Spend and wins by block, channel, and segment of the won.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``segment`` (city tier, or the bank's own; missing for prospects not won), ``n``
        prospects, ``spend``, ``spend_won`` (money), ``won`` (count).
    """
    if bank.require("prospects") is None:
        one_currency(bank, "prospects")
        t = bank.table("prospects")
        t = t.mutate(block=person(bank, t))
        if bank.require("prospects.customer_id", f"customers.{tier_of(bank)}") is None:
            c = bank.table("customers")
            c = c.select(who=c.customer_id, segment=group_of(bank, c, "segment"))
            t = t.left_join(c, t.customer_id == c.who)
        else:
            t = t.mutate(segment=t.won.ifelse(UNKNOWN, None))
        spent = {"spend": t.spend.sum(), "spend_won": t.spend.sum(where=t.won).fill_null(0)}
        sums = {name: as_float(of) for name, of in {**spent, "won": t.won.cast("int64").sum()}.items()}
        return grouped(bank, t, ["block", "channel", "segment"], n=t.count(), **sums)
    s = _snapshot(bank, "won", "spend")
    if isinstance(s, Missing):
        return s
    s = s.assign(channel=UNKNOWN, segment=s["won"].map({1.0: UNKNOWN}), n=1, spend_won=s["spend"] * s["won"])
    return s[["block", "channel", "segment", "n", "spend", "spend_won", "won"]]


@needs(per="prospects")
def prospects(bank: Bank) -> pd.DataFrame | Missing:
    """One row per prospect, in compact columns.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``spend`` (money), ``won`` (0/1); ``spend_randomised`` where the bank says; the firm's
        ``industry``, ``revenue``, ``employees`` for the teaching data.
    """
    if bank.require("prospects") is None:
        one_currency(bank, "prospects")
        t = bank.table("prospects")
        own = {"block": person(bank, t), "channel": t.channel, "spend": as_float(t.spend), "won": t.won.cast("int8")}
        frame = bank.frame(t.order_by("prospect_id").select(**own, **_drawn(t)))
        return frame.assign(channel=frame["channel"].astype("category"))
    s = _snapshot(bank, "won", "spend")
    if isinstance(s, Missing):
        return s
    return s[["spend", "won", *(c for c in FIRM if c in s), "block"]].assign(channel="all")


def _drawn(t: Any) -> dict[str, Any]:
    """Whether spend was drawn by lot, where the bank says."""
    return {"spend_randomised": t.spend_randomised} if "spend_randomised" in t.columns else {}


def _exposed(bank: Bank, by: str | None) -> Any:
    """Customers with the month numbers and shares of the months in which they are at risk."""
    import ibis

    c, a = _people(bank, by), bank.about
    start, end = ibis.date(a.observation_start), ibis.date(a.observation_end)
    entry = ibis.greatest(c.observed_from, c.acquired_on, start)
    left = c.left_on.notnull() & (c.left_on <= end)
    last = left.ifelse(c.left_on, end)
    t = c.mutate(_entry=entry, _last=last, _left=left.cast("int64"))
    t = t.filter(t._last >= t._entry)
    days_entry, days_last = _month_days(t._entry), _month_days(t._last)
    return t.mutate(
        entry=month_number(t._entry) - month_number(t.acquired_on),
        last=month_number(t._last) - month_number(t.acquired_on),
        before=as_float(t._entry.day() - 1) / days_entry,  # share of the entry month before entry
        after=1 - as_float(t._last.day() - t._left) / days_last,  # share of the last month after the end
    )


def _month_days(date: Any) -> Any:
    import ibis

    first = date.truncate("M")
    return days_between((first + ibis.interval(months=1)).cast("date"), first.cast("date"))


@needs()
def upkeep(bank: Bank, *, by: str | None = None) -> pd.DataFrame | Missing:
    """Exposure, exits and money by block and tenure month, of all customers or by group.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``.
    by : {'channel', 'segment'}, optional
        Group of customers: how they were won, or their city tier (or segment of the bank's own).

    Returns
    -------
    DataFrame
        ``block``, ``tenure_month``, ``months`` at risk, ``years``, ``exits``, ``entered`` (customers whose exposure
        starts there), ``retention_cost``; by group, the group's name; of all customers, with ``monthly``, also
        ``revenue`` (contribution before service costs), ``service_cost`` (as far as it counts), ``contribution``
        (money), and of each the sum of the sizes of its amounts (``gross_...``). For data without dates one row per
        customer: ``block``, ``years``, ``customers``, ``exits``, ``retention_cost``.

    Notes
    -----
    Customers enter at their tenure when observation starts. Exposure is counted from first and last days, so that no
    customer-month rows are made.
    """
    if by is not None and by not in GROUPS:
        raise InputError(f"by = {by!r}: group by {' or '.join(GROUPS)}")
    missing = bank.require("customers", "contacts", *(() if by is None else (f"customers.{recorded(bank, by)}",)))
    if missing is not None:
        return missing if by else _upkeep_summary(bank, missing)
    one_currency(bank, "contacts")
    makers = {"first": _first_months, "last": _last_months, "spend": _spend_by_month}
    if by is None and bank.require("monthly.contribution") is None:
        makers["money"] = _money_by_month
    frames = [bank.compiled(("upkeep", n, by), functools.partial(make, bank, by)) for n, make in makers.items()]
    if by is None:
        return _by_tenure(*frames)
    names = sorted(set(frames[0]["of"]))
    parts = [_by_tenure(*(f[f["of"] == name] for f in frames)).assign(**{by: name}) for name in names]
    return pd.concat(parts, ignore_index=True)


def _by_tenure(first: pd.DataFrame, last: pd.DataFrame, *money: pd.DataFrame) -> pd.DataFrame:
    """Months at risk from first and last months, with exits and money, by block and tenure month."""
    length = 1 + max(int(f["month"].max()) for f in (first, last, *money) if len(f))

    def matrix(frame: pd.DataFrame, column: str) -> Any:
        out = np.zeros((BLOCKS, length))
        out[frame["block"].to_numpy(int), frame["month"].to_numpy(int)] = frame[column].to_numpy(float)
        return out

    entered, ended = matrix(first, "entered"), matrix(last, "ended")
    present = entered.cumsum(axis=1) - np.pad(ended.cumsum(axis=1), ((0, 0), (1, 0)))[:, :-1]
    months = np.clip(present - matrix(first, "before") - matrix(last, "after"), 0, None)
    block, month = np.divmod(np.arange(BLOCKS * length), length)
    out = pd.DataFrame(
        {
            "block": block.astype("int32"),
            "tenure_month": month.astype("int32"),
            "months": months.ravel(),
            "years": months.ravel() / 12,
            "exits": matrix(last, "exits").ravel(),
            "entered": entered.ravel(),
            "retention_cost": matrix(money[0], "retention_cost").ravel(),
        }
    )
    if len(money) > 1:
        kinds = ("revenue", "service_cost")
        gross = [f"gross_{n}" for n in (*kinds, "contribution")]
        out = out.assign(**{n: matrix(money[1], n).ravel() for n in (*kinds, *gross)})
        out["contribution"] = out["revenue"] - out["service_cost"]
    return out[(out["months"] > 0) | (out["exits"] > 0) | (out["retention_cost"] > 0)].reset_index(drop=True)


def _people(bank: Bank, by: str | None) -> Any:
    """Customers with their block and, where they are asked for by group, their group ``of``."""
    c = bank.table("customers")
    return c.mutate(
        block=block_of(c.customer_id, bank.pseudonymous), **({} if by is None else {"of": group_of(bank, c, by)})
    )


def _sums(t: Any, by: str | None, month: Any, **sums: Any) -> Any:
    """Sums by block, group and tenure month, ordered."""
    keys = ["block"] if by is None else ["block", "of"]
    return t.group_by(*keys, month=month).aggregate(**sums).order_by(*keys, "month")


def _first_months(bank: Bank, by: str | None) -> Any:
    e = _exposed(bank, by)
    return _sums(e, by, e.entry, entered=e.count(), before=e.before.sum())


def _last_months(bank: Bank, by: str | None) -> Any:
    e = _exposed(bank, by)
    return _sums(e, by, e["last"], ended=e.count(), after=e.after.sum(), exits=e._left.sum())


def _spend_by_month(bank: Bank, by: str | None) -> Any:
    t = contacts_to(bank)
    return _by_month(bank, t.select("customer_id", at=t.contacted_on, retention_cost=t.cost), by)


def _money_by_month(bank: Bank, by: str | None) -> Any:
    import ibis

    m = bank.table("monthly")
    counted = "-service_cost" in bank.about.contribution
    revenue = contribution_of(bank, m, without="service_cost" if counted else "")
    service = m.service_cost if counted else ibis.literal(0)
    kinds = {"revenue": revenue, "service_cost": service}
    gross = {f"gross_{n}": of.abs() for n, of in (kinds | {"contribution": revenue - service}).items()}
    return _by_month(bank, m.select("customer_id", at=m.month, **kinds, **gross), by)


def _by_month(bank: Bank, t: Any, by: str | None) -> Any:
    """Sum money by block and tenure month; before the month of winning counts as that month."""
    c = _people(bank, by)
    kept = ["block"] if by is None else ["block", "of"]
    j = t.join(c.select("customer_id", *kept, won_in=month_number(c.acquired_on)), "customer_id")
    sums = {n: as_float(j[n].sum()) for n in t.columns if n not in ("customer_id", "at")}
    return _sums(j, by, (month_number(j["at"]) - j.won_in).clip(lower=0), **sums)


def _upkeep_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Summary of the won: durations from ``spells`` with their censoring if there are any, else complete."""
    spells = bank.require("spells.event") is None
    f = _snapshot(bank, "won", "retention_cost", *(() if spells else ("days",)))
    if isinstance(f, Missing):
        return missing
    if spells:
        s = bank.table("spells")
        known = s.select("customer_id", years=as_float(s.exit_months) / 12, exits=s.event.cast("int64"))
        f = f.merge(bank.frame(known), on="customer_id", how="left")
    else:
        f = f.assign(years=f["days"] / DAYS_PER_YEAR, exits=1)
    won = f[f["won"] == 1].assign(customers=1)
    return won[["block", "years", "customers", "exits", "retention_cost"]].reset_index(drop=True)


@needs(per="prospects")
def joint(bank: Bank) -> pd.DataFrame | Missing:
    """Prospects with what became of the won: duration and profit.

    Returns
    -------
    DataFrame
        ``block``, ``won``, ``spend`` (hundreds of the currency), ``spend_squared``, ``year`` of first contact (from the
        start), one 0/1 column ``channel_...`` per channel but the first; of the won ``log_months`` (at least one day),
        ``ended`` (0/1), ``profit`` (contribution per month as a customer); ``spend_randomised`` where the bank says.
    """
    missing = bank.require("prospects.customer_id", "customers", "monthly.contribution")
    if missing is not None:
        return _joint_summary(bank, missing)
    import ibis

    t, c, m = bank.table("prospects"), bank.table("customers"), bank.table("monthly")
    end = ibis.date(bank.about.observation_end)
    left = c.left_on.notnull() & (c.left_on <= end)
    c = c.select(
        who=c.customer_id, ended=left.cast("int8"),
        days=days_between(left.ifelse(c.left_on, end), c.acquired_on).clip(lower=1.0),
    )  # fmt: skip
    m = m.group_by(owner=m.customer_id).aggregate(money=as_float(contribution_of(bank, m).sum()))
    j = t.left_join(c, t.customer_id == c.who)
    j = j.left_join(m, j.who == m.owner)
    start = ibis.date(bank.about.observation_start)
    frame = bank.frame(
        j.order_by("prospect_id").select(
            block=person(bank, j),
            channel=j.channel,
            won=j.won.cast("int8"),
            spend=as_float(j.spend) / 100,
            year=days_between(j.first_contact_on, start) / DAYS_PER_YEAR,
            log_months=(j.days / DAYS_PER_MONTH).ln(),
            ended=as_float(j.ended),
            profit=j.money.fill_null(0.0) / (j.days / DAYS_PER_MONTH),
            **_drawn(j),
        )
    )
    frame["spend_squared"] = frame["spend"] ** 2
    for name in sorted(frame["channel"].unique())[1:]:
        frame[f"channel_{name}"] = (frame["channel"] == name).astype(float)
    # a won prospect without a customer row (lost from the extract) has no duration
    return frame[(frame["won"] == 0) | frame["log_months"].notna()].drop(columns="channel").reset_index(drop=True)


def _joint_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Durations and profit of a summary; taken as complete, since it does not say otherwise."""
    s = _snapshot(bank, "won", "spend", "days")
    if isinstance(s, Missing) or bank.require("snapshot.profit") is not None or bank.require("spells") is None:
        return missing
    spend, months = s["spend"] / 100, (s["days"] / DAYS_PER_MONTH).where(s["won"] == 1)
    s = s.assign(log_months=np.log(months), ended=months.notna().astype(float).where(months.notna()))
    s = s.assign(spend=spend, spend_squared=spend**2, profit=s["profit"] / months)
    firm = [c for c in FIRM if c in s]
    return s[["block", "won", "spend", "spend_squared", *firm, "log_months", "ended", "profit"]]


@needs("snapshot.contacts", "snapshot.poutcome", "snapshot.sold")
def contacts_per_sale(bank: Bank) -> pd.DataFrame | Missing:
    """Contacts and sales of a telephone campaign by the outcome of an earlier one (no money, no customer ids).

    Returns
    -------
    DataFrame
        ``group`` (``new``: never approached before; ``won before``; ``refused before``), ``n`` people, ``contacts``,
        ``sold``, and the sums of squares and products ``contacts2``, ``contacts_sold`` that errors need.
    """
    t = bank.table("snapshot")
    names = {"nonexistent": "new", "success": "won before", "failure": "refused before"}
    t = t.select(group=t.poutcome.substitute(names), calls=t.contacts.cast("int64"), sold=t.sold.cast("int64"))
    terms = {"contacts": t.calls, "sold": t.sold, "contacts2": t.calls * t.calls, "contacts_sold": t.calls * t.sold}
    return grouped(bank, t, ["group"], n=t.count(), **{name: as_float(of.sum()) for name, of in terms.items()})
