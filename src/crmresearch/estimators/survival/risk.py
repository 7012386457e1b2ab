"""The rows every churn estimator reads: spells with late entry, written once or standing for many customers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import ends, two_sided_p


@dataclass(frozen=True)
class Spells:
    """Checked columns of a spell frame as numpy arrays.

    A row is at risk for ``entry < t <= exit`` and stands for ``n`` identical customers.
    """

    entry: np.ndarray
    exit: np.ndarray
    event: np.ndarray
    n: np.ndarray

    @property
    def late(self) -> bool:
        """Whether any row enters after the origin."""
        return bool((self.entry > 0).any())


def read_spells(frame: pd.DataFrame, needs: Sequence[str] = (), whole: bool = True) -> Spells:
    """Check a spell frame and return its columns as arrays.

    Parameters
    ----------
    frame : DataFrame
        ``exit`` (time at risk ends), ``event`` (0/1 or bool); optional ``entry`` (time at risk begins, 0 when
        absent) and ``n`` (customers the row stands for, 1 when absent). Times in one unit, months throughout this
        package.
    needs : sequence of str
        Further columns that must be there, without missing values.
    whole : bool
        Whether ``n`` counts people; then it must be a whole number.

    Raises
    ------
    InputError
        For absent columns, missing values, times that run backwards, or an ``n`` that is not a count.
    """
    absent = [c for c in ("exit", "event", *needs) if c not in frame.columns]
    if absent:
        raise InputError(
            f"spells lack the column{'s' if len(absent) > 1 else ''} {', '.join(absent)}; they have "
            f"{', '.join(map(str, frame.columns))}"
        )
    if frame.empty:
        raise InputError("spells are empty: no customer is under observation; check the observation window")
    used = [c for c in ("entry", "exit", "event", "n", *needs) if c in frame.columns]
    gaps = frame[used].isna().sum()
    if gaps.any():
        worst = str(gaps.idxmax())
        raise InputError(
            f"{int(gaps[worst])} of {len(frame)} rows have no {worst}; drop them or fill them in, with a reason"
        )
    exits = frame["exit"].to_numpy(dtype=float)
    entry = frame["entry"].to_numpy(dtype=float) if "entry" in frame.columns else np.zeros(len(frame))
    event = frame["event"].to_numpy(dtype=float)
    n = frame["n"].to_numpy(dtype=float) if "n" in frame.columns else np.ones(len(frame))
    if not np.isin(event, (0.0, 1.0)).all():
        raise InputError("event must be 0 or 1 (1: left); causes go into the column cause")
    backwards = int((exits < entry).sum())
    if backwards:
        raise InputError(f"{backwards} of {len(frame)} spells end before they begin (exit < entry); check the dates")
    at_once = int((event.astype(bool) & (exits <= entry)).sum())
    if at_once:
        raise InputError(f"{at_once} exits happen at the moment of entry, with nobody at risk; count months from 1")
    if (entry < 0).any():
        raise InputError(f"{int((entry < 0).sum())} spells begin before tenure 0; entry is measured from acquisition")
    if (n < 0).any() or (whole and (n != np.round(n)).any()):
        raise InputError(
            "n counts customers a row stands for: whole numbers, not negative (sampling weights do not belong here)"
        )
    return Spells(entry, exits, event.astype(bool), n)


def reverse_cumsum(values: np.ndarray) -> np.ndarray:
    """Sum from each position to the end, along the first axis."""
    return values[::-1].cumsum(axis=0)[::-1]


def hazard_ratios(coef: pd.Series, se: pd.Series, n: int, events: int) -> pd.DataFrame:
    """Hazard ratios with intervals and two-sided p-values, one row per covariate."""
    low, high = ends(coef, se)
    return pd.DataFrame(
        {
            "covariate": coef.index,
            "hazard_ratio": np.exp(coef).to_numpy(),
            "ci_low": np.exp(low).to_numpy(),
            "ci_high": np.exp(high).to_numpy(),
            "coef": coef.to_numpy(),
            "se": se.to_numpy(),
            "p": two_sided_p(coef, se),
            "n": n,
            "events": events,
        }
    )
