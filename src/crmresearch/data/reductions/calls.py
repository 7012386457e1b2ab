"""What notebooks 02 and 03 take out of a summary of calls in date order: who was called, how often, who bought."""

from __future__ import annotations

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import as_float, cuts, grouped, needs
from crmresearch.errors import Missing

PERIODS = 20  # of equally many customers, in date order
# known of a customer before the call; how often he is called, and how long, is known only after it
KNOWN = ("age", "previous")
NAMED = ("job", "marital", "education", "default", "housing", "loan", "contact", "poutcome")


@needs("snapshot.call_order", "snapshot.sold", per="snapshot")
def called(bank: Bank) -> pd.DataFrame | Missing:
    """One row per customer called, in date order: what was known before, and whether the call sold.

    Returns
    -------
    DataFrame
        ``sold``; numbers and names of :data:`KNOWN` and :data:`NAMED` that the bank brings.
    """
    t, there = bank.table("snapshot"), bank.columns("snapshot")
    numbers = {c: as_float(t[c]) for c in KNOWN if c in there}
    names = {c: t[c].fill_null("") for c in NAMED if c in there}
    return bank.frame(t.order_by("call_order").select(sold=as_float(t.sold), **numbers, **names))


@needs("snapshot.call_order", "snapshot.contacts", "snapshot.sold")
def repeated(bank: Bank) -> pd.DataFrame | Missing:
    """Customers by period of their last call and by the number of calls: ``period``, ``calls``, ``n``, ``sold``."""
    t = bank.table("snapshot")
    order = as_float(t.call_order)
    period = sum((order > cut).cast("int64") for cut in cuts(bank, order, PERIODS))
    t = t.select(period=period, calls=t.contacts.cast("int64"), sold=t.sold)
    return grouped(bank, t, ["period", "calls"], n=t.count(), sold=t.sold.sum())
