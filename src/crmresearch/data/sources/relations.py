"""What every source becomes before it is loaded: a relation that the engine can read, with a header."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NoReturn
from urllib.parse import unquote

from crmresearch.data.contract import Problem, quoted
from crmresearch.data.engines import DuckDB

ALIKE = "give the parts of a table the same columns, or list its files (file: [a, b])"
Make = Callable[[DuckDB], None]


class Unreadable(Exception):
    """A source that cannot become a table, and why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*map(str, problems))
        self.problems = problems


def refuse(table: str, rule: str, hint: str = "", column: str = "") -> NoReturn:
    """Say why a source cannot become a table."""
    raise Unreadable(Problem(table, column, rule, hint=hint)) from None


@dataclass(frozen=True)
class Relation:
    """A source as the engine sees it.

    Parameters
    ----------
    name : str
        What stands after FROM.
    header : sequence of str
        Its columns.
    origin : str
        Its name in reports.
    text : bool
        Whether columns are raw text, whose types are to be found out.
    zones : mapping
        Time zones that the source states, by column.
    numbers : sequence of str
        Columns of text that the source itself calls numbers: their decimal mark is a point.
    makes : tuple of callable
        Make the relation in an engine that does not read the source by itself; raise :class:`Unreadable`.
    """

    name: str
    header: Sequence[str]
    origin: str
    text: bool = True
    zones: Mapping[str, str] = field(default_factory=dict)
    numbers: Sequence[str] = ()
    makes: tuple[Make, ...] = ()


def prepare(makes: Sequence[Make], engine: DuckDB) -> list[Problem]:
    """Make relations in the engine; return what is wrong with their sources."""
    problems: list[Problem] = []
    for make in makes:
        try:
            make(engine)
        except Unreadable as error:
            problems += error.problems
    return problems


def copy_text(engine: DuckDB, relation: str, header: Sequence[str], rows: Iterable[Any]) -> None:
    """Create a table of text columns from rows, a batch at a time."""
    import pyarrow as pa

    rows = iter(rows)
    engine.run(f"CREATE TEMP TABLE {relation} ({', '.join(f'{quoted(c)} VARCHAR' for c in header)})")
    while batch := list(itertools.islice(rows, 100_000)):
        texts = [[None if v is None else str(v) for v in column] for column in zip(*batch, strict=True)]
        with engine.visible({"_batch": pa.table([pa.array(t, pa.string()) for t in texts], names=list(header))}):
            engine.run(f"INSERT INTO {relation} SELECT * FROM _batch")


def folders_of(file: PurePath) -> list[str]:
    """Return the names of the folders that are partitions, from the file upwards."""
    return [p.name for p in itertools.takewhile(lambda p: "=" in p.name, file.parents)]


def partitions(folders: Sequence[str]) -> dict[str, str | None]:
    """Return the columns that stand in names of folders: ``year=2020/city=A%2FB``."""
    pairs = [name.partition("=")[::2] for name in folders]
    return {name: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for name, value in pairs}


def named(folders: Sequence[str], file: str) -> str:
    """Name a file of a partition in a report: with the time that its folders name, never with another value."""
    pairs = [name.partition("=")[::2] for name in folders]
    day = r"(18|19|20|21)\d\d(-\d\d){0,2}|\d\d?"
    return "/".join([*(f"{name}={value if re.fullmatch(day, value) else '…'}" for name, value in pairs), file])


def told_apart(table: str, file: str, header: Sequence[str]) -> None:
    """Refuse names that stand twice; the engine does not tell Day from day."""
    if len({c.casefold() for c in header}) < len(header):
        refuse(table, f"{file} names a column twice", "give each column its own name")


UTC = ("UTC", "GMT", "GMT0", "UCT", "Z", "Zulu", "Universal", "Greenwich")  # names of what is nobody's day


def _zone(stated: str) -> str:
    """Return the zone whose days a column is in: whole hours from UTC too; UTC and parts of hours say none."""
    if offset := re.fullmatch(r"([+-])(\d\d):?00", stated):
        hours = int(offset[2])
        return f"Etc/GMT{'-' if offset[1] == '+' else '+'}{hours}" if 0 < hours <= 12 else ""
    return "" if stated[:1] in "+-" or stated.removeprefix("Etc/") in UTC else stated


def zones_of(schema: Any) -> dict[str, str]:
    """Return the zones that the columns of an Arrow schema name, where they say whose day it is."""
    return {f.name: zone for f in schema if (zone := _zone(getattr(f.type, "tz", None) or ""))}
