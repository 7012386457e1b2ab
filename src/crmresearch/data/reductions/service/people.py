"""Customers near a threshold, their visits and answers, and what managers make of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.blocks import block_of
from crmresearch.data.reductions.expressions import (
    DAYS_PER_YEAR,
    as_float,
    contribution_of,
    days_between,
    grouped,
    month_number,
    needs,
)
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis

QUARTER, QUARTER_DAYS = 3, 92
BAND = 5  # minutes to which waiting is rounded before customers are counted


# --- a threshold ------------------------------------------------------------------------------------------------------


@needs("survey.wave_on", "monthly")
def near_threshold(bank: Bank, *, threshold: float, answer: str = "satisfaction") -> pd.DataFrame | Missing:
    """Invited customers with the balance that decides on priority in the month of the wave.

    Parameters
    ----------
    bank : Bank
    threshold : float
        Month-end balance that grants priority from the next month on.
    answer : str
        Declared construct of the survey, or the stem of the names of its items.

    Returns
    -------
    DataFrame
        ``unit`` (a customer), ``x`` (log of the balance at the end of the month before the wave, over the threshold),
        ``answer`` (mean of the items, reversed ones turned; missing where not answered), ``weight`` (one over the
        chance of being asked), and ``age`` and ``tenure`` where known. Balances of nothing and below are left out.
    """
    import ibis

    t = bank.table("survey")
    items = _items(bank, t, answer)
    if not items:
        return Missing(f"the survey of the bank '{bank.name}' has no number called '{answer}'", ("survey",))
    told = sum(sign * as_float(t[name]) for name, sign in items.items()) / len(items)
    known = bank.require("survey.weight") is None
    t = t.select(
        "customer_id",
        "wave_on",
        month=month_number(t.wave_on) - 1,
        answer=told,
        weight=as_float(t.weight).fill_null(1.0) if known else ibis.literal(1.0),
    )
    m = bank.table("monthly")
    t = t.inner_join(_logs(m, threshold), ["customer_id", "month"])
    x = {}
    if bank.require("customers") is None:
        c = bank.table("customers")
        t = t.inner_join(c.select("customer_id", "acquired_on", "birth_year"), "customer_id")
        x["tenure"] = days_between(t.wave_on, t.acquired_on) / DAYS_PER_YEAR
        if bank.require("customers.birth_year") is None:
            x["age"] = as_float(t.wave_on.year() - t.birth_year)
    t = t.select("x", "answer", "weight", "wave_on", unit=t.customer_id, **x)
    frame = bank.frame(t.order_by("unit", "wave_on")).drop(columns="wave_on")
    return frame.assign(unit=pd.factorize(frame["unit"])[0])


def _items(bank: Bank, survey: ibis.Table, answer: str) -> dict[str, int]:
    """Items of an answer that are numbers, with the sign by which they count."""
    declared = bank.about.constructs.get(answer)
    turned: list[str] = []
    if declared is None:
        named = [c for c in survey.columns if re.fullmatch(rf"{re.escape(answer)}_?\d*", c)]
    elif isinstance(declared, Mapping):
        named, turned = list(declared["items"]), list(declared.get("reversed", ()))
    else:
        named = list(declared)
    return {c: -1 if c in turned else 1 for c in named if survey[c].type().is_numeric()}


def _logs(monthly: ibis.Table, threshold: float) -> ibis.Table:
    m = monthly.filter(monthly.balance > 0)
    return m.select("customer_id", month=month_number(m.month), x=(as_float(m.balance) / threshold).ln())


@needs("survey.wave_on", "monthly", per="customers")
def balances(bank: Bank, *, threshold: float) -> pd.DataFrame | Missing:
    """All customers' log balances over the threshold at the last of these month-ends: ``x``, one for each customer.

    The month-ends of a customer are no independent draws of a density.
    """
    m = _logs(bank.table("monthly"), threshold)
    waves = bank.table("survey").select(month=month_number(bank.table("survey").wave_on) - 1).distinct()
    m = m.semi_join(waves, "month")
    one = m.group_by("customer_id").aggregate(x=m.x.argmax(m.month))
    return bank.frame(one.select("x").order_by("x"))


# --- customers against themselves, and against each other -------------------------------------------------------------


def _slopes(bank: Bank, t: ibis.Table) -> pd.DataFrame:
    """Sums by block of customers that the line of ``y`` over ``x`` within and between customers is made of.

    Returns
    -------
    DataFrame
        ``block``, ``n`` customers, ``rows``; ``xx`` and ``xy`` around each customer's own means, added up; and of these
        means ``x``, ``y``, ``mean_xx`` and ``mean_xy``, added up over customers.
    """
    one = t.group_by("customer_id").aggregate(
        n=as_float(t.count()), x=t.x.mean(), y=t.y.mean(), sxx=(t.x * t.x).sum(), sxy=(t.x * t.y).sum()
    )
    sums = {
        "xx": (one.sxx - one.n * one.x * one.x).sum(), "xy": (one.sxy - one.n * one.x * one.y).sum(),
        "x": one.x.sum(), "y": one.y.sum(), "mean_xx": (one.x * one.x).sum(), "mean_xy": (one.x * one.y).sum(),
    }  # fmt: skip
    by = {"block": block_of(one.customer_id, bank.pseudonymous)}
    return grouped(bank, one, by, n=one.count(), rows=one.n.sum(), **sums)


@needs("service.steps", "service.handling_minutes")
def handling_by_steps(bank: Bank) -> pd.DataFrame | Missing:
    """Minutes of handling (``y``) over steps (``x``), case by case: sums of :func:`_slopes`."""
    t = bank.table("service")
    t = t.filter(t.steps.notnull() & t.handling_minutes.notnull())
    return _some(_slopes(bank, t.select("customer_id", x=as_float(t.steps), y=as_float(t.handling_minutes))), "service")


@needs("service.wait_minutes", "pulse.satisfaction")
def answers_by_waiting(bank: Bank) -> pd.DataFrame | Missing:
    """Satisfaction (``y``, standard deviations) over mean waiting of the quarter before: sums of :func:`_slopes`."""
    p = bank.table("pulse")
    p = p.select("customer_id", "asked_on", answer=as_float(p.satisfaction)).filter(lambda t: t.answer.notnull())
    mean, square = (bank.scalar(of.mean()) for of in (p.answer, p.answer * p.answer))
    if mean is None or not square > mean**2:
        return Missing("nobody's answer to the pulse survey differs from the others'", ("pulse",))
    s = bank.table("service").filter(lambda t: t.wait_minutes.notnull())
    j = p.inner_join(s.select("customer_id", "occurred_on", "wait_minutes"), "customer_id")
    j = j.filter((j.occurred_on <= j.asked_on) & (days_between(j.asked_on, j.occurred_on) < QUARTER_DAYS))
    spread = float(square - mean**2) ** 0.5
    one = j.group_by("customer_id", "asked_on").aggregate(x=as_float(j.wait_minutes.mean()), y=j.answer.max() / spread)
    return _some(_slopes(bank, one), "pulse", "service")


def _some(frame: pd.DataFrame, *tables: str) -> pd.DataFrame | Missing:
    return frame if len(frame) else Missing("no customer has both, the outcome and what it may come from", tables)


@needs("service.wait_minutes", "customers.left_on")
def stays_by_waiting(bank: Bank) -> pd.DataFrame | Missing:
    """Customers who waited in a quarter, and exits in it, by that waiting and by their usual one until then.

    Returns
    -------
    DataFrame
        ``quarter``, ``usual`` (mean minutes of all earlier quarters) and ``more`` (minutes of this quarter beyond it),
        both in steps of five; ``n`` customers, voluntary ``exits`` in the quarter.
    """
    import ibis

    s = bank.table("service")
    s = s.filter(s.wait_minutes.notnull())
    q = s.group_by("customer_id", quarter=month_number(s.occurred_on) // QUARTER)
    q = q.aggregate(times=as_float(s.count()), minutes=as_float(s.wait_minutes.sum()))
    past = ibis.window(group_by="customer_id", order_by="quarter", preceding=(None, 1))
    q = q.mutate(usual=q.minutes.sum().over(past) / q.times.sum().over(past), now=q.minutes / q.times)
    c = bank.table("customers").select("customer_id", "left_on", "exit_cause")
    t = q.filter(q.usual.notnull()).inner_join(c, "customer_id")
    gone = (month_number(t.left_on) // QUARTER == t.quarter) & (t.exit_cause == "voluntary")
    by: dict[str, Any] = {
        "quarter": t.quarter,
        "usual": (t.usual / BAND).round().cast("int64") * BAND,
        "more": ((t.now - t.usual) / BAND).round().cast("int64") * BAND,
    }
    return _some(grouped(bank, t, by, n=t.count(), exits=gone.fill_null(False).sum()), "service", "customers")


# --- managers ---------------------------------------------------------------------------------------------------------


@needs("managers", "customers.manager_id", "monthly.contribution")
def managed(bank: Bank) -> pd.DataFrame | Missing:
    """Use of the system and contribution of the customers looked after, by manager and month.

    Returns
    -------
    DataFrame
        ``manager`` (a number), ``month`` (since the year 0), ``use``, ``made``, its ``squares`` and sizes
        ``gross``, ``n`` customers.
    """
    c = bank.table("customers").select("customer_id", "manager_id")
    m = bank.table("monthly").inner_join(c.filter(c.manager_id.notnull()), "customer_id")
    m = m.mutate(made=contribution_of(bank, m))
    made = as_float(m.made)
    g = m.group_by("manager_id", "month")
    sums = {"squares": (made * made).sum(), "gross": made.abs().sum()}
    g = g.aggregate(made=as_float(m.made.sum()), **sums, n=m.count())
    t = bank.table("managers").inner_join(g, ["manager_id", "month"])
    shown = t.select("made", *sums, "n", manager="manager_id", month=month_number(t.month), use=as_float(t.crm_use))
    frame = bank.frame(shown.order_by("manager", "month"))
    return _some(frame.assign(manager=pd.factorize(frame["manager"])[0]), "managers", "monthly")
