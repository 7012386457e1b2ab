"""What every source becomes before it is loaded: a relation that the engine can read, with a header."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from crmresearch.data.contract import Problem, quoted
from crmresearch.data.engines import DuckDB

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
