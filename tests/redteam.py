"""A bank with leaks planted in it: a dominating customer, names that a teller typed, small cells in every category."""

from __future__ import annotations

import datetime
import functools

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank

FEES = 98_765_432.10  # a month, of one customer
TYPED = ("ask for Zhang Wei", "see Li Na in 203")  # names of channels, cities' tellers, reasons


DOMINATED = ("monthly.service_cost", "monthly.balance", "contacts.cost", "prospects.spend", "transactions.amount")
HUGE = 9.87654321e12  # in another column of money
CANCELLING = "of either sign"  # his fees of one month are taken back in the next


@functools.cache
def frames(customers: int = 1_200, dominated: str = "") -> dict[str, pd.DataFrame]:
    """Tables of a simulated bank with the leaks; one customer makes the fees, or the column ``dominated``."""
    from crmresearch.lab import simulated

    bank = simulated.bank(simulated.Settings(customers=customers, months=36, seed=5))
    out = {t: bank.frame(bank.table(t)[list(bank.columns(t))]) for t in bank.tables}
    people, monthly = out["customers"], out["monthly"]
    giant = monthly["customer_id"].value_counts().index[0]
    if dominated == CANCELLING:
        own = monthly.index[monthly["customer_id"] == giant]
        monthly.loc[own, "fees"] += FEES * (-1.0) ** np.arange(len(own))
    elif dominated:
        table, _, column = dominated.partition(".")
        own = out[table]["customer_id"] == giant
        out[table].loc[own if own.any() else out[table].index[:1], column] = HUGE
    else:
        monthly.loc[monthly["customer_id"] == giant, "fees"] += FEES
    people.loc[people.index[:2], "acquisition_channel"] = TYPED[0]
    people.loc[people.index[2:3], "acquisition_channel"] = TYPED[1]
    moves = out["transactions"]
    moves.loc[moves["customer_id"].isin(people["customer_id"][:2]), "channel"] = TYPED[0]
    prospects = out["prospects"]
    prospects.loc[prospects.index[np.arange(0, 4)], "channel"] = TYPED[0]
    return out


@functools.cache
def bank(customers: int = 1_200, dominated: str = "") -> Bank:
    """The bank itself, which nothing changes."""
    first, last = datetime.date(2021, 1, 1), datetime.date(2023, 12, 31)
    about = {"name": f"redteam-{customers}", "currency": "EUR", "evidence": "simulated"}
    about |= {"observation_start": first, "observation_end": last}
    return Bank.from_frames(frames(customers, dominated), about)
