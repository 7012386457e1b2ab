"""Blocks of people, and the one bound on memory: a frame holds so many rows, and beyond them whole blocks are drawn.

A block is a random thousandth of all people, by a hash of the identifier. The first blocks are a random part of a bank:
what is estimated of them is of fewer rows, and its interval is that of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.engines import hashed
from crmresearch.data.pseudonyms import BLOCKS
from crmresearch.errors import InputError
from crmresearch.estimators.blocks import SETS

if TYPE_CHECKING:
    import ibis


T = TypeVar("T")
PEOPLE = ("customers", "monthly", "transactions", "snapshot")  # where people are counted: the first that is brought


def block_of(key: Any, pseudonymous: bool = False) -> Any:
    """Block of a person, by a hash of the identifier: a random thousandth of all, the same on every engine.

    The code of a person holds the block of the identifier that it stands for.
    """
    if pseudonymous:
        return (key % BLOCKS).cast("int32")
    return (hashed(key) % BLOCKS).cast("int32")


def person(bank: Bank, t: ibis.Table) -> Any:
    """Block of the person a row is about; a prospect has that of the customer he became."""
    names = [c for c in ("customer_id", "prospect_id") if c in t.columns]
    who = t[names[0]] if len(names) == 1 else t.customer_id.fill_null(t.prospect_id)
    return block_of(who, bank.pseudonymous)


def set_of(bank: Bank, t: ibis.Table) -> Any:
    """One of a hundred sets of blocks a row's person is in."""
    return (person(bank, t) % SETS).cast("int32")


class Part(Bank):
    """The people of the first blocks of a bank: every table that names them holds their rows alone."""

    def __init__(self, whole: Bank, blocks: int) -> None:
        vars(self).update(vars(whole))
        self.whole, self.blocks = whole, blocks
        self._rows: dict[str, ibis.Table] = {}  # a column of a table is no column of another that was filtered alike

    def table(self, name: str) -> ibis.Table:
        """Return the rows of a table that are about these people."""
        if name not in self._rows:
            t = super().table(name)
            named = {"customer_id", "prospect_id"} & {*t.columns}
            self._rows[name] = t.filter(person(self, t) < self.blocks) if named else t
        return self._rows[name]

    def compiled(self, request: tuple[object, ...], build: Callable[[], ibis.Table]) -> pd.DataFrame:
        """Run an expression and keep it as written, for as many blocks."""
        return super().compiled((*request, self.blocks), build)

    def kept(self, name: str, build: Callable[[], ibis.Table]) -> ibis.Table:
        """Compute a table once, of as many blocks."""
        return super().kept(f"{name}, {self.blocks} blocks", build)


def whole_of(bank: Bank) -> Bank:
    """Return the bank that a part was drawn from, for what these people have to do with all."""
    return bank.whole if isinstance(bank, Part) else bank


def part_of(bank: Bank, rows: ibis.Table | list[ibis.Table], most: int | None = None) -> Bank:
    """Return the bank, or as many of its first blocks as have at most ``most`` of these rows.

    Raises
    ------
    InputError
        If a single block has more.
    """
    most, n = most or bank.most, np.zeros(BLOCKS)
    for t in rows if isinstance(rows, list) else [rows]:
        found = bank.frame(t.group_by(block=person(bank, t)).aggregate(n=t.count()))
        np.add.at(n, found["block"].to_numpy(int), found["n"].to_numpy(float))
    blocks = int((n.cumsum() <= most).sum())
    if not blocks:
        raise InputError(
            f"at most {most:,} rows may enter memory, and one block of people has {n[0]:,.0f}; allow {n.max():,.0f}"
        )
    return bank if blocks == BLOCKS else Part(bank, blocks)


def bounded(bank: Bank, per: str, reduce: Callable[[Bank], T]) -> T:
    """Reduce a bank, or the part of it whose frame keeps within ``bank.most`` rows; see :func:`drawn`.

    Parameters
    ----------
    per : str
        The table whose rows the frame's are; ``customers``: one for each customer, wherever these are known from.
    """
    table = next((t for t in PEOPLE if t in bank.tables), per) if per == "customers" else per
    if isinstance(bank, Part) or table not in bank.tables or bank.rows(table) <= bank.most:
        return reduce(bank)
    rows = bank.table(table)
    part = part_of(bank, rows.select("customer_id").distinct() if table in ("monthly", "transactions") else rows)
    return drawn(part, reduce(part))


def drawn(bank: Bank, found: T) -> T:
    """Note with a frame, in ``attrs["one_in"]``, that it is of one customer in so many, where that is so."""
    if isinstance(bank, Part) and isinstance(found, pd.DataFrame):
        found.attrs["one_in"] = BLOCKS / bank.blocks
    return found
