"""Studies of who stays: curves with late entry, groups compared, causes of exit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import coarse, safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import LEVEL, z
from crmresearch.estimators.survival.curves import MIN_AT_RISK, kaplan_meier
from crmresearch.estimators.survival.groups import censoring_gap, compare_groups, row_at
from crmresearch.estimators.survival.incidence import cumulative_incidence
from crmresearch.estimators.survival.risk import read_spells
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate, leading, study
from crmresearch.rules import rules
from crmresearch.studies.churn.gates import entry_independence

HORIZONS = (12, 24, 60, 120, 180)  # months of tenure
CLEAR = 0.05  # p-value below which groups are said to differ
MOST_MOVED = 0.02  # of the share kept, by weighting for censoring
ORDERED = ("city_tier", "segment", "value_band")  # groups whose names go up
ENDS = ("ci_low", "ci_high")
GROUPS = ("acquisition_channel", "city_tier", "segment", "value_band")
LEVELS = ("low", "middle", "medium", "high")  # an alphabet would mix them
say = words.of("churn.retention")
say_groups = words.of("churn.compare")
say_causes = words.of("churn.causes")


def need_exits(spells: pd.DataFrame) -> None:
    """Refuse spells of which none ended, or none at all."""
    if spells.empty or not read_spells(spells).event.any():
        n = int(spells["n"].sum()) if "n" in spells.columns else len(spells)
        raise NotApplicable(say("nobody", n=n), "customers")


def by_level(names: Iterable[Any]) -> list[Any]:
    """Put levels in their order, after names that are none."""
    return sorted(names, key=lambda name: LEVELS.index(name) if name in LEVELS else -1)


def _drawn(
    curve: pd.DataFrame, label: str, column: str = "survival", band: bool = True, dashed: bool = False
) -> pd.DataFrame:
    """A curve as the figure wants it, in steps of enough exits; without one, exits would look like none."""
    steps = curve.loc[coarse(curve["events"]), [column, *(ENDS if band else ())]]
    if steps[column].nunique() < 2 and curve["events"].any():
        steps[:] = np.nan
    curve = curve.assign(**steps.reindex(curve.index, method="ffill"))
    low, high = (curve[c] if band else np.nan for c in ("ci_low", "ci_high"))
    line = {"x": curve["time"], "y": curve[column], "low": low, "high": high, "n": curve["at_risk"]}
    return pd.DataFrame({**line, "group": label, "dashed": dashed})


def _picture(
    data: pd.DataFrame, title: str, y: str, last: float, risk: dict[str, Any], high: float = 4.8, **more: Any
) -> Picture | None:
    """Steps up to the last tenure, with the numbers at risk of these curves under the axis; None without a curve."""
    if data["y"].isna().all():
        return None
    table = pd.concat(c[["time", "at_risk"]].assign(group=g) for g, c in risk.items())
    options = {"step": True, "unit": "percent", "xlim": (0, last), "risk": table, **more}
    return Picture("curves", data, title, say("x"), y, options, (7.2, high))


@study
def retention(spells: pd.DataFrame, *, dated: bool = True) -> Result:
    """Share of customers kept by tenure, with late entry respected and ignored.

    Parameters
    ----------
    spells : DataFrame
        From :func:`crmresearch.data.reductions.churn.spells`.
    dated : bool
        Whether the data have dates; where not, the sentence says so.

    Returns
    -------
    Result
        Table: ``tenure_months, kept, ci_low, ci_high, late_entry_ignored, at_risk``. The gate looks at the
        independence of late entry and at censoring that differs between groups known at entry. ``details["curve"]``
        holds the curve.
    """
    need_exits(spells)
    checked = read_spells(spells)
    curve = kaplan_meier(spells, at_least=MIN_AT_RISK)
    ignored = kaplan_meier(spells.assign(entry=0))
    start, last = curve.attrs["start"], curve.attrs["end"]
    ignored["survival"] /= row_at(ignored, start)["survival"]
    rows = []
    for h in [h for h in HORIZONS if start < h <= last] or [int(last)]:
        here = row_at(curve, h)
        row = {"tenure_months": h, "kept": here["survival"], "ci_low": here["ci_low"], "ci_high": here["ci_high"]}
        if checked.late:
            row["late_entry_ignored"] = row_at(ignored, h)["survival"]
        rows.append({**row, "at_risk": int(here["at_risk"])})
    table = safe(pd.DataFrame(rows), ("at_risk",), parts=False)
    end = table.iloc[-1]
    parts = [
        say("reached", start=start) if start > 0 else say("won"),
        say("kept", end=end),
        say("ignored", end=end) if checked.late else ".",
        "" if dated else say("undated"),
    ]
    data, title = _drawn(curve, say("respected")), say("title", end=end)
    if checked.late:
        title = say("title_ignored", end=end)
        shown = ignored[(ignored["time"] >= start) & (ignored["time"] <= last)]
        data = pd.concat([data, _drawn(shown, say("naive"), band=False, dashed=True)])
    return Result(
        table,
        "".join(parts),
        (*((entry_independence(spells),) if checked.late else ()), *_censoring(spells, curve, table)),
        picture=_picture(data, title, say("y", n=int(checked.n.sum())), last, {say("all"): curve}, ylim=(0, 1.02)),
        details={"curve": curve},
    )


def _censoring(spells: pd.DataFrame, curve: pd.DataFrame, table: pd.DataFrame) -> tuple[Check, ...]:
    """Gate: weighting for the censoring of every group known at entry leaves the curve where it is."""
    groups = [c for c in GROUPS if c in spells.columns]
    if not groups:
        return ()
    found, looks = censoring_gap(spells, groups, curve["time"].iloc[0], table["tenure_months"]), len(table)
    halves = z(1 - (1 - LEVEL) / looks) / z() * (found.high - found.value)
    move, half = max(zip(found.value, halves, strict=True), key=lambda one: abs(one[0]) - one[1])
    named = ", ".join(g.replace("_", " ") for g in groups)
    return (gate(say, "censoring", Deviation(move, move - half, move + half, limit=MOST_MOVED), named=named, n=looks),)


@study
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
    name = by.replace("_", " ")
    if by not in spells.columns:
        raise NotApplicable(say_groups("unknown", name=name), "customers")
    need_exits(spells)
    found = compare_groups(spells, by, horizon)
    table = leading(found.table, "group", "months_kept", *ENDS, "difference", "diff_low", "diff_high", "p_holm")
    table.loc[table["ci_low"] == table["ci_high"], list(ENDS)] = np.nan  # nobody left so far: that has no error
    table = safe(table, ("n", "exits"))
    told = set(table.loc[table["n"].notna(), "group"])
    if len(told) < 2:
        raise NotApplicable(say_groups("few", name=name), "customers")
    curves = {str(g): found.curves[g] for g in by_level(found.curves) if g in told}
    far = table.iloc[int(table["difference"].abs().fillna(0).to_numpy().argmax())]
    shown = {g: c[c["time"] <= found.reach] for g, c in curves.items()}
    kept = {g: c["survival"].iloc[-1] for g, c in shown.items()}
    most, least = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
    title = say_groups("title_alike", name=name)
    if found.p < CLEAR and kept[most] < 1 and shown[most]["ci_low"].iloc[-1] > shown[least]["ci_high"].iloc[-1]:
        title = say_groups(
            "title", name=name, reach=found.reach, most=most, high=kept[most], least=least, low=kept[least]
        )
    data = pd.concat(_drawn(c, g) for g, c in shown.items())
    y = say_groups("y", n=table["n"].sum()) + (say("of_those", start=found.start) if found.start > 0 else "")
    return Result(
        table,
        say_groups("sentence", found=found, far=far, name=name, reference=table["group"].iloc[0]),
        picture=_picture(data, title, y, found.reach, curves, 5.2, ylim=(0, 1.02), legend=name, ordered=by in ORDERED),
        details={"curves": found.curves, "pairs": found.pairs},
    )


@study
def causes(spells: pd.DataFrame, *, horizon: int = 24) -> Result:
    """Share gone for each cause, beside the naive curve that treats the other causes as censoring.

    Parameters
    ----------
    spells : DataFrame
        With ``cause``.
    horizon : int
        Months after the start of the curve at which incidence is reported.

    Returns
    -------
    Result
        Table: ``cause, months, incidence, ci_low, ci_high, one_minus_km, n`` (exits so far).
    """
    need_exits(spells)
    if "cause" not in spells.columns or set(spells.loc[spells["event"] == 1, "cause"]) == {"unknown"}:
        raise NotApplicable(say_causes("unrecorded"), "customers")
    found = cumulative_incidence(spells, at_least=MIN_AT_RISK)
    start, last = found.attrs["start"], found["time"].max()
    curves = dict(list(found.groupby("cause")))
    curves = {c: curves[c] for c in sorted(curves, key=lambda c: c != "voluntary")}  # what is of interest first
    rows = [
        {
            "cause": cause,
            "tenure_months": int(h),
            **row_at(curve, h)[["incidence", "ci_low", "ci_high", "one_minus_km"]],
            "n": int(curve["events"][curve["time"] <= h].sum()),
        }
        for h in sorted({start + horizon, start + 60, min(start + 120, last)})
        if h <= last
        for cause, curve in curves.items()
    ]
    if not rows:
        raise NotApplicable(say_causes("short", end=start + horizon), "customers")
    counted = pd.DataFrame(rows).set_index(["cause", "tenure_months"])
    counted.loc[counted["n"] == 0, list(ENDS)] = np.nan  # nobody left for it yet, and no formula says how many may
    table = safe(counted).reset_index()
    enough = [c for c, curve in curves.items() if curve["events"].sum() >= rules.least]
    if not enough:
        raise NotApplicable(say_causes("unrecorded"), "customers")
    own = enough[0]
    main = table[table["cause"] == own].dropna(subset="incidence")
    if main.empty:
        raise NotApplicable(say_causes("few", cause=own, least=rules.least), "customers")
    layers = [_drawn(curves[c], str(c).replace("_", " "), "incidence", band=c == own) for c in enough]
    title = say_causes("title", cause=own, end=main.iloc[-1])
    y = say_causes("y", cause=own, n=int(read_spells(spells).n.sum())) + (
        say("of_those", start=start) if start > 0 else ""
    )
    reached = say_causes("reached", start=start) if start > 0 else say_causes("won")
    first, end = main.iloc[0], main.iloc[-1]
    sentence = say_causes("sentence", reached=reached, cause=own, first=first, end=end)
    if len(main) == 1:
        sentence = say_causes("once", reached=reached, cause=own, end=end)
    naive = _drawn(curves[own], say_causes("wrong", cause=own), "one_minus_km", band=False, dashed=True)
    return Result(
        table,
        sentence,
        picture=_picture(pd.concat([*layers, naive]), title, y, last, {say("all"): curves[own]}, stacked=True),
        details={"curves": found},
    )
