"""What offers are worth to the bank, by segment: every arm is given to everybody, with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crmresearch.lab.simulated import accounts
from crmresearch.lab.simulated.campaigns import DOSES, EFFECT_MONTHS, campaign_months
from crmresearch.lab.simulated.life import Life, contacted, draw_life, with_arm
from crmresearch.lab.simulated.people import Array
from crmresearch.lab.simulated.settings import BLOCK, Settings
from crmresearch.lab.simulated.wallet import BANDS, acts, bands, elsewhere

GAPS = ("small", "large")  # the bank's guess of what is held elsewhere, below or above the median of what is
Sums = Mapping[str, float]


def is_seen(s: Settings) -> bool:
    """Whether offers bring in something, and a year after them is observed."""
    return acts(s.parameters) and campaign_months(s.months)["develop"] + EFFECT_MONTHS < s.months


def offer_sums(s: Settings, block: int, out: dict[str, float]) -> None:
    """Sums over those reached: contribution in the year after each dose, balances and families after an offer."""
    if not is_seen(s):
        return
    at, (_, guess) = campaign_months(s.months), elsewhere(s, block)
    forced = [draw_life(s, block, {"dose": arm}) for arm in range(len(DOSES))]
    there = contacted(forced[0], "dose") & (forced[0].left > at["dose"])
    band = bands(forced[0].log_balance[:, at["dose"] - 1])
    segment = band * len(GAPS) + (guess > s.parameters.outside_median)
    made = [_year(s, life, block, at["dose"], "net_interest", "fees", "-service_cost", "-risk_cost") for life in forced]
    for k, (name, size) in enumerate(zip(_segments(), np.bincount(segment[there], minlength=6), strict=True)):
        out[f"policy.{name}.n"] = float(size)
        for dose, money in zip(DOSES, made, strict=True):
            out[f"policy.{name}.{dose}"] = float((money - made[0])[there & (segment == k)].sum())
    control, offered = (draw_life(s, block, {"develop": arm}) for arm in (0, 1))
    there = contacted(control, "develop") & (control.left > at["develop"])
    end = at["develop"] + EFFECT_MONTHS
    gained, families = np.zeros(BLOCK), 0.0
    for sign, life in ((-1, control), (1, offered)):
        gained += sign * _year(s, life, block, end, "balance", months=1)
        families += sign * float((life.breadth[:, end] * (life.left > end))[there].sum())
    x, y = guess[there], gained[there]
    out |= {"offer.n": float(len(x)), "offer.x": float(x.sum()), "offer.xx": float(x @ x)}
    out |= {"offer.y": float(y.sum()), "offer.xy": float(x @ y), "offer.families": families}


def lot_sums(s: Settings, life: Life, block: int, out: dict[str, float]) -> None:
    """Sums over those in the campaigns `personal` and `invite`: who is kept for a year, by arm, exits averaged out."""
    for campaign in _lots(s):
        at, reached = campaign_months(s.months)[campaign], contacted(life, campaign)
        months = slice(at, at + EFFECT_MONTHS)
        weight = reached * np.exp(-life.cumulative[:, :at].sum(axis=(1, 2)))
        out[f"{campaign}.n"] = float(weight.sum())
        for arm in range(3 if campaign == "personal" else 2):
            kept = np.exp(-with_arm(s, life, block, campaign, arm).cumulative[:, months].sum(axis=(1, 2)))
            out[f"{campaign}.{arm}"] = float(weight @ kept)
        if campaign == "invite":  # who comes, against who does not, of those invited: what a reader of lists would do
            came = weight * life.comes
            out |= {"came.n": float(came.sum()), "came": float(came @ kept)}


def _lots(s: Settings) -> list[str]:
    """Campaigns in which somebody is drawn, and a year after which is observed."""
    lots = {"personal": s.parameters.personal_lot, "invite": s.parameters.invite_lot}
    return [c for c, lot in lots.items() if lot > 0 and campaign_months(s.months)[c] + EFFECT_MONTHS <= s.months]


def _year(s: Settings, life: Life, block: int, at: int, *columns: str, months: int = EFFECT_MONTHS) -> Array:
    """Sum of columns of the monthly table by customer, over some months from ``at`` on."""
    table = accounts.monthly(s, life, block)
    month = np.searchsorted(np.unique(table["month"]), table["month"])
    within = (month >= at) & (month < at + months)
    cents = sum((-1 if c[0] == "-" else 1) * table[c.lstrip("-")][within] for c in columns)
    return np.asarray(np.bincount(table["customer_id"].codes[within], cents, BLOCK) / 100)


def _segments() -> list[str]:
    return [f"{band}.{gap}" for band in BANDS for gap in GAPS]


def best(s: Settings, z: Sums, segments: list[str]) -> tuple[float, float]:
    """Value of the best dose by segment less one lottery for all at equal expected cost, per customer; that cost."""
    costs = np.array([0.0, *(s.parameters.dose_costs[d] for d in DOSES[1:])])
    value = np.array([[z[f"policy.{name}.{dose}"] for dose in DOSES] for name in segments])
    size = np.array([z[f"policy.{name}.n"] for name in segments])
    chosen = (value - size[:, None] * costs).argmax(axis=1)
    cost = float(size @ costs[chosen] / size.sum())
    whole = value.sum(axis=0) / size.sum()
    # of mixtures of two doses, the best that costs as much: the upper hull of value over cost
    pairs = [(i, j) for i in range(len(costs)) for j in range(len(costs)) if costs[i] <= cost <= costs[j]]
    lottery = max(whole[i] + (whole[j] - whole[i]) * (cost - costs[i]) / (costs[j] - costs[i] or 1) for i, j in pairs)
    return float(value[np.arange(len(size)), chosen].sum() / size.sum() - lottery), cost


def offer_estimands(s: Settings) -> dict[str, Callable[[Sums], float]]:
    """Estimands of offers as functions of sums over blocks."""
    out: dict[str, Callable[[Sums], float]] = {}
    if "personal" in _lots(s):
        out["campaign.personal.retention_12m"] = lambda z: (z["personal.2"] - z["personal.1"]) / z["personal.n"]
        out["campaign.generic.retention_12m"] = lambda z: (z["personal.1"] - z["personal.0"]) / z["personal.n"]
    if "invite" in _lots(s):
        out["campaign.invite.retention_12m"] = lambda z: (z["invite.1"] - z["invite.0"]) / z["invite.n"]
        out["campaign.came.naive.retention_12m"] = lambda z: (
            z["came"] / z["came.n"] - (z["invite.1"] - z["came"]) / (z["invite.n"] - z["came.n"])
        )
    if not is_seen(s):
        return out
    out |= {
        "policy.gain": lambda z: best(s, z, _segments())[0],
        "policy.cost": lambda z: best(s, z, _segments())[1],
        "policy.top_band.gain": lambda z: best(s, z, _segments()[-len(GAPS) :])[0],
        "offer.families": lambda z: z["offer.families"] / z["offer.n"],
        "offer.balance": lambda z: z["offer.y"] / z["offer.n"],
        "offer.balance.per_guess": lambda z: (
            (z["offer.xy"] - z["offer.x"] * z["offer.y"] / z["offer.n"])
            / (z["offer.xx"] - z["offer.x"] ** 2 / z["offer.n"])
        ),
    }
    for name in _segments():
        for dose in DOSES[1:]:
            key = f"policy.{name}.{dose}"
            out[f"{key}.contribution"] = lambda z, k=key, n=f"policy.{name}.n": z[k] / z[n]  # type: ignore[misc]
    return out
