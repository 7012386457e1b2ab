"""What offers drawn by lot do: contribution net of their cost, products held, who stays, balances from elsewhere.

Whoever was drawn counts as offered, reached or not; whoever left holds nothing and brings nothing from then on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.blocks import Array, Functional, checked, unit_of
from crmresearch.estimators.causal.aipw import MIN_ARM
from crmresearch.estimators.causal.campaign import (
    NEEDED,
    answered_bounds,
    covariates_of,
    difference,
    difference_of_means,
    drawn,
    held_equal,
    of_size,
    two_armed,
    within,
)
from crmresearch.estimators.inference import Estimate, ends, levels, normal, robust_ols, tied_groups, wilson
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.gates import balanced
from crmresearch.result import Check, Result, gate, study
from crmresearch.rules import few, whose

say = words.of("strategy")

DOMINATING = 0.5  # part of one customer in the variance of an estimate that is too much
UNANSWERED = 0.05  # share of those asked by which answering may differ between arms


def row(quantity: str, found: Functional | tuple[float, float, float], n: int, **more: Any) -> dict[str, Any]:
    """Return a row of a table, of an estimate with its interval."""
    value, low, high = (found.value, found.low, found.high) if isinstance(found, Functional) else found
    return {"quantity": quantity, "value": value, "ci_low": low, "ci_high": high, "n": n, **more}


def by_arm(treated: Array, *money: Array) -> Any:
    """Whose the money is that arms are compared by: a mean of one arm is its own total."""
    return whose(*(of[arm] for of in money for arm in (treated > 0, treated == 0)))


def shown(table: pd.DataFrame, title: str, x: str, unit: str) -> Picture:
    """Draw the rows of a table with their intervals."""
    data = table.rename(columns={"value": "estimate", "quantity": "label"})
    options = {"unit": unit, "marks": [Mark(0)]}
    return Picture("intervals", data, title, x, options=options, size=(7.2, 1.4 + 0.4 * len(data)))


@study
def paid(offers: pd.DataFrame, *, currency: str = "") -> Result:
    """Does contact pay? Contribution in the twelve months after it, by lot, gross and net of its cost.

    Parameters
    ----------
    offers : DataFrame
        From :func:`crmresearch.data.reductions.strategy.offers`, with ``value_before`` and ``value_after``:
        contribution of the twelve months before and from the month of the contact on; nothing after leaving.
    currency : str
        For labels.

    Returns
    -------
    Result
        Estimates ``S02``: contribution of the offered less that of the controls and less what the contact cost, by
        intention to treat, and ``S02a``: before the cost. Table: the same, without the year before held equal, the
        cost, and each campaign's net.

    Notes
    -----
    Every campaign counts, weighted by its customers. Contribution is heavy in its tail: a gate says whether one
    customer makes the error.
    """
    offers = offers[offers["value_after"].notna()] if "value_after" in offers else offers.iloc[:0]
    if offers.empty:
        raise NotApplicable(say("paid.no_money"), "monthly")
    rows, blocks = drawn(offers), unit_of(offers)
    t = rows["treated"].to_numpy()
    after, before, cost = (rows[c].to_numpy(float) for c in ("value_after", "value_before", "cost"))
    equal = held_equal(rows, after, before)
    plain, gross, spend = (difference(rows, v, blocks) for v in (after, equal, cost))
    net, n = difference(rows, equal - cost, blocks), len(rows)
    kinds = {"net": net, "gross": gross, "plain": plain, "spend": spend}
    found = [row(say.names("paid.rows")[k], f, n, whose=by_arm(t, after, cost)) for k, f in kinds.items()]
    names, each = sorted(rows["campaign_id"].unique()), {}
    for name in names:
        own = rows["campaign_id"].eq(name).to_numpy()
        each[name] = part = difference(rows[own], (equal - cost)[own], blocks)
        found.append(
            row(say("paid.campaign", name=name), part, int(own.sum()), whose=by_arm(t[own], after[own], cost[own]))
        )
    table = safe(pd.DataFrame(found), parts=False)
    largest = float(np.max((equal - equal.mean()) ** 2) / ((equal - equal.mean()) ** 2).sum())
    of = say("paid.of.several", k=len(names)) if len(names) > 1 else say("paid.of.one")
    sentence = say("paid.sentence", net=net, gross=gross, plain=plain, spend=spend, n=n, of=of, currency=currency)
    title = say("paid.title_pays", net=net, currency=currency) if net.low > 0 else say("paid.title_open")
    title = say("paid.title_loses", loss=-net.value, currency=currency) if net.high < 0 else title
    if len(names) > 1:  # the mean weighs campaigns by how many customers each happened to have
        k, above, below = len(names), sum(p.low > 0 for p in each.values()), sum(p.high < 0 for p in each.values())
        sentence = words.joined([sentence, say("paid.each", k=k, above=above, below=below)], by=" ")
        title = say("paid.title_each", title=title, k=k, above=above, below=below)
    return Result(
        table,
        sentence,
        (balanced(rows), gate(say, "dominance", largest < DOMINATING, largest=largest)),
        {"S02": net.estimate(say("money"), n), "S02a": gross.estimate(say("money"), n)},
        picture=shown(table, title, say("paid.x"), "money"),
        money=["value", "ci_low", "ci_high"],
        digits=2,
    )


@study
def held(offers: pd.DataFrame, *, horizon_months: int = 12) -> Result:
    """Product families held a year after an offer to develop, offered less control; those gone hold none (S05).

    Parameters
    ----------
    offers : DataFrame
        From :func:`crmresearch.data.reductions.strategy.offers`, with ``families_after``.
    horizon_months : int
        Months after the contact.

    Returns
    -------
    Result
        Estimate ``S05``, the number held before the offer held equal. Naive row: those who are still there.
    """
    if "families_after" not in offers:
        raise NotApplicable(say("held.no_holdings"), "holdings")
    rows, blocks = drawn(offers), unit_of(offers)
    gone, _ = within(rows, horizon_months)
    holds = rows["families_after"].to_numpy(float) * (1 - gone)
    before = rows["x_families"].to_numpy(float) if "x_families" in rows else np.zeros(len(rows))
    found = difference(rows, held_equal(rows, holds, before), blocks)
    there, names, n = gone == 0, say.names("held.rows"), len(rows)
    stayed = difference(rows[there], held_equal(rows[there], holds[there], before[there]), blocks)
    lost = difference(rows, gone, blocks)
    alone = row(names["stayed"], stayed, int(there.sum()))
    held_by_gone = row(names["before_gone"], difference(rows, gone * (before - before.mean()), blocks), n)
    top = [row(names["equal"], found, n), row(names["plain"], difference(rows, holds, blocks), n)]
    last, sentence = [], say("held.sentence", found=found, months=horizon_months, n=n)
    if not few(n - there.sum()):  # what those there leave of all would be a count of few, and so would their share
        top, last = [*top, alone], [row(names["gone"], lost, n), held_by_gone]
        sentence = words.joined([sentence, say("held.gone", gone=100.0 * lost)], by=" ")
    title = say("held.title", found=found) if found.low > 0 else say("held.title_open")
    return Result(
        pd.DataFrame([*top, *last]),
        sentence,
        (balanced(rows),),
        {"S05": found.estimate(say("held.unit"), n)},
        picture=shown(pd.DataFrame(top), title, say("held.x", months=horizon_months), "number"),
    )


@study
def aimed(offers: pd.DataFrame, *, targeted: str, generic: str, horizon_months: int = 12) -> Result:
    """A targeted offer against a generic one, by lot within the target group: who stays (S18), how content (S18a).

    Parameters
    ----------
    offers : DataFrame
        From :func:`crmresearch.data.reductions.strategy.offers`; with ``asked`` and ``answer`` satisfaction is told.
    targeted, generic : str
        Names of the arms.
    horizon_months : int
        Months after the contact.

    Returns
    -------
    Result
        Table: the share that stayed, targeted less generic, and each less the control; satisfaction of those who
        answered in standard deviations, with bounds for those who stayed, were asked and answered under either offer;
        who left before the wave, was asked of those who stayed, and answered, by arm.
    """
    checked(offers, (*NEEDED, "arm"), ("months",), "offers")
    by_lot = offers[offers["randomised"].to_numpy(bool)]
    has = by_lot.groupby("campaign_id", observed=True)["arm"].agg(lambda arms: {targeted, generic} <= set(arms))
    of = by_lot[by_lot["campaign_id"].isin([c for c, both in has.items() if both])]
    rows = of[of["arm"].isin([targeted, generic])]
    if rows.empty:
        raise NotApplicable(say("aimed.no_arms", targeted=targeted, generic=generic), "contacts")
    rows, blocks, names = of_size(_pair(rows, targeted)), unit_of(offers), say.names("aimed.rows")
    kept = difference(rows, 1 - within(rows, horizon_months)[0], blocks)
    table = [row(names["kept"], kept, len(rows))]
    for arm, name in ((targeted, "targeted"), (generic, "generic")):
        beside = two_armed(_pair(of[of["arm"].isin([arm, "control"])], arm))
        if len(beside):
            each = difference(beside, 1 - within(beside, horizon_months)[0], blocks)
            table.append(row(names[name], each, len(beside)))
    checks, n = (balanced(rows),), int(rows["answer"].count()) if "answer" in rows else 0
    unasked = Missing(say("aimed.no_answers", least=MIN_ARM), ("survey",))
    estimates: dict[str, Estimate | Missing] = {"S18": kept.estimate(say("aimed.unit"), len(rows)), "S18a": unasked}
    sentence = say("aimed.sentence", kept=100.0 * kept, months=horizon_months, n=len(rows))
    title = say("aimed.title", kept=100.0 * kept) if kept.low > 0 else say("aimed.title_open")
    picture = shown(safe(pd.DataFrame(table), parts=False), title, say("aimed.x", months=horizon_months), "points")
    if n and rows.groupby("treated")["answer"].count().min() >= MIN_ARM:
        more, content, check = _content(rows, blocks)
        table += more
        estimates["S18a"] = told_of = normal(*content, say("aimed.deviations"), n, checks=(check,))
        sentence = words.joined(
            [sentence, say("aimed.content", found=told_of, months=rows["wave_months"].max())], by=" "
        )
    return Result(safe(pd.DataFrame(table), parts=False), sentence, checks, estimates, picture=picture)


def _pair(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """One arm against the other of two."""
    return rows.assign(treated=(rows["arm"] == arm).astype("int8"))


def _content(rows: pd.DataFrame, blocks: int) -> tuple[list[dict[str, Any]], tuple[float, float], Check]:
    """Satisfaction of those who answered by arm, bounds for who answers because of the offer, and attrition."""
    names, t = say.names("aimed.rows"), rows["treated"].to_numpy(bool)
    asked, every = rows["asked"].fillna(0).to_numpy(float) > 0, np.ones(len(rows), bool)
    wave = rows.groupby("campaign_id", observed=True)["wave_months"].transform("max")
    gone = rows["left"].to_numpy(bool) & (rows["months"] <= wave).to_numpy()  # not to be asked, because of the lot
    answered = asked & rows["answer"].notna().to_numpy()
    score = rows["answer"].to_numpy(float) / rows["answer"].std()
    found = difference_of_means(score[answered & t], score[answered & ~t])
    n, bounds = int(answered.sum()), answered_bounds(t, score, answered, rows["block"].to_numpy())
    out = [_told(names["content"], *found, n)]
    for name, *at in zip(("lower", "upper"), bounds.value, bounds.low, bounds.high, strict=True):
        out.append(row(names[name], tuple(at), n))
    parts = {"gone": (gone, every), "asked": (asked, ~gone), "answered": (answered, asked)}
    for name, (has, of) in parts.items():
        for side, arm in (("targeted", of & t), ("generic", of & ~t)):
            own = int(arm.sum())
            out.append(row(names[f"{name}_{side}"], wilson(has[arm].sum(), own), own))
    gap = difference(rows[asked], answered[asked].astype(float), blocks)
    return out, found, gate(say, "answering", Deviation(gap.value, gap.low, gap.high, limit=UNANSWERED))


def _told(quantity: str, value: float, se: float, n: int) -> dict[str, Any]:
    return row(quantity, (value, *ends(value, se)), n)


@study
def potential(offers: pd.DataFrame, *, horizon_months: int = 12, currency: str = "") -> Result:
    """Extra balance from an offer to develop for each unit of what the bank guesses is held elsewhere (S23).

    Parameters
    ----------
    offers : DataFrame
        From :func:`crmresearch.data.reductions.strategy.offers`, with ``outside``, ``balance_before`` and
        ``balance_after``.
    horizon_months : int
        Months after the contact.
    currency : str
        For labels.

    Returns
    -------
    Result
        Table: the slope, the same without the balance before held equal, the mean effect, and the effect by quarter of
        the guess. Whoever left has no balance.

    Notes
    -----
    The slope is that of the effect on the guess: offered and control differ in it by nothing else, since the lot was
    drawn after the guess was made. A guess that is noisy makes the slope flatter than that over what is really held.
    """
    if not {"outside", "balance_before", "balance_after"} <= set(offers):
        raise NotApplicable(say("potential.no_guess"), "customers", "monthly")
    rows = drawn(offers[offers[["outside", "balance_after"]].notna().all(axis=1)])
    gone, _ = within(rows, horizon_months)
    after, before = rows["balance_after"].to_numpy(float) * (1 - gone), rows["balance_before"].to_numpy(float)
    t, guess = rows["treated"].to_numpy(float), rows["outside"].to_numpy(float)
    blocks, n, names = unit_of(offers), len(rows), say.names("potential.rows")
    slope, se, largest = _slope(rows, after, guess, t, np.column_stack([before, rows[[*covariates_of(rows)]]]))
    plain, plain_se, _ = _slope(rows, after, guess, t, np.empty((n, 0)))
    equal = held_equal(rows, after, before)
    mean, quarter = difference(rows, equal, blocks), tied_groups(guess, 4)
    parts = [(k, difference(rows[quarter == k], equal[quarter == k], blocks), quarter == k) for k in range(4)]
    every = by_arm(t, before, after)
    effects = [row(names["mean"], mean, n, whose=every)]
    effects += [
        row(label, part, int(own.sum()), whose=by_arm(t[own], before[own], after[own]))
        for label, (_, part, own) in zip(say.names("potential.quarters").values(), parts, strict=True)
    ]
    slopes = [
        _told(names["slope"], slope, se, n) | {"whose": every},
        _told(names["plain"], plain, plain_se, n) | {"whose": every},
    ]
    found = normal(slope, se, say("potential.unit"), n)
    table, drawn_rows = safe(pd.DataFrame([*slopes, *effects]), parts=False), safe(pd.DataFrame(effects), parts=False)
    title = say("potential.title") if found.ci_low > 0 else say("potential.title_open")
    return Result(
        table,
        say("potential.sentence", found=found, plain=plain, mean=mean, currency=currency, n=n),
        (balanced(rows), gate(say, "dominance", largest < DOMINATING, largest=largest)),
        {"S23": found},
        picture=shown(drawn_rows, title, say("potential.x", months=horizon_months), "money"),
        money=["value", "ci_low", "ci_high"],
    )


def _slope(rows: pd.DataFrame, y: Array, guess: Array, t: Array, fixed: Array) -> tuple[float, float, float]:
    """Slope of the effect on the guess, its error by block, and one customer's largest part in its variance.

    What is held equal has one slope for both arms: it then sharpens and moves nothing in a large sample. With one for
    each arm the slope would be that over the guess among customers with like balances, which is another question.
    """
    x, campaign = guess - guess.mean(), levels(rows["campaign_id"])
    columns = [np.ones(len(y)), t * x, t, x, campaign, fixed]
    design = np.column_stack([c for c in columns if c.ndim == 1 or c.shape[1]])
    spread = design.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    b, v = robust_ols(design / scale, y, rows["block"].to_numpy())
    own = (t - t.mean()) * x * (y - design / scale @ b)
    return b[1] / scale[1], v[1, 1] ** 0.5 / scale[1], float((own**2).max() / (own**2).sum())
