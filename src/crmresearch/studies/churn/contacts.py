"""Studies of retention contacts: drawn by lot (S42), and aimed at risk, before and after dealing with the aim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError, NotApplicable
from crmresearch.estimators.inference import ends, normal
from crmresearch.estimators.survival.trials import adjusted_difference, arm_differences
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study
from crmresearch.studies.churn.curves import by_level
from crmresearch.studies.churn.gates import model_gates, overlap

KNOWN = (
    "tenure", "late_tenure", "early", "families", "unmet", "complaint", "tier_3", "age", "log_balance", "recency",
    "activity", "mobile", "contacted", "channel_online", "channel_agent", "channel_referral",
)  # fmt: skip
say = words.of("churn.randomised")
say_aimed = words.of("churn.aimed")


def _picture(table: pd.DataFrame, title: str, x: str, height: float) -> Picture:
    """Differences with intervals, in percentage points."""
    data = table.rename(columns={"difference": "estimate"})
    return Picture("intervals", data, title, x, options={"unit": "points", "marks": [Mark(0)]}, size=(7.2, height))


@study
def randomised(arms: pd.DataFrame, *, horizon: int = 12, cause: str = "voluntary") -> Result:
    """Exit incidence of customers drawn for a retention contact less that of the controls (S42, part on leaving).

    Parameters
    ----------
    arms : DataFrame
        From :func:`crmresearch.data.reductions.churn.arms`: ``campaign_id, arm, exit, event, cause, n``.
    horizon : int
        Months since the contact.
    cause : str
        Cause of interest; other exits compete.

    Returns
    -------
    Result
        Table by campaign and arm: ``campaign, arm, n, exits, incidence, difference, ci_low, ci_high``, and ``all
        contacts``: campaigns weighted by the customers drawn for a contact.
    """
    n, exits = int(arms["n"].sum()), int(arms.loc[arms["cause"] == cause, "n"].sum())
    if not exits:
        raise NotApplicable(say("nobody", n=n, cause=cause), "customers")
    found = arm_differences(arms, horizon, cause)
    if found.empty:
        raise NotApplicable(say("no_control"), "contacts")
    drawn = found[found["arm"].isna()]
    share = drawn["n"] / drawn["n"].sum()
    checks = (*model_gates(exits, 2), gate(say, "lot", True))
    difference, se = float(share @ drawn["difference"]), float(np.linalg.norm(share * drawn["se"]))
    estimate = normal(difference, se, say("unit"), n, bound=0, side="below", checks=checks)
    overall = {"campaign": say("all"), "arm": say("contrast"), "n": n, "exits": exits, "difference": difference}
    table = pd.concat([found, pd.DataFrame([{**overall, "se": se}])], ignore_index=True)
    table["arm"] = table["arm"].fillna(say("any"))
    table["ci_low"], table["ci_high"] = ends(table["difference"], table.pop("se"))
    controls = found[found["arm"] == "control"]
    rate = np.average(controls["incidence"], weights=controls["n"])
    shown = table[table["difference"].notna()]
    levels = by_level(shown["arm"].unique())
    ranked = shown.iloc[np.lexsort((shown["arm"].map(levels.index), pd.factorize(shown["campaign"])[0]))]
    ranked = ranked.assign(label=[say("label", row=r) for _, r in ranked.iterrows()])
    height = 1.0 + 0.5 * len(ranked)
    points = 100 * table.iloc[-1][["difference", "ci_low", "ci_high"]]
    return Result(
        table,
        say("sentence", cause=cause, horizon=horizon, points=points, rate=rate, n=n, exits=exits),
        estimates={"S42": estimate},
        picture=_picture(ranked, say("title", cause=cause.capitalize()), say("x", horizon=horizon), height),
        counts=("n", "exits"),
    )


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
    covariates = [c for c in KNOWN if c in rows.columns and len(rows[c].unique()) > 1]
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
    title = say_aimed("title", cause=cause.capitalize(), n=len(rows))
    points = 100 * both[["value", "ci_low", "ci_high"]]
    return Result(
        table,
        say_aimed("sentence", crude=points.iloc[0], remedy=points.iloc[1], horizon=horizon),
        (comparable, gate(say_aimed, "recorded", None, "undecided")),
        picture=_picture(table.assign(label=table["comparison"]), title, say_aimed("x", horizon=horizon), 2.2),
        details={"crude": crude, "remedy": remedy},
    )
