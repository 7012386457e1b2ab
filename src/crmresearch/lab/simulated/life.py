"""What happens to a customer of the simulated bank: products, complaints, rivals, campaigns, attitudes, and leaving.

Nothing here depends on the exit itself, so the hazard of every month can be written down before an exit is drawn. That
makes counterfactuals cheap: change one thing, keep the random numbers, draw the exit again. Balances run down before a
voluntary exit (reverse causation) only afterwards, in :mod:`accounts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from types import MappingProxyType
from typing import Any

import numpy as np

from crmresearch.lab.simulated.branches import draw_branches, homes, lifts
from crmresearch.lab.simulated.campaigns import (
    DOSES,
    SCORED,
    attends,
    campaign_months,
    draw_arms,
    effect_span,
    reactions,
    risk_score,
    target_logit,
    wave_months,
)
from crmresearch.lab.simulated.columns import days, last_day
from crmresearch.lab.simulated.intentions import log_hazard
from crmresearch.lab.simulated.markets import rival_months
from crmresearch.lab.simulated.people import (
    Array,
    People,
    death_cumulative,
    draw_people,
    effect_factor,
    fixed_exit,
    standard_age,
    stream,
    voluntary_cumulative,
)
from crmresearch.lab.simulated.priority import lifted_over
from crmresearch.lab.simulated.settings import Settings
from crmresearch.lab.simulated.shocks import common
from crmresearch.lab.simulated.traits import OPENS, class_factor, ecommerce
from crmresearch.lab.simulated.wallet import acts, with_offers

CAUSES = ("voluntary", "bank_initiated", "death", "dormant", "unknown")
FAMILIES = ("current", "savings", "card", "term_deposit", "fund", "loan", "insurance")
CONSTRUCTS = ("IMAG", "EXPE", "QUAL", "VAL", "SAT", "LOY")
UNMET_MONTHS = 12  # a complaint that was not resolved works that long
NEVER = np.inf
TAIL = 0.1  # share of customers, the wealthiest, whose balances follow `balance_tail`
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass
class Life:
    """One block of lives; matrices are customer x month, times are months from the observation start."""

    people: People
    months: int
    exposed: Array  # share of each month after acquisition
    opened: Array  # customer x family, NEVER if not opened within the window
    closed: Array
    breadth: Array  # families held at the start of the month
    complaints: Array
    unmet: Array  # complaints that were not resolved
    log_balance: Array  # without the run-down
    vip: Array  # balance above the threshold at the end of the month before
    adopted: Array  # mobile banking
    rival: Array  # rivals in the city
    managed: Array  # by a relationship manager of the city
    common: Array  # log hazard shared with others: of the month, the city, the manager, the household
    intends: Array | float  # log hazard of an intention to leave
    platforms: Array  # leaning to pay through outside platforms, standardised
    concern: Array
    attitudes: dict[str, Array]  # construct -> customer x wave
    home: Array  # branch
    lift: dict[str, Array]  # construct -> customer x month: what the branch adds; empty without branches
    consent: Array
    arms: dict[str, Array]  # campaign -> arm of everybody (whether present or not)
    target_score: Array
    scored: Array  # whether the score lies in the band of the campaign `personal`
    comes: Array  # whether a customer comes who is invited
    reacts: Array  # log hazard beyond what a contact of retention does on average
    linear: Array  # log hazard ratio of voluntary exit, without baseline
    cumulative: Array  # customer x month x cause: hazard mass of each month
    left: Array  # NEVER if not within the window
    cause: Array

    @property
    def satisfaction(self) -> Array:
        """Satisfaction in each month."""
        return self.by_month("SAT")

    def by_month(self, construct: str) -> Array:
        """Give an attitude in each month: of the latest wave (the first one before it), and the branch since."""
        waves = np.array(wave_months(self.months))
        wave = np.maximum(np.searchsorted(waves, np.arange(self.months), side="right") - 1, 0)
        value = self.attitudes[construct][:, wave]
        if construct in self.lift:
            value = value + self.lift[construct] - self.lift[construct][:, waves[wave]]
        return np.asarray(value)

    def rundown(self, depth: float, length: int) -> Array:
        """Factor on balance and activity in the months before a voluntary exit."""
        factor = np.ones_like(self.exposed)
        if length == 0:
            return factor
        rows = np.flatnonzero((self.cause == 0) & np.isfinite(self.left))
        to_go = np.floor(self.left[rows])[:, None] - np.arange(self.months)[None, :]
        near = (to_go >= 0) & (to_go < length)
        factor[rows] = np.where(near, 1 - depth * (1 - to_go / length), 1.0)
        return factor


def held(start: Array, end: Array, months: int) -> Array:
    """Count, per customer and month, the spells open at the start of the month."""
    n = len(start)
    change = np.zeros((n, months + 1), dtype=np.int16)
    rows = np.arange(n)[:, None].repeat(start.shape[1], 1)
    for moment, sign in ((start, 1), (end, -1)):
        at = np.clip(np.ceil(np.minimum(moment, months)), 0, months).astype(np.int64)
        np.add.at(change, (rows, at), sign)
    return np.cumsum(change, axis=1)[:, :months]


def _products(s: Settings, people: People, block: int, develop_at: int, develop_arm: Array) -> tuple[Array, Array]:
    p, g, n = s.parameters, stream(s, "products", block), len(people.acquired)
    wait = g.standard_exponential((n, len(FAMILIES)))
    last = g.standard_exponential((n, len(FAMILIES)))
    rate = np.array([0.0, *(p.family_rate[f] for f in FAMILIES[1:])]) / 12
    rate = rate[None, :] * (np.exp(p.family_value * people.value) * class_factor(s, block, OPENS))[:, None]
    with np.errstate(divide="ignore"):
        # a contact at `develop_at` multiplies the rates for six months: invert the piecewise linear hazard
        boost = np.where(develop_arm == 1, p.develop_boost, 1.0)[:, None]
        before = np.maximum(develop_at - people.acquired, 0.0)[:, None]  # months from acquisition to the contact
        during = np.clip(develop_at + 6 - people.acquired, 0.0, 6.0)[:, None]
        m0, m1 = rate * before, rate * boost * during
        delay = np.where(
            wait <= m0,
            wait / rate,
            np.where(wait <= m0 + m1, before + (wait - m0) / (rate * boost), before + during + (wait - m0 - m1) / rate),
        )
        opened = people.acquired[:, None] + delay
        opened[:, 0] = people.acquired
        closed = opened + (last / (p.family_close / 12) if p.family_close > 0 else NEVER)
    closed[:, 0] = NEVER  # the current account is kept as long as the customer stays
    gone = closed < 0  # closed before the observation starts: no longer in the tables
    opened[gone], closed[gone] = NEVER, NEVER
    return opened, closed


def _complaints(s: Settings, people: People, block: int, exposed: Array) -> tuple[Array, Array]:
    p, g = s.parameters, stream(s, "complaints", block)
    chance = np.minimum(p.complaint_month * np.exp(-0.4 * people.service), 1.0)
    happened = (g.random(exposed.shape, dtype=np.float32) < chance[:, None]) & (exposed > 0)
    return happened, happened & (g.random(exposed.shape, dtype=np.float32) < p.complaint_unmet)


def any_before(happened: Array, months: int) -> Array:
    """Whether something happened in one of the ``months`` months before."""
    out = np.zeros_like(happened)
    for lag in range(1, months + 1):
        out[:, lag:] |= happened[:, :-lag]
    return out


def _log_balance(s: Settings, people: People, block: int, months: int) -> Array:
    p, g = s.parameters, stream(s, "balance", block)
    persistence = 0.9
    level = np.log(p.balance_median) + p.balance_spread * people.value
    if p.balance_pareto > 0:  # the same order of customers, another tail
        from scipy.special import log_ndtr

        level = np.log(p.balance_median) - np.log(2) / p.balance_pareto - log_ndtr(-people.value) / p.balance_pareto
    if p.balance_tail > 0:  # the same again below
        from scipy.special import log_ndtr

        cut = NormalDist().inv_cdf(1 - TAIL)
        beyond = (np.log(TAIL) - log_ndtr(-people.value)) / p.balance_tail
        level = np.where(people.value > cut, np.log(p.balance_median) + p.balance_spread * cut + beyond, level)
    noise = g.standard_normal((months + 1, len(level)), dtype=np.float32) * np.float32(p.balance_noise)
    step = np.float32(np.sqrt(1 - persistence**2))
    for m in range(1, months + 1):
        noise[m] = persistence * noise[m - 1] + step * noise[m]
    return np.asarray(level[:, None] + noise.T)  # column 0 is the month before the window


def _attitudes(
    s: Settings, people: People, block: int, vip: Array, recent: Array, pleased: Array
) -> tuple[Array, dict[str, Array]]:
    p, g, n = s.parameters, stream(s, "attitudes", block), len(people.acquired)
    b, waves = p.paths, wave_months(s.months)
    concern = g.standard_normal(n)
    keep = p.persistence
    first = g.standard_normal((n, len(CONSTRUCTS)))
    sd = disturbances(p)
    out = {c: np.empty((n, len(waves))) for c in CONSTRUCTS}
    shock = first
    for w, month in enumerate(waves):
        if w > 0:
            shock = keep * shock + np.sqrt(1 - keep**2) * g.standard_normal(first.shape)
        imag = shock[:, 0]
        expe = b["IMAG_EXPE"] * imag + sd["EXPE"] * shock[:, 1]
        qual = b["EXPE_QUAL"] * expe + p.service_quality * people.service + sd["QUAL"] * shock[:, 2]
        val = b["EXPE_VAL"] * expe + b["QUAL_VAL"] * qual + sd["VAL"] * shock[:, 3]
        sat = b["IMAG_SAT"] * imag + b["EXPE_SAT"] * expe + b["QUAL_SAT"] * qual + b["VAL_SAT"] * val
        sat = sat + sd["SAT"] * shock[:, 4] + p.vip_satisfaction * vip[:, month]
        sat = sat + p.complaint_satisfaction * recent[:, month] + pleased[:, month]
        if w > 0:  # feedback acts from one wave to the next only
            sat = sat + p.loyalty_feedback * out["LOY"][:, w - 1]
        loy = b["IMAG_LOY"] * imag + b["SAT_LOY"] * sat + p.concern_loyalty * sat * concern + sd["LOY"] * shock[:, 5]
        for name, value in zip(CONSTRUCTS, (imag, expe, qual, val, sat, loy), strict=True):
            out[name][:, w] = value
    return concern, out


def _lifted(p: Any, attitudes: dict[str, Array], lift: dict[str, Array], concern: Array) -> None:
    """Add what the branch does to the attitudes of the waves."""
    waves = wave_months(next(iter(lift.values())).shape[1])
    for construct, added in lift.items():
        attitudes[construct] += added[:, waves]
    attitudes["LOY"] += (p.paths["SAT_LOY"] + p.concern_loyalty * concern[:, None]) * lift["SAT"][:, waves]


def disturbances(p: Any) -> dict[str, float]:
    """Standard deviations that give every construct unit variance in the first wave (complaints and priority aside)."""
    b = p.paths
    ie, eq, ev, qv = b["IMAG_EXPE"], b["EXPE_QUAL"], b["EXPE_VAL"], b["QUAL_VAL"]
    eq_, iq = eq, ie * eq  # correlations with quality
    e_v, i_v, q_v = ev + qv * eq_, ie * ev + qv * iq, ev * eq_ + qv
    weights = np.array([b["IMAG_SAT"], b["EXPE_SAT"], b["QUAL_SAT"], b["VAL_SAT"]])
    r = np.array([[1, ie, iq, i_v], [ie, 1, eq_, e_v], [iq, eq_, 1, q_v], [i_v, e_v, q_v, 1]])
    explained_sat = weights @ r @ weights
    i_s = float(r[0] @ weights)
    il, sl = b["IMAG_LOY"], b["SAT_LOY"]
    explained = {
        "EXPE": ie**2,
        "QUAL": eq**2 + p.service_quality**2,
        "VAL": ev**2 + qv**2 + 2 * ev * qv * eq_,
        "SAT": explained_sat,
        "LOY": il**2 + sl**2 + 2 * il * sl * i_s + p.concern_loyalty**2,
    }
    return {name: float(np.sqrt(max(1 - e, 0.05))) for name, e in explained.items()}


def _leaning(s: Settings, people: People, block: int) -> Array:
    r = s.parameters.trait_correlation  # the young lean to platforms
    own = stream(s, "platforms", block).standard_normal(len(people.age))
    return np.asarray(np.sqrt(1 - r**2) * own - r * standard_age(people.age))


def _consent(s: Settings, block: int, n: int) -> Array:
    p, concern = s.parameters, stream(s, "attitudes", block).standard_normal(n)  # the first of that stream
    index = NormalDist().inv_cdf(p.consent_marketing) * np.sqrt(1 + p.consent_concern**2)
    return np.asarray(stream(s, "consent", block).standard_normal(n) < index - p.consent_concern * concern)


def draw_life(s: Settings, block: int, force: Mapping[str, int] = NOTHING) -> Life:
    """Draw the lives of one block.

    Parameters
    ----------
    s : Settings
        The bank.
    block : int
        Which 1,024 customers.
    force : mapping of str to int
        A counterfactual: the arm given to everybody, by campaign (0 control, 1 treatment; ``dose``: 0 to 3). The random
        numbers stay what they are.
    """
    p, months = s.parameters, s.months
    people = draw_people(s, block)
    n, grid = len(people.acquired), np.arange(months)
    exposed = np.clip(grid[None, :] + 1 - people.acquired[:, None], 0.0, 1.0)
    at = campaign_months(months)
    arms, u_target = draw_arms(s, block, n, force)
    opened, closed = _products(s, people, block, at["develop"], arms["develop"])
    if p.corporate_share > 0:
        more = ecommerce(s, block, people.acquired)
        opened, closed = (np.column_stack(pair) for pair in zip((opened, closed), more, strict=True))
    breadth = held(opened, closed, months)
    complaints, unmet = _complaints(s, people, block, exposed)
    consent = _consent(s, block, n)
    willing = {name: consent & (people.acquired < month) for name, month in at.items()}
    log_balance = with_offers(s, block, _log_balance(s, people, block, months), arms, willing)
    log_balance = lifted_over(s, block, log_balance, people.service)
    vip = (log_balance[:, :-1] >= np.log(p.vip_threshold)) & (people.acquired[:, None] < grid[None, :])
    tenure_years = np.maximum(grid[None, :] + 0.5 - people.acquired[:, None], 0.0) / 12
    score = {
        name: risk_score(
            any_before(unmet, UNMET_MONTHS)[:, at[name]], breadth[:, at[name]], tenure_years[:, at[name]], people.tier
        )
        for name in ("personal", "target")
    }
    scored = (score["personal"] >= SCORED[0]) & (score["personal"] < SCORED[1])
    pleased = p.personal_satisfaction * (willing["personal"] & scored & (arms["personal"] == 2))
    recent, within = any_before(complaints, 6), effect_span(months, "personal")
    concern, attitudes = _attitudes(s, people, block, vip, recent, pleased[:, None] * within)
    home = homes(s, people.city, block)
    lift = lifts(draw_branches(s), people.service, vip, home) if p.branches else {}
    if lift:
        _lifted(p, attitudes, lift, concern)
    rate = p.mobile_rate / 12 * np.exp(p.mobile_age * (people.age - 40) + p.mobile_concern * concern)
    with np.errstate(divide="ignore"):
        wait = stream(s, "adoption", block).standard_exponential(n) / rate
    adopted = np.maximum(people.acquired, -12.0 * p.mobile_history) + wait
    rival = rival_months(s)[people.city]
    logit = target_logit(p, score["target"])
    arms["target"] = (u_target < 1 / (1 + np.exp(-logit))).astype(np.int8)
    if "target" in force:
        arms["target"][:] = force["target"]
    managed = (log_balance[:, 1] > np.log(p.vip_threshold)) & (people.value > 0)
    life = Life(
        people, months, exposed, opened, closed, breadth, complaints, unmet, log_balance[:, 1:], vip, adopted, rival,
        managed, common(s, people, managed, block), log_hazard(s, block),
        _leaning(s, people, block), concern, attitudes, home, lift, consent, arms, logit, scored,
        attends(s, block, attitudes["LOY"]), reactions(s, block), exposed, exposed, exposed[:, 0], exposed[:, 0],
    )  # fmt: skip
    _hazards(s, life, tenure_years)
    _exits(s, life, block)
    return life


def with_arm(s: Settings, life: Life, block: int, campaign: str, arm: int) -> Life:
    """Return the same lives had everybody been given one arm of a campaign of retention."""
    p = s.parameters
    if (campaign == "dose" and acts(p)) or campaign == "personal":  # which move balances, or satisfaction
        return draw_life(s, block, {campaign: arm})
    other = replace(life, arms={**life.arms, campaign: np.full_like(life.arms[campaign], arm)})
    tenure_years = np.maximum(np.arange(s.months)[None, :] + 0.5 - life.people.acquired[:, None], 0.0) / 12
    _hazards(s, other, tenure_years)
    _exits(s, other, block)
    return other


def contacted(life: Life, campaign: str) -> Array:
    """Whether a customer consents, was acquired and is meant when a campaign goes out (exits are not known yet)."""
    meant = life.scored if campaign == "personal" else True
    return np.asarray(life.consent & (life.people.acquired < campaign_months(life.months)[campaign]) & meant)


def _contact_effect(p: Any, life: Life) -> Array:
    """Log hazard ratio of retention contacts, by month."""
    effect = np.zeros(life.exposed.shape)
    sizes = {"trial": np.array([0.0, p.retain_exit]), "target": np.array([0.0, p.retain_exit])}
    costs = np.array([0.0, *(p.dose_costs[d] for d in DOSES[1:])])
    sizes["dose"] = p.dose_exit * (1 - np.exp(-costs / p.dose_scale))
    sizes["personal"] = np.array([0.0, p.generic_exit, p.personal_exit])
    sizes["invite"] = np.array([0.0, p.invite_exit])
    for campaign, size in sizes.items():
        reached = contacted(life, campaign) & (life.comes if campaign == "invite" else True)
        arm = life.arms[campaign]
        effect += ((size[arm] + life.reacts * (arm > 0)) * reached)[:, None] * effect_span(life.months, campaign)
    return effect


def _hazards(s: Settings, life: Life, tenure_years: Array) -> None:
    p, people, months = s.parameters, life.people, life.months
    grid = np.arange(months)
    linear = np.zeros(life.exposed.shape)
    linear += fixed_exit(p, people.channel, people.tier)[:, None]
    linear += p.unmet_exit * any_before(life.unmet, UNMET_MONTHS)
    linear += p.breadth_exit * (life.breadth - 2.0)
    linear += p.mobile_exit * (life.adopted[:, None] < grid[None, :])
    linear += life.rival * (p.rival_exit + p.rival_vip_exit * life.vip)
    linear += p.vip_exit * life.vip
    if (p.effect_early, p.effect_late) != (1.0, 1.0):
        linear = linear * effect_factor(p, tenure_years)
    linear += _contact_effect(p, life)
    linear += p.satisfaction_exit * life.satisfaction
    linear += life.common + life.intends
    linear += (p.ease_exit * people.ease + np.log(people.frailty) + p.platform_exit * life.platforms)[:, None]
    edges = (np.arange(months + 1)[None, :] - people.acquired[:, None]) / 12
    baseline = np.diff(voluntary_cumulative(p, edges), axis=1)
    mass = np.empty((*life.exposed.shape, len(CAUSES)))
    mass[:, :, 0] = baseline * np.exp(linear)
    years = life.exposed / 12
    mass[:, :, 1] = p.bank_rate * years
    mass[:, :, 3] = p.dormant_rate * years
    mass[:, :, 4] = p.unknown_rate * years * _hidden_risk(p, linear)
    start_age = people.age[:, None] + np.maximum(grid[None, :] - people.acquired[:, None], 0.0) / 12
    mass[:, :, 2] = death_cumulative(p, start_age, years)
    life.linear, life.cumulative = linear, mass


def _hidden_risk(p: Any, linear: Array) -> Array | float:
    if p.unknown_follows_risk == 0:
        return 1.0
    return np.exp(np.minimum(p.unknown_follows_risk * linear, 5.0))


def _exits(s: Settings, life: Life, block: int) -> None:
    g, n = stream(s, "exit", block), len(life.people.acquired)
    budget, u = g.standard_exponential(n), g.random(n)
    total = life.cumulative.sum(axis=2)
    running = np.cumsum(total, axis=1)
    month = (running < budget[:, None]).sum(axis=1)
    leaves = month < life.months
    row, m = np.arange(n)[leaves], month[leaves]
    before = running[row, m] - total[row, m]
    share = (budget[row] - before) / total[row, m]
    left = np.full(n, NEVER)
    left[row] = m + 1 - life.exposed[row, m] * (1 - share)
    # a customer is gone from the next day on; who goes on the last day is seen to stay
    left[days(left) + 1 > last_day(life.months)] = NEVER
    by_cause = np.cumsum(life.cumulative[row, m], axis=1)
    cause = np.full(n, -1, dtype=np.int8)
    cause[row] = (by_cause < u[row, None] * by_cause[:, -1:]).sum(axis=1)
    life.left, life.cause = left, np.where(np.isfinite(left), cause, np.int8(-1))
