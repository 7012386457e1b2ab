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

from crmresearch.errors import FitError, InputError, answered
from crmresearch.estimators.frames import need
from crmresearch.estimators.inference import Estimate, Jackknife, ends, jackknife
from crmresearch.estimators.worth.forecasts import rank_correlation
from crmresearch.estimators.worth.stability import rank_codes

GROUPS = 20
SEGMENTS = ("champions", "loyal", "at risk", "recent", "lost", "middle")  # by recency, frequency and money
THIRDS = (1 / 3, 2 / 3)
UNITS_PER_YEAR = {"day": 365.25, "week": 365.25 / 7, "month": 12.0, "year": 1.0}


def summary_columns(frame: pd.DataFrame, *more: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency, recency and T of a purchase summary, refused if these or ``more`` are not there."""
    need(frame, "purchase summary", "frequency", "recency", "T", *more)
    return tuple(frame[c].to_numpy(dtype=float) for c in ("frequency", "recency", "T"))  # type: ignore[return-value]


@dataclass(frozen=True)
class PurchaseModel:
    """Models of purchases and spend, fitted to all customers and without each group in turn.

    Attributes
    ----------
    pareto, beta_geo, spend : tuple of fitters
        First of all customers, then without each group. ``spend`` is empty where nobody bought again at a positive
        value, or the fit failed.
    no_spend : str
        Why ``spend`` is empty.
    """

    pareto: tuple[Any, ...]
    beta_geo: tuple[Any, ...]
    spend: tuple[Any, ...]
    no_spend: str = "hardly anybody bought again at a positive value; there is no model of spend"


def group_codes(n: int) -> np.ndarray:
    """Group of each row; groups are dealt out in the order of the rows."""
    return np.arange(n) % GROUPS


def _refits(kind: Any, columns: tuple[np.ndarray, ...], codes: np.ndarray) -> tuple[Any, ...]:
    full = kind().fit(*columns)
    start = full.params_.to_dict()
    return (full, *(kind().fit(*(c[codes != g] for c in columns), start=start) for g in range(GROUPS)))


@answered()
def fit_purchases(frame: pd.DataFrame) -> PurchaseModel:
    """Fit Pareto/NBD, BG/NBD and gamma-gamma to a purchase summary, with the refits that intervals need.

    Parameters
    ----------
    frame : DataFrame
        ``frequency``, ``recency``, ``T``, ``monetary_value`` per customer (``reductions.value.latent_summary``).

    Returns
    -------
    PurchaseModel
        Or the :class:`.Missing` that was passed in.
    """
    from crmresearch.estimators.lifetime import BetaGeoFitter, GammaGammaFitter, ParetoNBDFitter

    columns, spend = summary_columns(frame, "monetary_value"), frame["monetary_value"].to_numpy(dtype=float)
    codes, repeat = group_codes(len(frame)), (columns[0] > 0) & (spend > 0)
    if len(frame) < 5 * GROUPS:
        raise InputError(f"{len(frame)} customers; the jackknife needs {5 * GROUPS}")
    gamma, why = (), PurchaseModel.no_spend
    if repeat.sum() >= 5 * GROUPS:
        try:
            gamma = _refits(GammaGammaFitter, (columns[0][repeat], spend[repeat]), codes[repeat])
        except FitError as error:  # purchases can be told without spend
            why = str(error)
    return PurchaseModel(_refits(ParetoNBDFitter, columns, codes), _refits(BetaGeoFitter, columns, codes), gamma, why)


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

    columns = summary_columns(frame, "monetary_value")
    discounting = Discounting(annual_discount, UNITS_PER_YEAR[unit])
    worth = spend.conditional_expected_average_profit(columns[0], frame["monetary_value"].to_numpy(dtype=float))
    value: np.ndarray = margin * worth * purchases.discounted_expected_residual_transactions(discounting, *columns)
    return value


def with_spend(frame: pd.DataFrame) -> np.ndarray:
    """Customers a spend model says something about: not those who came back without positive spend."""
    return ~((frame["frequency"] > 0) & (frame["monetary_value"] <= 0)).to_numpy()


def residual_values(
    model: PurchaseModel, frame: pd.DataFrame, *, annual_discount: float, margin: float, unit: str
) -> np.ndarray:
    """Residual value of each customer, from all and without each group, ``(groups + 1, n)``."""
    if not 0 < margin <= 1:
        raise InputError(f"margin is {margin}; it is the share of spend that remains, above 0 and at most 1")
    if not model.spend:
        raise InputError(model.no_spend)
    terms = {"annual_discount": annual_discount, "margin": margin, "unit": unit}
    return np.stack([residual_value(p, s, frame, **terms) for p, s in zip(model.pareto, model.spend, strict=True)])  # type: ignore[arg-type]


def mean_value(values: np.ndarray, codes: np.ndarray, inside: Any = True) -> Jackknife:
    """Mean of the customers ``inside``, with the interval of customers and models."""
    return jackknife(np.array([values[g, inside & (codes != g - 1)].mean() for g in range(len(values))]))


def expected_purchases(fits: tuple[Any, ...], frame: pd.DataFrame) -> np.ndarray:
    """Purchases each customer is expected to make in the holdout, one row per fit."""
    columns = summary_columns(frame, "frequency_holdout", "duration_holdout")
    ahead = float(frame["duration_holdout"].iloc[0])
    return np.stack([f.conditional_expected_number_of_purchases_up_to_time(ahead, *columns) for f in fits])


def purchase_forecasts(model: PurchaseModel, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Forecasts of holdout purchases: by both models, by the customer's own rate, and by the rate of all."""
    fits = {"Pareto/NBD": model.pareto, "BG/NBD": model.beta_geo}
    predicted = {name: expected_purchases(each, frame) for name, each in fits.items()}
    x, _, age = summary_columns(frame)
    ahead = float(frame["duration_holdout"].iloc[0])
    every = np.full(x.size, x.sum() / age.sum())
    # who first bought on the last day of calibration has no rate of the own yet
    predicted["own rate continued"] = np.divide(x, age, out=every.copy(), where=age > 0) * ahead
    predicted["rate of all continued"] = every * ahead
    return predicted


def repeat_purchases(model: PurchaseModel, actual: pd.DataFrame) -> np.ndarray:
    """Repeat purchases of a cohort from the start up to each period, ``(groups + 1, periods)``.

    Parameters
    ----------
    model : PurchaseModel
    actual : DataFrame
        ``period`` and ``starts``, the customers who first bought in it.
    """
    period = actual["period"].to_numpy(dtype=float)
    starts, begin = actual["starts"].to_numpy(dtype=float), np.arange(len(period))
    if len(period) < 4 or not (np.diff(period) == 1).all():
        raise InputError("actual: periods must be consecutive, and at least four")
    # customers of a period start on average in its middle
    age = np.maximum(begin[None, :] - begin[:, None] + 0.5, 0.0)
    flat = age.ravel()
    return np.stack([starts @ f.expected_number_of_purchases_up_to_time(flat).reshape(age.shape) for f in model.pareto])


@dataclass(frozen=True)
class SpendFit:
    """Gamma-gamma model of spend per purchase, and what speaks for and against it; see :func:`fit_spend`.

    Attributes
    ----------
    frequency, spend : array
        Of repeat buyers with positive spend.
    dropped : int
        Repeat buyers without.
    model : GammaGammaFitter
    mean : float
        Mean spend per purchase by the model, whatever the frequency.
    correlation : Estimate
        Of frequency and mean spend.
    rank : float
        Correlation of their ranks.
    distance : float
        Largest distance between the observed and the fitted distribution of mean spend.
    """

    frequency: np.ndarray
    spend: np.ndarray
    dropped: int
    model: Any
    mean: float
    correlation: Estimate
    rank: float
    distance: float


def fit_spend(frame: pd.DataFrame, *, smallest: int) -> SpendFit:
    """Fit gamma-gamma to the spend of repeat buyers, and test what it assumes.

    Parameters
    ----------
    frame : DataFrame
        ``frequency`` and ``monetary_value`` per customer.
    smallest : int
        Repeat buyers needed.
    """
    from scipy.special import betainc

    from crmresearch.estimators.lifetime import GammaGammaFitter

    summary_columns(frame, "monetary_value")
    repeat = frame[(frame["frequency"] > 0) & (frame["monetary_value"] > 0)]
    dropped = int((frame["frequency"] > 0).sum()) - len(repeat)
    if len(repeat) < smallest:
        raise InputError(f"{len(repeat)} customers bought again at a positive value; spend needs {smallest}")
    x, m = repeat["frequency"].to_numpy(dtype=float), repeat["monetary_value"].to_numpy(dtype=float)
    r = float(np.corrcoef(x, m)[0, 1])
    low, high = np.tanh(ends(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1 / (len(x) - 3) ** 0.5))
    model = GammaGammaFitter().fit(x, m)
    p, q, v = (float(model.params_[k]) for k in ("p", "q", "v"))
    place = np.sort(betainc(p * x, q, x * m / (x * m + v)))
    step = np.arange(1, place.size + 1) / place.size
    distance = float(np.maximum(step - place, place - step + 1 / place.size).max())
    correlation = Estimate(r, float(low), float(high), "correlation", len(x))
    return SpendFit(x, m, dropped, model, p * v / (q - 1), correlation, rank_correlation(x, m), distance)


def rfm_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores of recency, frequency and money, 1 (worst) to 3 (best), by rank among all customers.

    Parameters
    ----------
    frame : DataFrame
        ``frequency``, ``recency`` and ``T`` in the definition of lifetime models, ``monetary_value``, ``first_value``
        (``reductions.value.summary``).

    Returns
    -------
    DataFrame
        ``since`` (time since the last purchase: ``T - recency``), ``purchases``, ``money`` (spend per purchase, the
        first included), ``R``, ``F``, ``M``. Customers with equal values share a score, so that thirds need not be
        even.
    """
    need(frame, "RFM", "frequency", "recency", "T", "monetary_value", "first_value")
    x = frame["frequency"].to_numpy(dtype=float)
    since = (frame["T"] - frame["recency"]).to_numpy(dtype=float)
    if bad := int((since < 0).sum()):
        raise InputError(f"RFM: recency lies above T in {bad} rows")
    money = (frame["monetary_value"].to_numpy(dtype=float) * x + frame["first_value"].to_numpy(dtype=float)) / (x + 1)
    scores = {name: 1 + rank_codes(v, THIRDS) for name, v in (("R", -since), ("F", x), ("M", money))}
    return pd.DataFrame({"since": since, "purchases": x + 1, "money": money, **scores})


def rfm_segment(scores: pd.DataFrame) -> np.ndarray:
    """Segment of each customer: the first of :data:`SEGMENTS` whose rule holds."""
    r, f, m = (scores[c].to_numpy() for c in ("R", "F", "M"))
    often = f == 3
    rules = [(r == 3) & often & (m == 3), (r == 3) & often, (r == 1) & often, r == 3, r == 1]
    return np.select(rules, SEGMENTS[:-1], default=SEGMENTS[-1])
