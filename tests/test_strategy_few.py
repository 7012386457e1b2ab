"""Few people behind a number of notebook 05, or nobody: bands without customers, money of one, few who left."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from crmresearch.studies import strategy
from test_strategy import STATED, developed, dosed


@pytest.mark.parametrize(
    ("balances", "bands"),
    [((1_000, 14_000), [0]), ((16_000, 29_000), [1]), ((1_000, 29_000), [0, 1]), ((16_000, 60_000), [1, 2]),
     ((31_000, 90_000), [2])],
)  # fmt: skip
@pytest.mark.parametrize("guess", [True, False])
def test_a_band_of_nobody_is_left_out_and_the_others_keep_their_names(balances, bands, guess):
    rows = dosed(n=12_000)
    rows["balance_before"] = np.random.default_rng(7).uniform(*balances, len(rows))
    rows = rows if guess else rows.drop(columns="outside")
    names = np.array(["balance below 15,000", "balance 15,000 to 30,000", "balance from 30,000"])[bands]
    found = strategy.policy(rows, **STATED)
    if len(bands) == 1 and not guess:  # it would be refuted: the best offer by segment is that for all
        assert f"stand in one segment ({names[0]}" in str(found.finding("S25"))
        assert strategy.policy(rows, parts=STATED["parts"], band_edges=[np.mean(balances)]).applicable  # as is advised
        return
    named = found.table["quantity"].iloc[2:]
    assert {re.split(", (?:little|much) |: ", q)[0] for q in named} == set(names)
    assert len(named) == 3 * len(bands) * (1 + guess)
    found = strategy.by_band(rows, **STATED)
    if 2 in bands:
        assert found.table["band"].tolist() == list(names)
    else:
        assert "in the top value band (balance from 30,000); set the parameter `band_edges`" in str(
            found.finding("S57")
        )
        edges = [balances[1] - 9_000, balances[0] + 2_000]  # as is advised
        tried = strategy.by_band(rows, parts=STATED["parts"], band_edges=edges)
        assert tried.applicable
        assert "band_edges" not in str(tried.finding("S57"))


def test_a_top_band_without_one_of_the_offers_is_of_too_few():
    rows = dosed(n=6_000)
    rows["balance_before"] = np.where(rows.index < 40, 50_000.0, 10_000.0)
    rows = rows[(rows.index >= 40) | rows["arm"].eq("control")]
    assert "too few customers of some offer" in str(strategy.by_band(rows, **STATED).finding("S57"))


@pytest.mark.parametrize("arm", ["control", "low", "high"])
def test_money_that_one_customer_makes_of_one_arm_is_not_told(arm):
    rows = dosed().assign(balance_after=1.0)
    own = rows["arm"].eq(arm)
    rows.loc[own.idxmax(), ["value_after", "balance_after"]] = (
        1.5 * rows["value_after"].abs().sum() / 4,
        1.5 * own.sum(),
    )
    alone = rows.assign(treated=own.astype(int))  # of all customers he makes a quarter
    for table in (
        strategy.paid(alone).table,
        strategy.potential(alone).table,
        strategy.policy(rows, **STATED).table[:2],
    ):
        assert table["value"].iloc[:2].isna().all()


@pytest.mark.parametrize("gone", [0, 1, 9, 10, 40])
def test_what_those_still_there_leave_of_all_is_no_count_of_few(gone):
    rows = developed(n=400).assign(left=0, months=36.0)
    rows.loc[: gone - 1, ["left", "months"]] = 1, 6.0
    result = strategy.held(rows)
    hidden = 0 < gone < 10
    assert result.table["quantity"].str.contains("naive|why|share gone").sum() == (0 if hidden else 3)
    assert ("share gone" in result.sentence) != hidden


def test_customers_whose_band_the_bank_does_not_tell_are_in_none():
    rows = dosed()
    own = np.where(rows["balance_before"] < 20_000, "small", "large").astype(object)
    own[::9] = None
    rows["band"] = pd.Categorical(own, ["small", "large"], ordered=True)
    found = strategy.policy(rows, **STATED)
    assert found.finding("S25").n == rows["band"].notna().sum()
    assert strategy.by_band(rows, **STATED).table["n"].sum() == rows["band"].notna().sum()
