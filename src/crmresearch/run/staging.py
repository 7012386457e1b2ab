"""Where a run is written: a folder of its own beside the run's, under a lock, swapped in when all of it is there.

No two runs share a staging folder, so that a process of a run that was killed can write into no later one. What a
killed run had finished is taken up by the next, or removed with a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from crmresearch.data.places import LEAST, room
from crmresearch.errors import CrmError, InputError
from crmresearch.review import LAST

PARTS = ("notebooks", "tables", "figures", "findings", "disclosure", "restricted", "logs")
PRIVATE = ("restricted", "logs")  # for nobody but the user


def place(out: Path) -> Path:
    """Return the folder that a run is to fill or replace, links followed.

    Raises
    ------
    InputError
        If it could not be swapped for the finished run, or holds anything else.
    """
    try:
        out = out.absolute().resolve()  # the link stays, and what it points to is replaced
    except (OSError, RuntimeError):
        raise InputError(f"{out} is a link that leads to itself; choose another --out") from None
    if out.is_mount():
        raise InputError(f"{out} is a mount point, which no finished run can be swapped for; use --out {out / 'run'}")
    try:
        if out.exists() and not (out / "run.json").exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} holds something that is not a run; choose another --out, or empty it first")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {out.parent} ({error.strerror}); choose another --out") from None
    return out


def left(out: Path) -> dict[Path, list[str]]:
    """Return the staging folders that earlier runs left beside ``out``, oldest first, and what each had finished."""
    if not out.parent.is_dir():
        return {}
    mine = re.compile(rf"\.{re.escape(out.name)}\.partial(-\w+)?")
    folders = [p for p in out.parent.iterdir() if mine.fullmatch(p.name) and p.is_dir()]
    return {p: sorted(_records(p)) for p in sorted(folders, key=lambda p: p.stat().st_mtime_ns)}


def _records(partial: Path) -> dict[str, dict[str, Any]]:
    """How notebooks ended, of those that completed."""
    found = {}
    for path in sorted((partial / "records").glob("*.json")):
        record = json.loads(path.read_text("utf-8"))
        if record["status"] == "completed":
            found[path.stem] = record
    return found


@contextlib.contextmanager
def staging(out: Path, force: bool, say: Callable[[str], None]) -> Iterator[tuple[Path, int | None]]:
    """Give a folder beside ``out`` for this run alone, and the lock that its workers hold with it.

    The folder stays, for the next run, when this one is interrupted after a notebook was finished.

    Raises
    ------
    InputError
        If another run is writing ``out``.
    CrmError
        If the disk is too small, or fills up.
    """
    with locked(out) as lock:
        before = left(out)
        partial = out.with_name(f".{out.name}.partial-{secrets.token_hex(4)}")
        partial.mkdir()
        kept = next((p for p in reversed(before) if before[p]), None) if not force else None
        for folder, finished in before.items():
            if folder == kept:
                partial.rmdir()
                folder.rename(partial)
                continue
            say(f"removed what an interrupted run left ({', '.join(finished) or 'nothing'} finished)")
            shutil.rmtree(folder)
        remedy = "the earlier run, if any, is as it was; free some, and run again"
        try:
            with room(partial, "the run", size(out), remedy):
                yield partial, lock
        finally:
            if partial.exists() and not _records(partial):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def locked(out: Path) -> Iterator[int | None]:
    """Let one run at a time write ``out``; whoever inherits the descriptor holds the lock, too."""
    path = out.with_name(f".{out.name}.lock")
    try:
        import fcntl
    except ImportError:  # Windows: two runs into one folder are the user's to avoid
        yield None
        return
    while True:
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"another run is writing {out}; wait for it, or choose another --out") from None
            if not path.exists() or not os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                continue  # its holder ended just now and took the file along
            try:
                yield handle.fileno()
            finally:
                path.unlink(missing_ok=True)
            return


def swap(partial: Path, out: Path) -> None:
    """Put the finished run where it belongs; the earlier one goes last."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        try:
            out.rename(old)
        except OSError as error:
            raise CrmError(
                f"{out} cannot be replaced ({error.strerror}); it is as it was. The finished run stands beside it in "
                f"{partial}; move it with: mv {shlex.quote(str(partial))} DIR"
            ) from None
    partial.rename(out)
    shutil.rmtree(out / "records", ignore_errors=True)  # until then whoever is interrupted leaves what can be taken up
    shutil.rmtree(old, ignore_errors=True)


def owned(folder: Path, name: str) -> list[Path]:
    """Files of a run that one notebook wrote."""
    return [p for part in PARTS for p in sorted((folder / part).glob(f"{name}*")) if p.stem.startswith(name)]


def unchanged(
    out: Path, fingerprints: Mapping[str, str], records: dict[str, dict[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the records of notebooks that completed on the same input, those of an interrupted run first."""
    status = out / "status.json"
    known: dict[str, Any] = json.loads(status.read_text("utf-8"))["notebooks"] if status.exists() else {}
    known = {n: record for n, record in known.items() if (out / "notebooks" / f"{n}.ipynb").exists()} | (records or {})
    same = {n: r for n, r in known.items() if (r["status"], r.get("fingerprint")) == ("completed", fingerprints.get(n))}
    return {n: same[n] for n in fingerprints if n in same and n != LAST}


def kept(partial: Path, out: Path, fingerprints: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Bring what an interrupted or an earlier run finished on the same input into the staging folder; its records."""
    records, found = _records(partial), {}
    for name, record in unchanged(out, fingerprints, records).items():
        for path in [] if name in records else owned(out, name):
            target = partial / path.relative_to(out)
            _make(partial, target.parent.name)
            shutil.copy2(path, target)
        if (partial / "notebooks" / f"{name}.ipynb").exists():
            found[name] = record | {"reused": True}
    return found


def clear(partial: Path, done: Iterable[str], say: Callable[[str], None]) -> None:
    """Make the parts of the staging folder, with nothing in them but what finished notebooks wrote."""
    if changed := [name for name in _records(partial) if name not in done and name != LAST]:
        say(f"removed what an interrupted run had finished on other input: {', '.join(changed)}")
    keep = {p for name in done for p in owned(partial, name)}
    for record in (partial / "records").glob("*.json"):  # else what is written now would pass for what it tells of
        if record.stem not in done:
            record.unlink()
    for part in PARTS:
        _make(partial, part)
        for path in (partial / part).glob("*"):
            if path not in keep:
                path.unlink()


def _make(partial: Path, part: str) -> None:
    (partial / part).mkdir(exist_ok=True, mode=0o700 if part in PRIVATE else 0o777)


def size(out: Path) -> int:
    """Return about how many bytes a run into ``out`` needs, from the run that is there."""
    return max(LEAST, sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) if out.is_dir() else 0)
