"""Customer equity accounting: where a change of equity between two dates comes from.

Equity is the value of the coming contribution of today's customers (survival x margin). Between two dates

    closing = opening + unwinding of the discount - realised contribution
              + won + won back + deepened - shrunk - lost + remeasurement

The parts, each summed over its own customers and none the balance of the others:

- *unwinding*: the opening value is one period nearer;
- *realised*: contribution received in between has left the future;
- *won*, *won back*: closing value, by the opening model, of customers who were not there, plus what they have
  already brought;
- *deepened*, *shrunk*: customers of both dates who are worth more, or less, than their carried value;
- *lost*: the carried value of those who are no longer there;
- *remeasurement*: the same customers valued by the closing instead of the opening model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.errors import InputError
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study
from crmresearch.studies.value.common import interval, jackknife
from crmresearch.studies.value.margin import MarginModel

PARTS = ("unwinding", "realised", "won", "won back", "deepened", "shrunk", "lost", "remeasurement")
SIGNS = dict(zip(PARTS, (1, -1, 1, 1, 1, -1, -1, 1), strict=True))
TOLERANCE = 1e-9  # of gross flows: more is a customer counted twice or in no part


def equity_flows(frame: pd.DataFrame, *, unwinding_rate: float) -> pd.Series:
    """Split the change of equity into its parts.

    Parameters
    ----------
    frame : DataFrame
        One row per customer: ``here_opening``, ``here_closing``, ``known`` (seen up to the opening date), ``opening``
        and ``closing`` (value by the model of that date), ``carried`` (value at closing by the opening model),
        ``realised``. A value where somebody is not there must be 0.
    unwinding_rate : float
        Discount of the whole period, e.g. ``1.1 ** (months / 12) - 1``.

    Returns
    -------
    Series
        ``opening``, the parts (as positive amounts where their sign in the sum is minus), ``closing``, ``gross`` (sum
        of the parts' absolute values) and ``gap`` (relative to it).

    Raises
    ------
    InputError
        If values are missing, somebody has value where not there, a customer occurs twice, or the parts do not add up.
    """
    columns = ("opening", "closing", "carried", "realised")
    lacking = [c for c in (*columns, "here_opening", "here_closing", "known") if c not in frame.columns]
    if lacking:
        raise InputError(f"equity: no column {', '.join(lacking)}; it has {', '.join(map(str, frame.columns))}")
    if "customer_id" in frame.columns and (twice := int(frame["customer_id"].duplicated().sum())):
        raise InputError(f"equity: {twice} rows repeat a customer_id; give one row per customer")
    opening, closing, carried, realised = (frame[c].to_numpy(dtype=float) for c in columns)
    for name, x in zip(columns, (opening, closing, carried, realised), strict=True):
        if bad := int((~np.isfinite(x)).sum()):
            raise InputError(
                f"equity: {name} is missing or infinite in {bad} rows; a customer who is not there has value 0"
            )
    before, after = frame["here_opening"].to_numpy(dtype=bool), frame["here_closing"].to_numpy(dtype=bool)
    known = frame["known"].to_numpy(dtype=bool) | before
    absent = (~before & (opening != 0)) | (~after & ((closing != 0) | (carried != 0)))
    if absent.any():
        raise InputError(f"equity: {int(absent.sum())} rows have value at a date when the customer is not there")
    came, stayed, went = ~before, before & after, before & ~after
    due = (
        opening[before] * (1 + unwinding_rate) - realised[before]
    )  # what should still be ahead, had all gone as valued
    change = carried[stayed] - due[after[before]]
    parts = {
        "unwinding": opening.sum() * unwinding_rate,
        "realised": realised.sum(),
        "won": (carried + realised)[came & ~known].sum(),
        "won back": (carried + realised)[came & known].sum(),
        "deepened": change[change > 0].sum(),
        "shrunk": -change[change < 0].sum(),
        "lost": opening[went].sum() * (1 + unwinding_rate) - realised[went].sum(),
        "remeasurement": closing[after].sum() - carried[after].sum(),
    }
    gross = sum(abs(v) for v in parts.values())
    explained = opening.sum() + sum(SIGNS[p] * v for p, v in parts.items())
    difference = abs(closing.sum() - explained)
    # without any flow the two totals are compared with their own size
    gap = difference / (gross or abs(closing.sum()) or 1.0)
    if gap > TOLERANCE:
        raise InputError(
            f"equity: the parts miss the closing value by {gap:.1e} of gross flows; check that flags and values agree"
        )
    return pd.Series({"opening": opening.sum(), **parts, "closing": closing.sum(), "gross": gross, "gap": gap})


def _valued(frame: pd.DataFrame, model: MarginModel, date: str, horizon: int, discount: float) -> np.ndarray:
    """Values at one date, ``(groups + 1, n)``; zero for who is not there."""
    here = frame[f"here_{date}"].to_numpy(dtype=bool)
    names = {"fold": "fold", **{f"{c}_{date}": c for c in ("tenure", "months_before", "before")}}
    out = np.zeros((len(model.hazard), len(frame)))
    if here.any():
        out[:, here] = model.values(frame.loc[here, list(names)].rename(columns=names), horizon, discount)
    return out


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
    if months < 1:
        raise InputError(f"months is {months}; the closing date must come after the opening date")
    if "fold" not in frame.columns:
        raise InputError("equity: no column fold; the intervals need groups of customers")
    rate = (1 + annual_discount) ** (months / 12) - 1
    start = _valued(frame, opening, "opening", horizon_months, annual_discount)
    carried = _valued(frame, opening, "closing", horizon_months, annual_discount)
    end = _valued(frame, closing, "closing", horizon_months, annual_discount)
    codes = np.searchsorted(opening.groups, frame["fold"].to_numpy())
    groups, runs = len(opening.groups), []
    for g in range(groups + 1):
        part = frame.assign(opening=start[g], carried=carried[g], closing=end[g])[codes != g - 1]
        flows = equity_flows(part, unwinding_rate=rate)
        # a total without one group is scaled to all customers
        runs.append(flows if g == 0 else flows * groups / (groups - 1))
    values = np.array([run.drop(["gross", "gap"]).to_numpy(dtype=float) for run in runs])
    total, _, low, high = jackknife(values)
    names = list(runs[0].index[:-2])
    counts = _members(frame, start[0] * (1 + rate), carried[0])
    rows = [
        (n, SIGNS.get(n, 1) * v, *sorted((SIGNS.get(n, 1) * a, SIGNS.get(n, 1) * b)), counts[n])
        for n, v, a, b in zip(names, total, low, high, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["part", "money", "ci_low", "ci_high", "n"])
    gap = max(float(run["gap"] if g == 0 else run["gap"] / groups * (groups - 1)) for g, run in enumerate(runs))
    estimate = Estimate(gap, gap, gap, "share of gross flows", len(frame))
    cell = table.set_index("part")

    def money(part: str) -> str:
        row = cell.loc[part]
        return interval(row["money"], row["ci_low"], row["ci_high"], "+,.0f")

    change = jackknife(values[:, -1] - values[:, 0])
    sentence = (
        f"Customer equity ({horizon_months} months, {annual_discount:.0%} a year) changed by "
        f"{interval(change[0], change[2], change[3], '+,.0f')} in {months} months: won {money('won')}, deepened "
        f"{money('deepened')}, shrunk {money('shrunk')}, lost {money('lost')}, remeasurement "
        f"{money('remeasurement')}. The parts add up to {gap:.0e} of gross flows."
    )
    adds = Check.of(
        "parts add up", gap <= TOLERANCE, f"the largest gap is {gap:.0e} of gross flows; {TOLERANCE:.0e} is allowed"
    )

    def draw(ax: Any) -> Any:
        moves = table["money"].to_numpy(dtype=float)
        base = np.concatenate([[0], np.cumsum(moves[:-1])])
        base[-1] = 0
        color = [
            figures.GREY,
            *(figures.PALETTE[2] if m >= 0 else figures.PALETTE[1] for m in moves[1:-1]),
            figures.GREY,
        ]
        at = np.arange(len(table))
        ax.bar(at, moves, bottom=base, color=color)
        top = base + moves
        ends = (top + table[end] - table["money"] for end in ("ci_low", "ci_high"))
        figures.intervals(ax, at, top, *ends, fmt="", color=figures.INK)
        ax.set_xticks(
            at,
            [f"{p}\nn = {n:,}" for p, n in zip(table["part"], table["n"], strict=True)],
            rotation=35,
            ha="right",
            fontsize=8,
        )
        ax.set(
            ylabel=f"money, {horizon_months} months ahead at {annual_discount:.0%}",
            title=f"Customer equity over {months} months, 95% intervals",
        )
        figures.money_axis(ax)
        return ax

    size = dict(zip(names, np.abs(total), strict=True))
    alt = (
        f"Waterfall from an opening equity of {total[0]:,.0f} to a closing one of {total[-1]:,.0f}; realised "
        f"contribution takes {size['realised']:,.0f}, newly won customers add {size['won']:,.0f}, lost take "
        f"{size['lost']:,.0f}."
    )
    return Result(table, sentence, (adds,), {"S03": estimate}, draw, alt, digits=0, figsize=(8.2, 4.8))


def _members(frame: pd.DataFrame, due: np.ndarray, carried: np.ndarray) -> dict[str, int]:
    """Customers behind each part."""
    before, after = frame["here_opening"].to_numpy(dtype=bool), frame["here_closing"].to_numpy(dtype=bool)
    known = frame["known"].to_numpy(dtype=bool) | before
    change = carried - (due - frame["realised"].to_numpy(dtype=float))
    stayed = before & after
    return {
        "opening": int(before.sum()),
        "unwinding": int(before.sum()),
        "realised": len(frame),
        "won": int((~before & ~known).sum()),
        "won back": int((~before & known).sum()),
        "deepened": int((stayed & (change > 0)).sum()),
        "shrunk": int((stayed & (change < 0)).sum()),
        "lost": int((before & ~after).sum()),
        "remeasurement": int(after.sum()),
        "closing": int(after.sum()),
    }
