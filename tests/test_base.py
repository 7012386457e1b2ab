"""Study 0: the engine's counts equal those of plain pandas, and the figures say what the tables say."""

from __future__ import annotations

import dataclasses
import datetime
import math

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import base as reductions
from crmresearch.errors import Missing
from crmresearch.lab import simulated
from crmresearch.notebook import Notebook
from crmresearch.result import Result
from crmresearch.rules import rules
from crmresearch.studies import base

SETTINGS = simulated.Settings(customers=1500, months=36, seed=7, world="baseline")


@pytest.fixture(scope="module")
def frames():
    return simulated.frames(SETTINGS)


@pytest.fixture(scope="module")
def bank():
    return simulated.bank(SETTINGS)


@pytest.fixture(scope="module")
def tiny():
    """Three customers whose every number can be worked out by hand."""
    day = pd.to_datetime
    customers = pd.DataFrame(
        {
            "customer_id": ["a", "b", "c"],
            "acquired_on": day(["2015-06-01", "2020-07-01", "2020-07-01"]),
            "left_on": day([None, "2021-07-01", None]),
            "exit_cause": [None, "voluntary", None],
            "birth_year": [1970, 1980, 1980],
            "city_id": ["x", "y", "y"],
        }
    )
    holdings = pd.DataFrame(
        {
            "customer_id": ["a", "a", "c"],
            "product_family": ["card", "fund", "card"],
            "opened_on": day(["2016-01-01"] * 2 + ["2021-01-01"]),
        }
    )
    transactions = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b", "c"],
            "occurred_on": day(["2021-01-05", "2021-01-09", "2021-02-01", "2021-12-30"]),
            "amount": [10.0, -3.5, 2.25, 1.0],
            "channel": ["mobile", "branch", "branch", "mobile"],
        }
    )
    about = {
        "name": "tiny",
        "title": "Three customers",
        "currency": "EUR",
        "observation_start": datetime.date(2020, 1, 1),
        "observation_end": datetime.date(2021, 12, 31),
        "evidence": "simulated",
        "licence": "MIT",
        "citation": "made up",
    }
    return Bank.from_frames({"customers": customers, "holdings": holdings, "transactions": transactions}, about)


# -- correct: by hand --------------------------------------------------------------------------------------------


def test_exposure_by_hand(tiny, monkeypatch):
    monkeypatch.setattr(rules, "least", 1)  # three customers
    frame = reductions.exits(tiny)
    # in 2020, a leap year, a is watched 366 days and the others from 1 July, 184 days each, without an exit
    # in 2021 a and c are watched all 365 days, b 181 (to 1 July)
    assert frame.to_dict("records") == [
        {"year": 2020, "cause": "voluntary", "exits": 0, "exposure": pytest.approx((366 + 184 + 184) / 365.25)},
        {"year": 2021, "cause": "voluntary", "exits": 1, "exposure": pytest.approx((365 + 181 + 365) / 365.25)},
    ]
    assert f"{365.25 / (734 + 911):.1%} a year" in base.exit_rates(frame).sentence  # both years count


def test_keys_by_hand(tiny):
    row = reductions.keys(tiny).iloc[0]
    assert row[["n", "holdings", "orphans", "holders", "open_holdings", "look_alike"]].tolist() == [3, 3, 0, 2, 3, 2]
    result = base.linkage(reductions.keys(tiny))
    assert result.estimates["S21a"].value == pytest.approx(2 / 3)


def test_a_trait_that_is_the_same_of_everybody_tells_nobody_apart(frames, bank):
    assert "birth year, city and channel" in base.linkage(reductions.keys(bank)).sentence
    about, customers = simulated.about(SETTINGS), frames["customers"]
    one = customers.assign(birth_year=np.nan, city_id="here")
    poor = Bank.from_frames(frames | {"customers": one}, about)
    gate = base.linkage(reductions.keys(poor)).estimates["S21a"].checks[0]
    assert gate.status == "closed"  # it passed on what it could not look at
    assert reductions.alike(poor).attrs["traits"] == ["acquisition_channel", "acquired"]
    two = base.linkage(
        reductions.keys(Bank.from_frames(frames | {"customers": one.assign(city_id=customers["city_id"])}, about))
    )
    assert two.estimates["S21a"].checks[0].status == "open"
    assert "birth year" not in two.sentence


def test_coverage_by_hand(tiny):
    frame = reductions.coverage(tiny).set_index("month")
    assert frame["n"].tolist() == [3, 3, 2]  # b has left by December
    assert frame["with_any"].tolist() == [1, 1, 1]
    assert frame["with_all"].tolist() == [1, 0, 0]  # a used both channels in January


def test_digital_share_and_its_error_by_hand(tiny):
    sums = reductions.digital(tiny)
    assert sums.iloc[0].astype(int).to_dict() == {"n": 3, "total": 4, "digital": 2, "tt": 6, "dd": 2, "dt": 3}
    estimate = base.digital_share(sums).estimates["S36"]
    residuals = np.array([1 - 0.5 * 2, 0 - 0.5 * 1, 1 - 0.5 * 1])
    assert estimate.se == pytest.approx(math.sqrt((residuals**2).sum() * 3 / 2) / 4)


@pytest.mark.parametrize(
    ("names", "digital"),
    [(["Branch", "ATM"], 0), (["Mobile", "E-Banking"], 2), (["Filiale", "E-Banking"], None), (["branch", None], None)],
)
def test_channels_in_words_of_the_bank_are_not_taken_for_none_that_is_digital(tiny, names, digital):
    """A bank that calls them otherwise was told to have 0% [0%, 0%] of its transactions by digital channels."""
    t = tiny.frame(tiny.table("transactions"))
    t["channel"] = t["channel"].map(dict(zip(["mobile", "branch"], names, strict=True)))
    sums = reductions.digital(Bank.from_frames({"transactions": t}, tiny.about))
    if digital is None:
        assert "recode channel in bank.yaml to these words, and others to branch" in str(sums)
    else:
        assert sums.loc[0, "digital"] == digital


def test_a_month_that_was_observed_in_part_is_no_month_with_fewer_customers(tiny):
    about = dataclasses.replace(tiny.about, observation_start=datetime.date(2021, 1, 9))
    frames = {name: tiny.frame(tiny.table(name)) for name in ("customers", "transactions")}
    frames["transactions"] = frames["transactions"][1:]
    assert reductions.coverage(Bank.from_frames(frames, about))["month"].dt.month.tolist() == [2, 12]


def test_exact_poisson_limits():
    frame = pd.DataFrame({"year": [2020], "cause": ["voluntary"], "exits": [10], "exposure": [100.0]})
    table = base.exit_rates(frame).table
    # the exact 95% limits of a count of ten are 4.795 and 18.390 (Garwood 1936)
    assert table["ci_low"].iloc[0] == pytest.approx(0.04795, abs=1e-5)
    assert table["ci_high"].iloc[0] == pytest.approx(0.18390, abs=1e-5)
    rows = [
        (2020, "voluntary", 40, 100.0),
        (2021, "voluntary", 40, 100.0),
        (2020, "death", 4, 100.0),
        (2021, "death", 0, 100.0),
    ]
    few = base.exit_rates(pd.DataFrame(rows, columns=["year", "cause", "exits", "exposure"]))
    assert "n = 0" not in few.alt  # four left, whose row is hidden
    assert "voluntary (n = 10)" in base.exit_rates(frame).alt


# -- consistent: engine against pandas ----------------------------------------------------------------------------


def test_counts_equal_pandas(bank, frames):
    customers = frames["customers"]
    by_year = customers.groupby(customers["acquired_on"].dt.year).size()
    assert reductions.acquired(bank).set_index("year")["n"].tolist() == by_year.tolist()
    by_tier = customers.groupby("city_tier").size()
    assert reductions.tiers(bank)["n"].tolist() == by_tier.tolist()
    assert reductions.tenure(bank)["n"].sum() == customers["left_on"].isna().sum()
    mix = (
        frames["transactions"].groupby([frames["transactions"]["occurred_on"].dt.year, "channel"], observed=True).size()
    )
    assert reductions.channels(bank)["transactions"].tolist() == mix.tolist()


def test_exits_and_exposure_equal_pandas(bank, frames):
    c, about = frames["customers"], bank.about
    found = reductions.exits(bank)
    assert found["exits"].sum() == c["left_on"].notna().sum()
    start, end = pd.Timestamp(about.observation_start), pd.Timestamp(about.observation_end) + pd.Timedelta(days=1)
    low = c["observed_from"].clip(lower=start)
    high = c["left_on"].fillna(end).clip(upper=end)
    days = (high - low).dt.days.clip(lower=0).sum()
    assert found.groupby("year")["exposure"].first().sum() == pytest.approx(days / 365.25)


def test_explained_equals_pandas(bank, frames):
    m = frames["monthly"]
    cut = pd.Timestamp(bank.about.observation_end) + pd.Timedelta(days=1) - pd.DateOffset(months=12)
    m = m.assign(c=m["net_interest"] + m["fees"] - m["service_cost"] - m["risk_cost"])
    last = m[m["month"] >= cut].groupby("customer_id")["c"].sum()
    frame = reductions.explained(bank).set_index("customer_id")
    # cents add up exactly in the engine; doubles here only to within rounding
    pd.testing.assert_series_equal(frame["contribution"], last.loc[frame.index], check_names=False, rtol=1e-9)
    held = frames["holdings"]
    held = held[(held["opened_on"] < cut) & (held["closed_on"].isna() | (held["closed_on"] >= cut))]
    families = held.groupby("customer_id")["product_family"].nunique().reindex(frame.index).fillna(0)
    assert frame["families"].tolist() == families.tolist()


def test_contract_is_kept_after_loading(bank, frames):
    result = base.breaches(reductions.contract_breaches(bank))
    assert result.table["rows"].sum() == sum(len(f) for f in frames.values())
    assert result.estimates["S07"].value == 0


def test_information_is_measured_out_of_sample():
    # contribution that is pure noise: an in-sample R squared would be positive, this one must not be
    rng = np.random.default_rng(1)
    n = 2000
    noise = pd.DataFrame(
        rng.normal(size=(n, 4)), columns=["contribution", "past_contribution", "past_balance", "tenure_years"]
    )
    noise.insert(0, "customer_id", np.arange(n).astype(str))
    estimate = base.information(noise, seed=1).estimates["S26"]
    assert estimate.value <= 0
    known = noise.assign(past_contribution=noise["contribution"])
    assert base.information(known, seed=1).estimates["S26"].value > 0.99


@pytest.mark.parametrize("n", [1, 5, 9, 10])
def test_months_of_a_few_customers_are_no_number(n):
    """A month of each of a few customers is many months, and no more people."""
    months = pd.date_range("2021-01-01", periods=36, freq="MS")
    result = base.completeness(pd.DataFrame({"month": months, "n": n, "with_any": n, "with_all": 0}))
    assert ("100%" in repr(result)) == (n == 10)
    assert isinstance(result.finding("S30"), Missing) == (n < 10)


# -- runs and says why not ----------------------------------------------------------------------------------------


def test_every_result_draws_and_speaks(bank):
    results = [
        base.growth(reductions.acquired(bank), observation_start=datetime.date(2021, 1, 1)),
        base.exit_rates(reductions.exits(bank)),
        base.completeness(reductions.coverage(bank)),
        base.channel_mix(reductions.channels(bank)),
    ]
    for result in results:
        assert result.alt
        assert "nan" not in result.sentence
        axes = result.plot()
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.get_title(loc="left") or axes.get_title()


def test_missing_tables_are_named(tiny):
    only = Bank.from_frames({"customers": tiny.frame(tiny.table("customers"))}, tiny.about)
    for reduction in (
        reductions.channels,
        reductions.coverage,
        reductions.digital,
        reductions.keys,
        reductions.explained,
    ):
        missing = reduction(only)
        assert isinstance(missing, Missing)
        assert "tiny" in missing.reason
    runs = reductions.usable(only).set_index("study")["runs"]
    assert runs["02 churn"] == "in part"
    assert runs["04 satisfaction and loyalty"] == "no"


def test_bank_without_exits_says_so(tiny):
    frame = tiny.frame(tiny.table("customers")).assign(left_on=pd.NaT, exit_cause=None)
    nobody = Bank.from_frames({"customers": frame}, tiny.about)
    assert "no leaving dates" in str(reductions.exits(nobody))


@pytest.mark.parametrize(("newest", "days"), [("2020-12-01", 0), ("2020-11-01", 17), ("2020-10-01", 47)])
def test_a_month_reaches_to_its_last_day(tiny, newest, days):
    """A bank whose months are all there was told to lie a month behind."""
    monthly = pd.DataFrame({"customer_id": ["c1"], "month": pd.Timestamp(newest), "balance": 1.0})
    about = dataclasses.replace(tiny.about, observation_end=datetime.date(2020, 12, 17))
    behind = reductions.freshness(Bank.from_frames({"monthly": monthly}, about))
    assert behind[["table", "newest", "days_behind"]].to_numpy().tolist() == [["monthly", newest, days]]


@pytest.mark.parametrize("few", [1, 5, 9])
def test_no_title_tells_a_row_of_few_people(few):
    exits = pd.DataFrame({"year": 2020, "cause": ["voluntary", "death"], "exits": [few, 0], "exposure": 10.0 * few})
    assert base.exit_rates(exits).picture.title == "Exit rates by cause"
    assert "voluntary" in base.exit_rates(exits.assign(exits=[10 * few, 0])).picture.title
    alone = exits[:1].assign(exits=10 * few, cause="unknown")  # a bank that records no causes
    assert base.exit_rates(alone).picture.title == "Exit rates by cause"
    months = pd.DataFrame({"month": pd.date_range("2020-01-01", periods=3, freq="MS"), "n": [100, few, 100]})
    months = months.assign(with_any=[40, few, 60], with_all=0)
    assert base.completeness(months).picture.title.startswith("Each month 40% to 60%")
    assert "fewer than 10 people" in base.completeness(months[1:2]).sentence
    mix = pd.DataFrame({"year": [2020, 2020, 2021, 2021], "channel": ["branch", "mobile"] * 2, "n": [90, few, 90, 90]})
    mix = mix.assign(transactions=[980, 20, 600, 400])
    told = base.channel_mix(mix)
    assert "2%" not in told.sentence + (told.picture.title if told.picture else "")
    assert "from 2% to 40%" in base.channel_mix(mix.assign(n=90)).picture.title


# --- who could be told apart, and what was hidden ---------------------------------------------------------------------


def test_customers_are_counted_by_how_many_share_their_traits(bank, frames):
    c = frames["customers"]
    acquired = pd.to_datetime(c["acquired_on"]).dt.year
    traits = [c["birth_year"], c["city_id"], c["acquisition_channel"], acquired]
    size = c.groupby(traits, dropna=False)["customer_id"].transform("size")
    found = reductions.alike(bank)
    assert found.set_index("size")["n"].to_dict() == size.value_counts().sort_index().to_dict()
    told = base.anonymity(found)
    assert told.table["n"].iloc[0] == (size == 1).sum()
    assert f"holds {size.min()} (k-anonymity)" in told.sentence
    assert f"{(size < 10).mean():.1%}" in told.sentence


@pytest.mark.parametrize(("sizes", "alone"), [([1, 20], 5), ([1, 3, 30], 9), ([2, 40], 4)])
def test_a_handful_who_stand_alone_are_told_nowhere(sizes, alone):
    frame = pd.DataFrame({"size": sizes, "n": [alone] + [0] * (len(sizes) - 2) + [1000]})
    frame.attrs["traits"] = ["birth_year", "acquired"]
    told = base.anonymity(frame)
    assert "few or none" in told.sentence
    assert alone not in told.table["n"].tolist()


def test_what_was_hidden_is_told_by_table_and_rule(bank):
    nb = Notebook("00_customer_base", {}, bank, None, {})
    people = pd.DataFrame({"group": ["a", "b", "c", "d"], "n": [100, 60, 40, 3]})
    nb.keep(Result(people, "-"), "some")
    nb.keep(Result(people.assign(n=100), "-"), "whole")
    told = nb.protected()
    assert set(told.table["table"]) == {"some"}
    hidden = told.table["hidden"].sum()
    assert hidden >= 1
    assert f"{hidden} of 8 rows in 2 tables" in told.sentence
    nb.keep(Result(people[["group"]], "-", counts=()), "none")
    assert list(nb.counts.values()) == [[["n"]], [["n"]], []]
