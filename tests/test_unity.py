"""Bank and customers together: the estimator by hand and at its limits, the planted link, refused inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from crmresearch import ledger
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import loyalty
from crmresearch.errors import Missing
from crmresearch.estimators.measurement.links import partial_ranks
from crmresearch.lab import simulated
from crmresearch.studies import unity

OPTIONS = {"benefit": "net_benefit", "bands": 3, "resamples": 99, "seed": 1}
TABLES = ["customers", "monthly", "survey"]


def bank(world="wider", seed=3, customers=20_000, **changes):
    return simulated.bank(simulated.Settings(customers, 60, seed, world, changes), TABLES)


def answers(rng, n=900, link=0.4, size=1.5):
    """Draw answers whose benefit and contribution share something, and whose size drives contribution alone."""
    gain, balance = rng.normal(size=n), np.exp(rng.normal(size=n))
    brings = size * np.log(balance) + link * gain + rng.normal(size=n)
    return pd.DataFrame({
        "customer_id": np.arange(n), "wave": 1 + np.arange(n) % 2, "net_benefit": np.rint(6 + 2 * gain),
        "balance": balance, "contribution_after": brings, "left": (rng.random(n) < 0.1).astype(float),
    })  # fmt: skip


# --- estimator --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", [False, True])
def test_in_one_cell_it_is_spearmans_correlation(ties):
    x, y = np.random.default_rng(1).normal(size=(2, 300))
    x = np.rint(x) if ties else x
    found = partial_ranks(x, x + y, np.zeros(300), np.arange(300), "", resamples=20, seed=1)
    assert found.value == pytest.approx(spearmanr(x, x + y).statistic, abs=1e-12)


def test_in_cells_it_is_the_partial_correlation_of_ranks_by_regression():
    rng = np.random.default_rng(2)
    cell = rng.integers(0, 4, 400)
    x, y = rng.normal(size=(2, 400)) + 2 * cell
    found = partial_ranks(x, y, cell, np.arange(400), "", resamples=20, seed=1)
    dummies = pd.get_dummies(cell).to_numpy(float)
    rest = [r - dummies @ np.linalg.lstsq(dummies, r, rcond=None)[0] for r in (pd.Series(v).rank() for v in (x, y))]
    assert found.value == pytest.approx(np.corrcoef(*rest)[0, 1], abs=1e-12)
    assert abs(found.value) < 0.15 < spearmanr(x, y).statistic  # the cell made all of it


def test_answers_of_one_customer_count_as_one():
    x, y = np.random.default_rng(3).normal(size=(2, 400))
    once = partial_ranks(x, y, np.zeros(400), np.arange(400), "", resamples=200, seed=1)
    twice = [np.tile(v, 2) for v in (x, y, np.zeros(400), np.arange(400))]
    assert partial_ranks(*twice, "", resamples=200, seed=1).se == pytest.approx(once.se, rel=1e-9)
    *values, _ = twice
    assert partial_ranks(*values, np.arange(800), "", resamples=200, seed=1).se < 0.85 * once.se


@pytest.mark.parametrize("link", [0.0, 0.4, -0.4])
def test_planted_link_is_covered(link):
    limit = unity.together(answers(np.random.default_rng(99), 60_000, link), **OPTIONS | {"resamples": 2})
    truth, hits = limit.finding("S58").value, []
    for seed in range(25):
        found = unity.together(answers(np.random.default_rng(seed), link=link), **OPTIONS).finding("S58")
        hits.append(found.ci_low <= truth <= found.ci_high)
    assert np.mean(hits) >= 0.8  # of 95%, 3.4 errors of 25 trials below
    assert truth == pytest.approx(0.31 * np.sign(link), abs=0.03)


# --- study ------------------------------------------------------------------------------------------------------------


def test_link_of_the_simulated_bank_is_found_and_is_none_where_none_is_planted():
    result = unity.together(loyalty.joined(bank()), **OPTIONS)
    found = result.finding("S58")
    assert found.ci_low > 0.02  # the bound
    assert [c.status for c in found.checks] == ["declared"]
    ledger.checked("S58", found)
    none = unity.together(loyalty.joined(bank(benefit_margin=0.0)), **OPTIONS).finding("S58")
    assert abs(none.value) < 4 * none.se
    assert none.ci_low < 0.02


def test_size_hides_the_link_without_the_band_and_leavers_stay_in():
    frame = answers(np.random.default_rng(5), 3_000, size=4.0)
    table = unity.together(frame, **OPTIONS).table.set_index("reading")
    given, stayed, plain = table.iloc[0], table.iloc[1], table.iloc[2]
    assert plain["estimate"] < given["estimate"]
    assert given["n"] == 3_000
    assert given["left"] == (frame["left"] == 1).sum()
    assert stayed["n"] == given["n"] - given["left"]
    assert table["n"].iloc[3:].tolist() == [1_000] * 3


def test_a_wave_in_which_everything_is_higher_makes_no_link():
    frame = answers(np.random.default_rng(7), 3_000, link=0.0)
    late = 4.0 * (frame["wave"] == 2)
    frame = frame.assign(net_benefit=frame["net_benefit"] + late, contribution_after=frame["contribution_after"] + late)
    found = unity.together(frame, **OPTIONS).finding("S58")
    assert abs(found.value) < 4 * found.se


@pytest.mark.parametrize(("cuts", "sizes"), [((), [300] * 3), ((1.0,), None), ((0.5, 2.0), None)])
def test_bands_are_thirds_or_the_banks_own(cuts, sizes):
    frame = answers(np.random.default_rng(6))
    frame.loc[:9, "balance"] = 1.0  # a balance at a cut is in the band above it
    table = unity.together(frame, **OPTIONS, cuts=cuts).table
    own = sizes or np.bincount(np.searchsorted(cuts, frame["balance"], side="right")).tolist()
    assert table["n"].iloc[3:].tolist() == own


@pytest.mark.parametrize("absent", ["net_benefit", "balance", "contribution_after"])
def test_what_is_lacking_is_named(absent):
    result = unity.together(answers(np.random.default_rng(1)).drop(columns=absent), **OPTIONS)
    assert absent in result.missing.reason


@pytest.mark.parametrize("worse", [{"net_benefit": np.nan}, {"net_benefit": 7.0}, {"balance": np.nan}])
def test_too_little_is_not_read(worse):
    assert not unity.together(answers(np.random.default_rng(1)).assign(**worse), **OPTIONS).applicable
    assert not unity.together(answers(np.random.default_rng(1), 150), **OPTIONS).applicable


@pytest.mark.parametrize("most", [[10.0], [9.0, 10.0], [1.0, 10.0]])
def test_who_leaves_is_told_where_the_usual_answer_is_the_highest_too(most):
    """Without anybody above the median, those at it are those who gain more."""
    frame = answers(np.random.default_rng(1))
    usual = np.random.default_rng(2).random(len(frame)) < 0.7
    gain = np.where(usual, most[-1], most[0] if len(most) > 1 else np.clip(frame["net_benefit"], 1, 9))
    found = unity.together(frame.assign(net_benefit=gain, left=1.0 * (gain < 10)), **OPTIONS)
    assert "100.0% of those who gain less and 0.0% of those who gain more leave" in found.sentence


@pytest.mark.parametrize("absent", ["survey", "monthly", "wave_on"])
def test_a_bank_that_lacks_answers_or_accounts_says_so(absent):
    s = simulated.Settings(400, 36, 1, "wider")
    frames = simulated.frames(s, TABLES)
    if absent in frames:
        del frames[absent]
    else:
        frames["survey"] = frames["survey"].drop_duplicates("customer_id").drop(columns=absent)
    joined = loyalty.joined(Bank.from_frames(frames, simulated.about(s)))
    missing = unity.together(joined, **OPTIONS).missing
    assert isinstance(missing, Missing)
    assert "survey" in missing.tables


def test_the_same_seed_gives_the_same_interval():
    frame = answers(np.random.default_rng(8))
    first, again = (unity.together(frame, **OPTIONS).finding("S58") for _ in range(2))
    assert first == again
