"""Customer equity between two dates: where its change comes from, in parts that must add up."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.estimators.inference import Estimate, jackknife
from crmresearch.estimators.worth.equity import SIGNS, TOLERANCE, refitted_flows
from crmresearch.estimators.worth.margin import MarginModel
from crmresearch.figures import Picture
from crmresearch.result import Result, gate, one_in, study
from crmresearch.rules import whose

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
    flows *= one_in(frame)
    sign = np.array([SIGNS.get(str(part), 1) for part in flows])
    total = jackknife(sign * flows.to_numpy())
    table = pd.DataFrame({"part": flows.columns, **total.columns("money", "ci"), "n": people.to_numpy()})
    # net sums by group of customers: they bound whoever is in one unless his gain is others' loss there, which is not
    # seen, as the flows are of models, which give no sizes by customer
    whole, without = flows.to_numpy()[0], flows.to_numpy()[1:] * (1 - 1 / (len(flows) - 1))
    table = safe(table.assign(whose=[whose(part) for part in (whole - without).T]))
    # a waterfall: each part hangs at the sum of those before it, opening and closing stand on the ground
    base = np.append(0, total.value[:-1].cumsum())
    base[-1] = 0
    kinds = say.names("flows")
    ends = pd.DataFrame(total.columns("estimate", "ci")).add(base, axis=0)
    bars = ends.assign(base=base, n=table["n"], label=[say("mark", part=p, n=n) for p, n in people.items()])
    group = np.where(total.value < 0, kinds["takes"], kinds["adds"]).astype(object)
    group[[0, -1]] = kinds["total"]
    bars["group"] = pd.Categorical(group, [kinds[k] for k in ("total", "takes", "adds")])  # blue, orange, green
    change = jackknife((flows["closing"] - flows["opening"]).to_numpy())
    title = say("title_open", months=months)
    if change.low > 0 or change.high < 0:
        title = say("title_rose" if change.low > 0 else "title_fell", months=months, flows=flows.iloc[0])
    y = say("y", horizon=horizon_months, rate=annual_discount)
    picture = Picture("intervals", bars, title, "", y, {"upright": True, "unit": "money"}, (8.2, 4.8))
    cells = dict(table.set_index("part").iterrows())
    sentence = say("sentence", months=months, horizon=horizon_months, rate=annual_discount, change=change)
    return Result(
        table,
        sentence + say("parts", cells=cells, gap=gap),
        (gate(say, "adds_up", gap <= TOLERANCE, gap=gap, allowed=TOLERANCE),),
        {"S03": Estimate(gap, gap, gap, say("unit"), len(frame))},
        picture=picture,
        money=["money"],
        digits=0,
    )
