"""Other engines give the numbers of DuckDB, in every frame and in every line of the ledger (`make test-engines`).

Not among the tests of `make test`: minutes, and engines of their own.
"""

from __future__ import annotations

import adbc_driver_postgresql.dbapi as driver
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import poor_banks
from crmresearch.data import pseudonyms
from crmresearch.data.bank import open_bank
from crmresearch.lab import simulated
from crmresearch.run import understood
from test_engines import reductions

CUSTOMERS = {"postgres": 2_000, "spark": 500}  # hundreds of queries, each of which costs Spark most of a second
STUDIES = ("00", "01", "02", "03")


@pytest.fixture(scope="module", autouse=True)
def _keyed(identifiers_as_they_came):
    """Open as users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "key", identifiers_as_they_came)
        yield


@pytest.fixture(scope="class")
def engine(request):
    """The name of another engine."""
    return request.cls.ENGINE


@pytest.fixture(scope="class")
def folder(engine, tmp_path_factory):
    """A simulated bank, as files."""
    out = tmp_path_factory.mktemp("near") / "bank"
    return simulated.write(simulated.Settings(customers=CUSTOMERS[engine], months=60, seed=1), out)


@pytest.fixture(scope="class")
def near(folder):
    """The bank, loaded."""
    return open_bank(folder)


def postgres(folder, request):
    """Bring the bank to a PostgreSQL server; returns its address, and the name of each table there."""
    address = request.getfixturevalue("server")
    with driver.connect(address, autocommit=True) as connection, connection.cursor() as cursor:
        tables = sorted(folder.glob("*.parquet"))
        for path in tables:
            cursor.adbc_ingest(path.stem, pq.read_table(path))
        cursor.execute("ANALYZE")
    return address, {path.stem: path.stem for path in tables}


def spark(folder, request):
    """Let a Spark Connect server read the bank's files, as tables of a catalog."""
    from pyspark.sql.connect.session import SparkSession

    address = request.getfixturevalue("spark_server")
    apart = SparkSession.builder.remote(address).create()
    apart.sql("CREATE SCHEMA far")
    for path in folder.glob("*.parquet"):
        apart.sql(f"CREATE TABLE far.{path.stem} USING parquet LOCATION '{path}'")
    apart.stop()
    return address, {path.stem: f"spark_catalog.far.{path.stem}" for path in folder.glob("*.parquet")}


ENGINES = {"postgres": postgres, "spark": spark}


@pytest.fixture(scope="class")
def where(engine, request, folder, tmp_path_factory):
    """Describe the bank where another engine has its tables; the folder with its ``bank.yaml``."""
    address, tables = ENGINES[engine](folder, request)
    content = yaml.safe_load((folder / "bank.yaml").read_text("utf-8"))
    content |= {"engine": engine, "connect": "OWN_BANK", "tables": {t: tables[t] for t in content["tables"]}}
    out = tmp_path_factory.mktemp(engine)
    (out / "bank.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OWN_BANK", address)
        yield out


@pytest.fixture(scope="class")
def far(where):
    """The bank, where it is."""
    found = open_bank(where)
    yield found
    found.engine.close()


def same(one, other):
    """Compare what two reductions returned, numbers to 1e-9."""
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-9)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        same(list(one.values()), list(other.values()))
    elif isinstance(one, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == (pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(one, float) else other)


class Same:
    """What another engine has to give as well; a class each, so that engines run side by side."""

    ENGINE: str

    def test_a_bank_that_stays_holds_what_a_loaded_one_does(self, near, far, folder, where):
        assert (far.tables, far.rules()) == (near.tables, near.rules())
        for name in near.tables:
            assert (far.rows(name), far.columns(name)) == (near.rows(name), near.columns(name))
            one, other = (b.frame(b.table(name)) for b in (near, far))
            columns = list(one.columns)
            same(*(f.sort_values(columns, ignore_index=True) for f in (one, other)))
        lines = [understood.report(bank, str(path))[0] for bank, path in ((near, folder), (far, where))]
        assert lines[0][-1] == lines[1][-1]

    def test_every_reduction_gives_the_same_frame(self, near, far):
        different, seen = {}, 0
        for (name, here), (_, there) in zip(reductions(near), reductions(far), strict=True):
            seen += 1
            try:
                same(here(), there())
            except AssertionError as error:
                different[name] = str(error)
        assert different == {}
        assert seen >= 50


class TestPostgres(Same):
    ENGINE = "postgres"

    def test_every_line_of_the_ledger_is_the_same(self, near, far, tmp_path):
        """In this process, without pictures; `tests/test_elsewhere.py` has a bank that stays in kernels.

        Spark's ledger passes as well (500 customers), and takes minutes more than a check has.
        """
        ledgers = []
        for k, bank in enumerate((near, far)):
            rows = poor_banks.run(bank, tmp_path / str(k), [p for p in poor_banks.NOTEBOOKS if p.stem[:2] in STUDIES])
            ledgers.append(rows.drop(columns="data_fingerprint"))
        assert ledgers[0]["estimate"].notna().sum() > 20
        same(*ledgers)


class TestSpark(Same):
    ENGINE = "spark"
