"""The nine ratios by channel and segment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.cost import ratio as r
from crmresearch.cost.grid import PAID, SHORT, TICKS, applies, measured, pairs_of, versions
from crmresearch.cost.retention import saved
from crmresearch.errors import InputError, Missing
from crmresearch.result import Result, study

__all__ = ["ratios_by"]


@study
def ratios_by(
    acquisition: pd.DataFrame,
    upkeep: pd.DataFrame,
    marginal: Result | None = None,
    campaigns: pd.DataFrame | None = None,
    *,
    by: str = "channel",
    horizon_months: int = 60,
    effect_months: int = 12,
    discount_annual: float = 0.08,
    resamples: int = 1000,
    seed: int = 0,
) -> Result:
    """Estimate the nine ratios within groups.

    For channels, both sides are the channel's own. For segments, failed prospects have no segment: their spend is
    shared out in proportion to each segment's wins in each channel, and a marginal cost does not apply.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``channel``, ``segment`` (of the won; empty for the others), ``n``, ``spend``, ``spend_won``,
        ``won``.
    upkeep : DataFrame
        As for :func:`ratios`, with the column ``by`` (``reductions.upkeep(bank, by=by)``).
    marginal : Result, optional
        From :func:`crmresearch.cost.response`; without it three lines do not apply.
    campaigns : DataFrame, optional
        As for :func:`crmresearch.cost.saved`, with the column ``by``; without it three lines do not apply.
    by : {'channel', 'segment'}
        Grouping.
    horizon_months, effect_months : int
        End of the tenure denominator, and months after a contact that its effect is counted.
    discount_annual, resamples, seed
        As for :func:`ratios`.

    Returns
    -------
    Result
        Rows per group and ratio that applies, as for :func:`ratios`; one row with a note for a group without any.

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
    frames = [acquisition, upkeep, *([] if campaigns is None else [campaigns])]
    blocks = max(r.unit_of(f) for f in frames)
    if by == "segment":
        acquisition = _shared_out(acquisition)
    weights = r.resampled(blocks, resamples, seed)
    rows: list[dict[str, Any]] = []
    for name in sorted(set(acquisition[by].dropna()) | set(upkeep[by].dropna())):
        a, u = acquisition[acquisition[by] == name], upkeep[upkeep[by] == name]
        group: dict[str, Any] = {by: name, "prospects": float(a["n"].sum()), "wins": float(a["won"].sum())}
        group["customers"] = u["entered" if "entered" in u else "customers"].sum()
        note = _unusable(a, u)
        if note:
            rows.append(group | {"note": note})
            continue
        slope: r.Functional | Missing = Missing("no marginal cost was estimated, or prospects have no such group")
        if by == "channel" and applies(marginal):
            slope = marginal.details["slopes"].get(name, slope)
        kept: Result | Missing = Missing("no campaigns were given")
        if campaigns is not None and by in campaigns:
            kept = saved(campaigns[campaigns[by] == name], horizon_months=effect_months)
        grid = pairs_of(a, u, slope, kept, blocks, horizon_months, discount_annual)
        for (n, d), line in r.LINES.items():
            both = grid[line]
            if isinstance(both, Missing):
                continue
            for costs in versions(u):
                row = group | {"line": line, "winning": SHORT[n], "keeping": SHORT[d], "costs": costs}
                row |= measured(both[costs], weights)
                unbounded = row.pop("set")
                rows.append(row | {"note": "" if unbounded == "bounded" else unbounded})
    table = pd.DataFrame(rows)
    table = table[[c for c in table.columns if c != "note"] + ["note"]]
    known = table[table["costs"] == PAID].dropna(subset=["ratio"]) if "costs" in table else table.iloc[:0]
    shown = known[np.isfinite(known["ci_high"])] if len(known) else known
    return Result(
        table,
        _sentence_by(known, by),
        draw=(lambda ax: draw_by(ax, shown, by)) if len(shown) else None,
        alt=f"Dots with 95% intervals of the ratios by {by}, on a logarithmic axis. {_sentence_by(known, by)}",
        counts=("prospects", "wins", "customers"),
        figsize=(9.5, 6.4),
    )


def _unusable(a: pd.DataFrame, u: pd.DataFrame) -> str:
    """Say why a group has no ratio; nothing where it has."""
    wins = float(a["won"].sum())
    if not len(a):
        return "no prospects"
    if wins == 0:
        return "no wins: cost per win is not defined; " + _at_least(a)
    if wins < r.MIN_WINS:
        return f"fewer than {r.MIN_WINS} wins: not estimated"
    return "" if u["retention_cost"].sum() > 0 else "no retention spend: ratio not defined"


def _sentence_by(known: pd.DataFrame, by: str) -> str:
    first = known[known["line"] == "S40"] if len(known) else known
    if first.empty:
        return f"No {by} has {r.MIN_WINS} wins and retention spend; nothing can be compared."
    top, bottom = first.loc[first["ratio"].idxmax()], first.loc[first["ratio"].idxmin()]
    several, free = int((known["ci_low"] > r.SEVERAL).sum()), int((~np.isfinite(known["ci_high"])).sum())
    ends = " to ".join(f"{x['ratio']:.2f} [{x['ci_low']:.2f}, {x['ci_high']:.2f}] ({x[by]})" for x in (bottom, top))
    return (
        f"By {by}, the primary ratio runs from {ends}. Of {len(known)} ratios over all definitions, {several} lie "
        f"wholly above {r.SEVERAL:g}" + (f" and {free} cannot be bounded." if free else ".")
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
    own = won.groupby(["block", "channel", "segment"], as_index=False, observed=True)[["won", "spend_won"]].sum()
    out = spread.merge(own, on=["block", "channel", "segment"], how="left")
    return out.fillna({"won": 0.0, "spend_won": 0.0})


def draw_by(ax: Any, shown: pd.DataFrame, by: str) -> Any:
    """Draw the bounded ratios by group: one row per definition, one colour per group."""
    from crmresearch import figures

    names = list(dict.fromkeys(shown[by]))
    lines = [line for line in r.LINES.values() if (shown["line"] == line).any()][::-1]
    label = {w.line: f"{w.line}  {w.winning} / {w.keeping}" for w in shown.itertuples()}
    ends = max(shown["ratio"].min() / 5, TICKS[0]), max(shown["ci_high"].max() * 1.3, 2 * r.SEVERAL)
    for k, name in enumerate(names):
        own = shown[shown[by] == name]
        at = own["line"].map(lines.index) + 0.36 - 0.72 * (k + 0.5) / len(names)
        text = f"{name} (n = {own['prospects'].iloc[0]:,.0f} prospects)"
        low = own["ci_low"].clip(lower=ends[0] / 2)  # an interval may reach below zero, where no logarithm is
        color = figures.PALETTE[k % len(figures.PALETTE)]
        figures.intervals(ax, at, own["ratio"], low, own["ci_high"], horizontal=True, color=color, label=text)
    ax.axvline(r.SEVERAL, color=figures.INK, ls="--", lw=1, zorder=1.5)
    ticks = [t for t in TICKS if ends[0] <= t <= ends[1]]
    ax.set(xscale="log", xlim=ends, ylim=(-0.6, len(lines) - 0.4))
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(lines)), [label[line] for line in lines])
    ax.set_xlabel(
        f"ratio, 95% interval (logarithmic; dashed: {r.SEVERAL:g}, 'several times')\n"
        "a bar at the left edge goes on to zero or below"
    )
    ax.set_title(f"The ratios by {by}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.05), ncols=2)
    return ax
