"""What priority above a threshold of the balance does to satisfaction (S52)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.causal.campaign import difference_of_means
from crmresearch.estimators.causal.discontinuity import Jump, density, false_cuts, jump
from crmresearch.estimators.inference import LEVEL, ends, normal, z
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study, unlooked

say = words.of("service.priority")
LEAST = 100  # answers on each side
HEAPED = 0.1  # of the density, by which it may jump at the threshold
UNLIKE = 0.2  # standard deviations by which what was settled before may jump there
FALSE = 0.1  # standard deviations of satisfaction that may jump where nothing changes
Row = tuple[str, float, float, float, int]
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
    rows += _answering(x, told, y, unit, found)
    value, se = difference_of_means(y[near >= 0], y[near < 0])
    rows.append(("naive", value, *ends(value, se), int(told.sum())))
    checks = (_sorted(balances), _before(frame, x, unit), _elsewhere(near, y))
    line = normal(found.corrected, found.robust_se, say("unit"), n, checks=checks)
    table = pd.DataFrame(rows, columns=["row", "jump", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=line, n=n, width=found.bandwidth),
        estimates={"S52": line},
        picture=_picture(near, y - np.average(y, weights=weight), line),
    )


def _answering(x: np.ndarray, told: np.ndarray, y: np.ndarray, unit: np.ndarray, found: Jump) -> list[Row]:
    """Jump in the share that answers, and the jump of satisfaction if only the best or the worst answer for it."""
    share = jump(x, told.astype(float), cluster=unit)
    rows: list[Row] = [("answers", share.corrected, *share.interval, sum(share.n))]
    near = x[told]
    inside = np.abs(near) <= found.bandwidth
    asked = np.abs(x) <= found.bandwidth
    rate = [told[asked & side].mean() for side in (x < 0, x >= 0)]
    more, part = int(rate[1] > rate[0]), 1 - min(rate) / max(rate)  # the side that answers more, and its surplus
    own = np.flatnonzero((near >= 0) == bool(more))
    for name, highest in (("lowest", more), ("highest", 1 - more)):
        order = own[np.argsort(y[own] if not highest else -y[own], kind="stable")]
        cut = order[: round(part * len(order))]
        keep = np.setdiff1d(np.arange(len(y)), cut)
        one = jump(near[keep], y[keep], bandwidths=(found.bandwidth, found.bias_bandwidth), cluster=unit[told][keep])
        rows.append((name, one.corrected, *one.interval, int(inside[keep].sum())))
    return rows


def _sorted(balances: pd.DataFrame) -> Check:
    """Whether customers are more on one side of the threshold than on the other."""
    try:
        found = density(balances["x"])
    except InputError:
        return unlooked(say("density.name"))
    middle = (found.left + found.right) / 2
    value = (found.right - found.left) / middle
    half = z() * abs(value / found.t) if found.t else np.inf
    return gate(say, "density", Deviation(value, value - half, value + half, limit=HEAPED))


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
    return gate(say, "before", moved, name=say.names("settled")[name], looks=len(found))


def _elsewhere(x: np.ndarray, y: np.ndarray) -> Check:
    """Whether satisfaction jumps where nothing changes: in the middle of either side."""
    try:
        table = false_cuts(x, y, [float(np.median(x[side])) for side in (x < 0, x >= 0)])
    except InputError:
        return unlooked(say("elsewhere.name"))
    low, high = table[["low", "high"]].to_numpy(float)[int(table["p"].argmin())]
    middle, half = (low + high) / 2, (high - low) / 2 * z(1 - (1 - LEVEL) / 2) / z()
    return gate(say, "elsewhere", Deviation(middle, middle - half, middle + half, limit=FALSE))


def _picture(x: np.ndarray, y: np.ndarray, line: object) -> Picture:
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
    title, axis = say("title", found=line), say("x", n=int(data["n"].sum()))
    return Picture("curves", data, title, axis, say("y"), {"dots": True, "marks": marks})
