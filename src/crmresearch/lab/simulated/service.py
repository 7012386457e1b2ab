"""The tables of service: its events, the branches, and the quarterly pulse survey."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from crmresearch.lab.simulated.accounts import city_ids, customer_ids, days_within, present
from crmresearch.lab.simulated.branches import (
    QUARTER,
    SPREAD,
    USUAL,
    branch_ids,
    draw_branches,
    failing,
    lifts,
    minutes,
)
from crmresearch.lab.simulated.campaigns import wave_months
from crmresearch.lab.simulated.columns import Block, Codes, days, month_starts
from crmresearch.lab.simulated.life import Life
from crmresearch.lab.simulated.people import Array, stream
from crmresearch.lab.simulated.relations import ITEMS, OLDER, answer_moments, answered, loadings
from crmresearch.lab.simulated.settings import Settings
from crmresearch.lab.simulated.traits import VISITS, class_factor

SERVICE_KINDS = ("visit", "call", "advice", "complaint")
SERVICE_CHANNELS = ("branch", "phone", "online")
HANDLING = (16.0, 0.25)  # shape and scale of the minutes that handling takes whatever the steps


def service(s: Settings, life: Life, block: int) -> Block:
    """Build the table of service events: visits, calls, advice, and complaints."""
    p, g, who = s.parameters, stream(s, "visits", block), life.people
    share = np.minimum(life.exposed, np.clip(life.left[:, None] - np.arange(life.months)[None, :], 0.0, 1.0))
    count = g.poisson(p.visits_month * share * np.reshape(class_factor(s, block, VISITS), (-1, 1)))
    complaints = life.complaints & present(life)
    row, month = np.nonzero(count)
    repeat = count[row, month]
    c_row, c_month = np.nonzero(complaints)
    k, c = int(repeat.sum()), len(c_row)
    row, month = np.concatenate([np.repeat(row, repeat), c_row]), np.concatenate([np.repeat(month, repeat), c_month])
    complaint = np.arange(k + c) >= k
    kind = np.where(complaint, 3, g.choice(3, k + c, p=[0.6, 0.3, 0.1]))
    wait = USUAL + p.wait_service * who.service[row] + p.wait_vip * life.vip[row, month]
    wait = wait + SPREAD * g.standard_normal(k + c)
    expected = 2.5 * np.exp(p.steps_service * who.service[row])
    steps, handling = 1 + g.poisson(expected), {}
    if p.branches:
        of = draw_branches(s)
        wait = wait + of.waiting[life.home[row], month]
        handling = _handling(s, block, steps, expected, of.built[life.home[row], month])
        steps = handling.pop("steps")
    wait = np.exp(wait)
    channel = np.where(kind == 1, 1, np.where(g.random(k + c) < 0.75, 0, 2))
    day = days_within(life, row, month, g.random(k + c))
    resolved = np.where(complaint, ~life.unmet[row, month], -1)  # the question arises for complaints only
    order = np.lexsort((day, row))
    no_wait = (channel == 2) | complaint
    return {
        "customer_id": Codes(row[order], customer_ids(block)),
        "occurred_on": day[order],
        "kind": Codes(kind[order], SERVICE_KINDS),
        "channel": Codes(channel[order], SERVICE_CHANNELS),
        "wait_minutes": np.where(no_wait, np.nan, np.round(wait, 1))[order],
        "steps": np.where(complaint, -1, steps)[order],
        "resolved": resolved[order].astype(np.int8),
        **{name: np.where(no_wait, np.nan, np.round(value, 1))[order] for name, value in handling.items()},
    }


def _handling(s: Settings, block: int, steps: Array, expected: Array, built: Array) -> dict[str, Array]:
    """Take steps away where branches have converted; minutes of handling rise with steps, and with how hard a case is.

    A case is as hard as its steps are more than expected of the customer and the branch.
    """
    p, g = s.parameters, stream(s, "handling", block)
    kept = np.exp(p.convert_steps * built)
    steps = 1 + g.binomial(steps - 1, kept)
    hard = steps - 1 - expected * kept
    minutes = g.gamma(*HANDLING, len(steps)) + p.handling_step * steps + p.handling_case * hard
    return {"steps": steps, "handling_minutes": np.maximum(minutes, 0.1)}


def pulse(s: Settings, life: Life, block: int) -> Block:
    """Build the table of the pulse survey: every quarter some customers are asked two questions."""
    p, g = s.parameters, stream(s, "pulse", block)
    month = np.arange(1, life.months, QUARTER)
    shape = (len(life.left), len(month))
    asked = g.random(shape) < p.pulse_share
    answers = g.random(shape) < p.response
    there = (life.people.acquired[:, None] < month) & (life.left[:, None] > month + 1)
    rows = np.nonzero(asked & there)
    values = {}
    for name, construct in (("satisfaction", "SAT"), ("quality", "QUAL")):
        answer = answered(p.item_loading, life.by_month(construct)[:, month], g.standard_normal(shape))
        values[name] = np.where(answers, answer, np.nan)[rows]
    return {
        "customer_id": Codes(rows[0], customer_ids(block)),
        "asked_on": (month_starts(life.months)[month[rows[1]]] + 14).astype(np.int32),
        **values,
    }


def branches(s: Settings) -> Block:
    """Build the table of branches."""
    of, names = draw_branches(s), branch_ids(s)
    every = np.arange(len(names))
    return {
        "branch_id": Codes(every, names),
        "city_id": Codes(every // s.parameters.branches, city_ids(s)),
        "converted_on": days(of.converted),
        "help_from": days(of.helped),
    }


def effect_sums(s: Settings, life: Life, block: int, weight: Array) -> dict[str, float]:
    """Sums of satisfaction under full conversion and none, and a little more and less load; of failing without help."""
    of, who = draw_branches(s), life.people
    weight = weight * (life.exposed == 1)
    level = life.by_month("SAT") - life.lift["SAT"]
    mean, square = answer_moments(s.parameters.item_loading, level + life.lift["SAT"])
    out = {"n": weight.sum(), "answers": (weight * mean).sum(), "squares": (weight * square).sum()}
    one = np.ones_like(of.built)
    for name, (more, less) in {
        "conversion": (replace(of, built=one), replace(of, built=0 * one)),
        "load": (replace(of, load=of.load + 0.1), replace(of, load=of.load - 0.1)),
    }.items():
        lift = [lifts(b, who.service, life.vip, life.home)["SAT"] for b in (more, less)]
        answer = [answer_moments(s.parameters.item_loading, level + x)[0] for x in lift]
        wait = [minutes(b, who.service, life.vip, life.home) for b in (more, less)]
        for of_what, (a, b) in {"latent": lift, "answer": answer, "wait": wait}.items():
            out[f"{name}.{of_what}"] = (weight * (a - b)).sum()
    out |= _priority_sums(s, life, weight)
    born = who.acquired / 12 - who.age
    row, month = np.nonzero(weight * (np.floor(born) <= OLDER - 2021)[:, None])
    helpless = replace(s, changes={**s.changes, "help_failed": 0.0})
    chance = failing(helpless, block, born, life.home, row, month)
    out |= {"older": weight[row, month].sum(), "failed": (weight[row, month] * chance).sum()}
    return {f"service.{name}": float(value) for name, value in out.items()}


def _priority_sums(s: Settings, life: Life, weight: Array) -> dict[str, float]:
    """Sums of the answers of the survey, and of what priority adds to them just at the threshold."""
    p, of, waves = s.parameters, draw_branches(s), wave_months(life.months)
    weight = weight[:, waves]
    with_, without = (
        lifts(of, life.people.service, np.full(life.vip.shape, vip), life.home)["SAT"][:, waves]
        + vip * p.vip_satisfaction
        for vip in (True, False)
    )
    level = life.attitudes["SAT"]
    items = [answer_moments(loading, level) for loading in loadings(p)]
    mean = np.mean([m for m, _ in items], axis=0)
    own = np.mean([square - m**2 for m, square in items], axis=0)  # of an item, given the attitude
    near = weight * (np.abs(life.log_balance[:, [max(m - 1, 0) for m in waves]] - np.log(p.vip_threshold)) < 0.1)
    vip = life.vip[:, waves]
    more, less = (
        np.mean([answer_moments(k, level + at - np.where(vip, with_, without))[0] for k in loadings(p)], axis=0)
        for at in (with_, without)
    )
    return {
        "near": near.sum(), "jump": (near * (more - less)).sum(), "waves": weight.sum(),
        "items": (weight * mean).sum(), "item_means": (weight * mean**2).sum(), "item_own": (weight * own).sum(),
    }  # fmt: skip


def _jump(z: Mapping[str, float]) -> float:
    """What priority adds to the mean of four answers, in standard deviations of it."""
    mean, mean_square, own = (z[f"service.{k}"] / z["service.waves"] for k in ("items", "item_means", "item_own"))
    spread = np.sqrt(own / len(ITEMS["SAT"]) + mean_square - mean**2)
    return float(z["service.jump"] / z["service.near"] / spread) if z["service.near"] else float("nan")


def _spread(z: Mapping[str, float]) -> float:
    """Standard deviation of answers."""
    n = z["service.n"]
    return float(np.sqrt(z["service.squares"] / n - (z["service.answers"] / n) ** 2))


EFFECTS: dict[str, Callable[[Mapping[str, float]], float]] = {
    "conversion.satisfaction": lambda z: z["service.conversion.latent"] / z["service.n"],
    "conversion.satisfaction.observed": lambda z: z["service.conversion.answer"] / z["service.n"] / _spread(z),
    "conversion.wait": lambda z: z["service.conversion.wait"] / z["service.n"],
    "waiting.satisfaction.by_load": lambda z: 10 * z["service.load.latent"] / z["service.load.wait"],
    "waiting.satisfaction.by_load.observed": lambda z: (
        10 * z["service.load.answer"] / z["service.load.wait"] / _spread(z)
    ),
    "priority.satisfaction.observed": _jump,
    "failed.older.without_help": lambda z: z["service.failed"] / z["service.older"],
}  # functions of the sums above, over blocks
