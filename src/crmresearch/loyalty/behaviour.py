"""From words to behaviour: what customers say against what they do, who answers at all, and which way effects run.

Every association here is adjusted for what the accounts knew before the wave, and for nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing
from crmresearch.loyalty import plots
from crmresearch.loyalty.form import _robust_ols
from crmresearch.loyalty.measurement import _reliabilities
from crmresearch.loyalty.model import PathModel, prepare_items
from crmresearch.loyalty.ordinal import fit_ordered_logit
from crmresearch.loyalty.panel import account_covariates, answers_with_accounts, consecutive
from crmresearch.loyalty.pls import correlations, covariance, interval, resampled_covariances
from crmresearch.loyalty.sem import within_customer
from crmresearch.result import Check, Estimate, Result, one_sided_p, study

__all__ = [
    "changes",
    "cross_lagged",
    "exit_hazard",
    "intention_behaviour",
    "later_contribution",
    "mediation",
    "nonresponse",
    "other_banks",
    "privacy_behaviour",
]

LAGS = (1, 3, 6)  # months between answer and the start of follow-up; 3 is the one that decides
MIN_EVENTS = 50


def _wilson(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = 1.959964
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _cluster_mean(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Covariance of column means, by cluster."""
    codes = np.unique(cluster, return_inverse=True)[1]
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values - values.mean(axis=0))
    return sums.T @ sums / len(values) ** 2


@study
def intention_behaviour(joined: pd.DataFrame, *, stated: str = "switch_chance", horizon_months: int = 12) -> Result:
    """Stated chance of leaving against the share that left within the horizon.

    Garland (2002) found a stated chance of 10% where 5% left within a year.

    Parameters
    ----------
    joined : DataFrame
        ``stated`` (percent or share), ``left`` (0/1, missing without full follow-up), ``customer_id``.
    """
    if stated not in joined.columns:
        return Result.not_applicable(
            Missing(f"the survey asks for no chance of leaving (no column {stated})", ("survey",))
        )
    rows = joined.dropna(subset=[stated, "left"])
    if len(rows) < 100:
        return Result.not_applicable(Missing(f"{len(rows)} answers with a full follow-up; 100 are needed", ("survey",)))
    chance = rows[stated].to_numpy(float)
    chance = chance / 100 if chance.max() > 1 else chance
    left = rows["left"].to_numpy(float)
    band = pd.qcut(chance, 5, labels=False, duplicates="drop")
    table = (
        pd.DataFrame({"band": band, "stated": chance, "actual": left})
        .groupby("band")
        .agg(stated=("stated", "mean"), actual=("actual", "mean"), n=("actual", "size"))
        .reset_index(drop=True)
    )
    table["low"], table["high"] = _wilson(table["actual"].to_numpy() * table["n"].to_numpy(), table["n"].to_numpy())
    mean = np.array([chance.mean(), left.mean()])
    cov = _cluster_mean(np.column_stack([chance, left]), rows["customer_id"].to_numpy())
    enough = left.sum() >= MIN_EVENTS
    gap, gap_se = mean[0] - mean[1], float(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
    ratio = mean[0] / mean[1] if mean[1] > 0 else np.inf
    log_se = float(np.sqrt(cov[0, 0] / mean[0] ** 2 + cov[1, 1] / mean[1] ** 2 - 2 * cov[0, 1] / (mean[0] * mean[1])))
    low, high = ratio * np.exp(-1.96 * log_se), ratio * np.exp(1.96 * log_se)
    sentence = (
        f"Customers state a {mean[0]:.1%} chance of leaving and {mean[1]:.1%} left within {horizon_months} months: "
        f"the stated chance is {ratio:.2f} [{low:.2f}, {high:.2f}] times the actual one."
    )
    return Result(
        table[["stated", "actual", "low", "high", "n"]],
        sentence,
        checks=(Check.of("enough exits", enough, f"{left.sum():.0f} exits, {MIN_EVENTS} needed", "undecided"),),
        estimates={
            "stated_over_actual": Estimate(
                ratio, low, high, "ratio", len(rows), one_sided_p(np.log(ratio), log_se, 0), log_se
            ),
            "stated_less_actual": Estimate(
                gap, gap - 1.96 * gap_se, gap + 1.96 * gap_se, "share", len(rows), se=gap_se
            ),
        },
        draw=lambda ax: plots.calibration(ax, table, horizon_months),
        alt=f"Actual against stated share of leavers in five groups, with intervals and the line of agreement. {sentence}",
        figsize=(5.6, 5.0),
    )


def _cox(rows: pd.DataFrame, lag: int, follow: int) -> tuple[Any, pd.DataFrame]:
    from lifelines import CoxPHFitter

    at_risk = rows[rows["exit_months"] > lag]
    covariates = account_covariates(at_risk)
    covariates = covariates.drop(columns=[c for c in covariates if c.startswith("wave_")])
    time = np.minimum(at_risk["exit_months"].to_numpy(float) - lag, follow)
    event = at_risk["event"].to_numpy(int) * (at_risk["exit_months"].to_numpy(float) - lag <= follow)
    # whole months: exact dates only make ties rarer and the fit slower
    data = covariates.assign(
        satisfaction=at_risk["satisfaction"].to_numpy(float),
        months=np.maximum(np.ceil(time), 1),
        event=event,
        wave=at_risk["wave"].to_numpy(),
        customer=pd.factorize(at_risk["customer_id"])[0],
    )
    fitter = CoxPHFitter()
    return fitter, data


@study
def exit_hazard(joined: pd.DataFrame, model: PathModel, *, lag_months: int = 3, follow_months: int = 12) -> Result:
    """Satisfaction as a lagged covariate of the hazard of voluntary exit.

    Cox model, stratified by wave, from ``lag_months`` after the answer on; standard errors by customer. Lags of 1, 3
    and 6 months are shown, ``lag_months`` decides. Exits in the lag are left out, so that a customer who answers on the
    way out does not count as cause and effect at once.

    Estimates ``S12a``: hazard ratio for one standard deviation of the satisfaction score.
    """
    from lifelines.exceptions import ConvergenceError

    rows = answers_with_accounts(joined, model)
    found = []
    for lag in sorted({*LAGS, lag_months}):
        fitter, data = _cox(rows, lag, follow_months)
        events = int(data["event"].sum())
        if events < 10 + 5 * data.shape[1] - 20:
            continue
        try:
            fitter.fit(data, "months", "event", strata=["wave"], cluster_col="customer", robust=True)
        except ConvergenceError:
            continue
        beta, se = float(fitter.params_["satisfaction"]), float(fitter.standard_errors_["satisfaction"])
        found.append({"lag_months": lag, "beta": beta, "se": se, "events": events, "n": len(data)})
    main = next((f for f in found if f["lag_months"] == lag_months), None)
    if main is None:
        return Result.not_applicable(
            Missing("too few exits after the survey for a hazard model", ("survey", "customers"))
        )
    table = pd.DataFrame(found)
    table["hazard_ratio"] = np.exp(table["beta"])
    table["low"], table["high"] = np.exp(table["beta"] - 1.96 * table["se"]), np.exp(table["beta"] + 1.96 * table["se"])
    table["lag"] = table["lag_months"].map("{} months".format)
    check = _early_late(rows, lag_months, follow_months)
    value, se = main["beta"], main["se"]
    pick = table[table["lag_months"] == lag_months].iloc[0]
    sentence = (
        f"One standard deviation more satisfaction goes with {pick['hazard_ratio']:.2f} [{pick['low']:.2f}, "
        f"{pick['high']:.2f}] times the hazard of leaving, from {lag_months} months after the answer on "
        f"({main['events']} exits)."
    )
    p = one_sided_p(value, se, 0, "below")
    estimate = Estimate(pick["hazard_ratio"], pick["low"], pick["high"], "hazard ratio", main["n"], p, se)
    return Result(
        table[["lag", "hazard_ratio", "low", "high", "events", "n"]],
        sentence,
        checks=(Check.of("enough exits", main["events"] >= MIN_EVENTS, f"{main['events']} exits", "undecided"), *check),
        estimates={"S12a": estimate},
        draw=lambda ax: plots.intervals(
            ax, table, "lag", "hazard_ratio", f"hazard ratio per standard deviation (n = {main['n']:,})", mark=1
        ),
        alt=f"Hazard ratios with 95% intervals at lags of 1, 3 and 6 months, and a line at 1. {sentence}",
        counts=("n", "events"),
    )


def _early_late(rows: pd.DataFrame, lag: int, follow: int) -> tuple[Check, ...]:
    """Compare the effect in the first and the second half of the follow-up: proportional hazards in plain form."""
    from lifelines.exceptions import ConvergenceError

    half = follow // 2
    parts = []
    for start, length in ((lag, half), (lag + half, follow - half)):
        fitter, data = _cox(rows, start, length)
        if data["event"].sum() < 20:
            return ()
        try:
            fitter.fit(data[["satisfaction", "months", "event", "wave"]], "months", "event", strata=["wave"])
        except ConvergenceError:
            return ()
        parts.append((float(fitter.params_["satisfaction"]), float(fitter.standard_errors_["satisfaction"])))
    gap = parts[0][0] - parts[1][0]
    se = float(np.hypot(parts[0][1], parts[1][1]))
    p = 2 * one_sided_p(abs(gap), se, 0)
    words = f"log hazard ratio {parts[0][0]:.2f} in the first half of the follow-up, {parts[1][0]:.2f} in the second (p = {p:.3f})"
    return (Check.of("proportional hazards", p > 0.01, words, "undecided"),)


@study
def later_contribution(joined: pd.DataFrame, model: PathModel, *, horizon_months: int = 12) -> Result:
    """Contribution after the survey by satisfaction, accounts before it held equal.

    Least squares, standard errors by customer. Contribution after an exit is 0, so staying counts. Estimates ``S12``:
    money per customer-year for one standard deviation of the satisfaction score.
    """
    if "contribution_after" not in joined.columns:
        return Result.not_applicable(Missing("the bank brings no table monthly", ("monthly",)))
    rows = answers_with_accounts(joined, model).dropna(subset=["contribution_after"])
    if len(rows) < 200:
        return Result.not_applicable(
            Missing(
                f"{len(rows)} answers with a full year of accounts after them; 200 are needed", ("survey", "monthly")
            )
        )
    y, cluster = rows["contribution_after"].to_numpy(float), rows["customer_id"].to_numpy()
    s = rows["satisfaction"].to_numpy(float)
    one = np.ones(len(rows))
    before = rows["contribution_before"].fillna(rows["contribution_before"].mean()).to_numpy(float)
    adjusted = np.column_stack([one, s, before, account_covariates(rows).to_numpy(float)])
    found = []
    for name, design in (("satisfaction alone", np.column_stack([one, s])), ("accounts held equal", adjusted)):
        beta, cov = _robust_ols(design, y, cluster)
        found.append({"model": name, "money_per_sd": beta[1], "se": float(np.sqrt(cov[1, 1])), "n": len(rows)})
    table = pd.DataFrame(found)
    table["low"], table["high"] = table["money_per_sd"] - 1.96 * table["se"], table["money_per_sd"] + 1.96 * table["se"]
    value, se = float(table["money_per_sd"].iloc[1]), float(table["se"].iloc[1])
    # how far the estimate moves when its single most influential answer is left out, in standard errors
    bread = np.linalg.inv(adjusted.T @ adjusted)
    moved = float(np.abs((adjusted @ bread)[:, 1] * (y - adjusted @ beta)).max() / se)
    low, high = table["low"].iloc[1], table["high"].iloc[1]
    sentence = (
        f"One standard deviation more satisfaction goes with {value:,.1f} [{low:,.1f}, {high:,.1f}] more contribution in the "
        f"following {horizon_months} months, per customer-year, accounts held equal; the mean is {y.mean():,.0f}."
    )
    return Result(
        table[["model", "money_per_sd", "low", "high", "n"]],
        sentence,
        checks=(
            Check.of(
                "no dominating customer",
                moved < 1,
                f"leaving out one answer moves the estimate by {moved:.2f} standard errors",
                "undecided",
            ),
        ),
        estimates={
            "S12": Estimate(value, low, high, "money per customer-year", len(rows), one_sided_p(value, se, 0), se)
        },
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "model",
            "money_per_sd",
            f"contribution per year and standard deviation (n = {len(rows):,})",
            mark=0,
        ),
        alt=f"Two slopes with 95% intervals: satisfaction alone, and with accounts held equal. {sentence}",
        digits=1,
    )


@study
def nonresponse(joined: pd.DataFrame, model: PathModel, *, gamma: float = 1.5) -> Result:
    """Mean satisfaction of all invited customers: respondents as they come, weighted by accounts, and bounds.

    Weights are inverse response probabilities from what accounts knew before the wave. They remove the bias of
    completers-only means when response depends on those things, and only reduce it when it depends on satisfaction
    itself. For that case there are two pairs of bounds: the odds of answering may differ from the modelled ones by a
    factor ``gamma`` either way (Zhao, Small and Bhattacharya 2019), and the worst case, in which all who are silent
    would give the lowest or the highest answer (Manski).

    Returns
    -------
    Result
        Satisfaction as the mean of its items, in their unit. ``estimates["satisfaction_mean"]`` is the weighted mean,
        ``estimates["satisfaction_bounds"]`` the gamma bounds widened by sampling error.
    """
    if gamma < 1:
        raise InputError(f"gamma is {gamma}; it is a factor of 1 or more")
    if "responded" not in joined.columns or bool(joined["responded"].all()):
        return Result.not_applicable(
            Missing("the survey lists respondents only: nothing tells who was invited and stayed silent", ("survey",))
        )
    prepare_items(joined, model)
    name = model.role("satisfaction")
    if name is None:
        raise InputError("the survey has no satisfaction construct")
    block = list(model.constructs[name])
    value = joined[block].mean(axis=1, skipna=False).to_numpy(float)
    answered = (joined["responded"].astype(bool) & ~np.isnan(value)).to_numpy()
    x = account_covariates(joined)
    fit = fit_ordered_logit(x.to_numpy(float), answered.astype(int), cluster=joined["customer_id"].to_numpy())
    probability = 1 / (1 + np.exp(-(x.to_numpy(float) @ fit.slopes - fit.cuts[0])))
    y, p = value[answered], probability[answered]
    w = 1 / p
    cluster = joined["customer_id"].to_numpy()

    plain, plain_se = _ratio_mean(np.ones_like(y), y, cluster[answered])
    weighted, weighted_se = _ipw_mean(x.to_numpy(float), answered, value, probability, cluster)
    low_answer, high_answer = model.scale or (
        np.nanmin(joined[block].to_numpy(float)),
        np.nanmax(joined[block].to_numpy(float)),
    )
    share = answered.mean()
    manski = (share * y.mean() + (1 - share) * low_answer, share * y.mean() + (1 - share) * high_answer)
    tilted = _gamma_bounds(y, w, gamma)
    rows = [
        ("respondents only", plain, plain - 1.96 * plain_se, plain + 1.96 * plain_se),
        ("weighted by accounts", weighted, weighted - 1.96 * weighted_se, weighted + 1.96 * weighted_se),
        (f"odds off by {gamma:g}", weighted, tilted[0] - 1.96 * weighted_se, tilted[1] + 1.96 * weighted_se),
        ("worst case", weighted, *manski),
    ]
    table = pd.DataFrame(rows, columns=["estimate_of", "mean", "low", "high"]).assign(n=len(y), invited=len(joined))
    balance = pd.DataFrame(
        {
            "covariate": x.columns,
            "before": (x[answered].mean() - x.mean()).div(x.std()).to_numpy(),
            "after": (x[answered].mul(w, axis=0).sum() / w.sum() - x.mean()).div(x.std()).to_numpy(),
        }
    )
    effective = w.sum() ** 2 / (w**2).sum()
    sentence = (
        f"{share:.0%} of {len(joined):,} invitations were answered. Mean satisfaction is {plain:.3f} among respondents and "
        f"{weighted:.3f} [{rows[1][2]:.3f}, {rows[1][3]:.3f}] weighted by accounts; it lies between {rows[2][2]:.2f} and "
        f"{rows[2][3]:.2f} if the odds of answering are off by {gamma:g}, and between {manski[0]:.2f} and {manski[1]:.2f} "
        "in the worst case."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "overlap of response",
                p.min() > 0.02,
                f"smallest modelled response {p.min():.3f}; effective sample {effective:,.0f} of {len(y):,}",
                "undecided",
            ),
            Check(
                "response depends on accounts only",
                "declared",
                f"data cannot show it; the bounds at {gamma:g} do without",
                "undecided",
            ),
        ),
        estimates={
            "satisfaction_completers": Estimate(rows[0][1], rows[0][2], rows[0][3], "mean answer", len(y), se=plain_se),
            "satisfaction_mean": Estimate(rows[1][1], rows[1][2], rows[1][3], "mean answer", len(y), se=weighted_se),
            "satisfaction_bounds": Estimate(rows[2][1], rows[2][2], rows[2][3], "mean answer", len(y)),
        },
        draw=lambda ax: _draw_response(ax, table, balance),
        alt="Left: standardised differences between respondents and invited customers, before and after weighting. Right: "
        f"four means of satisfaction with intervals or bounds. {sentence}",
        panels=2,
        figsize=(11.5, 4.4),
        counts=("n", "invited"),
        details={"balance": balance, "probability": probability},
    )


def _ratio_mean(w: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    mean = float(w @ y / w.sum())
    codes = np.unique(cluster, return_inverse=True)[1]
    sums = np.bincount(codes, weights=w * (y - mean))
    return mean, float(np.sqrt((sums**2).sum()) / w.sum())


def _ipw_mean(
    x: np.ndarray, answered: np.ndarray, value: np.ndarray, probability: np.ndarray, cluster: np.ndarray
) -> tuple[float, float]:
    """Weighted mean with a standard error that knows the weights were estimated (stacked estimating equations)."""
    w = np.where(answered, 1 / probability, 0.0)
    y = np.where(answered, value, 0.0)
    mean = float(w @ y / w.sum())
    moment = w * (y - mean)
    design = np.column_stack([np.ones(len(x)), x])
    score = design * (answered - probability)[:, None]
    hessian = (design * (probability * (1 - probability))[:, None]).T @ design
    # d moment / d coefficient = -odds of silence x moment
    slope = -(design * (np.where(answered, (1 - probability) / probability * (y - mean), 0.0))[:, None]).sum(axis=0)
    influence = (moment + score @ np.linalg.solve(hessian, slope)) / w.sum()
    codes = np.unique(cluster, return_inverse=True)[1]
    return mean, float(np.sqrt((np.bincount(codes, weights=influence) ** 2).sum()))


def _gamma_bounds(y: np.ndarray, w: np.ndarray, gamma: float) -> tuple[float, float]:
    """Extremes of the weighted mean when the odds behind each weight may be off by ``gamma`` either way.

    The extreme puts the largest weights on one side of a threshold of ``y``; all thresholds are tried.
    """
    order = np.argsort(y, kind="stable")
    y, silent = y[order], w[order] - 1
    small, large = 1 + silent / gamma, 1 + silent * gamma

    def best(first: np.ndarray, then: np.ndarray) -> np.ndarray:
        top = np.concatenate([[0], np.cumsum(first * y)]) + np.concatenate([np.cumsum((then * y)[::-1])[::-1], [0]])
        bottom = np.concatenate([[0], np.cumsum(first)]) + np.concatenate([np.cumsum(then[::-1])[::-1], [0]])
        return top / bottom

    return float(best(large, small).min()), float(best(small, large).max())


def _draw_response(ax: Any, table: pd.DataFrame, balance: pd.DataFrame) -> Any:
    place = np.arange(len(balance))[::-1]
    ax[0].scatter(balance["before"], place, color=plots.PALETTE[1], label="respondents as they come", zorder=3)
    ax[0].scatter(balance["after"], place, color=plots.PALETTE[0], marker="s", label="weighted", zorder=3)
    ax[0].axvline(0, color=plots.GREY, linewidth=1)
    ax[0].set_yticks(place, balance["covariate"])
    ax[0].set_xlabel("difference from all invited, standard deviations")
    ax[0].set_title("Who answers")
    ax[0].legend()
    plots.intervals(
        ax[1], table, "estimate_of", "mean", f"mean satisfaction, 95% interval or bounds (n = {table['n'].iloc[0]:,})"
    )
    ax[1].set_title("What it does to the mean")
    return ax


@study
def cross_lagged(joined: pd.DataFrame, model: PathModel, *, resamples: int = 500, seed: int) -> Result:
    """Which way does it run: satisfaction to later loyalty, loyalty to later satisfaction?

    Each outcome is regressed on all construct scores of the wave before, over all pairs of consecutive waves. The error
    variance of the scores (1 - omega) is taken off the moments, since error in satisfaction would otherwise show up as
    an effect of loyalty. Customers are resampled with all their waves. Estimates ``S48`` (loyalty to satisfaction).

    With three waves, the random-intercept model (effects around a customer's own level) is shown beside it.
    """
    roles = [r for r in ("image", "expectation", "quality", "value", "satisfaction", "loyalty") if model.role(r)]
    if not {"satisfaction", "loyalty"} <= set(roles):
        raise InputError("cross-lagged effects need satisfaction and loyalty")
    core = model.only(*(str(model.role(r)) for r in roles))
    items = prepare_items(joined, core)
    rows = joined.loc[items.index, ["customer_id", "wave"]].join(items)
    pairs = consecutive(rows, list(core.items))
    if len(pairs) < 100:
        return Result.not_applicable(Missing(f"{len(pairs)} pairs of consecutive answers; 100 are needed", ("survey",)))
    targets = ["satisfaction", "loyalty"]
    next_items = [f"{i}_next" for r in targets for i in core.constructs[str(core.role(r))]]
    x = pairs[[*core.items, *next_items]].to_numpy(float)
    drawn = resampled_covariances(x, resamples, seed, cluster=pd.factorize(pairs["customer_id"])[0])
    stack = correlations(np.concatenate([covariance(x)[None], drawn]))
    blocks = [np.flatnonzero(core.block == core.names.index(str(core.role(r)))) for r in roles]
    k = len(core.items)
    for role in targets:
        size = len(core.constructs[str(core.role(role))])
        blocks.append(np.arange(k, k + size))
        k += size
    member = np.zeros((x.shape[1], len(blocks)))
    for j, at in enumerate(blocks):
        member[at, j] = 1
    omega = np.stack([_reliabilities(stack[:, at[:, None], at])["omega"] for at in blocks], axis=1)
    true = correlations(member.T @ stack @ member)
    root = np.sqrt(omega)
    true = true / (root[:, :, None] * root[:, None, :])
    eye = np.arange(len(blocks))
    true[:, eye, eye] = 1
    before = np.arange(len(roles))
    slopes = np.linalg.solve(true[:, before[:, None], before], true[:, before, len(roles) :])
    found, estimates = [], {}
    for j, target in enumerate(targets):
        for source in targets:
            sample = slopes[:, roles.index(source), j]
            low, high = interval(sample[1:])
            se = float(sample[1:].std(ddof=1))
            found.append(
                {"effect": f"{source} to later {target}", "route": "waves, all customers", "estimate": sample[0]}
            )
            found[-1] |= {"low": low, "high": high, "n": len(pairs)}
            if (source, target) == ("loyalty", "satisfaction"):
                estimates["S48"] = Estimate(
                    sample[0], low, high, "standardised path", len(pairs), one_sided_p(sample[0], se, 0), se
                )
            if (source, target) == ("satisfaction", "loyalty"):
                estimates["satisfaction_to_later_loyalty"] = Estimate(
                    sample[0], low, high, "standardised path", len(pairs), se=se
                )
    smallest = np.linalg.eigvalsh(true[:, before[:, None], before])[:, 0]
    good = (smallest > 0.02).mean()
    found += _random_intercepts(
        rows, core, float(omega[0, roles.index("satisfaction")]), float(omega[0, roles.index("loyalty")])
    )
    table = pd.DataFrame(found)
    s48 = estimates["S48"]
    sentence = (
        f"Loyalty goes with later satisfaction at {s48.text()} and satisfaction with later loyalty at "
        f"{estimates['satisfaction_to_later_loyalty'].text()}, other attitudes of the wave before held equal "
        f"({len(pairs):,} pairs of waves)."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "constructs apart",
                good >= 0.95,
                f"{good:.0%} of resamples have clearly distinct constructs",
                "undecided",
            ),
        ),
        estimates=estimates,
        draw=lambda ax: plots.grouped_intervals(ax, table, "effect", "route", "estimate", "standardised path"),
        alt=f"Lagged effects in both directions with 95% intervals. {sentence}",
    )


def _random_intercepts(rows: pd.DataFrame, model: PathModel, omega_x: float, omega_y: float) -> list[dict[str, Any]]:
    """Within-customer effects where at least 200 customers answered three waves; nothing otherwise."""
    from crmresearch.errors import FitError
    from crmresearch.loyalty.form import construct_scores

    scores = construct_scores(rows[list(model.items)], model)
    names = {str(model.role("satisfaction")): "x", str(model.role("loyalty")): "y"}
    wide = rows[["customer_id", "wave"]].join(scores[list(names)].rename(columns=names))
    wide = wide.pivot(index="customer_id", columns="wave", values=["x", "y"])
    waves = int(rows["wave"].nunique())
    if waves < 3:
        return []
    wide.columns = pd.Index([f"{v}{i % waves + 1}" for i, (v, _) in enumerate(wide.columns)])
    wide = wide.dropna()
    if len(wide) < 200:
        return []
    try:
        fit = within_customer(wide, waves, error=(1 - omega_x, 1 - omega_y)).set_index("path")
    except FitError:
        return []
    words = {"x": "satisfaction", "y": "loyalty"}
    out = []
    for path, row in fit.iterrows():
        a, _, b = str(path).split()
        e, se = row["estimate"], row["se"]
        out.append({"effect": f"{words[a]} to later {words[b]}", "route": "within customers", "estimate": e})
        out[-1] |= {"low": e - 1.96 * se, "high": e + 1.96 * se, "n": len(wide)}
    return out


@study
def changes(joined: pd.DataFrame, model: PathModel) -> Result:
    """Changes within customers between waves: satisfaction against loyalty, stay and later contribution.

    Whatever is fixed about a customer drops out; waves have their own intercepts; standard errors by customer.
    Measurement error weighs more in a change than in a level, so slopes are conservative.
    """
    answers = answers_with_accounts(joined, model)
    columns = ["satisfaction", "loyalty"] + [c for c in ("contribution_after",) if c in answers.columns]
    pairs = consecutive(answers, columns)
    if len(pairs) < 100:
        return Result.not_applicable(
            Missing(f"{len(pairs)} customers answered two consecutive waves; 100 are needed", ("survey",))
        )
    found = []
    for name, unit in (("loyalty", "standard deviations"), ("contribution_after", "money per year")):
        if name not in columns:
            continue
        use = pairs.dropna(subset=[name, f"{name}_next"])
        if len(use) < 100:
            continue
        d = (use["satisfaction_next"] - use["satisfaction"]).to_numpy(float)
        change = (use[f"{name}_next"] - use[name]).to_numpy(float)
        waves = pd.get_dummies(use["wave"], dtype=float).to_numpy()
        beta, cov = _robust_ols(np.column_stack([d, waves]), change, use["customer_id"].to_numpy())
        se = float(np.sqrt(cov[0, 0]))
        found.append(
            {
                "outcome": name,
                "unit": unit,
                "slope": beta[0],
                "low": beta[0] - 1.96 * se,
                "high": beta[0] + 1.96 * se,
                "n": len(use),
            }
        )
    table = pd.DataFrame(found)
    first = table.iloc[0]
    sentence = (
        f"When a customer's satisfaction rises by a standard deviation, loyalty rises by {first['slope']:.2f} "
        f"[{first['low']:.2f}, {first['high']:.2f}] ({first['n']:,} pairs of waves)."
    )
    frame = pd.DataFrame(
        {
            "customer": pairs["customer_id"],
            "satisfaction": pairs["satisfaction_next"] - pairs["satisfaction"],
            "loyalty": pairs["loyalty_next"] - pairs["loyalty"],
        }
    )
    return Result(
        table,
        sentence,
        details={"changes": frame},
        draw=lambda ax: plots.intervals(
            ax, table.iloc[:1], "outcome", "slope", "change of loyalty per standard deviation of satisfaction", mark=0
        ),
        alt=f"One slope with its 95% interval. {sentence}",
        figsize=(7.2, 1.8),
    )


@study
def mediation(items: pd.DataFrame, model: PathModel, *, resamples: int = 1000, seed: int) -> Result:
    """How strong would an unmeasured common cause have to be to explain the indirect effect away?

    Quality to satisfaction to loyalty, by least squares on scores, other predictors held equal. The sensitivity
    parameter is the correlation of the two disturbances (Imai, Keele and Tingley 2010): the indirect effect is 0 where
    it equals the correlation of the residuals of satisfaction and of loyalty given quality (without satisfaction).
    """
    quality, sat, loyal = (model.role(r) for r in ("quality", "satisfaction", "loyalty"))
    if not (quality and sat and loyal):
        raise InputError("mediation needs quality, satisfaction and loyalty")
    held = [c for c in {*model.predictors(sat), *model.predictors(loyal)} if c not in (quality, sat)]
    names = [quality, *sorted(held), sat, loyal]
    member = np.zeros((len(model.items), len(names)))
    for j, c in enumerate(names):
        member[model.block == model.names.index(c), j] = 1
    x = items[list(model.items)].to_numpy(float)
    stack = correlations(np.concatenate([covariance(x)[None], resampled_covariances(x, resamples, seed)]))
    r = correlations(member.T @ stack @ member)
    m, y, c = len(names) - 2, len(names) - 1, np.arange(len(names) - 2)
    to_m = np.linalg.solve(r[:, c[:, None], c], r[:, c, m, None])[:, :, 0]
    to_y = np.linalg.solve(r[:, c[:, None], c], r[:, c, y, None])[:, :, 0]
    with_m = np.arange(m + 1)
    full = np.linalg.solve(r[:, with_m[:, None], with_m], r[:, with_m, y, None])[:, :, 0]
    indirect = to_m[:, 0] * full[:, m]
    var_m = 1 - (to_m * r[:, c, m]).sum(axis=1)
    var_y = 1 - (to_y * r[:, c, y]).sum(axis=1)
    cov = r[:, m, y] - (to_m * r[:, c, y]).sum(axis=1)
    rho = cov / np.sqrt(var_m * var_y)
    rows = []
    for name, sample in (
        ("quality to satisfaction", to_m[:, 0]),
        ("satisfaction to loyalty", full[:, m]),
        ("indirect effect", indirect),
        ("direct effect", full[:, 0]),
        ("correlation of disturbances that explains it away", rho),
    ):
        low, high = interval(sample[1:])
        rows.append({"quantity": name, "estimate": sample[0], "low": low, "high": high, "n": len(x)})
    table = pd.DataFrame(rows)
    e, (low, high) = indirect[0], interval(indirect[1:])
    sentence = (
        f"The indirect effect of quality on loyalty through satisfaction is {e:.2f} [{low:.2f}, {high:.2f}]; an unmeasured "
        f"common cause would explain it away if it left the two disturbances correlated at {rho[0]:.2f} "
        f"[{rows[-1]['low']:.2f}, {rows[-1]['high']:.2f}]."
    )
    grid = np.linspace(-0.9, 0.9, 73)
    ratio = np.sqrt(var_y[0] / var_m[0])
    curve = to_m[0, 0] * ratio * (rho[0] - grid * np.sqrt((1 - rho[0] ** 2) / (1 - grid**2)))
    return Result(
        table,
        sentence,
        checks=(
            Check(
                "no unmeasured common cause",
                "declared",
                f"explained away at a correlation of {rho[0]:.2f}",
                "undecided",
            ),
        ),
        estimates={
            "indirect": Estimate(e, low, high, "standardised effect", len(x), se=float(indirect[1:].std(ddof=1)))
        },
        draw=lambda ax: _draw_sensitivity(ax, grid, curve, rho[0], len(x)),
        alt=f"Indirect effect against the assumed correlation of disturbances; it crosses 0 at {rho[0]:.2f}. {sentence}",
    )


def _draw_sensitivity(ax: Any, grid: np.ndarray, curve: np.ndarray, rho: float, n: int) -> Any:
    ax.plot(grid, curve, color=plots.ACCENT)
    ax.axhline(0, color=plots.GREY, linewidth=1)
    ax.axvline(rho, color=plots.PALETTE[1], linestyle="--", linewidth=1.2)
    ax.set_xlabel("assumed correlation of the disturbances of satisfaction and loyalty")
    ax.set_ylabel(f"indirect effect, standardised (n = {n:,})")
    ax.set_title("What would explain the indirect effect away")
    return ax


@study
def other_banks(survey: pd.DataFrame, model: PathModel, *, banks: str = "other_banks") -> Result:
    """Satisfaction by the number of other banks a customer uses (Dawes 2024: users of more banks rate each lower)."""
    if banks not in survey.columns:
        return Result.not_applicable(
            Missing(f"the survey does not ask about other banks (no column {banks})", ("survey",))
        )
    items = prepare_items(survey, model)
    scores = construct_scores_of(items, model)
    count = survey.loc[items.index, banks].astype(float)
    known = count.notna().to_numpy()
    s, k = scores[known], np.minimum(count[known].to_numpy(), 3)
    who = (
        survey.loc[items.index, "customer_id"].to_numpy()[known]
        if "customer_id" in survey.columns
        else np.arange(known.sum())
    )
    if len(np.unique(k)) < 2:
        return Result.not_applicable(Missing("all customers report the same number of other banks", ("survey",)))
    rows = []
    for level in np.unique(k):
        mean, se = _ratio_mean(np.ones((k == level).sum()), s[k == level], who[k == level])
        label = f"{level:.0f}" if level < 3 else "3 or more"
        rows.append(
            {
                "other_banks": label,
                "satisfaction": mean,
                "low": mean - 1.96 * se,
                "high": mean + 1.96 * se,
                "n": int((k == level).sum()),
            }
        )
    table = pd.DataFrame(rows)
    beta, cov = _robust_ols(np.column_stack([np.ones(len(k)), k]), s, who)
    se = float(np.sqrt(cov[1, 1]))
    low, high = beta[1] - 1.96 * se, beta[1] + 1.96 * se
    sentence = f"Each further bank goes with {beta[1]:.3f} [{low:.3f}, {high:.3f}] standard deviations of satisfaction."
    return Result(
        table,
        sentence,
        estimates={
            "other_banks": Estimate(
                beta[1], low, high, "standard deviations per bank", len(k), one_sided_p(beta[1], se, 0, "below"), se
            )
        },
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "other_banks",
            "satisfaction",
            f"satisfaction, standard deviations from the mean (n = {len(k):,})",
            mark=0,
        ),
        alt=f"Mean satisfaction with 95% intervals by number of other banks. {sentence}",
    )


def construct_scores_of(items: pd.DataFrame, model: PathModel) -> np.ndarray:
    """Return the satisfaction score as an array."""
    from crmresearch.loyalty.form import construct_scores

    return construct_scores(items, model)[str(model.role("satisfaction"))].to_numpy(float)


@study
def privacy_behaviour(joined: pd.DataFrame, model: PathModel) -> Result:
    """Consent and digital use by privacy concern: odds ratio of consent, change of the digital share, per deviation."""
    if model.role("privacy") is None:
        return Result.not_applicable(Missing("the survey has no construct of privacy concern", ("survey",)))
    rows = answers_with_accounts(joined, model)
    covariates = account_covariates(rows)
    found = []
    consent = rows.get("consent_marketing")
    if (
        consent is not None
        and consent.isin(["yes", "no"]).any()
        and consent[consent.isin(["yes", "no"])].nunique() == 2
    ):
        known = consent.isin(["yes", "no"]).to_numpy()
        x = np.column_stack([rows["privacy"], covariates])[known].astype(float)
        fit = fit_ordered_logit(
            x, (consent[known] == "yes").to_numpy().astype(int), cluster=rows["customer_id"].to_numpy()[known]
        )
        b, se = fit.slopes[0], fit.se[0]
        found.append(
            {
                "outcome": "consent to marketing",
                "unit": "odds ratio",
                "estimate": np.exp(b),
                "low": np.exp(b - 1.96 * se),
                "high": np.exp(b + 1.96 * se),
                "n": int(known.sum()),
            }
        )
    if "digital_share" in rows.columns and rows["digital_share"].notna().sum() > 100:
        known = rows["digital_share"].notna().to_numpy()
        x = np.column_stack([np.ones(known.sum()), rows["privacy"][known], covariates[known]]).astype(float)
        beta, cov = _robust_ols(x, rows["digital_share"][known].to_numpy(float), rows["customer_id"].to_numpy()[known])
        se = float(np.sqrt(cov[1, 1]))
        found.append(
            {
                "outcome": "digital share of transactions",
                "unit": "share",
                "estimate": beta[1],
                "low": beta[1] - 1.96 * se,
                "high": beta[1] + 1.96 * se,
                "n": int(known.sum()),
            }
        )
    if not found:
        return Result.not_applicable(
            Missing("neither consent nor digital use is recorded", ("customers", "transactions"))
        )
    table = pd.DataFrame(found)
    sentence = "; ".join(
        f"{r.outcome}: {r.unit} {r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in table.itertuples()
    )
    return Result(table, f"For one standard deviation more privacy concern, {sentence}.")
