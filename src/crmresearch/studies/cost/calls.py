"""Contacts per sale: what real call lists without money can say about winning and keeping, and what they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

NEW, OLD = "new", "won before"


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
    r.checked(groups, ("group", "n", "contacts", "sold", "contacts2", "contacts_sold"), ("contacts", "sold"), "groups")
    table = groups[["group", "n", "sold", "contacts"]].copy()
    per = {row.group: _per_sale(row) for row in groups.itertuples()}
    table["share_sold"] = table["sold"] / table["n"]
    table["per_sale"] = [per[g][0] for g in table["group"]]
    half = np.array([1.959964 * np.sqrt(per[g][1]) for g in table["group"]])
    table["ci_low"], table["ci_high"] = table["per_sale"] - half, table["per_sale"] + half
    sold = table.set_index("group")["sold"]
    if not {NEW, OLD} <= set(sold.index) or sold[[NEW, OLD]].min() < r.MIN_WINS:
        return Result.not_applicable(Missing(f"fewer than {r.MIN_WINS} sales to new people or to those won before"))
    (new, var_new), (old, var_old) = per[NEW], per[OLD]
    found = r.fieller(new, old, var_new, var_old)
    bounded = found.kind == "bounded"
    low, high = (found.low, found.high) if bounded else (-np.inf, np.inf)
    n = int(table.set_index("group").loc[[NEW, OLD], "n"].sum())
    declared = Check(
        "like people were called alike",
        "declared",
        "whom to call, and how often, was the bank's choice; those won before were likelier to buy anyway",
        "undecided",
    )
    sentence = (
        f"A sale took {new:.1f} contacts among people never approached before and {old:.1f} among those an "
        "earlier campaign had "
        f"won: {new / old:.1f} {found.text(1)} times as many. This says that selling again to a proven buyer "
        "takes far fewer "
        "calls. It cannot say what a customer costs: no prices are known, both groups may hold customers of the bank, "
        "selling a deposit is not keeping a customer, and calls were not drawn by lot."
    )
    return Result(
        table.reset_index(drop=True),
        sentence,
        checks=(declared,),
        estimates={"contacts": Estimate(new / old, low, high, "ratio of contacts per sale", n)},
        draw=lambda ax: draw_per_sale(ax, table),
        alt="Dots with 95% intervals: contacts per sale by history. " + sentence,
        counts=("n", "sold"),
        digits=2,
    )


def _per_sale(row: Any) -> tuple[float, float]:
    """Ratio of totals and its variance from sums over people (sales are 0 or 1, so their squares are themselves)."""
    if not row.sold > 0:
        return np.inf, np.nan
    value = row.contacts / row.sold
    spread = row.contacts2 - 2 * value * row.contacts_sold + value**2 * row.sold
    return float(value), float(spread / row.sold**2)


def draw_per_sale(ax: Any, table: pd.DataFrame) -> Any:
    """Draw contacts per sale by history."""
    from crmresearch import figures

    shown = table[np.isfinite(table["per_sale"])].sort_values("per_sale")
    places = np.arange(len(shown))
    figures.intervals(ax, places, shown["per_sale"], shown["ci_low"], shown["ci_high"], horizontal=True)
    for y, row in enumerate(shown.itertuples()):
        ax.annotate(
            f"{row.per_sale:.1f}", (row.per_sale, y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    ax.set_yticks(range(len(shown)), [f"{g} (n = {n:,})" for g, n in zip(shown["group"], shown["n"], strict=True)])
    ax.set(ylim=(-0.6, len(shown) - 0.3), xlim=(0, None))
    ax.set_xlabel("contacts per sale, 95% interval")
    ax.set_title("How many calls a sale takes")
    return ax
