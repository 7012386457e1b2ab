"""Winning, duration and profit together: only won customers have a duration, and they were not won at random.

Two routes to the same parameters: a probit with an inverse Mills ratio in the second step, and the likelihood of a
selection model whose durations may be censored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.blocks import Array, checked
from crmresearch.estimators.inference import ends, full_rank, sized

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def inverse_mills(index: Array) -> Array:
    """Inverse Mills ratio phi / Phi of the won."""
    from scipy.special import log_ndtr

    return np.asarray(np.exp(-0.5 * index * index - log_ndtr(index)) / np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Selection:
    """Fitted selection model.

    Attributes
    ----------
    won, outcome : Series
        Coefficients of winning (probit) and of the outcome.
    se_won, se_outcome : Series
        Standard errors (robust for the likelihood; of the second step, ordinary and too small, for the two-step).
    sigma, rho : float
        Spread of the outcome's error and its correlation with that of winning; nan where a route does not give it.
    rho_interval : tuple of float
        95% interval of rho.
    loglik : float
    r2 : float
        Of the second step; nan for the likelihood.
    """

    won: pd.Series
    outcome: pd.Series
    se_won: pd.Series
    se_outcome: pd.Series
    sigma: float
    rho: float
    rho_interval: tuple[float, float]
    loglik: float
    r2: float


def _parts(
    frame: pd.DataFrame, select: tuple[str, ...], outcome: str, regressors: tuple[str, ...]
) -> tuple[Array, ...]:
    needed = ("won", *select)
    checked(frame, needed, what="prospects")
    won = frame["won"].to_numpy(float)
    own = frame[won == 1]
    checked(own, (outcome, *regressors), what="won prospects")
    if len(own) < len(regressors) + 12:
        raise FitError(f"{len(own)} won prospects are too few for {len(regressors)} regressors")
    z = np.column_stack([np.ones(len(frame)), *(frame[c].to_numpy(float) for c in select)])
    x = np.column_stack([np.ones(len(own)), *(own[c].to_numpy(float) for c in regressors)])
    full_rank(z, ("intercept", *select))
    full_rank(x, ("intercept", *regressors))
    sized(len(own), x.shape[1])
    return won, z, x, own[outcome].to_numpy(float)


def _probit(z: Array, won: Array) -> tuple[Array, Array]:
    """Probit by Newton's method on scaled columns: coefficients and their covariance."""
    from scipy.special import ndtr

    size = np.abs(z).max(axis=0)
    size[size == 0] = 1.0
    zs, b, q = z / size, np.zeros(z.shape[1]), 2 * won - 1
    for _ in range(200):
        index = zs @ b
        lam = q * inverse_mills(q * index)
        hessian = (zs * (lam * (lam + index))[:, None]).T @ zs
        step = np.linalg.solve(hessian, zs.T @ lam)
        step *= min(1.0, 5.0 / (np.abs(step).max() + 1e-300))
        b = b + step
        if np.abs(step).max() < 1e-10 * (1 + np.abs(b).max()):
            break
    else:
        raise FitError("the probit of winning did not converge; a column may separate won from lost")
    if not np.isfinite(ndtr(zs @ b)).all():
        raise FitError("the probit of winning has no finite estimate")
    return b / size, np.linalg.inv(hessian) / np.outer(size, size)


def two_step(frame: pd.DataFrame, select: tuple[str, ...], outcome: str, regressors: tuple[str, ...]) -> Selection:
    """Probit of winning, then least squares of the outcome of the won with the inverse Mills ratio.

    Parameters
    ----------
    frame : DataFrame
        ``won`` (0/1) and the columns named; outcome and regressors may be missing for the lost.
    select, regressors : tuple of str
        Columns of the two equations. One in ``select`` and not in ``regressors`` identifies the correction.
    outcome : str
        Column; must be complete: use :func:`censored_selection` for censored durations.

    Notes
    -----
    Second-step standard errors ignore that the ratio is estimated: bootstrap both steps (:func:`two_step_draws`).

    References
    ----------
    Heckman (1979). Sample selection bias as a specification error. *Econometrica* 47, 153-161.
    """
    from scipy.special import log_ndtr

    won, z, x, y = _parts(frame, select, outcome, regressors)
    g, cov = _probit(z, won)
    index = z @ g
    imr = inverse_mills(index[won == 1])
    full = np.column_stack([x, imr])
    size = np.abs(full).max(axis=0)
    b, *_ = np.linalg.lstsq(full / size, y, rcond=None)
    b = b / size
    residual = y - full @ b
    delta = imr * (imr + index[won == 1])
    sigma = float(np.sqrt((residual @ residual) / len(y) + b[-1] ** 2 * delta.mean()))
    inverse = np.linalg.inv((full / size).T @ (full / size)) / np.outer(size, size)
    se = np.sqrt(np.diag(inverse) * (residual @ residual) / (len(y) - full.shape[1]))
    names, regress = ["intercept", *select], ["intercept", *regressors, "imr"]
    q = 2 * won - 1
    rho = float(np.clip(b[-1] / sigma, -1, 1)) if sigma > 0 else np.nan
    return Selection(
        pd.Series(g, names), pd.Series(b, regress), pd.Series(np.sqrt(np.diag(cov)), names), pd.Series(se, regress),
        sigma, rho, (np.nan, np.nan), float(log_ndtr(q * index).sum()),
        float(1 - residual @ residual / ((y - y.mean()) @ (y - y.mean()))),
    )  # fmt: skip


def bivariate_normal(h: Array, k: Array, rho: float) -> Array:
    """P(X < h, Y < k) of a standard bivariate normal, by Gauss-Legendre in the angle (Plackett's identity).

    Good to 1e-10 for rho from -.95 to .95.
    """
    from scipy.special import ndtr

    angle = np.arcsin(rho)
    s = np.sin(angle * (_NODES + 1) / 2)
    hk, hh = (h * k)[:, None], ((h * h + k * k) / 2)[:, None]
    inner = np.exp((s * hk - hh) / (1 - s * s)) @ _WEIGHTS
    return np.asarray(ndtr(h) * ndtr(k) + inner * angle / (4 * np.pi))


def censored_selection(
    frame: pd.DataFrame, select: tuple[str, ...], outcome: str, regressors: tuple[str, ...], ended: str
) -> Selection:
    """Maximum likelihood of winning and of a duration that may be censored.

    Winning: z g + u > 0. Duration (usually its logarithm): y = x b + sigma e, seen only if won; corr(u, e) = rho. A
    duration still running contributes P(won, y above what was seen).

    Parameters
    ----------
    frame : DataFrame
        As for :func:`two_step`, with ``ended`` (1 if the duration is complete).
    select, regressors : tuple of str
        Columns of the two equations.
    outcome, ended : str
        Columns of the won.

    Raises
    ------
    FitError
        If the likelihood does not converge.

    References
    ----------
    Reinartz, Thomas, Kumar (2005). Balancing acquisition and retention resources. *J. Marketing* 69, 63-79.
    """
    from scipy.optimize import minimize
    from scipy.special import log_ndtr, ndtr

    won, z, x, y = _parts(frame, select, outcome, regressors)
    done = frame.loc[won == 1, ended].to_numpy(bool)
    if done.sum() < len(regressors) + 12:
        raise FitError(f"{int(done.sum())} completed durations are too few for {len(regressors)} regressors")
    zs, xs = np.abs(z).max(axis=0), np.abs(x).max(axis=0)
    zs[zs == 0], xs[xs == 0] = 1.0, 1.0
    z, x = z / zs, x / xs
    z1, z0, p, k = z[won == 1], z[won == 0], z.shape[1], x.shape[1]

    def each(theta: Array) -> tuple[Array, Array]:
        """Log-likelihood and score of every row, won first."""
        g, b, log_sigma, a = theta[:p], theta[p : p + k], theta[-2], theta[-1]
        sigma, rho = np.exp(log_sigma), np.tanh(a)
        c = np.sqrt(1 - rho * rho)
        w, e = z1 @ g, (y - x @ b) / sigma
        score = np.zeros((len(won), p + k + 2))
        value = np.empty(len(won))
        m = len(y)
        # complete durations: density of e, and winning given e
        q = (w + rho * e) / c
        lam = inverse_mills(q)
        full = -0.5 * e * e - 0.5 * np.log(2 * np.pi) - log_sigma + log_ndtr(q)
        de = -e + lam * rho / c
        dw, drho = lam / c, lam * (e + rho * w) / c**3
        # running durations: P(u > -w, e > what was seen)
        joint = np.clip(bivariate_normal(w, -e, rho), 1e-300, None)
        phi_w, phi_e = (np.exp(-0.5 * v * v) / np.sqrt(2 * np.pi) for v in (w, e))
        dw = np.where(done, dw, phi_w * ndtr((-e - rho * w) / c) / joint)
        de = np.where(done, de, -phi_e * ndtr((w + rho * e) / c) / joint)
        density = np.exp(-(w * w + 2 * rho * w * e + e * e) / (2 * c * c)) / (2 * np.pi * c)
        drho = np.where(done, drho, density / joint)
        value[:m] = np.where(done, full, np.log(joint))
        score[:m, :p] = dw[:, None] * z1
        score[:m, p : p + k] = (-de / sigma)[:, None] * x
        score[:m, -2] = -de * e - done
        score[:m, -1] = drho * (1 - rho * rho)
        value[m:] = log_ndtr(-(z0 @ g))
        score[m:, :p] = -inverse_mills(-(z0 @ g))[:, None] * z0
        return value, score

    def target(theta: Array) -> tuple[float, Array]:
        value, score = each(theta)
        return -value.sum() / len(won), -score.sum(axis=0) / len(won)

    first, _ = _probit(z, won)
    b0, *_ = np.linalg.lstsq(x, y, rcond=None)
    spread = float(np.std(y - x @ b0)) or 1.0
    start = np.concatenate([first, b0, [np.log(spread), 0.0]])
    bounds = [(None, None)] * (p + k + 1) + [(-1.83, 1.83)]  # |rho| up to .95, where the integral is exact
    options = {"maxiter": 2000, "maxfun": 5000, "ftol": 1e-13, "gtol": 1e-7}
    found = minimize(target, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    if not np.isfinite(found.fun) or np.abs(found.jac[:-1]).max() > 1e-3:
        raise FitError(f"the selection likelihood did not converge ({found.message}); use fewer regressors")
    theta = found.x
    step = 1e-5
    hessian = np.column_stack(
        [(target(theta + step * d)[1] - target(theta - step * d)[1]) / (2 * step) for d in np.eye(len(theta))]
    ) * len(won)
    hessian = (hessian + hessian.T) / 2
    try:
        inverse = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        raise FitError("the selection likelihood is flat; nothing identifies the correlation") from None
    score = each(theta)[1]
    robust = inverse @ (score.T @ score) @ inverse
    se = np.sqrt(np.clip(np.diag(robust), 0, None))
    rho_low, rho_high = np.tanh(ends(theta[-1], se[-1]))
    return Selection(
        pd.Series(theta[:p] / zs, ["intercept", *select]),
        pd.Series(theta[p : p + k] / xs, ["intercept", *regressors]),
        pd.Series(se[:p] / zs, ["intercept", *select]),
        pd.Series(se[p : p + k] / xs, ["intercept", *regressors]),
        float(np.exp(theta[-2])),
        float(np.tanh(theta[-1])),
        (float(rho_low), float(rho_high)),
        float(-found.fun * len(won)),
        np.nan,
    )


def relevance(frame: pd.DataFrame, select: tuple[str, ...], excluded: tuple[str, ...]) -> float:
    """Wald chi-square per column of the excluded columns in the probit of winning."""
    z = np.column_stack([np.ones(len(frame)), *(frame[c].to_numpy(float) for c in select)])
    full_rank(z, ("intercept", *select))
    g, cov = _probit(z, frame["won"].to_numpy(float))
    at = [1 + select.index(c) for c in excluded]
    return float(g[at] @ np.linalg.solve(cov[np.ix_(at, at)], g[at])) / len(at)


def two_step_draws(
    frame: pd.DataFrame, select: tuple[str, ...], outcome: str, regressors: tuple[str, ...], resamples: int, seed: int
) -> pd.DataFrame:
    """Outcome coefficients of :func:`two_step` in resamples of blocks, one row each.

    Raises
    ------
    FitError
        If a tenth of the resamples cannot be fitted.
    """
    block = pd.factorize(frame["block"], sort=True)[0]
    order = np.argsort(block, kind="stable")
    edges = np.searchsorted(block[order], np.arange(block.max() + 2))
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(resamples):
        picked = rng.integers(0, block.max() + 1, block.max() + 1)
        rows = np.concatenate([order[edges[b] : edges[b + 1]] for b in picked])
        try:
            out.append(two_step(frame.iloc[rows], select, outcome, regressors).outcome)
        except FitError:
            continue
    if len(out) < 0.9 * resamples:
        raise FitError(f"{resamples - len(out)} of {resamples} resamples could not be fitted; use fewer regressors")
    return pd.DataFrame(out)
