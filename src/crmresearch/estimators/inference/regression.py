"""What every regression needs: complete and independent columns, a spline, a logit, errors that hold by cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crmresearch.errors import FitError, InputError, RankError
from crmresearch.estimators.inference.intervals import from_draws

FOLDS = 5  # of rows that a fit did not see
RANK_TOLERANCE = 1e-9  # part of a column, of its own length, that the columns before it do not explain


def complete(**arrays: ArrayLike) -> list[np.ndarray]:
    """Return arrays as numbers, in the order given; refuse missing and infinite values by name.

    Raises
    ------
    InputError
        With the name of the array and the number of its rows that are missing.
    """
    out = []
    for name, array in arrays.items():
        values = np.asarray(array, dtype=float)
        bad = int((~np.isfinite(values)).any(axis=tuple(range(1, values.ndim))).sum())
        if bad:
            raise InputError(f"{name} is missing or infinite in {bad} of {len(values)} rows; drop or fill them first")
        out.append(values)
    return out


_FITTED: ContextVar[set[tuple[float, ...]] | None] = ContextVar("fitted", default=None)


@contextmanager
def sizes() -> Iterator[set[tuple[float, ...]]]:
    """Collect how large each model is that is fitted meanwhile; see :func:`sized`."""
    found: set[tuple[float, ...]] = set()
    before = _FITTED.set(found)
    try:
        yield found
    finally:
        _FITTED.reset(before)


def sized(n: float, parameters: int, events: float | None = None) -> None:
    """Put down the size of a model that is fitted: rows and parameters, and events where it counts those."""
    found = _FITTED.get()
    if found is not None:
        found.add((float(n), int(parameters), *(() if events is None else (float(events),))))


def full_rank(x: np.ndarray, names: Sequence[str] = ()) -> None:
    """Refuse missing values, and columns that are combinations of others.

    Parameters
    ----------
    x : array, (rows, columns)
        Design matrix, its constant included.
    names : sequence of str, optional
        Of the columns; their numbers when absent.

    Raises
    ------
    InputError
        Naming the column with missing values.
    RankError
        Naming the columns and those they are made of.

    References
    ----------
    Golub and Van Loan (2013), *Matrix Computations*, 5.3: least squares by QR, on columns of equal length.
    """
    names = list(names) or [f"column {i + 1}" for i in range(x.shape[1])]
    complete(**dict(zip(names, x.T, strict=True)))
    length = np.sqrt(np.einsum("ij,ij->j", x, x))
    empty = [name for name, size in zip(names, length, strict=True) if not size > 0]
    if empty:
        raise RankError(f"{', '.join(empty)} {'is' if len(empty) == 1 else 'are'} zero in every row; leave out")
    if np.linalg.eigvalsh((x.T @ x) / np.outer(length, length))[0] > 1e-8:  # far from it: the square is good enough
        return
    r: Any = np.linalg.qr(x / length, mode="r")  # numpy's stubs take it for a tuple
    kept: list[int] = []
    words: list[str] = []
    for j in range(x.shape[1]):  # in their own order, so that rounding does not choose which column is named
        made_of = np.linalg.lstsq(r[:, kept], r[:, j], rcond=None)[0]
        if np.linalg.norm(r[:, j] - r[:, kept] @ made_of) > RANK_TOLERANCE:
            kept.append(j)
            continue
        parts = ", ".join(names[k] for k, c in zip(kept, made_of, strict=True) if abs(c) > 1e-6)
        words.append(f"{names[j]} = combination of {parts}")
    if not words:
        return
    raise RankError(
        f"{len(words)} of {x.shape[1]} columns are collinear with others: {'; '.join(words)}; leave one of each out"
    )


def tied_groups(values: np.ndarray, groups: int, n: np.ndarray | None = None) -> np.ndarray:
    """Cut ranks into groups of about equal size, and keep equal values together.

    Parameters
    ----------
    values : array
        What is ranked, lowest first.
    groups : int
        Number of groups; some may stay empty where many values are equal.
    n : array, optional
        Identical rows that each row stands for.

    Returns
    -------
    array of int
        Group of each row, from 0: where the middle rank of its value falls.
    """
    (values,) = complete(values=values)
    _, level = np.unique(values, return_inverse=True)
    size = np.bincount(level, n)
    middle = np.cumsum(size) - size / 2
    return np.minimum((middle / size.sum() * groups).astype(int), groups - 1)[level]


def natural_spline(values: ArrayLike, knots: ArrayLike) -> np.ndarray:
    """Natural cubic spline basis: linear beyond the outer knots, one column per knot but one.

    Parameters
    ----------
    values : array
        Covariate.
    knots : array
        At least three, increasing, the outer ones included.

    References
    ----------
    Harrell (2015), *Regression Modeling Strategies*, 2.4.
    """
    k, x = np.asarray(knots, dtype=float), np.asarray(values, dtype=float)
    if len(k) < 3 or (np.diff(k) <= 0).any():
        raise InputError("a natural spline needs at least three increasing knots")

    def cube(knot: float) -> np.ndarray:
        return np.maximum(x - knot, 0.0) ** 3

    span = k[-1] - k[-2]
    columns = [x]
    for knot in k[:-2]:
        columns.append(
            (cube(knot) - cube(k[-2]) * (k[-1] - knot) / span + cube(k[-1]) * (k[-2] - knot) / span)
            / (k[-1] - k[0]) ** 2
        )
    return np.column_stack(columns)


@dataclass(frozen=True)
class LogitFit:
    """A fitted logistic regression.

    Attributes
    ----------
    params : array
        Coefficients.
    covariance : array
        Of the coefficients, robust (HC0).
    fitted : array
        Probability of each row.
    """

    params: np.ndarray
    covariance: np.ndarray
    fitted: np.ndarray

    @property
    def se(self) -> np.ndarray:
        """Robust standard errors of the coefficients."""
        return np.sqrt(np.diag(self.covariance))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probability for the rows of a design matrix."""
        from scipy.special import expit

        return np.asarray(expit(x @ self.params))


def logit_fit(
    x: np.ndarray,
    y: np.ndarray,
    *,
    n: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    ridge: float = 0.0,
    nuisance: bool = False,
) -> LogitFit:
    """Logistic regression by Newton's method; robust errors.

    Our own, because studies fit it in folds and resamples, where it takes a quarter of the time of statsmodels' GLM.

    Parameters
    ----------
    x : array, (rows, columns)
        Design matrix, its constant included.
    y : array
        0 or 1.
    n : array, optional
        Identical rows that each row stands for: estimate and errors are those of the rows written out.
    weights : array, optional
        Sampling or censoring weight of one row; errors know that it is no count.
    offset : array, optional
        Added to the linear predictor.
    ridge : float
        Penalty on squared coefficients, per unit of weight; keeps separated columns finite.
    nuisance : bool
        Whether it is a part of another estimator, and its coefficients are not told: its events are not put down.

    Raises
    ------
    FitError
        If the covariates separate the outcomes (without a ridge), or Newton's method does not settle.

    References
    ----------
    McCullagh and Nelder (1989), *Generalized Linear Models*, 4.4; White (1982), *Econometrica* 50, 1-25.
    """
    from scipy.special import expit

    x, y = complete(x=x, y=y)
    if not ridge:
        full_rank(x)
    n = np.ones(len(y)) if n is None else n
    sized(n.sum(), x.shape[1], None if ridge or nuisance else min(n @ y, n @ (1 - y)))
    w = n if weights is None else n * weights
    base = np.zeros(len(y)) if offset is None else offset
    penalty = ridge * w.sum() * np.eye(x.shape[1])
    b = np.zeros(x.shape[1])
    for _ in range(60):
        p = expit(x @ b + base)
        residual = w * (y - p)
        bread = (x * (w * p * (1 - p))[:, None]).T @ x + penalty
        try:
            step = np.linalg.solve(bread, x.T @ residual - penalty @ b)
        except np.linalg.LinAlgError:
            break
        if np.abs(step).max() < 1e-9:
            inverse = np.linalg.inv(bread)
            meat = (x * (residual**2 / np.maximum(n, 1e-300))[:, None]).T @ x
            return LogitFit(b + step, inverse @ meat @ inverse, expit(x @ (b + step) + base))
        b = b + step
        if not ridge and np.abs(x @ b).max() > 35:  # probabilities of 0 and 1 to the last digit
            break
    raise FitError("the outcome is a function of the covariates; use fewer covariates or more data")


def robust_ols(x: np.ndarray, y: np.ndarray, cluster: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with HC3 covariance, by cluster if given.

    Residuals are divided by 1 - leverage before they are summed by cluster: a few rows with large money would otherwise
    pull the fit towards themselves and hide the error that they make.

    Returns
    -------
    coefficients, covariance : array

    References
    ----------
    MacKinnon and White (1985). *Journal of Econometrics* 29, 305-325; by cluster: Bell and McCaffrey (2002).
    """
    x, y = complete(x=x, y=y)
    full_rank(x)
    sized(len(y), x.shape[1])
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ (x.T @ y)
    leverage = np.einsum("ij,jk,ik->i", x, bread, x)
    scores = x * ((y - x @ beta) / (1 - leverage))[:, None]
    return beta, bread @ by_cluster(scores, cluster) @ bread


def by_cluster(influence: np.ndarray, cluster: np.ndarray | None) -> np.ndarray:
    """Covariance of sums over rows whose contributions are correlated within clusters."""
    sums = influence.reshape(len(influence), -1)
    if cluster is not None:
        codes = np.unique(cluster, return_inverse=True)[1]
        sums = np.stack([np.bincount(codes, weights=c) for c in sums.T], axis=1)
    return np.asarray(sums.T @ sums)


def levels(values: pd.Series) -> np.ndarray:
    """One column a value, the first one left out."""
    return pd.get_dummies(values, drop_first=True).to_numpy(float)


def rates(
    x: np.ndarray, events: ArrayLike, exposure: ArrayLike, clusters: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Log-linear rates of events per exposure, with the largest of the errors that several clusterings give.

    Errors are those of the jackknife by cluster, in one step each: few or uneven clusters hardly shorten them.

    Parameters
    ----------
    x : array, (cells, columns)
        A constant among them, or columns that sum to one.
    events, exposure : array, (cells,)
    clusters : sequence of array
        One that has a single value tells nothing and is passed over.

    Returns
    -------
    coefficients, standard errors : array

    Raises
    ------
    InputError
        If columns are combinations of others.
    FitError
        If the likelihood has no maximum that can be reached.

    References
    ----------
    McCullagh and Nelder (1989). *Generalized Linear Models*, 6. MacKinnon, Nielsen and Webb (2023). *Journal of
    Econometrics* 232, 272-299.
    """
    x, y, time = complete(x=x, events=events, exposure=exposure)
    full_rank(x)
    sized(y.sum(), x.shape[1], y.sum())
    b = np.linalg.solve(x.T @ x, x.sum(axis=0) * np.log(y.sum() / time.sum()))
    for _ in range(50):
        mu = time * np.exp(x @ b)
        step = np.linalg.solve(x.T @ (x * mu[:, None]), x.T @ (y - mu))
        b = b + step
        if np.abs(step).max() < 1e-9:
            break
    else:
        raise FitError("a model of rates did not settle; some of its groups have too few events")
    return b, np.sqrt(np.max([_left_out(x, y, mu, c) for c in clusters if len(np.unique(c)) > 1], axis=0))


def _left_out(x: np.ndarray, y: np.ndarray, mu: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Jackknife variances by cluster; a constant of the cluster's own goes with it."""
    code = np.unique(cluster, return_inverse=True)[1]
    groups = [np.flatnonzero(code == g) for g in range(code.max() + 1)]
    weighted = x * mu[:, None]
    whole, score = x.T @ weighted, x * (y - mu)[:, None]
    moved = [np.linalg.pinv(whole - x[r].T @ weighted[r], hermitian=True) @ score[r].sum(axis=0) for r in groups]
    return np.asarray((1 - 1 / len(groups)) * np.square(moved).sum(axis=0))


def held_out_r2(y: np.ndarray, blocks: Mapping[str, np.ndarray], *, seed: int, repetitions: int) -> pd.DataFrame:
    """R squared on rows a least-squares fit did not see, as blocks of columns (and their squares) are added.

    Folds are dealt at random; the interval is a percentile bootstrap over the rows' squared errors.

    Parameters
    ----------
    y : array
        Outcome.
    blocks : mapping of str to array, (rows, columns)
        In the order in which they are added.
    seed, repetitions : int
        Of folds and resamples.

    Returns
    -------
    DataFrame
        ``block, n, r_squared, ci_low, ci_high``; ``gain``, with ``gain_se``, ``gain_low`` and ``gain_high``, over the
        blocks before, from the same rows.
    """
    rng, n = np.random.default_rng(seed), len(y)
    fold = rng.permutation(n) % FOLDS
    # kept as single precision: counts are small, and there is one a row and resample
    weights = rng.multinomial(n, np.full(n, 1 / n), size=repetitions).astype(np.float32)
    centred = (y - y.mean()) ** 2
    total, whole = centred.sum(), weights @ centred
    x, rows, before = np.ones((n, 1)), [], centred
    for name, columns in blocks.items():
        x = np.column_stack([x, columns, columns**2])
        sized(n - n // FOLDS, x.shape[1])
        error = np.empty(n)
        for k in range(FOLDS):
            beta, *_ = np.linalg.lstsq(x[fold != k], y[fold != k], rcond=None)
            error[fold == k] = (y[fold == k] - x[fold == k] @ beta) ** 2
        _, *span = from_draws(1 - (weights @ error) / whole)
        more = before - error
        rows.append((name, n, 1 - error.sum() / total, *span, more.sum() / total, *from_draws(weights @ more / whole)))
        before = error
    names = ("block", "n", "r_squared", "ci_low", "ci_high", "gain", "gain_se", "gain_low", "gain_high")
    return pd.DataFrame(rows, columns=names)
