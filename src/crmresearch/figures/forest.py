"""Rows that differ in what they are held against, in panels below each other: the picture of a claim."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.figures.dress import dots, wrap
from crmresearch.figures.picture import INK, PALETTE

WIDE = 5.2  # inches: its type can be read on a telephone
ROW, REST = 0.29, 0.85  # inches of a row, and of title and axis of a panel
ROOM = 0.62  # height of a line of type over a row, in rows


def _texts(data: pd.DataFrame, wide: float) -> dict[Hashable, str]:
    """What stands above each row, broken into lines that fit a figure so many inches wide."""
    first = data.drop_duplicates("label")
    texts = first["over"].fillna("") if "over" in first else [""] * len(first)
    longest = 0.075 * max(map(len, map(str, first["label"])), default=0)
    return {
        n: wrap(t, int((wide - longest - 0.3) / 0.066)) if t else "" for n, t in zip(first["label"], texts, strict=True)
    }


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def places(data: pd.DataFrame, wide: float) -> dict[Hashable, float]:
    """Places of lying rows, the first on top, with room for what stands above them."""
    texts = _texts(data, wide)
    heights = np.array([1 + ROOM * _lines(t) for t in texts.values()])
    from_top = np.cumsum(heights)
    return dict(zip(texts, from_top[-1] - from_top, strict=True)) if len(texts) else {}


def over(ax: Any, data: pd.DataFrame, at: Mapping[Hashable, float]) -> float:
    """Write what stands above the rows; return how far it reaches beyond the highest one."""
    texts = _texts(data, ax.figure.get_figwidth()) if "over" in data else {}
    for name, text in texts.items():
        ax.annotate(text, (0, at[name] + 0.4), xycoords=("axes fraction", "data"), fontsize=8.5, va="bottom", color=INK)
    return ROOM * _lines(next(iter(texts.values()), ""))


def held_against(ax: Any, data: pd.DataFrame) -> None:
    """Draw bound and truth of lying rows, each over its own row."""
    for column in {"bound", "mirror"} & set(data):
        ax.vlines(data[column], data["at"] - 0.45, data["at"] + 0.38, colors=INK, linestyles=(0, (3, 2)), linewidth=1.1)
    if "truth" in data and data["truth"].notna().any():
        dots(ax, data["truth"], data["at"] - 0.32, PALETTE[3], marker="^", s=30)


def height(data: pd.DataFrame) -> float:
    """Height of a panel, in rows."""
    at, texts = places(data, WIDE), _texts(data, WIDE)
    return 1.3 + max(at.values()) + ROOM * _lines(next(iter(texts.values())))


def axes(heights: Sequence[float]) -> Any:
    """Return an array of fresh axes below each other, each as high as its rows."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, sum(REST + ROW * h for h in heights)), layout="constrained")
    FigureCanvasSVG(figure)
    return figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).ravel()
