"""When campaigns and surveys go out, and who is given what by lot or by a score."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import Settings

DOSES = ("control", "low", "medium", "high")
EFFECT_MONTHS = 12  # a retention contact works that long


def wave_months(months: int) -> list[int]:
    """Months in which the survey waves go out."""
    return sorted({int(months * f) for f in (0.1, 0.4, 0.7)})


def campaign_months(months: int) -> dict[str, int]:
    """Month, by campaign, at whose start its contacts are made."""
    return {
        "dose": int(months * 0.10),
        "develop": int(months * 0.2),
        "trial": int(months * 0.35),
        "target": int(months * 0.6),
    }


def draw_arms(s: Settings, block: int, n: int, force: Mapping[str, int]) -> tuple[dict[str, Array], Array]:
    """Draw the arm of everybody, by campaign, and what settles who is targeted."""
    g = stream(s, "campaigns", block)
    arms = {
        "trial": (g.random(n) < 0.5).astype(np.int8),
        "dose": g.integers(0, 4, n).astype(np.int8),
        "develop": (g.random(n) < 0.5).astype(np.int8),
    }
    u = g.random(n)  # settles who is targeted, given the score
    for name, arm in force.items():
        if name in arms:
            arms[name][:] = arm
    return arms, u


def target_logit(p: Any, unmet: Array, breadth: Array, tenure_years: Array, tier: Array) -> Array:
    """Logit of being targeted: what the bank thinks is risk, all of it in the tables."""
    families = np.minimum(breadth, 4) - 2.5
    score = 1.4 * unmet - 0.35 * families + 1.3 * (tenure_years < 3) + 0.3 * (tier == 3) - 0.55
    middle = NormalDist().inv_cdf(p.target_share) * 1.7
    return np.asarray(middle + p.target_slope * score)
