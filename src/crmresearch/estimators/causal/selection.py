"""Winning, duration and profit together: only won customers have a duration, and they were not won at random.

Two routes to the same parameters: a probit with an inverse Mills ratio in the second step, and the likelihood of a
selection model whose durations may be censored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import FitError, InputError, Missing
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

Array = NDArray[np.float64]

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
    r.checked(frame, needed, what="prospects")
    won = frame["won"].to_numpy(float)
    own = frame[won == 1]
    r.checked(own, (outcome, *regressors), what="won prospects")
    if len(own) < len(regressors) + 12:
        raise FitError(f"{len(own)} won prospects are too few for {len(regressors)} regressors")
    z = np.column_stack([np.ones(len(frame)), *(frame[c].to_numpy(float) for c in select)])
    x = np.column_stack([np.ones(len(own)), *(own[c].to_numpy(float) for c in regressors)])
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
        try:
            step = np.linalg.solve(hessian, zs.T @ lam)
        except np.linalg.LinAlgError:
            raise FitError("the columns of the selection equation are linearly dependent; leave one out") from None
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
    Second-step standard errors ignore that the ratio is estimated: bootstrap both steps (:func:`jointly`).

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

    Good to 1e-10 for |rho| up to .95.
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
    found = minimize(
        target,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 2000, "maxfun": 5000, "ftol": 1e-13, "gtol": 1e-7},
    )
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
    half = 1.959964 * se[-1]
    return Selection(
        pd.Series(theta[:p] / zs, ["intercept", *select]),
        pd.Series(theta[p : p + k] / xs, ["intercept", *regressors]),
        pd.Series(se[:p] / zs, ["intercept", *select]),
        pd.Series(se[p : p + k] / xs, ["intercept", *regressors]),
        float(np.exp(theta[-2])),
        float(np.tanh(theta[-1])),
        (float(np.tanh(theta[-1] - half)), float(np.tanh(theta[-1] + half))),
        float(-found.fun * len(won)),
        np.nan,
    )


@study
def jointly(
    prospects: pd.DataFrame,
    *,
    covariates: tuple[str, ...] | None = None,
    excluded: tuple[str, ...] = ("spend", "spend_squared"),
    resamples: int = 100,
    seed: int = 0,
    most: int = 20_000,
) -> Result:
    """Winning, duration and profit with selection, by both routes.

    Parameters
    ----------
    prospects : DataFrame
        ``block``, ``won`` (0/1); for the won ``log_months`` (log of months as a customer), ``ended`` (0/1),
        ``profit`` (money per month as a customer), and the columns named; ``spend_randomised`` where the bank says.
    covariates : tuple of str, optional
        Columns of both equations; by default every further number.
    excluded : tuple of str
        Columns of the winning equation assumed not to act on duration or profit (the exclusion restriction).
    resamples, seed : int
        Bootstrap of both steps of the profit equation, over blocks.
    most : int
        Prospects fitted; with more, every so many-th block is taken, and intervals are those of the sample.

    Notes
    -----
    The relevance of the excluded columns is tested (Wald in the probit). That they do not act directly cannot be,
    unless spend was set by lot.
    """
    regressors = tuple(c for c in r.further(prospects) if c not in excluded) if covariates is None else covariates
    overlap = set(excluded) & set(regressors)
    if overlap:
        raise InputError(f"{', '.join(sorted(overlap))} cannot be excluded and stand in both equations")
    select = (*excluded, *regressors)
    randomised = "spend_randomised" in prospects and bool(prospects["spend_randomised"].astype(bool).all())
    r.checked(prospects, ("block", "won", *select), what="prospects")
    total = len(prospects)
    keep = max(1, -(-total // most))
    sample = prospects[prospects["block"] % keep == 0] if keep > 1 else prospects
    if sample["won"].sum() < 100 or (sample["won"] == 0).sum() < 100:
        return Result.not_applicable(
            Missing("a joint model of winning and duration needs 100 won and 100 lost prospects")
        )
    rows: list[dict[str, Any]] = []
    checks = []
    first = two_step(sample, select, "profit", regressors)
    g, cov = _probit(
        np.column_stack([np.ones(len(sample)), *(sample[c].to_numpy(float) for c in select)]),
        sample["won"].to_numpy(float),
    )
    at = [1 + select.index(c) for c in excluded]
    wald = float(g[at] @ np.linalg.solve(cov[np.ix_(at, at)], g[at])) / len(at)
    checks.append(
        Check.of(
            "excluded columns matter for winning",
            wald > 10,
            f"Wald chi-square per column {wald:.0f}, 10 needed",
            "undecided",
        )
    )
    words = ", ".join(excluded)
    checks.append(
        Check("exclusion restriction", "open", f"{words} set by lot, as the bank declares")
        if randomised
        else Check(
            "exclusion restriction",
            "declared",
            f"{words} assumed to act on duration and profit only through winning",
            "undecided",
        )
    )
    drawn = _bootstrap(sample, select, regressors, resamples, seed)
    for term, value in first.outcome.items():
        low, high = np.nanquantile(drawn[str(term)], [0.025, 0.975])
        rows.append(
            {
                "equation": "profit per month (two-step)",
                "term": term,
                "value": value,
                "ci_low": low,
                "ci_high": high,
            }
        )
    fitted = None
    if sample["ended"].fillna(0).sum() >= len(regressors) + 12:
        fitted = censored_selection(sample, select, "log_months", regressors, "ended")
        for term, value in fitted.outcome.items():
            half = 1.96 * float(fitted.se_outcome[str(term)])
            rows.append(
                {
                    "equation": "log months as customer (likelihood)",
                    "term": term,
                    "value": value,
                    "ci_low": value - half,
                    "ci_high": value + half,
                }
            )
        rows.append(
            {
                "equation": "log months as customer (likelihood)",
                "term": "rho",
                "value": fitted.rho,
                "ci_low": fitted.rho_interval[0],
                "ci_high": fitted.rho_interval[1],
            }
        )
        for name in excluded:
            half = 1.96 * fitted.se_won[name]
            rows.append(
                {
                    "equation": "winning (likelihood)",
                    "term": name,
                    "value": fitted.won[name],
                    "ci_low": fitted.won[name] - half,
                    "ci_high": fitted.won[name] + half,
                }
            )
    table = pd.DataFrame(rows).assign(n=len(sample))
    imr = table[table["term"] == "imr"].iloc[0]
    goes = "lower" if imr["ci_high"] < 0 else "higher" if imr["ci_low"] > 0 else "neither clearly lower nor higher"
    sentence = (
        f"Unseen reasons that make winning easy go with {goes} profit: the inverse Mills ratio has a coefficient of "
        f"{imr['value']:,.2f} [{imr['ci_low']:,.2f}, {imr['ci_high']:,.2f}] money per month"
    )
    if fitted is not None:
        low, high = fitted.rho_interval
        sentence += (
            f"; unseen reasons for winning and for staying correlate at {fitted.rho:.2f} [{low:.2f}, {high:.2f}]"
        )
    if keep > 1:
        sentence += f"; fitted to {len(sample):,} of {total:,} prospects, intervals are those of the sample"
    return Result(
        table, sentence + ".", checks=tuple(checks), digits=4,
        details={"two_step": first, "likelihood": fitted, "sample": len(sample)},
    )  # fmt: skip


def _bootstrap(
    sample: pd.DataFrame, select: tuple[str, ...], regressors: tuple[str, ...], resamples: int, seed: int
) -> pd.DataFrame:
    block = pd.factorize(sample["block"], sort=True)[0]
    order = np.argsort(block, kind="stable")
    ends = np.searchsorted(block[order], np.arange(block.max() + 2))
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(resamples):
        picked = rng.integers(0, block.max() + 1, block.max() + 1)
        rows = np.concatenate([order[ends[b] : ends[b + 1]] for b in picked])
        try:
            out.append(two_step(sample.iloc[rows], select, "profit", regressors).outcome)
        except FitError:
            continue
    if len(out) < 0.9 * resamples:
        raise FitError(f"{resamples - len(out)} of {resamples} resamples could not be fitted; use fewer regressors")
    return pd.DataFrame(out)
