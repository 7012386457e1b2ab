"""Study 4 on trial: composite and latent paths, behaviour after the survey, who answers, and referrals."""

from __future__ import annotations

import functools
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from crmresearch.data.reductions import loyalty as reductions
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.lab.recover.harness import HARDER, Estimator, findings, given, reduced
from crmresearch.studies import loyalty

if TYPE_CHECKING:
    import pandas as pd

    from crmresearch.data.bank import Bank

SEED = 1  # of resamples; banks differ by their own seed
SURVEY = ("customers", "survey")
ACCOUNTS = (*SURVEY, "monthly", "holdings", "service")


def _first_wave(bank: Bank) -> tuple[PathModel, pd.DataFrame]:
    survey = reduced(bank, reductions.survey, wave=1)
    model = loyalty.declared_model(bank.about.constructs, bank.about.paths, survey)
    return model, given(loyalty.prepare_items(survey, model))


def _joined(bank: Bank) -> tuple[pd.DataFrame, PathModel]:
    joined = reduced(bank, reductions.joined)
    return joined, loyalty.declared_model(bank.about.constructs, bank.about.paths, joined)


def paths(bank: Bank) -> dict[str, Estimate]:
    """S10: composite paths of the PLS model, behind HTMT and the one-factor rival."""
    model, items = _first_wave(bank)
    gates = loyalty.path_gates(model, loyalty.htmt(items, model, resamples=400, seed=SEED))
    rival = loyalty.factor_models(items, model.connected)
    result = loyalty.path_model(items, model, gates=gates, rival=rival, scaled=False, resamples=400, seed=SEED)
    return findings(result, "S10a", "S10b", "S10c", "S10d")


def latent_paths(bank: Bank) -> dict[str, Estimate]:
    """Latent paths by consistent PLS on polychoric correlations."""
    model, items = _first_wave(bank)
    result = loyalty.ordinal_beside_linear(items, model, resamples=100, seed=SEED)
    return findings(result, **{"path.SAT_LOY": "latent, ordinal", "path.SAT_LOY linear items": "latent, linear"})


def importance(bank: Bank) -> dict[str, Estimate]:
    """S50 and S16b: part of quality in the explained variance of satisfaction; interaction with privacy concern."""
    model, items = _first_wave(bank)
    gates = loyalty.path_gates(model, loyalty.htmt(items, model, resamples=400, seed=SEED))
    out = findings(loyalty.importance_performance(items, model, gates=gates, resamples=400, seed=SEED), "S50")
    return out | findings(loyalty.moderation(items, model), "S16b")


def behaviour(bank: Bank) -> dict[str, Estimate]:
    """S12 and S12a: contribution and hazard of leaving after the survey."""
    joined, model = _joined(bank)
    out = findings(loyalty.exit_hazard(joined, model), "S12a")
    return out | findings(loyalty.later_contribution(joined, model), "S12")


MEANS = {
    "satisfaction.mean weighted": "satisfaction_mean",
    "satisfaction.mean bounds": "satisfaction_bounds",
    "naive: respondents only": "satisfaction_completers",
}


def response(bank: Bank) -> dict[str, Estimate]:
    """Mean satisfaction of all invited: respondents only, weighted by accounts, and bounds."""
    joined, model = _joined(bank)
    return findings(loyalty.nonresponse(joined, model, gamma=3.0), **MEANS)


def referral_gaps(bank: Bank) -> dict[str, Estimate]:
    """S44a and S44b: referred against matched other customers."""
    referred = reduced(bank, reductions.referred)
    return findings(loyalty.referral_gaps(referred, resamples=99, seed=SEED), "S44a", "S44b")


@functools.cache
def _standardised_path(world: str, months: int) -> float:
    """Latent path from satisfaction to loyalty in the first wave, of unit variance, from 240,000 customers.

    Complaints and priority add to the variance of satisfaction, so that this is a little more than the parameter.
    """
    import numpy as np

    from crmresearch.lab.simulated.campaigns import wave_months
    from crmresearch.lab.simulated.life import draw_life
    from crmresearch.lab.simulated.settings import BLOCK, Settings

    settings = Settings(240 * BLOCK, months, 900_001, world)
    month = wave_months(months)[0]
    parts = []
    for block in range(settings.blocks):
        life = draw_life(settings, block)
        there = (life.people.acquired < month) & (life.left > month + 1)
        parts.append(np.column_stack([life.attitudes[c][there, 0] for c in ("IMAG", "SAT", "LOY")]))
    r = np.corrcoef(np.concatenate(parts), rowvar=False)
    return float(np.linalg.solve(r[:2, :2], r[:2, 2])[1])


def _latent(truth: dict[str, Any]) -> dict[str, float]:
    value = _standardised_path(truth["world"], truth["months"])
    return {"path.SAT_LOY": value, "path.SAT_LOY linear items": value}


# One bank of the reference bank's size serves every estimator; false positives and biases show in smaller ones.
SMALLER = {"null": 14_000, "one_factor_survey": 6_000, "mar_response": 4_000, "mnar_response": 4_000}


BETWEEN = "loyalty_to_later_satisfaction"
PATHS = ("S10a", "S10b", "S10c", "S10d")
ONE_FACTOR, RESPONSE = (*HARDER, "one_factor_survey"), ("baseline", "mar_response", "mnar_response")


def _on_trial(
    name: str, run: Any, tables: tuple[str, ...], truth: Any = MappingProxyType({}), **more: Any
) -> Estimator:
    """Make an estimator; where ``nothing`` has an effect symmetry gives its truth, elsewhere a stored limit does.

    S50 has none there: where nothing is explained, nothing can be shared out (its gate closes). S10a to S10d cover more
    than 95%: PLS takes its weights from the neighbours of a construct, and unrelated neighbours leave them to chance in
    every resample; a product of two paths that are both 0 is conservative on top of that.
    """
    more = {"sizes": SMALLER, "limits": tuple(more.get("nothing", ()))} | more
    return Estimator(name, "loyalty", run, truth, tables=tables, **more)


ESTIMATORS = [
    _on_trial("paths", paths, SURVEY, worlds=ONE_FACTOR, nothing=dict.fromkeys(PATHS, 0)),
    _on_trial("latent_paths", latent_paths, SURVEY, _latent, worlds=("baseline",), seeds=200),
    _on_trial("importance", importance, SURVEY, worlds=HARDER, nothing={"S50": math.nan, "S16b": 0}),
    _on_trial(
        "intention", lambda bank: findings(loyalty.intention_behaviour(_joined(bank)[0]), "stated_over_actual"),
        SURVEY, {"stated_over_actual": "intention_factor"},
    ),
    _on_trial("behaviour", behaviour, ACCOUNTS, worlds=HARDER, nothing={"S12": 0, "S12a": 1}),
    _on_trial("response", response, ACCOUNTS, dict.fromkeys(MEANS, "satisfaction.mean"), worlds=RESPONSE),
    _on_trial(
        "drift", lambda bank: findings(loyalty.drift(*_joined(bank)), "S16", "S48"), SURVEY,
        worlds=HARDER, nothing={"S16": 0, "S48": 0}, limits=("S16",),
    ),
    _on_trial(
        "lagged", lambda bank: findings(loyalty.cross_lagged(*_joined(bank), resamples=200, seed=SEED), BETWEEN),
        SURVEY, nothing={BETWEEN: 0},
    ),
    _on_trial(
        "referral_rate", lambda bank: findings(loyalty.referral_rate(*_joined(bank)), "S44"), SURVEY,
        worlds=HARDER, nothing={"S44": 1},
    ),
    _on_trial("referral_gaps", referral_gaps, ACCOUNTS, nothing={"S44a": 1, "S44b": 0}),
]  # fmt: skip
