"""Structure: the declared paths by PLS and by a covariance model; direct, indirect and total effects; gates."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.measurement import sem
from crmresearch.estimators.measurement.model import PathModel, survey_study
from crmresearch.estimators.measurement.pls import (
    PLS,
    covariance,
    fit_pls,
    interval,
    predict_folds,
    resampled_covariances,
)
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots

Gates = Mapping[tuple[str, str], tuple[Check, ...]]


def _sum_up(value: float, sample: np.ndarray) -> dict[str, float]:
    low, high = interval(sample)
    return {"estimate": float(value), "low": float(low), "high": float(high), "se": float(sample.std(ddof=1))}


def _worst(checks: tuple[Check, ...]) -> str:
    return "closed" if any(c.status == "closed" for c in checks) else "open"


def _merge(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """One check for several gates of the same name: closed if any is, with the closed ones' details."""
    out = []
    for name in dict.fromkeys(c.name for c in checks):
        same = [c for c in checks if c.name == name]
        shut = [c for c in same if c.status == "closed"]
        detail = "; ".join(dict.fromkeys(c.detail for c in (shut or same[:1])))
        out.append(Check(name, "closed" if shut else same[0].status, detail, (shut or same)[0].verdict))
    return tuple(out)


def _bootstrap(
    items: pd.DataFrame, model: PathModel, scheme: str, scaled: bool, consistent: bool, resamples: int, seed: int
) -> tuple[PLS, PLS]:
    x = items[list(model.items)].to_numpy(dtype=float)
    fit = fit_pls(covariance(x), model, scheme=scheme, scaled=scaled, consistent=consistent)
    drawn = resampled_covariances(x, resamples, seed)
    return fit, fit_pls(drawn, model, scheme=scheme, scaled=scaled, consistent=consistent, like=fit)


def _routes(model: PathModel, source: str, target: str) -> list[tuple[str, ...]]:
    """Return every chain of paths from one construct to another."""
    if source == target:
        return [(target,)]
    return [(source, *rest) for a, b in model.paths if a == source for rest in _routes(model, b, target)]


@survey_study
def path_model(
    items: pd.DataFrame,
    model: PathModel,
    *,
    gates: Gates | None = None,
    rival: Result | None = None,
    scheme: str = "centroid",
    scaled: bool = True,
    resamples: int = 1000,
    seed: int,
) -> Result:
    """PLS path model with bootstrap intervals; decides S10a to S10d.

    Paths are between composites: they are smaller than paths between the latent variables behind the items
    (:func:`.measurement.ordinal_beside_linear` estimates those).

    Parameters
    ----------
    items : DataFrame
        As :func:`.prepare_items` returns them.
    model : PathModel
    gates : mapping of path to checks
        From :func:`.measurement.path_gates`; a closed gate blocks the path.
    rival : Result
        Of :func:`.measurement.factor_models`; its one-factor rival is carried to the ledger beside S10.
    scheme, scaled
        As in :func:`.fit_pls`.
    resamples, seed : int
        Percentile bootstrap over respondents, construct signs aligned in each resample.

    Returns
    -------
    Result
        One row per path. ``estimates`` has S10a (satisfaction to loyalty), S10b (quality to satisfaction), S10c (their
        product) and S10d (total effect of quality on loyalty), where the model has these paths.
    """
    model = model.connected
    fit, boot = _bootstrap(items, model, scheme, scaled, False, resamples, seed)
    gates = dict(gates or {})
    n = len(items)
    rows = []
    for a, b in model.paths:
        row = {"source": a, "target": b, **_sum_up(fit.path(a, b)[0], boot.path(a, b))}
        rows.append(row | {"gate": _worst(gates.get((a, b), ())), "n": n})
    table = pd.DataFrame(rows)
    r2 = dict(zip(model.names, fit.r2[0], strict=True))
    estimates = _satisfaction_lines(fit, boot, model, gates, rival, n)
    shut = int((table["gate"] == "closed").sum())
    told = [
        f"{words} {e.text()}"
        for words, line in (("satisfaction to loyalty", "S10a"), ("quality to satisfaction", "S10b"))
        if np.isfinite((e := estimates[line]).value)
    ]
    sentence = (
        f"Path {', '.join(told)}; " if told else ""
    ) + f"{shut} of {len(table)} paths stand behind a closed gate; goodness of fit {fit.gof[0]:.3f}."
    return Result(
        table,
        sentence,
        estimates=estimates,
        draw=lambda ax: plots.path_diagram(ax, model.names, model.order, table, r2, n),
        alt="Constructs as boxes in causal order, joined by arrows as wide as the path; each carries its estimate and "
        f"interval, and is dashed where its gate is closed. {sentence}",
        figsize=(10.0, 6.4),
        details={"fit": fit, "bootstrap": boot, "r2": r2, "gof": float(fit.gof[0])},
    )


def _satisfaction_lines(
    fit: PLS, boot: PLS, model: PathModel, gates: Gates, rival: Result | None, n: int
) -> dict[str, Estimate]:
    quality, sat, loyal = (model.role(r) for r in ("quality", "satisfaction", "loyalty"))
    beside = () if rival is None else rival.checks
    out: dict[str, Estimate] = {}

    def add(line: str, unit: str, value: float, sample: np.ndarray, routes: list[tuple[str, ...]]) -> None:
        legs = {leg for route in routes for leg in itertools.pairwise(route)}
        checks = _merge(tuple(c for leg in sorted(legs) for c in gates.get(leg, ())))
        s = _sum_up(value, sample)
        p = one_sided_p(s["estimate"], s["se"], 0)
        out[line] = Estimate(s["estimate"], s["low"], s["high"], unit, n, p, s["se"], checks + beside)

    if sat and loyal and (sat, loyal) in model.paths:
        add("S10a", "standardised path", fit.path(sat, loyal)[0], boot.path(sat, loyal), [(sat, loyal)])
    if quality and sat and (quality, sat) in model.paths:
        add("S10b", "standardised path", fit.path(quality, sat)[0], boot.path(quality, sat), [(quality, sat)])
    if quality and sat and loyal and "S10a" in out and "S10b" in out:
        route = (quality, sat, loyal)
        add("S10c", "standardised effect", fit.path(*route)[0], boot.path(*route), [route])
    if quality and loyal and (routes := _routes(model, quality, loyal)):
        add("S10d", "standardised effect", fit.effect(quality, loyal)[0], boot.effect(quality, loyal), routes)
    for line, words in (
        ("S10a", "path from satisfaction to loyalty"),
        ("S10b", "path from quality to satisfaction"),
        ("S10c", "route from quality through satisfaction to loyalty"),
        ("S10d", "route from quality to loyalty"),
    ):
        if line not in out:
            absent = Check("declared path", "closed", f"the model has no {words}", "undecided")
            out[line] = Estimate(np.nan, np.nan, np.nan, "standardised path", n, checks=(absent,))
    return out


@survey_study
def effects(modelled: Result, target: str | None = None) -> Result:
    """Direct, indirect and total effect of every construct on one construct (loyalty, if none is named).

    Parameters
    ----------
    modelled : Result
        What :func:`path_model` returned.
    """
    if modelled.missing is not None:
        return Result.not_applicable(modelled.missing)
    fit, boot = modelled.details["fit"], modelled.details["bootstrap"]
    model: PathModel = fit.model
    goal = target or model.need("loyalty")[0]
    if goal not in model.names:
        raise InputError(f"target {goal!r} is not a construct; choose one of {', '.join(model.names)}")
    n = int(modelled.table["n"].iloc[0])
    rows = []
    for source in model.order:
        if source == goal or not _routes(model, source, goal):
            continue
        linked = (source, goal) in model.paths
        around = any(len(route) > 2 for route in _routes(model, source, goal))
        direct = (fit.path(source, goal)[0], boot.path(source, goal)) if linked else (0.0, np.zeros(len(boot.paths)))
        total = (fit.effect(source, goal)[0], boot.effect(source, goal))
        parts = {"direct": direct, "indirect": (total[0] - direct[0], total[1] - direct[1]), "total": total}
        for kind, (value, sample) in parts.items():
            if kind == "total" or (linked if kind == "direct" else around):
                rows.append({"source": source, "effect": kind, **_sum_up(value, sample), "n": n})
    table = pd.DataFrame(rows)
    top = table[table["effect"] == "total"].sort_values("estimate").iloc[-1]
    sentence = (
        f"{top['source']} has the largest total effect on {goal}: {top['estimate']:.2f} "
        f"[{top['low']:.2f}, {top['high']:.2f}]."
    )
    return Result(
        table,
        sentence,
        draw=lambda ax: plots.grouped_intervals(
            ax,
            table,
            "source",
            "effect",
            "estimate",
            f"standardised effect on {goal} (n = {n:,})",
            title="Direct, indirect and total effects",
        ),
        alt=f"Direct, indirect and total effects on {goal} with 95% intervals, by construct. {sentence}",
    )


@survey_study
def beside_sem(items: pd.DataFrame, model: PathModel, modelled: Result, *, resamples: int = 1000, seed: int) -> Result:
    """Composite paths (PLS) beside latent paths (covariance model), with the directions the data do not identify.

    Parameters
    ----------
    modelled : Result
        What :func:`path_model` returned.
    resamples, seed : int
        Percentile bootstrap over respondents, as for the composite paths (:func:`.sem.bootstrap_sem`).
    """
    model = model.connected
    try:
        fitted = sem.fit_sem(items, model)
        drawn, settled = sem.bootstrap_sem(items, model, fitted, resamples=resamples, seed=seed)
    except FitError as error:
        sentence = f"The covariance model gives no estimate: {error}."
        check = Check("covariance model", "closed", sentence, "undecided")
        return Result(pd.DataFrame(), sentence, checks=(check,))
    point = fitted.paths.set_index(["source", "target"])
    estimates = point["standardised"].to_dict()
    rows = [
        {"source": p[0], "target": p[1], **_sum_up(float(estimates[p]), sample)}
        for p, sample in zip(model.paths, drawn.T, strict=True)
    ]
    latent = pd.DataFrame(rows).assign(identified=[bool(point.loc[p, "identified"]) for p in model.paths])
    both = pd.concat(
        [
            modelled.table.assign(route="PLS, composites", identified=True),
            latent.assign(route="covariance model, latent", n=len(items)),
        ],
        ignore_index=True,
    )
    both.insert(0, "path", both["source"] + " to " + both["target"])
    table = both[["path", "route", "estimate", "low", "high", "se", "identified", "n"]]
    lost = [f"{r.source} to {r.target}" for r in latent.itertuples() if not r.identified]
    i = fitted.indices
    sentence = (
        f"The covariance model fits with chi-square {i['chi2']:.1f} on {i['df']:.0f} degrees of freedom, "
        f"CFI {i['cfi']:.3f}, RMSEA {i['rmsea']:.3f}, SRMR {i['srmr']:.3f}; "
        + (f"the data do not identify {', '.join(lost)}." if lost else "every path is identified.")
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of("identified paths", not lost, f"not identified: {', '.join(lost) or 'none'}", "undecided"),
            Check.of(
                "fitted resamples",
                settled >= 0.95,
                f"{settled:.1%} of the resamples have a largest likelihood, 95% are needed",
                "undecided",
            ),
        ),
        draw=lambda ax: plots.grouped_intervals(
            ax,
            table,
            "path",
            "route",
            "estimate",
            f"standardised path (n = {len(items):,})",
            title="Two methods, one model",
        ),
        alt=f"Paths by two methods with 95% intervals. {sentence}",
        figsize=(7.2, 0.42 * len(model.paths) + 1.6),
        details={"indices": i, "paths": fitted.paths},
    )


@survey_study
def prediction(items: pd.DataFrame, model: PathModel, *, seed: int, folds: int = 10) -> Result:
    """Out-of-sample prediction of items by the path model against plain regression (:func:`.predict_folds`)."""
    model = model.connected
    table = predict_folds(items, model, folds=folds, seed=seed)
    wins = int((table["q2"] > table["q2_regression"]).sum())
    sentence = (
        f"Out of sample the path model saves {table['q2'].min():.0%} to {table['q2'].max():.0%} of the squared error "
        f"of the mean and beats plain regression for {wins} of {len(table)} items."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "prediction", bool((table["q2"] > 0).all()), f"smallest Q squared {table['q2'].min():.2f}", "undecided"
            ),
        ),
    )
