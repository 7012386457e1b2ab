"""Jumps at a cut against published numbers, other implementations, least squares and planted jumps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from crmresearch.errors import InputError
from crmresearch.estimators.causal.discontinuity import _residuals, density, false_cuts, jump

ORACLE = "an oracle of the extra `oracles`, which `make test` installs"


@pytest.fixture(scope="module")
def published(shared):
    """Values of the published discontinuities, all of them recomputed there."""
    entries = yaml.safe_load((shared / "reference" / "published_results_wider.yaml").read_text("utf-8"))["results"]
    return {e["id"]: e["values"] for e in entries if e["id"][0] == "G" and e["verified"]}


@pytest.fixture(scope="module")
def senate(shared):
    """US Senate elections: margin of victory, and the vote for the same seat six years later."""
    d = pd.read_csv(shared / "data" / "rd" / "rdrobust_senate.csv").dropna(subset=["margin", "vote"])
    return d["margin"].to_numpy(), d["vote"].to_numpy()


def drawn(rng, n=1000, size=0.0, curve=3.0, noise=0.5):
    """Running variable in [-1, 1] and an outcome that bends, with a jump at 0."""
    x = rng.uniform(-1, 1, n)
    return x, 0.5 * x + curve * (x - 0.3) ** 2 + np.sin(3 * x) + size * (x >= 0) + noise * rng.normal(size=n)


# --- published --------------------------------------------------------------------------------------------------------


def test_the_senate_gives_the_published_jump(senate, published):
    """Cattaneo, Frandsen and Titiunik (2015) by rdrobust 2.1.1 (G01, G02)."""
    found, want = jump(*senate), published["G01"]
    assert [found.value, found.se] == pytest.approx([want["coef"], want["se"]], abs=5e-4)
    assert [found.corrected, found.robust_se] == pytest.approx([want["bias_corrected"], want["robust_se"]], abs=5e-4)
    assert found.interval == pytest.approx(want["robust_ci"], abs=5e-4)
    want = published["G02"]
    assert [found.bandwidth, found.bias_bandwidth] == pytest.approx([want["h"], want["b"]], abs=5e-4)
    assert list(found.n) == want["N_h"]
    assert [(senate[0] < 0).sum(), (senate[0] >= 0).sum()] == want["N"]


def test_the_senate_gives_the_published_density_test(senate, published):
    """Cattaneo, Jansson and Ma (2020) by rddensity 3.0 (G04)."""
    found, want = density(senate[0]), published["G04"]
    assert [found.t, found.p, *found.bandwidths] == pytest.approx([want["t"], want["p"], *want["h"]], abs=1e-4)


@pytest.mark.parametrize("cut", [0.0, 0.25])
@pytest.mark.parametrize("digits", [2, 12])  # with equal values of the running variable, and without
def test_jumps_are_those_of_rdrobust(digits, cut):
    peer = pytest.importorskip("rdrobust", reason=ORACLE)
    x, y = drawn(np.random.default_rng(3), 600, 0.4)
    x = np.round(x, digits)
    ours, theirs = jump(x, y, cut=cut), peer.rdrobust(y, x, c=cut)
    found = [ours.value, ours.corrected, ours.se, ours.robust_se, ours.bandwidth, ours.bias_bandwidth]
    want = [*theirs.coef.iloc[:2, 0], *theirs.se.iloc[[0, 2], 0], *theirs.bws.iloc[:, 0]]
    assert found == pytest.approx(want, rel=1e-6, abs=1e-7)
    assert ours.interval == pytest.approx(tuple(theirs.ci.iloc[2]), rel=1e-6)


@pytest.mark.parametrize("digits", [1, 2, 12])
def test_density_tests_are_those_of_rddensity(digits):
    peer = pytest.importorskip("rddensity", reason=ORACLE)
    x = np.round(np.random.default_rng(4).normal(0.3, 1, 900), digits)
    ours, theirs = density(x), peer.rddensity(x)
    found = [ours.left, ours.right, ours.t, ours.p, *ours.bandwidths]
    want = [*theirs.hat[["left", "right"]], *theirs.test[["t_jk", "p_jk"]], *theirs.h]
    assert found == pytest.approx(want, rel=1e-7)


# --- two routes -------------------------------------------------------------------------------------------------------


def test_the_estimate_is_weighted_least_squares():
    import statsmodels.api as sm

    x, y = drawn(np.random.default_rng(6), size=1.0)
    h, b = 0.3, 0.5
    found = jump(x, y, bandwidths=(h, b))
    fits = {}
    for width, order in ((h, 1), (b, 2)):
        near = abs(x) < width
        u = np.column_stack([x[near] ** k for k in range(order + 1)])
        side = (x[near] >= 0)[:, None]
        weights = 1 - abs(x[near]) / width
        fits[order] = sm.WLS(y[near], np.hstack([u, u * side]), weights=weights).fit().params
    assert found.value == pytest.approx(fits[1][2])
    near, weights = abs(x) < h, 1 - abs(x[abs(x) < h]) / h
    bias = {}
    for right, curve in ((True, fits[2][2] + fits[2][5]), (False, fits[2][2])):
        k = (x[near] >= 0) == right
        line = sm.WLS(curve * x[near][k] ** 2, sm.add_constant(x[near][k]), weights=weights[k]).fit()
        bias[right] = line.params[0]
    assert found.corrected == pytest.approx(found.value - (bias[True] - bias[False]))


def test_residuals_are_from_the_three_nearest_neighbours():
    rng = np.random.default_rng(7)
    x = np.sort(np.round(rng.normal(size=60), 1))
    y = rng.normal(size=60)
    want = []
    for i in range(60):
        gaps = np.round(abs(x - x[i]), 9)
        for width in np.unique(gaps):  # equal distances come in together
            others = np.flatnonzero((gaps <= width) & (np.arange(60) != i))
            if len(others) >= 3:
                break
        n = len(others)
        want.append(np.sqrt(n / (n + 1)) * (y[i] - y[others].mean()))
    assert _residuals(x, y) == pytest.approx(np.array(want))


@pytest.mark.parametrize("scale", [0.01, 50.0])
def test_units_do_not_matter(scale):
    x, y = drawn(np.random.default_rng(8), size=1.0)
    one, other = jump(x, y), jump(x * scale + 7, y * 3 - 2, cut=7.0)
    assert other.interval == pytest.approx([3 * e for e in one.interval], rel=1e-6)
    assert density(x * scale).t == pytest.approx(density(x).t, rel=1e-6)
    mirrored = jump(-x, y)
    assert mirrored.value == pytest.approx(-one.value, rel=1e-6)


# --- planted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.0, 0.6])
def test_planted_jumps_are_covered_and_the_plain_lines_miss_them(size):
    """200 seeds (Monte-Carlo error .015): the robust interval holds; lines over everybody take the bend for a jump."""
    hits = []
    for seed in range(200):
        x, y = drawn(np.random.default_rng(seed), 2000, size, curve=1.0)
        found, plain = jump(x, y), jump(x, y, bandwidths=(1.0, 1.0))
        low, high = found.interval
        hits.append([low < size < high, abs(plain.value - size) < 1.96 * plain.se])
    robust, naive = np.mean(hits, axis=0)
    assert robust > 0.91
    assert naive < 0.1


def test_a_step_in_the_density_is_found_and_no_step_is_not():
    found = []
    for seed in range(100):
        x = np.random.default_rng(seed).normal(0.2, 1, 3000)
        moved = np.where((x > -0.1) & (x < 0), -x, x)  # those just below lift themselves over the cut
        found.append([density(x).p < 0.05, density(moved).p < 0.05])
    size, power = np.mean(found, axis=0)
    assert size < 0.11
    assert power > 0.9


def test_a_donut_leaves_out_those_who_moved_across():
    """The best of those just below lift themselves over the cut: a jump that is none."""
    hits = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x, y = drawn(rng, 3000, curve=0.5)
        able = rng.normal(size=3000)
        y = y + able
        x = np.where((x > -0.1) & (x < 0) & (able > 0), -x, x)
        fooled, honest = (jump(x, y, donut=d).interval for d in (0.0, 0.1))
        hits.append([fooled[0] < 0 < fooled[1], honest[0] < 0 < honest[1]])
    fooled, honest = np.mean(hits, axis=0)
    assert fooled < 0.5
    assert honest > 0.88


def test_false_cuts_find_nothing_beside_a_true_jump():
    hits = []
    for seed in range(100):
        x, y = drawn(np.random.default_rng(seed), 2000, size=3.0)
        hits.append(false_cuts(x, y, [-0.5, 0.5])["p"] < 0.05)
    assert np.mean(hits) < 0.1
    table = false_cuts(x, y, [-0.5, 0.5])
    assert (table["low"] < table["value"]).all()
    beyond = x >= 0.0
    assert table["value"].iloc[1] == jump(x[beyond], y[beyond], cut=0.5).value


# --- rejected ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (np.abs(x), y), "0 different values of the running variable on one side"),
        (lambda x, y: (np.r_[-x[x > 0][:19], np.abs(x)], np.r_[y[x > 0][:19], y]), "19 different values"),
        (lambda x, y: (np.sign(x), y), "1 different values"),
        (lambda x, y: (np.where(x > 0.9, np.nan, x), y), "running is missing or infinite"),
    ],
)
def test_too_little_is_refused(spoil, message):
    x, y = spoil(*drawn(np.random.default_rng(1)))
    with pytest.raises(InputError, match=message):
        jump(x, y)
    with pytest.raises(InputError, match=message):
        density(x)


def test_a_missing_outcome_is_refused():
    x, y = drawn(np.random.default_rng(1))
    with pytest.raises(InputError, match="outcome is missing or infinite in 1 of 1000 rows"):
        jump(x, np.where(np.arange(1000) == 5, np.inf, y))
