"""Tables of a PostgreSQL server: only read, all in one transaction, and as text, as the server itself writes it.

Its address stands in ``bank.yaml`` without a password, or in an environment variable that ``bank.yaml`` names; it is
neither printed nor part of a fingerprint. What is loaded is known by a digest that the server computes of the rows.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from crmresearch.data.contract import literal, nearest, quoted
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources.databases import one_select
from crmresearch.data.sources.relations import Relation, refuse

DRIVER = "adbc-driver-postgresql"
PREFIX = ("postgresql://", "postgres://")
EXACT = ("numeric", "money", "float4", "float8")  # types whose text is a number with a decimal point
DIGEST = "SELECT count(*)::text AS n, sum(hashtextextended(_q::text, 0))::text AS h FROM (\n{}\n) AS _q"
NAMES = "SELECT table_name FROM information_schema.tables WHERE table_schema = ANY(current_schemas(false))"
# what a refused connection says, what that means, and what helps
REFUSALS = (
    ("password|role|authentication", "refuses the sign-in", "check user and password in the address, or ~/.pgpass"),
    ("database", "has no such database", "check the end of the address: postgresql://user@host/name"),
    ("", "cannot be reached", "check host and port in the address, and that the server runs and lets this machine in"),
)


class Server:
    """One snapshot of a database on a server, for all tables of a bank that name it; it ends with its last user."""

    begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    more: tuple[str, ...] = ()

    def __init__(self, table: str, said: str, key: str = "database") -> None:
        try:
            import adbc_driver_postgresql.dbapi as driver
        except ImportError:
            refuse(table, "the driver for PostgreSQL is not installed", f"python -m pip install {DRIVER}")
        address = _address(table, said, key)
        wait = "" if "connect_timeout" in address else ("&" if "?" in address else "?") + "connect_timeout=10"
        try:
            self.connection = driver.connect(address + wait)
        except driver.Error as error:
            found = next(r for r in REFUSALS if re.search(r[0], str(error).rpartition("FATAL:")[2] if r[0] else ""))
            refuse(table, f"its server {found[1]}", found[2])
        weakref.finalize(self, self.connection.close)
        self.error = driver.Error
        self.read: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._begin()

    def _begin(self) -> None:
        self.connection.rollback()
        with self.connection.cursor() as cursor:
            for statement in (self.begin, "SET LOCAL TIME ZONE 'UTC'", "SET LOCAL DateStyle = 'ISO'", *self.more):
                cursor.execute(statement)

    def ask(self, select: str) -> Any:
        """Run a statement; return its answer as an Arrow table."""
        with self.connection.cursor() as cursor:
            cursor.execute(select)
            return cursor.fetch_arrow_table()

    def failed(self, table: str, spec: Mapping[str, Any], error: Exception) -> NoReturn:
        """Say why a table or a query cannot be read: in the server's words only where they are about names."""
        state = getattr(error, "sqlstate", None) or ""
        self._begin()
        if state == "42P01" and "table" in spec:
            names = self.ask(NAMES)[0].to_pylist()
            refuse(table, f"its server holds no table '{spec['table']}'", nearest(spec["table"], names))
        words = re.search(r"[^\W\d]+:  (.+)", str(error)) if state.startswith("42") else None
        what = words[1] if words else f"a value cannot be computed (SQLSTATE {state})" if state[:2] == "22" else ""
        hint = "correct query: in bank.yaml" if what and "query" in spec else "check what the server lets its user read"
        refuse(table, f"it cannot be read from its server: {what or f'the server ended it (SQLSTATE {state})'}", hint)

    def digest(self) -> str:
        """Return what changes with the rows that are read, whatever their order; the server computes it."""
        found = []
        for table, (spec, select) in self.read.items():
            try:
                found.append((table, self.ask(DIGEST.format(select)).to_pylist()))
            except self.error as error:
                self.failed(table, spec, error)
        return repr(found)


class Session(Server):
    """A snapshot of a database on a server in which a bank's tables are reduced where they are; see `engines.Link`."""

    name, language, binary, plain = "the PostgreSQL server", "postgres", ' COLLATE "C"', True
    begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"  # it may make views and tables, of its own alone
    more = ("SET LOCAL enable_nestloop = off", "SET LOCAL jit = off")  # what is computed in a view it guesses too small

    def relation(self, table: str, spec: Mapping[str, Any]) -> Relation:
        """Find what a table is read by, and its columns."""
        name = ".".join(map(quoted, spec["table"].split(".")))
        try:
            asked = f"SELECT relnamespace::regnamespace::text AS s FROM pg_class WHERE oid = {literal(name)}::regclass"
            schema = self.ask(asked)[0].to_pylist()[0]  # named, as a view of the connection may be called like it
            name = name if "." in spec["table"] else f"{schema}.{name}"
            header = self.ask(f"SELECT * FROM {name} LIMIT 0").schema.names
        except self.error as error:
            self.failed(table, spec, error)
        return Relation(name, header, f"table {spec['table']} of its server", text=False)

    def watch(self, table: str, spec: Mapping[str, Any], select: str) -> None:
        """Count the rows of a query among those that :meth:`digest` tells apart."""
        self.read[table] = spec, select

    def view(self, name: str, text: str) -> None:
        """Call a query by a name, which it takes from another query."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"DROP VIEW IF EXISTS pg_temp.{quoted(name)} CASCADE")
            cursor.execute(f"CREATE TEMPORARY VIEW {quoted(name)} AS {text}")

    def keep(self, name: str, text: str) -> None:
        """Compute the answer of a query once, and call it by a name."""
        with self.connection.cursor() as cursor:
            cursor.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {quoted(name)} AS {text}")
            cursor.execute(f"ANALYZE {quoted(name)}")

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


def relation(table: str, spec: Mapping[str, Any], servers: dict[str, Server]) -> Relation:
    """Find what a table, or the answer of a query, of a server is read by; ``servers`` are those asked before."""
    if "file" in spec:
        refuse(table, "has both file: and database:", "take one of them out of bank.yaml")
    for key in {"sep", "encoding", "sheet", "as_of"} & spec.keys():
        refuse(table, f"{key}: goes with a file, not with database:", f"take {key}: out of bank.yaml")
    if not {"table", "query"} & spec.keys():
        refuse(table, "names a database: only", "table: NAME, or query: SELECT … FROM …, in bank.yaml")
    select = one_select(table, spec, "postgres")
    said, alias = spec["database"], f"_{table}_0"
    server = servers[said] = servers.get(said) or Server(table, said)
    try:
        fields = server.ask(f"SELECT * FROM (\n{select}\n) AS _q LIMIT 0").schema
    except server.error as error:
        server.failed(table, spec, error)
    server.read[table] = spec, select
    types = {f.name: (f.metadata or {}).get(b"POSTGRESQL:type", b"").decode() for f in fields}
    texts = ", ".join(f"{_text(quoted(c), t)} AS {quoted(c)}" for c, t in types.items())

    def make(engine: DuckDB) -> None:
        import pyarrow as pa

        engine.run(f"CREATE TEMP TABLE {alias} ({', '.join(f'{quoted(c)} VARCHAR' for c in types)})")
        try:
            with server.connection.cursor() as cursor:
                cursor.execute(f"SELECT {texts} FROM (\n{select}\n) AS _q")
                for batch in cursor.fetch_record_batch():
                    with engine.visible({"_batch": pa.Table.from_batches([batch])}):
                        engine.run(f"INSERT INTO {alias} SELECT * FROM _batch")
        except server.error as error:
            server.failed(table, spec, error)

    origin = f"table {spec['table']} of its server" if "table" in spec else "its query"
    numbers = [c for c, t in types.items() if t in EXACT]
    return Relation(alias, list(types), origin, numbers=numbers, makes=(make,))


def _text(name: str, kind: str) -> str:
    """Write a column as text: times with a zone in UTC, marked as such, and money without its sign."""
    if kind == "timestamptz":
        utc = f"to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
        return f"CASE WHEN isfinite({name}) THEN {utc} ELSE {name}::text END"
    return f"{name}::numeric::text" if kind == "money" else f"{name}::text"


def _address(table: str, said: str, key: str) -> str:
    """Return the address that ``database:`` or ``connect:`` states, or that the environment variable it names holds."""
    example = "postgresql://user@host:5432/name"
    if "://" not in said:
        address = os.environ.get(said, "")
        if not address:
            refuse(table, f"the environment variable {said} is not set", f"export {said}={example}")
    else:
        address = said
        if "password" in parse_qs(urlsplit(said).query) or urlsplit(said).password is not None:
            hint = "put the address into an environment variable, and its name into bank.yaml: "
            hint += f"{key}: BANK_DATABASE"
            refuse(table, f"{key}: holds a password", hint)
    if not address.startswith(PREFIX):
        refuse(table, f"{key}: is no address of a PostgreSQL server", f"it looks like this: {example}")
    return address
