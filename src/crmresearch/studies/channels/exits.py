"""Who leaves after a first mobile payment (S14)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, NotApplicable
from crmresearch.estimators.inference import Estimate, levels, normal, rates
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study

say = words.of("channels.adopted")
EXITS = 50  # on either side
MATTERS = 0.97  # bound of S14
SINCE = ("recent", "year", "long", "before")
AGE = 45.0  # where it is not known
GROUPS = 100  # of cells, left out by turns: quarters alone are few


@study
def adopted(frame: pd.DataFrame, *, lag_quarters: int = 1) -> Result:
    """Hazard ratio of exit after the first mobile payment against customers who have not made one yet (S14).

    Who adopts is counted among those who have not, up to then: to call adopters by what they do later gives them months
    in which they could not leave (the naive row). Tenure, quarter, age, tier and channel of acquisition are held.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.channels.adoption`.
    lag_quarters : int
        The lag that it was taken with, for labels.

    References
    ----------
    Suissa (2008), Immortal time bias in pharmacoepidemiology, *American Journal of Epidemiology* 167, 492-499; Prentice
    and Gloeckler (1978), *Biometrics* 34, 57-67.
    """
    new = frame["state"].isin(SINCE)
    both = [int(frame.loc[side, "exits"].sum()) for side in (new, ~new)]
    if min(both) < EXITS:
        raise NotApplicable(say("few", n=min(both), least=EXITS), "transactions")
    each = [s for s in SINCE if frame.loc[frame["state"] == s, "exits"].sum() > 0]
    main, naive = (_ratios(frame, [kind])[0] for kind in (new, frame["state"] != "never"))
    parts = _ratios(frame, [frame["state"] == s for s in each])
    rows = [("after", *main, both[0])]
    rows += [(s, *one, int(frame.loc[frame["state"] == s, "exits"].sum())) for s, one in zip(each, parts, strict=True)]
    rows.append(("naive", *naive, int(frame["exits"].sum())))
    ratios = {name: normal(b, se, say("unit"), n, log=True) for name, b, se, n in rows}
    told = [(k, e.value, e.ci_low, e.ci_high, e.n) for k, e in ratios.items()]
    table = pd.DataFrame(told, columns=["row", "ratio", "low", "high", "n"])
    since = {"recent": say("recent", first=lag_quarters + 1, last=lag_quarters + 3)}
    since |= {"year": say("recent", first=lag_quarters + 4, last=lag_quarters + 7)}
    since |= {"long": say("long", last=lag_quarters + 7)}
    table["row"] = table["row"].map({**say.names("rows"), **since})
    found = normal(*main, say("unit"), sum(both), log=True, checks=_deaths(frame, new))
    shown = safe(table).rename(columns={"row": "label", "ratio": "estimate"})
    return Result(
        table.rename(columns=say.names("columns")),
        say("sentence", found=found, n=sum(both), naive=ratios["naive"]),
        estimates={"S14": found},
        picture=Picture(
            "intervals",
            shown.assign(strong=shown.index == 0),
            _title(found),
            say("x", n=sum(both)),
            options={"log": True, "marks": [Mark(1, style="none")]},
        ),
    )


def _title(found: Estimate) -> str:
    return say("title", found=found) if found.ci_high < 1 or found.ci_low > 1 else say("title_open")


def _ratios(frame: pd.DataFrame, kinds: list[pd.Series], of: str = "exits") -> list[tuple[float, float]]:
    """Log ratios of rates with their errors; of deaths, which are few, time and tenure are held by their logs alone."""
    age = (frame["age"].fillna(AGE).to_numpy() - AGE) / 10
    time = [levels(frame["quarter"]), levels(frame["tenure"])]
    if of != "exits":
        time = [frame["quarter"].to_numpy(float) - frame["quarter"].min(), np.log1p(frame["tenure"].to_numpy(float))]
    x = [*(k.to_numpy(float) for k in kinds), np.ones(len(frame)), *time]
    x += [part for part in (age, age**2) if part.std() > 0]
    x += [levels(frame[k].fillna("")) for k in ("tier", "channel")]
    clusters = [frame["quarter"].to_numpy(), np.arange(len(frame)) % GROUPS]
    b, se = rates(np.column_stack(x), frame[of], frame["n"], clusters)
    return [(float(b[k]), float(se[k])) for k in range(len(kinds))]


def _deaths(frame: pd.DataFrame, new: pd.Series) -> tuple[Check, ...]:
    """The same ratio of deaths, which no channel prevents."""
    if min(frame.loc[side, "deaths"].sum() for side in (new, ~new)) < EXITS or frame["age"].isna().all():
        return (gate(say, "unrecorded", None),)
    try:
        ((value, se),) = _ratios(frame, [new], "deaths")
    except FitError:
        return (gate(say, "unrecorded", None),)
    one = normal(value, se, say("unit"), int(frame["deaths"].sum()), log=True)
    control = Deviation(one.value, one.ci_low, one.ci_high, limit=MATTERS, none=1.0, control=True)
    return (gate(say, "deaths", control), gate(say, "unrecorded", None))
