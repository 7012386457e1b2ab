"""What is checked of a bank beyond the contract's own rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from crmresearch import identifiers
from crmresearch.data.contract import Problem, literal, quoted
from crmresearch.data.description import FILE, TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import TABLES, Table

LOOK = 50_000  # rows of a column of many different values that are looked at, evenly over the table
FEW = 5_000  # different values in them up to which a column is looked at as a whole
LONG = 10**10  # numbers that may be a telephone, a card or a person


# --- identifiers ------------------------------------------------------------------------------------------------------


def identifiers_by_name(table: Table, columns: Mapping[str, str], source: TableSource) -> Iterator[Problem]:
    """Refuse columns whose name, here or in the source, announces a direct identifier."""
    for name in columns:
        theirs = source.theirs.get(name, name)
        kind = identifiers.named(theirs) or (None if name in table.names else identifiers.named(name))
        if kind:
            shown = name.removeprefix(FILE)
            called = "" if theirs == shown else f", '{theirs}' in {source.origin}"
            rule = f"a direct identifier ({kind}) is refused{called}"
            yield Problem(table.name, shown, rule, hint=_out(table, name, source))


def identifiers_by_value(
    engine: DuckDB, noted: Mapping[str, Any], sources: Mapping[str, TableSource]
) -> Iterator[Problem]:
    """Refuse loaded columns whose values are direct identifiers, whatever their names."""
    for name, facts in noted.items():
        table = TABLES[name]
        elsewhere = table.refers if "customers" in noted else ""  # ids that are looked at there
        for column, kind in facts["brought"].items():
            known = table[column] if column in table.names else None
            if column == elsewhere or (known and (known.allowed or known.kind not in ("id", "text"))):
                continue
            if kind not in ("VARCHAR", "BIGINT", "DOUBLE"):
                continue
            total, texts = _different(engine, name, column, kind, facts["rows"])
            found = identifiers.among(texts, total)
            if found:
                what, n = found
                rule = f"holds {what}, which are refused ({n:,} of {total:,} different values looked at)"
                yield Problem(name, column, rule, hint=_out(table, column, sources[name]))


def _out(table: Table, column: str, source: TableSource) -> str:
    if column in table.names and (table[column].required or column in table.key):
        return "put a pseudonym in its place, such as a number per customer"
    theirs = source.theirs.get(column, column)
    theirs = theirs if re.fullmatch(r"[^\W\d][\w .-]*", theirs) else "'" + theirs.replace("'", "''") + "'"
    out = "leave the column out"
    return out if source.origin == "frame" else f"{out}: drop: [{theirs}] under {table.name} in bank.yaml"


def _different(engine: DuckDB, table: str, column: str, kind: str, rows: int) -> tuple[int, list[str]]:
    """Count the different values of a column, and return those that may identify, as text.

    A column of many different values is looked at in evenly spaced rows: where it identifies, they show it. Free text,
    which has blanks or signs of another script, is looked at as a whole: one remark in a million may name somebody.
    """
    q, text = quoted(column), "v"
    if kind != "VARCHAR":
        whole = f"abs(v) BETWEEN {LONG} AND 1e36 AND v = trunc(v)"
        text = f"CASE WHEN {whole} THEN CAST(CAST(v AS HUGEINT) AS VARCHAR) ELSE CAST(v AS VARCHAR) END"
    listed = f"list({text}) FILTER (WHERE regexp_matches({text}, {literal(identifiers.COARSE)}))"

    def look(where: str) -> tuple[int, int, list[str]]:
        distinct = f"SELECT DISTINCT {q} AS v FROM {quoted(table)} WHERE {q} IS NOT NULL{where}"
        free = "count(*) FILTER (WHERE regexp_matches(trim(CAST(v AS VARCHAR)), '[^!-~]'))"
        [row] = engine.run(f"SELECT count(*), {free}, ({listed})[:{LOOK}] FROM ({distinct})")
        return int(row[0]), int(row[1]), row[2] or []

    step = -(-rows // LOOK)
    total, free, found = look(f" AND rowid % {step} = 0" if step > 1 else "")
    if step > 1 and (total <= FEW or free > total / 10):
        total, _, found = look("")
    return total, found
