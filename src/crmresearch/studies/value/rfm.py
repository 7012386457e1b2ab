"""RFM segments: recency, frequency and money, each cut by a stated rule.

*Recency* here is the time since the last purchase, as in RFM practice; in lifetime models the word means the time from
the first to the last purchase. The code below takes a summary with the latter and turns it round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError
from crmresearch.result import Result, study
from crmresearch.studies.value.common import interval

# name: rule on the scores (3 is best); the first that holds gives the name
SEGMENTS = (
    ("champions", "recent, frequent and high spend"),
    ("loyal", "recent and frequent"),
    ("at risk", "frequent, but not seen for long"),
    ("recent", "recent, not frequent"),
    ("lost", "not seen for long, not frequent"),
    ("middle", "everybody else"),
)


def _tercile(values: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """Score 1 to len(cuts) + 1 by rank; equal values get equal scores."""
    rank = np.searchsorted(np.sort(values), values, side="left") / values.size
    return 1 + np.searchsorted(np.asarray(cuts), rank, side="right")


def rfm_scores(frame: pd.DataFrame, *, cuts: Sequence[float] = (1 / 3, 2 / 3)) -> pd.DataFrame:
    """Scores of recency, frequency and money, 1 (worst) to 3 (best), by rank among all customers.

    Parameters
    ----------
    frame : DataFrame
        ``frequency``, ``recency`` and ``T`` in the definition of lifetime models, ``monetary_value``, ``first_value``
        (``reductions.value.summary``).
    cuts : sequence of float
        Ranks at which scores end.

    Returns
    -------
    DataFrame
        ``since`` (time since the last purchase: ``T - recency``), ``purchases``, ``money`` (spend per purchase, the
        first included), ``R``, ``F``, ``M``. Customers with equal values share a score,
        so that thirds need not be even.
    """
    lacking = [c for c in ("frequency", "recency", "T", "monetary_value", "first_value") if c not in frame.columns]
    if lacking:
        raise InputError(f"RFM: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    if not frame[["frequency", "recency", "T", "monetary_value", "first_value"]].notna().all().all():
        raise InputError("RFM: values are missing; a purchase summary has none")
    if list(cuts) != sorted(set(cuts)) or not all(0 < c < 1 for c in cuts):
        raise InputError(f"cuts {tuple(cuts)} must rise strictly between 0 and 1")
    x = frame["frequency"].to_numpy(dtype=float)
    since = (frame["T"] - frame["recency"]).to_numpy(dtype=float)
    if (since < 0).any():
        raise InputError(f"RFM: recency lies above T in {int((since < 0).sum())} rows")
    money = (frame["monetary_value"].to_numpy(dtype=float) * x + frame["first_value"].to_numpy(dtype=float)) / (x + 1)
    return pd.DataFrame(
        {
            "since": since,
            "purchases": x + 1,
            "money": money,
            "R": _tercile(-since, cuts),
            "F": _tercile(x, cuts),
            "M": _tercile(money, cuts),
        }
    )


def _segment(scores: pd.DataFrame, best: int) -> np.ndarray:
    r, f, m = (scores[c].to_numpy() for c in ("R", "F", "M"))
    rules = [
        (r == best) & (f == best) & (m == best),
        (r == best) & (f == best),
        (r == 1) & (f == best),
        r == best,
        r == 1,
    ]
    return np.select(rules, [name for name, _ in SEGMENTS[:-1]], default=SEGMENTS[-1][0])


@study
def rfm_segments(frame: pd.DataFrame, *, unit: str = "week", cuts: Sequence[float] = (1 / 3, 2 / 3)) -> Result:
    """Customers by RFM segment, and, where there is a holdout, what the segments then bought.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`rfm_scores`; ``frequency_holdout`` if there is a holdout.
    unit : str
        Unit of recency and T.
    cuts : sequence of float
        Ranks at which scores end.
    """
    scores = rfm_scores(frame, cuts=cuts)
    segment = _segment(scores, len(cuts) + 1)
    later = frame["frequency_holdout"].to_numpy(dtype=float) if "frequency_holdout" in frame else None
    rows = []
    for name, rule in SEGMENTS:
        inside = segment == name
        n = int(inside.sum())
        if n < 2:
            continue
        part = scores[inside]
        row: dict[str, Any] = {
            "segment": name,
            "rule": rule,
            f"{unit}s since last": part["since"].mean(),
            "purchases": part["purchases"].mean(),
            "money": part["money"].mean(),
        }
        if later is not None:
            mean, half = later[inside].mean(), 1.96 * later[inside].std(ddof=1) / n**0.5
            row |= {"holdout purchases": mean, "ci_low": mean - half, "ci_high": mean + half}
        rows.append(row | {"share of customers": n / len(frame), "n": n})
    table = pd.DataFrame(rows)
    biggest = table.loc[table["n"].idxmax()]
    sentence = (
        "By thirds of recency (time since the last purchase), frequency and money, "
        f"{biggest['share of customers']:.0%} of {len(frame):,} customers are '{biggest['segment']}'"
    )
    shown = table[table["n"] >= disclosure.MIN_CELL]
    if later is not None and shown["holdout purchases"].min() > 0:
        top = shown.loc[shown["holdout purchases"].idxmax()]
        low = shown.loc[shown["holdout purchases"].idxmin()]
        sentence += (
            f"; in the holdout '{top['segment']}' bought "
            f"{interval(top['holdout purchases'], top['ci_low'], top['ci_high'], '.2f')} times, "
            f"'{low['segment']}' {interval(low['holdout purchases'], low['ci_low'], low['ci_high'], '.2f')}"
        )

    def draw(ax: Any) -> Any:
        at = np.arange(len(shown))
        what = "holdout purchases" if later is not None else "purchases"
        ends = [shown[what] - shown["ci_low"], shown["ci_high"] - shown[what]] if later is not None else None
        error = None if ends is None else np.array(ends)
        ax.barh(at, shown[what], xerr=error, color=figures.ACCENT, alpha=0.75, capsize=3)
        ax.set_yticks(at, [f"{s}\nn = {n:,}" for s, n in zip(shown["segment"], shown["n"], strict=True)])
        ax.invert_yaxis()
        ax.set(xlabel=f"{what} per customer" + (", 95% interval" if later is not None else ""), title="RFM segments")
        return ax

    alt = (
        "Bars by RFM segment: "
        + ", ".join(f"{r.segment} {r.n:,} customers" for r in shown[["segment", "n"]].itertuples(index=False))
        + "."
    )
    return Result(table, sentence + ".", (), {}, draw, alt, digits=2)
