"""Every gate of the studies by its kind: what was measured has an interval, the rest says its limit."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import crmresearch
from crmresearch.estimators.causal.campaign import imbalance
from crmresearch.estimators.inequality import hill

HOME = Path(crmresearch.__file__).parent
WORDS = yaml.safe_load((HOME / "words" / "en.yaml").read_text("utf-8"))
# measured: a quantity of the process behind the data, with its interval
# count:    people, events, months or resamples in hand; there is nothing to estimate
# fact:     an identity, what the bank declares, or what a model has or lacks
# rule:     a rule on the data in hand or on a test statistic, for which no interval of use exists
# declared: what data cannot show
KINDS = {
    "measured": """
        churn.gates.proportional churn.gates.entry churn.gates.overlap churn.relationship.lag churn.breadth.control
        churn.retention.censoring cost.uplift.ranking loyalty.measurement.method.gate loyalty.response.overlap
        loyalty.structure.prediction.gate
        channels.adopted.deaths channels.earned.earlier channels.fresh.lot channels.helped.drift
        churn.forecast.calibration competition.entry.placebo competition.leaving.earlier
        competition.managed.early cost.targeted.overlap cost.split.fits
        strategy.answering strategy.policy.stated segments.room
        loyalty.behaviour.hazard.halves loyalty.form.importance.gate loyalty.form.ordinal.gate
        loyalty.measurement.reliability.gate loyalty.referral.gaps.overlap preference.alike preference.first
        preference.later
        service.drift service.quality service.handling.drift service.managed.ahead gates.balance
        service.priority.density service.priority.before service.priority.elsewhere
        value.forecast.scores.level value.purchases.spend.independent value.purchases.spend.fits
    """,
    "count": """
        capture.leavers needs.buyers
        churn.gates.events churn.gates.events_of_one churn.gates.separation cost.saved.exits cost.common.wins
        cost.ratios.ends cost.losing.replacement.seen loyalty.behaviour.intention.gate loyalty.behaviour.hazard.gate
        loyalty.dynamics.lagged.gate loyalty.measurement.latent.gate loyalty.referral.gaps.events
        loyalty.referral.gaps.no_hazard loyalty.referral.rate.gate loyalty.structure.sem.settled
        value.margin.curves.at_risk value.shares.cell
    """,
    "fact": """
        base.linkage.traits churn.randomised.lot churn.relationship.library cost.ratios.seen cost.split.inner
        cost.split.tried cost.jointly.lot cost.response.lot loyalty.referral.gaps.no_money loyalty.structure.sem.gate
        loyalty.structure.sem.none loyalty.structure.absent.gate value.equity.adds_up
    """,
    # one customer's part in a variance or a total, and the pull of one on a coefficient, are those of a largest value,
    # which no resample has the law of; |mean| above five errors, the Wald test and BIC are statistics themselves. The
    # tail index closes on its estimate, as no interval covers below 2; HTMT where its upper end reaches the limit.
    # Bounds, and forecasts beside others, have intervals that are open, closed, or leave the rest to trust
    "rule": """
        gates.trends service.priority.answering
        churn.gates.influence churn.relationship.doubtful
        segments.smallest strategy.dominance
        cost.jointly.relevance loyalty.behaviour.contribution.gate loyalty.measurement.gates
        loyalty.measurement.factors.gate loyalty.measurement.groups.gate preference.told value.forecast.scores.naive
        value.shares.mean value.shares.tail value.shares.dominance
    """,
    "declared": """
        channels.adopted.unrecorded cost.calls.chosen
        churn.aimed.recorded churn.duration.form competition.platforms.leaning competition.trend.cohorts
        cost.targeted.unseen cost.calls.alike
        cost.response.aim
        cost.jointly.exclusion loyalty.answers.respondents loyalty.dynamics.mediation.gate loyalty.response.accounts
        preference.stated preference.wealth service.handling.only service.managed.unseen
        value.margin.clv.unproved unity.answered
    """,
}
LISTED = {key: kind for kind, keys in KINDS.items() for key in keys.split()}


def _calls(tree: ast.Module, name: str) -> list[ast.Call]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def _gates() -> dict[str, list[tuple[ast.expr, set[str]]]]:
    """What stands in the place of the state, by gate, with the names that hold a deviation in that module."""
    found: dict[str, list[tuple[ast.expr, set[str]]]] = {}
    for path in sorted([HOME / "result.py", HOME / "gates.py", *(HOME / "studies").rglob("*.py")]):
        tree = ast.parse(path.read_text("utf-8"))
        sections, measured = {}, set()
        for n in ast.walk(tree):
            if isinstance(n, ast.FunctionDef) and n.returns and ast.unparse(n.returns) == "Deviation":
                measured.add(n.name)
            if isinstance(n, ast.Assign):
                if n in tree.body and ast.unparse(n.value).startswith("words.of("):
                    sections[ast.unparse(n.targets[0])] = ast.literal_eval(n.value.args[0])
                values = n.value.elts if isinstance(n.value, ast.Tuple) else [n.value]
                targets = n.targets[0].elts if isinstance(n.targets[0], ast.Tuple) else [n.targets[0]]
                for target, value in zip(targets, values, strict=False):
                    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("Deviation", "imbalance"):
                        measured.add(ast.unparse(target))
        for call in _calls(tree, "gate"):
            key = call.args[1]
            for one in (key.body, key.orelse) if isinstance(key, ast.IfExp) else (key,):
                named = f"{sections[ast.unparse(call.args[0])]}.{ast.literal_eval(one)}"
                found.setdefault(named, []).append((call.args[2], measured))
    return found


def test_every_gate_is_listed_and_is_of_its_kind():
    found = _gates()
    assert set(found) == set(LISTED)
    for key, uses in found.items():
        for state, measured in uses:
            text = ast.unparse(state)
            deviation = text.partition("(")[0] in measured | {"Deviation"}
            assert deviation == (LISTED[key] == "measured"), key
            assert (text == "None") == (LISTED[key] == "declared"), key


@pytest.mark.parametrize("key", [k for k, kind in LISTED.items() if kind in ("count", "rule")])
def test_a_gate_without_an_interval_says_its_limit(key):
    node = WORDS
    for part in key.split("."):
        node = node[part]
    assert re.search(
        r"needed|least|limit|at most|or more|more than|fewer than|half is|closed where|allowed|of \{horizon\}"
        r"|bound \{limit",
        node["detail"],
    ), node["detail"]


def _arms(rng, n, shift, campaigns=2, covariates=8):
    columns = {f"x_{i}": rng.normal(size=n) for i in range(covariates)}
    rows = pd.DataFrame({"campaign_id": rng.integers(campaigns, size=n), "treated": rng.integers(2, size=n), **columns})
    rows["x_0"] += shift * rows["treated"]
    return rows


def _balance(rows):
    off, _, looks = imbalance(rows)
    assert looks == 16
    return off


def test_balance_of_a_fair_lot_stays_open_and_a_shifted_arm_closes_it():
    rng = np.random.default_rng(11)
    fair = [_balance(_arms(rng, 400, 0.0)) for _ in range(300)]
    assert sum(d.closed for d in fair) == 0
    # the interval holds for all sixteen differences looked at, so that few fair draws are told from none
    assert np.mean([d.low > 0 or d.high < 0 for d in fair]) < 0.08
    assert all(_balance(_arms(rng, 4000, 0.4)).closed for _ in range(10))


def test_interval_of_the_tail_index_covers():
    rng = np.random.default_rng(12)
    held = [low <= 2.0 <= high for _, low, high in (hill(rng.pareto(2.0, 4000) + 1) for _ in range(400))]
    assert 0.92 < np.mean(held) < 0.98
    assert hill([1.0, 1.0, 1.0]) == (float("inf"),) * 3
