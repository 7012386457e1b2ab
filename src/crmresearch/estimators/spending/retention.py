"""What a customer, a point of retention and a replacement are worth, at a constant margin and retention rate."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.blocks import Array, Functional

STEP = 1e-6  # of central differences

Timing = Literal["at once", "residual", "end of period"]


def _rates(retention: Any, discount: float) -> Any:
    rate = np.asarray(retention, float)
    if not (np.all((rate >= 0) & (rate <= 1)) and discount >= 0 and np.all(1 + discount - rate > 0)):
        raise InputError(
            f"customer value needs a retention rate from 0 to 1 and 1 + discount above it, not {retention} and "
            f"{discount:g}"
        )
    return rate


def customer_value(margin: float, retention: Any, discount: float, timing: Timing = "at once") -> Any:
    """Value of a customer with a constant margin and retention rate.

    Parameters
    ----------
    margin : float
        Contribution per period.
    retention : float or array
        Share retained per period.
    discount : float
        Discount rate per period.
    timing : {'at once', 'residual', 'end of period'}
        ``at once``: m (1+d) / (1+d-r), the first margin is certain; the ceiling of what winning may cost. ``residual``:
        m r / (1+d-r), the next margin comes if the customer stays. ``end of period``: m / (1+d-r), the first
        margin is certain and comes after one period.

    References
    ----------
    Fader, Hardie (2012). Reconciling and clarifying CLV formulas. Note, brucehardie.com.
    """
    rate = _rates(retention, discount)
    first = {"at once": 1 + discount, "residual": rate, "end of period": 1.0}
    if timing not in first:
        raise InputError(f"timing = {timing!r}: choose one of {', '.join(first)}")
    out = margin * first[timing] / (1 + discount - rate)
    return float(out) if np.ndim(out) == 0 else out


def relative_gain(retention: Array, points: float, discount: float = 0.0, timing: Timing = "end of period") -> Array:
    """Share by which :func:`customer_value` rises with the retention rate; by default expected lifetime does."""
    before, after = (customer_value(1, rate, discount, timing) for rate in (retention, retention + points))
    return np.asarray(after / before - 1)


def elasticities(margin: float, retention: float, discount: float, acquisition_cost: float = 0.0) -> pd.Series:
    """Percent change of a won customer's value, net of the cost of winning, for a 1% improvement.

    Parameters
    ----------
    margin, retention, discount : float
        Per period; the next margin comes if the customer stays (``residual``).
    acquisition_cost : float
        Cost per win, same money.

    Returns
    -------
    Series
        ``retention``, ``margin``, ``discount_rate``, ``acquisition_cost`` (each improvement raises value: costs and
        discount rate fall).

    Notes
    -----
    Without acquisition cost the retention elasticity is (1+i) / (1+i-r). The cost of the extra retention is not in it.

    References
    ----------
    Gupta, Lehmann, Stuart (2004). Valuing customers. *J. Marketing Research* 41, 7-18.
    """
    gross = customer_value(margin, retention, discount, "residual")
    net = gross - acquisition_cost
    if not net > 0:
        raise InputError("value net of acquisition cost is not above zero; an elasticity needs it to be")
    rest = 1 + discount - retention
    return pd.Series(
        {
            "retention": gross / net * (1 + discount) / rest,
            "margin": gross / net,
            "discount_rate": gross / net * discount / rest,
            "acquisition_cost": acquisition_cost / net,
        }
    )


def point_gain(margin: Functional, hazard: Functional, discount: float, point: float) -> Functional:
    """Value of a lasting point of retention, V(r + point) - V(r) with V = m (1+d) / (1+d-r) and r = exp(-hazard)."""
    kept = float(np.exp(-hazard.value))

    def worth(keep: float) -> float:
        return float(customer_value(1, keep + point, discount) - customer_value(1, keep, discount))

    slope = (worth(kept + STEP) - worth(kept - STEP)) / (2 * STEP) * -kept
    gain, by_margin = margin.value * worth(kept), worth(kept) * margin.influence
    return Functional(gain, by_margin + margin.value * slope * hazard.influence)


def estimated_elasticities(
    margin: Functional, hazard: Functional, win: Functional, discount: float
) -> dict[str, Functional]:
    """:func:`elasticities` of an estimated margin, retention exp(-hazard) and cost per win, with their error."""
    kept = float(np.exp(-hazard.value))
    at = np.array([margin.value, kept, win.value])

    def shares(at: Any) -> pd.Series:
        return elasticities(at[0], at[1], discount, at[2])

    def slope_in(i: int) -> pd.Series:
        move = np.eye(3)[i] * STEP * max(abs(at[i]), 1.0)
        return (shares(at + move) - shares(at - move)) / (2 * move[i])

    slopes = np.column_stack([slope_in(i) for i in range(3)])
    influence = slopes @ np.array([margin.influence, -kept * hazard.influence, win.influence])
    return {str(name): Functional(float(v), own) for (name, v), own in zip(shares(at).items(), influence, strict=True)}
