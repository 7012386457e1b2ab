"""What a customer is worth where leaving is never seen: purchases, then spend per purchase.

Only for trade without a contract. Purchases follow Pareto/NBD (BG/NBD beside it), spend per purchase the gamma-gamma
model, if spend may be taken as independent of frequency; two gates ask the data. Intervals are those of a
delete-a-group jackknife: customers are dealt into groups, and every model is refitted without each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import disclosure, figures
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.value.common import interval, jackknife, symlog_histogram
from crmresearch.studies.value.forecast import (
    _calibration_result,
    _scores_result,
    _tracking_figure,
    accuracy,
    deciles,
)

GROUPS = 20
MAX_CORRELATION = 0.3  # of frequency and mean spend; CDNOW has .11 and counts as independent in the literature
MAX_DISTANCE = 0.1  # largest gap between observed and fitted distribution of mean spend
UNITS_PER_YEAR = {"day": 365.25, "week": 365.25 / 7, "month": 12.0, "year": 1.0}


def _columns(frame: pd.DataFrame, *more: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    needed = ("frequency", "recency", "T", *more)
    lacking = [c for c in needed if c not in frame.columns]
    if lacking:
        raise InputError(
            f"purchase summary: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}"
        )
    return tuple(frame[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T"))  # type: ignore[return-value]


@dataclass(frozen=True)
class PurchaseModel:
    """Models of purchases and spend, fitted to all customers and without each group in turn.

    Attributes
    ----------
    pareto, beta_geo, spend : tuple of fitters
        First of all customers, then without each group. ``spend`` is empty where nobody bought again at a positive
        value.
    """

    pareto: tuple[Any, ...]
    beta_geo: tuple[Any, ...]
    spend: tuple[Any, ...]


def _codes(n: int) -> np.ndarray:
    """Group of each row; groups are dealt out in the order of the rows."""
    return np.arange(n) % GROUPS


def _refits(kind: Any, columns: tuple[np.ndarray, ...], codes: np.ndarray) -> tuple[Any, ...]:
    full = kind().fit(*columns)
    start = full.params_.to_dict()
    return (full, *(kind().fit(*(c[codes != g] for c in columns), start=start) for g in range(GROUPS)))


def fit_purchases(frame: pd.DataFrame | Missing) -> PurchaseModel | Missing:
    """Fit Pareto/NBD, BG/NBD and gamma-gamma to a purchase summary, with the refits that intervals need.

    Parameters
    ----------
    frame : DataFrame
        ``frequency``, ``recency``, ``T``, ``monetary_value`` per customer (``reductions.value.latent_summary``).

    Returns
    -------
    PurchaseModel
        Or the :class:`Missing` that was passed in.
    """
    from crmresearch.estimators.lifetime import BetaGeoFitter, GammaGammaFitter, ParetoNBDFitter

    if isinstance(frame, Missing):
        return frame
    columns, spend = _columns(frame, "monetary_value"), frame["monetary_value"].to_numpy(dtype=float)
    codes, repeat = _codes(len(frame)), (columns[0] > 0) & (spend > 0)
    if len(frame) < 5 * GROUPS:
        raise InputError(f"{len(frame)} customers; the jackknife needs {5 * GROUPS}")
    gamma: tuple[Any, ...] = ()
    if repeat.sum() >= 5 * GROUPS:
        gamma = _refits(GammaGammaFitter, (columns[0][repeat], spend[repeat]), codes[repeat])
    return PurchaseModel(_refits(ParetoNBDFitter, columns, codes), _refits(BetaGeoFitter, columns, codes), gamma)


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
    from scipy.special import betainc

    from crmresearch.estimators.lifetime import GammaGammaFitter

    _columns(frame, "monetary_value")
    repeat = frame[(frame["frequency"] > 0) & (frame["monetary_value"] > 0)]
    dropped = int((frame["frequency"] > 0).sum()) - len(repeat)
    if len(repeat) < 5 * disclosure.MIN_CELL:
        raise InputError(
            f"{len(repeat)} customers bought again at a positive value; spend needs {5 * disclosure.MIN_CELL}"
        )
    x, m = repeat["frequency"].to_numpy(dtype=float), repeat["monetary_value"].to_numpy(dtype=float)
    r = float(np.corrcoef(x, m)[0, 1])
    z, half = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1.96 / (len(x) - 3) ** 0.5
    rank = pd.Series(x).corr(pd.Series(m), method="spearman")
    model = GammaGammaFitter().fit(x, m)
    p, q, v = (float(model.params_[k]) for k in ("p", "q", "v"))
    place = np.sort(betainc(p * x, q, x * m / (x * m + v)))
    step = np.arange(1, place.size + 1) / place.size
    distance = float(np.maximum(step - place, place - step + 1 / place.size).max())
    names = pd.cut(x, [0, 1, 2, 3, 5, 9, np.inf], labels=["1", "2", "3", "4 to 5", "6 to 9", "10 or more"])
    rows = []
    for name in names.categories:
        inside = np.asarray(names == name)
        n = int(inside.sum())
        if n < 2:
            continue
        mean, error = m[inside].mean(), 1.96 * m[inside].std(ddof=1) / n**0.5
        rows.append((name, mean, mean - error, mean + error, p * v / (q - 1), n))
    table = pd.DataFrame(rows, columns=["repeat purchases", "mean spend", "ci_low", "ci_high", "model, all", "n"])
    checks = (
        Check.of(
            "spend independent of frequency",
            abs(r) <= MAX_CORRELATION,
            f"their correlation is {r:.2f}; at most {MAX_CORRELATION:g} in size is allowed",
        ),
        Check.of(
            "gamma-gamma fits",
            distance <= MAX_DISTANCE,
            f"observed and fitted distribution differ by at most {distance:.3f}; {MAX_DISTANCE:g} is allowed",
        ),
    )
    sentence = (
        f"Among {len(x):,} repeat buyers, frequency and mean spend correlate with "
        f"{interval(r, np.tanh(z - half), np.tanh(z + half), '.2f')} (ranks {rank:.2f}); {dropped} repeat buyers "
        "without positive spend are left out."
    )

    def draw(ax: Any) -> Any:
        shown = table[table["n"] >= disclosure.MIN_CELL]
        at = np.arange(len(shown))
        ends = shown["ci_low"], shown["ci_high"]
        figures.intervals(ax, at, shown["mean spend"], *ends, label="observed, 95% interval")
        ax.axhline(
            p * v / (q - 1), color=figures.PALETTE[1], linestyle="--", label="gamma-gamma, whatever the frequency"
        )
        ax.set_xticks(at, [f"{k}\nn = {n:,}" for k, n in zip(shown["repeat purchases"], shown["n"], strict=True)])
        ax.set(xlabel="repeat purchases", ylabel="mean spend per purchase", title="Does spend depend on frequency?")
        ax.legend(loc="best")
        return ax

    first, last = table.iloc[0], table.iloc[-1]
    alt = (
        f"Points with intervals: mean spend goes from {first['mean spend']:,.1f} at {first['repeat purchases']} "
        f"repeat purchase to {last['mean spend']:,.1f} at {last['repeat purchases']}, against a level line of the "
        "model."
    )
    details = {
        "correlation": Estimate(r, float(np.tanh(z - half)), float(np.tanh(z + half)), "correlation", len(x)),
        "model": model,
    }
    return Result(table, sentence, checks, {}, draw, alt, digits=2, details=details)


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
    columns = _columns(frame, "frequency_holdout", "duration_holdout")
    ahead = float(frame["duration_holdout"].iloc[0])
    predicted: dict[str, np.ndarray] = {}
    for name, fits in (("Pareto/NBD", model.pareto), ("BG/NBD", model.beta_geo)):
        predicted[name] = np.stack(
            [f.conditional_expected_number_of_purchases_up_to_time(ahead, *columns) for f in fits]
        )
    x, _, age = columns
    known = age > 0
    if not known.all():
        raise InputError(f"{int((~known).sum())} customers first bought on the last day of calibration; end it later")
    predicted["own rate continued"] = x / age * ahead
    predicted["rate of all continued"] = np.full(x.size, x.sum() / age.sum() * ahead)
    actual = frame["frequency_holdout"].to_numpy(dtype=float)
    return _scores_result(accuracy(predicted, actual, _codes(x.size)), "purchases")


@study
def purchase_calibration(model: PurchaseModel, frame: pd.DataFrame) -> Result:
    """Predicted and actual holdout purchases by tenth of the Pareto/NBD prediction; see :func:`purchase_holdout`."""
    columns = _columns(frame, "frequency_holdout", "duration_holdout")
    predicted = model.pareto[0].conditional_expected_number_of_purchases_up_to_time(
        float(frame["duration_holdout"].iloc[0]), *columns
    )
    return _calibration_result(
        deciles(predicted, frame["frequency_holdout"].to_numpy(dtype=float)), "holdout purchases"
    )


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
    period = actual["period"].to_numpy(dtype=float)
    starts, begin = actual["starts"].to_numpy(dtype=float), np.arange(len(period))
    if len(period) < 4 or not (np.diff(period) == 1).all():
        raise InputError("actual: periods must be consecutive, and at least four")
    # customers of a period start on average in its middle
    age = np.maximum(begin[None, :] - begin[:, None] + 0.5, 0.0)
    flat = age.ravel()
    total = np.stack(
        [starts @ f.expected_number_of_purchases_up_to_time(flat).reshape(age.shape) for f in model.pareto]
    )
    inc, cum = jackknife(np.diff(total, axis=1, prepend=0.0)), jackknife(total)
    table = pd.DataFrame(
        {
            unit: actual["period"],
            "actual": actual["repeats"],
            "predicted": inc[0],
            "ci_low": inc[2],
            "ci_high": inc[3],
            "cumulative": actual["repeats"].cumsum(),
            "predicted cumulative": cum[0],
            "cum_low": cum[2],
            "cum_high": cum[3],
        }
    )
    split = float(actual.loc[actual["calibration"].astype(bool), "period"].max())
    last = table.iloc[-1]
    held = table[table[unit] > split]
    miss = held["predicted"].sum() / held["actual"].sum() - 1
    sentence = (
        f"Over the holdout of {len(held)} {unit}s Pareto/NBD predicts {held['predicted'].sum():,.0f} repeat "
        f"purchases against {held['actual'].sum():,.0f} ({miss:+.1%}); cumulative from the start "
        f"{interval(last['predicted cumulative'], last['cum_low'], last['cum_high'], ',.0f')} against "
        f"{last['cumulative']:,.0f}."
    )
    alt = (
        f"Two panels over {len(table)} {unit}s, incremental and cumulative repeat purchases; in the holdout "
        f"the forecast is {miss:+.0%} off."
    )
    draw = _tracking_figure(table, unit, "repeat purchases", f"{int(starts.sum()):,} customers", split)
    quarter = table[np.arange(len(table)) % 13 == 12] if len(table) > 30 else table
    shown = quarter.assign(n=int(starts.sum()))
    return Result(shown, sentence, (), {}, draw, alt, digits=1, panels=2, details={"periods": table})


def residual_value(
    purchases: Any, spend: Any, frame: pd.DataFrame, *, annual_discount: float, margin: float, unit: str = "week"
) -> np.ndarray:
    """Discounted value of all purchases still to come: DERT times expected spend times margin.

    Parameters
    ----------
    purchases, spend : fitted models
        Pareto/NBD or BG/NBD, and gamma-gamma.
    frame : DataFrame
        ``frequency``, ``recency``, ``T`` (in ``unit``), ``monetary_value``.
    annual_discount : float
        Effective annual rate; continuous payments.
    margin : float
        Contribution per unit of spend.
    """
    from crmresearch.estimators.lifetime import Discounting

    columns = _columns(frame, "monetary_value")
    discounting = Discounting(annual_discount, UNITS_PER_YEAR[unit])
    worth = spend.conditional_expected_average_profit(columns[0], frame["monetary_value"].to_numpy(dtype=float))
    value: np.ndarray = margin * worth * purchases.discounted_expected_residual_transactions(discounting, *columns)
    return value


def _worth(frame: pd.DataFrame) -> np.ndarray:
    """Customers a spend model says something about: not those who came back without positive spend."""
    return ~((frame["frequency"] > 0) & (frame["monetary_value"] <= 0)).to_numpy()


def _values(model: PurchaseModel, frame: pd.DataFrame, **terms: Any) -> np.ndarray:
    """Residual value of each customer, from all and without each group, ``(groups + 1, n)``."""
    if not 0 < terms["margin"] <= 1:
        raise InputError(f"margin is {terms['margin']}; it is the share of spend that remains, above 0 and at most 1")
    if not model.spend:
        raise InputError("hardly anybody bought again at a positive value; there is no model of spend")
    return np.stack([residual_value(p, s, frame, **terms) for p, s in zip(model.pareto, model.spend, strict=True)])


def _means(values: np.ndarray, codes: np.ndarray, inside: Any = True) -> Any:
    return jackknife(np.array([values[g, inside & (codes != g - 1)].mean() for g in range(len(values))]))


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
    keep = _worth(frame)
    codes, dropped, frame = _codes(len(frame))[keep], int((~keep).sum()), frame[keep]
    gates = spend_gates(frame).checks
    values = _values(model, frame, annual_discount=annual_discount, margin=margin, unit=unit)
    x = frame["frequency"].to_numpy(dtype=float)
    every = _means(values, codes)
    rows = []
    for name, low, high in (("none", 0, 0), ("1", 1, 1), ("2 to 3", 2, 3), ("4 to 6", 4, 6), ("7 or more", 7, np.inf)):
        inside = (x >= low) & (x <= high)
        if inside.sum() < 2 * GROUPS:
            continue
        mean, _, ci_low, ci_high = _means(values, codes, inside)
        rows.append((name, mean, ci_low, ci_high, values[0, inside].sum() / values[0].sum(), int(inside.sum())))
    table = pd.DataFrame(
        rows, columns=["repeat purchases", "value per customer", "ci_low", "ci_high", "share of value", "n"]
    )
    _, _, own_low, own_high = jackknife(values)
    ids = frame["customer_id"].to_numpy() if "customer_id" in frame else np.arange(len(frame))
    customers = pd.DataFrame({"customer_id": ids, "value": values[0], "ci_low": own_low, "ci_high": own_high})
    sentence = (
        f"The purchases still to come of {len(frame):,} customers are worth "
        f"{interval(every[0], every[2], every[3], ',.2f')} each at {annual_discount:.0%} a year and a margin of "
        f"{margin:.0%}; {dropped} repeat buyers without positive spend are left out."
    )

    def draw(ax: Any) -> Any:
        symlog_histogram(ax, values[0], figures.ACCENT, f"expected value, n = {len(frame):,}")
        ax.axvline(every[0], color=figures.PALETTE[1], label=f"mean {interval(every[0], every[2], every[3], ',.1f')}")
        ax.set(
            ylabel="customers",
            xlabel=f"value of purchases to come, paid when they happen, {annual_discount:.0%} a year, symmetric log",
        )
        ax.set_title("Expected residual value per customer")
        ax.legend(loc="best")
        return ax

    alt = (
        f"Histogram of expected residual value per customer on a symmetric log axis; the mean lies at {every[0]:,.1f}."
    )
    details = {"customers": customers, "values": values, "mean": every}
    return Result(table, sentence, gates, {}, draw, alt, digits=2, details=details)


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
    keep = _worth(frame)
    codes, frame = _codes(len(frame))[keep], frame[keep]
    rows = []
    for name, model in (("calibration part", early), ("whole period", late)):
        values = _values(model, frame, annual_discount=annual_discount, margin=margin, unit=unit)
        mean, _, low, high = _means(values, codes)
        rows.append((name, mean, low, high, len(frame)))
    table = pd.DataFrame(rows, columns=["calibration", "value per customer", "ci_low", "ci_high", "n"])
    least, most = table["value per customer"].min(), table["value per customer"].max()
    sentence = (
        f"The same {len(frame):,} customers are worth {least:,.1f} to {most:,.1f} each, by the calibration window "
        f"alone: a factor of {most / least:.2f}."
    )

    def draw(ax: Any) -> Any:
        at = np.arange(len(table))
        figures.intervals(ax, at, table["value per customer"], table["ci_low"], table["ci_high"])
        ax.set_xticks(at, [f"{k}\nn = {n:,}" for k, n in zip(table["calibration"], table["n"], strict=True)])
        ax.set(
            xlabel="calibration window",
            ylabel="value per customer, 95% interval",
            title="Value by calibration window",
            xlim=(-0.6, len(table) - 0.4),
        )
        return ax

    alt = (
        f"Points with intervals: mean residual value of the same customers, {least:,.1f} to {most:,.1f} by "
        "calibration window."
    )
    return Result(table, sentence, (), {}, draw, alt, digits=2)
