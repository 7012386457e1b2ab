"""Fine and Gray's regression for the incidence of one cause, with weights for censoring and for late entry.

Somebody who left for another cause stays in the risk set with a falling weight. The weight is a product of a factor of
the customer and a factor of time, so no row is ever expanded: its part of every sum is a cumulative sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import need_events, resample
from crmresearch.estimators.survival.cox import CoxFit, RiskSets, _newton, fit_sets
from crmresearch.estimators.survival.risk import Spells, read_spells, reverse_cumsum


def weight_factors(spells: Spells, times: np.ndarray) -> np.ndarray:
    """Return the factor of time in Geskus' weights just before ``times``: P(not censored yet) x P(entered already).

    Both are product-limit estimates, the first forward and the second backward in time. At equal times exits come
    first, then censorings, then entries.

    References
    ----------
    Geskus (2011), Biometrics 67, 39-49; Zhang, Zhang and Fine (2011), Statistics in Medicine 30.
    """
    grid = np.unique(np.concatenate([spells.entry, spells.exit]))
    at_exit, at_entry = np.searchsorted(grid, spells.exit), np.searchsorted(grid, spells.entry)
    left = np.bincount(at_exit, spells.n, minlength=len(grid))
    begun = np.bincount(at_entry, spells.n, minlength=len(grid))
    events = np.bincount(at_exit, spells.n * spells.event, minlength=len(grid))
    at_risk = np.r_[0.0, begun.cumsum()[:-1]] - np.r_[0.0, left.cumsum()[:-1]]
    present = begun.cumsum() - left.cumsum()  # just after each time
    with np.errstate(divide="ignore", invalid="ignore"):
        stay = np.where(at_risk - events > 0, 1 - (left - events) / (at_risk - events), 1.0)
        wait = np.where(present > 0, 1 - begun / present, 1.0)
    uncensored = np.r_[1.0, np.cumprod(stay)]  # value just before grid[k] is at position k
    entered = np.r_[reverse_cumprod(wait), 1.0]  # entries at grid[k] and later are still to come just before grid[k]
    where = np.searchsorted(grid, times, side="left")
    return uncensored[where] * entered[where]


def reverse_cumprod(values: np.ndarray) -> np.ndarray:
    """Multiply from each position to the end."""
    return np.cumprod(values[::-1])[::-1]


class _SubdistributionSets(RiskSets):
    """Risk sets in which those who left for another cause stay on, with a weight."""

    def __init__(self, frame: pd.DataFrame, covariates: Sequence[str], cause: str):
        spells = read_spells(frame, [*covariates])
        own = spells.event & (frame["cause"].to_numpy(dtype=object) == cause)
        other = spells.event & ~own
        of_interest = Spells(spells.entry, spells.exit, own, spells.n)
        times = np.unique(spells.exit[own & (spells.n > 0)])
        after = np.searchsorted(times, spells.exit, side="right")
        self.fill(frame, of_interest, covariates, None, stay=other & (after < len(times)))
        factor = weight_factors(spells, np.r_[self.times, spells.exit])
        self.u, own_factor = factor[: len(self.times)], factor[len(self.times) :][self.rows]
        self.tail = (other & (after < len(times)))[self.rows]
        if (own_factor[self.tail] <= 0).any() or (self.u <= 0).any():
            raise FitError(
                "nobody was under observation at some early tenure, so late entry has no weight there; start at a "
                "tenure with more customers at risk"
            )
        self.after = after[self.rows][self.tail]
        self.c = 1 / own_factor[self.tail]

    def sums(self, r: np.ndarray, columns: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        at_risk, deaths = super().sums(r, columns)
        z = (self.z if columns is None else self.z[:, :columns])[self.tail]
        kept = z * (r[self.tail] * self.c)[:, None]
        joined = np.stack([np.bincount(self.after, column, minlength=self.bins) for column in kept.T], axis=1)
        return at_risk + self.u[:, None] * joined.cumsum(axis=0), deaths

    def through(self, values: np.ndarray) -> np.ndarray:
        out = super().through(values)
        scaled = self.u * values if values.ndim == 1 else self.u[:, None] * values
        gained = reverse_cumsum(scaled)[self.after]
        out[self.tail] += self.c * gained if values.ndim == 1 else self.c[:, None] * gained
        return out


def fine_gray(
    frame: pd.DataFrame, covariates: Sequence[str], cause: str, *, repeats: int = 200, seed: int = 0
) -> CoxFit:
    """Fit Fine and Gray's model: hazard ratios of the sub-distribution, whose sign is that of the effect on incidence.

    Parameters
    ----------
    frame : DataFrame
        ``exit``, ``event``, ``cause``; optional ``entry`` and ``n``.
    covariates : sequence of str
        Numeric columns, known at entry.
    cause : str
        The cause of interest; every other cause competes.
    repeats, seed : int
        Bootstrap resamples of customers, weights estimated anew in each, which give the covariance; 0 gives the
        model-based one, which ignores that the weights are estimated.

    Returns
    -------
    CoxFit
        With Breslow's treatment of ties; ``risk`` predicts incidence.

    Raises
    ------
    InputError, FitError
        No such cause; no competing exit is fine (the model is then Cox's).

    References
    ----------
    Fine and Gray (1999), JASA 94; Geskus (2011), Biometrics 67.
    """
    if "cause" not in frame.columns:
        raise InputError("Fine and Gray's model needs the column cause")
    names = list(covariates)
    found = set(frame.loc[frame["event"].astype(bool), "cause"])
    if cause not in found:
        raise InputError(f"nobody left for {cause!r}; causes are {', '.join(sorted(map(str, found)))}")
    fit, _ = fit_sets(_SubdistributionSets(frame, names, cause), names, "breslow")
    if not repeats:
        return fit
    need_events(fit.events, f"exits of cause {cause}")
    n, rng, start = read_spells(frame).n, np.random.default_rng(seed), fit.params.to_numpy()
    draws = np.empty((repeats, len(names)))
    for repeat in range(repeats):
        counts = resample(rng, n)
        again = _SubdistributionSets(frame.assign(n=counts)[counts > 0], names, cause)
        draws[repeat] = _newton(again, again.weight, "breslow", start * again.scale, 1e-2)[0] / again.scale
    return replace(fit, covariance=pd.DataFrame(np.atleast_2d(np.cov(draws, rowvar=False)), names, names))
