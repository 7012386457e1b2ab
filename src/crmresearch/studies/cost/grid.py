"""The study of the ratio: all nine at once, discounted and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators import blocks as b
from crmresearch.estimators.blocks import Array, Functional, checked, constant, per, product
from crmresearch.estimators.inference import Estimate, from_draws
from crmresearch.estimators.spending.tenure import MIN_AT_RISK, lifetime_cost
from crmresearch.estimators.verdicts import Bound
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, leading, study
from crmresearch.rules import of_groups
from crmresearch.studies import Choices, Frames, Setting
from crmresearch.studies.cost.campaigns import saved as saved_of
from crmresearch.studies.cost.common import SEVERAL, enough_wins, need_spend, wins_gate, written
from crmresearch.studies.cost.winning import response

say = words.of("cost.ratios")

WEAK = 3.0  # |z| of a denominator below which percentile intervals mean nothing
LINES = {
    (winning, keeping): f"S40{letter}"
    for winning, letters in (("all", ("", "b", "c")), ("won", "def"), ("marginal", "ghi"))
    for keeping, letter in zip(("year", "tenure", "saved"), letters, strict=True)
}
PAID, DISCOUNTED = "as paid", "discounted"  # costs
MONEY = ("ratio", "ci_low", "ci_high", "bootstrap_low", "bootstrap_high", "simultaneous_low", "simultaneous_high")
Pair = tuple[Functional, Functional]  # numerator and denominator of a ratio


@study
def definitions(period: str, horizon_months: int) -> Result:
    """Write out the nine ratios before any is computed: formula, population, period.

    Parameters
    ----------
    period : str
        The observation period in words.
    horizon_months : int
        Tenure at which the tenure denominator ends, months.
    """
    meaning, population = say.names("meaning"), say.names("population")
    rows = [
        {
            "line": line,
            "numerator": meaning[n],
            "denominator": meaning[d],
            "population": f"{population[n]}; {population[d]}",
            "period": period + (say("until", months=horizon_months) if d == "tenure" else ""),
        }
        for (n, d), line in LINES.items()
    ]
    return Result(pd.DataFrame(rows), say("defined", several=SEVERAL), counts=())


def numerator(acquisition: pd.DataFrame, name: str, blocks: int) -> Functional:
    """Spend per win: of all prospects, or on the won alone."""
    return per(acquisition, "spend" if name == "all" else "spend_won", "won", blocks)


@study
def ratios(
    acquisition: pd.DataFrame,
    upkeep: pd.DataFrame,
    marginal: Result | None = None,
    saved: Result | None = None,
    *,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    resamples: int = 1000,
    seed: int = 0,
) -> Result:
    """Estimate nine ratios of the cost of winning over the cost of keeping a customer.

    Parameters
    ----------
    acquisition : DataFrame
        One row per block of prospects (and channel, segment): ``block`` (from 0), ``n`` prospects, ``spend``,
        ``spend_won`` (money), ``won`` (count).
    upkeep : DataFrame
        One row per block of customers: ``block``, ``years`` at risk, ``retention_cost`` (money), ``customers``,
        ``exits``; with ``tenure_month`` and ``months`` when costs are dated.
    marginal : Result, optional
        From :func:`crmresearch.studies.cost.response`; without it three lines do not apply.
    saved : Result, optional
        From :func:`crmresearch.studies.cost.saved`; without it three lines do not apply.
    horizon_months : int
        End of the tenure denominator, months.
    discount_annual : float
        Annual rate of the discounted version: costs of keeping are discounted to the day of winning.
    resamples, seed : int
        Bootstrap resamples of blocks, and the seed of resamples and of the simultaneous critical value.

    Returns
    -------
    Result
        One row per ratio, with costs as paid and (where they have dates) discounted. Estimates ``S40`` (all spend per
        win over the pooled customer-year) to ``S40i``, as paid.

    Raises
    ------
    InputError
        If columns are missing, a cost is negative, or currencies are mixed.

    Notes
    -----
    Intervals are Fieller's. Those called simultaneous hold together for the eight lines beside S40. Percentile
    intervals are not offered where the denominator is within three standard errors of zero.
    """
    checked(acquisition, ("block", "n", "spend", "spend_won", "won"), ("spend", "spend_won", "won"), "acquisition")
    checked(upkeep, ("block", "years", "retention_cost"), ("years", "retention_cost"), "upkeep")
    wins = enough_wins(acquisition, "prospects")
    need_spend(acquisition)
    if not upkeep["retention_cost"].sum() > 0:
        raise NotApplicable(say("no_retention"), "contacts")
    blocks = max(b.unit_of(acquisition, upkeep), *(x.details["blocks"] for x in (marginal, saved) if applies(x)), 0)
    slope = marginal.details["slope"] if applies(marginal) else _why(marginal, say("no_marginal"))
    per_win = {n: numerator(acquisition, n, blocks) for n in ("all", "won")}
    grid, months = pairs_of(per_win, upkeep, slope, saved, blocks, horizon_months, discount_annual)
    others = [both for line, both in grid.items() if line != "S40" and not isinstance(both, Missing)]
    critical = {c: b.simultaneous([both[c] for both in others if c in both], seed) for c in (PAID, DISCOUNTED)}
    weights = b.resampled(blocks, resamples, seed)
    people, short = int(acquisition["n"].sum()), say.names("short")
    rows: list[dict[str, Any]] = []
    estimates: dict[str, Estimate | Missing] = {}
    for (n, d), line in LINES.items():
        row: dict[str, Any] = {"line": line, "winning": short[n], "keeping": short[d], "n": people}
        both = grid[line]
        if isinstance(both, Missing):
            estimates[line] = both
            rows.append(row | {"set": say("absent", reason=both.reason)})
            continue
        seen = _seen(months, horizon_months) if d == "tenure" else ()
        estimates[line] = replace(b.ratio(*both[PAID], "ratio", people), checks=seen)
        for costs, pair in both.items():
            low, high = b.ratio_set(*pair, critical[costs]).ends
            rows.append(
                row
                | {"costs": costs}
                | measured(pair, weights)
                | {"simultaneous_low": low, "simultaneous_high": high}
                | tenure(d, costs, months)
            )
    table = leading(pd.DataFrame(rows), "line", "winning", "keeping", "costs", "ratio", "ci_low", "ci_high")
    one_sided = of_groups(acquisition, "block", "spend") | of_groups(upkeep, "block", "retention_cost")
    table = safe(table.assign(whose=one_sided), parts=False)
    known = table[table["costs"] != DISCOUNTED] if "costs" in table else table
    known = known.dropna(subset=["ratio"]) if "ratio" in known else known.iloc[:0]
    return Result(
        table,
        _sentence(known, estimates["S40"]),
        checks=(wins_gate(wins),),
        estimates=estimates,
        picture=_picture(known, people),
        money=MONEY,
        details={"cost_per_win": per_win["all"]},
    )  # fmt: skip


def _ask(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting], Estimate | Missing]:
    effect, money = given["effect_months"], frames("cost.currency")
    horizon = given["tenure_months"]
    found = ratios(
        frames("cost.acquisition"),
        frames("cost.upkeep"),
        response(frames("cost.prospects"), currency=money),
        saved_of(frames("cost.campaigns", horizon_months=effect), horizon_months=effect, currency=money),
        horizon_months=horizon,
        discount_annual=given["annual_discount"],
        resamples=given["resamples"],
        seed=given["seed"],
    )

    def one(setting: Setting) -> Estimate | Missing:
        line = LINES[setting["winning"], setting["keeping"]]
        paid = found.finding(line)
        if isinstance(paid, Missing) or setting["costs"] == PAID:
            return paid
        rows = found.table
        own = rows[(rows["line"] == line) & (rows["costs"] == DISCOUNTED)].dropna(subset=["ratio"])
        if own.empty:
            return Missing(say("undated"), ("contacts",))
        row = own.iloc[0]
        months = row.get("tenure_months", np.nan)  # a discounted year rests on the tenure curve, too
        seen = () if pd.isna(months) else _seen(int(months), horizon)
        checks = (*(c for c in paid.checks if c.name not in {s.name for s in seen}), *seen)
        value, low, high = (float(row[c]) for c in ("ratio", "ci_low", "ci_high"))
        return replace(paid, value=value, ci_low=low, ci_high=high, se=None, checks=checks)

    return one


def _above(frames: Frames, given: Mapping[str, Any]) -> Callable[[Setting, float], Functional | Missing]:
    """Cost of winning less so many times that of keeping: no denominator that may be zero divides anything."""
    effect, acquisition, upkeep = given["effect_months"], frames("cost.acquisition"), frames("cost.upkeep")
    lacking = next((x for x in (acquisition, upkeep) if isinstance(x, Missing)), None)
    if lacking is not None:
        return lambda setting, at: lacking
    marginal = response(frames("cost.prospects"))
    saved = saved_of(frames("cost.campaigns", horizon_months=effect), horizon_months=effect)
    blocks = max(b.unit_of(acquisition, upkeep), *(x.details["blocks"] for x in (marginal, saved) if applies(x)), 0)
    slope = marginal.details["slope"] if applies(marginal) else _why(marginal, say("no_marginal"))
    per_win = {n: numerator(acquisition, n, blocks) for n in ("all", "won")}
    grid, _ = pairs_of(per_win, upkeep, slope, saved, blocks, given["tenure_months"], given["annual_discount"])

    def above(setting: Setting, at: float) -> Functional | Missing:
        both = grid[LINES[setting["winning"], setting["keeping"]]]
        if isinstance(both, Missing) or setting["costs"] not in both:
            return both if isinstance(both, Missing) else Missing(say("undated"), ("contacts",))
        top, bottom = both[setting["costs"]]
        return top - at * bottom

    return above


def _bound(bound: Bound, setting: Setting) -> Bound | None:
    """The word several means at least two, or another number that a reader may have in mind."""
    return replace(bound, at=setting["several"])


CHOICES = Choices(
    "S40",
    {"winning": ("all", "won", "marginal"), "keeping": ("year", "tenure", "saved"), "costs": (PAID, DISCOUNTED),
     "several": (SEVERAL, 1.5, 3.0)},
    _ask,
    _bound,
    _above,
)  # fmt: skip


def _seen(months: int | None, horizon_months: int) -> tuple[Check, ...]:
    if months is None:
        return ()
    if months >= horizon_months:
        return (gate(say, "seen", True, horizon=horizon_months),)
    return (gate(say, "ends", False, months=months, horizon=horizon_months, least=MIN_AT_RISK),)


def tenure(denominator: str, costs: str, months: int | None) -> dict[str, int]:
    """Months of tenure a row rests on, where it rests on a tenure curve."""
    rests = denominator == "tenure" or (denominator == "year" and costs == DISCOUNTED)
    return {"tenure_months": months} if rests and months is not None else {}


def pairs_of(
    per_win: dict[str, Functional],
    upkeep: pd.DataFrame,
    slope: Functional | Missing,
    saved: Any,
    blocks: int,
    horizon_months: int,
    rate: float,
) -> tuple[dict[str, dict[str, Pair] | Missing], int | None]:
    """Each line with costs as paid and (where they have dates) discounted, or why it does not apply; months of tenure.

    ``per_win`` has the cost per win of ``all`` spend and of that on the ``won``. The months are those the tenure curve
    is seen for, None without dates.
    """
    one = constant(1.0, blocks)
    top: dict[str, Pair | Missing] = {n: (f, one) for n, f in per_win.items()}
    top["marginal"] = slope if isinstance(slope, Missing) else (one, slope.over(blocks))
    plain, months = _denominators(upkeep, saved, blocks, horizon_months, 0.0)
    discounted, _ = _denominators(upkeep, saved, blocks, horizon_months, rate)
    out: dict[str, dict[str, Pair] | Missing] = {}
    for (n, d), line in LINES.items():
        winning, keeping, later = top[n], plain[d], discounted[d]
        if isinstance(winning, Missing) or isinstance(keeping, Missing):
            out[line] = next(x for x in (winning, keeping) if isinstance(x, Missing))
            continue
        pairs = {PAID: _pair(winning, keeping)}
        if months is not None and not isinstance(later, Missing):
            pairs[DISCOUNTED] = _pair(winning, later)
        out[line] = pairs
    return out, months


def measured(pair: Pair, weights: Array) -> dict[str, Any]:
    """Ratio with Fieller's set and percentiles of resamples; infinite ends where the set is not an interval."""
    num, den = pair
    found = b.ratio_set(num, den)
    low = high = np.nan  # a weak denominator has no percentiles worth printing
    text = say("interval") if found.kind == "bounded" else written(found)
    if abs(den.z) >= WEAK:
        draws = num.redrawn(weights) / den.redrawn(weights)
        if empty := int(np.isnan(draws).sum()):
            text += say("empty", empty=empty, resamples=len(draws))
        else:
            _, low, high = from_draws(draws)
    return {
        "ratio": num.value / den.value if den.value else np.nan,
        "ci_low": found.ends[0],
        "ci_high": found.ends[1],
        "set": text,
        "bootstrap_low": low,
        "bootstrap_high": high,
    }


def applies(x: Any) -> TypeGuard[Result]:
    """Whether a study was given and could be made."""
    return isinstance(x, Result) and x.applicable


def _why(x: Any, otherwise: str) -> Missing:
    if isinstance(x, Result) and x.missing is not None:
        return x.missing
    return x if isinstance(x, Missing) else Missing(otherwise)


def _denominators(
    upkeep: pd.DataFrame, saved: Any, blocks: int, horizon: int, rate: float
) -> tuple[dict[str, Pair | Missing], int | None]:
    """Each denominator as (numerator part, denominator part): its value is the second over the first; months seen."""
    one = constant(1.0, blocks)
    out: dict[str, Pair | Missing] = {"year": (one, per(upkeep, "retention_cost", "years", blocks))}
    life = None
    if "tenure_month" in upkeep:
        life = lifetime_cost(upkeep, "retention_cost", blocks, horizon, rate)
        out["tenure"] = (one, life.cost) if life.months else Missing(say("no_curve"))
        if rate:
            # the discounted year is the level payment per year with the same present value over the tenure
            out["year"] = (life.years, life.cost) if life.months else out["tenure"]
    elif (upkeep["exits"] == upkeep["customers"]).all():
        out["tenure"] = (one, per(upkeep, "retention_cost", "customers", blocks))
    else:
        out["tenure"] = Missing(say("censored"))
    if not applies(saved):
        out["saved"] = _why(saved, say("no_saving"))
    elif not saved.details["spend"].value > 0:
        out["saved"] = Missing(say("no_price"), ("contacts",))
    else:
        middle = (1 + rate) ** (-saved.details["horizon_months"] / 24)
        out["saved"] = (middle * saved.details["years"].over(blocks), saved.details["spend"].over(blocks))
    return out, None if life is None else life.months


def _pair(top: Pair, bottom: Pair) -> Pair:
    """Write (a / b) / (d / c) as a c / (b d): no part that may be zero stands in a denominator of its own."""
    return product(top[0], bottom[0]), product(top[1], bottom[1])


def _sentence(known: pd.DataFrame, first: Estimate | Missing) -> str:
    if isinstance(first, Missing):
        return say("no_primary")
    several = int((known["ci_low"] > SEVERAL).sum())
    bounded = known.loc[np.isfinite(known["ci_high"]), "ratio"]
    sentence = say(
        "sentence", first=first, count=len(known), least=bounded.min(), most=bounded.max(), several=several,
        mark=SEVERAL,
    )  # fmt: skip
    return sentence + (
        say("unbounded", count=len(known) - len(bounded)) if len(bounded) < len(known) else words.local(".")
    )


def _picture(known: pd.DataFrame, people: int) -> Picture | None:
    """Dots and intervals, with the essays' claim as a line."""
    if not len(known):
        return None
    finite = known.loc[np.isfinite(known["ci_high"]), ["ci_low", "ci_high", "ratio"]].to_numpy(float)
    positive = finite[finite > 0]
    low, high = (positive.min() / 2, positive.max() * 2) if positive.size else (0.1, 10.0)
    data = known.assign(
        label=known["line"] + "  " + known["winning"] + " / " + known["keeping"],
        group=known["winning"],
        estimate=known["ratio"],
        text=known["ratio"].map("{:,.2f}".format).where(known["set"].str.startswith(say("interval")), known["set"]),
    )
    options = {
        "log": True,
        "limits": (min(low, SEVERAL / 2), max(high, SEVERAL * 2)),
        "marks": [Mark(SEVERAL, say("claim", several=SEVERAL), "claim")],
    }
    bounded = known.loc[np.isfinite(known["ci_high"]), "ratio"]
    main = known.loc[known["line"] == "S40", "ratio"]
    title = say("title_open", least=bounded.min(), most=bounded.max())
    if len(main):
        title = say("title", main=main.iloc[0], least=bounded.min(), most=bounded.max())
    return Picture("intervals", data, title, say("x", n=people), "", options)
