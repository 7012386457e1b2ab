"""The rules behind verdicts: their properties on any interval, and what they do over thousands of registers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmresearch import ledger
from crmresearch.estimators import verdicts as v
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import Bound, Deviation

NUMBER = st.floats(-50, 50).map(lambda x: round(x, 3))
WIDTH = st.floats(0.01, 20).map(lambda x: round(x, 3))
SIDE = st.sampled_from(("above", "below"))


@st.composite
def bounds(draw):
    """A bound on the claimed side of no effect."""
    side, size = draw(SIDE), draw(st.floats(0, 20).map(lambda x: round(x, 3)))
    return Bound(size if side == "above" else -size, 0.0, side)


@st.composite
def intervals(draw):
    value = draw(NUMBER)
    return value, value - draw(WIDTH), value + draw(WIDTH)


# -- one line ----------------------------------------------------------------------------------------------------------


@given(intervals(), bounds())
def test_no_interval_meets_two_rules_and_p_agrees_with_it(interval, bound):
    _, low, high = interval
    above, below = low > bound.at, high < bound.at
    wanted = {(True, False): "above", (False, True): "below"}.get((above, below))
    found = v.position(low, high, bound)
    assert found == ("undecided" if wanted is None else "supported" if wanted == bound.side else "refuted")
    if abs(low - bound.at) > 1e-9 and abs(high - bound.at) > 1e-9:
        assert (v.p_value(*interval, bound) < 0.05) == (found != "undecided")


@given(intervals(), bounds(), WIDTH, WIDTH)
def test_widening_never_turns_undecided_into_a_verdict(interval, bound, left, right):
    value, low, high = interval
    wide = (value, low - left, high + right)
    assert v.p_value(*wide, bound) >= v.p_value(*interval, bound) - 1e-12
    if v.position(low, high, bound) == "undecided":
        assert v.position(*wide[1:], bound) == "undecided"


@given(intervals(), bounds())
def test_mirrored_input_gives_the_mirrored_verdict(interval, bound):
    value, low, high = interval
    mirrored = Bound(-bound.at, 0.0, "below" if bound.side == "above" else "above")
    assert v.position(low, high, bound) == v.position(-high, -low, mirrored)
    assert v.p_value(*interval, bound) == pytest.approx(v.p_value(-value, -high, -low, mirrored))
    assert v.refuted_how(low, high, bound) == v.refuted_how(-high, -low, mirrored)


@given(intervals(), bounds(), WIDTH)
def test_a_stricter_bound_never_helps_the_claim(interval, bound, more):
    strict = Bound(bound.at + (more if bound.side == "above" else -more), 0.0, bound.side)
    order = ("refuted", "undecided", "supported")
    assert order.index(v.position(*interval[1:], strict)) <= order.index(v.position(*interval[1:], bound))


@given(st.floats(0.05, 20), st.floats(1.01, 5), st.floats(1.01, 5), st.floats(1.01, 4))
def test_ratios_are_read_on_logs(value, left, right, at):
    bound, log = Bound(at, 1.0, "above"), Bound(math.log(at), 0.0, "above")
    interval = value, value / left, value * right
    assert v.p_value(*interval, bound) == pytest.approx(v.p_value(*map(math.log, interval), log), abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-3, -2, "supported"), (2, 3, "supported"), (-0.5, 0.9, "refuted"), (0.5, 2, "undecided"), (-2, 2, "undecided")],
)
def test_a_line_whose_sign_is_open_has_bounds_on_both_sides(low, high, expected):
    bound = Bound(1.0, 0.0, "either")
    assert v.position(low, high, bound) == expected
    assert (v.p_value((low + high) / 2, low, high, bound) < 0.05) == (expected != "undecided")
    ratio = Bound(2.0, 1.0, "either")
    assert ratio.points == (0.5, 2.0)


def test_published_example_no_effect_below_the_bound_is_support():
    assert v.position(0.98, 0.99, Bound(0.97, 1.0, "below")) == "refuted"
    assert v.refuted_how(0.98, 0.99, Bound(0.97, 1.0, "below")) == "small"
    assert v.refuted_how(1.02, 1.10, Bound(0.97, 1.0, "below")) == "opposite"
    assert v.refuted_how(0.98, 1.10, Bound(0.97, 1.0, "below")) == "none"


def test_p_of_unbounded_exact_and_absent_intervals():
    bound = Bound(2.0, 1.0, "above")
    assert v.p_value(4.0, -math.inf, math.inf, bound) == 1.0
    assert v.p_value(4.0, 3.0, math.inf, bound) < 0.05
    assert v.p_value(4.0, 4.0, 4.0, bound) == 0.0
    assert math.isnan(v.p_value(math.nan, math.nan, math.nan, bound))
    assert v.p_value(0.12, -0.1, 0.3, bound) < 1e-6  # Fieller's set of a ratio may hold 0


# -- many lines --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_a_set_of_decisions_grows_with_its_level(p, one, other):
    q = v.adjusted({str(i): x for i, x in enumerate(p)}, {})
    small, large = sorted((one, other))
    assert {k for k in q if q[k] <= small} <= {k for k in q if q[k] <= large}
    assert all(q[str(i)] >= x for i, x in enumerate(p))


def test_secondary_lines_share_the_level_of_the_decided_primaries():
    # two of four primaries decided: the level within a claim is .05 * 2 / 4
    primary = {"a": 0.001, "b": 0.002, "c": 0.6, "d": 0.8}
    q = v.adjusted(primary, {"a": {"a1": 0.02, "a2": 0.9}, "c": {"c1": 0.03}})
    assert q["a1"] == pytest.approx(0.02 * 2 * 4 / 2)
    assert q["c1"] == pytest.approx(0.03 * 4 / 2)
    assert v.adjusted({"c": 0.6}, {"c": {"c1": 1e-9}})["c1"] == 1.0  # nothing decided, nothing to look into


def _simulated(truth: np.ndarray, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Registers of independent lines above 0, errors 1: decided (+1, -1, 0), and whether wrongly."""
    rng = np.random.default_rng(seed)
    bound, out = Bound(0.0, 0.0, "above"), []
    half = 1.959963984540054
    for x in truth + rng.standard_normal((runs, truth.size)):
        q = v.adjusted({str(i): v.p_value(e, e - half, e + half, bound) for i, e in enumerate(x)}, {})
        found = [v.verdict(e - half, e + half, bound, q[str(i)]) for i, e in enumerate(x)]
        out.append([{"supported": 1, "refuted": -1, "undecided": 0}[f] for f in found])
    decided = np.array(out)
    return decided, (decided != 0) & (decided != np.sign(truth))


def test_lines_at_their_bound_are_rarely_decided():
    runs = 4000
    decided, _ = _simulated(np.zeros(25), runs, seed=5)
    hits = int((decided != 0).any(axis=1).sum())
    from scipy.stats import beta

    assert beta.ppf(0.95, hits + 1, runs - hits) <= 0.075  # one-sided 95% bound of the chance of any decision


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_share_of_false_decisions_in_mixtures(seed):
    # a third at the bound, a third clearly above, a third clearly below
    truth = np.repeat([0.0, 4.0, -3.0], 9)
    decided, wrong = _simulated(truth, 1500, seed)
    share = wrong.sum(axis=1) / np.maximum((decided != 0).sum(axis=1), 1)
    assert share.mean() <= 0.05
    assert (decided[:, 9:18] == 1).mean() > 0.9  # and what is there is found


# -- claims ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "primary", "opposite", "expected"),
    [
        ("lot", "supported", False, "shown"),
        ("natural", "refuted", True, "contradicted"),
        ("lot", "refuted", False, "smaller than matters"),
        ("association", "supported", False, "consistent"),
        ("association", "refuted", True, "not borne out"),
        ("description", "supported", False, "as described"),
        ("description", "refuted", False, "not as described"),
        ("lot", "undecided", False, "open"),
        ("association", "blocked", False, "blocked"),
        ("check", "holds", False, "holds"),
        ("description", "not applicable", False, "not applicable"),
    ],
)
def test_answer_follows_from_the_primary_line(design, primary, opposite, expected):
    assert v.answer(design, primary, opposite=opposite) == expected


def test_a_secondary_line_decided_the_other_way_makes_it_mixed():
    assert v.answer("lot", "supported", others={"S02a": "refuted", "S02b": "undecided"}) == "shown; mixed: S02a"
    assert v.answer("lot", "supported", others={"S02a": "supported"}) == "shown"
    assert v.answer("lot", "undecided", others={"S02a": "refuted"}) == "open"


ANSWER = st.sampled_from(
    ("shown", "contradicted", "smaller than matters", "open", "blocked", "not applicable", "provisional")
)
REAL, OTHER = st.tuples(st.just("real bank"), ANSWER), st.tuples(st.sampled_from(("simulated", "published")), ANSWER)


@given(st.lists(REAL), st.lists(OTHER), st.randoms())
def test_only_real_banks_count_and_in_any_order(real, other, random):
    found = v.over_banks("lot", real)
    mixed = real + other
    random.shuffle(mixed)
    assert v.over_banks("lot", mixed) == found
    said = [a for _, a in real if a not in v.UNANSWERED]
    assert (found.k, found.m, sum(found.parts.values())) == (said.count("shown"), len(said), len(said))
    assert (found.said == "conflicting") == ({"shown", "contradicted"} <= set(said))


@pytest.mark.parametrize(
    ("design", "answers", "expected"),
    [
        (
            "association",
            ["consistent", "consistent; mixed: S44a", "open", "consistent, with a doubt"],
            (3, 4, "consistent"),
        ),
        ("association", ["consistent", "not borne out", "not applicable"], (1, 2, "consistent")),
        ("natural", ["shown", "contradicted", "blocked"], (1, 3, "conflicting")),
        ("description", ["reported", "reported"], (2, 2, "reported")),
        ("check", ["holds", "fails", "not built"], (1, 2, "holds")),
        ("lot", ["provisional"], (0, 0, "shown")),
    ],
)
def test_real_banks_are_summed_as_k_of_m(design, answers, expected):
    found = v.over_banks(design, [("real bank", a) for a in answers])
    assert (found.k, found.m, found.said) == expected


# -- truths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "truth", "error", "expected"),
    [
        ("supported", 2.0, 0.1, "found"),
        ("refuted", 0.2, 0.1, "found"),
        ("supported", 0.2, 0.1, "wrong"),
        ("supported", 1.1, 0.1, "wrong"),  # at the bound any decision is wrong
        ("undecided", 1.1, 0.1, "at the bound"),
        ("undecided", 2.0, 0.1, "missed"),
        ("blocked", 2.0, 0.1, "blocked"),
    ],
)
def test_verdict_against_the_truth(found, truth, error, expected):
    assert v.truth_verdict(found, Bound(1.0, 0.0, "above"), truth, error) == expected


def test_power_is_that_of_the_normal_test():
    from scipy.stats import norm

    bound = Bound(1.0, 0.0, "above")
    assert v.power(0.0, -1.96, 1.96, bound, 3.0) == pytest.approx(norm.cdf(2.0 - 1.96), abs=1e-4)
    assert v.power(2.0, 1.0, 4.0, Bound(1.2, 1.0, "above"), 1.2) == pytest.approx(0.025)
    assert math.isnan(v.power(2.0, 1.0, math.inf, bound, 0.5))


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Deviation(0.5, 0.3, 0.7, limit=0.2), ("closed", False)),
        (Deviation(-0.5, -0.7, -0.3, limit=0.2), ("closed", False)),  # as far on the other side
        (Deviation(0.15, 0.05, 0.25, limit=0.2), ("doubtful", False)),
        (Deviation(0.05, 0.02, 0.08, limit=0.2), ("open", False)),  # told from none, far from the limit
        (Deviation(0.05, -0.2, 0.3, limit=0.2), ("open", True)),
        (Deviation(1.2, 1.1, 1.31, limit=1.4, none=1.0), ("doubtful", False)),
        (Deviation(0.05, 0.02, 0.08, limit=0.2, control=True), ("doubtful", False)),
        (Deviation(1.5, 1.3, 1.7, limit=2.0, least=True), ("closed", False)),
        (Deviation(1.9, 1.7, 2.1, limit=2.0, least=True), ("open", True)),
        (Deviation(3.0, 2.5, 3.5, limit=2.0, least=True), ("open", False)),  # far from 0, and no doubt about it
    ],
)
def test_gates_have_three_states(gate, expected):
    assert v.gates([gate]) == [expected]


def test_healthy_lines_with_five_gates_are_rarely_doubtful():
    rng = np.random.default_rng(4)
    half, limit = 1.96, 2.4  # half the limit is often exceeded, p below .05 in a quarter of lines: both are asked for
    lines = rng.standard_normal((4000, 5))
    states = [v.gates([Deviation(x, x - half, x + half, limit=limit) for x in line]) for line in lines]
    doubted = np.mean([any(s == "doubtful" for s, _ in line) for line in states])
    assert doubted < 0.06


@pytest.mark.parametrize(("line_id", "found"), [("S16c", "undecided"), ("S40c", "undecided"), ("S07", "holds")])
def test_an_interval_without_width_decides_nothing_but_a_check(line_id, found):
    line = ledger.lines()[line_id]
    assert ledger.verdict(line, Estimate(0.0, 0.0, 0.0, line.unit, 500), 0.0) == found
    if found == "undecided":
        assert ledger.verdict(line, Estimate(0.0, -1e-4, 1e-4, line.unit, 500), 0.0) == "refuted"
