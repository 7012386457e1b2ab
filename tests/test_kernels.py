"""Forked kernels: as fresh as cold ones, equal to the byte, killed with whoever asked for them."""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crmresearch.run import batch, execution, kernels, plan, workers
from crmresearch.run.progress import Progress
from test_batch import BANK, notebook
from test_faults import PATIENCE, gone, until

pytestmark = pytest.mark.skipif(not kernels.FORKS, reason="kernels start cold here")

DRAW = "import random, uuid, numpy\nprint(numpy.random.random(), random.random(), uuid.uuid4())"
SPOIL = """import os, sys, warnings, numpy, pandas, matplotlib
os.environ["CRMRESEARCH_LANG"] = os.environ["MINE"] = "zh"
pandas.set_option("display.max_rows", 1); matplotlib.rcParams["font.size"] = 40; numpy.seterr(all="raise")
pandas.DataFrame.mean = None; warnings.simplefilter("error"); sys.path.insert(0, "/nowhere"); os.chdir("/")"""
LOOK = """import os, signal, sys, threading, helper
import duckdb, matplotlib.pyplot as plt, numpy as np, pandas as pd, pyarrow.compute
names = [n for n in sorted(os.environ) if n not in ("CRMRESEARCH_KERNELS", "JE_ARROW_MALLOC_CONF", "JPY_PARENT_PID")]
names = [n for n in names if not n.startswith(("CRMRESEARCH_", "IPYTHONDIR", "PYTEST"))]
print(names, hash(str([os.environ[n] for n in names])) % 10**9)  # longer ones look like cards, now and then
print(hash(str(sys.path)) % 10**9, os.path.basename(os.getcwd()), __name__, helper.here)
print(signal.getsignal(signal.SIGCHLD))
print(pd.get_option("display.max_rows"), np.geterr(), plt.rcParams["font.size"], plt.get_backend())
print(os.getpgrp() == os.getpid(), [t.name for t in threading.enumerate() if "Parent" in t.name])
print(duckdb.sql("SELECT current_setting('threads') > 0, sum(range) FROM range(1000000)"))
print(pyarrow.compute.sum(pyarrow.array(range(1000))))
sys.stderr.write("a warning"); os.system("echo from a shell")
plt.plot([1, 2]); plt.show()
pd.DataFrame({"a": range(40)}).assign(b=2.5)"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "bank.yaml").write_text(BANK)
    rows = ["customer_id,acquired_on,observed_from", *(f"client-{i:04d},2019-03-01,2020-01-01" for i in range(40))]
    (tmp_path / "bank" / "customers.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    for name in ("imported", "whole"):
        monkeypatch.setattr(plan.Code, name, lambda *_: "unchanged")
    return tmp_path


def run(place: Path, name: str, **ways: object) -> batch.Outcome:
    return batch.run(str(place / "bank"), folder=place / "n", out=place / name, site=False, jobs=1, **ways)


def printed(outcome: batch.Outcome, name: str) -> str:
    cells = execution.read_notebook(outcome.folder / "notebooks" / f"{name}.ipynb").cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)


def test_a_forked_kernel_is_what_a_cold_one_is_whatever_ran_before(place, monkeypatch):
    monkeypatch.chdir(place)  # which the user has put on the path, too
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", str(place)), str(place)]))
    (place / "n").mkdir()
    (place / "n" / "helper.py").write_text("here = 'beside the notebook'")
    notebook(place / "n" / "00_spoil.ipynb", SPOIL)
    notebook(place / "n" / "01_look.ipynb", LOOK)
    files = []
    for cold in (False, True):
        outcome = run(place, f"cold {cold}", cold=cold)
        assert outcome.completed, outcome.status
        found = [p for p in sorted(outcome.folder.rglob("*")) if p.is_file() and "logs" not in p.parts]
        files.append({str(p.relative_to(outcome.folder)): p.read_bytes() for p in found if p.name != "status.json"})
    assert files[0] == files[1]
    assert b"image/png" in files[0]["notebooks/01_look.ipynb"]
    assert "beside the notebook" in printed(outcome, "01_look")


def test_no_two_kernels_draw_alike(place):
    for name in ("00_a", "01_b", "02_c"):
        notebook(place / "n" / f"{name}.ipynb", DRAW)
    outcome = run(place, "run")
    drawn = [number for name in ("00_a", "01_b", "02_c") for number in printed(outcome, name).split()]
    assert len(set(drawn)) == 9


def test_a_kernel_ends_with_its_deadline_its_client_or_its_server(place, monkeypatch):
    """What a cell has started ends, too."""
    start = f"import os, subprocess, time\nchild = subprocess.Popen([{sys.executable!r}, '-c', 'input()'], stdin=-1)\n"
    pids = place / "pids"
    tell = f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} {{os.getppid()}}')\ntime.sleep(900)"
    path = notebook(place / "n" / "00_hang.ipynb", start + tell)
    for part in ("logs", "notebooks", "records"):
        (place / part).mkdir()
    job = {"source": str(path), "parameters": {}, "folder": str(place), "environment": {}}

    def told() -> list[int]:
        until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        return [int(pid) for pid in pids.read_text().split()]

    with workers.team(1, dict(os.environ), None, warm=True) as team:
        first = {"source": str(notebook(place / "n" / "01_first.ipynb", "1")), "timeout": 600}
        assert team.run(job | first, Progress())["status"] == "completed"  # the stack is imported by now
        assert team.run(job | {"timeout": 8}, Progress())["status"] == "timed out"
        *kernel, server = told()
        assert team.server is not None
        assert server == team.server.process.pid
        until(lambda: gone(kernel))
    for end in ("worker", "server"):
        pids.unlink()
        with workers.team(1, dict(os.environ), None, warm=True) as team, ThreadPoolExecutor() as pool:
            outcome = pool.submit(team.run, job | {"timeout": 100}, Progress())
            kernel, *_ = told()
            process = team.workers[0].process if end == "worker" else team.server.process
            process.kill()
            assert outcome.result(60)["status"] == {"worker": "failed", "server": "kernel died"}[end]
        until(functools.partial(gone, [kernel]))


def test_without_a_server_kernels_start_cold(place, monkeypatch):
    for name in ("00_a", "01_b"):
        notebook(place / "n" / f"{name}.ipynb", "import os; print('KERNELS' in str([*os.environ]))")
    monkeypatch.setattr(kernels, "STACK", ())
    real = kernels.Server.__init__

    def lost(self: kernels.Server, *given: object) -> None:
        real(self, *given)
        self.process.kill()
        self.process.wait()

    monkeypatch.setattr(kernels.Server, "__init__", lost)
    outcome = run(place, "run")
    assert outcome.completed
    assert "this one starts cold" in (outcome.folder / "logs" / "00_a.log").read_text()
    monkeypatch.setattr(kernels, "FORKS", False)
    assert run(place, "run", force=True).completed


def test_a_kernel_that_ends_at_once_is_told_from_how_it_ended(tmp_path, monkeypatch):
    """And a server that lost its runner removes its folder."""
    send = socket.send_fds

    def late(connection: socket.socket, *given: object) -> int:
        sent = send(connection, *given)
        poller = select.poll()
        poller.register(connection, 0)  # until all is told and the other side has closed
        assert poller.poll(PATIENCE * 1000)
        return sent

    monkeypatch.setattr(socket, "send_fds", late)
    server = kernels.Server(dict(os.environ))
    kernel = kernels.Forked(server.place, [], dict(os.environ), str(tmp_path / "nowhere"))
    assert kernel.wait() == 1
    assert gone([kernel.pid])
    server.process.stdin.close()
    server.process.wait()
    assert not os.path.exists(server.folder)


def test_a_worker_that_went_silent_is_replaced(monkeypatch):
    begin, begun = subprocess.Popen, []

    def silent(_: object, **ways: object) -> subprocess.Popen[str]:
        begun.append(begin([sys.executable, "-c", "import os, time; os.close(1); time.sleep(900)"], **ways))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", silent)
    worker = workers.Worker(dict(os.environ), None)
    for _ in range(2):
        assert worker.run({"source": "00_a.ipynb", "timeout": 600}, Progress())["status"] == "failed"
    worker.stop()
    assert len(begun) == 2
    assert all(process.poll() is not None for process in begun)


LOOP = """
import sys, papermill
from papermill.engines import papermill_engines
from crmresearch.run import engine
papermill_engines.register("crmresearch", engine.Engine)  # as an installed package is by its entry point
for number in range(2):
    given = {"kernel_name": "python3", "progress_bar": False, "cwd": sys.argv[1], "engine_name": "crmresearch"}
    papermill.execute_notebook(f"{sys.argv[1]}/00_a.ipynb", f"{sys.argv[1]}/{number}.ipynb", {"size": number}, **given)
"""


def test_papermill_can_fork_its_kernels_too(tmp_path):
    source = "import os, matplotlib.pyplot as plt\nprint(size, os.getppid())\nplt.plot([1, 2]); plt.show()"
    path = notebook(tmp_path / "00_a.ipynb", source, parameters="size = 7")
    content = execution.read_notebook(path)
    content.metadata["kernelspec"] = kernels.KERNELSPEC
    execution.write_notebook(content, path)
    subprocess.run([sys.executable, "-c", LOOP, str(tmp_path)], check=True, timeout=200)
    outputs = [execution.read_notebook(tmp_path / f"{n}.ipynb").cells[-1].outputs for n in range(2)]
    sizes, servers = zip(*(found[0]["text"].split() for found in outputs), strict=True)
    assert sizes == ("0", "1")
    assert len({*servers}) == 1
    assert all("image/png" in found[1]["data"] for found in outputs)
    until(functools.partial(gone, [int(servers[0])]))
    root = Path(__file__).parents[1]
    assert 'crmresearch = "crmresearch.run.engine:Engine"' in (root / "pyproject.toml").read_text("utf-8")


FORKS = """
import os, signal, sys
from crmresearch.run import kernels
kernels.warm()
assert len(os.listdir("/proc/self/task")) == 1, "threads would not live on in a forked process"
environment = dict(os.environ)
for number in range(1000):
    if not os.fork():
        signal.alarm(20)
        kernels.fresh(environment, "/")
        import duckdb, numpy, pandas, pyarrow.compute
        match number % 4:  # one after the other, to be quick
            case 0:
                right = pandas.DataFrame({"a": numpy.arange(1000) % 7}).groupby("a").size().sum() == 1000
            case 1:
                right = pyarrow.compute.sum(pyarrow.array(range(1000))).as_py() == 499500
            case 2:
                right = duckdb.sql("SELECT count(*) FROM range(100000)").fetchone() == (100000,)
            case 3:
                with duckdb.connect(config={"threads": 2}) as database:
                    right = database.execute("SELECT count(*) FROM range(100000)").fetchone() == (100000,)
        os._exit(0 if right else 1)
    assert os.wait()[1] == 0, number
"""


def test_a_thousand_forks_work():
    environment = {**os.environ, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    subprocess.run([sys.executable, "-c", FORKS], check=True, env=environment | kernels.ENVIRONMENT, timeout=300)
