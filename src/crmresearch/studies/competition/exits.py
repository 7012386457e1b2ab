"""Who leaves after rivals enter (S46, S46a)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.causal.triple import triple
from crmresearch.estimators.inference import Estimate, Jackknife, wilson
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate, study
from crmresearch.rules import rules

say = words.of("competition.leaving")
EVENTS = 10  # exits in each of the four groups
LEAST = 5  # places that rivals entered, and places where none came
MOVED = 0.02  # difference before any entry beyond which the design is not believed, share of customers
HIGH, OTHER = 1, 0


@study
def leaving(frames: Mapping[str, pd.DataFrame | Missing], *, window_months: int) -> Result:
    """Exits after entry among high-value customers less those among others, against places without entry.

    What a place shares (a branch that closes, a factory that shuts) drops out between its two groups; what the two
    groups would do anyway drops out between places that were entered and the same dates where none came
    (:func:`.triple`).

    Parameters
    ----------
    frames : mapping of str to DataFrame or Missing
        ``after``, from :func:`crmresearch.data.reductions.competition.after_entry`, and ``before``: the same with dates
        moved back, so that the window ends when the rivals come.
    window_months : int
        Months that are followed.
    """
    after = frames["after"]
    if isinstance(after, Missing):
        return Result.not_applicable(after)
    cells, entered = _cells(after)
    came, never = float(entered.sum()), float((~entered).sum())
    if min(came, never) < LEAST:
        raise NotApplicable(say("places", entered=came, never=never, least=LEAST), "markets")
    exits = np.array([[cells[e, :, k, 1].sum() for k in (HIGH, OTHER)] for e in (entered, ~entered)])
    if exits.min() < (least := max(EVENTS, rules.least)):
        raise NotApplicable(say("exits", n=int(exits.min()), least=least), "customers")
    people = int(after.loc[after["entered"].astype(bool), "n"].sum())
    points, logs = _of(cells, entered), _of(cells, entered, log=True)
    ratio, low, high = (math.exp(v) for v in (logs.value, logs.low, logs.high))
    checks = _earlier(frames["before"])
    s46 = Estimate(points.value, points.low, points.high, say("points"), people, se=points.se, checks=checks)
    s46a = Estimate(ratio, low, high, say("ratio"), people, se=ratio * logs.se, checks=checks)
    table = safe(_table(after), (("n", "exits"),))
    named = say.names("groups")
    shown = table.assign(label=table["value"].map(named), group=table["place"].map(named))
    return Result(
        table.assign(value=shown["label"], place=shown["group"]).rename(columns=say.names("columns")),
        say("sentence", found=s46, ratio=s46a, months=window_months, entered=came, n=people),
        (),
        {"S46": s46, "S46a": s46a},
        Picture(
            "intervals",
            shown.rename(columns={"share": "estimate"})[["label", "group", "estimate", "low", "high", "n"]],
            say("title", found=s46),
            say("x", months=window_months, n=int(table["n"].sum())),
            options={"unit": "percent"},
        ),
        counts=(("n", "exits"),),
    )


def _cells(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Customers, exits and months at risk by place, date and value; and which places were entered."""
    city, date = (np.unique(frame[k], return_inverse=True)[1] for k in ("city", "date"))
    cells = np.zeros((city.max() + 1, date.max() + 1, 2, 3))
    np.add.at(cells, (city, date, frame["high"].astype(int)), frame[["n", "exits", "exposure"]].to_numpy(float))
    entered = np.zeros(len(cells), bool)
    entered[city[frame["entered"].astype(bool)]] = True
    return cells, entered


def _of(cells: np.ndarray, entered: np.ndarray, *, log: bool = False) -> Jackknife:
    """Of exits per customer, or of the log of exits per month at risk."""
    people, exits, time = np.moveaxis(cells, -1, 0)
    return triple(exits, time if log else people, people, entered, log=log)


def _earlier(before: pd.DataFrame | Missing) -> tuple[Check, ...]:
    """Whether the two groups parted before any rival came."""
    if isinstance(before, Missing):
        return ()
    cells, entered = _cells(before)
    if min(entered.sum(), (~entered).sum()) < LEAST:
        return ()
    found = _of(cells, entered)
    return (gate(say, "earlier", Deviation(found.value, found.low, found.high, limit=MOVED)),)


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    """Share that left within the window, by value and place."""
    sums = frame.groupby(["entered", "high"], as_index=False)[["n", "exits"]].sum()
    share, low, high = wilson(sums["exits"], sums["n"])
    return pd.DataFrame({
        "value": np.where(sums["high"], "high", "other"), "place": np.where(sums["entered"], "entered", "never"),
        "share": share, "low": low, "high": high, "n": sums["n"], "exits": sums["exits"],
    })  # fmt: skip
