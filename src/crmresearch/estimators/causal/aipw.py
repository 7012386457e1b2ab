"""Doubly robust effects of an offer that was not drawn by lot, and how much the unseen would have to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.blocks import Array, Functional, checked, summed
from crmresearch.estimators.inference import complete, full_rank, logit_fit, sized

MIN_ARM = 50  # customers an arm needs
RIDGE = 1e-6  # keeps separated columns finite


def _coefficient_influence(x: Array, residual: Array, weight: Array) -> Array:
    """Influence of each customer on regression coefficients: inverse information times score."""
    return np.asarray((x * residual[:, None]) @ np.linalg.pinv((x * weight[:, None]).T @ x / len(x)))


def design(frame: pd.DataFrame, covariates: tuple[str, ...]) -> Array:
    """Intercept and standardised covariates; constant columns are left out, missing and collinear ones refused."""
    checked(frame, covariates, what="campaigns")
    kept = [c for c in covariates if frame[c].to_numpy(float).std() > 0]
    value = frame[kept].to_numpy(float)
    x = np.column_stack([np.ones(len(frame)), (value - value.mean(axis=0)) / value.std(axis=0)])
    full_rank(x, ("intercept", *kept))
    return x


@dataclass(frozen=True)
class Aipw:
    """Doubly robust effect of an offer.

    Attributes
    ----------
    effect : Functional
        Mean outcome with the offer less without, over everybody eligible.
    effect_treated : Functional
        The same over those who got it.
    weighted, regressed : Functional
        Weighting alone and regression alone, for comparison; their errors account for the models that were fitted.
    naive : float
        The plain difference.
    propensity : array
        Estimated chance of an offer.
    """

    effect: Functional
    effect_treated: Functional
    weighted: Functional
    regressed: Functional
    naive: float
    propensity: Array


def aipw(frame: pd.DataFrame, outcome: Array, covariates: tuple[str, ...], blocks: int) -> Aipw:
    """Augmented inverse-probability weighting with logistic models for the offer and a binary outcome.

    Parameters
    ----------
    frame : DataFrame
        ``block``, ``treated`` (0/1) and covariates.
    outcome : array
        Binary (logistic model) or any other number (linear model).
    covariates : tuple of str
        What offers may have followed.
    blocks : int
        Number of blocks.

    Returns
    -------
    Aipw
        Errors come from the efficient influence function.

    Raises
    ------
    FitError
        If an arm has fewer than 50 customers.

    References
    ----------
    Robins, Rotnitzky, Zhao (1994). *JASA* 89, 846-866. Glynn, Quinn (2010). *Political Analysis* 18, 36-56.
    """
    t, y = complete(treated=frame["treated"], outcome=outcome)
    n = len(y)
    if min(t.sum(), n - t.sum()) < MIN_ARM:
        raise FitError(f"an arm has {int(min(t.sum(), n - t.sum()))} customers; {MIN_ARM} are needed")
    x = design(frame, covariates)
    binary = bool(np.isin(y, (0.0, 1.0)).all())
    e = np.clip(logit_fit(x, t, ridge=RIDGE).fitted, 1e-4, 1 - 1e-4)
    fitted = []
    for arm in (1.0, 0.0):
        own = t == arm
        sized(own.sum(), x.shape[1])
        if binary:
            fitted.append(logit_fit(x[own], y[own], ridge=RIDGE).predict(x))
        else:
            fitted.append(x @ np.linalg.lstsq(x[own], y[own], rcond=None)[0])
    m1, m0 = fitted
    each = m1 - m0 + t * (y - m1) / e - (1 - t) * (y - m0) / (1 - e)
    share = t.mean()
    att = (t * (y - m0) - (1 - t) * (y - m0) * e / (1 - e)) / share

    def functional(value: float, influence: Array) -> Functional:
        return Functional(value, summed(frame, influence / n, blocks))

    # weighting and regression alone move with the coefficients they rest on
    w1, w0 = t / e, (1 - t) / (1 - e)
    mu1, mu0 = (float(w @ y / w.sum()) for w in (w1, w0))
    by_offer = x.T @ (-w1 * (1 - e) * (y - mu1)) / w1.sum() - x.T @ (w0 * e * (y - mu0)) / w0.sum()
    weighting = n * (w1 * (y - mu1) / w1.sum() - w0 * (y - mu0) / w0.sum())
    weighting = weighting + _coefficient_influence(x, t - e, e * (1 - e)) @ by_offer
    modelled: Array = m1 - m0 - float(np.mean(m1 - m0))
    for sign, inside, m in ((1, t, m1), (-1, 1 - t, m0)):
        slope = m * (1 - m) if binary else np.ones(n)
        modelled = modelled + sign * _coefficient_influence(x, inside * (y - m), inside * slope) @ (x.T @ slope / n)
    return Aipw(
        functional(float(each.mean()), each - each.mean()),
        functional(float(att.mean()), att - t / share * att.mean()),
        functional(mu1 - mu0, weighting),
        functional(float((m1 - m0).mean()), modelled),
        float(y[t == 1].mean() - y[t == 0].mean()),
        e,
    )


def sensitivity_bounds(treated: Array, outcome: Array, propensity: Array, odds: float) -> tuple[float, float]:
    """Range of the effect if unseen things change everybody's odds of an offer by at most a factor.

    The marginal sensitivity model: the true odds of an offer, given everything, lie within ``1 / odds`` and
    ``odds`` times the estimated ones. For a binary outcome the extremes put all leavers at one end.

    References
    ----------
    Tan (2006). *JASA* 101, 1619-1637. Zhao, Small, Bhattacharya (2019). *JRSS B* 81, 735-761.
    """
    if odds < 1:
        raise InputError(f"odds = {odds:g}: a factor of at least 1 is needed")

    def extreme(in_arm: Array, chance: Array, up: bool) -> float:
        excess = 1 / chance - 1
        high, low = 1 + odds * excess, 1 + excess / odds
        weight = in_arm * np.where((outcome == 1) == up, high, low)
        return float((weight @ outcome) / weight.sum())

    t, e = treated.astype(float), propensity
    most = extreme(t, e, True) - extreme(1 - t, 1 - e, False)
    least = extreme(t, e, False) - extreme(1 - t, 1 - e, True)
    return least, most


def tipping(treated: Array, outcome: Array, propensity: Array, half: float, sign: float) -> float:
    """Smallest factor at which the bounds, widened by the sampling error, reach zero."""
    from scipy.optimize import brentq

    def gap(log_odds: float) -> float:
        least, most = sensitivity_bounds(treated, outcome, propensity, float(np.exp(log_odds)))
        return (least - half) if sign > 0 else -(most + half)

    if gap(0.0) <= 0:
        return 1.0
    return float(np.exp(brentq(gap, 0.0, 5.0))) if gap(5.0) < 0 else float(np.exp(5.0))
