"""The seam to the engine: how to open one, ask it for frames, and what it must be told in its own words.

A :class:`~crmresearch.data.bank.Bank` asks for ``frame``, ``scalar``, ``fingerprint`` and ``tables`` and knows no more.
DuckDB is the default, and the oracle against which another engine is compared. Reductions are Ibis expressions; what
Ibis writes differently for each engine, or slowly for this one, is declared here once. Loading writes SQL, through
:meth:`DuckDB.run`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from crmresearch.data.places import FULL, private
from crmresearch.errors import CrmError, InputError

if TYPE_CHECKING:
    import ibis
    import pandas as pd
    import pyarrow as pa


SUFFIX = ".duckdb"  # of loaded banks, and of databases that bring one
LANGUAGE = "duckdb"  # what a parser of SQL calls that of this engine
PACKAGES = ("duckdb", "ibis-framework")  # whose versions a run states
FINAL = "_final"  # what the file of a loaded bank is called while it is written
MODULES = ("duckdb", "ibis.backends.duckdb", "ibis.formats.pandas")  # what its use imports
NOTES = "_crmresearch"  # the table in which a load notes what it did
PEOPLE = "_people"  # the table of the pseudonyms of people, by code, and of what finds their identifiers again
CODE = "UBIGINT"  # type of these codes, and of nothing else
NAMED = 400_000  # people whose names are all kept at hand, at 93 bytes each


class Statement(NamedTuple):
    """An expression written down for the engine, with the types its columns must have."""

    text: str
    schema: Any


class DuckDB:
    """DuckDB, in memory or on a file.

    Parameters
    ----------
    path : Path, optional
        The file; without it everything stays in memory.
    read_only : bool
        Whether the file may be read only; several processes can then share it.

    Notes
    -----
    Threads and memory are limited by ``CRMRESEARCH_THREADS`` and ``CRMRESEARCH_MEMORY`` (such as ``2GB``).

    Attributes
    ----------
    error, bad_value : type, tuple of type
        What :meth:`run` raises at all, and what it raises for a value that cannot be cast.
    here : bool
        Whether tables are kept here, whose rows have numbers that a report can name.
    """

    here = True

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        import duckdb
        import ibis

        self.path = path
        self.error = duckdb.Error
        self.bad_value = (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException)
        self._ibis = ibis.duckdb.connect(":memory:" if path is None else str(path), read_only=read_only)
        self._raw = self._ibis.con
        self.run("SET TimeZone = 'UTC'")
        self.run("SET preserve_insertion_order = true")
        # the setting is refused in a notebook without widgets, where it is off already
        if self.run("SELECT current_setting('enable_progress_bar')") != [(False,)]:
            self.run("SET enable_progress_bar = false")
        if threads := int(os.environ.get("CRMRESEARCH_THREADS", "0")):
            self.run(f"SET threads = {threads}")
        if memory := os.environ.get("CRMRESEARCH_MEMORY"):
            self.run("SET memory_limit = $limit", {"limit": memory})
        self.run("SET temp_directory = '" + str(private("spill")).replace("'", "''") + "'")

    def table(self, name: str) -> ibis.Table:
        """Return a table as an Ibis expression."""
        return self._ibis.table(name)

    def tables(self) -> dict[str, Any]:
        """Return what the load noted, by table."""
        [(noted,)] = self.run(f"SELECT meta FROM {NOTES}")
        return dict(json.loads(noted))

    def note(self, facts: Mapping[str, Any]) -> None:
        """Keep what :meth:`tables` is to return."""
        self.run(f"CREATE TABLE {NOTES} AS SELECT $meta AS meta", {"meta": json.dumps(facts)})

    def compiled(self, expr: Any) -> Statement:
        """Write an Ibis expression (or SQL of this engine) down, once for many runs."""
        import ibis

        expr = self._ibis.sql(expr) if isinstance(expr, str) else expr.as_table()
        return Statement(str(ibis.to_sql(expr, dialect="duckdb")), expr.schema())

    def frame(self, expr: Any) -> pd.DataFrame:
        """Run an expression, or a :class:`Statement`; return :func:`typed` columns, people by their names."""
        text, schema = expr if isinstance(expr, Statement) else self.compiled(expr)
        frame = typed(self._answer(text), schema)
        for name, kind in schema.items():
            if kind.is_uint64():
                named = frame[name].map(self._named(frame[name]) if self._names is None else self._names)
                frame[name] = named.astype(object).where(named.notna(), None)
        return frame

    def _answer(self, text: str) -> pd.DataFrame:
        frame: pd.DataFrame = self._raw.execute(text).df()
        return frame

    @functools.cached_property
    def _names(self) -> pd.Series | None:
        """Names of people by their code; None where they are too many to be kept at hand."""
        [(people,)] = self._raw.execute(f"SELECT count(*) FROM {PEOPLE}").fetchall()
        return self._named() if people <= NAMED else None

    def _named(self, codes: pd.Series | None = None) -> pd.Series:
        """Names of some people, or of all, by their code."""
        asked = {} if codes is None else {"_asked": codes.dropna().drop_duplicates().to_frame("code")}
        which = f" WHERE code IN (SELECT CAST(code AS {CODE}) FROM _asked)" if asked else ""
        with self.visible(asked):
            return self._raw.execute(f"SELECT code, name FROM {PEOPLE}{which}").df().set_index("code")["name"]

    def keep(self, name: str, expr: Any) -> None:
        """Compute a table for as long as this connection lasts; one of the name that is kept already stays."""
        self.run(f'CREATE TEMPORARY TABLE IF NOT EXISTS "{name}" AS {self.compiled(expr).text}')

    def scalar(self, expr: Any) -> Any:
        """Run an expression that has one value, and return it."""
        return self.frame(expr.name("value").as_table()).iloc[0, 0]

    def run(self, text: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run SQL of this engine; return its rows. A disk that is full is the system's error, not the engine's."""
        try:
            rows: list[tuple[Any, ...]] = self._raw.execute(text, values).fetchall()
        except self.error as error:
            reason = next((code for code in FULL if os.strerror(code) in str(error)), None)
            if reason is None:
                raise
            raise OSError(reason, os.strerror(reason)) from None
        return rows

    ask = run  # what rows of tables are asked for, wherever these are

    def columns(self, name: str) -> list[str]:
        """Return the names of a table's columns."""
        return [str(row[0]) for row in self.described(f'"{name}"')]

    def described(self, query: str) -> list[tuple[str, str]]:
        """Return the columns that a query, or the name of a table, has, and their types in the words of this engine."""
        return [(str(row[0]), str(row[1])) for row in self.run(f"DESCRIBE {query}")]

    @contextlib.contextmanager
    def visible(self, frames: Mapping[str, Any]) -> Iterator[None]:
        """Let SQL see frames (pandas or Arrow) under these names, for a while."""
        for name, frame in frames.items():
            self._raw.register(name, frame)
        yield
        for name in frames:
            self._raw.unregister(name)

    @contextlib.contextmanager
    def piecewise(self) -> Iterator[None]:
        """Let ``TRY`` catch all that fails within it, for a while: what stands twice is else computed before it."""
        with self._set(disabled_optimizers="common_subexpressions"):
            yield

    @contextlib.contextmanager
    def _set(self, **settings: str) -> Iterator[None]:
        """Set options of the engine, for a while."""
        before = {name: self.run(f"SELECT current_setting('{name}')")[0][0] for name in settings}
        for name, value in settings.items():
            self.run(f"SET {name} = '{value}'")
        try:
            yield
        finally:
            for name, value in before.items():
                self.run(f"SET {name} = '{value}'")

    @contextlib.contextmanager
    def uncompressed(self) -> Iterator[None]:
        """Write tables as they are, for a while, into a file that is copied soon and never opened again.

        Compressing them, and putting the file in order at the end, would cost half of a load.
        """
        self.run("PRAGMA disable_checkpoint_on_shutdown")
        with self._set(force_compression="uncompressed"):
            yield

    def beside(self, path: Path) -> None:
        """Begin the new file that the tables are for; what :meth:`write` puts there is found as if it stood here."""
        target, here = str(path).replace("'", "''"), self.run("SELECT current_database()")[0][0]
        self.run(f"ATTACH '{target}' AS {FINAL} (STORAGE_VERSION 'v1.4.0')")  # texts are packed at less cost
        self.run(f"SET search_path = '{here}.main,{FINAL}.main'")

    def write(self, name: str, query: str, *, joined: bool = False, final: bool = False) -> None:
        """Write a table, in the order of its rows: here, or packed into the file that was begun.

        One thread, and joins as they are written, keep the order of rows at less cost than a sort by their numbers.
        """
        place = f"{FINAL}.{name}" if final else f'"{name}"'
        off = ("join_order", "build_side_probe_side", self.run("SELECT current_setting('disabled_optimizers')")[0][0])
        settings = {"threads": "1", "disabled_optimizers": ",".join(filter(None, off))} if joined else {}
        settings |= {"force_compression": "auto"} if final else {}
        with self._set(**settings):
            self.run(f"CREATE OR REPLACE TABLE {place} AS {query}")

    def share(self, jobs: int) -> dict[str, str]:
        """Return what each of so many processes side by side may use: threads, and memory in MiB."""
        [(threads, memory)] = self.run("SELECT current_setting('threads'), current_setting('memory_limit')")
        amount, unit = str(memory).split()
        mib = float(amount) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024, "TiB": 1024**2}[unit]
        limits = {"THREADS": max(1, int(threads) // max(1, jobs)), "MEMORY": f"{max(1, int(mib / max(1, jobs)))}MiB"}
        return {f"CRMRESEARCH_{name}": str(limit) for name, limit in limits.items()}

    def fingerprint(self) -> str:
        """Return the hash of the sources a file was loaded from, which its name carries; nothing in memory."""
        return self.path.name.removesuffix(SUFFIX).rpartition(".")[2] if self.path else ""

    def finish(self) -> None:
        """Write all tables that stand here into the file that was begun, and nothing else of this one."""
        own = "database_name = current_database() AND NOT temporary"
        for (name,) in self.run(f"SELECT table_name FROM duckdb_tables() WHERE {own} ORDER BY table_oid"):
            self.write(name, f'FROM "{name}"', final=True)
        self.run("RESET search_path")
        self.run(f"CHECKPOINT {FINAL}")  # which the end of this connection need not do
        self.run(f"DETACH {FINAL}")

    def close(self) -> None:
        """End the connection."""
        self._ibis.disconnect()


class Link(Protocol):
    """A connection to an engine elsewhere, which sees one state of the tables as far as the engine can.

    Attributes
    ----------
    name : str
        What the engine is called.
    language : str
        What Ibis, and a parser of SQL, call what it speaks.
    binary : str
        What stands behind an expression of text, so that it is ordered by its bytes as it is here.
    plain : bool
        Whether Ibis expressions must do with fewer words; see `plainer`.
    error : type, tuple of type
        What it raises when it cannot answer.
    """

    name: str
    language: str
    binary: str
    plain: bool
    error: Any

    def ask(self, text: str) -> pa.Table:
        """Return what a query answers."""

    def view(self, name: str, text: str) -> None:
        """Call a query by a name, which it takes from another query."""

    def keep(self, name: str, text: str) -> None:
        """Compute the answer of a query once, and call it by a name."""

    def close(self) -> None:
        """End the connection."""


class Remote(DuckDB):
    """The tables of a bank that stay on an engine elsewhere, seen through views of the connection.

    What the bank's notes say, and how its people are called, stands in the file that is here. What is written in the
    words of this engine is put into those of the other one.
    """

    here = False

    def __init__(self, path: Path | None, link: Link) -> None:
        super().__init__(path, read_only=path is not None)
        self.link = link
        self._schemas: dict[str, Any] = {}

    def see(self, name: str, query: str, types: Mapping[str, str]) -> None:
        """Call a query, in the words of this engine, by the name of a table; its columns have these types of Ibis."""
        import ibis

        self._do(self.link.view, name, self.said(query))
        self._schemas[name] = ibis.schema(types)

    def table(self, name: str) -> ibis.Table:
        """Return a table as an Ibis expression."""
        import ibis

        return ibis.table(self._schemas[name], name=name)

    def columns(self, name: str) -> list[str]:
        """Return the names of a table's columns."""
        return [*self._schemas[name]]

    def described(self, query: str) -> list[tuple[str, str]]:
        """Return the columns that a query has, and their types in the words of the engine that is here."""
        schema = self._do(self.link.ask, self.said(f"SELECT * FROM {query} AS q LIMIT 0")).schema
        return [(f.name, _kind(f)) for f in schema]

    def compiled(self, expr: Any) -> Statement:
        """Write an Ibis expression (or SQL of the engine that is here) down, once for many runs."""
        import ibis

        if isinstance(expr, str):
            text = self.said(expr)
            return Statement(text, ibis.schema(self._do(self.link.ask, f"SELECT * FROM ({text}) AS q LIMIT 0").schema))
        expr = expr.as_table()
        expr = expr.op().replace(plainer).to_expr() if self.link.plain else expr
        return Statement(str(ibis.to_sql(expr, dialect=self.link.language)), expr.schema())

    def _answer(self, text: str) -> pd.DataFrame:
        frame: pd.DataFrame = self._do(self.link.ask, text).to_pandas()
        return frame

    def keep(self, name: str, expr: Any) -> None:
        """Compute a table for as long as the connection lasts; one of the name that is kept already stays."""
        if name not in self._schemas:
            text, schema = self.compiled(expr)
            self._do(self.link.keep, name, text)
            self._schemas[name] = schema

    def ask(self, text: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a query in the words of the engine that is here; return its rows."""
        found = self._do(self.link.ask, self.said(text))
        columns = [column.to_pylist() for column in found.columns]
        for k, field in enumerate(found.schema):  # exact numbers of any length come as text
            if _kind(field) == "DECIMAL":
                columns[k] = [None if v is None else Decimal(v) for v in columns[k]]
        return list(zip(*columns, strict=True))

    def said(self, text: str) -> str:
        """Put words of the engine that is here into those of the other one."""
        import sqlglot

        return sqlglot.transpile(text, read=LANGUAGE, write=self.link.language)[0]

    def _do(self, what: Callable[..., Any], *given: str) -> Any:
        """Ask the engine; one that cannot answer, or is no longer there, ends the work in one line."""
        try:
            return what(*given)
        except self.link.error as error:
            self._lost(error)

    def _lost(self, error: Exception) -> NoReturn:
        code = getattr(error, "sqlstate", None) or type(error).__name__  # its words may hold values
        what = f"{self.link.name}, where the bank's tables are, did not answer ({code})"
        raise CrmError(
            f"{what}; see that it runs and lets you read, then run this again: what is done is kept"
        ) from None

    def close(self) -> None:
        """End the connections."""
        with contextlib.suppress(self.link.error):
            self.link.close()
        super().close()


def _kind(field: pa.Field) -> str:
    """Say the type of a column that an engine elsewhere answers with as this one would."""
    import pyarrow.types as of

    theirs = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    kinds = (
        ("BIGINT", of.is_integer(field.type)), ("DOUBLE", of.is_floating(field.type)),
        ("DECIMAL", of.is_decimal(field.type) or theirs == "numeric"), ("BOOLEAN", of.is_boolean(field.type)),
        ("VARCHAR", of.is_string(field.type) or of.is_large_string(field.type)), ("DATE", of.is_date(field.type)),
        ("TIMESTAMP WITH TIME ZONE", of.is_timestamp(field.type) and field.type.tz),
        ("TIMESTAMP", of.is_timestamp(field.type)),
    )  # fmt: skip
    return next((kind for kind, found in kinds if found), theirs or str(field.type))


def typed(frame: pd.DataFrame, schema: Any) -> pd.DataFrame:
    """Cast columns to the types an expression declares, whatever an engine returned.

    Dates become datetime64[ns]; exact numbers, and whole numbers with gaps, float64; truth values with gaps objects.
    """
    for name, kind in schema.items():
        column = frame[name]
        if kind.is_temporal():
            wanted: Any = "datetime64[ns]"
        elif kind.is_boolean():
            gaps = column.isna()
            wanted = object if gaps.any() else bool
            column = column.astype(object).mask(gaps, None) if gaps.any() else column
        elif kind.is_numeric():
            wanted = kind.to_pandas() if kind.is_integer() and not column.isna().any() else "float64"
        else:
            continue
        if column.dtype != wanted or column is not frame[name]:
            frame[name] = column.astype(wanted)
    return frame


def workers(on: bool) -> None:
    """Let the connection that every process has from its start have threads, or none: they are lost in a fork."""
    import duckdb

    duckdb.execute("RESET threads" if on else "SET threads = 1")


def plainer(node: Any, parts: Mapping[str, Any] | None) -> Any:
    """Say what is in an Ibis expression with fewer words: no ``min_by``, no truth value cast to any number but one."""
    import ibis.expr.operations as ops

    made = node if parts is None else node.__recreate__(parts)
    if type(made).__name__.startswith("min_by"):  # see earliest
        return ops.ArgMin(*made.args[:2], where=None)
    if isinstance(made, ops.Cast) and made.arg.dtype.is_boolean() and made.to.is_numeric():
        return ops.Cast(ops.Cast(made.arg, "int32"), made.to)
    return made


def earliest(value: Any, day: Any) -> Any:
    """Return the value of the earliest day, in a group.

    Ibis writes ``argmin`` as an ordered ``FIRST``, which DuckDB runs at half the speed. Databricks, Trino and Snowflake
    know ``min_by`` too, Postgres does not.
    """
    import ibis

    @ibis.udf.agg.builtin(name="min_by", signature=((value.type(), day.type()), value.type()))
    def min_by(value, day):  # type: ignore[no-untyped-def]
        ...

    return min_by(value, day)


def md5(text: Any) -> Any:
    """Return the MD5 of a text, in hexadecimal digits.

    Declared here as engines name it themselves: Ibis' ``hash`` differs between engines, and its ``hexdigest`` is
    written for four. Trino's takes bytes; there the mapped view must bring the digits.
    """
    import ibis

    @ibis.udf.scalar.builtin(name="md5", signature=(("string",), "string"))
    def digest(text):  # type: ignore[no-untyped-def]
        ...

    return digest(text)


def hashed(key: Any, start: int = 0) -> Any:
    """Return a whole number below 4,096 by a hash of an identifier or its code, from its digits after ``start``."""
    import ibis

    digits = md5(key.cast("string"))
    a, b, c = (ibis.literal("0123456789abcdef").find(digits.substr(start + k, 1)) for k in range(3))
    return a * 256 + b * 16 + c


class QueryError(Exception):
    """What is wrong with a query: the engine's words about the names in it, never a value."""


@contextlib.contextmanager
def answer(file: Path, query: str) -> Iterator[Any]:
    """Run a query on a database that brings a bank; it reaches nothing but that file. Yields a reader of Arrow batches.

    Raises
    ------
    QueryError
        If the query cannot be run.
    InputError
        If the file cannot be opened.
    """
    import duckdb

    try:
        with duckdb.connect(str(file), read_only=True, config={"enable_external_access": "false"}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection.execute(query).to_arrow_reader(100_000)
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException, duckdb.PermissionException) as e:
        raise QueryError(str(e).partition("\n")[0].partition(": ")[2].lstrip()) from None
    except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException) as e:
        raise QueryError(f"a value cannot be computed ({type(e).__name__})") from None
    except duckdb.Error as error:
        raise InputError(f"{file.name} cannot be opened ({type(error).__name__})") from None
