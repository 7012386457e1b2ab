"""Study 4 on banks: reductions by hand and by a second route, and the worlds of the simulated bank."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from crmresearch.data import pseudonyms
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.reductions import loyalty as reductions
from crmresearch.data.reductions.expressions import DAYS_PER_MONTH
from crmresearch.errors import InputError
from crmresearch.studies import loyalty

SURVEY = ("customers", "survey")


@pytest.fixture(scope="module")
def hand():
    """Four customers, one wave on 15 June 2022; every figure below can be worked out on paper."""
    day = pd.Timestamp
    customers = pd.DataFrame(
        {
            "customer_id": ["A", "B", "C", "D"],
            "acquired_on": [day("2021-06-15"), day("2022-01-10"), day("2021-01-01"), day("2022-08-01")],
            "left_on": [pd.NaT, day("2022-09-30"), day("2022-03-01"), pd.NaT],
            "exit_cause": [None, "voluntary", "voluntary", None],
            "acquisition_channel": ["branch", "branch", "branch", "referral"],
            "referrer_id": [None, None, None, "A"],
            "city_tier": [1, 2, 2, 1],
            "birth_year": [1980, 1990, 1970, 2000],
        }
    )
    survey = pd.DataFrame(
        {
            "customer_id": ["A", "B", "C"],
            "wave_on": [day("2022-06-15")] * 3,
            "sampled": True,
            "responded": [True, False, True],
            "sat1": [7.0, np.nan, 5.0],
            "sat2": [8.0, np.nan, 4.0],
        }
    )
    months = pd.date_range("2022-04-01", "2022-09-01", freq="MS")
    monthly = pd.DataFrame(
        [
            {"customer_id": c, "month": m, "balance": 1000.0 + 100 * m.month, "net_interest": 10.0, "fees": 2.0,
             "service_cost": 5.0, "risk_cost": 1.0}
            for c in ("A", "B") for m in months
        ]
    )  # fmt: skip
    holdings = pd.DataFrame(
        {
            "customer_id": ["A", "A", "B"],
            "product_family": ["current", "fund", "current"],
            "opened_on": [day("2021-06-15"), day("2022-07-01"), day("2022-01-10")],
        }
    )
    service = pd.DataFrame(
        {
            "customer_id": ["A", "B", "B"],
            "occurred_on": [day("2022-06-02"), day("2021-12-05"), day("2022-03-03")],
            "kind": ["complaint", "complaint", "visit"],
            "channel": "branch",
        }
    )
    about = {
        "name": "hand",
        "currency": "EUR",
        "observation_start": datetime.date(2021, 1, 1),
        "observation_end": datetime.date(2023, 12, 31),
        "evidence": "simulated",
        "tolerance_days": {"*": 1000},
    }
    tables = {"customers": customers, "survey": survey, "monthly": monthly, "holdings": holdings, "service": service}
    return Bank.from_frames(tables, about)


def test_joined_by_hand(hand):
    frame = reductions.joined(hand, horizon_months=12).set_index("customer_id")
    assert list(frame.index) == ["A", "B"]  # C had left before the wave
    a, b = frame.loc["A"], frame.loc["B"]
    assert a["tenure_years"] == pytest.approx(365 / 365.25)
    assert a["age"] == 42
    assert a["balance"] == 1500.0  # end of May
    assert a["contribution_before"] == pytest.approx(12 * 6.0)  # two months seen, per year
    assert a["contribution_after"] == pytest.approx(3 * 6.0)  # July to September
    assert a["families"] == 1  # the fund came later
    assert a["complaint"] == 0  # the month of the wave is neither before nor after
    assert b["complaint"] == 1  # December is the sixth month before
    assert (a["referrals"], b["referrals"]) == (1, 0)
    assert a["exposure_years"] == pytest.approx(564 / 365.25)  # one wave only: to the end of 2023
    assert b["exposure_years"] == pytest.approx(107 / 365.25)
    assert (a["left"], b["left"]) == (0, 1)
    assert (a["event"], b["event"]) == (0, 1)
    assert b["exit_months"] == pytest.approx(107 / DAYS_PER_MONTH)


def test_follow_up_that_was_not_observed_is_missing(hand):
    frame = reductions.joined(hand, horizon_months=24)
    assert frame["left"].isna().all()  # 24 months after June 2022 lie beyond the end
    assert frame["contribution_after"].isna().all()
    with pytest.raises(InputError, match="horizon_months is 0"):
        reductions.joined(hand, horizon_months=0)


def test_referred_by_hand(hand):
    frame = reductions.referred(hand, years=1).set_index("customer_id")
    assert list(frame.index) == ["A", "B", "C", "D"]
    assert list(frame["referred"]) == [0, 0, 0, 1]
    assert frame.loc["D", "cohort"] == 2022 * 2 + 1
    assert frame.loc["B", "event"] == 1
    # A's first year is 2021-07 to 2022-06: April to June are recorded
    assert frame.loc["A", "contribution_1"] == pytest.approx(18.0)
    with pytest.raises(InputError, match="years is 11"):
        reductions.referred(hand, years=11)


def test_survey_waves(hand, small_bank):
    frame = reductions.survey(hand)
    assert {"wave", "city_tier", "sat1"} <= set(frame.columns)
    assert not reductions.survey(hand, wave=3)  # a Missing, with its reason
    assert "has no wave 3" in str(reductions.survey(hand, wave=3))
    whole, second = reductions.survey(small_bank), reductions.survey(small_bank, wave=2)
    assert len(second) == (whole["wave"] == 2).sum()


def asked_unevenly(n=4_000, **more):
    """Customers of whom those with high answers were asked four times as often as the others, in two waves."""
    g = np.random.default_rng(5)
    ids = [f"K{k:05d}" for k in range(n)]
    high = g.random(n) < 0.5
    asked = g.random(n) < np.where(high, 0.8, 0.2)
    rows = pd.DataFrame({"customer_id": ids, "sat1": np.where(high, 9.0, 3.0), "weight": np.where(high, 1.25, 5.0)})
    waves = [rows[asked].assign(wave_on=pd.Timestamp(day)) for day in ("2022-03-15", "2022-09-15")]
    survey = pd.concat(waves).assign(sampled=True, responded=True, **more)
    about = {"name": "uneven", "currency": "EUR", "evidence": "simulated"}
    about |= {"observation_start": datetime.date(2022, 1, 1), "observation_end": datetime.date(2022, 12, 31)}
    people = pd.DataFrame({"customer_id": ids, "acquired_on": pd.Timestamp("2021-01-01")})
    return Bank.from_frames({"customers": people, "survey": survey}, about), survey


def test_customers_asked_more_often_are_thinned_to_equal_chances():
    bank, survey = asked_unevenly()
    kept = reductions.survey(bank)
    assert survey["sat1"].mean() > 7.5  # the plain mean is of those who were asked; of all customers it is 6
    assert kept["sat1"].mean() == pytest.approx(6, abs=4 * 3 / np.sqrt(len(kept) / 2))
    assert (kept["sat1"] == 3).sum() == (survey["sat1"] == 3).sum()  # nobody with the largest weight goes
    first, second = (set(kept.loc[kept["wave"] == w, "customer_id"]) for w in (1, 2))
    assert first == second  # a panel stays one
    assert len(reductions.joined(bank)) == len(kept)


def test_who_is_thinned_out_is_the_same_by_every_key_and_without_one(tmp_path, monkeypatch):
    bank, survey = asked_unevenly(2_000)
    survey.to_csv(tmp_path / "survey.csv", index=False)
    dates = "observation_start: 2022-01-01\nobservation_end: 2022-12-31\n"
    about = f"name: uneven\ntitle: T\nevidence: simulated\ncurrency: XTS\n{dates}"
    (tmp_path / "bank.yaml").write_text(f"{about}tables:\n  survey: {{file: survey.csv}}\n", "utf-8")
    kept = reductions.survey(bank)
    assert len(kept) < len(survey)
    for key in (b"k" * 32, b"l" * 32):
        monkeypatch.setattr(pseudonyms, "key", lambda key=key: key)
        again = reductions.survey(open_bank(tmp_path))
        assert not set(again["customer_id"]) & set(kept["customer_id"])  # they are pseudonyms
        pd.testing.assert_frame_equal(again.drop(columns="customer_id"), kept.drop(columns="customer_id"))


@pytest.mark.parametrize("weight", [1.0, 0.3, np.nan])
def test_equal_or_unknown_chances_leave_every_row(weight):
    bank, survey = asked_unevenly(500, weight=weight)
    assert len(reductions.survey(bank)) == len(survey)


def test_a_row_without_a_weight_goes_where_others_have_one():
    bank, survey = asked_unevenly(500)
    holes = survey.assign(weight=survey["weight"].where(survey["sat1"] == 3))
    kept = reductions.survey(Bank.from_frames({"survey": holes}, bank.about))
    assert len(kept) == (survey["sat1"] == 3).sum()


def test_joined_by_a_second_route(small_bank):
    """The engine's sums against pandas on the raw tables."""
    frame = reductions.joined(small_bank, horizon_months=12)
    monthly = small_bank.frame(small_bank.table("monthly"))
    monthly["contribution"] = monthly["net_interest"] + monthly["fees"] - monthly["service_cost"] - monthly["risk_cost"]
    rows = frame[["customer_id", "wave", "wave_on"]].merge(monthly, on="customer_id")
    gap = (rows["month"].dt.year - rows["wave_on"].dt.year) * 12 + rows["month"].dt.month - rows["wave_on"].dt.month
    after = rows[gap.between(1, 12)].groupby(["wave", "customer_id"])["contribution"].sum()
    whole = frame.set_index(["wave", "customer_id"])["contribution_after"]
    np.testing.assert_allclose(after.reindex(whole.index).fillna(0), whole, atol=1e-6)
    before = rows[gap.between(-12, -1)].groupby(["wave", "customer_id"])["contribution"].mean() * 12
    mine = frame.set_index(["wave", "customer_id"])["contribution_before"]
    np.testing.assert_allclose(before.reindex(mine.index), mine, atol=1e-6)
    assert not frame.duplicated(["customer_id", "wave"]).any()
    assert frame["wave"].is_monotonic_increasing


def _bank(world, seed, customers=6000, tables=SURVEY, **changes):
    from crmresearch.lab import simulated

    return simulated.bank(simulated.Settings(customers, 60, seed, world, changes), list(tables))


def _first_wave(bank):
    survey = reductions.survey(bank, wave=1)
    model = loyalty.declared_model(bank.about.constructs, bank.about.paths, survey)
    return model, loyalty.prepare_items(survey, model)


def _gate_and_path(bank):
    model, items = _first_wave(bank)
    gates = loyalty.path_gates(model, loyalty.htmt(items, model, resamples=200, seed=1))
    rival = loyalty.factor_models(items, model.connected)
    return loyalty.path_model(items, model, gates=gates, rival=rival, resamples=200, seed=1)


def test_gates_in_two_worlds():
    for seed in (1, 2):
        planted = _gate_and_path(_bank("baseline", seed)).finding("S10a")
        assert {c.status for c in planted.checks} == {"open", "declared"}
        assert planted.ci_low > 0
        broken = _gate_and_path(_bank("one_factor_survey", seed)).finding("S10a")
        closed = {c.name: c.status for c in broken.checks if c.status != "declared"}
        assert closed == {"discriminant validity": "closed", "one-factor rival": "closed"}


def test_null_world_claims_nothing():
    """The rule needs q of .05 besides; single lines may pass once in forty."""
    hits = [_gate_and_path(_bank("null", seed, 3000)).finding("S10a").ci_low > 0 for seed in range(3, 8)]
    assert sum(hits) <= 1


def test_latent_path_of_the_simulated_bank():
    bank = _bank("baseline", 5, 20_000)
    model, items = _first_wave(bank)
    table = loyalty.ordinal_beside_linear(items, model, resamples=60, seed=1).table
    row = table[(table["path"] == "SAT to LOY") & (table["treatment"] == "latent, ordinal")].iloc[0]
    # planted .50 between attitudes of unit variance, a few hundredths more as complaints add variance to satisfaction
    assert row["low"] - 0.03 < 0.5 < row["high"] + 0.03
    composite = table[(table["path"] == "SAT to LOY") & (table["treatment"] == "composite")].iloc[0]
    assert composite["estimate"] < row["estimate"]


def test_stated_chance_of_leaving():
    e = loyalty.intention_behaviour(reductions.joined(_bank("baseline", 6, 20_000))).estimates["stated_over_actual"]
    assert abs(e.value - 2.0) < 3.3 * e.se  # planted factor 2 (one chance in a thousand)


def test_small_bank_says_too_few():
    bank = _bank("small", 1, 150)
    survey = reductions.survey(bank, wave=1)
    model = loyalty.declared_model(bank.about.constructs, bank.about.paths, survey)
    items = loyalty.prepare_items(survey, model)
    result = loyalty.path_model(items, model, resamples=100, seed=1)
    assert not result.applicable
    assert "respondents answered every item" in result.sentence
    assert not loyalty.exit_hazard(reductions.joined(bank), model).applicable


def test_studies_without_their_tables(hand):
    bank = Bank.from_frames(
        {"customers": hand.frame(hand.table("customers")).drop(columns=["referrer_id", "acquisition_channel"])},
        {
            "name": "bare",
            "currency": "EUR",
            "observation_start": datetime.date(2021, 1, 1),
            "observation_end": datetime.date(2023, 12, 31),
            "evidence": "simulated",
        },
    )
    survey = reductions.survey(bank)
    model = loyalty.declared_model(bank.about.constructs, bank.about.paths, survey)
    assert not loyalty.item_summary(survey, model).applicable
    assert not loyalty.later_contribution(reductions.joined(bank), model).applicable
    assert (
        "neither acquisition_channel nor referrer_id"
        in loyalty.referral_gaps(reductions.referred(bank), seed=1).sentence
    )
