"""How lasting customer value is: core customers, moves between value bands, regression to the mean.

Whoever is best this year was partly lucky, so next year the same customers look worse although nothing changed. Every
figure here stands beside what pure noise would give.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError
from crmresearch.estimators.inference import LEVEL, Estimate
from crmresearch.result import Result, study
from crmresearch.studies.value.common import interval, wilson

CUTS = (0.5, 0.8, 0.95)  # ranks, from below, at which a value band ends; losses are a band of their own
RESAMPLES = 499
BLOCK = 32


def _years(frame: pd.DataFrame, prefix: str = "year_") -> list[str]:
    """Names of the year columns, oldest first."""
    years = [c for c in frame.columns if str(c).startswith(prefix)]
    if len(years) < 2:
        raise InputError(
            f"{len(years)} columns named {prefix}*; stability needs two years, each a column of contribution"
        )
    for year in years:
        bad = int(np.isinf(frame[year].to_numpy(dtype=float)).sum())
        if bad:
            raise InputError(
                f"{year}: {bad} rows are infinite; contribution must be a number, or missing if not a customer"
            )
    return years


def _label(year: str) -> str:
    return year.removeprefix("year_")


def _core(x: np.ndarray, share: float, w: np.ndarray) -> np.ndarray:
    """Core customers by resample: the best ``share`` by weight among those present, with positive value."""
    present = np.isfinite(x)
    order = np.argsort(-np.where(present, x, -np.inf), kind="stable")
    counts = np.where(present, w, 0.0)[:, order]
    above = np.cumsum(counts, axis=1) - counts
    inside = np.zeros(w.shape, dtype=bool)
    inside[:, order] = (above < share * counts.sum(axis=1, keepdims=True)) & (counts > 0)
    return inside & (np.where(present, x, 0.0) > 0)


def _reduced(x: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Tell who is core in every conceivable resample (2), who in none (1), who may be either (3) or is absent (0).

    The rank of the threshold moves by at most half a square root of n (one standard deviation) between resamples; who
    is eight of these away is sure. The second result is a value that keeps everybody's place.
    """
    here = np.flatnonzero(np.isfinite(x))
    rank = np.empty(here.size)
    rank[np.argsort(-x[here], kind="stable")] = np.arange(here.size)
    near = 4 * here.size**0.5
    kind = np.zeros(x.size, dtype=int)
    kind[here] = np.where(np.abs(rank - share * here.size) <= near, 3, np.where(rank < share * here.size, 2, 1))
    kind[(kind == 2) & ~(x > 0)] = 1
    value = np.where(kind == 2, np.nanmax(x), np.where(kind == 1, np.nanmin(x), x))
    return kind, value


def _pairs(x: np.ndarray, y: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool customers whose place is sure in both years; return the values and how many customers each stands for."""
    (kind_x, place_x), (kind_y, place_y) = _reduced(x, share), _reduced(y, share)
    single = (kind_x == 3) | (kind_y == 3)
    _, first, count = np.unique(np.where(single, -1, 4 * kind_x + kind_y), return_index=True, return_counts=True)
    pooled = ~single[first]
    rows = np.concatenate([np.flatnonzero(single), first[pooled]])
    return place_x[rows], place_y[rows], np.concatenate([np.ones(single.sum()), count[pooled]])


def jaccard(before: Any, after: Any, *, share: float = 0.2, seed: int, resamples: int = RESAMPLES) -> dict[str, float]:
    """Overlap of the core customers of two years, with a customer-bootstrap interval.

    Parameters
    ----------
    before, after : array-like
        Value of the same customers in two years; missing where somebody was not a customer.
    share : float
        Core customers are the best ``share`` of the customers of a year whose value is positive.
    seed, resamples : int
        Poisson weights; the thresholds are found anew in every resample, on customers pooled where their place is sure.

    Returns
    -------
    dict
        ``jaccard``, ``ci_low``, ``ci_high``, ``se``; ``noise``: the overlap expected if next year's ranks of those who
        stay were drawn blindly; counts ``core_before``, ``core_after``, ``both``, ``left`` (core, but no customer any
        more).
    """
    x, y = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if x.shape != y.shape:
        raise InputError(f"{x.size} values before and {y.size} after; give the same customers in both")
    if not 0 < share < 1:
        raise InputError(f"share is {share}; it must lie between 0 and 1")
    if not (np.nan_to_num(x) > 0).any() or not (np.nan_to_num(y) > 0).any():
        raise InputError("nobody has positive value in one of the two years, so there are no core customers")
    one = np.ones((1, x.size))
    a, b = _core(x, share, one)[0], _core(y, share, one)[0]
    both, either = int((a & b).sum()), int((a | b).sum())
    stayed = int((a & np.isfinite(y)).sum())
    blind = stayed * b.sum() / np.isfinite(y).sum()
    rng = np.random.default_rng(seed)
    px, py, count = _pairs(x, y, share)
    draws = []
    for at in range(0, resamples, BLOCK):
        w = rng.poisson(count, size=(min(BLOCK, resamples - at), count.size)).astype(float)
        ra, rb = _core(px, share, w), _core(py, share, w)
        draws.append((w * (ra & rb)).sum(axis=1) / np.maximum((w * (ra | rb)).sum(axis=1), 1))
    sample = np.concatenate(draws)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(sample, [tail, 1 - tail])
    value = both / either
    return {
        "jaccard": value,
        "ci_low": min(float(low), value),
        "ci_high": max(float(high), value),
        "se": float(sample.std(ddof=1)),
        "noise": float(blind / (a.sum() + b.sum() - blind)),
        "core_before": int(a.sum()),
        "core_after": int(b.sum()),
        "both": both,
        "left": int(a.sum()) - stayed,
    }


@study
def core_overlap(frame: pd.DataFrame, *, share: float = 0.2, seed: int, resamples: int = RESAMPLES) -> Result:
    """Core customers by a written rule, and how many are core again a year later.

    The rule: the best ``share`` of a year's customers by contribution, as far as their contribution is positive.

    Parameters
    ----------
    frame : DataFrame
        One row per customer with columns ``year_<end>``, oldest first: contribution of that year, missing where
        somebody was no customer (``reductions.value.yearly``).

    Returns
    -------
    Result
        One row per pair of years; S22 is the overlap (Jaccard) of the last pair.
    """
    years = _years(frame)
    rows = []
    for before, after in itertools.pairwise(years):
        cell = jaccard(frame[before], frame[after], share=share, seed=seed, resamples=resamples)
        rows.append({"from": _label(before), "to": _label(after), **cell})
    table = pd.DataFrame(rows).rename(columns={"core_before": "n"})
    se = float(table["se"].iloc[-1])
    table = table[["from", "to", "jaccard", "ci_low", "ci_high", "noise", "n", "core_after", "both", "left"]]
    last = table.iloc[-1]
    kept, low, high = wilson(last["both"], last["n"])
    union = int(last["n"] + last["core_after"] - last["both"])
    estimate = Estimate(last["jaccard"], last["ci_low"], last["ci_high"], "Jaccard overlap", union, se=se)
    sentence = (
        f"Of the core customers of the year to {last['from']} (best {share:.0%} with positive contribution), "
        f"{interval(kept, low, high, '.1%')} are core in the year to {last['to']}: overlap {estimate.text()}, "
        f"against {last['noise']:.2f} if ranks were drawn blindly."
    )

    def draw(ax: Any) -> Any:
        at = np.arange(len(table))
        ends = table["ci_low"], table["ci_high"]
        figures.intervals(ax, at, table["jaccard"], *ends, label="observed, 95% interval")
        ax.plot(at, table["noise"], "_", markersize=18, color=figures.PALETTE[1], label="blind ranks")
        labels = [f"{a} to\n{b}\nn = {n:,}" for a, b, n in zip(table["from"], table["to"], table["n"], strict=True)]
        ax.set(
            xticks=at,
            xticklabels=labels,
            ylim=(0, 1),
            ylabel="core in both years over core in either",
            xlim=(-0.6, len(table) - 0.4),
        )
        ax.set_title(f"Core customers (best {share:.0%}) who are core again")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Points with intervals, one per pair of years; the last overlap is {last['jaccard']:.2f}, the mark for "
        f"blind ranks lies at {last['noise']:.2f}."
    )
    return Result(table, sentence, (), {"S22": estimate}, draw, alt, counts=("n", "core_after", "both", "left"))


def band_names(cuts: Sequence[float] = CUTS) -> list[str]:
    """Names of the value bands, from losses up."""
    edges = [0.0, *cuts, 1.0]
    return ["negative", *(f"{a:.0%} to {b:.0%}" for a, b in itertools.pairwise(edges))]


def band_codes(values: Any, cuts: Sequence[float] = CUTS, among: np.ndarray | None = None) -> np.ndarray:
    """Index of each customer's value band (0 is ``negative``; -1 where the value is missing).

    ``among`` marks the customers whose values set the ranks (all by default): cuts are ranks, so whoever is left out of
    an estimate must not move them either.
    """
    x = np.asarray(values, dtype=float)
    if list(cuts) != sorted(set(cuts)) or not all(0 < c < 1 for c in cuts):
        raise InputError(f"cuts {tuple(cuts)} must rise strictly between 0 and 1")
    good = np.sort(x[x >= 0] if among is None else x[among & (x >= 0)])
    # ties share one band: rank by the number of smaller values
    rank = np.searchsorted(good, x, side="left") / max(good.size, 1)
    code = 1 + np.searchsorted(np.asarray(cuts), rank, side="right")
    return np.where(np.isnan(x), -1, np.where(x < 0, 0, code))


def bands(values: Any, cuts: Sequence[float] = CUTS) -> np.ndarray:
    """Value band of each customer: ``negative``, or the rank among those who are not; missing values stay missing."""
    return np.array([*band_names(cuts), None], dtype=object)[band_codes(values, cuts)]


def _blank_small(counts: np.ndarray) -> np.ndarray:
    """Mark cells that may not be shown: too few people, and one more where a row total would give it away."""
    hide = (counts > 0) & (counts < disclosure.MIN_CELL)
    for row in np.flatnonzero(hide.sum(axis=1) == 1):
        rest = np.where(hide[row] | (counts[row] == 0), np.inf, counts[row])
        if np.isfinite(rest).any():
            hide[row, int(rest.argmin())] = True
    return hide


@study
def transitions(frame: pd.DataFrame, *, cuts: Sequence[float] = CUTS) -> Result:
    """Where the customers of one value band are a year later, in the last two years.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`core_overlap`.
    cuts : sequence of float
        Ranks at which bands end, among customers whose contribution is not negative.

    Returns
    -------
    Result
        Share of each band by band of the following year (``left``: no customer any more), with ``n`` per row and the
        half-width of the widest 95% interval in the row. Cells of few people are blank.
    """
    before, after = _years(frame)[-2:]
    names = band_names(cuts)
    start, end = bands(frame[before], cuts), bands(frame[after], cuts)
    start[(start == None) & (end != None)] = "new"  # noqa: E711 - element-wise
    end[(end == None) & (start != None)] = "left"  # noqa: E711
    here = start != None  # noqa: E711
    rows, columns = [*names, "new"], [*names, "left"]
    counts = pd.crosstab(start[here], end[here]).reindex(index=rows, columns=columns, fill_value=0).to_numpy()
    total = counts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total[:, None] > 0, counts / total[:, None], np.nan)
    half = [
        max((wilson(c, n)[2] - wilson(c, n)[1]) / 2 for c in row) if n else np.nan
        for row, n in zip(counts, total, strict=True)
    ]
    shown = np.where(_blank_small(counts), np.nan, share)
    table = pd.DataFrame(shown, columns=columns)
    table.insert(0, f"band to {_label(before)}", rows)
    table["half-width"], table["n"] = half, total
    top, worst = len(names) - 1, 0
    stay, low, high = wilson(counts[top, top], max(total[top], 1))
    sentence = (
        f"Of {total[top]:,} customers in the best band in the year to {_label(before)}, "
        f"{interval(stay, low, high, '.1%')} are in it a year later."
    )
    if total[worst] >= disclosure.MIN_CELL:
        again, low, high = wilson(counts[worst, worst], total[worst])
        sentence += f" Of {total[worst]:,} who made a loss, {interval(again, low, high, '.1%')} make one again."

    def draw(ax: Any) -> Any:
        ax.imshow(np.nan_to_num(shown), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i in range(len(rows)):
            for j in range(len(columns)):
                cell = shown[i, j]
                ax.text(
                    j,
                    i,
                    "–" if np.isnan(cell) else f"{cell:.0%}",
                    ha="center",
                    va="center",
                    color="white" if cell > 0.55 else figures.INK,
                )
        ax.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
        ax.set_yticks(range(len(rows)), [f"{r}, n = {n:,}" for r, n in zip(rows, total, strict=True)])
        ax.set(
            xlabel=f"value band in the year to {_label(after)} (–: too few people to show)",
            ylabel=f"band in the year to {_label(before)}",
        )
        ax.set_title(f"Share of a band by next year's band; widest half-interval {np.nanmax(half):.1%}")
        ax.grid(False)
        return ax

    alt = f"Heat map of moves between {len(names)} value bands in a year; {stay:.0%} of the best band stay in it."
    return Result(table, sentence, (), {}, draw, alt, figsize=(7.6, 4.6))


@study
def regression_to_mean(frame: pd.DataFrame, *, cuts: Sequence[float] = CUTS) -> Result:
    """How far value bands move towards the mean in the following year, among customers of both years.

    The slope of next year's contribution on this year's is the share of a deviation that lasts. Bands chosen on the
    first year regress; the year after, which chose nobody, is shown where there are three years: it tells chance
    (a drop, then a level) from decay (a drop every year).

    Parameters
    ----------
    frame : DataFrame
        As for :func:`core_overlap`.

    Returns
    -------
    Result
        Mean by band of the first year, in every year, with the interval of the last; the slope and its
        heteroscedasticity-consistent interval in the sentence and in ``details["persistence"]``.
    """
    years = _years(frame)[-3:]
    both = frame[years].dropna().to_numpy(dtype=float)
    if len(both) < 3 * disclosure.MIN_CELL:
        raise InputError(
            f"{len(both)} customers are present in all of the years {', '.join(map(_label, years))}; too few"
        )
    x, y = both[:, 0], both[:, 1]
    slope, se = ols_slope(x, y)
    estimate = Estimate(
        slope, slope - 1.96 * se, slope + 1.96 * se, "share of a deviation that lasts", len(both), se=se
    )
    band = bands(x, cuts)
    rows = []
    for name in band_names(cuts):
        inside = band == name
        n = int(inside.sum())
        if n < 2:
            continue
        means = both[inside].mean(axis=0)
        half = 1.96 * both[inside, -1].std(ddof=1) / n**0.5
        expected = y.mean() + slope * (means[0] - x.mean())
        rows.append((name, *means, means[-1] - half, means[-1] + half, expected, n))
    columns = [
        "band in the first year",
        *(f"mean to {_label(c)}" for c in years),
        "ci_low",
        "ci_high",
        "by slope alone",
        "n",
    ]
    table = pd.DataFrame(rows, columns=columns)
    rank = pd.Series(x).corr(pd.Series(y), method="spearman")
    sentence = (
        f"{interval(slope, estimate.ci_low, estimate.ci_high, '.0%')} of a deviation from the mean in the year to "
        f"{_label(years[0])} lasts into the next, among {len(both):,} customers of all years (rank correlation "
        f"{rank:.2f}); the rest is regression to the mean, for the best and the worst alike."
    )

    def draw(ax: Any) -> Any:
        shown = table[table["n"] >= disclosure.MIN_CELL]
        at = range(len(years))
        for (_, row), color in zip(shown.iterrows(), figures.PALETTE, strict=False):
            ax.plot(at, row.iloc[1 : 1 + len(years)], marker="o", color=color, label=f"{row.iloc[0]}, n = {row['n']:,}")
            ax.plot([at[-1]] * 2, [row["ci_low"], row["ci_high"]], color=color, linewidth=5, alpha=0.35)
        ax.set_xticks(at, [f"to {_label(c)}" for c in years])
        ax.set(
            ylabel="mean contribution per customer and year,\n95% interval in the last",
            title="Bands chosen on the first year, followed",
        )
        figures.money_axis(ax)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="band, first year")
        return ax

    first, last = table.iloc[0], table.iloc[-1]
    alt = (
        f"Lines of mean contribution by the band of the first year: the best band goes from {last.iloc[1]:,.0f} "
        f"to {last.iloc[2]:,.0f}, the lowest from {first.iloc[1]:,.0f} to {first.iloc[2]:,.0f}."
    )
    return Result(table, sentence, (), {}, draw, alt, details={"persistence": estimate})


def ols_slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope with its HC1 standard error."""
    d = x - x.mean()
    scale = float(d @ d)
    if not scale > 0:
        raise InputError("every customer has the same value in the first year; there is nothing to regress on")
    slope = float(d @ y) / scale
    residual = y - y.mean() - slope * d
    se = float(np.sqrt((d * d) @ (residual * residual) * x.size / max(x.size - 2, 1))) / scale
    return slope, se
