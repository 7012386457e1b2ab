"""Excel sheets: cells load as what Excel shows, and what it lost or cannot say is refused with a remedy that works."""

from __future__ import annotations

import datetime
import io
import zipfile

import openpyxl
import pytest

import test_reading
from crmresearch.errors import InputError
from test_reading import column

bank = test_reading.bank
NAMES = ["customer_id", "acquired_on", "left_on"]
DAY, LATER = datetime.datetime(2020, 5, 13), datetime.datetime(2021, 3, 1)


def book(**sheets):
    """Write sheets, lists of rows, as an Excel file."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    content = io.BytesIO()
    made.save(content)
    return content.getvalue()


def xml(content, old, new):
    """Change what a book stores, as another program would have written it."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(changed, "w") as after:
        for part in before.namelist():
            after.writestr(part, before.read(part).replace(old, new))
    return changed.getvalue()


CUSTOMERS = [NAMES, ["a", DAY, None], ["b", DAY, LATER]]


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([10042.0, 10043], ["10042", "10043"]),
        (["00042", 43], ["00042", "43"]),
        ([123456789012345, 5e9], ["123456789012345", "5000000000"]),
        ([True, "x"], ["true", "x"]),
    ],
)
def test_an_id_is_what_excel_shows(bank, cells, expected):
    found = bank("customers: b.xlsx", b__xlsx=book(Kunden=[NAMES, *([v, DAY, None] for v in cells)]))
    assert column(found, "customers", "customer_id") == expected


@pytest.mark.parametrize("cell", [DAY, DAY.date(), datetime.datetime(2020, 5, 13, 9, 30), "2020-05-13", "13.05.2020"])
def test_a_date_is_a_date_also_beside_dates_in_text(bank, cell):
    german = cell == "13.05.2020"
    declared = "{file: b.xlsx, date_format: {acquired_on: '%d.%m.%Y'}}" if german else "b.xlsx"
    found = bank(f"customers: {declared}", b__xlsx=book(Kunden=[NAMES, ["a", cell, None], ["b", DAY, LATER]]))
    assert column(found, "customers", "acquired_on") == [DAY, DAY]
    assert column(found, "customers", "left_on") == [None, LATER]


@pytest.mark.parametrize(
    ("cells", "key", "expected"),
    [
        ([1234.5, 0.1 + 0.2, -7], "", [1234.5, 0.3, -7]),
        ([1.125, 2.375, 980], "", [1.13, 2.38, 980]),  # numbers of Excel never read in two ways
        (["1.234,50", 0.5, 2], ", decimal: ','", [1234.5, 0.5, 2]),
        (["1.234", 1.5, 3000.25], ", thousands: {amount: .}", [1234, 1.5, 3000.25]),
        ([1.5, 2.25, 3], ", decimal: ','", [1.5, 2.25, 3]),
        ([1e-3, 1234567890123.45, 1e6], "", [0, 1234567890123.45, 1e6]),
    ],
)
def test_an_amount_is_exact_to_its_last_digit(bank, cells, key, expected):
    rows = [["customer_id", "occurred_on", "amount"], *(["a", DAY, v] for v in cells)]
    found = bank(f"transactions: {{file: b.xlsx{key}}}", b__xlsx=book(Buchungen=rows))
    assert column(found, "transactions", "amount") == expected


def test_a_formula_is_its_stored_result(bank):
    rows = [NAMES, ["a", DAY, None], ["=A2", DAY, None]]
    content = xml(book(K=rows), b"<f>A2</f><v />", b"<f>A2</f><v>7</v>")
    assert column(bank("customers: b.xlsx", b__xlsx=content), "customers", "customer_id") == ["a", "7"]


# --- sheets -----------------------------------------------------------------------------------------------------------


def test_several_sheets_are_several_tables(bank):
    moves = [["customer_id", "occurred_on", "amount"], ["a", DAY, 5], ["b", DAY, 6]]
    content = book(Deckblatt=[["Export"]], Kunden=CUSTOMERS, Buchungen=moves)
    tables = "customers: {file: b.xlsx, sheet: Kunden}\n  transactions: {file: b.xlsx, sheet: Buchungen}"
    found = bank(tables, b__xlsx=content)
    assert (found.rows("customers"), found.rows("transactions")) == (2, 2)


@pytest.mark.parametrize(
    ("before", "after"), [([[None]], []), ([], [[None] * 3] * 4), ([[None], [None, None]], [[None], ["", None]])]
)
def test_empty_rows_before_within_and_at_the_end_are_no_rows(bank, before, after):
    rows = [*before, NAMES, ["a", DAY, None], *after, ["b", DAY, LATER], *after]
    assert bank("customers: b.xlsx", b__xlsx=book(Kunden=rows)).rows("customers") == 2


def test_a_sheet_that_tells_a_wrong_size_is_read_whole(bank):
    content = xml(book(Kunden=CUSTOMERS), b'<dimension ref="A1:C3"', b'<dimension ref="A1"')
    assert bank("customers: b.xlsx", b__xlsx=content).rows("customers") == 2


def test_a_sheet_may_be_a_part_of_a_table(bank):
    files = {"b__xlsx": book(K=CUSTOMERS), "c__csv": "acquired_on,left_on,customer_id\n2020-06-01,,c\n"}
    assert bank("customers: [b.xlsx, c.csv]", **files).rows("customers") == 3


# --- what is refused, and the remedy ----------------------------------------------------------------------------------

TITLE = [["Kundenliste"], [None], *CUSTOMERS]
REFUSED = {
    "title": (book(K=TITLE), "row 1 of sheet 'K' names 1 of 3 columns. Try: delete what stands above the header"),
    "no name": (book(K=[["customer_id", None, "left_on"], *CUSTOMERS[1:]]), "row 1 of sheet 'K' names 2 of 3 columns"),
    "twice": (book(K=[["customer_id", "left_on", "left_on"], *CUSTOMERS[1:]]), "names a column twice"),
    "empty": (book(K=[]), "sheet 'K' of b.xlsx is empty. Try: take the table out"),
    "header": (book(K=[NAMES]), "sheet 'K' of b.xlsx is empty below its header"),
    "digits": (
        book(K=[NAMES, [1234567890123456789, DAY, None]]),
        "customers.customer_id: b.xlsx holds numbers of more than 15 digits, of which Excel keeps 15. Try: export",
    ),
    "formula": (book(K=[NAMES, ["a", "=B3", None], ["b", DAY, None]]), "customers.acquired_on: b.xlsx has formulas "),
    "sheets": (book(K=CUSTOMERS, L=[]), "b.xlsx has 2 sheets; say which. Try: sheet: 'K' in bank.yaml"),
    "cut": (book(K=CUSTOMERS)[:2000], "b.xlsx is damaged, or no Excel file. Try: save it again as .xlsx"),
    "text": (b"customer_id,acquired_on\n", "b.xlsx is damaged, or no Excel file"),
    "locked": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "locked with a password, or of Excel's old kind. Try"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_sheet_that_cannot_be_read_is_one_line(bank, case):
    content, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        bank("customers: b.xlsx", b__xlsx=content)
    assert message in str(error.value)
    assert str(error.value).count("\n") == 1


@pytest.mark.parametrize("merged", ["A1:C1", "A1:B2"])
def test_merged_titles_are_refused_and_load_once_deleted(bank, merged):
    made = openpyxl.load_workbook(io.BytesIO(book(K=TITLE)))
    made["K"].merge_cells(merged)
    for deleted in (False, True):
        if deleted:
            made["K"].unmerge_cells(merged)
            made["K"].delete_rows(1, 2)
        content = io.BytesIO()
        made.save(content)
        if deleted:
            assert bank("customers: b.xlsx", b__xlsx=content.getvalue()).rows("customers") == 2
        else:
            with pytest.raises(InputError, match="delete what stands above the header"):
                bank("customers: b.xlsx", b__xlsx=content.getvalue())


@pytest.mark.parametrize("code", ["#N/A", "#REF!", "#DIV/0!"])
@pytest.mark.parametrize("declared", ["['#N/A', '#REF!', '#DIV/0!']", "{left_on: ['#N/A', '#REF!', '#DIV/0!']}"])
def test_error_cells_are_refused_by_place_or_declared_missing(bank, code, declared):
    content = book(Deckblatt=[["#N/A"]], K=[NAMES, ["a", DAY, code], ["b", DAY, code], ["c", DAY, LATER]])
    with pytest.raises(InputError, match=r"customers.left_on: b.xlsx has error cells, the first in K!C2 \(2 rows\)"):
        bank("customers: {file: b.xlsx, sheet: K}", b__xlsx=content)
    found = bank(f"customers: {{file: b.xlsx, sheet: K, missing: {declared}}}", b__xlsx=content)
    assert column(found, "customers", "left_on") == [None, None, LATER]
    dropped = bank("customers: {file: b.xlsx, sheet: K, drop: [left_on]}", b__xlsx=content)
    assert dropped.columns("customers") == ("customer_id", "acquired_on")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{file: b.xlsx, sheet: Kunde}", "b.xlsx has no sheet 'Kunde'; did you mean 'Kunden'?"),
        (
            "{file: c.csv, sheet: Kunden}",
            "sheet: goes with an Excel file (.xlsx), not with c.csv. Try: take sheet: out",
        ),
        ("{file: b.xlsx, table: Kunden}", "table: goes with a DuckDB or SQLite file"),
        ("{file: b.xlsx, sheet: [Kunden]}", "sheet of table customers must look like this: sheet: Kunden"),
    ],
)
def test_a_sheet_is_named_where_there_are_sheets(bank, line, message):
    with pytest.raises(InputError) as error:
        bank(f"customers: {line}", b__xlsx=book(Kunden=CUSTOMERS), c__csv=test_reading.CUSTOMERS)
    assert message in str(error.value)
