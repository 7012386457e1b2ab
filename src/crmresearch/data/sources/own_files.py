"""Your own bank: a folder with files and a ``bank.yaml`` that says what they hold.

Files are CSV, gzipped CSV, Parquet or Excel, or tables of a DuckDB or SQLite database; Delta and Iceberg tables,
Parquet on object storage, or a PostgreSQL server may stand in their place.
``data/example/bank.yaml`` is a complete example; ``data/README.md`` lists the keys.
"""

from __future__ import annotations

import datetime
import functools
import math
import re
import shlex
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crmresearch.data import formulas, remote, steps
from crmresearch.data.casting import CURRENCY
from crmresearch.data.contract import ContractError, Problem, close_to, lacking, literal, nearest, quoted
from crmresearch.data.description import FILE, About, Description, TableSource
from crmresearch.data.sources import lake, readers, relations, servers, shapes
from crmresearch.data.tables import CONSENT, STEPS, TABLES, WANTED, Column, Table
from crmresearch.errors import InputError

ISO = "%Y-%m-%d"
FLAGS = ("true", "false", "yes", "no", "1", "0")
DAYS, NUMBERS = ("date", "month"), ("money", "number", "count")
GOES_WITH = {"date_format": DAYS, "timezone": DAYS, "decimal": NUMBERS, "thousands": NUMBERS}  # kinds of columns
# names of a column that states the currency of a row
CURRENCIES = (
    "currency", "ccy", "curr", "cur", "currency_code", "curr_code", "currency_iso", "iso_currency",
    "waehrung", "währung", "whg", "devise", "monnaie", "moneda", "divisa", "código_divisa", "codigo_divisa",
    "valuta", "codice_valuta", "moeda", "币种", "幣種", "币别", "幣別", "货币", "貨幣",
)  # fmt: skip
LEAKS = {"naive_bayes_classifier": "scores of an earlier model of the same outcome"}  # names that begin so are refused


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class AsWritten(yaml.SafeLoader):
        """Every value is the text that stands there (``no``, ``01``, ``9999-12-31``), save ``null`` and merges."""

        yaml_implicit_resolvers = {  # noqa: RUF012 (as the base class does)
            first: [rule for rule in rules if rule[0].endswith((":null", ":merge"))]
            for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Refuse a key that stands twice: the first would be forgotten without a word."""
            seen: dict[str, int] = {}
            for key, line in ((str(key.value), key.start_mark.line + 1) for key, _ in node.value):
                if key in seen:
                    raise InputError(f"{path.name}: key '{key}' stands at lines {seen[key]} and {line}; keep one")
                seen[key] = line
            return super().construct_mapping(node, deep)

    try:
        content = AsWritten(path.read_text("utf-8-sig")).get_single_data()
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not UTF-8 text; save it as UTF-8") from None
    except PermissionError:
        raise InputError(f"{path.name} may not be read; check its permissions") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise InputError(f"{path.name} is not valid YAML{where}; check indentation and colons") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must be a mapping (name: …, currency: …, tables: …)")
    return content


def _locate(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if path.is_dir():
        if not (path / "bank.yaml").is_file():
            raise InputError(f"folder {path.name}/ holds no bank.yaml; data/example/bank.yaml shows one")
        return path / "bank.yaml"
    return path


def _about(path: Path, content: Mapping[str, Any]) -> About:
    facts = shapes.keys_of(content, shapes.BANK, path.name)
    for key in ("tables", "engine", "connect"):
        facts.pop(key, None)
    for day in ("observation_start", "observation_end"):
        if day in facts:
            facts[day] = shapes.day(facts[day], day, path.name)
    if "dated" in facts:
        facts["dated"] = shapes.truth(facts["dated"], "dated", path.name)
    facts["truth"] = shapes.planted(facts.get("truth", {}), path.name)
    for table, ends in facts.get("covered", {}).items():
        if table not in TABLES:
            raise InputError(f"{path.name}: covered names no table '{table}': {nearest(str(table), TABLES)}")
        facts["covered"][table] = [shapes.day(end, f"covered of {table}", path.name) for end in ends]
    if "tolerance_days" in facts:
        facts["tolerance_days"] = shapes.days(facts["tolerance_days"], "tolerance_days", path.name)
    tables = content.get("tables")
    facts["unlinked"] = list(dict.fromkeys([*facts.get("unlinked", []), *shapes.numbered(tables)]))
    survey = tables.get("survey") if isinstance(tables, dict) else None
    turned = [*facts.pop("reversed", []), *(survey.get("reversed") or [] if isinstance(survey, dict) else [])]
    facts["constructs"] = shapes.constructs(facts.get("constructs", {}), turned, path.name)
    return About.of(facts)


def name_in(path: Path) -> str:
    """Return the name a ``bank.yaml`` gives its bank."""
    name = _read_yaml(path).get("name")
    if not name:
        raise InputError(f"{path.name} in {path.parent.name}/ gives its bank no name")
    return str(name)


def about_in(path: str | Path) -> About:
    """Return the facts a ``bank.yaml`` states, without looking at its files."""
    path = _locate(path)
    return _about(path, _read_yaml(path))


def stated(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return where a ``bank.yaml`` lies, and what stands in it, as written."""
    path = _locate(path)
    return path, _read_yaml(path)


def describe(path: str | Path, outside: Path | None = None) -> Description:
    """Read a ``bank.yaml`` and look at its files, without reading their rows.

    Parameters
    ----------
    path : path
        The file, or the folder that holds it. File names in it count from its folder.
    outside : Path, optional
        Another folder whose files it may name; those of any other are refused, since a description that somebody else
        wrote must not choose what is read on this machine.

    Returns
    -------
    Description
        Defects of single files are listed in ``problems``, so that one report can hold them all.

    Raises
    ------
    InputError
        If the description itself cannot be used: unknown or malformed keys, missing facts, no tables.
    """
    path = _locate(path)
    content = _read_yaml(path)
    about = _about(path, content)
    if not content.get("tables"):
        raise InputError(f"{path.name}: tables: must name at least one table ({', '.join(TABLES)})")
    if "engine" in content:
        elsewhere, found, wrong = remote.describe(path, content, about, source_of)
        asked = functools.partial(_state, about.name, {"": elsewhere.remote.link})
        return Description(about, found, (path,), None, tuple(wrong), state=asked, elsewhere=elsewhere)
    if "connect" in content:
        raise InputError(f"{path.name}: connect: goes with engine:; name the server with each table (database:)")
    sources: dict[str, TableSource] = {}
    files: dict[Path, None] = {path: None}
    problems: list[Problem] = []
    makes: list[relations.Make] = []
    connected: dict[str, servers.Server] = {}
    known = {**TABLES, **STEPS}
    allowed = [p.expanduser().resolve() for p in (path.parent, outside) if p is not None]
    for name, given in content["tables"].items():
        if name not in known:
            raise InputError(f"{path.name}: no table '{name}' in the contract: {nearest(str(name), known)}")
        spec = {"file": given} if isinstance(given, (str, list)) else given
        spec = shapes.keys_of(spec, shapes.TABLE, path.name, f" of table {name}")
        for key, home in (("returns", "history"), ("reversed", "survey")):
            if key in spec and name != home:
                raise InputError(f"{path.name}: {key} belongs to the table {home}, not to {name}; take it out")
        named = [spec["file"]] if isinstance(spec.get("file"), str) else spec.get("file", [])
        if not all(named) or not (named or "database" in spec):
            raise InputError(f"{path.name}: table {name} needs a file, such as file: {name}.csv")
        if "currency" in spec:
            spec["currency"] = shapes.keys_of(spec["currency"], shapes.RATES, path.name, f" of currency of {name}")
        far = [n for n in named if "://" in n and not n.startswith("file://")]
        parts = [] if far else readers.parts_of(path.parent, named)
        if strangers := [p for p in parts if not any(p.resolve().is_relative_to(folder) for folder in allowed)]:
            rule, hint = (
                f"{strangers[0].name} lies outside the folder of {path.name}",
                "move it there, or allow its folder",
            )
            hint = f"{hint}: --from {shlex.quote(str(strangers[0].resolve().parent))}"
            problems.append(Problem(name, "", rule, hint=hint))
            continue
        try:
            if "database" in spec:
                relation = servers.relation(name, spec, connected)
            elif far:
                relation = lake.relation(name, lake.stored(name, named), spec)
            else:
                relation = readers.relation_of(name, parts, spec)
        except relations.Unreadable as error:
            problems += error.problems
            continue
        columns = dict.fromkeys((*relation.header, *spec.get("columns", {}), *spec.get("derived", {})))
        made = source_of(steps.shaped(known[name], columns, content["tables"]), relation, spec, about.currency)
        if isinstance(made, TableSource):
            files |= dict.fromkeys(p for p in parts if p.is_file())  # a lake's tables are known by their states
            makes += relation.makes
            sources[name] = made
        else:
            problems += made
    if "customers" in about.unlinked:
        rule = "the customers have row numbers for ids (id: rows), so nothing can be joined to them"
        joined = [t for t in sources if "customer_id" in (c.name for c in known[t].columns if c.required)]
        hint = "take this table out of bank.yaml"
        problems += [Problem(t, "customer_id", rule, hint=hint) for t in joined if t not in about.unlinked]
    prepare = functools.partial(relations.prepare, makes) if makes else None
    state = functools.partial(_state, about.name, connected) if connected else None
    return Description(about, sources, tuple(files), prepare, tuple(problems), state=state)


def _state(name: str, connected: Mapping[str, Any]) -> str:
    try:
        return repr([server.digest() for server in connected.values()])
    except relations.Unreadable as error:
        raise ContractError(name, error.problems) from None


def source_of(
    table: Table, relation: relations.Relation, spec: Mapping[str, Any], currency: str
) -> TableSource | list[Problem]:
    """Build the query of one table, or say what is wrong with its columns."""
    header, origin = relation.header, relation.origin
    dropped = spec.get("drop", ())
    mapping = {ours: theirs for ours, theirs in spec.get("columns", {}).items() if theirs not in dropped}
    constants = spec.get("constants", {})
    if lost := [c for c in dropped if c not in header]:
        return [Problem(table.name, lost[0], f"drop names no column of {origin}; {nearest(lost[0], header)}")]
    kept = [c for c in header if c not in dropped]
    chosen = _columns(table, kept, mapping, "columns" in spec, origin)
    if isinstance(chosen, list):
        return chosen
    derived, used, problems = _formulas(table, kept, spec)
    money = next((c for c in kept if c.strip().lower() in CURRENCIES), "")
    money = spec.get("currency", {}).get("column", money) if any(c.kind == "money" for c in table.columns) else ""
    problems += _declared(table, mapping, spec, [*chosen, *constants, *derived], used)
    if currency in spec.get("currency", {}).get("rates", {}):
        rule = f"a rate of {currency}, the bank's own currency, is always 1"
        problems.append(Problem(table.name, "", rule, hint=f"take {currency} out of rates"))
    if money and money not in header:
        problems.append(Problem(table.name, "", f"{origin} has no column '{money}'; {nearest(money, header)}"))
    number = shapes.NUMBERED.get(table.name, "") if "id" in spec else None
    if number in (*chosen, *constants, *derived, ""):
        rule = f"id: rows stands beside a {number}" if number else "id: rows, but a row is no customer of its own"
        problems.append(Problem(table.name, number or "", rule, hint="take id: rows out of bank.yaml"))
    if problems:
        return problems
    made = {name.lower() for name in (*constants, *derived)}  # the engine does not tell Year from year
    items = [f"{quoted(theirs)} AS {quoted(ours)}" for ours, theirs in chosen.items() if ours.lower() not in made]
    items += [f"{quoted(name)} AS {quoted(FILE + name)}" for name in used]
    items += [f"{literal(value)} AS {quoted(ours)}" for ours, value in constants.items()]
    if number:  # the engine keeps the order of the rows of a file
        items.append(f"{literal(table.name + '-')} || row_number() OVER () AS {number}")
    if not items:
        return lacking(table, (), kept, origin)
    if money:
        items.append(f"coalesce(nullif(trim(CAST({quoted(money)} AS VARCHAR)), ''), 'none') AS {quoted(CURRENCY)}")
    recode, codes = _recodings(table, spec)

    def said(by: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of a column holds where a formula reads it, too."""
        names = {FILE + name: [name, *(ours for ours, theirs in chosen.items() if theirs == name)] for name in used}
        return {**by, **{file: by[n] for file, either in names.items() for n in either if n in by}}

    days = _by_column(spec.get("date_format"))
    # a format of a derived column is that of the texts it is computed from
    days |= {c: days[o] for o in derived if o in days for c in formulas.names_in(derived[o], kept) if c not in chosen}
    rest = [c for c in kept if c not in (*chosen.values(), *used, money)]
    named = [*chosen.items(), *zip(used, used, strict=True)]
    zones = {ours: relation.zones[theirs] for ours, theirs in named if theirs in relation.zones}
    points = {ours: "." for ours, theirs in named if theirs in relation.numbers}
    return TableSource(
        f"SELECT {', '.join(items)} FROM {relation.name}",
        relation.text,
        said(days | dict.fromkeys(constants, ISO)),
        recode,
        origin,
        missing=said(codes),
        decimal=said(points | _by_column(spec.get("decimal"))),
        thousands=said(_by_column(spec.get("thousands"))),
        zones=said(zones | _by_column(spec.get("timezone"))),
        currency=currency,
        rates={currency: 1.0} | {k: float(v) for k, v in spec.get("currency", {}).get("rates", {}).items()}
        if money
        else {},
        theirs={ours: theirs for ours, theirs in [*chosen.items(), (CURRENCY, money)] if ours != theirs}
        | {FILE + name: name for name in used},
        unread=tuple(c for c in header if c not in (*chosen.values(), *used, money)),
        beside=f"SELECT {', '.join(map(quoted, rest))} FROM {relation.name}" if rest else "",
        returns=spec.get("returns", ""),
        derived=derived,
    )


def _formulas(
    table: Table, header: Sequence[str], spec: Mapping[str, Any]
) -> tuple[dict[str, str], list[str], list[Problem]]:
    """Return the formulas of a table, the columns of the file they name, and what is wrong with these."""
    derived: dict[str, str] = dict(spec.get("derived", {}))
    used: dict[str, None] = {}
    problems = []
    for ours, formula in derived.items():
        for key in ("columns", "constants"):
            if ours in spec.get(key, {}):
                hint = f"take it out of {key} or of derived"
                problems.append(Problem(table.name, ours, f"is given by {key} and by derived", hint=hint))
        try:
            used |= dict.fromkeys(formulas.names_in(formula, header))
        except InputError as error:
            problems.append(Problem(table.name, ours, f"its formula {error}"))
    return derived, list(used), problems


def _by_column(value: Any) -> dict[str, Any]:
    """Take what is said of a table, or of single columns, as a mapping; ``"*"`` stands for every column."""
    return dict(value) if isinstance(value, dict) else {} if value is None else {"*": value}


def _spelled(code: str) -> tuple[str, ...]:
    """Return how files write a code: whole numbers with gaps become 98.0, those of a decimal column 98.00."""
    return (code, f"{code}.0", f"{code}.00") if code.removeprefix("-").isdigit() else (code,)


def _recodings(table: Table, spec: Mapping[str, Any]) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, ...]]]:
    """Split what is declared of values: those that mean others, by column, and those that mean "missing"."""
    codes = {c: [str(v) for v in values] for c, values in _by_column(spec.get("missing")).items()}
    recode: dict[str, dict[str, str]] = {}
    for column, values in spec.get("recode", {}).items():
        allowed = table[column].allowed if column in table.names else ()
        said = dict(zip(("true", "false"), CONSENT, strict=False)) if allowed == CONSENT else {}
        for theirs, ours in values.items():
            if ours is None:
                codes.setdefault(column, list(codes.get("*", ()))).append(str(theirs))
            else:
                spellings = dict.fromkeys(_spelled(str(theirs)), said.get(ours.lower(), ours))
                recode[column] = spellings | recode.get(column, {})
    return recode, {c: tuple(k for v in values for k in _spelled(v)) for c, values in codes.items()}


def _declared(
    table: Table, mapping: Mapping[str, Any], spec: Mapping[str, Any], columns: Sequence[str], used: Sequence[str]
) -> list[Problem]:
    """Check the names of columns, and values recoded to, against the contract and the file."""
    problems = []
    made = {**spec.get("constants", {}), **spec.get("derived", {})}
    for ours, theirs in [*mapping.items(), *made.items(), *((name, name) for name in used)]:
        ours_only = ours in table.names or ours not in (*mapping, *made)
        close = None if ours_only else close_to(str(ours), [n for n in table.names if n not in columns])
        if close:
            problems.append(Problem(table.name, str(ours), f"no such column in the contract; did you mean '{close}'?"))
        for leak, why in LEAKS.items():
            if str(theirs).lower().startswith(leak):
                problems.append(Problem(table.name, str(ours), f"refused, it leaks the answer: {why}"))
    for key in ("recode", "missing", "date_format", "decimal", "thousands", "timezone"):
        for column in _by_column(spec.get(key)):
            if column not in (*columns, "*") and (key == "recode" or column not in used):
                rule = f"{key} names no column; {nearest(str(column), columns)}"
                problems.append(Problem(table.name, str(column), rule))
            elif column in table.names and column not in used and key in GOES_WITH:
                kinds, own = GOES_WITH[key], table[column].kind
                if own not in kinds:
                    rule = f"{key} goes with {'dates' if 'date' in kinds else 'numbers'}, and {column} is {WANTED[own]}"
                    problems.append(Problem(table.name, column, rule, hint=f"take {column} out of {key}"))
    problems += _constant(table, spec)
    decimal, thousands = (_by_column(spec.get(key)) for key in ("decimal", "thousands"))
    odd = {*decimal.values()} - {".", ","} or {m for m in thousands.values() if len(m) != 1 or m.isalnum()}
    if odd or any(thousands.get(c) == mark for c, mark in decimal.items()):
        rule = "decimal must be a point or a comma, and thousands another sign"
        problems.append(Problem(table.name, "", rule, hint="decimal: ',' reads 1.250,50"))
    if "currency" in spec and not any(c.kind == "money" and c.name in columns for c in table.columns):
        problems.append(Problem(table.name, "", "has no amounts of money", hint="take currency: out of it"))
    for code, rate in spec.get("currency", {}).get("rates", {}).items():
        if not (re.fullmatch(r"\d*\.?\d+", str(rate)) and float(rate) > 0):
            rule = f"the rate of {code} must be a number above 0, with a decimal point"
            problems.append(Problem(table.name, "", rule, hint=f"rates: {{{code}: 0.92}}"))
    zones = {*_by_column(spec.get("timezone")).values()}
    for zone in zones - zoneinfo.available_timezones() if zones else ():  # slow: all files of all zones
        problems.append(Problem(table.name, "", f"there is no time zone '{zone}'", hint="Asia/Shanghai and the like"))
    for column, values in spec.get("recode", {}).items():
        known = table[column] if column in table.names else None
        allowed = (*FLAGS, *known.allowed) if known and (known.kind == "flag" or known.allowed == CONSENT) else ()
        allowed = allowed or (known.allowed if known else ())
        for value in sorted({v for v in values.values() if v is not None} - set(allowed)) if allowed else ():
            rule = f"recode to '{value}', which the contract does not know; {nearest(value, dict.fromkeys(allowed))}"
            problems.append(Problem(table.name, column, rule))
    return problems


def _constant(table: Table, spec: Mapping[str, Any]) -> Iterator[Problem]:
    """Find constants that are none of the values their column can have; dates are written as in bank.yaml."""
    for ours, value in spec.get("constants", {}).items():
        known = table[ours] if ours in table.names and ours not in spec.get("recode", {}) else Column(ours, "text")
        fits = not known.allowed or value in (*known.allowed, *FLAGS[: 4 * (known.allowed == CONSENT)])
        wanted = WANTED[known.kind] if fits else "one of " + ", ".join(known.allowed)
        try:
            if known.kind in DAYS:
                wanted = "a date such as 2022-12-31"
                datetime.date.fromisoformat(value)
            elif known.kind in NUMBERS:
                fits = math.isfinite(float(value))
            elif known.kind == "flag":
                fits = value.lower() in FLAGS
        except ValueError:
            fits = False
        if not fits:
            hint = f"correct it: constants: {{{ours}: …}}"
            yield Problem(table.name, ours, f"its constant must be {wanted}", hint=hint)


def _columns(
    table: Table, header: Sequence[str], mapping: Mapping[str, Any], mapped: bool, file: str
) -> dict[str, str] | list[Problem]:
    """Decide which column of the file becomes which of ours.

    Mapped columns first, then those that bear a name of the contract; tables that take columns of the bank's own
    (``survey``, ``snapshot``, ``spells``, ``choices``) take the rest when nothing is mapped.
    """
    lacking = {ours: str(theirs) for ours, theirs in mapping.items() if str(theirs) not in header}
    if lacking:
        return [
            Problem(table.name, ours, f"{file} has no column '{theirs}'; {nearest(theirs, header)}")
            for ours, theirs in lacking.items()
        ]
    chosen = {str(ours): str(theirs) for ours, theirs in mapping.items()}
    used = set(chosen.values())
    chosen |= {c: c for c in header if c in table.names and c not in chosen and c not in used}
    if table.open and not mapped:
        leaking = tuple(LEAKS)
        chosen |= {c: c for c in header if c not in chosen and not c.lower().startswith(leaking)}
    return chosen
