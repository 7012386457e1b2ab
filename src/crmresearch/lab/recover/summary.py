"""The recovery table: estimates of many banks against the truth."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError
from crmresearch.estimators.inference import ends, q_values, z
from crmresearch.estimators.verdicts import ALPHA, Bound, p_value, position
from crmresearch.lab.recover import harness
from crmresearch.lab.recover.harness import Estimator

FULL = harness.MOST  # seeds below which a row is provisional
FRESH = (FULL + 1, FULL + 4_000)  # seeds that decide where the first thousand do not
COVERED, SHORT, FRESHLY, WIDE = (
    0.945,
    0.92,
    0.94,
    0.975,
)  # coverage of 95% intervals: passes, is short, passes on FRESH, is wide
STRICT = 0.999  # level of what counts against a provisional row
BIASED = 0.2  # of the estimator's standard deviation
ANY, SHARE = 0.075, 0.05  # most banks with a false decision, every line at its bound; most false decisions among all
COLUMNS = (
    "study", "estimator", "world", "quantity", "unit", "customers", "months", "seeds", "failed", "warned", "truth",
    "truth_error", "mean", "bias", "bias_error", "bias_sd", "coverage", "coverage_low", "coverage_high", "unbounded",
    "mean_se", "true_spread", "se_ratio", "gates_open", "bound", "found", "found_low", "wrong", "at_bound",
    "at_bound_high", "verdict", "provisional",
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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for fresh in (False, True):
            tasks = harness.tasks_left(_between(pairs, seeds) if fresh else pairs, seeds, FRESH if fresh else None)
            bar = progress.add_task("fresh seeds" if fresh else "simulated banks", total=len(tasks) * harness.CHUNK)
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


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
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
    path = Path(__file__).with_name("limits.yaml")
    return dict(words.parsed(path.read_text("utf-8")) or {}) if path.is_file() else {}


def formulas(e: Estimator, world: str) -> dict[str, tuple[float, float]]:
    """Return the truths that come from the world's parameters or their limits, with their Monte-Carlo errors."""
    known = {} if world == harness.OWN else _truth(world, e.size(world), e.months)
    estimands, errors = {**known.get("parameters", {}), **known.get("estimands", {})}, known.get("error", {})
    found = {q: (float(v), 0.0) for q, v in e.truth(known).items()} if callable(e.truth) else {}
    for quantity, name in () if callable(e.truth) else e.truth.items():
        key, sign = (name.removeprefix("-"), -1 if name[0] == "-" else 1) if isinstance(name, str) else ("", 1)
        value = estimands.get(key) if isinstance(name, str) else name
        if value is not None:
            found[quantity] = (sign * float(value), float(errors.get(key, 0.0)))
    return found | ({q: (float(v), 0.0) for q, v in e.nothing.items()} if world == "null" else {})


def truths(e: Estimator, world: str) -> dict[str, tuple[float, float]]:
    """Return the truth of every quantity that has one, with its Monte-Carlo error."""
    from crmresearch.lab import simulated

    limits = stored_limits().get("limits", {}).get(e.key, {}).get(world, {})
    known = {q: (float(limits[q][0]), float(limits[q][1])) for q in e.limits if q in limits}
    planted = simulated.line_truths(simulated.Settings(months=e.months, world=world)) if world != harness.OWN else {}
    lines = {q: (one["world"], one["error"]) for q, one in planted.items() if "limit" not in one and "world" in one}
    return lines | known | formulas(e, world)


def read_parts(e: Estimator, world: str, first: int, last: int) -> pd.DataFrame:
    """Return the estimates of some seeds, up to the first chunk that is not there yet."""
    paths = (harness.part(e, world, seed) for seed in range(first, last + 1, harness.CHUNK))
    there = [pd.read_csv(p) for p in itertools.takewhile(Path.exists, paths)]
    if not there:
        return pd.DataFrame({"seed": [], "quantity": [], "failed": []})
    frame = pd.concat(there, ignore_index=True)
    for column in ("value", "ci_low", "ci_high", "se", "open", "warned", "unit"):
        if column not in frame:
            frame[column] = np.nan
    return frame[frame["seed"] <= last]


def _between(pairs: Sequence[tuple[Estimator, str]], seeds: int) -> list[tuple[Estimator, str]]:
    """Pairs with a coverage that the first thousand seeds do not settle."""
    full = [(e, world) for e, world in pairs if min(seeds, e.most(world)) >= FULL]
    rows = [(pair, summarise([pair], seeds)) for pair in full]
    return [pair for pair, table in rows if (table["verdict"] == "between").any()]


def summarise(pairs: Sequence[tuple[Estimator, str]], seeds: int) -> pd.DataFrame:
    """Summarise estimates against the truth.

    Parameters
    ----------
    pairs : sequence of (Estimator, str)
        Estimators and worlds.
    seeds : int
        Seeds 1 to ``seeds``, as far as they were computed.

    Returns
    -------
    DataFrame
        One row per estimator, world and quantity; ratios are summarised on logs. ``bias_error`` is the Monte-Carlo
        error of the mean (``truth_error`` that of the truth); ``bias_sd`` the bias in standard deviations;
        ``coverage_low, coverage_high`` the 95% binomial interval of the coverage; ``se_ratio`` the mean standard error
        over the true spread; ``gates_open`` the share of seeds with no closed gate. For lines of the register:
        ``found`` the share of seeds with the verdict that the truth has against the line's ``bound``, gates open
        (power), and its one-sided 95% bound; ``wrong`` the share with the other verdict; ``at_bound`` the share decided
        either way were the bound the truth, and its one-sided 95% bound. ``verdict`` is :func:`judged`; ``provisional``
        where fewer than a thousand seeds stand behind it. Last come the false decisions among all lines
        (:func:`together`).
    """
    rows, frames = [], []
    for e, world in pairs:
        last = min(seeds, e.most(world))
        frame = read_parts(e, world, 1, last)
        if frame.empty:
            continue
        fresh = read_parts(e, world, *FRESH) if last >= FULL else frame.iloc[:0]
        truth = truths(e, world)
        good, failed = frame[frame["failed"] == 0], int(frame["failed"].sum())
        for quantity, part in good.groupby("quantity", sort=False):
            more = fresh[fresh["quantity"] == quantity]
            rows.append(_summary(e, world, str(quantity), part, truth.get(str(quantity), NONE), failed, more))
        if good.empty:
            nothing = {"study": e.study, "estimator": e.name, "world": world, "seeds": 0, "provisional": "yes"}
            rows.append(nothing | {"failed": failed, "verdict": "short"})
        frames.append(good.assign(world=world, truth=[truth.get(str(q), NONE)[0] for q in good["quantity"]]))
    return pd.DataFrame(rows + together(pd.concat(frames))).reindex(columns=list(COLUMNS))


def judged(hits: int, n: int, fresh: float, bias: float, error: float) -> str:
    """Judge 95% intervals by coverage and bias.

    Parameters
    ----------
    hits, n : int
        Intervals that cover, of those of the first thousand seeds.
    fresh : float
        Coverage over four thousand fresh seeds, NaN without them.
    bias, error : float
        Bias and its Monte-Carlo error, in standard deviations of the estimator.

    Returns
    -------
    str
        ``short``: covered in less than 92%, or in less than 94.5% and, on fresh seeds, less than 94%. ``biased``: bias
        and twice its error exceed a fifth of a standard deviation. ``between``: fresh seeds have to decide.
        ``conservative``: covered in more than 97.5%. Else ``pass``. With fewer than a thousand seeds only what chance
        does not explain among so many rows counts: the whole 99.9% intervals of coverage and bias.
    """
    if n < FULL:
        low, high = binomial_interval(hits, n, STRICT)
        short, wide, biased = high < SHORT, low > WIDE, abs(bias) - z(STRICT) * error > BIASED
        return "short" if short else "biased" if biased else "conservative" if wide else "pass"
    coverage = hits / n
    undecided = SHORT <= coverage < COVERED
    if coverage < SHORT or (undecided and fresh < FRESHLY):
        return "short"
    if abs(bias) + 2 * error > BIASED:
        return "biased"
    if undecided and math.isnan(fresh):
        return "between"
    return "conservative" if coverage > WIDE else "pass"


def together(estimates: pd.DataFrame) -> list[dict[str, Any]]:
    """Count false decisions among all primary lines of a bank, adjusted together as the ledger does.

    ``every line at its bound``: the bound of each line is its truth, so that any decision is false; the share of banks
    with one. ``half of the lines at their bounds``: the share of false decisions among all, the mean over banks; each
    half in turn. ``pass`` where the one-sided 95% bound allows it, ``short`` where the other one does not. Lines
    without a truth or not measured on every seed are left out.
    """
    from crmresearch import ledger

    known, rows = ledger.lines(), []
    own = [q in known and known[q].primary and known[q].bound is not None for q in estimates["quantity"]]
    every = estimates[np.array(own, dtype=bool) & estimates["truth"].notna()]
    for world, part in every.groupby("world", sort=False):
        seeds = part.groupby("quantity")["seed"].nunique()
        part = part[part["quantity"].isin(seeds[seeds == seeds.max()].index)]
        wide = {
            c: part.pivot_table(index="seed", columns="quantity", values=c, dropna=False)
            for c in ("value", "ci_low", "ci_high", "open")
        }
        names, n = [str(q) for q in wide["value"]], len(wide["value"])
        if len(names) < 2:
            continue
        truth = part.groupby("quantity")["truth"].first()
        bounds = {q: known[q].bound for q in names}
        moved = {q: Bound(truth[q], b.none, b.side) for q, b in bounds.items() if b is not None}
        p = {
            which: np.array([_p_values(wide, q, found[q]) for q in names]).T
            for which, found in (("own", bounds), ("moved", moved))
        }
        hits = sum(bool((q_values(row) <= ALPHA).any()) for row in p["moved"])
        shares = [
            _false_share(np.where(np.arange(len(names)) % 2 == half, p["moved"], p["own"]), half) for half in (0, 1)
        ]
        mean = np.mean(shares, axis=0)
        error = float(mean.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        for quantity, value, (low, high), most in (
            ("every line at its bound", hits / n, binomial_interval(hits, n, 0.9), ANY),
            ("half of the lines at their bounds", mean.mean(), ends(mean.mean(), error * z(0.9) / z()), SHARE),
        ):
            verdict = "pass" if high <= most else "short" if low > most else "between"
            rows.append(
                {"study": "all", "estimator": f"{len(names)} lines", "world": world, "quantity": quantity, "seeds": n,
                 "failed": 0, "at_bound": float(value), "at_bound_high": float(high),
                 "verdict": verdict, "provisional": "yes" if n < FULL else "no"}
            )  # fmt: skip
    return rows


def _p_values(wide: Mapping[str, pd.DataFrame], quantity: str, bound: Bound | None) -> list[float]:
    """p-values of one line by seed; 1 where a gate is closed or nothing was estimated."""
    rows = zip(*(wide[c][quantity] for c in ("value", "ci_low", "ci_high", "open")), strict=True)
    found = [p_value(v, low, high, bound) if bound and is_open == 1 else 1.0 for v, low, high, is_open in rows]
    return [1.0 if math.isnan(p) else p for p in found]


def _false_share(p: np.ndarray, half: int) -> np.ndarray:
    """Share of false decisions by bank: those of the lines that sit at their bound."""
    decided = np.array([q_values(row) <= ALPHA for row in p])
    false = decided[:, np.arange(p.shape[1]) % 2 == half].sum(axis=1)
    return np.asarray(false / np.maximum(decided.sum(axis=1), 1))


def _verdicts(part: pd.DataFrame, quantity: str, truth: float) -> dict[str, Any]:
    """Decisions on a line of the register: against its bound, and were the bound the truth."""
    from crmresearch import ledger

    line, n = ledger.lines().get(quantity), len(part)
    if line is None or line.bound is None or n == 0:
        return {}
    closed = (part["open"] != 1).to_numpy()
    where = [("undecided" if shut else position(low, high, line.bound)) for shut, low, high in zip(
        closed, part["ci_low"], part["ci_high"], strict=True)]  # fmt: skip
    centre = float(part["value"].mean()) if math.isnan(truth) else truth
    right = position(centre, centre, line.bound)
    found = where.count(right)
    out = {"bound": line.bound.at, "found": found / n, "found_low": binomial_interval(found, n, 0.9)[0]}
    out["wrong"] = sum(e not in (right, "undecided") for e in where) / n
    if not math.isnan(truth):
        hits = int(((part["ci_low"] > truth) | (part["ci_high"] < truth))[~closed].sum())
        out |= {"at_bound": hits / n, "at_bound_high": binomial_interval(hits, n, 0.9)[1]}
    return out


NONE = (math.nan, math.nan)


def _summary(
    e: Estimator, world: str, quantity: str, part: pd.DataFrame, truth: tuple[float, float], failed: int,
    fresh: pd.DataFrame | None = None,
) -> dict[str, Any]:  # fmt: skip
    from crmresearch import ledger

    good = part[part["value"].notna()]
    n = len(good)
    row: dict[str, Any] = {
        "study": e.study, "estimator": e.name, "world": world, "quantity": quantity,
        "unit": str(part["unit"].iloc[0]), "customers": e.size(world), "months": e.months, "seeds": n,
        "failed": failed + len(part) - n, "warned": int(part["warned"].sum()), "truth": truth[0],
        "truth_error": truth[1], "gates_open": float(part["open"].astype(float).mean()), "verdict": "",
        "provisional": "yes" if len(part) + failed < FULL else "no",
    }  # fmt: skip
    if n == 0:
        return row | {"verdict": "short"}
    line = ledger.lines().get(quantity)
    log = line is not None and line.bound is not None and line.bound.none == 1 and bool((good["ci_low"] > 0).all())
    scale = np.log if log else np.asarray
    value, low, high = (np.asarray(scale(good[c].to_numpy(float))) for c in ("value", "ci_low", "ci_high"))
    finite = value[np.isfinite(value)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    bounded = np.isfinite(low) & np.isfinite(high)
    own = np.where(good["se"].notna() & (not log), good["se"], np.where(bounded, (high - low) / (2 * z()), np.nan))
    se = float(np.nanmean(own.astype(float))) if bounded.any() else math.nan
    mean = float(finite.mean())
    row |= {"mean": math.exp(mean) if log else mean, "true_spread": spread, "mean_se": se}
    row |= {"se_ratio": se / spread if spread else math.nan, "unbounded": float((~bounded & ~np.isnan(low)).mean())}
    row |= _verdicts(part, quantity, truth[0])
    if math.isfinite(truth[0]):
        at = math.log(truth[0]) if log else truth[0]
        bias, error = mean - at, spread / math.sqrt(len(finite))
        row |= {"bias": bias, "bias_error": error, "bias_sd": bias / spread if spread else math.nan}
        k = int((~np.isnan(low)).sum())
        if k:
            hits = int(((low <= at) & (at <= high)).sum())
            inside = binomial_interval(hits, k)
            row |= {"coverage": hits / k, "coverage_low": inside[0], "coverage_high": inside[1]}
            whole = fresh is not None and len(fresh) >= FRESH[1] - FULL
            again = _covered(fresh, truth[0]) if whole and fresh is not None else math.nan
            row["verdict"] = judged(hits, k, again, row["bias_sd"], error / spread if spread else math.nan)
    return row


def _covered(part: pd.DataFrame, truth: float) -> float:
    part = part[part["ci_low"].notna()]
    return float(((part["ci_low"] <= truth) & (truth <= part["ci_high"])).mean())
