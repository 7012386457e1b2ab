"""Measurement invariance of composites: do groups and waves answer with the same make-up? (MICOM)"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch.estimators.measurement.model import NotApplicable, PathModel, complete_answers, survey_study
from crmresearch.estimators.measurement.pls import covariance, fit_pls
from crmresearch.result import Check, Result
from crmresearch.studies.loyalty import plots


@survey_study
def invariance(survey: pd.DataFrame, model: PathModel, *, by: str, permutations: int = 499, seed: int) -> Result:
    """Do groups (tiers, waves) answer with the same composites?

    Permutation tests of Henseler, Ringle and Sarstedt (2016). For each construct the largest group is compared with
    each other one: correlation of the scores under either group's weights (compositional invariance), then
    differences of score means and log variances. Only with the first may paths be compared; with all three, scores
    may be pooled. Holm's correction over constructs and groups.

    Parameters
    ----------
    survey : DataFrame
        Answers with the column ``by``.
    by : str
        Column that names the group. Rows are permuted as if independent; with repeated waves of the same customers the
        test is conservative.
    """
    from statsmodels.stats.multitest import multipletests

    if by not in survey.columns:
        raise NotApplicable(f"the survey has no column {by} to compare groups by")
    items = complete_answers(survey, model)
    label = survey.loc[items.index, by]
    sizes = label.value_counts()
    names = [g for g in sizes.index if sizes[g] >= 50]
    if len(names) < 2:
        raise NotApplicable(f"invariance needs two groups of at least 50 complete answers; {by} gives fewer")
    rng = np.random.default_rng(seed)
    model = model.connected
    z = items[list(model.items)].to_numpy(dtype=float)
    rows = []
    for other in names[1:]:
        inside = label.isin([names[0], other]).to_numpy()
        x = z[inside]
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        member = (label[inside] == other).to_numpy()
        marks = np.stack([member] + [rng.permutation(member) for _ in range(permutations)])
        agree, mean, spread = _micom(x, marks, model)
        for k, name in enumerate(model.names):
            p = [
                (1 + (agree[1:, k] <= agree[0, k]).sum()) / (permutations + 1),
                (1 + (np.abs(mean[1:, k]) >= abs(mean[0, k])).sum()) / (permutations + 1),
                (1 + (np.abs(spread[1:, k]) >= abs(spread[0, k])).sum()) / (permutations + 1),
            ]
            row = {"construct": name, "groups": f"{names[0]} - {other}", "correlation": agree[0, k]}
            row |= {"mean_difference": mean[0, k], "log_variance_ratio": spread[0, k]}
            rows.append(row | dict(zip(("p_composite", "p_mean", "p_variance"), p, strict=True)) | {"n": len(x)})
    table = pd.DataFrame(rows)
    for key in ("p_composite", "p_mean", "p_variance"):
        table[key] = multipletests(table[key], method="holm")[1]
    broken = table.loc[(table["p_composite"] < 0.05) & (table["correlation"] < 0.99), "construct"].unique().tolist()
    least = table["correlation"].min()
    sentence = (
        f"Composites keep their make-up across {len(names)} groups (lowest score correlation {least:.3f})"
        if not broken
        else f"The make-up of {', '.join(broken)} differs between groups (score correlation down to {least:.3f})"
    )
    moved = int((table["p_mean"] < 0.05).sum())
    sentence += f"; {moved} of {len(table)} comparisons differ in mean."
    return Result(
        table,
        sentence,
        checks=(Check.of("invariance", not broken, f"lowest score correlation {least:.3f}", "undecided"),),
        draw=lambda ax: plots.invariance(ax, table),
        alt=f"Differences of construct means between groups, in standard deviations, by construct. {sentence}",
    )


def _micom(x: np.ndarray, marks: np.ndarray, model: PathModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score correlation under either group's weights, mean difference and log variance ratio, for each marking."""
    member = (model.block[:, None] == np.arange(len(model.names))).astype(float)
    pooled = covariance(x)
    weights, means, covs = [], [], []
    for side in (~marks, marks):
        w = side / side.sum(axis=1, keepdims=True)
        mean = w @ x
        cov = np.stack([(x * row[:, None]).T @ x for row in w]) - mean[:, :, None] * mean[:, None, :]
        means.append(mean)
        covs.append(cov)
        weights.append(fit_pls(cov, model, scaled=False).weights)
    a, b = (w[:, :, None] * member for w in weights)
    cross = np.einsum("bik,ij,bjk->bk", a, pooled, b)
    own = np.sqrt(np.einsum("bik,ij,bjk->bk", a, pooled, a) * np.einsum("bik,ij,bjk->bk", b, pooled, b))
    joint = fit_pls(pooled, model, scaled=False).weights[0][:, None] * member
    gap = (means[1] - means[0]) @ joint
    variance = [np.einsum("ik,bij,jk->bk", joint, c, joint) for c in covs]
    return np.abs(cross / own), gap, np.log(variance[1] / variance[0])
