"""What the daily loop takes out of the engine: who is there at its end, how balances moved, who left lately and why."""

from __future__ import annotations

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.pseudonyms import pseudonym
from crmresearch.data.reductions.blocks import block_of
from crmresearch.data.reductions.expressions import as_float, beside, month_number, needs, whole_months
from crmresearch.errors import Missing

RECENT, EARLIER, GONE = 3, 6, 12  # months: the last, those before, and within which somebody who left is called lately
HELD_OUT = 10  # one in so many, by the hash of the identifier, is on no list


@needs("customers.left_on", "monthly")
def standing(bank: Bank) -> pd.DataFrame | Missing:
    """Return customers as the observation ends.

    Returns
    -------
    DataFrame
        ``who`` (the pseudonym), ``agreed`` (to marketing), ``held_out``, ``gone``, ``left`` (by own choice), ``lately``
        (so in the last twelve months), ``recent`` and ``earlier`` (mean balance of the last three months seen whole and
        of the six before), in the order of the identifiers.
    """
    c, m, last = bank.table("customers"), bank.table("monthly"), whole_months(bank)[1]
    ago = last - month_number(m.month)
    means = m.group_by("customer_id").aggregate(
        recent=as_float(m.balance).mean(where=ago.between(0, RECENT - 1)),
        earlier=as_float(m.balance).mean(where=ago.between(RECENT, RECENT + EARLIER - 1)),
    )
    chosen = (c.exit_cause == "voluntary").fill_null(False) if bank.require("customers.exit_cause") is None else True
    t = c.select(
        "customer_id",
        agreed=c.consent_marketing == "yes",
        held_out=block_of(c.customer_id, bank.pseudonymous) % HELD_OUT == 0,
        gone=c.left_on.notnull(),
        left=c.left_on.notnull() & chosen,
        lately=(c.left_on.notnull() & chosen & (last - month_number(c.left_on) < GONE)).fill_null(False),
    )
    frame = bank.frame(beside(t, means, "customer_id").order_by("customer_id"))
    who = pseudonym(frame["customer_id"]) if bank.pseudonymous else frame["customer_id"]
    return frame.assign(customer_id=who).rename(columns={"customer_id": "who"})
