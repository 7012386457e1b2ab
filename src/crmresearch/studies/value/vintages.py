r"""Customers by year of acquisition, and what age, calendar time and vintage can and cannot be told apart.

With age :math:`a` = calendar year :math:`p` less vintage :math:`v`, any trend in one of the three can be written as
trends in the other two: adding :math:`c\,(p - v - a) = 0` to a model changes its coefficients and nothing it predicts.
The three linear trends are therefore not identified, whatever the data (Holford 1983, *Biometrics* 39, 311-324), and no
further assumption is made here to pick one. What is identified is shown instead:

- the *deviations* of each factor from its own linear trend, its curvature;
- sums of trends: per year within a vintage (age + calendar), and from one vintage to the next in the same year
  (vintage - age).

Years must be cut alike on all three clocks. With a year of tenure that runs from a customer's own first day, age is no
longer exactly calendar less vintage, and a fit by least squares would find a "unique" answer in rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import InputError, Missing
from crmresearch.result import Result, study
from crmresearch.studies.value.common import interval, jackknife

MIN_CUSTOMERS = 50  # customers an age, year or vintage needs to be shown
FACTORS = {"age": "age", "period": "calendar year", "vintage": "vintage"}
COLUMNS = ("fold", "vintage", "period", "age", "customers", "n", "at_risk", "exits", "contribution")


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    lacking = [c for c in COLUMNS if c not in frame.columns]
    if lacking:
        raise InputError(f"vintages: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    numbers = frame[list(COLUMNS[3:])].to_numpy(dtype=float)
    if bad := int((~np.isfinite(numbers)).any(axis=1).sum()):
        raise InputError(f"vintages: {bad} rows have missing or infinite numbers")
    if bad := int((frame["age"] < 0).sum()):
        raise InputError(f"vintages: {bad} rows have a negative age; check acquired_on")
    clock = {c: frame[c].str[:4].astype(int) for c in ("vintage", "period")}
    if not (frame["age"] == clock["period"] - clock["vintage"]).all():
        raise InputError("vintages: age must be the years between vintage and period, cut alike")
    return frame


def _without(frame: pd.DataFrame, by: list[str], columns: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Sum by cells: the totals, and an array ``(groups + 1, cells, columns)`` of all and without each group."""
    total = frame.groupby(by)[columns].sum()
    folds = np.unique(frame["fold"])
    each = [frame[frame["fold"] == f].groupby(by)[columns].sum().reindex(total.index, fill_value=0) for f in folds]
    full = total.to_numpy(dtype=float)
    return total, np.stack([full, *(full - e.to_numpy(dtype=float) for e in each)])


def _people(total: pd.DataFrame) -> pd.Series:
    """Customers of a vintage: each either left in one of the years or was there in the last month."""
    return (total["exits"] + total["n"] - total["at_risk"]).astype(int)


def _expected_exits(frame: pd.DataFrame) -> np.ndarray:
    """Exits of each vintage if every age left at the rate of all vintages together, ``(groups + 1, vintages)``."""
    total, sums = _without(frame, ["vintage", "age"], ["at_risk", "exits"])
    vintage, age = (np.unique(total.index.get_level_values(k), return_inverse=True)[1] for k in (0, 1))
    out = []
    for at_risk, exits in np.moveaxis(sums, 2, 1):
        rate = np.bincount(age, exits) / np.maximum(np.bincount(age, at_risk), 1)
        out.append(np.bincount(vintage, at_risk * rate[age]))
    return np.stack(out)


@study
def vintages(frame: pd.DataFrame) -> Result:
    """Contribution and retention by year of acquisition.

    Parameters
    ----------
    frame : DataFrame
        ``fold``, ``vintage``, ``period``, ``age``, ``customers``, ``n``, ``at_risk``, ``exits``, ``contribution``
        (``reductions.value.vintages``).

    Returns
    -------
    Result
        By vintage: the ages seen, contribution per customer-month, the chance to stay a year, and exits over those
        expected if each age left at the rate of all vintages together, each with its jackknife interval. Vintages are
        seen at different ages; only the last column compares like with like, and even that mixes vintage with calendar.
    """
    frame = _checked(frame)
    total, sums = _without(frame, ["vintage"], ["n", "at_risk", "exits", "contribution"])
    people = _people(total)
    keep = (people >= MIN_CUSTOMERS).to_numpy() & (total["at_risk"] > 0).to_numpy()
    if keep.sum() < 2:
        few = f"{int(keep.sum())} vintages have {MIN_CUSTOMERS} customers; a comparison needs two"
        return Result.not_applicable(Missing(few, ("monthly",)))
    n, at_risk, exits, money = np.moveaxis(sums[:, keep], 2, 0)
    mean, _, low, high = jackknife(money / n)
    stay, _, stay_low, stay_high = jackknife((1 - exits / at_risk) ** 12)
    ratio, _, ratio_low, ratio_high = jackknife(exits / _expected_exits(frame)[:, keep])
    ages = frame.groupby("vintage")["age"].agg(["min", "max"])[keep]
    table = pd.DataFrame(
        {
            "acquired in the year to": total.index[keep],
            "first age": ages["min"].to_numpy(),
            "last age": ages["max"].to_numpy(),
            "monthly contribution": mean,
            "ci_low": low,
            "ci_high": high,
            "stay the year": stay,
            "stay_low": np.clip(stay_low, 0, 1),
            "stay_high": np.clip(stay_high, 0, 1),
            "exits over expected": ratio,
            "ratio_low": np.clip(ratio_low, 0, None),
            "ratio_high": ratio_high,
            "exits": exits[0].astype(int),
            "n": people[keep].to_numpy(),
        }
    )
    old, new = table.iloc[0], table.iloc[-1]
    money_of = [interval(r["monthly contribution"], r["ci_low"], r["ci_high"], ",.1f") for r in (old, new)]
    stay_of = [interval(r["stay the year"], r["stay_low"], r["stay_high"], ".1%") for r in (old, new)]
    sentence = (
        f"Customers won in the year to {old.iloc[0]}, seen at ages {old['first age']} to {old['last age']}, contribute "
        f"{money_of[0]} a month and {stay_of[0]} of them stay a year; those won in the year to {new.iloc[0]}, seen at "
        f"ages {new['first age']} to {new['last age']}, {money_of[1]} and {stay_of[1]}."
    )

    panels = (
        ("monthly contribution", "ci", "Contribution by vintage", "money per customer-month"),
        ("stay the year", "stay", "Retention by vintage", "share who stay a year"),
        ("exits over expected", "ratio", "Exits, at equal age", "exits over expected"),
    )

    def draw(axes: Any) -> Any:
        at = np.arange(len(table))
        every = max(1, len(at) // 6)
        for ax, (column, name, title, label) in zip(axes, panels, strict=True):
            figures.intervals(ax, at, table[column], table[f"{name}_low"], table[f"{name}_high"])
            ax.set_xticks(at[::every], table.iloc[::every, 0], rotation=30, ha="right")
            ax.set(xlabel="acquired in the year to", title=title, ylabel=f"{label}, 95% interval")
        axes[2].axhline(1, color=figures.INK, linewidth=1)
        figures.percent_axis(axes[1], digits=1)
        figures.note(axes[0], f"n = {int(table['n'].min()):,} to {int(table['n'].max()):,} customers")
        return axes

    alt = (
        f"Three panels of points with intervals over {len(table)} vintages: monthly contribution goes from "
        f"{old['monthly contribution']:,.1f} to {new['monthly contribution']:,.1f}, the share who stay a year from "
        f"{old['stay the year']:.0%} to {new['stay the year']:.0%}, exits over those expected from "
        f"{old['exits over expected']:.2f} to {new['exits over expected']:.2f}."
    )
    return Result(table, sentence, (), {}, draw, alt, counts=("n", "exits"), panels=3)


def _levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells whose age, year and vintage all have enough customers; dropping one may starve another."""
    while len(frame):
        thin = np.zeros(len(frame), dtype=bool)
        for factor in FACTORS:
            total = frame.groupby(factor)[["customers", "n", "at_risk", "exits"]].sum()
            people = total["customers"] if factor != "vintage" else _people(total)
            thin |= frame[factor].isin(people.index[people < MIN_CUSTOMERS]).to_numpy()
        if not thin.any():
            break
        frame = frame[~thin]
    return frame


def _detrended(levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Basis of what a factor has beyond its linear trend, ``(levels, levels - 2)``, orthogonal under the weights."""
    line = np.column_stack([np.ones(levels.size), levels])
    root = np.sqrt(weights)[:, None]
    q, _ = np.linalg.qr(np.hstack([root * line, np.diag(root[:, 0])]))
    return q[:, 2 : levels.size] / root


def _fit(cells: pd.DataFrame, n: np.ndarray, money: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Weighted least squares of mean contribution: two sums of trends, then the deviations of every factor."""
    period, vintage = cells["period"].to_numpy(), cells["vintage"].to_numpy()
    design = [np.ones((len(cells), 1)), (period - period.mean())[:, None], (vintage - vintage.mean())[:, None]]
    bases = {}
    for factor in FACTORS:
        levels, code = np.unique(cells[factor].to_numpy(), return_inverse=True)
        bases[factor] = _detrended(levels.astype(float), weights[factor])
        design.append(bases[factor][code])
    x, root = np.hstack(design), np.sqrt(n)
    beta, _, rank, _ = np.linalg.lstsq(x * root[:, None], money / np.maximum(n, 1e-300) * root, rcond=None)
    if rank < x.shape[1]:
        raise InputError("the cells do not hold enough different ages, years and vintages to separate their curvatures")
    out, at = [beta[1:3]], 3
    for basis in bases.values():
        out.append(basis @ beta[at : at + basis.shape[1]])
        at += basis.shape[1]
    return np.concatenate(out)


@study
def age_period_cohort(frame: pd.DataFrame) -> Result:
    """Contribution per customer-month by age, calendar year and vintage: what of it is identified.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`vintages`.

    Returns
    -------
    Result
        The two identified sums of trends, and for every age, calendar year and vintage the deviation from the linear
        trend of its factor (weighted by customer-months), with jackknife intervals. The trends of age, calendar time
        and vintage by themselves are not identified and not given. Not applicable where a factor has fewer than three
        levels with enough customers.

    Raises
    ------
    InputError
        If the cells are too few to separate the curvatures, or do not fit together.
    """
    frame = _levels(_checked(frame))
    years = {c: frame[c].str[:4].astype(int) for c in ("period", "vintage")}
    numbers = frame.assign(**years)
    short = [FACTORS[f] for f in FACTORS if numbers[f].nunique() < 3]
    if short:
        few = f"{', '.join(short)}: fewer than three levels have {MIN_CUSTOMERS} customers, so no curvature is seen"
        return Result.not_applicable(Missing(few, ("monthly",)))
    total, sums = _without(
        numbers, ["vintage", "period", "age"], ["n", "contribution", "customers", "exits", "at_risk"]
    )
    cells = total.reset_index()
    weights = {f: cells.groupby(f)["n"].sum().to_numpy(dtype=float) for f in FACTORS}
    fits = np.stack([_fit(cells, s[:, 0], s[:, 1], weights) for s in sums])
    value, se, low, high = jackknife(fits)
    names = {"period": dict(zip(years["period"], frame["period"], strict=True))}
    names["vintage"] = dict(zip(years["vintage"], frame["vintage"], strict=True))
    labels = [("trend", "a year later, same vintage"), ("trend", "a vintage later, same year")]
    people = [int(_people(total).sum())] * 2
    for factor, name in FACTORS.items():
        groups = cells.groupby(factor)[["customers", "n", "at_risk", "exits"]].sum()
        people += list(groups["customers"].astype(int) if factor != "vintage" else _people(groups))
        labels += [(name, str(names.get(factor, {}).get(k, k))) for k in groups.index]
    table = pd.DataFrame(labels, columns=["factor", "level"])
    # money per customer-month: the trend of the period is age + calendar, that of the vintage is vintage - age
    table = table.assign(estimate=value, ci_low=low, ci_high=high, n=people)
    trends, rest = table.iloc[:2], table.iloc[2:]
    clear = rest[(rest["ci_low"] > 0) | (rest["ci_high"] < 0)]
    within, across = (interval(r["estimate"], r["ci_low"], r["ci_high"], "+,.2f") for _, r in trends.iterrows())
    sentence = (
        f"Contribution per customer-month changes by {within} a year within a vintage and by {across} from one vintage "
        f"to the next in the same year. How much of that is age, calendar time or vintage, no data can tell. Of "
        f"{len(rest)} deviations from the three linear trends {len(clear)} have intervals that exclude zero, where "
        f"{0.05 * len(rest):.1f} would by chance."
    )

    def draw(axes: Any) -> Any:
        for ax, (name, part) in zip(axes, rest.groupby("factor", sort=False), strict=True):
            at = np.arange(len(part))
            figures.intervals(ax, at, part["estimate"], part["ci_low"], part["ci_high"])
            ax.axhline(0, color=figures.INK, linewidth=1)
            every = max(1, len(at) // 6)
            ax.set_xticks(at[::every], part["level"].iloc[::every], rotation=30, ha="right")
            ax.set(
                title=f"{str(name).capitalize()}, beyond its trend",
                xlabel="years since acquisition" if name == "age" else "year to",
            )
            figures.note(ax, f"n = {int(part['n'].min()):,} to {int(part['n'].max()):,} customers")
        axes[0].set(ylabel="deviation from the linear trend,\nmoney per customer-month, 95% interval")
        return axes

    size = rest.groupby("factor", sort=False)["estimate"].agg(lambda e: e.abs().max())
    alt = (
        "Three panels of points with intervals around a zero line, deviations from the linear trend; the largest is "
        + (", ".join(f"{v:,.1f} by {k}" for k, v in size.items()) + ".")
    )
    return Result(table, sentence, (), {}, draw, alt, panels=3, digits=2, details={"se": se})
