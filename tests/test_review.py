"""The ledger as a whole: what moved and why, benefits and references bound, claims by theme over the banks at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from crmresearch import ledger, review
from crmresearch.data.places import put
from crmresearch.errors import InputError, Missing
from crmresearch.escape import csv
from crmresearch.estimators.inference import Estimate
from crmresearch.run import batch, plan
from test_batch import notebook, tiny  # noqa: F401 (a fixture)

SHARED = Path(os.environ.get("CRMRESEARCH_SHARED", Path(__file__).parents[2] / "shared"))
ESSAYS = SHARED / "essays" / "bank-crm-essays.zh.txt"
BOUND = sorted({line for one in ledger.listed("benefits") for line in one["lines"]})


def found(value=1.0, low=0.9, high=1.1, n=500):
    return Estimate(value, low, high, "ratio", n)


def run(folder, findings, data="a", until="2024-12-31", whole=True, **inputs):
    """Write a folder as a run has it when the last notebook begins."""
    for line, one in findings.items():
        own = ledger.lines()[line].notebook
        ledger.record(folder, own, {line: one}, bank="b", evidence="simulated", parameters={}, data=data)
    prints = {"data": data, "code": "c", "lock": "l", "register": "r", "notebooks": {}} | inputs
    about = {"bank": {"name": "b", "observation_end": until}, "fingerprints": prints, "parameters": {}}
    ledger.write_json(folder / "run.json", about)
    ledger.merge(folder, whole=whole)
    return folder


@pytest.fixture
def two(tmp_path):
    """A run with an earlier one beside it; both measure S40 and S06, and the later one S02 alone."""
    old = run(
        tmp_path / "run" / review.SINCE, {"S40": found(3, 2.5, 3.5), "S06": found(0.8, 0.7, 0.9)}, "z", "2023-12-31"
    )
    new = run(tmp_path / "run", {"S40": found(1, 0.9, 1.1), "S06": found(0.8, 0.7, 0.9), "S02": found(5, 4, 6)})
    assert old.parent == new
    return new


# --- two windows ------------------------------------------------------------------------------------------------------


def test_moved_verdicts_are_listed_with_what_can_have_moved_them(two):
    result = review.moved(two)
    table = result.table.set_index("line")
    assert table.loc["S40"].tolist()[:2] == ["supported", "refuted"]
    assert table.loc["S02"].tolist()[:2] == ["not measured", "supported"]
    assert set(table.index) == {"S40", "S02"}
    assert set(table["moved_by"]) == {"data"}
    assert "2023-12-31" in result.sentence
    assert (result.finding("S11").value, result.finding("S11").n) == (0, 2)


def test_a_line_that_the_earlier_register_did_not_have_has_not_moved(two):
    frame = ledger.read(two / review.SINCE)
    put(two / review.SINCE / "ledger.csv", csv(frame[frame["line_id"] != "S02"]), private=False)
    assert review.moved(two).table["line"].tolist() == ["S40"]


def test_what_moved_shows_no_two_estimates_whose_difference_tells_of_a_few_customers(two):
    assert list(review.moved(two).table) == ["line", "before", "now", "moved_by"]


@pytest.mark.parametrize(("before", "now"), [([], ["S40"]), (["S40"], []), (["S40"], ["S06"]), ([], [])])
def test_runs_that_measured_nothing_in_common_are_not_said_to_agree(tmp_path, before, now):
    run(tmp_path / "run" / review.SINCE, {k: found() for k in before}, "z", "2023-12-31")
    missing = review.moved(run(tmp_path / "run", {k: found() for k in now})).missing
    assert "no line is measured in both runs; crmresearch run --since" in missing.reason


@pytest.mark.parametrize("field", ["bound", "estimand", "side"])
def test_a_line_whose_rule_differs_is_not_compared_and_fails_the_check(two, field):
    frame = ledger.read(two / review.SINCE)
    frame.loc[frame["line_id"] == "S40", field] = 9.0 if field == "bound" else "another"
    put(two / review.SINCE / "ledger.csv", csv(frame), private=False)
    result = review.moved(two)
    assert result.finding("S11").value == 1
    assert ledger.verdict(ledger.lines()["S11"], result.finding("S11")) == "fails"
    assert "S40" in result.sentence


def test_one_load_or_the_same_data_twice_is_a_reason_with_the_remedy(two, tmp_path):
    for folder in (None, run(tmp_path / "alone", {"S40": found()})):
        assert "--since" in review.moved(folder).missing.reason
    run(two / review.SINCE, {}, "a")
    assert "same data" in review.moved(two).missing.reason


def test_the_runner_lays_an_earlier_run_beside_the_last_notebook_and_takes_it_away(tiny, tmp_path):  # noqa: F811
    source = (
        "import os, pathlib\nfolder = pathlib.Path(os.environ['CRMRESEARCH_OUT'])\n"
        "print(sorted(p.name for p in (folder / 'since').iterdir()) if (folder / 'since').exists() else 'none')"
    )
    notebook(tmp_path / "n" / "99_ledger.ipynb", source)

    def shown(outcome):
        cells = json.loads((outcome.folder / "notebooks" / "99_ledger.ipynb").read_text("utf-8"))["cells"]
        return "".join(t for c in cells for o in c.get("outputs", []) for t in o.get("text", []))

    ways = {"folder": tmp_path / "n", "site": False}
    first = batch.run(str(tiny), out=tmp_path / "first", **ways)
    second = batch.run(str(tiny), out=tmp_path / "second", since=tmp_path / "first", **ways)
    assert "none" in shown(first)
    assert "'ledger.csv', 'run.json'" in shown(second)
    assert not (second.folder / "since").exists()
    assert batch.run(str(tiny), out=tmp_path / "second", since=tmp_path / "first", **ways).unchanged
    assert not batch.run(str(tiny), out=tmp_path / "second", **ways).unchanged


def test_an_earlier_run_that_is_none_or_of_another_bank_is_refused(two, tmp_path):
    with pytest.raises(InputError, match="no finished run; --since names"):
        plan.earlier(tmp_path / "nothing", "b")
    with pytest.raises(InputError, match="a run of the bank b, not of c"):
        plan.earlier(two, "c")
    assert plan.earlier(two, "b")


# --- what the essays list ---------------------------------------------------------------------------------------------


def measured(*without):
    return {line: found() for line in BOUND if line not in without}


def test_benefits_are_bound_to_lines_that_are_measured(tmp_path):
    frame = ledger.table([{"notebook": "x", "lines": {k: ledger.checked(k, v) for k, v in measured().items()},
                           "parameters_hash": "", "truth": {}}])  # fmt: skip
    result = review.benefits(frame)
    assert result.finding("S24").value == 0
    assert ledger.verdict(ledger.lines()["S24"], result.finding("S24")) == "holds"
    assert len(result.table) == len(ledger.listed("benefits")) == 8


@pytest.mark.parametrize("kind", ["missing", "closed"])
@pytest.mark.parametrize("lines", [["S29", "S51"], ["S42", "S10c"], ["S02", "S57"]])
def test_a_benefit_that_nothing_measures_fails_the_check(lines, kind):
    from crmresearch.result import Check

    closed = Estimate(1.0, 0.9, 1.1, "ratio", 500, checks=(Check("a", "closed", "b"),))
    less = dict.fromkeys(lines, Missing("no table", ()) if kind == "missing" else closed)
    rows = {k: ledger.checked(k, v) for k, v in (measured() | less).items()}
    frame = ledger.table([{"notebook": "x", "lines": rows, "parameters_hash": "", "truth": {}}])
    found_ = review.benefits(frame).finding("S24")
    assert found_.value == 1
    assert ledger.verdict(ledger.lines()["S24"], found_) == "fails"


@pytest.mark.parametrize("lines", [["S29", "S51"], ["S55", "S38"], ["S41", "S40"]])
def test_benefits_wait_for_notebooks_that_were_not_run(lines):
    rows = {k: ledger.checked(k, v) for k, v in measured(*lines).items()}
    frame = ledger.table([{"notebook": "x", "lines": rows, "parameters_hash": "", "truth": {}}])
    assert ledger.lines()[lines[0]].notebook in review.benefits(frame).missing.reason


def test_benefits_and_references_name_lines_claims_and_words_of_the_essays():
    assert set(BOUND) <= set(ledger.lines())
    listed, known = ledger.listed("references"), {c["id"] for c in ledger.claims()}
    assert len(listed) == 5
    assert all(r["claims"] and set(r["claims"]) <= known for r in listed)
    if not ESSAYS.exists():
        pytest.skip("the essays are not on this disk")
    text = ESSAYS.read_text("utf-8")
    assert [b["anchor"] for b in ledger.listed("benefits") if b["anchor"] not in text] == []
    assert [r["title"] for r in listed if f"{r['title']}[" not in text] == []


@pytest.mark.parametrize("claims", [[], ["S60"], ["S99", "X"]])
def test_a_reference_that_bears_on_no_claim_fails_the_check(claims, monkeypatch):
    assert review.references().finding("S59").value == 0
    listed = [*ledger.listed("references")[1:], {"author": "A", "title": "T", "year": 2001, "claims": claims}]
    monkeypatch.setattr(ledger, "listed", lambda _: listed)
    result = review.references().finding("S59")
    assert ledger.verdict(ledger.lines()["S59"], result) == "fails"


def test_history_is_not_testable_with_its_source_and_what_stands_in_its_place(tmp_path):
    result = review.history(ledger.read(run(tmp_path, {"S02": found(5, 4, 6)})))
    table = result.table.set_index("claim")
    assert list(table.index) == ["S32", "S33", "S35"]
    assert table.loc["S35", "instead"].startswith("S02: supported, 5")
    assert set(table["instead"].drop("S35")) == {"–"}
    ledger.record(tmp_path, "99_ledger", {k: result.finding(k) for k in table.index}, bank="b", evidence="simulated",
                  parameters={})  # fmt: skip
    rows = ledger.merge(tmp_path).set_index("line_id").loc[table.index]
    assert set(rows["verdict"]) == {"not testable"}
    assert rows["checks"].str.contains("Unsourced").all()


# --- all claims, all banks --------------------------------------------------------------------------------------------


def test_a_run_of_some_notebooks_says_what_is_missing_and_ends(tmp_path):
    (tmp_path / "findings").mkdir()
    frame = review.standing(tmp_path, "b")
    themes = review.by_theme(frame, pd.DataFrame(columns=[*ledger.COLUMNS, "answer"]))
    assert len(themes.table) == 59
    assert "02_churn_survival" in themes.sentence
    assert "02_churn_survival" in review.benefits(frame).missing.reason


def test_own_findings_count_and_a_part_stays_provisional(tmp_path):
    run(tmp_path, {"S40": found(3, 2.5, 3.5)}, whole=False)
    ledger.record(tmp_path, "99_ledger", {"S58": found(0.3, 0.2, 0.4)}, bank="b", evidence="simulated", parameters={})
    rows = review.standing(tmp_path, "b").set_index("line_id")
    assert rows.loc["S58", "verdict"] == "supported"
    assert rows.loc["S58", "provisional"] == "yes"


def test_by_hand_the_stored_ledger_of_the_reference_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(review, "STORED", tmp_path)
    assert "crmresearch run" in review.standing(None, "reference").reason
    frame = ledger.merge(run(tmp_path, {"S40": found(3, 2.5, 3.5)}))
    pd.testing.assert_frame_equal(review.standing(None, "reference"), ledger.read(tmp_path))
    assert isinstance(review.standing(None, "berka"), Missing)
    put(tmp_path / "ledger.csv", csv(frame.assign(register="another")), private=False)
    assert "another register" in review.standing(None, "reference").reason


def test_open_banks_are_told_by_claim_and_line_as_long_as_the_rule_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(review, "STORED", tmp_path)
    assert review.at_hand().empty
    assert not review.real_evidence(review.at_hand()).applicable
    high, low = found(3, 2.5, 3.5), found(1, 0.9, 1.1)
    measured = {"x": {"S40": high, "S40d": high, "S09": found(0, 0, 0)}, "y": {"S40": low}, "z": {"S40": high}}
    folders = [run(tmp_path / name, own) for name, own in measured.items()]
    for folder, evidence in zip(folders, ("real bank", "real, other trade", "simulated"), strict=True):
        own = folder / "ledger.csv"
        put(own, csv(ledger.read(folder).assign(bank=folder.name, evidence=evidence)), private=False)
    stored = review.side_by_side(folders)
    put(tmp_path / review.OPEN, csv(stored), private=False)
    others = review.at_hand()
    assert others[["bank", "line_id"]].to_numpy().tolist() == [["x", "S40"], ["x", "S40d"], ["y", "S40"], ["z", "S40"]]
    table = review.by_theme(ledger.read(folders[0]), others).table.set_index("claim_id")
    assert table.loc["S40", "real_banks"] == "as described 1"  # a bank counts once, and of another trade nobody
    assert review.real_evidence(others).table["bank"].tolist() == ["x", "y", "x"]  # line by line
    put(tmp_path / review.OPEN, csv(stored.assign(bound=9.0)), private=False)
    assert review.at_hand().empty
