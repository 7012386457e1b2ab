"""Priority above a threshold of the balance: who lifts himself over it, and who is asked more often."""

from __future__ import annotations

import numpy as np

from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.settings import Settings

REACH = 0.20  # log balance below the threshold from which customers lift themselves over it
OVER = 0.02  # ... and to how far above
NEAR = 0.5  # log balance on either side within which more are asked


def lifted_over(s: Settings, block: int, log_balance: Array, service: Array) -> Array:
    """Let some of those just below the threshold lift themselves over it: those well served more often."""
    from scipy.special import ndtr

    p, cut = s.parameters, np.log(s.parameters.vip_threshold)
    if p.bunching == 0:
        return log_balance
    lot, over = stream(s, "lifting", block).random((2, len(service)))
    lifts = (lot < 2 * p.bunching * ndtr(service))[:, None] & (log_balance < cut) & (log_balance > cut - REACH)
    return np.where(lifts, cut + OVER * over[:, None], log_balance)


def asked_share(s: Settings, log_balance: Array) -> Array:
    """Share of customers who are asked, by their balance at the end of the month before."""
    p = s.parameters
    near = np.abs(log_balance - np.log(p.vip_threshold)) <= NEAR
    return np.where(near & (p.survey_near > 0), p.survey_near, p.survey_share)


def since(vip: Array, left: Array) -> Array:
    """Month since which each customer has had priority, at some time; infinite where never."""
    first = vip.argmax(axis=1)
    return np.where(vip.any(axis=1) & (first < left), first, np.inf)
