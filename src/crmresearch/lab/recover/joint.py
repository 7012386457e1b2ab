"""Size and power of the joint test over specifications: ``python -m crmresearch.lab.recover.joint SEEDS [CLAIM ...]``.

What the studies read of a small bank (2,000 customers, 600 respondents a wave) is drawn as frames, where drawing and
counting whole banks would take hours. Every specification of a claim is held against its own truth (how often does the
test see what is not there?), and against bounds that its truth lies beyond by a gap. Truth is planted where nothing has
an effect (S06, S42); else it is what the specification tends to, computed from frames of 100 times as many customers
(S10), or of 3,000 times as many where costs are skewed (S40). Puts the rows of the claims named (all if none) into
``outputs/reference/joint.csv``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import ledger, parameters
from crmresearch.errors import CrmError
from crmresearch.estimators.blocks import SETS, Functional
from crmresearch.estimators.joint import joint_test
from crmresearch.estimators.verdicts import ALPHA
from crmresearch.lab.recover.summary import binomial_interval
from crmresearch.studies.declared import choices

SEEDS, CHUNK, POWER, DRAWS = 1000, 50, 200, 499  # power is tried on the first of them
SIZE, TIMES, FIRST = 2_000, 10, 900_001  # customers of a trial; trials' worth in a frame behind a truth; its first seed
LEVEL = 0.99  # of the binomial intervals
MONTHS = 60
Draw = Callable[[np.random.Generator, int], Any]


def contacts(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Two campaigns that do nothing, for the same customers; a third of the exits have other causes than their own."""
    who = np.tile(np.arange(size), 2)
    month = rng.geometric(0.006, len(who))
    cause = np.where(rng.random(len(who)) < 2 / 3, "voluntary", "unknown")
    left = month <= 12
    columns = {"campaign_id": np.repeat(["a", "b"], size), "arm": rng.choice(["control", "offer"], len(who))}
    columns |= {"block": who % SETS, "exit": np.minimum(month, 12), "event": left.astype(int)}
    return pd.DataFrame(columns | {"cause": pd.Series(cause, dtype=object).mask(pd.Series(~left), None), "n": 1})


def person_months(rng: np.random.Generator, size: int) -> dict[int, pd.DataFrame]:
    """Customers whose exits have nothing to do with the products they hold and the requests they have open."""
    families = np.minimum(1 + rng.poisson(0.5, size)[:, None] + (rng.random((size, MONTHS)) < 0.02).cumsum(axis=1), 6)
    trouble = (rng.random((size, MONTHS)) < 0.03).cumsum(axis=1)
    unmet = trouble > np.pad(trouble, ((0, 0), (6, 0)))[:, :MONTHS]
    last = np.minimum(rng.geometric(rng.gamma(2, 0.003, size).clip(0, 1)), rng.integers(12, 4 * MONTHS, size))
    gone, other = (last <= MONTHS) & (rng.random(size) < 0.8), rng.random(size) < 0.25
    who, month = np.nonzero(np.arange(1, MONTHS + 1) <= last[:, None])
    out = {}
    for lag in choices()["S06"].options["lag"]:
        some = month >= lag
        i, m = who[some], month[some]
        left = gone[i] & (m + 1 == last[i])
        keys = (m, families[i, m - lag], unmet[i, m - lag].astype(int), i % SETS)
        shape = (MONTHS, 7, 2, SETS)
        cell = np.ravel_multi_index(keys, shape)
        counts = [np.bincount(cell[of], minlength=np.prod(shape)) for of in (left >= 0, left, left & ~other[i])]
        there = np.flatnonzero(counts[0])
        at = dict(zip(("tenure", "families", "unmet", "block"), np.unravel_index(there, shape), strict=True))
        named = dict(zip(("at_risk", "events", "events voluntary"), (c[there] for c in counts), strict=True))
        out[lag] = pd.DataFrame(at | named | {"events unknown": named["events"] - named["events voluntary"]})
        out[lag]["tenure"] += 1
    return out


def survey(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Three waves of a panel, each answered by a part: quality acts on satisfaction, and that on loyalty."""
    who, wave = (v.ravel() for v in np.meshgrid(np.arange(size // 2), [1, 2, 3], indexing="ij"))
    lasting = rng.standard_normal((3, size // 2))[:, who]
    own, noise = rng.standard_normal((3, len(who))), rng.standard_normal((len(who), 9))
    drawn = np.sqrt(0.5) * (lasting + own)
    quality = drawn[0]
    satisfied = 0.5 * quality + np.sqrt(0.75) * drawn[1]
    loyal = 0.5 * satisfied + np.sqrt(0.75) * drawn[2]
    names = [f"{c}_{k}" for c in ("quality", "satisfaction", "loyalty") for k in (1, 2, 3)]
    answers = np.clip(np.round(5.5 + 1.5 * np.repeat([quality, satisfied, loyal], 3, axis=0).T + noise), 1, 10)
    frame = pd.DataFrame(answers, columns=names).assign(customer_id=who, wave=wave)
    return frame[rng.random(len(who)) < 0.6].sort_values(["wave", "customer_id"], ignore_index=True)


def prospects(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Prospects with skewed spend, who are won more easily by more of it."""
    spend = 80 * np.exp(0.5 * rng.standard_normal(size))
    chance = 1 / (1 + np.exp(1.8 - 0.01 * spend))
    won = (rng.random(size) < chance).astype(int)
    return pd.DataFrame(
        {"block": rng.integers(0, 1000, size), "channel": "all", "spend": spend, "won": won, "spend_randomised": True}
    )


def acquisition(frame: pd.DataFrame) -> pd.DataFrame:
    """Spend on these prospects, and on the won among them."""
    return frame.assign(n=1, spend_won=frame["spend"] * frame["won"]).drop(columns="spend_randomised")


def upkeep(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """Customer-months with skewed costs of keeping; some customers cost far more than others."""
    last = np.minimum(rng.geometric(0.01, size), rng.integers(12, 2 * MONTHS, size))
    gone = rng.random(size) < 0.5
    who, month = np.nonzero(np.arange(2 * MONTHS) < last[:, None])
    cost = 4 * rng.gamma(0.5, 2, size)[who] * (rng.random(len(who)) < 0.3) * np.exp(rng.standard_normal(len(who)))
    rows = {"block": rng.integers(0, 1000, size)[who], "tenure_month": month, "months": 1.0, "years": 1 / 12}
    return pd.DataFrame(rows | {"exits": 1.0 * (gone[who] & (month + 1 == last[who])), "retention_cost": cost})


def campaigns(rng: np.random.Generator, size: int) -> pd.DataFrame:
    """One campaign by lot, whose offers keep some customers and cost money."""
    treated = rng.integers(0, 2, size)
    months = rng.exponential(np.where(treated == 1, 120.0, 60.0))
    rows = {"block": rng.integers(0, 1000, size), "campaign_id": "a", "arm": np.where(treated == 1, "offer", "control")}
    rows |= {"treated": treated, "randomised": True, "cost": treated * rng.exponential(10, size)}
    return pd.DataFrame(rows | {"left": (months < 24).astype(int), "months": np.minimum(months, 24)})


class Drawn:
    """Frames that are drawn, as :class:`crmresearch.studies.Frames`, each once."""

    def __init__(self, seed: int, size: int) -> None:
        self.about = SimpleNamespace(constructs=None, paths=None)
        self.seed, self.size, self.made = seed, size, dict[str, Any]()

    def __call__(self, name: str, **how: Any) -> Any:
        """Return the frame that stands for a reduction."""
        if name == "churn.groups_of":
            return ()
        if name == "cost.acquisition":
            return acquisition(self("cost.prospects"))
        if name not in self.made:
            draws: dict[str, Draw] = {
                "churn.arms": contacts, "churn.person_months_by_lag": person_months, "loyalty.survey": survey,
                "cost.prospects": prospects, "cost.upkeep": upkeep, "cost.campaigns": campaigns,
            }  # fmt: skip
            rng = np.random.default_rng([self.seed, list(draws).index(name)])
            self.made[name] = draws[name](rng, self.size)
        return self.made[name]


@dataclass(frozen=True)
class Trial:
    """A claim's specifications on drawn frames.

    Parameters
    ----------
    line : str
    gaps : tuple of float
        How far truth lies beyond the bound: a share of the truth for ratios, a difference else.
    truth : float, optional
        Of every specification; by default each has that of large frames.
    only : mapping
        Choices that are held: those a drawn frame has no columns for, and some where all would take too long.
    frames : int
        Large frames behind a truth that is not given.
    """

    line: str
    gaps: tuple[float, ...]
    truth: float | None = None
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    frames: int = 10


INDEX = {"strata": ("none",), "exits": ("voluntary", "every"), "weights": ("equal",)}
TRIALS = (
    Trial("S06", (0.0, 0.05, 0.1), 1.0, INDEX),
    Trial("S10c", (0.0, 0.02, 0.04, 0.08), None, {"scheme": ("centroid",)}),
    Trial("S40", (0.0, 0.05, 0.1, 0.15), None, {"several": (2.0,)}, 300),
    Trial("S42", (0.0, 0.01, 0.02, 0.03), 0.0),
)


def specifications(trial: Trial) -> Iterator[dict[str, Any]]:
    """Settings that the registered bound is for."""
    of, bound = choices()[trial.line], ledger.lines()[trial.line].bound
    options = dict(of.options) | dict(trial.only)
    for chosen in itertools.product(*options.values()):
        setting = dict(zip(options, chosen, strict=True))
        if bound is not None and of.bound(bound, setting) is not None:
            yield setting


def above(trial: Trial, frames: Any) -> Any:
    """Return the study's function from a setting and a number to how far the estimand lies above it."""
    of, notebook = choices()[trial.line], ledger.lines()[trial.line].notebook
    assert of.above is not None
    return of.above(frames, {n: p.default for n, p in parameters.read(parameters.find(notebook)).items()})


def truths(trial: Trial) -> list[float]:
    """Truth of each specification: the number that it is neither above nor below on large frames."""
    settings = list(specifications(trial))
    if trial.truth is not None:
        return [trial.truth] * len(settings)
    sums = np.zeros((len(settings), 2))
    for seed in range(FIRST, FIRST + trial.frames):
        far = above(trial, Drawn(seed, SIZE * TIMES))
        sums += [(far(s, 0.0).value, far(s, 0.0).value - far(s, 1.0).value) for s in settings]
    return [float(top / bottom) for top, bottom in sums]


def held(trial: Trial, truth: list[float], gap: float) -> list[float]:
    """Bounds of the specifications, each so far short of its truth."""
    bound = ledger.lines()[trial.line].bound
    assert bound is not None
    by = gap if bound.side == "below" else -gap
    return [t * (1 + by) if bound.none == 1 else t + by for t in truth]


def work(at: int, first: int, truth: list[float]) -> list[dict[str, Any]]:
    """Try one claim on a chunk of seeds."""
    trial, rows = TRIALS[at], []
    line, settings = ledger.lines()[trial.line], list(specifications(trial))
    sign = -1.0 if line.bound is not None and line.bound.side == "below" else 1.0
    for seed in range(first, first + CHUNK):
        far = above(trial, Drawn(seed, SIZE))
        for gap in trial.gaps if seed <= POWER else trial.gaps[:1]:
            row = {"claim": line.claim_id, "gap": gap, "seed": seed, "failed": 1}
            found = [far(s, b) for s, b in zip(settings, held(trial, truth, gap), strict=True)]
            try:
                test = joint_test([sign * f for f in found if isinstance(f, Functional)], seed=seed, draws=DRAWS)
                row |= {"failed": 0, "specifications": len(test.t)}
                row |= {"median": test.median_p <= ALPHA, "share": test.share_p <= ALPHA}
            except CrmError:
                pass
            rows.append(row)
    return rows


def summed(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum the seeds up: how often each test rejects, with 99% intervals."""
    out = []
    for (claim, gap), part in rows.groupby(["claim", "gap"], sort=True):
        ran = part[part["failed"] == 0]
        row = {"claim": claim, "gap": gap, "customers": SIZE, "seeds": len(part), "failed": len(part) - len(ran)}
        row["specifications"] = ran["specifications"].min()
        for test in ("median", "share"):
            hits = int(ran[test].astype(bool).sum())
            low, high = binomial_interval(hits, len(ran), LEVEL)
            row |= {test: hits / max(len(ran), 1), f"{test}_low": low, f"{test}_high": high}
        out.append(row)
    return pd.DataFrame(out)


def main(
    seeds: int = SEEDS, claims: Sequence[str] = (), out: Path = Path("outputs/reference/joint.csv"), jobs: int = 2
) -> None:
    """Run trials; write the table after every chunk, so that what is stopped is kept."""
    chosen = [k for k, t in enumerate(TRIALS) if not claims or ledger.lines()[t.line].claim_id in claims]
    names = {ledger.lines()[TRIALS[k].line].claim_id for k in chosen}
    out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        truth = dict(zip(chosen, pool.map(truths, [TRIALS[k] for k in chosen]), strict=True))
        tasks = [(at, first) for first in range(1, seeds + 1, CHUNK) for at in chosen]
        for done in [pool.submit(work, at, first, truth[at]) for at, first in tasks]:
            rows += done.result()
            kept = pd.read_csv(out) if out.exists() else pd.DataFrame({"claim": []})
            table = pd.concat([kept[~kept["claim"].isin(names)], summed(pd.DataFrame(rows))], ignore_index=True)
            table.sort_values(["claim", "gap"]).to_csv(out, index=False, float_format="%.6g")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
