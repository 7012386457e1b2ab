"""Saturating responses to spend, fitted to many resamples at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.estimators.blocks import Array
from crmresearch.estimators.inference import sized
from crmresearch.estimators.spending.winning import WinModel

GRID = 25  # spends at which the standardised win probability is read off
MOST_RATE = 20.0  # fastest saturation looked for, per unit of the largest spend


def won_curves(prospects: pd.DataFrame, fits: Mapping[Any, WinModel], weights: Array) -> Array:
    """Floor, ceiling and rate of the share won by spend, for each row of block weights.

    Every prospect is given the same spend, the fitted probabilities are averaged over channels, and a saturating curve
    is laid through them.

    Parameters
    ----------
    prospects : DataFrame
        ``block``, ``channel``, ``spend`` and the covariates of the fits.
    fits : mapping
        Win model of each channel.
    weights : array, (resamples, blocks)
        How often each block is drawn.
    """
    from scipy.special import ndtr

    grid = np.quantile(prospects["spend"].to_numpy(float), np.linspace(0.02, 0.98, GRID))
    share, total = np.zeros((len(weights), GRID)), 0
    for name, model in fits.items():
        part = prospects[prospects["channel"] == name]
        block = part["block"].to_numpy(np.intp)
        influence = np.column_stack([np.bincount(block, s, minlength=weights.shape[1]) for s in model.scores.T])
        params = model.params + (weights - 1) @ influence
        share += len(part) * ndtr(params @ model.at(grid, part).T)
        total += len(part)
    return _saturating(grid, share / total)


def _lowest(loss: Callable[[Array], Array], low: float, high: float, rows: int) -> Array:
    """Minimum of each row's loss over an interval: the best of a grid, then golden sections around it."""
    grid = np.linspace(low, high, 33)
    at = np.array([loss(np.full(rows, v)) for v in grid]).argmin(axis=0)
    a, b = grid[np.maximum(at - 1, 0)], grid[np.minimum(at + 1, len(grid) - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(30):
        c, d = b - golden * (b - a), a + golden * (b - a)
        left = loss(c) < loss(d)
        a, b = np.where(left, a, c), np.where(left, d, b)
    return np.asarray((a + b) / 2)


def _saturating(spend: Array, share: Array) -> Array:
    """Floor, ceiling and rate of floor + gain (1 - exp(-rate spend)), by least squares in each row."""
    top = spend.max()

    def best(log_rate: Array) -> tuple[Array, Array, Array]:
        rise = 1 - np.exp(-np.exp(log_rate)[:, None] * spend / top)
        middle, mean = rise.mean(axis=1, keepdims=True), share.mean(axis=1, keepdims=True)
        slope = ((rise - middle) * share).sum(axis=1) / ((rise - middle) ** 2).sum(axis=1)
        floor = np.clip(mean[:, 0] - slope * middle[:, 0], 0.0, 0.98)
        own = share - floor[:, None]
        gain = np.clip((rise * own).sum(axis=1) / (rise * rise).sum(axis=1), 1e-6, 1 - floor)
        return floor, gain, ((own - gain[:, None] * rise) ** 2).sum(axis=1)

    found = _lowest(lambda v: best(v)[2], np.log(0.05), np.log(MOST_RATE), len(share))
    floor, gain, _ = best(found)
    return np.column_stack([floor, floor + gain, np.exp(found) / top])


def kept_curves(drawn: pd.DataFrame, weights: Array, horizon_months: int) -> Array:
    """Floor, ceiling and rate of yearly retention by cost of offer, for each row of block weights.

    Randomised offers of different cost lower the exit incidence e of their campaign to e (1 - g (1 - exp(-k cost))).
    """
    left = drawn["left"].to_numpy(bool) & (drawn["months"].to_numpy(float) <= horizon_months)
    cell = drawn.groupby(["campaign_id", "arm"], observed=True, sort=True).ngroup().to_numpy()
    cells, blocks = int(cell.max()) + 1, weights.shape[1]
    flat = cell + cells * drawn["block"].to_numpy(np.intp)

    def sums(value: Array) -> Array:
        return weights @ np.bincount(flat, value, minlength=cells * blocks).reshape(blocks, cells)

    n, gone, spent = sums(np.ones(len(drawn))), sums(left.astype(float)), sums(drawn["cost"].to_numpy(float))
    campaign = drawn["campaign_id"].to_numpy()[np.unique(cell, return_index=True)[1]]
    same = (campaign[:, None] == campaign).astype(float)
    cost = spent / n
    top = cost.max(axis=1)
    sized(left.sum(), len(np.unique(campaign)) + 2, left.sum())

    def fit(log_rate: Array) -> tuple[Array, Array]:
        return _fall(1 - np.exp(-(np.exp(log_rate) / top)[:, None] * cost), gone, n, same)

    found = _lowest(lambda v: fit(v)[1], np.log(0.1), np.log(MOST_RATE), len(weights))
    fall, rate = fit(found)[0], np.exp(found) / top
    base = gone @ same / ((n * (1 - fall[:, None] * (1 - np.exp(-rate[:, None] * cost)))) @ same)
    exits = np.minimum((base * n).sum(axis=1) / n.sum(axis=1) * 12 / horizon_months, 0.98)
    fall = np.maximum(fall, 1e-4)  # a curve that does not rise has its optimum at zero spend
    return np.column_stack([1 - exits, 1 - exits * (1 - fall), rate])


def _fall(rise: Array, gone: Array, n: Array, same: Array) -> tuple[Array, Array]:
    """Fall g of exits e_c n (1 - g rise) by Poisson likelihood, the bases e_c of campaigns profiled out; its deviance.

    Fisher scoring, row by row; ``same`` tells which cells belong to one campaign.
    """
    g = np.full(len(rise), 0.3)
    total = gone @ same
    for _ in range(15):
        left = 1 - g[:, None] * rise
        expected = np.maximum(n * left * total / ((n * left) @ same), 1e-12)
        each = rise / left
        within = each - (expected * each) @ same / np.maximum(total, 1e-12)
        score, information = -((gone - expected) * each).sum(axis=1), (expected * within**2).sum(axis=1)
        g = np.clip(g + score / np.maximum(information, 1e-12), 0.0, 0.999)
    left = 1 - g[:, None] * rise
    expected = np.maximum(n * left * total / ((n * left) @ same), 1e-12)
    return g, -(gone * np.log(expected) - expected).sum(axis=1)
