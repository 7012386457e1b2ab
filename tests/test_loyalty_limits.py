"""Inputs at the edge of what the survey's estimators can say: each is refused by name, or gives the right number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError
from crmresearch.estimators.measurement import links, moments, ordinal, panel, referral, response, sem, within
from crmresearch.estimators.measurement.factors import htmt_ratios
from crmresearch.estimators.measurement.model import PathModel, construct_scores
from crmresearch.estimators.measurement.pls import fit_pls
from crmresearch.estimators.measurement.polychoric import polychoric
from crmresearch.studies import loyalty
from test_loyalty_estimators import BLOCKS, MODEL, PATHS, draw


def opposite(n, seed):
    """Two constructs of three items, loadings .8, that are one thing measured forwards and backwards."""
    rng = np.random.default_rng(seed)
    signs = np.array([1, 1, 1, -1, -1, -1])
    x = 0.8 * rng.normal(size=(n, 1)) * signs + 0.6 * rng.normal(size=(n, 6))
    model = PathModel({"sat": ["s1", "s2", "s3"], "loy": ["l1", "l2", "l3"]}, [("sat", "loy")])
    return pd.DataFrame(x, columns=list(model.items)), model


def test_one_construct_measured_twice_with_opposite_sign_closes_the_gate():
    x, model = opposite(1000, 1)
    result = loyalty.htmt(x, model, resamples=200, seed=1)
    assert result.table["htmt"].iloc[0] == pytest.approx(1, abs=0.04)  # 1 by construction
    gate = loyalty.path_gates(model, result)["sat", "loy"][0]
    assert gate.status == "closed"
    # by hand: mean absolute correlation between blocks over the root of those within
    r = np.full((4, 4), -0.3)
    r[:2, :2] = r[2:, 2:] = 0.5
    np.fill_diagonal(r, 1)
    pair = PathModel({"sat": ["s1", "s2"], "loy": ["l1", "l2"]})
    assert htmt_ratios(r[None], pair)[0, 0, 1] == pytest.approx(0.3 / 0.5)


def test_ordered_logit_does_not_take_missing_outcomes_for_the_highest_answer():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4000, 1))
    y = np.digitize(0.92 * x[:, 0] + rng.logistic(size=4000), [-1, 0, 1]).astype(float)
    silent = (rng.random(4000) < 0.4) & (x[:, 0] < 0)
    for refuses in (ordinal.fit_ordered_logit, ordinal.parallel_slopes):
        with pytest.raises(InputError, match=f"outcome is missing or infinite in {silent.sum()} of 4000 rows"):
            refuses(x, np.where(silent, np.nan, y))
    kept = ordinal.fit_ordered_logit(x[~silent], y[~silent])
    assert kept.slopes[0] == pytest.approx(0.92, abs=3.3 * kept.se[0])


ITEMS = draw(200, 33, cuts=[-1, 0, 1])
HOLE = ITEMS.mask((ITEMS.index.to_numpy() == 7)[:, None] & (ITEMS.columns.to_numpy() == "quality2"))
GAP = np.where(np.arange(200) == 7, np.nan, np.arange(200.0))
FLAG, WHO = np.arange(200) % 2, np.arange(200)
CELLS = pd.DataFrame({"cell": 1, "referred": FLAG, "exit_months": GAP, "event": 1})


@pytest.mark.parametrize(
    ("run", "name"),
    [
        (lambda: moments.covariance(HOLE.to_numpy()), "items"),
        (lambda: moments.resampled_covariances(HOLE.to_numpy(), 5, 1), "items"),
        (lambda: moments.correlations(np.full((3, 2, 2), np.nan)), "covariances"),
        (lambda: fit_pls(np.full((12, 12), np.nan), MODEL), "covariances"),
        (lambda: polychoric(HOLE.to_numpy()), "items"),
        (lambda: construct_scores(HOLE, MODEL), "quality2"),
        (lambda: sem.fit_sem(HOLE, MODEL), "quality2"),
        (lambda: within.within_customer(pd.DataFrame({f"{v}{t}": GAP for t in (1, 2, 3) for v in "xy"}), 3), "x1"),
        (lambda: links.kink(GAP, np.arange(200.0), resamples=9, seed=1), "x"),
        (lambda: links.slopes_by_sign(np.arange(-100.0, 100.0), GAP, "slope"), "y"),
        (lambda: response.clustered_mean(GAP, WHO), "values"),
        (lambda: response.gamma_bounds(GAP, np.full(200, 2.0), 1.5), "values"),
        (lambda: response.stated_against_actual(GAP, FLAG, WHO), "stated"),
        (lambda: response.weighted_response(pd.DataFrame({"a": ITEMS["quality1"]}), FLAG == 1, GAP, WHO), "values"),
        (lambda: referral.within_cells(CELLS, "exit_months", "money"), "exit_months"),
        (lambda: referral.stay_gap(CELLS, 1, resamples=9, seed=1), "exit_months"),
    ],
)
def test_missing_values_are_refused_by_name_and_count(run, name):
    with pytest.raises(InputError, match=rf"{name} is missing or infinite in \d+ of \d+ rows"):
        run()


@pytest.mark.parametrize("referred", [[], [0, 0], [1, 1, 1], [0, 1]])
def test_a_difference_of_nobody_is_none(referred):
    """Every bank that had been observed for less than two years, and has referrals, made notebook 04 fail."""
    rows = pd.DataFrame({"cell": "a", "referred": pd.Series(referred, dtype="int64"), "money": 1.0})
    assert (referral.within_cells(rows, "money", "EUR") is None) == (set(referred) != {0, 1})


def test_what_is_missing_together_has_one_indicator():
    """Where some customers have no months, balance and contribution were collinear, and the study was refused."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.lognormal(size=(60, 3)), columns=["balance", "contribution_before", "age"])
    frame.loc[:9, ["balance", "contribution_before"]] = np.nan
    frame.loc[5:7, "age"] = np.nan
    indicators = panel.account_covariates(frame).filter(like="_unknown")
    assert list(indicators) == ["age_unknown", "balance_unknown"]


def test_collinear_columns_are_refused_by_name():
    rng = np.random.default_rng(6)
    a = rng.integers(0, 2, 400)
    twice = pd.DataFrame({"branch": a, "online": 1 - a, "age": rng.normal(size=400)})
    y, who = rng.integers(0, 4, 400), np.arange(400)
    named = pytest.raises(InputError, match=r"(branch|online|constant) = combination of .*(branch|online)")
    with named:
        ordinal.fit_ordered_logit(twice, y)
    with named:
        links.slopes(twice.assign(constant=1.0), y.astype(float))
    with named:
        response.weighted_response(twice, y > 1, y.astype(float), who)
    frame = pd.DataFrame({"tenure_years": np.expm1(twice["age"].abs()), "age": twice["age"].abs(), "wave": 1})
    with pytest.raises(InputError, match=r"(age|tenure_years) = combination of"):
        panel.account_covariates(frame)
    rows = frame.assign(age=a, satisfaction=a, referrals=a, exposure_years=1.0, customer_id=who)
    with pytest.raises(InputError, match="combination of"):
        referral.referral_ratio(rows, "rate ratio")


def test_consistent_paths_without_an_admissible_solution_are_no_estimates():
    # two items each: correlation .5 within, .6 between, so that the constructs would correlate at 1.2
    r = np.full((4, 4), 0.6)
    r[:2, :2] = r[2:, 2:] = 0.5
    np.fill_diagonal(r, 1)
    pair = PathModel({"sat": ["s1", "s2"], "loy": ["l1", "l2"]}, [("sat", "loy")])
    fit = fit_pls(r, pair, consistent=True)
    assert not fit.admissible[0]
    assert np.isnan(fit.path("sat", "loy")[0])
    stack = np.stack([r, np.where(r == 0.6, 0.25, r)])
    assert fit_pls(stack, pair, consistent=True).path("sat", "loy") == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert fit_pls(r, pair).path("sat", "loy")[0] == pytest.approx(0.8)  # composites: .6 x 4 / (2 + 2 x .5)


def test_study_gives_no_latent_path_where_constructs_coincide():
    rng = np.random.default_rng(7)
    x = draw(120, 7, loading=0.6, cuts=[-1, 0, 1])
    same = x[BLOCKS["quality"]].mean(axis=1) - 1.5
    for item in BLOCKS["satisfaction"]:  # satisfaction is quality, asked again
        x[item] = np.digitize(same + 0.5 * rng.normal(size=120), [-0.6, 0, 0.6]).astype(float)
    result = loyalty.ordinal_beside_linear(x, MODEL, resamples=40, seed=1)
    assert {c.name: c.status for c in result.checks}["admissible latent solution"] == "closed"
    assert set(result.estimates) == {"composite"}
    latent = result.table[result.table["treatment"] != "composite"]
    assert latent[["estimate", "low", "high"]].isna().all(axis=None)
    assert "There is no estimate for" in result.sentence
    assert "nan" not in result.sentence
    assert result.plot() is not None


@pytest.mark.parametrize(("seed", "too_good"), [(2, True), (5, True), (8, True), (4, False)])
def test_comparative_fit_is_at_most_one(seed, too_good):
    import semopy

    rng = np.random.default_rng(seed)
    q = rng.normal(size=300)
    a = {f"a{i}": 0.7 * q + 0.7 * rng.normal(size=300) for i in range(3)}
    x = pd.DataFrame(a | {f"b{i}": 0.35 * q + rng.normal(size=300) for i in range(3)})
    model = PathModel({"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}, [("a", "b")])
    peer = semopy.Model("a =~ a0 + a1 + a2\nb =~ b0 + b1 + b2")
    peer.fit(x)
    theirs = float(semopy.calc_stats(peer)["CFI"].iloc[0])
    assert (theirs > 1) == too_good  # chi-square below its degrees of freedom
    indices = sem.fit_sem(x, model, structural=False).indices
    assert indices["cfi"] == pytest.approx(min(theirs, 1), rel=1e-9)
    assert (indices["tli"] > 1) == too_good  # which is not bounded by its definition


def test_errors_of_standardised_paths_are_those_of_resampling():
    x = draw(400, 31)
    fitted = sem.fit_sem(x, MODEL)
    drawn, _ = sem.bootstrap_sem(x, MODEL, fitted, resamples=600, seed=5)
    ours = fitted.paths["standardised_se"].to_numpy()
    np.testing.assert_allclose(ours, drawn.std(axis=0, ddof=1), rtol=0.1)  # 600 draws know an error to 3%
    # the ratio of the two estimates times the raw error, as if the constructs' spread were known, is 28% too wide
    naive = fitted.paths["se"] * fitted.paths["standardised"] / fitted.paths["estimate"]
    assert naive[0] > 1.2 * ours[0]
    # other units of an item that sets no scale change neither paths nor errors
    other = sem.fit_sem(x.assign(quality2=10 * x["quality2"]), MODEL).paths
    np.testing.assert_allclose(other["standardised_se"], ours, rtol=1e-3)


def test_error_of_a_single_standardised_path_by_hand():
    """Perfectly reliable items leave a correlation, whose error is (1 - r^2) / sqrt(n)."""
    rng = np.random.default_rng(8)
    a = rng.normal(size=2000)
    b = 0.6 * a + 0.8 * rng.normal(size=2000)
    x = pd.DataFrame({n: v + 0.02 * rng.normal(size=2000) for n, v in {"a1": a, "a2": a, "b1": b, "b2": b}.items()})
    fit = sem.fit_sem(
        x, PathModel({"b": ["b2", "b1"], "a": ["a1", "a2"]}, [("a", "b")])
    )  # in no order of the library's
    row = fit.paths.iloc[0]
    assert fit.indices["p"] > 0.001  # the model is true; where the library stopped it was 1e-20 and less
    assert fit.indices["srmr"] < 0.001
    assert row["standardised"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-3)
    assert row["standardised_se"] == pytest.approx((1 - row["standardised"] ** 2) / np.sqrt(2000), rel=0.01)


def test_the_library_fits_the_model_that_the_study_shows():
    x = draw(600, 34, cuts=[-1, 0, 1])
    result = loyalty.ordinal_regression(x, MODEL)
    fit, first = result.model, result.table[result.table["item"] == "loyalty1"]
    np.testing.assert_allclose(np.exp(fit.params[first["driver"]]), first["odds_ratio"], rtol=1e-6)
    assert fit.mle_retvals["converged"]
    assert np.isfinite(fit.bse).all()
    assert PATHS[0][0] in fit.params.index


# --- constructs of one item -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single", [["loyalty"], ["quality"], ["quality", "loyalty"]])
def test_a_construct_may_be_one_item_whose_reliability_is_not_estimated(single):
    """With items free of error, the path between single items is their correlation, in every PLS."""
    rng = np.random.default_rng(7)
    n = 800
    latent = {"quality": rng.normal(size=n)}
    latent["satisfaction"] = 0.6 * latent["quality"] + 0.8 * rng.normal(size=n)
    latent["loyalty"] = 0.7 * latent["satisfaction"] + 0.7 * rng.normal(size=n)
    blocks = {c: [f"{c}{i}" for i in range(1 if c in single else 3)] for c in latent}
    frame = pd.DataFrame({i: latent[c] + 0.5 * rng.normal(size=n) for c, b in blocks.items() for i in b})
    model = PathModel(blocks, [("quality", "satisfaction"), ("satisfaction", "loyalty")])
    items = loyalty.prepare_items(frame, model)
    found = loyalty.reliability(items, model, resamples=50, seed=1)
    assert found.table.set_index("construct")["omega"].isna().to_dict() == {c: c in single for c in latent}
    assert f"not estimated: {', '.join(single)}." in found.sentence
    between = loyalty.htmt(items, model, resamples=50, seed=1)
    assert np.isfinite(between.table["htmt"]).all()
    gates = loyalty.path_gates(model, between)
    paths = loyalty.path_model(items, model, gates=gates, resamples=50, seed=1).table
    assert np.isfinite(paths["estimate"]).all()
    covariance = loyalty.factor_models(items, model)
    assert single[0] in covariance.missing.reason
    if len(single) == 2:
        pair = PathModel({c: blocks[c] for c in single}, [tuple(single)])
        corr = np.corrcoef(frame[list(pair.items)].to_numpy(), rowvar=False)
        for consistent in (False, True):
            assert fit_pls(corr, pair, consistent=consistent).path(*single)[0] == pytest.approx(corr[0, 1])
        assert htmt_ratios(corr[None], pair)[0, 0, 1] == pytest.approx(corr[0, 1])
        none = loyalty.reliability(items[list(pair.items)], pair, resamples=20, seed=1)
        assert none.missing is not None
