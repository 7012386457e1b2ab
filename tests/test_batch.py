"""The runner, on notebooks small enough to see through: one that works, fails, kills its kernel, hangs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crmresearch import ledger
from crmresearch.errors import InputError
from crmresearch.run import batch, execution, plan, site, workers

BANK = """
name: tiny
title: a tiny bank
currency: EUR
observation_start: 2020-01-01
observation_end: 2020-12-31
evidence: simulated
tables: {customers: {file: customers.csv}}
"""
ENVIRONMENT = 'import os; print(os.environ["PYTHONHASHSEED"], os.environ["TZ"], os.environ["OMP_NUM_THREADS"])'
WRITE = """from pathlib import Path
for part in ("tables", "restricted"):
    folder = Path(os.environ["CRMRESEARCH_OUT"]) / part
    folder.mkdir(exist_ok=True)
    (folder / "00_ok_table.csv").write_text("n\\n20\\n")"""
SOURCES = {
    "00_ok": (ENVIRONMENT, WRITE, "print(bank_name)"),
    "01_fail": ("print(bank_name)", "import crmresearch.estimators.inference as r; r.wilson('a', 2)", "print('never')"),
    "02_kill": ("print(bank_name)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "print('never')"),
    "03_hang": ("print(bank_name)", "import time; time.sleep(600)", "print('never')"),
}


BANK_NAME = 'bank_name: str = "none"  # bank to study, not empty'
HORIZON = "horizon_months: int = 12  # time ahead, months, [1, 60]"


def notebook(path: Path, *sources: str, parameters: str = BANK_NAME) -> Path:
    cells = [new_markdown_cell(f"# {path.stem}", id="opening")]
    cells.append(new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(s, id=f"c{i}") for i, s in enumerate(sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    execution.write_notebook(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of forty customers, in a cache of its own."""
    folder = tmp_path_factory.mktemp("banks") / "tiny"
    folder.mkdir()
    (folder / "bank.yaml").write_text(BANK)
    rows = ["customer_id,acquired_on,observed_from", *(f"client-{i:04d},2019-03-01,2020-01-01" for i in range(40))]
    (folder / "customers.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "runner-cache"))
    monkeypatch.delenv("CRMRESEARCH_BANKS", raising=False)
    for name in ("imported", "whole"):  # somebody may be editing the package meanwhile
        monkeypatch.setattr(plan.Code, name, lambda *_: "unchanged")


@pytest.fixture
def no_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the runner alone do without the four seconds a site takes."""

    def build(folders: list[Path], target: Path, lost: object) -> None:
        target.mkdir()
        (target / "index.html").write_text("<html></html>")

    monkeypatch.setattr(site, "build", build)


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr(workers.Worker, "run", run)


@pytest.fixture(scope="module")
def mixed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> batch.Outcome:
    """One run of all four kinds, with its site, beside a broken kernelspec and another figures backend."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, sources in SOURCES.items():
        notebook(folder / "notebooks" / f"{name}.ipynb", *sources)
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("MPLBACKEND", "pdf")
        patch.setenv("CRMRESEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "runner-cache"))
        return batch.run(str(tiny), folder=folder / "notebooks", out=folder / "run", timeout=15)


def outputs(outcome: batch.Outcome, name: str) -> str:
    cells = execution.read_notebook(outcome.folder / "notebooks" / f"{name}.ipynb").cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


# --- what a run tells ------------------------------------------------------------------------------------------------


def test_every_notebook_gets_its_true_status(mixed):
    status = {name: one["status"] for name, one in mixed.status["notebooks"].items()}
    assert status == {"00_ok": "completed", "01_fail": "failed", "02_kill": "kernel died", "03_hang": "timed out"}
    assert not mixed.completed
    assert mixed.status["notebooks"]["01_fail"]["cell"] == "c1"
    assert mixed.status["notebooks"]["01_fail"]["error"].startswith("TypeError")
    assert json.loads((mixed.folder / "status.json").read_text()) == mixed.status


def test_what_was_reached_is_kept_and_marked(mixed):
    for name in ("01_fail", "02_kill", "03_hang"):
        assert outputs(mixed, name) == "tiny\n"
        first = execution.read_notebook(mixed.folder / "notebooks" / f"{name}.ipynb").cells[0]
        assert "did not finish" in first.source
        assert "c1" in first.source


def test_kernels_run_in_a_fixed_environment_whatever_is_installed_around(mixed):
    assert outputs(mixed, "00_ok").splitlines()[0] == "0 UTC 1"


def test_no_notebook_knows_where_it_ran(mixed):
    text = (mixed.folder / "notebooks" / "01_fail.ipynb").read_text()
    assert "wilson" in text  # the traceback is there
    assert str(Path(batch.__file__).parents[1]) not in text
    assert batch.scan(mixed.folder, None).breaches == []


def test_status_is_written_last_and_nothing_is_left_beside(mixed):
    written = {p: p.stat().st_mtime_ns for p in mixed.folder.rglob("*") if p.is_file()}
    assert max(written, key=lambda p: written[p]).name == "status.json"
    assert [p.name for p in mixed.folder.parent.iterdir() if p.name.startswith(".")] == []


def test_run_folder_has_its_parts(mixed):
    for part in ("run.json", "findings.json", "ledger.csv", "ledger.json", "disclosure.json", "site/index.html"):
        assert (mixed.folder / part).exists(), part
    run = (mixed.folder / "run.json").read_text()
    assert "seconds" not in run
    assert json.loads(run)["bank"]["observation_end"] == "2020-12-31"
    assert "incomplete" in (mixed.folder / "site" / "index.html").read_text()
    assert stat.S_IMODE((mixed.folder / "restricted").stat().st_mode) == 0o700
    tables = [p.parent.name for p in (mixed.folder / "site").rglob("00_ok_table.csv")]
    assert tables == ["tables"]  # among what may be downloaded, and nowhere else


# --- same input, same bytes; replacing, resuming ---------------------------------------------------------------------


def test_two_runs_give_the_same_bytes(tiny, tmp_path, no_site):
    notebook(tmp_path / "n" / "00_ok.ipynb", *SOURCES["00_ok"])
    notebook(
        tmp_path / "n" / "01_set.ipynb", "print({'b', 'a', 'c'})", "import time; print(1); time.sleep(.1); print(2)"
    )
    files = []
    for name in ("one", "two"):
        outcome = batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / name)
        assert outcome.completed
        paths = [p for p in sorted(outcome.folder.rglob("*")) if p.is_file() and "logs" not in p.parts]
        files.append({str(p.relative_to(outcome.folder)): p.read_bytes() for p in paths if p.name != "status.json"})
    assert files[0] == files[1]
    assert "notebooks/01_set.ipynb" in files[0]


def test_the_search_for_breaches_goes_by_what_results_declare(tiny, tmp_path):
    """In the finding about privacy, in the run and in its site: one day behind is no customer."""
    shown = (
        "from crmresearch import notebook\nnb = notebook.start('00_customer_base', bank_name=bank_name)",
        "import pandas as pd\nfrom crmresearch.result import Result\n"
        "behind = pd.DataFrame({'table': ['customers', 'monthly'], 'days_behind': [1, 30]})\n"
        "newest = Result(behind, 'The newest row is a day old.', counts=())\nnb.keep(newest, 'freshness')\nnewest",
        "nb.finish()",
    )
    notebook(tmp_path / "n" / "00_customer_base.ipynb", *shown)
    outcome = batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")
    assert outcome.completed, outcome.status
    assert ledger.read(outcome.folder).set_index("line_id").loc["S09", "estimate"] == 0
    assert (outcome.folder / "tables" / "00_customer_base_freshness.csv").exists()


def test_a_later_run_replaces_the_folder_whole_and_keeps_what_is_unchanged(tiny, tmp_path, no_site):
    folder, out = tmp_path / "n", tmp_path / "run"
    notebook(folder / "00_ok.ipynb", *SOURCES["00_ok"])
    notebook(folder / "01_fail.ipynb", *SOURCES["01_fail"])
    assert not batch.run(str(tiny), folder=folder, out=out).completed
    (out / "notebooks" / "07_stray.ipynb").write_text("{}")
    notebook(folder / "01_fail.ipynb", "print('mended')")
    again = batch.run(str(tiny), folder=folder, out=out)
    assert again.completed
    assert again.status["notebooks"]["00_ok"]["reused"]
    assert "reused" not in again.status["notebooks"]["01_fail"]
    assert (out / "tables" / "00_ok_table.csv").exists()
    assert sorted(p.name for p in (out / "notebooks").iterdir()) == ["00_ok.ipynb", "01_fail.ipynb"]


def test_the_language_reaches_kernels_and_a_run_in_another_is_another_run(tiny, tmp_path, no_site, monkeypatch):
    notebook(tmp_path / "n" / "00_ok.ipynb", "import os; print(os.environ.get('CRMRESEARCH_LANG'))")
    for spoken, reused in (("zh", False), ("zh", True), ("en", False)):
        monkeypatch.setenv("CRMRESEARCH_LANG", spoken)
        outcome = batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")
        assert outcome.completed
        assert outcome.unchanged is reused
        assert spoken in outputs(outcome, "00_ok")
        assert json.loads((outcome.folder / "run.json").read_text("utf-8"))["fingerprints"]["language"] == spoken


def test_an_interrupted_run_leaves_the_earlier_one(tiny, tmp_path, no_site, monkeypatch):
    folder, out = tmp_path / "n", tmp_path / "run"
    notebook(folder / "00_ok.ipynb", *SOURCES["00_ok"])
    batch.run(str(tiny), folder=folder, out=out)
    before = (out / "status.json").read_bytes()
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(site, "build", interrupt)
        with pytest.raises(KeyboardInterrupt):
            batch.run(str(tiny), folder=folder, out=out, force=True)
    assert (out / "status.json").read_bytes() == before
    resumed = batch.run(str(tiny), folder=folder, out=out)
    assert resumed.status["notebooks"]["00_ok"]["reused"]
    assert [p.name for p in tmp_path.iterdir()] == [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are listed on Linux")
def test_a_folder_is_moved_with_no_file_in_it_open(tiny, tmp_path, monkeypatch):
    def swap(partial: Path, out: Path) -> None:
        held = [os.readlink(p) for p in Path("/proc/self/fd").iterdir() if p.exists()]
        assert [name for name in held if name.startswith(f"{partial}/")] == []
        moved.append(out)
        real(partial, out)

    moved, real = [], batch.staging.swap
    monkeypatch.setattr(batch.staging, "swap", swap)
    notebook(tmp_path / "n" / "00_ok.ipynb", *SOURCES["00_ok"])
    batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run", site=False)
    assert moved == [tmp_path / "run"]


def test_the_ledger_notebook_runs_last_on_the_merged_ledger(tiny, tmp_path, no_site):
    look = (
        'import os; print(sorted(p.name for p in __import__("pathlib").Path(os.environ["CRMRESEARCH_OUT"]).iterdir()))'
    )
    notebook(tmp_path / "n" / "00_slow.ipynb", "import time; time.sleep(1)")
    notebook(tmp_path / "n" / "99_ledger.ipynb", look)
    outcome = batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")
    assert "ledger.csv" in outputs(outcome, "99_ledger")
    assert (tmp_path / "run" / "notebooks" / "00_slow.ipynb").exists()


# --- disclosure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "rule"),
    [("print('client-' + '0007')", "customer identifier"), ("print('/' + 'home/someone/bank.csv')", "local path")],
)
def test_a_breach_fails_the_run_and_withholds_the_site(tiny, tmp_path, no_site, source, rule):
    notebook(tmp_path / "n" / "00_leak.ipynb", source)
    outcome = batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")
    assert not outcome.completed
    assert {b["rule"] for b in outcome.status["disclosure"]} == {rule}
    assert not (outcome.folder / "site").exists()


# --- refused before anything runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"horizon_month": 12}, "horizon_months"),
        ({"horizon_months": "twelve"}, "integer"),
        ({"horizon_months": 61}, "60"),
        ({"horizon_months": True}, "integer"),
    ],
)
def test_parameters_are_checked_before_a_kernel_starts(tiny, tmp_path, no_kernel, values, match):
    notebook(tmp_path / "n" / "00_ok.ipynb", "1", parameters=f"{BANK_NAME}\n{HORIZON}")
    with pytest.raises(InputError, match=match):
        batch.run(str(tiny), values=values, folder=tmp_path / "n", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cell", ["", "bank_name = 'none'", 'bank_name: str = "none"  # bank to study'])
def test_a_notebook_whose_parameters_are_unknown_is_refused_before_a_kernel_starts(tiny, tmp_path, no_kernel, cell):
    path = notebook(tmp_path / "n" / "00_ok.ipynb", "1", parameters=cell)
    if not cell:
        path.write_text(path.read_text().replace('"parameters"', '"elsewhere"'))
    with pytest.raises(InputError, match=r"00_ok\.ipynb"):
        batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unknown_bank_and_folder_are_refused(tiny, tmp_path, no_kernel):
    notebook(tmp_path / "n" / "00_ok.ipynb", "1")
    with pytest.raises(InputError, match="berka"):
        batch.run("berca", folder=tmp_path / "n", out=tmp_path / "run")
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a run"):
        batch.run(str(tiny), folder=tmp_path / "n", out=mine)
    assert (mine / "chapter.txt").read_text() == "years of work"
    with pytest.raises(InputError, match="not a run"):
        batch.run(str(tiny), folder=tmp_path / "n", out=mine / "chapter.txt")
    with pytest.raises(InputError, match="cannot write to"):
        batch.run(str(tiny), folder=tmp_path / "n", out=mine / "chapter.txt" / "run")
    with pytest.raises(InputError, match="no notebooks"):
        plan.find_notebooks(tmp_path)


def test_a_bank_that_takes_an_embedded_name_is_refused(tiny, tmp_path, no_kernel):
    shutil.copytree(tiny, tmp_path / "bank")
    text = (tmp_path / "bank" / "bank.yaml").read_text()
    (tmp_path / "bank" / "bank.yaml").write_text(text.replace("name: tiny", "name: reference"))
    notebook(tmp_path / "n" / "00_ok.ipynb", "1")
    with pytest.raises(InputError, match="rename"):
        batch.run(str(tmp_path / "bank"), folder=tmp_path / "n", out=tmp_path / "run")


def test_two_runs_into_one_folder_are_refused(tiny, tmp_path, no_kernel):
    notebook(tmp_path / "n" / "00_ok.ipynb", "1")
    with (tmp_path / ".run.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run"):
            batch.run(str(tiny), folder=tmp_path / "n", out=tmp_path / "run")


@pytest.mark.parametrize(
    ("studies", "chosen"),
    [
        (None, ["00_customer_base", "01_customer_value"]),
        (["1_customer_value.ipynb", "00"], None),
        (["01", "00"], ["00_customer_base", "01_customer_value"]),
        (["customer_value"], ["01_customer_value"]),
    ],
)
def test_studies_are_chosen_by_number_or_name(studies, chosen):
    names = ["01_customer_value", "00_customer_base"]
    if chosen is None:
        with pytest.raises(InputError, match="did you mean 01_customer_value"):
            plan.select(names, studies)
    else:
        assert plan.select(names, studies) == chosen


def test_store_refuses_an_unfinished_run_and_says_what_changed(tmp_path):
    run = tmp_path / "run"
    notebook(run / "notebooks" / "00_ok.ipynb", "1")
    (run / "ledger.csv").write_text("claim_id\n")
    with pytest.raises(InputError, match="did not complete"):
        batch.store(batch.Outcome(run, {"status": "failed"}), tmp_path / "n", tmp_path / "reference")
    done = batch.Outcome(run, {"status": "completed"})
    changed = batch.store(done, tmp_path / "n", tmp_path / "reference")
    assert [p.name for p in changed] == ["00_ok.ipynb", "ledger.csv"]
    assert batch.store(done, tmp_path / "n", tmp_path / "reference") == []


# --- normalising -----------------------------------------------------------------------------------------------------


def test_normalise_takes_out_what_depends_on_time_and_machine():
    stream = [new_output("stream", name="stdout", text=t) for t in ("a\n", "b\n")]
    where = os.sep.join(["", "home", "ann", "venv", "site-packages", "x.py"])
    error = new_output(
        "error", ename="E", evalue="object at 0x7f3a2b1c4d5e", traceback=[f"\x1b[31mFile {where}:3\x1b[0m"]
    )
    cells = [
        new_code_cell(
            "1", execution_count=4, outputs=[*stream, error], metadata={"papermill": {"duration": 1.2}}, id="x"
        ),
        new_code_cell("2", execution_count=7, metadata={"tags": ["injected-parameters"], "execution": {"a": "b"}}),
        new_markdown_cell("An error", metadata={"tags": ["papermill-error-cell-tag"]}),
    ]
    raw = new_notebook(
        cells=cells, metadata={"papermill": {}, "language_info": {"name": "python", "version": "3.11.7"}}
    )
    done = execution.normalise(raw)
    assert [c["id"] for c in done.cells] == ["x", "injected-parameters"]
    assert [c.execution_count for c in done.cells] == [1, 2]
    assert done.cells[0].outputs[0]["text"] == "a\nb\n"
    assert "version" not in done.metadata["language_info"]
    text = json.dumps(done)
    for word in ("papermill", "0x7f", "home", "\\u001b", 'execution"'):
        assert word not in text, word
    assert "x.py:3" in text
    assert execution.normalise(done) == done


def test_progress_counts_the_code_cells(tmp_path):
    heard = []
    path = notebook(tmp_path / "00_a.ipynb", "1", "", "2")
    execution.execute(path, tmp_path / "out.ipynb", {"bank_name": "x"}, 60, lambda *of: heard.append(of))
    assert heard == [(n, 4) for n in (1, 2, 3, 4)]  # parameters, those injected, and two


def test_source_of_does_not_depend_on_outputs(tmp_path):
    path = notebook(tmp_path / "00_a.ipynb", "1")
    fresh, ran = execution.read_notebook(path), execution.read_notebook(path)
    ran.cells[2].outputs, ran.cells[2].execution_count = [new_output("stream", text="x")], 3
    assert execution.source_of(fresh) == execution.source_of(ran)
    ran.cells[2].source = "2"
    assert execution.source_of(fresh) != execution.source_of(ran)
