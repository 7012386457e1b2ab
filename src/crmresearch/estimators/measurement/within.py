"""Effects between waves around a customer's own level: the random-intercept cross-lagged model, by maximum likelihood.

Own code: semopy, asked for this model, reports success far from the maximum once stable differences are large, since
autoregressions near 1 imitate them. Here the likelihood is climbed from starts on both sides of that ridge.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.inference import complete, sized
from crmresearch.estimators.measurement.moments import covariance

ROUNDS, SETTLED = 500, 1e-10  # of scoring; the decrement of the discrepancy at which it ends
SINGULAR = 1e12  # condition of the covariances from which on they have no inverse
PATHS = ("x to x", "y to x", "x to y", "y to y")  # row by row of the matrix of paths


class _Model:
    """Covariances of ``x1, y1, x2, y2, ...`` from traits (3), first wave (3), paths (4), disturbances (3 a wave)."""

    def __init__(self, waves: int, error: tuple[float, float]) -> None:
        self.waves, self.error = waves, np.tile(error, waves)
        self.size = 10 + 3 * (waves - 1)

    def implied(self, values: np.ndarray) -> np.ndarray:
        parts = values[[0, 1, 1, 2]].reshape(2, 2), values[[3, 4, 4, 5]].reshape(2, 2), values[6:10].reshape(2, 2)
        trait, own, paths = parts
        sigma = np.empty((self.waves, 2, self.waves, 2))
        for t in range(self.waves):
            if t:
                a, b, c = values[10 + 3 * (t - 1) :][:3]
                own = paths @ own @ paths.T + np.array([[a, b], [b, c]])
            ahead = own
            for later in range(t, self.waves):
                sigma[later, :, t] = ahead + trait
                sigma[t, :, later] = ahead.T + trait
                ahead = paths @ ahead
        return sigma.reshape(2 * self.waves, -1) + np.diag(self.error)

    def slopes(self, values: np.ndarray) -> np.ndarray:
        """Derivatives of the covariances, which are polynomials, by central differences."""
        step = 1e-5 * np.eye(self.size)
        return np.stack([(self.implied(values + h) - self.implied(values - h)) / 2e-5 for h in step])

    def starts(self, cov: np.ndarray) -> list[np.ndarray]:
        """All that lasts is traits; half of it is; none of it is."""
        cells = cov.reshape(self.waves, 2, self.waves, 2)
        apart = [cells[t, :, s] for t in range(self.waves) for s in range(t)]
        lasting = np.mean([(c + c.T) / 2 for c in apart], axis=0)
        out = []
        for share, path in ((0.9, 0.0), (0.5, 0.3), (0.0, 0.6)):
            trait = share * lasting
            own = [
                np.maximum(np.diag(cells[t, :, t]) - self.error[:2] - np.diag(trait), 0.1) for t in range(self.waves)
            ]
            ends = [[v[0] * (1 - path**2), 0.0, v[1] * (1 - path**2)] for v in own[1:]]
            first = [own[0][0], 0.0, own[0][1]]
            out.append(np.r_[trait[[0, 0, 1], [0, 1, 1]], first, path, 0.0, 0.0, path, np.ravel(ends)])
        return out


def _discrepancy(cov: np.ndarray, sigma: np.ndarray) -> float:
    """log|Sigma| + tr(S / Sigma) - log|S| - p; infinite where Sigma is no covariance matrix."""
    try:
        root = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        return np.inf
    size = np.linalg.slogdet(cov)[1] + len(cov)
    return float(2 * np.log(np.diag(root)).sum() + np.trace(np.linalg.solve(sigma, cov)) - size)


def _information(sigma: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Expected information of one customer."""
    white = np.linalg.solve(sigma, slopes)
    return np.asarray(np.einsum("jab,kba->jk", white, white) / 2)


def _climb(cov: np.ndarray, model: _Model, values: np.ndarray) -> tuple[float, np.ndarray]:
    """Fisher scoring, damped where a step would not lower the discrepancy."""
    value, damping = _discrepancy(cov, model.implied(values)), 0.0
    for _ in range(ROUNDS):
        sigma, slopes = model.implied(values), model.slopes(values)
        inverse = np.linalg.inv(sigma)
        gradient = np.einsum("kab,ab->k", slopes, inverse @ (sigma - cov) @ inverse)
        second = 2 * _information(sigma, slopes)
        scale = np.diag(np.diag(second))
        step = -np.linalg.lstsq(second + damping * scale, gradient, rcond=None)[0]
        new = _discrepancy(cov, model.implied(values + step))
        if not new <= value + 1e-12:
            damping = max(10 * damping, 1e-4)
            if damping > 1e8:
                break
            continue
        settled = damping < 1e-3 and -gradient @ step < SETTLED
        values, value, damping = values + step, new, damping / 10 if damping > 1e-6 else 0.0
        if settled:
            return value, values
    return np.inf, values


def within_customer(panel: pd.DataFrame, waves: int, *, error: tuple[float, float] = (0.0, 0.0)) -> pd.DataFrame:
    """Random-intercept cross-lagged model of two scores over three or more waves.

    Stable differences between customers go into one random intercept per score, with loading 1 in every wave; what is
    left of each wave is a customer's departure from his own level. Paths between departures are held equal over time;
    the first wave's departures covary freely, and so do the disturbances of each later wave. With three waves that
    leaves 5 degrees of freedom. Variances are not kept above zero, so that intervals hold where one of them is nothing.

    Parameters
    ----------
    panel : DataFrame
        One row per customer, columns ``x1, y1, x2, y2, ...``; complete.
    waves : int
    error : (float, float)
        Error variance of x and of y in each wave, known from their reliability; it is kept out of the paths.

    Returns
    -------
    DataFrame
        path (``x to y`` ...), estimate, se, n, chi2, df, rmsea.

    Raises
    ------
    FitError
        When no start reaches a maximum, or the paths are not identified there.

    References
    ----------
    Hamaker, Kuiper and Grasman (2015), A critique of the cross-lagged panel model, *Psychological Methods* 20.
    """
    if waves < 3:
        raise InputError(f"a random intercept needs three waves; there are {waves}")
    n, model = len(panel), _Model(waves, error)
    names = [f"{v}{t}" for t in range(1, waves + 1) for v in "xy"]
    cov = covariance(np.column_stack(complete(**{name: panel[name] for name in names})))
    if np.linalg.cond(cov) > SINGULAR:
        raise FitError("the cross-lagged model has no maximum: one wave of a score is a function of the others")
    lowest, values = min((_climb(cov, model, start) for start in model.starts(cov)), key=lambda found: found[0])
    sized(n, model.size)
    information = n * _information(model.implied(values), model.slopes(values))
    root = np.sqrt(np.diag(information))
    if not np.isfinite(lowest) or np.linalg.eigvalsh(information / np.outer(root, root))[0] < 1e-9:
        raise FitError("the cross-lagged model has no clear maximum; the waves may hardly change")
    df, chi2 = waves * (2 * waves + 1) - model.size, n * lowest
    table = {"path": PATHS, "estimate": values[6:10], "se": np.sqrt(np.diag(np.linalg.inv(information)))[6:10]}
    return pd.DataFrame(table).assign(n=n, chi2=chi2, df=df, rmsea=np.sqrt(max(chi2 - df, 0) / (df * n)))
