"""Which way effects run: lags between waves both ways, changes within customers, and mediation with its doubts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import FitError, Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.measurement.model import PathModel, complete_answers, survey_study
from crmresearch.estimators.measurement.pls import correlations, covariance, interval, resampled_covariances
from crmresearch.estimators.measurement.sem import within_customer
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots
from crmresearch.studies.loyalty.form import construct_scores, robust_ols, two_slopes
from crmresearch.studies.loyalty.measurement import reliabilities
from crmresearch.studies.loyalty.panel import answers_with_accounts, consecutive


@survey_study
def cross_lagged(joined: pd.DataFrame, model: PathModel, *, resamples: int = 500, seed: int) -> Result:
    """Which way does it run: satisfaction to later loyalty, loyalty to later satisfaction?

    Each outcome is regressed on all construct scores of the wave before, over all pairs of consecutive waves. The error
    variance of the scores (1 - omega) is taken off the moments, since error in satisfaction would otherwise show up as
    an effect of loyalty. Customers are resampled with all their waves. Estimates ``S48`` (loyalty to satisfaction).

    With three waves, the random-intercept model (effects around a customer's own level) is shown beside it.
    """
    model.need("satisfaction", "loyalty")
    roles = [r for r in ("image", "expectation", "quality", "value", "satisfaction", "loyalty") if model.role(r)]
    core = model.only(*(str(model.role(r)) for r in roles))
    items = complete_answers(joined, core)
    rows = joined.loc[items.index, ["customer_id", "wave"]].join(items)
    pairs = consecutive(rows, list(core.items))
    if len(pairs) < 100:
        return Result.not_applicable(Missing(f"{len(pairs)} pairs of consecutive answers; 100 are needed", ("survey",)))
    targets = ["satisfaction", "loyalty"]
    next_items = [f"{i}_next" for r in targets for i in core.constructs[str(core.role(r))]]
    x = pairs[[*core.items, *next_items]].to_numpy(float)
    drawn = resampled_covariances(x, resamples, seed, cluster=pd.factorize(pairs["customer_id"])[0])
    stack = correlations(np.concatenate([covariance(x)[None], drawn]))
    blocks = [np.flatnonzero(core.block == core.names.index(str(core.role(r)))) for r in roles]
    k = len(core.items)
    for role in targets:
        size = len(core.constructs[str(core.role(role))])
        blocks.append(np.arange(k, k + size))
        k += size
    member = np.zeros((x.shape[1], len(blocks)))
    for j, at in enumerate(blocks):
        member[at, j] = 1
    omega = np.stack([reliabilities(stack[:, at[:, None], at])["omega"] for at in blocks], axis=1)
    true = correlations(member.T @ stack @ member)
    root = np.sqrt(omega)
    true = true / (root[:, :, None] * root[:, None, :])
    eye = np.arange(len(blocks))
    true[:, eye, eye] = 1
    before = np.arange(len(roles))
    slopes = np.linalg.solve(true[:, before[:, None], before], true[:, before, len(roles) :])
    found, estimates = [], {}
    for j, target in enumerate(targets):
        for source in targets:
            sample = slopes[:, roles.index(source), j]
            low, high = interval(sample[1:])
            se = float(sample[1:].std(ddof=1))
            found.append(
                {"effect": f"{source} to later {target}", "route": "between all customers", "estimate": sample[0]}
            )
            found[-1] |= {"low": low, "high": high, "n": len(pairs)}
            if (source, target) == ("loyalty", "satisfaction"):
                estimates["S48"] = Estimate(
                    sample[0], low, high, "standardised path", len(pairs), one_sided_p(sample[0], se, 0), se
                )
            if (source, target) == ("satisfaction", "loyalty"):
                estimates["satisfaction_to_later_loyalty"] = Estimate(
                    sample[0], low, high, "standardised path", len(pairs), se=se
                )
    smallest = np.linalg.eigvalsh(true[:, before[:, None], before])[:, 0]
    good = (smallest > 0.02).mean()
    found += _random_intercepts(
        rows, core, float(omega[0, roles.index("satisfaction")]), float(omega[0, roles.index("loyalty")])
    )
    table = pd.DataFrame(found)
    s48 = estimates["S48"]
    sentence = (
        f"Loyalty goes with later satisfaction at {s48.text()} and satisfaction with later loyalty at "
        f"{estimates['satisfaction_to_later_loyalty'].text()}, other attitudes of the wave before held equal "
        f"({len(pairs):,} pairs of waves)."
    )
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "constructs apart",
                good >= 0.95,
                f"{good:.0%} of resamples have clearly distinct constructs",
                "undecided",
            ),
        ),
        estimates=estimates,
        draw=lambda ax: plots.grouped_intervals(
            ax,
            table.assign(route=table["route"] + table["n"].map(" (n = {:,})".format)),
            "effect",
            "route",
            "estimate",
            "path, standard deviations",
            title="Which way it runs",
        ),
        alt=f"Lagged effects in both directions with 95% intervals. {sentence}",
    )


def _random_intercepts(rows: pd.DataFrame, model: PathModel, omega_x: float, omega_y: float) -> list[dict[str, Any]]:
    """Within-customer effects where at least 200 customers answered three waves; nothing otherwise."""
    scores = construct_scores(rows[list(model.items)], model)
    names = {str(model.role("satisfaction")): "x", str(model.role("loyalty")): "y"}
    wide = rows[["customer_id", "wave"]].join(scores[list(names)].rename(columns=names))
    wide = wide.pivot(index="customer_id", columns="wave", values=["x", "y"])  # noqa: PD010
    waves = int(rows["wave"].nunique())
    if waves < 3:
        return []
    wide.columns = pd.Index([f"{v}{i % waves + 1}" for v in "xy" for i in range(waves)])
    wide = wide.dropna()
    if len(wide) < 200:
        return []
    try:
        fit = within_customer(wide, waves, error=(1 - omega_x, 1 - omega_y)).set_index("path")
    except FitError:
        return []
    words = {"x": "satisfaction", "y": "loyalty"}
    out = []
    for path, row in fit.iterrows():
        a, _, b = str(path).split()
        e, se = row["estimate"], row["se"]
        out.append({"effect": f"{words[a]} to later {words[b]}", "route": "within customers", "estimate": e})
        out[-1] |= {"low": e - 1.96 * se, "high": e + 1.96 * se, "n": len(wide)}
    return out


@survey_study
def changes(joined: pd.DataFrame, model: PathModel) -> Result:
    """Changes within customers between waves: satisfaction against loyalty, stay and later contribution.

    Whatever is fixed about a customer drops out; waves have their own intercepts; standard errors by customer.
    Measurement error weighs more in a change than in a level, so slopes are conservative.
    """
    model.need("satisfaction", "loyalty")
    answers = answers_with_accounts(joined, model)
    columns = ["satisfaction", "loyalty"] + [c for c in ("contribution_after",) if c in answers.columns]
    pairs = consecutive(answers, columns)
    if len(pairs) < 100:
        return Result.not_applicable(
            Missing(f"{len(pairs)} customers answered two consecutive waves; 100 are needed", ("survey",))
        )
    found = []
    for name, unit in (("loyalty", "standard deviations"), ("contribution_after", "money per year")):
        if name not in columns:
            continue
        use = pairs.dropna(subset=[name, f"{name}_next"])
        if len(use) < 100:
            continue
        d = (use["satisfaction_next"] - use["satisfaction"]).to_numpy(float)
        change = (use[f"{name}_next"] - use[name]).to_numpy(float)
        waves = pd.get_dummies(use["wave"], dtype=float).to_numpy()
        beta, cov = robust_ols(np.column_stack([d, waves]), change, use["customer_id"].to_numpy())
        se = float(np.sqrt(cov[0, 0]))
        found.append(
            {
                "outcome": name,
                "unit": unit,
                "slope": beta[0],
                "low": beta[0] - 1.96 * se,
                "high": beta[0] + 1.96 * se,
                "n": len(use),
            }
        )
    table = pd.DataFrame(found)
    first = table.iloc[0]
    sentence = (
        f"When a customer's satisfaction rises by a standard deviation, loyalty rises by {first['slope']:.2f} "
        f"[{first['low']:.2f}, {first['high']:.2f}] ({first['n']:,} pairs of waves)."
    )
    return Result(
        table,
        sentence,
        draw=lambda ax: plots.intervals(
            ax, table.iloc[:1], "outcome", "slope", "change of loyalty per standard deviation of satisfaction", mark=0
        ),
        alt=f"One slope with its 95% interval. {sentence}",
        figsize=(7.2, 1.8),
    )


@survey_study
def change_asymmetry(joined: pd.DataFrame, model: PathModel) -> Result:
    """Does a fall of a customer's satisfaction between waves weigh more in loyalty than a rise of the same size?"""
    model.need("satisfaction", "loyalty")
    pairs = consecutive(answers_with_accounts(joined, model), ["satisfaction", "loyalty"])
    fall_or_rise = (pairs["satisfaction_next"] - pairs["satisfaction"]).to_numpy(float)
    change = (pairs["loyalty_next"] - pairs["loyalty"]).to_numpy(float)
    return two_slopes(fall_or_rise, change, ("fall", "rise"), pairs["customer_id"].to_numpy())


@survey_study
def mediation(items: pd.DataFrame, model: PathModel, *, resamples: int = 1000, seed: int) -> Result:
    """How strong would an unmeasured common cause have to be to explain the indirect effect away?

    Quality to satisfaction to loyalty, by least squares on scores, other predictors held equal. The sensitivity
    parameter is the correlation of the two disturbances (Imai, Keele and Tingley 2010): the indirect effect is 0 where
    it equals the correlation of the residuals of satisfaction and of loyalty given quality (without satisfaction).
    """
    quality, sat, loyal = model.need("quality", "satisfaction", "loyalty")
    held = [c for c in {*model.predictors(sat), *model.predictors(loyal)} if c not in (quality, sat)]
    names = [quality, *sorted(held), sat, loyal]
    member = np.zeros((len(model.items), len(names)))
    for j, name in enumerate(names):
        member[model.block == model.names.index(name), j] = 1
    x = items[list(model.items)].to_numpy(float)
    stack = correlations(np.concatenate([covariance(x)[None], resampled_covariances(x, resamples, seed)]))
    r = correlations(member.T @ stack @ member)
    m, y, c = len(names) - 2, len(names) - 1, np.arange(len(names) - 2)
    to_m = np.linalg.solve(r[:, c[:, None], c], r[:, c, m, None])[:, :, 0]
    to_y = np.linalg.solve(r[:, c[:, None], c], r[:, c, y, None])[:, :, 0]
    with_m = np.arange(m + 1)
    full = np.linalg.solve(r[:, with_m[:, None], with_m], r[:, with_m, y, None])[:, :, 0]
    indirect = to_m[:, 0] * full[:, m]
    var_m = 1 - (to_m * r[:, c, m]).sum(axis=1)
    var_y = 1 - (to_y * r[:, c, y]).sum(axis=1)
    cov = r[:, m, y] - (to_m * r[:, c, y]).sum(axis=1)
    rho = cov / np.sqrt(var_m * var_y)
    rows = []
    for words, sample in (
        ("quality to satisfaction", to_m[:, 0]),
        ("satisfaction to loyalty", full[:, m]),
        ("indirect effect", indirect),
        ("direct effect", full[:, 0]),
        ("correlation of disturbances that explains it away", rho),
    ):
        low, high = interval(sample[1:])
        rows.append({"quantity": words, "estimate": sample[0], "low": low, "high": high, "n": len(x)})
    table = pd.DataFrame(rows)
    e, (low, high) = indirect[0], interval(indirect[1:])
    sentence = (
        f"The indirect effect of quality on loyalty through satisfaction is {e:.2f} [{low:.2f}, {high:.2f}]; an "
        f"unmeasured common cause would explain it away if it left the two disturbances correlated at {rho[0]:.2f} "
        f"[{rows[-1]['low']:.2f}, {rows[-1]['high']:.2f}]."
    )
    grid = np.linspace(-0.9, 0.9, 73)
    ratio = np.sqrt(var_y[0] / var_m[0])
    curve = to_m[0, 0] * ratio * (rho[0] - grid * np.sqrt((1 - rho[0] ** 2) / (1 - grid**2)))
    return Result(
        table,
        sentence,
        checks=(
            Check(
                "no unmeasured common cause",
                "declared",
                f"explained away at a correlation of {rho[0]:.2f}",
                "undecided",
            ),
        ),
        estimates={
            "indirect": Estimate(e, low, high, "standardised effect", len(x), se=float(indirect[1:].std(ddof=1)))
        },
        draw=lambda ax: _draw_sensitivity(ax, grid, curve, rows[-1], len(x)),
        alt=f"Indirect effect against the assumed correlation of disturbances, 0 at {rho[0]:.2f}. {sentence}",
    )


def _draw_sensitivity(ax: Any, grid: np.ndarray, curve: np.ndarray, zero: dict[str, Any], n: int) -> Any:
    ax.plot(grid, curve, color=plots.ACCENT)
    ax.axhline(0, color=plots.GREY, linewidth=1)
    ax.axvspan(zero["low"], zero["high"], color=plots.PALETTE[1], alpha=0.12, linewidth=0)
    ax.axvline(zero["estimate"], color=plots.PALETTE[1], linestyle="--", linewidth=1.2)
    ax.set_xlabel("assumed correlation of the disturbances of satisfaction and loyalty (band: 95% interval)")
    ax.set_ylabel(f"indirect effect, standardised (n = {n:,})")
    ax.set_title("What would explain the indirect effect away")
    return ax
