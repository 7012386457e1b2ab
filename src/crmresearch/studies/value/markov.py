"""Value by moves between bands: a Markov chain over years.

A second route to customer value that shares no assumption with survival x margin: customers move between value bands,
or leave, with the chances seen in the last two years, and earn their band's mean (Pfeifer and Carraway 2000, J.
Interactive Marketing 14; for a retail bank Haenlein, Kaplan and Beeser 2007, European Management J. 25). The chain
forgets: where bands are formed on one lucky year, it returns to the mean sooner than customers do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.estimators.inference import jackknife
from crmresearch.estimators.worth.stability import CUTS, band_codes, band_names, chain_values, years_of
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, study
from crmresearch.rules import rules, whose

say = words.of("value.markov")
GROUPS = 20


@study
def markov_value(
    frame: pd.DataFrame, *, years: int = 5, annual_discount: float = 0.1, cuts: Sequence[float] = CUTS
) -> Result:
    """Value per band from last year's moves.

    Parameters
    ----------
    frame : DataFrame
        One row per customer with columns ``year_<end>`` (``reductions.value.yearly``); the last two are used.
    years : int
        Years ahead that count; payments at year ends.
    annual_discount : float
        Effective annual rate.
    cuts : sequence of float
        Cuts of the value bands.

    Returns
    -------
    Result
        Value per customer by band, with intervals that refit moves and earnings without each of twenty groups of
        customers.
    """
    seen = years_of(frame)
    own = [frame[f"band_{end}"].cat for end in seen.columns[-2:] if f"band_{end}" in frame]
    kept, n, values = chain_values(
        seen.iloc[:, -2].to_numpy(dtype=float),
        seen.iloc[:, -1].to_numpy(dtype=float),
        np.arange(len(frame)) % GROUPS,
        cuts=cuts,
        smallest=rules.least,
        years=years,
        annual_discount=annual_discount,
        own=(own[0].codes.to_numpy(), own[1].codes.to_numpy()) if own else None,
    )
    each, every = jackknife(values), jackknife(values @ (n / n.sum()))
    bands, earned = list(own[0].categories) if own else band_names(cuts), seen.iloc[:, -1].to_numpy(dtype=float)
    code = own[1].codes.to_numpy() if own else band_codes(earned, cuts)
    there = np.isfinite(earned)
    own = [whose(earned[there], earned[(code == k) & there]) for k in kept]  # the mean is told, too
    columns = {"band": [bands[k] for k in kept], **each.columns("estimate", "ci"), "n": n, "whose": own}
    table = safe(pd.DataFrame(columns))
    data = table.assign(label=[say("mark", row=row) for _, row in table.iterrows()])
    title = say("title", worst=table.iloc[0], best=table.iloc[-1])
    x = say("x", year=seen.columns[-1], rate=annual_discount)
    options = {"upright": True, "unit": "money", "marks": [Mark(0)]}
    names = say.names("columns")
    return Result(
        table.rename(columns=names),
        say("sentence", year=seen.columns[-1], years=years, every=every, rate=annual_discount),
        picture=Picture("intervals", data, title, x, say("y", years=years), options),
        money=[names["estimate"]],
        digits=0,
        details={"mean": every},
    )
