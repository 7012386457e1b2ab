"""Estimators on simulated banks whose truth is known: many seeds, several worlds, in parallel, resumable.

A task is a chunk of seeds of one world and size; every estimator of that size sees the same banks, and shares what was
reduced from them (:func:`reduced`). Its result is one small file, kept under a fingerprint of the code the estimator
rests on, so a run that was stopped goes on where it was, and a change of one study leaves the others' results alone.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import multiprocessing
import os
import pkgutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch.errors import CrmError, CrmWarning, FitError, InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Result

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


CHUNK = 20  # seeds of one task
USUAL = ("baseline", "null", "wider")  # worlds
HARDER = (*USUAL, "lifelike")  # of estimators of primary lines
OWN = "own process"  # the world of a model that is tried on data of its own
MOST = 1000  # seeds of one estimator and world
VIOLATIONS = 400  # seeds in worlds that break an assumption: whether a gate closes takes fewer
ENTRY = {
    "00": "base", "01": "value", "02": "churn", "03": "cost", "04": "loyalty", "05": "strategy", "06": "competition",
    "07": "channels", "08": "service", "09": "preference", "99": "unity",
}  # fmt: skip


@dataclass(frozen=True)
class Estimator:
    """One estimator on trial.

    Parameters
    ----------
    name : str
        Unique within its study.
    study : str
        Module of the study, e.g. ``"churn"``.
    run : callable
        ``run(bank) -> {quantity: Estimate}``; a module-level function, so that worker processes find it.
    truth : mapping of str, or callable
        By quantity an estimand or parameter of :func:`crmresearch.lab.simulated.truth` (turned, with ``-`` before it),
        or a number; or ``truth(truth) -> {quantity: value}``. A quantity without truth is reported without bias and
        coverage.
    worlds : tuple of str
        Worlds it is tried in.
    customers, months : int
        Size of each bank.
    tables : tuple of str, optional
        Tables it needs; only these are drawn. All by default.
    limits : tuple of str
        Quantities whose truth is the limit of the estimator itself under the world's entry and censoring, stored in
        ``limits.yaml`` by ``python -m crmresearch.lab.recover.limits``.
    seeds : int
        Most seeds it is run on in ``baseline``, where a fit is dear.
    sample : callable, optional
        ``sample(customers, seed)`` draws the data that ``run`` gets instead of a bank, for models tried on their own
        process (world ``own process``).
    sizes : mapping of str to int, optional
        Customers in worlds where another size serves: the rate of false positives does not need the reference bank's.
    nothing : mapping of str to float
        Truth in the world where nothing has an effect, where symmetry alone gives it.
    """

    name: str
    study: str
    run: Callable[[Any], Mapping[str, Estimate]]
    truth: Mapping[str, str | float] | Callable[[dict[str, Any]], Mapping[str, float]] = field(default_factory=dict)
    worlds: tuple[str, ...] = USUAL
    customers: int = 20_000
    months: int = 60
    tables: tuple[str, ...] | None = None
    limits: tuple[str, ...] = ()
    seeds: int = MOST
    sizes: Mapping[str, int] = field(default_factory=dict)
    sample: Callable[[int, int], Any] | None = None
    nothing: Mapping[str, float] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Module of the function on trial."""
        run = self.run
        return str((run.func if isinstance(run, functools.partial) else run).__module__)

    @property
    def key(self) -> str:
        """Name across studies."""
        return f"{self.study}.{self.name}"

    def size(self, world: str) -> int:
        """Customers of each bank in a world."""
        return self.sizes.get(world, self.customers)

    def most(self, world: str) -> int:
        """Most seeds in a world; all in the null world, whose false positives are counted over all estimators."""
        return MOST if world == "null" else self.seeds if world in ("baseline", OWN) else min(self.seeds, VIOLATIONS)


_REDUCED: weakref.WeakKeyDictionary[Bank, dict[Any, Any]] = weakref.WeakKeyDictionary()


def given(found: Any) -> Any:
    """Unwrap what a reduction or a study returned; what is missing counts as a failure."""
    missing = found if isinstance(found, Missing) else found.missing if isinstance(found, Result) else None
    if missing is not None:
        raise FitError(missing.reason)
    return found


def findings(result: Result, *lines: str, **renamed: str) -> dict[str, Estimate]:
    """Take the estimates of a result that there are, under their own names or new ones."""
    given(result)
    found = {new: result.finding(line) for new, line in ({line: line for line in lines} | renamed).items()}
    return {new: e for new, e in found.items() if isinstance(e, Estimate)}


def reduced(bank: Bank, reduction: Callable[..., Any], **options: Any) -> Any:
    """Return what a reduction takes out of a bank, once for all estimators of the same bank.

    Parameters
    ----------
    bank : Bank
        Bank on trial.
    reduction : callable
        ``reduction(bank, **options)`` that returns a frame.
    **options
        Hashable.

    Returns
    -------
    DataFrame
        A copy of its own for each caller.

    Raises
    ------
    FitError
        If the bank cannot answer: counted as a failure.
    """
    kept = _REDUCED.setdefault(bank, {})
    key = (reduction, *sorted(options.items()))
    if key not in kept:
        kept[key] = reduction(bank, **options)
    found = given(kept[key])
    return found.copy() if isinstance(found, pd.DataFrame) else found


@functools.cache
def discover() -> dict[str, Estimator]:
    """Return every estimator of the modules of this package, by ``study.name``."""
    found: dict[str, Estimator] = {}
    for info in sorted(pkgutil.iter_modules([str(Path(__file__).parent)]), key=lambda m: m.name):
        if info.name in ("facts", "harness", "limits", "report", "summary"):
            continue
        module = importlib.import_module(f"{__package__}.{info.name}")
        for estimator in getattr(module, "ESTIMATORS", ()):
            if estimator.key in found:
                raise InputError(f"two estimators are named {estimator.key}")
            found[estimator.key] = estimator
    return found


def select(studies: Sequence[str] | None, worlds: Sequence[str] | None) -> list[tuple[Estimator, str]]:
    """Return the pairs of estimator and world asked for.

    Raises
    ------
    InputError
        A study without estimators, an unknown world, or nothing left to do.
    """
    from crmresearch.lab.simulated import world_names

    known = discover()
    names = sorted({e.study for e in known.values()})
    wanted = None if studies is None else [ENTRY.get(s[:2], s) for s in studies]
    for label, given, valid in (("study", wanted, names), ("world", worlds, (*world_names(), OWN))):
        for value in given or ():
            if value not in valid:
                raise InputError(f"no {label} {value!r} to recover; there are {', '.join(valid)}")
    pairs = [
        (e, w)
        for e in known.values()
        if wanted is None or e.study in wanted
        for w in (e.worlds if worlds is None else [w for w in worlds if w in e.worlds])
    ]
    if not pairs:
        raise InputError("no estimator of these studies is tried in these worlds")
    return pairs


DISPLAY = ("run", "notebook", "ledger", "parameters", "figures", "disclosure", "words")


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the package that a module names in its imports, those inside functions included."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{a.name}" for a in node.names)
    own = {n for n in found if n.startswith("crmresearch.") and n.split(".")[1] not in DISPLAY}
    return tuple(sorted(n for n in own if _is_module(n)))


def _is_module(name: str) -> bool:
    parent, _, _ = name.rpartition(".")
    above = importlib.util.find_spec(parent)
    return above is not None and above.submodule_search_locations is not None and bool(importlib.util.find_spec(name))


@functools.cache
def fingerprint(module: str) -> str:
    """Return a hash of the code that decides what the estimators of a module return.

    That is what it imports, directly or not, without what only displays.
    """
    from crmresearch.lab import simulated

    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [*_imports(name), *([name.rpartition(".")[0]] if name.count(".") > 1 else [])]
    seen -= {
        "crmresearch.lab.recover",
        *(f"crmresearch.lab.recover.{m}" for m in ("facts", "limits", "report", "summary")),
    }
    digest = hashlib.sha256((Path(simulated.__file__).parent / "worlds.yaml").read_bytes())
    for name in sorted(seen):
        spec = importlib.util.find_spec(name)
        digest.update(name.encode() + Path(str(spec and spec.origin)).read_bytes())
    return digest.hexdigest()[:16]


def part(estimator: Estimator, world: str, first: int) -> Path:
    """Name the file that keeps one chunk of seeds."""
    from crmresearch.data.places import cache_dir

    folder = cache_dir() / "recovery"
    size = f"{estimator.size(world)}x{estimator.months}"
    return folder / f"{estimator.key}-{fingerprint(estimator.module)}" / world / f"{size}-{first:06d}-{CHUNK}.csv"


def _rows(estimator: Estimator, data: Any, seed: int) -> list[dict[str, Any]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", CrmWarning)
        try:
            estimates = estimator.run(data)
        except CrmError:  # refused or not fitted: counted, and published as such
            return [{"seed": seed, "quantity": "", "failed": 1}]
        except Exception as error:
            error.add_note(f"{estimator.key}, seed {seed}")
            raise
    return [
        {
            "seed": seed, "quantity": quantity, "failed": 0, "warned": int(bool(caught)), "unit": e.unit,
            "value": e.value, "ci_low": e.ci_low, "ci_high": e.ci_high, "se": e.se, "n": e.n,
            "open": int(all(c.status != "closed" for c in e.checks)),
        }
        for quantity, e in estimates.items()
    ]  # fmt: skip


def work(keys: Sequence[str], world: str, first: int) -> int:
    """Run the estimators ``keys``, all of one size, on one chunk of seeds; write one file each; return the seeds."""
    from crmresearch.lab import simulated

    estimators = [discover()[k] for k in keys]
    e = estimators[0]
    every = any(x.tables is None for x in estimators)
    tables = None if every else sorted({t for x in estimators for t in x.tables or ()})
    rows: dict[str, list[dict[str, Any]]] = {k: [] for k in keys}
    for seed in range(first, first + CHUNK) if world != OWN else ():
        settings = simulated.Settings(customers=e.size(world), months=e.months, seed=seed, world=world)
        bank = simulated.bank(settings, tables)
        for x in estimators:
            rows[x.key] += _rows(x, bank, seed)
        bank.engine.close()
    for x in estimators:
        if x.sample is not None:
            for seed in range(first, first + CHUNK):
                rows[x.key] += _rows(x, x.sample(x.size(world), seed), seed)
        replaced(part(x, world, first), pd.DataFrame(rows[x.key]).to_csv(index=False))
    return CHUNK


def replaced(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it: a stopped run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
    os.replace(temporary, path)


def tasks_left(
    pairs: Iterable[tuple[Estimator, str]], seeds: int, span: tuple[int, int] | None = None
) -> list[tuple[list[str], str, int]]:
    """Chunks still to do, of seeds 1 to ``seeds`` or of a span; estimators that share their banks together."""
    tasks: dict[tuple[str, int, int, int], list[str]] = {}
    for e, world in pairs:
        start, last = span or (1, min(seeds, e.most(world)))
        for first in range(start, last + 1, CHUNK):
            if not part(e, world, first).exists():
                tasks.setdefault((world, e.size(world), e.months, first), []).append(e.key)
    order = sorted(tasks, key=lambda t: (t[3], t[0], t[1], t[2]))  # every world early: a first look comes soon
    return [(tasks[t], t[0], t[3]) for t in order]


def done(tasks: Sequence[tuple[list[str], str, int]], jobs: int) -> Iterable[int]:
    """Run the tasks, here or in processes, and yield how many seeds each finished."""
    if jobs == 1 or len(tasks) < 2:
        for keys, world, first in tasks:
            yield work(keys, world, first)
        return
    # spawned workers start clean; one thread each, or they would fight over the cores
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CRMRESEARCH_THREADS"), "1")
    before = {k: os.environ.get(k) for k in limits}
    os.environ.update(limits)
    try:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(work, keys, world, first) for keys, world, first in tasks]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
