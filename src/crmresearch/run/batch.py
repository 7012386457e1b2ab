"""Run the notebooks: check first, execute in parallel, keep what was reached, swap the finished folder in.

A run is staged beside its folder (:mod:`.staging`) and swapped in when everything is written, ``status.json`` last; a
run that is interrupted leaves the earlier one as it was, and ``resume`` takes up the notebooks it had finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import ledger, parameters, words
from crmresearch.errors import CrmError, InputError
from crmresearch.estimators.inference import Estimate
from crmresearch.notebook import VERSIONS
from crmresearch.rules import rules, use
from crmresearch.run import execution, staging, workers
from crmresearch.run.people import People
from crmresearch.run.progress import Progress
from crmresearch.run.scan import Breach, Report, scan
from crmresearch.run.staging import LAST, PARTS

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


say = words.of("site.batch")
PROJECT = Path(__file__).resolve().parents[3]
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
    """

    folder: Path
    status: Mapping[str, Any]

    @property
    def completed(self) -> bool:
        """Whether every notebook completed and nothing breached the disclosure rules."""
        return self.status["status"] == "completed"


def find_notebooks(folder: Path | None = None) -> dict[str, Path]:
    """Return the study notebooks by name; by default those of a clone, of ``./notebooks``, or of the package.

    Raises
    ------
    InputError
        If there are none.
    """
    for place in [folder] if folder is not None else parameters.folders():
        found = {p.stem: p for p in sorted(place.glob("[0-9][0-9]_*.ipynb"))}
        if found:
            return found
    raise InputError("no notebooks here; a study's notebook is named like 05_example.ipynb")


def select(available: Iterable[str], studies: Iterable[str] | None = None) -> list[str]:
    """Return the notebooks chosen by name or number (all when ``studies`` is None), in their order.

    Raises
    ------
    InputError
        If a study is unknown; the nearest one is named.
    """
    names = sorted(available)
    if studies is None:
        return names
    chosen = set()
    for study in studies:
        wanted = study.strip().removesuffix(".ipynb")
        match = [n for n in names if wanted in (n, n.partition("_")[0], n.partition("_")[2])]
        if not match:
            known = [*names, *(n.partition("_")[2] for n in names)]
            raise InputError(f"no study {study.strip() or '(empty)'}; {parameters.near(wanted, known, 'there are')}")
        chosen |= set(match)
    return sorted(chosen)


def _sha(*parts: bytes | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _code() -> str:
    """Fingerprint of the package's source and data."""
    package = Path(__file__).parents[1]
    files = sorted(p for p in package.rglob("*") if p.suffix in {".py", ".yaml", ".css"})
    return _sha(*(part for p in files for part in (p.relative_to(package).as_posix(), p.read_bytes())))


def _lock() -> str:
    """Fingerprint of what is installed: exact versions of every distribution."""
    from importlib.metadata import distributions

    return _sha("\n".join(sorted({f"{d.name}=={d.version}".lower() for d in distributions() if d.name})))


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
    jobs: int = 2,
    from_dir: Path | None = None,
    resume: bool | None = None,
    timeout: float = TIMEOUT,
    inject: bool = True,
    folder: Path | None = None,
    site: bool = True,
    cold: bool = False,
    progress: Progress | None = None,
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
    jobs : int
        Notebooks at a time.
    from_dir : Path, optional
        Folder with the files of an open data set already on disk, or one whose files a ``bank.yaml`` may name.
    resume : bool, optional
        Keep notebooks that completed before on the same sources, parameters, data, code and versions; False removes
        what an interrupted run had finished. By default that is refused, so that nobody loses work unasked.
    timeout : float
        Seconds per notebook.
    inject : bool
        False executes the notebooks as they are, with no cell of parameters.
    folder : Path, optional
        Where the notebooks are.
    site : bool
        Whether to build the reviewers' site.
    cold : bool
        Whether every kernel is a new process that imports all of its own.
    progress : Progress, optional
        Listener.

    Raises
    ------
    InputError
        Before any kernel starts: unknown study, parameter or bank, a value out of range, a notebook whose parameters
        cannot be read, a folder that is no run or cannot be replaced.
    CrmError
        If the disk is too small, or fills up.
    """
    progress = progress or Progress()
    if not 1 <= timeout <= LONGEST:
        raise InputError(f"timeout = {timeout:g}: should be 1 to {LONGEST:,.0f} seconds per notebook")
    available = find_notebooks(folder)
    names = select(available, studies)
    given = split({n: available[n] for n in names}, values or {})
    if out is not None:
        staging.check(out, resume)
    progress.say(f"opening bank {bank} (a new or changed one is loaded and checked first)")
    opened = load(bank, from_dir)
    name = opened.about.name
    if inject:
        given = {n: {"bank_name": name} | part for n, part in given.items()}
    out = staging.place(out or Path("outputs") / "runs" / name)
    sources = {n: execution.source_of(execution.read_notebook(available[n])) for n in names}
    prints: dict[str, Any] = {
        "data": opened.engine.fingerprint(),
        "code": _code(),
        "lock": _lock(),
        "register": ledger.register_hash(),
        "language": words.language(),
    }
    fingerprints = {n: _sha(sources[n], json.dumps(given[n], sort_keys=True), *prints.values()) for n in names}
    prints["notebooks"] = {n: _sha(text) for n, text in sources.items()}
    known = People.of(opened)
    started = datetime.now(UTC)

    with staging.staging(out, resume, progress.say) as (partial, lock):
        progress.begin(len(names))
        done = staging.kept(partial, out, fingerprints) if resume else {}
        for kept, record in done.items():
            progress.end(kept, record)
        staging.clear(partial, done)
        warm = not cold and len(names) - len(done) > 1  # a single kernel costs the same
        with workers.team(max(1, jobs), _environment(), lock, warm) as team:
            for last in (False, True):
                part = [n for n in names if n not in done and (n == LAST) is last]
                common = {"folder": str(partial), "timeout": timeout, "environment": _own(opened, partial, jobs)}
                work = [{"source": str(available[n].resolve()), "parameters": given[n], **common} for n in part]
                workers.execute(work, team, progress, done, fingerprints)
                _record_breaches(partial, known)
                whole = set(names) == set(available) and all(d["status"] == "completed" for d in done.values())
                frame = ledger.merge(partial, whole=whole)
        about = {
            "bank": opened.about.plain() | {"tables": sorted(opened.tables)}, "rules": opened.rules(),
            "parameters": given, "fingerprints": prints, "versions": _versions(),
        }  # fmt: skip
        ledger.write_json(partial / "run.json", about)
        _merge_disclosure(partial)
        status = {
            "status": "completed" if all(d["status"] == "completed" for d in done.values()) else "failed",
            "started": started.isoformat(timespec="seconds"),
            "commit": _commit(),
            "notebooks": {n: done[n] for n in names},
            "verdicts": {str(k): int(v) for k, v in frame["verdict"].value_counts().sort_index().items()},
        }
        if not _unchanged(bank, from_dir, opened):
            status["remark"] = "the bank's files changed meanwhile; this run shows them as they were when it began"
        _publish(partial, status, known, progress, site)
        for empty in PARTS:
            with contextlib.suppress(OSError):  # an empty folder tells nothing
                (partial / empty).rmdir()
        status["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        ledger.write_json(partial / "status.json", status)
        staging.swap(partial, out)
    return Outcome(out, status)


def split(notebooks: Mapping[str, Path], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the values it takes, all but the bank, which is the run's.

    Raises
    ------
    InputError
        If a value names the bank, or :func:`crmresearch.parameters.split` refuses one.
    """
    if "bank_name" in values:
        raise InputError("the bank of a run is named once: use --bank NAME instead of -p bank_name=NAME")
    return parameters.split(notebooks, values)


def _environment() -> dict[str, str]:
    """Return what kernels are told, the same everywhere; they read what was loaded before, and need no key."""
    from crmresearch.data.pseudonyms import KEY, KEY_FILE

    return {name: value for name, value in os.environ.items() if name not in (KEY, KEY_FILE)} | execution.ENVIRONMENT


def _own(opened: Bank, partial: Path, jobs: int) -> dict[str, str]:
    """Return what the kernels of one run are told: what they read and write, and their share of the machine."""
    from crmresearch.data.bank import PINNED

    return {**opened.engine.share(jobs), "CRMRESEARCH_OUT": str(partial), PINNED: str(opened.engine.path)}


def _unchanged(bank: str, from_dir: Path | None, opened: Bank) -> bool:
    """Tell whether the sources of a bank are still those that were loaded."""
    from crmresearch.data import store
    from crmresearch.data.sources.names import find

    try:
        return store.fingerprint(find(bank, from_dir)) == opened.engine.fingerprint()
    except (InputError, OSError):
        return False


def load(bank: str, from_dir: Path | None = None) -> Bank:
    """Load the bank once, before any kernel asks for it."""
    from crmresearch.data.bank import open_bank
    from crmresearch.data.sources import names, open_data

    if from_dir is not None and bank in open_data.catalogue():
        open_data.get(bank, from_dir)
    opened = open_bank(bank, from_dir)
    use(opened.about.disclosure)
    name = opened.about.name
    if bank != name and name in {row["name"] for row in names.listing() if row["status"] != "own files"}:
        raise InputError(f"{bank} calls its bank {name}, the name of an embedded one; rename it in bank.yaml")
    return opened


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
    decided: dict[str, dict[str, Any]] = {"suppressed": {}, "headlines": {}}
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
        found = scan(target, next(iter(clean.values())) if len(clean) == 1 else People.called(())).breaches
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

    available = find_notebooks()
    studies = select(available, studies)
    split({n: available[n] for n in studies}, values)  # refused once, not bank by bank
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
