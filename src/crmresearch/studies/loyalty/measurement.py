"""Measurement first: do the items measure the constructs, and are the constructs different things?

Every path is read through these results: where two constructs cannot be told apart (:func:`htmt`), :func:`path_gates`
closes the paths that lean on telling them apart.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable, answered
from crmresearch.estimators.inference import Estimate, from_draws
from crmresearch.estimators.measurement import moments, sem
from crmresearch.estimators.measurement.factors import htmt_ratios, method_share, reliabilities
from crmresearch.estimators.measurement.invariance import TESTS, permutation_tests
from crmresearch.estimators.measurement.model import PathModel, complete_answers
from crmresearch.estimators.measurement.pls import fit_pls
from crmresearch.estimators.measurement.polychoric import polychoric, resampled_polychoric
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate, leading
from crmresearch.studies.loyalty.answers import cells, forest, survey_study, tabled

say = words.of("loyalty.measurement")
MAX_ANSWERS = 15  # different answers that are drawn one by one
HTMT_LIMIT = 0.90  # Henseler, Ringle and Sarstedt (2015)
OMEGA, OMEGA_CLOSED = 0.7, 0.6  # reliability that is asked for, and below which the gate closes
PERMUTATIONS = 499
INADMISSIBLE = 0.05  # largest share of resamples without a latent solution


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
    table = pd.DataFrame({"n": block.notna().sum(), "missing": block.isna().mean()})
    skews = [moments.skewness(answers.dropna().to_numpy()) for _, answers in block.items()]
    table = table.assign(mean=block.mean(), sd=block.std())
    table[["skew", "skew_low", "skew_high"]] = skews
    table = table.assign(floor=(block == low).sum() / table["n"], top=(block == high).sum() / table["n"])
    table = table.rename_axis("item").reset_index()
    table.insert(0, "construct", [model.names[k] for k in model.block])
    up, down = int((table["skew_high"] < 0).sum()), int((table["skew_low"] > 0).sum())
    complete, skew, items = block.notna().all(axis=1).mean(), table["skew"].agg(["min", "max"]), len(table)
    sentence = say("items.sentence", n=len(block), items=items, complete=complete, low=low, high=high)
    sentence += " " + say("items.lean", up=up, down=down, items=items, skew=skew)
    title = say("items.title", up=up, items=items) if up >= down and up else say("items.title_even")
    title = say("items.title_down", down=down, items=items) if down > up else title
    if len(np.unique(block.to_numpy()[block.notna().to_numpy()])) > MAX_ANSWERS:  # a slider: ten bands for the eye
        width = (high - low) / 10
        block = low + width * np.minimum(np.floor((block - low) / width), 9)
    shares = pd.DataFrame({i: block[i].value_counts(normalize=True) for i in model.items}).sort_index().fillna(0)
    shares = shares.rename_axis("part").reset_index().melt("part", var_name="label", value_name="share")
    answers = {answer: f"{answer:g}" for answer in shares["part"].unique()}
    shares["part"] = pd.Categorical(shares["part"].map(answers), list(answers.values()), ordered=True)
    options, size = {"ordered": True, "legend": say("items.legend")}, (7.2, 0.22 * len(table) + 1.6)
    picture = Picture(
        "distribution",
        shares.assign(n=(shares["share"] * len(rows)).round()),
        title,
        say("items.x", n=len(rows)),
        "",
        options,
        size,
    )
    return Result(table, sentence, picture=picture)


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
    corr = moments.resampled_correlations(items.to_numpy(dtype=float), resamples, seed)
    rows = []
    for k, name in enumerate(model.names):
        block = corr[:, model.block == k][:, :, model.block == k]
        own, drawn = reliabilities(block[:1]), reliabilities(block[1:])
        row: dict[str, Any] = {"construct": name, "items": len(model.constructs[name])}
        for key in ("alpha", "omega"):
            _, low, high = from_draws(drawn[key])
            row |= {key: own[key][0], f"{key}_low": low, f"{key}_high": high}
        rows.append(row | {"dg_rho": own["dg_rho"][0], "ave": own["ave"][0], "n": len(items)})
    table = pd.DataFrame(rows)
    omega, single = table["omega"], table.loc[table["items"] == 1, "construct"]
    if omega.isna().all():
        raise NotApplicable(say("reliability.none"), "survey")
    weak = table.loc[table["omega_low"] < OMEGA, "construct"].tolist()
    sentence = say("reliability.sentence", low=omega.min(), high=omega.max()) + (
        say("reliability.weak", names=", ".join(weak)) if weak else say("reliability.strong")
    )
    sentence += say("reliability.single", names=", ".join(single)) if len(single) else ""
    worst = table.sort_values("omega_high").iloc[0]
    least = Deviation(worst["omega"], worst["omega_low"], worst["omega_high"], limit=OMEGA_CLOSED, least=True)
    shown = table.dropna(subset="omega").rename(columns={"omega_low": "low", "omega_high": "high"})
    title = say("reliability.title", low=omega.min(), high=omega.max())
    title, x = say("reliability.title_weak") if weak else title, say("reliability.x", n=len(items))
    picture = forest(shown, "construct", "omega", title, x, mark=OMEGA)
    checks = (gate(say, "reliability.gate", least),)
    return Result(table, sentence, checks, picture=picture)


@survey_study
def htmt(items: pd.DataFrame, model: PathModel, *, resamples: int = 1000, seed: int) -> Result:
    """Heterotrait-monotrait ratio of every pair of constructs, with bootstrap intervals.

    A pair whose interval reaches .90 is not two things in these data (Henseler, Ringle and Sarstedt 2015).
    ``details["closed"]`` holds those pairs; :func:`path_gates` turns them into gates.
    """
    ratios = htmt_ratios(moments.resampled_correlations(items.to_numpy(dtype=float), resamples, seed), model)
    value, (_, low, high) = ratios[0], from_draws(ratios[1:])
    pairs, at = list(itertools.combinations(model.names, 2)), np.triu_indices(len(model.names), 1)
    parts = {"pair": [" - ".join(p) for p in pairs], "htmt": value[at], "low": low[at], "high": high[at]}
    table = pd.DataFrame(parts).assign(n=len(items))
    shut = table["high"] >= HTMT_LIMIT
    table["gate"] = np.where(shut, "closed", "open")
    closed = {frozenset(p) for p, s in zip(pairs, shut, strict=True) if s}
    worst = table.loc[table["htmt"].idxmax()]
    sentence = say("htmt.sentence", closed=len(closed), pairs=len(table), limit=HTMT_LIMIT, worst=worst)
    columns = {"value": table["htmt"], "column": [a for a, _ in pairs], "row": [b for _, b in pairs], "strong": shut}
    shown = pd.concat([table, pd.DataFrame(columns)], axis=1)
    title = say("htmt.title_closed", closed=len(closed), pairs=len(table)) if closed else say("htmt.title")
    x = say("htmt.x", limit=HTMT_LIMIT, n=len(items))
    options = {"vmin": 0.3, "vmax": 1.1, "bar": "HTMT", "empty": ""}
    picture = Picture("matrix", shown, title, x, options=options, size=(7.2, 5.6))
    return Result(table, sentence, picture=picture, details={"closed": closed, "value": value, "high": high})


@answered()
def path_gates(model: PathModel, discriminant: Result) -> dict[tuple[str, str], tuple[Check, ...]]:
    """Gate of each path, from the HTMT of :func:`htmt`.

    A closed pair blocks a path between its two constructs, and every path of an equation that has both as predictors.
    Other gates close where an interval lies wholly beyond the limit; here the upper end decides (Henseler, Ringle and
    Sarstedt 2015), as what is to be shown is that two constructs are two.
    """
    if discriminant.missing is not None:
        return {}  # the path model says itself that it does not apply
    found, at = discriminant.table.set_index("pair"), model.names.index
    gates: dict[tuple[str, str], tuple[Check, ...]] = {}
    for a, b in model.paths:
        pairs = [(a, b), *itertools.combinations(model.predictors(b), 2)]
        rows = found.loc[[" - ".join(sorted(pair, key=at)) for pair in pairs]].sort_values("high", ascending=False)
        hit = rows[rows["high"] >= HTMT_LIMIT]
        told = [say("gates.pair", pair=pair, row=row) for pair, row in (hit if len(hit) else rows[:1]).iterrows()]
        gates[a, b] = (gate(say, "gates", not len(hit), pairs=", ".join(told), limit=HTMT_LIMIT),)
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
    models = {say("factors.many"): model, say("factors.one"): PathModel({"one": model.items})}
    rows: list[dict[str, Any]] = [
        {"model": name, "items": "linear", **sem.fit_sem(items, part, structural=False).indices}
        for name, part in models.items()
    ]
    many, one = rows
    if ordinal:
        corr = pd.DataFrame(polychoric(items.to_numpy(float)), model.items, model.items)
        rows = rows + [
            {"model": name, "items": "polychoric", "n": len(items), "srmr": sem.least_squares(corr, part)[0]}
            for name, part in models.items()
        ]
    better = bool(many["bic"] < one["bic"])
    preferred = say("factors.constructs") if better else say("factors.one")
    sentence = say("factors.sentence", constructs=len(model.names), many=many, one=one, preferred=preferred)
    shown = pd.DataFrame([many, one])
    cfi = shown.assign(low=np.nan, high=np.nan, text=shown["cfi"].map("{:.3f}".format))
    rmsea = shown.assign(low=shown["rmsea_low"], high=shown["rmsea_high"], text=shown["rmsea"].map("{:.3f}".format))
    fit = say("factors.cfi_title", many=many, one=one), say("factors.cfi", n=len(items))
    error = say("factors.rmsea_title", many=many, one=one), say("factors.rmsea", n=len(items))
    panels = forest(cfi, "model", "cfi", *fit, mark=0.95), forest(rmsea, "model", "rmsea", *error, mark=0.06)
    return Result(
        leading(pd.DataFrame(rows), "model", "items", "cfi", "rmsea", "rmsea_low", "rmsea_high", "srmr", "bic"),
        sentence,
        checks=(gate(say, "factors.gate", better, many=many, one=one),),
        picture=panels,
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
    """How much of the correlation may come from asking everything in one questionnaire (:func:`.method_share`).

    Parameters
    ----------
    survey : DataFrame, optional
        The frame ``items`` came from, which holds the marker.
    marker : str, optional
        Name of the marker item, which theory links to nothing. Without such a column a fallback is used, and the table
        says so; respondents who left the marker out are dropped here.
    """
    satisfaction, loyal = model.need("satisfaction", "loyalty")
    data, source = items, say("method.fallback")
    if survey is not None and marker is not None and marker in survey.columns:
        data = items.assign(marker=pd.to_numeric(survey[marker].reindex(items.index))).dropna()
        source = say("method.marker", marker=marker)
        if len(data) < 50 or data["marker"].std() == 0:
            raise InputError(say("method.refused", n=len(data)))
    corr = moments.resampled_correlations(data.to_numpy(dtype=float), resamples, seed)
    found = [moments.percentile(s, "", len(data)) for s in method_share(corr, model, (satisfaction, loyal))]
    share, plain, adjusted = found
    names = (say("method.share"), say("method.plain"), say("method.adjusted", source=source))
    table = tabled(dict(zip(names, found, strict=True)), "quantity")
    sentence = say("method.sentence", share=share, plain=plain, adjusted=adjusted)
    title, x = say("method.title", plain=plain, adjusted=adjusted), say("method.x", n=len(data))
    picture = forest(table, "quantity", "estimate", title, x, mark=None)
    left = Deviation(adjusted.value, adjusted.ci_low, adjusted.ci_high, limit=0, least=True)
    checks = (gate(say, "method.gate", left),)
    return Result(table, sentence, checks, picture=picture)


@survey_study
def ordinal_beside_linear(items: pd.DataFrame, model: PathModel, *, resamples: int = 200, seed: int) -> Result:
    """Paths between latent variables, with items taken as numbers and as ordered answers.

    Both are consistent PLS; one on Pearson, one on polychoric correlations. Plain PLS, which estimates paths between
    composites, is shown beside them. Consistent estimates do not exist where constructs coincide: resamples without
    an admissible solution are counted, and where the data or most resamples have none there is no estimate.
    """
    model, treatments = model.connected, say.names("latent.names")
    x = items[list(model.items)].to_numpy(dtype=float)
    drawn = moments.resampled_covariances(x, resamples, seed)
    routes = {
        "composite": (moments.covariance(x), drawn, False),
        "latent, linear": (moments.covariance(x), drawn, True),
        "latent, ordinal": (*resampled_polychoric(x, resamples, seed), True),
    }
    estimates: dict[tuple[str, str], Estimate] = {}
    inadmissible, lost = 0.0, []
    for name, (base, stack, consistent) in routes.items():
        fit = fit_pls(base, model, consistent=consistent)
        boot = fit_pls(stack, model, consistent=consistent, like=fit)
        good = boot.admissible
        inadmissible = max(inadmissible, 1 - good.mean())
        solved = bool(fit.admissible[0]) and good.mean() >= 0.5
        lost += [] if solved else [treatments[name]]
        for a, b in model.paths:
            sample = np.r_[fit.path(a, b), boot.path(a, b)[good]] if solved else np.full(3, np.nan)
            estimates[say("latent.path", source=a, target=b), name] = moments.percentile(
                sample, say("latent.unit"), len(items)
            )
    table = pd.DataFrame(
        {"path": path, "treatment": treatments[name], **cells(e), "se": e.se, "n": e.n}
        for (path, name), e in estimates.items()
    )
    target = say("latent.path", source=model.role("satisfaction"), target=model.role("loyalty"))
    pick = {name: e for (path, name), e in estimates.items() if path == target and np.isfinite(e.value)}
    told = ", ".join(say("latent.told", name=treatments[name], estimate=e) for name, e in pick.items())
    sentence = say("latent.sentence", path=target, told=told) if pick else ""
    sentence += say("latent.inadmissible", share=inadmissible)
    sentence += say("latent.lost", names=", ".join(lost)) if lost else ""
    passed = inadmissible <= INADMISSIBLE and not lost
    title = say("latent.title_open")
    if {"composite", "latent, ordinal"} <= set(pick):
        title = say("latent.title", path=target, plain=pick["composite"], latent=pick["latent, ordinal"])
    shown, x_words = table.dropna(subset=["estimate"]), say("latent.x", n=len(items))
    picture = forest(shown, "path", "estimate", title, x_words, "treatment")
    checks = (gate(say, "latent.gate", passed, share=inadmissible),)
    return Result(table, sentence, checks, pick, picture=picture)


@survey_study
def invariance(survey: pd.DataFrame, model: PathModel, *, by: str, seed: int) -> Result:
    """Do groups (tiers, waves) answer with the same composites?

    Permutation tests (:func:`.permutation_tests`). For each construct the largest group is compared with each other
    one: correlation of the scores under either group's weights (compositional invariance), then differences of score
    means and log variances. Only with the first may paths be compared; with all three, scores may be pooled. Holm's
    correction over constructs and groups.

    Parameters
    ----------
    survey : DataFrame
        Answers with the column ``by``.
    by : str
        Column that names the group. Rows are permuted as if independent; with repeated waves of the same customers the
        test is conservative.
    """
    if by not in survey.columns:
        raise NotApplicable(say("groups.absent", by=by))
    items = complete_answers(survey, model)
    model = model.connected
    x = items[list(model.items)].to_numpy(dtype=float)
    table = permutation_tests(x, survey.loc[items.index, by], model, permutations=PERMUTATIONS, seed=seed)
    broken = table.loc[(table[TESTS[0]] < 0.05) & (table["correlation"] < 0.99), "construct"].unique().tolist()
    least = table["correlation"].min()
    sentence = say("groups.same", groups=table["groups"].nunique() + 1, least=least)
    if broken:
        sentence = say("groups.differ", names=", ".join(broken), least=least)
    moved = int((table["p_mean"] < 0.05).sum())
    sentence += say("groups.moved", moved=moved, comparisons=len(table))
    title = say("groups.title", moved=moved, comparisons=len(table)) if moved else say("groups.title_same")
    group = table["groups"] + table["n"].map(lambda n: say("groups.n", n=n))
    shown = table.assign(low=np.nan, high=np.nan, group=group, hollow=table["p_mean"] >= 0.05)
    picture = forest(shown, "construct", "mean_difference", title, say("groups.x"))
    checks = (gate(say, "groups.gate", not broken, least=least),)
    return Result(table, sentence, checks, picture=picture)
