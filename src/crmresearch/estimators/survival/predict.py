"""Scores of predicted exits under censoring: Brier, concordance, calibration, capture, net benefit.

Time is months since the prediction date. Only exits of the cause predicted count as events; who leaves for another
cause within the horizon is a known non-event (the score is of incidence), who is censored before it is weighted for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import Estimate, ends, from_draws, logit_fit, need_events, resample, tied_groups
from crmresearch.estimators.survival.curves import life_table, uncensored
from crmresearch.estimators.survival.incidence import aalen_johansen
from crmresearch.estimators.survival.risk import Spells, read_spells

TOP = 0.1  # share of customers that capture looks at


def _spells(frame: pd.DataFrame) -> tuple[Spells, np.ndarray]:
    """Checked rows, and which of their exits are of the cause predicted."""
    spells = read_spells(frame)
    if spells.late:
        raise InputError("predictions are scored in months since the prediction date: entry must be 0")
    wanted = frame["of_interest"].to_numpy(dtype=bool) if "of_interest" in frame.columns else True
    return spells, spells.event & wanted


def censoring_weights(frame: pd.DataFrame, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the outcome by ``horizon`` and the weight that makes up for those censored before it.

    Parameters
    ----------
    frame : DataFrame
        ``exit`` (months since the prediction date), ``event``; optional ``of_interest`` (whether the exit is of the
        cause predicted; every exit when absent) and ``n``.
    horizon : float
        Months.

    Returns
    -------
    outcome, weight : ndarray
        Outcome 1 for an exit of interest by the horizon. Weight 1/G(exit-) for exits by the horizon, 1/G(horizon) for
        those still there, 0 for those censored before.

    Raises
    ------
    FitError
        If nobody is followed up to the horizon.
    """
    spells, own = _spells(frame)
    time, n = spells.exit, spells.n
    known = (time <= horizon) & spells.event
    there = time > horizon
    if not n[there].sum() + n[known & (time == horizon)].sum() > 0:
        raise FitError(
            f"nobody is followed for {horizon:g} months; take a shorter horizon or an earlier prediction date"
        )
    outcome = (known & own).astype(float)
    weight, table = np.zeros(len(time)), life_table(frame)
    free, grid = uncensored(table), table["time"].to_numpy()
    weight[known] = 1 / free[np.searchsorted(grid, time[known])]
    if there.any():
        weight[there] = 1 / free[np.searchsorted(grid, horizon, side="right")]
    return outcome, weight


def brier(frame: pd.DataFrame, predicted: np.ndarray, horizon: float) -> pd.Series:
    """Inverse-probability-weighted Brier score of predicted risks, beside that of the null model.

    Parameters
    ----------
    frame : DataFrame
        As in :func:`censoring_weights`.
    predicted : ndarray
        Probability of an exit of interest within ``horizon``.
    horizon : float
        Months since the prediction date.

    Returns
    -------
    Series
        ``brier, null, skill, n``; the null model predicts the incidence (Aalen-Johansen) for everybody; skill is the
        share of its score that the prediction saves.

    References
    ----------
    Graf et al. (1999), Statistics in Medicine 18; Gerds and Schumacher (2006), Biometrical Journal 48.
    """
    predicted = _scores(predicted, len(frame), 0, 1)
    n, outcome, weight = read_spells(frame).n, *censoring_weights(frame, horizon)
    gone, stayed = _both(n, outcome, weight)
    if not gone or not stayed:
        raise FitError(f"{gone:,} exits and {stayed:,} customers without one in {horizon:g} months; a score needs both")
    score, null = _brier(n, outcome, weight, predicted), _brier(n, outcome, weight, _incidence(frame, horizon))
    return pd.Series({"brier": score, "null": null, "skill": 1 - score / null, "n": int(n.sum())})


def _both(n: np.ndarray, outcome: np.ndarray, weight: np.ndarray) -> tuple[int, int]:
    """Customers seen to leave, and seen not to."""
    return int(n @ outcome), int(n @ ((weight > 0) & (outcome == 0)))


def _brier(n: np.ndarray, outcome: np.ndarray, weight: np.ndarray, predicted: np.ndarray | float) -> float:
    return float((n * weight * (outcome - predicted) ** 2).sum() / n.sum())


def _incidence(frame: pd.DataFrame, horizon: float) -> float:
    """Aalen-Johansen incidence of the cause of interest at the horizon."""
    spells, own = _spells(frame)
    fit = aalen_johansen(spells, np.where(own, 1, 2 * spells.event), 2)
    return float(np.r_[0.0, fit.incidence[0]][np.searchsorted(fit.time, horizon, side="right")])


def _scores(predicted: np.ndarray, rows: int, least: float = -np.inf, most: float = np.inf) -> np.ndarray:
    """Return predictions as an array; refuse missing ones, and risks outside 0 to 1."""
    values = np.asarray(predicted, dtype=float)
    if values.shape != (rows,):
        raise InputError(f"{values.shape} predictions for {rows} rows")
    bad = int((~((values >= least) & (values <= most))).sum())
    if bad:
        raise InputError(f"{bad} predicted risks are missing" + (" or outside 0 to 1" if most == 1 else ""))
    return values


def concordance(frame: pd.DataFrame, predicted: np.ndarray, tau: float) -> float:
    """Uno's concordance up to ``tau``: in how many pairs did the one predicted at higher risk leave first.

    References
    ----------
    Uno et al. (2011), Statistics in Medicine 30: pairs are weighted by 1/G(t-)^2, so that the value does not depend on
    the censoring. Ties in the prediction count a half. Who left for another cause counts as outlasting (Wolbers et al.
    2014, Biostatistics 15).
    """
    spells, own = _spells(frame)
    time, any_exit, n = spells.exit, spells.event, spells.n
    score = _scores(predicted, len(frame))
    _, rank = np.unique(score, return_inverse=True)
    cases = own & (time < tau)
    if not (n[cases] > 0).any():
        raise FitError(f"no exits before {tau:g} months, so no pair can be compared")
    levels, times = rank.max() + 1, np.unique(time[cases])
    table = life_table(frame)
    free = uncensored(table)[np.searchsorted(table["time"], time)]
    # one pass over time: who is still there, and who left for another cause, counted by rank of the prediction
    leaving = np.where(any_exit, np.searchsorted(times, time, side="left"), np.searchsorted(times, time, side="right"))
    order = np.argsort(leaving, kind="stable")
    bounds = np.searchsorted(leaving[order], np.arange(len(times) + 1))
    remaining, elsewhere = np.bincount(rank, n, minlength=levels), np.zeros(levels)
    concordant = comparable = 0.0
    for k, t in enumerate(times):
        gone = order[bounds[k] : bounds[k + 1]]
        remaining -= np.bincount(rank[gone], n[gone], minlength=levels)
        other = gone[any_exit[gone] & ~own[gone]]
        elsewhere += np.bincount(rank[other], n[other] / free[other], minlength=levels)
        here = gone[own[gone] & (time[gone] == t)]
        weight = n[here] / free[here]
        controls = remaining / free[here[0]] + elsewhere
        below = np.r_[0.0, controls.cumsum()]
        concordant += float((weight * (below[rank[here]] + 0.5 * controls[rank[here]])).sum())
        comparable += float(weight.sum() * controls.sum())
    if comparable == 0:
        raise FitError("nobody outlasts the exits, so no pair can be compared")
    return concordant / comparable


def area_under_curve(frame: pd.DataFrame, predicted: np.ndarray, horizon: float) -> float:
    """Time-dependent area under the ROC curve: those gone by the horizon against those still there, weighted."""
    outcome, weight = censoring_weights(frame, horizon)
    n = read_spells(frame).n
    score = _scores(predicted, len(frame))
    case, control = outcome == 1, (weight > 0) & (outcome == 0)
    _, rank = np.unique(score, return_inverse=True)
    below = np.bincount(rank[control], (n * weight)[control], minlength=rank.max() + 1)
    beaten = np.r_[0.0, below.cumsum()[:-1]] + 0.5 * below
    w = (n * weight)[case]
    return float((w * beaten[rank[case]]).sum() / (w.sum() * below.sum()))


def calibration(
    frame: pd.DataFrame, predicted: np.ndarray, horizon: float, groups: int = 10
) -> tuple[pd.DataFrame, pd.Series]:
    """Compare predicted with observed incidence by groups of predicted risk, and fit the calibration line.

    Parameters
    ----------
    frame, predicted, horizon
        As in :func:`brier`.
    groups : int
        Quantile groups of the prediction.

    Returns
    -------
    table : DataFrame
        ``group, n, predicted, observed, ci_low, ci_high``.
    line : Series
        ``slope, slope_se, intercept, intercept_se, observed, predicted``: of the logit of the predicted risk; 1 and 0
        are perfect. The slope is missing where all predictions are alike; the intercept is fitted with the slope at 1
        (calibration in the large).
    """
    p = np.clip(_scores(predicted, len(frame), 0, 1), 1e-9, 1 - 1e-9)
    outcome, weight = censoring_weights(frame, horizon)
    n = read_spells(frame).n
    w = n * weight
    odds, keep = np.log(p / (1 - p)), w > 0
    one = np.ones((keep.sum(), 1))
    slope = slope_se = np.nan
    if np.ptp(odds[keep]) > 1e-9:
        both = logit_fit(np.column_stack([one, odds[keep]]), outcome[keep], n=n[keep], weights=weight[keep])
        slope, slope_se = both.params[1], both.se[1]
    alone = logit_fit(one, outcome[keep], n=n[keep], weights=weight[keep], offset=odds[keep])
    group = tied_groups(p, groups, n)
    size, weighed, exits, expected = (np.bincount(group, x, groups) for x in (n, w, w * outcome, n * p))
    with np.errstate(invalid="ignore"):  # a group that ties leave empty
        observed = exits / weighed
        spread = np.sqrt(np.bincount(group, n * (weight * (outcome - observed[group])) ** 2, groups)) / weighed
        low, high = ends(observed, spread)
        table = pd.DataFrame({"group": np.arange(groups) + 1, "n": size.astype(int), "predicted": expected / size})
    table["observed"], table["ci_low"], table["ci_high"] = observed, np.maximum(low, 0.0), np.minimum(high, 1.0)
    line = pd.Series(
        {
            "slope": slope,
            "slope_se": slope_se,
            "intercept": alone.params[0],
            "intercept_se": alone.se[0],
            "observed": float((w * outcome).sum() / w.sum()),
            "predicted": float((n * p).sum() / n.sum()),
        }
    )
    return table[size > 0].reset_index(drop=True), line


def capture(frame: pd.DataFrame, predicted: np.ndarray, horizon: float, share: Any = TOP) -> Any:
    """Share of all exits within the horizon that fall to the ``share`` of customers with the highest prediction.

    Customers tied at the border are taken in part, so that the order of rows does not matter. Of several shares at
    once an array.
    """
    score = _scores(predicted, len(frame))
    return captured(read_spells(frame).n, *censoring_weights(frame, horizon), score, share)


def captured(n: np.ndarray, outcome: np.ndarray, weight: np.ndarray, score: np.ndarray, share: Any) -> Any:
    """Share of a weighted outcome that falls to the ``share`` with the highest score; rows stand for ``n`` each."""
    level, rank = np.unique(-score, return_inverse=True)
    people = np.bincount(rank, n, minlength=len(level))
    exits = np.bincount(rank, n * weight * outcome, minlength=len(level))
    room = np.clip(np.expand_dims(np.asarray(share) * n.sum(), -1) - (people.cumsum() - people), 0.0, people)
    inside = np.divide(room, people, out=np.zeros_like(room), where=people > 0)  # a resample may hold nobody of a level
    return (exits * inside).sum(axis=-1) / exits.sum()


def captured_bootstrap(
    outcome: np.ndarray, weight: np.ndarray, scores: dict[str, np.ndarray], *, repeats: int, seed: int
) -> pd.DataFrame:
    """Resample people, scores and weights kept, for the share of an outcome in the first tenth by each score.

    Returns
    -------
    DataFrame
        One row per resample, one column per score; the columns share resamples, so that differences are paired.
    """
    need_events(float(outcome.sum()))
    counts = resample(np.random.default_rng(seed), len(outcome), repeats)
    draws = {name: [captured(n, outcome, weight, score, TOP) for n in counts] for name, score in scores.items()}
    return pd.DataFrame(draws)


def decision_curve(
    frame: pd.DataFrame, predictions: dict[str, np.ndarray], horizon: float, thresholds: Sequence[float]
) -> pd.DataFrame:
    """Net benefit of contacting everybody whose predicted risk passes a threshold.

    The threshold is the break-even risk: the cost of a contact over what a prevented exit is worth.

    Returns
    -------
    DataFrame
        ``rule, threshold, net_benefit, n`` per customer, in prevented-exit units; the rules ``everybody`` and
        ``nobody`` are added.

    References
    ----------
    Vickers and Elkin (2006), Medical Decision Making 26.
    """
    outcome, weight = censoring_weights(frame, horizon)
    n = read_spells(frame).n
    w = n * weight
    rules = {**predictions, "everybody": np.ones(len(frame)), "nobody": np.zeros(len(frame))}
    rows = []
    for name, p in rules.items():
        score = _scores(p, len(frame), 0, 1)
        for threshold in thresholds:
            chosen = score >= threshold
            true, false = (w * outcome)[chosen].sum(), (w * (1 - outcome))[chosen].sum()
            benefit = (true - false * threshold / (1 - threshold)) / w.sum()
            rows.append(
                {"rule": name, "threshold": threshold, "net_benefit": float(benefit), "n": int(n[chosen].sum())}
            )
    return pd.DataFrame(rows)


def score_bootstrap(
    frame: pd.DataFrame, predictions: dict[str, np.ndarray], horizon: float, *, repeats: int, seed: int
) -> pd.DataFrame:
    """Resample customers, the predictions kept, for intervals of skill and capture.

    Returns
    -------
    DataFrame
        One row per resample: for every prediction ``skill <name>`` and ``capture <name>``.
    """
    rng, people = np.random.default_rng(seed), read_spells(frame).n
    gone, stayed = _both(people, *censoring_weights(frame, horizon))
    need_events(gone, f"exits in {horizon:g} months")
    need_events(stayed, f"customers without an exit in {horizon:g} months")
    checked = {name: _scores(p, len(frame), 0, 1) for name, p in predictions.items()}
    frame = frame[[c for c in ("exit", "event", "of_interest") if c in frame.columns]]
    rows = []
    for _ in range(repeats):
        counts = resample(rng, people)
        part = counts > 0
        again, n = frame.loc[part].assign(n=counts[part]), counts[part]
        outcome, weight = censoring_weights(again, horizon)
        null = _brier(n, outcome, weight, _incidence(again, horizon))
        row = {}
        for name, p in checked.items():
            row[f"skill {name}"] = 1 - _brier(n, outcome, weight, p[part]) / null
            row[f"capture {name}"] = captured(n, outcome, weight, p[part], TOP)
        rows.append(row)
    return pd.DataFrame(rows)


def percentile_interval(values: pd.Series, estimate: float, unit: str, n: int) -> Estimate:
    """Estimate with its bootstrap percentile interval and standard deviation."""
    se, low, high = from_draws(values)
    return Estimate(float(estimate), float(min(low, estimate)), float(max(high, estimate)), unit, n, se=float(se))


def concordance_gain(
    event: np.ndarray, first: np.ndarray, second: np.ndarray, cluster: np.ndarray
) -> tuple[float, float, float]:
    """Concordance of two predictions of one outcome, and the error of its gain, paired by cluster (a customer's rows).

    Returns
    -------
    first, second, se : float
        In how many pairs did the row with an event have the higher prediction, by either; and the standard error of the
        difference.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44; by cluster: Obuchowski (1997), Biometrics 53.
    """
    from scipy.stats import rankdata

    case = np.asarray(event, dtype=bool)
    if case.all() or not case.any():
        raise FitError("a concordance needs rows with and without an event")
    code, placed, total = np.unique(cluster, return_inverse=True)[1], [], []
    for score in (_scores(s, len(case)) for s in (first, second)):
        rank, own = rankdata(score), np.empty(len(case))
        for side in (case, ~case):
            own[side] = (rank[side] - rankdata(score[side])) / (~side).sum()
        own[~case] = 1 - own[~case]
        placed.append(own)
        total.append(float(own[case].mean()))
    gap = placed[1] - placed[0]
    part = np.where(case, (gap - gap[case].mean()) / case.sum(), (gap - gap[~case].mean()) / (~case).sum())
    return total[0], total[1], float(np.sqrt(np.square(np.bincount(code, part)).sum()))
