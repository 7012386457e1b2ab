"""The layer of inference: against statsmodels, scipy, closed forms and rows written out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import FitError, InputError
from crmresearch.estimators import inference as inf


def test_normal_intervals():
    from scipy.stats import norm

    assert inf.z() == pytest.approx(norm.ppf(0.975), rel=1e-14)
    low, high = inf.ends(np.array([1.0, 2.0]), np.array([0.5, 0.0]))
    assert low == pytest.approx([1 - norm.ppf(0.975) / 2, 2])
    assert high == pytest.approx([1 + norm.ppf(0.975) / 2, 2])
    e = inf.normal(2.0, 0.5, "points", 10)
    assert (e.value, e.se, e.n, e.unit) == (2.0, 0.5, 10, "points")
    ratio = inf.normal(math.log(0.5), 0.1, "odds ratio", 10, log=True)
    assert (ratio.value, ratio.se) == pytest.approx((0.5, 0.05))
    assert ratio.ci_low * ratio.ci_high == pytest.approx(0.25)
    assert inf.two_sided_p(np.array([-2.0, 2.0]), 1.0) == pytest.approx(2 * norm.sf(2))


def test_wilson_equals_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    count, n = np.array([0, 3, 10, 400]), np.array([10, 10, 10, 1000])
    p, low, high = inf.wilson(count, n)
    want = proportion_confint(count, n, method="wilson")
    assert p == pytest.approx(count / n)
    assert low == pytest.approx(want[0], abs=1e-15)
    assert high == pytest.approx(want[1], abs=1e-15)
    assert inf.wilson(0, 10)[:2] == (0.0, 0.0)
    assert all(isinstance(x, float) for x in inf.wilson(10, 10))


def test_ratio_by_delta_and_by_fieller():
    ratio, se = inf.ratio_delta(6.0, 2.0, 0.04, 0.01, 0.005)
    assert ratio == 3
    assert se == pytest.approx(math.sqrt(0.04 - 2 * 3 * 0.005 + 9 * 0.01) / 2)
    found = inf.fieller(6.0, 2.0, 0.04, 0.01, 0.005)
    for end in found.ends:  # the ends are where (n - r d) is just significant
        distance = (6 - end * 2) ** 2 / (0.04 - 2 * end * 0.005 + end**2 * 0.01)
        assert distance == pytest.approx(inf.z() ** 2)
    assert inf.fieller(6.0, 0.1, 0.04, 0.01).kind == "disjoint"
    weak = inf.fieller(0.1, 0.1, 1.0, 1.0)
    assert (weak.kind, weak.ends) == ("unbounded", (-math.inf, math.inf))
    assert inf.fieller(6.0, 0.1, 0.04, 0.01).ends == (-math.inf, math.inf)
    with pytest.raises(InputError, match="finite"):
        inf.fieller(math.nan, 1.0, 1.0, 1.0)


def test_draws_give_their_spread_and_percentiles():
    draws = np.random.default_rng(0).normal(size=(999, 2))
    se, low, high = inf.from_draws(draws)
    assert se == pytest.approx(draws.std(axis=0, ddof=1))
    assert low == pytest.approx(np.percentile(draws, 2.5, axis=0))
    assert high == pytest.approx(np.percentile(draws, 97.5, axis=0))


def test_resamples_have_as_many_units_and_one_stream():
    weights = inf.resample(np.random.default_rng(1), 50, 200)
    assert weights.shape == (200, 50)
    assert (weights.sum(axis=1) == 50).all()
    counts = inf.resample(np.random.default_rng(1), np.array([1, 5, 94]))
    assert counts.sum() == 100
    again = np.random.default_rng(1).multinomial(50, np.full(50, 1 / 50), size=200)
    assert (weights == again).all()


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(2).normal(size=20)
    without = np.array([np.delete(x, i).mean() for i in range(20)])
    value, se, low, high = inf.jackknife(np.r_[x.mean(), without])
    assert se == pytest.approx(x.std(ddof=1) / math.sqrt(20))
    from scipy.stats import t

    assert (low, high) == pytest.approx(t.interval(0.95, 19, value, se))
    with pytest.raises(InputError, match="at least 10"):
        inf.jackknife(np.ones(5))


def test_false_discoveries_as_statsmodels_counts_them():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(3).random(40) ** 3
    assert inf.q_values(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], rel=1e-14)
    assert inf.q_values([]).size == 0


# --- regressions
# ---------------------------------------------------------------------------------------------------------


def _binary(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.integers(0, 4, n), rng.normal(size=n).round(1)])
    return x, (rng.random(n) < 1 / (1 + np.exp(1 - 0.5 * x[:, 1]))).astype(float)


def test_logit_equals_statsmodels_with_weights_and_offset():
    import statsmodels.api as sm

    x, y = _binary(400, 4)
    rng = np.random.default_rng(5)
    weights, offset = rng.random(400) + 0.5, rng.normal(size=400)
    ours = inf.logit_fit(x, y, weights=weights, offset=offset)
    model = sm.GLM(y, x, family=sm.families.Binomial(), var_weights=weights, offset=offset)
    theirs = model.fit(cov_type="HC0", tol=1e-14)
    assert ours.params == pytest.approx(theirs.params, rel=1e-9)
    assert ours.se == pytest.approx(theirs.bse, rel=1e-9)
    assert ours.fitted == pytest.approx(theirs.fittedvalues)


def test_logit_of_counts_is_that_of_the_rows_written_out():
    x, y = _binary(60, 6)
    n = np.random.default_rng(7).integers(0, 6, 60)
    counted, written = inf.logit_fit(x, y, n=n), inf.logit_fit(np.repeat(x, n, axis=0), np.repeat(y, n))
    assert counted.params == pytest.approx(written.params, rel=1e-10)
    assert counted.se == pytest.approx(written.se, rel=1e-10)


def test_logit_of_separated_outcomes_is_refused_unless_there_is_a_ridge():
    x = np.column_stack([np.ones(20), np.arange(20.0)])
    y = (x[:, 1] > 9).astype(float)
    with pytest.raises(FitError, match="function of the covariates"):
        inf.logit_fit(x, y)
    assert np.isfinite(inf.logit_fit(x, y, ridge=1e-3).params).all()


def test_least_squares_with_errors_as_statsmodels():
    import statsmodels.api as sm

    x, _ = _binary(80, 8)
    y = x @ [1.0, 2.0, 3.0] + np.random.default_rng(9).normal(size=80) * x[:, 1]
    beta, covariance = inf.robust_ols(x, y)
    theirs = sm.OLS(y, x).fit(cov_type="HC3")
    assert beta == pytest.approx(theirs.params)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(theirs.bse)
    _, by_row = inf.robust_ols(x, y, np.arange(80))
    assert by_row == pytest.approx(covariance)


def test_columns_made_of_others_are_refused_by_name():
    rng = np.random.default_rng(10)
    a, x = rng.integers(0, 2, 300).astype(float), rng.normal(size=300)
    design = np.column_stack([np.ones(300), a, 1 - a, 1e6 * x])
    with pytest.raises(InputError, match=r"1 of 4 columns .*not a = combination of constant, a"):
        inf.full_rank(design, ["constant", "a", "not a", "x"])
    with pytest.raises(FitError, match="2 of 4"):  # a study that catches failed fits says so instead of dying
        inf.full_rank(np.column_stack([a, 2 * a, x, a - 3 * x]), list("abcd"))
    with pytest.raises(InputError, match="b is zero"):
        inf.full_rank(np.column_stack([a, 0 * a]), ["a", "b"])
    inf.full_rank(np.column_stack([np.ones(300), a, x, x + 1e-5 * rng.normal(size=300)]), list("abcd"))


def test_regressions_refuse_collinear_columns_themselves():
    x, y = _binary(50, 13)
    twice = np.column_stack([x, x[:, 1] + 2 * x[:, 2]])
    for fit in (inf.robust_ols, inf.logit_fit):
        with pytest.raises(InputError, match=r"1 of 4 columns are collinear with others: column \d"):
            fit(twice, y)
    assert np.isfinite(inf.logit_fit(twice, y, ridge=1e-6).params).all()
    with pytest.raises(InputError, match="b is missing or infinite in 1 of 3 rows"):
        inf.full_rank(np.array([[1.0, 2], [1, math.nan], [1, 3]]), ["a", "b"])


def test_equal_values_stay_in_one_group():
    values = np.array([3.0, 1, 1, 1, 2, 5, 4, 6])
    assert inf.tied_groups(values, 4).tolist() == [2, 0, 0, 0, 1, 3, 2, 3]
    assert len(set(inf.tied_groups(np.ones(100), 10))) == 1
    x = np.random.default_rng(11).normal(size=1000)
    assert (np.bincount(inf.tied_groups(x, 10)) == 100).all()
    n = np.random.default_rng(12).integers(1, 5, 1000)
    assert (np.repeat(inf.tied_groups(x, 10, n), n) == inf.tied_groups(np.repeat(x, n), 10)).all()


def test_missing_values_are_refused_by_name():
    with pytest.raises(InputError, match="score is missing or infinite in 2 of 3 rows"):
        inf.complete(outcome=[1, 0, 1], score=[1.0, math.nan, math.inf])
    with pytest.raises(InputError, match="x is missing or infinite in 1 of 2 rows"):
        inf.complete(x=pd.DataFrame({"a": [1.0, math.nan], "b": [1.0, math.nan]}))
    first, second = inf.complete(a=[True, False], b=pd.Series([1, 2]))
    assert (first.tolist(), second.tolist()) == ([1.0, 0.0], [1.0, 2.0])


def test_natural_spline_is_linear_outside_its_knots():
    knots = [1.0, 2.0, 4.0, 7.0]
    x = np.linspace(8, 20, 13)
    basis = inf.natural_spline(x, knots)
    assert basis.shape == (13, 3)
    assert np.diff(basis, 2, axis=0) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="three increasing knots"):
        inf.natural_spline(x, [1.0, 1.0, 2.0])


def test_poisson_rates_equal_the_table_of_exact_limits():
    # Garwood's limits for 0, 1 and 10 events, as printed in tables of the exact Poisson interval
    rate, low, high = inf.poisson_rate(np.array([0, 1, 10]), 1.0)
    assert rate.tolist() == [0, 1, 10]
    assert low == pytest.approx([0, 0.0253, 4.7954], abs=1e-4)
    assert high == pytest.approx([3.6889, 5.5716, 18.3904], abs=1e-4)
    assert inf.poisson_rate(10, 4.0)[2] == pytest.approx(18.3904 / 4, abs=1e-4)


def test_mean_interval_is_the_normal_one():
    from scipy.stats import norm

    x = np.array([1.0, 2.0, 4.0, 9.0])
    assert inf.mean_interval(x) == pytest.approx((4.0, *norm.interval(0.95, x.mean(), x.std(ddof=1) / 2)))


def test_a_jackknifed_estimate_writes_and_names_itself():
    found = inf.jackknife(np.array([5.0, *np.linspace(4, 6, 20)]))
    assert f"{found:.1f}" == f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"
    assert list(found.columns("money", "ci")) == ["money", "ci_low", "ci_high"]
    assert found.columns("stay")["stay_high"] == found.high
