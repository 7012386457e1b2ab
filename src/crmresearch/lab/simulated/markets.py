"""Cities of the simulated bank: the staggered entry of rivals, and what it does to market share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crmresearch.lab.simulated.people import stream
from crmresearch.lab.simulated.settings import Settings

Array = NDArray[Any]


def city_tiers(s: Settings) -> Array:
    """Tier of each city, first tier first."""
    cities = s.parameters.cities
    return np.repeat(list(cities), list(cities.values()))


def entry_months(s: Settings) -> Array:
    """Month in which rivals enter each city; infinite where they do not, first-tier cities have always had them.

    The same for every seed: who enters when is a circumstance of the world. Drawn anew with each bank it would move all
    customers of a city together, and no interval that treats customers as independent could cover.
    """
    g, tier = np.random.Generator(np.random.SFC64(20210101)), city_tiers(s)
    enters = g.random(len(tier)) < np.array([s.parameters.rival_share[t] for t in tier])
    # second-tier cities come first; nobody enters in the first or last sixth, so that there is a before and an after
    first = np.where(tier == 2, 1 / 6, 2 / 6) * s.months
    month = np.floor(first + g.random(len(tier)) * (5 / 6 * s.months - first))
    return np.where(enters, month, np.inf)


def rival_months(s: Settings) -> Array:
    """City x month: whether rivals that came within the window are there."""
    return entry_months(s)[:, None] <= np.arange(s.months)[None, :]


def share_loss(s: Settings) -> Array:
    """City x month: points of market share lost to the rivals who entered; builds up over a year."""
    since = np.arange(s.months)[None, :] - entry_months(s)[:, None] + 1
    size = s.parameters.market_share_loss * np.where(city_tiers(s) == 3, 1.0, 0.5)
    return np.asarray(size[:, None] * np.clip(since / 12, 0.0, 1.0))


def rate_gaps(s: Settings) -> Array:
    """City x month: basis points the bank pays more than others there, drawn by lot."""
    lot = stream(s, "rates", 0).integers(-1, 2, (len(city_tiers(s)), s.months))
    return np.asarray(s.parameters.rate_spread * lot)
