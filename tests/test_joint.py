"""The joint test of specifications: its null by a second route, what feeds it by others, and what is stored of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmresearch import ledger, multiverse
from crmresearch.data.reductions.named import Named
from crmresearch.errors import FitError, InputError, Missing
from crmresearch.estimators.blocks import SETS, Functional, left_out
from crmresearch.estimators.inference import jackknife, z
from crmresearch.estimators.joint import joint_test, standardised
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.index import ByBlock, index_rows, index_scale
from crmresearch.estimators.survival.trials import arm_differences, pooled, pooled_left_out
from crmresearch.lab.recover import joint
from crmresearch.lab.recover.summary import binomial_interval
from test_project import ROOT

MANY = 20_000


def kin(rng: np.random.Generator, blocks: int, correlation: np.ndarray, t: np.ndarray) -> list[Functional]:
    """Functionals whose errors go together as told, at so many of their standard errors."""
    influence = rng.multivariate_normal(np.zeros(len(t)), correlation, blocks)
    plain = [Functional(0.0, i) for i in influence.T]
    return [Functional(at * f.se, f.influence) for at, f in zip(t, plain, strict=True)]


def test_the_null_is_that_of_the_joint_normal_law() -> None:
    rng = np.random.default_rng(1)
    half = np.full((6, 6), 0.9)
    correlation = np.block([[half, np.full((6, 3), -0.3)], [np.full((3, 6), -0.3), np.full((3, 3), 0.5)]])
    np.fill_diagonal(correlation, 1)
    t = np.array([1.5, 1.2, 2.4, 1.0, 2.1, 1.6, -0.4, 0.3, 0.8])
    parts = kin(rng, 600, correlation, t)
    found = joint_test(parts, seed=1, draws=MANY)
    own = np.corrcoef([f.influence for f in parts])  # the law that the blocks themselves have
    drawn = rng.multivariate_normal(np.zeros(len(t)), own, MANY)
    chance = (np.median(drawn, axis=1) >= np.median(t)).mean()
    decided = (drawn > z()).sum(axis=1)
    assert found.t == pytest.approx(t)
    assert found.median == pytest.approx(np.median(t))
    assert found.median_p == pytest.approx(chance, abs=0.012)
    assert found.share == pytest.approx(2 / 9)
    assert found.by_chance == pytest.approx(0.025, abs=0.004)
    assert found.share_p == pytest.approx((decided >= 2).mean(), abs=0.008)
    alone = joint_test(kin(rng, 600, np.eye(9), t), seed=1, draws=MANY)
    assert alone.median_p < found.median_p / 3  # what is independent says more together


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(10, 60))
@settings(max_examples=25, deadline=None)
def test_units_and_order_do_not_matter_and_repeating_a_specification_adds_nothing(
    seed: int, count: int, blocks: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = kin(rng, blocks, np.eye(count), rng.normal(0.7, 1, count))
    first = joint_test(parts, seed=3, draws=499)
    scaled = [float(by) * f for by, f in zip(rng.uniform(0.01, 100, count), parts, strict=True)]
    again = joint_test([scaled[k] for k in rng.permutation(count)], seed=3, draws=499)
    assert again.median_p == pytest.approx(first.median_p, abs=2 / 500)  # a tie may fall to either side of rounding
    assert (again.share, again.share_p) == (first.share, first.share_p)
    assert joint_test(parts * 2, seed=3, draws=499).median_p == pytest.approx(first.median_p, abs=2 / 500)
    further = [f + Functional(0.5 * f.se, np.zeros(blocks)) for f in parts]
    assert joint_test(further, seed=3, draws=499).median_p <= first.median_p
    assert 1 / 500 <= first.median_p <= 1


def test_few_and_uneven_blocks_keep_the_size() -> None:
    rng, hits = np.random.default_rng(5), 0
    for seed in range(600):  # twenty blocks, one of them thrice as large: a normal null rejects too often
        influence = rng.normal(size=(20, 2)) @ np.array([[1, 0.8], [0, 0.6]])
        influence[0] *= 3
        parts = [Functional(float(c.sum()), c) for c in influence.T]
        hits += joint_test(parts, seed=seed, draws=199).median_p <= 0.05
    low, high = binomial_interval(hits, 600, 0.99)
    assert low < 0.05 < high


def test_what_has_no_spread_or_other_blocks_is_refused() -> None:
    f = Functional(1.0, np.arange(20.0))
    with pytest.raises(InputError, match="1 of 2 specifications have no spread"):
        joint_test([f, Functional(1.0, np.ones(20))], seed=1)
    with pytest.raises(InputError, match=r"over \[20, 21\] blocks"):
        joint_test([f, f.over(21)], seed=1)
    with pytest.raises(InputError, match="at least 10"):
        joint_test([Functional(1.0, np.arange(9.0))], seed=1)
    with pytest.raises(InputError, match="0 specifications"):
        joint_test([], seed=1)
    assert standardised(np.array([2.0]), np.array([0.0]), 10) == 0


# --- what feeds it ----------------------------------------------------------------------------------------------------


def test_leaving_out_gives_the_error_of_the_jackknife() -> None:
    values = np.random.default_rng(2).normal(size=31)
    assert left_out(values[0], values[1:]).se == pytest.approx(jackknife(values).se)


def test_the_index_by_block_is_the_robust_error_of_its_clusters() -> None:
    cells = joint.person_months(np.random.default_rng(3), 800)[3]
    cells["tier"] = cells["block"] % 3
    for groups, causes in (((), ("voluntary",)), (("tier",), None)):
        found = ByBlock.read(cells, groups).log_ratio((1.0, 1.0), causes, groups, SETS)
        left = cells["events" if causes is None else "events voluntary"]
        scale = index_scale(cells)
        rows = index_rows(cells, scale, causes, groups)
        block = np.r_[cells.loc[left > 0, "block"], cells.loc[cells["at_risk"] > left, "block"]]
        fit = cox(rows.assign(block=block), ["index"], strata="stratum" if groups else None, cluster="block")
        assert found.value == pytest.approx(fit.params["index"], rel=1e-7)
        assert found.se == pytest.approx(fit.se["index"] * math.sqrt(100 / 99), rel=1e-6)


def test_differences_without_each_block_are_those_of_the_other_rows() -> None:
    arms = joint.contacts(np.random.default_rng(4), 300)
    arms["block"] %= 12
    early = arms.index % 7 == 0  # followed for half the time alone
    arms.loc[early, "exit"] = arms.loc[early, "exit"].clip(upper=6)
    arms.loc[early & (arms["exit"] == 6), ["event", "cause"]] = [0, None]
    found = pooled_left_out(arms, 12, "voluntary")
    values = np.array([pooled(arm_differences(arms[arms["block"] != k], 12, "voluntary"))[0] for k in range(-1, 12)])
    assert found.value == pytest.approx(values[0])
    assert found.influence == pytest.approx(left_out(values[0], values[1:]).influence)
    assert found.se == pytest.approx(pooled(arm_differences(arms, 12, "voluntary"))[1], rel=0.5)
    assert pooled_left_out(arms[arms["arm"] != "control"], 12, "voluntary") is None


def test_a_distance_is_that_of_the_estimate_from_its_bound(small_bank) -> None:
    frames = multiverse.tried(small_bank, "S06 S10 S40 S42")
    for claim, frame in frames.items():
        of = multiverse.declared()[claim]
        line = ledger.lines()[of.line]
        given = {n: p.default for n, p in multiverse.parameters.read(multiverse.parameters.find(line.notebook)).items()}
        above, sign = of.above(Named(small_bank), given), -1 if line.bound.side == "below" else 1
        part = frame[frame["t"].notna()]
        assert len(part), claim
        for _, row in part.iloc[[0, len(part) // 2, -1]].iterrows():
            setting = json.loads(row["choices"])
            far, zero = above(setting, row["bound"]), above(setting, row["estimate"])
            assert not isinstance(far, Missing)
            assert abs(zero.value) < 1e-6 * max(abs(far.value), far.se), claim
            assert row["t"] == pytest.approx(sign * far.z, rel=1e-9)
            assert np.sign(far.value) == np.sign(row["estimate"] - row["bound"])
        decided = part[part["verdict"] == "supported"]
        assert (decided["t"] > 1).all(), claim  # by its own error, which need not be that of the blocks
        assert frame["joint_p"].nunique() == 1


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_curve_says_what_takes_part_and_what_does_not(small_bank) -> None:
    frames = multiverse.tried(small_bank, "S19 S42")
    assert frames["S19"]["t"].isna().all()
    assert "no joint test, as no bound was written" in multiverse.curve(frames["S19"]).sentence
    told = multiverse.curve(frames["S42"]).sentence
    assert "the 2 specifications of the joint test" in told
    assert "No part in it have 4 that the bound was not written for." in told
    overview = multiverse.overview(frames)
    assert overview.table["jointly"].tolist() == [0, 2]
    assert "tested together for S42" in overview.sentence
    blocked = frames["S42"].assign(verdict="blocked", t=math.nan)
    assert "no specification has an open gate" in multiverse.curve(blocked).sentence


def test_one_whose_contributions_fail_is_counted_and_the_others_are_tested(small_bank, monkeypatch) -> None:
    of = multiverse.declared()["S42"]

    def above(frames, given):
        real = of.above(frames, given)

        def one(setting, at):
            if setting["exits"] == "any":
                raise FitError("singular")
            return real(setting, at)

        return one

    monkeypatch.setattr(multiverse, "declared", lambda: {"S42": replace(of, above=above)})
    [frame] = multiverse.tried(small_bank, "S42").values()
    assert frame["t"].notna().sum() == 1
    assert "1 of which it is not known what each customer contributes" in multiverse.curve(frame).sentence


# --- what is stored of size and power ---------------------------------------------------------------------------------

STORED = pd.read_csv(ROOT / "outputs" / "reference" / "joint.csv")


def test_the_stored_size_is_that_of_the_level_and_power_grows() -> None:
    assert set(STORED["claim"]) == {c for c, of in multiverse.declared().items() if of.above is not None}
    assert (STORED["failed"] == 0).all()
    for claim, part in STORED.groupby("claim"):
        size, *_, last = part.sort_values("gap").to_dict("records")
        assert size["gap"] == 0
        assert size["median_low"] <= 0.05 <= size["median_high"], claim
        assert size["share_low"] <= 0.05, claim  # a share has few values: below the level, never above it
        hits = round(size["median"] * size["seeds"])
        assert [size["median_low"], size["median_high"]] == pytest.approx(
            binomial_interval(hits, size["seeds"], 0.99), rel=1e-4
        )
        assert part.sort_values("gap")["median"].is_monotonic_increasing
        assert last["median"] > 0.7, claim


def test_the_trial_is_the_stored_one() -> None:
    gaps = {(ledger.lines()[t.line].claim_id, gap) for t in joint.TRIALS for gap in t.gaps}
    assert gaps == set(zip(STORED["claim"], STORED["gap"], strict=True))
    assert (STORED["customers"] == joint.SIZE).all()
    counts = {ledger.lines()[t.line].claim_id: len(list(joint.specifications(t))) for t in joint.TRIALS}
    assert STORED.groupby("claim")["specifications"].first().to_dict() == counts


def test_a_chunk_of_the_trial_runs(monkeypatch) -> None:
    monkeypatch.setattr(joint, "CHUNK", 2)
    at = next(k for k, t in enumerate(joint.TRIALS) if t.line == "S42")
    rows = pd.DataFrame(joint.work(at, 1, joint.truths(joint.TRIALS[at])))
    assert rows["failed"].eq(0).all()
    assert joint.summed(rows)["seeds"].tolist() == [2] * len(joint.TRIALS[at].gaps)
