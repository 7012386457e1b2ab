"""No notebook dies of data: what cannot be computed says why, and every later cell runs."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import poor_banks as poor
from crmresearch import ledger, notebook
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import value as reductions
from crmresearch.errors import FitError, FitWarning, InputError, Missing, Reader, answered
from crmresearch.estimators.worth.purchases import fit_purchases, purchase_forecasts
from crmresearch.result import Result, study
from crmresearch.studies import value


@pytest.mark.parametrize("make", poor.POOR, ids=lambda make: make.__name__)
def test_every_cell_runs_on_a_poor_bank(make, tmp_path):
    rows = poor.run(make(), tmp_path)
    assert set(rows.index) == set(ledger.lines())
    assert rows.loc[sorted(poor.kept()), "verdict"].ne("not measured").all()
    absent = rows[rows["verdict"] == "not applicable"]
    assert absent.index[absent["checks"].str.len() < 20].tolist() == []


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
    assert "1 customers; concentration needs at least 2" in rows.loc["S19", "checks"]


# --- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/opt/lib/a.py", "/srv/site packages/b.py", r"C:\Users\me\c.py", "~/x/d.py"])
def test_a_warning_is_told_once_without_its_place(place, capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
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
