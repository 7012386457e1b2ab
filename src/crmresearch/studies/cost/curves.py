"""From fitted responses to the two saturating curves that the split of a budget needs, with their sampling error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import Missing
from crmresearch.result import Result
from crmresearch.studies.cost import ratio as r
from crmresearch.studies.cost.acquisition import WinModel, link_values

Array = NDArray[np.float64]

GRID = 25  # spends at which the standardised win probability is read off
MOST_RATE = 20.0  # fastest saturation looked for, per unit of the largest spend


def response_curves(
    prospects: pd.DataFrame | Missing,
    campaigns: pd.DataFrame | Missing,
    upkeep: pd.DataFrame | Missing,
    response: Result,
    *,
    horizon_months: int = 12,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame | Missing:
    """Estimate both curves and the margin, and resample them together.

    Parameters
    ----------
    prospects, campaigns, upkeep : DataFrame
        As for :func:`crmresearch.studies.cost.response`, :func:`~crmresearch.studies.cost.saved` and
        :func:`~crmresearch.studies.cost.ratios` (with ``contribution``).
    response : Result
        The fitted response by channel.
    horizon_months : int
        Months after a contact; a year makes the curve that of yearly retention.
    resamples, seed : int
        Resamples of blocks of people.

    Returns
    -------
    DataFrame
        For :func:`crmresearch.studies.cost.split`; the first row is the estimate.

    Notes
    -----
    Winning: every prospect is given the same spend, the fitted probabilities are averaged over channels, and a
    saturating curve is laid through them. Keeping: randomised offers of different cost lower the exit incidence e
    of their campaign to e (1 - g (1 - exp(-k cost))). Spend on keeping is that on offers; ordinary upkeep is taken
    off the margin.
    """
    for part in (prospects, campaigns, upkeep):
        if isinstance(part, Missing):
            return part
    assert isinstance(prospects, pd.DataFrame)
    assert isinstance(campaigns, pd.DataFrame)
    assert isinstance(upkeep, pd.DataFrame)
    if response.missing is not None:
        return response.missing
    if "contribution" not in upkeep:
        return Missing("no contribution is recorded, so a customer has no value", ("monthly",))
    drawn = campaigns[campaigns["randomised"].to_numpy(bool)]
    levels = drawn.groupby(["campaign_id", "arm"], observed=True)["cost"].mean()
    if (levels > 0).sum() < 2 or not (levels == 0).any():
        return Missing(
            "a response to retention spend needs randomised offers of at least two costs, and a control group"
        )
    blocks = max(r.unit_of(prospects), r.unit_of(campaigns), r.unit_of(upkeep))
    weights = np.vstack([np.ones(blocks), r.resampled(blocks, resamples, seed)])
    won = _won_curves(prospects, response, weights)
    kept = _kept_curves(drawn, weights, horizon_months)
    money = r.by_block(upkeep, "contribution", blocks) - r.by_block(upkeep, "retention_cost", blocks)
    offers = r.by_block(campaigns, "cost", blocks)
    years = r.by_block(upkeep, "years", blocks)
    out = pd.DataFrame(won, columns=["won_floor", "won_ceiling", "won_rate"])
    out[["kept_floor", "kept_ceiling", "kept_rate"]] = kept
    out["margin"] = (weights @ (money + offers)) / (weights @ years)
    out["spend_acquisition"] = float(prospects["spend"].mean())
    out["spend_retention"] = float(offers.sum() / years.sum())
    # a spend counts as tried if enough people got as much
    out["most_acquisition"] = float(prospects["spend"].nlargest(r.MIN_AT_RISK).min())
    out["most_retention"] = float(levels.max())
    if not out["margin"].iloc[0] > 0:
        return Missing(
            f"mean contribution after upkeep is {out['margin'].iloc[0]:,.2f} a year; nothing is worth spending"
        )
    return out[out["margin"] > 0].assign(n=len(prospects)).reset_index(drop=True)


def _won_curves(prospects: pd.DataFrame, response: Result, weights: Array) -> Array:
    spend = prospects["spend"].to_numpy(float)
    grid = np.quantile(spend, np.linspace(0.02, 0.98, GRID))
    fits: dict[Any, WinModel] = response.details["fits"]
    share, total = np.zeros((len(weights), GRID)), 0
    for name, model in fits.items():
        part = prospects[prospects["channel"] == name]
        block = part["block"].to_numpy(np.intp)
        influence = np.column_stack([np.bincount(block, s, minlength=weights.shape[1]) for s in model.scores.T])
        params = model.params + (weights - 1) @ influence
        held = [np.full(GRID, part[c].mean()) for c in model.names[3:]]
        x = np.column_stack([np.ones(GRID), grid, grid**2, *held])
        share += len(part) * link_values(params @ x.T, model.link)
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


def _kept_curves(drawn: pd.DataFrame, weights: Array, horizon_months: int) -> Array:
    """Fit the fall of exits by cost of offer over all randomised campaigns, for each row of weights."""
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
