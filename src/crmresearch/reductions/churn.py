"""What study 2 takes out of the engine: spells by exit definition, person-month cells, landmark rows, stages.

Months of tenure are whole: month ``m`` runs from ``m - 1`` to ``m`` months after acquisition. Who enters the extract late
is at risk from the first full month on, who is still there is followed to the last full month. Nothing is expanded to
customers times months: a customer is a few segments between changes of state, the engine counts where segments begin and
end, and at-risk counts are running sums of these.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis
    import pandas as pd

    from crmresearch.bank import Bank

__all__ = [
    "DEFINITIONS",
    "GROUPS",
    "STATES",
    "arms",
    "landmark",
    "landmark_dates",
    "life_course",
    "person_months",
    "spells",
    "spells_by_definition",
    "targeted",
]

DEFINITIONS = ("closure", "dormancy", "run-off", "main bank")
GROUPS = ("acquisition_channel", "city_tier", "value_band")
STATES = ("families", "unmet")
UNMET_MONTHS = 6  # an unmet complaint counts for so long
MOST_FAMILIES = 6  # more are counted as so many
RUN_OFF_SHARE = 0.25  # of the highest balance of the year before
ACTIVITY_SHARE = 0.15  # of the own monthly rate of transactions in the year before


def _months(later: Any, earlier: Any, up: bool) -> Any:
    """Whole months between two dates, rounded up or down."""
    whole = (later.year() - earlier.year()) * 12 + later.month() - earlier.month()
    part = (later.day() > earlier.day()) if up else (later.day() < earlier.day())
    return (whole + part.cast("int32") if up else whole - part.cast("int32")).cast("int32")


def _day_after(bank: Bank) -> datetime.date:
    return bank.about.observation_end + datetime.timedelta(days=1)


def _add_months(day: datetime.date, months: int) -> datetime.date:
    number = day.year * 12 + day.month - 1 + months
    return datetime.date(number // 12, number % 12 + 1, 1)


# --- who left when: exit definitions ------------------------------------------------------------------------------------


def _exits(bank: Bank, definition: str, months: int) -> ibis.Table:
    """Date and cause of exit under a definition, for customers who have one; closures count under all of them."""
    import ibis

    t = bank.table("customers")
    closed = t.filter(t.left_on.notnull()).select("customer_id", exit_on="left_on", cause="exit_cause")
    if definition == "closure":
        return closed
    end = _day_after(bank)
    if definition == "dormancy":
        x = bank.table("transactions").select("customer_id", "occurred_on").distinct()
        following = x.occurred_on.lead().over(ibis.window(group_by="customer_id", order_by="occurred_on"))
        gone = x.mutate(exit_on=x.occurred_on + ibis.interval(months=months), following=following)
        gone = gone.filter(((gone.following > gone.exit_on) | gone.following.isnull()) & (gone.exit_on < end))
    elif definition == "run-off":
        x = bank.table("monthly").select("customer_id", "month", balance=lambda r: r.balance.cast("float64"))
        year = ibis.window(group_by="customer_id", order_by="month", preceding=(12, 1))
        x = x.mutate(highest=x.balance.max().over(year), known=x.balance.count().over(year))
        gone = x.filter((x.known >= 6) & (x.highest > 0) & (x.balance < RUN_OFF_SHARE * x.highest))
        gone = gone.mutate(exit_on=gone.month + ibis.interval(months=1))
        gone = gone.filter(gone.exit_on < end)
    else:  # main bank: payments move elsewhere
        x = bank.table("transactions")
        x = x.group_by("customer_id", month=x.occurred_on.truncate("M")).aggregate(count=lambda r: r.count())
        m = bank.table("monthly").select("customer_id", "month")
        x = m.left_join(x, ["customer_id", "month"]).select("customer_id", "month", count=lambda r: r["count"].fill_null(0))
        by = {"group_by": "customer_id", "order_by": "month"}
        half, year = ibis.window(**by, preceding=5, following=0), ibis.window(**by, preceding=(17, 6))  # type: ignore[arg-type]
        x = x.mutate(now=x["count"].sum().over(half), before=x["count"].sum().over(year), known=x["count"].count().over(year))
        gone = x.filter((x.known == 12) & (x.before >= 12) & (x.now / 6 < ACTIVITY_SHARE * x.before / 12))
        gone = gone.mutate(exit_on=gone.month + ibis.interval(months=1))
        gone = gone.filter(gone.exit_on < end)
    first = gone.group_by("customer_id").aggregate(exit_on=gone.exit_on.cast("date").min()).mutate(cause=ibis.literal(definition))
    both = first.union(closed.mutate(exit_on=closed.exit_on.cast("date")))
    order = ibis.window(group_by="customer_id", order_by=["exit_on", "cause"])
    return both.mutate(rank=ibis.row_number().over(order)).filter(lambda r: r["rank"] == 0).drop("rank")


def _needs(definition: str) -> tuple[str, ...]:
    more = {"closure": (), "dormancy": ("transactions",), "run-off": ("monthly",), "main bank": ("transactions", "monthly")}
    if definition not in more:
        raise InputError(f"no exit definition {definition!r}; there are {', '.join(DEFINITIONS)}")
    return ("customers", *more[definition])


def _base(bank: Bank, definition: str = "closure", months: int = 12, groups: Sequence[str] = ()) -> ibis.Table:
    """One row per customer: entry and exit in whole months of tenure, event, cause, and groups known at entry."""
    import ibis

    t = bank.table("customers")
    end = ibis.date(_day_after(bank).isoformat())
    keep = [g for g in groups if g != "value_band"]
    t = t.select("customer_id", "acquired_on", "observed_from", *keep)
    t = t.left_join(_exits(bank, definition, months), "customer_id").drop("customer_id_right")
    entry = _months(t.observed_from, t.acquired_on, up=True)
    last = _months(end, t.acquired_on, up=False)
    gone = ibis.greatest(_months(t.exit_on, t.acquired_on, up=True), 1)
    seen = (t.exit_on.notnull() & (gone <= last)).fill_null(False)
    t = t.mutate(entry=entry, exit=ibis.ifelse(seen, gone, last), event=seen, cause=ibis.ifelse(seen, t.cause, ibis.null()))
    t = t.filter(t.exit > t.entry)
    if "value_band" in groups:
        m = bank.table("monthly")
        first = m.group_by("customer_id").aggregate(balance=m.balance.cast("float64").argmin(m.month))
        t = t.left_join(first, "customer_id").drop("customer_id_right")
        third = ibis.ntile(3).over(ibis.window(order_by=[t.balance, t.customer_id]))
        names = ibis.cases((third == 0, "low"), (third == 1, "middle"), else_="high")
        t = t.mutate(value_band=ibis.ifelse(t.balance.notnull(), names, "unknown")).drop("balance")
    return t


def _fill(t: ibis.Table, groups: Sequence[str]) -> ibis.Table:
    """Missing group values become 'unknown', so that every customer is in a group."""
    return t.mutate(**{g: t[g].cast("string").fill_null("unknown") for g in groups}) if groups else t


def _usable(bank: Bank, groups: Sequence[str]) -> tuple[str, ...] | Missing:
    unknown = [g for g in groups if g not in GROUPS]
    if unknown:
        raise InputError(f"no group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    for g in groups:
        missing = bank.require("monthly" if g == "value_band" else f"customers.{g}")
        if missing is not None:
            return missing
    return tuple(groups)


def spells(bank: Bank, *, definition: str = "closure", months: int = 12, groups: Sequence[str] = (),
           states: Sequence[str] = (), lag: int = 0) -> pd.DataFrame | Missing:  # fmt: skip
    """Count customers by entry, exit, cause and what is known about them at entry.

    Parameters
    ----------
    bank : Bank
        With ``customers``; or with ``spells``, which are then returned as they are (covariates included, months as given).
    definition : {'closure', 'dormancy', 'run-off', 'main bank'}
        What counts as leaving; a closed relationship counts under each. Dormancy: no transaction for ``months``. Run-off:
        the balance falls below a quarter of the highest of the year before. Main bank: the transactions of six months fall
        below 15% of the customer's own rate in the year before.
    months : int
        Length of a dormant time, months.
    groups : sequence of str
        Of ``acquisition_channel``, ``city_tier``, ``value_band`` (thirds by the first balance observed).
    states : sequence of str
        Of ``families`` (products held) and ``unmet`` (complaint or unresolved request in the six months before), at entry.
    lag : int
        Months before the first month at risk at which ``states`` are read; the spell then starts as much later.

    Returns
    -------
    DataFrame
        ``entry, exit, event, cause, n`` and the groups and states, ordered; times in whole months of tenure.
    """
    if "customers" not in bank.tables and "spells" in bank.tables:
        return _given_spells(bank)
    missing = bank.require(*_needs(definition), *_state_needs(states))
    if missing is not None:
        return missing
    named = _usable(bank, groups)
    if isinstance(named, Missing):
        return named
    base = _fill(_base(bank, definition, months, named), named)
    if states:
        base = _segments(bank, base, states, lag, named)
        base = base.filter(base.start == base.first_month).mutate(entry=base.start - 1)
    keys = ["entry", "exit", "event", "cause", *named, *states]
    counted = base.group_by(keys).aggregate(n=lambda r: r.count()).order_by(keys)
    return _tidy(bank.frame(counted))


def _tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """Whole months and counts as integers, event as 0/1, cause as text or None."""
    out = frame.copy()
    for column in ("entry", "exit", "n", "event", *STATES):
        if column in out.columns:
            out[column] = out[column].astype("int64")
    if "cause" in out.columns:
        out["cause"] = out["cause"].astype(object).where(out["cause"].notna(), None)
    return out


def _given_spells(bank: Bank) -> pd.DataFrame:
    """The table ``spells`` of a bank that has no dates, under the names used here."""
    t = bank.table("spells").order_by("customer_id")
    frame = bank.frame(t).rename(columns={"entry_months": "entry", "exit_months": "exit"})
    frame["event"] = frame["event"].astype(bool).astype("int64")
    if "cause" in frame.columns:
        cause = frame["cause"].astype(object).where(frame["cause"].notna(), "unknown")
        frame["cause"] = cause.where(frame["event"] == 1, None)
    return frame.drop(columns="customer_id")


def spells_by_definition(bank: Bank, *, months: int = 12) -> dict[str, pd.DataFrame | Missing] | Missing:
    """Return spells under every exit definition the bank has tables for; the others say what they lack."""
    missing = bank.require("customers")
    if missing is not None:
        return Missing(f"exit definitions need dates of single customers: {missing.reason}", ("customers",))
    return {d: spells(bank, definition=d, months=months) for d in DEFINITIONS}


# --- person-months, counted ---------------------------------------------------------------------------------------------


def _state_needs(states: Sequence[str]) -> tuple[str, ...]:
    need = {"families": ("holdings",), "unmet": ("service.resolved",)}
    unknown = [s for s in states if s not in need]
    if unknown:
        raise InputError(f"no state {unknown[0]!r}; there are {', '.join(need)}")
    return tuple(n for s in states for n in need[s])


def _intervals(bank: Bank, state: str) -> ibis.Table:
    """Intervals over which a state counts one: ``customer_id, since, until``."""
    import ibis

    if state == "families":
        h = bank.table("holdings")
        return h.select("customer_id", since=h.opened_on, until=h.closed_on)
    s = bank.table("service")
    s = s.filter(_trouble(s))
    return s.select("customer_id", since=s.occurred_on, until=(s.occurred_on + ibis.interval(months=UNMET_MONTHS)).cast("date"))


def _trouble(service: ibis.Table) -> Any:
    """Whether a service event is a complaint or left a request unresolved."""
    return (service.kind == "complaint") | (~service.resolved).fill_null(False)


def _segments(bank: Bank, base: ibis.Table, states: Sequence[str], lag: int, groups: Sequence[str]) -> ibis.Table:
    """Split every customer's time at risk where a state, read ``lag`` months earlier, changes."""
    import ibis

    base = base.mutate(first_month=base.entry + 1 + lag)
    base = base.filter(base.exit >= base.first_month)
    zero = {s: ibis.literal(0, "int64") for s in states}
    rows = base.select("customer_id", tenure=base.first_month.cast("int32"), **zero)
    for state in states:
        i = _intervals(bank, state).inner_join(base.select("customer_id", "acquired_on", "first_month", "exit"), "customer_id")
        for column, sign in (("since", 1), ("until", -1)):
            day = i[column]
            seen = ibis.greatest(_months(day, i.acquired_on, up=True) + 1 + lag, i.first_month)
            change = i.filter(day.notnull() & (seen <= i.exit))
            rows = rows.union(change.select("customer_id", tenure=seen.cast("int32"), **{**zero, state: ibis.literal(sign, "int64")}))
    rows = rows.group_by("customer_id", "tenure").aggregate(**{s: rows[s].sum() for s in states})
    so_far = ibis.window(group_by="customer_id", order_by="tenure", preceding=None, following=0)
    ordered = ibis.window(group_by="customer_id", order_by="tenure")
    rows = rows.mutate(**{s: rows[s].sum().over(so_far) for s in states}, following=rows.tenure.lead().over(ordered))
    most = {"families": MOST_FAMILIES, "unmet": 1}
    rows = rows.mutate(**{s: ibis.least(ibis.greatest(rows[s], 0), most[s]).cast("int64") for s in states})
    joined = rows.inner_join(base, "customer_id")
    stop = ibis.coalesce(joined.following - 1, joined.exit)
    last = joined.following.isnull()
    return joined.mutate(
        start=joined.tenure, stop=stop, event=joined.event & last, cause=ibis.ifelse(last, joined.cause, ibis.null())
    ).select("customer_id", "start", "stop", "event", "cause", "exit", "first_month", *states, *groups)


def person_months(bank: Bank, *, states: Sequence[str] = STATES, groups: Sequence[str] = (), lag: int = 3,
                  definition: str = "closure", months: int = 12) -> pd.DataFrame | Missing:  # fmt: skip
    """Count person-months at risk and exits by month of tenure, state ``lag`` months earlier, and group.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and the tables of the states (``holdings``; ``service`` with ``resolved``).
    states : sequence of str
        ``families``: products held. ``unmet``: whether there was a complaint or an unresolved request in the last six months.
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
        ``tenure``, groups, states, ``at_risk``, ``events`` (all causes) and ``events <cause>`` per cause, ordered. One row
        per occupied cell.
    """
    import pandas as pd

    if lag < 0:
        raise InputError(f"lag = {lag}: a state cannot be read in the future; take 0 or more months")
    missing = bank.require(*_needs(definition), *_state_needs(states))
    if missing is not None:
        return missing
    named = _usable(bank, groups)
    if isinstance(named, Missing):
        return named
    base = _fill(_base(bank, definition, months, named), named)
    parts = _segments(bank, base, states, lag, named)
    keys = [*named, *states]
    one = parts.select("start", "stop", "event", "cause", *keys)
    counted = one.group_by(["start", "stop", "event", "cause", *keys]).aggregate(n=lambda r: r.count())
    frame = _tidy(bank.frame(counted.order_by(["start", "stop", "event", "cause", *keys])))
    if frame.empty:
        return Missing(f"no customer of the bank '{bank.about.name}' is observed for more than {lag} months", ("customers",))
    frame = frame.astype({"start": "int64", "stop": "int64"})
    begin = frame.groupby([*keys, "start"])["n"].sum().rename_axis(index={"start": "tenure"})
    end = frame.assign(tenure=frame["stop"] + 1).groupby([*keys, "tenure"])["n"].sum()
    change = begin.sub(end, fill_value=0)
    left = frame[frame["event"] == 1]
    events = left.groupby([*keys, "stop", "cause"])["n"].sum().unstack("cause", fill_value=0)
    return _cells(pd, change, events.rename_axis(index={"stop": "tenure"}), keys, int(frame["stop"].max()))


def _cells(pd: Any, change: pd.Series, events: pd.DataFrame, keys: list[str], last: int) -> pd.DataFrame:
    """Running sums of the changes in each group's number at risk, month by month."""
    wide = change.unstack("tenure").reindex(columns=range(1, last + 2)).fillna(0.0) if keys else None
    if wide is None:
        at_risk = change.reindex(range(1, last + 2)).fillna(0.0).cumsum()
    else:
        at_risk = wide.cumsum(axis=1).stack()
    out = at_risk[at_risk > 0].rename("at_risk").reset_index()
    causes = list(events.columns)
    out = out.merge(events.rename(columns={c: f"events {c}" for c in causes}).reset_index(), how="left", on=[*keys, "tenure"])
    named = [f"events {c}" for c in causes]
    out[named] = out[named].fillna(0)
    out.insert(out.columns.get_loc("at_risk") + 1, "events", out[named].sum(axis=1))
    whole = ["tenure", "at_risk", "events", *named]
    out[whole] = out[whole].round().astype("int64")
    first = ["tenure", *keys]
    return out[[*first, "at_risk", "events", *named]].sort_values(first, ignore_index=True)


# --- rows at a landmark -------------------------------------------------------------------------------------------------


def landmark_dates(bank: Bank, horizon: int) -> tuple[datetime.date, datetime.date] | Missing:
    """Return two prediction dates: two horizons and one horizon before the observation ends.

    A model fitted on what followed the first is scored on what followed the second, so nothing of the future is used.
    """
    start, end = bank.about.observation_start, _day_after(bank)
    if start is None or (end.year - start.year) * 12 + end.month - start.month < 2 * horizon + 6:
        return Missing(f"an out-of-time split needs {2 * horizon + 6} observed months at a horizon of {horizon}", ("customers",))
    return _add_months(end, -2 * horizon), _add_months(end, -horizon)


def landmark(bank: Bank, on: datetime.date, horizon: int) -> pd.DataFrame | Missing:
    """One row per customer present on a date: what was known before it, and how long the customer stayed after.

    Parameters
    ----------
    bank : Bank
        With ``customers``; every other table adds the columns it can.
    on : date
        The landmark; the first of a month. Only earlier records are read for covariates.
    horizon : int
        Follow-up, months; longer stays are cut there.

    Returns
    -------
    DataFrame
        ``customer_id, exit`` (months since the landmark), ``event, cause, tenure`` (years); where the tables are there:
        ``families`` (product families held), ``unmet`` (complaints and unresolved requests of six months), ``complaint`` (in three months), ``log_balance`` and
        ``balance_change`` (log, against three months earlier), ``recency`` (months since the last transaction, 12 at
        most), ``activity`` (log of one plus transactions in three months), ``mobile``, ``tier_3``, ``channel_*``,
        ``age``, ``contacted`` (retention contacts of twelve months).
    """
    import ibis

    missing = bank.require("customers")
    if missing is not None:
        return missing
    day = ibis.date(on.isoformat())
    t = bank.table("customers")
    t = t.filter((t.observed_from <= day) & (t.left_on.isnull() | (t.left_on > day)))
    stop = ibis.date(_day_after(bank).isoformat())
    last = ibis.least(_months(stop, day, up=False), horizon)
    gone = ibis.greatest(_months(t.left_on, day, up=True), 1)
    seen = (t.left_on.notnull() & (gone <= last)).fill_null(False)
    out = t.select(
        "customer_id",
        exit=ibis.ifelse(seen, gone, last),
        event=seen.cast("int64"),
        cause=ibis.ifelse(seen, t.exit_cause, ibis.null()),
        tenure=(day.delta(t.acquired_on, unit="day") / 365.25).cast("float64"),
        **_who(bank, t, on),
    )
    for part in _known_before(bank, on, day):
        names = [c for c in part.columns if c != "customer_id"]
        out = out.left_join(part, "customer_id").drop("customer_id_right")
        out = out.mutate(**{c: out[c].fill_null(12.0 if c == "recency" else 0) for c in names})
    frame = _tidy(bank.frame(out.filter(out.exit > 0).order_by("customer_id")))
    return frame if len(frame) else Missing(f"no customer of the bank '{bank.about.name}' is present on {on}", ("customers",))


def _who(bank: Bank, t: ibis.Table, on: datetime.date) -> Mapping[str, Any]:
    brought = bank.columns("customers")
    out: dict[str, Any] = {}
    if "city_tier" in brought:
        out["tier_3"] = (t.city_tier == 3).fill_null(False).cast("float64")
    if "birth_year" in brought:
        out["age"] = (on.year - t.birth_year).cast("float64").fill_null(45.0)
    if "acquisition_channel" in brought:
        for name in ("online", "agent", "referral"):
            out[f"channel_{name}"] = (t.acquisition_channel == name).fill_null(False).cast("float64")
    return out


def _known_before(bank: Bank, on: datetime.date, day: Any) -> list[ibis.Table]:
    """Covariates from the records before a date, one expression per table."""
    import ibis

    parts = []
    if "holdings" in bank.tables:
        h = bank.table("holdings")
        h = h.filter((h.opened_on <= day) & (h.closed_on.isnull() | (h.closed_on > day)))
        parts.append(h.group_by("customer_id").aggregate(families=h.product_family.nunique().cast("float64")))
    if "service" in bank.tables and "resolved" in bank.columns("service"):
        s = bank.table("service")
        s = s.filter((s.occurred_on < day) & (s.occurred_on >= ibis.date(_add_months(on, -UNMET_MONTHS).isoformat())) & _trouble(s))
        fresh = (s.kind == "complaint") & (s.occurred_on >= ibis.date(_add_months(on, -3).isoformat()))
        parts.append(s.group_by("customer_id").aggregate(unmet=s.count().cast("float64"), complaint=fresh.any().cast("float64")))
    if "monthly" in bank.tables:
        m = bank.table("monthly")
        now, then = (ibis.date(_add_months(on, -k).isoformat()) for k in (1, 4))
        level = {"log_balance": now, "earlier": then}
        floor = {k: ibis.greatest(m.balance.cast("float64").max(where=m.month == v), 1.0).log() for k, v in level.items()}
        b = m.filter((m.month == now) | (m.month == then)).group_by("customer_id").aggregate(**floor)
        change = ibis.greatest(ibis.least(b.log_balance - b.earlier, 2.0), -2.0)
        parts.append(b.select("customer_id", "log_balance", balance_change=change))
    if "transactions" in bank.tables:
        x = bank.table("transactions")
        x = x.filter((x.occurred_on < day) & (x.occurred_on >= ibis.date(_add_months(on, -12).isoformat())))
        recent = x.occurred_on >= ibis.date(_add_months(on, -3).isoformat())
        columns: dict[str, Any] = {
            "recency": day.delta(x.occurred_on.max(), unit="day") / 30.4375,
            "activity": (1 + recent.sum().cast("float64")).log(),
        }
        if "channel" in bank.columns("transactions"):
            columns["mobile"] = (x.channel == "mobile").fill_null(False).any().cast("float64")
        parts.append(x.group_by("customer_id").aggregate(**columns))
    if "contacts" in bank.tables:
        c = bank.table("contacts")
        c = c.filter((c.contacted_on < day) & (c.contacted_on >= ibis.date(_add_months(on, -12).isoformat())) & (c.purpose == "retain"))
        parts.append(c.group_by("customer_id").aggregate(contacted=(c.cost.cast("float64") > 0).sum().cast("float64")))
    return parts


# --- campaigns ----------------------------------------------------------------------------------------------------------


def arms(bank: Bank, *, horizon: int = 12) -> pd.DataFrame | Missing:
    """Count customers of randomised retention campaigns by arm and by what happened after the contact.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``.
    horizon : int
        Follow-up, months since the contact.

    Returns
    -------
    DataFrame
        ``campaign_id, arm, exit, event, cause, n``; a customer's first contact of each campaign counts.
    """
    import ibis

    missing = bank.require("customers", "contacts")
    if missing is not None:
        return missing
    c = bank.table("contacts")
    c = c.filter(c.randomised & (c.purpose == "retain"))
    c = c.group_by("customer_id", "campaign_id").aggregate(on=c.contacted_on.min(), arm=c.arm.argmin(c.contacted_on))
    t = c.inner_join(bank.table("customers").select("customer_id", "left_on", "exit_cause"), "customer_id")
    t = t.filter(t.left_on.isnull() | (t.left_on > t.on))
    last = ibis.least(_months(ibis.date(_day_after(bank).isoformat()), t.on, up=False), horizon)
    gone = ibis.greatest(_months(t.left_on, t.on, up=True), 1)
    seen = (t.left_on.notnull() & (gone <= last)).fill_null(False)
    t = t.select("campaign_id", "arm", exit=ibis.ifelse(seen, gone, last), event=seen, cause=ibis.ifelse(seen, t.exit_cause, ibis.null()))
    keys = ["campaign_id", "arm", "exit", "event", "cause"]
    frame = _tidy(bank.frame(t.filter(t.exit > 0).group_by(keys).aggregate(n=lambda r: r.count()).order_by(keys)))
    return frame if len(frame) else Missing(f"no retention contact of the bank '{bank.about.name}' was randomised", ("contacts",))


def targeted(bank: Bank, *, horizon: int = 12) -> pd.DataFrame | Missing:
    """Rows at the date of the largest retention campaign that was aimed, not drawn: who was contacted and what followed.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``; a campaign counts if all its contacts fall into one month.
    horizon : int
        Follow-up, months; a campaign with less is left out.

    Returns
    -------
    DataFrame
        As :func:`landmark` at the first of the campaign, with ``treated``; customers who agreed to marketing, where that
        is recorded.
    """
    import ibis

    missing = bank.require("customers", "contacts")
    if missing is not None:
        return missing
    c = bank.table("contacts")
    aimed = c.filter(~c.randomised & (c.purpose == "retain") & (c.cost > 0)).group_by("campaign_id")
    found = bank.frame(aimed.aggregate(first=lambda r: r.contacted_on.min(), last=lambda r: r.contacted_on.max(), n=lambda r: r.count())
                       .order_by(ibis.desc("n"), "campaign_id"))  # fmt: skip
    end = _day_after(bank)
    for row in found.itertuples():
        day, last = row.first.date(), row.last.date()
        if (last - day).days <= 31 and (end.year - day.year) * 12 + end.month - day.month >= horizon:
            frame = landmark(bank, day, horizon)
            if isinstance(frame, Missing):
                return frame
            who = bank.frame(c.filter(c.campaign_id == row.campaign_id).select("customer_id").distinct().order_by("customer_id"))
            consent = bank.table("customers").select("customer_id", "consent_marketing").order_by("customer_id")
            frame = frame.merge(bank.frame(consent), on="customer_id", how="left")
            if (frame["consent_marketing"] == "yes").any():
                frame = frame[frame["consent_marketing"] == "yes"]
            frame = frame.assign(treated=frame["customer_id"].isin(set(who["customer_id"])).astype(float))
            return frame.drop(columns="consent_marketing").reset_index(drop=True)
    return Missing(f"the bank '{bank.about.name}' has no aimed retention campaign with {horizon} months after it", ("contacts",))


# --- the life course ----------------------------------------------------------------------------------------------------

STAGES = ("not met", "declined", "won", "kept", "developed", "lost", "won back")
DEVELOPED = 3  # product families


def life_course(bank: Bank) -> dict[str, pd.DataFrame] | Missing:
    """Count people by stage at yearly dates, and by their whole sequence of stages.

    Parameters
    ----------
    bank : Bank
        With ``customers``; ``prospects`` and ``holdings`` where there are any.

    Returns
    -------
    dict
        ``paths``: one row per sequence of stages, a column per date and ``n``. ``stages``: ``date, stage, n``, counted for
        every date on its own by other queries. Stages: not met; declined (a prospect that was not won); won (a customer for
        less than a year); kept; developed (three product families or more, after the first year); lost; won back (a
        prospect won after having left).
    """
    import ibis
    import pandas as pd

    missing = bank.require("customers")
    if missing is not None:
        return missing
    first, end = bank.about.observation_start, _day_after(bank)
    dates = []
    while first is not None and _add_months(first, 12 * len(dates)) <= end:
        dates.append(_add_months(first, 12 * len(dates)))
    if len(dates) < 2:
        return Missing("a life course needs a year of observation", ("customers",))
    t = bank.table("customers").select("customer_id", "acquired_on", "observed_from", "left_on")
    t = t.left_join(_won_back(bank), "customer_id").drop("customer_id_right")
    t = t.left_join(_families_at(bank, dates), "customer_id").drop("customer_id_right")
    stage = {}
    for k, date in enumerate(dates):
        d = ibis.date(date.isoformat())
        stage[f"s{k}"] = ibis.cases(
            (t.observed_from > d, "not met"),
            (t.back_on <= d, "won back"),
            (t.left_on <= d, "lost"),
            (t.acquired_on > ibis.date(_add_months(date, -12).isoformat()), "won"),
            (t[f"f{k}"].fill_null(0) >= DEVELOPED, "developed"),
            else_="kept",
        )
    paths = t.select(**stage)
    if "prospects" in bank.tables:
        p = bank.table("prospects")
        p = p.filter(~p.won)
        declined = {
            f"s{k}": ibis.ifelse(p.first_contact_on > ibis.date(d.isoformat()), "not met", "declined") for k, d in enumerate(dates)
        }
        paths = paths.union(p.select(**declined))
    keys = list(stage)
    out = bank.frame(paths.group_by(keys).aggregate(n=lambda r: r.count()).order_by(keys))
    out["n"] = out["n"].astype("int64")
    out = out.rename(columns={f"s{k}": d.isoformat() for k, d in enumerate(dates)})
    return {"paths": out, "stages": pd.concat([_stages_at(bank, d) for d in dates], ignore_index=True)}


def _won_back(bank: Bank) -> ibis.Table:
    """Date on which a customer who had left was won again."""
    t = bank.table("customers")
    if "prospects" not in bank.tables:
        return t.filter(t.customer_id.isnull()).select("customer_id", back_on="left_on")
    p = bank.table("prospects")
    p = p.filter(p.won & p.customer_id.notnull()).select("customer_id", on="first_contact_on")
    p = p.inner_join(t.select("customer_id", "left_on"), "customer_id")
    p = p.filter(p.on > p.left_on)
    return p.group_by("customer_id").aggregate(back_on=p.on.min())


def _families_at(bank: Bank, dates: Sequence[datetime.date]) -> ibis.Table:
    import ibis

    if "holdings" not in bank.tables:
        t = bank.table("customers")
        return t.select("customer_id", **{f"f{k}": ibis.literal(0, "int64") for k in range(len(dates))})
    h = bank.table("holdings")
    held = {}
    for k, date in enumerate(dates):
        d = ibis.date(date.isoformat())
        there = (h.opened_on <= d) & (h.closed_on.isnull() | (h.closed_on > d))
        held[f"f{k}"] = h.product_family.nunique(where=there)
    return h.group_by("customer_id").aggregate(**held)


def _stages_at(bank: Bank, date: datetime.date) -> pd.DataFrame:
    """Count the stages of one date without following anybody."""
    import pandas as pd

    day, year = date.isoformat(), _add_months(date, -12).isoformat()
    count = {"not met": f"SELECT count(*) FROM customers WHERE observed_from > DATE '{day}'"}
    there = f"observed_from <= DATE '{day}' AND (left_on IS NULL OR left_on > DATE '{day}')"
    count["won"] = f"SELECT count(*) FROM customers WHERE {there} AND acquired_on > DATE '{year}'"
    older = f"SELECT customer_id FROM customers WHERE {there} AND acquired_on <= DATE '{year}'"
    many = (
        f"SELECT customer_id FROM holdings WHERE opened_on <= DATE '{day}' AND (closed_on IS NULL OR closed_on > DATE '{day}') "
        f"GROUP BY customer_id HAVING count(DISTINCT product_family) >= {DEVELOPED}"
    )
    count["developed"] = f"SELECT count(*) FROM ({older} INTERSECT {many})" if "holdings" in bank.tables else "SELECT 0"
    count["kept"] = f"SELECT count(*) FROM ({older} EXCEPT {many})" if "holdings" in bank.tables else f"SELECT count(*) FROM ({older})"
    gone = f"SELECT customer_id FROM customers WHERE left_on <= DATE '{day}'"
    back = "SELECT NULL WHERE false"
    if "prospects" in bank.tables:
        count["not met"] += f" UNION ALL SELECT count(*) FROM prospects WHERE NOT won AND first_contact_on > DATE '{day}'"
        count["declined"] = f"SELECT count(*) FROM prospects WHERE NOT won AND first_contact_on <= DATE '{day}'"
        back = (
            "SELECT DISTINCT c.customer_id FROM customers c JOIN prospects p USING (customer_id) "
            f"WHERE p.won AND p.first_contact_on > c.left_on AND p.first_contact_on <= DATE '{day}'"
        )
    count["won back"] = f"SELECT count(*) FROM ({back})"
    count["lost"] = f"SELECT count(*) FROM ({gone} EXCEPT {back})"
    rows = [{"date": day, "stage": s, "n": int(bank.frame(count[s]).sum().iloc[0])} for s in STAGES if s in count]
    return pd.DataFrame(rows)
