"""A bank exported to an Excel book, a server or Chinese CSV files has the same rows; on the server, the same ledger."""

from __future__ import annotations

import csv

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import poor_banks
from crmresearch.data.bank import open_bank
from crmresearch.data.tables import TABLES
from crmresearch.lab import simulated

CHINESE = {"customer_id": "客户号", "amount": "金额", "balance": "余额", "responded": "是否回应"}


def tables_of(folder):
    """Read the tables of a written bank; text as text."""
    described = yaml.safe_load((folder / "bank.yaml").read_text("utf-8"))
    for name in described["tables"]:
        table = pq.read_table(folder / f"{name}.parquet")
        fields = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema]
        yield name, table.cast(pa.schema(fields))


def to_excel(folder, out, ingest):
    book = openpyxl.Workbook(write_only=True)
    for name, table in tables_of(folder):
        sheet = book.create_sheet(name)
        sheet.append(table.column_names)
        for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
            sheet.append(row)
        yield name, {"file": "bank.xlsx", "sheet": name}
    book.save(out / "bank.xlsx")


def to_postgres(folder, out, ingest):
    for name, table in tables_of(folder):
        ingest(name, table)
        yield name, {"database": "OWN_BANK", "table": name}


def to_chinese(folder, out, ingest):
    for name, table in tables_of(folder):
        flags = [c.name for c in TABLES[name].columns if c.kind == "flag" and c.name in table.column_names]
        names = {} if TABLES[name].open else {k: v for k, v in CHINESE.items() if k in table.column_names}
        with (out / f"{name}.csv").open("w", encoding="gbk", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([names.get(c, c) for c in table.column_names])
            for row in zip(*(c.to_pylist() for c in table.columns), strict=True):
                writer.writerow({True: "是", False: "否"}.get(v, v) if isinstance(v, bool) else v for v in row)
        spec = {"file": f"{name}.csv", "encoding": "gbk", "recode": {f: {"是": "true", "否": "false"} for f in flags}}
        yield name, spec | ({"columns": names} if names else {})


def export(folder, out, to, ingest=None):
    """Write a bank in another form, with its description."""
    out.mkdir()
    described = yaml.safe_load((folder / "bank.yaml").read_text("utf-8"))
    described["tables"] = dict(to(folder, out, ingest))
    (out / "bank.yaml").write_text(yaml.safe_dump(described, allow_unicode=True, sort_keys=False), "utf-8")
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "bank"
    simulated.write(simulated.Settings(customers=150, months=24, seed=1), folder)
    return folder


@pytest.mark.parametrize("to", [to_excel, to_postgres, to_chinese])
def test_an_export_holds_the_same_rows(written, tmp_path, database, to):
    ours, theirs = open_bank(written), open_bank(export(written, tmp_path / "export", to, database.ingest))
    assert theirs.tables == ours.tables
    for table in ours.tables:
        assert theirs.columns(table) == ours.columns(table)
        order = ", ".join(f'"{c}"' for c in ours.columns(table))
        one, other = (b.frame(f"SELECT * FROM {table} ORDER BY {order}") for b in (ours, theirs))
        pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-14)  # Excel keeps 15 digits


def test_an_export_gives_the_same_ledger(written, tmp_path, database):
    """Rows in another order and of other kinds must not move a resample: three notebooks, every line."""
    notebooks = [p for p in poor_banks.NOTEBOOKS if p.stem[:2] in ("00", "01", "04")]
    there = export(written, tmp_path / "there", to_postgres, database.ingest)
    own, other = (
        poor_banks.run(open_bank(folder), tmp_path / name, notebooks).drop(columns="data_fingerprint")
        for name, folder in (("own", written), ("other", there))
    )
    assert own["estimate"].notna().sum() >= 5
    pd.testing.assert_frame_equal(own, other, rtol=1e-9)
