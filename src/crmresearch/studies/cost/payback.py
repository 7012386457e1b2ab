"""When a win has paid for itself, and what those cost who leave before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import jackknife
from crmresearch.result import Result, study
from crmresearch.studies.cost import ratio as r

GROUPS = 20  # of blocks, left out one at a time


@study
def payback(
    acquisition: pd.DataFrame,
    tenure: pd.DataFrame,
    *,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    currency: str = "",
) -> Result:
    """Months until a won customer has paid back the cost of winning, and what those cost who leave before.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``n``, ``spend``, ``won``.
    tenure : DataFrame
        ``block``, ``tenure_month``, ``months``, ``exits``, ``contribution`` (money).
    horizon_months : int
        Longest tenure looked at.
    discount_annual : float
        Annual discount rate.
    currency : str
        For labels.

    Notes
    -----
    Per win, the sum over months k of v^k S_k m_k (share still there times contribution of a customer-month) meets the
    cost per win. For one customer who stays, the same without S_k gives the month before which leaving is a loss. Its
    interval, and those of the share gone before that month and of the loss on them, come from a jackknife over groups
    of blocks; the last two hold the month as it is estimated.
    """
    r.checked(acquisition, ("block", "n", "spend", "won"), ("spend", "won"), "acquisition")
    undated = r.undated(tenure, "contribution")
    if undated is not None:
        return Result.not_applicable(undated)
    r.checked(tenure, ("block", "tenure_month", "months", "exits", "contribution"), what="tenure")
    blocks = max(r.unit_of(acquisition), r.unit_of(tenure))
    wins = int(acquisition["won"].sum())
    if wins < r.MIN_WINS:
        return Result.not_applicable(Missing(f"only {wins} prospects were won; a cost per win needs {r.MIN_WINS}"))
    won = r.mean_ratio(r.by_block(acquisition, "spend", blocks), r.by_block(acquisition, "won", blocks))
    life = r.lifetime_cost(tenure, "contribution", blocks, horizon_months, discount_annual)
    if not life.months:
        return Result.not_applicable(Missing("too few new customers at risk for a tenure curve"))
    path = [r.lifetime_cost(tenure, "contribution", blocks, k + 1, discount_annual).cost for k in range(life.months)]
    total = np.array([p.value for p in path])
    se = np.array([r.difference(p, won).se for p in path])
    stays = _stays(life, discount_annual)
    month, early = _first(total, won.value), _first(stays, won.value)
    fast, slow = _first(total + 1.96 * se, won.value), _first(total - 1.96 * se, won.value)
    rows: list[dict[str, Any]] = [
        {"quantity": "cost per win", "value": won.value, "ci_low": won.interval()[0], "ci_high": won.interval()[1]},
        {"quantity": "months to payback, leavers counted", "value": month, "ci_low": fast, "ci_high": slow},
    ]
    drawn = []
    for k in range(GROUPS):
        part, rest = (f[f["block"] % GROUPS != k] for f in (acquisition, tenure))
        cost = float(part["spend"].sum() / part["won"].sum())
        drawn.append((r.lifetime_cost(rest, "contribution", blocks, life.months, discount_annual), cost))
    known = min(life.months, *(part.months for part, _ in drawn))  # months seen without any of the groups
    lives = [(life, won.value), *drawn]
    net = np.array([_stays(part, discount_annual)[:known] - cost for part, cost in lives])
    _, _, worst, best = jackknife(net)
    rows.append(
        {
            "quantity": "months to payback of one who stays",
            "value": early,
            "ci_low": _first(best, 0.0),
            "ci_high": _first(worst, 0.0),
        }
    )
    if np.isfinite(early) and int(early) < known:
        at = int(early)
        lost = jackknife(np.array([_lost(part, cost, at, discount_annual) for part, cost in lives]))
        for k, name in enumerate(("share gone before that", "loss on them, per win")):
            rows.append({"quantity": name, "value": lost[0][k], "ci_low": lost[2][k], "ci_high": lost[3][k]})
    table = pd.DataFrame(rows).assign(n=wins)

    def months(value: float) -> str:
        return f"{value:.0f}" if np.isfinite(value) else f"more than {life.months}"

    sentence = f"A win pays back after {months(month)} months [{months(fast)}, {months(slow)}], leavers counted"
    if len(rows) > 3:
        sentence += (
            f"; one who stays pays back after {months(early)}, and {rows[3]['value']:.1%} are gone before, at "
            "a loss of "
            f"{rows[4]['value']:,.1f} {currency} per win".rstrip()
        )
    curve = pd.DataFrame({"month": np.arange(1, life.months + 1), "net": total - won.value, "se": se})
    return Result(
        table,
        sentence + ".",
        draw=lambda ax: draw_payback(ax, curve, wins, currency),
        alt="Line with 95% band: cumulative discounted contribution per win less the cost of winning, by months since "
        f"winning. {sentence}.",
        details={"curve": curve, "won": won, "months": life.months},
    )


def _stays(life: Any, discount_annual: float) -> r.Array:
    """Discounted contribution of one who stays, summed up by months."""
    months = len(life.rate)
    return np.cumsum((1 + discount_annual) ** (-(np.arange(months) + 0.5) / 12) * life.rate)


def _lost(life: Any, cost: float, at: int, discount_annual: float) -> tuple[float, float]:
    """Share gone before a month, and what winning them cost beyond what they brought, per win."""
    stays = _stays(life, discount_annual)[:at]
    before = life.survival[:at] - life.survival[1 : at + 1]
    return float(1 - life.survival[at]), float(before @ (cost - stays))


def _first(path: r.Array, level: float) -> float:
    reached = np.flatnonzero(path >= level)
    return float(reached[0] + 1) if reached.size else np.inf


def draw_payback(ax: Any, curve: pd.DataFrame, wins: int, currency: str) -> Any:
    """Draw the cumulative balance of a win over the months after it."""
    from crmresearch import figures

    ax.plot(curve["month"], curve["net"], color=figures.ACCENT, label=f"mean of n = {wins:,} wins, 95% band")
    figures.interval_band(ax, curve["month"], curve["net"] - 1.96 * curve["se"], curve["net"] + 1.96 * curve["se"])
    ax.axhline(0, color=figures.INK, lw=1)
    figures.money_axis(ax)
    ax.set_xlabel("months since winning")
    ax.set_ylabel(f"discounted balance per win{', ' + currency if currency else ''}")
    ax.set_title("When a win has paid for itself: contribution less cost of winning")
    ax.legend(loc="lower right")
    return ax
