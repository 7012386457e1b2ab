"""A bank's customer database: open, check, describe. Knows the engine, knows no statistics.

A bank is loaded once into a DuckDB file in the cache folder, checked against the contract, and from then on opened
read-only while its source files stay the same. Reductions ask it for Ibis tables; only small frames leave it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import words
from crmresearch.data import sources
from crmresearch.data.contract import TABLES, ContractError, nearest
from crmresearch.data.loading import configure, load, reconcile
from crmresearch.data.sources import About, Description, TableSource
from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis
    import pandas as pd
    import pyarrow as pa

    from crmresearch.result import Result


say = words.of("data.bank")
_SQL: dict[tuple[object, ...], str] = {}  # see Bank.compiled


class Bank:
    """A loaded customer database.

    Made by :func:`open_bank` or :meth:`Bank.from_frames`, never directly.

    Attributes
    ----------
    about : About
        Facts about the bank.
    tables : tuple of str
        Names of its tables, in the order of the contract.
    connection : ibis backend
        The engine, opened read-only.
    """

    def __init__(self, connection: Any, about: About, meta: Mapping[str, Any]) -> None:
        self.connection = connection
        self.about = about
        self._meta = meta
        self.tables: tuple[str, ...] = tuple(t for t in TABLES if t in meta)

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
        import ibis

        about = about if isinstance(about, About) else About.of(about)
        connection = ibis.duckdb.connect()
        raw = connection.con
        configure(raw)
        tables = {}
        for name, frame in frames.items():
            raw.register(f"_frame_{name}", frame)
            tables[name] = TableSource(f'SELECT * FROM "_frame_{name}"', origin="frame")
        meta = load(raw, Description(about, tables), checked=checked)
        for name in frames:
            raw.unregister(f"_frame_{name}")
        return cls(connection, about, meta)

    @property
    def name(self) -> str:
        """Short name of the bank."""
        return self.about.name

    @property
    def source_line(self) -> str:
        """Short text for figures: where the data come from, their period, kind of evidence and currency."""
        a = self.about
        period = f", {a.observation_start:%Y-%m} to {a.observation_end:%Y-%m}" if a.dated else ""
        money = (
            f"; money in {a.currency}"
            if {"monthly", "transactions", "prospects", "snapshot"} & set(self.tables)
            else ""
        )
        return f"Source: {a.title}{period} ({a.evidence}){money}"

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the columns that the bank itself brought for a table (those filled by default are left out)."""
        return tuple(self._table_meta(table)["brought"])

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self._table_meta(table)["rows"])

    def period(self, table: str) -> tuple[datetime.date, datetime.date]:
        """Return the first and last day a table covers: the observation period, unless the bank says less."""
        if not self.about.dated:
            raise InputError(f"the bank '{self.name}' has no dates, so table {table} covers no period")
        whole = (self.about.observation_start, self.about.observation_end)
        return self.about.covered.get(table, whole)

    def origin(self, table: str) -> str:
        """Return the name of the file a table came from."""
        return str(self._table_meta(table)["origin"])

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
            ``"table"`` or ``"table.column"``.

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
            if item in self.about.refused:
                reasons.append(f"column {item} is refused: {self.about.refused[item]}")
            elif table not in self.tables:
                reasons.append(f"the bank '{self.name}' brings no table {table}")
            elif column and column not in self._meta[table]["brought"]:
                reasons.append(f"table {table} of the bank '{self.name}' brings no column {column}")
        if not reasons:
            return None
        return Missing("; ".join(dict.fromkeys(reasons)), tuple(dict.fromkeys(n.partition(".")[0] for n in needed)))

    def table(self, name: str) -> ibis.Table:
        """Return a table as an Ibis expression; every column of the contract is there, absent ones as nulls."""
        self._table_meta(name)
        return self.connection.table(name)

    def frame(self, expr: Any) -> pd.DataFrame:
        """Run an Ibis expression (or SQL text) and return a frame of numpy types.

        Decimals and nullable numbers become float64, dates datetime64[ns], nullable truth values object.
        """
        import ibis
        import pandas as pd

        sql = expr if isinstance(expr, str) else ibis.to_sql(expr.as_table(), dialect="duckdb")
        out = self.connection.con.execute(str(sql)).df()
        for column, dtype in out.dtypes.items():
            if pd.api.types.is_datetime64_any_dtype(dtype):
                out[column] = out[column].astype("datetime64[ns]")
            elif pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_bool_dtype(dtype):
                out[column] = out[column].astype(object).where(out[column].notna(), None)
            elif pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_numeric_dtype(dtype):
                out[column] = out[column].astype("float64")
        return out

    def compiled(self, request: tuple[object, ...], build: Callable[[], ibis.Table]) -> pd.DataFrame:
        """Run an expression and keep its SQL: writing it down takes longer than running it on a small bank.

        Parameters
        ----------
        request : tuple
            All that the expression depends on beside the bank's columns and observation period; hashable.
        build : callable
            Returns the Ibis expression; not called when the same was asked of a bank of the same shape before.
        """
        import ibis

        about = self.about
        columns = tuple((t, self.columns(t)) for t in self.tables)
        key = (
            self.connection.current_catalog, about.observation_start, about.observation_end,
            tuple(about.covered.items()), about.unlinked, tuple(about.refused), columns, *request,
        )  # fmt: skip
        if key not in _SQL:
            _SQL[key] = str(ibis.to_sql(build().as_table(), dialect="duckdb"))
        return self.frame(_SQL[key])

    def describe(self) -> Result:
        """Return the tables the bank holds: rows, customers, period, columns not brought."""
        import pandas as pd

        from crmresearch.result import Result

        rows = []
        for name in self.tables:
            table = TABLES[name]
            day = next((c.name for c in table.columns if c.kind in ("date", "month")), None)
            who = next((k for k in ("customer_id", "prospect_id", "city_id") if k in table.names), None)
            first = last = "–"
            if day:
                found = self.connection.con.execute(f'SELECT min("{day}"), max("{day}") FROM "{name}"').fetchone()
                first, last = ("–" if d is None else d.isoformat() for d in found)
            n = self.connection.con.execute(f'SELECT count(DISTINCT "{who}") FROM "{name}"').fetchone()[0]
            absent = [c.name for c in table.columns if c.name not in self.columns(name)]
            rows.append((name, table.row, self.rows(name), n, first, last, ", ".join(absent) or "–"))
        header = list(say.names("describe.columns").values())
        lacking = ", ".join(t for t in TABLES if t not in self.tables) or say("describe.nothing")
        period = say("describe.dated", about=self.about) if self.about.dated else say("describe.undated")
        sentence = say("describe.sentence", about=self.about, period=period, lacking=lacking)
        return Result(pd.DataFrame(rows, columns=header), sentence)

    def reconcile(self) -> Result:
        """Compare what was loaded with what the publisher states, and tables with each other.

        Not applicable to a bank whose source states nothing to compare with.
        """
        import pandas as pd

        from crmresearch.result import Result

        rows = self._meta.get("_reconciled")
        if not rows:
            return Result.not_applicable(Missing(say("reconcile.none", name=self.name)))
        table = pd.DataFrame(rows, columns=["what", "found", "expected", "agrees"])
        agree, n = int(table["agrees"].sum()), len(table)
        return Result(table, say("reconcile.sentence", agree=agree, n=n), counts=(), digits=2)


def open_bank(
    name_or_path: str | os.PathLike[str], threads: int | None = None, memory_limit: str | None = None
) -> Bank:
    """Open a bank, loading it first when its sources are new or have changed.

    Parameters
    ----------
    name_or_path : str or path
        ``reference``, a name in the catalogue, the name of a bank in a folder of ``CRMRESEARCH_BANKS``, or a path to a
        folder with a ``bank.yaml``, or to that file.
    threads : int, optional
        Threads of the engine; default ``CRMRESEARCH_THREADS``, or all cores.
    memory_limit : str, optional
        Such as ``"2GB"``; default ``CRMRESEARCH_MEMORY``, or the engine's own.

    Raises
    ------
    InputError
        If the bank is not known or its files are not here.
    ContractError
        If the data break the contract; whatever was loaded before stays as it was.
    """
    import ibis

    description = sources.find(name_or_path)
    if description.problems:  # files that cannot be read at all also fail the fingerprint
        return _refuse(description, threads, memory_limit)
    path = _database(description, threads, memory_limit)
    connection = ibis.duckdb.connect(str(path), read_only=True)
    configure(connection.con, threads, memory_limit)
    [meta] = connection.con.execute("SELECT meta FROM _crmresearch").fetchone() or ("{}",)
    return Bank(connection, description.about, json.loads(meta))


# --- loading ----------------------------------------------------------------------------------------------------------


def _refuse(description: Description, threads: int | None, memory_limit: str | None) -> Bank:
    """Load what can be read, in memory, so that one report holds every problem; always raises."""
    import duckdb

    with duckdb.connect() as raw:
        configure(raw, threads, memory_limit)
        load(raw, description)
    raise ContractError(description.about.name, description.problems)


def _fingerprint(description: Description, folder: Path) -> str:
    """Hash the content of the sources, their description and the loading code.

    A file's hash is remembered with its size and its times of modification and change. It is trusted only if the file
    is clearly older than the note (a file rewritten within the clock's grain keeps all three), by the file system's own
    clock.
    """
    notes = folder / "hashes.json"
    try:
        known = json.loads(notes.read_text("utf-8"))
        noted_ns = notes.stat().st_mtime_ns
    except (OSError, ValueError):
        known, noted_ns = {}, 0
    digest = hashlib.sha256(sources.code_fingerprint().encode())
    digest.update(repr((description.about, sorted(description.tables.items()))).encode())
    changed = False
    for path in description.files:
        key, stat = str(path.resolve()), path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        note = known.get(key)
        if note is None or note[:3] != mark or max(mark[1:]) > noted_ns - 2_000_000_000:
            known[key] = note = [*mark, sources.sha256(path)]
            changed = True
        digest.update(f"{path.name}:{note[3]}".encode())
    if changed:
        _write_text(notes, json.dumps(known))
    return digest.hexdigest()[:20]


def _write_text(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(temporary, path)


def _database(description: Description, threads: int | None, memory_limit: str | None) -> Path:
    """Return the loaded database of a description, loading it when there is none for its fingerprint.

    The file's name carries the fingerprint, and appears only by renaming a complete, checked file: no reader ever sees
    half a load, and an interrupted one leaves the older database where it is.
    """
    import duckdb

    folder = sources.cache_dir() / "banks"
    folder.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(str(description.files[0].resolve()).encode()).hexdigest()[:8]
    name = f"{description.about.name}-{place}"  # two folders may name their banks alike
    path = folder / f"{name}.{_fingerprint(description, folder)}.duckdb"
    if path.exists():
        return path
    with sources.locked(folder / name):
        if path.exists():
            return path
        if os.name != "nt":  # whoever began these held the lock we hold now, so they were killed
            for stale in folder.glob(f".{name}-*"):
                shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
            fresh = Path(temporary) / "load.duckdb"
            with duckdb.connect(str(fresh)) as raw:
                configure(raw, threads, memory_limit)
                meta: dict[str, Any] = load(raw, description)
                meta["_reconciled"] = reconcile(raw, description)
                raw.execute("CREATE TABLE _crmresearch AS SELECT $meta AS meta", {"meta": json.dumps(meta)})
                raw.execute("CHECKPOINT")
            for old in folder.glob(f"{name}.*.duckdb"):
                _remove(old)  # an open reader keeps what it has opened
            os.replace(fresh, path)
    return path


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except PermissionError:  # on Windows a database that is open cannot be removed; the next load tries again
        return
