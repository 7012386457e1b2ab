"""Compute the stored limits of the truth: ``python -m crmresearch.lab.simulated.limits [WORLD ...]``.

Writes ``limits.yaml`` beside this file: for every world the estimands that have no closed form, with their Monte-Carlo
standard errors. Run it again whenever the model or ``worlds.yaml`` changes; a test compares it with a small new draw.
"""

from __future__ import annotations

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml

from crmresearch.errors import InputError
from crmresearch.lab.simulated.draws import limits
from crmresearch.lab.simulated.estimands import model_fingerprint, stored
from crmresearch.lab.simulated.settings import BLOCK, Settings, world_names

# Truths are as exact as the banks held against them are large: 20,000 customers in the baseline and
# in `wider`, 4,000 elsewhere. Contributions cannot be averaged over, and have a tail, in `lifelike` a heavy one.
BLOCKS, MORE = 40, {"baseline": 460, "null": 160, "wider": 460}
PEOPLE = {"baseline": 4_000, "wider": 4_000, "lifelike": 1_000}
SEED = 20210101  # none of the seeds that estimators are tried on
COMMAND = "python -m crmresearch.lab.simulated.limits"


def one(world: str) -> dict[str, list[float]]:
    """Return the limits of a world: value and Monte-Carlo error by name."""
    values, errors = limits(Settings(seed=SEED, world=world), MORE.get(world, BLOCKS), people=PEOPLE.get(world))
    return {k: [float(f"{v:.7g}"), float(f"{errors[k]:.3g}")] for k, v in values.items() if math.isfinite(v)}


def main(names: list[str], jobs: int = 2) -> None:
    """Compute ``names`` (all worlds if empty) and write the file."""
    names = names or list(world_names())
    found: dict[str, Any] = dict(stored().get("worlds", {}))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for world, values in zip(names, pool.map(one, names), strict=True):
            found[world] = values
            print(world, flush=True)
    missing = [w for w in world_names() if w not in found]
    if missing:
        raise InputError(f"no limits of {', '.join(missing)} yet; run `{COMMAND}` without names")
    content = {
        "command": COMMAND,
        "seed": SEED,
        "customers": {w: MORE.get(w, BLOCKS) * BLOCK for w in world_names()},
        "months": Settings().months,
        "model": model_fingerprint(),
        "worlds": {w: found[w] for w in world_names()},
    }
    path = Path(__file__).with_name("limits.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
