"""Odd but honest files of others: each loads right, or is refused in one line whose advice, followed, loads."""

from __future__ import annotations

import re

import pandas as pd
import pytest

import test_remedies
from crmresearch.errors import InputError
from test_remedies import CUSTOMERS, MOVES, advised

bank = test_remedies.bank
MONTHS = "customer_id,month,balance\na,{},5\nb,{},7\n"


def days(found, table, column):
    return sorted(str(d)[:10] for d in found.frame(f"SELECT {column} FROM {table}")[column].dropna())


@pytest.mark.parametrize(
    ("june", "july"),
    [
        ("2020-06", "2020-07"), ("202006", "202007"), ("Jun 2020", "Jul 2020"), ("06/2020", "07/2020"),
        ("06.2020", "07.2020"), ("1-Jun-2020", "1-Jul-2020"), ("01.06.20", "01.07.20"),
        ("2020年6月1日", "2020年7月1日"),
    ],
)  # fmt: skip
def test_the_format_that_is_advised_is_the_one_dates_are_written_in(bank, june, july):
    content = MONTHS.format(june, july)
    with pytest.raises(InputError, match="must be a date") as error:
        bank("monthly", content)
    key, value = advised(error)
    assert key == "date_format"
    assert days(bank("monthly", content, f", {key}: {value}"), "monthly", "month") == ["2020-06-01", "2020-07-01"]


def test_both_formats_are_advised_where_day_and_month_may_be_either(bank):
    with pytest.raises(InputError, match=re.escape("date_format: {occurred_on: '%d/%m/%Y'} or '%m/%d/%Y'")):
        bank("transactions", MOVES + "a,03/04/2020,5\nb,05/06/2020,7\n")
    with pytest.raises(InputError, match=re.escape("date_format: {occurred_on: '%m/%d/%Y'})")):
        bank("transactions", MOVES + "a,03/14/2020,5\nb,05/06/2020,7\n")


@pytest.mark.parametrize("day", ["43964", "43964.5", "1589373000", "1589373000000"])  # Excel, and since 1970
@pytest.mark.parametrize("name", ["occurred_on", "Buchung am"])
def test_numbers_that_count_days_become_days(bank, day, name):
    content = MOVES.replace("occurred_on", name) + f"a,{day},5\nb,{day},7\n"
    mapped = "" if name == "occurred_on" else f", columns: {{occurred_on: '{name}'}}"
    with pytest.raises(InputError, match="the numbers count days") as error:
        bank("transactions", content, mapped)
    key, value = advised(error)
    found = bank("transactions", content, f", {key}: {value}")  # in the place of the entry under columns
    assert days(found, "transactions", "occurred_on") == ["2020-05-13"] * 2


@pytest.mark.parametrize("day", ["2999-12-31", "2099-12-31", "4712-12-31", "3000-01-01", "1753-01-01", "1601-01-01"])
def test_the_day_that_stands_for_none_is_the_one_that_is_advised(bank, day):
    content = f"customer_id,acquired_on,left_on\na,2020-05-13,{day}\nb,2020-06-01,2020-09-01\n"
    with pytest.raises(InputError, match="left_on must not be ") as error:
        bank("customers", content)
    key, value = advised(error)
    assert (key, value) == ("missing", f"{{left_on: [{day}]}}")
    assert days(bank("customers", content, f", {key}: {value}"), "customers", "left_on") == ["2020-09-01"]


@pytest.mark.parametrize(
    "names", [("Customer_ID", "ACQUIRED_ON"), ("customer id", "acquired_on"), ("CUSTOMER ID", "Acquired On")]
)
def test_columns_of_the_contract_in_other_letters_are_named(bank, names):
    content = CUSTOMERS.replace("customer_id", names[0]).replace("acquired_on", names[1])
    with pytest.raises(InputError, match=r"is missing from t\.csv") as error:
        bank("customers", content)
    pairs = ", ".join(re.findall(r"columns: \{(.+?)\}", str(error.value)))
    assert bank("customers", content, f", columns: {{{pairs}}}").rows("customers") == 2


@pytest.mark.parametrize("content", ["a,2020-05-13\nb,2020-06-01\n", "'customer_id','acquired_on'\n'a','2020-05-13'\n"])
def test_a_file_of_which_no_column_is_known_says_what_is_missing(bank, content):
    with pytest.raises(InputError, match=r"customers\.customer_id: column customer_id is missing from t\.csv") as error:
        bank("customers", content)
    assert "2020" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "spec"),
    [
        ("customer_id,acquired_on,,\na,2020-05-13,,\nb,2020-06-01,,\n", ""),  # empty columns at the end
        (",customer_id,acquired_on,\n0,a,2020-05-13,\n1,b,2020-06-01,\n", ""),
        ("customer_id,acquired_on\n\na,2020-05-13\n\nb,2020-06-01\n\n", ""),  # blank lines
        ('"Kunden\nnr",acquired_on\na,2020-05-13\nb,2020-06-01\n', ", columns: {customer_id: Kunden nr}"),
    ],
)
def test_unnamed_columns_blank_lines_and_names_over_two_lines_are_read(bank, content, spec):
    assert days(bank("customers", content, spec), "customers", "acquired_on") == ["2020-05-13", "2020-06-01"]


@pytest.mark.parametrize("file", ["t.zip", "t.json", "t.feather", "t.dta", "t.csv.bz2", "t.ods"])
def test_files_of_other_kinds_are_refused_as_such(bank, file):
    with pytest.raises(
        InputError, match=rf"{file} is of a kind that is not read\. Try: save it as CSV, Parquet or \.xlsx"
    ):
        bank("customers", b"\x00\x01" + CUSTOMERS.encode(), file=file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sep=;\n" + CUSTOMERS.replace(",", ";"), "begins with a line for Excel, sep=. Try: take its first line out"),
        (CUSTOMERS.replace("acquired_on", "acquired_on,Day,day"), "names a column twice"),
        ("customer_id,acquired_on\n\n\n", "is empty below its header"),
    ],
)
def test_what_a_file_must_not_begin_with_is_said(bank, content, said):
    with pytest.raises(InputError, match=re.escape(said)):
        bank("customers", content, ", sep: ';'" if "sep=" in content else "")


@pytest.mark.parametrize("kind", ["float64", "float32", "Int64"])
def test_ids_that_are_numbers_with_gaps_are_those_of_text(bank, kind, tmp_path):
    frame = pd.DataFrame({"customer_id": pd.array([12, 13], dtype=kind), "acquired_on": pd.Timestamp("2020-05-13")})
    numbers = bank("customers", frame, file="t.parquet")
    ids = numbers.frame("SELECT customer_id FROM customers ORDER BY 1")["customer_id"].tolist()
    texts = bank("customers", "customer_id,acquired_on\n12,2020-05-13\n13,2020-05-13\n", file="u.csv")
    assert ids == texts.frame("SELECT customer_id FROM customers ORDER BY 1")["customer_id"].tolist()
