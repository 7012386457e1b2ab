"""Effects by group and time given what units were like before, where these may differ in their trends by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from crmresearch.errors import InputError
from crmresearch.estimators.causal.staggered import Effects, Panel, cells
from crmresearch.estimators.inference import complete
from crmresearch.estimators.inference.regression import full_rank, logit_fit


@dataclass(frozen=True)
class Adjusted(Effects):
    """Effects given covariates.

    Attributes
    ----------
    effect : array
        Values of the effects.
    psi : array, (effects, units)
        What each unit adds to the error of each effect.
    """

    effect: np.ndarray
    psi: np.ndarray

    @property
    def influence(self) -> np.ndarray:
        """What each unit adds to the error of each effect, (units, effects)."""
        return self.psi.T

    def _summed(self, w: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(w @ self.effect), w @ self.psi + extra[self.panel.code]


def change(gain: np.ndarray, treated: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Effect on the treated on a change between two periods, doubly robust, and what each unit adds to its error.

    Parameters
    ----------
    gain : array
        Change of each unit.
    treated : array of bool
    x : array, (units, columns)
        What trends may differ by, known before; a constant among the columns.

    Raises
    ------
    FitError
        If the covariates separate the treated from the others.

    References
    ----------
    Sant'Anna and Zhao (2020), *Journal of Econometrics* 219, 101-122, section 3.1: a logit of being treated, and a
    regression of the change of the untreated.
    """
    d = treated.astype(float)
    full_rank(x[~treated])
    inverse = np.linalg.inv(x[~treated].T @ x[~treated])
    fit = logit_fit(x, d, nuisance=True)
    left = gain - x @ (inverse @ (x[~treated].T @ gain[~treated]))
    odds = (1 - d) * fit.fitted / (1 - fit.fitted)
    of_line = (x * ((1 - d) * left)[:, None]) @ inverse
    of_odds = (x * (d - fit.fitted)[:, None]) @ np.linalg.inv((x * (fit.fitted * (1 - fit.fitted))[:, None]).T @ x)
    own, other = d @ left / d.sum(), odds @ left / odds.sum()
    psi = (d * (left - own) - of_line @ (x.T @ d)) / d.sum()
    psi -= (odds * (left - other) + of_odds @ (x.T @ (odds * (left - other))) - of_line @ (x.T @ odds)) / odds.sum()
    return float(own - other), psi


def group_time_given(
    panel: Panel,
    covariates: ArrayLike,
    *,
    controls: Literal["never", "not yet"] = "never",
    base: Literal["varying", "universal"] = "varying",
) -> Adjusted:
    """Effect by group and time as :func:`~.staggered.group_time`, where trends are parallel given covariates.

    Parameters
    ----------
    panel : Panel
    covariates : array, (units,) or (units, columns)
        Known before treatment, of the units of the panel (those it left out, too); without a constant.
    controls, base : str
        As in :func:`~.staggered.group_time`.

    Raises
    ------
    InputError
        If none remains for comparison, or covariates are not one row a unit.
    FitError
        If the covariates separate a group from its controls.

    References
    ----------
    Callaway and Sant'Anna (2021), *Journal of Econometrics* 225, 200-230, equation 2.4.
    """
    (x,) = complete(covariates=covariates)
    if len(x) != len(panel.kept):
        raise InputError(
            f"covariates have {len(x):,} rows and the panel {len(panel.kept):,} units; give one row a unit"
        )
    x = np.column_stack([np.ones(len(x)), x])[panel.kept]
    g, t, against, other = cells(panel, controls, base)
    effect, psi = np.empty(len(g)), np.zeros((len(g), len(x)))
    for k in range(len(g)):
        rows = np.flatnonzero((panel.code == g[k]) | other[k][panel.code])
        gain = panel.values[rows, t[k]] - panel.values[rows, against[k]]
        effect[k], psi[k, rows] = change(gain, panel.code[rows] == g[k], x[rows])
    return Adjusted(panel, panel.groups[g], t.astype(float), panel.size[g], effect, psi)
