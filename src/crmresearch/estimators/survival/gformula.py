"""Standardised curves: what a Cox model expects if everybody had the same value of one covariate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch.estimators.inference import need_events, resample
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.risk import read_spells


def standardised_curves(
    spells: pd.DataFrame, covariates: Sequence[str], of: str, levels: Sequence[float], *, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict the share gone for every level of a covariate and average it over all rows.

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, the covariates, and optional ``n``: customers that a row stands for.
    covariates : sequence of str
        Of the Cox model.
    of : str
        The one that is set to each of ``levels``.
    levels : sequence of float
    repeats, seed : int
        Bootstrap of customers.

    Returns
    -------
    months : array
    gone : array, (levels, months)
    draws : array, (repeats, levels, months)

    References
    ----------
    Robins (1986), Mathematical Modelling 7; Hernan and Robins (2020), *Causal Inference: What If*, 17.
    """
    months = np.unique(np.linspace(0, int(spells["exit"].max()), 13).round())

    def gone(n: np.ndarray) -> np.ndarray:
        some, n = spells[n > 0].assign(n=n[n > 0]), n[n > 0]
        fit = cox(some, covariates)
        base = fit.cumulative_baseline(months)
        risks = [fit.relative_risk(some.assign(**{of: float(level)})) for level in levels]
        return np.array([[np.average(-np.expm1(-h * r), weights=n) for h in base] for r in risks])

    checked = read_spells(spells)
    need_events(checked.n @ checked.event)
    rng, people = np.random.default_rng(seed), checked.n
    draws = [gone(resample(rng, people)) for _ in range(repeats)]
    return months, gone(people), np.array(draws)
