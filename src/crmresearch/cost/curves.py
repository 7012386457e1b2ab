"""From fitted responses to the two saturating curves that the split of a budget needs, with their sampling error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.cost import ratio as r
from crmresearch.cost.acquisition import WinModel, link_values
from crmresearch.errors import Missing
from crmresearch.result import Result

__all__ = ["response_curves"]

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
        As for :func:`crmresearch.cost.response`, :func:`~crmresearch.cost.saved` and
        :func:`~crmresearch.cost.ratios` (with ``contribution``).
    response : Result
        The fitted response by channel.
    horizon_months : int
        Months after a contact; a year makes the curve that of yearly retention.
    resamples, seed : int
        Resamples of blocks of people.

    Returns
    -------
    DataFrame
        For :func:`crmresearch.cost.split`; the first row is the estimate.

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
    out["most_acquisition"] = float(prospects["spend"].quantile(0.98))
    out["spend_retention"] = float(offers.sum() / years.sum())
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
    return np.array([_saturating(grid, row / total) for row in share])


def _saturating(spend: Array, share: Array) -> tuple[float, float, float]:
    """Least squares of floor + (ceiling - floor) (1 - exp(-rate spend)); linear given the rate."""
    from scipy.optimize import minimize_scalar

    top = spend.max()

    def best(log_rate: float) -> tuple[float, float, float]:
        rise = 1 - np.exp(-np.exp(log_rate) * spend / top)
        x = np.column_stack([np.ones_like(rise), rise])
        (floor, gain), *_ = np.linalg.lstsq(x, share, rcond=None)
        floor = float(np.clip(floor, 0.0, 0.98))
        gain = float(np.clip(rise @ (share - floor) / (rise @ rise), 1e-6, 1 - floor))
        return floor, gain, float(np.sum((share - floor - gain * rise) ** 2))

    found = minimize_scalar(lambda v: best(v)[2], bounds=(np.log(0.05), np.log(MOST_RATE)), method="bounded")
    floor, gain, _ = best(found.x)
    return floor, floor + gain, float(np.exp(found.x) / top)


def _kept_curves(drawn: pd.DataFrame, weights: Array, horizon_months: int) -> Array:
    """Fit the fall of exits by cost of offer over all randomised campaigns, for each row of weights."""
    from scipy.optimize import minimize_scalar

    left = drawn["left"].to_numpy(bool) & (drawn["months"].to_numpy(float) <= horizon_months)
    cell = drawn.groupby(["campaign_id", "arm"], observed=True, sort=True).ngroup().to_numpy()
    cells, blocks = int(cell.max()) + 1, weights.shape[1]
    flat = cell + cells * drawn["block"].to_numpy(np.intp)

    def sums(value: Array) -> Array:
        return weights @ np.bincount(flat, value, minlength=cells * blocks).reshape(blocks, cells)

    n, gone, spent = sums(np.ones(len(drawn))), sums(left.astype(float)), sums(drawn["cost"].to_numpy(float))
    campaign = pd.factorize(drawn["campaign_id"].to_numpy()[np.unique(cell, return_index=True)[1]])[0]
    out = np.empty((len(weights), 3))
    for i in range(len(weights)):
        cost = spent[i] / n[i]
        top = cost.max()

        def fit(log_rate: float, i: int = i, cost: Array = cost, top: float = top) -> tuple[float, float, Array]:
            return _fall(1 - np.exp(-np.exp(log_rate) * cost / top), gone[i], n[i], campaign)

        found = minimize_scalar(lambda v, fit=fit: fit(v)[1], bounds=(np.log(0.1), np.log(MOST_RATE)), method="bounded")
        fall, _, base = fit(found.x)
        size = np.bincount(campaign, n[i])
        exits = float(base @ size / size.sum()) * 12 / horizon_months
        exits = min(exits, 0.98)
        fall = max(fall, 1e-4)  # a curve that does not rise has its optimum at zero spend
        out[i] = 1 - exits, 1 - exits * (1 - fall), np.exp(found.x) / top
    return out


def _fall(rise: Array, gone: Array, n: Array, campaign: NDArray[np.intp]) -> tuple[float, float, Array]:
    """Fall g of exits by Poisson likelihood, exits e_c n (1 - g rise), with its deviance and the bases e_c."""
    total = np.bincount(campaign, gone)

    def bases(g: float) -> Array:
        return total / np.bincount(campaign, n * (1 - g * rise))

    def deviance(g: float) -> float:
        expected = np.clip(bases(g)[campaign] * n * (1 - g * rise), 1e-12, None)
        return float(-(gone * np.log(expected) - expected).sum())

    from scipy.optimize import minimize_scalar

    found = minimize_scalar(deviance, bounds=(0.0, 0.999), method="bounded", options={"xatol": 1e-5})
    return float(found.x), float(found.fun), bases(float(found.x))
