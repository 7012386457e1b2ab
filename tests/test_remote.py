"""Runs that go elsewhere: any executor, a Dask cluster, object storage; each failure is a line that says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

import test_batch
import test_sweep
from crmresearch.data import pseudonyms
from crmresearch.errors import CrmError, InputError
from crmresearch.run import cli, options, plan, remote, sweep
from test_faults import until
from test_sweep import prepared

place, no_site = test_sweep.place, test_batch.no_site


def files(folder: Path) -> dict[str, bytes]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and "logs" not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in found if p.name not in ("status.json", "events.jsonl")}


class Lossy(Executor):
    """Loses the first task with its worker."""

    def __init__(self) -> None:
        self.lost, self.pool = False, ThreadPoolExecutor(1)

    def submit(self, *given: object, **more: object) -> Future:
        if self.lost:
            return self.pool.submit(*given, **more)
        self.lost, future = True, Future()
        future.set_exception(RuntimeError("the worker is gone"))
        return future


def test_any_executor_writes_the_same_and_a_lost_worker_hides_no_other_run(place, monkeypatch):
    values = {"size": [1, 6]}
    sweep.run(prepared(place, values, "team"))
    _, statuses = sweep.run(prepared(place, values), executor=Lossy())
    assert statuses["size-1"]["error"] == "RuntimeError: the worker is gone; run it again"
    assert statuses["size-6"]["status"] == "completed"
    with ThreadPoolExecutor(2) as threads:
        _, statuses = sweep.run(prepared(place, values), executor=threads)
    assert {s["status"] for s in statuses.values()} == {"completed"}
    assert files(place / "team") == files(place / "out")

    planned = prepared(place, values, "other")
    monkeypatch.setattr(plan, "lock", lambda: "other versions")  # of the worker
    with ThreadPoolExecutor(1) as threads:
        _, statuses = sweep.run(planned, executor=threads)
    assert all("(lock)" in s["error"] for s in statuses.values())
    assert not (place / "other" / "size-1").exists()


@pytest.fixture(scope="module")
def dask():
    """Two workers in processes of their own, which share this machine's folders."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    ways = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**ways) as found:
        with distributed.Client(found, set_as_default=False) as client:
            client.run(same_key)
        yield found


def same_key() -> None:
    """Give a worker the tests' key of pseudonyms."""
    pseudonyms.key = lambda: b""


def test_a_cluster_writes_the_same_bytes(place, dask, monkeypatch):
    monkeypatch.undo()  # workers know nothing of a patch
    monkeypatch.setenv("CRMRESEARCH_CACHE", os.environ["CRMRESEARCH_CACHE"])
    values = {"size": [1, 6]}
    sweep.run(prepared(place, values, "team"))
    planned = prepared(place, values)
    with remote.cluster(dask.scheduler_address, planned.out) as executor:
        _, statuses = sweep.run(planned, executor=executor)
    assert [s["status"] for s in statuses.values()] == ["completed", "completed"], statuses
    assert files(place / "team") == files(place / "out")
    assert "size-6/notebooks/00_ok.ipynb" in files(place / "out")


def test_a_cluster_that_cannot_be_used_is_told_in_one_line(place, dask, monkeypatch):
    def refused(address: str, said: str) -> None:
        with pytest.raises(InputError, match=said) as told, remote.cluster(address, place / "out"):
            pass
        assert len(str(told.value).splitlines()) == 1

    monkeypatch.setattr(remote, "WAIT", 1)
    refused("tcp://127.0.0.1:9", "start one with: dask scheduler")
    refused("nowhere://x", "start one with: dask scheduler")
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard"]
    with subprocess.Popen([*words, "--scheduler-file", str(place / "s.json")], stderr=subprocess.DEVNULL) as alone:
        try:
            until(lambda: (place / "s.json").exists() and (place / "s.json").read_text()[-1:] == "}")
            refused(json.loads((place / "s.json").read_text())["address"], "start some with: dask worker tcp")
        finally:
            alone.terminate()
    monkeypatch.setattr(remote, "sees", missing)
    refused(dask.scheduler_address, "does not see .*out; name a folder with --out")
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(dask.scheduler_address, r"pip install 'crmresearch\[cluster\]'")


def missing(path: str, word: str) -> bool:
    return remote.Path(path + "elsewhere").exists()


@pytest.fixture
def fs():
    fsspec = pytest.importorskip("fsspec", reason="the extra `storage` is not installed")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    return memory


def test_what_completed_is_uploaded_and_nothing_that_is_private(place, fs):
    sweep.run(prepared(place, {"size": [1, 9]}))  # 9 fails
    (place / "out" / "size-1" / "restricted").mkdir(exist_ok=True)
    (place / "out" / "size-1" / "restricted" / "who.csv").write_text("c0001")
    count = remote.Storage("memory://bucket/sweep").upload(place / "out")
    there = {p.removeprefix("/bucket/sweep/") for p in fs.find("/bucket/sweep")}
    assert len(there) == count
    assert {"sweep.csv", "size-1/status.json", "size-1/ledger.csv", "size-1/notebooks/00_ok.ipynb"} <= there
    assert not [p for p in there if "size-9" in p or "logs" in p or "restricted" in p or "events" in p]
    assert fs.cat("/bucket/sweep/size-1/ledger.csv") == (place / "out" / "size-1" / "ledger.csv").read_bytes()

    (place / "out" / "size-1" / "ledger.csv").unlink()  # what an earlier run left there goes with it
    remote.Storage("memory://bucket/sweep").upload(place / "out")
    assert not fs.exists("/bucket/sweep/size-1/ledger.csv")
    local = remote.Storage(f"file://{place}/uploaded/deep")
    assert local.upload(place / "out") == count - 1
    assert len([p for p in (place / "uploaded" / "deep").rglob("*") if p.is_file()]) == count - 1


def test_storage_that_cannot_be_used_is_told_before_anything_runs(place, fs, monkeypatch):
    fs.pipe("/bucket/chapter.txt", b"my own")
    for address, said in (
        ("memory://bucket", "not a run"),
        ("nowhere://bucket/x", "check the address"),
        (f"file://{place}/bank/customers.csv/x", "check the address"),
    ):
        with pytest.raises(InputError, match=said):
            options.target(address)
    assert fs.cat("/bucket/chapter.txt") == b"my own"
    storage = remote.Storage("memory://run")
    sweep.run(prepared(place, {"size": [1]}))
    monkeypatch.setattr(fs, "put_file", lambda *_: (_ for _ in ()).throw(OSError("the line is cut")))
    with pytest.raises(CrmError, match=r"the line is cut.*the same command goes on"):
        storage.upload(place / "out")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"pip install 'crmresearch\[storage\]'"):
        options.target("s3://bucket/x")


def test_a_run_is_uploaded_by_the_command(place, fs, no_site, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(plan.parameters, "folders", lambda: [place / "n"])
    words = ["run", "--bank", "bank", "--out", "memory://bucket/run"]
    for said in ("uploaded: ", "unchanged since"):
        result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
        assert result.exit_code == 0
        assert said in result.stderr
    assert fs.exists("/bucket/run/status.json")
    assert not fs.exists("/bucket/run/logs")
    assert (place / "outputs" / "runs" / "tiny" / "logs").is_dir()


def test_a_sweep_goes_to_a_cluster_and_storage_by_the_command(place, dask, fs, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("CRMRESEARCH_CACHE", os.environ["CRMRESEARCH_CACHE"])
    monkeypatch.chdir(place)
    monkeypatch.setattr(plan.parameters, "folders", lambda: [place / "n"])
    words = ["sweep", "--bank", "bank", "-p", "size=1,6", "--out", "memory://bucket/s"]
    result = CliRunner().invoke(cli.app, [*words, "--cluster", dask.scheduler_address], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "2 runs, 0 unchanged, 0 failed: outputs/sweeps/s/sweep.csv" in result.stdout
    assert fs.exists("/bucket/s/size-6/ledger.csv")
