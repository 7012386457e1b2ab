"""What is planted for each line of the register: ``python -m crmresearch.lab.recover.lines [WORLD ...]``.

The world's estimand where there is one (a parameter, a closed form, a large draw), the limit of the estimator beside it
where that differs or is all there is, and the Monte-Carlo error of whichever a verdict is held against. It is stored in
``lines.yaml`` beside the simulated bank, whose description carries it: a run does not know the laboratory.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crmresearch import ledger
from crmresearch.lab import simulated
from crmresearch.lab.recover import competition, preference, service
from crmresearch.lab.recover.summary import stored_limits
from crmresearch.lab.simulated import accounts, policies
from crmresearch.lab.simulated.campaigns import COSTS, DOSES, campaign_months, wave_months
from crmresearch.lab.simulated.draws import FOLLOW
from crmresearch.lab.simulated.estimands import model_fingerprint
from crmresearch.lab.simulated.life import Life, any_before, contacted, draw_life, with_arm
from crmresearch.lab.simulated.relations import other_banks, response_logit
from crmresearch.lab.simulated.settings import BLOCK, REFERENCE, Settings

BLOCKS = 240
WORLDS = ("baseline", REFERENCE)
SEED = 20210101  # none of the seeds that estimators are tried on
COMMAND = "python -m crmresearch.lab.recover.lines"
OFFERS = "offers: "  # before the name of a sum over those who were made one
PLANTED = {  # the world's estimand, by line
    "S04": "win.second_derivative",
    "S10a": "path.SAT_LOY",
    "S10b": "path.QUAL_SAT",
    "S10c": "path.QUAL_LOY.indirect",
    "S10d": "path.QUAL_LOY.total",
    "S14": "cox.mobile.log_hr",
    "S16": "concern.growth",
    "S16b": "path.CONC_SAT_LOY.interaction",
    "S19": "top20.contribution",
    "S19a": "top1.contribution",
    "S19b": "top10.contribution",
    "S19c": "gini.contribution",
    "S37": "negative_share.contribution",
    "S38": "manager.use.contribution",
    "S39": "waiting.exit.ten_minutes_less.log_hr",
    "S40": "cost_ratio.primary",
    "S40d": "cost_ratio.won_only",
    "S44": "referral.satisfaction.log_rate",
    "S44a": "cox.referral.log_hr",
    "S47": "entry.intensity.log_hazard",
    "S51": "waiting.satisfaction.by_load.observed",
    "S52": "priority.satisfaction.observed",
    "S53": "campaign.invite.retention_12m",
    "S55": "handling.step",
    "S56": "cox.families.log_hr",
}
LOGS = ("log_hr", "log_rate")  # of estimands that lines show as ratios
# By line: the world's estimand of offers, for which the stored limits are drawn too coarsely.
OFFERED = {
    "S05": "offer.families",
    "S18": "campaign.personal.retention_12m",
    "S23": "offer.balance.per_guess",
    "S25": "policy.gain",
    "S57": "policy.top_band.gain",
}


def _contacts(s: Settings, block: int, life: Life) -> dict[str, float]:
    """Sums over those a campaign by lot reached: exits and contribution in the year after, offered less control."""
    out = {}
    for campaign, costs in _costs(s).items():
        at, offers = campaign_months(s.months)[campaign], len(costs)
        worlds = [with_arm(s, life, block, campaign, arm) for arm in range(offers + 1)]
        there = contacted(life, campaign) & (life.left > at)
        money, gone = [], []
        for forced in worlds:
            table = accounts.monthly(s, forced, block)
            row, made = table["customer_id"].codes, _contribution(table)
            month = np.searchsorted(np.unique(table["month"]), table["month"])
            year = (month >= at) & (month < at + FOLLOW)
            money.append(np.bincount(row[year], made[year], BLOCK)[there].sum())
            causes = forced.cumulative[there, at : at + FOLLOW]
            mass = causes.sum(axis=2)
            here = np.exp(mass - np.cumsum(mass, axis=1))  # at the start of each month
            exits = (here * -np.expm1(-mass))[..., None] * causes / mass[..., None]
            gone.append(exits.sum(axis=(0, 1)))
        out[f"{campaign}.n"] = float(there.sum())
        out[f"{campaign}.money"] = float(np.mean(money[1:]) - money[0])
        fewer = np.mean(gone[1:], axis=0) - gone[0]
        out[f"{campaign}.gone"], out[f"{campaign}.voluntary"] = float(fewer.sum()), float(fewer[0])
        out[f"{campaign}.cost"] = float(np.mean(costs) * there.sum())
    return out


def _costs(s: Settings) -> dict[str, list[float]]:
    """What each offer costs, by campaign of retention that is drawn by lot."""
    p = s.parameters
    out = {"trial": [p.contact_cost], "dose": [p.dose_costs[d] for d in DOSES[1:]]}
    lots = {"personal": p.personal_lot, "invite": p.invite_lot}
    return out | {c: [p.contact_cost * k for k in COSTS[c][1:]] for c, lot in lots.items() if lot > 0}


def _contribution(table: dict[str, Any]) -> np.ndarray:
    made = table["net_interest"] + table["fees"] - table["service_cost"] - table["risk_cost"]
    return np.asarray(made / 100)


def _banks(s: Settings, life: Life) -> dict[str, float]:
    """Expected change of the number of banks used per year, of those who answer two waves in a row."""
    p, waves = s.parameters, wave_months(s.months)
    trouble = any_before(life.complaints, 6)
    answer, used, there = [], [], []
    for w, month in enumerate(waves):
        sat = life.attitudes["SAT"][:, w]
        age = life.people.age + (month - life.people.acquired) / 12
        logit = response_logit(p, trouble[:, month], life.vip[:, month], age, sat)
        answer.append(1 / (1 + np.exp(-logit)))
        used.append(other_banks(p, sat, month))
        there.append((life.people.acquired < month) & (life.left > month + 1))
    total = moved = 0.0
    for w in range(len(waves) - 1):
        weight = answer[w] * answer[w + 1] * (there[w] & there[w + 1])
        moved += float((weight * (used[w + 1] - used[w])).sum()) / ((waves[w + 1] - waves[w]) / 12)
        total += float(weight.sum())
    return {"pairs": total, "moved": moved}


def _sums(world: str, block: int) -> dict[str, float]:
    s = Settings(seed=SEED, world=world)
    life, offered = draw_life(s, block), dict[str, float]()
    policies.offer_sums(s, block, offered)
    policies.lot_sums(s, life, block, offered)
    return _contacts(s, block, life) | _banks(s, life) | {OFFERS + k: v for k, v in offered.items()}


def _offered(world: str) -> dict[str, Callable[[dict[str, float]], float]]:
    """Estimands of offers that a world has, as functions of sums."""
    known = policies.offer_estimands(Settings(world=world))

    def of(name: str) -> Callable[[dict[str, float]], float]:
        return lambda z: known[name]({k.removeprefix(OFFERS): v for k, v in z.items() if k.startswith(OFFERS)})

    return {line: of(name) for line, name in OFFERED.items() if name in known}


def drawn(world: str, sums: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Truths of lines that no parameter holds, with their jackknife errors over blocks."""
    every = [name.removesuffix(".money") for name in sums[0] if name.endswith(".money")]

    def per_head(z: dict[str, float], what: str) -> float:
        return sum(z[f"{c}.{what}"] for c in every) / sum(z[f"{c}.n"] for c in every)

    truths: dict[str, Callable[[dict[str, float]], float]] = {
        "S02": lambda z: per_head(z, "money") - per_head(z, "cost"),
        "S02a": lambda z: per_head(z, "money"),
        "S42": lambda z: per_head(z, "gone"),
        "S42a": lambda z: per_head(z, "voluntary"),
        "S48": lambda z: z["moved"] / z["pairs"],
    } | _offered(world)
    whole = {k: sum(z[k] for z in sums) for k in sums[0]}
    out = {}
    for line, of in truths.items():
        left_out = np.array([of({k: whole[k] - z[k] for k in whole}) for z in sums])
        n = len(left_out)
        error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
        out[line] = {"world": round(of(whole), 9), "error": round(error, 9)}  # a gain of nothing is 0, not 1e-13
    return out


def limits(world: str) -> dict[str, list[float]]:
    """Return the stored limits of estimators in a world with their errors, of quantities that are lines."""
    every = ledger.lines()
    stored = (by_world.get(world, {}) for by_world in stored_limits()["limits"].values())
    return {line: limit for own in stored for line, limit in own.items() if line in every}


def known(world: str) -> dict[str, dict[str, float]]:
    """Truths of lines from a world's parameters and limits, and the limits of estimators beside them."""
    facts = simulated.truth(Settings(world=world))
    found: dict[str, dict[str, float]] = {}
    beside = limits(world)
    for line in {*PLANTED, *beside}:
        one: dict[str, float] = {}
        if (name := PLANTED.get(line, "")) in facts["estimands"]:
            value, error = facts["estimands"][name], facts["error"].get(name, 0.0)
            one = {"world": math.exp(value) if name.endswith(LOGS) else value, "error": error}
        if line in beside:
            one["limit"], error = beside[line]
            if not name:
                one["error"] = error
        found |= {line: one} if one else {}
    for line in ("S43", "S43a"):  # of one class, as these worlds are: it adds nothing and nothing agrees for its sake
        found[line] = {"world": 0.0, "error": 0.0} | found.get(line, {})
    both = competition.planted(facts) | service.planted(facts)
    found |= {line: {"world": value, "error": 0.0} for line, value in both.items()}
    return found | {
        line: {"world": value, "error": error} for line, (value, error) in preference.planted(facts).items()
    }


def main(names: list[str], jobs: int = 2) -> None:
    """Compute the truths of the worlds named (all of ``WORLDS`` if empty) and write the file."""
    worlds = dict(simulated.estimands.stored_lines().get("worlds", {}))
    for world in names or WORLDS:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            sums = list(pool.map(_sums, repeat(world), range(BLOCKS), chunksize=4))
        lines = known(world) | drawn(world, sums)
        worlds[world] = {k: {name: float(f"{v:.6g}") for name, v in lines[k].items()} for k in sorted(lines)}
    content = {"command": COMMAND, "months": Settings.months, "model": model_fingerprint(), "worlds": worlds}
    path = Path(simulated.__file__).with_name("lines.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=110), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
