"""What is drawn (data, the name of a kind, words), in which colours and sizes, and what figures of a notebook share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd


# Okabe and Ito's palette: told apart under the common colour-vision deficiencies; black and grey are kept for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A")
ACCENT, INK, GREY = "#0072B2", "#222222", "#8A8A8A"
WIDTH, HEIGHT = 7.2, 4.2  # inches of one panel
DPI = 144


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
        Long form, in the order in which things are to appear. A column ``n`` counts the people behind a mark; a mark
        of fewer than the disclosure threshold is not drawn. Ends of intervals may be called as in tables, ``ci_low``
        and ``ci_high``.
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
