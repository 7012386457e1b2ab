"""Discounting, by one convention, and customer lifetime value.

Convention: ``annual_rate`` d is effective per year; time is counted in units of which ``units_per_year`` make a year.
A period of h years has the rate (1+d)^h - 1; a payment at time s (years from now) is worth (1+d)^-s. Payments of the
k-th period (k = 1, 2, ...) fall at its start (k-1), middle (k-1/2) or end (k), named by ``timing``; payments of a
continuous process are discounted at the moment they happen, with the force ln(1+d) per year.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from crmresearch.errors import InputError
from crmresearch.estimators.lifetime.base import Array, finite
from crmresearch.estimators.lifetime.summary import check_summary, collapse, column


@dataclass(frozen=True)
class Discounting:
    """How money at different times is made comparable.

    Parameters
    ----------
    annual_rate : float
        Effective rate per year, e.g. 0.10; at least 0.
    units_per_year : float
        Time units in a year: 365.25 for days, 52.18 for weeks, 12 for months, 1 for years.
    timing : {'start', 'mid', 'end'}
        Where in its period a payment falls.
    """

    annual_rate: float
    units_per_year: float = 1.0
    timing: Literal["start", "mid", "end"] = "end"

    def __post_init__(self) -> None:
        if not 0 <= self.annual_rate < 10:
            raise InputError(f"annual_rate is {self.annual_rate}; give a rate per year such as 0.10 for 10%")
        if not (self.units_per_year > 0 and math.isfinite(self.units_per_year)):
            raise InputError(
                f"units_per_year is {self.units_per_year}; give 365.25 for days, 12 for months, 1 for years"
            )
        if self.timing not in ("start", "mid", "end"):
            raise InputError(f"timing is {self.timing!r}; give 'start', 'mid' or 'end'")

    @property
    def force(self) -> float:
        """Continuous rate per time unit, ln(1 + d) / units per year."""
        return math.log1p(self.annual_rate) / self.units_per_year

    @property
    def lasting(self) -> float:
        """The force of sums to infinity, which must not be 0."""
        if not self.force > 0:
            raise InputError("to infinity the value is finite only with a positive annual_rate")
        return self.force

    def rate(self, length: float = 1.0) -> float:
        """Effective rate of a period of ``length`` time units, (1 + d)^(length / units per year) - 1."""
        return math.expm1(self.force * length)

    def at(self, time: ArrayLike) -> Any:
        """Present value of 1 paid ``time`` units from now."""
        return np.exp(-self.force * np.asarray(time, dtype=np.float64))

    def factors(self, periods: int, length: float = 1.0) -> Array:
        """Present values of 1 paid in each of ``periods`` periods of ``length`` units, by the declared timing."""
        shift = {"start": 1.0, "mid": 0.5, "end": 0.0}[self.timing]
        factors: Array = self.at((np.arange(1, periods + 1) - shift) * length)
        return factors


def customer_lifetime_value(
    transaction_model: Any,
    frequency: ArrayLike,
    recency: ArrayLike,
    T: ArrayLike,
    monetary_value: ArrayLike,
    discounting: Discounting,
    months: int = 12,
) -> Any:
    """Present value of each customer's purchases in the next months.

    Parameters
    ----------
    transaction_model : BetaGeoFitter, ModifiedBetaGeoFitter, ParetoNBDFitter or NBDFitter
        Fitted model.
    frequency, recency, T : array_like
        Histories; the unit of time is the model's.
    monetary_value : array_like
        Expected value (contribution, not turnover) of one purchase of each customer, e.g. margin times
        ``GammaGammaFitter.conditional_expected_average_profit``. May be negative.
    discounting : Discounting
        ``units_per_year`` must be that of T; a month is a twelfth of it. Payments of a month fall at its start, middle
        or end.
    months : int
        Horizon, at least 1.

    Returns
    -------
    ndarray
        In the currency of ``monetary_value``, one per customer.
    """
    x, t_x, age = check_summary(frequency, recency, T)
    worth = column(monetary_value, "monetary_value")
    if int(months) != months or months < 1:
        raise InputError(f"months is {months}; give a whole number of at least 1")
    # what an alive customer buys depends on (x, T) only, so each pair is done once
    (x1, age1), _, place = collapse([np.ravel(x), np.ravel(age)], inverse=True)
    length, shape = discounting.units_per_year / 12, transaction_model._updated(x1, age1)
    before, total = np.zeros(len(x1)), np.zeros(len(x1))
    for month, factor in enumerate(discounting.factors(int(months), length), start=1):
        now = transaction_model._expected(month * length, *shape)
        total += factor * (now - before)
        before = now
    alive: Array = transaction_model._alive(x, t_x, age)
    return finite(worth * (alive * total[place].reshape(np.shape(alive))), "CLV")
