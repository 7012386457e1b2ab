"""Lifetime models: two routes to one number, and discounting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from crmresearch.errors import InputError
from crmresearch.estimators import lifetime as lt
from crmresearch.estimators.lifetime import beta_geo, pareto_nbd

BG = {"r": 0.6, "alpha": 8.0, "a": 0.8, "b": 2.5}
PARETO = {"r": 0.6, "alpha": 8.0, "s": 0.7, "beta": 30.0}
WEEKLY = lt.Discounting(0.12, 52)


@pytest.fixture(scope="module")
def some() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency, recency and T of 300 possible histories in weeks."""
    rng = np.random.default_rng(5)
    x = rng.poisson(rng.gamma(0.6, 5, 300)).astype(float)
    age = np.ceil(rng.uniform(40, 80, 300))
    return x, np.where(x > 0, np.ceil(age * rng.beta(1 + x, 1)), 0.0), age


# -- two routes, one number --------------------------------------------------------------------------------------------
def bg_rows(
    x: np.ndarray, t_x: np.ndarray, age: np.ndarray, r: float, alpha: float, a: float, b: float, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood of each row of BG/NBD (shift 0) or MBG/NBD (1), and its derivatives by the logs of parameters."""
    survived = x + shift
    coin = survived > 0
    before = np.where(coin, b + survived - 1, 1.0)
    end, gone = age + alpha, t_x + alpha
    z = np.where(coin, np.log(a / before) + (r + x) * np.log(end / gone), -np.inf)
    dead = 1 / (1 + np.exp(-z))
    value = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha) - (r + x) * np.log(end)
    value = value + special.betaln(a, b + survived) - special.betaln(a, b) + np.logaddexp(0, z)
    psi = special.digamma
    by_r = psi(r + x) - psi(r) + np.log(alpha) - np.log(end) + dead * np.log(end / gone)
    by_alpha = r / alpha - (r + x) * ((1 - dead) / end + dead / gone)
    both = psi(a + b) - psi(a + b + survived)
    by_b = both + psi(b + survived) - psi(b) - dead * coin / before
    return value, np.array([by_r * r, by_alpha * alpha, (both + dead / a) * a, by_b * b])


def test_bg_nbd_rows_by_tables_and_one_by_one(some: tuple) -> None:
    columns = list(some)
    for model in (lt.BetaGeoFitter(), lt.ModifiedBetaGeoFitter()):
        theta = np.log(list(BG.values()))
        fast = model._likelihood(columns, np.ones(300))(theta)
        rows, slopes = bg_rows(*columns, *np.exp(theta), model._shift)
        assert fast[0] == pytest.approx(rows.sum(), rel=1e-12)
        assert fast[1] == pytest.approx(slopes.sum(axis=1), rel=1e-10)


@pytest.mark.parametrize(
    "shape", [(0.6, 8.0, 0.8, 2.5), (3.6, 40.0, 1.4, 5.5), (0.6, 8.0, 0.3, 0.7), (2.0, 8.0, 1.0, 2.0)]
)
def test_bg_nbd_expectation_by_2f1_by_integral_and_by_probabilities(shape: tuple) -> None:
    r, alpha, a, b = shape
    for t in (0.01, 5.0, 60.0, 900.0):
        textbook = (a + b - 1) / (a - 1) if a != 1 and a + b != 1 else None

        def of_coin(p: float, t: float = t) -> float:  # purchases in t of customers with dropout probability p
            return -np.expm1(-r * np.log1p(p * t / alpha)) / p if p > 0 else r * t / alpha

        density = 1 / special.beta(a, b)
        numeric = density * integrate.quad(of_coin, 0, 1, weight="alg", wvar=(a - 1, b - 1), limit=200, epsrel=1e-11)[0]
        ours = float(beta_geo.expected_purchases(t, r, alpha, a, b))
        assert ours == pytest.approx(numeric, rel=1e-8)
        if textbook is not None:
            z = t / (alpha + t)
            known = textbook * (1 - (alpha / (alpha + t)) ** r * special.hyp2f1(r, b, a + b - 1, z))
            assert ours == pytest.approx(known, rel=1e-9)
    model = lt.BetaGeoFitter.from_params(r=r, alpha=alpha, a=a, b=b)
    chances = model.probability_of_n_purchases_up_to_time(10.0, np.arange(400))
    assert chances.sum() == pytest.approx(1, abs=1e-9)
    assert chances @ np.arange(400) == pytest.approx(model.expected_number_of_purchases_up_to_time(10.0), rel=1e-9)


def test_conditional_probabilities_agree_with_expectations() -> None:
    n = np.arange(300)
    for model in (
        lt.BetaGeoFitter.from_params(BG),
        lt.ModifiedBetaGeoFitter.from_params(BG),
        lt.ParetoNBDFitter.from_params(PARETO),
    ):
        chances = model.conditional_probability_of_n_purchases_up_to_time(n, 20.0, 4, 18.0, 30.0)
        ahead = model.conditional_expected_number_of_purchases_up_to_time(20.0, 4, 18.0, 30.0)
        assert chances.sum() == pytest.approx(1, abs=1e-9)
        assert chances @ n == pytest.approx(ahead, rel=1e-9)
        new = model.probability_of_n_purchases_up_to_time(20.0, n)
        assert new.sum() == pytest.approx(1, abs=1e-9)
        assert new @ n == pytest.approx(model.expected_number_of_purchases_up_to_time(20.0), rel=1e-9)


@pytest.mark.parametrize("shape", [(0.55, 10.6, 0.6, 11.7), (0.55, 10.6, 0.6, 2.0), (2.0, 5.0, 1.5, 400.0)])
@pytest.mark.parametrize(("x", "t_x", "age"), [(0, 0, 39), (3, 20, 39), (26, 30.8, 31), (25, 5, 39), (150, 20, 39)])
def test_pareto_nbd_integral_against_2f1_and_quad(shape: tuple, x: float, t_x: float, age: float) -> None:
    r, alpha, s, beta = shape
    one = [np.array([float(v)]) for v in (x, t_x, age)]
    log_integral, *means = (float(v[0]) for v in pareto_nbd._integrals(*one, r, alpha, s, beta))
    scale = (r + x) * np.log(alpha + t_x) + (s + 1) * np.log(beta + t_x)
    cut = [t_x + (age - t_x) * f for f in (0.001, 0.01, 0.1, 0.3)]

    def quad(f) -> float:
        def weighted(u: float) -> float:
            return f(u) * np.exp(scale - (r + x) * np.log(alpha + u) - (s + 1) * np.log(beta + u))

        return integrate.quad(weighted, t_x, age, points=cut, epsabs=0, epsrel=1e-11, limit=200)[0]

    whole = quad(lambda u: 1.0)
    assert log_integral == pytest.approx(np.log(whole) - scale, abs=1e-11)
    functions = [
        lambda u: np.log(alpha + u),
        lambda u: 1 / (alpha + u),
        lambda u: np.log(beta + u),
        lambda u: 1 / (beta + u),
    ]
    for mean, f in zip(means, functions, strict=True):
        assert mean == pytest.approx(quad(f) / whole, rel=1e-11)
    if x < 20 and alpha <= beta:  # the textbook's difference of 2F1 still has digits here
        k = r + s + x

        def textbook(u: float) -> float:
            return special.hyp2f1(k, r + x, k + 1, (beta - alpha) / (beta + u)) / ((beta + u) ** k * k)

        assert np.exp(log_integral) == pytest.approx(textbook(t_x) - textbook(age), rel=1e-6)


def test_residual_transactions_are_the_limit_of_discounted_sums() -> None:
    x, t_x, age = np.array([0, 4, 20]), np.array([0, 25.0, 39.0]), np.array([39.0, 39.0, 39.0])
    weeks = np.concatenate(
        [np.linspace(0, 500, 5_001), np.geomspace(500.5, 20_000, 4_000)]
    )  # discounted by e^-43 there
    for model in (
        lt.BetaGeoFitter.from_params(BG),
        lt.ModifiedBetaGeoFitter.from_params(BG),
        lt.ParetoNBDFitter.from_params(PARETO),
    ):
        closed = model.discounted_expected_residual_transactions(WEEKLY, x, t_x, age)
        for i in range(3):
            ahead = model.conditional_expected_number_of_purchases_up_to_time(weeks, x[i], t_x[i], age[i])
            middle = WEEKLY.at(0.5 * (weeks[1:] + weeks[:-1]))
            assert closed[i] == pytest.approx(middle @ np.diff(ahead), rel=1e-6)  # midpoints of short steps
    for z, s in ((0.03, 0.6), (0.5, 1.4), (4.0, 0.9)):  # Tricomi's function where scipy has its digits
        tricomi = z ** (s - 1) * special.hyperu(s, s, z)
        assert float(pareto_nbd.discounted_life(z, s, 1.0)) == pytest.approx(tricomi, rel=1e-8)


def test_bg_bb_closed_forms() -> None:
    model = lt.BetaGeoBetaBinomFitter.from_params(alpha=1.2, beta=0.75, gamma=0.66, delta=2.8)
    alpha, beta, gamma, delta = model.params_
    n, m = 6.0, 5
    frame = [(x, last) for last in range(7) for x in range(min(last, 1), last + 1)]
    x, last = (np.array(v, dtype=float) for v in zip(*frame, strict=True))
    likelihood = np.exp(model._log_rows(x, last, np.full(len(x), n)))
    ways = special.comb(np.maximum(last - 1, 0), np.maximum(x - 1, 0))
    assert ways @ likelihood == pytest.approx(1, abs=1e-12)  # every history of six occasions
    ratio = lambda k: special.gamma(1 + delta + k) / special.gamma(gamma + delta + k)  # noqa: E731
    closed = (
        special.beta(alpha + x + 1, beta + n - x) / special.beta(alpha, beta) / likelihood
        * delta / (gamma - 1) * special.gamma(gamma + delta) / special.gamma(1 + delta) * (ratio(n) - ratio(n + m))
    )  # fmt: skip
    ours = model.conditional_expected_number_of_purchases_up_to_time(m, x, last, np.full(len(x), n))
    assert ours == pytest.approx(closed, rel=1e-10)
    chances = model.probability_of_n_purchases_up_to_time(6, np.arange(7))
    assert chances == pytest.approx([ways[x == k] @ likelihood[x == k] for k in range(7)], rel=1e-10)


def test_contractual_recursion_and_series() -> None:
    fit = lt.ShiftedBetaGeoFitter.from_params(alpha=0.7, beta=1.2)
    weibull = lt.BetaDiscreteWeibullFitter.from_params(gamma=0.7, delta=1.2, c=1.0)
    t = np.arange(1, 30)
    rate = (1.2 + t - 1) / (0.7 + 1.2 + t - 1)
    assert fit.retention_rate(t) == pytest.approx(rate, rel=1e-12)
    assert fit.survival_function(t) == pytest.approx(np.cumprod(rate), rel=1e-12)
    assert weibull.survival_function(t) == pytest.approx(fit.survival_function(t), rel=1e-12)
    assert fit.polarisation() == pytest.approx(1 / 2.9)
    for n in (0, 3):
        closed = special.hyp2f1(1, 1.2 + n, 1.9 + n, 1 / 1.1)
        start, end = lt.Discounting(0.10, 1, "start"), lt.Discounting(0.10, 1, "end")
        assert fit.discounted_expected_lifetime(start, n) == pytest.approx(closed, rel=1e-10)
        assert fit.discounted_expected_lifetime(end, n) == pytest.approx(closed / 1.1, rel=1e-10)
        twice = special.hyp2f1(2, 1.2 + n, 1.9 + n, 1 / 1.1)
        assert fit.retention_elasticity(start, n) == pytest.approx(twice / closed - 1, rel=1e-9)
    alike = lt.ShiftedBetaGeoFitter.from_params(alpha=2e7, beta=8e7)
    assert alike.retention_elasticity(start) == pytest.approx(0.8 / (1.1 - 0.8), rel=1e-5)
    assert alike.discounted_expected_lifetime(start) == pytest.approx(
        constant_retention_value(1, 0.8, start, "from acquisition"), rel=1e-6
    )


# -- discounting -------------------------------------------------------------------------------------------------------
def constant_retention_value(
    margin: float, retention: float, discounting: lt.Discounting, payments: str = "from acquisition"
) -> float:
    """Value of a customer with one retention rate, in closed form: pays at acquisition; has just paid; at the end."""
    d = discounting.rate()
    numerators = {"from acquisition": 1 + d, "residual": retention, "period end": 1.0}
    return margin * numerators[payments] / (1 + d - retention)


def test_three_discounting_formulas() -> None:
    monthly = lt.Discounting(0.10, 12)
    assert monthly.rate() == pytest.approx(1.10 ** (1 / 12) - 1, rel=1e-14)
    assert monthly.rate(12) == pytest.approx(0.10, rel=1e-14)
    assert monthly.force == pytest.approx(np.log(1.10) / 12, rel=1e-14)
    for timing, when in (("start", [0, 1, 2]), ("mid", [0.5, 1.5, 2.5]), ("end", [1, 2, 3])):
        factors = lt.Discounting(0.10, 12, timing).factors(3)
        assert factors == pytest.approx(1.10 ** (-np.array(when) / 12), rel=1e-14)
    for bad, message in (((-0.1,), "annual_rate"), ((0.1, 0), "units_per_year"), ((0.1, 1, "later"), "timing")):
        with pytest.raises(InputError, match=message):
            lt.Discounting(*bad)


def test_three_timelines_of_a_constant_retention_rate() -> None:
    d, r, m = 0.12, 0.85, 40.0
    yearly = lt.Discounting(d)
    k = np.arange(2000)
    assert constant_retention_value(m, r, yearly) == pytest.approx(m * (r / (1 + d)) ** k @ np.ones(2000))
    residual = constant_retention_value(m, r, yearly, "residual")
    assert residual == pytest.approx(m * (r / (1 + d)) ** k[1:] @ np.ones(1999))
    end = constant_retention_value(m, r, yearly, "period end")
    assert end == pytest.approx(m * (r**k / (1 + d) ** (k + 1)).sum())
    monthly = constant_retention_value(m, 0.99, lt.Discounting(d, 12))
    assert monthly == pytest.approx(m * (0.99 / 1.12 ** (1 / 12)) ** np.arange(20_000) @ np.ones(20_000))


def test_clv_is_the_sum_of_its_months(some: tuple) -> None:
    columns = list(some)
    worth = np.linspace(-5, 50, 300)
    nbd = lt.NBDFitter.from_params(r=0.6, alpha=8.0)
    for model in (lt.BetaGeoFitter.from_params(BG), lt.ParetoNBDFitter.from_params(PARETO), nbd):
        for timing, shift in (("start", 1.0), ("mid", 0.5), ("end", 0.0)):
            discounting = lt.Discounting(0.10, 52, timing)
            ours = lt.customer_lifetime_value(model, *columns, worth, discounting, months=18)
            ahead = [np.zeros(300)]
            for i in range(1, 19):
                ahead.append(model.conditional_expected_number_of_purchases_up_to_time(i * 52 / 12, *columns))
            parts = [worth * (ahead[i] - ahead[i - 1]) * 1.1 ** (-(i - shift) / 12) for i in range(1, 19)]
            assert ours == pytest.approx(sum(parts), rel=1e-10, abs=1e-13)
    spend = lt.GammaGammaFitter.from_params(p=6.25, q=3.74, v=15.44)
    money = np.where(columns[0] > 0, 30.0, 0.0)
    bg = lt.BetaGeoFitter.from_params(BG)
    value = spend.customer_lifetime_value(bg, *columns, money, discounting, 12, margin=0.3)
    each = 0.3 * spend.conditional_expected_average_profit(columns[0], money)
    assert value == pytest.approx(lt.customer_lifetime_value(bg, *columns, each, discounting, 12))
    with pytest.raises(InputError, match="months is 0"):
        lt.customer_lifetime_value(bg, *columns, each, discounting, 0)
