"""Limits of very large draws: what estimands without a parameter or a closed form come to.

The exit is not drawn but averaged out: every month counts with the probability that the customer is still there, so
that little noise is left.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from crmresearch.lab.simulated import accounts, service
from crmresearch.lab.simulated.campaigns import COSTS, DOSES, campaign_months
from crmresearch.lab.simulated.life import CAUSES, Life, contacted, draw_life, with_arm
from crmresearch.lab.simulated.people import Array, People
from crmresearch.lab.simulated.policies import lot_sums, offer_estimands, offer_sums
from crmresearch.lab.simulated.relations import ITEMS
from crmresearch.lab.simulated.settings import BLOCK, Settings
from crmresearch.lab.simulated.traits import corporate

DRAW_BLOCKS = 8  # blocks drawn where no stored limit fits
GROUPS = 40  # groups of blocks that are left out in turn
FOLLOW = 12  # months of follow-up after a campaign
RMST_MONTHS = 36


def alive(life: Life) -> Array:
    """Probability of being there at the start of each month (or at acquisition, if within it), given everything."""
    mass = life.cumulative.sum(axis=2)
    return np.asarray(np.exp(mass - np.cumsum(mass, axis=1)))


def _tenure_sums(s: Settings, life: Life, out: dict[str, float], months: int = 24) -> None:
    """Expected exits and time at risk by month of tenure, for the incidence curve of whoever is under observation."""
    start = np.maximum(np.arange(s.months)[None, :] - life.people.acquired[:, None], 0.0)
    there, mass = alive(life), life.cumulative.sum(axis=2)
    near = (start < months) & (life.exposed > 0)
    row, m = np.nonzero(near)
    first, length = start[row, m], life.exposed[row, m]
    cut = np.minimum(np.floor(first) + 1 - first, length)  # part of the calendar month in the first tenure month
    rate = life.cumulative[row, m] / length[:, None]  # per month, by cause
    total = mass[row, m] / length
    for begin, width in ((0.0, cut), (cut, length - cut)):
        with np.errstate(invalid="ignore"):
            time = (
                there[row, m] * np.exp(-total * begin) * np.where(total > 0, -np.expm1(-total * width) / total, width)
            )
        bin_ = np.minimum(np.floor(first + begin + 1e-9).astype(np.int64), months)
        for k, value in enumerate(np.bincount(bin_, time, months + 1)[:months]):
            out[f"tenure.time.{k}"] = out.get(f"tenure.time.{k}", 0.0) + float(value)
        for c in range(len(CAUSES)):
            exits = np.bincount(bin_, time * rate[:, c], months + 1)[:months]
            for k, value in enumerate(exits):
                key = f"tenure.exits.{c}.{k}"
                out[key] = out.get(key, 0.0) + float(value)


def _campaign_sums(s: Settings, block: int, life: Life, out: dict[str, float]) -> None:
    """Retention twelve months after a campaign, had everybody been treated and had nobody been."""
    for campaign, arms in {"trial": 1, "target": 1, "dose": 3}.items():
        at = campaign_months(s.months)[campaign]
        if at + FOLLOW > s.months:
            continue
        reached = contacted(life, campaign)
        weight = np.where(reached, alive(life)[:, at], 0.0)
        kept, years = {}, {}
        for arm in range(arms + 1):
            mass = with_arm(s, life, block, campaign, arm).cumulative.sum(axis=2)[:, at : at + FOLLOW]
            kept[arm] = np.exp(-mass.sum(axis=1))
            before = np.exp(mass - np.cumsum(mass, axis=1))
            years[arm] = (before * np.where(mass > 0, -np.expm1(-mass) / np.maximum(mass, 1e-300), 1.0)).sum(
                axis=1
            ) / 12
        names = {"trial": ["trial"], "target": ["target"], "dose": [f"dose_{d}" for d in DOSES[1:]]}[campaign]
        chance = life.arms["target"] == 1 if campaign == "target" else np.ones(len(weight), dtype=bool)
        for arm, name in enumerate(names, start=1):
            out[f"{name}.reached"] = float((weight * chance).sum())
            out[f"{name}.kept"] = float((weight * chance * (kept[arm] - kept[0])).sum())
            out[f"{name}.years"] = float((weight * chance * (years[arm] - years[0])).sum())
        if campaign == "target":
            out["eligible.reached"] = float(weight.sum())
            out["eligible.kept"] = float((weight * (kept[1] - kept[0])).sum())
            treated = weight * (life.arms["target"] == 1)
            out["naive.treated"] = float(treated.sum())
            out["naive.treated_kept"] = float((treated * kept[1]).sum())
            out["naive.others_kept"] = float(((weight - treated) * kept[0]).sum())


def _cost_sums(s: Settings, life: Life, out: dict[str, float]) -> None:
    p, there, mass = s.parameters, alive(life), life.cumulative.sum(axis=2)
    time = there * life.exposed * np.where(mass > 0, -np.expm1(-mass) / np.maximum(mass, 1e-300), 1.0) / 12
    out["years"] = float(time.sum())
    rate = p.care_rate * (1 + p.care_vip * life.vip)
    if p.care_follows_risk != 0:
        rate = rate * np.exp(np.minimum(p.care_follows_risk * np.log(life.people.frailty), 3.0))[:, None]
    spent = float((time * rate * life.consent[:, None]).sum()) * p.care_cost
    costs = np.array([0.0, *(p.dose_costs[d] for d in DOSES[1:])])
    for campaign in ("trial", "target", "dose"):
        reached = contacted(life, campaign) * there[:, campaign_months(s.months)[campaign]]
        arm = life.arms[campaign]
        spent += float((reached * (costs[arm] if campaign == "dose" else p.contact_cost * arm)).sum())
    for campaign, by_arm in COSTS.items():
        reached = contacted(life, campaign) * there[:, campaign_months(s.months)[campaign]]
        spent += float((reached * np.array(by_arm)[life.arms[campaign]]).sum()) * p.contact_cost
    out["retention_spend"] = spent
    for c, cause in enumerate(CAUSES):
        share = np.divide(life.cumulative[:, :, c], mass, out=np.zeros_like(mass), where=mass > 0)
        out[f"exits.{cause}"] = float((there * -np.expm1(-mass) * share).sum())
    who: People = life.people
    won = who.acquired >= 0
    out["prospects"] = float(won.sum() + len(who.lost_at))
    out["wins"] = float(won.sum())
    out["won_spend"] = float(who.spend[won].sum())
    out["all_spend"] = out["won_spend"] + float(who.lost_spend.sum())


def _survey_sums(s: Settings, block: int, life: Life, out: dict[str, float]) -> None:
    """Mean of the satisfaction items (1 to 10) over everybody invited, and over those who answer."""
    from crmresearch.lab.simulated.relations import survey

    frame = survey(Settings(s.customers, s.months, s.seed, s.world, {**s.changes, "response": 1 - 1e-12}), life, block)
    items = np.mean([frame[i] for i in ITEMS["SAT"]], axis=0)
    usual = survey(s, life, block)["responded"] == 1
    weight = np.where(np.isnan(items), 0.0, frame["weight"])
    out["satisfaction.n"] = float(frame["weight"].sum())
    out["satisfaction.sum"] = float((weight * np.nan_to_num(items)).sum())
    out["answers.n"] = float(frame["weight"][usual].sum())
    out["answers.sum"] = float((weight * np.nan_to_num(items))[usual].sum())


def _rmst_sums(s: Settings, life: Life, out: dict[str, float]) -> None:
    """Months until leaving for any reason, up to a horizon, of those there at the start, by priority status then."""
    horizon = min(RMST_MONTHS, s.months)
    old = life.people.acquired < 0
    mass = life.cumulative.sum(axis=2)[:, :horizon]
    before = np.exp(mass - np.cumsum(mass, axis=1))
    months = (before * np.where(mass > 0, -np.expm1(-mass) / np.maximum(mass, 1e-300), 1.0)).sum(axis=1)
    for name, group in (("vip", old & life.vip[:, 0]), ("others", old & ~life.vip[:, 0])):
        out[f"rmst.{name}.n"] = float(group.sum())
        out[f"rmst.{name}.months"] = float(months[group].sum())


def _trait_sums(s: Settings, block: int, life: Life, out: dict[str, float]) -> None:
    """What managers' use can move, companies with electronic commerce, adopters from before the observation."""
    p, there = s.parameters, alive(life)
    if p.crm_hours > 0:
        table = accounts.monthly(s, life, block)
        own = life.managed[table["customer_id"].codes]
        interest = table["net_interest"][own].sum()
        made = interest + (table["fees"] - table["service_cost"] - table["risk_cost"])[own].sum()
        out |= {"managed.interest": float(interest), "managed.contribution": float(made)}
    if p.corporate_share > 0:
        firm = there[:, -1] * corporate(s, block) * (life.people.acquired < s.months)
        has = (life.opened[:, -1] < s.months) & (life.closed[:, -1] >= s.months)
        out |= {"firms": float(firm.sum()), "firms.online": float((firm * has).sum())}
    if p.mobile_history > 0:
        old = life.people.acquired < 0
        out |= {"old": float(old.sum()), "old.mobile": float((old & (life.adopted < 0)).sum())}


def block_sums(s: Settings, block: int) -> dict[str, float]:
    """Sums over one block from which the limits are made."""
    life = draw_life(s, block)
    out: dict[str, float] = {}
    _tenure_sums(s, life, out)
    _campaign_sums(s, block, life, out)
    _cost_sums(s, life, out)
    _survey_sums(s, block, life, out)
    _rmst_sums(s, life, out)
    offer_sums(s, block, out)
    lot_sums(s, life, block, out)
    if s.parameters.branches:
        out |= service.effect_sums(s, life, block, alive(life))
    _trait_sums(s, block, life, out)
    return out


def contributions(s: Settings, block: int) -> Array:
    """Contribution of the last twelve months, of the customers of one block who were there."""
    table = accounts.monthly(s, draw_life(s, block), block)
    last = table["month"] >= np.sort(np.unique(table["month"]))[-min(12, s.months)]
    cents = table["net_interest"] + table["fees"] - table["service_cost"] - table["risk_cost"]
    row = table["customer_id"].codes[last]
    return np.asarray(np.bincount(row, cents[last], BLOCK)[np.unique(row)] / 100)


def _ratio(top: str, bottom: str) -> Callable[[Mapping[str, float]], float]:
    return lambda z: z[top] / z[bottom] if z.get(bottom) else float("nan")


def _from_sums(s: Settings) -> dict[str, Callable[[Mapping[str, float]], float]]:
    """Estimands as functions of sums over blocks."""
    out: dict[str, Callable[[Mapping[str, float]], float]] = dict(service.EFFECTS) if s.parameters.branches else {}
    for cause in CAUSES:
        out[f"exit_rate.{cause}"] = _ratio(f"exits.{cause}", "years")
    out["exit_rate.any"] = lambda z: sum(z[f"exits.{c}"] for c in CAUSES) / z["years"]
    out["retention_cost.year"] = _ratio("retention_spend", "years")
    out["win.probability"] = _ratio("wins", "prospects")
    out["cost_per_win.all"] = _ratio("all_spend", "wins")
    out["cost_per_win.won_only"] = _ratio("won_spend", "wins")
    out["cost_ratio.primary"] = lambda z: z["all_spend"] / z["wins"] / (z["retention_spend"] / z["years"])
    out["cost_ratio.won_only"] = lambda z: z["won_spend"] / z["wins"] / (z["retention_spend"] / z["years"])
    out["satisfaction.mean"] = _ratio("satisfaction.sum", "satisfaction.n")
    out["satisfaction.completers"] = _ratio("answers.sum", "answers.n")
    vip, others = _ratio("rmst.vip.months", "rmst.vip.n"), _ratio("rmst.others.months", "rmst.others.n")
    out["rmst_difference.vip"] = lambda z: vip(z) - others(z)
    for horizon in (12, 24):
        if horizon <= s.months:
            for c, cause in enumerate(CAUSES[:2]):
                out[f"incidence_{horizon}.{cause}"] = functools.partial(_incidence, horizon=horizon, cause=c)
            out[f"survival_{horizon}"] = functools.partial(_survival, horizon=horizon)
    for campaign, name in {"trial": "itt", "target": "targeted"}.items():
        if campaign_months(s.months)[campaign] + FOLLOW <= s.months:
            out[f"campaign.{name}.retention_12m"] = _ratio(f"{campaign}.kept", f"{campaign}.reached")
            out[f"campaign.{name}.years_12m"] = _ratio(f"{campaign}.years", f"{campaign}.reached")
            if campaign == "target":
                out["campaign.targeted.eligible.retention_12m"] = _ratio("eligible.kept", "eligible.reached")
                out["campaign.targeted.naive.retention_12m"] = lambda z: (
                    z["naive.treated_kept"] / z["naive.treated"]
                    - z["naive.others_kept"] / (z["eligible.reached"] - z["naive.treated"])
                )
    if campaign_months(s.months)["dose"] + FOLLOW <= s.months:
        for dose in DOSES[1:]:
            out[f"campaign.dose_{dose}.retention_12m"] = _ratio(f"dose_{dose}.kept", f"dose_{dose}.reached")
    out |= {
        name: _ratio(top, bottom)
        for name, (needed, top, bottom) in {
            "corporate.ecommerce.share": (s.parameters.corporate_share, "firms.online", "firms"),
            "mobile.before.share": (s.parameters.mobile_history, "old.mobile", "old"),
        }.items()
        if needed > 0
    }
    if s.parameters.crm_hours > 0:  # of contribution that a manager makes, by one standard deviation more use
        moved = float(np.expm1(s.parameters.use_margin))
        out["manager.use.contribution"] = lambda z: moved * z["managed.interest"] / z["managed.contribution"]
    return out | offer_estimands(s)


def _hazards_by_tenure(z: Mapping[str, float], horizon: int) -> tuple[Array, Array]:
    time = np.array([z[f"tenure.time.{k}"] for k in range(horizon)])
    exits = np.array([[z[f"tenure.exits.{c}.{k}"] for k in range(horizon)] for c in range(len(CAUSES))])
    hazard = exits / np.maximum(time, 1e-300)
    total = hazard.sum(axis=0)
    return hazard, np.exp(np.concatenate([[0.0], -np.cumsum(total)]))


def _incidence(z: Mapping[str, float], horizon: int, cause: int) -> float:
    hazard, survival = _hazards_by_tenure(z, horizon)
    total = hazard.sum(axis=0)
    return float((survival[:-1] * -np.expm1(-total) * hazard[cause] / np.maximum(total, 1e-300)).sum())


def _survival(z: Mapping[str, float], horizon: int) -> float:
    return float(_hazards_by_tenure(z, horizon)[1][-1])


def _shares(values: Array) -> dict[str, float]:
    x = np.sort(values)[::-1]
    n, total = len(x), x.sum()
    out = {"mean": float(x.mean()), "negative_share": float((x < 0).mean())}
    if total > 0:
        rank = np.arange(n, 0, -1)
        out["gini"] = float((2 * (rank * x).sum() / total - (n + 1)) / n)
        curve = np.concatenate([[0.0], np.cumsum(x)]) / total
        for q in (1, 10, 20):
            out[f"top{q}"] = float(np.interp(q / 100 * n, np.arange(n + 1), curve))
    return out


def _bank(s: Settings, block: int) -> Settings:
    """Take every block from another bank where customers share shocks, so that these are averaged out, too."""
    p = s.parameters
    by_city = p.city_shock or p.city_risk or p.intensity_entry or p.rate_exit or p.branches
    by_manager = p.manager_shock or p.ability_margin or p.use_margin
    return replace(s, seed=s.seed + block) if p.nation_shock or by_city or by_manager else s


def limits(
    s: Settings, blocks: int = DRAW_BLOCKS, first: int = 0, people: int | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute the limits by a large draw.

    Parameters
    ----------
    s : Settings
        Months, seed, world; the number of customers is that of the draw.
    blocks : int
        Blocks of 1,024 customers.
    first : int
        First block; other blocks are other draws.
    people : int, optional
        Blocks for the spread of contributions, where nothing can be averaged out; ``blocks`` by default.

    Returns
    -------
    values, errors : dict of str to float
        Estimands and their Monte-Carlo standard errors (jackknife over the blocks).
    """
    sums = [block_sums(_bank(s, b), b) for b in range(first, first + blocks)]
    keys = sorted({k for z in sums for k in z})
    matrix = np.array([[z.get(k, 0.0) for k in keys] for z in sums])
    pooled = matrix.sum(axis=0)
    values, errors = {}, {}
    functions = _from_sums(s)
    whole = dict(zip(keys, pooled, strict=True))
    without = [dict(zip(keys, pooled - row, strict=True)) for row in matrix]
    for name, function in functions.items():
        values[name] = function(whole)
        errors[name] = _jackknife(np.array([function(z) for z in without]))
    made = [contributions(_bank(s, b), b) for b in range(first, first + (people or blocks))]
    groups = [np.concatenate(made[i::GROUPS]) for i in range(min(GROUPS, len(made)))]
    others = [groups[:i] + groups[i + 1 :] for i in range(len(groups)) if len(groups) > 1]
    left_out = [_shares(np.concatenate(kept)) for kept in others]
    for name, value in _shares(np.concatenate(groups)).items():
        values[f"{name}.contribution"] = value
        errors[f"{name}.contribution"] = _jackknife(np.array([z.get(name, np.nan) for z in left_out]))
    return values, errors


def _jackknife(x: Array) -> float:
    n = len(x)
    return float(np.sqrt((n - 1) / n * ((x - x.mean()) ** 2).sum())) if n > 1 else float("nan")
