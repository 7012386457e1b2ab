"""BG/BB: purchases at given occasions (a yearly campaign, a monthly statement), each made or not.

While alive a customer buys at an occasion with probability p, beta(alpha, beta) over customers, and drops out before
the next with probability beta(gamma, delta) (Fader, Hardie and Shang 2010, Marketing Science 29, 1086-1108).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import betaln, digamma, gammaln, logsumexp

from crmresearch.errors import InputError
from crmresearch.estimators.lifetime.base import Array, Fitter, Likelihood, finite, horizon
from crmresearch.estimators.lifetime.summary import check_summary, complain, integers


class BetaGeoBetaBinomFitter(Fitter):
    """Beta-geometric/beta-binomial model.

    After :meth:`fit` the model carries ``params_`` (alpha, beta of buying; gamma, delta of dropping out),
    ``log_likelihood_``, ``aic_``, ``standard_errors_``, ``variance_matrix_``, ``confidence_intervals_``, ``summary``,
    ``n_``.
    """

    _names: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma", "delta")

    def fit(
        self,
        frequency: ArrayLike,
        recency: ArrayLike,
        n_periods: ArrayLike,
        weights: ArrayLike | None = None,
        start: Mapping[str, float] | None = None,
    ) -> Self:
        """Fit to counts of occasions.

        Parameters
        ----------
        frequency, recency, n_periods : array_like of int
            Occasions used, the last one used (0 if none), and occasions offered.
        weights : array_like, optional
            How many customers a row stands for.
        start : mapping, optional
            Parameters to start from.

        Raises
        ------
        InputError
            Impossible rows; nobody ever bought.
        FitError
            No maximum found.
        """
        x, last, n = (np.atleast_1d(v) for v in _check(frequency, recency, n_periods))
        if x.size and not x.any():
            raise InputError("nobody used an occasion: no purchase model can be fitted")
        return self._estimate([x, last, n], weights, start)

    def _from_frame(self, frame: pd.DataFrame) -> Any:
        return list(_check(frame["frequency"], frame["recency"], frame["n_periods"])), np.arange(len(frame))

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        return np.log([1.0, 1.0, 0.7, 2.0])

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        x, last, n = columns
        terms = (n - last).astype(int) + 1  # alive at n, or dropped out right after occasion last, ..., n - 1
        row = np.repeat(np.arange(len(x)), terms)
        begin = np.cumsum(terms) - terms
        alive_until = last[row] + np.arange(len(row)) - begin[row]  # the last term of a row means alive at n
        end = alive_until == n[row]
        bought, missed = x[row], alive_until - x[row]

        def likelihood(theta: Array) -> tuple[float, Array]:
            alpha, beta, gamma, delta = np.exp(theta)
            gamma1 = gamma + ~end
            log_term = betaln(alpha + bought, beta + missed) + betaln(gamma1, delta + alive_until)
            top = np.maximum.reduceat(log_term, begin)
            part = np.exp(log_term - top[row])
            whole = np.add.reduceat(part, begin)
            constant = betaln(alpha, beta) + betaln(gamma, delta)
            value = weights @ (top + np.log(whole)) - weights.sum() * constant
            part *= (weights / whole)[row]
            both, exits = digamma(alpha + beta + alive_until), digamma(gamma1 + delta + alive_until)
            slopes = [
                part @ (digamma(alpha + bought) - both),
                part @ (digamma(beta + missed) - both),
                part @ (digamma(gamma1) - exits),
                part @ (digamma(delta + alive_until) - exits),
            ]
            mean = [
                digamma(alpha) - digamma(alpha + beta),
                digamma(beta) - digamma(alpha + beta),
                digamma(gamma) - digamma(gamma + delta),
                digamma(delta) - digamma(gamma + delta),
            ]
            return float(value), (np.array(slopes) - weights.sum() * np.array(mean)) * np.exp(theta)

        return likelihood

    # -- prediction ----------------------------------------------------------------------------------------------------
    def _log_rows(self, x: Array, last: Array, n: Array) -> Array:
        """Log-likelihood of each row."""
        alpha, beta, gamma, delta = self._values()
        constant = betaln(alpha, beta) + betaln(gamma, delta)
        longest = int((n - last).max(initial=0))
        out = [betaln(alpha + x, beta + n - x) + betaln(gamma, delta + n)]
        for i in range(longest):
            until = np.minimum(last + i, n)
            term = betaln(alpha + x, beta + until - x) + betaln(gamma + 1, delta + until)
            out.append(np.where(last + i < n, term, -np.inf))
        rows: Array = logsumexp(out, axis=0) - constant
        return rows

    def conditional_probability_alive(
        self, m_periods_in_future: ArrayLike, frequency: ArrayLike, recency: ArrayLike, n_periods: ArrayLike
    ) -> Any:
        """Probability to be alive at occasion ``n_periods + m_periods_in_future``, given the history."""
        x, last, n = _check(frequency, recency, n_periods)
        ahead = horizon(m_periods_in_future)
        return finite(np.exp(self._log_alive(x, last, n, ahead)), "P(alive)")

    def _log_alive(self, x: Array, last: Array, n: Array, ahead: Array) -> Any:
        alpha, beta, gamma, delta = self._values()
        bought = betaln(alpha + x, beta + n - x) - betaln(alpha, beta)
        return bought + betaln(gamma, delta + n + ahead) - betaln(gamma, delta) - self._log_rows(x, last, n)

    def conditional_expected_number_of_purchases_up_to_time(
        self, m_periods_in_future: ArrayLike, frequency: ArrayLike, recency: ArrayLike, n_periods: ArrayLike
    ) -> Any:
        """Expected purchases at the next occasions, given the history: the sum of P(alive) times E(p)."""
        x, last, n = _check(frequency, recency, n_periods)
        alpha, beta, _, _ = self._values()
        ahead = horizon(m_periods_in_future)
        integers(ahead, "m_periods_in_future")
        chance = (alpha + x) / (alpha + beta + n)
        total = np.zeros(np.broadcast_shapes(ahead.shape, x.shape))
        for j in range(1, int(ahead.max(initial=0)) + 1):
            total = total + np.where(j <= ahead, np.exp(self._log_alive(x, last, n, np.asarray(float(j)))), 0.0)
        return finite(chance * total, "expected purchases")

    def probability_of_n_purchases_up_to_time(self, t: int, n: ArrayLike) -> Any:
        """Probability that a new customer makes ``n`` purchases at ``t`` occasions."""
        alpha, beta, gamma, delta = self._values()
        count = np.asarray(n, dtype=np.float64)
        integers(count, "n")
        terms = []
        for until in range(t + 1):  # alive for exactly `until` occasions, or all t of them
            exits = betaln(gamma + (until < t), delta + until) - betaln(gamma, delta)
            missed = np.maximum(until - count, 0)
            choose = gammaln(until + 1) - gammaln(count + 1) - gammaln(missed + 1)
            term = choose + betaln(alpha + count, beta + missed) - betaln(alpha, beta) + exits
            terms.append(np.where(count <= until, term, -np.inf))
        return finite(np.exp(logsumexp(terms, axis=0)), "the probability")


def _check(frequency: ArrayLike, recency: ArrayLike, n_periods: ArrayLike) -> tuple[Array, Array, Array]:
    x, last, n = check_summary(frequency, recency, n_periods)
    integers(last, "recency")
    integers(n, "n_periods")
    complain("frequency", x > last, "above recency", "one occasion is used once at most")
    return x, last, n
