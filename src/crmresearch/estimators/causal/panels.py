"""Panels of units that are seen in every period, out of tables of units by periods."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.causal.staggered import Panel


def seen_whole(when: pd.Series, *outcomes: pd.DataFrame) -> tuple[list[Panel], pd.Index, int]:
    """Panels of the same units, seen in every period in which any unit has all of the outcomes.

    Parameters
    ----------
    when : Series
        Period in which each unit is treated first; infinite where it never is, minus infinity where it always was.
    *outcomes : DataFrame
        Units by periods.

    Returns
    -------
    panels : list of Panel
        One for each outcome; none where no unit is seen whole and treated after the first period.
    units : Index
        Those in the panels.
    gaps : int
        Units left out because they are not seen in every period.
    """
    index = outcomes[0].index
    periods = [p for p in outcomes[0].columns if all(p in w and w[p].notna().any() for w in outcomes)]
    whole = np.logical_and.reduce([w.reindex(index)[periods].notna().all(axis=1).to_numpy() for w in outcomes])
    gaps = int((~whole).sum())
    first = np.searchsorted(periods, when.reindex(index).to_numpy(float)[whole]).astype(float)
    if not whole.any() or not periods:
        return [], index[:0], gaps
    try:
        panels = [Panel(w.reindex(index)[periods].to_numpy(float)[whole], first) for w in outcomes]
    except InputError:  # none is treated after the first period
        return [], index[:0], gaps
    return panels, index[whole][panels[0].kept], gaps
