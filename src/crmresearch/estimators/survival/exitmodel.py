"""Predicting exits at a landmark date: cause-specific Cox models with curves and fading signs, and a simple rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.frames import among
from crmresearch.estimators.inference import natural_spline
from crmresearch.estimators.survival.cox import CoxFit, cox

FADING = (1.0, 2 / 3, 1 / 3)  # what signs of running down say of the first months, beyond their lasting effect
LINEAR = (
    "tier_",
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
EXITS_PER_COLUMN = 10
RECENCY = (0.5, 1, 2, 3, 6)  # months since the last transaction, borders of bands


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
    out = {c: rows[c].to_numpy(dtype=float) for c in among(rows, LINEAR)}
    for c in CURVED:
        if c in knots:
            for i, column in enumerate(natural_spline(rows[c].to_numpy(dtype=float), knots[c]).T):
                out[f"{c} {i + 1}"] = column
        elif c in rows.columns:
            out[c] = rows[c].to_numpy(dtype=float)
    return pd.DataFrame(out, index=rows.index)


def _base(column: str) -> str:
    """Covariate that a column of a curve stands for."""
    return column if column in LINEAR or column.startswith("tier_") else column.rstrip("0123456789 ")


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
        if left.sum() >= EXITS_PER_COLUMN * len(columns):
            break
    if not columns:
        raise FitError("no covariate varies among the customers at the prediction date")
    own = cox(_split(x, rows["exit"], left), columns).shrunk()
    rest = (rows["event"] == 1) & ~left
    base = x.assign(exit=rows["exit"], event=rest.astype(int))
    other = cox(base, list(x.columns[:1])) if rest.sum() > 10 else None
    return ExitModel(own, other, curves, tuple(columns))


def recency_rule(earlier: pd.DataFrame, later: pd.DataFrame, horizon: int, cause: str) -> np.ndarray:
    """Predict by months since the last transaction alone: the exit rate its band had after the earlier date."""
    left = ((earlier["cause"] == cause) & (earlier["exit"] <= horizon)).to_numpy(dtype=float)
    band, overall = np.digitize(earlier["recency"], RECENCY), left.mean()
    rate = np.array([(left[band == b].sum() + 5 * overall) / ((band == b).sum() + 5) for b in range(len(RECENCY) + 1)])
    predicted: np.ndarray = rate[np.digitize(later["recency"], RECENCY)]
    return predicted
