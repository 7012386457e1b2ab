"""Studies of the breadth of needs met at a landmark date: hazard ratio (S56) and standardised risks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.frames import among
from crmresearch.estimators.inference import from_draws
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.diagnostics import diagnose
from crmresearch.estimators.survival.gformula import standardised_curves
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Result, gate, study
from crmresearch.studies.churn.curves import need_exits
from crmresearch.studies.churn.gates import EVENTS_PER_PARAMETER, model_gates
from crmresearch.studies.churn.index import CAUSE, forest, hazard_ratio, model_row

KNOWN = ("tier_", "channel_online", "channel_agent", "channel_referral", "age", "log_balance")
LEVELS = (1, 3, 5)  # product families compared; the first is the reference
MATTERS = 0.97  # hazard ratio of the smallest effect that matters: what a control must stay clear of
say = words.of("churn.breadth")
say_standard = words.of("churn.standardised")


def _adjusted_for(spells: pd.DataFrame) -> list[str]:
    """Covariates known at the landmark that are held equal, as far as they vary."""
    return [c for c in among(spells, KNOWN) if len(spells[c].unique()) > 1]


def _spells(rows: pd.DataFrame) -> pd.DataFrame:
    """Spells of voluntary exit since the landmark."""
    if "families" not in rows.columns:
        raise NotApplicable(say("unknown"), "holdings")
    spells = rows.assign(event=(rows["cause"] == CAUSE).astype(int), entry=0)
    need_exits(spells)
    return spells


@study
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
    spells = _spells(rows)
    # the clock is tenure, entered at the landmark: the baseline hazard takes care of tenure whatever its form
    entry = np.ceil(12 * rows["tenure"].clip(lower=0))
    spells = spells.assign(entry=entry, exit=entry + rows["exit"])
    covariates, name = ["families", *_adjusted_for(spells)], say.names("models")
    shuffled = np.random.default_rng(seed).permutation(spells["families"].to_numpy())
    deaths = spells.assign(event=(rows["cause"] == "death").astype(int))
    fits = {
        "alone": cox(spells, ["families"]),
        "adjusted": cox(spells, covariates),
        "another": cox(spells.assign(families=shuffled), covariates),
    }
    if deaths["event"].sum() >= EVENTS_PER_PARAMETER * len(covariates):
        fits["deaths"] = cox(deaths, covariates)
    fit, lines = fits["adjusted"], {k: f.summary().iloc[0] for k, f in fits.items()}
    table = pd.DataFrame([model_row(name[k], line, verdict=k == "adjusted") for k, line in lines.items()])
    main = table.iloc[1]
    title = say("title", main=main) if main["ci_high"] < 1 or main["ci_low"] > 1 else say("title_open")
    value, low, high = (float(table.iloc[2][k]) for k in ("hazard_ratio", "ci_low", "ci_high"))
    other = Deviation(value, low, high, limit=MATTERS, none=1.0, control=True)
    return Result(
        table,
        say("sentence", main=main),
        (*model_gates(fit.events, len(covariates), **diagnose(fit, spells, "families")), gate(say, "control", other)),
        {"S56": hazard_ratio(lines["adjusted"], len(rows))},
        picture=forest(table, title, say("x", n=len(rows)), (7.2, 1.4 + 0.4 * len(table))),
        counts=(("n",), ("events",)),
        details={"fit": fit},
    )


@study
def standardised(rows: pd.DataFrame, *, repeats: int = 100, seed: int = 0) -> Result:
    """Exits that would be expected if every customer held so many product families, all else as it is.

    Parameters
    ----------
    rows : DataFrame
        Landmark rows, as for :func:`breadth`.
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
    spells = _spells(rows)
    spells = spells.assign(log_tenure=np.log1p(rows["tenure"]))
    covariates = ["families", "log_tenure", *_adjusted_for(spells)]
    months, gone, draws = standardised_curves(spells, covariates, "families", LEVELS, repeats=repeats, seed=seed)
    horizon = int(months[-1])
    _, low, high = from_draws(draws)
    _, gap_low, gap_high = from_draws(draws[:, :, -1] - draws[:, :1, -1])
    table = pd.DataFrame(
        {
            "families": list(LEVELS),
            "months": horizon,
            "gone": gone[:, -1],
            "ci_low": low[:, -1],
            "ci_high": high[:, -1],
            "difference": gone[:, -1] - gone[0, -1],
            "diff_low": gap_low,
            "diff_high": gap_high,
            "n": len(spells),
        }
    )
    table.loc[0, ["difference", "diff_low", "diff_high"]] = np.nan
    points = 100 * table.iloc[-1][["difference", "diff_low", "diff_high"]]
    apart = points["diff_low"] > 0 or points["diff_high"] < 0
    title = say_standard("title_alike")
    if apart:
        title = say_standard("title", first=table.iloc[0], last=table.iloc[-1])
    data = pd.concat(
        pd.DataFrame({"x": months, "y": gone[i], "low": low[i], "high": high[i], "n": len(spells)}).assign(
            group=say_standard("family" if level == 1 else "families", level=level)
        )
        for i, level in enumerate(LEVELS)
    )
    return Result(
        table,
        say_standard("sentence", first=table.iloc[0], last=table.iloc[-1], points=points),
        picture=Picture(
            "curves",
            data,
            title,
            say_standard("x", n=len(spells)),
            say_standard("y"),
            {"unit": "percent", "xlim": (0, horizon), "ylim": (0, None), "legend": say_standard("legend")},
        ),
    )
