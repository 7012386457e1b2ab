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

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.frames import need, without_each
from crmresearch.estimators.inference import jackknife, sized

MIN_CUSTOMERS = 50  # customers an age, year or vintage needs to be shown
FACTORS = ("age", "period", "vintage")
COUNTS = ["customers", "n", "at_risk", "exits"]


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Refuse cells without their columns or numbers, and ages that do not fit year and vintage."""
    need(frame, "vintages", "fold", *FACTORS, *COUNTS, "contribution")
    if bad := int((frame["age"] < 0).sum()):
        raise InputError(f"vintages: {bad} rows have a negative age; check acquired_on")
    clock = {c: frame[c].str[:4].astype(int) for c in ("vintage", "period")}
    if not (frame["age"] == clock["period"] - clock["vintage"]).all():
        raise InputError("vintages: age must be the years between vintage and period, cut alike")
    return frame


def _sums(frame: pd.DataFrame, by: list[str], columns: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Sum by cells: the totals, and an array ``(groups + 1, cells, columns)`` of all and without each group."""
    total = frame.groupby(by)[columns].sum()
    each = [part.groupby(by)[columns].sum().reindex(total.index, fill_value=0) for _, part in frame.groupby("fold")]
    return total, without_each(np.stack([e.to_numpy(dtype=float) for e in each]))


def _people(total: pd.DataFrame) -> pd.Series:
    """Customers of a vintage: each either left in one of the years or was there in the last month."""
    return (total["exits"] + total["n"] - total["at_risk"]).astype(int)


def _expected_exits(frame: pd.DataFrame) -> np.ndarray:
    """Exits of each vintage if every age left at the rate of all vintages together, ``(groups + 1, vintages)``."""
    total, sums = _sums(frame, ["vintage", "age"], ["at_risk", "exits"])
    vintage, age = (np.unique(total.index.get_level_values(k), return_inverse=True)[1] for k in (0, 1))
    out = []
    for at_risk, exits in np.moveaxis(sums, 2, 1):
        rate = np.bincount(age, exits) / np.maximum(np.bincount(age, at_risk), 1)
        out.append(np.bincount(vintage, at_risk * rate[age]))
    return np.stack(out)


def vintage_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Contribution and retention by vintage.

    Parameters
    ----------
    frame : DataFrame
        Cells as :func:`checked` returns them.

    Returns
    -------
    DataFrame
        ``vintage``, ``first``, ``last`` (ages seen), ``money`` (contribution per customer-month, ``ci_low``,
        ``ci_high``), ``stay`` (chance to stay a year, ``stay_low``, ``stay_high``, missing without an exit), ``ratio``
        (exits over those expected if every age left at the rate of all vintages together, ``ratio_low``,
        ``ratio_high``; missing where no other vintage is seen at these ages), ``exits``, ``n``; vintages with enough
        customers only.
    """
    total, sums = _sums(frame, ["vintage"], ["n", "at_risk", "exits", "contribution"])
    people = _people(total)
    keep = (people >= MIN_CUSTOMERS).to_numpy() & (total["at_risk"] > 0).to_numpy()
    n, at_risk, exits, money = np.moveaxis(sums[:, keep], 2, 0)
    mean, stay = jackknife(money / n), jackknife((1 - exits / at_risk) ** 12)
    expected = _expected_exits(frame)[:, keep]
    ratio = jackknife(np.divide(exits, expected, out=np.full_like(exits, np.nan), where=expected > 0))
    ages = frame.groupby("vintage")["age"].agg(["min", "max"])[keep]
    seen = {"vintage": total.index[keep], "first": ages["min"].to_numpy(), "last": ages["max"].to_numpy()}
    rates = {**mean.columns("money", "ci"), **stay.columns("stay"), **ratio.columns("ratio")}
    table = pd.DataFrame({**seen, **rates, "exits": exits[0].astype(int), "n": people[keep].to_numpy()})
    seen_at = frame[frame["at_risk"] > 0]
    shared = seen_at["vintage"][seen_at.groupby("age")["vintage"].transform("nunique") > 1]
    alone = ~table["vintage"].isin(shared)  # nobody else is seen at these ages: what is expected is what was found
    table.loc[alone, ["ratio", "ratio_low", "ratio_high"]] = np.nan
    table.loc[table["exits"] == 0, ["stay_low", "stay_high"]] = np.nan  # no part of the bank tells them apart
    stay_low, stay_high, ratio_low = table["stay_low"].clip(0, 1), table["stay_high"].clip(0, 1), table["ratio_low"]
    return table.assign(stay_low=stay_low, stay_high=stay_high, ratio_low=ratio_low.clip(lower=0))


def enough_levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells whose age, year and vintage all have enough customers; dropping one may starve another."""
    while len(frame):
        thin = np.zeros(len(frame), dtype=bool)
        for factor in FACTORS:
            total = frame.groupby(factor)[COUNTS].sum()
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
    sized(n.sum(), x.shape[1])
    beta, _, rank, _ = np.linalg.lstsq(x * root[:, None], money / np.maximum(n, 1e-300) * root, rcond=None)
    if rank < x.shape[1]:
        raise InputError("the cells do not hold enough different ages, years and vintages to separate their curvatures")
    out, at = [beta[1:3]], 3
    for basis in bases.values():
        out.append(basis @ beta[at : at + basis.shape[1]])
        at += basis.shape[1]
    return np.concatenate(out)


def identified(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Fit contribution per customer-month by age, calendar year and vintage: what of it is identified.

    Parameters
    ----------
    frame : DataFrame
        Cells as :func:`enough_levels` returns them.

    Returns
    -------
    table : DataFrame
        ``factor``, ``level``, ``estimate``, ``ci_low``, ``ci_high``, ``n``: two sums of trends (factor ``trend``;
        level ``period`` is age + calendar, ``vintage`` is vintage - age), then the deviations of each factor.
    se : array
        Standard errors, by row.
    """
    years = {c: frame[c].str[:4].astype(int) for c in ("period", "vintage")}
    total, sums = _sums(frame.assign(**years), ["vintage", "period", "age"], [*COUNTS, "contribution"])
    cells = total.reset_index()
    weights = {f: cells.groupby(f)["n"].sum().to_numpy(dtype=float) for f in FACTORS}
    value, se, low, high = jackknife(np.stack([_fit(cells, s[:, 1], s[:, -1], weights) for s in sums]))
    names = {c: dict(zip(years[c], frame[c], strict=True)) for c in years}
    labels = [("trend", "period"), ("trend", "vintage")]
    people = [int(_people(total).sum())] * 2
    for factor in FACTORS:
        groups = cells.groupby(factor)[COUNTS].sum()
        people += list(groups["customers"].astype(int) if factor != "vintage" else _people(groups))
        labels += [(factor, str(names.get(factor, {}).get(k, k))) for k in groups.index]
    table = pd.DataFrame(labels, columns=["factor", "level"])
    return table.assign(estimate=value, ci_low=low, ci_high=high, n=people), se
