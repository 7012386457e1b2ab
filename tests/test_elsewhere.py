"""Banks whose tables stay on a server: what is seen, checked and refused there is as it is where they are loaded."""

from __future__ import annotations

import sys

import adbc_driver_postgresql.dbapi as driver
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from crmresearch.data import pseudonyms
from crmresearch.data.bank import PINNED, open_bank
from crmresearch.data.contract import ContractError
from crmresearch.data.reductions import base
from crmresearch.data.sources import spark
from crmresearch.errors import CrmError, InputError
from crmresearch.run import batch
from crmresearch.run.people import People
from crmresearch.run.progress import Progress

FACTS = "name: far\ncurrency: EUR\nevidence: simulated\nobservation_start: 2020-01-01\nobservation_end: 2021-12-31\n"
ENGINE = "engine: postgres\nconnect: OWN_BANK\n"


@pytest.fixture(autouse=True)
def _keyed(identifiers_as_they_came, monkeypatch, tmp_path):
    """Open as users do."""
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bank(tmp_path, database):
    """Describe tables of the server, and open them: where they are, or loaded from there."""
    banks = []

    def opened(tables, facts=FACTS, *, loaded=False):
        if loaded:
            tables = {name: {**spec, "database": "OWN_BANK"} for name, spec in tables.items()}
        text = facts + ("" if loaded else ENGINE) + yaml.safe_dump({"tables": tables}, sort_keys=False)
        (tmp_path / "bank.yaml").write_text(text, "utf-8")
        banks.append(open_bank(tmp_path))
        return banks[-1]

    yield opened
    for one in banks:
        one.engine.close()


def tables_of(*names):
    return {name: {"table": name} for name in names}


def frames(bank):
    """All tables of a bank, in an order of their own."""
    found = {name: bank.frame(bank.table(name)) for name in bank.tables}
    return {k: f.sort_values(list(f.columns), ignore_index=True) for k, f in found.items()}


def same(one, other):
    assert list(one) == list(other)
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name])


PEOPLE = (
    "CREATE TABLE clients (nr int, since timestamp, closed date, why text, ok boolean, "
    "born numeric, note text, by text)",
    """INSERT INTO clients VALUES (2, '2019-05-13 10:00', NULL, NULL, true, 1960, 'x', NULL),
       (10, '2020-02-01', '2021-03-01', 'K', true, 99, 'y', '2'), (1, '2020-02-01', '9999-12-31', 'x', false,
       1970, 'z', ' 2 '), (3, '2020-03-01', '2021-03-01', 'bank_initiated', true, NULL, '', '1')""",
    "CREATE TABLE pay (client bigint, at date, sum double precision, way text)",
    "INSERT INTO pay VALUES (2, '2020-06-01', 10.005, 'app'), (10, '2020-06-02', -3, ' '), (1, '2020-06-03', 1, 'app')",
    "CREATE TABLE survey (customer_id int, wave_on date, sat1 int, sat2 numeric(6,2), colour text)",
    "INSERT INTO survey VALUES (2, '2020-12-01', 98, 3.5, 'red'), (3, '2020-12-01', 7, 98, NULL)",
)
MAPPED = {
    "customers": {
        "table": "clients",
        "columns": {
            "customer_id": "nr", "acquired_on": "since", "left_on": "closed", "exit_cause": "why", "referrer_id": "by",
            "consent_analysis": "ok", "birth_year": "born",
        },
        "drop": ["note"],
        "recode": {"exit_cause": {"K": "voluntary", "x": None}, "consent_analysis": {"true": "yes", "false": "no"}},
        "missing": {"left_on": ["9999-12-31"], "birth_year": ["99"]},
    },
    "transactions": {
        "table": "pay",
        "columns": {"customer_id": "client", "occurred_on": "at", "amount": "sum", "channel": "way"},
        "constants": {"status": "booked"},
    },
    "survey": {"table": "survey", "constants": {"sampled": "true", "responded": "yes"}, "missing": ["98"]},
}  # fmt: skip


def test_a_bank_that_stays_is_seen_as_it_would_be_loaded(bank, database):
    database(*PEOPLE)
    near, far = bank(MAPPED, loaded=True), bank(MAPPED)
    same(frames(near), frames(far))
    assert len(frames(far)["customers"]) == 3  # one did not consent
    assert [far.rows(t) for t in far.tables] == [near.rows(t) for t in near.tables] == [3, 2, 2]
    assert {t: far.columns(t) for t in far.tables} == {t: near.columns(t) for t in near.tables}
    assert far.describe().sentence == near.describe().sentence
    assert far.made("customers") == near.made("customers")
    assert base.contract_breaches(far).equals(base.contract_breaches(near))
    people = (People.of(near), People.of(far))
    assert people[0].names == people[1].names
    assert len(people[0]) > 0


def test_what_is_kept_here_holds_no_identifier(bank, database, tmp_path):
    database(*(s.replace("(10,", "(7654321,").replace("'10'", "'7654321'") for s in PEOPLE))
    bank(MAPPED).engine.close()
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or b"7654321" not in path.read_bytes()


def test_a_kernel_opens_what_was_opened_before_it(bank, database, monkeypatch, tmp_path):
    database(*PEOPLE)
    far = bank(MAPPED)
    found = frames(far)
    monkeypatch.setenv(PINNED, str(far.engine.path))
    monkeypatch.setattr(pseudonyms, "key", lambda: pytest.fail("kernels know no key"))
    again = open_bank("far")
    same(frames(again), found)
    assert again.engine.fingerprint() == far.engine.fingerprint() != ""


BROKEN = (
    "CREATE TABLE customers (customer_id text, acquired_on date, observed_from date, left_on date, exit_cause text, "
    "referrer_id text, birth_year int, outside_estimate numeric, consent_analysis text)",
    """INSERT INTO customers VALUES
       ('a', '2020-05-13', '2020-05-13', NULL, NULL, 'a', 1960, -1, 'yes'),
       ('a', '2020-05-14', '2020-05-14', '2020-05-01', 'gone', 'c', 1, 1e17, 'yes'),
       ('b', NULL, '2020-05-13', '2021-05-01', NULL, NULL, NULL, NULL, 'perhaps'),
       ('c', '2021-06-01', '2021-05-01', '2023-01-01', 'death', 'd', 1970, 0, 'not recorded'),
       ('d', '2021-07-01', '2021-07-01', NULL, 'death', 'nobody', 1970, 0, NULL),
       (NULL, '2021-07-01', '2021-07-01', NULL, NULL, NULL, 1970, 0, 'no'),
       ('e', '2021-07-01', '2021-07-01', NULL, NULL, NULL, 1970, 0, 'no')""",
    "CREATE TABLE monthly (customer_id text, month date, balance double precision, fees numeric, lookups numeric)",
    """INSERT INTO monthly VALUES ('a', '2020-06-01', 'NaN', 1, 1.5), ('a', '2020-06-01', 1, NULL, 2),
       ('b', '2020-06-02', 2, 2, -1), ('x', '2022-01-01', 2, 2, NULL), ('c', '2020-01-01', 2, 2, 0),
       ('e', '2020-01-02', 2, NULL, 0)""",
    "CREATE TABLE prospects (prospect_id text, channel text, first_contact_on date, spend numeric, won text, "
    "customer_id text)",
    """INSERT INTO prospects VALUES ('p', 'branch', '2020-01-01', 5, 'nein', 'a'),
       ('q', NULL, '2020-01-01', -5, 'ja', 'a'),
       ('r', 'branch', '2020-01-01', 5, 'vielleicht', NULL)""",
    "CREATE TABLE survey (customer_id text, wave_on date, sampled boolean, responded boolean, sat1 int)",
    "INSERT INTO survey VALUES ('a', '2020-07-01', false, true, 1), ('a', '2020-07-01', true, true, 1)",
    "CREATE TABLE spells (customer_id text, entry_months int, exit_months int, event int)",
    "INSERT INTO spells VALUES ('a', 3, 3, 1), ('b', 0, 3, 2), ('c', -1, 3, 0)",
    "CREATE TABLE markets (city_id text, month date, tier int, own_share float8, rival_branches int)",
    "INSERT INTO markets VALUES ('x', '2020-01-01', 10, 1.5, -1), ('x', '2020-01-02', NULL, 0, 0)",
)


def test_a_broken_bank_breaks_the_same_rules_in_as_many_rows(bank, database):
    database(*BROKEN)
    tables = tables_of("customers", "monthly", "prospects", "survey", "spells", "markets")
    tables["prospects"]["recode"] = {"won": {"ja": "yes", "nein": "no"}}
    found = []
    for loaded in (True, False):
        with pytest.raises(ContractError) as error:
            bank(tables, FACTS + "constructs: {mood: [sat1, sat9]}\n", loaded=loaded)
        found.append([(p.table, p.column, p.rule, p.rows) for p in error.value.problems])
    assert sorted(found[1]) == sorted(found[0])
    assert len(found[0]) > 30
    assert "Row 1" not in str(error.value)  # rows have no numbers there


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("timestamptz", "now()", "customers.acquired_on: times with a zone, whose days depend on it. Try: cast them"),
        ("text", "'2020-05-13'", "customers.acquired_on: acquired_on must be a date .* Try: cast it: name a view"),
    ],
)
def test_a_column_of_another_type_is_refused_and_a_view_helps(bank, database, kind, value, words):
    database(f"CREATE TABLE t (customer_id text, acquired_on {kind})", f"INSERT INTO t VALUES ('a', {value})")
    with pytest.raises(ContractError, match=words):
        bank({"customers": {"table": "t"}})
    database("CREATE VIEW v AS SELECT customer_id, DATE '2020-05-13' AS acquired_on FROM t")
    assert bank({"customers": {"table": "v"}}).rows("customers") == 1


def test_direct_identifiers_are_refused_there_too(bank, database):
    database(
        "CREATE TABLE t (customer_id text, acquired_on date, city_id text, email text)",
        "INSERT INTO t SELECT 'c' || n, DATE '2020-05-13', 'anna.' || n || '@example.org', 'x' "
        "FROM generate_series(1, 60) n",
    )
    with pytest.raises(ContractError, match=r"customers.city_id: holds .*e-mail"):
        bank({"customers": {"table": "t"}})
    with pytest.raises(ContractError, match="a direct identifier"):
        bank({"customers": {"table": "t", "columns": {"branch_id": "email"}, "drop": ["city_id"]}})


@pytest.mark.parametrize(
    ("facts", "spec"),
    [
        ("exit_rule: {without: transactions, months: 3}\n", {}),
        ("segments: {tier: city_tier}\n", {}),
        ("", {"derived": {"birth_year": "year(acquired_on) - 30"}}),
        ("", {"date_format": "%Y-%m-%d"}),
        ("", {"timezone": "UTC"}),
        ("", {"query": "SELECT * FROM customers"}),
    ],
)
def test_what_only_a_load_does_is_refused_by_its_key_and_a_load_does_it(bank, database, facts, spec):
    columns = "customer_id text, acquired_on date, city_tier int"
    database(f"CREATE TABLE customers ({columns})", "INSERT INTO customers VALUES ('a', '2020-05-13', 1)")
    database("CREATE TABLE transactions (customer_id text, occurred_on date, amount int)")
    database("INSERT INTO transactions VALUES ('a', '2021-08-13', 1)")
    tables = tables_of("customers", "transactions")
    tables["customers"] = {**({} if "query" in spec else tables["customers"]), **spec}
    key = (facts.partition(":")[0] or next(iter(spec))).replace("segments", "tier of segments")
    words = f"{key}.* does not go with engine: postgres, .*loaded: take engine: and connect: out.* database: OWN_BANK"
    with pytest.raises(InputError, match=words):
        bank(tables, FACTS + facts)
    assert bank(tables, FACTS + facts, loaded=True).rows("customers") == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "engine: trino\nconnect: OWN_BANK\n",
            "no engine 'trino': valid names: postgres, spark; or take engine: .*files",
        ),
        ("engine: postgres\n", "engine: postgres needs connect: BANK_DATABASE"),
        ("connect: OWN_BANK\n", "connect: goes with engine:"),
        ("engine: postgres\nconnect: postgresql://u:hidden@localhost/x\n", "connect: holds a password"),
        ("engine: postgres\nconnect: NOT_SET\n", "environment variable NOT_SET is not set"),
        ("engine: postgres\nconnect: postgresql://u@localhost:1/x\n", "its server cannot be reached"),
    ],
)
def test_an_address_is_asked_for_and_never_told(tmp_path, database, lines, words):
    (tmp_path / "bank.yaml").write_text(f"{FACTS}{lines}tables: {{customers: clients}}\n", "utf-8")
    with pytest.raises(InputError, match=words) as error:
        open_bank(tmp_path)
    assert "hidden" not in str(error.value)


def test_a_table_that_is_not_there_is_named(bank, database):
    database(*PEOPLE)
    with pytest.raises(ContractError, match=r"holds no table 'client'. Try: did you mean 'clients'"):
        bank({"customers": {"table": "client"}})


def test_a_connection_that_is_lost_ends_the_work_in_one_line(bank, database, server):
    database(*PEOPLE)
    far = bank(MAPPED)
    with driver.connect(server, autocommit=True) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                       "AND state = 'idle in transaction'")  # fmt: skip
        cursor.fetchall()
    with pytest.raises(CrmError, match=r"the PostgreSQL server.* did not answer \(\w+\); see that it runs") as error:
        far.frame(far.table("customers"))
    assert not isinstance(error.value, InputError)  # which a notebook would take for an answer
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("NOT_SET", r"environment variable NOT_SET is not set. Try: export NOT_SET=sc://"),
        ("local[1]", r"Spark needs Java 17 or 21, which is not here. Try: install one, or set JAVA_HOME"),
        ("sc://localhost", r"PySpark, .* is not installed. Try: python -m pip install 'crmresearch\[spark\]'"),
    ],
)
def test_spark_says_what_it_needs(tmp_path, monkeypatch, address, words):
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    lines = f"engine: spark\nconnect: {address}\ntables: {{customers: c}}\n"
    (tmp_path / "bank.yaml").write_text(FACTS + lines, "utf-8")
    with pytest.raises(InputError, match=words):
        open_bank(tmp_path)


@pytest.mark.parametrize(
    ("kind", "asked", "answer"),
    [
        ("delta", "DESCRIBE HISTORY `c`.`s`.`m` LIMIT 1", {"version": 7, "timestamp": "any"}),
        ("iceberg", "SELECT max_by(snapshot_id, committed_at) AS version FROM `c`.`s`.`m`.snapshots", {"version": 7}),
        ("parquet", "xxhash64(*)", {"n": 3, "h": 5}),
    ],
)
def test_a_table_with_versions_is_known_by_its_version(kind, asked, answer):
    link, seen = object.__new__(spark.Session), []
    provider = [{"col_name": "Provider", "data_type": kind}]
    link.error, link.read = (RuntimeError,), {"monthly": ["", "`c`.`s`.`m`", "SELECT 1 AS a"]}
    link.ask = lambda text: seen.append(text) or pa.Table.from_pylist(provider if "EXTENDED" in text else [answer])
    assert link.digest() == repr([("monthly", kind, answer.get("version", answer))])
    assert asked in seen[1]


class Changing(Progress):
    """Changes a table when a notebook ends."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def end(self, name, record):
        self.change()


def test_a_table_that_changes_while_a_run_reads_it_fails_the_run_in_one_line(bank, database, tmp_path):
    more = "SELECT 100 + n, DATE '2020-02-01', NULL::date, NULL, true, 1960, 'x', NULL FROM generate_series(1, 90) n"
    database(*PEOPLE, f"INSERT INTO clients {more}")
    bank(MAPPED)
    given = {"studies": ["00"], "out": tmp_path / "out", "site": False, "jobs": 1}
    outcome = batch.run(str(tmp_path), progress=Changing(lambda: database("DELETE FROM pay WHERE sum = 1")), **given)
    assert [one["status"] for one in outcome.status["notebooks"].values()] == ["completed"]
    assert outcome.status["status"] == "failed"
    assert outcome.status["remark"].startswith("the bank's tables changed while they were read")
    outcome = batch.run(str(tmp_path), **given)
    assert outcome.completed
    assert "remark" not in outcome.status
