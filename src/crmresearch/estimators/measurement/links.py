"""The form of a link between scores: kinks, a spline of shares, two slopes, ranks within cells, what matters most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.frames import inner
from crmresearch.estimators.inference import (
    LEVEL,
    Estimate,
    complete,
    ends,
    from_draws,
    full_rank,
    logit_fit,
    natural_spline,
    normal,
    resample,
    robust_ols,
    sized,
)

BOOTSTRAPS = 300  # most resamples of the place of a kink


@dataclass(frozen=True)
class Kink:
    """The best-placed kink of a line: where, by how much the slope changes there, and whether there is one at all."""

    place: Estimate
    change: Estimate
    p: float


def _hinge_search(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F statistics of a kink at each grid point for a stack of outcomes, and the change of slope there."""
    q = np.linalg.qr(np.column_stack([np.ones_like(x), x]))[0]
    rest = y - q @ (q.T @ y)
    hinge = np.maximum(x[:, None] - grid, 0)
    hinge = hinge - q @ (q.T @ hinge)
    size = (hinge**2).sum(axis=0)
    slope = hinge.T @ rest / size[:, None]
    gain = slope**2 * size[:, None]
    return gain / (((rest**2).sum(axis=0) - gain) / (len(x) - 3)), slope


def kink(x: np.ndarray, y: np.ndarray, *, resamples: int, seed: int) -> Kink:
    """Search a kink between the 10th and 90th percentile of ``x``.

    The test takes the search into account (largest F, wild bootstrap under a straight line); the intervals come from
    resampling rows.
    """
    x, y = complete(x=x, y=y)
    rng = np.random.default_rng(seed)
    grid = np.unique(np.quantile(x, np.linspace(0.1, 0.9, 33)))
    f, slope = _hinge_search(x, y[:, None], grid)
    best = int(f[:, 0].argmax())
    sized(len(x), 4)  # two straight lines and where they meet
    base = np.column_stack([np.ones_like(x), x])
    straight = base @ np.linalg.lstsq(base, y, rcond=None)[0]
    flips = rng.choice([-1.0, 1.0], size=(len(x), resamples))
    null = _hinge_search(x, straight[:, None] + (y - straight)[:, None] * flips, grid)[0].max(axis=0)
    drawn = []
    for _ in range(min(resamples, BOOTSTRAPS)):
        take = rng.integers(0, len(x), len(x))
        f_b, slope_b = _hinge_search(x[take], y[take][:, None], grid)
        at = int(f_b[:, 0].argmax())
        drawn.append((grid[at], slope_b[at, 0]))
    _, low, high = from_draws(drawn)
    return Kink(
        Estimate(grid[best], low[0], high[0], "standard deviations", len(x)),
        Estimate(slope[best, 0], low[1], high[1], "change of slope", len(x)),
        float((1 + (null >= f[best, 0]).sum()) / (resamples + 1)),
    )


def spline_share(x: np.ndarray, top: np.ndarray) -> pd.DataFrame:
    """Share of ``top`` along ``x``: logit of a natural spline with four knots, with pointwise intervals."""
    knots = np.unique(np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
    knots = knots if len(knots) > 2 else np.linspace(x.min(), x.max(), 3)
    design = natural_spline(x, knots)
    full_rank(
        np.column_stack([np.ones(len(x)), design]), ["constant", *(f"spline {k + 1}" for k in range(len(knots) - 1))]
    )
    fit = logit_fit(np.column_stack([np.ones(len(x)), design]), top)
    grid = inner(x, 0.02, 60)
    at = natural_spline(grid, knots)
    eta = fit.params[0] + at @ fit.params[1:]
    at = at - design.mean(axis=0)  # the constant is best known where the data are
    known = (fit.fitted * (1 - fit.fitted)).sum()
    se = np.sqrt(np.einsum("ij,jk,ik->i", at, fit.covariance[1:, 1:], at) + 1 / known)
    share = 1 / (1 + np.exp(-np.stack([eta, *ends(eta, se)])))
    return pd.DataFrame({"x": grid, "y": share[0], "low": share[1], "high": share[2]})


def slopes(design: pd.DataFrame, y: np.ndarray, cluster: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with robust errors (HC3, or by cluster) on columns that must not be combinations of others."""
    full_rank(design.to_numpy(dtype=float), [str(c) for c in design.columns])
    return robust_ols(design.to_numpy(dtype=float), y, cluster)


def slopes_by_sign(
    x: np.ndarray, y: np.ndarray, unit: str, cluster: np.ndarray | None = None
) -> tuple[Estimate, Estimate, Estimate]:
    """Regress ``y`` on the parts of ``x`` below and above 0: both slopes and the first less the second (HC3)."""
    sides = int((x < 0).sum()), int((x > 0).sum())
    if min(sides) < 30:
        raise NotApplicable("fewer than 30 answers lie on one side of the reference; asymmetry cannot be told")
    beta, cov = slopes(
        pd.DataFrame({"constant": 1.0, "below": np.minimum(x, 0), "above": np.maximum(x, 0)}), y, cluster
    )
    loss, gain, gap = (
        normal(float(r @ beta), float(np.sqrt(r @ cov @ r)), unit, n)
        for r, n in zip(np.array([[0, 1, 0], [0, 0, 1], [0, 1, -1]]), (*sides, len(x)), strict=True)
    )
    return loss, gain, gap


def relative_weights(corr: np.ndarray, target: int, drivers: np.ndarray) -> np.ndarray:
    """Split R squared over correlated drivers (Johnson 2000), for a stack of correlation matrices.

    Returns
    -------
    array (b, drivers)
        Parts that add up to R squared.
    """
    values, vectors = np.linalg.eigh(corr[:, drivers[:, None], drivers])
    if values.min() < 1e-10:
        raise InputError("the drivers are linearly dependent; drop one")
    root = (vectors * np.sqrt(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    beta = np.linalg.solve(root, corr[:, drivers, target][:, :, None])[:, :, 0]
    return np.einsum("bij,bj->bi", root**2, beta**2)


def simultaneous(share: np.ndarray) -> np.ndarray:
    """Half widths that hold for all columns at once: the largest deviation of resamples (rows after the first)."""
    spread = share[1:].std(axis=0)
    deviation = np.abs(share[1:] - share[0]) / spread
    return np.quantile(deviation.max(axis=1), LEVEL) * spread


def partial_ranks(
    x: np.ndarray, y: np.ndarray, cell: np.ndarray, cluster: np.ndarray, unit: str, *, resamples: int, seed: int
) -> Estimate:
    """Rank correlation of ``x`` and ``y`` given a cell: of their mid-ranks, less the means of each cell.

    Clusters (people who answer more than once) are resampled whole, and ranked and centred anew in every resample.
    """
    codes = [np.unique(v, return_inverse=True)[1] for v in (x, y, cell, cluster)]
    *ranked, cells, people = codes
    sized(len(x), 1 + int(cells.max()) + 1)

    def correlation(weight: np.ndarray) -> float:
        size = np.bincount(cells, weight)
        rest = []
        for code in ranked:
            count = np.bincount(code, weight)
            rank = (count.cumsum() - count / 2)[code]
            mean = np.bincount(cells, weight * rank) / np.where(size > 0, size, 1)
            rest.append(rank - mean[cells])
        both, first, second = ((weight * a * b).sum() for a, b in ((*rest,), (rest[0],) * 2, (rest[1],) * 2))
        return float(both / np.sqrt(first * second))

    rng = np.random.default_rng(seed)
    drawn = [correlation(resample(rng, people.max() + 1)[people]) for _ in range(resamples)]
    se, low, high = from_draws(drawn)
    return Estimate(correlation(np.ones(len(x))), float(low), float(high), unit, len(x), se=float(se))
