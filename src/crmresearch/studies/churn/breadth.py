"""Studies of the breadth of needs met at a landmark date: hazard ratio (S56) and standardised risks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.risk import churn_study
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import (
    EVENTS_PER_PARAMETER,
    enough_events,
    influence,
    proportional_hazards,
    separation,
)
from crmresearch.studies.churn.relationship import forest, model_row
from crmresearch.studies.churn.retention import no_exits


def _adjusted_for(spells: pd.DataFrame) -> list[str]:
    """Covariates known at the landmark that are held equal, as far as they vary."""
    named = ("tier_3", "channel_online", "channel_agent", "channel_referral", "age", "log_balance")
    return [c for c in named if c in spells.columns and len(spells[c].unique()) > 1]


@churn_study
def breadth(rows: pd.DataFrame, *, seed: int = 0) -> Result:
    """Hazard ratio of voluntary exit after a landmark date for one more product family held on it (S56).

    Parameters
    ----------
    rows : DataFrame
        From :func:`crmresearch.data.reductions.churn.landmark`, with ``families``.
    seed : int
        Seed of the permuted negative control.

    Returns
    -------
    Result
        Table: ``model, hazard_ratio, ci_low, ci_high, p, events, n, verdict``, all on the clock of tenure with entry at
        the landmark: alone, adjusted for what else is known on the date, and two negative controls, which must show
        nothing: families of another customer, and, where deaths are enough, death in place of voluntary exit.
    """
    if "families" not in rows.columns:
        return Result.not_applicable(Missing("the number of product families held is not known", ("holdings",)))
    # the clock is tenure, entered at the landmark: the baseline hazard takes care of tenure whatever its form
    entry = np.ceil(12 * rows["tenure"].clip(lower=0))
    spells = rows.assign(event=(rows["cause"] == "voluntary").astype(int), entry=entry, exit=entry + rows["exit"])
    empty = no_exits(spells)
    if empty is not None:
        return empty
    extra = _adjusted_for(spells)
    crude, fit = cox(spells, ["families"]), cox(spells, ["families", *extra])
    shuffled = np.random.default_rng(seed).permutation(spells["families"].to_numpy())
    control = cox(spells.assign(families=shuffled), ["families", *extra])
    models = [
        model_row("families alone", crude, "families"),
        model_row("adjusted", fit, "families", verdict=True),
        model_row("control: families of another", control, "families"),
    ]
    deaths = spells.assign(event=(rows["cause"] == "death").astype(int))
    if deaths["event"].sum() >= EVENTS_PER_PARAMETER * (1 + len(extra)):
        models.append(model_row("control: deaths", cox(deaths, ["families", *extra]), "families"))
    table = pd.DataFrame(models)
    main = table.iloc[1]
    coef, se = float(fit.params["families"]), float(fit.se["families"])
    estimate = Estimate(
        main["hazard_ratio"],
        main["ci_low"],
        main["ci_high"],
        "hazard ratio",
        len(rows),
        p_value=one_sided_p(coef, se, 0.0, "below"),
        se=se * main["hazard_ratio"],
    )
    checks = (
        proportional_hazards(fit, "families"),
        enough_events(fit.events, 1 + len(extra)),
        separation(spells, ["families"]),
        influence(fit),
        Check.of(
            "negative control",
            table.iloc[2]["p"] > 0.001,
            f"hazard ratio {table.iloc[2]['hazard_ratio']:.3f} for families of another customer",
        ),
    )
    sentence = (
        "One more product family held at the landmark goes with a hazard ratio of later voluntary exit of "
        f"{main['hazard_ratio']:.3f} [{main['ci_low']:.3f}, {main['ci_high']:.3f}], tenure, place, channel, age and "
        f"balance held equal, over {main['events']:,} exits of {main['n']:,} customers. This is an association."
    )
    alt = (
        "Forest plot of the hazard ratio per product family: "
        + "; ".join(f"{r.model} {r.hazard_ratio:.2f}" for r in table.itertuples())
        + "."
    )
    return Result(
        table,
        sentence,
        checks,
        {"S56": estimate},
        draw=lambda ax: forest(
            ax,
            table,
            "Hazard ratio per product family (95% interval)",
            f"Voluntary exit and product families held (n = {len(rows):,})",
        ),
        alt=alt,
        counts=("n", "events"),
        figsize=(7.2, 1.4 + 0.4 * len(table)),
        details={"fit": fit},
    )


@churn_study
def standardised(rows: pd.DataFrame, *, levels: Sequence[int] = (1, 3, 5), repeats: int = 100, seed: int = 0) -> Result:
    """Exits that would be expected if every customer held so many product families, all else as it is.

    Parameters
    ----------
    rows : DataFrame
        Landmark rows, as for :func:`breadth`.
    levels : sequence of int
        Product families to compare; the first is the reference.
    repeats, seed : int
        Bootstrap of customers.

    Returns
    -------
    Result
        Table: ``families, months, gone, ci_low, ci_high, difference, diff_low, diff_high, n``. Predicted from a Cox
        model of voluntary exit and averaged over all customers (g-formula): a difference of risks, which unlike a
        hazard ratio keeps its value when something independent is left out. It is causal only if nothing else that
        matters is.
    """
    if "families" not in rows.columns:
        return Result.not_applicable(Missing("the number of product families held is not known", ("holdings",)))
    spells = rows.assign(event=(rows["cause"] == "voluntary").astype(int), entry=0, log_tenure=np.log1p(rows["tenure"]))
    empty = no_exits(spells)
    if empty is not None:
        return empty
    covariates = ["families", "log_tenure", *_adjusted_for(spells)]
    horizon = int(spells["exit"].max())
    months = np.unique(np.linspace(0, horizon, 13).round())

    def curves(n: np.ndarray) -> np.ndarray:
        some = n > 0
        fit = cox(spells[some].assign(n=n[some]), covariates)
        base = fit.cumulative_baseline(months)
        risks = [fit.relative_risk(spells[some].assign(families=float(level))) for level in levels]
        return np.array([[np.average(-np.expm1(-h * r), weights=n[some]) for h in base] for r in risks])

    center = curves(np.ones(len(spells)))
    rng, share = np.random.default_rng(seed), np.full(len(spells), 1 / len(spells))
    draws = np.array([curves(rng.multinomial(len(spells), share).astype(float)) for _ in range(repeats)])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    gap = center[1:, -1] - center[0, -1]
    gap_low, gap_high = np.quantile(draws[:, 1:, -1] - draws[:, :1, -1], [0.025, 0.975], axis=0)
    table = pd.DataFrame(
        {
            "families": list(levels),
            "months": horizon,
            "gone": center[:, -1],
            "ci_low": low[:, -1],
            "ci_high": high[:, -1],
            "difference": np.r_[np.nan, gap],
            "diff_low": np.r_[np.nan, gap_low],
            "diff_high": np.r_[np.nan, gap_high],
            "n": len(spells),
        }
    )
    sentence = (
        f"If all {len(spells):,} customers held {levels[0]} product famil{'y' if levels[0] == 1 else 'ies'}, "
        f"{center[0, -1]:.1%} would be expected to leave within {horizon} months; with {levels[-1]}, "
        f"{center[-1, -1]:.1%}: a difference of {100 * gap[-1]:+.1f} points [{100 * gap_low[-1]:+.1f}, "
        f"{100 * gap_high[-1]:+.1f}], if the model leaves out nothing that matters."
    )

    def draw(ax: Any) -> Any:
        for i, level in enumerate(levels):
            color = figures.PALETTE[i]
            figures.interval_band(ax, months, low[i], high[i], color=color)
            ax.plot(months, center[i], color=color, label=f"{level} famil{'y' if level == 1 else 'ies'}")
        ax.set(
            xlabel="Months since the landmark date",
            ylabel="Expected share gone, 95% interval",
            title=f"Standardised curves of voluntary exit (n = {len(spells):,})",
            xlim=(0, horizon),
            ylim=(0, None),
        )
        figures.percent_axis(ax)
        ax.legend(title="everybody holding")
        return ax

    ends = ", ".join(f"{k} families {v:.0%}" for k, v in zip(levels, center[:, -1], strict=True))
    alt = f"Standardised exit curves with 95% bands over {horizon} months; at the end: {ends}."
    return Result(table, sentence, draw=draw, alt=alt)
