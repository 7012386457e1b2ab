"""Failing transactions and help, and priority above a threshold, in the simulated bank: truth by two routes."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.estimators.causal import discontinuity
from crmresearch.lab import simulated
from crmresearch.lab.simulated import accounts, branches, draws, estimands, life, priority, service

Settings = simulated.Settings
BLOCKS = 4


def wider(seed=7, world="wider", customers=4_096, **changes):
    return Settings(customers, 60, seed, world, changes)


# --- who fails, and what help does ------------------------------------------------------------------------------------


def failures(s):
    """Whether each transaction failed, with age, help, skill and year of birth of the customer."""
    parts, of = [], branches.draw_branches(s)
    for block in range(BLOCKS):
        d = life.draw_life(s, block)
        t = accounts.transactions(s, d, block)
        row = t["customer_id"].codes
        month = np.asarray(t["occurred_on"], "datetime64[D]").astype("datetime64[M]").astype(int) - 612
        age = d.people.age[row] + (month - d.people.acquired[row]) / 12
        skill = branches.stream(s, "skills", block).standard_normal(len(d.left))[row]
        born = 2021 + np.floor(d.people.acquired / 12 - d.people.age)[row]
        parts.append(np.stack([t["status"].codes, age, of.helped[d.home[row]] <= month, skill, born]))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(("by_age", "by_skill", "help_"), [(0.25, 0.6, -0.6931), (0.5, 0.0, -0.3), (0.0, 1.0, 0.0)])
def test_failed_share_follows_age_skill_and_help(by_age, by_skill, help_):
    """Shares by group against the closed form, skill averaged out; and half against half by skill."""
    s = wider(failed_age=by_age, failed_skill=by_skill, help_failed=help_)
    failed, age, helped, skill, _ = failures(s)
    expected = s.parameters.failed_share * np.exp(by_age * (age - 50) / 10 + help_ * helped)
    for group in (age < 40, age >= 60, helped == 1, helped == 0):
        # a customer's transactions share one skill
        error = 4 * np.sqrt(expected[group].sum()) / group.sum() + 0.25 * (by_skill > 0) * expected[group].mean()
        assert failed[group].mean() == pytest.approx(expected[group].mean(), abs=error)
    given = expected * np.exp(-by_skill * skill - by_skill**2 / 2)
    for group in (skill < -0.5, skill > 0.5):
        error = 4.5 * np.sqrt(given[group].sum()) / group.sum()
        assert failed[group].mean() == pytest.approx(given[group].mean(), abs=error)


def test_help_removes_half_of_the_same_failures():
    """The same bank with help and without, same random numbers: fewer where helped, the same elsewhere."""
    on, off = failures(wider()), failures(wider(help_failed=0.0))
    np.testing.assert_array_equal(on[1:], off[1:])
    helped = on[2] == 1
    np.testing.assert_array_equal(on[0][~helped], off[0][~helped])
    assert (on[0] <= off[0]).all()
    ratio = on[0][helped].sum() / off[0][helped].sum()
    assert np.log(ratio) == pytest.approx(
        estimands.parameter_estimands(wider())["help.failed.log"], abs=4 * np.sqrt(1 / on[0][helped].sum())
    )


def test_effect_of_help_on_older_customers_is_that_of_drawn_failures():
    """Failures of customers born until 1970 with help everywhere less nowhere, against parameter times limit."""
    s = wider()
    limit = draws.limits(s, BLOCKS)[0]["failed.older.without_help"]
    drawn = failures(wider(help_failed=0.0))
    assert drawn[0][drawn[4] <= 1970].mean() == pytest.approx(limit, abs=0.08 * limit)  # some 1,000 customers' skills
    truth = simulated.truth(dataclasses.replace(s, changes={"failed_share": 0.03}))
    estimands_ = truth["estimands"]
    assert estimands_["help.failed.older"] == pytest.approx(-0.5 * estimands_["failed.older.without_help"], rel=1e-3)


# --- priority ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("near", "all_"), [(0.8, 0.25), (0.5, 0.1), (0.0, 0.25)])
def test_more_are_asked_near_the_threshold_and_the_weight_says_so(near, all_):
    """Invited customers, weighted, are as many as there are; those near the threshold are asked as declared."""
    s = wider(survey_near=near, survey_share=all_)
    got = simulated.frames(s, ["survey", "customers", "monthly"])
    survey = got["survey"]
    before = survey["wave_on"].dt.to_period("M").dt.to_timestamp() - pd.DateOffset(months=1)
    joined = survey.assign(month=before).merge(got["monthly"], on=["customer_id", "month"])
    apart = np.abs(np.log(joined["balance"] / s.parameters.vip_threshold))
    share = np.where(apart < priority.NEAR - 1e-5, near or all_, all_)
    stays = joined["weight"].round(6) == (1 / share).round(6)
    assert stays.mean() > 0.99  # balances that run down before an exit aside
    waves = got["monthly"][got["monthly"]["month"].isin(before)].groupby("month").size()
    total = joined.groupby("month")["weight"].sum()
    assert (total / waves).to_numpy() == pytest.approx([1.0] * 3, abs=0.1)


def test_oversampling_leaves_all_other_answers_as_they_are():
    plain, more = (simulated.frames(wider(survey_near=x), ["survey"])["survey"] for x in (0.0, 0.8))
    both = plain.merge(more, on=["customer_id", "wave_on"], suffixes=("", "_"))
    assert len(both) == len(plain) < len(more)
    pd.testing.assert_series_equal(both["satisfaction_1"], both["satisfaction_1_"], check_names=False)


def test_the_jump_is_that_of_answers_drawn_with_priority_and_without():
    """Answers of those near the threshold, had all of them priority and had none, by other code than the limit's."""
    s = wider()
    limit = draws.limits(s, BLOCKS)[0]["priority.satisfaction.observed"]
    changes, g, everybody = [], np.random.default_rng(1), []
    wave = life.wave_months(60)
    for block in range(BLOCKS):
        d = life.draw_life(s, block)
        noise = g.standard_normal((4, *d.attitudes["SAT"].shape))
        own = d.attitudes["SAT"]
        means = []
        for vip in (0, 1):
            flag = np.full(d.vip.shape, vip)
            lift = branches.lifts(branches.draw_branches(s), d.people.service, flag, d.home)["SAT"]
            moved = (lift - d.lift["SAT"])[:, wave] + s.parameters.vip_satisfaction * (vip - d.vip[:, wave])
            means.append(service.answered(s.parameters.item_loading, own + moved, noise).mean(axis=0))
        near = np.abs(d.log_balance[:, [m - 1 for m in wave]] - np.log(s.parameters.vip_threshold)) < 0.1
        there = (d.people.acquired[:, None] < wave) & (d.left[:, None] > wave)
        changes.append((means[1] - means[0])[near & there])
        everybody.append(service.answered(s.parameters.item_loading, own, noise).mean(axis=0)[there])
    found = np.concatenate(changes) / np.concatenate(everybody).std()
    assert found.mean() == pytest.approx(limit, abs=4 * found.std() / np.sqrt(len(found)))


def running(s):
    """Log balance over the threshold at the month-end before each wave, and answers in standard deviations."""
    got = simulated.frames(s, ["survey", "monthly"])
    before = got["survey"]["wave_on"].dt.to_period("M").dt.to_timestamp() - pd.DateOffset(months=1)
    joined = got["survey"].assign(month=before).merge(got["monthly"], on=["customer_id", "month"])
    x = np.log(joined["balance"] / s.parameters.vip_threshold).to_numpy()
    y = joined[[f"satisfaction_{i}" for i in range(1, 5)]].mean(axis=1).to_numpy()
    return x, y / np.nanstd(y)


@pytest.mark.parametrize(("world", "sorted_"), [("wider", False), ("bunching", True)])
def test_density_jumps_only_where_customers_lift_themselves_over(world, sorted_):
    s = wider(world=world, customers=20_000)
    x, y = running(s)
    density = discontinuity.density(x[np.abs(x) < priority.NEAR])
    assert (density.p < 0.05) is sorted_
    told = ~np.isnan(y)
    found = discontinuity.jump(x[told], y[told])
    truth = simulated.truth(Settings(world="wider"))["estimands"]["priority.satisfaction.observed"]
    assert found.interval[0] > 0.05  # the bound of S52
    assert found.corrected == pytest.approx(truth, abs=4 * found.robust_se)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_share_of_those_just_below_lift_themselves_and_the_well_served_more_often(share):
    s = Settings(4_096, 60, 7, "wider", {"bunching": share})
    lifted, lift_service, people = [], [], 0
    for block in range(BLOCKS):
        a, b = life.draw_life(s, block), life.draw_life(wider(), block)
        cut = np.log(s.parameters.vip_threshold)
        below = (b.log_balance < cut) & (b.log_balance > cut - priority.REACH)
        moved = a.log_balance != b.log_balance
        assert (moved <= below).all()
        assert ((a.log_balance >= cut) & (a.log_balance < cut + priority.OVER))[moved].all()
        row, _ = np.nonzero(below)
        people += len(np.unique(row))
        lifted.append(moved[below])
        lift_service.append(b.people.service[row])
    lifted, lift_service = np.concatenate(lifted), np.concatenate(lift_service)
    assert lifted.mean() == pytest.approx(share, abs=4 * np.sqrt(share / people))
    assert lift_service[lifted].mean() > lift_service[~lifted].mean() + 0.3


def test_priority_since_is_the_first_month_above_the_threshold():
    s = wider()
    got = simulated.frames(s, ["customers", "monthly"])
    people = got["customers"].set_index("customer_id")
    high = got["monthly"][got["monthly"]["balance"] >= s.parameters.vip_threshold]
    first = high.groupby("customer_id")["month"].min() + pd.DateOffset(months=1)
    since = people["priority_since"].dropna()
    later = since[since > people["observed_from"].max().to_period("Y").to_timestamp() - pd.DateOffset(years=4)]
    shared = later.index.intersection(first.index)
    assert len(shared) > 100
    assert (later[shared] == first[shared]).mean() > 0.95  # but for those whose priority rests on the month before
    left = people["left_on"].dropna()
    both = since.index.intersection(left.index)
    assert (since[both] <= left[both]).all()
    assert (since >= people.loc[since.index, "acquired_on"]).all()


# --- there only where they do something, and what is refused ----------------------------------------------------------


def test_priority_is_told_only_where_it_is_asked_about():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("bunching", True)):
        assert ("priority_since" in simulated.frames(Settings(50, 6, world=world), ["customers"])["customers"]) is there


@pytest.mark.parametrize("months", [2, 7, 20])
def test_bunching_obeys_the_contract(months):
    s = Settings(300, months, 2, "bunching")
    Bank.from_frames(simulated.frames(s), simulated.about(s))
