"""Whether digital help at branches lets fewer transactions of older customers fail (S31)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.causal.panels import seen_whole
from crmresearch.estimators.causal.pretrends import bounded, breakdown, drift, years
from crmresearch.estimators.causal.staggered import Panel, by_event, group_time, wild_interval
from crmresearch.estimators.causal.ways import ways
from crmresearch.estimators.inference import Estimate, ends, told_apart
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import parting
from crmresearch.result import Result, gate, study

say = words.of("channels.helped")
LEAST = 10  # branches that begin to help and are seen long enough
BOUND = -0.001  # of S31
DRIFT = 0.001  # yearly difference in trend between branches that begin to help a standard deviation apart
YEAR = 4
MAGNITUDES = (0.0, 0.5, 1.0)  # how far trends may differ after, in moves of the year before
DECIDES = 0.5  # of these: a whole move of so few branches is mostly chance


@study
def helped(frame: pd.DataFrame, *, window_quarters: int, resamples: int, seed: int) -> Result:
    """Mean change of the share of failed transactions after a branch begins to help, older customers (S31).

    Younger customers stand beside them, those of whom a transaction had failed in the first year (before any branch
    begins to help, where the roll-out is later), and exits.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.channels.helped`.
    window_quarters : int
        Quarters after help begins that are averaged, the first one included; of branches that are seen that long.
    resamples, seed : int
        Of the wild bootstrap by branch.

    References
    ----------
    Callaway and Sant'Anna (2021), *Journal of Econometrics* 225, 200-230; Borusyak, Jaravel and Spiess (2024), *Review
    of Economic Studies* 91, 3253-3285; Rambachan and Roth (2023), *Review of Economic Studies* 90, 2555-2591.
    """
    older, failing = frame["older"].astype(bool), frame["failing"].astype(bool)
    main, own = _panel(frame, [older], "failed", "transactions")
    seen = 0 if main is None else int((main.first + window_quarters <= main.periods).sum())
    if main is None or seen < LEAST or np.isfinite(main.first).all():
        raise NotApplicable(say("few", least=LEAST, quarters=window_quarters), "branches", "transactions")
    draw = {"draws": resamples, "seed": seed}
    each = ways(window_quarters)
    read = {name: way(main) for name, way in each.items()}
    rows = [(name, int(one.n[0]), *wild_interval(one, **draw), own) for name, one in read.items()]
    blocks = years(main, YEAR, max(1, window_quarters // YEAR))
    if blocks is not None:
        after = float(blocks.effect[blocks.when >= 0].mean())
        moves = zip(("apart", "half", "whole"), MAGNITUDES, strict=True)
        rows += [(name, int(blocks.n[0]), after, *bounded(blocks, m), own) for name, m in moves]
    parts = {
        "younger": ([~older], "failed", "transactions"),
        "less": ([older, ~older], "failed", "transactions"),
        "failed": ([older & failing], "failed", "transactions"),
        "not_failed": ([older & ~failing], "failed", "transactions"),
        "exits": ([older], "exits", "at_risk"),
    }
    for name, part in parts.items():
        try:
            panel, n = _panel(frame, *part)
            if panel is not None:
                one = each["not_yet"](panel)
                rows.append((name, int(one.n[0]), *wild_interval(one, **draw), n))
        except InputError:  # too few branches have such customers in every quarter
            continue
    table = pd.DataFrame(rows, columns=["row", "branches", "effect", "low", "high", "n"])
    value, low, high = rows[0][2:5]
    checks = (gate(say, "drift", Deviation(*drift(main, 4), limit=DRIFT)), parting(blocks, DECIDES, BOUND))
    found = Estimate(value, low, high, say("unit"), rows[0][1], se=float(read["not_yet"].se[0]), checks=checks)
    beside = {
        row["row"]: _points(Estimate(row["effect"], row["low"], row["high"], "", row["n"]))
        for row in safe(table).to_dict("records")
        if np.isfinite(row["effect"])
    }
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", points=_points(found), quarters=window_quarters)
        + (say("less", younger=beside["younger"], less=beside["less"]) if {"younger", "less"} <= set(beside) else "")
        + (say("exits", exits=beside["exits"]) if "exits" in beside else "")
        + (say("breakdown", m=breakdown(blocks, BOUND)) if blocks is not None else "")
        + _left_out(frame, main),
        estimates={"S31": found},
        picture=_picture(frame, main, found, beside.get("less")),
        digits=4,
    )


def _panel(frame: pd.DataFrame, sides: list[pd.Series], events: str, of: str) -> tuple[Panel | None, int]:
    """Share of events by branch and quarter, of branches that have some to count in every quarter, and customers there.

    Of two sides, the share of the first less that of the second, and customers of the first.
    """
    shares = []
    for side in sides:
        sums = frame[side].groupby(["branch", "quarter"], as_index=False)[[events, of]].sum()
        sums["share"] = sums[events] / sums[of].where(sums[of] > 0)
        shares.append(sums.pivot_table(index="branch", columns="quarter", values="share", dropna=False))
    wide = shares[0] if len(shares) == 1 else shares[0] - shares[1]
    panels, branches, _ = seen_whole(frame.groupby("branch")["helped"].first(), wide)
    if not panels:
        return None, 0
    there = frame[sides[0] & frame["branch"].isin(branches)]
    return panels[0], int(there.groupby(["branch", "older", "failing"])["people"].first().sum())


def _points(found: Estimate) -> Estimate:
    """Express a change of a share in percentage points."""
    return replace(found, value=100 * found.value, ci_low=100 * found.ci_low, ci_high=100 * found.ci_high)


def _left_out(frame: pd.DataFrame, panel: Panel) -> str:
    gaps = float(frame["branch"].nunique() - len(panel.kept))
    text = say("gaps", n=gaps) if gaps else ""
    return text + (say("early", n=float(panel.left_out)) if panel.left_out else "") + "."


def _picture(frame: pd.DataFrame, main: Panel, found: Estimate, less: Estimate | None) -> Picture:
    """Effects by quarter since help began, older and younger customers."""
    rows, older = [], frame["older"].astype(bool)
    for name, side in ((say("older"), older), (say("younger"), ~older)):
        panel, n = _panel(frame, [side], "failed", "transactions")
        if panel is not None:
            event = by_event(group_time(panel, controls="not yet", base="universal"))
            low, high = ends(event.effect, event.se)
            data = pd.DataFrame({"x": event.when, "y": event.effect, "low": low, "high": high, "group": name})
            data["n"] = n
            rows.append(data[(np.abs(event.when) <= 8) & np.isfinite(event.se)])
    marks = [Mark(0, style="none", axis="y"), Mark(-0.5, say("begins"), style="limit", axis="x")]
    title = say("title", points=_points(found)) + (say("title_less", less=less) if less else "")
    title = title if told_apart(found) else say("title_open")
    branches = float(np.isfinite(main.first).sum())
    return Picture("curves", pd.concat(rows), title, say("x", n=branches), say("y"), {"unit": "points", "marks": marks})
