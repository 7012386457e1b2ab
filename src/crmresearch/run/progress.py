"""Say what a run is doing: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
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


class Lines(Progress):
    """One line per event."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.total, self.ended = stream, 0, 0

    def begin(self, total: int) -> None:
        """Remember the number of notebooks, of which none has ended."""
        self.total, self.ended = total, 0

    def say(self, words: str) -> None:
        """Write the remark."""
        print(f"== {escape.terminal(words)}", file=self.stream, flush=True)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Write how the notebook ended, and how many have."""
        self.ended += 1
        width = len(str(self.total))
        print(f"[{self.ended:>{width}}/{self.total}] {_summary(name, outcome)}", file=self.stream, flush=True)


class Bar(Progress):
    """A bar for the run and one for each notebook under way."""

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
        """Start the bar of the run; that of an earlier one goes."""
        if self.whole is not None:
            self.bars.remove_task(self.whole)
        self.whole = self.bars.add_task("notebooks", total=total)

    def say(self, words: str) -> None:
        """Write the remark above the bars."""
        self.bars.print(f"== {escape.terminal(words)}", markup=False, highlight=False)

    def cell(self, name: str, done: int, total: int) -> None:
        """Move the notebook's bar."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(f"  {name}", total=total)
        self.bars.update(self.tasks[name], completed=done)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Replace the notebook's bar by a line that stays."""
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))
        self.bars.advance(self.whole)
        mark, style = ("✓", "green") if outcome["status"] == "completed" else ("✗", "red")
        self.bars.print(f" {mark} {_summary(name, outcome)}", markup=False, highlight=False, style=style)


@contextlib.contextmanager
def for_stream(stream: IO[str]) -> Iterator[Progress]:
    """Give a bar for a terminal, lines for everything else."""
    if not stream.isatty():
        yield Lines(stream)
        return
    bar = Bar(stream)
    with bar.bars:
        yield bar
