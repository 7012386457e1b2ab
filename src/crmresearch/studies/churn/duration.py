"""Does the hazard fall for everyone, or do those who would leave leave first? Four models of the same spells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, FitWarning, Missing
from crmresearch.estimators.survival.discrete import frailty
from crmresearch.estimators.survival.risk import churn_study, read_spells
from crmresearch.result import Check, Result
from crmresearch.studies.churn.gates import enough_events
from crmresearch.studies.churn.retention import no_exits

Z = 1.959963984540054


def _contractual(spells: pd.DataFrame) -> list[dict[str, Any]]:
    """Beta-geometric and beta-discrete-Weibull models, conditional on survival to entry; none where they do not fit."""
    from crmresearch.estimators.lifetime import BetaDiscreteWeibullFitter, ShiftedBetaGeoFitter

    entry = spells["entry"].to_numpy(int) if "entry" in spells.columns else None
    months, gone, n = (spells[c].to_numpy() for c in ("exit", "event", "n"))
    rows = []
    kinds: dict[str, type[ShiftedBetaGeoFitter] | type[BetaDiscreteWeibullFitter]] = {
        "beta-geometric (sBG)": ShiftedBetaGeoFitter,
        "beta-discrete-Weibull": BetaDiscreteWeibullFitter,
    }
    for name, kind in kinds.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)  # a flat direction shows as an endless interval
            try:
                fit = kind().fit(months.astype(int), gone.astype(bool), n, entry)
            except FitError:
                continue
        first, second = fit.params_.iloc[:2]
        # log of the sum of both: its error by the delta method carries over to 1 / (1 + sum)
        gradient = np.array([first, second]) / (first + second)
        relative = np.diag(1 / fit.params_.to_numpy()[:2]) @ fit.variance_matrix_.to_numpy()[:2, :2]
        relative = relative @ np.diag(1 / fit.params_.to_numpy()[:2])
        half = Z * float(np.sqrt(max(gradient @ relative @ gradient, 0.0)))
        low, high = (1 / (1 + (first + second) * np.exp(k * half)) for k in (1, -1))
        power = fit.params_.get("c")
        ends = fit.confidence_intervals_.loc["c"].to_numpy(float) - 1 if power is not None else (np.nan, np.nan)
        rows.append(
            {
                "model": name,
                "slope": 0.0 if power is None else float(power) - 1,
                "slope_low": ends[0],
                "slope_high": ends[1],
                "differences": "polarisation",
                "size": 1 / (1 + first + second),
                "size_low": low,
                "size_high": high,
                "loglik": fit.log_likelihood_,
            }
        )
    return rows


@churn_study
def duration_dependence(spells: pd.DataFrame, *, of_interest: str | None = "voluntary", dated: bool = True) -> Result:
    """Does leaving get rarer with tenure for everyone, or do those who would leave leave first?

    Parameters
    ----------
    spells : DataFrame
        Spells in whole months.
    of_interest : str, optional
        Cause that is modelled; other exits are censored. None models every exit.
    dated : bool
        Whether the data have dates; months on book at one snapshot cannot carry this model.

    Returns
    -------
    Result
        Table: how the hazard moves with tenure (``slope``: its power, with interval; the sBG assumes none) and how far
        customers differ, in four models: Weibull without and with a gamma frailty, beta-geometric, and
        beta-discrete-Weibull. All log likelihoods are of whole months, conditional on survival to entry, and so
        comparable.
    """
    if not dated:
        reason = "months on book at one snapshot do not tell whether leaving gets rarer: who left before is missing"
        return Result.not_applicable(Missing(reason, ("customers",)))
    if of_interest is not None and "cause" in spells.columns and (spells["cause"] == of_interest).any():
        spells = spells.assign(event=(spells["event"].astype(bool) & (spells["cause"] == of_interest)).astype(int))
    empty = no_exits(spells)
    if empty is not None:
        return empty
    keys = [c for c in ("entry", "exit", "event") if c in spells.columns]
    spells = spells.assign(n=spells["n"] if "n" in spells.columns else 1)
    for c in ("entry", "exit"):  # to whole months, the unit of the model
        if c in keys:
            spells[c] = np.ceil(spells[c])
    spells = spells[spells["exit"] > (spells["entry"] if "entry" in keys else 0)].groupby(keys)["n"].sum().reset_index()
    fit = frailty(spells)
    low, high = fit.variance_ci
    common = {"differences": "variance of the frailty"}
    rows: list[dict[str, Any]] = [
        {
            "model": "no differences, Weibull",
            "slope": fit.shape_plain,
            "slope_low": fit.shape_plain_ci[0],
            "slope_high": fit.shape_plain_ci[1],
            "differences": "none",
            "size": 0.0,
            "loglik": fit.loglik_plain,
        },
        {
            "model": "gamma frailty, Weibull",
            "slope": fit.shape,
            "slope_low": fit.shape_ci[0],
            "slope_high": fit.shape_ci[1],
            **common,
            "size": fit.variance,
            "size_low": low,
            "size_high": high,
            "loglik": fit.loglik,
        },
        *_contractual(spells),
    ]
    table = pd.DataFrame(rows).assign(n=fit.n)
    exits = float(read_spells(spells).n @ read_spells(spells).event)
    checks = (
        enough_events(exits, 3),
        Check(
            "form of the hazard",
            "declared",
            "with one spell per customer, frailty is told from duration dependence by the Weibull form alone",
            "undecided",
        ),
    )
    sentence = (
        "Without unobserved differences between customers the hazard goes with tenure to the power "
        f"{fit.shape_plain:+.2f}; allowing for them it is {fit.shape:+.2f}, with a frailty variance of "
        f"{fit.variance:.2f} [{low:.2f}, {high:.2f}] (p = {fit.p:.2g} against none). A hazard that falls less once "
        "frailty is allowed for means that sorting, not loyalty, explains part of the fall."
    )
    by_name = table.set_index("model")
    if "beta-geometric (sBG)" in by_name.index:
        worse = float(by_name["loglik"].max() - by_name.loc["beta-geometric (sBG)", "loglik"])
        sentence += (
            " The beta-geometric model, in which differences explain the whole fall, lies "
            f"{worse:.1f} below the best log likelihood."
        )
    return Result(table, sentence, checks)
