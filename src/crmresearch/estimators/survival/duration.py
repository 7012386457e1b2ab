"""Does the hazard fall for everyone, or do those who would leave leave first? Four models of the same spells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, FitWarning
from crmresearch.estimators.inference import ends, sized
from crmresearch.estimators.survival.discrete import frailty


def whole_months(spells: pd.DataFrame) -> pd.DataFrame:
    """Spells in whole months, rounded up, counted; those that end in the month they begin are left out."""
    spells = spells.assign(n=spells["n"] if "n" in spells.columns else 1)
    keys = [c for c in ("entry", "exit", "event") if c in spells.columns]
    for c in keys[:-1]:
        spells[c] = np.ceil(spells[c])
    there = spells["exit"] > (spells["entry"] if "entry" in keys else 0)
    return spells[there].groupby(keys)["n"].sum().reset_index()


def duration_models(spells: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Fit models of how the hazard moves with tenure and of how far customers differ.

    Parameters
    ----------
    spells : DataFrame
        From :func:`whole_months`.

    Returns
    -------
    table : DataFrame
        ``slope`` (power of the hazard), ``size`` (of the differences: variance of the frailty, or polarisation), both
        with ends, and ``loglik``, by model: ``plain`` and ``frailty`` (Weibull), ``sbg``, ``bdw``; the latter two are
        left out where they do not fit. All log likelihoods are of whole months, conditional on survival to entry.
    p : float
        Of the frailty model against the plain one.
    """
    sized(exits := (spells["n"] * spells["event"]).sum(), 3, exits)
    fit = frailty(spells)
    rows: dict[str, Any] = {
        "plain": (fit.shape_plain, *fit.shape_plain_ci, 0.0, fit.loglik_plain, np.nan, np.nan),
        "frailty": (fit.shape, *fit.shape_ci, fit.variance, fit.loglik, *fit.variance_ci),
        **_contractual(spells),
    }
    columns = ["slope", "slope_low", "slope_high", "size", "loglik", "size_low", "size_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns), fit.p


def _contractual(spells: pd.DataFrame) -> dict[str, Any]:
    """Beta-geometric and beta-discrete-Weibull models, conditional on survival to entry."""
    from crmresearch.estimators.lifetime import BetaDiscreteWeibullFitter, ShiftedBetaGeoFitter

    entry = spells["entry"].to_numpy(int) if "entry" in spells.columns else None
    months, gone, n = spells["exit"].to_numpy(int), spells["event"].to_numpy(bool), spells["n"].to_numpy()
    rows = {}
    for name, model in (("sbg", ShiftedBetaGeoFitter()), ("bdw", BetaDiscreteWeibullFitter())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)  # a flat direction shows as an endless interval
            try:
                fit = model.fit(months, gone, n, entry)
            except FitError:
                continue
        both = fit.params_.to_numpy()[:2]
        # log of the sum of both: its error by the delta method carries over to 1 / (1 + sum)
        variance = fit.variance_matrix_.to_numpy()[:2, :2].sum() / both.sum() ** 2
        high, low = 1 / (1 + np.exp(ends(np.log(both.sum()), np.sqrt(max(variance, 0.0)))))
        slope = (0.0, np.nan, np.nan)
        if "c" in fit.params_:
            slope = (float(fit.params_["c"]) - 1, *(fit.confidence_intervals_.loc["c"].to_numpy(float) - 1))
        rows[name] = (*slope, 1 / (1 + both.sum()), fit.log_likelihood_, low, high)
    return rows
