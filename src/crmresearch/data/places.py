"""Where things lie on this machine: the cache folder, locks on what is made there, and hashes of files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crmresearch.errors import InputError


def cache_dir() -> Path:
    """Return the folder that holds loaded databases and downloads (``CRMRESEARCH_CACHE``)."""
    override = os.environ.get("CRMRESEARCH_CACHE")
    if override:
        folder = Path(override).expanduser()
    elif os.name == "nt":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "crmresearch"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crmresearch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"the cache folder cannot be made ({reason}); set CRMRESEARCH_CACHE to one that can") from None
    return folder


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time do the work that ends in ``path``; a process that dies releases the lock."""
    try:
        import fcntl
    except ImportError:  # no advisory locks here; atomic renames alone keep the result whole
        yield
        return
    with path.with_name(path.name + ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def put(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, then rename it: nobody sees half a file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
    os.replace(temporary, path)
