"""Study of what goes with staying: the relationship index, read some months earlier (S06)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.blocks import Functional, constant
from crmresearch.estimators.inference import Estimate, ends, normal
from crmresearch.estimators.survival.cox import cox
from crmresearch.estimators.survival.diagnostics import by_lifelines, diagnose
from crmresearch.estimators.survival.index import (
    ByBlock,
    IndexModels,
    further_lines,
    index_models,
    index_rows,
    index_scale,
)
from crmresearch.estimators.verdicts import Deviation, outlives
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study
from crmresearch.studies import Choices, Frames, Setting
from crmresearch.studies.churn.gates import EVENTS_PER_PARAMETER, entry_independence, model_gates

CAUSE = "voluntary"
BOUND = 0.97  # of S06
VERDICT_LAG = 3  # months, fixed beforehand; other lags are sensitivity
OTHERS = {"doubtful": (CAUSE, "unknown", "dormant"), "every": None}  # causes that may hide an exit; all of them
TENURE_BANDS = (2, 5, 10)  # years
WEIGHTS = {"equal": (1.0, 1.0), "products": (1.0, 0.0), "requests": (0.0, 1.0)}  # of the parts of the index
LIBRARY_GAP = 1e-6  # most by which lifelines' coefficient or error may differ
say = words.of("churn.relationship")
say_tenure = words.of("churn.by_tenure")


def forest(table: pd.DataFrame, title: str, x: str, size: tuple[float, float]) -> Picture:
    """Hazard ratios with intervals, one row per model, on a log scale; the model of the verdict is coloured."""
    strong = table["verdict"] if table["verdict"].any() else True
    data = table.rename(columns={"hazard_ratio": "estimate"})
    data = data.assign(label=[say("label", row=r) for _, r in table.iterrows()], strong=strong)
    return Picture("intervals", data, title, x, options={"log": True, "marks": [Mark(1)]}, size=size)


def model_row(model: str, line: Any, verdict: bool = False) -> dict[str, Any]:
    """One line of a forest table, from a line of a fit's summary."""
    ratio = {k: float(line[k]) for k in ("hazard_ratio", "ci_low", "ci_high", "p")}
    return {"model": model, **ratio, "events": int(line["events"]), "n": int(line["n"]), "verdict": verdict}


def hazard_ratio(line: Any, n: int, checks: tuple[Check, ...] = ()) -> Estimate:
    """Hazard ratio for the ledger; the claim says that it lies below 1."""
    return normal(line["coef"], line["se"], "hazard ratio", n, log=True, checks=checks)


def _gates(models: IndexModels, entry: pd.DataFrame) -> tuple[Check, ...]:
    lines, fit = models.lines.to_dict("index"), models.fits[VERDICT_LAG]
    lags = [k for k in lines if k not in OTHERS]
    first, last, doubtful = lines[VERDICT_LAG], lines[lags[-1]], lines["doubtful"]
    # as for proportional hazards: a move by its own size, and by .2 at least; the errors at two lags go together, so
    # that the interval of the move is on the wide side
    move, se = last["coef"] - first["coef"], math.hypot(first["se"], last["se"])
    moved = Deviation(move, *ends(move, se), limit=max(abs(first["coef"]), 0.2))
    kept = outlives(BOUND, *((b["ci_low"], b["ci_high"]) for b in (first, doubtful)))
    strata = models.rows["stratum"].nunique()  # every stratum has a baseline hazard of its own
    by_lag = ", ".join(say("at", lag=k, b=lines[k]) for k in lags)
    return (
        *model_gates(fit.events, 1 + strata, **models.figures),
        gate(say, "lag", moved, lags=by_lag),
        entry_independence(entry),
        gate(say, "doubtful", kept, none=first, every=doubtful, limit=BOUND),
    )


def index_hazard_ratio(
    by_lag: Mapping[int, pd.DataFrame], entry: pd.DataFrame, *, groups: Sequence[str] = ()
) -> Estimate:
    """Hazard ratio of the index three months earlier with its gates, without the models :func:`relationship` adds.

    Parameters
    ----------
    by_lag, groups
        As in :func:`relationship`.
    entry : DataFrame
        Spells, for the gate on late entry.

    Raises
    ------
    FitError
        No exits, or separation.
    """
    models = index_models(by_lag, CAUSE, {"doubtful": OTHERS["doubtful"]}, lag=VERDICT_LAG, groups=groups)
    return hazard_ratio(models.lines.loc[VERDICT_LAG], int(entry["n"].sum()), _gates(models, entry))


@study
def specified(
    cells: pd.DataFrame, entry: pd.DataFrame, *, exits: str = CAUSE, groups: Sequence[str] = (), weights: str = "equal"
) -> Result:
    """Hazard ratio of the index by one specification of :data:`CHOICES`, with the gates of its own model.

    What :func:`relationship` asks of other lags and of doubtful causes are specifications here, and no gates.

    Parameters
    ----------
    cells : DataFrame
        Person-months, the parts of the index read so many months earlier as the specification says.
    entry : DataFrame
        Spells, for the gate on late entry.
    exits, weights : str
        As in :data:`CHOICES`.
    groups : sequence of str
        Strata.
    """
    if f"events {CAUSE}" not in cells.columns:
        raise NotApplicable(say("unrecorded"), "customers")
    rows = index_rows(cells, index_scale(cells, WEIGHTS[weights]), {CAUSE: (CAUSE,), **OTHERS}[exits], groups)
    fit = cox(rows, ["index"], strata="stratum" if groups else None)
    line = fit.summary().iloc[0]
    checks = model_gates(fit.events, 1 + rows["stratum"].nunique(), **diagnose(fit, rows, "index"))
    estimate = hazard_ratio(line, int(entry["n"].sum()), (*checks, entry_independence(entry)))
    table = pd.DataFrame([model_row(exits, line)])
    told = say_tenure("ratio", row=table.iloc[0])
    return Result(table, told, estimates={"S06": estimate}, counts=(("n",), ("events",)))


def _ask(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting], Estimate | Missing]:
    strata = tuple(g for g in frames("churn.groups_of") if g != "acquisition_channel")
    months = frames("churn.person_months_by_lag", lags=tuple(CHOICES.options["lag"]), groups=strata)
    entry = frames("churn.spells")

    def one(setting: Setting) -> Estimate | Missing:
        cells: Any = months if isinstance(months, Missing) else months[setting["lag"]]
        groups = strata if setting["strata"] == "declared" else ()
        return specified(cells, entry, exits=setting["exits"], groups=groups, weights=setting["weights"]).finding("S06")

    return one


def _above(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting, float], Functional | Missing]:
    strata = tuple(g for g in frames("churn.groups_of") if g != "acquisition_channel")
    months = frames("churn.person_months_by_lag", lags=tuple(CHOICES.options["lag"]), groups=(*strata, "block"))

    @cache
    def counted(lag: int, groups: tuple[str, ...]) -> ByBlock:
        return ByBlock.read(months[lag], groups)

    @cache
    def log_ratio(exits: str, lag: int, declared: str, weights: str) -> Functional | Missing:
        if isinstance(months, Missing):
            return months
        groups, causes = strata if declared == "declared" else (), {CAUSE: (CAUSE,), **OTHERS}[exits]
        blocks = 1 + max(int(cells["block"].max()) for cells in months.values())
        try:
            return counted(lag, groups).log_ratio(WEIGHTS[weights], causes, groups, blocks)
        except FitError as error:
            return Missing(str(error))

    def above(setting: Setting, at: float) -> Functional | Missing:
        found = log_ratio(*(setting[c] for c in ("exits", "lag", "strata", "weights")))
        return found if isinstance(found, Missing) else found - constant(math.log(at), len(found.influence))

    return above


CHOICES = Choices(
    "S06",
    {"exits": (CAUSE, "doubtful", "every"), "lag": (VERDICT_LAG, 0, 6), "strata": ("declared", "none"),
     "weights": tuple(WEIGHTS)},
    _ask,
    above=_above,
)  # fmt: skip


@study
def relationship(
    by_lag: Mapping[int, pd.DataFrame],
    entry: pd.DataFrame,
    *,
    groups: Sequence[str] = (),
    resamples: int = 100,
    seed: int = 0,
) -> Result:
    """Hazard ratio of voluntary exit for one standard deviation of the relationship index, over models (S06).

    Parameters
    ----------
    by_lag : mapping of int to DataFrame
        Person-month cells with ``families`` and ``unmet`` read so many months earlier; lag 3 decides.
    entry : DataFrame
        Spells with ``families`` and ``unmet`` at entry.
    groups : sequence of str
        Columns of the cells that form strata (tier, value band): each has its own baseline hazard.
    resamples, seed : int
        Bootstrap of Fine and Gray's model; 0 takes its model-based errors.

    Returns
    -------
    Result
        Forest table: ``model, hazard_ratio, ci_low, ci_high, p, events, n, verdict``; ``n`` are person-months for
        models with a changing index, customers otherwise. Gates: proportional hazards, events per parameter,
        separation, influence, lag, late entry, doubtful causes by bounds, agreement with lifelines, whose fit is the
        ``model``.

    Notes
    -----
    A customer leaves once, so the months of one customer are no repeated outcomes and the errors of the partial
    likelihood hold for start-stop rows (Andersen and Gill 1982, Annals of Statistics 10).
    """
    cells = by_lag[VERDICT_LAG]
    if isinstance(cells, Missing):
        return Result.not_applicable(cells)
    if f"events {CAUSE}" not in cells.columns:
        raise NotApplicable(say("unrecorded"), "customers")
    models = index_models(by_lag, CAUSE, OTHERS, lag=VERDICT_LAG, groups=groups)
    more = further_lines(cells, entry, models.scale, CAUSE, groups=groups, resamples=resamples, seed=seed)
    model, gap = by_lifelines(models.fits[VERDICT_LAG], models.rows, "stratum" if groups else None)
    lags = {k: say("lagged" if k > 1 else "lagged_one", lag=k) for k in sorted(by_lag)}
    names: dict[Any, str] = {**say.names("models"), **lags}
    order = ["ignored", "respected", "weibull", *lags, "monthly", "every", "incidence"]
    lines = pd.concat([more, models.lines]).loc[order].to_dict("index")
    table = pd.DataFrame([model_row(names[k], line, verdict=k == VERDICT_LAG) for k, line in lines.items()])
    estimate = hazard_ratio(models.lines.loc[VERDICT_LAG], int(entry["n"].sum()), _gates(models, entry))
    main, naive = table[table["verdict"]].iloc[0], table.iloc[0]
    title = say("title_lower", main=main) if main["ci_high"] < 1 else say("title_open")
    title = say("title_higher", main=main) if main["ci_low"] > 1 else title
    return Result(
        table,
        say("sentence", main=main, naive=naive, weibull=lines["weibull"]),
        (*estimate.checks, gate(say, "library", gap <= LIBRARY_GAP, gap=gap, limit=LIBRARY_GAP)),
        {"S06": estimate},
        picture=forest(table, title, say("x", n=estimate.n), (7.6, 4.6)),
        counts=(("n",), ("events",)),
        details={"fits": models.fits, "scale": models.scale},
        model=model,
    )


@study
def by_tenure(cells: pd.DataFrame, *, groups: Sequence[str] = ()) -> Result:
    """Hazard ratio of the relationship index by tenure: what replaces one ratio where it is not constant.

    Parameters
    ----------
    cells : DataFrame
        Person-months as for :func:`relationship`, read three months earlier.
    groups : sequence of str
        Strata.

    Returns
    -------
    Result
        Forest table by band of tenure.
    """
    if f"events {CAUSE}" not in cells.columns:
        raise NotApplicable(say("unrecorded"), "customers")
    rows, out = index_rows(cells, index_scale(cells), [CAUSE], groups), []
    for low, high in pairwise([0, *TENURE_BANDS, np.inf]):
        part = rows[(rows["exit"] > 12 * low) & (rows["exit"] <= 12 * high)]
        name = say_tenure("over", low=low) if np.isinf(high) else say_tenure("band", low=low, high=high)
        if (part["n"] * part["event"]).sum() >= 2 * EVENTS_PER_PARAMETER:
            out.append(model_row(name, cox(part, ["index"], strata="stratum" if groups else None).summary().iloc[0]))
    if not out:
        raise NotApplicable(say_tenure("too_few"), "customers")
    table = pd.DataFrame(out)
    first, last = table.iloc[0], table.iloc[-1]
    title = say_tenure("title_alike")
    if last["ci_high"] < first["ci_low"] or last["ci_low"] > first["ci_high"]:
        title = say_tenure("title", first=first, last=last)
    spread = ", ".join(say_tenure("ratio", row=r) for _, r in table.iterrows())
    return Result(
        table.drop(columns="verdict"),
        say_tenure("sentence", spread=spread),
        picture=forest(table, title, say_tenure("x"), (7.2, 2.8)),
        counts=(("n",), ("events",)),
    )
