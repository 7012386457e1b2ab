"""PLS path models from moments alone: modes A and B, three inner schemes, consistent PLS, and a batched bootstrap.

A PLS fit needs the covariance matrix of the items and nothing else. So a bootstrap draws multinomial weights, turns
them into covariance matrices, and fits all of them at once; rows are never copied. Lohmoeller (1989) describes the
algorithm, Dijkstra and Henseler (2015) the consistent correction.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import LEVEL, sized
from crmresearch.estimators.inference import z as normal_z
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import correlations, covariance

SCHEMES = ("centroid", "factorial", "path")
# squared change of the weights (published fits stop at 1e-6); where nothing is related weights settle slowly, if at all
TOLERANCE, MAX_ITERATIONS = 1e-12, 2000
ADMISSIBLE = 1e-6  # smallest eigenvalue of the correlations of latent variables
FOLDS = 10  # of prediction out of sample
CALM = 60  # rounds after which swinging fits are calmed


@dataclass(frozen=True)
class PLS:
    """A stack of PLS fits; the first axis of every array counts fits.

    Attributes
    ----------
    weights : array (b, items)
        Outer weights that give scores of unit variance.
    loadings : array (b, items)
        Correlation of each item with its own score (consistent loadings if asked for).
    scores : array (b, constructs, constructs)
        Correlations of the scores, disattenuated if ``consistent``.
    paths : array (b, constructs, constructs)
        Standardised paths; row *to*, column *from*. Missing in a consistent fit without an admissible solution.
    """

    model: PathModel
    weights: np.ndarray
    loadings: np.ndarray
    scores: np.ndarray
    paths: np.ndarray

    @cached_property
    def r2(self) -> np.ndarray:
        """Explained variance of each construct, (b, constructs); 0 where no path ends."""
        return np.einsum("bij,bij->bi", self.paths, self.scores)

    @cached_property
    def total(self) -> np.ndarray:
        """Total effects, direct and indirect, (b, constructs, constructs)."""
        eye = np.eye(self.paths.shape[1])
        return np.linalg.inv(eye - self.paths) - eye

    @cached_property
    def ave(self) -> np.ndarray:
        """Average variance extracted, (b, constructs)."""
        squares = self.loadings**2
        return np.stack([squares[:, self.model.block == k].mean(axis=1) for k in range(len(self.model.names))], axis=1)

    @cached_property
    def gof(self) -> np.ndarray:
        """Goodness of fit of Tenenhaus, Amato and Esposito Vinzi (2004): root of mean communality x mean R squared."""
        ends = self.model.adjacency.sum(axis=1) > 0
        return np.sqrt((self.loadings**2).mean(axis=1) * self.r2[:, ends].mean(axis=1))

    @cached_property
    def admissible(self) -> np.ndarray:
        """Which fits have an admissible solution, (b,)."""
        return ~np.isnan(self.paths).any(axis=(1, 2))

    def path(self, *route: str) -> np.ndarray:
        """Product of the paths along a route of constructs, (b,)."""
        at = [self.model.names.index(c) for c in route]
        return np.prod([self.paths[:, b, a] for a, b in itertools.pairwise(at)], axis=0)

    def effect(self, source: str, target: str) -> np.ndarray:
        """Total effect of one construct on another, (b,)."""
        return self.total[:, self.model.names.index(target), self.model.names.index(source)]


def fit_pls(
    cov: np.ndarray,
    model: PathModel,
    *,
    scheme: str = "centroid",
    scaled: bool = True,
    consistent: bool = False,
    like: PLS | None = None,
) -> PLS:
    """Fit a PLS path model to one covariance matrix or to a stack of them.

    Parameters
    ----------
    cov : array, shape (p, p) or (b, p, p)
        Covariance of ``model.items``, in that order.
    model : PathModel
    scheme : {'centroid', 'factorial', 'path'}
        Inner weights: sign of the score correlations, the correlations, or regression on predecessors and correlation
        with successors.
    scaled : bool
        True divides every item by its own standard deviation; False uses items in their own units (scores have unit
        variance in both).
    consistent : bool
        Disattenuate score correlations by rho A (needs ``scaled``).
    like : PLS, optional
        A fit whose signs the new ones take, construct by construct; a resample's sign is arbitrary.

    Raises
    ------
    InputError
        Unknown scheme, consistent without scaled, a matrix that does not match the model.
    FitError
        When the weights of no fit settle.
    """
    if scheme not in SCHEMES:
        raise InputError(f"scheme {scheme!r} is unknown; choose one of {', '.join(SCHEMES)}")
    if consistent and not scaled:
        raise InputError("consistent PLS is defined on standardised items; use scaled=True")
    stack = np.atleast_3d(cov.T).T if cov.ndim == 2 else cov
    if stack.shape[1:] != (len(model.items),) * 2:
        raise InputError(f"the matrix is {stack.shape[1:]}, the model has {len(model.items)} items")
    corr = correlations(stack)
    sigma = corr if scaled else stack
    member = model.member
    weights = _outer_weights(sigma, model, scheme)
    cross = sigma @ (weights[:, :, None] * member)  # covariance of items with scores
    sd = np.sqrt(np.diagonal(sigma, axis1=1, axis2=2))
    loadings = np.take_along_axis(cross, model.block[None, :, None], axis=2)[:, :, 0] / sd
    # a score points the way most of its items point; a resample points the way the original does
    guide = np.sign(loadings) if like is None else loadings * like.loadings[0]
    sign = np.where(guide @ member < 0, -1.0, 1.0)
    weights, loadings = weights * sign[:, model.block], loadings * sign[:, model.block]
    scores = np.swapaxes(weights[:, :, None] * member, 1, 2) @ sigma @ (weights[:, :, None] * member)
    if consistent:
        rho, loadings = _rho_a(corr, weights, loadings, model)
        root = np.sqrt(rho)
        scores = scores / (root[:, :, None] * root[:, None, :])
    eye = np.arange(scores.shape[1])
    scores[:, eye, eye] = 1.0
    paths = np.full(scores.shape, np.nan)
    # correlations of latent variables that no variables can have are no solution, and have no paths
    good = np.linalg.eigvalsh(scores)[:, 0] > ADMISSIBLE if consistent else np.ones(len(scores), dtype=bool)
    paths[good] = _paths(scores[good], model)
    return PLS(model, weights, loadings, scores, paths)


def _outer_weights(sigma: np.ndarray, model: PathModel, scheme: str) -> np.ndarray:
    """Iterate inner and outer weights of all fits together until the slowest settles."""
    link = model.adjacency + model.adjacency.T
    if not link.sum(axis=0).all():
        lonely = [c for c, k in zip(model.names, link.sum(axis=0), strict=True) if not k]
        raise InputError(f"construct {', '.join(lonely)} has no path; PLS weights come from neighbours")
    formative = [k for k, c in enumerate(model.names) if model.modes.get(c) == "B"]
    weights, member, variance = np.ones(sigma.shape[:2]), model.member, np.diagonal(sigma, axis1=1, axis2=2)
    out, last, inner = np.empty_like(weights), weights, np.empty((len(sigma), 0))
    todo = np.arange(len(sigma))
    for rounds in range(MAX_ITERATIONS + 1):
        own = weights[:, :, None] * member
        cross = sigma[todo] @ own
        scores = np.swapaxes(own, 1, 2) @ cross
        sd = np.sqrt(np.diagonal(scores, axis1=1, axis2=2))
        weights = weights / sd[:, model.block]
        if rounds:
            moved = ((np.abs(weights) - np.abs(last)) ** 2 * variance[todo]).sum(axis=1)
            done = moved < TOLERANCE
            out[todo[done]] = weights[done]
            keep = ~done
            todo, weights, cross, scores, sd = todo[keep], weights[keep], cross[keep], scores[keep], sd[keep]
            last, inner = last[keep], inner[keep]
            if not len(todo):
                return out
        cross = cross / sd[:, None, :]
        corr = scores / (sd[:, :, None] * sd[:, None, :])
        # near a correlation of 0 signs can flip for ever; from round CALM on they stay, and steps are halved
        if rounds < CALM or scheme != "centroid":
            inner = _inner(corr, model, link, scheme)
        last = weights
        proxy = cross @ np.swapaxes(inner, 1, 2)  # covariance of items with inner proxies
        weights = np.take_along_axis(proxy, model.block[None, :, None], axis=2)[:, :, 0]
        for k in formative:
            at = np.flatnonzero(model.block == k)
            weights[:, at] = np.linalg.solve(sigma[todo][:, at[:, None], at], weights[:, at, None])[:, :, 0]
        if rounds >= CALM:
            weights = _halfway(sigma[todo], weights, last, model)
    if len(todo) == len(sigma):
        raise FitError(f"the PLS weights did not settle in {MAX_ITERATIONS} rounds; try the factorial scheme")
    out[todo] = last  # single resamples that swing between two signs of a correlation near 0 keep their last weights
    return out


def _halfway(sigma: np.ndarray, weights: np.ndarray, last: np.ndarray, model: PathModel) -> np.ndarray:
    """Mean of new and old weights, both for scores of unit variance."""
    own = weights[:, :, None] * model.member
    sd = np.sqrt(np.diagonal(np.swapaxes(own, 1, 2) @ sigma @ own, axis1=1, axis2=2))
    return (weights / sd[:, model.block] + last) / 2


def _inner(corr: np.ndarray, model: PathModel, link: np.ndarray, scheme: str) -> np.ndarray:
    if scheme == "centroid":
        return np.sign(corr) * link
    if scheme == "factorial":
        return corr * link
    return corr * model.adjacency.T + _paths(corr, model)


def _paths(corr: np.ndarray, model: PathModel) -> np.ndarray:
    out = np.zeros_like(corr)
    for j, row in enumerate(model.adjacency):
        at = np.flatnonzero(row)
        if len(at):
            try:
                out[:, j, at] = np.linalg.solve(corr[:, at[:, None], at], corr[:, at, j, None])[:, :, 0]
            except np.linalg.LinAlgError:
                raise FitError(f"the predictors of {model.names[j]} are collinear; drop or merge constructs") from None
    return out


def _rho_a(
    corr: np.ndarray, weights: np.ndarray, loadings: np.ndarray, model: PathModel
) -> tuple[np.ndarray, np.ndarray]:
    rho = np.ones((len(corr), len(model.names)))
    loadings = loadings.copy()
    for k, name in enumerate(model.names):
        at = np.flatnonzero(model.block == k)
        if model.modes.get(name) == "B" or len(at) == 1:
            continue
        w = weights[:, at]
        square = (w**2).sum(axis=1)
        s = corr[:, at[:, None], at]
        off = np.einsum("bi,bij,bj->b", w, s, w) - square
        below = square**2 - (w**4).sum(axis=1)
        rho[:, k] = square**2 * off / below
        loadings[:, at] = w * (np.sqrt(np.maximum(rho[:, k], 1e-12)) / square)[:, None]
    return np.maximum(rho, 1e-12), loadings


def predict_folds(items: pd.DataFrame, model: PathModel, *, seed: int) -> pd.DataFrame:
    """Predict items of the last constructs out of sample, by the path model and by plain regression.

    PLSpredict (Shmueli and others 2016): scores of the constructs that nothing points to are carried along the paths to
    the items; the rival regresses each item on all items of those constructs.

    Returns
    -------
    DataFrame
        One row per item: ``q2`` (share of squared error saved against the training mean) with ``low`` and ``high``,
        which hold for all items at once, given the fitted folds; ``q2_regression``, ``n``.
    """
    x = items[list(model.items)].to_numpy(dtype=float)
    member = model.member
    exogenous = [k for k, row in enumerate(model.adjacency) if not row.any()]
    inputs = np.isin(model.block, exogenous)
    targets = np.flatnonzero(~inputs)
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    error = np.zeros((3, len(x), len(targets)))
    for f in range(FOLDS):
        train, test = x[fold != f], x[fold == f]
        mean, sd = train.mean(axis=0), train.std(axis=0)
        if not sd.all():
            raise InputError("an item has no variance in a training fold; too few answers differ")
        z, z_new = (train - mean) / sd, (test - mean) / sd
        sized(len(z), len(model.items))
        fit = fit_pls(covariance(z), model)
        own = fit.weights[0][:, None] * member
        score = z_new[:, inputs] @ own[inputs][:, exogenous]
        carried = score @ (np.eye(len(model.names)) + fit.total[0]).T[exogenous]
        path = carried[:, model.block[targets]] * fit.loadings[0][targets]
        slope = np.linalg.lstsq(z[:, inputs], z[:, targets], rcond=None)[0]
        for k, guess in enumerate((path, z_new[:, inputs] @ slope, np.zeros_like(path))):
            error[k][fold == f] = z_new[:, targets] - guess
    sse = (error**2).sum(axis=1)
    q2 = 1 - sse[0] / sse[2]
    influence = (error[0] ** 2 - (1 - q2) * error[2] ** 2) / sse[2]  # of a ratio of sums over respondents
    half = normal_z(1 - (1 - LEVEL) / len(targets)) * np.sqrt((influence**2).sum(axis=0))
    return pd.DataFrame(
        {
            "item": [model.items[t] for t in targets],
            "construct": [model.names[model.block[t]] for t in targets],
            "q2": q2,
            "low": q2 - half,
            "high": q2 + half,
            "q2_regression": 1 - sse[1] / sse[2],
            "n": len(x),
        }
    )
