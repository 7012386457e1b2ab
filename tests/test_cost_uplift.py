"""Uplift: who can be saved by an offer, ranked by a score; ties are groups, whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.estimators.causal.uplift import best, effects, qini
from crmresearch.studies import cost
from test_cost_models import campaign


def test_qini_of_a_known_order():
    """Only the first half can be saved: ranking it first gains, last loses as much, at random nothing."""
    g = np.random.default_rng(28)
    n = 40_000
    t, savable = g.random(n) < 0.5, np.arange(n) < n // 2
    saved = (g.random(n) < np.where(savable & t, 0.9, 0.6)).astype(float)
    order = g.permutation(n)
    t, savable, saved = t[order].astype(float), savable[order], saved[order]
    best, worst = qini(savable.astype(float), t, saved), qini(-savable.astype(float), t, saved)
    # lift .3 on half: curve .3 s up to s = .5, then .15; the mean height above .15 s is .0375
    assert best.value == pytest.approx(0.0375, abs=0.004)
    assert worst.value == pytest.approx(-0.0375, abs=0.004)
    assert qini(np.arange(n, dtype=float), t, saved).value == pytest.approx(0.0, abs=0.006)


def test_a_constant_score_is_worth_nothing_in_any_order_of_rows():
    """Sorted by arm and outcome, cutting ranks inside ties gave .176 with an interval far from zero."""
    g = np.random.default_rng(33)
    t, y = (g.random(4000) < 0.5).astype(float), (g.random(4000) < 0.7).astype(float)
    for order in (np.lexsort((-y, -t)), np.lexsort((y, -t)), g.permutation(4000)):
        found = qini(np.zeros(4000), t[order], y[order])
        assert found.value == 0.0
        assert np.abs(found.influence).max() < 1e-15


def test_qini_of_tied_scores_is_the_mean_over_random_orders_of_the_ties():
    g = np.random.default_rng(34)
    n = 6000
    score, t = g.integers(0, 4, n).astype(float), (g.random(n) < 0.5).astype(float)
    y = (g.random(n) < 0.5 + 0.1 * t * score).astype(float)
    found = qini(score, t, y)
    broken = [qini(score + 0.5 * g.random(n), t, y).value for _ in range(200)]
    assert found.value == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / np.sqrt(200) + 1e-4)
    order = g.permutation(n)
    assert qini(score[order], t[order], y[order]).value == pytest.approx(found.value, rel=1e-12)


def test_deciles_and_rules_do_not_depend_on_the_order_of_rows():
    g = np.random.default_rng(35)
    score, t = g.integers(0, 25, 4000).astype(float), (g.random(4000) < 0.5).astype(float)
    y = (g.random(4000) < 0.7).astype(float)
    first = effects(score, 10, t, y)
    order = np.lexsort((-y, -t))
    pd.testing.assert_frame_equal(effects(score[order], 10, t[order], y[order]), first)
    assert (best(score, 0.3)[order] == best(score[order], 0.3)).all()


@pytest.mark.parametrize("tied", [False, True])
def test_the_error_of_qini_equals_that_of_resampled_customers(tied):
    g = np.random.default_rng(29)
    n = 2000
    score, t = g.standard_normal(n), (g.random(n) < 0.4).astype(float)
    score = np.rint(score) if tied else score
    y = (g.random(n) < 0.6 + 0.1 * t * (score > 0)).astype(float)
    found = qini(score, t, y)
    drawn = []
    for _ in range(400):
        own = g.integers(0, n, n)
        drawn.append(qini(score[own], t[own], y[own]).value)
    assert found.influence.sum() == pytest.approx(0.0, abs=1e-12)
    assert found.se == pytest.approx(np.std(drawn), rel=0.12)  # 3.4 errors of a deviation of 400


def test_uplift_finds_who_can_be_saved_and_an_offer_that_harms():
    """The offer helps those with x_help and drives others away; the top decile gains, the bottom one is harmed."""
    g = np.random.default_rng(30)
    n = 8000
    helped, treated = g.standard_normal(n), g.random(n) < 0.5
    months = g.exponential(12 / (0.25 * np.exp(np.where(treated, -0.9 * helped, 0.0))))
    frame = pd.DataFrame(
        {
            "block": np.arange(n), "campaign_id": "c", "arm": "a", "treated": treated.astype(int), "randomised": True,
            "cost": 1.0 * treated, "left": (months < 24).astype(int), "months": np.minimum(months, 24),
            "x_help": helped,
        }
    )  # fmt: skip
    frame["arm"] = np.where(treated, "offer", "control")
    found = cost.uplift(frame)
    deciles = found.table[found.table["by"] == "predicted effect"]
    assert deciles["ci_low"].iloc[0] > 0
    assert deciles["ci_high"].iloc[-1] < 0
    assert found.checks[0].status == "open"
    rules = cost.policies(frame, value_saved=100.0).table.set_index("rule")["gain"]
    assert rules["most savable 30%"] > rules["everybody"]
    assert rules["nobody"] == 0


def test_uplift_is_not_better_than_chance_when_everybody_gains_alike():
    told = [cost.uplift(campaign(2000, s, effect=0.0)).gates[0][0] for s in range(10)]
    assert told.count("open") <= 2  # each is wrong with a chance of about 2.5%


def test_the_table_of_all_gates_tells_a_weak_check_from_an_open_one():
    weak = cost.uplift(campaign(2000, 0, effect=0.0))
    assert [state for state, _ in weak.gates] == ["weak check"]
    listed = cost.gates(uplift=weak)
    assert listed.table["status"].tolist() == ["weak check"]
    assert listed.sentence.startswith("0 gates are open, 1 only weak checks")
