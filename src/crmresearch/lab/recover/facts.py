"""Marginal facts of a bank beside published ones: is the simulated bank plausible as a bank?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch.result import Result

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


# fact -> what was published, and where; facts without a published figure are shown alone
PUBLISHED: Mapping[str, tuple[str, str]] = {
    "share of contribution of the top 20% of customers, last 12 months": (
        "virtually all (BAI); 1.5 (Meridien Research)",
        "American Banker, reports on US retail banks around 2000",
    ),
    "share of customers with negative contribution, last 12 months": (
        "up to one half (Meridien Research); more than half (Pilgrim Bank)",
        "American Banker; Harvard Business School case 602-104",
    ),
    "voluntary exits per customer-year": ("0.05", "Garland 2002, doi 10.1108/02652320210451214"),
    "stated chance of leaving within a year": ("0.10, where 0.05 left", "Garland 2002, doi 10.1108/02652320210451214"),
    "acquisition spend per win over retention spend per customer-year": (
        "4.4 [4.1, 4.7]",
        "recomputed from the teaching data SMCRM (Kumar & Petersen)",
    ),
    "share of the first component of the survey items": (
        "0.47",
        "recomputed from the Spanish bank survey of R package plspm (27 items, 250 customers)",
    ),
    "correlation of satisfaction and loyalty": ("0.54, corrected", "Curtis et al. 2011, meta-analysis"),
}


def marginal_facts(bank: Bank) -> Result:
    """Compute marginal facts of a bank and set them beside published ones.

    Parameters
    ----------
    bank : Bank
        With ``customers``, ``monthly``, ``prospects``, ``contacts`` and ``survey``, as every simulated bank.

    Returns
    -------
    Result
        Table ``fact, value, published, source``; plausibility, not evidence.
    """
    missing = bank.require("customers", "monthly", "prospects", "contacts", "survey")
    if missing is not None:
        return Result.not_applicable(missing)
    values = _accounts(bank) | _costs(bank) | _answers(bank)
    rows = [(fact, value, *PUBLISHED.get(fact, ("–", "–"))) for fact, value in values.items()]
    table = pd.DataFrame(rows, columns=["fact", "value", "published", "source"])
    known = sum(fact in PUBLISHED for fact in values)
    sentence = (
        f"{len(values)} marginal facts of '{bank.about.name}' ({bank.about.evidence}), {known} of them beside a "
        "published figure; the comparison judges whether the bank is plausible and is no evidence about banks."
    )
    return Result(table, sentence, counts=(), digits=2)


def _number(bank: Bank, sql: str) -> float:
    return float(bank.frame(sql).to_numpy(float)[0, 0])


def _accounts(bank: Bank) -> dict[str, float]:
    end = bank.about.observation_end
    value = bank.frame(
        f"""SELECT sum(net_interest + fees - service_cost - risk_cost)::DOUBLE AS value FROM monthly
            WHERE month > DATE '{end}' - INTERVAL 1 YEAR GROUP BY customer_id ORDER BY customer_id"""
    )["value"].to_numpy(float)
    best = np.sort(value)[::-1]
    years = f"sum((coalesce(left_on, DATE '{end}' + 1) - observed_from) / 365.25)"
    rate = f"SELECT (count(*) FILTER (WHERE exit_cause = 'voluntary')) / {years} FROM customers"
    late = "SELECT avg((acquired_on < observed_from)::INT) FROM customers"
    return {
        "share of contribution of the top 20% of customers, last 12 months": float(
            best[: round(0.2 * len(best))].sum() / best.sum()
        ),
        "share of customers with negative contribution, last 12 months": float((value < 0).mean()),
        "voluntary exits per customer-year": _number(bank, rate),
        "share of customers acquired before the observation": _number(bank, late),
    }


def _costs(bank: Bank) -> dict[str, float]:
    end = bank.about.observation_end
    channels = bank.frame(
        """SELECT channel, (sum(spend) / sum(won::INT))::DOUBLE AS cost FROM prospects
            GROUP BY channel ORDER BY channel"""
    )
    win = _number(bank, "SELECT (sum(spend) / sum(won::INT))::DOUBLE FROM prospects")
    years = _number(bank, f"SELECT sum((coalesce(left_on, DATE '{end}' + 1) - observed_from) / 365.25) FROM customers")
    spent = _number(bank, "SELECT sum(cost)::DOUBLE FROM contacts WHERE purpose = 'retain'")
    per_channel = {
        f"acquisition spend per win, {c}": float(v) for c, v in zip(channels["channel"], channels["cost"], strict=True)
    }
    return {"acquisition spend per win over retention spend per customer-year": win / (spent / years), **per_channel}


def _answers(bank: Bank) -> dict[str, float]:
    constructs = {c: items for c, items in bank.about.constructs.items() if c != "CONC"}
    columns = [i for items in constructs.values() for i in items]
    more = ["switch_chance"] if "switch_chance" in bank.columns("survey") else []
    names = ", ".join(f'"{c}"::DOUBLE AS "{c}"' for c in columns + more)
    answers = bank.frame(f"SELECT {names} FROM survey WHERE responded ORDER BY wave_on, customer_id").dropna()
    spectrum = np.linalg.eigvalsh(np.corrcoef(answers[columns].to_numpy(float).T))
    means: dict[str, Any] = {c: answers[list(items)].mean(axis=1) for c, items in constructs.items()}
    out = {"share of the first component of the survey items": float(spectrum[-1] / spectrum.sum())}
    if {"SAT", "LOY"} <= set(means):
        out["correlation of satisfaction and loyalty"] = float(np.corrcoef(means["SAT"], means["LOY"])[0, 1])
    if more:
        out["stated chance of leaving within a year"] = float(answers["switch_chance"].mean() / 100)
    return out
