"""What the parts of study 1 share: intervals, the delete-a-group jackknife, and a histogram that bears losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from crmresearch import disclosure, figures
from crmresearch.errors import InputError

MIN_GROUPS = 10


def interval(value: Any, low: Any, high: Any, digits: str) -> str:
    """Write a value with its interval, e.g. ``4.41 [4.12, 4.70]``; ``digits`` is a format such as ``.1%``."""
    return f"{value:{digits}} [{low:{digits}}, {high:{digits}}]"


def wilson(count: float, n: float) -> tuple[float, float, float]:
    """Proportion with Wilson's 95% interval."""
    z2 = 3.8414588206941236  # 95% point of chi-square with one degree of freedom
    p = count / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return p, min(p, float(max(0.0, centre - half))), max(p, float(min(1.0, centre + half)))


def jackknife(values: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """Estimate, standard error and 95% interval from a first row of all and one row without each group.

    Parameters
    ----------
    values : array, (groups + 1, ...)
        Row 0 from all customers, row g without group g.

    Returns
    -------
    estimate, se, ci_low, ci_high
        The interval uses Student's t with one degree of freedom fewer than groups.
    """
    from scipy.special import stdtrit

    without = values[1:]
    g = len(without)
    if g < MIN_GROUPS:
        raise InputError(f"{g} groups of customers; a jackknife needs at least {MIN_GROUPS}")
    se = np.sqrt((g - 1) / g * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    half = stdtrit(g - 1, 0.975) * se
    return values[0], se, values[0] - half, values[0] + half


def symlog_histogram(ax: Any, x: np.ndarray, color: str, label: str) -> Any:
    """Draw a histogram on a symmetric log axis; bars of fewer people than the disclosure threshold are left out."""
    near = max(float(np.quantile(np.abs(x), 0.1)), 1e-6)
    shown = np.sign(x) * np.log10(1 + np.abs(x) / near)
    edges = (
        np.linspace(shown.min(), shown.max(), 41)
        if shown.max() > shown.min()
        else np.array([shown[0] - 1, shown[0] + 1])
    )
    count, _ = np.histogram(shown, edges)
    value = np.sign(edges) * near * (10 ** np.abs(edges) - 1)
    ax.stairs(np.where(count < disclosure.MIN_CELL, 0, count), value, color=color, label=label, fill=True, alpha=0.35)
    ax.set_xscale("symlog", linthresh=near)
    ax.axvline(0, color=figures.INK, linewidth=1)
    return ax
