"""Who answers: inverse response probabilities from accounts, and bounds for what accounts cannot show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.measurement.model import PathModel, complete_answers, survey_study
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots
from crmresearch.studies.loyalty.panel import account_covariates


@survey_study
def nonresponse(joined: pd.DataFrame, model: PathModel, *, gamma: float = 1.5) -> Result:
    """Mean satisfaction of all invited customers: respondents as they come, weighted by accounts, and bounds.

    Weights are inverse response probabilities from what accounts knew before the wave. They remove the bias of
    completers-only means when response depends on those things, and only reduce it when it depends on satisfaction
    itself. For that case there are two pairs of bounds: the odds of answering may differ from the modelled ones by a
    factor ``gamma`` either way (Zhao, Small and Bhattacharya 2019), and the worst case, in which all who are silent
    would give the lowest or the highest answer (Manski).

    Returns
    -------
    Result
        Satisfaction as the mean of its items, in their unit. ``estimates["satisfaction_mean"]`` is the weighted mean,
        ``estimates["satisfaction_bounds"]`` the gamma bounds widened by sampling error.
    """
    if gamma < 1:
        raise InputError(f"gamma is {gamma}; it is a factor of 1 or more")
    if "responded" not in joined.columns or bool(joined["responded"].all()):
        return Result.not_applicable(
            Missing("the survey lists respondents only: nothing tells who was invited and stayed silent", ("survey",))
        )
    complete_answers(joined, model)
    (name,) = model.need("satisfaction")
    block = list(model.constructs[name])
    value = joined[block].mean(axis=1, skipna=False).to_numpy(float)
    answered = (joined["responded"].astype(bool) & ~np.isnan(value)).to_numpy()
    x = account_covariates(joined)
    fit = fit_ordered_logit(x.to_numpy(float), answered.astype(int), cluster=joined["customer_id"].to_numpy())
    probability = 1 / (1 + np.exp(-(x.to_numpy(float) @ fit.slopes - fit.cuts[0])))
    y, p = value[answered], probability[answered]
    w = 1 / p
    cluster = joined["customer_id"].to_numpy()

    plain, plain_se = weighted_mean(np.ones_like(y), y, cluster[answered])
    weighted, weighted_se = _ipw_mean(x.to_numpy(float), answered, value, probability, cluster)
    low_answer, high_answer = model.scale or (
        np.nanmin(joined[block].to_numpy(float)),
        np.nanmax(joined[block].to_numpy(float)),
    )
    share = answered.mean()
    manski = (share * y.mean() + (1 - share) * low_answer, share * y.mean() + (1 - share) * high_answer)
    tilted = _gamma_bounds(y, w, gamma)
    rows = [
        ("respondents only", plain, plain - 1.96 * plain_se, plain + 1.96 * plain_se),
        ("weighted by accounts", weighted, weighted - 1.96 * weighted_se, weighted + 1.96 * weighted_se),
        (f"odds off by {gamma:g}", weighted, tilted[0] - 1.96 * weighted_se, tilted[1] + 1.96 * weighted_se),
        ("worst case", weighted, *manski),
    ]
    table = pd.DataFrame(rows, columns=["estimate_of", "mean", "low", "high"]).assign(n=len(y), invited=len(joined))
    balance = pd.DataFrame(
        {
            "covariate": x.columns,
            "before": (x[answered].mean() - x.mean()).div(x.std()).to_numpy(),
            "after": (x[answered].mul(w, axis=0).sum() / w.sum() - x.mean()).div(x.std()).to_numpy(),
        }
    )
    effective = w.sum() ** 2 / (w**2).sum()
    sentence = (
        f"{share:.0%} of {len(joined):,} invitations were answered. Mean satisfaction is {plain:.3f} among respondents "
        f"and {weighted:.3f} [{rows[1][2]:.3f}, {rows[1][3]:.3f}] weighted by accounts; it lies between "
        f"{rows[2][2]:.2f} and {rows[2][3]:.2f} if the odds of answering are off by {gamma:g}, and between "
        f"{manski[0]:.2f} and {manski[1]:.2f} in the worst case."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "overlap of response",
                p.min() > 0.02,
                f"smallest modelled response {p.min():.3f}; effective sample {effective:,.0f} of {len(y):,}",
                "undecided",
            ),
            Check(
                "response depends on accounts only",
                "declared",
                f"data cannot show it; the bounds at {gamma:g} do without",
                "undecided",
            ),
        ),
        estimates={
            "satisfaction_completers": Estimate(rows[0][1], rows[0][2], rows[0][3], "mean answer", len(y), se=plain_se),
            "satisfaction_mean": Estimate(rows[1][1], rows[1][2], rows[1][3], "mean answer", len(y), se=weighted_se),
            "satisfaction_bounds": Estimate(rows[2][1], rows[2][2], rows[2][3], "mean answer", len(y)),
        },
        draw=lambda ax: _draw_response(ax, table, balance),
        alt="Left: standardised differences between respondents and invited customers, before and after weighting. "
        f"Right: four means of satisfaction with intervals or bounds. {sentence}",
        panels=2,
        figsize=(11.5, 4.4),
        counts=("n", "invited"),
        details={"balance": balance, "probability": probability},
    )


def weighted_mean(w: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its standard error by cluster."""
    mean = float(w @ y / w.sum())
    codes = np.unique(cluster, return_inverse=True)[1]
    sums = np.bincount(codes, weights=w * (y - mean))
    return mean, float(np.sqrt((sums**2).sum()) / w.sum())


def _ipw_mean(
    x: np.ndarray, answered: np.ndarray, value: np.ndarray, probability: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
    """Weighted mean with a standard error that knows the weights were estimated (stacked estimating equations)."""
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
    codes = np.unique(cluster, return_inverse=True)[1]
    return mean, float(np.sqrt((np.bincount(codes, weights=influence) ** 2).sum()))


def _gamma_bounds(y: np.ndarray, w: np.ndarray, gamma: float) -> tuple[float, float]:
    """Extremes of the weighted mean when the odds behind each weight may be off by ``gamma`` either way.

    The extreme puts the largest weights on one side of a threshold of ``y``; all thresholds are tried.
    """
    order = np.argsort(y, kind="stable")
    y, silent = y[order], w[order] - 1
    small, large = 1 + silent / gamma, 1 + silent * gamma

    def best(first: np.ndarray, then: np.ndarray) -> np.ndarray:
        top = np.concatenate([[0], np.cumsum(first * y)]) + np.concatenate([np.cumsum((then * y)[::-1])[::-1], [0]])
        bottom = np.concatenate([[0], np.cumsum(first)]) + np.concatenate([np.cumsum(then[::-1])[::-1], [0]])
        return top / bottom

    return float(best(large, small).min()), float(best(small, large).max())


def _draw_response(ax: Any, table: pd.DataFrame, balance: pd.DataFrame) -> Any:
    place = np.arange(len(balance))[::-1]
    ax[0].scatter(balance["before"], place, color=plots.PALETTE[1], label="respondents as they come", zorder=3)
    ax[0].scatter(balance["after"], place, color=plots.PALETTE[0], marker="s", label="weighted", zorder=3)
    ax[0].axvline(0, color=plots.GREY, linewidth=1)
    ax[0].set_yticks(place, balance["covariate"])
    ax[0].set_xlabel(f"difference from the {table['invited'].iloc[0]:,} invited, standard deviations")
    ax[0].set_title("Who answers")
    ax[0].legend(loc="lower left")
    plots.intervals(
        ax[1], table, "estimate_of", "mean", f"mean satisfaction, 95% interval or bounds (n = {table['n'].iloc[0]:,})"
    )
    ax[1].set_title("What it does to the mean")
    return ax
