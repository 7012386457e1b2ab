"""Banks whose tables stay where they are: ``engine:`` in ``bank.yaml`` names what keeps, checks and reduces them.

Nothing of them is copied. Each table of the contract becomes a view of the connection, in the contract's types; it is
checked by the rules of a load, counted in the engine. What is kept here is what the load of a bank notes, and how its
people are called: their identifiers stay there, and codes made of their order and block stand in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from crmresearch.data import casting, checking, loading, pseudonyms, rules
from crmresearch.data.contract import ContractError, Problem, literal, nearest, quoted
from crmresearch.data.description import About, Description, Elsewhere, TableSource
from crmresearch.data.engines import PEOPLE, DuckDB, Remote, hashed
from crmresearch.data.sources import relations, servers, shapes, spark
from crmresearch.data.tables import CONSENT, SQL_TYPE, STEPS, TABLES, WANTED, Column, Table
from crmresearch.errors import InputError

CONNECT: dict[str, Any] = {"postgres": servers.Session, "spark": spark.Session}
FILES = "name files of the tables (Parquet, for instance), file: folder"
OTHERWISE = {  # without engine:
    "postgres": "name the server with each table, database: {0}",
    "spark": FILES,
}
KEYS = ("table", "columns", "drop", "constants", "recode", "missing", "reversed")  # of a table
NOT_HERE = ("exit_rule", "unlinked")  # of a bank
NOTE = "_elsewhere"  # under which the notes of a bank say where its tables are, and how they are seen
GIVEN = "_given_"  # before the name of a table, as it was before codes stood for people
IDS, CODES = "_ids", "_codes"  # identifiers of people, and with the codes that stand for them
IBIS = {
    "VARCHAR": "string", "DATE": "date", "DECIMAL(18,2)": "decimal(18, 2)", "DOUBLE": "float64", "BIGINT": "int64",
    "BOOLEAN": "boolean",
}  # fmt: skip
KINDS = {"BIGINT": "count", "DOUBLE": "number", "DECIMAL": "number", "BOOLEAN": "flag", "DATE": "date"}
KINDS["TIMESTAMP"] = "date"  # kinds of the bank's own columns; others are text
FROM = {  # types of a source that a kind of column is read from
    "date": ("DATE", "TIMESTAMP"), "month": ("DATE", "TIMESTAMP"), "money": ("BIGINT", "DECIMAL", "DOUBLE"),
    "number": ("BIGINT", "DECIMAL", "DOUBLE"), "count": ("BIGINT", "DECIMAL", "DOUBLE"),
    "flag": ("BOOLEAN", "BIGINT", "VARCHAR"),
}  # fmt: skip
YES, NO = "('true', 't', 'yes', 'y', '1')", "('false', 'f', 'no', 'n', '0')"
DOUBTED = (("flag", "BIGINT"), ("flag", "VARCHAR"))  # kinds of columns that values of such a type may not fit
LARGEST = {"money": "1e16", "number": "1e308", "count": "9e15"}


# --- what bank.yaml says ----------------------------------------------------------------------------------------------


def describe(
    path: Path, content: Mapping[str, Any], about: About, source_of: Callable[..., TableSource | list[Problem]]
) -> tuple[Elsewhere, dict[str, TableSource], list[Problem]]:
    """Read a ``bank.yaml`` that names an engine, and look at the columns of its tables.

    Raises
    ------
    InputError
        If it says what only a load does; with the key, and with what to write for a load.
    """
    engine, said = content["engine"], content.get("connect", "")
    if engine not in CONNECT:
        hint = f"take engine: and connect: out, and {FILES}"
        raise InputError(f"{path.name}: no engine '{engine}': {nearest(engine, CONNECT)}; or {hint}")
    if not said:
        raise InputError(f"{path.name}: engine: {engine} needs {shapes.BANK['connect'][1].join(('connect: ', ''))}")
    specs = {name: {"table": given} if isinstance(given, str) else given for name, given in content["tables"].items()}
    _supported(path.name, content, about, specs)
    try:
        link = CONNECT[engine](next(iter(specs)), said, "connect")
    except relations.Unreadable as error:
        raise ContractError(about.name, error.problems) from None
    remote, sources, problems = Remote(None, link), dict[str, TableSource](), list[Problem]()
    for name, spec in specs.items():
        try:
            relation = link.relation(name, spec)
        except relations.Unreadable as error:
            problems += error.problems
            continue
        made = source_of(TABLES[name], relation, spec, about.currency)
        if isinstance(made, TableSource):
            sources[name] = made
            link.watch(name, spec, remote.said(made.query))
        else:
            problems += made
    constants = {name: tuple(spec.get("constants", ())) for name, spec in specs.items()}
    return Elsewhere(engine, said, remote, constants), sources, problems


def _supported(file: str, content: Mapping[str, Any], about: About, specs: Mapping[str, Any]) -> None:
    """Refuse what only a load does, by its key."""
    engine = content["engine"]
    otherwise = OTHERWISE[engine].format(content.get("connect") or "BANK_DATABASE")
    otherwise = f"take engine: and connect: out, and {otherwise}"

    def refuse(key: str) -> NoReturn:
        raise InputError(
            f"{file}: {key} does not go with engine: {engine}, but with a bank that is loaded: {otherwise}"
        )

    for key in NOT_HERE:
        if getattr(about, key):
            refuse(key)
    if about.segments.get("tier"):
        refuse("tier of segments")
    for name, spec in specs.items():
        if name in STEPS:
            refuse(f"the table {name}")
        if name not in TABLES:
            raise InputError(f"{file}: no table '{name}' in the contract: {nearest(str(name), TABLES)}")
        spec = specs[name] = shapes.keys_of(spec, shapes.TABLE, file, f" of table {name}")  # type: ignore[index]
        for key in (key for key in spec if key not in KEYS):
            refuse(f"{key} of table {name}")
        if "reversed" in spec and name != "survey":
            raise InputError(f"{file}: reversed belongs to the table survey, not to {name}; take it out")
        if "table" not in spec:
            raise InputError(f"{file}: table {name} needs its name there, such as table: {name}")


# --- how columns are seen ---------------------------------------------------------------------------------------------


def _given(column: Column, raw: str, table: Table, source: TableSource) -> str:
    """Write the condition that a value is there, and no code for none."""
    q = quoted(column.name)
    found = f"{q} IS NOT NULL" + (f" AND TRIM({q}) <> ''" if raw == "VARCHAR" else "")
    if codes := casting.codes_of(table, column.name, source):
        text = f"CAST({f'CAST({q} AS DATE)' if raw == 'TIMESTAMP' else q} AS VARCHAR)"
        found += f" AND TRIM({text}) NOT IN ({', '.join(map(literal, codes))})"
    return found


def _value(column: Column, raw: str, source: TableSource) -> str:
    """Write a value that is there as one of the contract; one that cannot be read is missing."""
    q, kind = quoted(column.name), column.kind
    if mapping := source.recode.get(column.name):
        text = f"CAST({q} AS VARCHAR)"
        same = {v: v for v in column.allowed}
        arms = (f"WHEN {literal(theirs)} THEN {literal(ours)}" for theirs, ours in {**mapping, **same}.items())
        q, raw = f"CASE {text} {' '.join(arms)} END", "VARCHAR"
    if kind == "flag" and raw == "VARCHAR":
        return f"CASE WHEN LOWER(TRIM({q})) IN {YES} THEN TRUE WHEN LOWER(TRIM({q})) IN {NO} THEN FALSE END"
    if kind == "flag" and raw == "BIGINT":
        return f"CASE {q} WHEN 1 THEN TRUE WHEN 0 THEN FALSE END"
    if raw == "BOOLEAN" and column.allowed == CONSENT:
        return f"CASE WHEN {q} THEN 'yes' ELSE 'no' END"
    cast = f"CAST({q} AS {SQL_TYPE[kind]})"
    if kind in LARGEST and raw != "VARCHAR":
        whole = f" AND {q} = FLOOR({q})" if kind == "count" and raw != "BIGINT" else ""
        return f"CASE WHEN ABS({q}) < {LARGEST[kind]}{whole} THEN {cast} END"
    return f"TRIM({q})" if kind in ("id", "text") and raw == "VARCHAR" else cast


def _seen(
    remote: Remote, table: Table, source: TableSource, about: About, constants: Sequence[str]
) -> tuple[str, dict[str, str], list[Problem], list[str]]:
    """Write the view of a table in the contract's types.

    Returns the query, the columns brought with their types, problems, and the columns that hold what cannot be read.
    """
    types = dict(remote.described(f"({source.query})"))
    problems, otherwise = [], "name a view there that does, or load the bank"
    for name, raw in types.items():
        kind = table[name].kind if name in table.names else ""
        if kind in ("date", "month") and raw == "TIMESTAMP WITH TIME ZONE":
            hint = f"cast them to days: {otherwise}"
            problems.append(Problem(table.name, name, "times with a zone, whose days depend on it", hint=hint))
        elif raw not in FROM.get(kind, (raw,)) and name not in (*source.recode, *constants):
            problems.append(Problem(table.name, name, f"{name} must be {WANTED[kind]}", hint=f"cast it: {otherwise}"))
    zoned = {p.column for p in problems}
    problems += loading.column_problems(table, {c: t for c, t in types.items() if c not in zoned}, source, about)
    if problems:
        return "", {}, problems, []
    columns = {c.name: c for c in table.columns if c.name in types}
    for name, raw in types.items():
        own = casting.own_column(name, raw, source) if name in source.recode else Column(name, KINDS.get(raw, "text"))
        columns.setdefault(name, own)
    brought = {c.name: SQL_TYPE[c.kind] for c in columns.values()}
    given = {name: _given(c, types[name], table, source) for name, c in columns.items()}
    values = {name: _value(c, types[name], source) for name, c in columns.items()}
    fails = [n for n, c in columns.items() if n in source.recode or c.kind in LARGEST or (c.kind, types[n]) in DOUBTED]
    counts = (
        f"COUNT(*) FILTER (WHERE {given[n]} AND ({values[n]}) IS NULL), COUNT(*) FILTER (WHERE NOT ({given[n]}))"
        for n in fails
    )
    spoilt = []
    if fails:
        [row] = remote.ask(f"SELECT {', '.join(counts)} FROM ({source.query}) AS q")
        for k, name in enumerate(fails):
            bad, missing = row[2 * k : 2 * k + 2]
            if bad:
                spoilt.append(name)
                rule, hint = f"{name} must be {WANTED[columns[name].kind]}", f"correct these values, or {otherwise}"
                if name in source.recode:
                    rule, hint = f"{name} holds values without a recoding", f"add them to recode: {{{name}: …}}"
                    hint += " in bank.yaml"
                problems.append(Problem(table.name, name, rule, int(bad), hint=hint))
                if missing and name in table.names and not columns[name].nullable:
                    problems.append(Problem(table.name, name, f"{name} must not be missing", int(missing)))
    binary = remote.link.binary
    items = [
        f"CASE WHEN {given[n]} THEN {v} END{binary if t == 'VARCHAR' else ''} AS {quoted(n)}"
        for (n, v), t in zip(values.items(), brought.values(), strict=True)
    ]
    absent = [c for c in table.columns if c.name not in types]
    items += [f"CAST(NULL AS {SQL_TYPE[c.kind]}) AS {quoted(c.name)}" for c in absent if c.default is None]
    filled = [
        f"CAST({(c.default or '').format(start=about.observation_start)} AS {SQL_TYPE[c.kind]}) AS {quoted(c.name)}"
        for c in absent
        if c.default is not None
    ]
    query = f"SELECT {', '.join(items)} FROM ({source.query}) AS q"
    return f"SELECT {', '.join(['*', *filled])} FROM ({query}) AS v", brought, problems, spoilt


def _coded(remote: Remote, given: Mapping[str, Mapping[str, str]], refused: bool) -> None:
    """See the tables with codes of people in the place of identifiers, without who did not consent to analysis."""
    import ibis

    places = pseudonyms.places_of(given, ())
    if not places:
        for name, types in given.items():
            remote.see(name, f"SELECT * FROM {quoted(GIVEN + name)}", types)
        return
    ids = " UNION ".join(
        f"SELECT {quoted(c)} AS id FROM {quoted(GIVEN + t)} WHERE {quoted(c)} IS NOT NULL" for t, c in places
    )
    remote.see(IDS, ids, {"id": "string"})
    people = remote.table(IDS)
    block = (hashed(people.id) % pseudonyms.BLOCKS).cast("int64")
    place = ibis.row_number().over(ibis.window(order_by=people.id)).cast("int64")  # the order of all is that of one
    gone = ibis.literal(False)
    if refused:
        customers = remote.table(GIVEN + "customers")
        gone = people.id.isin(customers.filter(customers.consent_analysis == "no").customer_id)
    made = people.select("id", code=place * pseudonyms.BLOCKS + block, draw=hashed(people.id, 3), refused=gone)
    remote.keep(CODES, made)
    remote.see(PEOPLE, f"SELECT code, draw FROM {CODES}", {"code": "uint64", "draw": "int16"})
    for name, types in given.items():
        named = [c for t, c in pseudonyms.places_of(given) if t == name]
        items, joins, where = {c: f"g.{quoted(c)}" for c in types}, "", ""
        for k, c in enumerate(named):
            optional = TABLES[name][c].nullable
            code = f"CASE WHEN NOT c{k}.refused THEN c{k}.code END" if refused and optional else f"c{k}.code"
            items[c] = f"{code} AS {quoted(c)}"
            joins += f" LEFT JOIN {CODES} AS c{k} ON c{k}.id = g.{quoted(c)}"
            if refused and c == "customer_id" and not optional:
                where = f" WHERE c{k}.refused IS NOT TRUE"
        types = {c: "uint64" if c in named else kind for c, kind in types.items()}
        remote.see(name, f"SELECT {', '.join(items.values())} FROM {quoted(GIVEN + name)} AS g{joins}{where}", types)


# --- opening, and what is noted ---------------------------------------------------------------------------------------


def note(engine: DuckDB, description: Description, elsewhere: Elsewhere, key: bytes) -> None:
    """Check a bank's tables where they are, and note in a file that is here what a load would.

    Raises
    ------
    ContractError
        With every problem found, as for a load.
    """
    about, remote = description.about, elsewhere.remote
    found: list[Problem] = []
    noted: dict[str, Any] = {}
    given: dict[str, dict[str, Any]] = {}
    untyped: dict[str, list[str]] = {}
    for name in (name for name in TABLES if name in description.tables):
        source = description.tables[name]
        query, brought, problems, untyped[name] = _seen(remote, TABLES[name], source, about, elsewhere.constants[name])
        found += problems
        if query:
            types = {c.name: SQL_TYPE[c.kind] for c in TABLES[name].columns} | brought
            given[name] = {"query": query, "types": {c: IBIS[kind] for c, kind in types.items()}}
            remote.see(GIVEN + name, query, given[name]["types"])
            noted[name] = {"brought": brought, "unread": source.unread, "made": []}
            extras = [c for c in brought if c not in TABLES[name].names]
            found += checking.currencies(remote, TABLES[name], source, extras, about.currency)
    consent: dict[str, int] = {}
    if "customers" in noted:
        asked = f"SELECT consent_analysis, COUNT(*) FROM {GIVEN}customers GROUP BY consent_analysis ORDER BY 1"
        consent = {said: int(n) for said, n in remote.ask(asked) if said is not None}
    who = f"SELECT 1 FROM {GIVEN}customers AS r WHERE r.customer_id = g.customer_id AND r.consent_analysis = 'no'"
    for name in noted:
        where = f" WHERE NOT EXISTS ({who})" if consent.get("no") and pseudonyms.linked(name, ()) else ""
        remote.see(name, f"SELECT * FROM {quoted(GIVEN + name)} AS g{where}", given[name]["types"])
    for name in noted:
        noted[name]["rows"], problems = loading.violations(remote, TABLES[name], noted, about, untyped[name])
        found += problems
        found += _identifiers(remote, name, noted[name]["brought"], description.tables[name])
    found += loading.constructs(about, noted)
    if found := found or list(rules.problems(remote, about, noted, description.tables)):
        remote.close()
        raise ContractError(about.name, found)
    refused = bool(consent.get("no"))
    facts = {"engine": elsewhere.engine, "said": elsewhere.said, "given": given, "refused": refused}
    _coded(remote, {name: one["types"] for name, one in given.items()}, refused)
    if refused:
        for name in noted:
            noted[name]["rows"] = int(remote.ask(f"SELECT COUNT(*) FROM {quoted(name)}")[0][0])
        noted["customers"]["made"].append(rules.left_out(consent["no"]))
    if pseudonyms.places_of(given):
        block = f"code % {pseudonyms.BLOCKS}"
        rows = remote.ask(f"SELECT id, {block}, draw, TRUE FROM {CODES} ORDER BY code")
        with engine.visible({"_made": pseudonyms.called(rows, key)}):
            engine.run(f"CREATE TABLE {PEOPLE} AS SELECT * EXCLUDE id FROM _made")
    noted |= {"_consent": consent} if "customers" in noted else {}
    engine.note(noted | {"_reconciled": [], "_about": about.plain(), "_key": pseudonyms.mark(key), NOTE: facts})


def reopened(path: Path, elsewhere: Elsewhere | None = None) -> DuckDB:
    """Open the file of a loaded bank, and the connection to where its tables are, where they are not in it."""
    engine = DuckDB(path, read_only=True)
    facts = engine.tables().get(NOTE)
    if facts is None:
        return engine
    engine.close()
    try:
        link = elsewhere.remote.link if elsewhere else CONNECT[facts["engine"]]("tables", facts["said"], "connect")
    except relations.Unreadable as error:
        raise InputError(str(error)) from None
    remote = Remote(path, link)
    for name, one in facts["given"].items():
        remote.see(GIVEN + name, one["query"], one["types"])
    _coded(remote, {name: one["types"] for name, one in facts["given"].items()}, facts["refused"])
    return remote


def _identifiers(remote: Remote, name: str, brought: Mapping[str, str], source: TableSource) -> Iterator[Problem]:
    """Refuse columns whose values are direct identifiers, by as many different ones as a load looks at."""
    for column in brought:
        if checking.may_identify(TABLES[name], column, brought[column]):
            q = quoted(column)
            asked = f"SELECT DISTINCT {q} FROM {quoted(name)} WHERE {q} IS NOT NULL LIMIT {checking.LOOK}"
            values = [v for (v,) in remote.ask(asked)]
            texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
            yield from checking.identifying(TABLES[name], column, len(values), texts, source)
