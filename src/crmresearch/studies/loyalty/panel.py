"""Survey joined to accounts: the common ground of the behaviour and referral studies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.measurement.model import PathModel, carries_missing, complete_answers
from crmresearch.studies.loyalty.form import construct_scores

ROLE_COLUMNS = ("image", "expectation", "quality", "value", "satisfaction", "loyalty", "privacy")


@carries_missing
def answers_with_accounts(joined: pd.DataFrame, model: PathModel) -> pd.DataFrame:
    """Return respondents of all waves with one standardised score per construct, named by its role.

    Scores are standardised over all waves together, so that a change of the mean stays visible.

    Parameters
    ----------
    joined : DataFrame
        As :func:`crmresearch.data.reductions.loyalty.joined` returns it.
    model : PathModel

    Returns
    -------
    DataFrame
        Rows of ``joined`` with complete answers; columns ``satisfaction``, ``loyalty`` ... hold the scores.
    """
    items = complete_answers(joined, model)
    scores = construct_scores(items, model)
    names = {model.role(r): r for r in ROLE_COLUMNS if model.role(r)}
    rest = joined.loc[items.index].drop(columns=[c for c in ROLE_COLUMNS if c in joined.columns])
    return pd.concat([rest, scores.rename(columns=names)[list(names.values())]], axis=1)


def account_covariates(frame: pd.DataFrame) -> pd.DataFrame:
    """What accounts and the register know before a wave, ready for a regression: standardised, categories as 0/1.

    Skewed money is compressed by its signed logarithm. Missing values (a customer without any month before the wave)
    become the mean, with an indicator.

    Raises
    ------
    InputError
        When the frame has none of the columns.
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
    for name in ("city_tier", "wave"):
        if name in frame.columns and len(frame[name].dropna().unique()) > 1:
            levels = sorted(frame[name].dropna().unique())
            for level in levels[1:]:
                out[f"{name}_{level:g}"] = (frame[name] == level).astype(float)
    kept = {k: v for k, v in out.items() if v.std() > 0}
    if not kept:
        raise InputError("no account covariates: the frame needs tenure_years, balance or the like")
    table = pd.DataFrame(kept)
    values = np.linalg.svd(table.to_numpy() - table.to_numpy().mean(axis=0), compute_uv=False)
    if values[-1] < 1e-8 * values[0]:
        raise FitError(f"account covariates are collinear: {', '.join(table.columns)}")
    return table


def consecutive(answers: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Pair each answer with the same customer's answer in the next wave: ``x`` and ``x_next``."""
    later = answers[["customer_id", "wave", *columns]].assign(wave=answers["wave"] - 1)
    return answers.merge(later, on=["customer_id", "wave"], suffixes=("", "_next"), validate="one_to_one")
