"""The relationship index (products held up, unmet requests down) and the Cox models of leaving it goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.inference import two_sided_p
from crmresearch.estimators.survival.cox import CoxFit, cox
from crmresearch.estimators.survival.discrete import DiscreteFit, discrete_hazard, weibull_aft
from crmresearch.estimators.survival.finegray import fine_gray
from crmresearch.estimators.survival.risk import cell_rows

PARTS = ("families", "unmet")


def index_scale(cells: pd.DataFrame) -> pd.Series:
    """Means and spreads that make the relationship index from its parts, over person-months at risk."""
    w = cells["at_risk"].to_numpy(dtype=float)
    out: dict[str, float] = {}
    z = []
    for name in PARTS:
        x = cells[name].to_numpy(dtype=float)
        mean = float(np.average(x, weights=w))
        sd = float(np.sqrt(np.average((x - mean) ** 2, weights=w)))
        if sd <= 0:
            raise FitError("products held or unmet requests do not vary, so there is no relationship index")
        out |= {f"{name} mean": mean, f"{name} sd": sd}
        z.append((x - mean) / sd)
    raw = z[0] - z[1]
    out["sd"] = float(np.sqrt(np.average(raw**2, weights=w) - np.average(raw, weights=w) ** 2))
    return pd.Series(out)


def with_index(frame: pd.DataFrame, scale: pd.Series) -> pd.DataFrame:
    """Add the relationship index: products held up, unmet requests down, equal weights, standard deviation 1."""
    up, down = ((frame[c] - scale[f"{c} mean"]) / scale[f"{c} sd"] for c in PARTS)
    return frame.assign(index=(up - down) / scale["sd"])


def index_rows(
    cells: pd.DataFrame, scale: pd.Series, causes: Sequence[str] | None = None, groups: Sequence[str] = ()
) -> pd.DataFrame:
    """Start-stop rows with the index, exits of some causes (all when absent); ``stratum`` is the groups combined."""
    if causes is not None:
        named = [f"events {c}" for c in causes if f"events {c}" in cells.columns]
        cells = cells.assign(events=cells[named].sum(axis=1))
    rows = cell_rows(with_index(cells, scale))
    return rows.assign(stratum=rows.groupby(list(groups), sort=True).ngroup() if groups else 0)


@dataclass(frozen=True)
class IndexModels:
    """Cox models of one cause of leaving with the index read some months earlier.

    Attributes
    ----------
    scale : Series
        From :func:`index_scale`, at the lag that decides.
    fits : mapping of int to CoxFit
        By lag.
    others : mapping of str to CoxFit
        At the lag that decides, with exits of other causes as well.
    rows : DataFrame
        Start-stop rows of the fit that decides.
    """

    scale: pd.Series
    fits: Mapping[int, CoxFit]
    others: Mapping[str, CoxFit]
    rows: pd.DataFrame


def index_models(
    by_lag: Mapping[int, pd.DataFrame],
    cause: str,
    others: Mapping[str, Sequence[str] | None],
    *,
    lag: int,
    groups: Sequence[str] = (),
) -> IndexModels:
    """Fit Cox models of leaving with the relationship index, the baseline hazard being that of each group.

    Parameters
    ----------
    by_lag : mapping of int to DataFrame
        Person-month cells with ``families`` and ``unmet`` read so many months earlier.
    cause : str
        Exits modelled at every lag.
    others : mapping
        Further models at the lag that decides: name, and causes of exit (None for all).
    lag : int
        The lag that decides; the index is scaled there.
    groups : sequence of str
        Columns of the cells that form strata.

    Raises
    ------
    FitError
        No exits, separation, or an index that does not vary.
    """
    scale = index_scale(by_lag[lag])
    plan = {k: (k, [cause]) for k in sorted(by_lag)} | {name: (lag, causes) for name, causes in others.items()}
    rows = {name: index_rows(by_lag[k], scale, causes, groups) for name, (k, causes) in plan.items()}
    fits = {name: cox(part, ["index"], strata="stratum" if groups else None) for name, part in rows.items()}
    return IndexModels(scale, {k: fits[k] for k in sorted(by_lag)}, {name: fits[name] for name in others}, rows[lag])


def entry_models(spells: pd.DataFrame, scale: pd.Series, cause: str, *, resamples: int, seed: int) -> dict[str, Any]:
    """Fit models of one cause of leaving with the index at entry.

    Returns
    -------
    dict
        ``ignored`` and ``respected``: Cox models without and with late entry; ``weibull``: the line of the index in
        lifelines' model, with its ``p`` and ``events``; ``incidence``: Fine and Gray's model.
    """
    own = with_index(spells, scale)
    alone = own.assign(event=(own["cause"] == cause).astype(int))
    line = weibull_aft(alone, ["index"]).set_index("term").loc["index"]
    line = line.rename({"ci_low": "time_low", "ci_high": "time_high", "hr_low": "ci_low", "hr_high": "ci_high"})
    line["p"], line["events"] = float(two_sided_p(line["coef"], line["se"])), int((alone["n"] * alone["event"]).sum())
    pooled = own.groupby(["entry", "exit", "event", "cause", "index"], dropna=False)["n"].sum().reset_index()
    return {
        "ignored": cox(alone.assign(entry=0), ["index"]),
        "respected": cox(alone, ["index"]),
        "weibull": line,
        "incidence": fine_gray(pooled, ["index"], cause, repeats=resamples, seed=seed),
    }


def monthly_model(cells: pd.DataFrame, scale: pd.Series, cause: str, groups: Sequence[str]) -> DiscreteFit:
    """Fit the monthly hazard of one cause with the index, and a level for each group."""
    own = with_index(cells.assign(events=cells[f"events {cause}"]), scale)
    levels = {f"{g} {v}": (own[g] == v).astype(float) for g in groups for v in sorted(own[g].unique(), key=str)[1:]}
    return discrete_hazard(own.assign(**levels), ["index", *levels])
