"""Who becomes a customer of the simulated bank: prospects, winning, and surviving until the observation starts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmresearch.lab.simulated.settings import BLOCK, Settings

Array = NDArray[Any]
CHANNELS = ("branch", "online", "agent", "referral")
_PURPOSES = (
    "candidates", "attitudes", "products", "complaints", "balance", "adoption", "campaigns", "exit", "monthly",
    "transactions", "visits", "care", "survey", "choices", "markets", "referrals", "consent", "terms",
    "shocks", "households", "platforms", "counterparties",
    "rates", "declined",
    "wallet", "lots", "offers",
    "branches", "homes", "pulse", "handling", "skills", "lifting",
    "intentions", "lookups", "managers", "types", "benefit", "classes",
    "reactions", "losses",
)  # fmt: skip
_CANDIDATES = 4096  # drawn at a time; the first BLOCK customers among them are kept


def stream(settings: Settings, purpose: str, block: int) -> np.random.Generator:
    """Return the random stream of one purpose and block; streams do not depend on each other or on the chunk size."""
    key = (_PURPOSES.index(purpose), block)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(settings.seed, spawn_key=key)))


@dataclass
class People:
    """Customers of one block and the prospects who were lost; times in months from the observation start."""

    acquired: Array  # negative: before the observation
    channel: Array
    spend: Array
    ease: Array  # unobserved: what made winning easy
    value: Array  # unobserved: log balance, standardised
    service: Array  # unobserved: efficiency of the service this customer meets, standardised
    city: Array
    tier: Array
    age: Array  # at acquisition, years
    frailty: Array
    lost_before: Array  # rank of the customer who follows in the stream, so that a cut block stays coherent
    lost_at: Array
    lost_channel: Array
    lost_spend: Array


def _win_index(parameters: Any, channel: Array, spend: Array) -> Array:
    start = np.array([NormalDist().inv_cdf(parameters.channel_win[c]) for c in CHANNELS])
    s = spend / 100
    return np.asarray(start[channel] + parameters.win_spend * s + parameters.win_spend_squared * s * s)


def fixed_exit(parameters: Any, channel: Array, tier: Array) -> Array:
    """Log hazard ratio of the observed characteristics a customer keeps for good."""
    by_channel = np.array([0.0, parameters.online_exit, parameters.agent_exit, parameters.referral_exit])
    by_tier = np.array([0.0, 0.0, parameters.tier2_exit, parameters.tier3_exit])
    return np.asarray(by_channel[channel] + by_tier[tier])


def effect_factor(parameters: Any, tenure_years: Array) -> Array:
    """Multiplier of the effects of observed covariates; constant except in ``non_proportional``."""
    return np.where(tenure_years < 4.0, parameters.effect_early, parameters.effect_late)


def voluntary_cumulative(parameters: Any, tenure_years: Array) -> Array:
    """Cumulative baseline hazard of voluntary exit."""
    return np.asarray(parameters.voluntary_rate * np.maximum(tenure_years, 0.0) ** parameters.voluntary_shape)


def death_cumulative(parameters: Any, age: Array, years: Array) -> Array:
    """Cumulative hazard of death (Gompertz) over the next ``years``."""
    b = parameters.death_age
    start = parameters.death_rate * np.exp(b * (age - 45.0))
    return np.asarray(start * (years if b == 0 else np.expm1(b * years) / b))


def history_cumulative(
    parameters: Any, tenure: Array, channel: Array, tier: Array, ease: Array, frailty: Array, age: Array
) -> Array:
    """Cumulative hazard of leaving before the observation starts.

    What changes with time (satisfaction, products, rivals ...) is recorded from the observation on, and averaged out
    before it.
    """
    fixed = fixed_exit(parameters, channel, tier)
    early, late = parameters.effect_early, parameters.effect_late
    first = voluntary_cumulative(parameters, np.minimum(tenure, 4.0))
    rest = voluntary_cumulative(parameters, tenure) - first
    voluntary = (
        frailty * np.exp(parameters.ease_exit * ease) * (first * np.exp(early * fixed) + rest * np.exp(late * fixed))
    )
    steady = (parameters.bank_rate + parameters.dormant_rate + parameters.unknown_rate) * tenure
    return np.asarray(voluntary + steady + death_cumulative(parameters, age, tenure))


def standard_age(age: Array) -> Array:
    """Age at acquisition in standard deviations from its mean."""
    return np.asarray((age - 39.0) / 12.1)


def city_weights(tier: Array) -> Array:
    """Weights of cities by tier: larger ones hold more customers."""
    return np.asarray(1.0 / tier**0.5)


def _candidates(settings: Settings, g: np.random.Generator) -> dict[str, Array]:
    p, k = settings.parameters, _CANDIDATES
    acquired = g.uniform(-12.0 * p.history_years, settings.months, k)
    share = np.array([p.channel_share[c] for c in CHANNELS])
    channel = np.searchsorted(np.cumsum(share) / share.sum(), g.random(k), side="right").clip(0, len(CHANNELS) - 1)
    mean = np.array([p.channel_spend[c] for c in CHANNELS])[channel]
    ease, other = g.standard_normal(k), g.standard_normal(k)
    noise = g.standard_normal(k)
    trend = np.exp(p.spend_trend * np.maximum(acquired, 0.0) / 12)
    sd = p.spend_spread
    # in `endogenous_spend` the bank spends where winning looks easy; the mean of spend stays what it is
    follow = p.spend_follows_ease
    spend = mean * trend * np.exp(sd * noise - sd**2 / 2 + follow * ease - follow**2 / 2)
    spend = np.round(spend, 2)
    rho = p.ease_value
    cities = np.repeat(list(p.cities), list(p.cities.values()))
    weight = city_weights(cities)
    city = np.searchsorted(np.cumsum(weight) / weight.sum(), g.random(k), side="right").clip(0, len(cities) - 1)
    age = np.clip(18 + g.gamma(3.0, 7.0, k), 18, 80)
    v = p.frailty_variance
    frailty = g.gamma(1 / v, v, k) if v > 0 else np.ones(k)
    service = g.standard_normal(k)
    # the old are wealthier and the wealthy served better, where traits are correlated at all
    r = p.trait_correlation
    value = r * standard_age(age) + np.sqrt(1 - r**2) * (rho * ease + np.sqrt(1 - rho**2) * other)
    service = r * value + np.sqrt(1 - r**2) * service
    won = _win_index(p, channel, spend) + ease > 0
    tenure = np.maximum(-acquired, 0.0) / 12
    gone = history_cumulative(p, tenure, channel, cities[city], ease, frailty, age)
    alive = g.random(k) < np.exp(-gone)
    return {
        "acquired": acquired, "channel": channel, "spend": spend, "ease": ease,
        "value": value, "service": service, "city": city, "tier": cities[city],
        "age": age, "frailty": frailty, "customer": won & alive, "lost": ~won & (acquired >= 0),
    }  # fmt: skip


def draw_people(settings: Settings, block: int) -> People:
    """Draw the customers of one block.

    Whole lives are drawn, from winning on; who left before the observation starts is dropped. That is where left
    truncation comes from.
    """
    g = stream(settings, "candidates", block)
    batches: list[dict[str, Array]] = []
    found = 0
    while found < BLOCK:
        batches.append(_candidates(settings, g))
        found += int(batches[-1]["customer"].sum())
    c = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    rows = np.flatnonzero(c["customer"])[:BLOCK]
    lost = np.flatnonzero(c["lost"][: rows[-1] + 1])
    keep = {name: c[name][rows] for name in c if name not in ("customer", "lost")}
    return People(
        **keep,
        lost_before=np.searchsorted(rows, lost),
        lost_at=c["acquired"][lost],
        lost_channel=c["channel"][lost],
        lost_spend=c["spend"][lost],
    )
