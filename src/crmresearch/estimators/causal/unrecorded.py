"""How strong a cause that nobody recorded would have to be to move an association to the bound of its line."""

from __future__ import annotations

import math

from crmresearch.estimators.inference import Estimate, z
from crmresearch.estimators.verdicts import Bound


def e_value(ratio: float) -> float:
    """E-value: the risk ratio a cause needs with exposure and outcome each, above all that was recorded.

    Parameters
    ----------
    ratio : float
        Estimate over the value it would be moved to, both as risk ratios (:func:`risk_ratio`).

    References
    ----------
    VanderWeele and Ding (2017). Sensitivity analysis in observational research: introducing the E-value. *Annals of
    Internal Medicine* 167, 268-274 (values other than no effect: their appendix).
    """
    ratio = max(ratio, 1 / ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def risk_ratio(ratio: float, unit: str) -> float:
    """Read an odds or a hazard ratio as the risk ratio that goes with it where the outcome is common.

    Leaving and consenting are common over the years that a line follows. Where they are rare (below 15%), a ratio is
    nearly a risk ratio as it stands and the E-value larger, so this reading is on the side of weaker causes.

    References
    ----------
    VanderWeele and Ding (2017), as for :func:`e_value`, table 2.
    """
    if unit == "odds ratio":
        return math.sqrt(ratio)
    if unit == "hazard ratio":
        return float((1 - 0.5 ** math.sqrt(ratio)) / (1 - 0.5 ** math.sqrt(1 / ratio)))
    return ratio


def robustness_value(t: float, df: float) -> float:
    """Robustness value: the share of the residual variance of exposure and outcome each that a cause has to explain.

    Parameters
    ----------
    t : float
        Distance between the estimate and the value it would be moved to, in standard errors.
    df : float
        Residual degrees of freedom.

    References
    ----------
    Cinelli and Hazlett (2020). Making sense of sensitivity: extending omitted variable bias. *JRSS B* 82, 39-67.
    """
    f2 = t * t / df
    return 0.5 * (math.sqrt(f2 * f2 + 4 * f2) - f2)


def strength(found: Estimate, bound: Bound, unit: str) -> float:
    """E-value of a ratio, else robustness value, of moving an estimate to its bound; nan where there is no interval.

    The standard error is read from the end of the interval that faces the bound. Clustered errors make the robustness
    value an approximation, on the side of weaker causes.
    """
    point = min(bound.points, key=lambda b: abs(b - found.value))
    if bound.none == 1:
        return e_value(risk_ratio(found.value, unit) / risk_ratio(point, unit)) if found.value > 0 else math.nan
    reach = found.value - found.ci_low if point < found.value else found.ci_high - found.value
    if not 0 < reach < math.inf or found.n < 3:
        return math.nan
    return robustness_value((found.value - point) * z() / reach, found.n - 2)
