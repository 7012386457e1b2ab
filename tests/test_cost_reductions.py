"""Reductions of study 3 against plain pandas on the raw tables, and the studies on a simulated bank."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.reductions import cost as reductions
from crmresearch.data.reductions.blocks import BLOCKS
from crmresearch.data.reductions.cost.offers import _complaints as complaints_around
from crmresearch.errors import InputError, Missing
from crmresearch.studies import cost


@pytest.fixture(scope="module")
def raw(small_bank):
    names = ("customers", "prospects", "contacts", "monthly")
    return {n: small_bank.frame(small_bank.table(n)) for n in names}


def spans(bank, customers: pd.DataFrame) -> pd.DataFrame:
    """First and last day at risk of each customer."""
    start, end = pd.Timestamp(bank.about.observation_start), pd.Timestamp(bank.about.observation_end)
    out = customers[["customer_id", "acquired_on", "left_on"]].copy()
    out["first"] = customers[["observed_from", "acquired_on"]].max(axis=1).clip(lower=start)
    out["last"] = customers["left_on"].fillna(end).clip(upper=end)
    return out[out["last"] >= out["first"]]


def test_acquisition_adds_up_to_the_prospects(small_bank, raw):
    found, p = reductions.acquisition(small_bank), raw["prospects"]
    won = p["won"].astype(bool)
    assert found["n"].sum() == len(p)
    assert found["won"].sum() == won.sum()
    assert found["spend"].sum() == pytest.approx(p["spend"].sum(), abs=1e-6)
    assert found["spend_won"].sum() == pytest.approx(p.loc[won, "spend"].sum(), abs=1e-6)
    assert found.loc[found["won"] == 0, "segment"].isna().all()


def test_prospects_come_one_by_one_with_the_block_of_their_customer(small_bank, raw):
    found = reductions.prospects(small_bank)
    assert len(found) == len(raw["prospects"])
    by_block = found.groupby("block")["spend"].sum()
    same = reductions.acquisition(small_bank).groupby("block")["spend"].sum()
    pd.testing.assert_series_equal(by_block, same, check_names=False)


def test_exposure_equals_a_count_of_days_and_exits_those_in_the_table(small_bank, raw):
    """Months are shares of calendar months; a year of them is 365.25 days to within a tenth of a percent."""
    found, s = reductions.upkeep(small_bank), spans(small_bank, raw["customers"])
    left = s["left_on"].notna()
    days = ((s["last"] - s["first"]).dt.days + ~left).sum()
    assert found["years"].sum() == pytest.approx(days / 365.25, rel=1e-3)
    assert found["exits"].sum() == left.sum()
    assert found["entered"].sum() == len(s)
    assert (found["months"] >= 0).all()


def test_exposure_of_each_tenure_month_equals_a_brute_force_count(small_bank, raw):
    found = reductions.upkeep(small_bank).groupby("tenure_month")["months"].sum()
    s = spans(small_bank, raw["customers"])
    total: dict[int, float] = {}
    for row in s.head(10_000).itertuples():
        won = row.acquired_on.year * 12 + row.acquired_on.month
        for month in pd.period_range(row.first, row.last, freq="M"):
            days = month.days_in_month
            begin = row.first.day - 1 if month == row.first.to_period("M") else 0
            stop = days
            if month == row.last.to_period("M"):
                stop = row.last.day - (1 if pd.notna(row.left_on) else 0)
            k = month.year * 12 + month.month - won
            total[k] = total.get(k, 0.0) + (stop - begin) / days
    brute = pd.Series(total).sort_index()
    brute = brute[brute > 1e-12]
    assert found[found > 1e-9].to_numpy() == pytest.approx(brute.to_numpy(), abs=1e-6)


def test_money_adds_up_to_the_tables(small_bank, raw):
    found, m, c = reductions.upkeep(small_bank), raw["monthly"], raw["contacts"]
    assert found["contribution"].sum() == pytest.approx(
        (m["net_interest"] + m["fees"] - m["service_cost"] - m["risk_cost"]).sum(), abs=1e-4
    )
    assert found["retention_cost"].sum() == pytest.approx(c.loc[c["purpose"] == "retain", "cost"].sum(), abs=1e-4)


@pytest.mark.parametrize("by", ["channel", "segment"])
def test_upkeep_by_group_adds_up_to_that_of_all(small_bank, by):
    whole, parts = reductions.upkeep(small_bank), reductions.upkeep(small_bank, by=by)
    assert parts[by].nunique() > 2
    columns = ["months", "years", "exits", "entered", "retention_cost"]
    total = parts.groupby(["block", "tenure_month"])[columns].sum()
    expected = whole.set_index(["block", "tenure_month"])[columns]
    pd.testing.assert_frame_equal(total, expected, check_dtype=False, check_index_type=False, atol=1e-9)


def test_upkeep_by_an_unknown_group_is_refused(small_bank):
    with pytest.raises(InputError, match="group by channel or segment"):
        reductions.upkeep(small_bank, by="city")


def test_primary_ratio_equals_its_definition_on_the_raw_tables(small_bank, raw):
    p, c = raw["prospects"], raw["contacts"]
    per_win = p["spend"].sum() / p["won"].astype(bool).sum()
    found = cost.ratios(reductions.acquisition(small_bank), reductions.upkeep(small_bank)).estimates["S40"]
    years = reductions.upkeep(small_bank)["years"].sum()
    assert found.value == pytest.approx(per_win / (c.loc[c["purpose"] == "retain", "cost"].sum() / years))


def test_campaigns_hold_those_drawn_and_those_who_could_have_been_contacted(small_bank, raw):
    found, c = reductions.campaigns(small_bank), raw["contacts"]
    assert "care" not in set(found["campaign_id"])  # goes on all the time: upkeep, no campaign
    for name, rows in found.groupby("campaign_id"):
        file = c[c["campaign_id"] == name]
        assert rows["treated"].sum() == (file["arm"] != "control").sum()
        assert rows["cost"].sum() == pytest.approx(file["cost"].sum())
        if rows["randomised"].all():
            assert len(rows) == len(file)
        else:
            assert len(rows) > 1.5 * len(file)
    assert not found.filter(like="x_").isna().any(axis=None)


def test_a_sample_of_campaigns_is_whole_blocks_and_says_so(small_bank, monkeypatch):
    """Too many rows: one customer in k stands for all, with money and shares as they are, and the results say so."""
    whole = reductions.campaigns(small_bank)
    monkeypatch.setattr(small_bank, "most", len(whole) // 2)
    part = reductions.campaigns(small_bank)
    one_in = part.attrs["one_in"]
    assert one_in > 1
    expected = whole[whole["block"] < round(BLOCKS / one_in)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part[expected.columns], expected)
    said = f"One customer in {one_in:.3g} was studied"
    for study in (cost.saved, cost.targeted):
        assert said in study(part).sentence
        assert "was studied" not in study(whole).sentence


def test_what_is_known_of_a_customer_lies_before_the_contact(small_bank):
    """Later exits and complaints must not show up: with everything after the campaign deleted, nothing changes."""
    from crmresearch.data.bank import Bank

    found = reductions.campaigns(small_bank).query("campaign_id == 'trial'")
    day = small_bank.frame(small_bank.table("contacts")).query("campaign_id == 'trial'")["contacted_on"].min()
    tables = {
        n: small_bank.frame(small_bank.table(n)) for n in ("customers", "contacts", "monthly", "service", "holdings")
    }
    tables["monthly"] = tables["monthly"][tables["monthly"]["month"] < day]
    tables["service"] = tables["service"][tables["service"]["occurred_on"] < day]
    tables["holdings"] = tables["holdings"][tables["holdings"]["opened_on"] < day]
    cut = reductions.campaigns(Bank.from_frames(tables, small_bank.about, checked=False)).query(
        "campaign_id == 'trial'"
    )
    same = [c for c in found if c.startswith("x_") or c == "value_before"]
    pd.testing.assert_frame_equal(found[same].reset_index(drop=True), cut[same].reset_index(drop=True))


def test_blocks_of_a_person_agree_between_frames(small_bank):
    """Won prospects and their customers share blocks: wins per block equal customers won in the period per block."""
    wins = reductions.acquisition(small_bank).groupby("block")["won"].sum()
    joint = reductions.joint(small_bank)
    pd.testing.assert_series_equal(wins, joint.groupby("block")["won"].sum().astype(float), check_names=False)


def test_the_same_bank_gives_the_same_frames(small_bank):
    for reduce in (reductions.acquisition, reductions.upkeep, reductions.campaigns):
        pd.testing.assert_frame_equal(reduce(small_bank), reduce(small_bank))


def test_every_study_runs_on_the_simulated_bank(small_bank):
    bank = small_bank
    people, upkeep, campaigns = reductions.prospects(bank), reductions.upkeep(bank), reductions.campaigns(bank)
    acquisition = reductions.acquisition(bank)
    response, saved = cost.response(people), cost.saved(campaigns)
    results = [
        response, saved, cost.ratios(acquisition, upkeep, response, saved), cost.targeted(campaigns),
        cost.ratios_by(acquisition, reductions.upkeep(bank, by="channel"), response, campaigns, resamples=99),
        cost.replacement(acquisition, upkeep),
        cost.payback(acquisition, upkeep), cost.retention_point(upkeep, saved),
        cost.split(cost.response_curves(people, campaigns, upkeep, response, resamples=60)),
    ]  # fmt: skip
    for result in results:
        assert result.applicable
        assert result.sentence.endswith(".")
        if result.picture is not None:
            assert result.alt
            assert result.plot() is not None


@pytest.mark.parametrize("reduce", ["acquisition", "prospects", "upkeep", "campaigns", "joint", "contacts_per_sale"])
def test_a_bank_without_the_tables_is_not_applicable(reduce, small_bank):
    from crmresearch.data.bank import Bank

    tables = {"survey": small_bank.frame(small_bank.table("survey"))}
    bare = Bank.from_frames(tables | {"customers": small_bank.frame(small_bank.table("customers"))}, small_bank.about)
    found = getattr(reductions, reduce)(bare)
    assert isinstance(found, Missing)
    assert "brings no" in str(found) or "neither" in str(found)


def test_a_table_in_two_currencies_is_refused(small_bank, raw):
    from crmresearch.data.bank import Bank

    mixed = raw["prospects"].assign(currency=np.where(np.arange(len(raw["prospects"])) % 2, "CNY", "EUR"))
    bank = Bank.from_frames({"prospects": mixed, "customers": raw["customers"]}, small_bank.about)
    with pytest.raises(InputError, match=r"prospects mixes currencies \(CNY, EUR\)"):
        reductions.prospects(bank)


def test_smcrm_and_bank_marketing_keep_their_true_shape(open_data):
    smcrm = open_data("smcrm")
    ratios = cost.ratios(reductions.acquisition(smcrm), reductions.upkeep(smcrm))
    assert ratios.estimates["S40"].value == pytest.approx(4.41, abs=0.005)
    calls = cost.per_sale(reductions.contacts_per_sale(open_data("bank-marketing"))).table.set_index("group")
    assert calls.loc["new", "per_sale"] == pytest.approx(94745 / 3141)  # counted by hand from the file
    assert calls.loc["won before", "per_sale"] == pytest.approx(2483 / 894)


def test_censored_tenures_without_dates_have_no_tenure_denominator(open_data):
    bank = open_data("smcrm-acquisition")
    ratios = cost.ratios(reductions.acquisition(bank), reductions.upkeep(bank))
    assert "censored" in str(ratios.finding("S40b"))
    assert ratios.estimates["S40"].value > 0


def test_estimators_on_trial_run_and_their_truths_name_what_they_return(small_bank):
    from crmresearch.lab import simulated
    from crmresearch.lab.recover.cost import ESTIMATORS

    truth = simulated.truth(simulated.Settings(customers=2_000, months=60, seed=1))
    for estimator in ESTIMATORS:
        if estimator.name == "split":
            continue  # a hundred resamples; its parts are tested above
        found = estimator.run(small_bank)
        known = estimator.truth(truth) if callable(estimator.truth) else estimator.truth
        expected = set(known) | set(estimator.limits)
        unfitted = {f"marginal_cost.{c}" for c in ("branch", "online", "agent", "referral")}  # undefined in small banks
        assert expected - unfitted <= set(found), estimator.name
        assert all(e.ci_low <= e.ci_high for e in found.values()), estimator.name


def test_complaints_unmet_are_those_of_the_twelve_months_before_the_campaign(small_bank):
    day = (pd.Timestamp(small_bank.about.observation_start) + pd.DateOffset(months=24)).date()
    found = small_bank.frame(complaints_around(small_bank, day, 12)).set_index("who")
    s = small_bank.frame(small_bank.table("service"))
    s = s[s["kind"] == "complaint"].assign(on=lambda f: pd.to_datetime(f["occurred_on"]))
    ages = {k: pd.Timestamp(day) - pd.DateOffset(months=k) for k in (3, 12)}
    before = s[s["on"] < pd.Timestamp(day)]
    unmet = before[~before["resolved"].astype(bool)]
    for column, rows in {
        "x_unmet_complaint": unmet[unmet["on"] >= ages[12]],
        "x_complaint": before[before["on"] >= ages[3]],
    }.items():
        assert set(found.index[found[column] == 1]) == set(rows["customer_id"])
    # the bank has unmet complaints older than the window and others between three and twelve months, so limits matter
    assert set(unmet["customer_id"]) != set(unmet.loc[unmet["on"] >= ages[12], "customer_id"])
    assert set(unmet.loc[unmet["on"] >= ages[12], "customer_id"]) != set(
        unmet.loc[unmet["on"] >= ages[3], "customer_id"]
    )
