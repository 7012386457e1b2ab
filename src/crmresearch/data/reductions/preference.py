"""What study 9 takes out of the engine: choice tasks, one row per option, with the age of who chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import BLOCKS, beside, block_of, needs
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis


OWN = ("customer_id", "task_id", "option_id", "chosen")


@needs("choices")
def choices(bank: Bank, *, most: int = 400_000) -> pd.DataFrame | Missing:
    """Return the options of choice tasks, with numbers in the place of ids.

    Parameters
    ----------
    bank : Bank
        With ``choices``; ``customers.birth_year``, or an ``age`` in ``choices`` or ``snapshot``, adds the age.
    most : int
        Options at most; with more, blocks of customers are taken at random (by hash), whole.

    Returns
    -------
    DataFrame
        ``person``, ``task`` (numbers), ``first`` (whether it stands first among its options), ``chosen``, ``age``
        (years at the observation end; missing where it is not known), and every attribute that is a number.
    """
    import ibis

    t = bank.table("choices")
    rows = bank.rows("choices")
    if rows > most:
        t = t.filter(block_of(t.customer_id, bank.pseudonymous) < max(1, BLOCKS * most // rows))
    numbers = [c for c, kind in t.schema().items() if c not in OWN and (kind.is_numeric() or kind.is_boolean())]
    if not [c for c in numbers if c != "age"]:
        return Missing("the choices have no attribute that is a number", ("choices",))
    if "age" not in t.columns:
        t = _aged(bank, t)
    within = ibis.window(group_by=["customer_id", "task_id"], order_by="option_id")
    people = ibis.dense_rank().over(ibis.window(order_by="customer_id"))
    tasks = ibis.dense_rank().over(ibis.window(order_by=["customer_id", "task_id"]))
    out = t.select(
        person=people,
        task=tasks,
        option=ibis.row_number().over(within),
        chosen=t.chosen,
        age=t.age.cast("float64"),
        **{c: t[c].cast("float64") for c in numbers if c != "age"},
    )
    frame = bank.frame(out.order_by("task", "option"))
    return frame.assign(first=frame.pop("option") == 0)


def _aged(bank: Bank, t: ibis.Table) -> ibis.Table:
    import ibis

    if bank.require("customers.birth_year") is None and "choices" not in bank.about.unlinked:
        year = bank.about.observation_end.year
        c = bank.table("customers")
        return beside(t, c.select("customer_id", age=year - c.birth_year), "customer_id")
    if bank.require("snapshot.age") is None:
        return beside(t, bank.table("snapshot").select("customer_id", "age"), "customer_id")
    return t.mutate(age=ibis.null("float64"))
