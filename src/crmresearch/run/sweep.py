"""Many runs by one team: banks, notebooks, values of parameters, named specifications, seeds; ledgers side by side.

All of it is checked before anything starts. Each combination is an ordinary run in a folder of its own, without a site
(``crmresearch site`` builds one where it is wanted), and one that is there and unchanged is skipped. A verdict that
changes along the sweep is what one looks for, and ``sweep.csv`` shows it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import escape, ledger, parameters
from crmresearch.data.places import put
from crmresearch.errors import CrmError, InputError
from crmresearch.run import batch, remote, staging, workers
from crmresearch.run.plan import Plan, Planner
from crmresearch.run.progress import Events, Progress, Within

LONGEST = 120  # bytes of a folder's name
OWN = ("sweep.csv", "events.jsonl")
KEYS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "bank": ("a name, or a list of names", (str, list)),
    "studies": ("a list; each item is a notebook, or a list of notebooks that run together", list),
    "grid": ("a mapping of parameters to lists of values", dict),
    "specifications": ("a mapping of names to values of parameters", dict),
    "exclude": ("a list of mappings, each of what excluded runs have in common", list),
    "seeds": ("a number of seeds, or a list of them", (int, list)),
    "out": ("a folder", str),
}


def read(path: Path) -> dict[str, Any]:
    """Read what a sweep's file says; :data:`KEYS` are what it may say.

    Raises
    ------
    InputError
        If it cannot be read, or says anything else; one line for each mistake.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise InputError(f"{path} is not valid YAML") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} says nothing of a sweep; it takes {', '.join(KEYS)}")
    wrong = [f"{path}: no {key}; {parameters.near(str(key), KEYS, 'it takes')}" for key in content if key not in KEYS]
    for key, (told, kinds) in KEYS.items():
        if key in content and (not isinstance(content[key], kinds) or isinstance(content[key], bool)):
            wrong.append(f"{path}: {key} should be {told}")
        elif key in content and not _written(content[key]):
            wrong.append(
                f"{path}: {key} holds what is neither text nor number; write names and dates in quotes: '2024-12-31'"
            )
    if not wrong and isinstance(content.get("seeds", 1), int) and content.get("seeds", 1) < 1:
        wrong.append(f"{path}: seeds should be 1 or more, or be left out")
    banks = content.get("bank", "reference")
    if not wrong and (not banks or not all(isinstance(one, str) for one in banks)):
        wrong.append(f"{path}: bank should be {KEYS['bank'][0]}")
    inner = [("grid", list), ("specifications", dict), ("exclude", dict)]
    for key, kind in [] if wrong else inner:
        part = content.get(key, {})
        items = part.items() if isinstance(part, dict) else enumerate(part, 1)
        wrong += [f"{path}: {key} {n} should be {KEYS[key][0]}" for n, item in items if not isinstance(item, kind)]
    if wrong:
        raise InputError("\n".join(wrong))
    return content


def _written(part: Any) -> bool:
    """Tell whether names are texts, and values what a notebook can be given."""
    try:
        return bool(json.loads(json.dumps(part, allow_nan=False)) == part)
    except (TypeError, ValueError):
        return False


def combinations(
    values: Mapping[str, Sequence[Any]],
    *,
    banks: Sequence[str] = (),
    studies: Sequence[Sequence[str]] = (),
    specifications: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (),
    exclude: Sequence[Mapping[str, Any]] = (),
) -> dict[str, dict[str, Any]]:
    """Return what each run is made of, by the name of its folder, e.g. ``horizon_months-12_seed-1``.

    A specification stands beside the combinations of values, and seeds, banks and notebooks vary with both. Each
    combination has a name of its own; banks and notebooks stand in it where there are several.

    Raises
    ------
    InputError
        If something is named twice, nothing is left, or an exclusion excludes nothing.
    """
    several = {**values, **({"seed": seeds} if seeds else {}), "--bank": banks, "--studies": studies}
    for name, given in several.items():
        if len({repr(v) for v in given}) < len(given):
            raise InputError(f"{'parameter ' * (name[:2] != '--')}{name} has the same value twice")
        if not given and name in values:
            raise InputError(f"parameter {name} has no value")
    crossed = [dict(zip(values, v, strict=True)) for v in itertools.product(*values.values())]
    settings: list[dict[str, Any]] = crossed if values or not specifications else []
    settings += [{"specification": name} | dict(one) for name, one in (specifications or {}).items()]
    out, hits = {}, [0] * len(exclude)
    dimensions: list[Any] = [banks or [None], studies or [None], settings, seeds or [None]]
    for bank, group, setting, seed in itertools.product(*dimensions):
        where = {"bank": bank, "studies": None if group is None else ",".join(group)}
        one = {k: v for k, v in where.items() if v is not None} | setting | ({} if seed is None else {"seed": seed})
        met = [
            all(k in one and (one[k] == v or (isinstance(v, list) and one[k] in v)) for k, v in e.items())
            for e in exclude
        ]
        hits = [n + hit for n, hit in zip(hits, met, strict=True)]
        if not any(met):
            varied = {"bank": banks, "studies": studies}
            shown = {k: v for k, v in one.items() if len(varied.get(k, "..")) > 1}
            out[_name(shown, setting)] = one
    if idle := [e for e, n in zip(exclude, hits, strict=True) if not n]:
        raise InputError("\n".join(f"exclude {json.dumps(e, ensure_ascii=False)} excludes nothing" for e in idle))
    if not out:
        raise InputError("nothing is left to run: every combination is excluded")
    return out


def _name(shown: Mapping[str, Any], setting: Mapping[str, Any]) -> str:
    """Name a folder: values as they are where nothing else reads like them (in any case), else with a fingerprint."""
    inside = setting if "specification" in setting else {}  # its name tells its values
    parts = {k: v for k, v in shown.items() if k == "specification" or k not in inside}
    text = "_".join(v if k == "specification" else f"{k}-{_text(v)}" for k, v in parts.items()) or "run"
    plain = all(re.fullmatch(r"[a-z]\w*", k) and k == k.casefold() and _plain(v) for k, v in parts.items())
    if plain and len(text) <= LONGEST:
        return text
    mark = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
    stem = re.sub(r"[^\w.]+", "-", text).strip("-.").encode()[:LONGEST].decode(errors="ignore")
    return f"{stem}~{mark}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> bool:
    """Tell whether no other value is written like this one, and separators are told from it."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"[a-z][a-z0-9.]*", value)) and value not in ("true", "false", "null")
    return isinstance(value, int | float) and bool(re.fullmatch(r"-?\d+(\.\d+)?|true|false", json.dumps(value)))


@dataclass(frozen=True)
class Sweep:
    """A sweep that was checked: what each run is made of, and its plan, by the name of its folder."""

    out: Path
    combinations: Mapping[str, Mapping[str, Any]]
    plans: Mapping[str, Plan]

    def states(self, force: bool) -> dict[str, list[str] | None]:
        """Return the notebooks that each run has to execute; None where nothing is to do."""
        done = {} if force else self.renamed()
        return {
            n: None if n in done or not (force or p.finished(False) is None) else p.waiting(force)
            for n, p in self.plans.items()
        }

    def renamed(self) -> dict[str, Path]:
        """Return the finished runs that stand here by another name, from when banks or notebooks were fewer."""
        others = {}
        for status in self.out.glob("[!.]*/status.json"):  # a staged run has a status before it was looked through
            if status.parent.name not in self.plans:
                told = json.loads(status.read_text("utf-8")).get("notebooks", {})
                others[str(sorted((name, record.get("fingerprint")) for name, record in told.items()))] = status.parent
        found = {n: others.get(str(sorted(p.keys.items()))) for n, p in self.plans.items() if not p.out.exists()}
        return {n: f for n, f in found.items() if f and replace(self.plans[n], out=f).finished(False) is not None}

    def seconds(self, wanted: Iterable[str], jobs: int) -> float | None:
        """Estimate how long notebooks take, from runs in the sweep's folder and beside it; None without any."""
        found: dict[str, list[float]] = {}
        for status in itertools.chain(*(folder.glob("[!.]*/status.json") for folder in (self.out, self.out.parent))):
            if not status.with_name("run.json").exists():
                continue  # another program's
            for name, record in json.loads(status.read_text("utf-8"))["notebooks"].items():
                if record["status"] == "completed":
                    found.setdefault(name, []).append(record["seconds"])
        wanted = list(wanted)
        if not all(name in found for name in wanted):
            return None
        return math.fsum(statistics.median(found[name]) for name in wanted) / jobs


def prepare(
    values: Mapping[str, Sequence[Any]],
    out: Path,
    *,
    banks: Sequence[str] = ("reference",),
    studies: Sequence[Sequence[str]] = (),
    from_dir: Path | None = None,
    folder: Path | None = None,
    **more: Any,
) -> Sweep:
    """Check a sweep whole, and load its banks.

    Parameters
    ----------
    values : mapping of str to sequence
        Values of each parameter that varies.
    out : Path
        Folder of the sweep; each combination has its run's folder in it.
    banks : sequence of str
        Names of banks, or paths of folders or files that describe one.
    studies : sequence of sequence of str
        Notebooks that run together, by name or number; all of them by default. A notebook alone is given the
        parameters that it takes, and runs once where it takes none of those that differ.
    from_dir, folder
        As for one run.
    **more
        Specifications, seeds and exclusions, as for :func:`combinations`.

    Raises
    ------
    InputError
        One line for each thing that :func:`crmresearch.run.batch.run` refuses, in any combination.
    """
    planner = Planner(folder)
    runs = combinations(values, banks=banks, studies=studies, **more)
    groups = {",".join(g): planner.takes(g) for g in studies}
    seen, wrong, kept = set(), [], {}
    everywhere = {key for takes in groups.values() for key in takes}
    for name, one in runs.items():
        given = {k: v for k, v in one.items() if k not in ("bank", "studies", "specification")}
        group: str = one.get("studies", "")
        if len(groups) > 1:
            given = {k: v for k, v in given.items() if k in groups[group] or k not in everywhere}
        same = json.dumps([one.get("bank"), group, one.get("specification"), given], sort_keys=True)
        if same not in seen:
            seen.add(same)
            kept[name] = {k: v for k, v in one.items() if k in given or k in ("bank", "studies", "specification")}
            for key, value in given.items():  # one by one, so that each mistake is told
                wrong += _refused(planner.check, group.split(",") if group else None, {key: value})
    for bank in banks:
        wrong += _refused(planner.load, bank, from_dir)
    there = out.iterdir() if out.is_dir() else [out] if out.exists() else []
    strange = [p for p in there if p.name not in OWN and p.name[0] != "."]
    if any(not (p / "run.json").exists() for p in strange):
        wrong.append(f"{out} holds something that is not a sweep; choose another --out, or empty it first")
    if wrong:
        raise InputError("\n".join(dict.fromkeys(wrong)))
    out, plans = out.absolute().resolve(), {}
    for name, one in kept.items():
        given = {k: v for k, v in one.items() if k not in ("bank", "studies", "specification")}
        chosen = one["studies"].split(",") if "studies" in one else None
        plans[name] = planner.plan(one["bank"], chosen, given, out / name, from_dir)
    return Sweep(out, kept, plans)


def _refused(check: Any, *given: Any) -> list[str]:
    try:
        check(*given)
    except InputError as error:
        return [str(error)]
    return []


def run(
    sweep: Sweep,
    *,
    jobs: int = 2,
    force: bool = False,
    timeout: float = batch.TIMEOUT,
    cold: bool = False,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """Carry out what is not done yet, and write ``sweep.csv``.

    Parameters
    ----------
    sweep : Sweep
        As :func:`prepare` returned it.
    jobs : int
        Notebooks at a time, over all runs.
    force, timeout, cold
        As for one run.
    executor : Executor, optional
        Where runs are executed, one a task, for instance :func:`crmresearch.run.remote.cluster`: it decides how many
        at a time, and sees the sweep's folder. By one team of workers of this machine otherwise.
    progress : Progress, optional
        Listener.

    Returns
    -------
    table : DataFrame
        The lines of each run's ledger that were measured or looked at, preceded by run, its status and its values.
    statuses : dict
        How each run ended: ``status``, ``error``, ``reused`` where it was there, ``lost`` where nothing of it is.

    Raises
    ------
    InputError
        If another runner is writing the folder.
    CrmError
        If a process was lost, or the bank's files changed meanwhile.
    """
    batch.check_timeout(timeout)
    staging.place(next(iter(sweep.plans.values())).out)  # makes the sweep's folder, or says why it cannot be written
    with staging.locked(sweep.out) as lock, Events(sweep.out / "events.jsonl", progress) as told:
        told.begin(len(sweep.plans))
        for name, folder in ({} if force else sweep.renamed()).items():
            folder.rename(sweep.plans[name].out)
        todo = {name: part for name, part in sweep.states(force).items() if part is not None}
        statuses: dict[str, dict[str, Any]] = {}
        for name in [n for n in sweep.plans if n not in todo]:
            statuses[name] = {"status": "completed", "reused": True}
            told.end(name, statuses[name])
        warm = not cold and executor is None and sum(map(len, todo.values())) > 1
        ways: dict[str, Any] = {"force": force, "timeout": timeout, "site": False, "cold": cold}
        with workers.team(jobs, batch.environment(), lock, warm) as team:
            # one more than workers, so that none waits while a run is merged and looked through
            pool = executor or ThreadPoolExecutor(jobs + 1)
            try:
                waiting = {}
                for name in todo:
                    plan = sweep.plans[name]
                    if executor is None:
                        here: dict[str, Any] = {"team": team, "jobs": jobs, "progress": Within(told, name)}
                        waiting[pool.submit(batch.carry_out, plan, **here, **ways)] = name
                    else:
                        asked = plan.request(), plan.keys, plan.prints
                        waiting[pool.submit(remote.carry_out, *asked, jobs=1, **ways)] = name
                for done in as_completed(waiting):
                    statuses[waiting[done]] = _ended(done, Exception if executor else CrmError)
                    told.end(waiting[done], statuses[waiting[done]])
            finally:
                if executor is None:
                    team.stop()  # whoever still runs was interrupted
                    pool.shutdown(cancel_futures=True)
        table = _table(sweep, statuses)
        put(sweep.out / "sweep.csv", escape.csv(table), private=False)
    return table, {name: statuses[name] for name in sweep.plans}


def _ended(done: Any, losses: type[Exception]) -> dict[str, Any]:
    """Say how a run ended; one that could not be finished, or whose worker was lost, hides no other."""
    try:
        status = done.result().status
    except losses as error:
        why = str(error) if isinstance(error, CrmError) else f"{type(error).__name__}: {error}; run it again"
        return {"status": "failed", "error": why, "lost": True}
    seconds = sum(record.get("seconds", 0) for record in status["notebooks"].values() if not record.get("reused"))
    bad = [n for n, record in status["notebooks"].items() if record["status"] != "completed"]
    told = f"{', '.join(bad)}: {status['notebooks'][bad[0]].get('error', '')}" if bad else ""
    told = told or ("breaches of the disclosure rules" if "disclosure" in status else "")
    kept = {"disclosure": status["disclosure"]} if "disclosure" in status else {}
    return {"status": status["status"], "seconds": seconds} | ({"error": told} if told else {}) | kept


def _table(sweep: Sweep, statuses: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Set the ledgers of the runs side by side."""
    found: dict[str, set[str]] = {}
    for one in sweep.combinations.values():
        for key, value in one.items():
            found.setdefault(key, set()).add(_text(value))
    keys = [key for key, texts in found.items() if key not in ("bank", "studies") or len(texts) > 1]
    parts = []
    for name, one in sweep.combinations.items():
        place = sweep.out / name
        if {"lost", "disclosure"} & {*statuses[name]}:  # what must not leave a run leaves by no other file
            continue
        prints = json.loads((place / "run.json").read_text("utf-8"))["fingerprints"]
        if prints["data"] != sweep.plans[name].prints["data"]:
            raise CrmError("the bank's files changed during the sweep: its runs read different data; run it again")
        frame = ledger.read(place)
        frame = frame[~frame["verdict"].isin(ledger.UNMEASURED)]
        facts = {
            "run": name,
            "status": statuses[name]["status"],
            **{k: _text(one[k]) if k in one else "" for k in keys},
        }
        parts.append(pd.concat([pd.DataFrame([facts] * len(frame), index=frame.index), frame], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["run", "status", *keys])


def changed(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the lines whose verdict is not the same in every run, with the verdicts that occur."""
    if table.empty:
        return {}
    verdicts = table.groupby("line_id", sort=False)["verdict"].unique()
    return {str(line): [str(v) for v in sorted(found)] for line, found in verdicts.items() if len(found) > 1}
