"""What models of purchases without a contract share: checked histories, and predictions.

Given its history and that a customer is alive, what is to come follows the same model with updated parameters. A model
gives those, the probability to be alive, and what an alive customer does; everything else is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import gammaln

from crmresearch.errors import InputError
from crmresearch.estimators.lifetime.base import Array, Fitter, finite, horizon
from crmresearch.estimators.lifetime.clv import Discounting
from crmresearch.estimators.lifetime.summary import check_summary, integers

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)


class PurchaseFitter(Fitter):
    """Base of BG/NBD, MBG/NBD, Pareto/NBD and NBD; see the classes themselves."""

    def fit(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        T: ArrayLike,
        weights: ArrayLike | None = None,
        start: Mapping[str, float] | None = None,
    ) -> Self:
        """Fit to a customer summary.

        Parameters
        ----------
        frequency, recency, T : array_like
            See :func:`check_summary`. One row per customer.
        weights : array_like, optional
            How many customers a row stands for.
        start : mapping, optional
            Parameters to start from.

        Returns
        -------
        Self
            The fitted model.

        Raises
        ------
        InputError
            Impossible rows; no repeat purchase at all.
        FitError
            No maximum found.

        Warns
        -----
        FitWarning
            Corner solution (no dropout to be seen, say) or flat direction.
        """
        return self._estimate(check_histories(frequency, recency, T), weights, start)

    def _from_frame(self, frame: pd.DataFrame) -> Any:
        return check_histories(frame["frequency"], frame["recency"], frame["T"]), np.arange(len(frame))

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        x, _, age = (float(weights @ column / weights.sum()) for column in columns)
        return np.log(self._begin(age, age / x))

    # -- given by each model -------------------------------------------------------------------------------------------
    def _begin(self, age: float, gap: float) -> list[float]:
        """Return where to start, from the mean T and the mean time per repeat purchase."""
        raise NotImplementedError

    def _updated(self, x: Any, age: Any) -> tuple[Any, ...]:
        """Return the parameters of a customer who is alive."""
        raise NotImplementedError

    def _alive(self, x: Array, t_x: Array, age: Array) -> Array:
        """Probability to be alive."""
        raise NotImplementedError

    def _expected(self, t: Any, *shape: Any) -> Any:
        """Purchases in ``t`` of an alive customer with these parameters."""
        raise NotImplementedError

    def _chances(self, t: Array, n: Array, *shape: Any) -> Any:
        """Probability of n purchases in ``t`` of an alive customer."""
        raise NotImplementedError

    def _discounted(self, force: float, *shape: Any) -> Any:
        """Discounted purchases of an alive customer to infinity."""
        raise NotImplementedError

    # -- prediction ----------------------------------------------------------------------------------------------------
    def _history(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> tuple[Array, tuple[Any, ...]]:
        """Return the probability to be alive and the parameters of an alive customer."""
        x, t_x, age = check_summary(frequency, recency, T)
        return self._alive(x, t_x, age), self._updated(x, age)

    def conditional_probability_alive(self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> Any:
        """Probability that a customer with this history is still alive at T."""
        return finite(self._history(frequency, recency, T)[0], "P(alive)")

    def conditional_expected_number_of_purchases_up_to_time(
        self, t: ArrayLike, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Any:
        """Expected purchases in the next ``t`` units of time, given the history up to T."""
        alive, shape = self._history(frequency, recency, T)
        return finite(alive * self._expected(horizon(t), *shape), "expected purchases")

    def expected_number_of_purchases_up_to_time(self, t: ArrayLike) -> Any:
        """Expected repeat purchases of a new customer in the first ``t`` units of time."""
        new = np.zeros(())
        return finite(
            self._alive(new, new, new) * self._expected(horizon(t), *self._updated(0, 0)), "expected purchases"
        )

    def probability_of_n_purchases_up_to_time(self, t: ArrayLike, n: ArrayLike) -> Any:
        """Probability that a new customer makes ``n`` repeat purchases in ``t`` units of time."""
        new = np.zeros(())
        return self._count(t, n, self._alive(new, new, new), self._updated(0, 0))

    def conditional_probability_of_n_purchases_up_to_time(
        self, n: ArrayLike, t: ArrayLike, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Any:
        """Probability of ``n`` purchases in the next ``t`` units of time, given the history up to T."""
        return self._count(t, n, *self._history(frequency, recency, T))

    def _count(self, t: ArrayLike, n: ArrayLike, alive: Array, shape: tuple[Any, ...]) -> Any:
        count = np.asarray(n, dtype=np.float64)
        integers(count, "n")
        chance = alive * self._chances(horizon(t), count, *shape) + (1 - alive) * (count == 0)
        return finite(chance, "the probability")

    def discounted_expected_residual_transactions(
        self, discounting: Discounting, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike
    ) -> Any:
        """Expected purchases after T to infinity, each discounted to T at the moment it is made (DERT).

        Pareto/NBD: Fader, Hardie and Lee (2005, J. Marketing Research 42, 415-430), expected purchase rate times
        discounted expected residual lifetime times P(alive). BG/NBD has no closed form; the discounted purchase rate is
        integrated numerically (relative error below 1e-9).
        """
        alive, shape = self._history(frequency, recency, T)
        return finite(alive * self._discounted(discounting.lasting, *shape), "DERT")


def check_histories(frequency: ArrayLike, recency: ArrayLike, T: ArrayLike) -> list[Array]:
    """Check a summary for a fit."""
    x, t_x, age = (np.atleast_1d(v) for v in check_summary(frequency, recency, T))
    if not len(x) == len(t_x) == len(age):
        raise InputError(
            f"frequency, recency and T have {len(x)}, {len(t_x)} and {len(age)} rows; give one row per customer"
        )
    if len(x) and not x.any():
        raise InputError(
            "nobody made a repeat purchase: no purchase model can be fitted; lengthen the calibration window"
        )
    return [x, t_x, age]


def log_count(n: Array, u: Any, r: Any, alpha: Any) -> Any:
    """Log probability of n purchases in ``u`` at gamma(r, alpha) rates: negative binomial."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = r * np.log(alpha / (alpha + u)) + np.where(n > 0, n * np.log(u / (alpha + u)), 0.0)
    return gammaln(r + n) - gammaln(r) - gammaln(n + 1) + shares
