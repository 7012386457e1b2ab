"""Concentration: published figures, planted truth, coverage, gates, and broken input."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import beta, norm

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inequality import CELLS, STATISTICS, _moments, _pool, gini, hill, intervals, lorenz
from crmresearch.rules import rules
from crmresearch.studies import value

TOP = (0.01, 0.10, 0.20)


def top_share(values: object, share: float) -> float:
    """Share of the total that the best ``share`` of customers make, the one at the cut in part."""
    x = np.sort(np.asarray(values, dtype=float))[::-1]
    whole = int(share * x.size + 1e-9)
    return float((x[:whole].sum() + (share * x.size - whole) * x[whole]) / x.sum())


def lognormal_truth(sigma: float) -> np.ndarray:
    """Gini and top shares of a lognormal distribution."""
    return np.array([2 * norm.cdf(sigma / math.sqrt(2)) - 1, *(norm.cdf(sigma + norm.ppf(q)) for q in TOP)])


@pytest.fixture(scope="module")
def spend(shared):
    log = pd.read_csv(shared / "data" / "cdnow" / "CDNOW_master.csv", dtype={"customer_id": str})
    return log.groupby("customer_id")["dollar_value"].sum()


@pytest.fixture(scope="module")
def published(shared):
    entries = yaml.safe_load((shared / "reference" / "published_results.yaml").read_text("utf-8"))["results"]
    return {e["id"]: e for e in entries}


def test_e09_lorenz_statistics_of_cdnow(spend, published):
    entry = published["E09"]
    got = {
        "gini": gini(spend),
        "top20": top_share(spend, 0.2),
        "top10": top_share(spend, 0.1),
        "top1": top_share(spend, 0.01),
    }
    for name, expected in entry["values"].items():
        assert got[name] == pytest.approx(expected, abs=entry["tolerance"]["abs"]), name


def test_lognormal_and_pareto_closed_forms():
    # quantiles at mid ranks stand for the distribution; the cut-off tail beyond the last one explains the tolerance
    at = (np.arange(1_000_000) + 0.5) / 1_000_000
    x = np.exp(0.9 * norm.ppf(at))
    got = [gini(x), *(top_share(x, q) for q in TOP)]
    np.testing.assert_allclose(got, lognormal_truth(0.9), atol=2e-4)
    a = 3.0
    pareto = (1 - at) ** (-1 / a)
    assert gini(pareto) == pytest.approx(1 / (2 * a - 1), abs=2e-4)
    for q in TOP:
        assert top_share(pareto, q) == pytest.approx(q ** (1 - 1 / a), abs=5e-4)
    # Hill's estimate over the top twentieth has a standard error of a / sqrt(k): nothing against these quantiles
    assert hill(pareto)[0] == pytest.approx(a, rel=0.001)


def test_gini_with_negatives_is_the_mean_difference_form():
    x = np.array([-3.0, 1.0, 2.0, 10.0])
    pairs = np.abs(x[:, None] - x[None, :]).sum() / (2 * x.size**2 * x.mean())
    assert gini(x) == pytest.approx(pairs, rel=1e-12)
    assert gini([-9.0, 10.0]) > 1


def test_statistics_do_not_depend_on_scale_order_or_repetition():
    rng = np.random.default_rng(5)
    x = rng.lognormal(0, 1, 300) - 0.5
    base = [gini(x), *(top_share(x, q) for q in TOP)]
    for other in (x * 1000, rng.permutation(x), np.repeat(x, 3)):
        np.testing.assert_allclose([gini(other), *(top_share(other, q) for q in TOP)], base, rtol=1e-9)


def test_two_routes_agree_on_statistics_and_standard_errors():
    """The vectorised statistics equal the plain functions, and their standard errors the jackknife's."""
    x = np.sort(np.random.default_rng(1).lognormal(0, 0.8, 400) - 0.4)
    values, errors = _moments(x, np.ones((1, x.size)))
    plain = [gini(x), *(top_share(x, q) for q in TOP), x[x > 0].sum() / x.sum()]
    np.testing.assert_allclose(values[0], plain, rtol=1e-12)
    for place, function in ((0, gini), (4, lambda v: v[v > 0].sum() / v.sum())):
        without = np.array([function(np.delete(x, i)) for i in range(x.size)])
        jack = math.sqrt((x.size - 1) / x.size * ((without - without.mean()) ** 2).sum())
        assert errors[0, place] == pytest.approx(jack, rel=0.02)  # they differ by terms of order 1/n


def test_errors_hold_where_values_are_nearly_equal():
    """The error is a sum of terms that nearly cancel here; the second route squares each customer's influence."""
    x = np.sort(1_000 + np.random.default_rng(4).normal(0, 0.1, 500))
    rank = (np.arange(x.size) + 0.5) / x.size
    area, g = (np.cumsum(x) - x / 2) / x.size, gini(x)
    influence = (2 * rank - 1 - g) / x.mean() * x - 2 / x.mean() * area + (1 - g)
    plain = np.sqrt((influence**2).sum()) / x.size
    assert _moments(x, np.ones((1, x.size)))[1][0, 0] == pytest.approx(plain, rel=1e-7)


def test_pooling_moves_nothing_that_matters():
    x = np.sort(np.random.default_rng(2).lognormal(0, 1, 100_000))
    exact, error = (a[0] for a in _moments(x, np.ones((1, x.size))))
    pooled, count = _pool(x, CELLS)
    assert pooled.size <= CELLS
    assert count.sum() == x.size
    assert (pooled * count).sum() == pytest.approx(x.sum(), rel=1e-12)
    got, got_error = (a[0] for a in _moments(pooled, count[None, :]))
    # a hundredth of a standard error, and a hundredth of it: far below the Monte-Carlo error of a thousand resamples
    assert (np.abs(got - exact) <= 0.01 * error).all()  # without losses the last has no error
    np.testing.assert_allclose(got_error[:4], error[:4], rtol=0.01)


def test_intervals_cover():
    """Rule 1: fail only if the 99.9% binomial interval of the coverage excludes [.93, .97]."""
    seeds, sigma, n = 150, 0.85, 1_500
    truth, hits = lognormal_truth(sigma), np.zeros(4)
    for seed in range(seeds):
        x = np.random.default_rng(seed).lognormal(0, sigma, n)
        table = intervals(x, seed=seed, resamples=299, cells=256).iloc[:4]
        hits += (table["ci_low"] <= truth) & (truth <= table["ci_high"])
    low, high = beta.ppf(0.0005, hits, seeds - hits + 1), beta.ppf(0.9995, hits + 1, seeds - hits)
    assert ((low <= 0.97) & (np.where(hits == seeds, 1.0, high) >= 0.93)).all(), hits / seeds


def test_the_plain_bootstrap_would_not_do():
    """In a Pareto 1.5 tail the percentile interval of the Gini coefficient covers about three times in four."""
    a, n, seeds, hits = 1.5, 1_000, 100, 0
    truth = 1 / (2 * a - 1)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, count = _pool(np.sort(rng.pareto(a, n) + 1), 200)
        draws = _moments(x, rng.poisson(count, (199, x.size)).astype(float))[0][:, 0]
        low, high = np.quantile(draws, [0.025, 0.975])
        hits += low <= truth <= high
    assert beta.ppf(0.9995, hits + 1, seeds - hits) < 0.93


def _statuses(x):
    result = value.concentration(pd.DataFrame({"contribution": x}), seed=1, resamples=99)
    return {c.name: c.status for c in result.checks}


def test_gates_close_on_heavy_tails_and_open_on_light_ones():
    heavy = [_statuses(np.random.default_rng(s).pareto(1.5, 4_000) + 1)["tail index"] for s in range(20)]
    light = [_statuses(np.random.default_rng(s).lognormal(5, 0.85, 4_000) - 50)["tail index"] for s in range(20)]
    assert heavy.count("closed") == 20
    assert light.count("open") >= 18  # rule 4: open in at least nine of ten


def test_gate_closes_when_the_mean_is_near_zero_or_below():
    x = np.random.default_rng(3).normal(0.05, 1, 2_000)
    assert _statuses(x)["mean away from zero"] == "closed"
    below = value.concentration(pd.DataFrame({"contribution": x - 1}), seed=1)
    assert math.isnan(below.estimates["S19"].value)
    assert "not positive" in below.sentence
    [far] = [c for c in below.checks if c.name == "mean away from zero"]
    assert far.status == "closed"
    assert far.detail.startswith("the mean is -")  # -42 errors were told as 42, with more than 5 wanted
    [gone] = [c for c in value.concentration(pd.DataFrame({"contribution": 0 * x}), seed=1).checks if "mean" in c.name]
    assert (gone.status, gone.detail[:15]) == ("closed", "the mean is 0.0")


def test_dominance_closes_its_gate():
    assert _statuses(np.r_[np.ones(500), 2_000.0])["dominance"] == "closed"


def test_concentration_result():
    rng = np.random.default_rng(4)
    x = rng.lognormal(5, 0.8, 3_000) - 60
    frame = pd.DataFrame({"customer_id": np.arange(3_000), "contribution": x, "fully_loaded": x - 40})
    result = value.concentration(frame, seed=1, resamples=199)
    assert {k for k, e in result.estimates.items() if not isinstance(e, Missing)} == {"S19", "S19a", "S19b", "S19c"}
    table = result.table.set_index(["measure", "statistic"])
    assert table.loc[("fully loaded margin", "Gini"), "estimate"] > table.loc[("contribution", "Gini"), "estimate"]
    assert (result.table["ci_low"] <= result.table["estimate"]).all()
    assert (result.table["estimate"] <= result.table["ci_high"]).all()
    assert result.estimates["S19"].value == pytest.approx(top_share(x, 0.2))
    assert f"{top_share(x, 0.2):.1%}" in result.sentence
    axes = result.plot()
    whale = axes[1].lines[0].get_ydata()
    assert whale[-1] == pytest.approx(1)
    assert whale.max() == pytest.approx(x[x > 0].sum() / x.sum(), rel=1e-3)  # the grid has 200 steps
    again = value.concentration(frame, seed=1, resamples=199)
    pd.testing.assert_frame_equal(result.table, again.table)


def test_shares_of_few_people_are_not_estimated():
    frame = pd.DataFrame({"contribution": np.random.default_rng(1).lognormal(3, 0.5, 300)})
    top1 = value.concentration(frame, seed=1, resamples=99).finding("S19a")
    assert math.isnan(top1.value)
    assert any(c.name == "cell size" and c.status == "closed" for c in top1.checks)


def test_curve_steps_never_show_few_people():
    curve = lorenz(np.arange(1.0, 95.0), smallest=rules.least)
    assert curve["n"].iloc[1:].min() >= 10
    assert curve[["lorenz", "whale"]].iloc[-1].tolist() == [1.0, 1.0]


def test_windows_side_by_side():
    rng = np.random.default_rng(6)
    year = rng.lognormal(4, 0.8, 800)
    frame = pd.DataFrame({"contribution_3": year / 4 + rng.normal(0, 40, 800), "contribution_12": year})
    result = value.concentration_by_window(frame, windows=[3, 12, 24], seed=1, resamples=99)
    table = result.table[result.table["statistic"] == "Gini"].set_index("months")["estimate"]
    assert list(table.index) == [3, 12]  # 24 months are not in the frame
    assert table[3] > table[12]
    assert result.plot() is not None


def test_distribution_counts_losses():
    x = np.r_[np.full(200, -5.0), np.zeros(100), np.full(700, 20.0)]
    result = value.distribution(pd.DataFrame({"contribution": x}))
    s37 = result.estimates["S37"]
    assert s37.value == 0.2
    assert s37.ci_low == pytest.approx(0.1764, abs=1e-4)  # Wilson's interval of 200 in 1,000
    assert s37.ci_high == pytest.approx(0.2259, abs=1e-4)
    rows = result.table.set_index("statistic")["estimate"]
    assert rows["share with zero value"] == 0.1
    assert rows["quantile 50%"] == 20.0
    assert result.plot() is not None


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"contribution": [1.0, np.nan, 3.0]}, "1 of 3 rows are missing"),
        ({"contribution": [1.0, np.inf, 3.0]}, "1 of 3 rows are missing or infinite"),
        ({"customer_id": [1, 1], "contribution": [1.0, 2.0]}, "1 rows repeat a customer_id"),
        ({"profit": [1.0, 2.0]}, "no value column"),
        ({"contribution": [1.0]}, "needs at least 2"),
    ],
)
def test_broken_input_is_refused(frame, words):
    with pytest.raises(InputError, match=words):
        value.concentration(pd.DataFrame(frame), seed=1)


def test_undefined_statistics_are_refused():
    with pytest.raises(InputError, match="positive mean"):
        gini([-1.0, 0.5])
    with pytest.raises(InputError, match="positive mean"):
        intervals([-1.0, 0.5], seed=1)


def test_equal_customers_have_no_concentration():
    table = intervals(np.full(50, 7.0), seed=1, resamples=99)
    assert table.loc["Gini", "estimate"] == pytest.approx(0, abs=1e-12)
    assert list(table.index) == list(STATISTICS)
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.parametrize("losing", [1, 9, 392, 399])
def test_a_few_customers_on_one_side_of_zero_are_told_nowhere(losing):
    x = np.r_[np.linspace(-9, -1, losing), np.linspace(1, 90, 400 - losing)]
    result = value.distribution(pd.DataFrame({"contribution": x}))
    told = f"{losing / 400:.1%}"
    assert isinstance(result.estimates["S37"], Missing)
    assert f"fewer than {rules.least}" in result.sentence
    assert told not in result.sentence + result.picture.title + " ".join(result.picture.data["group"]) + result.alt


@pytest.mark.parametrize("losing", [0, rules.least, 390])
def test_enough_customers_on_both_sides_of_zero_or_none_on_one_are_told(losing):
    x = np.r_[np.linspace(-9, -1, losing), np.linspace(1, 90, 400 - losing)]
    result = value.distribution(pd.DataFrame({"contribution": x}))
    assert result.estimates["S37"].value == losing / 400
    assert f"{losing / 400:.1%}" in result.picture.title


def test_what_nobody_has_is_told_as_that_and_the_same_money_once():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"contribution": rng.lognormal(3, 1, 2000)})
    result = value.distribution(frame.assign(fully_loaded=frame["contribution"]))  # no cost is allocated
    assert result.table["n"].notna().all()  # nobody below zero hid the row, and with it the sentence
    assert set(result.table["measure"]) == {"contribution"}
    assert "0.0%" in result.sentence
    assert len(set(value.distribution(frame.assign(fully_loaded=frame["contribution"] - 1)).table["measure"])) == 2
