"""Effects of offers that were drawn by lot: differences between arms, their path over time, balance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import Array, Functional, checked, summed
from crmresearch.estimators.causal.aipw import MIN_ARM
from crmresearch.estimators.inference import LEVEL, Jackknife, ends, jackknife, sized, z
from crmresearch.estimators.verdicts import Deviation

GROUPS = 20  # of blocks, for errors of bounds
UNLIKE = 0.1  # standard deviations by which arms drawn by lot may differ beforehand
NEEDED = ("block", "campaign_id", "treated", "randomised", "cost", "left", "months")
Mask = NDArray[np.bool_]


def covariates_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Columns named ``x_...``: what is known of a customer before the contact."""
    return tuple(c for c in frame.columns if c.startswith("x_"))


def two_armed(campaigns: pd.DataFrame) -> pd.DataFrame:
    """Rows of the campaigns that were drawn by lot and have offered customers and controls."""
    drawn = campaigns[campaigns["randomised"].to_numpy(bool)]
    arms = drawn.groupby("campaign_id", observed=True)["treated"].agg(["min", "max"])
    return drawn[drawn["campaign_id"].isin(arms.index[(arms["min"] == 0) & (arms["max"] == 1)])]


def of_size(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of campaigns, none of which has too small an arm."""
    smallest = int(rows.groupby(["campaign_id", "treated"], observed=True).size().min())
    if smallest < MIN_ARM:
        raise NotApplicable(f"an arm has {smallest} customers; {MIN_ARM} are needed", "contacts")
    return rows


def drawn(campaigns: pd.DataFrame, *, single: bool = False) -> pd.DataFrame:
    """Campaigns drawn by lot with a control, of some size; ``single``: those with one offer where there are any.

    Raises
    ------
    InputError
        If columns are missing or costs are negative; as :class:`.NotApplicable` if there is no such campaign.
    """
    checked(campaigns, NEEDED, ("cost", "months"), "campaigns")
    rows = two_armed(campaigns)
    if rows.empty:
        raise NotApplicable("no campaign was drawn by lot with a control group", "contacts")
    if single and "arm" in rows:
        arms = rows.groupby("campaign_id", observed=True)["arm"].nunique()
        simple = rows["campaign_id"].isin(arms.index[arms == 2])
        rows = rows[simple] if simple.any() else rows
    return of_size(rows)


def within(rows: pd.DataFrame, horizon_months: int) -> tuple[Array, Array]:
    """Exit within the horizon (0/1), and years stayed in it, from ``left`` and ``months``."""
    months = rows["months"].to_numpy(float)
    left = rows["left"].to_numpy(bool) & (months <= horizon_months)
    return left.astype(float), np.minimum(months, horizon_months) / 12


def difference(frame: pd.DataFrame, value: Array, blocks: int) -> Functional:
    """Mean of the offered less mean of the others, within campaigns, averaged by campaign size.

    Parameters
    ----------
    frame : DataFrame
        ``block``, ``campaign_id``, ``treated`` (0/1).
    value : array
        Outcome.
    blocks : int
        Number of blocks.
    """
    t = frame["treated"].to_numpy(bool)
    campaign = pd.factorize(frame["campaign_id"], sort=True)[0]
    total, influence = 0.0, np.zeros(blocks)
    for c in range(campaign.max() + 1):
        weight = float((campaign == c).mean())
        for arm, sign in ((True, 1.0), (False, -1.0)):
            own = (campaign == c) & (t == arm)
            mean = value[own].mean()
            total += sign * weight * mean
            influence += sign * weight * summed(frame[own], (value[own] - mean) / own.sum(), blocks)
    return Functional(total, influence)


def held_equal(frame: pd.DataFrame, value: Array, before: Array) -> Array:
    """Outcome with its value before the contact held equal, within campaigns.

    The slope is the arms' own, each weighted by the share of the other: with it the difference of means is never less
    precise than without in a large sample, whatever the true relation.

    References
    ----------
    Yang and Tsiatis (2001). Efficiency study of estimators for a treatment effect in a pretest-posttest trial.
    *The American Statistician* 55, 314-321.
    """
    t, out = frame["treated"].to_numpy(bool), value.copy()
    campaign = pd.factorize(frame["campaign_id"], sort=True)[0]
    for c in range(campaign.max() + 1):
        own, slope = campaign == c, 0.0
        share = t[own].mean()
        for arm, weight in ((True, 1 - share), (False, share)):
            x, y = (v[own & (t == arm)] for v in (before, value))
            sized(len(x), 2)
            spread = ((x - x.mean()) ** 2).sum()
            slope += weight * float(((x - x.mean()) * y).sum() / spread) if spread > 0 else 0.0
        out[own] -= slope * (before[own] - before[own].mean())
    return out


def difference_of_means(a: Array, b: Array) -> tuple[float, float]:
    """Difference of the means of two samples, and its standard error."""
    return float(a.mean() - b.mean()), float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))


def answered_bounds(treated: Mask, value: Array, answered: Mask, block: Array) -> Jackknife:
    """Bounds of the effect on those who answer in either arm, where an offer can only move answering in one direction.

    The arm that answers more holds some who answer because of it: as many are taken off its top, or its bottom.

    Parameters
    ----------
    treated, value, answered, block : array
        Of all who were drawn; ``value`` counts where ``answered``.

    Returns
    -------
    Jackknife
        Of the lower and the upper bound, by groups of blocks.

    References
    ----------
    Lee (2009). Training, wages, and sample selection: estimating sharp bounds on treatment effects. *Review of Economic
    Studies* 76, 1071-1102.
    """
    group = np.unique(block, return_inverse=True)[1] % GROUPS

    def bounds(of: Mask) -> list[float]:
        shares = [answered[of & (treated == arm)].mean() for arm in (0, 1)]
        arms = [np.sort(value[of & answered & (treated == arm)]) for arm in (0, 1)]
        more = int(shares[1] > shares[0])
        rest = round(len(arms[more]) * shares[1 - more] / shares[more])
        kept = (arms[more][:rest].mean(), arms[more][-rest:].mean())  # without its top, without its bottom
        return sorted(one - arms[0].mean() if more else arms[1].mean() - one for one in kept)

    return jackknife(np.array([bounds(group != k) for k in range(-1, GROUPS)]))


def imbalance(rows: pd.DataFrame) -> tuple[Deviation, str, int]:
    """Largest standardised difference of ``x_...`` between the arms of a campaign, in errors of its draw.

    Returns
    -------
    (Deviation, str, int)
        The difference, with an interval that holds for all that were looked at together (by Bonferroni); of what, in
        words; how many were looked at.
    """
    found = [(0.0, 0.0, "")]
    for _, part in rows.groupby("campaign_id", observed=True):
        t = part["treated"].to_numpy(bool)
        for c in covariates_of(part):
            value = part[c].to_numpy(float)
            if (spread := value.std()) > 0:
                found.append(((value[t].mean() - value[~t].mean()) / spread, (1 / t.sum() + 1 / (~t).sum()) ** 0.5, c))
    worst, se, name = max(found, key=lambda one: abs(one[0]) / (one[1] or 1))
    looks = max(len(found) - 1, 1)
    reach = z(1 - (1 - LEVEL) / looks) * se
    off = Deviation(worst, worst - reach, worst + reach, limit=UNLIKE)
    return off, name.removeprefix("x_").replace("_", " "), looks


def path(rows: pd.DataFrame, horizon_months: int) -> pd.DataFrame:
    """Difference in the share still there by month, as far as everybody is followed, at most twice the horizon.

    Returns
    -------
    DataFrame
        ``month``, ``kept``, ``low``, ``high``.
    """
    months, left, t = (rows[c].to_numpy() for c in ("months", "left", "treated"))
    left, t = left.astype(bool), t.astype(bool)
    followed = months[~left].min() if (~left).any() else horizon_months
    out = []
    for month in range(1, int(min(followed + 1e-9, 2 * horizon_months)) + 1):
        stays = ~(left & (months <= month))
        a, b = stays[t].mean(), stays[~t].mean()
        se = np.sqrt(a * (1 - a) / t.sum() + b * (1 - b) / (~t).sum())
        out.append((month, a - b, *ends(a - b, se)))
    return pd.DataFrame(out, columns=["month", "kept", "low", "high"])
