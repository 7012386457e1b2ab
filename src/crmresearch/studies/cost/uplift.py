"""Who can be saved: uplift by decile, risk and value, Qini with interval, and what a targeting rule earns.

Scores come from models fitted on other people (cross-fitting); effects within score groups come from the random draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import Missing
from crmresearch.estimators.causal.aipw import design, logit_fit
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r
from crmresearch.studies.cost.retention import covariates_of, sampling, two_armed

Array = NDArray[np.float64]

FOLDS = 5
MIN_GROUP = 30  # customers per arm a group needs


def scores(rows: pd.DataFrame, left: Array, covariates: tuple[str, ...]) -> tuple[Array, Array]:
    """Predicted exit risk without an offer, and predicted fall of it with one, each from the other folds."""
    from scipy.special import expit

    x = design(rows, covariates)
    t = rows["treated"].to_numpy(bool)
    fold = rows["block"].to_numpy(np.intp) % FOLDS
    risk, gain = np.zeros(len(rows)), np.zeros(len(rows))
    for k in range(FOLDS):
        rest, own = fold != k, fold == k
        predicted = [expit(x[own] @ logit_fit(x[rest & (t == a)], left[rest & (t == a)], 1e-3)) for a in (False, True)]
        risk[own], gain[own] = predicted[0], predicted[0] - predicted[1]
    return risk, gain


def groups_of(score: Array, groups: int) -> NDArray[np.intp]:
    """Equal groups by score, the highest first (group 0)."""
    rank = np.argsort(np.argsort(-score, kind="stable"), kind="stable")
    return rank * groups // len(score)


def qini(score: Array, treated: Array, saved: Array) -> r.Functional:
    """Qini coefficient: mean height of the gain curve above the line of random targeting, per customer.

    The curve at share s is the customers saved by offering to the best s by score: the difference in staying between
    the arms among them, times s.

    Parameters
    ----------
    score : array
        Higher is offered first.
    treated : array
        Random arm, 0/1.
    saved : array
        Outcome where more is better (1 for staying).

    Returns
    -------
    Functional
        With the influence of each customer, the score held; nan with fewer than 30 customers in an arm.

    References
    ----------
    Radcliffe (2007). Using control groups to target on predicted lift. *Direct Marketing Analytics J.* 14-21.
    """
    order = np.argsort(-score, kind="stable")
    t, y, n = treated[order].astype(float), saved[order], len(order)
    share = np.arange(1, n + 1) / n
    arms = []
    for own in (t, 1 - t):
        size = np.cumsum(own)
        arms.append((own, size, np.cumsum(own * y) / np.maximum(size, 1.0)))
    enough = np.minimum(arms[0][1], arms[1][1]) >= MIN_GROUP
    if not enough[-1]:
        return r.Functional(np.nan, np.full(n, np.nan))
    lift = np.where(enough, arms[0][2] - arms[1][2], 0.0)
    above = lift * share - share * lift[-1]
    value = float(above.mean())

    def rest(x: Array) -> Array:
        """Sum of what follows a customer in the order, himself included."""
        return np.cumsum(x[::-1])[::-1]

    # derivative by the weight of a customer: through the share of those up to him, and through both arms' means
    rise = lift - lift[-1]
    slope = above - value + (rest(rise) - rise @ share) / n
    for sign, (own, size, mean) in zip((1.0, -1.0), arms, strict=True):
        per = np.where(enough, share / np.maximum(size, 1.0), 0.0)
        slope += sign * own * (y * rest(per) - rest(per * mean) - (n + 1) / 2 * (y - mean[-1]) / size[-1])
    influence = np.empty(n)
    influence[order] = slope / n
    return r.Functional(value, influence)


def _by_group(
    rows: pd.DataFrame, group: NDArray[np.intp], saved: Array, names: list[str], kind: str
) -> list[dict[str, Any]]:
    out = []
    t = rows["treated"].to_numpy(bool)
    for g, name in enumerate(names):
        a, b = saved[(group == g) & t], saved[(group == g) & ~t]
        row: dict[str, Any] = {"by": kind, "group": name, "n": len(a) + len(b)}
        if min(len(a), len(b)) >= MIN_GROUP:
            gain = a.mean() - b.mean()
            se = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
            row |= {
                "exit_control": 1 - b.mean(),
                "uplift": gain,
                "ci_low": gain - 1.96 * se,
                "ci_high": gain + 1.96 * se,
            }
        out.append(row)
    return out


def _two_scores(campaigns: pd.DataFrame, horizon_months: int) -> Any:
    rows = two_armed(campaigns)
    if isinstance(rows, Missing):
        return rows
    names = covariates_of(campaigns)
    if not names:
        return Missing("nothing is known about customers before the randomised campaign", ("customers",))
    left = (rows["left"].to_numpy(bool) & (rows["months"].to_numpy(float) <= horizon_months)).astype(float)
    events = int(min(left[rows["treated"] == 1].sum(), left[rows["treated"] == 0].sum()))
    if events < 5 * len(names):
        return Missing(f"{events} exits in the smaller arm are too few for {len(names)} characteristics", ("contacts",))
    return rows, left, *scores(rows, left, names)


@study
def uplift(campaigns: pd.DataFrame, *, horizon_months: int = 12) -> Result:
    """Effect of a randomised offer by decile of predicted effect, by risk and by value.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`saved`, with columns ``x_...`` known before the contact, and ``value_before``
        (money) for value bands.
    horizon_months : int
        Months after the contact.

    Notes
    -----
    The correlation of risk and effect tells whether the riskiest are the most savable. A negative effect in a group
    is an offer that raised exits there.

    References
    ----------
    Ascarza (2018). Retention futility: targeting high-risk customers might be ineffective. *JMR* 55, 80-98.
    """
    found = _two_scores(campaigns, horizon_months)
    if isinstance(found, Missing):
        return Result.not_applicable(found)
    rows, left, risk, gain = found
    saved, t = 1 - left, rows["treated"].to_numpy(float)
    deciles = _by_group(rows, groups_of(gain, 10), saved, [str(k + 1) for k in range(10)], "predicted effect")
    out = deciles + _by_group(
        rows, groups_of(risk, 5), saved, ["riskiest fifth", "2", "3", "4", "safest fifth"], "risk"
    )
    if "value_before" in rows:
        value = rows["value_before"].to_numpy(float)
        out += _by_group(rows, groups_of(value, 3), saved, ["high", "middle", "low"], "value")
    table = pd.DataFrame(out)
    each = qini(gain, t, saved)
    blocks = r.unit_of(rows)
    summed = np.bincount(rows["block"].to_numpy(np.intp), each.influence, minlength=blocks)
    whole = r.Functional(each.value, summed.astype(float))
    low, high = whole.interval()
    risky = table[table["by"] == "risk"]
    first, last = risky.iloc[0], risky.iloc[-1]
    harmed = int((table["ci_high"] < 0).sum()) if "ci_high" in table else 0
    sentence = (
        f"The offer keeps {first['uplift']:.2%} [{first['ci_low']:.2%}, {first['ci_high']:.2%}] of the "
        "riskiest fifth and "
        f"{last['uplift']:.2%} [{last['ci_low']:.2%}, {last['ci_high']:.2%}] of the safest. Ranking by "
        "predicted effect is "
        f"worth a Qini coefficient of {1e4 * whole.value:.1f} [{1e4 * low:.1f}, {1e4 * high:.1f}] saved per 10,000 "
        "customers: "
        + ("better than chance." if low > 0 else "not clearly better than chance.")
        + (f" In {harmed} groups the offer clearly raises exits." if harmed else "")
        + sampling(campaigns)
    )
    shown = pd.DataFrame(deciles)
    return Result(
        table,
        sentence,
        checks=(
            Check.of(
                "ranking better than chance", low > 0, f"Qini {whole.value:.2g} [{low:.2g}, {high:.2g}]", "undecided"
            ),
        ),
        draw=lambda ax: draw_uplift(ax, shown, len(rows), float(saved[t == 1].mean() - saved[t == 0].mean())),
        alt="Dots with 95% intervals: share of customers kept by the offer, by decile of predicted effect. " + sentence,
        digits=4,
        details={"risk": risk, "gain": gain, "qini": (whole.value, low, high), "rows": rows},
    )  # fmt: skip


def draw_uplift(ax: Any, deciles: pd.DataFrame, n: int, mean: float) -> Any:
    """Draw the effect by decile of its prediction."""
    from crmresearch import figures

    known = deciles.dropna(subset=["uplift"])
    x = known["group"].astype(int)
    label = f"uplift, 95% interval, n = {n:,}"
    figures.intervals(ax, x, known["uplift"], known["ci_low"], known["ci_high"], label=label)
    ax.axhline(0, color=figures.INK, lw=1)
    ax.axhline(mean, color=figures.PALETTE[1], ls="--", lw=1, label="mean of all")
    ax.set_xticks(range(1, 11))
    figures.percent_axis(ax, digits=1)
    ax.set_xlabel("decile of predicted effect (1: highest)")
    ax.set_ylabel("share kept by the offer")
    ax.set_title("Who can be saved")
    ax.legend()
    return ax


@study
def policies(
    campaigns: pd.DataFrame,
    *,
    value_saved: float | Result,
    share: float = 0.3,
    horizon_months: int = 12,
    currency: str = "",
) -> Result:
    """What rules of targeting earn: nobody, everybody, the riskiest, the most savable.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`uplift`.
    value_saved : float or Result
        Money a customer saved is worth, or what :func:`crmresearch.studies.cost.retention_point` returned.
    share : float
        Share offered under the two ranking rules.
    horizon_months : int
        Months after the contact.
    currency : str
        For the sentence.

    Notes
    -----
    A rule's gain per customer is value times the effect among those it picks, times their share, less their offers'
    cost. It is estimated from the random draw, on scores from other folds.
    """
    if isinstance(value_saved, Result):
        if value_saved.missing is not None:
            return value_saved
        value_saved = float(value_saved.details["value"])
    found = _two_scores(campaigns, horizon_months)
    if isinstance(found, Missing):
        return Result.not_applicable(found)
    rows, left, risk, gain = found
    t = rows["treated"].to_numpy(bool)
    cost = float(rows["cost"].to_numpy(float)[t].mean())
    stay = value_saved * (1 - left) - np.where(t, rows["cost"].to_numpy(float), 0.0)
    picks = {
        "everybody": np.ones(len(rows), bool),
        f"riskiest {share:.0%}": groups_of(risk, 1000) < 1000 * share,
        f"most savable {share:.0%}": groups_of(gain, 1000) < 1000 * share,
    }
    table_rows = [{"rule": "nobody", "share": 0.0, "gain": 0.0, "ci_low": 0.0, "ci_high": 0.0, "n": len(rows)}]
    for name, pick in picks.items():
        a, b = stay[pick & t], stay[pick & ~t]
        part = pick.mean()
        mean = part * (a.mean() - b.mean())
        half = 1.96 * part * np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        table_rows.append(
            {
                "rule": name,
                "share": part,
                "gain": mean,
                "ci_low": mean - half,
                "ci_high": mean + half,
                "n": int(pick.sum()),
            }
        )
    table = pd.DataFrame(table_rows)
    best = table.loc[table["gain"].idxmax()]
    sure = table.loc[table["ci_low"] > 0, "rule"].tolist()
    sentence = (
        f"With {value_saved:,.0f} {currency} for a customer saved and {cost:,.0f} an offer, the best estimate is "
        f"{best['gain']:,.2f} [{best['ci_low']:,.2f}, {best['ci_high']:,.2f}] per customer for offering to "
        f"{best['rule']}; "
        + (
            f"clearly better than no campaign: {', '.join(sure)}."
            if sure
            else "no rule is clearly better than no campaign."
        )
        + sampling(campaigns)
    )
    return Result(table, sentence.replace("  ", " "), details={"value_saved": value_saved})
