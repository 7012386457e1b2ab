"""Banks in databases: DuckDB and SQLite files by query, and tables of a real PostgreSQL server."""

from __future__ import annotations

import builtins
import contextlib
import datetime
import sqlite3
import tomllib
from pathlib import Path

import duckdb
import pytest

import test_reading
from crmresearch.data.bank import PINNED, open_bank
from crmresearch.data.sources import servers
from crmresearch.errors import InputError
from crmresearch.run import batch
from test_reading import column

bank = test_reading.bank
ACCOUNTS = "SELECT 1 AS nr, DATE '2020-05-13' AS since, 'x' AS kind UNION ALL SELECT 2, DATE '2020-06-01', 'y'"
DAYS = [datetime.datetime(2020, 5, 13), datetime.datetime(2020, 6, 1)]


def file_of(kind, folder, *statements):
    """Write a database file."""
    file = folder / f"c.{kind}"
    file.unlink(missing_ok=True)
    with contextlib.closing((duckdb if kind == "duckdb" else sqlite3).connect(str(file))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return file.name


# --- files, by query --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT nr AS customer_id, since AS acquired_on FROM a WHERE kind = 'x'", ["1"]),
        (
            "WITH b AS (SELECT * FROM a) SELECT nr AS customer_id, since AS acquired_on FROM b ORDER BY nr DESC;",
            ["2", "1"],
        ),
        (
            "SELECT a.nr AS customer_id, max(a.since) AS acquired_on FROM a JOIN a AS o USING (nr) GROUP BY 1 -- all",
            ["1", "2"],
        ),
    ],
)
def test_a_query_of_a_file_is_a_table(bank, kind, query, expected):
    text = ACCOUNTS.replace("DATE ", "") if kind == "sqlite" else ACCOUNTS
    file = file_of(kind, bank.folder, f"CREATE TABLE a AS {text}", "CREATE TABLE o AS SELECT 1 AS one")
    found = bank(f'customers: {{file: {file}, query: "{query}"}}')
    assert sorted(column(found, "customers", "customer_id")) == sorted(expected)
    assert column(found, "customers", "acquired_on")[0] in DAYS


def test_a_query_and_tables_of_one_file_are_read_together(bank):
    file = file_of("duckdb", bank.folder, f"CREATE TABLE a AS {ACCOUNTS}")
    query = "SELECT nr AS customer_id, since AS occurred_on, 1.25 AS amount FROM a"
    found = bank(
        f"customers: {{file: {file}, table: a, columns: {{customer_id: nr, acquired_on: since}}}}\n"
        f"  transactions: {{file: {file}, query: '{query}'}}\n"
        f"  snapshot: {{file: {file}, table: main.a, columns: {{customer_id: nr}}}}"
    )
    assert [found.rows(t) for t in found.tables] == [2, 2, 2]
    assert column(found, "transactions", "amount") == [1.25, 1.25]


NOT_ONE = "its query must be one SELECT statement. Try: query: SELECT"
REFUSED = {
    "DELETE FROM a": NOT_ONE,
    "SELECT 1 AS nr; DROP TABLE a": NOT_ONE,
    "WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d": NOT_ONE,
    "SELECT * INTO b FROM a": NOT_ONE,
    "PRAGMA database_list": NOT_ONE,
    "SELECT nr, 'a FROM a": "its query cannot be read. Try: close what is quoted",
    "SELECT nr FROM a WHERE since < current_date": "its query asks the clock or chance. Try: write the day into it",
    "SELECT nr FROM a WHERE since < now()": "its query asks the clock or chance",
    "SELECT nr, random() AS r FROM a": "its query asks the clock or chance",
}


@pytest.mark.parametrize("kind", ["duckdb", "sqlite", "postgres"])
@pytest.mark.parametrize("query", REFUSED)
def test_a_query_only_reads_and_reads_the_same_tomorrow(bank, kind, query):
    where = (
        "database: NOT_ASKED"
        if kind == "postgres"
        else f"file: {file_of(kind, bank.folder, 'CREATE TABLE a (nr INT)')}"
    )
    with pytest.raises(InputError) as error:
        bank(f'customers: {{{where}, query: "{query}"}}')
    assert REFUSED[query] in str(error.value)


@pytest.mark.parametrize(
    ("kind", "query", "words"),
    [
        ("duckdb", "SELECT nope FROM a", 'Referenced column "nope" not found'),
        (
            "duckdb",
            "SELECT CAST(kind AS INT) AS customer_id, since AS acquired_on FROM a",
            "a value cannot be computed",
        ),
        ("duckdb", "SELECT * FROM 'other.csv'", 'Cannot access file "other.csv"'),
        ("sqlite", "SELECT nope FROM a", "no such column: nope"),
        ("sqlite", "SELECT nr FROM b", "no such table: b"),
        ("sqlite", "SELECT load_extension(nr) AS customer_id FROM a", "not authorized"),
        ("sqlite", "SELECT json_extract(kind, '$.x') AS customer_id FROM a", "malformed JSON"),
        ("sqlite", "SELECT abs(-9223372036854775808) AS customer_id FROM a", "integer overflow"),
        ("sqlite", "SELECT FROM a", "syntax error"),
    ],
)
def test_a_query_that_fails_is_one_line_without_a_value(bank, kind, query, words):
    (bank.folder / "other.csv").write_text("customer_id\nsecret\n")
    text = ACCOUNTS.replace("DATE ", "").replace("'x'", "'secret'")
    file = file_of(kind, bank.folder, f"CREATE TABLE a AS {text}")
    with pytest.raises(InputError) as error:
        bank(f'customers: {{file: {file}, query: "{query}"}}')
    assert f"its query cannot be run on {file}: " in str(error.value)
    assert words in str(error.value)
    assert str(error.value).endswith("Try: correct query: in bank.yaml")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{file: c.csv, query: SELECT 1}",
            "query: goes with a DuckDB or SQLite file, or with database:, not with c.csv",
        ),
        ("{file: c.duckdb}", "c.duckdb is a database; say which table (table: …). Try: table: NAME, or query: SELECT"),
        ("{file: c.duckdb, table: b}", "c.duckdb holds no table 'b'"),
        ("{file: c.duckdb, table: a, query: SELECT 1}", "has both table: and query:"),
        ("{file: c.csv, database: X, table: a}", "has both file: and database:"),
        ("{database: X}", "names a database: only. Try: table: NAME, or query: SELECT"),
        ("{query: SELECT 1}", "table customers needs a file"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(bank, line, message):
    file_of("duckdb", bank.folder, f"CREATE TABLE a AS {ACCOUNTS}")
    with pytest.raises(InputError) as error:
        bank(f"customers: {line}", c__csv=test_reading.CUSTOMERS)
    assert message in str(error.value)


# --- a server ---------------------------------------------------------------------------------------------------------


CUSTOMERS = "CREATE TABLE customers (customer_id numeric(10,0), acquired_on date, left_on date)"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("numeric(12,2)", "1234.50", 1234.5),
        ("numeric", "0.1 + 0.2", 0.3),
        ("numeric(18,3)", "1.250", 1.25),  # a server's numbers never read in two ways
        ("real", "0.1", 0.1),
        ("double precision", "1e6", 1e6),
        ("money", "12.5", 12.5),
        ("bigint", "42", 42),
        ("text", "'42.10'", 42.1),
    ],
)
def test_an_amount_is_exact_whatever_its_type_on_the_server(bank, database, kind, value, expected):
    database(f"CREATE TABLE t (customer_id int, occurred_on date, amount {kind})")
    database(f"INSERT INTO t VALUES (10042, '2020-05-13', ({value})::{kind})")
    found = bank("transactions: {database: OWN_BANK, table: t}")
    assert column(found, "transactions", "amount") == [expected]
    assert column(found, "transactions", "customer_id") == ["10042"]


def test_columns_of_every_kind_arrive(bank, database):
    key = "974efeeb-d7e4-4fc6-9427-d7479e8f39e2"
    database(
        "CREATE TABLE t (customer_id uuid, sampled boolean, responded boolean, wave_on timestamp, score numeric, "
        "answer int, code char(5), more jsonb, spare int[])",
        f"INSERT INTO t VALUES ('{key}', true, false, '2020-05-13 23:59', 7.25, 3, 'ab', '{{}}', '{{1,2}}')",
        f"INSERT INTO t VALUES ('{key[:-1]}3', true, false)",
    )
    found = bank("survey: {database: OWN_BANK, table: t}")
    assert column(found, "survey", "customer_id")[0] == key
    assert column(found, "survey", "responded") == [False, False]
    assert column(found, "survey", "wave_on") == [DAYS[0], None]
    assert column(found, "survey", "score") == [7.25, None]
    assert column(found, "survey", "answer") == [3, None]
    assert column(found, "survey", "code") == ["ab", None]


@pytest.mark.parametrize(("zone", "day"), [("Asia/Shanghai", 14), ("UTC", 13), ("America/New_York", 13)])
def test_days_of_times_with_a_zone_are_declared(bank, database, zone, day):
    database("CREATE TABLE t (customer_id text, acquired_on timestamptz)")
    database("INSERT INTO t VALUES ('a', '2020-05-13 22:00+00')")
    with pytest.raises(InputError, match="timezone"):
        bank("customers: {database: OWN_BANK, table: t}")
    found = bank(f"customers: {{database: OWN_BANK, table: t, timezone: {zone}}}")
    assert column(found, "customers", "acquired_on") == [datetime.datetime(2020, 5, day)]


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO {} VALUES (3, '2020-07-01')",
        "UPDATE {} SET left_on = '2021-01-01'",
        "DELETE FROM {} WHERE customer_id = 1",
    ],
)
@pytest.mark.parametrize("how", ["table: customers", "query: SELECT * FROM customers"])
def test_what_changes_on_the_server_is_loaded_anew_and_nothing_else(bank, database, how, change):
    database(CUSTOMERS, "INSERT INTO customers VALUES (1, '2020-05-13'), (2, '2020-06-01')")
    first = bank(f"customers: {{database: OWN_BANK, {how}}}")
    database("CREATE TABLE other (a int)", "UPDATE customers SET left_on = NULL")
    again = open_bank(bank.folder)
    assert (again.engine.path, again.engine.fingerprint()) == (first.engine.path, first.engine.fingerprint())
    database(change.format("customers"))
    after = open_bank(bank.folder)
    assert after.engine.fingerprint() != first.engine.fingerprint()
    told = "SELECT count(*) AS n, count(left_on) AS gone FROM customers"
    assert after.frame(told).to_dict("records") != first.frame(told).to_dict("records")


def test_all_tables_are_read_as_of_one_moment(bank, database, monkeypatch):
    database(CUSTOMERS, "CREATE TABLE transactions (customer_id numeric, occurred_on date, amount numeric)")
    database("INSERT INTO customers VALUES (1, '2020-05-13')", "INSERT INTO transactions VALUES (1, '2020-06-01', 5)")
    digest = servers.Server.digest

    def meanwhile(self):
        database(
            "INSERT INTO customers VALUES (2, '2020-05-13')", "INSERT INTO transactions VALUES (2, '2020-06-01', 5)"
        )
        return digest(self)

    monkeypatch.setattr(servers.Server, "digest", meanwhile)
    lines = [f"{t}: {{database: OWN_BANK, table: {t}}}" for t in ("customers", "transactions")]
    found = bank("\n  ".join(lines))
    assert (found.rows("customers"), found.rows("transactions")) == (1, 1)
    monkeypatch.setattr(servers.Server, "digest", digest)
    assert open_bank(bank.folder).rows("customers") == 2


def test_a_run_holds_on_to_what_it_loaded_first(bank, database, monkeypatch):
    database(CUSTOMERS, "INSERT INTO customers VALUES (1, '2020-05-13')")
    bank("customers: {database: OWN_BANK, table: customers}")
    monkeypatch.setenv(PINNED, str(batch.load(str(bank.folder)).engine.path))
    database("INSERT INTO customers VALUES (2, '2020-06-01')")
    assert open_bank("own").rows("customers") == 1
    assert open_bank(bank.folder).rows("customers") == 2


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("table: customer", "its server holds no table 'customer'. Try: did you mean 'customers'?"),
        (
            "query: SELECT nope FROM customers",
            'it cannot be read from its server: column "nope" does not exist. Try: correct',
        ),
        ("query: SELECT * FROM a b c", "syntax error at or near"),
        (
            "query: SELECT note::int AS customer_id FROM customers",
            "a value cannot be computed (SQLSTATE 22P02). Try: correct",
        ),
        ("query: SELECT nextval('n') AS customer_id", "cannot be read from its server"),
    ],
)
def test_what_the_server_refuses_is_one_line_without_a_value(bank, database, how, words):
    database(CUSTOMERS, "ALTER TABLE customers ADD note text", "CREATE SEQUENCE n")
    database("INSERT INTO customers VALUES (1, '2020-05-13', NULL, 'secret')")
    with pytest.raises(InputError) as error:
        bank(f'customers: {{database: OWN_BANK, {how.partition(": ")[0]}: "{how.partition(": ")[2]}"}}')
    assert words in str(error.value)
    assert str(error.value).count("\n") == 1
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "held", "message"),
    [
        ("OWN_BANK", None, "the environment variable OWN_BANK is not set. Try: export OWN_BANK=postgresql://"),
        (
            "postgresql://u:hidden@localhost/x",
            None,
            "database: holds a password. Try: put the address into an environment",
        ),
        ("'postgresql://localhost/x?password=hidden'", None, "database: holds a password"),
        ("OWN_BANK", "mysql://u:hidden@localhost/x", "database: is no address of a PostgreSQL server"),
        ("OWN_BANK", "postgresql://u:hidden@localhost:1/x", "its server cannot be reached. Try: check host and port"),
        ("OWN_BANK", "{}hidden?{}", "its server has no such database"),
        ("OWN_BANK", "{}postgres?{}&user=hidden", "its server refuses the sign-in"),
    ],
)
def test_an_address_is_never_told(bank, server, monkeypatch, said, held, message):
    monkeypatch.delenv("OWN_BANK", raising=False)
    if held:
        monkeypatch.setenv("OWN_BANK", held.format(*server.split("postgres?")))
    with pytest.raises(InputError) as error:
        bank(f"customers: {{database: {said}, table: customers}}")
    assert message in str(error.value)
    assert "hidden" not in str(error.value)


def test_no_loaded_file_holds_the_address(bank, database, server):
    database(CUSTOMERS, "INSERT INTO customers VALUES (1, '2020-05-13')")
    bank("customers: {database: OWN_BANK, table: customers}")
    host = server.partition("host=")[2].encode()
    files = [p for p in (bank.folder / "cache").rglob("*") if p.is_file()]
    assert any(p.suffix == ".duckdb" for p in files)
    assert not any(host in p.read_bytes() for p in files)


def test_without_the_driver_its_package_is_named(bank, monkeypatch):
    imported = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("adbc"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError) as error:
        bank("customers: {database: OWN_BANK, table: customers}")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    [extra] = project["optional-dependencies"]["postgres"]
    assert f"Try: python -m pip install {extra.partition('>')[0]}" in str(error.value)
