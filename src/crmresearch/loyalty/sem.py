"""Covariance structure models through semopy: fit indices, standardised paths, directions the data do not identify."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, InputError
from crmresearch.loyalty.model import PathModel

__all__ = ["SEM", "LeastSquares", "fit_sem", "least_squares", "within_customer"]

TOLERANCE = 0.01  # share of a path's information that other parameters do not take away


@dataclass(frozen=True)
class SEM:
    """Fit indices and paths of a covariance structure model.

    Attributes
    ----------
    indices : dict
        n, chi2, df, p, cfi, tli, rmsea, srmr, bic (chi-square plus parameters times log n).
    paths : DataFrame
        source, target, estimate, se, standardised, standardised_se, tolerance, identified. ``tolerance`` is
        1 / (I_jj V_jj) with I the expected information and V its inverse, the analogue of 1 / VIF: near 0 other
        parameters can imitate the path, and its value is arbitrary. ``standardised_se`` takes the standard deviations
        of the constructs as known.
    """

    indices: dict[str, float]
    paths: pd.DataFrame


def _measurement(model: PathModel) -> str:
    return "\n".join(f"{c} =~ {' + '.join(items)}" for c, items in model.constructs.items())


def _srmr(sample: np.ndarray, implied: np.ndarray) -> float:
    sd = np.sqrt(np.diag(sample))
    residual = (sample - implied) / np.outer(sd, sd)
    return float(np.sqrt((residual[np.tril_indices(len(sd))] ** 2).mean()))


def fit_sem(items: pd.DataFrame, model: PathModel, *, structural: bool = True) -> SEM:
    """Fit by maximum likelihood (Wishart).

    Parameters
    ----------
    items : DataFrame
        Numeric items without missing values.
    model : PathModel
        All blocks reflective.
    structural : bool
        False frees all construct correlations: the confirmatory factor model.

    Raises
    ------
    InputError
        For formative blocks, which a covariance model of this kind does not have.
    FitError
        When the likelihood does not converge.
    """
    import semopy

    if "B" in model.modes.values():
        raise InputError("formative blocks (mode B) have no covariance structure model here; use fit_pls")
    text = _measurement(model)
    if structural:
        text += "\n" + "\n".join(f"{c} ~ {' + '.join(model.predictors(c))}" for c in model.names if model.predictors(c))
    fitted = semopy.Model(text)
    result = fitted.fit(items[list(model.items)])
    if not result.success or not np.isfinite(result.fun):
        raise FitError(
            f"the covariance model did not converge ({result.message}); look at HTMT and at small constructs"
        )
    stats = semopy.calc_stats(fitted).iloc[0]
    n = len(items)
    indices = {
        "n": n,
        "chi2": float(stats["chi2"]),
        "df": int(stats["DoF"]),
        "p": float(stats["chi2 p-value"]),
        "cfi": float(stats["CFI"]),
        "tli": float(stats["TLI"]),
        "rmsea": float(stats["RMSEA"]),
        "srmr": _srmr(fitted.mx_cov, fitted.calc_sigma()[0]),
        "bic": float(stats["chi2"]) + len(fitted.param_vals) * np.log(n),
    }
    return SEM(indices, _paths(fitted, model) if structural else pd.DataFrame())


def _paths(fitted: object, model: PathModel) -> pd.DataFrame:
    information, inverse = fitted.calc_fim(inverse=True)  # type: ignore[attr-defined]
    kept = 1 / (np.diag(information) * np.diag(inverse))
    shown = fitted.inspect(std_est=True)  # type: ignore[attr-defined]
    shown = shown[(shown["op"] == "~") & shown["lval"].isin(model.names)]
    names = [k for k, p in fitted.parameters.items() if p.active]  # type: ignore[attr-defined]
    values = np.asarray(fitted.param_vals)  # type: ignore[attr-defined]
    rows = []
    for row in shown.itertuples(index=False):
        target, source, estimate, standard = row[0], row[2], float(row[3]), float(row[4])
        at = int(np.argmin(np.abs(values - estimate)))
        variance = float(inverse[at, at])
        se = np.sqrt(variance) if variance > 0 else np.inf
        scale = standard / estimate
        rows.append(
            {
                "source": source,
                "target": target,
                "estimate": estimate,
                "se": se,
                "standardised": standard,
                "standardised_se": se * abs(scale),
                "tolerance": float(kept[at]) if variance > 0 else 0.0,
                "parameter": names[at],
            }
        )
    table = pd.DataFrame(rows).drop(columns="parameter")
    return table.assign(identified=table["tolerance"] >= TOLERANCE)


@dataclass(frozen=True)
class LeastSquares:
    """Unweighted least-squares fit to a correlation matrix."""

    srmr: float
    correlations: pd.DataFrame


def least_squares(corr: pd.DataFrame, model: PathModel) -> LeastSquares:
    """Fit the factor model to a (polychoric) correlation matrix by unweighted least squares.

    Least squares needs no weight matrix, is consistent for polychoric correlations, and gives no valid chi-square; so
    SRMR alone is reported.
    """
    import semopy

    fitted = semopy.Model(_measurement(model))
    result = fitted.fit(cov=corr, obj="ULS", n_samples=1000)
    if not result.success:
        raise FitError(f"the factor model did not converge on polychoric correlations ({result.message})")
    implied = fitted.calc_sigma()[0]
    order = list(fitted.vars["observed"])
    sample = corr.loc[order, order].to_numpy()
    shown = fitted.inspect(std_est=True)
    pairs = shown[(shown["op"] == "~~") & shown["lval"].isin(model.names) & shown["rval"].isin(model.names)]
    matrix = pd.DataFrame(np.eye(len(model.names)), model.names, model.names)
    for a, b, value in pairs[["lval", "rval", "Est. Std"]].itertuples(index=False, name=None):
        if a != b:
            matrix.loc[a, b] = matrix.loc[b, a] = float(value)
    return LeastSquares(_srmr(sample, implied), matrix)


def within_customer(panel: pd.DataFrame, waves: int, *, error: tuple[float, float] = (0.0, 0.0)) -> pd.DataFrame:
    """Random-intercept cross-lagged model of two scores over three or more waves (Hamaker, Kuiper and Grasman 2015).

    Stable differences between customers go into one random intercept per score; paths between waves are held equal
    over time and are about departures from a customer's own level.

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
    """
    import semopy

    if waves < 3:
        raise InputError(f"a random intercept needs three waves; there are {waves}")
    lines = [f"i{v} =~ " + " + ".join(f"1*{v}{t}" for t in range(1, waves + 1)) for v in "xy"]
    lines += [f"w{v}{t} =~ 1*{v}{t}" for v in "xy" for t in range(1, waves + 1)]
    lines += [f"{v}{t} ~~ {e:.6f}*{v}{t}" for v, e in zip("xy", error, strict=True) for t in range(1, waves + 1)]
    for t in range(2, waves + 1):
        lines += [f"wy{t} ~ yy*wy{t - 1} + xy*wx{t - 1}", f"wx{t} ~ xx*wx{t - 1} + yx*wy{t - 1}", f"wx{t} ~~ wy{t}"]
    lines += ["ix ~~ iy", "wx1 ~~ wy1"]
    lines += [f"{i} ~~ 0*{w}" for i in ("ix", "iy") for w in ("wx1", "wy1")]
    fitted = semopy.Model("\n".join(lines))
    result = fitted.fit(panel)
    if not result.success:
        raise FitError(f"the cross-lagged model did not converge ({result.message}); the waves may hardly change")
    shown = fitted.inspect()
    df = int(semopy.stats.calc_dof(fitted))
    chi2 = float(result.fun) * len(panel)
    rows = []
    for path, (a, b) in {
        "y to y": ("wy1", "wy2"),
        "x to y": ("wx1", "wy2"),
        "x to x": ("wx1", "wx2"),
        "y to x": ("wy1", "wx2"),
    }.items():
        row = shown[(shown["op"] == "~") & (shown["lval"] == b) & (shown["rval"] == a)].iloc[0]
        rows.append({"path": path, "estimate": float(row["Estimate"]), "se": float(row["Std. Err"])})
    return pd.DataFrame(rows).assign(
        n=len(panel), chi2=chi2, df=df, rmsea=np.sqrt(max(chi2 - df, 0) / (df * len(panel)))
    )
