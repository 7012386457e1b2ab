"""Predicting who leaves, scored on later customers (S15), and the action list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, Missing, NotApplicable
from crmresearch.estimators.inference import ends, from_draws
from crmresearch.estimators.survival import predict
from crmresearch.estimators.survival.diagnostics import scarcest
from crmresearch.estimators.survival.exitmodel import LINEAR, fit_exit_model, recency_rule
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Result, gate, study
from crmresearch.studies.churn.gates import model_gates
from crmresearch.studies.churn.index import CAUSE

TEST_HORIZONS = (6, 12)
STEEPEST = 1.25  # slope of calibration beyond which, or below its inverse, a prediction is not believed
say = words.of("churn.forecast")


@study
def forecast(
    earlier: pd.DataFrame, later: pd.DataFrame, *, horizon: int = 12, repeats: int = 200, seed: int = 0
) -> Result:
    """Score predictions of voluntary exit on what followed a later date than the model was fitted on (S15).

    Parameters
    ----------
    earlier, later : DataFrame
        Landmark rows of two dates, the second not before the first's follow-up ends; never a random split.
    horizon : int
        Months since the prediction date.
    repeats, seed : int
        Bootstrap of the scored customers for the interval of skill.

    Returns
    -------
    Result
        Table by horizon and rule (model, recency): Brier score, null Brier score, skill, concordance (Uno), area
        under the curve, calibration slope, capture in the top tenth. Two panels: calibration and decision curve.
    """
    if not (earlier["cause"] == CAUSE).any() or not (later["cause"] == CAUSE).any():
        raise NotApplicable(say("nobody", cause=CAUSE), "customers")
    model, names = fit_exit_model(earlier, (CAUSE,)), say.names("rules")
    # who is followed to the end of a month has lived through it: censored half a month later than exits of that month
    test = later.assign(
        of_interest=(later["cause"] == CAUSE).astype(int), entry=0, exit=later["exit"] + 0.5 * (later["event"] == 0)
    )
    rules = {names["model"]: lambda h: model.risk(test, h)}
    if "recency" in test.columns:
        rules[names["recency"]] = lambda h: recency_rule(earlier, test, h, CAUSE)
    horizons = sorted({h for h in (*TEST_HORIZONS, horizon) if h <= horizon})
    predicted = {h: {name: rule(h) for name, rule in rules.items()} for h in horizons}
    scores = [_scores(test, p, h, name) for h, own in predicted.items() for name, p in own.items()]
    table, best = pd.DataFrame(scores), predicted[horizon]
    here = table[table["months"] == horizon].set_index("rule")
    main = here.loc[names["model"]]
    draws = predict.score_bootstrap(test, best, horizon, repeats=repeats, seed=seed)
    skill = draws[f"skill {names['model']}"]
    estimate = predict.percentile_interval(skill, float(main["skill"]), say("unit"), len(test))
    gain = ""
    if len(rules) > 1:
        gaps = 100 * (draws[f"capture {names['model']}"] - draws[f"capture {names['recency']}"])
        gap = (gaps.mean(), *from_draws(gaps)[1:])
        gain = say("gain", main=main, other=here.loc[names["recency"]], gap=gap)
    low, high = ends(main["slope"], main["slope_se"])
    linear = [c for c in LINEAR if c in earlier and len(earlier[c].unique()) > 1]
    exits = earlier.assign(event=(earlier["cause"] == CAUSE).astype(int), entry=0)
    groups = {h: predict.calibration(test, own[names["model"]], h)[0] for h, own in predicted.items()}
    curve = predict.decision_curve(test, best, horizon, _thresholds(earlier))
    return Result(
        table,
        say("sentence", n=len(test), estimate=estimate, horizon=horizon, main=main, gain=gain),
        (
            *model_gates(model.own.events, len(model.columns), scarce=scarcest(exits, linear)),
            gate(say, "calibration", Deviation(float(main["slope"]), low, high, limit=STEEPEST, none=1)),
        ),
        {"S15": estimate},
        picture=(_calibration(groups, len(test)), _decision(curve, horizon, names["model"], len(test))),
        details={"model": model, "predicted": best[names["model"]], "curve": curve, "groups": groups[horizon]},
    )


def _scores(test: pd.DataFrame, p: np.ndarray, horizon: int, rule: str) -> dict[str, Any]:
    score, (_, line) = predict.brier(test, p, horizon), predict.calibration(test, p, horizon)
    return {
        "rule": rule,
        "months": horizon,
        "brier": score["brier"],
        "null_brier": score["null"],
        "skill": score["skill"],
        "concordance": predict.concordance(test, p, horizon + 0.5),
        "auc": predict.area_under_curve(test, p, horizon),
        "slope": line["slope"],
        "slope_se": line["slope_se"],
        "in_the_large": line["intercept"],
        "capture_top_tenth": predict.capture(test, p, horizon),
        "n": len(test),
    }


def _thresholds(earlier: pd.DataFrame) -> list[float]:
    """Break-even risks around the rate of exits after the earlier date."""
    rate = float((earlier["cause"] == CAUSE).mean())
    return list(np.linspace(0.25 * rate, 4 * rate, 16).clip(0.001, 0.9))


def _calibration(groups: dict[int, pd.DataFrame], n: int) -> Picture:
    data = pd.concat(g.assign(group=say("within", months=h)) for h, g in groups.items())
    last = groups[max(groups)]
    known = safe(last).dropna(subset="n")
    title = say("title_left", last=known.iloc[-1]) if len(known) else say("title_left_open")
    words_ = title, say("x_left", n=n), say("y_left")
    options = {"unit": "percent", "legend": say("legend"), "agreement": say("agreement")}
    return Picture("calibration", data, *words_, options)


def _decision(curve: pd.DataFrame, horizon: int, model: str, n: int) -> Picture:
    data = pd.DataFrame({"x": curve["threshold"], "y": 1000 * curve["net_benefit"], "group": curve["rule"], "n": n})
    low = data.loc[data["group"] == model, "y"].min()
    plain = {"strong": ~data["group"].isin(["everybody", "nobody"]), "dashed": data["group"] == "everybody"}
    wide = curve.pivot_table(index="threshold", columns="rule", values="net_benefit")
    best = wide.index[wide[model] > wide.drop(columns=model).max(axis=1)]
    title = say("title_right", low=best.min(), high=best.max()) if len(best) else say("title_no_use")
    words_ = title, say("x_right"), say("y_right", horizon=horizon)
    return Picture("curves", data.assign(**plain), *words_, {"x_unit": "percent", "ylim": (min(low, 0) - 2, None)})


def action_list(result: Result, rows: pd.DataFrame, top: int = 500) -> pd.DataFrame | Missing:
    """Customers at the highest predicted risk, for the restricted folder; never shown.

    Parameters
    ----------
    result : Result
        From :func:`forecast`.
    rows : DataFrame
        Landmark rows of the scored date.
    top : int
        Length of the list.
    """
    if result.missing is not None:
        return result.missing
    if len(rows) != len(result.details["predicted"]):
        raise FitError(say("other_rows"))
    risk = pd.DataFrame({"customer_id": rows["customer_id"], "predicted_exit_risk": result.details["predicted"]})
    risk = risk.sort_values(["predicted_exit_risk", "customer_id"], ascending=[False, True])
    return risk.head(top).reset_index(drop=True)
