"""Predicting who leaves, scored on later customers (S15), and the action list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import FitError, Missing
from crmresearch.estimators.inference import one_sided_p
from crmresearch.estimators.survival.cox import CoxFit, cox
from crmresearch.estimators.survival.discrete import natural_spline
from crmresearch.estimators.survival.predict import (
    area_under_curve,
    brier,
    calibration,
    capture,
    concordance,
    decision_curve,
    percentile_interval,
    score_bootstrap,
)
from crmresearch.estimators.survival.risk import churn_study
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import EVENTS_PER_PARAMETER, enough_events, separation

FADING = (1.0, 2 / 3, 1 / 3)  # what signs of running down say of the first months, beyond their lasting effect
LINEAR = (
    "tier_3",
    "channel_online",
    "channel_agent",
    "channel_referral",
    "families",
    "unmet",
    "mobile",
    "contacted",
    "just_contacted",
)
CURVED = dict.fromkeys(("tenure", "age", "log_balance", "recency", "activity"), (0.05, 0.35, 0.65, 0.95))
CURVED["balance_change"] = (0.01, 0.05, 0.5, 0.95)  # what announces an exit is a fall that few show
SIGNS = ("balance_change", "recency", "activity")
FEW = ("tenure", "families", "unmet", "activity", "balance_change")  # what a small bank is predicted by
TEST_HORIZONS = (6, 12)


@dataclass(frozen=True)
class ExitModel:
    """Cause-specific Cox models on time since the landmark: exits of interest and all others.

    Signs of running down (balance, activity) have effects of their own on the exits of the first months, which fade:
    what announces an exit next month says little about one in a year. The coefficients are shrunk by what fitting them
    to the training customers made too large, so that predictions for others are spread as their risks are.

    Attributes
    ----------
    own, other : CoxFit
        The second is None where nobody left for another cause.
    knots : dict
        Knots of the splines, from the training customers.
    columns : tuple of str
        Covariates after expansion.
    """

    own: CoxFit
    other: CoxFit | None
    knots: dict[str, list[float]]
    columns: tuple[str, ...]

    def risk(self, rows: pd.DataFrame, horizon: int) -> np.ndarray:
        """Predicted incidence of the exit of interest within ``horizon`` months of the landmark."""
        x = _expand(rows, self.knots)
        own_risk = {w: self.own.relative_risk(_with_early(x, w)) for w in (*FADING, 0.0)}
        other = self.other.relative_risk(x) if self.other is not None else np.zeros(len(x))
        months = np.arange(1, horizon + 1)
        h1 = np.diff(self.own.cumulative_baseline(np.r_[0, months]))
        h2 = np.diff(self.other.cumulative_baseline(np.r_[0, months])) if self.other is not None else np.zeros(horizon)
        total, gone = np.zeros(len(x)), np.zeros(len(x))
        for month, a, b in zip(months, h1, h2, strict=True):
            own = own_risk[FADING[month - 1] if month <= len(FADING) else 0.0]
            hazard = a * own + b * other
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(hazard > 0, a * own / hazard, 0.0)
            gone += np.exp(-total) * share * -np.expm1(-hazard)
            total += hazard
        return gone


def _expand(rows: pd.DataFrame, knots: dict[str, list[float]]) -> pd.DataFrame:
    out = {c: rows[c].to_numpy(dtype=float) for c in LINEAR if c in rows.columns}
    for c in CURVED:
        if c in knots:
            for i, column in enumerate(natural_spline(rows[c].to_numpy(dtype=float), knots[c]).T):
                out[f"{c} {i + 1}"] = column
        elif c in rows.columns:
            out[c] = rows[c].to_numpy(dtype=float)
    return pd.DataFrame(out, index=rows.index)


def _base(column: str) -> str:
    """Covariate that a column of a curve stands for."""
    return column.rstrip("0123456789 ") if column not in LINEAR else column


def _with_early(x: pd.DataFrame, weight: float) -> pd.DataFrame:
    """Add the signs' columns a second time, with a weight that fades over the first months."""
    signs = [c for c in x.columns if _base(c) in SIGNS]
    return x.assign(**{f"early {c}": x[c] * weight for c in signs})


def _split(x: pd.DataFrame, exits: pd.Series, left: pd.Series) -> pd.DataFrame:
    """Start-stop rows: one per customer and month while the signs fade, one for the time after."""
    parts = []
    for start, weight in enumerate((*FADING, 0.0)):
        stop = start + 1 if start < len(FADING) else np.inf
        there = exits > start
        part = _with_early(x, weight).assign(entry=start, exit=exits.clip(upper=stop), event=left & (exits <= stop))
        parts.append(part[there])
    return pd.concat(parts, ignore_index=True)


def fit_exit_model(rows: pd.DataFrame, of_interest: Sequence[str] = ("voluntary",)) -> ExitModel:
    """Fit the exit model to landmark rows.

    Parameters
    ----------
    rows : DataFrame
        From :func:`crmresearch.data.reductions.churn.landmark`.
    of_interest : sequence of str
        Causes that are predicted.

    Raises
    ------
    FitError
        No exits of interest, or separation.
    """
    knots = {}
    for c, shares in CURVED.items():
        if c in rows.columns:
            places = np.unique(np.quantile(rows[c], shares).round(6))
            if len(places) >= 3:
                knots[c] = places.tolist()
    left = rows["cause"].isin(of_interest)
    # the model takes the size the exits allow: every curve, only that of the falls, few covariates beside it
    falls = {c: places for c, places in knots.items() if c == "balance_change"}
    soon = (left & (rows["exit"] <= len(FADING))).any()
    for curves, few in ((knots, False), (falls, False), (falls, True)):
        x = _expand(rows, curves)
        x = x[[c for c in x.columns if len(x[c].unique()) > 1 and (not few or _base(c) in FEW)]]
        columns = list((_with_early(x, 1.0) if soon else x).columns)
        if left.sum() >= EVENTS_PER_PARAMETER * len(columns):
            break
    if not columns:
        raise FitError("no covariate varies among the customers at the prediction date")
    own = cox(_split(x, rows["exit"], left), columns).shrunk()
    rest = (rows["event"] == 1) & ~left
    base = x.assign(exit=rows["exit"], event=rest.astype(int))
    other = cox(base, list(x.columns[:1])) if rest.sum() >= 10 else None
    return ExitModel(own, other, curves, tuple(columns))


@churn_study
def forecast(
    earlier: pd.DataFrame,
    later: pd.DataFrame,
    *,
    horizon: int = 12,
    cause: str = "voluntary",
    repeats: int = 200,
    seed: int = 0,
) -> Result:
    """Score exit predictions on what followed a later date than the model was fitted on (S15).

    Parameters
    ----------
    earlier, later : DataFrame
        Landmark rows of two dates, the second not before the first's follow-up ends; never a random split.
    horizon : int
        Months since the prediction date.
    cause : str
        Cause of interest, scored on its incidence.
    repeats, seed : int
        Bootstrap of the scored customers for the interval of skill.

    Returns
    -------
    Result
        Table by horizon and rule (model, recency): Brier score, null Brier score, skill, concordance (Uno), area
        under the curve, calibration slope, capture in the top tenth. Two panels: calibration and decision curve.
    """
    if not (earlier["cause"] == cause).any() or not (later["cause"] == cause).any():
        return Result.not_applicable(
            Missing(f"no {cause} exit before or after the prediction date, so no model can be scored", ("customers",))
        )
    model = fit_exit_model(earlier, (cause,))
    # who is followed to the end of a month has lived through it: censored half a month later than exits of that month
    test = later.assign(
        of_interest=(later["cause"] == cause).astype(int), entry=0, exit=later["exit"] + 0.5 * (later["event"] == 0)
    )
    rate = float((earlier["cause"] == cause).mean())
    rules = {"model": lambda h: model.risk(test, h)}
    if "recency" in test.columns:
        rules["recency rule"] = lambda h: _recency(earlier, test, h, cause)
    rows, predicted = [], {}
    for h in sorted({h for h in (*TEST_HORIZONS, horizon) if h <= horizon}):
        for name, rule in rules.items():
            p = rule(h)
            score, (_, line) = brier(test, p, h), calibration(test, p, h)
            rows.append(
                {
                    "rule": name,
                    "months": h,
                    "brier": score["brier"],
                    "null_brier": score["null"],
                    "skill": score["skill"],
                    "concordance": concordance(test, p, h + 0.5),
                    "auc": area_under_curve(test, p, h),
                    "slope": line["slope"],
                    "slope_se": line["slope_se"],
                    "in_the_large": line["intercept"],
                    "capture_top_tenth": capture(test, p, h),
                    "n": len(test),
                }
            )
            predicted[name, h] = p
    table = pd.DataFrame(rows)
    best = {name: predicted[name, horizon] for name in rules}
    draws = score_bootstrap(test, best, horizon, repeats=repeats, seed=seed)
    main = table[(table["rule"] == "model") & (table["months"] == horizon)].iloc[0]
    estimate = percentile_interval(draws["skill model"], main["skill"], "share of the null Brier score", len(test))
    fitted = model.own
    half = 1.96 * main["slope_se"]
    slope_ok = main["slope"] + half >= 0.8 and main["slope"] - half <= 1.25
    checks = (
        enough_events(fitted.events, len(model.columns)),
        separation(
            earlier.assign(event=(earlier["cause"] == cause).astype(int), entry=0),
            [c for c in LINEAR if c in earlier and len(earlier[c].unique()) > 1],
        ),
        Check.of(
            "calibration",
            bool(slope_ok),
            f"slope {main['slope']:.2f} (se {main['slope_se']:.2f}), 1 is perfect; its interval must reach 0.8 to 1.25",
            "undecided",
        ),
    )
    estimate = type(estimate)(
        **{**estimate.__dict__, "p_value": one_sided_p(estimate.value, estimate.se or np.nan, 0.0)}
    )
    by_horizon = {h: calibration(test, p, h)[0] for (name, h), p in predicted.items() if name == "model"}
    groups = by_horizon[horizon]
    thresholds = np.linspace(0.25 * rate, 4 * rate, 16).clip(0.001, 0.9)
    curve = decision_curve(test, best, horizon, thresholds.tolist())
    gain = ""
    if "recency rule" in rules:
        difference = draws["capture model"] - draws["capture recency rule"]
        low, high = np.quantile(difference, [0.025, 0.975])
        other = table[(table["rule"] == "recency rule") & (table["months"] == horizon)].iloc[0]
        gain = (
            f" The tenth at highest predicted risk holds {main['capture_top_tenth']:.0%} of the exits, a recency "
            f"rule's {other['capture_top_tenth']:.0%} (difference {100 * difference.mean():+.1f} points "
            f"[{100 * low:+.1f}, {100 * high:+.1f}])."
        )
    sentence = (
        f"Scored on {len(test):,} customers after a later date, the exit model saves {estimate.value:.1%} "
        f"[{estimate.ci_low:.1%}, {estimate.ci_high:.1%}] of the null model's Brier score at {horizon} months; "
        f"calibration slope {main['slope']:.2f}, concordance {main['concordance']:.2f}.{gain}"
    )

    def draw(axes: Any) -> Any:
        left, right = axes
        for i, (h, g) in enumerate(by_horizon.items()):
            color = figures.ACCENT if h == horizon else figures.PALETTE[1]
            places = (g["predicted"], g["observed"], g["ci_low"], g["ci_high"])
            figures.intervals(left, *places, fmt="os"[i % 2], color=color, label=f"{h} months")
        top = max(float(g[["predicted", "ci_high"]].max().max()) for g in by_horizon.values()) * 1.05
        left.plot([0, top], [0, top], color=figures.INK, lw=1, ls=":")
        left.set(
            xlabel="Predicted share of exits, tenths of risk",
            ylabel="Observed share of exits, 95% interval",
            title=f"Calibration (n = {len(test):,})",
        )
        figures.percent_axis(left, "x")
        figures.percent_axis(left, "y")
        left.legend(title="within", loc="upper left")
        for i, (name, part) in enumerate(curve.groupby("rule", sort=False)):
            grey = name in ("everybody", "nobody")
            color = figures.GREY if grey else figures.PALETTE[i]
            right.plot(
                part["threshold"],
                1000 * part["net_benefit"],
                color=color,
                ls="--" if name == "everybody" else "-",
                label=name,
            )
        low = float(curve.loc[curve["rule"] == "model", "net_benefit"].min())
        right.set(
            xlabel="Break-even risk: cost of a contact over value of a kept customer",
            ylabel="Net benefit per 1,000 customers (exits)",
            title=f"Decision curve, {horizon} months",
            ylim=(1000 * min(low, 0) - 2, None),
        )
        figures.percent_axis(right, "x", 1)
        right.legend()
        return axes

    alt = (
        "Left: observed against predicted exits in tenths of risk, close to the diagonal if calibrated (slope "
        f"{main['slope']:.2f}); the highest tenth is predicted at {groups['predicted'].iloc[-1]:.0%} and observed at "
        f"{groups['observed'].iloc[-1]:.0%}. Right: net benefit of contacting by the model, by recency, everybody or "
        "nobody, over break-even risks."
    )
    return Result(
        table,
        sentence,
        checks,
        {"S15": estimate},
        draw,
        alt,
        panels=2,
        details={"model": model, "predicted": best["model"], "curve": curve, "groups": groups},
    )


def _recency(earlier: pd.DataFrame, test: pd.DataFrame, horizon: int, cause: str) -> np.ndarray:
    """Predict by months since the last transaction alone: the exit rate its band had after the earlier date."""
    edges = np.array([-np.inf, 0.5, 1, 2, 3, 6, np.inf])
    left = ((earlier["cause"] == cause) & (earlier["exit"] <= horizon)).to_numpy(dtype=float)
    band = np.digitize(earlier["recency"], edges[1:-1])
    overall = left.mean()
    rate = np.array([(left[band == b].sum() + 5 * overall) / ((band == b).sum() + 5) for b in range(len(edges) - 1)])
    return rate[np.digitize(test["recency"], edges[1:-1])]


def action_list(result: Result, rows: pd.DataFrame, top: int = 500) -> pd.DataFrame | Missing:
    """Customers at the highest predicted risk, for the restricted folder; never shown.

    Parameters
    ----------
    result : Result
        From :func:`forecast`.
    rows : DataFrame
        Landmark rows of the scored date.
    top : int
        Length of the list.
    """
    if result.missing is not None:
        return result.missing
    if len(rows) != len(result.details["predicted"]):
        raise FitError("the rows are not those that were scored")
    out = pd.DataFrame(
        {"customer_id": rows["customer_id"].to_numpy(), "predicted_exit_risk": result.details["predicted"]}
    )
    return (
        out.sort_values(["predicted_exit_risk", "customer_id"], ascending=[False, True])
        .head(top)
        .reset_index(drop=True)
    )
