"""Pareto/NBD and its benchmark without dropout, the NBD.

Purchases while alive are Poisson with gamma(r, rate alpha) rates; lifetimes are exponential with gamma(s, rate beta)
dropout rates (Schmittlein, Morrison and Colombo 1987, Management Science 33, 1-24). The likelihood of a row is

    Gamma(r+x)/Gamma(r) alpha^r beta^s { (alpha+T)^-(r+x) (beta+T)^-s + s * integral over u in [recency, T] of
    (alpha+u)^-(r+x) (beta+u)^-(s+1) }.

The integral is done by Gauss-Legendre panels in log time; the difference of 2F1 functions in the textbooks loses its
digits for many purchases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.special import digamma, gammaln

from crmresearch.estimators.lifetime import purchases
from crmresearch.estimators.lifetime.base import Array, Likelihood
from crmresearch.estimators.lifetime.purchases import PurchaseFitter, log_count
from crmresearch.estimators.lifetime.summary import collapse, levels_of

BLOCK = 512  # rows at a time: with 16 nodes 64 kB a table, so that a block's working set stays in the cache
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
NODES, NODE_WEIGHTS = 0.5 * (NODES + 1), 0.5 * NODE_WEIGHTS
STEEP, WIDE = 14.0, 4.0  # longest panel: the integrand falls by at most e^-14, time grows by at most e^4


class ParetoNBDFitter(PurchaseFitter):
    """Pareto/NBD model.

    Estimated by maximum likelihood with exact gradients; equal rows are counted once. After :meth:`fit` the model
    carries ``params_`` (r, alpha, s, beta; alpha and beta in the unit of T), ``log_likelihood_``, ``aic_``,
    ``standard_errors_``, ``variance_matrix_``, ``confidence_intervals_``, ``summary`` and ``n_``. s and beta are often
    weakly identified: their intervals say so.
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta")

    def _begin(self, age: float, gap: float) -> list[float]:
        return [0.5, 0.35 * gap, 0.5, 0.5 * age]

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        x, t_x, age = columns
        levels, place = levels_of(x)
        count, total = np.bincount(place, weights), weights.sum()

        def likelihood(theta: Array) -> tuple[float, Array]:
            r, alpha, s, beta = np.exp(theta)
            value: Any = 0.0
            slopes = np.zeros(4)
            for i in range(0, len(x), BLOCK):
                part = slice(i, i + BLOCK)
                w = weights[part]
                rows, by = _rows(x[part], t_x[part], age[part], r, alpha, s, beta)
                value += w @ rows
                slopes += [w @ d for d in by]
            value += count @ (gammaln(r + levels) - gammaln(r))
            slopes[0] += r * (count @ (digamma(r + levels)) - total * digamma(r))
            return float(value), slopes

        return likelihood

    # -- prediction ----------------------------------------------------------------------------------------------------
    def _updated(self, x: Any, age: Any) -> tuple[Any, ...]:
        r, alpha, s, beta = self._values()
        return r + x, alpha + age, s, beta + age

    def _alive(self, x: Array, t_x: Array, age: Array) -> Array:
        r, alpha, s, beta = self._values()
        full = np.broadcast_arrays(x, t_x, age)
        (x1, t1, age1), _, place = collapse([np.ravel(v).astype(np.float64) for v in full], inverse=True)
        log_dead = np.empty(len(x1))
        for i in range(0, len(x1), BLOCK):
            part = slice(i, i + BLOCK)
            log_dead[part] = _log_dead(x1[part], t1[part], age1[part], r, alpha, s, beta)
        with np.errstate(over="ignore"):  # infinite odds mean probability 0
            alive: Array = (1 / (1 + np.exp(log_dead)))[place].reshape(full[0].shape)
        return alive

    def _expected(self, t: Any, *shape: Any) -> Any:
        r, alpha, s, beta = shape
        return r / alpha * expected_life(t, s, beta)

    def _chances(self, t: Array, n: Array, *shape: Any) -> Any:
        """Alive with n purchases at t, or dropped out at u < t with n purchases by then (integrated over log time)."""
        r, alpha, s, beta = shape
        out = np.exp(log_count(n, t, r, alpha) + s * np.log(beta / (beta + t)))
        smaller = np.minimum(alpha, beta)
        reach = np.log1p(t / smaller)
        for node, weight in zip(purchases.NODES, purchases.NODE_WEIGHTS, strict=True):
            v = 0.5 * reach * (node + 1)
            u = smaller * np.expm1(v)
            density = np.log(s) + s * np.log(beta) - (s + 1) * np.log(beta + u)
            out = out + 0.5 * reach * weight * smaller * np.exp(v + density + log_count(n, u, r, alpha))
        return out

    def _discounted(self, force: float, *shape: Any) -> Any:
        r, alpha, s, beta = shape
        (beta1,), _, place = collapse([np.ravel(beta).astype(np.float64)], inverse=True)
        return r / alpha * discounted_life(force, s, beta1)[place].reshape(np.shape(beta))


class NBDFitter(PurchaseFitter):
    """NBD model: purchases without dropout, the benchmark a model of dropout has to beat.

    Its log-likelihood is that of the purchase times, so it compares with BG/NBD and Pareto/NBD.
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha")

    def _begin(self, age: float, gap: float) -> list[float]:
        return [0.5, 0.5 * gap]

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        x, _, age = columns
        total = weights.sum()

        def likelihood(theta: Array) -> tuple[float, Array]:
            r, alpha = np.exp(theta)
            log_end = np.log(alpha + age)
            value = weights @ (gammaln(r + x) - (r + x) * log_end) + total * (r * np.log(alpha) - gammaln(r))
            by_r = weights @ (digamma(r + x) - log_end) + total * (np.log(alpha) - digamma(r))
            by_alpha = total * r / alpha - weights @ ((r + x) / (alpha + age))
            return float(value), np.array([by_r * r, by_alpha * alpha])

        return likelihood

    def _updated(self, x: Any, age: Any) -> tuple[Any, ...]:
        r, alpha = self._values()
        return r + x, alpha + age

    def _alive(self, x: Array, t_x: Array, age: Array) -> Array:
        return np.ones(np.shape(x))

    def _expected(self, t: Any, *shape: Any) -> Any:
        r, alpha = shape
        return t * r / alpha

    def _chances(self, t: Array, n: Array, *shape: Any) -> Any:
        return np.exp(log_count(n, t, *shape))

    def _discounted(self, force: float, *shape: Any) -> Any:
        r, alpha = shape
        return r / alpha / force


def _integrals(x: Array, t_x: Array, age: Array, r: float, alpha: Any, s: float, beta: Any) -> tuple[Array, ...]:
    """Logarithm of the dropout integral, and means under its integrand.

    With P the smaller of alpha and beta, D the difference over P + recency and v = log((P+u)/(P+recency)) the integrand
    is (P+recency)^-(r+x+s) exp(-(r+x+s) v) (1 + D exp(-v))^-e, e being the exponent that belongs to the larger one.

    Returns log integral and the means of log(alpha+u), 1/(alpha+u), log(beta+u), 1/(beta+u).
    """
    low = alpha <= beta
    base = np.where(low, alpha, beta) + t_x
    gap = np.abs(beta - alpha) / base
    fall, other = r + x + s, np.where(low, s + 1, r + x)
    reach = np.log1p((age - t_x) / base)
    longest = np.minimum(STEEP / fall, WIDE)
    sums, begin = np.zeros((5, len(x))), np.zeros(len(x))
    top = -other * np.log1p(gap)  # log integrand at v = 0, up to the constant
    share = np.where(reach > 0, reach, 1.0)
    rows: Any = slice(None)  # one panel serves most rows; the others come back until nothing is left to add
    while True:
        size = np.minimum(longest[rows], reach[rows] - begin[rows])
        v = NODES[:, None] * size
        v += begin[rows]
        shrink = np.exp(-v)
        wide = gap[rows] * shrink
        wide += 1.0
        log_wide = np.log(wide)
        f = np.exp(-fall[rows] * v - other[rows] * log_wide - top[rows])
        f *= NODE_WEIGHTS[:, None] * np.where(reach[rows] > 0, size / share[rows], 1.0)
        added = f.sum(axis=0)
        sums[0, rows] += added
        sums[1, rows] += np.einsum("ij,ij->j", f, v)
        sums[3, rows] += np.einsum("ij,ij->j", f, log_wide)
        f *= shrink
        sums[2, rows] += f.sum(axis=0)
        f /= wide
        sums[4, rows] += f.sum(axis=0)
        begin[rows] += size
        more = (begin[rows] < reach[rows] * (1 - 1e-15)) & (added > 1e-17 * sums[0, rows])
        rows = np.flatnonzero(more) if isinstance(rows, slice) else rows[more]
        if not rows.size:
            break
    means = sums[1:] / sums[0]
    log_base = np.log(base)
    with np.errstate(divide="ignore"):  # recency = T: nothing to integrate
        log_integral = np.log(reach) + np.log(sums[0]) + top - fall * log_base
    small, large = (log_base + means[0], means[1] / base), (log_base + means[0] + means[2], means[3] / base)
    return (
        log_integral,
        np.where(low, small[0], large[0]),
        np.where(low, small[1], large[1]),
        np.where(low, large[0], small[0]),
        np.where(low, large[1], small[1]),
    )


def _log_dead(x: Array, t_x: Array, age: Array, r: float, alpha: Any, s: float, beta: Any) -> Array:
    """Log odds of having dropped out by T."""
    log_integral = _integrals(x, t_x, age, r, alpha, s, beta)[0]
    out: Array = np.log(s) + log_integral + (r + x) * np.log(alpha + age) + s * np.log(beta + age)
    return out


def _rows(x: Array, t_x: Array, age: Array, r: float, alpha: Any, s: float, beta: Any) -> tuple[Array, list[Array]]:
    """Log-likelihood of each row without its gamma terms, and derivatives by log r, log alpha, log s, log beta."""
    log_integral, log_a, over_a, log_b, over_b = _integrals(x, t_x, age, r, alpha, s, beta)
    end_a, end_b = alpha + age, beta + age
    log_end_a, log_end_b = np.log(end_a), np.log(end_b)
    log_alive = -(r + x) * log_end_a - s * log_end_b
    with np.errstate(over="ignore"):
        alive = 1 / (1 + np.exp(np.log(s) + log_integral - log_alive))
    dead = 1 - alive
    value = np.logaddexp(log_alive, np.log(s) + log_integral) + r * np.log(alpha) + s * np.log(beta)
    by_r = np.log(alpha) - alive * log_end_a - dead * log_a
    by_alpha = r / alpha - (r + x) * (alive / end_a + dead * over_a)
    by_s = np.log(beta) - alive * log_end_b + dead * (1 / s - log_b)
    by_beta = s / beta - alive * s / end_b - dead * (s + 1) * over_b
    return value, [r * by_r, alpha * by_alpha, s * by_s, beta * by_beta]


def expected_life(t: Any, s: Any, beta: Any) -> Any:
    """Expected time alive in the next ``t``, dropout rate gamma(s, beta): beta/(s-1) [1 - (beta/(beta+t))^(s-1)]."""
    grown = np.log1p(t / beta)
    power = (s - 1) * grown
    near = np.abs(power) < 1e-8
    return beta * grown * np.where(near, 1 - power / 2, -np.expm1(-power) / np.where(near, 1.0, power))


def discounted_life(force: float, s: Any, beta: Any) -> Any:
    """Expected discounted time alive, dropout rate gamma(s, beta): beta * z^(s-1) Psi(s, s; z) with z = force * beta.

    Psi is Tricomi's function. It is integrated as exp(-z (e^v - 1)) e^(v(1-s)), because scipy's hyperu loses digits
    here.
    """
    z = force * np.asarray(beta, dtype=np.float64)
    reach = np.log1p(40.0 / z)  # beyond, the discount factor is below e^-40
    out = np.zeros(z.shape)
    for node, weight in zip(purchases.NODES, purchases.NODE_WEIGHTS, strict=True):
        v = 0.5 * reach * (node + 1)
        out += 0.5 * reach * weight * np.exp(-z * np.expm1(v) + (1 - s) * v)
    return beta * out
