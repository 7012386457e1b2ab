"""Databases that bring a bank: DuckDB and SQLite files, as whole tables or by a query."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from crmresearch.data.contract import literal, nearest, quoted
from crmresearch.data.engines import LANGUAGE, SUFFIX, DuckDB, QueryError, answer
from crmresearch.data.sources.relations import Relation, copy_text, refuse
from crmresearch.errors import InputError

SUFFIXES = (SUFFIX, ".db", ".sqlite", ".sqlite3")
STARTS = {"SELECT", "WITH", "FROM", "(", "VALUES", "TABLE"}
WRITES = {"INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "CREATE", "DROP", "ALTER", "TRUNCATE", "COPY"}
# what has another value tomorrow, as a word or called: an answer that is kept would be stale without a word
CLOCK = {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"}
CHANCE = {"NOW", "TODAY", "RANDOM", "RAND", "UUID", "GEN_RANDOM_UUID", "CLOCK_TIMESTAMP", "GET_CURRENT_TIMESTAMP"}


def damaged(file: Path) -> tuple[str, str]:
    """Return the rule and the hint for a file that cannot be opened."""
    rule = f"{file.name} is damaged, or locked by another program"
    return rule, "close the program that has it open, or write it again"


def _named(spec: Mapping[str, Any]) -> str:
    return ".".join(map(quoted, spec["table"].split(".")))  # with its schema, where it is not the first one


def one_select(table: str, spec: Mapping[str, Any], spoken: str) -> str:
    """Return the statement that reads a table: the query that is declared, if it only reads, or all of a table."""
    if "query" not in spec:
        return f"SELECT * FROM {_named(spec)}"
    if "table" in spec:
        refuse(table, "has both table: and query:", "take one of them out of bank.yaml")
    import sqlglot

    query = spec["query"].strip().rstrip(";")
    try:
        tokens = sqlglot.tokenize(query, read=spoken)
    except sqlglot.errors.TokenError:
        refuse(table, "its query cannot be read", "close what is quoted in it")
    kinds = [(t.token_type.name, t.text.upper()) for t in tokens]
    words = [text for kind, text in kinds if kind not in ("STRING", "IDENTIFIER")]
    if not words or words[0] not in STARTS or ";" in words or WRITES & {*words}:
        refuse(table, "its query must be one SELECT statement", "query: SELECT … FROM …")
    called = {a for a, b in itertools.pairwise(words) if b == "("}
    if CLOCK & {*words} or CHANCE & called or ("STRING", "NOW") in kinds:
        refuse(table, "its query asks the clock or chance", "write the day into it, such as DATE '2023-12-31'")
    return query


def relation(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    """Find what a table, or the answer of a query, of a database file is read by."""
    if not {"table", "query"} & spec.keys():
        hint = "table: NAME, or query: SELECT … FROM …, in bank.yaml"
        refuse(table, f"{file.name} is a database; say which table (table: …)", hint)
    try:
        with file.open("rb") as handle:
            is_sqlite = handle.read(16).startswith(b"SQLite format 3")
        return (_sqlite if is_sqlite else _of_the_engine)(table, file, spec, alias)
    except (InputError, OSError, sqlite3.Error):
        refuse(table, *damaged(file))


def _failed(table: str, file: Path, spec: Mapping[str, Any], error: Exception, tables: list[str]) -> NoReturn:
    """Say that a table is not there, or why a query cannot be run."""
    if "table" in spec:
        refuse(table, f"{file.name} holds no table '{spec['table']}'", nearest(spec["table"], tables))
    refuse(table, f"its query cannot be run on {file.name}: {error}", "correct query: in bank.yaml")


def _of_the_engine(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    select = one_select(table, spec, LANGUAGE)
    try:
        with answer(file, f"SELECT * FROM (\n{select}\n) LIMIT 0") as reader:
            header = reader.schema.names
    except QueryError as error:
        with answer(file, "SELECT table_name FROM information_schema.tables") as reader:
            _failed(table, file, spec, error, reader.read_all()[0].to_pylist())
    if "table" in spec:
        database = quoted("_" + hashlib.sha256(str(file).encode()).hexdigest()[:12])  # one name for all its tables

        def attach(engine: DuckDB) -> None:
            engine.run(f"ATTACH IF NOT EXISTS {literal(file)} AS {database} (READ_ONLY)")

        return Relation(f"{database}.{_named(spec)}", header, file.name, text=False, makes=(attach,))

    def copy(engine: DuckDB) -> None:
        try:
            with answer(file, select) as reader, engine.visible({"_batches": reader}):
                engine.run(f"CREATE TEMP TABLE {alias} AS SELECT * FROM _batches")
        except QueryError as error:
            _failed(table, file, spec, error, [])

    return Relation(alias, header, file.name, text=False, makes=(copy,))


def _sqlite(table: str, file: Path, spec: Mapping[str, Any], alias: str) -> Relation:
    select = one_select(table, spec, "sqlite")

    @contextlib.contextmanager
    def rows(of: str) -> Iterator[sqlite3.Cursor]:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            yield connection.execute(of)

    try:
        with rows(f"SELECT * FROM (\n{select}\n) LIMIT 0") as cursor:
            header = [c[0] for c in cursor.description]
    except sqlite3.OperationalError as error:
        if "lock" in str(error) or "open" in str(error):
            raise
        with rows("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')") as cursor:
            _failed(table, file, spec, error, [name for (name,) in cursor])

    def copy(engine: DuckDB) -> None:
        try:
            with rows(select) as cursor:
                copy_text(engine, alias, header, cursor)
        except sqlite3.Error as error:  # what only rows show
            _failed(table, file, spec, error, [])

    return Relation(alias, header, file.name, makes=(copy,))
