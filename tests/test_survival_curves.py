"""Curves of staying and of causes: inputs rejected, two routes to one number, late entry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.survival.curves import (
    censoring_weighted,
    kaplan_meier,
    life_table,
    logrank,
    pairwise_logrank,
    restricted_mean,
)
from crmresearch.estimators.survival.incidence import aalen_johansen, cumulative_incidence
from crmresearch.estimators.survival.risk import Spells, read_spells
from crmresearch.studies import churn
from test_churn_estimators import spells


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
        kaplan_meier(good.assign(**change))


def test_missing_columns_and_empty_spells_are_rejected():
    with pytest.raises(InputError, match="lack the columns exit, event"):
        life_table(pd.DataFrame({"tenure": [1]}))
    with pytest.raises(InputError, match="spells are empty"):
        life_table(pd.DataFrame({"exit": [], "event": []}))


def test_an_event_with_nobody_at_risk_is_rejected():
    with pytest.raises(InputError, match="1 exits happen at the moment of entry"):
        kaplan_meier(pd.DataFrame({"entry": [3, 0], "exit": [3, 5], "event": [1, 1]}))


def test_late_entry_curve_equals_lifelines():
    from lifelines import KaplanMeierFitter

    frame = spells(900, 6)
    frame = frame[frame.entry < 25]
    ours = kaplan_meier(frame).set_index("time")
    theirs = KaplanMeierFitter().fit(frame.exit, frame.event, entry=frame.entry).survival_function_.iloc[:, 0]
    common = ours.index.intersection(theirs.index)
    assert len(common) > 40
    assert ours.loc[common, "survival"].to_numpy() == pytest.approx(theirs.loc[common].to_numpy(), abs=1e-12)


def test_logrank_equals_lifelines():
    from lifelines.statistics import multivariate_logrank_test

    frame = spells(700, 7, late=False)
    found = logrank(frame, "x")
    expected = multivariate_logrank_test(frame.exit, frame.x, frame.event)
    assert found["statistic"] == pytest.approx(expected.test_statistic, rel=1e-6)
    assert found["df"] == 2


def test_holm_is_applied_over_all_pairs():
    frame = spells(900, 8)
    pairs = pairwise_logrank(frame, "x")
    assert len(pairs) == 3
    assert pairs["p_holm"].min() == pytest.approx(3 * pairs["p"].min(), rel=1e-9)


def test_incidence_and_its_error_equal_statsmodels():
    from statsmodels.duration.survfunc import CumIncidenceRight

    frame = spells(2000, 9, late=False)
    status = frame["cause"].map({"one": 1, "two": 2}).fillna(0).astype(int)
    theirs = CumIncidenceRight(frame["exit"].to_numpy(), status.to_numpy())
    for k, cause in enumerate(("one", "two")):
        ours = cumulative_incidence(frame)
        ours = ours[(ours.cause == cause) & ours.time.isin(theirs.times)]
        # the same sums in another order; the last risk set is empty and its error undefined in theirs
        assert ours["incidence"].to_numpy()[:-1] == pytest.approx(theirs.cinc[k][:-1], abs=1e-12)
        assert ours["se"].to_numpy()[:-1] == pytest.approx(theirs.cinc_se[k][:-1], abs=1e-12)


def test_incidence_with_late_entry_adds_up_and_lies_below_one_minus_km():
    frame = spells(2000, 10)
    ours = cumulative_incidence(frame)
    curve = kaplan_meier(frame)
    total = ours.pivot(index="time", columns="cause", values="incidence").sum(axis=1)
    assert total.to_numpy() == pytest.approx(1 - curve["survival"].to_numpy()[1:], abs=1e-12)


@pytest.mark.parametrize("late", [True, False])
def test_incidence_on_arrays_is_that_of_the_frame(late):
    frame = spells(1500, 11, late=late)
    code = frame["cause"].map({"one": 1, "two": 2}).fillna(0).astype(int).to_numpy()
    for at_least in (1, 50):
        arrays = aalen_johansen(read_spells(frame), code, 2, at_least=at_least)
        table = cumulative_incidence(frame, at_least=at_least)
        for k, cause in enumerate(("one", "two")):
            own = table[table["cause"] == cause]
            for name in ("time", "at_risk"):
                assert own[name].to_numpy() == pytest.approx(getattr(arrays, name), abs=0)
            for name in ("events", "incidence", "se"):
                assert own[name].to_numpy() == pytest.approx(getattr(arrays, name)[k], abs=1e-15)


def test_incidence_of_one_cause_lets_the_others_compete():
    frame = spells(900, 12)
    alone = cumulative_incidence(frame, causes=["two"])
    both = cumulative_incidence(frame)
    pd.testing.assert_frame_equal(alone, both[both["cause"] == "two"].reset_index(drop=True))
    # exits without a cause compete as well, and cannot be listed
    unnamed = frame.assign(cause=frame["cause"].mask(frame["cause"] == "one", None))
    pd.testing.assert_frame_equal(cumulative_incidence(unnamed, causes=["two"]), alone)
    with pytest.raises(InputError, match="exits have no cause"):
        cumulative_incidence(unnamed)


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
        fit = aalen_johansen(
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
    found = cumulative_incidence(frame).set_index(["cause", "time"])["incidence"]
    assert found["a", 2] == pytest.approx(0.10 + 0.85 * 0.2, abs=1e-15)
    assert found["b", 2] == pytest.approx(0.05, abs=1e-15)


def test_weighting_for_censoring_without_censoring_changes_nothing():
    frame = spells(900, 16)
    found = censoring_weighted(frame.assign(g="all"), "g").set_index("time")["survival"]
    plain = kaplan_meier(frame).set_index("time")["survival"]
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
    weighted = censoring_weighted(frame, "g").set_index("time").loc[24, "survival"]
    plain = kaplan_meier(frame).set_index("time").loc[24, "survival"]
    assert plain < truth - 0.02
    assert weighted == pytest.approx(truth, abs=0.012)  # three standard errors


def test_curves_start_where_enough_are_at_risk():
    frame = pd.DataFrame({"entry": [0] * 2 + [24] * 100, "exit": [3, 30] + [36] * 100, "event": [1, 0] + [0] * 100})
    curve = kaplan_meier(frame, at_least=50)
    assert curve["time"].iloc[0] == 24
    assert curve["survival"].iloc[-1] == 1.0  # the early exit, one of two at risk, is not on the curve
    with pytest.raises(FitError, match="no tenure has 500"):
        kaplan_meier(frame, at_least=500)


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
        curve, naive = kaplan_meier(frame), kaplan_meier(frame.assign(entry=0))
        row, wrong = curve[curve.time == 24].iloc[0], naive[naive.time == 24].iloc[0]
        # entry rounded down gives a person-month too much for some: a bias of half a percent of exits, within the
        # interval
        covered += row.ci_low <= truth <= row.ci_high
        missed += not wrong.ci_low <= truth <= wrong.ci_high
    assert missed == 20
    assert covered >= 15


# --- the limit on customers at risk, along the whole curve
# -------------------------------------------------------------------------------


def late_entry(gap_ends: int, one_left_at: int | None = None) -> pd.DataFrame:
    """60 customers to month 3, perhaps one more who leaves later, and 100 who enter later and stay to month 20."""
    rows = [(0, 3, 0, 60), (gap_ends, 20, 0, 100)]
    if one_left_at:
        rows.append((0, one_left_at, 1, 1))
    return pd.DataFrame(rows, columns=["entry", "exit", "event", "n"])


def test_one_exit_of_a_single_customer_at_risk_does_not_end_all():
    frame = late_entry(10, one_left_at=5)
    curve = kaplan_meier(frame, at_least=50)
    assert curve.attrs == {"start": 0.0, "end": 3.0}
    assert curve["survival"].tolist() == [1.0] * 4
    with pytest.raises(InputError, match="horizon 20 lies outside the curve, which runs from 0 to 3"):
        restricted_mean(curve, 20)
    # without a limit the curve is R's, down to 0 at month 5, and goes no further: nobody is observed in month 6
    alone = kaplan_meier(frame)
    assert alone["time"].iloc[-1] == alone.attrs["end"] == 5
    assert alone["survival"].iloc[-1] == 0


def test_months_in_which_nobody_is_observed_are_not_counted_as_staying():
    frame = late_entry(8)
    curve = kaplan_meier(frame)
    assert curve.attrs["end"] == curve["time"].iloc[-1] == 3
    with pytest.raises(InputError, match="outside the curve"):
        restricted_mean(curve, 20)
    weighted = censoring_weighted(frame.assign(group="a"), "group")
    assert weighted["time"].iloc[-1] == 3
    with_causes = pd.concat([frame, pd.DataFrame({"entry": [0], "exit": [2], "event": [1], "n": [1]})])
    incidence = cumulative_incidence(with_causes.assign(cause="a"), at_least=50)
    assert incidence["time"].tolist() == [1, 2, 3]


def test_curves_end_before_too_few_are_at_risk():
    frame = pd.DataFrame({"exit": [1, 2, 3, 9], "event": [1, 0, 1, 1], "n": [10, 30, 20, 40]})
    curve = kaplan_meier(frame, at_least=50)
    assert curve["time"].tolist() == [0, 1, 2, 3]
    assert curve["survival"].iloc[-1] == pytest.approx(0.9 * 2 / 3)
    assert (curve["at_risk"] >= 50).all()


def test_a_curve_that_reaches_zero_has_no_interval_there():
    curve = kaplan_meier(pd.DataFrame({"exit": [1, 2, 3], "event": 1, "n": [1, 1, 2]})).set_index("time")
    assert curve.loc[3, "survival"] == 0
    assert curve.loc[3, ["se", "ci_low", "ci_high"]].isna().all()
    assert curve.loc[:2].notna().all(axis=None)


@pytest.mark.parametrize("at_least", [1, 40])
def test_curve_is_the_product_over_the_life_table(at_least):
    """By lifelines on entries and exits paired first come, first gone; by hand from the counts of the real pairs."""
    frame = spells(700, 21)
    frame = frame[(frame.entry == 0) | (frame.entry > 4)]
    curve = kaplan_meier(frame, at_least=at_least)
    table = life_table(frame)
    table = table[(table["time"] > curve.attrs["start"]) & (table["time"] <= curve.attrs["end"])]
    n, d = table["at_risk"].to_numpy(), table["events"].to_numpy()
    survival = np.cumprod(1 - d / n)
    assert curve["survival"].to_numpy()[1:] == pytest.approx(survival, rel=1e-12)
    with np.errstate(all="ignore"):
        greenwood = np.cumsum(d / (n * (n - d)))
        half = 1.959963984540054 * np.sqrt(greenwood) / np.log(survival)
    inside = (survival < 1) & (survival > 0)
    low, high = (curve[c].to_numpy()[1:][inside] for c in ("ci_low", "ci_high"))
    assert high == pytest.approx((survival ** np.exp(half))[inside], rel=1e-9)
    assert low == pytest.approx((survival ** np.exp(-half))[inside], rel=1e-9)


def test_warnings_of_numpy_stay_as_they_were():
    before = np.geterr()
    kaplan_meier(spells(50, 22))
    assert np.geterr() == before


def test_a_curve_without_a_step_of_enough_exits_is_not_drawn_as_nobody_leaving():
    n = np.arange(200)
    few = pd.DataFrame({"entry": 0, "exit": np.where(n < 6, 5, np.where(n < 40, 18, 24)), "event": (n < 40) * 1})
    many = few.assign(exit=np.where(n < 30, 5, few["exit"]))
    found = churn.compare(pd.concat([few.assign(group="a"), few.assign(group="b")]), "group", horizon=12)
    assert found.applicable
    assert found.pictures == ()  # it was 100% [100%, 100%] throughout
    assert churn.compare(pd.concat([few.assign(group="a"), many.assign(group="b")]), "group", horizon=12).pictures


def test_a_group_that_nobody_left_so_far_is_not_clearly_apart():
    n = np.arange(400)
    late = pd.DataFrame({"entry": 0, "exit": np.where(n < 40, 20, 30), "event": (n < 40) * 1, "group": "late"})
    early = late.assign(exit=np.where(n < 40, 5, 30), group="early")
    spells = pd.concat([late, early])
    found = churn.compare(spells, "group", horizon=12)
    assert "No difference" in found.pictures[0].title  # 100% [100%, 100%] lay above 90%
    row = found.table.set_index("group").loc["late"]
    assert row["months_kept"] == 12
    assert row[["ci_low", "ci_high"]].isna().all()


def test_a_cause_for_which_nobody_left_yet_has_no_interval():
    n = np.arange(400)
    frame = pd.DataFrame({"entry": 0, "exit": np.where(n < 30, 10, np.where(n < 60, 40, 70)), "event": (n < 60) * 1})
    frame["cause"] = np.where(n < 30, "voluntary", np.where(n < 60, "death", None))
    table = churn.causes(frame).table.set_index(["cause", "tenure_months"])
    assert table.loc[("death", 24), "incidence"] == 0
    assert table.loc[("death", 24), ["ci_low", "ci_high"]].isna().all()
    assert table.loc[("voluntary", 24), ["ci_low", "ci_high"]].notna().all()
