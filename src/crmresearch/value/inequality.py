"""How concentrated value is: Lorenz and whale curve, Gini, shares of the best customers, with intervals that cover.

Contribution may be negative, so customers are ranked from the best and the cumulative curve can pass the total (the
*whale curve*), and the Gini coefficient, kept in its mean-difference form, can exceed 1.

The estimand is the process that makes customers what they are (a superpopulation): the interval says what another
draw of customers would show. The table of the customers themselves is a census and has no sampling error.

The plain bootstrap under-covers for skewed values, so intervals are studentised: each resample is divided by its own
influence-function standard error (bootstrap-t; Davidson 2009 for the Gini coefficient). Values are sorted once and
resampled by Poisson weights. Neighbouring values are pooled into cells before resampling, never in the tails, where a
cell is one customer; the pooled statistic is centred on itself, so pooling moves no estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError
from crmresearch.result import LEVEL, Check, Estimate, Result, study
from crmresearch.value.common import interval, symlog_histogram, wilson

__all__ = [
    "concentration",
    "concentration_by_window",
    "distribution",
    "gini",
    "hill",
    "intervals",
    "lorenz",
    "share_below",
    "top_share",
]

TOP = (0.01, 0.10, 0.20)  # best customers whose share is reported
CELLS = 512  # cells the sorted values are pooled into; the Gini moves by about 1e-5 of itself
BLOCK = 64  # resamples computed at once: keeps memory flat
TAIL = (
    0.05  # share of customers the tail index is estimated from: it tells the simulated worlds apart at 2,000 customers
)
MIN_TAIL = 2.0  # tail index at or below it: no variance, and no interval that covers
MIN_MEAN_Z = 5.0  # standard errors the mean must be away from zero: shares divide by it

# measures a frame may carry, in order of preference, and how they are called
MEASURES = {
    "contribution": "contribution",
    "fully_loaded": "fully loaded margin",
    "spend": "spend",
    "fees": "fees charged",
    "interest": "interest credited",
    "turnover": "turnover",
}
STATISTICS = ("Gini", *(f"top {q:.0%} share" for q in TOP), "profitable customers' share")


def _values(values: Any, name: str = "values") -> np.ndarray:
    x = np.asarray(values, dtype=float).ravel()
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {x.size} rows are missing or infinite; drop customers without a value first"
        )
    if x.size < 2:
        raise InputError(f"{name}: {x.size} customers; concentration needs at least 2")
    return x


def _moments(x: np.ndarray, w: np.ndarray, errors: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return statistics and their influence-function standard errors; ``x`` ascending, weights ``(resamples, x)``."""
    total = w.sum(axis=1, keepdims=True)
    below = np.cumsum(w, axis=1)
    rank = (below - w / 2) / total
    wx = w * x
    mean = wx.sum(axis=1, keepdims=True) / total
    area = (np.cumsum(wx, axis=1) - wx / 2) / total
    g = 2 * (wx * rank).sum(axis=1, keepdims=True) / (total * mean) - 1
    scaled = x / mean

    def error(influence: np.ndarray) -> np.ndarray:
        return np.sqrt((w * influence * influence).sum(axis=1)) / total[:, 0]

    values, se = [g[:, 0]], [error(2 * (scaled * rank - area / mean) + 1 - g - (1 + g) * scaled)]
    for q in (*TOP, None):
        if q is None:  # all that is positive: the height of the whale curve
            excess, level = np.maximum(x, 0.0)[None, :], np.zeros_like(mean)
        else:
            cut = np.minimum((below < (1 - q) * total).sum(axis=1), x.size - 1)
            level = x[cut][:, None] * q
            excess = np.maximum(x - x[cut][:, None], 0.0)
        top = (w * excess).sum(axis=1, keepdims=True) / total + level
        share = top / mean
        values.append(share[:, 0])
        se.append(error((excess + level - top) / mean - share * (scaled - 1)))
    return np.stack(values, axis=1), np.stack(se, axis=1)


def _pool(x: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Pool sorted values: a cell holds at most ``3 / cells`` of the customers, of their absolute value and squares."""
    if x.size <= cells:
        return x, np.ones(x.size)
    # squares make the cells of the tail narrow, where the variance comes from
    shares = (np.cumsum(w) / w.sum() for w in (np.ones(x.size), np.abs(x), x * x))
    place = np.add.reduce(list(shares)) / 3
    start = np.flatnonzero(np.diff(np.floor(place * cells - 1e-12), prepend=-1.0))
    count = np.diff(np.append(start, x.size)).astype(float)
    return np.add.reduceat(x, start) / count, count


def gini(values: Any) -> float:
    """Gini coefficient: mean absolute difference over twice the mean.

    Parameters
    ----------
    values : array-like
        One number per customer; negatives allowed, then the coefficient can exceed 1.

    Raises
    ------
    InputError
        If a value is missing or the mean is not positive (the coefficient divides by it).
    """
    x = np.sort(_values(values))
    if x.mean() <= 0:
        raise InputError(f"the mean value is {x.mean():.4g}; a Gini coefficient needs a positive mean")
    rank = (np.arange(x.size) + 0.5) / x.size
    return float(2 * (x * rank).sum() / x.sum() - 1)


def top_share(values: Any, share: float = 0.2) -> float:
    """Share of the total that the best ``share`` of customers make; can exceed 1 where others are negative."""
    x = np.sort(_values(values))[::-1]
    if not 0 < share < 1:
        raise InputError(f"share is {share}; it must lie between 0 and 1")
    if x.sum() <= 0:
        raise InputError("the total is not positive, so nobody has a share of it")
    whole = min(int(share * x.size + 1e-9), x.size - 1)
    return float((x[:whole].sum() + (share * x.size - whole) * x[whole]) / x.sum())


def lorenz(values: Any, points: int = 200) -> pd.DataFrame:
    """Cumulative value of customers ranked from the worst (Lorenz) and from the best (whale curve).

    Returns
    -------
    DataFrame
        ``customers`` (share), ``lorenz``, ``whale`` (cumulative shares of the total), ``n`` customers in the step. No
        step has fewer customers than the disclosure threshold.
    """
    x = np.sort(_values(values))
    steps = max(1, min(points, x.size // disclosure.MIN_CELL))
    at = np.unique(np.round(np.linspace(0, x.size, steps + 1)).astype(int))
    up, down = np.append(0, np.cumsum(x)), np.append(0, np.cumsum(x[::-1]))
    return pd.DataFrame(
        {
            "customers": at / x.size,
            "lorenz": up[at] / x.sum(),
            "whale": down[at] / x.sum(),
            "n": np.diff(at, prepend=0),
        }
    )


def hill(values: Any, top: int | None = None) -> float:
    """Tail index of the absolute values by Hill's estimator over the ``top`` largest (default: a twentieth)."""
    size = np.sort(np.abs(_values(values)))[::-1]
    k = int(top or max(10, round(TAIL * size.size)))
    k = min(k, int((size > 0).sum()) - 1)
    if k < 2:
        return float("inf")
    mean = float(np.log(size[:k] / size[k]).mean())
    return 1 / mean if mean > 0 else float("inf")


def share_below(values: Any, bound: float = 0.0) -> tuple[float, float, float]:
    """Share of customers below ``bound`` with Wilson's interval."""
    x = _values(values)
    return wilson(int((x < bound).sum()), x.size)


def intervals(values: Any, *, seed: int, resamples: int = 999, cells: int = CELLS) -> pd.DataFrame:
    """Concentration statistics with studentised bootstrap intervals.

    Parameters
    ----------
    values : array-like
        One number per customer; the mean must be positive.
    seed : int
        Of the resampling weights.
    resamples : int
        Bootstrap resamples; 999 makes the end points order statistics.
    cells : int
        Cells of the pooled values the resamples run on.

    Returns
    -------
    DataFrame
        Indexed by statistic: ``estimate``, ``se``, ``ci_low``, ``ci_high``.

    Raises
    ------
    InputError
        If values are missing or their mean is not positive.

    References
    ----------
    Davidson, R. (2009). Reliable inference for the Gini index. *Journal of Econometrics* 150, 30-40.
    """
    x = np.sort(_values(values))
    if x.mean() <= 0:
        raise InputError(f"the mean value is {x.mean():.4g}; shares of a total need a positive mean")
    estimate, se = (a[0] for a in _moments(x, np.ones((1, x.size))))
    pooled, count = _pool(x, cells)
    centre = _moments(pooled, count[None, :])[0][0]
    rng = np.random.default_rng(seed)
    pivots = np.empty((resamples, len(STATISTICS)))
    with np.errstate(divide="ignore", invalid="ignore"):
        for at in range(0, resamples, BLOCK):
            rows = min(BLOCK, resamples - at)
            value, error = _moments(pooled, rng.poisson(count, size=(rows, pooled.size)).astype(float))
            pivots[at : at + rows] = np.where(error > 0, (value - centre) / error, 0.0)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(pivots, [tail, 1 - tail], axis=0)
    table = pd.DataFrame(
        {"estimate": estimate, "se": se, "ci_low": estimate - high * se, "ci_high": estimate - low * se},
        index=pd.Index(STATISTICS, name="statistic"),
    )
    # no share of non-negative values passes 1, and without losses the profitable make all of it
    if x[0] >= 0:
        table[["ci_low", "ci_high"]] = table[["ci_low", "ci_high"]].clip(0.0, 1.0)
    return table


def _gates(x: np.ndarray) -> tuple[Check, ...]:
    tail, error = hill(x), x.std(ddof=1) / x.size**0.5
    z = abs(x.mean()) / error if error > 0 else float("inf")
    return (
        Check.of(
            "tail index", tail > MIN_TAIL, f"Hill's estimate is {tail:.2f}; intervals cover above {MIN_TAIL:g} only"
        ),
        Check.of(
            "mean away from zero",
            bool(x.mean() > 0 and z > MIN_MEAN_Z),
            f"the mean is {z:,.1f} standard errors from zero; shares need a positive mean and more than {MIN_MEAN_Z:g}",
        ),
        Check.of("dominance", not disclosure.dominated(x), "one customer, or two, must not make most of the total"),
    )


def measures(frame: pd.DataFrame) -> list[str]:
    """Value columns of a frame, the one to lead with first.

    Raises
    ------
    InputError
        If the frame has none, or a customer occurs twice.
    """
    found = [m for m in MEASURES if m in frame.columns]
    if not found:
        raise InputError(
            f"no value column; expected one of {', '.join(MEASURES)}; got {', '.join(map(str, frame.columns))}"
        )
    if "customer_id" in frame.columns and frame["customer_id"].duplicated().any():
        twice = int(frame["customer_id"].duplicated().sum())
        raise InputError(f"{twice} rows repeat a customer_id; give one row per customer")
    return found


def _one(x: np.ndarray, seed: int, resamples: int) -> tuple[pd.DataFrame, tuple[Check, ...]]:
    """Rows of one measure in one window, and their gates; without a positive mean shares are undefined and missing."""
    checks = _gates(x)
    rows = pd.DataFrame(
        np.nan, index=pd.Index(STATISTICS, name="statistic"), columns=["estimate", "ci_low", "ci_high", "se"]
    )
    if x.mean() > 0:
        rows = intervals(x, seed=seed, resamples=resamples)[["estimate", "ci_low", "ci_high", "se"]]
    rows["n"] = [x.size, *(int(q * x.size) for q in TOP), int((x > 0).sum())]
    if x.min() >= 0:
        rows = rows.drop(index=STATISTICS[-1])  # without losses it is 1 by arithmetic
    closed = [c.name for c in checks if c.status == "closed"]
    return rows.assign(gates=f"closed: {', '.join(closed)}" if closed else "open").reset_index(), checks


def _draw_curves(curves: dict[str, pd.DataFrame], counts: dict[str, int], tables: dict[str, pd.DataFrame]) -> Any:
    def draw(axes: Any) -> Any:
        left, right = axes
        for (name, curve), color in zip(curves.items(), figures.PALETTE, strict=False):
            label = f"{MEASURES[name]}, n = {counts[name]:,}"
            left.plot(curve["customers"], curve["lorenz"], color=color, label=label)
            right.plot(curve["customers"], curve["whale"], color=color, label=label)
            rows = tables[name].set_index("statistic").loc[list(STATISTICS[1:4])]
            rows = rows.assign(at=TOP)[rows["n"].to_numpy() >= disclosure.MIN_CELL]
            error = [rows["estimate"] - rows["ci_low"], rows["ci_high"] - rows["estimate"]]
            right.errorbar(rows["at"], rows["estimate"], yerr=np.array(error), fmt=".", color=color, capsize=3)
        left.plot([0, 1], [0, 1], color=figures.GREY, linewidth=1, linestyle="--", label="equal shares")
        right.axhline(1, color=figures.GREY, linewidth=1, linestyle="--")
        left.set(title="Lorenz curve", xlabel="customers, from the worst", ylabel="cumulative share of value")
        right.set(
            title="Whale curve, with 95% intervals of top shares",
            xlabel="customers, from the best",
            ylabel="cumulative share of value",
        )
        for ax in (left, right):
            figures.percent_axis(ax, "x")
            figures.percent_axis(ax, "y")
            ax.legend(loc="best")
        return axes

    return draw


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
    names = measures(frame)
    tables, checks, curves, counts = [], {}, {}, {}
    for name in names:
        x = _values(frame[name], name)
        rows, checks[name] = _one(x, seed, resamples)
        tables.append(rows.assign(measure=MEASURES[name]))
        counts[name] = x.size
        if x.mean() > 0:
            curves[name] = lorenz(x)
    table = pd.concat(tables, ignore_index=True)[
        ["measure", "statistic", "estimate", "ci_low", "ci_high", "n", "gates"]
    ]
    lead, n = names[0], counts[names[0]]
    estimates = {}
    for line, statistic in (
        ("S19", "top 20% share"),
        ("S19a", "top 1% share"),
        ("S19b", "top 10% share"),
        ("S19c", "Gini"),
    ):
        row = tables[0].set_index("statistic").loc[statistic]
        value = [float(row[c]) for c in ("estimate", "ci_low", "ci_high", "se")]
        own: tuple[Check, ...] = ()
        if row["n"] < disclosure.MIN_CELL:
            value = [np.nan] * 4
            own = (Check("cell size", "closed", f"fewer than {disclosure.MIN_CELL} customers stand behind this share"),)
        unit = "Gini" if statistic == "Gini" else f"share of {MEASURES[lead]}"
        estimates[line] = Estimate(value[0], value[1], value[2], unit, n, se=value[3], checks=own)
    s19, g = estimates["S19"], estimates["S19c"]
    sentence = (
        f"The best 20% of {n:,} customers make {interval(s19.value, s19.ci_low, s19.ci_high, '.1%')} of "
        f"{MEASURES[lead]} (Gini {g.text()}). The intervals speak of the process behind the customers; for these "
        "customers alone the shares are a count."
    )
    if lead not in ("contribution", "fully_loaded"):
        sentence += (
            f" The bank brings no costs, so {MEASURES[lead]} stands in for contribution, which may be distributed "
            "otherwise."
        )
    if lead not in curves:
        sentence = f"Total {MEASURES[lead]} of {n:,} customers is not positive, so shares of it are undefined."
    alt = "Two curves of cumulative value. " + " ".join(
        f"By {MEASURES[n]}, the best tenth of customers reach {np.interp(0.1, c['customers'], c['whale']):.0%} of "
        f"the total and the curve peaks at {c['whale'].max():.0%}."
        for n, c in curves.items()
    )
    draw = _draw_curves(curves, counts, dict(zip(names, tables, strict=True))) if curves else None
    return Result(table, sentence, checks[lead], estimates, draw, alt, panels=2, details={"curves": curves})


@study
def concentration_by_window(
    frame: pd.DataFrame, *, windows: Sequence[int], seed: int, measure: str | None = None, resamples: int = 499
) -> Result:
    """The same statistics in windows of different length, all ending on the same day.

    A short window mixes lasting differences with the accident of when something happened; a long one mixes customers
    who were there throughout with those who came or left. Concentration belongs to a bank and a window.

    Parameters
    ----------
    frame : DataFrame
        One row per customer with one column ``<measure>_<months>`` per window, missing where the customer was not
        there (``reductions.value.contribution_windows``).
    windows : sequence of int
        Lengths in months; those the frame lacks (they were not observed in full) are left out.
    measure : str, optional
        Default: the first of contribution, spend that the frame has.
    """
    found = [m for m in ([measure] if measure else MEASURES) if any(f"{m}_{w}" in frame.columns for w in windows)]
    if not found:
        raise InputError(
            f"no column {measure or 'contribution'}_{windows[0]} or the like; the frame has "
            f"{', '.join(map(str, frame.columns))}"
        )
    name = found[0]
    rows = []
    for months in (w for w in windows if f"{name}_{w}" in frame.columns):
        x = frame[f"{name}_{months}"].dropna().to_numpy(dtype=float)
        if x.size < disclosure.MIN_CELL:
            continue
        part, _ = _one(x, seed, resamples)
        part = part[part["statistic"].isin(["Gini", "top 20% share"])]
        share, low, high = share_below(x)
        loss = {
            "statistic": "share with negative value",
            "estimate": share,
            "ci_low": low,
            "ci_high": high,
            "gates": "open",
        }
        rows.append(pd.concat([part, pd.DataFrame([loss])]).assign(months=months, n=x.size))
    if not rows:
        raise InputError(f"no window has {disclosure.MIN_CELL} customers or more")
    table = pd.concat(rows, ignore_index=True)[["months", "statistic", "estimate", "ci_low", "ci_high", "n", "gates"]]
    g = table[table["statistic"] == "Gini"].reset_index(drop=True)
    first, last = g.iloc[0], g.iloc[-1]
    sentence = (
        f"By {MEASURES[name]}, the Gini coefficient is "
        f"{interval(first['estimate'], first['ci_low'], first['ci_high'], '.2f')} over {first['months']} months "
        f"and {interval(last['estimate'], last['ci_low'], last['ci_high'], '.2f')} over {last['months']} months."
    )

    def draw(ax: Any) -> Any:
        for statistic, color in zip(
            ("Gini", "top 20% share", "share with negative value"), figures.PALETTE, strict=False
        ):
            part = table[table["statistic"] == statistic]
            figures.interval_band(ax, part["months"], part["ci_low"], part["ci_high"], color)
            ax.plot(part["months"], part["estimate"], marker="o", color=color, label=statistic)
        low, high = int(table["n"].min()), int(table["n"].max())
        ax.set(xlabel="months in the window, all ending on the last day", ylabel="Gini, or share", xticks=g["months"])
        ax.set_title(f"Concentration of {MEASURES[name]}, n = {low:,} to {high:,}, 95% bands")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Lines with 95% bands over windows of {first['months']} to {last['months']} months: the Gini coefficient "
        f"goes from {first['estimate']:.2f} to {last['estimate']:.2f}; the share of the best 20% and the share "
        "with negative value beside it."
    )
    return Result(table, sentence, (), {}, draw, alt)


QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


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
    names = measures(frame)
    rows = []
    for name in names:
        x = np.sort(_values(frame[name], name))
        for part, inside in (("negative", x < 0), ("zero", x == 0), ("positive", x > 0)):
            n = int(inside.sum())
            rows.append((MEASURES[name], f"share with {part} value", *wilson(n, x.size), n))
            if 1 < n < x.size and part != "zero":
                mean, half = x[inside].mean(), 1.96 * x[inside].std(ddof=1) / n**0.5
                rows.append((MEASURES[name], f"mean where {part}", mean, mean - half, mean + half, n))
        for q in QUANTILES:
            half = 1.96 * (q * (1 - q) * x.size) ** 0.5
            at = np.clip([q * x.size, q * x.size - half, q * x.size + half], 0, x.size - 1).astype(int)
            rows.append((MEASURES[name], f"quantile {q:.0%}", *x[at], int(min(q, 1 - q) * x.size)))
    table = pd.DataFrame(rows, columns=["measure", "statistic", "estimate", "ci_low", "ci_high", "n"])
    lead, n = names[0], len(frame)
    share, low, high = share_below(frame[lead])
    estimates = {}
    if lead in ("contribution", "fully_loaded"):
        estimates["S37"] = Estimate(share, low, high, "share of customers", n, se=(share * (1 - share) / n) ** 0.5)
    sentence = f"{interval(share, low, high, '.1%')} of {n:,} customers have negative {MEASURES[lead]}"
    if "fully_loaded" in names and lead != "fully_loaded":
        sentence += f"; with allocated cost taken off it is {share_below(frame['fully_loaded'])[0]:.1%}"

    def draw(ax: Any) -> Any:
        for name, color in zip(names, figures.PALETTE, strict=False):
            x = frame[name].to_numpy(dtype=float)
            symlog_histogram(ax, x, color, f"{MEASURES[name]}, n = {x.size:,}")
        ax.set(xlabel="value per customer in the window, symmetric log scale", ylabel="customers")
        ax.set_title("Distribution of customer value")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Histogram of {MEASURES[lead]} per customer on a symmetric log axis; {share:.0%} of customers lie "
        "left of zero."
    )
    return Result(table, sentence + ".", (), estimates, draw, alt)
