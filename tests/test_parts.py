"""Parquet files of a table in parts, on this machine and on object storage."""

from __future__ import annotations

import datetime
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import test_reading
from crmresearch.data.bank import open_bank
from crmresearch.data.sources import lake
from crmresearch.errors import InputError
from test_reading import column

bank = test_reading.bank
MONTHS = [datetime.date(2020, k, 1) for k in (2, 3) for _ in range(3)]
MONTHLY = pa.table({"customer_id": ["c1", "c2", "c3"] * 2, "month": MONTHS, "balance": [1.5, 2.25, 3, 4, 5, 6]})
CUSTOMERS = pa.table({"customer_id": ["c1", "c2"], "acquired_on": MONTHS[2:4]})


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec", reason="the extra `storage`, which `make test` installs")
    fs = fsspec.filesystem("memory")
    fs.rm("/", recursive=True)
    yield fs
    fs.rm("/", recursive=True)


@pytest.fixture(params=["here", "object storage"])
def placed(request, tmp_path):
    """Put a folder where it is to be read from; return what it, or something in it, is called there."""

    def put(name):
        if request.param == "here":
            return name
        folder, fs = name.partition("/")[0], request.getfixturevalue("memory")
        if not fs.exists(f"/lake/{folder}"):
            fs.put(str(tmp_path / folder), f"/lake/{folder}", recursive=True)
        return f"memory://lake/{name}"

    return put


def refused(bank, spec, said, **files):
    with pytest.raises(InputError) as error:
        bank(f"customers: {spec}", **files)
    lines = [line for line in str(error.value).splitlines() if line.startswith("  - ")]
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"month=2020-01/p": MONTHLY, "month=2020-02/p": MONTHLY.rename_columns(["customer_id", "month", "saldo"])},
            "month=2020-02/p.parquet has no column 'balance', which month=2020-01/p.parquet has. Try: give the parts",
        ),
        (
            {"month=2020-01/p": MONTHLY.drop_columns("month"), "p": MONTHLY.drop_columns("month")},
            "p.parquet has no column 'month', which month=2020-01/p.parquet has",
        ),
        (
            {"city=Bern/p": MONTHLY, "city=Bonn/p": MONTHLY.drop_columns("balance")},
            "city=…/p.parquet has no column 'balance', which city=…/p.parquet has",
        ),
        ({"month=2020-01/old/p": MONTHLY}, "old is a folder within a folder, and is not read"),
        ({"_tmp/p": MONTHLY}, "holds no "),
    ],
)
def test_parts_that_do_not_make_a_table_are_told_by_their_place(bank, placed, parts, said):
    for name, table in parts.items():
        path = bank.folder / "m" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    refused(bank, placed("m"), said)


def test_a_column_may_stand_in_file_and_folder_and_types_may_differ(bank, placed):
    whole = pa.table({"customer_id": ["c1", "c2"], "month": MONTHS[2:4], "balance": [1, 2]})
    other = whole.slice(1).cast(whole.schema.set(2, pa.field("balance", "double")))
    for k, one in enumerate((whole.slice(0, 1), other)):
        path = bank.folder / "m" / f"month={MONTHS[2 + k]}" / "region=N" / "p.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(one, path)
    (bank.folder / "m" / "_SUCCESS").write_text("")
    line = "monthly: {file: '%s', columns: {region: region}}"
    found = bank(line % placed("m"))
    assert column(found, "monthly", "balance") == [1, 2]
    assert column(found, "monthly", "region") == ["N", "N"]
    one = f"m/month={MONTHS[2]}"
    found = bank(line % placed(one))
    assert column(found, "monthly", "month") == [pd.Timestamp(MONTHS[2])]
    assert bank(line % placed(f"{one}/region=N/p.parquet")).rows("monthly") == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://lake/none", "memory://lake/none does not exist. Try: check file: in bank.yaml, and the credentials"),
        ("memory://lake/t", "x.csv is no Parquet file. Try: copy it beside bank.yaml, or write Parquet there"),
        ("nowhere://lake/c", "cannot be read (Protocol not known: nowhere). Try: check the address"),
        ("s3://user:hidden@lake/c", "file: is no address that is read. Try: file: s3://bucket/folder, without"),
        ("https://lake/c?sig=hidden", "file: is no address that is read"),
        ("simplecache::file:///c.parquet", "file: is no address that is read"),
        ("memory://lake/c::file:///c.parquet", "file: is no address that is read"),
        ("file:///elsewhere/c.parquet", "lies outside the folder of bank.yaml"),
        ("[memory://lake/t, memory://lake/u]", "has several addresses. Try: name one"),
    ],
)
def test_an_address_that_is_not_read_is_told(bank, memory, name, said):
    memory.pipe("/lake/t/x.csv", b"a,b\n")
    with pytest.raises(InputError) as error:
        bank(f"customers: {name if name[0] == '[' else repr(name)}")
    assert said in str(error.value)
    assert "hidden" not in str(error.value)


def test_storage_needs_an_extra(bank, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    refused(bank, "s3://lake/c", 'is on object storage. Try: pip install "crmresearch[storage]"')


def test_files_that_change_while_they_are_read_are_refused(bank, memory, monkeypatch):
    memory.pipe("/lake/c/p.parquet", parquet(CUSTOMERS.slice(0, 1)))
    plain = lake.State

    def changing(mark, said, schema, rows, again=None):
        def meanwhile():
            found = rows()
            memory.pipe("/lake/c/q.parquet", parquet(CUSTOMERS.slice(1)))
            return found

        return plain(mark, said, schema, meanwhile, again)

    monkeypatch.setattr(lake, "State", changing)
    refused(bank, "memory://lake/c", "c changed while it was read. Try: load it again")
    monkeypatch.setattr(lake, "State", plain)
    assert open_bank(bank.folder).rows("customers") == 2


def parquet(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()
