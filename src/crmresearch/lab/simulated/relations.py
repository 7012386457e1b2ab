"""The tables of relations: prospects, campaign contacts, survey, choices, and markets."""

from __future__ import annotations

from typing import Any

import numpy as np

from crmresearch.lab.simulated.accounts import city_ids, customer_ids, days_within
from crmresearch.lab.simulated.campaigns import COSTS, DOSES, OFFERS, campaign_months, wave_months
from crmresearch.lab.simulated.columns import NO_DATE, Block, Codes, cents, days, month_starts
from crmresearch.lab.simulated.life import CONSTRUCTS, Life, any_before, contacted
from crmresearch.lab.simulated.markets import city_tiers, entry_months, rate_gaps, share_loss
from crmresearch.lab.simulated.people import CHANNELS, Array, stream
from crmresearch.lab.simulated.priority import asked_share
from crmresearch.lab.simulated.settings import Settings
from crmresearch.lab.simulated.shocks import draw_shocks
from crmresearch.lab.simulated.traits import benefit

_NAMES = ("image", "expectation", "quality", "value", "satisfaction", "loyalty", "concern")
ITEMS = {c: [f"{name}_{i}" for i in range(1, 5)] for c, name in zip((*CONSTRUCTS, "CONC"), _NAMES, strict=True)}
CONTACT_CHANNELS = ("phone", "mail", "branch")
CAMPAIGNS = ("care", "dose", "trial", "target", "develop")
LATER = ("personal", "invite")  # whose lots stay empty in most worlds
ARMS = ("control", "treatment", "low", "medium", "high")
TASKS, OPTIONS = 6, 3
OLDER = 1970  # born until then
TERMS = np.array([0.25, 0.5, 1.0, 2.0])


def prospects(s: Settings, life: Life, block: int) -> Block:
    """Build the table of prospects approached within the window, the lost ones included."""
    who = life.people
    won = np.flatnonzero(who.acquired >= 0)
    at = np.concatenate([who.acquired[won], who.lost_at])
    order = np.argsort(at, kind="stable")
    customer = np.concatenate([won, np.full(len(who.lost_at), -1)])[order]
    return {
        "prospect_id": Codes(np.arange(len(at)), [f"P{block:06d}{i:05d}" for i in range(len(at))]),
        "channel": Codes(np.concatenate([who.channel[won], who.lost_channel])[order], CHANNELS),
        "first_contact_on": days(at[order]),
        "spend": cents(np.concatenate([who.spend[won], who.lost_spend])[order]),
        "won": (customer >= 0).astype(np.int8),
        "customer_id": Codes(customer, customer_ids(block)),
        "spend_randomised": np.full(len(at), s.parameters.spend_follows_ease == 0, dtype=np.int8),
        "_before": np.concatenate([won, who.lost_before])[order],  # the customer with whom a prospect is left out
    }


def contacts(s: Settings, life: Life, block: int) -> Block:
    """Build the table of contacts: campaigns, and the care that goes on all the time."""
    p, g, n = s.parameters, stream(s, "care", block), len(life.left)
    rate = p.care_rate / 12 * (1 + p.care_vip * life.vip)
    if p.care_follows_risk != 0:
        follow = p.care_follows_risk * np.log(life.people.frailty)
        rate = rate * np.exp(np.minimum(follow, 3.0))[:, None]
    share = np.minimum(life.exposed, np.clip(life.left[:, None] - np.arange(life.months)[None, :], 0.0, 1.0))
    count = g.poisson(rate * share * life.consent[:, None])
    row, month = np.nonzero(count)
    repeat = count[row, month]
    row, month = np.repeat(row, repeat), np.repeat(month, repeat)
    k = len(row)
    parts: list[dict[str, Array]] = [
        {
            "row": row,
            "day": days_within(life, row, month, g.random(k)),
            "campaign": np.zeros(k, dtype=np.int64),
            "arm": np.ones(k, dtype=np.int64),
            "cost": p.care_cost * np.exp(0.4 * g.standard_normal(k) - 0.08),
            "responded": (g.random(k) < 0.25).astype(np.int64),
        }
    ]
    dose_costs = np.array([0.0, *(p.dose_costs[d] for d in DOSES[1:])])
    noise, answer = g.standard_normal((len(CAMPAIGNS), n)), g.random((len(CAMPAIGNS), n))
    for c, campaign in enumerate(CAMPAIGNS[1:], start=1):
        at, arm = campaign_months(life.months)[campaign], life.arms[campaign].astype(np.int64)
        reached = contacted(life, campaign) & (life.left > at)
        if campaign == "target":  # a campaign without control group: only those who were contacted are on file
            reached &= arm == 1
        rows = np.flatnonzero(reached)
        treated = arm[rows] > 0
        dose = campaign == "dose"
        cost = dose_costs[arm[rows]] if dose else p.contact_cost * np.exp(0.2 * noise[c, rows] - 0.02) * treated
        parts.append(
            {
                "row": rows,
                "day": np.full(len(rows), month_starts(life.months)[at]),
                "campaign": np.full(len(rows), c),
                "arm": np.where(treated & dose, arm[rows] + 1, arm[rows]),
                "cost": cost,
                "responded": np.where(treated, answer[c, rows] < 0.2, -1).astype(np.int64),
            }
        )
    a = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((a["campaign"], a["day"], a["row"]))
    a = {name: column[order] for name, column in a.items()}
    a["channel"] = g.integers(0, len(CONTACT_CHANNELS), len(order))
    campaigns: tuple[str, ...] = CAMPAIGNS
    arms: tuple[str, ...] = ARMS
    if later := _later_contacts(s, life, block):
        a = {name: np.concatenate([a[name], *(part[name] for part in later)]) for name in a}
        order = np.lexsort((a["campaign"], a["day"], a["row"]))
        a = {name: column[order] for name, column in a.items()}
        campaigns, arms = (*CAMPAIGNS, *LATER), (*ARMS, *OFFERS[1:])
    return {
        "customer_id": Codes(a["row"], customer_ids(block)),
        "contacted_on": a["day"].astype(np.int32),
        "purpose": Codes((a["campaign"] == CAMPAIGNS.index("develop")).astype(np.int64), ("retain", "develop")),
        "campaign_id": Codes(a["campaign"], campaigns),
        "arm": Codes(a["arm"], arms),
        "randomised": (~np.isin(a["campaign"], [CAMPAIGNS.index(c) for c in ("care", "target")])).astype(np.int8),
        "channel": Codes(a["channel"], CONTACT_CHANNELS),
        "cost": cents(a["cost"]),
        "responded": a["responded"],
    }


def _later_contacts(s: Settings, life: Life, block: int) -> list[dict[str, Array]]:
    """Rows of the campaigns `personal` and `invite`, drawn by lot; who is invited has responded if he came."""
    p, g, n = s.parameters, stream(s, "offers", block), len(life.left)
    g.random(n)  # that of coming is the first
    parts = []
    for campaign, lot in zip(LATER, (p.personal_lot, p.invite_lot), strict=True):
        noise, answer, channel = g.standard_normal(n), g.random(n) < 0.2, g.integers(0, len(CONTACT_CHANNELS), n)
        if lot == 0:
            continue
        at, arm = campaign_months(life.months)[campaign], life.arms[campaign].astype(np.int64)
        rows = np.flatnonzero(contacted(life, campaign) & (life.left > at))
        cost = p.contact_cost * np.array(COSTS[campaign])[arm] * np.exp(0.2 * noise - 0.02)
        answered = np.where(arm > 0, life.comes if campaign == "invite" else answer, -1).astype(np.int64)
        parts.append(
            {
                "row": rows,
                "day": np.full(len(rows), month_starts(life.months)[at]),
                "campaign": np.full(len(rows), len(CAMPAIGNS) + LATER.index(campaign)),
                "arm": np.where((arm > 0) & (campaign == "personal"), len(ARMS) - 1 + arm, arm)[rows],
                "cost": cost[rows],
                "responded": answered[rows],
                "channel": channel[rows],
            }
        )
    return parts


def response_logit(p: Any, complaint: Array, vip: Array, age: Array, satisfaction: Array) -> Array:
    """Logit of answering the survey."""
    middle = np.log(p.response / (1 - p.response))
    shown = p.response_complaint * (complaint - 0.12) + p.response_vip * (vip - 0.08) + p.response_age * (age - 50)
    return np.asarray(middle + shown + p.response_satisfaction * satisfaction)


def other_banks(p: Any, satisfaction: Array, month: int) -> Array:
    """Expected number of other banks a customer uses."""
    return np.asarray(np.exp(-0.3 + p.satisfaction_banks * satisfaction + p.banks_growth * month / 12))


def loadings(p: Any) -> Array:
    """Loading of each item of a construct, the weakest first."""
    return np.clip(p.item_loading + p.loading_spread * np.linspace(-1, 1, 4), 0, 1)


def answered(loading: float, attitude: Array, noise: Array) -> Array:
    """Answer, from 1 to 10, to an item that measures an attitude with noise."""
    y = loading * attitude + np.sqrt(1 - loading**2) * noise
    return np.asarray(np.clip(np.rint(6.6 + 1.9 * y), 1, 10))


def answer_moments(loading: float, attitude: Array) -> tuple[Array, Array]:
    """Mean and mean square of the answers to an item that measures an attitude."""
    from scipy.special import ndtr

    edge = (np.arange(1.5, 10) - 6.6) / 1.9
    above = ndtr((loading * attitude[..., None] - edge) / np.sqrt(1 - loading**2))
    return 1 + above.sum(axis=-1), 1 + above @ (2 * np.arange(1, 10) + 1)


def survey(s: Settings, life: Life, block: int) -> Block:
    """Build the table of survey invitations: a panel of customers, every wave, answers on scales from 1 to 10."""
    p, g, n = s.parameters, stream(s, "survey", block), len(life.left)
    lot = g.random(n)
    trouble = any_before(life.complaints, 6)
    _, gains = benefit(s, block)
    out: list[dict[str, Array]] = []
    for w, month in enumerate(wave_months(life.months)):
        grown = p.concern_growth * (month - wave_months(life.months)[0]) / 12
        latent = {c: life.attitudes[c][:, w] for c in CONSTRUCTS} | {"CONC": life.concern + grown}
        age = life.people.age + (month - life.people.acquired) / 12
        logit = response_logit(p, trouble[:, month], life.vip[:, month], age, latent["SAT"])
        answers = g.random(n) < 1 / (1 + np.exp(-logit))
        noise = g.standard_normal((n, sum(map(len, ITEMS.values()))))
        values: dict[str, Array] = {}
        for c, items in ITEMS.items():
            common = (1 - p.one_factor) * latent[c] + p.one_factor * latent["SAT"]
            for item, loading in zip(items, loadings(p), strict=True):
                values[item] = answered(loading, common, noise[:, len(values)])
        mass = life.cumulative[:, month : month + 12].sum(axis=(1, 2)) * (12 / max(min(12, life.months - month), 1))
        stated = p.intention_factor * -np.expm1(-mass) * np.exp(0.5 * g.standard_normal(n) - 0.125)
        values["switch_chance"] = np.rint(100 * np.clip(stated, 0, 1))
        values["other_banks"] = g.poisson(other_banks(p, latent["SAT"], month)).astype(float)
        values |= {"net_benefit": gains[:, w]} if p.benefit_share > 0 else {}
        values["weather"] = np.clip(np.rint(6.0 + 2.0 * g.standard_normal(n)), 1, 10)  # marker: related to nothing
        there = (life.people.acquired < month) & (life.left > month + 1)
        share = asked_share(s, life.log_balance[:, max(month - 1, 0)])
        rows = np.flatnonzero((lot < share) & there)
        shown = {name: np.where(answers, v, np.nan)[rows] for name, v in values.items()}
        out.append(
            {
                "row": rows,
                "month": np.full(len(rows), month),
                "responded": answers[rows],
                "weight": 1 / share[rows],
                **shown,
            }
        )
    a = {name: np.concatenate([part[name] for part in out]) for name in out[0]}
    order = np.lexsort((a["month"], a["row"]))
    a = {name: column[order] for name, column in a.items()}
    k = len(order)
    return {
        "customer_id": Codes(a.pop("row"), customer_ids(block)),
        "wave_on": (month_starts(life.months)[a.pop("month")] + 14).astype(np.int32),
        "sampled": np.ones(k, dtype=np.int8),
        "responded": a.pop("responded").astype(np.int8),
        "weight": a.pop("weight"),
        **a,
    }


def choices(s: Settings, life: Life, block: int) -> Block:
    """Build the table of choice tasks: three deposit products, or none, chosen by the tastes of two age groups."""
    p, g, n = s.parameters, stream(s, "choices", block), len(life.left)
    member = g.random(n) < p.choice_share
    shape = (n, TASKS, OPTIONS)
    x = {
        "yield_bp": 25.0 * g.integers(8, 19, shape),
        "guaranteed": g.integers(0, 2, shape).astype(float),
        "floating": g.integers(0, 2, shape).astype(float),
        "term_years": TERMS[g.integers(0, len(TERMS), shape)],
        "issue_interval_months": g.integers(1, 4, shape).astype(float),
        "priority_service": g.integers(0, 2, shape).astype(float),
    }
    born = 2021 + np.floor(life.people.acquired / 12 - life.people.age)
    older = (born <= OLDER)[:, None, None]
    utility = g.gumbel(size=shape)
    for name, values in x.items():
        utility += np.where(older, p.taste["older"][name], p.taste["younger"][name]) * values
    if "opt_out" in p.taste["younger"]:  # one more option, which has no other attribute
        none = np.where(older[:, :, 0], p.taste["older"]["opt_out"], p.taste["younger"]["opt_out"])
        none = none + stream(s, "declined", block).gumbel(size=shape[:2])
        utility = np.concatenate([utility, none[:, :, None]], axis=2)
        x = {name: np.pad(values, ((0, 0), (0, 0), (0, 1))) for name, values in x.items()}
        x["opt_out"] = np.broadcast_to(np.arange(OPTIONS + 1) == OPTIONS, utility.shape).astype(float)
    options = utility.shape[2]
    chosen = utility == utility.max(axis=2, keepdims=True)
    rows = np.flatnonzero(member)
    ids = customer_ids(block)
    row, task, option = (a.ravel() for a in np.meshgrid(rows, np.arange(TASKS), np.arange(options), indexing="ij"))
    return {
        "customer_id": Codes(row, ids),
        "task_id": Codes(task, [f"task-{i + 1}" for i in range(TASKS)]),
        "option_id": Codes(option, [f"option-{i + 1}" for i in range(options)]),
        "chosen": chosen[rows].ravel().astype(np.int8),
        **{name: values[rows].ravel() for name, values in x.items()},
    }


def markets(s: Settings) -> Block:
    """Build the table of markets: city by month."""
    p, g, tier, entry = s.parameters, stream(s, "markets", 0), city_tiers(s), entry_months(s)
    cities, shocks = len(tier), draw_shocks(s)
    level = np.array([0.0, 0.22, 0.32, 0.40])[np.minimum(tier, 3)] + 0.04 * g.standard_normal(cities)
    share = level[:, None] - share_loss(s) + 0.004 * g.standard_normal((cities, s.months))
    share = share + shocks.share
    # rivals choose cities where the share falls anyway, and there it goes on falling
    share = share - p.entry_pretrend * np.where(np.isfinite(entry)[:, None], np.arange(s.months), 0)
    since = np.arange(s.months)[None, :] - entry[:, None]
    branches = np.where(since >= 0, 1 + np.floor(np.maximum(np.where(np.isfinite(since), since, 0), 0) / 6), 0)
    branches = branches + np.where(tier == 1, 12, 0)[:, None]
    city, month = (a.ravel() for a in np.meshgrid(np.arange(cities), np.arange(s.months), indexing="ij"))
    entered = np.where(
        np.isfinite(entry), month_starts(s.months)[np.where(np.isfinite(entry), entry, 0).astype(int)], NO_DATE
    )
    known = {}
    if p.share_shock > 0:
        known["always_treated"] = (tier == 1)[city].astype(np.int8)
    if p.intensity_entry or p.intensity_follows_risk:
        known["crm_intensity"] = np.round(shocks.intensity, 4)[city]
    if p.rate_spread > 0:
        known["rate_gap"] = rate_gaps(s).ravel()
    return {
        "city_id": Codes(city, city_ids(s)),
        "month": month_starts(s.months)[month],
        "tier": tier[city],
        "own_share": np.round(np.clip(share, 0.02, 0.95), 5).ravel(),
        "rival_branches": branches.ravel().astype(np.int64),
        "rival_entered_on": entered[city].astype(np.int32),
        **known,
    }
