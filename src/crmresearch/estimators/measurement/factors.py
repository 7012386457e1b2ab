"""Do items measure their constructs, and are the constructs different things? From correlations of items alone."""

from __future__ import annotations

import numpy as np

from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import correlations

ROUNDS = 200  # of the principal axes; they settle long before


def _one_factor(corr: np.ndarray) -> np.ndarray:
    """Least-squares loadings of one factor, for a stack of correlation matrices (principal axes, iterated)."""
    p = corr.shape[1]
    if p == 2:  # two items determine only the product of their loadings
        return np.sqrt(np.clip(corr[:, [0, 0], [1, 1]], 0, 1))
    eye = np.arange(p)
    loading = np.sqrt(np.clip(np.abs(corr).sum(axis=2) / p, 0, 0.98))
    for _ in range(ROUNDS):
        reduced = corr.copy()
        reduced[:, eye, eye] = np.minimum(loading**2, 0.995)
        values, vectors = np.linalg.eigh(reduced)
        new = np.abs(vectors[:, :, -1]) * np.sqrt(np.maximum(values[:, -1:], 0))
        if np.abs(new - loading).max() < 1e-7:
            break
        loading = new
    return np.minimum(new, 1.0)


def reliabilities(corr: np.ndarray) -> dict[str, np.ndarray]:
    """Alpha, Dillon and Goldstein's rho (first component), omega and average variance extracted (one factor)."""
    p = corr.shape[1]
    if p == 1:  # one item says nothing of its own error
        return dict.fromkeys(("alpha", "dg_rho", "omega", "ave"), np.full(len(corr), np.nan))
    values, vectors = np.linalg.eigh(corr)
    component = np.abs(vectors[:, :, -1].sum(axis=1)) * np.sqrt(values[:, -1])
    loading = _one_factor(corr)
    common = loading.sum(axis=1) ** 2
    return {
        "alpha": p / (p - 1) * (1 - p / corr.sum(axis=(1, 2))),
        "dg_rho": component**2 / (component**2 + p - values[:, -1]),
        "omega": common / (common + (1 - loading**2).sum(axis=1)),
        "ave": (loading**2).mean(axis=1),
    }


def htmt_ratios(corr: np.ndarray, model: PathModel) -> np.ndarray:
    """Heterotrait-monotrait ratios of (a stack of) correlation matrices, (b, constructs, constructs).

    Of absolute correlations: a construct measured once forwards and once backwards is one thing, not two. A
    single item agrees with itself.
    """
    size = model.member.sum(axis=0)
    total = model.member.T @ (np.abs(corr) - np.eye(len(model.items))) @ model.member
    mean = total / np.maximum(np.outer(size, size) - np.diag(size), 1)
    own = np.where(size > 1, np.sqrt(np.maximum(np.diagonal(mean, axis1=1, axis2=2), 1e-9)), 1.0)
    return mean / (own[:, :, None] * own[:, None, :])


def method_share(corr: np.ndarray, model: PathModel, pair: tuple[str, str]) -> np.ndarray:
    """What asking everything in one questionnaire may add to a correlation, for a stack of correlation matrices.

    The correlation of two constructs after taking out a marker (Lindell and Whitney 2001): the smaller absolute
    correlation of the two with an item that theory links to neither, which follows the items of the model as a last
    column, or, without such a column, the second smallest correlation between any two items.

    Returns
    -------
    array (3, b)
        First component's share of the items' variance, the correlation of the two, and what is left of it.
    """
    p = len(model.items)
    member = np.pad(model.member, ((0, corr.shape[1] - p), (0, corr.shape[1] - p)))
    member[p:, len(model.names) :] = 1
    sums = correlations(member.T @ corr @ member)
    a, b = (model.names.index(c) for c in pair)
    if corr.shape[1] > p:
        method = np.minimum(np.abs(sums[:, a, -1]), np.abs(sums[:, b, -1]))
    else:
        method = np.sort(corr[:, *np.triu_indices(p, 1)], axis=1)[:, 1]
    method = np.clip(method, 0, 0.99)
    plain = sums[:, a, b]
    return np.stack([np.linalg.eigvalsh(corr[:, :p, :p])[:, -1] / p, plain, (plain - method) / (1 - method)])
