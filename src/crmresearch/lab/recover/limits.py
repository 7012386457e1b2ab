"""Limits of estimators: ``python -m crmresearch.lab.recover.limits [STUDY or WORLD ...]``.

Where a study reports a quantity that no parameter of the world equals (a Cox coefficient under unobserved frailty, a
composite path), its truth is what the estimator tends to under the world's own entry and censoring. It is computed here
from large banks, whose seeds no trial uses, and stored in ``limits.yaml``: at least 180 times the customers of one
trial, so that the limit's own error stays below a tenth of an estimate's and hardly moves its coverage.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crmresearch.lab.recover.harness import Estimator, discover, select
from crmresearch.lab.recover.summary import formulas, stored_limits
from crmresearch.lab.simulated.settings import REFERENCE, Settings, world_names

CUSTOMERS = 60_000  # of one bank
TIMES = 180  # customers of all banks over those of one trial, at least
FEWEST = 6  # banks
FIRST = 900_001  # seed
NOISE = 0.2  # of the value: a limit with a larger error is none (the slope's inverse where there is no slope)
# Drawn against a quantity of the same bank whose truth has a formula, so that what both share is not left to chance.
AGAINST = {"S40b": "S40", "S40e": "S40d", "S40h": "S40g"}
COMMAND = "python -m crmresearch.lab.recover.limits"


def wanted(e: Estimator, world: str) -> list[str]:
    """Quantities that need a limit in a world: those without a formula."""
    return [q for q in e.limits if q not in formulas(e, world)] if world != "small" else []


def banks(e: Estimator, world: str) -> int:
    """Number of large banks for an estimator; its world's limits stand beside the reference bank's estimates."""
    size = max(e.size(world), Settings.customers) if world == REFERENCE else e.size(world)
    return max(FEWEST, -(-TIMES * size // CUSTOMERS))


def draw(keys: Sequence[str], world: str, seed: int, customers: int = CUSTOMERS) -> dict[str, dict[str, float]]:
    """Run estimators on one large bank: value by estimator and quantity."""
    from crmresearch.lab import simulated

    estimators = [discover()[k] for k in keys]
    every = any(e.tables is None for e in estimators)
    tables = None if every else sorted({t for e in estimators for t in e.tables or ()})
    bank = simulated.bank(simulated.Settings(customers, estimators[0].months, seed, world), tables)
    out = {}
    for e in estimators:
        found, known = {q: one.value for q, one in e.run(bank).items()}, formulas(e, world)
        for q, like in AGAINST.items():
            if q in found and like in known:
                found[q] *= known[like][0] / found[like]
        out[e.key] = {q: value for q, value in found.items() if q in wanted(e, world)}
    bank.engine.close()
    return out


def limit(values: Sequence[float]) -> list[float] | None:
    """Return value and Monte-Carlo standard error: mean over banks; None where the noise leaves no value."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return [float(f"{mean:.7g}"), float(f"{error:.3g}")] if error <= NOISE * abs(mean) else None


def _tasks(pairs: Sequence[tuple[Estimator, str]]) -> Iterator[tuple[list[str], str, int]]:
    """Banks to draw, each for all estimators that need it."""
    by_bank: dict[tuple[str, int, int], list[str]] = {}
    for e, world in pairs:
        for k in range(banks(e, world)):
            by_bank.setdefault((world, e.months, FIRST + k), []).append(e.key)
    for (world, _, seed), keys in sorted(by_bank.items()):
        yield keys, world, seed


def main(names: list[str], jobs: int = 2) -> None:
    """Compute the limits of the estimators of the studies and worlds named (all if empty) and write the file."""
    worlds = [n for n in names if n in world_names()]
    studies = [n for n in names if n not in worlds]
    pairs = [(e, world) for e, world in select(studies or None, worlds or None) if wanted(e, world)]
    found: dict[tuple[str, str, str], list[float]] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        tasks = list(_tasks(pairs))
        futures = [pool.submit(draw, *task) for task in tasks]
        for (_, world, seed), future in zip(tasks, futures, strict=True):
            for key, drawn in future.result().items():
                for quantity, value in drawn.items():
                    found.setdefault((key, world, quantity), []).append(value)
            print(world, seed, flush=True)
    limits: dict[str, Any] = dict(stored_limits().get("limits", {}))
    for e, world in pairs:
        limits.setdefault(e.key, {}).pop(world, None)
    for (key, world, quantity), values in found.items():
        kept = limit(values)
        if kept is not None:
            limits[key].setdefault(world, {})[quantity] = kept
    known = discover()
    limits = {k: worlds for k, worlds in limits.items() if k in known and worlds}
    content = {"command": COMMAND, "customers": CUSTOMERS, "first_seed": FIRST, "times": TIMES, "limits": limits}
    path = Path(__file__).with_name("limits.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=True, default_flow_style=None, width=110), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
