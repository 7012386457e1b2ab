"""Covariance structure models through semopy: fit indices, standardised paths, directions the data do not identify."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError, NotApplicable
from crmresearch.estimators.inference import LEVEL, complete, sized
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import correlations, covariance, resampled_covariances

ROUNDS, SETTLED = 120, 1e-7  # of scoring; the decrement of the discrepancy at which it ends
BATCH = 16  # resamples fitted together; more no longer fit into the cache
TOLERANCE = 0.01  # share of a path's information that other parameters do not take away


@dataclass(frozen=True)
class SEM:
    """Fit indices and paths of a covariance structure model.

    Attributes
    ----------
    indices : dict
        n, chi2, df, p, cfi, tli, rmsea with its 95% interval, srmr, bic (chi-square plus parameters times log n).
    paths : DataFrame
        source, target, estimate, se, standardised, standardised_se, tolerance, identified. ``tolerance`` is
        1 / (I_jj V_jj) with I the expected information and V its inverse, the analogue of 1 / VIF: near 0 other
        parameters can imitate the path, and its value is arbitrary. ``standardised_se`` knows that the
        standard deviations of the constructs are estimated as well (delta method).
    values : array
        All parameters, in the order :func:`bootstrap_sem` starts from; empty for a factor model.
    """

    indices: dict[str, float]
    paths: pd.DataFrame
    values: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)


def _measurement(model: PathModel) -> str:
    single = [c for c, items in model.constructs.items() if len(items) == 1]
    if single:
        raise NotApplicable(f"{', '.join(single)} has one item, whose error a covariance model cannot estimate")
    return "\n".join(f"{c} =~ {' + '.join(items)}" for c, items in model.constructs.items())


def _srmr(sample: np.ndarray, implied: np.ndarray) -> float:
    sd = np.sqrt(np.diag(sample))
    residual = (sample - implied) / np.outer(sd, sd)
    return float(np.sqrt((residual[np.tril_indices(len(sd))] ** 2).mean()))


def _cfi(stats: pd.Series) -> float:
    """Comparative fit index by its definition, from noncentralities at 0 or above: never over 1 (Bentler 1990)."""
    own = max(float(stats["chi2"] - stats["DoF"]), 0.0)
    most = max(float(stats["chi2 Baseline"] - stats["DoF Baseline"]), own)
    return 1 - own / most if most > 0 else 1.0


def _better(stats: pd.Series, gain: float, n: int) -> pd.Series:
    """Return the indices of a fit whose chi-square is lower by so much, by their definitions."""
    from scipy.stats import chi2

    found, df = float(stats["chi2"]) - gain, float(stats["DoF"])
    base = float(stats["chi2 Baseline"]) / float(stats["DoF Baseline"])
    own = {"chi2": found, "chi2 p-value": chi2.sf(found, df), "TLI": (base - found / df) / (base - 1)}
    return pd.Series({**stats, **own, "RMSEA": np.sqrt(max(found - df, 0.0) / (df * (n - 1)))})


def _rmsea_interval(chi2: float, df: int, n: int) -> dict[str, float]:
    """Interval of RMSEA: the noncentralities under which chi-square lies at either tail (Browne and Cudeck 1992)."""
    from scipy.optimize import brentq
    from scipy.stats import ncx2

    ends = []
    for tail in ((1 + LEVEL) / 2, (1 - LEVEL) / 2):
        found = 0.0
        if ncx2.cdf(chi2, df, 1e-9) > tail:
            found = brentq(lambda nc, tail=tail: ncx2.cdf(chi2, df, nc) - tail, 1e-9, 4 * chi2 + 100)
        ends.append(float(np.sqrt(found / (df * (n - 1)))))
    return {"rmsea_low": ends[0], "rmsea_high": ends[1]}


def fit_sem(items: pd.DataFrame, model: PathModel, *, structural: bool = True) -> SEM:
    """Fit by maximum likelihood (Wishart).

    Parameters
    ----------
    items : DataFrame
        Numeric items without missing values.
    model : PathModel
        All blocks reflective.
    structural : bool
        False frees all construct correlations: the confirmatory factor model.

    Raises
    ------
    InputError
        For formative blocks, which a covariance model of this kind does not have.
    FitError
        When the likelihood does not converge.
    """
    import semopy

    if "B" in model.modes.values():
        raise InputError("formative blocks (mode B) have no covariance structure model here; use fit_pls")
    complete(**{i: items[i] for i in model.items})
    sized(len(items), len(model.items))
    text = _measurement(model)
    if structural:
        text += "\n" + "\n".join(f"{c} ~ {' + '.join(model.predictors(c))}" for c in model.names if model.predictors(c))
    fitted = semopy.Model(text)
    result = fitted.fit(items[list(model.items)])
    if not result.success or not np.isfinite(result.fun):
        raise FitError(
            f"the covariance model did not converge ({result.message}); look at HTMT and at small constructs"
        )
    stats = semopy.calc_stats(fitted).iloc[0]
    n, sample, implied = len(items), fitted.mx_cov, fitted.calc_sigma()[0]
    if structural:  # semopy calls settled what is not where items hardly err: a path .64 for .61
        at, start = _Layout(model), _values(fitted, model)
        cov = covariance(items[list(model.items)].to_numpy(dtype=float))[None]
        values, settled = _scoring(cov, at, start)
        if not settled[0]:
            raise FitError("the covariance model did not settle; look at HTMT and at small constructs")
        gain = n * float((_likelihood(cov, at, start[None])[0] - _likelihood(cov, at, values)[0])[0])
        if gain > 1e-3:  # else the library's own, to the digits that are shown
            stats, sample, implied = _better(stats, gain, n), cov[0], at.implied(values)[0]
    indices = {
        "n": n,
        "chi2": float(stats["chi2"]),
        "df": int(stats["DoF"]),
        "p": float(stats["chi2 p-value"]),
        "cfi": _cfi(stats),
        "tli": float(stats["TLI"]),
        "rmsea": float(stats["RMSEA"]),
        **_rmsea_interval(float(stats["chi2"]), int(stats["DoF"]), n),
        "srmr": _srmr(sample, implied),
        "bic": float(stats["chi2"]) + len(fitted.param_vals) * np.log(n),
    }
    if not structural:
        return SEM(indices, pd.DataFrame())
    return SEM(indices, _paths(items, model, values[0]), values[0])


def _values(fitted: Any, model: PathModel) -> np.ndarray:
    """Take the parameters out of semopy's matrices, in the order of :class:`_Layout`."""
    items, names, at = list(model.items), list(model.names), _Layout(model)
    loadings = pd.DataFrame(fitted.mx_lambda, *fitted.names_lambda).loc[items, names].to_numpy()
    beta = pd.DataFrame(fitted.mx_beta, *fitted.names_beta).loc[names, names].to_numpy()
    psi = pd.DataFrame(fitted.mx_psi, *fitted.names_psi).loc[names, names].to_numpy()
    theta = pd.DataFrame(fitted.mx_theta, *fitted.names_theta).loc[items, items].to_numpy()
    return np.concatenate([loadings[at.loading], beta[at.path], psi[at.psi], np.diag(theta)])


def _paths(items: pd.DataFrame, model: PathModel, values: np.ndarray) -> pd.DataFrame:
    """Paths with errors from the expected information; those of standardised paths by the delta method."""
    at, n = _Layout(model), len(items)
    cov = covariance(items[list(model.items)].to_numpy(dtype=float))[None]
    information = n / 2 * _likelihood(cov, at, values[None])[2][0]
    root = np.sqrt(np.diag(information))
    size, axes = np.linalg.eigh(information / np.outer(root, root))
    # a direction the data say nothing about keeps a variance, if a huge one
    inverse = (axes / np.maximum(size, 1e-12)) @ axes.T / np.outer(root, root)
    own = at.parts[1]
    step = 1e-5 * np.eye(len(values))
    slope = (at.standardised_paths(values + step) - at.standardised_paths(values - step)) / 2e-5
    tolerance = 1 / (np.diag(information) * np.diag(inverse))[own]
    return pd.DataFrame(
        {
            "source": [a for a, _ in model.paths],
            "target": [b for _, b in model.paths],
            "estimate": values[own],
            "se": np.sqrt(np.diag(inverse)[own]),
            "standardised": at.standardised_paths(values[None])[0],
            "standardised_se": np.sqrt(np.einsum("kp,kl,lp->p", slope, inverse, slope)),
            "tolerance": tolerance,
            "identified": tolerance >= TOLERANCE,
        }
    )


class _Layout:
    """Where the free parameters stand: loadings, paths, (co)variances of constructs, error variances, in this order.

    The first item of a construct has loading 1; constructs nothing points to covary; disturbances do not.
    """

    def __init__(self, model: PathModel) -> None:
        self.block = model.block
        free = np.flatnonzero(np.r_[False, model.block[1:] == model.block[:-1]])
        self.loading = (free, model.block[free])
        ends_at, starts_at = ([model.names.index(path[k]) for path in model.paths] for k in (1, 0))
        self.path = (np.array(ends_at), np.array(starts_at))
        outer = [k for k, row in enumerate(model.adjacency) if not row.any()]
        pairs = [(k, k) for k in range(len(model.names))] + list(itertools.combinations(outer, 2))
        self.psi = (np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
        sizes = (len(free), len(model.paths), len(pairs), len(model.items))
        ends = np.cumsum(sizes)
        self.parts = [slice(e - n, e) for e, n in zip(ends, sizes, strict=True)]
        self.positive = np.zeros(ends[-1], dtype=bool)
        self.positive[self.parts[2]] = self.psi[0] == self.psi[1]
        self.positive[self.parts[3]] = True

    def matrices(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Loadings, inverse of (1 - paths), (co)variances of constructs and error variances, for a stack."""
        n, p, m = len(values), len(self.block), int(self.block.max()) + 1
        loadings, beta, psi = np.zeros((n, p, m)), np.zeros((n, m, m)), np.zeros((n, m, m))
        loadings[:, np.arange(p), self.block] = 1.0
        loadings[:, *self.loading] = values[:, self.parts[0]]
        beta[:, *self.path] = values[:, self.parts[1]]
        psi[:, *self.psi] = values[:, self.parts[2]]
        psi[:, *self.psi[::-1]] = values[:, self.parts[2]]
        return loadings, np.linalg.inv(np.eye(m) - beta), psi, values[:, self.parts[3]]

    def implied(self, values: np.ndarray) -> np.ndarray:
        """Covariances of the items, for a stack."""
        loadings, inverse, psi, theta = self.matrices(values)
        total = loadings @ inverse
        return total @ psi @ total.transpose(0, 2, 1) + theta[:, :, None] * np.eye(theta.shape[1])

    def standardised_paths(self, values: np.ndarray) -> np.ndarray:
        """Paths in standard deviations of the constructs."""
        _, inverse, psi, _ = self.matrices(values)
        sd = np.sqrt(np.diagonal(inverse @ psi @ inverse.transpose(0, 2, 1), axis1=1, axis2=2))
        return values[:, self.parts[1]] * sd[:, self.path[1]] / sd[:, self.path[0]]


def _likelihood(cov: np.ndarray, at: _Layout, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Discrepancy log|Sigma| + tr(S / Sigma), its gradient, and its expected second derivatives, for a stack.

    Every derivative of Sigma is u v' + v u' with two vectors per parameter, so that the second derivatives need their
    scalar products alone and no product of matrices per pair of parameters.
    """
    loadings, inverse, psi, theta = at.matrices(values)
    n, p = theta.shape
    total = loadings @ inverse
    common = total @ psi @ inverse.transpose(0, 2, 1)  # covariance of items with constructs
    sigma = common @ loadings.transpose(0, 2, 1)
    sigma[:, np.arange(p), np.arange(p)] += theta
    root = np.linalg.cholesky(sigma)
    white = np.linalg.inv(root)
    unit = np.broadcast_to(np.eye(p), (n, p, p))
    half = np.where(at.psi[0] == at.psi[1], 0.5, 1.0)
    u = [unit[:, :, at.loading[0]], total[:, :, at.path[0]], total[:, :, at.psi[0]], unit]
    v = [common[:, :, at.loading[1]], common[:, :, at.path[1]], total[:, :, at.psi[1]] * half, unit / 2]
    u_white = (white @ np.concatenate(u, axis=2)).transpose(0, 2, 1)
    v_white = (white @ np.concatenate(v, axis=2)).transpose(0, 2, 1)
    sample = white @ cov @ white.transpose(0, 2, 1)
    value = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) + np.trace(sample, axis1=1, axis2=2)
    gradient = 2 * (u_white * (v_white - v_white @ sample)).sum(axis=2)
    u_t, v_t = u_white.transpose(0, 2, 1), v_white.transpose(0, 2, 1)
    cross = u_white @ v_t
    return value, gradient, 2 * ((u_white @ u_t) * (v_white @ v_t) + cross * cross.transpose(0, 2, 1))


def _scoring(cov: np.ndarray, at: _Layout, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximise the likelihood of a stack of covariance matrices by Fisher scoring; variances stay at 0 or above.

    Returns
    -------
    (array, array)
        Parameters, and whether each fit settled.
    """
    values = np.tile(start, (len(cov), 1))
    settled, todo = np.zeros(len(cov), dtype=bool), np.arange(len(cov))
    value, gradient, second = _likelihood(cov, at, values)
    diagonal = np.arange(len(start))
    for _ in range(ROUNDS):
        stuck = at.positive & (values[todo] <= 0) & (gradient > 0)  # a variance at 0 that wants to fall further
        gradient = np.where(stuck, 0.0, gradient)
        second = np.where(stuck[:, :, None] | stuck[:, None, :], 0.0, second)
        second[:, diagonal, diagonal] = np.where(stuck, 1.0, second[:, diagonal, diagonal] * (1 + 1e-9))
        step = -np.linalg.solve(second, gradient[:, :, None])[:, :, 0]
        done = -(gradient * step).sum(axis=1) < SETTLED
        settled[todo[done]] = True
        values[todo[done]] += step[done]  # which makes it more exact than it had to be
        todo, step, value = todo[~done], step[~done], value[~done]
        if not len(todo):
            break
        # a step ends where it meets the first bound; that variance is 0 from then on, while it wants to be
        falls = at.positive & (step < 0) & (values[todo] > 0)
        reach = np.divide(values[todo], -step, out=np.full(step.shape, np.inf), where=falls).min(axis=1)
        trial = values[todo] + np.minimum(reach, 1)[:, None] * step
        trial[at.positive & (trial < 1e-12)] = 0.0
        new, gradient, second = _likelihood(cov[todo], at, trial)
        for _ in range(12):  # a step that goes too far is halved
            worse = np.flatnonzero(~(new <= value + 1e-9))
            if not len(worse):
                break
            trial[worse] = (trial[worse] + values[todo[worse]]) / 2
            new[worse], gradient[worse], second[worse] = _likelihood(cov[todo[worse]], at, trial[worse])
        values[todo], value = trial, new
    return values, settled


def bootstrap_sem(
    items: pd.DataFrame, model: PathModel, fitted: SEM, *, resamples: int, seed: int
) -> tuple[np.ndarray, float]:
    """Fit the model of :func:`fit_sem` to bootstrap resamples.

    A resample is a covariance matrix; all are fitted together, by Fisher scoring from the estimate of the data.

    Parameters
    ----------
    fitted : SEM
        What :func:`fit_sem` returned for the same items and model.
    resamples, seed : int
        Respondents are drawn with replacement.

    Returns
    -------
    (array, float)
        Standardised paths, one row per resample that settled and one column per path in the order of ``model.paths``;
        the share of resamples that settled.

    Raises
    ------
    FitError
        When fewer than half of the resamples settle.
    """
    at = _Layout(model)
    stack = resampled_covariances(items[list(model.items)].to_numpy(dtype=float), resamples, seed)
    try:
        parts = [_scoring(stack[k : k + BATCH], at, fitted.values) for k in range(0, resamples, BATCH)]
    except np.linalg.LinAlgError:
        raise FitError("a resample of the covariance model has no inverse; constructs or items coincide") from None
    values, settled = (np.concatenate(p) for p in zip(*parts, strict=True))
    if settled.mean() < 0.5:
        raise FitError(
            f"{settled.mean():.0%} of the resamples of the covariance model settled; constructs may coincide"
        )
    return at.standardised_paths(values[settled]), float(settled.mean())


def least_squares(corr: pd.DataFrame, model: PathModel) -> tuple[float, pd.DataFrame]:
    """Fit the factor model to a (polychoric) correlation matrix by unweighted least squares.

    Least squares needs no weight matrix, is consistent for polychoric correlations, and gives no valid chi-square; so
    SRMR alone is reported, beside the correlations of the constructs.
    """
    import semopy

    fitted = semopy.Model(_measurement(model))
    result = fitted.fit(cov=corr, obj="ULS", n_samples=1000)
    if not result.success:
        raise FitError(f"the factor model did not converge on polychoric correlations ({result.message})")
    implied = fitted.calc_sigma()[0]
    order = list(fitted.vars["observed"])
    sample = corr.loc[order, order].to_numpy()
    between = pd.DataFrame(correlations(fitted.mx_psi), *fitted.names_psi).loc[list(model.names), list(model.names)]
    return _srmr(sample, implied), between
