"""Derived columns: formulas of bank.yaml give what a hand computes, and what cannot be computed is counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import test_reading
from crmresearch.data import formulas
from crmresearch.data.loading import made_missing
from crmresearch.data.sources.names import find
from crmresearch.errors import InputError
from test_reading import UNDATED, column

bank = test_reading.bank

SPELLS = "customer_id,quarters,status,amount,n\na,2,closed,3,1\nb,4,open,5,4\nc,7,Closed,,2\n"
HALF = "customer_id,year,month,since,until,kind\na,2020,2,31.01.2020,31.12.2020,X1\n"
SHEET = HALF + "b,2021,11,15.02.2020,14.03.2021,Y2\n"


def snapshot(bank, formula, text=SHEET, more=", date_format: '%d.%m.%Y'"):
    """Values of one derived column."""
    line = f"snapshot: {{file: s.csv{more}, derived: {{made: {json.dumps(formula)}}}}}"
    return column(bank(line, UNDATED, s__csv=text), "snapshot", "made")


def test_what_the_contract_asks_for_is_derived(bank):
    derived = """{entry_months: "0", exit_months: "quarters * 3",
        event: "case when lower(status) = 'closed' then 1 else 0 end",
        cause: "case when status = 'closed' then 'death' when status = 'Closed' then 'voluntary' end"}"""
    found = bank(f"spells: {{file: s.csv, derived: {derived}}}", UNDATED, s__csv=SPELLS)
    assert column(found, "spells", "entry_months") == [0, 0, 0]
    assert column(found, "spells", "exit_months") == [6, 12, 21]
    assert column(found, "spells", "event") == [True, False, True]
    assert column(found, "spells", "cause") == ["death", None, "voluntary"]
    derived = "{acquired_on: 'date(year, month, 1)', left_on: 'add_months(date(until), 1)', birth_year: 'year - 30'}"
    found = bank(f"customers: {{file: c.csv, date_format: '%d.%m.%Y', derived: {derived}}}", c__csv=HALF)
    assert column(found, "customers", "acquired_on") == [pd.Timestamp(2020, 2, 1)]
    assert column(found, "customers", "left_on") == [pd.Timestamp(2021, 1, 31)]
    assert column(found, "customers", "birth_year") == [1990]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("year * 12 + month - 1", [24241, 24262]),
        ("-(year - 2000) / 4", [-5, -5.25]),
        ("year % 100", [20, 21]),
        ("days_between(date(until), date(since))", [335, 393]),
        ("months_between(date(until), date(since))", [11, 12]),
        ("months_between(date(since), date(until))", [-11, -13]),
        ("first_of_month(date(since))", ["2020-01-01", "2020-02-01"]),
        ("add_days(date(since), 30)", ["2020-03-01", "2020-03-16"]),
        ("date(since) < '2020-02-01'", [True, False]),
        ("date(until) between '2020-06-01' and '2020-12-31'", [True, False]),
        ("month in (2, 3)", [True, False]),
        ("kind in ('X1', 'Z')", [True, False]),
        ("not (month = 2 or kind = 'Y2') and true", [False, False]),
        ("kind is not null", [True, True]),
        ("kind || '-' || month", ["X1-2", "Y2-11"]),
        ("substring(kind, 2, 1) || lower(kind)", ["1x1", "2y2"]),
        ("coalesce(case kind when 'X1' then 'first' end, 'other')", ["first", "other"]),
        ("case when length(trim(kind)) = 2 then round(month / 4) end", [1, 3]),
        ('"year" - floor(2019.5) + abs(-1) - ceil(0.5)', [1, 2]),
        ("text(month * 1)", ["2", "11"]),
        ("date(substring(since, 1, 6) || year)", None),
    ],
)
def test_formulas_give_what_a_hand_computes(bank, formula, expected):
    if expected is None:
        with pytest.raises(InputError, match="has a text where a date is wanted"):
            snapshot(bank, formula)
        return
    found = snapshot(bank, formula)
    assert [v.isoformat()[:10] if isinstance(v, pd.Timestamp) else v for v in found] == expected


@pytest.mark.parametrize(
    ("text", "more", "formula", "expected"),
    [
        ("customer_id;x\na;1.250,5\nb;2\n", ", sep: ';', decimal: ','", "x * 2", [2501, 4]),
        ("customer_id,x\na,98\nb,2\n", ", missing: [98]", "x * 2", [None, 4]),
        ("customer_id,x\na,98\nb,2\n", ", missing: {x: [98]}", "x * 2", [None, 4]),
        ("customer_id,x\na,98\nb,2\n", ", columns: {y: x}, missing: {y: [98]}", "x * 2", [None, 4]),
        ("customer_id,x\na,\nb,2\n", "", "x / 2", [None, 1]),
        ("customer_id,x\na,2020-05-13T00:30:00+08:00\nb,\n", ", timezone: Asia/Shanghai", "day(x)", [13, None]),
        ("customer_id,x\na,007\nb,8\n", "", "x", ["007", "8"]),
        ("customer_id,x\na,007\nb,8\n", "", "x || ''", ["007", "8"]),
        ("customer_id,x\na,007\nb,8\n", "", "number(x)", [7, 8]),
        ("customer_id,Year\na,2020\nb,2021\n", ", constants: {x: 1}", "Year - 2000", [20, 21]),
        ("customer_id,MADE\na,2020\nb,2021\n", "", "MADE - 2000", [20, 21]),
        ("customer_id,Größe,客户\na,3,4\nb,5,6\n", "", "Größe + 客户", [7, 11]),
    ],
)
def test_a_name_is_read_as_what_stands_around_it(bank, text, more, formula, expected):
    assert snapshot(bank, formula, text, more) == expected


def test_columns_of_typed_files_keep_their_types(bank):
    frame = pd.DataFrame(
        {
            "customer_id": ["a", "b"],
            "opened": pd.to_datetime(["2020-01-31", "2020-03-05"]),
            "day": [20200131, 20200305],
            "cents": [250, 1999],
            "number": [9007199254740993, 1],
            "on": [True, False],
        }
    )
    frame.to_parquet(bank.folder / "s.parquet")
    made = {
        "next": "add_months(opened, 1)", "same": "days_between(date(day), opened)", "euro": "cents / 100",
        "id": "'K' || number", "late": "opened > '2020-02-01' and not \"on\"",
    }  # fmt: skip
    derived = ", ".join(f"{name}: {json.dumps(formula)}" for name, formula in made.items())
    line = f"snapshot: {{file: s.parquet, date_format: '%Y%m%d', derived: {{{derived}}}}}"
    found = bank(line, UNDATED)
    assert column(found, "snapshot", "next") == [pd.Timestamp(2020, 2, 29), pd.Timestamp(2020, 4, 5)]
    assert column(found, "snapshot", "same") == [0, 0]
    assert column(found, "snapshot", "euro") == [2.5, 19.99]
    assert column(found, "snapshot", "id") == ["K9007199254740993", "K1"]
    assert column(found, "snapshot", "late") == [False, True]


@pytest.mark.parametrize(
    ("formula", "piece"),
    [
        ("read_csv('/etc/passwd')", "read_csv('/etc/passwd')"),
        ("(select 1)", "(SELECT 1)"),
        ("n in (select 1)", "n IN (SELECT 1)"),
        ("pg_sleep(9)", "pg_sleep(9)"),
        ("n::integer", "CAST(n AS INT)"),
        ("cast(n as blob)", "cast"),
        ("count(*)", "count"),
        ("sum(n) over ()", "sum(n) OVER ()"),
        ("random()", "random()"),
        ("n as m", "n AS m"),
        ("t.n", "t.n"),
        ("n[1]", "n[1]"),
        ("n like '%'", "n LIKE '%'"),
        ("interval 3 month", "INTERVAL '3' MONTH"),
        ("getenv('HOME')", "getenv('HOME')"),
        ("@n", "@n"),
        ("?", "?"),
    ],
)
def test_what_is_not_listed_is_refused_by_name(formula, piece):
    with pytest.raises(InputError, match=r"not allowed.*; allowed are columns of the file, numbers") as error:
        formulas.written(formula, {"n": None}, lambda name, kind: name)
    assert piece in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("quarter * 3", "names no column of the file, quarter: did you mean 'quarters'?"),
        ("nothing like it", "is not allowed|cannot be read|names no column"),
        ("1; drop table customers", "is not one formula"),
        ("", "is not one formula"),
        ("case when n = 1 then 2", "cannot be read"),
        ("((n)", "cannot be read"),
        ("not on", 'cannot be read.*a word of SQL, or has blanks, in double quotes: "end"'),
        ("status * 2 = 'x'", "has 'x' where a number is wanted"),
        ("n + 'x'", "has 'x' where a number is wanted"),
        ("number(n = 1)", "has a truth value where a number is wanted"),
        ("n < quarters", r"puts texts in order, n and quarters; write number\(…\) or date\(…\)"),
        ("date('2020-02-30')", "has a date that is none, '2020-02-30'"),
        ("substring(status, 1)", "calls substring with 2 values instead of 3"),
        ("1/(" * 40 + "n" + ")" * 40, "is too long"),
        ("(" * 5000 + "n" + ")" * 5000, "cannot be read"),
        ("n" + " + n" * 5000, "is too long|cannot be read"),
        ("not " * 400 + "n = 1", "is too long|cannot be read"),
    ],
)
def test_a_formula_that_says_nothing_is_one_line(bank, formula, message):
    with pytest.raises(InputError, match=message) as error:
        snapshot(bank, formula, SPELLS)
    assert "1 problem:" in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("derived: {exit_months: 'date(n)'}", "exit_months: its formula gives a date, not a number: date(n)"),
        ("derived: {exit_months: 'n = 1'}", "gives a truth value, not a number"),
        ("derived: {exit_month: 'n'}", "exit_month: no such column in the contract; did you mean 'exit_months'"),
        (
            "derived: {exit_months: 'n'}, columns: {customer_id: customer_id, exit_months: n}",
            "exit_months: is given by",
        ),
        ("derived: {event: 'n = 1'}", "event: is given by constants and by derived. Try: take it out of constants"),
        ("derived: [n]", "derived of table spells must look like this: derived: {exit_months:"),
    ],
)
def test_a_formula_fits_its_column(bank, line, message):
    with pytest.raises(InputError, match=re.escape(message)):
        bank(f"spells: {{file: s.csv, constants: {{entry_months: 0, event: true}}, {line}}}", UNDATED, s__csv=SPELLS)


@pytest.mark.parametrize(
    ("formula", "bad", "rows"),
    [
        ("amount / n", "a,1,0\nb,4,2\nc,5,0\n", "(2 rows: 1, 3)"),
        ("amount % n", "a,1,1\nb,4,0\nc,5,5\n", "(1 row: 2)"),
        ("amount * n", "a,1,1\nb,n/a,0\nc,x,5\n", "(2 rows: 2, 3)"),
        ("date(2020, amount, n)", "a,2,30\nb,13,1\nc,12,31\n", "(2 rows: 1, 2)"),
        ("add_months(date(2020, 1, 31), amount)", "a,1,\nb,1.5,\nc,2,\n", "(1 row: 2)"),
        ("days_between(date(amount), '2020-01-01')", "a,2020-01-05,\nb,2020-02-30,\nc,,\n", "(1 row: 2)"),
        ("1e300 * amount * amount", "a,1,\nb,1e200,\nc,2,\n", "(1 row: 2)"),
        ("case when amount / n > 1 then 'many' else 'few' end", "a,1,0\nb,4,2\nc,5,5\n", "(1 row: 1)"),
        ("amount = 1 and n / amount < 2", "a,0,1\nb,1,2\nc,1,1\n", "(1 row: 1)"),
    ],
)
@pytest.mark.parametrize("beside", ["", ", more: 'amount * 1'", ", more: '1 / (1 / (n + 1))'"])
def test_what_cannot_be_computed_is_counted_and_never_missing(bank, formula, bad, rows, beside):
    if "more" in beside and "date(amount)" in formula:
        beside = ""
    line = f'snapshot: {{file: s.csv, derived: {{made: "{formula}"{beside}}}}}'
    with pytest.raises(InputError) as error:
        bank(line, UNDATED, s__csv="customer_id,amount,n\n" + bad)
    [said] = [text for text in str(error.value).splitlines() if text.startswith("  - snapshot.made")]
    assert rows in said
    assert "gives no value" in said


@pytest.mark.parametrize(("code", "formula"), [("n/a", "x * 2"), ("-", "x + 1"), ("keine", "year(x)")])
def test_the_advice_on_codes_works_as_it_is_written(bank, code, formula):
    good = "2020-05-13" if "year" in formula else "3"
    text = f"customer_id,x\na,{good}\nb,{code}\n"
    with pytest.raises(InputError, match=r"missing: \{theirs: \[n/a\]\}"):
        snapshot(bank, formula, text, "")
    made = snapshot(bank, formula, text, f", missing: {{x: ['{code}']}}")
    assert made[0] is not None
    assert made[1] is None
    assert made_missing(find(bank.folder)) == {"snapshot": {"x": 1}}


def test_numbers_that_read_in_two_ways_are_refused_in_formulas_too(bank):
    text = "customer_id;x\na;1.250\nb;980\n"
    with pytest.raises(InputError, match=r"x reads in two ways.*decimal: \{x: '.'\}"):
        snapshot(bank, "x * 2", text, ", columns: {customer_id: customer_id}, sep: ';'")
    assert snapshot(bank, "x * 2", text, ", sep: ';', decimal: {x: ','}") == [2500, 1960]


def test_derived_values_may_be_recoded_and_made_missing(bank):
    more = ", recode: {made: {closed: out, open: in, Closed: out}}"
    assert snapshot(bank, "status", SPELLS, more) == ["out", "in", "out"]
    assert snapshot(bank, "quarters * 2", SPELLS, ", missing: {made: [8]}") == [4, None, 14]


def test_columns_that_only_formulas_read_are_not_loaded(bank):
    line = "customers: {file: c.csv, columns: {acquired_on: born}, derived: {birth_year: 'year(born)'}}"
    found = bank(line, c__csv="customer_id,born,email,note\na,2020-01-02,x,y\n")
    assert set(found.columns("customers")) == {"customer_id", "acquired_on", "birth_year"}
    assert found.unread("customers") == ("email", "note")
    with pytest.raises(InputError, match=r"customers\.email: a direct identifier \(an e-mail address\) is refused"):
        bank(line.replace("'year(born)'", "'length(email)'"))


def test_every_function_is_documented():
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text("utf-8")
    assert [name for name in formulas.NAMES if f"`{name}" not in text] == []
