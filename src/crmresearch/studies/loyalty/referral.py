"""Word of mouth: who recommends the bank, and what the recommended customers are worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.estimators.measurement.model import PathModel, survey_study
from crmresearch.estimators.measurement.pls import _counts, interval
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots
from crmresearch.studies.loyalty.panel import account_covariates, answers_with_accounts

MIN_EVENTS = 30


@survey_study
def referral_rate(joined: pd.DataFrame, model: PathModel) -> Result:
    """Referrals after the survey by satisfaction: negative binomial rate with exposure, accounts held equal.

    The dispersion comes from Pearson's statistic of the Poisson fit; standard errors are robust and by customer, so
    that it need not be right. Estimates ``S44``: rate ratio for one standard deviation of the satisfaction score.
    """
    import statsmodels.api as sm

    if "referrals" not in joined.columns:
        return Result.not_applicable(Missing("customers carry no referrer_id", ("customers",)))
    model.need("satisfaction")
    rows = answers_with_accounts(joined, model)
    rows = rows[rows["exposure_years"] > 0]
    y = rows["referrals"].to_numpy(float)
    if y.sum() < MIN_EVENTS:
        return Result.not_applicable(
            Missing(f"{y.sum():.0f} referrals by respondents; {MIN_EVENTS} are needed", ("customers",))
        )
    x = np.column_stack([np.ones(len(rows)), rows["satisfaction"], account_covariates(rows)]).astype(float)
    offset = np.log(rows["exposure_years"].to_numpy(float))
    groups = pd.factorize(rows["customer_id"])[0]
    first = sm.GLM(y, x, family=sm.families.Poisson(), offset=offset).fit()
    mu = first.fittedvalues
    alpha = float(max((((y - mu) ** 2 - mu) / mu).sum() / (mu).sum(), 0))
    family = sm.families.NegativeBinomial(alpha=alpha) if alpha > 1e-6 else sm.families.Poisson()
    fit = sm.GLM(y, x, family=family, offset=offset).fit(cov_type="cluster", cov_kwds={"groups": groups})
    beta, se = float(fit.params[1]), float(fit.bse[1])
    band = pd.qcut(rows["satisfaction"], 4, labels=["lowest quarter", "second", "third", "highest quarter"])
    table = (
        pd.DataFrame({"satisfaction": band, "referrals": y, "years": rows["exposure_years"]})
        .groupby("satisfaction", observed=True)
        .agg(referrals=("referrals", "sum"), years=("years", "sum"), n=("years", "size"))
        .reset_index()
    )
    table["satisfaction"] = table["satisfaction"].astype(str)
    rate = table["referrals"] / table["years"]
    # exact Poisson limits by the normal of the square root (Freeman and Tukey); bands are for the eye
    root = np.sqrt(table["referrals"] + 0.375)
    table["rate"] = 100 * rate
    table["low"] = 100 * np.maximum(root - 0.98, 0) ** 2 / table["years"]
    table["high"] = 100 * (root + 0.98) ** 2 / table["years"]
    ratio, low, high = np.exp([beta, beta - 1.96 * se, beta + 1.96 * se])
    sentence = (
        f"One standard deviation more satisfaction goes with {ratio:.2f} [{low:.2f}, {high:.2f}] times the referrals "
        f"({y.sum():.0f} referrals in {rows['exposure_years'].sum():,.0f} customer-years)."
    )
    return Result(
        table[["satisfaction", "rate", "low", "high", "referrals", "n"]],
        sentence,
        checks=(Check.of("enough referrals", y.sum() >= 50, f"{y.sum():.0f} referrals, 50 needed", "undecided"),),
        estimates={"S44": Estimate(ratio, low, high, "rate ratio", len(rows), one_sided_p(beta, se, 0), ratio * se)},
        draw=lambda ax: plots.intervals(
            ax,
            table,
            "satisfaction",
            "rate",
            f"referrals per 100 customer-years (n = {len(rows):,})",
            title="Who recommends the bank",
        ),
        alt=f"Referral rate with 95% intervals by quarter of satisfaction. {sentence}",
        counts=("n", "referrals"),
        details={"alpha": alpha},
    )


@survey_study
def referral_gaps(referred: pd.DataFrame, *, resamples: int = 500, seed: int) -> Result:
    """Referred customers against matched others: contribution and stay by year since they were won.

    Cells are half-year of acquisition, city tier and age band. Customers are matched exactly by cell; others are
    weighted to the referred ones' cells, cells without both are left out. Schmitt, Skiera and Van den Bulte (2011)
    found a margin gap that fades and a retention gap that lasts. Matching removes what the cells hold, nothing else.

    Estimates ``S44a`` (hazard ratio of exit, stratified by cell) and ``S44b`` (contribution in the first year).
    """
    from crmresearch.estimators.survival.cox import cox

    rows = referred.copy()
    rows["cell"] = rows.groupby(["cohort", "city_tier", "age_band"]).ngroup()
    count = rows.groupby("cell")["referred"].agg(["sum", "size"])
    usable = count.index[(count["sum"] > 0) & (count["sum"] < count["size"])]
    matched = float(count.loc[usable, "sum"].sum() / max(count["sum"].sum(), 1))
    rows = rows[rows["cell"].isin(usable)]
    flag = rows["referred"].to_numpy(bool)
    if flag.sum() < 50 or (~flag).sum() < 50:
        return Result.not_applicable(
            Missing(f"{flag.sum()} referred customers with a match; 50 are needed", ("customers",))
        )
    years = [int(c.split("_")[1]) for c in rows.columns if c.startswith("contribution_")]
    found = []
    rng = np.random.default_rng(seed)
    stay = _stay_gap(rows, max(years or [3]), resamples, rng)
    for year, (gap, low, high, n) in stay.items():
        found.append({"gap": "still a customer", "year": year, "estimate": gap, "low": low, "high": high, "n": n})
    estimates: dict[str, Estimate] = {}
    for year in years:
        part = rows.dropna(subset=[f"contribution_{year}"])
        gap, se, n = _cell_difference(part, f"contribution_{year}")
        if n < 100:
            continue
        found.append(
            {
                "gap": "contribution",
                "year": year,
                "estimate": gap,
                "low": gap - 1.96 * se,
                "high": gap + 1.96 * se,
                "n": n,
            }
        )
        if year == 1:
            estimates["S44b"] = Estimate(
                gap, gap - 1.96 * se, gap + 1.96 * se, "money per customer-year", n, one_sided_p(gap, se, 0), se
            )
    events = int(rows["event"].sum())
    checks = [
        Check.of(
            "overlap of referred and others", matched >= 0.9, f"{matched:.0%} of the referred have a match", "undecided"
        )
    ]
    words = ""
    if events >= MIN_EVENTS:
        spells = rows.assign(exit=np.maximum(np.ceil(rows["exit_months"].to_numpy(float)), 1))
        fit = cox(spells, ["referred"], strata="cell")
        beta, se = float(fit.params["referred"]), float(fit.se["referred"])
        ratio, low, high = np.exp([beta, beta - 1.96 * se, beta + 1.96 * se])
        estimates["S44a"] = Estimate(
            ratio, low, high, "hazard ratio", len(rows), one_sided_p(beta, se, 0, "below"), ratio * se
        )
        words = f"Referred customers leave at {ratio:.2f} [{low:.2f}, {high:.2f}] times the hazard of matched others"
    else:
        few = Check("hazard model", "closed", f"{events} exits, {MIN_EVENTS} needed", "undecided")
        estimates["S44a"] = Estimate(np.nan, np.nan, np.nan, "hazard ratio", len(rows), checks=(few,))
    if "S44b" not in estimates:
        none = Check("contribution", "closed", "no contribution in the first year is known", "undecided")
        estimates["S44b"] = Estimate(np.nan, np.nan, np.nan, "money per customer-year", len(rows), checks=(none,))
    checks.append(Check.of("enough exits", events >= 50, f"{events} exits, 50 needed", "undecided"))
    if np.isfinite(estimates["S44b"].value):
        words += (
            "; they" if words else "Referred customers"
        ) + f" contribute {estimates['S44b'].text(0)} more in their first year"
    table = pd.DataFrame(found)
    sentence = f"{words} ({int(flag.sum()):,} referred, {matched:.0%} of them matched)."
    return Result(
        table,
        sentence,
        checks=tuple(checks),
        estimates=estimates,
        draw=lambda ax: _draw_gaps(ax, table),
        alt=f"Left: gap in contribution by year since acquisition. Right: gap in the share still customers. {sentence}",
        panels=2,
    )


def _cell_difference(part: pd.DataFrame, column: str) -> tuple[float, float, int]:
    """Difference within cells, weighted by the referred; variances within cell and arm."""
    g: Any = part.groupby(["cell", "referred"])[column].agg(["mean", "var", "size"]).unstack("referred")  # noqa: PD010
    g = g.dropna(subset=[("size", 0), ("size", 1)])
    if g.empty:
        return np.nan, np.nan, 0
    n1, n0 = g[("size", 1)].to_numpy(float), g[("size", 0)].to_numpy(float)
    w = n1 / n1.sum()
    pooled = {
        k: float((g[("var", k)].fillna(0) * (g[("size", k)] - 1)).sum() / max((g[("size", k)] - 1).sum(), 1))
        for k in (0, 1)
    }
    # a cell with one customer has no variance of its own; it takes the pooled one of its arm
    v1 = np.where(n1 > 1, g[("var", 1)].fillna(pooled[1]), pooled[1])
    v0 = np.where(n0 > 1, g[("var", 0)].fillna(pooled[0]), pooled[0])
    gap = float(w @ (g[("mean", 1)] - g[("mean", 0)]).to_numpy(float))
    return gap, float(np.sqrt((w**2 * (v1 / n1 + v0 / n0)).sum())), int(n1.sum() + n0.sum())


def _stay_gap(
    rows: pd.DataFrame, years: int, resamples: int, rng: np.random.Generator
) -> dict[int, tuple[float, float, float, int]]:
    """Difference of matched survival curves at whole years, with bootstrap intervals."""
    flag = rows["referred"].to_numpy(bool)
    share = rows.groupby("cell")["referred"].transform("sum") / (
        rows.groupby("cell")["referred"].transform("size") - rows.groupby("cell")["referred"].transform("sum")
    )
    weight = np.where(flag, 1.0, share.to_numpy(float))
    month = np.ceil(rows["exit_months"].to_numpy(float)).clip(1)
    grid = np.arange(1, 12 * years + 1)
    risk = (month[:, None] >= grid) * weight[:, None]
    leave = ((month[:, None] == grid) & (rows["event"].to_numpy(bool)[:, None])) * weight[:, None]
    count = np.vstack([np.ones(len(rows)), _counts(len(rows), resamples, rng)]).astype(float)
    curves = []
    for side in (flag, ~flag):
        at_risk, left = count[:, side] @ risk[side], count[:, side] @ leave[side]
        curves.append(np.cumprod(1 - left / np.maximum(at_risk, 1e-12), axis=1))
    out = {}
    for year in range(1, years + 1):
        gap = curves[0][:, 12 * year - 1] - curves[1][:, 12 * year - 1]
        n = int((month >= 12 * year).sum())
        if min((month[flag] >= 12 * year).sum(), (month[~flag] >= 12 * year).sum()) < 50:
            break
        low, high = interval(gap[1:])
        out[year] = (float(gap[0]), float(low), float(high), n)
    return out


def _draw_gaps(ax: Any, table: pd.DataFrame) -> Any:
    from crmresearch import figures

    for panel, name, unit in ((ax[0], "contribution", "money in the year"), (ax[1], "still a customer", "share")):
        part = table[table["gap"] == name]
        if part.empty:
            panel.set_visible(False)
            continue
        figures.intervals(panel, part["year"], part["estimate"], part["low"], part["high"], fmt="o-")
        panel.axhline(0, color=plots.GREY, linestyle="--", linewidth=1)
        panel.set_xticks(sorted(part["year"].unique()))
        panel.set_xlabel(f"year since acquisition (n = {part['n'].iloc[0]:,} in the first; bars: 95% intervals)")
        panel.set_ylabel(f"referred less matched others, {unit}")
        panel.set_title(f"Gap: {name}")
        if unit == "share":
            figures.percent_axis(panel, digits=1)
    return ax
