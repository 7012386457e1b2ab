"""The one door through which every bank is loaded: read, cast, check, report.

A table is created in the contract's types by one statement. Only if a value cannot be read is it created again with
such values left out, to count them and to find their rows.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from crmresearch.data import advice, casting, checking, contract, pseudonyms, rules, steps
from crmresearch.data.contract import ContractError, Problem, literal, nearest, quoted
from crmresearch.data.description import FILE, About, Description, Reconciliation, TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import SQL_TYPE, STEPS, TABLES, WANTED, Column, Table


def load(engine: DuckDB, description: Description, *, checked: bool = True, key: bytes = b"") -> None:
    """Create every table in the contract's types, check it, and raise one error for all problems.

    Who did not consent to analysis is left out, in every table; with a key, pseudonyms replace the identifiers of
    people. Tables that name customers alone are then read last, and written once, with codes, into the final file.

    The engine then notes, by table, the columns brought and the rows; under ``_reconciled`` the numbers compared, under
    ``_consent`` customers by consent to analysis, under ``_exits`` what the bank's exit rule changed, under ``_about``
    the facts that no table holds, under ``_key`` by which key its pseudonyms are made.
    """
    about = description.about
    found = list(description.problems)
    broken = {p.table for p in description.problems}
    for name in description.tables:
        if name not in (*TABLES, *STEPS):
            found.append(Problem(name, "", f"no such table in the contract; {nearest(name, TABLES)}"))
    if description.prepare is not None:
        unreadable = description.prepare(engine)
        found += unreadable
        broken |= {p.table for p in unreadable}
    noted: dict[str, Any] = {}
    untyped: dict[str, list[str]] = {}
    refused: bool | None = None  # whether anybody did, once pseudonyms are made
    sources = dict(description.tables)
    stepped = bool({*STEPS} & {*sources})
    last = [t for t in TABLES if key and not stepped and not about.exit_rule and pseudonyms.linked(t, about.unlinked)]
    for name, table in sorted({**TABLES, **STEPS}.items(), key=lambda entry: entry[0] in last):
        source = sources.get(name)
        if source is None or name in broken:
            continue
        final = name in last and "customers" in noted
        if final and refused is None:
            refused = pseudonyms.make(engine, noted, about.unlinked, key)
        brought, problems = _create(engine, table, source, about, sources, final=final)
        found += problems
        spoilt = {p.column for p in problems}
        if source.theirs.get(casting.CURRENCY) in spoilt:
            spoilt |= {c.name for c in table.columns if c.kind == "money"}
        untyped[name] = sorted(spoilt)
        if brought is not None:
            made = [f"derived: {', '.join(source.derived)}"] if source.derived else []
            made += ["ids are row numbers"] if name in about.unlinked else []
            noted[name] = {"brought": brought, "unread": source.unread, "made": made}
            found += [] if final or not source.text else checking.shortened(engine, table, brought)
    if stepped:
        for table in (STEPS[name] for name in STEPS if name in noted):
            problems = violations(engine, table, {table.name: noted[table.name]}, about, untyped[table.name])[1]
            found += [advice.named(p, sources[table.name]) for p in problems]
        if found := found or steps.work(engine, about, noted, sources):
            raise ContractError(about.name, found)
    if key and refused is None:
        refused = pseudonyms.make(engine, noted, about.unlinked, key)
    moved = [*TABLES] if stepped else last if refused else []
    for name in noted:
        if checked:
            noted[name]["rows"], problems = violations(engine, TABLES[name], noted, about, untyped.get(name, ()))
            source, brought = sources.get(name), noted[name]["brought"]
            problems = [advice.century(engine, p, brought, source, about.observation_end) for p in problems]
            problems = [advice.consents(engine, advice.named(p, source), source) for p in problems]
            if not stepped:
                problems = [advice.edge(advice.alike(engine, p, sources), noted[name]["rows"]) for p in problems]
            # rows that a step made, and those after one that was left out, have another number in the source
            found += [replace(p, examples=()) if name in moved else p for p in problems]
        else:
            noted[name]["rows"] = int(engine.run(f'SELECT count(*) FROM "{name}"')[0][0])
    if checked:
        found += checking.identifiers_by_value(engine, noted, sources)
    if found := [*found, *constructs(about, noted)]:
        raise ContractError(about.name, found)
    compared = [_compared(engine, r) for r in description.reconcile]  # with the publisher's numbers: before any rule
    if key:
        noted["_key"] = pseudonyms.mark(key)
    if checked and "customers" in noted:
        noted["_consent"] = rules.consent(engine, noted)
    if found := rules.apply(engine, about, noted, description.tables):
        raise ContractError(about.name, found)
    engine.note(noted | {"_reconciled": compared, "_about": about.plain()})


def breaches(engine: DuckDB, name: str, loaded: Sequence[str], about: About) -> tuple[int, int, int]:
    """Check a loaded table once more: its rows, the rules checked, and the rows that break one, summed over rules."""
    row, checks = _checked(engine, TABLES[name], engine.tables()[name]["brought"], loaded, about, ())
    return int(row[0]), len(checks) + bool(TABLES[name].key), int(row[1]) + int(sum(row[2:-1:2]))


def violations(
    engine: DuckDB, table: Table, noted: Mapping[str, Any], about: About, untyped: Sequence[str]
) -> tuple[int, list[Problem]]:
    """Check a created table: its rows, and the rules that are broken."""
    row, checks = _checked(engine, table, noted[table.name]["brought"], tuple(noted), about, untyped)
    repeated = [r[0] for r in engine.run(contract.repeats_sql(table))] if row[1] and engine.here else []
    problems = contract.problems_from(table, row, checks, repeated)
    for k, p in enumerate(problems):
        if code := re.search(r"declare missing: {\w+: \[(.{10})\]}", p.hint):  # the day that does stand for none here
            day, known = f"CAST({p.column} AS VARCHAR)", ", ".join(map(literal, casting.STAND_INS))
            asked = f"SELECT DISTINCT {day} FROM {table.name} WHERE {day} IN ({known})"
            late = [d for (d,) in engine.ask(asked) if (d > "2050") == (code[1] > "2050")]
            problems[k] = replace(p, hint=p.hint.replace(code[1], ", ".join(sorted(late)) or code[1]))
    return int(row[0]), problems


def _checked(
    engine: DuckDB, table: Table, brought: Collection[str], loaded: Sequence[str], about: About, untyped: Sequence[str]
) -> tuple[Any, Any]:
    absent = {c.name for c in table.columns if c.name not in brought and not c.nullable and not c.default}
    columns = [c for c in engine.columns(table.name) if c not in absent]
    end = about.observation_end if about.dated else None
    others = () if table.name in about.unlinked else loaded
    tolerance = about.tolerance_days.get(table.name, about.tolerance_days.get("*", 0))
    sql, checks = contract.check_sql(table, columns, others, end, untyped, tolerance, engine.here)
    return engine.ask(sql)[0], checks


def _compared(engine: DuckDB, r: Reconciliation) -> tuple[str, float, float, bool]:
    """Find a number a loaded bank must reproduce: what, found, expected, whether they agree."""
    found, expected = (float(engine.run(q)[0][0]) if isinstance(q, str) else q for q in (r.found, r.expected))
    return r.what, found, float(expected), abs(found - expected) <= r.tolerance


def constructs(about: About, noted: Mapping[str, Any]) -> Iterator[Problem]:
    """Find items of constructs that the survey has no column for."""
    items = noted["survey"]["brought"] if "survey" in noted else {}
    for construct, block in about.constructs.items() if items else ():
        for item in block["items"] if isinstance(block, Mapping) else block:
            if item not in items:
                yield Problem("survey", item, f"item of construct {construct} is no column; {nearest(item, items)}")


def _create(
    engine: DuckDB, table: Table, source: TableSource, about: About, sources: Mapping[str, Any], *, final: bool
) -> tuple[dict[str, str] | None, list[Problem]]:
    """Create one table; return the columns the bank brought, with types (None if it cannot be made), and problems.

    One that is ``final`` is written as it will stand in the loaded database, with codes of people.
    """
    given = source
    try:
        described = engine.run(f"DESCRIBE ({source.query})")
    except engine.error as error:
        return None, [_unreadable(table.name, source, error)]
    types = types_given = {c[0]: c[1] for c in described}
    table = steps.shaped(table, {**types, **source.derived}, sources)
    problems = column_problems(table, types, source, about)
    if problems:
        return None, problems
    cleaned, read = casting.cleaned(table, source, types)
    source, types, counted, problems = casting.computed(table, cleaned, read)
    if problems:
        return None, problems
    columns = [(c, types[c.name]) for c in table.columns if c.name in types]
    more = {*source.recode, *source.derived}
    columns += [(casting.own_column(c, t, source), t) for c, t in types.items() if c in more and c not in table.names]
    extras = [c for c in types if c != casting.CURRENCY and c not in [known.name for known, _ in columns]]
    absent = [c for c in table.columns if c.name not in types]

    def project(strict: bool) -> str:
        items = [f"{casting.cast(c, t, source, strict)} AS {quoted(c.name)}" for c, t in columns]
        items += [f'CAST(NULL AS {SQL_TYPE[c.kind]}) AS "{c.name}"' for c in absent if c.default is None]
        items += [f"{casting.cast_own(c, extra_types[c], types[c], source)} AS {quoted(c)}" for c in extras]
        filled = [c for c in absent if c.default is not None]
        defaults = "".join(
            f", CAST({(c.default or '').format(start=about.observation_start.isoformat())} AS "
            f'{SQL_TYPE[c.kind]}) AS "{c.name}"'
            for c in filled
        )
        inner = f"SELECT {', '.join(items)} FROM ({source.query})"
        named = [*table.names, *(c.name for c, _ in columns if c.name not in table.names), *extras]
        names = ", ".join(map(quoted, named))
        return f"SELECT {names} FROM (SELECT *{defaults} FROM ({inner}))"

    def write(query: str) -> None:
        query = pseudonyms.coded(table.name, query, consenting=True) if final else query
        engine.write(table.name, query, joined=final, final=final)

    try:
        extra_types = _extra_types(engine, extras, types, source)
        unread: list[Problem] = []
        try:
            write(project(strict=True))
            days = [quoted(c.name) for c, t in columns if c.kind in ("date", "month") and t == "VARCHAR"]
            early = " OR ".join(f"{day} < DATE '1000-01-01'" for day in days)  # 29/02/20 is no day of the year 29
            doubted = bool(early and engine.run(f'SELECT 1 FROM "{table.name}" WHERE {early} LIMIT 1'))
        except engine.bad_value as error:  # it must not be kept: with it would stay what it passed, a server's too
            doubted, unread = True, [_unreadable(table.name, source, error)]
        if doubted:
            wide = [c for c in casting.texts(table, given, types_given) if engine.run(casting.asks_wide(c, given))]
            if wide:
                return _create(engine, table, casting.narrowed(given, wide), about, sources, final=final)
            source = casting.computed(table, cleaned, read, strict=False)[0]
            with engine.piecewise():
                write(project(strict=False))
                problems = _type_problems(engine, table, columns, source, about.observation_end)
            problems = problems or unread
        numbers = [
            c.name for c, t in columns if c.kind in casting.NUMERIC and t == "VARCHAR" and c.name not in source.recode
        ]
        numbers += [c for c in extras if extra_types[c] == "DOUBLE" and types[c] == "VARCHAR"]
        problems += _ambiguous(engine, table.name, numbers, source)
        problems += _ambiguous(engine, table.name, counted, cleaned)
        problems += checking.currencies(engine, table, source, extras, about.currency)
    except engine.error as error:
        return None, [_unreadable(table.name, source, error)]
    return {c.name: SQL_TYPE[c.kind] for c, _ in columns} | extra_types, problems


def made_missing(description: Description) -> dict[str, dict[str, int]]:
    """Count the values that declared codes make missing, by table and column, in one more pass over such sources.

    Of tables that stay elsewhere nothing is counted.
    """
    if description.elsewhere is not None:
        return {}
    engine = DuckDB()
    if description.prepare is not None:
        description.prepare(engine)
    found = {}
    for name, source in description.tables.items():
        if source.missing:
            types = {c[0]: c[1] for c in engine.run(f"DESCRIBE ({source.query})")}
            table = {**TABLES, **STEPS}[name]
            columns = [c for c in types if casting.codes_of(table, c, source)]
            cleaned = casting.cleaned(table, source, types)[0].query
            counts = ", ".join(f"count({quoted(c)})" for c in columns)
            before, after = (engine.run(f"SELECT {counts} FROM ({query})")[0] for query in (source.query, cleaned))
            counts_by = zip(columns, before, after, strict=True)
            found[name] = {c.removeprefix(FILE): int(b - a) for c, b, a in counts_by if b > a}
    return found


def _ambiguous(engine: DuckDB, table: str, columns: Sequence[str], source: TableSource) -> Iterator[Problem]:
    """Refuse columns whose every point may part thousands: 1.250, 980. The first other value ends the look."""
    for name in columns if source.text else ():
        if {name, "*"} & {*source.decimal, *source.thousands}:
            continue
        value = f"trim({quoted(name)})"
        given = f"SELECT 1 FROM ({source.query}) WHERE {value} <> '' AND"
        plain = f"{given} NOT regexp_full_match({value}, '[-+]?([1-9]\\d{{0,2}}([.]\\d{{3}})+|\\d{{1,3}})') LIMIT 1"
        if not engine.run(plain) and engine.run(f"{given} contains({value}, '.') LIMIT 1"):
            name = name.removeprefix(FILE)
            rule = f"{name} reads in two ways: 1.250 may be 1.25 or 1250"
            hint = f"declare decimal: {{{name}: '.'}} for 1.25, or decimal: {{{name}: ','}} for 1250, in bank.yaml"
            yield Problem(table, name, rule, hint=hint)


def column_problems(table: Table, types: Mapping[str, str], source: TableSource, about: About) -> list[Problem]:
    """Say what is wrong with the columns of a table, before any row is read."""
    types = {**types, **dict.fromkeys(source.derived, "")}
    dates = [c.name for c in table.columns if c.kind in ("date", "month") and c.name in types]
    if dates and not about.dated:
        hint = "state observation_start and observation_end instead, or bring spells or a snapshot"
        return [Problem(table.name, dates[0], "a date, but bank.yaml says dated: false", hint=hint)]
    zoned = [c for c, t in types.items() if t == "TIMESTAMP WITH TIME ZONE" and not {c, "*"} & {*source.zones}]
    if zoned:
        hint = "declare timezone in bank.yaml (e.g. timezone: Asia/Shanghai, or UTC)"
        rule = "times with a zone, whose days depend on it"
        return [Problem(table.name, c.removeprefix(FILE), rule, hint=hint) for c in zoned]
    problems = contract.lacking(table, types, source.unread, source.origin)
    for nested in (c for c, t in types.items() if re.match(r"(STRUCT|MAP|UNION)\(", t) or t.endswith("]")):
        theirs = contract.flow(source.theirs.get(nested, nested).removeprefix(FILE))
        drop = "" if nested in table.names else f", or drop: [{theirs}] under {table.name} in bank.yaml"
        hint = f"write each field as a column of its own{drop}"
        problems.append(Problem(table.name, nested.removeprefix(FILE), "is nested: a value holds several", hint=hint))
    problems += checking.identifiers_by_name(table, types, source)
    absent = [c.name for c in table.columns if c.name not in types]
    for name in types:
        if name in table.names:
            continue
        close = contract.close_to(name, [] if name.startswith(FILE) else absent)
        if close:
            problems.append(Problem(table.name, name, f"no such column in the contract; did you mean '{close}'?"))
    return problems


def _type_problems(
    engine: DuckDB, table: Table, columns: list[tuple[Column, str]], source: TableSource, end: datetime.date
) -> list[Problem]:
    """Count the values that could not be read, with five row numbers each, in one pass over the source.

    In columns that hold such values, those missing from the start are counted here as well: in the table the two can no
    longer be told apart.
    """
    inner, outer = [], []
    if source.rates:  # told apart: amounts that cannot be read, and currencies without a rate
        known = {casting.CURRENCY: {code: code for code in source.rates}}
        columns = [*columns, (Column(casting.CURRENCY, "text"), "VARCHAR")]
        source = replace(source, rates={}, recode={**source.recode, **known})
    for i, (c, t) in enumerate(columns):
        q = quoted(c.name)
        given = f"{q} IS NOT NULL" + (f" AND trim({q}) <> ''" if t == "VARCHAR" else "")
        if c.name in source.derived:
            given = f"(({given}) OR {quoted(c.name + casting.FAILED)})"
        inner.append(
            f"({given} AND ({casting.cast(c, t, source, strict=False)}) IS NULL) AS v{i}, NOT ({given}) AS m{i}"
        )
        outer += [f"count(*) FILTER (WHERE {k}{i}), min(r, {contract.EXAMPLES}) FILTER (WHERE {k}{i})" for k in "vm"]
    numbered = f"SELECT row_number() OVER () AS r, {', '.join(inner)} FROM ({source.query})"
    [row] = engine.run(f"SELECT {', '.join(outer)}, count(*) FROM ({numbered})")
    found = []
    for i, (c, t) in enumerate(columns):
        bad, bad_rows, missing, missing_rows = row[4 * i : 4 * i + 4]
        if not bad:
            continue
        rule, hint = f"{c.name} must be {WANTED[c.kind]}", ""
        if c.name == casting.CURRENCY:
            codes = advice.codes_without_rate(engine, source)
            rule = f"amounts are in a currency without a rate: {', '.join(codes)}"
            rates = f"{{column: {source.theirs[c.name]}, rates: {{{', '.join(f'{code}: …' for code in codes)}}}}}"
            hint = f"declare what one unit of each is worth: currency: {rates} in bank.yaml"
        elif c.name in source.derived:
            rule = f"its formula, {' '.join(source.derived[c.name].split())}, gives no value that {c.name} can have"
            hint = "correct it or the values; codes for none are declared in bank.yaml (missing: {theirs: [n/a]})"
        elif c.name in source.recode:
            rule = f"{c.name} holds values without a recoding"
            hint = f"add them to recode: {{{c.name}: …}} in bank.yaml"
        elif c.kind in ("date", "month"):
            hint, _ = advice.dates(engine, c, t, source, end)
        elif c.kind in ("count", *casting.NUMERIC):
            by_letter = advice.signed(engine, c, source) if t == "VARCHAR" else ""
            marks = advice.marks(engine, c, t, source, bad) if t == "VARCHAR" and not by_letter else ""
            marks = marks or (advice.born(engine, c, t, source, end) if c.name == "birth_year" else "")
            none = f"codes for none (missing: {{{c.name}: [n/a]}}) in bank.yaml"
            hint = by_letter or (f"declare {marks}{none}" if marks else f"correct these values, or declare {none}")
            if t == "VARCHAR" and (percent := advice.percent(engine, c, source)):
                hint = f"{percent}, or {hint}"
            elif t == "VARCHAR" and not marks and (foreign := advice.foreign(engine, c, source)):
                hint = f"{foreign} with the sign of a currency are not in {source.currency}: convert them, or {hint}"
        elif c.kind == "flag":
            hint = f"recode the values in bank.yaml (recode: {{{c.name}: {{ja: yes, nein: no}}}})"
        shown = source.theirs[c.name] if c.name == casting.CURRENCY else c.name
        found.append(Problem(table.name, shown, rule, int(bad), tuple(bad_rows), hint))
        if missing and not c.nullable:
            rule = f"{c.name} must not be missing"
            found.append(Problem(table.name, c.name, rule, int(missing), tuple(missing_rows)))
    return [advice.edge(p, int(row[-1])) for p in found]


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
            value = f"nullif(trim({casting.plain(c, source)}), '')"
            parts += [
                f"count({value})",
                f"count(*) FILTER (WHERE regexp_full_match({value}, '-?(0|[1-9][0-9]{{0,17}})'))",
                f"count(*) FILTER (WHERE isfinite(TRY_CAST({value} AS DOUBLE)) "
                f"AND NOT regexp_full_match({value}, '-?0[0-9]+|[+][0-9]{{8,}}|-?[0-9]{{19,}}'))",
            ]
        [row] = engine.run(f"SELECT {', '.join(parts)} FROM ({source.query})")
        for i, c in enumerate(asked):
            n, whole_n, number_n = row[3 * i : 3 * i + 3]
            if n:
                found[c] = "BIGINT" if whole_n == n else "DOUBLE" if number_n == n else "VARCHAR"
    return found


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
        rule, hint = (
            "a row has another number of columns than the header",
            "declare sep, or repair it (delete a total or a note)",
        )
        return Problem(table, "", f"{rule}{where}", hint=hint)
    if "strftime/strptime" in text:
        hint = "write %d, %m, %Y (%y of two digits), %H, %M, %S and what stands between them"
        return Problem(table, "", f"its date_format cannot be read{where}", hint=hint)
    if "quote" in text.lower():
        return Problem(table, "", f"a quoted value does not end{where}", hint="repair the file")
    return Problem(
        table, "", f"the file cannot be read ({type(error).__name__}){where}", hint="check sep, encoding and format"
    )
