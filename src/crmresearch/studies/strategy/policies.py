"""A policy by segment against the best offer for all at equal expected cost (S25), and by value band (S57)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, InputError, Missing, NotApplicable
from crmresearch.estimators.blocks import Array, Functional, checked, summed, unit_of
from crmresearch.estimators.causal.campaign import NEEDED, covariates_of
from crmresearch.estimators.causal.policy import PolicyGain, policy_gain
from crmresearch.estimators.inference import LEVEL, Estimate, z
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import balanced
from crmresearch.result import Check, Result, gate, study
from crmresearch.rules import whose

say = words.of("strategy.policy")

OFF = 0.02  # share of customers by which an offer may differ from the chance by which it was drawn
KNOWN = ("value_before", "balance_before", "outside")  # what explains contribution, beside the columns x_...
MONEY = ["value", "ci_low", "ci_high"]


@dataclass(frozen=True)
class Lot:
    """A campaign with several offers: customers with ``arm``, ``band`` and ``segment`` numbered; names; costs."""

    rows: pd.DataFrame
    arms: list[str]
    bands: list[str]
    segments: list[str]
    chances: Array
    costs: list[float]
    blocks: int

    def gain(self, rows: pd.DataFrame) -> PolicyGain:
        """Gain of the best offer by segment among some customers."""
        rows = rows.assign(segment=pd.factorize(rows["segment"], sort=True)[0])
        of = (*(c for c in KNOWN if c in rows), *covariates_of(rows))
        after = rows["value_after"].to_numpy(float)
        return policy_gain(rows, after, [*self.chances], self.costs, of, self.blocks)


def lot(offers: pd.DataFrame, parts: Sequence[float], band_edges: Sequence[float]) -> Lot:
    """Take the campaign with most offers of different cost, and put its customers into segments."""
    checked(offers, (*NEEDED, "arm"), ("cost",), "offers")
    if not {"value_after", "balance_before"} <= set(offers):
        raise NotApplicable(say("no_money"), "monthly")
    told = [c for c in ("value_after", "balance_before", "band") if c in offers]
    seen = offers[offers["randomised"].to_numpy(bool)].dropna(subset=told)
    costs = seen.groupby(["campaign_id", "arm"], observed=True)["cost"].mean()
    several = {c: own.droplevel(0).sort_values() for c, own in costs.groupby(level=0) if own.nunique() > 2}
    if not several:
        raise NotApplicable(say("no_offers"), "contacts")
    name = max(several, key=lambda c: (len(several[c]), (seen["campaign_id"] == c).sum()))
    own = several[name]
    if len(parts) != len(own):
        raise InputError(say("parts", given=len(parts), arms=", ".join(own.index), n=len(own), name=name))
    rows = seen[seen["campaign_id"] == name]
    if "band" in rows:
        bands, code = list(rows["band"].cat.categories), rows["band"].cat.codes.to_numpy(int)
    else:
        edges = sorted(band_edges)
        inner = (say("between", low=low, high=high) for low, high in itertools.pairwise(edges))
        bands = [say("below", edge=edges[0]), *inner, say("from", edge=edges[-1])]
        code = np.searchsorted(edges, rows["balance_before"], side="right")
    segments, segment = bands, code
    if "outside" in rows and rows["outside"].notna().all():
        guesses = say.names("guesses").values()
        segments = [say("segment", band=band, guess=guess) for band in bands for guess in guesses]
        segment = 2 * code + (rows["outside"] > rows["outside"].median()).to_numpy(int)
    there, segment = np.unique(segment, return_inverse=True)  # a segment of nobody has no offer that is best
    segments = [segments[k] for k in there]
    if len(segments) < 2:  # edges of another currency: the best offer by segment is that for all
        raise NotApplicable(say("one", segment=", ".join(segments), n=len(rows)), "contacts")
    arm = rows["arm"].map({a: k for k, a in enumerate(own.index)})
    rows = rows.assign(arm=arm, band=code, segment=segment).reset_index(drop=True)
    chances = np.asarray(parts, float) / np.sum(parts)
    return Lot(rows, list(own.index), bands, segments, chances, list(own), unit_of(offers))


def owned(rows: pd.DataFrame) -> Any:
    """Whose the money of some customers is: that of each arm by itself, since arms are compared."""
    return whose(*(own for _, own in rows.groupby("arm")["value_after"]), rows["cost"])


@study
def policy(offers: pd.DataFrame, *, parts: Sequence[float], band_edges: Sequence[float], currency: str = "") -> Result:
    """Value of the best offer by segment less that of the best lottery for all at equal expected cost (S25).

    Segments are the bank's value bands, or bands of the balance before the offer, each by whether the bank guesses less
    or more than the median to be held elsewhere.

    Parameters
    ----------
    offers : DataFrame
        From :func:`crmresearch.data.reductions.strategy.offers`, with ``value_after`` and ``balance_before``.
    parts : sequence of float
        Parts in which offers were drawn, from the cheapest (the control) to the dearest. No table holds them.
    band_edges : sequence of float
        Balances at which value bands begin, the lowest left out; not used where the bank declares bands.
    currency : str
        For labels.

    Returns
    -------
    Result
        Table: the gain; what it seems to be where the policy was learned (naive); by segment what each offer brings net
        of its cost, against the cheapest, and by how many halves it was chosen. ``details``: the gain and the cells.
    """
    of = lot(offers, parts, band_edges)
    found, n = of.gain(of.rows), len(of.rows)
    naive, names = found.in_sample, say.names("rows")
    both = {"gain": (found.value, found.low, found.high), "naive": (naive.value, naive.low, naive.high)}
    top = [dict(zip(["quantity", *MONEY], (names[k], *v), strict=True)) for k, v in both.items()]
    cells = _cells(of, found)
    table = pd.concat([pd.DataFrame(top).assign(n=n, whose=owned(of.rows)), cells.drop(columns=["segment", "offer"])])
    drawn = safe(cells.rename(columns={"value": "estimate", "segment": "label", "offer": "group"}), parts=False)
    title = say("title", gain=found, currency=currency) if found.low > 0 else say("title_open")
    options = {"unit": "money", "marks": [Mark(0)], "ordered": True}
    return Result(
        safe(table.reset_index(drop=True), parts=False),
        say("sentence", gain=found, n=n, currency=currency),
        (balanced(of.rows), _as_stated(of)),
        {"S25": Estimate(found.value, found.low, found.high, say("unit"), n)},
        picture=Picture("intervals", drawn, title, say("x"), options=options),
        money=MONEY,
        digits=2,
        details={"gain": found, "cells": cells},
    )


def _cells(of: Lot, found: PolicyGain) -> pd.DataFrame:
    """By segment and offer: what it brings net of its cost, less the cheapest, and how many halves chose it."""
    out, net = [], found.scores - np.asarray(of.costs)
    for k, segment in enumerate(of.segments):
        own = (of.rows["segment"] == k).to_numpy()
        rows = of.rows[own]
        for a, name in enumerate(of.arms[1:], 1):
            each = (net[:, a] - net[:, 0])[own]
            one = Functional(float(each.mean()), summed(rows, (each - each.mean()) / len(rows), of.blocks))
            cell = {"quantity": say("cell", segment=segment, offer=name), "value": one.value}
            cell |= {"ci_low": one.low, "ci_high": one.high, "n": len(rows), "segment": segment, "offer": name}
            out.append(
                {**cell, "halves": int((found.chosen[:, k] == a).sum()), "whose": owned(rows[rows["arm"].isin([0, a])])}
            )
    return pd.DataFrame(out).astype({"halves": "Int64"})


def _as_stated(of: Lot) -> Check:
    """Gate: offers were drawn by the chances that are stated."""
    share = np.bincount(of.rows["arm"], minlength=len(of.arms)) / len(of.rows)
    off = np.abs(share - of.chances)
    k = int(off.argmax())
    reach = z(1 - (1 - LEVEL) / len(off)) * (share[k] * (1 - share[k]) / len(of.rows)) ** 0.5
    return gate(say, "stated", Deviation(off[k], max(off[k] - reach, 0.0), off[k] + reach, limit=OFF), arm=of.arms[k])


@study
def by_band(offers: pd.DataFrame, *, parts: Sequence[float], band_edges: Sequence[float], currency: str = "") -> Result:
    """Gain of the policy by value band, each at the budget that the policy spends in it (S57).

    Parameters
    ----------
    offers, parts, band_edges, currency
        As for :func:`policy`.

    Returns
    -------
    Result
        Estimate ``S57``: that of the top band. A band in which both halves chose one offer throughout has no policy to
        value; one where an offer has too few customers is left out. Both are counted.
    """
    of = lot(offers, parts, band_edges)
    rows: list[dict[str, Any]] = []
    alike: list[str] = []
    left = 0
    top: Estimate | Missing | None = None
    for k, band in enumerate(of.bands):
        own, top = of.rows[of.rows["band"] == k], None
        if own.empty:
            continue
        try:
            gain = of.gain(own)
        except FitError:
            left += 1
            continue
        ends_of, top = dict.fromkeys(MONEY, np.nan), Missing(say("alike"))
        if (gain.chosen == gain.chosen[:, :1]).all():  # the policy is the best offer for all: nothing is compared
            alike.append(band)
        else:
            ends_of = dict(zip(MONEY, (gain.value, gain.low, gain.high), strict=True))
            top = Estimate(gain.value, gain.low, gain.high, say("unit"), len(own))
        rows.append({"band": band, **ends_of, "cost": gain.cost, "n": len(own), "whose": owned(own)})
    if top is None:
        here = (of.rows["band"] == len(of.bands) - 1).any()
        raise NotApplicable(say("few") if here else say("nobody", band=of.bands[-1]), "contacts")
    table = safe(pd.DataFrame(rows), parts=False)
    shown = table.dropna(subset=MONEY).rename(columns={"value": "estimate", "band": "label"})
    some = [row["band"] for row in rows if row["ci_low"] > 0]
    title = say("title_bands", bands=", ".join(some)) if some else say("title_bands_open")
    said = [say("bands", top=top, currency=currency)] if isinstance(top, Estimate) else []
    said += [say("bands_alike", bands="; ".join(alike))] if alike else []
    said += [say("bands_left", left=left)] if left else []
    options = {"unit": "money", "marks": [Mark(0)]}
    return Result(
        table,
        words.joined(said, by=" "),
        (balanced(of.rows), _as_stated(of)),
        {"S57": top},
        picture=Picture("intervals", shown, title, say("x_bands"), options=options) if len(shown) else None,
        money=[*MONEY, "cost"],
        digits=2,
    )
