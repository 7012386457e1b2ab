"""Word of mouth: who recommends the bank, and what the recommended customers are worth."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import Estimate, wilson
from crmresearch.estimators.measurement import referral
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.panel import answers_with_accounts
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate
from crmresearch.rules import nobodys, whose
from crmresearch.studies.loyalty.answers import cells, forest, respondents, survey_study

say = words.of("loyalty.referral")
FEW_EVENTS, MIN_EVENTS = 30, 50  # below which there is no estimate, and below which the gate closes
MIN_REFERRED, MIN_MONEY = 50, 100
OVERLAP = 0.9  # least share of referred customers with a match


@survey_study
def referral_rate(joined: pd.DataFrame, model: PathModel) -> Result:
    """Referrals after the survey by satisfaction, accounts held equal (:func:`.referral_ratio`).

    Estimates ``S44``: rate ratio for one standard deviation of the satisfaction score.
    """
    if "referrals" not in joined.columns:
        raise NotApplicable(say("rate.absent"), "customers")
    model.need("satisfaction")
    rows = answers_with_accounts(joined, model)
    rows = rows[rows["exposure_years"] > 0]
    total, years = rows["referrals"].sum(), rows["exposure_years"].sum()
    if total < FEW_EVENTS:
        raise NotApplicable(say("rate.few", total=total, needed=FEW_EVENTS), "customers")
    ratio = referral.referral_ratio(rows, say("rate.unit"))
    band = pd.qcut(rows["satisfaction"], 4, labels=list(say.names("rate.bands").values())).rename("satisfaction")
    table = rows.groupby(band, observed=True).agg(
        referrals=("referrals", "sum"), years=("exposure_years", "sum"), n=("referrals", "size")
    )
    table = table.rename_axis("satisfaction").reset_index().astype({"satisfaction": str, "referrals": float})
    table["rate"], table["low"], table["high"] = referral.poisson_rates(table["referrals"], table["years"])
    table = safe(table, (("n",), ("referrals",)))
    sentence = say("rate.sentence", ratio=ratio, total=total, years=years)
    title = say("rate.title_more") if ratio.ci_low > 1 else say("rate.title_open")
    title, x = say("rate.title_fewer") if ratio.ci_high < 1 else title, say("rate.x", n=len(rows))
    return Result(
        table[["satisfaction", "rate", "low", "high", "referrals", "n"]],
        sentence,
        checks=(respondents(), gate(say, "rate.gate", total >= MIN_EVENTS, total=total, needed=MIN_EVENTS)),
        estimates={"S44": ratio},
        picture=forest(table, "satisfaction", "rate", title, x, mark=None),
    )


@survey_study
def referral_gaps(referred: pd.DataFrame, *, resamples: int = 500, seed: int) -> Result:
    """Referred customers against matched others: contribution and stay by year since they were won.

    Cells are half-year of acquisition, city tier and age band. Customers are matched exactly by cell; others are
    weighted to the referred ones' cells, cells without both are left out. Schmitt, Skiera and Van den Bulte (2011)
    found a margin gap that fades and a retention gap that lasts. Matching removes what the cells hold, nothing else.

    Estimates ``S44a`` (hazard ratio of exit, stratified by cell) and ``S44b`` (contribution in the first year).
    """
    rows, share = referral.matched(referred)
    flag = rows["referred"].to_numpy(bool)
    if min(flag.sum(), (~flag).sum()) < MIN_REFERRED:
        raise NotApplicable(say("gaps.few", n=flag.sum(), needed=MIN_REFERRED), "customers")
    years = [int(c.split("_")[1]) for c in rows.columns if c.startswith("contribution_")]
    stay = referral.stay_gap(rows, max(years or [3]), resamples=resamples, seed=seed)
    gains = {
        year: referral.within_cells(
            rows.dropna(subset=[f"contribution_{year}"]), f"contribution_{year}", say("gaps.money")
        )
        for year in years
    }
    lines = [(say("gaps.stay"), year, e) for year, e in stay.items()]
    lines += [(say("gaps.contribution"), year, e) for year, e in gains.items() if e is not None and e.n >= MIN_MONEY]
    table = pd.DataFrame({"gap": gap, "year": year, **cells(e), "n": e.n} for gap, year, e in lines)
    own = {(say("gaps.contribution"), year): whose(rows[f"contribution_{year}"].dropna()) for year in years}
    stays = nobodys("a share who stay")
    table["whose"] = [own.get((gap, year), stays) for gap, year, _ in lines]
    table = safe(table, parts=False)
    events, of = int(rows["event"].sum()), int(referred["referred"].sum())
    checks = (
        gate(say, "gaps.overlap", Deviation(*wilson(share * of, of), limit=OVERLAP, least=True)),
        gate(say, "gaps.events", events >= MIN_EVENTS, events=events, needed=MIN_EVENTS),
    )
    estimates, told = {}, ""
    if events >= FEW_EVENTS:
        estimates["S44a"] = referral.stay_ratio(rows, say("gaps.hazard"))
        told = say("gaps.leave", ratio=estimates["S44a"])
    else:
        few = gate(say, "gaps.no_hazard", False, events=events, needed=FEW_EVENTS)
        estimates["S44a"] = Estimate(np.nan, np.nan, np.nan, say("gaps.hazard"), len(rows), checks=(few,))
    contributed = table["gap"] == say("gaps.contribution")
    first = gains.get(1) if (contributed & (table["year"] == 1) & table["n"].notna()).any() else None
    if first is not None:
        estimates["S44b"] = first
        told += say("gaps.and_give", first=first) if told else say("gaps.give", first=first)
    else:
        none = gate(say, "gaps.no_money", False)
        estimates["S44b"] = Estimate(np.nan, np.nan, np.nan, say("gaps.money"), len(rows), checks=(none,))
    sentence = say("gaps.sentence", told=told, referred=int(flag.sum()), share=share)
    options, panels = {"upright": True, "marks": [Mark(0, style="limit")]}, []
    for part, titles, unit, y in (
        (table[contributed], say.names("gaps.money_titles"), "money", say("gaps.money_y")),
        (table[~contributed], say.names("gaps.stay_titles"), "percent", say("gaps.stay_y")),
    ):
        if len(part):
            begin = part.iloc[0]
            title = titles["more" if begin["low"] > 0 else "less" if begin["high"] < 0 else "open"]
            shown, x = part.rename(columns={"year": "label"}), say("gaps.x", n=part["n"].iloc[0])
            panels.append(Picture("intervals", shown, title, x, y, options | {"unit": unit}))
    return Result(table, sentence, checks, estimates, picture=tuple(panels), money=["estimate"])
