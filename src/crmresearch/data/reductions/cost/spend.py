"""What study 3 takes out of the engine: spend and outcome of prospects, upkeep of customers, and campaigns.

Sums are taken over *blocks* of people, drawn by a hash of their identifier, so that sampling errors can be had from a
small frame. A won prospect and the customer he became share a block. Tenure months are calendar months since the one of
winning; the first is seen in part, and counts as that part.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.cost.offers import GROUPS, UNKNOWN, group_of, one_currency, retention_costs
from crmresearch.data.reductions.expressions import (
    BLOCKS,
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    as_float,
    block_of,
    contribution_of,
    days_between,
    month_number,
    needs,
)
from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis


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


def period(bank: Bank) -> str:
    """Observation period in words."""
    a = bank.about
    return f"{a.observation_start:%Y-%m} to {a.observation_end:%Y-%m}" if a.dated else "not dated"


def currency(bank: Bank) -> str:
    """Currency of all amounts; one per bank, as the contract declares."""
    return bank.about.currency


def _snapshot(bank: Bank, *names: str) -> dict[str, str] | Missing:
    """Find the columns of a summary that stand for spend, winning, upkeep and duration."""
    for columns in SNAPSHOT.values():
        if bank.require(*(f"snapshot.{columns[n]}" for n in names)) is None:
            return columns
    return Missing(
        f"the bank '{bank.name}' brings neither prospects with their spend nor a summary of it",
        ("prospects", "contacts"),
    )


def _person(t: Any) -> Any:
    """Block of a prospect: that of the customer he became."""
    return block_of(t.customer_id.fill_null(t.prospect_id) if "customer_id" in t.columns else t.prospect_id)


def acquisition(bank: Bank) -> pd.DataFrame | Missing:
    """Spend and wins by block, channel, and segment of the won.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``segment`` (city tier; missing for prospects not won), ``n`` prospects, ``spend``,
        ``spend_won`` (money), ``won`` (count).
    """
    if bank.require("prospects") is None:
        one_currency(bank, "prospects")
        t = bank.table("prospects")
        t = t.mutate(block=_person(t))
        if bank.require("prospects.customer_id", "customers.city_tier") is None:
            c = bank.table("customers")
            c = c.select(who=c.customer_id, segment=group_of(c, "segment"))
            t = t.left_join(c, t.customer_id == c.who)
        else:
            t = t.mutate(segment=t.won.ifelse(UNKNOWN, None))
        return bank.frame(
            t.group_by("block", "channel", "segment")
            .aggregate(
                n=t.count(),
                spend=as_float(t.spend.sum()),
                spend_won=as_float(t.spend.sum(where=t.won).fill_null(0)),
                won=as_float(t.won.cast("int64").sum()),
            )
            .order_by("block", "channel", "segment")
        )
    names = _snapshot(bank, "won", "spend")
    if isinstance(names, Missing):
        return names
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    return pd.DataFrame(
        {
            "block": np.arange(len(s)),
            "channel": UNKNOWN,
            "segment": s["won"].map({1.0: UNKNOWN}),
            "n": 1,
            "spend": s["spend"],
            "spend_won": s["spend"] * s["won"],
            "won": s["won"],
        }
    )


def _plain(bank: Bank, names: dict[str, str]) -> ibis.Table:
    """Summary rows under our names; numbers as double."""
    t = bank.table("snapshot")
    own = {ours: as_float(t[theirs]) for ours, theirs in names.items() if theirs in t.columns}
    rest = [c for c in ("industry", "revenue", "employees") if c in t.columns]
    extra = {c: as_float(t[c]) for c in ("freq", "crossbuy", "sow", "profit", "frequency") if c in t.columns}
    return t.select("customer_id", *rest, **own, **extra)


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
        more = {"spend_randomised": t.spend_randomised} if "spend_randomised" in t.columns else {}
        frame = bank.frame(
            t.select(
                block=_person(t),
                channel=t.channel,
                spend=as_float(t.spend),
                won=t.won.cast("int8"),
                id=t.prospect_id,
                **more,
            )
            .order_by("id")
            .drop("id")
        )
        return frame.assign(channel=frame["channel"].astype("category"))
    names = _snapshot(bank, "won", "spend")
    if isinstance(names, Missing):
        return names
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    keep = [c for c in ("spend", "won", "industry", "revenue", "employees") if c in s]
    return s[keep].assign(block=np.arange(len(s)), channel="all")


def _exposed(bank: Bank, c: Any) -> Any:
    """Customers with the month numbers and shares of the months in which they are at risk."""
    import ibis

    a = bank.about
    start, end = ibis.date(a.observation_start), ibis.date(a.observation_end)
    entry = ibis.greatest(c.observed_from, c.acquired_on, start)
    left = c.left_on.notnull() & (c.left_on <= end)
    last = left.ifelse(c.left_on, end)
    t = c.mutate(_entry=entry, _last=last, _left=left.cast("int64"))
    t = t.filter(t._last >= t._entry)
    days_entry, days_last = _month_days(t._entry), _month_days(t._last)
    return t.mutate(
        block=block_of(t.customer_id),
        entry=month_number(t._entry) - month_number(t.acquired_on),
        last=month_number(t._last) - month_number(t.acquired_on),
        before=as_float(t._entry.day() - 1) / days_entry,  # share of the entry month before entry
        after=1 - as_float(t._last.day() - t._left) / days_last,  # share of the last month after the end
    )


def _month_days(date: Any) -> Any:
    import ibis

    first = date.truncate("M")
    return days_between((first + ibis.interval(months=1)).cast("date"), first.cast("date"))


def upkeep(bank: Bank, *, by: str | None = None) -> pd.DataFrame | Missing:
    """Exposure, exits and money by block and tenure month, of all customers or by group.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``.
    by : {'channel', 'segment'}, optional
        Group of customers: how they were won, or their city tier.

    Returns
    -------
    DataFrame
        ``block``, ``tenure_month``, ``months`` at risk, ``years``, ``exits``, ``entered`` (customers whose exposure
        starts there), ``retention_cost``; by group, the group's name; of all customers, with ``monthly``, also
        ``revenue`` (interest + fees - risk), ``service_cost``, ``contribution`` (money). For data without dates one
        row per customer: ``block``, ``years``, ``customers``, ``exits``, ``retention_cost``.

    Notes
    -----
    Customers enter at their tenure when observation starts. Exposure is counted from first and last days, so that no
    customer-month rows are made.
    """
    if by is not None and by not in GROUPS:
        raise InputError(f"by = {by!r}: group by {' or '.join(GROUPS)}")
    missing = bank.require("customers", "contacts", *(() if by is None else (f"customers.{GROUPS[by]}",)))
    if missing is not None:
        return missing if by else _upkeep_summary(bank, missing)
    one_currency(bank, "contacts")
    makers = {"first": _first_months, "last": _last_months, "spend": _spend_by_month}
    if by is None and bank.require("monthly") is None:
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
        out["revenue"], out["service_cost"] = (matrix(money[1], n).ravel() for n in ("revenue", "service_cost"))
        out["contribution"] = out["revenue"] - out["service_cost"]
    return out[(out["months"] > 0) | (out["exits"] > 0) | (out["retention_cost"] > 0)].reset_index(drop=True)


def _keys(by: str | None) -> list[str]:
    return ["block"] if by is None else ["block", "of"]


def _groups(c: Any, by: str | None) -> dict[str, Any]:
    return {} if by is None else {"of": group_of(c, by)}


def _customers_exposed(bank: Bank, by: str | None) -> Any:
    c = bank.table("customers")
    return _exposed(bank, c.select("customer_id", "acquired_on", "observed_from", "left_on", **_groups(c, by)))


def _first_months(bank: Bank, by: str | None) -> Any:
    e = _customers_exposed(bank, by)
    keys = _keys(by)
    sums = e.group_by(*keys, month=e.entry).aggregate(entered=e.count(), before=e.before.sum())
    return sums.order_by(*keys, "month")


def _last_months(bank: Bank, by: str | None) -> Any:
    e = _customers_exposed(bank, by)
    keys = _keys(by)
    sums = e.group_by(*keys, month=e["last"]).aggregate(ended=e.count(), after=e.after.sum(), exits=e._left.sum())
    return sums.order_by(*keys, "month")


def _spend_by_month(bank: Bank, by: str | None) -> Any:
    t = retention_costs(bank)
    return _by_month(bank, t.select("customer_id", at=t.contacted_on, retention_cost=t.cost), by)


def _money_by_month(bank: Bank, by: str | None) -> Any:
    m = bank.table("monthly")
    revenue = m.net_interest + m.fees - m.risk_cost
    return _by_month(bank, m.select("customer_id", at=m.month, revenue=revenue, service_cost=m.service_cost), by)


def _by_month(bank: Bank, t: Any, by: str | None) -> Any:
    """Sum money by block and tenure month; before the month of winning counts as that month."""
    c = bank.table("customers")
    keys = _keys(by)
    # once, not by row of t
    c = c.select("customer_id", block=block_of(c.customer_id), won=month_number(c.acquired_on), **_groups(c, by))
    j = t.join(c, "customer_id")
    sums = {n: as_float(j[n].sum()) for n in t.columns if n not in ("customer_id", "at")}
    month = (month_number(j["at"]) - j.won).clip(lower=0)
    return j.group_by(*keys, month=month).aggregate(**sums).order_by(*keys, "month")


def _upkeep_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Summary of the won: durations from ``spells`` with their censoring if there are any, else complete."""
    spells = bank.require("spells.event") is None
    names = _snapshot(bank, "won", "retention_cost", *(() if spells else ("days",)))
    if isinstance(names, Missing):
        return missing
    t = _plain(bank, names)
    if spells:
        s = bank.table("spells")
        s = s.select(who=s.customer_id, months=s.exit_months, exits=s.event.cast("int64"))
        f = bank.frame(t.left_join(s, t.customer_id == s.who).order_by("customer_id"))
        f = f.assign(years=f["months"] / 12)
    else:
        f = bank.frame(t.order_by("customer_id"))
        f = f.assign(years=f["days"] / DAYS_PER_YEAR, exits=1)
    f = f.assign(block=np.arange(len(f)), customers=1)
    won = f[f["won"] == 1]
    return won[["block", "years", "customers", "exits", "retention_cost"]].reset_index(drop=True)


def joint(bank: Bank) -> pd.DataFrame | Missing:
    """Prospects with what became of the won: duration and profit.

    Returns
    -------
    DataFrame
        ``block``, ``won``, ``spend`` (hundreds of the currency), ``spend_squared``, ``year`` of first contact (from the
        start), one 0/1 column ``channel_...`` per channel but the first; of the won ``log_months`` (at least one day),
        ``ended`` (0/1), ``profit`` (contribution per month as a customer); ``spend_randomised`` where the bank says.
    """
    missing = bank.require("prospects.customer_id", "customers", "monthly")
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
    m = m.group_by(owner=m.customer_id).aggregate(money=as_float(contribution_of(m).sum()))
    j = t.left_join(c, t.customer_id == c.who)
    j = j.left_join(m, j.who == m.owner)
    start = ibis.date(bank.about.observation_start)
    more = {"spend_randomised": j.spend_randomised} if "spend_randomised" in t.columns else {}
    frame = bank.frame(
        j.select(
            id=j.prospect_id,
            block=_person(j),
            channel=j.channel,
            won=j.won.cast("int8"),
            spend=as_float(j.spend) / 100,
            year=days_between(j.first_contact_on, start) / DAYS_PER_YEAR,
            log_months=(j.days / DAYS_PER_MONTH).ln(),
            ended=as_float(j.ended),
            profit=j.money.fill_null(0.0) / (j.days / DAYS_PER_MONTH),
            **more,
        )
        .order_by("id")
        .drop("id")
    )
    frame["spend_squared"] = frame["spend"] ** 2
    for name in sorted(frame["channel"].unique())[1:]:
        frame[f"channel_{name}"] = (frame["channel"] == name).astype(float)
    # a won prospect without a customer row (lost from the extract) has no duration
    return frame[(frame["won"] == 0) | frame["log_months"].notna()].drop(columns="channel").reset_index(drop=True)


def _joint_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Durations and profit of a summary; taken as complete, since it does not say otherwise."""
    names = _snapshot(bank, "won", "spend", "days")
    if isinstance(names, Missing) or bank.require("snapshot.profit") is not None or bank.require("spells") is None:
        return missing
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    months = (s["days"] / DAYS_PER_MONTH).where(s["won"] == 1)
    return pd.DataFrame(
        {
            "block": np.arange(len(s)),
            "won": s["won"],
            "spend": s["spend"] / 100,
            "spend_squared": (s["spend"] / 100) ** 2,
            **{c: s[c] for c in ("industry", "revenue", "employees") if c in s},
            "log_months": np.log(months),
            "ended": months.notna().astype(float).where(months.notna()),
            "profit": s["profit"] / months,
        }
    )


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
    return bank.frame(
        t.group_by("group")
        .aggregate(
            n=t.count(),
            contacts=as_float(t.calls.sum()),
            sold=as_float(t.sold.sum()),
            contacts2=as_float((t.calls * t.calls).sum()),
            contacts_sold=as_float((t.calls * t.sold).sum()),
        )
        .order_by("group")
    )
