"""Stages of the life course, counted at yearly dates and followed from one to the next."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.reductions.expressions import add_months, beside, day_after, grouped, needs, open_on
from crmresearch.errors import Missing

if TYPE_CHECKING:
    import ibis


STAGES = ("not met", "declined", "won", "kept", "developed", "lost", "won back")
DEVELOPED = 3  # product families


@needs("customers")
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

    first, end = bank.about.observation_start, day_after(bank)
    dates: list[datetime.date] = []
    while add_months(first, 12 * len(dates)) <= end:
        dates.append(add_months(first, 12 * len(dates)))
    if len(dates) < 2:
        return Missing("a life course needs a year of observation", ("customers",))
    t = bank.table("customers").select("customer_id", "acquired_on", "observed_from", "left_on")
    t = beside(beside(t, _won_back(bank), "customer_id"), _families_at(bank, dates), "customer_id")
    stage = {}
    for k, date in enumerate(dates):
        d = ibis.date(date)
        stage[f"s{k}"] = ibis.cases(
            (t.observed_from > d, "not met"),
            (t.back_on <= d, "won back"),
            (t.left_on <= d, "lost"),
            (t.acquired_on > ibis.date(add_months(date, -12)), "won"),
            (t[f"f{k}"].fill_null(0) >= DEVELOPED, "developed"),
            else_="kept",
        )
    paths = t.select(**stage)
    if "prospects" in bank.tables:
        p = bank.table("prospects")
        p = p.filter(~p.won)
        declined = {
            f"s{k}": ibis.ifelse(p.first_contact_on > ibis.date(d), "not met", "declined") for k, d in enumerate(dates)
        }
        paths = paths.union(p.select(**declined))
    out = grouped(bank, paths, list(stage), n=paths.count())
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
    held = {f"f{k}": h.product_family.nunique(where=open_on(h, ibis.date(d))) for k, d in enumerate(dates)}
    return h.group_by("customer_id").aggregate(**held)


def _stages_at(bank: Bank, date: datetime.date) -> pd.DataFrame:
    """Count the stages of one date without following anybody."""
    import ibis

    day, year = ibis.date(date), ibis.date(add_months(date, -12))
    c = bank.table("customers")
    back = _won_back(bank).filter(lambda r: r.back_on <= day).select("customer_id", back=ibis.literal(True))
    c = beside(c, back, "customer_id")
    many = ibis.literal(False)
    if "holdings" in bank.tables:
        h = bank.table("holdings")
        held = h.filter(open_on(h, day)).group_by("customer_id").aggregate(held=h.product_family.nunique())
        c = beside(c, held, "customer_id")
        many = (c.held >= DEVELOPED).fill_null(False)
    there = (c.observed_from <= day) & (c.left_on.isnull() | (c.left_on > day))
    older, left = there & (c.acquired_on <= year), (c.left_on <= day).fill_null(False)
    stages = {
        "not met": c.observed_from > day,
        "won": there & (c.acquired_on > year),
        "kept": older & ~many,
        "developed": older & many,
        "lost": left & c.back.isnull(),
        "won back": c.back.notnull(),
    }
    found = dict(bank.frame(c.aggregate(**{s: of.sum() for s, of in stages.items()})).iloc[0])
    if "prospects" in bank.tables:
        p = bank.table("prospects")
        later = p.first_contact_on > day
        refused = bank.frame(p.filter(~p.won).aggregate(met=(~later).sum(), not_met=later.sum()).fill_null(0)).iloc[0]
        found |= {"declined": refused["met"], "not met": found["not met"] + refused["not_met"]}
    rows = [{"date": date.isoformat(), "stage": s, "n": int(found[s])} for s in STAGES if s in found]
    return pd.DataFrame(rows)
