"""Whether payments to outside platforms foretell exits (S17)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, levels, normal, rates
from crmresearch.result import Result, gate, study

say = words.of("competition.platforms")
EXITS = 50  # that the ratio rests on
STEP = 0.1  # of the share of payments: ten points


@study
def platforms(frames: Mapping[str, pd.DataFrame | Missing]) -> Result:
    """Hazard ratio of exit for ten points more of payments to outside platforms, a quarter earlier (S17).

    Tenure and calendar quarter are held. Read up to the exit, the share is that of an account that is run down: the
    naive row.

    Parameters
    ----------
    frames : mapping of str to DataFrame or Missing
        ``earlier`` and ``until``, from :func:`crmresearch.data.reductions.competition.payments` with a lag of one
        quarter and of none.

    References
    ----------
    Prentice and Gloeckler (1978), *Biometrics* 34, 57-67.
    """
    earlier = frames["earlier"]
    if isinstance(earlier, Missing):
        return Result.not_applicable(earlier)
    told = {name: _ratio(frame) for name, frame in frames.items() if not isinstance(frame, Missing)}
    rows = [(name, one.value, one.ci_low, one.ci_high, one.n) for name, one in told.items()]
    table = pd.DataFrame(rows, columns=["row", "ratio", "low", "high", "n"])
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("sentence", found=told["earlier"], n=told["earlier"].n),
        (gate(say, "leaning", None),),
        {"S17": told["earlier"]},
    )


def _ratio(frame: pd.DataFrame) -> Estimate:
    exits = int(frame["exits"].sum())
    if exits < EXITS or frame["share"].nunique() < 2:
        raise NotApplicable(say("few", n=exits, least=EXITS), "transactions")
    x = [frame["share"].to_numpy() / STEP, np.ones(len(frame)), levels(frame["quarter"]), levels(frame["year"])]
    clusters = [frame["quarter"].to_numpy(), np.arange(len(frame))]
    b, se = rates(np.column_stack(x), frame["exits"], frame["n"], clusters)
    return normal(float(b[0]), float(se[0]), say("unit"), exits, log=True)
