"""What study 9 takes out of the engine: choice tasks, one row per option, and exits by priority and rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import as_float, beside, day_after, grouped, month_number, needs
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis


OWN = ("customer_id", "task_id", "option_id", "chosen")


@needs("choices", per="choices")
def choices(bank: Bank) -> pd.DataFrame | Missing:
    """Return the options of choice tasks, with numbers in the place of ids.

    Parameters
    ----------
    bank : Bank
        With ``choices``; ``customers.birth_year``, or an ``age`` in ``choices`` or ``snapshot``, adds the age.

    Returns
    -------
    DataFrame
        ``person``, ``task`` (numbers), ``first`` (whether it stands first among its options), ``chosen``, ``age``
        (years at the observation end; missing where it is not known), and every attribute that is a number.
    """
    t = bank.table("choices")
    numbers = [c for c, kind in t.schema().items() if c not in OWN and (kind.is_numeric() or kind.is_boolean())]
    if not [c for c in numbers if c != "age"]:
        return Missing("the choices have no attribute that is a number", ("choices",))
    if "age" not in t.columns:
        t = _aged(bank, t)
    out = t.order_by("customer_id", "task_id", "option_id").select(
        person=t.customer_id,
        task=t.task_id,
        chosen=t.chosen,
        age=t.age.cast("float64"),
        **{c: t[c].cast("float64") for c in numbers if c != "age"},
    )
    frame = bank.frame(out)
    first = (frame[["person", "task"]] != frame[["person", "task"]].shift()).any(axis=1)
    return frame.assign(person=pd.factorize(frame["person"])[0], task=first.cumsum() - 1, first=first)


def _aged(bank: Bank, t: ibis.Table) -> ibis.Table:
    import ibis

    if bank.require("customers.birth_year") is None and "choices" not in bank.about.unlinked:
        year = bank.about.observation_end.year
        c = bank.table("customers")
        return beside(t, c.select("customer_id", age=year - c.birth_year), "customer_id")
    if bank.require("snapshot.age") is None:
        return beside(t, bank.table("snapshot").select("customer_id", "age"), "customer_id")
    return t.mutate(age=ibis.null("float64"))


@needs("markets.rate_gap", "customers.left_on", "customers.city_id", "customers.priority_since")
def served(bank: Bank) -> pd.DataFrame | Missing:
    """Customers at risk and exits by place, month, year of tenure and priority, beside the bank's rate there and then.

    A customer is at risk in a month that begins after the acquisition and before the exit, and has priority in one that
    begins with it.

    Returns
    -------
    DataFrame
        ``city`` (a number), ``month`` (since the year 0), ``year`` of tenure (0 the first; 4 all later ones),
        ``priority``, ``gap`` (basis points that the bank pays more than others), ``at_risk``, ``exits``.
    """
    import ibis

    c, m = bank.table("customers"), bank.table("markets")
    start = bank.about.observation_start
    begun, end = month_number(start) + (start.day > 1), month_number(day_after(bank)) - 1
    joined, gone = month_number(c.acquired_on), month_number(c.left_on)
    first = ibis.greatest(joined + 1, _month_from(c.observed_from), begun)
    since = _month_from(c.priority_since)
    c = c.select("city_id", joined=joined, gone=gone, since=since, first=first, last=ibis.least(gone, end))
    c = c.filter(c.first <= c["last"])
    c = c.mutate(month=ibis.range(c.first, c["last"] + 1).unnest())
    m = m.filter(m.rate_gap.notnull()).select("city_id", month=month_number(m.month), gap=as_float(m.rate_gap))
    t = c.inner_join(m, ["city_id", "month"])
    by = {"city": t.city_id, "month": t.month, "year": ibis.least((t.month - t.joined) // 12, 4),
          "priority": (t.since <= t.month).fill_null(False), "gap": t.gap}  # fmt: skip
    frame = grouped(bank, t, by, at_risk=t.count(), exits=(t.gone == t.month).fill_null(False).sum())
    return frame.assign(city=pd.factorize(frame["city"])[0])


def _month_from(day: Any) -> Any:
    """First month that begins on a day or after it."""
    return month_number(day) + (day.day() > 1).cast("int32")
