"""Gates that are read off an interval, on planted data on either side of the limit and between."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.survival.index import index_models
from crmresearch.estimators.verdicts import outlives
from crmresearch.estimators.worth.forecasts import accuracy
from crmresearch.ledger import lines
from crmresearch.rules import nobodys
from crmresearch.studies import churn, cost, loyalty, service
from crmresearch.studies.churn import index
from crmresearch.studies.cost import targeting
from crmresearch.studies.service import threshold
from crmresearch.studies.value.forecast import scored

BLOCKS = {c: [f"{c}{i}" for i in range(1, 4)] for c in ("quality", "satisfaction", "loyalty")}
CHAIN = PathModel(BLOCKS, [("quality", "satisfaction"), ("satisfaction", "loyalty")])


def state(found, name):
    """State of a gate, and what it says."""
    (one,) = [(s, c.detail) for s, c in found.gates if c.name == name]
    return one


@pytest.mark.parametrize(
    ("others", "stands"),
    [(((0.2, 0.9),), True), (((0.05, 0.9),), None), (((-0.9, 0.0),), False), (((0.2, 0.9), (-0.9, 0.0)), False)],
)
def test_what_an_interval_says_stands_falls_or_is_trusted(others, stands):
    assert outlives(0.1, (0.3, 0.5), *others) is stands
    assert outlives(-0.1, (-0.5, -0.3), *((-high, -low) for low, high in others)) is stands


def test_an_interval_that_holds_the_point_says_nothing_that_could_stand():
    assert outlives(0.1, (0.0, 0.5), (0.2, 0.9)) is None
    assert outlives(0.1, (0.3, 0.5), (0.1, 0.9)) is None  # it reaches the point


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "expected"), [(1, "open"), (0, "weak check"), (-1, "closed")])
def test_ranking_is_open_where_it_gains_weak_where_nothing_is_told_and_closed_where_it_loses(
    monkeypatch, sign, expected
):
    rng = np.random.default_rng(5)
    n = 6000
    t, savable = rng.integers(2, size=n), rng.random(n)
    left = (rng.random(n) < 0.5 - 0.4 * t * savable).astype(float)
    frame = pd.DataFrame({
        "block": np.arange(n), "campaign_id": "c", "arm": np.where(t, "offer", "control"), "treated": t,
        "cost": 1.0 * t, "randomised": True, "left": left, "months": np.where(left, 6, 12), "x_age": savable,
    })  # fmt: skip
    score = sign * savable if sign else rng.random(n)
    monkeypatch.setattr(targeting.effects, "scores", lambda rows, *_: (rng.random(n), score))
    found, told = state(cost.uplift(frame), "ranking better than chance")
    assert found == expected
    assert told.endswith("], at least 0 is needed")


# --- loyalty ----------------------------------------------------------------------------------------------------------


def answers(n, seed, direct=0.0, second=0.6):
    """Items of a chain of three constructs; the first may also act on the last."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=n)
    s = 0.6 * q + 0.8 * rng.normal(size=n)
    scores = {"quality": q, "satisfaction": s, "loyalty": direct * q + second * s + 0.8 * rng.normal(size=n)}
    return pd.DataFrame({i: 0.8 * scores[c] + 0.6 * rng.normal(size=n) for c in BLOCKS for i in BLOCKS[c]})


@pytest.mark.parametrize(("second", "expected"), [(0.6, "open"), (0.02, "weak check"), (-0.6, "closed")])
def test_common_method_closes_only_where_the_adjusted_correlation_lies_below_none(second, expected):
    found = loyalty.common_method(answers(400, 2, second=second), CHAIN, resamples=200, seed=1)
    assert state(found, "common method")[0] == expected
    assert "at least 0 is needed" in found.checks[0].detail


@pytest.mark.parametrize(
    ("n", "direct", "second", "expected"),
    [(900, 0.0, 0.6, "open"), (100, 0.0, 0.1, "weak check"), (900, -1.0, 1.0, "closed")],
)
def test_prediction_closes_where_the_mean_predicts_better(n, direct, second, expected):
    found = loyalty.prediction(answers(n, 3, direct, second), CHAIN, seed=1)
    assert state(found, "prediction")[0] == expected
    assert "at least 0 is needed" in found.checks[0].detail
    assert found.table["q2"].between(found.table["low"], found.table["high"], inclusive="neither").all()


def test_interval_of_predicted_items_holds_what_other_samples_give():
    """Four of 60 simultaneous intervals may miss once in a thousand, were they plain 95% of the mean over samples."""
    tables = [loyalty.prediction(answers(400, 100 + k), CHAIN, seed=1).table for k in range(60)]
    middle = np.mean([t["q2"] for t in tables], axis=0)
    missed = [((t["low"] > middle) | (t["high"] < middle)).any() for t in tables]
    assert sum(missed) <= 8


@pytest.mark.parametrize(
    ("n", "slope", "expected"), [(4000, 0.5, "open"), (500, 2.6, "weak check"), (9000, 3.0, "closed")]
)
def test_overlap_of_response_is_read_off_the_interval_of_the_least_chance(n, slope, expected):
    rng = np.random.default_rng(4)
    age = rng.uniform(-2, 2, n)
    frame = answers(n, 5).assign(customer_id=np.arange(n), age=age)
    frame["responded"] = rng.random(n) < 1 / (1 + np.exp(-slope * age))
    frame.loc[~frame["responded"], list(CHAIN.items)] = np.nan
    found = loyalty.nonresponse(frame, CHAIN)
    assert state(found, "overlap of response")[0] == expected
    assert "at least 0.02 is needed" in found.checks[0].detail


# --- value ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "naive", "expected"), [(0.3, 3.0, "open"), (1, 1, "declared"), (3.0, 0.3, "closed")])
def test_a_forecast_is_better_worse_or_not_told_from_naive_ones(model, naive, expected):
    rng = np.random.default_rng(6)
    n = 1500
    actual = rng.gamma(2.0, 50.0, n)
    off = {"model": model, "last year": naive, "mean": naive}
    predicted = {name: actual * np.exp(s * rng.normal(size=n) - s**2 / 2) for name, s in off.items()}
    scores = accuracy(predicted, actual, rng.integers(20, size=n))
    found, told = state(scored(scores, "contribution", "number", nobodys("drawn")), "better than naive forecasts")
    assert found == expected
    assert "limit 0" in told


# --- churn ------------------------------------------------------------------------------------------------------------


def months(doubtful):
    """Person-months in which unclear exits follow the relationship by a log hazard ratio of their own."""
    rng = np.random.default_rng(7)
    cells = pd.MultiIndex.from_product([range(1, 13), range(4), range(2)], names=["tenure", "families", "unmet"])
    frame = cells.to_frame(index=False).assign(at_risk=3000)
    up = frame["families"] / 1.1 - frame["unmet"] / 0.5
    for cause, slope, rate in (("voluntary", -0.3, 0.01), ("unknown", doubtful, 0.01), ("dormant", doubtful, 0.01)):
        frame[f"events {cause}"] = rng.poisson(3000 * rate * np.exp(slope * up))
    return frame.assign(events=frame.filter(like="events ").sum(axis=1))


@pytest.mark.parametrize(("slope", "expected"), [(-0.3, "open"), (0.10, "declared"), (0.4, "closed")])
def test_doubtful_causes_keep_the_line_leave_it_to_trust_or_turn_it(slope, expected):
    cells = months(slope)
    models = index_models({3: cells}, index.CAUSE, {"doubtful": index.OTHERS["doubtful"]}, lag=3)
    spells = pd.DataFrame({"exit": [5, 9], "event": [1, 0], "n": [50, 50]})
    checks = {c.name: c for c in index._gates(models, spells)}["doubtful causes"]
    assert checks.status == expected
    assert "(bound 0.97)" in checks.detail


def test_bounds_of_gates_are_those_of_their_lines():
    bounds = {line: lines()[line].bound.at for line in ("S06", "S52")}
    assert bounds == {"S06": index.BOUND, "S52": threshold.BOUND}


def kept_and_censored(n, seed, apart):
    """Two channels, one of which leaves faster; by ``apart`` its customers are also censored earlier."""
    rng = np.random.default_rng(seed)
    fast = rng.random(n) < 0.5
    leaves, ends = rng.exponential(np.where(fast, 30, 300)), rng.exponential(np.where(fast, 60 * np.exp(-apart), 60))
    month = np.ceil(np.minimum(leaves, ends)).clip(1, 130)
    frame = pd.DataFrame({"exit": month, "event": (leaves < ends) & (leaves < 130), "entry": 0})
    frame = frame.assign(acquisition_channel=np.where(fast, "web", "branch"), event=frame["event"].astype(int))
    return frame.groupby([*frame], as_index=False).size().rename(columns={"size": "n"})


@pytest.mark.parametrize(
    ("n", "apart", "expected"), [(8000, 0.0, "open"), (1500, 0.35, "weak check"), (8000, 2.0, "closed")]
)
def test_censoring_by_group_is_read_off_an_interval(n, apart, expected):
    found, told = state(churn.retention(kept_and_censored(n, 8, apart)), "censoring by group")
    assert found in ((expected, "doubtful") if expected == "weak check" else (expected,))
    assert "limit 0.02" in told


# --- service ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "expected"), [(0.0, "open"), (0.3, "declared")])
def test_who_answers_is_open_where_the_bounds_keep_the_jump(more, expected):
    found = service.priority(*near(more))
    assert state(found, "who answers does not turn on the answer")[0] == expected
    assert found.finding("S52").ci_low > threshold.BOUND


def test_who_answers_is_closed_where_the_bounds_turn_the_jump(monkeypatch):
    rows = [("answers", 0.1, 0.0, 0.2, 9), ("lowest", -0.5, -0.6, -0.4, 9), ("highest", -0.2, -0.3, -0.1, 9)]
    monkeypatch.setattr(threshold, "_answering", lambda *_: rows)
    found, told = state(service.priority(*near(0.0)), "who answers does not turn on the answer")
    assert found == "closed"
    assert "[-0.600, -0.100] (bound 0.05)" in told


def near(more):
    """Customers around the threshold, above which satisfaction is higher and ``more`` of them answer."""
    rng = np.random.default_rng(9)
    n = 6000
    x = rng.uniform(-1.5, 1.5, n)
    answer = 5 + 0.2 * x + 0.8 * (x >= 0) + rng.normal(size=n)
    silent = rng.random(n) > 0.4 + more * (x >= 0)
    columns = {"x": x, "answer": np.where(silent, np.nan, answer), "unit": np.arange(n), "weight": 1.0}
    return pd.DataFrame(columns).assign(age=rng.normal(45, 9, n), tenure=rng.random(n)), pd.DataFrame({"x": x})
