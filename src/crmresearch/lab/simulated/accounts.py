"""The tables of accounts: customers, holdings, monthly results, transactions."""

from __future__ import annotations

from typing import Any

import numpy as np

from crmresearch.lab.simulated.branches import branch_ids, draw_branches, failing
from crmresearch.lab.simulated.columns import NO_DATE, Block, Codes, cents, days, month_starts
from crmresearch.lab.simulated.intentions import lookups
from crmresearch.lab.simulated.life import CAUSES, FAMILIES, Life
from crmresearch.lab.simulated.managers import managed_margin
from crmresearch.lab.simulated.people import CHANNELS, Array, stream
from crmresearch.lab.simulated.priority import since
from crmresearch.lab.simulated.settings import BLOCK, Settings
from crmresearch.lab.simulated.traits import PAYS, TYPES, class_factor, corporate, own_margin
from crmresearch.lab.simulated.wallet import elsewhere

YES_NO = ("no", "yes")
TX_CHANNELS = ("branch", "atm", "online", "phone", "mobile")
TX_SHARE = (0.22, 0.38, 0.33, 0.07)  # before mobile banking; afterwards it takes over half
TX_MOBILE = 0.55
OUTGOING = 0.6  # share of transactions that are payments
TO_BANKS = 0.4  # share of what does not go to platforms that goes to, or comes from, other banks
LEANING = 0.4  # change of a customer's platform share per standard deviation of leaning, as a share of it
DIRECTIONS, COUNTERPARTIES = ("in", "out"), ("own", "bank", "platform")
DORMANT_MONTHS = 12  # without activity before the bank closes an account as dormant


def customer_ids(block: int) -> list[str]:
    """Pseudonyms of the customers of one block."""
    return [f"C{i:08d}" for i in range(block * BLOCK + 1, (block + 1) * BLOCK + 1)]


def city_ids(s: Settings) -> list[str]:
    """Names of the cities."""
    return [f"city-{i + 1:03d}" for i in range(sum(s.parameters.cities.values()))]


def present(life: Life) -> Array:
    """Customer x month: whether the customer is there on at least part of a day."""
    return (life.exposed > 0) & (life.left[:, None] > np.arange(life.months)[None, :])


def day_range(life: Life) -> tuple[Array, Array]:
    """First day of each customer, and the day from which he or she is gone (NO_DATE if not within the window)."""
    left = days(life.left)
    return days(life.people.acquired), np.where(left == NO_DATE, NO_DATE, left + 1).astype(np.int32)


def _referrers(s: Settings, life: Life, block: int) -> Array:
    """Who recommended the bank to each referred customer; satisfied customers do so more often."""
    g, who = stream(s, "referrals", block), life.people
    order = np.argsort(who.acquired, kind="stable")
    weight = np.cumsum(np.exp(s.parameters.referral_satisfaction * life.attitudes["SAT"][:, 0])[order])
    earlier = np.searchsorted(who.acquired[order], who.acquired)  # how many were customers before
    referrer = np.full(len(order), -1)
    referred = np.flatnonzero((who.channel == CHANNELS.index("referral")) & (earlier > 0))
    for _ in range(50):  # a referrer must still be a customer; draw again where not
        pick = np.searchsorted(weight, g.random(len(referred)) * weight[earlier[referred] - 1], side="right")
        chosen = order[np.minimum(pick, earlier[referred] - 1)]
        good = life.left[chosen] > who.acquired[referred]
        referrer[referred[good]] = chosen[good]
        referred = referred[~good]
        if len(referred) == 0:
            break
    return referrer


def customers(s: Settings, life: Life, block: int) -> Block:
    """Build the table of customers."""
    who, ids = life.people, customer_ids(block)
    first, gone = day_range(life)
    start = month_starts(life.months)[0]
    birth = 2021 + np.floor(who.acquired / 12 - who.age).astype(np.int64)
    n = len(ids)
    g = stream(s, "consent", block)
    g.standard_normal(n)  # those of the marketing consent come first
    known: Block = {}
    if s.parameters.outside_median > 0:
        known["outside_estimate"] = cents(elsewhere(s, block)[1])
    if s.parameters.corporate_share > 0:
        known["customer_type"] = Codes(corporate(s, block).astype(np.int64), TYPES)
    return {
        "customer_id": Codes(np.arange(n), ids),
        "acquired_on": first,
        "observed_from": np.maximum(first, start),
        "left_on": gone,
        "exit_cause": Codes(life.cause.astype(np.int64), CAUSES),
        "acquisition_channel": Codes(who.channel, CHANNELS),
        "referrer_id": Codes(_referrers(s, life, block), ids),
        "city_id": Codes(who.city, city_ids(s)),
        "city_tier": who.tier,
        "birth_year": birth,
        "manager_id": Codes(
            np.where(life.managed, who.city, -1), [f"M{i + 1:03d}" for i in range(sum(s.parameters.cities.values()))]
        ),
        **known,
        "consent_analysis": Codes((g.random(n) < 0.98).astype(np.int64), YES_NO),
        "consent_marketing": Codes(life.consent.astype(np.int64), YES_NO),
        **({"branch_id": Codes(life.home, branch_ids(s))} if s.parameters.branches else {}),
        **({"priority_since": days(since(life.vip, life.left))} if s.parameters.survey_near else {}),
    }


def holdings(s: Settings, life: Life, block: int) -> Block:
    """Build the table of products held; products end when the customer leaves."""
    g = stream(s, "terms", block)
    shape = (len(life.opened), len(FAMILIES))  # ecommerce, which some worlds have beside these, has no terms
    draws = {
        "term": g.integers(0, 4, shape),
        "floating": g.random(shape),
        "guaranteed": g.random(shape),
        "yield": g.random(shape),
    }
    end = np.minimum(life.left, float(life.months))
    row, family = np.nonzero(life.opened < end[:, None])
    first, gone = day_range(life)
    opened, closed = days(life.opened[row, family]), days(life.closed[row, family])
    beyond = month_starts(life.months)[-1]
    closed = np.where((closed == NO_DATE) | (closed >= beyond), NO_DATE, closed)
    leaves = gone[row] != NO_DATE
    closed = np.where(leaves & ((closed == NO_DATE) | (closed > gone[row])), gone[row], closed)
    savings = np.isin(family, [FAMILIES.index("term_deposit"), FAMILIES.index("fund")])
    own = (row, np.minimum(family, len(FAMILIES) - 1))
    term = np.array([3, 6, 12, 24])[draws["term"][own]]
    return {
        "customer_id": Codes(row, customer_ids(block)),
        "product_family": Codes(family, (*FAMILIES, "ecommerce")[: life.opened.shape[1]]),
        "opened_on": np.maximum(opened, first[row]),
        "closed_on": closed.astype(np.int32),
        "term_months": np.where(savings, term, -1),
        "rate_type": Codes(np.where(savings, draws["floating"][own] < 0.3, -1), ("fixed", "floating")),
        "principal_guaranteed": np.where(savings, draws["guaranteed"][own] < 0.6, -1).astype(np.int8),
        "yield_annual": np.where(savings, np.round(0.02 + 0.025 * draws["yield"][own], 4), np.nan),
    }


def monthly(s: Settings, life: Life, block: int) -> Block:
    """Build the table of months: balance and the parts of contribution."""
    p, g, who = s.parameters, stream(s, "monthly", block), life.people
    n, months = life.exposed.shape
    cost_level = p.service_cost * np.exp(p.service_spread * g.standard_normal(n) - p.service_spread**2 / 2)
    noise = g.standard_normal((2, n, months), dtype=np.float32)
    loss_u = g.random((n, months), dtype=np.float32)
    loss_size = g.standard_exponential((n, months), dtype=np.float32)
    row, month = np.nonzero(present(life))
    at = (row, month)
    balance = np.exp(life.log_balance[at]) * life.rundown(p.rundown_depth, p.rundown_months)[at]
    tenure = np.maximum(month + 0.5 - who.acquired[row], 0.0) / 12
    referred = who.channel[row] == CHANNELS.index("referral")
    margin = p.margin / 12 * np.exp(p.margin_satisfaction * life.satisfaction[at])
    margin = margin * (1 + p.referral_margin * referred * np.exp(-tenure / p.referral_fade_years))
    margin = margin * (1 + p.rival_income * life.rival[at])
    if p.benefit_margin or p.class_distance or p.ability_margin or p.use_margin:
        margin = margin * np.exp(np.broadcast_to(own_margin(s, block) + managed_margin(s, life), (n, months))[at])
    fees = p.fee * life.breadth[at] * np.exp(0.5 * noise[0][at] - 0.125)
    if p.branches:
        fees = fees * np.exp(p.convert_fees * draw_branches(s).built[life.home[row], month])
    since = month + 0.5 - life.adopted[row]
    mobile = np.where(since < 0, 0.0, np.where(since < 12, p.mobile_cost_first, p.mobile_cost_later))
    service = cost_level[row] * np.exp(0.3 * noise[1][at] - 0.045) * (1 + mobile)
    loans = life.opened[:, FAMILIES.index("loan")][row] <= month
    loss = np.where(loans & (loss_u[at] < p.risk_rate / 12), p.risk_loss * loss_size[at], 0.0)
    if p.rare_loss > 0:
        rare = stream(s, "losses", block)
        hit, size = rare.random((n, months)) < p.rare_loss / 12, rare.standard_exponential((n, months))
        loss = loss + (hit * p.rare_loss_size * size)[at]
    return {
        "customer_id": Codes(row, customer_ids(block)),
        "month": month_starts(months)[month],
        "balance": cents(balance),
        "net_interest": cents(balance * margin),
        "fees": cents(fees),
        "service_cost": cents(service),
        "risk_cost": cents(loss),
        "allocated_cost": np.full(len(row), round(p.allocated_cost * 100), dtype=np.int64),
        **(lookups(s, block, life, row, month) if p.lookups_month > 0 else {}),
    }


def _activity(p: Any, life: Life) -> Array:
    """Share of each month in which a customer is active; accounts closed as dormant sleep before."""
    grid = np.arange(life.months)[None, :]
    share = np.minimum(life.exposed, np.clip(life.left[:, None] - grid, 0.0, 1.0))
    dormant = (life.cause == CAUSES.index("dormant"))[:, None] & (life.left[:, None] - grid < DORMANT_MONTHS)
    return np.where(dormant, 0.0, share * life.rundown(p.rundown_depth, p.rundown_months))


def days_within(life: Life, row: Array, month: Array, u: Array) -> Array:
    """Spread events evenly over the days of a month on which the customer is there."""
    starts = month_starts(life.months)
    first, gone = day_range(life)
    low = np.maximum(starts[month], first[row])
    high = np.where(gone[row] == NO_DATE, starts[month + 1], np.minimum(starts[month + 1], gone[row]))
    return (low + np.floor(u * (high - low))).astype(np.int32)


def _counterparties(s: Settings, life: Life, block: int, row: Array, month: Array) -> Block:
    """Tell where payments go; before a voluntary exit what runs down goes to other banks."""
    p, (leaves, pays, via, which) = s.parameters, stream(s, "counterparties", block).random((4, len(row)))
    leaving = leaves > life.rundown(p.rundown_depth, p.rundown_months)[row, month]
    out = leaving | (pays < OUTGOING)
    platform = out & ~leaving & (via < p.platform_share * (1 + LEANING * life.platforms[row]))
    bank = leaving | (which < TO_BANKS)
    return {
        "direction": Codes(out.astype(np.int64), DIRECTIONS),
        "counterparty": Codes(np.where(platform, 2, bank), COUNTERPARTIES),
    }


def transactions(s: Settings, life: Life, block: int) -> Block:
    """Build the table of transactions; the rate differs between customers (gamma)."""
    p, g, who = s.parameters, stream(s, "transactions", block), life.people
    rate = p.transactions_month * g.gamma(2.0, 0.5, len(who.value)) * class_factor(s, block, PAYS)
    count = g.poisson(rate[:, None] * _activity(p, life))
    row, month = np.nonzero(count)
    repeat = count[row, month]
    row, month = np.repeat(row, repeat), np.repeat(month, repeat)
    k = len(row)
    day = days_within(life, row, month, g.random(k, dtype=np.float32))
    order = np.argsort(row * np.int64(100_000) + (day - month_starts(life.months)[0]), kind="stable")
    row, month, day = row[order], month[order], day[order]
    amount = np.exp(3.9 + 0.25 * who.value[row] + g.standard_normal(k, dtype=np.float32))
    u = g.random(k, dtype=np.float32)
    mobile = (life.adopted[row] < month) & (u < TX_MOBILE)
    u = np.where(life.adopted[row] < month, (u - TX_MOBILE) / (1 - TX_MOBILE), u)
    channel = np.where(mobile, 4, np.searchsorted(np.cumsum(TX_SHARE)[:-1], u))
    fails = failing(s, block, who.acquired / 12 - who.age, life.home, row, month)
    known = _counterparties(s, life, block, row, month) if p.platform_share > 0 else {}
    return {
        "customer_id": Codes(row, customer_ids(block)),
        "occurred_on": day,
        "amount": np.maximum(cents(amount), 1),
        "channel": Codes(channel, TX_CHANNELS),
        "status": Codes((g.random(k, dtype=np.float32) < fails).astype(np.int64), ("completed", "failed")),
        **known,
    }
