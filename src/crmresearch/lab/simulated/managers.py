"""Managers of relationships: able ones use the system more, so that use looks better than it is between managers."""

from __future__ import annotations

import numpy as np

from crmresearch.lab.simulated.columns import Block, Codes, month_starts
from crmresearch.lab.simulated.life import Life
from crmresearch.lab.simulated.markets import city_tiers
from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import Settings
from crmresearch.lab.simulated.shocks import persistent

SPREAD = 0.3  # standard deviation of hours of use, as a share of their mean


def draw_managers(s: Settings) -> tuple[Array, Array]:
    """Return the ability of each city's manager, and the use of the system by month, both standardised."""
    g, shape, rho = stream(s, "managers", 0), (len(city_tiers(s)), s.months), s.parameters.use_follows_ability
    ability = g.standard_normal(shape[0])
    use = rho * ability[:, None] + np.sqrt(1 - rho**2) * persistent(g.standard_normal(shape))
    return ability, use


def managed_margin(s: Settings, life: Life) -> Array | float:
    """Log margin, customer x month, that a manager adds for those he looks after."""
    p = s.parameters
    if not (p.ability_margin or p.use_margin):
        return 0.0
    ability, use = draw_managers(s)
    by_city = p.ability_margin * ability[:, None] + p.use_margin * use
    return np.asarray(by_city[life.people.city] * life.managed[:, None])


def managers(s: Settings) -> Block:
    """Build the table of managers: hours of use by month."""
    _, use = draw_managers(s)
    manager, month = (a.ravel() for a in np.indices(use.shape))
    return {
        "manager_id": Codes(manager, [f"M{i + 1:03d}" for i in range(len(use))]),
        "month": month_starts(s.months)[month],
        "crm_use": np.round(np.maximum(s.parameters.crm_hours * (1 + SPREAD * use), 0), 2).ravel(),
    }
