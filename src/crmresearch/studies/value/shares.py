"""How concentrated the value of a bank's customers is: the studies, by measure and by window, and who loses money."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import OFF, safe
from crmresearch.errors import InputError, Missing
from crmresearch.estimators import inequality
from crmresearch.estimators.frames import once
from crmresearch.estimators.inference import Estimate
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, leading, study
from crmresearch.rules import nobodys, rules, whose
from crmresearch.studies import Choices, Frames, Setting

say = words.of("value.shares")

MIN_TAIL = 2.0  # tail index at or below it: no variance, and no interval that covers
MIN_MEAN_Z = 5.0  # standard errors the mean must be away from zero: shares divide by it
GINI, TOP1, TOP10, TOP20, PROFITABLE = inequality.STATISTICS
LINES = {"S19": TOP20, "S19a": TOP1, "S19b": TOP10, "S19c": GINI}
BESIDE = {"S19d": "turnover", "S19e": "fees"}  # top fifth of what banks without costs know
COSTED = ("contribution", "fully_loaded")  # measures that know costs
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def _gates(x: np.ndarray) -> tuple[Check, ...]:
    tail, error = inequality.hill(x), x.std(ddof=1) / x.size**0.5
    z = x.mean() / error if error > 0 else float("inf") if x.mean() > 0 else 0.0
    return (
        gate(say, "tail", tail[0] > MIN_TAIL, tail=tail, least=MIN_TAIL),
        gate(say, "mean", bool(z > MIN_MEAN_Z), z=z, least=MIN_MEAN_Z),
        gate(say, "dominance", not whose(x).dominated, one=rules.largest, two=rules.two),
    )


def measured(frame: pd.DataFrame) -> Mapping[str, str]:
    """Value columns of a frame and how they are called, the one to lead with first.

    Raises
    ------
    InputError
        If the frame has none, or a customer occurs twice.
    """
    known = say.names("measures")
    found = {m: label for m, label in known.items() if m in frame.columns}
    if not found:
        columns = words.joined([str(c) for c in frame.columns], ", ")
        raise InputError(say("no_measure", known=words.joined(list(known), ", "), columns=columns))
    once(frame, "value")
    if set(COSTED) <= found.keys() and frame[COSTED[0]].equals(frame[COSTED[1]]):
        found.pop(COSTED[1])  # no cost is allocated: the same numbers under another name
    return found


def _one(x: np.ndarray, seed: int, resamples: int) -> tuple[pd.DataFrame, tuple[Check, ...]]:
    """Rows of one measure in one window, and their gates; without a positive mean shares are undefined and missing."""
    checks = _gates(x)
    columns = ["estimate", "ci_low", "ci_high", "se"]
    rows = pd.DataFrame(np.nan, index=pd.Index(inequality.STATISTICS, name="statistic"), columns=columns)
    if x.mean() > 0:
        rows = inequality.intervals(x, seed=seed, resamples=resamples)[columns]
    rows["n"] = [x.size, *(int(q * x.size) for q in inequality.TOP), int((x > 0).sum())]
    best = [x, *(np.sort(x)[-max(int(q * x.size), 1) :] for q in inequality.TOP), x[x > 0]]
    rows["whose"] = [whose(own) for own in best]
    if x.min() >= 0:
        rows = rows.drop(index=PROFITABLE)  # without losses it is 1 by arithmetic
    closed = words.joined([c.name for c in checks if c.status == "closed"], ", ")
    rows = rows.assign(gates=say("closed", names=closed) if closed else "open").reset_index()
    return safe(rows, parts=False), checks


def _curves(
    curves: Mapping[str, pd.DataFrame], tables: Mapping[str, pd.DataFrame], labels: Mapping[str, str]
) -> tuple[Picture, ...]:
    """Lorenz and whale curves, the latter with the intervals of the top shares."""
    lines, points, titles = [], [], {}
    for name, curve in curves.items():
        rows = tables[name].set_index("statistic")
        group = say("curve", measure=labels[name], n=rows.loc[GINI, "n"])
        lines.append(curve.assign(group=group, dashed=False))
        top = rows.loc[list(inequality.STATISTICS[1:4])]
        names = {"estimate": "y", "ci_low": "low", "ci_high": "high"}
        points.append(top.rename(columns=names).assign(x=inequality.TOP, group=group))
        half = np.interp(0.5, curve["customers"], curve["lorenz"])
        titles[name] = (
            say("lorenz", measure=labels[name], half=half),
            say("whale", measure=labels[name], row=rows.loc[TOP20]),
        )
    every = pd.concat(lines).rename(columns={"customers": "x"})
    every["n"] = every["n"].where(every["x"] > 0, 0)  # nobody stands behind the first point
    equal = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "group": say("equal"), "dashed": True, "n": 0})
    left = pd.concat([every.rename(columns={"lorenz": "y"}), equal])
    right, y, unit = every.rename(columns={"whale": "y"}), say("cumulative"), {"unit": "percent", "x_unit": "percent"}
    title = next(iter(titles.values()))
    options = {**unit, "points": pd.concat(points), "marks": [Mark(1, style="limit", axis="y")]}
    return (
        Picture("curves", left, title[0], say("worst"), y, unit),
        Picture("curves", right, title[1], say("best"), y, options),
    )


@study
def concentration(frame: pd.DataFrame, *, seed: int, resamples: int = 999) -> Result:
    """How concentrated value is among customers, in one window.

    Parameters
    ----------
    frame : DataFrame
        One row per customer (``reductions.value.contribution``) with ``contribution`` and, where costs are allocated,
        ``fully_loaded``; or ``spend``, ``fees``, ``interest`` or ``turnover`` where a bank has no margins. Money per
        window.
    seed, resamples : int
        Of the studentised bootstrap.

    Returns
    -------
    Result
        Statistics by measure with 95% intervals, the Lorenz and whale curve, gates; S19, S19a, S19b, S19c.

    Raises
    ------
    InputError
        If a value is missing, a customer occurs twice, or no value column is present.
    """
    labels = measured(frame)
    tables, checks, curves = {}, {}, {}
    for name in labels:
        x = inequality.checked(frame[name], name)
        tables[name], checks[name] = _one(x, seed, resamples)
        if x.mean() > 0 and not whose(x).dominated:
            curves[name] = inequality.lorenz(x, smallest=rules.least)
    columns = ["measure", "statistic", "estimate", "ci_low", "ci_high", "n", "gates"]
    table = pd.concat([t.assign(measure=labels[m]) for m, t in tables.items()], ignore_index=True)
    off = {v: n for t in tables.values() for v, n in t.attrs.get(OFF, {}).items()}
    table.attrs = next(iter(tables.values())).attrs | {
        OFF: off
    }  # concat keeps what the door wrote only where all agree
    table = leading(table, *columns)
    lead, n = next(iter(labels)), len(frame)
    estimates: dict[str, Estimate | Missing] = {}
    wanted = {line: (lead, statistic) for line, statistic in LINES.items()}
    for line, measure in BESIDE.items():
        estimates[line] = Missing(say("unknown", measure=say.names("measures")[measure]), ("snapshot",))
        wanted |= {line: (measure, TOP20)} if measure in tables else {}
    for line, (measure, statistic) in wanted.items():
        row = tables[measure].set_index("statistic").loc[statistic]
        value, low, high, se = (float(row[c]) for c in ("estimate", "ci_low", "ci_high", "se"))
        own: tuple[Check, ...] = ()
        if pd.isna(row["n"]):
            own = (gate(say, "cell", False, least=rules.least),)
        unit = say("gini" if statistic == GINI else "unit", measure=labels[measure])
        own += checks[measure] if measure != lead else ()
        estimates[line] = Estimate(value, low, high, unit, n, se=se, checks=own)
    if lead in curves:
        sentence = say("sentence", n=n, top=estimates["S19"], measure=labels[lead], gini=estimates["S19c"])
        sentence += "" if lead in COSTED else say("stand_in", measure=labels[lead])
        sentence += _window(frame)
    elif whose(frame[lead]).dominated:
        sentence = say("heavy", n=n, measure=labels[lead])
    else:
        sentence = say("undefined", n=n, measure=labels[lead])
    return Result(
        table,
        sentence,
        checks[lead],
        estimates,
        picture=_curves(curves, tables, labels) if curves else None,
        money=["estimate"],
        details={"curves": curves},
    )


def _ask(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting], Estimate | Missing]:
    @functools.cache
    def found(months: int, measure: str) -> Estimate | Missing:
        frame = frames("value.contribution", months=months)
        if isinstance(frame, Missing):
            return frame
        known = list(measured(frame))
        if measure == COSTED[0]:
            measure = known[0]  # what stands in for contribution where no cost is known
        elif measure not in known:
            return Missing(say("unloaded"), ("monthly",))
        own = frame.drop(columns=[m for m in known if m != measure])
        return concentration(own, seed=given["seed"], resamples=given["resamples"]).finding("S19")

    return lambda setting: found(setting["months"], setting["measure"])


CHOICES = Choices("S19", {"months": (12, 3, 6, 24, 36), "measure": COSTED}, _ask)


@study
def concentration_by_window(frame: pd.DataFrame, *, windows: Sequence[int], seed: int, resamples: int = 499) -> Result:
    """The same statistics in windows of different length, all ending on the same day.

    A short window mixes lasting differences with the accident of when something happened; a long one mixes customers
    who were there throughout with those who came or left. Concentration belongs to a bank and a window.

    Parameters
    ----------
    frame : DataFrame
        One row per customer with one column ``<measure>_<months>`` per window, missing where the customer was not
        there (``reductions.value.contribution_windows``); the first measure that it has is taken.
    windows : sequence of int
        Lengths in months; those the frame lacks (they were not observed in full) are left out.
    """
    labels = say.names("measures")
    found = [m for m in labels if any(f"{m}_{w}" in frame.columns for w in windows)]
    if not found:
        raise InputError(say("windows.no_measure", months=windows[0], columns=words.joined(list(frame.columns), ", ")))
    name, measure, negative = found[0], labels[found[0]], say("windows.negative")
    rows = []
    for months in (w for w in windows if f"{name}_{w}" in frame.columns):
        x = frame[f"{name}_{months}"].dropna().to_numpy(dtype=float)
        if x.size < rules.least:
            continue
        part, _ = _one(x, seed, resamples)
        part = part[part["statistic"].isin([GINI, TOP20])]
        rows.append(part.assign(months=months))
        below = inequality.share_below(x)
        if not few_beside(below[0], x.size):
            loss = pd.DataFrame([below], columns=["estimate", "ci_low", "ci_high"])
            rows.append(loss.assign(statistic=negative, gates="open", months=months, n=x.size))
    if not rows:
        raise InputError(say("windows.too_few", least=rules.least))
    columns = ["months", "statistic", "estimate", "ci_low", "ci_high", "n", "gates"]
    table = leading(pd.concat(rows, ignore_index=True), *columns)
    table = safe(table.assign(whose=nobodys("taken out above")), parts=False)
    ginis = table[(table["statistic"] == GINI) & table["estimate"].notna()]
    title = sentence = say("windows.undefined", measure=measure)
    if len(ginis):
        first, last = ginis.iloc[0], ginis.iloc[-1]
        sentence = say("windows.sentence", measure=measure, first=first, last=last)
        title = say("windows.title", measure=measure, first=first, last=last)
    data = table.dropna(subset="n").rename(columns={"months": "x", "estimate": "y", "statistic": "group"})
    axes = title, say("windows.x", least=table["n"].min(), most=table["n"].max()), say("windows.y")
    return Result(table, sentence + _window(frame), picture=Picture("curves", data, *axes), money=["estimate"])


def _window(frame: pd.DataFrame) -> str:
    """Say which days were counted, where the frame knows."""
    if "window" not in frame.attrs:
        return ""
    first, last = frame.attrs["window"]
    return say("window", first=first, last=last)


def few_beside(share: float, n: int) -> bool:
    """Tell whether only a few lie on one side."""
    return any(0 < side < rules.least for side in (round(share * n), n - round(share * n)))


def _below(values: Any) -> Estimate | Missing:
    """Share of customers below zero; not told where only a few lie on one side."""
    share, low, high = inequality.share_below(values)
    n = len(values)
    if few_beside(share, n):
        return Missing(say("distribution.few", least=rules.least))
    return Estimate(share, low, high, say("distribution.unit"), n, se=(share * (1 - share) / n) ** 0.5)


@study
def distribution(frame: pd.DataFrame) -> Result:
    """How value is distributed, losses included: the share of customers below zero, and quantiles.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`concentration`.

    Returns
    -------
    Result
        By measure: shares of customers with negative, zero and positive value (Wilson's intervals), the mean of each
        part, and quantiles with order-statistic intervals. S37 for contribution (or the fully loaded margin).
    """
    labels = measured(frame)
    rows, values, people = [], [], nobodys("shares, pooled quantiles")
    for name, label in labels.items():
        x = np.sort(inequality.checked(frame[name], name))
        for part, share, mean, n in inequality.parts(x, rules.least):
            told = np.nan if few_beside(share[0], x.size) else n  # of those on either side of zero
            rows.append((label, say("distribution.share", part=part), *share, told, people))
            if mean is not None:
                own = whose(x[x < 0] if part == "negative" else x[x >= 0])
                rows.append((label, say("distribution.mean", part=part), *mean, n, own))
        for q, cells, n in inequality.quantiles(x, QUANTILES, pooled=rules.least):
            rows.append((label, say("distribution.quantile", q=q), *cells, n, people))
        group = say("distribution.group", measure=label, n=x.size)
        if isinstance(found := _below(x), Estimate):
            group += say("distribution.group_below", below=found)
        values.append(pd.DataFrame({"value": x, "group": group}))
    columns = ["measure", "statistic", "estimate", "ci_low", "ci_high", "n", "whose"]
    table = safe(pd.DataFrame(rows, columns=columns), parts=False)
    lead, n = next(iter(labels)), len(frame)
    below = _below(frame[lead])
    if isinstance(below, Estimate):
        sentence = say("distribution.sentence", below=below, n=n, measure=labels[lead])
        title = say("distribution.title", below=below, measure=labels[lead])
    else:
        sentence, title = str(below).capitalize(), say("distribution.title_few", measure=labels[lead])
    if (
        "fully_loaded" in labels
        and lead != "fully_loaded"
        and isinstance(loaded := _below(frame["fully_loaded"]), Estimate)
    ):
        sentence += say("distribution.loaded", share=loaded)
    axes = title, say("distribution.x"), say("distribution.y")
    options = {"scale": "symlog", "unit": "money", "marks": [Mark(0)]}
    return Result(
        table,
        sentence + words.local("."),
        estimates={"S37": below} if lead in COSTED else {},
        picture=Picture("distribution", pd.concat(values), *axes, options),
        money=["estimate"],
    )
