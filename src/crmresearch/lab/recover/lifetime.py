"""Lifetime models on trial, on data drawn from their own processes.

The simulated bank follows none of these models: it would test whether they are true, not whether they are fitted right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.estimators import lifetime as lt
from crmresearch.estimators.inference import Estimate
from crmresearch.lab.recover.harness import OWN, Estimator

CUSTOMERS = 4_000
GEOMETRIC = {"r": 0.6, "alpha": 8.0, "a": 0.8, "b": 2.5}
# parameters of each process; near what is published for purchases, donations and subscriptions
TRUTHS: Mapping[str, Mapping[str, Any]] = {
    "bg_nbd": GEOMETRIC,
    "mbg_nbd": GEOMETRIC,
    "pareto_nbd": {"r": 0.6, "alpha": 8.0, "s": 0.7, "beta": 30.0},
    "gamma_gamma": {"p": 5.0, "q": 4.0, "v": 20.0},
    "bg_bb": {"alpha": 1.2, "beta": 0.8, "gamma": 0.7, "delta": 2.5},
    "sbg": {"alpha": 0.8, "beta": 3.0},
    "bdw": {"gamma": 0.8, "delta": 3.0, "c": 1.4},
}


def histories(model: str, customers: int, seed: int, *, daily: bool = False, **truth: float) -> pd.DataFrame:
    """Draw purchase histories of 40 to 80 weeks.

    Parameters
    ----------
    model : str
        ``bg`` (may drop out after a purchase, not after the first), ``mbg`` (after any), ``pareto`` (at any time).
    customers, seed : int
        Number of customers; seed.
    daily : bool
        Times in whole weeks: purchases of one week count once, and rows repeat.
    **truth : float
        Parameters.

    Returns
    -------
    DataFrame
        ``frequency, recency, T``.
    """
    rng = np.random.default_rng(seed)
    _ = rng.normal(size=customers), rng.random(customers)  # drawn for covariates once; keeps what seeds stand for
    age = rng.uniform(40, 80, customers)
    rate = rng.gamma(truth["r"], 1 / truth["alpha"], customers)
    coin, end = np.zeros(customers), age.copy()
    if model == "pareto":
        end = np.minimum(age, rng.exponential(1 / (rng.gamma(truth["s"], 1 / truth["beta"], customers))))
    else:
        coin = rng.beta(truth["a"], truth["b"], customers)
    x, t_x, clock = (np.zeros(customers) for _ in range(3))
    live = np.flatnonzero(rng.random(customers) >= coin) if model == "mbg" else np.arange(customers)
    while live.size:
        clock[live] += rng.exponential(1 / rate[live])
        live = live[clock[live] <= end[live]]
        x[live] += 1
        t_x[live] = clock[live]
        live = live[rng.random(live.size) >= coin[live]]
    frame = pd.DataFrame({"frequency": x, "recency": t_x, "T": age})
    if daily:
        frame["recency"] = np.ceil(frame["recency"])
        frame["T"] = np.ceil(frame["T"])
        frame["frequency"] = np.minimum(frame["frequency"], frame["recency"])
    return frame


def spends(customers: int, seed: int, *, p: float, q: float, v: float) -> pd.DataFrame:
    """Draw ``frequency`` (1 to 11 purchases) and their mean ``spend`` from the gamma-gamma model."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 12, customers).astype(float)
    return pd.DataFrame({"frequency": x, "spend": rng.gamma(p * x) / rng.gamma(q, 1 / v, customers) / x})


def occasions(
    customers: int, seed: int, *, alpha: float, beta: float, gamma: float, delta: float, periods: int = 10
) -> pd.DataFrame:
    """Draw ``frequency, recency, n_periods`` of customers with occasions to buy, from the BG/BB model."""
    rng = np.random.default_rng(seed)
    p, q = rng.beta(alpha, beta, customers), rng.beta(gamma, delta, customers)
    lived = np.minimum(rng.geometric(q) - 1, periods)
    bought = (rng.random((customers, periods)) < p[:, None]) & (np.arange(periods) < lived[:, None])
    last = np.where(bought.any(axis=1), periods - bought[:, ::-1].argmax(axis=1), 0)
    return pd.DataFrame({"frequency": bought.sum(axis=1), "recency": last, "n_periods": periods})


def renewals(customers: int, seed: int, *, first: float, second: float, c: float = 1.0, most: int = 12) -> pd.DataFrame:
    """Draw contracts, ``T`` renewals long at most ``most`` of them, and whether they ``churned``.

    The chance to end is beta distributed over customers; ``c`` other than 1 lets it change with tenure (BdW).
    """
    rng = np.random.default_rng(seed)
    churn = rng.beta(first, second, customers)
    end = np.ceil((np.log(rng.random(customers)) / np.log1p(-churn)) ** (1 / c))  # S(t) = (1 - q)^(t^c)
    return pd.DataFrame({"T": np.minimum(end, most), "churned": end <= most})


def _parameters(fit: lt.Fitter, customers: int) -> dict[str, Estimate]:
    columns = (fit.params_, fit.confidence_intervals_, fit.standard_errors_)
    values, bounds, errors = (np.asarray(c, dtype=float) for c in columns)
    return {
        str(name): Estimate(value, bounds[k, 0], bounds[k, 1], "parameter", customers, se=errors[k])
        for k, (name, value) in enumerate(zip(fit.params_.index, values, strict=True))
    }


def _purchases(kind: type[Any], data: pd.DataFrame) -> dict[str, Estimate]:
    return _parameters(kind().fit(data["frequency"], data["recency"], data["T"]), len(data))


def _renewals(kind: type[Any], data: pd.DataFrame) -> dict[str, Estimate]:
    return _parameters(kind().fit(data["T"], data["churned"]), len(data))


def gamma_gamma(data: pd.DataFrame) -> dict[str, Estimate]:
    """Gamma-gamma parameters."""
    return _parameters(lt.GammaGammaFitter().fit(data["frequency"], data["spend"]), len(data))


def bg_bb(data: pd.DataFrame) -> dict[str, Estimate]:
    """BG/BB parameters."""
    fit = lt.BetaGeoBetaBinomFitter().fit(data["frequency"], data["recency"], data["n_periods"])
    return _parameters(fit, len(data))


def _purchase_data(model: str, name: str, customers: int, seed: int) -> pd.DataFrame:
    return histories(model, customers, seed, **TRUTHS[name])


def _contracts(name: str, customers: int, seed: int) -> pd.DataFrame:
    first, second, *shape = TRUTHS[name].values()
    return renewals(customers, seed, first=first, second=second, c=shape[0] if shape else 1.0)


def _own(name: str, run: Callable[[Any], Mapping[str, Estimate]], sample: Callable[..., pd.DataFrame]) -> Estimator:
    return Estimator(name, "lifetime", run, TRUTHS[name], (OWN,), CUSTOMERS, months=0, tables=(), sample=sample)


KINDS = {"bg": lt.BetaGeoFitter, "mbg": lt.ModifiedBetaGeoFitter, "pareto": lt.ParetoNBDFitter}
CONTRACTS = {"sbg": lt.ShiftedBetaGeoFitter, "bdw": lt.BetaDiscreteWeibullFitter}
ESTIMATORS = [
    *(
        _own(f"{k}_nbd", functools.partial(_purchases, kind), functools.partial(_purchase_data, k, f"{k}_nbd"))
        for k, kind in KINDS.items()
    ),
    _own("gamma_gamma", gamma_gamma, functools.partial(spends, **TRUTHS["gamma_gamma"])),
    _own("bg_bb", bg_bb, functools.partial(occasions, **TRUTHS["bg_bb"])),
    *(_own(k, functools.partial(_renewals, kind), functools.partial(_contracts, k)) for k, kind in CONTRACTS.items()),
]
