"""Assumptions of the churn studies, each looked at once and returned as a gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError
from crmresearch.estimators.inference import ends, sized, wilson
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.diagnostics import share_outside
from crmresearch.estimators.survival.risk import read_spells
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Check, gate

EVENTS_PER_PARAMETER = 10
MAX_PULL = 1.0  # standard errors one customer may move a coefficient
MAX_TREND = 0.10  # of the log hazard, per year of tenure at entry
EXTREME = (0.02, 0.98)  # probabilities of treatment beyond which nobody is comparable
MAX_OUTSIDE = 0.10  # of customers

say = words.of("churn.gates")


def model_gates(
    events: float,
    parameters: int,
    *,
    trend: pd.Series | None = None,
    scarce: tuple[float, str] | None = None,
    pull: tuple[float, str] | None = None,
) -> tuple[Check, ...]:
    """Gates of a model of leaving, as far as what they look at is given.

    Parameters
    ----------
    events, parameters
        Ten events per parameter or more.
    trend : Series, optional
        Line of a covariate in the test of proportional hazards. With tens of thousands of exits a change too small to
        matter is significant, so the limit is a move of the log hazard ratio by its own size (and by .2 at least)
        between the first and the last quarter of exits.
    scarce : (float, str), optional
        Exits or stayers on the scarcest side of a covariate: both sides need both.
    pull : (float, str), optional
        Standard errors by which one customer moves a coefficient: one at most.
    """
    sized(events, parameters, events)
    checks = []
    if trend is not None:
        drift, size, chi2 = (float(trend[k]) for k in ("drift", "size", "chi2"))
        moved = Deviation(drift, *ends(drift, drift / chi2**0.5 if chi2 > 0 else np.inf), limit=max(size, 0.2))
        advice = say("instead") if moved.closed else ""
        checks.append(gate(say, "proportional", moved, row=trend, advice=advice))
    ratio, least = events / max(parameters, 1), EVENTS_PER_PARAMETER
    values = {"events": events, "parameters": parameters}
    checks.append(
        gate(
            say,
            "events" if parameters > 1 else "events_of_one",
            ratio >= least,
            values=values,
            ratio=ratio,
            least=least,
        )
    )
    if scarce is not None:
        checks.append(gate(say, "separation", scarce[0] > 0, scarce=scarce))
    if pull is not None:
        checks.append(gate(say, "influence", pull[0] <= MAX_PULL, pull=pull, limit=MAX_PULL))
    return tuple(checks)


def entry_independence(frame: pd.DataFrame) -> Check:
    """Gate: given tenure, those who entered the extract late leave at the same rate as those observed from the start.

    The tenure at entry (in years) is added to a Cox model; a trend over it speaks against independent late entry. Among
    customers at equal tenure, those seen from the start were acquired later, so a drift of the hazard over calendar
    time shows here too.
    """
    name, spells = say("entry.name"), read_spells(frame)
    if not spells.late:
        return Check(name, "open", say("entry.none"))
    if not (spells.entry == 0).any() and np.unique(spells.entry).size == 1:
        return Check(name, "declared", say("entry.alike"))
    try:
        row = cox(frame.assign(entry_years=spells.entry / 12), ["entry_years"]).summary().iloc[0]
    except FitError as error:
        return Check(name, "closed", say("entry.failed", error=error))
    coef, se = float(row["coef"]), float(row["se"])
    return gate(say, "entry", Deviation(coef, *ends(coef, se), limit=MAX_TREND), row=row)


def overlap(frame: pd.DataFrame, group: str, covariates: Sequence[str]) -> Check:
    """Gate: at most a tenth of customers can be told by their covariates to be in one of two groups compared."""
    try:
        share = share_outside(frame, group, covariates, EXTREME)
    except FitError:
        return Check(say("overlap.name"), "closed", say("overlap.apart", group=group, named=", ".join(covariates)))
    n = int(frame["n"].sum()) if "n" in frame.columns else len(frame)
    outside = Deviation(*wilson(share * n, n), limit=MAX_OUTSIDE)
    return gate(say, "overlap", outside, group=group, bounds=EXTREME)
