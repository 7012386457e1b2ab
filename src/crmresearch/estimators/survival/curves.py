"""Curves of staying: Kaplan-Meier with late entry, restricted mean, log-rank test.

All of them start from a life table, so a million customers with whole-month tenures cost a few bincounts.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import LEVEL, Estimate, normal
from crmresearch.estimators.survival.risk import Spells, read_spells, reverse_cumsum

MIN_AT_RISK = 50  # a curve starts at the first tenure with as many at risk, and is conditional on reaching it


def _counts(values: np.ndarray, weights: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Sum weights at each of the sorted ``times``."""
    if len(times) == int(times[-1]) + 1 and times[0] == 0:  # whole months from 0: the time is its own position
        return np.bincount(values.astype(np.intp), weights, minlength=len(times))
    return np.bincount(np.searchsorted(times, values), weights, minlength=len(times))


def _grid(spells: Spells) -> np.ndarray:
    """Return the distinct times; for whole months up to some thousands, simply every month."""
    last = float(spells.exit.max())
    if (
        last < 10_000
        and (spells.exit == np.floor(spells.exit)).all()
        and (spells.entry == np.floor(spells.entry)).all()
    ):
        return np.arange(int(last) + 1, dtype=float)
    return np.unique(np.concatenate([spells.entry, spells.exit]))


def _table(spells: Spells, times: np.ndarray | None = None) -> pd.DataFrame:
    times = _grid(spells) if times is None else times
    left = _counts(spells.exit, spells.n, times)
    begun = _counts(spells.entry, spells.n, times) if spells.late else np.zeros(len(times))
    if not spells.late:
        begun[0] = spells.n.sum()
    # at risk at t: entered before t, not gone before t
    at_risk = np.concatenate([[0.0], np.cumsum(begun)[:-1]]) - (left.sum() - reverse_cumsum(left))
    table = {"time": times, "at_risk": at_risk, "events": _counts(spells.exit, spells.n * spells.event, times)}
    table["censored"] = left - table["events"]
    table["entered"] = begun
    return pd.DataFrame(table)


def life_table(spells: pd.DataFrame) -> pd.DataFrame:
    """Count at risk, events, censored and late entries at every distinct time.

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, optional ``entry`` and ``n``; see :func:`crmresearch.estimators.survival.risk.read_spells`.

    Returns
    -------
    DataFrame
        ``time, at_risk, events, censored, entered``. At risk at ``t`` means ``entry < t <= exit``.
    """
    return _table(read_spells(spells))


def span(at_risk: np.ndarray, at_least: int) -> tuple[int, int]:
    """Return the positions a curve starts from and ends at; in between, every risk set holds ``at_least`` customers.

    With late entry the first risk sets hold a handful of customers, and one exit there would pull the whole curve down;
    and while nobody is under observation, nothing is known about staying. So a curve starts before the first risk set
    of ``at_least``, conditional on reaching it, and ends before the next one that has fewer.

    Raises
    ------
    FitError
        If no risk set ever holds ``at_least`` customers.
    """
    filled = at_risk >= at_least
    if not filled.any():
        raise FitError(
            f"no tenure has {at_least} customers at risk (at most {at_risk.max():.0f}); merge groups or widen the "
            "window"
        )
    first = int(filled.argmax())
    rest = filled[first:]
    return max(first - 1, 0), first + (len(rest) if rest.all() else int(rest.argmin())) - 1


def kaplan_meier(spells: pd.DataFrame, *, at_least: int = 1) -> pd.DataFrame:
    """Estimate the share still customers, with late entry, by lifelines.

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, optional ``entry`` and ``n``.
    at_least : int
        Customers at risk that every point of the curve needs: it starts at the first tenure with as many (conditional
        on reaching it: ``attrs["start"]``) and ends before they become fewer (``attrs["end"]``), even if later tenures
        have more again. Studies use :data:`MIN_AT_RISK`.

    Returns
    -------
    DataFrame
        ``time, at_risk, events, censored, entered, survival, se, ci_low, ci_high``; the first row is the start, with
        survival 1. Greenwood's error; the interval is on the log(-log) scale. Both are missing where nobody is left.
    """
    from lifelines import KaplanMeierFitter

    table = _table(read_spells(spells))
    first, last = span(table["at_risk"].to_numpy(), at_least)
    out = table.iloc[first : last + 1].reset_index(drop=True)
    n, d, time = (out[c].to_numpy(copy=True) for c in ("at_risk", "events", "time"))
    n[0], d[0] = n[1], 0
    # entries and exits shape a curve through their numbers alone: pair them first come, first gone
    came = np.cumsum(np.r_[n[1], out["entered"].to_numpy()[1:-1]])
    left = out[["events", "censored"]].to_numpy()[1:]
    left[-1, 1] = n[-1] - d[-1]  # whoever stays beyond the end is censored there
    gone = np.cumsum(left)
    people = np.union1d(came, gone)
    people = people[people > 0]
    place = np.searchsorted(gone, people)
    with np.errstate(all="ignore"):  # lifelines switches numpy's warnings off for good
        fit = KaplanMeierFitter(alpha=1 - LEVEL).fit(
            time[1:][place // 2],
            place % 2 == 0,
            timeline=time,
            entry=time[np.searchsorted(came, people)],
            weights=np.diff(people, prepend=0),
        )
        survival = fit.survival_function_.to_numpy()[:, 0]
        se = survival * np.sqrt(np.cumsum(d / (n * (n - d))))
    out = out.assign(at_risk=n, events=d, survival=survival, se=np.where(survival > 0, se, np.nan))
    out.loc[0, ["censored", "entered"]] = 0.0
    out[["ci_low", "ci_high"]] = np.where(survival[:, None] > 0, fit.confidence_interval_.to_numpy(), np.nan)
    out.attrs = {"start": float(time[0]), "end": float(time[-1])}
    return out


def censoring_weighted(spells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Estimate the share still customers when the chance of being censored may differ between groups.

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, the group column, optional ``entry`` and ``n``.
    by : str
        Column of the groups within which censoring tells nothing about leaving.

    Returns
    -------
    DataFrame
        ``time, at_risk, survival``, as far as somebody is at risk. Everybody weighs as much as all would, over what the
        group's censoring leaves, since entry; with equal censoring in all groups this is the Kaplan-Meier curve.

    References
    ----------
    Robins and Finkelstein (2000), Biometrics 56: inverse probability of censoring weights.
    """
    checked = read_spells(spells, [by])
    total = _table(checked)
    times, everybody = total["time"].to_numpy(), uncensored(total)[:-1]
    n, d = np.zeros(len(total)), np.zeros(len(total))
    labels = spells[by].to_numpy()
    for group in pd.unique(labels):
        some = labels == group
        part = Spells(checked.entry[some], checked.exit[some], checked.event[some], checked.n[some])
        own = uncensored(_table(part, times))[:-1]
        ratio = np.divide(everybody, own, out=np.ones(len(own)), where=own > 0)
        since = ratio[np.searchsorted(times, part.entry)]
        weighted = _table(Spells(part.entry, part.exit, part.event, part.n / since), times)
        n += ratio * weighted["at_risk"].to_numpy()
        d += ratio * weighted["events"].to_numpy()
    hazard = np.divide(d, n, out=np.zeros(len(n)), where=n > 1e-9)
    out = total[["time", "at_risk"]].assign(survival=np.cumprod(1 - hazard))
    first, last = span(total["at_risk"].to_numpy(), 1)
    return out.iloc[first : last + 1].reset_index(drop=True)


def uncensored(table: pd.DataFrame) -> np.ndarray:
    """Product-limit estimate of not being censored, before each time of a life table and after the last.

    Exits come before censorings.
    """
    stay, gone = (table["at_risk"] - table["events"]).to_numpy(), table["censored"].to_numpy()
    factor = 1 - np.divide(gone, stay, out=np.zeros(len(gone)), where=stay > 1e-9)
    return np.r_[1.0, np.cumprod(factor)]


def restricted_mean(curve: pd.DataFrame, horizon: float) -> Estimate:
    """Mean months kept up to ``horizon``, given the curve's start, with the standard error of the estimate.

    Parameters
    ----------
    curve : DataFrame
        From :func:`kaplan_meier`.
    horizon : float
        Same unit as the curve's time, counted from its origin.

    Raises
    ------
    InputError
        If the curve does not reach the horizon.

    Notes
    -----
    Greenwood-type variance: the sum over event times of (area still to come)^2 d / (n (n - d)), as R's ``survfit``.
    It is not the variance of min(T, horizon), which is what lifelines returns; hence our own.
    """
    time, survival = curve["time"].to_numpy(dtype=float), curve["survival"].to_numpy()
    if not time[0] < horizon <= time[-1]:
        raise InputError(f"horizon {horizon} lies outside the curve, which runs from {time[0]:g} to {time[-1]:g}")
    inside = time < horizon
    edges = np.r_[time[inside], horizon]
    area = np.diff(edges) * survival[inside]
    to_come = reverse_cumsum(area)  # area from each time to the horizon
    n, d = curve["at_risk"].to_numpy()[inside], curve["events"].to_numpy()[inside]
    with np.errstate(divide="ignore", invalid="ignore"):
        term = np.where((d > 0) & (n > d), d / (n * (n - d)), 0.0)
    return normal(float(area.sum()), float(np.sqrt((to_come**2 * term).sum())), "months", round(n[0]))


def restricted_mean_difference(first: pd.DataFrame, second: pd.DataFrame, horizon: float) -> Estimate:
    """Difference of two restricted means, first minus second, for independent groups (see :func:`restricted_mean`).

    Raises
    ------
    InputError
        If the curves are conditional on different tenures; then the means are not comparable.
    """
    if first["time"].iloc[0] != second["time"].iloc[0]:
        raise InputError("the two curves start at different tenures; start both at the later one")
    a, b = restricted_mean(first, horizon), restricted_mean(second, horizon)
    return normal(a.value - b.value, float(np.hypot(a.se or 0.0, b.se or 0.0)), "months", a.n + b.n)


def logrank(spells: pd.DataFrame, by: str) -> pd.Series:
    """Test that groups leave at the same rate, with late entry (which lifelines' test does not know).

    Parameters
    ----------
    spells : DataFrame
        ``exit``, ``event``, the group column, optional ``entry`` and ``n``.
    by : str
        Group column, two levels or more.

    Returns
    -------
    Series
        ``statistic, df, p, n``.
    """
    read_spells(spells, [by])
    groups = sorted(spells[by].unique(), key=str)
    if len(groups) < 2:
        raise InputError(f"{by} has one level only ({groups[0]}); a comparison needs two")
    total = _table(read_spells(spells))
    times, n, d = (total[c].to_numpy() for c in ("time", "at_risk", "events"))
    parts = [_table(read_spells(spells[spells[by] == g]), times) for g in groups]
    share, events = (np.stack([p[c] for p in parts]) for c in ("at_risk", "events"))  # groups x times
    some = (d > 0) & (n > 0)
    n, d, share, events = n[some], d[some], share[:, some], events[:, some]
    fraction = share / n
    difference = (events - d * fraction).sum(axis=1)
    spread = d * np.divide(n - d, n - 1, out=np.zeros(len(n)), where=n > 1)
    variance = np.diag((spread * fraction).sum(axis=1)) - (spread * fraction) @ fraction.T
    from scipy.special import chdtrc

    keep = slice(0, len(groups) - 1)
    try:
        statistic = float(difference[keep] @ np.linalg.solve(variance[keep, keep], difference[keep]))
    except np.linalg.LinAlgError:
        raise FitError(f"a level of {by} is never at risk together with the others; compare fewer groups") from None
    return pd.Series(
        {
            "statistic": statistic,
            "df": len(groups) - 1,
            "p": float(chdtrc(len(groups) - 1, statistic)),
            "n": round(spells["n"].sum()) if "n" in spells.columns else len(spells),
        }
    )


def pairwise_logrank(spells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Compare every pair of groups by :func:`logrank`, with Holm's control of false positives over all pairs.

    Returns
    -------
    DataFrame
        ``first, second, statistic, p, p_holm, n``.
    """
    from statsmodels.stats.multitest import multipletests

    rows = []
    for a, b in combinations(sorted(spells[by].unique(), key=str), 2):
        test = logrank(spells[spells[by].isin([a, b])], by)
        rows.append({"first": a, "second": b, "statistic": test["statistic"], "p": test["p"], "n": int(test["n"])})
    out = pd.DataFrame(rows)
    out.insert(4, "p_holm", multipletests(out["p"], method="holm")[1])
    return out
