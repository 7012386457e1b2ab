"""The nine ratios by channel and segment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing
from crmresearch.result import Result
from crmresearch.studies.cost import ratio as r
from crmresearch.studies.cost.grid import PAID, SHORT, TICKS, applies, measured, numerator, pairs_of, tenure
from crmresearch.studies.cost.retention import sampling, saved


def ratios_by(
    acquisition: pd.DataFrame | Missing,
    upkeep: pd.DataFrame | Missing,
    marginal: Result | None = None,
    campaigns: pd.DataFrame | Missing | None = None,
    *,
    by: str = "channel",
    horizon_months: int = 60,
    effect_months: int = 12,
    discount_annual: float = 0.08,
    resamples: int = 1000,
    seed: int = 0,
) -> Result:
    """Estimate the nine ratios within groups.

    For channels, both sides are the channel's own. For segments, failed prospects have no segment: the spend of each
    channel is shared out by its wins (so cost per win differs between segments by their channels alone; that of
    channels with few wins by all wins), and a marginal cost does not apply.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``channel``, ``segment`` (of the won; empty for the others), ``n``, ``spend``, ``spend_won``,
        ``won``.
    upkeep : DataFrame
        As for :func:`ratios`, with the column ``by`` (``reductions.upkeep(bank, by=by)``).
    marginal : Result, optional
        From :func:`crmresearch.studies.cost.response`; without it three lines do not apply.
    campaigns : DataFrame, optional
        As for :func:`crmresearch.studies.cost.saved`, with the column ``by``; without it three lines do not apply.
    by : {'channel', 'segment'}
        Grouping.
    horizon_months, effect_months : int
        Longest tenure of the tenure denominator (``tenure_months`` says how far it is seen in a group), and months
        after a contact that its effect is counted.
    discount_annual, resamples, seed
        As for :func:`ratios`.

    Returns
    -------
    Result
        Rows per group and ratio as for :func:`ratios`; ``note`` says why one does not apply, that its set is no
        interval, that the tenure is seen in part, or which gate of the group's campaign is closed. One row with a note
        for a group without any.

    Raises
    ------
    InputError
        If ``by`` is neither, columns are missing, or costs are negative.
    """
    if isinstance(acquisition, Missing):
        return Result.not_applicable(acquisition)
    if isinstance(upkeep, Missing):
        return Result.not_applicable(upkeep)
    if by not in ("channel", "segment"):
        raise InputError(f"by = {by!r}: group by channel or segment")
    r.checked(
        acquisition, ("block", "channel", "n", "spend", "spend_won", "won"), ("spend", "spend_won"), "acquisition"
    )
    if by not in acquisition:
        raise InputError(f"acquisition lacks {by}; it has {', '.join(map(str, acquisition.columns))}")
    counted = ("entered",) if "tenure_month" in upkeep else ("customers", "exits")
    r.checked(upkeep, ("block", by, "years", "retention_cost", *counted), ("years", "retention_cost"), "upkeep")
    if isinstance(campaigns, pd.DataFrame) and by not in campaigns:
        campaigns = Missing(f"campaigns do not say the {by} of their customers", ("customers",))
    frames = [f for f in (acquisition, upkeep, campaigns) if isinstance(f, pd.DataFrame)]
    blocks = max([*map(r.unit_of, frames), marginal.details["blocks"] if applies(marginal) else 0])
    weights = r.resampled(blocks, resamples, seed)
    rows: list[dict[str, Any]] = []
    for name in sorted(set(acquisition[by].dropna()) | set(upkeep[by].dropna())):
        a, u = acquisition[acquisition[by] == name], upkeep[upkeep[by] == name]
        group: dict[str, Any] = {by: name, "prospects": float(a["n"].sum()), "wins": float(a["won"].sum())}
        group["customers"] = u[counted[0]].sum()
        per_win = {n: numerator(a, n, blocks) for n in ("all", "won")}
        if by == "segment" and group["wins"]:
            per_win["all"] = _shared(acquisition, name, "spend", blocks)
            group["prospects"] = _shared(acquisition, name, "n", blocks).value * group["wins"]
        note = _unusable(a, u)
        if note:
            rows.append(group | {"note": note})
            continue
        slope, kept = _slope(marginal, by, name), _kept(campaigns, by, name, effect_months)
        grid, months = pairs_of(per_win, u, slope, kept, blocks, horizon_months, discount_annual)
        for (n, d), line in r.LINES.items():
            row = group | {"line": line, "winning": SHORT[n], "keeping": SHORT[d]}
            both = grid[line]
            if isinstance(both, Missing):
                rows.append(row | {"note": f"not applicable: {both.reason}"})
                continue
            for costs, pair in both.items():
                found = measured(pair, weights) | tenure(d, costs, months)
                notes = [w for w in (found.pop("set"),) if w != "bounded"]
                if found.get("tenure_months", horizon_months) < horizon_months:
                    notes.append(f"tenure seen for {months} of {horizon_months} months")
                if d == "saved" and applies(kept):
                    notes += [f"closed: {c.name} ({c.detail})" for c in kept.checks if c.status == "closed"]
                rows.append(row | {"costs": costs} | found | {"note": "; ".join(notes)})
    table = pd.DataFrame(rows)
    table = table[[c for c in table.columns if c != "note"] + ["note"]]
    known = table[table["costs"] == PAID].dropna(subset=["ratio"]) if "costs" in table else table.iloc[:0]
    shown = known[np.isfinite(known["ci_high"]) & (known["ci_high"] > TICKS[0])] if len(known) else known
    words = _sentence_by(known, by) + (sampling(campaigns) if isinstance(campaigns, pd.DataFrame) else "")
    return Result(
        table,
        words,
        draw=(lambda ax: draw_by(ax, shown, by)) if len(shown) else None,
        alt=f"Dots with 95% intervals of the ratios by {by}, on a logarithmic axis. {words}",
        counts=("prospects", "wins", "customers"),
        figsize=(9.5, 6.4),
    )


def _slope(marginal: Result | None, by: str, name: Any) -> r.Functional | Missing:
    if by == "segment":
        return Missing("prospects who were not won have no segment")
    found = marginal.details["slopes"].get(name) if applies(marginal) else None
    return Missing("no marginal cost was estimated") if found is None else found


def _kept(campaigns: pd.DataFrame | Missing | None, by: str, name: Any, months: int) -> Result | Missing:
    if not isinstance(campaigns, pd.DataFrame):
        return Missing("no campaigns were given", ("contacts",)) if campaigns is None else campaigns
    own = campaigns[campaigns[by] == name]
    return saved(own, horizon_months=months) if len(own) else Missing(f"no campaign reached this {by}", ("contacts",))


def _shared(acquisition: pd.DataFrame, segment: Any, column: str, blocks: int) -> r.Functional:
    """Total of a column shared out to a segment, per win of the segment.

    Sum over channels c of (total of c / wins of c) x (wins of c in the segment), over the wins in the segment. Channels
    with few wins share theirs out by all wins.
    """
    own = acquisition[acquisition["segment"] == segment]
    wins = acquisition.groupby("channel", observed=True)["won"].sum()
    inside = r.by_block(own, "won", blocks)
    few = acquisition[acquisition["channel"].isin(wins.index[wins < r.MIN_WINS])]
    parts = [r.mean_ratio(r.by_block(few, column, blocks), r.by_block(acquisition, "won", blocks))]
    for channel in wins.index[wins >= r.MIN_WINS]:
        whole, here = (f[f["channel"] == channel] for f in (acquisition, own))
        per_win = r.mean_ratio(r.by_block(whole, column, blocks), r.by_block(whole, "won", blocks))
        parts.append(r.product(per_win, r.mean_ratio(r.by_block(here, "won", blocks), inside)))
    return r.Functional(
        sum(p.value for p in parts),
        np.sum([p.influence for p in parts], axis=0),
        lambda weights: np.sum([p.redrawn(weights) for p in parts], axis=0),
    )


def _unusable(a: pd.DataFrame, u: pd.DataFrame) -> str:
    """Say why a group has no ratio; nothing where it has."""
    wins = float(a["won"].sum())
    if not len(a):
        return "nobody was approached, or won, in the period"
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
    noted = known["note"] != ""
    several = int((known["ci_low"] > r.SEVERAL)[~noted].sum())
    ends = " to ".join(f"{x['ratio']:.2f} [{x['ci_low']:.2f}, {x['ci_high']:.2f}] ({x[by]})" for x in (bottom, top))
    return (
        f"By {by}, the primary ratio runs from {ends}. Of {len(known)} ratios over all definitions, {several} lie "
        f"wholly above {r.SEVERAL:g}"
        + (f"; {int(noted.sum())} come with a note and are not counted." if noted.any() else ".")
    )


def _at_least(a: pd.DataFrame) -> str:
    """Return the spend per win that zero wins in n leave possible, at 95%."""
    n = float(a["n"].sum())
    bound = 1 - 0.05 ** (1 / n)
    return f"at least {a['spend'].sum() / n / bound:,.0f} per win at 95%"


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
        "a bar at the left edge goes on to zero or below; no dot: the estimate lies there"
    )
    ax.set_title(f"The ratios by {by}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.05), ncols=2)
    return ax
