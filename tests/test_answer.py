"""The answer in sentences: every verdict of every design is said, what is missing is said, and no number is made up."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from crmresearch import answer, ledger
from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import ANSWERS
from crmresearch.result import Check
from crmresearch.run.site import claims
from crmresearch.run.site.runs import Run

LINES = [line_id for chosen in ledger.answered_from().values() for line_id in chosen]
PLANTED = {
    "S40": Estimate(4.448, 4.359, 4.539, "ratio", 16_822),
    "S40b": Estimate(1.2, 1.1, 1.3, "ratio", 16_822),
    "S40c": Estimate(6.2, 6.1, 6.3, "ratio", 16_822),
    "S42": Estimate(-0.01236, -0.02002, -0.0047, "share of customers", 20_225),
    "S02": Estimate(-5.977, -12.915, 0.961, "money per customer", 20_225),
    "S25": Estimate(25.25, 14.89, 40.39, "money per customer", 9_896),
    "S10c": Estimate(0.0969, 0.0667, 0.1274, "standardised effect", 1_339),
    "S12": Estimate(0.7, -0.3, 1.1, "money per customer-year", 4_271),
    "S19": Estimate(0.8, 0.8, 0.8, "share of contribution", 15_954),
    "S22": Estimate(0.73, 0.71, 0.75, "Jaccard overlap", 3_615, checks=(Check.of("years", False, "one only"),)),
}
VERDICTS = ("supported", "refuted", "undecided", "blocked", "reported", "not applicable", "not measured")
TRUTH = {"S40": {"world": 4.43}, "S02": {"world": -10.83}, "S10c": {"world": 0.15, "limit": 0.14}}


def merged(folder, findings, truth=None, whole=True):
    about = {"bank": "b", "evidence": "simulated", "parameters": {}, "truth": truth or {}}
    ledger.record(folder, "03_acquisition_retention_cost", findings, **about)
    return ledger.merge(folder, whole=whole)


def said(frame):
    return {s.line_id: s for part in answer.sentences(frame, "EUR").values() for s in part}


def test_five_parts_are_chosen_in_the_register_from_primary_lines():
    assert list(ledger.answered_from()) == list(answer.say.names("parts"))
    assert len(ledger.answered_from()) == 5
    assert set(answer.say.names("lines")) == set(LINES)
    assert all(ledger.lines()[k].primary and ledger.lines()[k].design != "check" for k in LINES)


def test_a_planted_ledger_gives_these_five_sentences(tmp_path):
    found = said(merged(tmp_path, PLANTED, TRUTH))
    assert {k: s.text for k, s in found.items()} == {
        "S40": "winning a customer costs 4.45 [4.36, 4.54] times what keeping one costs for a year: as the claim says "
        "(above 2), though 1 of the claim's 2 other lines lie on the other side",
        "S42": "a retention contact drawn by lot moves exits within twelve months by −1.24 [−2.00, −0.47] percentage "
        "points: an effect as claimed (below −0.20)",
        "S02": "a retention contact drawn by lot, its own cost deducted, moves what a customer contributes in the next "
        "twelve months by −5.98 [−12.91, 0.96] EUR: whether it lies above 0, as claimed, stays open",
        "S25": "giving each segment the offer that is best for it moves what a customer contributes in a year by 25.25 "
        "[14.89, 40.39] EUR against one offer for all that costs as much: an effect as claimed (above 0)",
        "S10c": "one standard deviation of perceived quality goes, through satisfaction, with 0.097 [0.067, 0.127] "
        "standard deviations of loyalty: the two go together as claimed (above 0.050), which shows no cause",
        "S12": "one standard deviation of satisfaction goes with 0.70 [−0.30, 1.10] EUR of contribution in the year "
        "after: they do not go together as claimed (above 2)",
        "S19": "the best fifth of customers make up 80.0% (exact) of contribution (of spend or fees, where the bank "
        "brings no contribution): described, and held against no bound",
        "S22": "of the customers who are core in one of two successive years, 73.0% [71.0%, 75.0%] are core in both: "
        "no verdict; an assumption failed: years (one only)",
    }
    assert {k: s.planted for k, s in found.items() if s.planted} == {
        "S40": "planted 4.43; the interval holds it, and the verdict is the one the truth would get.",
        "S02": "planted −10.83; the interval holds it, and the verdict leaves open what the truth decides.",
        "S10c": "planted 0.150 (this estimator tends to 0.140); the interval misses it, and the verdict is the one the "
        "truth would get.",
    }


@pytest.mark.parametrize("design", [d for d in ANSWERS if d != "check"])
def test_every_verdict_of_every_design_has_a_sentence(design, tmp_path, monkeypatch):
    changed = {k: replace(v, design=design) if k in LINES else v for k, v in ledger.lines().items()}
    frame = merged(tmp_path, PLANTED)
    monkeypatch.setattr(ledger, "lines", lambda: changed)
    own, texts = frame["line_id"].isin(LINES), {}
    for verdict in VERDICTS:
        here = frame.assign(truth=frame["truth"].mask(own, 1.0))
        here.loc[own, "verdict"] = verdict
        if verdict.startswith("not"):
            here.loc[own, "estimate"] = math.nan
        texts[verdict] = {k: s.text for k, s in said(here).items()}
        assert not any("{" in text for text in texts[verdict].values())
    for k in LINES:
        assert len({texts[v][k] for v in VERDICTS}) == len(VERDICTS)
        assert ("shows no cause" in texts["supported"][k]) == (design == "association")
        assert ("an effect" in texts["supported"][k]) == (design in ("lot", "natural"))


def test_what_large_banks_alone_tell_is_not_called_planted(tmp_path):
    frame = merged(tmp_path, PLANTED, {"S40": {"limit": 9.0, "error": 0.01}})
    row = frame.set_index("line_id").loc["S40"]
    assert (math.isnan(row["truth"]), row["limit"], row["truth_verdict"]) == (True, 9.0, "found")
    told = "this estimator tends to 9.00; the interval misses it, and the verdict is the one that limit would get."
    assert said(frame)["S40"].planted == told


@pytest.mark.parametrize("judged", ["found", "missed", "wrong", "blocked", "at the bound"])
def test_every_judgement_of_the_truth_has_words(judged, tmp_path):
    frame = merged(tmp_path, PLANTED)
    found = said(frame.assign(truth=1.0, truth_verdict=judged))
    assert all(re.match(r"planted .*interval (holds|misses) it, and .*\.$", s.planted) for s in found.values())


@pytest.mark.parametrize(
    ("checks", "ends", "tail"),
    [
        ((Check.of("lot", False, "x"),), (-0.05, -0.03), "no verdict; an assumption failed: lot (x)"),
        (
            (Check("lot", "declared", "x"),),
            (-0.05, -0.03),
            "stays open; it rests on an assumption that data cannot show: lot (x)",
        ),
        ((Check("lot", "open", "x"),), (-0.05, 0.03), "stays open"),
        ((), (0.01, 0.03), "an effect, and it goes the other way than claimed (below −0.20)"),
        ((), (-0.0015, -0.0005), "no effect that matters (below −0.20 would)"),
    ],
)
def test_why_a_line_is_open_or_refuted_is_said(checks, ends, tail, tmp_path):
    found = Estimate(sum(ends) / 2, *ends, "share of customers", 900, checks=checks)
    assert said(merged(tmp_path, {"S42": found}))["S42"].text.endswith(tail)


def test_what_many_lines_leave_open_is_said(tmp_path):
    frame = merged(tmp_path, PLANTED)
    frame.loc[frame["line_id"] == "S40", "verdict"] = "undecided"
    assert said(frame)["S40"].text.endswith("stays open, as many lines looked at together leave too little")


def test_a_part_of_the_register_answers_nothing(tmp_path):
    found = said(merged(tmp_path, PLANTED, whole=False))
    assert found["S42"].text.endswith("percentage points: no verdict yet, as a part of the notebooks was run")


def test_a_bank_that_brings_little_gets_five_sentences_on_what_is_missing(tmp_path):
    reason = "the bank brings no table contacts"
    frame = merged(tmp_path, {"S40": Missing(reason), "S02": Missing(reason + ".")})
    parts = answer.sentences(frame, "EUR")
    assert len(parts) == 5
    found = said(frame)
    assert (
        found["S40"].text == f"what winning a customer costs against keeping one cannot be said of this bank: {reason}"
    )
    assert found["S02"].text.endswith(f"cannot be said of this bank: {reason}")
    for k in ("S25", "S42", "S10c", "S12", "S19", "S22"):
        assert found[k].text.endswith("was not measured: no notebook of this run estimates it")
    assert not any(ch.isdigit() for s in found.values() for ch in s.text + s.planted)


@pytest.mark.parametrize("verdict", VERDICTS[:5])
def test_a_line_whose_estimate_is_suppressed_says_why(verdict, tmp_path):
    """A bank of a few customers: the share of its best fifth rests on too few, and is not shown."""
    gates = (Check.of("cell size", False, "too few"), Check("tail", "open", "thin"))
    frame = merged(tmp_path, PLANTED | {"S19": replace(PLANTED["S19"], checks=gates)})
    line = frame["line_id"] == "S19"
    frame.loc[line, ["estimate", "ci_low", "ci_high"]] = math.nan
    frame.loc[line, "verdict"] = verdict
    assert said(frame)["S19"].text.endswith("has no estimate on this bank: cell size (too few)")


@pytest.mark.parametrize("n", [1, 4, 9])
@pytest.mark.parametrize("line_id", ["S22", "S40", "S12"])
def test_an_estimate_from_a_few_people_is_printed_nowhere(line_id, n, tmp_path):
    """Of one customer the core of one year was the core of the next: 100% [0%, 100%]."""
    found = PLANTED | {line_id: Estimate(0.12345, 0.0678, 0.97531, "x", n)}
    frame = merged(tmp_path, found)
    row = frame.set_index("line_id").loc[line_id]
    assert row[["estimate", "ci_low", "ci_high", "n", "p_value", "truth"]].isna().all()
    assert row["verdict"] == "not applicable"
    assert said(frame)[line_id].text.endswith("fewer than 10 people stand behind this estimate, so it is not shown")
    told = answer.of_notebook("03_acquisition_retention_cost", found, TRUTH, "simulated")
    (tmp_path / "run.json").write_text('{"bank": {"name": "b", "evidence": "simulated", "currency": "EUR"}}', "utf-8")
    run = Run(tmp_path)
    cards = claims.cards([run], run.answers, lambda *_: None)
    written = [p.read_text("utf-8") for p in tmp_path.rglob("*") if p.is_file()]
    for text in (*written, repr(told), told._repr_html_(), cards):
        assert not re.search(r"0\.123|12\.3|0\.0678|6\.8|0\.975|97\.5", text)


@pytest.mark.parametrize(("line_id", "n"), [("S22", 10), ("S40", 10), ("S34", 3), ("S09", 1)])
def test_ten_people_and_counts_of_tables_and_files_are_printed(line_id, n, tmp_path):
    frame = merged(tmp_path, {line_id: Estimate(0.5, 0.4, 0.6, "x", n)}).set_index("line_id")
    assert frame.loc[line_id, ["estimate", "n"]].tolist() == [0.5, n]


# --- one notebook ----------------------------------------------------------------------------------------------------


def test_a_notebook_says_what_was_learnt_how_sure_and_what_not():
    result = answer.of_notebook("03_acquisition_retention_cost", PLANTED, TRUTH, "simulated")
    table = result.table.set_index("line")
    assert list(table.index) == ["S02", "S10c", "S12", "S19", "S22", "S25", "S40", "S42"]  # claims once, in their order
    assert table["answer"][["S02", "S10c", "S22", "S42"]].tolist() == ["open", "consistent", "blocked", "shown"]
    assert table["answer"]["S40"] == "as described; mixed: S40b"
    assert table.loc["S42", ["estimate", "interval", "planted"]].tolist() == ["−0.0124", "[−0.0200, −0.00470]", "–"]
    assert table.loc["S19", "interval"] == "(exact)"
    for part in (
        "8 in all: open (S02); consistent (S10c);",
        "1 checked, of which 1 failed, 0 are doubtful and 0 could hardly have shown a failure; 2 taken on trust.",
        "2 of 3 intervals hold what their estimators tend to in the planted world.",
        "What was found of S10c, S12 is an association and shows no cause.",
        "The bank is simulated",
    ):
        assert part in result.sentence


@pytest.mark.parametrize("evidence", ["real bank", "published", "real, other trade"])
def test_a_notebook_on_a_bank_that_brings_nothing_answers_so(evidence):
    missing = {"S40": Missing("no table prospects"), "S04": Missing("no table prospects")}
    result = answer.of_notebook("03_acquisition_retention_cost", missing, {}, evidence)
    assert "2 in all: not applicable (S04, S40)." in result.sentence
    assert "no cause" not in result.sentence
    assert "simulated" not in result.sentence
    assert not {"planted", "tends_to"} & set(result.table)
    assert result.table["estimate"].tolist() == ["–", "–"]
    assert "not applicable" in result._repr_html_()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.62, "0.620"),
        (4.4137, "4.41"),
        (44.137, "44.1"),
        (441.37, "441"),
        (12345.6, "12,346"),
        (0, "0"),
        (1.7e-16, "0"),
        (-0.0123, "−0.0123"),
        (0.00002, "2.0e−05"),
        (-3e-5, "−3.0e−05"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "–"),
    ],
)
def test_numbers_of_any_unit_have_three_digits(value, text):
    assert answer.number(value) == text
