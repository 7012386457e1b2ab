"""What else customers are: companies, what they gain from the bank, and the class they belong to, if there are any."""

from __future__ import annotations

import numpy as np

from crmresearch.lab.simulated.campaigns import wave_months
from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import BLOCK, Settings
from crmresearch.lab.simulated.shocks import persistent

TYPES = ("private", "corporate")
# Four classes, by how often they pay, open products and visit (log rates, each far from all others), and by how their
# margin grows by year, which no count of the past shows.
CLASSES = 0.8 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
PAYS, OPENS, VISITS = range(3)
GROWTH = 0.15 * np.array([1.0, -1.0, 0.5, -0.5])


def corporate(s: Settings, block: int) -> Array:
    """Whether each customer is a company."""
    return np.asarray(stream(s, "types", block).random(BLOCK) < s.parameters.corporate_share)


def ecommerce(s: Settings, block: int, acquired: Array) -> tuple[Array, Array]:
    """Return when companies open and close a product of electronic commerce; never is infinite."""
    p, g = s.parameters, stream(s, "types", block)
    g.random(BLOCK)  # who is a company comes first
    wait, last = g.standard_exponential((2, BLOCK))
    with np.errstate(divide="ignore"):
        opened = np.where(corporate(s, block), acquired + wait / (p.ecommerce_rate / 12), np.inf)
        closed = opened + last / (p.family_close / 12)
    gone = closed < 0
    return np.where(gone, np.inf, opened), np.where(gone, np.inf, closed)


def benefit(s: Settings, block: int) -> tuple[Array, Array]:
    """Return what each customer gains from the bank at each wave, standardised, and the answers about it."""
    share = s.parameters.benefit_share
    draws, noise = stream(s, "benefit", block).standard_normal((2, BLOCK, len(wave_months(s.months))))
    gain = persistent(draws)
    y = np.sqrt(share) * gain + np.sqrt(1 - share) * noise
    return gain, np.clip(np.rint(6.0 + 1.9 * y), 1, 10)


def classes(s: Settings, block: int) -> Array:
    """Class of each customer."""
    return stream(s, "classes", block).integers(0, len(CLASSES), BLOCK)


def class_factor(s: Settings, block: int, what: int) -> Array | float:
    """Factor of a class on a rate."""
    distance = s.parameters.class_distance
    return np.exp(distance * CLASSES[classes(s, block), what]) if distance else 1.0


def own_margin(s: Settings, block: int) -> Array | float:
    """Log margin, customer x month, by what a customer gains and by class."""
    p, out = s.parameters, 0.0
    if p.benefit_margin:
        waves = np.searchsorted(wave_months(s.months), np.arange(s.months), side="right") - 1
        out = out + p.benefit_margin * benefit(s, block)[0][:, np.maximum(waves, 0)]
    if p.class_distance:
        growth = p.class_distance * GROWTH[classes(s, block)]
        out = out + growth[:, None] * (np.arange(s.months) - s.months / 2) / 12
    return out
