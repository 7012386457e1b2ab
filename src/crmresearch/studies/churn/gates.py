"""Assumptions of the churn studies, each looked at once and returned as a gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.survival.cox import CoxFit, _evaluate, _newton, cox, dfbeta
from crmresearch.estimators.survival.risk import logit, read_spells
from crmresearch.result import Check

EVENTS_PER_PARAMETER = 10
ALPHA = 0.01  # a gate that closes in one of twenty sound analyses would close too often
MAX_PULL = 1.0  # standard errors one customer may move a coefficient
CANDIDATES = 3  # customers left out in turn, of each kind


def proportional_hazards_test(fit: CoxFit, transform: Literal["km", "identity", "log", "rank"] = "km") -> pd.DataFrame:
    """Test each coefficient, and all of them, against a trend over time: the exact score test.

    Parameters
    ----------
    fit : CoxFit
        From :func:`crmresearch.estimators.survival.cox`.
    transform : {'km', 'identity', 'log', 'rank'}
        Scale of time; ``km`` is one minus the Kaplan-Meier curve just before each event.

    Returns
    -------
    DataFrame
        ``covariate, chi2, df, p``; the last row is ``GLOBAL``.

    References
    ----------
    Grambsch and Therneau (1994), Biometrika 81, without their approximation: the score and information of ``x g(t)``
    are summed over the risk sets, as in R's ``cox.zph`` since version 3.0 of survival.
    """
    from scipy.special import chdtrc

    sets = fit.sets
    beta = fit.params.to_numpy() * sets.scale
    plain = _evaluate(sets, beta, sets.weight, fit.ties)
    g = np.tile(_time_scale(sets, transform), len(sets.strata))
    g = g - np.average(g, weights=plain.sums.deaths)
    trend = _evaluate(sets, beta, sets.weight, fit.ties, g)
    square = _evaluate(sets, beta, sets.weight, fit.ties, g**2).information
    cross, u = trend.information, trend.score
    variance = square - cross @ np.linalg.solve(plain.information, cross)
    # one covariate at a time, all of them adjusted for
    chi2 = np.r_[u**2 / np.diag(variance), u @ np.linalg.solve(variance, u)]
    df = np.r_[np.ones(len(u)), len(u)]
    return pd.DataFrame(
        {"covariate": [*fit.params.index, "GLOBAL"], "chi2": chi2, "df": df.astype(int), "p": chdtrc(df, chi2)}
    )


def _time_scale(sets: object, transform: str) -> np.ndarray:
    times: np.ndarray = sets.times  # type: ignore[attr-defined]
    if transform == "identity":
        return times.astype(float)
    if transform == "log":
        return np.log(times)
    if transform == "rank":
        return np.arange(len(times), dtype=float)
    if transform != "km":
        raise InputError(f"transform must be km, identity, log or rank; not {transform!r}")
    size = len(times)
    weight = sets.weight  # type: ignore[attr-defined]
    at_risk, deaths = sets.sums(weight, 1)  # type: ignore[attr-defined]
    n, d = at_risk[:, 0].reshape(-1, size).sum(axis=0), deaths[:, 0].reshape(-1, size).sum(axis=0)
    return 1 - np.r_[1.0, np.cumprod(1 - d / n)[:-1]]


def proportional_hazards(fit: CoxFit, covariate: str | None = None, alpha: float = ALPHA) -> Check:
    """Gate: the hazard ratio (of one covariate, or of all) does not change with tenure.

    With tens of thousands of exits a change too small to matter is significant, so the gate closes only if the trend is
    significant *and* moves the log hazard ratio by more than its own size (and by .2) between the first and the last
    quarter of exits.
    """
    test = proportional_hazards_test(fit).set_index("covariate")
    row = test.loc[covariate or "GLOBAL"]
    drift, limit = (0.0, 0.0) if covariate is None else _drift(fit, covariate)
    closed = row["p"] < alpha and (covariate is None or drift > limit)
    detail = f"score test chi2 {row['chi2']:.2f} on {int(row['df'])} df, p {row['p']:.3f} (limit {alpha})"
    if covariate is not None:
        detail += f"; log hazard ratio moves by {drift:.2f} from early to late exits (limit {limit:.2f})"
    return Check.of(
        "proportional hazards",
        not closed,
        detail + ("" if not closed else "; read the restricted means and the time split"),
    )


def _drift(fit: CoxFit, covariate: str) -> tuple[float, float]:
    """Linear change of a coefficient between the first and the last quarter of events, and the limit for it."""
    sets = fit.sets
    beta = fit.params.to_numpy() * sets.scale
    j = list(fit.params.index).index(covariate)
    g = np.tile(_time_scale(sets, "km"), len(sets.strata))
    plain = _evaluate(sets, beta, sets.weight, fit.ties)
    deaths = plain.sums.deaths
    g = g - np.average(g, weights=deaths)
    trend = _evaluate(sets, beta, sets.weight, fit.ties, g)
    square = _evaluate(sets, beta, sets.weight, fit.ties, g**2).information
    variance = square - trend.information @ np.linalg.solve(plain.information, trend.information)
    slope = trend.score[j] / variance[j, j] / sets.scale[j]
    order = np.argsort(g)
    position = np.cumsum(deaths[order]) / deaths.sum()
    low, high = g[order][np.searchsorted(position, [0.125, 0.875])]
    size = sets.scale[j]  # judged for a change of one standard deviation
    return abs(slope * (high - low)) * size, max(abs(beta[j]), 0.2)


def enough_events(events: float, parameters: int, at_least: int = EVENTS_PER_PARAMETER) -> Check:
    """Gate: ten events per parameter or more."""
    ratio = events / max(parameters, 1)
    return Check.of(
        "events per parameter",
        ratio >= at_least,
        f"{events:,.0f} exits for {parameters} parameter{'s' if parameters != 1 else ''}, {ratio:,.0f} each (at "
        f"least {at_least})",
    )


def separation(frame: pd.DataFrame, covariates: Sequence[str]) -> Check:
    """Gate: exits and stayers share the range of every covariate.

    A covariate separates when all exits (or all stayers) lie at its lowest or at its highest value; its coefficient
    is then infinite. Of a 0/1 covariate, both levels need exits and stayers.
    """
    spells = read_spells(frame, covariates)
    left, stayed = spells.n * spells.event, spells.n * ~spells.event
    scarcest, where = np.inf, ""
    for name in covariates:
        values = frame[name].to_numpy(dtype=float)
        above, below = values > values.min(), values < values.max()
        least = min(float(k[side].sum()) for k in (left, stayed) for side in (above, below))
        if least < scarcest:
            scarcest, where = least, name
    return Check.of(
        "separation",
        scarcest > 0,
        f"the scarcest side of a covariate, {where}, holds {scarcest:,.0f} exits or stayers (more than 0)",
    )


def influence(fit: CoxFit, limit: float = MAX_PULL) -> Check:
    """Gate: no single customer moves a coefficient by more than ``limit`` standard errors.

    The approximate change is small for a customer far from all others, who bends the fit to himself. So the customers
    with the largest approximate change and those with the most extreme covariates are left out in turn, exactly.
    """
    sets = fit.sets
    beta, se = fit.params.to_numpy() * sets.scale, fit.se.to_numpy() * sets.scale
    approximate = dfbeta(fit).abs().max(axis=1).to_numpy()
    extreme = np.abs(sets.x).max(axis=1)
    rows = {int(i) for score in (approximate, extreme) for i in np.argsort(score)[-CANDIDATES:]}
    worst, where = 0.0, str(fit.params.index[0])
    for row in sorted(rows):
        weight = sets.weight.copy()
        weight[row] -= 1
        try:
            moved = np.abs(_newton(sets, weight, fit.ties, beta, 1e-4)[0] - beta) / se
        except FitError:
            moved = np.full(len(beta), np.inf)  # without this customer there is no estimate
        if moved.max() > worst:
            worst, where = float(moved.max()), str(fit.params.index[int(moved.argmax())])
    return Check.of(
        "influential customers",
        worst <= limit,
        f"leaving out one customer moves {where} by at most {worst:.2f} standard errors (limit {limit})",
        verdict="undecided",
    )


def entry_independence(frame: pd.DataFrame, covariates: Sequence[str] = (), alpha: float = ALPHA) -> Check:
    """Gate: given tenure, those who entered the extract late leave at the same rate as those observed from the start.

    The tenure at entry (in years) is added to a Cox model; a trend over it speaks against independent late entry. Among
    customers at equal tenure, those seen from the start were acquired later, so a drift of the hazard over calendar
    time shows here too.
    """
    spells = read_spells(frame, covariates)
    if not spells.late:
        return Check("independent late entry", "open", "every customer is observed from acquisition on")
    if not (spells.entry == 0).any() and np.unique(spells.entry).size == 1:
        return Check(
            "independent late entry", "declared", "all customers enter at the same tenure, so it cannot be looked at"
        )
    try:
        fit = cox(frame.assign(entry_years=spells.entry / 12), [*covariates, "entry_years"])
    except FitError as error:
        return Check("independent late entry", "closed", f"could not be tested: {error}", "undecided")
    row = fit.summary().iloc[-1]
    # as with proportional hazards: significant and large (over a tenth for every year of tenure at entry)
    passed = row["p"] >= alpha or abs(row["coef"]) < 0.10
    return Check.of(
        "independent late entry",
        bool(passed),
        f"hazard ratio per year of tenure at entry {row['hazard_ratio']:.3f} [{row['ci_low']:.3f}, "
        f"{row['ci_high']:.3f}], p {row['p']:.3f}",
    )


def overlap(
    frame: pd.DataFrame, group: str, covariates: Sequence[str], bounds: tuple[float, float] = (0.02, 0.98)
) -> Check:
    """Gate: the two groups compared can be told apart from their covariates only so far.

    A logit gives everybody's probability of being in the group; the gate closes if over a tenth lie outside ``bounds``.
    """
    y = frame[group].to_numpy(dtype=float)
    n = frame["n"].to_numpy(dtype=float) if "n" in frame.columns else np.ones(len(frame))
    x = np.column_stack([np.ones(len(frame)), frame[list(covariates)].to_numpy(dtype=float)])
    try:
        p = logit(y, x, n).fittedvalues
    except FitError:
        named = ", ".join(covariates)
        return Check("overlap", "closed", f"{group} is a function of {named}: nobody is comparable")
    outside = float(n[(p < bounds[0]) | (p > bounds[1])].sum() / n.sum())
    return Check.of(
        "overlap",
        outside <= 0.10,
        f"{outside:.1%} of customers have a probability of {group} outside {bounds[0]:.2f} to {bounds[1]:.2f} (at "
        "most 10%)",
    )


def censoring_bounds(
    frame: pd.DataFrame, covariates: Sequence[str], of_interest: str, doubtful: Sequence[str]
) -> pd.DataFrame:
    """Hazard ratios when all doubtful exits, or none of them, were of the cause of interest.

    Parameters
    ----------
    frame : DataFrame
        Spells with ``cause``.
    covariates : sequence of str
        As in :func:`crmresearch.estimators.survival.cox`.
    of_interest : str
        Cause that is modelled.
    doubtful : sequence of str
        Causes that may hide it, e.g. ``("unknown", "dormant")``.

    Returns
    -------
    DataFrame
        Summaries with the column ``assumption``: none, all.
    """
    out = []
    for label, causes in (
        ("none of the doubtful exits", [of_interest]),
        ("all of the doubtful exits", [of_interest, *doubtful]),
    ):
        event = frame["event"].astype(bool) & frame["cause"].isin(causes)
        out.append(cox(frame.assign(event=event.astype(int)), covariates).summary().assign(assumption=label))
    return pd.concat(out, ignore_index=True)
