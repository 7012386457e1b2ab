"""Run the notebooks: check first, execute in parallel, keep what was reached, swap the finished folder in.

A run is staged beside its folder (:mod:`.staging`) and swapped in when everything is written, ``status.json`` last; a
run that is interrupted leaves the earlier one as it was, and the next takes up the notebooks it had finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crmresearch import escape, ledger, review, words
from crmresearch.data.places import put
from crmresearch.errors import CrmError, InputError
from crmresearch.estimators.inference import Estimate
from crmresearch.notebook import VERSIONS
from crmresearch.review import LAST, SINCE
from crmresearch.rules import rules, use
from crmresearch.run import kernels, staging, workers
from crmresearch.run.people import People
from crmresearch.run.plan import Plan, Planner, load
from crmresearch.run.progress import Events, Progress
from crmresearch.run.scan import Breach, Report, scan
from crmresearch.run.staging import PARTS

say = words.of("site.batch")
PROJECT = Path(__file__).resolve().parents[3]
ONE = threading.RLock()  # rules of disclosure are in force for a whole process, and a bank has one connection
PRIVACY = "S09"  # the line of the ledger that the scan of the rendered output decides
TIMEOUT = 1800.0  # seconds per notebook
LONGEST = 604_800.0  # a week
PICTURE = "03_acquisition_retention_cost_ratios.png"  # shown in the README


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    folder : Path
        The run's folder.
    status : mapping
        Content of ``status.json``.
    unchanged : bool
        Whether nothing was done, as everything was done before.
    """

    folder: Path
    status: Mapping[str, Any]
    unchanged: bool = False

    @property
    def completed(self) -> bool:
        """Whether every notebook completed and nothing breached the disclosure rules."""
        return self.status["status"] == "completed"


def _commit() -> str:
    """Commit of the code, with a plus where something is not committed; nothing where it is installed without git."""
    here = ["git", "-C", str(Path(__file__).parent)]
    with contextlib.suppress(OSError):
        asked = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno", ".."])
        head, changed = (subprocess.run([*here, *a], capture_output=True, text=True, check=False) for a in asked)
        return head.stdout.strip() + "+" * bool(changed.stdout)
    return ""


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python} | {name: version(name) for name in VERSIONS}


def run(
    bank: str = "reference",
    *,
    studies: Iterable[str] | None = None,
    values: Mapping[str, Any] | None = None,
    out: Path | None = None,
    from_dir: Path | None = None,
    inject: bool = True,
    folder: Path | None = None,
    progress: Progress | None = None,
    since: Path | None = None,
    **ways: Any,
) -> Outcome:
    """Execute notebooks on a bank, merge their findings into the ledger, build the site, scan all of it.

    Parameters
    ----------
    bank : str
        Name of a bank, or path of a folder or file that describes one.
    studies : iterable of str, optional
        Names or numbers of notebooks; all by default.
    values : mapping, optional
        Notebook parameters; each must be taken by a selected notebook.
    out : Path, optional
        The run's folder, ``outputs/runs/<bank>`` by default; an earlier run there is replaced at the end.
    from_dir : Path, optional
        Folder with the files of an open data set already on disk, or one whose files a ``bank.yaml`` may name.
    inject : bool
        False executes the notebooks as they are, with no cell of parameters.
    folder : Path, optional
        Where the notebooks are.
    progress : Progress, optional
        Listener.
    since : Path, optional
        Folder of an earlier run of the bank, whose verdicts are compared (notebook 99).
    **ways
        As for :func:`carry_out`.

    Raises
    ------
    InputError
        Before any kernel starts: unknown study, parameter or bank, a value out of range, a notebook whose parameters
        cannot be read, a folder that is no run or cannot be replaced.
    CrmError
        If the disk is too small, or fills up.
    """
    progress = progress or Progress()
    check_timeout(ways.get("timeout", TIMEOUT))
    planner = Planner(folder, inject)
    planner.check(studies, values or {})
    out = out and staging.place(out)
    progress.say(f"opening bank {bank} (a new or changed one is loaded and checked first)")
    return carry_out(planner.plan(bank, studies, values or {}, out, from_dir, since), progress=progress, **ways)


def check_timeout(seconds: float) -> None:
    """Refuse a deadline that no timer keeps."""
    if not 1 <= seconds <= LONGEST:
        raise InputError(f"timeout = {seconds:g}: should be 1 to {LONGEST:,.0f} seconds per notebook")


def carry_out(
    plan: Plan,
    *,
    progress: Progress,
    jobs: int = 2,
    force: bool = False,
    timeout: float = TIMEOUT,
    site: bool = True,
    cold: bool = False,
    team: workers.Team | None = None,
) -> Outcome:
    """Do what is planned and not done yet.

    Parameters
    ----------
    plan : Plan
        What to do.
    progress : Progress
        Listener.
    jobs : int
        Notebooks at a time.
    force : bool
        Execute what is unchanged, too.
    timeout : float
        Seconds per notebook.
    site : bool
        Whether to build the reviewers' site.
    cold : bool
        Whether every kernel is a new process that imports all of its own.
    team : Team, optional
        Executes the notebooks; one of this run's own by default.
    """
    if not force and (status := plan.finished(site)) is not None:
        return Outcome(plan.out, status, unchanged=True)
    started, names = datetime.now(UTC), list(plan.keys)
    with contextlib.ExitStack() as held:
        partial, lock = held.enter_context(staging.staging(plan.out, force, progress.say))
        done: dict[str, dict[str, Any]] = {} if force else staging.kept(partial, plan.out, plan.keys)
        staging.clear(partial, done, progress.say)
        with ONE:
            _tell(plan, partial)
        progress = told = held.enter_context(Events(partial / "logs" / "events.jsonl", progress))
        progress.begin(len(names))
        for kept, record in done.items():
            progress.end(kept, record)
        if team is None:
            warm = not cold and len(names) - len(done) > 1  # a single kernel costs the same
            team = held.enter_context(workers.team(jobs, environment(), lock, warm))
        with ONE:
            known, own = plan.loaded.people, _own(plan, partial, jobs)
        common = {"folder": str(partial), "timeout": timeout, "environment": own}
        for last in sorted({n == LAST for n in names}):
            part = [n for n in names if n not in done and (n == LAST) is last]
            work = [{"source": str(plan.sources[n].resolve()), "parameters": plan.given[n], **common} for n in part]
            workers.execute(work, team, progress, done, plan.keys)
            with ONE:
                use(plan.loaded.opened.about.disclosure)
                _merge_disclosure(partial)  # which the search for breaches goes by
                _record_breaches(partial, known)
                whole = plan.whole and all(d["status"] == "completed" for d in done.values())
                frame = ledger.merge(partial, whole=whole)
        status = {
            "status": "completed" if all(d["status"] == "completed" for d in done.values()) else "failed",
            "started": started.isoformat(timespec="seconds"),
            "commit": _commit(),
            "notebooks": {n: done[n] for n in names},
            "verdicts": {str(k): int(v) for k, v in frame["verdict"].value_counts().sort_index().items()},
        }
        with ONE:
            _finish(plan, partial, status, progress, site)
        told.file.close()  # Windows moves no folder with a file that is open
        staging.swap(partial, plan.out)
    return Outcome(plan.out, status)


def _tell(plan: Plan, partial: Path) -> None:
    """Write what goes into a run, and lay an earlier run's ledger beside it for the notebook that compares them."""
    opened = plan.loaded.opened
    use(opened.about.disclosure)
    about = {
        "bank": opened.about.plain() | {"tables": sorted(opened.tables)}, "rules": opened.rules(),
        "parameters": plan.given, "fingerprints": plan.prints, "versions": _versions(),
    }  # fmt: skip
    ledger.write_json(partial / "run.json", about)
    shutil.rmtree(partial / SINCE, ignore_errors=True)
    if plan.since is not None:
        (partial / SINCE).mkdir()
        for name in ("run.json", "ledger.csv"):
            shutil.copyfile(plan.since / name, partial / SINCE / name)


def _finish(plan: Plan, partial: Path, status: dict[str, Any], progress: Progress, site: bool) -> None:
    """Write what came of a run, its site, and last of all its status."""
    use(plan.loaded.opened.about.disclosure)
    shutil.rmtree(partial / SINCE, ignore_errors=True)  # it would tell what a release of that run rounds or refuses
    unchanged = _unchanged(plan)
    if not unchanged and not plan.loaded.opened.engine.here:
        status["status"] = "failed"
        status["remark"] = "the bank's tables changed while they were read, or cannot be reached any more; run it again"
    elif not unchanged:
        status["remark"] = "the bank's files changed meanwhile; this run shows them as they were when it began"
    _publish(partial, status, plan.loaded.people, progress, site)
    for empty in PARTS:
        with contextlib.suppress(OSError):  # an empty folder tells nothing
            (partial / empty).rmdir()
    status["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    ledger.write_json(partial / "status.json", status)


def environment() -> dict[str, str]:
    """Return what kernels are told, the same everywhere; they read what was loaded before, and need no key."""
    from crmresearch.data.pseudonyms import KEY, KEY_FILE

    return {name: value for name, value in os.environ.items() if name not in (KEY, KEY_FILE)} | kernels.ENVIRONMENT


def _own(plan: Plan, partial: Path, jobs: int) -> dict[str, str]:
    """Return what the kernels of one run are told: what they read and write, and their share of the machine."""
    from crmresearch.data.bank import PINNED

    engine = plan.loaded.opened.engine
    return {**engine.share(jobs), "CRMRESEARCH_OUT": str(partial), PINNED: str(engine.path)}


def _unchanged(plan: Plan) -> bool:
    """Tell whether the sources of a bank are still those that were loaded."""
    from crmresearch.data import store
    from crmresearch.data.sources.names import find

    try:
        return store.fingerprint(find(plan.bank, plan.from_dir)) == plan.loaded.data
    except (InputError, OSError):
        return False


def _record_breaches(folder: Path, known: People) -> None:
    """Add what the scan found to the findings of the notebook that the privacy claim belongs to, if it ran."""
    path = folder / "findings" / f"{ledger.lines()[PRIVACY].notebook}.json"
    if not path.exists():
        return
    count = float(len(scan(folder, known).breaches))
    files = sum(p.is_file() for part in ("notebooks", "tables", "figures") for p in (folder / part).iterdir())
    content = json.loads(path.read_text("utf-8"))
    content["lines"][PRIVACY] = ledger.checked(PRIVACY, Estimate(count, count, count, "breaches", files))
    ledger.write_json(path, content)


def _merge_disclosure(folder: Path) -> None:
    decided: dict[str, dict[str, Any]] = {"suppressed": {}, "headlines": {}, "counts": {}}
    for path in sorted((folder / "disclosure").glob("*.json")):
        for part, found in json.loads(path.read_text("utf-8")).items():
            decided[part] |= found
    ledger.write_json(folder / "disclosure.json", {"rules": asdict(rules), "threshold": rules.least, **decided})


def _publish(folder: Path, status: dict[str, Any], known: People, progress: Progress, wanted: bool) -> None:
    """Scan, build the site, scan the site; a breach fails the run and withholds the site."""
    ledger.write_json(folder / "status.json", status)  # the site tells how each notebook ended
    if wanted:
        progress.say("building the site")
    breaches = (rebuild({folder: known}, folder / "site") if wanted else scan(folder, known)).breaches
    if breaches:
        status["status"] = "failed"
        status["disclosure"] = [asdict(b) for b in breaches]
        progress.say(f"breaches of the disclosure rules: {len(breaches)}; the site is withheld")


def rebuild(runs: Mapping[Path, People | None], target: Path, lost: Mapping[str, str] | None = None) -> Report:
    """Build the site of a run, or of several joined, without those that hold what must not leave; say which.

    Parameters
    ----------
    runs : mapping of Path to People
        The runs' folders, and whose identifiers are looked for; a run whose people are not known is withheld.
    target : Path
        Where the site is to stand.
    lost : mapping of str to str, optional
        Banks that could not be run, and why.
    """
    from crmresearch.run import site

    out, told, clean, found = Report(), dict(lost or {}), {}, []
    for folder, people in runs.items():
        status = folder / "status.json"
        earlier = json.loads(status.read_text("utf-8")).get("disclosure", []) if status.exists() else []
        breaches = scan(folder, people).breaches or [Breach(**b) for b in earlier]  # which may rest on more
        out.breaches += [replace(b, file=f"{folder.name}/{b.file}") if len(runs) > 1 else b for b in breaches]
        if breaches or people is None:
            told[folder.name] = say("withheld") if breaches else say("nobody")
        else:
            clean[folder] = people
    out.people = None not in runs.values()
    if clean:
        site.build(list(clean), target, told)
        # each run was looked through for its own customers: an identifier of one bank is a number of another
        only = next(iter(clean.values())) if len(clean) == 1 else People.called(())
        found = scan(target, only, runs=list(clean)).breaches
        out.breaches += found
    if found or not clean:
        shutil.rmtree(target, ignore_errors=True)
    return out


def run_open(
    from_dir: Path | None, *, studies: Iterable[str] | None, values: Mapping[str, Any], out: Path | None, **options: Any
) -> tuple[dict[str, Outcome], dict[str, str], Report]:
    """Run every open bank whose files are there, and join the runs into one site; a bank that fails hides no other.

    Parameters
    ----------
    from_dir : Path, optional
        Folder that holds the banks' files, each bank's in a folder of its own or all in this one; what is in the cache
        is there, too.
    studies, values, **options
        As for :func:`run`.
    out : Path, optional
        Holds each run by its bank's name, and ``site``; ``outputs/open`` by default.

    Returns
    -------
    (dict, dict, Report)
        What each run came to, why banks could not be run, and what must not leave.
    """
    from crmresearch.data.sources import names, open_data

    studies = None if studies is None else list(studies)
    Planner().check(studies, values)  # refused once, not bank by bank
    progress, out = options.get("progress") or Progress(), out or Path("outputs") / "open"
    if from_dir is not None and not from_dir.is_dir():
        raise InputError(f"there is no folder {from_dir.name}/ to take open banks from")
    here = {row["name"] for row in names.listing() if row["status"] == "here"}
    outcomes: dict[str, Outcome] = {}
    lost: dict[str, str] = {}
    known: dict[Path, People | None] = {}
    for name in open_data.catalogue():
        place = None if from_dir is None else open_data.holding(name, from_dir)
        if place is None and name not in here:
            progress.say(f"{name}: its files are not there")
            continue
        try:
            people = People.of(load(name, place))
            outcomes[name] = run(name, studies=studies, values=values, out=out / name, site=False, **options)
            known[outcomes[name].folder] = people
        except CrmError as error:
            lost[name] = str(error)
            progress.say(f"{name} could not be run: {error}")
    if not outcomes:
        raise InputError("no open bank could be run; --from DIR names the folder with their files (data/README.md)")
    if whole := [o.folder for o in outcomes.values() if o.completed]:
        put(out / review.OPEN, escape.csv(review.side_by_side(whole)), private=False)
    progress.say("joining the runs into one site")
    return outcomes, lost, rebuild(known, out / "site", lost)


def store(outcome: Outcome, folder: Path, reference: Path) -> list[Path]:
    """Store the executed notebooks of a run, its ledger and one figure; return what changed.

    Raises
    ------
    InputError
        If the run did not complete.
    """
    if not outcome.completed:
        raise InputError("the run did not complete; the stored notebooks are as they were")
    pairs = {folder / p.name: p for p in sorted((outcome.folder / "notebooks").glob("*.ipynb"))}
    pairs[reference / "ledger.csv"] = outcome.folder / "ledger.csv"
    if (outcome.folder / "figures" / PICTURE).exists():
        pairs[reference / "cost_ratios.png"] = outcome.folder / "figures" / PICTURE
    changed = [new for new, old in pairs.items() if not new.exists() or new.read_bytes() != old.read_bytes()]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pairs[path], path)
    return changed
