"""The truth of the simulated bank: parameters, and what the estimands come to under them.

Three ways lead to a number, and each says which it took: a *parameter* of the model (conditional on everything else,
the unobserved included), a *closed form*, or the *limit* of a very large draw. In a limit the exit is not drawn but
averaged out: every month counts with the probability that the customer is still there, so that little noise is left.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from crmresearch.lab.simulated import accounts
from crmresearch.lab.simulated.accounts import customer_ids
from crmresearch.lab.simulated.columns import Block, Codes
from crmresearch.lab.simulated.life import (
    CAUSES,
    DOSES,
    Life,
    campaign_months,
    contacted,
    draw_life,
    wave_months,
    with_arm,
)
from crmresearch.lab.simulated.people import CHANNELS, Array, People
from crmresearch.lab.simulated.relations import ITEMS
from crmresearch.lab.simulated.settings import BLOCK, Settings, worlds

DRAW_BLOCKS = 8  # blocks drawn where no stored limit fits
GROUPS = 40  # groups of blocks that are left out in turn
FOLLOW = 12  # months of follow-up after a campaign
RMST_MONTHS = 36


def latent(settings: Settings, life: Life, block: int) -> Block:
    """Build the table of latent values, which no notebook sees."""
    who = life.people
    waves = {f"{c}_{w + 1}": values[:, w] for c, values in life.attitudes.items() for w in range(values.shape[1])}
    return {
        "customer_id": Codes(np.arange(len(who.value)), customer_ids(block)),
        "frailty": who.frailty,
        "ease": who.ease,
        "value": who.value,
        "service_efficiency": who.service,
        "concern": life.concern,
        "left_month": np.where(np.isfinite(life.left), life.left, np.nan),
        "mobile_month": life.adopted,
        "target_logit": life.target_score,
        **waves,
    }


def alive(life: Life) -> Array:
    """Probability of being there at the start of each month (or at acquisition, if within it), given everything."""
    mass = life.cumulative.sum(axis=2)
    return np.asarray(np.exp(mass - np.cumsum(mass, axis=1)))


def parameter_estimands(s: Settings) -> dict[str, float]:
    """Estimands that are parameters, or simple functions of some."""
    p = s.parameters
    out = {
        f"cox.{name}.log_hr": getattr(p, f"{field}_exit")
        for name, field in {
            "satisfaction": "satisfaction", "unmet": "unmet", "families": "breadth", "mobile": "mobile",
            "rival": "rival", "rival_vip": "rival_vip", "vip": "vip", "referral": "referral", "online": "online",
            "agent": "agent", "tier2": "tier2", "tier3": "tier3", "retain": "retain",
        }.items()
    }  # fmt: skip
    for dose in DOSES[1:]:
        size = p.dose_costs[dose] / p.dose_scale
        out[f"cox.dose_{dose}.log_hr"] = p.dose_exit * (1 - float(np.exp(-size)))
        out[f"elasticity.dose_{dose}"] = p.dose_exit * size * float(np.exp(-size))  # of the hazard to the offer's cost
    out["frailty.variance"] = p.frailty_variance
    for name, value in p.paths.items():
        out[f"path.{name}"] = value
    b = p.paths
    out["path.QUAL_SAT.total"] = b["QUAL_SAT"] + b["QUAL_VAL"] * b["VAL_SAT"]
    out["path.QUAL_LOY.indirect"] = b["QUAL_SAT"] * b["SAT_LOY"]
    out["path.QUAL_LOY.total"] = out["path.QUAL_SAT.total"] * b["SAT_LOY"]
    out["path.LOY_SAT.lagged"] = p.loyalty_feedback
    out["path.CONC_SAT_LOY.interaction"] = p.concern_loyalty
    out["path.service_QUAL"] = p.service_quality
    out["satisfaction.vip_jump"] = p.vip_satisfaction
    out["referral.satisfaction.log_rate"] = p.referral_satisfaction
    for segment, taste in p.taste.items():
        for name, value in taste.items():
            out[f"taste.{segment}.{name}"] = value
            if name != "yield_bp":
                out[f"wtp.{segment}.{name}_bp"] = value / taste["yield_bp"]
    for tier in (2, 3):
        out[f"market.share_effect.tier{tier}"] = -p.market_share_loss * (1.0 if tier == 3 else 0.5)
    out["market.income_effect"] = p.rival_income
    return out


def closed_forms(s: Settings) -> dict[str, float]:
    """Estimands with a closed form (one-dimensional quadrature included)."""
    p, out = s.parameters, {}
    fade = p.referral_fade_years
    out["referral.margin_gap.first_year"] = p.referral_margin * fade * (1 - float(np.exp(-1 / fade)))
    out.update(_win_integrals(s))
    if _care_is_constant(p):
        out["retention_cost.year"] = p.care_rate * p.care_cost * p.consent_marketing
        out["cost_ratio.primary"] = out["cost_per_win.all"] / out["retention_cost.year"]
        out["cost_ratio.won_only"] = out["cost_per_win.won_only"] / out["retention_cost.year"]
    return out


def _care_is_constant(p: Any) -> bool:
    """Whether care goes on at one rate for everybody and campaigns cost nothing."""
    free = p.contact_cost == 0 and not any(p.dose_costs.values())
    return bool(free and p.care_vip == 0 and p.care_follows_risk == 0 and p.consent_concern == 0)


def _win_integrals(s: Settings) -> dict[str, float]:
    """Winning by spend: integrate over log spend (Gauss-Hermite) and over the trend within the window."""
    p = s.parameters
    if p.spend_follows_ease != 0:  # spend depends on what decides the winning
        return {}
    from scipy.special import ndtr, ndtri

    node, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    moment, share_of = np.polynomial.legendre.leggauss(20)
    year = (moment + 1) / 2 * s.months / 12
    share_of = share_of / 2
    total: dict[str, float] = dict.fromkeys(("spend", "won_spend", "won", "slope", "bend"), 0.0)
    out = {}
    shares = np.array([p.channel_share[c] for c in CHANNELS])
    for channel, share in zip(CHANNELS, shares / shares.sum(), strict=True):
        sd = p.spend_spread
        spend = p.channel_spend[channel] * np.exp(p.spend_trend * year[:, None] + sd * node[None, :] - sd**2 / 2)
        x = spend / 100
        index = ndtri(p.channel_win[channel]) + p.win_spend * x + p.win_spend_squared * x * x
        density = np.exp(-(index**2) / 2) / np.sqrt(2 * np.pi)
        first = (p.win_spend + 2 * p.win_spend_squared * x) / 100
        second = 2 * p.win_spend_squared / 100**2
        at = {
            "spend": spend,
            "won_spend": spend * ndtr(index),
            "won": ndtr(index),
            "slope": density * first,
            "bend": density * (second - index * first**2),
        }
        mean = {k: float(share_of @ v @ weight) for k, v in at.items()}
        for k, v in mean.items():
            total[k] += share * v
        out[f"cost_per_win.all.{channel}"] = mean["spend"] / mean["won"]
        out[f"win.slope.{channel}"] = mean["slope"]
        out[f"win.second_derivative.{channel}"] = mean["bend"]
        if mean["slope"] != 0:
            out[f"marginal_cost.{channel}"] = 1 / mean["slope"]
    out["win.probability"] = total["won"]
    out["win.slope"] = total["slope"]
    out["win.second_derivative"] = total["bend"]
    out["cost_per_win.all"] = total["spend"] / total["won"]
    out["cost_per_win.won_only"] = total["won_spend"] / total["won"]
    if total["slope"] != 0:
        out["cost_per_win.marginal"] = 1 / total["slope"]
    return out


# --- limits -----------------------------------------------------------------------------------------------------------


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
    out["satisfaction.n"] = float(len(items))
    out["satisfaction.sum"] = float(np.nansum(items))
    out["answers.n"] = float(usual.sum())
    out["answers.sum"] = float(items[usual].sum())


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


def block_sums(s: Settings, block: int) -> dict[str, float]:
    """Sums over one block from which the limits are made."""
    life = draw_life(s, block)
    out: dict[str, float] = {}
    _tenure_sums(s, life, out)
    _campaign_sums(s, block, life, out)
    _cost_sums(s, life, out)
    _survey_sums(s, block, life, out)
    _rmst_sums(s, life, out)
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
    out: dict[str, Callable[[Mapping[str, float]], float]] = {}
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
    return out


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
    sums = [block_sums(s, b) for b in range(first, first + blocks)]
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
    made = [contributions(s, b) for b in range(first, first + (people or blocks))]
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


@functools.cache
def model_fingerprint() -> str:
    """Return a hash of the parameters of every world: stored limits of others are refused."""
    return hashlib.sha256(json.dumps(worlds(), sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def stored() -> dict[str, Any]:
    """Limits computed beforehand, by world (see ``limits.py`` for the command)."""
    path = files(__package__) / "limits.yaml"
    found = dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    return found if found.get("model") == model_fingerprint() else {}


@functools.cache
def _lines() -> dict[str, Any]:
    path = files(__package__) / "lines.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def line_truths(settings: Settings) -> dict[str, dict[str, float]]:
    """Return what was planted by line of the register, where it is stored: the baseline world, as it is."""
    known = _lines()
    fits = settings.world == "baseline" and not settings.changes and known.get("months") == settings.months
    return dict(known["lines"]) if fits and known["model"] == model_fingerprint() else {}


def truth(settings: Settings) -> dict[str, Any]:
    """Return the truth of a simulated bank.

    Parameters
    ----------
    settings : Settings
        The bank. Seed and number of customers matter only where no stored limit fits (another number of months, or
        changed parameters): then eight blocks are drawn.

    Returns
    -------
    dict
        ``world``, ``summary``, ``months``, ``seed``, ``customers``; ``parameters`` by name; ``estimands``: value by
        name, in the units a study reports; ``how`` (parameter, closed form, limit) and ``error`` (Monte-Carlo standard
        error of limits), by name.
    """
    p = settings.parameters
    known = stored().get("worlds", {}).get(settings.world) if not settings.changes else None
    if known is not None and stored()["months"] == settings.months:
        values, errors = ({k: v[i] for k, v in known.items()} for i in (0, 1))
        how = f"limit of a draw of {stored()['customers'][settings.world]:,} customers"
    else:
        values, errors = limits(settings)
        how = f"limit of a draw of {DRAW_BLOCKS * BLOCK:,} customers"
    estimands = {k: float(v) for k, v in values.items() if np.isfinite(v)}
    origin = dict.fromkeys(estimands, how)
    for label, found in (("closed form", closed_forms(settings)), ("parameter", parameter_estimands(settings))):
        estimands.update({k: float(v) for k, v in found.items()})
        origin.update(dict.fromkeys(found, label))
    for cost in ("all", "won_only"):
        name = "cost_ratio." + {"all": "primary"}.get(cost, cost)
        if origin.get(name) == how and origin[f"cost_per_win.{cost}"] == "closed form":
            estimands[name] = estimands[f"cost_per_win.{cost}"] / estimands["retention_cost.year"]
            errors[name] = estimands[name] * errors["retention_cost.year"] / estimands["retention_cost.year"]
            origin[name] = f"closed form over a {how}"
    gain = ("campaign.targeted.retention_12m", "campaign.targeted.eligible.retention_12m")
    if gain[0] in estimands:  # value of targeting over contacting at random, customers kept per contact
        estimands["policy.targeting_gain.retention_12m"] = estimands[gain[0]] - estimands[gain[1]]
        origin["policy.targeting_gain.retention_12m"] = "difference of two limits"
    return {
        "world": settings.world,
        "summary": worlds()[settings.world]["summary"],
        "months": settings.months,
        "seed": settings.seed,
        "customers": settings.rows,
        "waves": wave_months(settings.months),
        "campaigns": campaign_months(settings.months),
        "parameters": p.model_dump(),
        "estimands": dict(sorted(estimands.items())),
        "how": dict(sorted(origin.items())),
        "error": {k: float(v) for k, v in sorted(errors.items()) if origin.get(k, "").endswith(how)},
    }
