"""Spells by exit definition, and person-months counted by state.

Months of tenure are whole: month ``m`` runs from ``m - 1`` to ``m`` months after acquisition. Who enters the extract
late is at risk from the first full month on, who is still there is followed to the last full month. Nothing is
expanded to customers times months: a customer is a few segments between changes of state, the engine counts where
segments begin and end, and at-risk counts are running sums of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.engines import earliest
from crmresearch.data.reductions.blocks import bounded, set_of
from crmresearch.data.reductions.expressions import (
    as_float,
    band_of,
    beside,
    cut_points,
    day_after,
    exit_within,
    months_between,
    needs,
    tier_of,
)
from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis


NEEDS = {  # tables that an exit definition needs
    "closure": ("customers",),
    "dormancy": ("customers", "transactions"),
    "run-off": ("customers", "monthly"),
    "main bank": ("customers", "transactions", "monthly"),
}
DEFINITIONS = tuple(NEEDS)
GROUPS = ("acquisition_channel", "city_tier", "segment", "value_band")
BLOCK = "block"  # a group by lot: a hundredth of the customers
READ_FROM = {"families": "holdings", "unmet": "service.resolved"}  # states, and what they are read from
STATES = tuple(READ_FROM)
UNMET_MONTHS = 6  # an unmet complaint counts for so long
MOST_FAMILIES = 6  # more are counted as so many
RUN_OFF_SHARE = 0.5  # of the highest balance of the year before
ACTIVITY_SHARE = 0.15  # of the own monthly rate of transactions in the year before


# --- who left when: exit definitions ----------------------------------------------------------------------------------


def _exits(bank: Bank, definition: str, months: int) -> ibis.Table:
    """Date and cause of exit under a definition, for customers who have one; closures count under all of them."""
    if definition == "closure":
        return _closed(bank)
    return bank.kept(f"exits by {definition} of {months}", lambda: _gone(bank, definition, months))


def _closed(bank: Bank) -> ibis.Table:
    t = bank.table("customers")
    return t.filter(t.left_on.notnull()).select("customer_id", exit_on="left_on", cause="exit_cause")


def _gone(bank: Bank, definition: str, months: int) -> ibis.Table:
    import ibis

    end = day_after(bank)
    if definition == "dormancy":
        x = bank.table("transactions").select("customer_id", "occurred_on").distinct()
        following = x.occurred_on.lead().over(ibis.window(group_by="customer_id", order_by="occurred_on"))
        gone = x.mutate(exit_on=x.occurred_on + ibis.interval(months=months), following=following)
        gone = gone.filter((gone.following > gone.exit_on) | gone.following.isnull())
    elif definition == "run-off":
        x = bank.table("monthly").select("customer_id", "month", balance=lambda r: as_float(r.balance))
        year = ibis.window(group_by="customer_id", order_by="month", preceding=(12, 1))
        x = x.mutate(highest=x.balance.max().over(year), known=x.balance.count().over(year))
        gone = x.filter((x.known >= 6) & (x.highest > 0) & (x.balance < RUN_OFF_SHARE * x.highest))
    else:  # main bank: payments move elsewhere
        x = bank.table("transactions")
        x = x.group_by("customer_id", month=x.occurred_on.truncate("M")).aggregate(count=lambda r: r.count())
        m = bank.table("monthly").select("customer_id", "month")
        x = beside(m, x, "customer_id", "month").mutate(count=lambda r: r["count"].fill_null(0))
        by = {"group_by": "customer_id", "order_by": "month"}
        half, year = ibis.window(**by, preceding=5, following=0), ibis.window(**by, preceding=(17, 6))  # type: ignore[arg-type]
        x = x.mutate(
            now=x["count"].sum().over(half), before=x["count"].sum().over(year), known=x["count"].count().over(year)
        )
        gone = x.filter(
            (x.known == 12) & (x.before >= 12) & (as_float(x.now) / 6 < ACTIVITY_SHARE * as_float(x.before) / 12)
        )
    if definition != "dormancy":
        gone = gone.mutate(exit_on=gone.month + ibis.interval(months=1))
    gone = gone.filter(gone.exit_on < end)
    first = gone.group_by("customer_id").aggregate(exit_on=gone.exit_on.cast("date").min())
    first = first.mutate(cause=ibis.literal(definition))
    both = first.union(_closed(bank).mutate(exit_on=lambda r: r.exit_on.cast("date")))
    order = ibis.window(group_by="customer_id", order_by=["exit_on", "cause"])
    return both.mutate(rank=ibis.row_number().over(order)).filter(lambda r: r["rank"] == 0).drop("rank")


def _named(names: Sequence[str], known: Iterable[str], kind: str) -> None:
    """Refuse a name that is not known."""
    for name in names:
        if name not in known:
            raise InputError(f"no {kind} {name!r}; there are {', '.join(known)}")


def _lacks(bank: Bank, definition: str, states: Sequence[str], groups: Sequence[str]) -> Missing | None:
    """Tell what a bank lacks for an exit definition, states and groups."""
    _named([definition], NEEDS, "exit definition")
    _named(states, STATES, "state")
    missing = bank.require(*NEEDS[definition], *(READ_FROM[s] for s in states))
    if missing is None:
        _named(groups, (*GROUPS, BLOCK), "group")
        missing = next((m for g in groups if (m := bank.require(_column(g))) is not None), None)
    return missing


def _column(group: str) -> str:
    return {"value_band": "monthly", BLOCK: "customers"}.get(group, f"customers.{group}")


def _base(bank: Bank, exits: ibis.Table, groups: Sequence[str]) -> ibis.Table:
    """One row per customer: entry and exit in whole months of tenure, event, cause, and groups known at entry."""
    import ibis

    t = bank.table("customers")
    t = t.mutate(block=set_of(bank, t)) if BLOCK in groups else t
    keep = [g for g in groups if g != "value_band"]
    t = t.select("customer_id", "acquired_on", "observed_from", *keep)
    t = beside(t, exits, "customer_id")
    entry = months_between(t.observed_from, t.acquired_on, up=True)
    t = t.mutate(entry=entry, **exit_within(bank, t.exit_on, t.cause, t.acquired_on))
    t = t.filter(t.exit > t.entry)
    if "value_band" in groups:
        m, known = bank.table("monthly"), t.columns
        first = m.group_by("customer_id").aggregate(balance=earliest(as_float(m.balance), m.month))
        t = beside(t, first, "customer_id")
        names = band_of(bank, t.balance)
        if names is None:
            t = t.cross_join(cut_points(t.balance, 3))
            names = ibis.cases((t.balance <= t.q1, "low"), (t.balance <= t.q2, "middle"), else_="high")
        t = t.select(*known, value_band=ibis.ifelse(t.balance.notnull(), names, "unknown"))
    return t


def _fill(t: ibis.Table, groups: Sequence[str]) -> ibis.Table:
    """Missing group values become 'unknown', so that every customer is in a group."""
    named = [g for g in groups if g != BLOCK]
    return t.mutate(**{g: t[g].cast("string").fill_null("unknown") for g in named}) if named else t


def groups_of(bank: Bank) -> tuple[str, ...]:
    """Groups of :data:`GROUPS` that the bank's tables can form; none for a bank without ``customers``.

    Segments of the bank's own stand where city tiers would.
    """
    names = tuple(g for g in GROUPS if g not in ("city_tier", "segment") or g == tier_of(bank))
    return tuple(g for g in names if bank.require("customers", _column(g)) is None)


@needs()
def spells(
    bank: Bank, *, definition: str = "closure", months: int = 12, groups: Sequence[str] = (), states: Sequence[str] = ()
) -> pd.DataFrame | Missing:
    """Count customers by entry, exit, cause and what is known about them at entry.

    Parameters
    ----------
    bank : Bank
        With ``customers``; or with ``spells``, which are then returned as they are (covariates included, months as
        given).
    definition : {'closure', 'dormancy', 'run-off', 'main bank'}
        What counts as leaving; a closed relationship counts under each. Dormancy: no transaction for ``months``.
        Run-off: the balance falls below half of the highest of the year before. Main bank: the transactions of six
        months fall below 15% of the customer's own rate in the year before.
    months : int
        Length of a dormant time, months.
    groups : sequence of str
        Of ``acquisition_channel``, ``city_tier``, ``segment`` (of the bank's own), ``value_band`` (by the first balance
        observed: thirds, or the bank's cut points); ``block``: a hundredth of the customers, by lot.
    states : sequence of str
        Of ``families`` (products held) and ``unmet`` (complaint or unresolved request in the six months before), at
        entry.

    Returns
    -------
    DataFrame
        ``entry, exit, event, cause, n`` and the groups and states, ordered; times in whole months of tenure.
    """
    if "customers" not in bank.tables and "spells" in bank.tables:
        return bounded(bank, "spells", _given_spells)
    missing = _lacks(bank, definition, states, groups)
    if missing is not None:
        return missing
    keys = ["entry", "exit", "event", "cause", *groups, *states]
    exits = _exits(bank, definition, months)

    def counted() -> ibis.Table:
        base = _fill(_base(bank, exits, groups), groups)
        if states:
            base = _segments(bank, base, states, (0,), groups)
            base = base.filter(base.start == base.first_month)
            base = base.mutate(entry=base.start - 1, event=base.gone, cause=base.why)
        return base.group_by(keys).aggregate(n=lambda r: r.count()).order_by(keys)

    return tidy(bank.compiled(("spells", definition, months, tuple(groups), tuple(states)), counted))


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole months and counts as integers, event as 0/1, cause as text or None."""
    out = frame.copy()
    for column in ("entry", "exit", "n", "event", *STATES):
        if column in out.columns:
            out[column] = out[column].astype("int64")
    if "cause" in out.columns:
        out["cause"] = out["cause"].astype(object).mask(out["cause"].isna(), None)
    return out


def _given_spells(bank: Bank) -> pd.DataFrame:
    """The table ``spells`` of a bank that has no dates, under the names used here."""
    t = bank.table("spells").order_by("customer_id")
    frame = bank.frame(t).rename(columns={"entry_months": "entry", "exit_months": "exit"})
    frame["event"] = frame["event"].astype(bool).astype("int64")
    if "cause" in frame.columns:
        cause = frame["cause"].astype(object).fillna("unknown")
        frame["cause"] = cause.mask(frame["event"] == 0, None)
    return frame.drop(columns="customer_id")


@needs()
def spells_by_definition(bank: Bank, *, months: int = 12) -> dict[str, pd.DataFrame | Missing] | Missing:
    """Return spells under every exit definition the bank has tables for; the others say what they lack.

    ``attrs["recorded"]`` of the closures counts all that are on record: spells are of whole months, so that those
    before the first or after the last one under observation are not among theirs.
    """
    missing = bank.require("customers")
    if missing is not None:
        return Missing(f"exit definitions need dates of single customers: {missing.reason}", ("customers",))
    found = {d: spells(bank, definition=d, months=months) for d in DEFINITIONS}
    if isinstance(found["closure"], pd.DataFrame):
        found["closure"].attrs["recorded"] = int(bank.scalar(bank.table("customers").left_on.count()))
    return found


# --- person-months, counted -------------------------------------------------------------------------------------------


def _intervals(bank: Bank, state: str) -> ibis.Table:
    """Intervals over which a state counts one: ``customer_id, since, until``."""
    import ibis

    if state == "families":
        h = bank.table("holdings")
        return h.select("customer_id", since=h.opened_on, until=h.closed_on)
    s = bank.table("service")
    s = s.filter(trouble(s))
    return s.select(
        "customer_id", since=s.occurred_on, until=(s.occurred_on + ibis.interval(months=UNMET_MONTHS)).cast("date")
    )


def trouble(service: ibis.Table) -> Any:
    """Whether a service event is a complaint or left a request unresolved."""
    return (service.kind == "complaint") | (~service.resolved).fill_null(False)


def _segments(
    bank: Bank, base: ibis.Table, states: Sequence[str], lags: Sequence[int], groups: Sequence[str]
) -> ibis.Table:
    """Split every customer's time at risk where a state, read ``lag`` months earlier, changes; one copy per lag.

    What is read so many months earlier changes as many months later: the segments of every lag are those of the
    unlagged state, moved and cut off at the exit.
    """
    import ibis

    base = base.mutate(first_month=base.entry + 1)
    zero = {s: ibis.literal(0, "int64") for s in states}
    rows = base.select("customer_id", tenure=base.first_month.cast("int32"), **zero)
    for state in states:
        i = _intervals(bank, state).inner_join(
            base.select("customer_id", "acquired_on", "first_month", "exit"), "customer_id"
        )
        for column, sign in (("since", 1), ("until", -1)):
            day = i[column]
            seen = ibis.greatest(months_between(day, i.acquired_on, up=True) + 1, i.first_month)
            change = i.filter(day.notnull() & (seen <= i.exit))
            rows = rows.union(
                change.select("customer_id", tenure=seen.cast("int32"), **{**zero, state: ibis.literal(sign, "int64")})
            )
    rows = rows.group_by("customer_id", "tenure").aggregate(**{s: rows[s].sum() for s in states})
    so_far = ibis.window(group_by="customer_id", order_by="tenure", preceding=None, following=0)
    ordered = ibis.window(group_by="customer_id", order_by="tenure")
    rows = rows.mutate(**{s: rows[s].sum().over(so_far) for s in states}, following=rows.tenure.lead().over(ordered))
    most = {"families": MOST_FAMILIES, "unmet": 1}
    rows = rows.mutate(**{s: ibis.least(ibis.greatest(rows[s], 0), most[s]).cast("int64") for s in states})
    joined = rows.inner_join(base, "customer_id")
    moved = joined.mutate(lag=ibis.array([ibis.literal(k, "int32") for k in lags]).unnest())
    stop = ibis.least(ibis.coalesce(moved.following - 1 + moved.lag, moved.exit), moved.exit)
    last = stop == moved.exit
    moved = moved.mutate(
        start=moved.tenure + moved.lag,
        stop=stop,
        first_month=moved.first_month + moved.lag,
        gone=moved.event,
        why=moved.cause,
        event=moved.event & last,
        cause=ibis.ifelse(last, moved.cause, ibis.null()),
    )
    kept = ("customer_id", "lag", "start", "stop", "event", "cause", "exit", "first_month", "gone", "why")
    return moved.filter(moved.start <= moved.exit).select(*kept, *states, *groups)


def person_months(
    bank: Bank,
    *,
    states: Sequence[str] = STATES,
    groups: Sequence[str] = (),
    lag: int = 3,
    definition: str = "closure",
    months: int = 12,
) -> pd.DataFrame | Missing:
    """Count person-months at risk and exits by month of tenure, state ``lag`` months earlier, and group.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and the tables of the states (``holdings``; ``service`` with ``resolved``).
    states : sequence of str
        ``families``: products held. ``unmet``: whether there was a complaint or an unresolved request in the last
        six months.
    groups : sequence of str
        As in :func:`spells`.
    lag : int
        The state is that at the start of the month, ``lag`` months back; months whose state would lie before the
        observation are left out.
    definition, months
        As in :func:`spells`.

    Returns
    -------
    DataFrame
        ``tenure``, groups, states, ``at_risk``, ``events`` (all causes) and ``events <cause>`` per cause, ordered.
        One row per occupied cell.
    """
    found = person_months_by_lag(bank, (lag,), states=states, groups=groups, definition=definition, months=months)
    return found if isinstance(found, Missing) else found[lag]


@needs()
def person_months_by_lag(
    bank: Bank,
    lags: Sequence[int],
    *,
    states: Sequence[str] = STATES,
    groups: Sequence[str] = (),
    definition: str = "closure",
    months: int = 12,
) -> dict[int, pd.DataFrame] | Missing:
    """Return :func:`person_months` for several lags, the customers' states being followed once."""
    import ibis

    if not states:
        raise InputError(f"person-months are counted by state; name some of {', '.join(STATES)}")
    if min(lags) < 0:
        raise InputError(f"lag = {min(lags)}: a state cannot be read in the future; take 0 or more months")
    missing = _lacks(bank, definition, states, groups)
    if missing is not None:
        return missing
    keys, exits = [*groups, *states], _exits(bank, definition, months)

    def counted() -> ibis.Table:
        parts = _segments(bank, _fill(_base(bank, exits, groups), groups), states, lags, groups)
        parts = parts.mutate(cause=ibis.ifelse(parts.event, parts.cause, ibis.null()))
        parts = parts.group_by("lag", "start", "stop", "cause", *keys).aggregate(n=lambda r: r.count())
        # both ends of a stay apart: pairs of months would grow with the bank, months do not
        ends = parts.mutate(end=ibis.array([ibis.literal(k, "int32") for k in (0, 1)]).unnest())
        last = ends.end == 1
        ends = ends.mutate(
            month=ibis.ifelse(last, ends.stop + 1, ends.start),
            cause=ibis.ifelse(last, ends.cause, ibis.null()),
            change=ibis.ifelse(last, -ends.n, ends.n),
        )
        return ends.group_by("lag", "month", "cause", *keys).aggregate(n=ends.change.sum().cast("int64"))

    request = ("person-months", definition, months, tuple(groups), tuple(states), tuple(lags))
    frame = tidy(bank.compiled(request, counted))
    out = dict(list(frame.groupby("lag")))
    if beyond := [lag for lag in lags if lag not in out]:
        seen = f"no customer of the bank '{bank.name}' is observed for more than {beyond[0]} months"
        return Missing(seen, ("customers",))
    return {lag: _cells(out[lag], keys) for lag in lags}


@needs("customers")
def person_months_by_definition(bank: Bank, *, months: int = 12) -> dict[str, Any] | Missing:
    """Return person-months under every exit definition; those the bank has no tables for say what they lack."""
    return {d: person_months(bank, definition=d, months=months) for d in DEFINITIONS}


def _cells(parts: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Running sums, month by month, of the changes in the number at risk in each group of states."""
    kinds = parts[keys].drop_duplicates().sort_values(keys, ignore_index=True)
    kind = pd.MultiIndex.from_frame(kinds).get_indexer(pd.MultiIndex.from_frame(parts[keys]))
    month, n = (parts[c].to_numpy(dtype=np.int64) for c in ("month", "n"))
    shape = (int(month.max()) + 1, len(kinds))  # months of tenure, groups

    def count(month: np.ndarray, kind: np.ndarray, n: np.ndarray) -> np.ndarray:
        cell = np.ravel_multi_index((month, kind), shape)
        return np.bincount(cell, n, minlength=shape[0] * shape[1]).reshape(shape).round().astype(np.int64)

    at_risk = count(month, kind, n).cumsum(axis=0)
    tenure, group = np.nonzero(at_risk)
    cause = parts["cause"].to_numpy(dtype=object)
    by_cause = {}
    for name in sorted({c for c in cause if c is not None}):
        own = cause == name  # who leaves is at risk no more from the month after
        by_cause[f"events {name}"] = count(month[own] - 1, kind[own], -n[own])[tenure, group]
    out = pd.DataFrame({"tenure": tenure, **{k: kinds[k].to_numpy()[group] for k in keys}})
    out["at_risk"] = at_risk[tenure, group]
    out["events"] = sum(by_cause.values(), start=np.zeros(len(out), dtype=np.int64))
    return out.assign(**by_cause)
