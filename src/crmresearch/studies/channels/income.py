"""What contribution does in the year after a first mobile payment (S14a)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.causal.pretrends import bounded
from crmresearch.estimators.causal.staggered import Several
from crmresearch.estimators.frames import without_each
from crmresearch.estimators.inference import Estimate, jackknife, wilson
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import parting
from crmresearch.result import Result, gate, study
from crmresearch.rules import of_squares

say = words.of("channels.earned")
YEAR = 12
EARLIER = -7  # last month of the half-year before the base
LEAST = 30  # adopters
MATTERS = 2.0  # bound of S14a, either way
DECIDES = 0.5  # of the moves before: how far trends may part and the verdict has to stand

SUMS = ("n", "there", "change", "made", "squares", "base")


@study
def earned(frame: pd.DataFrame, *, currency: str = "") -> Result:
    """Contribution in the twelve months from the first mobile payment on, against customers not yet adopting (S14a).

    Each month is compared with the customer's own three months, four to six before, less the same for those who are
    there and have made no such payment by that month. The sign is open: cost to serve rises first where channels are
    used in addition, and falls later.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.channels.contribution`.
    currency : str
        For labels.

    References
    ----------
    Campbell and Frei (2010), *Management Science* 56, 4-24; Callaway and Sant'Anna (2021), *Journal of Econometrics*
    225, 200-230, whose comparison this is with customers who leave.
    """
    first = frame[frame["adopts"].astype(bool) & (frame["since"] == 0)]
    adopters = int(first["n"].sum())
    if adopters < LEAST or frame["adopts"].all():
        raise NotApplicable(say("few", n=adopters, least=LEAST), "transactions")
    sums, since = _sums(frame)
    each, zero = without_each(sums), int(np.flatnonzero(since == 0)[0])
    month = _months(each, zero)
    known = np.isfinite(month["gap"]).all(axis=0)
    if not {*range(-YEAR, YEAR)} <= set(since[known]):
        raise NotApplicable(say("unseen"), "monthly", "transactions")
    month, since = {k: v[:, known] for k, v in month.items()}, since[known]
    value = {name: jackknife(of) for name, of in _readings(month, since).items()}
    rows = [(name, one.value, one.low, one.high, adopters) for name, one in value.items() if name != "earlier"]
    long = _long(each[0], zero)
    if "later" in value and (n := int(each[0, long, 1, zero, 0].sum())) >= LEAST:
        again = {k: v[:, known] for k, v in _months(each[:, long], zero).items()}
        one = jackknife(_readings(again, since)["year"])
        rows.append(("long", one.value, one.low, one.high, n))
    quarters, weights = _quarters(month["gap"], since)
    half, whole = (bounded(quarters, m, weights) for m in (DECIDES, 1.0))
    rows += [(name, value["year"].value, *wide, adopters) for name, wide in (("half", half), ("moves", whole))]
    table = pd.DataFrame(rows, columns=["row", "change", "low", "high", "n"])
    table["whose"] = [_whose(frame)] * len(table)
    main, early = value["year"], value["earlier"]
    nearest = MATTERS if main.value > 0 else -MATTERS
    check = (
        gate(say, "earlier", Deviation(early.value, early.low, early.high, limit=MATTERS)),
        parting(quarters, DECIDES, nearest, weights),
    )
    found = Estimate(main.value, main.low, main.high, say("unit"), adopters, se=main.se, checks=check)
    money = say.names("columns")["change"]
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=found, n=adopters, currency=currency)
        + say("parting", low=half[0], high=half[1])
        + (say("then", later=value["later"]) if "later" in value else "")
        + _attrition(frame),
        estimates={"S14a": found},
        picture=_picture(month["gap"], since, found, adopters, currency),
        money=[money],
        digits=2,
    )


def _sums(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Sums by fold, date, arm and month since; the last axis holds those of ``SUMS``."""
    axes = [np.unique(frame[k], return_inverse=True) for k in ("fold", "date", "adopts", "since")]
    out = np.zeros((*(len(names) for names, _ in axes), len(SUMS)))
    np.add.at(out, tuple(code for _, code in axes), frame[list(SUMS)].to_numpy(float))
    return out, axes[-1][0]


def _months(sums: np.ndarray, zero: int) -> dict[str, np.ndarray]:
    """Gaps between arms by month since, of all customers (first row) and without each fold; dates by adopters."""
    n, there, change, made, _, base = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = there / there[..., zero : zero + 1]
        gone = (base[..., zero : zero + 1] - base) / there[..., zero : zero + 1]
        arm = {"gap": change / n, "level": made / n, "nothing": kept * (change / n) - gone}
        weight = np.where((n > 0).all(axis=2), n[:, :, 1], 0.0)
        return {
            k: np.nansum(np.where(weight > 0, weight * (v[:, :, 1] - v[:, :, 0]), 0.0), axis=1) / weight.sum(axis=1)
            for k, v in arm.items()
        }


def _readings(month: dict[str, np.ndarray], since: np.ndarray) -> dict[str, np.ndarray]:
    """Money per customer-year, of all customers and without each fold."""
    year, later = (since >= 0) & (since < YEAR), since >= YEAR
    out = {"year": YEAR * month["gap"][:, year].mean(axis=1), "nothing": YEAR * month["nothing"][:, year].mean(axis=1)}
    if later.any():
        out["later"] = YEAR * month["gap"][:, later].mean(axis=1)
    out["naive"] = YEAR * month["level"][:, year].mean(axis=1)
    return out | {"earlier": YEAR * month["gap"][:, since <= EARLIER].mean(axis=1)}


def _long(sums: np.ndarray, zero: int) -> np.ndarray:
    """Dates after which both arms are seen for two years, among those with adopters."""
    n = sums[..., SUMS.index("n")]
    return np.asarray((n[:, :, zero:] > 0).all(axis=(1, 2)))


def _quarters(gap: np.ndarray, since: np.ndarray) -> tuple[Several, np.ndarray]:
    """Quarters around the first payment against the base, and their weights in the year after.

    The quarter before the first payment, in which some adopt unseen, is no part of the trend before.
    """
    quarter = since // 3
    blocks = np.arange(-4, 4)
    blocks = blocks[blocks != -2]  # the base
    value = np.stack([YEAR * gap[:, quarter == q].mean(axis=1) for q in blocks], axis=1)
    folds = len(value) - 1
    psi = np.sqrt((folds - 1) / folds) * (value[1:] - value[1:].mean(axis=0))
    when = (blocks + 1).astype(float)  # the base is the last period before
    event = Several(when, value[0], psi, np.full(len(when), folds), None)
    return event, np.where(when[when >= 0] > 0, 0.25, 0.0)


def _whose(frame: pd.DataFrame) -> Any:
    part = frame[frame["since"] >= 0].groupby(["adopts", "since"])[["gross", "squares"]].sum()
    return of_squares(part["gross"], part["squares"])


def _attrition(frame: pd.DataFrame) -> str:
    """Say how many of either arm are gone after a year."""
    sums = frame[frame["since"].isin([0, YEAR - 1])].groupby(["adopts", "since"])[["there"]].sum()
    told = []
    for adopts in (True, False):
        first, last = (sums.xs((adopts, k))["there"] for k in (0, YEAR - 1))
        share, low, high = wilson(first - last, first)
        told.append(Estimate(float(share), float(low), float(high), "", int(first - last)))
    return say("attrition", adopters=told[0], others=told[1])


def _picture(gap: np.ndarray, since: np.ndarray, found: Estimate, n: int, currency: str) -> Picture:
    """Gap by month since the first payment."""
    each = jackknife(YEAR * gap)
    data = pd.DataFrame({"x": since, "y": each.value, "low": each.low, "high": each.high, "n": n})
    clear = found.ci_low > 0 or found.ci_high < 0
    title = say("title", found=found, currency=currency) if clear else say("title_open")
    marks = [Mark(0, style="none", axis="y"), Mark(-0.5, say("first"), style="limit", axis="x")]
    return Picture("curves", data, title, say("x", n=n), say("y"), {"unit": "money", "marks": marks})
