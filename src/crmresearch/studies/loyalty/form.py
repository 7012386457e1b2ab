"""The form of the link: ordered answers, thresholds, losses against gains, and what matters among the drivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.measurement.model import NotApplicable, PathModel, survey_study
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit, parallel_slopes
from crmresearch.estimators.measurement.pls import correlations, covariance, interval, resampled_covariances
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots

MIN_R2 = 0.05  # explained variance below which splitting it is splitting noise


def construct_scores(items: pd.DataFrame, model: PathModel) -> pd.DataFrame:
    """Return one standardised score per construct: the mean of its standardised items.

    Equal weights need no fit, so scores mean the same in every wave and in every resample.
    """
    z = (items - items.mean()) / items.std(ddof=0)
    raw = pd.DataFrame({c: z[list(block)].mean(axis=1) for c, block in model.constructs.items()})
    return (raw - raw.mean()) / raw.std(ddof=0)


@survey_study
def ordinal_regression(items: pd.DataFrame, model: PathModel) -> Result:
    """Ordered logit of each loyalty item on the scores of what points to loyalty.

    Intervals are simultaneous within the table in the sense of Holm's p-values beside them. The parallel-slopes test
    tells whether one odds ratio describes all answers.
    """
    from statsmodels.stats.multitest import multipletests

    (loyal,) = model.need("loyalty")
    drivers = list(model.predictors(loyal)) or [c for c in model.names if c != loyal]
    scores = construct_scores(items, model)[drivers].to_numpy()
    rows, tests = [], []
    for item in model.constructs[loyal]:
        fit = fit_ordered_logit(scores, items[item].to_numpy())
        p_parallel = parallel_slopes(scores, items[item].to_numpy())[2]
        tests.append(p_parallel)
        for name, slope, se in zip(drivers, fit.slopes, fit.se, strict=True):
            row = {"item": item, "driver": name, "odds_ratio": np.exp(slope)}
            row |= {"low": np.exp(slope - 1.96 * se), "high": np.exp(slope + 1.96 * se)}
            row |= {"p": 2 * one_sided_p(abs(slope), se, 0), "p_parallel": p_parallel, "n": len(items)}
            rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(6, "p_holm", multipletests(table["p"], method="holm")[1])
    parallel = multipletests(tests, method="holm")[1].min()
    clear = int((table["p_holm"] < 0.05).sum())
    sentence = (
        f"{clear} of {len(table)} odds ratios of loyalty answers differ from 1 after Holm's correction; a standard "
        f"deviation of {drivers[-1]} multiplies the odds of a higher answer by "
        f"{table.loc[table['driver'] == drivers[-1], 'odds_ratio'].min():.1f} to "
        f"{table.loc[table['driver'] == drivers[-1], 'odds_ratio'].max():.1f}."
    )
    return Result(
        table,
        sentence,
        checks=(Check.of("parallel slopes", parallel > 0.05, f"smallest Holm p-value {parallel:.3f}", "undecided"),),
        draw=lambda ax: plots.grouped_intervals(
            ax,
            table,
            "item",
            "driver",
            "odds_ratio",
            f"odds ratio per standard deviation (n = {len(items):,})",
            mark=1,
            title="What goes with loyal answers",
        ),
        alt=f"Odds ratios with 95% intervals by loyalty item and driver; a line at 1. {sentence}",
    )


def _hinge_search(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F statistics of a kink at each grid point for a stack of outcomes, and the change of slope there."""
    base = np.column_stack([np.ones_like(x), x])
    q = np.linalg.qr(base)[0]
    rest = y - q @ (q.T @ y)
    hinge = np.maximum(x[:, None] - grid, 0)
    hinge = hinge - q @ (q.T @ hinge)
    size = (hinge**2).sum(axis=0)
    slope = hinge.T @ rest / size[:, None]
    gain = slope**2 * size[:, None]
    return gain / (((rest**2).sum(axis=0) - gain) / (len(x) - 3)), slope


@survey_study
def dose_response(items: pd.DataFrame, model: PathModel, *, resamples: int = 499, seed: int) -> Result:
    """Share of top answers in loyalty against satisfaction: binned, as a spline, and with the best-placed kink.

    The kink is searched between the 10th and 90th percentile of satisfaction; its test takes the search into account
    (largest F, wild bootstrap under a straight line), its interval comes from resampling respondents. The outcome is
    the loyalty score; the picture shows the share giving one of the two highest answers to the first loyalty item.
    """
    from scipy.stats import norm

    sat, loyal = model.need("satisfaction", "loyalty")
    scores = construct_scores(items, model)
    x, y = scores[sat].to_numpy(), scores[loyal].to_numpy()
    rng = np.random.default_rng(seed)
    grid = np.unique(np.quantile(x, np.linspace(0.1, 0.9, 33)))
    f, slope = _hinge_search(x, y[:, None], grid)
    best = int(f[:, 0].argmax())
    base = np.column_stack([np.ones_like(x), x])
    straight = base @ np.linalg.lstsq(base, y, rcond=None)[0]
    flips = rng.choice([-1.0, 1.0], size=(len(x), resamples))
    null = _hinge_search(x, straight[:, None] + (y - straight)[:, None] * flips, grid)[0].max(axis=0)
    p = (1 + (null >= f[best, 0]).sum()) / (resamples + 1)
    places, changes = [], []
    for _ in range(min(resamples, 300)):
        take = rng.integers(0, len(x), len(x))
        f_b, slope_b = _hinge_search(x[take], y[take][:, None], grid)
        at = int(f_b[:, 0].argmax())
        places.append(grid[at])
        changes.append(slope_b[at, 0])
    (low, high), (c_low, c_high) = interval(np.array(places)), interval(np.array(changes))

    first = model.constructs[loyal][0]
    answers = items[first].to_numpy()
    top = (answers >= np.sort(np.unique(answers))[-2]).astype(float)
    bins = pd.qcut(x, 8, labels=False, duplicates="drop")
    binned = (
        pd.DataFrame({"bin": bins, "x": x, "top": top})
        .groupby("bin")
        .agg(satisfaction=("x", "mean"), share=("top", "mean"), n=("top", "size"))
    )
    z = norm.ppf(0.975)
    centre = (binned["share"] + z**2 / (2 * binned["n"])) / (1 + z**2 / binned["n"])
    half = (
        z
        / (1 + z**2 / binned["n"])
        * np.sqrt(binned["share"] * (1 - binned["share"]) / binned["n"] + z**2 / (4 * binned["n"] ** 2))
    )
    table = binned.assign(low=centre - half, high=centre + half).reset_index(drop=True)
    try:
        curve = _spline_share(x, top)
    except FitError:  # no top answer at all over a part of the range: the bins say all there is
        curve = None
    bends = p < 0.05
    sentence = (
        f"The link bends at {grid[best]:.2f} standard deviations of satisfaction [{low:.2f}, {high:.2f}]: the slope "
        f"changes by {slope[best, 0]:.2f} [{c_low:.2f}, {c_high:.2f}] (p = {p:.3f})."
        if bends
        else f"A straight line describes the link of satisfaction and loyalty (test of any kink: p = {p:.3f})."
    )
    sentence += (
        f" From the lowest to the highest eighth of satisfaction the share of top answers goes from "
        f"{table['share'].iloc[0]:.0%} to {table['share'].iloc[-1]:.0%}."
    )
    return Result(
        table,
        sentence,
        draw=lambda ax: plots.dose(ax, table, curve, (grid[best], low, high) if bends else None, first, len(x)),
        alt="Share of top answers against satisfaction: points with intervals"
        + (f" and a spline with its band. {sentence}" if curve is not None else f". {sentence}"),
        details={"p": p, "kink": grid[best], "change": slope[best, 0]},
    )


def _restricted_spline(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Natural cubic spline basis without constant: the first column is ``x`` itself (Harrell)."""
    last, before, width = knots[-1], knots[-2], (knots[-1] - knots[0]) ** 2

    def cube(v: np.ndarray) -> np.ndarray:
        return np.maximum(v, 0) ** 3

    columns = [x]
    for t in knots[:-2]:
        term = (
            cube(x - t)
            - cube(x - before) * (last - t) / (last - before)
            + cube(x - last) * (before - t) / (last - before)
        )
        columns.append(term / width)
    return np.column_stack(columns)


def _spline_share(x: np.ndarray, top: np.ndarray) -> pd.DataFrame:
    knots = np.unique(np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
    knots = knots if len(knots) > 2 else np.linspace(x.min(), x.max(), 3)
    design = _restricted_spline(x, knots)
    fit = fit_ordered_logit(design, top)
    low, high = np.quantile(x, [0.02, 0.98])
    grid = np.linspace(low, high, 60)
    at = _restricted_spline(grid, knots)
    centre = design.mean(axis=0)  # the cut is best known where the data are
    eta = at @ fit.slopes - fit.cuts[0]
    logit = 1 / (1 + np.exp(-(design @ fit.slopes - fit.cuts[0])))
    se = np.sqrt(np.einsum("ij,jk,ik->i", at - centre, fit.covariance, at - centre) + 1 / (logit * (1 - logit)).sum())
    share = 1 / (1 + np.exp(-np.stack([eta, eta - 1.96 * se, eta + 1.96 * se])))
    return pd.DataFrame({"x": grid, "share": share[0], "low": share[1], "high": share[2]})


def robust_ols(x: np.ndarray, y: np.ndarray, cluster: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with HC3 covariance, by cluster if given.

    Residuals are divided by 1 - leverage before they are summed by cluster: a few rows with large money would otherwise
    pull the fit towards themselves and hide the error that they make.
    """
    bread = np.linalg.inv(x.T @ x)
    beta = bread @ (x.T @ y)
    leverage = np.einsum("ij,jk,ik->i", x, bread, x)
    scores = x * ((y - x @ beta) / (1 - leverage))[:, None]
    if cluster is not None:
        codes = np.unique(cluster, return_inverse=True)[1]
        scores = np.stack([np.bincount(codes, column) for column in scores.T], axis=1)
    return beta, bread @ (scores.T @ scores) @ bread


@survey_study
def asymmetry(items: pd.DataFrame, model: PathModel) -> Result:
    """Does satisfaction below its mean weigh more in loyalty than satisfaction above it? A cross-section of scores.

    Where there are waves, :func:`.dynamics.change_asymmetry` asks the better question: falls against rises.
    """
    sat, loyal = model.need("satisfaction", "loyalty")
    scores = construct_scores(items, model)
    return two_slopes(scores[sat].to_numpy(), scores[loyal].to_numpy(), ("below the mean", "above the mean"))


def two_slopes(x: np.ndarray, y: np.ndarray, names: tuple[str, str], cluster: np.ndarray | None = None) -> Result:
    """Regress ``y`` on the parts of ``x`` below and above 0, and compare the slopes (HC3, or by cluster)."""
    if min((x < 0).sum(), (x > 0).sum()) < 30:
        raise NotApplicable("fewer than 30 answers lie on one side of the reference; asymmetry cannot be told")
    design = np.column_stack([np.ones_like(x), np.minimum(x, 0), np.maximum(x, 0)])
    beta, cov = robust_ols(design, y, cluster)
    gap = beta[1] - beta[2]
    gap_se = float(np.sqrt(cov[1, 1] + cov[2, 2] - 2 * cov[1, 2]))
    table = pd.DataFrame(
        {
            "part": [*names, "difference"],
            "slope": [beta[1], beta[2], gap],
            "se": [np.sqrt(cov[1, 1]), np.sqrt(cov[2, 2]), gap_se],
            "n": [(x < 0).sum(), (x > 0).sum(), len(x)],
        }
    )
    table["low"], table["high"] = table["slope"] - 1.96 * table["se"], table["slope"] + 1.96 * table["se"]
    low, high = table["low"].iloc[2], table["high"].iloc[2]
    reading = "weighs more" if low > 0 else "weighs less" if high < 0 else "cannot be told from a gain in weight"
    sentence = (
        f"Loyalty goes with satisfaction at a slope of {beta[1]:.2f} ({names[0]}) and {beta[2]:.2f} ({names[1]}); a "
        f"loss {reading} (difference {gap:.2f} [{low:.2f}, {high:.2f}])."
    )
    return Result(
        table,
        sentence,
        estimates={
            "asymmetry": Estimate(gap, low, high, "difference of slopes", len(x), one_sided_p(gap, gap_se, 0), gap_se)
        },
        draw=lambda ax: plots.intervals(
            ax, table, "part", "slope", f"slope of loyalty (n = {len(x):,})", mark=0, title="A loss against a gain"
        ),
        alt=f"Slopes with 95% intervals: {', '.join(names)}, and their difference. {sentence}",
    )


def relative_weights(corr: np.ndarray, target: int, drivers: np.ndarray) -> np.ndarray:
    """Split R squared over correlated drivers (Johnson 2000), for a stack of correlation matrices.

    Returns
    -------
    array (b, drivers)
        Parts that add up to R squared.
    """
    values, vectors = np.linalg.eigh(corr[:, drivers[:, None], drivers])
    if values.min() < 1e-10:
        raise InputError("the drivers are linearly dependent; drop one")
    root = (vectors * np.sqrt(values)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    beta = np.linalg.solve(root, corr[:, drivers, target][:, :, None])[:, :, 0]
    return np.einsum("bij,bj->bi", root**2, beta**2)


@survey_study
def importance_performance(
    items: pd.DataFrame,
    model: PathModel,
    *,
    gates: Mapping[tuple[str, str], tuple[Check, ...]] | None = None,
    resamples: int = 1000,
    seed: int,
) -> Result:
    """Importance of service attributes for satisfaction (relative weights) against how they perform now.

    Attributes are the items of everything that points to satisfaction. Importance is the item's part of the explained
    variance of the satisfaction score, performance its mean on a scale from 0 to 100. Intervals are simultaneous
    (largest deviation over all items); ``rank_low`` and ``rank_high`` are bootstrap limits of the rank.

    Estimates ``S50``: the part of R squared that belongs to the quality items.
    """
    sat, quality = model.need("satisfaction", "quality")
    sources = model.predictors(sat) or tuple(c for c in model.names if c != sat)
    drivers = np.flatnonzero(np.isin(model.block, [model.names.index(c) for c in sources]))
    scores = construct_scores(items, model)[[sat]]
    data = np.column_stack([items.to_numpy(float), scores[sat].to_numpy()])
    target = data.shape[1] - 1
    corr = correlations(np.concatenate([covariance(data)[None], resampled_covariances(data, resamples, seed)]))
    weight = relative_weights(corr, target, drivers)
    r2 = weight.sum(axis=1)
    share = weight / r2[:, None]
    # the share of R squared of a useless item is above 0; over-fitting of R squared itself is taken off
    deviation = np.abs(share[1:] - share[0]) / share[1:].std(axis=0)
    reach = np.quantile(deviation.max(axis=1), 0.95) * share[1:].std(axis=0)
    ranks = (-share).argsort(axis=1).argsort(axis=1) + 1
    rank_low, rank_high = interval(ranks[1:])
    block = items.iloc[:, drivers]
    floor, ceiling = model.scale or (items.min().min(), items.max().max())
    performance = 100 * (block.mean() - floor) / (ceiling - floor)
    error = 100 * block.std() / np.sqrt(len(block)) / (ceiling - floor)
    table = pd.DataFrame(
        {
            "item": block.columns,
            "construct": [model.names[model.block[d]] for d in drivers],
            "importance": share[0],
            "low": np.maximum(share[0] - reach, 0),
            "high": share[0] + reach,
            "rank_low": rank_low,
            "rank_high": rank_high,
            "performance": performance.to_numpy(),
            "performance_se": error.to_numpy(),
            "n": len(items),
        }
    ).sort_values("importance", ascending=False, ignore_index=True)
    own = np.isin(drivers, np.flatnonzero(model.block == model.names.index(quality)))
    part = share[:, own].sum(axis=1)
    low, high = interval(part[1:])
    se = float(part[1:].std(ddof=1))
    adjusted = 1 - (1 - r2[0]) * (len(items) - 1) / (len(items) - len(drivers) - 1)
    enough = Check.of("something to split", adjusted >= MIN_R2, f"adjusted R squared {adjusted:.3f}", "undecided")
    gate = (*dict(gates or {}).get((quality, sat), ()), enough)
    urgent = table[(table["importance"] > table["importance"].median()) & (table["performance"] < performance.median())]
    sentence = (
        f"Quality items carry {part[0]:.0%} [{low:.0%}, {high:.0%}] of the explained variance of satisfaction "
        f"(R squared {r2[0]:.2f}); important and below the median in performance: "
        f"{', '.join(urgent['item']) if len(urgent) else 'none'}."
    )
    return Result(
        table,
        sentence,
        estimates={
            "S50": Estimate(
                part[0], low, high, "share of R squared", len(items), one_sided_p(part[0], se, 0.2), se, gate
            )
        },
        draw=lambda ax: plots.importance(ax, table, len(items)),
        alt="Map of service attributes: importance upwards, performance to the right, lines at the medians. "
        + sentence,
        figsize=(7.2, 5.2),
        details={"r2": r2[0]},
    )


@survey_study
def moderation(items: pd.DataFrame, model: PathModel, *, role: str = "privacy") -> Result:
    """Does another attitude weaken the link from satisfaction to loyalty? Interaction of standardised scores.

    Estimates ``S16`` for privacy concern. Standard errors are HC3. Measurement error shrinks an interaction towards 0
    (by about the product of both reliabilities), so a missing one is weak evidence.
    """
    sat, loyal, other = model.need("satisfaction", "loyalty", role)
    scores = construct_scores(items, model)
    drivers = [c for c in model.predictors(loyal) if c not in (other,)] or [sat]
    design: dict[str, Any] = {"constant": np.ones(len(scores))}
    design |= {c: scores[c] for c in drivers} | {other: scores[other], "interaction": scores[sat] * scores[other]}
    beta, cov = robust_ols(pd.DataFrame(design).to_numpy(float), scores[loyal].to_numpy())
    se = np.sqrt(np.diag(cov))
    table = pd.DataFrame({"term": list(design), "estimate": beta, "se": se}).iloc[1:]
    table = table.assign(
        low=table["estimate"] - 1.96 * table["se"], high=table["estimate"] + 1.96 * table["se"], n=len(items)
    )
    value, error = float(beta[-1]), float(se[-1])
    low, high = value - 1.96 * error, value + 1.96 * error
    reading = "is weaker" if high < 0 else "is stronger" if low > 0 else "does not measurably differ"
    sentence = (
        f"The link from satisfaction to loyalty {reading} where {role} concern is higher (interaction {value:.3f} "
        f"[{low:.3f}, {high:.3f}] per standard deviation of each)."
    )
    return Result(
        table,
        sentence,
        estimates={
            "S16": Estimate(
                value, low, high, "standardised interaction", len(items), one_sided_p(value, error, 0, "below"), error
            )
        },
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "term",
            "estimate",
            f"standardised slope of loyalty (n = {len(items):,})",
            mark=0,
            title="Satisfaction, concern and loyalty",
        ),
        alt=f"Standardised slopes of loyalty with 95% intervals. {sentence}",
    )
