"""Survival x margin: planted truth, coverage, holdout, accounting on fitted models, gates and refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from crmresearch.data.reductions import value as reductions
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import jackknife
from crmresearch.estimators.worth.forecasts import accuracy, deciles, naive_forecasts
from crmresearch.estimators.worth.margin import MarginModel, group_means, monthly_discount
from crmresearch.estimators.worth.stability import chain_value
from crmresearch.studies import value

MONTHS, HAZARD, MEAN, FOLDS = 72, 0.02, 10.0, 20


def world(n=1_500, seed=0, noise=2.0, band_effect=0.0, spread=5.0):
    """Customers with a constant chance to leave and a lasting deviation; presence and contribution by month.

    ``band_effect`` is the log hazard ratio per standard deviation of the lasting part.
    """
    rng = np.random.default_rng(seed)
    lasting = rng.normal(0, spread, n)
    start = rng.integers(-60, MONTHS, n)
    hazard = 1 - (1 - HAZARD) ** np.exp(band_effect * lasting / max(spread, 1e-9))
    life = rng.geometric(hazard)
    month = np.arange(MONTHS)
    here = (month >= start[:, None]) & (month < (start + life)[:, None])
    money = np.where(here, MEAN + lasting[:, None] + rng.normal(0, noise, here.shape), 0.0)
    seen = here.any(axis=1)
    return {"start": start[seen], "here": here[seen], "money": money[seen], "lasting": lasting[seen]}


def tenure_table(w, until):
    """What the reduction gives, by numpy."""
    customer, month = np.nonzero(w["here"][:, : until + 1])
    last = np.full(len(w["start"]), -1)
    np.maximum.at(last, customer, month)
    frame = pd.DataFrame(
        {
            "fold": customer % FOLDS,
            "tenure_month": month - w["start"][customer],
            "at_risk": month < until,
            "exits": (month == last[customer]) & (month < until),
            "contribution": w["money"][customer, month],
        }
    )
    grouped = frame.groupby(["fold", "tenure_month"])
    return grouped.agg(
        n=("exits", "size"), at_risk=("at_risk", "sum"), exits=("exits", "sum"), contribution=("contribution", "sum")
    ).reset_index()


def customers_at(w, now):
    who = np.flatnonzero(w["here"][:, now])
    spans = {"before": (now - 11, now), "all": (0, now), "after": (now + 1, now + 12), "second": (now + 13, now + 24)}
    frame = pd.DataFrame({"customer_id": who, "fold": who % FOLDS, "tenure": now - w["start"][who]})
    for name, (a, b) in spans.items():
        frame[f"months_{name}"] = w["here"][who, max(a, 0) : b + 1].sum(axis=1)
        frame[name] = w["money"][who, max(a, 0) : b + 1].sum(axis=1)
    return frame


def fitted(w, until=MONTHS - 1, at=MONTHS - 25):
    return value.fit_margin(tenure_table(w, until), customers_at(w, at))


def annuity(horizon, discount, hazard=HAZARD):
    k = np.arange(1, horizon + 1)
    return ((1 - hazard) ** k * (1 + discount) ** (-k / 12)).sum()


def test_value_recovers_the_closed_form():
    w = world(n=30_000, seed=1, noise=0.0)
    model, now = fitted(w), customers_at(w, MONTHS - 1)
    got = model.values(now, 36, 0.10, common=True)[0]
    truth = (MEAN + w["lasting"][now["customer_id"]]) * annuity(36, 0.10)
    # the curves are estimated from some 30,000 exits; slope and level within a hundredth
    slope, level = np.polyfit(truth, got, 1)
    assert slope == pytest.approx(1, abs=0.02)
    assert got.mean() == pytest.approx(truth.mean(), rel=0.02)
    assert level == pytest.approx(0, abs=0.02 * truth.mean() + 2)
    assert model.lasting[0] == pytest.approx([1, 1], abs=0.01)


def test_interval_of_the_mean_value_covers():
    """Rule 1 with 60 seeds and the 99.9% binomial interval."""
    seeds, hits, truth = 60, 0, MEAN * annuity(24, 0.1)
    for seed in range(seeds):
        w = world(n=900, seed=seed)
        result = value.clv_by_band(fitted(w), customers_at(w, MONTHS - 1), horizon_months=24, annual_discount=0.1)
        _, _, low, high = result.details["mean"]
        hits += low <= truth <= high
    assert hits == seeds or beta.ppf(0.9995, hits + 1, seeds - hits) >= 0.93, hits / seeds


def test_persistence_splits_chance_from_lasting_value():
    w = world(n=20_000, seed=2, noise=12.0)
    b, rho = fitted(w).lasting[0]
    # with twelve months each: 25 / (25 + 144 / 12); leavers and newcomers have fewer months, so it is a little lower
    assert 0.55 < b < 25 / 37 + 0.02
    assert rho == pytest.approx(1, abs=0.03)  # what is left after chance has gone does not fade


def test_band_hazards_are_found_and_split_from_margin():
    w = world(n=20_000, seed=3, band_effect=-0.5)
    result = value.clv_by_band(fitted(w), customers_at(w, MONTHS - 1), horizon_months=60, annual_discount=0.05)
    ratios = result.table["hazard ratio"].to_numpy()
    assert ratios[-1] < 0.7 < 1.1 < ratios[0]
    assert "the rest is survival" in result.sentence
    share = result.table.set_index("band")[["share of value", "share_low", "share_high"]]
    assert share["share of value"].sum() == pytest.approx(1, abs=1e-9)
    assert ((share["share_low"] < share["share of value"]) & (share["share of value"] < share["share_high"])).all()
    s57 = result.finding("gap")
    assert s57.value == pytest.approx(
        result.table["value per customer"].iloc[-1] - result.table["value per customer"].iloc[0]
    )
    assert s57.ci_low < s57.value < s57.ci_high
    assert len(result.details["customers"]) == len(customers_at(w, MONTHS - 1))
    assert result.plot() is not None


def test_discounting_convention():
    w = world(n=3_000, seed=4, noise=0.0, spread=0.0)
    model, now = fitted(w), customers_at(w, MONTHS - 1)
    plain, dear = (model.values(now, 12, d, common=True)[0].mean() for d in (0.0, 0.5))
    # month-end payments at an effective annual rate: the ratio is that of the two annuities
    assert dear / plain == pytest.approx(annuity(12, 0.5) / annuity(12, 0.0), rel=1e-3)
    assert monthly_discount(0.21) ** 12 == pytest.approx(1 / 1.21)


def test_late_entry_is_not_read_as_loyalty():
    """Dropping the months before observation, as late entry does, leaves the exit rate where it is."""
    table = value.tenure_curves(fitted(world(n=20_000, seed=5))).table
    shown = table[table["exits"] >= 100]
    np.testing.assert_allclose(shown["stay the year"], (1 - HAZARD) ** 12, atol=0.05)
    assert (shown["stay_low"] < (1 - HAZARD) ** 12).mean() > 0.8


def test_jackknife_equals_its_formula_and_covers_a_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, 400)
    groups = np.arange(400) % 20
    values = np.array([x.mean(), *(x[groups != g].mean() for g in range(20))])
    estimate, se, low, high = jackknife(values)
    assert estimate == x.mean()
    # for a mean with equal groups the jackknife is the standard error of the group means
    means = np.array([x[groups == g].mean() for g in range(20)])
    assert se == pytest.approx(means.std(ddof=1) / np.sqrt(20))
    assert high - estimate == pytest.approx(estimate - low)


def test_holdout_beside_naive_forecasts():
    w = world(n=4_000, seed=6, noise=15.0)
    split = MONTHS - 13
    model, frame = fitted(w, until=split, at=split - 24), customers_at(w, split)
    result = value.holdout(model, frame)
    table = result.table.set_index("method")
    best = table.loc["survival x margin"]
    assert best["level_low"] < 1 < best["level_high"]
    # the last year continued forgets that customers leave: a twelfth of a year's exits too much, and more
    assert table.loc["last year continued", "level_low"] > 1
    assert best["error"] < table.loc["last year continued", "error"]
    assert result.checks[0].status == "open"
    assert result.plot() is not None
    assert value.calibration(model, frame).plot() is not None


def test_accuracy_of_a_perfect_and_a_useless_forecast():
    rng = np.random.default_rng(7)
    actual, codes = rng.lognormal(3, 1, 1_000), np.arange(1_000) % 20
    table = accuracy({"perfect": actual, "flat": np.full(1_000, 2 * actual.mean())}, actual, codes).set_index("method")
    assert table.loc["perfect", ["level", "rank", "error"]].tolist() == pytest.approx([1, 1, 0])
    assert table.loc["flat", "level"] == pytest.approx(2)
    assert table.loc["flat", "rank"] == 0
    tenths = deciles(actual, actual)
    np.testing.assert_allclose(tenths["predicted"], tenths["actual"])
    with pytest.raises(InputError, match="1 customers without a forecast"):
        accuracy({"broken": np.where(codes == codes[3], actual, actual) * np.r_[np.nan, np.ones(999)]}, actual, codes)
    with pytest.raises(InputError, match="not positive"):
        accuracy({"x": actual}, -actual, codes)


def test_tenths_do_not_depend_on_the_order_of_equal_predictions():
    """CASES C4: equal predictions share a tenth, so sorting by the outcome moves no mean."""
    rng = np.random.default_rng(1)
    predicted, actual = rng.integers(0, 25, 4_000).astype(float), rng.normal(size=4_000)
    order = np.lexsort([actual, predicted])
    pd.testing.assert_frame_equal(deciles(predicted, actual), deciles(predicted[order], actual[order]))
    assert deciles(np.ones(50), np.arange(50.0))["n"].tolist() == [50]


def test_naive_forecasts_scale_to_a_year():
    frame = pd.DataFrame({"before": [60.0], "months_before": [6], "all": [100.0], "months_all": [20]})
    got = naive_forecasts(frame)
    assert got["last year continued"] == [120.0]
    assert got["mean of history"] == [60.0]


def test_whole_route_on_a_simulated_bank(small_bank):
    """Reductions, model, accounting and tracking fit together; the parts of equity add up."""
    end, split = reductions.month_end(small_bank), reductions.month_end(small_bank, 12)
    landmarks = [reductions.customers_at(small_bank, at=reductions.month_end(small_bank, k)) for k in (24, 36)]
    closing = value.fit_margin(reductions.tenure_margin(small_bank, until=end), landmarks[0])
    opening = value.fit_margin(reductions.tenure_margin(small_bank, until=split), landmarks[1])
    frame = reductions.equity(small_bank, opening=split, closing=end)
    result = value.equity_accounting(frame, opening, closing)
    s03 = result.finding("S03")
    assert s03.value < 1e-9
    parts = result.table.set_index("part")["money"]
    assert parts.drop(["closing"]).sum() == pytest.approx(parts["closing"], rel=1e-9)
    now = reductions.customers_at(small_bank, at=end)
    assert parts["closing"] == pytest.approx(closing.values(now, 60, 0.1)[0].sum(), rel=1e-9)
    assert result.plot() is not None
    held = reductions.customers_at(small_bank, at=split)
    course = value.tracking(opening, held, reductions.contribution_by_month(small_bank, at=split))
    assert course.table["cumulative"].iloc[-1] == pytest.approx(held["after"].sum(), rel=1e-9)
    predicted = opening.values(held, 12, 0.0)[0].sum()
    assert course.table["predicted cumulative"].iloc[-1] == pytest.approx(predicted, rel=1e-9)
    assert course.plot() is not None
    windows = reductions.tenure_windows(small_bank, until=split, windows=(12, 36))
    sweep = value.calibration_windows(windows, landmarks[1], held)
    assert sweep.table["window"].tolist() == [12, 36]
    assert sweep.plot() is not None


def test_chain_against_its_closed_form():
    moves, earnings = np.array([[0.6, 0.2], [0.1, 0.8]]), np.array([10.0, 50.0])
    v = 1 / 1.1
    for_ever = np.linalg.solve(np.eye(2) - v * moves, v * moves @ earnings)
    got = chain_value(moves, earnings, years=400, annual_discount=0.1)
    np.testing.assert_allclose(got, for_ever, rtol=1e-10)  # the rest after 400 years is below 1e-30
    one = chain_value(moves, earnings, years=1, annual_discount=0.1)
    np.testing.assert_allclose(one, [(6 + 10) / 1.1, (1 + 40) / 1.1])
    with pytest.raises(InputError, match="more than 1 in a row"):
        chain_value([[0.9, 0.2], [0, 1]], earnings, years=1, annual_discount=0.1)
    with pytest.raises(InputError, match="one row, column and amount per band"):
        chain_value(moves, earnings[:1], years=1, annual_discount=0.1)


def test_chain_recovers_a_two_band_world():
    """Two bands without noise: chances .9 and .8 to stay in one, .05 to leave from either."""
    rng = np.random.default_rng(11)
    n = 40_000
    low = rng.random(n) < 0.5
    step = rng.random(n)
    stays_low = np.where(low, step < 0.90, step < 0.15)
    first = np.where(low, 10.0, 100.0)
    second = np.where(step > 0.95, np.nan, np.where(stays_low, 10.0, 100.0))
    frame = pd.DataFrame({"year_2021-12": first, "year_2022-12": second})
    result = value.markov_value(frame, years=5, annual_discount=0.1, cuts=(0.4,))
    truth = chain_value([[0.90, 0.05], [0.15, 0.80]], [10.0, 100.0], years=5, annual_discount=0.1)
    table = result.table
    assert (table["ci_low"] < truth).all()
    assert (truth < table["ci_high"]).all()
    np.testing.assert_allclose(table["value per customer"], truth, rtol=0.03)
    assert result.plot() is not None
    assert not value.markov_value(Missing("no table monthly")).applicable


def test_missing_passes_through():
    nothing = Missing("no table monthly")
    assert value.fit_margin(nothing, nothing) is nothing
    assert not value.tenure_curves(nothing).applicable
    assert not value.equity_accounting(nothing, nothing, nothing).applicable


def test_broken_input_is_refused():
    w = world(n=600)
    table, landmark = tenure_table(w, MONTHS - 1), customers_at(w, MONTHS - 25)
    with pytest.raises(InputError, match="no column exits"):
        value.fit_margin(table.drop(columns="exits"), landmark)
    with pytest.raises(InputError, match="more exits than customers"):
        value.fit_margin(table.assign(exits=table["n"] + 1), landmark)
    with pytest.raises(InputError, match="negative tenure_month"):
        value.fit_margin(table.assign(tenure_month=table["tenure_month"] - 100), landmark)
    with pytest.raises(InputError, match="no month of tenure has 50 customers"):
        value.fit_margin(table.head(20), landmark)
    with pytest.raises(InputError, match="at least 50 are needed"):
        value.fit_margin(table, landmark.head(20))
    with pytest.raises(InputError, match="are still there 1 months after the landmark"):
        value.fit_margin(table, landmark.assign(months_after=0, months_second=0))
    model = value.fit_margin(table, landmark)
    with pytest.raises(InputError, match="horizon_months is 0"):
        model.values(landmark, 0, 0.1)
    with pytest.raises(InputError, match="annual_rate is -2"):
        model.values(landmark, 12, -2)
    with pytest.raises(InputError, match="missing or infinite in 1 rows"):
        model.values(landmark.assign(before=landmark["before"].where(landmark.index != 0)), 12, 0.1)
    with pytest.raises(InputError, match="no month before the date"):
        model.values(landmark.assign(months_before=0), 12, 0.1)


def test_error_of_the_best_band_includes_that_of_its_cut():
    """The best tenth of exponential values: with fixed members the standard error is half the variance short."""
    n, hits, errors, means = 2_000, 0, [], []
    blank = np.zeros((FOLDS + 1, 2))
    model = MarginModel(blank, blank, np.ones(1), np.ones(1), np.ones((FOLDS + 1, 3)), blank, (0.9,), np.arange(FOLDS))
    truth = 1 - np.log(0.1)
    for seed in range(60):
        x = np.random.default_rng(seed).exponential(size=n)
        frame = pd.DataFrame({"fold": np.arange(n) % FOLDS, "before": 12 * x, "months_before": 12})
        codes = model.band_codes(frame)
        mean, se, low, high = jackknife(group_means(np.tile(x, (FOLDS + 1, 1)), model, frame, codes == 2))
        means.append(mean)
        errors.append(se)
        hits += low < truth < high
    # influence function of a tail mean: (x - cut)+ / 0.1, twice the variance of the members' own spread
    assert np.mean(errors) == pytest.approx(np.sqrt((2 - 0.1) / (0.1 * n)), rel=0.08)
    assert np.std(means, ddof=1) == pytest.approx(np.sqrt((2 - 0.1) / (0.1 * n)), rel=0.25)
    assert hits >= 52
