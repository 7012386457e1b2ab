"""Sheets of Excel books: their cells become the text that a CSV file would hold."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from crmresearch.data.contract import Problem, nearest
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources.relations import Relation, Unreadable, copy_text, refuse

SUFFIXES = (".xlsx", ".xlsm", ".xls")
LARGEST = 10**15  # Excel keeps 15 digits of a number
# cells whose value is an error, and formulas whose result was never stored: the reader returns both as empty
ERROR = re.compile(rb'<(?:\w+:)?c\b(?=[^>]*\bt="e")[^>]*\br="([A-Z]+)(\d+)"[^>]*>.*?<(?:\w+:)?v>([^<]*)<')
UNSTORED = re.compile(
    rb'<(?:\w+:)?c\b(?![^>]*\bt="str")[^>]*\br="([A-Z]+)(\d+)"[^>/]*>'
    rb"<(?:\w+:)?f\b[^>]*(?:/>|>[^<]*</(?:\w+:)?f>)(?:<(?:\w+:)?v ?/>|<(?:\w+:)?v></(?:\w+:)?v>)?()</(?:\w+:)?c>"
)


def relation(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    """Read a sheet; its first row that holds anything names the columns."""
    rows, sheet = _rows(table, file, spec)
    _put_errors(table, file, sheet, rows, spec)
    filled = [i for i, row in enumerate(rows) if any(v != "" for v in row)]
    if len(filled) < 2:
        what = "is empty below its header" if filled else "is empty"
        refuse(table, f"sheet '{sheet}' of {file.name} {what}", "take the table out of bank.yaml")
    header = [_text(v).strip() for v in rows[filled[0]]]
    body = [rows[i] for i in filled[1:]]
    used = [i for i, name in enumerate(header) if name or any(row[i] != "" for row in body)]
    names = [header[i] for i in used]
    if "" in names:
        rule = f"row {filled[0] + 1} of sheet '{sheet}' names {len(used) - names.count('')} of {len(used)} columns"
        refuse(table, rule, f"delete what stands above the header in {file.name}, and give each column a name")
    if len({name.casefold() for name in names}) < len(names):
        refuse(table, f"sheet '{sheet}' of {file.name} names a column twice", "give each column its own name")
    cells = [[row[i] for row in body] for i in used]
    columns = [_column(table, file, name, values, spec) for name, values in zip(names, cells, strict=True)]
    numbers = [
        name
        for name, values in zip(names, cells, strict=True)
        if not _declared(spec, "decimal", name) and all(type(v) in (int, float) for v in values if v != "")
    ]

    def make(engine: DuckDB) -> None:
        copy_text(engine, alias, names, zip(*columns, strict=True))

    return Relation(alias, names, file.name, numbers=numbers, makes=(make,))


def _rows(table: str, file: Path, spec: Mapping[str, Any]) -> tuple[list[list[Any]], str]:
    """Read the cells of the sheet that is meant, from the first row and column on; return its name too."""
    import python_calamine

    with file.open("rb") as handle:
        if handle.read(4) == b"\xd0\xcf\x11\xe0":
            rule = f"{file.name} is locked with a password, or of Excel's old kind"
            refuse(table, rule, "save it without a password, as .xlsx")
    try:
        book = python_calamine.load_workbook(str(file))
        sheets = [s.name for s in book.sheets_metadata if s.typ == python_calamine.SheetTypeEnum.WorkSheet]
        sheet = spec.get("sheet") or sheets[0]
        if "sheet" not in spec and len(sheets) > 1:
            refuse(table, f"{file.name} has {len(sheets)} sheets; say which", f"sheet: '{sheets[0]}' in bank.yaml")
        if sheet not in sheets:
            refuse(table, f"{file.name} has no sheet '{sheet}'; {nearest(sheet, sheets)}")
        return book.get_sheet_by_name(sheet).to_python(skip_empty_area=False), sheet
    except (python_calamine.CalamineError, OSError, IndexError):
        refuse(table, f"{file.name} is damaged, or no Excel file", "save it again as .xlsx")


def _column(table: str, file: Path, name: str, cells: Sequence[Any], spec: Mapping[str, Any]) -> list[str | None]:
    """Write the cells of a column as text, numbers and dates as bank.yaml says that its text has them."""
    if name not in spec.get("drop", ()) and any(isinstance(v, float) and abs(v) >= LARGEST for v in cells):
        rule = f"{file.name} holds numbers of more than 15 digits, of which Excel keeps 15"
        refuse(table, rule, f"export them as text, or drop: ['{name}'] in bank.yaml", name)
    day, point, thousands = (_declared(spec, key, name) for key in ("date_format", "decimal", "thousands"))
    day = day[0] if isinstance(day, list) else day
    point = point or ("," if thousands == "." else ".")
    return [_text(v, day, point) or None for v in cells]


def _declared(spec: Mapping[str, Any], key: str, name: str) -> Any:
    """Return what bank.yaml says under a key of a column, which it calls by our name."""
    said = spec.get(key)
    ours = next((ours for ours, theirs in spec.get("columns", {}).items() if theirs == name), name)
    return said.get(ours, said.get("*")) if isinstance(said, dict) else said


def _text(value: Any, day: str | None = None, point: str = ".") -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # the 15 digits that Excel shows; 10042.0 is a whole number there
        return f"{Decimal(f'{value:.15g}').normalize():f}".replace(".", point)
    if isinstance(value, datetime.date):
        midnight = not isinstance(value, datetime.datetime) or value.time() == datetime.time()
        return value.strftime(day) if day else str(value)[: 10 if midnight else None]
    return str(value)


def _put_errors(table: str, file: Path, sheet: str, rows: list[list[Any]], spec: Mapping[str, Any]) -> None:
    """Put errors into rows where they are declared missing; refuse other ones, and formulas without results."""
    problems: dict[tuple[str, str], list[str]] = {}
    cells = _xml(file, sheet)
    header = next((row for row in rows if any(v != "" for v in row)), [])
    for pattern in (ERROR, UNSTORED):
        for letters, row, code in pattern.findall(cells):
            column = -1
            for letter in letters:
                column = (column + 1) * 26 + letter - ord("A")
            name = _text(header[column]).strip() if column < len(header) else ""
            if code and code.decode() in (_declared(spec, "missing", name) or ()):
                rows[int(row) - 1][column] = code.decode()
                continue
            if name in spec.get("drop", ()):
                continue
            where = f"{letters.decode()}{row.decode()}"
            problems.setdefault((name, "error cells" if code else "formulas without results"), []).append(where)
    hints = {"error cells": "correct them, or declare missing: ['#N/A', '#REF!'] or drop: [column] in bank.yaml"}
    if problems:
        raise Unreadable(
            *(
                Problem(
                    table,
                    name,
                    f"{file.name} has {what}, the first in {sheet}!{places[0]}",
                    len(places),
                    hint=hints.get(what, "open the file in Excel and save it"),
                )
                for (name, what), places in problems.items()
            )
        )


def _xml(file: Path, sheet: str) -> bytes:
    """Return what a book stores of a sheet."""
    with zipfile.ZipFile(file) as packed:
        parts = ("xl/workbook.xml", "xl/_rels/workbook.xml.rels")
        book, links = (ElementTree.fromstring(packed.read(part)) for part in parts)
        [link] = (v for s in book.iter() if s.get("name") == sheet for k, v in s.items() if k.endswith("}id"))
        [target] = (r.get("Target", "") for r in links if r.get("Id") == link)
        return packed.read(target.removeprefix("/") if target.startswith("/") else f"xl/{target}")
