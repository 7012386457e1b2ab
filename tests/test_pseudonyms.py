"""At the door in: pseudonyms by a key that is written nowhere, equal results by two keys, consent."""

from __future__ import annotations

import hmac
import os
import shutil
import stat
from pathlib import Path

import pandas as pd
import pytest

from crmresearch.data import engines, pseudonyms
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.engines import DuckDB
from crmresearch.data.reductions import base, churn, cost, value
from crmresearch.errors import CrmError, InputError, Missing
from crmresearch.lab import simulated
from crmresearch.run import batch, plan
from crmresearch.run.people import People

KEYS = ("a" * 32, "another key of the bank")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A simulated bank of 600 customers, of whom some are prospects, refer others, and do not consent."""
    out = tmp_path_factory.mktemp("drawn") / "bank"
    simulated.write(simulated.Settings(customers=600, months=36, seed=5), out)
    return out


@pytest.fixture
def keyed(identifiers_as_they_came, monkeypatch, tmp_path) -> Path:
    """Load as users do; the cache folder."""
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def both(folder, identifiers_as_they_came, tmp_path_factory) -> list[Bank]:
    """The bank, loaded by two keys."""
    banks = []
    for key in KEYS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pseudonyms, "key", identifiers_as_they_came)
            patch.setenv("CRMRESEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
            patch.setenv(pseudonyms.KEY, key)
            banks.append(open_bank(folder))
    return banks


def ids(bank: Bank, table: str = "customers", column: str = "customer_id") -> pd.Series:
    return bank.frame(bank.table(table).select(column).order_by(column))[column].dropna()


def test_a_pseudonym_is_the_hmac_of_the_identifier_and_follows_it_into_every_table(both, folder):
    raw = pd.read_parquet(folder / "customers.parquet")
    kept = raw[raw["consent_analysis"] != "no"].sort_values("customer_id")
    assert 2 < len(raw) - len(kept) < 60
    for bank, key in zip(both, KEYS, strict=True):
        expected = [hmac.new(key.encode(), i.encode(), "sha256").hexdigest()[:16] for i in kept["customer_id"]]
        assert pseudonyms.pseudonym(ids(bank)).tolist() == expected
        for table in bank.tables:
            for column in {"customer_id", "referrer_id", "prospect_id", "manager_id"} & set(bank.columns(table)):
                assert ids(bank, table, column).str.fullmatch(r"\d{11,}-[0-9a-f]{16}").all(), (table, column)
        people = set(ids(bank))
        for table, column in (("customers", "referrer_id"), ("prospects", "customer_id"), ("monthly", "customer_id")):
            assert len(set(ids(bank, table, column))) > 5
            assert set(ids(bank, table, column)) <= people
        content = bank.engine.path.read_bytes()
        assert not [i for i in raw["customer_id"] if i.encode() in content]
        assert not any(key.encode() in p.read_bytes() for p in bank.engine.path.parent.iterdir())
    first, second = (set(pseudonyms.pseudonym(ids(bank))) for bank in both)
    assert not first & second


def test_codes_of_people_leave_the_engine_as_names_only(both):
    for query, n in (
        ("SELECT max(customer_id) AS who FROM customers", 1),
        ("SELECT referrer_id AS who FROM customers ORDER BY customer_id", both[0].rows("customers")),
        ("SELECT coalesce(customer_id, prospect_id) AS who FROM prospects", both[0].rows("prospects")),
        ("SELECT customer_id AS who FROM customers WHERE false", 0),
    ):
        frame = both[0].frame(query)
        assert len(frame) == n
        assert frame["who"].dropna().astype(str).str.fullmatch(r"\d{11}-[0-9a-f]{16}").all(), query
        assert all(who is None for who in frame["who"][frame["who"].isna()])


def test_of_many_people_those_who_are_asked_for_are_named(both, folder, keyed, monkeypatch):
    """A bank of millions does not keep all their names in memory, neither to make them nor to tell them."""
    with monkeypatch.context() as patch:
        patch.setattr(pseudonyms, "AT_ONCE", 7)
        patch.setenv(pseudonyms.KEY, KEYS[0])
        bit_by_bit = open_bank(folder)
    assert len(both[0].engine._names) > 600
    monkeypatch.setattr(engines, "NAMED", 3)
    for table in both[0].tables:
        pd.testing.assert_frame_equal(*(b.frame(b.table(table)) for b in (both[0], bit_by_bit)))
    assert bit_by_bit.engine._names is None
    people = [b.engine.run(f"SELECT * FROM {engines.PEOPLE}") for b in (both[0], bit_by_bit)]
    assert people[0] == people[1]
    assert len(people[0]) > 600


def test_rows_keep_the_order_of_their_file(keyed, tmp_path):
    sent = {"purpose": "retain", "campaign_id": "x", "arm": "a", "randomised": True, "channel": "web", "cost": 1.0}
    tables = (  # of fewer rows than people, and of more
        ("customers", 5_000, "acquired_on", {}),
        ("contacts", 50, "contacted_on", sent),
        ("transactions", 300_000, "occurred_on", {"amount": 1.5}),
    )
    raw = {}
    for name, n, day, more in tables:
        days = pd.to_timedelta([1 if name == "customers" else 10 + k % 90 for k in range(n)], "D")
        who = [f"c{k * 7919 % 5_000:05d}" for k in range(n)]
        raw[name] = pd.DataFrame({"customer_id": who, day: pd.Timestamp("2020-01-31") + days})
        raw[name].assign(**more).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "bank.yaml").write_text(
        "{name: mine, currency: EUR, observation_start: 2020-01-01, observation_end: 2020-12-31, evidence: simulated, "
        "tables: {customers: customers.parquet, contacts: contacts.parquet, transactions: transactions.parquet}}"
    )
    bank = open_bank(tmp_path)
    for name, _, day, _ in tables:
        found = bank.frame(f"SELECT customer_id, {day} FROM {name} ORDER BY rowid")
        assert found[day].tolist() == raw[name][day].tolist(), name
        assert found["customer_id"].str[2:7].tolist() == raw[name]["customer_id"].str[1:].tolist(), name


def same(found: object) -> object:
    """A result without names of people."""
    if isinstance(found, pd.DataFrame):
        return found.drop(columns=[c for c in found if c in pseudonyms.COLUMNS])
    return found


def test_two_keys_give_equal_frames_blocks_and_orders(both):
    day = both[0].about.observation_start.replace(year=both[0].about.observation_start.year + 1)
    asked = [
        base.explained, cost.prospects, cost.acquisition, cost.upkeep, cost.joint, cost.campaigns,
        churn.spells, churn.person_months, lambda b: churn.landmark(b, day, 12), churn.arms,
        value.customers_at, value.contribution, value.yearly,
    ]  # fmt: skip
    for ask in asked:
        a, b = (same(ask(bank)) for bank in both)
        assert not isinstance(a, Missing), a.reason
        assert (a == b) if not isinstance(a, pd.DataFrame) else pd.testing.assert_frame_equal(a, b) is None
    assert both[0].engine.fingerprint() == both[1].engine.fingerprint()


def test_results_are_those_of_the_identifiers_themselves(both, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path))
    plain = open_bank(folder)
    assert not plain.pseudonymous
    for ask in (cost.acquisition, cost.upkeep, cost.prospects, value.customers_at, churn.person_months):
        pd.testing.assert_frame_equal(same(ask(plain)), same(ask(both[0])))


# --- the same bank, whatever its description works in -----------------------------------------------------------------

HEAD = "{name: mine, currency: EUR, evidence: simulated, observation_start: 2020-01-01, observation_end: 2021-12-31, "
DAY = [pd.Timestamp("2020-01-01") + pd.Timedelta(days=k) for k in range(700)]
WHO = [f"c{k * 7 % 60:02d}" for k in range(60)]  # in no order
PEOPLE = pd.DataFrame({"customer_id": WHO, "acquired_on": DAY[:60], "referrer_id": [None] * 30 + WHO[:30]})
MOVES = pd.DataFrame({"customer_id": WHO * 5, "occurred_on": DAY[100:400], "amount": [float(k) for k in range(300)]})
ACCOUNTS = MOVES.rename(columns={"customer_id": "account_id"})
OWNERS = pd.DataFrame({"account_id": WHO + WHO[:9], "customer_id": WHO + WHO[1:10]})
PAST = pd.DataFrame({"customer_id": WHO * 2, "since": DAY[:120], "status": ["active"] * 60 + ["voluntary"] * 60})
ASKED = PEOPLE.assign(consent_analysis=["no" if k % 5 == 0 else "yes" for k in range(60)])
LEADS = pd.DataFrame({"prospect_id": ["p2", "c00", "p1"], "channel": "x", "first_contact_on": DAY[3], "spend": 1.0,
                      "won": [True, True, False], "customer_id": ["c00", "c01", None]})  # fmt: skip
AGES = "segments: {tier: {birth_year: [1970]}}, "
WORKED = {
    "customers and their rows": ({"customers": PEOPLE, "transactions": MOVES}, ""),
    "several ids of one person": (
        {"customers": PEOPLE, "transactions": MOVES, "same_as": PEOPLE[["customer_id"]].assign(same_as="c00")[1:4]},
        "",
    ),
    "accounts of several owners": ({"customers": PEOPLE, "transactions": ACCOUNTS, "owners": OWNERS}, ""),
    "a history of statuses": ({"history": PAST, "transactions": MOVES[:0]}, ""),
    "an exit rule": ({"customers": PEOPLE, "transactions": MOVES}, "exit_rule: {without: transactions, months: 3}, "),
    "segments": ({"customers": PEOPLE.assign(birth_year=range(1940, 2000)), "transactions": MOVES}, AGES),
    "who does not consent": ({"customers": ASKED, "transactions": MOVES, "prospects": LEADS}, ""),
    "rows alone": ({"transactions": MOVES}, ""),
    "rows that nothing is joined by": ({"customers": PEOPLE, "transactions": MOVES}, "unlinked: [transactions], "),
}
LATE = MOVES.assign(occurred_on=pd.Timestamp("2019-01-01")).iloc[[3]]
STRANGERS = MOVES[:4].assign(customer_id=["x", "x", "y", None])
SHUFFLED = pd.concat([MOVES, STRANGERS]).sample(frac=1, random_state=3)
MONTHS = pd.DataFrame({"customer_id": ["x", "y", "x"], "month": pd.Timestamp("2020-03-01"), "balance": 1.0})
BROKEN = {
    "rows of nobody": {"customers": PEOPLE, "transactions": SHUFFLED},
    "months of several nobodies": {"customers": PEOPLE, "monthly": MONTHS},
    "rows before their customer": {"customers": PEOPLE, "transactions": pd.concat([MOVES, LATE])},
    "customers that cannot be read": {"customers": PEOPLE.drop(columns="acquired_on"), "transactions": STRANGERS},
    "a customer who is there twice": {"customers": pd.concat([PEOPLE, PEOPLE[:2]]), "transactions": MOVES},
    "an amount that is none": {"customers": PEOPLE, "transactions": MOVES.assign(amount=["x", *"1" * 299])},
    "someone referred by nobody": {"customers": PEOPLE.assign(referrer_id="nobody"), "transactions": MOVES},
}


@pytest.fixture
def loads(keyed, tmp_path, monkeypatch):
    """Load tables without pseudonyms and with them; what became of each."""

    def loaded(tables: dict[str, pd.DataFrame], more: str = "") -> list[Bank | str]:
        for name, frame in tables.items():
            frame.to_parquet(tmp_path / f"{name}.parquet")
        given = ", ".join(f"{name}: {name}.parquet" for name in tables)
        (tmp_path / "bank.yaml").write_text(f"{HEAD}{more}tables: {{{given}}}}}")
        made = pseudonyms.key
        found: list[Bank | str] = []
        for key in (lambda: b"", made):
            monkeypatch.setattr(pseudonyms, "key", key)
            monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / f"cache-{len(found)}"))
            monkeypatch.setenv(pseudonyms.KEY, KEYS[0])
            try:
                found.append(open_bank(tmp_path))
            except InputError as error:
                found.append(str(error))
        return found

    return loaded


@pytest.mark.parametrize("what", WORKED)
def test_a_bank_is_the_same_with_pseudonyms(loads, what):
    plain, keyed = loads(*WORKED[what])
    assert isinstance(plain, Bank), plain
    assert isinstance(keyed, Bank), keyed
    for table in plain.tables:
        assert (plain.made(table), plain.rows(table)) == (keyed.made(table), keyed.rows(table))
        ours, theirs = (bank.frame(f"SELECT * FROM {table} ORDER BY rowid") for bank in (plain, keyed))
        for column in {*pseudonyms.COLUMNS} & {*ours}:
            said = ours[column].dropna()
            expected = [pseudonyms.digest(KEYS[0].encode(), who) for who in said]
            assert pseudonyms.pseudonym(theirs[column].dropna()).tolist() == expected
            assert said.rank().tolist() == theirs[column].dropna().rank().tolist()
        pd.testing.assert_frame_equal(same(ours), same(theirs))


@pytest.mark.parametrize("what", BROKEN)
def test_a_report_is_the_same_with_pseudonyms(loads, what):
    plain, keyed = loads(BROKEN[what])
    assert isinstance(plain, str)
    assert plain == keyed


# --- the key ---------------------------------------------------------------------------------------------------------


def test_without_a_key_one_is_made_for_the_user_alone_and_kept(keyed, example):
    before = os.umask(0)
    try:
        first = ids(open_bank(example)).tolist()
    finally:
        os.umask(before)
    assert stat.S_IMODE((keyed / "key").stat().st_mode) == 0o600
    assert [stat.S_IMODE(p.stat().st_mode) for p in (keyed, keyed / "banks", keyed / "spill") if p.exists()] == [
        0o700,
        0o700,
        *([0o700] if (keyed / "spill").exists() else []),
    ]
    assert ids(open_bank(example)).tolist() == first


def test_a_key_from_a_file_is_written_nowhere_and_another_one_loads_again(
    keyed, example, tmp_path, monkeypatch, capsys
):
    (tmp_path / "key").write_text(KEYS[0] + "\n")
    monkeypatch.setenv(pseudonyms.KEY_FILE, str(tmp_path / "key"))
    first = ids(open_bank(example)).tolist()
    assert not (keyed / "key").exists()
    assert not any(KEYS[0].encode() in p.read_bytes() for p in keyed.rglob("*") if p.is_file())
    monkeypatch.setenv(pseudonyms.KEY, KEYS[0])  # the same, in the environment
    assert ids(open_bank(example)).tolist() == first
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(pseudonyms.KEY, KEYS[1])
    second = ids(open_bank(example)).tolist()
    assert not {*first} & {*second}
    told = "== the loaded database of example has pseudonyms of another key; it is loaded again\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (pseudonyms.KEY, "short", "the key in CRMRESEARCH_KEY has fewer than 16 signs"),
        (pseudonyms.KEY, "", "the key in CRMRESEARCH_KEY has fewer than 16 signs"),
        (pseudonyms.KEY_FILE, "/nowhere/key", "the file of CRMRESEARCH_KEY_FILE cannot be read"),
    ],
)
def test_a_key_that_is_none_is_refused(keyed, example, monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        open_bank(example)


def test_kernels_are_not_told_the_key(keyed, example, monkeypatch, tmp_path):
    monkeypatch.setenv(pseudonyms.KEY, KEYS[0])
    planned = plan.Planner().plan(str(example), ["00"], {}, tmp_path / "run", None)
    told = batch.environment() | batch._own(planned, tmp_path / "run", 1)
    assert KEYS[0] not in told.values()
    assert pseudonyms.KEY not in told


# --- whom a run is searched for --------------------------------------------------------------------------------------


def test_identifiers_and_pseudonyms_are_found_though_no_identifier_is_kept(keyed, folder, monkeypatch):
    monkeypatch.setenv(pseudonyms.KEY, KEYS[0])
    people = People.of(open_bank(folder))
    raw = pd.read_parquet(folder / "customers.parquet")
    for who in (raw["customer_id"].iloc[0], raw.loc[raw["consent_analysis"] == "no", "customer_id"].iloc[0]):
        assert people.named(f"of {who}, who") == {"customer identifier"}  # also of those who are left out
        assert people.named(f"of {who[:3].lower()} {who[3:]}") == {"customer identifier"}
        assert people.named(f"x{pseudonyms.digest(KEYS[0].encode(), who)}") == {"customer identifier"}
        assert people.named(f"p {pseudonyms.digest(KEYS[0].encode(), who)}.") == {"customer identifier"}
    assert people.named("of C99999999, who") == set()


# --- consent ---------------------------------------------------------------------------------------------------------


def test_who_does_not_consent_to_analysis_is_left_out_of_every_table_and_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    rows = [(f"c{k:03d}", "no" if k % 4 == 0 else "yes" if k % 4 == 1 else "not recorded") for k in range(48)]
    text = "".join(f"{who},2019-01-01,2020-01-01,c{(k + 1) % 48:03d},{said}\n" for k, (who, said) in enumerate(rows))
    (tmp_path / "customers.csv").write_text(
        "customer_id,acquired_on,observed_from,referrer_id,consent_analysis\n" + text
    )
    months = "".join(f"{who},2020-{m:02d}-01,1\n" for who, _ in rows for m in (1, 2))
    (tmp_path / "monthly.csv").write_text("customer_id,month,balance\n" + months)
    lost = "".join(f"p{k},web,2020-01-01,1,{str(k < 8).lower()},{rows[k][0] if k < 8 else ''}\n" for k in range(12))
    (tmp_path / "prospects.csv").write_text("prospect_id,channel,first_contact_on,spend,won,customer_id\n" + lost)
    (tmp_path / "bank.yaml").write_text(
        "{name: mine, currency: EUR, observation_start: 2020-01-01, observation_end: 2020-12-31, evidence: simulated, "
        "tables: {customers: customers.csv, monthly: monthly.csv, prospects: prospects.csv}}"
    )
    bank = open_bank(tmp_path)
    assert (bank.rows("customers"), bank.rows("monthly"), bank.rows("prospects")) == (36, 72, 12)
    found = bank.frame(bank.table("customers"))
    assert set(found["consent_analysis"]) == {"yes", "not recorded"}
    refused = {who for who, said in rows if said == "no"}
    assert not refused & {*found["customer_id"], *found["referrer_id"].dropna()}
    assert found["referrer_id"].isna().sum() == 12
    won = bank.frame(bank.table("prospects"))
    assert won["customer_id"].notna().sum() == 6  # their prospects stay, without them
    assert "left out of every table: 12." in bank.describe().sentence
    assert "12 did not consent to analysis" in " ".join(bank.made("customers"))


# --- room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "form", "times"), [(10, "csv", 2), (60_000, "csv", 2), (60_000, "parquet", 6)])
def test_a_load_asks_for_the_room_that_it_takes(keyed, tmp_path, monkeypatch, rows, form, times):
    (tmp_path / "b").mkdir()
    columns = {"customer_id": "c{}", "occurred_on": "2020-01-{:02d}", "amount": "{}.5"}
    moves = pd.DataFrame({c: [text.format(10 + k % 20) for k in range(rows)] for c, text in columns.items()})
    file = tmp_path / "b" / f"t.{form}"
    moves.to_csv(file, index=False) if form == "csv" else moves.to_parquet(file)
    (tmp_path / "b" / "bank.yaml").write_text(
        "{name: mine, currency: EUR, observation_start: 2020-01-01, observation_end: 2020-12-31, evidence: simulated, "
        f"tables: {{transactions: t.{form}}}}}"
    )
    size = file.stat().st_size * times + (tmp_path / "b" / "bank.yaml").stat().st_size * 2
    free, taken = shutil.disk_usage(tmp_path)._replace(free=(20 << 20) + size), []
    written = DuckDB.finish
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(
        DuckDB, "finish", lambda e: (written(e), taken.append(sum(p.stat().st_size for p in keyed.rglob("*"))))
    )
    assert open_bank(tmp_path / "b").rows("transactions") == rows
    assert taken[0] < free.free, (taken, file.stat().st_size)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=free.free - 1))
    with pytest.raises(CrmError, match="no room for mine-"):
        open_bank(tmp_path / "b")
    assert list((tmp_path / "other" / "banks").glob("*.duckdb")) == []
