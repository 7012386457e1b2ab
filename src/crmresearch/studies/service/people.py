"""What invitations by lot keep (S53), and what goes with a manager's use of the system (S38)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import unit_of
from crmresearch.estimators.causal.campaign import difference, difference_of_means, path, within
from crmresearch.estimators.inference import ends, levels, normal, robust_ols, told_apart, wilson
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import balanced
from crmresearch.result import Result, gate, study, unlooked
from crmresearch.rules import nobodys, of_squares

say = words.of("service.invited")
tell = words.of("service.managed")
ARM = 100  # customers of an arm
MANAGERS = 10  # whose use of the system moves
YEAR = 12
AHEAD = 0.01  # of the mean contribution, by which use of the next year may go with it: the bound of S38


@study
def invited(campaigns: pd.DataFrame, *, campaign: str, horizon_months: int = 12) -> Result:
    """Retention of customers invited by lot less that of the others (S53); who came is no part of it.

    Parameters
    ----------
    campaigns : DataFrame
        From :func:`crmresearch.data.reductions.service.campaigns`.
    campaign : str
        Its name in the table of contacts.
    horizon_months : int
        Months after the invitation.
    """
    rows = campaigns[(campaigns["campaign_id"].astype(str) == campaign) & campaigns["randomised"].to_numpy(bool)]
    treated = rows["treated"].to_numpy(bool)
    if min(treated.sum(), (~treated).sum()) < ARM:
        raise NotApplicable(say("none", campaign=campaign, least=ARM), "contacts")
    left, _ = within(rows, horizon_months)
    stays = 1 - left
    found = difference(rows, stays, unit_of(campaigns))
    line = found.estimate(say("unit"), len(rows))
    out = [("lot", line.value, line.ci_low, line.ci_high, len(rows))]
    came = rows["responded"].fillna(0).to_numpy(float) > 0
    if min((treated & came).sum(), (treated & ~came).sum()) >= ARM:
        value, se = difference_of_means(stays[treated & came], stays[treated & ~came])
        out.append(("came", value, *ends(value, se), int(treated.sum())))
    for arm, label in ((treated, "invited"), (~treated, "others")):
        out.append((label, *wilson(stays[arm].sum(), arm.sum()), int(arm.sum())))
    table = pd.DataFrame(out, columns=["row", "share", "low", "high", "n"])
    months = path(rows, horizon_months).rename(columns={"month": "x", "kept": "y"}).assign(n=len(rows))
    marks = [Mark(0, style="none", axis="y"), Mark(horizon_months, say("horizon"), style="limit", axis="x")]
    points = normal(100 * found.value, 100 * found.se, say("points"), len(rows))
    options, open_title = {"unit": "points", "marks": marks}, say("title_open", months=horizon_months)
    title = say("title", found=points, months=horizon_months) if told_apart(points) else open_title
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=points, months=horizon_months, n=len(rows)),
        (balanced(rows),),
        {"S53": line},
        Picture("curves", months, title, say("x", n=len(rows)), say("y"), options),
        digits=4,
    )


# --- managers ---------------------------------------------------------------------------------------------------------


@study
def managed(frame: pd.DataFrame) -> Result:
    """Contribution per manager for one standard deviation more use of the system, over the mean per manager (S38).

    Each manager is compared with himself, and with the others in the same month. Between managers, those who are able
    use the system more.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.managed`.
    """
    moves = _seen(frame)
    if moves["manager"].nunique() < MANAGERS or not moves["made"].mean() > 0:
        raise NotApplicable(tell("few", least=MANAGERS), "managers", "customers")
    n = int(moves["n"].groupby(moves["month"]).sum().max())
    spread, mean = float(moves["use"].std(ddof=0)), float(moves["made"].mean())
    use = moves.assign(use=moves["use"] / spread, made=moves["made"] / mean, held=moves["n"] / moves["n"].mean())
    rows = [("within", *_slope(use, "made")), ("held", *_slope(use, "held"))]
    each = use.groupby("manager")[["use", "made"]].mean()
    b, v = robust_ols(np.column_stack([each["use"], np.ones(len(each))]), each["made"].to_numpy())
    rows.insert(1, ("between", b[0], v[0, 0] ** 0.5))
    checks = [gate(tell, "unseen", None)]
    later = use[["manager", "month", "use"]].assign(month=use["month"] - YEAR).rename(columns={"use": "ahead"})
    both = _seen(use.merge(later, on=["manager", "month"]))
    if both["manager"].nunique() < MANAGERS:
        checks.append(unlooked(tell("ahead.name")))
    else:
        value, se = _slope(both, "made", "ahead")
        checks.append(gate(tell, "ahead", Deviation(value, *ends(value, se), limit=AHEAD)))
        rows.append(("ahead", value, se))
    line = normal(*rows[0][1:], tell("unit"), n, checks=tuple(checks))
    month = moves.groupby("month")[["gross", "squares"]].sum()
    table = pd.DataFrame(
        [(k, value, *ends(value, se)) for k, value, se in rows], columns=["row", "share", "low", "high"]
    )
    owner = of_squares(month["gross"], month["squares"])
    whose = [nobodys("people") if k == "held" else owner for k in table["row"]]
    return Result(
        table.assign(row=table["row"].map(tell.names("rows")), n=n, whose=whose).rename(columns=tell.names("columns")),
        tell("sentence", found=line, managers=float(moves["manager"].nunique())),
        estimates={"S38": line},
        money=[tell.names("columns")["share"]],
    )


def _seen(frame: pd.DataFrame) -> pd.DataFrame:
    """Managers who are seen for a year and whose use moves, in months in which several are."""
    use = frame.groupby("manager")["use"]
    some = frame[(use.transform("nunique") > 1) & (use.transform("size") >= YEAR)]
    return some[some.groupby("month")["manager"].transform("size") > 1]


def _slope(frame: pd.DataFrame, outcome: str, *more: str) -> tuple[float, float]:
    """Slope over use, or over the last of ``more`` with use held, within managers and months; errors by manager."""
    x = [frame[c].to_numpy(float) for c in (*reversed(more), "use")]
    x += [np.ones(len(frame)), levels(frame["manager"]), levels(frame["month"])]
    b, v = robust_ols(np.column_stack(x), frame[outcome].to_numpy(float), frame["manager"].to_numpy())
    return float(b[0]), float(v[0, 0]) ** 0.5
