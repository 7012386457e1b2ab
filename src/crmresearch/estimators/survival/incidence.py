"""Cumulative incidence of leaving for each cause (Aalen-Johansen), exact with ties and late entry, with its variance.

Counts by month and cause are one bincount; all the rest is arithmetic over months.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import z
from crmresearch.estimators.survival.curves import _grid, span
from crmresearch.estimators.survival.risk import Spells, read_spells, reverse_cumsum


@dataclass(frozen=True)
class Incidence:
    """Curves as arrays: ``time, at_risk`` by month; ``events, incidence, se`` by cause and month."""

    start: float
    time: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    incidence: np.ndarray
    se: np.ndarray


def aalen_johansen(spells: Spells, cause: np.ndarray, causes: int, *, at_least: int = 1) -> Incidence:
    """Estimate incidence and its standard error from checked arrays.

    Parameters
    ----------
    spells : Spells
        From :func:`crmresearch.estimators.survival.risk.read_spells`.
    cause : ndarray of int
        0 for who did not leave, 1 to ``causes`` for who did.
    causes : int
        Number of causes.
    at_least : int
        Customers at risk along the whole curve, as in :func:`kaplan_meier`.

    References
    ----------
    Aalen and Johansen (1978), Scandinavian Journal of Statistics 5; variance of Marubini and Valsecchi (1995),
    accumulated so that it costs one pass.
    """
    time = _grid(spells)
    months = len(time)
    whole = time[-1] == months - 1 and time[0] == 0  # the time is its own position
    position = spells.exit.astype(np.intp) if whole else np.searchsorted(time, spells.exit)
    single = None if (spells.n == 1).all() else spells.n
    cells = np.bincount(position * (causes + 1) + cause, single, minlength=months * (causes + 1))
    counts = cells.reshape(months, causes + 1).astype(float)
    gone = counts.sum(axis=1)
    begun = np.zeros(months)
    if spells.late:
        entry = spells.entry.astype(np.intp) if whole else np.searchsorted(time, spells.entry)
        begun += np.bincount(entry, single, minlength=months)
    else:
        begun[0] = gone.sum()
    # at risk at t: entered before t, not gone before t
    at_risk = np.concatenate(([0.0], begun.cumsum()[:-1])) - (gone.sum() - reverse_cumsum(gone))
    first, last = span(at_risk, at_least)
    keep = slice(first + 1, last + 1)
    n, own = at_risk[keep], counts[keep, 1:].T
    d = own.sum(axis=0)
    survival = np.cumprod(1 - d / n)
    before = np.concatenate(([1.0], survival[:-1]))
    ratio = own / n
    f = (before * ratio).cumsum(axis=1)
    # the double sum over s <= t of the delta method, written with running sums
    a = np.divide(d, n * (n - d), out=np.zeros(len(n)), where=n > d)
    c = before * ratio / n
    fa = f * a
    variance = f * (f * a.cumsum() - 2 * (fa + c).cumsum(axis=1)) + (
        f * (fa + 2 * c) + before * (before - before * ratio) * ratio / n
    ).cumsum(axis=1)
    return Incidence(float(time[first]), time[keep], n, own, f, np.sqrt(np.maximum(variance, 0.0)))


def cumulative_incidence(
    spells: pd.DataFrame, *, at_least: int = 1, causes: Sequence[str] | None = None
) -> pd.DataFrame:
    """Estimate the share that has left for each cause, exactly, with ties and late entry.

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, ``cause`` (read where event is 1), optional ``entry`` and ``n``.
    at_least : int
        Customers at risk along the whole curve, as in :func:`kaplan_meier`.
    causes : sequence of str, optional
        Causes and their order; all that occur, sorted, when absent. Exits for others compete.

    Returns
    -------
    DataFrame
        Long: ``cause, time, at_risk, events, incidence, se, ci_low, ci_high, one_minus_km``. The interval is on the
        log(-log) scale. The last column is the naive curve that treats the other causes as censoring; it overstates,
        and is given to be shown beside.
    """
    checked = read_spells(spells)
    if "cause" not in spells.columns:
        raise InputError("cumulative incidence needs the column cause")
    code, found = pd.factorize(spells["cause"].to_numpy(dtype=object))
    unnamed = int((checked.event & (code < 0)).sum())
    if causes is None and unnamed:
        raise InputError(f"{unnamed} exits have no cause; name it 'unknown' if that is what it is")
    occurring = [found[k] for k in np.unique(code[checked.event]) if k >= 0]
    shown = sorted(map(str, occurring)) if causes is None else list(causes)
    if not shown:
        raise FitError("nobody left, so there is no incidence to estimate")
    every = [*shown, *(c for c in found if c not in shown), None]  # None: exits without a cause
    place = np.array([1 + every.index(c) for c in found] + [len(every)])
    fit = aalen_johansen(checked, np.where(checked.event, place[code], 0), len(every), at_least=at_least)
    k, months = len(shown), len(fit.time)
    f, se, own = fit.incidence[:k], fit.se[:k], fit.events[:k]
    with np.errstate(divide="ignore", invalid="ignore"):
        half = z() * se / (np.abs(np.log(f)) * f)
        low = np.where(f > 0, f ** np.exp(half), 0.0)
        high = np.where(f > 0, f ** np.exp(-half), 0.0)
    out = pd.DataFrame(
        {
            "cause": np.repeat(np.array(shown, dtype=object), months),
            "time": np.tile(fit.time, k),
            "at_risk": np.tile(fit.at_risk, k),
            "events": own.ravel(),
            "incidence": f.ravel(),
            "se": se.ravel(),
            "ci_low": low.ravel(),
            "ci_high": high.ravel(),
            "one_minus_km": (1 - np.cumprod(1 - own / fit.at_risk, axis=1)).ravel(),
        }
    )
    out.attrs["start"] = fit.start
    return out
