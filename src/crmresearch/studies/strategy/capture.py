"""Does analysing customers find who leaves? What a model captures, out of time, beyond a rule of thumb (S08)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import Estimate, from_draws
from crmresearch.estimators.survival import predict
from crmresearch.estimators.survival.exitmodel import fit_exit_model, recency_rule
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study

say = words.of("capture")
CAUSE = "voluntary"
LEAVERS = 100  # later leavers that a share of a tenth needs to be told
GRID = np.linspace(0, 1, 21)  # shares of customers at which the curves are drawn


@study
def leavers(earlier: pd.DataFrame, later: pd.DataFrame, *, horizon: int, resamples: int, seed: int) -> Result:
    """Share of later leavers among the tenth that a model ranks highest, less that of a recency rule (S08).

    Model and rule are learned from what followed an earlier date and rank the customers of a later one; the difference
    is taken from the same resamples of those.

    Parameters
    ----------
    earlier, later : DataFrame
        From :func:`crmresearch.data.reductions.churn.landmark`, the second not before the first's follow-up ends.
    horizon : int
        Months since the prediction date.
    resamples, seed : int
        Of the later customers.
    """
    if "recency" not in later:
        raise NotApplicable(say("no_recency"), "transactions")
    gone = later["cause"] == CAUSE
    if not (earlier["cause"] == CAUSE).any() or not gone.any():
        raise NotApplicable(say("nobody"), "customers")
    model = fit_exit_model(earlier, (CAUSE,))
    # who is followed to the end of a month has lived through it: censored half a month later than exits of that month
    test = later.assign(of_interest=gone.astype(int), entry=0, exit=later["exit"] + 0.5 * (later["event"] == 0))
    risks = {"model": model.risk(test, horizon), "recency": recency_rule(earlier, test, horizon, CAUSE)}
    beside = {"seen": fit_exit_model(later, (CAUSE,)).risk(test, horizon)}  # knows who of these same customers left
    if "balance_change" in later:  # a rule that looks at the account: whose balance fell most
        beside["fallen"] = -later["balance_change"].to_numpy(float)
    ranked = risks | beside
    spread = predict.captured_bootstrap(*predict.censoring_weights(test, horizon), ranked, repeats=resamples, seed=seed)
    names, rows = say.names("rules"), []
    found = {name: float(predict.capture(test, p, horizon)) for name, p in ranked.items()}
    found["gain"], spread["gain"] = found["model"] - found["recency"], spread["model"] - spread["recency"]
    if "fallen" in beside:
        found["over"], spread["over"] = found["model"] - found["fallen"], spread["model"] - spread["fallen"]
        risks["fallen"] = beside["fallen"]
    for name in ("model", "recency", "gain", *(k for k in ("fallen", "over") if k in found), "seen"):
        rows.append((names[name], found[name], *from_draws(spread[name])[1:], len(test)))
    table = pd.DataFrame(rows, columns=["rule", "captured", "ci_low", "ci_high", "n"])
    se, low, high = from_draws(spread["gain"])
    enough = gate(say, "leavers", bool(gone.sum() >= LEAVERS), n=int(gone.sum()), least=LEAVERS)
    gain = Estimate(found["gain"], float(low), float(high), say("unit"), len(test), se=float(se), checks=(enough,))
    points = (100 * table.set_index("rule")[["captured", "ci_low", "ci_high"]]).loc
    said = [say("sentence", points=points[names["gain"]], horizon=horizon, model=found["model"], rule=found["recency"])]
    title = say("title", model=found["model"], rule=found["recency"]) if low > 0 else say("title_open")
    if "over" in found:
        said.append(say("beside", points=points[names["over"]], fallen=found["fallen"]))
    return Result(
        table.rename(columns=say.names("columns")).set_index(say.names("columns")["rule"]),
        words.joined(said, by=" "),
        estimates={"S08": gain},
        picture=_curves(test, {names[k]: p for k, p in risks.items()}, horizon, title),
    )


def _curves(test: pd.DataFrame, risks: dict[str, np.ndarray], horizon: int, title: str) -> Picture:
    """Share of leavers among the customers ranked highest, by how many are looked at."""
    risks |= {say("chance"): np.zeros(len(test))}
    seen = {name: predict.capture(test, p, horizon, GRID) for name, p in risks.items()}
    parts = [pd.DataFrame({"group": name, "x": GRID, "y": y}) for name, y in seen.items()]
    data = pd.concat(parts, ignore_index=True).assign(n=lambda t: np.rint(t["x"] * len(test)))
    axes = title, say("x", n=len(test)), say("y", horizon=horizon)
    marks = [Mark(predict.TOP, style="limit")]
    dashed = data["group"] == say("chance")
    options = {"unit": "percent", "x_unit": "percent", "marks": marks}
    return Picture("curves", data.assign(dashed=dashed), *axes, options)
