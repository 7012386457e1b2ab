"""Customer equity between two dates: where its change comes from, in parts that must add up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.estimators.inference import Estimate, jackknife
from crmresearch.estimators.worth.equity import SIGNS, TOLERANCE, refitted_flows
from crmresearch.estimators.worth.margin import MarginModel
from crmresearch.figures import Picture
from crmresearch.result import Result, gate, study

say = words.of("value.equity")


@study
def equity_accounting(
    frame: pd.DataFrame,
    opening: MarginModel,
    closing: MarginModel,
    *,
    months: int = 12,
    horizon_months: int = 60,
    annual_discount: float = 0.1,
) -> Result:
    """Customer equity between two dates: won, deepened, lost, and the rest that must add up.

    Parameters
    ----------
    frame : DataFrame
        From ``reductions.value.equity``.
    opening, closing : MarginModel
        Fitted with data up to the opening and up to the closing date.
    months : int
        Months between the dates.
    horizon_months, annual_discount
        Of the value.

    Returns
    -------
    Result
        The parts in money with jackknife intervals (customers and models) and the customers in them; a waterfall; S03
        is the gap between the parts and the change, an identity without sampling error.
    """
    flows, people, gap = refitted_flows(
        frame, opening, closing, months=months, horizon_months=horizon_months, annual_discount=annual_discount
    )
    total = jackknife(flows.to_numpy())
    sign = np.array([SIGNS.get(str(part), 1) for part in flows])
    table = pd.DataFrame(
        {
            "part": flows.columns,
            "money": sign * total.value,
            "ci_low": np.minimum(sign * total.low, sign * total.high),
            "ci_high": np.maximum(sign * total.low, sign * total.high),
            "n": people.to_numpy(),
        }
    )
    # a waterfall: each part hangs at the sum of those before it, opening and closing stand on the ground
    base = np.append(0, table["money"].cumsum()[:-1])
    base[-1] = 0
    kinds, moves = say.names("flows"), table.set_index("part")["money"]
    bars = pd.DataFrame(
        {
            "label": [say("mark", part=part, n=n) for part, n in people.items()],
            "estimate": base + table["money"],
            "low": base + table["ci_low"],
            "high": base + table["ci_high"],
            "base": base,
            "group": [
                kinds["total" if part not in SIGNS else "adds" if m >= 0 else "takes"] for part, m in moves.items()
            ],
            "n": people.to_numpy(),
        }
    )
    cells = dict(table.set_index("part").iterrows())
    change = jackknife((flows["closing"] - flows["opening"]).to_numpy())
    return Result(
        table,
        say(
            "sentence",
            months=months,
            change=change,
            cells=cells,
            gap=gap,
            horizon=horizon_months,
            rate=annual_discount,
        ),
        (gate(say, "adds_up", gap <= TOLERANCE, gap=gap, allowed=TOLERANCE),),
        {"S03": Estimate(gap, gap, gap, say("unit"), len(frame))},
        picture=Picture(
            "intervals",
            bars,
            say("title", months=months),
            y=say("y", horizon=horizon_months, rate=annual_discount),
            options={"upright": True, "unit": "money"},
            size=(8.2, 4.8),
        ),
        alt=say("alt", flows=flows.iloc[0], size=flows.iloc[0].abs()),
        money={"money": "n"},
        digits=0,
    )
