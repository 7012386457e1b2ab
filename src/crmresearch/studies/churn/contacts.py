"""Studies of retention contacts: drawn by lot (S42), and aimed at risk, before and after dealing with the aim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.blocks import Functional, constant
from crmresearch.estimators.frames import among
from crmresearch.estimators.inference import Estimate, ends, normal
from crmresearch.estimators.survival.trials import adjusted_difference, arm_differences, pooled, pooled_left_out
from crmresearch.estimators.verdicts import Bound
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, leading, study
from crmresearch.studies import Choices, Frames, Setting
from crmresearch.studies.churn.curves import by_level
from crmresearch.studies.churn.gates import model_gates, overlap

CAUSE = "voluntary"
HORIZON = 12  # months that the bound is for
KNOWN = (
    "tenure", "late_tenure", "early", "families", "unmet", "complaint", "unresolved", "tier_", "age", "log_balance",
    "recency", "activity", "mobile", "contacted", "channel_online", "channel_agent", "channel_referral",
)  # fmt: skip
say = words.of("churn.randomised")
say_aimed = words.of("churn.aimed")


def _picture(table: pd.DataFrame, title: str, x: str, height: float) -> Picture:
    """Differences with intervals, in percentage points."""
    data = table.rename(columns={"difference": "estimate"})
    return Picture("intervals", data, title, x, options={"unit": "points", "marks": [Mark(0)]}, size=(7.2, height))


@study
def randomised(arms: pd.DataFrame, *, horizon: int = HORIZON) -> Result:
    """Exit incidence of customers drawn for a retention contact less that of the controls (S42, part on leaving).

    The claim says loss, so exits for any reason decide (``S42``); voluntary ones alone stand beside them (``S42a``).

    Parameters
    ----------
    arms : DataFrame
        From :func:`crmresearch.data.reductions.churn.arms`: ``campaign_id, arm, exit, event, cause, n``.
    horizon : int
        Months since the contact.

    Returns
    -------
    Result
        Table by campaign and arm: ``campaign, arm, n, exits, incidence, difference, ci_low, ci_high``, and ``all
        contacts``: campaigns weighted by the customers drawn for a contact, for any exit and for voluntary ones.
    """
    every = arms.assign(cause=arms["cause"].where(arms["event"] == 0, "any"))
    n, exits = int(arms["n"].sum()), int(every.loc[every["cause"] == "any", "n"].sum())
    if not exits:
        raise NotApplicable(say("nobody", n=n), "customers")
    found = arm_differences(every, horizon, "any")
    if found.empty:
        raise NotApplicable(say("no_control"), "contacts")
    own = int(arms.loc[arms["cause"] == CAUSE, "n"].sum())
    estimates, overall = {}, []
    for line, part, count in (("S42", found, exits), ("S42a", arm_differences(arms, horizon, CAUSE), own)):
        difference, se = pooled(part)
        checks = (*model_gates(count, 2), gate(say, "lot", True))
        estimates[line] = normal(difference, se, say("unit"), n, checks=checks)
        arm = say("contrast") if line == "S42" else say("voluntary")
        names = {"campaign": say("all"), "arm": arm, "n": n, "exits": count}
        overall.append({**names, "difference": difference, "se": se})
    table = pd.concat([found, pd.DataFrame(overall)], ignore_index=True)
    table["arm"] = table["arm"].fillna(say("any"))
    table["ci_low"], table["ci_high"] = ends(table["difference"], table.pop("se"))
    table = leading(table, "campaign", "arm", "difference", "ci_low", "ci_high", "incidence")
    controls = found[found["arm"] == "control"]
    rate = np.average(controls["incidence"], weights=controls["n"])
    counted = table[["n", "exits"]].reset_index(drop=True)
    table = safe(table.reset_index(drop=True), ("n", "exits"))
    shown = table[table["difference"].notna()]
    if shown.empty:
        raise NotApplicable(say("few", exits=int(counted["exits"].max())), "contacts")
    levels = by_level(shown["arm"].unique())
    ranked = shown.iloc[np.lexsort((shown["arm"].map(levels.index), pd.factorize(shown["campaign"])[0]))]
    ranked = ranked.assign(label=[say("label", row=r) for _, r in ranked.iterrows()])
    height = 1.0 + 0.5 * len(ranked)
    points, voluntary = (100 * table.iloc[k][["difference", "ci_low", "ci_high"]] for k in (-2, -1))
    title = say("title_fewer", points=-points["difference"])
    if points["ci_high"] >= 0:
        title = say("title_more", points=points["difference"]) if points["ci_low"] > 0 else say("title_open")
    return Result(
        table,
        say("sentence", horizon=horizon, points=points, voluntary=voluntary, control=rate, n=n, exits=exits),
        estimates=estimates,
        picture=_picture(ranked, title, say("x", horizon=horizon), height),
    )


def _ask(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting], Estimate | Missing]:
    def one(setting: Setting) -> Estimate | Missing:
        months = setting["horizon"]
        found = randomised(frames("churn.arms", horizon=months), horizon=months)
        return found.finding("S42" if setting["exits"] == "any" else "S42a")

    return one


def _above(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting, float], Functional | Missing]:
    arms = frames("churn.arms", horizon=HORIZON, by_block=True)

    @cache
    def difference(cause: str) -> Functional | Missing:
        if isinstance(arms, Missing):
            return arms
        rows = arms if cause == CAUSE else arms.assign(cause=arms["cause"].where(arms["event"] == 0, cause))
        return pooled_left_out(rows, HORIZON, cause) or Missing(say("no_control"), ("contacts",))

    def above(setting: Setting, at: float) -> Functional | Missing:
        found = difference(setting["exits"])
        return found if isinstance(found, Missing) else found - constant(at, len(found.influence))

    return above


def _bound(bound: Bound, setting: Setting) -> Bound | None:
    """The least effect that matters is one of twelve months; how much of it half a year should bring nobody fixed."""
    return bound if setting["horizon"] == HORIZON else None


CHOICES = Choices("S42", {"exits": ("any", CAUSE), "horizon": (HORIZON, 6, 9)}, _ask, _bound, _above)


@study
def aimed(rows: pd.DataFrame, *, horizon: int = 12, cause: str = "voluntary") -> Result:
    """A campaign aimed at risk: its naive effect, and its effect with the aim dealt with.

    Parameters
    ----------
    rows : DataFrame
        From :func:`crmresearch.data.reductions.churn.targeted`.
    horizon : int
        Months since the contact.
    cause : str
        Cause of interest.

    Returns
    -------
    Result
        Table: ``comparison, difference, ci_low, ci_high, n``. Gates: overlap; the assumption that what the aim
        followed is in the tables is declared, not tested.
    """
    rows = rows.assign(
        exit=rows["exit"] + 0.5 * (rows["event"] == 0),  # who is followed to a month's end has lived through it
        of_interest=(rows["cause"] == cause).astype(int),
        late_tenure=np.maximum(rows["tenure"] - 3, 0),
        early=(rows["tenure"] < 3) * 1.0,
    )
    covariates = [c for c in among(rows, KNOWN) if len(rows[c].unique()) > 1]
    crude = adjusted_difference(rows, "treated", [], horizon)
    comparable = overlap(rows, "treated", covariates)
    try:
        remedy = adjusted_difference(rows, "treated", covariates, horizon)
    except FitError as error:
        remedy = replace(crude, value=np.nan, ci_low=np.nan, ci_high=np.nan, se=None)
        comparable = Check(comparable.name, "closed", str(error))
    both = pd.DataFrame([crude, remedy])
    table = both[["value", "ci_low", "ci_high", "n"]].rename(columns={"value": "difference"})
    table.insert(0, "comparison", list(say_aimed.names("comparisons").values()))
    points = 100 * both[["value", "ci_low", "ci_high"]]
    known = np.isfinite(points["value"].iloc[1])
    title = say_aimed("title_no_overlap")
    if known:
        title = say_aimed("title", crude=points["value"].iloc[0], remedy=points["value"].iloc[1])
    return Result(
        table,
        say_aimed("sentence", crude=points.iloc[0], horizon=horizon)
        + (say_aimed("remedy", remedy=points.iloc[1]) if known else say_aimed("no_remedy")),
        (comparable, gate(say_aimed, "recorded", None)),
        picture=_picture(
            table.assign(label=table["comparison"]),
            title,
            say_aimed("x", horizon=horizon, cause=cause, n=len(rows)),
            2.2,
        ),
        details={"crude": crude, "remedy": remedy},
    )
