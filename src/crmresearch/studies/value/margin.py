"""What a customer is worth where accounts have a beginning and an end: survival times margin, by tenure and by band."""

from __future__ import annotations

import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import InputError
from crmresearch.estimators.inference import Estimate, jackknife
from crmresearch.estimators.worth.margin import MIN_AT_RISK, MarginModel, tenure_months, tenure_years, value_by_band
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import rules, whose

say = words.of("value.margin")


@study
def tenure_curves(model: MarginModel) -> Result:
    """Retention and mean contribution by tenure, the two factors of the value.

    Parameters
    ----------
    model : MarginModel
        From :func:`crmresearch.estimators.worth.margin.fit_margin`.

    Returns
    -------
    Result
        By year of tenure: customers at risk, exits, chance to stay the year, mean monthly contribution of those who are
        there, both with jackknife intervals. Curves start at the first tenure with enough customers at risk.
    """
    table = safe(tenure_years(model), ("n", "exits"), parts=False)
    shown = table.dropna(subset="n")
    if shown.empty:
        raise InputError(say("curves.too_few", threshold=rules.least))
    first, last = shown.iloc[0], shown.iloc[-1]
    lasting, further = (jackknife(model.lasting[:, k]) for k in (0, 1))
    further = further._replace(high=min(further.high, 1))
    month, stay, money = tenure_months(model)
    risk = pd.DataFrame({"group": "", "time": month, "at_risk": model.at_risk[month].astype(int)})
    here = model.at_risk[month]
    left, right = (pd.DataFrame({"x": month, **curve.columns("y", "ci"), "n": here}) for curve in (stay, money))
    right = right[(right["x"] // 12 + 1).isin(shown["year"])]  # a hidden year's months are not drawn either
    end, start, middle = left.iloc[-1], right.iloc[0], right.iloc[len(right) // 2]
    apart = middle["ci_low"] > start["ci_high"] or middle["ci_high"] < start["ci_low"]
    title = say("curves.money", start=start, middle=middle) if apart else say("curves.money_open")
    options, x = {"unit": "percent", "ylim": (0, 1.02), "risk": risk}, say("curves.x")
    pictures = (
        Picture("curves", left, say("curves.stay", end=end), x, say("curves.stay_y", month=month[0]), options),
        Picture("curves", right, title, x, say("curves.money_y")),
    )
    months = model.seen.size
    names = say.names("curves.columns")
    return Result(
        table.rename(columns=names),
        say("curves.sentence", first=first, last=last, lasting=lasting, further=further),
        (gate(say, "curves.at_risk", months >= 12, months=months, needed=MIN_AT_RISK),),
        picture=pictures,
        money=[names["money"]],
    )


@study
def clv_by_band(
    model: MarginModel,
    frame: pd.DataFrame,
    *,
    horizon_months: int = 60,
    annual_discount: float = 0.1,
    holdout: Result | None = None,
) -> Result:
    """Survival-weighted value of the coming months, per customer and by value band.

    Parameters
    ----------
    model : MarginModel
    frame : DataFrame
        Customers at the valuation date (``reductions.value.customers_at``): ``customer_id``, ``fold``, ``tenure``,
        ``months_before``, ``before``.
    horizon_months : int
        Months that count.
    annual_discount : float
        Effective annual rate; payments at month ends.
    holdout : Result, optional
        How such a model forecast a year it had not seen (:func:`.holdout`); its gates are
        those of the value.

    Returns
    -------
    Result
        Mean value by band with intervals (customers and model); the gap between best and worst band split into what
        margin alone gives and what longer survival adds (``gap``). ``details["customers"]`` holds value and interval
        (of the expected value) per customer, for ``restricted/`` only; ``details["bands"]`` mean, standard error and
        interval by band.
    """
    found = value_by_band(model, frame, horizon_months, annual_discount, smallest=rules.least)
    values, mean, gap, table = found.values[0], found.mean, found.gap, found.table
    own = jackknife(found.values).columns("value", "ci")
    customers = pd.DataFrame({"customer_id": frame["customer_id"].to_numpy(), **own, "band": found.band})
    marks = [Mark(mean.value, say("clv.mean", mean=mean), "estimate")]
    options = {"scale": "symlog", "unit": "money", "marks": marks}
    title = say("clv.title", mean=mean, horizon=horizon_months)
    x = say("clv.x", horizon=horizon_months, rate=annual_discount, n=len(frame))
    picture = Picture("distribution", pd.DataFrame({"value": values}), title, x, say("clv.y"), options)
    every = model.whose() | whose(values)  # the mean is told, too
    table = safe(table.assign(whose=[every | whose(values[found.band == name]) for name in table["band"]]))
    worst, best = table.iloc[0], table.iloc[-1]
    proof = holdout.checks if holdout is not None else ()
    if holdout is not None and not holdout.applicable:
        proof = (gate(say, "clv.unproved", None),)
    sentence, estimates = say("clv.sentence", mean=mean, horizon=horizon_months, rate=annual_discount), {}
    if pd.notna(worst["n"]) and pd.notna(best["n"]):
        sentence += say("clv.bands", best=best, worst=worst, gap=gap, alone=found.alone)
        n = int(worst["n"] + best["n"])
        estimates["gap"] = Estimate(gap.value, gap.low, gap.high, say("clv.unit"), n, se=gap.se)
    names = say.names("clv.columns")
    return Result(
        table.rename(columns=names),
        sentence,
        proof,
        estimates=estimates,
        picture=picture,
        money=[names["estimate"], names["share"]],
        digits=2,
        details={"customers": customers, "values": found.values, "mean": mean, "bands": found.bands},
    )
