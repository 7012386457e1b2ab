"""Answers joined to accounts: scores beside covariates, pairs of waves, and what satisfaction goes with later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import Estimate, full_rank, normal
from crmresearch.estimators.measurement.links import slopes
from crmresearch.estimators.measurement.model import PathModel, complete_answers, construct_scores
from crmresearch.estimators.survival.cox import cox

ROLE_COLUMNS = ("image", "expectation", "quality", "value", "satisfaction", "loyalty", "privacy")
LEAST_HALF = 20  # exits in each half of the follow-up, for its halves to be compared


def answers_with_accounts(joined: pd.DataFrame, model: PathModel) -> pd.DataFrame:
    """Return respondents of all waves with one standardised score per construct, named by its role.

    Scores are standardised over all waves together, so that a change of the mean stays visible.

    Parameters
    ----------
    joined : DataFrame
        Answers of each wave, with what accounts know about the customer.

    Returns
    -------
    DataFrame
        Rows of ``joined`` with complete answers; columns ``satisfaction``, ``loyalty`` ... hold the scores.
    """
    items = complete_answers(joined, model)
    names = {model.role(r): r for r in ROLE_COLUMNS if model.role(r)}
    scores = construct_scores(items, model).rename(columns=names)[list(names.values())]
    return pd.concat([joined.loc[items.index].drop(columns=list(ROLE_COLUMNS), errors="ignore"), scores], axis=1)


def account_covariates(frame: pd.DataFrame) -> pd.DataFrame:
    """What accounts and the register know before a wave, ready for a regression: standardised, categories as 0/1.

    Skewed money is compressed by its signed logarithm. Missing values (a customer without any month before the wave)
    become the mean, with an indicator for those that are missing together.

    Raises
    ------
    InputError
        When the frame has none of the columns.
    RankError
        When they are combinations of one another.
    """
    out: dict[str, Any] = {}
    for name in ("tenure_years", "age", "balance", "contribution_before", "families"):
        if name not in frame.columns or frame[name].notna().sum() == 0:
            continue
        value: Any = frame[name].astype(float)
        if name in ("balance", "contribution_before"):
            value = np.sign(value) * np.log1p(value.abs())
        elif name == "tenure_years":
            value = np.log1p(value)
        if value.isna().any():
            out[f"{name}_unknown"] = value.isna().astype(float)
            value = value.fillna(value.mean())
        if value.std() > 0:
            out[name] = (value - value.mean()) / value.std()
        if name == "balance" and value.std() > 0:
            # what a bank does for its best customers begins at a threshold: let the slope change among them
            for q in (75, 90):
                out[f"balance_above_{q}"] = np.maximum(value - np.percentile(value, q), 0) / value.std()
    if "complaint" in frame.columns:
        out["complaint"] = frame["complaint"].astype(float)
    for name in ("city_tier", "segment", "wave"):
        levels = sorted(frame[name].dropna().unique()) if name in frame.columns else []
        for level in levels[1:]:
            shown = level if isinstance(level, str) else f"{level:g}"
            out[f"{name}_{shown}"] = (frame[name] == level).astype(float)
    table = pd.DataFrame({k: v for k, v in out.items() if v.std() > 0})
    unknown = table.filter(regex="_unknown$")  # who has no month before the wave lacks all that is read from months
    table = table.drop(columns=unknown.columns[unknown.T.duplicated()])
    if table.empty:
        raise InputError("no account covariates: the frame needs tenure_years, balance or the like")
    full_rank(table.assign(constant=1.0).to_numpy(float), [*table.columns, "constant"])
    return table


def consecutive(answers: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Pair each answer with the same customer's answer in the next wave: ``x`` and ``x_next``."""
    later = answers[["customer_id", "wave", *columns]].assign(wave=answers["wave"] - 1)
    return answers.merge(later, on=["customer_id", "wave"], suffixes=("", "_next"), validate="one_to_one")


@dataclass(frozen=True)
class Leaving:
    """Hazard ratio of one standard deviation of satisfaction from ``lag`` months after the answer on."""

    lag: int
    ratio: Estimate
    events: int


def _at_risk(rows: pd.DataFrame, lag: int, follow: int) -> tuple[pd.DataFrame, list[str]]:
    """Rows still at risk ``lag`` months after their answer, for ``follow`` months, and the names of the covariates."""
    left = rows["exit_months"].to_numpy(float) - lag
    rows, left = rows[left > 0], left[left > 0]
    covariates = account_covariates(rows)
    covariates = covariates.drop(columns=[c for c in covariates if str(c).startswith("wave_")])
    spells = covariates.assign(
        satisfaction=rows["satisfaction"].to_numpy(float),
        # whole months: exact dates only make ties rarer and the fit slower
        exit=np.maximum(np.ceil(np.minimum(left, follow)), 1),
        event=rows["event"].to_numpy(int) * (left <= follow),
        wave=rows["wave"].to_numpy(),
        customer_id=rows["customer_id"].to_numpy(),
    )
    return spells, ["satisfaction", *map(str, covariates.columns)]


def leaving(rows: pd.DataFrame, lag: int, follow: int, unit: str) -> Leaving | None:
    """Cox model of leaving, stratified by wave, errors by customer; None where exits are too few for the covariates."""
    spells, names = _at_risk(rows, lag, follow)
    events = int(spells["event"].sum())
    if events < 10 + 5 * len(names):
        return None
    fit = cox(spells, names, strata="wave", cluster="customer_id")
    beta, se = float(fit.params["satisfaction"]), float(fit.se["satisfaction"])
    return Leaving(lag, normal(beta, se, unit, len(spells), log=True), events)


def early_and_late(rows: pd.DataFrame, lag: int, follow: int) -> tuple[float, float, float] | None:
    """Log hazard ratios in the halves of the follow-up, and the error of their difference: proportional hazards."""
    half, beta, se = follow // 2, [], []
    for start, length in ((lag, half), (lag + half, follow - half)):
        spells, _ = _at_risk(rows, start, length)
        if spells["event"].sum() < LEAST_HALF:
            return None
        fit = cox(spells, ["satisfaction"], strata="wave")
        beta.append(float(fit.params["satisfaction"]))
        se.append(float(fit.se["satisfaction"]))
    return beta[0], beta[1], float(np.hypot(se[0], se[1]))


def contribution_slopes(rows: pd.DataFrame, unit: str) -> tuple[Estimate, Estimate, float]:
    """Later contribution on satisfaction: alone, with accounts held equal, and the largest part of one answer.

    The last is an answer's share of the variance of the second slope: one that carries most of it makes the normal
    interval worthless.
    """
    y, cluster = rows["contribution_after"].to_numpy(float), rows["customer_id"].to_numpy()
    alone = pd.DataFrame({"constant": 1.0, "satisfaction": rows["satisfaction"]})
    before = rows["contribution_before"].fillna(rows["contribution_before"].mean())
    adjusted = pd.concat([alone.assign(money_before=before), account_covariates(rows)], axis=1)
    found = []
    for design in (alone, adjusted):
        beta, cov = slopes(design, y, cluster)
        found.append(normal(float(beta[1]), float(np.sqrt(cov[1, 1])), unit, len(rows)))
    x = adjusted.to_numpy(float)
    influence = (x @ np.linalg.inv(x.T @ x))[:, 1] * (y - x @ beta)
    return found[0], found[1], float((influence**2).max() / (influence**2).sum())


def change_slope(pairs: pd.DataFrame, outcome: str, unit: str) -> Estimate:
    """Change of an outcome between waves on the change of satisfaction; an intercept per wave, errors by customer."""
    waves = pd.get_dummies(pairs["wave"], prefix="wave", dtype=float)
    waves.insert(0, "satisfaction", pairs["satisfaction_next"] - pairs["satisfaction"])
    change = (pairs[f"{outcome}_next"] - pairs[outcome]).to_numpy(float)
    beta, cov = slopes(waves, change, pairs["customer_id"].to_numpy())
    return normal(float(beta[0]), float(np.sqrt(cov[0, 0])), unit, len(pairs))
