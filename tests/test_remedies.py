"""Every report advises what works: what it says to declare is declared, word for word, and the bank loads."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import open_bank
from crmresearch.data.reductions import loyalty as loyalty_frames
from crmresearch.data.sources import shapes
from crmresearch.errors import InputError
from crmresearch.studies import loyalty
from test_reading import FACTS

BANK = ("constructs", "paths", "covered", "dated", "cannot_answer", "reversed", "tolerance_days", "refused", "unlinked")
CUSTOMERS = "customer_id,acquired_on\na,2020-05-13\nb,2020-06-01\n"
MOVES = "customer_id,occurred_on,amount\n"
SURVEY = "customer_id,sampled,responded,sat1,sat2,loy1\na,yes,yes,3,4,5\nb,yes,yes,4,5,6\n"


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """Write one table and a description, and open them."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def opened(table, content, spec="", more="", file="t.csv"):
        if isinstance(content, pd.DataFrame):
            content.to_parquet(tmp_path / file)
        else:
            (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        text = f"{FACTS}{more}tables:\n  {table}: {{file: {file}{spec}}}\n"
        (tmp_path / "bank.yaml").write_text(text, "utf-8")
        return open_bank(tmp_path)

    return opened


def advised(error):
    """Return the first ``key: value`` that a report advises, with its brackets and quotes."""
    text = str(error.value).split("Row 1 is")[0]
    text = text.split("Try: ")[1] if "Try: " in text else text.split("must look like this: ")[1]
    start = re.search(rf"\b({'|'.join({*shapes.TABLE, *shapes.BANK})}): ", text)
    value, depth, within = "", 0, ""
    for sign in text[start.end() :]:
        within = "" if sign == within else sign if sign in "'\"" and not within else within
        depth += (sign in "[{") - (sign in "]}") if not within else 0
        if not within and (depth < 0 or (depth == 0 and sign in " ,)\n")):
            break
        value += sign
    return start[1], value


def sheets():
    """Write a workbook with a sheet of customers and another one."""
    out = io.BytesIO()
    with pd.ExcelWriter(out) as book:
        pd.read_csv(io.StringIO(CUSTOMERS)).to_excel(book, sheet_name="Kunden", index=False)
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="Notizen", index=False)
    return out.getvalue()


SHEETS = sheets()
UTC = pd.DataFrame({"customer_id": ["a"], "acquired_on": pd.to_datetime(["2020-05-12 16:00"]).tz_localize("UTC")})
CASES = {
    "codes for none among dates": ("customers", "customer_id,acquired_on,left_on\na,2020-05-13,9999-12-31\n", "", {}),
    "a date before all": ("customers", "customer_id,acquired_on,left_on\na,2020-05-13,1900-01-01\n", "", {}),
    "no date": (
        "customers",
        "customer_id,acquired_on,left_on\na,2020-05-13,0000-00-00\nb,2020-06-01,2021-01-01\n", "", {}),
    "German dates": ("customers", "customer_id,acquired_on\na,13.05.2020\n", "", {}),
    "numbers that read in two ways": ("transactions", MOVES + "a,2020-05-13,1.250\na,2020-05-14,980\n", "", {}),
    "German numbers": ("transactions", MOVES.replace(",", ";") + "a;2020-05-13;1.250,50\n", ", sep: ';'", {}),
    "English numbers": ("transactions", MOVES.replace(",", ";") + "a;2020-05-13;1,250.50\n", ", sep: ';'", {}),
    "Swiss numbers": ("transactions", MOVES + "a,2020-05-13,1'250.50\n", "", {}),
    "blanks between thousands": (
        "transactions", MOVES.replace(",", ";") + "a;2020-05-13;1 250,50\n", ", decimal: ',', sep: ';'", {}),
    "narrow blanks between thousands": (
        "transactions", MOVES.replace(",", ";") + "a;2020-05-13;1\u202f250,50\n", ", decimal: ',', sep: ';'", {}),
    "money with its sign": (
        "transactions", MOVES.replace(",", ";") + "a;2020-05-13;1.250,50 €\na;2020-05-14;-3 EUR\n", ", sep: ';'", {}),
    "a minus behind the number": (
        "transactions", MOVES.replace(",", ";") + "a;2020-05-13;1.250,50-\na;2020-05-14;3,00\n", ", sep: ';'", {}),
    "brackets for a minus": ("transactions", MOVES + "a,2020-05-13,(1250.50)\na,2020-05-14,3.00\n", "", {}),
    "an exit without a cause": (
        "customers",
        "customer_id,acquired_on,left_on,exit_cause\na,2020-05-13,2020-06-01,\nb,2020-05-13,,\n", "", {}),
    "a cause without an exit": (
        "customers",
        "customer_id,acquired_on,left_on,exit_cause\na,2020-05-13,,death\nb,2020-05-13,2020-06-01,death\n", "", {}),
    "an unknown cause": (
        "customers", "customer_id,acquired_on,left_on,exit_cause\na,2020-05-13,2020-06-01,theirs\n", "", {}),
    "consent that nobody asked for": (
        "customers", "customer_id,acquired_on,consent_analysis\na,2020-05-13,\nb,2020-05-13,yes\n", "", {}),
    "consent to marketing that nobody asked for": (
        "customers", "customer_id,acquired_on,consent_marketing\na,2020-05-13,no\nb,2020-05-13,\n", "", {}),
    "consent in another word": ("customers", "customer_id,acquired_on,consent_analysis\na,2020-05-13,theirs\n", "", {}),
    "their own referrer": ("customers", "customer_id,acquired_on,referrer_id\na,2020-05-13,a\n", "", {}),
    "a customer who was not won": (
        "prospects",
        "prospect_id,channel,first_contact_on,spend,won,customer_id\np,x,2020-05-13,1,no,a\nq,x,2020-05-13,1,yes,b\n",
        "", {}),
    "an answer without a question": ("survey", SURVEY.replace("a,yes,yes", "a,no,yes"), "", {}),
    "months by their last day": ("monthly", "customer_id,month,balance\na,2020-05-31,3\na,2020-04-30,3\n", "", {}),
    "an Excel file of two sheets": ("customers", SHEETS, "", {"file": "t.xlsx"}),
    "a separator that is none": ("customers", CUSTOMERS, ", sep: ';'", {}),
    "tabs between columns": ("customers", CUSTOMERS.replace(",", "\t"), "", {}),
    "a Chinese file": ("customers", CUSTOMERS.replace("a,", "张,").encode("gb18030"), "", {}),
    "a German file": ("customers", CUSTOMERS.replace("a,", "ä,").encode("cp1252"), "", {}),
    "a Chinese header": (
        "customers", "customer_id,acquired_on,备注\na,2020-05-13,好\nb,2020-06-01,好\n".encode("gbk"), "", {}),
    "German flags": ("survey", SURVEY.replace("yes,yes", "ja,yes"), "", {}),
    "times in UTC": ("customers", UTC, "", {"file": "t.parquet"}),
    "an identifier": ("snapshot", "customer_id,Surname,income\na,x,3\n", "", {}),
    "an identifier by value": ("snapshot", "customer_id,note,income\na,a@b.de,3\n", "", {}),
    "another separator": ("customers", CUSTOMERS.replace(",", ";"), "", {}),
    "a row before its day": ("survey", SURVEY, "", {"more": "constructs: {sat: [sat1, sat2]}\npaths: [a, b]\n"}),
    "constructs as a list": ("survey", SURVEY, "", {"more": "constructs: [a, b]\n"}),
    "a construct as a text": ("survey", SURVEY, "", {"more": "constructs: {x: a}\n"}),
    "covered by one day": ("transactions", MOVES + "a,2020-05-13,1.5\n", "", {"more": "covered: {transactions: 1}\n"}),
    "cannot_answer as a text": ("customers", CUSTOMERS, "", {"more": "cannot_answer: why\n"}),
    "columns as a list": ("customers", CUSTOMERS, ", columns: [a, b]", {}),
    "a code without a column": ("survey", SURVEY, ", missing: 99", {}),
    "two letters as a separator": ("customers", CUSTOMERS.replace(",", ";"), ", sep: ';;'", {}),
}  # fmt: skip
FILLED = {  # what stands for the reader's own words in an advice
    "{satisfaction: [sat1, sat2]}": "{satisfaction: [sat1, sat2], loyalty: [loy1]}",
    "[[satisfaction, loyalty]]": "[[sat, sat]]",
    "{ours: theirs}": "{customer_id: customer_id}",
    "{transactions: [2022-01-01, 2022-06-30]}": "{transactions: [2020-01-01, 2020-06-30]}",
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_report_advises_loads_when_it_is_declared(bank, case):
    table, content, spec, options = CASES[case]
    with pytest.raises(InputError) as error:
        bank(table, content, spec, **options)
    key, value = advised(error)
    value = FILLED.get(value, value)
    options = dict(options)
    if key in BANK:
        kept = re.sub(rf"(?m)^{key}: .*\n", "", options.get("more", ""))
        options["more"] = f"{kept}{key}: {value}\n"
        if case == "a row before its day":
            options["more"] = "constructs: {sat: [sat1, sat2], loy: [loy1]}\npaths: [[sat, loy]]\n"
    else:
        spec = re.sub(rf", {key}: ('.*?'|\[.*?\]|[^,}}]+)", "", spec) + f", {key}: {value}"
    assert bank(table, content, spec, **options).tables == (table,)


@pytest.mark.parametrize(
    ("table", "column", "values", "spec", "read"),
    [
        ("markets", "own_share", ("12.5%", "7%", "3 %"), "", [0.125, 0.07, 0.03]),
        ("markets", "own_share", ("12,5%", "7%", "3%"), ", decimal: ','", [0.125, 0.07, 0.03]),
        ("markets", "own_share", ("12.5％", "7％", "100％"), "", [0.125, 0.07, 1]),
        ("transactions", "amount", ("1,200%", "7%", "3%"), ", decimal: '.'", [12, 0.07, 0.03]),
        ("transactions", "amount", ("1.2万", "300", "-3亿"), "", [12_000, 300, -300_000_000]),
        ("transactions", "amount", ("1,200万", "0.5万", "1亿"), "", [12_000_000, 5_000, 100_000_000]),
        ("transactions", "amount", ("30萬", "2億", "-1.5萬"), "", [300_000, 200_000_000, -15_000]),
        ("transactions", "amount", ("１２．５", "３", "－３"), "", [12.5, 3, -3]),
        ("transactions", "amount", ("１，２５０．５", "（３）", "4"), "", [1250.5, -3, 4]),
        ("transactions", "amount", ("１２５", "７", "０"), "", [125, 7, 0]),
        ("customers", "acquired_on", ("13.05.68", "31.12.19", "01.01.69"), "",
         ["1968-05-13", "2019-12-31", "1969-01-01"]),
        ("customers", "acquired_on", ("05/13/68", "01/31/20", "12/31/49"), "",
         ["1968-05-13", "2020-01-31", "1949-12-31"]),
        ("customers", "Kunde seit", ("13.05.22", "29.02.20", "01.12.55"), ", columns: {acquired_on: Kunde seit}",
         ["1922-05-13", "2020-02-29", "1955-12-01"]),
    ],
)  # fmt: skip
def test_what_is_advised_reads_the_values_that_were_meant(bank, table, column, values, spec, read):
    names, given = {
        "transactions": ("customer_id;occurred_on", "2020-05-13;"),
        "markets": ("city_id;month;tier;rival_branches", "2020-05-01;1;2;"),
        "customers": ("customer_id", ""),
    }[table]
    content = f"{names};{column}\n" + "".join(f"{w};{given}{v}\n" for w, v in zip("abc", values, strict=True))
    spec = f", sep: ';'{spec}"
    for _ in range(3):  # how dates are written comes first, then the century
        try:
            opened = bank(table, content, spec)
            break
        except InputError as error:
            key, value = advised(SimpleNamespace(value=error))
            assert f" {key}: {value}" not in spec
            spec = re.sub(r", columns: {.*?}", "", spec) if key == "derived" else spec
            spec += f", {key}: {value}"
    else:
        pytest.fail(spec)
    found = opened.frame(opened.table(table).order_by(names.split(";")[0]))
    found = found["acquired_on"].astype(str) if table == "customers" else found[column]
    assert found.tolist() == read


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (("EUR", "JPY", "USD"), "JPY, USD (2 rows: 2, 3)"),
        (("CHF", "CHF", "GBP"), "CHF, GBP (3 rows: 1, 2, 3)"),
        (("EUR", "", "CNY"), "CNY, none (2 rows: 2, 3)"),
        (("EUR", "Herr Meier, bar", "EUR"), "(texts that are no codes) (1 row: 2)"),
    ],
)
def test_currencies_without_a_rate_are_named_and_the_advice_loads_with_rates(bank, codes, said):
    text = "customer_id,occurred_on,amount,Devise\n" + "".join(f'a,2020-05-13,1000,"{c}"\n' for c in codes)
    with pytest.raises(InputError) as error:
        bank("transactions", text)
    assert f"amounts are in a currency without a rate: {said}" in str(error.value)
    assert "Meier" not in str(error.value)
    if "texts" not in said:
        key, value = advised(error)
        assert bank("transactions", text, f", {key}: {value.replace('…', '2')}").rows("transactions") == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\ncurrency: EUR\nname: b\n", "key 'name' stands at lines 1 and 3; keep one"),
        (FACTS + "tables:\n  survey: t.csv\n  monthly: m.csv\n  survey: u.csv\n", "'survey' stands at lines 7 and 9"),
        (FACTS + "tables:\n  survey:\n    file: t.csv\n    sep: ;\n    file: u\n", "'file' stands at lines 8 and 10"),
        (FACTS + "tables: {customers: {recode: {exit_cause: {1: death, 1: x}}}}\n", "key '1' stands at lines 6 and 6"),
    ],
)  # fmt: skip
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text, said):
    (tmp_path / "bank.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError) as error:
        open_bank(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# --- currencies of any name ------------------------------------------------------------------------------------------

PAID = "customer_id,occurred_on,amount,{}\na,2020-05-13,5.5,{}\nb,2020-05-14,7.5,{}\na,2020-05-15,2.5,{}\n"


@pytest.mark.parametrize("name", ["col7", "Kontowaehrung", "结算币", "k_3 b", "'s geld", "devise du compte"])
@pytest.mark.parametrize("codes", [("EUR", "USD", "EUR"), ("USD", " ", "JPY"), ("GBP", "GBP", "GBP")])
def test_a_column_of_currencies_is_found_by_its_values_and_either_advice_loads(bank, name, codes):
    content = PAID.format(name, *codes)
    with pytest.raises(InputError, match="holds codes of currencies") as error:
        bank("transactions", content)
    assert len(str(error.value).splitlines()) == 2
    key, value = advised(error)
    assert key == "currency"
    others = sorted({c for c in codes if c.strip()} - {"EUR"})
    assert re.findall(r"(\w+): …", value) == others
    rates = value.replace("…", "0.5") if " " not in codes else value.replace("…", "0.5").replace("}}", ", none: 1}}")
    found = bank("transactions", content, f", currency: {rates}")
    kept = [1 if c in ("EUR", " ") else 0.5 for c in codes]
    assert found.frame("SELECT amount FROM transactions ORDER BY occurred_on")["amount"].tolist() == [
        round(a * k, 2) for a, k in zip((5.5, 7.5, 2.5), kept, strict=True)
    ]
    dropped = re.search(r"drop: \[.+\]", str(error.value))[0]
    assert "amount" in bank("transactions", content, f", {dropped}").columns("transactions")


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("monthly", "customer_id,month,balance,x\na,2020-05-01,5,EUR\na,2020-06-01,6,CHF\n"),
        ("prospects", "prospect_id,channel,first_contact_on,spend,won,x\n"
                      "p,a,2020-05-01,5,no,CNY\nq,a,2020-05-01,5,no,HKD\n"),
        ("contacts", "customer_id,contacted_on,purpose,campaign_id,arm,randomised,channel,cost,x\n"
                     "a,2020-05-01,retain,k,a,no,letter,2,SEK\nb,2020-05-01,retain,k,a,no,letter,2,NOK\n"),
    ],
)  # fmt: skip
def test_every_table_with_amounts_is_looked_at_and_columns_of_ones_own_too(bank, table, content):
    for spec in ("", ", columns: {kind_of: x}"):
        with pytest.raises(InputError, match="holds codes of currencies"):
            bank(table, content, spec)


@pytest.mark.parametrize("codes", [("EUR", "EUR", "EUR"), ("ALL", "ALL", "ALL"), ("NOK", "OK", "NOK"), ("", "", "")])
def test_words_that_are_no_other_currency_are_let_pass(bank, codes):
    assert bank("transactions", PAID.format("x", *codes)).unread("transactions") == ("x",)


def test_a_currency_that_was_dropped_by_name_is_not_asked_for(bank):
    with pytest.raises(InputError, match="currency without a rate"):
        bank("transactions", PAID.format("Währung", "EUR", "USD", "EUR"))
    assert bank("transactions", PAID.format("Währung", "EUR", "USD", "EUR"), ", drop: [Währung]").rows("transactions")


def test_a_currency_goes_with_amounts_that_the_file_brings(bank):
    said = ", currency: {column: ccy, rates: {USD: 0.9}}"
    with pytest.raises(InputError, match="customers: has no amounts of money"):
        bank("customers", "customer_id,acquired_on,ccy\na,2020-05-13,USD\n", said)
    found = bank("customers", "customer_id,acquired_on,outside_estimate,ccy\na,2020-05-13,1000,USD\n", said)
    assert found.frame("SELECT outside_estimate FROM customers")["outside_estimate"].tolist() == [900]


@pytest.mark.parametrize("declared", [True, False])
def test_an_item_with_one_answer_is_left_out_as_advised(bank, declared):
    rng = np.random.default_rng(1)
    answers = pd.DataFrame(rng.integers(1, 11, (60, 6)), columns=["qual1", "qual2", "sat1", "sat2", "loy1", "loy2"])
    about = {"customer_id": [f"k{n}" for n in range(60)], "sampled": "yes", "responded": "yes", "sat3": 7}
    text = answers.assign(**about).to_csv(index=False)
    blocks = "constructs: {quality: [qual1, qual2], satisfaction: [sat1, sat2, sat3], loyalty: [loy1, loy2]}\n"

    def items(**ways):
        survey = loyalty_frames.survey(opened := bank("survey", text, **ways))
        model = loyalty.declared_model(opened.about.constructs, opened.about.paths, survey)
        return loyalty.prepare_items(survey, model)

    with pytest.raises(InputError, match="item sat3 has one answer in all 60 rows") as error:
        items(more=blocks if declared else "")
    key, value = advised(error)
    assert (key, value) == ("drop", "[sat3]")
    left = items(more=blocks.replace(", sat3", "")) if declared else items(spec=f", {key}: {value}")
    assert left.shape == (60, 6)
