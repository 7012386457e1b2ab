"""Value without a contract: published CLV of CDNOW, spend gates, holdout and tracking; RFM segments."""

import numpy as np
import pandas as pd
import pytest
import yaml

from crmresearch.data.reductions import value as reductions
from crmresearch.errors import FitWarning, InputError, Missing
from crmresearch.estimators.inequality import gini
from crmresearch.estimators.lifetime import GammaGammaFitter, ParetoNBDFitter
from crmresearch.estimators.worth.purchases import residual_value, rfm_scores
from crmresearch.studies import value
from crmresearch.studies.value.purchases import spend_gates
from test_value_inequality import top_share


@pytest.fixture(scope="module")
def published(shared):
    entries = yaml.safe_load((shared / "reference" / "published_results.yaml").read_text("utf-8"))["results"]
    return {e["id"]: e for e in entries}


@pytest.fixture(scope="module")
def cohort(open_data):
    """Full cohort after 78 weeks without the twelve biggest spenders; the paper leaves out ten to twelve."""
    frame = reductions.latent_summary(open_data("cdnow"))
    repeat = frame["frequency"] > 0
    frame = frame[~repeat | (frame["monetary_value"] > 0)]
    return frame.drop((frame["monetary_value"] * frame["frequency"]).nlargest(12).index)


@pytest.fixture(scope="module")
def clv(cohort, published):
    """Residual value at the parameters published for 78 weeks, 30% margin, 15% a year continuously."""
    v = published["A19"]["values"]
    purchases = ParetoNBDFitter.from_params(**{k: v[k] for k in ("r", "alpha", "s", "beta")})
    spend = GammaGammaFitter.from_params(**dict(zip(("p", "q", "v"), v["gg"], strict=True)))
    # .0027 a week continuously, as published, is an effective annual rate of exp(.0027 * 52.18) - 1
    rate = np.expm1(0.0027 * 365.25 / 7)
    return residual_value(purchases, spend, cohort, annual_discount=rate, margin=0.3)


def test_a20_mean_residual_value(cohort, clv, published):
    entry = published["A20"]
    expected, tolerance = entry["values"]["recomputed"], entry["tolerance"]["rel"]
    never = (cohort["frequency"] == 0).to_numpy()
    assert never.sum() == expected["zero_class_n"]
    assert clv.mean() == pytest.approx(expected["mean_clv"], rel=tolerance)
    assert clv.sum() == pytest.approx(expected["total"], rel=tolerance)
    assert clv[never].mean() == pytest.approx(expected["zero_class_mean"], rel=tolerance)
    assert clv[never].sum() / clv.sum() == pytest.approx(expected["zero_class_share"], rel=tolerance)


def test_a21_value_by_tercile(cohort, clv, published):
    entry = published["A21"]
    repeat = (cohort["frequency"] > 0).to_numpy()
    part, worth = cohort[repeat], clv[repeat]
    for column, name in (("recency", "recency"), ("frequency", "frequency"), ("monetary_value", "monetary")):
        # equal values are split by the order of the ids, as a sort does; the published tolerance of 5 allows for it
        order = np.argsort(part[column].to_numpy(), kind="stable")
        means = [worth[p].mean() for p in np.array_split(order, 3)]
        np.testing.assert_allclose(
            means, entry["values"]["recomputed"][name], atol=entry["tolerance"]["abs"], err_msg=name
        )


def test_e10_concentration_of_expected_value(clv, published):
    entry = published["E10"]
    got = {"gini": gini(clv), "top20": top_share(clv, 0.2), "top10": top_share(clv, 0.1), "top1": top_share(clv, 0.01)}
    for name, expected in entry["values"].items():
        assert got[name] == pytest.approx(expected, abs=entry["tolerance"]["abs"]), name


def process(n=2_000, seed=0, weeks=52.0, ahead=39.0, alpha=8.0):
    """Draw a cohort from Pareto/NBD and gamma-gamma themselves."""
    rng = np.random.default_rng(seed)
    rate, death = rng.gamma(0.8, 1 / alpha, n), rng.gamma(0.7, 1 / 8.0, n)
    start = rng.uniform(0, 12, n)
    age, life = weeks - start, rng.exponential(1 / death)
    nu = rng.gamma(4.0, 1 / 15.0, n)
    rows = []
    for i in range(n):
        times = np.cumsum(rng.exponential(1 / rate[i], 400))
        times = times[times < min(life[i], age[i] + ahead)]
        seen = times[times <= age[i]]
        spend = rng.gamma(6.0, 1 / nu[i], seen.size)
        mean, last = (spend.mean(), seen[-1]) if seen.size else (0.0, 0.0)
        rows.append((seen.size, last, age[i], mean, 25.0, times.size - seen.size, ahead))
    names = ["frequency", "recency", "T", "monetary_value", "first_value", "frequency_holdout", "duration_holdout"]
    return pd.DataFrame(rows, columns=names).rename_axis("customer_id").reset_index()


@pytest.fixture(scope="module")
def drawn():
    return process()


@pytest.fixture(scope="module")
def model(drawn):
    return value.fit_purchases(drawn)


def test_holdout_on_the_models_own_process(drawn, model):
    """The right model predicts the level within its interval; continuing everybody's rate overstates it."""
    result = value.purchase_holdout(model, drawn)
    table = result.table.set_index("method")
    assert table.loc["Pareto/NBD", "level_low"] < 1 < table.loc["Pareto/NBD", "level_high"]
    assert table.loc["own rate continued", "level_low"] > 1
    assert table.loc["Pareto/NBD", "rank"] > 0.4
    assert result.plot() is not None
    tenths = value.purchase_calibration(model, drawn).table
    covered = (tenths["ci_low"] <= tenths["predicted"]) & (tenths["predicted"] <= tenths["ci_high"])
    assert covered.sum() >= 7  # of ten 95% intervals; fewer has a chance below one in five thousand


def test_value_of_what_is_to_come(drawn, model):
    result = value.purchase_value(model, drawn, annual_discount=0.1, margin=0.3)
    table = result.table.set_index("repeat purchases")
    assert table["value per customer"].is_monotonic_increasing
    assert table["share of value"].sum() == pytest.approx(1, abs=1e-9)
    assert [c.status for c in result.checks] == ["open", "open"]
    mean, se, low, high = result.details["mean"]
    assert low < mean < high
    assert se > 0.5 * result.details["values"][0].std() / np.sqrt(len(drawn))  # sampling of customers is in it
    # margin is a factor, and a dearer future is worth less
    half = value.purchase_value(model, drawn, annual_discount=0.1, margin=0.15).details["mean"][0]
    assert half == pytest.approx(mean / 2)
    assert value.purchase_value(model, drawn, annual_discount=0.3, margin=0.3).details["mean"][0] < mean
    windows = value.purchase_value_windows(model, model, drawn)
    assert windows.table["value per customer"].nunique() == 1
    assert windows.plot() is not None
    assert result.plot() is not None


def test_spend_gates():
    good = process(seed=1)
    gates = {c.name: c.status for c in spend_gates(good).checks}
    assert set(gates.values()) == {"open"}
    tied = good.assign(monetary_value=good["monetary_value"] * good["frequency"])
    assert {c.name: c.status for c in spend_gates(tied).checks}["spend independent of frequency"] == "closed"
    # a minimum order piles half of the buyers up at one value
    floor = good["monetary_value"][good["frequency"] > 0].median()
    spend = good["monetary_value"]
    piled = good.assign(monetary_value=spend.where(good["frequency"] == 0, spend.clip(lower=floor)))
    with pytest.warns(FitWarning, match="corner solution"):  # the fit itself speaks up, too
        gates = {c.name: c.status for c in spend_gates(piled).checks}
    assert gates["gamma-gamma fits"] == "closed"


def test_a10_correlation_of_the_sample(shared, published):
    log = pd.read_csv(shared / "data" / "cdnow" / "CDNOW_sample.csv", dtype={"customer_id": str})
    days = log[log["date"] <= 19970930].groupby(["customer_id", "date"])["dollar_value"].sum().reset_index()
    days["first"] = days.groupby("customer_id")["date"].transform("min")
    repeat = days[days["date"] > days["first"]].groupby("customer_id")["dollar_value"].agg(["size", "mean"])
    frame = pd.DataFrame({"frequency": repeat["size"], "monetary_value": repeat["mean"], "recency": 1.0, "T": 39.0})
    got = spend_gates(frame).details["correlation"]
    entry = published["A10"]
    assert got.value == pytest.approx(entry["values"]["raw"], abs=entry["tolerance"]["abs"])
    assert got.ci_low < got.value < got.ci_high


def test_tracking_follows_the_cohort(open_data):
    bank = open_data("cdnow")
    history = reductions.latent_summary(bank, calibration_share=0.5).iloc[::10].reset_index(drop=True)
    periods = reductions.purchases_by_period(bank)
    result = value.purchase_tracking(value.fit_purchases(history), periods)
    path = result.details["periods"]
    assert path["cumulative"].iloc[-1] == periods["repeats"].sum()
    held = path["week"] > 39
    # known of this data set: every model of the family under-forecasts the holdout, by 11 to 16% or so
    assert 0.80 < path.loc[held, "predicted"].sum() / path.loc[held, "actual"].sum() < 0.95
    fit = path.loc[~held, "predicted"].sum() / path.loc[~held, "actual"].sum()
    assert fit == pytest.approx(1, abs=0.06)  # a tenth of the cohort was fitted
    assert result.plot() is not None


def test_rfm_rule_by_hand():
    frame = pd.DataFrame(
        {
            "frequency": [9, 9, 9, 0, 0, 4],
            "recency": [9.9, 9.8, 1.0, 0.0, 0.0, 5.0],
            "T": [10.0, 10.0, 10.0, 0.15, 10.0, 10.0],
            "monetary_value": [90.0, 5.0, 50.0, 0.0, 0.0, 20.0],
            "first_value": [90.0, 5.0, 50.0, 20.0, 20.0, 20.0],
        }
    )
    scores = rfm_scores(frame)
    assert scores["since"].tolist() == pytest.approx([0.1, 0.2, 9.0, 0.15, 10.0, 5.0])
    assert scores["purchases"].tolist() == [10, 10, 10, 1, 1, 5]
    assert scores["money"].tolist() == pytest.approx([90, 5, 50, 20, 20, 20])
    assert scores.loc[0, ["R", "F", "M"]].tolist() == [3, 2, 3]  # three equal frequencies share the score of the lowest


def test_rfm_segments_partition_customers(drawn):
    result = value.rfm_segments(drawn)
    assert result.table["n"].sum() == len(drawn)
    bought = result.table.set_index("segment")["holdout purchases"]
    assert bought["champions"] > bought["lost"]
    assert result.plot() is not None
    plain = value.rfm_segments(drawn.drop(columns=["frequency_holdout", "duration_holdout"]))
    assert "holdout purchases" not in plain.table
    assert plain.plot() is not None


def test_missing_and_broken_input(drawn, model):
    nothing = Missing("accounts are opened and closed here")
    assert value.fit_purchases(nothing) is nothing
    assert not value.purchase_value(nothing, nothing).applicable
    assert not value.purchase_value_windows(nothing, nothing, nothing).applicable
    with pytest.raises(InputError, match="no column T"):
        value.fit_purchases(drawn.drop(columns="T"))
    with pytest.raises(InputError, match="needs 100"):
        value.fit_purchases(drawn.head(50))
    with pytest.raises(InputError, match="recency"):
        value.fit_purchases(drawn.assign(recency=drawn["T"] + 1))
    with pytest.raises(InputError, match="margin is 30"):
        value.purchase_value(model, drawn, margin=30)
    with pytest.raises(InputError, match="spend needs 50"):
        spend_gates(drawn[drawn["frequency"] == 0])
    with pytest.raises(InputError, match="recency lies above T in"):
        rfm_scores(drawn.assign(recency=drawn["T"] + 1))
    with pytest.raises(InputError, match="no column first_value"):
        rfm_scores(drawn.drop(columns="first_value"))
