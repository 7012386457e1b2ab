"""When campaigns and surveys go out, and who is given what by lot or by a score."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import BLOCK, Settings

OFFERS = ("control", "generic", "personal")  # arms of the campaign `personal`
COSTS = {"personal": (0.0, 1.0, 2.5), "invite": (0.0, 1.5)}  # of an arm, in those of a contact
SCORED = (-0.5, 2.0)  # who is in the campaign `personal`: at risk, but not so much that somebody calls at once
ATTENDS = 0.4  # logit of coming when invited, of a customer of mean loyalty
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
        "personal": int(months * 0.3),
        "invite": int(months * 0.75),
    }


def effect_span(months: int, campaign: str) -> Array:
    """Months, as a mask, in which a contact works."""
    since = np.arange(months) - campaign_months(months)[campaign]
    return (since >= 0) & (since < EFFECT_MONTHS)


def attends(s: Settings, block: int, loyalty: Array) -> Array:
    """Whether each customer would come if invited; loyalty is customer x wave."""
    wave = sum(m < campaign_months(s.months)["invite"] for m in wave_months(s.months)) - 1
    chance = 1 / (1 + np.exp(-ATTENDS - s.parameters.attend_loyalty * loyalty[:, max(wave, 0)]))
    return np.asarray(stream(s, "offers", block).random(len(chance)) < chance)


def reactions(s: Settings, block: int) -> Array:
    """Return what each customer adds to the log hazard ratio of a contact; the mean hazard ratio stays what it is."""
    spread = s.parameters.retain_spread
    return np.asarray(spread * stream(s, "reactions", block).standard_normal(BLOCK) - spread**2 / 2)


def draw_arms(s: Settings, block: int, n: int, force: Mapping[str, int]) -> tuple[dict[str, Array], Array]:
    """Draw the arm of everybody, by campaign, and what settles who is targeted."""
    g = stream(s, "campaigns", block)
    arms = {
        "trial": (g.random(n) < 0.5).astype(np.int8),
        "dose": g.integers(0, 4, n).astype(np.int8),
        "develop": (g.random(n) < 0.5).astype(np.int8),
    }
    u = g.random(n)  # settles who is targeted, given the score
    lots, p = stream(s, "lots", block).random((2, n)), s.parameters
    arms["personal"] = (lots[0] < p.personal_lot).astype(np.int8) + (lots[0] < p.personal_lot / 2)
    arms["invite"] = (lots[1] < p.invite_lot).astype(np.int8)
    for name, arm in force.items():
        if name in arms:
            arms[name][:] = arm
    return arms, u


def risk_score(unmet: Array, breadth: Array, tenure_years: Array, tier: Array) -> Array:
    """Score of what the bank thinks is risk, all of it in the tables."""
    families = np.minimum(breadth, 4) - 2.5
    return np.asarray(1.4 * unmet - 0.35 * families + 1.3 * (tenure_years < 3) + 0.3 * (tier == 3) - 0.55)


def target_logit(p: Any, score: Array) -> Array:
    """Logit of being targeted by the score."""
    middle = NormalDist().inv_cdf(p.target_share) * 1.7
    return np.asarray(middle + p.target_slope * score)
