"""The one layer of inference: estimates with intervals, resampling, proportions, ranks of regressions, multiplicity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from crmresearch.errors import InputError

LEVEL = 0.95  # level of every interval of the project


@dataclass(frozen=True)
class Estimate:
    """One number for the ledger, with its interval.

    Parameters
    ----------
    value, ci_low, ci_high : float
        Estimate and 95% interval. An unbounded end is ``inf``; ``nan`` in all three means "not estimable", with the
        reason in a closed check.
    unit : str
        Unit in words: ``"ratio"``, ``"share of contribution"``, ``"hazard ratio"`` ...
    n : int
        Customers (or other units, named in ``unit``) the estimate rests on.
    p_value : float, optional
        One-sided, against the boundary of the claim's decision rule (see :func:`one_sided_p`).
    se : float, optional
        Standard error, where one exists.
    checks : tuple of Check
        Gates of this estimate alone, beside those of the result.
    """

    value: float
    ci_low: float
    ci_high: float
    unit: str
    n: int
    p_value: float | None = None
    se: float | None = None
    checks: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.ci_low > self.ci_high:
            raise InputError(f"interval [{self.ci_low}, {self.ci_high}] is upside down")

    def __format__(self, spec: str) -> str:
        """Write the estimate with its interval, e.g. ``4.41 [4.12, 4.70]``; ``spec`` formats each of the three."""
        spec = spec or ",.2f"
        return f"{self.value:{spec}} [{self.ci_low:{spec}}, {self.ci_high:{spec}}]"

    def text(self, digits: int = 2) -> str:
        """Write the estimate with its interval and so many digits."""
        return format(self, f",.{digits}f")


def one_sided_p(value: float, se: float, bound: float, side: Literal["above", "below"] = "above") -> float:
    """Normal p-value of the hypothesis that the estimand is not ``side`` of ``bound``."""
    if not se > 0:
        return math.nan
    z = (value - bound) / se if side == "above" else (bound - value) / se
    return 0.5 * math.erfc(z / math.sqrt(2))
