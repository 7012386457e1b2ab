"""Describing a bank: foreign files load as what they mean, or are refused in one line whose remedy works."""

from __future__ import annotations

import datetime

import duckdb
import pandas as pd
import pytest
import yaml

from crmresearch.data.bank import open_bank
from crmresearch.data.loading import made_missing
from crmresearch.data.sources.names import find
from crmresearch.errors import InputError

FACTS = "name: own\ncurrency: EUR\nevidence: simulated\nobservation_start: 2020-01-01\nobservation_end: 2021-12-31\n"
UNDATED = "name: own\ncurrency: EUR\nevidence: simulated\ndated: false\n"
CUSTOMERS = "customer_id,acquired_on,left_on\na,2020-05-13,\nb,2020-06-01,2021-03-01\n"
SURVEY = "customer_id,sampled,responded,sat1,sat2,sat3\na,true,true,10,9,98\nb,true,true,99,8,3\nc,true,true,3,98,7\n"


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """Write files and a description, and open them."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def opened(tables, facts=FACTS, **files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "bank.yaml").write_text(f"{facts}tables:\n  {tables}\n", "utf-8")
        return open_bank(tmp_path)

    opened.folder = tmp_path
    return opened


def column(bank, table, name):
    values = bank.frame(f'SELECT "{name}" FROM {table} ORDER BY rowid')[name]
    return [None if pd.isna(v) else v for v in values]


# --- text as it is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text", "declared"),
    [
        ("utf-8-sig", '"customer_id","acquired_on"\n"a","2020-05-13"\n', "utf-8"),
        ("utf-8-sig", "customer_id,acquired_on\na,2020-05-13\n", "utf-8"),
        ("utf-16", '"customer_id","acquired_on"\n"a","2020-05-13"\n', "utf-16"),
        ("gb18030", '\ufeff"customer_id","acquired_on"\n"a","2020-05-13"\n', "gb18030"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_name(bank, encoding, text, declared):
    found = bank(f"customers: {{file: c.csv, encoding: {declared}}}", c__csv=text.encode(encoding))
    assert column(found, "customers", "customer_id") == ["a"]


@pytest.mark.parametrize(
    ("recode", "expected"),
    [
        ("{J: yes, N: no}", ["yes", "no"]),
        ("{J: true, N: false}", ["yes", "no"]),
        ("{J: Yes, N: 'no'}", "recode to 'Yes', which the contract does not know; did you mean 'yes'"),
        ("{J: not recorded, N: no}", ["not recorded", "no"]),
    ],
)
def test_yes_and_no_of_yaml_are_words_of_the_bank(bank, recode, expected):
    files = {"c__csv": "customer_id,acquired_on,consent_marketing\na,2020-05-13,J\nb,2020-05-13,N\n"}
    line = f"customers: {{file: c.csv, recode: {{consent_marketing: {recode}}}}}"
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            bank(line, **files)
    else:
        assert column(bank(line, **files), "customers", "consent_marketing") == expected


@pytest.mark.parametrize("recode", ["{yes: yes, no: no}", "{yes: true, no: false}", "{yes: 1, no: 0}"])
def test_flags_take_yaml_booleans(bank, recode):
    survey = "customer_id,sampled,responded\na,yes,yes\nb,yes,no\n"
    found = bank(f"survey: {{file: s.csv, recode: {{responded: {recode}}}}}", s__csv=survey)
    assert column(found, "survey", "responded") == [True, False]


MALFORMED = {
    "constructs: [a, b]": "constructs must look like this: constructs: {satisfaction: [sat1, sat2]}",
    "constructs: {x: a}": "constructs must look like this: constructs: {satisfaction: [sat1, sat2]}",
    "constructs: {x: {mode: A}}": "items of construct x must look like this",
    "constructs: {x: {items: [sat1, sat2], mode: C}}": "mode of construct x must look like this: mode: A",
    "constructs: {x: {items: [sat1, sat2], scale: [1]}}": "scale of construct x must look like this: scale: [1, 10]",
    "constructs: {x: {items: [sat1, sat2], reversed: [sat9]}}": "reversed of construct x names 'sat9': did you mean",
    "reversed: [sat3]": "reversed names 'sat3', an item of no construct",
    "paths: [a, b]": "paths must look like this: paths: [[satisfaction, loyalty]]",
    "paths: [[a, b, c]]": "paths must look like this",
    "covered: {customers: 2022-01-01}": "covered must look like this: covered: {transactions: [2022-01-01",
    "covered: {customers: [2022-01-01]}": "covered must look like this",
    "covered: {customers: [2022-01-01, 2022-02-30]}": "covered of customers must be a date such as",
    "cannot_answer: why people leave": "cannot_answer must look like this",
    "dated: perhaps": "dated must look like this: dated: false",
    "currency: [EUR]": "currency must look like this",
}


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_key_is_one_line_with_its_shape(bank, line):
    facts = FACTS.replace("currency: EUR\n", "") if "currency" in line else FACTS
    with pytest.raises(InputError) as error:
        bank("customers: c.csv", facts + line + "\n", c__csv=CUSTOMERS)
    assert MALFORMED[line] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tables", ["tables: [customers]", "tables: customers.csv", "tables: {customers: 3.5}"])
def test_tables_are_a_mapping(tmp_path, tables):
    (tmp_path / "bank.yaml").write_text(FACTS + tables, "utf-8")
    with pytest.raises(InputError, match=r"tables must look like this|customers: 3\.5 does not exist"):
        open_bank(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("columns: [a, b]", "columns of table customers must look like this: columns: {ours: theirs}"),
        ("recode: {left_on: x}", "recode of table customers must look like this"),
        ("missing: 99", "missing of table customers must look like this: missing: [98, 99]"),
        ("sep: ';;'", "sep of table customers must look like this"),
        ("constants: [a]", "constants of table customers must look like this"),
        ("timezone: [a]", "timezone of table customers must look like this"),
    ],
)
def test_a_malformed_key_of_a_table_is_one_line_with_its_shape(bank, line, message):
    with pytest.raises(InputError) as error:
        bank(f"customers: {{file: c.csv, {line}}}", c__csv=CUSTOMERS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sep", ["'\\t'", '"\\t"'])
def test_a_tab_is_a_tab_however_it_is_quoted(bank, sep):
    found = bank(f"customers: {{file: c.csv, sep: {sep}}}", c__csv=CUSTOMERS.replace(",", "\t"))
    assert column(found, "customers", "customer_id") == ["a", "b"]


@pytest.mark.parametrize(
    ("file", "content"),
    [("c.duckdb", b"x" * 500), ("c.parquet", b"PAR1" + b"x" * 500), ("c.sqlite", b"SQLite format 3\0" + b"x" * 500)],
)
def test_a_corrupt_file_is_one_line(bank, file, content):
    table = "" if file == "c.parquet" else ", table: t"
    with pytest.raises(InputError, match=f"{file} is damaged, or locked by another program") as error:
        bank(f"customers: {{file: {file}{table}}}", **{file.replace(".", "__"): content})
    assert "1 problem:" in str(error.value)


def test_a_locked_database_is_one_line(bank):
    with duckdb.connect(str(bank.folder / "c.duckdb")) as open_elsewhere:
        open_elsewhere.execute("CREATE TABLE t AS SELECT 'a' AS customer_id")
        with pytest.raises(InputError, match=r"c\.duckdb is damaged, or locked by another program"):
            bank("customers: {file: c.duckdb, table: t}")


def test_a_bank_without_dates_brings_no_dates(bank):
    spells = "customer_id,entry_months,exit_months,event\na,0,5,true\n"
    assert bank("spells: s.csv", UNDATED, s__csv=spells).rows("spells") == 1
    assert bank("survey: s.csv", UNDATED, s__csv=SURVEY).rows("survey") == 3
    for table, text in {
        "customers": CUSTOMERS,
        "transactions": "customer_id,occurred_on,amount\na,2020-05-13,1.0\n",
        "survey": "customer_id,wave_on,sampled,responded\na,2020-05-13,true,true\n",
    }.items():
        with pytest.raises(InputError, match=rf"{table}\.\w+: a date, but bank.yaml says dated: false"):
            bank(f"{table}: t.csv", UNDATED, t__csv=text)
    with pytest.raises(InputError, match="dated: false has no observation_start"):
        bank("spells: s.csv", FACTS + "dated: no\n", s__csv=spells)


# --- what values mean -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared",
    [
        "missing: [98, 99]",
        "missing: {sat1: [99], sat2: [98], sat3: ['98']}",
        "recode: {sat1: {'98': null, '99': null}, sat2: {98: null}, sat3: {98: null}}",
        "columns: {sat1: sat1, sat2: sat2, sat3: sat3}, missing: [98, 99]",
    ],
)
@pytest.mark.parametrize("form", ["csv", "gaps", "parquet"])
def test_codes_can_be_declared_missing_and_are_counted(bank, declared, form):
    text = SURVEY
    if form == "gaps":  # as pandas writes whole numbers with gaps
        text = text.replace(",98", ",98.0").replace(",99", ",99.0")
    (bank.folder / "s.csv").write_text(text)
    if form == "parquet":
        pd.read_csv(bank.folder / "s.csv").astype({"sat1": float}).to_parquet(bank.folder / "s.parquet")
    file = "s.parquet" if form == "parquet" else "s.csv"
    found = bank(f"survey: {{file: {file}, {declared}}}")
    assert column(found, "survey", "sat1") == [10, None, 3]
    assert column(found, "survey", "sat2") == [9, 8, None]
    assert column(found, "survey", "sat3") == [None, 3, 7]
    assert made_missing(find(bank.folder)) == {"survey": {"sat1": 1, "sat2": 1, "sat3": 1}}


def test_codes_of_a_table_leave_its_ids(bank):
    survey = "customer_id,sampled,responded,sat1\n98,true,true,98\n99,true,true,5\n"
    found = bank("survey: {file: s.csv, missing: [98, 99]}", s__csv=survey)
    assert column(found, "survey", "customer_id") == ["98", "99"]
    assert column(found, "survey", "sat1") == [None, 5]


@pytest.mark.parametrize(
    ("recode", "expected"),
    [
        ("{10: 10, 98: 5, 99: 5, 3: 3}", [10, 5, 3]),
        ("{10: high, 99: none, 3: low}", ["high", "none", "low"]),
        ("{10: 1.5, 99: null, 3: 0.5}", [1.5, None, 0.5]),
        ("{10: 10, 3: 3}", "sat1 holds values without a recoding (1 row: 2)"),
    ],
)
def test_own_columns_are_recoded_completely(bank, recode, expected):
    for mapped in ("", "columns: {sat1: sat1}, "):
        line = f"survey: {{file: s.csv, {mapped}recode: {{sat1: {recode}}}}}"
        if isinstance(expected, str):
            with pytest.raises(InputError) as error:
                bank(line, s__csv=SURVEY)
            assert expected in str(error.value)
        else:
            assert column(bank(line, s__csv=SURVEY), "survey", "sat1") == expected


@pytest.mark.parametrize("key", ["recode: {sat4: {1: 2}}", "missing: {sat4: [99]}", "decimal: {sat4: ','}"])
def test_a_key_for_a_column_that_is_not_there_is_refused(bank, key):
    with pytest.raises(InputError, match="names no column; did you mean 'sat"):
        bank(f"survey: {{file: s.csv, {key}}}", s__csv=SURVEY)


@pytest.mark.parametrize(
    ("facts", "table"),
    [
        ("constructs: {satisfaction: {items: [sat1, sat2, sat3], reversed: [sat3], mode: B, scale: [1, 10]}}\n", ""),
        ("constructs: {satisfaction: {items: [sat1, sat2, sat3], mode: B, scale: [1, 10]}}\nreversed: [sat3]\n", ""),
        ("constructs: {satisfaction: {items: [sat1, sat2, sat3], mode: B, scale: [1, 10]}}\n", ", reversed: [sat3]"),
    ],
)
def test_reversed_items_mode_and_scale_are_declared(bank, facts, table):
    from crmresearch.studies import loyalty

    about = bank(f"survey: {{file: s.csv{table}}}", FACTS + facts, s__csv=SURVEY).about
    model = loyalty.declared_model(about.constructs, about.paths)
    assert model.items == ("sat1", "sat2", "sat3")
    assert list(model.reversed_items) == ["sat3"]
    assert model.modes == {"satisfaction": "B"}
    assert model.ends("satisfaction") == (1, 10)


# --- dates and numbers ------------------------------------------------------------------------------------------------

TRANSACTIONS = "customer_id;occurred_on;amount;weight\n"


@pytest.mark.parametrize(
    ("amounts", "key", "expected"),
    [
        (("1.250", "12.500", "980"), "decimal: ','", [1250, 12500, 980]),
        (("1.250", "12.500", "980"), "decimal: '.'", [1.25, 12.5, 980]),
        (("1.250", "12.500", "980"), "decimal: {amount: ','}", [1250, 12500, 980]),
        (("1.250,50", "-12,5", "0"), "decimal: ','", [1250.5, -12.5, 0]),
        (("1,250.50", "12,500", "7"), "thousands: ','", [1250.5, 12500, 7]),
        (("1'250.50", "12'500", "7.1"), 'thousands: "\'"', [1250.5, 12500, 7.1]),
        (("1 250,50", "12 500", "7,1"), "decimal: ',', thousands: ' '", [1250.5, 12500, 7.1]),
        (("1.250", "12.500", "0.5"), "", [1.25, 12.5, 0.5]),
        (("1250", "125", "12"), "", [1250, 125, 12]),
        (("1.250", "12.500", "980"), "", "amount reads in two ways: 1.250 may be 1.25 or 1250"),
        (("1.250", "", "-1.000"), "", "amount reads in two ways"),
        (("1.250.000", "1.250", "3"), "", "declare decimal: ','"),
        (("12.50", "1.250", "3"), "decimal: ','", r"amount must be an amount of money.*\(1 row: 1\)"),
        (("1.5", "2.5"), "decimal: ab", "decimal must be a point or a comma"),
        (("1.5", "2.5"), "decimal: '.', thousands: '.'", "decimal must be a point or a comma"),
        (("1.5", "2.5"), "thousands: x", "decimal must be a point or a comma"),
        (("1,250", "9,100", "3"), "", r"decimal: ',' \(if 1,250 is 1.25\) or thousands: ',' \(if it is 1250\)"),
        (("12,50", "1,250", "3"), "", r"amount must be an amount of money.*\(2 rows: 1, 2\).*declare decimal: ','"),
    ],
)
def test_marks_of_numbers_are_declared_or_refused_where_they_read_two_ways(bank, amounts, key, expected):
    amounts = [a for a in amounts if a]
    text = "customer_id;occurred_on;amount\n" + "".join(f"a;2020-05-13;{a}\n" for a in amounts)
    line = f"transactions: {{file: t.csv, sep: ';'{key and f', {key}'}}}"
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            bank(line, t__csv=text)
    else:
        assert column(bank(line, t__csv=text), "transactions", "amount") == expected


def test_own_columns_follow_the_declared_marks(bank):
    text = "customer_id;income;note\na;1.250,5;Bern, 3\nb;12.500;x.y\n"
    found = bank("snapshot: {file: s.csv, sep: ';', decimal: ','}", s__csv=text)
    assert column(found, "snapshot", "income") == [1250.5, 12500]
    assert column(found, "snapshot", "note") == ["Bern, 3", "x.y"]
    with pytest.raises(InputError, match=r"snapshot\.income: income reads in two ways"):
        bank("snapshot: {file: s.csv, sep: ';'}", s__csv="customer_id;income\na;1.250\nb;12.500\n")


@pytest.mark.parametrize(("hours", "read"), [(8, True), (-5, True), (5.5, False), (0, False)])
def test_an_offset_of_whole_hours_is_a_zone_and_another_asks_for_one(bank, hours, read):
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    days = pd.to_datetime(["2020-05-13 00:30", "2020-06-01 23:30"]).tz_localize(zone)
    pd.DataFrame({"customer_id": ["a", "b"], "acquired_on": days}).to_parquet(bank.folder / "c.parquet")
    if read:
        expected = [pd.Timestamp("2020-05-13"), pd.Timestamp("2020-06-01")]
        assert column(bank("customers: c.parquet"), "customers", "acquired_on") == expected
    else:
        with pytest.raises(InputError, match=r"times with a zone.*declare timezone"):
            bank("customers: c.parquet")


@pytest.mark.parametrize("form", ["%Q", "%d.%K.%Y", "%J"])
def test_a_format_of_dates_that_is_none_is_named(bank, form):
    with pytest.raises(InputError, match="date_format cannot be read"):
        bank(f"customers: {{file: c.csv, date_format: '{form}'}}", c__csv=CUSTOMERS)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Europe/Berlin"])
def test_days_are_those_of_the_zone_in_every_kind_of_file(bank, zone):
    local = pd.to_datetime(["2020-05-13", "2020-06-01"]).tz_localize(zone)
    frame = pd.DataFrame({"customer_id": ["a", "b"], "acquired_on": local})
    expected = [pd.Timestamp("2020-05-13"), pd.Timestamp("2020-06-01")]
    utc = frame.assign(acquired_on=local.tz_convert("UTC"))
    frame.to_parquet(bank.folder / "local.parquet")
    utc.to_parquet(bank.folder / "utc.parquet")
    frame.assign(acquired_on=[t.isoformat() for t in local]).to_csv(bank.folder / "local.csv", index=False)
    utc.assign(acquired_on=utc["acquired_on"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_csv(
        bank.folder / "utc.csv", index=False
    )
    (bank.folder / "days.csv").write_text("customer_id,acquired_on\na,2020-05-13\nb,2020-06-01\n")
    for file in ("local.parquet", "local.csv", "days.csv"):
        assert column(bank(f"customers: {file}"), "customers", "acquired_on") == expected, file
    for file in ("local.parquet", "utc.parquet", "local.csv", "utc.csv", "days.csv"):
        found = bank(f"customers: {{file: {file}, timezone: {zone}}}")
        assert column(found, "customers", "acquired_on") == expected, file
    for file in ("utc.parquet", "utc.csv"):
        with pytest.raises(InputError, match="timezone"):
            bank(f"customers: {file}")


@pytest.mark.parametrize("zone", ["Asia/Shanghay", "Mars", "'+08'"])
def test_an_unknown_time_zone_is_refused(bank, zone):
    with pytest.raises(InputError, match=r"customers: there is no time zone"):
        bank(f"customers: {{file: c.csv, timezone: {zone}}}", c__csv=CUSTOMERS)


@pytest.mark.parametrize(
    ("sentinel", "form", "declared"),
    [
        ("9999-12-31", "", "missing: {left_on: [9999-12-31]}"),
        ("31.12.9999", "date_format: '%d.%m.%Y'", "missing: {left_on: [9999-12-31]}"),
        ("31.12.9999", "date_format: '%d.%m.%Y'", "missing: {left_on: [31.12.9999]}"),
        ("2999-01-01", "", "missing: [2999-01-01]"),
        ("0000-00-00", "", "missing: {left_on: [0000-00-00]}"),
        ("1900-01-01", "", "missing: {left_on: [1900-01-01]}"),
    ],
)
def test_a_date_that_means_none_can_be_declared(bank, sentinel, form, declared):
    first = "13.05.2020" if form else "2020-05-13"
    text = f"customer_id,acquired_on,left_on\na,{first},{sentinel}\n"
    with pytest.raises(InputError, match=r"customers\.left_on.*missing: \{left_on: \["):
        bank(f"customers: {{file: c.csv, {form or 'encoding: utf-8'}}}", c__csv=text)
    found = bank(f"customers: {{file: c.csv, {form or 'encoding: utf-8'}, {declared}}}", c__csv=text)
    assert column(found, "customers", "left_on") == [None]


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "name", "key", "expected"),
    [
        (("EUR", "EUR", "EUR"), "ccy", "", [1000, 1000, 1000]),
        (("EUR", "JPY", "USD"), "ccy", "currency: {column: ccy, rates: {USD: 0.9, JPY: 0.006}}", [1000, 6, 900]),
        (("Fr.", "EUR", "EUR"), "Geld", "currency: {column: Geld, rates: {Fr.: 1.05}}", [1050, 1000, 1000]),
        (("EUR", "JPY", "USD"), "currency", "", r"without a rate: JPY, USD \(2 rows: 2, 3\).*rates: \{JPY: …"),
        (("EUR", "", "EUR"), "CCY", "", r"without a rate: none \(1 row: 2\)"),
        (("EUR", "JPY", "USD"), "币种", "currency: {rates: {USD: 0.9}}", r"without a rate: JPY \(1 row: 2\)"),
        (("EUR", "JPY", "USD"), "Divisa", "", r"without a rate: JPY, USD"),
        (("EUR", "EUR", "USD"), "curr_code", "", r"without a rate: USD"),
        (("EUR", "EUR", "USD"), "monnaie", "", r"without a rate: USD"),
        (("EUR", "EUR", "USD"), "ccy", "currency: {rates: {USD: 0}}", "the rate of USD must be a number above 0"),
        (("EUR", "EUR", "USD"), "ccy", "currency: {rates: {USD: '0,9'}}", "the rate of USD must be a number above 0"),
        (("EUR", "EUR", "USD"), "ccy", "currency: {rates: {USD: inf}}", "the rate of USD must be a number above 0"),
        (("EUR", "JPY", "USD"), "ccy", "currency: {column: cci}", "has no column 'cci'; did you mean 'ccy'"),
    ],
)
def test_amounts_of_several_currencies_are_converted_or_refused(bank, codes, name, key, expected):
    text = f"customer_id,occurred_on,amount,{name}\n" + "".join(f"a,2020-05-13,1000,{c}\n" for c in codes)
    line = f"transactions: {{file: t.csv, sep: ','{key and f', {key}'}}}"
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            bank(line, t__csv=text)
    else:
        assert column(bank(line, t__csv=text), "transactions", "amount") == expected


# --- constants, several files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "text", "constants", "column_name", "expected"),
    [
        ("survey", "customer_id,sat1\na,3\n", "{sampled: true, responded: true}", "sampled", [True]),
        ("spells", "customer_id,exit_months,event\na,3,1\n", "{entry_months: 0}", "entry_months", [0]),
        (
            "contacts",
            "customer_id,contacted_on\na,2020-05-13\n",
            "{purpose: retain, campaign_id: x, arm: call, randomised: no, channel: mail, cost: 1.5}",
            "cost",
            [1.5],
        ),
    ],
)
def test_a_column_may_be_a_constant(bank, table, text, constants, column_name, expected):
    found = bank(f"{table}: {{file: t.csv, constants: {constants}}}", t__csv=text)
    assert column(found, table, column_name) == expected
    frame = pd.read_csv(bank.folder / "t.csv", dtype={"customer_id": str})
    frame.to_parquet(bank.folder / "t.parquet")
    found = bank(f"{table}: {{file: t.parquet, constants: {constants}}}")
    assert column(found, table, column_name) == expected


@pytest.mark.parametrize("form", ["csv", "parquet", "folder", "other encoding"])
def test_a_table_may_come_in_parts(bank, form):
    parts = bank.folder / "parts"
    parts.mkdir()
    frame = pd.DataFrame({"customer_id": list("abcd"), "acquired_on": ["2020-01-0" + c for c in "1234"]})
    halves = [frame.iloc[:2], frame.iloc[2:][["acquired_on", "customer_id"]]]  # columns in another order
    for i, half in enumerate(halves):
        if form in ("csv", "other encoding"):
            half.to_csv(parts / f"p{i}.csv", index=False)
        else:
            half.to_parquet(parts / f"p{i}.parquet")
    (parts / "_SUCCESS").write_text("")
    names = {"folder": "parts", "parquet": "[parts/p0.parquet, parts/p1.parquet]"}
    file = names.get(form, "[parts/p0.csv, parts/p1.csv]")
    more = ", encoding: utf-16" if form == "other encoding" else ""
    if more:
        for i in range(2):
            (parts / f"p{i}.csv").write_bytes((parts / f"p{i}.csv").read_text().encode("utf-16"))
    found = bank(f"customers: {{file: {file}{more}}}")
    assert column(found, "customers", "customer_id") == list("abcd")
    assert column(found, "customers", "acquired_on")[3] == pd.Timestamp(2020, 1, 4)


@pytest.mark.parametrize("form", ["parquet", "csv", "one part alone"])
def test_partitions_are_columns_that_stand_in_names_of_folders(bank, form):
    for folder, ids in {"acquired_on=2020-05-13/city_id=A%2FB": "ab", "acquired_on=2020-06-01/city_id=C": "c"}.items():
        part = bank.folder / "parts" / folder
        part.mkdir(parents=True)
        frame = pd.DataFrame({"customer_id": list(ids)})
        frame.to_csv(part / "p.csv", index=False) if form == "csv" else frame.to_parquet(part / "p.parquet")
    found = bank("customers: parts/acquired_on=2020-06-01" if form == "one part alone" else "customers: parts")
    assert column(found, "customers", "customer_id") == list("abc")[-found.rows("customers") :]
    assert column(found, "customers", "city_id") == ["A/B", "A/B", "C"][-found.rows("customers") :]
    assert column(found, "customers", "acquired_on")[-1] == pd.Timestamp(2020, 6, 1)


def test_a_partition_may_have_no_value(bank):
    part = bank.folder / "parts" / "city_id=__HIVE_DEFAULT_PARTITION__"
    part.mkdir(parents=True)
    (part / "p.csv").write_text(CUSTOMERS)
    assert column(bank("customers: parts"), "customers", "city_id") == [None, None]


def test_parts_with_other_columns_are_refused(bank):
    files = {"a__csv": CUSTOMERS, "b__csv": "customer_id,since\nc,2020-05-13\n"}
    with pytest.raises(InputError, match=r"b\.csv has no column 'acquired_on', which a\.csv has"):
        bank("customers: [a.csv, b.csv]", **files)
    with pytest.raises(InputError, match=r"c\.csv does not exist"):
        bank("customers: {file: [a.csv, c.csv]}", **files)


def test_the_shapes_are_those_of_a_file_that_yaml_reads(example):
    """The example's dates, read as text, are the dates YAML itself reads."""
    about = open_bank(example).about
    said = yaml.safe_load((example / "bank.yaml").read_text("utf-8"))
    assert about.observation_end == said["observation_end"] == datetime.date(2023, 12, 31)
    assert about.constructs == said["constructs"]
