"""Sweeps: every combination runs once, refused before anything runs, ledgers side by side."""

from __future__ import annotations

import fcntl
import json
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner

from crmresearch.data import pseudonyms
from crmresearch.errors import InputError
from crmresearch.run import cli, execution, options, plan, sweep, workers
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
    for name in ("imported", "whole"):
        monkeypatch.setattr(plan.Code, name, lambda *_: "unchanged")
    return tmp_path


def prepared(place: Path, values: dict, name: str = "out", **more: object) -> sweep.Sweep:
    return sweep.prepare(values, place / name, banks=[str(place / "bank")], folder=place / "n", **more)


def test_combinations_are_complete_and_named_for_folders():
    runs = sweep.combinations({"a": [1, 2], "months": [3, 6]}, exclude=[{"a": 2, "months": [3, 12]}])
    assert runs == {
        "a-1_months-3": {"a": 1, "months": 3},
        "a-1_months-6": {"a": 1, "months": 6},
        "a-2_months-6": {"a": 2, "months": 6},
    }
    runs = sweep.combinations({"a": [1]}, specifications={"cautious": {"a": 2, "b": 3}}, seeds=[1, 2], banks=["x", "y"])
    assert list(runs)[:4] == [
        "bank-x_a-1_seed-1",
        "bank-x_a-1_seed-2",
        "bank-x_cautious_seed-1",
        "bank-x_cautious_seed-2",
    ]
    assert runs["bank-y_cautious_seed-2"] == {"bank": "y", "specification": "cautious", "a": 2, "b": 3, "seed": 2}
    assert len(sweep.combinations({}, studies=[["00"], ["01", "02"]], seeds=range(3))) == 6


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exclude": [{"size": 3}, {"size": 1}]}, ['exclude {"size": 3} excludes nothing']),
        ({"exclude": [{}]}, ["nothing is left to run: every combination is excluded"]),
        ({"banks": ["a", "a"]}, ["--bank has the same value twice"]),
    ],
)
def test_combinations_that_cannot_be_meant_are_refused(more, said):
    with pytest.raises(InputError) as refused:
        sweep.combinations({"size": [1, 2]}, **more)
    assert str(refused.value).splitlines() == said


def test_values_within_brackets_are_one():
    assert options.several("1, 2") == [1, 2]
    assert options.several("[3,6],[12]") == [[3, 6], [12]]
    assert options.several("week,month") == ["week", "month"]


def test_a_sweep_sets_ledgers_side_by_side_and_names_what_changed(place):
    table, statuses = sweep.run(prepared(place, {"size": [1, 6, 9]}))
    ended = {name: one["status"] for name, one in statuses.items()}
    assert ended == {"size-1": "completed", "size-6": "completed", "size-9": "failed"}
    assert "AssertionError" in statuses["size-9"]["error"]
    verdicts = table[table["line_id"].eq("S21")].set_index("size")["verdict"].to_dict()
    assert verdicts == {"1": "holds", "6": "fails", "9": "fails"}
    assert sweep.changed(table) == {"S21": ["fails", "holds"]}
    written = pd.read_csv(place / "out" / "sweep.csv")
    assert list(written.columns[:3]) == ["run", "status", "size"]
    assert len(written) == len(table)
    assert (place / "out" / "size-1" / "ledger.csv").exists()
    assert not (place / "out" / "size-1" / "site").exists()
    events = [json.loads(line) for line in (place / "out" / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "begin"
    assert {e["name"]: e["status"] for e in events[1:]} == ended


def test_workers_and_any_executor_write_the_same(place):
    files = []
    for name, executor in (("team", None), ("threads", ThreadPoolExecutor(2))):
        sweep.run(prepared(place, {"size": [1, 6]}, name), executor=executor)
        found = [p for p in sorted((place / name).rglob("*")) if p.is_file() and "logs" not in p.parts]
        kept = [p for p in found if p.name not in ("status.json", "events.jsonl")]
        files.append({str(p.relative_to(place / name)): p.read_bytes() for p in kept})
    assert files[0] == files[1]
    assert "size-6/notebooks/00_ok.ipynb" in files[0]


def test_notebooks_are_a_dimension_and_run_once_where_nothing_they_take_differs(place):
    first = new_code_cell(PARAMETERS.replace("size", "width"), id="p", metadata={"tags": ["parameters"]})
    execution.write_notebook(new_notebook(cells=[first]), place / "n" / "01_other.ipynb")
    planned = prepared(place, {"size": [1, 2], "seed": [1, 2]}, studies=[["00"], ["01"]])
    assert len(planned.plans) == 4 + 2
    with pytest.raises(InputError, match="no study 07") as refused:
        prepared(place, {"size": [1, 10], "seed": [-1]}, studies=[["00"], ["07"]])
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(InputError) as refused:
        prepared(place, {"size": [1, 10], "depth": [1, 2], "seed": [-1, 1]}, studies=[["00"], ["01"]])
    lines = str(refused.value).splitlines()
    assert len(lines) == len(set(lines))
    for part in ("size = 10", "parameter depth", "seed = -1"):
        assert any(part in line for line in lines)


def test_what_is_refused_is_refused_before_anything_runs(place):
    with pytest.raises(InputError, match="size"):
        prepared(place, {"size": [1, 10]})
    with pytest.raises(InputError, match="berka"):
        sweep.prepare({"size": [1]}, place / "out", banks=["berca", str(place / "bank")], folder=place / "n")
    (place / "thesis").mkdir()
    (place / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a sweep"):
        prepared(place, {"size": [1]}, "thesis")
    (place / "file").write_text("no folder")
    with pytest.raises(InputError, match="not a sweep"):
        prepared(place, {"size": [1]}, "file")
    with pytest.raises(InputError, match=r"cannot write to .*; choose another --out"):
        sweep.run(prepared(place, {"size": [1]}, "file/sweep"))
    assert not (place / "out").exists()
    assert [p.name for p in (place / "thesis").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grid: {size: [1, 2]}\nseed: 3", ["no seed; did you mean seeds?"]),
        ("seeds: 0", ["seeds should be 1 or more"]),
        ("grid: [1]\nseeds: true", ["grid should be a mapping of parameters", "seeds should be a number of seeds"]),
        ("grid: {size: 1, seed: [1]}\nspecifications: {a: 1}", ["grid size should be", "specifications a should be"]),
        ("grid: {", ["is not valid YAML"]),
        ("", ["says nothing of a sweep"]),
        ("specifications: {1: {size: 2}}", ["specifications holds what is neither text nor number"]),
        ("grid: {size: [2024-12-31]}\nexclude: [{2: 1}]", ["grid holds what is", "exclude holds what is"]),
        ("bank: []", ["bank should be a name"]),
        ("bank: [reference, 1]", ["bank should be a name"]),
    ],
)
def test_a_file_is_refused_with_a_line_for_each_mistake(place, text, said):
    (place / "s.yaml").write_text(text)
    with pytest.raises(InputError) as refused:
        sweep.read(place / "s.yaml")
    lines = str(refused.value).splitlines()
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line


def test_what_must_not_leave_a_run_leaves_by_no_file_of_the_sweep(place):
    first = new_code_cell(
        f'{PARAMETERS}\nmarker: str = "x"  # name, not empty', id="p", metadata={"tags": ["parameters"]}
    )
    cells = [first, new_code_cell(KEEP, id="keep"), new_code_cell("assert marker == 'a', marker", id="told")]
    execution.write_notebook(new_notebook(cells=cells), place / "n" / "00_ok.ipynb")
    table, statuses = sweep.run(prepared(place, {"marker": ["a", "b", "customer no. c0007"]}))
    assert [one["status"] for one in statuses.values()] == ["completed", "failed", "failed"]
    assert set(table["marker"]) == {"a", "b"}
    assert "c0007" not in (place / "out" / "sweep.csv").read_text()
    events = place / "out" / "events.jsonl"  # which says how the run failed
    assert "c0007" in events.read_text()
    assert stat.S_IMODE(events.stat().st_mode) == 0o600


# --- never twice -----------------------------------------------------------------------------------------------------


def test_nothing_is_executed_twice_unless_what_decides_it_changed(place, monkeypatch):
    values = {"size": [1, 2, 3]}
    sweep.run(prepared(place, values))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", None)  # no process
        _, statuses = sweep.run(prepared(place, values))
    assert all(one["reused"] for one in statuses.values())
    states = prepared(place, {"size": [1, 2, 3, 4]}).states(False)
    assert states == {"size-1": None, "size-2": None, "size-3": None, "size-4": ["00_ok"]}
    assert all(prepared(place, values).states(True).values())
    with monkeypatch.context() as patch:
        patch.setenv("CRMRESEARCH_DISCLOSURE", "eurostat")
        assert all(prepared(place, values).states(False).values())
    for harm in ("source", "data", "lost"):
        planned = prepared(place, values)
        assert not any(planned.states(False).values())
        if harm == "source":
            content = execution.read_notebook(place / "n" / "00_ok.ipynb")
            content.cells[1].source += "  # changed"
            execution.write_notebook(content, place / "n" / "00_ok.ipynb")
        elif harm == "data":
            with (place / "bank" / "customers.csv").open("a") as file:
                file.write("c9999,2019-03-01,2020-01-01\n")
        else:
            for name in planned.plans:
                (place / "out" / name / "notebooks" / "00_ok.ipynb").unlink()
        planned = prepared(place, values)
        assert all(planned.states(False).values()), harm
        sweep.run(planned)
    monkeypatch.setattr(plan.Code, "whole", lambda *_: "changed where no notebook looks")
    assert list(prepared(place, values).states(False).values()) == [[], [], []]
    with monkeypatch.context() as patch:
        patch.setattr(workers.Worker, "run", None)
        sweep.run(prepared(place, values))
    assert not any(names is not None for names in prepared(place, values).states(False).values())
    monkeypatch.setattr(pseudonyms, "key", lambda: b"another key, which makes other pseudonyms")
    assert all(prepared(place, values).states(False).values())


def test_a_notebook_depends_on_the_code_it_imports_and_no_other(tmp_path, monkeypatch):
    package = tmp_path / "crmresearch"
    files = {
        "__init__.py": "", "a.py": "def f():\n    from crmresearch.deep import inner", "b.py": "", "words.yaml": "x: 1",
        "deep/__init__.py": "", "deep/inner.py": "", "deep/other.py": "", "walk/__init__.py": "import pkgutil",
        "walk/found.py": "", "run/kernels.py": "", "run/site.yaml": "y: 1", "run/site.js": "",
        "lab/recover/report.py": "", "../recovery.csv": "", "../n/far.py": "", "../n/within.py": "",
        "../n/near/__init__.py": "odd = (3\n    % 2)\nfrom .core import f\nfrom . import more", "../n/near/core.py": "",
        "../n/near/more.py": "from ..far import g",
    }  # fmt: skip
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(plan, "PACKAGE", package)
    monkeypatch.setenv("CRMRESEARCH_RECOVERY", str(tmp_path / "recovery.csv"))
    (tmp_path / "n" / "helper.py").write_text("from crmresearch import walk")
    sources = ["%matplotlib inline\nfrom crmresearch import a", "import helper, json"]
    sources += ["files = !ls\nfrom near import (\n    f,\n)", "for k in range(2):\n    %time k\n    import within"]
    sources += ["from crmresearch.lab.recover import report"]
    content = {"cells": [{"cell_type": "code", "source": [s]} for s in sources]}

    def print_() -> str:
        return plan.Code().imported(content, tmp_path / "n")

    reach = (
        "a.py",
        "deep/__init__.py",
        "deep/inner.py",
        "words.yaml",
        "walk/found.py",
        "run/kernels.py",
        "../n/helper.py",
        "../n/near/core.py",
        "../n/near/more.py",
        "../n/far.py",
        "../n/within.py",
        "../recovery.csv",
    )
    for name in (*reach, "b.py", "deep/other.py", "run/site.yaml", "run/site.js"):
        before, text, whole = print_(), (package / name).read_text(), plan.Code().whole()
        (package / name).write_text(f"{text}\n# changed")
        assert (print_() != before) is (name in reach), name
        assert (plan.Code().whole() != whole) is (name[0] != "."), name


def test_two_runners_of_one_sweep_are_one_too_many(place):
    planned = prepared(place, {"size": [1]})
    with (place / ".out.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run"):
            sweep.run(planned)


def test_a_file_says_what_varies_and_a_dry_run_what_would_run(place):
    said = {
        "out": str(place / "sweeps"), "bank": str(place / "bank"), "studies": ["00"], "seeds": 2,
        "grid": {"tenure_band_years": [1, 2]}, "specifications": {"wide": {"tenure_band_years": 5}},
        "exclude": [{"tenure_band_years": 1, "seed": 2}],
    }  # fmt: skip
    (place / "s.yaml").write_text(json.dumps(said))
    result = CliRunner().invoke(cli.app, ["sweep", str(place / "s.yaml"), "--dry-run"], catch_exceptions=False)
    lines = [line for line in result.stdout.splitlines() if line[:2] != "=="]
    names = ["tenure_band_years-1_seed-1", "tenure_band_years-2_seed-1", "tenure_band_years-2_seed-2"]
    assert lines == [
        *(f"{name}: 00_customer_base" for name in [*names, "wide_seed-1", "wide_seed-2"]),
        "5 runs, 0 unchanged, 5 to run (5 notebooks): no earlier run tells how long",
    ]
    (place / "runs" / "earlier").mkdir(parents=True)
    told = {"notebooks": {"00_customer_base": {"status": "completed", "seconds": 30}}}
    (place / "runs" / "earlier" / "status.json").write_text(json.dumps(told))
    (place / "runs" / "earlier" / "run.json").write_text("{}")
    (place / "runs" / "stranger").mkdir()
    (place / "runs" / "stranger" / "status.json").write_text('{"status": "another program\'s"}')
    words = ["sweep", str(place / "s.yaml"), "--dry-run", "--json", "--out", str(place / "runs" / "s")]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    planned = json.loads(next(line for line in result.stdout.splitlines() if line[:2] != "=="))
    assert planned["seconds"] == 75
    assert [*planned["runs"]] == [*names, "wide_seed-1", "wide_seed-2"]
    assert not (place / "sweeps").exists()


def test_a_run_is_kept_by_the_name_that_a_second_bank_gives_it(place, monkeypatch):
    (place / "other").mkdir()
    (place / "other" / "bank.yaml").write_text(BANK.replace("name: tiny", "name: small"))
    shutil.copy(place / "bank" / "customers.csv", place / "other")
    _, statuses = sweep.run(prepared(place, {"size": [1]}))
    assert [*statuses] == ["size-1"]
    banks = [str(place / "bank"), str(place / "other")]
    planned = sweep.prepare({"size": [1]}, place / "out", banks=banks, folder=place / "n")
    first, second = planned.plans
    assert planned.states(False) == {first: None, second: ["00_ok"]}
    assert planned.states(True) == {first: ["00_ok"], second: ["00_ok"]}
    assert (place / "out" / "size-1").exists()  # nothing is renamed before it runs
    _, statuses = sweep.run(planned)
    assert ["reused" in one for one in statuses.values()] == [True, False]
    assert {p.name for p in (place / "out").iterdir() if p.is_dir()} == {first, second}


def test_a_run_killed_before_it_was_swapped_in_is_taken_up_not_taken_for_finished(place):
    sweep.run(prepared(place, {"size": [1, 2]}))
    out = place / "out"
    staged = out / ".size-2.partial-0a1b2c3d"  # its status is written, and nothing of it was looked through
    (out / "size-2").rename(staged)
    record = json.loads((staged / "status.json").read_text())["notebooks"]["00_ok"]
    (staged / "records").mkdir()
    (staged / "records" / "00_ok.json").write_text(json.dumps(record))
    planned = prepared(place, {"size": [1, 2]})
    assert planned.renamed() == {}
    assert planned.states(False) == {"size-1": None, "size-2": ["00_ok"]}
    _, statuses = sweep.run(planned)
    assert [one.get("reused", False) for one in statuses.values()] == [True, False]
    assert json.loads((out / "size-2" / "status.json").read_text())["notebooks"]["00_ok"]["reused"]
    assert not staged.exists()
