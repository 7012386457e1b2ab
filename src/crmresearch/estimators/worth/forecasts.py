"""Scoring forecasts of value on what customers did next, beside naive ones.

A forecast is scored on level (predicted over actual total) and on rank (who will be worth more), because models often
rank well and miss the level. Two naive forecasts stand beside it: the last year continued, and the mean of the whole
history continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import jackknife, mean_interval, tied_groups
from crmresearch.rules import whose


def rank_correlation(x: Any, y: Any) -> float:
    """Spearman's correlation."""
    return float(pd.Series(x).corr(pd.Series(y), method="spearman"))


def accuracy(predicted: Mapping[str, np.ndarray], actual: np.ndarray, codes: np.ndarray) -> pd.DataFrame:
    """Level, rank accuracy and mean absolute error of forecasts, with delete-a-group jackknife intervals.

    Parameters
    ----------
    predicted : mapping of str to array
        By method: ``(n,)``, or ``(groups + 1, n)`` for a model refitted without each group.
    actual : array, (n,)
        What happened.
    codes : array, (n,)
        Group of each customer, 0 to groups - 1.

    Returns
    -------
    DataFrame
        ``method``, ``level`` (predicted over actual total), ``rank`` (Spearman's correlation), ``error`` (mean
        absolute), each with ``_se``, ``_low`` and ``_high``; ``rank_gap`` and ``error_gap``, a method's less the first
        one's on the same customers, with ``_low`` and ``_high``; ``n``.
    """
    groups = int(codes.max()) + 1
    if actual.sum() <= 0:
        raise InputError("the actual total is not positive, so a level ratio means nothing; take another period")
    rows: list[tuple[Any, ...]] = []
    first: Any = None
    for method, values in predicted.items():
        every = np.broadcast_to(values, (groups + 1, actual.size)) if values.ndim == 1 else values
        if not np.isfinite(every).all():
            raise InputError(f"{method}: {int((~np.isfinite(every)).any(axis=0).sum())} customers without a forecast")
        scores = np.empty((groups + 1, 3))
        for g in range(groups + 1):
            use = codes != g - 1
            p, a = every[g, use], actual[use]
            rank = rank_correlation(p, a) if np.ptp(p) > 0 else 0.0
            scores[g] = p.sum() / a.sum(), rank, np.abs(p - a).mean()
        ends = np.full(6, np.nan)  # nothing to compare the first with
        if rows:
            gaps = jackknife(scores[:, 1:] - first[:, 1:])
            ends = np.array([gaps.value, gaps.low, gaps.high]).T.ravel()
        else:
            first = scores
        rows.append((method, *np.array(jackknife(scores)).T.ravel(), *ends, actual.size))
    columns = [f"{name}{part}" for name in ("level", "rank", "error") for part in ("", "_se", "_low", "_high")]
    columns += [f"{name}_gap{part}" for name in ("rank", "error") for part in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["method", *columns, "n"])


def naive_forecasts(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Forecast twelve months without a model: the last year continued, and the mean of the history continued."""
    named = {"last year continued": "before", "mean of history": "all"}
    return {name: frame[c].to_numpy(dtype=float) / frame[f"months_{c}"].to_numpy() * 12 for name, c in named.items()}


def deciles(predicted: np.ndarray, actual: np.ndarray) -> pd.DataFrame:
    """Mean prediction and outcome by tenth of the prediction, with the outcome's interval; ties share a tenth."""
    tenth = tied_groups(predicted, 10)
    rows = []
    for number in np.unique(tenth):
        part = tenth == number
        if part.sum() > 1:
            people = int(part.sum()), whose(actual[part])
            rows.append((number + 1, predicted[part].mean(), *mean_interval(actual[part]), *people))
    return pd.DataFrame(rows, columns=["decile", "predicted", "actual", "ci_low", "ci_high", "n", "whose"])


def course(actual: Any, total: np.ndarray) -> pd.DataFrame:
    """Forecasts by period beside what happened, incremental and cumulative.

    Parameters
    ----------
    actual : array-like, (periods,)
        What happened in each period.
    total : array, (groups + 1, periods)
        Forecast from the start up to each period: of all, and refitted without each group.

    Returns
    -------
    DataFrame
        ``actual``, ``predicted`` (``ci_low``, ``ci_high``), ``cumulative``, ``predicted_cumulative`` (``cum_low``,
        ``cum_high``).
    """
    step, whole = jackknife(np.diff(total, axis=1, prepend=0.0)), jackknife(total)
    seen = {"actual": actual, **step.columns("predicted", "ci"), "cumulative": np.cumsum(actual)}
    return pd.DataFrame({**seen, **whole.columns("predicted_cumulative", "cum")})
