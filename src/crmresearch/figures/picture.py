"""What is drawn (data, the name of a kind, words), in which colours and sizes, and what figures of a notebook share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from crmresearch.disclosure import REASON
from crmresearch.errors import InputError
from crmresearch.rules import rules

# Okabe and Ito's palette: told apart under the common colour-vision deficiencies; black and grey are kept for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A")
ACCENT, INK, GREY = "#0072B2", "#222222", "#8A8A8A"
WIDTH, HEIGHT = 7.2, 4.2  # inches of one panel
DPI = 144
BROKEN = {"curves": ("y", "low", "high"), "matrix": ("value", "low", "high", "text")}  # kinds that keep an empty place


Kind = Literal["intervals", "curves", "calibration", "distribution", "scatter", "matrix"]


@dataclass(frozen=True)
class Mark:
    """A reference line.

    Parameters
    ----------
    at : float
        Where it stands.
    text : str
        What it is; written above an upright line, in the legend for a level one.
    style : {'none', 'limit', 'claim', 'estimate'}
        No effect (thin and dark); a limit (dashed, grey); what is claimed (dashed, dark); an estimate (coloured).
    axis : {'x', 'y'}
        The axis it crosses. Intervals take it from their value axis.
    """

    at: float
    text: str = ""
    style: Literal["none", "limit", "claim", "estimate"] = "none"
    axis: Literal["x", "y"] = "x"


@dataclass(frozen=True)
class Picture:
    """What a study hands over to be drawn: data, the name of a kind of figure, and words.

    Parameters
    ----------
    kind : {'intervals', 'curves', 'calibration', 'distribution', 'scatter', 'matrix'}
        One of the six kinds; :mod:`crmresearch.figures.kinds` says which columns and options each takes.
    data : DataFrame
        Long form, in the order in which things are to appear: of a protected table, or with a column ``n`` that counts
        the people behind a mark. What is suppressed, of too few or of unknown number is taken out at once; of values of
        single customers, a group of too few. Ends of intervals may be called as in tables, ``ci_low`` and ``ci_high``.
    title, x, y : str
        Title and axis labels, with units.
    options : mapping
        Options of the kind.
    size : (float, float), optional
        Width and height in inches.
    """

    kind: Kind
    data: pd.DataFrame
    title: str
    x: str = ""
    y: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[float, float] | None = None
    people: bool = True  # whether marks rest on people; those of a formula, or of simulated banks, do not

    def __post_init__(self) -> None:
        """Keep what may be drawn, and nothing else."""
        empty = BROKEN.get(self.kind, ())
        single = self.kind == "distribution" and "value" in self.data
        data = _within(self.data) if single else _drawable(self.data, empty) if self.people else self.data
        object.__setattr__(self, "data", data)
        if "points" in self.options:
            object.__setattr__(self, "options", {**self.options, "points": _drawable(self.options["points"], ())})

    @property
    def blank(self) -> bool:
        """Whether nothing is left to draw."""
        held = [c for c in BROKEN.get(self.kind, ())[:1] if c in self.data]
        return self.data.empty or bool(held and self.data[held].isna().all(axis=None))


def _drawable(data: pd.DataFrame, empty: tuple[str, ...]) -> pd.DataFrame:
    """Marks that may be drawn; others leave an empty place (``empty`` names the columns of what stood there)."""
    if not {"n", REASON} & set(data.columns):
        raise InputError(
            f"a figure of {', '.join(map(str, data.columns))} does not say how many people stand behind a mark; give "
            "a column n, or people=False where none do"
        )
    off = pd.Series(False, index=data.index)
    if REASON in data:
        off |= data[REASON].fillna("").ne("")
    if "n" in data:
        off |= ~(data["n"].eq(0) | data["n"].ge(rules.least))
    if not off.any() or not empty:
        return data[~off]
    return data.assign(**{c: data[c].mask(off) for c in empty if c in data})


def _within(data: pd.DataFrame) -> pd.DataFrame:
    """Values of single customers, in groups of enough."""
    group = data["group"] if "group" in data else pd.Series("", index=data.index)
    return data[group.map(group.value_counts()) >= rules.least]


@dataclass
class Shared:
    """What :func:`crmresearch.figures.use` sets: source line, folder of copies, their prefix and number, currency.

    ``english`` holds where the reader's language is Chinese and no font is there to draw it.
    """

    source: str = ""
    folder: Path | None = None
    prefix: str = ""
    currency: str = ""
    number: int = 0
    english: bool = False


shared = Shared()
