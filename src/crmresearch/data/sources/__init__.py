"""Where a bank comes from: its description, the catalogue of open data, and how a name becomes files on disk.

Every source, whether simulated, your own files or an open data set, is a :class:`Description`: facts about the bank and
one query per table that yields the contract's columns. :mod:`crmresearch.data.bank` loads them all through one door.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from crmresearch.data.contract import Problem, nearest
from crmresearch.errors import InputError

EVIDENCE = ("real bank", "real, other trade", "simulated", "published")
Evidence = Literal["real bank", "real, other trade", "simulated", "published"]


@dataclass(frozen=True)
class About:
    """Facts about a bank that no table holds.

    Parameters
    ----------
    name : str
        Short name; letters, digits, ``-`` and ``_``.
    currency : str
        Currency of every amount (ISO code).
    observation_start, observation_end : date
        Period covered, both days included. Declared by the bank, never taken from the clock.
    evidence : {'real bank', 'real, other trade', 'simulated', 'published'}
        What a result on these data can show.
    title, licence, citation : str
        For captions and references.
    cannot_answer : tuple of str
        What the data cannot show, one sentence each.
    constructs : mapping of str to list of str
        Survey constructs and their items.
    paths : tuple of pair of str
        Arrows of the structural model, from and to a construct.
    refused : mapping of str to str
        Columns of the source that are never loaded (``table.column``), and why: they leak the answer.
    unlinked : tuple of str
        Tables without customer ids; their ids are row numbers and can be joined with nothing.
    covered : mapping of str to pair of date
        Tables that cover less than the observation period, with their own first and last day.
    dated : bool
        False for data without dates, whose period the publisher does not state: both dates then are absent.
    """

    name: str
    currency: str
    observation_start: datetime.date
    observation_end: datetime.date
    evidence: Evidence
    title: str = ""
    licence: str = "not stated"
    citation: str = ""
    cannot_answer: tuple[str, ...] = ()
    constructs: Mapping[str, list[str]] = field(default_factory=dict)
    paths: tuple[tuple[str, str], ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    unlinked: tuple[str, ...] = ()
    covered: Mapping[str, tuple[datetime.date, datetime.date]] = field(default_factory=dict)
    dated: bool = True

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise InputError(f"a bank's name has letters, digits, - and _ only, not '{self.name}'")
        if self.evidence not in EVIDENCE:
            raise InputError(f"evidence '{self.evidence}' of bank '{self.name}': {nearest(self.evidence, EVIDENCE)}")
        if self.dated:
            for day in ("observation_start", "observation_end"):
                if not isinstance(getattr(self, day), datetime.date):
                    raise InputError(f"{day} of bank '{self.name}' must be a date (YYYY-MM-DD)")
            if self.observation_end < self.observation_start:
                raise InputError(f"bank '{self.name}': observation_end lies before observation_start")
        object.__setattr__(self, "title", self.title or self.name)
        object.__setattr__(self, "cannot_answer", tuple(self.cannot_answer))
        object.__setattr__(self, "unlinked", tuple(self.unlinked))
        object.__setattr__(self, "covered", {t: (first, last) for t, (first, last) in self.covered.items()})
        object.__setattr__(self, "paths", tuple((str(a), str(b)) for a, b in self.paths))
        for path in self.paths:
            for end in path:
                if end not in self.constructs:
                    arrow = f"path {path[0]} to {path[1]} of bank '{self.name}'"
                    raise InputError(f"{arrow} names '{end}': {nearest(end, self.constructs)}")

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> About:
        """Build from a mapping; unknown keys are refused with the nearest valid name."""
        known = {f.name for f in fields(cls)}
        for key in facts:
            if key not in known:
                raise InputError(f"unknown key '{key}' in the facts about a bank: {nearest(key, known)}")
        facts = dict(facts)
        required = ["name", "currency", "evidence"]
        if facts.get("dated", True):
            required += ["observation_start", "observation_end"]
        else:
            facts |= {"observation_start": None, "observation_end": None}
        missing = [k for k in required if facts.get(k) is None]
        if missing:
            raise InputError(f"the facts about a bank lack {', '.join(missing)}")
        return cls(**facts)


@dataclass(frozen=True)
class TableSource:
    """How one table is read.

    Parameters
    ----------
    query : str
        SQL for DuckDB whose columns carry the contract's names (or names of the bank's own).
    text : bool
        Whether the columns are raw text, whose types are to be found out.
    formats : mapping
        ``strptime`` format of text dates, by column; ``"*"`` for every date of the table.
    recode : mapping
        For a column, its values in the source and what they mean in the contract.
    origin : str
        File name for reports, without its folder.
    """

    query: str
    text: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)
    recode: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class Reconciliation:
    """A number that a loaded bank must reproduce: what it is, the query that finds it, and what it should be.

    ``expected`` is a number the publisher states, or a query for the same number from another table.
    """

    what: str
    found: str
    expected: float | str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Description:
    """A bank before it is loaded: facts, tables, and the files whose content decides whether a load is still valid.

    ``prepare`` runs once on the loading connection (to attach a database, say) and returns problems; ``problems`` are
    defects of files found before any row was read; ``reconcile`` are numbers to compare once all tables are loaded.
    """

    about: About
    tables: Mapping[str, TableSource]
    files: tuple[Path, ...] = ()
    prepare: Callable[[Any], list[Problem]] | None = None
    problems: tuple[Problem, ...] = ()
    reconcile: tuple[Reconciliation, ...] = ()


# --- places -----------------------------------------------------------------------------------------------------------


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


@functools.cache
def code_fingerprint() -> str:
    """Return a hash of the code that decides what a loaded database holds."""
    package = Path(__file__).parent.parent
    files = [package / f"{m}.py" for m in ("tables", "contract", "loading", "bank")]
    files = [*files, *sorted((package / "sources").rglob("*.[py][ya]*"))]
    digest = hashlib.sha256()
    for path in files:
        if path.suffix in {".py", ".yaml"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# --- catalogue --------------------------------------------------------------------------------------------------------


@functools.cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Return the catalogue of open data sets, by name."""
    import yaml

    path = Path(__file__).parent.parent / "catalogue.yaml"
    return dict(yaml.safe_load(path.read_text("utf-8")))


def _entry(name: str) -> dict[str, Any]:
    try:
        return catalogue()[name]
    except KeyError:
        raise InputError(f"no open data set '{name}' in the catalogue: {nearest(name, catalogue())}") from None


def about_entry(name: str, **more: Any) -> About:
    """Return the facts the catalogue states about a data set."""
    known = {f.name for f in fields(About)}
    entry = {k: v for k, v in _entry(name).items() if k in known}
    return About.of({"name": name, **entry, **more})


def data_folder(name: str) -> Path:
    """Return the cache folder of a data set's files."""
    return cache_dir() / "data" / name


def get(name: str, from_dir: str | Path | None = None) -> Path:
    """Bring the files of an open data set into the cache, from its address or from a folder on disk.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    from_dir : path, optional
        Folder that holds the files already; without it they are downloaded.

    Returns
    -------
    Path
        Folder in the cache, with every file checked against the catalogue's sha256.

    Raises
    ------
    InputError
        If a file is missing, differs from the catalogue, or has no address to download from.
    """
    files: dict[str, dict[str, Any]] = _entry(name)["files"]
    folder = data_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    source = None if from_dir is None else Path(from_dir).expanduser()
    if source is not None and not source.is_dir():
        raise InputError(f"there is no folder {source.name}/ to take '{name}' from")
    problems = []
    for file, facts in files.items():
        target = folder / file
        if target.exists() and _genuine(target.read_bytes(), facts):
            continue
        try:
            if source is not None:
                _copy([source / n for n in (file, *facts.get("also", ()))], target, facts)
            elif facts.get("address") or not facts.get("optional"):
                _download(name, file, target, facts)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(f"data set '{name}' is not complete:\n  - " + "\n  - ".join(problems))
    return folder


def _genuine(data: bytes, facts: Mapping[str, Any]) -> bool:
    """Compare content with the catalogue: by sha256, or by git blob id where only that is known."""
    if "unpacked_sha256" in facts:
        import gzip

        unpacked = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return hashlib.sha256(unpacked).hexdigest() == facts["unpacked_sha256"]
    if "sha256" in facts:
        return hashlib.sha256(data).hexdigest() == facts["sha256"]
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return blob.hexdigest() == facts["git_blob"]


def _put(data: bytes, target: Path, facts: Mapping[str, Any]) -> None:
    """Write a checked file under a temporary name, then rename it."""
    if not _genuine(data, facts):
        data = data.replace(b"\r\n", b"\n")  # many copies differ by their line ends alone
    if not _genuine(data, facts):
        raise InputError(f"{target.name}: content differs from the catalogue; an altered or incomplete copy is refused")
    if target.suffix == ".gz" and data[:2] != b"\x1f\x8b":
        import gzip

        data = gzip.compress(data, mtime=0)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.replace(temporary, target)


def _copy(paths: list[Path], target: Path, facts: Mapping[str, Any]) -> None:
    path = next((p for p in paths if p.is_file()), None)
    if path is not None:
        try:
            _put(path.read_bytes(), target, facts)
        except PermissionError:
            raise InputError(f"{path.name}: may not be read; check its permissions") from None
    elif not facts.get("optional"):
        raise InputError(f"{target.name}: not in the folder given")


def _download(name: str, file: str, target: Path, facts: Mapping[str, Any]) -> None:
    address = facts.get("address")
    if not address:
        obtain = facts.get("obtain", "take it from a folder (--from)")
        raise InputError(f"{file}: no address to download from; {obtain}")
    import pooch

    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        try:
            raw = pooch.retrieve(address, known_hash=facts.get("address_sha256"), path=temporary, fname="raw")
        except Exception as error:
            command = f"`crmresearch bank get {name} --from DIR`"
            raise InputError(f"{file}: download failed ({type(error).__name__}); try again, or {command}") from None
        _put(_converted(Path(raw).read_bytes(), facts.get("convert", "")), target, facts)


def _converted(data: bytes, how: str) -> bytes:
    """Bring a published copy into the catalogue's form, against whose sha256 it is then checked."""
    if how == "complete days":  # a copy cut in the middle of a day: keep the days before it
        lines = data.replace(b"\r\n", b"\n").split(b"\n")
        last = max(i for i, line in enumerate(lines[:-1]) if line.split(b";")[2:3] != lines[-2].split(b";")[2:3])
        return b"\n".join(lines[: last + 1]) + b"\n"
    if how == "unindexed":  # written by R with row names
        rows = [line.replace(b'"', b"").split(b",", 1)[1] for line in data.splitlines() if line]
        return b"\n".join(rows) + b"\n"
    if how.startswith("blanks"):  # columns set apart by blanks; the rest of the word is the header
        lines = [b",".join(line.split()) for line in data.splitlines() if line.strip()]
        body = [line for line in lines if line[:1].isdigit()]
        return b"\n".join([how.split()[1].encode(), *body]) + b"\n"
    return data


# --- names ------------------------------------------------------------------------------------------------------------


def _own_banks() -> dict[str, Path]:
    """Return banks described in the folders of ``CRMRESEARCH_BANKS``, by name."""
    from crmresearch.data.sources import own_files

    found: dict[str, Path] = {}
    for entry in filter(None, os.environ.get("CRMRESEARCH_BANKS", "").split(os.pathsep)):
        folder = Path(entry).expanduser()
        if not folder.exists():
            raise InputError("CRMRESEARCH_BANKS names a folder that does not exist")
        candidates = [folder] if folder.is_file() else [folder / "bank.yaml", *sorted(folder.glob("*/bank.yaml"))]
        for path in candidates:
            if path.is_file():
                name = own_files.name_in(path)
                if name in catalogue() or name == "reference":
                    raise InputError(
                        f"a bank in CRMRESEARCH_BANKS takes the name '{name}', which is reserved; rename it"
                    )
                if name in found and found[name] != path:
                    raise InputError(f"two banks in CRMRESEARCH_BANKS are both named '{name}'; rename one of them")
                found[name] = path
    return found


def find(name_or_path: str | os.PathLike[str]) -> Description:
    """Turn a name or a path into the description of a bank.

    Parameters
    ----------
    name_or_path : str or path
        ``reference``, a name in the catalogue, the name of a bank in a folder of ``CRMRESEARCH_BANKS``, or a path to a
        folder with a ``bank.yaml``, or to that file.

    Raises
    ------
    InputError
        If nothing by that name is known, or the files of an open data set are not in the cache.
    """
    from crmresearch.data.sources import own_files

    text = os.fspath(name_or_path)
    if text == "reference":
        return own_files.describe(_reference())
    if text in catalogue():
        entry = catalogue()[text]
        folder = data_folder(text)
        lacking = [f for f, facts in entry["files"].items() if not facts.get("optional") and not (folder / f).exists()]
        if lacking:
            raise InputError(
                f"the files of '{text}' are not here yet ({', '.join(lacking)}); fetch them first: "
                f"crmresearch bank get {text}, or with files you have: crmresearch bank get {text} --from DIR"
            )
        module = importlib.import_module(f"crmresearch.data.sources.{entry['module']}")
        description: Description = module.describe(text, folder)
        return description
    own = _own_banks()
    if text in own:
        return own_files.describe(own[text])
    path = Path(text).expanduser()
    if path.exists():
        return own_files.describe(path)
    if len(path.parts) > 1 or path.suffix in {".yaml", ".yml"}:
        raise InputError(f"there is no file or folder {text}; --bank takes a bank.yaml, its folder, or a bank's name")
    names = ["reference", *catalogue(), *own]
    raise InputError(f"there is no bank '{path.name}': {nearest(text, names)}, or give the path of a bank.yaml")


def listing() -> list[dict[str, str]]:
    """Return every bank that can be named: name, title, evidence, and whether its files are here."""
    title, status = "Simulated reference bank", "made when first used"
    rows = [{"name": "reference", "title": title, "evidence": "simulated", "status": status}]
    for name, entry in catalogue().items():
        needed = [f for f, facts in entry["files"].items() if not facts.get("optional")]
        here = all((data_folder(name) / f).exists() for f in needed)
        status = "here" if here else f"crmresearch bank get {name}"
        rows.append({"name": name, "title": entry["title"], "evidence": entry["evidence"], "status": status})
    for name, path in _own_banks().items():
        about = importlib.import_module("crmresearch.data.sources.own_files").about_in(path)
        rows.append({"name": name, "title": about.title, "evidence": about.evidence, "status": "own files"})
    return rows


def _reference() -> Path:
    """Return the folder of the simulated reference bank, made when it is not there yet."""
    from crmresearch.lab import simulated

    package = Path(simulated.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.[py][ya]*")):
        digest.update(path.read_bytes())
    folder = cache_dir() / "simulated" / f"reference-{digest.hexdigest()[:12]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not (folder / "bank.yaml").exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                simulated.write(simulated.Settings(), Path(temporary) / "bank")
                (Path(temporary) / "bank").rename(folder)
    return folder
