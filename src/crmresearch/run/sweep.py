"""One run per combination of parameter values, and one table that sets their ledgers side by side.

Each combination is an ordinary run in a folder of its own, without a site (``crmresearch site`` builds one where it is
wanted): a verdict that changes along the sweep is what one looks for, and ``sweep.csv`` shows it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import ledger, parameters
from crmresearch.errors import CrmError, InputError
from crmresearch.run import batch
from crmresearch.run.progress import Progress


def combinations(values: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Return every combination of the values, by a name fit for a folder, e.g. ``horizon_months-12_seed-1``."""
    out = {}
    for chosen in itertools.product(*values.values()):
        combination = dict(zip(values, chosen, strict=True))
        words = "_".join(f"{name}-{value}" for name, value in combination.items())
        out[re.sub(r"[^\w.]+", "-", words).strip("-")] = combination
    return out


def _interruptible() -> None:
    """Let a child that is told to end stop its kernels first; the parent alone hears the keyboard."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the stopping
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def run(
    bank: str,
    values: Mapping[str, Sequence[Any]],
    out: Path,
    *,
    studies: Iterable[str] | None = None,
    jobs: int = 2,
    resume: bool = False,
    timeout: float = batch.TIMEOUT,
    folder: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Run every combination of parameter values and write ``sweep.csv``.

    Parameters
    ----------
    bank : str
        Name of a bank, or path of a folder or file that describes one.
    values : mapping of str to sequence
        Values of each parameter that varies.
    out : Path
        Folder of the sweep; each combination has its run's folder in it.
    studies : iterable of str, optional
        Names or numbers of notebooks; all by default.
    jobs : int
        Runs at a time.
    resume : bool
        Keep notebooks that completed before on unchanged input.
    timeout : float
        Seconds per notebook.
    folder : Path, optional
        Where the notebooks are.
    executor : Executor, optional
        Where the runs are executed, for instance a cluster's; processes of this machine by default.
    progress : Progress, optional
        Listener.

    Returns
    -------
    table : DataFrame
        The lines of each run's ledger that were measured or looked at, preceded by run, its status and its values.
    statuses : dict
        How each run ended.

    Raises
    ------
    InputError
        Before anything runs: what :func:`crmresearch.run.batch.run` refuses, in any combination.
    CrmError
        If a process was lost.
    """
    progress = progress or Progress()
    available = batch.find_notebooks(folder)
    names = batch.select(available, studies)
    runs = combinations(values)
    for combination in runs.values():
        parameters.split({n: available[n] for n in names}, combination)
    if out.exists() and any(p.name not in {*runs, "sweep.csv"} and p.name[0] != "." for p in out.iterdir()):
        raise InputError(f"{out} holds something that is not this sweep; choose another --out, or empty it first")
    progress.say(f"opening bank {bank} (a new or changed one is loaded and checked first)")
    batch.load(bank)
    progress.begin(len(runs))
    one = partial(batch.run, bank, studies=names, jobs=1, resume=resume, timeout=timeout, folder=folder, site=False)
    context = multiprocessing.get_context("spawn")
    pool = executor or ProcessPoolExecutor(jobs, mp_context=context, initializer=_interruptible)
    statuses: dict[str, str] = {}
    try:
        waiting = {pool.submit(one, values=values, out=out / name): name for name, values in runs.items()}
        for done in as_completed(waiting):
            name, status = waiting[done], done.result().status
            statuses[name] = status["status"]
            progress.end(name, {"status": status["status"]})
    except BrokenExecutor:
        raise CrmError("a run's process was lost (killed, or out of memory); run again, with --resume") from None
    except BaseException:
        if executor is None:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
        raise
    finally:
        if executor is None:
            pool.shutdown()
    parts = []
    for name, combination in runs.items():
        frame = ledger.read(out / name)
        frame = frame[~frame["verdict"].isin(ledger.UNMEASURED)]
        facts = {"run": name, "status": statuses[name], **{k: str(v) for k, v in combination.items()}}
        parts.append(pd.concat([pd.DataFrame([facts] * len(frame), index=frame.index), frame], axis=1))
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(out / "sweep.csv", index=False, float_format="%.9g", lineterminator="\n")
    return table, statuses


def changed(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the lines whose verdict is not the same in every run, with the verdicts that occur."""
    verdicts = table.groupby("line_id", sort=False)["verdict"].unique()
    return {str(line): [str(v) for v in sorted(found)] for line, found in verdicts.items() if len(found) > 1}
