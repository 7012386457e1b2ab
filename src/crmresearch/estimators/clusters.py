"""Segments by k-means, how far two of them agree, and what agreement there is where nobody belongs to a class."""

from __future__ import annotations

import numpy as np

from crmresearch.errors import FitError, InputError

STARTS = 5  # of k-means, which finds a poor optimum from some
DEALS = 4  # of the customers of a pair into its two samples: chance in the deal is most of a pair's spread


def ranked(x: np.ndarray) -> np.ndarray:
    """Replace each column by its ranks, standardised: no customer is far from all others, ties stay together."""
    from scipy.stats import rankdata

    ranks = rankdata(np.asarray(x, dtype=float), axis=0)
    spread = ranks.std(axis=0)
    if not np.isfinite(x).all() or (spread == 0).any():
        raise InputError("segments need columns without missing values that differ between customers")
    return np.asarray((ranks - ranks.mean(axis=0)) / spread)


def centres(x: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the k-means centres with the least sum of squared distances over several starts.

    References
    ----------
    Lloyd (1982), *IEEE Transactions on Information Theory* 28; starts by Arthur and Vassilvitskii (2007), k-means++.
    """
    from scipy.cluster.vq import kmeans2

    if len(np.unique(x, axis=0)) < k:
        raise FitError(f"customers differ in fewer than {k} ways, too few for {k} segments")
    found = [kmeans2(x, k, iter=30, minit="++", rng=rng, missing="warn")[0] for _ in range(STARTS)]
    return np.asarray(min(found, key=lambda c: _distances(x, c).min(axis=1).sum()))


def _distances(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Squared distances, one row per customer."""
    return np.asarray(((x[:, None, :] - centre) ** 2).sum(axis=2))


def assign(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Number of the nearest centre."""
    return np.asarray(_distances(x, centre).argmin(axis=1))


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two partitions: 1 where they are the same, 0 on average where they have nothing in common.

    References
    ----------
    Hubert and Arabie (1985). Comparing partitions. *Journal of Classification* 2, 193-218.
    """
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    pairs, rows, columns = ((v * (v - 1)).sum() / 2 for v in (table, table.sum(axis=1), table.sum(axis=0)))
    chance = rows * columns / (len(a) * (len(a) - 1) / 2)
    most = (rows + columns) / 2
    return float((pairs - chance) / (most - chance)) if most > chance else 1.0


def one_class(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw customers of a single class with the same margins and rank correlations: a normal copula."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    score = ndtri((rankdata(x + 0.0, axis=0) - 0.5) / len(x))
    draw = rng.multivariate_normal(np.zeros(x.shape[1]), np.corrcoef(score, rowvar=False), len(x), method="eigh")
    order = draw.argsort(axis=0).argsort(axis=0)
    return np.take_along_axis(np.sort(x, axis=0), order, axis=0)


def agreements(x: np.ndarray, k: int, *, part: int, rng: np.random.Generator) -> np.ndarray:
    """Agreement of segments learned from two samples, for disjoint pairs of samples dealt at random.

    Each pair learns from customers of its own and is compared on those, so that the values are independent and their
    spread tells the error of the mean. A pair's value is a mean over several deals of its customers. Samples are of one
    size: in a large one segments agree whether there are classes or not.

    Parameters
    ----------
    x : array, (customers, columns)
    k : int
        Segments.
    part : int
        Customers of each sample.
    rng : Generator

    Returns
    -------
    ndarray
        Adjusted Rand index, one a pair.

    References
    ----------
    Ben-Hur, Elisseeff and Guyon (2002). A stability based method for discovering structure in clustered data.
    *Pacific Symposium on Biocomputing* 7, 6-17.
    """
    deal = rng.permutation(len(x))
    pairs = (x[deal[at : at + 2 * part]] for at in range(0, len(x) - 2 * part + 1, 2 * part))
    return np.array([np.mean([_agreement(rng.permutation(own), k, rng) for _ in range(DEALS)]) for own in pairs])


def _agreement(pair: np.ndarray, k: int, rng: np.random.Generator) -> float:
    """Agreement of the segments of both halves, over all of them."""
    return adjusted_rand(*(assign(pair, centres(half, k, rng)) for half in np.array_split(pair, 2)))
