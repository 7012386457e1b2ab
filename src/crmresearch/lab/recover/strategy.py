"""Study 5 on trial: what contact earns, what offers do, and what a policy by segment is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crmresearch.data.reductions import strategy as reductions
from crmresearch.estimators.inference import Estimate
from crmresearch.lab.recover.harness import Estimator, findings, given, reduced
from crmresearch.lab.simulated.campaigns import DOSES
from crmresearch.lab.simulated.policies import GAPS
from crmresearch.lab.simulated.wallet import BANDS, EDGES
from crmresearch.studies import strategy

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

STATED: dict[str, Any] = {"parts": [1] * len(DOSES), "band_edges": EDGES}
ARMS: dict[str, Any] = {"targeted": "personal", "generic": "generic"}
SEGMENTS = [f"{band}.{gap}" for band in BANDS for gap in GAPS]


def policy(bank: Bank) -> dict[str, Estimate]:
    """The policy by segment (S25), within the top band (S57), and what each offer forced on a segment brings, net."""
    found = given(strategy.policy(reduced(bank, reductions.offers), **STATED))
    out = findings(found, "S25") | findings(strategy.by_band(reduced(bank, reductions.offers), **STATED), "S57")
    names = (f"{segment}.{dose}" for segment in SEGMENTS for dose in DOSES[1:])
    cells = found.details["cells"][["value", "ci_low", "ci_high", "n"]].to_numpy(float)
    for name, (value, low, high, n) in zip(names, cells, strict=True):
        out[name] = Estimate(value, low, high, "money per customer", int(n))
    return out


def _policy_truth(truth: dict[str, Any]) -> dict[str, float]:
    e, costs = truth["estimands"], truth["parameters"]["dose_costs"]
    out = {"S25": e["policy.gain"], "S57": e["policy.top_band.gain"]}
    return out | {f"{s}.{d}": e[f"policy.{s}.{d}.contribution"] - costs[d] for s in SEGMENTS for d in DOSES[1:]}


TABLES = ("customers", "contacts", "holdings", "monthly", "service")
OFFERS = ("wider", "uniform_best")  # the worlds where offers bring something in
ESTIMATORS = [
    Estimator(
        "paid", "strategy", lambda bank: findings(strategy.paid(reduced(bank, reductions.offers)), "S02", "S02a"),
        worlds=("wider", "null"), tables=TABLES, limits=("S02", "S02a"), nothing={"S02": 0.0, "S02a": 0.0}, seeds=200,
    ),
    Estimator(
        "held", "strategy",
        lambda bank: findings(strategy.held(reduced(bank, reductions.offers, purpose="develop")), "S05"),
        {"S05": "offer.families"}, ("wider", "null"), tables=TABLES, nothing={"S05": 0.0}, seeds=200,
    ),
    Estimator(
        "aimed", "strategy",
        lambda bank: findings(strategy.aimed(reduced(bank, reductions.offers), **ARMS), "S18", "S18a"),
        {"S18": "campaign.personal.retention_12m"}, ("wider",),
        tables=(*TABLES, "survey"), limits=("S18a",), seeds=200,
    ),
    Estimator(
        "potential", "strategy",
        lambda bank: findings(strategy.potential(reduced(bank, reductions.offers, purpose="develop")), "S23"),
        {"S23": "offer.balance.per_guess"}, OFFERS, tables=TABLES, seeds=200,
    ),
    Estimator("policy", "strategy", policy, _policy_truth, OFFERS, tables=TABLES, seeds=200),
]  # fmt: skip
