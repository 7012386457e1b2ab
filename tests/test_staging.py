"""Where a run is written and what it reads: asked before work is lost, refused before anything runs, one notice."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import shlex
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import open_bank
from crmresearch.errors import CrmError, FitError, InputError
from crmresearch.estimators.causal import selection
from crmresearch.run import batch, staging, sweep, workers
from crmresearch.run.progress import Progress
from crmresearch.studies import cost
from test_faults import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path)


# --- refused or asked for, before anything runs ----------------------------------------------------------------------


def leftover(out: Path, mark: str, *finished: str) -> Path:
    """What a killed run leaves beside its folder."""
    folder = out.with_name(f".{out.name}.partial-{mark}")
    (folder / "records").mkdir(parents=True)
    for name in finished:
        (folder / "records" / f"{name}.json").write_text('{"status": "completed"}')
    (folder / "records" / "09_failed.json").write_text('{"status": "failed"}')
    return folder


@pytest.mark.parametrize("finished", [["00_a"], ["00_a", "01_b"], ["99_ledger"]])
def test_what_interrupted_runs_finished_is_kept_or_removed_with_a_word(tmp_path, finished):
    out, said = tmp_path / "run", []
    older, newer = leftover(out, "1a", "00_a"), leftover(out, "2b", *finished)
    stranger = leftover(tmp_path / "run.partial-1a", "3c", "00_a")  # of a run by another name
    os.utime(older, (1, 1))
    with staging.staging(out, False, said.append) as (partial, _):
        assert sorted(p.stem for p in (partial / "records").iterdir()) == sorted(["09_failed", *finished])
        assert said == ["removed what an interrupted run left (00_a finished)"]
        assert not older.exists()
    assert not newer.exists()
    with staging.staging(out, True, said.append) as (partial, _):
        assert list(partial.iterdir()) == []
    assert said[1:] == [f"removed what an interrupted run left ({', '.join(finished)} finished)"]
    assert [p.name for p in tmp_path.iterdir()] == [stranger.name]


def test_what_is_removed_is_not_taken_up_for_what_is_written_in_its_place(tmp_path):
    partial, said = leftover(tmp_path / "run", "1a"), []
    (partial / "records" / "00_a.json").write_text('{"status": "completed", "fingerprint": "one"}')
    staging.clear(partial, (), said.append)
    assert said == ["removed what an interrupted run had finished on other input: 00_a"]
    (partial / "notebooks" / "00_a.ipynb").write_text("of other input, its record not written yet")
    assert staging.kept(partial, tmp_path / "run", {"00_a": "one"}) == {}
    staging.clear(partial, (), said.append)
    assert len(said) == 1


def test_an_interruption_at_the_end_loses_neither_run(tmp_path, monkeypatch):
    out, remove = tmp_path / "run", shutil.rmtree
    out.mkdir()
    (out / "ledger.csv").write_text("earlier")

    def interrupted(path: Path, **ways: object) -> None:
        remove(path, **ways)
        if Path(path).name == "records":
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with contextlib.suppress(KeyboardInterrupt), staging.staging(out, False, print) as (partial, _):
        (partial / "records").mkdir()
        (partial / "ledger.csv").write_text("new")
        staging.swap(partial, out)
    assert (out / "ledger.csv").read_text() == "new"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "run"
    for target in (tmp_path / "disk" / "real", tmp_path / "disk" / "not yet"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert staging.place(link) == target
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(InputError, match="leads to itself"):
        staging.place(link)


def test_a_mount_point_is_refused_and_the_remedy_works(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "mnt")
    with pytest.raises(InputError, match="is a mount point") as caught:
        staging.place(tmp_path / "mnt")
    assert staging.place(Path(str(caught.value).partition("use --out ")[2])) == tmp_path / "mnt" / "run"


def test_a_folder_that_turns_out_not_to_be_replaceable_keeps_the_finished_run(tmp_path, monkeypatch):
    out = tmp_path / "my run"
    out.mkdir()
    with staging.staging(out, False, print) as (partial, _):
        (partial / "records").mkdir()
        (partial / "records" / "00_a.json").write_text('{"status": "completed"}')
        (partial / "ledger.csv").write_text("x")

        def busy(*_: object) -> None:
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(Path, "rename", busy)
        with pytest.raises(
            CrmError, match=r"\(Device or resource busy\); it is as it was. The finished run stands"
        ) as end:
            staging.swap(partial, out)
    assert (partial / "ledger.csv").read_text() == "x"
    assert shlex.split(str(end.value).partition("move it with: ")[2]) == ["mv", str(partial), "DIR"]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"marker": ["a b", "a-b", "a_b"]}, None),
        ({"marker": ["Ab", "aB", "ab"]}, None),
        ({"marker": ["x" * 300, "x" * 299 + "y"], "seed": [1, 2]}, None),
        ({"marker": ["/", "..", "银行", "银 行"]}, None),
        ({"seed": [1, "1", 1.0, True, [1], "true"], "a": ["1_b-2", "null"], "A": [-1, 1e-9]}, None),
        ({"seed": [1, 2, 1]}, "parameter seed has the same value twice"),
    ],
)
def test_every_combination_of_a_sweep_has_a_folder_of_its_own(tmp_path, values, match):
    if match:
        with pytest.raises(InputError, match=match):
            sweep.combinations(values)
        return
    runs = sweep.combinations(values)
    assert len({name.casefold() for name in runs}) == math.prod(map(len, values.values()))
    for name, one in runs.items():
        (tmp_path / name).mkdir()
        assert list(sweep.combinations({key: [value] for key, value in one.items()})) == [
            name
        ]  # whatever else there is
    assert all(p.parent == tmp_path for p in tmp_path.rglob("*"))


def test_a_run_that_cannot_be_is_refused_with_a_remedy(place, monkeypatch):
    ways = {"folder": place.folder / "notebooks", "out": place.out}
    with pytest.raises(InputError, match="use --bank NAME instead of -p bank_name=NAME"):
        batch.run(str(place.bank), values={"bank_name": "tiny"}, **ways)
    for timeout in (math.inf, math.nan, 0, -1, 1e9):
        with pytest.raises(InputError, match=r"timeout = .*: should be 1 to 604,800 seconds"):
            batch.run(str(place.bank), timeout=timeout, **ways)
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    open_bank(place.bank)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 3 << 20))
    with pytest.raises(CrmError, match=r"no room for the run: .* 3 MB free, and about 20 MB are needed; nothing"):
        batch.run(str(place.bank), **ways)
    assert place.beside() == []


def test_the_engine_of_each_kernel_gets_its_share(place, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    monkeypatch.setenv("CRMRESEARCH_THREADS", "6")
    monkeypatch.setenv("CRMRESEARCH_MEMORY", "3GB")
    engine = open_bank(place.bank).engine
    for jobs, threads, memory in ((1, "6", 2861), (2, "3", 1430), (4, "1", 715), (9, "1", 317)):
        share = engine.share(jobs)
        assert share["CRMRESEARCH_THREADS"] == threads
        assert int(share["CRMRESEARCH_MEMORY"].removesuffix("MiB")) == pytest.approx(
            memory, rel=0.05
        )  # the engine tells tenths of a GiB
    monkeypatch.setenv("CRMRESEARCH_MEMORY", share["CRMRESEARCH_MEMORY"])
    assert open_bank(place.bank).engine.share(1)["CRMRESEARCH_MEMORY"] == share["CRMRESEARCH_MEMORY"]


def test_caches_and_restricted_rows_are_their_users_alone(place, monkeypatch):
    cache = Path(place.environment["CRMRESEARCH_CACHE"])
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(cache))
    before = os.umask(0)  # the most open of all
    try:
        open_bank(place.bank)
        with staging.staging(place.out, False, print) as (partial, _):
            staging.clear(partial, (), print)
            modes = {p.name: p.stat().st_mode & 0o077 for p in partial.iterdir()}
    finally:
        os.umask(before)
    found = [cache, cache / "banks", *(cache / "banks").iterdir()]
    assert [p.name for p in found if p.stat().st_mode & 0o077 and p.suffix != ".lock"] == []
    assert {name for name, mode in modes.items() if not mode} == {"restricted", "logs"}


def test_a_study_whose_resamples_fail_says_so_and_the_next_runs(monkeypatch):
    rng, n = np.random.default_rng(1), 600
    frame = pd.DataFrame({"block": rng.integers(0, 100, n), "x": rng.normal(size=n), "spend": rng.normal(size=n)})
    frame["spend_squared"] = frame["spend"] ** 2
    frame["won"] = (frame["spend"] + rng.normal(size=n) > 0).astype(int)
    frame["profit"] = np.where(frame["won"] == 1, frame["x"] + rng.normal(size=n), np.nan)
    frame["ended"], frame["log_months"] = np.where(frame["won"] == 1, 0.0, np.nan), np.nan
    fit, calls = selection.two_step, itertools.count()

    def every_other(*words: object) -> object:
        if next(calls) % 2:
            raise FitError("no fit")
        return fit(*words)

    assert cost.jointly(frame, resamples=99).applicable
    monkeypatch.setattr(selection, "two_step", every_other)
    found = cost.jointly(frame, resamples=99)
    assert not found.applicable
    assert "49 of 99 resamples could not be fitted; use fewer regressors" in found.sentence


# --- what a run reads -------------------------------------------------------------------------------------------------


def test_the_bank_of_a_run_is_what_was_loaded_its_facts_too(place, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    loaded = open_bank(place.bank)
    monkeypatch.setenv("CRMRESEARCH_DATABASE", str(loaded.engine.path))
    (place.bank / "bank.yaml").write_text("name: [")
    assert open_bank("tiny").about == loaded.about
    with pytest.raises(InputError, match="not valid YAML"):
        open_bank(place.bank)  # by path: another question


@pytest.mark.parametrize("harm", ["cut", "overwritten", "one byte", "empty"])
def test_a_damaged_database_is_loaded_again_with_one_notice(place, harm, monkeypatch, capsys):
    monkeypatch.setenv("CRMRESEARCH_CACHE", place.environment["CRMRESEARCH_CACHE"])
    path = open_bank(place.bank).engine.path
    whole = path.read_bytes()
    middle = len(whole) // 2
    spoilt = {"cut": whole[:middle], "overwritten": b"no database", "empty": b""}
    path.write_bytes(spoilt.get(harm, whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]))
    for _ in range(2):
        assert open_bank(place.bank).rows("customers") == 40
    assert capsys.readouterr().err == "== the loaded database of tiny is damaged; it is loaded again\n"
    os.utime(path)  # a copy of a cache: other times, same content
    open_bank(place.bank)
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_made_is_refused_with_a_remedy_that_works(place, monkeypatch):
    (place.folder / "file").write_text("no folder")
    monkeypatch.delenv("CRMRESEARCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place.folder / "file"))
    with pytest.raises(InputError, match=r"cannot be made .*; set CRMRESEARCH_CACHE to one that can"):
        open_bank(place.bank)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(place.folder / "mine"))
    assert open_bank(place.bank).rows("customers") == 40


def test_nothing_of_a_lost_run_writes_into_its_folder_again(tmp_path):
    first = threading.Event()

    class Team:
        size, stopped = 2, False

        def run(self, job: dict, progress: object) -> dict:
            if job["source"] == "00_lost.ipynb":
                raise OSError(errno.ENOSPC, "no room")
            assert first.wait(10)  # the run has been lost, and its folder removed
            return {"status": "completed"}

    jobs = [{"source": f"{name}.ipynb", "folder": str(tmp_path / "partial")} for name in ("00_lost", "01_late")]
    done: dict[str, dict] = {}
    with pytest.raises(OSError, match="no room"):
        workers.execute(jobs, Team(), Progress(), done, {"00_lost": "a", "01_late": "b"})
    threads = threading.enumerate()
    first.set()
    for thread in threads:
        if thread.daemon and thread is not threading.current_thread() and "consume" in thread.name:
            thread.join(10)
    assert done == {}
    assert not (tmp_path / "partial").exists()
