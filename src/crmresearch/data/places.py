"""Where things lie on this machine: the cache folder, locks on what is made there, hashes, room on the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from crmresearch.errors import CrmError, InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # how a system says that a disk, or a user's part of it, is full
LEAST = 20 << 20  # bytes that a load or a run needs where nothing tells more


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
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"the cache folder cannot be made ({reason}); set CRMRESEARCH_CACHE to one that can") from None
    return folder


def private(name: str) -> Path:
    """Return a folder in the cache folder that is nobody's but the user's."""
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
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


def put(path: Path, content: bytes, *, private: bool = True) -> None:
    """Write a file under a temporary name, then rename it: nobody sees half a file, nor others a private one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        mode = 0o600 if private else 0o666
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as out:
            out.write(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def room(folder: Path, what: str, needed: int, remedy: str) -> Iterator[None]:
    """Tell of a disk that is too small, or fills up, in one line: what was being written, and how much is needed."""
    if shutil.disk_usage(folder).free < needed:
        raise CrmError(_full(folder, what, needed, f"nothing was written; {remedy}"))
    try:
        yield
    except shutil.Error as error:  # one entry a file; the first says it
        first = error.args[0][0] if isinstance(error.args[0], list) else error.args
        raise CrmError(_full(folder, Path(str(first[1])).name, needed, remedy)) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise CrmError(_full(folder, Path(str(error.filename or what)).name, needed, remedy)) from None


def _full(folder: Path, what: str, needed: int, remedy: str) -> str:
    free, wanted = (f"{size / (1 << 20):,.0f} MB" for size in (shutil.disk_usage(folder).free, needed))
    return f"no room for {what}: the disk of {folder} has {free} free, and about {wanted} are needed; {remedy}"
