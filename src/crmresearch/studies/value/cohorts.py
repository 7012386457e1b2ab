"""Customers by year of acquisition, and what age, calendar time and vintage can and cannot be told apart."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.worth import cohorts
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, study
from crmresearch.rules import of_groups

say = words.of("value.cohorts")


@study
def vintages(frame: pd.DataFrame) -> Result:
    """Contribution and retention by year of acquisition.

    Parameters
    ----------
    frame : DataFrame
        ``fold``, ``vintage``, ``period``, ``age``, ``customers``, ``n``, ``at_risk``, ``exits``, ``contribution``
        (``reductions.value.vintages``).

    Returns
    -------
    Result
        By vintage: the ages seen, contribution per customer-month, the chance to stay a year, and exits over those
        expected if each age left at the rate of all vintages together, each with its jackknife interval; the latter
        not where no other vintage is seen at the same ages, as it would be 1 by arithmetic. Vintages are seen at
        different ages; only the last column compares like with like, and even that mixes vintage with calendar.
    """
    table = cohorts.vintage_rates(cohorts.checked(frame))
    each = {vintage: of_groups(part, "fold", "contribution") for vintage, part in frame.groupby("vintage")}
    table = safe(table.assign(whose=table["vintage"].map(each)), ("n", "exits"))
    if len(table.dropna(subset="n")) < 2:
        few = say("vintages.too_few", vintages=len(table), needed=cohorts.MIN_CUSTOMERS)
        raise NotApplicable(few, "monthly")
    old, new = table.dropna(subset="n").iloc[[0, -1]].to_dict("records")
    panels: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        ("money", "ci", say("vintages.money", old=old, new=new), say("vintages.money_y"), {"unit": "money"}),
        ("stay", "stay", say("vintages.stay", old=old, new=new), say("vintages.stay_y"), {"unit": "percent"}),
    )
    like = table.dropna(subset=["n", "ratio"])
    if len(like) > 1:
        first, last = like.iloc[[0, -1]].to_dict("records")
        title = say("vintages.ratio", old=first, new=last)
        panels = (*panels, ("ratio", "ratio", title, say("vintages.ratio_y"), {"marks": [Mark(1)]}))
    x, pictures = say("vintages.x", least=table["n"].min(), most=table["n"].max()), []
    for column, ends, title, y, options in panels:
        own = {"vintage": "label", column: "estimate", f"{ends}_low": "low", f"{ends}_high": "high", "n": "n"}
        data = table[list(own)].rename(columns=own)
        pictures.append(Picture("intervals", data, title, x, y, {"upright": True, **options}))
    names = say.names("vintages.columns")
    return Result(
        table.rename(columns=names),
        say("vintages.sentence", old=old, new=new),
        picture=tuple(pictures),
        money=[names["money"]],
    )


@study
def age_period_cohort(frame: pd.DataFrame) -> Result:
    """Contribution per customer-month by age, calendar year and vintage: what of it is identified.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`vintages`.

    Returns
    -------
    Result
        The two identified sums of trends, and for every age, calendar year and vintage the deviation from the linear
        trend of its factor (weighted by customer-months), with jackknife intervals. The trends of age, calendar time
        and vintage by themselves are not identified and not given. Not applicable where a factor has fewer than three
        levels with enough customers.

    Raises
    ------
    InputError
        If the cells are too few to separate the curvatures, or do not fit together.
    """
    frame, names = cohorts.enough_levels(cohorts.checked(frame)), say.names("clocks.factors")
    short = [names[f] for f in cohorts.FACTORS if frame[f].nunique() < 3]
    if short:
        few = say("clocks.too_few", factors=words.joined(short, ", "), needed=cohorts.MIN_CUSTOMERS)
        raise NotApplicable(few, "monthly")
    table, se = cohorts.identified(frame)
    # one judgement for all rows: each curvature is a contrast of every cell, so whoever dominates one is in all
    table = safe(table.assign(whose=of_groups(frame, "fold", "contribution")), parts=False)
    trends, rest = table.iloc[:2], table.iloc[2:]
    clear = int(((rest["ci_low"] > 0) | (rest["ci_high"] < 0)).sum())
    axes = say.names("clocks.axes")
    pictures: list[Picture] = []
    for factor in cohorts.FACTORS:
        part = rest[rest["factor"] == factor]
        x = say("clocks.x", axis=axes[factor], least=part["n"].min(), most=part["n"].max())
        data, off = part.rename(columns={"level": "label"}), int(((part["ci_low"] > 0) | (part["ci_high"] < 0)).sum())
        title = say("clocks.title", factor=names[factor].capitalize(), off=off, levels=len(part))
        y = say("clocks.y") if not pictures else ""
        pictures.append(Picture("intervals", data, title, x, y, {"upright": True, "marks": [Mark(0)]}))
    levels = trends["level"].map(say.names("clocks.trends"))
    return Result(
        table.assign(level=[*levels, *rest["level"]], factor=table["factor"].map(names)),
        say(
            "clocks.sentence",
            within=trends.iloc[0],
            across=trends.iloc[1],
            levels=len(rest),
            clear=clear,
            chance=0.05 * len(rest),
        ),
        picture=tuple(pictures),
        money=["estimate"],
        digits=2,
        details={"se": se},
    )
