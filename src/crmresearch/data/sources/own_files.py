"""Your own bank: a folder with files and a ``bank.yaml`` that says what they hold.

Files are CSV, gzipped CSV or Parquet, or tables of a DuckDB or SQLite database. ``data/example/bank.yaml`` is a
complete example; ``data/README.md`` lists the keys.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import datetime
import functools
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from crmresearch.data.contract import Problem, close_to, literal, nearest, quoted
from crmresearch.data.description import About, Description, TableSource
from crmresearch.data.engines import SUFFIX, DuckDB, columns_of
from crmresearch.data.tables import TABLES, Table
from crmresearch.errors import InputError

TABLE_KEYS = ("file", "table", "columns", "recode", "date_format", "sep", "encoding")
ABOUT_KEYS = tuple(f.name for f in fields(About))
LEAKS = {"naive_bayes_classifier": "scores of an earlier model of the same outcome"}  # names that begin so are refused


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not UTF-8 text; save it as UTF-8") from None
    except PermissionError:
        raise InputError(f"{path.name} may not be read; check its permissions") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise InputError(f"{path.name} is not valid YAML{where}; check indentation and colons") from None
    except ValueError as error:  # a date that no calendar has
        raise InputError(f"{path.name} holds an impossible value: {error}; dates are written YYYY-MM-DD") from None
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
    for key in content:
        if key not in (*ABOUT_KEYS, "tables"):
            raise InputError(f"{path.name}: unknown key '{key}': {nearest(str(key), [*ABOUT_KEYS, 'tables'])}")
    facts = {k: v for k, v in content.items() if k != "tables"}
    for day in ("observation_start", "observation_end"):
        value = facts.get(day)
        if isinstance(value, str):
            try:
                facts[day] = datetime.date.fromisoformat(value)
            except ValueError:
                raise InputError(f"{path.name}: {day} must be a date such as 2022-12-31") from None
        elif isinstance(value, datetime.datetime):
            facts[day] = value.date()
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


def describe(path: str | Path) -> Description:
    """Read a ``bank.yaml`` and look at its files, without reading their rows.

    Parameters
    ----------
    path : path
        The file, or the folder that holds it. File names in it count from its folder.

    Returns
    -------
    Description
        Defects of single files are listed in ``problems``, so that one report can hold them all.

    Raises
    ------
    InputError
        If the description itself cannot be used: unknown keys, missing facts, no tables.
    """
    path = _locate(path)
    content = _read_yaml(path)
    about = _about(path, content)
    tables = content.get("tables")
    if not isinstance(tables, dict) or not tables:
        raise InputError(f"{path.name}: tables: must name at least one table ({', '.join(TABLES)})")
    sources: dict[str, TableSource] = {}
    files: dict[Path, None] = {path: None}
    problems: list[Problem] = []
    databases: dict[Path, str] = {}
    recoded: dict[str, tuple[str, Path, str, str, list[str]]] = {}
    for name, spec in tables.items():
        if name not in TABLES:
            raise InputError(f"{path.name}: no table '{name}' in the contract: {nearest(str(name), TABLES)}")
        spec = {"file": spec} if isinstance(spec, str) else spec
        if not isinstance(spec, dict) or "file" not in spec:
            raise InputError(f"{path.name}: table {name} needs a file")
        for key in spec:
            if key not in TABLE_KEYS:
                raise InputError(f"{path.name}: unknown key '{key}' of table {name}: {nearest(str(key), TABLE_KEYS)}")
        file = path.parent / str(spec["file"])
        found = _file_problem(name, file, spec)
        if found is None:
            files[file] = None
            made = _table(TABLES[name], file, spec, databases, recoded)
            if isinstance(made, TableSource):
                sources[name] = made
                continue
            found = made
        problems += found
    prepare = functools.partial(_prepare, databases, recoded) if databases or recoded else None
    return Description(about, sources, tuple(files), prepare, tuple(problems))


def _file_problem(name: str, file: Path, spec: Mapping[str, Any]) -> list[Problem] | None:
    """Look at one file: is it there, may it be read, is it whole, is it text in its encoding?"""

    def problem(rule: str, hint: str) -> list[Problem]:
        return [Problem(name, "", f"{file.name} {rule}", hint=hint)]

    if not file.is_file():
        return problem("does not exist", "check file: in bank.yaml (names count from its folder)")
    try:
        with file.open("rb") as handle:
            head = handle.read(4)
        if not head:
            return problem("is empty", "write the file again, or take the table out of bank.yaml")
        if file.suffix == ".gz":
            with gzip.open(file) as packed:  # the engine reads a cut file up to the cut, without a word
                while packed.read(1 << 20):
                    pass
        if file.suffix == ".parquet" and head != b"PAR1":
            return problem("is no Parquet file", "write it again")
    except PermissionError:
        return problem("may not be read", "check its permissions")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return problem("is a damaged or incomplete gzip file", "copy it again, or pack it again")
    return None


def _table(
    table: Table,
    file: Path,
    spec: Mapping[str, Any],
    databases: dict[Path, str],
    recoded: dict[str, tuple[str, Path, str, str, list[str]]],
) -> TableSource | list[Problem]:
    """Build the query of one table, or say what is wrong with its columns."""
    mapping = spec.get("columns") or {}
    recode = spec.get("recode") or {}
    problems = _declared(table, mapping, recode)
    if problems:
        return problems
    text = file.suffix != ".parquet"
    if file.suffix in (SUFFIX, ".db", ".sqlite", ".sqlite3"):
        if "table" not in spec:
            return [Problem(table.name, "", f"{file.name} is a database; say which table (table: …)")]
        alias = databases.setdefault(file, f"_source_{len(databases)}")
        wanted = str(spec["table"])
        relation = quoted(f"{alias}.{wanted}") if _is_sqlite(file) else f"{quoted(alias)}.{quoted(wanted)}"
        header = _database_header(file, str(spec["table"]))
        text = _is_sqlite(file)
        if not header:
            return [Problem(table.name, "", f"{file.name} holds no table '{spec['table']}'")]
    elif file.suffix == ".parquet":
        relation = f"read_parquet({literal(file)})"
        header = _parquet_header(file)
    else:
        found = _csv_relation(table.name, file, spec, recoded)
        if isinstance(found, list):
            return found
        relation, header = found
    columns = _columns(table, header, mapping, file.name)
    if isinstance(columns, list):
        return columns
    select = ", ".join(f"{quoted(theirs)} AS {quoted(ours)}" for ours, theirs in columns.items())
    formats = spec.get("date_format") or {}
    formats = {"*": formats} if isinstance(formats, str) else dict(formats)
    recode = {c: {str(k): str(v) for k, v in m.items()} for c, m in recode.items()}
    return TableSource(f"SELECT {select} FROM {relation}", text, formats, recode, file.name)


def _declared(table: Table, mapping: Mapping[str, Any], recode: Mapping[str, Any]) -> list[Problem]:
    """Check names in ``columns`` and ``recode`` against the contract."""
    problems = []
    for ours, theirs in mapping.items():
        close = None if ours in table.names else close_to(str(ours), [n for n in table.names if n not in mapping])
        if close:
            problems.append(Problem(table.name, str(ours), f"no such column in the contract; did you mean '{close}'?"))
        for leak, why in LEAKS.items():
            if str(theirs).lower().startswith(leak):
                problems.append(Problem(table.name, str(ours), f"refused, it leaks the answer: {why}"))
    for column, values in recode.items():
        if column not in table.names and column not in mapping:
            rule = f"recode names no column; {nearest(str(column), table.names)}"
            problems.append(Problem(table.name, str(column), rule))
            continue
        allowed = table[column].allowed if column in table.names else ()
        wrong = sorted({str(v) for v in values.values()} - set(allowed)) if allowed else []
        for value in wrong:
            rule = f"recode to '{value}', which the contract does not know; {nearest(value, allowed)}"
            problems.append(Problem(table.name, column, rule))
    return problems


def _columns(
    table: Table, header: Sequence[str], mapping: Mapping[str, Any], file: str
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
    if table.open and not mapping:
        leaking = tuple(LEAKS)
        chosen |= {c: c for c in header if c not in chosen and not c.lower().startswith(leaking)}
    return chosen


# --- files ------------------------------------------------------------------------------------------------------------


def csv_relation(file: Path, header: Sequence[str], sep: str = ",", encoding: str = "utf-8") -> str:
    """Write the reader of a CSV file (gzip by suffix): every column text, nothing guessed."""
    columns = ", ".join(f"{literal(c)}: 'VARCHAR'" for c in header)
    return (
        f"read_csv({literal(file)}, auto_detect = false, header = true, delim = {literal(sep)}, quote = '\"', "
        f"escape = '\"', encoding = {literal(encoding)}, columns = {{{columns}}})"
    )


def csv_header(file: Path, sep: str = ",", encoding: str = "utf-8") -> list[str]:
    """Read the column names of a CSV file (gzip by suffix)."""
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rb") as handle:
        stream = io.TextIOWrapper(handle, encoding=encoding, newline="")
        row = next(csv.reader(stream, delimiter=sep), [])
    return [c.strip().removeprefix("\ufeff") for c in row]


NATIVE = {"utf-8": "utf-8", "ascii": "utf-8", "iso8859-1": "latin-1"}  # encodings the engine reads itself


def _csv_relation(
    name: str, file: Path, spec: Mapping[str, Any], recoded: dict[str, tuple[str, Path, str, str, list[str]]]
) -> tuple[str, list[str]] | list[Problem]:
    sep = str(spec.get("sep", ","))
    asked = str(spec.get("encoding", "utf-8"))
    try:
        encoding = codecs.lookup(asked).name
    except LookupError:
        return [Problem(name, "", f"there is no encoding '{asked}'", hint="utf-8, gb18030, cp1252 and the like")]
    try:
        header = csv_header(file, sep, encoding)
    except (UnicodeDecodeError, UnicodeError):
        hint = "declare encoding in bank.yaml, or save as UTF-8"
        return [Problem(name, "", f"{file.name} is not {asked} text", hint=hint)]
    if len(set(header)) < len(header):
        return [Problem(name, "", f"{file.name} names a column twice", hint="give each column its own name")]
    if len(header) == 1 and any(s in header[0] for s in ";\t|,"):
        return [Problem(name, "", f"{file.name} has one column only", hint="declare sep in bank.yaml, e.g. sep: ';'")]
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        handle.readline()
        if not handle.readline().strip():
            return [Problem(name, "", f"{file.name} is empty below its header", hint="take the table out of bank.yaml")]
    if encoding in NATIVE:
        return csv_relation(file, header, sep, NATIVE[encoding]), header
    alias = f"_recoded_{len(recoded)}"
    recoded[alias] = (name, file, sep, encoding, header)
    return alias, header


def _parquet_header(file: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(file).names)


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as handle:
        return handle.read(16).startswith(b"SQLite format 3")


def _database_header(file: Path, table: str) -> list[str]:
    if not _is_sqlite(file):
        return columns_of(file, table)
    import sqlite3

    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return [r[0] for r in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _prepare(
    databases: Mapping[Path, str], recoded: Mapping[str, tuple[str, Path, str, str, list[str]]], engine: DuckDB
) -> list[Problem]:
    """Make sources visible that the engine does not read by itself; return what is wrong with them."""
    _attach(databases, engine)
    problems = []
    for alias, (table, file, sep, encoding, header) in recoded.items():
        try:
            _copy_text(engine, alias, header, _text_rows(file, sep, encoding, len(header)))
        except UnicodeError:
            hint = "declare encoding in bank.yaml, or save as UTF-8"
            problems.append(Problem(table, "", f"{file.name} is not {encoding} text", hint=hint))
        except ValueError as error:
            problems.append(Problem(table, "", f"{error} of {file.name}", hint="declare sep, or repair it"))
    return problems


def _text_rows(file: Path, sep: str, encoding: str, width: int) -> Iterator[list[str | None]]:
    """Read a CSV file in any encoding Python knows, row by row."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as handle:
        reader = csv.reader(io.TextIOWrapper(handle, encoding=encoding, newline=""), delimiter=sep)
        next(reader)
        for row in reader:
            if len(row) != width:
                message = f"a row has another number of columns than the header near line {reader.line_num}"
                raise ValueError(message)
            yield [v or None for v in row]


def _copy_text(engine: DuckDB, relation: str, header: Sequence[str], rows: Iterator[Any]) -> None:
    """Create a table of text columns from rows, a batch at a time."""
    import pyarrow as pa

    engine.run(f"CREATE TEMP TABLE {relation} ({', '.join(f'{quoted(c)} VARCHAR' for c in header)})")
    while batch := list(itertools.islice(rows, 100_000)):
        texts = [[None if v is None else str(v) for v in column] for column in zip(*batch, strict=True)]
        with engine.visible({"_batch": pa.table([pa.array(t, pa.string()) for t in texts], names=list(header))}):
            engine.run(f"INSERT INTO {relation} SELECT * FROM _batch")


def _attach(databases: Mapping[Path, str], engine: DuckDB) -> None:
    """Make the tables of databases visible: DuckDB attaches, SQLite is copied as text (no extension needed)."""
    for file, alias in databases.items():
        if not _is_sqlite(file):
            engine.run(f"ATTACH {literal(file)} AS {quoted(alias)} (READ_ONLY)")
            continue
        import sqlite3

        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            names = [r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
            for name in names:
                cursor = connection.execute(f"SELECT * FROM {quoted(name)}")
                header = [d[0] for d in cursor.description]
                _copy_text(engine, quoted(f"{alias}.{name}"), header, iter(cursor))
