"""Survival models: two routes to one number, planted truth, inputs rejected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import natural_spline
from crmresearch.estimators.survival import finegray, predict
from crmresearch.estimators.survival.cox import cox, cox_bootstrap
from crmresearch.estimators.survival.curves import kaplan_meier, logrank, restricted_mean
from crmresearch.estimators.survival.diagnostics import by_lifelines, written_out
from crmresearch.estimators.survival.discrete import discrete_hazard, frailty, tenure_terms, weibull_aft
from crmresearch.estimators.survival.finegray import fine_gray
from crmresearch.estimators.survival.gformula import standardised_curves
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.estimators.survival.risk import read_spells
from crmresearch.estimators.survival.trials import adjusted_difference


def spells(n: int, seed: int, late: bool = True, causes: bool = True) -> pd.DataFrame:
    """Monthly spells with two covariates of few levels, late entry and two causes."""
    rng = np.random.default_rng(seed)
    x, z = rng.integers(0, 3, n), rng.integers(0, 2, n)
    one, two = rng.exponential(60 * np.exp(-0.4 * x + 0.3 * z)), rng.exponential(90 * np.exp(0.2 * x))
    left = np.ceil(np.minimum(one, two)).astype(int)
    entry = np.where(rng.random(n) < 0.5, 0, rng.integers(0, 30, n)) if late else np.zeros(n, int)
    stop = entry + rng.integers(1, 60, n)
    frame = pd.DataFrame({"entry": entry, "exit": np.minimum(left, stop), "event": (left <= stop) * 1, "x": x, "z": z})
    frame["cause"] = np.where(frame["event"] == 1, np.where(one < two, "one", "two"), None)
    return frame[left > entry].reset_index(drop=True)


def collapsed(frame: pd.DataFrame) -> pd.DataFrame:
    keys = list(frame.columns)
    return frame.groupby(keys, dropna=False).size().rename("n").reset_index()


def test_models_that_cannot_be_fitted_say_why():
    frame = spells(300, 1)
    with pytest.raises(FitError, match="no events"):
        cox(frame.assign(event=0), ["x"])
    with pytest.raises(FitError, match="does not vary"):
        cox(frame.assign(x=1), ["x"])
    with pytest.raises(FitError, match=r"collinear|not finite|separates"):
        cox(frame.assign(y=frame.x), ["x", "y"])
    with pytest.raises(FitError, match="separates"):
        cox(frame.assign(y=frame.event), ["y"])
    with pytest.raises(InputError, match="nobody left for 'three'"):
        fine_gray(frame, ["x"], "three")
    with pytest.raises(InputError, match="one level only"):
        logrank(frame.assign(g="a"), "g")
    with pytest.raises(InputError, match="lies outside the curve"):
        restricted_mean(kaplan_meier(frame), 10_000)


# --- two routes, one number
# ---------------------------------------------------------------------------------------------


def test_collapsed_equals_expanded_for_every_estimator():
    frame = spells(3000, 2)
    small = collapsed(frame)
    assert len(small) < 0.9 * len(frame)
    assert small["n"].sum() == len(frame)
    exact = {"rel": 1e-8, "abs": 1e-10}
    a, b = cox(frame, ["x", "z"]), cox(small, ["x", "z"])
    assert a.params.to_numpy() == pytest.approx(b.params.to_numpy(), **exact)
    assert a.covariance.to_numpy() == pytest.approx(b.covariance.to_numpy(), **exact)
    one = frame.assign(event=(frame.cause == "one") * 1)
    assert cox(one, ["x"], strata="z").params["x"] == pytest.approx(
        cox(collapsed(one), ["x"], strata="z").params["x"], **exact
    )
    for f in (kaplan_meier, cumulative_incidence):
        left, right = f(frame), f(small)
        numbers = left.select_dtypes("number").columns
        assert left[numbers].to_numpy() == pytest.approx(right[numbers].to_numpy(), nan_ok=True, **exact)
    first, second = (fine_gray(frame, ["x", "z"], "one", repeats=0), fine_gray(small, ["x", "z"], "one", repeats=0))
    assert first.params.to_numpy() == pytest.approx(second.params.to_numpy(), **exact)
    assert logrank(frame, "x")["statistic"] == pytest.approx(logrank(small, "x")["statistic"], **exact)


def test_cox_equals_lifelines_with_late_entry_and_strata():
    from lifelines import CoxPHFitter

    frame = spells(1500, 3).drop(columns="cause")
    theirs = CoxPHFitter().fit(frame, "exit", "event", entry_col="entry")
    ours = cox(frame, ["x", "z"])
    # lifelines stops at 1e-7 of the log-likelihood
    assert ours.params.to_numpy() == pytest.approx(theirs.params_[["x", "z"]].to_numpy(), abs=1e-5)
    assert ours.se.to_numpy() == pytest.approx(theirs.standard_errors_[["x", "z"]].to_numpy(), abs=1e-5)
    ours = cox(frame, ["x"], strata="z")
    theirs = CoxPHFitter().fit(frame, "exit", "event", entry_col="entry", strata=["z"])
    assert ours.params["x"] == pytest.approx(theirs.params_["x"], abs=1e-5)


def test_robust_errors_equal_lifelines():
    from lifelines import CoxPHFitter

    # distinct times: with ties lifelines' robust errors are those of Breslow
    frame = spells(400, 4, late=False).drop(columns="cause")
    frame["exit"] = frame["exit"] + np.random.default_rng(0).permutation(len(frame)) * 1e-4
    frame["unit"] = np.arange(len(frame)) // 4
    theirs = CoxPHFitter().fit(frame.drop(columns="entry"), "exit", "event", cluster_col="unit")
    ours = cox(frame, ["x", "z"], cluster="unit")
    assert ours.se.to_numpy() == pytest.approx(theirs.standard_errors_[["x", "z"]].to_numpy(), rel=1e-4)


def test_splitting_a_spell_changes_nothing():
    frame = spells(800, 5).drop(columns="cause")
    cut = (frame["entry"] + frame["exit"]) // 2
    first = frame.assign(exit=cut, event=0)
    second = frame.assign(entry=cut)
    both = pd.concat([first[first.exit > first.entry], second], ignore_index=True)
    a, b = cox(frame, ["x", "z"]), cox(both, ["x", "z"])
    assert a.params.to_numpy() == pytest.approx(b.params.to_numpy(), abs=1e-9)
    assert a.loglik == pytest.approx(b.loglik, abs=1e-8)


def test_discrete_hazard_on_cells_equals_expanded_person_months():
    import statsmodels.api as sm

    frame = spells(1500, 11)
    months = frame.loc[frame.index.repeat(frame.exit - frame.entry)].copy()
    months["tenure"] = months.groupby(level=0).cumcount() + months["entry"] + 1
    months["left"] = ((months.tenure == months.exit) & (months.event == 1)) * 1
    cells = months.groupby(["tenure", "x", "z"])["left"].agg(at_risk="size", events="sum").reset_index()
    ours = discrete_hazard(cells, ["x", "z"])
    _, knots = tenure_terms(cells["tenure"].to_numpy(), cells["at_risk"].to_numpy())
    spline = natural_spline(np.log(months["tenure"].to_numpy(dtype=float)), knots.tolist())
    x = np.column_stack([months[["x", "z"]].to_numpy(dtype=float), np.ones(len(months)), spline])
    family = sm.families.Binomial(link=sm.families.links.CLogLog())
    theirs = sm.GLM(months["left"].to_numpy(), x, family=family).fit(
        tol=1e-10, rtol=1e-13, tol_criterion="deviance", maxiter=100
    )
    assert ours.params.to_numpy() == pytest.approx(theirs.params, abs=1e-8)
    assert ours.se.to_numpy() == pytest.approx(theirs.bse, abs=1e-8)
    assert ours.n == len(months)


def test_fine_gray_equals_explicit_expansion():
    """The weighted risk set written out row by row, fitted by lifelines: late entry and censoring weights included."""
    from lifelines import CoxTimeVaryingFitter

    rng = np.random.default_rng(12)
    frame = spells(250, 12)
    frame["exit"] = frame["exit"] + rng.permutation(len(frame)) * 1e-3  # no ties: Breslow and Efron agree
    found = fine_gray(frame, ["x", "z"], "one", repeats=0)
    checked = read_spells(frame)
    events = np.sort(frame.loc[frame.cause == "one", "exit"].to_numpy())
    rows = []
    for i, r in frame.iterrows():
        rows.append((i, r.entry, r.exit, int(r.cause == "one"), 1.0, r.x, r.z))
        if r.cause == "two":
            later = events[events > r.exit]
            weight = finegray.weight_factors(checked, later) / finegray.weight_factors(checked, np.array([r.exit]))
            rows += [
                (i, a, b, 0, w, r.x, r.z) for a, b, w in zip(np.r_[r.exit, later[:-1]], later, weight, strict=True)
            ]
    table = pd.DataFrame(rows, columns=["id", "start", "stop", "event", "w", "x", "z"])
    table[["x", "z"]] = table[["x", "z"]].astype(float)
    theirs = CoxTimeVaryingFitter().fit(table, id_col="id", event_col="event", weights_col="w")
    assert found.params.to_numpy() == pytest.approx(theirs.params_.to_numpy(), abs=1e-6)  # their stopping rule


def test_without_competing_exits_fine_gray_is_cox():
    frame = spells(500, 13)
    frame["cause"] = np.where(frame.event == 1, "one", None)
    a, b = fine_gray(frame, ["x"], "one", repeats=0), cox(frame, ["x"], ties="breslow")
    assert a.params["x"] == pytest.approx(b.params["x"], abs=1e-9)


def test_censoring_weights_of_geskus_by_hand():
    # one censored at 2 of three at risk after the exit at 1; one enters at 1.5 beside two present
    frame = pd.DataFrame({"entry": [0, 0, 0, 1.5], "exit": [1, 2, 3, 3], "event": [1, 0, 1, 0]})
    u = finegray.weight_factors(read_spells(frame), np.array([1.0, 2.0, 3.0]))
    # entered already: 1 - 1/3 before 1.5, 1 after; not censored: 1 up to 2, then 1 - 1/3
    assert u == pytest.approx([2 / 3, 1.0, 2 / 3])


# --- planted truth
# ------------------------------------------------------------------------------------------------------


def fine_gray_draw(n: int, seed: int, late: bool) -> pd.DataFrame:
    """Exits whose sub-distribution hazard is proportional in x, as Fine and Gray (1999) simulate."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, n).astype(float)
    eta, p = 0.5 * x, 0.5
    mass = 1 - (1 - p) ** np.exp(eta)
    one = rng.random(n) < mass
    u = rng.random(n) * mass
    t1 = -np.log(1 - (1 - (1 - u) ** np.exp(-eta)) / p)
    t = np.where(one, t1, rng.exponential(np.exp(-0.3 * x)))
    entry = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 1, n)) if late else np.zeros(n)
    stop = rng.uniform(0.2, 3, n)
    keep = (t > entry) & (stop > entry)
    frame = pd.DataFrame(
        {
            "entry": entry,
            "exit": np.minimum(t, stop),
            "event": (t <= stop) * 1,
            "cause": np.where(one, "one", "two"),
            "x": x,
        }
    )
    return frame[keep].reset_index(drop=True)


@pytest.mark.parametrize("late", [False, True])
def test_fine_gray_recovers_the_planted_effect(late):
    found = np.array([fine_gray(fine_gray_draw(1500, s, late), ["x"], "one", repeats=0).params["x"] for s in range(40)])
    # mean over 40 draws within three of its own standard errors of .5
    assert abs(found.mean() - 0.5) < 3 * found.std(ddof=1) / np.sqrt(40)


def test_fine_gray_bootstrap_error_is_the_spread_over_draws():
    found = np.array([fine_gray(fine_gray_draw(1000, s, True), ["x"], "one", repeats=0).params["x"] for s in range(60)])
    error = fine_gray(fine_gray_draw(1000, 99, True), ["x"], "one", repeats=100, seed=1).se["x"]
    # both sides carry Monte-Carlo error of 7 to 9%
    assert error == pytest.approx(found.std(ddof=1), rel=0.3)


def test_shrunk_predictions_are_spread_as_the_risks_are():
    """Twenty covariates of which two matter, 400 customers: the slope on new customers, over draws."""
    rng, names, slopes = np.random.default_rng(3), [f"x{i}" for i in range(20)], {"as fitted": [], "shrunk": []}

    def people(n):
        x = rng.standard_normal((n, 20))
        left = np.ceil(rng.exponential(30 * np.exp(-0.4 * x[:, 0] + 0.3 * x[:, 1])))
        return pd.DataFrame(x, columns=names).assign(exit=np.minimum(left, 40), event=(left <= 40) * 1)

    for _ in range(40):
        fit, new = cox(people(400), names), people(2000)
        for name, model in (("as fitted", fit), ("shrunk", fit.shrunk())):
            slope = cox(new.assign(score=np.log(model.relative_risk(new))), ["score"])
            slopes[name].append(slope.params["score"])
    error = np.std(slopes["shrunk"], ddof=1) / np.sqrt(40)
    assert np.mean(slopes["as fitted"]) < 1 - 5 * error
    assert abs(np.mean(slopes["shrunk"]) - 1) < 3 * error
    # the baseline follows: as many exits are expected as there were
    train = people(500)
    fit = cox(train, names, ties="breslow").shrunk()
    expected = fit.cumulative_baseline(train["exit"].to_numpy()) * fit.relative_risk(train)
    assert expected.sum() == pytest.approx(train["event"].sum(), rel=1e-9)


def test_weibull_with_late_entry_finds_the_planted_ratios():
    """Weibull exits, log hazard ratio -.4, shape .8: acceleration .5; the delta interval is that of repeated draws."""
    found, widths = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 3, 1500)
        left = 60 * (rng.exponential(np.exp(0.4 * x))) ** (1 / 0.8)
        entry = np.where(rng.random(1500) < 0.5, 0.0, rng.uniform(0, 40, 1500))
        stop = entry + rng.uniform(5, 60, 1500)
        frame = pd.DataFrame({"entry": entry, "exit": np.minimum(left, stop), "event": (left <= stop) * 1, "x": x})
        fit = weibull_aft(frame[left > entry], ["x"]).set_index("term")
        line, shape = fit.loc["x"], np.exp(fit.loc["log(shape)", "coef"])
        assert line["hazard_ratio"] == pytest.approx(line["time_ratio"] ** -shape, rel=1e-12)
        found.append([line["coef"], np.log(line["hazard_ratio"])])
        widths.append(np.log(line["hr_high"] / line["hr_low"]) / 3.92)
    spread = np.std(found, axis=0, ddof=1)
    assert np.mean(found, axis=0) == pytest.approx([0.5, -0.4], abs=3 * spread.max() / np.sqrt(30))
    # a standard deviation of 30 draws has a relative error of 13%
    assert np.mean(widths) == pytest.approx(spread[1], rel=0.35)


def test_frailty_tells_sorting_from_duration_dependence():
    rng = np.random.default_rng(5)
    n = 8000
    z = rng.gamma(1.0, 1.0, n)  # variance 1, constant individual hazard
    t = np.ceil(rng.exponential(1, n) / (0.15 * z) * 12)
    entry = np.ceil(np.where(rng.random(n) < 0.5, 0, rng.uniform(0, 60, n)))
    frame = pd.DataFrame({"entry": entry, "exit": np.minimum(t, entry + 120), "event": (t <= entry + 120) * 1})
    frame = collapsed(frame[t > entry])
    fit = frailty(frame)
    assert fit.shape_plain < -0.12  # without frailty the hazard seems to fall
    assert abs(fit.shape) < 0.08
    assert fit.variance_ci[0] < 1.0 < fit.variance_ci[1]
    assert fit.p < 1e-4


@pytest.mark.parametrize("strata", [None, "z"])
def test_lifelines_agrees_on_the_same_risk_sets_written_out(strata):
    """Months of alike customers joined into spells leave every risk set as it is, and the fit with it."""
    frame = spells(400, 8)
    months = frame.loc[frame.index.repeat(frame["exit"] - frame["entry"])]
    months["exit"] = months["entry"] + months.groupby(level=0).cumcount() + 1
    months["event"] *= months["exit"] == frame["exit"].loc[months.index]
    rows = months.groupby(["exit", "event", "x", "z"]).size().rename("n").reset_index()
    rows = rows.assign(entry=rows["exit"] - 1)
    fit = cox(rows, ["x"], strata=strata)
    model, gap = by_lifelines(fit, rows, strata)
    assert gap < 1e-6
    long = written_out(rows, ["x", "z"])
    assert len(long) < len(months) / 5
    assert long["event"].sum() == frame["event"].sum()
    assert (long["exit"] - long["entry"]).sum() == len(months)
    assert cox(long, ["x"], strata=strata).params["x"] == pytest.approx(fit.params["x"], abs=1e-12)
    # and it would show: the same rows without their counts are another model
    assert by_lifelines(cox(rows.assign(n=1), ["x"], strata=strata), rows, strata)[1] > 1e-3
    assert model.params_["x"] == pytest.approx(cox(frame, ["x"], strata=strata).params["x"], abs=1e-6)


def test_cox_bootstrap_agrees_with_the_model_error_and_with_resampled_rows():
    frame = spells(600, 14)
    draws = cox_bootstrap(frame, ["x", "z"], repeats=200, seed=1)
    assert draws.std().to_numpy() == pytest.approx(
        cox(frame, ["x", "z"]).se.to_numpy(), rel=0.2
    )  # 5% Monte-Carlo error
    rng = np.random.default_rng(1)
    counts = np.bincount(rng.integers(0, len(frame), len(frame)), minlength=len(frame))
    sets = cox(frame, ["x", "z"]).sets
    repeated = frame.loc[sets.rows].reset_index(drop=True)
    repeated = repeated.loc[np.repeat(np.arange(len(repeated)), counts)]
    # two Newton steps from the full estimate leave under a thousandth of a standard error
    assert draws.iloc[0].to_numpy() == pytest.approx(cox(repeated, ["x", "z"]).params.to_numpy(), abs=1e-4)


def test_same_seed_same_draws():
    frame = spells(300, 15)
    a, b = (cox_bootstrap(frame, ["x"], repeats=5, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert not cox_bootstrap(frame, ["x"], repeats=5, seed=4).equals(a)


# --- collinear columns, missing predictions, counts
# ---------------------------------------------------------------------------------------------


def person_months(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    cells = pd.MultiIndex.from_product([range(1, 25), [0.0, 1.0]], names=["tenure", "a"]).to_frame(index=False)
    return cells.assign(not_a=1 - cells["a"], at_risk=200, events=rng.binomial(200, 0.02, len(cells)))


def test_a_dummy_and_its_complement_are_refused_by_name():
    cells = person_months(1)
    with pytest.raises(InputError, match=r"collinear .*(a|not_a|constant) = combination of"):
        discrete_hazard(cells, ["a", "not_a"])
    assert abs(discrete_hazard(cells, ["a"]).params["a"]) < 0.5


@pytest.mark.parametrize("seed", range(20))
def test_cox_refuses_a_line_of_another_covariate_always(seed):
    frame = spells(300, 100 + seed)
    frame["x"] = np.random.default_rng(seed).normal(size=len(frame))
    frame["y"] = 2 * frame["x"] + 1
    with pytest.raises(InputError, match=r"1 of 2 columns are collinear with others: (x = combination of y|y = .*x)"):
        cox(frame, ["x", "y"])
    with pytest.raises(FitError, match="collinear"):
        fine_gray(frame, ["x", "y"], "one", repeats=0)


def test_every_model_of_spells_refuses_collinear_covariates():
    frame = spells(300, 33).assign(y=lambda f: 3 - f["x"])
    for model in (weibull_aft, cox):
        with pytest.raises(InputError, match="collinear with others"):
            model(frame, ["x", "y"])
    with pytest.raises(InputError, match="a is missing or infinite in 2 of 48 rows"):
        discrete_hazard(person_months(1).assign(a=lambda c: c["a"].where(c.index > 1)), ["a"])


def test_cox_refuses_what_the_strata_say_already():
    frame = spells(300, 31)
    with pytest.raises(FitError, match="y does not vary within the strata"):
        cox(frame.assign(y=2 * frame["z"] + 1), ["x", "y"], strata="z")
    frame["y"] = 0.1 * frame["x"] + 5 * frame["z"]
    with pytest.raises(FitError, match="collinear"):
        cox(frame, ["x", "y"], strata="z")
    assert np.isfinite(cox(frame, ["x", "y"]).se).all()


def scored(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Predictions of a few levels, with how many customers each row stands for."""
    rng = np.random.default_rng(seed)
    p = rng.integers(1, 8, n) / 10
    left = rng.exponential(-12 / np.log(1 - p))
    stop = rng.uniform(3, 30, n)
    frame = pd.DataFrame({"exit": np.minimum(left, stop), "event": (left <= stop) * 1, "n": rng.integers(1, 9, n)})
    return frame, p


@pytest.mark.parametrize("score", ["brier", "concordance", "area_under_curve", "capture", "calibration"])
def test_missing_predictions_are_refused(score):
    frame, p = scored(200, 1)
    p[:3] = np.nan
    with pytest.raises(InputError, match="3 predicted risks are missing"):
        getattr(predict, score)(frame, p, 12)
    with pytest.raises(InputError, match="predictions for 200 rows"):
        getattr(predict, score)(frame, p[5:], 12)


def test_missing_predictions_are_refused_by_the_decision_curve():
    frame, p = scored(200, 2)
    with pytest.raises(InputError, match="1 predicted risks are missing or outside 0 to 1"):
        predict.decision_curve(frame, {"model": np.r_[np.nan, p[1:]]}, 12, [0.1])


def test_scores_of_counted_rows_are_those_of_the_rows_written_out():
    frame, p = scored(150, 3)
    rows, scores = frame.loc[frame.index.repeat(frame["n"])].assign(n=1), np.repeat(p, frame["n"])
    (counted, line), (written, other) = predict.calibration(frame, p, 12), predict.calibration(rows, scores, 12)
    pd.testing.assert_series_equal(line, other, rtol=1e-9)
    pd.testing.assert_frame_equal(counted, written, rtol=1e-9)
    for score in (predict.concordance, predict.area_under_curve, predict.capture):
        assert score(frame, p, 12) == pytest.approx(score(rows, scores, 12), rel=1e-12)
    a, b = (predict.decision_curve(f, {"m": q}, 12, [0.2]) for f, q in ((frame, p), (rows, scores)))
    pd.testing.assert_frame_equal(a, b, rtol=1e-12)


def test_calibration_groups_do_not_depend_on_the_order_of_rows():
    frame, p = scored(400, 4)
    order = np.random.default_rng(0).permutation(400)
    first, _ = predict.calibration(frame, p, 12)
    second, _ = predict.calibration(frame.iloc[order], p[order], 12)
    pd.testing.assert_frame_equal(first, second, rtol=1e-9)


def test_models_of_counted_rows_have_the_errors_of_the_rows_written_out():
    frame = spells(400, 32).drop(columns="cause")
    frame["n"] = np.random.default_rng(1).integers(1, 5, len(frame))
    frame["unit"] = np.arange(len(frame)) % 40
    rows = frame.loc[frame.index.repeat(frame["n"])].drop(columns="n")
    for options in ({}, {"cluster": "unit"}, {"strata": "z"}):
        names = ["x"] if options.get("strata") else ["x", "z"]
        assert cox(frame, names, **options).se.to_numpy() == pytest.approx(
            cox(rows, names, **options).se.to_numpy(), rel=1e-8
        )
    a, b = frailty(frame), frailty(rows)
    assert a.shape_ci == pytest.approx(b.shape_ci, abs=1e-3)  # numerical curvature at two stopping points
    a, b = (weibull_aft(f, ["x"]).set_index("term") for f in (frame, rows))
    assert a["se"].to_numpy() == pytest.approx(b["se"].to_numpy(), rel=1e-5)


def test_effects_of_counted_rows_are_those_of_the_rows_written_out():
    frame, p = scored(200, 5)
    frame["x"], frame["a"] = p, (np.random.default_rng(6).random(200) < 0.3 + p / 2).astype(int)
    rows = frame.loc[frame.index.repeat(frame["n"])].assign(n=1)
    ours, theirs = (adjusted_difference(f, "a", ["x"], 12) for f in (frame, rows))
    assert ours.n == theirs.n == len(rows)
    assert (ours.value, ours.se) == pytest.approx((theirs.value, theirs.se), rel=1e-9)
    counted, written = (standardised_curves(f, ["x"], "x", [0.2, 0.5], repeats=0, seed=1)[1] for f in (frame, rows))
    assert counted == pytest.approx(written, rel=1e-8)
