"""How much the headline figures depend on what is called leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import FitError, Missing
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.curves import MIN_AT_RISK, kaplan_meier
from crmresearch.estimators.survival.risk import churn_study, read_spells
from crmresearch.result import Result
from crmresearch.studies.churn.relationship import index_scale, model_row, rows_for, title_over, with_index

TENURES = (24, 60)  # months at which the share kept is compared


@churn_study
def definitions(
    by_definition: Mapping[str, pd.DataFrame | Missing], cells: Mapping[str, pd.DataFrame | Missing] | None = None
) -> Result:
    """Compare the headline figures under every definition of leaving.

    Parameters
    ----------
    by_definition : mapping
        Spells by exit definition, from :func:`crmresearch.data.reductions.churn.histories_by_definition`.
    cells : mapping, optional
        Person-months by exit definition, for the hazard ratio of the relationship index.

    Returns
    -------
    Result
        Table: ``definition, n, exits, exits_per_100_years, ci_low, ci_high, kept_24, kept_60`` (of those who reach the
        curve's start), ``index_ratio, ratio_low, ratio_high`` (hazard ratio of the relationship index for voluntary
        exits
        and the definition's own), ``note`` (why a definition is missing).
    """
    rows: list[dict[str, Any]] = []
    for name, spells in by_definition.items():
        if isinstance(spells, Missing):
            rows.append({"definition": name, "note": str(spells)})
            continue
        row = {"definition": name, **_rate(spells), **_kept(spells)}
        part = (cells or {}).get(name)
        if isinstance(part, pd.DataFrame):
            row |= _ratio(part, name)
        rows.append({**row, "note": "–"})
    table = pd.DataFrame(rows)
    if "exits" not in table.columns or not table["exits"].fillna(0).sum():
        return Result.not_applicable(Missing("nobody left under any exit definition", ("customers",)))
    rates = table.dropna(subset=["exits_per_100_years"])
    low, high = (rates.loc[f] for f in (rates["exits_per_100_years"].idxmin(), rates["exits_per_100_years"].idxmax()))
    sentence = (
        f"Exits per 100 customer-years run from {low['exits_per_100_years']:.1f} ({low['definition']}) to "
        f"{high['exits_per_100_years']:.1f} ({high['definition']}) over {len(rates)} "
        f"definition{'s' if len(rates) != 1 else ''} of leaving."
    )
    if "index_ratio" in table.columns:
        ratio = table["index_ratio"].dropna()
        sentence += f" The hazard ratio of the relationship index runs from {ratio.min():.2f} to {ratio.max():.2f}."

    def draw(ax: Any) -> Any:
        y, x = np.arange(len(rates))[::-1], rates["exits_per_100_years"]
        figures.intervals(ax, y, x, rates["ci_low"], rates["ci_high"], horizontal=True)
        names = zip(rates["definition"], rates["n"], rates["exits"], strict=True)
        ax.set_yticks(y, [f"{d} (n = {n:,.0f}, {e:,.0f} exits)" for d, n, e in names])
        ax.set(
            xlabel="Exits per 100 customer-years, 95% interval",
            xlim=(0, None),
            ylim=(-0.6, len(rates) - 0.4),
        )
        title_over(ax, "Rate of leaving, by what counts as leaving")
        return ax

    shown = ", ".join(f"{d} {r:.1f}" for d, r in zip(rates["definition"], rates["exits_per_100_years"], strict=True))
    alt = f"Exit rate per 100 customer-years with 95% intervals by exit definition: {shown}."
    return Result(table, sentence, draw=draw, alt=alt, counts=("n", "exits"), figsize=(7.2, 0.9 + 0.6 * len(rates)))


def _rate(spells: pd.DataFrame) -> dict[str, float]:
    """Exits per 100 customer-years with the exact Poisson interval."""
    from scipy.special import gammaincinv

    s = read_spells(spells)
    exits, years = float(s.n @ s.event), float(s.n @ (s.exit - s.entry)) / 12
    low = gammaincinv(exits, 0.025) / years if exits else 0.0
    high = gammaincinv(exits + 1, 0.975) / years
    return {
        "n": int(s.n.sum()),
        "exits": int(exits),
        "exits_per_100_years": 100 * exits / years,
        "ci_low": 100 * low,
        "ci_high": 100 * high,
    }


def _kept(spells: pd.DataFrame) -> dict[str, float]:
    """Share kept at the tenures compared, where the curve reaches them."""
    try:
        curve = kaplan_meier(spells, at_least=MIN_AT_RISK)
    except FitError:
        return {}
    time = curve["time"].to_numpy()
    inside = [t for t in TENURES if time[0] < t <= time[-1]]
    return {f"kept_{t}": float(curve["survival"].iloc[np.searchsorted(time, t, side="right") - 1]) for t in inside}


def _ratio(cells: pd.DataFrame, name: str) -> dict[str, float]:
    """Hazard ratio of the relationship index for voluntary exits and those the definition adds."""
    try:
        fit = cox(rows_for(with_index(cells, index_scale(cells)), ["voluntary", name], ()), ["index"])
    except FitError:
        return {}
    row = model_row(name, fit)
    return {"index_ratio": row["hazard_ratio"], "ratio_low": row["ci_low"], "ratio_high": row["ci_high"]}
