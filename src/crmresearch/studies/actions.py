"""Whom to keep, to develop and to win back, and whether such a list is right more often than a held-out control."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import hidden
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import Estimate, newcombe
from crmresearch.result import Result, study
from crmresearch.rules import rules

say = words.of("actions")
SHARE = 0.05  # of those asked about, at the head of the list
COLUMNS = [
    "action",
    "precision",
    "control",
    "difference",
    "low",
    "high",
    "first",
    "first_did",
    "held_out",
    "held_out_did",
]
COUNTS = (("first", "first_did"), ("held_out", "held_out_did"))
GROWN = 1.10  # times the balance before: who was to be developed did


def listed(frame: pd.DataFrame) -> pd.DataFrame:
    """Make the list of those who agreed and are not held out: by action, the most pressing first.

    To keep: whose balance fell most, against the months before. To develop: whose balance grew most. To win back: who
    left lately, by the balance of the months before.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.actions.standing`.

    Returns
    -------
    DataFrame
        ``customer_id`` (the pseudonym), ``action``, ``rank``.
    """
    own = frame[frame["agreed"] & ~frame["held_out"]]
    there = own[~own["gone"] & (own["earlier"] > 0) & own["recent"].notna()]
    moved = there["recent"] / there["earlier"]
    lately = own[own["lately"]]
    balance = lately["recent"].fillna(lately["earlier"]).fillna(0)
    parts = []
    for action, rows, score in (("keep", there, -moved), ("develop", there, moved), ("win back", lately, balance)):
        order = score.sort_values(ascending=False, kind="stable").index
        rank = np.arange(1, len(order) + 1)
        parts.append(pd.DataFrame({"customer_id": rows.loc[order, "who"], "action": action, "rank": rank}))
    return pd.concat(parts, ignore_index=True)


@study
def precision(before: pd.DataFrame, now: pd.DataFrame) -> Result:
    """Share of the first on a list who did what it says by the next ledger, less that of the held-out control.

    Held out is a tenth of the customers, by lot of their identifiers, who were on no list; they are taken whole, not by
    their scores, so that the difference is what the order of the list is worth. Of those to win back nothing can be
    said: who comes back has another identifier.

    Parameters
    ----------
    before, now : DataFrame
        From :func:`crmresearch.data.reductions.actions.standing`, at two ends of observation.
    """
    known = now.set_index("who")
    asked = before[before["agreed"] & ~before["gone"] & (before["earlier"] > 0) & before["recent"].notna()]
    asked = asked[asked["who"].isin(known.index)].set_index("who")
    later = known.loc[asked.index]
    asked = asked.assign(keep=later["left"], develop=later["recent"] > GROWN * asked["recent"])
    first, order = max(rules.least, round(SHARE * int((~asked["held_out"]).sum()))), listed(before)
    control = asked[asked["held_out"]]
    rows, found = [], {}
    few = NotApplicable(say("few", least=rules.least), "customers", "monthly")
    for action, named in say.names("rows").items():
        head = order.loc[(order["action"] == action) & (order["rank"] <= first), "customer_id"]
        hits = asked.loc[asked.index.isin(head), action]
        counts, n = (int(hits.sum()), int(control[action].sum())), (len(hits), len(control))
        if min(n) < rules.least:
            raise few
        gap = newcombe(counts, n)
        found[action] = Estimate(*gap, say("unit"), sum(n))
        rows.append((named, counts[0] / n[0], counts[1] / n[1], *gap, n[0], counts[0], n[1], counts[1]))
    table = pd.DataFrame(rows, columns=COLUMNS)
    if hidden(table, COUNTS).any():  # a share gives back its count
        raise few
    sentence = say("sentence", first=float(first), keep=found["keep"], develop=found["develop"])
    return Result(table, sentence, estimates=found, counts=COUNTS)
