"""One run per combination of parameter values, and one table that sets their ledgers side by side.

Each combination is an ordinary run in a folder of its own, without a site (``crmresearch site`` builds one where it is
wanted): a verdict that changes along the sweep is what one looks for, and ``sweep.csv`` shows it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import escape, ledger
from crmresearch.data.places import put
from crmresearch.errors import CrmError, InputError
from crmresearch.run import batch, staging
from crmresearch.run.progress import Progress

LONGEST = 120  # bytes of a folder's name


def combinations(values: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Return every combination of the values, by a name fit for a folder, e.g. ``horizon_months-12_seed-1``.

    Names that would be the same (in any case: not every disk tells "A" from "a"), or are long, end in a fingerprint.

    Raises
    ------
    InputError
        If a parameter has the same value twice.
    """
    for name, given in values.items():
        if len({repr(v) for v in given}) < len(given):
            raise InputError(f"parameter {name} has the same value twice")
    combined = [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    words = ["_".join(f"{name}-{value}" for name, value in c.items()) for c in combined]
    plain = [re.sub(r"[^\w.]+", "-", w).strip("-") for w in words]
    often = Counter(p.casefold() for p in plain)
    out = {}
    for combination, name in zip(combined, plain, strict=True):
        if often[name.casefold()] > 1 or len(name.encode()) > LONGEST:
            mark = hashlib.sha256(repr(combination).encode()).hexdigest()[:8]
            name = f"{name.encode()[:LONGEST].decode(errors='ignore')}-{mark}"
        out[name] = combination
    return out


def _child(limits: Mapping[str, str]) -> None:
    """Give a child its share of the machine, and let it stop its kernels when told to end, or when its parent is gone.

    The parent alone hears the keyboard.
    """

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the stopping
        raise KeyboardInterrupt

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    os.environ.update(limits)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def run(
    bank: str,
    values: Mapping[str, Sequence[Any]],
    out: Path,
    *,
    studies: Iterable[str] | None = None,
    jobs: int = 2,
    from_dir: Path | None = None,
    resume: bool | None = None,
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
    from_dir : Path, optional
        As for one run.
    resume : bool, optional
        Keep notebooks that completed before on unchanged input; False removes what interrupted runs had finished.
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
        If a process was lost, or the bank's files changed meanwhile.
    """
    progress = progress or Progress()
    available = batch.find_notebooks(folder)
    names = batch.select(available, studies)
    runs = combinations(values)
    for combination in runs.values():
        batch.split({n: available[n] for n in names}, combination)
    if out.exists() and any(p.name not in {*runs, "sweep.csv"} and p.name[0] != "." for p in out.iterdir()):
        raise InputError(f"{out} holds something that is not this sweep; choose another --out, or empty it first")
    for name in runs:
        staging.check(out / name, resume)
    progress.say(f"opening bank {bank} (a new or changed one is loaded and checked first)")
    opened = batch.load(bank, from_dir)
    progress.begin(len(runs))
    one = partial(
        batch.run,
        bank,
        from_dir=from_dir,
        studies=names,
        jobs=1,
        resume=resume,
        timeout=timeout,
        folder=folder,
        site=False,
    )
    context = multiprocessing.get_context("spawn")
    limits = opened.engine.share(jobs)
    pool = executor or ProcessPoolExecutor(jobs, mp_context=context, initializer=_child, initargs=(limits,))
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
    read = {json.loads((out / name / "run.json").read_text("utf-8"))["fingerprints"]["data"] for name in runs}
    if len(read) > 1:
        raise CrmError("the bank's files changed during the sweep: its runs read different data; run it again")
    parts = []
    for name, combination in runs.items():
        frame = ledger.read(out / name)
        frame = frame[~frame["verdict"].isin(ledger.UNMEASURED)]
        facts = {"run": name, "status": statuses[name], **{k: str(v) for k, v in combination.items()}}
        parts.append(pd.concat([pd.DataFrame([facts] * len(frame), index=frame.index), frame], axis=1))
    table = pd.concat(parts, ignore_index=True)
    put(out / "sweep.csv", escape.csv(table), private=False)
    return table, statuses


def changed(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the lines whose verdict is not the same in every run, with the verdicts that occur."""
    verdicts = table.groupby("line_id", sort=False)["verdict"].unique()
    return {str(line): [str(v) for v in sorted(found)] for line, found in verdicts.items() if len(found) > 1}
