"""Tables in round numbers, whose shares, ratios and intervals give no count back that was rounded.

By :func:`frame` the door rounds in a run whose rules have a base, by :func:`table` a release in round numbers does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from crmresearch.rules import DIGITS, rounded, rules

_CELL = re.compile(r"\s*([+＋−-]?)(\d*\.?\d+\.?(?:e[+-]?\d+)?)\s*(%?)\s*", re.I)
People = Mapping[int, float]  # what a row counts, by the place of its column


class _Number(NamedTuple):
    """A number as it is written: its value, how exact it is, in how many parts, with a sign before or behind it."""

    value: float
    exact: float
    parts: int
    plus: str
    percent: str

    @classmethod
    def read(cls, name: str, cell: str) -> _Number | None:
        if not (found := _CELL.fullmatch(cell)):
            return None
        sign, digits, percent = found.groups()
        parts = 100 if percent or "percent" in name.casefold() else 1
        exact = 0.5 * 10.0 ** -len(digits.casefold().partition("e")[0].partition(".")[2]) / parts + 1e-9
        value = float(digits) / parts * (-1 if sign in ("-", "−") else 1)
        return cls(value, exact, parts, sign if sign in ("+", "＋") else "", percent)

    def gives_back(self, n: float) -> bool:
        """Tell whether a share of so many people gives back a whole number of them."""
        return abs(self.value * n - round(self.value * n)) <= self.exact * n

    def written(self, value: float) -> str:
        """Write another number as this one is."""
        return f"{self.plus if value > 0 else ''}{value * self.parts:.{DIGITS}g}{self.percent}"


def table(names: Sequence[str], rows: Sequence[Sequence[str]], people: Sequence[People], base: int) -> list[list[str]]:
    """Return the rows of a table in round numbers: counts to the base, shares as such counts give them.

    All else keeps three digits; the first column names the row. A column of shares is of the people, in their row or in
    all, of whom every share gives back a whole number, as exact as it is written; both are rounded, and so are the two
    counts of a ratio above 1. Any other number of that size (the end of an interval, say) moves by steps of that many
    people of the most that its row counts, or of those below the ratio.
    """
    out = [list(row) for row in rows]
    sums = {c: sum(row.get(c, 0) for row in people) for row in people for c in row}
    own = [[row.get(c, 0) for row in people] for c in sorted(sums, key=lambda c: -sums[c])]
    wholes = [*own, *([n] * len(rows) for n in sums.values())]
    most = [max(row.values(), default=0) for row in people]
    read = [
        [_Number.read(name, row[k]) if k and k not in n else None for row, n in zip(rows, people, strict=True)]
        for k, name in enumerate(names)
    ]
    ratios = [_ratio(column, people) for column in read]
    beside = next(((k, under) for k, two in enumerate(ratios) if two for under in two[1:]), None)
    for k, name in enumerate(names):
        shares = [x if x and abs(x.value) <= 1 else None for x in read[k]]
        of = next(
            (ns for ns in wholes if all(not x or not n or x.gives_back(n) for x, n in zip(shares, ns, strict=True))),
            most,
        )
        for at, (row, counts, x, share, n) in enumerate(zip(out, people, read[k], shares, of, strict=True)):
            if k in counts:
                row[k] = str(base * round(counts[k] / base))
            elif x and (two := ratios[k]) and {*two} <= counts.keys():
                over, under = (round(counts[c] / base) for c in two)
                row[k] = x.written(over / under) if under else ""
            elif share and round(n / base):
                row[k] = share.written(round(round(share.value * n) / base) / round(n / base))
            elif x and "year" not in name.casefold():
                value = x.value
                if beside and _of_size(value, read[beside[0]][at]) and (n := counts.get(beside[1], 0)):
                    value = round(round(value * n) / base) / max(round(n / base), 1)
                row[k] = x.written(value)
    return out


def _ratio(column: Sequence[_Number | None], people: Sequence[People]) -> tuple[int, int] | None:
    """Return the places of the two counts whose ratio a column is, in all its rows and in one of them above 1."""
    told = [(x, n) for x, n in zip(column, people, strict=True) if x]
    if not any(x.value > 1 for x, _ in told):
        return None
    for over, under in itertools.permutations(sorted({c for n in people for c in n}), 2):
        counts = [(n.get(over, 0), n.get(under, 0)) for _, n in told]
        if all(b and abs(x.value * b - a) <= x.exact * b for (a, b), (x, _) in zip(counts, told, strict=True)):
            return over, under
    return None


def _of_size(value: float, ratio: _Number | None) -> bool:
    """Tell whether a number may be an end of a ratio's interval."""
    return ratio is not None and abs(value) > 1 and ratio.value / 3 <= abs(value) <= ratio.value * 3


def frame(shown: pd.DataFrame, counts: Sequence[str], done: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table in round numbers by the rules in force: what counts people, and columns that hold no integers."""
    out, names = shown.copy(), [str(c) for c in shown.columns]
    own = {k: pd.to_numeric(shown.iloc[:, k], errors="coerce") for k, name in enumerate(names) if name in counts}
    free = [
        k
        for k, kind in enumerate(shown.dtypes)
        if pd.api.types.is_float_dtype(kind) and k not in own and names[k] not in done
    ]
    people = [
        {k + 1: float(n.iloc[at]) for k, n in own.items() if n.iloc[at] == n.iloc[at]} for at in range(len(shown))
    ]
    cells = [
        ["", *(f"{row[k]:.15g}" if k in free else "" for k in range(len(names)))]
        for row in shown.itertuples(index=False)
    ]
    told = table(["", *names], cells, people, rules.base)
    for k in free:
        out.isetitem(k, [float(row[k + 1] or "nan") for row in told])
    for k, n in own.items():
        out.isetitem(k, n.map(rounded).to_numpy())
    return out
