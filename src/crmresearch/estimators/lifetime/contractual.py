"""Contractual models: the end of a relationship is seen, at one of its renewal dates.

Each customer ends at every renewal with an own probability, beta over customers. In the shifted beta-geometric (sBG) it
stays the same over time (Fader and Hardie 2007, J. Interactive Marketing 21, 76-90); in the beta-discrete-Weibull
(BdW) it rises (c > 1) or falls (c < 1) with tenure (Fader, Hardie, Liu, Davin and Steenburgh 2018). A retention rate
that rises with tenure in the aggregate needs no loyalty that grows: those likely to leave have left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import betaln, digamma

from crmresearch.errors import InputError
from crmresearch.estimators.lifetime.base import Array, Fitter, Likelihood, finite, horizon
from crmresearch.estimators.lifetime.clv import Discounting
from crmresearch.estimators.lifetime.summary import column, complain, integers


class _Contractual(Fitter):
    _advice: ClassVar[str] = "look at the number of exits per period, or give `start=`"
    _corner: ClassVar[str] = (
        "Customers may hardly differ (a constant retention rate fits as well), or periods are too few"
    )

    def fit(
        self,
        T: ArrayLike,
        churned: ArrayLike,
        weights: ArrayLike | None = None,
        entry: ArrayLike | None = None,
        start: Mapping[str, float] | None = None,
    ) -> Self:
        """Fit to customers.

        Parameters
        ----------
        T : array_like of int
            Periods: the period in which a customer ended (1, 2, ...), or the periods survived by one who has not.
        churned : array_like of bool
            Whether the customer ended.
        weights : array_like, optional
            How many customers a row stands for.
        entry : array_like of int, optional
            Periods a customer had already survived when observation began; the likelihood is conditional on that.
        start : mapping, optional
            Parameters to start from.

        Raises
        ------
        InputError
            Impossible rows; no exit, or nothing but exits in one period.
        FitError
            No maximum found.

        Warns
        -----
        FitWarning
            Corner solution or flat direction (customers do not differ, say).
        """
        return self._estimate(list(_check(T, churned, entry)), weights, start)

    def fit_survivors(self, survivors: ArrayLike) -> Self:
        """Fit to the survivors of one cohort: their number at period 0, 1, ..., k (need not be whole).

        Raises
        ------
        InputError
            The numbers rise, are negative, or are fewer than three.
        """
        alive = column(survivors, "survivors")
        if alive.size < 3:
            raise InputError("give the survivors of at least periods 0, 1 and 2")
        complain("survivors", alive < 0, "negative", "give counts or percentages")
        complain("survivors", np.diff(alive, prepend=alive[0]) > 0, "above the period before", "a cohort cannot grow")
        periods = np.arange(1, alive.size)
        times, ends = np.append(periods, periods[-1]), np.append(np.ones(periods.size), 0.0)
        return self.fit(times, ends, np.append(-np.diff(alive), alive[-1]))

    def _from_frame(self, frame: pd.DataFrame) -> Any:
        entry = frame.get("entry")
        return list(_check(frame["T"], frame["churned"], entry)), np.arange(len(frame))

    def _log_survival(self, t: Array, params: Array) -> tuple[Array, Array]:
        """Log survival after t periods, and its derivatives by the logs of the parameters."""
        raise NotImplementedError

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        t, churned, entry = columns
        gone, stay, late = churned == 1, churned == 0, entry > 0

        def likelihood(theta: Array) -> tuple[float, Array]:
            params = np.exp(theta)
            before, by_before = self._log_survival(t[gone] - 1, params)
            after, by_after = self._log_survival(t[gone], params)
            left = -np.expm1(after - before)  # probability to end, given survival to the period before
            ratio = np.exp(after - before)
            w = weights[gone]
            value = w @ (before + np.log(left))
            slope = (by_before - ratio * by_after) @ (w / left)
            for rows, times, sign in ((stay, t[stay], 1.0), (late, entry[late], -1.0)):
                log_s, by = self._log_survival(times, params)
                value += sign * (weights[rows] @ log_s)
                slope = slope + sign * (by @ weights[rows])
            return float(value), slope

        return likelihood

    # -- prediction ----------------------------------------------------------------------------------------------------
    def survival_function(self, t: ArrayLike) -> Any:
        """Share of customers that survive ``t`` renewals."""
        times = horizon(t)
        log_s, _ = self._log_survival(np.atleast_1d(times), np.array(self._values()))
        return finite(np.exp(log_s).reshape(times.shape), "survival")

    def retention_rate(self, t: ArrayLike) -> Any:
        """Share of those alive after t-1 renewals who renew for the t-th time (t = 1, 2, ...)."""
        times = horizon(t)
        complain("t", times < 1, "below 1", "the first renewal is number 1")
        params = np.array(self._values())
        flat = np.atleast_1d(times)
        log_rate = self._log_survival(flat, params)[0] - self._log_survival(flat - 1, params)[0]
        return finite(np.exp(log_rate).reshape(times.shape), "retention")

    def mean_churn(self) -> float:
        """Mean over customers of the probability to end at the first renewal."""
        first, second = self._values()[:2]
        return first / (first + second)

    def polarisation(self) -> float:
        """Spread of renewal probabilities: 0 when customers are alike, 1 when each surely stays or surely goes."""
        first, second = self._values()[:2]
        return 1 / (first + second + 1)

    def discounted_expected_lifetime(self, discounting: Discounting, renewals: int = 0) -> float:
        """Discounted number of periods a customer stays (DEL), the coming one included.

        Parameters
        ----------
        discounting : Discounting
            With timing ``start`` the first payment is at once, ``mid`` half a period, ``end`` a period ahead.
        renewals : int
            Renewals already made; the customer has just begun that period (0: has just been acquired).
        """
        weight, survival = self._series(discounting, renewals)
        return float(weight @ survival)

    def discounted_expected_residual_lifetime(self, discounting: Discounting, renewals: int) -> float:
        """Discounted number of periods still to come, just before the renewal number ``renewals`` is known (DERL).

        The payment made at that renewal, if it is made, is not discounted: retention rate times
        :meth:`discounted_expected_lifetime` with timing ``start``. Value times contribution per period is the residual
        lifetime value (Fader and Hardie 2010, Marketing Science 29, 85-93).
        """
        at_start = Discounting(discounting.annual_rate, discounting.units_per_year, "start")
        return float(self.retention_rate(renewals)) * self.discounted_expected_lifetime(at_start, renewals)

    def retention_elasticity(self, discounting: Discounting, renewals: int = 0) -> float:
        """Per cent by which discounted expected lifetime grows when every retention rate grows by one per cent.

        Each customer's retention probability at each renewal is multiplied by 1 + h, so survival for k more renewals by
        (1 + h)^k; the derivative at h = 0, relative to the value. With customers alike it is r / (1 + d - r).
        """
        weight, survival = self._series(discounting, renewals)
        return float(weight @ (np.arange(len(survival)) * survival) / (weight @ survival))

    def _series(self, discounting: Discounting, renewals: int) -> tuple[Array, Array]:
        """Discount factors and survival for the periods to come, until what is left is below 1e-16 of the sum."""
        if int(renewals) != renewals or renewals < 0:
            raise InputError(f"renewals is {renewals}; give a whole number of at least 0")
        periods = int(np.ceil(45.0 / discounting.lasting)) + 10
        if periods > 10_000_000:
            raise InputError("annual_rate is too close to 0 for a sum to infinity; give a larger one")
        log_s, _ = self._log_survival(renewals + np.arange(float(periods)), np.array(self._values()))
        return discounting.factors(periods), np.exp(log_s - log_s[0])


class ShiftedBetaGeoFitter(_Contractual):
    """Shifted beta-geometric model.

    After :meth:`fit` or :meth:`fit_survivors` the model carries ``params_`` (alpha, beta), ``log_likelihood_``,
    ``aic_``, ``standard_errors_``, ``variance_matrix_``, ``confidence_intervals_``, ``summary`` and ``n_``.
    """

    _names: ClassVar[tuple[str, ...]] = ("alpha", "beta")

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        rate = _hazard(columns, weights)
        return np.log([2 * rate, 2 * (1 - rate)])

    def _log_survival(self, t: Array, params: Array) -> tuple[Array, Array]:
        value, by_alpha, by_beta, _ = _beta_ratio(params[0], params[1], t)
        return value, np.array([by_alpha * params[0], by_beta * params[1]])


class BetaDiscreteWeibullFitter(_Contractual):
    """Beta-discrete-Weibull model; with c = 1 it is the shifted beta-geometric.

    After :meth:`fit` or :meth:`fit_survivors` the model carries ``params_`` (gamma, delta, c), ``log_likelihood_``,
    ``aic_``, ``standard_errors_``, ``variance_matrix_``, ``confidence_intervals_``, ``summary`` and ``n_``.
    """

    _names: ClassVar[tuple[str, ...]] = ("gamma", "delta", "c")

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        rate = _hazard(columns, weights)
        return np.log([rate, 1 - rate, 1.0])

    def _log_survival(self, t: Array, params: Array) -> tuple[Array, Array]:
        gamma, delta, c = params
        grown = t**c
        value, by_gamma, by_delta, by_grown = _beta_ratio(gamma, delta, grown)
        by_c = by_grown * grown * np.log(np.where(t > 0, t, 1.0))
        return value, np.array([by_gamma * gamma, by_delta * delta, by_c * c])


def _beta_ratio(a: float, b: float, t: Array) -> tuple[Array, Array, Array, Array]:
    """Log of B(a, b+t) / B(a, b), and its derivatives by a, b and t."""
    both, own = digamma(a + b + t), digamma(b + t)
    value = betaln(a, b + t) - betaln(a, b)
    return value, digamma(a + b) - both, own - digamma(b) - both + digamma(a + b), own - both


def _hazard(columns: Sequence[Array], weights: Array) -> float:
    t, churned, entry = columns
    return float(np.clip(weights @ churned / (weights @ (t - entry)), 0.01, 0.9))


def _check(T: ArrayLike, churned: ArrayLike, entry: ArrayLike | None) -> tuple[Array, Array, Array]:
    t, gone = np.atleast_1d(column(T, "T")), np.atleast_1d(column(churned, "churned"))
    begin = np.zeros(t.shape) if entry is None else np.atleast_1d(column(entry, "entry"))
    if not t.shape == gone.shape == begin.shape:
        raise InputError(
            f"T, churned and entry have {t.size}, {gone.size} and {begin.size} rows; give one row per customer"
        )
    integers(t, "T")
    integers(begin, "entry")
    complain("churned", (gone != 0) & (gone != 1), "neither 0 nor 1", "say whether the customer ended")
    complain("T", (gone == 1) & (t < 1), "ended in period 0", "the first renewal is in period 1")
    complain("entry", (begin > t) | ((gone == 1) & (begin >= t)), "not before T", "observed only after the end")
    if t.size and not gone.any():
        raise InputError("no customer ended: retention cannot be modelled; observe longer")
    return t, gone, begin
