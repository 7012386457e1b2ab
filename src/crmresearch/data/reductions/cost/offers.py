"""Customers of retention campaigns, as study 3 needs them: offer, outcome, and what was known before."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import block_of, drawn, part_of
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    as_float,
    band_of,
    contribution_of,
    days_between,
    grouped,
    needs,
    open_before,
    ordered,
    tier_columns,
    tier_of,
)
from crmresearch.errors import InputError, Missing

UNKNOWN = "not recorded"
GROUPS = ("channel", "segment")  # groups of customers

CAMPAIGN_DAYS = 31  # contacts that are not drawn and spread over more days are upkeep, not a campaign
MOST_CAMPAIGNS = 8
TENURE_BANDS = (1, 3, 6, 10)  # years

Part = Callable[[Bank, datetime.date, int], Any]  # more by customer (``who``), by a campaign's day and a horizon


def recorded(bank: Bank, by: str) -> str:
    """Return the column of ``customers`` that records channel or segment (city tier, or the bank's own)."""
    return "acquisition_channel" if by == "channel" else tier_of(bank)


def group_of(bank: Bank, c: Any, by: str) -> Any:
    """Channel or segment of a customer, in words."""
    column = recorded(bank, by)
    value = c[column]
    return ("tier " + value.cast("string") if column == "city_tier" else value).fill_null(UNKNOWN)


def one_currency(bank: Bank, table: str) -> None:
    """Refuse a table whose own currency column holds more than one."""
    if "currency" in bank.table(table).columns:
        found = bank.frame(bank.table(table).select("currency").distinct().order_by("currency"))["currency"].tolist()
        if len(found) > 1:
            mixed = f"{table} mixes currencies ({', '.join(map(str, found))})"
            raise InputError(f"{mixed}; convert to {bank.about.currency} first")


def contacts_to(bank: Bank, purpose: str = "retain") -> Any:
    """Contacts of one purpose, within the observation."""
    one_currency(bank, "contacts")
    t = bank.table("contacts")
    a = bank.about
    return t.filter((t.purpose == purpose) & t.contacted_on.between(a.observation_start, a.observation_end))


def campaign_dates(bank: Bank, horizon_months: int, purpose: str = "retain") -> pd.DataFrame:
    """Campaigns that can be studied: drawn by lot, or made within a month; with their first day and kind."""
    t = contacts_to(bank, purpose)
    days = {"first": t.contacted_on.min(), "last": t.contacted_on.max()}
    f = grouped(bank, t, ["campaign_id"], **days, randomised=t.randomised.all(), n=t.customer_id.nunique())
    f["days"] = (f["last"] - f["first"]).dt.days
    seen = (pd.Timestamp(bank.about.observation_end) - f["last"]).dt.days / DAYS_PER_MONTH
    f = f[(seen >= horizon_months - 0.1) & (f["randomised"] | (f["days"] <= CAMPAIGN_DAYS))]
    chosen = f.sort_values(["n", "campaign_id"], ascending=[False, True]).head(MOST_CAMPAIGNS)
    return chosen.sort_values("campaign_id").reset_index(drop=True)


@needs("customers.left_on", "contacts")
def campaigns(bank: Bank, *, horizon_months: int = 12) -> pd.DataFrame | Missing:
    """One row per customer and retention campaign he could have been part of.

    Parameters
    ----------
    bank : Bank
        With ``customers`` (who left: without it, nobody would have) and ``contacts``; more tables give more
        characteristics.
    horizon_months : int
        Follow-up needed after the last contact of a campaign.

    Returns
    -------
    DataFrame
        ``block``, ``campaign_id``, ``arm``, ``treated``, ``randomised``, ``cost``, ``responded``, ``left``,
        ``months`` (to leaving or the end of observation), ``value_before`` (contribution of the twelve months before
        that of the first contact) and ``value_after`` (of the twelve from it on; nothing after leaving), and
        ``x_...``: what was known before the first contact.

    Notes
    -----
    Of a campaign that was not drawn, customers who could have been contacted are added: there at the time, with the
    same answer about marketing as somebody contacted.
    """
    known = campaign_dates(bank, horizon_months)
    if known.empty:
        return Missing(f"no retention campaign was followed for {horizon_months} months", ("contacts",))
    return campaign_rows(bank, known, horizon_months)


def campaign_rows(
    bank: Bank, known: pd.DataFrame, horizon_months: int, purpose: str = "retain", also: tuple[Part, ...] = ()
) -> pd.DataFrame:
    """Rows of :func:`campaigns` for some campaigns; with ``also``, what these parts tell of the customers, too."""
    t, aimed = contacts_to(bank, purpose), int((~known["randomised"]).sum())
    lot = t.filter(t.campaign_id.isin(known.loc[known["randomised"], "campaign_id"].tolist()))
    rows = [lot.select("customer_id", "campaign_id").distinct(), *aimed * [bank.table("customers")]]  # at most
    if known["n"].sum() + aimed * bank.rows("customers") > bank.most:
        bank = part_of(bank, rows)
    parts = []
    for row in known.itertuples():

        def build(row: Any = row) -> Any:
            return _campaign(bank, row, horizon_months, purpose, also).order_by("id").drop("id")

        request = ("campaign", row.campaign_id, row.first, bool(row.randomised), horizon_months, purpose)
        parts.append(bank.frame(build()) if also else bank.compiled(request, build))
    out = pd.concat(parts, ignore_index=True)
    constant = [c for c in out.columns if str(c).startswith("x_") and out[c].nunique() < 2]
    out = ordered(bank, out, "band") if "band" in out else out
    groups = {by: out[by].astype("category") for by in GROUPS if by in out}
    return drawn(bank, out.drop(columns=constant).assign(**groups))


def _campaign(bank: Bank, row: Any, horizon_months: int, purpose: str, also: tuple[Part, ...]) -> Any:
    import ibis

    day = row.first.date()
    t = contacts_to(bank, purpose)
    t = t.filter(t.campaign_id == row.campaign_id)
    arm = t.group_by("customer_id").aggregate(
        arm=t.arm.min(), treated=(t.arm != "control").any().cast("int8"), cost=t.cost.sum(),
        responded=t.responded.cast("int8").max(),
    )  # fmt: skip
    c = bank.table("customers")
    end = ibis.date(bank.about.observation_end)
    there = (c.acquired_on <= day) & (c.observed_from <= day) & (c.left_on.isnull() | (c.left_on > day))
    c = c.filter(there)
    j = c.left_join(arm.rename(who="customer_id"), c.customer_id == arm.customer_id)
    if row.randomised:
        j = j.filter(j.treated.notnull())
    else:
        reached = c.semi_join(arm, "customer_id").select("consent_marketing").distinct()
        j = j.semi_join(reached, "consent_marketing")
    leaves = j.left_on.notnull() & (j.left_on <= end)
    tenure = days_between(ibis.date(day), j.acquired_on) / DAYS_PER_YEAR
    x = {"x_tenure": (tenure + 1).ln()}
    for years in TENURE_BANDS:
        x[f"x_tenure_below_{years}"] = (tenure < years).cast("int8")
    x |= {f"x_{name}": of.cast("int8") for name, of in tier_columns(bank, j, 2, 3).items()}
    if bank.require("customers.birth_year") is None:
        x["x_age"] = as_float(day.year - j.birth_year).fill_null(45.0)
    if bank.require("customers.acquisition_channel") is None:
        for name in ("online", "agent", "referral"):
            x[f"x_{name}"] = (j.acquisition_channel == name).fill_null(False).cast("int8")
    base = j.select(
        id=j.customer_id,
        block=block_of(j.customer_id, bank.pseudonymous),
        campaign_id=ibis.literal(str(row.campaign_id)),
        arm=j.arm.fill_null("control"),
        treated=j.treated.fill_null(0),
        randomised=ibis.literal(bool(row.randomised)),
        cost=as_float(j.cost).fill_null(0.0),
        responded=j.responded,
        left=leaves.cast("int8"),
        months=days_between(leaves.ifelse(j.left_on, end), ibis.date(day)) / DAYS_PER_MONTH,
        **x,
        **{by: group_of(bank, j, by) for by in GROUPS if bank.require(f"customers.{recorded(bank, by)}") is None},
    )
    known = (families_before(bank, day), _complaints(bank, day, horizon_months), _value(bank, day))
    for part in (*known, *(tell(bank, day, horizon_months) for tell in also)):
        if not isinstance(part, Missing):
            base = base.left_join(part, base.id == part.who).drop("who")
    filled = [n for n in base.columns if n.startswith("x_") or n.endswith(("_before", "_after"))]
    return base.mutate(**{n: as_float(base[n]).fill_null(0.0) for n in filled})


@needs("holdings")
def families_before(bank: Bank, day: Any) -> Any:
    """Product families held when a day begins, by customer."""
    h = bank.table("holdings")
    h = h.filter(open_before(h, day))
    return h.group_by(who=h.customer_id).aggregate(x_families=h.product_family.nunique())


@needs("service")
def _complaints(bank: Bank, day: Any, horizon_months: int) -> Any:
    """Complaints before a day (unresolved: in the year before), and in three months up to a horizon after it."""
    s = bank.table("service")
    since, year, late, end = (
        (pd.Timestamp(day) + pd.DateOffset(months=k)).date() for k in (-3, -12, horizon_months - 3, horizon_months)
    )
    before, after = (s.occurred_on >= year) & (s.occurred_on < day), (s.occurred_on >= late) & (s.occurred_on < end)
    s = s.filter((s.kind == "complaint") & (before | after))
    early = s.occurred_on < day
    more = {} if bank.require("service.resolved") else {"x_unmet_complaint": (early & ~s.resolved).any().cast("int8")}
    return s.group_by(who=s.customer_id).aggregate(
        x_complaint=(early & (s.occurred_on >= since)).any().cast("int8"),
        complaint_after=(~early).any().cast("int8"),
        **more,
    )


@needs("monthly")
def _value(bank: Bank, day: Any) -> Any:
    m = bank.table("monthly")
    start = pd.Timestamp(day).replace(day=1)
    now, year, quarter, end = ((start + pd.DateOffset(months=k)).date() for k in (0, -12, -3, 12))
    m = m.filter((m.month >= year) & (m.month < end))
    early, money = m.month < now, {}
    if bank.require("monthly.contribution") is None:
        made = contribution_of(bank, m)
        money["value_before"] = as_float(made.sum(where=early))
        if end <= bank.about.observation_end + datetime.timedelta(days=1):  # the year after was seen to its end
            money["value_after"] = as_float(made.sum(where=~early))
    balance = as_float(m.balance.mean(where=early & (m.month >= quarter)))
    g = m.group_by(who=m.customer_id).aggregate(balance=balance, **money)
    own = band_of(bank, g.balance)
    return g.select(
        "who", *money, x_balance=(g.balance.clip(lower=0) + 1).ln(), **({} if own is None else {"band": own})
    )
