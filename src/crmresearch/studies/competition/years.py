"""Whether customers become harder to keep and to win from year to year (S01, S01a, S01b)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, levels, normal, rates, told_apart
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import nobodys, of_squares

say = words.of("competition.trend")
LEAST = 24  # months, so that each month of the year is seen twice
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
    spent, nobody = beside["winning"], nobodys("a rate of leaving")
    own = nobody if isinstance(spent, Missing) else of_squares([spent["spend"].sum()], [spent["squares"].sum()])
    table = safe(table.assign(whose=[own if line == "S01a" else nobody for line in told]), parts=False)
    title = say("title", found=told["S01"]) if told_apart(told["S01"]) else say("title_open")
    return Result(
        table.rename(columns=say.names("columns")),
        say("sentence", found=told["S01"], n=exits, months=months),
        estimates=found,
        money=[say.names("columns")["estimate"]],
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
