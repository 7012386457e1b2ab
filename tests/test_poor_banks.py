"""No notebook dies of data: what cannot be computed says why, and every later cell runs."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import poor_banks as poor
from crmresearch import ledger, notebook
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import cost as cost_reductions
from crmresearch.data.reductions import loyalty, segments, strategy
from crmresearch.data.reductions import value as reductions
from crmresearch.errors import FitError, FitWarning, InputError, Missing, Reader, answered
from crmresearch.estimators.survival import predict
from crmresearch.estimators.survival.cox import cox, cox_bootstrap
from crmresearch.estimators.survival.diagnostics import proportional_hazards_test
from crmresearch.estimators.survival.finegray import fine_gray
from crmresearch.estimators.survival.gformula import standardised_curves
from crmresearch.estimators.worth.purchases import fit_purchases, purchase_forecasts
from crmresearch.lab import simulated
from crmresearch.lab.recover.facts import marginal_facts
from crmresearch.result import Result, study
from crmresearch.studies import cost, unity, value
from crmresearch.studies.loyalty import intention_behaviour

# notebooks of banks that are like the others but for who left, what is counted as income, or what is held
CONCERNED = {
    "few_exits": "02 06 07 08", "all_leave": "00 02 06 07", "one_product": "00 01 05",
    "balances_only": "01 03 05 06 07 99",
}  # fmt: skip


@pytest.mark.parametrize("make", poor.POOR, ids=lambda make: make.__name__)
def test_every_cell_runs_on_a_poor_bank(make, tmp_path):
    notebooks = [p for p in poor.NOTEBOOKS if p.stem[:2] in CONCERNED.get(make.__name__, p.stem)]
    rows = poor.run(make(), tmp_path, notebooks, drawn=True)
    assert set(rows.index) == set(ledger.lines())
    poor.reasoned(rows, notebooks)


def test_where_the_bank_does_not_tell_who_left_nobody_is_taken_to_have_stayed():
    """Retention by lot was 0 [0, 0] and refuted."""
    s = simulated.Settings(1_000, 60, 1, "wider")
    tables = ["customers", "monthly", "contacts", "survey", "holdings", "transactions"]
    frames = simulated.frames(s, tables)
    frames["customers"] = frames["customers"].drop(columns=["left_on", "exit_cause"])
    bank = Bank.from_frames(frames, simulated.about(s))
    offered = strategy.offers(bank), strategy.offers(bank, purpose="develop"), cost_reductions.campaigns(bank)
    for missing in (*offered, segments.behaviour(bank), segments.companies(bank)):
        assert "no column left_on" in missing.reason
    joined = loyalty.joined(bank)
    assert joined["left"].isna().all()
    assert joined["contribution_after"].notna().any()
    read = unity.together(joined, benefit="net_benefit", bands=3, resamples=9, seed=1)
    assert "lack left" in read.missing.reason
    assert not intention_behaviour(joined).applicable


# --- few exits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exits", [1, 3, 6])
def test_too_few_exits_are_a_reason_with_their_number(exits, tmp_path):
    rows = poor.run(poor.few_exits(exits), tmp_path, [p for p in poor.NOTEBOOKS if p.stem == "02_churn_survival"])
    for line in ("S06", "S15", "S56"):
        assert rows.loc[line, "verdict"] == "not applicable"
        assert re.search(r"(\d|\bno\b|\bnone\b).* (exit|left)", rows.loc[line, "checks"]), line


def landmark(exits: int, within: int, n: int = 400) -> pd.DataFrame:
    """Customers followed for four years: so many leave, so many of them in the first year."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"exit": np.full(n, 48.0), "event": 0, "x": rng.normal(size=n)})
    frame.loc[: exits - 1, "event"] = 1
    frame.loc[: exits - 1, "exit"] = np.r_[np.linspace(2, 11, within), np.linspace(20, 40, exits - within)]
    return frame.assign(cause=np.where(frame["event"] == 1, "voluntary", None))


@pytest.mark.parametrize(("exits", "within"), [(14, 2), (3, 3), (12, 0), (30, 9)])
def test_a_resample_without_an_exit_is_no_division_by_zero(exits, within):
    """With two exits in the year, one resample in seven holds none of them; scores were divided by zero there."""
    frame = landmark(exits, within)
    with pytest.raises(FitError, match=f"{within} exits in 12 months are too few to resample"):
        predict.score_bootstrap(frame, {"a": np.full(len(frame), 0.02)}, 12, repeats=200, seed=1)
    everybody = frame.assign(exit=5.0, event=1)  # the other way round: nobody stays
    with pytest.raises(FitError):
        predict.score_bootstrap(everybody, {"a": np.full(len(frame), 0.5)}, 4, repeats=20, seed=1)
    if not within:
        with pytest.raises(FitError, match="0 exits and 400 customers without one in 12 months"):
            predict.brier(frame, np.full(len(frame), 0.02), 12)


@pytest.mark.parametrize("exits", [1, 3, 9])
def test_models_are_not_resampled_on_fewer_exits_than_ten(exits):
    frame = landmark(exits, exits)
    for refit in (
        lambda: cox_bootstrap(frame, ["x"], repeats=200, seed=1),
        lambda: fine_gray(frame, ["x"], "voluntary", repeats=200, seed=1),
        lambda: standardised_curves(frame, ["x"], "x", [0, 1], repeats=200, seed=1),
    ):
        with pytest.raises(FitError, match=f"^{exits} exits.* too few to resample"):
            refit()
    assert len(cox_bootstrap(landmark(14, 14), ["x"], repeats=20, seed=1)) == 20


def test_one_exit_shows_no_trend_over_time():
    with pytest.raises(FitError, match="1 exits are too few to see"):
        proportional_hazards_test(cox(landmark(1, 1), ["x"]))


@pytest.mark.parametrize("wins", [10, 12, 40])
def test_wins_of_one_block_leave_resamples_without_any(wins):
    n = 800
    people = pd.DataFrame({"block": np.arange(n), "channel": np.where(np.arange(n) < 300, "one block", "many"), "n": 1})
    won = np.where(np.arange(n) < 300, np.arange(n) < wins, np.arange(n) % 3 == 0)
    people = people.assign(won=won.astype(int), spend=20.0 + people["block"] % 7)
    people = people.assign(spend_won=people["spend"] * people["won"])
    people.loc[:wins, "block"] = 0
    kept = people[["block", "channel"]].assign(
        years=4.0, retention_cost=30.0 + people["block"] % 5, customers=1, exits=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = cost.ratios_by(people, kept, resamples=99).table.query("line == 'S40'").set_index("channel")
    assert "resamples hold nobody to divide by" in table.loc["one block", "note"]
    assert np.isnan(table.loc["one block", "bootstrap_low"])
    assert table.loc["many", "note"] == ""
    assert table.loc["many", "bootstrap_low"] < table.loc["many", "ratio"] < table.loc["many", "bootstrap_high"]


# --- one door --------------------------------------------------------------------------------------------------------


def refuses(error):
    def function():
        raise error("14 exits; 20 are needed")

    return function


@pytest.mark.parametrize("error", [InputError, FitError])
def test_a_notebook_gets_the_reason_and_a_caller_the_error(error, monkeypatch):
    prepared, studied = answered()(refuses(error)), study(refuses(error))
    with pytest.raises(error):
        prepared()
    if error is InputError:
        with pytest.raises(error):
            studied()
    monkeypatch.setattr(Reader, "in_notebook", True)
    assert prepared() == Missing("14 exits; 20 are needed")
    assert studied().missing == prepared()
    assert "14 exits" in studied().sentence


def test_a_matrix_without_an_inverse_is_a_matter_of_the_data_and_a_mistake_is_none(monkeypatch):
    prepared = answered()(np.linalg.inv)
    monkeypatch.setattr(Reader, "in_notebook", True)
    assert prepared(np.zeros((2, 2))) == Missing(
        "a model has no solution here, as where columns do not vary (Singular matrix)"
    )
    with pytest.raises(ValueError, match="no number"):
        answered()(refuses(lambda _: ValueError("no number")))()
    monkeypatch.setattr(Reader, "in_notebook", False)
    with pytest.raises(np.linalg.LinAlgError):
        prepared(np.zeros((2, 2)))
    with pytest.raises(ZeroDivisionError):  # a mistake of ours stays one
        answered()(refuses(ZeroDivisionError))()


def test_only_the_outermost_call_answers(monkeypatch):
    monkeypatch.setattr(Reader, "in_notebook", True)
    inner, seen = answered()(refuses(InputError)), []

    @answered()
    def outer():
        try:
            return inner()
        except InputError as error:
            seen.append(error)
            raise

    assert isinstance(outer(), Missing)
    assert len(seen) == 1
    assert Reader.in_notebook


def test_the_ledger_says_why(tmp_path):
    rows = poor.run(poor.one_customer(), tmp_path, poor.NOTEBOOKS[1:2])
    assert rows.loc["S19", "verdict"] == "not applicable"
    assert "<10 customers; concentration needs at least 2" in rows.loc["S19", "checks"]


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/opt/lib/a.py", "/srv/site packages/b.py", r"C:\Users\me\c.py", "~/x/d.py"])
def test_a_warning_is_told_once_without_its_place(place, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("crmresearch.data.bank.open_bank", lambda _: poor.one_customer())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        notebook.start("90_recovery", bank_name="reference", world="baseline", study="all")
        for r in (7.4e5, 3.1, 12):
            warnings.warn(f"corner in r = {r}, see {place}", FitWarning, stacklevel=1)
        warnings.warn("another thing", RuntimeWarning, 1)
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines() == ["Worth knowing: corner in r = 740000.0, see …", "Worth knowing: another thing"]


# --- purchases -------------------------------------------------------------------------------------------------------


def shop(frame: pd.DataFrame, **more) -> Bank:
    return Bank.from_frames({"transactions": frame}, poor._about("shop", **more))


def test_windows_are_whole_months_by_date_and_printed():
    rows = {"2022-12-09": 100.0, "2022-12-10": 10.0, "2023-12-09": 1.0}
    frame = pd.DataFrame({"customer_id": "a", "occurred_on": pd.to_datetime(list(rows)), "amount": list(rows.values())})
    bank = shop(frame, observation_end=poor.datetime.date(2023, 12, 9))
    assert reductions.contribution(bank, months=12)["spend"].tolist() == [11.0]
    assert reductions.contribution_windows(bank, windows=(1, 12)).iloc[0].tolist() == ["a", 1.0, 11.0]
    assert isinstance(reductions.contribution(bank, months=36), Missing)  # 2021-01-01 to 2023-12-09 is less
    whole = shop(poor._purchases(50, lambda rng, n: rng.gamma(2, 20, n).round(2)))
    found = value.concentration(reductions.contribution(whole, months=12), seed=1, resamples=99)
    assert "Counted from 2023-01-01 to 2023-12-31, both days included" in found.sentence


def test_refunds_are_netted_and_counted_and_turn_no_model_off():
    bought = poor._purchases(300, lambda rng, n: rng.gamma(2, 20, n).round(2) + 1)
    first = bought.iloc[[0]]
    same_day = first.assign(amount=-first["amount"] / 2)
    alone = first.assign(occurred_on=pd.Timestamp("2023-12-24"), amount=-1.0)
    plain = reductions.latent_summary(shop(bought))
    for refunds in ([same_day], [alone], [same_day, alone]):
        found = reductions.latent_summary(shop(pd.concat([bought, *refunds])))
        assert found.attrs["refunds"] == len(refunds)
        pd.testing.assert_frame_equal(
            found.drop(columns=["monetary_value", "first_value"]), plain.drop(columns=["monetary_value", "first_value"])
        )
        assert (found["first_value"] != plain["first_value"]).sum() + (
            found["monetary_value"] != plain["monetary_value"]
        ).sum() == (same_day is refunds[0])
    debits = bought.assign(amount=np.where(np.arange(len(bought)) % 3, bought["amount"], -bought["amount"]))
    assert "debits and credits" in str(reductions.latent_summary(shop(debits)))


@pytest.mark.filterwarnings("ignore::crmresearch.errors.FitWarning")
def test_who_first_bought_on_the_last_day_of_calibration_has_the_rate_of_all():
    bought = poor._purchases(300, lambda rng, n: rng.gamma(2, 20, n).round(2) + 1)
    bank = shop(bought)
    last = pd.Timestamp(reductions.split_day(bank, 0.5))
    new = pd.DataFrame({"customer_id": [f"n{k}" for k in range(10)], "occurred_on": last, "amount": 5.0})
    history = reductions.latent_summary(shop(pd.concat([bought, new])), calibration_share=0.5)
    forecasts = purchase_forecasts(fit_purchases(history), history)
    late = (history["T"] == 0).to_numpy()
    assert late.sum() >= 10
    assert np.isfinite(forecasts["own rate continued"]).all()
    assert (forecasts["own rate continued"][late] == forecasts["rate of all continued"][late]).all()


@pytest.mark.filterwarnings("ignore::crmresearch.errors.FitWarning")
def test_purchases_are_told_where_spend_cannot_be(monkeypatch):
    from crmresearch.estimators.lifetime import GammaGammaFitter

    def fails(*_, **__):
        raise FitError("GammaGammaFitter: no maximum was found")

    monkeypatch.setattr(GammaGammaFitter, "fit", fails)
    history = reductions.latent_summary(shop(poor._purchases(300, lambda rng, n: rng.gamma(2, 20, n).round(2) + 1)))
    model = fit_purchases(history)
    assert len(model.pareto) == 21
    monkeypatch.setattr(Reader, "in_notebook", True)
    assert "no maximum was found" in value.purchase_value(model, history).sentence


def test_all_purchases_after_calibration_leave_no_segments():
    bank = poor.one_day()
    empty = reductions.summary(bank, calibration_share=0.5, gross=True)
    assert len(empty) == 0
    found = value.rfm_segments(empty)
    assert isinstance(found, Result)
    assert "calibration_share" in found.sentence


def test_facts_of_a_survey_without_constructs_leave_out_what_needs_them():
    bank = Bank.from_frames(poor._of(*poor._whole()), poor._about("own"))
    facts = marginal_facts(bank)
    assert facts.applicable
    assert not facts.table["fact"].str.contains("component").any()
