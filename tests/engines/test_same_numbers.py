"""Other engines give the numbers of DuckDB, in every frame and in every line of the ledger (`make test-engines`).

Not among the tests of `make test`: minutes, and engines of their own.
"""

from __future__ import annotations

import shutil

import adbc_driver_postgresql.dbapi as driver
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from crmresearch.data import pseudonyms
from crmresearch.data.bank import open_bank
from crmresearch.lab import simulated
from crmresearch.run import batch, understood
from test_engines import reductions

CUSTOMERS = {"postgres": 2_000, "spark": 500}  # hundreds of queries, each of which costs Spark most of a second
APART = {name: pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in CUSTOMERS}  # a process each
STUDIES = ("00", "01", "02", "03")


@pytest.fixture(scope="module", autouse=True)
def _keyed(identifiers_as_they_came):
    """Open as users do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "key", identifiers_as_they_came)
        yield


@pytest.fixture(scope="module", params=APART.values())
def engine(request):
    """The name of another engine."""
    return request.param


@pytest.fixture(scope="module")
def folder(engine, tmp_path_factory):
    """A simulated bank, as files."""
    out = tmp_path_factory.mktemp("near") / "bank"
    return simulated.write(simulated.Settings(customers=CUSTOMERS[engine], months=60, seed=1), out)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def test_a_bank_that_stays_holds_what_a_loaded_one_does(near, far, folder, where):
    assert (far.tables, far.rules()) == (near.tables, near.rules())
    for name in near.tables:
        assert (far.rows(name), far.columns(name)) == (near.rows(name), near.columns(name))
        one, other = (b.frame(b.table(name)) for b in (near, far))
        columns = list(one.columns)
        same(*(f.sort_values(columns, ignore_index=True) for f in (one, other)))
    lines = [understood.report(bank, str(path))[0] for bank, path in ((near, folder), (far, where))]
    assert lines[0][-1] == lines[1][-1]


def test_every_reduction_gives_the_same_frame(near, far):
    different, seen = {}, 0
    for (name, here), (_, there) in zip(reductions(near), reductions(far), strict=True):
        seen += 1
        try:
            same(here(), there())
        except AssertionError as error:
            different[name] = str(error)
    assert different == {}
    assert seen >= 50


@pytest.mark.parametrize("engine", [APART["postgres"]], indirect=True)  # Spark would take longer than a check may
def test_every_line_of_the_ledger_is_the_same(far, folder, where, tmp_path):
    ledgers = []
    for path in (folder, where):
        outcome = batch.run(str(path), studies=STUDIES, out=tmp_path / f"of-{len(ledgers)}", site=False)
        assert {one["status"] for one in outcome.status["notebooks"].values()} == {"completed"}, outcome.status
        ledgers.append(pd.read_csv(outcome.folder / "ledger.csv").drop(columns="data_fingerprint"))
        shutil.rmtree(outcome.folder)
    assert len(ledgers[0]) > 20
    same(*ledgers)
