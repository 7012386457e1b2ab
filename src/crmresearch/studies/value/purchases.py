"""What a customer is worth where leaving is never seen: purchases, then spend per purchase.

Only for trade without a contract; two gates ask the data whether spend may be taken as independent of frequency.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.estimators.inference import jackknife, mean_interval
from crmresearch.estimators.verdicts import Deviation
from crmresearch.estimators.worth import purchases
from crmresearch.estimators.worth.forecasts import accuracy, course, deciles
from crmresearch.estimators.worth.purchases import PurchaseModel
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import nobodys, rules, whose
from crmresearch.studies.value.forecast import calibrated, scored, tracked

say = words.of("value.purchases")
times = words.of("value")

MAX_CORRELATION = 0.3  # of frequency and mean spend; CDNOW has .11 and counts as independent in the literature
MAX_DISTANCE = 0.1  # largest gap between observed and fitted distribution of mean spend


@study
def spend_gates(frame: pd.DataFrame) -> Result:
    """Look at whether the gamma-gamma model may be used: independence of frequency, and fit.

    Parameters
    ----------
    frame : DataFrame
        ``frequency`` and ``monetary_value`` per customer (``reductions.value.latent_summary``).

    Returns
    -------
    Result
        Observed and fitted mean spend by repeat purchases, and two gates: the correlation of frequency and mean spend
        among repeat buyers, and the largest distance between the distribution of mean spend and the fitted one.
    """
    from scipy.special import kolmogi

    fit = purchases.fit_spend(frame, smallest=5 * rules.least)
    label, bands = say("spend.label"), list(say.names("spend.bands").values())
    band = pd.cut(fit.frequency, [0, 1, 2, 3, 5, 9, np.inf], labels=bands)
    groups = [(name, fit.spend[band == name]) for name in bands]
    rows = [(name, *mean_interval(s), fit.mean, s.size, whose(s)) for name, s in groups if s.size > 1]
    table = safe(pd.DataFrame(rows, columns=[label, "estimate", "ci_low", "ci_high", "model", "n", "whose"]))
    data = table.assign(label=[say("mark", name=row[label], n=row["n"]) for _, row in table.iterrows()])
    options = {"upright": True, "marks": [Mark(fit.mean, say("spend.mark"), "estimate")]}
    title, seen = say("spend.title_open"), table.dropna(subset="n").to_numpy().tolist()
    if seen and (seen[-1][2] > seen[0][3] or seen[-1][3] < seen[0][2]):
        title = say("spend.title", first=seen[0], last=seen[-1])
    c, reach = fit.correlation, kolmogi(0.05) / fit.spend.size**0.5  # the distance of a sample from its own law
    tied = Deviation(c.value, c.ci_low, c.ci_high, limit=MAX_CORRELATION)
    apart = Deviation(fit.distance, max(fit.distance - reach, 0), fit.distance + reach, limit=MAX_DISTANCE)
    names = say.names("spend.columns")
    return Result(
        table.rename(columns=names),
        say("spend.sentence", fit=fit, n=fit.spend.size),
        (gate(say, "spend.independent", tied), gate(say, "spend.fits", apart)),
        picture=Picture("intervals", data, title, label, say("spend.y"), options),
        money=[names["estimate"]],
        digits=2,
        details={"correlation": fit.correlation, "model": fit.model},
    )


@study
def purchase_holdout(model: PurchaseModel, frame: pd.DataFrame) -> Result:
    """Forecasts of holdout purchases per customer, scored on what happened.

    Parameters
    ----------
    model : PurchaseModel
        Fitted to the calibration columns of the frame.
    frame : DataFrame
        ``reductions.value.latent_summary`` with a holdout: ``frequency``, ``recency``, ``T``, ``frequency_holdout``,
        ``duration_holdout``.

    Returns
    -------
    Result
        Level, rank correlation and mean absolute error of Pareto/NBD, BG/NBD, the calibration rate continued, and the
        mean of all customers.
    """
    actual = frame["frequency_holdout"].to_numpy(dtype=float)
    scores = accuracy(purchases.purchase_forecasts(model, frame), actual, purchases.group_codes(actual.size))
    return scored(scores, say("what"), "number", nobodys("purchases are counted"))


@study
def purchase_calibration(model: PurchaseModel, frame: pd.DataFrame) -> Result:
    """Predicted and actual holdout purchases by tenth of the Pareto/NBD prediction; see :func:`purchase_holdout`."""
    predicted = purchases.expected_purchases(model.pareto[:1], frame)[0]
    return calibrated(deciles(predicted, frame["frequency_holdout"].to_numpy(dtype=float)), say("held"), "number")


@study
def purchase_tracking(model: PurchaseModel, actual: pd.DataFrame, *, unit: str = "week") -> Result:
    """Repeat purchases of the calibration cohort by period: Pareto/NBD against what happened.

    Parameters
    ----------
    model : PurchaseModel
        Fitted to the calibration period, in the same unit.
    actual : DataFrame
        ``reductions.value.purchases_by_period``: ``period``, ``starts``, ``repeats``, ``calibration``.
    """
    table = course(actual["repeats"], purchases.repeat_purchases(model, actual))
    table.insert(0, unit, actual["period"])
    n = int(actual["starts"].sum())
    split = float(actual.loc[actual["calibration"].astype(bool), "period"].max())
    held = table.loc[table[unit] > split, ["predicted", "actual"]]
    total = held.sum()
    miss = total["predicted"] / total["actual"] - 1
    table = table.assign(n=n)
    named = table.rename(columns=say.names("tracking.columns"))
    quarter = named[np.arange(len(table)) % 13 == 12] if len(table) > 30 else named
    return Result(
        quarter,
        say(
            "tracking.sentence",
            periods=len(held),
            unit=times.names("units")[unit],
            total=total,
            miss=miss,
            last=table.iloc[-1],
        ),
        picture=tracked(table, unit, say("tracking.what"), n, "number", split),
        digits=1,
        details={"periods": named},
    )


@study
def purchase_value(
    model: PurchaseModel, frame: pd.DataFrame, *, annual_discount: float = 0.1, margin: float = 0.3, unit: str = "week"
) -> Result:
    """Value of all purchases to come, per customer and by repeat purchases so far.

    Parameters
    ----------
    model : PurchaseModel
        Fitted to the frame.
    frame : DataFrame
        ``reductions.value.latent_summary`` without holdout.
    annual_discount : float
        Effective annual rate; payments when purchases happen, to infinity.
    margin : float
        Contribution per unit of spend.
    unit : str
        Unit of recency and T.

    Returns
    -------
    Result
        Mean value by number of repeat purchases with jackknife intervals over customers, refitting both models; the
        gates of :func:`spend_gates`; ``details["customers"]`` has value and interval per customer.
    """
    keep, refunds = purchases.with_spend(frame), frame.attrs.get("refunds", 0)
    codes, dropped, frame = purchases.group_codes(len(frame))[keep], int((~keep).sum()), frame[keep]
    gates = spend_gates(frame).checks
    values = purchases.residual_values(model, frame, annual_discount=annual_discount, margin=margin, unit=unit)
    x, every = frame["frequency"].to_numpy(dtype=float), purchases.mean_value(values, codes)
    bands, rows = say.names("value.bands").values(), []
    for name, low, high in zip(bands, (0, 1, 2, 4, 7), (0, 1, 3, 6, np.inf), strict=True):
        inside = (x >= low) & (x <= high)
        if inside.sum() >= 2 * purchases.GROUPS:
            mean = purchases.mean_value(values, codes, inside).columns("estimate", "ci")
            share = values[0, inside].sum() / values[0].sum()
            row = {"repeats": name, **mean, "share": share, "n": int(inside.sum())}
            rows.append(row | {"whose": whose(values[0, inside])})
    own = jackknife(values).columns("value", "ci")
    ids = frame["customer_id"].to_numpy() if "customer_id" in frame else np.arange(len(frame))
    marks = [Mark(every.value, say("value.mean", every=every), "estimate")]
    options = {"scale": "symlog", "unit": "money", "marks": marks}
    axes = say("value.title", every=every), say("value.x", rate=annual_discount, n=len(frame)), say("value.y")
    picture = Picture("distribution", pd.DataFrame({"value": values[0]}), *axes, options)
    names = say.names("value.columns")
    told = f"{refunds:,}" if refunds >= rules.least else say("value.few", least=rules.least)
    return Result(
        pd.DataFrame(rows).rename(columns=names),
        say("value.sentence", n=len(frame), every=every, rate=annual_discount, margin=margin, dropped=dropped)
        + (say("value.refunds", refunds=told) if refunds else ""),
        gates,
        picture=picture,
        money=[names["estimate"], names["share"]],
        digits=2,
        details={"customers": pd.DataFrame({"customer_id": ids, **own}), "values": values, "mean": every},
    )


@study
def purchase_value_windows(
    early: PurchaseModel,
    late: PurchaseModel,
    frame: pd.DataFrame,
    *,
    annual_discount: float = 0.1,
    margin: float = 0.3,
    unit: str = "week",
) -> Result:
    """Mean residual value of the same customers, by models calibrated on the first part and on all of the period.

    Parameters
    ----------
    early, late : PurchaseModel
        Fitted to the calibration part and to the whole period.
    frame : DataFrame
        Summary of the whole period.
    """
    keep = purchases.with_spend(frame)
    codes, frame = purchases.group_codes(len(frame))[keep], frame[keep]
    rows = []
    for name, model in zip(say.names("windows.parts").values(), (early, late), strict=True):
        values = purchases.residual_values(model, frame, annual_discount=annual_discount, margin=margin, unit=unit)
        mean = purchases.mean_value(values, codes).columns("estimate", "ci")
        rows.append({"calibration": name, **mean, "n": len(frame), "whose": whose(values[0])})
    table = safe(pd.DataFrame(rows))
    least, most = table["estimate"].min(), table["estimate"].max()
    data = table.assign(label=[say("mark", name=name, n=len(frame)) for name in table["calibration"]])
    title, options = say("windows.title", least=least, most=most), {"upright": True, "unit": "money"}
    names = say.names("windows.columns")
    return Result(
        table.rename(columns=names),
        say("windows.sentence", n=len(frame), least=least, most=most, factor=most / least),
        picture=Picture("intervals", data, title, say("windows.x"), say("windows.y"), options),
        money=[names["estimate"]],
        digits=2,
    )
