"""Study of how much the headline figures depend on what is called leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.inference import poisson_rate
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.curves import MIN_AT_RISK, kaplan_meier
from crmresearch.estimators.survival.groups import row_at
from crmresearch.estimators.survival.index import index_rows, index_scale
from crmresearch.estimators.survival.risk import read_spells
from crmresearch.figures import Picture
from crmresearch.result import Result, leading, study
from crmresearch.rules import rules
from crmresearch.studies.churn.index import CAUSE

MORE = ("index_ratio", "ratio_low", "ratio_high", "kept_24", "kept_60")
TENURES = (24, 60)  # months at which the share kept is compared
say = words.of("churn.definitions")


@study
def definitions(
    by_definition: Mapping[str, pd.DataFrame | Missing], cells: Mapping[str, pd.DataFrame | Missing] | None = None
) -> Result:
    """Compare the headline figures under every definition of leaving.

    Parameters
    ----------
    by_definition : mapping
        Spells by exit definition, from :func:`crmresearch.data.reductions.churn.spells_by_definition`.
    cells : mapping, optional
        Person-months by exit definition, for the hazard ratio of the relationship index.

    Returns
    -------
    Result
        Table: ``definition, n, exits, exits_per_100_years, ci_low, ci_high, kept_24, kept_60`` (of those who reach the
        curve's start), ``index_ratio, ratio_low, ratio_high`` (hazard ratio of the relationship index for voluntary
        exits and the definition's own), ``note`` (why a definition is missing).
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
    table = leading(pd.DataFrame(rows), "definition", "exits_per_100_years", "ci_low", "ci_high", *MORE)
    if "exits" in table.columns:
        table = safe(table.assign(**table[["n", "exits"]].fillna(0)), ("n", "exits"), parts=False)
    rates = table[table["exits"] > 0] if "exits" in table.columns else table.iloc[:0]
    if rates.empty:
        raise NotApplicable(say("few", least=rules.least), "customers")
    low, high = (rates.loc[f] for f in (rates["exits_per_100_years"].idxmin(), rates["exits_per_100_years"].idxmax()))
    sentence = say("sentence" if len(rates) > 1 else "sentence_one", low=low, high=high, n=len(rates))
    closed = table["exits"].fillna(0).iloc[0]
    recorded = getattr(by_definition.get("closure"), "attrs", {}).get("recorded", 0)
    if closed >= rules.least and recorded - closed >= rules.least:
        sentence += say("recorded", recorded=recorded, closed=int(closed))
    if "index_ratio" in table.columns:
        sentence += say("ratios", low=table["index_ratio"].min(), high=table["index_ratio"].max())
    data = rates.rename(columns={"exits_per_100_years": "estimate"})
    data = data.assign(label=[say("label", row=r) for _, r in rates.iterrows()], n=rates["exits"])
    options, size = {"limits": (0, 1.05 * rates["ci_high"].max())}, (7.2, 0.9 + 0.6 * len(rates))
    return Result(
        table,
        sentence,
        picture=Picture("intervals", data, say("title", low=low, high=high), say("x"), options=options, size=size),
    )


def _rate(spells: pd.DataFrame) -> dict[str, float]:
    s = read_spells(spells)
    exits = float(s.n @ s.event)
    rate, low, high = poisson_rate(exits, float(s.n @ (s.exit - s.entry)) / 12)
    shown = {"exits_per_100_years": 100 * rate, "ci_low": 100 * float(low), "ci_high": 100 * float(high)}
    return {"n": int(s.n.sum()), "exits": int(exits), **shown}


def _kept(spells: pd.DataFrame) -> dict[str, float]:
    """Share kept at the tenures compared, where the curve reaches them."""
    try:
        curve = kaplan_meier(spells, at_least=MIN_AT_RISK)
    except FitError:
        return {}
    first, last = curve["time"].iloc[0], curve["time"].iloc[-1]
    return {f"kept_{t}": float(row_at(curve, t)["survival"]) for t in TENURES if first < t <= last}


def _ratio(cells: pd.DataFrame, name: str) -> dict[str, float]:
    """Hazard ratio of the relationship index for voluntary exits and those the definition adds."""
    rows = index_rows(cells, index_scale(cells), [CAUSE, name])
    if (
        rows.loc[rows["event"] == 1, "n"].sum() < rules.per_parameter
    ):  # one definition's model would withhold all of them
        return {}
    try:
        fit = cox(rows, ["index"])
    except FitError:
        return {}
    row = fit.summary().iloc[0]
    return {"index_ratio": row["hazard_ratio"], "ratio_low": row["ci_low"], "ratio_high": row["ci_high"]}
