"""The command line: ``crmresearch run | sweep | replay | bank | site | check | release`` and what keeps the project.

Exit status: 0 everything completed, 1 something ran and failed, 2 the request was refused before anything ran, 130 it
was interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crmresearch import ledger, words
from crmresearch.data.places import FULL
from crmresearch.errors import CrmError, InputError
from crmresearch.run import options, spare_grammars
from crmresearch.run.bank import banks

if TYPE_CHECKING:
    from crmresearch.run.progress import Progress


app = typer.Typer(
    help="Does relationship banking pay? Run the studies on a bank and read the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(banks, name="bank")


def _again() -> str:
    """Return the command that takes up what this one did not finish."""
    return shlex.join(["crmresearch", *(word for word in sys.argv[1:] if word != "--force")])


def _object(folder: Path, status: str, **told: Any) -> None:
    """Write one JSON object."""
    options.echo(json.dumps({"status": status, "folder": str(folder.absolute()), **told}, ensure_ascii=False))


def _answers(folder: Path) -> dict[str, str]:
    """Return the answers of a run, by claim."""
    frame = ledger.answers(ledger.read(folder))
    return dict(zip(frame["claim_id"], frame["answer"], strict=True))


def _finish(outcome: Any, again: str, as_object: bool = False) -> None:
    """Say once what a run came to, and exit with 1 unless it completed."""
    status = outcome.status
    if as_object:
        told = {k: status[k] for k in ("verdicts", "notebooks", "disclosure", "remark") if k in status}
        facts = {"unchanged": outcome.unchanged, "answers": _answers(outcome.folder), **told}
        _object(outcome.folder, status["status"], **facts)
        if not outcome.completed:
            raise typer.Exit(1)
        return
    if outcome.unchanged:
        options.echo(
            f"unchanged since {status['finished']}: nothing was executed (--force does it all the same)", err=True
        )
    verdicts = ", ".join(f"{n} {v}" for v, n in status["verdicts"].items())
    options.echo(f"ledger: {verdicts}")
    options.echo(f"{status['status']}: {options.short(outcome.folder)}")
    page = outcome.folder / "site" / "index.html"
    if page.exists():
        options.echo(f"open {options.short(page)}")
    if "remark" in status:
        options.echo(f"note: {status['remark']}", err=True)
    failed = {name: one for name, one in status["notebooks"].items() if one["status"] != "completed"}
    for name, one in failed.items():
        options.echo(f"{name} {one['status']}: {one.get('error', '')} (cell {one.get('cell', '')})", err=True)
    for breach in status.get("disclosure", []):
        options.echo(f"disclosure: {breach['rule']} in {breach['file']}, {breach['where']}", err=True)
    if failed:
        options.echo(f"run again what failed: {again}", err=True)
    if not outcome.completed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _watched(again: str, left: str = "what was finished is kept, go on with") -> Iterator[Progress]:
    """Show progress on standard error; an interruption ends in one line, with the command that goes on."""
    from crmresearch.run import progress

    try:
        with progress.for_stream(sys.stderr) as listener:
            yield listener
    except KeyboardInterrupt:
        options.echo(f"crmresearch: interrupted; {left}: {again}", err=True)
        raise typer.Exit(130) from None


@app.command()
def run(
    bank: options.Bank = "reference",
    from_dir: options.From = None,
    studies: options.Studies = None,
    out: options.Out = None,
    jobs: options.Jobs = 2,
    given: options.Given = None,
    force: options.Force = False,
    timeout: options.Timeout = 1800,
    cold: options.Cold = False,
    as_object: options.Json = False,
    lang: options.Lang = None,
    disclosure: options.Disclosure = None,
    since: options.Since = None,
) -> None:
    """Execute the notebooks on a bank; write tables, figures, ledger and site into one folder.

    What completed before on the same input is kept. Exit status: 0 everything completed, 1 something failed or breaches
    the rules of disclosure, 2 refused before anything ran, 130 interrupted.
    """
    from crmresearch.run import batch

    place, storage = options.target(out)
    with _watched(_again()) as listener:
        ways: dict[str, Any] = {
            "studies": options.listed(studies),
            "values": options.values(given),
            "out": place,
            "jobs": jobs,
            "from_dir": from_dir,
            "force": force,
            "timeout": timeout,
            "cold": cold,
            "progress": listener,
        }
        if bank == "all-open" and since is not None:
            raise InputError("--since names an earlier run of one bank; all-open runs several")
        done: Any = batch.run_open(**ways) if bank == "all-open" else batch.run(bank, since=since, **ways)
    if bank == "all-open":
        options.upload(next(iter(done[0].values())).folder.parent, storage)
        _finish_open(done, as_object)
    else:
        options.upload(done.folder, storage)
        _finish(done, _again(), as_object)


def _finish_open(done: Any, as_object: bool) -> None:
    """Say how each bank of several ended, and exit with 1 unless all completed."""
    outcomes, lost, report = done
    passed = bool(report.people and not report.breaches and not lost and all(o.completed for o in outcomes.values()))
    if as_object:
        runs = {n: {"status": o.status["status"], "answers": _answers(o.folder)} for n, o in outcomes.items()}
        folder = next(iter(outcomes.values())).folder.parent
        _object(folder, "completed" if passed else "failed", runs=runs, lost=lost)
        raise typer.Exit(0 if passed else 1)
    for name, outcome in outcomes.items():
        options.echo(f"{name} {outcome.status['status']}: {options.short(outcome.folder)}")
    for name, why in lost.items():
        options.echo(f"{name} could not be run: {why}", err=True)
    page = next(iter(outcomes.values())).folder.parent / "site" / "index.html"
    if page.exists():
        options.echo(f"open {options.short(page)}")
    _told(report)
    if not passed:
        raise typer.Exit(1)


@app.command()
def sweep(
    file: Annotated[Path | None, typer.Argument(metavar="FILE.yaml", help="What varies: see README.md.")] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder of the sweep; one run's folder in it per combination. Or an address, as for a run."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, whose workers share the folder and do the runs."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=A,B,…", help="A notebook parameter's values; repeatable."),
    ] = None,
    bank: Annotated[list[str] | None, typer.Option(help="A bank, as for a run; repeatable.")] = None,
    from_dir: options.From = None,
    studies: Annotated[
        list[str] | None, typer.Option(help="Notebooks that run together, e.g. 00,01; repeatable; all by default.")
    ] = None,
    jobs: options.Jobs = 2,
    force: options.Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all of it and say what would run.")] = False,
    timeout: options.Timeout = 1800,
    cold: options.Cold = False,
    as_object: options.Json = False,
) -> None:
    """Run every combination of parameter values; write their ledgers side by side into sweep.csv.

    Runs that are there and unchanged are skipped. Exit status as for a run.
    """
    from crmresearch.run import remote
    from crmresearch.run import sweep as sweeping

    place, storage = options.target(out)
    said = sweeping.read(file) if file else {}
    values = said.get("grid", {}) | {name: options.several(text) for name, text in options.pairs(given).items()}
    name = file.stem if file else storage and Path(storage.root).name
    folder = place or (Path(said["out"]) if "out" in said else Path("outputs") / "sweeps" / name if name else None)
    if folder is None:
        raise InputError("say what varies in a file, or with -p NAME=A,B and the sweep's folder: --out DIR")
    groups = (
        [options.listed(text) for text in studies]
        if studies
        else [one if isinstance(one, list) else [one] for one in said.get("studies", [])]
    )
    named, seeds = said.get("bank", "reference"), said.get("seeds", ())
    names = bank or ([named] if isinstance(named, str) else named)
    if cluster:
        names, from_dir = [remote.whole(one) for one in names], from_dir and from_dir.absolute()
    with _watched(_again()) as listener:
        listener.say("checking the sweep (a new or changed bank is loaded first)")
        planned = sweeping.prepare(
            values,
            folder,
            banks=names,
            studies=[[str(name) for name in group or ()] for group in groups],
            specifications=said.get("specifications"),
            seeds=range(1, seeds + 1) if isinstance(seeds, int) else seeds,
            exclude=said.get("exclude", ()),
            from_dir=from_dir,
        )
        if dry_run:
            _plan(planned, jobs, force, as_object)
            return
        ways: Any = {"jobs": jobs, "force": force, "timeout": timeout, "cold": cold, "progress": listener}
        with remote.cluster(cluster, planned.out) if cluster else contextlib.nullcontext() as executor:
            table, statuses = sweeping.run(planned, **ways, executor=executor)
    options.upload(planned.out, storage)
    failed = {name: one for name, one in statuses.items() if one["status"] != "completed"}
    if as_object:
        told = {"runs": statuses, "changed": sweeping.changed(table)}
        _object(folder, "failed" if failed else "completed", **told)
        raise typer.Exit(1 if failed else 0)
    for line, verdicts in sweeping.changed(table).items():
        options.echo(f"{line}: {', '.join(verdicts)}")
    for name, one in failed.items():
        options.echo(
            f"{name} failed: {one.get('error', '')}; see {options.short((folder / name / 'status.json').absolute())}",
            err=True,
        )
    skipped = sum("reused" in one for one in statuses.values())
    where = options.short((folder / "sweep.csv").absolute())
    options.echo(f"{len(statuses)} runs, {skipped} unchanged, {len(failed)} failed: {where}")
    if failed:
        options.echo(f"run again what failed: {_again()}", err=True)
        raise typer.Exit(1)


def _plan(planned: Any, jobs: int, force: bool, as_object: bool) -> None:
    """Say what a sweep would run, and about how long it would take."""
    from crmresearch.run.progress import lasting

    states = planned.states(force)
    wanted = [name for names in states.values() for name in names or ()]
    seconds = planned.seconds(wanted, jobs)
    if as_object:
        _object(planned.out, "planned", runs=states, seconds=seconds)
        return
    for name, names in states.items():
        options.echo(f"{name}: {'unchanged' if names is None else ', '.join(names) or 'merged anew'}")
    takes = f"about {lasting(seconds)} with --jobs {jobs}" if seconds is not None else "no earlier run tells how long"
    todo = sum(names is not None for names in states.values())
    options.echo(
        f"{len(states)} runs, {len(states) - todo} unchanged, {todo} to run ({len(wanted)} notebooks): {takes}"
    )


@app.command()
def replay(
    bank: Annotated[str, typer.Option(help="Path of a bank.yaml or of its folder; names of files carry the date.")],
    by: Annotated[str, typer.Option(help="What is loaded at once: month or day.")] = "month",
    every: Annotated[int, typer.Option(min=1, help="Loads between two ledgers; the last load makes one, too.")] = 12,
    out: Annotated[
        Path | None, typer.Option(callback=options.here, help="Folder of the replay; outputs/replay by default.")
    ] = None,
    studies: options.Studies = None,
    jobs: options.Jobs = 2,
    given: options.Given = None,
    lang: options.Lang = None,
) -> None:
    """Load a bank's files in the order of the dates in their names; say which verdicts move.

    Exit status: 0 everything completed, 1 a file was set aside, a run failed or something must not leave, 2 refused
    before anything ran.
    """
    from crmresearch.run import replay as replaying

    if by not in ("month", "day"):
        raise InputError(f"--by takes month or day, not {by}")
    ways: dict[str, Any] = {"studies": options.listed(studies), "values": options.values(given), "jobs": jobs}
    with _watched(_again()) as listener:
        done = replaying.replay(bank, out or Path("outputs") / "replay", by=by, every=every, progress=listener, **ways)
    for until, frame in done.moved.items():
        options.echo(f"{until}: {len(frame)} verdicts moved")
        for row in frame.to_dict("records"):
            options.echo(f"  {row['line']}: {row['before']} -> {row['now']} ({row['moved_by']})")
    for until, result in done.precision.items():
        options.echo(f"{until}: {result.sentence}")
    for name in done.again:
        options.echo(f"came before, changes nothing: {name}")
    for name, report in done.aside.items():
        options.echo(f"set aside: {name}: {report}", err=True)
    passed = _told(done.report)
    for until, outcome in done.outcomes.items():
        options.echo(f"{until} {outcome.status['status']}: {options.short(outcome.folder.absolute())}")
    if done.aside or not passed or not all(outcome.completed for outcome in done.outcomes.values()):
        raise typer.Exit(1)


@app.command()
def notebooks(jobs: options.Jobs = 2) -> None:
    """Re-execute the stored notebooks on the reference bank, store their outputs and the reference ledger."""
    from crmresearch.run import batch

    if not (batch.PROJECT / "notebooks").is_dir():
        raise InputError("notebooks are stored in a clone of the project, and this is none")
    out = batch.PROJECT / "outputs" / "runs" / "reference"
    with _watched("crmresearch notebooks", "nothing was stored, begin anew with") as listener:
        outcome = batch.run(out=out, jobs=jobs, inject=False, force=True, progress=listener)
    if outcome.completed:
        changed = batch.store(outcome, batch.PROJECT / "notebooks", batch.PROJECT / "outputs" / "reference")
        options.echo(f"changed: {', '.join(p.name for p in changed) or 'nothing'}")
    _finish(outcome, "crmresearch notebooks")


@app.command("new-notebook")
def new_notebook(name: Annotated[str, typer.Argument(help="Its name, like 05_example; a claim must name it.")]) -> None:
    """Write a new notebook with its study, test and words, from templates that run."""
    from crmresearch.run import batch, new

    for path in new.create(name, batch.PROJECT):
        options.echo(f"written: {options.short(path)}")


@app.command()
def site(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, e.g. outputs/runs/berka.")],
    bank: options.Whose = None,
    from_dir: options.From = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=options.here, help="Where the site is to stand; in the run, or outputs/site for several."
        ),
    ] = None,
    lang: options.Lang = None,
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
        options.echo(f"open {options.short((target / 'index.html').absolute())}")
    else:
        options.echo("the site is withheld", err=True)
    if not passed:
        raise typer.Exit(1)


@app.command()
def check(folder: options.Run, bank: options.Whose = None, from_dir: options.From = None) -> None:
    """Look through a run for anything that must not leave: identifiers of customers, small cells, paths, secrets."""
    from crmresearch.run import scan

    people = _people(folder, bank, from_dir)
    report = scan.scan(folder, people)
    passed = _told(report)
    for left in report.left_out:
        options.echo(f"not looked at: {left}")
    for rows in report.alike:
        options.echo(f"look at {rows}: if one counts some of the other's people, the few between them can be told")
    if not passed:
        raise typer.Exit(1)
    options.echo(
        f"nothing found that must not leave, in {report.files:,} files; "
        f"{len(people or ()):,} identifiers and pseudonyms looked for"
    )


@app.command()
def release(
    folder: options.Run,
    out: Annotated[Path, typer.Argument(callback=options.here, help="The zip file to write.")],
    bank: options.Whose = None,
    from_dir: options.From = None,
    rounded: Annotated[bool, typer.Option("--round", help="Tables alone, in round numbers.")] = False,
) -> None:
    """Pack what of a run may leave into a zip file, with a manifest to sign."""
    from crmresearch.run import release as releasing

    people = _people(folder, bank, from_dir)
    if people is None:
        raise InputError(options.UNKNOWN)
    done = releasing.release(folder, out, people, rounded)
    for breach in done.left_out:
        options.echo(f"left out: {breach.file}, {breach.where}: {breach.rule}", err=True)
    options.echo(f"{done.files} files: {options.short(out.absolute())}; read and sign the manifest, {done.fingerprint}")
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
        options.echo(f"{breach.file}, {breach.where}: {breach.rule}")
    if not report.people:
        options.echo(options.UNKNOWN, err=True)
    return report.people and not report.breaches


@app.command()
def recover(
    studies: Annotated[str | None, typer.Option(help="value,churn,cost,loyalty; all by default.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Simulated banks per world.")] = 1000,
    worlds: Annotated[str | None, typer.Option(help="Worlds; those each estimator names by default.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Banks at a time.")] = 2,
    out: Annotated[Path, typer.Option(callback=options.here, help="File or folder for the results.")] = Path(
        "outputs/reference"
    ),
) -> None:
    """Run the estimators on simulated banks whose truth is known: bias, coverage, false positives."""
    from crmresearch.lab import recover as recovery

    written = recovery.run(options.listed(studies), seeds, options.listed(worlds), jobs, out)
    options.echo(f"written: {options.short(Path(written).absolute())}")


@app.command()
def multiverse(
    claims: Annotated[str, typer.Option(help="Claims whose studies declare choices.")] = "S40,S06,S42,S10,S19",
    bank: options.Bank = "reference",
    from_dir: options.From = None,
    out: Annotated[
        Path | None, typer.Option(callback=options.here, help="Folder; outputs/multiverse/<bank> by default.")
    ] = None,
    lang: options.Lang = None,
) -> None:
    """Estimate claims under every analysis choice their studies declare: multiverse.csv and a curve for each."""
    from crmresearch import multiverse as many
    from crmresearch.data.bank import open_bank

    wanted = many.checked(claims)
    opened = open_bank(bank, from_dir)
    place = out or Path("outputs") / "multiverse" / opened.name
    for claim, result in many.run(opened, wanted, place).items():
        options.echo(f"{claim}: {result.sentence}")
    options.echo(f"written: {options.short(place.absolute())}")


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
        for line in str(error).splitlines():
            options.echo(f"crmresearch: {line}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:  # a full disk, a folder that may not be written
        if error.filename is None and error.errno not in FULL:
            raise
        options.echo(f"crmresearch: {error.strerror}: {error.filename or ''}", err=True)
        sys.exit(1)
