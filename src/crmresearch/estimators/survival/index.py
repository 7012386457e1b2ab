"""The relationship index (products held up, unmet requests down) and the Cox models of leaving it goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError
from crmresearch.estimators.blocks import Functional
from crmresearch.estimators.inference import two_sided_p
from crmresearch.estimators.survival.cox import CoxFit, cox, dfbeta
from crmresearch.estimators.survival.diagnostics import diagnose
from crmresearch.estimators.survival.discrete import discrete_hazard, weibull_aft
from crmresearch.estimators.survival.finegray import fine_gray

PARTS = ("families", "unmet")


def index_scale(cells: pd.DataFrame, weights: tuple[float, float] = (1.0, 1.0)) -> pd.Series:
    """Means, spreads and weights that make the relationship index from its parts, over person-months at risk."""
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
    raw = weights[0] * z[0] - weights[1] * z[1]
    out |= {f"{name} weight": weight for name, weight in zip(PARTS, weights, strict=True)}
    out["sd"] = float(np.sqrt(np.average(raw**2, weights=w) - np.average(raw, weights=w) ** 2))
    return pd.Series(out)


def with_index(frame: pd.DataFrame, scale: pd.Series) -> pd.DataFrame:
    """Add the relationship index: products held up, unmet requests down, standard deviation 1."""
    up, down = (scale[f"{c} weight"] * (frame[c] - scale[f"{c} mean"]) / scale[f"{c} sd"] for c in PARTS)
    return frame.assign(index=(up - down) / scale["sd"])


def _exits(cells: pd.DataFrame, causes: Sequence[str] | None) -> pd.Series:
    """Exits of some causes in each cell, or of all."""
    if causes is None:
        return cells["events"]
    return sum((cells[c] for c in (f"events {cause}" for cause in causes) if c in cells), start=0 * cells["events"])


def index_rows(
    cells: pd.DataFrame, scale: pd.Series, causes: Sequence[str] | None = None, groups: Sequence[str] = ()
) -> pd.DataFrame:
    """Write person-month cells as start-stop rows with the index, one for those who left and one for those who stayed.

    Parameters
    ----------
    cells : DataFrame
        ``tenure`` (month of tenure, 1 is the first), ``at_risk``, ``events``, ``events <cause>``, the parts of the
        index and the groups.
    scale : Series
        From :func:`index_scale`.
    causes : sequence of str, optional
        Exits that count; all by default.
    groups : sequence of str
        Columns whose combination is the ``stratum``.
    """
    left = _exits(cells, causes)
    rows = with_index(cells, scale).rename(columns={"tenure": "exit"})
    rows = rows.assign(entry=rows["exit"] - 1, stratum=rows.groupby(list(groups)).ngroup() if groups else 0)
    both = [rows.assign(event=1, n=left), rows.assign(event=0, n=rows["at_risk"] - left)]
    rows = pd.concat(both, ignore_index=True)[["entry", "exit", "event", "n", "index", "stratum"]]
    return rows[rows["n"] > 0].reset_index(drop=True)


@dataclass(frozen=True)
class ByBlock:
    """Person-month cells whose customers are counted by block.

    Attributes
    ----------
    cells : DataFrame
        Of all customers, as for :func:`index_rows`.
    counts : DataFrame
        ``at_risk`` and the events, a row for each block and cell.
    cell, block : array of int
        Of each row of the counts: place of the cell, and block.
    """

    cells: pd.DataFrame
    counts: pd.DataFrame
    cell: np.ndarray
    block: np.ndarray

    @classmethod
    def read(cls, cells: pd.DataFrame, groups: Sequence[str]) -> ByBlock:
        """Take cells with a column ``block``; groups that are not named are put together."""
        by = cells.groupby(["tenure", *groups, *PARTS])
        counted = [c for c in cells.columns if c == "at_risk" or c.startswith("events")]
        return cls(by[counted].sum().reset_index(), cells[counted], by.ngroup().to_numpy(), cells["block"].to_numpy())

    def log_ratio(
        self, weights: tuple[float, float], causes: Sequence[str] | None, groups: Sequence[str], blocks: int
    ) -> Functional:
        """Log hazard ratio of the index, with what each block contributes: its sum of score residuals, in one step.

        References
        ----------
        Lin and Wei (1989), JASA 84; the index is scaled as if its spread were known, as in the model's own error.
        """
        rows = index_rows(self.cells, index_scale(self.cells, weights), causes, groups)
        fit = cox(rows, ["index"], strata="stratum" if groups else None)
        moved = np.zeros(len(rows))
        own = dfbeta(fit)["index"] * fit.se["index"]
        moved[own.index] = own
        exits = _exits(self.cells, causes).to_numpy()
        there = np.r_[exits > 0, self.cells["at_risk"].to_numpy() > exits]
        both = np.zeros(len(there))
        both[there] = moved
        left, stayed = np.split(both, 2)
        gone = _exits(self.counts, causes).to_numpy()
        value = gone * left[self.cell] + (self.counts["at_risk"].to_numpy() - gone) * stayed[self.cell]
        return Functional(float(fit.params["index"]), np.bincount(self.block, value, minlength=blocks).astype(float))


@dataclass(frozen=True)
class IndexModels:
    """Cox models of one cause of leaving with the index read some months earlier.

    Attributes
    ----------
    scale : Series
        From :func:`index_scale`, at the lag that decides.
    rows : DataFrame
        Start-stop rows of the model that decides.
    fits : mapping
        Models by lag, and those with exits of other causes by name.
    lines : DataFrame
        The index' line in each of their summaries.
    figures : dict
        What speaks against the model that decides, from :func:`crmresearch.estimators.survival.diagnostics.diagnose`.
    """

    scale: pd.Series
    rows: pd.DataFrame
    fits: Mapping[int | str, CoxFit]
    lines: pd.DataFrame
    figures: dict[str, Any]


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
    lines = pd.concat([fit.summary() for fit in fits.values()]).set_axis(list(fits))
    return IndexModels(scale, rows[lag], fits, lines, diagnose(fits[lag], rows[lag], "index"))


def further_lines(
    cells: pd.DataFrame,
    spells: pd.DataFrame,
    scale: pd.Series,
    cause: str,
    *,
    groups: Sequence[str],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Fit other models of the same cause of leaving; return the index' line in each.

    Parameters
    ----------
    cells : DataFrame
        Person-months, for ``monthly``: the complementary log-log model, with a level for each group.
    spells : DataFrame
        With the parts of the index at entry, for ``ignored`` and ``respected`` (Cox models without and with late
        entry), ``weibull`` (with its time ratio) and ``incidence`` (Fine and Gray's model).
    scale, cause, groups
        As in :func:`index_models`.
    resamples, seed : int
        Bootstrap of Fine and Gray's model.
    """
    months = with_index(cells.assign(events=cells[f"events {cause}"]), scale)
    levels = {f"{g} {v}": 1.0 * (cells[g] == v) for g in groups for v in sorted(cells[g].unique(), key=str)[1:]}
    own = with_index(spells, scale)
    alone = own.assign(event=(own["cause"] == cause).astype(int))
    pooled = own.groupby(["entry", "exit", "event", "cause", "index"], dropna=False)["n"].sum().reset_index()
    fits: dict[str, Any] = {
        "ignored": cox(alone.assign(entry=0), ["index"]),
        "respected": cox(alone, ["index"]),
        "monthly": discrete_hazard(months.assign(**levels), ["index", *levels]),
        "incidence": fine_gray(pooled, ["index"], cause, repeats=resamples, seed=seed),
    }
    line = weibull_aft(alone, ["index"]).set_index("term").loc[["index"]]
    line = line.rename(columns={"ci_low": "time_low", "ci_high": "time_high", "hr_low": "ci_low", "hr_high": "ci_high"})
    line = line.assign(p=two_sided_p(line["coef"], line["se"]), events=(alone["n"] * alone["event"]).sum())
    lines = [f.summary().head(1) for f in fits.values()]
    return pd.concat([*lines, line]).set_axis([*fits, "weibull"])
