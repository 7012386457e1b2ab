"""Tables of a lake: the same bank as files, as Delta and Iceberg tables of several states, and on object storage."""

from __future__ import annotations

import base64
import builtins
import datetime
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import test_parts
import test_reading
from crmresearch.data.bank import open_bank
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources import lake
from crmresearch.errors import InputError
from test_parts import MONTHLY, refused
from test_reading import column

pytest.importorskip("deltalake", reason="the extra `lake`, which `make test` installs")
pytest.importorskip("pyiceberg", reason="the extra `lake`, which `make test` installs")

from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

bank, memory = test_reading.bank, test_parts.memory
DAYS = [datetime.date(2020, 1, 5), datetime.date(2020, 1, 9), datetime.date(2020, 2, 3)]
CUSTOMERS = pa.table({"nr": ["c1", "c2", "c3"], "since": DAYS, "town": ["A/B", "北京", None], "why": ["K", "K", "W"]})
GONE = pa.array([None, None, datetime.date(2020, 9, 1)], pa.date32())
CUSTOMERS = CUSTOMERS.append_column("until", GONE)
KEYS = (
    "columns: {customer_id: nr, acquired_on: since, city_id: town, left_on: until, exit_cause: why}, "
    "recode: {exit_cause: {K: null, W: voluntary}}"
)
WRONG = CUSTOMERS.set_column(0, "nr", pa.array(["x1", "x2", "x3"]))


def hive(folder, table, by):
    """Write a table as Parquet files in partitions, as most writers do."""
    pq.write_to_dataset(table, folder, partition_cols=[by])


def delta(folder, table, wrong=None, by=None):
    """Write a Delta table of several states, the last of which holds the rows."""
    wrong = table if wrong is None else wrong
    write_deltalake(folder, wrong, partition_by=by)
    write_deltalake(folder, wrong, mode="append")
    write_deltalake(folder, table, mode="overwrite")
    write_deltalake(folder, table.slice(0, 1).set_column(0, table.column_names[0], pa.array(["away"])), mode="append")
    DeltaTable(folder).delete(f"{table.column_names[0]} = 'away'")


@pytest.fixture
def iceberg(tmp_path):
    """Write an Iceberg table of several snapshots, the last of which holds the rows; return its folder and itself."""
    catalog = InMemoryCatalog("own", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("n")

    def write(name, table, wrong=None, **properties):
        found = catalog.create_table(f"n.{name}", schema=table.schema, properties=properties)
        found.append(table if wrong is None else wrong)
        found.overwrite(table)
        found.append(table.slice(0, 1).set_column(0, table.column_names[0], pa.array(["away"])))
        found.delete(f"{table.column_names[0]} = 'away'")
        return tmp_path / "warehouse" / "n" / name, found

    return write


def frames(found):
    return [found.frame(f"SELECT * FROM {t} ORDER BY ALL") for t in ("customers", "monthly")]


def spelled(folder, memory, iceberg, form):
    """Write the bank in a form; return what its tables are called."""
    if form == "partitions":
        hive(folder / "c", CUSTOMERS, "town")
        hive(folder / "m", MONTHLY, "month")
    elif form == "delta":
        delta(folder / "c", CUSTOMERS, WRONG, ["town"])
        delta(folder / "m", MONTHLY, by=["month"])
    elif form == "delta, named otherwise":
        delta(folder / "客 户", CUSTOMERS, WRONG)
        delta(folder / "m", MONTHLY)
        return "客 户", "m"
    elif form == "object storage":
        for name, table, by in (("c", CUSTOMERS, "town"), ("m", MONTHLY, "month")):
            hive(folder / "sent" / name, table, by)
            memory.put(str(folder / "sent" / name), f"/lake/{name}", recursive=True)
        return "memory://lake/c", "memory://lake/m/"
    else:
        there, _ = iceberg("c", CUSTOMERS, WRONG)
        iceberg("m", MONTHLY)
        if form == "iceberg, moved":
            return shutil.move(there.parent, folder / "moved") and ("moved/c", "moved/m")
        if form == "iceberg on object storage":
            memory.put(str(there.parent), "/lake/n", recursive=True)
            return "memory://lake/n/c", "memory://lake/n/m"
        return f"file://{there}", "warehouse/n/m"
    return "c", "m"


@pytest.mark.parametrize(
    "form",
    [
        *("partitions", "delta", "delta, named otherwise", "object storage"),
        *("iceberg", "iceberg, moved", "iceberg on object storage"),
    ],
)
def test_a_bank_is_the_same_in_every_form(bank, memory, iceberg, form):
    pq.write_table(CUSTOMERS, bank.folder / "c.parquet")
    pq.write_table(MONTHLY, bank.folder / "m.parquet")
    line = "customers: {file: '%s', " + KEYS + "}\n  monthly: {file: '%s'}"
    plain = frames(bank(line % ("c.parquet", "m.parquet")))
    found = bank(line % spelled(bank.folder, memory, iceberg, form))
    for one, other in zip(plain, frames(found), strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert [len(frame) for frame in plain] == [3, 6]


def once(monkeypatch):
    """Count what is read of tables."""
    read, plain = [], lake.State

    def counted(mark, said, schema, rows, again=None):
        return plain(mark, said, schema, lambda: read.append(said) or rows(), again)

    monkeypatch.setattr(lake, "State", counted)
    return read


LINE = "customers: {file: '%s', " + KEYS + "}"
LATER = CUSTOMERS.slice(0, 1).set_column(0, "nr", pa.array(["c4"]))


@pytest.mark.parametrize("form", ["delta", "iceberg", "object storage"])
def test_what_has_not_changed_is_not_read_again_and_what_has_is(bank, memory, iceberg, monkeypatch, form):
    read = once(monkeypatch)
    name, _ = spelled(bank.folder, memory, iceberg, form)
    first = bank(LINE % name)
    assert (len(read), first.rows("customers")) == (1, 3)
    if form == "iceberg":  # its metadata change, its rows do not
        table = lake_of(iceberg, bank.folder)
        table.transaction().set_properties(owner="us").commit_transaction()
    again = open_bank(bank.folder)
    assert (len(read), again.engine.path) == (1, first.engine.path)
    if form == "delta":
        write_deltalake(bank.folder / name, LATER, mode="append")
    elif form == "iceberg":
        lake_of(iceberg, bank.folder).append(LATER)
    else:
        with memory.open("/lake/c/town=Bern/p.parquet", "wb") as handle:
            pq.write_table(LATER.drop_columns("town"), handle)
    after = open_bank(bank.folder)
    assert (len(read), after.rows("customers")) == (2, 4)
    assert after.engine.fingerprint() != first.engine.fingerprint()


def test_another_table_of_the_same_version_is_another_table(bank):
    write_deltalake(bank.folder / "c", WRONG)
    first = bank(LINE % "c")
    shutil.rmtree(bank.folder / "c")
    write_deltalake(bank.folder / "c", CUSTOMERS)
    assert open_bank(bank.folder).engine.fingerprint() != first.engine.fingerprint()


def test_rows_come_in_one_order(bank):
    for k in range(4):  # so many that threads, where there were several, would differ
        write_deltalake(bank.folder / "c", pa.table({"nr": range(60_000 * k, 60_000 * (k + 1))}), mode="append")
    orders = []
    for _ in range(3):
        engine = DuckDB()
        found = lake.relation("customers", lake.here(bank.folder / "c"), {})
        found.makes[0](engine)
        orders.append(engine.run(f"SELECT nr FROM {found.name}"))
    assert len(orders[0]) == 240_000
    assert orders[0] == orders[1] == orders[2]


def lake_of(iceberg, folder):
    """Return the table that the fixture made last under the name c."""
    return iceberg.__closure__[0].cell_contents.load_table("n.c")


# --- the state that is asked for --------------------------------------------------------------------------------------


def dated(folder, days):
    """Write the days of its states into the log of a Delta table."""
    for path, day in zip(sorted((folder / "_delta_log").glob("*.json")), days, strict=False):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for one in lines:
            if "commitInfo" in one:
                one["commitInfo"]["timestamp"] = int(pd.Timestamp(day, tz="UTC").timestamp() * 1000)
        path.write_text("\n".join(map(json.dumps, lines)), "utf-8")


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ("0", ["x1", "x2", "x3"]),
        ("1", ["c1", "c2", "c3"]),
        ("2", ["c1", "c2", "c3", "c4"]),
        ("2023-12-31", ["x1", "x2", "x3"]),
        ("2024-01-31", ["c1", "c2", "c3"]),
        ("2024-01-31 11:59", ["x1", "x2", "x3"]),
        ("2024-01-31T14:30:00+03:00", ["x1", "x2", "x3"]),
        ("2029-01-01", ["c1", "c2", "c3", "c4"]),
    ],
)
def test_a_table_is_read_as_of_a_version_or_a_day(bank, asked, ids):
    write_deltalake(bank.folder / "c", WRONG)
    write_deltalake(bank.folder / "c", CUSTOMERS, mode="overwrite")
    write_deltalake(bank.folder / "c", LATER, mode="append")
    dated(bank.folder / "c", ["2023-12-01", "2024-01-31 12:00", "2024-03-01"])
    found = bank(f"snapshot: {{file: c, as_of: {asked}, columns: {{customer_id: nr, was: nr}}}}")
    assert sorted(column(found, "snapshot", "was")) == ids


def test_a_table_is_read_as_of_a_snapshot(bank, iceberg):
    _, table = iceberg("c", CUSTOMERS, WRONG)
    first = table.snapshots()[0]
    line = "snapshot: {file: warehouse/n/c, as_of: %s, columns: {customer_id: nr, was: nr}}"
    assert sorted(column(bank(line % first.snapshot_id), "snapshot", "was")) == ["x1", "x2", "x3"]
    then = datetime.datetime.fromtimestamp(first.timestamp_ms / 1000, datetime.UTC).isoformat()
    assert sorted(column(bank(line % then), "snapshot", "was")) == ["x1", "x2", "x3"]
    assert sorted(column(bank(line % "2999-01-01"), "snapshot", "was")) == ["c1", "c2", "c3"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("7", "c has no version 7. Try: the last it has: 2, 3, 4"),
        ("1999-12-31", "c has no state as old as as_of: says. Try: the oldest it has: 20"),
        ("yesterday", "as_of: is neither a version nor a day. Try: as_of: 12, or as_of: 2023-12-31"),
    ],
)
@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_a_state_that_is_not_there_is_told(bank, iceberg, form, asked, said):
    if form == "delta":
        delta(bank.folder / "c", CUSTOMERS)
    else:
        iceberg("c", CUSTOMERS)
        said = said.replace("2, 3, 4", "")
    refused(bank, f"{{file: {'c' if form == 'delta' else 'warehouse/n/c'}, as_of: {asked}}}", said)


# --- features ---------------------------------------------------------------------------------------------------------


def commit(folder, *actions):
    """Write the next state of a Delta table by hand."""
    log = folder / "_delta_log"
    log.mkdir(exist_ok=True, parents=True)
    name = f"{len(list(log.glob('*.json'))):020}.json"
    (log / name).write_text("\n".join(map(json.dumps, actions)), "utf-8")


def protocol(*features):
    versions = {"minReaderVersion": 3, "minWriterVersion": 7}
    return {"protocol": {**versions, "readerFeatures": [*features], "writerFeatures": [*features]}}


def added(folder):
    """Return what the log of a Delta table says of its one file."""
    [line] = [x for x in (folder / "_delta_log" / f"{0:020}.json").read_text().splitlines() if x.startswith('{"add"')]
    return json.loads(line)["add"]


def test_rows_that_a_deletion_vector_marks_are_left_out(bank):
    from pyroaring import BitMap64

    folder = bank.folder / "c"
    write_deltalake(folder, CUSTOMERS)
    raw = (1681511377).to_bytes(4, "little") + BitMap64([1]).serialize()
    ours = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    theirs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    text = base64.b85encode(raw + bytes(-len(raw) % 4)).decode().translate(str.maketrans(ours, theirs))
    vector = {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(raw), "cardinality": 1}
    add = added(folder)
    remove = {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}
    commit(folder, protocol("deletionVectors"), {"remove": remove}, {"add": add | {"deletionVector": vector}})
    found = bank("snapshot: {file: c, columns: {customer_id: nr, was: nr}}")
    assert column(found, "snapshot", "was") == ["c1", "c3"]


def test_columns_that_bear_other_names_in_the_files_are_read_by_theirs(bank):
    folder = bank.folder / "c"
    kinds = {"nr": "string", "since": "date"}
    fields = [
        {"name": name, "type": kind, "nullable": True}
        | {"metadata": {"delta.columnMapping.id": k, "delta.columnMapping.physicalName": f"col-{k}"}}
        for k, (name, kind) in enumerate(kinds.items(), 1)
    ]
    facts = {"id": "00000000-0000-4000-8000-000000000000", "format": {"provider": "parquet", "options": {}}}
    facts |= {"schemaString": json.dumps({"type": "struct", "fields": fields}), "partitionColumns": []}
    facts |= {"configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"}}
    folder.mkdir()
    pq.write_table(pa.table({"col-2": DAYS, "col-1": ["c1", "c2", "c3"]}), folder / "p.parquet")
    size = (folder / "p.parquet").stat().st_size
    add = {"path": "p.parquet", "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": True}
    commit(folder, protocol("columnMapping"), {"metaData": facts}, {"add": add})
    found = bank("customers: {file: c, columns: {customer_id: nr, acquired_on: since}}")
    assert column(found, "customers", "acquired_on") == [pd.Timestamp(day) for day in DAYS]


def test_a_table_whose_states_are_summed_up_is_read_and_times_without_a_zone_are_as_they_stand(bank):
    noon = [datetime.datetime(2020, 1, day, 12) for day in (5, 9)]
    folder = bank.folder / "c"
    write_deltalake(folder, pa.table({"customer_id": ["c1", "c2"], "acquired_on": noon}))
    first = folder / "_delta_log" / f"{0:020}.json"
    facts = [line for line in map(json.loads, first.read_text("utf-8").splitlines()) if {*line} & {"metaData", "add"}]
    features = protocol("timestampNtz", "v2Checkpoint")
    summed = [{"checkpointMetadata": {"version": 0}}, features, *facts]
    name = f"{0:020}.checkpoint.00000000-0000-4000-8000-000000000000.json"
    (first.parent / name).write_text("\n".join(map(json.dumps, summed)), "utf-8")
    (first.parent / "_last_checkpoint").write_text(json.dumps({"version": 0, "size": len(summed)}), "utf-8")
    first.unlink()
    found = bank("customers: c")
    assert column(found, "customers", "acquired_on") == [pd.Timestamp(day.date()) for day in noon]


def test_a_table_on_object_storage_is_read_by_its_address(bank, monkeypatch):
    from fsspec.implementations.dirfs import DirFileSystem

    bucket = bank.folder / "bucket"
    delta(bucket / "c", CUSTOMERS, WRONG, ["town"])
    words = [sys.executable, str(Path(__file__).with_name("stored.py")), str(bank.folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            told = {"ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}", "ALLOW_HTTP": "true"}
            told |= {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "REGION": "us-east-1"}
            for name, value in told.items():
                monkeypatch.setenv(f"AWS_{name}", value)
            place = lake.Place("c", "c", "s3://bucket/c", DirFileSystem(str(bucket)))
            for asked, ids in (({}, ["c1", "c2", "c3"]), ({"as_of": "0"}, ["x1", "x2", "x3"])):
                engine, found = DuckDB(), lake.relation("customers", place, asked)
                found.makes[0](engine)
                assert engine.run(f"SELECT nr FROM {found.name} ORDER BY 1") == [(one,) for one in ids]
        finally:
            server.terminate()


@pytest.mark.parametrize("feature", ["typeWidening", "vacuumProtocolCheck", "catalog-managed", "notYetThere"])
def test_a_feature_that_is_not_known_is_refused(bank, feature):
    write_deltalake(bank.folder / "c", CUSTOMERS)
    commit(bank.folder / "c", protocol(feature.replace("-m", "M")))
    refused(bank, "c", feature)


@pytest.mark.parametrize("where", ["/elsewhere/p.parquet", "../o/p.parquet", "file:///elsewhere/p.parquet"])
def test_files_outside_the_folder_of_a_table_are_not_read(bank, where):
    write_deltalake(bank.folder / "c", CUSTOMERS)
    commit(bank.folder / "c", {"add": added(bank.folder / "c") | {"path": where}})
    refused(bank, "c", "c has files outside its folder (1 of 2). Try: write it anew as a table of its own")


def deleting(folder, table, content, frame, **more):
    """Add a file that deletes rows to an Iceberg table."""
    path = folder / "data" / "deletes.parquet"
    pq.write_table(frame, path)
    file = DataFile.from_args(
        content=content, file_path=f"file://{path}", file_format=FileFormat.PARQUET, partition=Record(),
        record_count=len(frame), file_size_in_bytes=path.stat().st_size, **more,
    )  # fmt: skip
    file.spec_id = 0
    with table.transaction() as change, change.update_snapshot().fast_append() as snapshot:
        snapshot.append_data_file(file)


def ids(table, **numbers):
    """Return a table whose columns bear the ids that Iceberg knows them by."""
    fields = [f.with_metadata({"PARQUET:field_id": str(numbers[f.name])}).with_nullable(False) for f in table.schema]
    return table.cast(pa.schema(fields))


def test_rows_that_an_iceberg_table_deletes_by_place_are_left_out(bank, iceberg):
    folder, table = iceberg("c", CUSTOMERS)
    [data] = [task.file.file_path for task in table.scan().plan_files()]
    rows = ids(pa.table({"file_path": [data], "pos": [1]}), file_path=2147483546, pos=2147483545)
    deleting(folder, table, DataFileContent.POSITION_DELETES, rows)
    found = bank("snapshot: {file: warehouse/n/c, columns: {customer_id: nr, was: nr}}")
    assert column(found, "snapshot", "was") == ["c1", "c3"]


def test_rows_that_an_iceberg_table_deletes_by_value_are_refused(bank, iceberg):
    folder, table = iceberg("c", CUSTOMERS)
    rows = ids(pa.table({"nr": ["c2"]}), nr=1)
    deleting(folder, table, DataFileContent.EQUALITY_DELETES, rows, equality_ids=[1])
    said = "c is an Iceberg table with equality deletes, which are not read. Try: have them written into the data"
    refused(bank, "warehouse/n/c", said)


def test_a_column_that_was_renamed_and_one_that_was_added_are_read_from_older_files(bank, iceberg):
    from pyiceberg.types import StringType

    _, table = iceberg("c", CUSTOMERS)
    with table.update_schema() as change:
        change.rename_column("nr", "client")
        change.add_column("tariff", StringType())
    table.append(LATER.rename_columns(["client", *LATER.column_names[1:]]).append_column("tariff", pa.array(["T"])))
    found = bank("snapshot: {file: warehouse/n/c, columns: {customer_id: client, was: client, tariff: tariff}}")
    told = dict(zip(column(found, "snapshot", "was"), column(found, "snapshot", "tariff"), strict=True))
    assert told == {"c1": None, "c2": None, "c3": None, "c4": "T"}


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_without_the_readers_the_extra_is_named(bank, iceberg, monkeypatch, form):
    name, _ = spelled(bank.folder, None, iceberg, form)
    imported = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.partition(".")[0] in ("deltalake", "pyiceberg"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    refused(bank, f"'{name}'", "c is a" + ("" if form == "delta" else "n"))
    with pytest.raises(InputError, match=r'Try: pip install "crmresearch\[lake\]"'):
        open_bank(bank.folder)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"deltalake", "pyiceberg"} == {e.partition(">")[0] for e in project["optional-dependencies"]["lake"]}


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_a_file_of_a_table_that_is_not_there_is_told(bank, iceberg, form):
    name, _ = spelled(bank.folder, None, iceberg, form)
    for path in (bank.folder / name.removeprefix("file://")).rglob("*.parquet"):
        path.unlink()
    kind = "Delta version" if form == "delta" else "Iceberg snapshot"
    refused(bank, f"{{file: '{name}', {KEYS}}}", f"the rows of c ({kind}")


@pytest.mark.parametrize("form", ["delta", "iceberg"])
def test_a_file_of_a_table_is_not_a_table(bank, iceberg, form):
    name, _ = spelled(bank.folder, None, iceberg, form)
    folder = bank.folder / name.removeprefix("file://")
    file = min(folder.rglob("*.parquet"))
    said = f"is part of a table ({form.title()}), not all of whose files count. Try: name the folder of the table"
    for one in (file, file.parent, [file, file], [folder, folder]):
        told = ", ".join(f"'{p}'" for p in (one if isinstance(one, list) else [one]))
        if one != folder:
            refused(bank, f"[{told}]", said)


def test_a_table_of_another_kind_is_told(bank):
    (bank.folder / "c" / ".hoodie").mkdir(parents=True)
    (bank.folder / "c" / ".hoodie" / "hoodie.properties").write_text("")
    refused(bank, "c", "c is a Hudi table, and is not read. Try: write it as Parquet, Delta or Iceberg")


def test_metadata_that_are_damaged_are_told(bank, iceberg):
    (bank.folder / "c" / "_delta_log").mkdir(parents=True)
    (bank.folder / "c" / "_delta_log" / f"{0:020}.json").write_text("{")
    refused(bank, "c", "c cannot be read (")
    folder, _ = iceberg("c", CUSTOMERS)
    newest = max((folder / "metadata").glob("*.metadata.json"))
    kept = newest.read_text("utf-8")
    newest.write_text("{", "utf-8")
    refused(bank, "warehouse/n/c", "c cannot be read (")
    newest.write_text(kept, "utf-8")
    other = newest.with_name(newest.name.replace("-", "-0", 1))
    other.write_text(kept, "utf-8")
    refused(bank, "warehouse/n/c", "c has 2 newest metadata files. Try: write the name of the one that its catalog")
    newest.with_name("version-hint.text").write_text(other.name, "utf-8")
    assert bank(LINE % "warehouse/n/c").rows("customers") == 3


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{file: c, sep: ;}", "sep: does not go with c. Try: take sep: out of bank.yaml"),
        ("{file: c, table: x}", "table: does not go with c"),
        ("{file: c.csv, as_of: 1}", "as_of: goes with a Delta or Iceberg table, not with c.csv"),
        ("{file: 'memory://lake/c', as_of: 1}", "as_of: goes with a Delta or Iceberg table, not with c"),
        ("{database: X, table: a, as_of: 1}", "as_of: goes with a file"),
    ],
)
def test_keys_that_do_not_go_with_a_table_are_refused(bank, memory, spec, said):
    delta(bank.folder / "c", CUSTOMERS)
    memory.pipe("/lake/c/x.parquet", b"")
    refused(bank, spec, said, c__csv=test_reading.CUSTOMERS)
