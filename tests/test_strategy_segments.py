"""Segments: agreement and k-means against hand counts, planted classes against none, companies, leavers captured."""

from __future__ import annotations

import datetime
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import churn
from crmresearch.data.reductions import segments as reductions
from crmresearch.errors import FitError, InputError, Missing
from crmresearch.estimators import clusters
from crmresearch.estimators.inference import held_out_r2
from crmresearch.estimators.survival import predict
from crmresearch.lab import simulated
from crmresearch.studies import strategy
from crmresearch.studies.strategy import segments

TABLES = ["customers", "holdings", "monthly", "transactions", "service", "contacts"]
ABOUT = {
    "name": "own", "currency": "EUR", "evidence": "simulated", "observation_start": datetime.date(2020, 1, 1),
    "observation_end": datetime.date(2021, 12, 31),
}  # fmt: skip


def bank(world="wider", customers=6_000, seed=1, **changes):
    return simulated.bank(simulated.Settings(customers, 60, seed, world, changes), TABLES)


@pytest.fixture(scope="module")
def frames():
    return {world: reductions.behaviour(bank(world, 16_000)) for world in ("wider", "classes")}


# --- agreement, k-means, one class -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 2], 4 / 7),  # 1 of 2 and 1 pairs; by chance 1/3, at most 3/2
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),
        ([0, 0, 1, 1], [0, 1, 0, 1], -0.5),
        ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2], 8 / 33),
    ],
)
def test_agreement_is_counted_by_hand_and_does_not_know_the_numbers_of_segments(a, b, want):
    a, b = np.array(a), np.array(b)
    assert clusters.adjusted_rand(a, b) == pytest.approx(want)
    assert clusters.adjusted_rand(b, a) == pytest.approx(want)
    assert clusters.adjusted_rand(a.max() - a, b) == pytest.approx(want)


def test_k_means_of_three_irises_is_the_published_partition():
    """Fisher's 150 flowers, as scikit-learn brings them: adjusted Rand index .7302383 against the species."""
    x, species = datasets.load_iris(return_X_y=True)
    found = clusters.assign(x, clusters.centres(x, 3, np.random.default_rng(1)))
    assert clusters.adjusted_rand(found, species) == pytest.approx(0.7302383, abs=1e-6)


@pytest.mark.parametrize("k", [2, 3])
def test_centres_are_those_of_the_best_of_all_partitions(k):
    x = np.random.default_rng(k).normal(size=(9, 2))
    best = min(
        sum(((x[own] - x[own].mean(axis=0)) ** 2).sum() for own in (labels == j for j in range(k)) if own.any())
        for labels in map(np.array, itertools.product(range(k), repeat=9))
    )
    found = clusters.centres(x, k, np.random.default_rng(1))
    own = clusters.assign(x, found)
    assert ((x - found[own]) ** 2).sum() == pytest.approx(best)


def test_one_class_keeps_margins_and_rank_correlation_and_loses_the_classes():
    rng = np.random.default_rng(1)
    x = np.array([[1, 1], [-1, -1]])[rng.integers(0, 2, 4_000)] + rng.normal(size=(4_000, 2)) * [0.1, 3]
    drawn = clusters.one_class(x, rng)
    np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(x, axis=0))
    first, second = (pd.DataFrame(v).corr("spearman").iloc[0, 1] for v in (x, drawn))
    assert second == pytest.approx(first, abs=0.07)
    assert not np.allclose(drawn, x)


def test_what_cannot_be_put_into_segments_is_refused():
    rng = np.random.default_rng(1)
    with pytest.raises(FitError, match="fewer than 3 ways"):
        clusters.centres(np.array([[0.0], [1.0]] * 5), 3, rng)
    for bad in ([[1.0, 2.0], [1.0, 3.0]], [[1.0, np.nan], [2.0, 3.0]]):
        with pytest.raises(InputError, match="differ between customers"):
            clusters.ranked(np.array(bad))


def test_the_gain_of_a_block_is_the_difference_of_two_fits():
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(2, 800, 1))
    table = held_out_r2((x + z)[:, 0] + rng.normal(size=800), {"x": x, "z": z}, seed=1, repetitions=200)
    assert table["gain"].sum() == pytest.approx(table["r_squared"].iloc[1])
    assert table["gain"].tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.08)
    assert (table["gain_low"] < table["gain"]).all()
    assert (table["gain"] < table["gain_high"]).all()


# --- what is taken out -----------------------------------------------------------------------------------------------


def own_bank(**tables):
    days = ("acquired_on", "left_on", "observed_from", "month", "occurred_on", "opened_on", "closed_on")
    for frame in tables.values():
        for day in set(days) & set(frame):
            frame[day] = pd.to_datetime(frame[day])
    paid = {"contribution": ("fees",)} if "monthly" in tables else {}
    return Bank.from_frames(tables, ABOUT | paid)


def test_behaviour_is_counted_by_hand():
    """A year before the end is 2021-01-01: what is older is behaviour, what is younger is to be predicted."""
    customers = pd.DataFrame({
        "customer_id": ["a", "b", "c", "d"],
        "acquired_on": ["2019-05-01", "2020-01-01", "2020-03-01", "2019-01-01"],
        "left_on": [None, "2021-03-15", None, "2020-12-31"],
    })  # fmt: skip
    months = pd.date_range("2020-01-01", "2021-12-01", freq="MS")
    rows = [("a", m, 100.0, 5.0) for m in months] + [("b", m, 100.0, 2.0) for m in months[:14]]
    monthly = pd.DataFrame(rows, columns=["customer_id", "month", "balance", "fees"])
    when = ["2020-02-01", "2020-12-01", "2021-02-01", "2020-06-01"]
    paid = pd.DataFrame({"customer_id": ["a", "a", "a", "d"], "occurred_on": when})
    paid["amount"] = 1.0
    held = pd.DataFrame({
        "customer_id": ["a", "a", "a", "b"], "product_family": ["card", "card", "fund", "card"],
        "opened_on": ["2019-06-01", "2020-06-01", "2021-06-01", "2020-06-01"],
        "closed_on": [None, None, None, "2020-09-01"],
    })  # fmt: skip
    frame = reductions.behaviour(own_bank(customers=customers, monthly=monthly, transactions=paid, holdings=held))
    assert len(frame) == 2  # c came later, d has left
    a, b = (frame.set_index("money").loc[v] for v in (60.0, 24.0))
    assert (a["contribution"], b["contribution"]) == (60.0, 4.0)
    assert (a["frequency"], b["frequency"]) == (2, 0)
    assert a["recency"] == pytest.approx(31 / 30.4375)
    assert b["recency"] == 12
    assert a["payments"] == pytest.approx(2 / (366 / 30.4375))
    assert (a["families"], b["families"]) == (1, 0)
    assert "visits" not in frame
    late = ABOUT | {"observation_start": datetime.date(2020, 1, 2), "contribution": ("fees",)}
    frames = {"customers": customers, "monthly": monthly, "transactions": paid}
    told = Bank.from_frames(frames, late, checked=False)
    assert "two observed years" in reductions.behaviour(told).reason


@pytest.mark.parametrize(("first", "last"), [(1, 0), (0, 0), (0, 11), (24, 46), (0, 23), (12, 59)])
def test_years_are_those_in_which_the_bank_tells_months(first, last):
    """Months without any row are no year in which nobody brought anything."""
    s = simulated.Settings(400, 60, 1, "wider")
    f = simulated.frames(s, ["customers", "monthly", "transactions"])
    months = np.sort(f["monthly"]["month"].unique())
    f["monthly"] = f["monthly"][f["monthly"]["month"].between(months[first], months[last])]
    found = reductions.behaviour(Bank.from_frames(f, simulated.about(s), checked=False))
    if last - first < 23:
        assert "two observed years" in found.reason
    else:
        assert (found["contribution"] != 0).mean() > 0.5


def test_companies_are_counted_at_the_end_of_each_year():
    customers = pd.DataFrame({
        "customer_id": ["a", "b", "c", "d"], "acquired_on": ["2019-05-01"] * 3 + ["2021-05-01"],
        "left_on": [None, None, "2021-02-01", None],
        "customer_type": ["corporate", "private", "corporate", "corporate"],
    })  # fmt: skip
    held = pd.DataFrame({
        "customer_id": ["a", "a", "b", "d"], "product_family": ["ecommerce", "card", "ecommerce", "card"],
        "opened_on": ["2021-01-01"] * 3 + ["2021-06-01"], "closed_on": [None] * 4,
    })  # fmt: skip
    frame = reductions.companies(own_bank(customers=customers, holdings=held))
    assert frame.to_dict("list") == {"year": [2020, 2021], "n": [2, 2], "with_it": [0, 1]}
    private = customers.assign(customer_type="private")
    assert "no corporate customer" in reductions.companies(own_bank(customers=private, holdings=held)).reason
    untold = customers.drop(columns="customer_type")
    assert isinstance(reductions.companies(own_bank(customers=untold, holdings=held)), Missing)
    theirs = held.assign(product_family="Online-Handel")  # told as 0% [0%, 1%] of companies
    assert "recode product_family" in reductions.companies(own_bank(customers=customers, holdings=theirs)).reason


# --- segments --------------------------------------------------------------------------------------------------------


def test_classes_are_found_where_they_are_planted_and_nowhere_else(frames):
    for world, planted in (("classes", True), ("wider", False)):
        gain = strategy.gain(frames[world], segments=4, seed=1).finding("S43")
        assert (gain.ci_low > 0.005) == planted
        assert (gain.ci_high < 0.005) != planted
        stable = strategy.stability(frames[world], segments=4, part=500, seed=1)
        assert (stable.finding("S43a").ci_low > 0.1) == planted
        assert {c.status for r in (gain, stable.finding("S43a")) for c in r.checks} == {"open"}


def test_several_deals_narrow_a_pair_and_do_not_move_it(frames, monkeypatch):
    x = clusters.ranked(frames["wider"][["payments", "visits"]].to_numpy())[:8_000]
    found = {}
    for deals in (1, 4):
        monkeypatch.setattr(clusters, "DEALS", deals)
        found[deals] = clusters.agreements(x, 4, part=100, rng=np.random.default_rng(1))
    assert found[4].std() < 0.8 * found[1].std()
    assert found[4].mean() == pytest.approx(found[1].mean(), abs=4 * found[1].std() / 40**0.5)


def test_stability_alone_is_no_evidence(frames):
    """Naive: in large samples segments agree where nobody belongs to a class, and so do those of the reference."""
    x = clusters.ranked(frames["wider"][["payments", "visits"]].to_numpy())
    naive = clusters.agreements(x, 4, part=4_000, rng=np.random.default_rng(1))
    assert naive.mean() > 0.8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_margins_in_two_heaps_leave_no_room_for_an_excess(seed):
    """Two heaps in one column make segments agree with one class, too: nothing can be told, and the gate says so."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"payments": rng.integers(0, 2, 4_000) * 1.0, "visits": rng.integers(0, 2, 4_000) * 1.0})
    frame = frame.assign(contribution=rng.normal(size=4_000))
    found = strategy.stability(frame, segments=4, part=100, seed=seed).finding("S43a")
    assert [c.status for c in found.checks] == ["closed"]


@pytest.mark.parametrize(("alone", "state"), [(0.6, "open"), (0.8, "weak check"), (0.9, "closed")])
def test_room_is_read_off_the_interval_of_one_class(alone, state, monkeypatch):
    draw = np.random.default_rng(1)
    monkeypatch.setattr(segments, "agreements", lambda *_, **__: draw.normal(alone, 0.03, 20))
    frame = pd.DataFrame({c: draw.normal(size=4_000) for c in ("payments", "visits", "contribution")})
    found = strategy.stability(frame, segments=4, part=100, seed=1)
    assert [s for s, c in found.gates if c.name == "room for agreement"] == [state]


def test_a_segment_of_a_few_closes_the_gate():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({c: rng.normal(size=2_000) for c in ("contribution", "recency", "frequency", "money")})
    paid, held = np.ones((2, 2_000))
    paid[:10], held[:15] = 9, 7
    frame = frame.assign(payments=paid, families=held)
    found = strategy.gain(frame, segments=2, seed=1, resamples=50).finding("S43")
    assert [c.status for c in found.checks] == ["closed"]


def test_too_few_customers_or_columns_are_a_reason_and_the_remedy_works(frames):
    some = frames["wider"].head(3_000)
    told = strategy.stability(some, segments=4, part=500, seed=1)
    assert told.missing.reason.endswith("make the samples smaller")
    assert strategy.stability(some, segments=4, part=100, seed=1).applicable
    for lacking in (["families", "visits"], ["payments", "visits"]):
        one = some.drop(columns=lacking)
        assert "fewer than two things" in strategy.gain(one, segments=4, seed=1).missing.reason
    constant = some.assign(families=1.0, visits=0.0)
    assert not strategy.profile(constant, segments=3, seed=1).applicable


@pytest.mark.parametrize("brought", [0.0, 12.5, -3.0])
def test_where_all_customers_bring_the_same_there_is_nothing_to_predict(frames, brought):
    same = frames["wider"].head(2_000).assign(contribution=brought)
    assert "nothing can be predicted" in strategy.gain(same, segments=4, seed=1, resamples=20).missing.reason


def test_the_profile_adds_up_and_hides_whose_money_it_is(frames):
    frame = frames["classes"]
    table = strategy.profile(frame, segments=4, seed=1).table
    assert table["n"].sum() == len(frame)
    name = segments.say.names("columns")["later"]
    assert (table[name] * table["n"]).sum() == pytest.approx(frame["contribution"].sum())
    one = frame.head(200).assign(contribution=[1e9, *np.ones(199)])
    shown = strategy.profile(one, segments=2, seed=1)
    assert shown.table[name].isna().any()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_sentence_names_only_means_that_are_shown(frames, seed):
    frame = frames["wider"].head(1_200).copy()
    frame.loc[frame.index[seed], "contribution"] = 1e9
    result = strategy.profile(frame, segments=4, seed=1)
    later = result.table[segments.say.names("columns")["later"]].dropna()
    assert len(later) > 1
    assert f"bring {later.min():,.0f} on average and of another {later.max():,.0f}" in result.sentence
    two = strategy.profile(frame, segments=2, seed=1)
    assert "of another" not in two.sentence


@pytest.mark.parametrize("few", [2, 4, 8])
def test_the_smallest_segment_is_told_without_a_count_of_few(few):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({c: rng.normal(size=400) for c in ("contribution", "recency", "frequency", "money")})
    paid, held = np.ones((2, 400))
    paid[:few], held[:few] = 9, 7
    found = strategy.gain(frame.assign(payments=paid, families=held), segments=2, seed=1, resamples=20).finding("S43")
    assert "holds fewer than 10 customers; 2% of customers is the least" in found.checks[0].detail


# --- companies, leavers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_the_share_of_companies_that_trade_is_what_was_planted(seed):
    settings = simulated.Settings(20_000, 60, seed, "wider")
    found = strategy.companies(reductions.companies(simulated.bank(settings, ["customers", "holdings"]))).finding("S27")
    assert abs(found.value - simulated.truth(settings)["estimands"]["corporate.ecommerce.share"]) < 4 * found.se


def test_few_companies_are_not_shown():
    few = pd.DataFrame({"year": [2020, 2021], "n": [4, 5], "with_it": [1, 2]})
    assert "too few" in strategy.companies(few).missing.reason


@pytest.mark.parametrize(
    ("n", "with_it", "year"),
    [((0, 50, 60, 70), (0, 12, 20, 28), 2022), ((0, 0, 60, 70), (0, 0, 20, 28), 2023),
     ((4, 50, 60, 70), (1, 22, 24, 28), 2022), ((50, 55, 60, 70), (3, 22, 24, 28), 2022)],
)  # fmt: skip
def test_the_first_year_of_companies_is_one_that_can_be_told(n, with_it, year):
    result = strategy.companies(pd.DataFrame({"year": [2021, 2022, 2023, 2024], "n": n, "with_it": with_it}))
    assert re.search(rf"\d% did in {year}\.", result.sentence)
    assert f"% in {year}, 40% in 2024" in result.picture.title


def test_a_year_of_few_companies_hides_no_other():
    years = pd.DataFrame({"year": [2021, 2022, 2023], "n": [30, 55, 60], "with_it": [3, 22, 24]})
    assert strategy.companies(years).table["n"].isna().tolist() == [True, False, False]


def test_means_whose_intervals_overlap_are_put_in_no_order(frames):
    frame, rng = frames["wider"], np.random.default_rng(3)
    for noise, told in ((1e6, False), (1.0, True)):
        brings = 10 * frame["families"] + noise * rng.normal(size=len(frame))
        assert (
            "of another" in strategy.profile(frame.assign(contribution=brings), segments=3, seed=1).sentence
        ) == told


@pytest.fixture(scope="module")
def landmarks():
    b = bank("wider", 8_000)
    return [churn.landmark(b, on, 12) for on in churn.landmark_dates(b, 12)]


def test_a_model_finds_more_leavers_than_the_rule_and_the_shares_are_counted_by_hand(landmarks):
    earlier, later = landmarks
    result = strategy.leavers(earlier, later, horizon=12, resamples=100, seed=1)
    found = result.finding("S08")
    assert found.ci_low > 0.01
    shares = result.table.iloc[:, 0]
    beside = shares["rule: balance fallen most in three months"]
    assert beside > shares["recency rule"]  # a rule that looks at the account is harder to beat
    assert shares["model less that rule"] == pytest.approx(shares["model"] - beside)
    assert shares.iloc[-1] > shares["model"]  # fitted on the customers it is scored on
    assert f"a difference of {100 * found.value:+.1f} points" in result.sentence
    assert found.value == pytest.approx(shares.iloc[0] - shares.iloc[1])
    # the same share by sorting: everybody is followed for the year, ties do not occur in a model
    model = segments_risk(earlier, later)
    first = np.argsort(-model)[: round(0.1 * len(later))]
    left = (later["cause"] == "voluntary").to_numpy()
    assert shares.iloc[0] == pytest.approx(left[first].sum() / left.sum(), abs=0.01)


def segments_risk(earlier, later):
    from crmresearch.estimators.survival.exitmodel import fit_exit_model

    return fit_exit_model(earlier).risk(later, 12)


def test_several_shares_at_once_are_those_one_by_one(landmarks):
    later = landmarks[1].assign(entry=0)
    score, shares = later["tenure"].to_numpy(), np.array([0.1, 0.5, 1.0])
    together = predict.capture(later, score, 12, shares)
    assert together.tolist() == pytest.approx([predict.capture(later, score, 12, s) for s in shares])
    assert together[-1] == pytest.approx(1)


def test_shuffled_customers_leave_nothing_to_find(landmarks):
    """With what is known of customers dealt anew, model and rule find a tenth each."""
    rng = np.random.default_rng(1)
    outcome = ["exit", "event", "cause"]
    dealt = [f.assign(**{c: f[c].to_numpy()[p] for c in outcome}) for f in landmarks for p in [rng.permutation(len(f))]]
    found = strategy.leavers(*dealt, horizon=12, resamples=100, seed=1).finding("S08")
    assert abs(found.value) < 4 * found.se


def test_leavers_that_are_too_few_or_without_transactions_are_said(landmarks):
    earlier, later = landmarks
    without = [f.drop(columns="recency") for f in landmarks]
    assert strategy.leavers(*without, horizon=12, resamples=50, seed=1).missing.tables == ("transactions",)
    nobody = later.assign(cause="death")
    assert "nobody left" in strategy.leavers(earlier, nobody, horizon=12, resamples=50, seed=1).missing.reason
    leavers = np.flatnonzero(later["cause"] == "voluntary")
    some = later.drop(index=later.index[leavers[60:]])
    found = strategy.leavers(earlier, some, horizon=12, resamples=50, seed=1).finding("S08")
    assert [c.status for c in found.checks] == ["closed"]
