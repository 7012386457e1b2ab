"""A bank's customer database: open, check, describe. Knows the engine, knows no statistics.

A bank is loaded once into a DuckDB file in the cache folder, checked against the contract, and from then on opened
read-only while its source files stay the same. Reductions ask it for Ibis tables; only small frames leave it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import words
from crmresearch.data.contract import nearest
from crmresearch.data.description import About, Description, TableSource
from crmresearch.data.engines import DuckDB, Statement
from crmresearch.data.loading import load
from crmresearch.data.remote import reopened
from crmresearch.data.rules import bands, followed
from crmresearch.data.sources.names import find
from crmresearch.data.store import kept, opened
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis
    import pandas as pd
    import pyarrow as pa

    from crmresearch.result import Result


say = words.of("data.bank")
PINNED = "CRMRESEARCH_DATABASE"  # how the runner tells its kernels which loaded database is the bank of the run
CONTRIBUTION = "monthly.contribution"
_STATEMENTS: dict[tuple[object, ...], Statement] = {}  # see Bank.compiled


class Bank:
    """A loaded customer database.

    Made by :func:`open_bank` or :meth:`Bank.from_frames`, never directly.

    Attributes
    ----------
    about : About
        Facts about the bank; under an exit rule the observation ends where exits can no longer be told.
    tables : tuple of str
        Names of its tables, in the order of the contract.
    engine : DuckDB
        The engine, opened read-only.
    most : int
        Rows of single customers that a frame may hold; of a larger bank whole blocks of customers are drawn.
    pseudonymous : bool
        Whether pseudonyms stand for the identifiers of people, as in every bank that is opened.
    """

    most = 400_000

    def __init__(self, engine: DuckDB, about: About) -> None:
        self.engine = engine
        self.about = followed(about)
        self._meta = engine.tables()
        self.tables: tuple[str, ...] = tuple(t for t in TABLES if t in self._meta)
        self.pseudonymous: bool = "_key" in self._meta
        self._kept: set[str] = set()

    def __repr__(self) -> str:
        return f"Bank '{self.about.name}' ({self.about.evidence}): {', '.join(self.tables)}"

    @classmethod
    def from_frames(
        cls, frames: Mapping[str, pd.DataFrame | pa.Table], about: About | Mapping[str, Any], *, checked: bool = True
    ) -> Bank:
        """Build a bank in memory, checked like every other.

        Parameters
        ----------
        frames : mapping of str to DataFrame or pyarrow.Table
            Tables of the contract. Dates as datetime64, money as float (stored in whole hundredths).
        about : About or mapping
            Facts about the bank; of a mapping, the fields of :class:`About`.
        checked : bool
            False leaves out the checks of values, for tables whose maker is tested against the contract.

        Raises
        ------
        ContractError
            If a table breaks the contract, with every problem found.
        """
        about = about if isinstance(about, About) else About.of(about)
        engine = DuckDB()
        views = {name: f"_frame_{name}" for name in frames}
        tables = {name: TableSource(f'SELECT * FROM "{view}"', origin="frame") for name, view in views.items()}
        with engine.visible({view: frames[name] for name, view in views.items()}):
            load(engine, Description(about, tables), checked=checked)
        return cls(engine, about)

    @property
    def name(self) -> str:
        """Short name of the bank."""
        return self.about.name

    @property
    def source_line(self) -> str:
        """Short text for figures: where the data come from, their period, kind of evidence and currency."""
        a = self.about
        period = say("source.period", about=a) if a.dated else ""
        money = {"monthly", "transactions", "prospects", "snapshot"} & set(self.tables)
        in_money = say("source.money", about=a) if money else ""
        title, evidence = words.local(a.title), words.local(a.evidence)
        return say("source.line", title=title, evidence=evidence, period=period, money=in_money)

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the columns that the bank itself brought for a table (those filled by default are left out)."""
        return tuple(self._table_meta(table)["brought"])

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self._table_meta(table)["rows"])

    def unread(self, table: str) -> tuple[str, ...]:
        """Return the columns of a table's source that are not loaded."""
        return tuple(self._table_meta(table)["unread"])

    def made(self, table: str) -> tuple[str, ...]:
        """Say what loading made of a table beyond reading it."""
        return tuple(self._table_meta(table)["made"])

    def period(self, table: str) -> tuple[datetime.date, datetime.date]:
        """Return the first and last day a table covers: the observation period, unless the bank says less."""
        if not self.about.dated:
            raise InputError(f"the bank '{self.name}' has no dates, so table {table} covers no period")
        whole = (self.about.observation_start, self.about.observation_end)
        return self.about.covered.get(table, whole)

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the bank's own segments that models tell apart, the largest first; none where none are declared."""
        return tuple(self._meta.get("_segments", ()))

    def _table_meta(self, table: str) -> Mapping[str, Any]:
        missing = self.require(table)
        if missing is not None:
            raise InputError(str(missing))
        meta: Mapping[str, Any] = self._meta[table]
        return meta

    def require(self, *needed: str) -> Missing | None:
        """Tell whether the bank brings tables and columns.

        Parameters
        ----------
        *needed : str
            ``"table"`` or ``"table.column"``; ``"monthly.contribution"`` is all that contribution is added up from.

        Returns
        -------
        Missing or None
            What is missing, with the reason; None if nothing is.
        """
        reasons = []
        for item in needed:
            table, _, column = item.partition(".")
            if table not in TABLES:
                raise InputError(f"no table '{table}' in the contract: {nearest(table, TABLES)}")
            if item == CONTRIBUTION:
                reasons += self._no_contribution()
            elif item in self.about.refused:
                reasons.append(f"column {item} is refused: {self.about.refused[item]}")
            elif table not in self.tables:
                reasons.append(f"the bank '{self.name}' brings no table {table}")
            elif column and column not in self._meta[table]["brought"]:
                reasons.append(f"table {table} of the bank '{self.name}' brings no column {column}")
        joined = {t for t in (n.partition(".")[0] for n in needed) if "customer_id" in TABLES[t].names}
        for table in [t for t in self.about.unlinked if t in joined and len(joined) > 1]:
            reasons.append(f"ids of table {table} are row numbers, which nothing can be joined by")
        if not reasons:
            return None
        return Missing("; ".join(dict.fromkeys(reasons)), tuple(dict.fromkeys(n.partition(".")[0] for n in needed)))

    def _no_contribution(self) -> list[str]:
        """Say why contribution is unknown, if it is."""
        names = [f"monthly.{name.removeprefix('-')}" for name in self.about.contribution]
        if "monthly" not in self.tables or any(name in self.about.refused for name in names):
            missing = self.require(*names)
            return [missing.reason] if missing is not None else []
        lacking = [n.partition(".")[2] for n in names if self.require(n) is not None]
        what = f"monthly of the bank '{self.name}' brings no {', '.join(lacking)}"
        return [f"contribution is unknown: {what} (contribution: in bank.yaml says what counts)"] if lacking else []

    def table(self, name: str) -> ibis.Table:
        """Return a table as an Ibis expression; every column of the contract is there, absent ones as nulls."""
        self._table_meta(name)
        return self.engine.table(name)

    def frame(self, expr: Any) -> pd.DataFrame:
        """Run an Ibis expression (or SQL text) and return a frame of numpy types.

        Decimals and whole numbers with gaps become float64, dates datetime64[ns], truth values with gaps objects.
        """
        return self.engine.frame(expr)

    def scalar(self, expr: Any) -> Any:
        """Run an Ibis expression that has one value, and return it."""
        return self.engine.scalar(expr)

    def compiled(self, request: tuple[object, ...], build: Callable[[], ibis.Table]) -> pd.DataFrame:
        """Run an expression and keep it as written: writing it down takes longer than running it on a small bank.

        Parameters
        ----------
        request : tuple
            All that the expression depends on beside the bank's columns and observation period; hashable. No number
            read from the bank's rows may stand in the expression, as other banks get it, too.
        build : callable
            Returns the Ibis expression; not called when the same was asked of a bank of the same shape before.
        """
        about = self.about
        columns = tuple((t, *self._meta[t]["brought"].items()) for t in self.tables)
        key = (
            self.engine.path, about.observation_start, about.observation_end,
            tuple(about.covered.items()), about.unlinked, tuple(about.refused), about.contribution,
            about.segments.get("band"), self.segments, columns, *request,
        )  # fmt: skip
        if key not in _STATEMENTS:
            _STATEMENTS[key] = self.engine.compiled(build())
        return self.frame(_STATEMENTS[key])

    def kept(self, name: str, build: Callable[[], ibis.Table]) -> ibis.Table:
        """Compute a table once, in the engine, for all that is asked of it; ``build`` is called the first time."""
        if name not in self._kept:
            self.engine.keep(name, build())
            self._kept.add(name)
        return self.engine.table(name)

    def describe(self) -> Result:
        """Return the tables the bank holds: rows, customers, period, columns not brought."""
        import pandas as pd

        from crmresearch.result import Result
        from crmresearch.rules import rounded

        rows = []
        for name in self.tables:
            table, t = TABLES[name], self.table(name)
            who = next(k for k in ("customer_id", "prospect_id", "city_id", "manager_id") if k in table.names)
            ends = {"first": t[table.day].min(), "last": t[table.day].max()} if table.day else {}
            found = self.frame(t.aggregate(n=t[who].nunique(), **ends)).iloc[0]
            first, last = ("–" if pd.isna(d) else d.date().isoformat() for d in (found.get("first"), found.get("last")))
            absent = [c for c in table.names if c not in self.columns(name)]
            n = rounded(self.rows(name))
            rows.append((name, table.row, n, int(found["n"]), first, last, ", ".join(absent) or "–"))
        header = list(say.names("describe.columns").values())
        lacking = ", ".join(t for t in TABLES if t not in self.tables) or say("describe.nothing")
        period = say("describe.dated", about=self.about) if self.about.dated else say("describe.undated")
        title, evidence = words.local(self.about.title), words.local(self.about.evidence)
        sentence = say(
            "describe.sentence", title=title, evidence=evidence, about=self.about, period=period, lacking=lacking
        )
        refused = self._meta.get("_consent", {}).get("no", 0)
        if refused:
            sentence += " " + say("describe.consent", n=refused)
        exits = " " + self.rules()["exit"] if self.about.exit_rule else ""
        return Result(pd.DataFrame(rows, columns=header), sentence + exits)

    def rules(self) -> dict[str, str]:
        """Say by what rules the bank is read: who counts as gone, contribution, segments, the survey model."""
        about, exits, rule = self.about, say("rules.closure"), self.about.exit_rule
        if rule:
            months, told = rule["months"], self._exits_told()
            below = rule.get("balance_below", 0.0)
            low = say("rules.below", balance=below, currency=about.currency, months=months)
            kind = say("rules.silent", months=months) if "without" in rule else low
            exits = say("rules.exit", kind=kind, end=about.observation_end, months=months, told=told)
        columns = ((c[0] == "-", c.removeprefix("-").replace("_", " ")) for c in about.contribution)
        parts = [say("rules.less", name=name) if less else say("rules.more", name=name) for less, name in columns]
        [(column, cuts)] = about.segments.get("tier", {"": ()}).items()
        tier = say("rules.tier", column=column) if column else say("rules.city")
        tier = say("rules.cut", column=column, bands="; ".join(bands(cuts))) if cuts else tier
        band = about.segments.get("band")
        value = say("rules.bands", bands="; ".join(bands(band))) if band else say("rules.thirds")
        blocks = {c: b["items"] if isinstance(b, Mapping) else b for c, b in about.constructs.items()}
        items = [say("rules.construct", name=c, items=", ".join(i)) for c, i in blocks.items()]
        arrows = [say("rules.path", start=a, end=b) for a, b in about.paths]
        return {
            "exit": exits,
            "contribution": " ".join(parts).removeprefix("+ "),
            "segments": f"{tier}; {value}",
            "survey model": "; ".join([*items, *arrows]) or say("rules.none"),
        }

    def _exits_told(self) -> dict[str, str]:
        """Write what the exit rule changed; few customers are not counted, nor all but few."""
        from crmresearch.rules import rules

        n: dict[str, int] = self._meta["_exits"]
        others = self.rows("customers") - n["dormant"]
        left = {"dormant": others, "closed": others - n["closed"]}
        left |= {name: n["dormant"] - n[name] for name in ("closed_later", "came_back")}

        def told(count: int, rest: int) -> str:
            most = say("rules.most") if 0 < rest < rules.least else words.counted(count)
            return say("rules.few") if 0 < count < rules.least else most

        return {name: told(count, left.get(name, 0)) for name, count in n.items()}

    def reconcile(self) -> Result:
        """Compare what was loaded with what the publisher states, and tables with each other.

        Not applicable to a bank whose source states nothing to compare with.
        """
        import pandas as pd

        from crmresearch.result import Result

        rows = self._meta["_reconciled"]
        if not rows:
            return Result.not_applicable(Missing(say("reconcile.none", name=self.name)))
        table = pd.DataFrame(rows, columns=["what", "found", "expected", "agrees"])
        sentence = say("reconcile.sentence", agree=int(table["agrees"].sum()), n=len(table))
        return Result(table, sentence, counts=(), digits=2)


def open_bank(name_or_path: str | os.PathLike[str], from_dir: Path | None = None) -> Bank:
    """Open a bank, loading it first when its sources are new or have changed.

    Within a run, the run's bank is the database that was loaded when it began, whatever became of the sources since.

    Parameters
    ----------
    name_or_path : str or path
        ``reference``, a name in the catalogue, the name of a bank in a folder of ``CRMRESEARCH_BANKS``, or a path to a
        folder with a ``bank.yaml``, or to that file.
    from_dir : Path, optional
        Another folder than its own whose files the ``bank.yaml`` may name.

    Raises
    ------
    InputError
        If the bank is not known or its files are not here.
    ContractError
        If the data break the contract; whatever was loaded before stays as it was.
    """
    if loaded := os.environ.get(PINNED):
        engine = reopened(Path(loaded))
        about = About.again(engine.tables()["_about"])
        if about.name == os.fspath(name_or_path):
            return Bank(engine, about)
    description = find(name_or_path, from_dir)
    return Bank(opened(description), description.about)


def loaded(fingerprint: str) -> Bank | None:
    """Return the bank of a fingerprint, where what was loaded is still there, whatever became of its sources since."""
    path = kept(fingerprint)
    if path is None:
        return None
    engine = reopened(path)
    return Bank(engine, About.again(engine.tables()["_about"]))
