"""Files of a bank: what turns one, or a part of one, into a relation of the engine with a header.

The engine itself reads CSV, gzipped CSV and Parquet, save text in encodings it does not know; DuckDB databases are
attached, SQLite is copied as text.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crmresearch.data.contract import Problem, literal, quoted
from crmresearch.data.engines import SUFFIX, DuckDB, columns_of
from crmresearch.errors import InputError

Recoded = dict[str, tuple[str, Path, str, str, list[str]]]  # text to copy: alias to table, file, sep, encoding, header


def parts_of(folder: Path, names: str | list[str]) -> list[Path]:
    """Find the files of a table: one, several in a list, or all data files of a folder, by name."""
    found = []
    for file in (folder / name for name in ([names] if isinstance(names, str) else names)):
        within = file.iterdir() if file.is_dir() else ()
        parts = sorted(p for p in within if p.name.endswith((".csv", ".csv.gz", ".parquet")) and p.name[0] not in "._")
        found += parts or [file]
    return found


def file_problem(name: str, file: Path, spec: Mapping[str, Any]) -> list[Problem] | None:
    """Look at one file: is it there, may it be read, is it whole, is it text in its encoding?"""

    def problem(rule: str, hint: str) -> list[Problem]:
        return [Problem(name, "", f"{file.name} {rule}", hint=hint)]

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
        if file.suffix == ".parquet" and head != b"PAR1":
            return problem("is no Parquet file", "write it again")
    except PermissionError:
        return problem("may not be read", "check its permissions")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return problem("is a damaged or incomplete gzip file", "copy it again, or pack it again")
    return None


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
        return [c.strip() for c in next(reader, [])]


NATIVE = {"utf-8": "utf-8", "ascii": "utf-8", "iso8859-1": "latin-1"}  # encodings the engine reads itself


def _csv_relation(
    name: str, file: Path, spec: Mapping[str, Any], recoded: Recoded
) -> tuple[str, list[str]] | list[Problem]:
    sep = {"\\t": "\t"}.get(spec.get("sep", ","), spec.get("sep", ","))
    asked = str(spec.get("encoding", "utf-8"))
    try:
        encoding = codecs.lookup(asked).name
    except LookupError:
        return [Problem(name, "", f"there is no encoding '{asked}'", hint="utf-8, gb18030, cp1252 and the like")]
    try:
        header = csv_header(file, sep, encoding)
    except (UnicodeDecodeError, UnicodeError):
        hint = "declare encoding in bank.yaml, or save as UTF-8"
        return [Problem(name, "", f"{file.name} is not {asked} text", hint=hint)]
    if len(set(header)) < len(header):
        return [Problem(name, "", f"{file.name} names a column twice", hint="give each column its own name")]
    if len(header) == 1 and any(s in header[0] for s in ";\t|,"):
        return [Problem(name, "", f"{file.name} has one column only", hint="declare sep in bank.yaml, e.g. sep: ';'")]
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        handle.readline()
        if not handle.readline().strip():
            return [Problem(name, "", f"{file.name} is empty below its header", hint="take the table out of bank.yaml")]
    if encoding in NATIVE:
        return csv_relation(file, header, sep, NATIVE[encoding]), header
    alias = f"_recoded_{len(recoded)}"
    recoded[alias] = (name, file, sep, encoding, header)
    return alias, header


def relation_of(
    name: str, file: Path, spec: Mapping[str, Any], databases: dict[Path, str], recoded: Recoded
) -> tuple[str, list[str], dict[str, str], bool] | list[Problem]:
    """Find what the engine reads a file by, its columns, the time zones it states, and whether all is text."""
    try:
        if file.suffix in (SUFFIX, ".db", ".sqlite", ".sqlite3"):
            if "table" not in spec:
                return [Problem(name, "", f"{file.name} is a database; say which table (table: …)")]
            wanted, text = spec["table"], _is_sqlite(file)
            header = _database_header(file, wanted)
            if not header:
                return [Problem(name, "", f"{file.name} holds no table '{wanted}'")]
            alias = databases.setdefault(file, f"_source_{len(databases)}")
            relation = quoted(f"{alias}.{wanted}") if text else f"{quoted(alias)}.{quoted(wanted)}"
            return relation, header, {}, text
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            schema = pq.read_schema(file)
            zones = {f.name: f.type.tz for f in schema if getattr(f.type, "tz", None) not in (None, "UTC")}
            return f"read_parquet({literal(file)})", list(schema.names), zones, False
    except (InputError, OSError, ValueError, sqlite3.Error):
        hint = "close the program that has it open, or write it again"
        return [Problem(name, "", f"{file.name} is damaged, or locked by another program", hint=hint)]
    found = _csv_relation(name, file, spec, recoded)
    return found if isinstance(found, list) else (*found, {}, True)


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(16).startswith(b"SQLite format 3")


def _database_header(file: Path, table: str) -> list[str]:
    if not _is_sqlite(file):
        return columns_of(file, table)
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [r[0] for r in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def prepare(databases: Mapping[Path, str], recoded: Recoded, engine: DuckDB) -> list[Problem]:
    """Make sources visible that the engine does not read by itself; return what is wrong with them."""
    _attach(databases, engine)
    problems = []
    for alias, (table, file, sep, encoding, header) in recoded.items():
        try:
            _copy_text(engine, alias, header, _text_rows(file, sep, encoding, len(header)))
        except UnicodeError:
            hint = "declare encoding in bank.yaml, or save as UTF-8"
            problems.append(Problem(table, "", f"{file.name} is not {encoding} text", hint=hint))
        except ValueError as error:
            problems.append(Problem(table, "", f"{error} of {file.name}", hint="declare sep, or repair it"))
    return problems


def _text_rows(file: Path, sep: str, encoding: str, width: int) -> Iterator[list[str | None]]:
    """Read the rows of a CSV file in any encoding Python knows."""
    with _csv_reader(file, sep, encoding) as reader:
        next(reader)
        for row in reader:
            if len(row) != width:
                message = f"a row has another number of columns than the header near line {reader.line_num}"
                raise ValueError(message)
            yield [v or None for v in row]


def _copy_text(engine: DuckDB, relation: str, header: Sequence[str], rows: Iterator[Any]) -> None:
    """Create a table of text columns from rows, a batch at a time."""
    import pyarrow as pa

    engine.run(f"CREATE TEMP TABLE {relation} ({', '.join(f'{quoted(c)} VARCHAR' for c in header)})")
    while batch := list(itertools.islice(rows, 100_000)):
        texts = [[None if v is None else str(v) for v in column] for column in zip(*batch, strict=True)]
        with engine.visible({"_batch": pa.table([pa.array(t, pa.string()) for t in texts], names=list(header))}):
            engine.run(f"INSERT INTO {relation} SELECT * FROM _batch")


def _attach(databases: Mapping[Path, str], engine: DuckDB) -> None:
    """Make the tables of databases visible: DuckDB attaches, SQLite is copied as text (no extension needed)."""
    for file, alias in databases.items():
        if not _is_sqlite(file):
            engine.run(f"ATTACH {literal(file)} AS {quoted(alias)} (READ_ONLY)")
            continue
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            names = [r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
            for name in names:
                cursor = connection.execute(f"SELECT * FROM {quoted(name)}")
                header = [d[0] for d in cursor.description]
                _copy_text(engine, quoted(f"{alias}.{name}"), header, iter(cursor))
