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
import math
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

import numpy as np
import pandas as pd

from crmresearch.errors import CrmError, CrmWarning, FitError, InputError, Missing
from crmresearch.result import Estimate

if TYPE_CHECKING:
    from crmresearch.bank import Bank

__all__ = ["COLUMNS", "Estimator", "discover", "read", "reduced", "run", "stored_limits", "summarise"]

CHUNK = 20  # seeds of one task
MOST = 1000  # seeds of one estimator and world
VIOLATIONS = 400  # seeds in worlds that break an assumption: whether a gate closes takes fewer
ALPHA = 0.05
NOMINAL = (0.93, 0.97)  # coverage accepted for 95% intervals
STRICT = 0.999  # level of the binomial interval of the coverage
ENTRY = {"00": "base", "01": "value", "02": "churn", "03": "cost", "04": "loyalty"}
COLUMNS = (
    "study", "estimator", "world", "quantity", "unit", "customers", "months", "seeds", "failed", "warned", "truth",
    "mean", "bias", "bias_error", "rmse", "coverage", "coverage_low", "coverage_high", "unbounded", "mean_se",
    "true_spread", "se_ratio", "gates_open", "rejected", "rejected_low", "rejected_high", "rejected_means", "verdict",
)  # fmt: skip


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
    truth : callable
        ``truth(truth) -> {quantity: value}``, from :func:`crmresearch.sources.simulated.truth`. A quantity without
        truth is reported without bias and coverage.
    worlds : tuple of str
        Worlds it is tried in.
    customers, months : int
        Size of each bank.
    tables : tuple of str, optional
        Tables it needs; only these are drawn. All by default.
    limits : tuple of str
        Quantities whose truth is the limit of the estimator itself under the world's entry and censoring, stored in
        ``limits.yaml`` by ``python -m crmresearch.recover.limits``.
    seeds : int
        Most seeds it is run on in ``baseline``, where a fit is dear.
    sizes : mapping of str to int, optional
        Customers in worlds where another size serves: the rate of false positives does not need the reference bank's.
    """

    name: str
    study: str
    run: Callable[[Bank], Mapping[str, Estimate]]
    truth: Callable[[dict[str, Any]], Mapping[str, float]]
    worlds: tuple[str, ...] = ("baseline", "null")
    customers: int = 2_000
    months: int = 60
    tables: tuple[str, ...] | None = None
    limits: tuple[str, ...] = ()
    seeds: int = MOST
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name across studies."""
        return f"{self.study}.{self.name}"

    def size(self, world: str) -> int:
        """Customers of each bank in a world."""
        return self.sizes.get(world, self.customers)

    def most(self, world: str) -> int:
        """Most seeds in a world; all in the null world, whose false positives are counted over all estimators."""
        return MOST if world == "null" else self.seeds if world == "baseline" else min(self.seeds, VIOLATIONS)


_REDUCED: weakref.WeakKeyDictionary[Bank, dict[Any, Any]] = weakref.WeakKeyDictionary()


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
    found = kept[key]
    if isinstance(found, Missing):
        raise FitError(found.reason)
    return found.copy() if isinstance(found, pd.DataFrame) else found


@functools.cache
def discover() -> dict[str, Estimator]:
    """Return every estimator of the modules of this package, by ``study.name``."""
    from crmresearch import recover

    found: dict[str, Estimator] = {}
    for info in sorted(pkgutil.iter_modules(recover.__path__), key=lambda m: m.name):
        if info.name in ("facts", "harness", "limits", "report"):
            continue
        module = importlib.import_module(f"{recover.__name__}.{info.name}")
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
    from crmresearch.sources.simulated import world_names

    known = discover()
    names = sorted({e.study for e in known.values()})
    wanted = None if studies is None else [ENTRY.get(s[:2], s) for s in studies]
    for label, given, valid in (("study", wanted, names), ("world", worlds, world_names())):
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


DISPLAY = ("cli", "batch", "execution", "notebook", "progress", "ledger", "figures", "disclosure", "site")


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
    from crmresearch.sources import simulated

    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [*_imports(name), *([name.rpartition(".")[0]] if name.count(".") > 1 else [])]
    seen -= {"crmresearch.recover", *(f"crmresearch.recover.{m}" for m in ("facts", "limits", "report"))}
    digest = hashlib.sha256((Path(simulated.__file__).parent / "worlds.yaml").read_bytes())
    for name in sorted(seen):
        spec = importlib.util.find_spec(name)
        digest.update(name.encode() + Path(str(spec and spec.origin)).read_bytes())
    return digest.hexdigest()[:16]


def _part(estimator: Estimator, world: str, first: int) -> Path:
    from crmresearch.sources import cache_dir

    folder = cache_dir() / "recovery"
    size = f"{estimator.size(world)}x{estimator.months}"
    return (
        folder / f"{estimator.key}-{fingerprint(estimator.run.__module__)}" / world / f"{size}-{first:06d}-{CHUNK}.csv"
    )


def _rows(estimator: Estimator, bank: Bank, seed: int) -> list[dict[str, Any]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", CrmWarning)
        try:
            estimates = estimator.run(bank)
        except CrmError:  # refused or not fitted: counted, and published as such
            return [{"seed": seed, "quantity": "", "failed": 1}]
        except Exception as error:
            error.add_note(f"{estimator.key} on bank {bank.name}, seed {seed}")
            raise
    return [
        {
            "seed": seed, "quantity": quantity, "failed": 0, "warned": int(bool(caught)), "unit": e.unit,
            "value": e.value, "ci_low": e.ci_low, "ci_high": e.ci_high, "p_value": e.p_value, "se": e.se, "n": e.n,
            "open": int(all(c.status != "closed" for c in e.checks)),
        }
        for quantity, e in estimates.items()
    ]  # fmt: skip


def work(keys: Sequence[str], world: str, first: int) -> int:
    """Run the estimators ``keys``, all of one size, on one chunk of seeds; write one file each. Returns the seeds."""
    from crmresearch.sources import simulated

    estimators = [discover()[k] for k in keys]
    e = estimators[0]
    every = any(x.tables is None for x in estimators)
    tables = None if every else sorted({t for x in estimators for t in x.tables or ()})
    rows: dict[str, list[dict[str, Any]]] = {k: [] for k in keys}
    for seed in range(first, first + CHUNK):
        settings = simulated.Settings(customers=e.size(world), months=e.months, seed=seed, world=world)
        bank = simulated.bank(settings, tables)
        for x in estimators:
            rows[x.key] += _rows(x, bank, seed)
        bank.connection.disconnect()
    for x in estimators:
        _replace(_part(x, world, first), pd.DataFrame(rows[x.key]).to_csv(index=False))
    return CHUNK


def _replace(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it: a stopped run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
    os.replace(temporary, path)


def _tasks(pairs: Iterable[tuple[Estimator, str]], seeds: int) -> list[tuple[list[str], str, int]]:
    """Chunks still to do, estimators that share their banks together."""
    tasks: dict[tuple[str, int, int, int], list[str]] = {}
    for e, world in pairs:
        for first in range(1, min(seeds, e.most(world)) + 1, CHUNK):
            if not _part(e, world, first).exists():
                tasks.setdefault((world, e.size(world), e.months, first), []).append(e.key)
    order = sorted(tasks, key=lambda t: (t[3], t[0], t[1], t[2]))  # every world early: a first look comes soon
    return [(tasks[t], t[0], t[3]) for t in order]


def run(
    studies: Sequence[str] | None = None,
    seeds: int = 1000,
    worlds: Sequence[str] | None = None,
    jobs: int = 2,
    out: str | Path = "outputs/reference",
) -> Path:
    """Run estimators over seeds and worlds and write the recovery table.

    Parameters
    ----------
    studies : sequence of str, optional
        Names (``churn``) or numbers (``02``) of studies; all by default.
    seeds : int
        Banks per world, seeds 1 to ``seeds``; rounded up to whole chunks of 20 while computing.
    worlds : sequence of str, optional
        Worlds; those each estimator names by default.
    jobs : int
        Processes.
    out : path
        A ``.csv`` file, or a folder that receives ``recovery.csv``.

    Returns
    -------
    Path
        The table: one row per estimator, world and quantity (see :func:`summarise`).

    Raises
    ------
    InputError
        Unknown study or world, or fewer than two seeds.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if seeds < 2 or jobs < 1:
        raise InputError(f"seeds={seeds}, jobs={jobs}: at least 2 seeds and 1 job are needed")
    pairs = select(studies, worlds)
    tasks = _tasks(pairs, seeds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("simulated banks", total=len(tasks) * CHUNK)
        for done in _done(tasks, jobs):
            progress.advance(bar, done)
    path = Path(out)
    path = path if path.suffix == ".csv" else path / "recovery.csv"
    table = summarise(pairs, seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, table.to_csv(index=False, float_format="%.6g"))
    return path


def _done(tasks: Sequence[tuple[list[str], str, int]], jobs: int) -> Iterable[int]:
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


def read(path: str | Path) -> pd.DataFrame:
    """Read a recovery table; the world ``null`` is a name, not a gap."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


# --- the table --------------------------------------------------------------------------------------------------------


def binomial_interval(hits: int, n: int, level: float = STRICT) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share."""
    from scipy.stats import beta

    if n == 0:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


@functools.cache
def _truth(world: str, customers: int, months: int) -> dict[str, Any]:
    from crmresearch.sources import simulated

    return simulated.truth(simulated.Settings(customers=customers, months=months, world=world))


@functools.cache
def stored_limits() -> dict[str, Any]:
    """Limits of estimators, by ``study.name``, world and quantity: value and Monte-Carlo error (``limits.yaml``)."""
    import yaml

    path = Path(__file__).with_name("limits.yaml")
    return dict(yaml.safe_load(path.read_text("utf-8")) or {}) if path.is_file() else {}


def formulas(e: Estimator, world: str) -> dict[str, float]:
    """Return the truths that come from the world's parameters or their limits, not from the estimator's own."""
    return dict(e.truth(_truth(world, e.size(world), e.months)))


def truths(e: Estimator, world: str) -> dict[str, float]:
    """Return the truth of every quantity that has one."""
    known = formulas(e, world)
    limits = stored_limits().get("limits", {}).get(e.key, {}).get(world, {})
    known = {q: limits[q][0] for q in e.limits if q in limits} | known
    return {q: float(v) for q, v in known.items()}


def read_parts(e: Estimator, world: str, seeds: int) -> pd.DataFrame:
    """Return the estimates of seeds 1 to ``seeds``."""
    seeds = min(seeds, e.most(world))
    paths = [_part(e, world, first) for first in range(1, seeds + 1, CHUNK)]
    frame = pd.concat([pd.read_csv(p) for p in paths], ignore_index=True)
    for column in ("value", "ci_low", "ci_high", "p_value", "se", "open", "warned", "unit"):
        if column not in frame:
            frame[column] = np.nan
    return frame[frame["seed"] <= seeds]


def summarise(pairs: Sequence[tuple[Estimator, str]], seeds: int) -> pd.DataFrame:
    """Summarise estimates against the truth.

    Parameters
    ----------
    pairs : sequence of (Estimator, str)
        Estimators and worlds whose chunks are all there.
    seeds : int
        Seeds 1 to ``seeds``.

    Returns
    -------
    DataFrame
        One row per estimator, world and quantity. ``bias_error`` is its Monte-Carlo standard error; ``coverage_low,
        coverage_high`` the 99.9% binomial interval of the coverage; ``se_ratio`` the mean standard error over the
        true spread; ``gates_open`` the share of seeds with no closed gate; ``rejected`` the share with p at most .05
        and open gates, with its 95% interval (``rejected_means``: power where the claim is true in that world, false
        positives where it is not); ``verdict``: ``pass``, or ``fail`` if the interval of the coverage excludes [.93,
        .97]. The last row of ``null``, ``any supported``, adjusts all p-values of a seed together (Benjamini and
        Hochberg) and counts the seeds with any at most .05; claims that are true even there are left out.
    """
    rows, p_values, fewest = [], [], seeds
    for e, world in pairs:
        frame = read_parts(e, world, seeds)
        truth, failed = truths(e, world), int(frame["failed"].sum())
        for quantity, part in frame[frame["failed"] == 0].groupby("quantity", sort=False):
            rows.append(_summary(e, world, str(quantity), part, truth.get(str(quantity), math.nan), failed))
        if world == "null":
            fewest = min(fewest, e.most(world))
            false = [not _holds(str(q), world, truth.get(str(q), math.nan)) for q in frame["quantity"]]
            p_values.append(
                frame.loc[np.array(false) & (frame["open"] == 1) & frame["p_value"].notna(), ["seed", "p_value"]]
            )
        if not (frame["failed"] == 0).any():
            nothing = {"study": e.study, "estimator": e.name, "world": world, "seeds": 0}
            rows.append(nothing | {"failed": failed, "verdict": "fail"})
    if p_values and (every := pd.concat(p_values)).shape[0]:
        every = every[every["seed"] <= fewest]  # seeds on which every estimator was run
        hits = int((every.groupby("seed")["p_value"].agg(_smallest_q) <= ALPHA).sum())
        low, high = binomial_interval(hits, fewest, 0.90)  # its upper end is a one-sided 95% bound
        rows.append(
            {
                "study": "all", "estimator": "all", "world": "null", "quantity": "any supported", "seeds": fewest,
                "failed": 0, "rejected": hits / fewest, "rejected_low": low, "rejected_high": high,
                "rejected_means": "false positives", "verdict": "pass" if high <= 0.075 else "fail",
            }
        )  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def _holds(quantity: str, world: str, truth: float) -> bool:
    """Tell whether a claim is true in a world: by its rule and the truth, else everywhere but where nothing acts.

    Replacing a customer costs money in any world, and most of the nine cost ratios are not above two in any.
    """
    from crmresearch import ledger

    line = ledger.lines().get(quantity)
    rule = {} if line is None else line.rule.get("supported", {})
    if not rule or math.isnan(truth):
        return world != "null"
    return all(truth > bound if side == "above" else truth < bound for side, bound in rule.items())


def _smallest_q(p: pd.Series) -> float:
    ordered = np.sort(p.to_numpy())
    return float((ordered * len(ordered) / np.arange(1, len(ordered) + 1)).min())


def _summary(e: Estimator, world: str, quantity: str, part: pd.DataFrame, truth: float, failed: int) -> dict[str, Any]:
    good = part[part["value"].notna()]
    n, value = len(good), good["value"].to_numpy(float)
    row: dict[str, Any] = {
        "study": e.study, "estimator": e.name, "world": world, "quantity": quantity,
        "unit": str(part["unit"].iloc[0]), "customers": e.size(world), "months": e.months, "seeds": n,
        "failed": failed + len(part) - n, "warned": int(part["warned"].sum()), "truth": truth,
        "gates_open": float(part["open"].astype(float).mean()), "verdict": "",
    }  # fmt: skip
    if n == 0:
        return row | {"verdict": "fail"}
    finite = value[np.isfinite(value)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    row |= {"mean": float(finite.mean()), "true_spread": spread, "mean_se": float(good["se"].mean())}
    row["se_ratio"] = row["mean_se"] / spread if spread else math.nan
    low, high = good["ci_low"].to_numpy(float), good["ci_high"].to_numpy(float)
    row["unbounded"] = float((np.isinf(low) | np.isinf(high)).mean())
    if math.isfinite(truth):
        bounded = ~np.isnan(low)
        hits, k = int(((low <= truth) & (truth <= high)).sum()), int(bounded.sum())
        row |= {"bias": row["mean"] - truth, "bias_error": spread / math.sqrt(len(finite))}
        row["rmse"] = float(np.sqrt(((finite - truth) ** 2).mean()))
        if k:
            inside = binomial_interval(hits, k)
            row |= {"coverage": hits / k, "coverage_low": inside[0], "coverage_high": inside[1]}
            row["verdict"] = "pass" if inside[0] <= NOMINAL[1] and inside[1] >= NOMINAL[0] else "fail"
    tested = part[part["p_value"].notna()]
    if len(tested):
        hits = int(((tested["p_value"] <= ALPHA) & (tested["open"] == 1)).sum())
        inside = binomial_interval(hits, len(tested), 0.95)
        row |= {"rejected": hits / len(tested), "rejected_low": inside[0], "rejected_high": inside[1]}
        row["rejected_means"] = "power" if _holds(quantity, world, truth) else "false positives"
    return row
