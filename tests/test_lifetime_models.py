"""Lifetime models: inputs refused, planted truth recovered, two routes to one number."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

from crmresearch.errors import FitError, FitWarning, InputError
from crmresearch.estimators import lifetime as lt
from crmresearch.estimators.lifetime.summary import collapse
from crmresearch.lab.recover.lifetime import ESTIMATORS, TRUTHS, histories, occasions, renewals, spends

BG, PARETO = (dict(TRUTHS[k]) for k in ("bg_nbd", "pareto_nbd"))
WEEKLY = lt.Discounting(0.12, 52)
PURCHASE_MODELS = (lt.BetaGeoFitter, lt.ModifiedBetaGeoFitter, lt.ParetoNBDFitter, lt.NBDFitter)


@pytest.fixture(scope="module")
def weekly() -> pd.DataFrame:
    return histories("bg", 3000, 5, daily=True, **BG)


def fit(model: type, frame: pd.DataFrame, **more):
    return model().fit(frame["frequency"], frame["recency"], frame["T"], **more)


# -- inputs refused ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frequency", "recency", "age", "message"),
    [
        ([1, 2], [5, 9], [10, 8], r"recency: 1 of 2 rows above T \(positions 1\)"),
        ([-1, 2], [0, 5], [10, 8], "frequency: 1 of 2 rows below 0"),
        ([0, 2], [3, 5], [10, 8], "above 0 with frequency 0"),
        ([1, 2], [0, 5], [10, 8], "0 with frequency above 0"),
        ([1.5, 2], [3, 5], [10, 8], "not whole numbers"),
        ([1, 2], [3, np.nan], [10, 8], "recency: 1 of 2 rows missing or infinite"),
        ([1, 2], [3, 5], [10, np.inf], "T: 1 of 2 rows missing or infinite"),
        ([0, 0], [0, 0], [10, -8], "T: 1 of 2 rows negative"),
        ([1, 2, 3], [3, 5], [10, 8], "3, 2 and 2 rows"),
        ([0, 0], [0, 0], [10, 8], "nobody made a repeat purchase"),
        ([], [], [], "no rows to fit"),
        (["one", "2"], [3, 5], [10, 8], "frequency is not numeric"),
    ],
)
def test_impossible_summaries_are_refused(frequency, recency, age, message: str) -> None:
    for model in PURCHASE_MODELS:
        with pytest.raises(InputError, match=message):
            model().fit(frequency, recency, age)


def test_impossible_spend_and_weights_are_refused(weekly: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="monetary_value: 1 of 2 rows not positive"):
        lt.GammaGammaFitter().fit([1, 2], [10.0, 0.0])
    with pytest.raises(InputError, match="without a repeat purchase"):
        lt.GammaGammaFitter().fit([0, 2], [10.0, 5.0])
    with pytest.raises(InputError, match="weights: 1 of 3000 rows negative"):
        fit(lt.BetaGeoFitter, weekly, weights=np.where(np.arange(3000) == 7, -1, 1))
    with pytest.raises(InputError, match="weights sum to 0"):
        fit(lt.BetaGeoFitter, weekly, weights=np.zeros(3000))
    with pytest.raises(InputError, match="t: 1 of 1 rows negative"):
        lt.BetaGeoFitter.from_params(BG).expected_number_of_purchases_up_to_time(-1)


def test_impossible_contracts_and_occasions_are_refused() -> None:
    for model in (lt.ShiftedBetaGeoFitter, lt.BetaDiscreteWeibullFitter):
        with pytest.raises(InputError, match="a cohort cannot grow"):
            model().fit_survivors([100, 80, 90])
        with pytest.raises(InputError, match="no customer ended"):
            model().fit([3, 4], [0, 0])
        with pytest.raises(InputError, match="neither 0 nor 1"):
            model().fit([3, 4], [1, 2])
        with pytest.raises(InputError, match="not before T"):
            model().fit([3, 4], [1, 1], entry=[3, 0])
    with pytest.raises(InputError, match="above recency"):
        lt.BetaGeoBetaBinomFitter().fit([3, 1], [2, 1], [6, 6])


def test_parameters_given_must_be_those_of_the_model() -> None:
    with pytest.raises(InputError, match="has the parameters r, alpha, a, b"):
        lt.BetaGeoFitter.from_params(PARETO)
    with pytest.raises(InputError, match="positive and finite"):
        lt.BetaGeoFitter.from_params({**BG, "a": -1.0})
    with pytest.raises(FitError, match="not fitted yet"):
        lt.BetaGeoFitter().expected_number_of_purchases_up_to_time(3)
    with pytest.raises(FitError, match="were given, not fitted"):
        _ = lt.BetaGeoFitter.from_params(BG).standard_errors_


def test_bg_nbd_refuses_to_be_read_as_churn() -> None:
    bg, mbg = lt.BetaGeoFitter.from_params(BG), lt.ModifiedBetaGeoFitter.from_params(BG)
    with pytest.raises(InputError, match="1 of 2 rows have no repeat purchase: BG/NBD calls them alive"):
        bg.conditional_probability_alive([0, 3], [0, 10], [40, 40])
    assert bg.conditional_probability_alive(0, 0, 40, allow_never_repeated=True) == 1.0
    assert 0 < mbg.conditional_probability_alive(0, 0, 40) < 1


# -- failure is spoken -------------------------------------------------------------------------------------------------
def test_no_dropout_is_a_corner_that_is_announced() -> None:
    frame = histories("pareto", 400, 3, **{**PARETO, "r": 2.0, "s": 3.0, "beta": 1e9})  # nobody ever leaves
    for model in (lt.BetaGeoFitter, lt.ParetoNBDFitter):
        with pytest.warns(FitWarning, match="corner solution|flat direction"):
            fitted = fit(model, frame)
        with pytest.raises(FitError, match="no standard errors"):
            _ = fitted.standard_errors_


def test_a_corner_without_prediction_says_so_once() -> None:
    """Everybody buys to the end: the fit warns, the prediction refuses, and no library adds warnings of its own."""
    frequency, age = np.random.default_rng(1).poisson(2, 400) + 1, np.random.default_rng(2).uniform(20, 40, 400)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted = lt.BetaGeoFitter().fit(frequency, age, age)
        with pytest.raises(FitError, match="400 of 400 rows; look for extreme rows, or for parameters in a corner"):
            fitted.conditional_expected_number_of_purchases_up_to_time(10, frequency, age, age)
    assert [w.category for w in said] == [FitWarning]


def test_customers_who_do_not_differ_are_a_flat_direction() -> None:
    share = 0.8 ** np.arange(8)
    for model in (lt.ShiftedBetaGeoFitter, lt.BetaDiscreteWeibullFitter):
        fitted = model()
        with pytest.warns(FitWarning, match="corner solution|flat direction"):
            fitted.fit_survivors(1000 * share)
        assert fitted.survival_function(7) == pytest.approx(share[7], rel=1e-3)  # the prediction is sound
        assert fitted.polarisation() < 0.01


def test_spend_without_mean_is_refused() -> None:
    with pytest.raises(FitError, match="q <= 1 mean spend is infinite"):
        lt.GammaGammaFitter.from_params(p=6.0, q=0.9, v=10.0).conditional_expected_average_profit()


def test_no_result_is_nan_at_extremes() -> None:
    x = np.array([0, 0, 1, 40, 3000, 20_000, 5])
    t_x = np.array([0, 0, 1e-6, 39.999, 364.0, 300.0, 2000.0])
    age = np.array([1e-9, 5000, 5000, 40, 364.0, 5000.0, 2000.0])
    models = [
        lt.BetaGeoFitter.from_params(BG),
        lt.BetaGeoFitter.from_params({**BG, "a": 1.0}),
        lt.BetaGeoFitter.from_params({**BG, "a": 0.3, "b": 0.7}),  # a + b = 1
        lt.BetaGeoFitter.from_params({**BG, "a": 1e-3, "b": 50.0}),
        lt.ModifiedBetaGeoFitter.from_params(BG),
        lt.ParetoNBDFitter.from_params(PARETO),
        lt.ParetoNBDFitter.from_params({**PARETO, "s": 1.0}),
        lt.ParetoNBDFitter.from_params({**PARETO, "beta": 1e-3}),
    ]
    for model in models:
        some = {} if type(model) is not lt.BetaGeoFitter else {"allow_never_repeated": True}
        alive = model.conditional_probability_alive(x, t_x, age, **some)
        ahead = model.conditional_expected_number_of_purchases_up_to_time(52, x, t_x, age)
        residual = model.discounted_expected_residual_transactions(WEEKLY, x, t_x, age)
        assert ((alive >= 0) & (alive <= 1)).all()
        r, alpha = model.params_.iloc[0], model.params_.iloc[1]
        bound = (r + x) / (alpha + age)  # purchases per week of one who never leaves
        assert ((ahead >= 0) & (ahead <= 52 * bound * (1 + 1e-9))).all()
        assert ((residual >= 0) & (residual <= bound / WEEKLY.force * (1 + 1e-9))).all()
        columns = [np.asarray(v, dtype=float) for v in (x, t_x, age)]
        value, gradient = model._likelihood(columns, np.ones(len(x)))(np.log(model.params_.to_numpy()))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


# -- exact gradients, weights, units -----------------------------------------------------------------------------------
def likelihoods(frame: pd.DataFrame):
    """Every likelihood with columns, weights and a point off the optimum."""
    rng = np.random.default_rng(1)
    some = frame.head(400)
    w = rng.integers(1, 4, 400).astype(float)
    columns = [some[c].to_numpy() for c in ("frequency", "recency", "T")]
    for model in (lt.BetaGeoFitter, lt.ModifiedBetaGeoFitter, lt.ParetoNBDFitter):
        yield model(), columns, w, np.log([0.5, 9.0, 0.9, 3.0])
    yield lt.ParetoNBDFitter(), columns, w, np.log([0.5, 40.0, 0.9, 3.0])  # alpha above beta
    yield lt.NBDFitter(), columns, w, np.log([0.5, 9.0])
    spend = [np.maximum(columns[0], 1), rng.gamma(5, 7, 400)]
    yield lt.GammaGammaFitter(), spend, w, np.log([5.0, 4.0, 20.0])
    last = rng.integers(0, 7, 400).astype(float)
    used = np.minimum(last, np.where(last > 0, rng.integers(1, 7, 400), 0)).astype(float)
    yield lt.BetaGeoBetaBinomFitter(), [used, last, np.full(400, 6.0)], w, np.log([1.2, 0.8, 0.7, 2.5])
    times = rng.integers(2, 9, 400).astype(float)
    contract = [times, (rng.random(400) < 0.5).astype(float), rng.integers(0, 2, 400).astype(float)]
    yield lt.ShiftedBetaGeoFitter(), contract, w, np.log([0.7, 2.0])
    yield lt.BetaDiscreteWeibullFitter(), contract, w, np.log([0.7, 2.0, 1.3])


def test_gradients_are_exact(weekly: pd.DataFrame) -> None:
    for model, columns, weights, theta in likelihoods(weekly):
        likelihood = model._likelihood(columns, weights)
        value, gradient = likelihood(theta)
        step = 1e-5
        numeric = [
            (likelihood(theta + d)[0] - likelihood(theta - d)[0]) / (2 * step) for d in step * np.eye(len(theta))
        ]
        # central differences: rounding of the sum over the step, and step squared
        assert gradient == pytest.approx(numeric, rel=1e-6, abs=1e-9 * abs(value) / step * 1e-3)


def test_weights_mean_repeated_rows(weekly: pd.DataFrame) -> None:
    for model, columns, weights, theta in likelihoods(weekly):
        together = model._likelihood(columns, weights)(theta)
        expanded = [np.repeat(c, weights.astype(int)) for c in columns]
        apart = model._likelihood(expanded, np.ones(len(expanded[0])))(theta)
        assert together[0] == pytest.approx(apart[0], rel=1e-12)
        assert together[1] == pytest.approx(apart[1], rel=1e-9, abs=1e-9)
    distinct, counts, place = collapse([weekly[c].to_numpy() for c in ("frequency", "recency", "T")], inverse=True)
    assert len(counts) < len(weekly) / 1.5
    assert (distinct[1][place] == weekly["recency"]).all()
    for model in PURCHASE_MODELS:
        long = fit(model, weekly)
        short = model().fit(*distinct, weights=counts)
        assert short.params_.to_list() == pytest.approx(long.params_.to_list(), rel=1e-8)
        assert short.log_likelihood_ == pytest.approx(long.log_likelihood_, rel=1e-12)
        assert short.standard_errors_.to_list() == pytest.approx(long.standard_errors_.to_list(), rel=1e-6)
        assert short.n_ == len(weekly)


def test_collapse_counts_every_kind_of_row() -> None:
    rng = np.random.default_rng(0)
    whole, fine = rng.integers(0, 9, 500).astype(float), rng.integers(0, 5, 500) / 7
    for columns in ([whole, whole[::-1]], [whole, fine], [1e12 * whole, fine], [whole - 4, fine]):
        for weights in (None, np.full(500, 2.0)):
            distinct, counts, place = collapse(columns, weights, inverse=True)
            plain, plain_counts, _ = collapse(columns, weights)
            assert all((d[place] == c).all() for d, c in zip(distinct, columns, strict=True))
            expected = pd.DataFrame(np.array(columns).T).value_counts()
            assert sorted(counts) == sorted((1 if weights is None else 2) * expected)
            assert counts.sum() == plain_counts.sum()
            assert len(plain[0]) == len(expected)


def test_the_unit_of_time_does_not_matter(weekly: pd.DataFrame) -> None:
    for model in (lt.BetaGeoFitter, lt.ParetoNBDFitter):
        weeks = fit(model, weekly)
        seconds = model().fit(weekly["frequency"], 604_800 * weekly["recency"], 604_800 * weekly["T"])
        ratio = seconds.params_ / weeks.params_
        expected = [1, 604_800, 1, 1] if model is lt.BetaGeoFitter else [1, 604_800, 1, 604_800]
        assert ratio.to_list() == pytest.approx(expected, rel=1e-6)
        shift = weekly["frequency"].sum() * np.log(604_800)
        assert seconds.log_likelihood_ == pytest.approx(weeks.log_likelihood_ - shift, rel=1e-10)


def test_large_data_start_from_a_subsample_and_end_at_the_same_optimum() -> None:
    frame = histories("bg", 45_000, 8, **BG)
    large = fit(lt.BetaGeoFitter, frame)
    direct = fit(lt.BetaGeoFitter, frame, start={"r": 1.0, "alpha": 5.0, "a": 1.0, "b": 1.0})
    assert large.params_.to_list() == pytest.approx(direct.params_.to_list(), rel=1e-7)


# -- planted truth -----------------------------------------------------------------------------------------------------
def close(fitter: lt.Fitter, truth: dict) -> None:
    """Every parameter within four standard errors, on the scale of estimation."""
    theta = np.log(fitter.params_.to_numpy()) - np.log(list(truth.values()))
    assert (np.abs(theta) < 4 * np.sqrt(np.diag(fitter._covariance))).all(), fitter.summary


@pytest.mark.parametrize(
    ("name", "model", "truth"),
    [("bg", lt.BetaGeoFitter, BG), ("mbg", lt.ModifiedBetaGeoFitter, BG), ("pareto", lt.ParetoNBDFitter, PARETO)],
)
def test_planted_truth(name: str, model: type, truth: dict) -> None:
    close(fit(model, histories(name, 4000, 11, **truth)), truth)


@pytest.mark.parametrize("trial", ESTIMATORS, ids=lambda e: e.name)
def test_intervals_cover_the_truth(trial) -> None:
    """As in the recovery table, on few seeds: the 99.9% binomial interval of the coverage meets [.93, .97]."""
    truth, seeds = dict(trial.truth), 50
    covered = dict.fromkeys(truth, 0)
    for seed in range(1001, 1001 + seeds):
        for name, e in trial.run(trial.sample(2000, seed)).items():
            covered[name] += e.ci_low <= truth[name] <= e.ci_high
    for name, hits in covered.items():
        low, high = stats.beta.ppf([0.0005, 0.9995], [hits, hits + 1], [seeds - hits + 1, max(seeds - hits, 1e-9)])
        assert low <= 0.97, (name, hits)
        assert high >= 0.93, (name, hits)


def test_planted_spend() -> None:
    truth = TRUTHS["gamma_gamma"]
    data = spends(4000, 4, **truth)
    fitted = lt.GammaGammaFitter().fit(data["frequency"], data["spend"])
    close(fitted, truth)
    expected = fitted.conditional_expected_average_profit([0, 1, 1000], [0.0, 100.0, 100.0])
    assert expected[0] == fitted.conditional_expected_average_profit()
    assert expected[0] < expected[1] < expected[2] < 100 < expected[2] * 1.01


def test_planted_occasions_and_contracts() -> None:
    frame = occasions(8000, 6, **TRUTHS["bg_bb"])
    close(lt.BetaGeoBetaBinomFitter().fit(frame["frequency"], frame["recency"], frame["n_periods"]), TRUTHS["bg_bb"])
    plain = renewals(8000, 7, first=0.8, second=3.0)
    close(lt.ShiftedBetaGeoFitter().fit(plain["T"], plain["churned"]), {"alpha": 0.8, "beta": 3.0})
    grown = renewals(8000, 8, first=0.8, second=3.0, c=1.4)
    close(lt.BetaDiscreteWeibullFitter().fit(grown["T"], grown["churned"]), TRUTHS["bdw"])
    rng = np.random.default_rng(6)
    end = plain["T"].to_numpy()  # those still there at 12 are later than any entry
    late = rng.integers(0, 4, 8000)  # only those are seen who survived to entry
    seen = end > late
    close(
        lt.ShiftedBetaGeoFitter().fit(np.minimum(end, 9)[seen], (end <= 9)[seen], entry=late[seen]),
        {"alpha": 0.8, "beta": 3.0},
    )


# -- uncertainty -------------------------------------------------------------------------------------------------------
def test_standard_errors_intervals_and_draws(weekly: pd.DataFrame) -> None:
    model = fit(lt.BetaGeoFitter, weekly)
    columns = [weekly[c].to_numpy() for c in ("frequency", "recency", "T")]
    natural = lambda p: -model._likelihood(columns, np.ones(len(weekly)))(np.log(p))[1] / p  # noqa: E731
    params = model.params_.to_numpy()
    hessian = np.array([approx_fprime(params, lambda p, i=i: natural(p)[i], 1e-6 * params) for i in range(4)])
    assert model.variance_matrix_.to_numpy() == pytest.approx(np.linalg.inv(hessian), rel=2e-3)  # forward differences
    bounds = model.confidence_intervals_
    middle = np.sqrt(bounds.iloc[:, 0] * bounds.iloc[:, 1])
    assert middle.to_list() == pytest.approx(params.tolist(), rel=1e-10)  # symmetric on the log scale
    assert (bounds.iloc[:, 0] > 0).all()
    assert list(model.summary.columns) == ["coef", "se(coef)", "lower 95% bound", "upper 95% bound"]
    assert model.aic_ == pytest.approx(8 - 2 * model.log_likelihood_)


def test_bootstrap_draws_the_same_customers_for_every_model(weekly: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    frame = weekly.head(1500).assign(
        monetary_value=lambda f: np.where(f["frequency"] > 0, rng.gamma(5, 7, len(f)), 0.0)
    )
    again = frame[frame["frequency"] > 0]
    bg = fit(lt.BetaGeoFitter, frame)
    spend = lt.GammaGammaFitter().fit(again["frequency"], again["monetary_value"])
    both = lt.bootstrap([bg, spend], frame, 200, seed=3)
    alone = lt.bootstrap(bg, frame, 200, seed=3)
    pd.testing.assert_frame_equal(both[0], alone[0])
    assert np.log(both[0]).std().to_list() == pytest.approx((bg.standard_errors_ / bg.params_).to_list(), rel=0.35)
    rows = np.random.default_rng(3).integers(0, 1500, 1500)  # the first resample, refitted the long way
    direct = fit(lt.BetaGeoFitter, frame.iloc[rows])
    assert both[0].iloc[0].to_list() == pytest.approx(direct.params_.to_list(), rel=1e-4)
    again = frame.iloc[rows].query("frequency > 0")
    direct = lt.GammaGammaFitter().fit(again["frequency"], again["monetary_value"])
    assert both[1].iloc[0].to_list() == pytest.approx(direct.params_.to_list(), rel=1e-4)
    assert lt.BetaGeoFitter.from_params(both[0].iloc[0]).expected_number_of_purchases_up_to_time(10) > 0
    with pytest.raises(InputError, match="was not fitted to this frame"):
        lt.bootstrap(bg, frame.head(100), 5, seed=1)


def test_bootstrap_of_contracts() -> None:
    rng = np.random.default_rng(1)
    end = rng.geometric(rng.beta(1.0, 3.0, 500))
    contracts = pd.DataFrame({"T": np.minimum(end, 6), "churned": end <= 6})
    (draws,) = lt.bootstrap(lt.ShiftedBetaGeoFitter().fit(contracts["T"], contracts["churned"]), contracts, 50, seed=1)
    assert draws.notna().all(axis=None)
    assert draws.std().min() > 0


def test_no_warning_in_ordinary_use(weekly: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in PURCHASE_MODELS:
            fitted = fit(model, weekly)
            fitted.conditional_expected_number_of_purchases_up_to_time(
                12, weekly["frequency"], weekly["recency"], weekly["T"]
            )
            assert "r:" in repr(fitted)
    assert "crmresearch.estimators.lifetime" in sys.modules
