"""Adapters and catalogue: published counts, decoding, what is refused, and that nothing is invented."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

from crmresearch.data.bank import open_bank
from crmresearch.data.description import EVIDENCE, About
from crmresearch.data.sources import names as named
from crmresearch.data.sources import open_data as published
from crmresearch.data.sources.open_data import catalogue
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError

# --- catalogue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalogue())
def test_every_entry_states_source_terms_and_limits(name):
    entry = catalogue()[name]
    about = published.about_entry(name)
    assert about.evidence in EVIDENCE
    assert about.cannot_answer
    assert about.citation
    assert about.licence
    assert entry["files"]
    known = {f.name for f in fields(About)} | {"files", "tables"}
    assert set(entry) <= known
    for facts in entry["files"].values():
        assert ("sha256" in facts) + ("git_blob" in facts) + ("unpacked_sha256" in facts) == 1
        assert ("address" in facts) != ("obtain" in facts)  # fetched from an address, or told how to come by it
        if "address" in facts:
            assert re.match(r"https://github\.com/[^/]+/[^/]+/raw/[0-9a-f]{12,40}/", facts["address"])


def test_the_catalogue_in_data_is_the_one_of_the_package():
    root = Path(__file__).parents[1]
    assert (root / "data" / "catalogue.yaml").read_bytes() == (
        root / "src" / "crmresearch" / "data" / "catalogue.yaml"
    ).read_bytes()


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'berka'"):
        published.get("berko", ".")


def test_listing_names_every_bank():
    names = [row["name"] for row in named.listing()]
    assert names[: len(catalogue()) + 1] == ["reference", *catalogue()]


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A catalogue with one data set of two files, in a cache of its own."""
    content = b"imag1,imag2\n1,2\n"
    entry = {
        "title": "t",
        "evidence": "published",
        "files": {
            "a.csv": {"sha256": hashlib.sha256(content).hexdigest(), "also": ["a.asc"], "obtain": "ask"},
            "b.csv": {"sha256": hashlib.sha256(content).hexdigest(), "optional": True, "obtain": "ask"},
        },
    }
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(published, "catalogue", lambda: {"tiny": entry})
    (tmp_path / "given").mkdir()
    return tmp_path / "given", content


def test_get_takes_checked_files_and_nothing_else(tiny):
    given, content = tiny
    with pytest.raises(InputError, match=r"a\.csv: not in the folder given"):
        published.get("tiny", given)
    (given / "a.csv").write_bytes(content[:-2])
    with pytest.raises(InputError, match="content differs from the catalogue"):
        published.get("tiny", given)
    assert list(published.data_folder("tiny").iterdir()) == []
    (given / "a.csv").write_bytes(content.replace(b"\n", b"\r\n"))  # the same text with the line ends of another system
    assert (published.get("tiny", given) / "a.csv").read_bytes() == content
    with pytest.raises(InputError, match="there is no folder"):
        published.get("tiny", given / "nowhere")


def test_get_accepts_the_publishers_file_name(tiny):
    given, content = tiny
    (given / "a.asc").write_bytes(content)
    assert (published.get("tiny", given) / "a.csv").read_bytes() == content


def test_without_an_address_get_says_how_to_come_by_the_file(tiny):
    with pytest.raises(InputError, match=r"a\.csv: no address to download from; ask"):
        published.get("tiny")


def test_published_copies_are_brought_into_the_catalogues_form():
    convert = published._converted
    blanks = b"customer_id  date\r\n 00001 19970101 1  11.77\r\n"
    assert convert(blanks, "blanks id,date,n,value") == b"id,date,n,value\n00001,19970101,1,11.77\n"
    assert convert(b'"","a","b"\n"1",8,"x"\n', "unindexed") == b"a,b\n8,x\n"
    cut = b'h;h;"date"\r\n1;1;930101\r\n2;1;930102\r\n3;1;930102\r\n4;1;93'
    assert convert(cut, "complete days") == b'h;h;"date"\n1;1;930101\n'


def test_published_copies_of_the_shared_files_convert_to_the_checked_content(shared):
    """Undo the conversion on the checked file, convert, and be back at the same bytes."""
    master = (shared / "data" / "cdnow" / "CDNOW_master.csv").read_bytes()
    lines = master.split(b"\n")
    text = b"\r\n".join([b"_ID _DATE _CDS _VALUE", *(b" ".join(line.split(b",")) for line in lines[1:])])
    how = catalogue()["cdnow"]["files"]["CDNOW_master.csv"]["convert"]
    assert published._converted(text, how) == master


# --- Berka ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def berka(open_data):
    return open_data("berka")


def test_berka_reproduces_the_published_counts(berka):
    table = berka.reconcile().table.set_index("what")
    assert table["agrees"].all()
    assert table.loc["accounts, each with one owner", "found"] == 4_500
    assert table.loc["clients, owners and other users", "found"] == 5_369
    assert table.loc["transactions", "found"] == 46_997
    assert table.loc["transactions in the account summary", "found"] == 1_056_088


def test_berka_decodes_birth_numbers_dates_and_terms(berka, shared):
    customers = berka.frame(berka.table("customers")).set_index("customer_id")
    # client 1 is 706213: born 13 December 1970, a woman; client 2 is 450204: a man of 1945
    assert customers.loc["1", ["birth_year", "sex"]].tolist() == [1970, "female"]
    assert customers.loc["2", ["birth_year", "sex"]].tolist() == [1945, "male"]
    clients = pd.read_csv(shared / "data/berka/client.csv", sep=";", dtype=str)
    months = clients.set_index("client_id")["birth_number"].str[2:4].astype(int)
    women = months[months.index.isin(customers.index)] > 50
    assert customers["sex"].eq("female").sum() == women.sum()
    assert set(customers["statements"]) == {"monthly", "weekly", "per transaction"}
    accounts = pd.read_csv(shared / "data/berka/account.csv", sep=";")
    assert customers["acquired_on"].min() == pd.to_datetime(str(accounts["date"].min()), format="%y%m%d")
    # nothing is invented: nobody left, no tier, no channel of acquisition
    assert berka.require("customers.left_on") is not None
    assert customers[["left_on", "city_tier", "acquisition_channel"]].isna().all(axis=None)


def test_berka_transactions_are_signed_and_translated(berka, shared):
    t = berka.frame(berka.table("transactions"))
    raw = pd.read_csv(shared / "data/berka/trans_1993-01_1994-03.csv", sep=";")
    signed = raw["amount"].where(raw["type"].eq("PRIJEM"), -raw["amount"])
    assert round(t["amount"].sum(), 2) == round(signed.sum(), 2)
    assert set(t["channel"]) == {"cash in", "cash out", "card", "transfer in", "transfer out", "booked by the bank"}
    assert t["channel"].eq("card").sum() == raw["operation"].eq("VYBER KARTOU").sum()
    assert t["purpose"].eq("penalty interest").sum() == raw["k_symbol"].eq("SANKC. UROK").sum()
    assert not t["purpose"].dropna().str.contains(r"[A-Z]").any()
    assert berka.period("transactions") == (datetime.date(1993, 1, 1), datetime.date(1994, 3, 30))
    assert berka.period("customers")[1] == datetime.date(1998, 12, 31)


def test_berka_loan_ends_follow_from_term_and_status(berka):
    loans = berka.frame("SELECT * FROM holdings WHERE product_family = 'loan'")
    finished = loans["variant"].str.startswith("finished")
    assert loans["closed_on"].notna().equals(finished)
    # what makes the reading safe: every finished contract's term is over by the end of 1998, and no running one's is
    end = [d + pd.DateOffset(months=int(m)) for d, m in zip(loans["opened_on"], loans["term_months"], strict=True)]
    over = pd.Series(end) <= pd.Timestamp("1998-12-31")
    assert over.equals(finished)


def test_berka_takes_the_full_transaction_table_when_it_is_there(shared, tmp_path):
    """A stand-in with the name of the full table is preferred, and held against the published count."""
    from crmresearch.data.sources import berka as module

    source = shared / "data" / "berka"
    for file in source.glob("*.csv"):
        if file.name not in (module.PARTIAL, module.SUMMARY):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=r"berka needs trans\.csv or"):
        module.describe("berka", tmp_path)
    head = (source / module.PARTIAL).read_bytes().split(b"\n")[:2001]
    (tmp_path / module.FULL).write_bytes(b"\n".join(head) + b"\n")
    described = module.describe("berka", tmp_path)
    assert described.tables["transactions"].origin == "trans.csv"
    assert described.about.covered == {}
    assert "snapshot" not in described.tables
    assert described.reconcile[0].expected == 1_056_320


# --- the others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "customers", "rows"), [("cdnow", 23_570, 69_659), ("cdnow-sample", 2_357, 6_919)])
def test_cdnow_keeps_ids_as_text_and_same_day_rows(open_data, name, customers, rows):
    bank = open_data(name)
    assert (bank.rows("customers"), bank.rows("transactions")) == (customers, rows)
    t = bank.frame(bank.table("transactions"))
    assert t["customer_id"].str.len().eq(5).all()
    assert t.duplicated(["customer_id", "occurred_on"]).any()
    first = t.groupby("customer_id")["occurred_on"].min()
    acquired = bank.frame(bank.table("customers")).set_index("customer_id")["acquired_on"]
    pd.testing.assert_series_equal(acquired, first, check_names=False)
    assert t["amount"].eq(0).sum() == {"cdnow": 80, "cdnow-sample": 8}[name]


def test_bank_churners_refuses_the_leaking_scores_by_name(open_data):
    bank = open_data("bank-churners")
    spells = bank.frame(bank.table("spells"))
    assert len(spells) == 10_127
    assert spells["event"].sum() == 1_627
    assert spells["exit_months"].eq(36).sum() == 2_463
    assert spells["entry_months"].eq(0).all()
    for table in bank.tables:
        assert not [c for c in bank.columns(table) if "naive" in c.lower()]
    for column in bank.about.refused:
        assert "leaks the answer" in str(bank.require(column))
    assert not set(spells) & {"total_trans_ct", "months_inactive_12_mon"}  # measured while the attrited were leaving


def test_bank_marketing_refuses_duration_and_has_no_customers(open_data):
    bank = open_data("bank-marketing")
    t = bank.frame(bank.table("snapshot"))
    assert (len(t), int(t["sold"].sum())) == (41_188, 4_640)
    assert "leaks the answer" in str(bank.require("snapshot.duration"))
    assert "duration" not in t
    assert t["customer_id"].iloc[[0, -1]].tolist() == ["row-1", "row-41188"]
    assert bank.about.unlinked == ("snapshot",)
    assert t["days_since_previous"].max() < 999  # their 999, never contacted, is no number of days
    assert bank.require("customers") is not None


def test_plspm_survey_declares_constructs_and_paths(open_data):
    bank = open_data("plspm-satisfaction")
    t = bank.frame(bank.table("survey"))
    items = [i for names in bank.about.constructs.values() for i in names]
    assert (len(t), len(items)) == (250, 27)
    assert t[items].isin(range(11)).all(axis=None)
    assert t["gender"].value_counts().to_dict() == {"female": 148, "male": 102}
    assert ("satisfaction", "loyalty") in bank.about.paths
    assert len(bank.about.paths) == 10
    assert bank.require("survey.wave_on") is not None


def test_smcrm_event_is_the_opposite_of_censor(open_data, shared):
    bank = open_data("smcrm-churn")
    spells = bank.frame(bank.table("spells"))
    raw = pd.read_csv(shared / "data/smcrm/customerChurn.csv")
    assert spells["event"].tolist() == (1 - raw["censor"]).astype(bool).tolist()
    assert round(spells["event"].mean(), 3) == 0.464  # C17 of the published results
    assert (spells["exit_months"] * 365.25 / 12).round(6).tolist() == raw["duration"].tolist()
    won = open_data("smcrm-acquisition").frame("SELECT count(*) AS n FROM spells")
    assert won["n"].tolist() == [292]  # 58.4% of 500, C14


def test_smcrm_prospects_keep_their_shape(open_data):
    bank = open_data("smcrm")
    t = bank.frame(bank.table("snapshot"))
    assert (len(t), int(t["acquisition"].sum())) == (500, 338)  # C15, C16
    assert bank.tables == ("snapshot",)
    assert bank.require("prospects") is not None  # without dates they are no prospects table
    retention = open_data("smcrm-retention").frame(
        "SELECT sum(purchases) AS p, max(observed_quarters) AS q FROM snapshot"
    )
    assert retention["q"].tolist() == [12]
    assert open_data("smcrm-winback").rows("snapshot") == 500


@pytest.mark.parametrize("name", [n for n in catalogue() if not catalogue()[n].get("dated", True)])
def test_undated_data_carry_no_invented_dates(open_data, name):
    bank = open_data(name)
    assert bank.about.observation_end is None
    for table in bank.tables:
        dated = [c.name for c in TABLES[table].columns if c.kind in ("date", "month")]
        frame = bank.frame(bank.table(table))
        assert frame[dated].isna().all(axis=None)
    with pytest.raises(InputError, match="has no dates"):
        bank.period(bank.tables[0])


@pytest.mark.parametrize("name", catalogue())
def test_every_open_data_set_loads_and_keeps_the_contract(open_data, name):
    from crmresearch.data import contract

    bank = open_data(name)
    for table in bank.tables:
        sql, checks = contract.check_sql(
            TABLES[table], bank.table(table).columns, bank.tables, bank.about.observation_end
        )
        row = bank.engine.run(sql)[0]
        assert contract.problems_from(TABLES[table], row, checks, []) == []
    assert f"({bank.about.evidence})" in bank.source_line


def test_an_altered_file_in_the_cache_is_loaded_anew(open_data, tmp_path, monkeypatch, shared):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path))
    published.get("cdnow-sample", shared / "data" / "cdnow")
    before = open_bank("cdnow-sample").rows("transactions")
    file = published.data_folder("cdnow-sample") / "CDNOW_sample.csv"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert open_bank("cdnow-sample").rows("transactions") == before - 1


def test_a_packed_and_an_unpacked_copy_give_the_same_file(open_data, tmp_path, monkeypatch, shared):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()
    packed = shared / "data" / "bank-marketing" / "bank-additional-full.csv.gz"
    (tmp_path / "given" / "bank-additional-full.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    published.get("bank-marketing", tmp_path / "given")
    assert open_bank("bank-marketing").rows("snapshot") == 41_188


def test_the_deposits_of_all_branches_are_the_published_ones(open_data, shared):
    """Sums over counties are those of the yearly files (F18); the markets table tells shares, entry and mergers."""
    import pandas as pd
    import yaml

    entries = yaml.safe_load((shared / "reference" / "published_results_wider.yaml").read_text("utf-8"))["results"]
    want = next(e["values"] for e in entries if e["id"] == "F18")
    bank = open_data("fdic-sod-county")
    d = pd.read_csv(shared / "data" / "fdic-sod-county" / "county_year.csv.gz")
    assert d.groupby("year")["branches"].sum().to_dict() == want["branches"]
    assert d.groupby("year")["deposits"].sum().to_dict() == want["deposits"]
    t = bank.frame(bank.table("markets").order_by("city_id", "month"))
    assert len(t) == d["old_location_share"].notna().sum()
    entered = pd.to_datetime(t["rival_entered_on"]).dt.year
    assert ((t["rival_branches"] > 0) <= (pd.to_datetime(t["month"]).dt.year >= entered)).all()
    mean = t.groupby(pd.to_datetime(t["month"]).dt.year)[["own_share", "owner_share"]].mean()
    assert mean.loc[1998].round(3).tolist() == [0.964, 0.750]  # mergers alone move a quarter of the market


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_documented_example_is_the_one_in_the_folder(example):
    readme = (example.parent / "README.md").read_text("utf-8")
    assert (example / "bank.yaml").read_text("utf-8") in readme


def test_the_documented_columns_are_those_of_the_contract(example):
    readme = (example.parent / "README.md").read_text("utf-8")
    for table in TABLES.values():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{table.name}` |"))
        documented = re.findall(r"`(\w+)`(\??)", row)[1:]
        assert documented == [(c.name, "?" if c.nullable or not c.required else "") for c in table.columns]
    for name in catalogue():
        assert f"`{name}`" in readme


# --- names of own banks -----------------------------------------------------------------------------------------------


def test_own_banks_are_found_by_name_and_may_not_take_a_reserved_one(tmp_path, monkeypatch, example):
    for folder, name in (("one", "mine"), ("two", "berka")):
        (tmp_path / folder).mkdir()
        for file in example.iterdir():
            text = file.read_text("utf-8").replace("name: example", f"name: {name}")
            (tmp_path / folder / file.name).write_text(text, "utf-8")
    monkeypatch.setenv("CRMRESEARCH_BANKS", str(tmp_path / "one"))
    assert open_bank("mine").about.name == "mine"
    assert named.listing()[-1]["name"] == "mine"
    monkeypatch.setenv("CRMRESEARCH_BANKS", str(tmp_path))
    with pytest.raises(InputError, match="'berka', which is reserved"):
        open_bank("mine")
    monkeypatch.setenv("CRMRESEARCH_BANKS", str(tmp_path / "none"))
    with pytest.raises(InputError, match="folder that does not exist"):
        open_bank("mine")
