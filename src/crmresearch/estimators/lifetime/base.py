"""What all lifetime models share: the optimiser, standard errors and intervals.

A model gives the log-likelihood of its (collapsed) rows and its exact gradient; positive parameters are estimated on
the log scale, so that no step leaves the parameter space and intervals stay positive.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crmresearch.errors import FitError, FitWarning, InputError
from crmresearch.estimators.inference import ends
from crmresearch.estimators.lifetime.summary import check_weights, collapse, column, complain

Array = NDArray[np.float64]
Likelihood = Callable[[Array], tuple[float, Array]]

FAR = 12.0  # a parameter e^12 times its start is on its way to 0 or to infinity
WEAK = 2.5  # standard error of a log parameter: the 95% interval then spans a factor of 20,000
FIRST = 8_000  # rows of the subsample that large data start from


def maximise(
    likelihood: Likelihood, start: Array, total: float, inverse: Array | None = None, tolerance: float = 1e-11
) -> tuple[Array, float, Array, bool]:
    """Climb by BFGS with backtracking, steps of at most e^2 per positive parameter.

    Parameters
    ----------
    likelihood : callable
        Returns log-likelihood and gradient.
    start : ndarray
        Where to start.
    total : float
        Sum of weights; the optimiser works on the mean per customer.
    inverse : ndarray, optional
        Inverse of the information per customer, where a good one is known (a subsample, the fit before a resample).
    tolerance : float
        Stop when the squared Newton step, in units of the mean log-likelihood, falls below this.

    Returns
    -------
    theta, value, gradient, stopped
        Last point, log-likelihood and gradient there, and whether the tolerance was met.
    """
    size = len(start)
    known = inverse is not None
    metric = np.eye(size) if inverse is None else inverse
    theta = np.asarray(start, dtype=np.float64)
    value, gradient = likelihood(theta)
    if not math.isfinite(value):
        raise FitError("the log-likelihood is not finite at the start; look for extreme rows or give `start=`")
    value, gradient = value / total, gradient / total
    for _ in range(300):
        step = metric @ gradient
        rise = float(gradient @ step)
        if not rise > 0:
            metric, known = np.eye(size), False
            step, rise = gradient.copy(), float(gradient @ gradient)
        if rise < tolerance:
            return theta, value * total, gradient * total, True
        length = min(1.0, 2.0 / float(np.abs(step).max()))
        for _ in range(40):
            there, slope = likelihood(theta + length * step)
            there /= total
            if there >= value + 1e-4 * length * rise - 1e-14 * abs(value):
                break
            length *= (
                0.5 if not math.isfinite(there) else max(0.1, 0.5 * length * rise / (length * rise + value - there))
            )
        else:
            return theta, value * total, gradient * total, False
        move, bend = length * step, gradient - slope / total
        theta, value, gradient = theta + move, there, slope / total
        curved = float(move @ bend)
        if curved > 1e-14 * float(move @ move):
            if not known:
                metric, known = np.eye(size) * (curved / float(bend @ bend)), True
            seen = metric @ bend
            metric = (
                metric
                + (1 + float(bend @ seen) / curved) * np.outer(move, move) / curved
                - (np.outer(seen, move) + np.outer(move, seen)) / curved
            )
        if np.abs(theta - start).max() > FAR + 4:
            return theta, value * total, gradient * total, False
    return theta, value * total, gradient * total, False


def information(likelihood: Likelihood, theta: Array, gradient: Array) -> Array:
    """Return minus the second derivatives, by differences of the exact gradient (relative error about 1e-5)."""
    step = 1e-5
    rows = [(gradient - likelihood(theta + step * unit)[1]) / step for unit in np.eye(len(theta))]
    return 0.5 * (np.array(rows) + np.array(rows).T)


class Fitter:
    """Base of the lifetime models; see the classes themselves."""

    _names: ClassVar[tuple[str, ...]] = ()
    _often_equal: ClassVar[bool] = True  # whether rows repeat often enough to be worth counting
    _advice: ClassVar[str] = "check units and the number of repeat purchases, or give `start=`"

    params_: pd.Series
    log_likelihood_: float
    n_: float
    _information: Array | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, float] | None = None, **named: float) -> Self:
        """Return a model with given parameters (published ones, or one draw of a resample), for prediction.

        Parameters
        ----------
        params : mapping, optional
            Parameters by name; or give them as keywords.

        Raises
        ------
        InputError
            Missing, unknown or non-positive parameters.
        """
        values = {**(dict(params) if params is not None else {}), **named}
        if set(values) != set(cls._names):
            raise InputError(
                f"{cls.__name__} has the parameters {', '.join(cls._names)}; given: {', '.join(values) or 'none'}"
            )
        given = np.array([float(values[k]) for k in cls._names])
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise InputError(f"parameters of {cls.__name__} are positive and finite; given: {values}")
        fitter = cls()
        fitter.params_ = pd.Series(given, index=list(cls._names))
        return fitter

    # -- given by each model -------------------------------------------------------------------------------------------
    def _likelihood(self, columns: Sequence[Array], weights: Array) -> Likelihood:
        raise NotImplementedError

    def _start(self, columns: Sequence[Array], weights: Array) -> Array:
        raise NotImplementedError

    def _from_frame(self, frame: pd.DataFrame) -> tuple[list[Array], NDArray[np.intp]]:
        """Return the checked columns of a customer frame, and which of its rows they are."""
        raise NotImplementedError

    # -- estimation ----------------------------------------------------------------------------------------------------
    @np.errstate(all="ignore")  # a step too far gives no finite likelihood, and is shortened
    def _estimate(self, columns: list[Array], weights: ArrayLike | None, start: Mapping[str, float] | None) -> Self:
        rows = len(columns[0])
        if rows == 0:
            raise InputError("no rows to fit")
        given = None if weights is None else check_weights(weights, rows)
        if given is not None and (given == 0).any():
            columns, given = [c[given > 0] for c in columns], given[given > 0]
            rows = len(given)
        metric: Array | None = None
        theta = None if start is None else np.log(self.from_params(start).params_.to_numpy())
        if rows > 5 * FIRST:
            step = rows // FIRST
            part, repeats, _ = collapse([c[::step] for c in columns], None if given is None else given[::step])
            first = self._likelihood(part, repeats)
            begin = self._start(part, repeats) if theta is None else theta
            if math.isfinite(first(begin)[0]):  # not so when the subsample happens to have no repeat purchase
                theta, _, slope, _ = maximise(first, begin, repeats.sum(), tolerance=1e-8)
                metric = _inverse(information(first, theta, slope) / repeats.sum())
        if self._often_equal:
            columns, repeats, _ = collapse(columns, given)
        else:
            repeats = np.ones(rows) if given is None else given
        total = float(repeats.sum())
        likelihood = self._likelihood(columns, repeats)
        origin = self._start(columns, repeats)
        theta = origin if theta is None else theta
        best, flat = -math.inf, False
        for _ in range(8):  # BFGS, then Newton with the exact curvature; once is the rule
            theta, value, slope, _ = maximise(likelihood, theta, total, metric, 1e-4 / total)
            self._information = information(likelihood, theta, slope)
            if np.abs(theta - origin).max() > FAR:
                break
            metric = _inverse(self._information / total)
            if metric is not None:
                theta, value, error = _polish(likelihood, theta, value, slope, metric / total)
                if error < 1e-4:  # the step after this one is smaller by the error of the curvature
                    break
            flat = value - best < 1e-5
            if flat:
                break
            best = value
        else:
            raise FitError(f"{type(self).__name__} did not converge; {self._advice}")
        if not (math.isfinite(value) and np.isfinite(theta).all()):
            raise FitError(f"{type(self).__name__} left the range of numbers; {self._advice}")
        self.n_ = total
        self.log_likelihood_ = float(value)
        self.params_ = pd.Series(np.exp(theta), index=list(self._names))
        self._speak(theta - origin, flat)
        return self

    def _speak(self, moved: Array, flat: bool) -> None:
        """Warn of corner solutions and flat directions."""
        assert self._information is not None
        covariance = None if flat else _inverse(self._information)
        if (np.abs(moved) > FAR).any():
            what, which = "corner solution", np.abs(moved) > FAR
        elif covariance is None:
            direction = np.abs(np.linalg.eigh(self._information)[1][:, 0])
            what, which = "flat direction", direction > 0.3 * direction.max()
            self._information = None
        else:
            what, which = "flat direction", np.sqrt(np.diag(covariance)) > WEAK
        if not which.any():
            return
        values = ", ".join(f"{n} = {v:.3g}" for n, v in self.params_[which].items())
        warnings.warn(
            f"{type(self).__name__}: {what} in {values}. These data do not tell the parameter from much larger or "
            f"smaller values; predictions may still be sound. {self._corner}",
            FitWarning,
            stacklevel=5,
        )

    _corner: ClassVar[str] = "Try a longer calibration window, more customers or a simpler model"

    # -- uncertainty ---------------------------------------------------------------------------------------------------
    @property
    def _covariance(self) -> Array:
        """Covariance of the logs of the parameters, the scale of estimation."""
        if not hasattr(self, "n_"):
            raise FitError("no standard errors: the parameters were given, not fitted")
        covariance = None if self._information is None else _inverse(self._information)
        if covariance is None:
            raise FitError(f"no standard errors: {type(self).__name__} ended in a corner or on a ridge. {self._corner}")
        return covariance

    @property
    def variance_matrix_(self) -> pd.DataFrame:
        """Covariance of the estimates (inverse observed information, delta method from the log scale)."""
        names, scale = self.params_.index, self.params_.to_numpy()
        return pd.DataFrame(self._covariance * np.outer(scale, scale), index=names, columns=names)

    @property
    def standard_errors_(self) -> pd.Series:
        """Asymptotic standard errors of the parameters."""
        matrix = self.variance_matrix_
        return pd.Series(np.sqrt(np.diag(matrix.to_numpy())), index=matrix.index)

    @property
    def confidence_intervals_(self) -> pd.DataFrame:
        """95% intervals, symmetric on the log scale."""
        low, high = ends(np.log(self.params_), np.sqrt(np.diag(self._covariance)))
        return pd.DataFrame({"lower 95% bound": np.exp(low), "upper 95% bound": np.exp(high)})

    @property
    def summary(self) -> pd.DataFrame:
        """Estimates with standard errors and 95% intervals, one row per parameter."""
        frame = pd.DataFrame({"coef": self.params_, "se(coef)": self.standard_errors_})
        return frame.join(self.confidence_intervals_)

    @property
    def aic_(self) -> float:
        """Akaike's criterion; comparable between models of the same rows only."""
        return 2 * len(self.params_) - 2 * self.log_likelihood_

    def __repr__(self) -> str:
        if not hasattr(self, "params_"):
            return f"<{type(self).__name__}, not fitted>"
        values = ", ".join(f"{k}: {v:.4g}" for k, v in self.params_.items())
        return f"<{type(self).__name__}: {values}>"

    def _values(self) -> tuple[float, ...]:
        if not hasattr(self, "params_"):
            raise FitError(
                f"{type(self).__name__} is not fitted yet; call fit(), or from_params() with known parameters"
            )
        return tuple(float(v) for v in self.params_.to_numpy())


def _inverse(matrix: Array) -> Array | None:
    """Invert a positive definite matrix; None where it is not one to working accuracy."""
    if not np.isfinite(matrix).all():
        return None
    scale = np.sqrt(np.abs(np.diag(matrix)))
    if not (np.diag(matrix) > 0).all():
        return None
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    if values[0] < 1e-10:
        return None
    inverse: Array = (vectors / values) @ vectors.T / np.outer(scale, scale)
    return inverse


def _polish(
    likelihood: Likelihood, theta: Array, value: float, gradient: Array, covariance: Array
) -> tuple[Array, float, float]:
    """Newton steps with fixed curvature; return the point, its log-likelihood and the last step in standard errors."""
    errors, size = np.sqrt(np.diag(covariance)), math.inf
    for _ in range(5):
        step = covariance @ gradient
        there, slope = likelihood(theta + step)
        if not there >= value - 1e-9 * (1 + abs(value)):
            break
        theta, value, gradient = theta + step, there, slope
        size = float(np.abs(step / errors).max())
        if size < 1e-5:
            break
    return theta, value, size


def finite(values: ArrayLike, what: str) -> Any:
    """Return values if every one is finite, else say how many rows are not; a single number comes back as float."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        raise FitError(
            f"{what} cannot be computed for {int(bad.sum())} of {array.size} rows; look for extreme rows, or for "
            "parameters in a corner (a longer calibration window or a simpler model may help)"
        )
    return float(array) if array.ndim == 0 else array


def horizon(t: ArrayLike) -> Array:
    """Return a time ahead as an array; it must not be negative."""
    array = column(t, "t", most=2)
    complain("t", array < 0, "negative", "a horizon lies ahead")
    return array
