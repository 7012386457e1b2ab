"""The command line: ``crmresearch run | sweep | bank | site | check | release | notebooks | new-notebook | recover``.

Exit status: 0 everything completed, 1 something ran and failed, 2 the request was refused before anything ran.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crmresearch import escape, rules, words
from crmresearch.data.places import FULL
from crmresearch.errors import CrmError, InputError
from crmresearch.run import spare_grammars

if TYPE_CHECKING:
    from crmresearch.run.progress import Progress


app = typer.Typer(
    help="Does relationship banking pay? Run the studies on a bank and read the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
banks = typer.Typer(help="Banks: list, describe, check, simulate, get.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(banks, name="bank")


def _here(path: Path | None) -> Path | None:
    """Refuse an address; as a path it has lost a slash by now (``s3:/bucket``)."""
    if path is not None and re.match(r"[A-Za-z][\w+.-]+:", str(path)):
        raise typer.BadParameter("name a folder of this machine, and copy the run from there")
    return path


def _rule(chosen: str | None) -> str | None:
    """Choose the rules of what may be shown, here and in the kernels."""
    if chosen is not None:
        rules.read(chosen)
        os.environ[rules.CHOSEN] = chosen
    return chosen


def _speak(languages: str | None) -> str | None:
    """Set the readers' languages, before anything is said."""
    if languages is not None:
        words.choose(*(one.strip() for one in languages.split(",")))
    return languages


Bank = Annotated[str, typer.Option(help="Name of a bank, path of a bank.yaml or of its folder, or all-open.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Folder of an open data set, or one that bank.yaml may name.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Notebooks at a time.")]
Out = Annotated[Path | None, typer.Option(callback=_here, help="The run's folder; outputs/runs/<bank> by default.")]
Given = Annotated[
    list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A notebook parameter; repeatable.")
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="Keep notebooks that completed on unchanged input, or remove what an interrupted run had finished.",
    ),
]
Studies = Annotated[str | None, typer.Option(help="Numbers or names, e.g. 00,01; all by default.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds per notebook.")]
Cold = Annotated[bool, typer.Option("--cold", help="Start every kernel anew, as papermill does; slower.")]
Whose = Annotated[
    str | None, typer.Option("--bank", help="The run's bank, where it is no longer loaded: name, or path of bank.yaml.")
]
Lang = Annotated[
    str | None,
    typer.Option(callback=_speak, help="Language of what readers see, en or zh; en,zh puts a site in Chinese beside."),
]
Disclosure = Annotated[
    str | None,
    typer.Option(callback=_rule, help="Rules of what may be shown: default, eurostat or abs, as in: abs, least=20."),
]
UNKNOWN = "the bank of this run is not here, so that its customers were not looked for; name it: --bank PATH"
Run = Annotated[Path, typer.Argument(help="A run's folder, e.g. outputs/runs/reference.")]


def _echo(text: str, err: bool = False) -> None:
    """Write a line; what a bank or a file brings moves no cursor and no colour."""
    typer.echo(escape.terminal(text), err=err)


def _value(text: str) -> Any:
    """Read a parameter's value: a JSON number, truth value or list; anything else is a string."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except json.JSONDecodeError:
        return text


def _several(text: str) -> list[Any]:
    """Read values separated by commas; those within brackets are one."""
    return [_value(part.strip()) for part in re.split(r",(?![^\[]*\])", text)]


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _pairs(given: list[str] | None) -> dict[str, str]:
    out: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise InputError(f"parameter {item!r} has no value; write -p name=value")
        if name.strip() in out:
            raise InputError(f"parameter {name.strip()} is given twice")
        out[name.strip()] = text
    return out


def _values(given: list[str] | None) -> dict[str, Any]:
    return {name: _value(text) for name, text in _pairs(given).items()}


def _again() -> str:
    """Return the command that takes up what this one did not finish."""
    given = [w for w in sys.argv[1:] if w not in ("--resume", "--no-resume")]
    return shlex.join(["crmresearch", *given, "--resume"])


def _finish(outcome: Any, again: str) -> None:
    """Say once what a run came to, and exit with 1 unless it completed."""
    status = outcome.status
    verdicts = ", ".join(f"{n} {v}" for v, n in status["verdicts"].items())
    _echo(f"ledger: {verdicts}")
    _echo(f"{status['status']}: {_short(outcome.folder)}")
    page = outcome.folder / "site" / "index.html"
    if page.exists():
        _echo(f"open {_short(page)}")
    if "remark" in status:
        _echo(f"note: {status['remark']}", err=True)
    failed = {name: one for name, one in status["notebooks"].items() if one["status"] != "completed"}
    for name, one in failed.items():
        _echo(f"{name} {one['status']}: {one.get('error', '')} (cell {one.get('cell', '')})", err=True)
    for breach in status.get("disclosure", []):
        _echo(f"disclosure: {breach['rule']} in {breach['file']}, {breach['where']}", err=True)
    if failed:
        _echo(f"run again what failed: {again}", err=True)
    if not outcome.completed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _watched(again: str) -> Iterator[Progress]:
    """Show progress on standard error; an interruption ends in one line, with the command that goes on."""
    from crmresearch.run import progress

    try:
        with progress.for_stream(sys.stderr) as listener:
            yield listener
    except KeyboardInterrupt:
        _echo(f"crmresearch: interrupted; what was finished is kept, go on with: {again}", err=True)
        raise typer.Exit(130) from None


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@app.command()
def run(
    bank: Bank = "reference",
    from_dir: From = None,
    studies: Studies = None,
    out: Out = None,
    jobs: Jobs = 2,
    given: Given = None,
    resume: Resume = None,
    timeout: Timeout = 1800,
    cold: Cold = False,
    lang: Lang = None,
    disclosure: Disclosure = None,
) -> None:
    """Execute the notebooks on a bank; write tables, figures, ledger and site into one folder."""
    from crmresearch.run import batch

    with _watched(_again()) as listener:
        options: dict[str, Any] = {
            "studies": _listed(studies),
            "values": _values(given),
            "out": out,
            "jobs": jobs,
            "from_dir": from_dir,
            "resume": resume,
            "timeout": timeout,
            "cold": cold,
            "progress": listener,
        }
        done: Any = batch.run_open(**options) if bank == "all-open" else batch.run(bank, **options)
    if bank == "all-open":
        _finish_open(*done)
    else:
        _finish(done, _again())


def _finish_open(outcomes: Any, lost: Any, report: Any) -> None:
    """Say how each bank of several ended, and exit with 1 unless all completed."""
    for name, outcome in outcomes.items():
        _echo(f"{name} {outcome.status['status']}: {_short(outcome.folder)}")
    for name, why in lost.items():
        _echo(f"{name} could not be run: {why}", err=True)
    page = next(iter(outcomes.values())).folder.parent / "site" / "index.html"
    if page.exists():
        _echo(f"open {_short(page)}")
    if not _told(report) or lost or not all(o.completed for o in outcomes.values()):
        raise typer.Exit(1)


@app.command()
def sweep(
    out: Annotated[
        Path, typer.Option(callback=_here, help="Folder of the sweep; one run's folder in it per combination.")
    ],
    given: Annotated[
        list[str],
        typer.Option("-p", "--parameter", metavar="NAME=A,B,…", help="A notebook parameter's values; repeatable."),
    ],
    bank: Bank = "reference",
    from_dir: From = None,
    studies: Studies = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = 2,
    resume: Resume = None,
    timeout: Timeout = 1800,
) -> None:
    """Run every combination of parameter values; write their ledgers side by side into sweep.csv."""
    from crmresearch.run import sweep as sweeping

    with _watched(_again()) as listener:
        table, statuses = sweeping.run(
            bank,
            {name: _several(text) for name, text in _pairs(given).items()},
            out,
            studies=_listed(studies),
            jobs=jobs,
            from_dir=from_dir,
            resume=resume,
            timeout=timeout,
            progress=listener,
        )
    for line, verdicts in sweeping.changed(table).items():
        _echo(f"{line}: {', '.join(verdicts)}")
    failed = [name for name, status in statuses.items() if status != "completed"]
    for name in failed:
        _echo(f"{name} failed; see {_short((out / name / 'status.json').absolute())}", err=True)
    _echo(f"{len(statuses)} runs, {len(failed)} failed: {_short((out / 'sweep.csv').absolute())}")
    if failed:
        _echo(f"run again what failed: {_again()}", err=True)
        raise typer.Exit(1)


@app.command()
def notebooks(jobs: Jobs = 2) -> None:
    """Re-execute the stored notebooks on the reference bank, store their outputs and the reference ledger."""
    from crmresearch.run import batch

    if not (batch.PROJECT / "notebooks").is_dir():
        raise InputError("notebooks are stored in a clone of the project, and this is none")
    out = batch.PROJECT / "outputs" / "runs" / "reference"
    with _watched("crmresearch notebooks") as listener:
        outcome = batch.run(out=out, jobs=jobs, inject=False, resume=False, progress=listener)
    if outcome.completed:
        changed = batch.store(outcome, batch.PROJECT / "notebooks", batch.PROJECT / "outputs" / "reference")
        _echo(f"changed: {', '.join(p.name for p in changed) or 'nothing'}")
    _finish(outcome, "crmresearch notebooks")


@app.command("new-notebook")
def new_notebook(name: Annotated[str, typer.Argument(help="Its name, like 05_example; a claim must name it.")]) -> None:
    """Write a new notebook with its study, test and words, from templates that run."""
    from crmresearch.run import batch, new

    for path in new.create(name, batch.PROJECT):
        _echo(f"written: {_short(path)}")


@app.command()
def site(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, e.g. outputs/runs/berka.")],
    bank: Whose = None,
    from_dir: From = None,
    out: Annotated[
        Path | None,
        typer.Option(callback=_here, help="Where the site is to stand; in the run, or outputs/site for several."),
    ] = None,
    lang: Lang = None,
) -> None:
    """Build the site of a run again, or one site of several runs, unless something in a run must not leave."""
    from crmresearch.run import batch
    from crmresearch.run.site.runs import Run as Kept

    if words.LANGUAGE not in os.environ:
        words.choose(Kept(folders[0]).language)
    if bank is not None and len(folders) > 1:
        raise InputError("--bank names the bank of one run; those of several are found in CRMRESEARCH_BANKS")
    target = out or (folders[0] if len(folders) == 1 else Path("outputs")) / "site"
    report = batch.rebuild({folder: _people(folder, bank, from_dir) for folder in folders}, target)
    passed = _told(report)
    if (target / "index.html").exists():
        _echo(f"open {_short((target / 'index.html').absolute())}")
    else:
        _echo("the site is withheld", err=True)
    if not passed:
        raise typer.Exit(1)


@app.command()
def check(folder: Run, bank: Whose = None, from_dir: From = None) -> None:
    """Look through a run for anything that must not leave: identifiers of customers, small cells, paths, secrets."""
    from crmresearch.run import scan

    people = _people(folder, bank, from_dir)
    report = scan.scan(folder, people)
    passed = _told(report)
    for left in report.left_out:
        _echo(f"not looked at: {left}")
    if not passed:
        raise typer.Exit(1)
    _echo(
        f"nothing found that must not leave, in {report.files:,} files; "
        f"{len(people or ()):,} identifiers and pseudonyms looked for"
    )


@app.command()
def release(
    folder: Run,
    out: Annotated[Path, typer.Argument(callback=_here, help="The zip file to write.")],
    bank: Whose = None,
    from_dir: From = None,
    rounded: Annotated[bool, typer.Option("--round", help="Tables alone, in round numbers.")] = False,
) -> None:
    """Pack what of a run may leave into a zip file, with a manifest to sign."""
    from crmresearch.run import release as releasing

    people = _people(folder, bank, from_dir)
    if people is None:
        raise InputError(UNKNOWN)
    done = releasing.release(folder, out, people, rounded)
    for breach in done.left_out:
        _echo(f"left out: {breach.file}, {breach.where}: {breach.rule}", err=True)
    _echo(f"{done.files} files: {_short(out.absolute())}; read and sign the manifest, {done.fingerprint}")
    if done.left_out:
        raise typer.Exit(1)


def _people(folder: Path, bank: str | None, from_dir: Path | None) -> Any:
    """Return whose identifiers a run is searched for; None where they cannot be had."""
    from crmresearch.run import people

    if not (folder / "run.json").exists():
        raise InputError(f"{folder} is not a run's folder: it has no run.json")
    return people.of_run(folder, bank, from_dir)


def _told(report: Any) -> bool:
    """Say where a run holds what must not leave, and whether nobody could be looked for; tell whether it passed."""
    for breach in report.breaches:
        _echo(f"{breach.file}, {breach.where}: {breach.rule}")
    if not report.people:
        _echo(UNKNOWN, err=True)
    return report.people and not report.breaches


@app.command()
def recover(
    studies: Annotated[str | None, typer.Option(help="value,churn,cost,loyalty; all by default.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Simulated banks per world.")] = 1000,
    worlds: Annotated[str | None, typer.Option(help="Worlds; those each estimator names by default.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Banks at a time.")] = 2,
    out: Annotated[Path, typer.Option(callback=_here, help="File or folder for the results.")] = Path(
        "outputs/reference"
    ),
) -> None:
    """Run the estimators on simulated banks whose truth is known: bias, coverage, false positives."""
    from crmresearch.lab import recover as recovery

    written = recovery.run(_listed(studies), seeds, _listed(worlds), jobs, out)
    _echo(f"written: {_short(Path(written).absolute())}")


@banks.command("list")
def list_banks() -> None:
    """List every bank that can be named."""
    from crmresearch.data.sources import names

    rows = names.listing()
    columns = ("name", "evidence", "status")
    width = {key: max(len(key), *(len(row[key]) for row in rows)) for key in columns}
    for row in rows:
        _echo("  ".join([*(row[key].ljust(width[key]) for key in columns), row["title"]]).rstrip())


@banks.command()
def describe(
    names: Annotated[list[str], typer.Argument(help="Name or path of a bank; with --suggest, files.")],
    suggest: Annotated[bool, typer.Option("--suggest", help="Write a first bank.yaml for the files.")] = False,
    out: Annotated[Path | None, typer.Option(callback=_here, help="File for the suggestion; else shown.")] = None,
    from_dir: From = None,
) -> None:
    """Say what a bank holds: tables, rows, period, columns it does not bring; or suggest a bank.yaml for files."""
    from crmresearch.data.bank import open_bank

    if suggest:
        from crmresearch.run import suggest as suggesting

        text = suggesting.suggest([Path(name) for name in names], Path() if out is None else out.parent)
        if out is None:
            _echo(text.rstrip())
            return
        try:
            with out.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise InputError(f"{out.name} is there already; name another file") from None
        _echo(f"written: {_short(out.absolute())}")
        return
    if len(names) != 1 or out is not None:
        raise InputError("bank describe takes one bank; with --suggest, files, and --out")
    [name] = names
    _echo(repr(open_bank(name, from_dir).describe()))


@banks.command("check")
def check_bank(
    path: Annotated[str, typer.Argument(help="Path of a bank.yaml or of its folder.")], from_dir: From = None
) -> None:
    """Load a bank and say what was understood; exit with 1 if something deserves a look, with 2 if it does not load."""
    from crmresearch.data.bank import open_bank
    from crmresearch.run import understood

    lines, doubts = understood.report(open_bank(path, from_dir), path, from_dir)
    for line in lines:
        _echo(line)
    if doubts:
        raise typer.Exit(1)


@banks.command()
def simulate(
    out: Annotated[Path, typer.Option(callback=_here, help="Folder for the new bank.")],
    customers: Annotated[int, typer.Option(min=1)] = 20_000,
    months: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    world: Annotated[str, typer.Option(help="Which truth is planted.")] = "baseline",
) -> None:
    """Write a simulated bank and its truth."""
    from crmresearch.lab import simulated

    simulated.write(simulated.Settings(customers=customers, months=months, seed=seed, world=world), out)
    _echo(f"{customers:,} customers over {months} months, world {world}: {_short(out.absolute())}")


@banks.command()
def get(name: Annotated[str, typer.Argument(help="Name in the catalogue.")], from_dir: From = None) -> None:
    """Bring an open data set into the cache, from its address or from a folder."""
    from crmresearch.data.sources import open_data

    open_data.get(name, from_dir)
    _echo(f"{name}: files are here and match the catalogue")


def main() -> None:
    """Entry point: errors of this package become one message and an exit status, never a traceback."""
    spare_grammars()
    for name in ("SIGTERM", "SIGHUP"):  # told to end, or the terminal is gone: as from the keyboard
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks is no reason to stop
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except CrmError as error:
        _echo(f"crmresearch: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:  # a full disk, a folder that may not be written
        if error.filename is None and error.errno not in FULL:
            raise
        _echo(f"crmresearch: {error.strerror}: {error.filename or ''}", err=True)
        sys.exit(1)
