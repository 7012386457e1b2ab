"""Assumptions of the churn studies, each looked at once and returned as a gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError
from crmresearch.estimators.survival.cox import CoxFit, cox
from crmresearch.estimators.survival.diagnostics import (
    proportional_hazards_test,
    scarcest,
    share_outside,
    strongest_pull,
)
from crmresearch.estimators.survival.risk import read_spells
from crmresearch.result import Check, gate

EVENTS_PER_PARAMETER = 10
ALPHA = 0.01  # a gate that closes in one of twenty sound analyses would close too often
MAX_PULL = 1.0  # standard errors one customer may move a coefficient
MAX_TREND = 0.10  # of the log hazard, per year of tenure at entry
EXTREME = (0.02, 0.98)  # probabilities of treatment beyond which nobody is comparable
MAX_OUTSIDE = 0.10  # of customers

say = words.of("churn.gates")


def proportional_hazards(fit: CoxFit, covariate: str) -> Check:
    """Gate: the hazard ratio of a covariate does not change with tenure.

    With tens of thousands of exits a change too small to matter is significant, so the gate closes only if the trend is
    significant *and* moves the log hazard ratio by more than its own size (and by .2) between the first and the last
    quarter of exits, for a change of one standard deviation.
    """
    row = proportional_hazards_test(fit).set_index("covariate").loc[covariate]
    limit = max(row["size"], 0.2)
    closed = row["p"] < ALPHA and row["drift"] > limit
    advice = say("instead") if closed else ""
    return gate(say, "proportional", not closed, row=row, alpha=ALPHA, limit=limit, advice=advice)


def enough_events(events: float, parameters: int) -> Check:
    """Gate: ten events per parameter or more."""
    ratio = events / max(parameters, 1)
    passed = ratio >= EVENTS_PER_PARAMETER
    plural = "" if parameters == 1 else "s"
    return gate(
        say,
        "events",
        passed,
        events=events,
        parameters=parameters,
        plural=plural,
        ratio=ratio,
        least=EVENTS_PER_PARAMETER,
    )


def separation(frame: pd.DataFrame, covariates: Sequence[str]) -> Check:
    """Gate: exits and stayers share the range of every covariate."""
    least, where = scarcest(frame, covariates)
    return gate(say, "separation", least > 0, where=where, least=least)


def influence(fit: CoxFit) -> Check:
    """Gate: no single customer moves a coefficient by more than one standard error."""
    worst, where = strongest_pull(fit)
    return gate(say, "influence", worst <= MAX_PULL, "undecided", where=where, worst=worst, limit=MAX_PULL)


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
        return Check(name, "closed", say("entry.failed", error=error), "undecided")
    # as with proportional hazards: significant and large
    return gate(say, "entry", bool(row["p"] >= ALPHA or abs(row["coef"]) < MAX_TREND), row=row)


def overlap(frame: pd.DataFrame, group: str, covariates: Sequence[str]) -> Check:
    """Gate: at most a tenth of customers can be told by their covariates to be in one of two groups compared."""
    try:
        share = share_outside(frame, group, covariates, EXTREME)
    except FitError:
        return Check(say("overlap.name"), "closed", say("overlap.apart", group=group, named=", ".join(covariates)))
    return gate(say, "overlap", share <= MAX_OUTSIDE, share=share, group=group, bounds=EXTREME, most=MAX_OUTSIDE)
