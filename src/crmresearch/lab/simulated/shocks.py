"""What moves customers together: trend and season, shocks of the nation, a city, a manager, a household; cities' CRM.

Drawn once per bank, so that they differ from seed to seed, and always all of them, so that a bank without an effect has
the same random numbers. They act from the observation start on; before it they are averaged out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crmresearch.lab.simulated.branches import mean_lift
from crmresearch.lab.simulated.markets import city_tiers, rate_gaps, rival_months
from crmresearch.lab.simulated.people import Array, People, city_weights, stream
from crmresearch.lab.simulated.settings import Settings

PERSISTENCE = 0.7  # of a city's shocks, from month to month
RATE_STEP = 25  # basis points of the rate gap that `rate_exit` is about


@dataclass(frozen=True)
class Shocks:
    """Shocks of one bank; all but the last two in log hazard."""

    nation: Array  # by month: trend, season and shock
    city: Array  # city x month
    risk: Array  # by city, for good
    manager: Array  # by city, which has one
    share: Array  # city x month, of the bank's market share
    intensity: Array  # by city: CRM before the observation starts, standardised


def draw_shocks(s: Settings) -> Shocks:
    """Draw the shocks of a bank."""
    p, g, shape = s.parameters, stream(s, "shocks", 0), (len(city_tiers(s)), s.months)
    month = np.arange(s.months)
    nation = p.nation_shock * g.standard_normal(s.months)
    # around the middle of the window, so that a trend leaves the mean of exits what it is
    nation = nation + p.trend_exit * (month - s.months / 2) / 12 + p.season_exit * np.cos(2 * np.pi * month / 12)
    city, share = (persistent(g.standard_normal(shape)) for _ in range(2))
    risk, manager, other = g.standard_normal((3, shape[0]))
    rho = p.intensity_follows_risk
    intensity = rho * risk + np.sqrt(1 - rho**2) * other
    intensity = (intensity - intensity.mean()) / max(intensity.std(), 1e-12)  # one city has no other to differ from
    return Shocks(
        nation, p.city_shock * city, p.city_risk * risk, p.manager_shock * manager, p.share_shock * share, intensity
    )


def persistent(noise: Array) -> Array:
    """Turn independent shocks into ones that persist, with the same variance."""
    out = noise.copy()
    for m in range(1, noise.shape[1]):
        out[:, m] = PERSISTENCE * out[:, m - 1] + np.sqrt(1 - PERSISTENCE**2) * noise[:, m]
    return out


def common(s: Settings, people: People, managed: Array, block: int) -> Array:
    """Log hazard that customers share with others, customer x month; two neighbours in a block are a household."""
    p, of = s.parameters, draw_shocks(s)
    entered = p.intensity_entry * of.intensity[:, None] * rival_months(s)
    by_city = of.nation + of.city + of.risk[:, None] + entered + p.rate_exit * rate_gaps(s) / RATE_STEP
    household = np.repeat(stream(s, "households", block).standard_normal(-(-len(managed) // 2)), 2)[: len(managed)]
    own = np.where(managed, of.manager[people.city], 0.0) + p.household_shock * household
    return np.asarray(by_city[people.city] + own[:, None])


def realised_trend(s: Settings) -> float:
    """Yearly slope of the log hazard that trend, shocks and branches come to, the month of the year removed."""
    of, tier = draw_shocks(s), city_tiers(s)
    weight = city_weights(tier)
    month = np.arange(s.months)
    y = of.nation + weight @ of.city / weight.sum()
    if s.parameters.branches:
        y = y + s.parameters.satisfaction_exit * mean_lift(s)
    x = np.column_stack([month / 12, month[:, None] % 12 == np.arange(12)])
    return float(np.linalg.lstsq(x, y, rcond=None)[0][0])
