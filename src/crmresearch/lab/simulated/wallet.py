"""What customers hold at other banks, what the bank guesses of it, and what its offers bring in.

A dose works for a year, an offer of development for good. Neither depends on exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crmresearch.lab.simulated.campaigns import DOSES, EFFECT_MONTHS, campaign_months
from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import BLOCK, Settings

BANDS = ("low", "middle", "high")  # of value: by balance at the end of the month before the doses
EDGES = (15_000, 30_000)  # between them; who is below the first costs more than he brings
SPREAD = 0.8  # standard deviation of the log of what is held elsewhere
NOISE = 0.5  # ... of the log of the bank's guess, given what is held


def elsewhere(s: Settings, block: int) -> tuple[Array, Array]:
    """Return what each customer holds elsewhere, which nobody sees, and the bank's guess of it."""
    held, guess = stream(s, "wallet", block).standard_normal((2, BLOCK))
    outside = s.parameters.outside_median * np.exp(SPREAD * held)
    return outside, outside * np.exp(NOISE * guess)


def bands(log_balance: Array) -> Array:
    """Value band by the log of a balance."""
    return np.searchsorted(np.log(EDGES), log_balance, side="right")


def dose_shares(p: Any) -> Array:
    """Band x dose: share of what is held elsewhere that comes in for a year."""
    costs = np.array([0.0, *(p.dose_costs[d] for d in DOSES[1:])])
    return np.outer([p.dose_wallet[b] for b in BANDS], 1 - np.exp(-costs / p.dose_scale))


def acts(p: Any) -> bool:
    """Whether any offer brings in balances."""
    return bool(p.offer_wallet or any(p.dose_wallet.values()))


def with_offers(
    s: Settings, block: int, log_balance: Array, arms: Mapping[str, Array], willing: Mapping[str, Array]
) -> Array:
    """Add what offers bring in to log balances, customer x month, of which the first is the month before the window.

    ``willing`` says by campaign, ``develop`` and ``dose``, who can be reached.
    """
    p, at = s.parameters, campaign_months(s.months)
    if not acts(p):
        return log_balance
    outside, _ = elsewhere(s, block)
    month, gained = np.arange(-1, s.months), np.zeros(log_balance.shape)
    share = dose_shares(p)[bands(log_balance[:, at["dose"]]), arms["dose"]] * willing["dose"]
    gained += share[:, None] * ((month >= at["dose"]) & (month < at["dose"] + EFFECT_MONTHS))
    gained += (p.offer_wallet * arms["develop"] * willing["develop"])[:, None] * (month >= at["develop"])
    return np.asarray(log_balance + np.log1p(gained * outside[:, None] * np.exp(-log_balance)))
