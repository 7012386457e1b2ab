"""Who can be saved: uplift by decile, risk and value, Qini with interval, and what a targeting rule earns.

Scores come from models fitted on other people (cross-fitting); effects within score groups come from the random draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import Array, Functional, summed, unit_of
from crmresearch.estimators.causal import uplift as effects
from crmresearch.estimators.causal.campaign import covariates_of, drawn, within
from crmresearch.estimators.inference import ends
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import whose

say = words.of("cost.uplift")
tell = words.of("cost.policies")


def _scored(campaigns: pd.DataFrame, horizon_months: int) -> tuple[pd.DataFrame, Array, Array, Array]:
    """Customers of the randomised campaign, whether they left, their risk and the fall of it by an offer."""
    rows, names = drawn(campaigns, single=True), covariates_of(campaigns)
    if not names:
        raise NotApplicable(say("unknown"), "customers")
    left, _ = within(rows, horizon_months)
    t = rows["treated"].to_numpy()
    events = int(min(left[t == 1].sum(), left[t == 0].sum()))
    if events < 5 * len(names):
        raise NotApplicable(say("few", events=events, count=len(names)), "contacts")
    return rows, left, *effects.scores(rows, left, names)


@study
def uplift(campaigns: pd.DataFrame, *, horizon_months: int = 12) -> Result:
    """Effect of a randomised offer by decile of predicted effect, by risk and by value.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`saved`, with columns ``x_...`` known before the contact, and ``value_before``
        (money) for value bands.
    horizon_months : int
        Months after the contact.

    Notes
    -----
    The correlation of risk and effect tells whether the riskiest are the most savable. A negative effect in a group
    is an offer that raised exits there. Customers of equal score stay in one group.

    References
    ----------
    Ascarza (2018). Retention futility: targeting high-risk customers might be ineffective. *JMR* 55, 80-98.
    """
    rows, left, risk, gain = _scored(campaigns, horizon_months)
    stayed, t = 1 - left, rows["treated"].to_numpy(float)
    cuts: list[tuple[str, Array, list[str]]] = [
        (say("by_effect"), gain, [str(k + 1) for k in range(10)]),
        (say("by_risk"), risk, list(say.names("fifths").values())),
    ]
    own = rows["band"].cat if "band" in rows else None  # the bank's own value bands
    if "value_before" in rows and own is None:
        cuts.append((say("by_value"), rows["value_before"].to_numpy(float), list(say.names("thirds").values())))
    parts = [(kind, names, effects.effects(score, len(names), t, stayed)) for kind, score, names in cuts]
    if own is not None:  # the highest first
        names, codes = list(own.categories[::-1]), own.codes.to_numpy().astype(float)
        parts.append(
            (say("by_value"), names, effects.effects(len(names) - 1 - codes, len(names), t, stayed, given=True))
        )
    tables = [part.assign(by=kind, group=names)[["by", "group", *part]] for kind, names, part in parts]
    table, risky = pd.concat(tables, ignore_index=True), tables[1]
    each = effects.qini(gain, t, stayed)
    qini = Functional(each.value, summed(rows, each.influence, unit_of(rows)))
    harmed = int((table["ci_high"] < 0).sum()) if "ci_high" in table else 0
    first, last = risky.iloc[0], risky.iloc[-1]
    gap, error = first["uplift"] - last["uplift"], np.hypot(*(r["ci_high"] - r["ci_low"] for r in (first, last))) / 2
    apart = say("fifths_differ") if abs(gap) > error else say("fifths_alike")
    ranked = say("better") if qini.low > 0 else say("no_better")
    sentence = say("sentence", first=first, last=last, apart=apart, qini=1e4 * qini, ranked=ranked) + (
        say("harmed", count=harmed) if harmed else ""
    )
    return Result(
        table,
        sentence,
        checks=(gate(say, "ranking", Deviation(qini.value, qini.low, qini.high, limit=0, least=True)),),
        picture=_deciles(tables[0], len(rows), float(stayed[t == 1].mean() - stayed[t == 0].mean()), qini.low > 0),
        digits=4,
    )


def _deciles(deciles: pd.DataFrame, n: int, mean: float, ranks: bool) -> Picture:
    """Effect by decile of its prediction."""
    shown = deciles.dropna(subset=["uplift"]) if "uplift" in deciles else deciles.iloc[:0]
    names = {"group": "label", "uplift": "estimate"}
    marks = [Mark(0), Mark(mean, say("mean"), style="limit")]
    options = {"upright": True, "unit": "percent", "marks": marks}
    title = say("title") if ranks else say("title_open")
    return Picture("intervals", shown.rename(columns=names), title, say("x", n=n), say("y"), options)


@study
def policies(
    campaigns: pd.DataFrame,
    *,
    value_saved: float | Result,
    share: float = 0.3,
    horizon_months: int = 12,
    currency: str = "",
) -> Result:
    """What rules of targeting earn: nobody, everybody, the riskiest, the most savable.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`uplift`.
    value_saved : float or Result
        Money a customer saved is worth, or what :func:`crmresearch.studies.cost.retention_point` returned.
    share : float
        Share offered under the two ranking rules.
    horizon_months : int
        Months after the contact.
    currency : str
        For the sentence.

    Notes
    -----
    A rule's gain per customer is value times the effect among those it picks, times their share, less their offers'
    cost. It is estimated from the random draw, on scores from other folds.
    """
    if isinstance(value_saved, Result):
        if value_saved.missing is not None:
            return value_saved
        value_saved = float(value_saved.details["value"])
    rows, left, risk, gain = _scored(campaigns, horizon_months)
    t, cost = rows["treated"].to_numpy(float), rows["cost"].to_numpy(float)
    worth = value_saved * (1 - left) - t * cost
    picks = {
        tell("everybody"): np.ones(len(rows), bool),
        tell("riskiest", share=share): effects.best(risk, share),
        tell("savable", share=share): effects.best(gain, share),
    }
    table_rows: list[dict[str, Any]] = [
        {"rule": tell("nobody"), "share": 0.0, "gain": 0.0, "ci_low": 0.0, "ci_high": 0.0, "n": len(rows)}
    ]
    for name, pick in picks.items():
        value, se = effects.rule_gain(pick, t, worth)
        low, high = ends(value, se)
        table_rows.append(
            {"rule": name, "share": pick.mean(), "gain": value, "ci_low": low, "ci_high": high, "n": int(pick.sum())}
        )
    table = safe(pd.DataFrame(table_rows).assign(whose=whose(t * cost)), parts=False)
    sure = ", ".join(table.loc[table["ci_low"] > 0, "rule"])
    sentence = tell(
        "sentence", value=value_saved, cost=cost[t == 1].mean(), best=table.loc[table["gain"].idxmax()],
        currency=currency,
    ).replace("  ", " ") + (tell("sure", names=sure) if sure else tell("unsure"))  # fmt: skip
    return Result(table, sentence, money=["gain"])
