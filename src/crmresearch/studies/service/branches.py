"""What conversion of branches does: satisfaction, waiting and revenue (S29), and minutes a step takes (S55, S55a)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import Functional, ratio, slopes
from crmresearch.estimators.causal.panels import seen_whole
from crmresearch.estimators.causal.pretrends import bounded, breakdown, drift, years
from crmresearch.estimators.causal.staggered import Effects, Panel, by_event, group_time, wild_interval
from crmresearch.estimators.causal.ways import ways
from crmresearch.estimators.inference import Estimate, ends, told_apart
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import parting
from crmresearch.result import Result, gate, study
from crmresearch.rules import nobodys, of_squares

QUARTER = 3  # months
say = words.of("service")
LEAST = 10  # branches that convert and are seen long enough
# Yearly difference in trend between branches that convert a standard deviation apart; over two years S29's bound, and
# as many minutes as S55's bound asks of the three quarters of a step that such a conversion takes away
DRIFT = {"satisfaction": 0.01, "handling": 0.08}
BOUND = {"satisfaction": 0.02, "handling": 0.2}  # of S29; of S55, minutes per step
YEAR = 4
MAGNITUDES = {"apart": 0.0, "half": 0.5, "whole": 1.0}  # how far trends may differ after, in moves of the year before
DECIDES = MAGNITUDES["half"]  # a whole move of so many branches is mostly chance


@study
def conversion(frame: pd.DataFrame, *, window_quarters: int, resamples: int, seed: int) -> Result:
    """Mean change of satisfaction over the quarters after a branch converts (S29), read in several ways.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    window_quarters : int
        Quarters after conversion that are averaged, the first one included; of branches that are seen that long.
    resamples, seed : int
        Of the wild bootstrap by branch.

    References
    ----------
    Callaway and Sant'Anna (2021), *Journal of Econometrics* 225, 200-230; Borusyak, Jaravel and Spiess (2024), *Review
    of Economic Studies* 91, 3253-3285; Rambachan and Roth (2023), *Review of Economic Studies* 90, 2555-2591.
    """
    if frame["satisfaction"].isna().all():
        raise NotApplicable(say("unasked"), "pulse")
    panel, left = _panel(frame, ["satisfaction"], window_quarters)["satisfaction"]
    read = {name: way(panel) for name, way in ways(window_quarters).items()}
    rows = [(name, int(one.n[0]), *wild_interval(one, draws=resamples, seed=seed)) for name, one in read.items()]
    after = years(panel, YEAR, max(1, window_quarters // YEAR))
    rows += _moves(after)
    table = pd.DataFrame(rows, columns=["row", "branches", "effect", "low", "high"])
    checks = (
        gate(say, "drift", Deviation(*drift(panel, YEAR), limit=DRIFT["satisfaction"])),
        parting(after, DECIDES, BOUND["satisfaction"]),
    )
    _, n, value, low, high = rows[0]
    found = Estimate(value, low, high, say("unit"), n, se=float(read["not_yet"].se[0]), checks=checks)
    early = float(panel.left_out)
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("converted", found=found, quarters=window_quarters)
        + (say("breakdown", m=breakdown(after, BOUND["satisfaction"])) if after is not None else "")
        + (say("gaps", n=float(left)) if left else "")
        + (say("early", n=early) if early else "")
        + ".",
        estimates={"S29": found},
        picture=_picture(panel, found, window_quarters),
        counts=(),
    )


def _panel(frame: pd.DataFrame, columns: list[str], window: int) -> dict[str, tuple[Panel, int]]:
    """Panels of the same branches, seen in every quarter that has any of it; how many others are left out."""
    wide = {c: frame.pivot_table(index="branch", columns="quarter", values=c, dropna=False) for c in columns}
    panels, _, gaps = seen_whole(frame.groupby("branch")["converted"].first(), *wide.values())
    first, seen = (panels[0].first, panels[0].periods) if panels else (np.empty(0), 0)
    if (first + window <= seen).sum() < LEAST or np.isfinite(first).all():
        raise NotApplicable(say("few_branches", least=LEAST, quarters=window), "branches", "pulse", "service")
    return {c: (panel, gaps) for c, panel in zip(columns, panels, strict=True)}


def _moves(after: Effects | None) -> list[tuple[str, int, float, float, float]]:
    """Rows of a conversion dated a year early, and of the years after it where trends may differ by so many moves."""
    if after is None:
        return []
    n, early, late = int(after.n[0]), after.when < 0, after.when >= 0
    value, se = -float(after.effect[early][0]), float(after.se[early][0])
    mean = float(after.effect[late].mean())
    return [("placebo", n, value, *ends(value, se)), *((k, n, mean, *bounded(after, m)) for k, m in MAGNITUDES.items())]


def _picture(panel: Panel, found: Estimate, window: int) -> Picture:
    """Effect by quarters since conversion, as long before it as after it."""
    event = by_event(group_time(panel, controls="not yet", base="universal"))
    low, high = ends(event.effect, event.se)
    data = pd.DataFrame({"x": event.when, "y": event.effect, "low": low, "high": high})
    near = (np.abs(event.when) <= window) & np.isfinite(event.se)
    marks = [Mark(0, style="none", axis="y"), Mark(-0.5, say("moment"), style="limit", axis="x")]
    x = say("x", n=float(np.isfinite(panel.first).sum()))
    title = say("title", found=found) if told_apart(found) else say("title_open")
    return Picture("curves", data[near], title, x, say("y"), {"marks": marks}, people=False)


@study
def cohorts(frame: pd.DataFrame, *, window_quarters: int) -> Result:
    """Effects on the branches that converted together, by year since conversion: what the means are made of.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    window_quarters : int
        Quarters after conversion that are told, and as many before it, where nothing should happen.
    """
    start, told = int(frame["quarter"].min()), max(1, window_quarters // YEAR)
    rows = []
    for name in ("satisfaction", "handling"):
        if frame[name].isna().all():
            continue
        fit = group_time(_panel(frame, [name], window_quarters)[name][0], controls="not yet", base="universal")
        year = (fit.when - fit.group) // YEAR
        for g in np.unique(fit.group):
            for k in range(-told, told):
                mine = (fit.group == g) & (year == k)
                if mine.any():
                    one = fit.where(mine).mean()
                    at, ends_ = divmod(start + int(g), YEAR), ends(one.effect[0], one.se[0])
                    rows.append((name, f"{at[0]}-Q{at[1] + 1}", int(one.n[0]), k + (k >= 0), one.effect[0], *ends_))
    if not rows:
        raise NotApplicable(say("unasked"), "pulse", "service")
    table = pd.DataFrame(rows, columns=["outcome", "entered", "branches", "year", "effect", "low", "high"])
    alone = table.groupby(["outcome", "entered"])["branches"].first()
    shown = table.assign(outcome=table["outcome"].map(say.names("beside.outcomes")))
    return Result(
        shown.rename(columns=say.names("cohorts.columns")),
        say("cohorts.sentence", n=float(len(alone)), alone=float((alone == 1).sum())),
        counts=(),
    )


# --- what else conversion moves ---------------------------------------------------------------------------------------


@study
def beside(frame: pd.DataFrame, *, window_quarters: int, resamples: int, seed: int) -> Result:
    """Waiting and revenue over the same quarters, beside satisfaction; and whom the panel of answers loses by it.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    window_quarters, resamples, seed : int
        As for :func:`conversion`.
    """
    some = frame["income"].where(frame["income"] > 0) / frame["paid"]
    stays = frame["exits"] / frame["at_risk"].where(frame["at_risk"] > 0)
    outcomes = frame.assign(revenue=np.log(some), stays=stays, reached=np.log(frame["answers"]))
    rows = []
    for name in ("satisfaction", "wait", "revenue", "stays", "reached"):
        if outcomes[name].isna().all():
            continue
        panel, left = _panel(outcomes, [name], window_quarters)[name]
        for way in ("not_yet", "two_way"):
            one = ways(window_quarters)[way](panel)
            rows.append((name, way, *wild_interval(one, draws=resamples, seed=seed), int(one.n[0]), left))
    if not rows:
        raise NotApplicable(say("unasked"), "pulse", "service", "monthly")
    table = pd.DataFrame(rows, columns=["outcome", "row", "effect", "low", "high", "branches", "left_out"])
    quarter = frame.groupby("quarter")[["gross", "squares"]].sum(min_count=1).dropna()
    owner = of_squares(quarter["gross"], QUARTER * quarter["squares"])  # a customer's three months are one total
    whose = [owner if name == "revenue" else nobodys("no money") for name in table["outcome"]]
    first = table[table["row"] == "not_yet"].set_index("outcome")
    told = [say("beside.wait", one=first.loc["wait"])] if "wait" in first.index else []
    told += [say("beside.revenue", one=first.loc["revenue"])] if "revenue" in first.index else []
    shown = table.assign(
        outcome=table["outcome"].map(say.names("beside.outcomes")), row=table["row"].map(say.names("rows")), whose=whose
    )
    return Result(
        shown.rename(columns=say.names("beside.columns")),
        say("beside.sentence", quarters=window_quarters, told=words.joined(told)),
        counts=(),
        money=[say.names("beside.columns")["effect"]],
    )


@study
def missing(frame: pd.DataFrame) -> Result:
    """Branches that the panel of answers leaves out, by whether they convert, and what was answered in the first year.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    """
    if frame["satisfaction"].isna().all():
        raise NotApplicable(say("unasked"), "pulse")
    asked = frame.groupby("branch")["satisfaction"].count()
    early = frame[frame["quarter"] < frame["quarter"].min() + 4].groupby("branch")[["satisfaction", "quality"]].mean()
    one = frame.groupby("branch").agg(converted=("converted", "first"), answers=("answers", "sum")).join(early)
    one = one.assign(arm=np.where(np.isposinf(one["converted"]), "never", "converts"), whole=asked == asked.max())
    table = one.groupby(["arm", "whole"], as_index=False).agg(
        branches=("converted", "size"), satisfaction=("satisfaction", "mean"), answers=("answers", "sum")
    )
    out = one.loc[~one["whole"], "arm"].value_counts()
    left = {arm: float(out.get(arm, 0)) for arm in ("converts", "never")}
    names = say.names("missing.values")
    table = table.assign(arm=table["arm"].map(names), whole=np.where(table["whole"], names["whole"], names["gaps"]))
    return Result(
        table.astype({"answers": "int64"}).rename(columns=say.names("missing.columns")),
        say("missing.sentence", converts=left["converts"], never=left["never"], n=float(len(one))),
        counts=(say.names("missing.columns")["answers"],),
    )


# --- steps and minutes ------------------------------------------------------------------------------------------------


@study
def handling(frame: pd.DataFrame, cases: pd.DataFrame, *, window_quarters: int) -> Result:
    """Minutes of handling for one more step: by conversion of the branch (S55), and within customers (S55a).

    Conversion takes steps away; the minutes that go with them, over the steps, are what a step takes if conversion
    moves minutes through steps alone, which no data show. Within customers it would be more than that, where hard cases
    take more steps and take longer.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    cases : DataFrame
        From :func:`crmresearch.data.reductions.service.handling_by_steps`.
    window_quarters : int
        As for :func:`conversion`.

    References
    ----------
    Imbens and Angrist (1994), *Econometrica* 62, 467-475.
    """
    if frame["handling"].isna().all():
        raise NotApplicable(say("handling.unknown"), "service")
    panels = _panel(frame, ["handling", "steps"], window_quarters)
    moved, parts = {}, {}
    for name, (one, _) in panels.items():
        moved[name] = ways(window_quarters)["not_yet"](one)
        parts[name] = Functional(float(moved[name].effect[0]), moved[name].influence[:, 0])
    n, every = int(moved["steps"].n[0]), int(cases["rows"].sum())
    found = ratio(parts["handling"], parts["steps"], say("handling.unit"), n)
    length = max(1, window_quarters // YEAR)
    after = {name: years(one, YEAR, length) for name, (one, _) in panels.items()}
    # minutes at which a step would take as many as the bound says, for as many steps as conversion takes away
    step, seen = parts["steps"].value, after["steps"]
    if seen is not None:
        step = float(seen.effect[seen.when >= 0].mean())
    checks = (
        gate(say, "handling.only", None),
        gate(say, "handling.drift", Deviation(*drift(panels["handling"][0], YEAR), limit=DRIFT["handling"])),
        parting(after["handling"], DECIDES, BOUND["handling"] * step),
    )
    found = Estimate(found.value, found.ci_low, found.ci_high, found.unit, n, found.se, checks)
    within, between = slopes(cases)
    told = bool(np.isfinite([found.ci_low, found.ci_high]).all())
    rows = [("by_conversion", n, found.value, found.ci_low, found.ci_high, "branches")] if told else []
    rows += [(k, every, one.value, one.low, one.high, "cases") for k, one in (("within", within), ("between", between))]
    rows += [(k, n, one.value, one.low, one.high, "branches") for k, one in parts.items()]
    rows += [(*row, "branches") for row in _moves(after["handling"])]
    estimates = {"S55": found, "S55a": within.estimate(say("handling.unit"), every)}
    table = pd.DataFrame(rows, columns=["row", "n", "effect", "low", "high", "of"])
    shown = table.assign(row=table["row"].map(say.names("handling.rows")), of=table["of"].map(say.names("handling.of")))
    return Result(
        shown[["row", "effect", "low", "high", "n", "of"]].rename(columns=say.names("handling.columns")),
        say("handling.sentence", handling=parts["handling"], steps=parts["steps"], branches=float(n))
        + (say("handling.step", found=found) if told else ""),
        estimates=estimates,
    )
