"""Measurement first: do the items measure the constructs, and are the constructs different things?

Every path is read through these results: where two constructs cannot be told apart (:func:`htmt`), :func:`path_gates`
closes the paths that lean on telling them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.measurement import sem
from crmresearch.estimators.measurement.model import PathModel, carries_missing, complete_answers, survey_study
from crmresearch.estimators.measurement.pls import correlations, covariance, fit_pls, interval, resampled_covariances
from crmresearch.estimators.measurement.polychoric import resampled_polychoric
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots

MAX_ANSWERS = 15  # different answers that are drawn one by one
HTMT_LIMIT = 0.90  # Henseler, Ringle and Sarstedt (2015)


@survey_study
def item_summary(frame: pd.DataFrame, model: PathModel) -> Result:
    """Describe each item: answers, missing ones, mean, spread, skew, share at the floor and at the top.

    Parameters
    ----------
    frame : DataFrame
        One row per invited or responding customer with a column per item; ``responded`` (bool) where invitations are
        kept. Missing answers are counted among respondents.
    model : PathModel
    """
    rows = frame[frame["responded"].astype(bool)] if "responded" in frame.columns else frame
    complete_answers(rows, model)  # refuses unusable items; what follows describes the answers as given
    block = rows[list(model.items)].astype(float)
    low, high = block.min().min(), block.max().max()
    table = pd.DataFrame(
        {
            "construct": [model.names[k] for k in model.block],
            "item": model.items,
            "n": block.notna().sum().to_numpy(),
            "missing": block.isna().mean().to_numpy(),
            "mean": block.mean().to_numpy(),
            "sd": block.std().to_numpy(),
            "skew": block.skew().to_numpy(),
            "floor": (block == low).sum().div(block.notna().sum()).to_numpy(),
            "top": (block == high).sum().div(block.notna().sum()).to_numpy(),
        }
    )
    complete = block.notna().all(axis=1).mean()
    skewed = int((table["skew"] < 0).sum())
    sentence = (
        f"{len(block):,} respondents answered {len(model.items)} items on a scale from {low:g} to {high:g}; "
        f"{complete:.0%} answered all of them, and {skewed} items are skewed towards the top."
    )
    shown = block
    if len(np.unique(block.to_numpy()[block.notna().to_numpy()])) > MAX_ANSWERS:  # a slider: ten bands for the eye
        width = (high - low) / 10
        shown = low + width * np.minimum(np.floor((block - low) / width), 9)
    shares = pd.DataFrame({i: shown[i].value_counts(normalize=True) for i in model.items}).T
    shares = shares.sort_index(axis=1).fillna(0)
    return Result(
        table,
        sentence,
        draw=lambda ax: plots.answers(ax, shares, len(block)),
        alt=f"Stacked bars, one per item, of the shares of answers {low:g} to {high:g}. {sentence}",
        figsize=(7.2, 0.22 * len(model.items) + 1.6),
    )


def _one_factor(corr: np.ndarray, rounds: int = 200) -> np.ndarray:
    """Least-squares loadings of one factor, for a stack of correlation matrices (principal axes, iterated)."""
    p = corr.shape[1]
    if p == 2:  # two items determine only the product of their loadings
        return np.sqrt(np.clip(corr[:, [0, 0], [1, 1]], 0, 1))
    eye = np.arange(p)
    loading = np.sqrt(np.clip(np.abs(corr).sum(axis=2) / p, 0, 0.98))
    for _ in range(rounds):
        reduced = corr.copy()
        reduced[:, eye, eye] = np.minimum(loading**2, 0.995)
        values, vectors = np.linalg.eigh(reduced)
        new = np.abs(vectors[:, :, -1]) * np.sqrt(np.maximum(values[:, -1:], 0))
        if np.abs(new - loading).max() < 1e-7:
            break
        loading = new
    return np.minimum(new, 1.0)


def reliabilities(corr: np.ndarray) -> dict[str, np.ndarray]:
    """Alpha, Dillon and Goldstein's rho (first component), omega and average variance extracted (one factor)."""
    p = corr.shape[1]
    total = corr.sum(axis=(1, 2))
    values, vectors = np.linalg.eigh(corr)
    component = np.abs(vectors[:, :, -1].sum(axis=1)) * np.sqrt(values[:, -1])
    loading = _one_factor(corr)
    common = loading.sum(axis=1) ** 2
    return {
        "alpha": p / (p - 1) * (1 - p / total),
        "dg_rho": component**2 / (component**2 + p - values[:, -1]),
        "omega": common / (common + (1 - loading**2).sum(axis=1)),
        "ave": (loading**2).mean(axis=1),
    }


@survey_study
def reliability(items: pd.DataFrame, model: PathModel, *, resamples: int = 1000, seed: int) -> Result:
    """Reliability of each construct: Cronbach's alpha, Dillon-Goldstein's rho, McDonald's omega, variance extracted.

    Parameters
    ----------
    items : DataFrame
        As :func:`.prepare_items` returns them.
    resamples, seed : int
        Bootstrap of the intervals of alpha and omega.
    """
    x = items.to_numpy(dtype=float)
    corr = correlations(covariance(x))[None]
    drawn = correlations(resampled_covariances(x, resamples, seed))
    rows = []
    for k, name in enumerate(model.names):
        at = np.ix_(range(1), model.block == k, model.block == k)
        many = np.ix_(range(resamples), model.block == k, model.block == k)
        value, sample = reliabilities(corr[at]), reliabilities(drawn[many])
        row: dict[str, Any] = {"construct": name, "items": len(model.constructs[name])}
        for key in ("alpha", "omega"):
            low, high = interval(sample[key])
            row |= {key: value[key][0], f"{key}_low": low, f"{key}_high": high}
        rows.append(row | {"dg_rho": value["dg_rho"][0], "ave": value["ave"][0], "n": len(x)})
    table = pd.DataFrame(rows)
    weak = table.loc[table["omega_low"] < 0.7, "construct"].tolist()
    sentence = f"Reliability (omega) lies between {table['omega'].min():.2f} and {table['omega'].max():.2f}" + (
        f"; the interval of {', '.join(weak)} reaches below .70." if weak else "; every interval stays above .70."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "reliability",
                not (table["omega_high"] < 0.6).any(),
                f"lowest omega {table['omega'].min():.2f}, closed where an interval lies below .60",
                "undecided",
            ),
        ),
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "construct",
            "omega",
            f"omega, 95% interval (n = {len(x):,}; dashed: 0.70)",
            mark=0.7,
            title="How reliable the scores are",
        ),
        alt=f"Points with 95% intervals of omega by construct, and a line at .70. {sentence}",
    )


def htmt_ratios(corr: np.ndarray, model: PathModel) -> np.ndarray:
    """Heterotrait-monotrait ratios of (a stack of) correlation matrices, (b, constructs, constructs)."""
    member = (model.block[:, None] == np.arange(len(model.names))).astype(float)
    size = member.sum(axis=0)
    mean = (member.T @ (corr - np.eye(len(member))) @ member) / (np.outer(size, size) - np.diag(size))
    own = np.sqrt(np.maximum(np.diagonal(mean, axis1=1, axis2=2), 1e-9))
    return mean / (own[:, :, None] * own[:, None, :])


@survey_study
def htmt(
    items: pd.DataFrame, model: PathModel, *, limit: float = HTMT_LIMIT, resamples: int = 1000, seed: int
) -> Result:
    """Heterotrait-monotrait ratio of every pair of constructs, with bootstrap intervals.

    A pair whose interval reaches ``limit`` is not two things in these data (Henseler, Ringle and Sarstedt 2015).
    ``details["closed"]`` holds those pairs; :func:`path_gates` turns them into gates.
    """
    x = items.to_numpy(dtype=float)
    value = htmt_ratios(correlations(covariance(x))[None], model)[0]
    low, high = interval(htmt_ratios(correlations(resampled_covariances(x, resamples, seed)), model))
    rows = [
        {"pair": f"{a} - {b}", "htmt": value[i, j], "low": low[i, j], "high": high[i, j], "n": len(x)}
        for (i, a), (j, b) in itertools.combinations(enumerate(model.names), 2)
    ]
    table = pd.DataFrame(rows).assign(gate=lambda t: np.where(t["high"] >= limit, "closed", "open"))
    closed = {
        frozenset((a, b)): (value[i, j], high[i, j])
        for (i, a), (j, b) in itertools.combinations(enumerate(model.names), 2)
        if high[i, j] >= limit
    }
    worst = table.loc[table["htmt"].idxmax()]
    sentence = (
        f"{len(closed)} of {len(table)} pairs of constructs cannot be told apart (upper end of HTMT at {limit:.2f} or "
        f"more); the closest are {worst['pair']} at {worst['htmt']:.2f} [{worst['low']:.2f}, {worst['high']:.2f}]."
    )
    return Result(
        table,
        sentence,
        draw=lambda ax: plots.heat(ax, model.names, value, low, high, limit, len(x)),
        alt=f"Lower triangle of HTMT ratios with interval ends; pairs whose upper end reaches {limit:.2f} are framed. "
        + sentence,
        details={"closed": closed, "limit": limit, "value": value, "high": high},
        figsize=(7.2, 5.6),
    )


@carries_missing
def path_gates(model: PathModel, discriminant: Result) -> dict[tuple[str, str], tuple[Check, ...]]:
    """Gate of each path, from the HTMT of :func:`htmt`.

    A closed pair blocks a path between its two constructs, and every path of an equation that has both as predictors.
    """
    if discriminant.missing is not None:
        return {}  # the path model says itself that it does not apply
    closed: Mapping[frozenset[str], tuple[float, float]] = discriminant.details["closed"]
    limit = discriminant.details["limit"]
    gates: dict[tuple[str, str], tuple[Check, ...]] = {}
    for a, b in model.paths:
        rivals = model.predictors(b)
        pairs = [frozenset((a, b)), *(frozenset(p) for p in itertools.combinations(rivals, 2))]
        hit = [p for p in pairs if p in closed]
        if hit:
            words = "; ".join(f"{'-'.join(sorted(p))} upper HTMT {closed[p][1]:.3f}" for p in hit)
            gates[a, b] = (Check("discriminant validity", "closed", f"{words}; the limit is {limit:.2f}"),)
        else:
            top = max(
                discriminant.details["high"][model.names.index(x), model.names.index(y)] for x, y in map(tuple, pairs)
            )
            gates[a, b] = (Check("discriminant validity", "open", f"largest upper HTMT {top:.3f}, limit {limit:.2f}"),)
    return gates


@survey_study
def factor_models(items: pd.DataFrame, model: PathModel, *, ordinal: bool = False) -> Result:
    """Confirmatory factor model with correlated constructs against its rival with one factor for everything.

    Parameters
    ----------
    items : DataFrame
    ordinal : bool
        Also fit both to polychoric correlations, by unweighted least squares.

    Returns
    -------
    Result
        Chi-square (test), degrees of freedom, CFI, TLI, RMSEA, SRMR and BIC of both.
    """
    single = PathModel({"one": model.items})
    rows: list[dict[str, Any]] = [
        {"model": "constructs", "items": "linear", **sem.fit_sem(items, model, structural=False).indices},
        {"model": "one factor", "items": "linear", **sem.fit_sem(items, single, structural=False).indices},
    ]
    if ordinal:
        from crmresearch.estimators.measurement.polychoric import polychoric

        corr = pd.DataFrame(polychoric(items.to_numpy(float)), model.items, model.items)
        rows += [
            {"model": name, "items": "polychoric", "n": len(items), "srmr": sem.least_squares(corr, part).srmr}
            for name, part in (("constructs", model), ("one factor", single))
        ]
    table = pd.DataFrame(rows)
    many, one = rows[0], rows[1]
    better = float(many["bic"]) < float(one["bic"])
    sentence = (
        f"The {len(model.names)}-construct model fits with CFI {many['cfi']:.3f} and RMSEA {many['rmsea']:.3f}, one "
        f"factor with CFI {one['cfi']:.3f} and RMSEA {one['rmsea']:.3f}; BIC prefers "
        f"{'the constructs' if better else 'one factor'}."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "one-factor rival",
                better,
                f"CFI {one['cfi']:.3f} with one factor and {many['cfi']:.3f} with constructs; "
                f"BIC {one['bic']:,.0f} and {many['bic']:,.0f}",
            ),
        ),
        draw=lambda ax: plots.rivals(ax, rows[:2], len(items)),
        alt=f"CFI and RMSEA of the construct model and of one factor, with the usual limits. {sentence}",
        panels=2,
        details={"cfa": many, "one_factor": one},
    )


@survey_study
def common_method(
    items: pd.DataFrame,
    model: PathModel,
    survey: pd.DataFrame | None = None,
    *,
    marker: str | None = None,
    resamples: int = 1000,
    seed: int,
) -> Result:
    """How much of the correlation may come from asking everything in one questionnaire.

    First principal component's share of the items' variance; and the correlation of satisfaction with loyalty after
    taking out a marker (Lindell and Whitney 2001): the smaller absolute correlation of the two with an item that theory
    links to neither, or, without a marker, the second smallest correlation between any two items.

    Parameters
    ----------
    survey : DataFrame, optional
        The frame ``items`` came from, which holds the marker.
    marker : str, optional
        Name of the marker item. Without such a column the fallback is used, and the table says so; respondents who
        left the marker out are dropped here.
    """
    pair = model.need("satisfaction", "loyalty")
    p = len(model.items)
    data = items
    marked = survey is not None and marker is not None and marker in survey.columns
    if survey is not None and marked:
        data = items.assign(marker=pd.to_numeric(survey[marker].reindex(items.index))).dropna()
        if len(data) < 50 or data["marker"].std() == 0:
            raise InputError(f"the marker was answered by {len(data)} respondents and must vary; 50 are needed")
    x = data.to_numpy(dtype=float)
    corr = correlations(np.concatenate([covariance(x)[None], resampled_covariances(x, resamples, seed)]))
    share = np.linalg.eigvalsh(corr[:, :p, :p])[:, -1] / p
    member = np.zeros((x.shape[1], len(model.names)))
    member[np.arange(p), model.block] = 1
    if marked:
        member = np.column_stack([member, np.eye(p + 1)[p]])
    sums = correlations(member.T @ corr @ member)
    s, loyal = (model.names.index(c) for c in pair)
    if not marked:
        method = np.sort(corr[:, *np.triu_indices(p, 1)], axis=1)[:, 1]
        source = "second smallest item correlation"
    else:
        method = np.minimum(np.abs(sums[:, s, -1]), np.abs(sums[:, loyal, -1]))
        source = f"marker {marker}"
    method = np.clip(method, 0, 0.99)
    plain = sums[:, s, loyal]
    adjusted = (plain - method) / (1 - method)
    rows = []
    for name, sample in (
        ("first component, share of variance", share),
        ("satisfaction with loyalty, correlation", plain),
        (f"the same without the method part ({source})", adjusted),
    ):
        low, high = interval(sample[1:])
        rows.append({"quantity": name, "estimate": sample[0], "low": low, "high": high, "n": len(x)})
    table = pd.DataFrame(rows)
    sentence = (
        f"One component carries {share[0]:.0%} of the variance of all items; satisfaction and loyalty correlate at "
        f"{plain[0]:.2f}, and at {adjusted[0]:.2f} [{rows[2]['low']:.2f}, {rows[2]['high']:.2f}] once a common method "
        "is allowed for."
    )
    return Result(
        table,
        sentence,
        checks=(Check.of("common method", rows[2]["low"] > 0, f"adjusted correlation {adjusted[0]:.2f}", "undecided"),),
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "quantity",
            "estimate",
            f"estimate, 95% interval (n = {len(x):,})",
            title="What the questionnaire itself may add",
        ),
        alt=f"Three estimates with intervals on one axis. {sentence}",
    )


@survey_study
def ordinal_beside_linear(items: pd.DataFrame, model: PathModel, *, resamples: int = 200, seed: int) -> Result:
    """Paths between latent variables, with items taken as numbers and as ordered answers.

    Both are consistent PLS; one on Pearson, one on polychoric correlations. Plain PLS, which estimates paths between
    composites, is shown beside them. Consistent estimates do not exist where constructs coincide: resamples without
    an admissible solution are counted.
    """
    model = model.connected
    x = items[list(model.items)].to_numpy(dtype=float)
    poly, drawn = resampled_polychoric(x, resamples, seed)
    routes = {
        "composite": (fit_pls(covariance(x), model), resampled_covariances(x, resamples, seed), False),
        "latent, linear": (None, resampled_covariances(x, resamples, seed), True),
        "latent, ordinal": (None, drawn, True),
    }
    rows, inadmissible = [], 0.0
    for name, (fit, stack, consistent) in routes.items():
        base = poly if name.endswith("ordinal") else covariance(x)
        fit = fit or fit_pls(base, model, consistent=consistent)
        boot = fit_pls(stack, model, consistent=consistent, like=fit)
        good = np.linalg.eigvalsh(boot.scores)[:, 0] > 1e-6
        inadmissible = max(inadmissible, 1 - good.mean())
        for a, b in model.paths:
            sample = boot.path(a, b)[good] if good.sum() > 20 else np.full(2, np.nan)
            low, high = interval(sample)
            row = {"path": f"{a} to {b}", "treatment": name, "estimate": fit.path(a, b)[0], "low": low, "high": high}
            rows.append(row | {"se": sample.std(ddof=1), "n": len(x)})
    table = pd.DataFrame(rows)
    target = f"{model.role('satisfaction')} to {model.role('loyalty')}"
    pick = table[table["path"] == target].set_index("treatment")
    told = ", ".join(f"{t} {r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for t, r in pick.iterrows())
    sentence = f"Path {target}: {told}. " if len(pick) else ""
    sentence += f"Up to {inadmissible:.0%} of the resamples have no admissible latent solution."
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "admissible latent solution",
                inadmissible <= 0.05,
                f"{inadmissible:.0%} of the resamples have none, 5% are allowed",
                "undecided",
            ),
        ),
        draw=lambda ax: plots.grouped_intervals(
            ax,
            table,
            "path",
            "treatment",
            "estimate",
            f"standardised path (n = {len(x):,})",
            title="Composite and latent paths",
        ),
        alt=f"Paths with 95% intervals, three treatments of the items side by side. {sentence}",
        figsize=(7.2, 0.42 * len(model.paths) + 1.6),
        details={"inadmissible": inadmissible},
        estimates={
            f"{key}": Estimate(r.estimate, r.low, r.high, "standardised path", len(x), se=r.se)
            for key, r in pick.iterrows()
            if np.isfinite(r.low)
        },
    )
