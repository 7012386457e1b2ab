"""Hazard of leaving in whole months: complementary log-log regression on cells, and gamma frailty in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import ends, full_rank, natural_spline, sized, z
from crmresearch.estimators.survival.risk import hazard_ratios, read_spells


def tenure_terms(tenure: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spline of log tenure with four knots at quantiles of the person-months; returns basis and knots."""
    log = np.log(np.asarray(tenure, dtype=float))
    order = np.argsort(log)
    share = np.cumsum(n[order]) / n.sum()
    places = np.unique(log[order][np.searchsorted(share, np.linspace(0.05, 0.95, 4)).clip(0, len(log) - 1)])
    if len(places) < 3:
        return log[:, None], places
    return natural_spline(log, places.tolist()), places


@dataclass(frozen=True)
class DiscreteFit:
    """A fitted complementary log-log model of the monthly hazard.

    Attributes
    ----------
    params, se : Series
        Coefficients: log hazard ratios of the covariates, then the baseline terms.
    covariates : tuple of str
        Names of the covariates among them.
    loglik : float
    n, events : int
        Person-months and exits.
    """

    params: pd.Series
    se: pd.Series
    covariates: tuple[str, ...]
    loglik: float
    n: int
    events: int

    def summary(self) -> pd.DataFrame:
        """Hazard ratios of the covariates with intervals."""
        names = list(self.covariates)
        return hazard_ratios(self.params[names], self.se[names], self.n, self.events)


def discrete_hazard(cells: pd.DataFrame, covariates: Sequence[str]) -> DiscreteFit:
    """Fit the monthly hazard of leaving to cells of person-months.

    For exits that happen in continuous time and are seen by the month, the complementary log-log model has exactly the
    proportional-hazards coefficients. Equal person-months are counted, so the size of the data is the number of cells.

    Parameters
    ----------
    cells : DataFrame
        ``tenure`` (month, 1 is the first), ``at_risk``, ``events`` and the covariates.
    covariates : sequence of str
        Numeric columns; the baseline hazard is a natural spline of log tenure.

    Returns
    -------
    DiscreteFit

    References
    ----------
    Prentice and Gloeckler (1978), Biometrics 34.
    """
    import statsmodels.api as sm

    absent = [c for c in ("tenure", "at_risk", "events", *covariates) if c not in cells.columns]
    if absent:
        raise InputError(f"cells lack {', '.join(absent)}")
    if (cells["events"] > cells["at_risk"]).any() or (cells["tenure"] < 1).any():
        raise InputError("cells need tenure of 1 or more and no more events than customers at risk")
    if not cells["events"].sum() > 0:
        raise FitError("no exits in these person-months, so no hazard can be estimated")
    at_risk = cells["at_risk"].to_numpy(dtype=float)
    tenure = cells["tenure"].to_numpy(dtype=float)
    spline, _ = tenure_terms(tenure, at_risk)
    base = np.column_stack([np.ones(len(tenure)), spline])
    names = ["constant", *(f"tenure {i}" for i in range(1, spline.shape[1] + 1))]
    x = np.column_stack([cells[list(covariates)].to_numpy(dtype=float), base])
    full_rank(x[at_risk > 0], [*covariates, *names])
    sized(exits := cells["events"].sum(), x.shape[1], exits)
    y = np.column_stack([cells["events"].to_numpy(dtype=float), at_risk - cells["events"].to_numpy(dtype=float)])
    family = sm.families.Binomial(link=sm.families.links.CLogLog())
    fit = sm.GLM(y, x, family=family).fit(tol=1e-10, rtol=1e-13, tol_criterion="deviance", maxiter=100)
    if not fit.converged or not np.isfinite(fit.bse).all():
        raise FitError(
            "the monthly hazard model does not converge; a covariate separates those who left (see the separation gate)"
        )
    return DiscreteFit(
        pd.Series(fit.params, [*covariates, *names]),
        pd.Series(fit.bse, [*covariates, *names]),
        tuple(covariates),
        float(fit.llf),
        int(at_risk.sum()),
        int(cells["events"].sum()),
    )


@dataclass(frozen=True)
class FrailtyFit:
    """Monthly hazard with a gamma frailty of mean 1 at acquisition.

    Attributes
    ----------
    variance : float
        Of the frailty; 0 means that customers do not differ.
    variance_ci : tuple of float
        Profile-likelihood interval.
    p : float
        Of the likelihood-ratio test against no frailty (half the chi-square tail, the value lies on the border).
    shape : float
        Log-log slope of the individual hazard over tenure: below 0 it falls for everyone, not only by sorting.
    shape_plain : float
        The same slope without frailty.
    shape_ci, shape_plain_ci : tuple of float
        95% intervals of both, from the curvature of the likelihood on the scale of ``log(1 + slope)``; with frailty its
        variance is estimated too.
    """

    variance: float
    variance_ci: tuple[float, float]
    p: float
    shape: float
    shape_plain: float
    shape_ci: tuple[float, float]
    shape_plain_ci: tuple[float, float]
    loglik: float
    loglik_plain: float


def frailty(frame: pd.DataFrame) -> FrailtyFit:
    """Tell unobserved differences between customers from a hazard that truly falls with tenure.

    The individual hazard is ``z exp(b) * tenure^shape`` by month (Weibull), ``z`` gamma with mean 1 and variance
    ``v`` at acquisition. Survival is then ``(1 + v H)^(-1/v)``, and everybody's likelihood is conditional on
    survival to entry.

    Parameters
    ----------
    frame : DataFrame
        Spells in whole months: ``exit, event``, optional ``entry`` and ``n``.

    Returns
    -------
    FrailtyFit

    Notes
    -----
    With one spell per customer, frailty is identified by the form of the hazard alone (Elbers and Ridder 1982; Heckman
    and Singer 1984), here the Weibull form. Read it with that in mind.
    """
    from scipy.optimize import brentq, minimize
    from scipy.special import chdtrc

    spells = read_spells(frame)
    if (spells.exit != np.round(spells.exit)).any() or (spells.entry != np.round(spells.entry)).any():
        raise InputError("frailty is fitted to spells in whole months; round entry up and exit up first")
    if not spells.event.any():
        raise FitError("no exits, so no frailty can be told")
    start, end = spells.entry, spells.exit
    last = np.where(spells.event, end - 1, end)  # known to be there at the end of this month

    def parts(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        level, shape = np.exp(theta)
        return level * (start / 12) ** shape, level * (last / 12) ** shape, level * (end / 12) ** shape

    def negative(theta: np.ndarray, v: float) -> float:
        with np.errstate(all="ignore"):
            h0, h1, h2 = parts(theta)
            log0, log1, log2 = ((-np.log1p(v * h) / v) if v > 1e-8 else -h for h in (h0, h1, h2))
            event = np.log(-np.expm1(log2 - log1))
            value = spells.n @ (log1 - log0 + np.where(spells.event, event, 0.0))
        return float(-value) if np.isfinite(value) else 1e15

    rate = max(spells.n @ spells.event / max(spells.n @ (end - start), 1e-9) * 12, 1e-6)

    stop = {"gtol": 1e-4 * max(1.0, np.sqrt(spells.n.sum()) / 10)}

    def best(v: float, guess: np.ndarray) -> Any:
        return minimize(negative, guess, args=(v,), method="BFGS", options=stop)

    def negative_jointly(t: np.ndarray) -> float:
        return negative(t[1:], float(np.exp(t[0])))

    plain = best(0.0, np.r_[np.log(rate), 0.0])
    joint = minimize(negative_jointly, np.r_[np.log(0.3), plain.x], method="BFGS", options=stop)
    v, theta, value = float(np.exp(joint.x[0])), joint.x[1:], float(joint.fun)
    if value >= plain.fun - 1e-6 or v < 1e-4:
        v, theta, value = 0.0, plain.x, float(plain.fun)
    limit = value + z() ** 2 / 2

    def over(log_v: float) -> float:
        return float(best(float(np.exp(log_v)), theta).fun) - limit

    def edge(direction: float) -> float:
        """Where the profile likelihood crosses the limit, by steps of the log variance and then bisection."""
        inner = np.log(max(v, 0.02))
        for _ in range(12):
            outer = inner + 0.5 * direction
            if outer < np.log(1e-3):
                return 0.0
            if over(outer) > 0:
                return float(np.exp(brentq(over, min(inner, outer), max(inner, outer), xtol=0.01)))
            inner = outer
        return np.inf

    def slope_interval(function: Callable[[np.ndarray], float], at: np.ndarray, place: int) -> tuple[float, float]:
        from statsmodels.tools.numdiff import approx_hess

        inverse = np.linalg.pinv(approx_hess(at, function))
        low, high = ends(at[place], np.sqrt(max(float(inverse[place, place]), 0.0)))
        return float(np.exp(low) - 1), float(np.exp(high) - 1)

    low = 0.0 if v == 0 or plain.fun <= limit else edge(-1.0)
    plain_ci = slope_interval(lambda t: negative(t, 0.0), plain.x, 1)
    return FrailtyFit(
        variance=v,
        variance_ci=(low, edge(1.0)),
        p=float(0.5 * chdtrc(1, 2 * max(plain.fun - value, 0.0))) if v > 0 else 1.0,
        shape=float(np.exp(theta[1]) - 1),
        shape_plain=float(np.exp(plain.x[1]) - 1),
        shape_ci=plain_ci if v == 0 else slope_interval(negative_jointly, joint.x, 2),
        shape_plain_ci=plain_ci,
        loglik=-value,
        loglik_plain=-float(plain.fun),
    )


def weibull_aft(frame: pd.DataFrame, covariates: Sequence[str]) -> pd.DataFrame:
    """Fit lifelines' Weibull accelerated failure time model, with late entry and collapsed rows.

    Parameters
    ----------
    frame : DataFrame
        ``exit, event``, optional ``entry`` and ``n``; covariates.
    covariates : sequence of str
        Numeric columns.

    Returns
    -------
    DataFrame
        ``term, coef, se, time_ratio, ci_low, ci_high, hazard_ratio, hr_low, hr_high, n``. The row ``log(shape)`` is
        lifelines' ``rho_``; a time ratio above 1 lengthens the stay. The Weibull model is one of proportional hazards
        as well: the hazard ratio is the time ratio to the power of minus the shape, its interval by the delta method.
    """
    import warnings

    from lifelines import WeibullAFTFitter
    from lifelines.exceptions import ConvergenceError

    spells = read_spells(frame, covariates)
    columns = {"exit": spells.exit, "event": spells.event.astype(int), "entry": spells.entry, "n": spells.n}
    full_rank(np.column_stack([np.ones(len(frame)), frame[list(covariates)]]), ["constant", *covariates])
    sized(exits := (spells.n * spells.event).sum(), len(covariates) + 2, exits)
    data = pd.DataFrame({**columns, **{c: frame[c].to_numpy(dtype=float) for c in covariates}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines warns of robust errors for weights; ours are counts
        try:
            fit = WeibullAFTFitter().fit(
                data,
                "exit",
                "event",
                entry_col="entry" if spells.late else None,
                weights_col="n",
                formula=" + ".join(f"`{c}`" if not c.isidentifier() else c for c in covariates),
            )
        except ConvergenceError as error:
            raise FitError(f"the Weibull model does not converge: {error}") from None
    coef, se = fit.params_, fit.standard_errors_
    names = [f"{'log(shape)' if p == 'rho_' else t}" for p, t in coef.index]
    out = pd.DataFrame({"term": names, "coef": coef.to_numpy(), "se": se.to_numpy()})
    out["time_ratio"] = np.exp(out["coef"])
    out["ci_low"], out["ci_high"] = (np.exp(end) for end in ends(out["coef"], out["se"]))
    v, last = fit.variance_matrix_.to_numpy(), names.index("log(shape)")
    log, shape = -out["coef"] * np.exp(coef.to_numpy()[last]), np.exp(coef.to_numpy()[last])
    spread = np.sqrt(np.maximum(np.diag(v) * shape**2 + log**2 * v[last, last] - 2 * shape * log * v[:, last], 0.0))
    ratio = out["term"].isin(list(covariates))
    for column, value in zip(("hazard_ratio", "hr_low", "hr_high"), (log, *ends(log, spread)), strict=True):
        out[column] = np.exp(value).where(ratio)
    out["n"] = int(spells.n.sum())
    out.attrs["loglik"] = float(fit.log_likelihood_)
    return out
