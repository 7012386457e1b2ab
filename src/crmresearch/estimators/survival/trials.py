"""What a contact does to the incidence of leaving: arms drawn by lot, and groups standardised for what was known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.blocks import Functional, left_out
from crmresearch.estimators.frames import without_each
from crmresearch.estimators.inference import Estimate, logit_fit, normal
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.estimators.survival.predict import censoring_weights
from crmresearch.estimators.survival.risk import read_spells

CONTROL = "control"


def incidence_at(spells: pd.DataFrame, horizon: int, cause: str) -> tuple[float, float]:
    """Incidence of a cause at the horizon and its standard error; zero exits count as a half for the error."""
    if not (spells["cause"] == cause).any():
        return 0.0, 0.5 / int(spells["n"].sum())
    curves = cumulative_incidence(spells, causes=[cause])
    row = curves[curves["time"] <= horizon].iloc[-1]
    return float(row["incidence"]), float(row["se"])


def arm_differences(arms: pd.DataFrame, horizon: int, cause: str) -> pd.DataFrame:
    """Incidence by campaign and arm, and its difference from that of the controls.

    Parameters
    ----------
    arms : DataFrame
        ``campaign_id, arm, exit, event, cause, n``; campaigns without an arm ``control`` are left out.
    horizon : int
        Months since the contact.
    cause : str
        Cause of interest; other exits compete.

    Returns
    -------
    DataFrame
        ``campaign, arm, n, exits, incidence, difference, se``; the controls come first, then all other arms taken
        together (``arm`` is missing), then each of them where there are several.
    """
    rows = []
    for campaign, part in arms.groupby("campaign_id", sort=True):
        others = sorted(set(part["arm"]) - {CONTROL})
        if not others or CONTROL not in set(part["arm"]):
            continue
        takes = [(CONTROL, [CONTROL]), (None, others), *((a, [a]) for a in others if len(others) > 1)]
        base = base_se = np.nan
        for name, members in takes:
            arm = part[part["arm"].isin(members)]
            value, se = incidence_at(arm, horizon, cause)
            row = {"campaign": str(campaign), "arm": name, "n": int(arm["n"].sum())}
            row |= {"exits": int(arm.loc[arm["cause"] == cause, "n"].sum()), "incidence": value}
            if name == CONTROL:
                base, base_se = value, se
            else:
                row |= {"difference": value - base, "se": float(np.hypot(se, base_se))}
            rows.append(row)
    return pd.DataFrame(rows)


def pooled(differences: pd.DataFrame) -> tuple[float, float]:
    """Difference over all campaigns of :func:`arm_differences`, by the customers drawn, and its standard error."""
    drawn = differences[differences["arm"].isna()]
    share = drawn["n"] / drawn["n"].sum()
    return float(share @ drawn["difference"]), float(np.linalg.norm(share * drawn["se"]))


def pooled_left_out(arms: pd.DataFrame, horizon: int, cause: str) -> Functional | None:
    """Return the difference of :func:`pooled` with what each block contributes, every block left out in turn.

    Parameters
    ----------
    arms : DataFrame
        As for :func:`arm_differences`, with ``block``.
    horizon, cause
        As there.

    Returns
    -------
    Functional or None
        One entry per block that occurs; None where no campaign has controls.
    """
    blocks, block = np.unique(arms["block"], return_inverse=True)
    how = np.where(arms["event"] == 0, 2, np.where(arms["cause"] == cause, 0, 1))
    month = np.minimum(arms["exit"].to_numpy(np.intp), horizon) - 1
    n, shape = arms["n"].to_numpy(float), (len(blocks), horizon, 3)
    cell, own = np.ravel_multi_index((block, month, how), shape), arms["arm"].to_numpy() == CONTROL
    weight = total = np.zeros(1 + len(blocks))
    for _, place in arms.groupby("campaign_id").indices.items():
        sides = [place[own[place]], place[~own[place]]]
        if not all(map(len, sides)):
            continue
        counts = [without_each(np.bincount(cell[s], n[s], minlength=np.prod(shape)).reshape(shape)) for s in sides]
        control, drawn = map(_incidence, counts)
        people = counts[1].sum(axis=(1, 2))
        weight, total = weight + people, total + people * (drawn - control)
    if not weight.any():
        return None
    values = total / weight
    return left_out(values[0], values[1:])


def _incidence(counts: np.ndarray) -> np.ndarray:
    """Incidence after the last month from counts by month of: the cause, other exits, end of sight.

    For all sets left out at once, where :func:`.aalen_johansen` takes one set of spells.
    """
    gone = counts.sum(axis=2)
    at_risk = np.maximum(gone[:, ::-1].cumsum(axis=1)[:, ::-1], 1.0)
    stays = np.cumprod(1 - counts[:, :, :2].sum(axis=2) / at_risk, axis=1)
    before = np.column_stack([np.ones(len(stays)), stays[:, :-1]])
    return np.asarray((before * counts[:, :, 0] / at_risk).sum(axis=1))


def adjusted_difference(rows: pd.DataFrame, treated: str, covariates: Sequence[str], horizon: int) -> Estimate:
    """Standardised difference of incidence between treated and others, doubly robust.

    Parameters
    ----------
    rows : DataFrame
        ``exit``, ``event``, optional ``of_interest`` and ``n``, the treatment (0/1) and covariates known before it.
    treated : str
        Treatment column.
    covariates : sequence of str
        What treatment may have depended on; numeric.
    horizon : int
        Months.

    Returns
    -------
    Estimate
        Augmented inverse-probability estimate with the error of its influence function; censoring is weighted for.

    References
    ----------
    Robins, Rotnitzky and Zhao (1994), JASA 89.
    """
    y, w = censoring_weights(rows, horizon)
    n = read_spells(rows).n
    a = rows[treated].to_numpy(dtype=float)
    if not 0 < a.mean() < 1:
        raise InputError(f"everybody or nobody has {treated}; there is nothing to compare")
    x = np.column_stack([np.ones(len(rows)), rows[list(covariates)].to_numpy(dtype=float)])
    try:
        p = np.clip(logit_fit(x, a, n=n, nuisance=True).fitted, 1e-3, 1 - 1e-3)
        by_arm = [(w > 0) & (a == arm) for arm in (1, 0)]
        own = ({"x": x[some], "y": y[some], "n": n[some], "weights": w[some]} for some in by_arm)
        m1, m0 = (logit_fit(**rows_of, nuisance=True).predict(x) for rows_of in own)
    except FitError:
        raise FitError(
            f"{treated} or the exits are a function of the covariates; the groups cannot be compared"
        ) from None
    value = m1 - m0 + a / p * w * (y - m1) - (1 - a) / (1 - p) * w * (y - m0)
    total, mean = n.sum(), np.average(value, weights=n)
    se = np.sqrt(n @ (value - mean) ** 2 / (total - 1) / total)
    return normal(mean, se, "share of customers", int(total))
