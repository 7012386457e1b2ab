"""Lists of the daily loop: who stands on them, in which order, and how often they are right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from conftest import lacking
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import actions as reductions
from crmresearch.errors import Missing
from crmresearch.estimators.inference import newcombe
from crmresearch.lab import simulated
from crmresearch.studies import actions


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [((56, 48), (70, 80), 0.0524, 0.3339), ((9, 3), (10, 10), 0.1705, 0.8090), ((10, 0), (10, 10), 0.6075, 1.0)],
)
def test_difference_of_proportions_is_the_published_one(count, n, low, high):
    gap, *ends = newcombe(count, n)  # Newcombe (1998), table II, method 10
    assert gap == pytest.approx(count[0] / n[0] - count[1] / n[1])
    assert ends == pytest.approx([low, high], abs=6e-5)


def people(rng, n=4_000, link=3.0):
    """Draw customers at one end of observation and at the next; who ran down leaves more often."""
    earlier = np.exp(rng.normal(size=n))
    fall = rng.random(n)
    before = pd.DataFrame({
        "who": [f"p{k:05d}" for k in range(n)], "agreed": rng.random(n) < 0.7, "held_out": np.arange(n) % 10 == 0,
        "gone": np.arange(n) % 20 == 3, "left": np.arange(n) % 20 == 3, "lately": np.arange(n) % 40 == 3,
        "recent": earlier * (1.2 - fall), "earlier": earlier,
    })  # fmt: skip
    left = rng.random(n) < 1 / (1 + np.exp(2.5 - link * (fall - 0.5)))
    now = before.assign(left=before["left"] | left, recent=before["recent"] * np.exp(0.2 * rng.normal(size=n)))
    return before, now


def test_lists_hold_who_agreed_and_is_not_held_out_the_most_pressing_first():
    before, _ = people(np.random.default_rng(1), 600)
    found, own = actions.listed(before), before.set_index("who")
    assert set(found["action"]) == {"keep", "develop", "win back"}
    assert own.loc[found["customer_id"], "agreed"].all()
    assert not own.loc[found["customer_id"], "held_out"].any()
    for action, gone in (("keep", False), ("develop", False), ("win back", True)):
        part = found[found["action"] == action]
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert (own.loc[part["customer_id"], "gone"] == gone).all()
    moved = own["recent"] / own["earlier"]
    assert moved[found.loc[found["action"] == "keep", "customer_id"]].is_monotonic_increasing
    assert moved[found.loc[found["action"] == "develop", "customer_id"]].is_monotonic_decreasing
    lately = found.loc[found["action"] == "win back", "customer_id"]
    assert own.loc[lately, "lately"].all()
    assert own.loc[lately, "recent"].is_monotonic_decreasing


def test_precision_is_counted_against_the_held_out_by_hand():
    before, now = people(np.random.default_rng(2))
    table = actions.precision(before, now).table.set_index("action")
    asked = before[before["agreed"] & ~before["gone"]]
    listed, held = asked[~asked["held_out"]], asked[asked["held_out"]]
    first = round(0.05 * len(listed))
    head = (listed["recent"] / listed["earlier"]).nsmallest(first).index
    row = table.loc["to keep"]
    assert row["precision"] == pytest.approx(now.loc[head, "left"].mean())
    assert row["control"] == pytest.approx(now.loc[held.index, "left"].mean())
    assert (row["first"], row["held_out"]) == (first, len(held))
    assert row["low"] > 0
    head = (listed["recent"] / listed["earlier"]).nlargest(first).index
    grown, row = now["recent"] > 1.10 * before["recent"], table.loc["to develop"]
    assert row[["precision", "control"]].tolist() == pytest.approx([grown[head].mean(), grown[held.index].mean()])


@pytest.mark.parametrize("seeds", [range(40), range(40, 80), range(80, 120)])
def test_a_list_of_nothing_is_right_as_often_as_the_control(seeds):
    hits = []
    for seed in seeds:
        found = actions.precision(*people(np.random.default_rng(seed), 8_000, link=0.0)).finding("keep")
        hits.append(found.ci_low <= 0 <= found.ci_high)
    assert np.mean(hits) > 0.83  # of 95%, 3.5 errors of 40 trials below


def test_a_share_of_few_is_not_told_as_it_gives_back_their_count():
    before, now = people(np.random.default_rng(2))
    first = actions.precision(before, now).table["first"].iloc[0]
    head = actions.listed(before).query(f"action == 'keep' and rank <= {first}")["customer_id"]
    for here in (before["held_out"], now["who"].isin(head)):
        known = np.flatnonzero(here & now["left"] & ~before["gone"] & before["agreed"])
        for few, applicable in ((9, False), (known.size, True)):
            stays = now.assign(left=now["left"] & ~now.index.isin(known[few:]))
            assert actions.precision(before, stays).applicable is applicable


@pytest.mark.parametrize("worse", [{"agreed": False}, {"held_out": False}, {"gone": True}])
def test_too_few_are_not_judged(worse):
    before, now = people(np.random.default_rng(1))
    assert not actions.precision(before.assign(**worse), now).applicable


# --- reduction --------------------------------------------------------------------------------------------------------

SETTINGS = simulated.Settings(600, 36, 3, "wider")


def test_standing_is_that_of_the_tables_by_hand():
    frames = simulated.frames(SETTINGS, ["customers", "monthly"])
    found = reductions.standing(simulated.bank(SETTINGS, ["customers", "monthly"])).set_index("who")
    people_ = frames["customers"].set_index("customer_id").loc[found.index]
    left = people_["left_on"]
    assert (found["gone"] == left.notna()).all()
    voluntary = people_["exit_cause"] == "voluntary"
    assert (found["left"] == (left.notna() & voluntary)).all()
    assert (found["lately"] == (voluntary & (left >= "2023-01-01"))).all()
    assert (found["agreed"] == (people_["consent_marketing"] == "yes")).all()
    assert 0.05 < found["held_out"].mean() < 0.16
    months = frames["monthly"].assign(balance=frames["monthly"]["balance"].astype(float))
    for name, first, last in (("recent", "2023-10-01", "2023-12-01"), ("earlier", "2023-04-01", "2023-09-01")):
        own = months[months["month"].between(first, last)].groupby("customer_id")["balance"].mean()
        np.testing.assert_allclose(found[name], own.reindex(found.index))


@pytest.mark.parametrize("absent", ["monthly", "left_on", "exit_cause"])
def test_a_bank_that_brings_little_has_no_list_or_one_of_all_exits(absent):
    gone = [absent] if absent == "monthly" else ["customers", absent]
    frames = lacking(simulated.frames(SETTINGS, ["customers", "monthly"]), *gone)
    found = reductions.standing(Bank.from_frames(frames, simulated.about(SETTINGS)))
    if absent == "exit_cause":
        assert (found["left"] == found["gone"]).all()
    else:
        assert isinstance(found, Missing)
