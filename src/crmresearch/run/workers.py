"""Worker processes that execute notebooks: a kernel that dies or hangs takes nothing else with it."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crmresearch import ledger
from crmresearch.run import kernels
from crmresearch.run.progress import Progress


class Worker:
    """A process that executes one notebook after the other; started again if it was lost."""

    def __init__(self, environment: Mapping[str, str], lock: int | None) -> None:
        self.scratch = kernels.scratch_folder()
        self.held = () if lock is None else (lock,)  # the run's lock, which ends with the last of its processes
        # the user's own start-up files must not change a run
        self.environment = {**environment, kernels.SCRATCH: self.scratch, "IPYTHONDIR": f"{self.scratch}/ipython"}
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False
        self.lock = threading.Lock()  # no process is started once the worker is stopped

    def run(self, job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Execute one notebook and return how it ended; a lost process is an outcome, too."""
        with self.lock:
            if self.stopped:
                return {"status": "failed", "error": "the run was stopped"}
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "crmresearch.run.execution"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    env=self.environment,
                    pass_fds=self.held,
                )
            process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        last_resort = threading.Timer(job["timeout"] + 60, process.kill)
        last_resort.start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                event = json.loads(line)
                if "outcome" in event:
                    return dict(event["outcome"])
                progress.cell(Path(job["source"]).stem, event["done"], event["total"])
        except (BrokenPipeError, json.JSONDecodeError):
            pass
        finally:
            last_resort.cancel()
        process.kill()  # silent, but perhaps not gone yet: the next job needs one that listens
        process.wait()
        return {"status": "failed", "error": "the process that executed the notebook was lost; see its log"}

    def stop(self) -> None:
        """End the process, whatever it is doing, and remove its scratch folder."""
        with self.lock:
            self.stopped = True
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


class Team:
    """Workers that runs share, each of which executes one notebook at a time, and the server of their kernels.

    Parameters
    ----------
    size : int
        Notebooks at a time.
    environment : mapping
        What workers and kernels are told; a job adds what its own run tells.
    lock : int, optional
        Descriptor that workers hold.
    warm : bool
        Whether kernels are forked from one process that has imported the stack.
    """

    def __init__(self, size: int, environment: Mapping[str, str], lock: int | None, warm: bool) -> None:
        self.size, self.stopped = size, False
        self.server = kernels.Server(environment) if warm and kernels.FORKS else None
        told = {kernels.SERVER: self.server.place} if self.server else {}
        self.workers = [Worker({**environment, **told}, lock) for _ in range(size)]
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def run(self, job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        """Execute one notebook as soon as a worker is idle."""
        worker = self.idle.get()
        try:
            return worker.run(job, progress)
        finally:
            self.idle.put(worker)

    def stop(self) -> None:
        """End all of it, whatever it is doing."""
        self.stopped = True
        for worker in self.workers:
            worker.stop()
        if self.server is not None:
            self.server.stop()


@contextlib.contextmanager
def team(size: int, environment: Mapping[str, str], lock: int | None, warm: bool) -> Iterator[Team]:
    """Give a team, and end it whatever happens."""
    one = Team(size, environment, lock, warm)
    try:
        yield one
    finally:
        one.stop()


def execute(
    jobs: list[dict[str, Any]],
    team: Team,
    progress: Progress,
    done: dict[str, dict[str, Any]],
    fingerprints: Mapping[str, str],
) -> None:
    """Execute jobs by a team; a record of each outcome is kept, so that a run can be taken up again."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)

    lost: list[BaseException] = []
    writing = threading.Lock()  # once a run is lost, none of its notebooks writes into its folder again

    def consume() -> None:
        try:
            serve()
        except BaseException as error:  # a full disk ends the run, not only this thread
            with writing:
                lost.append(error)

    def serve() -> None:
        while not lost:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            name = Path(job["source"]).stem
            outcome = team.run(job, progress) | {"fingerprint": fingerprints[name]}
            if team.stopped:  # the run was interrupted: that is no outcome of the notebook
                raise KeyboardInterrupt
            with writing:
                if lost:
                    return
                ledger.write_json(Path(job["folder"]) / "records" / f"{name}.json", outcome)
            done[name] = outcome
            progress.end(name, outcome)

    threads = [threading.Thread(target=consume, daemon=True) for _ in jobs[: team.size]]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not lost:
            thread.join(0.1)
    if lost:
        raise lost[0]
