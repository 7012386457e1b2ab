"""Databases that bring a bank: DuckDB and SQLite files, as whole tables or by a query."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crmresearch.data.contract import literal, quoted
from crmresearch.data.engines import SUFFIX, DuckDB, columns_of
from crmresearch.data.sources.relations import Relation, copy_text, refuse
from crmresearch.errors import InputError

SUFFIXES = (SUFFIX, ".db", ".sqlite", ".sqlite3")


def damaged(file: Path) -> tuple[str, str]:
    """Return the rule and the hint for a file that cannot be opened."""
    return (
        f"{file.name} is damaged, or locked by another program",
        "close the program that has it open, or write it again",
    )


def relation(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    """Find what a table, or the answer of a query, of a database file is read by."""
    if "table" not in spec:
        refuse(table, f"{file.name} is a database; say which table (table: …)")
    wanted = spec["table"]
    try:
        with file.open("rb") as handle:
            is_sqlite = handle.read(16).startswith(b"SQLite format 3")
        header = _sqlite_header(file, wanted) if is_sqlite else columns_of(file, wanted)
    except (InputError, OSError, sqlite3.Error):
        refuse(table, *damaged(file))
    if not header:
        refuse(table, f"{file.name} holds no table '{wanted}'")
    if is_sqlite:

        def copy(engine: DuckDB) -> None:
            with _sqlite(file) as connection:
                copy_text(engine, alias, header, connection.execute(f"SELECT * FROM {quoted(wanted)}"))

        return Relation(alias, header, file.name, makes=(copy,))
    database = quoted("_" + hashlib.sha256(str(file).encode()).hexdigest()[:12])  # one name for all its tables

    def attach(engine: DuckDB) -> None:
        engine.run(f"ATTACH IF NOT EXISTS {literal(file)} AS {database} (READ_ONLY)")

    return Relation(f"{database}.{quoted(wanted)}", header, file.name, text=False, makes=(attach,))


@contextlib.contextmanager
def _sqlite(file: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        yield connection


def _sqlite_header(file: Path, table: str) -> list[str]:
    with _sqlite(file) as connection:
        return [r[0] for r in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
