"""Which option is chosen: conditional logit, what an attribute is worth in units of another, how much groups differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import (
    LEVEL,
    Fieller,
    by_cluster,
    complete,
    fieller,
    full_rank,
    ratio_delta,
    sized,
)

LARGEST = 35.0  # differences of utility beyond which probabilities are 0 and 1 to the last digit


@dataclass(frozen=True)
class Choice:
    """A fitted conditional logit.

    Attributes
    ----------
    names : tuple of str
        Attributes, in the order of ``params``.
    params : array
        Utility of one unit of each.
    covariance : array
        Of the coefficients; holds where the choices of one person are correlated.
    model_covariance : array
        Inverse information, which takes all choices for independent.
    loglik, loglik_null : float
        Of the fit, and with every option of a task equally likely.
    tasks, people : int
        Choices made, and persons who made them.
    """

    names: tuple[str, ...]
    params: np.ndarray
    covariance: np.ndarray
    model_covariance: np.ndarray
    loglik: float
    loglik_null: float
    tasks: int
    people: int

    def z(self, name: str) -> float:
        """Coefficient of an attribute over its error."""
        k = self.names.index(name)
        return float(self.params[k] / math.sqrt(self.covariance[k, k]))

    def worth(self, name: str, price: str) -> Worth:
        """What one unit of an attribute is worth in units of ``price``, whether that is wanted (a yield) or paid."""
        i, j, v = self.names.index(name), self.names.index(price), self.covariance
        sign = 1.0 if self.params[j] > 0 else -1.0
        parts = (self.params[i], sign * self.params[j], v[i, i], v[j, j], sign * v[i, j])
        value, se = ratio_delta(*parts)
        return Worth(float(value), float(se), fieller(*parts))


@dataclass(frozen=True)
class Worth:
    """Worth of an attribute: the ratio, its error by the delta method, and Fieller's set beside it."""

    value: float
    se: float
    fieller: Fieller


def conditional_logit(
    x: ArrayLike, chosen: ArrayLike, task: ArrayLike, person: ArrayLike | None = None, names: Sequence[str] = ()
) -> Choice:
    """Conditional logit by Newton's method, with errors clustered by person.

    Our own because statsmodels' ConditionalLogit is some hundred times slower (see `benchmarks`) and has no clustered
    errors. An option that was not on offer is a row that is not there; choosing nothing is an option
    of its own.

    Parameters
    ----------
    x : array, (options, attributes)
        One row per option of a task.
    chosen : array
        Whether the option was chosen; exactly one of each task.
    task : array
        Which task the option belongs to, in any order.
    person : array, optional
        Who chose; without it every task is a person of its own.
    names : sequence of str, optional
        Of the attributes.

    Raises
    ------
    InputError
        If values are missing, or a task has no choice, several, or a single option.
    RankError
        If attributes do not vary within tasks, or are combinations of others there, by name.
    FitError
        If attributes decide every choice, or Newton's method does not settle.

    References
    ----------
    McFadden (1974), in Zarembka (ed.), *Frontiers in Econometrics*, 105-142. Errors: Cameron and Miller (2015),
    *Journal of Human Resources* 50, 317-372.
    """
    x, y = complete(attributes=x, chosen=chosen)
    names = tuple(names) or tuple(f"attribute {i + 1}" for i in range(x.shape[1]))
    code = np.unique(np.asarray(task), return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    x, y, code = x[order], y[order] != 0, code[order]
    start = np.flatnonzero(np.diff(code, prepend=-1))
    size = np.diff(start, append=len(code))
    _one_each(size, np.add.reduceat(y.astype(int), start))
    x = x - (np.add.reduceat(x, start) / size[:, None])[code]  # only differences within a task tell
    full_rank(x, names)
    sized(len(start), len(names))
    b = step = np.zeros(x.shape[1])
    before = -float(np.log(size).sum())
    for _ in range(50):
        loglik, score, information = _derivatives(x, y, code, start, b)
        if loglik < before - 1e-9 * abs(before):  # a step too far
            b, step = b - step / 2, step / 2
            continue
        try:
            step, before = np.linalg.solve(information, score.sum(axis=0)), loglik
        except np.linalg.LinAlgError:  # every probability is 0 or 1
            break
        if np.abs(x @ (b + step)).max() > LARGEST:
            break
        b = b + step
        if np.abs(step).max() < 1e-9 * max(1.0, np.abs(b).max()):
            return _fit(names, x, y, code, start, b, None if person is None else np.asarray(person)[order][start])
    raise FitError("the attributes decide every choice; use fewer of them, or more choices")


def _one_each(size: np.ndarray, picked: np.ndarray) -> None:
    for bad, what in ((size < 2, "a single option"), (picked == 0, "no choice"), (picked > 1, "several choices")):
        if bad.any():
            raise InputError(f"{bad.sum():,} of {len(size):,} choice tasks have {what}; each needs one among several")


def _derivatives(
    x: np.ndarray, y: np.ndarray, code: np.ndarray, start: np.ndarray, b: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log-likelihood, scores by task, and information."""
    u = x @ b
    u -= np.maximum.reduceat(u, start)[code]
    p = np.exp(u)
    total = np.add.reduceat(p, start)
    p /= total[code]
    weighted = x * p[:, None]
    mean = np.add.reduceat(weighted, start)
    return float((u[y] - np.log(total)).sum()), x[y] - mean, x.T @ weighted - mean.T @ mean


def _fit(
    names: tuple[str, ...], x: np.ndarray, y: np.ndarray, code: np.ndarray, start: np.ndarray, b: np.ndarray,
    person: np.ndarray | None,
) -> Choice:  # fmt: skip
    loglik, score, information = _derivatives(x, y, code, start, b)
    bread = np.linalg.inv(information)
    people = len(start) if person is None else len(np.unique(person))
    meat = by_cluster(score, person) * (people / (people - 1) if people > 1 else math.nan)
    null = -float(np.log(np.diff(start, append=len(code))).sum())
    return Choice(names, b, bread @ meat @ bread, bread, loglik, null, len(start), people)


# --- how much groups differ -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a quantity between groups beyond what sampling alone makes.

    Attributes
    ----------
    value, low, high : float
        Estimate and 95% interval, in the unit of the quantity.
    p : float
        Of equal groups (Cochran's Q).
    """

    value: float
    low: float
    high: float
    p: float


def spread(value: ArrayLike, se: ArrayLike) -> Spread:
    """Estimate how much independent groups differ: Paule and Mandel's estimate, with the interval of Q profiles.

    Raises
    ------
    InputError
        With fewer than two groups, or an error that is not above 0.

    References
    ----------
    Paule and Mandel (1982), *J. Res. Natl. Bur. Stand.* 87, 377-385; Viechtbauer (2007), *Statistics in Medicine* 26,
    37-52.
    """
    from scipy.optimize import brentq
    from scipy.stats import chi2

    y, s = complete(value=value, se=se)
    if len(y) < 2 or (s <= 0).any():
        raise InputError("a spread needs at least two groups, each with an error above 0")

    def q(square: float) -> float:
        w = 1 / (s**2 + square)
        return float((w * (y - (w @ y) / w.sum()) ** 2).sum())

    def where(level: float) -> float:
        if q(0.0) <= level:
            return 0.0
        top = float(np.ptp(y) ** 2 + (s**2).max())
        while q(top) > level:
            top *= 4
        return math.sqrt(brentq(lambda t: q(t) - level, 0.0, top, xtol=1e-12 * top))

    df, tail = len(y) - 1, (1 - LEVEL) / 2
    return Spread(where(df), where(chi2.isf(tail, df)), where(chi2.ppf(tail, df)), float(chi2.sf(q(0.0), df)))
