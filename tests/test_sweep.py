"""Sweeps: every combination runs once, refused before anything runs, ledgers side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from crmresearch.errors import InputError
from crmresearch.run import batch, cli, execution, sweep
from test_batch import BANK

# the share in the table of products without a customer follows the parameter; above one seventh the verdict changes
KEEP = """import os
from pathlib import Path
from crmresearch import ledger
from crmresearch.estimators.inference import Estimate
share = 0.0 if size < 5 else 0.5
found = {"S21": Estimate(share, share, share, "share of rows", 40)}
ledger.record(Path(os.environ["CRMRESEARCH_OUT"]), "00_ok", found, bank="tiny", evidence="simulated", parameters={})
assert size != 9"""


PARAMETERS = """bank_name: str = "none"  # bank, not empty
size: int = 1  # size, [1, 9]
seed: int = 1  # seed, [0, )"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "bank.yaml").write_text(BANK)
    rows = [f"c{i:04d},2019-03-01,2020-01-01" for i in range(40)]
    text = "\n".join(["customer_id,acquired_on,observed_from", *rows, ""])
    (tmp_path / "bank" / "customers.csv").write_text(text)
    first = new_code_cell(PARAMETERS, id="p", metadata={"tags": ["parameters"]})
    (tmp_path / "n").mkdir()
    execution.write_notebook(
        new_notebook(cells=[first, new_code_cell(KEEP, id="keep")]), tmp_path / "n" / "00_ok.ipynb"
    )
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRMRESEARCH_BANKS", raising=False)
    monkeypatch.setattr(batch, "_code", lambda: "unchanged")
    return tmp_path


def test_combinations_are_complete_and_named_for_folders():
    runs = sweep.combinations({"a": [1, 2], "months": [[3, 6]]})
    assert runs == {"a-1_months-3-6": {"a": 1, "months": [3, 6]}, "a-2_months-3-6": {"a": 2, "months": [3, 6]}}


def test_values_within_brackets_are_one():
    assert cli._several("1, 2") == [1, 2]
    assert cli._several("[3,6],[12]") == [[3, 6], [12]]
    assert cli._several("week,month") == ["week", "month"]


def test_a_sweep_sets_ledgers_side_by_side_and_names_what_changed(place):
    with ThreadPoolExecutor(2) as executor:
        table, statuses = sweep.run(
            str(place / "bank"), {"size": [1, 6, 9]}, place / "out", folder=place / "n", executor=executor
        )
    assert statuses == {"size-1": "completed", "size-6": "completed", "size-9": "failed"}
    verdicts = table[table["line_id"].eq("S21")].set_index("size")["verdict"].to_dict()
    assert verdicts == {"1": "holds", "6": "fails", "9": "fails"}
    assert sweep.changed(table) == {"S21": ["fails", "holds"]}
    written = pd.read_csv(place / "out" / "sweep.csv")
    assert list(written.columns[:3]) == ["run", "status", "size"]
    assert len(written) == len(table)
    assert (place / "out" / "size-1" / "ledger.csv").exists()
    assert not (place / "out" / "size-1" / "site").exists()


def test_what_is_refused_is_refused_before_anything_runs(place):
    with pytest.raises(InputError, match="size"):
        sweep.run(str(place / "bank"), {"size": [1, 10]}, place / "out", folder=place / "n")
    (place / "thesis").mkdir()
    (place / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="not this sweep"):
        sweep.run(str(place / "bank"), {"size": [1]}, place / "thesis", folder=place / "n")
    assert not (place / "out").exists()
    assert [p.name for p in (place / "thesis").iterdir()] == ["chapter.txt"]
