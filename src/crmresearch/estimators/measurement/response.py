"""Means of all who were asked from those who answered: inverse response probabilities, and bounds for the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.estimators.inference import Estimate, by_cluster, complete, full_rank, logit_fit, normal, z


@dataclass(frozen=True)
class Response:
    """Weighted mean, its standard error, and the modelled probability of an answer of each row, with its interval."""

    mean: float
    se: float
    probability: np.ndarray
    low: np.ndarray
    high: np.ndarray


def clustered_mean(y: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error by cluster."""
    (y,) = complete(values=y)
    mean = float(y.mean())
    return mean, float(np.sqrt(by_cluster(y - mean, cluster)[0, 0]) / len(y))


def weighted_response(x: pd.DataFrame, answered: np.ndarray, value: np.ndarray, cluster: np.ndarray) -> Response:
    """Mean of ``value`` over all rows, from those that answered, weighted by the inverse probability of an answer."""
    from scipy.special import expit

    design = x.assign(constant=1.0).to_numpy(float)
    full_rank(design, [*map(str, x.columns), "constant"])
    fit = logit_fit(design, answered.astype(float), nuisance=True)
    mean, se = _ipw_mean(x.to_numpy(float), answered, value, fit.fitted, cluster)
    score = design * (answered - fit.fitted)[:, None]
    bread = np.linalg.inv((design * (fit.fitted * (1 - fit.fitted))[:, None]).T @ design)
    half = z() * np.sqrt(np.einsum("ij,jk,ik->i", design, bread @ by_cluster(score, cluster) @ bread, design))
    low, high = (expit(design @ fit.params + side * half) for side in (-1, 1))
    return Response(mean, se, fit.fitted, low, high)


def _ipw_mean(
    x: np.ndarray, answered: np.ndarray, value: np.ndarray, probability: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
    """Weighted mean with a standard error that knows the weights were estimated (stacked estimating equations)."""
    complete(values=value[answered])
    w = np.where(answered, 1 / probability, 0.0)
    y = np.where(answered, value, 0.0)
    mean = float(w @ y / w.sum())
    moment = w * (y - mean)
    design = np.column_stack([np.ones(len(x)), x])
    score = design * (answered - probability)[:, None]
    hessian = (design * (probability * (1 - probability))[:, None]).T @ design
    # d moment / d coefficient = -odds of silence x moment
    slope = -(design * (np.where(answered, (1 - probability) / probability * (y - mean), 0.0))[:, None]).sum(axis=0)
    influence = (moment + score @ np.linalg.solve(hessian, slope)) / w.sum()
    return mean, float(np.sqrt(by_cluster(influence, cluster)[0, 0]))


def gamma_bounds(y: np.ndarray, w: np.ndarray, gamma: float) -> tuple[float, float]:
    """Extremes of the weighted mean when the odds behind each weight may be off by ``gamma`` either way.

    The extreme puts the largest weights on one side of a threshold of ``y``; all thresholds are tried (Zhao, Small and
    Bhattacharya 2019).
    """
    y, w = complete(values=y, weights=w)
    order = np.argsort(y, kind="stable")
    y, silent = y[order], w[order] - 1
    small, large = 1 + silent / gamma, 1 + silent * gamma

    def best(first: np.ndarray, then: np.ndarray) -> np.ndarray:
        top = np.concatenate([[0], np.cumsum(first * y)]) + np.concatenate([np.cumsum((then * y)[::-1])[::-1], [0]])
        bottom = np.concatenate([[0], np.cumsum(first)]) + np.concatenate([np.cumsum(then[::-1])[::-1], [0]])
        return top / bottom

    return float(best(large, small).min()), float(best(small, large).max())


def stated_against_actual(
    stated: np.ndarray, actual: np.ndarray, cluster: np.ndarray
) -> tuple[np.ndarray, Estimate, Estimate]:
    """Means of a stated chance and of what happened, their ratio and their difference; errors by cluster."""
    stated, actual = complete(stated=stated, actual=actual)
    both = np.column_stack([stated, actual])
    mean, n = both.mean(axis=0), len(both)
    cov = by_cluster(both - mean, cluster) / n**2
    gap = normal(mean[0] - mean[1], float(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])), "share", n)
    if not mean.all():
        return mean, Estimate(np.nan, np.nan, np.nan, "ratio", n), gap
    spread = cov[0, 0] / mean[0] ** 2 + cov[1, 1] / mean[1] ** 2 - 2 * cov[0, 1] / (mean[0] * mean[1])
    return mean, normal(np.log(mean[0] / mean[1]), float(np.sqrt(spread)), "ratio", n, log=True), gap
