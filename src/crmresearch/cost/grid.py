"""The study of the ratio: all nine at once, by channel and segment, discounted and not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.cost import ratio as r
from crmresearch.errors import InputError, Missing
from crmresearch.result import Check, Estimate, Result, study

__all__ = ["definitions", "ratios", "ratios_by"]

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


def _numerator(acquisition: pd.DataFrame, name: str, blocks: int) -> r.Functional:
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
        From :func:`crmresearch.cost.response`; without it three lines do not apply.
    saved : Result, optional
        From :func:`crmresearch.cost.saved`; without it three lines do not apply.
    horizon_months : int
        End of the tenure denominator, months.
    discount_annual : float
        Annual rate of the discounted version: costs of keeping are discounted to the day of winning.
    resamples, seed : int
        Bootstrap resamples of blocks, and the seed of resamples and of the simultaneous critical value.

    Returns
    -------
    Result
        One row per ratio. Estimates ``S40`` (all spend per win over the pooled customer-year) to ``S40i``.

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
    one = r.constant(1.0, blocks)
    per_win = {n: _numerator(acquisition, n, blocks) for n in ("all", "won")}
    top: dict[str, tuple[r.Functional, r.Functional] | Missing] = {n: (f, one) for n, f in per_win.items()}
    top["marginal"] = (
        (one, _padded(marginal.details["slope"], blocks))
        if marginal is not None and marginal.applicable
        else _why(marginal, "marginal")
    )
    bottom = _denominators(upkeep, saved, blocks, horizon_months, 0.0)
    discounted = _denominators(upkeep, saved, blocks, horizon_months, discount_annual)
    dated = "tenure_month" in upkeep.columns  # without dates nothing can be discounted
    pairs = {}
    lines: dict[str, Any] = {}
    for (n, d), line in r.LINES.items():
        missing = next((x for x in (top[n], bottom[d]) if isinstance(x, Missing)), None)
        if missing is not None:
            lines[line] = missing
        else:
            pairs[line] = (_pair(top[n], bottom[d]), _pair(top[n], discounted[d]))
    critical = r.simultaneous([p for line, (p, _) in pairs.items() if line != "S40"], seed)
    weights = r.resampled(blocks, resamples, seed)
    people = int(acquisition["n"].sum())
    rows, estimates = [], {}
    for (n, d), line in r.LINES.items():
        row: dict[str, Any] = {"line": line, "winning": r.NUMERATORS[n], "keeping": r.DENOMINATORS[d], "n": people}
        if line in lines:
            rows.append(row | {"set": f"not applicable: {lines[line].reason}"})
            continue
        (num, den), (num_v, den_v) = pairs[line]
        estimate = r.ratio_estimate(num, den, people)
        estimates[line] = estimate
        together = r.ratio_set(num, den, critical)
        low, high = _percentiles(num, den, weights)
        rows.append(
            row
            | {
                "ratio": estimate.value,
                "ci_low": estimate.ci_low,
                "ci_high": estimate.ci_high,
                "set": "bounded" if not estimate.checks else r.ratio_set(num, den).text(),
                "simultaneous_low": together.low if together.kind == "bounded" else -np.inf,
                "simultaneous_high": together.high if together.kind == "bounded" else np.inf,
                "bootstrap_low": low,
                "bootstrap_high": high,
            }
        )
        if dated:
            rows[-1] |= _discounted(num_v, den_v)
    table = pd.DataFrame(rows)
    seen = bottom["tenure"]
    details = {
        "cost_per_win": per_win["all"],
        "critical": critical,
        "blocks": blocks,
        "pairs": {k: v[0] for k, v in pairs.items()},
    }
    return Result(
        table,
        _sentence(table, estimates),
        checks=(Check.of("wins", wins >= 30, f"{wins} wins; 30 make the normal limits usable", "undecided"),),
        estimates=estimates | {k: v for k, v in lines.items() if isinstance(v, Missing)},
        draw=lambda ax: draw_ratios(ax, table),
        alt=_alt(table),
        figsize=(9.5, 4.6),
        details=details | {"months": seen[2] if not isinstance(seen, Missing) else 0},
    )


def _discounted(num: r.Functional, den: r.Functional) -> dict[str, float]:
    """Ratio at present values with Fieller's interval; infinite ends where the set is not an interval."""
    found = r.ratio_set(num, den)
    low, high = (found.low, found.high) if found.kind == "bounded" else (-np.inf, np.inf)
    value = num.value / den.value if den.value else np.nan
    return {"discounted": value, "discounted_low": low, "discounted_high": high}


def _has(x: Any) -> bool:
    return isinstance(x, Result) and x.applicable


def _why(x: Any, name: str) -> Missing:
    if isinstance(x, Result) and x.missing is not None:
        return x.missing
    return x if isinstance(x, Missing) else Missing(f"no {name} cost was estimated")


def _padded(f: r.Functional, blocks: int) -> r.Functional:
    return r.Functional(f.value, np.pad(f.influence, (0, blocks - len(f.influence))))


def _denominators(upkeep: pd.DataFrame, saved: Any, blocks: int, horizon: int, rate: float) -> dict[str, Any]:
    """Each denominator as (numerator part, denominator part, months seen): its value is the second over the first."""
    one = r.constant(1.0, blocks)
    out: dict[str, Any] = {}
    dated = "tenure_month" in upkeep.columns
    life = r.lifetime_cost(upkeep, "retention_cost", blocks, horizon, rate) if dated else None
    pooled = r.mean_ratio(r.by_block(upkeep, "retention_cost", blocks), r.by_block(upkeep, "years", blocks))
    if life is not None and not life.months:
        out["tenure"] = Missing("too few customers at risk at the start of tenure for a tenure curve")
    elif life is not None:
        out["tenure"] = (one, life.cost, life.months)
    elif (upkeep["exits"] == upkeep["customers"]).all():
        whole = r.mean_ratio(r.by_block(upkeep, "retention_cost", blocks), r.by_block(upkeep, "customers", blocks))
        out["tenure"] = (one, whole, 0)
    else:
        out["tenure"] = Missing("tenures are censored and the retention spend has no dates")
    if rate and life is not None and life.months:
        # the discounted year is the level payment per year with the same present value over the tenure
        out["year"] = (life.years, life.cost, life.months)
    else:
        out["year"] = (one, pooled, 0)
    if not _has(saved):
        out["saved"] = _why(saved, "saving")
    elif not saved.details["spend"].value > 0:
        out["saved"] = Missing(
            "the randomised campaign cost nothing, so its customer-years are not bought", ("contacts",)
        )
    else:
        years, spend = _padded(saved.details["years"], blocks), _padded(saved.details["spend"], blocks)
        middle = (1 + rate) ** (-saved.details["horizon_months"] / 24)
        out["saved"] = (r.product(years, r.constant(middle, blocks)), spend, 0)
    return out


def _pair(top: Any, bottom: Any) -> tuple[r.Functional, r.Functional]:
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

    short = {v: k for k, v in (r.NUMERATORS | r.DENOMINATORS).items()}
    words = {
        "all": "all spend per win",
        "won": "spend on the won per win",
        "marginal": "marginal cost of a win",
        "year": "customer-year",
        "tenure": "whole tenure",
        "saved": "customer-year saved",
    }
    known = table.dropna(subset=["ratio"]).iloc[::-1].reset_index(drop=True)
    finite = known.loc[np.isfinite(known["ci_high"]), ["ci_low", "ci_high", "ratio"]].to_numpy(float)
    positive = finite[finite > 0]
    floor, ceiling = (positive.min() / 2, positive.max() * 2) if positive.size else (0.1, 10.0)
    floor, ceiling = min(floor, r.SEVERAL / 2), max(ceiling, r.SEVERAL * 2)
    colours = dict(zip(("all", "won", "marginal"), figures.PALETTE, strict=False))
    for y, row in known.iterrows():
        colour = colours[short[row["winning"]]]
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
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if floor <= t <= ceiling]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    names = [f"{w['line']}  {words[short[w['winning']]]} / {words[short[w['keeping']]]}" for _, w in known.iterrows()]
    ax.set_yticks(range(len(known)), names)
    ax.set_xlabel(f"ratio, 95% interval; n = {int(table['n'].max()):,} prospects (logarithmic scale)")
    ax.set_title("One question, nine ratios")
    return ax


@study
def ratios_by(
    acquisition: pd.DataFrame, upkeep: pd.DataFrame, by: str = "channel", *, discount_annual: float = 0.08
) -> Result:
    """Estimate the primary ratio within groups.

    For channels, both sides are the channel's own. For segments, failed prospects have no segment: their spend is
    shared out in proportion to each segment's wins in each channel.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``channel``, ``segment`` (of the won; empty for the others), ``n``, ``spend``, ``spend_won``,
        ``won``.
    upkeep : DataFrame
        ``block``, ``channel``, ``segment``, ``years``, ``years_discounted``, ``retention_cost``,
        ``retention_cost_discounted`` (to the day of winning), ``customers``.
    by : {'channel', 'segment'}
        Grouping.
    discount_annual : float
        Rate at which the discounted columns were made, for the note.

    Raises
    ------
    InputError
        If ``by`` is neither, columns are missing, or costs are negative.
    """
    if by not in ("channel", "segment"):
        raise InputError(f"by = {by!r}: group by channel or segment")
    r.checked(
        acquisition, ("block", "channel", "n", "spend", "spend_won", "won"), ("spend", "spend_won"), "acquisition"
    )
    r.checked(upkeep, ("block", by, "years", "retention_cost"), ("years", "retention_cost"), "upkeep")
    blocks = max(r.unit_of(acquisition), r.unit_of(upkeep))
    if by == "segment":
        acquisition = _shared_out(acquisition)
    rows = []
    for name in sorted(set(acquisition[by].dropna()) | set(upkeep[by].dropna())):
        a, u = acquisition[acquisition[by] == name], upkeep[upkeep[by] == name]
        wins = float(a["won"].sum())
        row: dict[str, Any] = {
            by: name,
            "prospects": float(a["n"].sum()),
            "wins": wins,
            "customers": u["customers"].sum(),
        }
        cost = r.mean_ratio(r.by_block(a, "spend", blocks), r.by_block(a, "won", blocks))
        year = r.mean_ratio(r.by_block(u, "retention_cost", blocks), r.by_block(u, "years", blocks))
        if wins == 0 and len(a):
            row["note"] = "no wins: cost per win is not defined; " + _at_least(a)
        elif wins < r.MIN_WINS:
            row["note"] = "no prospects" if not len(a) else f"fewer than {r.MIN_WINS} wins: not estimated"
        elif not year.value > 0:
            row |= {"cost_per_win": cost.value, "note": "no retention spend: ratio not defined"}
        else:
            found = r.ratio_set(cost, year)
            low, high = (found.low, found.high) if found.kind == "bounded" else (-np.inf, np.inf)
            row |= {"cost_per_win": cost.value, "cost_per_year": year.value, "ratio": cost.value / year.value}
            row |= {"ci_low": low, "ci_high": high, "note": "" if found.kind == "bounded" else found.text()}
            if "retention_cost_discounted" in u:
                spent, lived = (r.by_block(u, f"{c}_discounted", blocks) for c in ("retention_cost", "years"))
                row |= _discounted(cost, r.mean_ratio(spent, lived))
        rows.append(row)
    table = pd.DataFrame(rows)
    known = table.dropna(subset=["ratio"]) if "ratio" in table else table.iloc[:0]
    if known.empty:
        sentence = f"No {by} has {r.MIN_WINS} wins and retention spend; nothing can be compared."
    else:
        top, bottom = known.loc[known["ratio"].idxmax()], known.loc[known["ratio"].idxmin()]
        sentence = (
            f"By {by}, the primary ratio runs from {bottom['ratio']:.2f} [{bottom['ci_low']:.2f}, "
            f"{bottom['ci_high']:.2f}] "
            f"({bottom[by]}) to {top['ratio']:.2f} [{top['ci_low']:.2f}, {top['ci_high']:.2f}] ({top[by]})."
        )
    return Result(
        table,
        sentence,
        draw=(lambda ax: draw_by(ax, known, by)) if len(known) else None,
        alt=f"Dots with 95% intervals of the primary ratio by {by}; {sentence}",
        counts=("prospects", "wins", "customers"),
    )


def _at_least(a: pd.DataFrame) -> str:
    """Return the spend per win that zero wins in n leave possible, at 95%."""
    n = float(a["n"].sum())
    bound = 1 - 0.05 ** (1 / n)
    return f"at least {a['spend'].sum() / n / bound:,.0f} per win at 95%"


def _shared_out(acquisition: pd.DataFrame) -> pd.DataFrame:
    """Share each channel's spend out to segments by wins, in every block alike."""
    won = acquisition[acquisition["won"] > 0]
    wins = won.groupby(["channel", "segment"], as_index=False, observed=True)["won"].sum()
    wins["share"] = wins["won"] / wins.groupby("channel", observed=True)["won"].transform("sum")
    spend = acquisition.groupby(["block", "channel"], as_index=False, observed=True)[["spend", "n"]].sum()
    spread = spend.merge(wins[["channel", "segment", "share"]], on="channel")
    spread["spend"] *= spread["share"]
    spread["n"] *= spread["share"]
    own = won.groupby(["block", "channel", "segment"], as_index=False, observed=True)[["won"]].sum()
    out = spread.merge(own, on=["block", "channel", "segment"], how="left")
    return out.assign(won=out["won"].fillna(0.0))


def draw_by(ax: Any, known: pd.DataFrame, by: str) -> Any:
    """Draw the primary ratio by group."""
    from crmresearch import figures

    shown = known.iloc[::-1].reset_index(drop=True)
    for y, row in shown.iterrows():
        ends = [row["ci_low"], row["ci_high"]]
        if np.isfinite(ends).all():
            ax.plot(ends, [y, y], color=figures.ACCENT, lw=2)
        ax.plot(row["ratio"], y, "o", color=figures.ACCENT, ms=7)
    ax.set_yticks(range(len(shown)), [f"{row[by]} (n = {row['wins']:,.0f} wins)" for _, row in shown.iterrows()])
    ax.axvline(r.SEVERAL, color=figures.INK, ls="--", lw=1)
    ax.set(ylim=(-0.6, len(shown) - 0.4))
    ax.set_xlabel("cost per win / cost per customer-year, 95% interval (dashed: 'several')")
    ax.set_title(f"The primary ratio by {by}")
    return ax
