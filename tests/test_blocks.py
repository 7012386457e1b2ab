"""Frames keep within so many rows: beyond them whole blocks of people are drawn, and results are those of a sample."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.pseudonyms import BLOCKS
from crmresearch.data.reductions import base, churn, cost, loyalty, segments, value
from crmresearch.data.reductions.blocks import Part, block_of
from crmresearch.errors import InputError
from crmresearch.lab import simulated
from crmresearch.studies import base as studies
from crmresearch.studies import value as worth

MOST = 900
FRAMES = {
    "explained": base.explained,
    "contribution": value.contribution,
    "windows": lambda b: value.contribution_windows(b, windows=(6, 12)),
    "yearly": lambda b: value.yearly(b, years=2),
    "customers_at": lambda b: value.customers_at(b, at=value.month_end(b, 12)),
    "equity": lambda b: value.equity(b, opening=value.month_end(b, 12), closing=value.month_end(b)),
    "summary": value.summary,
    "landmark": lambda b: churn.landmark(b, *churn.early_landmark(b, 12)),
    "targeted": churn.targeted,
    "prospects": cost.prospects,
    "joint": cost.joint,
    "campaigns": cost.campaigns,
    "survey": loyalty.survey,
    "joined": loyalty.joined,
    "referred": loyalty.referred,
    "behaviour": segments.behaviour,
}


@pytest.fixture(scope="module")
def whole():
    return simulated.bank(simulated.Settings(seed=5, customers=2500, months=60))


def small(bank, most=MOST):
    """The same bank under a lower limit."""
    other = copy.copy(bank)
    other.most = most
    return other


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_keeps_within_the_limit_and_holds_the_rows_of_the_whole(whole, name):
    """What is told of a customer is the same; survey answers are thinned again, by the largest weight of the part."""
    every, part = FRAMES[name](whole), FRAMES[name](small(whole))
    assert "one_in" not in every.attrs
    assert len(part) <= MOST < whole.rows("customers")
    assert part.attrs["one_in"] > 1
    if "customer_id" in part and name not in ("survey", "joined"):
        keys = ["customer_id"]
        both = part.merge(every, on=keys, suffixes=("", "_whole"), how="left", indicator=True)
        assert (both["_merge"] == "both").all()
        for column in part.columns.difference(keys):
            pd.testing.assert_series_equal(both[column], both[f"{column}_whole"], check_names=False, check_dtype=False)


def test_with_room_for_all_nothing_is_drawn_and_a_block_is_the_least(whole):
    pd.testing.assert_frame_equal(value.contribution(small(whole, 2500)), value.contribution(whole))
    with pytest.raises(InputError, match="one block of people has") as error:
        value.contribution(small(whole, 1))
    allowed = int(str(error.value).rsplit(" ", 1)[1])
    assert 0 < len(value.contribution(small(whole, allowed))) <= allowed


def test_referrals_count_whoever_names_one_of_the_studied(whole):
    """A customer who came later counts for the one he names, though he is in no block that was drawn."""
    every, part = loyalty.joined(whole), loyalty.joined(small(whole, 600))
    both = part.merge(every, on=["customer_id", "wave"], suffixes=("", "_whole"))
    assert both["referrals"].sum() > 0
    assert (both["referrals"] == both["referrals_whole"]).all()


def test_estimates_and_totals_of_blocks_lie_within_their_sampling_intervals():
    """Of 20 banks, the whole bank's mean and total in the interval of its part: 95% of 20, of which 16 are certain to
    99.7%; a part is a third of its whole, so that the interval of a sample from many is wide rather than narrow.
    """
    hits = {"mean": 0, "total": 0}
    for seed in range(20):
        bank = simulated.bank(simulated.Settings(seed=seed, customers=1500, months=24), ["customers", "monthly"])
        every, part = value.contribution(bank), value.contribution(small(bank, 500))
        x, one_in = part["contribution"], part.attrs["one_in"]
        hits["mean"] += abs(x.mean() - every["contribution"].mean()) < 1.96 * x.std() / len(x) ** 0.5
        error = one_in * np.sqrt((x**2).sum())  # of a total, of how many were drawn, too
        hits["total"] += abs(one_in * x.sum() - every["contribution"].sum()) < 1.96 * error
    assert min(hits.values()) >= 16


def test_equity_and_forecasts_are_scaled_up_to_all_and_say_so(whole):
    """Flows of a part stand for all: within the interval that counts who was drawn; results tell of the part."""
    opening, closing = value.month_end(whole, 12), value.month_end(whole)
    landmark = value.customers_at(whole, at=value.month_end(whole, 24))
    models = [worth.fit_margin(value.tenure_margin(whole, until=m), landmark) for m in (opening, closing)]
    found = []
    for bank in (whole, small(whole)):
        flows = worth.equity_accounting(value.equity(bank, opening=opening, closing=closing), *models)
        actual = value.contribution_by_month(bank, at=opening)
        course = worth.tracking(models[0], value.customers_at(bank, at=opening), actual)
        found.append((flows, course))
    (flows, course), (part, tracked) = found
    for result in (part, tracked):
        assert "One customer in" in result.sentence
    for result in (flows, course):
        assert "One customer in" not in result.sentence
    a, b = flows.table.set_index("part"), part.table.set_index("part")
    for name in ("opening", "closing", "realised"):
        reach = 2.0 * (b.loc[name, "ci_high"] - b.loc[name, "ci_low"]) / 2  # four standard errors: three looks
        assert abs(a.loc[name, "money"] - b.loc[name, "money"]) < reach
        assert abs(b.loc[name, "money"]) > abs(a.loc[name, "money"]) / 2  # a part's own would be a third


def test_blocks_are_the_first_and_every_table_holds_these_people_alone(whole):
    part = Part(whole, 200)
    c = whole.table("customers")
    ids = set(whole.frame(c.filter(block_of(c.customer_id, whole.pseudonymous) < 200))["customer_id"])
    assert 0 < len(ids) < whole.rows("customers") / BLOCKS * 300
    for name in ("customers", "monthly", "holdings", "survey"):
        assert set(part.frame(part.table(name).select("customer_id").distinct())["customer_id"]) <= ids
    p = part.frame(part.table("prospects"))
    assert set(p["customer_id"].dropna()) <= ids


def test_a_study_of_a_part_says_so(whole):
    part = base.explained(small(whole))
    assert studies.information(part, seed=1).sentence.endswith("counts and intervals are those of that sample.")
