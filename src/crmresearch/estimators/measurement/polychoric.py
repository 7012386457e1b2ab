"""Polychoric correlations: what ordinal items would correlate at, had they not been cut into answers.

Two steps (Olsson 1979): thresholds from the margins, then one correlation per pair by maximum likelihood, here by
Fisher scoring for all pairs (and all bootstrap resamples) at once. Probabilities of the bivariate normal come from
integrating its density over the correlation (Drezner and Wesolowsky 1990), which also gives the exact derivative.
"""

from __future__ import annotations

import numpy as np

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import complete
from crmresearch.estimators.measurement.moments import draw_counts

LIMIT, EDGE = 0.995, 8.0  # largest correlation tried; where a standard normal ends
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(12)


def _density(a: np.ndarray, b: np.ndarray, r: np.ndarray) -> np.ndarray:
    gap = 1 - r**2
    return np.exp(-(a * a - 2 * r * a * b + b * b) / (2 * gap)) / (2 * np.pi * np.sqrt(gap))


def binormal_cdf(a: np.ndarray, b: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Probability that two standard normals with correlation ``r`` lie below ``a`` and ``b``; arguments broadcast.

    With r = sin(t) the derivative along t is smooth up to r near 1, so twelve nodes give about nine digits.
    """
    from scipy.special import ndtr

    angle = np.arcsin(r)
    product, squares = a * b, (a * a + b * b) / 2
    total = np.zeros(np.broadcast_shapes(product.shape, np.shape(r)))
    part = np.empty_like(total)
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        t = angle * (node + 1) / 2
        np.multiply(product, np.sin(t), out=part)
        part -= squares
        part /= np.cos(t) ** 2
        np.exp(part, out=part)
        part *= weight
        total += part
    return ndtr(a) * ndtr(b) + angle / (4 * np.pi) * total


def _one_hot(x: np.ndarray) -> tuple[np.ndarray, int]:
    """Stack the indicators of all items, padded to the same number of answers."""
    (x,) = complete(items=x)
    codes = [np.unique(column, return_inverse=True) for column in x.T]
    answers = max(len(values) for values, _ in codes)
    if answers > 12:
        raise InputError(f"an item has {answers} different answers; polychoric correlations are for ordinal items")
    hot = np.zeros((len(x), x.shape[1], answers))
    for k, (_, code) in enumerate(codes):
        hot[np.arange(len(x)), k, code] = 1
    return hot.reshape(len(x), -1), answers


def _correlations(tables: np.ndarray, start: np.ndarray, rounds: int) -> np.ndarray:
    """Fisher scoring on contingency tables (cells, answers, answers); empty answers have width zero and do no harm."""
    from scipy.special import ndtri

    tables = tables / tables.sum(axis=(1, 2), keepdims=True)

    def cuts(margin: np.ndarray) -> np.ndarray:
        cumulated = np.clip(np.cumsum(margin, axis=1)[:, :-1], 0, 1)
        edge = np.full((len(margin), 1), EDGE)
        return np.concatenate([-edge, np.clip(ndtri(cumulated), -EDGE, EDGE), edge], axis=1)

    a, b = cuts(tables.sum(axis=2))[:, :, None], cuts(tables.sum(axis=1))[:, None, :]
    r = np.clip(start, -LIMIT, LIMIT)
    step = np.ones_like(r)
    for _ in range(rounds):
        rho = r[:, None, None]
        cell = np.diff(np.diff(binormal_cdf(a, b, rho), axis=1), axis=2)
        slope = np.diff(np.diff(_density(a, b, rho), axis=1), axis=2)
        safe = np.maximum(cell, 1e-10)
        score = (tables * slope / safe).sum(axis=(1, 2))
        information = (np.where(cell > 1e-10, slope**2 / safe, 0.0)).sum(axis=(1, 2))
        step = np.clip(score / information, -0.3, 0.3)
        r = np.clip(r + step, -LIMIT, LIMIT)
        if np.abs(step).max() < 1e-8:
            break
    if rounds > 10 and np.abs(step).max() > 1e-4 and (np.abs(r) < LIMIT).all():
        raise FitError("a polychoric correlation did not settle; merge rare answers of the items")
    return r


def _assemble(values: np.ndarray, p: int) -> np.ndarray:
    out = np.broadcast_to(np.eye(p), (len(values), p, p)).copy()
    i, j = np.triu_indices(p, 1)
    out[:, i, j] = values
    out[:, j, i] = values
    return out


def polychoric(x: np.ndarray) -> np.ndarray:
    """Matrix of polychoric correlations of the columns of ``x`` (at most 12 answers each)."""
    return _from_counts(np.ones((1, len(x))), x, None, 60)[0]


def _from_counts(counts: np.ndarray, x: np.ndarray, start: np.ndarray | None, rounds: int) -> np.ndarray:
    hot, m = _one_hot(x)
    hot = hot.astype(np.float32)  # whole numbers below 2^24 are exact, and the product takes half the time
    p = x.shape[1]
    i, j = np.triu_indices(p, 1)
    first = np.corrcoef(x, rowvar=False)[i, j] if start is None else start[i, j]
    out = []
    for count in counts:
        cross = (hot * count[:, None].astype(np.float32)).T @ hot
        tables = cross.reshape(p, m, p, m).transpose(0, 2, 1, 3)[i, j].astype(float)
        out.append(_correlations(tables, first, rounds))
    return _assemble(np.stack(out), p)


def resampled_polychoric(x: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Polychoric matrix of the data and of bootstrap resamples.

    A resample starts at the estimate of the data and takes one scoring step, from its own margins: what is left is of
    smaller order than the sampling error (a hundredth of it with 1,300 answers).
    """
    whole = polychoric(x)
    counts = draw_counts(len(x), resamples, np.random.default_rng(seed)).astype(float)
    return whole, _from_counts(counts, x, whole, 1)
