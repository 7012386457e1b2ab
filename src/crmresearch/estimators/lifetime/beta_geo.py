"""BG/NBD and MBG/NBD: purchases while alive are Poisson, dropout happens right after a purchase.

Purchase rates are gamma(r, rate alpha) over customers, dropout probabilities beta(a, b). In BG/NBD a customer may drop
out after each repeat purchase (Fader, Hardie and Lee 2005, Marketing Science 24, 275-284); in MBG/NBD already after the
first purchase too (Batislam, Denizel and Filiztekin 2007). One code serves both: ``x + shift`` coins have been
survived, with shift 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betaln, digamma, gammaln, hyp2f1

from crmresearch.errors import InputError
from crmresearch.estimators.lifetime.base import Array, Likelihood
from crmresearch.estimators.lifetime.purchases import NODE_WEIGHTS, NODES, PurchaseFitter, log_count
from crmresearch.estimators.lifetime.summary import collapse, column, levels_of

BLOCK = 8192  # doubles: 64 kB a column, so that a block's working set stays in the cache


class BetaGeoFitter(PurchaseFitter):
    """Beta-geometric/NBD model.

    Estimated by maximum likelihood with exact gradients; equal rows are counted once. After :meth:`fit` the model
    carries ``params_`` (r, alpha, a, b; alpha in the unit of T), ``log_likelihood_``, ``aic_``, ``standard_errors_``,
    ``variance_matrix_``, ``confidence_intervals_``, ``summary`` and ``n_`` (customers).
    """

    _names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    _shift: ClassVar[int] = 0

    def _begin(self, age: float, gap: float) -> list[float]:
        return [0.5, 0.5 * gap, 1.0, 3.0]

    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        x, t_x, age = columns
        levels, place = levels_of(x)
        count = np.bincount(place, weights, len(levels))
        total, survived = weights.sum(), levels + self._shift
        coin = survived > 0  # customers of BG/NBD without a repeat purchase have tossed none
        never = ~coin[place]
        age0, weights0 = age[never], weights[never]
        if never.any():
            x, t_x, age, weights = (v[~never] for v in (x, t_x, age, weights))
            place = place[~never]

        def likelihood(theta: Array) -> tuple[float, Array]:
            r, alpha, a, b = np.exp(theta)
            before = np.where(coin, b + survived - 1, 1.0)
            odds, inverse = np.log(a / before), 1.0 / before
            value = -r * (weights0 @ np.log(age0 + alpha))
            slope_r, slope_alpha, dead_all, dead_b = value / r, -r * (weights0 @ (1.0 / (age0 + alpha))), 0.0, 0.0
            for i in range(0, len(x), BLOCK):
                part = slice(i, i + BLOCK)
                w, k = weights[part], place[part]
                power = x[part] + r
                end, gone = age[part] + alpha, t_x[part] + alpha
                log_end, log_gone = np.log(end), np.log(gone)
                log_ratio = log_end - log_gone
                start = odds.take(k)
                # z = start + power * log_ratio: log odds of having dropped out at the last purchase; never far below 0
                rest = np.exp(-start - power * log_ratio)
                rest += 1.0
                value += w @ (start - power * log_gone + np.log(rest))
                dead = w / rest
                slope_r += dead @ log_ratio - w @ log_end
                in_time = power / end
                slope_alpha -= w @ in_time + dead @ (power / gone - in_time)
                dead_all += dead.sum()
                dead_b += dead @ inverse.take(k)
            tables = gammaln(r + levels) - gammaln(r) + betaln(a, b + survived) - betaln(a, b)
            value += count @ tables + total * r * np.log(alpha)
            slope_r += count @ (digamma(r + levels) - digamma(r)) + total * np.log(alpha)
            slope_alpha += total * r / alpha
            both = digamma(a + b) - digamma(a + b + survived)
            slope_a = count @ both + dead_all / a
            slope_b = count @ (both + digamma(b + survived) - digamma(b)) - dead_b
            return float(value), np.array([slope_r * r, slope_alpha * alpha, slope_a * a, slope_b * b])

        return likelihood

    # -- prediction ----------------------------------------------------------------------------------------------------
    def _updated(self, x: Any, age: Any) -> tuple[Any, ...]:
        r, alpha, a, b = self._values()
        return r + x, alpha + age, a, b + x + self._shift

    def _alive(self, x: Array, t_x: Array, age: Array) -> Array:
        r, alpha, a, b = self._values()
        survived = x + self._shift
        odds = np.where(survived > 0, a / np.where(survived > 0, b + survived - 1, 1.0), 0.0)
        with np.errstate(over="ignore"):  # an infinite odds means probability 0
            alive: Array = 1 / (1 + odds * np.exp((r + x) * np.log((alpha + age) / (alpha + t_x))))
        return alive

    def conditional_probability_alive(
        self, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, allow_never_repeated: bool = False
    ) -> Any:
        """Probability that a customer with this history is still alive at T.

        Parameters
        ----------
        frequency, recency, T : array_like
            The customer's history.
        allow_never_repeated : bool
            In BG/NBD nobody can drop out before a repeat purchase, so this probability is 1 for every customer without
            one, however long ago. Such rows are refused unless this is True.

        Raises
        ------
        InputError
            Rows without a repeat purchase (BG/NBD only), impossible rows.
        """
        x = column(frequency, "frequency")
        never = int((x == 0).sum())
        if never and not self._shift and not allow_never_repeated:
            raise InputError(
                f"{never} of {x.size} rows have no repeat purchase: BG/NBD calls them alive with probability 1 by "
                "construction, whatever the data. Leave them out, use ModifiedBetaGeoFitter or ParetoNBDFitter, or "
                "pass allow_never_repeated=True if the 1 is what you want"
            )
        return super().conditional_probability_alive(frequency, recency, T)

    def _expected(self, t: Any, *shape: Any) -> Any:
        return expected_purchases(t, *shape)

    def _chances(self, t: Array, n: Array, *shape: Any) -> Any:
        """Alive with n purchases, or dropped out at the n-th while time would have allowed at least n."""
        r, alpha, a, b = shape
        some = np.maximum(n, 1)
        out = np.exp(betaln(a, b + n) - betaln(a, b) + log_count(n, t, r, alpha))
        gone = np.exp(betaln(a + 1, b + some - 1) - betaln(a, b)) * betainc(some, r, t / (alpha + t))
        return out + np.where(n > 0, gone, 0.0)

    def _discounted(self, force: float, *shape: Any) -> Any:
        return discounted_purchases(force, *np.broadcast_arrays(*shape))


class ModifiedBetaGeoFitter(BetaGeoFitter):
    """Modified BG/NBD model: a customer may drop out right after the first purchase too.

    Same methods as :class:`BetaGeoFitter`; here the probability to be alive is below 1 without a repeat purchase as
    well.
    """

    _shift: ClassVar[int] = 1


@np.errstate(all="ignore")  # what is not finite goes the second way, or is refused by the caller
def expected_purchases(t: Any, r: Any, alpha: Any, a: Any, b: Any) -> Any:
    """Expected purchases in t of an alive customer: rate gamma(r, alpha), a beta(a, b) coin after each purchase.

    (a+b-1)/(a-1) [1 - 2F1(r, a-1; a+b-1; -t/alpha)], with Pfaff's transformation, which keeps every argument of 2F1
    small whatever the number of purchases (the textbook form overflows at a few hundred). Near the removable
    singularities a = 1 and a + b = 1 the purchase rate is integrated instead.
    """
    t, r, alpha, a, b = np.broadcast_arrays(t, r, alpha, a, b)
    c = a + b - 1
    y = t / alpha
    out = c / (a - 1) * (1 - (1 + y) ** (1 - a) * hyp2f1(c - r, a - 1, c, y / (1 + y)))
    poor = (np.abs(a - 1) < 1e-2) | (np.abs(c) < 1e-3) | (y < 1e-3) | ~np.isfinite(out)
    if poor.any():
        out = np.array(out)
        out[poor] = _integrated(y[poor], r[poor], a[poor], b[poor])
    return out


def _rate(y: Any, r: Any, a: Any, b: Any) -> Any:
    """Expected purchases per unit of y = time / alpha at y: r 2F1(r+1, a; a+b; -y)."""
    return r * (1 + y) ** -a * hyp2f1(a + b - r - 1, a, a + b, y / (1 + y))


def _integrated(y: Array, r: Array, a: Array, b: Array) -> Array:
    v = np.log1p(y)  # the rate falls like a power of 1 + y
    out = np.zeros(y.shape)
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        at = 0.5 * v * (node + 1)
        out += 0.5 * v * weight * np.exp(at) * _rate(np.expm1(at), r, a, b)
    return out


def discounted_purchases(force: float, r: Array, alpha: Array, a: Array, b: Array) -> Array:
    """Discounted purchases of an alive customer to infinity; one integral per distinct posterior."""
    flat = [np.ravel(v).astype(np.float64) for v in (r, alpha, a, b)]
    (r1, alpha1, a1, b1), _, place = collapse(flat, inverse=True)
    speed = force * alpha1
    reach = np.log1p(40.0 / speed)  # beyond, the discount factor is below e^-40
    out = np.zeros(len(r1))
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        v = 0.5 * reach * (node + 1)
        y = np.expm1(v)
        out += 0.5 * reach * weight * np.exp(v - speed * y) * _rate(y, r1, a1, b1)
    return out[place].reshape(np.shape(r))
