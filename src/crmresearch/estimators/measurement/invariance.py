"""Measurement invariance of composites (MICOM): do groups answer with the same make-up, means and spreads?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch.errors import NotApplicable
from crmresearch.estimators.inference import sized
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import covariance
from crmresearch.estimators.measurement.pls import fit_pls

TESTS = ("p_composite", "p_mean", "p_variance")
LEAST = 50  # complete answers of a group


def permutation_tests(
    x: np.ndarray, label: pd.Series, model: PathModel, *, permutations: int, seed: int
) -> pd.DataFrame:
    """Permutation tests of Henseler, Ringle and Sarstedt (2016), the largest group against each other one.

    Returns
    -------
    DataFrame
        One row per construct and pair of groups: ``correlation`` of the scores under either group's weights,
        ``mean_difference`` and ``log_variance_ratio``, with p-values corrected by Holm.
    """
    from statsmodels.stats.multitest import multipletests

    sizes = label.value_counts()
    names = [g for g in sizes.index if sizes[g] >= LEAST]
    if len(names) < 2:
        raise NotApplicable(
            f"invariance needs two groups of at least {LEAST} complete answers; {label.name} gives fewer"
        )
    rng = np.random.default_rng(seed)
    rows = []
    for other in names[1:]:
        inside = label.isin([names[0], other]).to_numpy()
        part = (x[inside] - x[inside].mean(axis=0)) / x[inside].std(axis=0)
        member = (label[inside] == other).to_numpy()
        sized(min(member.sum(), (~member).sum()), len(model.items))
        marks = np.stack([member] + [rng.permutation(member) for _ in range(permutations)])
        agree, mean, spread = _micom(part, marks, model)
        p = [(sign[1:] >= sign[0]).sum(axis=0) for sign in (-agree, np.abs(mean), np.abs(spread))]
        for k, name in enumerate(model.names):
            row = {"construct": name, "groups": f"{names[0]} - {other}", "correlation": agree[0, k]}
            row |= {"mean_difference": mean[0, k], "log_variance_ratio": spread[0, k]}
            row |= {test: (1 + count[k]) / (permutations + 1) for test, count in zip(TESTS, p, strict=True)}
            rows.append(row | {"n": len(part)})
    table = pd.DataFrame(rows)
    return table.assign(**{test: multipletests(table[test], method="holm")[1] for test in TESTS})


def _micom(x: np.ndarray, marks: np.ndarray, model: PathModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score correlation under either group's weights, mean difference and log variance ratio, for each marking."""
    pooled = covariance(x)
    weights, means, covs = [], [], []
    for side in (~marks, marks):
        w = side / side.sum(axis=1, keepdims=True)
        mean = w @ x
        cov = np.stack([(x * row[:, None]).T @ x for row in w]) - mean[:, :, None] * mean[:, None, :]
        means.append(mean)
        covs.append(cov)
        weights.append(fit_pls(cov, model, scaled=False).weights)
    a, b = (w[:, :, None] * model.member for w in weights)
    cross = np.einsum("bik,ij,bjk->bk", a, pooled, b)
    own = np.sqrt(np.einsum("bik,ij,bjk->bk", a, pooled, a) * np.einsum("bik,ij,bjk->bk", b, pooled, b))
    joint = fit_pls(pooled, model, scaled=False).weights[0][:, None] * model.member
    gap = (means[1] - means[0]) @ joint
    variance = [np.einsum("ik,bij,jk->bk", joint, c, joint) for c in covs]
    return np.abs(cross / own), gap, np.log(variance[1] / variance[0])
