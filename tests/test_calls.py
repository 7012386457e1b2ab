"""Calls without money: what is known before a call, one more call on the same customer, shares of what is paid."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import calls as reductions
from crmresearch.errors import Missing
from crmresearch.estimators.inference import logit_fit
from crmresearch.estimators.survival import predict
from crmresearch.studies import churn, cost, value

ABOUT = {
    "name": "own", "currency": "EUR", "evidence": "simulated", "observation_start": datetime.date(2020, 1, 1),
    "observation_end": datetime.date(2021, 12, 31),
}  # fmt: skip


def own_bank(rows):
    return Bank.from_frames({"snapshot": rows.assign(customer_id=[f"k{i}" for i in range(len(rows))])}, ABOUT)


def called(n=9_000, slope=1.5, seed=1):
    """Draw calls in date order; who bought before buys more readily, by ``slope``, and sales get more frequent."""
    rng = np.random.default_rng(seed)
    before = rng.random(n) < 0.15
    logit = -2.5 + slope * before + np.linspace(0, 0.5, n)
    frame = pd.DataFrame(
        {"sold": (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float), "age": rng.normal(40, 9, n)}
    )
    return frame.assign(poutcome=np.where(before, "success", "nonexistent"), housing="yes", loan="no")


def test_buyers_are_found_where_they_can_be_and_nowhere_else():
    found = churn.needs(called(), resamples=100, seed=1)
    assert found.finding("S15a").ci_low > 0.05
    none = churn.needs(called(slope=0.0), resamples=100, seed=1).finding("S15a")
    assert abs(none.value) < 4 * none.se


def test_the_share_of_buyers_is_that_of_a_fit_by_hand():
    frame = called()
    result = churn.needs(frame, resamples=50, seed=1)
    z = ((frame["age"] - frame["age"][:6000].mean()) / frame["age"][:6000].std()).to_numpy()
    x = np.column_stack([np.ones(9000), z, z**2, frame["poutcome"] == "success"]).astype(float)
    score = logit_fit(x[:6000], frame["sold"][:6000].to_numpy()).predict(x[6000:])
    first = np.argsort(-score)[:300]
    later = frame["sold"][6000:].to_numpy()
    assert result.finding("S15a").value == pytest.approx(later[first].sum() / later.sum() - 0.1, abs=1e-3)


def test_nothing_of_later_calls_is_used_to_rank_them():
    frame = called()
    turned = frame.assign(sold=np.r_[frame["sold"][:6000], 1 - frame["sold"][6000:]])
    a, b = (churn.needs(f, resamples=50, seed=1).table.iloc[2, 0] for f in (frame, turned))
    assert a == b  # what the model captures where it was fitted


def test_a_resample_without_anybody_of_a_level_is_no_division_by_zero():
    shares = predict.captured(np.array([1.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0]), np.ones(3), np.arange(3), 0.75)
    assert shares == 0
    assert predict.captured(np.array([2.0, 0, 2]), np.array([1.0, 1, 0]), np.ones(3), np.arange(3), 0.75) == 0.5


@pytest.mark.parametrize("sold", [0, 5])
def test_too_few_buyers_are_a_reason(sold):
    frame = called().assign(sold=0.0)
    frame.loc[: sold - 1, "sold"] = 1.0
    assert "fewer than ten buyers" in churn.needs(frame, resamples=50, seed=1).missing.reason


def test_what_is_known_before_a_call_is_taken_out_in_date_order():
    rows = pd.DataFrame({"call_order": [3, 1, 2], "sold": [True, False, True], "contacts": [1, 2, 9]})
    rows = rows.assign(duration=[9, 1, 4], job=["a", None, "b"], age=[30, 40, 50])
    frame = reductions.called(own_bank(rows))
    assert frame.to_dict("list") == {"sold": [0, 1, 1], "age": [40, 50, 30], "job": ["", "b", "a"]}
    for column in ("call_order", "sold"):
        assert isinstance(reductions.called(own_bank(rows.drop(columns=column))), Missing)
    assert isinstance(reductions.repeated(own_bank(rows.drop(columns="contacts"))), Missing)


def cells(ratio=0.8, first=0.2, n=4_000, falling=False, seed=1):
    """Draw calls on customers until one sells or the bank stops calling; each further call has so much of the odds."""
    rng, rows = np.random.default_rng(seed), []
    for period in range(10):
        left, start = n, first * (1 - 0.08 * period if falling else 1)
        for k in range(1, 9):
            odds = start / (1 - start) * ratio ** (k - 1)
            sold = rng.binomial(left, odds / (1 + odds))
            stopped = left - sold if k == 8 else rng.binomial(left - sold, 0.2 if falling and period < 5 else 0.5)
            rows.append((period, k, sold + stopped, sold))
            left -= sold + stopped
    return pd.DataFrame(rows, columns=["period", "calls", "n", "sold"])


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0])
def test_the_ratio_from_call_to_call_is_found(ratio):
    found = cost.further_calls(cells(ratio)).finding("S04a")
    assert abs(np.log(found.value / ratio)) < 4 * found.se / found.value
    assert [c.status for c in found.checks] == ["declared"]


def test_periods_that_are_not_held_equal_mislead():
    """Naive: where sales fall and the bank calls more often early on, the odds from call to call seem to rise."""
    result = cost.further_calls(cells(1.0, falling=True))
    assert result.finding("S04a").ci_low < 1 < result.finding("S04a").ci_high
    assert result.details["plain"].ci_low > 1


def test_calls_are_counted_by_hand_and_few_of_them_are_a_reason():
    rows = pd.DataFrame({"call_order": range(4), "sold": [True, False, True, False], "contacts": [1, 3, 3, 1]})
    frame = reductions.repeated(own_bank(rows))
    assert frame.groupby("calls")[["n", "sold"]].sum().to_numpy().tolist() == [[2, 1], [2, 1]]
    assert "second or later call" in cost.further_calls(frame).missing.reason


def test_shares_of_turnover_and_fees_are_those_of_the_customers_and_missing_where_unknown():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"customer_id": np.arange(500), "fees": rng.gamma(9, 1, 500), "turnover": rng.gamma(1, 1, 500)}
    )
    result = value.concentration(frame, seed=1, resamples=99)
    for line, measure in (("S19d", "turnover"), ("S19e", "fees")):
        x = np.sort(frame[measure])
        assert result.finding(line).value == pytest.approx(x[-100:].sum() / x.sum())
    alone = value.concentration(frame[["customer_id", "fees"]], seed=1, resamples=99)
    assert isinstance(alone.finding("S19d"), Missing)
    assert alone.finding("S19e").value == alone.finding("S19").value


def test_a_heavy_tail_of_one_measure_closes_its_own_line_alone():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"customer_id": np.arange(4000), "fees": rng.pareto(1.2, 4000), "turnover": rng.gamma(2, 1, 4000)}
    )
    result = value.concentration(frame, seed=1, resamples=99)
    status = {line: {c.status for c in result.finding(line).checks} for line in ("S19d", "S19e")}
    assert status["S19d"] == {"open"}
    assert "closed" in status["S19e"]
