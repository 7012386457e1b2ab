"""One row per customer at a date: what was known before it, what followed; and campaigns, drawn or aimed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.engines import earliest
from crmresearch.data.reductions.blocks import set_of
from crmresearch.data.reductions.churn.histories import UNMET_MONTHS, tidy, trouble
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    MOBILE,
    add_months,
    as_float,
    beside,
    called,
    day_after,
    days_between,
    exit_within,
    grouped,
    month_number,
    needs,
    open_on,
    tier_columns,
)
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis


@needs("customers")
def landmark_dates(bank: Bank, horizon: int) -> tuple[datetime.date, datetime.date] | Missing:
    """Return two prediction dates: two horizons and one horizon before the observation ends.

    A model fitted on what followed the first is scored on what followed the second, so nothing of the future is used.
    """
    start, end = bank.about.observation_start, day_after(bank)
    if month_number(end) - month_number(start) < 2 * horizon + 6:
        split = f"an out-of-time split needs {2 * horizon + 6} observed months at a horizon of {horizon}"
        return Missing(split, ("customers",))
    return add_months(end, -2 * horizon), add_months(end, -horizon)


@needs("customers")
def early_landmark(bank: Bank, months: int = 24) -> tuple[datetime.date, int] | Missing:
    """Return a landmark ``months`` into the observation, and the months of follow-up after it (at least twelve)."""
    start, end = bank.about.observation_start, day_after(bank)
    left = month_number(end) - month_number(start) - months
    if left < 12:
        early = f"a landmark {months} months into the observation needs {months + 12} observed months"
        return Missing(early, ("customers",))
    return add_months(start, months), left


@needs("customers", per="customers")
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
        ``customer_id, exit`` (months since the landmark), ``event, cause, tenure`` (years); where the tables are
        there: ``families`` (product families held), ``unmet`` (complaints and unresolved requests of six months),
        ``complaint`` (in three months), ``unresolved`` (whether a request of twelve months was left so),
        ``log_balance`` and ``balance_change`` (log, against three months earlier), ``recency`` (months since the last
        transaction, 12 at most), ``activity`` (log of one plus transactions in three months), ``mobile``, ``tier_*``,
        ``channel_*``, ``age``, ``contacted`` (retention contacts of the twelve months to a month ago),
        ``just_contacted`` (one since, the landmark included).
    """
    import ibis

    def known() -> ibis.Table:
        day = ibis.date(on)
        t = bank.table("customers")
        t = t.filter((t.observed_from <= day) & (t.left_on.isnull() | (t.left_on > day)))
        out = t.select(
            "customer_id",
            **exit_within(bank, t.left_on, t.exit_cause, day, horizon),
            tenure=days_between(day, t.acquired_on) / DAYS_PER_YEAR,
            **_who(bank, t, on),
        )
        for part in _known_before(bank, on, day):
            names = [c for c in part.columns if c != "customer_id"]
            out = beside(out, part, "customer_id")
            out = out.mutate(**{c: out[c].fill_null(12.0 if c == "recency" else 0) for c in names})
        return out.filter(out.exit > 0).order_by("customer_id")

    frame = tidy(bank.compiled(("landmark", on, horizon), known))
    if frame.empty:
        return Missing(f"no customer of the bank '{bank.name}' is present on {on}", ("customers",))
    return frame


def _who(bank: Bank, t: ibis.Table, on: datetime.date) -> Mapping[str, Any]:
    brought = bank.columns("customers")
    out: dict[str, Any] = {name: of.cast("float64") for name, of in tier_columns(bank, t, 3).items()}
    if "birth_year" in brought:
        out["age"] = as_float(on.year - t.birth_year).fill_null(45.0)
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
        h = h.filter(open_on(h, day))
        parts.append(h.group_by("customer_id").aggregate(families=as_float(h.product_family.nunique())))
    if "service" in bank.tables and "resolved" in bank.columns("service"):
        s = bank.table("service")
        s = s.filter((s.occurred_on < day) & (s.occurred_on >= ibis.date(add_months(on, -12))) & trouble(s))
        within = {k: s.occurred_on >= ibis.date(add_months(on, -k)) for k in (3, UNMET_MONTHS)}
        parts.append(
            s.group_by("customer_id").aggregate(
                unmet=as_float(within[UNMET_MONTHS].sum()),
                complaint=as_float(((s.kind == "complaint") & within[3]).any()),
                unresolved=as_float((~s.resolved).fill_null(False).any()),
            )
        )
    if "monthly" in bank.tables:
        m = bank.table("monthly")
        now, then = (ibis.date(add_months(on, -k)) for k in (1, 4))
        level = {"log_balance": now, "earlier": then}
        floor = {k: ibis.greatest(as_float(m.balance).max(where=m.month == v), 1.0).log() for k, v in level.items()}
        b = m.filter((m.month == now) | (m.month == then)).group_by("customer_id").aggregate(**floor)
        change = ibis.greatest(ibis.least(b.log_balance - b.earlier, 2.0), -2.0)
        parts.append(b.select("customer_id", "log_balance", balance_change=change))
    if "transactions" in bank.tables:
        x = bank.table("transactions")
        x = x.filter((x.occurred_on < day) & (x.occurred_on >= ibis.date(add_months(on, -12))))
        recent = x.occurred_on >= ibis.date(add_months(on, -3))
        columns: dict[str, Any] = {
            "recency": days_between(day, x.occurred_on.max()) / DAYS_PER_MONTH,
            "activity": (1 + as_float(recent.sum())).log(),
        }
        if "channel" in bank.columns("transactions"):
            columns["mobile"] = called(x.channel, MOBILE).fill_null(False).any().cast("float64")
        parts.append(x.group_by("customer_id").aggregate(**columns))
    if bank.require("customers", "contacts") is None:
        c = bank.table("contacts")
        c = c.filter((c.contacted_on <= day) & (c.contacted_on >= ibis.date(add_months(on, -12))))
        c = c.filter((c.purpose == "retain") & (c.arm != "control"))
        just = c.contacted_on >= ibis.date(add_months(on, -1))
        counted = {"contacted": as_float((~just).sum()), "just_contacted": as_float(just.any())}
        parts.append(c.group_by("customer_id").aggregate(**counted))
    return parts


@needs("customers", "contacts")
def arms(bank: Bank, *, horizon: int = 12, by_block: bool = False) -> pd.DataFrame | Missing:
    """Count customers of randomised retention campaigns by arm and by what happened after the contact.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``.
    horizon : int
        Follow-up, months since the contact.
    by_block : bool
        Count hundredths of the customers, drawn by lot (``block``), apart.

    Returns
    -------
    DataFrame
        ``campaign_id, arm, exit, event, cause, n``; a customer's first contact of each campaign counts.
    """
    c = bank.table("contacts")
    c = c.filter(c.randomised & (c.purpose == "retain"))
    c = c.group_by("customer_id", "campaign_id").aggregate(on=c.contacted_on.min(), arm=earliest(c.arm, c.contacted_on))
    t = c.inner_join(bank.table("customers").select("customer_id", "left_on", "exit_cause"), "customer_id")
    t = t.filter(t.left_on.isnull() | (t.left_on > t.on))
    who = {"block": set_of(bank, t)} if by_block else {}
    t = t.select("campaign_id", "arm", **who, **exit_within(bank, t.left_on, t.exit_cause, t.on, horizon))
    t = t.filter(t.exit > 0)
    frame = tidy(grouped(bank, t, t.columns, n=t.count()))
    if frame.empty:
        return Missing(f"no retention contact of the bank '{bank.name}' was randomised", ("contacts",))
    return frame


@needs("customers", "contacts", per="customers")
def targeted(bank: Bank, *, horizon: int = 12) -> pd.DataFrame | Missing:
    """Rows at the date of the largest aimed (not drawn) retention campaign: who was contacted and what followed.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``; a campaign counts if all its contacts fall into one month.
    horizon : int
        Follow-up, months; a campaign with less is left out.

    Returns
    -------
    DataFrame
        As :func:`landmark` at the first of the campaign, with ``treated``; customers who agreed to marketing, where
        that is recorded.
    """
    c = bank.table("contacts")
    aimed = c.filter(~c.randomised & (c.purpose == "retain") & (c.arm != "control"))
    days = {"first": aimed.contacted_on.min(), "last": aimed.contacted_on.max(), "n": aimed.count()}
    found = grouped(bank, aimed, ["campaign_id"], **days).sort_values("n", ascending=False, kind="stable")
    end = day_after(bank)
    for row in found.itertuples():
        day, last = (pd.to_datetime(str(v)).date() for v in (row.first, row.last))
        if (last - day).days <= 31 and month_number(end) - month_number(day) >= horizon:
            frame = landmark(bank, day, horizon)
            if isinstance(frame, Missing):
                return frame
            reached = grouped(bank, c.filter(c.campaign_id == row.campaign_id))["customer_id"]
            people = bank.table("customers")
            agreed = grouped(bank, people.filter(people.consent_marketing == "yes"))["customer_id"]
            if frame["customer_id"].isin(agreed).any():
                frame = frame[frame["customer_id"].isin(agreed)].reset_index(drop=True)
            return frame.assign(treated=frame["customer_id"].isin(reached).astype(float))
    after = f"the bank '{bank.name}' has no aimed retention campaign with {horizon} months after it"
    return Missing(after, ("contacts",))
