"""The one door through which every bank is loaded: read, cast, check, report.

A table is created in the contract's types by one statement. Only if a value cannot be read is it created again with
such values left out, to count them and to find their rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crmresearch.data import contract
from crmresearch.data.contract import ContractError, Problem, literal, nearest, quoted
from crmresearch.data.description import About, Description, Reconciliation, TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import CONSENT, SQL_TYPE, TABLES, WANTED, Column, Table

PERSONAL = ("name", "first_name", "last_name", "email", "phone", "address", "iban", "passport", "national_id")


def load(engine: DuckDB, description: Description, *, checked: bool = True) -> None:
    """Create every table in the contract's types, check it, and raise one error for all problems.

    The engine then notes, by table, the columns brought and the rows; under ``_reconciled`` the numbers compared.
    """
    about = description.about
    found = list(description.problems)
    broken = {p.table for p in description.problems}
    for name in description.tables:
        if name not in TABLES:
            found.append(Problem(name, "", f"no such table in the contract; {nearest(name, TABLES)}"))
    if description.prepare is not None:
        unreadable = description.prepare(engine)
        found += unreadable
        broken |= {p.table for p in unreadable}
    noted: dict[str, Any] = {}
    untyped: dict[str, list[str]] = {}
    for name, table in TABLES.items():
        source = description.tables.get(name)
        if source is None or name in broken:
            continue
        brought, problems = _create(engine, table, source, about)
        found += problems
        untyped[name] = sorted({p.column for p in problems})
        if brought is not None:
            noted[name] = {"brought": brought}
    loaded = tuple(noted)
    for name in loaded:
        if checked:
            row, checks = _checked(engine, name, loaded, about, untyped[name])
            repeated = [r[0] for r in engine.run(contract.repeats_sql(TABLES[name]))] if row[1] else []
            found += contract.problems_from(TABLES[name], row, checks, repeated)
        else:
            [row] = engine.run(f'SELECT count(*) FROM "{name}"')
        noted[name]["rows"] = int(row[0])
    if found := [*found, *_constructs(about, noted)]:
        raise ContractError(about.name, found)
    engine.note(noted | {"_reconciled": [_compared(engine, r) for r in description.reconcile]})


def breaches(engine: DuckDB, name: str, loaded: Sequence[str], about: About) -> tuple[int, int, int]:
    """Check a loaded table once more: its rows, the rules checked, and the rows that break one, summed over rules."""
    row, checks = _checked(engine, name, loaded, about, ())
    return int(row[0]), len(checks) + bool(TABLES[name].key), int(row[1]) + int(sum(row[2::2]))


def _checked(engine: DuckDB, name: str, loaded: Sequence[str], about: About, untyped: Sequence[str]) -> tuple[Any, Any]:
    columns = [c[0] for c in engine.run(f'DESCRIBE "{name}"')]
    end = about.observation_end if about.dated else None
    sql, checks = contract.check_sql(TABLES[name], columns, loaded, end, untyped)
    return engine.run(sql)[0], checks


def _compared(engine: DuckDB, r: Reconciliation) -> tuple[str, float, float, bool]:
    """Find a number a loaded bank must reproduce: what, found, expected, whether they agree."""
    found, expected = (float(engine.run(q)[0][0]) if isinstance(q, str) else q for q in (r.found, r.expected))
    return r.what, found, float(expected), abs(found - expected) <= r.tolerance


def _constructs(about: About, noted: Mapping[str, Any]) -> Iterator[Problem]:
    items = noted["survey"]["brought"] if "survey" in noted else {}
    for construct, names in about.constructs.items() if items else ():
        for item in names:
            if item not in items:
                yield Problem("survey", item, f"item of construct {construct} is no column; {nearest(item, items)}")


def _create(
    engine: DuckDB, table: Table, source: TableSource, about: About
) -> tuple[dict[str, str] | None, list[Problem]]:
    """Create one table; return the columns the bank brought, with types (None if it cannot be made), and problems."""
    try:
        described = engine.run(f"DESCRIBE ({source.query})")
    except engine.error as error:
        return None, [_unreadable(table.name, source, error)]
    types = {c[0]: c[1] for c in described}
    problems = _column_problems(table, types, source)
    if problems:
        return None, problems
    columns = [(c, types[c.name]) for c in table.columns if c.name in types]
    extras = [c for c in types if c not in table.names]
    absent = [c for c in table.columns if c.name not in types]

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
        extra_types = _extra_types(engine, extras, types, source)
        try:
            engine.run(f'CREATE TABLE "{table.name}" AS {project(strict=True)}')
        except engine.bad_value:
            engine.run(f'CREATE TABLE "{table.name}" AS {project(strict=False)}')
            problems = _type_problems(engine, table, columns, source)
    except engine.error as error:
        return None, [_unreadable(table.name, source, error)]
    return {c.name: SQL_TYPE[c.kind] for c, _ in columns} | extra_types, problems


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


def _cast(column: Column, raw_type: str, source: TableSource, strict: bool) -> str:
    """Write the cast of one column; strict stops at the first bad value, otherwise bad values become null."""
    q, target = quoted(column.name), SQL_TYPE[column.kind]
    cast = "CAST" if strict else "TRY_CAST"
    bad = f"CAST(error('{column.name}') AS {target})" if strict else "NULL"
    text = raw_type == "VARCHAR" or raw_type.startswith("ENUM")
    mapping = source.recode.get(column.name)
    if mapping:
        arms = " ".join(f"WHEN {literal(theirs)} THEN {literal(ours)}" for theirs, ours in mapping.items())
        kept = (
            f"WHEN CAST({q} AS VARCHAR) IN ({', '.join(map(literal, column.allowed))}) THEN {q} "
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
            return f"CAST({parse}(CAST({q} AS VARCHAR), {literal(fmt)}) AS DATE)"
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
    engine: DuckDB, table: Table, columns: list[tuple[Column, str]], source: TableSource
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
    [row] = engine.run(f"SELECT {', '.join(outer)} FROM ({numbered})")
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


def _extra_types(engine: DuckDB, extras: list[str], types: Mapping[str, str], source: TableSource) -> dict[str, str]:
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
        [row] = engine.run(f"SELECT {', '.join(parts)} FROM ({source.query})")
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
