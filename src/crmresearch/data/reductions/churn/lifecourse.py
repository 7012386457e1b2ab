"""Stages of the life course, counted at yearly dates and followed from one to the next."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crmresearch.data.reductions.churn.histories import add_months, day_after
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis
    import pandas as pd

    from crmresearch.data.bank import Bank


STAGES = ("not met", "declined", "won", "kept", "developed", "lost", "won back")
DEVELOPED = 3  # product families


def life_course(bank: Bank) -> dict[str, pd.DataFrame] | Missing:
    """Count people by stage at yearly dates, and by their whole sequence of stages.

    Parameters
    ----------
    bank : Bank
        With ``customers``; ``prospects`` and ``holdings`` where there are any.

    Returns
    -------
    dict
        ``paths``: one row per sequence of stages, a column per date and ``n``. ``stages``: ``date, stage, n``,
        counted for every date on its own by other queries. Stages: not met; declined (a prospect that was not won);
        won (a customer for less than a year); kept; developed (three product families or more, after the first year);
        lost; won back (a prospect won after having left).
    """
    import ibis
    import pandas as pd

    missing = bank.require("customers")
    if missing is not None:
        return missing
    first, end = bank.about.observation_start, day_after(bank)
    dates: list[datetime.date] = []
    while add_months(first, 12 * len(dates)) <= end:
        dates.append(add_months(first, 12 * len(dates)))
    if len(dates) < 2:
        return Missing("a life course needs a year of observation", ("customers",))
    t = bank.table("customers").select("customer_id", "acquired_on", "observed_from", "left_on")
    t = t.left_join(_won_back(bank), "customer_id").drop("customer_id_right")
    t = t.left_join(_families_at(bank, dates), "customer_id").drop("customer_id_right")
    stage = {}
    for k, date in enumerate(dates):
        d = ibis.date(date.isoformat())
        stage[f"s{k}"] = ibis.cases(
            (t.observed_from > d, "not met"),
            (t.back_on <= d, "won back"),
            (t.left_on <= d, "lost"),
            (t.acquired_on > ibis.date(add_months(date, -12).isoformat()), "won"),
            (t[f"f{k}"].fill_null(0) >= DEVELOPED, "developed"),
            else_="kept",
        )
    paths = t.select(**stage)
    if "prospects" in bank.tables:
        p = bank.table("prospects")
        p = p.filter(~p.won)
        declined = {
            f"s{k}": ibis.ifelse(p.first_contact_on > ibis.date(d.isoformat()), "not met", "declined")
            for k, d in enumerate(dates)
        }
        paths = paths.union(p.select(**declined))
    keys = list(stage)
    out = bank.frame(paths.group_by(keys).aggregate(n=lambda r: r.count()).order_by(keys))
    out["n"] = out["n"].astype("int64")
    out = out.rename(columns={f"s{k}": d.isoformat() for k, d in enumerate(dates)})
    return {"paths": out, "stages": pd.concat([_stages_at(bank, d) for d in dates], ignore_index=True)}


def _won_back(bank: Bank) -> ibis.Table:
    """Date on which a customer who had left was won again."""
    t = bank.table("customers")
    if "prospects" not in bank.tables:
        return t.filter(t.customer_id.isnull()).select("customer_id", back_on="left_on")
    p = bank.table("prospects")
    p = p.filter(p.won & p.customer_id.notnull()).select("customer_id", on="first_contact_on")
    p = p.inner_join(t.select("customer_id", "left_on"), "customer_id")
    p = p.filter(p.on > p.left_on)
    return p.group_by("customer_id").aggregate(back_on=p.on.min())


def _families_at(bank: Bank, dates: Sequence[datetime.date]) -> ibis.Table:
    import ibis

    if "holdings" not in bank.tables:
        t = bank.table("customers")
        return t.select("customer_id", **{f"f{k}": ibis.literal(0, "int64") for k in range(len(dates))})
    h = bank.table("holdings")
    held = {}
    for k, date in enumerate(dates):
        d = ibis.date(date.isoformat())
        there = (h.opened_on <= d) & (h.closed_on.isnull() | (h.closed_on > d))
        held[f"f{k}"] = h.product_family.nunique(where=there)
    return h.group_by("customer_id").aggregate(**held)


def _stages_at(bank: Bank, date: datetime.date) -> pd.DataFrame:
    """Count the stages of one date without following anybody."""
    import pandas as pd

    day, year = date.isoformat(), add_months(date, -12).isoformat()
    count = {"not met": f"SELECT count(*) FROM customers WHERE observed_from > DATE '{day}'"}
    there = f"observed_from <= DATE '{day}' AND (left_on IS NULL OR left_on > DATE '{day}')"
    count["won"] = f"SELECT count(*) FROM customers WHERE {there} AND acquired_on > DATE '{year}'"
    older = f"SELECT customer_id FROM customers WHERE {there} AND acquired_on <= DATE '{year}'"
    many = (
        f"SELECT customer_id FROM holdings WHERE opened_on <= DATE '{day}' AND (closed_on IS NULL OR closed_on > "
        f"DATE '{day}') GROUP BY customer_id HAVING count(DISTINCT product_family) >= {DEVELOPED}"
    )
    count["developed"] = f"SELECT count(*) FROM ({older} INTERSECT {many})" if "holdings" in bank.tables else "SELECT 0"
    count["kept"] = (
        f"SELECT count(*) FROM ({older} EXCEPT {many})"
        if "holdings" in bank.tables
        else f"SELECT count(*) FROM ({older})"
    )
    gone = f"SELECT customer_id FROM customers WHERE left_on <= DATE '{day}'"
    back = "SELECT NULL WHERE false"
    if "prospects" in bank.tables:
        count["not met"] += (
            f" UNION ALL SELECT count(*) FROM prospects WHERE NOT won AND first_contact_on > DATE '{day}'"
        )
        count["declined"] = f"SELECT count(*) FROM prospects WHERE NOT won AND first_contact_on <= DATE '{day}'"
        back = (
            "SELECT DISTINCT c.customer_id FROM customers c JOIN prospects p USING (customer_id) WHERE p.won AND "
            f"p.first_contact_on > c.left_on AND p.first_contact_on <= DATE '{day}'"
        )
    count["won back"] = f"SELECT count(*) FROM ({back})"
    count["lost"] = f"SELECT count(*) FROM ({gone} EXCEPT {back})"
    rows = [{"date": day, "stage": s, "n": int(bank.frame(count[s]).sum().iloc[0])} for s in STAGES if s in count]
    return pd.DataFrame(rows)
