"""What the parts of study 3 share: limits, rows of tables, and what a frame says about itself."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crmresearch import words
from crmresearch.errors import NotApplicable
from crmresearch.estimators.blocks import Functional, ratio_set
from crmresearch.estimators.inference import Fieller
from crmresearch.estimators.spending.winning import MIN_WINS
from crmresearch.result import Check, gate

say = words.of("cost.common")

SEVERAL = 2.0  # "several times" is claimed when the lower bound of the ratio passes this
USABLE_WINS = 30  # wins that make the normal limits usable

# columns that are spend, outcome or key: everything else that is a number can be held fixed
RESERVED = (
    "block", "channel", "segment", "n", "spend", "spend_squared", "spend_won", "won", "spend_randomised", "currency",
    "log_months", "ended", "profit",
)  # fmt: skip


def further(frame: pd.DataFrame) -> tuple[str, ...]:
    """Columns of numbers that are no spend, outcome or key: what to hold fixed."""
    numbers = frame.select_dtypes("number").columns
    return tuple(c for c in numbers if c not in RESERVED and frame[c].min() < frame[c].max())


def by_lot(prospects: pd.DataFrame) -> bool:
    """Tell whether the bank says that it set spend by lot."""
    return "spend_randomised" in prospects and bool(prospects["spend_randomised"].astype(bool).all())


def need_dated(frame: pd.DataFrame, *money: str) -> None:
    """Refuse a frame of customers that cannot show money over tenure."""
    if "tenure_month" not in frame:
        raise NotApplicable(say("undated"), "customers", "monthly")
    lacking = say("and_no").join(c.replace("_", " ") for c in money if c not in frame)
    if lacking:
        raise NotApplicable(say("unrecorded", lacking=lacking), "monthly")


def enough_wins(acquisition: pd.DataFrame, *tables: str) -> int:
    """Return the wins; too few for a cost per win are refused."""
    wins = int(acquisition["won"].sum())
    if wins < MIN_WINS:
        raise NotApplicable(say("few_wins", wins=wins, least=MIN_WINS), *tables)
    return wins


def need_spend(acquisition: pd.DataFrame) -> None:
    """Refuse prospects on whom nothing was spent: a cost of winning that is not recorded would read as none."""
    if not acquisition["spend"].any():
        raise NotApplicable(say("unspent"), "prospects")


def wins_gate(wins: int) -> Check:
    """Gate on the number of wins behind normal limits."""
    return gate(say, "wins", wins >= USABLE_WINS, wins=wins, least=USABLE_WINS)


def written(found: Fieller, spec: str = ",.2f") -> str:
    """Write Fieller's set in words."""
    if found.kind == "unbounded":
        return say("unbounded")
    low, high = format(found.low, spec), format(found.high, spec)
    return say("bounded", low=low, high=high) if found.kind == "bounded" else say("disjoint", low=low, high=high)


def row(quantity: str, value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    """Return a row of a table of quantities."""
    return {"quantity": quantity, "value": value, "ci_low": low, "ci_high": high, **more}


def ratio_row(quantity: str, num: Functional, den: Functional) -> dict[str, Any]:
    """Return a row for a ratio, with Fieller's set in words."""
    found = ratio_set(num, den)
    value = num.value / den.value if den.value else float("nan")
    return row(quantity, value, *found.ends, set=written(found))


def of(f: Functional, by: float = 1.0) -> tuple[float, float, float]:
    """Return value and ends of a functional, or of a multiple of it."""
    return by * f.value, by * f.low, by * f.high
