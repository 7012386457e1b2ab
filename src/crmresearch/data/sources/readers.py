"""Files of a bank: what turns those of one table into a relation of the engine with a header.

The engine itself reads CSV, gzipped CSV and Parquet; what it cannot read is copied into it before the load.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crmresearch.data.contract import Problem, literal, quoted
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources import databases, excel, lake
from crmresearch.data.sources.relations import (
    ALIKE,
    Relation,
    Unreadable,
    copy_text,
    folders_of,
    named,
    partitions,
    refuse,
    told_apart,
    zones_of,
)

DATA = (".csv", ".csv.gz", ".tsv", ".parquet", *excel.SUFFIXES)  # files that a folder is read for
OTHERS = (  # kinds of files that are data, and none of those
    *(
        ".zip",
        ".bz2",
        ".xz",
        ".7z",
        ".zst",
        ".json",
        ".jsonl",
        ".ndjson",
        ".feather",
        ".arrow",
        ".orc",
        ".avro",
        ".xml",
    ),
    *(".dta", ".sav", ".sas7bdat", ".xpt", ".rds", ".rda", ".rdata", ".ods", ".xlsb", ".mdb", ".accdb", ".dbf", ".pdf"),
)
BELOW = "is empty below its header"
NATIVE = {"utf-8": "utf-8", "ascii": "utf-8", "iso8859-1": "latin-1"}  # encodings the engine reads itself


def parts_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the files of a table: each, or all data files of a folder and its partitions, by name; or a lake's table."""
    found = []
    for file in (folder / re.sub("^file://", "", name) for name in names):
        within = file.is_dir() and not lake.form(lake.here(file))
        found += (sorted(_within(file)) if within else ()) or [file]
    return found


def _within(folder: Path) -> Iterator[Path]:
    """Find data files, those of partitions too, and other folders that hold some, which are refused."""
    for path in (p for p in folder.iterdir() if p.name[0] not in "._"):
        if path.is_dir() and "=" in path.name:
            yield from _within(path)
        elif any(_within(path)) if path.is_dir() else path.name.lower().endswith(DATA):
            yield path


def relation_of(table: str, parts: Sequence[Path], spec: Mapping[str, Any]) -> Relation:
    """Look at the files of a table, without reading their rows: one relation for all of them."""
    several = len(parts) > 1
    if not several and parts[0].is_dir() and lake.form(lake.here(parts[0])):
        return lake.relation(table, lake.here(parts[0]), spec)
    for up in {up for file in parts for up in _above(file)}:
        if kind := lake.form(lake.here(up)):
            rule = f"{parts[0].name} is part of a table ({kind}), not all of whose files count"
            refuse(table, rule, f"name the folder of the table, and nothing else: file: {up.name}")
    if problems := [p for file in parts for p in problems_of(table, file)]:
        out = "write it again, or take it out of the folder"
        raise Unreadable(*(replace(p, hint=out) if several and p.rule.endswith("is empty") else p for p in problems))
    found: list[Relation] = []
    for i, file in enumerate(parts):
        try:
            found.append(_part(table, file, spec, f"_{table}_{i}"))
        except Unreadable as error:
            bare = error.problems[0].rule.endswith(BELOW)  # a part without rows
            if not bare or (file == parts[-1] and not found):
                like = "make it like the other parts"
                raise Unreadable(*(replace(p, hint=like if found else p.hint) for p in error.problems)) from None
    header = found[0].header
    for part in found[1:]:
        for name in sorted({*part.header} ^ {*header}):
            has, lacks = (part, found[0]) if name in part.header else (found[0], part)
            rule = f"{lacks.origin} has no column '{name}', which {has.origin} has"
            refuse(table, rule, ALIKE)
    selects = [f"SELECT {', '.join(map(quoted, header))} FROM {part.name}" for part in found]
    return Relation(
        f"({' UNION ALL '.join(selects)})",
        header,
        parts[0].name + (f" and {len(parts) - 1} more" if several else ""),
        any(part.text for part in found),
        found[-1].zones,
        [c for c in header if all(c in part.numbers for part in found)],
        tuple(make for part in found for make in part.makes),
    )


def _above(file: Path) -> Iterator[Path]:
    """Return folders that would make a file one of a lake's table: the first that is no partition, and the next."""
    yield from [] if not file.is_dir() else [file]
    yield from [p for p in file.parents if "=" not in p.name][:2]


def _part(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    """Look at one file, and at the columns that its folders add."""
    found, folders = _relation(table, file, spec, alias), folders_of(file)
    found = replace(found, origin=named(folders[::-1], found.origin))
    more = {name: value for name, value in partitions(folders).items() if name not in found.header}
    if not more:
        return found
    values = [f"{'NULL' if v is None else literal(v)}::VARCHAR AS {quoted(k)}" for k, v in more.items()]
    name = f"(SELECT {', '.join([*map(quoted, found.header), *values])} FROM {found.name})"
    return replace(found, name=name, header=[*found.header, *more])


def problems_of(table: str, file: Path) -> list[Problem]:
    """Look at one file: is it there, may it be read, is it whole?"""

    def problem(rule: str, hint: str) -> list[Problem]:
        return [Problem(table, "", f"{file.name} {rule}", hint=hint)]

    if file.is_dir():
        if any(_within(file)):
            return problem("is a folder within a folder, and is not read", "move its files up, or the folder away")
        return problem("holds no CSV, Parquet or Excel file", "put them there, or check file: in bank.yaml")
    if not file.is_file():
        return problem("does not exist", "check file: in bank.yaml (names count from its folder)")
    try:
        with file.open("rb") as handle:
            head = handle.read(4)
        if not head:
            return problem("is empty", "write the file again, or take the table out of bank.yaml")
        if file.suffix == ".gz":
            with gzip.open(file) as packed:  # the engine reads a cut file up to the cut, without a word
                while packed.read(1 << 20):
                    pass
        if file.suffix.lower() == ".parquet" and head != b"PAR1":
            return problem("is no Parquet file", "write it again")
    except PermissionError:
        return problem("may not be read", "check its permissions")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return problem("is a damaged or incomplete gzip file", "copy it again, or pack it again")
    return []


def _relation(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    """Find what the engine reads one file by."""
    kinds = {"sheet": excel.SUFFIXES, "table": databases.SUFFIXES, "query": databases.SUFFIXES}
    for key in kinds.keys() & spec.keys():
        if file.suffix.lower() not in kinds[key]:
            what = "an Excel file (.xlsx)" if key == "sheet" else "a DuckDB or SQLite file, or with database:"
            refuse(table, f"{key}: goes with {what}, not with {file.name}", f"take {key}: out of bank.yaml")
    if "as_of" in spec:
        refuse(table, f"as_of: goes with a Delta or Iceberg table, not with {file.name}", "take it out of bank.yaml")
    no_text = (*excel.SUFFIXES, *databases.SUFFIXES, ".parquet")
    for key in {"sep", "encoding"} & spec.keys() if file.suffix.lower() in no_text else ():
        refuse(table, f"{key}: goes with a CSV file, not with {file.name}", f"take {key}: out of bank.yaml")
    if file.suffix.lower() in excel.SUFFIXES:
        return excel.relation(table, file, spec, alias)
    if file.suffix in databases.SUFFIXES:
        return databases.relation(table, file, spec, alias)
    if file.suffix.lower() == ".parquet":
        return _parquet(table, file)
    if file.suffix.lower() in OTHERS:
        refuse(table, f"{file.name} is of a kind that is not read", "save it as CSV, Parquet or .xlsx")
    return _csv(table, file, spec, alias)


def _parquet(table: str, file: Path) -> Relation:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, ValueError):
        refuse(table, *databases.damaged(file))
    told_apart(table, file.name, schema.names)
    reader = f"read_parquet({literal(file)}, hive_partitioning = false)"
    return Relation(reader, list(schema.names), file.name, text=False, zones=zones_of(schema))


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_relation(file: Path, header: Sequence[str], sep: str = ",", encoding: str = "utf-8") -> str:
    """Write the reader of a CSV file (gzip by suffix): every column text, nothing guessed."""
    columns = ", ".join(f"{literal(c)}: 'VARCHAR'" for c in header)
    return (
        f"read_csv({literal(file)}, auto_detect = false, header = true, delim = {literal(sep)}, quote = '\"', "
        f"escape = '\"', encoding = {literal(encoding)}, columns = {{{columns}}})"
    )


@contextlib.contextmanager
def _csv_reader(file: Path, sep: str, encoding: str) -> Iterator[Any]:
    """Read a CSV file (gzip by suffix) row by row; a byte-order mark is no part of the first name."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        lines = iter(io.TextIOWrapper(handle, encoding=encoding, newline=""))
        first = next(lines, "").removeprefix("\ufeff")
        yield csv.reader(itertools.chain([first], lines), delimiter=sep)


def csv_header(file: Path, sep: str = ",", encoding: str = "utf-8") -> list[str]:
    """Read the column names of a CSV file (gzip by suffix)."""
    with _csv_reader(file, sep, encoding) as reader:
        return [re.sub(r"\s*[\r\n]\s*", " ", c.strip()) or f"column {k}" for k, c in enumerate(next(reader, []), 1)]


def guessed(file: Path) -> tuple[str, str]:
    """Guess from the head of a CSV file what separates its columns, and its encoding."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        head = handle.read(1 << 18)
    encoding = _encoding(head)
    lines = head.decode(encoding, errors="replace").removeprefix("\ufeff").splitlines()[:50]
    below = (lines[k:] for k in range(5))  # a title may stand above the header
    lines = next((some for some in below if some and max(_regular(some, s) for s in ";,\t|") > 1), lines)
    return max(";,\t|", key=lambda s: _regular(lines, s)), encoding


def _encoding(head: bytes) -> str:
    """Guess: UTF-8 if it is; Chinese signs come in pairs of high bytes, accents of European letters alone."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if head.count(0) > len(head) / 4:  # without a mark of the order of bytes
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    try:
        head.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start > len(head) - 4:  # a sign cut at the end of the look
            return "utf-8"
    pairs = re.findall(rb"[\x81-\xfe][\x00-\xff]", head)
    return "gb18030" if sum(p[1] >= 0x80 for p in pairs) > 0.8 * len(pairs) else "cp1252"


def _regular(lines: Sequence[str], sep: str) -> int:
    widths = [len(row) for row in csv.reader(lines[:-1] or lines, delimiter=sep)]
    return widths[0] if widths and min(widths) == max(widths) else 0


def _csv(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    sep = {"\\t": "\t"}.get(spec.get("sep", ","), spec.get("sep", ","))
    asked = str(spec.get("encoding", "utf-8"))
    try:
        encoding = codecs.lookup(asked).name
        "".encode(encoding).decode(encoding)  # rot13 and the like are no encodings of text
    except LookupError:
        refuse(table, f"there is no encoding '{asked}' of text", "utf-8, gb18030, cp1252 and the like")
    like, written = guessed(file)
    foreign = (f"{file.name} is not {asked} text", f"declare encoding: {written} in bank.yaml, or save as UTF-8")
    try:
        header = csv_header(file, sep, encoding)
    except (UnicodeDecodeError, UnicodeError):
        refuse(table, *foreign)
    if encoding == "utf-8" != written:
        refuse(table, *foreign)
    if header and header[0].lower().startswith("sep="):
        refuse(table, f"{file.name} begins with a line for Excel, sep=", "take its first line out")
    told_apart(table, file.name, header)
    _headed(table, file, header, sep, encoding)
    if len(header) == 1 and any(s in header[0] for s in ";\t|,"):
        like = {"\t": '"\\t"'}.get(like, literal(like))
        refuse(table, f"{file.name} has one column only", f"declare sep: {like} in bank.yaml")
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        handle.readline()
        if not any(line.strip() for line in handle):
            refuse(table, f"{file.name} {BELOW}", "take the table out of bank.yaml")
    if encoding in NATIVE:
        return Relation(csv_relation(file, header, sep, NATIVE[encoding]), header, file.name)

    def make(engine: DuckDB) -> None:
        try:
            copy_text(engine, alias, header, _text_rows(file, sep, encoding, len(header)))
        except UnicodeError:
            refuse(table, *foreign)
        except ValueError as error:
            refuse(table, f"{error} of {file.name}", "declare sep, or repair it")

    return Relation(alias, header, file.name, makes=(make,))


def _headed(table: str, file: Path, header: Sequence[str], sep: str, encoding: str) -> None:
    """Refuse a title, or nothing, where the header should stand."""
    if len(header) == 1 and set(header[0]) & set(";\t|,"):
        return
    with _csv_reader(file, sep, encoding) as reader:
        named, *others = [sum(map(bool, row)) for row in itertools.islice(reader, 20)] or [0]
    if named < 2 <= (width := max(others, default=0)):
        rule = f"line 1 of {file.name} names {named or 'none'} of {width} columns"
        refuse(table, rule, f"delete what stands above the header in {file.name}")
    if not header:
        refuse(table, f"{file.name} is empty", "write the file again, or take the table out of bank.yaml")


def _text_rows(file: Path, sep: str, encoding: str, width: int) -> Iterator[list[str | None]]:
    """Read the rows of a CSV file in any encoding Python knows."""
    with _csv_reader(file, sep, encoding) as reader:
        next(reader)
        for row in reader:
            if len(row) != width:
                message = f"a row has another number of columns than the header near line {reader.line_num}"
                raise ValueError(message)
            yield [v or None for v in row]
