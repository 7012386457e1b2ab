"""What conversion of branches does to satisfaction (S29), and waiting to exits and satisfaction (S39, S51)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.causal.pretrends import drift
from crmresearch.estimators.causal.staggered import Panel, wild_interval
from crmresearch.estimators.causal.ways import ways
from crmresearch.estimators.inference import Estimate, ends, levels, normal, rates, robust_ols
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Check, Result, gate, study

say = words.of("service")
LEAST = 10  # branches that convert and are seen long enough; that have waiting and exits
EXITS = 200  # what the effects of branches and quarters rest on
# Yearly difference in trend between branches that convert a standard deviation apart; over two years S29's bound
DRIFT = 0.01
BUILT = 3  # quarters after the one of conversion in which its effect is still being built up
MINUTES = 10.0  # of waiting, which the lines are about
MOVED = 0.05  # standard deviations of rated quality per ten minutes beyond which waiting is not all that load moves


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
    of Economic Studies* 91, 3253-3285.
    """
    if frame["satisfaction"].isna().all():
        raise NotApplicable(say("unasked"), "pulse")
    wide = frame.pivot_table(index="branch", columns="quarter", values="satisfaction", dropna=False)
    when = frame.groupby("branch")["converted"].first().loc[wide.index].to_numpy(float)
    whole = wide.notna().all(axis=1).to_numpy()
    first = np.where(np.isfinite(when), when - wide.columns[0], np.where(when < 0, 0.0, np.inf))[whole]
    some, seen = np.isfinite(first) & (first > 0), len(wide.columns)
    if (some & (first + window_quarters <= seen)).sum() < LEAST or (~np.isfinite(first)).sum() == 0:
        raise NotApplicable(say("few_branches", least=LEAST, quarters=window_quarters), "branches", "pulse")
    panel = Panel(wide.to_numpy(float)[whole], first)
    read = {name: way(panel) for name, way in ways(window_quarters).items()}
    rows = [(name, int(one.n[0]), *wild_interval(one, draws=resamples, seed=seed)) for name, one in read.items()]
    table = pd.DataFrame(rows, columns=["row", "branches", "effect", "low", "high"])
    checks = (gate(say, "drift", Deviation(*drift(panel, 4), limit=DRIFT)),)
    _, n, value, low, high = rows[0]
    found = Estimate(value, low, high, say("unit"), n, se=float(read["not_yet"].se[0]), checks=checks)
    left, early = float((~whole).sum()), float(panel.left_out)
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("converted", found=found, quarters=window_quarters)
        + (say("gaps", n=left) if left else "")
        + (say("early", n=early) if early else "")
        + ".",
        estimates={"S29": found},
        counts=(),
    )


@study
def waiting(frame: pd.DataFrame) -> Result:
    """Exits (S39) and satisfaction (S51) as waiting moves within branches from quarter to quarter.

    Each branch is compared with itself, with others in the same quarter, and with others as long after conversion, so
    that what moves waiting is the load. Rated quality should not move with it where waiting is all that load does.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    """
    if frame["wait"].isna().all():
        raise NotApplicable(say("no_waiting"), "service")
    cells = frame[(frame["visits"] > 0) & (frame["at_risk"] > 0)]
    cells = cells[cells.groupby("branch")["exits"].transform("sum") > 0]
    if cells["branch"].nunique() < LEAST or cells["exits"].sum() < EXITS:
        raise NotApplicable(say("few_exits", least=LEAST, needed=EXITS), "branches", "service", "customers")
    n = int(cells["exits"].sum())
    rows, answered = [], {}
    for name in ("exits", "between"):
        x = _design(cells, within=name == "exits")
        b, se = rates(x, cells["exits"], cells["at_risk"], [cells["branch"].to_numpy()])
        rows.append((name, b[0], *ends(b[0], se[0]), n))
        answered[name] = b[0], se[0]
    for name in ("satisfaction", "quality"):
        told = cells[cells[name].notna()]
        if told["answers"].sum() >= EXITS and (told.groupby("branch").size() > 1).sum() >= LEAST:
            told = told[told.groupby("branch")[name].transform("size") > 1]
            root = np.sqrt(told["answers"].to_numpy(float))
            b, v = robust_ols(_design(told) * root[:, None], told[name].to_numpy() * root, told["branch"].to_numpy())
            answered[name] = b[0], v[0, 0] ** 0.5
            rows.append((name, b[0], *ends(b[0], v[0, 0] ** 0.5), int(told["answers"].sum())))
    checks: tuple[Check, ...] = ()
    if "quality" in answered:
        value, se = answered["quality"]
        checks = (gate(say, "quality", Deviation(value, *ends(value, se), limit=MOVED)),)
    value, se = answered["exits"]
    estimates = {"S39": normal(-value, se, say("ratio"), n, log=True, checks=checks)}
    if "satisfaction" in answered:
        estimates["S51"] = normal(*answered["satisfaction"], say("unit"), rows[2][-1], checks=checks)
    table = pd.DataFrame(rows, columns=["row", "effect", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("waited", found=estimates["S39"], branches=float(cells["branch"].nunique())),
        estimates=estimates,
    )


def _design(cells: pd.DataFrame, within: bool = True) -> np.ndarray:
    """Waiting, quarters, and time since conversion; branches, where waiting within them counts alone."""
    since = (cells["quarter"] - cells["converted"]).clip(-1, BUILT)
    x = [cells["wait"].to_numpy() / MINUTES, np.ones(len(cells)), levels(cells["quarter"])]
    return np.column_stack([*x, *([levels(cells["branch"]), levels(since)] if within else [])])
