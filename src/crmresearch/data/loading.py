"""The one door through which every bank is loaded: read, cast, check, report.

A table is created in the contract's types by one statement. Only if a value cannot be read is it created again with
such values left out, to count them and to find their rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crmresearch.data import contract, sources
from crmresearch.data.contract import Problem, Report, nearest, quoted
from crmresearch.data.sources import About, Description, TableSource
from crmresearch.data.tables import CONSENT, SQL_TYPE, TABLES, WANTED, Column, Table

if TYPE_CHECKING:
    import duckdb


PERSONAL = ("name", "first_name", "last_name", "email", "phone", "address", "iban", "passport", "national_id")


def configure(raw: duckdb.DuckDBPyConnection, threads: int | None = None, memory_limit: str | None = None) -> None:
    """Set up a connection: UTC, rows in the order of their source, threads, memory, a place to spill to."""
    raw.execute("SET TimeZone = 'UTC'")
    raw.execute("SET preserve_insertion_order = true")
    # the setting is refused in a notebook without widgets, where it is off already
    if raw.execute("SELECT current_setting('enable_progress_bar')").fetchone() != (False,):
        raw.execute("SET enable_progress_bar = false")
    threads = threads or int(os.environ.get("CRMRESEARCH_THREADS", "0"))
    memory_limit = memory_limit or os.environ.get("CRMRESEARCH_MEMORY")
    if threads:
        raw.execute(f"SET threads = {int(threads)}")
    if memory_limit:
        raw.execute("SET memory_limit = $limit", {"limit": memory_limit})
    spill = sources.cache_dir() / "spill"
    raw.execute("SET temp_directory = '" + str(spill).replace("'", "''") + "'")


def load(
    raw: duckdb.DuckDBPyConnection, description: Description, *, checked: bool = True
) -> dict[str, dict[str, Any]]:
    """Create every table in the contract's types, check it, and raise one error for all problems."""
    report = Report(description.about.name, list(description.problems))
    broken = {p.table for p in description.problems}
    unknown = [t for t in description.tables if t not in TABLES]
    for name in unknown:
        report.add(Problem(name, "", f"no such table in the contract; {nearest(name, TABLES)}"))
    if description.prepare is not None:
        unreadable = description.prepare(raw)
        report.add(*unreadable)
        broken |= {p.table for p in unreadable}
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
        meta[name]["rows"] = (
            _check(raw, name, list(meta), description.about, untyped[name], report)
            if checked
            else _number(raw, f'SELECT count(*) FROM "{name}"')
        )
    _check_constructs(description.about, meta, report)
    report.raise_if_any()
    return meta


def reconcile(raw: duckdb.DuckDBPyConnection, description: Description) -> list[tuple[str, float, float, bool]]:
    """Find the numbers a loaded bank must reproduce: what, found, expected, whether they agree."""
    rows = []
    for r in description.reconcile:
        both = [raw.execute(q).fetchone() if isinstance(q, str) else (q,) for q in (r.found, r.expected)]
        found, expected = (float(v[0]) for v in both if v is not None)
        rows.append((r.what, found, expected, abs(found - expected) <= r.tolerance))
    return rows


def _number(raw: duckdb.DuckDBPyConnection, sql: str) -> int:
    [number] = raw.execute(sql).fetchone() or (0,)
    return int(number)


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
    raw: duckdb.DuckDBPyConnection, table: Table, source: TableSource, about: About
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
        items += [f'CAST(NULL AS {SQL_TYPE[c.kind]}) AS "{c.name}"' for c in absent if c.default is None]
        items += [f"{_extra(c, extra_types[c], source.text and types[c] == 'VARCHAR')} AS {quoted(c)}" for c in extras]
        filled = [c for c in absent if c.default is not None]
        defaults = "".join(
            f", CAST({(c.default or '').format(start=about.observation_start.isoformat())} AS "
            f'{SQL_TYPE[c.kind]}) AS "{c.name}"'
            for c in filled
        )
        inner = f"SELECT {', '.join(items)} FROM ({source.query})"
        names = ", ".join([f'"{c}"' for c in table.names] + [quoted(c) for c in extras])
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


def _column_problems(table: Table, types: Mapping[str, str], source: TableSource) -> list[Problem]:
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


def _literal(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _cast(column: Column, raw_type: str, source: TableSource, strict: bool) -> str:
    """Write the cast of one column; strict stops at the first bad value, otherwise bad values become null."""
    q, target = quoted(column.name), SQL_TYPE[column.kind]
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
    if raw_type == "BOOLEAN" and column.allowed == CONSENT:
        return f"CASE WHEN {q} THEN 'yes' WHEN NOT {q} THEN 'no' END"
    if column.kind in ("date", "month"):
        fmt = source.formats.get(column.name, source.formats.get("*"))
        if fmt and raw_type not in ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_S", "TIMESTAMP_MS"):
            parse = "strptime" if strict else "try_strptime"
            return f"CAST({parse}(CAST({q} AS VARCHAR), {_literal(fmt)}) AS DATE)"
        if (not text and "INT" in raw_type) or raw_type in ("DOUBLE", "FLOAT"):
            return f"{cast}(CAST({q} AS VARCHAR) AS DATE)"
        return f"{cast}({q} AS DATE)"
    if column.kind == "count" and raw_type not in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT"):
        number = f"{cast}({q} AS DOUBLE)"
        whole = f"WHEN {number} = round({number}) THEN {cast}({number} AS BIGINT)"
        return f"CASE WHEN {q} IS NULL THEN NULL {whole} ELSE {bad} END"
    if column.kind == "number":
        number = f"{cast}({q} AS DOUBLE)"
        return f"CASE WHEN {q} IS NULL THEN NULL WHEN isfinite({number}) THEN {number} ELSE {bad} END"
    if column.kind == "flag" and text:
        return f"{cast}(lower(trim({q})) AS BOOLEAN)"
    if column.kind in ("id", "text") and text and source.text:
        return f"nullif(trim({q}), '')"
    return f"{cast}({q} AS {target})"


def _type_problems(
    raw: duckdb.DuckDBPyConnection, table: Table, columns: list[tuple[Column, str]], source: TableSource
) -> list[Problem]:
    """Count the values that could not be read, with five row numbers each, in one pass over the source.

    In columns that hold such values, those missing from the start are counted here as well: in the table the two can no
    longer be told apart.
    """
    inner, outer = [], []
    for i, (c, t) in enumerate(columns):
        q = quoted(c.name)
        given = f"{q} IS NOT NULL" + (f" AND trim({q}) <> ''" if t == "VARCHAR" else "")
        inner.append(f"({given} AND ({_cast(c, t, source, strict=False)}) IS NULL) AS v{i}, NOT ({given}) AS m{i}")
        outer += [f"count(*) FILTER (WHERE {k}{i}), min(r, {contract.EXAMPLES}) FILTER (WHERE {k}{i})" for k in "vm"]
    numbered = f"SELECT row_number() OVER () AS r, {', '.join(inner)} FROM ({source.query})"
    row = raw.execute(f"SELECT {', '.join(outer)} FROM ({numbered})").fetchone()
    assert row is not None
    found = []
    for i, (c, _) in enumerate(columns):
        bad, bad_rows, missing, missing_rows = row[4 * i : 4 * i + 4]
        if not bad:
            continue
        rule, hint = f"{c.name} must be {WANTED[c.kind]}", ""
        if c.name in source.recode:
            rule = f"{c.name} holds values without a recoding"
            hint = f"add them to recode: {{{c.name}: …}} in bank.yaml"
        elif c.kind in ("date", "month"):
            hint = "declare date_format in bank.yaml (e.g. '%d.%m.%Y')"
        found.append(Problem(table.name, c.name, rule, int(bad), tuple(bad_rows), hint))
        if missing and not c.nullable:
            rule = f"{c.name} must not be missing"
            found.append(Problem(table.name, c.name, rule, int(missing), tuple(missing_rows)))
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
            value = f"nullif(trim({quoted(c)}), '')"
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
        return f"CAST({quoted(name)} AS {sql_type})"
    value = f"nullif(trim({quoted(name)}), '')"
    return value if sql_type == "VARCHAR" else f"CAST({value} AS {sql_type})"


def _unreadable(table: str, source: TableSource, error: Exception) -> Problem:
    """Turn an engine error into a problem without repeating the line it quotes."""
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
