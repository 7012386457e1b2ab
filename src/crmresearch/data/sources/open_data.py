"""The catalogue of open data sets, and how their files come into the cache, checked."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from crmresearch.data.contract import nearest
from crmresearch.data.description import About, Description, TableSource
from crmresearch.data.places import cache_dir, put
from crmresearch.data.sources.readers import csv_header, csv_relation
from crmresearch.errors import InputError


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


def describe(name: str, folder: Path) -> Description:
    """Describe a data set by the queries of its catalogue entry.

    Parameters
    ----------
    name : str
        Name in the catalogue.
    folder : Path
        Folder with the data set's files.
    """
    entry = _entry(name)
    rows, stems = {}, {file.split(".")[0]: file for file in entry["files"]}
    for stem, file in stems.items():
        sep = entry["files"][file].get("sep", ",")
        rows[stem] = csv_relation(folder / file, csv_header(folder / file, sep), sep)
    tables = {}
    for table, query in entry["tables"].items():
        origin = min(stems, key=lambda stem: query.find(f"{{{stem}}}") % len(query))  # named first
        tables[table] = TableSource(query.format(**rows), text=True, origin=stems[origin])
    return Description(about_entry(name), tables, tuple(folder / file for file in entry["files"]))


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


def holding(name: str, folder: Path) -> Path | None:
    """Return the folder, this one or one in it, that holds all files that a data set needs; None where none does."""
    needed = [(f, *facts.get("also", ())) for f, facts in _entry(name)["files"].items() if not facts.get("optional")]
    places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    return next((p for p in places if all(any((p / n).is_file() for n in names) for names in needed)), None)


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
    put(target, data)


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
