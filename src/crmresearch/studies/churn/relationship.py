"""Study of what goes with staying: the relationship index, read some months earlier (S06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import FitError, Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.survival.cox import CoxFit, cox
from crmresearch.estimators.survival.discrete import discrete_hazard, weibull_aft
from crmresearch.estimators.survival.finegray import fine_gray
from crmresearch.estimators.survival.risk import cell_rows, churn_study
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import (
    EVENTS_PER_PARAMETER,
    enough_events,
    entry_independence,
    influence,
    proportional_hazards,
    separation,
)

VERDICT_LAG = 3  # months, fixed beforehand; other lags are sensitivity
DOUBTFUL = ("unknown", "dormant")  # causes that may hide a voluntary exit


def index_scale(cells: pd.DataFrame) -> pd.Series:
    """Means and spreads that make the relationship index from its parts, over person-months at risk."""
    w = cells["at_risk"].to_numpy(dtype=float)
    parts = {c: cells[c].to_numpy(dtype=float) for c in ("families", "unmet")}
    out = {}
    for name, x in parts.items():
        out[f"{name} mean"] = float(np.average(x, weights=w))
        out[f"{name} sd"] = float(np.sqrt(np.average((x - out[f"{name} mean"]) ** 2, weights=w)))
    if min(out["families sd"], out["unmet sd"]) <= 0:
        raise FitError("products held or unmet requests do not vary, so there is no relationship index")
    raw = (parts["families"] - out["families mean"]) / out["families sd"] - (parts["unmet"] - out["unmet mean"]) / out[
        "unmet sd"
    ]
    out["sd"] = float(np.sqrt(np.average(raw**2, weights=w) - np.average(raw, weights=w) ** 2))
    return pd.Series(out)


def with_index(frame: pd.DataFrame, scale: pd.Series) -> pd.DataFrame:
    """Add the relationship index: products held up, unmet requests down, equal weights, standard deviation 1."""
    up = (frame["families"] - scale["families mean"]) / scale["families sd"]
    down = (frame["unmet"] - scale["unmet mean"]) / scale["unmet sd"]
    return frame.assign(index=(up - down) / scale["sd"])


def forest(ax: Any, table: pd.DataFrame, label: str, title: str) -> Any:
    """Draw hazard ratios with intervals, one row per model, on a log scale; the model of the verdict is coloured."""
    y = np.arange(len(table))[::-1]
    filled = table["verdict"].to_numpy(dtype=bool)
    for part, color in ((filled, figures.ACCENT), (~filled, figures.GREY)):
        own = table[part]
        ends = own["ci_low"], own["ci_high"]
        figures.intervals(ax, y[part], own["hazard_ratio"], *ends, horizontal=True, fmt="s", color=color)
    ax.axvline(1, color=figures.INK, lw=1, ls=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.xaxis.set_minor_formatter(lambda v, _: f"{v:.2g}")
    ax.tick_params(axis="x", which="both", labelsize=9, length=3)
    ax.set_yticks(y, [f"{r.model} ({r.events:,} exits)" for r in table.itertuples(index=False)])
    ax.set(xlabel=label, ylim=(-0.6, len(table) - 0.4))
    title_over(ax, title)
    return ax


def title_over(ax: Any, words: str) -> None:
    """Write a title over the whole figure, where the labels of the y axis leave little room over the axes."""
    ax.figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold")


def model_row(model: str, fit: Any, covariate: str = "index", verdict: bool = False) -> dict[str, Any]:
    """One line of a forest table."""
    line = fit.summary().set_index("covariate").loc[covariate]
    keys = ("hazard_ratio", "ci_low", "ci_high", "p")
    return {
        "model": model,
        **{k: float(line[k]) for k in keys},
        "events": int(line["events"]),
        "n": int(line["n"]),
        "verdict": verdict,
    }


def _weibull_row(line: pd.Series, events: int) -> dict[str, Any]:
    """Forest line of the Weibull model, late entry respected."""
    from scipy.special import ndtr

    return {
        "model": "index at entry, Weibull (accelerated time)",
        "hazard_ratio": float(line["hazard_ratio"]),
        "ci_low": float(line["hr_low"]),
        "ci_high": float(line["hr_high"]),
        "p": float(2 * ndtr(-abs(line["coef"] / line["se"]))),
        "events": events,
        "n": int(line["n"]),
        "verdict": False,
    }


def rows_for(cells: pd.DataFrame, causes: Sequence[str] | None, groups: Sequence[str]) -> pd.DataFrame:
    """Start-stop rows for exits of some causes; the stratum is the combination of groups."""
    events = (
        cells["events"]
        if causes is None
        else sum((cells[f"events {c}"] for c in causes if f"events {c}" in cells), start=0 * cells["events"])
    )
    rows = cell_rows(cells.assign(events=events))
    rows["stratum"] = rows.groupby(list(groups), sort=True).ngroup() if groups else 0
    return rows


@dataclass(frozen=True)
class _Lagged:
    """The index read some months earlier: its scale, start-stop rows and Cox fits, by lag."""

    scale: pd.Series
    rows: Mapping[int, pd.DataFrame]
    fits: Mapping[int, CoxFit]


def _lagged(by_lag: Mapping[int, pd.DataFrame], groups: Sequence[str]) -> _Lagged:
    scale = index_scale(by_lag[VERDICT_LAG])
    rows = {lag: rows_for(with_index(c, scale), ["voluntary"], groups) for lag, c in sorted(by_lag.items())}
    fits = {lag: cox(r, ["index"], strata="stratum" if groups else None) for lag, r in rows.items()}
    return _Lagged(scale, rows, fits)


def index_hazard_ratio(
    by_lag: Mapping[int, pd.DataFrame], entry: pd.DataFrame, *, groups: Sequence[str] = ()
) -> Estimate:
    """Hazard ratio of the index three months earlier with its gates, without the models :func:`relationship` adds.

    Parameters
    ----------
    by_lag, groups
        As in :func:`relationship`.
    entry : DataFrame
        Spells, for the gate on late entry.

    Raises
    ------
    FitError
        No exits, or separation.
    """
    lagged = _lagged(by_lag, groups)
    return _verdict(lagged, by_lag[VERDICT_LAG], entry, groups)


def _verdict(lagged: _Lagged, cells: pd.DataFrame, entry: pd.DataFrame, groups: Sequence[str]) -> Estimate:
    line = lagged.fits[VERDICT_LAG].summary().iloc[0]
    return Estimate(
        float(line["hazard_ratio"]),
        float(line["ci_low"]),
        float(line["ci_high"]),
        "hazard ratio",
        int(entry["n"].sum()),
        p_value=one_sided_p(line["coef"], line["se"], 0.0, "below"),
        se=float(line["se"] * line["hazard_ratio"]),
        checks=_relationship_gates(lagged, cells, groups, entry),
    )


@churn_study
def relationship(
    by_lag: Mapping[int, pd.DataFrame],
    entry: pd.DataFrame,
    *,
    groups: Sequence[str] = (),
    resamples: int = 100,
    seed: int = 0,
) -> Result:
    """Hazard ratio of voluntary exit for one standard deviation of the relationship index, over models (S06).

    Parameters
    ----------
    by_lag : mapping of int to DataFrame
        Person-month cells with ``families`` and ``unmet`` read so many months earlier; lag 3 decides.
    entry : DataFrame
        Spells with ``families`` and ``unmet`` at entry.
    groups : sequence of str
        Columns of the cells that form strata (tier, value band): each has its own baseline hazard.
    resamples, seed : int
        Bootstrap of Fine and Gray's model; 0 takes its model-based errors.

    Returns
    -------
    Result
        Forest table: ``model, hazard_ratio, ci_low, ci_high, p, events, n, verdict``; ``n`` are person-months for
        models with a changing index, customers otherwise. Gates: proportional hazards, events per parameter,
        separation, influence, lag, late entry, doubtful causes by bounds.

    Notes
    -----
    A customer leaves once, so the months of one customer are no repeated outcomes and the errors of the partial
    likelihood hold for start-stop rows (Andersen and Gill 1982, Annals of Statistics 10).
    """
    lacking = next((v for v in by_lag.values() if isinstance(v, Missing)), None)
    if lacking is not None:
        return Result.not_applicable(lacking)
    cells = by_lag[VERDICT_LAG]
    if "events voluntary" not in cells.columns:
        return Result.not_applicable(Missing("no exit is recorded as voluntary", ("customers",)))
    lagged = _lagged(by_lag, groups)
    scale, fits, strata = lagged.scale, lagged.fits, "stratum" if groups else None
    estimate = _verdict(lagged, cells, entry, groups)
    own = with_index(entry, scale)
    voluntary = own.assign(event=(own["cause"] == "voluntary").astype(int))
    everything = cox(rows_for(with_index(cells, scale), None, groups), ["index"], strata=strata)
    monthly = with_index(cells.assign(events=cells["events voluntary"]), scale)
    sub = fine_gray(_pooled(own), ["index"], "voluntary", repeats=resamples, seed=seed)
    dummies, names = _dummies(monthly, groups)
    weibull = next(line for _, line in weibull_aft(voluntary, ["index"]).iterrows() if line["term"] == "index")
    rows = [
        model_row("index at entry, late entry ignored", cox(voluntary.assign(entry=0), ["index"])),
        model_row("index at entry, late entry respected", cox(voluntary, ["index"])),
        _weibull_row(weibull, int((voluntary["n"] * voluntary["event"]).sum())),
        *[
            model_row(f"index {lag} month{'s' if lag != 1 else ''} earlier", fit, verdict=lag == VERDICT_LAG)
            for lag, fit in fits.items()
        ],
        model_row("3 months earlier, monthly hazard (cloglog)", discrete_hazard(dummies, ["index", *names])),
        model_row("3 months earlier, exits of every cause", everything),
        model_row("index at entry, Fine-Gray (incidence)", sub),
    ]
    table = pd.DataFrame(rows)
    main = table[table["verdict"]].iloc[0]
    naive = table.iloc[0]
    sentence = (
        "One standard deviation more of the relationship index (products held up, unmet requests down) three months "
        f"earlier goes with a hazard ratio of voluntary exit of {main['hazard_ratio']:.3f} [{main['ci_low']:.3f}, "
        f"{main['ci_high']:.3f}] over {main['events']:,} exits; with late entry ignored and the index fixed at entry "
        f"it would read {naive['hazard_ratio']:.3f}. In a Weibull model of accelerated time, one more of it "
        f"at entry goes with a stay {weibull['time_ratio']:.2f} times as long [{weibull['ci_low']:.2f}, "
        f"{weibull['ci_high']:.2f}]. This is an association."
    )
    alt = (
        "Forest plot of hazard ratios with 95% intervals: "
        + "; ".join(f"{r.model} {r.hazard_ratio:.2f}" for r in table.itertuples())
        + "."
    )
    return Result(
        table,
        sentence,
        estimate.checks,
        {"S06": estimate},
        draw=lambda ax: forest(
            ax,
            table,
            "Hazard ratio per SD of the index (95% interval)",
            f"Voluntary exit and the relationship index, by model (n = {estimate.n:,})",
        ),
        alt=alt,
        counts=("n", "events"),
        figsize=(7.6, 4.6),
        details={"fits": fits, "scale": scale},
    )


@churn_study
def by_tenure(cells: pd.DataFrame, *, groups: Sequence[str] = (), years: Sequence[int] = (2, 5, 10)) -> Result:
    """Hazard ratio of the relationship index by tenure: what replaces one ratio where it is not constant.

    Parameters
    ----------
    cells : DataFrame
        Person-months as for :func:`relationship`, read three months earlier.
    groups : sequence of str
        Strata.
    years : sequence of int
        Where the bands of tenure end, years.

    Returns
    -------
    Result
        Forest table by band of tenure.
    """
    if "events voluntary" not in cells.columns:
        return Result.not_applicable(Missing("no exit is recorded as voluntary", ("customers",)))
    rows = rows_for(with_index(cells, index_scale(cells)), ["voluntary"], groups)
    out = []
    for low, high in pairwise([0, *years, np.inf]):
        part = rows[(rows["exit"] > 12 * low) & (rows["exit"] <= 12 * high)]
        name = f"tenure over {low} years" if np.isinf(high) else f"tenure {low} to {high} years"
        if part.loc[part["event"] == 1, "n"].sum() >= 2 * EVENTS_PER_PARAMETER:
            out.append(model_row(name, cox(part, ["index"], strata="stratum" if groups else None)))
    if not out:
        return Result.not_applicable(Missing("too few voluntary exits to split them by tenure", ("customers",)))
    table = pd.DataFrame(out)
    spread = ", ".join(
        f"{r.hazard_ratio:.2f} [{r.ci_low:.2f}, {r.ci_high:.2f}] at {r.model}" for r in table.itertuples()
    )
    return Result(
        table.drop(columns="verdict"),
        f"Hazard ratio of the index by tenure: {spread}.",
        draw=lambda ax: forest(
            ax,
            table,
            "Hazard ratio per SD of the index (95% interval)",
            "Voluntary exit and the relationship index, by tenure",
        ),
        alt=f"Forest plot of the hazard ratio of the index by tenure: {spread}.",
        counts=("n", "events"),
        figsize=(7.2, 2.8),
    )


def _pooled(spells: pd.DataFrame) -> pd.DataFrame:
    """Add up spells that are alike in times, cause and index."""
    keys = ["entry", "exit", "event", "cause", "index"]
    return spells.groupby(keys, dropna=False)["n"].sum().reset_index()


def _dummies(cells: pd.DataFrame, groups: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    out, names = cells.copy(), []
    for group in groups:
        for level in sorted(cells[group].unique(), key=str)[1:]:
            name = f"{group} {level}"
            out[name] = (cells[group] == level).astype(float)
            names.append(name)
    return out, names


def _relationship_gates(
    lagged: _Lagged, cells: pd.DataFrame, groups: Sequence[str], entry: pd.DataFrame
) -> tuple[Check, ...]:
    fit, rows, fits = lagged.fits[VERDICT_LAG], lagged.rows[VERDICT_LAG], lagged.fits
    lines = {lag: f.summary().iloc[0] for lag, f in fits.items()}
    both = [lines[VERDICT_LAG], lines[max(fits)]]
    # the sign of an effect that is told from none at neither lag is a coin's
    turned = both[0]["coef"] * both[1]["coef"] < 0 and any((b["ci_low"] - 1) * (b["ci_high"] - 1) > 0 for b in both)
    lag_gate = Check.of(
        "lag",
        not turned,
        f"log hazard ratio {', '.join(f'{b.coef:+.3f} (se {b.se:.3f}) at {lag}' for lag, b in lines.items())} months; "
        "an effect told from none must keep its sign at the longest lag",
        "undecided",
    )
    every = cox(
        rows_for(with_index(cells, lagged.scale), ["voluntary", *DOUBTFUL], groups),
        ["index"],
        strata="stratum" if groups else None,
    )
    bounds = [both[0], every.summary().iloc[0]]
    kept = all(b["ci_high"] < 1 for b in bounds) or all(b["ci_low"] > 1 for b in bounds)
    none, all_of_them = (b["hazard_ratio"] for b in bounds)
    detail = f"hazard ratio {none:.3f} if no exit without a clear reason was voluntary, {all_of_them:.3f} if all were"
    doubtful = Check(
        "doubtful causes",
        "open" if kept else "declared",
        detail + ("; both intervals lie on one side of 1" if kept else ""),
        "undecided",
    )
    return (
        proportional_hazards(fit, "index"),
        enough_events(fit.events, 1 + len(rows["stratum"].unique())),  # every stratum has a baseline hazard of its own
        separation(rows, ["index"]),
        influence(fit),
        lag_gate,
        entry_independence(entry),
        doubtful,
    )
