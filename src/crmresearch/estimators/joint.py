"""One test of many specifications at once: do they lie beyond their bounds more than chance and kinship explain?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crmresearch.errors import InputError
from crmresearch.estimators.blocks import Array, Functional
from crmresearch.estimators.inference import z
from crmresearch.estimators.inference.resampling import MIN_GROUPS

DRAWS = 4999
CHUNK = 500  # draws held at a time


@dataclass(frozen=True)
class Joint:
    """What specifications show together against the null that none lies beyond its bound.

    Attributes
    ----------
    t : array
        Distance of each specification from its bound, in standard errors; positive on the claimed side.
    median_p : float
        Chance of a median ``t`` as large, were every estimand at its bound. This is the joint test.
    share, by_chance, share_p : float
        Share of specifications beyond their bounds, each by its own two-sided test of .05; its mean, and the chance of
        one as large, were every estimand at its bound. A share has few values, so that this chance errs upwards.
    blocks : int
        Blocks of people.
    """

    t: Array
    median_p: float
    share: float
    by_chance: float
    share_p: float
    blocks: int

    @property
    def median(self) -> float:
        """Median distance, in standard errors."""
        return float(np.median(self.t))


def standardised(sums: Array, squares: Array, blocks: int) -> Array:
    """Sums over blocks in units of their standard errors, given the sums of squares; 0 where nothing varies."""
    spread = np.sqrt(np.maximum(squares - sums**2 / blocks, 0.0) * blocks / (blocks - 1))
    return np.divide(sums, spread, out=np.zeros_like(sums), where=spread > 0)


def joint_test(distances: Sequence[Functional], *, seed: int, draws: int = DRAWS) -> Joint:
    """Test that no specification lies beyond its bound, the specifications sharing their customers.

    The null distribution comes from the sign-flip (Rademacher) multiplier bootstrap: in each draw every block's
    influence, centred, gets a random sign, the same for all specifications, so that what they share stays shared. Each
    draw is divided by its own standard error, as the estimates are by theirs. Where estimands lie short of their bounds
    the test errs to the safe side.

    Parameters
    ----------
    distances : sequence of Functional
        Of the same blocks: how far each specification lies beyond its bound, positive on the claimed side.
    seed, draws : int
        Of the signs.

    Raises
    ------
    InputError
        Without specifications, with fewer than ten blocks, with unequal numbers of them, or where an influence is
        missing or constant.

    References
    ----------
    Simonsohn, Simmons and Nelson (2020). Specification curve analysis. *Nature Human Behaviour* 4, 1208-1214: the
    statistics. Wu (1986), *Annals of Statistics* 14, 1261-1295; Liu (1988), *ibid.* 16, 1696-1708: the signs.
    """
    sizes = {len(d.influence) for d in distances}
    if len(sizes) != 1 or min(sizes) < MIN_GROUPS:
        raise InputError(
            f"{len(distances)} specifications over {sorted(sizes)} blocks; a joint test needs one number of blocks, "
            f"at least {MIN_GROUPS}"
        )
    influence = np.array([d.influence - d.influence.mean() for d in distances]).T
    value = np.array([d.value for d in distances])
    squares, blocks = (influence**2).sum(axis=0), len(influence)
    bad = ~np.isfinite(value) | ~(squares > 0)
    if bad.any():
        raise InputError(f"{int(bad.sum())} of {len(value)} specifications have no spread over blocks; leave them out")
    t = value / np.sqrt(squares * blocks / (blocks - 1))
    rng = np.random.default_rng(seed)
    median, count = np.empty(draws), np.empty(draws)
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        signs = 2.0 * rng.integers(0, 2, (size, blocks)) - 1
        drawn = standardised(signs @ influence, squares, blocks)
        median[start : start + size] = np.median(drawn, axis=1)
        count[start : start + size] = (drawn > z()).sum(axis=1)
    found = int((t > z()).sum())
    chances = [(1 + int((null >= seen).sum())) / (1 + draws) for null, seen in ((median, np.median(t)), (count, found))]
    return Joint(t, chances[0], found / len(t), float(count.mean() / len(t)), chances[1], blocks)
