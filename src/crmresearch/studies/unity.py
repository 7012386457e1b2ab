"""Whether bank and customers gain together (S58): contribution beside what customers say they gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.measurement.links import partial_ranks
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study

say = words.of("unity")
LEAST = 200  # answers with accounts before and after
MANY = 1_000  # more than there are value bands


@study
def together(
    joined: pd.DataFrame, *, benefit: str, bands: int, cuts: Sequence[float] = (), resamples: int, seed: int
) -> Result:
    """Rank correlation of the year's contribution and the stated benefit, given the value band before it (S58).

    Within a wave and a value band, by the balance before the year begins: a band of the same year would hold equal what
    is asked about. Who leaves within the year stays, with nothing for the months after.

    Parameters
    ----------
    joined : DataFrame
        From :func:`crmresearch.data.reductions.loyalty.joined`.
    benefit : str
        Item of the survey on what customers gain, the higher the more.
    bands : int
        Value bands of equal size within a wave.
    cuts : sequence of float
        The bank's own bands of the balance, in their place.
    resamples, seed : int
        Of the bootstrap over customers.
    """
    lacking = [c for c in (benefit, "balance", "contribution_after") if c not in joined]
    if lacking:
        raise NotApplicable(say("absent", lacking=", ".join(lacking)), "survey", "monthly")
    asked = joined[joined[benefit].notna()]
    rows = asked.dropna(subset=["balance", "contribution_after"])
    rows = rows.assign(band=_bands(rows, bands, cuts), gone=rows["left"] == 1)
    if len(rows) < LEAST or np.ptp(rows[benefit]) == 0:
        raise NotApplicable(say("few", n=len(rows), least=LEAST), "survey", "monthly")
    if rows["left"].isna().any():
        raise NotApplicable(say("absent", lacking="left"), "customers")
    names = say.names("rows")
    ways = {names["given"]: rows, names["stayed"]: rows[~rows["gone"]], names["plain"]: rows.assign(band=0)}
    several = {say("band", number=str(k + 1)): rows[rows["band"] == k] for k in sorted(set(rows["band"]))}
    found, table = {}, []
    for name, own in (ways | several).items():
        if len(own) >= LEAST // 2 and np.ptp(own[benefit]) > 0:
            gains, brings = own[benefit].to_numpy(float), own["contribution_after"].to_numpy(float)
            cell, who = (MANY * own["wave"] + own["band"]).to_numpy(), own["customer_id"].to_numpy()
            one = partial_ranks(gains, brings, cell, who, say("unit"), resamples=resamples, seed=seed)
            found[name] = one
            table.append((name, one.value, one.ci_low, one.ci_high, len(own), int(own["gone"].sum())))
    main, split = found[names["given"]], [found[name] for name in several if name in found]
    middle = rows[benefit].median()
    high = rows[benefit] > middle if middle < rows[benefit].max() else rows[benefit] == middle
    more = rows.groupby(high)["gone"].mean()
    frame = pd.DataFrame(table, columns=["reading", "estimate", "low", "high", "n", "left"])
    lines = frame.rename(columns={"reading": "label"})
    return Result(
        frame,
        say("sentence", found=main, apart=sum(e.ci_low <= 0 for e in split), bands=len(split))
        + say("attrition", n=float(len(rows)), asked=float(len(asked)), low=more.get(False), high=more.get(True)),
        (gate(say, "answered", None),),
        {"S58": main},
        Picture(
            "intervals", lines, say("title", found=main), say("x", n=float(len(rows))), options={"marks": [Mark(0)]}
        ),
        counts=("n", "left"),
    )


def _bands(rows: pd.DataFrame, bands: int, cuts: Sequence[float]) -> np.ndarray:
    """Number of the value band of each row, the lowest first."""
    if len(cuts):
        return np.searchsorted(np.asarray(cuts, dtype=float), rows["balance"].to_numpy(float), side="right")
    by_wave = rows.groupby("wave")["balance"]
    share = (by_wave.rank(method="average") - 0.5) / by_wave.transform("size")
    return np.minimum((share * bands).to_numpy().astype(int), bands - 1)
