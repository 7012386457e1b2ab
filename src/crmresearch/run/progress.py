"""Say what a run is doing: a live table on a terminal, plain lines elsewhere, and events for programs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from crmresearch import escape


def _summary(name: str, outcome: Mapping[str, Any]) -> str:
    words = f"{name}: {outcome['status']}"
    if outcome.get("reused"):
        words += " (unchanged, kept)"
    elif "seconds" in outcome:
        words += f" in {outcome['seconds']:.1f} s"
    return words + (f"; {escape.terminal(outcome['error'])}" if "error" in outcome else "")


class Progress:
    """What the runner tells its listener, from several threads; this one stays silent."""

    def begin(self, total: int) -> None:
        """Hear how many notebooks the run has."""

    def say(self, words: str) -> None:
        """Hear a remark between notebooks."""

    def cell(self, name: str, done: int, total: int) -> None:
        """Hear that a code cell of a notebook has run."""

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Hear how a notebook ended."""


class Tally(Progress):
    """Counts what was done, skipped and failed, and how long the rest will take."""

    total = 0

    def begin(self, total: int) -> None:
        """Remember the number of notebooks or runs, of which none has ended."""
        self.total, self.ended, self.started = total, Counter[str](), time.monotonic()

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Count it."""
        self.ended[
            "skipped" if outcome.get("reused") else "done" if outcome["status"] == "completed" else "failed"
        ] += 1

    def __str__(self) -> str:
        worked, over = self.ended["done"] + self.ended["failed"], self.total - self.ended.total()
        counts = ", ".join(f"{n} {word}" for word, n in {**self.ended, "to go": over}.items() if n)
        seconds = (time.monotonic() - self.started) / worked * over if worked else 0
        return counts + (f", about {lasting(seconds)} left" if seconds else "")


def lasting(seconds: float) -> str:
    """Write a time that is estimated."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


class Lines(Tally):
    """One line per event."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def say(self, words: str) -> None:
        """Write the remark."""
        print(f"== {escape.terminal(words)}", file=self.stream, flush=True)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Write how it ended, and how many have."""
        super().end(name, outcome)
        ended = f"[{self.ended.total():>{len(str(self.total))}}/{self.total}]"
        print(f"{ended} {_summary(name, outcome)}", file=self.stream, flush=True)


class Bar(Tally):
    """A bar for the whole, with its counts, and one for each notebook under way."""

    def __init__(self, stream: IO[str]) -> None:
        from rich import progress as rich
        from rich.console import Console

        self.bars = rich.Progress(
            rich.SpinnerColumn(finished_text=" "),
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=28),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self.whole: Any = None
        self.tasks: dict[str, Any] = {}

    def begin(self, total: int) -> None:
        """Start the bar of the whole; that of an earlier one goes."""
        super().begin(total)
        if self.whole is not None:
            self.bars.remove_task(self.whole)
        self.whole = self.bars.add_task(str(self), total=total)

    def say(self, words: str) -> None:
        """Write the remark above the bars."""
        self.bars.print(f"== {escape.terminal(words)}", markup=False, highlight=False)

    def cell(self, name: str, done: int, total: int) -> None:
        """Move the notebook's bar."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(f"  {name}", total=total)
        self.bars.update(self.tasks[name], completed=done)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Replace the bars of a notebook, or of a run's notebooks, by a line that stays."""
        super().end(name, outcome)
        for key in [k for k in self.tasks if k == name or k.startswith(f"{name} ")]:
            self.bars.remove_task(self.tasks.pop(key))
        self.bars.update(self.whole, advance=1, description=str(self))
        mark, style = ("✓", "green") if outcome["status"] == "completed" else ("✗", "red")
        self.bars.print(f" {mark} {_summary(name, outcome)}", markup=False, highlight=False, style=style)


class Within(Progress):
    """Tells the listener of a sweep what one of its runs is doing."""

    def __init__(self, listener: Progress, run: str) -> None:
        self.listener, self.run = listener, run

    def cell(self, name: str, done: int, total: int) -> None:
        """Say whose cell has run."""
        self.listener.cell(f"{self.run} {name}", done, total)


class Events(Progress):
    """Adds what happens to a file, one JSON object a line, and tells a listener: one thread after the other.

    Parameters
    ----------
    path : Path
        The file; it grows.
    listener : Progress, optional
        Is told the same.
    """

    def __init__(self, path: Path, listener: Progress | None) -> None:
        self.listener, self.lock = listener or Progress(), threading.Lock()
        self.file = os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "a", encoding="utf-8")

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _write(self, **event: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.file.write(escape.terminal(json.dumps({"at": at, **event}, ensure_ascii=False)) + "\n")
        self.file.flush()

    def begin(self, total: int) -> None:
        """Write how many there are."""
        with self.lock:
            self._write(event="begin", total=total)
            self.listener.begin(total)

    def say(self, words: str) -> None:
        """Write the remark."""
        with self.lock:
            self._write(event="remark", words=words)
            self.listener.say(words)

    def cell(self, name: str, done: int, total: int) -> None:
        """Pass it on alone: cells are many."""
        with self.lock:
            self.listener.cell(name, done, total)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Write how it ended."""
        with self.lock:
            self._write(event="end", name=name, **outcome)
            self.listener.end(name, outcome)


@contextlib.contextmanager
def for_stream(stream: IO[str]) -> Iterator[Progress]:
    """Give a bar for a terminal, lines for everything else."""
    if not stream.isatty():
        yield Lines(stream)
        return
    bar = Bar(stream)
    with bar.bars:
        yield bar
