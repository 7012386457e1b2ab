"""What priority above a threshold of the balance does to satisfaction (S52)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.causal.campaign import difference_of_means
from crmresearch.estimators.causal.discontinuity import Jump, density, false_cuts, jump
from crmresearch.estimators.inference import LEVEL, Estimate, ends, jackknife, normal, told_apart, z
from crmresearch.estimators.verdicts import Deviation, outlives
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study, unlooked

say = words.of("service.priority")
LEAST = 100  # answers on each side
HEAPED = 0.1  # of the density, by which it may jump at the threshold
UNLIKE = 0.2  # standard deviations by which what was settled before may jump there
BOUND = 0.05  # of S52
FALSE = 0.1  # standard deviations of satisfaction that may jump where nothing changes
Row = tuple[str, float, float, float, int]
GROUPS = 50  # of customers, each left out in turn
BINS, REACH = 8, 1.0  # drawn on each side, and how far


@study
def priority(frame: pd.DataFrame, balances: pd.DataFrame, *, donut: float = 0.02) -> Result:
    """Jump of satisfaction where the balance grants priority (S52), with who may have moved across it.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.near_threshold`.
    balances : DataFrame
        From :func:`crmresearch.data.reductions.service.balances`.
    donut : float
        Log balance around the threshold that one row leaves out.

    References
    ----------
    Calonico, Cattaneo and Titiunik (2014), *Econometrica* 82, 2295-2326; Cattaneo, Jansson and Ma (2020), *JASA* 115,
    1449-1455; Lee (2009), *Review of Economic Studies* 76, 1071-1102, on bounds where fewer answer on one side.
    """
    told = frame["answer"].notna().to_numpy()
    x, above = frame["x"].to_numpy(float), (frame["x"] >= 0).to_numpy()
    if min((told & above).sum(), (told & ~above).sum()) < LEAST:
        raise NotApplicable(say("few", least=LEAST), "survey", "monthly")
    weight, answer = (frame.loc[told, c].to_numpy(float) for c in ("weight", "answer"))
    spread = float(np.sqrt(np.average((answer - np.average(answer, weights=weight)) ** 2, weights=weight)))
    if not spread > 0:
        raise NotApplicable(say("alike"), "survey")
    near, y, unit = x[told], answer / spread, frame["unit"].to_numpy()
    found = jump(near, y, cluster=unit[told])
    n = sum(found.n)
    rows: list[Row] = [
        ("jump", found.corrected, *found.interval, n),
        ("plain", found.value, *ends(found.value, found.se), n),
    ]
    ring = jump(near, y, donut=donut, cluster=unit[told])
    rows.append(("donut", ring.corrected, *ring.interval, sum(ring.n)))
    more = _answering(x, told, y, unit, found)
    low, high = min(row[2] for row in more[1:]), max(row[3] for row in more[1:])
    rows += more
    value, se = difference_of_means(y[near >= 0], y[near < 0])
    rows.append(("naive", value, *ends(value, se), int(told.sum())))
    kept = gate(say, "answering", outlives(BOUND, found.interval, (low, high)), low=low, high=high, limit=BOUND)
    checks = (_sorted(balances), _before(frame, x, unit), _elsewhere(near, y, unit[told], found), kept)
    line = normal(found.corrected, found.robust_se, say("unit"), n, checks=checks)
    table = pd.DataFrame(rows, columns=["row", "jump", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=line, n=n, width=found.bandwidth, low=low, high=high),
        estimates={"S52": line},
        picture=_picture(near, y - np.average(y, weights=weight), line),
    )


def _answering(x: np.ndarray, told: np.ndarray, y: np.ndarray, unit: np.ndarray, found: Jump) -> list[Row]:
    """Jump in the share that answers, and the jump of satisfaction if only the best or the worst answer for it.

    As many answers as one side has beyond the other's share are left out of that side, near the threshold and farther
    off alike; their share and the jump are told without each group of customers in turn.
    """
    share = jump(x, told.astype(float), cluster=unit)
    rows: list[Row] = [("answers", share.corrected, *share.interval, sum(share.n))]
    widths, group = (found.bandwidth, found.bias_bandwidth), np.unique(unit, return_inverse=True)[1] % GROUPS
    asked = np.abs(x) <= found.bandwidth
    more = told[asked & (x >= 0)].mean() > told[asked & (x < 0)].mean()
    own = (x >= 0) == more  # the side that answers more
    answer = np.full(len(x), np.nan)
    answer[told] = y

    def bounds(of: np.ndarray) -> list[float]:
        rate = [told[of & asked & side].mean() for side in (own, ~own)]
        part, both = max(0.0, 1 - rate[1] / rate[0]), []
        for sign in (1, -1):
            kept = of & told
            for zone in (asked, (np.abs(x) <= max(widths)) & ~asked):
                rows_ = np.flatnonzero(kept & own & zone)
                kept[_lowest(sign * answer[rows_], rows_, part)] = False
            both.append(jump(x[kept], answer[kept], bandwidths=widths).corrected)
        return both

    found_ = jackknife(np.array([bounds(group != k) for k in range(-1, GROUPS)]))
    n = int((told & asked).sum())
    ends_ = zip(("lowest", "highest"), found_.value, found_.low, found_.high, strict=True)
    return rows + [(name, float(value), float(low), float(high), n) for name, value, low, high in ends_]


def _lowest(value: np.ndarray, rows: np.ndarray, part: float) -> np.ndarray:
    """Rows of the lowest values, a part of all; of equal ones, rows that lie evenly among them."""
    n = round(part * len(rows))
    if n == 0:
        return rows[:0]
    last = np.sort(value)[n - 1]
    below, equal = rows[value < last], rows[value == last]
    some = n - len(below)
    return np.r_[below, equal[(np.arange(some) * len(equal)) // some]]


def _sorted(balances: pd.DataFrame) -> Check:
    """Whether customers are more on one side of the threshold than on the other."""
    try:
        found = density(balances["x"])
    except InputError:
        return unlooked(say("density.name"))
    middle = (found.left + found.right) / 2
    value = (found.right - found.left) / middle
    half = z() * abs(value / found.t) if found.t else np.inf
    return gate(say, "density", Deviation(value, value - half, value + half, limit=HEAPED), seen=HEAPED + half)


def _before(frame: pd.DataFrame, x: np.ndarray, unit: np.ndarray) -> Check:
    """Whether what was settled before jumps there, too: the largest jump, in an interval that holds for all."""
    found = []
    known = [c for c in ("age", "tenure") if c in frame and frame[c].notna().any()]
    for name in known:
        there = frame[name].notna().to_numpy()
        value = frame.loc[there, name].to_numpy(float)
        if value.std() > 0:
            found.append((name, jump(x[there], value / value.std(), cluster=unit[there])))
    if not found:
        return unlooked(say("before.name"))
    name, one = max(found, key=lambda f: abs(f[1].corrected) / f[1].robust_se)
    half = z(1 - (1 - LEVEL) / len(found)) * one.robust_se
    moved = Deviation(one.corrected, one.corrected - half, one.corrected + half, limit=UNLIKE)
    return gate(say, "before", moved, name=say.names("settled")[name], looks=len(found), seen=UNLIKE + half)


def _elsewhere(x: np.ndarray, y: np.ndarray, unit: np.ndarray, found: Jump) -> Check:
    """Whether satisfaction jumps where nothing changes: amid the nearer half of the answers of either side."""
    cuts = [float(np.quantile(x[side], q)) for side, q in ((x < 0, 0.75), (x >= 0, 0.25))]
    try:
        table = false_cuts(x, y, cuts, cluster=unit, bandwidths=(found.bandwidth, found.bias_bandwidth))
    except InputError:
        return unlooked(say("elsewhere.name"))
    low, high = table[["low", "high"]].to_numpy(float)[int(table["p"].argmin())]
    middle, half = (low + high) / 2, (high - low) / 2 * z(1 - (1 - LEVEL) / 2) / z()
    return gate(say, "elsewhere", Deviation(middle, middle - half, middle + half, limit=FALSE), seen=FALSE + half)


def _picture(x: np.ndarray, y: np.ndarray, line: Estimate) -> Picture:
    """Mean answers by log balance on either side."""
    rows = []
    place = np.floor(x / REACH * BINS).astype(int)
    for k in range(-BINS, BINS):
        own = y[place == k]
        if len(own) > 1:
            mean, se = float(own.mean()), float(own.std(ddof=1)) / len(own) ** 0.5
            side = say("below") if k < 0 else say("above")
            rows.append(((k + 0.5) * REACH / BINS, mean, *ends(mean, se), len(own), side))
    data = pd.DataFrame(rows, columns=["x", "y", "low", "high", "n", "group"])
    marks = [Mark(0, say("mark"), style="limit", axis="x")]
    title = say("title", found=line) if told_apart(line) else say("title_open")
    axis = say("x", n=int(data["n"].sum()))
    return Picture("curves", data, title, axis, say("y"), {"dots": True, "marks": marks})
