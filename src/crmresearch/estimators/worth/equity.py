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

import numpy as np
import pandas as pd

from crmresearch.errors import InputError
from crmresearch.estimators.frames import need, once
from crmresearch.estimators.worth.margin import MarginModel

PARTS = ("unwinding", "realised", "won", "won back", "deepened", "shrunk", "lost", "remeasurement")
SIGNS = dict(zip(PARTS, (1, -1, 1, 1, 1, -1, -1, 1), strict=True))
TOLERANCE = 1e-9  # of gross flows: more is a customer counted twice or in no part
FLAGS = ("here_opening", "here_closing", "known")


def equity_flows(frame: pd.DataFrame, unwinding_rate: float) -> tuple[pd.Series, pd.Series]:
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
    flows : Series
        ``opening``, the parts (as positive amounts where their sign in the sum is minus), ``closing``, ``gross`` (sum
        of the parts' absolute values) and ``gap`` (relative to it).
    people : Series
        Customers behind each of them.

    Raises
    ------
    InputError
        If values are missing, somebody has value where not there, a customer occurs twice, or the parts do not add up.
    """
    columns = ("opening", "closing", "carried", "realised")
    need(frame, "equity", *columns, *FLAGS)
    once(frame, "equity")
    opening, closing, carried, realised = (frame[c].to_numpy(dtype=float) for c in columns)
    before, after, known = (frame[c].to_numpy(dtype=bool) for c in FLAGS)
    absent = (~before & (opening != 0)) | (~after & ((closing != 0) | (carried != 0)))
    if absent.any():
        raise InputError(f"equity: {int(absent.sum())} rows have value at a date when the customer is not there")
    came, went = ~before, before & ~after
    # what should still be ahead, had all gone as valued, and what customers of both dates are worth beyond it
    change = np.where(before & after, carried - (opening * (1 + unwinding_rate) - realised), 0.0)
    won, back, deepened, shrunk = came & ~known, came & known, change > 0, change < 0
    lost = opening[went].sum() * (1 + unwinding_rate) - realised[went].sum()
    members = {
        "unwinding": (before, opening.sum() * unwinding_rate),
        "realised": (before | True, realised.sum()),
        "won": (won, (carried + realised)[won].sum()),
        "won back": (back, (carried + realised)[back].sum()),
        "deepened": (deepened, change[deepened].sum()),
        "shrunk": (shrunk, -change[shrunk].sum()),
        "lost": (went, lost),
        "remeasurement": (after, closing[after].sum() - carried[after].sum()),
    }
    parts = {part: float(amount) for part, (_, amount) in members.items()}
    gross = sum(abs(v) for v in parts.values())
    explained = opening.sum() + sum(SIGNS[p] * v for p, v in parts.items())
    difference = abs(closing.sum() - explained)
    # without any flow the two totals are compared with their own size
    gap = difference / (gross or abs(closing.sum()) or 1.0)
    if gap > TOLERANCE:
        raise InputError(
            f"equity: the parts miss the closing value by {gap:.1e} of gross flows; check that flags and values agree"
        )
    flows = {"opening": opening.sum(), **parts, "closing": closing.sum(), "gross": gross, "gap": gap}
    people = {part: int(inside.sum()) for part, (inside, _) in members.items()}
    return pd.Series(flows), pd.Series({"opening": int(before.sum()), **people, "closing": int(after.sum())})


def _valued(frame: pd.DataFrame, model: MarginModel, date: str, horizon: int, discount: float) -> np.ndarray:
    """Values at one date, ``(groups + 1, n)``; zero for who is not there."""
    here = frame[f"here_{date}"].to_numpy(dtype=bool)
    names = {"fold": "fold", **{f"{c}_{date}": c for c in ("tenure", "months_before", "before")}}
    names |= {c: "band" for c in [f"band_{date}"] if c in frame}
    out = np.zeros((len(model.hazard), len(frame)))
    if here.any():
        out[:, here] = model.values(frame.loc[here, list(names)].rename(columns=names), horizon, discount)
    return out


def refitted_flows(
    frame: pd.DataFrame,
    opening: MarginModel,
    closing: MarginModel,
    *,
    months: int,
    horizon_months: int,
    annual_discount: float,
) -> tuple[pd.DataFrame, pd.Series, float]:
    """Flows of equity by two fitted models: of all customers, and without each group of them.

    Parameters
    ----------
    frame : DataFrame
        One row per customer at either date: ``fold``, the flags and ``realised`` of :func:`equity_flows`, and for each
        date ``tenure_<date>``, ``months_before_<date>``, ``before_<date>``.
    opening, closing : MarginModel
        Fitted with data up to the opening and up to the closing date.
    months : int
        Months between the dates.
    horizon_months, annual_discount
        Of the value.

    Returns
    -------
    flows : DataFrame
        Row 0 of all, then without each group, scaled to all customers.
    people : Series
        Customers behind each column.
    gap : float
        Largest gap of the parts, relative to gross flows.
    """
    if months < 1:
        raise InputError(f"months is {months}; the closing date must come after the opening date")
    need(frame, "equity", "fold", *FLAGS)
    rate = (1 + annual_discount) ** (months / 12) - 1
    start = _valued(frame, opening, "opening", horizon_months, annual_discount)
    carried = _valued(frame, opening, "closing", horizon_months, annual_discount)
    end = _valued(frame, closing, "closing", horizon_months, annual_discount)
    codes, groups = opening.codes(frame), len(opening.groups)
    runs = []
    for g in range(groups + 1):
        part = frame.assign(opening=start[g], carried=carried[g], closing=end[g])[codes != g - 1]
        runs.append(equity_flows(part, rate))
    flows = pd.DataFrame([run for run, _ in runs])
    gap = float(flows.pop("gap").max())
    flows.iloc[1:] *= groups / (groups - 1)
    return flows.drop(columns="gross"), runs[0][1], gap
