"""A new notebook: made from the templates in a copy of the project, it runs as it is, and its line is in the ledger."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from crmresearch.errors import InputError
from crmresearch.run import new

ROOT = Path(__file__).parents[1]
CLAIM = """
- id: S90
  kind: H
  theme: keep
  claim: Most customers stay.
  anchor: []
  tables: [customers]
  notebook: 05_example
  lines:
    S90: {estimand: share still there, unit: share of customers, design: description, side: above, bound: 0.5}
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """What a clone holds, as far as a new notebook needs it, with a claim for one."""
    folder = tmp_path_factory.mktemp("new") / "clone"
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "data" / "example", folder / "data" / "example")
    (folder / "notebooks").mkdir()
    (folder / "tests").mkdir()
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    with (folder / "src" / "crmresearch" / "claims.yaml").open("a", encoding="utf-8") as register:
        register.write(CLAIM)
    done = python(folder, "-m", "crmresearch", "new-notebook", "05_example")
    assert done.returncode == 0, done.stderr
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_it_writes_notebook_study_test_and_words(clone):
    written = ["notebooks/05_example.ipynb", "src/crmresearch/studies/example.py", "tests/test_example.py"]
    assert all((clone / name).is_file() for name in written)
    assert "\nexample:\n" in (clone / "src" / "crmresearch" / "words" / "en.yaml").read_text("utf-8")


def test_it_runs_on_a_bank_and_its_line_is_in_the_ledger(clone):
    # without a site, whose reference of the package takes most of a minute
    command = "batch.run('data/example', studies=['05'], out=pathlib.Path('run'), site=False)"
    done = python(clone, "-c", f"import pathlib; from crmresearch.run import batch; {command}")
    assert done.returncode == 0, done.stderr
    ledger = pd.read_csv(clone / "run" / "ledger.csv").set_index("line_id")
    line = ledger.loc["S90"]
    assert line["notebook"] == "05_example"
    assert line["n"] == 48
    assert line["ci_low"] < line["estimate"] < line["ci_high"]
    assert line["verdict"] == "blocked"  # until the template's estimand is replaced
    assert (clone / "run" / "tables" / "05_example_stayed.csv").is_file()
    # no year of that bank has ten customers, so that nothing may be drawn
    assert not (clone / "run" / "figures").exists()


def test_its_own_test_passes_and_its_code_keeps_the_style(clone):
    done = python(clone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_example.py")
    assert done.returncode == 0, done.stdout
    for words in (["check"], ["format", "--check"]):
        places = ["src/crmresearch/studies/example.py", "tests/test_example.py", "notebooks"]
        done = python(clone, "-m", "ruff", *words, "--no-cache", *places)
        assert done.returncode == 0, done.stdout


def test_a_name_without_a_claim_and_a_second_time_are_refused(clone, tmp_path):
    with pytest.raises(InputError, match="write the claim first"):
        new.create("05_nobody", tmp_path)
    with pytest.raises(InputError, match="like 05_example"):
        new.create("example", tmp_path)
    with pytest.raises(InputError, match="in a clone"):
        new.create("06_competition", tmp_path)
    done = python(clone, "-m", "crmresearch", "new-notebook", "05_example")
    assert done.returncode == 2
    assert "is there already" in done.stderr
