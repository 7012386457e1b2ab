"""Customers of campaigns drawn by lot and what came of it: the first half of notebook 05."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.cost.offers import campaign_dates, campaign_rows, families_before
from crmresearch.data.reductions.expressions import (
    DAYS_PER_MONTH,
    add_months,
    as_float,
    equal_chances,
    first_of_month,
    month_number,
    needs,
    whole_months,
)
from crmresearch.errors import Missing
from crmresearch.estimators.measurement.model import playing


@needs("customers.left_on", "contacts")
def offers(bank: Bank, *, purpose: str = "retain", horizon_months: int = 12) -> pd.DataFrame | Missing:
    """One row per customer and campaign of one purpose that was drawn by lot.

    Parameters
    ----------
    bank : Bank
        With ``customers`` (who left) and ``contacts``; more tables give more columns.
    purpose : str
        ``retain`` or ``develop``.
    horizon_months : int
        Follow-up needed after the last contact of a campaign.

    Returns
    -------
    DataFrame
        As :func:`.cost.campaigns`, and as far as the bank brings it: ``families_after`` (product families held when the
        horizon ends), ``balance_before`` and ``balance_after`` (at the end of the month before that of the contact, and
        of the last month of the horizon), ``outside`` (the bank's guess of what is held elsewhere, from before), and of
        the first survey wave after the contact ``asked`` (thinned to equal chances, as all answers are), ``answer``
        (mean of the items on satisfaction) and ``wave_months`` (from the contact to the wave; the others' are empty).
    """
    known = campaign_dates(bank, horizon_months, purpose)
    known = known[known["randomised"]]
    if known.empty:
        why = f"no campaign to {purpose} was drawn by lot and followed for {horizon_months} months"
        return Missing(why, ("contacts",))
    return campaign_rows(bank, known, horizon_months, purpose, (_families, _balances, _outside, _answers))


@needs("holdings")
def _families(bank: Bank, day: datetime.date, horizon_months: int) -> Any:
    end = (pd.Timestamp(day) + pd.DateOffset(months=horizon_months)).date()
    held = families_before(bank, end)
    return held if isinstance(held, Missing) else held.rename(families_after="x_families")


@needs("monthly")
def _balances(bank: Bank, day: datetime.date, horizon_months: int) -> Any:
    m, told = bank.table("monthly"), {}
    before, after = (add_months(day, k) for k in (-1, horizon_months - 1))
    for name, month in (("balance_before", before), ("balance_after", after)):
        if whole_months(bank)[0] <= month_number(month) <= whole_months(bank)[1]:
            told[name] = as_float(m.balance.sum(where=m.month == month))
    if not told:
        return Missing("no balance is seen around the campaign", ("monthly",))
    return m.filter(m.month.isin([before, after])).group_by(who=m.customer_id).aggregate(**told)


@needs("customers.outside_estimate")
def _outside(bank: Bank, day: datetime.date, horizon_months: int) -> Any:
    c = bank.table("customers")
    return c.select(who=c.customer_id, outside=as_float(c.outside_estimate))


@needs("survey.wave_on")
def _answers(bank: Bank, day: datetime.date, horizon_months: int) -> Any:
    """Who was asked in the first wave within the horizon, and the mean of his answers on satisfaction."""
    import ibis

    t, name = equal_chances(bank, bank.table("survey")), playing("satisfaction", bank.about.constructs)
    end = first_of_month(month_number(day) + horizon_months)
    wave = bank.scalar(t.wave_on.min(where=(t.wave_on > day) & (t.wave_on < end)))
    if name is None or pd.isna(wave):
        return Missing("no wave after the campaign asks about satisfaction", ("survey",))
    block = bank.about.constructs[name]
    items = block["items"] if isinstance(block, Mapping) else block
    turned = block.get("reversed", ()) if isinstance(block, Mapping) else ()
    answers = [as_float(-t[i] if i in turned else t[i]) for i in items]
    mean = sum(answers[1:], start=answers[0]) / len(answers)  # missing where an item is
    told, asked = ibis.ifelse(t.responded, mean, ibis.null()), t.sampled.cast("int8")
    after = (pd.Timestamp(wave) - pd.Timestamp(day)).days / DAYS_PER_MONTH
    return t.filter(t.wave_on == wave).select(
        who=t.customer_id, asked=asked, answer=told, wave_months=ibis.literal(after)
    )
