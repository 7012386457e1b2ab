"""Study of duration dependence: does the hazard fall for everyone, or do those who would leave leave first?"""

from __future__ import annotations

import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.survival.duration import duration_models, whole_months
from crmresearch.result import Result, gate, study
from crmresearch.studies.churn.curves import need_exits
from crmresearch.studies.churn.gates import model_gates
from crmresearch.studies.churn.index import CAUSE

say = words.of("churn.duration")


@study
def duration_dependence(spells: pd.DataFrame, *, dated: bool = True) -> Result:
    """Does leaving get rarer with tenure for everyone, or do those who would leave leave first?

    Parameters
    ----------
    spells : DataFrame
        Spells in months. Where causes are recorded, voluntary exits are modelled and other exits are censored.
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
        raise NotApplicable(say("undated"), "customers")
    if "cause" in spells.columns and (spells["cause"] == CAUSE).any():
        spells = spells.assign(event=(spells["event"].astype(bool) & (spells["cause"] == CAUSE)).astype(int))
    need_exits(spells)
    spells = whole_months(spells)
    models, p = duration_models(spells)
    plain, frail = models.loc["plain"], models.loc["frailty"]
    sentence = say("sentence", plain=plain, frail=frail, p=p)
    if "sbg" in models.index:
        sentence += say("sorting", worse=models["loglik"].max() - models.loc["sbg", "loglik"])
    n, exits = int(spells["n"].sum()), int((spells["n"] * spells["event"]).sum())
    table = models.rename(index=say.names("models")).rename_axis("model").reset_index().assign(n=n)
    table.insert(4, "differences", [say.names("differences")[str(m)] for m in models.index])
    return Result(table, sentence, (*model_gates(exits, 3), gate(say, "form", None)))
