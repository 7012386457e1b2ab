"""Gain of a policy by segment: by hand, against a planted truth over seeds, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.causal import policy
from crmresearch.estimators.causal.aipw import aipw
from crmresearch.estimators.causal.policy import policy_gain

COSTS = (0.0, 5.0, 12.0)
CHANCE = (0.25, 0.25, 0.5)
BEST = np.array([[0, -10, -20], [0, 10, 40], [0, 40, 35]], dtype=float)  # segment x arm: what it brings
SHARE = np.array([0.5, 0.3, 0.2])


def drawn(seed, n=4_000, effect=BEST, noise=20.0):
    g = np.random.default_rng(seed)
    segment, arm = g.choice(3, n, p=SHARE), g.choice(3, n, p=CHANCE)
    before = g.standard_normal(n)
    y = 30 * before + effect[segment, arm] + noise * g.standard_normal(n)
    return pd.DataFrame({"block": np.arange(n) % 400, "segment": segment, "arm": arm, "x_before": before}), y


def gain(frame, y, **changes):
    given = {"chance": CHANCE, "costs": COSTS, "covariates": ("x_before",), "blocks": 400, **changes}
    return policy_gain(frame, y, **given)


def planted(effect=BEST):
    """Gain in closed form: best arm by segment against the best mixture of two arms that costs as much."""
    costs = np.array(COSTS)
    chosen = (effect - costs).argmax(axis=1)
    cost, whole = SHARE @ costs[chosen], SHARE @ effect
    pairs = [(i, j) for i in range(3) for j in range(3) if costs[i] <= cost < costs[j]]
    lottery = max(whole[i] + (whole[j] - whole[i]) * (cost - costs[i]) / (costs[j] - costs[i]) for i, j in pairs)
    return SHARE @ effect[np.arange(3), chosen] - lottery, cost


def test_without_noise_the_gain_is_that_of_the_closed_form():
    frame, y = drawn(1, n=40_000, noise=0.0)
    y = y - 30 * frame["x_before"].to_numpy()
    found = gain(frame, y)
    want, cost = planted()
    assert found.chosen.tolist() == [[0, 2, 1]] * 2
    assert found.value == pytest.approx(want, abs=0.5)  # segments and arms are drawn
    assert found.cost == pytest.approx(cost, abs=0.1)
    assert found.low <= want <= found.high


@pytest.mark.parametrize("size", [0.7, 1.0, 2.0])
def test_the_interval_covers_the_planted_gain(size):
    want, _ = planted(size * BEST)
    found = [gain(*drawn(seed, effect=size * BEST)) for seed in range(60)]
    assert np.mean([f.low <= want <= f.high for f in found]) > 0.9
    assert np.mean([f.value for f in found]) == pytest.approx(want, abs=1.0)


def test_no_gain_is_found_where_one_arm_is_best_for_all():
    alike = np.array([[0, 20, 40]] * 3, dtype=float)
    found = [gain(*drawn(seed, effect=alike)) for seed in range(60)]
    assert np.mean([f.low > 0 for f in found]) < 0.05
    assert all(f.low <= 0 for f in found)
    assert np.mean([f.high >= 0 for f in found]) > 0.95


def test_no_gain_is_found_where_one_arm_is_best_for_all_and_does_little_for_some():
    """Those it does little for are given a cheaper arm by noise, which beats a lottery at its cost, not the arm."""
    one = np.array([[0, 20, 28], [0, 60, 110], [0, 60, 110]], dtype=float)
    found = [gain(*drawn(seed, effect=one)) for seed in range(60)]
    assert np.mean([(f.chosen != 2).any() for f in found]) > 0.3
    assert np.mean([f.value > 0 for f in found]) > 0.3  # at equal cost they gain indeed
    assert np.mean([f.low > 0 for f in found]) < 0.05


def test_valued_where_it_was_learned_the_gain_is_flattered():
    """No arm does anything, and they cost next to nothing: the best is above the others in its own sample only."""
    found = [gain(*drawn(seed, n=2_400, effect=0 * BEST), costs=(0.0, 0.001, 0.002)) for seed in range(60)]
    both = np.array([(f.in_sample.value, f.value) for f in found])
    flattered, honest = both.T
    error = found[0].scores.std() / np.sqrt(len(found) * 2_400)
    assert flattered.mean() > 4 * error
    assert honest.mean() < 2 * error


@pytest.mark.parametrize("slope", [0.0, 30.0, -100.0])
def test_known_chances_keep_it_unbiased_when_the_regression_is_wrong(slope):
    """The outcome bends, the regression does not; covariates make the interval shorter, and move nothing else."""
    frame, y = drawn(3, n=20_000)
    bent = y + slope * np.abs(frame["x_before"].to_numpy()) ** 1.5
    means = np.array(
        [[f.mean() for f in gain(frame, bent).scores[(frame["segment"] == s).to_numpy()].T] for s in range(3)]
    )
    effect = means - means[:, :1]
    assert effect == pytest.approx(BEST, abs=12 if slope == -100 else 5)


def test_covariates_make_it_sharper():
    frame, y = drawn(4)
    plain = gain(frame.assign(x_before=np.random.default_rng(0).standard_normal(len(frame))), y)
    sharp = gain(frame, y)
    assert sharp.high - sharp.low < 0.8 * (plain.high - plain.low)


def test_order_of_rows_says_nothing():
    frame, y = drawn(5)
    order = np.random.default_rng(1).permutation(len(y))
    a, b = gain(frame, y), gain(frame.iloc[order].reset_index(drop=True), y[order])
    assert (a.value, a.low, a.high, a.cost) == pytest.approx((b.value, b.low, b.high, b.cost))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chance": (0.5, 0.5)}, "each arm needs one of both"),
        ({"costs": (0.0, 1.0)}, "each arm needs one of both"),
        ({"chance": (0.2, 0.2, 0.5)}, "add up to 1"),
        ({"chance": (0.0, 0.5, 0.5)}, "lie above 0"),
    ],
)
def test_chances_and_costs_that_do_not_fit_are_refused(changes, message):
    frame, y = drawn(6)
    with pytest.raises(InputError, match=message):
        gain(frame, y, **changes)


def test_missing_outcomes_and_too_few_customers_are_refused():
    frame, y = drawn(7)
    with pytest.raises(InputError, match="outcome is missing or infinite in 1 of"):
        gain(frame, np.where(np.arange(len(y)) == 5, np.nan, y))
    with pytest.raises(FitError, match=f"{policy.MIN_ARM} are needed"):
        gain(frame[:200], y[:200])


def test_weight_gained_by_those_who_stopped_smoking_is_the_published_one():
    """Hernan and Robins, What If, 12.1 and 12.2 (2.5 and 3.4 kg); augmented, recomputed.

    ``nhefs.csv.gz``: columns of NHEFS, the public-use follow-up of NHANES I (NCHS), of those weighed twice.
    """
    d = pd.read_csv(Path(__file__).with_name("nhefs.csv.gz"))
    assert len(d) == 1_566
    amounts = d[["age", "smokeintensity", "smokeyrs", "wt71"]]
    kinds = pd.get_dummies(d[["education", "exercise", "active"]].astype("category"), drop_first=True)
    x = pd.concat([d[["sex", "race"]], amounts, (amounts**2).add_suffix("_2"), kinds], axis=1).astype(float)
    frame = x.assign(treated=d["qsmk"], block=np.arange(len(d)))
    found = aipw(frame, d["wt82_71"].to_numpy(), tuple(x.columns), len(d))
    assert found.naive == pytest.approx(2.5, abs=0.05)
    assert found.weighted.value == pytest.approx(3.4, abs=0.05)
    assert found.effect.value == pytest.approx(3.3733, abs=0.0005)
    assert found.effect.se == pytest.approx(0.4728, abs=0.0005)
