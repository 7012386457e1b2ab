"""Marginal facts of a bank beside published ones: is the simulated bank plausible as a bank?"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.result import Result, study

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

say = words.of("recover.facts")


@study
def marginal_facts(bank: Bank) -> Result:
    """Compute marginal facts of a bank and set them beside published ones.

    Parameters
    ----------
    bank : Bank
        With ``customers``, ``monthly``, ``prospects``, ``contacts`` and ``survey``, as every simulated bank.

    Returns
    -------
    Result
        Table ``fact, value, published, source``; plausibility, not evidence. Facts without a published figure are
        shown alone.
    """
    missing = bank.require("customers", "monthly.contribution", "prospects", "contacts", "survey")
    if missing is not None:
        return Result.not_applicable(missing)
    values = _accounts(bank) | _costs(bank) | _answers(bank)
    names, published, sources = say.names("names"), say.names("published"), say.names("sources")
    rows = [(names.get(k, k), v, published.get(k, "–"), sources.get(k, "–")) for k, v in values.items()]
    table = pd.DataFrame(rows, columns=["fact", "value", "published", "source"])
    known = sum(fact in published for fact in values)
    return Result(
        table,
        say("sentence", n=len(values), name=bank.name, evidence=words.local(bank.about.evidence), known=known),
        counts=(),
        digits=2,
    )


def _years(bank: Bank) -> Any:
    """Customer-years under observation, and the customers."""
    customers = bank.table("customers")
    after = bank.about.observation_end + datetime.timedelta(days=1)
    return customers, customers.left_on.fill_null(after).delta(customers.observed_from, unit="day").sum() / 365.25


def _accounts(bank: Bank) -> dict[str, float]:
    end = pd.Timestamp(bank.about.observation_end)
    m = bank.table("monthly")
    m = m.filter(m.month > (end - pd.DateOffset(years=1)).date())
    made = (m.net_interest + m.fees - m.service_cost - m.risk_cost).sum().cast("float64")
    best = np.sort(bank.frame(m.group_by("customer_id").aggregate(made=made))["made"].to_numpy(float))[::-1]
    customers, years = _years(bank)
    gone = (customers.exit_cause == "voluntary").fill_null(False).sum()
    late = (customers.acquired_on < customers.observed_from).cast("float64").mean()
    row = bank.frame(customers.aggregate(exits=gone / years, late=late)).iloc[0]
    top = best[: round(0.2 * len(best))].sum() / best.sum()
    return {"top": float(top), "negative": float((best < 0).mean()), "exits": row["exits"], "late": row["late"]}


def _costs(bank: Bank) -> dict[str, float]:
    prospects, contacts = bank.table("prospects"), bank.table("contacts")
    per_win = prospects.spend.sum().cast("float64") / prospects.won.cast("int64").sum()
    channels = bank.frame(prospects.group_by("channel").aggregate(cost=per_win).order_by("channel"))
    spent = contacts.filter(contacts.purpose == "retain").cost.sum().cast("float64")
    win, kept, years = (bank.frame(e.as_table()).to_numpy(float)[0, 0] for e in (per_win, spent, _years(bank)[1]))
    costs = dict(zip(channels["channel"], channels["cost"], strict=True))
    return {"ratio": float(win / (kept / years)), **{say("spend", channel=c): float(v) for c, v in costs.items()}}


def _answers(bank: Bank) -> dict[str, float]:
    constructs = {c: list(items) for c, items in bank.about.constructs.items() if c != "CONC"}
    columns = [i for items in constructs.values() for i in items]
    more = ["switch_chance"] if "switch_chance" in bank.columns("survey") else []
    survey = bank.table("survey")
    given = survey.filter(survey.responded).order_by("wave_on", "customer_id")
    answers = bank.frame(given.select(**{c: given[c].cast("float64") for c in columns + more})).dropna()
    means = {c: answers[items].mean(axis=1) for c, items in constructs.items()}
    out = {}
    if len(columns) > 1:  # a bank's own survey may declare no constructs
        spectrum = np.linalg.eigvalsh(np.corrcoef(answers[columns].to_numpy(float).T))
        out["component"] = float(spectrum[-1] / spectrum.sum())
    if {"SAT", "LOY"} <= set(means):
        out["correlation"] = float(np.corrcoef(means["SAT"], means["LOY"])[0, 1])
    if more:
        out["stated"] = float(answers["switch_chance"].mean() / 100)
    return out
