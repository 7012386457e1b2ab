"""Are referred customers worth more? Word of mouth as a channel that costs little and may bring better customers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.cost import ratio as r
from crmresearch.errors import Missing
from crmresearch.result import Check, Estimate, Result, one_sided_p, study

__all__ = ["referral_value"]


@study
def referral_value(groups: pd.DataFrame, *, currency: str = "") -> Result:
    """Contribution and exits of referred customers against others of the same stratum.

    Parameters
    ----------
    groups : DataFrame
        One row per block, stratum (year of winning, city tier, age band) and ``referred`` (0/1): ``customers``, ``years`` at
        risk, ``exits``, ``contribution`` (money).
    currency : str
        For the sentence.

    Returns
    -------
    Result
        ``S44b``: contribution per customer-year, referred less others at the referred customers' mix of strata. ``S44a``: exits
        of the referred over those expected at the others' rates.

    Notes
    -----
    Matching is exact on what the strata hold. Who refers whom is not random, so a difference is an association.

    References
    ----------
    Schmitt, Skiera, Van den Bulte (2011). Referral programs and customer value. *J. Marketing* 75, 46-59.
    """
    r.checked(
        groups,
        ("block", "stratum", "referred", "customers", "years", "exits", "contribution"),
        ("years", "exits"),
        "groups",
    )
    blocks = r.unit_of(groups)
    years = groups.pivot_table(index="stratum", columns="referred", values="years", aggfunc="sum", fill_value=0.0)
    if not {0, 1} <= set(years.columns):
        return Result.not_applicable(Missing("no referred customers, or no others", ("customers",)))
    both = years.index[(years[0] > 0) & (years[1] > 0)]
    used = groups[groups["stratum"].isin(both)]
    count = used.groupby("referred")["customers"].sum()
    lost = 1 - years.loc[both, 1].sum() / years[1].sum()
    if len(count) < 2 or count.min() < 50 or used.loc[used["referred"] == 1, "exits"].sum() < 10:
        return Result.not_applicable(
            Missing("fewer than 50 matched customers or 10 exits among the referred", ("customers",))
        )
    gain, money_expected = _matched(used, "contribution", blocks)
    exits, exits_expected = _matched(used, "exits", blocks)
    own = used[used["referred"] == 1]
    whole = r.constant(float(own["years"].sum()), blocks)
    extra = r.mean_ratio(r.by_block(own, "contribution", blocks), r.by_block(own, "years", blocks))
    others = r.Functional(money_expected.value / whole.value, _per_year(money_expected, own, blocks))
    more = r.difference(extra, others)
    hazard = exits.value / exits_expected.value
    log = exits.influence / exits.value - exits_expected.influence / exits_expected.value
    spread = float(np.sqrt(r.Functional(0.0, log).variance))
    ends = np.exp(np.log(hazard) + np.array([-1.959964, 1.959964]) * spread)
    low, high = more.interval()
    n = int(count.sum())
    rows: list[dict[str, Any]] = [
        {"quantity": "contribution per customer-year, referred", "value": extra.value, "ci_low": extra.interval()[0],
         "ci_high": extra.interval()[1]},
        {"quantity": "the same, matched others", "value": others.value, "ci_low": others.interval()[0],
         "ci_high": others.interval()[1]},
        {"quantity": "difference", "value": more.value, "ci_low": low, "ci_high": high},
        {"quantity": "exits over those expected", "value": hazard, "ci_low": ends[0], "ci_high": ends[1]},
    ]  # fmt: skip
    estimates = {
        "S44b": Estimate(more.value, low, high, "money per customer-year", n, one_sided_p(more.value, more.se, 0.0), more.se),
        "S44a": Estimate(
            float(hazard), float(ends[0]), float(ends[1]), "hazard ratio", n,
            one_sided_p(float(np.log(hazard)), spread, 0.0, "below"), float(hazard * spread),
        ),
    }  # fmt: skip
    return Result(
        pd.DataFrame(rows).assign(n=n),
        f"Referred customers bring {more.value:,.0f} [{low:,.0f}, {high:,.0f}] {currency} a year more than others of the same "
        f"year of winning, city tier and age, and leave at {hazard:.2f} [{ends[0]:.2f}, {ends[1]:.2f}] times their rate.",
        checks=(
            Check.of(
                "matched",
                lost < 0.1,
                f"{lost:.1%} of the referred customer-years have no like others; 10% allowed",
                "undecided",
            ),
        ),
        estimates=estimates,
        details={"gain": gain},
    )


def _matched(used: pd.DataFrame, column: str, blocks: int) -> tuple[r.Functional, r.Functional]:
    """Total of the referred, and the total expected at the others' rate in each stratum."""
    code, strata = pd.factorize(used["stratum"], sort=True)
    block, size = used["block"].to_numpy(np.intp), len(strata)
    is_referred = used["referred"].to_numpy() == 1
    years, value = used["years"].to_numpy(float), used[column].to_numpy(float)
    y1 = np.bincount(code[is_referred], years[is_referred], minlength=size)
    y0 = np.bincount(code[~is_referred], years[~is_referred], minlength=size)
    rate = np.bincount(code[~is_referred], value[~is_referred], minlength=size) / y0
    mine = np.where(is_referred, value, 0.0)
    observed = r.Functional(float(mine.sum()), np.bincount(block, mine, minlength=blocks) - mine.sum() / blocks)
    part = np.where(is_referred, years * rate[code], (value - rate[code] * years) * y1[code] / y0[code])
    expected = np.bincount(block, part, minlength=blocks)
    return observed, r.Functional(float(y1 @ rate), expected - expected.sum() / blocks)


def _per_year(expected: r.Functional, own: pd.DataFrame, blocks: int) -> r.Array:
    """Influence of expected money per referred year, whose number is itself a sum over blocks."""
    years = r.by_block(own, "years", blocks)
    value = expected.value / years.sum()
    return np.asarray((expected.influence - value * (years - years.mean())) / years.sum())
