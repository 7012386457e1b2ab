"""Gamma-gamma model of spend per purchase.

A customer's purchases are gamma(p, rate nu), nu is gamma(q, rate v) over customers, and spend is independent of how
often one buys (Fader, Hardie and Lee 2005, J. Marketing Research 42, 415-430; Fader and Hardie 2013). That
independence is an assumption to be looked at before use: for bank balances it rarely holds, and negative values have
no place here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import digamma, gammaln

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.lifetime.base import Array, Fitter, Likelihood, finite
from crmresearch.estimators.lifetime.clv import Discounting, customer_lifetime_value
from crmresearch.estimators.lifetime.summary import check_spend, column, complain, integers, levels_of

BLOCK = 8192


class GammaGammaFitter(Fitter):
    """Gamma-gamma model.

    After :meth:`fit` the model carries ``params_`` (p, q, v; v in the unit of money), ``log_likelihood_`` (of the
    density of mean spend; some papers leave out its term minus sum of log mean spend), ``aic_``, ``standard_errors_``,
    ``variance_matrix_``, ``confidence_intervals_``, ``summary`` and ``n_``.
    """

    _names: ClassVar[tuple[str, ...]] = ("p", "q", "v")
    _often_equal: ClassVar[bool] = False
    _advice: ClassVar[str] = (
        "look at the spread of spend: with hardly any, or a few extreme values, the model does not fit"
    )
    _corner: ClassVar[str] = "Spend varies too little, or too much, for this model; use the mean spend of each customer"

    def fit(
        self,
        frequency: ArrayLike,
        monetary_value: ArrayLike,
        weights: ArrayLike | None = None,
        start: Mapping[str, float] | None = None,
    ) -> Self:
        """Fit to customers with repeat purchases.

        Parameters
        ----------
        frequency : array_like of int
            Repeat purchases, at least 1.
        monetary_value : array_like of float
            Mean spend per repeat purchase, above 0.
        weights : array_like, optional
            How many customers a row stands for.
        start : mapping, optional
            Parameters to start from.

        Raises
        ------
        InputError
            Rows without repeat purchase or with spend of 0 or below.
        FitError
            No maximum found.
        """
        x, m = (np.atleast_1d(c) for c in check_spend(frequency, monetary_value))
        return self._estimate([x, m], weights, start)

    def _from_frame(self, frame: pd.DataFrame) -> Any:
        rows = np.flatnonzero(frame["frequency"].to_numpy() > 0)
        returning = frame.iloc[rows]
        return list(check_spend(returning["frequency"], returning["monetary_value"])), rows

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        _, m = columns
        return np.log([4.0, 4.0, float(weights @ m / weights.sum())])

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        x, m = columns
        levels, place = levels_of(x)
        levels = np.maximum(levels, 1.0)  # nobody is at 0
        count, total, spend = np.bincount(place, weights), weights.sum(), x * m
        buys, log_mean = count * levels, np.log(m)
        sum_log, sum_x_log = weights @ log_mean, (weights * x) @ log_mean
        whole = weights * x

        def likelihood(theta: Array) -> tuple[float, Array]:
            p, q, v = np.exp(theta)
            sum_out = sum_x_out = over = x_over = 0.0
            for i in range(0, len(x), BLOCK):
                part = slice(i, i + BLOCK)
                w, wx, base = weights[part], whole[part], spend[part] + v
                log_base, inverse = np.log(base), 1.0 / base
                sum_out += w @ log_base
                sum_x_out += wx @ log_base
                over += w @ inverse
                x_over += wx @ inverse
            shape = p * levels
            value = count @ (gammaln(shape + q) - gammaln(shape)) + total * (q * np.log(v) - gammaln(q)) - sum_log
            value += p * (sum_x_log + buys @ np.log(levels) - sum_x_out) - q * sum_out
            by_p = buys @ (digamma(shape + q) - digamma(shape) + np.log(levels)) + sum_x_log - sum_x_out
            by_q = count @ digamma(shape + q) + total * (np.log(v) - digamma(q)) - sum_out
            by_v = total * q / v - p * x_over - q * over
            return float(value), np.array([by_p * p, by_q * q, by_v * v])

        return likelihood

    def conditional_expected_average_profit(
        self, frequency: ArrayLike | None = None, monetary_value: ArrayLike | None = None
    ) -> Any:
        """Expected mean spend per purchase, given what was spent so far.

        Parameters
        ----------
        frequency, monetary_value : array_like, optional
            History; with neither, the mean over the population. Customers with frequency 0 get the population mean
            (their monetary_value is ignored).

        Raises
        ------
        FitError
            q is not above 1: the population has no mean under this model.
        """
        p, q, v = self._values()
        if q <= 1:
            raise FitError(
                f"q = {q:.3g}: with q <= 1 mean spend is infinite under the gamma-gamma model; check the tail of spend"
            )
        if frequency is None or monetary_value is None:
            if frequency is not None or monetary_value is not None:
                raise InputError("give both frequency and monetary_value, or neither")
            return p * v / (q - 1)
        x, m = column(frequency, "frequency"), column(monetary_value, "monetary_value")
        integers(x, "frequency")
        complain(
            "monetary_value", (x > 0) & (m <= 0), "not positive with frequency above 0", "leave these customers out"
        )
        return finite(p * (v + np.where(x > 0, x * m, 0.0)) / (p * x + q - 1), "expected spend")

    def customer_lifetime_value(
        self,
        transaction_prediction_model: Any,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        monetary_value: ArrayLike,
        discounting: Discounting,
        months: int = 12,
        margin: float = 1.0,
    ) -> Any:
        """Present value of each customer's purchases in the next months, at this model's expected spend.

        Parameters
        ----------
        transaction_prediction_model : BetaGeoFitter, ModifiedBetaGeoFitter or ParetoNBDFitter
            Fitted model of purchases.
        frequency, recency, T, monetary_value : array_like
            Histories.
        discounting : Discounting
            In the time unit of T. (lifetimes' ``discount_rate`` is per month, at month ends:
            ``Discounting((1 + discount_rate) ** 12 - 1, units_per_year=360)`` for days gives its values.)
        months : int
            Horizon.
        margin : float
            Contribution per unit of spend.
        """
        worth = margin * self.conditional_expected_average_profit(frequency, monetary_value)
        return customer_lifetime_value(transaction_prediction_model, frequency, recency, T, worth, discounting, months)
