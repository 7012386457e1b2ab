"""Probability of winning by spend: its mean derivatives, and how much unseen selection they bear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.blocks import (
    Array,
    Functional,
    by_block,
    checked,
    mean_ratio,
    per,
    product,
    summed,
    unit_of,
)
from crmresearch.estimators.inference import ends, full_rank, sized

MIN_WINS = 10  # wins below which no cost per win is estimated


@dataclass(frozen=True)
class WinModel:
    """Fitted probability of winning, a probit.

    Attributes
    ----------
    names : tuple of str
        Coefficients: ``intercept``, ``spend``, ``spend_squared``, covariates.
    params : array
    scores : array
        Influence of each row on the coefficients (rows sum to nearly the error).
    loglik : float
    """

    names: tuple[str, ...]
    params: Array
    scores: Array
    loglik: float

    @property
    def covariance(self) -> Array:
        """Robust covariance of the coefficients."""
        return self.scores.T @ self.scores

    def at(self, spend: Array, prospects: pd.DataFrame) -> Array:
        """Return the columns of a curve over spends, with the covariates at the prospects' means."""
        held = [np.full(len(spend), prospects[c].mean()) for c in self.names[3:]]
        return np.column_stack([np.ones(len(spend)), spend, spend**2, *held])

    def curve(self, spend: Array, prospects: pd.DataFrame) -> pd.DataFrame:
        """Return the probability of winning at spends, with a 95% band: ``x``, ``y``, ``low``, ``high``."""
        from scipy.special import ndtr

        x = self.at(spend, prospects)
        index = x @ self.params
        low, high = ends(index, np.sqrt(np.einsum("ij,jk,ik->i", x, self.covariance, x)))
        return pd.DataFrame({"x": spend, "y": ndtr(index), "low": ndtr(low), "high": ndtr(high)})

    def derivatives(self, prospects: pd.DataFrame, blocks: int) -> tuple[Functional, Functional, Array]:
        """Mean slope and mean second derivative by spend, and the slope of each prospect."""
        spend = prospects["spend"].to_numpy(float)
        covariates = (prospects[c].to_numpy(float) for c in self.names[3:])
        x = np.column_stack([np.ones(len(spend)), spend, spend**2, *covariates])
        index = x @ self.params
        f = _density(index)
        f1, f2 = -index * f, (index * index - 1) * f
        square = 2 * self.params[2]
        g = self.params[1] + square * spend
        slope, second = f * g, f1 * g * g + square * f
        own = np.zeros_like(x)
        own[:, 1], own[:, 2] = 1.0, 2 * spend
        d_slope = (f1 * g)[:, None] * x + f[:, None] * own
        d_second = (f2 * g * g + square * f1)[:, None] * x + (2 * f1 * g)[:, None] * own
        d_second[:, 2] += 2 * f

        def functional(value: Array, gradient: Array) -> Functional:
            each = (value - value.mean()) / len(spend) + self.scores @ gradient.mean(axis=0)
            return Functional(float(value.mean()), summed(prospects, each, blocks))

        return functional(slope, d_slope), functional(second, d_second), slope


def _density(index: Array) -> Array:
    return np.asarray(np.exp(-0.5 * index * index) / np.sqrt(2 * np.pi))


def win_model(
    prospects: pd.DataFrame, covariates: tuple[str, ...] = (), offset: Array | float = 0.0, scale: float = 1.0
) -> WinModel:
    """Fit a probit of winning on spend, its square and covariates by maximum likelihood.

    Our own, because statsmodels' probit takes neither an offset nor a scale and has no HC3 errors; it is as fast.

    Parameters
    ----------
    prospects : DataFrame
        One row per prospect: ``spend`` (money), ``won`` (0/1), covariates (numbers).
    covariates : tuple of str
        Further columns.
    offset, scale : array, float
        Index = (x b) * scale + offset; for :func:`selection_bound`.

    Raises
    ------
    InputError
        If a value is missing.
    FitError
        If spend does not vary, everybody or nobody was won, columns are collinear, or spend separates won from lost.

    Notes
    -----
    Coefficients of spend are per unit of money. Fisher scoring with step halving. Errors are robust, of type HC3.

    References
    ----------
    MacKinnon, White (1985). Some heteroskedasticity-consistent covariance matrix estimators. *J. Econometrics* 29.
    """
    from scipy.special import ndtr

    checked(prospects, ("won", "spend", *covariates), what="prospects")
    y, spend = prospects["won"].to_numpy(float), prospects["spend"].to_numpy(float)
    top = float(spend.max()) or 1.0
    x = np.column_stack(
        [np.ones(len(y)), spend / top, (spend / top) ** 2, *(prospects[c].to_numpy(float) for c in covariates)]
    )
    names = ("intercept", "spend", "spend_squared", *covariates)
    size = np.abs(x).max(axis=0)
    if len(np.unique(spend)) < 3:
        raise FitError(f"spend takes {len(np.unique(spend))} values; a response curve needs at least three")
    if y.min() == y.max():
        raise FitError(f"{'all' if y.max() else 'none'} of {len(y)} prospects were won; there is nothing to explain")
    size = np.where(size > 0, size, 1.0)
    z = x / size * scale
    full_rank(z, names)
    sized(y.sum(), len(names), min(y.sum(), (1 - y).sum()))
    separated = "spend or a covariate separates won from lost completely; there is no finite estimate"
    b = np.zeros(x.shape[1])

    def loglik(beta: Array) -> float:
        p = np.clip(ndtr(z @ beta + offset), 1e-300, 1 - 1e-16)
        return float(y @ np.log(p) + (1 - y) @ np.log1p(-p))

    def at(beta: Array) -> tuple[Array, Array, Array, Array]:
        """Probability, density, variance and information."""
        index = z @ beta + offset
        p, f = ndtr(index), _density(index)
        room = np.clip(p * (1 - p), 1e-12, None)
        return p, f, room, (z * (f * f / room)[:, None]).T @ z

    current = loglik(b)
    for _ in range(100):
        p, f, room, information = at(b)
        try:
            step = np.linalg.solve(information, z.T @ ((y - p) * f / room))
        except np.linalg.LinAlgError:
            raise FitError(separated) from None
        for _half in range(30):
            if (trial := loglik(b + step)) >= current - 1e-12:
                break
            step /= 2
        b, gained, current = b + step, trial - current, trial
        if abs(gained) < 1e-9 * (1 + abs(current)) and np.abs(step).max() < 1e-8 * (1 + np.abs(b).max()):
            break
    else:
        raise FitError("the win model did not converge in 100 steps; look for a covariate that separates won from lost")
    if np.abs(z @ b).max() > 1e4 or current > -1e-6:
        raise FitError(separated)
    p, f, room, information = at(b)
    inverse = np.linalg.inv(information)
    leverage = np.einsum("ij,jk,ik->i", z, inverse, z) * f * f / room
    back = 1 / size / np.array([1.0, top, top**2, *np.ones(len(covariates))])
    # a few large spends pull the curve their way: each row counts as if it had been left out (HC3)
    scores = (z * ((y - p) * f / room / np.maximum(1 - leverage, 0.05))[:, None]) @ inverse * back
    return WinModel(names, b * back, scores, current)


def selection_bound(
    prospects: pd.DataFrame, correlation: float, covariates: tuple[str, ...] = ()
) -> tuple[Functional, Functional]:
    """Mean slope and second derivative if log spend had this correlation with the unseen ease of winning.

    With ease e ~ N(0, 1), corr(e, standardised log spend v) = c, the observed index is (x b + c v) / sqrt(1 - c^2): the
    curve x b follows from a probit with that offset. Spends of zero have no logarithm and keep v = 0.

    Raises
    ------
    InputError
        If the correlation is not between -1 and 1.
    """
    if not abs(correlation) < 1:
        raise InputError(f"a correlation of {correlation:g} is not possible")
    spend = prospects["spend"].to_numpy(float)
    log = np.log(np.where(spend > 0, spend, np.nan))
    v = np.nan_to_num((log - np.nanmean(log)) / (np.nanstd(log) or 1.0))
    shrink = 1 / np.sqrt(1 - correlation**2)
    model = win_model(prospects, covariates, correlation * shrink * v, shrink)
    return model.derivatives(prospects, unit_of(prospects))[:2]


def shared_per_win(acquisition: pd.DataFrame, segment: Any, column: str, blocks: int) -> Functional:
    """Total of a column shared out to a segment, per win of the segment.

    Sum over channels c of (total of c / wins of c) x (wins of c in the segment), over the wins in the segment. Channels
    with few wins share theirs out by all wins.
    """
    own = acquisition[acquisition["segment"] == segment]
    wins = acquisition.groupby("channel", observed=True)["won"].sum()
    inside = by_block(own, "won", blocks)
    few = acquisition[acquisition["channel"].isin(wins.index[wins < MIN_WINS])]
    total = mean_ratio(by_block(few, column, blocks), by_block(acquisition, "won", blocks))
    for channel in wins.index[wins >= MIN_WINS]:
        whole, here = (f[f["channel"] == channel] for f in (acquisition, own))
        share = mean_ratio(by_block(here, "won", blocks), inside)
        total = total + product(per(whole, column, "won", blocks), share)
    return total
