"""What it is worth to treat segments differently: learned on one half, valued on the other, offers drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.blocks import Array, Functional, summed
from crmresearch.estimators.causal.aipw import design
from crmresearch.estimators.inference import LEVEL, complete, ends, sized, z

MIN_ARM = 30  # customers whom each arm needs in each segment of each half


@dataclass(frozen=True)
class PolicyGain:
    """Value of the best arm by segment less that of the best lottery for all at equal expected cost, per customer.

    Attributes
    ----------
    value, low, high : float
        The gain over the lottery that leaves least of it. The lower end holds over every lottery at once, and over
        every single arm at its own cost: where one arm is best for all, a policy that errs to the cheap side where arms
        do less beats the lottery, and loses to that arm. The upper end is corrected for the number of lotteries, since
        the best of them is not known.
    cost : float
        Expected cost per customer, of the policy and of the lottery alike.
    chosen : array
        Half x segment: the arm that is best there, net of its cost, as learned on the other half.
    in_sample : Functional
        The same gain valued where it was learned, which flatters it.
    scores : array
        Customer x arm: doubly robust value of each arm; their means, over any group, are values of arms.
    """

    value: float
    low: float
    high: float
    cost: float
    chosen: Array
    in_sample: Functional
    scores: Array


def policy_gain(
    frame: pd.DataFrame,
    outcome: Array,
    chance: Sequence[float],
    costs: Sequence[float],
    covariates: tuple[str, ...],
    blocks: int,
) -> PolicyGain:
    """Compare the best arm by segment with the best lottery at the same expected cost.

    Parameters
    ----------
    frame : DataFrame
        ``block``, ``segment`` (whole numbers from 0), ``arm`` (from 0, drawn by lot) and covariates from before.
    outcome : array
        What a customer brought, the cost of the arm not taken off.
    chance : sequence of float
        Probability of each arm, as it was drawn.
    costs : sequence of float
        Cost of each arm.
    covariates : tuple of str
        What explains the outcome; with known chances they sharpen the scores and cannot bias them.
    blocks : int
        Number of blocks; odd ones learn for even ones, and the other way round.

    Returns
    -------
    PolicyGain

    Raises
    ------
    InputError
        If an arm has no chance or cost, or chances do not add up to 1.
    FitError
        If an arm has fewer than 30 customers in a segment of a half.

    References
    ----------
    Dudik, Langford, Li (2011). Doubly robust policy evaluation and learning. *ICML* 28. Athey, Wager (2021). Policy
    learning with observational data. *Econometrica* 89, 133-161.
    """
    (y,), p, price = complete(outcome=outcome), np.asarray(chance, float), np.asarray(costs, float)
    arm, segment = frame["arm"].to_numpy(np.intp), frame["segment"].to_numpy(np.intp)
    if len(p) != len(price) or arm.min() < 0 or arm.max() >= len(p):
        raise InputError(
            f"{len(p)} chances and {len(price)} costs for arms 0 to {arm.max()}; each arm needs one of both"
        )
    if (p <= 0).any() or abs(p.sum() - 1) > 1e-6:
        raise InputError("chances must lie above 0 and add up to 1; give those by which arms were drawn")
    half = frame["block"].to_numpy(np.intp) % 2
    size = (2, segment.max() + 1, len(p))
    least_seen = np.bincount(np.ravel_multi_index((half, segment, arm), size), minlength=int(np.prod(size))).min()
    if least_seen < MIN_ARM:
        raise FitError(f"an arm has {least_seen} customers in a segment of one half; {MIN_ARM} are needed")
    x = np.column_stack([design(frame, covariates), segment[:, None] == np.arange(1, size[1])])
    by_half = [_scores(x, y, arm, half != h, p) for h in (0, 1)]  # for a half, from the other one alone
    scores = np.where((half == 0)[:, None], *by_half)
    chosen = np.array([_best(by_half[h][half != h], segment[half != h], price) for h in (0, 1)])
    gains = [_gains(frame, scores, chosen[h], price, half == h, blocks) for h in (0, 1)]
    both = [0.5 * a + 0.5 * b for a, b in product(*(options for options, _ in gains))]
    least = min(both, key=lambda f: f.value)
    net = scores - price
    mine = np.take_along_axis(net, chosen[half, segment][:, None], axis=1)
    over = [Functional(d.mean(), summed(frame, (d - d.mean()) / len(d), blocks)) for d in (mine - net).T]
    many = z(1 - (1 - LEVEL) / len(both))
    flattered = _gains(frame, scores, _best(scores, segment, price), price, np.ones(len(y), dtype=bool), blocks)[0]
    return PolicyGain(
        least.value,
        min(ends(f.value, f.se)[0] for f in (*both, *over)),
        min(f.value + many * f.se for f in both),
        float(np.mean([cost for _, cost in gains])),
        chosen,
        min(flattered, key=lambda f: f.value),
        scores,
    )


def _scores(x: Array, y: Array, arm: Array, fitted: Array, chance: Array) -> Array:
    """Doubly robust value of each arm for each customer, by regressions on some of them."""
    out = np.empty((len(y), len(chance)))
    for k, p in enumerate(chance):
        own = fitted & (arm == k)
        sized(own.sum(), x.shape[1])
        out[:, k] = x @ np.linalg.lstsq(x[own], y[own], rcond=None)[0]
        out[:, k] += (arm == k) / p * (y - out[:, k])
    return out


def _best(scores: Array, segment: Array, costs: Array) -> Array:
    """Arm of each segment with the highest mean net of its cost."""
    means = [np.bincount(segment, scores[:, k]) / np.bincount(segment) - cost for k, cost in enumerate(costs)]
    return np.argmax(means, axis=0)


def _gains(
    frame: pd.DataFrame, scores: Array, chosen: Array, costs: Array, own: Array, blocks: int
) -> tuple[list[Functional], float]:
    """Gain of a policy over each lottery of two arms that costs as much, among some customers; and that cost."""
    rows, psi = frame[own], scores[own]
    arm = chosen[rows["segment"].to_numpy(np.intp)]
    mine, spent = psi[np.arange(len(psi)), arm], costs[arm]
    cost, means, out = min(float(spent.mean()), float(costs.max())), psi.mean(axis=0), []  # a mean rounds
    for i, j in product(range(len(costs)), repeat=2):
        if not (costs[i] <= cost < costs[j] or (i == j and costs[i] == cost)):
            continue
        gap = costs[j] - costs[i]
        share = (cost - costs[i]) / gap if gap else 0.0
        each = mine - (1 - share) * psi[:, i] - share * psi[:, j]
        # the share of the dearer arm follows the cost of the policy, which moves with who is there
        moved = (means[j] - means[i]) / gap * (spent - cost) if gap else 0.0
        out.append(Functional(float(each.mean()), summed(rows, (each - each.mean() - moved) / len(psi), blocks)))
    return out, cost
