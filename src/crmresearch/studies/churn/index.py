"""Study of what goes with staying: the relationship index, read some months earlier (S06)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import Missing, first_missing
from crmresearch.estimators.inference import Estimate, normal
from crmresearch.estimators.survival.cox import CoxFit, cox
from crmresearch.estimators.survival.diagnostics import by_lifelines
from crmresearch.estimators.survival.index import (
    IndexModels,
    entry_models,
    index_models,
    index_rows,
    index_scale,
    monthly_model,
)
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study
from crmresearch.studies.churn.gates import (
    EVENTS_PER_PARAMETER,
    enough_events,
    entry_independence,
    influence,
    proportional_hazards,
    separation,
)

CAUSE = "voluntary"
VERDICT_LAG = 3  # months, fixed beforehand; other lags are sensitivity
OTHERS = {"doubtful": (CAUSE, "unknown", "dormant"), "every": None}  # causes that may hide an exit; all of them
TENURE_BANDS = (2, 5, 10)  # years
LIBRARY_GAP = 1e-6  # most by which lifelines' coefficient or error may differ
say = words.of("churn.relationship")
say_tenure = words.of("churn.by_tenure")


def forest(table: pd.DataFrame, title: str, x: str, size: tuple[float, float]) -> Picture:
    """Hazard ratios with intervals, one row per model, on a log scale; the model of the verdict is coloured."""
    data = pd.DataFrame(
        {
            "label": [say("label", row=r) for _, r in table.iterrows()],
            "estimate": table["hazard_ratio"],
            "low": table["ci_low"],
            "high": table["ci_high"],
            "n": table["n"],
            "strong": table["verdict"],
        }
    )
    return Picture("intervals", data, title, x, options={"log": True, "marks": [Mark(1)]}, size=size)


def model_row(model: str, fit: Any, covariate: str = "index", verdict: bool = False) -> dict[str, Any]:
    """One line of a forest table, from a fit or from a line of its summary."""
    line = fit if isinstance(fit, pd.Series) else fit.summary().set_index("covariate").loc[covariate]
    ratio = {k: float(line[k]) for k in ("hazard_ratio", "ci_low", "ci_high", "p")}
    return {"model": model, **ratio, "events": int(line["events"]), "n": int(line["n"]), "verdict": verdict}


def hazard_ratio(fit: CoxFit, covariate: str, n: int, checks: tuple[Check, ...] = ()) -> Estimate:
    """Hazard ratio for the ledger; the claim says that it lies below 1."""
    coef, se = fit.params[covariate], fit.se[covariate]
    return normal(coef, se, "hazard ratio", n, bound=1, side="below", log=True, checks=checks)


def _gates(models: IndexModels, entry: pd.DataFrame) -> tuple[Check, ...]:
    fit, doubtful = models.fits[VERDICT_LAG], models.others["doubtful"]
    lines = {lag: f.summary().iloc[0] for lag, f in models.fits.items()}
    both = [lines[VERDICT_LAG], lines[max(lines)]]
    # the sign of an effect that is told from none at neither lag is a coin's
    turned = both[0]["coef"] * both[1]["coef"] < 0 and any((b["ci_low"] - 1) * (b["ci_high"] - 1) > 0 for b in both)
    none, every = lines[VERDICT_LAG], doubtful.summary().iloc[0]
    kept = max(none["ci_high"], every["ci_high"]) < 1 or min(none["ci_low"], every["ci_low"]) > 1
    return (
        proportional_hazards(fit, "index"),
        enough_events(fit.events, 1 + models.rows["stratum"].nunique()),  # every stratum has its own baseline hazard
        separation(models.rows, ["index"]),
        influence(fit),
        gate(say, "lag", not turned, "undecided", lags=", ".join(say("at", lag=k, b=b) for k, b in lines.items())),
        entry_independence(entry),
        gate(
            say,
            "doubtful",
            True if kept else None,
            "undecided",
            none=none,
            every=every,
            kept=say("kept") if kept else "",
        ),
    )


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
    models = index_models(by_lag, CAUSE, {"doubtful": OTHERS["doubtful"]}, lag=VERDICT_LAG, groups=groups)
    return hazard_ratio(models.fits[VERDICT_LAG], "index", int(entry["n"].sum()), _gates(models, entry))


@study
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
        separation, influence, lag, late entry, doubtful causes by bounds, agreement with lifelines, whose fit is the
        ``model``.

    Notes
    -----
    A customer leaves once, so the months of one customer are no repeated outcomes and the errors of the partial
    likelihood hold for start-stop rows (Andersen and Gill 1982, Annals of Statistics 10).
    """
    lacking = first_missing(by_lag.values())
    if lacking is not None:
        return Result.not_applicable(lacking)
    if f"events {CAUSE}" not in by_lag[VERDICT_LAG].columns:
        return Result.not_applicable(Missing(say("unrecorded"), ("customers",)))
    models = index_models(by_lag, CAUSE, OTHERS, lag=VERDICT_LAG, groups=groups)
    at_entry = entry_models(entry, models.scale, CAUSE, resamples=resamples, seed=seed)
    fit, name = models.fits[VERDICT_LAG], say.names("models")
    estimate = hazard_ratio(fit, "index", int(entry["n"].sum()), _gates(models, entry))
    table = pd.DataFrame(
        [
            model_row(name["ignored"], at_entry["ignored"]),
            model_row(name["respected"], at_entry["respected"]),
            model_row(name["weibull"], at_entry["weibull"]),
            *(
                model_row(say("lagged", lag=lag, plural="" if lag == 1 else "s"), f, verdict=lag == VERDICT_LAG)
                for lag, f in models.fits.items()
            ),
            model_row(name["monthly"], monthly_model(by_lag[VERDICT_LAG], models.scale, CAUSE, groups)),
            model_row(name["every"], models.others["every"]),
            model_row(name["incidence"], at_entry["incidence"]),
        ]
    )
    model, gap = by_lifelines(fit, models.rows, "stratum" if groups else None)
    main, naive = table[table["verdict"]].iloc[0], table.iloc[0]
    ratios = "; ".join(say("ratio", row=r) for _, r in table.iterrows())
    return Result(
        table,
        say("sentence", main=main, naive=naive, weibull=at_entry["weibull"]),
        (*estimate.checks, gate(say, "library", gap <= LIBRARY_GAP, gap=gap, limit=LIBRARY_GAP)),
        {"S06": estimate},
        picture=forest(table, say("title", n=estimate.n), say("x"), (7.6, 4.6)),
        alt=say("alt", ratios=ratios),
        counts=("n", "events"),
        details={"fits": {**models.fits, **models.others}, "scale": models.scale},
        model=model,
    )


@study
def by_tenure(cells: pd.DataFrame, *, groups: Sequence[str] = ()) -> Result:
    """Hazard ratio of the relationship index by tenure: what replaces one ratio where it is not constant.

    Parameters
    ----------
    cells : DataFrame
        Person-months as for :func:`relationship`, read three months earlier.
    groups : sequence of str
        Strata.

    Returns
    -------
    Result
        Forest table by band of tenure.
    """
    if f"events {CAUSE}" not in cells.columns:
        return Result.not_applicable(Missing(say("unrecorded"), ("customers",)))
    rows, out = index_rows(cells, index_scale(cells), [CAUSE], groups), []
    for low, high in pairwise([0, *TENURE_BANDS, np.inf]):
        part = rows[(rows["exit"] > 12 * low) & (rows["exit"] <= 12 * high)]
        name = say_tenure("over", low=low) if np.isinf(high) else say_tenure("band", low=low, high=high)
        if (part["n"] * part["event"]).sum() >= 2 * EVENTS_PER_PARAMETER:
            out.append(model_row(name, cox(part, ["index"], strata="stratum" if groups else None)))
    if not out:
        return Result.not_applicable(Missing(say_tenure("too_few"), ("customers",)))
    table = pd.DataFrame(out)
    spread = ", ".join(say_tenure("ratio", row=r) for _, r in table.iterrows())
    return Result(
        table.drop(columns="verdict"),
        say_tenure("sentence", spread=spread),
        picture=forest(table, say_tenure("title"), say("x"), (7.2, 2.8)),
        alt=say_tenure("alt", spread=spread),
        counts=("n", "events"),
    )
