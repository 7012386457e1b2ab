"""Triple difference of rates: two kinds of people, in places reached by something and in others, at the same dates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from crmresearch.errors import FitError
from crmresearch.estimators.inference import Jackknife, jackknife


def triple(
    events: ArrayLike, base: ArrayLike, people: ArrayLike, reached: ArrayLike, *, log: bool = False
) -> Jackknife:
    """Difference between kinds of people, in places reached less in others, with the jackknife over places.

    What a place shares drops out between the two kinds, what they would do anyway between places. Dates are weighted by
    the people of the second kind in places reached.

    Parameters
    ----------
    events, base, people : array, (places, dates, 2)
        Events, what they are divided by (people or time at risk), and people; the difference is the second kind less
        the first.
    reached : array of bool, (places,)
    log : bool
        Take differences of the logs of rates.

    Raises
    ------
    FitError
        If no date has people of both kinds in both sorts of places.

    References
    ----------
    Olden and Møen (2022), The triple difference estimator. *Econometrics Journal* 25, 531-553; jackknife by cluster:
    MacKinnon, Nielsen and Webb (2023), *Journal of Econometrics* 232, 272-299.
    """
    cells = np.stack([np.asarray(a, dtype=float) for a in (events, base, people)])
    here = np.asarray(reached, dtype=bool)

    def one(keep: np.ndarray) -> float:
        came, rest = (cells[:, keep & side].sum(axis=1) for side in (here, ~here))
        weight = came[2, :, 1]
        known = (weight > 0) & (came[2, :, 0] > 0) & (rest[2] > 0).all(axis=1)
        if not known.any():
            raise FitError("no date has both kinds of people in places of both sorts")
        w = weight[known] / weight[known].sum()
        a, b = (w @ (side[0, known] / side[1, known]) for side in (came, rest))
        a, b = (np.log(a), np.log(b)) if log else (a, b)
        return float((a[1] - a[0]) - (b[1] - b[0]))

    every = np.arange(len(here))
    values = [one(every >= 0), *(one(every != place) for place in every)]
    return Jackknife(*map(float, jackknife(np.array(values))))
