"""Value by moves between bands: a Markov chain over years.

A second route to customer value that shares no assumption with survival x margin: customers move between value bands,
or leave, with the chances seen in the last two years, and earn their band's mean (Pfeifer and Carraway 2000, J.
Interactive Marketing 14; for a retail bank Haenlein, Kaplan and Beeser 2007, European Management J. 25). The chain
forgets: where bands are formed on one lucky year, it returns to the mean sooner than customers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError
from crmresearch.result import Result, study
from crmresearch.studies.value.common import interval, jackknife
from crmresearch.studies.value.stability import CUTS, _label, _years, band_codes, band_names

GROUPS = 20


def chain_value(moves: np.ndarray, earnings: np.ndarray, *, years: int, annual_discount: float) -> np.ndarray:
    """Value of each band over the coming years, paid at year ends.

    Parameters
    ----------
    moves : array, (bands, bands)
        Chance to be in each band a year later; what is missing to 1 in a row has left for good.
    earnings : array, (bands,)
        Mean contribution per year of the customers in a band.
    years : int
        Years that count.
    annual_discount : float
        Effective annual rate.
    """
    moves, earnings = np.asarray(moves, dtype=float), np.asarray(earnings, dtype=float)
    if moves.shape != (earnings.size, earnings.size):
        raise InputError(
            f"moves are {moves.shape}, earnings {earnings.shape}; give one row, column and amount per band"
        )
    if (moves < 0).any() or (moves.sum(axis=1) > 1 + 1e-9).any():
        raise InputError("chances to move must not be negative, nor add up to more than 1 in a row")
    if years < 1:
        raise InputError(f"years is {years}; it must be 1 or more")
    value, ahead = np.zeros(earnings.size), earnings
    for k in range(1, years + 1):
        ahead = moves @ ahead
        value = value + ahead / (1 + annual_discount) ** k
    return value


@study
def markov_value(
    frame: pd.DataFrame, *, years: int = 5, annual_discount: float = 0.1, cuts: Sequence[float] = CUTS
) -> Result:
    """Value per band from last year's moves.

    Parameters
    ----------
    frame : DataFrame
        One row per customer with columns ``year_<end>`` (``reductions.value.yearly``); the last two are used.
    years : int
        Years ahead that count; payments at year ends.
    annual_discount : float
        Effective annual rate.
    cuts : sequence of float
        Cuts of the value bands.

    Returns
    -------
    Result
        Value per customer by band, with intervals that refit moves and earnings without each of twenty groups of
        customers.
    """
    before, after = (frame[c].to_numpy(dtype=float) for c in _years(frame)[-2:])
    names = band_names(cuts)
    start, end = band_codes(before, cuts), band_codes(after, cuts)
    fold = np.arange(len(frame)) % GROUPS
    present = np.bincount(end[end >= 0], minlength=len(names))
    kept = np.flatnonzero(
        (np.bincount(start[start >= 0], minlength=len(names)) >= disclosure.MIN_CELL) & (present >= disclosure.MIN_CELL)
    )
    if kept.size < 2:
        raise InputError(
            f"only {kept.size} value bands have {disclosure.MIN_CELL} customers in both years; a chain needs two"
        )
    rows = []
    for g in range(GROUPS + 1):  # cuts are ranks: without a group they are cut anew
        use = fold != g - 1
        moved = band_codes(before, cuts, use), band_codes(after, cuts, use)
        rows.append(_fitted(*moved, after, use, kept, years, annual_discount))
    values = np.stack(rows)
    mean, _, low, high = jackknife(values)
    share = present[kept] / present[kept].sum()
    every = jackknife(values @ share)
    table = pd.DataFrame({"band": [names[k] for k in kept], "value per customer": mean, "ci_low": low, "ci_high": high})
    table["n"] = present[kept]
    label = _label(_years(frame)[-1])
    sentence = (
        f"If customers go on moving between bands as in the year to {label}, the coming {years} years of a customer "
        f"are worth {interval(every[0], every[2], every[3], ',.0f')} on average at {annual_discount:.0%} a year."
    )

    def draw(ax: Any) -> Any:
        at = np.arange(len(table))
        figures.intervals(ax, at, mean, low, high)
        ax.axhline(0, color=figures.INK, linewidth=1)
        ax.set_xticks(at, [f"{b}\nn = {n:,}" for b, n in zip(table["band"], table["n"], strict=True)])
        ax.set(xlabel=f"value band in the year to {label}", ylabel="value per customer, 95% interval")
        ax.set_title(f"Value of {years} years by moves between bands, {annual_discount:.0%} a year")
        figures.money_axis(ax)
        return ax

    alt = f"Points with intervals by value band: from {mean[0]:,.0f} in the lowest band to {mean[-1]:,.0f} in the best."
    return Result(table, sentence, (), {}, draw, alt, digits=0, details={"mean": every})


def _fitted(
    start: np.ndarray,
    end: np.ndarray,
    money: np.ndarray,
    use: np.ndarray,
    kept: np.ndarray,
    years: int,
    discount: float,
) -> np.ndarray:
    """Moves and earnings of the customers in use, and the value they give."""
    size = int(max(start.max(), end.max())) + 1
    here = use & (start >= 0)
    stayed = here & (end >= 0)
    counts = np.zeros((size, size))
    np.add.at(counts, (start[stayed], end[stayed]), 1)
    total = np.bincount(start[here], minlength=size)[kept]
    now = use & (end >= 0)
    earned = np.bincount(end[now], weights=money[now], minlength=size)[kept]
    number = np.bincount(end[now], minlength=size)[kept]
    if (total == 0).any() or (number == 0).any():
        raise InputError("a value band lives in one group of customers only; widen the bands")
    return chain_value(
        counts[np.ix_(kept, kept)] / total[:, None], earned / number, years=years, annual_discount=discount
    )
