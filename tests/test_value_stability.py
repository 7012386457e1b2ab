"""Core customers, moves between bands, regression to the mean."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.worth.stability import _core, _pairs, band_names, bands, jaccard, slope
from crmresearch.rules import rules
from crmresearch.studies import value


def years(n=4_000, noise=30.0, seed=0, leave=0.0, count=3):
    """Value with a fixed part of spread 50 and chance of a given size, by year."""
    rng = np.random.default_rng(seed)
    lasting = rng.normal(100, 50, n)
    frame = pd.DataFrame({"customer_id": np.arange(n)})
    here = np.ones(n, dtype=bool)
    for k in range(count):
        frame[f"year_{2021 + k}-12"] = np.where(here, lasting + rng.normal(0, noise, n), np.nan)
        here &= rng.random(n) >= leave
    return frame


def test_overlap_is_one_without_chance_and_that_of_blind_ranks_without_lasting_value():
    fixed = jaccard(*(years(noise=0)[c] for c in ("year_2021-12", "year_2022-12")), seed=1, resamples=99)
    assert fixed["jaccard"] == 1.0
    rng = np.random.default_rng(1)
    blind = jaccard(rng.random(20_000), rng.random(20_000), share=0.2, seed=1, resamples=99)
    # two blind fifths share a fifth of a fifth: .04 / .36
    assert blind["noise"] == pytest.approx(1 / 9, abs=1e-6)
    assert blind["jaccard"] == pytest.approx(1 / 9, abs=0.02)  # five standard errors at this size
    assert blind["ci_low"] <= blind["noise"] <= blind["ci_high"]


def test_overlap_against_a_plain_count_with_leavers():
    frame = years(n=500, leave=0.1, seed=3)
    a, b = frame["year_2021-12"], frame["year_2022-12"]
    core = [set(s.dropna().nlargest(int(np.ceil(0.2 * s.notna().sum()))).index) for s in (a, b)]
    got = jaccard(a, b, seed=1, resamples=99)
    assert got["jaccard"] == pytest.approx(len(core[0] & core[1]) / len(core[0] | core[1]))
    assert got["left"] == int(b[list(core[0])].isna().sum())


def test_pooling_sure_customers_changes_nothing():
    """Same weights, whole and pooled: the overlap of a resample is the same to the last digit."""
    frame = years(n=3_000, leave=0.1, seed=4)
    x, y = (frame[c].to_numpy() for c in ("year_2021-12", "year_2022-12"))
    px, py, count = _pairs(x, y, 0.2)
    assert count.sum() == x.size
    assert count.size < x.size / 2
    whole = [_core(v, 0.2, np.ones((1, x.size)))[0] for v in (x, y)]
    pooled = [_core(v, 0.2, count[None, :])[0] for v in (px, py)]
    assert (count * (pooled[0] & pooled[1])).sum() == (whole[0] & whole[1]).sum()
    assert (count * (pooled[0] | pooled[1])).sum() == (whole[0] | whole[1]).sum()
    # and the spread over resamples is that of resampling everybody
    rng = np.random.default_rng(0)
    w = rng.poisson(1.0, (300, x.size)).astype(float)
    a, b = _core(x, 0.2, w), _core(y, 0.2, w)
    direct = ((w * (a & b)).sum(axis=1) / (w * (a | b)).sum(axis=1)).std()
    got = jaccard(x, y, seed=1, resamples=300)["se"]
    assert got == pytest.approx(direct, rel=0.2)  # each has a Monte-Carlo error of 4%


def test_core_needs_positive_value():
    x = np.r_[np.full(5, 10.0), np.full(95, -1.0)]
    got = jaccard(x, x, share=0.2, seed=1, resamples=99)
    assert got["core_before"] == 5


def test_overlap_interval_covers():
    """Truth from a very large draw; 99.9% binomial rule."""
    big = years(n=400_000, seed=99)
    truth = jaccard(big["year_2021-12"], big["year_2022-12"], seed=1, resamples=2)["jaccard"]
    seeds, hits = 120, 0
    for seed in range(seeds):
        frame = years(n=600, seed=seed)
        got = jaccard(frame["year_2021-12"], frame["year_2022-12"], seed=seed, resamples=149)
        hits += got["ci_low"] <= truth <= got["ci_high"]
    assert beta.ppf(0.0005, hits, seeds - hits + 1) <= 0.97
    assert hits == seeds or beta.ppf(0.9995, hits + 1, seeds - hits) >= 0.93, hits / seeds


def test_core_overlap_result():
    result = value.core_overlap(years(leave=0.05), seed=1, resamples=99)
    assert len(result.table) == 2
    s22 = result.finding("S22")
    assert s22.value == result.table["jaccard"].iloc[-1]
    assert s22.ci_low < s22.value < s22.ci_high
    assert result.table["noise"].iloc[-1] < 0.15
    assert result.plot() is not None


def test_that_few_left_the_bank_hides_their_number_and_not_the_overlap():
    result = value.core_overlap(years(n=600, leave=0.01), seed=1, resamples=99)
    assert result.table["left"].isna().all()
    assert result.finding("S22").value > 0
    assert "nan" not in repr(result)


@pytest.mark.parametrize("leave", [0.1, 0.5])
def test_who_left_is_counted_in_round_numbers_where_the_rules_round(leave, monkeypatch):
    frame = years(n=2_000, leave=leave)
    exact = value.core_overlap(frame, seed=1, resamples=19).table["left"]
    monkeypatch.setattr(rules, "base", 7)
    told = value.core_overlap(frame, seed=1, resamples=19).table["left"]
    assert (told % 7 == 0).all()
    assert ((told - exact).abs() <= 3).all()
    assert (exact % 7 != 0).any()


@pytest.mark.parametrize("n", [1, 20, 40])  # 8 are core where all forty make something
def test_a_core_of_a_few_is_a_reason_and_no_number(n):
    result = value.core_overlap(years(n=n, leave=0.0).abs(), seed=1, resamples=19)
    assert isinstance(result.finding("S22"), Missing)
    assert "fewer than 10 customers are core" in repr(result)
    assert "%" not in repr(result)
    moves = value.transitions(years(n=n, leave=0.0))
    assert repr(moves) == "Not applicable: fewer than 10 customers are in the best band; too few to show"


def test_bands_follow_the_rule():
    got = bands([-1.0, 0.0, 1.0, 2.0, 3.0, np.nan], cuts=(0.5,))
    assert got.tolist() == ["negative", "0% to 50%", "0% to 50%", "50% to 100%", "50% to 100%", None]
    assert set(bands([5.0] * 10)) == {"0% to 50%"}  # ties share a band
    assert band_names((0.5,)) == ["negative", "0% to 50%", "50% to 100%"]


def test_transitions_rows_add_up_and_few_people_are_hidden():
    result = value.transitions(years(n=3_000, leave=0.1))
    cells = result.table[[*band_names(), "left"]]
    whole = cells[cells.notna().all(axis=1)]
    assert cells.iloc[:-1].notna().any(axis=1).all()
    assert (cells.sum(axis=1) < 1 + 1e-12).all()
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, atol=1e-12)
    assert result.plot() is not None


def test_regression_to_the_mean_recovers_the_lasting_share():
    result = value.regression_to_mean(years(n=20_000, noise=50))
    lasting = result.details["persistence"]
    assert lasting.ci_low < 0.5 < lasting.ci_high  # 50² / (50² + 50²)
    top = result.table.iloc[-1]
    assert top["mean to 2021-12"] > top["mean to 2022-12"]
    # chance leaves the ranking in one step: the second year stays level within four standard errors
    assert top["mean to 2023-12"] == pytest.approx(
        top["mean to 2022-12"], abs=4 * (top["ci_high"] - top["ci_low"]) / 3.92
    )
    assert result.plot() is not None


def test_slope_against_statsmodels():
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    y = 0.4 * x + rng.normal(size=200) * np.abs(x)
    fit = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HC1")
    np.testing.assert_allclose(slope(x, y), (fit.params[1], fit.bse[1]), rtol=1e-10)


def test_missing_and_broken_input():
    assert not value.core_overlap(Missing("no table monthly"), seed=1).applicable
    with pytest.raises(InputError, match="stability needs two years"):
        value.core_overlap(years(count=1), seed=1)
    with pytest.raises(InputError, match="rows are infinite"):
        value.transitions(years(count=2).replace({"year_2021-12": {years(count=2)["year_2021-12"].iloc[0]: np.inf}}))
    with pytest.raises(InputError, match="same customers"):
        jaccard([1.0, 2.0], [1.0], seed=1)
    with pytest.raises(InputError, match="nobody has positive value"):
        jaccard([-1.0, -2.0], [1.0, 2.0], seed=1)
    with pytest.raises(InputError, match="must rise strictly"):
        bands([1.0], cuts=(0.8, 0.5))
    with pytest.raises(InputError, match="nothing to regress on"):
        slope(np.ones(5), np.arange(5.0))


def test_order_of_rows_decides_nothing_among_equal_values():
    """CASES C4: a third of the customers share the value at the threshold; they are core together or not at all."""
    rng = np.random.default_rng(5)
    x, y = rng.choice([1.0, 5.0, 9.0], 3_000, p=[0.57, 0.33, 0.1]), rng.choice([1.0, 5.0, 9.0], 3_000)
    for order in (np.argsort(x, kind="stable"), np.argsort(-y, kind="stable"), rng.permutation(x.size)):
        got = jaccard(x[order], y[order], share=0.2, seed=1, resamples=99)
        assert got["core_before"] == (x >= 5).sum()
        assert got["core_after"] == (y == 9).sum()
        assert got["jaccard"] == pytest.approx(((x >= 5) & (y == 9)).sum() / ((x >= 5) | (y == 9)).sum())
        assert got["ci_low"] < got["jaccard"] < got["ci_high"]
