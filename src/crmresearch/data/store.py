"""Loaded banks on disk: one database per state of the sources, made once and then opened read-only."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from crmresearch.data.contract import ContractError
from crmresearch.data.description import Description
from crmresearch.data.engines import SUFFIX, DuckDB
from crmresearch.data.loading import load
from crmresearch.data.places import cache_dir, locked, put, sha256


def opened(description: Description) -> DuckDB:
    """Open the loaded database of a description, loading it when there is none for its fingerprint.

    The file's name carries the fingerprint, and appears only by renaming a complete, checked file: no reader ever sees
    half a load, and an interrupted one leaves the older database where it is.
    """
    if description.problems:  # files that cannot be read at all also fail the fingerprint
        load(DuckDB(), description)  # what can be read, so that one report holds every problem
        raise ContractError(description.about.name, description.problems)
    folder = cache_dir() / "banks"
    folder.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(str(description.files[0].resolve()).encode()).hexdigest()[:8]
    name = f"{description.about.name}-{place}"  # two folders may name their banks alike
    path = folder / f"{name}.{_fingerprint(description, folder)}{SUFFIX}"
    if not path.exists():
        with locked(folder / name):
            if not path.exists():
                _make(description, path, name)
    return DuckDB(path, read_only=True)


def _make(description: Description, path: Path, name: str) -> None:
    folder = path.parent
    if os.name != "nt":  # whoever began these held the lock we hold now, so they were killed
        for stale in folder.glob(f".{name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
        fresh = Path(temporary) / f"load{SUFFIX}"
        engine = DuckDB(fresh)
        try:
            load(engine, description)
            engine.run("CHECKPOINT")
        finally:
            engine.close()
        for old in folder.glob(f"{name}.*{SUFFIX}"):
            _remove(old)  # an open reader keeps what it has opened
        os.replace(fresh, path)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # on Windows a database that is open cannot be removed; the next load tries again
        return


def _fingerprint(description: Description, folder: Path) -> str:
    """Hash the content of the sources, their description and the loading code.

    A file's hash is remembered with its size and its times of modification and change. It is trusted only if the file
    is clearly older than the note (a file rewritten within the clock's grain keeps all three), by the file system's own
    clock.
    """
    notes = folder / "hashes.json"
    try:
        known = json.loads(notes.read_text("utf-8"))
        noted_ns = notes.stat().st_mtime_ns
    except (OSError, ValueError):
        known, noted_ns = {}, 0
    digest = hashlib.sha256(_code().encode())
    digest.update(repr((description.about, sorted(description.tables.items()))).encode())
    if description.state is not None:
        digest.update(description.state().encode())
    changed = False
    for path in description.files:
        key, stat = str(path.resolve()), path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        note = known.get(key)
        if note is None or note[:3] != mark or max(mark[1:]) > noted_ns - 2_000_000_000:
            known[key] = note = [*mark, sha256(path)]
            changed = True
        digest.update(f"{path.name}:{note[3]}".encode())
    if changed:
        put(notes, json.dumps(known).encode())
    return digest.hexdigest()[:20]


@functools.cache
def _code() -> str:
    """Hash the code that decides what a loaded database holds."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    others = [package / "tables.yaml", *package.parent.glob("identifiers.py")]
    for path in sorted([*package.glob("*.py"), *others, *(package / "sources").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
