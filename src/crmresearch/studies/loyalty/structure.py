"""Structure: the declared paths by PLS and by a covariance model; direct, indirect and total effects; gates."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError, Missing
from crmresearch.estimators.blocks import SETS, Functional, constant, left_out
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.measurement import sem
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import covariance, percentile, resampled_covariances
from crmresearch.estimators.measurement.pls import PLS, fit_pls, predict_folds
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate
from crmresearch.studies import Choices, Frames, Setting
from crmresearch.studies.loyalty.answers import cells, declared_model, forest, prepare_items, respondents, survey_study
from crmresearch.studies.loyalty.measurement import factor_models, htmt, path_gates

say = words.of("loyalty.structure")
Gates = Mapping[tuple[str, str], tuple[Check, ...]]
SETTLED = 0.95  # least share of resamples of the covariance model with a largest likelihood


def _merge(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """One check for several gates of the same name: closed if any is, with the closed ones' details."""
    out = []
    for name in dict.fromkeys(c.name for c in checks):
        same = [c for c in checks if c.name == name]
        shut = [c for c in same if c.status == "closed"]
        out.append(replace((shut or same)[0], detail="; ".join(dict.fromkeys(c.detail for c in (shut or same[:1])))))
    return tuple(out)


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
    mediated: Result | None = None,
    scheme: str = "centroid",
    scaled: bool = True,
    resamples: int = 1000,
    seed: int,
    resampled: Any = None,
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
    rival, mediated : Result
        Of :func:`.measurement.factor_models` and :func:`.dynamics.mediation`: the one-factor rival is carried to the
        ledger beside S10, and what the indirect path takes on trust beside S10c.
    scheme, scaled
        As in :func:`.fit_pls`.
    resamples, seed : int
        Percentile bootstrap over respondents, construct signs aligned in each resample.
    resampled : array, optional
        Covariances of these resamples, where several models share them.

    Returns
    -------
    Result
        One row per path. ``estimates`` has S10a (satisfaction to loyalty), S10b (quality to satisfaction), S10c (their
        product) and S10d (total effect of quality on loyalty), where the model has these paths.
    """
    model, n, gates = model.connected, len(items), dict(gates or {})
    x = items[list(model.items)].to_numpy(dtype=float)
    fit = fit_pls(covariance(x), model, scheme=scheme, scaled=scaled)
    drawn = resampled_covariances(x, resamples, seed) if resampled is None else resampled
    boot = fit_pls(drawn, model, scheme=scheme, scaled=scaled, like=fit)
    rows = []
    for a, b in model.paths:
        e = percentile(np.r_[fit.path(a, b), boot.path(a, b)], say("unit"), n)
        shut = any(c.status == "closed" for c in gates.get((a, b), ()))
        rows.append({"source": a, "target": b, **cells(e), "se": e.se, "gate": "closed" if shut else "open", "n": n})
    table = pd.DataFrame(rows)
    estimates = _satisfaction_lines(fit, boot, model, gates, () if rival is None else rival.checks, n)
    if mediated is not None:
        estimates["S10c"] = replace(estimates["S10c"], checks=estimates["S10c"].checks + mediated.checks)
    first, second = estimates["S10a"], estimates["S10b"]
    told = [say("paths.loyalty", estimate=first)] if np.isfinite(first.value) else []
    told += [say("paths.satisfaction", estimate=second)] if np.isfinite(second.value) else []
    sentence = say("paths.told", paths=", ".join(told)) if told else ""
    sentence += say("paths.sentence", closed=int((table["gate"] == "closed").sum()), paths=len(table), fit=fit.gof[0])
    r2 = dict(zip(model.names, fit.r2[0], strict=True))
    held = int((table["gate"] == "closed").sum())
    title, x_words = say("paths.title_closed", closed=held, paths=len(table)), say("paths.x", n=n)
    if not held and np.isfinite(first.value):
        title = say("paths.title", estimate=first)
    arrows = table.assign(closed=table["gate"] == "closed")
    nodes = {c: say("paths.node", name=c, r2=r2[c]) if r2[c] > 0 else c for c in model.order}
    return Result(
        table,
        sentence,
        checks=(respondents(),),
        estimates=estimates,
        picture=Picture("scatter", arrows, title, x_words, options={"nodes": nodes}, size=(10.0, 6.4)),
        details={"fit": fit, "bootstrap": boot, "resampled": drawn},
    )


def _satisfaction_lines(
    fit: PLS, boot: PLS, model: PathModel, gates: Gates, beside: tuple[Check, ...], n: int
) -> dict[str, Estimate]:
    """Ledger lines: paths and effects with the gates of all their legs; a closed gate where the model has none."""
    quality, sat, loyal = (str(model.role(r)) for r in ("quality", "satisfaction", "loyalty"))
    lines = {
        "S10a": (say("unit"), (sat, loyal), say("absent.S10a")),
        "S10b": (say("unit"), (quality, sat), say("absent.S10b")),
        "S10c": (say("unit"), (quality, sat, loyal), say("absent.S10c")),
        "S10d": (say("unit"), (quality, loyal), say("absent.S10d")),
    }
    out: dict[str, Estimate] = {}
    for line, (unit, route, absent) in lines.items():
        routes = _routes(model, quality, loyal) if line == "S10d" else [route]
        legs = {leg for r in routes for leg in itertools.pairwise(r)}
        if not legs or legs - set(model.paths):
            check = gate(say, "absent.gate", False, route=absent)
            out[line] = Estimate(np.nan, np.nan, np.nan, say("unit"), n, checks=(check,))
            continue
        sample = [p.effect(*route) if line == "S10d" else p.path(*route) for p in (fit, boot)]
        checks = _merge(tuple(c for leg in sorted(legs) for c in gates.get(leg, ())))
        out[line] = replace(percentile(np.concatenate(sample), unit, n), checks=checks + beside)
    return out


def _ask(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting], Estimate | Missing]:
    many = {k: given[k] for k in ("resamples", "seed")}

    @functools.cache
    def of_wave(wave: int) -> tuple[Any, PathModel, dict[str, Any]]:
        survey = frames("loyalty.survey", wave=wave)
        model = declared_model(frames.about.constructs, frames.about.paths, survey)
        items: Any = prepare_items(survey, model)
        gates = path_gates(model, htmt(items, model, **many))
        return items, model, {"gates": gates, "rival": factor_models(items, model, ordinal=True)}

    def one(setting: Setting) -> Estimate | Missing:
        items, model, carried = of_wave(setting["wave"])
        chosen = {k: setting[k] for k in ("scheme", "scaled")}
        found = path_model(items, model, **carried, **chosen, **many)
        carried["resampled"] = found.details.get("resampled")  # the same for every model of a wave
        return found.finding("S10c")

    return one


def _above(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting, float], Functional | Missing]:
    """Leave out one of a hundred sets of customers at a time: all fits of a setting are one stack of covariances."""
    survey = frames("loyalty.survey", wave=0)

    @functools.cache
    def of_wave(wave: int) -> tuple[PathModel, np.ndarray] | Missing:
        if isinstance(survey, Missing):
            return survey
        rows = survey[survey["wave"] == wave] if wave else survey
        model = declared_model(frames.about.constructs, frames.about.paths, survey)
        items = prepare_items(rows, model)
        if isinstance(items, Missing):
            return items
        who = survey["customer_id"] if "customer_id" in survey else survey.index.to_series()
        block = pd.Series(pd.factorize(who)[0] % SETS, survey.index)[items.index].to_numpy()
        x = items[list(model.connected.items)].to_numpy(dtype=float)
        return model.connected, np.stack([covariance(x[block != k]) for k in range(-1, SETS)])

    @functools.cache
    def path(wave: int, scheme: str, scaled: bool) -> Functional | Missing:
        found = of_wave(wave)
        if isinstance(found, Missing):
            return found
        model, stack = found
        fit = fit_pls(stack[0], model, scheme=scheme, scaled=scaled)
        without = fit_pls(stack[1:], model, scheme=scheme, scaled=scaled, like=fit)
        route = [str(model.role(r)) for r in ("quality", "satisfaction", "loyalty")]
        return left_out(fit.path(*route)[0], without.path(*route))

    def above(setting: Setting, at: float) -> Functional | Missing:
        found = path(**setting)
        return found if isinstance(found, Missing) else found - constant(at, len(found.influence))

    return above


CHOICES = Choices(  # wave 0 takes all together
    "S10c", {"wave": (1, 0), "scheme": ("centroid", "factorial", "path"), "scaled": (False, True)}, _ask,
    above=_above,
)  # fmt: skip


@survey_study
def effects(modelled: Result) -> Result:
    """Direct, indirect and total effect of every construct on loyalty.

    Parameters
    ----------
    modelled : Result
        What :func:`path_model` returned.
    """
    if modelled.missing is not None:
        return Result.not_applicable(modelled.missing)
    fits: tuple[PLS, PLS] = (modelled.details["fit"], modelled.details["bootstrap"])
    model, n = fits[0].model, int(modelled.table["n"].iloc[0])
    (goal,) = model.need("loyalty")
    rows = []
    for source in model.order:
        routes = _routes(model, source, goal)
        if source == goal or not routes:
            continue
        linked, around = (source, goal) in model.paths, any(len(route) > 2 for route in routes)
        total = np.concatenate([p.effect(source, goal) for p in fits])
        direct = np.concatenate([p.path(source, goal) for p in fits]) if linked else np.zeros_like(total)
        parts = (("direct", direct, linked), ("indirect", total - direct, around), ("total", total, True))
        for kind, sample, there in parts:
            if there:
                e = percentile(sample, say("unit"), n)
                rows.append({"source": source, "effect": kind, **cells(e), "se": e.se, "n": n})
    table = pd.DataFrame(rows)
    *_, second, top = [None, *table[table["effect"] == "total"].sort_values("estimate").to_dict("records")]
    clear = second is None or top["low"] > second["high"]
    sentence = say("effects.sentence" if clear else "effects.unclear", top=top, goal=goal)
    title = say("effects.title", top=top, goal=goal) if clear else say("effects.title_open", goal=goal)
    x = say("effects.x", goal=goal, n=n)
    picture = forest(table, "source", "estimate", title, x, "effect")
    return Result(table, sentence, picture=picture)


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
    if modelled.missing is not None:
        return Result.not_applicable(modelled.missing)
    model, n = model.connected, len(items)
    try:
        fitted = sem.fit_sem(items, model)
        drawn, settled = sem.bootstrap_sem(items, model, fitted, resamples=resamples, seed=seed)
    except FitError as error:
        check = gate(say, "sem.none", False, error=error)
        return Result(pd.DataFrame(), check.detail, checks=(check,))
    point = {(row["source"], row["target"]): row for row in fitted.paths.to_dict("records")}
    rows = []
    for (a, b), sample in zip(model.paths, drawn.T, strict=True):
        row = point[a, b]
        e = percentile(np.r_[row["standardised"], sample], say("unit"), n)
        rows.append({"source": a, "target": b, **cells(e), "se": e.se, "identified": bool(row["identified"]), "n": n})
    latent = pd.DataFrame(rows).assign(route=say("sem.latent"))
    both = pd.concat([modelled.table.assign(route=say("sem.composite"), identified=True), latent], ignore_index=True)
    both["path"] = [say("sem.path", source=a, target=b) for a, b in zip(both["source"], both["target"], strict=True)]
    table = both[["path", "route", "estimate", "low", "high", "se", "identified", "n"]]
    lost = ", ".join(table.loc[~table["identified"], "path"])
    sentence = say("sem.sentence", i=fitted.indices) + (say("sem.lost", lost=lost) if lost else say("sem.identified"))
    wide = table.pivot_table(index="path", columns="route", values="estimate", sort=False)
    gap = (wide[say("sem.composite")] - wide[say("sem.latent")]).abs()
    title = say(
        "sem.title", path=gap.idxmax(), plain=wide.loc[gap.idxmax()].iloc[0], latent=wide.loc[gap.idxmax()].iloc[1]
    )
    picture = forest(table, "path", "estimate", title, say("sem.x", n=n), "route")
    checks = (
        gate(say, "sem.gate", not lost, lost=lost or say("sem.no_path")),
        gate(say, "sem.settled", settled >= SETTLED, settled=settled),
    )
    return Result(table, sentence, checks, picture=picture)


@survey_study
def prediction(items: pd.DataFrame, model: PathModel, *, seed: int) -> Result:
    """Out-of-sample prediction of items by the path model against plain regression (:func:`.predict_folds`)."""
    table = predict_folds(items, model.connected, seed=seed)
    q2, wins = table["q2"], int((table["q2"] > table["q2_regression"]).sum())
    worst = table.sort_values("high").iloc[0]
    least = Deviation(worst["q2"], worst["low"], worst["high"], limit=0, least=True)
    return Result(
        table,
        say("prediction.sentence", low=q2.min(), high=q2.max(), wins=wins, items=len(table)),
        checks=(gate(say, "prediction.gate", least, items=len(table)),),
    )
