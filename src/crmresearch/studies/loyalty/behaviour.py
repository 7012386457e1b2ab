"""From words to behaviour: what customers say against what they do, who answers at all, and which way effects run.

Every association here is adjusted for what the accounts knew before the wave, and for nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.measurement.model import PathModel, complete_answers, survey_study
from crmresearch.estimators.measurement.ordinal import fit_ordered_logit
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots
from crmresearch.studies.loyalty.form import construct_scores, robust_ols
from crmresearch.studies.loyalty.panel import account_covariates, answers_with_accounts
from crmresearch.studies.loyalty.response import weighted_mean

LAGS = (1, 3, 6)  # months between answer and the start of follow-up; 3 is the one that decides
MIN_EVENTS = 50


def _wilson(hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = 1.959964
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


def _cluster_mean(values: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Covariance of column means, by cluster."""
    codes = np.unique(cluster, return_inverse=True)[1]
    sums = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(sums, codes, values - values.mean(axis=0))
    return sums.T @ sums / len(values) ** 2


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
        return Result.not_applicable(
            Missing(f"the survey asks for no chance of leaving (no column {stated})", ("survey",))
        )
    rows = joined.dropna(subset=[stated, "left"])
    if len(rows) < 100:
        return Result.not_applicable(Missing(f"{len(rows)} answers with a full follow-up; 100 are needed", ("survey",)))
    chance = rows[stated].to_numpy(float)
    chance = chance / 100 if chance.max() > 1 else chance
    left = rows["left"].to_numpy(float)
    band = pd.qcut(chance, 5, labels=False, duplicates="drop")
    table = (
        pd.DataFrame({"band": band, "stated": chance, "actual": left})
        .groupby("band")
        .agg(stated=("stated", "mean"), actual=("actual", "mean"), n=("actual", "size"))
        .reset_index(drop=True)
    )
    table["low"], table["high"] = _wilson(table["actual"].to_numpy() * table["n"].to_numpy(), table["n"].to_numpy())
    mean = np.array([chance.mean(), left.mean()])
    cov = _cluster_mean(np.column_stack([chance, left]), rows["customer_id"].to_numpy())
    enough = left.sum() >= MIN_EVENTS
    gap, gap_se = mean[0] - mean[1], float(np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]))
    ratio = mean[0] / mean[1] if mean[1] > 0 else np.inf
    log_se = float(np.sqrt(cov[0, 0] / mean[0] ** 2 + cov[1, 1] / mean[1] ** 2 - 2 * cov[0, 1] / (mean[0] * mean[1])))
    low, high = ratio * np.exp(-1.96 * log_se), ratio * np.exp(1.96 * log_se)
    sentence = (
        f"Customers state a {mean[0]:.1%} chance of leaving and {mean[1]:.1%} left within {horizon_months} months: "
        f"the stated chance is {ratio:.2f} [{low:.2f}, {high:.2f}] times the actual one."
    )
    return Result(
        table[["stated", "actual", "low", "high", "n"]],
        sentence,
        checks=(Check.of("enough exits", enough, f"{left.sum():.0f} exits, {MIN_EVENTS} needed", "undecided"),),
        estimates={
            "stated_over_actual": Estimate(
                ratio, low, high, "ratio", len(rows), one_sided_p(np.log(ratio), log_se, 0), ratio * log_se
            ),
            "stated_less_actual": Estimate(
                gap, gap - 1.96 * gap_se, gap + 1.96 * gap_se, "share", len(rows), se=gap_se
            ),
        },
        draw=lambda ax: plots.calibration(ax, table, horizon_months),
        alt=f"Actual against stated share of leavers in five groups, with intervals and a diagonal. {sentence}",
        figsize=(5.6, 5.0),
    )


def _at_risk(rows: pd.DataFrame, lag: int, follow: int) -> tuple[pd.DataFrame, list[str]]:
    """Rows still at risk ``lag`` months after their answer, for ``follow`` months, and the names of the covariates."""
    left = rows["exit_months"].to_numpy(float) - lag
    rows, left = rows[left > 0], left[left > 0]
    covariates = account_covariates(rows)
    covariates = covariates.drop(columns=[c for c in covariates if str(c).startswith("wave_")])
    spells = covariates.assign(
        satisfaction=rows["satisfaction"].to_numpy(float),
        # whole months: exact dates only make ties rarer and the fit slower
        exit=np.maximum(np.ceil(np.minimum(left, follow)), 1),
        event=rows["event"].to_numpy(int) * (left <= follow),
        wave=rows["wave"].to_numpy(),
        customer_id=rows["customer_id"].to_numpy(),
    )
    return spells, ["satisfaction", *map(str, covariates.columns)]


@survey_study
def exit_hazard(joined: pd.DataFrame, model: PathModel, *, lag_months: int = 3, follow_months: int = 12) -> Result:
    """Satisfaction as a lagged covariate of the hazard of voluntary exit.

    Cox model, stratified by wave, from ``lag_months`` after the answer on; standard errors by customer. Lags of 1, 3
    and 6 months are shown, ``lag_months`` decides. Exits in the lag are left out, so that a customer who answers on the
    way out does not count as cause and effect at once.

    Estimates ``S12a``: hazard ratio for one standard deviation of the satisfaction score.
    """
    from crmresearch.estimators.survival.cox import cox

    model.need("satisfaction")
    rows = answers_with_accounts(joined, model)
    found: list[dict[str, Any]] = []
    for lag in sorted({*LAGS, lag_months}):
        spells, names = _at_risk(rows, lag, follow_months)
        events = int(spells["event"].sum())
        if events < 10 + 5 * len(names):
            continue
        fit = cox(spells, names, strata="wave", cluster="customer_id")
        beta, se = float(fit.params["satisfaction"]), float(fit.se["satisfaction"])
        found.append({"lag_months": lag, "beta": beta, "se": se, "events": events, "n": len(spells)})
    main = next((f for f in found if f["lag_months"] == lag_months), None)
    if main is None:
        return Result.not_applicable(
            Missing("too few exits after the survey for a hazard model", ("survey", "customers"))
        )
    table = pd.DataFrame(found)
    table["hazard_ratio"] = np.exp(table["beta"])
    table["low"], table["high"] = np.exp(table["beta"] - 1.96 * table["se"]), np.exp(table["beta"] + 1.96 * table["se"])
    table["lag"] = [f"{m} month{'s' if m > 1 else ''} after" for m in table["lag_months"]]
    check = _early_late(rows, lag_months, follow_months)
    value, se = main["beta"], main["se"]
    pick = table[table["lag_months"] == lag_months].iloc[0]
    sentence = (
        f"One standard deviation more satisfaction goes with {pick['hazard_ratio']:.2f} [{pick['low']:.2f}, "
        f"{pick['high']:.2f}] times the hazard of leaving, from {lag_months} months after the answer on "
        f"({main['events']} exits)."
    )
    p = one_sided_p(value, se, 0, "below")
    estimate = Estimate(
        pick["hazard_ratio"], pick["low"], pick["high"], "hazard ratio", main["n"], p, pick["hazard_ratio"] * se
    )
    return Result(
        table[["lag", "hazard_ratio", "low", "high", "events", "n"]],
        sentence,
        checks=(Check.of("enough exits", main["events"] >= MIN_EVENTS, f"{main['events']} exits", "undecided"), *check),
        estimates={"S12a": estimate},
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "lag",
            "hazard_ratio",
            f"hazard ratio for one standard deviation of satisfaction (n = {main['n']:,})",
            mark=1,
            title="Leaving from the answer on, by satisfaction",
        ),
        alt=f"Hazard ratios with 95% intervals at lags of 1, 3 and 6 months, and a line at 1. {sentence}",
        counts=("n", "events"),
    )


def _early_late(rows: pd.DataFrame, lag: int, follow: int) -> tuple[Check, ...]:
    """Compare the effect in the first and the second half of the follow-up: proportional hazards in plain form."""
    from crmresearch.estimators.survival.cox import cox

    half = follow // 2
    parts = []
    for start, length in ((lag, half), (lag + half, follow - half)):
        spells, _ = _at_risk(rows, start, length)
        if spells["event"].sum() < 20:
            return ()
        fit = cox(spells, ["satisfaction"], strata="wave")
        parts.append((float(fit.params["satisfaction"]), float(fit.se["satisfaction"])))
    gap = parts[0][0] - parts[1][0]
    se = float(np.hypot(parts[0][1], parts[1][1]))
    p = 2 * one_sided_p(abs(gap), se, 0)
    words = (
        f"log hazard ratio {parts[0][0]:.2f} in the first half of the follow-up, {parts[1][0]:.2f} later (p = {p:.3f})"
    )
    return (Check.of("proportional hazards", p > 0.01, words, "undecided"),)


@survey_study
def later_contribution(joined: pd.DataFrame, model: PathModel, *, horizon_months: int = 12) -> Result:
    """Contribution after the survey by satisfaction, accounts before it held equal.

    Least squares, standard errors by customer. Contribution after an exit is 0, so staying counts. Estimates ``S12``:
    money per customer-year for one standard deviation of the satisfaction score.
    """
    if "contribution_after" not in joined.columns:
        return Result.not_applicable(Missing("the bank brings no table monthly", ("monthly",)))
    model.need("satisfaction")
    rows = answers_with_accounts(joined, model).dropna(subset=["contribution_after"])
    if len(rows) < 200:
        return Result.not_applicable(
            Missing(
                f"{len(rows)} answers with a full year of accounts after them; 200 are needed", ("survey", "monthly")
            )
        )
    y, cluster = rows["contribution_after"].to_numpy(float), rows["customer_id"].to_numpy()
    s = rows["satisfaction"].to_numpy(float)
    one = np.ones(len(rows))
    before = rows["contribution_before"].fillna(rows["contribution_before"].mean()).to_numpy(float)
    adjusted = np.column_stack([one, s, before, account_covariates(rows).to_numpy(float)])
    found = []
    for name, design in (("satisfaction alone", np.column_stack([one, s])), ("accounts held equal", adjusted)):
        beta, cov = robust_ols(design, y, cluster)
        found.append({"model": name, "money_per_sd": beta[1], "se": float(np.sqrt(cov[1, 1])), "n": len(rows)})
    table = pd.DataFrame(found)
    table["low"], table["high"] = table["money_per_sd"] - 1.96 * table["se"], table["money_per_sd"] + 1.96 * table["se"]
    value, se = float(table["money_per_sd"].iloc[1]), float(table["se"].iloc[1])
    # an answer that carries most of the variance of the estimate makes its normal interval worthless
    bread = np.linalg.inv(adjusted.T @ adjusted)
    influence = (adjusted @ bread)[:, 1] * (y - adjusted @ beta)
    largest = float((influence**2).max() / (influence**2).sum())
    low, high = table["low"].iloc[1], table["high"].iloc[1]
    sentence = (
        f"One standard deviation more satisfaction goes with {value:,.1f} [{low:,.1f}, {high:,.1f}] more contribution "
        f"in the following {horizon_months} months, per customer-year, accounts held equal (mean {y.mean():,.0f})."
    )
    return Result(
        table[["model", "money_per_sd", "low", "high", "n"]],
        sentence,
        checks=(
            Check.of(
                "no dominating customer",
                largest < 0.5,
                f"one answer carries {largest:.0%} of the variance of the estimate, half is the limit",
                "undecided",
            ),
        ),
        estimates={
            "S12": Estimate(value, low, high, "money per customer-year", len(rows), one_sided_p(value, se, 0), se)
        },
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "model",
            "money_per_sd",
            f"money per year for one standard deviation of satisfaction (n = {len(rows):,})",
            mark=0,
            title="Satisfaction and later contribution",
        ),
        alt=f"Two slopes with 95% intervals: satisfaction alone, and with accounts held equal. {sentence}",
        digits=1,
    )


@survey_study
def other_banks(survey: pd.DataFrame, model: PathModel, *, banks: str = "other_banks") -> Result:
    """Satisfaction by the number of other banks a customer uses (Dawes 2024: users of more banks rate each lower)."""
    if banks not in survey.columns:
        return Result.not_applicable(
            Missing(f"the survey does not ask about other banks (no column {banks})", ("survey",))
        )
    items = complete_answers(survey, model)
    scores = construct_scores(items, model)[model.need("satisfaction")[0]].to_numpy(float)
    count = survey.loc[items.index, banks].astype(float)
    known = count.notna().to_numpy()
    s, k = scores[known], np.minimum(count[known].to_numpy(), 3)
    who = (
        survey.loc[items.index, "customer_id"].to_numpy()[known]
        if "customer_id" in survey.columns
        else np.arange(known.sum())
    )
    if len(np.unique(k)) < 2:
        return Result.not_applicable(Missing("all customers report the same number of other banks", ("survey",)))
    rows = []
    for level in np.unique(k):
        mean, se = weighted_mean(np.ones((k == level).sum()), s[k == level], who[k == level])
        label = f"{level:.0f}" if level < 3 else "3 or more"
        rows.append(
            {
                "other_banks": label,
                "satisfaction": mean,
                "low": mean - 1.96 * se,
                "high": mean + 1.96 * se,
                "n": int((k == level).sum()),
            }
        )
    table = pd.DataFrame(rows)
    beta, cov = robust_ols(np.column_stack([np.ones(len(k)), k]), s, who)
    se = float(np.sqrt(cov[1, 1]))
    low, high = beta[1] - 1.96 * se, beta[1] + 1.96 * se
    sentence = f"Each further bank goes with {beta[1]:.3f} [{low:.3f}, {high:.3f}] standard deviations of satisfaction."
    return Result(
        table,
        sentence,
        estimates={
            "other_banks": Estimate(
                beta[1], low, high, "standard deviations per bank", len(k), one_sided_p(beta[1], se, 0, "below"), se
            )
        },
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "other_banks",
            "satisfaction",
            f"satisfaction, standard deviations from the mean (n = {len(k):,})",
            mark=0,
            title="Customers of several banks",
        ),
        alt=f"Mean satisfaction with 95% intervals by number of other banks. {sentence}",
    )


@survey_study
def privacy_behaviour(joined: pd.DataFrame, model: PathModel) -> Result:
    """Consent and digital use by privacy concern: odds ratio of consent, change of the digital share, per deviation."""
    if model.role("privacy") is None:
        return Result.not_applicable(Missing("the survey has no construct of privacy concern", ("survey",)))
    model.need("satisfaction")
    rows = answers_with_accounts(joined, model)
    covariates = account_covariates(rows)
    found = []
    consent = rows.get("consent_marketing")
    if (
        consent is not None
        and consent.isin(["yes", "no"]).any()
        and consent[consent.isin(["yes", "no"])].nunique() == 2
    ):
        known = consent.isin(["yes", "no"]).to_numpy()
        x = np.column_stack([rows["privacy"], covariates])[known].astype(float)
        fit = fit_ordered_logit(
            x, (consent[known] == "yes").to_numpy().astype(int), cluster=rows["customer_id"].to_numpy()[known]
        )
        b, se = fit.slopes[0], fit.se[0]
        found.append(
            {
                "outcome": "consent to marketing",
                "unit": "odds ratio",
                "estimate": np.exp(b),
                "low": np.exp(b - 1.96 * se),
                "high": np.exp(b + 1.96 * se),
                "n": int(known.sum()),
            }
        )
    if "digital_share" in rows.columns and rows["digital_share"].notna().sum() > 100:
        known = rows["digital_share"].notna().to_numpy()
        x = np.column_stack([np.ones(known.sum()), rows["privacy"][known], covariates[known]]).astype(float)
        beta, cov = robust_ols(x, rows["digital_share"][known].to_numpy(float), rows["customer_id"].to_numpy()[known])
        se = float(np.sqrt(cov[1, 1]))
        found.append(
            {
                "outcome": "digital share of transactions",
                "unit": "share",
                "estimate": beta[1],
                "low": beta[1] - 1.96 * se,
                "high": beta[1] + 1.96 * se,
                "n": int(known.sum()),
            }
        )
    if not found:
        return Result.not_applicable(
            Missing("neither consent nor digital use is recorded", ("customers", "transactions"))
        )
    table = pd.DataFrame(found)
    sentence = "; ".join(
        f"{r.outcome}: {r.unit} {r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in table.itertuples()
    )
    return Result(table, f"For one standard deviation more privacy concern, {sentence}.")
