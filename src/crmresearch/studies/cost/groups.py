"""The nine ratios by channel and segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError, Missing, answered
from crmresearch.estimators.blocks import Array, Functional, checked, resampled, unit_of
from crmresearch.estimators.inference import LEVEL
from crmresearch.estimators.spending.winning import MIN_WINS, shared_per_win
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, leading, sampled
from crmresearch.rules import of_groups
from crmresearch.studies.cost.campaigns import saved
from crmresearch.studies.cost.common import SEVERAL
from crmresearch.studies.cost.grid import LINES, MONEY, PAID, Pair, applies, measured, numerator, pairs_of, tenure

say = words.of("cost.groups")
grid_words = words.of("cost.ratios")

FLOOR = 0.01  # of the ratio axis


@answered(Result.not_applicable, passing=False)
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
        raise InputError(say("no_group", by=by))
    checked(acquisition, ("block", "channel", "n", "spend", "spend_won", "won"), ("spend", "spend_won"), "acquisition")
    if by not in acquisition:
        raise InputError(say("lacks", by=by, columns=", ".join(map(str, acquisition.columns))))
    counted = ("entered",) if "tenure_month" in upkeep else ("customers", "exits")
    checked(upkeep, ("block", by, "years", "retention_cost", *counted), ("years", "retention_cost"), "upkeep")
    if isinstance(campaigns, pd.DataFrame) and by not in campaigns:
        campaigns = Missing(say("campaigns_lack", by=by), ("customers",))
    frames = [f for f in (acquisition, upkeep, campaigns) if isinstance(f, pd.DataFrame)]
    blocks = max(unit_of(*frames), marginal.details["blocks"] if applies(marginal) else 0)
    weights = resampled(blocks, resamples, seed)
    rows: list[dict[str, Any]] = []
    for name in sorted(set(acquisition[by].dropna()) | set(upkeep[by].dropna())):
        a, u = acquisition[acquisition[by] == name], upkeep[upkeep[by] == name]
        group: dict[str, Any] = {by: name, "prospects": float(a["n"].sum()), "wins": float(a["won"].sum())}
        group["customers"] = u[counted[0]].sum()
        group["whose"] = of_groups(a, "block", "spend") | of_groups(u, "block", "retention_cost")
        per_win = {n: numerator(a, n, blocks) for n in ("all", "won")}
        if by == "segment" and group["wins"]:
            per_win["all"] = shared_per_win(acquisition, name, "spend", blocks)
            channels = acquisition.groupby("channel", observed=True)  # each shares its spend out to all segments
            for part in (acquisition, *(c for _, c in channels if c["won"].sum() >= MIN_WINS)):
                group["whose"] |= of_groups(part, "block", "spend")
            group["prospects"] = shared_per_win(acquisition, name, "n", blocks).value * group["wins"]
        if note := _unusable(a, u):
            rows.append(group | {"note": note})
            continue
        slope, kept = _slope(marginal, by, name), _kept(campaigns, by, name, effect_months)
        grid, months = pairs_of(per_win, u, slope, kept, blocks, horizon_months, discount_annual)
        closed = [c for c in kept.checks if c.status == "closed"] if applies(kept) else []
        rows += [group | row for row in _lines(grid, months, horizon_months, closed, weights)]
    table = pd.DataFrame(rows)
    table = leading(table, by, "line", "winning", "keeping", "costs", "ratio", "ci_low", "ci_high")
    table = table[[c for c in table.columns if c != "note"] + ["note"]]
    table = safe(table, (("prospects", "wins"), ("customers",)), parts=False)
    known = table[table["costs"] == PAID].dropna(subset=["ratio"]) if "costs" in table else table.iloc[:0]
    sentence = _sentence(known, by)
    if isinstance(campaigns, pd.DataFrame):
        sentence = sampled(sentence, campaigns)
    return Result(table, sentence, picture=_picture(known, by), money=MONEY)


def _lines(
    grid: dict[str, dict[str, Pair] | Missing], months: int | None, horizon: int, closed: list[Check], weights: Array
) -> Iterator[dict[str, Any]]:
    """Rows of one group, by line and costs, with what a reader must know as a note."""
    short = grid_words.names("short")
    for (n, d), line in LINES.items():
        row, both = {"line": line, "winning": short[n], "keeping": short[d]}, grid[line]
        if isinstance(both, Missing):
            yield row | {"note": say("absent", reason=both.reason)}
            continue
        for costs, pair in both.items():
            found = measured(pair, weights) | tenure(d, costs, months)
            notes = [w for w in (found.pop("set"),) if w != grid_words("interval")]
            if found.get("tenure_months", horizon) < horizon:
                notes.append(say("part", months=months, horizon=horizon))
            notes += [say("closed", check=c) for c in closed if d == "saved"]
            yield row | {"costs": costs} | found | {"note": "; ".join(notes)}


def _slope(marginal: Result | None, by: str, name: Any) -> Functional | Missing:
    if by == "segment":
        return Missing(say("no_segment"))
    found = marginal.details["slopes"].get(name) if applies(marginal) else None
    return Missing(say("no_marginal")) if found is None else found


def _kept(campaigns: pd.DataFrame | Missing | None, by: str, name: Any, months: int) -> Result | Missing:
    if not isinstance(campaigns, pd.DataFrame):
        return Missing(say("no_campaigns"), ("contacts",)) if campaigns is None else campaigns
    own = campaigns[campaigns[by] == name]
    return saved(own, horizon_months=months) if len(own) else Missing(say("no_campaign", by=by), ("contacts",))


def _unusable(a: pd.DataFrame, u: pd.DataFrame) -> str:
    """Say why a group has no ratio; nothing where it has."""
    wins, n = float(a["won"].sum()), float(a["n"].sum())
    if not len(a):
        return say("nobody")
    if wins == 0:  # what a prospect costs, over the highest share of wins that none in n leaves possible
        return say("no_wins", least=a["spend"].sum() / n / (1 - (1 - LEVEL) ** (1 / n)), level=LEVEL)
    if wins < MIN_WINS:
        return say("few_wins", least=MIN_WINS)
    if not a["spend"].any():
        return say("unspent")
    return "" if u["retention_cost"].sum() > 0 else say("no_retention")


def _sentence(known: pd.DataFrame, by: str) -> str:
    first = known[known["line"] == "S40"] if len(known) else known
    if first.empty:
        return say("nothing", by=by, least=MIN_WINS)
    if len(first) == 1:
        return say("alone", by=by, row=first.iloc[0].rename({by: "name"}))
    top, bottom = _ends(first)
    apart = say("apart") if bottom["ci_high"] < top["ci_low"] else say("alike", by=by)
    noted = known["note"] != ""
    several = int((known["ci_low"] > SEVERAL)[~noted].sum())
    sentence = say(
        "sentence", by=by, bottom=bottom, top=top, low_name=str(bottom[by]), high_name=str(top[by]), count=len(known),
        several=several, mark=SEVERAL, apart=apart,
    )  # fmt: skip
    return sentence + (say("noted", count=int(noted.sum())) if noted.any() else words.local("."))


def _ends(first: pd.DataFrame) -> tuple[Any, Any]:
    """Rows of the highest and of the lowest primary ratio."""
    return first.loc[first["ratio"].idxmax()], first.loc[first["ratio"].idxmin()]


def _picture(known: pd.DataFrame, by: str) -> Picture | None:
    """Bounded ratios by group: one row per definition, one colour per group."""
    shown = known[np.isfinite(known["ci_high"]) & (known["ci_high"] > FLOOR)] if len(known) else known
    if not len(shown):
        return None
    data = shown.sort_values("line", kind="stable").assign(
        label=shown["line"] + "  " + shown["winning"] + " / " + shown["keeping"],
        group=shown.apply(lambda row: say("label", name=row[by], n=row["prospects"]), axis=1),
        estimate=shown["ratio"],
        n=shown["customers"],
    )
    limits = max(shown["ratio"].min() / 5, FLOOR), max(shown["ci_high"].max() * 1.3, 2 * SEVERAL)
    options = {"log": True, "limits": limits, "marks": [Mark(SEVERAL, style="claim")]}
    first, title = shown[shown["line"] == "S40"], say("title_open", by=by)
    if len(first) == 1:
        title = say("title_alone", by=by, row=first.iloc[0].rename({by: "name"}))
    elif len(first):
        top, bottom = _ends(first)
        if bottom["ci_high"] < top["ci_low"]:
            low, high = str(bottom[by]), str(top[by])
            title = say("title", bottom=bottom, top=top, low_name=low, high_name=high)
    return Picture("intervals", data, title, say("x", several=SEVERAL), "", options)
