"""From words to behaviour: what customers say against what they do, and what satisfaction goes with later.

Every association here is adjusted for what the accounts knew before the wave, and for nothing else.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import few, safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, ends, normal, wilson
from crmresearch.estimators.measurement import panel
from crmresearch.estimators.measurement.links import slopes
from crmresearch.estimators.measurement.model import PathModel, complete_answers, construct_scores
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit
from crmresearch.estimators.measurement.response import clustered_mean, stated_against_actual
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Result, gate
from crmresearch.rules import whose
from crmresearch.studies.loyalty.answers import forest, respondents, survey_study, tabled

say = words.of("loyalty.behaviour")
LAGS = (1, 3, 6)  # months between answer and the start of follow-up; 3 is the one that decides
MIN_EVENTS = 50
MIN_STATED, MIN_ACCOUNTS, MIN_DIGITAL = 100, 200, 101  # answers with what is asked for
DOMINATING = 0.5  # part of one answer in the variance of an estimate that is too much


@survey_study
def intention_behaviour(joined: pd.DataFrame, *, stated: str = "switch_chance", horizon_months: int = 12) -> Result:
    """Stated chance of leaving against the share that left within the horizon.

    Garland (2002) found a stated chance of 10% where 5% left within a year.

    Parameters
    ----------
    joined : DataFrame
        ``stated`` (percent or share), ``left`` (0/1, missing without full follow-up), ``customer_id``.
    """
    if stated not in joined.columns:
        raise NotApplicable(say("intention.absent", stated=stated))
    rows = joined.dropna(subset=[stated, "left"])
    if len(rows) < MIN_STATED:
        raise NotApplicable(say("intention.few", n=len(rows), needed=MIN_STATED))
    chance, left = rows[stated].to_numpy(float), rows["left"].to_numpy(float)
    chance = chance / 100 if chance.max() > 1 else chance
    frame = pd.DataFrame({"stated": chance, "actual": left})
    bands = frame.groupby(pd.qcut(chance, 5, labels=False, duplicates="drop"))
    table = bands.agg(stated=("stated", "mean"), actual=("actual", "mean"), n=("actual", "size"))
    table = table.reset_index(drop=True)
    _, low, high = wilson(table["actual"] * table["n"], table["n"])
    table.insert(2, "low", low)
    table.insert(3, "high", high)
    table["left"] = (table["actual"] * table["n"]).round()
    table = safe(table, ("n", "left")).drop(columns="left")
    if table["n"].isna().all():
        raise NotApplicable(say("intention.few", n=len(rows), needed=MIN_STATED))
    mean, ratio, gap = stated_against_actual(chance, left, rows["customer_id"].to_numpy())
    sentence = say("intention.sentence", mean=mean, months=horizon_months, ratio=ratio)
    if not left.any():
        sentence = say("intention.nobody", mean=mean, months=horizon_months)
    enough = left.sum() >= MIN_EVENTS
    shown = table.rename(columns={"stated": "predicted", "actual": "observed"})
    options = {"unit": "percent", "agreement": say("intention.agreement")}
    last = table.dropna(subset="n").iloc[-1]
    axes = (
        say("intention.title", last=last),
        say("intention.x", n=len(rows)),
        say("intention.y", months=horizon_months),
    )
    picture = Picture("calibration", shown, *axes, options=options, size=(5.6, 5.0))
    checks = (gate(say, "intention.gate", enough, exits=left.sum(), needed=MIN_EVENTS),)
    estimates = {"stated_over_actual": ratio, "stated_less_actual": gap}
    if few(left.sum()):  # either gives them back
        sentence, estimates = say("intention.hidden", mean=mean, months=horizon_months, n=len(rows)), {}
    return Result(table, sentence, checks, estimates, picture=picture, counts=("n",))


@survey_study
def exit_hazard(joined: pd.DataFrame, model: PathModel, *, lag_months: int = 3, follow_months: int = 12) -> Result:
    """Satisfaction as a lagged covariate of the hazard of voluntary exit.

    Cox model, stratified by wave, from ``lag_months`` after the answer on; standard errors by customer. Lags of 1, 3
    and 6 months are shown, ``lag_months`` decides. Exits in the lag are left out, so that a customer who answers on the
    way out does not count as cause and effect at once.

    Estimates ``S12a``: hazard ratio for one standard deviation of the satisfaction score.
    """
    model.need("satisfaction")
    rows = panel.answers_with_accounts(joined, model)
    fits = [panel.leaving(rows, lag, follow_months, say("hazard.unit")) for lag in sorted({*LAGS, lag_months})]
    found = {f.lag: f for f in fits if f is not None}
    main = found.get(lag_months)
    if main is None:
        raise NotApplicable(say("hazard.few"), "survey", "customers")
    names = [say("hazard.month") if lag == 1 else say("hazard.months", lag=lag) for lag in found]
    table = tabled({name: f.ratio for name, f in zip(names, found.values(), strict=True)}, "lag", "hazard_ratio")
    table.insert(4, "events", [f.events for f in found.values()])
    checks = [respondents(), gate(say, "hazard.gate", main.events >= MIN_EVENTS, main=main, needed=MIN_EVENTS)]
    halves = panel.early_and_late(rows, lag_months, follow_months)
    if halves is not None:
        first, later, se = halves
        # as for the relationship index: a move by its own size, and by .2 at least
        moved = Deviation(later - first, *ends(later - first, se), limit=max(abs(math.log(main.ratio.value)), 0.2))
        checks.append(gate(say, "hazard.halves", moved, halves=halves))
    sentence = say("hazard.sentence", main=main)
    title = say("hazard.title_open")
    if main.ratio.ci_high < 1 or main.ratio.ci_low > 1:
        title = say("hazard.title", main=main)
    x = say("hazard.x", n=main.ratio.n)
    picture = forest(table, "lag", "hazard_ratio", title, x, mark=1)
    estimates = {"S12a": main.ratio}
    return Result(table, sentence, tuple(checks), estimates, picture=picture, counts=(("n",), ("events",)))


@survey_study
def later_contribution(joined: pd.DataFrame, model: PathModel, *, horizon_months: int = 12) -> Result:
    """Contribution after the survey by satisfaction, accounts before it held equal.

    Least squares, standard errors by customer. Contribution after an exit is 0, so staying counts. Estimates ``S12``:
    money per customer-year for one standard deviation of the satisfaction score.
    """
    if "contribution_after" not in joined.columns:
        raise NotApplicable(say("contribution.absent"), "monthly")
    model.need("satisfaction")
    rows = panel.answers_with_accounts(joined, model).dropna(subset=["contribution_after"])
    if len(rows) < MIN_ACCOUNTS:
        raise NotApplicable(say("contribution.few", n=len(rows), needed=MIN_ACCOUNTS), "survey", "monthly")
    alone, equal, largest = panel.contribution_slopes(rows, say("contribution.unit"))
    both = {say("contribution.alone"): alone, say("contribution.equal"): equal}
    table = safe(tabled(both, "model", "money_per_sd").assign(whose=whose(rows["contribution_after"])), parts=False)
    mean = rows["contribution_after"].mean()
    sentence = say("contribution.sentence", estimate=equal, months=horizon_months, mean=mean)
    clear = equal.ci_low > 0 or equal.ci_high < 0
    title = say("contribution.title", estimate=equal) if clear else say("contribution.title_open")
    x = say("contribution.x", n=len(rows))
    picture = forest(table, "model", "money_per_sd", title, x, unit="money")
    checks = (respondents(), gate(say, "contribution.gate", largest < DOMINATING, largest=largest))
    return Result(table, sentence, checks, {"S12": equal}, picture=picture, money=["money_per_sd"], digits=1)


@survey_study
def other_banks(survey: pd.DataFrame, model: PathModel, *, banks: str = "other_banks") -> Result:
    """Satisfaction by the number of other banks a customer uses (S48a).

    Dawes (2024): users of more banks rate each of them lower.
    """
    if banks not in survey.columns:
        raise NotApplicable(say("banks.absent", banks=banks))
    items = complete_answers(survey, model)
    (name,) = model.need("satisfaction")
    rows = survey.loc[items.index].assign(satisfaction=construct_scores(items, model)[name]).dropna(subset=[banks])
    count, score = np.minimum(rows[banks].to_numpy(float), 3), rows["satisfaction"].to_numpy()
    who = rows["customer_id"].to_numpy() if "customer_id" in rows else np.arange(len(rows))
    levels = np.unique(count)
    if len(levels) < 2:
        raise NotApplicable(say("banks.same"))
    found = {}
    for level in levels:
        own, label = count == level, say("banks.most") if level == 3 else f"{level:.0f}"
        found[label] = normal(*clustered_mean(score[own], who[own]), say("banks.unit"), int(own.sum()))
    table = safe(tabled(found, "other_banks", "satisfaction"))
    beta, cov = slopes(pd.DataFrame({"constant": 1.0, "banks": count}), score, who)
    slope = normal(beta[1], float(np.sqrt(cov[1, 1])), say("banks.unit"), len(count))
    sentence = say("banks.sentence", slope=slope)
    title = say("banks.title_less") if slope.ci_high < 0 else say("banks.title_open")
    title = say("banks.title_more") if slope.ci_low > 0 else title
    x = say("banks.x", n=len(count))
    picture = forest(table, "other_banks", "satisfaction", title, x)
    return Result(table, sentence, (respondents(),), {"S48a": slope}, picture=picture)


@survey_study
def privacy_behaviour(joined: pd.DataFrame, model: PathModel) -> Result:
    """Consent and digital use by privacy concern: odds ratio of consent, change of the digital share, per deviation.

    Estimates, for one standard deviation of privacy concern: ``S16a``, odds ratio of consent to marketing, and
    ``S16c``, digital share of transactions.
    """
    if model.role("privacy") is None:
        raise NotApplicable(say("privacy.absent"))
    model.need("satisfaction")
    rows = panel.answers_with_accounts(joined, model)
    design = pd.concat([rows["privacy"], panel.account_covariates(rows)], axis=1).astype(float)
    who, found = rows["customer_id"].to_numpy(), {}
    lines: dict[str, Estimate | Missing] = {
        "S16a": Missing(say("privacy.none"), ("customers",)),
        "S16c": Missing(say("privacy.none"), ("transactions",)),
    }
    consent = rows["consent_marketing"] if "consent_marketing" in rows else pd.Series(index=rows.index, dtype=object)
    known = consent.isin(["yes", "no"]).to_numpy()
    if consent[known].nunique() == 2:
        fit = fit_ordered_logit(design[known], (consent[known] == "yes").to_numpy().astype(int), cluster=who[known])
        odds = normal(fit.slopes[0], fit.se[0], say("privacy.odds"), int(known.sum()), log=True)
        lines["S16a"] = found[say("privacy.consent")] = odds
    share = rows["digital_share"] if "digital_share" in rows else pd.Series(np.nan, rows.index)
    known = share.notna().to_numpy()
    if known.sum() >= MIN_DIGITAL and np.ptp(share[known]) > 0:  # alike: no channel is known as digital
        beta, cov = slopes(design[known].assign(constant=1.0), share[known].to_numpy(float), who[known])
        used = normal(beta[0], float(np.sqrt(cov[0, 0])), say("privacy.share"), int(known.sum()))
        lines["S16c"] = found[say("privacy.digital")] = used
    if not found:
        raise NotApplicable(say("privacy.none"), "customers", "transactions")
    table = tabled(found, "outcome")
    table.insert(1, "unit", [e.unit for e in found.values()])
    told = "; ".join(say("privacy.told", outcome=name, estimate=e) for name, e in found.items())
    return Result(table, say("privacy.sentence", told=told), (respondents(),), lines)
