"""Where runs go that do not stay here: workers of a Dask cluster, folders of object storage. Both are extras.

A run is made in a folder of this machine, or one that it shares with the workers. What came of it whole is uploaded at
the end; what is for nobody but the user stays.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from crmresearch.data.sources import names
from crmresearch.errors import CrmError, InputError
from crmresearch.run import batch, staging
from crmresearch.run.plan import Planner
from crmresearch.run.progress import Progress

WAIT = 10  # seconds for a scheduler, and for the first of its workers
AT_HOME = (*staging.PRIVATE, "records", "events.jsonl")


def carry_out(
    request: Mapping[str, Any], keys: Mapping[str, str], prints: Mapping[str, Any], **ways: Any
) -> batch.Outcome:
    """Do what was planned elsewhere.

    Raises
    ------
    CrmError
        If it would come to something else here than where it was planned.
    """
    planner = Planner(request["folder"])
    plan = planner.plan(request["bank"], request["studies"], request["values"], request["out"], request["from_dir"])
    if plan.keys != keys:
        other = [name for name, told in plan.prints.items() if told != prints[name]] or ["rules, or key of pseudonyms"]
        raise CrmError(
            f"the worker would come to something else ({', '.join(other)}); start it in the environment of this command"
        )
    return batch.carry_out(plan, progress=Progress(), **ways)


def whole(bank: str) -> str:
    """Return a bank's name, or its whole path: workers begin in other folders, and data are told by their place."""
    known = {row["name"] for row in names.listing()}
    return bank if bank in known or not Path(bank).exists() else str(Path(bank).absolute())


def sees(path: str, word: str) -> bool:
    """Tell whether a file says a word, where this is asked."""
    try:
        return Path(path).read_text("utf-8") == word
    except OSError:
        return False


@contextlib.contextmanager
def cluster(address: str, folder: Path) -> Iterator[Executor]:
    """Give an executor that is the workers of a Dask scheduler.

    Parameters
    ----------
    address : str
        Of the scheduler.
    folder : Path
        What is written, which all workers must see.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler or worker is there, or a worker does not see the folder.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--cluster needs Dask, here and where it works: pip install 'crmresearch[cluster]'") from None
    try:
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError):
        raise InputError(
            f"no Dask scheduler answers at {address}; start one with: dask scheduler, and name the address it prints"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError:
            raise InputError(f"the scheduler has no workers; start some with: dask worker {address}") from None
        staging.place(folder / "run")  # makes the folder, or says why it cannot be written
        word = secrets.token_hex(8)
        mark = folder / f".{word}"
        mark.write_text(word, "utf-8")
        try:
            answers = client.run(sees, str(mark.absolute()), word, on_error="return")
        finally:
            mark.unlink()
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                raise InputError(
                    f"worker {worker} cannot import crmresearch ({answer}); install the same version there"
                )
            if not answer:
                raise InputError(
                    f"worker {worker} does not see {folder.absolute()}; name a folder with --out that all workers "
                    "share under one path"
                )
        yield client.get_executor()


class Storage:
    """A folder of object storage, or of anything else that fsspec reaches.

    Parameters
    ----------
    address : str
        Such as ``s3://bucket/folder``.

    Raises
    ------
    InputError
        If it cannot be reached or written, or holds anything but runs.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise InputError(f"{address} needs fsspec: pip install 'crmresearch[storage]'") from None
        try:
            self.fs, root = url_to_fs(address)
            self.root = root.rstrip("/")
            there, probe = self._there(), f"{self.root}/.{secrets.token_hex(8)}"
            self._make(probe)
            self.fs.pipe_file(probe, b"")
            self.fs.rm(probe)
        except Exception as error:  # each kind of storage has errors of its own
            why = str(error) or type(error).__name__
            raise InputError(f"cannot write to {address} ({why}); check the address, and the credentials") from None
        if there and not any(name.rpartition("/")[2] == "run.json" for name in there):
            raise InputError(f"{address} holds something that is not a run; choose another --out, or empty it first")

    def _there(self) -> set[str]:
        """Return the names of the files in the folder."""
        if not self.fs.exists(self.root):
            return set()
        return {str(p)[len(self.root) + 1 :] for p in self.fs.find(self.root, withdirs=False)}

    def _make(self, path: str) -> None:
        """Make the folder of a file, where there are folders: object storage would make a bucket."""
        if "file" in ([self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol):
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def upload(self, folder: Path) -> int:
        """Replace what is there by what may leave of a folder, runs' status last; return the number of files.

        Raises
        ------
        CrmError
            If it cannot be done whole.
        """
        found = leaving(folder)
        if not found:  # nothing completed: what is there stays
            return 0
        try:
            self.fs.invalidate_cache()
            for name in sorted(self._there(), key=_last, reverse=True):  # a status first
                if name not in found or _last(name):
                    self.fs.rm(f"{self.root}/{name}")
            for name in sorted(found, key=_last):
                self._make(f"{self.root}/{name}")
                self.fs.put_file(str(folder / name), f"{self.root}/{name}")
        except Exception as error:  # each kind of storage has errors of its own
            why = str(error) or type(error).__name__
            raise CrmError(f"not all was uploaded to {self.address} ({why}); the same command goes on") from None
        return len(found)


def _last(name: str) -> bool:
    return name.rpartition("/")[2] == "status.json"


def leaving(folder: Path) -> list[str]:
    """Return the files of a folder that are uploaded: nothing private, and of runs in it those that completed."""
    marks = {p.parent: p for p in folder.rglob("status.json")}
    kept = {p for p, mark in marks.items() if json.loads(mark.read_text("utf-8"))["status"] != "completed"}
    return sorted(
        name.as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not kept & {*path.parents}
        for name in [path.relative_to(folder)]
        if not any(part in AT_HOME or part[0] == "." for part in name.parts)
    )
