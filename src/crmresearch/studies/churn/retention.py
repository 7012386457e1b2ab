"""Studies of who stays: curves with late entry, groups compared, causes of exit, duration dependence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import Missing
from crmresearch.estimators.survival.curves import (
    MIN_AT_RISK,
    censoring_weighted,
    first_tenure,
    kaplan_meier,
    life_table,
    logrank,
    pairwise_logrank,
    restricted_mean,
    restricted_mean_difference,
)
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.estimators.survival.risk import churn_study, read_spells
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import entry_independence

MOST_MOVED = 0.02  # of the share kept, by weighting for censoring
UNDATED = (
    "No public bank data set has leaving dates: tenure here is what the data call months on book, and whoever left "
    "before the snapshot's own window is missing from it, so the curve may stay too high."
)


def at_risk_below(ax: Any, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write numbers at risk under the time axis, one line per curve; counts below the threshold are not shown."""
    from crmresearch.disclosure import MIN_CELL

    ticks = [t for t in ax.get_xticks() if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
    left = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top", "fontsize": 8}
    below = {
        "xycoords": ("data", "axes fraction"),
        "textcoords": "offset points",
        "ha": "center",
        "va": "top",
        "fontsize": 8,
    }
    ax.annotate("at risk", (0, 0), (-20, -36), color=figures.GREY, annotation_clip=False, **left)
    for line, (name, table) in enumerate(tables.items()):
        time, count = table["time"].to_numpy(), table["at_risk"].to_numpy()
        y = -48 - 12 * line
        ax.annotate(name, (0, 0), (-20, y), annotation_clip=False, **left)
        for tick in ticks:
            # at risk just after the tick is the risk set of the next listed time
            place = np.searchsorted(time, tick, side="right")
            n = count[place] if place < len(count) else 0
            text = f"{n:,.0f}" if n >= MIN_CELL else "0" if n == 0 else f"<{MIN_CELL}"
            ax.annotate(text, (tick, 0), (0, y), annotation_clip=False, **below)


def _step(ax: Any, curve: pd.DataFrame, column: str, **style: Any) -> Any:
    return ax.step(curve["time"], curve[column], where="post", **style)


def _at(curve: pd.DataFrame, time: float) -> pd.Series:
    """The row of a curve in force at a time."""
    return curve.iloc[int(np.searchsorted(curve["time"].to_numpy(), time, side="right")) - 1]


def _of_those(start: float) -> str:
    """Words for the condition a curve rests on, where there is one."""
    return f" of those who reach {start:.0f} months" if start > 0 else ""


def _horizons(last: float, start: float, wanted: Sequence[int] = (12, 24, 60, 120, 180)) -> list[int]:
    inside = [h for h in wanted if start < h <= last]
    return inside or [int(last)]


def no_exits(spells: pd.DataFrame) -> Result | None:
    """Return the result that says so when nobody left, or nobody is under observation."""
    if spells.empty or not read_spells(spells).event.any():
        n = int(spells["n"].sum()) if "n" in spells.columns else len(spells)
        reason = f"none of the {n:,} customers under observation left, so nothing can be said about leaving"
        return Result.not_applicable(Missing(reason, ("customers",)))
    return None


@churn_study
def retention(spells: pd.DataFrame, *, dated: bool = True) -> Result:
    """Share of customers kept by tenure, with late entry respected and ignored.

    Parameters
    ----------
    spells : DataFrame
        From :func:`crmresearch.data.reductions.churn.histories`.
    dated : bool
        Whether the data have dates; where not, the sentence says so.

    Returns
    -------
    Result
        Table: ``tenure_months, kept, ci_low, ci_high, late_entry_ignored, at_risk``. The gate looks at the
        independence of late entry and at censoring that differs between groups known at entry. ``details["curve"]``
        holds
        the curve.
    """
    empty = no_exits(spells)
    if empty is not None:
        return empty
    curve = kaplan_meier(spells, at_least=MIN_AT_RISK)
    ignored = kaplan_meier(spells.assign(entry=0), at_least=1)
    start = float(curve["time"].iloc[0])
    last = float(curve["time"][curve["at_risk"] >= MIN_AT_RISK].max())
    curve = curve[curve["time"] <= last]
    rows = []
    for h in _horizons(last, start):
        here, naive = _at(curve, h), _at(ignored, h)
        conditional = naive["survival"] / _at(ignored, start)["survival"]
        rows.append(
            {
                "tenure_months": h,
                "kept": here["survival"],
                "ci_low": here["ci_low"],
                "ci_high": here["ci_high"],
                "late_entry_ignored": conditional,
                "at_risk": int(here["at_risk"]),
            }
        )
    table = pd.DataFrame(rows)
    end = table.iloc[-1]
    late = read_spells(spells).late
    if not late:
        table = table.drop(columns="late_entry_ignored")
    reached = f"who reach a tenure of {start:.0f} months" if start > 0 else "won"
    sentence = (
        f"Of customers {reached}, {end['kept']:.1%} [{end['ci_low']:.1%}, {end['ci_high']:.1%}] are still there at "
        f"{int(end['tenure_months'])} months of tenure"
    )
    sentence += f"; with late entry ignored the figure would be {end['late_entry_ignored']:.1%}." if late else "."
    if not dated:
        sentence += " " + UNDATED
    checks = (*((entry_independence(spells),) if late else ()), *_censoring(spells, curve, table, start))

    def draw(ax: Any) -> Any:
        figures.interval_band(ax, curve["time"], curve["ci_low"], curve["ci_high"])
        _step(ax, curve, "survival", color=figures.ACCENT, label="late entry respected, 95% interval")
        if late:
            shown = ignored[(ignored["time"] >= start) & (ignored["time"] <= last)]
            base = _at(ignored, start)["survival"]
            ax.step(
                shown["time"],
                shown["survival"] / base,
                where="post",
                color=figures.PALETTE[1],
                ls="--",
                label="late entry ignored",
            )
        ax.set(
            xlabel="Tenure (months since acquisition)",
            ylabel="Share still customers",
            title=f"Customers kept by tenure (n = {int(read_spells(spells).n.sum()):,})",
            ylim=(0, 1.02),
            xlim=(0, last),
        )
        figures.percent_axis(ax)
        ax.legend(loc="lower left")
        at_risk_below(ax, {"all": curve})
        return ax

    alt = (
        f"Kaplan-Meier curve from {start:.0f} to {last:.0f} months of tenure, falling to {end['kept']:.0%} at "
        f"{int(end['tenure_months'])} months, with its 95% band and numbers at risk"
        + (f"; a dashed curve that ignores late entry ends at {end['late_entry_ignored']:.0%}." if late else ".")
    )
    return Result(
        table, sentence, checks, draw=draw, alt=alt, counts=("at_risk",), figsize=(7.2, 4.8), details={"curve": curve}
    )


def _censoring(spells: pd.DataFrame, curve: pd.DataFrame, table: pd.DataFrame, start: float) -> tuple[Check, ...]:
    """Gate: weighting for the censoring of every group known at entry leaves the curve where it is."""
    groups = [c for c in ("acquisition_channel", "city_tier", "value_band") if c in spells.columns]
    if not groups:
        return ()
    joined = spells.assign(group=spells[groups].astype(str).agg(" ".join, axis=1))
    weighted = censoring_weighted(joined, "group")
    base = _at(weighted, start)["survival"]
    gap = max(abs(_at(weighted, h)["survival"] / base - _at(curve, h)["survival"]) for h in table["tenure_months"])
    named = ", ".join(g.replace("_", " ") for g in groups)
    detail = f"weighting for censoring by {named} moves the curve by at most {gap:.3f}"
    return (Check.of("censoring by group", gap <= MOST_MOVED, f"{detail} (limit {MOST_MOVED})", "undecided"),)


@churn_study
def compare(spells: pd.DataFrame, by: str, *, horizon: int = 120) -> Result:
    """Compare groups: log-rank tests with control over all pairs, and the difference in months kept.

    Parameters
    ----------
    spells : DataFrame
        With the group column.
    by : str
        Group column, known at entry.
    horizon : int
        Tenure to which the restricted mean is taken; shortened to what every group reaches.

    Returns
    -------
    Result
        Table: ``group, n, exits, months_kept, ci_low, ci_high, difference, diff_low, diff_high, p_holm`` against the
        first group. Curves are conditional on the tenure at which every group has enough customers at risk.
    """
    if by not in spells.columns:
        return Result.not_applicable(
            Missing(f"the data do not say which {by.replace('_', ' ')} a customer belongs to", ("customers",))
        )
    empty = no_exits(spells)
    if empty is not None:
        return empty
    weights = spells["n"] if "n" in spells.columns else pd.Series(1, index=spells.index)
    tables = {}
    for g in sorted(spells[by].unique(), key=str):
        table = life_table(spells[spells[by] == g])
        if (table["at_risk"] >= MIN_AT_RISK).any():
            tables[g] = table
    if len(tables) < 2:
        return Result.not_applicable(
            Missing(f"fewer than two groups of {by} have {MIN_AT_RISK} customers at risk", ("customers",))
        )
    start = max(first_tenure(t, MIN_AT_RISK) for t in tables.values())
    last = min(float(t["time"][t["at_risk"] >= MIN_AT_RISK].max()) for t in tables.values())
    reach = min(float(horizon), last)
    if reach <= start:
        return Result.not_applicable(
            Missing(f"groups of {by} are at risk at different tenures and share none", ("customers",))
        )
    kept = spells[spells[by].isin(list(tables)) & (spells["exit"] > start)]
    kept = kept.assign(entry=np.maximum(kept["entry"] if "entry" in kept.columns else 0, start))
    curves = {g: kaplan_meier(kept[kept[by] == g], at_least=1) for g in tables}
    for curve in curves.values():  # everybody is counted from the common start
        curve.loc[0, "time"] = start
    holm = pairwise_logrank(kept, by)
    overall = logrank(kept, by)
    reference = next(iter(curves))
    rows = []
    for g, curve in curves.items():
        mean = restricted_mean(curve, reach)
        difference = restricted_mean_difference(curve, curves[reference], reach)
        pair = holm[
            ((holm["first"] == reference) & (holm["second"] == g))
            | ((holm["first"] == g) & (holm["second"] == reference))
        ]
        one = kept[by] == g
        rows.append(
            {
                "group": str(g),
                "n": int(weights[kept.index][one].sum()),
                "exits": int((weights[kept.index] * kept["event"])[one].sum()),
                "months_kept": mean.value,
                "ci_low": mean.ci_low,
                "ci_high": mean.ci_high,
                "difference": difference.value if g != reference else np.nan,
                "diff_low": difference.ci_low if g != reference else np.nan,
                "diff_high": difference.ci_high if g != reference else np.nan,
                "p_holm": pair["p_holm"].iloc[0] if len(pair) else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    far = table.iloc[int(table["difference"].abs().fillna(0).to_numpy().argmax())]
    name = by.replace("_", " ")
    sentence = (
        f"Between {start:.0f} and {reach:.0f} months of tenure, customers of {name} {far['group']} stay "
        f"{far['difference']:+.1f} months [{far['diff_low']:+.1f}, {far['diff_high']:+.1f}] against those of {name} "
        f"{reference}; over all groups the log-rank test gives p = {overall['p']:.2g}."
    )

    def draw(ax: Any) -> Any:
        for i, (g, curve) in enumerate(curves.items()):
            shown, color = curve[curve["time"] <= reach], figures.PALETTE[i % len(figures.PALETTE)]
            figures.interval_band(ax, shown["time"], shown["ci_low"], shown["ci_high"], color=color)
            _step(ax, shown, "survival", color=color, label=f"{g}")
        ax.set(
            xlabel="Tenure (months since acquisition)",
            ylabel=f"Share kept{_of_those(start)}",
            title=f"Customers kept by {name}, 95% intervals (n = {table['n'].sum():,})",
            xlim=(0, reach),
            ylim=(0, 1.02),
        )
        figures.percent_axis(ax)
        ax.legend(title=name, loc="lower left")
        at_risk_below(ax, {str(g): c for g, c in curves.items()})
        return ax

    ends = ", ".join(f"{g} {_at(c, reach)['survival']:.0%}" for g, c in curves.items())
    alt = (
        f"Kaplan-Meier curves by {name} with 95% bands and numbers at risk, from {start:.0f} to {reach:.0f} months; "
        f"at the end {ends}."
    )
    return Result(
        table,
        sentence,
        draw=draw,
        alt=alt,
        counts=("n", "exits"),
        figsize=(7.2, 5.2),
        details={"curves": curves, "pairs": holm},
    )


@churn_study
def causes(spells: pd.DataFrame, *, horizon: int = 24, of_interest: str = "voluntary") -> Result:
    """Share gone for each cause, beside the naive curve that treats the other causes as censoring.

    Parameters
    ----------
    spells : DataFrame
        With ``cause``.
    horizon : int
        Months after the start of the curve at which incidence is reported.
    of_interest : str
        Cause whose naive curve is shown.

    Returns
    -------
    Result
        Table: ``cause, months, incidence, ci_low, ci_high, one_minus_km, n`` (exits so far).
    """
    empty = no_exits(spells)
    if empty is not None:
        return empty
    if "cause" not in spells.columns or set(spells.loc[spells["event"] == 1, "cause"]) == {"unknown"}:
        return Result.not_applicable(Missing("exits have no recorded cause", ("customers",)))
    curves = cumulative_incidence(spells, at_least=MIN_AT_RISK)
    start = float(curves.attrs["start"])
    well = curves[curves["at_risk"] >= MIN_AT_RISK]
    last = float(well["time"].max())
    names = list(curves["cause"].unique())
    if of_interest not in names:
        of_interest = names[0]
    names = [of_interest, *[c for c in names if c != of_interest]]
    rows = []
    for h in sorted({start + horizon, start + 60, min(start + 120, last)}):
        if h > last:
            continue
        for cause in names:
            own = curves[curves["cause"] == cause]
            here = _at(own, h)
            rows.append(
                {
                    "cause": cause,
                    "tenure_months": int(h),
                    "incidence": here["incidence"],
                    "ci_low": here["ci_low"],
                    "ci_high": here["ci_high"],
                    "one_minus_km": here["one_minus_km"],
                    "n": int(own["events"][own["time"] <= h].sum()),
                }
            )
    table = pd.DataFrame(rows)
    if table.empty:
        return Result.not_applicable(
            Missing(f"curves end before {start + horizon:.0f} months of tenure", ("customers",))
        )
    people = int(read_spells(spells).n.sum())
    main = table[table["cause"] == of_interest]
    first, end = main.iloc[0], main.iloc[-1]
    reached = f"who reach {start:.0f} months" if start > 0 else "won"
    sentence = (
        f"Of customers {reached}, {first['incidence']:.1%} [{first['ci_low']:.1%}, {first['ci_high']:.1%}] have left "
        f"for the cause {of_interest} by {int(first['tenure_months'])} months; one minus Kaplan-Meier says "
        f"{end['one_minus_km']:.1%} at {int(end['tenure_months'])} months where the incidence is "
        f"{end['incidence']:.1%}."
    )

    def draw(ax: Any) -> Any:
        grid = curves[(curves["cause"] == names[0]) & (curves["time"] <= last)]["time"].to_numpy()
        below = np.zeros(len(grid))
        for i, cause in enumerate(names):
            top = below + curves[(curves["cause"] == cause) & (curves["time"] <= last)]["incidence"].to_numpy()
            ax.fill_between(
                grid,
                below,
                top,
                step="post",
                color=figures.PALETTE[i % len(figures.PALETTE)],
                alpha=0.75,
                lw=0,
                label=cause.replace("_", " "),
            )
            below = top
        own = curves[(curves["cause"] == of_interest) & (curves["time"] <= last)]
        figures.interval_band(ax, own["time"], own["ci_low"], own["ci_high"], color=figures.INK)
        _step(ax, own, "one_minus_km", color=figures.INK, ls="--", lw=1.4, label=f"1 - KM for {of_interest} (wrong)")
        ax.set(
            xlabel="Tenure (months since acquisition)",
            ylabel=f"Share gone{_of_those(start)}",
            title=f"Customers gone by cause, 95% interval for {of_interest} (n = {people:,})",
            xlim=(0, last),
            ylim=(0, None),
        )
        figures.percent_axis(ax)
        ax.legend(loc="upper left")
        at_risk_below(ax, {"all": own})
        return ax

    alt = (
        f"Stacked cumulative incidence of exit by cause up to {last:.0f} months of tenure; {of_interest} reaches "
        f"{end['incidence']:.0%}. A dashed curve, one minus Kaplan-Meier, lies above it at {end['one_minus_km']:.0%}."
    )
    return Result(table, sentence, draw=draw, alt=alt, figsize=(7.2, 4.8), details={"curves": curves})
