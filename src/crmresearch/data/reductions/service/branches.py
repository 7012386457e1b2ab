"""Stays, exits, waiting, handling, answers and income by branch and quarter.

Branches are numbers here; the same branch has the same number in every frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import as_float, day_after, grouped, month_number, needs
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis

QUARTER = 3
COLUMNS = [
    *("branch", "quarter", "converted", "at_risk", "exits", "visits", "wait", "noise", "cases", "steps", "handling"),
    *("answers", "satisfaction", "quality", "income", "gross", "squares", "paid"),
]


def _homes(bank: Bank) -> ibis.Table:
    """Customers with the number of their branch."""
    import ibis

    b = bank.table("branches").select("branch_id", branch=ibis.dense_rank().over(ibis.window(order_by="branch_id")))
    return bank.table("customers").inner_join(b, "branch_id")


@needs("branches", "customers.branch_id", "customers.left_on")
def branch_quarters(bank: Bank) -> pd.DataFrame | Missing:
    """Stays, voluntary exits, waiting and answers of the pulse survey by branch and quarter that is seen whole.

    Returns
    -------
    DataFrame
        ``branch``, ``quarter`` (since the year 0), ``converted`` (its quarter; minus infinity where before the first
        one seen, infinity where never), ``at_risk`` (customer-months), ``exits``, ``visits``, ``wait`` (mean minutes)
        and ``noise`` (variance of that mean), ``cases``, ``steps`` and ``handling`` (means; minutes), ``answers``,
        ``satisfaction`` and ``quality`` (means, in standard deviations of all answers), ``income`` (interest and
        fees), its sizes ``gross`` and ``squares``, and ``paid`` (customer-months that it is of). Missing where
        there was none, or where the bank brings none.
    """
    import ibis

    first = -(-(month_number(bank.about.observation_start) + (bank.about.observation_start.day > 1)) // QUARTER)
    quarters = np.arange(first, month_number(day_after(bank)) // QUARTER)
    if len(quarters) == 0:
        return Missing(f"no quarter of the bank '{bank.name}' is seen whole", ("branches",))
    b = bank.table("branches")
    told = bank.require("branches.converted_on") is None
    when = as_float(month_number(b.converted_on)) if told else ibis.null("float64")
    rank = ibis.dense_rank().over(ibis.window(order_by="branch_id"))
    towns = bank.frame(b.select(branch=rank, when=when).order_by("branch"))
    converted = np.floor(towns["when"] / QUARTER).fillna(np.inf).to_numpy()
    out = pd.DataFrame({
        "branch": np.repeat(towns["branch"].to_numpy(int), len(quarters)),
        "quarter": np.tile(quarters, len(towns)),
        "converted": np.repeat(np.where(converted < quarters[0], -np.inf, converted), len(quarters)),
    })  # fmt: skip
    customers = _homes(bank)
    home = customers.select("customer_id", "branch")
    parts = [_stays(bank, customers, quarters)]
    if bank.require("service.wait_minutes") is None:
        t = bank.table("service").inner_join(home, "customer_id").filter(lambda t: t.wait_minutes.notnull())
        by = {"branch": t.branch, "quarter": month_number(t.occurred_on) // QUARTER}
        square = (t.wait_minutes * t.wait_minutes).mean()
        part = grouped(bank, t, by, visits=t.count(), wait=t.wait_minutes.mean(), square=square)
        spread = part.pop("square") - part["wait"] ** 2
        parts.append(part.assign(noise=(spread / (part["visits"] - 1).where(part["visits"] > 1))))
    if bank.require("service.steps", "service.handling_minutes") is None:
        t = bank.table("service").inner_join(home, "customer_id")
        t = t.filter(lambda t: t.steps.notnull() & t.handling_minutes.notnull())
        by = {"branch": t.branch, "quarter": month_number(t.occurred_on) // QUARTER}
        means = {"steps": as_float(t.steps).mean(), "handling": t.handling_minutes.mean()}
        parts.append(grouped(bank, t, by, cases=t.count(), **means))
    if bank.require("monthly.net_interest", "monthly.fees") is None:
        t = bank.table("monthly").inner_join(home, "customer_id")
        made = t.net_interest.fill_null(0) + t.fees.fill_null(0)
        by = {"branch": t.branch, "quarter": month_number(t.month) // QUARTER}
        sums = {"income": as_float(made.sum()), "squares": (as_float(made) * as_float(made)).sum()}
        sums["gross"] = as_float(made.abs().sum())
        parts.append(grouped(bank, t, by, **sums, paid=t.count()))
    for answer in ("satisfaction", "quality"):
        if bank.require(f"pulse.{answer}") is None:
            parts.append(_answers(bank, home, answer))
    for part in parts:
        out = out.merge(part, on=["branch", "quarter"], how="left")
    return out.reindex(columns=COLUMNS)


def _stays(bank: Bank, customers: ibis.Table, quarters: np.ndarray) -> pd.DataFrame:
    """Customer-months at risk and voluntary exits; at risk in months that begin after the first day that is seen."""
    import ibis

    t, start, end = customers, int(quarters[0]) * QUARTER, int(quarters[-1] + 1) * QUARTER
    by = {
        "branch": t.branch,
        "first": ibis.greatest(month_number(t.observed_from) + (t.observed_from.day() > 1).cast("int32"), start),
        "gone": ibis.least(month_number(t.left_on).fill_null(end), end),
        "chosen": (t.exit_cause == "voluntary").fill_null(False),
    }
    frame = grouped(bank, t, by, n=t.count())
    frame = frame[(frame["gone"] >= frame["first"]) & (frame["first"] < end)]
    code, row = np.unique(frame["branch"], return_inverse=True)
    change, exits = np.zeros((2, len(code), end - start + 1))
    first, gone = (frame[c].to_numpy(int) - start for c in ("first", "gone"))
    np.add.at(change, (row, first), frame["n"])
    np.add.at(change, (row, np.minimum(gone + 1, end - start)), -frame["n"])
    np.add.at(exits, (row, gone), frame["n"] * frame["chosen"])
    shape = (len(code), len(quarters), QUARTER)
    whole = slice(0, end - start)
    return pd.DataFrame({
        "branch": np.repeat(code, len(quarters)),
        "quarter": np.tile(quarters, len(code)),
        "at_risk": np.cumsum(change, axis=1)[:, whole].reshape(shape).sum(axis=2).ravel(),
        "exits": exits[:, whole].reshape(shape).sum(axis=2).ravel(),
    })  # fmt: skip


def _answers(bank: Bank, home: ibis.Table, name: str) -> pd.DataFrame:
    """Mean answers to one question, in standard deviations of all, and how many there are to the first."""
    t = bank.table("pulse").inner_join(home, "customer_id")
    t = t.mutate(answer=as_float(t[name])).filter(lambda t: t.answer.notnull())
    by = {"branch": t.branch, "quarter": month_number(t.asked_on) // QUARTER}
    frame = grouped(bank, t, by, n=t.count(), mean=t.answer.mean(), square=(t.answer * t.answer).mean())
    share = frame["n"] / frame["n"].sum()
    spread = np.sqrt(share @ frame["square"] - (share @ frame["mean"]) ** 2)
    counted = {"answers": frame["n"]} if name == "satisfaction" else {}
    return frame[["branch", "quarter"]].assign(**counted, **{name: frame["mean"] / spread})
