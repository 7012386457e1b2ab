"""Resampling: weights of a bootstrap over units, and the jackknife over groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference.intervals import LEVEL

MIN_GROUPS = 10
MIN_EVENTS = 10  # of ten units with an event, one resample in 22,000 holds none


def resample(rng: np.random.Generator, units: int | np.ndarray, size: int | None = None) -> np.ndarray:
    """Draw how often each unit stands in a resample of as many: the weights of a bootstrap.

    Parameters
    ----------
    rng : Generator
    units : int or array
        Number of units (customers, blocks), or how many units each row stands for.
    size : int, optional
        Resamples; one row each. A single resample without, as a vector.

    References
    ----------
    Efron (1979). Bootstrap methods: another look at the jackknife. *Annals of Statistics* 7, 1-26.
    """
    counts = np.ones(units) if np.ndim(units) == 0 else np.asarray(units, dtype=float)
    total = int(counts.sum())
    return rng.multinomial(total, counts / total, size=size).astype(float)


def need_events(units: float, of: str = "exits") -> None:
    """Refuse to resample where so few units hold an event that a resample may hold none of them.

    Raises
    ------
    FitError
        Names the number of units with an event.
    """
    if units < MIN_EVENTS:
        raise FitError(f"{units:,.0f} {of} are too few to resample ({MIN_EVENTS} are needed): a resample may hold none")


class Jackknife(NamedTuple):
    """Estimate, standard error and interval by :func:`jackknife`: numbers, or arrays of them."""

    value: Any
    se: Any
    low: Any
    high: Any

    def __format__(self, spec: str) -> str:
        """Write a number with its interval, e.g. ``4.41 [4.12, 4.70]``; ``spec`` formats each of the three."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def columns(self, name: str, ends: str = "") -> dict[str, Any]:
        """Name the estimate, and its ends ``<ends>_low`` and ``<ends>_high`` (by default as the estimate)."""
        return {name: self.value, f"{ends or name}_low": self.low, f"{ends or name}_high": self.high}


def jackknife(values: np.ndarray) -> Jackknife:
    """Estimate, standard error and interval from a first row of all and one row without each group.

    Parameters
    ----------
    values : array, (groups + 1, ...)
        Row 0 from all customers, row g without group g.

    Returns
    -------
    Jackknife
        The interval uses Student's t with one degree of freedom fewer than groups.

    References
    ----------
    Shao and Wu (1989). A general theory for jackknife variance estimation. *Annals of Statistics* 17, 1176-1197.
    """
    from scipy.special import stdtrit

    without = values[1:]
    g = len(without)
    if g < MIN_GROUPS:
        raise InputError(f"{g} groups of customers; a jackknife needs at least {MIN_GROUPS}")
    se = np.sqrt((g - 1) / g * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    half = stdtrit(g - 1, 0.5 + LEVEL / 2) * se
    return Jackknife(values[0], se, values[0] - half, values[0] + half)
