"""The form of the link: ordered answers, thresholds, losses against gains, and what matters among the drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError
from crmresearch.estimators.inference import LEVEL, ends, from_draws, normal, two_sided_p, wilson, z
from crmresearch.estimators.measurement import links
from crmresearch.estimators.measurement.model import PathModel, construct_scores
from crmresearch.estimators.measurement.moments import percentile, resampled_correlations
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit, ordered_model, parallel_slopes
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate
from crmresearch.studies.loyalty.answers import forest, respondents, survey_study, tabled

say = words.of("loyalty.form")
UNEVEN = 0.4  # log odds by which a slope may differ between cuts: half as much again in odds
MIN_R2 = 0.05  # explained variance below which splitting it is splitting noise


@survey_study
def ordinal_regression(items: pd.DataFrame, model: PathModel) -> Result:
    """Ordered logit of each loyalty item on the scores of what points to loyalty.

    Intervals are simultaneous within the table in the sense of Holm's p-values beside them. The parallel-slopes test
    tells whether one odds ratio describes all answers. ``model`` is the first item's model as statsmodels fits it.
    """
    from statsmodels.stats.multitest import multipletests

    (loyal,) = model.need("loyalty")
    drivers = list(model.predictors(loyal)) or [c for c in model.names if c != loyal]
    scores = construct_scores(items, model)[drivers]
    parts, tests = [], []
    for item in model.constructs[loyal]:
        fit = fit_ordered_logit(scores, items[item].to_numpy())
        tests.append(parallel_slopes(scores, items[item].to_numpy()))
        low, high = ends(fit.slopes, fit.se)
        columns = {"odds_ratio": np.exp(fit.slopes), "low": np.exp(low), "high": np.exp(high)}
        columns |= {"p": two_sided_p(fit.slopes, fit.se), "p_parallel": tests[-1][2], "n": len(items)}
        parts.append(pd.DataFrame({"item": item, "driver": drivers, **columns}))
    table = pd.concat(parts, ignore_index=True)
    table.insert(6, "p_holm", multipletests(table["p"], method="holm")[1])
    *_, moved, error = max(tests, key=lambda test: abs(test[3]) / test[4])
    reach = z(1 - (1 - LEVEL) / sum(df for _, df, *_ in tests)) * error  # holds for every cut, driver and item at once
    parallel = Deviation(moved, moved - reach, moved + reach, limit=UNEVEN)
    last = table.loc[table["driver"] == drivers[-1], "odds_ratio"]
    clear = int((table["p_holm"] < 0.05).sum())
    sentence = say("ordinal.sentence", clear=clear, n=len(table), driver=drivers[-1], low=last.min(), high=last.max())
    title = say("ordinal.title", driver=drivers[-1], low=last.min(), high=last.max())
    x = say("ordinal.x", n=len(items))
    return Result(
        table,
        sentence,
        checks=(gate(say, "ordinal.gate", parallel),),
        picture=forest(table, "item", "odds_ratio", title, x, "driver", mark=1),
        model=ordered_model(scores, items[model.constructs[loyal][0]].to_numpy()),
    )


@survey_study
def dose_response(items: pd.DataFrame, model: PathModel, *, resamples: int = 499, seed: int) -> Result:
    """Share of top answers in loyalty against satisfaction: binned, as a spline, and with the best-placed kink.

    The kink (:func:`.links.kink`) is that of the loyalty score; the picture shows the share giving one of the two
    highest answers to the first loyalty item.
    """
    sat, loyal = model.need("satisfaction", "loyalty")
    scores = construct_scores(items, model)
    x = scores[sat].to_numpy()
    bend = links.kink(x, scores[loyal].to_numpy(), resamples=resamples, seed=seed)
    first = model.constructs[loyal][0]
    answers = items[first].to_numpy()
    top = (answers >= np.sort(np.unique(answers))[-2]).astype(float)
    binned = pd.DataFrame({"x": x, "top": top}).groupby(pd.qcut(x, 8, labels=False, duplicates="drop"))
    table = binned.agg(satisfaction=("x", "mean"), share=("top", "mean"), n=("top", "size")).reset_index(drop=True)
    _, table["low"], table["high"] = wilson(table["share"] * table["n"], table["n"])
    table["top"] = (table["share"] * table["n"]).round()
    table = safe(table, ("n", "top"), parts=False)
    hidden = table[["n", "top"]].isna().any(axis=1).to_numpy()
    table = table.drop(columns="top")
    try:
        curve = links.spline_share(x, top).assign(n=len(x))
    except FitError:  # no top answer at all over a part of the range: the bins say all there is
        curve = pd.DataFrame({"x": table["satisfaction"], "y": np.nan, "n": table["n"]})
    bends = bend.p < 0.05 and not np.isnan(bend.change.value)  # where steps of answers leave no slope on one side
    sentence = say("dose.bent", bend=bend) if bends else say("dose.straight", bend=bend)
    if not (hidden[0] or hidden[-1]):
        sentence += say("dose.share", low=table["share"].iloc[0], high=table["share"].iloc[-1])
    points = table.rename(columns={"satisfaction": "x", "share": "y"})
    options: dict[str, Any] = {"points": points, "ylim": (0, 1), "unit": "percent"}
    if bends:
        options["marks"] = [Mark(bend.place.value, say("dose.kink"), "estimate")]
        options["spans"] = [(bend.place.ci_low, bend.place.ci_high, "")]
    title = say("dose.title_bent", bend=bend) if bends else say("dose.title")
    axes = (title, say("dose.x", n=len(x)), say("dose.y", item=first))
    picture = Picture("curves", curve, *axes, options=options)
    return Result(table, sentence, counts=("n",), picture=picture, details={"p": bend.p, "kink": bend.place.value})


@survey_study
def asymmetry(items: pd.DataFrame, model: PathModel) -> Result:
    """Does satisfaction below its mean weigh more in loyalty than satisfaction above it? A cross-section of scores.

    Where there are waves, :func:`.dynamics.change_asymmetry` asks the better question: falls against rises.
    """
    sat, loyal = model.need("satisfaction", "loyalty")
    scores = construct_scores(items, model)
    return two_slopes(scores[sat].to_numpy(), scores[loyal].to_numpy(), (say("slopes.below"), say("slopes.above")))


def two_slopes(x: np.ndarray, y: np.ndarray, names: tuple[str, str], cluster: np.ndarray | None = None) -> Result:
    """Compare the slopes of ``y`` on the parts of ``x`` below and above 0 (:func:`.slopes_by_sign`)."""
    loss, gain, gap = found = links.slopes_by_sign(x, y, say("slopes.unit"), cluster)
    table = tabled(dict(zip((*names, say("slopes.difference")), found, strict=True)), "part", "slope")
    table = table.assign(se=np.array([e.se for e in found], dtype=float))[["part", "slope", "low", "high", "se", "n"]]
    side = "more" if gap.ci_low > 0 else "less" if gap.ci_high < 0 else "unknown"
    reading, title = say.names("slopes.readings")[side], say.names("slopes.titles")[side]
    sentence = say("slopes.sentence", loss=loss, gain=gain, names=names, reading=reading, gap=gap)
    picture = forest(table, "part", "slope", title, say("slopes.x", n=len(x)))
    estimates = {"asymmetry": gap}
    return Result(table, sentence, estimates=estimates, picture=picture)


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
    n, sources = len(items), model.predictors(sat) or tuple(c for c in model.names if c != sat)
    drivers = np.flatnonzero(np.isin(model.block, [model.names.index(c) for c in sources]))
    data = np.column_stack([items.to_numpy(float), construct_scores(items, model)[sat].to_numpy()])
    weight = links.relative_weights(resampled_correlations(data, resamples, seed), data.shape[1] - 1, drivers)
    r2 = weight.sum(axis=1)
    share = weight / r2[:, None]
    reach = links.simultaneous(share)
    _, rank_low, rank_high = from_draws(((-share).argsort(axis=1).argsort(axis=1) + 1)[1:])
    block = items.iloc[:, drivers]
    seen = (items.min().min(), items.max().max())
    floor, ceiling = np.array([model.ends(model.names[model.block[i]]) or seen for i in drivers], float).T
    performance = 100 * (block.mean() - floor) / (ceiling - floor)
    error = 100 * block.std() / np.sqrt(n) / (ceiling - floor)
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
            "n": n,
        }
    ).sort_values("importance", ascending=False, ignore_index=True)
    own = model.block[drivers] == model.names.index(quality)
    # the share of R squared of a useless item is above 0; over-fitting of R squared itself is taken off
    adjusted = 1 - (1 - r2) * (n - 1) / (n - len(drivers) - 1)
    e = percentile(adjusted, "", n)
    enough = gate(say, "importance.gate", Deviation(e.value, e.ci_low, e.ci_high, limit=MIN_R2, least=True))
    part = percentile(share[:, own].sum(axis=1), say("importance.unit"), n)
    line = replace(part, checks=(*dict(gates or {}).get((quality, sat), ()), enough))
    middle = table[["importance", "performance"]].median()
    x_low, x_high = ends(table["performance"], table["performance_se"])
    urgent = table[(table["low"] > middle["importance"]) & (x_high < middle["performance"])]
    sentence, title = say("importance.sentence", part=part, r2=r2[0]), say("importance.title_none")
    sentence += " " + (
        say("importance.names", names=", ".join(urgent["item"])) if len(urgent) else say("importance.none")
    )
    if len(urgent):
        title = say("importance.title", count=len(urgent), items=len(table))
    columns = {"performance": "x", "importance": "y", "item": "label", "construct": "group"}
    marks = [Mark(middle["performance"], style="limit"), Mark(middle["importance"], style="limit", axis="y")]
    options = {"marks": marks, "unit": "percent"}
    shown = table.rename(columns=columns).assign(x_low=x_low, x_high=x_high)
    axes = (title, say("importance.x", n=n), say("importance.y"))
    picture = Picture("scatter", shown, *axes, options=options, size=(7.2, 5.2))
    return Result(table, sentence, (respondents(),), {"S50": line}, picture=picture)


@survey_study
def moderation(items: pd.DataFrame, model: PathModel) -> Result:
    """Does privacy concern weaken the link from satisfaction to loyalty? Interaction of standardised scores.

    Estimates ``S16b``. Standard errors are HC3. Measurement error shrinks an interaction towards 0 (by about the
    product of both reliabilities), so a missing one is weak evidence.
    """
    sat, loyal, concern = model.need("satisfaction", "loyalty", "privacy")
    scores = construct_scores(items, model)
    drivers = [c for c in model.predictors(loyal) if c != concern] or [sat]
    design = scores[[*drivers, concern]].assign(interaction=scores[sat] * scores[concern])
    design.insert(0, "constant", 1.0)
    beta, cov = links.slopes(design, scores[loyal].to_numpy())
    se = np.sqrt(np.diag(cov))
    table = pd.DataFrame({"term": design.columns, "estimate": beta, "se": se}).iloc[1:]
    table["low"], table["high"] = ends(table["estimate"], table["se"])
    table["n"] = len(items)
    e = normal(float(beta[-1]), float(se[-1]), say("moderation.unit"), len(items))
    reading = say("moderation.weaker") if e.ci_high < 0 else say("moderation.same")
    reading = say("moderation.stronger") if e.ci_low > 0 else reading
    sentence = say("moderation.sentence", reading=reading, estimate=e)
    title, x = say("moderation.title", reading=reading), say("moderation.x", n=len(items))
    picture = forest(table, "term", "estimate", title, x)
    return Result(table, sentence, (respondents(),), {"S16b": e}, picture=picture)
