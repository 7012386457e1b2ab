"""What study 4 takes out of the engine: the survey as it is, and the survey joined to accounts before and after it.

The grain is the survey's own, one row per invited customer and wave; accounts come in as sums made inside the engine.
Nothing before a wave looks at what comes after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import whole_of
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    DAYS_PER_YEAR,
    DIGITAL,
    as_float,
    beside,
    called,
    contribution_of,
    days_between,
    equal_chances,
    month_number,
    needs,
    open_before,
    tier_of,
    whole_months,
)
from crmresearch.data.rules import SEGMENT
from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis


LINKED = ("survey.wave_on", "customers")  # what answers are joined to accounts by


@needs("survey", per="survey")
def survey(bank: Bank, *, wave: int = 0) -> pd.DataFrame | Missing:
    """Return the survey table, one row per invited customer and wave, with ``wave`` numbered from 1.

    Where some customers were asked more often than others (``weight``), they are thinned to equal chances.

    ``city_tier``, or ``segment`` of the bank's own, comes along where customers have one and the survey carries their
    ids.

    Parameters
    ----------
    bank : Bank
        With ``survey``.
    wave : int
        Only this wave; 0 for all.
    """
    import ibis

    t = equal_chances(bank, _waves(bank))
    groups = [tier_of(bank)] if bank.require(f"customers.{tier_of(bank)}") is None else []
    if bank.require(*LINKED) is None and groups:
        t = beside(t, bank.table("customers").select("customer_id", *groups), "customer_id")
    kept = [c for c in t.columns if c in (*bank.columns("survey"), "wave", *groups)]
    frame = bank.frame(t.select(*kept).order_by(ibis.asc("wave"), "customer_id"))
    if wave and wave not in set(frame["wave"]):
        return Missing(f"the survey has no wave {wave}; it has {frame['wave'].nunique()}", ("survey",))
    return frame[frame["wave"] == wave].reset_index(drop=True) if wave else frame


def _waves(bank: Bank) -> ibis.Table:
    """Return the survey with its waves numbered from 1; the window is over waves, not answers."""
    import ibis

    t = bank.table("survey")
    if bank.require("survey.wave_on") is not None:
        return t.mutate(wave=ibis.literal(1, type="int64"))
    waves = t.select("wave_on").distinct()
    return beside(t, waves.mutate(wave=ibis.dense_rank().over(ibis.window(order_by=waves.wave_on)) + 1), "wave_on")


@needs(per="survey")
def joined(bank: Bank, *, horizon_months: int = 12) -> pd.DataFrame | Missing:
    """Survey invitations with what accounts knew before the wave and what happened after it.

    Parameters
    ----------
    bank : Bank
        With ``survey`` (dated, with customer ids) and ``customers``; ``monthly``, ``holdings``, ``service`` and
        ``transactions`` add columns.
    horizon_months : int
        Length of the follow-up after the month of the wave, 1 to 60.

    Returns
    -------
    DataFrame
        The survey's columns and

        * before: ``tenure_years``, ``age``, ``city_tier`` (or ``segment``), ``balance`` (end of the month before),
          ``contribution_before`` (twelve months before, per year), ``families``, ``complaint`` (in the six
          calendar months before, 0/1), ``digital_share`` (of the transactions in them);
        * after: ``exit_months`` (from the wave to exit or to the end of the observation), ``event`` (voluntary exit;
          any exit where causes are unknown), ``left`` (within the horizon; missing where follow-up is shorter,
          or where the bank does not tell who left),
          ``contribution_after`` (per year, over the horizon; missing where it was not observed in full, and 0 for
          months after an exit), ``referrals`` (new customers who name this one, up to the next wave) and
          ``exposure_years``.

    Raises
    ------
    InputError
        For a horizon outside 1 to 60 months.
    """
    if not 1 <= horizon_months <= 60:
        raise InputError(f"horizon_months is {horizon_months}; allowed are 1 to 60")
    missing = bank.require(*LINKED)
    if missing is not None:
        return missing
    return bank.compiled(("joined", horizon_months), lambda: _joined(bank, horizon_months))


def _joined(bank: Bank, horizon_months: int) -> ibis.Table:
    import ibis

    end = ibis.date(bank.about.observation_end)
    t = equal_chances(bank, _waves(bank))
    key = t.select("customer_id", "wave", "wave_on")
    own = [c for c in t.columns if c in (*bank.columns("survey"), "wave")]
    t = t.select(*own)
    c = bank.table("customers")
    kept = ("customer_id", "acquired_on", "left_on", "birth_year", tier_of(bank), "consent_marketing")
    t = t.inner_join(c.select(*kept, voluntary=_voluntary(bank, c)), "customer_id")
    t = t.filter(t.left_on.isnull() | (t.left_on > t.wave_on)).inner_join(_next_wave(bank), "wave_on")
    stop = ibis.coalesce(t.left_on, end)
    gone = t.left_on.notnull() & (month_number(t.left_on) - month_number(t.wave_on) <= horizon_months)
    whole = whole_months(bank)[1] - month_number(t.wave_on) >= horizon_months
    t = t.mutate(
        tenure_years=days_between(t.wave_on, t.acquired_on) / DAYS_PER_YEAR,
        age=(t.wave_on.year() - t.birth_year).cast("float64"),
        exit_months=days_between(stop, t.wave_on) / DAYS_PER_MONTH,
        event=(t.left_on.notnull() & t.voluntary).cast("int64"),
        left=ibis.ifelse(whole & (bank.require("customers.left_on") is None), gone.cast("float64"), None),
        whole=whole,
    )
    extras = [add(bank, key) for add in (_families, _complaints, _digital, _referrals)]
    for extra in (_accounts(bank, key, horizon_months), *extras):
        if not isinstance(extra, Missing):
            t = beside(t, extra, "customer_id", "wave")
    fill: dict[str, Any] = {n: t[n].fill_null(0) for n in ("families", "complaint", "referrals") if n in t.columns}
    if "contribution_after" in t.columns:
        fill["contribution_after"] = ibis.ifelse(t.whole, t.contribution_after.fill_null(0.0), None)
    if "referrals" in t.columns:
        seen = ibis.least(ibis.coalesce(t.left_on, end), t.until)
        fill["exposure_years"] = days_between(seen, t.wave_on) / DAYS_PER_YEAR
    drop = ["acquired_on", "left_on", "birth_year", "voluntary", "whole", "until"]
    return t.mutate(**fill).drop(*drop).order_by("wave", "customer_id")


def _voluntary(bank: Bank, customers: ibis.Table) -> Any:
    """Whether a customer left of his own accord; whether at all, where the bank tells no causes."""
    if bank.require("customers.exit_cause") is not None:
        return customers.left_on.notnull()
    return (customers.exit_cause == "voluntary").fill_null(False)


@needs("monthly")
def _accounts(bank: Bank, key: ibis.Table, horizon: int) -> ibis.Table:
    m = bank.table("monthly")
    known = bank.require("monthly.contribution") is None
    m = m.select("customer_id", "month", "balance", **({"contribution": contribution_of(bank, m)} if known else {}))
    j = key.inner_join(m, "customer_id")
    j = j.mutate(gap=month_number(j.month) - month_number(j.wave_on))
    j = j.filter(j.gap.between(-12, horizon))
    before = j.gap.between(-12, -1)
    columns: dict[str, Any] = {"balance": as_float(j.balance.max(where=j.gap == -1))}
    if known:
        columns["contribution_before"] = as_float(j.contribution.sum(where=before)) * 12 / before.sum().nullif(0)
        after = as_float(j.contribution.sum(where=j.gap.between(1, horizon)))
        columns["contribution_after"] = after * (12 / horizon)
    return j.group_by("customer_id", "wave").aggregate(**columns)


@needs("holdings")
def _families(bank: Bank, key: ibis.Table) -> ibis.Table:
    h = bank.table("holdings").select("customer_id", "product_family", "opened_on", "closed_on")
    j = key.inner_join(h, "customer_id")
    j = j.filter(open_before(j, j.wave_on))
    return j.group_by("customer_id", "wave").aggregate(families=j.product_family.nunique())


@needs("service.kind")
def _complaints(bank: Bank, key: ibis.Table) -> ibis.Table:
    s = bank.table("service")
    j = key.inner_join(s.filter(s.kind == "complaint").select("customer_id", "occurred_on"), "customer_id")
    j = j.filter((month_number(j.wave_on) - month_number(j.occurred_on)).between(1, 6))
    return j.group_by("customer_id", "wave").aggregate(complaint=(j.count() > 0).cast("int64"))


@needs("transactions.channel")
def _digital(bank: Bank, key: ibis.Table) -> ibis.Table:
    s = bank.table("transactions").select("customer_id", "occurred_on", "channel")
    j = key.inner_join(s, "customer_id")
    j = j.filter((month_number(j.wave_on) - month_number(j.occurred_on)).between(1, 6) & j.channel.notnull())
    return j.group_by("customer_id", "wave").aggregate(digital_share=as_float(called(j.channel, DIGITAL)).mean())


def _next_wave(bank: Bank) -> ibis.Table:
    """Return each wave with the day the next one begins, or the end of the observation."""
    import ibis

    waves = whole_of(bank).table("survey").select("wave_on").distinct()
    following = waves.wave_on.lead().over(ibis.window(order_by=waves.wave_on))
    return waves.mutate(until=ibis.coalesce(following, ibis.date(bank.about.observation_end)))


@needs("customers.referrer_id")
def _referrals(bank: Bank, key: ibis.Table) -> ibis.Table:
    """Count new customers who name this one, from its wave to the next, so that none counts twice."""
    c = whole_of(bank).table("customers")  # whoever names one of these people
    new = c.filter(c.referrer_id.notnull()).select(customer_id=c.referrer_id, won_on=c.acquired_on)
    j = key.inner_join(new, "customer_id")
    j = j.inner_join(_next_wave(bank), "wave_on")
    j = j.filter((j.won_on > j.wave_on) & (j.won_on <= j.until))
    return j.group_by("customer_id", "wave").aggregate(referrals=j.count())


@needs("customers", per="customers")
def referred(bank: Bank, *, years: int = 3) -> pd.DataFrame | Missing:
    """Customers won within the observation, referred or not, with exit and contribution by year since they were won.

    Parameters
    ----------
    bank : Bank
        With ``customers`` (``acquisition_channel`` or ``referrer_id``); ``monthly`` adds contribution.
    years : int
        Years since acquisition, 1 to 10.

    Returns
    -------
    DataFrame
        ``customer_id``, ``referred`` (0/1), ``cohort`` (half-year of acquisition), ``city_tier`` (or ``segment``),
        ``age_band``,
        ``exit_months``, ``event`` (voluntary), and ``contribution_1`` ... (sum over the months of that year in which
        the customer was there; missing where the year was not observed in full or the customer had left before it).
    """
    if not 1 <= years <= 10:
        raise InputError(f"years is {years}; allowed are 1 to 10")
    by_channel = bank.require("customers.acquisition_channel") is None
    by_person = bank.require("customers.referrer_id") is None
    if not (by_channel or by_person):
        return Missing("customers carry neither acquisition_channel nor referrer_id", ("customers",))
    return bank.compiled(("referred", years), lambda: _referred(bank, years, by_channel, by_person))


def _referred(bank: Bank, years: int, by_channel: bool, by_person: bool) -> ibis.Table:
    import ibis

    c = bank.table("customers")
    end = ibis.date(bank.about.observation_end)
    flag = ibis.literal(False)
    if by_channel:
        flag = flag | (c.acquisition_channel == "referral").fill_null(False)
    if by_person:
        flag = flag | c.referrer_id.notnull()
    stop = ibis.coalesce(c.left_on, end)
    band = (as_float(c.acquired_on.year() - c.birth_year) / 15).floor()
    t = c.filter(c.acquired_on.between(bank.about.observation_start, bank.about.observation_end)).select(
        "customer_id",
        "acquired_on",
        referred=flag.cast("int64"),
        cohort=(c.acquired_on.year() * 2 + (c.acquired_on.month() > 6).cast("int64")),
        **{tier_of(bank): c[tier_of(bank)].fill_null("" if tier_of(bank) == SEGMENT else 0)},
        age_band=ibis.ifelse(c.birth_year.isnull(), -1, band).cast("int64"),
        exit_months=days_between(stop, c.acquired_on) / DAYS_PER_MONTH,
        event=_voluntary(bank, c).cast("int64"),
        left_on=c.left_on,
    )
    if bank.require("monthly.contribution") is None:
        m = bank.table("monthly")
        m = m.select("customer_id", "month", contribution=contribution_of(bank, m))
        j = t.select("customer_id", "acquired_on").inner_join(m, "customer_id")
        j = j.mutate(since=month_number(j.month) - month_number(j.acquired_on))
        sums = {
            f"contribution_{y}": as_float(j.contribution.sum(where=j.since.between(12 * y - 11, 12 * y)))
            for y in range(1, years + 1)
        }
        t = beside(t, j.group_by("customer_id").aggregate(**sums), "customer_id")
        seen = month_number(end) - month_number(t.acquired_on)
        lived = ibis.ifelse(t.left_on.isnull(), 10_000, month_number(t.left_on) - month_number(t.acquired_on))
        for y, name in enumerate(sums, 1):
            there = (seen >= 12 * y) & (lived > 12 * (y - 1))
            sums[name] = ibis.ifelse(there, t[name].fill_null(0.0), None)
        t = t.mutate(**sums)
    return t.drop("acquired_on", "left_on").order_by("customer_id")
