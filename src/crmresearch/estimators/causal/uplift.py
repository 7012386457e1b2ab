"""Who can be saved: scores by cross-fitting, effects by group of a score, Qini, and what a targeting rule earns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.estimators.blocks import Array, Functional
from crmresearch.estimators.causal.aipw import design
from crmresearch.estimators.causal.campaign import difference_of_means
from crmresearch.estimators.inference import ends, logit_fit, tied_groups

FOLDS = 5
MIN_GROUP = 30  # customers per arm a group needs


def scores(rows: pd.DataFrame, left: Array, covariates: tuple[str, ...]) -> tuple[Array, Array]:
    """Predicted exit risk without an offer, and predicted fall of it with one, each from the other folds."""
    x = design(rows, covariates)
    t = rows["treated"].to_numpy(bool)
    fold = rows["block"].to_numpy(np.intp) % FOLDS
    risk, gain = np.zeros(len(rows)), np.zeros(len(rows))
    for k in range(FOLDS):
        rest, own = fold != k, fold == k
        predicted = [
            logit_fit(x[rest & (t == a)], left[rest & (t == a)], ridge=1e-3).predict(x[own]) for a in (False, True)
        ]
        risk[own], gain[own] = predicted[0], predicted[0] - predicted[1]
    return risk, gain


def qini(score: Array, treated: Array, saved: Array) -> Functional:
    """Qini coefficient: mean height of the gain curve above the line of random targeting, per customer.

    The curve at share s is the customers saved by offering to the best s by score: the difference in staying between
    the arms among them, times s. Customers of equal score are one step of the curve, straight between its ends, so that
    the order of rows says nothing and a constant score is worth 0.

    Parameters
    ----------
    score : array
        Higher is offered first.
    treated : array
        Random arm, 0/1.
    saved : array
        Outcome where more is better (1 for staying).

    Returns
    -------
    Functional
        With the influence of each customer, the score held; nan with fewer than 30 customers in an arm.

    References
    ----------
    Radcliffe (2007). Using control groups to target on predicted lift. *Direct Marketing Analytics J.* 14-21.
    """
    t, y, n = treated.astype(float), saved, len(score)
    _, step = np.unique(-score, return_inverse=True)
    count = np.bincount(step)
    share = np.cumsum(count) / n
    arms = []
    for own in (t, 1 - t):
        size = np.cumsum(np.bincount(step, own))
        arms.append((own, size, np.cumsum(np.bincount(step, own * y)) / np.maximum(size, 1.0)))
    enough = np.minimum(arms[0][1], arms[1][1]) >= MIN_GROUP
    if not enough[-1]:
        return Functional(np.nan, np.full(n, np.nan))
    lift = np.where(enough, arms[0][2] - arms[1][2], 0.0)
    rise = lift - lift[-1]
    above = rise * share
    # places in the order that the end of a step stands for: half of its own, and half of the next step's
    places = (count + 1) / 2 + np.append(count[1:] - 1, 0) / 2
    value = float(places @ above / n)

    def rest(x: Array) -> Array:
        """Sum over the steps from a customer's own on."""
        return np.cumsum(x[::-1])[::-1][step]

    # derivative by the weight of a customer: through the share of those up to him, and through both arms' means
    own_step = ((1 + 1 / count) * above + (1 - 1 / count) * np.append(0.0, above[:-1])) / 2
    slope = own_step[step] - value + (rest(places * rise) - places * rise @ share) / n
    for sign, (own, size, mean) in zip((1.0, -1.0), arms, strict=True):
        per = np.where(enough, places * share / np.maximum(size, 1.0), 0.0)
        slope += sign * own * (y * rest(per) - rest(per * mean) - places @ share * (y - mean[-1]) / size[-1])
    return Functional(value, slope / n)


def effects(score: Array, groups: int, treated: Array, saved: Array, *, given: bool = False) -> pd.DataFrame:
    """Effect of the offer by group of a score, the highest first; ``given`` scores are groups already, from 0.

    Returns
    -------
    DataFrame
        One row per group: ``n``, and with 30 customers an arm ``exit_control``, ``uplift``, ``ci_low``, ``ci_high``.
    """
    group, t = score if given else tied_groups(-score, groups), treated.astype(bool)
    out = []
    for g in range(groups):
        a, b = saved[(group == g) & t], saved[(group == g) & ~t]
        row: dict[str, float] = {"n": len(a) + len(b)}
        if min(len(a), len(b)) >= MIN_GROUP:
            gain, se = difference_of_means(a, b)
            low, high = ends(gain, se)
            row |= {"exit_control": 1 - b.mean(), "uplift": gain, "ci_low": low, "ci_high": high}
        out.append(row)
    return pd.DataFrame(out)


def best(score: Array, share: float) -> NDArray[np.bool_]:
    """Tell who is in the best share by score."""
    return tied_groups(-score, 1000) < 1000 * share


def rule_gain(pick: NDArray[np.bool_], treated: Array, worth: Array) -> tuple[float, float]:
    """Gain per customer of offering to those picked, and its standard error.

    Parameters
    ----------
    pick : array of bool
        Whom the rule offers to.
    treated : array
        Random arm, 0/1.
    worth : array
        Money a customer brought, less what was spent on him.
    """
    gain, se = difference_of_means(worth[pick & (treated == 1)], worth[pick & (treated == 0)])
    return float(pick.mean() * gain), float(pick.mean() * se)
