"""Whether customers become harder to keep and to win from year to year (S01, S01a, S01b)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, full_rank, normal, sized
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study

say = words.of("competition.trend")
LEAST = 24  # months, so that each month of the year is seen twice
CONSTANT = 1  # column of the design
EVENTS = 50  # exits or wins that a trend rests on


@study
def trend(stays: pd.DataFrame, beside: Mapping[str, pd.DataFrame | Missing]) -> Result:
    """Yearly change of the hazard of exit and of the cost per win, month of the year removed (S01, S01a, S01b).

    Parameters
    ----------
    stays : DataFrame
        From :func:`crmresearch.data.reductions.competition.stays`.
    beside : mapping of str to DataFrame or Missing
        ``winning`` and ``markets``, from the functions of these names there.

    References
    ----------
    McCullagh and Nelder (1989), *Generalized Linear Models*, 6; errors by cluster: MacKinnon, Nielsen and Webb (2023),
    *Journal of Econometrics* 232, 272-299.
    """
    if (months := stays["month"].nunique()) < LEAST:
        raise NotApplicable(say("short", n=months, least=LEAST), "customers")
    if (exits := int(stays["exits"].sum())) < EVENTS:
        raise NotApplicable(say("few", n=exits, least=EVENTS), "customers")
    found: dict[str, Estimate | Missing]
    found = {"S01": _hazard(stays), "S01a": _cost(beside["winning"]), "S01b": _held(stays, beside["markets"])}
    told = {line: one for line, one in found.items() if isinstance(one, Estimate)}
    named = say.names("lines")
    rows = [(named[line], one.value, one.ci_low, one.ci_high, one.n) for line, one in told.items()]
    table = pd.DataFrame(rows, columns=["label", "estimate", "low", "high", "n"])
    title = say("title", found=told["S01"])
    return Result(
        table.rename(columns=say.names("columns")),
        say("sentence", found=told["S01"], n=exits, months=months),
        estimates=found,
        picture=Picture("intervals", table, title, say("x", n=exits), options={"marks": [Mark(0, style="none")]}),
    )


def _hazard(stays: pd.DataFrame, *more: str) -> Estimate:
    """Trend of the log hazard, given years of tenure, tier (where known), month of the year and further columns."""
    some = stays[stays["at_risk"] > 0]
    kinds = [k for k in ("year", "tier") if k in some]
    x = [_calendar(some["month"]), some[list(more)].to_numpy(float), *(levels(some[k]) for k in kinds)]
    clusters = [some[k].to_numpy() for k in ("month", "city")]
    b, se = rates(np.column_stack(x), some["exits"], some["at_risk"], clusters)
    return normal(b[0], se[0], say("hazard"), int(some["exits"].sum()), checks=(gate(say, "cohorts", None),))


def _held(stays: pd.DataFrame, markets: pd.DataFrame | Missing) -> Estimate | Missing:
    """Trend with the number of rival branches held: what rivals do not explain."""
    if isinstance(markets, Missing):
        return markets
    both = stays.merge(markets[["city", "month", "rivals", "tier"]], on=["city", "month"])
    if both["exits"].sum() < EVENTS or both["rivals"].nunique() < 2:
        return Missing(say("no_rivals"), ("markets",))
    return _hazard(both.assign(rivals=np.log1p(both["rivals"])), "rivals")


def _cost(winning: pd.DataFrame | Missing) -> Estimate | Missing:
    """Trend of the log of spend per win: wins per unit of spend, with its sign turned."""
    if isinstance(winning, Missing):
        return winning
    some = winning[winning["spend"] > 0]
    if some["month"].nunique() < LEAST or some["won"].sum() < EVENTS:
        return Missing(say("few_wins", n=int(some["won"].sum()), least=EVENTS, months=LEAST), ("prospects",))
    b, se = rates(_calendar(some["month"]), some["won"], some["spend"], [some["month"].to_numpy()])
    return normal(-b[0], se[0], say("cost"), int(some["n"].sum()))


def _calendar(month: pd.Series) -> np.ndarray:
    """Years since the first month, a constant, and the month of the year."""
    return np.column_stack([(month - month.min()) / 12, np.ones(len(month)), levels(month % 12)])


def levels(values: pd.Series) -> np.ndarray:
    """One column a value, the first one left out."""
    return pd.get_dummies(values, drop_first=True).to_numpy(float)


def rates(
    x: np.ndarray, events: pd.Series, exposure: pd.Series, clusters: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a log-linear rate, the second one constant, each with the largest of its errors by cluster."""
    full_rank(x)
    y, time = events.to_numpy(float), exposure.to_numpy(float)
    sized(y.sum(), x.shape[1])
    b = np.zeros(x.shape[1])
    b[CONSTANT] = np.log(y.sum() / time.sum())
    for _ in range(50):
        mu = time * np.exp(x @ b)
        bread = np.linalg.inv(x.T @ (x * mu[:, None]))
        step = bread @ (x.T @ (y - mu))
        b = b + step
        if np.abs(step).max() < 1e-9:
            break
    else:
        raise FitError(say("settle"))
    return b, np.sqrt(np.max([_variance(x, y, mu, c) for c in clusters if len(np.unique(c)) > 1], axis=0))


def _variance(x: np.ndarray, y: np.ndarray, mu: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Jackknife by cluster, in one step each; a constant of the cluster's own goes with it."""
    code = np.unique(cluster, return_inverse=True)[1]
    groups = [np.flatnonzero(code == g) for g in range(code.max() + 1)]
    weighted = x * mu[:, None]
    whole = x.T @ weighted
    score = x * (y - mu)[:, None]
    moved = [np.linalg.pinv(whole - x[r].T @ weighted[r], hermitian=True) @ score[r].sum(axis=0) for r in groups]
    return np.asarray((1 - 1 / len(groups)) * np.square(moved).sum(axis=0))
