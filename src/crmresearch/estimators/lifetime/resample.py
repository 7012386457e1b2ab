"""Nonparametric bootstrap of customers: intervals for parameters and for everything computed from them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, FitWarning, InputError
from crmresearch.estimators.lifetime.base import Fitter, maximise
from crmresearch.estimators.lifetime.summary import collapse


@np.errstate(all="ignore")  # a step too far gives no finite likelihood, and is shortened
def bootstrap(
    fitters: Fitter | Sequence[Fitter], frame: pd.DataFrame, repetitions: int = 1000, seed: int = 0
) -> list[pd.DataFrame]:
    """Refit models to customers drawn with replacement, the same customers for every model.

    Parameters
    ----------
    fitters : Fitter or sequence of Fitter
        Models fitted to this frame.
    frame : DataFrame
        One row per customer, with the columns the models were fitted to: frequency, recency, T (n_periods for BG/BB),
        monetary_value, T and churned for contractual models. The gamma-gamma model takes the customers with repeat
        purchases.
    repetitions : int
        Number of resamples.
    seed : int
        Seed of the generator.

    Returns
    -------
    list of DataFrame
        For each model the parameters by resample (row); a row goes to :meth:`Fitter.from_params`. Rows correspond
        between models.

    Raises
    ------
    FitError
        More than 5% of the resamples found no maximum.

    Warns
    -----
    FitWarning
        Fewer than that, but some. Their last point is kept: leaving them out would make intervals too short.
    """
    models = [fitters] if isinstance(fitters, Fitter) else list(fitters)
    if repetitions < 1:
        raise InputError(f"repetitions is {repetitions}; give at least 1")
    if not len(frame):
        raise InputError("no rows to resample")
    prepared = []
    for model in models:
        columns, rows = model._from_frame(frame)
        distinct, weights, place = collapse(columns, inverse=True)
        if not np.isclose(weights.sum(), model.n_ if hasattr(model, "n_") else np.nan):
            raise InputError(
                f"{type(model).__name__} was not fitted to this frame ({weights.sum():.0f} customers here)"
            )
        theta = np.log(model.params_.to_numpy())
        prepared.append((model, distinct, rows, place, theta, model._covariance * model.n_))
    rng = np.random.default_rng(seed)
    draws = [np.empty((repetitions, len(model.params_))) for model in models]
    failed = 0
    for k in range(repetitions):
        drawn = np.bincount(rng.integers(0, len(frame), len(frame)), minlength=len(frame)).astype(np.float64)
        for out, (model, distinct, rows, place, theta, metric) in zip(draws, prepared, strict=True):
            repeats = np.bincount(place, drawn[rows], len(distinct[0])).astype(np.float64)
            kept = repeats > 0
            likelihood = model._likelihood([c[kept] for c in distinct], repeats[kept])
            end, _, _, good = maximise(likelihood, theta, repeats.sum(), metric)
            failed += not good
            out[k] = np.exp(end)
    if failed > 0.05 * repetitions * len(models):
        raise FitError(
            f"{failed} of {repetitions * len(models)} refits found no maximum; the model is too rich for these data"
        )
    if failed:
        warnings.warn(f"{failed} of {repetitions * len(models)} refits found no maximum", FitWarning, stacklevel=2)
    return [pd.DataFrame(d, columns=m.params_.index) for d, m in zip(draws, models, strict=True)]
