"""Loaded banks on disk: one database per state of the sources, made once and then opened read-only."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from crmresearch.data import pseudonyms, remote
from crmresearch.data.contract import ContractError
from crmresearch.data.description import Description
from crmresearch.data.engines import SUFFIX, DuckDB
from crmresearch.data.loading import load
from crmresearch.data.places import LEAST, locked, private, put, room, sha256
from crmresearch.errors import InputError


def opened(description: Description) -> DuckDB:
    """Open the loaded database of a description, loading it when there is none for its fingerprint.

    The file's name carries the fingerprint, and appears only by renaming a complete, checked file: no reader ever sees
    half a load, and an interrupted one leaves the older database where it is. One that is no longer what was
    loaded (cut by a full disk, say) is loaded again.
    """
    if description.problems:  # files that cannot be read at all also fail the fingerprint
        if description.elsewhere is None:
            load(DuckDB(), description)  # what can be read, so that one report holds every problem
        else:
            description.elsewhere.remote.close()
        raise ContractError(description.about.name, description.problems)
    folder = private("banks")
    place = hashlib.sha256(str(description.files[0].resolve()).encode()).hexdigest()[:8]
    name = f"{description.about.name}-{place}"  # two folders may name their banks alike
    state = fingerprint(description)
    path, key = folder / f"{name}.{state}{SUFFIX}", pseudonyms.key()
    if not _whole(path, key):
        with locked(folder / name):
            if not _whole(path, key):
                if path.exists():
                    what = "has pseudonyms of another key" if _whole(path) else "is damaged"
                    told = f"the loaded database of {description.about.name} {what}; it is loaded again"
                    print(f"== {told}", file=sys.stderr)
                _make(description, path, name, key)
    return remote.reopened(path, description.elsewhere)


def kept(state: str) -> Path | None:
    """Return the loaded database of a fingerprint, if it is there, whole, and of the key that there is now."""
    key = pseudonyms.key()
    found = [p for p in private("banks").glob(f"*.{state}{SUFFIX}") if _whole(p, key)] if state.isalnum() else []
    return found[0] if found else None


def _note(path: Path) -> Path:
    """Name the file that says what a loaded database was like when it was made: size, time, sha256, mark of the key."""
    return path.with_suffix(".json")


def _whole(path: Path, key: bytes = b"") -> bool:
    """Tell whether a loaded database is what was loaded, by this key; it is hashed only where size or time differ."""
    try:
        size, time, digest, mark = json.loads(_note(path).read_text("utf-8"))
        stat = path.stat()
    except (OSError, ValueError):
        return False
    if key and mark != pseudonyms.mark(key):
        return False
    return bool(size == stat.st_size) and (time == stat.st_mtime_ns or digest == sha256(path))


def _make(description: Description, path: Path, name: str, key: bytes) -> None:
    folder = path.parent
    if os.name != "nt":  # whoever began these held the lock we hold now, so they were killed
        for stale in folder.glob(f".{name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
    packed = {p: p.suffix not in (".csv", ".yaml") for p in description.files}
    needed = LEAST + sum(p.stat().st_size * (6 if packed[p] else 2) for p in packed)  # as was measured
    remedy = "free some, or set CRMRESEARCH_CACHE to a folder on another disk"
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary, room(folder, name, needed, remedy):
        fresh = Path(temporary) / f"loaded{SUFFIX}"
        engine = DuckDB(Path(temporary) / f"load{SUFFIX}")
        try:
            engine.beside(fresh)  # a new file, no block of which holds an identifier that is replaced
            with engine.uncompressed():
                if description.elsewhere is None:
                    load(engine, description, key=key)
                else:
                    remote.note(engine, description, description.elsewhere, key)
            engine.finish()
        finally:
            engine.close()
        if description.state is None and path != folder / f"{name}.{fingerprint(description)}{SUFFIX}":
            raise InputError(f"the files of {description.about.name} changed while they were loaded; load it again")
        for old in folder.glob(f"{name}.*{SUFFIX}"):
            if old != path:
                _remove(old)
        fresh.chmod(0o600)
        stat = fresh.stat()
        put(_note(path), json.dumps([stat.st_size, stat.st_mtime_ns, sha256(fresh), pseudonyms.mark(key)]).encode())
        os.replace(fresh, path)


def _remove(path: Path) -> None:
    """Remove a database of an earlier state of the sources, unless a run still reads it."""
    try:
        with path.open("r+b") as handle:
            try:
                import fcntl

                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the engine holds a lock on what it reads
            except ImportError:
                pass
            path.unlink()
    except OSError:  # read by a run, or (on Windows) open: the next load tries again
        return
    _note(path).unlink(missing_ok=True)


def fingerprint(description: Description) -> str:
    """Hash the content of the sources, their description and the loading code.

    A file's hash is remembered with its size and its times of modification and change. It is trusted only if the file
    is clearly older than the note (a file rewritten within the clock's grain keeps all three), by the file system's own
    clock.
    """
    notes = private("banks") / "hashes.json"
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
