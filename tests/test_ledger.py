"""The register is whole, verdicts follow its rules, and many-claims control does what it says."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from dataclasses import replace
from functools import reduce
from importlib.resources import files
from operator import getitem
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crmresearch import ledger
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.causal.unrecorded import e_value, risk_ratio
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import ANSWERS, Bound, Deviation
from crmresearch.lab.recover import many
from crmresearch.result import Check

SHARED = Path(os.environ.get("CRMRESEARCH_SHARED", Path(__file__).parents[2] / "shared"))
ESSAYS = SHARED / "essays" / "bank-crm-essays.zh.txt"


def keep(folder, findings, notebook="03_acquisition_retention_cost", evidence="simulated"):
    ledger.record(folder, notebook, findings, bank="b", evidence=evidence, parameters={"seed": 1})


def estimate(value, low, high, checks=(), n=500):
    return Estimate(value, low, high, "ratio", n, checks=tuple(checks))


def row(frame, line_id):
    return frame.set_index("line_id").loc[line_id]


# -- the register ------------------------------------------------------------------------------------------------------


def test_register_holds_all_59_claims_in_order():
    assert [c["id"] for c in ledger.claims()] == [f"S{i:02d}" for i in range(1, 60)]
    assert Counter(c["kind"] for c in ledger.claims()) == {"H": 40, "C": 11, "D": 4, "X": 4}


def test_every_line_has_an_estimand_a_design_and_one_bound():
    for line in ledger.lines().values():
        if line.kind == "X" and not line.estimand:
            continue
        assert line.estimand, line.line_id
        assert line.unit, line.line_id
        assert line.design in ANSWERS, line.line_id
        if line.bound is None:
            # only what is to be described has none: a hypothesis is held against something
            assert line.design == "description", line.line_id
            continue
        b = line.bound
        assert b.side in ("above", "below", "either"), line.line_id
        if line.design != "check":
            # the bound lies on the claimed side of no effect; on it only where break-even is meant
            away = math.log(b.at) if b.none == 1 else b.at - b.none
            assert (away if b.side != "below" else -away) >= 0, line.line_id
            assert away != 0 or line.because == "break-even", line.line_id
        assert (b.none == 1) == line.unit.endswith("ratio"), line.line_id


def test_bounds_of_zero_are_break_even_and_nothing_else():
    zero = {k for k, v in ledger.lines().items() if v.bound and v.bound.at == v.bound.none and v.design != "check"}
    assert zero == {"S02", "S02a", "S25", "S41"}


def test_every_claim_has_one_primary_line_and_a_theme():
    primaries = Counter(line.claim_id for line in ledger.lines().values() if line.primary)
    assert set(primaries.values()) == {1}
    assert {c["theme"] for c in ledger.claims()} == {"win", "develop", "keep", "satisfy", "compete", "protect"}
    first = {line.claim_id: line.line_id for line in ledger.lines().values() if line.primary}
    assert first["S10"] == "S10c"
    assert {k: v for k, v in first.items() if k != v} == {"S10": "S10c"}


def test_changes_of_the_register_name_lines_and_reasons():
    known = {c["id"] for c in ledger.claims()} | set(ledger.lines())
    for change in ledger.listed("changes"):
        assert change["lines"] == "all" or set(change["lines"]) <= known
        assert len(change["why"]) > 40
    assert re.fullmatch(r"[0-9a-f]{12}", ledger.register_hash())


def test_no_line_has_a_field_nobody_reads():
    """An unquoted comma would cut an estimand short and leave its rest behind as a field."""
    known = {"estimand", "unit", "design", "side", "bound", "none", "because"}
    assert [
        (k, set(row) - known) for c in ledger.claims() for k, row in (c["lines"] or {}).items() if set(row) - known
    ] == []


CAUSAL = re.compile(
    r"\b(effects?|caus(es?|ed|al|ing)|because|prevent(s|ed)|rais(es|ed|ing)|lower(s|ed|ing)|increas(es|ed|ing)"
    r"|reduc(es|ed|ing)|lead(s|ing)? to|due to|thanks to|driv(es|en|ing)|impacts?|influenc\w*|result(s|ing) in)\b"
)
# words of studies whose lines are associations alone; the aimed campaign and the lot have their own
ASSOCIATIONS = (
    *("churn.relationship", "churn.breadth", "cost.response", "cost.jointly", "loyalty.structure", "loyalty.form"),
    *(
        "loyalty.behaviour",
        "loyalty.dynamics",
        "loyalty.referral",
        "loyalty.response",
        "loyalty.measurement",
        "preference",
    ),
)
# what is said of causes that are recorded, doubted or absent, which claims none
SAID_OF_CAUSES = re.compile(r"exits of every cause|doubtful causes|(unrecorded|unmeasured common) cause")


CAUSAL_ZH = re.compile("影响|导致|造成|效应|促使|使得|提升|提高|增加|减少|带来|推动|引起|改善")


def _phrases(node, path):
    for key, value in node.items():
        where = f"{path}.{key}"
        yield from _phrases(value, where) if isinstance(value, dict) else ((where, str(value)),)


def _claims_a_cause(text):
    return CAUSAL.search(SAID_OF_CAUSES.sub("", re.sub(r"\{[^}]*\}", "", text)))


def test_no_association_is_worded_as_a_cause():
    lines = [x for x in ledger.lines().values() if x.design == "association"]
    phrases = [(x.line_id, f"{x.estimand}; {x.unit}") for x in lines]
    every = yaml.safe_load(files("crmresearch.words").joinpath("en.yaml").read_text("utf-8"))
    for section in ASSOCIATIONS:
        phrases += _phrases(reduce(getitem, section.split("."), every), section)
    told = every["top"]["answer"]["lines"]
    phrases += [x for k in told if ledger.lines()[k].design == "association" for x in _phrases(told[k], k)]
    assert len(phrases) > 300
    assert [(where, text) for where, text in phrases if _claims_a_cause(text)] == []


def test_no_association_is_worded_as_a_cause_in_chinese():
    every = yaml.safe_load(files("crmresearch.words").joinpath("zh.yaml").read_text("utf-8"))
    elsewhere, told = every["elsewhere"], every["top"]["answer"]["lines"]
    lines = [x for x in ledger.lines().values() if x.design == "association"]
    phrases = [(x.line_id, elsewhere["estimands"][x.estimand]) for x in lines]
    for section in ASSOCIATIONS:
        phrases += _phrases(reduce(getitem, section.split("."), every), section)
    phrases += [x for k in told if ledger.lines()[k].design == "association" for x in _phrases(told[k], k)]
    # what is assumed of excluded columns is a cause, and said to be assumed
    found = [(where, text) for where, text in phrases if CAUSAL_ZH.search(text)]
    assert [where for where, _ in found] == ["cost.jointly.exclusion.detail"]


@pytest.mark.parametrize(
    "text",
    ["effect of loyalty on later satisfaction", "satisfaction lowers exits", "a good relationship prevents loss"],
)
def test_a_causal_word_would_be_seen(text):
    assert _claims_a_cause(text)


@pytest.mark.skipif(not ESSAYS.exists(), reason="the essays are not ours to publish; they lie beside the project in CI")
def test_every_anchor_is_in_the_essays():
    essays = re.sub(r"\s", "", ESSAYS.read_text("utf-8"))
    absent = [(c["id"], a) for c in ledger.claims() for a in c["anchor"] if a not in essays]
    assert absent == []


def test_several_times_means_more_than_two():
    assert ledger.lines()["S40"].bound == Bound(2, 1, "above")


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "q", "expected"),
    [
        (2.1, 5.0, 0.01, "supported"),
        (2.1, 5.0, 0.20, "undecided"),  # beyond the bound, but the many-claims control does not leave that standing
        (1.5, 5.0, 0.01, "undecided"),
        (1.0, 1.9, 0.01, "refuted"),
        (1.0, 1.9, 0.20, "undecided"),  # a refutation is controlled, too
        (-math.inf, math.inf, 0.5, "undecided"),
        (math.nan, math.nan, math.nan, "undecided"),
    ],
)
def test_verdict_follows_interval_and_q(low, high, q, expected):
    middle = math.nan if math.isnan(low) else 2.0
    assert ledger.verdict(ledger.lines()["S40"], estimate(middle, low, high), q) == expected


def test_gates_change_the_verdict():
    line = ledger.lines()["S40"]
    strong = {"value": 4, "low": 3, "high": 5}
    for check, expected in [
        (Check.of("overlap", False, "x"), "blocked"),
        (Check("no hidden selection", "declared", "x"), "undecided"),
        (Check.of("overlap", True, "x"), "supported"),
    ]:
        assert ledger.verdict(line, estimate(**strong, checks=[check]), 0.001) == expected


@pytest.mark.parametrize(("line_id", "expected"), [("S06", "supported"), ("S42", "undecided"), ("S45", "undecided")])
def test_a_declared_assumption_stops_an_effect_and_leaves_an_association(line_id, expected):
    line = ledger.lines()[line_id]
    low, high = (0.5, 0.6) if line_id == "S06" else (-0.9, -0.5)
    declared = Check("no hidden selection", "declared", "x")
    assert ledger.verdict(line, estimate((low + high) / 2, low, high, checks=[declared]), 0.001) == expected


def test_checks_hold_or_fail():
    line = ledger.lines()["S03"]
    assert ledger.verdict(line, estimate(1e-12, 1e-12, 1e-12)) == "holds"
    assert ledger.verdict(line, estimate(0.2, 0.2, 0.2)) == "fails"
    closed = estimate(1e-12, 1e-12, 1e-12, checks=[Check.of("parts", False, "x")])
    assert ledger.verdict(line, closed) == "blocked"


def test_every_line_has_words_for_being_refuted():
    line = ledger.lines()["S06"]
    assert ledger.refuted_words(line, 0.98, 0.99) == "there, but too small to matter"
    assert ledger.refuted_words(line, 1.02, 1.1) == "the other way"
    assert ledger.refuted_words(line, 0.98, 1.1) == "no effect that matters"


def _barely(line, far=False):
    """An interval that leaves the line's bound behind by a little, or by much."""
    b, sign = line.bound, -1 if line.bound.side == "below" else 1
    near, half = (3.0, 1.0) if far else (2.2 / 1.96, 1.0)
    if b.none == 1:
        value = math.exp(math.log(b.at) + sign * near * 0.2)
        return estimate(value, value * math.exp(-half * 0.2), value * math.exp(half * 0.2))
    return estimate(b.at + sign * near, b.at + sign * near - half, b.at + sign * near + half)


@given(st.lists(st.floats(-5, 5), min_size=20, max_size=20), st.integers(0, 19), *[st.floats(0, 40)] * 2)
def test_widening_one_interval_decides_no_line_of_the_bank(errors, which, left, right):
    """Whatever its side, unit or design, and neither the line itself nor, by the many lines at once, another."""
    lines = many.judged()[::3][:20]
    found = {x.line_id: many.estimate(x, e) for x, e in zip(lines, errors, strict=True)}
    one = found[lines[which].line_id]
    wide = replace(one, ci_low=one.ci_low - left * one.se, ci_high=one.ci_high + right * one.se)
    before, after = (
        {x.line_id: ledger.verdict(x, each[x.line_id], ledger.adjusted(each)[1][x.line_id]) for x in lines}
        for each in (found, found | {lines[which].line_id: wide})
    )
    assert [k for k in before if before[k] == "undecided" and after[k] != "undecided"] == []


PRIMARIES = [v for v in ledger.lines().values() if v.primary and v.bound and v.design != "check" and v.kind != "X"]


def _at_their_bound(some):
    return {v.line_id: estimate(v.bound.at, v.bound.at - 1e-9, v.bound.at + 1e-9) for v in some}


def test_one_step_over_the_primary_lines_of_a_bank(tmp_path):
    # one p of about .03 among twenty-one primary lines at their bound: alone it would pass, among them it must not
    assert len(PRIMARIES) > 20
    first, findings = PRIMARIES[0], _at_their_bound(PRIMARIES[1:21])
    keep(tmp_path, {**findings, first.line_id: _barely(first)})
    found = row(ledger.merge(tmp_path), first.line_id)
    assert found.p_value == pytest.approx(math.erfc(2.2 / math.sqrt(2)), rel=1e-3)
    assert found.q_value == pytest.approx(21 * found.p_value)
    assert found.verdict == "undecided"
    keep(tmp_path / "alone", {first.line_id: _barely(first)})
    assert row(ledger.merge(tmp_path / "alone"), first.line_id).verdict == "supported"


def test_secondary_lines_depend_on_the_decided_primaries(tmp_path):
    far, lines = _barely(ledger.lines()["S44"], far=True), ledger.lines()
    keep(tmp_path, {"S44a": _barely(lines["S44a"], far=True), "S44": estimate(1.03, 0.9, 1.2)})
    assert row(ledger.merge(tmp_path), "S44a").verdict == "undecided"  # no primary line was decided
    keep(tmp_path, {"S44": far})
    assert row(ledger.merge(tmp_path), "S44a").verdict == "supported"


@pytest.mark.parametrize(("line_id", "first"), [("S04a", "S04"), ("S15a", "S15"), ("S44a", "S44"), ("S19d", "S19")])
def test_no_other_line_stands_in_for_a_primary_one_that_a_bank_cannot_measure(line_id, first, tmp_path):
    """However far from its bound: it is decided at the share of the bank's primary lines that were."""
    lines, others = ledger.lines(), [v for v in PRIMARIES if v.line_id != first][:2]
    found = {line_id: _barely(lines[line_id], far=True), first: Missing("no such table")}
    for decided, verdict in ((0, "undecided"), (1, "supported")):
        far = {v.line_id: _barely(v, far=True) for v in others[:decided]}
        keep(tmp_path / str(decided), found | _at_their_bound(others[decided:]) | far)
        assert row(ledger.merge(tmp_path / str(decided)), line_id).verdict == verdict
    keep(tmp_path / "alone", found)
    assert row(ledger.merge(tmp_path / "alone"), line_id).verdict == "undecided"


def test_checked_and_described_lines_take_no_part(tmp_path):
    findings = {
        "S03": estimate(0.0, 0.0, 0.0),
        "S19": estimate(0.6, 0.5, 0.7),
        "S06": _barely(ledger.lines()["S06"], far=True),
    }
    keep(tmp_path, findings)
    frame = ledger.merge(tmp_path)
    assert frame.loc[frame.p_value.notna(), "line_id"].tolist() == ["S06"]
    assert [row(frame, k).verdict for k in findings] == ["holds", "reported", "supported"]


@pytest.mark.parametrize(
    ("line_id", "check", "verdict"),
    [
        ("S40", Check.of("overlap", False, "x"), "blocked"),
        ("S44", Check.of("overlap", False, "x"), "blocked"),
        ("S42", Check("no hidden selection", "declared", "x"), "undecided"),
        ("S46", Check("no hidden selection", "declared", "x"), "undecided"),
    ],
)
def test_a_line_that_is_stopped_counts_among_the_many_and_lends_nothing(tmp_path, line_id, check, verdict):
    """The bank measured it: the step is over it too; however small its own p is, it makes no other decision easier."""
    lines, other = ledger.lines(), estimate(1.0, 0.9, 1.1)
    barely = _barely(lines["S06"])
    stopped = replace(_barely(lines[line_id], far=True), checks=(check,))
    keep(tmp_path / "one", {"S06": barely, "S56": other})
    keep(tmp_path / "two", {"S06": barely, "S56": other, line_id: stopped})
    one, two = ledger.merge(tmp_path / "one"), ledger.merge(tmp_path / "two")
    assert row(two, "S06").q_value == pytest.approx(row(one, "S06").q_value * 3 / 2)
    found = row(two, line_id)
    assert (found.q_value, found.verdict, found.p_value < 1e-6) == (1.0, verdict, True)


# -- answers, truths, gates, unrecorded causes -------------------------------------------------------------------------


def answer(folder, claim_id):
    return ledger.answers(ledger.read(folder)).set_index("claim_id")["answer"][claim_id]


def test_a_claim_is_answered_from_its_primary_line(tmp_path):
    lines = ledger.lines()
    keep(tmp_path, {"S44": _barely(lines["S44"], far=True), "S44a": estimate(1.2, 1.1, 1.3)})
    frame = ledger.merge(tmp_path)
    assert row(frame, "S44a").verdict == "refuted"
    assert answer(tmp_path, "S44") == "consistent; mixed: S44a"
    assert answer(tmp_path, "S45") == "not built"
    assert answer(tmp_path, "S32") == "not testable"
    assert (tmp_path / "claims.csv").read_text().count("\n") == 60
    keep(tmp_path, {"S42": estimate(0.02, 0.01, 0.03)})
    ledger.merge(tmp_path)
    assert answer(tmp_path, "S42") == "contradicted"
    keep(tmp_path, {"S42": estimate(-0.001, -0.0015, -0.0005)})
    ledger.merge(tmp_path)
    assert answer(tmp_path, "S42") == "smaller than matters"


def test_a_run_of_a_part_is_provisional(tmp_path):
    keep(tmp_path, {"S44": _barely(ledger.lines()["S44"], far=True), "S03": estimate(0.0, 0.0, 0.0)})
    frame = ledger.merge(tmp_path, whole=False)
    assert (row(frame, "S44").provisional, row(frame, "S03").provisional) == ("yes", "no")
    assert answer(tmp_path, "S44") == "provisional"
    assert answer(tmp_path, "S03") == "holds"


def test_truth_of_a_simulated_bank_stands_beside_the_verdict(tmp_path):
    truth = {"S44": {"world": 1.49, "limit": 1.32, "error": 0.01}, "S12a": {"world": 0.98}, "S19": {"world": 0.6}}
    found = {"S44": _barely(ledger.lines()["S44"], far=True), "S12a": estimate(0.9, 0.8, 1.0)}
    about = {"bank": "b", "evidence": "simulated", "parameters": {}, "truth": truth, "data": "abc"}
    ledger.record(tmp_path, "04_satisfaction_loyalty", {**found, "S19": estimate(0.6, 0.5, 0.7)}, **about)
    frame = ledger.merge(tmp_path)
    s44 = row(frame, "S44")
    assert (s44.truth, s44.limit, s44.truth_verdict, s44.data_fingerprint) == (1.49, 1.32, "found", "abc")
    assert row(frame, "S12a").truth_verdict == "missed"
    assert (row(frame, "S19").truth, row(frame, "S19").truth_verdict) == (0.6, "")


def test_measured_gates_are_doubtful_weak_or_closed(tmp_path):
    def gated(value, low, high):
        deviation = Deviation(value, low, high, limit=0.2)
        checks = [Check("balance", "closed" if deviation.closed else "open", "x", deviation=deviation)]
        return estimate(1.6, 1.5, 1.7, checks=checks)

    for ends, status, said in [
        ((0.15, 0.05, 0.25), "doubtful", "consistent, with a doubtful assumption"),
        ((0.05, -0.2, 0.3), "weak check", "consistent"),
        ((0.02, -0.05, 0.09), "open", "consistent"),
        ((0.5, 0.4, 0.6), "closed", "blocked"),
    ]:
        keep(tmp_path, {"S44": gated(*ends)})
        frame = ledger.merge(tmp_path)
        own, taken = ledger.split_checks(row(frame, "S44").checks)
        assert own == (status, "balance (x)")
        assert taken[0] == "declared"  # what every association takes on trust
        assert answer(tmp_path, "S44") == said


def test_associations_say_how_strong_an_unrecorded_cause_would_have_to_be(tmp_path):
    found = {"S44": estimate(2.06, 1.8, 2.4), "S10a": estimate(0.5, 0.4, 0.6, n=402), "S42": estimate(-0.1, -0.2, 0.0)}
    keep(tmp_path, found)
    frame = ledger.merge(tmp_path)
    assert row(frame, "S44").strength == pytest.approx(2 + math.sqrt(2))  # moved from 2.06 to its bound of 1.03
    assert 0.2 < row(frame, "S10a").strength < 0.4
    assert "declared: no unrecorded cause (to move the ratio to 1.03 one would have to go" in row(frame, "S44").checks
    assert "robustness value" in row(frame, "S10a").checks
    assert math.isnan(row(frame, "S42").strength)  # drawn by lot: nothing is unrecorded
    assert row(frame, "S42").checks == ""


def test_odds_and_hazard_ratios_of_common_outcomes_are_read_as_risk_ratios(tmp_path):
    assert e_value(3.9) == pytest.approx(7.26, abs=0.005)  # VanderWeele and Ding's own example
    for ratio in (0.3, 0.8, 1.7, 4.0):
        assert risk_ratio(ratio, "odds ratio") == math.sqrt(ratio)
        assert risk_ratio(ratio, "rate ratio") == ratio  # of counts: nothing to mend
        # risks around one half whose hazards stand in this ratio
        risks = [1 - 0.5**ratio**power for power in (0.5, -0.5)]
        assert math.log(1 - risks[0]) / math.log(1 - risks[1]) == pytest.approx(ratio)
        assert risk_ratio(ratio, "hazard ratio") == pytest.approx(risks[0] / risks[1])
    keep(
        tmp_path, {"S16a": estimate(0.473, 0.43, 0.53), "S06": estimate(0.8, 0.77, 0.83), "S44": estimate(2.06, 1.8, 3)}
    )
    frame = ledger.merge(tmp_path)
    assert row(frame, "S16a").strength == pytest.approx(e_value(math.sqrt(0.473 / 0.95)))
    assert row(frame, "S06").strength < e_value(0.8 / 0.97)
    assert row(frame, "S44").strength == pytest.approx(e_value(2.0))


def test_every_ratio_of_an_association_is_a_hazard_odds_or_rate_ratio():
    units = {x.unit for x in ledger.lines().values() if x.bound and x.bound.none == 1 and x.design == "association"}
    assert units == {"hazard ratio", "odds ratio", "rate ratio"}


def test_the_unit_is_that_of_the_estimate(tmp_path):
    keep(tmp_path, {"S19": Estimate(0.6, 0.5, 0.7, "share of spend", 500), "S37": Missing("no costs")})
    frame = ledger.merge(tmp_path)
    assert (row(frame, "S19").unit, row(frame, "S37").unit) == ("share of spend", "share of customers")


# -- the file ----------------------------------------------------------------------------------------------------------


def test_ledger_has_every_line_and_says_why_not(tmp_path):
    keep(tmp_path, {"S40": Missing("bank b brings no table prospects", ("prospects",))})
    frame = ledger.merge(tmp_path)
    assert list(frame.columns) == list(ledger.COLUMNS)
    assert set(frame.line_id) == set(ledger.lines())
    assert row(frame, "S40").verdict == "not applicable"
    assert "prospects" in row(frame, "S40").checks
    assert row(frame, "S32").verdict == "not testable"
    assert row(frame, "S45").verdict == "not measured"
    assert set(frame.verdict) <= {"not applicable", "not testable", "not measured"}


def test_written_ledger_reads_back_and_is_the_same_twice(tmp_path):
    keep(tmp_path, {"S40": estimate(4.4, 4.1, 4.7, checks=[Check.of("a", True, "b")])})
    ledger.merge(tmp_path)
    first = (tmp_path / "ledger.csv").read_bytes()
    ledger.merge(tmp_path)
    assert (tmp_path / "ledger.csv").read_bytes() == first
    back = row(ledger.read(tmp_path), "S40")
    assert (back.estimate, back.ci_low, back.verdict, back.checks) == (4.4, 4.1, "supported", "open: a (b)")
    assert json.loads((tmp_path / "ledger.json").read_text())[0]["line_id"] == "S01"


def test_cells_are_found_in_the_executed_notebooks(tmp_path):
    keep(tmp_path, {"S40": estimate(4.4, 4.1, 4.7)})
    notebook = {"cells": [{"cell_type": "code", "id": "ratio", "source": ['nb.keep(grid, "ratios", "S40")']}]}
    path = tmp_path / "notebooks" / "03_acquisition_retention_cost.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(notebook))
    assert row(ledger.merge(tmp_path), "S40").cell == "ratio"


def test_unknown_line_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match=r"no line S4O in claims.yaml; did you mean S"):
        keep(tmp_path, {"S4O": estimate(1, 0, 2)})
    assert not (tmp_path / "findings").exists()


def test_missing_ledger_says_what_makes_one(tmp_path):
    with pytest.raises(InputError, match="crmresearch run"):
        ledger.read(tmp_path)


def test_rule_in_words():
    assert ledger.rule_text(ledger.lines()["S40"]) == (
        "supported if the whole interval lies above 2, refuted if it lies on the other side"
    )
    assert ledger.rule_text(ledger.lines()["S19"]) == "described, no verdict"
    assert ledger.rule_text(ledger.lines()["S03"]) == "holds below 0.001, fails otherwise"
    assert "below -2 or above 2" in ledger.rule_text(ledger.lines()["S14a"])


def test_reference_ledger_columns():
    path = Path(__file__).parents[1] / "outputs" / "reference" / "ledger.csv"
    if not path.exists():
        pytest.skip("outputs/reference/ledger.csv has not been made yet: make notebooks")
    assert list(pd.read_csv(path, nrows=1).columns) == list(ledger.COLUMNS)
