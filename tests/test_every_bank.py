"""The notebooks run through on banks that bring little: a tiny one of one's own, and the open data sets."""

from __future__ import annotations

import pytest

import poor_banks
from crmresearch import ledger
from crmresearch.data.bank import open_bank
from crmresearch.data.sources import open_data as published
from crmresearch.run import batch

# what open data sets can be asked (their catalogue entries say what they cannot); the same records ten times as many
# are not run again
NAMES = sorted(set(published.catalogue()) - {"cdnow"})
EXPECTED = {
    "berka": {"S07": "holds", "S37": "not applicable"},
    "cdnow-sample": {"S19": "blocked", "S03": "not applicable"},
    "bank-churners": {"S06": "not applicable"},
    "bank-marketing": {"S40": "not applicable"},
    "smcrm": {"S41": "not applicable"},
    # S10c is the primary line; where no primary line is decided, no level is left for secondary ones
    "plspm-satisfaction": {"S10a": "undecided", "S10b": "blocked", "S12": "not applicable"},
}


def completed(outcome: batch.Outcome) -> None:
    assert {
        name: one["status"] for name, one in outcome.status["notebooks"].items() if one["status"] != "completed"
    } == {}
    assert outcome.completed, outcome.status


def test_every_study_runs_on_the_example_bank(example, tmp_path):
    rows = poor_banks.run(open_bank(str(example)), tmp_path, drawn=True)
    poor_banks.reasoned(rows)
    # no transactions and no prospects there: the claims that need them say so
    assert rows["verdict"][["S36", "S40", "S34"]].eq("not applicable").all()
    # forty-eight customers decide no hypothesis
    hypotheses = [k for k, line in ledger.lines().items() if line.kind == "H"]
    assert not rows["verdict"][hypotheses].isin(["supported", "refuted"]).any()


def test_a_run_on_an_open_data_set_completes(open_data, tmp_path):
    """In kernels those that it says something of; all of them in this process, below."""
    open_data("smcrm-winback")
    studies = ["00", "03", "99"]
    outcome = batch.run("smcrm-winback", studies=studies, out=tmp_path / "run", jobs=1, site=False)
    completed(outcome)
    rows = ledger.read(outcome.folder).set_index("line_id")
    assert "not measured" not in set(rows["verdict"][["S07", "S04", "S40"]])


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_runs_on_every_open_data_set(name, open_data, tmp_path):
    rows = poor_banks.run(open_data(name), tmp_path, drawn=True)
    poor_banks.reasoned(rows)
    expected = EXPECTED.get(name, {})
    assert rows["verdict"][list(expected)].to_dict() == expected
    assert set(rows["evidence"]) == {published.catalogue()[name]["evidence"]}
