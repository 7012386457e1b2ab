"""How lasting value is: value bands, the overlap of core customers, the lasting share, and a chain of moves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.inference import from_draws, sized

CUTS = (0.5, 0.8, 0.95)  # ranks, from below, at which a value band ends; losses are a band of their own
BLOCK = 32  # resamples computed at once: keeps memory flat


def years_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the columns ``year_<end>`` of a frame, oldest first, named by their end; refuse infinite values."""
    years = [c for c in frame.columns if str(c).startswith("year_")]
    if len(years) < 2:
        raise InputError(f"{len(years)} columns named year_*; stability needs two years, each a column of contribution")
    for year in years:
        if bad := int(np.isinf(frame[year].to_numpy(dtype=float)).sum()):
            raise InputError(
                f"{year}: {bad} rows are infinite; contribution must be a number, or missing if not a customer"
            )
    return frame[years].rename(columns=lambda c: c.removeprefix("year_"))


def band_names(cuts: Sequence[float] = CUTS) -> list[str]:
    """Names of the value bands, from losses up."""
    edges = [0.0, *cuts, 1.0]
    return ["negative", *(f"{a:.0%} to {b:.0%}" for a, b in itertools.pairwise(edges))]


def rank_codes(values: np.ndarray, cuts: Sequence[float], among: np.ndarray | None = None) -> np.ndarray:
    """Cut values by rank into 0 to ``len(cuts)``; equal values share a code, by the number of smaller ones.

    ``among`` marks the values that set the ranks (all by default).
    """
    if list(cuts) != sorted(set(cuts)) or not all(0 < c < 1 for c in cuts):
        raise InputError(f"cuts {tuple(cuts)} must rise strictly between 0 and 1")
    ranked = np.sort(values if among is None else values[among])
    rank = np.searchsorted(ranked, values, side="left") / max(ranked.size, 1)
    return np.searchsorted(np.asarray(cuts), rank, side="right")


def band_codes(values: Any, cuts: Sequence[float] = CUTS, among: np.ndarray | None = None) -> np.ndarray:
    """Index of each customer's value band (0 is ``negative``; -1 where the value is missing).

    ``among`` marks the customers whose values set the ranks (all by default): cuts are ranks, so whoever is left out of
    an estimate must not move them either.
    """
    x = np.asarray(values, dtype=float)
    code = 1 + rank_codes(x, cuts, x >= 0 if among is None else among & (x >= 0))
    return np.where(np.isnan(x), -1, np.where(x < 0, 0, code))


def bands(values: Any, cuts: Sequence[float] = CUTS) -> np.ndarray:
    """Value band of each customer: ``negative``, or the rank among those who are not; missing values stay missing."""
    return np.array([*band_names(cuts), None], dtype=object)[band_codes(values, cuts)]


def year_bands(frame: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Names of the value bands from the lowest up, and everybody's in each year; the bank's own where it brings them.

    ``frame`` has ``year_<end>``, and ``band_<end>`` (ordered categories) where the bank declares bands of its own.
    """
    years = years_of(frame)
    own = frame[[f"band_{end}" for end in years if f"band_{end}" in frame]]
    if own.empty:
        return band_names(), pd.DataFrame({end: bands(years[end]) for end in years})
    names = list(own.iloc[:, 0].cat.categories)
    return names, own.rename(columns=lambda c: c.removeprefix("band_")).astype(object)


def _core(x: np.ndarray, share: float, w: np.ndarray) -> np.ndarray:
    """Core customers by resample: the best ``share`` by weight among those present, with positive value.

    Equal values are core together, by the customers above all of them: the order of rows decides nothing.
    """
    present = np.isfinite(x)
    order = np.argsort(-np.where(present, x, -np.inf), kind="stable")
    down = -np.where(present, x, -np.inf)[order]
    counts = np.where(present, w, 0.0)[:, order]
    above = (np.cumsum(counts, axis=1) - counts)[:, np.searchsorted(down, down, side="left")]
    inside = np.zeros(w.shape, dtype=bool)
    inside[:, order] = (above < share * counts.sum(axis=1, keepdims=True)) & (counts > 0)
    return inside & (np.where(present, x, 0.0) > 0)


def _reduced(x: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Tell who is core in every conceivable resample (2), who in none (1), who may be either (3) or is absent (0).

    The rank of the threshold moves by at most half a square root of n (one standard deviation) between resamples; who
    is eight of these away is sure. The second result is a value that keeps everybody's place.
    """
    here = np.flatnonzero(np.isfinite(x))
    down = -x[here]
    rank = np.searchsorted(np.sort(down), down, side="left")
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


def jaccard(before: Any, after: Any, *, share: float = 0.2, seed: int, resamples: int = 499) -> dict[str, float]:
    """Overlap of the core customers of two years, with a customer-bootstrap interval.

    Parameters
    ----------
    before, after : array-like
        Value of the same customers in two years; missing where somebody was not a customer.
    share : float
        Core customers are the best ``share`` of the customers of a year whose value is positive; equal values at the
        threshold are core together.
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
    se, low, high = from_draws(np.concatenate(draws))
    value = both / either
    return {
        "jaccard": value,
        "ci_low": min(float(low), value),
        "ci_high": max(float(high), value),
        "se": float(se),
        "noise": float(blind / (a.sum() + b.sum() - blind)),
        "core_before": int(a.sum()),
        "core_after": int(b.sum()),
        "both": both,
        "left": int(a.sum()) - stayed,
    }


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope with its HC1 standard error."""
    sized(len(x), 2)
    d = x - x.mean()
    scale = float(d @ d)
    if not scale > 0:
        raise InputError("every customer has the same value in the first year; there is nothing to regress on")
    b = float(d @ y) / scale
    residual = y - y.mean() - b * d
    return b, float(np.sqrt((d * d) @ (residual * residual) * x.size / max(x.size - 2, 1))) / scale


def chain_value(moves: Any, earnings: Any, *, years: int, annual_discount: float) -> np.ndarray:
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


def chain_values(
    before: np.ndarray,
    after: np.ndarray,
    fold: np.ndarray,
    *,
    cuts: Sequence[float],
    smallest: int,
    years: int,
    annual_discount: float,
    own: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value by band from the moves of one year: of all customers, and without each group.

    Parameters
    ----------
    before, after : array, (n,)
        Contribution of two years; missing where somebody was no customer.
    fold : array of int, (n,)
        Group of each customer, 0 to groups - 1.
    cuts : sequence of float
        Cuts of the value bands.
    smallest : int
        Customers a band needs in both years to stand in the chain.
    years, annual_discount
        See :func:`chain_value`.
    own : pair of array of int, optional
        Bands of both years (-1 where missing), in the place of cuts by rank.

    Returns
    -------
    kept, n, values
        Indices of the bands in the chain, their customers in the second year, and ``(groups + 1, bands)``.
    """
    size = len(cuts) + 2 if own is None else 1 + max(int(codes.max()) for codes in own)

    def counted(use: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        # cuts are ranks: without a group they are cut anew
        start, end = own or (band_codes(before, cuts, use), band_codes(after, cuts, use))
        here, now = use & (start >= 0), use & (end >= 0)
        moved = np.zeros((size, size))
        np.add.at(moved, (start[here & now], end[here & now]), 1)
        earned = np.bincount(end[now], weights=after[now], minlength=size)
        return moved, np.bincount(start[here], minlength=size), earned, np.bincount(end[now], minlength=size)

    everybody = np.ones(fold.size, dtype=bool)
    _, started, _, present = counted(everybody)
    kept = np.flatnonzero((started >= smallest) & (present >= smallest))
    if kept.size < 2:
        raise InputError(f"only {kept.size} value bands have {smallest} customers in both years; a chain needs two")
    rows = []
    for use in (everybody, *(fold != g for g in range(int(fold.max()) + 1))):
        moved, total, earned, number = counted(use)
        if (total[kept] == 0).any() or (number[kept] == 0).any():
            raise InputError("a value band lives in one group of customers only; widen the bands")
        moves = moved[np.ix_(kept, kept)] / total[kept][:, None]
        rows.append(chain_value(moves, earned[kept] / number[kept], years=years, annual_discount=annual_discount))
    return kept, present[kept], np.stack(rows)
