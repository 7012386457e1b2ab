"""Survival estimators: two routes to one number, planted truth, inputs rejected."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.survival import finegray
from crmresearch.estimators.survival.risk import Spells, read_spells
from crmresearch.studies import churn


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


# --- inputs rejected
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exit": [5.0, np.nan, 3]}, "1 of 3 rows have no exit"),
        ({"event": [0, 1, 2]}, "event must be 0 or 1"),
        ({"entry": [0, 9, 0]}, "1 of 3 spells end before they begin"),
        ({"entry": [-1, 0, 0]}, "begin before tenure 0"),
        ({"n": [1, 1.5, 2]}, "whole numbers"),
    ],
)
def test_bad_spells_are_rejected(change, says):
    good = pd.DataFrame({"entry": [0, 0, 0], "exit": [5.0, 4, 3], "event": [0, 1, 1]})
    with pytest.raises(InputError, match=says):
        churn.kaplan_meier(good.assign(**change))


def test_missing_columns_and_empty_spells_are_rejected():
    with pytest.raises(InputError, match="lack the columns exit, event"):
        churn.life_table(pd.DataFrame({"tenure": [1]}))
    with pytest.raises(InputError, match="spells are empty"):
        churn.life_table(pd.DataFrame({"exit": [], "event": []}))


def test_an_event_with_nobody_at_risk_is_rejected():
    with pytest.raises(InputError, match="1 exits happen at the moment of entry"):
        churn.kaplan_meier(pd.DataFrame({"entry": [3, 0], "exit": [3, 5], "event": [1, 1]}))


def test_models_that_cannot_be_fitted_say_why():
    frame = spells(300, 1)
    with pytest.raises(FitError, match="no events"):
        churn.cox(frame.assign(event=0), ["x"])
    with pytest.raises(FitError, match="does not vary"):
        churn.cox(frame.assign(x=1), ["x"])
    with pytest.raises(FitError, match=r"collinear|not finite|separates"):
        churn.cox(frame.assign(y=frame.x), ["x", "y"])
    with pytest.raises(FitError, match="separates"):
        churn.cox(frame.assign(y=frame.event), ["y"])
    with pytest.raises(InputError, match="nobody left for 'three'"):
        churn.fine_gray(frame, ["x"], "three")
    with pytest.raises(InputError, match="one level only"):
        churn.logrank(frame.assign(g="a"), "g")
    with pytest.raises(InputError, match="lies outside the curve"):
        churn.restricted_mean(churn.kaplan_meier(frame), 10_000)


# --- two routes, one number
# ---------------------------------------------------------------------------------------------


def test_collapsed_equals_expanded_for_every_estimator():
    frame = spells(3000, 2)
    small = collapsed(frame)
    assert len(small) < 0.9 * len(frame)
    assert small["n"].sum() == len(frame)
    exact = {"rel": 1e-8, "abs": 1e-10}
    a, b = churn.cox(frame, ["x", "z"]), churn.cox(small, ["x", "z"])
    assert a.params.to_numpy() == pytest.approx(b.params.to_numpy(), **exact)
    assert a.covariance.to_numpy() == pytest.approx(b.covariance.to_numpy(), **exact)
    one = frame.assign(event=(frame.cause == "one") * 1)
    assert churn.cox(one, ["x"], strata="z").params["x"] == pytest.approx(
        churn.cox(collapsed(one), ["x"], strata="z").params["x"], **exact
    )
    for f in (churn.kaplan_meier, churn.cumulative_incidence):
        left, right = f(frame), f(small)
        numbers = left.select_dtypes("number").columns
        assert left[numbers].to_numpy() == pytest.approx(right[numbers].to_numpy(), nan_ok=True, **exact)
    first, second = (
        churn.fine_gray(frame, ["x", "z"], "one", repeats=0),
        churn.fine_gray(small, ["x", "z"], "one", repeats=0),
    )
    assert first.params.to_numpy() == pytest.approx(second.params.to_numpy(), **exact)
    assert churn.logrank(frame, "x")["statistic"] == pytest.approx(churn.logrank(small, "x")["statistic"], **exact)


def test_cox_equals_lifelines_with_late_entry_and_strata():
    from lifelines import CoxPHFitter

    frame = spells(1500, 3).drop(columns="cause")
    theirs = CoxPHFitter().fit(frame, "exit", "event", entry_col="entry")
    ours = churn.cox(frame, ["x", "z"])
    # lifelines stops at 1e-7 of the log-likelihood
    assert ours.params.to_numpy() == pytest.approx(theirs.params_[["x", "z"]].to_numpy(), abs=1e-5)
    assert ours.se.to_numpy() == pytest.approx(theirs.standard_errors_[["x", "z"]].to_numpy(), abs=1e-5)
    ours = churn.cox(frame, ["x"], strata="z")
    theirs = CoxPHFitter().fit(frame, "exit", "event", entry_col="entry", strata=["z"])
    assert ours.params["x"] == pytest.approx(theirs.params_["x"], abs=1e-5)


def test_robust_errors_equal_lifelines():
    from lifelines import CoxPHFitter

    # distinct times: with ties lifelines' robust errors are those of Breslow
    frame = spells(400, 4, late=False).drop(columns="cause")
    frame["exit"] = frame["exit"] + np.random.default_rng(0).permutation(len(frame)) * 1e-4
    frame["unit"] = np.arange(len(frame)) // 4
    theirs = CoxPHFitter().fit(frame.drop(columns="entry"), "exit", "event", cluster_col="unit")
    ours = churn.cox(frame, ["x", "z"], cluster="unit")
    assert ours.robust
    assert ours.se.to_numpy() == pytest.approx(theirs.standard_errors_[["x", "z"]].to_numpy(), rel=1e-4)


def test_splitting_a_spell_changes_nothing():
    frame = spells(800, 5).drop(columns="cause")
    cut = (frame["entry"] + frame["exit"]) // 2
    first = frame.assign(exit=cut, event=0)
    second = frame.assign(entry=cut)
    both = pd.concat([first[first.exit > first.entry], second], ignore_index=True)
    a, b = churn.cox(frame, ["x", "z"]), churn.cox(both, ["x", "z"])
    assert a.params.to_numpy() == pytest.approx(b.params.to_numpy(), abs=1e-9)
    assert a.loglik == pytest.approx(b.loglik, abs=1e-8)


def test_late_entry_curve_equals_lifelines():
    from lifelines import KaplanMeierFitter

    frame = spells(900, 6)
    frame = frame[frame.entry < 25]
    ours = churn.kaplan_meier(frame).set_index("time")
    theirs = KaplanMeierFitter().fit(frame.exit, frame.event, entry=frame.entry).survival_function_.iloc[:, 0]
    common = ours.index.intersection(theirs.index)
    assert len(common) > 40
    assert ours.loc[common, "survival"].to_numpy() == pytest.approx(theirs.loc[common].to_numpy(), abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("logrank", None), ("wilcoxon", "wilcoxon"), ("tarone-ware", "tarone-ware"), ("peto", "peto")]
)
def test_logrank_family_equals_lifelines(ours, theirs):
    from lifelines.statistics import multivariate_logrank_test

    frame = spells(700, 7, late=False)
    found = churn.logrank(frame, "x", weights=ours)
    expected = multivariate_logrank_test(frame.exit, frame.x, frame.event, weightings=theirs)
    assert found["statistic"] == pytest.approx(expected.test_statistic, rel=1e-6)
    assert found["df"] == 2


def test_holm_is_applied_over_all_pairs():
    frame = spells(900, 8)
    pairs = churn.pairwise_logrank(frame, "x")
    assert len(pairs) == 3
    assert pairs["p_holm"].min() == pytest.approx(3 * pairs["p"].min(), rel=1e-9)


def test_incidence_and_its_error_equal_statsmodels():
    from statsmodels.duration.survfunc import CumIncidenceRight

    frame = spells(2000, 9, late=False)
    status = frame["cause"].map({"one": 1, "two": 2}).fillna(0).astype(int)
    theirs = CumIncidenceRight(frame["exit"].to_numpy(), status.to_numpy())
    for k, cause in enumerate(("one", "two")):
        ours = churn.cumulative_incidence(frame)
        ours = ours[(ours.cause == cause) & ours.time.isin(theirs.times)]
        # the same sums in another order; the last risk set is empty and its error undefined in theirs
        assert ours["incidence"].to_numpy()[:-1] == pytest.approx(theirs.cinc[k][:-1], abs=1e-12)
        assert ours["se"].to_numpy()[:-1] == pytest.approx(theirs.cinc_se[k][:-1], abs=1e-12)


def test_incidence_with_late_entry_adds_up_and_lies_below_one_minus_km():
    frame = spells(2000, 10)
    ours = churn.cumulative_incidence(frame)
    curve = churn.kaplan_meier(frame)
    total = ours.pivot(index="time", columns="cause", values="incidence").sum(axis=1)
    assert total.to_numpy() == pytest.approx(1 - curve["survival"].to_numpy()[1:], abs=1e-12)


@pytest.mark.parametrize("late", [True, False])
def test_incidence_on_arrays_is_that_of_the_frame(late):
    frame = spells(1500, 11, late=late)
    code = frame["cause"].map({"one": 1, "two": 2}).fillna(0).astype(int).to_numpy()
    for at_least in (1, 50):
        arrays = churn.aalen_johansen(read_spells(frame), code, 2, at_least=at_least)
        table = churn.cumulative_incidence(frame, at_least=at_least)
        for k, cause in enumerate(("one", "two")):
            own = table[table["cause"] == cause]
            for name in ("time", "at_risk"):
                assert own[name].to_numpy() == pytest.approx(getattr(arrays, name), abs=0)
            for name in ("events", "incidence", "se"):
                assert own[name].to_numpy() == pytest.approx(getattr(arrays, name)[k], abs=1e-15)


def test_incidence_of_one_cause_lets_the_others_compete():
    frame = spells(900, 12)
    alone = churn.cumulative_incidence(frame, causes=["two"])
    both = churn.cumulative_incidence(frame)
    pd.testing.assert_frame_equal(alone, both[both["cause"] == "two"].reset_index(drop=True))
    # exits without a cause compete as well, and cannot be listed
    unnamed = frame.assign(cause=frame["cause"].mask(frame["cause"] == "one", None))
    pd.testing.assert_frame_equal(churn.cumulative_incidence(unnamed, causes=["two"]), alone)
    with pytest.raises(InputError, match="exits have no cause"):
        churn.cumulative_incidence(unnamed)


def test_incidence_is_covered_by_its_interval_over_draws():
    """2,000 draws of monthly exits from known hazards with late entry; binomial error of the coverage .005."""
    rng, n, covered = np.random.default_rng(5), 400, []
    hazards = np.array([0.02, 0.01])
    total = hazards.sum()
    truth = hazards[0] / total * (1 - (1 - total) ** 24)
    for _ in range(2000):
        entry = np.where(rng.random(n) < 0.4, 0, rng.integers(0, 20, n))
        left = rng.geometric(total, n)  # month of tenure
        stop = entry + rng.integers(6, 40, n)
        seen = left > entry
        own = rng.random(n) < hazards[0] / total
        event = left <= stop
        code = np.where(event, np.where(own, 1, 2), 0)[seen]
        fit = churn.aalen_johansen(
            Spells(
                entry[seen].astype(float), np.minimum(left, stop)[seen].astype(float), event[seen], np.ones(seen.sum())
            ),
            code,
            2,
        )
        at = np.searchsorted(fit.time, 24, side="right") - 1
        covered.append(abs(fit.incidence[0, at] - truth) < 1.96 * fit.se[0, at])
    assert 0.93 < np.mean(covered) < 0.97


def test_tied_months_are_not_jittered():
    # 100 at risk; month 1: 10 leave for a, 5 for b; month 2: 17 of 85 leave for a
    frame = pd.DataFrame(
        {"exit": [1, 1, 2, 2], "event": [1, 1, 1, 0], "cause": ["a", "b", "a", None], "n": [10, 5, 17, 68]}
    )
    found = churn.cumulative_incidence(frame).set_index(["cause", "time"])["incidence"]
    assert found["a", 2] == pytest.approx(0.10 + 0.85 * 0.2, abs=1e-15)
    assert found["b", 2] == pytest.approx(0.05, abs=1e-15)


def test_weighting_for_censoring_without_censoring_changes_nothing():
    frame = spells(900, 16)
    found = churn.censoring_weighted(frame.assign(g="all"), "g").set_index("time")["survival"]
    plain = churn.kaplan_meier(frame).set_index("time")["survival"]
    assert found.loc[plain.index[1:]].to_numpy() == pytest.approx(plain.to_numpy()[1:], abs=1e-12)


def test_weighting_for_censoring_repairs_dependent_censoring():
    """Those who stay long are censored early: Kaplan-Meier is too low, the weighted curve right."""
    rng = np.random.default_rng(17)
    n = 40_000
    group = rng.integers(0, 2, n)
    entry = np.where(rng.random(n) < 0.5, 0, rng.integers(1, 12, n))
    left = np.ceil(rng.exponential(np.where(group == 1, 120, 30)))
    stop = entry + np.ceil(rng.exponential(np.where(group == 1, 15, 200)))
    frame = pd.DataFrame({"entry": entry, "exit": np.minimum(left, stop), "event": (left <= stop) * 1, "g": group})
    frame = frame[left > entry]
    # the share kept at 24 months of a half-and-half intake
    truth = 0.5 * np.exp(-24 / 120) + 0.5 * np.exp(-24 / 30)
    weighted = churn.censoring_weighted(frame, "g").set_index("time").loc[24, "survival"]
    plain = churn.kaplan_meier(frame).set_index("time").loc[24, "survival"]
    assert plain < truth - 0.02
    assert weighted == pytest.approx(truth, abs=0.012)  # three standard errors


def test_curves_start_where_enough_are_at_risk():
    frame = pd.DataFrame({"entry": [0] * 2 + [24] * 100, "exit": [3, 30] + [36] * 100, "event": [1, 0] + [0] * 100})
    curve = churn.kaplan_meier(frame, at_least=50)
    assert curve["time"].iloc[0] == 24
    assert curve["survival"].iloc[-1] == 1.0  # the early exit, one of two at risk, is not on the curve
    with pytest.raises(FitError, match="no tenure has 500"):
        churn.kaplan_meier(frame, at_least=500)


def test_discrete_hazard_on_cells_equals_expanded_person_months():
    import statsmodels.api as sm

    frame = spells(1500, 11)
    months = frame.loc[frame.index.repeat(frame.exit - frame.entry)].copy()
    months["tenure"] = months.groupby(level=0).cumcount() + months["entry"] + 1
    months["left"] = ((months.tenure == months.exit) & (months.event == 1)) * 1
    cells = months.groupby(["tenure", "x", "z"])["left"].agg(at_risk="size", events="sum").reset_index()
    ours = churn.discrete_hazard(cells, ["x", "z"])
    _, knots = churn.discrete.tenure_terms(cells["tenure"].to_numpy(), cells["at_risk"].to_numpy())
    spline = churn.natural_spline(np.log(months["tenure"].to_numpy(dtype=float)), knots.tolist())
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
    found = churn.fine_gray(frame, ["x", "z"], "one", repeats=0)
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
    a, b = churn.fine_gray(frame, ["x"], "one", repeats=0), churn.cox(frame, ["x"], ties="breslow")
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
    found = np.array(
        [churn.fine_gray(fine_gray_draw(1500, s, late), ["x"], "one", repeats=0).params["x"] for s in range(40)]
    )
    # mean over 40 draws within three of its own standard errors of .5
    assert abs(found.mean() - 0.5) < 3 * found.std(ddof=1) / np.sqrt(40)


def test_fine_gray_bootstrap_error_is_the_spread_over_draws():
    found = np.array(
        [churn.fine_gray(fine_gray_draw(1000, s, True), ["x"], "one", repeats=0).params["x"] for s in range(60)]
    )
    error = churn.fine_gray(fine_gray_draw(1000, 99, True), ["x"], "one", repeats=100, seed=1).se["x"]
    # both sides carry Monte-Carlo error of 7 to 9%
    assert error == pytest.approx(found.std(ddof=1), rel=0.3)


def test_late_entry_ignored_overstates_and_respected_covers():
    missed = covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        t = rng.exponential(60, 4000)
        entry = rng.uniform(0, 120, 4000)
        keep = t > entry
        frame = pd.DataFrame(
            {
                "entry": np.floor(entry[keep]),
                "exit": np.ceil(np.minimum(t, entry + 36))[keep],
                "event": (t <= entry + 36)[keep] * 1,
            }
        )
        frame = frame[frame.exit > frame.entry]
        truth = np.exp(-24 / 60)
        curve, naive = churn.kaplan_meier(frame), churn.kaplan_meier(frame.assign(entry=0))
        row, wrong = curve[curve.time == 24].iloc[0], naive[naive.time == 24].iloc[0]
        # entry rounded down gives a person-month too much for some: a bias of half a percent of exits, within the
        # interval
        covered += row.ci_low <= truth <= row.ci_high
        missed += not wrong.ci_low <= truth <= wrong.ci_high
    assert missed == 20
    assert covered >= 15


def test_shrunk_predictions_are_spread_as_the_risks_are():
    """Twenty covariates of which two matter, 400 customers: the slope on new customers, over draws."""
    rng, names, slopes = np.random.default_rng(3), [f"x{i}" for i in range(20)], {"as fitted": [], "shrunk": []}

    def people(n):
        x = rng.standard_normal((n, 20))
        left = np.ceil(rng.exponential(30 * np.exp(-0.4 * x[:, 0] + 0.3 * x[:, 1])))
        return pd.DataFrame(x, columns=names).assign(exit=np.minimum(left, 40), event=(left <= 40) * 1)

    for _ in range(40):
        fit, new = churn.cox(people(400), names), people(2000)
        for name, model in (("as fitted", fit), ("shrunk", fit.shrunk())):
            slope = churn.cox(new.assign(score=np.log(model.relative_risk(new))), ["score"])
            slopes[name].append(slope.params["score"])
    error = np.std(slopes["shrunk"], ddof=1) / np.sqrt(40)
    assert np.mean(slopes["as fitted"]) < 1 - 5 * error
    assert abs(np.mean(slopes["shrunk"]) - 1) < 3 * error
    # the baseline follows: as many exits are expected as there were
    train = people(500)
    fit = churn.cox(train, names, ties="breslow").shrunk()
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
        fit = churn.weibull_aft(frame[left > entry], ["x"]).set_index("term")
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
    fit = churn.frailty(frame)
    assert fit.shape_plain < -0.12  # without frailty the hazard seems to fall
    assert abs(fit.shape) < 0.08
    assert fit.variance_ci[0] < 1.0 < fit.variance_ci[1]
    assert fit.p < 1e-4


def test_cox_bootstrap_agrees_with_the_model_error_and_with_resampled_rows():
    frame = spells(600, 14)
    draws = churn.cox_bootstrap(frame, ["x", "z"], repeats=200, seed=1)
    assert draws.std().to_numpy() == pytest.approx(
        churn.cox(frame, ["x", "z"]).se.to_numpy(), rel=0.2
    )  # 5% Monte-Carlo error
    rng = np.random.default_rng(1)
    counts = np.bincount(rng.integers(0, len(frame), len(frame)), minlength=len(frame))
    sets = churn.cox(frame, ["x", "z"]).sets
    repeated = frame.loc[sets.rows].reset_index(drop=True)
    repeated = repeated.loc[np.repeat(np.arange(len(repeated)), counts)]
    # two Newton steps from the full estimate leave under a thousandth of a standard error
    assert draws.iloc[0].to_numpy() == pytest.approx(churn.cox(repeated, ["x", "z"]).params.to_numpy(), abs=1e-4)


def test_same_seed_same_draws():
    frame = spells(300, 15)
    a, b = (churn.cox_bootstrap(frame, ["x"], repeats=5, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert not churn.cox_bootstrap(frame, ["x"], repeats=5, seed=4).equals(a)
