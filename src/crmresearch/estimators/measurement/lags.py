"""Which way effects run: regressions between waves with the error of the scores taken off, and mediation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crmresearch.errors import FitError
from crmresearch.estimators.measurement.factors import reliabilities
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import correlations, resampled_correlations

APART = 0.02  # smallest eigenvalue of the correlations of constructs that are clearly different things


@dataclass(frozen=True)
class Lagged:
    """Slopes of later on earlier scores, (draws, before, after); reliabilities; share of draws with distinct scores.

    The first draw is the data themselves.
    """

    slopes: np.ndarray
    omega: np.ndarray
    distinct: float


def lagged_slopes(
    x: np.ndarray, before: Sequence[int], after: Sequence[int], *, resamples: int, seed: int, cluster: np.ndarray
) -> Lagged:
    """Regress scores of later items on all scores of earlier ones, as they would be without error of measurement.

    Parameters
    ----------
    x : array
        Items, block by block: earlier blocks first, then later ones.
    before, after : sequence of int
        Sizes of the blocks.
    cluster : array
        Rows that are drawn together.
    """
    sizes = [*before, *after]
    stack = resampled_correlations(x, resamples, seed, cluster=cluster)
    block = np.repeat(np.arange(len(sizes)), sizes)
    places = [np.flatnonzero(block == k) for k in range(len(sizes))]
    omega = np.stack([reliabilities(stack[:, at[:, None], at])["omega"] for at in places], axis=1)
    member = np.eye(len(sizes))[block]
    true = correlations(member.T @ stack @ member)
    root = np.sqrt(np.nan_to_num(omega, nan=1.0))  # a single item is taken as it stands
    true = true / (root[:, :, None] * root[:, None, :])
    eye, first = np.arange(len(sizes)), np.arange(len(before))
    true[:, eye, eye] = 1
    inner = true[:, first[:, None], first]
    try:
        slopes = np.linalg.solve(inner, true[:, first, len(before) :])
    except np.linalg.LinAlgError:
        raise FitError("constructs of the earlier wave coincide; drop or merge constructs") from None
    return Lagged(slopes, omega, float((np.linalg.eigvalsh(inner)[:, 0] > APART).mean()))


@dataclass(frozen=True)
class Mediation:
    """Standardised effects along a chain, each over draws (the first is the data), and how fragile they are.

    ``rho`` is the correlation of the disturbances of mediator and outcome at which the indirect effect is 0 (Imai,
    Keele and Tingley 2010): that of the residuals given the cause, without the mediator.
    """

    to_mediator: np.ndarray
    to_outcome: np.ndarray
    direct: np.ndarray
    rho: np.ndarray
    spread: float

    @property
    def indirect(self) -> np.ndarray:
        """Product of the two legs."""
        return self.to_mediator * self.to_outcome

    def under(self, assumed: np.ndarray) -> np.ndarray:
        """Indirect effect if the disturbances were correlated at each of some values."""
        rho = self.rho[0]
        left = rho - assumed * np.sqrt((1 - rho**2) / (1 - assumed**2))
        return np.asarray(self.to_mediator[0] * self.spread * left)


def mediation_effects(
    x: np.ndarray, model: PathModel, chain: tuple[str, str, str], *, resamples: int, seed: int
) -> Mediation:
    """Effects of a cause through a mediator, by least squares on scores, other predictors of both held equal."""
    cause, through, outcome = chain
    held = {*model.predictors(through), *model.predictors(outcome)} - {cause, through}
    names = [cause, *sorted(held), through, outcome]
    member = model.member[:, [model.names.index(c) for c in names]]
    r = correlations(member.T @ resampled_correlations(x, resamples, seed) @ member)
    m, y, c = len(names) - 2, len(names) - 1, np.arange(len(names) - 2)
    given = r[:, c[:, None], c]
    to_m = np.linalg.solve(given, r[:, c, m, None])[:, :, 0]
    to_y = np.linalg.solve(given, r[:, c, y, None])[:, :, 0]
    with_m = np.arange(m + 1)
    full = np.linalg.solve(r[:, with_m[:, None], with_m], r[:, with_m, y, None])[:, :, 0]
    var_m = 1 - (to_m * r[:, c, m]).sum(axis=1)
    var_y = 1 - (to_y * r[:, c, y]).sum(axis=1)
    rho = (r[:, m, y] - (to_m * r[:, c, y]).sum(axis=1)) / np.sqrt(var_m * var_y)
    return Mediation(to_m[:, 0], full[:, m], full[:, 0], rho, float(np.sqrt(var_y[0] / var_m[0])))
