"""Word of mouth: the rate of referrals, and referred customers against others within cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.estimators.inference import Estimate, complete, from_draws, full_rank, normal, sized, z
from crmresearch.estimators.measurement.panel import account_covariates
from crmresearch.estimators.survival.cox import cox

LEAST = 50  # customers at risk in each group, below which a curve ends


def referral_ratio(rows: pd.DataFrame, unit: str) -> Estimate:
    """Rate ratio of referrals for a standard deviation of satisfaction, accounts held equal.

    Negative binomial with exposure. The dispersion comes from Pearson's statistic of the Poisson fit; standard errors
    are robust and by customer, so that it need not be right.
    """
    import statsmodels.api as sm

    y, years = complete(referrals=rows["referrals"], exposure_years=rows["exposure_years"])
    covariates = account_covariates(rows)
    x = np.column_stack([np.ones(len(rows)), rows["satisfaction"], covariates]).astype(float)
    full_rank(x, ["constant", "satisfaction", *map(str, covariates.columns)])
    sized(len(y), x.shape[1])
    first = sm.GLM(y, x, family=sm.families.Poisson(), offset=np.log(years)).fit()
    mu = first.fittedvalues
    alpha = float(max((((y - mu) ** 2 - mu) / mu).sum() / (mu).sum(), 0))
    family = sm.families.NegativeBinomial(alpha=alpha) if alpha > 1e-6 else sm.families.Poisson()
    groups = pd.factorize(rows["customer_id"])[0]
    fit = sm.GLM(y, x, family=family, offset=np.log(years)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    return normal(float(fit.params[1]), float(fit.bse[1]), unit, len(rows), log=True)


def poisson_rates(count: pd.Series, years: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Rates per 100 years with limits by the normal of the square root (Freeman and Tukey)."""
    root = np.sqrt(count + 0.375)
    low = 100 * np.maximum(root - z() / 2, 0) ** 2 / years
    return 100 * (count / years), low, 100 * (root + z() / 2) ** 2 / years


def matched(referred: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Rows in cells (half-year of acquisition, tier, age band) that hold both groups; share of referred kept."""
    tier = "segment" if "segment" in referred else "city_tier"
    rows = referred.assign(cell=referred.groupby(["cohort", tier, "age_band"]).ngroup())
    count = rows.groupby("cell")["referred"].agg(["sum", "size"])
    usable = count.index[(count["sum"] > 0) & (count["sum"] < count["size"])]
    share = float(count.loc[usable, "sum"].sum() / max(count["sum"].sum(), 1))
    return rows[rows["cell"].isin(usable)], share


def stay_ratio(rows: pd.DataFrame, unit: str) -> Estimate:
    """Hazard ratio of leaving of referred customers, stratified by cell."""
    spells = rows.assign(exit=np.maximum(np.ceil(rows["exit_months"].to_numpy(float)), 1))
    fit = cox(spells, ["referred"], strata="cell")
    beta, se = float(fit.params["referred"]), float(fit.se["referred"])
    return normal(beta, se, unit, len(rows), log=True)


def within_cells(rows: pd.DataFrame, column: str, unit: str) -> Estimate | None:
    """Difference of means within ``cell``, weighted by the ``referred``; variances within cell and group.

    None where no cell holds both groups.
    """
    complete(**{column: rows[column]})
    g: Any = rows.groupby(["cell", "referred"])[column].agg(["mean", "var", "size"]).unstack("referred")  # noqa: PD010
    g = g.reindex(columns=pd.MultiIndex.from_product([("mean", "var", "size"), (0, 1)]))  # of whom nobody is left
    g = g.dropna(subset=[("size", 0), ("size", 1)])
    if g.empty:
        return None
    n1, n0 = g[("size", 1)].to_numpy(float), g[("size", 0)].to_numpy(float)
    w = n1 / n1.sum()

    def variance(k: int, n: np.ndarray) -> np.ndarray:
        # a cell with one customer has no variance of its own; it takes the pooled one of its group
        known, free = g[("var", k)], g[("size", k)] - 1
        pooled = float((known.fillna(0) * free).sum() / max(free.sum(), 1))
        return np.where(n > 1, known.fillna(pooled), pooled)

    gap = float(w @ (g[("mean", 1)] - g[("mean", 0)]).to_numpy(float))
    se = float(np.sqrt((w**2 * (variance(1, n1) / n1 + variance(0, n0) / n0)).sum()))
    return normal(gap, se, unit, int(n1.sum() + n0.sum()))


def stay_gap(rows: pd.DataFrame, years: int, *, resamples: int, seed: int) -> dict[int, Estimate]:
    """Difference of matched survival curves at whole years, with bootstrap intervals.

    Customers who are alike to the curves are drawn as one number, so that memory does not grow with customers.
    """
    complete(exit_months=rows["exit_months"])
    flag = rows["referred"].to_numpy(bool)
    cells = rows.groupby("cell")["referred"]
    inside = cells.transform("sum")
    weight = np.where(flag, 1.0, (inside / (cells.transform("size") - inside)).to_numpy(float))
    month = np.ceil(rows["exit_months"].to_numpy(float)).clip(1)
    grid = np.arange(1, 12 * years + 1)
    until = np.minimum(month, 12 * years + 1)  # what comes later is not told
    gone = rows["event"].to_numpy(bool) & (month <= 12 * years)
    kind, n = np.unique(np.column_stack([flag, weight, until, gone]), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(rows), n / len(rows), size=resamples)
    count = np.vstack([n, drawn]) * kind[:, 1]
    curves = []
    for referred in (1, 0):
        mine = kind[:, 0] == referred
        stays = kind[mine, 2][:, None]
        at_risk = count[:, mine] @ (stays >= grid)
        left = count[:, mine] @ ((stays == grid) & (kind[mine, 3][:, None] == 1))
        curves.append(np.cumprod(1 - left / np.maximum(at_risk, 1e-12), axis=1))
    out = {}
    for year in range(1, years + 1):
        there = month >= 12 * year
        if min(there[flag].sum(), there[~flag].sum()) < LEAST:
            break
        gap = curves[0][:, 12 * year - 1] - curves[1][:, 12 * year - 1]
        se, low, high = from_draws(gap[1:])
        out[year] = Estimate(float(gap[0]), float(low), float(high), "share", int(there.sum()), se=float(se))
    return out
