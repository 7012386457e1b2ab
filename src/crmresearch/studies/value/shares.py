"""How concentrated the value of a bank's customers is: the studies, by measure and by window, and who loses money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError
from crmresearch.estimators.inequality import STATISTICS, TOP, checked, hill, intervals, lorenz, share_below
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.value.common import interval, symlog_histogram, wilson

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
            ends = rows["ci_low"], rows["ci_high"]
            figures.intervals(right, rows["at"], rows["estimate"], *ends, fmt=".", color=color)
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
        x = checked(frame[name], name)
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
        x = np.sort(checked(frame[name], name))
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
            below = interval(*share_below(x), ".1%")
            symlog_histogram(ax, x, color, f"{MEASURES[name]}, n = {x.size:,}, {below} below zero")
        ax.set(xlabel="value per customer in the window, symmetric log scale", ylabel="customers")
        ax.set_title("Distribution of customer value")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Histogram of {MEASURES[lead]} per customer on a symmetric log axis; {share:.0%} of customers lie "
        "left of zero."
    )
    return Result(table, sentence + ".", (), estimates, draw, alt)
