"""The recovery table: estimates of many banks against the truth."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.verdicts import position
from crmresearch.lab.recover import harness
from crmresearch.lab.recover.harness import Estimator

ALPHA = 0.05
NOMINAL = (0.93, 0.97)  # coverage accepted for 95% intervals
STRICT = 0.999  # level of the binomial interval of the coverage
COLUMNS = (
    "study", "estimator", "world", "quantity", "unit", "customers", "months", "seeds", "failed", "warned", "truth",
    "mean", "bias", "bias_error", "rmse", "coverage", "coverage_low", "coverage_high", "unbounded", "mean_se",
    "true_spread", "se_ratio", "gates_open", "rejected", "rejected_low", "rejected_high", "rejected_means", "verdict",
)  # fmt: skip


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
    pairs = harness.select(studies, worlds)
    tasks = harness.tasks_left(pairs, seeds)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("simulated banks", total=len(tasks) * harness.CHUNK)
        for done in harness.done(tasks, jobs):
            progress.advance(bar, done)
    path = Path(out)
    path = path if path.suffix == ".csv" else path / "recovery.csv"
    table = summarise(pairs, seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    harness.replaced(path, table.to_csv(index=False, float_format="%.6g"))
    return path


def read(path: str | Path) -> pd.DataFrame:
    """Read a recovery table; the world ``null`` is a name, not a gap."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


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
    from crmresearch.lab import simulated

    return simulated.truth(simulated.Settings(customers=customers, months=months, world=world))


@functools.cache
def stored_limits() -> dict[str, Any]:
    """Limits of estimators, by ``study.name``, world and quantity: value and Monte-Carlo error (``limits.yaml``)."""
    import yaml

    path = Path(__file__).with_name("limits.yaml")
    return dict(yaml.safe_load(path.read_text("utf-8")) or {}) if path.is_file() else {}


def formulas(e: Estimator, world: str) -> dict[str, float]:
    """Return the truths that come from the world's parameters or their limits, not from the estimator's own."""
    known = {} if world == harness.OWN else _truth(world, e.size(world), e.months)
    if callable(e.truth):
        return dict(e.truth(known))
    estimands = {**known.get("parameters", {}), **known.get("estimands", {})}
    found = {q: _estimand(estimands, name) if isinstance(name, str) else name for q, name in e.truth.items()}
    return {q: v for q, v in found.items() if v is not None} | (dict(e.nothing) if world == "null" else {})


def _estimand(known: Mapping[str, float], name: str) -> float | None:
    value = known.get(name.removeprefix("-"))
    return value if value is None or name[0] != "-" else -value


def truths(e: Estimator, world: str) -> dict[str, float]:
    """Return the truth of every quantity that has one."""
    known = formulas(e, world)
    limits = stored_limits().get("limits", {}).get(e.key, {}).get(world, {})
    known = {q: limits[q][0] for q in e.limits if q in limits} | known
    return {q: float(v) for q, v in known.items()}


def read_parts(e: Estimator, world: str, seeds: int) -> pd.DataFrame:
    """Return the estimates of seeds 1 to ``seeds``."""
    seeds = min(seeds, e.most(world))
    paths = [harness.part(e, world, first) for first in range(1, seeds + 1, harness.CHUNK)]
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
    if line is None or line.bound is None or math.isnan(truth):
        return world != "null"
    return position(truth, truth, line.bound) == "supported"


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
