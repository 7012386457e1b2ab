"""Opening a bank: broken input is refused with one clear report, and what was loaded before stays as it was."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pytest

from crmresearch.data import contract, places, store
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.contract import ContractError
from crmresearch.errors import InputError, Missing


@pytest.fixture
def own(tmp_path, monkeypatch, example):
    """A copy of the example bank in a folder of its own, with a cache of its own, loaded once."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "own"
    shutil.copytree(example, folder)
    open_bank(folder)
    return folder


def change(folder, name, edit):
    path = folder / name
    path.write_text(edit(path.read_text("utf-8")), "utf-8")


def columns(folder, name, **edits):
    """Change columns of a CSV file: a function of the column, or None to drop it."""
    sep = ";" if name == "customers.csv" else ","
    frame = pd.read_csv(folder / name, sep=sep, dtype=str, keep_default_na=False)
    for column, edit in edits.items():
        frame = frame.drop(columns=column) if edit is None else frame.assign(**{column: edit(frame[column].copy())})
    frame.to_csv(folder / name, sep=sep, index=False)


def put(row, value):
    def edit(column):
        column.iloc[row - 1] = value
        return column

    return edit


def truncated_gzip(folder):
    packed = gzip.compress((folder / "monthly.csv").read_bytes() * 20)
    (folder / "monthly.csv.gz").write_bytes(packed[: len(packed) // 2])
    change(folder, "bank.yaml", lambda t: t.replace("monthly: monthly.csv", "monthly: monthly.csv.gz"))


def repeat_a_row(folder):
    change(folder, "monthly.csv", lambda t: t + t.splitlines()[7] + "\n")


def wrong_encoding(folder):
    text = (folder / "customers.csv").read_text("utf-8").replace("branch", "Zürich")
    (folder / "customers.csv").write_bytes(text.encode("latin-1"))


def wrong_encoding_further_down(folder):
    path = folder / "monthly.csv"
    path.write_bytes(path.read_bytes() + "Zürich,2022-01-01,1,1,1,1,1\n".encode("latin-1"))


def no_permission(folder):
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (folder / "monthly.csv").chmod(0)


BROKEN = {
    "missing column": (
        lambda f: columns(f, "monthly.csv", balance=None),
        r"monthly.balance: column balance is missing from monthly.csv",
    ),
    "wrong type": (
        lambda f: columns(f, "monthly.csv", balance=put(3, "a lot")),
        r"monthly.balance: balance must be an amount of money.*\(1 row: 3\)",
    ),
    "duplicate key": (repeat_a_row, r"monthly.customer_id: customer_id \+ month must be unique \(1 row: 1004\)"),
    "orphan key": (
        lambda f: columns(f, "monthly.csv", customer_id=put(5, "C999")),
        r"monthly.customer_id: customer_id must occur in customers.customer_id \(1 row: 5\)",
    ),
    "future date": (
        lambda f: columns(f, "monthly.csv", month=put(9, "2024-01-01")),
        r"monthly.month: month must not be after the observation end \(1 row: 9\)",
    ),
    "exit before entry": (
        lambda f: columns(f, "customers.csv", closed=put(5, "01.01.2001")),
        r"customers.left_on: left_on must not be before acquired_on \(1 row: 5\)",
    ),
    "non-finite money": (
        lambda f: columns(f, "monthly.csv", fees=put(2, "inf")),
        r"monthly.fees: fees must be an amount of money: finite.*\(1 row: 2\)",
    ),
    "wrong encoding": (wrong_encoding, r"customers: customers.csv is not utf-8 text"),
    "wrong encoding further down": (
        wrong_encoding_further_down,
        r"monthly: monthly.csv is not utf-8 text. Try: declare encoding: cp1252",
    ),
    "empty file": (lambda f: (f / "survey.csv").write_text(""), r"survey: survey.csv is empty"),
    "header without rows": (
        lambda f: change(f, "survey.csv", lambda t: t.splitlines()[0] + "\n"),
        r"survey: survey.csv is empty below its header",
    ),
    "unknown recoding": (
        lambda f: columns(f, "customers.csv", reason=put(5, "Q")),
        r"customers.exit_cause: exit_cause holds values without a recoding \(1 row: 5\)",
    ),
    "recoding to an unknown value": (
        lambda f: change(f, "bank.yaml", lambda t: t.replace("W: voluntary", "W: voluntry")),
        r"recode to 'voluntry', which the contract does not know; did you mean 'voluntary'",
    ),
    "truncated gzip": (truncated_gzip, r"monthly: monthly.csv.gz is a damaged or incomplete gzip file"),
    "no permission": (no_permission, r"monthly: monthly.csv may not be read"),
    "ragged row": (
        lambda f: change(f, "monthly.csv", lambda t: t.replace("\n", "\n1,2\n", 1)),
        r"monthly: a row has another number of columns than the header near line 2 of monthly.csv",
    ),
    "missing file": (lambda f: (f / "survey.csv").unlink(), r"survey: survey.csv does not exist"),
    "unknown item": (
        lambda f: change(f, "bank.yaml", lambda t: t.replace("loy2]", "loy3]")),
        r"survey.loy3: item of construct loyalty is no column; did you mean 'loy[12]'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_input_is_one_clear_error_and_the_cache_stays(own, what):
    banks = places.cache_dir() / "banks"
    before = {p.name: p.read_bytes() for p in banks.glob("*.duckdb")}
    breaks, message = BROKEN[what]
    breaks(own)
    with pytest.raises(ContractError, match=message) as error:
        open_bank(own)
    assert "1 problem:" in str(error.value)
    assert {p.name: p.read_bytes() for p in banks.glob("*.duckdb")} == before
    assert sorted(p.name for p in banks.iterdir() if p.is_dir()) == []  # no temporary folder is left behind


def test_problems_of_all_files_are_in_one_report(own):
    columns(own, "customers.csv", closed=put(5, "01.01.2001"))
    columns(own, "monthly.csv", balance=put(3, "a lot"))
    (own / "survey.csv").write_text("")
    with pytest.raises(ContractError, match="3 problems") as error:
        open_bank(own)
    assert [p.table for p in error.value.problems] == ["customers", "monthly", "survey"]
    assert "a lot" not in str(error.value)
    assert "01.01.2001" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("currency: EUR", "curency: EUR", "unknown key 'curency': did you mean 'currency'"),
        ("currency: EUR\n", "", "lack currency"),
        (
            "  monthly: monthly.csv",
            "  montly: monthly.csv",
            "no table 'montly' in the contract: did you mean 'monthly'",
        ),
        ('    sep: ";"', '    seps: ";"', "unknown key 'seps' of table customers: did you mean 'sep'"),
        ("evidence: simulated", "evidence: real", "evidence 'real' of bank 'example'"),
        ("observation_end: 2023-12-31", "observation_end: soon", "observation_end must be a date"),
        ("observation_end: 2023-12-31", "observation_end: 2023-13-31", "impossible value: month must be in 1..12"),
        ("observation_end: 2023-12-31", "observation_end: 2021-12-31", "observation_end lies before observation_start"),
        ("[satisfaction, loyalty]]", "[satisfaction, loyality]]", "names 'loyality': did you mean 'loyalty'"),
        ("acquired_on: since", "acquired_on: sinse", "customers.csv has no column 'sinse'; did you mean 'since'"),
        ("birth_year: born", "birth_yaer: born", "did you mean 'birth_year'"),
        ("tables:", "tables: [", "not valid YAML"),
        ('    sep: ";"\n', "", "customers.csv has one column only"),
    ],
)
def test_a_wrong_description_is_refused_with_the_nearest_name(own, old, new, message):
    change(own, "bank.yaml", lambda t: t.replace(old, new))
    with pytest.raises(InputError, match=message):
        open_bank(own)


def test_unknown_names_say_what_is_near(own, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_BANKS", str(own))
    assert open_bank("example").about.name == "example"
    with pytest.raises(InputError, match="did you mean 'example'"):
        open_bank("exampel")
    with pytest.raises(InputError, match="crmresearch bank get berka"):
        open_bank("berka")
    with pytest.raises(InputError, match=r"holds no bank\.yaml"):
        open_bank(own.parent)


# --- one load, reused -------------------------------------------------------------------------------------------------


def test_a_load_is_reused_while_the_sources_are_the_same(own, monkeypatch):
    loads = []
    load = store.load
    monkeypatch.setattr(store, "load", lambda *a, **k: loads.append(1) or load(*a, **k))
    open_bank(own)
    assert not loads
    os.utime(own / "monthly.csv")  # touched, content the same
    open_bank(own)
    assert not loads
    columns(own, "monthly.csv", fees=put(1, "9.99"))
    assert open_bank(own).frame("SELECT fees FROM monthly LIMIT 1")["fees"].tolist() == [9.99]
    assert len(loads) == 1
    assert len(list((places.cache_dir() / "banks").glob("*.duckdb"))) == 1  # the outdated load is gone


def test_a_rewrite_that_keeps_size_and_time_is_still_seen(own):
    path = own / "monthly.csv"
    stat = path.stat()
    text = path.read_text("utf-8")
    path.write_text(text.replace("6.0", "7.0"), "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fees = open_bank(own).frame("SELECT max(fees) AS top FROM monthly")
    assert fees["top"].tolist() == [7.0]


def test_what_decides_a_load_is_code_and_declarations(monkeypatch, tmp_path):
    """A rule changed in tables.yaml is a reason to load anew."""
    monkeypatch.setattr(store, "__file__", str(tmp_path / "store.py"))
    (tmp_path / "tables.yaml").write_text("customers: {}")
    before = store._code.__wrapped__()
    (tmp_path / "tables.yaml").write_text("customers: {row: customer}")
    assert store._code.__wrapped__() != before


def test_an_interrupted_load_leaves_the_old_database(own, monkeypatch):
    banks = places.cache_dir() / "banks"
    before = {p.name: p.read_bytes() for p in banks.glob("*.duckdb")}
    columns(own, "monthly.csv", fees=put(1, "9.99"))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(contract, "check_sql", interrupt)  # the tables are written by then, the rename is still to come
        with pytest.raises(KeyboardInterrupt):
            open_bank(own)
    assert {p.name: p.read_bytes() for p in banks.glob("*.duckdb")} == before
    assert open_bank(own).frame("SELECT fees FROM monthly LIMIT 1")["fees"].tolist() == [9.99]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_load_leaves_the_old_database_and_is_cleaned_up(own):
    banks = places.cache_dir() / "banks"
    before = {p.name: p.read_bytes() for p in banks.glob("*.duckdb")}
    columns(own, "monthly.csv", fees=put(1, "9.99"))
    code = (
        "import os, signal, sys\n"
        "from crmresearch.data import bank, contract\n"
        "contract.check_sql = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        "bank.open_bank(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(own)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert {p.name: p.read_bytes() for p in banks.glob("*.duckdb")} == before
    assert [p for p in banks.iterdir() if p.is_dir()]
    assert open_bank(own).frame("SELECT fees FROM monthly LIMIT 1")["fees"].tolist() == [9.99]
    assert not [p for p in banks.iterdir() if p.is_dir()]


def test_two_processes_may_load_at_once(own):
    for path in (places.cache_dir() / "banks").glob("*.duckdb"):
        path.unlink()
    code = "import sys; from crmresearch.data.bank import open_bank; print(open_bank(sys.argv[1]).rows('monthly'))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(own)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["1003", "1003"]
    assert len(list((places.cache_dir() / "banks").glob("*.duckdb"))) == 1


def test_a_bank_is_opened_read_only_and_in_utc(own, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_THREADS", "1")
    monkeypatch.setenv("CRMRESEARCH_MEMORY", "500MB")
    bank = open_bank(own)
    with pytest.raises(duckdb.Error, match="read-only"):
        bank.engine.run("DELETE FROM monthly")
    [settings] = bank.engine.run(
        "SELECT current_setting('TimeZone'), current_setting('threads'), current_setting('preserve_insertion_order')"
    )
    assert settings == ("UTC", 1, True)


def test_two_folders_with_one_bank_name_do_not_push_each_other_out(own, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(own, other)
    open_bank(other)
    assert len(list((places.cache_dir() / "banks").glob("*.duckdb"))) == 2


# --- every kind of file gives the same bank ---------------------------------------------------------------------------


def content(bank):
    return {t: bank.frame(bank.table(t)) for t in bank.tables}


def as_gzip(folder):
    (folder / "monthly.csv.gz").write_bytes(gzip.compress((folder / "monthly.csv").read_bytes()))
    return "monthly: monthly.csv.gz"


def as_parquet(folder):
    pd.read_csv(folder / "monthly.csv", parse_dates=["month"]).to_parquet(folder / "monthly.parquet")
    return "monthly: monthly.parquet"


def as_duckdb(folder):
    with duckdb.connect(str(folder / "core.duckdb")) as con:
        con.execute(f"CREATE TABLE balances AS FROM read_csv('{folder / 'monthly.csv'}')")
    return "monthly: {file: core.duckdb, table: balances}"


def as_sqlite(folder):
    with sqlite3.connect(folder / "core.sqlite") as con:
        pd.read_csv(folder / "monthly.csv").to_sql("balances", con, index=False)
    return "monthly: {file: core.sqlite, table: balances}"


def as_latin1(folder):
    return "monthly: {file: monthly.csv, encoding: latin-1}"


def as_gb18030(folder):
    return "monthly: {file: monthly.csv, encoding: gb18030}"


def as_utf16(folder):
    (folder / "wide.csv").write_text((folder / "monthly.csv").read_text("utf-8"), "utf-16")
    return "monthly: {file: wide.csv, encoding: utf-16}"


@pytest.mark.parametrize("store", [as_gzip, as_parquet, as_duckdb, as_sqlite, as_latin1, as_gb18030, as_utf16])
def test_every_kind_of_file_gives_the_same_bank(own, store):
    expected = content(open_bank(own))
    line = store(own)
    change(own, "bank.yaml", lambda t: t.replace("monthly: monthly.csv", line))
    found = content(open_bank(own))
    assert set(found) == set(expected)
    for table, frame in expected.items():
        pd.testing.assert_frame_equal(found[table], frame)


def test_chinese_text_in_its_own_encoding(own):
    text = (own / "customers.csv").read_text("utf-8").replace("branch", "网点")
    (own / "customers.csv").write_text(text, "gb18030")
    change(own, "bank.yaml", lambda t: t.replace('sep: ";"', 'sep: ";"\n    encoding: gb18030'))
    bank = open_bank(own)
    assert "网点" in bank.frame(bank.table("customers"))["acquisition_channel"].tolist()
    change(own, "bank.yaml", lambda t: t.replace("encoding: gb18030", "encoding: shift_jis"))
    with pytest.raises(ContractError, match=r"customers: customers\.csv is not shift_jis text"):
        open_bank(own)
    change(own, "bank.yaml", lambda t: t.replace("encoding: shift_jis", "encoding: klingon"))
    with pytest.raises(ContractError, match="there is no encoding 'klingon'"):
        open_bank(own)


def test_files_and_frames_give_the_same_bank(own):
    loaded = open_bank(own)
    again = Bank.from_frames(content(loaded), loaded.about)
    for table in loaded.tables:
        pd.testing.assert_frame_equal(again.frame(again.table(table)), loaded.frame(loaded.table(table)))


# --- the bank itself --------------------------------------------------------------------------------------------------


def test_require_names_what_is_missing(own):
    bank = open_bank(own)
    assert bank.require("customers", "monthly.fees", "survey.sat1") is None
    missing = bank.require("customers", "contacts", "customers.manager_id")
    assert isinstance(missing, Missing)
    assert missing.tables == ("customers", "contacts")
    assert "brings no table contacts" in missing.reason
    assert "brings no column manager_id" in missing.reason
    with pytest.raises(InputError, match="did you mean 'contacts'"):
        bank.require("contact")
    with pytest.raises(InputError, match="brings no table contacts"):
        bank.table("contacts")


def test_money_is_exact_in_the_engine_and_double_at_the_edge(own):
    bank = open_bank(own)
    types = {c[0]: c[1] for c in bank.engine.run("DESCRIBE monthly")}
    assert types["balance"] == "DECIMAL(18,2)"
    t = bank.table("monthly")
    frame = bank.frame(t.group_by("customer_id").aggregate(total=t.fees.sum()).order_by("customer_id"))
    fees = pd.read_csv(own / "monthly.csv").groupby("customer_id")["fees"].sum()
    assert frame["total"].dtype == np.float64
    # the file's doubles are summed in binary here, so they may differ in the last places
    np.testing.assert_allclose(frame["total"], fees, rtol=1e-12)


def test_frame_returns_numpy_types(own):
    bank = open_bank(own)
    frame = bank.frame(bank.table("customers"))
    assert frame["acquired_on"].dtype == "datetime64[ns]"
    assert frame["left_on"].dtype == "datetime64[ns]"
    assert frame["birth_year"].dtype == np.int64
    survey = bank.frame(bank.table("survey"))
    assert survey["responded"].dtype == bool
    assert survey["sat1"].dtype == np.float64  # missing where nobody answered
    assert all(isinstance(t, np.dtype) for f in (frame, survey) for t in f.dtypes)


def test_describe_counts_and_never_shows_a_person(own):
    result = open_bank(own).describe()
    rows = result.table.set_index("table")
    assert rows.loc["customers", "rows"] == 48
    assert rows.loc["monthly", "n"] == 48
    assert rows.loc["monthly", "last date"] == "2023-12-01"
    assert "C001" not in repr(result)
    assert "Not brought: holdings" in result.sentence


def test_source_line_is_short_and_states_the_evidence(own):
    line = open_bank(own).source_line
    assert line == "An invented bank of 48 customers, 2022-01 to 2023-12 (simulated); money in EUR"


def test_opening_a_bank_loads_no_statistics():
    code = (
        "import sys, crmresearch.data.bank\n"
        "heavy = 'scipy statsmodels lifelines matplotlib ibis duckdb pyarrow yaml'.split()\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- the simulated bank, through the same door ------------------------------------------------------------------------


def test_in_memory_and_written_simulated_banks_agree(tmp_path, monkeypatch):
    from crmresearch.lab import simulated

    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    settings = simulated.Settings(customers=300, months=12, seed=5)
    simulated.write(settings, tmp_path / "bank")
    written, direct = open_bank(tmp_path / "bank"), simulated.bank(settings)
    assert written.tables == direct.tables
    frames = {table: direct.frame(direct.table(table)) for table in direct.tables}
    direct = Bank.from_frames(frames, direct.about)  # checked as well: without those who do not consent
    for table in written.tables:
        pd.testing.assert_frame_equal(written.frame(written.table(table)), direct.frame(direct.table(table)))
    assert written.about.constructs == direct.about.constructs
