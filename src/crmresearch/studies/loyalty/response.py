"""Who answers: inverse response probabilities from accounts, and bounds for what accounts cannot show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.inference import Estimate, normal
from crmresearch.estimators.measurement.model import PathModel, complete_answers
from crmresearch.estimators.measurement.panel import account_covariates
from crmresearch.estimators.measurement.response import clustered_mean, gamma_bounds, weighted_response
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Result, gate
from crmresearch.studies.loyalty.answers import forest, survey_study, tabled

say = words.of("loyalty.response")
OVERLAP = 0.02  # smallest modelled chance of an answer


@survey_study
def nonresponse(joined: pd.DataFrame, model: PathModel, *, gamma: float = 1.5) -> Result:
    """Mean satisfaction of all invited customers: respondents as they come, weighted by accounts, and bounds.

    Weights are inverse response probabilities from what accounts knew before the wave. They remove the bias of
    completers-only means when response depends on those things, and only reduce it when it depends on satisfaction
    itself. For that case there are two pairs of bounds: the odds of answering may differ from the modelled ones by a
    factor ``gamma`` either way (Zhao, Small and Bhattacharya 2019), and the worst case, in which all who are silent
    would give the lowest or the highest answer (Manski).

    Returns
    -------
    Result
        Satisfaction as the mean of its items, in their unit. ``estimates["satisfaction_mean"]`` is the weighted mean,
        ``estimates["satisfaction_bounds"]`` the gamma bounds widened by sampling error.
    """
    if gamma < 1:
        raise InputError(say("gamma", gamma=gamma))
    if "responded" not in joined.columns or bool(joined["responded"].all()):
        raise NotApplicable(say("absent"))
    complete_answers(joined, model)
    (name,) = model.need("satisfaction")
    block = joined[list(model.constructs[name])].astype(float)
    value = block.mean(axis=1, skipna=False).to_numpy(float)
    answered = (joined["responded"].astype(bool) & ~np.isnan(value)).to_numpy()
    x, cluster, y = account_covariates(joined), joined["customer_id"].to_numpy(), value[answered]
    fit = weighted_response(x, answered, value, cluster)
    w = 1 / fit.probability[answered]
    share, n, unit = answered.mean(), len(y), say("unit")
    plain = normal(*clustered_mean(y, cluster[answered]), unit, n)
    weighted = normal(fit.mean, fit.se, unit, n)
    tilted = [normal(bound, fit.se, unit, n) for bound in gamma_bounds(y, w, gamma)]
    scale = model.ends(name) or (block.min().min(), block.max().max())
    low, high = (float(share * y.mean() + (1 - share) * end) for end in scale)
    bounds = Estimate(fit.mean, tilted[0].ci_low, tilted[1].ci_high, unit, n)
    worst = Estimate(fit.mean, low, high, unit, n)
    means = {say("plain"): plain, say("weighted"): weighted, say("odds", gamma=gamma): bounds, say("worst"): worst}
    table = tabled(means, "estimate_of", "mean").assign(invited=len(joined))
    differences = {
        say("before"): (x[answered].mean() - x.mean()).div(x.std()),
        say("after"): (x[answered].mul(w, axis=0).sum() / w.sum() - x.mean()).div(x.std()),
    }
    balance = (
        pd.concat(differences, names=["group", "label"])
        .rename("estimate")
        .reset_index()
        .assign(low=np.nan, high=np.nan, n=len(joined))
    )
    sentence = say(
        "sentence", share=share, invited=len(joined), plain=plain, weighted=weighted, bounds=bounds, worst=worst,
        gamma=gamma,
    )  # fmt: skip
    effective = w.sum() ** 2 / (w**2).sum()
    scarce = np.flatnonzero(answered)[fit.probability[answered].argmin()]
    least = Deviation(fit.probability[scarce], fit.low[scarce], fit.high[scarce], limit=OVERLAP, least=True)
    raw = balance[balance["group"] == say("before")]
    most = raw.loc[raw["estimate"].abs().idxmax()]
    picture = (
        forest(balance, "label", "estimate", say("balance_title", most=most), say("balance_x", n=len(joined))),
        forest(table, "estimate_of", "mean", say("title", plain=plain, weighted=weighted), say("x", n=n), mark=None),
    )
    checks = (gate(say, "overlap", least, effective=effective, n=n), gate(say, "accounts", None, gamma=gamma))
    estimates = {"satisfaction_completers": plain, "satisfaction_mean": weighted, "satisfaction_bounds": bounds}
    return Result(table, sentence, checks, estimates, picture=picture, counts=("n", "invited"))
