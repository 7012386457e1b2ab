"""Scoring forecasts of value on customers' following year, beside naive ones.

A forecast is scored on level (predicted over actual total) and on rank (who will be worth more), because models often
rank well and miss the level. Two naive forecasts stand beside it: the last year continued, and the mean of the whole
history continued.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import InputError, Missing
from crmresearch.result import Check, Result, study
from crmresearch.studies.value.common import interval, jackknife
from crmresearch.studies.value.margin import MarginModel, fit_margin, group_means
from crmresearch.studies.value.stability import CUTS


def accuracy(predicted: Mapping[str, np.ndarray], actual: np.ndarray, codes: np.ndarray) -> pd.DataFrame:
    """Level, rank accuracy and mean absolute error of forecasts, with delete-a-group jackknife intervals.

    Parameters
    ----------
    predicted : mapping of str to array
        By method: ``(n,)``, or ``(groups + 1, n)`` for a model refitted without each group.
    actual : array, (n,)
        What happened.
    codes : array, (n,)
        Group of each customer, 0 to groups - 1.

    Returns
    -------
    DataFrame
        ``method``, ``level`` (predicted over actual total), ``rank`` (Spearman's correlation), ``error`` (mean
        absolute), each with ``_low`` and ``_high``, and ``n``.
    """
    groups = int(codes.max()) + 1
    if actual.sum() <= 0:
        raise InputError("the actual total is not positive, so a level ratio means nothing; take another period")
    rows = []
    for method, values in predicted.items():
        every = np.broadcast_to(values, (groups + 1, actual.size)) if values.ndim == 1 else values
        if not np.isfinite(every).all():
            raise InputError(f"{method}: {int((~np.isfinite(every)).any(axis=0).sum())} customers without a forecast")
        scores = np.empty((groups + 1, 3))
        for g in range(groups + 1):
            use = codes != g - 1
            p, a = every[g, use], actual[use]
            rank = pd.Series(p).corr(pd.Series(a), method="spearman") if np.ptp(p) > 0 else 0.0
            scores[g] = p.sum() / a.sum(), rank, np.abs(p - a).mean()
        value, _, low, high = jackknife(scores)
        row: dict[str, Any] = {"method": method}
        for i, name in enumerate(("level", "rank", "error")):
            row |= {name: value[i], f"{name}_low": low[i], f"{name}_high": high[i]}
        rows.append(row | {"n": actual.size})
    return pd.DataFrame(rows)


def naive_forecasts(frame: pd.DataFrame, months: int = 12) -> dict[str, np.ndarray]:
    """Forecast without a model: the last year continued, and the mean of the history continued."""
    return {
        "last year continued": frame["before"].to_numpy(dtype=float) / frame["months_before"].to_numpy() * months,
        "mean of history": frame["all"].to_numpy(dtype=float) / frame["months_all"].to_numpy() * months,
    }


def _scores_figure(table: pd.DataFrame, what: str) -> Any:
    def draw(axes: Any) -> Any:
        left, right = axes
        at = np.arange(len(table))[::-1]
        for ax, name, title, none in (
            (left, "level", "Level: predicted over actual total", 1.0),
            (right, "rank", "Rank correlation", None),
        ):
            figures.intervals(ax, at, table[name], table[f"{name}_low"], table[f"{name}_high"], horizontal=True)
            ax.set(title=title, xlabel=f"{what}, 95% interval", ylim=(-0.6, len(table) - 0.4))
            if none is not None:
                ax.axvline(none, color=figures.GREY, linestyle="--", linewidth=1)
        left.set_yticks(at, [f"{m}\nn = {n:,}" for m, n in zip(table["method"], table["n"], strict=True)])
        right.set_yticks(at, [""] * len(table))
        return axes

    return draw


def _scores_result(table: pd.DataFrame, what: str) -> Result:
    best = table.sort_values("rank", ascending=False).iloc[0]
    model = table.iloc[0]
    sentence = (
        f"On held-out {what} of {model['n']:,} customers, {model['method']} predicts "
        f"{interval(model['level'], model['level_low'], model['level_high'], '.0%')} of the actual total and "
        "ranks customers with correlation "
        f"{interval(model['rank'], model['rank_low'], model['rank_high'], '.2f')}; the best rank correlation is "
        f"{best['rank']:.2f}, by {best['method']}."
    )
    close = model["level_low"] <= 1.1 and model["level_high"] >= 0.9
    level = Check.of(
        "holdout level",
        bool(close),
        f"predicted over actual is {model['level']:.2f}; the interval should reach 0.9 to 1.1",
        "undecided",
    )
    alt = "Two panels of points with intervals, one row per forecast: " + "; ".join(
        f"{r.method}: level {r.level:.2f}, rank correlation {r.rank:.2f}"
        for r in table[["method", "level", "rank"]].itertuples(index=False)
    )
    return Result(table, sentence, (level,), {}, _scores_figure(table, what), alt + ".", panels=2)


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
    codes = np.searchsorted(model.groups, frame["fold"].to_numpy())
    predicted = {"survival x margin": model.values(frame, 12, 0.0), **naive_forecasts(frame)}
    return _scores_result(
        accuracy(predicted, frame["after"].to_numpy(dtype=float), codes), "contribution of twelve months"
    )


def deciles(predicted: np.ndarray, actual: np.ndarray, groups: int = 10) -> pd.DataFrame:
    """Mean prediction and outcome by tenth of the prediction, with the outcome's interval."""
    order = np.argsort(predicted, kind="stable")
    rows = []
    for number, part in enumerate(np.array_split(order, groups), start=1):
        if part.size < 2:
            continue
        mean, half = actual[part].mean(), 1.96 * actual[part].std(ddof=1) / part.size**0.5
        rows.append((number, predicted[part].mean(), mean, mean - half, mean + half, part.size))
    return pd.DataFrame(rows, columns=["decile", "predicted", "actual", "ci_low", "ci_high", "n"])


def _calibration_result(table: pd.DataFrame, what: str) -> Result:
    top = table.iloc[-1]
    inside = int(((table["ci_low"] <= table["predicted"]) & (table["predicted"] <= table["ci_high"])).sum())
    sentence = (
        f"The prediction lies inside the interval of the actual mean in {inside} of {len(table)} tenths; in the "
        f"best tenth it is {top['predicted']:,.2f} against "
        f"{interval(top['actual'], top['ci_low'], top['ci_high'], ',.2f')}."
    )

    def draw(ax: Any) -> Any:
        ends = [
            min(table["predicted"].min(), table["ci_low"].min()),
            max(table["predicted"].max(), table["ci_high"].max()),
        ]
        ax.plot(ends, ends, color=figures.GREY, linestyle="--", linewidth=1, label="perfect calibration")
        label = f"tenths of n = {int(table['n'].sum()):,}, 95% interval"
        figures.intervals(ax, table["predicted"], table["actual"], table["ci_low"], table["ci_high"], label=label)
        ax.set(
            xlabel=f"predicted {what}, mean per customer",
            ylabel="actual, mean per customer",
            title="Calibration by tenth of the prediction",
        )
        ax.legend(loc="best")
        return ax

    alt = (
        f"Ten points of actual against predicted mean {what}; {inside} intervals cross the line of perfect calibration."
    )
    return Result(table, sentence, (), {}, draw, alt, digits=2)


@study
def calibration(model: MarginModel, frame: pd.DataFrame) -> Result:
    """Predicted and actual contribution of twelve held-out months by tenth of the prediction; see :func:`holdout`."""
    predicted = model.values(frame, 12, 0.0)[0]
    return _calibration_result(
        deciles(predicted, frame["after"].to_numpy(dtype=float)), "contribution of twelve months"
    )


@study
def tracking(model: MarginModel, frame: pd.DataFrame, actual: pd.DataFrame) -> Result:
    """Contribution month by month after the split: forecast against what happened, incremental and cumulative.

    Parameters
    ----------
    model, frame
        As for :func:`holdout`.
    actual : DataFrame
        ``reductions.value.contribution_by_month``: ``ahead``, ``n``, ``contribution``, ``se``.
    """
    total = np.stack(
        [model.values(frame, k, 0.0).sum(axis=1) for k in range(1, int(actual["ahead"].max()) + 1)], axis=1
    )
    step = np.diff(total, axis=1, prepend=0.0)
    inc, cum = jackknife(step), jackknife(total)
    table = pd.DataFrame(
        {
            "month ahead": actual["ahead"],
            "actual": actual["contribution"],
            "predicted": inc[0],
            "ci_low": inc[2],
            "ci_high": inc[3],
            "cumulative": actual["contribution"].cumsum(),
            "predicted cumulative": cum[0],
            "cum_low": cum[2],
            "cum_high": cum[3],
            "n": actual["n"],
        }
    )
    last = table.iloc[-1]
    sentence = (
        f"After {last['month ahead']:.0f} months the forecast stands at "
        f"{interval(last['predicted cumulative'], last['cum_low'], last['cum_high'], ',.0f')} against "
        f"{last['cumulative']:,.0f}: {last['predicted cumulative'] / last['cumulative'] - 1:+.1%}."
    )
    draw = _tracking_figure(table, "month ahead", "contribution", f"{len(frame):,} customers")
    alt = (
        f"Two panels over {len(table)} months: actual and forecast contribution per month, and cumulative; at the "
        f"end the forecast is {last['predicted cumulative'] / last['cumulative'] - 1:+.0%} off."
    )
    return Result(table, sentence, (), {}, draw, alt, digits=0, panels=2)


def _tracking_figure(table: pd.DataFrame, x: str, what: str, who: str, split: float | None = None) -> Any:
    def draw(axes: Any) -> Any:
        names = (
            ("actual", "predicted", "ci_low", "ci_high"),
            ("cumulative", "predicted cumulative", "cum_low", "cum_high"),
        )
        for ax, (seen, said, low, high), title in zip(axes, names, ("Incremental", "Cumulative"), strict=True):
            ax.plot(table[x], table[seen], color=figures.INK, label=f"actual, {who}")
            ax.plot(table[x], table[said], color=figures.PALETTE[1], label="forecast, 95% band of the model")
            figures.interval_band(ax, table[x], table[low], table[high], figures.PALETTE[1])
            if split is not None:
                ax.axvline(split, color=figures.GREY, linestyle="--", linewidth=1, label="end of calibration")
            ax.set(title=f"{title} {what}", xlabel=x, ylabel=what, ylim=(min(0, ax.get_ylim()[0]), None))
            figures.money_axis(ax)
            ax.legend(loc="best", fontsize=8)
        return axes

    return draw


@study
def calibration_windows(
    tables: pd.DataFrame,
    landmark: pd.DataFrame,
    frame: pd.DataFrame,
    *,
    horizon_months: int = 60,
    annual_discount: float = 0.1,
    cuts: Sequence[float] = CUTS,
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
        raise InputError("tables: no column window; make it with reductions.value.tenure_windows")
    rows = []
    codes: np.ndarray | None = None
    for window in sorted(tables["window"].unique()):
        model = fit_margin(tables[tables["window"] == window], landmark, cuts=cuts)
        if isinstance(model, Missing):
            return Result.not_applicable(model)
        codes = np.searchsorted(model.groups, frame["fold"].to_numpy())
        value = jackknife(
            group_means(
                model.values(frame, horizon_months, annual_discount), model, frame, np.ones(len(frame), dtype=bool)
            )
        )
        score = accuracy({"x": model.values(frame, 12, 0.0)}, frame["after"].to_numpy(dtype=float), codes).iloc[0]
        rows.append(
            (
                int(window),
                value[0],
                value[2],
                value[3],
                score["level"],
                score["level_low"],
                score["level_high"],
                score["rank"],
                score["rank_low"],
                score["rank_high"],
                len(frame),
            )
        )
    columns = [
        "window",
        "value per customer",
        "ci_low",
        "ci_high",
        "level",
        "level_low",
        "level_high",
        "rank",
        "rank_low",
        "rank_high",
        "n",
    ]
    out = pd.DataFrame(rows, columns=columns)
    low, high = out["value per customer"].min(), out["value per customer"].max()
    sentence = (
        f"Calibrated on {out['window'].min()} to {out['window'].max()} months, the mean value of a customer over "
        f"{horizon_months} months runs from {low:,.0f} to {high:,.0f}, and the forecast of the held-out year from "
        f"{out['level'].min():.0%} to {out['level'].max():.0%} of the actual total."
    )

    def draw(ax: Any) -> Any:
        figures.intervals(ax, out["window"], out["value per customer"], out["ci_low"], out["ci_high"], fmt="o-")
        ax.set(
            xlabel="months of calibration before the split",
            ylabel="value per customer, 95% interval",
            xticks=out["window"],
        )
        ax.set_title(f"Value over {horizon_months} months at {annual_discount:.0%} a year, n = {len(frame):,}")
        figures.money_axis(ax)
        return ax

    alt = f"Points with intervals: mean value per customer by calibration window, from {low:,.0f} to {high:,.0f}."
    return Result(out, sentence, (), {}, draw, alt, digits=2)
