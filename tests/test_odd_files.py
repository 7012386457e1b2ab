"""Files with something odd about them: what they mean is read, or one line says what is wrong and what to do."""

from __future__ import annotations

import datetime
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crmresearch.data.bank import Bank, open_bank
from crmresearch.errors import InputError
from crmresearch.run import suggest, understood
from test_reading import FACTS

CUSTOMERS = "customer_id,acquired_on\n" + "".join(f"c{k:02d},2020-05-{k + 10}\n" for k in range(12))
MOVES = "customer_id,occurred_on,amount\n" + "".join(f"c{k:02d},2020-06-{k + 10},{k}.5\n" for k in range(12))
DAY = datetime.date(2020, 6, 13)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Write files of any kind and a description, and open them."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def load(files: dict[str, object], tables: str) -> Bank:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            if isinstance(content, pd.DataFrame):
                content.to_excel(path, index=False) if name.endswith("xlsx") else content.to_parquet(path)
            elif isinstance(content, pa.Table):
                pq.write_table(content, path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
        (tmp_path / "bank.yaml").write_text(f"{FACTS}tables: {{{tables}}}\n", "utf-8")
        return open_bank(tmp_path)

    load.folder = tmp_path
    return load


def refused(opened, files, tables) -> str:
    with pytest.raises(InputError) as error:
        opened(files, tables)
    lines = [line for line in str(error.value).splitlines() if line.startswith("  - ")]
    assert lines
    return "\n".join(lines)


# --- above the header, below it, at the foot --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("Customers as of 2020-12-31\n", "line 1 of c.csv names 1 of 2 columns"),
        ("Kundenliste\n\n", "line 1 of c.csv names 1 of 2 columns"),
        ("\n", "line 1 of c.csv names none of 2 columns"),
        ("\ufeff客户清单\n", "line 1 of c.csv names 1 of 2 columns"),
    ],
)
def test_what_stands_above_the_header_is_to_be_deleted(opened, before, said):
    told = refused(opened, {"c.csv": before + CUSTOMERS}, "customers: c.csv")
    assert said in told
    assert "Try: delete what stands above the header in c.csv" in told
    assert opened({"c.csv": CUSTOMERS}, "customers: c.csv").rows("customers") == 12


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\r\n"])
def test_a_file_of_nothing_is_empty(opened, content):
    assert "c.csv is empty. Try: write the file again" in refused(opened, {"c.csv": content}, "customers: c.csv")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (MOVES.replace("amount\n", "amount\nclient,date,EUR\n"), "the first, below the header"),
        (MOVES + "Total,,78.0\n", "the last: if it holds a total"),
        (MOVES + "Summe,13 Buchungen,78.0\n", "the last: if it holds a total"),
    ],
)
def test_a_row_that_is_no_row_is_to_be_deleted(opened, content, where):
    told = refused(opened, {"t.csv": content}, "transactions: t.csv")
    assert all(f"Try: that row is {where}" in line for line in told.splitlines())


@pytest.mark.parametrize("foot", ["Rows: 12", "\n-- end of report --", "合计：78"])
def test_a_note_at_the_foot_is_to_be_deleted(opened, foot):
    told = refused(opened, {"t.csv": MOVES + foot + "\n"}, "transactions: t.csv")
    assert "near line 14 of t.csv" in told or "near line 15 of t.csv" in told
    assert "delete a total or a note" in told


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_two_bytes_a_sign_are_found_without_their_mark(opened, encoding):
    files = {"c.csv": CUSTOMERS.encode(encoding)}
    told = refused(opened, files, "customers: c.csv")
    declared = re.search(r"declare (encoding: [\w-]+) in", told)[1]
    assert opened(files, f"customers: {{file: c.csv, {declared}}}").rows("customers") == 12


# --- columns that stand twice, or hold several values -----------------------------------------------------------------

PAID = {"customer_id": pa.array(["a", "b"]), "occurred_on": pa.array([DAY, DAY]), "amount": pa.array([1.5, 2.5])}


@pytest.mark.parametrize("name", ["amount", "Amount", "AMOUNT"])
@pytest.mark.parametrize("form", ["csv", "parquet", "xlsx"])
def test_a_column_that_stands_twice_is_refused_in_every_form(opened, name, form):
    columns = [*PAID, name]
    if form == "xlsx":
        frame = pd.DataFrame([["a", DAY, 1.5, 2.5]], columns=columns)
    elif form == "csv":
        frame = f"{','.join(columns)}\na,2020-06-13,1.5,2.5\n"
    else:
        frame = pa.Table.from_arrays([*PAID.values(), PAID["amount"]], names=columns)
    assert "names a column twice" in refused(opened, {f"t.{form}": frame}, f"transactions: t.{form}")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([{"x": 1}, {"x": 2}]),
        pa.array([["x"], ["y", "z"]]),
        pa.array([[("k", 1)], []], pa.map_("string", "int32")),
    ],
)
@pytest.mark.parametrize("name", ["extra", "Ex tra,"])
def test_a_nested_column_is_refused_and_can_be_dropped(opened, values, name):
    files = {"s.parquet": pa.table({"customer_id": ["a", "b"], "income": [1.0, 2.0], name: values})}
    told = refused(opened, files, "snapshot: s.parquet")
    assert f"snapshot.{name}: is nested" in told
    dropped = re.search(r"drop: \[.*\]", told)[0]
    assert opened(files, f"snapshot: {{file: s.parquet, {dropped}}}").columns("snapshot") == ("customer_id", "income")
    needed = refused(opened, {"t.parquet": pa.table(PAID | {"amount": values})}, "transactions: t.parquet")
    assert "transactions.amount: is nested" in needed
    assert "drop" not in needed


@pytest.mark.parametrize("name", [" customer_id ", "customer_id ", "Customer_ID"])
def test_a_name_that_needs_quotes_is_advised_with_them(opened, name):
    files = {"t.parquet": pa.table({name: PAID["customer_id"]} | {c: PAID[c] for c in ("occurred_on", "amount")})}
    told = refused(opened, files, "transactions: t.parquet")
    columns = re.search(r"columns: {.*?}", told)[0]
    assert opened(files, f"transactions: {{file: t.parquet, {columns}}}").rows("transactions") == 2


# --- a folder with one odd part ---------------------------------------------------------------------------------------

PART = "customer_id,occurred_on,amount\nz,2020-06-13,1.5\n"
FRAME = pd.DataFrame({"customer_id": ["z"], "occurred_on": ["2020-06-13"], "amount": ["1.5"]})


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("b.CSV", PART, 13),
        ("b.xlsx", FRAME, 13),
        ("b.parquet", FRAME, 13),
        ("b.csv", "amount,customer_id,occurred_on\n1.5,z,2020-06-13\n", 13),
        ("b.csv", "customer_id,occurred_on,amount\n", 12),
        ("0.csv", "customer_id,occurred_on,amount\n", 12),
        ("README.txt", "how this was made", 12),
        ("_SUCCESS", "", 12),
    ],
)
def test_every_part_of_a_folder_is_read(opened, name, content, rows):
    assert opened({"m/a.csv": MOVES, f"m/{name}": content}, "transactions: m").rows("transactions") == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("b.csv", PART.replace(",", ";"), "b.csv has one column only. Try: make it like the other parts"),
        (
            "b.csv",
            PART.replace("z", "ä").encode("cp1252"),
            "b.csv is not utf-8 text. Try: make it like the other parts",
        ),
        ("b.csv", PART.replace("amount", "sum"), "b.csv has no column 'amount', which a.csv has"),
        (
            "b.csv",
            PART.replace("amount", "amount,x").replace("1.5", "1.5,1"),
            "a.csv has no column 'x', which b.csv has",
        ),
        ("b.csv", "", "b.csv is empty. Try: write it again, or take it out of the folder"),
        ("old/b.csv", PART, "old is a folder within a folder, and is not read"),
    ],
)
def test_a_part_that_cannot_be_read_is_named(opened, name, content, said):
    assert said in refused(opened, {"m/a.csv": MOVES, f"m/{name}": content}, "transactions: m")


@pytest.mark.parametrize("name", ["x.txt", ".hidden.csv", "sub/x.md"])
def test_a_folder_without_data_says_so(opened, name):
    told = refused(opened, {f"m/{name}": PART}, "transactions: m")
    assert "m holds no CSV, Parquet or Excel file" in told


# --- one person, written in two ways ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "form"),
    [
        (("00123", "00456"), (123, 456), "parquet"),
        (("00123", "00456"), (123, 456), "xlsx"),
        (("123", "456"), ("000123", "000456"), "csv"),
        (("123", "456"), ("123.0", "456.0"), "csv"),
        (("AB1", "CD2"), ("ab1", "cd2"), "csv"),
        (("12-34", "56-78"), ("1234", "5678"), "csv"),
        (("12 34", "56 78"), ("12.34", "56.78"), "csv"),
    ],
)
def test_ids_that_are_written_otherwise_get_formulas_that_join_them(opened, ours, theirs, form):
    files: dict[str, object] = {"c.csv": "nr,acquired_on\n" + "".join(f"{i},2020-05-13\n" for i in ours)}
    moves = pd.DataFrame({"who": [*theirs, theirs[0]], "occurred_on": "2020-06-13", "amount": 1.5})
    files[f"t.{form}"] = moves.to_csv(index=False) if form == "csv" else moves
    given = {"customers": "file: c.csv, columns: {customer_id: nr}"}
    given["transactions"] = f"file: t.{form}, columns: {{customer_id: who}}"
    told = refused(opened, files, ", ".join(f"{t}: {{{spec}}}" for t, spec in given.items()))
    assert "2 of these ids are there when" in told
    advised = dict(re.findall(r"under (\w+) declare (derived: {.*?\"})", told))
    for table in advised:
        given[table] = f"{given[table].partition(', columns')[0]}, {advised[table]}"
    found = opened(files, ", ".join(f"{t}: {{{spec}}}" for t, spec in given.items()))
    assert found.scalar(found.table("transactions").customer_id.nunique()) == 2


@pytest.mark.parametrize(
    ("ours", "theirs"), [(("a1", "A1"), ("a1 ", "b1")), (("1", "01"), ("001", "1")), (("x", "y"), ("z", "x"))]
)
def test_ids_that_would_make_two_customers_one_are_not_advised(opened, ours, theirs):
    files = {"c.csv": "customer_id,acquired_on\n" + "".join(f"{i},2020-05-13\n" for i in ours)}
    files["t.csv"] = "customer_id,occurred_on,amount\n" + "".join(f"{i},2020-06-13,1.5\n" for i in theirs)
    told = refused(opened, files, "customers: c.csv, transactions: t.csv")
    assert "of these ids" not in told


@pytest.mark.parametrize("shown", ["1.23E+11", "4E+15", "1,5E+12"])
def test_ids_that_excel_has_shortened_are_refused(opened, shown):
    files = {"c.csv": f'customer_id,acquired_on\n"{shown}",2020-05-13\nb,2020-05-13\n'}
    assert "Excel has shortened" in refused(opened, files, "customers: c.csv")
    moves = {"t.csv": f'customer_id,occurred_on,amount\n"{shown}",2020-05-13,1.5\n'}
    assert "(1 row). Try: export the column as text" in refused(opened, moves, "transactions: t.csv")


# --- amounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "spec", "read"),
    [
        (("12.50 CR", "3.00 DR", "4 CR"), "", [12.5, -3, 4]),
        (("12,50 H", "3,00 S", "4,10S"), ", decimal: ','", [12.5, -3, -4.1]),
        (("12,50 H", "3,00 S", "4,10S"), "", [12.5, -3, -4.1]),
        (("1.250,50 H", "3.000,00 S", "4 H"), "", [1250.5, -3000, 4]),
        (("1,250.50 CR", "3,000 DR", "4.00 CR"), "", [1250.5, -3000, 4]),
        (("12.50C", "3.00D", "4.10 C"), "", [12.5, -3, 4.1]),
        (("1,25,000.50", "12,34,567", "3,500.00"), "", [125000.5, 1234567, 3500]),
        (("\u22121,250.25", "\u20133.50", "2.00"), "", [-1250.25, -3.5, 2]),
    ],
)
def test_amounts_with_letters_groups_or_signs_of_their_own_are_read_as_advised(opened, values, spec, read):
    files = {
        "t.csv": "customer_id;occurred_on;amount\n" + "".join(f"c{k};2020-06-13;{v}\n" for k, v in enumerate(values))
    }
    told = refused(opened, files, f"transactions: {{file: t.csv, sep: ';'{spec}}}")
    advised = re.search(r"declare (derived: {.*?\"}|thousands: ','|decimal: ',')", told)[1]
    found = opened(files, f"transactions: {{file: t.csv, sep: ';'{spec}, {advised}}}")
    assert found.frame("SELECT amount FROM transactions ORDER BY customer_id")["amount"].tolist() == read


@pytest.mark.parametrize("values", [("1.250 S", "3.000 H"), ("1.250CR", "80 DR"), ("12.345.678 C", "1.000 D")])
def test_amounts_with_letters_that_read_in_two_ways_have_a_formula_for_each(opened, values):
    files = {
        "t.csv": "customer_id;occurred_on;amount\n" + "".join(f"c{k};2020-06-13;{v}\n" for k, v in enumerate(values))
    }
    told = refused(opened, files, "transactions: {file: t.csv, sep: ';'}")
    _, whole = re.findall(r"(derived: {.*?\"}), in the place of its entry under columns \(if", told)
    found = opened(files, f"transactions: {{file: t.csv, sep: ';', {whole}}}")
    amounts = [int(re.sub(r"\D", "", v)) * (-1 if v[-1] in "SRD" and not v.endswith("CR") else 1) for v in values]
    assert found.frame("SELECT amount FROM transactions ORDER BY customer_id")["amount"].tolist() == amounts


@pytest.mark.parametrize("values", [("1.250,50", "1,250.50", "3,5"), ("1.5k", "2", "3"), ("1,5", "2,5", "x")])
def test_amounts_that_nothing_reads_are_to_be_corrected(opened, values):
    files = {
        "t.csv": "customer_id;occurred_on;amount\n" + "".join(f"c{k};2020-06-13;{v}\n" for k, v in enumerate(values))
    }
    told = refused(opened, files, "transactions: {file: t.csv, sep: ';'}")
    assert "then left to correct)" in told or "Try: correct these values" in told


@pytest.mark.parametrize(("n", "of", "told"), [(0, 3, "0"), (2, 5, "<10"), (0, 400, "0"), (396, 400, "nearly all")])
def test_a_count_of_none_is_told(n, of, told):
    assert understood._told(n, of) == told


@pytest.mark.parametrize(("name", "share"), [("Anteil", "50"), ("share", "100"), ("Teil in %", "60")])
def test_shares_in_hundredths_are_advised_by_their_own_name(opened, name, share):
    files = {
        "c.csv": CUSTOMERS,
        "o.csv": f"account_id,customer_id,{name}\nk,c01,{share}\nk,c02,{100 - int(share)}\n",
        "m.csv": "account_id,month,balance\nk,2020-07-01,200\n",
    }
    tables = "customers: c.csv, monthly: m.csv, owners: {{file: o.csv, {}}}"
    told = refused(opened, files, tables.format(f"columns: {{share: '{name}'}}"))
    advised = re.search(r"derived: ({.*})\)", told)[0].removesuffix(")")
    found = opened(files, tables.format(advised))
    assert found.scalar(found.table("monthly").balance.sum()) == 200


@pytest.mark.parametrize("column", ["service_cost", "risk_cost", "allocated_cost"])
def test_costs_whose_sign_is_turned_in_part_get_a_formula(opened, column):
    rows = [f"c{k % 12:02d},2020-{6 + k // 12:02d}-01,9,{-k if k % 3 else k}" for k in range(24)]
    files = {"m.csv": f"customer_id,month,balance,{column}\n" + "\n".join(rows) + "\n"}
    bank = opened(files, "monthly: m.csv")
    lines, doubts = understood.report(bank, str(opened.folder))
    assert doubts == 1
    told = " ".join(" ".join(lines).split())
    advised = re.search(r"declare (derived: {.*?}) under monthly", told)[1]
    again = opened(files, f"monthly: {{file: m.csv, {advised}}}")
    assert understood.report(again, str(opened.folder))[1] == 0


# --- a first description ----------------------------------------------------------------------------------------------


def suggested(folder, name: str, content: str) -> Bank:
    (folder / name).write_text(content, "utf-8")
    text = suggest.suggest([folder / name], folder)
    (folder / "bank.yaml").write_text(text, "utf-8")
    return open_bank(folder)


@pytest.mark.parametrize(
    ("form", "end"),
    [
        ("%d.%m.%Y", "31.12.2999"),
        ("%d.%m.%Y", "31.12.9999"),
        ("%Y-%m-%d", "2999-12-31"),
        ("%m/%d/%Y", "01/01/1900"),
        ("%d/%m/%Y", "31/12/2099"),
    ],
)
def test_open_ends_are_suggested_as_missing(opened, form, end):
    days = [(datetime.date(2020, 1, 5) + datetime.timedelta(days=7 * k)).strftime(form) for k in range(60)]
    gone = datetime.date(2021, 12, 30).strftime(form)
    rows = [f"{1000 + k};{day};{end if k % 3 else gone}" for k, day in enumerate(days)]
    bank = suggested(opened.folder, "Kunden.csv", "\n".join(["Kundennr;Kunde seit;Kunde bis", *rows]) + "\n")
    assert bank.about.observation_end == datetime.date(2021, 12, 31)
    assert bank.scalar(bank.table("customers").left_on.count()) == 20


@pytest.mark.parametrize(
    "days",
    [
        ("12 janv. 2020", "3 févr. 2020", "1 août 2020", "14 juil. 2020"),
        ("12 de enero de 2020", "3 de febrero de 2020", "1 de agosto de 2020", "14 de julio de 2020"),
        ("12 gen 2020", "3 feb 2020", "1 ago 2020", "14 lug 2020"),
        ("12. Januar 2020", "3. Februar 2020", "1. August 2020", "14. Juli 2020"),
        ("2020년 1월 12일", "2020년 2월 3일", "2020년 8월 1일", "2020년 7월 14일"),
    ],
)
def test_dates_of_other_languages_are_suggested(opened, days):
    bank = suggested(
        opened.folder, "k.csv", "Kundennr;Kunde seit\n" + "".join(f"{k};{d}\n" for k, d in enumerate(days))
    )
    found = bank.frame("SELECT acquired_on FROM customers ORDER BY rowid")["acquired_on"]
    assert [f"{d:%m-%d}" for d in found] == ["01-12", "02-03", "08-01", "07-14"]


@pytest.mark.parametrize("title", ["Kundenliste Stand 31.12.2022;", "Kundenliste\n", ";", ""])
def test_a_title_is_named_where_a_description_is_asked_for(opened, title):
    (opened.folder / "k.csv").write_text(f"{title}\nKundennr;Kunde seit\n1;13.05.2020\n2;14.05.2020\n", "utf-8")
    with pytest.raises(InputError, match=r"line 1 of k\.csv names (none|1) of 2 columns; delete what stands above"):
        suggest.suggest([opened.folder / "k.csv"], opened.folder)


@pytest.mark.parametrize("months", [("2020Q1", "2020Q2"), ("43831", "43862"), ("P1", "P2")])
def test_dates_that_cannot_be_told_are_no_lack_of_dates(opened, months):
    (opened.folder / "m.csv").write_text("Kundennr;Monat;Saldo\n" + "".join(f"1;{m};5\n" for m in months), "utf-8")
    text = suggest.suggest([opened.folder / "m.csv"], opened.folder)
    assert "dated: false" not in text
    assert "# to fill in: observation_start and observation_end" in text


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no"), [("J", "N"), ("oui", "non"), ("sí", "no"), ("はい", "いいえ"), ("T", "F"), ("是", "否"), ("1", "0")]
)
@pytest.mark.parametrize("column", ["consent_analysis", "consent_marketing"])
def test_words_of_consent_that_are_known_are_written_out(opened, yes, no, column):
    rows = [f"c{k:02d},2020-05-13,{yes if k % 3 else no}" for k in range(30)]
    files = {"c.csv": f"customer_id,acquired_on,{column}\n" + "\n".join(rows) + "\n"}
    told = refused(opened, files, "customers: c.csv")
    advised = re.search(r"recode: {\w+: {.*?}}", told)[0]
    bank = opened(files, f"customers: {{file: c.csv, {advised}}}")
    kept = bank.frame(f"SELECT {column} AS said FROM customers")["said"].value_counts()
    assert kept.to_dict() == {"yes": 20} | ({"no": 10} if column == "consent_marketing" else {})


@pytest.mark.parametrize("words", [("x", "y"), ("opt-in", "opt-out"), ("2", "1")])
def test_words_of_consent_that_are_not_known_are_not_told(opened, words):
    rows = [f"c{k:02d},2020-05-13,{words[k % 2]}" for k in range(20)]
    told = refused(
        opened, {"c.csv": "customer_id,acquired_on,consent_marketing\n" + "\n".join(rows)}, "customers: c.csv"
    )
    assert "recode: {consent_marketing: {theirs: yes}}" in told


@pytest.mark.parametrize(
    "name", ["氏名", "顧客名", "メールアドレス", "住所", "携帯番号", "성명", "이메일", "주소", "주민등록번호"]
)
def test_identifiers_are_known_by_japanese_and_korean_names(opened, name):
    files = {"s.csv": f"customer_id,income,{name}\na,5,x\nb,6,y\n"}
    assert "a direct identifier" in refused(opened, files, "snapshot: s.csv")


@pytest.mark.parametrize(("code", "scale"), [(9, 5), (8, 5), (9, 4), (8, 3)])
def test_codes_just_above_a_short_scale_are_found_and_the_advice_works(opened, code, scale):
    rows = [
        f"c{k:02d},yes,yes,{1 + k % scale},{code if k % 6 == 0 else 1 + k % scale},{1 + k % scale}" for k in range(60)
    ]
    files = {"s.csv": "customer_id,sampled,responded,q1,q2,q3\n" + "\n".join(rows) + "\n"}
    bank = described(opened, files, "")
    told = " ".join(" ".join(understood.report(bank, str(opened.folder))[0]).split())
    advised = re.search(r"missing: {q2: \[\d\]}", told)[0]
    assert str(code) in advised
    assert understood.report(described(opened, files, f", {advised}"), str(opened.folder))[1] == 0


def described(opened, files, more) -> Bank:
    """Open a survey with a model of two constructs."""
    opened(files, "survey: s.csv")
    model = "constructs: {sat: [q1, q2], loy: [q3]}\npaths: [[sat, loy]]\n"
    (opened.folder / "bank.yaml").write_text(f"{FACTS}{model}tables: {{survey: {{file: s.csv{more}}}}}\n", "utf-8")
    return open_bank(opened.folder)
