"""Limits of estimators: ``python -m crmresearch.recover.limits [STUDY ...]``.

Where a study reports a quantity that no parameter of the world equals (a Cox coefficient under unobserved frailty, a
composite path), its truth is what the estimator tends to under the world's own entry and censoring. It is computed here
from a few very large banks, whose seeds no trial uses, and stored in ``limits.yaml``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crmresearch.recover.harness import Estimator, select, stored_limits

CUSTOMERS = 60_000
SEEDS = tuple(range(900_001, 900_007))
COMMAND = "python -m crmresearch.recover.limits"


def limit(
    e: Estimator, world: str, customers: int = CUSTOMERS, seeds: tuple[int, ...] = SEEDS
) -> dict[str, list[float]]:
    """Return value and Monte-Carlo standard error of ``e.limits`` in a world: mean over large banks."""
    from crmresearch.sources import simulated

    found: dict[str, list[float]] = {q: [] for q in e.limits}
    for seed in seeds:
        bank = simulated.bank(simulated.Settings(customers, e.months, seed, world), e.tables)
        estimates = e.run(bank)
        bank.connection.disconnect()
        for quantity in found:
            if quantity in estimates:
                found[quantity].append(estimates[quantity].value)
    return {
        q: [float(f"{np.mean(v):.7g}"), float(f"{np.std(v, ddof=1) / np.sqrt(len(v)):.3g}")]
        for q, v in found.items()
        if len(v) > 1 and np.isfinite(v).all()
    }


def main(studies: list[str]) -> None:
    """Compute the limits of the estimators of ``studies`` (all if empty) and write the file."""
    limits: dict[str, Any] = dict(stored_limits().get("limits", {}))
    for e, world in select(studies or None, None):
        if e.limits:
            limits.setdefault(e.key, {})[world] = limit(e, world)
            print(e.key, world, flush=True)
    content = {"command": COMMAND, "customers": CUSTOMERS, "seeds": list(SEEDS), "limits": limits}
    path = Path(__file__).with_name("limits.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=True, default_flow_style=None, width=110), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
