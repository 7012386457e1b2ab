"""Say what a run is doing: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Protocol, Self

__all__ = ["Bar", "Lines", "Progress", "Quiet", "for_stream"]


class Progress(Protocol):
    """What the runner tells its listener; may be called from several threads."""

    def begin(self, total: int) -> None:
        """``total`` notebooks will run."""

    def say(self, words: str) -> None:
        """One remark between notebooks."""

    def cell(self, name: str, done: int, total: int) -> None:
        """One code cell of a notebook has run."""

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        """A notebook has ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _summary(name: str, outcome: Mapping[str, Any]) -> str:
    words = f"{name}: {outcome['status']}"
    if outcome.get("reused"):
        words += " (unchanged, kept)"
    elif "seconds" in outcome:
        words += f" in {outcome['seconds']:.1f} s"
    return words + (f"; {outcome['error']}" if "error" in outcome else "")


class Quiet:
    """Says nothing."""

    def begin(self, total: int) -> None: ...
    def say(self, words: str) -> None: ...
    def cell(self, name: str, done: int, total: int) -> None: ...
    def end(self, name: str, outcome: Mapping[str, Any]) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Lines(Quiet):
    """One line per event."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.total, self.ended = stream, 0, 0

    def begin(self, total: int) -> None:
        self.total = total

    def say(self, words: str) -> None:
        print(f"== {words}", file=self.stream, flush=True)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        self.ended += 1
        width = len(str(self.total))
        print(f"[{self.ended:>{width}}/{self.total}] {_summary(name, outcome)}", file=self.stream, flush=True)


class Bar(Quiet):
    """A bar for the run and one for each notebook under way."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self.bars = RichProgress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self.whole: Any = None
        self.tasks: dict[str, Any] = {}

    def begin(self, total: int) -> None:
        self.whole = self.bars.add_task("notebooks", total=total)

    def say(self, words: str) -> None:
        self.bars.print(f"[bold]==[/bold] {words}", highlight=False)

    def cell(self, name: str, done: int, total: int) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(f"  {name}", total=total)
        self.bars.update(self.tasks[name], completed=done)

    def end(self, name: str, outcome: Mapping[str, Any]) -> None:
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))
        self.bars.advance(self.whole)
        good = outcome["status"] == "completed"
        mark = "[green]✓[/green]" if good else "[red]✗[/red]"
        from rich.markup import escape

        self.bars.print(f" {mark} {escape(_summary(name, outcome))}", highlight=False)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()


def for_stream(stream: IO[str]) -> Progress:
    """Return a bar for a terminal, lines for everything else."""
    return Bar(stream) if stream.isatty() else Lines(stream)
