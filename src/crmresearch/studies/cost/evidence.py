"""What stands beside the estimates: call lists without money, published findings, and all gates in one table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import checked
from crmresearch.estimators.inference import Estimate, ends, fieller, levels, logit_fit, normal, ratio_delta, wilson
from crmresearch.estimators.spending.winning import MIN_WINS
from crmresearch.figures import Picture
from crmresearch.result import STATES, Result, gate, study
from crmresearch.studies.cost.common import written

say = words.of("cost.calls")
tell = words.of("cost.evidence")

NEW, OLD = "new", "won before"
MOST_CALLS = 10  # on one customer; those beyond are few


@study
def per_sale(groups: pd.DataFrame) -> Result:
    """Contacts per sale for people never approached before, against those won by an earlier campaign.

    Parameters
    ----------
    groups : DataFrame
        One row per ``group`` (with ``new`` and ``won before``): ``n`` people, ``contacts``, ``sold``, ``contacts2``
        (sum of squares), ``contacts_sold`` (sum of products).

    Returns
    -------
    Result
        Contacts per sale by group, and estimate ``contacts``: their ratio, new over won before, with Fieller's set.

    Notes
    -----
    The selling costs behind a contact are unknown, and nobody drew lots about whom to call how often: people who bought
    before were chosen, and some were called because they were expected to buy. It is a statement about effort, not
    money.
    """
    checked(groups, ("group", "n", "contacts", "sold", "contacts2", "contacts_sold"), ("contacts", "sold"), "groups")
    table = groups[["group", "n", "sold", "contacts"]].reset_index(drop=True)
    sold = groups["sold"].where(groups["sold"] > 0).to_numpy(float)
    # sales are 0 or 1, so that their squares are themselves
    contacts, squares, products = groups[["contacts", "contacts2", "contacts_sold"]].to_numpy(float).T
    value, se = ratio_delta(contacts, sold, squares, sold, products)
    low, high = ends(value, se)
    table = table.assign(
        share_sold=table["sold"] / table["n"], per_sale=np.where(sold > 0, value, np.inf), ci_low=low, ci_high=high
    )
    own = table.assign(variance=se**2).set_index("group")
    if not {NEW, OLD} <= set(own.index) or own.loc[[NEW, OLD], "sold"].min() < MIN_WINS:
        raise NotApplicable(say("few", least=MIN_WINS))
    (new, var_new), (old, var_old) = own.loc[[NEW, OLD], ["per_sale", "variance"]].to_numpy(float)
    found = fieller(new, old, var_new, var_old)
    sentence = say("sentence", new=new, old=old, ratio=new / old, found=written(found, ",.1f"))
    shown = table[sold > 0].sort_values("per_sale", ascending=False)
    data = shown.assign(
        label=[say("label", name=row.group, n=row.n) for row in shown.itertuples()],
        estimate=shown["per_sale"],
        text=shown["per_sale"].map("{:.1f}".format),
    ).drop(columns="group")
    n = int(own.loc[[NEW, OLD], "n"].sum())
    return Result(
        table,
        sentence,
        checks=(gate(say, "alike", None),),
        estimates={"contacts": Estimate(new / old, *found.ends, say("unit"), n)},
        picture=Picture("intervals", data, say("title", new=new, old=old), say("x"), "", {"limits": (0, np.inf)}),
        counts=("n", "sold"),
        digits=2,
    )


@study
def further_calls(frame: pd.DataFrame) -> Result:
    """Chance of a sale by one more call on the same customer, over that by the call before (S04a).

    A customer called k times was not sold by the first k - 1 calls, so that the chance of a sale is that of a call
    among those made on customers who had not bought: a hazard by number of calls. Periods of the calls are held equal.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.calls.repeated`.
    """
    made = []
    for k in range(1, min(MOST_CALLS, int(frame["calls"].max())) + 1):
        own = frame[frame["calls"] >= k]
        cells = own.assign(sold=own["sold"].where(own["calls"] == k, 0)).groupby("period")[["n", "sold"]].sum()
        made.append(cells.assign(call=k).reset_index())
    cells = pd.concat(made, ignore_index=True)
    by_call = cells.groupby("call", as_index=False)[["n", "sold"]].sum()
    again = float(by_call.loc[by_call["call"] > 1, "sold"].sum())
    if again < MIN_WINS:
        raise NotApplicable(say("few_again", least=MIN_WINS), "snapshot")
    y = np.repeat([1.0, 0.0], len(cells))
    n = np.r_[cells["sold"], cells["n"] - cells["sold"]].astype(float)
    call = np.tile(cells["call"].to_numpy(float), 2)
    held = np.column_stack([call, np.ones(len(call)), np.tile(levels(cells["period"]), (2, 1))])
    found, kept = {}, n > 0
    for name, x in (("held", held), ("plain", held[:, :2])):
        fit = logit_fit(x[kept], y[kept], n=n[kept])
        found[name] = normal(fit.params[0], fit.se[0], "odds ratio", int(frame["n"].sum()), log=True)
    share, low, high = wilson(by_call["sold"], by_call["n"])
    table = by_call.assign(share=share, ci_low=low, ci_high=high).set_index("call")
    label = [say("call", call=k, n=row["n"]) for k, row in table.iterrows()]
    shown = table.rename(columns={"share": "estimate"}).assign(label=label)
    k = min(6, len(table))
    first, late = table.loc[1], table.loc[k]
    return Result(
        table.rename(columns={"share": say("share")}),
        say("again", found=found["held"], plain=found["plain"], first=first, k=k, late=late),
        checks=(gate(say, "chosen", None),),
        estimates={"S04a": found["held"]},
        picture=Picture(
            "intervals", shown, say("again_title", first=first, k=k, late=late), say("again_x"), "", {"unit": "percent"}
        ),
        counts=[("n", "sold")],
        details=found,
    )


def published() -> Result:
    """List published findings on the cost of winning and keeping, with how far each was checked.

    Checked: "seen" (the source itself was read), "second hand" (a text about it), "recomputed" (by us).
    """
    table = pd.DataFrame(tell.names("findings").values())
    findings: Any = words.catalogue("en")["cost"]["evidence"]["findings"].values()  # in whatever language it is told
    sure = sum("seen" in one["checked"] or "recomputed" in one["checked"] for one in findings)
    return Result(table, tell("published", count=len(table), sure=sure), counts=())


def gates(**results: Result) -> Result:
    """Put the gates of several results into one table.

    Parameters
    ----------
    **results : Result
        By name; those that do not apply say why.
    """
    absent_words, rows = tell("absent"), []
    for name, result in results.items():
        label = name.replace("_", " ")
        if result.missing is not None:
            rows.append((label, tell("all"), absent_words, str(result.missing)))
        rows += [(label, check.name, state, check.detail) for state, check in result.gates]
    table = pd.DataFrame(list(dict.fromkeys(rows)), columns=["study", "assumption", "status", "detail"])
    n = {state: int((table["status"] == state).sum()) for state in (*STATES, absent_words)}
    return Result(table, tell("gates", n=n, weak=n["weak check"], absent=n[absent_words]), counts=())
