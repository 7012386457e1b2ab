"""Who leaves after rivals enter (S46, S46a)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, Jackknife, jackknife, wilson
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate, study

say = words.of("competition.leaving")
EVENTS = 10  # exits in each of the four groups
LEAST = 5  # places that rivals entered, and places where none came
MOVED = 0.02  # difference before any entry beyond which the design is not believed, share of customers
HIGH, OTHER = 1, 0


@study
def leaving(frames: Mapping[str, pd.DataFrame | Missing], *, window_months: int) -> Result:
    """Exits after entry among high-value customers less those among others, against places without entry.

    What a place shares (a branch that closes, a factory that shuts) drops out between its two groups; what the two
    groups would do anyway drops out between places that were entered and the same dates where none came.

    Parameters
    ----------
    frames : mapping of str to DataFrame or Missing
        ``after``, from :func:`crmresearch.data.reductions.competition.after_entry`, and ``before``: the same with dates
        moved back, so that the window ends when the rivals come.
    window_months : int
        Months that are followed.

    References
    ----------
    Olden and Møen (2022), The triple difference estimator. *Econometrics Journal* 25, 531-553; jackknife by cluster:
    MacKinnon, Nielsen and Webb (2023), *Journal of Econometrics* 232, 272-299.
    """
    after = frames["after"]
    if isinstance(after, Missing):
        return Result.not_applicable(after)
    cells, entered = _cells(after)
    came, never = float(entered.sum()), float((~entered).sum())
    if min(came, never) < LEAST:
        raise NotApplicable(say("places", entered=came, never=never, least=LEAST), "markets")
    exits = np.array([[cells[e, :, k, 1].sum() for k in (HIGH, OTHER)] for e in (entered, ~entered)])
    if exits.min() < EVENTS:
        raise NotApplicable(say("exits", n=int(exits.min()), least=EVENTS), "customers")
    people = int(after.loc[after["entered"].astype(bool), "n"].sum())
    points, logs = (_estimated(cells, entered, f) for f in (_difference, _log_ratio))
    ratio, low, high = (math.exp(v) for v in (logs.value, logs.low, logs.high))
    checks = _earlier(frames["before"])
    s46 = Estimate(points.value, points.low, points.high, say("points"), people, se=points.se, checks=checks)
    s46a = Estimate(ratio, low, high, say("ratio"), people, se=ratio * logs.se, checks=checks)
    table = _table(after)
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
    )


def _cells(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Customers, exits and months at risk by place, date and value; and which places were entered."""
    city, date = (np.unique(frame[k], return_inverse=True)[1] for k in ("city", "date"))
    cells = np.zeros((city.max() + 1, date.max() + 1, 2, 3))
    np.add.at(cells, (city, date, frame["high"].astype(int)), frame[["n", "exits", "exposure"]].to_numpy(float))
    entered = np.zeros(len(cells), bool)
    entered[city[frame["entered"].astype(bool)]] = True
    return cells, entered


def _pairs(cells: np.ndarray, entered: np.ndarray, per: int) -> np.ndarray:
    """Exits per customer (0) or month at risk (2), entered and not, high and other, at the dates of high value."""
    came, rest = cells[entered].sum(axis=0), cells[~entered].sum(axis=0)
    weight = came[:, HIGH, 0]
    known = (weight > 0) & (rest[:, :, 0] > 0).all(axis=1) & (came[:, OTHER, 0] > 0)
    if not known.any():
        raise FitError(say("dates"))
    w = weight[known] / weight[known].sum()
    return np.stack([w @ (part[known, :, 1] / part[known, :, per]) for part in (came, rest)])


def _difference(cells: np.ndarray, entered: np.ndarray) -> float:
    (a, b) = _pairs(cells, entered, 0)
    return float((a[HIGH] - a[OTHER]) - (b[HIGH] - b[OTHER]))


def _log_ratio(cells: np.ndarray, entered: np.ndarray) -> float:
    (a, b) = np.log(_pairs(cells, entered, 2))
    return float((a[HIGH] - a[OTHER]) - (b[HIGH] - b[OTHER]))


def _estimated(
    cells: np.ndarray, entered: np.ndarray, estimate: Callable[[np.ndarray, np.ndarray], float]
) -> Jackknife:
    """Estimate with the jackknife over places, which are what rivals enter."""
    every = np.arange(len(cells))
    values = [estimate(cells, entered), *(estimate(cells[every != i], entered[every != i]) for i in every)]
    return Jackknife(*map(float, jackknife(np.array(values))))


def _earlier(before: pd.DataFrame | Missing) -> tuple[Check, ...]:
    """Whether the two groups parted before any rival came."""
    if isinstance(before, Missing):
        return ()
    cells, entered = _cells(before)
    if min(entered.sum(), (~entered).sum()) < LEAST:
        return ()
    found = _estimated(cells, entered, _difference)
    return (gate(say, "earlier", Deviation(found.value, found.low, found.high, limit=MOVED)),)


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    """Share that left within the window, by value and place."""
    sums = frame.groupby(["entered", "high"], as_index=False)[["n", "exits"]].sum()
    share, low, high = wilson(sums["exits"], sums["n"])
    return pd.DataFrame({
        "value": np.where(sums["high"], "high", "other"), "place": np.where(sums["entered"], "entered", "never"),
        "share": share, "low": low, "high": high, "n": sums["n"],
    })  # fmt: skip
