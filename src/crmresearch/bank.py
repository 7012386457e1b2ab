"""A bank's customer database: open, check, describe. Knows the engine, knows no statistics.

A bank is loaded once into a DuckDB file in the cache folder, checked against the contract, and from then on opened
read-only while its source files stay the same. Reductions ask it for Ibis tables; only small frames leave it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import contract, sources
from crmresearch.contract import TABLES, Column, ContractError, Problem, Report, nearest
from crmresearch.errors import InputError, Missing
from crmresearch.sources import About, Description, TableSource

if TYPE_CHECKING:
    import duckdb
    import ibis
    import pandas as pd

    from crmresearch.result import Result

__all__ = ["About", "Bank", "ContractError", "open_bank"]

PERSONAL = ("name", "first_name", "last_name", "email", "phone", "address", "iban", "passport", "national_id")


class Bank:
    """A loaded customer database.

    Made by :func:`open_bank` or :meth:`Bank.from_frames`, never directly.

    Attributes
    ----------
    about : About
        Facts about the bank.
    tables : tuple of str
        Names of its tables, in the order of the contract.
    connection : ibis backend
        The engine, opened read-only.
    """

    def __init__(self, connection: Any, about: About, meta: Mapping[str, Any]) -> None:
        self.connection = connection
        self.about = about
        self._meta = meta
        self.tables: tuple[str, ...] = tuple(t for t in TABLES if t in meta)

    def __repr__(self) -> str:
        return f"Bank '{self.about.name}' ({self.about.evidence}): {', '.join(self.tables)}"

    @classmethod
    def from_frames(cls, frames: Mapping[str, pd.DataFrame], about: About | Mapping[str, Any]) -> Bank:
        """Build a bank in memory, checked like every other.

        Parameters
        ----------
        frames : mapping of str to DataFrame
            Tables of the contract. Dates as datetime64, money as float (stored in whole hundredths).
        about : About or mapping
            Facts about the bank; of a mapping, the fields of :class:`About`.

        Raises
        ------
        ContractError
            If a table breaks the contract, with every problem found.
        """
        import ibis

        about = about if isinstance(about, About) else About.of(about)
        connection = ibis.duckdb.connect()
        raw = connection.con
        _configure(raw)
        tables = {}
        for name, frame in frames.items():
            raw.register(f"_frame_{name}", frame)
            tables[name] = TableSource(f'SELECT * FROM "_frame_{name}"', origin="frame")
        meta = _load(raw, Description(about, tables))
        for name in frames:
            raw.unregister(f"_frame_{name}")
        return cls(connection, about, meta)

    @property
    def name(self) -> str:
        """Short name of the bank."""
        return self.about.name

    @property
    def source_line(self) -> str:
        """Short text for figures: where the data come from, their period and kind of evidence."""
        a = self.about
        period = f", {a.observation_start:%Y-%m} to {a.observation_end:%Y-%m}" if a.dated else ""
        return f"Source: {a.title}{period} ({a.evidence})"

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the columns that the bank itself brought for a table (those filled by default are left out)."""
        return tuple(self._table_meta(table)["brought"])

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self._table_meta(table)["rows"])

    def period(self, table: str) -> tuple[datetime.date, datetime.date]:
        """Return the first and last day a table covers: the observation period, unless the bank says less."""
        if not self.about.dated:
            raise InputError(f"the bank '{self.name}' has no dates, so table {table} covers no period")
        whole = (self.about.observation_start, self.about.observation_end)
        return self.about.covered.get(table, whole)

    def origin(self, table: str) -> str:
        """Return the name of the file a table came from."""
        return str(self._table_meta(table)["origin"])

    def _table_meta(self, table: str) -> Mapping[str, Any]:
        missing = self.require(table)
        if missing is not None:
            raise InputError(str(missing))
        meta: Mapping[str, Any] = self._meta[table]
        return meta

    def require(self, *needed: str) -> Missing | None:
        """Tell whether the bank brings tables and columns.

        Parameters
        ----------
        *needed : str
            ``"table"`` or ``"table.column"``.

        Returns
        -------
        Missing or None
            What is missing, with the reason; None if nothing is.
        """
        reasons = []
        for item in needed:
            table, _, column = item.partition(".")
            if table not in TABLES:
                raise InputError(f"no table '{table}' in the contract: {nearest(table, TABLES)}")
            if item in self.about.refused:
                reasons.append(f"column {item} is refused: {self.about.refused[item]}")
            elif table not in self.tables:
                reasons.append(f"the bank '{self.name}' brings no table {table}")
            elif column and column not in self._meta[table]["brought"]:
                reasons.append(f"table {table} of the bank '{self.name}' brings no column {column}")
        if not reasons:
            return None
        return Missing("; ".join(dict.fromkeys(reasons)), tuple(dict.fromkeys(n.partition(".")[0] for n in needed)))

    def table(self, name: str) -> ibis.Table:
        """Return a table as an Ibis expression; every column of the contract is there, absent ones as nulls."""
        self._table_meta(name)
        return self.connection.table(name)

    def frame(self, expr: Any) -> pd.DataFrame:
        """Run an Ibis expression (or SQL text) and return a frame of numpy types.

        Decimals and nullable numbers become float64, dates datetime64[ns], nullable truth values object.
        """
        import ibis
        import pandas as pd

        sql = expr if isinstance(expr, str) else ibis.to_sql(expr.as_table(), dialect="duckdb")
        out = self.connection.con.execute(str(sql)).df()
        for column, dtype in out.dtypes.items():
            if pd.api.types.is_datetime64_any_dtype(dtype):
                out[column] = out[column].astype("datetime64[ns]")
            elif pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_bool_dtype(dtype):
                out[column] = out[column].astype(object).where(out[column].notna(), None)
            elif pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_numeric_dtype(dtype):
                out[column] = out[column].astype("float64")
        return out

    def describe(self) -> Result:
        """Return the tables the bank holds: rows, customers, period, columns not brought."""
        import pandas as pd

        from crmresearch.result import Result

        rows = []
        for name in self.tables:
            table = TABLES[name]
            day = next((c.name for c in table.columns if c.kind in ("date", "month")), None)
            who = next((k for k in ("customer_id", "prospect_id", "city_id") if k in table.names), None)
            first = last = "–"
            if day:
                found = self.connection.con.execute(f'SELECT min("{day}"), max("{day}") FROM "{name}"').fetchone()
                first, last = ("–" if d is None else d.isoformat() for d in found)
            n = self.connection.con.execute(f'SELECT count(DISTINCT "{who}") FROM "{name}"').fetchone()[0]
            absent = [c.name for c in table.columns if c.name not in self.columns(name)]
            rows.append((name, table.row, self.rows(name), n, first, last, ", ".join(absent) or "–"))
        header = ["table", "one row per", "rows", "n", "first date", "last date", "columns not brought"]
        a = self.about
        lacking = [t for t in TABLES if t not in self.tables]
        sentence = (
            f"{a.title}: evidence '{a.evidence}', "
            + (f"observed from {a.observation_start} to {a.observation_end}" if a.dated else "without dates")
            + f", amounts in {a.currency}. Not brought: {', '.join(lacking) or 'nothing'}."
        )
        return Result(pd.DataFrame(rows, columns=header), sentence)


def open_bank(
    name_or_path: str | os.PathLike[str], threads: int | None = None, memory_limit: str | None = None
) -> Bank:
    """Open a bank, loading it first when its sources are new or have changed.

    Parameters
    ----------
    name_or_path : str or path
        ``reference``, a name in the catalogue, the name of a bank in a folder of ``CRMRESEARCH_BANKS``, or a path to a
        folder with a ``bank.yaml``, or to that file.
    threads : int, optional
        Threads of the engine; default ``CRMRESEARCH_THREADS``, or all cores.
    memory_limit : str, optional
        Such as ``"2GB"``; default ``CRMRESEARCH_MEMORY``, or the engine's own.

    Raises
    ------
    InputError
        If the bank is not known or its files are not here.
    ContractError
        If the data break the contract; whatever was loaded before stays as it was.
    """
    import ibis

    description = sources.find(name_or_path)
    if description.problems:  # files that cannot be read at all also fail the fingerprint
        return _refuse(description, threads, memory_limit)
    path = _database(description, threads, memory_limit)
    connection = ibis.duckdb.connect(str(path), read_only=True)
    _configure(connection.con, threads, memory_limit)
    meta = json.loads(connection.con.execute("SELECT meta FROM _crmresearch").fetchone()[0])
    return Bank(connection, description.about, meta)


def _configure(raw: duckdb.DuckDBPyConnection, threads: int | None = None, memory_limit: str | None = None) -> None:
    raw.execute("SET TimeZone = 'UTC'")
    raw.execute("SET preserve_insertion_order = true")
    # the setting is refused in a notebook without widgets, where it is off already
    if raw.execute("SELECT current_setting('enable_progress_bar')").fetchone()[0]:
        raw.execute("SET enable_progress_bar = false")
    threads = threads or int(os.environ.get("CRMRESEARCH_THREADS", "0"))
    memory_limit = memory_limit or os.environ.get("CRMRESEARCH_MEMORY")
    if threads:
        raw.execute(f"SET threads = {int(threads)}")
    if memory_limit:
        raw.execute("SET memory_limit = $limit", {"limit": memory_limit})
    spill = sources.cache_dir() / "spill"
    raw.execute("SET temp_directory = '" + str(spill).replace("'", "''") + "'")


# --- loading ----------------------------------------------------------------------------------------------------------


def _refuse(description: Description, threads: int | None, memory_limit: str | None) -> Bank:
    """Load what can be read, in memory, so that one report holds every problem; always raises."""
    import duckdb

    with duckdb.connect() as raw:
        _configure(raw, threads, memory_limit)
        _load(raw, description)
    raise ContractError(description.about.name, description.problems)


def _fingerprint(description: Description, folder: Path) -> str:
    """Hash the content of the sources, their description and the loading code.

    A file's hash is remembered with its size and its times of modification and change. It is trusted only if the file
    is clearly older than the note (a file rewritten within the clock's grain keeps all three), by the file system's times.
    """
    notes = folder / "hashes.json"
    try:
        known = json.loads(notes.read_text("utf-8"))
        noted_ns = notes.stat().st_mtime_ns
    except (OSError, ValueError):
        known, noted_ns = {}, 0
    digest = hashlib.sha256(sources.code_fingerprint().encode())
    digest.update(repr((description.about, sorted(description.tables.items()))).encode())
    changed = False
    for path in description.files:
        key, stat = str(path.resolve()), path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        note = known.get(key)
        if note is None or note[:3] != mark or max(mark[1:]) > noted_ns - 2_000_000_000:
            known[key] = note = [*mark, sources.sha256(path)]
            changed = True
        digest.update(f"{path.name}:{note[3]}".encode())
    if changed:
        _write_text(notes, json.dumps(known))
    return digest.hexdigest()[:20]


def _write_text(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(temporary, path)


def _database(description: Description, threads: int | None, memory_limit: str | None) -> Path:
    """Return the loaded database of a description, loading it when there is none for its fingerprint.

    The file's name carries the fingerprint, and appears only by renaming a complete, checked file: no reader ever sees
    half a load, and an interrupted one leaves the older database where it is.
    """
    import duckdb

    folder = sources.cache_dir() / "banks"
    folder.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(str(description.files[0].resolve()).encode()).hexdigest()[:8]
    name = f"{description.about.name}-{place}"  # two folders may name their banks alike
    path = folder / f"{name}.{_fingerprint(description, folder)}.duckdb"
    if path.exists():
        return path
    with sources.locked(folder / name):
        if path.exists():
            return path
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
            fresh = Path(temporary) / "load.duckdb"
            with duckdb.connect(str(fresh)) as raw:
                _configure(raw, threads, memory_limit)
                meta = _load(raw, description)
                raw.execute("CREATE TABLE _crmresearch AS SELECT $meta AS meta", {"meta": json.dumps(meta)})
                raw.execute("CHECKPOINT")
            for old in folder.glob(f"{name}.*.duckdb"):
                _remove(old)  # an open reader keeps what it has opened
            os.replace(fresh, path)
    return path


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # on Windows a database that is open cannot be removed; the next load tries again
        return


def _load(raw: duckdb.DuckDBPyConnection, description: Description) -> dict[str, dict[str, Any]]:
    """Create every table in the contract's types, check it, and raise one error for all problems."""
    report = Report(description.about.name, list(description.problems))
    broken = {p.table for p in description.problems}
    unknown = [t for t in description.tables if t not in TABLES]
    for name in unknown:
        report.add(Problem(name, "", f"no such table in the contract; {nearest(name, TABLES)}"))
    if description.prepare is not None:
        description.prepare(raw)
    meta: dict[str, dict[str, Any]] = {}
    untyped: dict[str, set[str]] = {}
    for name, table in TABLES.items():
        source = description.tables.get(name)
        if source is None or name in broken:
            continue
        brought, problems = _create(raw, table, source, description.about)
        report.add(*problems)
        untyped[name] = {p.column for p in problems}
        if brought is not None:
            meta[name] = {"brought": brought, "origin": source.origin}
    for name in meta:
        meta[name]["rows"] = _check(raw, name, list(meta), description.about, untyped[name], report)
    _check_constructs(description.about, meta, report)
    report.raise_if_any()
    return meta


def _check_constructs(about: About, meta: Mapping[str, Any], report: Report) -> None:
    if about.constructs and "survey" in meta:
        items = meta["survey"]["brought"]
        for construct, names in about.constructs.items():
            for item in names:
                if item not in items:
                    report.add(
                        Problem("survey", item, f"item of construct {construct} is no column; {nearest(item, items)}")
                    )


def _check(
    raw: duckdb.DuckDBPyConnection, name: str, loaded: list[str], about: About, untyped: set[str], report: Report
) -> int:
    table = TABLES[name]
    columns = [c[0] for c in raw.execute(f'DESCRIBE "{name}"').fetchall()]
    end = about.observation_end if about.dated else None
    sql, checks = contract.check_sql(table, columns, loaded, end, sorted(untyped))
    row = raw.execute(sql).fetchone()
    assert row is not None
    repeated = [r[0] for r in raw.execute(contract.repeats_sql(table)).fetchall()] if row[1] else []
    report.add(*contract.problems_from(table, row, checks, repeated))
    return int(row[0])


def _create(
    raw: duckdb.DuckDBPyConnection, table: contract.Table, source: TableSource, about: About
) -> tuple[list[str] | None, list[Problem]]:
    """Create one table; return the columns the bank brought (None if it cannot be created) and the problems."""
    import duckdb

    try:
        described = raw.execute(f"DESCRIBE ({source.query})").fetchall()
    except duckdb.Error as error:
        return None, [_unreadable(table.name, source, error)]
    types = {c[0]: c[1] for c in described}
    problems = _column_problems(table, types, source)
    if problems:
        return None, problems
    columns = [(c, types[c.name]) for c in table.columns if c.name in types]
    extras = [c for c in types if c not in table.names]
    absent = [c for c in table.columns if c.name not in types]
    brought = [c.name for c, _ in columns] + extras

    def project(strict: bool) -> str:
        items = [f'{_cast(c, t, source, strict)} AS "{c.name}"' for c, t in columns]
        items += [f'CAST(NULL AS {contract.SQL_TYPE[c.kind]}) AS "{c.name}"' for c in absent if c.default is None]
        items += [f"{_extra(c, extra_types[c], source.text and types[c] == 'VARCHAR')} AS {_q(c)}" for c in extras]
        filled = [c for c in absent if c.default is not None]
        defaults = "".join(
            f", CAST({(c.default or '').format(start=about.observation_start.isoformat())} AS "
            f'{contract.SQL_TYPE[c.kind]}) AS "{c.name}"'
            for c in filled
        )
        inner = f"SELECT {', '.join(items)} FROM ({source.query})"
        names = ", ".join([f'"{c}"' for c in table.names] + [_q(c) for c in extras])
        return f"SELECT {names} FROM (SELECT *{defaults} FROM ({inner}))"

    try:
        extra_types = _extra_types(raw, extras, types, source)
        try:
            raw.execute(f'CREATE TABLE "{table.name}" AS {project(strict=True)}')
        except (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException):
            raw.execute(f'CREATE TABLE "{table.name}" AS {project(strict=False)}')
            problems = _type_problems(raw, table, columns, source)
    except duckdb.Error as error:
        return None, [_unreadable(table.name, source, error)]
    return brought, problems


def _column_problems(table: contract.Table, types: Mapping[str, str], source: TableSource) -> list[Problem]:
    hint = "map it in bank.yaml (columns: {ours: theirs})"
    problems = [
        Problem(table.name, c.name, f"column {c.name} is missing from {source.origin}", hint=hint)
        for c in table.columns
        if c.required and c.name not in types
    ]
    absent = [c.name for c in table.columns if c.name not in types]
    for name in types:
        if name in table.names:
            continue
        if name.lower() in PERSONAL:
            problems.append(Problem(table.name, name, "a direct identifier is refused", hint="leave the column out"))
        close = contract.close_to(name, absent)
        if close:
            problems.append(Problem(table.name, name, f"no such column in the contract; did you mean '{close}'?"))
    return problems


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _cast(column: Column, raw_type: str, source: TableSource, strict: bool) -> str:
    """Write the cast of one column; strict stops at the first bad value, otherwise bad values become null."""
    q, target = _q(column.name), contract.SQL_TYPE[column.kind]
    cast = "CAST" if strict else "TRY_CAST"
    bad = f"CAST(error('{column.name}') AS {target})" if strict else "NULL"
    text = raw_type == "VARCHAR" or raw_type.startswith("ENUM")
    mapping = source.recode.get(column.name)
    if mapping:
        arms = " ".join(f"WHEN {_literal(theirs)} THEN {_literal(ours)}" for theirs, ours in mapping.items())
        kept = (
            f"WHEN CAST({q} AS VARCHAR) IN ({', '.join(map(_literal, column.allowed))}) THEN {q} "
            if column.allowed
            else ""
        )
        value = f"CASE WHEN {q} IS NULL THEN NULL {kept}ELSE CASE CAST({q} AS VARCHAR) {arms} ELSE "
        value += ("error('recode')" if strict else "NULL") + " END END"
        return f"{cast}({value} AS {target})"
    if raw_type == "BOOLEAN" and column.allowed == contract.CONSENT:
        return f"CASE WHEN {q} THEN 'yes' WHEN NOT {q} THEN 'no' END"
    if column.kind in ("date", "month"):
        fmt = source.formats.get(column.name, source.formats.get("*"))
        if fmt and raw_type not in ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_S", "TIMESTAMP_MS"):
            parse = "strptime" if strict else "try_strptime"
            return f"CAST({parse}(CAST({q} AS VARCHAR), {_literal(fmt)}) AS DATE)"
        if not text and "INT" in raw_type or raw_type in ("DOUBLE", "FLOAT"):
            return f"{cast}(CAST({q} AS VARCHAR) AS DATE)"
        return f"{cast}({q} AS DATE)"
    if column.kind == "count" and raw_type not in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT"):
        number = f"{cast}({q} AS DOUBLE)"
        return f"CASE WHEN {q} IS NULL THEN NULL WHEN {number} = round({number}) THEN {cast}({number} AS BIGINT) ELSE {bad} END"
    if column.kind == "number":
        number = f"{cast}({q} AS DOUBLE)"
        return f"CASE WHEN {q} IS NULL THEN NULL WHEN isfinite({number}) THEN {number} ELSE {bad} END"
    if column.kind == "flag" and text:
        return f"{cast}(lower(trim({q})) AS BOOLEAN)"
    if column.kind in ("id", "text") and text and source.text:
        return f"nullif(trim({q}), '')"
    return f"{cast}({q} AS {target})"


def _type_problems(
    raw: duckdb.DuckDBPyConnection, table: contract.Table, columns: list[tuple[Column, str]], source: TableSource
) -> list[Problem]:
    """Count the values that could not be read, with five row numbers each, in one pass over the source."""
    inner = ", ".join(
        f"({_q(c.name)} IS NOT NULL{' AND trim(' + _q(c.name) + chr(41) + ' <> ' + chr(39) * 2 if t == 'VARCHAR' else ''}"
        f" AND ({_cast(c, t, source, strict=False)}) IS NULL) AS v{i}"
        for i, (c, t) in enumerate(columns)
    )
    outer = ", ".join(
        f"count(*) FILTER (WHERE v{i}), min(r, {contract.EXAMPLES}) FILTER (WHERE v{i})" for i in range(len(columns))
    )
    row = raw.execute(
        f"SELECT {outer} FROM (SELECT row_number() OVER () AS r, {inner} FROM ({source.query}))"
    ).fetchone()
    assert row is not None
    found = []
    for i, (c, _) in enumerate(columns):
        if row[2 * i]:
            rule, hint = f"{c.name} must be {contract.WANTED[c.kind]}", ""
            if c.name in source.recode:
                rule, hint = (
                    f"{c.name} holds values without a recoding",
                    f"add them to recode: {{{c.name}: …}} in bank.yaml",
                )
            elif c.kind in ("date", "month"):
                hint = "declare date_format in bank.yaml (e.g. '%d.%m.%Y')"
            found.append(Problem(table.name, c.name, rule, int(row[2 * i]), tuple(row[2 * i + 1]), hint))
    return found


def _extra_types(
    raw: duckdb.DuckDBPyConnection, extras: list[str], types: Mapping[str, str], source: TableSource
) -> dict[str, str]:
    """Find out the type of the bank's own columns: typed ones keep theirs; text is a number if every value is one."""
    found = {}
    for c in extras:
        t = types[c]
        whole = t.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
        keep = t if t in ("BOOLEAN", "DATE") else "DATE" if t.startswith("TIMESTAMP") else None
        number = "DOUBLE" if t.startswith(("DECIMAL", "DOUBLE", "FLOAT")) else None
        found[c] = keep or ("BIGINT" if whole else number or "VARCHAR")
    asked = [c for c in extras if source.text and found[c] == "VARCHAR"]
    if asked:
        parts = []
        for c in asked:
            value = f"nullif(trim({_q(c)}), '')"
            parts += [
                f"count({value})",
                f"count(*) FILTER (WHERE regexp_full_match({value}, '-?(0|[1-9][0-9]{{0,17}})'))",
                f"count(*) FILTER (WHERE isfinite(TRY_CAST({value} AS DOUBLE)) "
                f"AND NOT regexp_full_match({value}, '-?0[0-9]+'))",
            ]
        row = raw.execute(f"SELECT {', '.join(parts)} FROM ({source.query})").fetchone()
        assert row is not None
        for i, c in enumerate(asked):
            n, whole_n, number_n = row[3 * i : 3 * i + 3]
            if n:
                found[c] = "BIGINT" if whole_n == n else "DOUBLE" if number_n == n else "VARCHAR"
    return found


def _extra(name: str, sql_type: str, text: bool) -> str:
    if not text:
        return f"CAST({_q(name)} AS {sql_type})"
    value = f"nullif(trim({_q(name)}), '')"
    return value if sql_type == "VARCHAR" else f"CAST({value} AS {sql_type})"


def _unreadable(table: str, source: TableSource, error: Exception) -> Problem:
    """Turn an engine error into a problem without repeating the line it quotes."""
    import re

    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    where = f" near line {line.group(1)} of {source.origin}" if line else f" in {source.origin}"
    if "unicode" in text.lower() or "utf-8" in text.lower():
        return Problem(
            table, "", f"the text is not in the declared encoding{where}", hint="declare encoding in bank.yaml"
        )
    if "Number of Columns" in text:
        return Problem(
            table, "", f"a row has another number of columns than the header{where}", hint="declare sep, or repair it"
        )
    if "quote" in text.lower():
        return Problem(table, "", f"a quoted value does not end{where}", hint="repair the file")
    return Problem(
        table, "", f"the file cannot be read ({type(error).__name__}){where}", hint="check sep, encoding and format"
    )
