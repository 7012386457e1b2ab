"""What speaks against a Cox model: a ratio that moves with time, separation, single customers, another library."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.inference import logit_fit
from crmresearch.estimators.survival.cox import CoxFit, RiskSets, _evaluate, _newton, dfbeta
from crmresearch.estimators.survival.risk import read_spells

CANDIDATES = 3  # customers left out in turn, of each kind


def diagnose(fit: CoxFit, rows: pd.DataFrame, covariate: str) -> dict[str, Any]:
    """Look at a Cox model: the ``trend`` of a covariate, its ``scarce`` side, the strongest ``pull`` of one customer.

    Parameters
    ----------
    fit : CoxFit
    rows : DataFrame
        What it was fitted to.
    covariate : str
        The one of interest.
    """
    trend = proportional_hazards_test(fit).set_index("covariate").loc[covariate]
    return {"trend": trend, "scarce": scarcest(rows, [covariate]), "pull": strongest_pull(fit)}


def proportional_hazards_test(fit: CoxFit) -> pd.DataFrame:
    """Test each coefficient, and all of them, against a trend over time: the exact score test.

    Time is one minus the Kaplan-Meier curve just before each event.

    Returns
    -------
    DataFrame
        ``covariate, chi2, df, p, drift, size``; the last row is ``GLOBAL``. ``drift``: how far the log hazard ratio of
        one standard deviation moves between the first and the last quarter of events; ``size``: how far it is from 0.

    References
    ----------
    Grambsch and Therneau (1994), Biometrika 81, without their approximation: the score and information of ``x g(t)``
    are summed over the risk sets, as in R's ``cox.zph`` since version 3.0 of survival.

    Raises
    ------
    FitError
        If exits fall on no more times than there are covariates.
    """
    from scipy.special import chdtrc

    sets, beta = fit.sets, fit.params.to_numpy() * fit.sets.scale
    plain = _evaluate(sets, beta, sets.weight, fit.ties)
    deaths = plain.sums.deaths
    g = np.tile(_share_gone(sets), len(sets.strata))
    g = g - np.average(g, weights=deaths)
    trend = _evaluate(sets, beta, sets.weight, fit.ties, g)
    square = _evaluate(sets, beta, sets.weight, fit.ties, g**2).information
    cross, u = trend.information, trend.score
    if np.unique(g[deaths > 0]).size <= len(u):  # as many moments as trends: nothing is left to test them with
        raise FitError(f"{fit.events} exits are too few to see whether hazard ratios change over time")
    variance = square - cross @ np.linalg.solve(plain.information, cross)
    # one covariate at a time, all of them adjusted for
    chi2 = np.r_[u**2 / np.diag(variance), u @ np.linalg.solve(variance, u)]
    df = np.r_[np.ones(len(u)), len(u)]
    order = np.argsort(g)
    low, high = g[order][np.searchsorted(np.cumsum(deaths[order]) / deaths.sum(), [0.125, 0.875])]
    return pd.DataFrame(
        {
            "covariate": [*fit.params.index, "GLOBAL"],
            "chi2": chi2,
            "df": df.astype(int),
            "p": chdtrc(df, chi2),
            "drift": np.r_[np.abs(u / np.diag(variance) * (high - low)), np.nan],
            "size": np.r_[np.abs(beta), np.nan],
        }
    )


def _share_gone(sets: RiskSets) -> np.ndarray:
    size = len(sets.times)
    at_risk, deaths = sets.sums(sets.weight, 1)
    n, d = at_risk[:, 0].reshape(-1, size).sum(axis=0), deaths[:, 0].reshape(-1, size).sum(axis=0)
    gone: np.ndarray = 1 - np.r_[1.0, np.cumprod(1 - d / n)[:-1]]
    return gone


def scarcest(frame: pd.DataFrame, covariates: Sequence[str]) -> tuple[float, str]:
    """Return how many exits or stayers the scarcest side of a covariate holds, and which covariate that is.

    A covariate separates when all exits (or all stayers) lie at its lowest or at its highest value; its coefficient
    is then infinite. Of a 0/1 covariate, both levels need exits and stayers.
    """
    spells = read_spells(frame, covariates)
    left, stayed = spells.n * spells.event, spells.n * ~spells.event
    least, where = np.inf, ""
    for name in covariates:
        values = frame[name].to_numpy(dtype=float)
        sides = (values > values.min(), values < values.max())
        found = min(float(k[side].sum()) for k in (left, stayed) for side in sides)
        if found < least:
            least, where = found, name
    return least, where


def strongest_pull(fit: CoxFit) -> tuple[float, str]:
    """Return by how many standard errors leaving out one customer moves a coefficient at most, and which one.

    The approximate change is small for a customer far from all others, who bends the fit to himself. So the customers
    with the largest approximate change and those with the most extreme covariates are left out in turn, exactly.
    """
    sets, scale = fit.sets, fit.sets.scale
    beta, se = fit.params.to_numpy() * scale, fit.se.to_numpy() * scale
    approximate = dfbeta(fit).abs().max(axis=1).to_numpy()
    extreme = np.abs(sets.x).max(axis=1)
    rows = {int(i) for score in (approximate, extreme) for i in np.argsort(score)[-CANDIDATES:]}
    worst, where = 0.0, str(fit.params.index[0])
    for row in sorted(rows):
        weight = sets.weight.copy()
        weight[row] -= 1
        try:
            moved = np.abs(_newton(sets, weight, fit.ties, beta, 1e-4)[0] - beta) / se
        except FitError:
            moved = np.full(len(beta), np.inf)  # without this customer there is no estimate
        if moved.max() > worst:
            worst, where = float(moved.max()), str(fit.params.index[int(moved.argmax())])
    return worst, where


def share_outside(frame: pd.DataFrame, group: str, covariates: Sequence[str], bounds: tuple[float, float]) -> float:
    """Share of customers whose probability of being in a group, from their covariates by a logit, is extreme.

    Raises
    ------
    FitError
        If the group is a function of the covariates.
    """
    n = frame["n"].to_numpy(dtype=float) if "n" in frame.columns else np.ones(len(frame))
    x = np.column_stack([np.ones(len(frame)), frame[list(covariates)].to_numpy(dtype=float)])
    p = logit_fit(x, frame[group].to_numpy(dtype=float), n=n, nuisance=True).fitted
    return float(n[(p < bounds[0]) | (p > bounds[1])].sum() / n.sum())


def by_lifelines(fit: CoxFit, rows: pd.DataFrame, strata: str | None = None) -> tuple[Any, float]:
    """Fit the same model by lifelines; return its fit, and the largest difference of a coefficient or an error.

    Its weights are no ties, so rows with counts are written out: the months that one customer after another of the
    same stratum and covariates is at risk are joined, which leaves every risk set as it is. None and infinity where
    lifelines does not converge.
    """
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    names = list(fit.params.index)
    long = written_out(rows, [*([strata] if strata else []), *names])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CoxPHFitter().fit(
                long, "exit", "event", entry_col="entry", strata=strata, fit_options={"precision": 1e-12}
            )
    except ConvergenceError:
        return None, np.inf
    gaps = (model.params_ - fit.params, model.standard_errors_ - fit.se)
    return model, float(max(gap[names].abs().max() for gap in gaps))


def written_out(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Write start-stop rows of one month that stand for many customers as spells of one, with the same risk sets.

    Parameters
    ----------
    rows : DataFrame
        ``exit`` (month), ``event``, ``n`` and the keys; every row is at risk for one month.
    keys : list of str
        Columns within which customers are alike.
    """
    out, levels = [], {k: rows[k].to_numpy() for k in keys}
    exits, n, gone = rows["exit"].to_numpy(int), rows["n"].to_numpy(), rows["event"].to_numpy(bool)
    for own in rows.groupby(keys, sort=True).indices.values():
        size = int(exits[own].max()) + 2
        left, stayed = (np.bincount(exits[own], n[own] * (gone[own] == k), minlength=size) for k in (True, False))
        gained = left[1:] + stayed[1:] - stayed[:-1]  # who is at risk in a month and was not, or no longer is
        months = np.arange(size)
        entry = np.repeat(months[:-1], np.maximum(gained, 0).astype(int))
        end = np.r_[np.repeat(months[:-1], np.maximum(-gained, 0).astype(int)), np.repeat(months, left.astype(int))]
        event = (np.arange(len(end)) >= len(end) - left.sum()) * 1
        order = np.argsort(end, kind="stable")  # first in, first out
        alike = {k: v[own[0]] for k, v in levels.items()}
        out.append(pd.DataFrame({"entry": entry, "exit": end[order], "event": event[order], **alike}))
    return pd.concat(out, ignore_index=True)
