"""Many lines at once: verdicts on banks that are nothing but estimates whose truth is known, by the ledger's rules.

What single estimators do on simulated banks says nothing of many lines read together. Here every line of the register
is an estimate with a normal error around a truth that is set, errors go together as those of one bank's customers do,
and gates stop some lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import ledger, words
from crmresearch.estimators.inference import Estimate, ends, z
from crmresearch.lab.recover.summary import binomial_interval
from crmresearch.ledger import Line
from crmresearch.result import Check, Result

say = words.of("recover.many")

ANY, FALSE = 0.075, 0.05  # chance of any decision with every line at its bound; mean share of false ones in mixtures
CLEAR = 3.0  # errors by which a truth lies beyond its bound or short of it
RIGHT = {CLEAR: "supported", -CLEAR: "refuted"}
MIXTURES = {"none": 0.0, "few": 0.25, "most": 0.67}  # share of lines whose truth is clear; the others lie at the bound
# how errors go together: correlation of those that do, and the share of lines that a closed gate stops
BANKS = {"claims": (0.0, 0.0), "themes": (0.4, 0.2), "all": (0.6, 0.0)}


def judged() -> list[Line]:
    """Lines of the register that get a verdict."""
    return [x for x in ledger.lines().values() if x.bound is not None and x.design != "check" and x.kind != "X"]


def estimate(line: Line, errors: float, checks: tuple[Check, ...] = ()) -> Estimate:
    """Make an estimate that lies so many standard errors beyond the line's bound on the claimed side."""
    assert line.bound is not None
    at, ratio = line.bound.at, line.bound.none == 1
    se = 0.1 if ratio else abs(at - line.bound.none) / 30 or 1.0  # the mirror of a two-sided bound is far away
    value = (math.log(at) if ratio else at) + (-errors if line.bound.side == "below" else errors) * se
    found = (value, *ends(value, se))
    value, low, high = (math.exp(v) for v in found) if ratio else found
    return Estimate(value, low, high, line.unit, 1000, se=se, checks=checks)


def _errors(lines: list[Line], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Errors of one bank: what moves a theme, or all, moves a line in either direction; a claim's lines share half."""
    group = {"claims": [x.claim_id for x in lines], "themes": [x.theme for x in lines], "all": [""] * len(lines)}[kind]
    common, claim = ({k: rng.standard_normal() for k in dict.fromkeys(g)} for g in (group, [x.claim_id for x in lines]))
    shared = np.array([common[g] for g in group]) * rng.choice((-1.0, 1.0), len(lines))
    own = np.array([math.sqrt(0.5) * (claim[x.claim_id] + rng.standard_normal()) for x in lines])
    rho = BANKS[kind][0]
    return np.asarray(math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)


def banks(runs: int, seed: int, clear: float, kind: str) -> Iterator[dict[str, bool]]:
    """Draw banks; of each, the lines that were decided, and whether wrongly: at the bound any decision is wrong."""
    lines, rng, closed = judged(), np.random.default_rng(seed), (Check("", "closed", ""),)
    for _ in range(runs):
        truth = rng.choice((0.0, CLEAR, -CLEAR), len(lines), p=(1 - clear, clear / 2, clear / 2))
        errors, shut = truth + _errors(lines, kind, rng), rng.random(len(lines)) < BANKS[kind][1]
        each = zip(lines, errors, shut, strict=True)
        found = {x.line_id: estimate(x, float(e), closed if s else ()) for x, e, s in each}
        _, q = ledger.adjusted(found)
        told = {x.line_id: ledger.verdict(x, found[x.line_id], q[x.line_id]) for x in lines}
        right = {x.line_id: RIGHT.get(t) for x, t in zip(lines, truth, strict=True)}
        yield {k: v != right[k] for k, v in told.items() if v in RIGHT.values()}


def many_lines(*, runs: int = 1000, seed: int = 2026) -> Result:
    """How often verdicts are wrong when all lines of the register are read together.

    Parameters
    ----------
    runs, seed : int
        Banks drawn for each row, and the seed of the first.

    Returns
    -------
    Result
        Chance of any decision with every line at its bound, and mean share of false decisions where the truth of some
        lines is clear, by how errors go together. ``ci_high`` is the one-sided 95% bound, held against ``level``.
    """
    rows: list[dict[str, Any]] = []
    for mixture, clear in MIXTURES.items():
        for kind in BANKS:
            drawn = list(banks(runs, seed + len(rows), clear, kind))
            share = np.array([np.mean(list(b.values())) if b else 0.0 for b in drawn])
            reach = z(0.90) * share.std(ddof=1) / math.sqrt(runs)
            found, level = (share.mean(), share.mean() - reach, share.mean() + reach), FALSE
            if not clear:
                hits = sum(bool(b) for b in drawn)
                found, level = (hits / runs, *binomial_interval(hits, runs, 0.90)), ANY
            numbers = dict(zip(("estimate", "ci_low", "ci_high"), map(float, found), strict=True))
            names = {"rule": say.names("rules")[mixture], "group": say.names("banks")[kind]}
            rows.append(names | numbers | {"level": level, "seeds": runs})
    table = pd.DataFrame(rows)
    held = int((table["ci_high"] <= table["level"]).sum())
    return Result(table, say("sentence", held=held, rows=len(table), lines=len(judged()), seeds=runs), counts=())
