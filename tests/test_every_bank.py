"""The notebooks run through on banks that bring little: a tiny one of one's own, and the open data sets."""

from __future__ import annotations

import pytest

import poor_banks
from crmresearch import ledger
from crmresearch.data.sources import open_data as published
from crmresearch.run import batch

# what each open data set can be asked (its catalogue entry says what it cannot)
OPEN = [
    ("berka", ["00", "01"], {"S07": "holds", "S37": "not applicable"}),
    ("cdnow-sample", ["01"], {"S19": "blocked", "S03": "not applicable"}),
    ("bank-churners", ["02"], {"S06": "not applicable"}),
    ("bank-marketing", ["03"], {"S40": "not applicable"}),
    ("smcrm", ["03"], {"S41": "not applicable"}),
    # S10c is the primary line; where no primary line is decided, no level is left for secondary ones
    ("plspm-satisfaction", ["04"], {"S10a": "undecided", "S10b": "blocked", "S12": "not applicable"}),
]


def completed(outcome: batch.Outcome) -> None:
    assert {
        name: one["status"] for name, one in outcome.status["notebooks"].items() if one["status"] != "completed"
    } == {}
    assert outcome.completed, outcome.status


def test_every_study_runs_on_the_example_bank(example, tmp_path):
    outcome = batch.run(str(example), out=tmp_path / "run", jobs=1)
    completed(outcome)
    verdicts = ledger.read(outcome.folder).set_index("line_id")["verdict"]
    # no transactions and no prospects there: the claims that need them say so
    assert verdicts[["S36", "S40", "S34"]].eq("not applicable").all()
    # forty-eight customers decide no hypothesis
    hypotheses = [k for k, line in ledger.lines().items() if line.kind == "H"]
    assert not verdicts[hypotheses].isin(["supported", "refuted"]).any()


@pytest.mark.parametrize(("name", "studies", "expected"), OPEN, ids=[o[0] for o in OPEN])
def test_open_data_sets_answer_what_they_can(name, studies, expected, open_data, tmp_path):
    open_data(name)
    assert name in published.catalogue()
    outcome = batch.run(name, studies=studies, out=tmp_path / "run", jobs=1)
    completed(outcome)
    frame = ledger.read(outcome.folder).set_index("line_id")
    assert frame["verdict"][list(expected)].to_dict() == expected
    assert set(frame["evidence"]) == {published.catalogue()[name]["evidence"]}


@pytest.mark.parametrize("name", sorted(published.catalogue()))
def test_every_notebook_runs_on_every_open_data_set(name, open_data, tmp_path):
    rows = poor_banks.run(open_data(name), tmp_path)
    assert rows.loc[sorted(poor_banks.kept()), "verdict"].ne("not measured").all()
    absent = rows[rows["verdict"] == "not applicable"]
    assert absent.index[absent["checks"].str.len() < 20].tolist() == []
