"""What winning costs: response to spend, marginal cost, and how much unseen selection the answer bears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import FitError, InputError, Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

Array = NDArray[np.float64]
Link = Literal["probit", "logit"]

TOLERATED = 0.10  # correlation of log spend and the unseen ease of winning that a conclusion must bear


@dataclass(frozen=True)
class WinModel:
    """Fitted probability of winning.

    Attributes
    ----------
    names : tuple of str
        Coefficients: ``intercept``, ``spend``, ``spend_squared``, covariates.
    params : array
    scores : array
        Influence of each row on the coefficients (rows sum to nearly the error).
    loglik, null_loglik : float
    link : {'probit', 'logit'}
    """

    names: tuple[str, ...]
    params: Array
    scores: Array
    loglik: float
    null_loglik: float
    link: Link

    @property
    def covariance(self) -> Array:
        """Robust covariance of the coefficients."""
        return self.scores.T @ self.scores

    @property
    def summary(self) -> pd.DataFrame:
        """Coefficients with robust standard errors."""
        se = np.sqrt(np.diag(self.covariance))
        return pd.DataFrame({"coefficient": self.params, "se": se, "z": self.params / se}, index=list(self.names))


def _link(index: Array, link: Link) -> tuple[Array, Array, Array]:
    """Probability, its first and its second derivative by the index."""
    from scipy.special import expit, ndtr

    if link == "logit":
        p = expit(index)
        f = p * (1 - p)
        return p, f, f * (1 - 2 * p)
    f = np.exp(-0.5 * index * index) / np.sqrt(2 * np.pi)
    return ndtr(index), f, -index * f


def win_model(
    prospects: pd.DataFrame,
    covariates: tuple[str, ...] = (),
    link: Link = "probit",
    offset: Array | None = None,
    scale: float = 1.0,
) -> WinModel:
    """Fit the probability of winning on spend, its square and covariates by maximum likelihood.

    Parameters
    ----------
    prospects : DataFrame
        One row per prospect: ``spend`` (money), ``won`` (0/1), covariates (numbers).
    covariates : tuple of str
        Further columns.
    link : {'probit', 'logit'}
        Link function.
    offset, scale : array, float
        Index = (x b) * scale + offset; for :func:`selection_bound`.

    Raises
    ------
    FitError
        If spend does not vary, everybody or nobody was won, or spend separates won from lost.

    Notes
    -----
    Coefficients of spend are per unit of money. Fisher scoring with step halving. Errors are robust, of type HC3.

    References
    ----------
    MacKinnon, White (1985). Some heteroskedasticity-consistent covariance matrix estimators. *J. Econometrics* 29.
    """
    y = prospects["won"].to_numpy(float)
    spend = prospects["spend"].to_numpy(float)
    top = float(spend.max()) or 1.0
    columns = [np.ones(len(y)), spend / top, (spend / top) ** 2]
    columns += [prospects[c].to_numpy(float) for c in covariates]
    x = np.column_stack(columns)
    names = ("intercept", "spend", "spend_squared", *covariates)
    size = np.abs(x).max(axis=0)
    if len(np.unique(spend)) < 3:
        raise FitError(f"spend takes {len(np.unique(spend))} values; a response curve needs at least three")
    if y.min() == y.max():
        raise FitError(f"{'all' if y.max() else 'none'} of {len(y)} prospects were won; there is nothing to explain")
    z = x / np.where(size > 0, size, 1.0) * scale
    if np.linalg.cond(z.T @ z) > 1e14:
        raise FitError("the win model's columns are linearly dependent; leave one of the covariates out")
    fixed = np.zeros(len(y)) if offset is None else offset
    b = np.zeros(x.shape[1])

    def loglik(beta: Array) -> float:
        p = np.clip(_link(z @ beta + fixed, link)[0], 1e-300, 1 - 1e-16)
        return float(y @ np.log(p) + (1 - y) @ np.log1p(-p))

    current = loglik(b)
    for _ in range(100):
        p, f, _second = _link(z @ b + fixed, link)
        room = np.clip(p * (1 - p), 1e-12, None)
        information = (z * (f * f / room)[:, None]).T @ z
        try:
            step = np.linalg.solve(information, z.T @ ((y - p) * f / room))
        except np.linalg.LinAlgError:
            raise FitError(
                "spend or a covariate separates won from lost completely; there is no finite estimate"
            ) from None
        for _half in range(30):
            if (trial := loglik(b + step)) >= current - 1e-12:
                break
            step /= 2
        b, gained, current = b + step, trial - current, trial
        if abs(gained) < 1e-9 * (1 + abs(current)) and np.abs(step).max() < 1e-8 * (1 + np.abs(b).max()):
            break
    else:
        raise FitError("the win model did not converge in 100 steps; look for a covariate that separates won from lost")
    if np.abs(z @ b).max() > 1e4 or current > -1e-6:
        raise FitError("spend or a covariate separates won from lost completely; there is no finite estimate")
    p, f, _second = _link(z @ b + fixed, link)
    room = np.clip(p * (1 - p), 1e-12, None)
    inverse = np.linalg.inv((z * (f * f / room)[:, None]).T @ z)
    leverage = np.einsum("ij,jk,ik->i", z, inverse, z) * f * f / room
    back = 1 / np.where(size > 0, size, 1.0) / np.array([1.0, top, top**2, *np.ones(len(covariates))])
    # a few large spends pull the curve their way: each row counts as if it had been left out (HC3)
    scores = (z * ((y - p) * f / room / np.maximum(1 - leverage, 0.05))[:, None]) @ inverse * back
    share = y.mean()
    null = float(len(y) * (share * np.log(share) + (1 - share) * np.log(1 - share)))
    return WinModel(names, b * back, scores, current, null, link)


def link_values(index: Array, link: Link) -> Array:
    """Probability of winning at an index."""
    return _link(index, link)[0]


def _derivatives(model: WinModel, prospects: pd.DataFrame, blocks: int) -> tuple[r.Functional, r.Functional, Array]:
    """Mean slope and mean second derivative by spend, with influences by block, and the slope of each prospect."""
    spend = prospects["spend"].to_numpy(float)
    x = np.column_stack(
        [np.ones(len(spend)), spend, spend**2, *(prospects[c].to_numpy(float) for c in model.names[3:])]
    )
    index = x @ model.params
    _, f, f1 = _link(index, model.link)
    f2 = (index * index - 1) * f if model.link == "probit" else _logit_third(index)
    g = model.params[1] + 2 * model.params[2] * spend
    slope, second = f * g, f1 * g * g + 2 * model.params[2] * f
    own = np.zeros_like(x)
    own[:, 1], own[:, 2] = 1.0, 2 * spend
    d_slope = (f1 * g)[:, None] * x + f[:, None] * own
    d_second = (f2 * g * g + 2 * model.params[2] * f1)[:, None] * x + (2 * f1 * g)[:, None] * own
    d_second[:, 2] += 2 * f
    block = prospects["block"].to_numpy(np.intp)
    n = len(spend)

    def functional(value: Array, gradient: Array) -> r.Functional:
        each = (value - value.mean()) / n + model.scores @ gradient.mean(axis=0)
        return r.Functional(float(value.mean()), np.bincount(block, each, minlength=blocks).astype(float))

    return functional(slope, d_slope), functional(second, d_second), slope


def _logit_third(index: Array) -> Array:
    from scipy.special import expit

    p = expit(index)
    v = p * (1 - p)
    return v * ((1 - 2 * p) ** 2 - 2 * v)


def selection_bound(
    prospects: pd.DataFrame, correlation: float, covariates: tuple[str, ...] = ()
) -> tuple[r.Functional, r.Functional]:
    """Mean slope and second derivative if log spend had this correlation with the unseen ease of winning.

    With ease e ~ N(0, 1), corr(e, standardised log spend v) = c, the observed index is (x b + c v) / sqrt(1 - c^2): the
    curve x b follows from a probit with that offset. Spends of zero have no logarithm and keep v = 0.

    Raises
    ------
    InputError
        If the correlation is not between -1 and 1.
    """
    if not abs(correlation) < 1:
        raise InputError(f"a correlation of {correlation:g} is not possible")
    spend = prospects["spend"].to_numpy(float)
    log = np.log(np.where(spend > 0, spend, np.nan))
    v = np.nan_to_num((log - np.nanmean(log)) / (np.nanstd(log) or 1.0))
    shrink = 1 / np.sqrt(1 - correlation**2)
    model = win_model(prospects, covariates, "probit", correlation * shrink * v, shrink)
    slope, second, _ = _derivatives(model, prospects, r.unit_of(prospects))
    return slope, second


def _fit_channel(name: Any, part: pd.DataFrame, covariates: tuple[str, ...], link: Link, blocks: int) -> dict[str, Any]:
    wins, total = int(part["won"].sum()), float(part["spend"].sum())
    row: dict[str, Any] = {"channel": name, "n": len(part), "wins": wins, "mean_spend": total / len(part)}
    row["cost_per_win"] = total / wins if wins else np.inf
    if total == 0:
        return row | {"note": "nothing was spent: a win costs nothing, and no curve can be fitted"}
    if wins < r.MIN_WINS or len(part) - wins < r.MIN_WINS:
        return row | {"note": f"fewer than {r.MIN_WINS} {'wins' if wins < r.MIN_WINS else 'losses'}: no curve fitted"}
    try:
        model = win_model(part, covariates, link)
    except FitError as error:
        return row | {"note": str(error)}
    slope, second, each = _derivatives(model, part, blocks)
    low, high = slope.interval()
    row |= {"slope": slope, "second": second, "model": model, "negative_slopes": float((each < 0).mean())}
    if low <= 0 <= high:
        return row | {"note": "marginal cost undefined: the interval of the marginal effect includes 0"}
    if high < 0:
        return row | {"note": "marginal cost undefined: more spend goes with fewer wins"}
    return row | {"marginal_cost": 1 / slope.value, "marginal_low": 1 / high, "marginal_high": 1 / low, "note": ""}


@study
def response(
    prospects: pd.DataFrame, *, covariates: tuple[str, ...] | None = None, link: Link = "probit", currency: str = ""
) -> Result:
    """Response of winning to spend by channel: marginal cost and diminishing returns.

    Parameters
    ----------
    prospects : DataFrame
        One row per prospect: ``block``, ``channel``, ``spend`` (money, at least 0), ``won`` (0/1), covariates;
        ``spend_randomised`` (true where the bank set spend by lot), if it says.
    covariates : tuple of str, optional
        Columns of numbers held fixed; by default every further one.
    link : {'probit', 'logit'}
        Link of the win model.
    currency : str
        For labels.

    Returns
    -------
    Result
        By channel: cost per win, marginal cost (one over the mean derivative of the win probability by spend), second
        derivative. Estimate ``S04`` is the second derivative averaged over all prospects; ``details['slope']`` the mean
        derivative as a functional, ``details['slopes']`` that of each channel.

    Raises
    ------
    InputError
        If columns are missing, spend is negative or currencies are mixed.

    Notes
    -----
    Returns diminish when the interval of the mean second derivative lies below 0; the sign of a squared term alone says
    nothing, since the link bends too. Marginal cost is undefined where the marginal effect's interval includes 0.
    """
    r.checked(prospects, ("block", "channel", "spend", "won"), ("spend",), "prospects")
    covariates = r.further(prospects) if covariates is None else covariates
    blocks = r.unit_of(prospects)
    fits = [
        _fit_channel(name, part, covariates, link, blocks)
        for name, part in prospects.groupby("channel", observed=True, sort=True)
    ]
    fitted = [f for f in fits if "model" in f]
    rows = []
    for f in fits:
        row = {k: v for k, v in f.items() if k not in ("slope", "second", "model")}
        if "model" in f:
            low, high = f["second"].interval()
            row |= {"second_derivative": f["second"].value, "second_low": low, "second_high": high}
        rows.append(row)
    table = pd.DataFrame(rows)
    table = table[[c for c in table.columns if c != "note"] + ["note"]]
    if not fitted:
        return Result.not_applicable(Missing("no channel has enough wins, losses and different spends for a curve"))
    n = sum(f["n"] for f in fitted)
    slope, second = (_average([(f["n"] / n, f[k]) for f in fitted]) for k in ("slope", "second"))
    randomised = "spend_randomised" in prospects and bool(prospects["spend_randomised"].astype(bool).all())
    checks = [_selection_check(prospects, fitted, covariates, randomised, second)]
    low, high = second.interval()
    estimate = Estimate(
        second.value, low, high, "probability per squared money", n,
        p_value=one_sided_p(second.value, second.se, 0.0, "below"), se=second.se,
    )  # fmt: skip
    differ, p_differ = _heterogeneity(fitted)
    undefined = table.loc[table["note"].str.startswith("marginal cost undefined"), "channel"].tolist()
    defined = table.dropna(subset=["marginal_cost"]) if "marginal_cost" in table else table.iloc[:0]
    words = ", ".join(
        f"{c.channel} {c.marginal_cost:,.0f} [{c.marginal_low:,.0f}, {c.marginal_high:,.0f}]"
        for c in defined.itertuples()
    )
    sentence = (
        f"One more win costs, at observed spend, {words} {currency}. "
        if words
        else "No channel has a defined marginal cost. "
    ) + (f"Undefined for {', '.join(map(str, undefined))}. " if undefined else "") + (
        (
            f"Marginal effects {'differ' if p_differ < 0.05 else 'do not clearly differ'} between channels "
            f"(Wald {differ:.1f}, p {_p(p_differ)}). "
            if len(fitted) > 1
            else ""
        )
        + f"The mean second derivative is {second.value:.2g} [{low:.2g}, {high:.2g}]: "
        f"returns {'diminish' if high < 0 else 'grow' if low > 0 else 'cannot be said to diminish'}."
    )  # fmt: skip
    shown = [(f, prospects[prospects["channel"] == f["channel"]]) for f in fitted]
    return Result(
        table,
        sentence.replace(" . ", ". "),
        checks=tuple(checks),
        estimates={"S04": estimate},
        draw=lambda ax: draw_response(ax, shown, currency),
        alt=f"Win probability by spend for {len(fitted)} channels: curves with 95% bands, and observed shares in ten "
        f"equal groups as dots. {sentence}",
        counts=("n", "wins"),
        digits=4,
        details={
            "slope": slope, "second": second, "blocks": blocks, "fits": {f["channel"]: f["model"] for f in fitted},
            "slopes": {f["channel"]: f["slope"] for f in fitted}, "randomised": randomised, "n": n,
        },
        figsize=(7.6, 4.6),
    )  # fmt: skip


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _average(parts: list[tuple[float, r.Functional]]) -> r.Functional:
    """Average over channels; the shares of the channels are taken as they are."""
    value = sum(w * f.value for w, f in parts)
    return r.Functional(value, np.sum([w * f.influence for w, f in parts], axis=0))


def _heterogeneity(fitted: list[dict[str, Any]]) -> tuple[float, float]:
    """Wald test that the mean marginal effect is the same in every channel."""
    from scipy.special import chdtrc

    if len(fitted) < 2:
        return np.nan, np.nan
    value = np.array([f["slope"].value for f in fitted])
    cov = np.array([[r.covariance(a["slope"], b["slope"]) for b in fitted] for a in fitted])
    contrast = np.eye(len(fitted))[1:] - np.eye(len(fitted))[0]
    gap = contrast @ value
    wald = float(gap @ np.linalg.solve(contrast @ cov @ contrast.T, gap))
    return wald, float(chdtrc(len(gap), wald))


def _selection_check(
    prospects: pd.DataFrame,
    fitted: list[dict[str, Any]],
    covariates: tuple[str, ...],
    randomised: bool,
    second: r.Functional,
) -> Check:
    name = "spend not aimed at those who are won easily"
    if randomised:
        return Check(name, "open", "the bank declares that spend was set by lot")
    n = sum(f["n"] for f in fitted)
    values = []
    for c in (-TOLERATED, TOLERATED):
        try:
            parts = [
                (f["n"] / n, selection_bound(prospects[prospects["channel"] == f["channel"]], c, covariates)[1].value)
                for f in fitted
            ]
        except FitError:
            continue
        values.append(sum(w * v for w, v in parts))
    span = f"between {min(values):.2g} and {max(values):.2g}" if values else "beyond what can be fitted"
    return Check(
        name,
        "declared",
        f"no table shows whether it was; were the correlation of log spend and ease {TOLERATED:g} either way, the mean "
        f"second derivative would lie {span} instead of {second.value:.2g}",
        "undecided",
    )


def draw_response(ax: Any, shown: list[tuple[dict[str, Any], pd.DataFrame]], currency: str) -> Any:
    """Draw fitted win probabilities by spend with bands, and the data in ten groups of equal size."""
    from crmresearch import figures

    for colour, (fit, part) in zip(figures.PALETTE, shown, strict=False):
        model: WinModel = fit["model"]
        spend = part["spend"].to_numpy(float)
        grid = np.linspace(np.quantile(spend, 0.01), np.quantile(spend, 0.99), 80)
        held = [np.full(80, part[c].mean()) for c in model.names[3:]]
        x = np.column_stack([np.ones(80), grid, grid**2, *held])
        half = 1.96 * np.sqrt(np.einsum("ij,jk,ik->i", x, model.covariance, x))
        index = x @ model.params
        ax.plot(grid, _link(index, model.link)[0], color=colour, label=f"{fit['channel']} (n = {fit['n']:,})")
        figures.interval_band(ax, grid, _link(index - half, model.link)[0], _link(index + half, model.link)[0], colour)
        groups = max(1, min(10, len(part) // 20))
        rank = np.argsort(np.argsort(spend, kind="stable")) * groups // len(spend)
        size = np.bincount(rank, minlength=groups)
        won = np.bincount(rank, part["won"].to_numpy(float), minlength=groups)
        ax.plot(np.bincount(rank, spend, minlength=groups) / size, won / size, "o", color=colour, ms=4, alpha=0.8)
    figures.percent_axis(ax)
    ax.set_xlabel(f"spend per prospect{', ' + currency if currency else ''}")
    ax.set_ylabel("share won")
    ax.set_title("What more spend wins: curves, 95% bands, data in tenths")
    ax.legend()
    return ax
