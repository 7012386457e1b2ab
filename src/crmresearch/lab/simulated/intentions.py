"""Intentions to leave: they come first, double look-ups, raise the hazard from the next month on, and may fade.

Nothing here knows of an exit, so that look-ups tell of an intention and never of the exit itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crmresearch.lab.simulated.columns import Block
from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import BLOCK, Settings

if TYPE_CHECKING:
    from crmresearch.lab.simulated.life import Life

EARLIEST = 0.5  # part of the month in which one begins: rates and terms are told in the middle of it
FADES = 0.8  # chance of an intention to fade, from month to month
LONGEST = 12  # months
WEEK = 7 / 30.4  # of a month


def draw_intentions(s: Settings, block: int) -> tuple[Array, Array, Array]:
    """Return, customer x month, whether one begins, at what part of the month, and whether one is felt from before."""
    p, g, shape = s.parameters, stream(s, "intentions", block), (BLOCK, s.months)
    begins = g.random(shape, dtype=np.float32) < p.intention_start
    at, lasts = EARLIEST + (1 - EARLIEST) * g.random(shape, dtype=np.float32), g.geometric(FADES, shape)
    felt = np.zeros(shape, dtype=bool)
    for lag in range(1, min(LONGEST, s.months - 1) + 1):
        felt[:, lag:] |= begins[:, :-lag] & (lasts[:, :-lag] >= lag)
    return begins & ~felt, at, felt


def share_felt(p: Any) -> float:
    """Share of months in which an intention is felt from before, once the first ones have come and gone."""
    return float(1 - np.prod(1 - p.intention_start * (1 - FADES) ** np.arange(LONGEST)))


def log_hazard(s: Settings, block: int) -> Array | float:
    """Effect on the log hazard, around its mean, so that exits are as many as without."""
    p = s.parameters
    if not p.intention_exit:
        return 0.0
    _, _, felt = draw_intentions(s, block)
    return np.asarray(p.intention_exit * felt - np.log1p(share_felt(p) * np.expm1(p.intention_exit)))


def lookups(s: Settings, block: int, of: Life, row: Array, month: Array) -> Block:
    """Count look-ups in mobile banking by month, and in its last week; an intention doubles them from its day on."""
    g = stream(s, "lookups", block)
    level = s.parameters.lookups_month * g.gamma(4.0, 0.25, BLOCK)[row] * (of.adopted[row] < month)
    begins, at, felt = draw_intentions(s, block)
    doubled = np.where(felt, 0.0, np.where(begins, at, 1.0))[row, month]  # from that part of the month on
    first, last = 1 - of.exposed[row, month], np.clip(of.left[row] - month, 0.0, 1.0)
    counts = []
    for begin, end in ((0.0, 1 - WEEK), (1 - WEEK, 1.0)):
        begin, end = np.maximum(begin, first), np.minimum(end, last)
        usual, more = (np.maximum(end - np.maximum(begin, since), 0.0) for since in (0.0, doubled))
        counts.append(g.poisson(level * (usual + more)))
    return {"lookups": counts[0] + counts[1], "lookups_last_week": counts[1]}
