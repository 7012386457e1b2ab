"""The daily loop: a bank's files as they arrived, one load after the other, and the verdicts that move with them.

A load is all files whose names carry the same month or day. Each state is loaded by the code that loads every bank,
from a description that names the files that had come by then; what breaks the contract is set aside with its report.
"""

from __future__ import annotations

import calendar
import datetime
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from crmresearch import escape, ledger, review
from crmresearch.data.bank import open_bank
from crmresearch.data.contract import ContractError
from crmresearch.data.places import put, sha256
from crmresearch.data.reductions import actions as reductions
from crmresearch.data.sources import own_files, readers
from crmresearch.data.tables import STEPS, TABLES
from crmresearch.errors import InputError
from crmresearch.result import Result
from crmresearch.rules import use
from crmresearch.run import batch
from crmresearch.run.people import People
from crmresearch.run.progress import Progress
from crmresearch.run.scan import Report, scan
from crmresearch.studies import actions

_DATED = re.compile(r"(?<!\d)(\d{4})[-_]?(0[1-9]|1[0-2])(?:[-_]?(0[1-9]|[12]\d|3[01]))?(?!\d)")
ORDER = [*STEPS, *TABLES]


@dataclass(frozen=True)
class File:
    """A file of a table, as it arrives."""

    table: str
    path: Path


@dataclass
class Replayed:
    """What a replay came to.

    Attributes
    ----------
    outcomes : dict of str to Outcome
        Runs, by the last day that had been loaded.
    moved : dict of str to DataFrame
        Verdicts that moved since the run before, by that day.
    aside : dict of str to str
        Files that were set aside, and why.
    again : list of str
        Files that had come before, and changed nothing.
    precision : dict of str to Result
        How often the list of the ledger before was right by that day.
    report : Report
        What must not leave, in the files of the replay itself; each run has been looked through on its own.
    """

    outcomes: dict[str, batch.Outcome] = field(default_factory=dict)
    moved: dict[str, pd.DataFrame] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    precision: dict[str, Result] = field(default_factory=dict)
    report: Report = field(default_factory=Report)


class Arrivals:
    """The files of a bank, by the period that their names carry.

    Parameters
    ----------
    bank : path
        A ``bank.yaml``, or its folder.
    by : {'month', 'day'}
        What is loaded at once.
    state : Path
        Folder for the description of what has come so far.
    """

    def __init__(self, bank: str | Path, by: str, state: Path) -> None:
        self.path, self.content = own_files.stated(bank)
        self.folder, self.state = self.path.parent.resolve(), state
        self.end = own_files.about_in(self.path).observation_end
        if self.end is None:
            raise InputError(f"{self.path.name} says dated: false, and without dates nothing arrives; use: run --bank")
        self.good: list[File] = []
        found: dict[datetime.date | None, list[File]] = {}
        for name, given in (self.content.get("tables") or {}).items():
            spec = given if isinstance(given, dict) else {"file": given}
            if "database" in spec:
                raise InputError(f"table {name} comes from a database, not in files; use: crmresearch run --bank")
            named = spec["file"] if isinstance(spec.get("file"), list) else [spec.get("file", "")]
            if any("://" in one for one in named):
                raise InputError(f"table {name} comes from an address, not in files; use: crmresearch run --bank")
            for path in readers.parts_of(self.folder, named):
                if not path.resolve().is_relative_to(self.folder):
                    raise InputError(f"{path.name} lies outside the folder of {self.path.name}; move it there")
                found.setdefault(_day(path.name, by, self.end), []).append(File(name, path))
        days = sorted(day for day in found if day is not None)
        if len(days) < 2:
            hint = "name them like monthly-2024-05.csv, or use: crmresearch run --bank"
            raise InputError(f"fewer than two files of {self.path.name} carry another {by} in their names; {hint}")
        found[days[0]] = found.pop(None, []) + found[days[0]]
        if days[-1] > self.end:
            raise InputError(f"files carry a {by} after the observation_end of {self.path.name}; correct either")
        self.loads = {day if day < days[-1] else self.end: found[day] for day in days}

    def describe(self, files: list[File], end: datetime.date) -> Path:
        """Write what the bank is when these files have come, and say where; all of them are the bank itself."""
        last = end == self.end
        if last and {f.path for f in files} == {f.path for own in self.loads.values() for f in own}:
            return self.path
        tables = {}
        for name, given in self.content["tables"].items():
            if own := [str(f.path) for f in files if f.table == name]:
                tables[name] = (given if isinstance(given, dict) else {}) | {"file": own}
        facts = self.content | {"tables": tables, "observation_end": end.isoformat()}
        covered = self.content.get("covered", {})
        facts |= {"covered": {t: [a, min(b, end.isoformat())] for t, (a, b) in covered.items()}} if covered else {}
        if not last:
            facts.pop("truth", None)  # that of a simulated bank is of all its months
        put(self.state / "bank.yaml", yaml.safe_dump(facts, allow_unicode=True).encode())
        return self.state / "bank.yaml"

    def breaks(self, files: list[File], end: datetime.date) -> ContractError | None:
        """Load a state; return what is wrong with it, if anything."""
        try:
            open_bank(self.describe(files, end), self.folder).engine.close()
        except ContractError as error:
            return error
        return None

    def take(self, files: list[File], end: datetime.date) -> dict[str, str]:
        """Load what has come, without what breaks the contract; return that, with its report."""
        aside = {}
        while files and (error := self.breaks([*self.good, *files], end)):
            named = {p.table for p in error.problems}
            blamed = [f for f in files if f.table in named] or files
            if len(blamed) > 1:  # the one without which least is wrong
                without = [self.breaks([*self.good, *(x for x in files if x is not f)], end) for f in blamed]
                wrong = [0 if e is None else sum(p.rows or 1 for p in e.problems) for e in without]
                blamed = [blamed[wrong.index(min(wrong))]]
            aside[blamed[0].path.name] = str(error).replace(f"{self.folder}{os.sep}", "")
            files = [f for f in files if f is not blamed[0]]
        self.good += files
        return aside


def _day(name: str, by: str, end: datetime.date) -> datetime.date | None:
    """Return the last day of the period that a file's name carries, or the end within it; None where it has none."""
    if not (found := _DATED.search(name)):
        return None
    year, month, day = int(found[1]), int(found[2]), int(found[3] or 0)
    last = datetime.date(year, month, calendar.monthrange(year, month)[1])
    if day and by == "day":
        return last.replace(day=min(day, last.day))
    return end if (year, month) == (end.year, end.month) else last


def replay(
    bank: str | Path, out: Path, *, by: str = "month", every: int = 12, progress: Progress | None = None, **ways: Any
) -> Replayed:
    """Load a bank's files in the order in which they came, and make the ledger anew after every so many loads.

    Parameters
    ----------
    bank : path
        A ``bank.yaml``, or its folder; the names of its files carry the month or the day.
    out : Path
        Holds a run by the last day that was loaded, ``moved.csv``, ``precision.csv``, ``replay.json``, and in
        ``restricted`` the lists of customers to keep, to develop and to win back.
    by : {'month', 'day'}
        What is loaded at once.
    every : int
        Loads between two ledgers; the last is made in any case.
    progress : Progress, optional
        Listener.
    **ways
        As for :func:`crmresearch.run.batch.run`.

    Raises
    ------
    InputError
        If files carry no dates in their names, or nothing of the bank can be loaded.
    """
    progress = progress or Progress()
    if out.is_dir() and any(out.iterdir()) and not (out / "replay.json").exists():
        raise InputError(f"{out} holds something that is not a replay; choose another --out, or empty it first")
    with tempfile.TemporaryDirectory() as state:  # it names the bank's files where they lie on this machine
        return _replay(Arrivals(bank, by, Path(state)), out, every, progress, ways)


def _replay(arrivals: Arrivals, out: Path, every: int, progress: Progress, ways: Mapping[str, Any]) -> Replayed:
    done, people = Replayed(), People.called(())
    _write(out, done)
    seen: set[tuple[str, str]] = set()
    waiting: dict[datetime.date, list[File]] = {}
    before: Path | None = None
    known: pd.DataFrame | None = None
    for number, (end, files) in enumerate(arrivals.loads.items(), 1):
        waiting[end] = []
        for file in sorted(files, key=lambda f: (ORDER.index(f.table), f.path.name)):
            mark = (file.table, sha256(file.path))
            done.again += [file.path.name] if mark in seen else []
            waiting[end] += [] if mark in seen else [file]
            seen.add(mark)
        if number % every and number < len(arrivals.loads):
            continue
        new = [f for own in waiting.values() for f in own]
        if arrivals.breaks([*arrivals.good, *new], end) is None:
            arrivals.good += new
        else:
            for day, own in waiting.items():
                done.aside |= arrivals.take(own, day)
        waiting = {}
        progress.say(f"{end}: {number} loads, {len(done.aside)} files set aside")
        state = arrivals.describe(arrivals.good, end)
        label, home = str(end), arrivals.folder
        one = batch.run(str(state), out=out / label, from_dir=home, since=before, progress=progress, **ways)
        done.outcomes[label] = one
        if before is not None:
            done.moved[label] = _moved(before, one.folder)
        before = one.folder
        opened = open_bank(state, home)
        standing = reductions.standing(opened)
        people = People.of(opened) if number == len(arrivals.loads) else people
        use(opened.about.disclosure)
        opened.engine.close()
        if isinstance(standing, pd.DataFrame):
            if known is not None:
                done.precision[label] = actions.precision(known, standing)
            _restricted(out, label, actions.listed(standing))
            known = standing
    _write(out, done)
    done.report = scan(out, people, deep=False)
    _write(out, done)
    return done


def _restricted(out: Path, label: str, frame: pd.DataFrame) -> None:
    """Write a list of single customers, for the user alone."""
    (out / "restricted").mkdir(mode=0o700, exist_ok=True)
    put(out / "restricted" / f"actions-{label}.csv", escape.csv(frame))


def _moved(before: Path, now: Path) -> pd.DataFrame:
    runs = [json.loads((folder / "run.json").read_text("utf-8")) for folder in (before, now)]
    return review.moves((ledger.read(before), ledger.read(now)), runs)


def _write(out: Path, done: Replayed) -> None:
    """Write what moved, and what became of each load."""
    moved = [frame.assign(until=label) for label, frame in done.moved.items()]
    if moved:
        put(out / "moved.csv", escape.csv(pd.concat(moved, ignore_index=True)), private=False)
    right = [one.table.assign(until=label) for label, one in done.precision.items() if one.applicable]
    if right:
        put(out / "precision.csv", escape.csv(pd.concat(right, ignore_index=True)), private=False)
    told: Mapping[str, Any] = {
        "runs": {label: one.status["status"] for label, one in done.outcomes.items()},
        "aside": done.aside,
        "again": done.again,
    } | ({"disclosure": [asdict(b) for b in done.report.breaches]} if done.report.breaches else {})
    ledger.write_json(out / "replay.json", told)
