"""Banks that are ordinary and unlike the reference: one channel, nobody who left, no products told, few of a cause."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from crmresearch import disclosure, figures, ledger
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.reductions import base, segments
from crmresearch.data.reductions import churn as reductions
from crmresearch.estimators.inference import Estimate, told_apart
from crmresearch.figures import Picture
from crmresearch.lab import simulated
from crmresearch.run import understood
from crmresearch.studies import churn
from crmresearch.studies.churn import exits
from crmresearch.studies.cost import groups
from crmresearch.studies.service import threshold
from poor_banks import ABOUT, END, START

FACTS = {"name": "ordinary", **ABOUT, "observation_start": START, "observation_end": END}


def customers(n: int) -> pd.DataFrame:
    came = pd.Timestamp("2019-01-01") + pd.to_timedelta(np.arange(n) * 3 % 1_500, "D")
    return pd.DataFrame({"customer_id": [f"C{k:08d}" for k in range(n)], "acquired_on": came, "left_on": pd.NaT})


def test_no_column_is_told_to_hold_more_values_than_rows():
    """The engine's estimate told 3,557 customers of a table of 2,491."""
    bank = Bank.from_frames({"customers": customers(2_491)}, FACTS)
    assert understood.seen(bank, "customers")["customer_id"].distinct <= 2_491


def test_without_products_nobody_is_told_to_stay_undeveloped():
    gone = customers(300)
    gone.loc[::6, "left_on"] = pd.Timestamp("2022-06-01")
    gone.loc[gone["acquired_on"] > "2022-05-01", "left_on"] = pd.NaT
    result = churn.stages(reductions.life_course(Bank.from_frames({"customers": gone}, FACTS)))
    assert "nobody is recorded as developed" in result.sentence
    assert "are developed a year later" not in result.sentence
    assert "0 were won" not in result.sentence  # those of hidden rows
    assert "–" not in result.sentence


def test_a_hidden_share_gone_is_no_dash_in_a_sentence():
    counts = [("voluntary", 20, 6), ("voluntary", 50, 10), ("voluntary", 100, 30), ("death", 20, 12), ("death", 50, 12)]
    rows = [(0, months, 1, cause, n) for cause, months, n in counts] + [(0, 130, 0, None, 254)]
    result = churn.causes(pd.DataFrame(rows, columns=["entry", "exit", "event", "cause", "n"]))
    assert result.table["incidence"].isna().any()
    assert "voluntary" in result.sentence
    assert "–" not in result.sentence


def test_a_definition_with_one_exit_does_not_withhold_all_of_them(monkeypatch):
    monkeypatch.setattr(exits, "index_scale", lambda cells: None)
    monkeypatch.setattr(exits, "cox", lambda rows, columns: pytest.fail("a model of one exit"))
    monkeypatch.setattr(exits, "index_rows", lambda *_: pd.DataFrame({"event": [1, 0], "n": [1, 500]}))
    assert exits._ratio(pd.DataFrame(), "dormancy") == {}


def test_one_channel_is_compared_with_none():
    """It ran from 3.88 (branch) to 3.88 (branch), and could not be told from another."""
    one = {"channel": "branch", "line": "S40", "winning": "all", "keeping": "year", "ratio": 3.88, "ci_low": 3.5}
    known = pd.DataFrame([one | {"ci_high": 4.3, "note": "", "prospects": 813.0, "customers": 1_060}])
    assert groups._sentence(known, "channel").startswith("Only the channel branch has a primary ratio: 3.88")
    assert groups._picture(known, "channel").title == "Primary ratio, channel branch alone: 3.88 [3.50, 4.30]"


@pytest.mark.parametrize(("low", "told"), [(-0.4, False), (0.1, True)])
def test_a_title_says_no_more_than_the_interval(low, told):
    found = Estimate(0.3, low, 0.9, "", 400)
    assert told_apart(found) is told
    rng = np.random.default_rng(1)
    title = threshold._picture(rng.uniform(-0.4, 0.4, 400), rng.normal(size=400), found).title
    assert ("jumps by +0.30" in title) is told


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_estimate_that_is_hidden_or_unbounded_keeps_its_interval(value):
    rows = pd.DataFrame({"statistic": ["Gini"], "estimate": value, "ci_low": value, "ci_high": value, "n": 40})
    heading = disclosure.text(rows).splitlines()[0]
    assert "estimate [interval]" in heading
    assert "ci [interval]" not in heading


def test_points_that_are_all_hidden_are_not_told_of():
    drawn = pd.DataFrame({"x": [0.0, 1.0], "y": [0.2, 0.4], "n": 40})
    hidden = {"points": pd.DataFrame({"x": [0.5, 0.7], "y": np.nan, "n": 0})}
    assert "as points" not in figures.told(Picture("curves", drawn, "Share", "x", "y", hidden))


@pytest.mark.parametrize(("line", "currency", "comparable"), [
    ("S12", "JPY", False), ("S04", "CHF", False), ("S12", "CNY", True), ("S02", "JPY", True), ("S23", "JPY", True),
])  # fmt: skip
def test_a_bound_in_money_is_no_bound_in_another_currency(line, currency, comparable, tmp_path):
    """Two yuan are one percent of what a customer of the reference bank contributes; two yen are nothing."""
    found = ledger.comparable(line, Estimate(40, 30, 50, "money", 500), currency)
    ledger.record(tmp_path, ledger.lines()[line].notebook, {line: found}, bank="b", evidence="real bank", parameters={})
    kept = ledger.merge(tmp_path).set_index("line_id").loc[line]
    assert ("in " + currency in kept.checks) != comparable
    assert (kept.verdict == "blocked") != comparable


def test_every_amount_that_a_bound_is_has_its_currency():
    """A new line with a bound in money must be among them, and the reference bank counts in it."""
    assert simulated.about(simulated.Settings())["currency"] == ledger.MONEY
    units = {x.unit for x in ledger.lines().values() if x.bound is not None and x.bound.at != 0 and "money" in x.unit}
    assert units - {"money per money of gap"} <= set(ledger.AMOUNTS)


def test_what_is_advised_on_channels_and_families_in_a_bank_s_own_words_works(tmp_path):
    people = customers(2).assign(left_on=["", "2023-09-01"], customer_type="corporate")
    one, other = people["customer_id"]
    paid = {"customer_id": [one, other], "occurred_on": "2023-06-02", "amount": 9.0, "channel": ["Filiale", "E-Bank"]}
    held = {"customer_id": [one], "product_family": "Online-Handel", "opened_on": "2021-03-01", "closed_on": ""}
    paid, held = pd.DataFrame(paid), pd.DataFrame(held)
    for name, frame in (("customers", people), ("transactions", paid), ("holdings", held)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    recode = {
        "transactions": {"channel": {"Filiale": "branch", "E-Bank": "online"}},
        "holdings": {"product_family": {"Online-Handel": "ecommerce"}},
    }
    seen = []
    for own in ({}, recode):
        tables = {k: {"file": f"{k}.csv", **({"recode": own[k]} if k in own else {})}
                  for k in ("customers", "transactions", "holdings")}  # fmt: skip
        described = FACTS | {"observation_start": str(START), "observation_end": str(END), "tables": tables}
        (tmp_path / "bank.yaml").write_text(yaml.safe_dump(described), "utf-8")
        bank = open_bank(tmp_path)
        seen.append((base.digital(bank), segments.companies(bank)))
    assert ["recode" in str(one) for one in seen[0]] == [True, True], seen[0]
    assert seen[1][0].loc[0, "digital"] == 1
    assert seen[1][1]["with_it"].max() == 1
