"""Moments of items and of their bootstrap resamples: all that the models of this package need of the rows."""

from __future__ import annotations

import numpy as np

from crmresearch.estimators.inference import Estimate, complete, ends, from_draws, sized

ROWS, REPS = 8192, 64  # rows and resamples held at a time


def covariance(x: np.ndarray) -> np.ndarray:
    """Covariance matrix of the columns (denominator: the number of rows)."""
    (x,) = complete(items=x)
    w = np.full(len(x), 1 / len(x))
    centred = x - w @ x
    return (centred * w[:, None]).T @ centred


def skewness(x: np.ndarray) -> tuple[float, float, float]:
    """Skewness and the ends of its interval, from its influence function (fourth moments as they are)."""
    (x,) = complete(answers=x)
    z = (x - x.mean()) / x.std()
    value = float((z**3).mean())
    influence = z**3 - value - 3 * z - 1.5 * value * (z**2 - 1)
    low, high = ends(value, influence.std() / np.sqrt(len(x)))
    return value, float(low), float(high)


def draw_counts(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each row is drawn, one resample per line."""
    return np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(resamples)])


def resampled_covariances(x: np.ndarray, resamples: int, seed: int, *, cluster: np.ndarray | None = None) -> np.ndarray:
    """Covariance matrices of bootstrap resamples of the rows of ``x``.

    Parameters
    ----------
    x : array, shape (n, p)
    resamples, seed : int
    cluster : array of int, optional
        Rows with the same number are drawn together (waves of one customer).

    Returns
    -------
    array, shape (resamples, p, p)
    """
    (x,) = complete(items=x)
    n, p = x.shape
    sized(n, p)
    rng = np.random.default_rng(seed)
    x = x - x.mean(axis=0)  # keeps the moments small, so that nothing cancels
    upper = np.triu_indices(p)
    out = np.empty((resamples, p, p))
    codes = None if cluster is None else np.unique(cluster, return_inverse=True)[1]
    units = n if codes is None else int(codes.max()) + 1
    for start in range(0, resamples, REPS):
        count = draw_counts(units, min(REPS, resamples - start), rng).astype(float)
        if codes is not None:
            count = count[:, codes]
        total = count.sum(axis=1)
        first, second = np.zeros((len(count), p)), np.zeros((len(count), len(upper[0])))
        for row in range(0, n, ROWS):
            part, some = x[row : row + ROWS], count[:, row : row + ROWS]
            first += some @ part
            second += some @ (part[:, upper[0]] * part[:, upper[1]])
        mean = first / total[:, None]
        block = second / total[:, None] - mean[:, upper[0]] * mean[:, upper[1]]
        chunk = out[start : start + len(count)]
        chunk[:, upper[0], upper[1]] = block
        chunk[:, upper[1], upper[0]] = block
    return out


def correlations(cov: np.ndarray) -> np.ndarray:
    """Correlation matrices of (a stack of) covariance matrices."""
    (cov,) = complete(covariances=cov)
    sd = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    return cov / (sd[..., :, None] * sd[..., None, :])


def resampled_correlations(
    x: np.ndarray, resamples: int, seed: int, *, cluster: np.ndarray | None = None
) -> np.ndarray:
    """Correlation matrices of the data (first) and of bootstrap resamples of its rows."""
    drawn = resampled_covariances(x, resamples, seed, cluster=cluster)
    return correlations(np.concatenate([covariance(x)[None], drawn]))


def percentile(sample: np.ndarray, unit: str, n: int) -> Estimate:
    """Estimate from the data (first of ``sample``) with the percentile interval of its resamples (all others)."""
    value = float(sample[0])
    se, low, high = (float(v) for v in from_draws(sample[1:]))
    return Estimate(value, low, high, unit, n, float(se))
