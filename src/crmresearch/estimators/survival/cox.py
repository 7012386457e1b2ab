"""Cox regression on collapsed risk sets: Efron ties, late entry, start-stop rows, strata, counts as weights.

Sums over a risk set are suffix sums over the distinct event times. The information needs no matrix per event time:
adding up ``r_i x_i x_i'`` over all risk sets weighs every row by the baseline hazard it went through, one matrix
product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import by_cluster, full_rank, need_events, resample, sized
from crmresearch.estimators.survival.risk import Spells, hazard_ratios, read_spells

Ties = Literal["efron", "breslow"]


class RiskSets:
    """Rows sorted by exit, with the event times they are at risk at."""

    def __init__(self, frame: pd.DataFrame, covariates: Sequence[str], strata: str | None = None, whole: bool = True):
        self.fill(frame, read_spells(frame, [*covariates, *([strata] if strata else [])], whole), covariates, strata)

    def fill(
        self,
        frame: pd.DataFrame,
        spells: Spells,
        covariates: Sequence[str],
        strata: str | None,
        stay: np.ndarray | None = None,
    ) -> None:
        """Sort the rows and index their risk sets; rows marked ``stay`` are kept even if no event falls into theirs."""
        from scipy import sparse

        if not (spells.event & (spells.n > 0)).any():
            raise FitError("no events: nobody left in these spells, so no hazard ratio can be estimated")
        self.times = np.unique(spells.exit[spells.event & (spells.n > 0)])
        size = len(self.times)
        first = np.searchsorted(self.times, spells.entry, side="right")
        last = np.searchsorted(self.times, spells.exit, side="right") - 1
        codes, levels = pd.factorize(frame[strata], sort=True) if strata else (np.zeros(len(frame), int), [0])
        self.strata: np.ndarray = np.asarray(levels)
        here = last >= first
        counted = (here if stay is None else here | stay) & (spells.n > 0)
        order = np.lexsort((last, codes))
        order = order[counted[order]]
        self.rows = order
        self.first, self.last, self.codes = first[order], last[order], codes[order]
        here = here[order]
        self.event, self.weight = spells.event[order], spells.n[order]
        self.bins = len(self.strata) * size
        raw = frame[list(covariates)].to_numpy(dtype=float)[order]
        self.mean = (self.weight @ raw) / self.weight.sum()
        second = np.einsum("i,ij,ij->j", self.weight, raw, raw) / self.weight.sum()
        spread = np.sqrt(np.maximum(second - self.mean**2, 0.0))
        spread[spread < 1e-7 * np.sqrt(second)] = 0.0
        flat = [c for c, s in zip(covariates, spread, strict=True) if not s > 0]
        if flat:
            raise FitError(f"{', '.join(flat)} does not vary among those at risk; leave it out")
        self.scale = spread
        count = len(order)
        self.z = np.empty((count, 1 + raw.shape[1]))  # a column of ones: one product gives S0 and S1
        self.z[:, 0] = 1
        np.subtract(raw, self.mean, out=self.z[:, 1:])
        self.z[:, 1:] /= spread
        self.x = self.z[:, 1:]
        end, begin = self.codes * size + self.last, self.codes * size + self.first - 1
        late = here & (self.first > 0)
        self.end, self.died = end, np.flatnonzero(self.event)
        # every row is added at its last event time, and taken off again before its first
        rows = np.r_[np.flatnonzero(here), np.flatnonzero(late)]
        sign = np.r_[np.ones(here.sum()), -np.ones(late.sum())]
        self.delta = sparse.csr_matrix((sign, (np.r_[end[here], begin[late]], rows)), shape=(self.bins, count))
        died = self.died
        self.deaths = sparse.csr_matrix((np.ones(len(died)), (end[died], died)), shape=(self.bins, count))
        self.weighted = {"risk": self.delta.copy(), "deaths": self.deaths.copy()}
        self.sign = self.delta.data.copy()

    def refuse_collinear(self, names: Sequence[str]) -> None:
        """Refuse covariates that are combinations of others, or of the strata."""
        within = self.x
        if len(self.strata) > 1:
            size = np.maximum(np.bincount(self.codes, minlength=len(self.strata)), 1)
            mean = np.stack([np.bincount(self.codes, c, minlength=len(size)) / size for c in self.x.T], axis=1)
            within = self.x - mean[self.codes]
            flat = [n for n, c in zip(names, within.T, strict=True) if not np.abs(c).max() > 1e-9]
            if flat:
                raise FitError(f"{', '.join(flat)} does not vary within the strata; leave it out")
        full_rank(within, names)

    def sums(self, r: np.ndarray, columns: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Sum ``r`` times (1, x) over the risk set and over the deaths of each bin."""
        risk, deaths = self.weighted["risk"], self.weighted["deaths"]
        np.multiply(self.sign, r[risk.indices], out=risk.data)
        np.take(r, deaths.indices, out=deaths.data)
        z = self.z if columns is None else self.z[:, :columns]
        at_risk = (risk @ z).reshape(len(self.strata), len(self.times), -1)
        return at_risk[:, ::-1].cumsum(axis=1)[:, ::-1].reshape(self.bins, -1), deaths @ z

    def through(self, values: np.ndarray) -> np.ndarray:
        """Sum bin values over the event times each row is at risk at."""
        shape = values.shape
        sums = values.reshape(len(self.strata), len(self.times), -1).cumsum(axis=1).reshape(shape)
        return self.delta.T @ sums


@dataclass(frozen=True)
class _Ties:
    """Sums of 1/den, f/den, 1/den^2, f/den^2, f^2/den^2 over tied deaths m < d; f = m/d, den = S0 - f D0."""

    deaths: np.ndarray
    a1: np.ndarray
    b1: np.ndarray
    a2: np.ndarray
    b2: np.ndarray
    c2: np.ndarray
    log: np.ndarray


def _tie_sums(deaths: np.ndarray, s0: np.ndarray, d0: np.ndarray, ties: Ties) -> _Ties:
    some = deaths > 0
    zero = np.zeros(len(deaths))
    if ties == "breslow":
        inverse = np.divide(1.0, s0, out=zero.copy(), where=some)
        log = deaths * np.log(np.where(some, s0, 1.0))
        return _Ties(deaths, deaths * inverse, zero, deaths * inverse**2, zero, zero, log)
    whole = np.round(deaths).astype(int)
    bins = np.repeat(np.arange(len(deaths)), whole)
    start = np.cumsum(whole) - whole
    f = (np.arange(len(bins)) - start[bins]) / whole[bins]
    den = s0[bins] - f * d0[bins]
    inverse = 1.0 / den

    filled = np.flatnonzero(whole)

    def add(values: np.ndarray) -> np.ndarray:
        out = np.zeros(len(deaths))
        out[filled] = np.add.reduceat(values, start[filled])
        return out

    square = inverse**2
    return _Ties(
        deaths, add(inverse), add(f * inverse), add(square), add(f * square), add(f * f * square), add(np.log(den))
    )


@dataclass
class _State:
    """Everything one Newton step needs, at one value of the coefficients."""

    loglik: float
    s1: np.ndarray
    d1: np.ndarray
    sums: _Ties
    r: np.ndarray
    score: np.ndarray = field(default_factory=lambda: np.zeros(0))
    information: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


def _gram(z: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Cross-product of the covariates weighted by ``v``, in blocks that stay in the cache."""
    block = 32768
    out = np.zeros((z.shape[1], z.shape[1]))
    for start in range(0, len(z), block):
        part = z[start : start + block]
        out += part.T @ (v[start : start + block, None] * part)
    return out[1:, 1:]


@np.errstate(all="ignore")  # far from the optimum values overflow; the step is then halved
def _evaluate(
    sets: RiskSets,
    beta: np.ndarray,
    weight: np.ndarray,
    ties: Ties,
    g: np.ndarray | None = None,
    derivatives: bool = True,
) -> _State:
    """Log-likelihood, score and information; with ``g`` (a value per bin) the latter two are weighted over time."""
    x = sets.x
    eta = x @ beta
    r = weight * np.exp(eta)
    died = sets.died
    deaths = sets.deaths @ weight
    moments, dying = sets.sums(r, None if derivatives else 1)
    s0, s1, d0, d1 = moments[:, 0], moments[:, 1:], dying[:, 0], dying[:, 1:]
    sums = _tie_sums(deaths, s0, d0, ties)
    state = _State(float(weight[died] @ eta[died] - sums.log.sum()), s1, d1, sums, r)
    if derivatives:
        one = np.ones(sets.bins) if g is None else g
        events = np.zeros(len(r))
        events[died] = weight[died] * one[sets.end[died]]
        state.score = events @ x - ((one * sums.a1) @ s1 - (one * sums.b1) @ d1)
        v = r * sets.through(one * sums.a1)
        v[died] -= r[died] * (one * sums.b1)[sets.end[died]]
        cross = s1.T @ ((one * sums.b2)[:, None] * d1)
        state.information = (
            _gram(sets.z, v)
            - s1.T @ ((one * sums.a2)[:, None] * s1)
            + cross
            + cross.T
            - d1.T @ ((one * sums.c2)[:, None] * d1)
        )
    return state


def _newton(
    sets: RiskSets, weight: np.ndarray, ties: Ties, start: np.ndarray | None, tolerance: float = 1e-10
) -> tuple[np.ndarray, _State]:
    beta = np.zeros(sets.x.shape[1]) if start is None else start.copy()
    state = _evaluate(sets, beta, weight, ties)
    for _ in range(40):
        try:
            step = np.linalg.solve(state.information, state.score)
        except np.linalg.LinAlgError:
            raise FitError("covariates are collinear among those at risk; drop or merge some") from None
        if not np.isfinite(step).all():
            raise FitError(
                "the partial likelihood is not finite; a covariate separates those who left from those who stayed"
            )
        if state.score @ step < tolerance:
            # a flat likelihood with a long step left is an infinite coefficient
            if tolerance < 1e-6 and np.abs(sets.x @ step).max() > 0.01:
                break
            return beta + step, state
        for halving in range(30):
            new = _evaluate(sets, beta + step / 2**halving, weight, ties)
            if np.isfinite(new.loglik) and new.loglik >= state.loglik - 1e-9 * abs(state.loglik):
                break
        beta, state = beta + step / 2**halving, new
        if np.abs(sets.x @ beta).max() > 50:
            break
    raise FitError(
        "a Cox regression does not converge; a covariate separates those who left from those who stayed (see the "
        "separation gate)"
    )


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model.

    Attributes
    ----------
    params : Series
        Log hazard ratios, by covariate.
    covariance : DataFrame
        Of ``params``; cluster-robust when the fit was given clusters.
    loglik, loglik_null : float
        Partial log-likelihood at the estimate and at zero.
    n, events : int
        Rows counted by weight (customers, where each has one row) and events.
    baseline : DataFrame
        ``stratum, time, hazard, cumulative`` at the mean of the covariates.
    """

    params: pd.Series
    covariance: pd.DataFrame
    loglik: float
    loglik_null: float
    n: int
    events: int
    ties: Ties
    baseline: pd.DataFrame
    means: pd.Series
    sets: Any = field(repr=False, default=None)

    @property
    def se(self) -> pd.Series:
        """Standard errors of ``params``."""
        return pd.Series(np.sqrt(np.diag(self.covariance)), self.params.index)

    def summary(self) -> pd.DataFrame:
        """Hazard ratios with intervals and two-sided p-values, one row per covariate."""
        return hazard_ratios(self.params, self.se, self.n, self.events)

    def relative_risk(self, frame: pd.DataFrame) -> np.ndarray:
        """Hazard of each row over the hazard at the mean of the covariates."""
        x = frame[list(self.params.index)].to_numpy(dtype=float)
        return np.exp((x - self.means.to_numpy()) @ self.params.to_numpy())

    def cumulative_baseline(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """Cumulative baseline hazard, without strata; flat after the last event time."""
        where = np.searchsorted(self.baseline["time"].to_numpy(), np.asarray(times, dtype=float), side="right")
        return np.r_[0.0, self.baseline["cumulative"].to_numpy()][where]

    def risk(self, frame: pd.DataFrame, horizon: float) -> np.ndarray:
        """Probability of the event within ``horizon`` months."""
        return -np.expm1(-self.cumulative_baseline(np.array([horizon])) * self.relative_risk(frame))

    def shrunk(self) -> CoxFit:
        """Return the model for prediction: log hazard ratios shrunk for what fitting them made too large.

        The factor is (chi2 - df) / chi2 of the likelihood ratio, 0 at least; the baseline is estimated anew.

        References
        ----------
        Van Houwelingen and Le Cessie (1990), Statistics in Medicine 9.
        """
        chi2 = 2 * (self.loglik - self.loglik_null)
        factor = max(1 - len(self.params) / chi2, 0.0) if chi2 > 0 else 0.0
        params, sets = factor * self.params, self.sets
        state = _evaluate(sets, params.to_numpy() * sets.scale, sets.weight, self.ties, derivatives=False)
        return replace(
            self, params=params, covariance=factor**2 * self.covariance, baseline=_baseline(sets, state.sums.a1)
        )


def cox(
    frame: pd.DataFrame,
    covariates: Sequence[str],
    *,
    strata: str | None = None,
    cluster: str | None = None,
    ties: Ties = "efron",
) -> CoxFit:
    """Fit a Cox model to spells or start-stop rows.

    Parameters
    ----------
    frame : DataFrame
        ``exit``, ``event``; optional ``entry`` (late entry, or the start of a start-stop row) and ``n`` (identical rows
        this one stands for: collapsed data give exactly the estimate of the expanded data, ties included).
    covariates : sequence of str
        Numeric columns.
    strata : str, optional
        Column whose levels have their own baseline hazard.
    cluster : str, optional
        Column of the independent unit (customer, branch); standard errors are then robust (Lin and Wei 1989). The
        ``n`` rows that a row stands for belong to one unit.
    ties : {'efron', 'breslow'}
        Treatment of ties. Breslow also takes fractional ``n``.

    Raises
    ------
    FitError
        No events, a covariate that does not vary, collinearity, separation.

    References
    ----------
    Efron (1977), JASA 72; Lin and Wei (1989), JASA 84.
    """
    if not covariates:
        raise InputError("a Cox model needs at least one covariate; for none, use kaplan_meier")
    if ties not in ("efron", "breslow"):
        raise InputError(f"ties must be 'efron' or 'breslow', not {ties!r}")
    names = list(covariates)
    fit, state = fit_sets(RiskSets(frame, names, strata, whole=ties == "efron"), names, ties)
    if cluster is None:
        return fit
    sets, inverse = fit.sets, fit.covariance.to_numpy()
    scores = _score_residuals(sets, state, sets.weight) * sets.scale
    robust = inverse @ by_cluster(scores, frame[cluster].to_numpy()[sets.rows]) @ inverse
    return replace(fit, covariance=pd.DataFrame(robust, names, names))


def fit_sets(sets: RiskSets, names: list[str], ties: Ties) -> tuple[CoxFit, _State]:
    """Fit a model to its risk sets; the covariance is that of the model, the state is where Newton's method stopped."""
    sets.refuse_collinear(names)
    null = _evaluate(sets, np.zeros(len(names)), sets.weight, ties, derivatives=False)
    events, scale = round(sets.weight[sets.died].sum()), sets.scale
    sized(events, len(names), events)
    try:
        beta, state = _newton(sets, sets.weight, ties, None)
    except FitError as error:
        raise FitError(f"with {events:,} exits, {error}") from None
    fit = CoxFit(
        params=pd.Series(beta / scale, names),
        covariance=pd.DataFrame(np.linalg.inv(state.information) / np.outer(scale, scale), names, names),
        loglik=state.loglik,
        loglik_null=null.loglik,
        n=int(sets.weight.sum()),
        events=events,
        ties=ties,
        baseline=_baseline(sets, state.sums.a1),
        means=pd.Series(sets.mean, names),
        sets=sets,
    )
    return fit, state


def _baseline(sets: RiskSets, hazard: np.ndarray) -> pd.DataFrame:
    """Baseline hazard at the event times of every stratum, and its running sum."""
    size = len(sets.times)
    return pd.DataFrame(
        {
            "stratum": np.repeat(sets.strata, size),
            "time": np.tile(sets.times, len(sets.strata)),
            "hazard": hazard,
            "cumulative": hazard.reshape(-1, size).cumsum(axis=1).ravel(),
        }
    )


def _score_residuals(sets: RiskSets, state: _State, weight: np.ndarray) -> np.ndarray:
    """Return every row's contribution to the score, in the standardised covariates; Efron's ties as R has them."""
    t, x, r = state.sums, sets.x, state.r
    died, end = sets.died, sets.end[sets.died]
    some = t.deaths > 0
    mean = np.divide(
        t.a1[:, None] * state.s1 - t.b1[:, None] * state.d1,
        t.deaths[:, None],
        where=some[:, None],
        out=np.zeros_like(state.s1),
    )
    drift = t.a2[:, None] * state.s1 - t.b2[:, None] * state.d1
    out = -r[:, None] * (x * sets.through(t.a1)[:, None] - sets.through(drift))
    tied = t.b2[:, None] * state.s1 - t.c2[:, None] * state.d1
    out[died] += weight[died, None] * (x[died] - mean[end]) + r[died, None] * (x[died] * t.b1[end, None] - tied[end])
    return out


def dfbeta(fit: CoxFit) -> pd.DataFrame:
    """Change of each coefficient, in standard errors, when one person of a row is left out (approximate)."""
    sets = fit.sets
    beta = fit.params.to_numpy() * sets.scale
    state = _evaluate(sets, beta, sets.weight, fit.ties)
    covariance = np.linalg.inv(state.information)
    change = _score_residuals(sets, state, sets.weight) / sets.weight[:, None] @ covariance
    return pd.DataFrame(change / np.sqrt(np.diag(covariance)), columns=list(fit.params.index), index=sets.rows)


def cox_bootstrap(frame: pd.DataFrame, covariates: Sequence[str], *, repeats: int, seed: int) -> pd.DataFrame:
    """Refit a Cox model to bootstrap samples, each from the last step of the full fit.

    A resample is a vector of counts, never a copied frame; with Efron's ties counts are ties, as in a copied frame.

    Parameters
    ----------
    frame, covariates
        As in :func:`cox`.
    repeats, seed : int
        Number of resamples and seed.

    Returns
    -------
    DataFrame
        One row per resample, one column per covariate: log hazard ratios.
    """
    fit = cox(frame, covariates)
    need_events(fit.events)
    sets, rng = fit.sets, np.random.default_rng(seed)
    start, total = fit.params.to_numpy() * sets.scale, int(sets.weight.sum())
    single = bool((sets.weight == 1).all())
    out = np.empty((repeats, len(start)))
    for repeat in range(repeats):
        if single:
            weight = np.bincount(rng.integers(0, total, total), minlength=total).astype(float)
        else:
            weight = resample(rng, sets.weight)
        out[repeat] = _newton(sets, weight, "efron", start, tolerance=1e-2)[0]
    return pd.DataFrame(out / sets.scale, columns=list(covariates))
