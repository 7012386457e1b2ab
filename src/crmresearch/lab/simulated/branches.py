"""Branches of the simulated bank: conversion to service around the customer, load, and what both do to customers.

Drawn once per bank, and always all of it, so that a bank without an effect has the same random numbers. What a branch
does acts on its customers at once, and through satisfaction on exits; it does not feed back from wave to wave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from crmresearch.lab.simulated.markets import city_tiers
from crmresearch.lab.simulated.people import Array, city_weights, stream
from crmresearch.lab.simulated.settings import Settings

QUARTER = 3
COHORTS = 10  # quarters over which branches convert
NEVER = 0.15  # share of branches that never do
BUILDING = 4  # quarters until a conversion has its full effect
PERSISTENCE = 0.5  # of a branch's load, from quarter to quarter
USUAL = 2.6  # log minutes of waiting
SPREAD = 0.4  # ... and their standard deviation from visit to visit
PATIENCE = 5.0  # minutes of waiting that nobody minds


@dataclass(frozen=True)
class Branches:
    """Branches of one bank; months from the observation start, matrices are branch x month."""

    parameters: Any
    converted: Array  # infinite where never within the window
    helped: Array  # ... digital help begins; it has nothing to do with conversion
    strength: Array  # standing quality, standardised
    built: Array  # share of a conversion's effect that is there
    load: Array  # standardised

    @property
    def waiting(self) -> Array:
        """Log waiting, beyond the usual."""
        return np.asarray(self.parameters.load_shock * self.load + self.parameters.convert_wait * self.built)

    @property
    def quality(self) -> Array:
        """Perceived quality, in standard deviations, beyond the usual."""
        p, years = self.parameters, (np.arange(self.load.shape[1]) - self.load.shape[1] / 2) / 12
        standing = (p.branch_quality + p.branch_drift * years) * self.strength[:, None]
        return np.asarray(standing + p.convert_quality * self.built + p.load_quality * self.load)


def draw_branches(s: Settings) -> Branches:
    """Draw the branches of a bank."""
    p, n = s.parameters, s.parameters.branches * len(city_tiers(s))
    g, quarter = stream(s, "branches", 0), np.arange(s.months) // QUARTER
    strength, other = g.standard_normal((2, n))
    load = g.standard_normal((n, quarter[-1] + 1))
    for q in range(1, quarter[-1] + 1):
        load[:, q] = PERSISTENCE * load[:, q - 1] + np.sqrt(1 - PERSISTENCE**2) * load[:, q]
    converted = roll_out(s, np.sqrt(1 - p.convert_follows**2) * other - p.convert_follows * strength)
    since = quarter - converted[:, None] / QUARTER
    built = np.clip((since + 1) / BUILDING, 0.0, 1.0)
    return Branches(p, converted, roll_out(s, g.standard_normal(n)), strength, built, load[:, quarter])


def roll_out(s: Settings, order: Array) -> Array:
    """Month in which each branch's turn comes, in ten quarters after the first fifth of the window; the last never."""
    turn = order.argsort().argsort() / max(len(order) * (1 - NEVER), 1)
    month = QUARTER * (max(s.months // (5 * QUARTER), 1) + np.floor(turn * COHORTS))
    return np.where((turn < 1) & (month < s.months), month, np.inf)


def branch_ids(s: Settings) -> list[str]:
    """Names of the branches, by city."""
    return [f"branch-{i + 1:03d}" for i in range(s.parameters.branches * sum(s.parameters.cities.values()))]


def homes(s: Settings, city: Array, block: int) -> Array:
    """Branch of each customer, one of the city's."""
    of_city = max(s.parameters.branches, 1)
    return np.asarray(city * of_city + stream(s, "homes", block).integers(0, of_city, len(city)))


def minutes(of: Branches, service: Array, vip: Array, home: Array) -> Array:
    """Expected waiting of each customer and month, by the efficiency of the service a customer meets."""
    p = of.parameters
    own = USUAL + SPREAD**2 / 2 + p.wait_service * service
    return np.asarray(np.exp(own[:, None] + p.wait_vip * vip + of.waiting[home]))


def lifts(of: Branches, service: Array, vip: Array, home: Array) -> dict[str, Array]:
    """What the branch adds to attitudes, customer x month: waiting acts on satisfaction alone, all else on quality."""
    p = of.parameters
    b, quality = p.paths, of.quality[home]
    value = b["QUAL_VAL"] * quality
    usual = np.exp(USUAL + SPREAD**2 / 2) - PATIENCE
    late = (np.maximum(minutes(of, service, vip, home) - PATIENCE, 0.0) - usual) / 10
    satisfaction = b["QUAL_SAT"] * quality + b["VAL_SAT"] * value + p.wait_satisfaction * late
    return {"QUAL": quality, "VAL": value, "SAT": satisfaction}


def failing(s: Settings, block: int, born: Array, home: Array, row: Array, month: Array) -> Array | float:
    """Chance that a transaction fails: rises with age, falls with digital skill and where the branch helps.

    Births are in years from the observation start.
    """
    p = s.parameters
    if not (p.failed_age or p.failed_skill or p.help_failed):
        return float(p.failed_share)
    skill = stream(s, "skills", block).standard_normal(len(home))
    log = p.failed_age * (month / 12 - born[row] - 50) / 10 - (p.failed_skill * skill + p.failed_skill**2 / 2)[row]
    if p.branches:
        log = log + p.help_failed * (draw_branches(s).helped[home[row]] <= month)
    return np.asarray(np.minimum(p.failed_share * np.exp(log), 1.0))


def mean_lift(s: Settings) -> Array:
    """Mean lift of satisfaction by month, of customers without priority."""
    of, total = draw_branches(s), np.zeros(s.months)
    weight = np.repeat(city_weights(city_tiers(s)), s.parameters.branches)
    node, share = np.polynomial.hermite_e.hermegauss(15)
    every = np.arange(len(weight))
    for service, part in zip(node, share / share.sum(), strict=True):
        lift = lifts(of, np.full(len(weight), service), np.zeros(of.load.shape), every)["SAT"]
        total += part * weight @ lift / weight.sum()
    return total
