"""How lasting customer value is: core customers, moves between value bands, regression to the mean.

Whoever is best this year was partly lucky, so next year the same customers look worse although nothing changed. Every
figure here stands beside what pure noise would give.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import hidden, safe
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.inference import Estimate, mean_interval, normal, wilson
from crmresearch.estimators.worth.forecasts import rank_correlation
from crmresearch.estimators.worth.stability import band_names, jaccard, slope, year_bands, years_of
from crmresearch.figures import Picture
from crmresearch.result import Result, study
from crmresearch.rules import few, rounded, rules, whose

say = words.of("value.stability")


@study
def core_overlap(frame: pd.DataFrame, *, share: float = 0.2, seed: int, resamples: int = 499) -> Result:
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
    years = years_of(frame)
    rows = [
        {"from": a, "to": b, **jaccard(years[a], years[b], share=share, seed=seed, resamples=resamples)}
        for a, b in itertools.pairwise(years)
    ]
    table = pd.DataFrame(rows).rename(columns={"core_before": "n"})
    stayed = table["n"] - table["left"]  # the overlap does not rest on who left: their number alone is hidden
    table["left"] = table["left"].mask(table["left"].map(few) | stayed.map(few)).map(rounded)
    table = safe(table.set_index(["from", "to"]), (("n", "both"), ("core_after", "both"))).reset_index()
    last = table.iloc[-1]
    if pd.isna(last["n"]):
        raise NotApplicable(say("core.too_few", least=rules.least))
    kept = Estimate(*wilson(last["both"], last["n"]), say("core.kept_unit"), last["n"])
    union = int(last["n"] + last["core_after"] - last["both"])
    line = Estimate(last["jaccard"], last["ci_low"], last["ci_high"], say("core.unit"), union, se=float(last["se"]))
    drawn = table.dropna(subset="n")
    marks = [say("core.mark", row=row) for _, row in drawn.iterrows()]
    seen = drawn.rename(columns={"jaccard": "estimate"})[["estimate", "ci_low", "ci_high", "n"]]
    blind = drawn[["noise", "n"]].rename(columns={"noise": "estimate"}).assign(label=marks, group=say("core.blind"))
    data = pd.concat([seen.assign(label=marks, group=say("core.seen"), hollow=False), blind.assign(hollow=True)])
    options = {"upright": True, "limits": (0, 1)}
    title = say("core.title", last=last) if last["ci_low"] > last["noise"] else say("core.title_chance")
    picture = Picture("intervals", data, title, y=say("core.y", share=share), options=options)
    return Result(
        table[["from", "to", "jaccard", "ci_low", "ci_high", "noise", "n", "core_after", "both", "left"]],
        say("core.sentence", last=last, share=share, kept=kept, overlap=line),
        estimates={"S22": line},
        picture=picture,
    )


@study
def transitions(frame: pd.DataFrame) -> Result:
    """Where the customers of one value band are a year later, in the last two years.

    Parameters
    ----------
    frame : DataFrame
        As for :func:`core_overlap`.

    Returns
    -------
    Result
        Share of each band by band of the following year (``left``: no customer any more), with ``n`` per row and the
        half-width of the widest 95% interval in the row. Cells of few people are blank.
    """
    years = years_of(frame)
    before, after = years.columns[-2:]
    names, band = year_bands(frame)
    start, end = band[before].to_numpy(), band[after].to_numpy()
    gone, new = pd.isna(end), pd.isna(start)
    here = ~(gone & new)
    rows, columns = [*names, "new"], [*names, "left"]
    moves = pd.crosstab(np.where(new, "new", start)[here], np.where(gone, "left", end)[here])
    counts = moves.reindex(index=rows, columns=columns, fill_value=0).to_numpy()
    total = counts.sum(axis=1)
    cells = pd.DataFrame({"n": counts.ravel()}, index=pd.MultiIndex.from_product([rows, columns]))
    hide = hidden(cells, ("n",)).ne("").to_numpy().reshape(counts.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, low, high = (np.where(hide, np.nan, found) for found in wilson(counts, total[:, None]))
    half = pd.DataFrame((high - low) / 2).max(axis=1).to_numpy()
    table = pd.DataFrame(share, columns=columns)
    label = say("moves.column", before=before)
    table.insert(0, label, rows)
    table[say("moves.half")], table["n"] = half, total
    table = safe(table.set_index(label)).reset_index()
    top, worst = len(names) - 1, 0
    if total[top] < rules.least:
        raise NotApplicable(say("moves.too_few", least=rules.least))
    stay = Estimate(share[top, top], low[top, top], high[top, top], say("moves.unit"), total[top])
    sentence = say("moves.sentence", n=total[top], before=before, stay=stay)
    if names[worst] == band_names()[0] and total[worst] >= rules.least:
        again = Estimate(share[worst, worst], low[worst, worst], high[worst, worst], say("moves.unit"), total[worst])
        sentence += say("moves.losses", n=total[worst], again=again)
    marks = [say("moves.mark", row=row, n=n) for row, n in zip(rows, total, strict=True)]
    data = table[[*columns, "n"]].assign(row=marks).melt(["row", "n"], var_name="column")
    title = say("moves.title", stay=stay) if np.isfinite(stay.value) else say("moves.title_open")
    x, y = say("moves.x", after=after, half=np.nanmax(half)), say("moves.y", before=before)
    picture = Picture("matrix", data, title, x, y, {"unit": "percent", "vmin": 0, "vmax": 1}, (7.6, 4.6))
    return Result(table, sentence, picture=picture)


@study
def regression_to_mean(frame: pd.DataFrame) -> Result:
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
    years = years_of(frame).iloc[:, -3:]
    names, every = year_bands(frame)
    band = every.loc[years.notna().all(axis=1), years.columns[0]].to_numpy()
    both = years.dropna().to_numpy(dtype=float)
    if len(both) < 3 * rules.least:
        raise InputError(say("regression.too_few", n=len(both), years=words.joined(years.columns.tolist(), ", ")))
    x, y = both[:, 0], both[:, 1]
    lasting = normal(*slope(x, y), say("regression.unit"), len(both))
    columns = [say("regression.column", year=year) for year in years]
    label, by_slope = say("regression.label"), say("regression.by_slope")
    rows, points = [], []
    for name in names:
        inside = band == name
        n = int(inside.sum())
        if n < 2:
            continue
        means = both[inside].mean(axis=0)
        _, low, high = mean_interval(both[inside, -1])
        expected = y.mean() + lasting.value * (means[0] - x.mean())
        rows.append((name, *means, low, high, expected, n, whose(*both[inside].T)))
    table = pd.DataFrame(rows, columns=[label, *columns, "ci_low", "ci_high", by_slope, "n", "whose"])
    table = safe(table)
    known = table.dropna(subset="n") if table["n"].notna().any() else table  # with no row left the study passes on why
    for _, row in known.iterrows():
        x_axis = [say("regression.mark", year=year) for year in years]
        course = pd.DataFrame({"x": x_axis, "y": row[columns].to_numpy(float), "n": row["n"]})
        course.loc[len(columns) - 1, ["low", "high"]] = row["ci_low"], row["ci_high"]
        points.append(course.assign(group=say("regression.group", band=row[label], n=row["n"])))
    options = {"unit": "money", "dots": True, "bars": True, "ordered": True, "legend": say("regression.legend")}
    title = say("regression.title", worst=[*known.iloc[0]], best=[*known.iloc[-1]])
    return Result(
        table,
        say("regression.sentence", lasting=lasting, year=years.columns[0], n=len(both), rank=rank_correlation(x, y)),
        picture=Picture("curves", pd.concat(points), title, "", say("regression.y"), options),
        money=[*columns, by_slope],
        details={"persistence": lasting},
    )
