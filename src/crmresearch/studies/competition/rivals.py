"""What the entry of rivals does to the incumbent's share and income (S45, S45a)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.causal.panels import seen_whole
from crmresearch.estimators.causal.pretrends import bounded, breakdown
from crmresearch.estimators.causal.staggered import (
    Effects,
    Panel,
    Several,
    across,
    by_block,
    by_event,
    group_time,
    treated,
    wild_interval,
)
from crmresearch.estimators.causal.ways import ways
from crmresearch.estimators.inference import Estimate, ends, told_apart
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import parting
from crmresearch.result import Check, Result, gate, study
from crmresearch.rules import of_squares

say = words.of("competition.entry")
YEAR = 12
LEAST = 4  # places that rivals entered of a tier that is read
DATED = 20  # places without rivals, among which dates are drawn
BOUNDS = {"share": -0.001, "income": -0.01}  # of S45 and S45a in the register
MAGNITUDES = (1.0, 2.0)  # how far trends may differ after entry, in moves of the year before it; the last one decides


@study
def entry(frame: pd.DataFrame, *, window_months: int, resamples: int, seed: int) -> Result:
    """Mean change of the incumbent's share over the months after a rival's entry (S45), read in several ways.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.competition.markets`.
    window_months : int
        Months after entry that are averaged, of places that are seen that long.
    resamples, seed : int
        Of the wild bootstrap by region.

    References
    ----------
    Callaway and Sant'Anna (2021), *Journal of Econometrics* 225, 200-230; Borusyak, Jaravel and Spiess (2024), *Review
    of Economic Studies* 91, 3253-3285; Rambachan and Roth (2023), *Review of Economic Studies* 90, 2555-2591.
    """
    step = _step(frame)
    window = max(1, round(window_months / step))
    panels, out = _panels(frame, "share")
    read, blocks = _readings(panels, window, step)
    rows = [_row(name, one, resamples, seed) for name, one in read.items()] + _bounds(blocks)
    if frame["owner_share"].notna().any():
        by_owner, _ = _readings(_panels(frame, "owner_share")[0], window, step)
        rows.append(_row("owners", by_owner["not_yet"], resamples, seed))
    table = pd.DataFrame(rows, columns=["row", "places", "effect", "low", "high"])
    checks = (parting(blocks, MAGNITUDES[-1], BOUNDS["share"]), *_placebo(panels, window, seed))
    share = _estimate(read["not_yet"], say("points"), resamples, seed, checks)
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        _sentence(share, window * step, out, blocks),
        estimates={"S45": share},
        picture=_picture(panels, step, share, window * step),
        counts=(),
        digits=4,
    )


@study
def income(frame: pd.DataFrame, monthly: pd.DataFrame, *, window_months: int, resamples: int, seed: int) -> Result:
    """Mean change of the log of the income that customers of a place bring, over the same months (S45a).

    Parameters
    ----------
    frame, monthly : DataFrame
        From ``markets`` and ``income`` of :mod:`crmresearch.data.reductions.competition`.
    window_months, resamples, seed : int
        As for :func:`entry`.
    """
    positive = monthly[monthly["income"] > 0]
    both = frame.merge(positive.assign(log=np.log(positive["income"])), on=["city", "month"])
    step = _step(both)
    window = max(1, round(window_months / step))
    panels, out = _panels(both, "log")
    read, blocks = _readings(panels, window, step)
    checks = (parting(blocks, MAGNITUDES[-1], BOUNDS["income"]),)
    found = _estimate(read["not_yet"], say("log"), resamples, seed, checks)
    rows = [_row(name, one, resamples, seed) for name, one in read.items()]
    table = pd.DataFrame(rows, columns=["row", "places", "effect", "low", "high"])
    month = both.groupby("month")[["gross", "squares"]].sum()
    table = table.assign(whose=of_squares(month["gross"], month["squares"]))
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("income", found=found, months=window * step) + _left_out(out) + ".",
        estimates={"S45a": found},
        counts=(),
        money=[say.names("columns")["effect"]],
        digits=4,
    )


def _step(frame: pd.DataFrame) -> int:
    """Months from one period to the next."""
    gaps = np.diff(np.unique(frame["month"]))
    return int(np.median(gaps)) if len(gaps) else YEAR


def _panels(frame: pd.DataFrame, column: str) -> tuple[dict[int, Panel], dict[str, int]]:
    """Make one panel a tier, of places seen in every period; count the places left out, by the reason."""
    wide = frame.pivot_table(index="city", columns="month", values=column)
    town = frame.groupby("city")[["tier", "entered", "region"]].first().loc[wide.index]
    found, places, gaps = seen_whole(town["entered"], wide)
    panels, alone = {}, town["region"].nunique() == len(town)
    for every in found:
        own = town.loc[places]
        for tier in sorted(town["tier"].unique()):
            mine = (own["tier"] == tier).to_numpy()
            never = np.isinf(every.first[mine])
            if (~never).sum() >= LEAST and never.any():
                region = None if alone else own["region"].to_numpy()[mine]
                panels[int(tier)] = Panel(every.values[mine], every.first[mine], region)
    return panels, {"gaps": gaps, "always": len(town) - gaps - len(places)}


def _over(panels: dict[int, Panel], estimate: Callable[[Panel], Effects]) -> Several | None:
    """Put an estimate of every tier together, by places entered; of the tiers that allow it."""
    parts = []
    for panel in panels.values():
        try:
            parts.append(estimate(panel))
        except InputError:  # too few periods or places in this tier
            continue
    return across(parts, [p.n[-1] for p in parts]) if parts else None


def _readings(panels: dict[int, Panel], window: int, step: int) -> tuple[dict[str, Several], Several | None]:
    """Estimate the same effect in four ways, the last one naive; and years after entry against the one before."""
    found = {name: _over(panels, way) for name, way in ways(window).items()}
    if found["not_yet"] is None:
        raise NotApplicable(say("no_panel", least=LEAST, months=window * step), "markets")
    year, years = max(1, round(YEAR / step)), max(1, window * step // YEAR)
    blocks = _over(panels, lambda p: by_block(group_time(p, controls="not yet", base="universal"), year, 2, years))
    return {name: one for name, one in found.items() if one is not None}, blocks


def _row(name: str, one: Several, resamples: int, seed: int) -> tuple[Any, ...]:
    return name, int(one.n[0]), *wild_interval(one, draws=resamples, seed=seed)


def _estimate(one: Several, unit: str, resamples: int, seed: int, checks: tuple[Check, ...]) -> Estimate:
    return Estimate(
        *wild_interval(one, draws=resamples, seed=seed), unit, len(one.influence), se=float(one.se[0]), checks=checks
    )


def _bounds(blocks: Several | None) -> list[tuple[Any, ...]]:
    """Rows of the years after entry against the year before it, where trends may differ by so many of its moves."""
    if blocks is None:
        return []
    after = blocks.when >= 0
    value = float(blocks.effect[after].mean())
    return [(f"moves_{m:g}", int(blocks.n[0]), value, *bounded(blocks, m)) for m in (0.0, *MAGNITUDES)]


def _placebo(panels: dict[int, Panel], window: int, seed: int) -> list[Check]:
    """Effect at dates that nobody had: those of others, in half of the places that rivals never entered."""
    found = _over(panels, lambda p: treated(group_time(_redated(p, seed)), window).pooled())
    if found is None:
        return []
    value, se = float(found.effect[0]), float(found.se[0])
    return [gate(say, "placebo", Deviation(value, *ends(value, se), limit=abs(BOUNDS["share"])))]


def _redated(panel: Panel, seed: int) -> Panel:
    never = np.flatnonzero(np.isinf(panel.first))
    if len(never) < DATED:
        raise InputError("too few places")
    rng = np.random.default_rng(seed)
    drawn = np.full(len(never), np.inf)
    some = rng.permutation(len(never))[: len(never) // 2]
    drawn[some] = rng.choice(panel.first[np.isfinite(panel.first)], len(some))
    return Panel(panel.values[never], drawn, None if panel.cluster is None else panel.cluster[never])


def _sentence(share: Estimate, months: int, out: dict[str, int], blocks: Several | None) -> str:
    text = say("sentence", found=share, months=months)
    if blocks is not None:
        text += say("breakdown", m=breakdown(blocks, BOUNDS["share"]))
    return text + _left_out(out) + "."


def _left_out(out: dict[str, int]) -> str:
    gaps, always = (float(out[k]) for k in ("gaps", "always"))
    return (say("gaps", n=gaps) if gaps else "") + (say("always", n=always) if always else "")


def _picture(panels: dict[int, Panel], step: int, share: Estimate, months: int) -> Picture:
    """Effects by time since entry, one curve a tier, two years to either side."""
    rows = []
    for tier, panel in panels.items():
        event = by_event(group_time(panel, controls="not yet", base="universal"))
        near = np.abs(event.when) * step <= 2 * YEAR
        low, high = ends(event.effect, event.se)
        data = pd.DataFrame({"x": event.when * step, "y": event.effect, "low": low, "high": high})
        rows.append(data[near & np.isfinite(event.se)].assign(group=say("tier", tier=tier)))
    curves = pd.concat(rows, ignore_index=True)
    marks = [Mark(0, style="none", axis="y"), Mark(-step / 2, say("arrival"), style="limit", axis="x")]
    entered = sum(float(np.isfinite(panel.first).sum()) for panel in panels.values())
    title, x = say("title_open"), say("x", n=entered)
    if told_apart(share):
        title = say("title", points=100 * share.value, months=months)
    return Picture("curves", curves, title, x, say("y"), {"unit": "points", "marks": marks}, people=False)


# --- every group ------------------------------------------------------------------------------------------------------


@study
def cohorts(frame: pd.DataFrame, *, window_months: int) -> Result:
    """Effects on the places that were entered together, by year since entry: what the mean is made of.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.competition.markets`.
    window_months : int
        Months after entry that are told.
    """
    periods, step = np.unique(frame.loc[frame["share"].notna(), "month"]), _step(frame)
    rows = []
    for tier, panel in _panels(frame, "share")[0].items():
        fit = treated(group_time(panel, controls="not yet"))
        year = (fit.when - fit.group) * step // YEAR
        for g in np.unique(fit.group):
            for k in range(max(1, window_months // YEAR)):
                mine = (fit.group == g) & (year == k)
                if mine.any():
                    one = fit.where(mine).mean()
                    month = int(periods[int(g)])
                    entered = f"{month // 12}-{month % 12 + 1:02d}"
                    low, high = ends(one.effect[0], one.se[0])
                    rows.append((tier, entered, int(one.n[0]), k + 1, one.effect[0], low, high))
    if not rows:
        raise NotApplicable(say("no_panel", least=LEAST, months=window_months), "markets")
    table = pd.DataFrame(rows, columns=["tier", "entered", "places", "year", "effect", "low", "high"])
    alone = table.groupby(["tier", "entered"])["places"].first() == 1
    return Result(
        table.rename(columns=say.names("columns")),
        say("cohorts", n=float(len(alone)), alone=float(alone.sum())),
        counts=(),
        digits=4,
    )
