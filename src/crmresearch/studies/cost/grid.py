"""The study of the ratio: all nine at once, discounted and not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

FORMULAS = {
    "all": "sum of spend over prospects / number of wins",
    "won": "sum of spend over won prospects / number of wins",
    "marginal": "1 / mean over prospects of the derivative of the win probability by spend",
    "year": "sum of retention spend / sum of customer-years at risk",
    "tenure": "sum over tenure months of share still there x retention spend per customer-month",
    "saved": "difference in campaign spend / difference in customer-years, offer less control",
}
POPULATIONS = {
    "all": "prospects first contacted in the period",
    "won": "prospects first contacted in the period and won",
    "marginal": "prospects first contacted in the period, by channel",
    "year": "customers at risk in the period, old and new",
    "tenure": "customers at risk in the period, from each one's tenure at the start",
    "saved": "customers randomised to a retention offer or to none",
}
SHORT = {
    "all": "all spend per win",
    "won": "spend on the won per win",
    "marginal": "marginal cost of a win",
    "year": "customer-year",
    "tenure": "whole tenure",
    "saved": "customer-year saved",
}
PAID, DISCOUNTED = "as paid", "discounted"  # costs
Pair = tuple[r.Functional, r.Functional]  # numerator and denominator of a ratio
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


def definitions(period: str, horizon_months: int) -> Result:
    """Write out the nine ratios before any is computed: formula, population, period.

    Parameters
    ----------
    period : str
        The observation period in words.
    horizon_months : int
        Tenure at which the tenure denominator ends, months.
    """
    rows = []
    for (n, d), line in r.LINES.items():
        until = f"; tenure up to {horizon_months} months" if d == "tenure" else ""
        rows.append(
            {
                "line": line,
                "numerator": f"{r.NUMERATORS[n]}: {FORMULAS[n]}",
                "denominator": f"{r.DENOMINATORS[d]}: {FORMULAS[d]}",
                "population": f"{POPULATIONS[n]}; {POPULATIONS[d]}",
                "period": period + until,
            }
        )
    sentence = (
        f"'Several times' is claimed when the lower bound of a ratio is above {r.SEVERAL:g}. The primary ratio is S40; "
        "only the marginal cost over the cost of a year saved (S40i) can guide a budget."
    )
    return Result(pd.DataFrame(rows), sentence, counts=())


def numerator(acquisition: pd.DataFrame, name: str, blocks: int) -> r.Functional:
    """Spend per win: of all prospects, or on the won alone."""
    column = "spend" if name == "all" else "spend_won"
    return r.mean_ratio(r.by_block(acquisition, column, blocks), r.by_block(acquisition, "won", blocks))


@study
def ratios(
    acquisition: pd.DataFrame,
    upkeep: pd.DataFrame,
    marginal: Result | None = None,
    saved: Result | None = None,
    *,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    resamples: int = 1000,
    seed: int = 0,
) -> Result:
    """Estimate nine ratios of the cost of winning over the cost of keeping a customer.

    Parameters
    ----------
    acquisition : DataFrame
        One row per block of prospects (and channel, segment): ``block`` (from 0), ``n`` prospects, ``spend``,
        ``spend_won`` (money), ``won`` (count).
    upkeep : DataFrame
        One row per block of customers: ``block``, ``years`` at risk, ``retention_cost`` (money), ``customers``,
        ``exits``; with ``tenure_month`` and ``months`` when costs are dated.
    marginal : Result, optional
        From :func:`crmresearch.studies.cost.response`; without it three lines do not apply.
    saved : Result, optional
        From :func:`crmresearch.studies.cost.saved`; without it three lines do not apply.
    horizon_months : int
        End of the tenure denominator, months.
    discount_annual : float
        Annual rate of the discounted version: costs of keeping are discounted to the day of winning.
    resamples, seed : int
        Bootstrap resamples of blocks, and the seed of resamples and of the simultaneous critical value.

    Returns
    -------
    Result
        One row per ratio, with costs as paid and (where they have dates) discounted. Estimates ``S40`` (all spend per
        win over the pooled customer-year) to ``S40i``, as paid.

    Raises
    ------
    InputError
        If columns are missing, a cost is negative, or currencies are mixed.

    Notes
    -----
    Intervals are Fieller's. Those called simultaneous hold together for the eight lines beside S40. Percentile
    intervals are not offered where the denominator is within three standard errors of zero.
    """
    r.checked(acquisition, ("block", "n", "spend", "spend_won", "won"), ("spend", "spend_won", "won"), "acquisition")
    r.checked(upkeep, ("block", "years", "retention_cost"), ("years", "retention_cost"), "upkeep")
    blocks = max(
        r.unit_of(acquisition),
        r.unit_of(upkeep),
        *(x.details["blocks"] for x in (marginal, saved) if x is not None and x.applicable),
    )
    wins = int(acquisition["won"].sum())
    if wins < r.MIN_WINS:
        return Result.not_applicable(
            Missing(f"only {wins} prospects were won; a cost per win needs {r.MIN_WINS}", ("prospects",))
        )
    if not upkeep["retention_cost"].sum() > 0:
        return Result.not_applicable(
            Missing("no retention spend is recorded, so nothing can be divided by it", ("contacts",))
        )
    slope = marginal.details["slope"] if applies(marginal) else _why(marginal, "marginal")
    per_win = {n: numerator(acquisition, n, blocks) for n in ("all", "won")}
    grid, months = pairs_of(per_win, upkeep, slope, saved, blocks, horizon_months, discount_annual)
    lines = {line: pair for line, pair in grid.items() if isinstance(pair, Missing)}
    pairs = {line: pair for line, pair in grid.items() if not isinstance(pair, Missing)}
    others = [both for line, both in pairs.items() if line != "S40"]
    critical = {c: r.simultaneous([both[c] for both in others if c in both], seed) for c in (PAID, DISCOUNTED)}
    seen = () if months is None else (_seen(months, horizon_months),)
    weights = r.resampled(blocks, resamples, seed)
    people = int(acquisition["n"].sum())
    rows, estimates = [], {}
    for (n, d), line in r.LINES.items():
        row: dict[str, Any] = {"line": line, "winning": SHORT[n], "keeping": SHORT[d], "n": people}
        if line in lines:
            rows.append(row | {"set": f"not applicable: {lines[line].reason}"})
            continue
        estimate = r.ratio_estimate(*pairs[line][PAID], people)
        estimates[line] = replace(estimate, checks=(*estimate.checks, *seen)) if d == "tenure" else estimate
        for costs, pair in pairs[line].items():
            together = r.ratio_set(*pair, critical[costs])
            ends = (together.low, together.high) if together.kind == "bounded" else (-np.inf, np.inf)
            rows.append(
                row
                | {"costs": costs}
                | measured(pair, weights)
                | {"simultaneous_low": ends[0], "simultaneous_high": ends[1]}
                | tenure(d, costs, months)
            )
    table = pd.DataFrame(rows)
    paid = table[table["costs"] != DISCOUNTED]
    details = {
        "cost_per_win": per_win["all"],
        "critical": critical[PAID],
        "blocks": blocks,
        "pairs": {line: both[PAID] for line, both in pairs.items()},
    }
    return Result(
        table,
        _sentence(paid, estimates),
        checks=(Check.of("wins", wins >= 30, f"{wins} wins; 30 make the normal limits usable", "undecided"),),
        estimates=estimates | {k: v for k, v in lines.items() if isinstance(v, Missing)},
        draw=lambda ax: draw_ratios(ax, paid),
        alt=_alt(paid),
        figsize=(9.5, 4.6),
        details=details,
    )


def _seen(months: int, horizon_months: int) -> Check:
    words = (
        f"the tenure curve ends after {months} of {horizon_months} months, where fewer than {r.MIN_AT_RISK} are left"
    )
    if months >= horizon_months:
        words = f"the tenure curve is seen for all of {horizon_months} months"
    return Check.of("tenure seen to the horizon", months >= horizon_months, words, "undecided")


def tenure(denominator: str, costs: str, months: int | None) -> dict[str, int]:
    """Months of tenure a row rests on, where it rests on a tenure curve."""
    rests = denominator == "tenure" or (denominator == "year" and costs == DISCOUNTED)
    return {"tenure_months": months} if rests and months is not None else {}


def pairs_of(
    per_win: dict[str, r.Functional],
    upkeep: pd.DataFrame,
    slope: r.Functional | Missing,
    saved: Any,
    blocks: int,
    horizon_months: int,
    rate: float,
) -> tuple[dict[str, dict[str, Pair] | Missing], int | None]:
    """Each line with costs as paid and (where they have dates) discounted, or why it does not apply; months of tenure.

    ``per_win`` has the cost per win of ``all`` spend and of that on the ``won``. The months are those the tenure curve
    is seen for, None without dates.
    """
    one = r.constant(1.0, blocks)
    top: dict[str, Any] = {n: (f, one) for n, f in per_win.items()}
    top["marginal"] = slope if isinstance(slope, Missing) else (one, _padded(slope, blocks))
    plain, months = _denominators(upkeep, saved, blocks, horizon_months, 0.0)
    discounted, _ = _denominators(upkeep, saved, blocks, horizon_months, rate)
    out: dict[str, dict[str, Pair] | Missing] = {}
    for (n, d), line in r.LINES.items():
        missing = next((x for x in (top[n], plain[d]) if isinstance(x, Missing)), None)
        if missing is not None:
            out[line] = missing
        else:
            pairs = {PAID: _pair(top[n], plain[d])}
            if months is not None and not isinstance(discounted[d], Missing):
                pairs[DISCOUNTED] = _pair(top[n], discounted[d])
            out[line] = pairs
    return out, months


def measured(pair: Pair, weights: r.Array) -> dict[str, Any]:
    """Ratio with Fieller's set and percentiles of resamples; infinite ends where the set is not an interval."""
    num, den = pair
    found = r.ratio_set(num, den)
    bounded = found.kind == "bounded"
    low, high = _percentiles(num, den, weights)
    return {
        "ratio": num.value / den.value if den.value else np.nan,
        "ci_low": found.low if bounded else -np.inf,
        "ci_high": found.high if bounded else np.inf,
        "set": "bounded" if bounded else found.text(),
        "bootstrap_low": low,
        "bootstrap_high": high,
    }


def applies(x: Any) -> TypeGuard[Result]:
    """Whether a study was given and could be made."""
    return isinstance(x, Result) and x.applicable


def _why(x: Any, name: str) -> Missing:
    if isinstance(x, Result) and x.missing is not None:
        return x.missing
    return x if isinstance(x, Missing) else Missing(f"no {name} cost was estimated")


def _padded(f: r.Functional, blocks: int) -> r.Functional:
    return r.Functional(f.value, np.pad(f.influence, (0, blocks - len(f.influence))))


def _denominators(
    upkeep: pd.DataFrame, saved: Any, blocks: int, horizon: int, rate: float
) -> tuple[dict[str, Any], int | None]:
    """Each denominator as (numerator part, denominator part): its value is the second over the first; months seen."""
    one = r.constant(1.0, blocks)
    out: dict[str, Any] = {}
    dated = "tenure_month" in upkeep.columns
    life = r.lifetime_cost(upkeep, "retention_cost", blocks, horizon, rate) if dated else None
    pooled = r.mean_ratio(r.by_block(upkeep, "retention_cost", blocks), r.by_block(upkeep, "years", blocks))
    if life is not None and not life.months:
        out["tenure"] = Missing("too few customers at risk at the start of tenure for a tenure curve")
    elif life is not None:
        out["tenure"] = (one, life.cost)
    elif (upkeep["exits"] == upkeep["customers"]).all():
        whole = r.mean_ratio(r.by_block(upkeep, "retention_cost", blocks), r.by_block(upkeep, "customers", blocks))
        out["tenure"] = (one, whole)
    else:
        out["tenure"] = Missing("tenures are censored and the retention spend has no dates")
    if rate and life is not None:
        # the discounted year is the level payment per year with the same present value over the tenure
        out["year"] = (life.years, life.cost) if life.months else out["tenure"]
    else:
        out["year"] = (one, pooled)
    if not applies(saved):
        out["saved"] = _why(saved, "saving")
    elif not saved.details["spend"].value > 0:
        out["saved"] = Missing(
            "the randomised campaign cost nothing, so its customer-years are not bought", ("contacts",)
        )
    else:
        years, spend = _padded(saved.details["years"], blocks), _padded(saved.details["spend"], blocks)
        middle = (1 + rate) ** (-saved.details["horizon_months"] / 24)
        out["saved"] = (r.product(years, r.constant(middle, blocks)), spend)
    return out, None if life is None else life.months


def _pair(top: Pair, bottom: Pair) -> Pair:
    """Write (a / b) / (d / c) as a c / (b d): no part that may be zero stands in a denominator of its own."""
    return r.product(top[0], bottom[0]), r.product(top[1], bottom[1])


def _percentiles(num: r.Functional, den: r.Functional, weights: r.Array) -> tuple[float, float]:
    """Percentile interval of the ratio over resampled blocks; nan when the denominator is weak."""
    if abs(den.z) < r.WEAK:
        return np.nan, np.nan
    low, high = np.quantile(num.redrawn(weights) / den.redrawn(weights), [0.025, 0.975])
    return float(low), float(high)


def _sentence(table: pd.DataFrame, estimates: dict[str, Estimate]) -> str:
    if "S40" not in estimates:
        return "The primary ratio could not be estimated."
    first = estimates["S40"]
    known = table.dropna(subset=["ratio"]) if "ratio" in table else table.iloc[:0]
    several = int((known["ci_low"] > r.SEVERAL).sum())
    open_sets = int((~np.isfinite(known["ci_high"])).sum())
    bounded = known[np.isfinite(known["ci_high"])]["ratio"]
    return (
        f"Winning a customer costs {first.text()} times a customer-year of keeping one (all spend per win over pooled "
        f"customer-year). Over the {len(known)} definitions that apply, ratios run from {bounded.min():,.2f} to "
        f"{bounded.max():,.2f}; {several} lie wholly above {r.SEVERAL:g}"
        + (f", and {open_sets} cannot be bounded" if open_sets else "")
        + "."
    )


def _alt(table: pd.DataFrame) -> str:
    known = table.dropna(subset=["ratio"]) if "ratio" in table else table.iloc[:0]
    parts = ", ".join(f"{row.line} {row.ratio:.2f}" for row in known.itertuples())
    return (
        f"Dots with 95% intervals for {len(known)} ratios of the cost of winning over the cost of keeping a "
        "customer, on "
        f"a logarithmic axis with a line at {r.SEVERAL:g}: {parts}."
    )


def draw_ratios(ax: Any, table: pd.DataFrame) -> Any:
    """Draw the dot-and-interval grid, with the essays' claim as a line."""
    from crmresearch import figures

    known = table.dropna(subset=["ratio"]).iloc[::-1].reset_index(drop=True)
    finite = known.loc[np.isfinite(known["ci_high"]), ["ci_low", "ci_high", "ratio"]].to_numpy(float)
    positive = finite[finite > 0]
    floor, ceiling = (positive.min() / 2, positive.max() * 2) if positive.size else (0.1, 10.0)
    floor, ceiling = min(floor, r.SEVERAL / 2), max(ceiling, r.SEVERAL * 2)
    colours = dict(zip((SHORT[n] for n in r.NUMERATORS), figures.PALETTE, strict=False))
    for y, row in known.iterrows():
        colour = colours[row["winning"]]
        low, high = max(row["ci_low"], floor), min(row["ci_high"], ceiling)
        bounded = np.isfinite(row["ci_high"])
        if high > floor:
            ax.plot([low, high], [y, y], color=colour, lw=2, ls="-" if bounded else ":")
        if floor < row["ratio"] < ceiling:
            ax.plot(row["ratio"], y, "o" if row["line"] != "S40" else "D", color=colour, ms=7)
        if bounded:
            at, label, side = min(max(row["ratio"], floor), ceiling), f"{row['ratio']:,.2f}", "center"
        else:
            at, label, side = floor, f" {row['set']}", "left"
        over = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        ax.annotate(label, (at, y), xytext=(0, 6), textcoords="offset points", fontsize=8, ha=side, bbox=over)
    ax.axvline(r.SEVERAL, color=figures.INK, ls="--", lw=1, zorder=1.5)  # over the grid, behind the numbers
    ax.annotate(
        f"essays: 'several times', from {r.SEVERAL:g} on",
        (r.SEVERAL, len(known) - 0.5),
        xytext=(-4, 0),
        textcoords="offset points",
        fontsize=8,
        ha="right",
    )
    ax.set(xscale="log", xlim=(floor, ceiling), ylim=(-0.6, len(known) + 0.1))
    ticks = [t for t in TICKS if floor <= t <= ceiling]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    names = [f"{w.line}  {w.winning} / {w.keeping}" for w in known.itertuples()]
    ax.set_yticks(range(len(known)), names)
    ax.set_xlabel(f"ratio, 95% interval; n = {int(table['n'].max()):,} prospects (logarithmic scale)")
    ax.set_title("One question, nine ratios")
    return ax
