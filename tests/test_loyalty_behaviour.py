"""From words to behaviour: planted truth on frames made by hand, naive against remedy."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit
from crmresearch.estimators.measurement.panel import answers_with_accounts
from crmresearch.estimators.measurement.referral import matched, stay_gap
from crmresearch.estimators.measurement.response import _ipw_mean, gamma_bounds
from crmresearch.studies import loyalty

BLOCKS = {c: [f"{c}_{i}" for i in range(1, 5)] for c in ("quality", "satisfaction", "loyalty", "concern")}
MODEL = PathModel(BLOCKS, [("quality", "satisfaction"), ("satisfaction", "loyalty")])
LOADING = 0.9


def items(rng, latent):
    """Four items per construct, loading .9."""
    noise = np.sqrt(1 - LOADING**2)
    return pd.DataFrame(
        {i: LOADING * latent[c] + noise * rng.normal(size=len(latent)) for c, block in BLOCKS.items() for i in block}
    )


def joined(n, seed, log_hr=-0.4, money=30.0, log_rate=0.5, silent_by=0.0):
    """Survey joined to accounts: one answer per customer, hazard, contribution and referrals driven by satisfaction."""
    rng = np.random.default_rng(seed)
    latent = pd.DataFrame({c: rng.normal(size=n) for c in BLOCKS})
    age = rng.normal(45, 12, n)
    latent["satisfaction"] = 0.5 * latent["quality"] + 0.03 * (age - 45) + 0.79 * latent["satisfaction"]
    latent["loyalty"] = 0.5 * latent["satisfaction"] + 0.85 * latent["loyalty"]
    s = latent["satisfaction"].to_numpy()
    months = rng.exponential(1 / (0.01 * np.exp(log_hr * s)))
    before = rng.normal(200, 80, n)
    frame = items(rng, latent).assign(
        customer_id=[f"C{i}" for i in range(n)],
        wave=1,
        age=age,
        tenure_years=rng.exponential(5, n),
        balance=np.exp(rng.normal(9, 1, n)),
        contribution_before=before,
        contribution_after=before + money * s + rng.normal(0, 60, n),
        exit_months=np.minimum(months, 24.0),
        event=(months < 24).astype(int),
        left=(months < 12).astype(float),
        switch_chance=np.clip(np.rint(100 * 2 * (1 - np.exp(-0.12 * np.exp(log_hr * s)))), 0, 100),
        referrals=rng.poisson(0.2 * np.exp(log_rate * s)),
        exposure_years=1.0,
        other_banks=rng.poisson(np.exp(-0.3 * s)),
        consent_marketing=np.where(rng.random(n) < 1 / (1 + np.exp(latent["concern"] - 1)), "yes", "no"),
    )
    chance = 1 / (1 + np.exp(-(0.2 + 0.05 * (age - 45) + silent_by * s)))
    frame["responded"] = rng.random(n) < chance
    return frame


def test_hazard_of_leaving():
    e = loyalty.exit_hazard(joined(6000, 1).assign(responded=True), MODEL).finding("S12a")
    # a score with reliability .94 and unit variance; attenuation and age leave about .96 of the planted -.4 x sd of s
    assert e.ci_low < np.exp(-0.4) * 1.03
    assert e.ci_high > np.exp(-0.4) * 0.97
    assert e.ci_high < 1
    null = loyalty.exit_hazard(joined(4000, 2, log_hr=0.0).assign(responded=True), MODEL).finding("S12a")
    assert abs(np.log(null.value)) < 3.3 * null.se / null.value  # one chance in a thousand


def test_lag_leaves_early_exits_out():
    frame = joined(3000, 3).assign(responded=True)
    table = loyalty.exit_hazard(frame, MODEL).table
    assert list(table["lag"]) == ["1 month after", "3 months after", "6 months after"]
    assert list(table["n"]) == [int((frame["exit_months"] > lag).sum()) for lag in (1, 3, 6)]


def test_contribution_after_the_survey():
    frame = joined(3000, 4).assign(responded=True)
    e = loyalty.later_contribution(frame, MODEL).finding("S12")
    scores = answers_with_accounts(frame, MODEL)["satisfaction"]
    # 30 per latent deviation: times the reliability (.94, less what age explains) and the spread of the latent score
    assert e.value == pytest.approx(28.5, abs=3.5)
    assert len(scores) == 3000
    assert loyalty.later_contribution(frame.drop(columns="contribution_after"), MODEL).missing is not None
    heavy = frame.copy()
    heavy.loc[heavy.index[0], "contribution_after"] = 5e6
    checks = {c.name: c.status for c in loyalty.later_contribution(heavy, MODEL).checks}
    assert checks["no dominating customer"] == "closed"


def test_intention_against_behaviour():
    result = loyalty.intention_behaviour(joined(20_000, 5))
    e = result.estimates["stated_over_actual"]
    assert e.ci_low < 2.0 < e.ci_high
    assert (e.ci_high - e.ci_low) < 0.25
    fewer = joined(200, 5).drop(columns="switch_chance")
    assert "asks for no chance of leaving" in loyalty.intention_behaviour(fewer).sentence
    answers = joined(200, 5)
    answers["left"] = (np.arange(len(answers)) < 5).astype(float)
    few = loyalty.intention_behaviour(answers)
    assert "too few of" in few.sentence  # 2.5% of 200, and how many times that was stated, give five people back
    assert few.estimates == {}


def test_referral_rate_is_a_rate():
    frame = joined(6000, 6).assign(responded=True)
    result = loyalty.referral_rate(frame, MODEL)
    e = result.finding("S44")
    assert e.ci_low < np.exp(0.5 * 0.97) < e.ci_high
    # twice the exposure with the same counts is half the rate for everybody: the ratio does not move
    double = loyalty.referral_rate(frame.assign(exposure_years=2.0), MODEL).finding("S44")
    assert double.value == pytest.approx(e.value, abs=1e-6)
    assert loyalty.referral_rate(frame.assign(referrals=0), MODEL).missing is not None


def test_response_weights_remove_what_accounts_explain_and_bounds_hold_the_rest():
    """Rule 6: the naive interval misses, the remedy covers; switched off, the naive bias vanishes."""
    naive, weighted, bounds = [], [], []
    for seed in range(20):
        frame = joined(3000, 50 + seed)
        truth = frame[BLOCKS["satisfaction"]].mean(axis=1).mean()
        shown = frame.copy()
        shown.loc[~shown["responded"], [i for b in BLOCKS.values() for i in b]] = np.nan
        e = loyalty.nonresponse(shown, MODEL).estimates
        naive.append(_covers(e["satisfaction_completers"], truth))
        weighted.append(_covers(e["satisfaction_mean"], truth))
        hidden = joined(3000, 50 + seed, silent_by=0.5)
        truth = hidden[BLOCKS["satisfaction"]].mean(axis=1).mean()
        hidden.loc[~hidden["responded"], [i for b in BLOCKS.values() for i in b]] = np.nan
        e = loyalty.nonresponse(hidden, MODEL, gamma=3).estimates
        bounds.append(_covers(e["satisfaction_bounds"], truth) and not _covers(e["satisfaction_mean"], truth))
    assert sum(naive) <= 1
    assert sum(weighted) >= 17  # 17 of 20 happen with probability .98 at a coverage of .95
    assert sum(bounds) == 20
    assert loyalty.nonresponse(joined(500, 1).assign(responded=True), MODEL).missing is not None
    with pytest.raises(InputError, match="gamma is"):
        loyalty.nonresponse(shown, MODEL, gamma=0.5)


def _covers(e, truth):
    return e.ci_low <= truth <= e.ci_high


def test_naive_bias_vanishes_with_the_mechanism():
    frame = joined(20_000, 90)
    frame["responded"] = np.random.default_rng(3).random(20_000) < 0.5
    truth = frame[BLOCKS["satisfaction"]].mean(axis=1).mean()
    frame.loc[~frame["responded"], [i for b in BLOCKS.values() for i in b]] = np.nan
    e = loyalty.nonresponse(frame, MODEL).estimates["satisfaction_completers"]
    assert _covers(e, truth)


def test_gamma_bounds_by_search():
    """The closed form equals the best of all corners of the weights."""
    rng = np.random.default_rng(1)
    y, w = rng.normal(size=8), 1 + rng.exponential(size=8)
    corners = np.array(np.meshgrid(*[(1 + (v - 1) / 2, 1 + (v - 1) * 2) for v in w])).reshape(8, -1).T
    means = corners @ y / corners.sum(axis=1)
    assert gamma_bounds(y, w, 2.0) == pytest.approx((means.min(), means.max()), abs=1e-12)
    assert gamma_bounds(y, w, 1.0) == pytest.approx([w @ y / w.sum()] * 2)


def test_weighted_error_against_resampling():
    rng = np.random.default_rng(2)
    n = 800
    x = rng.normal(size=(n, 1))
    y = x[:, 0] + rng.normal(size=n)
    answered = rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))

    def mean(rows):
        fit = fit_ordered_logit(x[rows], answered[rows].astype(int))
        p = 1 / (1 + np.exp(-(x[rows] @ fit.slopes - fit.cuts[0])))
        return _ipw_mean(x[rows], answered[rows], y[rows], p, np.arange(len(rows)))

    _, se = mean(np.arange(n))
    spread = np.std([mean(rng.integers(0, n, n))[0] for _ in range(200)])
    assert se == pytest.approx(spread, rel=0.2)  # 200 resamples know a standard deviation to 5%; two of them


def panel(n, seed, feedback):
    """Three waves: satisfaction and loyalty persist, loyalty feeds back by ``feedback``."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=n)
    loyal = 0.5 * s + 0.85 * rng.normal(size=n)
    frames = []
    for wave in (1, 2, 3):
        latent = pd.DataFrame({"quality": rng.normal(size=n), "satisfaction": s, "loyalty": loyal, "concern": 0.0})
        frames.append(items(rng, latent).assign(customer_id=np.arange(n), wave=wave, responded=rng.random(n) < 0.7))
        s = 0.4 * s + feedback * loyal + 0.8 * rng.normal(size=n)
        loyal = 0.5 * s + 0.3 * loyal + 0.7 * rng.normal(size=n)
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("feedback", [0.0, 0.2])
def test_cross_lagged_direction(feedback):
    frame = panel(3000, 7, feedback)
    core = MODEL.only("satisfaction", "loyalty")
    result = loyalty.cross_lagged(frame, core, resamples=100, seed=1)
    e = result.estimates["loyalty_to_later_satisfaction"]
    # standardised: times the ratio of the latent standard deviations of two consecutive waves, within 10% of 1
    assert e.ci_low - 0.02 < feedback < e.ci_high + 0.02
    assert (e.ci_low > 0) == (feedback > 0)
    other = result.estimates["satisfaction_to_later_loyalty"]
    assert other.ci_low > 0.1  # .5 x .4


def test_drift_is_the_change_of_those_who_answered_twice():
    """Concern rises by .2 a year and banks by .1; customers who join later with high concern move nothing."""
    rng = np.random.default_rng(3)
    n = 1500
    frames = []
    own, banks = rng.normal(size=n), rng.poisson(1.0, n)
    for wave, year in enumerate((2021, 2022), start=1):
        latent = pd.DataFrame({c: rng.normal(size=n) for c in BLOCKS}).assign(concern=own + 0.2 * (wave - 1))
        own_answers = items(rng, latent).assign(customer_id=np.arange(n), wave=wave, responded=True)
        own_answers["other_banks"] = banks + (wave - 1) * rng.binomial(1, 0.1, n)
        frames.append(own_answers.assign(wave_on=pd.Timestamp(year, 3, 1)))
    late = items(rng, pd.DataFrame({c: rng.normal(size=500) for c in BLOCKS}).assign(concern=3.0))
    extra = {"customer_id": n + np.arange(500), "wave": 2, "responded": True, "other_banks": 9}
    frames.append(late.assign(**extra, wave_on=pd.Timestamp(2022, 3, 1)))
    frame = pd.concat(frames, ignore_index=True)
    result = loyalty.drift(frame, MODEL)
    concern, used = result.finding("S16"), result.finding("S48")
    assert concern.n == n
    scale = answers_with_accounts(frame, MODEL)["privacy"].std()
    assert scale == pytest.approx(1, abs=0.01)  # scores are standardised over both waves, the latecomers included
    assert concern.ci_low > 0
    assert used.ci_low < 0.1 < used.ci_high
    without = loyalty.drift(frame.drop(columns="other_banks"), MODEL)
    assert not without.finding("S48")  # Missing, with the reason
    assert without.finding("S16").value == concern.value


def test_error_in_satisfaction_does_not_look_like_feedback():
    """Without the reliability correction, loyalty stands in for what satisfaction's error hides."""
    frame = panel(4000, 8, 0.0)
    noisy = frame.copy()
    rng = np.random.default_rng(9)
    noisy[BLOCKS["satisfaction"]] += 2.5 * rng.normal(size=(len(frame), 4))
    core = MODEL.only("satisfaction", "loyalty")
    e = loyalty.cross_lagged(noisy, core, resamples=100, seed=1)
    e = e.estimates["loyalty_to_later_satisfaction"]
    assert e.ci_low < 0 < e.ci_high
    answers = answers_with_accounts(noisy, core)
    later = answers[["customer_id", "wave", "satisfaction"]].assign(wave=answers["wave"] - 1)
    pairs = answers.merge(later, on=["customer_id", "wave"], suffixes=("", "_next"))
    design = np.column_stack([np.ones(len(pairs)), pairs["satisfaction"], pairs["loyalty"]])
    naive = np.linalg.lstsq(design, pairs["satisfaction_next"], rcond=None)[0][2]
    assert naive > 0.05


def test_changes_within_customers():
    frame = panel(2000, 10, 0.0)
    core = MODEL.only("satisfaction", "loyalty")
    table = loyalty.changes(frame, core).table
    assert list(table["outcome"]) == ["loyalty"]
    assert table["low"].iloc[0] > 0
    assert "customers answered two consecutive waves" in loyalty.changes(frame[frame["wave"] == 1], core).sentence
    e = loyalty.change_asymmetry(frame, core).estimates["asymmetry"]
    assert abs(e.value) < 3.3 * e.se  # one chance in a thousand: the panel is linear


def test_privacy_and_other_banks():
    frame = joined(4000, 11).assign(responded=True)
    consent = loyalty.privacy_behaviour(frame, MODEL).table.set_index("outcome")
    row = consent.loc["consent to marketing"]
    assert row["low"] < np.exp(-0.97) < row["high"]  # log odds -1 per latent deviation, score reliability .94
    banks = loyalty.other_banks(frame, MODEL).estimates["S48a"]
    assert banks.ci_high < 0
    assert loyalty.other_banks(frame.drop(columns="other_banks"), MODEL).missing is not None
    for share in (0.0, np.linspace(0, 1, len(frame))):
        used = loyalty.privacy_behaviour(frame.assign(digital_share=share), MODEL).estimates["S16c"]
        assert isinstance(used, Missing) == np.isscalar(share)  # no channel is known as digital: 0 [0, 0] refuted S16c


def won(n, seed, log_hr=-0.3, gap=(60.0, 20.0, 0.0)):
    """Customers with a referral flag that depends on the cell, and effects planted beside those of the cell."""
    rng = np.random.default_rng(seed)
    tier, band, cohort = rng.integers(1, 4, n), rng.integers(1, 4, n), rng.integers(4042, 4048, n)
    flag = rng.random(n) < 0.1 + 0.1 * tier / 3
    months = rng.exponential(1 / (0.015 * np.exp(log_hr * flag + 0.3 * tier)))
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(n)],
            "referred": flag.astype(int),
            "cohort": cohort,
            "city_tier": tier,
            "age_band": band,
            "exit_months": np.minimum(months, 48.0),
            "event": (months < 48).astype(int),
        }
    )
    for year, extra in enumerate(gap, start=1):
        frame[f"contribution_{year}"] = 100 - 40 * tier + extra * flag + rng.normal(0, 150, n)
    return frame


def test_referred_against_matched_others():
    frame = won(8000, 12)
    result = loyalty.referral_gaps(frame, resamples=200, seed=1)
    a, b = result.finding("S44a"), result.finding("S44b")
    assert a.ci_low < np.exp(-0.3) < a.ci_high < 1
    assert b.ci_low < 60 < b.ci_high
    gaps = result.table.set_index(["gap", "year"])["estimate"]
    assert gaps["contribution", 1] > gaps["contribution", 2] > gaps["contribution", 3] - 15  # the gap fades
    assert (gaps["still a customer"] > 0).all()  # this one lasts
    # without matching, the referred look worse than they are: more of them live where everybody leaves
    naive = frame.groupby("referred")["contribution_1"].mean()
    assert naive[1] - naive[0] < b.value - 3


def test_stays_of_alike_customers_are_drawn_as_if_each_were():
    """Against Kaplan and Meier's curve of weighted customers, and a bootstrap of single ones (errors within 15%)."""
    rows, _ = matched(won(1500, 15))
    flag = rows["referred"].to_numpy(bool)
    cell = rows.groupby("cell")["referred"].agg(["sum", "size"])
    weight = np.where(flag, 1.0, rows["cell"].map(cell["sum"] / (cell["size"] - cell["sum"])))
    month, gone = np.ceil(rows["exit_months"]), rows["event"].astype(bool)

    def gap(count, year):
        w, stay = weight * count, []
        for side in (flag, ~flag):
            steps = [
                1 - w[side & (month == m) & gone].sum() / w[side & (month >= m)].sum() for m in range(1, 12 * year + 1)
            ]
            stay.append(np.prod(steps))
        return stay[0] - stay[1]

    rng = np.random.default_rng(3)
    drawn = [np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows)) for _ in range(200)]
    for year, found in stay_gap(rows, 2, resamples=2000, seed=1).items():
        assert found.value == pytest.approx(gap(np.ones(len(rows)), year), abs=1e-12)
        assert found.se == pytest.approx(np.std([gap(count, year) for count in drawn]), rel=0.15)


def test_referral_gaps_say_what_is_missing():
    few = loyalty.referral_gaps(won(150, 13), resamples=99, seed=1)
    assert not few.applicable
    bare = won(3000, 14)[["customer_id", "referred", "cohort", "city_tier", "age_band", "exit_months", "event"]]
    result = loyalty.referral_gaps(bare, resamples=99, seed=1)
    assert np.isnan(result.finding("S44b").value)
    assert np.isfinite(result.finding("S44a").value)


def test_every_figure_draws_and_is_described():
    frame = joined(1500, 15).assign(responded=lambda f: np.random.default_rng(1).random(len(f)) < 0.7)
    answers = loyalty.prepare_items(frame, MODEL)
    model = MODEL.connected
    discriminant = loyalty.htmt(answers, MODEL, resamples=50, seed=1)
    paths = loyalty.path_model(answers, model, gates=loyalty.path_gates(model, discriminant), resamples=50, seed=1)
    many, first = answers.round(), MODEL.constructs["loyalty"][0]
    top = np.random.default_rng(3).random(len(many)) < 0.4  # in every eighth as many as may be told
    many[first] = many[first].mask(top, many[first].max())
    results = [
        loyalty.item_summary(frame, MODEL),
        loyalty.reliability(answers, MODEL, resamples=50, seed=1),
        discriminant,
        loyalty.factor_models(answers, MODEL),
        loyalty.common_method(answers, MODEL, resamples=50, seed=1),
        paths,
        loyalty.effects(paths),
        loyalty.beside_sem(answers, model, paths, resamples=50, seed=1),
        loyalty.dose_response(many, MODEL, resamples=50, seed=1),
        loyalty.importance_performance(answers, MODEL, resamples=50, seed=1),
        loyalty.intention_behaviour(frame),
        loyalty.exit_hazard(frame, MODEL),
        loyalty.later_contribution(frame, MODEL),
        loyalty.nonresponse(frame, MODEL),
        loyalty.mediation(answers, MODEL, resamples=50, seed=1),
        loyalty.moderation(answers, MODEL),
        loyalty.referral_rate(frame, MODEL),
        loyalty.referral_gaps(won(3000, 16), resamples=99, seed=1),
    ]
    for result in results:
        assert result.applicable, result.sentence
        assert result.plot() is not None
        assert re.search(r"\d", result.alt)
        assert "nan" not in result.sentence
        assert not result.hidden
