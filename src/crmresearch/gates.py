"""Gates that several studies share: arms drawn by lot, and trends that go on to differ."""

from __future__ import annotations

import pandas as pd
from numpy.typing import ArrayLike

from crmresearch import words
from crmresearch.estimators.causal.campaign import imbalance
from crmresearch.estimators.causal.pretrends import carried, standing
from crmresearch.estimators.causal.staggered import Effects, Several
from crmresearch.result import Check, gate, unlooked

say = words.of("gates")


def balanced(rows: pd.DataFrame) -> Check:
    """Gate: the arms of each campaign that was drawn by lot were alike before it."""
    off, name, looks = imbalance(rows)
    return gate(say, "balance", off, name=name or say("nothing"), looks=looks)


def parting(event: Effects | Several | None, magnitude: float, bound: float, weights: ArrayLike | None = None) -> Check:
    """Gate: what the years after decide holds where trends go on to differ so many times as much as they moved before.

    Closed where the interval of the effect, carried as far as they may go, lies wholly beyond its bound; declared where
    it holds the bound, and where no two periods before are seen. The limit is the line's own bound, in its unit: what
    is carried less far undoes no verdict.
    """
    if event is None:
        return unlooked(say("trends.name"))
    low, high = carried(event, magnitude, bound, weights)
    stands = standing(event, magnitude, bound, weights)
    return gate(say, "trends", stands, m=magnitude, low=low, high=high, limit=bound)
