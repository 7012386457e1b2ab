"""Forecasts of value on customers' following year, beside naive ones: level, rank, calibration and course."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import jackknife
from crmresearch.estimators.verdicts import Deviation
from crmresearch.estimators.worth.forecasts import accuracy, course, deciles, naive_forecasts
from crmresearch.estimators.worth.margin import MarginModel, fit_margin, group_means
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, one_in, study
from crmresearch.rules import of_squares, whose

say = words.of("value.forecast")
OFF = 1.1  # ratio of predicted to actual, either way, beyond which a forecast misses the level
NAIVE = 2  # forecasts without a model: the last of those that are scored


def scored(scores: pd.DataFrame, what: str, unit: str, own: Any) -> Result:
    """Say how forecasts of ``what`` (money, or a number) score on level and rank: the model first, naive ones last.

    A gate asks whether the model is better than each naive forecast on rank or error, and worse than none, on the same
    customers; where intervals tell neither, it is taken on trust. ``own`` says whose it is that was forecast.
    """
    scores = safe(scores.assign(whose=own), parts=False)
    model, naive = scores.iloc[0], scores.iloc[-NAIVE:]
    worse = naive[["rank_gap_low", "error_gap_high"]].to_numpy() * [1, -1] > 0  # than a naive forecast
    told = bool(((naive["rank_gap_high"] < 0) | (naive["error_gap_low"] > 0)).all())
    better = False if worse.any() else told or None
    labels = [say("scores.mark", row=row) for _, row in scores.iterrows()]
    titles = {"level": say("scores.level_title", model=model), "rank": say("scores.rank_no_better")}
    if (naive["rank_gap_high"] < 0).all():
        titles["rank"] = say("scores.rank_better", model=model)
    pictures = []
    for name, title in titles.items():
        names = {name: "estimate", f"{name}_low": "low", f"{name}_high": "high", "n": "n"}
        data = scores[list(names)].rename(columns=names).assign(label=labels)
        marks = [Mark(1, style="limit")] if name == "level" else []
        pictures.append(Picture("intervals", data, title, say("scores.x", what=what), options={"marks": marks}))
    sentence = say("scores.sentence", what=what, model=model)
    gaps = [say("scores.gap", row=row) for _, row in naive.iterrows()]
    level = Deviation(model["level"], model["level_low"], model["level_high"], limit=OFF, none=1)
    return Result(
        scores.drop(columns=["level_se", "rank_se", "error_se"]),
        f"{sentence} {say('scores.better') if better else say('scores.no_better')}",
        (gate(say, "scores.level", level), gate(say, "scores.naive", better, gaps=words.joined(gaps))),
        picture=tuple(pictures),
        money=["error", "error_gap"] if unit == "money" else [],
        details={"scores": scores},
    )


def calibrated(table: pd.DataFrame, what: str, unit: str) -> Result:
    """Say how predicted and actual means agree by tenth of the prediction; ``unit`` is money or number."""
    table = safe(table)
    inside = int(table["predicted"].between(table["ci_low"], table["ci_high"]).sum())
    points = table.rename(columns={"actual": "observed"}).assign(group=say("calibration.points", n=table["n"].sum()))
    title = say("calibration.title", inside=inside, tenths=len(table))
    x, y = say("calibration.x", what=what), say("calibration.y")
    return Result(
        table,
        say("calibration.sentence", inside=inside, tenths=len(table), top=table.iloc[-1]),
        picture=Picture("calibration", points, title, x, y, {"agreement": say("calibration.line"), "unit": unit}),
        money=["predicted", "actual"] if unit == "money" else [],
        digits=2,
    )


def tracked(
    table: pd.DataFrame, x: str, what: str, n: int, unit: str, split: float | None = None
) -> tuple[Picture, ...]:
    """Draw a forecast beside what happened, incremental and cumulative; ``split`` is the end of calibration."""
    inside = int(table["actual"].between(table["ci_low"], table["ci_high"]).sum())
    panels = (
        (
            say("tracking.incremental", what=what, inside=inside, periods=len(table)),
            ["actual", "predicted", "ci_low", "ci_high"],
        ),
        (
            say("tracking.cumulative", last=table.iloc[-1]),
            ["cumulative", "predicted_cumulative", "cum_low", "cum_high"],
        ),
    )
    marks = [] if split is None else [Mark(split, say("tracking.split"), "limit")]
    pictures = []
    for title, columns in panels:
        seen, said, low, high = (table[c] for c in columns)
        actual = pd.DataFrame({"x": table[x], "y": seen, "group": say("tracking.actual", n=n), "n": table["n"]})
        ends = {"low": low, "high": high, "group": say("tracking.forecast"), "n": table["n"]}
        forecast = pd.DataFrame({"x": table[x], "y": said, **ends})
        limits = min(0.0, seen.min(), low.min()), 1.08 * max(seen.max(), high.max())
        options = {"unit": unit, "marks": marks, "ylim": limits}
        pictures.append(Picture("curves", pd.concat([actual, forecast]), title, x, what, options))
    return tuple(pictures)


@study
def holdout(model: MarginModel, frame: pd.DataFrame) -> Result:
    """Forecasts of the next twelve months' contribution, scored on what then happened.

    Parameters
    ----------
    model : MarginModel
        Fitted on data up to the split date only.
    frame : DataFrame
        Customers at the split date (``reductions.value.customers_at``) with twelve observed months ``after``.

    Returns
    -------
    Result
        Level, rank correlation and mean absolute error of the model and of both naive forecasts.
    """
    predicted = {say("model"): model.values(frame, 12, 0.0), **naive_forecasts(frame)}
    actual = frame["after"].to_numpy(dtype=float)
    return scored(accuracy(predicted, actual, model.codes(frame)), say("what"), "money", whose(actual))


@study
def calibration(model: MarginModel, frame: pd.DataFrame) -> Result:
    """Predicted and actual contribution of twelve held-out months by tenth of the prediction; see :func:`holdout`."""
    predicted = model.values(frame, 12, 0.0)[0]
    return calibrated(deciles(predicted, frame["after"].to_numpy(dtype=float)), say("what"), "money")


@study
def tracking(model: MarginModel, frame: pd.DataFrame, actual: pd.DataFrame) -> Result:
    """Contribution month by month after the split: forecast against what happened, incremental and cumulative.

    Parameters
    ----------
    model, frame
        As for :func:`holdout`.
    actual : DataFrame
        ``reductions.value.contribution_by_month``: ``ahead``, ``n``, ``contribution``, ``se``,
        ``squares``, ``gross``.
    """
    months = range(1, int(actual["ahead"].max()) + 1)
    total = one_in(frame) * np.stack([model.values(frame, k, 0.0).sum(axis=1) for k in months], axis=1)
    names = say.names("tracking.columns")
    own = [of_squares([gross], [squares]) for gross, squares in actual[["gross", "squares"]].to_numpy()]
    table = safe(course(actual["contribution"], total).assign(n=actual["n"], whose=own), parts=False)
    table.insert(0, names["ahead"], actual["ahead"])
    last = table.iloc[-1]
    miss = last["predicted_cumulative"] / last["cumulative"] - 1
    return Result(
        table.rename(columns=names),
        say("tracking.sentence", month=actual["ahead"].iloc[-1], last=last, miss=miss),
        picture=tracked(table, names["ahead"], say("tracking.what"), len(frame), "money"),
        digits=0,
        money=[names.get(c, c) for c in table.columns[1:-1]],
    )


@study
def calibration_windows(
    tables: pd.DataFrame,
    landmark: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    horizon_months: int = 60,
    annual_discount: float = 0.1,
) -> Result:
    """How value and its holdout accuracy move with the length of the calibration window.

    Parameters
    ----------
    tables : DataFrame
        ``reductions.value.tenure_windows``: a tenure table per ``window`` (months before the split).
    landmark : DataFrame
        As for :func:`fit_margin`; the same for all windows.
    frame : DataFrame
        Customers at the split date, with the twelve months ``after``.
    """
    if "window" not in tables.columns:
        raise InputError(say("windows.no_window"))
    actual, everyone = frame["after"].to_numpy(dtype=float), np.ones(len(frame), dtype=bool)
    rows = []
    for window in sorted(tables["window"].unique()):
        model = fit_margin(tables[tables["window"] == window], landmark)
        if isinstance(model, Missing):
            return Result.not_applicable(model)
        values = model.values(frame, horizon_months, annual_discount)
        value = jackknife(group_means(values, model, frame, everyone))
        score = accuracy({"": model.values(frame, 12, 0.0)}, actual, model.codes(frame)).iloc[0]
        scores = {f"{name}{end}": score[f"{name}{end}"] for name in ("level", "rank") for end in ("", "_low", "_high")}
        row = {"window": int(window), **value.columns("estimate", "ci"), **scores, "n": len(frame)}
        rows.append(row | {"whose": whose(values[0])})
    table = safe(pd.DataFrame(rows), parts=False)
    low, high = table.min(), table.max()
    data = table.assign(label=table["window"].astype(str))
    title, x = say("windows.title", low=low, high=high), say("windows.x", rate=annual_discount, n=len(frame))
    options = {"upright": True, "unit": "money"}
    names = say.names("windows.columns")
    return Result(
        table.rename(columns=names),
        say("windows.sentence", low=low, high=high, horizon=horizon_months),
        picture=Picture("intervals", data, title, x, say("windows.y", horizon=horizon_months), options),
        money=[names["estimate"]],
        digits=2,
    )
