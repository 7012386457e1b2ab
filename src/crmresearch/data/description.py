"""A bank before it is loaded: facts about it, and one query per table that yields the contract's columns.

Every source, whether simulated, your own files or an open data set, becomes a :class:`Description`, and
:mod:`crmresearch.data.loading` loads them all through one door.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crmresearch import rules as shown
from crmresearch.data import rules
from crmresearch.data.contract import Problem, nearest
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from crmresearch.data.engines import DuckDB, Remote


FILE = "_file."  # before the name of a column that only formulas read
LONGEST_NAME = 100  # bytes
YEARS = (1850, 2150)  # what a date may lie between, as years of birth do
EVIDENCE = ("real bank", "real, other trade", "simulated", "published")
Evidence = Literal["real bank", "real, other trade", "simulated", "published"]


@dataclass(frozen=True)
class About:
    """Facts about a bank that no table holds.

    Parameters
    ----------
    name : str
        Short name; letters, digits, ``-`` and ``_``.
    currency : str
        Currency of every amount (ISO code).
    observation_start, observation_end : date
        Period covered, both days included. Declared by the bank, never taken from the clock.
    evidence : {'real bank', 'real, other trade', 'simulated', 'published'}
        What a result on these data can show.
    title, licence, citation : str
        For captions and references.
    disclosure : str
        Rules of what may be shown, as for :func:`crmresearch.rules.use`; the default ones where empty.
    cannot_answer : tuple of str
        What the data cannot show, one sentence each.
    constructs : mapping of str to list of str, or to mapping
        Survey constructs and their items; a mapping has ``items`` and optionally ``mode``, ``reversed`` and ``scale``.
    paths : tuple of pair of str
        Arrows of the structural model, from and to a construct.
    refused : mapping of str to str
        Columns of the source that are never loaded (``table.column``), and why: they leak the answer.
    unlinked : tuple of str
        Tables without customer ids; their ids are row numbers and can be joined with nothing.
    covered : mapping of str to pair of date
        Tables that cover less than the observation period, with their own first and last day.
    dated : bool
        False for data without dates, whose period the publisher does not state: both dates then are absent.
    exit_rule : mapping
        Who counts as gone beside those who closed: ``{"without": "transactions", "months": 12}``, or
        ``{"balance_below": 100, "months": 6}``; the observation then ends as many months earlier.
    contribution : sequence of str
        Columns of ``monthly`` that are added up, with a minus before those that are taken off.
    segments : mapping
        ``tier``: the column of ``customers`` (or ``{column: cut points}``) that stands where city tiers do; ``band``:
        cut points of the balance, which stand where value bands do.
    tolerance_days : mapping of str to int
        Days by which rows of a table may lie outside the time in which their customer was one; ``"*"`` for all tables.
    truth : mapping of str to mapping
        Of a simulated bank: what was planted, by line of the register (``world``, ``limit``, ``error``).
    """

    name: str
    currency: str
    observation_start: datetime.date
    observation_end: datetime.date
    evidence: Evidence
    title: str = ""
    licence: str = "not stated"
    citation: str = ""
    cannot_answer: tuple[str, ...] = ()
    constructs: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[tuple[str, str], ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    unlinked: tuple[str, ...] = ()
    covered: Mapping[str, tuple[datetime.date, datetime.date]] = field(default_factory=dict)
    dated: bool = True
    exit_rule: Mapping[str, Any] = field(default_factory=dict)
    contribution: tuple[str, ...] = rules.CONTRIBUTION
    segments: Mapping[str, Any] = field(default_factory=dict)
    tolerance_days: Mapping[str, int] = field(default_factory=dict)
    truth: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    disclosure: str = ""

    def __post_init__(self) -> None:
        for wrong in _wrong(self):
            raise InputError(wrong)
        for name, read in (
            ("exit_rule", rules.exit_rule), ("contribution", rules.contribution), ("segments", rules.segments)
        ):  # fmt: skip
            object.__setattr__(self, name, read(getattr(self, name)))
        shown.read(self.disclosure)
        object.__setattr__(self, "title", self.title or self.name)
        object.__setattr__(self, "cannot_answer", tuple(self.cannot_answer))
        object.__setattr__(self, "unlinked", tuple(self.unlinked))
        object.__setattr__(self, "covered", {t: (first, last) for t, (first, last) in self.covered.items()})
        object.__setattr__(self, "paths", tuple(dict.fromkeys((str(a), str(b)) for a, b in self.paths)))
        for path in self.paths:
            if path[0] == path[1]:
                raise InputError(f"a path leads from '{path[0]}' to itself; take [{path[0]}, {path[1]}] out of paths")
            for end in path:
                if end not in self.constructs:
                    arrow = f"path {path[0]} to {path[1]} of bank '{self.name}'"
                    raise InputError(f"{arrow} names '{end}': {nearest(end, self.constructs)}")

    def plain(self) -> dict[str, Any]:
        """Return the facts as plain data, days as text; :meth:`again` reads them."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return facts

    @classmethod
    def again(cls, facts: Mapping[str, Any]) -> About:
        """Build from what :meth:`plain` returned."""
        day = datetime.date.fromisoformat
        ends = {k: day(facts[k]) for k in ("observation_start", "observation_end") if facts[k]}
        return cls(**{**facts, **ends, "covered": {t: (day(a), day(b)) for t, (a, b) in facts["covered"].items()}})

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> About:
        """Build from a mapping; unknown keys are refused with the nearest valid name."""
        known = {f.name for f in fields(cls)}
        for key in facts:
            if key not in known:
                raise InputError(f"unknown key '{key}' in the facts about a bank: {nearest(key, known)}")
        facts = dict(facts)
        required = ["name", "currency", "evidence"]
        if facts.get("dated", True):
            required += ["observation_start", "observation_end"]
        else:
            stated = [day for day in ("observation_start", "observation_end") if facts.get(day) is not None]
            if stated:
                raise InputError(f"a bank with dated: false has no {stated[0]}; leave out one of the two")
            facts |= {"observation_start": None, "observation_end": None}
        missing = [k for k in required if facts.get(k) is None]
        if missing:
            raise InputError(f"the facts about a bank lack {', '.join(missing)}")
        return cls(**facts)


def _wrong(a: About) -> Iterator[str]:
    """Say which facts are of the wrong role, order or range, and what to write instead."""
    if not a.name.replace("-", "").replace("_", "").isalnum():
        yield f"a bank's name has letters, digits, - and _ only, not '{a.name}'"
    if len(a.name.encode()) > LONGEST_NAME:  # it begins the names of files
        yield f"a bank's name of {len(a.name)} letters is too long for one of a file; shorten it, and say more in title"
    if not re.fullmatch("[A-Z]{3}", a.currency):
        yield f"currency '{a.currency}' of bank '{a.name}' is no ISO code; write three capitals, such as EUR"
    if a.evidence not in EVIDENCE:
        yield f"evidence '{a.evidence}' of bank '{a.name}': {nearest(a.evidence, EVIDENCE)}"
    for table in {*a.unlinked, *(column.partition(".")[0] for column in a.refused)} - {*TABLES}:
        key = "unlinked" if table in a.unlinked else "refused"
        yield f"{key} of bank '{a.name}' names no table '{table}': {nearest(table, TABLES)}"
    if not a.dated:
        if key := next((k for k in ("covered", "exit_rule") if getattr(a, k)), ""):
            yield f"a bank with dated: false has no {key}; leave out one of the two"
        return
    start, end = a.observation_start, a.observation_end
    for key, day, does in (("observation_start", start, "begin"), ("observation_end", end, "end")):
        if not isinstance(day, datetime.date):
            yield f"{key} of bank '{a.name}' must be a date (YYYY-MM-DD)"
        if not YEARS[0] <= day.year <= YEARS[1]:
            what = f"{key} of bank '{a.name}' must lie between {YEARS[0]} and {YEARS[1]}"
            yield f"{what}; write the day the data {does} with"
    if end < start:
        yield f"bank '{a.name}': observation_end lies before observation_start; exchange the two"
    for table, (first, last) in a.covered.items():
        inside = max(first, start), min(last, end)
        what, these = f"covered of {table} in bank '{a.name}'", sorted((first, last))
        if TABLES[table].day is None:
            yield f"{what}: the table has no dates; take it out of covered"
        if first > last or (first, last) != inside:
            these = these if first > last or inside[0] > inside[1] else [*inside]
            out = inside[0] > inside[1] and first <= last
            rule = "must begin before it ends" if first > last else "lies outside the observation period"
            yield f"{what} {rule}; " + ("take it out" if out else f"write {table}: [{these[0]}, {these[1]}]")


@dataclass(frozen=True)
class TableSource:
    """How one table is read.

    Parameters
    ----------
    query : str
        SQL of the loading engine, whose columns carry the contract's names (or names of the bank's own).
    text : bool
        Whether the columns are raw text, whose types are to be found out.
    formats : mapping
        ``strptime`` format of text dates, or several, by column; ``"*"`` for every date of the table.
    recode : mapping
        For a column, its values in the source and what they mean in the contract.
    origin : str
        File name for reports, without its folder.
    missing : mapping
        Codes that mean "missing", by column; ``"*"`` for every column of the table but ids.
    decimal, thousands : mapping
        Decimal mark and mark of thousands of numbers in text, by column or ``"*"``.
    zones : mapping
        Time zone whose days are meant where times carry a zone, by column or ``"*"``.
    currency : str
        The bank's currency, whose sign may stand beside a number.
    rates : mapping
        Value of one unit of each currency in the bank's; not empty where rows state a currency.
    theirs : mapping
        Names that columns bear in the source, where they are other ones.
    unread : tuple of str
        Columns of the source that are not read.
    beside : str
        SQL of the engine for those of them that nothing is said of; empty where there are none.
    returns : str
        Of a history, which exit counts of those who came back: ``first`` or ``last``; empty where nothing is declared.
    derived : mapping
        Formulas of columns computed from others of the same row (see `formulas`). The columns they name stand in the
        query too, under their own names with :data:`FILE` before them.
    """

    query: str
    text: bool = False
    formats: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    recode: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    origin: str = ""
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    decimal: Mapping[str, str] = field(default_factory=dict)
    thousands: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    currency: str = ""
    rates: Mapping[str, float] = field(default_factory=dict)
    theirs: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    beside: str = ""
    returns: str = ""
    derived: Mapping[str, str] = field(default_factory=dict)

    def forms(self, column: str) -> Sequence[str]:
        """Return the formats that the dates of a column are written in, each tried in turn."""
        found = self.formats.get(column, self.formats.get("*", ()))
        return (found,) if isinstance(found, str) else found


@dataclass(frozen=True)
class Reconciliation:
    """A number that a loaded bank must reproduce: what it is, the query that finds it, and what it should be.

    ``expected`` is a number the publisher states, or a query for the same number from another table.
    """

    what: str
    found: str
    expected: float | str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Elsewhere:
    """Where the tables of a bank are, and stay.

    Parameters
    ----------
    engine : str
        As in ``bank.yaml``.
    said : str
        Its address, or where that stands, as in ``bank.yaml``.
    remote : Remote
        The connection.
    constants : mapping
        Columns that ``bank.yaml`` gives a value, by table.
    """

    engine: str
    said: str
    remote: Remote
    constants: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Description:
    """A bank before it is loaded: facts, tables, and the files whose content decides whether a load is still valid.

    ``prepare`` runs once in the loading engine (to attach a database, say) and returns problems; ``problems`` are
    defects of files found before any row was read; ``reconcile`` are numbers to compare once all tables are loaded;
    ``state`` returns a text that changes with what is read from elsewhere than files; ``elsewhere`` says where the
    tables are that stay where they are.
    """

    about: About
    tables: Mapping[str, TableSource]
    files: tuple[Path, ...] = ()
    prepare: Callable[[DuckDB], list[Problem]] | None = None
    problems: tuple[Problem, ...] = ()
    reconcile: tuple[Reconciliation, ...] = ()
    state: Callable[[], str] | None = None
    elsewhere: Elsewhere | None = None
