"""Studies of retention contacts: drawn by lot (S42), and aimed at risk, before and after dealing with the aim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import FitError, InputError, Missing
from crmresearch.estimators.inference import LEVEL, Estimate, one_sided_p
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.estimators.survival.predict import censoring_weights
from crmresearch.estimators.survival.risk import churn_study, logit
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import enough_events, overlap
from crmresearch.studies.churn.relationship import title_over


def _z() -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + LEVEL / 2))


def _incidence(spells: pd.DataFrame, horizon: int, cause: str) -> tuple[float, float]:
    """Incidence of a cause at the horizon and its standard error; zero exits count as a half for the error."""
    n = int(spells["n"].sum())
    if not (spells["cause"] == cause).any():
        return 0.0, 0.5 / n
    curves = cumulative_incidence(spells, causes=[cause])
    row = curves[curves["time"] <= horizon].iloc[-1]
    return float(row["incidence"]), float(row["se"])


@churn_study
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
    if not (arms["cause"] == cause).any():
        n = int(arms["n"].sum())
        return Result.not_applicable(
            Missing(f"none of the {n:,} customers contacted by lot left ({cause})", ("customers",))
        )
    z, rows = _z(), []
    total, variance, treated = 0.0, 0.0, 0
    for campaign, part in arms.groupby("campaign_id", sort=True):
        control = part[part["arm"] == "control"]
        if control.empty or len(part["arm"].unique()) < 2:
            continue
        base, base_se = _incidence(control, horizon, cause)
        rows.append(_arm_row(campaign, "control", control, base, cause))
        others = [("any contact", part[part["arm"] != "control"])]
        others += (
            [(str(a), part[part["arm"] == a]) for a in sorted(set(part["arm"]) - {"control"})]
            if part["arm"].nunique() > 2
            else []
        )
        for name, arm in others:
            value, se = _incidence(arm, horizon, cause)
            difference, spread = value - base, float(np.hypot(se, base_se))
            row = _arm_row(campaign, name, arm, value, cause)
            rows.append(
                {**row, "difference": difference, "ci_low": difference - z * spread, "ci_high": difference + z * spread}
            )
            if name == "any contact":
                n = int(arm["n"].sum())
                total, variance, treated = total + n * difference, variance + (n * spread) ** 2, treated + n
    if not treated:
        return Result.not_applicable(Missing("no randomised retention campaign has a control arm", ("contacts",)))
    difference, se = total / treated, float(np.sqrt(variance)) / treated
    n = int(arms["n"].sum())
    exits = int(arms.loc[arms["cause"] == cause, "n"].sum())
    low, high = difference - z * se, difference + z * se
    overall = {
        "campaign": "all contacts",
        "arm": "contact less control",
        "n": n,
        "exits": exits,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
    }
    table = pd.DataFrame([*rows, overall])
    estimate = Estimate(
        difference,
        low,
        high,
        "share of customers",
        n,
        one_sided_p(difference, se, 0.0, "below"),
        se,
        (
            enough_events(exits, 2),
            Check("assignment by lot", "open", "contacts were drawn at random within each campaign"),
        ),
    )
    control_rate = float(
        np.average(
            [r["incidence"] for r in rows if r["arm"] == "control"],
            weights=[r["n"] for r in rows if r["arm"] == "control"],
        )
    )
    sentence = (
        f"Drawn by lot, a retention contact changes {cause} exits within {horizon} months by {100 * difference:+.2f} "
        f"points [{100 * low:+.2f}, {100 * high:+.2f}], from {control_rate:.1%} among controls ({n:,} customers, "
        f"{exits:,} exits)."
    )
    shown = table[table["difference"].notna()]

    def draw(ax: Any) -> Any:
        y = np.arange(len(shown))[::-1]
        points = (100 * shown[c] for c in ("difference", "ci_low", "ci_high"))
        figures.intervals(ax, y, *points, horizontal=True)
        ax.axvline(0, color=figures.INK, lw=1, ls=":")
        ax.set_yticks(
            y, [f"{c}: {a} (n = {n:,.0f})" for c, a, n in zip(shown["campaign"], shown["arm"], shown["n"], strict=True)]
        )
        ax.set(
            xlabel=f"Change in {horizon} months, percentage points (95% interval)",
            ylim=(-0.6, len(shown) - 0.4),
        )
        title_over(ax, f"{cause.capitalize()} exits after contacts drawn by lot, against control")
        return ax

    alt = (
        "Change of exit incidence by campaign and arm against control, in points: "
        + "; ".join(
            f"{c} {a} {100 * d:+.1f}"
            for c, a, d in zip(shown["campaign"], shown["arm"], shown["difference"], strict=True)
        )
        + "."
    )
    return Result(
        table, sentence, (), {"S42": estimate}, draw, alt, counts=("n", "exits"), figsize=(7.2, 1.0 + 0.5 * len(shown))
    )


def _arm_row(campaign: object, arm: str, part: pd.DataFrame, incidence: float, cause: str) -> dict[str, Any]:
    return {
        "campaign": str(campaign),
        "arm": arm,
        "n": int(part["n"].sum()),
        "exits": int(part.loc[part["cause"] == cause, "n"].sum()),
        "incidence": incidence,
    }


def adjusted_difference(rows: pd.DataFrame, treated: str, covariates: Sequence[str], horizon: int) -> Estimate:
    """Standardised difference of incidence between treated and others, doubly robust.

    Parameters
    ----------
    rows : DataFrame
        ``exit``, ``event``, optional ``of_interest``, the treatment (0/1) and covariates known before it.
    treated : str
        Treatment column.
    covariates : sequence of str
        What treatment may have depended on; numeric.
    horizon : int
        Months.

    Returns
    -------
    Estimate
        Augmented inverse-probability estimate with the error of its influence function; censoring is weighted for.

    References
    ----------
    Robins, Rotnitzky and Zhao (1994), JASA 89.
    """
    y, w = censoring_weights(rows, horizon)
    a = rows[treated].to_numpy(dtype=float)
    if not 0 < a.mean() < 1:
        raise InputError(f"everybody or nobody has {treated}; there is nothing to compare")
    x = np.column_stack([np.ones(len(rows)), rows[list(covariates)].to_numpy(dtype=float)])
    mean = []
    try:
        p = logit(a, x, np.ones(len(a))).fittedvalues
        for arm in (1, 0):
            some = (w > 0) & (a == arm)
            mean.append(logit(y[some], x[some], w[some]).predict(x))
    except FitError:
        raise FitError(
            f"{treated} or the exits are a function of the covariates; the groups cannot be compared"
        ) from None
    p = np.clip(p, 1e-3, 1 - 1e-3)
    m1, m0 = mean
    value = m1 - m0 + a / p * w * (y - m1) - (1 - a) / (1 - p) * w * (y - m0)
    estimate, se = float(value.mean()), float(value.std(ddof=1) / np.sqrt(len(value)))
    z = _z()
    return Estimate(estimate, estimate - z * se, estimate + z * se, "share of customers", len(rows), se=se)


@churn_study
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
        exit=rows["exit"] + 0.5 * (rows["event"] == 0)
    )  # who is followed to the end of a month has lived through it
    rows = rows.assign(
        of_interest=(rows["cause"] == cause).astype(int),
        late_tenure=np.maximum(rows["tenure"] - 3, 0),
        early=(rows["tenure"] < 3) * 1.0,
    )
    known = [
        "tenure",
        "late_tenure",
        "early",
        "families",
        "unmet",
        "complaint",
        "tier_3",
        "age",
        "log_balance",
        "recency",
        "activity",
        "mobile",
        "contacted",
        "channel_online",
        "channel_agent",
        "channel_referral",
    ]
    covariates = [c for c in known if c in rows.columns and len(rows[c].unique()) > 1]
    crude = adjusted_difference(rows.assign(none=0.0), "treated", [], horizon)
    gate = overlap(rows, "treated", covariates)
    try:
        remedy = adjusted_difference(rows, "treated", covariates, horizon)
    except FitError as error:
        remedy = Estimate(np.nan, np.nan, np.nan, "share of customers", len(rows))
        gate = Check("overlap", "closed", str(error))
    table = pd.DataFrame(
        {
            "comparison": ["contacted less others, as they are", "standardised for what was known before"],
            "difference": [crude.value, remedy.value],
            "ci_low": [crude.ci_low, remedy.ci_low],
            "ci_high": [crude.ci_high, remedy.ci_high],
            "n": len(rows),
        }
    )
    checks = (
        gate,
        Check(
            "no unrecorded aim",
            "declared",
            "that contacts followed nothing but recorded facts is an assumption; data cannot show it",
            "undecided",
        ),
    )
    sentence = (
        f"Contacted customers left {100 * crude.value:+.2f} points [{100 * crude.ci_low:+.2f}, "
        f"{100 * crude.ci_high:+.2f}] more often than others within {horizon} months, because contacts were aimed at "
        f"risk; standardised for what was known before the contact the difference is {100 * remedy.value:+.2f} "
        f"[{100 * remedy.ci_low:+.2f}, {100 * remedy.ci_high:+.2f}]."
    )

    def draw(ax: Any) -> Any:
        y, points = np.array([1, 0]), (100 * table[c] for c in ("difference", "ci_low", "ci_high"))
        figures.intervals(ax, y, *points, horizontal=True)
        ax.axvline(0, color=figures.INK, lw=1, ls=":")
        ax.set_yticks(y, table["comparison"])
        ax.set(
            xlabel=f"Difference in {horizon} months, percentage points (95% interval)",
            ylim=(-0.6, 1.6),
        )
        title_over(ax, f"{cause.capitalize()} exits after contacts aimed at risk (n = {len(rows):,})")
        return ax

    alt = (
        f"Two estimates with intervals: unadjusted {100 * crude.value:+.1f} points, standardised "
        f"{100 * remedy.value:+.1f} points."
    )
    return Result(
        table, sentence, checks, {}, draw, alt, figsize=(7.2, 2.2), details={"crude": crude, "remedy": remedy}
    )
