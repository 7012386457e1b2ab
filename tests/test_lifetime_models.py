"""Lifetime models: inputs refused, planted truth recovered, two routes to one number."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special
from scipy.optimize import approx_fprime

from crmresearch import lifetime as lt
from crmresearch.errors import FitError, FitWarning, InputError
from crmresearch.lifetime import beta_geo, pareto_nbd
from crmresearch.lifetime.summary import collapse

BG = {"r": 0.6, "alpha": 8.0, "a": 0.8, "b": 2.5}
PARETO = {"r": 0.6, "alpha": 8.0, "s": 0.7, "beta": 30.0}
WEEKLY = lt.Discounting(0.12, 52)
PURCHASE_MODELS = (lt.BetaGeoFitter, lt.ModifiedBetaGeoFitter, lt.ParetoNBDFitter, lt.NBDFitter)


def histories(model: str, customers: int, seed: int, daily: bool = False, **truth: float) -> pd.DataFrame:
    """Draw purchase histories over 40 to 80 weeks; covariate z speeds purchases by exp(z/2), u dropout by exp(0.7 u)."""
    rng = np.random.default_rng(seed)
    z, u = rng.normal(size=customers), (rng.random(customers) < 0.4).astype(float)
    age = rng.uniform(40, 80, customers)
    rate = rng.gamma(truth["r"], 1 / truth["alpha"], customers) * np.exp(truth.get("z", 0.0) * z)
    more = np.exp(truth.get("u", 0.0) * u)
    coin, end = np.zeros(customers), age.copy()
    if model == "pareto":
        end = np.minimum(age, rng.exponential(1 / (rng.gamma(truth["s"], 1 / truth["beta"], customers) * more)))
    else:
        coin = rng.beta(truth["a"] * more, truth["b"], customers)
    x, t_x, clock = (np.zeros(customers) for _ in range(3))
    live = np.flatnonzero(rng.random(customers) >= coin) if model == "mbg" else np.arange(customers)
    while live.size:
        clock[live] += rng.exponential(1 / rate[live])
        live = live[clock[live] <= end[live]]
        x[live] += 1
        t_x[live] = clock[live]
        live = live[rng.random(live.size) >= coin[live]]
    frame = pd.DataFrame({"frequency": x, "recency": t_x, "T": age, "z": z, "u": u})
    if daily:  # whole weeks: purchases of one week count once, which makes rows repeat
        frame["recency"] = np.ceil(frame["recency"])
        frame["T"] = np.ceil(frame["T"])
        frame["frequency"] = np.minimum(frame["frequency"], frame["recency"])
    return frame


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


def test_impossible_spend_weights_and_covariates_are_refused(weekly: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="monetary_value: 1 of 2 rows not positive"):
        lt.GammaGammaFitter().fit([1, 2], [10.0, 0.0])
    with pytest.raises(InputError, match="without a repeat purchase"):
        lt.GammaGammaFitter().fit([0, 2], [10.0, 5.0])
    with pytest.raises(InputError, match="weights: 1 of 3000 rows negative"):
        fit(lt.BetaGeoFitter, weekly, weights=np.where(np.arange(3000) == 7, -1, 1))
    with pytest.raises(InputError, match="weights sum to 0"):
        fit(lt.BetaGeoFitter, weekly, weights=np.zeros(3000))
    with pytest.raises(InputError, match="purchase covariate z has 10 rows"):
        fit(lt.BetaGeoFitter, weekly, purchase_covariates=weekly[["z"]].head(10))
    with_z = fit(lt.BetaGeoFitter, weekly, purchase_covariates=weekly[["z"]])
    with pytest.raises(InputError, match="fitted with z, given none"):
        with_z.conditional_expected_number_of_purchases_up_to_time(5, 1, 2, 3)
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
    with pytest.raises(InputError, match="BG/NBD gives no churn rate"):
        bg.churn_rate([3], [10], [40])
    assert 0 < mbg.conditional_probability_alive(0, 0, 40) < 1
    assert mbg.churn_rate([0, 3], [0, 10], [40, 40]) > 0.1


# -- failure is spoken -------------------------------------------------------------------------------------------------
def test_no_dropout_is_a_corner_that_is_announced() -> None:
    frame = histories("pareto", 400, 3, **{**PARETO, "r": 2.0, "s": 3.0, "beta": 1e9})  # nobody ever leaves
    for model in (lt.BetaGeoFitter, lt.ParetoNBDFitter):
        with pytest.warns(FitWarning, match="corner solution|flat direction"):
            fitted = fit(model, frame)
        with pytest.raises(FitError, match="no standard errors"):
            _ = fitted.standard_errors_


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
        some = {} if not type(model) is lt.BetaGeoFitter else {"allow_never_repeated": True}
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
        fitter = model()
        fitter._covariates = (["z"], ["u"])
        yield fitter, [*columns, some["z"].to_numpy(), some["u"].to_numpy()], w, np.array([-0.5, 2.2, -0.1, 1.1, 0.3, -0.4])
    yield lt.ParetoNBDFitter(), columns, w, np.log([0.5, 40.0, 0.9, 3.0])  # alpha above beta
    yield lt.NBDFitter(), [columns[0], columns[2]], w, np.log([0.5, 9.0])
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
        numeric = [(likelihood(theta + d)[0] - likelihood(theta - d)[0]) / (2 * step) for d in step * np.eye(len(theta))]
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
    theta = fitter._theta(fitter.params_.to_numpy()) - fitter._theta(np.array(list(truth.values())))
    assert (np.abs(theta) < 4 * np.sqrt(np.diag(fitter._covariance))).all(), fitter.summary


@pytest.mark.parametrize(
    ("name", "model", "truth"),
    [
        ("bg", lt.BetaGeoFitter, BG),
        ("mbg", lt.ModifiedBetaGeoFitter, BG),
        ("pareto", lt.ParetoNBDFitter, PARETO),
    ],
)
def test_planted_truth_with_and_without_covariates(name: str, model: type, truth: dict) -> None:
    close(fit(model, histories(name, 4000, 11, **truth)), truth)
    effects = {"z": 0.5, "u": 0.7}
    frame = histories(name, 4000, 12, **truth, **effects)
    fitted = fit(model, frame, purchase_covariates=frame[["z"]], dropout_covariates=frame[["u"]])
    close(fitted, {**truth, "purchase:z": 0.5, "dropout:u": 0.7})
    assert fitted.log_likelihood_ > fit(model, frame).log_likelihood_ + 50
    ahead = fitted.conditional_expected_number_of_purchases_up_to_time(
        10, 2, 20.0, 40.0, pd.DataFrame({"z": [0.0, 1.0]}), pd.DataFrame({"u": [0.0, 0.0]})
    )
    one = model.from_params(fitted.params_.iloc[:4]).conditional_expected_number_of_purchases_up_to_time(10, 2, 20.0, 40.0)
    assert ahead[0] == pytest.approx(one, rel=1e-12)


def test_planted_spend() -> None:
    rng = np.random.default_rng(4)
    p, q, v = 5.0, 4.0, 20.0
    x = rng.integers(1, 12, 4000).astype(float)
    mean = rng.gamma(p * x) / rng.gamma(q, 1 / v, 4000) / x
    fitted = lt.GammaGammaFitter().fit(x, mean)
    close(fitted, {"p": p, "q": q, "v": v})
    expected = fitted.conditional_expected_average_profit([0, 1, 1000], [0.0, 100.0, 100.0])
    assert expected[0] == fitted.conditional_expected_average_profit()
    assert expected[0] < expected[1] < expected[2] < 100 < expected[2] * 1.01


def test_planted_occasions_and_contracts() -> None:
    rng = np.random.default_rng(6)
    truth = {"alpha": 1.2, "beta": 0.8, "gamma": 0.7, "delta": 2.5}
    p, q = rng.beta(1.2, 0.8, 8000), rng.beta(0.7, 2.5, 8000)
    lived = np.minimum(rng.geometric(q) - 1, 10)
    bought = (rng.random((8000, 10)) < p[:, None]) & (np.arange(10) < lived[:, None])
    last = np.where(bought.any(axis=1), 10 - bought[:, ::-1].argmax(axis=1), 0)
    frame = pd.DataFrame({"frequency": bought.sum(axis=1), "recency": last, "n_periods": 10})
    close(lt.BetaGeoBetaBinomFitter().fit(frame["frequency"], frame["recency"], frame["n_periods"]), truth)

    churn = rng.beta(0.8, 3.0, 8000)
    end = rng.geometric(churn)
    close(lt.ShiftedBetaGeoFitter().fit(np.minimum(end, 9), end <= 9), {"alpha": 0.8, "beta": 3.0})
    grown = np.ceil((np.log(rng.random(8000)) / np.log1p(-churn)) ** (1 / 1.4))  # S(t) = (1-q)^(t^c)
    close(lt.BetaDiscreteWeibullFitter().fit(np.minimum(grown, 12), grown <= 12), {"gamma": 0.8, "delta": 3.0, "c": 1.4})
    late = rng.integers(0, 4, 8000)  # only those are seen who survived to entry
    seen = end > late
    close(
        lt.ShiftedBetaGeoFitter().fit(np.minimum(end, 9)[seen], (end <= 9)[seen], entry=late[seen]),
        {"alpha": 0.8, "beta": 3.0},
    )


# -- two routes, one number --------------------------------------------------------------------------------------------
def test_bg_nbd_rows_by_tables_and_one_by_one(weekly: pd.DataFrame) -> None:
    columns = [weekly[c].to_numpy() for c in ("frequency", "recency", "T")]
    for model in (lt.BetaGeoFitter(), lt.ModifiedBetaGeoFitter()):
        theta = np.log(list(BG.values()))
        fast = model._likelihood(columns, np.ones(len(weekly)))(theta)
        rows, slopes = model._rows(*columns, *np.exp(theta))
        assert fast[0] == pytest.approx(rows.sum(), rel=1e-12)
        assert fast[1] == pytest.approx(slopes.sum(axis=1), rel=1e-10)


@pytest.mark.parametrize("shape", [(0.6, 8.0, 0.8, 2.5), (3.6, 40.0, 1.4, 5.5), (0.6, 8.0, 0.3, 0.7), (2.0, 8.0, 1.0, 2.0)])
def test_bg_nbd_expectation_by_2f1_by_integral_and_by_probabilities(shape: tuple) -> None:
    r, alpha, a, b = shape
    for t in (0.01, 5.0, 60.0, 900.0):
        textbook = (a + b - 1) / (a - 1) if a != 1 and a + b != 1 else None

        def of_coin(p: float) -> float:  # purchases in t of customers with dropout probability p
            return -np.expm1(-r * np.log1p(p * t / alpha)) / p if p > 0 else r * t / alpha

        density = 1 / special.beta(a, b)
        numeric = density * integrate.quad(of_coin, 0, 1, weight="alg", wvar=(a - 1, b - 1), limit=200, epsrel=1e-11)[0]
        ours = float(beta_geo.expected_purchases(t, r, alpha, a, b))
        assert ours == pytest.approx(numeric, rel=1e-8)
        if textbook is not None:
            z = t / (alpha + t)
            known = textbook * (1 - (alpha / (alpha + t)) ** r * special.hyp2f1(r, b, a + b - 1, z))
            assert ours == pytest.approx(known, rel=1e-9)
    model = lt.BetaGeoFitter.from_params(r=r, alpha=alpha, a=a, b=b)
    chances = model.probability_of_n_purchases_up_to_time(10.0, np.arange(400))
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    assert chances @ np.arange(400) == pytest.approx(model.expected_number_of_purchases_up_to_time(10.0), rel=1e-9)


def test_conditional_probabilities_agree_with_expectations() -> None:
    n = np.arange(300)
    for model in (
        lt.BetaGeoFitter.from_params(BG),
        lt.ModifiedBetaGeoFitter.from_params(BG),
        lt.ParetoNBDFitter.from_params(PARETO),
    ):
        chances = model.conditional_probability_of_n_purchases_up_to_time(n, 20.0, 4, 18.0, 30.0)
        ahead = model.conditional_expected_number_of_purchases_up_to_time(20.0, 4, 18.0, 30.0)
        assert chances.sum() == pytest.approx(1, abs=1e-9)
        assert chances @ n == pytest.approx(ahead, rel=1e-9)
        new = model.probability_of_n_purchases_up_to_time(20.0, n)
        assert new.sum() == pytest.approx(1, abs=1e-9)
        assert new @ n == pytest.approx(model.expected_number_of_purchases_up_to_time(20.0), rel=1e-9)


def test_pareto_nbd_integral_against_2f1_and_quad() -> None:
    cases = [(0, 0.0, 39.0), (3, 20.0, 39.0), (26, 30.8, 31.0), (25, 5.0, 39.0), (150, 20.0, 39.0)]
    for r, alpha, s, beta in [(0.55, 10.6, 0.6, 11.7), (0.55, 10.6, 0.6, 2.0), (2.0, 5.0, 1.5, 400.0)]:
        for x, t_x, age in cases:
            one = [np.array([float(v)]) for v in (x, t_x, age)]
            log_integral, *means = (float(v[0]) for v in pareto_nbd._integrals(*one, r, alpha, s, beta))
            scale = (r + x) * np.log(alpha + t_x) + (s + 1) * np.log(beta + t_x)

            def density(u: float) -> float:
                return np.exp(scale - (r + x) * np.log(alpha + u) - (s + 1) * np.log(beta + u))

            cut = [t_x + (age - t_x) * f for f in (0.001, 0.01, 0.1, 0.3)]
            quad = lambda f: integrate.quad(f, t_x, age, points=cut, epsabs=0, epsrel=1e-11, limit=200)[0]  # noqa: E731
            whole = quad(density)
            assert log_integral == pytest.approx(np.log(whole) - scale, abs=1e-9)
            functions = [
                lambda u: np.log(alpha + u),
                lambda u: 1 / (alpha + u),
                lambda u: np.log(beta + u),
                lambda u: 1 / (beta + u),
            ]
            for mean, f in zip(means, functions, strict=True):
                assert mean == pytest.approx(quad(lambda u, f=f: f(u) * density(u)) / whole, rel=1e-8)
            if x < 20 and alpha <= beta:  # the textbook's difference of 2F1 still has digits here
                k = r + s + x

                def textbook(u: float) -> float:
                    z = (beta - alpha) / (beta + u)
                    return special.hyp2f1(k, s + 1, k + 1, z) / ((beta + u) ** k * k)

                assert np.exp(log_integral) == pytest.approx(textbook(t_x) - textbook(age), rel=1e-6)


def test_residual_transactions_are_the_limit_of_discounted_sums() -> None:
    x, t_x, age = np.array([0, 4, 20]), np.array([0, 25.0, 39.0]), np.array([39.0, 39.0, 39.0])
    years = np.concatenate([np.linspace(0, 3000, 30_001), np.geomspace(3001, 200_000, 20_000)])
    for model in (
        lt.BetaGeoFitter.from_params(BG),
        lt.ModifiedBetaGeoFitter.from_params(BG),
        lt.ParetoNBDFitter.from_params(PARETO),
    ):
        closed = model.discounted_expected_residual_transactions(WEEKLY, x, t_x, age)
        for i in range(3):
            ahead = model.conditional_expected_number_of_purchases_up_to_time(years, x[i], t_x[i], age[i])
            middle = WEEKLY.at(0.5 * (years[1:] + years[:-1]))
            assert closed[i] == pytest.approx(middle @ np.diff(ahead), rel=1e-6)  # midpoints of tenths of weeks
    pareto = lt.ParetoNBDFitter.from_params(PARETO)
    for z, s in ((0.03, 0.6), (0.5, 1.4), (4.0, 0.9)):  # Tricomi's function where scipy has its digits
        tricomi = z ** (s - 1) * special.hyperu(s, s, z)
        assert float(pareto_nbd.discounted_life(z, s, 1.0)) == pytest.approx(tricomi, rel=1e-8)
    life = pareto.discounted_expected_residual_lifetime(WEEKLY, x, t_x, age)
    residual = pareto.discounted_expected_residual_transactions(WEEKLY, x, t_x, age)
    assert residual == pytest.approx(life * (0.6 + x) / (8.0 + age), rel=1e-12)


def test_bg_bb_closed_forms() -> None:
    model = lt.BetaGeoBetaBinomFitter.from_params(alpha=1.2, beta=0.75, gamma=0.66, delta=2.8)
    alpha, beta, gamma, delta = model.params_
    n, m = 6.0, 5
    frame = [(x, last) for last in range(7) for x in range(min(last, 1), last + 1)]
    x, last = (np.array(v, dtype=float) for v in zip(*frame, strict=True))
    likelihood = np.exp(model._log_rows(x, last, np.full(len(x), n)))
    ways = special.comb(np.maximum(last - 1, 0), np.maximum(x - 1, 0))
    assert ways @ likelihood == pytest.approx(1, abs=1e-12)  # every history of six occasions
    ratio = lambda k: special.gamma(1 + delta + k) / special.gamma(gamma + delta + k)  # noqa: E731
    closed = (
        special.beta(alpha + x + 1, beta + n - x) / special.beta(alpha, beta) / likelihood
        * delta / (gamma - 1) * special.gamma(gamma + delta) / special.gamma(1 + delta) * (ratio(n) - ratio(n + m))
    )  # fmt: skip
    ours = model.conditional_expected_number_of_purchases_up_to_time(m, x, last, np.full(len(x), n))
    assert ours == pytest.approx(closed, rel=1e-10)
    chances = model.probability_of_n_purchases_up_to_time(6, np.arange(7))
    assert chances == pytest.approx([ways[x == k] @ likelihood[x == k] for k in range(7)], rel=1e-10)
    assert chances @ np.arange(7) == pytest.approx(model.expected_number_of_transactions_in_first_n_periods(6), rel=1e-12)
    yearly = lt.Discounting(0.5)
    ahead = [model.conditional_expected_number_of_purchases_up_to_time(j, 3, 4, 6) for j in range(80)]
    series = np.diff(ahead) @ yearly.factors(79)
    assert model.discounted_expected_residual_transactions(yearly, 3, 4, 6) == pytest.approx(series, rel=1e-10)


def test_contractual_recursion_and_series() -> None:
    fit = lt.ShiftedBetaGeoFitter.from_params(alpha=0.7, beta=1.2)
    weibull = lt.BetaDiscreteWeibullFitter.from_params(gamma=0.7, delta=1.2, c=1.0)
    t = np.arange(1, 30)
    rate = (1.2 + t - 1) / (0.7 + 1.2 + t - 1)
    assert fit.retention_rate(t) == pytest.approx(rate, rel=1e-12)
    assert fit.survival_function(t) == pytest.approx(np.cumprod(rate), rel=1e-12)
    assert weibull.survival_function(t) == pytest.approx(fit.survival_function(t), rel=1e-12)
    assert fit.polarisation() == pytest.approx(1 / 2.9)
    for n in (0, 3):
        closed = special.hyp2f1(1, 1.2 + n, 1.9 + n, 1 / 1.1)
        start, end = lt.Discounting(0.10, 1, "start"), lt.Discounting(0.10, 1, "end")
        assert fit.discounted_expected_lifetime(start, n) == pytest.approx(closed, rel=1e-10)
        assert fit.discounted_expected_lifetime(end, n) == pytest.approx(closed / 1.1, rel=1e-10)
        twice = special.hyp2f1(2, 1.2 + n, 1.9 + n, 1 / 1.1)
        assert fit.retention_elasticity(start, n) == pytest.approx(twice / closed - 1, rel=1e-9)
    alike = lt.ShiftedBetaGeoFitter.from_params(alpha=2e7, beta=8e7)
    assert alike.retention_elasticity(start) == pytest.approx(0.8 / (1.1 - 0.8), rel=1e-5)
    assert alike.discounted_expected_lifetime(start) == pytest.approx(
        lt.constant_retention_value(1, 0.8, start, "from acquisition"), rel=1e-6
    )


# -- discounting -------------------------------------------------------------------------------------------------------
def test_three_discounting_formulas() -> None:
    monthly = lt.Discounting(0.10, 12)
    assert monthly.rate() == pytest.approx(1.10 ** (1 / 12) - 1, rel=1e-14)
    assert monthly.rate(12) == pytest.approx(0.10, rel=1e-14)
    assert monthly.force == pytest.approx(np.log(1.10) / 12, rel=1e-14)
    for timing, when in (("start", [0, 1, 2]), ("mid", [0.5, 1.5, 2.5]), ("end", [1, 2, 3])):
        factors = lt.Discounting(0.10, 12, timing).factors(3)
        assert factors == pytest.approx(1.10 ** (-np.array(when) / 12), rel=1e-14)
    assert "paid at period ends" in monthly.text()
    for bad, message in (((-0.1,), "annual_rate"), ((0.1, 0), "units_per_year"), ((0.1, 1, "later"), "timing")):
        with pytest.raises(InputError, match=message):
            lt.Discounting(*bad)


def test_three_timelines_of_a_constant_retention_rate() -> None:
    d, r, m = 0.12, 0.85, 40.0
    yearly = lt.Discounting(d)
    k = np.arange(2000)
    assert lt.constant_retention_value(m, r, yearly) == pytest.approx(m * (r / (1 + d)) ** k @ np.ones(2000))
    residual = lt.constant_retention_value(m, r, yearly, "residual")
    assert residual == pytest.approx(m * (r / (1 + d)) ** k[1:] @ np.ones(1999))
    end = lt.constant_retention_value(m, r, yearly, "period end")
    assert end == pytest.approx(m * (r**k / (1 + d) ** (k + 1)).sum())
    monthly = lt.constant_retention_value(m, 0.99, lt.Discounting(d, 12))
    assert monthly == pytest.approx(m * (0.99 / 1.12 ** (1 / 12)) ** np.arange(20_000) @ np.ones(20_000))
    with pytest.raises(InputError, match="retention is 1"):
        lt.constant_retention_value(m, 1.0, yearly)


def test_clv_is_the_sum_of_its_months(weekly: pd.DataFrame) -> None:
    columns = [weekly[c].head(300) for c in ("frequency", "recency", "T")]
    worth = np.linspace(-5, 50, 300)
    for model in (lt.BetaGeoFitter.from_params(BG), lt.ParetoNBDFitter.from_params(PARETO), lt.NBDFitter.from_params(r=0.6, alpha=8.0)):  # fmt: skip
        for timing, shift in (("start", 1.0), ("mid", 0.5), ("end", 0.0)):
            discounting = lt.Discounting(0.10, 52, timing)
            ours = lt.customer_lifetime_value(model, *columns, worth, discounting, months=18)
            ahead = [np.zeros(300)]
            for i in range(1, 19):
                ahead.append(model.conditional_expected_number_of_purchases_up_to_time(i * 52 / 12, *columns))
            parts = [worth * (ahead[i] - ahead[i - 1]) * 1.1 ** (-(i - shift) / 12) for i in range(1, 19)]
            assert ours == pytest.approx(sum(parts), rel=1e-10, abs=1e-13)
    spend = lt.GammaGammaFitter.from_params(p=6.25, q=3.74, v=15.44)
    money = np.where(columns[0] > 0, 30.0, 0.0)
    bg = lt.BetaGeoFitter.from_params(BG)
    value = spend.customer_lifetime_value(bg, *columns, money, discounting, 12, margin=0.3)
    each = 0.3 * spend.conditional_expected_average_profit(columns[0], money)
    assert value == pytest.approx(lt.customer_lifetime_value(bg, *columns, each, discounting, 12))
    with pytest.raises(InputError, match="months is 0"):
        lt.customer_lifetime_value(bg, *columns, each, discounting, 0)


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
    draws = model.parameter_draws(4000, seed=1)
    assert np.log(draws).std().to_list() == pytest.approx((model.standard_errors_ / params).to_list(), rel=0.06)
    assert model.parameter_draws(3, seed=1).equals(model.parameter_draws(3, seed=1))
    assert list(model.summary.columns) == ["coef", "se(coef)", "lower 95% bound", "upper 95% bound"]
    assert model.aic_ == pytest.approx(8 - 2 * model.log_likelihood_)


def test_bootstrap_draws_the_same_customers_for_every_model(weekly: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    frame = weekly.head(1500).assign(monetary_value=lambda f: np.where(f["frequency"] > 0, rng.gamma(5, 7, len(f)), 0.0))
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


def test_bootstrap_with_covariates_and_contracts() -> None:
    frame = histories("bg", 800, 4, **BG, z=0.5)
    model = fit(lt.BetaGeoFitter, frame, purchase_covariates=frame[["z"]])
    (draws,) = lt.bootstrap(model, frame, 20, seed=1)
    assert 0.3 < draws["purchase:z"].mean() < 0.7
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
            fitted.conditional_expected_number_of_purchases_up_to_time(12, weekly["frequency"], weekly["recency"], weekly["T"])
            assert "r:" in repr(fitted)
    assert "crmresearch.lifetime" in sys.modules
