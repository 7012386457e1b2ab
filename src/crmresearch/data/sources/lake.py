"""Tables of a lake: Delta and Iceberg tables in folders or on object storage, and Parquet files there.

One state of such a table is chosen when a bank is described, and its rows are copied into the engine when the bank is
loaded. What names the state is part of the name of the copy, and with the queries of a bank of its fingerprint: a table
that has not changed is not read again.
"""

from __future__ import annotations

import datetime
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from crmresearch.data.contract import quoted
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources.relations import (
    ALIKE,
    Relation,
    Unreadable,
    folders_of,
    named,
    partitions,
    refuse,
    told_apart,
    zones_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = ".metadata.json"
# what the reader of Delta tables was seen to honour (tests/test_lake.py); a feature that is not here is refused
FEATURES = {"columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint"}
NOT_HERE = ("sheet", "table", "query", "sep", "encoding")  # keys of other sources
LAKE = 'pip install "crmresearch[lake]"'
STORAGE = 'pip install "crmresearch[storage]", and what fsspec needs for it (s3fs, gcsfs or adlfs)'
VERSIONS = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True)
class Place:
    """A folder, or a file.

    Parameters
    ----------
    name : str
        Its name in reports.
    root : str
        What its file system calls it.
    address : str
        Where it is: a path of this machine, or an address of object storage.
    fs : object, optional
        Its file system, of fsspec; none for this machine.
    """

    name: str
    root: str
    address: str
    fs: Any = None

    def names(self, below: str = "") -> list[str]:
        """Return the names in a folder of it; none where there is no such folder."""
        if self.fs is None:
            folder = Path(self.root) / below
            try:
                return sorted(p.name for p in folder.iterdir())
            except OSError:
                return []
        try:
            found = self.fs.ls(posixpath.join(self.root, below).rstrip("/"), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(p).rstrip("/").rpartition("/")[2] for p in found)


@dataclass(frozen=True)
class State:
    """One state of a table: what tells it from others, how it is called, its columns, and its rows.

    ``again`` returns what tells the state that is there now, where files are not kept as they were.
    """

    mark: str
    said: str
    schema: pa.Schema
    rows: Callable[[], Any]
    again: Callable[[], str] | None = None


def here(path: Path) -> Place:
    """Return a place of this machine."""
    root = path.resolve().as_posix()
    return Place(path.name, root, root)


def form(place: Place) -> str:
    """Say what kind of table a place is: Delta, Iceberg, Hudi, or none of these."""
    for folder, kind in (("_delta_log", "Delta"), (".hoodie", "Hudi")):
        if place.names(folder):
            return kind
    return "Iceberg" if any(n.endswith(METADATA) for n in place.names("metadata")) else ""


def stored(table: str, addresses: Sequence[str]) -> Place:
    """Find what the address of a table names; credentials come from the environment, as fsspec reads them."""
    address = addresses[0].rstrip("/")
    if len(addresses) > 1:
        refuse(table, "has several addresses", "name one: a file, or a folder of Parquet files")
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://([^@:/?#]+@)?[^@:/?#]*(:\d+)?(/(?!.*::)[^?#]*)?", address):
        hint = "file: s3://bucket/folder, without password or options: these come from the environment"
        refuse(table, "file: is no address that is read", hint)
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        refuse(table, f"{address} is on object storage", STORAGE)
    try:
        fs, root = url_to_fs(address)
        place = Place(address.rpartition("/")[2], root.rstrip("/"), address, fs)
        if not fs.exists(root):
            refuse(table, f"{address} does not exist", "check file: in bank.yaml, and the credentials")
    except ImportError:
        refuse(table, f"{address} is on object storage", STORAGE)
    except Unreadable:
        raise
    except Exception as error:  # each kind of storage has errors of its own
        _failed(table, address, error, far=True)
    return place


def _failed(table: str, what: str, error: Exception, *, far: bool) -> NoReturn:
    hint = "check the address, and the credentials" if far else "copy it again, or have its writer make a plain copy"
    why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    refuse(table, f"{what} cannot be read ({why})", hint)


def relation(table: str, place: Place, spec: Mapping[str, Any]) -> Relation:
    """Find what a table of a lake is read by."""
    for key in NOT_HERE:
        if key in spec:
            refuse(table, f"{key}: does not go with {place.name}", f"take {key}: out of bank.yaml")
    kind = form(place)
    if kind == "Hudi":
        refuse(table, f"{place.name} is a Hudi table, and is not read", "write it as Parquet, Delta or Iceberg")
    at = _moment(table, spec["as_of"]) if "as_of" in spec else None
    if at is not None and not kind:
        refuse(table, f"as_of: goes with a Delta or Iceberg table, not with {place.name}", "take it out of bank.yaml")
    try:
        state = {"Delta": _delta, "Iceberg": _iceberg, "": _parquet}[kind](table, place, at)
    except ImportError:
        refuse(table, f"{place.name} is {'a Delta' if kind == 'Delta' else 'an Iceberg'} table", LAKE)
    except Unreadable:
        raise
    except Exception as error:  # each reader has errors of its own
        _failed(table, place.name, error, far=place.fs is not None)
    told_apart(table, place.name, state.schema.names)
    alias = f"_{table}_{hashlib.sha256(state.mark.encode()).hexdigest()[:16]}"

    def make(engine: DuckDB) -> None:
        import pyarrow as pa

        try:
            with engine.visible({"_batches": state.rows()}):
                engine.run(f"CREATE TEMP TABLE {quoted(alias)} AS SELECT * FROM _batches")
            changed = state.again is not None and state.again() != state.mark
        except (engine.error, pa.ArrowException, FileNotFoundError):
            hint = "see that every file of it is there (a vacuum deletes those of older states), and load it again"
            refuse(table, f"the rows of {place.name} ({state.said}) cannot be read whole", hint)
        if changed:
            refuse(table, f"{place.name} changed while it was read", "load it again")

    header, origin = list(state.schema.names), f"{place.name} ({state.said})"
    return Relation(quoted(alias), header, origin, text=False, zones=zones_of(state.schema), makes=(make,))


def _moment(table: str, said: str) -> int | datetime.datetime:
    """Read which state is asked for: a version, or the last one of a day or before a time, in UTC."""
    if said.isdecimal():
        return int(said)
    try:
        found = datetime.datetime.fromisoformat(said)
    except ValueError:
        refuse(table, "as_of: is neither a version nor a day", "as_of: 12, or as_of: 2023-12-31")
    if len(said) == len("2023-12-31"):
        found += datetime.timedelta(days=1, microseconds=-1)
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _chosen(table: str, place: Place, states: Mapping[int, int], at: int | datetime.datetime) -> int:
    """Choose among states, with the milliseconds in which each began, the oldest first."""
    if isinstance(at, int):
        if at not in states:
            last = ", ".join(map(str, [*states][-3:]))
            refuse(table, f"{place.name} has no version {at}", f"the last it has: {last or 'none'}")
        return at
    before = [state for state, began in states.items() if began <= at.timestamp() * 1000]
    if not before:
        first = datetime.datetime.fromtimestamp(min(states.values()) / 1000, datetime.UTC) if states else "none"
        refuse(table, f"{place.name} has no state as old as as_of: says", f"the oldest it has: {first:%Y-%m-%d %H:%M}")
    return before[-1]


# --- Delta ------------------------------------------------------------------------------------------------------------


def _delta(table: str, place: Place, at: int | datetime.datetime | None) -> State:
    import pyarrow as pa
    from deltalake import DeltaTable, QueryBuilder

    found = DeltaTable(place.address)
    if at is not None:
        known = {int(h["version"]): int(h["timestamp"]) for h in reversed(found.history())}
        found.load_as_version(_chosen(table, place, known, at))
    protocol = found.protocol()
    unknown = sorted({*(protocol.reader_features or ())} - FEATURES)
    if unknown or protocol.min_reader_version > 3:
        what = ", ".join(unknown) or f"reader version {protocol.min_reader_version}"
        hint = "drop that feature (ALTER TABLE … DROP FEATURE), or write a copy without it"
        refuse(table, f"{place.name} is a Delta table with {what}, which is not read", hint)
    paths = pa.table(found.get_add_actions()).column("path").to_pylist()
    if outside := [p for p in paths if "://" in p or p.startswith("/") or ".." in p.split("/")]:
        rule = f"{place.name} has files outside its folder ({len(outside)} of {len(paths)})"
        refuse(table, rule, "write it anew as a table of its own (CREATE TABLE … AS SELECT, a deep clone)")

    # one partition keeps the order of files and rows
    builder = QueryBuilder({"datafusion.execution.target_partitions": "1"}).register("t", found)

    def rows() -> Any:
        return pa.RecordBatchReader.from_stream(builder.execute("SELECT * FROM t"))

    version = found.version()
    return State(
        f"{found.metadata().id} {version}", f"Delta version {version}", pa.schema(found.schema().to_arrow()), rows
    )


# --- Iceberg ----------------------------------------------------------------------------------------------------------


def _iceberg(table: str, place: Place, at: int | datetime.datetime | None) -> State:
    import pyarrow as pa
    from fsspec.implementations.local import LocalFileSystem
    from pyiceberg.catalog.noop import NoopCatalog
    from pyiceberg.expressions import AlwaysTrue
    from pyiceberg.io import FileIO
    from pyiceberg.io.fsspec import FsspecInputFile
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
    from pyiceberg.serializers import FromInputFile
    from pyiceberg.table import StaticTable

    fs, root, name = place.fs or LocalFileSystem(), place.root, _newest(table, place)

    class Moved(FileIO):
        """Files of the table alone, wherever its folder lies now."""

        location = root

        def new_input(self, location: str) -> FsspecInputFile:
            below = _path(location).removeprefix(_path(self.location).rstrip("/") + "/")
            if below == _path(location) or ".." in below.split("/"):
                rule = f"{place.name} is an Iceberg table with files outside its folder"
                refuse(table, rule, "write it anew as a table of its own (CREATE TABLE … AS SELECT)")
            return FsspecInputFile(posixpath.join(root, below), fs)

        def new_output(self, location: str) -> NoReturn:
            raise NotImplementedError

        def delete(self, location: Any) -> NoReturn:
            raise NotImplementedError

    files = Moved()
    metadata = FromInputFile.table_metadata(files.new_input(f"{root}/metadata/{name}"))
    files.location = metadata.location
    found = StaticTable(("static-table", name), metadata, f"{root}/metadata/{name}", files, NoopCatalog("static-table"))
    known = {entry.snapshot_id: entry.timestamp_ms for entry in found.history()}
    known = known if not isinstance(at, int) else known | {s.snapshot_id: s.timestamp_ms for s in found.snapshots()}
    scan = found.scan(snapshot_id=None if at is None else _chosen(table, place, known, at))
    try:
        tasks = list(scan.plan_files())
    except ValueError as error:
        if "equality deletes" not in str(error):
            raise
        hint = "have them written into the data first (CALL system.rewrite_data_files), or write a copy of the table"
        refuse(table, f"{place.name} is an Iceberg table with equality deletes, which are not read", hint)
    columns = scan.projection()
    schema = schema_to_pyarrow(columns, include_field_ids=False)

    def rows() -> Any:
        def batches() -> Iterator[Any]:
            for task in tasks:  # one file at a time, in order, so that memory holds one
                for batch in ArrowScan(metadata, files, columns, AlwaysTrue()).to_record_batches([task]):
                    yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    snapshot = scan.snapshot()
    number = snapshot.snapshot_id if snapshot else 0
    return State(f"{metadata.table_uuid} {number} {columns}", f"Iceberg snapshot {number}", schema, rows)


def _path(location: str) -> str:
    """Write an address, or a path that stands as one, in one way."""
    return re.sub(r"^(file:)?/+", "/", location)


def _newest(table: str, place: Place) -> str:
    """Return the newest metadata file of a table: by number, then by what the hint names."""
    files = [n for n in place.names("metadata") if n.endswith(METADATA)]
    numbers = {n: int(found[1]) if (found := re.match(r"v?(\d+)[-.]", n)) else -1 for n in files}
    newest = [n for n in files if numbers[n] == max(numbers.values())]
    if len(newest) > 1 and "version-hint.text" in place.names("metadata"):
        hinted = f"{place.root}/metadata/version-hint.text"
        hint = (place.fs.cat_file(hinted).decode() if place.fs else Path(hinted).read_text("utf-8")).strip()
        newest = [n for n in newest if hint in (n, n.removesuffix(METADATA))] or newest
    if len(newest) > 1:
        rule = f"{place.name} has {len(newest)} newest metadata files"
        refuse(table, rule, "write the name of the one that its catalog names into metadata/version-hint.text")
    return newest[0]


# --- Parquet on object storage ----------------------------------------------------------------------------------------


def _parquet(table: str, place: Place, at: object) -> State:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def listing() -> dict[str, str]:
        place.fs.invalidate_cache()
        found = place.fs.find(place.root, detail=True)
        return {p: repr([info["size"], *(info[k] for k in VERSIONS if k in info)]) for p, info in found.items()}

    def mark() -> str:
        return repr(sorted(listing().items()))

    before = mark()
    folders: dict[str, tuple[str, ...]] = {}
    for path in sorted(listing()):
        inner = path.removeprefix(place.root).strip("/").split("/") if path != place.root else [place.name]
        if any(part[0] in "._" for part in inner):
            continue
        if odd := [part for part in inner[:-1] if "=" not in part]:
            rule = f"{odd[0]} is a folder within a folder, and is not read"
            refuse(table, rule, "move its files up, or the folder away")
        if not inner[-1].endswith(".parquet"):
            refuse(table, f"{inner[-1]} is no Parquet file", "copy it beside bank.yaml, or write Parquet there")
        folders[path] = tuple(folders_of(PurePosixPath(path))[::-1])
    if not folders:
        refuse(table, f"{place.name} holds no Parquet file", "put them there, or check file: in bank.yaml")
    schemas, added = {}, {}
    for path, names in folders.items():
        with place.fs.open(path, "rb") as handle:
            schemas[path] = pq.read_schema(handle).remove_metadata()
        added[path] = {k: v for k, v in partitions(names).items() if k not in schemas[path].names}
    first = next(iter(folders))
    for path in folders:
        have, other = ({*schemas[p].names, *added[p]} for p in (path, first))
        for name in sorted(have ^ other):
            has, lacks = (path, first) if name in have else (first, path)
            lacks, has = (named(folders[p], p.rpartition("/")[2]) for p in (lacks, has))
            refuse(table, f"{lacks} has no column '{name}', which {has} has", ALIKE)
    schema = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    whole = pa.schema([*schema, *(pa.field(name, pa.string()) for name in added[first])])

    def rows() -> Any:
        def batches() -> Iterator[Any]:
            for path in folders:
                with place.fs.open(path, "rb") as handle:
                    for batch in pq.ParquetFile(handle).iter_batches():
                        part = pa.Table.from_batches([batch]).select(schema.names).cast(schema)
                        for name in added[first]:
                            value = pa.repeat(pa.scalar(added[path][name], pa.string()), len(part))
                            part = part.append_column(name, value)
                        yield from part.cast(whole).to_batches()

        return pa.RecordBatchReader.from_batches(whole, batches())

    said = f"{len(folders)} file{'s' if len(folders) > 1 else ''}"
    return State(before, said, whole, rows, mark)
