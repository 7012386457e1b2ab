"""Execute one notebook with papermill, know how it truly ended, and normalise what it wrote.

The runner keeps a few worker processes (``python -m crmresearch.run.execution``), each sent one job after another: a
kernel that dies or hangs takes nothing else with it, and papermill, whose working directory is not thread-safe, is
imported once per worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from crmresearch import escape, words
from crmresearch.data.places import put
from crmresearch.run import spare_grammars
from crmresearch.run.kernels import KERNELSPEC, SCRATCH, Manager

if TYPE_CHECKING:
    from nbformat import NotebookNode


INJECTED = "injected-parameters"
say = words.of("site")
UNFINISHED = "unfinished"

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
# What a traceback tells about a machine: the kernel's temporary cells, and folders before a file's name.
_CELL_FILE = re.compile(r"[^\s\"']*ipykernel_\d+[/\\]\d+\.py")
_FOLDERS = re.compile(r"(?<![\w.:/<~…-])~?/(?:[\w.@+-]+/)+(?=[\w.@+-])")


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook in format 4."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write_notebook(notebook: Mapping[str, Any], path: Path) -> None:
    """Write a notebook: sorted keys, one space of indent, under a temporary name until complete."""
    from nbformat.v4 import nbjson

    text = nbjson.writes(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    put(path, (text + "\n").encode(), private=False)


def source_of(notebook: Mapping[str, Any]) -> str:
    """Return what decides a notebook's outputs: kinds, sources and tags of its cells, as text."""
    cells = [
        [c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", []), c.get("id", "")]
        for c in notebook["cells"]
    ]
    return json.dumps(cells, ensure_ascii=False)


def _clean(text: str) -> str:
    """Take colours, addresses and this machine's folders out of a traceback."""
    return _ADDRESS.sub("0x…", _FOLDERS.sub("…/", _CELL_FILE.sub("<cell>", _ANSI.sub("", text))))


def _outputs(outputs: list[Any]) -> list[Any]:
    """Join stream pieces, whose boundaries depend on timing, and clean errors."""
    out: list[Any] = []
    for output in outputs:
        output.pop("transient", None)
        if output["output_type"] == "stream":
            if out and out[-1]["output_type"] == "stream" and out[-1]["name"] == output["name"]:
                out[-1]["text"] += output["text"]
                continue
        elif output["output_type"] == "error":
            output["evalue"] = _clean(output["evalue"])
            output["traceback"] = [_clean(line) for line in output["traceback"]]
        out.append(output)
    return out


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Take out of an executed notebook what depends on the hour or the machine; return the same object.

    Papermill's timings and markers, execution timestamps and the language version go; ids of inserted cells are fixed;
    pieces of one stream are joined; execution counts run from one.
    """
    notebook.metadata = {"kernelspec": dict(KERNELSPEC), "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    count = 0
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": list(tags)} if tags else {}
        if INJECTED in tags:
            cell["id"] = INJECTED
        cell.setdefault("id", f"cell-{number:02d}")
        if cell.cell_type != "code":
            cell.pop("attachments", None)
            continue
        ran = cell.execution_count is not None
        count += ran
        cell.execution_count = count if ran else None
        cell.outputs = _outputs(cell.outputs)
        for output in cell.outputs:
            if output["output_type"] == "execute_result":
                output["execution_count"] = cell.execution_count
    return notebook


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[dict[str, bool]]:
    """Kill the kernel when the whole notebook has taken too long; papermill knows time-outs per cell alone."""
    state = {"passed": False}

    def kill(*_: Any) -> None:
        state["passed"] = True
        Manager.kill_all()

    if not hasattr(signal, "setitimer"):  # Windows: the time-out per cell stands alone
        yield state
        return
    before = signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield state
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _first_error(notebook: NotebookNode) -> tuple[str, str]:
    """Return id of the first failed cell and the error in one line."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return str(cell.get("id", "")), f"{output['ename']}: {output['evalue']}".split("\n")[0]
    return "", ""


def execute(
    source: Path,
    target: Path,
    parameters: Mapping[str, Any],
    timeout: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Execute a notebook and write it normalised; whatever happens, what was reached is kept.

    Papermill marks the cells of a killed or timed-out kernel "completed", so the outcome is taken from the exception.

    Parameters
    ----------
    source, target : Path
        Notebook to execute, and where to write it.
    parameters : mapping
        Injected after the cell tagged ``parameters``; empty injects nothing.
    timeout : float
        Seconds for the whole notebook.
    progress : callable, optional
        Called with (cells done, cells) after each code cell.

    Returns
    -------
    dict
        ``status`` (completed, failed, timed out, kernel died), ``seconds``, and for the others ``error`` and ``cell``.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook = read_notebook(source)
    total = sum(c.cell_type == "code" and bool(c.source.strip()) for c in notebook.cells) + bool(parameters)
    ran: list[str] = []  # ids of the code cells that were started

    def started(cell: Any, cell_index: int) -> None:
        if cell.cell_type == "code" and cell.source.strip():
            ran.append(cell.get("id", ""))

    def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
        if progress is not None:
            progress(len(ran), total)

    reached_so_far = target.with_name(f".{target.name}")  # papermill writes it again and again, in place
    result: dict[str, Any] = {"status": "completed"}
    begin = time.monotonic()
    try:
        with _deadline(timeout) as deadline:
            papermill.execute_notebook(
                source,
                reached_so_far,
                parameters=dict(parameters),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=source.parent,
                start_timeout=120,
                execution_timeout=max(1, int(timeout) + 1),
                kernel_manager_class=Manager,
                on_cell_start=started,
                on_cell_executed=executed,
            )
    except PapermillExecutionError as error:
        result = {"status": "failed", "error": f"{error.ename}: {error.evalue}".split("\n")[0]}
    except (DeadKernelError, CellTimeoutError):
        if deadline["passed"] or not hasattr(signal, "setitimer"):
            result = {"status": "timed out", "error": f"not finished after {timeout:g} s"}
        else:
            result = {
                "status": "kernel died",
                "error": "the kernel died (killed, or out of memory; --jobs 1 needs less)",
            }
    except Exception as error:  # no kernel, no disk: the other notebooks still run
        with contextlib.suppress(OSError):
            traceback.print_exc()
        result = {"status": "failed", "error": f"{type(error).__name__}: {error}".split("\n")[0]}
    finally:
        Manager.forget_all()
    result["seconds"] = round(time.monotonic() - begin, 2)
    try:
        reached = normalise(read_notebook(reached_so_far))
    except (OSError, ValueError):  # never written, or half of it
        reached = normalise(notebook)
    reached_so_far.unlink(missing_ok=True)
    if result["status"] != "completed":
        result["error"] = _clean(result["error"])
        cell, raised = _first_error(reached)
        result["cell"] = cell or (ran[-1] if ran else "")
        result["error"] = raised or result["error"]
        told = {key: escape.markdown(value) for key, value in result.items()}
        mark = nbformat.v4.new_markdown_cell(say("unfinished", result=told), id=UNFINISHED)
        reached.cells.insert(0, mark)  # nobody must read a part for the whole
    write_notebook(reached, target)
    return result


def serve(jobs: IO[str], events: IO[str]) -> None:
    """Execute jobs, one JSON object a line, and report cells and outcomes the same way.

    The runner's end of ``jobs`` closes with the runner, however that ended; kernel and worker then end at once.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()

    def end(*_: Any) -> None:
        Manager.kill_all()
        os._exit(1)

    def listen() -> None:
        for line in jobs:
            waiting.put(line)
        shutil.rmtree(os.environ.get(SCRATCH, ""), ignore_errors=True)  # the runner is no longer there to do it
        end()

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=listen, daemon=True).start()
    while True:
        job = json.loads(waiting.get())
        source, folder = Path(job["source"]), Path(job["folder"])
        os.environ.update(job["environment"])  # what this run tells its kernels
        log = os.open(folder / "logs" / f"{source.stem}.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        try:
            outcome = execute(
                source,
                folder / "notebooks" / source.name,
                job["parameters"],
                job["timeout"],
                progress=lambda done, total: send(done=done, total=total),
            )
        except OSError as error:  # no room for the notebook itself
            where = Path(error.filename or source.name).name
            outcome = {"status": "failed", "error": f"{where} could not be written ({error.strerror})", "cell": ""}
        send(outcome=outcome)


def text(path: Path) -> str:
    """Write a notebook's cells as text, outputs left out, for a readable diff."""
    cells = read_notebook(path).cells
    return "\n\n".join(f"# %% [{c.cell_type}] {c.get('id', '')}\n{c.source}" for c in cells) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--text"]:
        sys.stdout.write(text(Path(sys.argv[2])))
        sys.exit()
    # events keep a descriptor of their own: kernels inherit standard output and may write there
    spare_grammars()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner decides what an interruption means
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.set_inheritable(channel.fileno(), False)
    serve(sys.stdin, channel)
