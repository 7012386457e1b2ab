"""Response to spend, selection and campaigns: planted truth, two routes to one number, and refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from crmresearch import rules
from crmresearch.errors import FitError, InputError
from crmresearch.estimators.causal.aipw import aipw, sensitivity_bounds
from crmresearch.estimators.causal.selection import bivariate_normal, censored_selection, two_step
from crmresearch.estimators.inference import logit_fit
from crmresearch.estimators.measurement import links
from crmresearch.estimators.spending.winning import selection_bound, win_model
from crmresearch.studies import cost

B1, B2, B0 = 1.6, -0.35, -1.1  # index of winning per 100 of spend


def prospects(n: int, seed: int, follow: float = 0.0) -> pd.DataFrame:
    """Prospects of one channel; with ``follow`` spend goes where winning is easy, which nobody records."""
    g = np.random.default_rng(seed)
    ease = g.standard_normal(n)
    spend = 85 * np.exp(0.5 * g.standard_normal(n) + follow * ease - (0.25 + follow**2) / 2)
    s = spend / 100
    won = B0 + B1 * s + B2 * s * s + ease > 0
    return pd.DataFrame({"block": np.arange(n), "channel": "a", "spend": spend, "won": won.astype(int)})


def truth(spend: np.ndarray) -> tuple[float, float]:
    """Mean derivative and mean second derivative of the win probability over these spends."""
    s = spend / 100
    index, g = B0 + B1 * s + B2 * s * s, B1 + 2 * B2 * s
    f = stats.norm.pdf(index)
    return float(np.mean(f * g) / 100), float(np.mean(f * (2 * B2 - index * g * g)) / 1e4)


# --- response to spend ----------------------------------------------------------------------------------------------


def test_response_covers_the_planted_derivatives():
    """40 draws at 95%: 33 or fewer covering has a chance below 0.4%."""
    slope, second = truth(prospects(400_000, 999)["spend"].to_numpy())
    hits = np.zeros(2)
    for seed in range(40):
        details = cost.response(prospects(3000, seed)).details
        for i, (name, value) in enumerate((("slope", slope), ("second", second))):
            low, high = details[name].interval()
            hits[i] += low <= value <= high
    assert (hits >= 34).all()


def test_a_curve_ends_where_ten_people_are_beyond():
    """The five largest spends are far from the rest: no end of the axis is one of them, or near."""
    frame = prospects(300, 3)
    frame.loc[frame.index[:5], "spend"] = [2_001.0, 3_002.0, 4_003.0, 5_004.0, 6_005.0]
    spend, tenth = frame["spend"].to_numpy(), rules.rules.least
    drawn = cost.response(frame).picture.data["x"]
    assert np.sort(spend)[tenth - 1] <= drawn.min() < drawn.max() <= np.sort(spend)[-tenth]
    share = links.spline_share(spend, frame["won"].to_numpy(float))["x"]
    assert np.sort(spend)[tenth - 1] <= share.min() < share.max() <= np.sort(spend)[-tenth]


def test_derivatives_of_the_curve_are_those_of_its_probabilities():
    frame = prospects(3000, 1)
    found = cost.response(frame)
    model = found.details["fits"]["a"]
    x, h = frame["spend"].to_numpy(), 0.01

    def p(s):
        return stats.norm.cdf(model.params[0] + model.params[1] * s + model.params[2] * s * s)

    assert found.details["slope"].value == pytest.approx(np.mean((p(x + h) - p(x - h)) / (2 * h)), rel=1e-6)
    assert found.details["second"].value == pytest.approx(np.mean((p(x + h) - 2 * p(x) + p(x - h)) / h**2), rel=1e-4)


def test_win_model_equals_statsmodels_with_robust_errors():
    import statsmodels.api as sm

    frame = prospects(2000, 2)
    x = np.column_stack([np.ones(2000), frame["spend"] / 100, (frame["spend"] / 100) ** 2])
    model = sm.Probit(frame["won"].to_numpy(), x)
    peer = model.fit(disp=0)
    alone = model.score_obs(peer.params) / (1 - peer.get_influence().hat_matrix_diag)[:, None]
    bread = np.linalg.inv(model.hessian(peer.params))
    jackknife = np.sqrt(np.diag(bread @ alone.T @ alone @ bread))
    found = win_model(frame)
    unit = np.array([1, 100, 1e4])
    assert found.params * unit == pytest.approx(peer.params, rel=1e-6)
    assert found.loglik == pytest.approx(peer.llf, rel=1e-9)
    # statsmodels takes the observed, we the expected information in the outer parts
    assert np.sqrt(np.diag(found.covariance)) * unit == pytest.approx(jackknife, rel=0.05)


def test_naive_curve_is_wrong_where_spend_follows_ease_and_the_bound_is_right():
    """Naive off in at least 95% of draws; the right correlation recovers; without following nothing is off."""
    slope, _ = truth(prospects(400_000, 999, 0.5)["spend"].to_numpy())
    off = recovered = 0
    for seed in range(20):
        frame = prospects(3000, seed, 0.5)
        low, high = cost.response(frame).details["slope"].interval()
        off += not low <= slope <= high
        recovered += abs(selection_bound(frame, 0.5 / np.sqrt(0.5))[0].value - slope) < (high - low)
    assert off >= 19
    assert recovered >= 18
    frame = prospects(3000, 1)
    assert selection_bound(frame, 0.0)[0].value == pytest.approx(cost.response(frame).details["slope"].value, rel=1e-6)


def test_selection_of_spend_is_declared_unless_it_was_drawn():
    frame = prospects(3000, 3)
    assert cost.response(frame).checks[0].status == "declared"
    assert cost.response(frame.assign(spend_randomised=True)).checks[0].status == "open"
    assert cost.response(frame.assign(spend_randomised=[True] * 2999 + [False])).checks[0].status == "declared"


def test_a_negative_square_alone_does_not_mean_diminishing_returns():
    """Few are won: the probit is convex there, and the mean second derivative positive in spite of the square."""
    g = np.random.default_rng(5)
    spend = g.uniform(20, 120, 40_000)
    won = -2.5 + 1.2 * spend / 100 - 0.10 * (spend / 100) ** 2 + g.standard_normal(40_000) > 0
    frame = pd.DataFrame({"block": np.arange(40_000), "channel": "a", "spend": spend, "won": won.astype(int)})
    found = cost.response(frame)
    assert found.estimates["S04"].ci_low > 0
    assert "returns grow" in found.sentence


def test_marginal_cost_is_undefined_when_spend_does_nothing():
    g = np.random.default_rng(6)
    frame = prospects(1000, 6).assign(won=(g.random(1000) < 0.3).astype(int))
    row = cost.response(frame).table.iloc[0]
    assert row["note"] == "marginal cost undefined: the interval of the slope of winning over spend includes 0"


def test_channels_without_variation_or_wins_have_an_answer():
    frame = pd.concat(
        [
            prospects(1000, 7),
            prospects(100, 8).assign(channel="free", spend=0.0),
            prospects(100, 9).assign(channel="none", won=0),
            prospects(100, 10).assign(channel="flat", spend=50.0),
            prospects(1, 11).assign(channel="single"),
        ],
        ignore_index=True,
    ).assign(block=lambda f: np.arange(len(f)))
    told = cost.response(frame).table.set_index("channel")
    assert told.loc["other, fewer than 10", "suppressed"] == "too few people"  # the single prospect
    note = cost.response(frame[frame["channel"] != "single"]).table.set_index("channel")["note"]
    assert note["free"].startswith("nothing was spent")
    assert note["none"] == "fewer than 10 wins: no curve fitted"
    assert "at least three" in note["flat"]
    assert note["a"] == ""


def test_win_model_refuses_what_it_cannot_fit():
    frame = prospects(500, 12)
    with pytest.raises(FitError, match="none of 500 prospects were won"):
        win_model(frame.assign(won=0))
    with pytest.raises(FitError, match="separates won from lost"):
        win_model(frame.assign(won=(frame["spend"] > 80).astype(int)))
    with pytest.raises(FitError, match="twice = combination of spend"):
        win_model(frame.assign(twice=2 * frame["spend"]), ("twice",))
    with pytest.raises(InputError, match="spend is negative in 1 rows"):
        cost.response(frame.assign(spend=frame["spend"].where(frame.index > 0, -1.0)))


# --- selection --------------------------------------------------------------------------------------------------


def test_bivariate_normal_equals_scipy():
    g = np.random.default_rng(13)
    for rho in (-0.95, -0.5, 0.0, 0.3, 0.9):
        h, k = g.uniform(-3, 3, 8), g.uniform(-3, 3, 8)
        peer = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        assert bivariate_normal(h, k, rho) == pytest.approx(
            [peer.cdf([a, b]) for a, b in zip(h, k, strict=True)], abs=1e-7
        )


def selected(n: int, seed: int, rho: float, censor: float = np.inf) -> pd.DataFrame:
    """Winning depends on a randomised z; log duration on x; their errors are correlated."""
    g = np.random.default_rng(seed)
    z, x = g.standard_normal(n), g.standard_normal(n)
    u = g.standard_normal(n)
    e = rho * u + np.sqrt(1 - rho**2) * g.standard_normal(n)
    won = 0.2 + 0.8 * z + 0.3 * x + u > 0
    y = 2.0 + 0.5 * x + 0.7 * e
    ended = y < censor
    frame = pd.DataFrame({"block": np.arange(n), "won": won.astype(int), "z": z, "x": x})
    frame["y"] = np.where(won, np.minimum(y, censor), np.nan)
    frame["ended"] = np.where(won, ended, np.nan)
    return frame


def test_two_step_equals_probit_and_least_squares_of_statsmodels():
    import statsmodels.api as sm

    frame = selected(2000, 14, 0.6)
    probit = sm.Probit(frame["won"], sm.add_constant(frame[["z", "x"]])).fit(disp=0)
    index = np.asarray(probit.fittedvalues)[frame["won"] == 1]
    own = frame[frame["won"] == 1].assign(imr=stats.norm.pdf(index) / stats.norm.cdf(index))
    peer = sm.OLS(own["y"], sm.add_constant(own[["x", "imr"]])).fit()
    found = two_step(frame, ("z", "x"), "y", ("x",))
    assert found.outcome.to_numpy() == pytest.approx(peer.params.to_numpy(), rel=1e-6)
    assert found.se_outcome.to_numpy() == pytest.approx(peer.bse.to_numpy(), rel=1e-6)
    assert found.won.to_numpy() == pytest.approx(probit.params.to_numpy(), rel=1e-6)


@pytest.mark.parametrize("censor", [np.inf, 2.3])
def test_selection_likelihood_covers_the_truth_and_the_naive_fit_does_not(censor):
    """24 draws at 95%: 19 or fewer has a chance of 1%. Durations are censored in about a third of the won."""
    hits, naive_off = np.zeros(3), 0
    for seed in range(24):
        frame = selected(1500, seed, 0.6, censor)
        fit = censored_selection(frame, ("z", "x"), "y", ("x",), "ended")
        for i, (name, value) in enumerate((("intercept", 2.0), ("x", 0.5))):
            hits[i] += abs(fit.outcome[name] - value) < 1.96 * fit.se_outcome[name]
        hits[2] += fit.rho_interval[0] <= 0.6 <= fit.rho_interval[1]
        own = frame[frame["won"] == 1]
        x = np.column_stack([np.ones(len(own)), own["x"]])
        b, res, *_ = np.linalg.lstsq(x, own["y"], rcond=None)
        se = np.sqrt(res[0] / len(own) * np.linalg.inv(x.T @ x)[0, 0])
        naive_off += abs(b[0] - 2.0) > 1.96 * se
    assert (hits >= 20).all()
    if np.isinf(censor):  # with censoring the naive fit has a second bias, which may cancel part of the first
        assert naive_off >= 23


def test_both_routes_agree_without_censoring():
    frame = selected(20_000, 15, 0.5)
    full = censored_selection(frame, ("z", "x"), "y", ("x",), "ended")
    step = two_step(frame, ("z", "x"), "y", ("x",))
    assert full.outcome["x"] == pytest.approx(step.outcome["x"], abs=3 * full.se_outcome["x"])
    assert full.rho * full.sigma == pytest.approx(step.outcome["imr"], abs=0.05)  # rho sigma = .35, se about .02
    assert full.loglik > -np.inf


def test_joint_study_tests_its_exclusion_and_declares_what_it_cannot():
    g = np.random.default_rng(16)
    frame = selected(2500, 16, 0.5, 2.5).rename(columns={"y": "log_months", "z": "spend"})
    frame = frame.assign(profit=3 + frame["x"] + g.standard_normal(2500), spend_squared=frame["spend"] ** 2)
    found = cost.jointly(frame, resamples=20)
    assert [c.status for c in found.checks] == ["open", "declared"]
    noise = np.random.default_rng(17).standard_normal(2500)
    assert cost.jointly(frame.assign(spend=noise, spend_squared=noise**2), resamples=20).checks[0].status == "closed"
    nothing = cost.jointly(frame.assign(spend=0.0, spend_squared=0.0), resamples=20)
    assert "every prospect cost the same" in nothing.sentence  # no inverse: the run failed
    few = cost.jointly(frame.head(80))
    assert "100 won and 100 lost" in few.sentence


# --- campaigns ----------------------------------------------------------------------------------------------------


def campaign(n: int, seed: int, slope: float = 1.0, effect: float = -0.5) -> pd.DataFrame:
    """One randomised and one targeted campaign on the same customers; risk is recorded in x_risk."""
    g = np.random.default_rng(seed)
    parts = []
    for name, chance in (("drawn", None), ("aimed", slope)):
        risk = g.standard_normal(n)
        treated = g.random(n) < (0.5 if chance is None else 1 / (1 + np.exp(-chance * risk)))
        rate = 0.12 * np.exp(0.8 * risk + effect * treated)
        months = g.exponential(12 / rate)
        parts.append(
            pd.DataFrame(
                {
                    "block": np.arange(n), "campaign_id": name, "arm": np.where(treated, "offer", "control"),
                    "treated": treated.astype(int), "randomised": chance is None, "cost": 20.0 * treated,
                    "left": (months < 36).astype(int), "months": np.minimum(months, 36), "x_risk": risk,
                    "responded": np.where(treated, (g.random(n) < 0.4).astype(float), np.nan),
                    "value_before": g.gamma(2, 50, n),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def effect_of(effect: float = -0.5) -> float:
    risk = np.random.default_rng(99).standard_normal(400_000)
    rate = 0.12 * np.exp(0.8 * risk)
    return float(np.mean(np.exp(-rate) - np.exp(-rate * np.exp(effect))))


def test_intention_to_treat_and_doubly_robust_cover_and_the_plain_difference_does_not():
    """30 draws at 95%: 24 or fewer has a chance of 0.3%. The offer helps; the plain difference says it harms."""
    value, hits, naive_off, naive_off_untargeted = effect_of(), np.zeros(2), 0, 0
    for seed in range(30):
        frame = campaign(2500, seed)
        itt = cost.saved(frame).estimates["S42"]
        fit = cost.targeted(frame)
        hits += [
            itt.ci_low <= value <= itt.ci_high,
            fit.estimates["targeted"].ci_low <= value <= fit.estimates["targeted"].ci_high,
        ]
        plain = fit.table.iloc[0]
        naive_off += not plain["ci_low"] <= value <= plain["ci_high"]
        plain = cost.targeted(campaign(2500, seed, slope=0.0)).table.iloc[0]
        naive_off_untargeted += not plain["ci_low"] <= value <= plain["ci_high"]
    assert (hits >= 25).all()
    assert naive_off >= 29
    assert naive_off_untargeted <= 5


def test_uplift_and_rules_say_that_a_sample_was_studied():
    whole, frame = campaign(3000, 5), campaign(3000, 5)
    frame.attrs["one_in"] = 3.0
    for result in (cost.uplift(frame), cost.policies(frame, value_saved=500.0)):
        assert result.sentence.endswith(
            "One customer in 3 was studied, drawn by hash; counts and intervals are those of that sample."
        )
    assert "was studied" not in cost.uplift(whole).sentence


def test_doubly_robust_equals_statsmodels():
    import statsmodels.api as sm
    from statsmodels.treatment.treatment_effects import TreatmentEffect

    frame = campaign(3000, 20).query("campaign_id == 'aimed'").reset_index(drop=True)
    years = np.minimum(frame["months"].to_numpy(), 12) / 12
    x = pd.DataFrame({"const": 1.0, "risk": (frame["x_risk"] - frame["x_risk"].mean()) / frame["x_risk"].std(ddof=0)})
    peer = TreatmentEffect(sm.OLS(years, x), frame["treated"].to_numpy(), sm.Logit(frame["treated"], x).fit(disp=0))
    found = aipw(frame, years, ("x_risk",), 3000)
    found_peer = peer.aipw()
    assert found.effect.value == pytest.approx(found_peer.effect[0], abs=1e-6)  # a ridge of 1e-6 keeps our logit finite
    # statsmodels stacks the moments of all models, ours is the efficient influence function: equal to first order
    assert found.effect.se == pytest.approx(found_peer.results_gmm.bse[0], rel=0.02)
    weighting = peer.ipw()
    assert found.weighted.value == pytest.approx(weighting.effect[0], abs=1e-6)
    assert found.weighted.se == pytest.approx(weighting.results_gmm.bse[0], rel=1e-3)  # stacked moments on both sides
    # of regression alone statsmodels returns no error here (not a number): the next test resamples
    assert found.regressed.value == pytest.approx(peer.ra(return_results=False)[0], abs=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_weighting_and_regression_have_the_errors_of_a_bootstrap(binary):
    """A standard deviation of 200 resamples is known to 5%; 15% is three of that."""
    frame = campaign(2500, 21).query("campaign_id == 'aimed'").reset_index(drop=True)
    months, blocks = frame["months"].to_numpy(), int(frame["block"].max()) + 1
    y = ((frame["left"] == 1) & (months <= 12)).to_numpy(float) if binary else np.minimum(months, 12) / 12
    found, g, drawn = aipw(frame, y, ("x_risk",), blocks), np.random.default_rng(3), []
    for _ in range(200):
        rows = g.integers(0, len(frame), len(frame))
        again = aipw(frame.iloc[rows], y[rows], ("x_risk",), blocks)
        drawn.append([again.weighted.value, again.regressed.value])
    spread = np.std(drawn, axis=0, ddof=1)
    assert found.weighted.se == pytest.approx(spread[0], rel=0.15)
    assert found.regressed.se == pytest.approx(spread[1], rel=0.15)


def test_logit_fit_equals_statsmodels():
    import statsmodels.api as sm

    g = np.random.default_rng(21)
    x = np.column_stack([np.ones(800), g.standard_normal((800, 2))])
    y = (g.random(800) < 1 / (1 + np.exp(-x @ [0.3, 1.0, -0.5]))).astype(float)
    assert logit_fit(x, y, ridge=0.0).params == pytest.approx(sm.Logit(y, x).fit(disp=0).params, rel=1e-7)


def test_models_refuse_collinear_columns_and_missing_values():
    frame = campaign(500, 23).query("campaign_id == 'aimed'").reset_index(drop=True)
    left = (frame["months"] <= 12).to_numpy(float)
    with pytest.raises(InputError, match=r"x_twice = combination of|x_risk = combination of"):
        aipw(frame.assign(x_twice=2 * frame["x_risk"] + 1), left, ("x_risk", "x_twice"), 500)
    with pytest.raises(InputError, match="3 rows without x_risk"):
        aipw(frame.assign(x_risk=frame["x_risk"].where(frame.index >= 3)), left, ("x_risk",), 500)
    with pytest.raises(InputError, match="outcome is missing"):
        aipw(frame, np.where(frame.index < 3, np.nan, left), ("x_risk",), 500)
    lost = selected(400, 3, 0.5).assign(other=lambda f: 1 - f["x"])
    for route in (two_step, lambda *a: censored_selection(*a, "ended")):
        with pytest.raises(InputError, match="combination of"):
            route(lost, ("z", "x", "other"), "y", ("x", "other"))
    with pytest.raises(InputError, match="2 rows without spend"):
        win_model(prospects(500, 4).assign(spend=lambda f: f["spend"].where(f.index > 1)))


def test_overlap_gate_closes_without_comparable_customers_and_stays_open_with_them():
    assert [c.status for c in cost.targeted(campaign(3000, 22)).checks] == ["open", "declared"]
    assert cost.targeted(campaign(3000, 22, slope=12.0)).checks[0].status == "closed"
    stayed = campaign(3000, 22).assign(left=0, months=36)
    assert "so no offer can have kept anybody" in cost.targeted(stayed).sentence  # effects were 1e-6 [1e-7, 2e-6]


def test_sensitivity_bounds_equal_the_extremes_over_all_corners():
    """The optimum of a ratio linear in the weights lies in a corner of the box: try all 2^n of them."""
    g = np.random.default_rng(23)
    n, odds = 8, 1.7
    t, y, e = np.array([1, 0] * 4), np.array([1, 1, 0, 0, 1, 0, 0, 1.0]), g.uniform(0.2, 0.8, n)
    values = []
    for corner in itertools.product((1 / odds, odds), repeat=n):
        lam = np.array(corner)
        w1, w0 = t * (1 + lam * (1 / e - 1)), (1 - t) * (1 + lam * (1 / (1 - e) - 1))
        values.append((w1 @ y) / w1.sum() - (w0 @ y) / w0.sum())
    assert sensitivity_bounds(t, y, e, odds) == pytest.approx((min(values), max(values)))


def test_sensitivity_bounds_start_at_weighting_and_grow():
    frame = campaign(3000, 24).query("campaign_id == 'aimed'").reset_index(drop=True)
    left = (frame["months"] <= 12).to_numpy(float)
    fit = aipw(frame, left, ("x_risk",), 3000)
    t = frame["treated"].to_numpy(float)
    low, high = sensitivity_bounds(t, left, fit.propensity, 1.0)
    assert (low, high) == pytest.approx((fit.weighted.value, fit.weighted.value))
    wider = sensitivity_bounds(t, left, fit.propensity, 1.5)
    assert wider[0] < low < wider[1]
    with pytest.raises(InputError, match="at least 1"):
        sensitivity_bounds(t, left, fit.propensity, 0.5)


def test_complier_effect_is_the_wald_ratio():
    table = cost.saved(campaign(3000, 25)).table.set_index("quantity")["value"]
    ratio = table["difference (intention to treat)"] / table["share who took the offer up"]
    assert table["complier effect on exit incidence"] == pytest.approx(ratio)


def test_money_per_customer_saved_is_unbounded_when_nobody_is_saved():
    frame = campaign(1500, 26, effect=0.0)
    row = cost.saved(frame).table.set_index("quantity").loc["spend per customer saved"]
    assert row["set"].startswith("below") or row["set"] == "unbounded"
    assert np.isinf(row["ci_high"])


def test_short_follow_up_and_missing_controls_are_said():
    frame = campaign(1500, 27)
    with pytest.raises(InputError, match="followed for less than 48 months"):
        cost.saved(frame, horizon_months=48)
    assert "with a control group" in cost.saved(frame[(frame["treated"] == 1)]).sentence
    assert "no targeted campaign" in cost.targeted(frame[frame["randomised"]]).sentence
    with pytest.raises(InputError, match="cost is negative in 1 rows"):
        cost.saved(frame.assign(cost=frame["cost"].where(frame.index > 0, -1.0)))


def test_offers_without_a_recorded_cost_have_no_price():
    free = campaign(3000, 25).assign(cost=0.0)
    for found in (cost.saved(free), cost.targeted(free)):
        assert np.isfinite(found.table[["ci_low", "ci_high"]].to_numpy(float)).all()  # 0 [-inf, inf] a customer saved
    assert "No cost of the offers is recorded" in cost.saved(free).sentence
