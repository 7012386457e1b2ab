"""What the six kinds share: units and truthful ticks, colours in order, marks, legends beside the data, titles."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import Formatter, MaxNLocator

from crmresearch import words
from crmresearch.figures.picture import ACCENT, GREY, INK, PALETTE, Picture, shared

say = words.of("top.figures")
SCALES = {"percent": (100.0, "%"), "points": (100.0, "")}  # what a unit multiplies by and writes behind a number
STYLES: Mapping[str, Mapping[str, Any]] = {
    "none": {"color": INK, "linewidth": 1.0},
    "limit": {"color": GREY, "linewidth": 1.2, "linestyle": "--"},
    "claim": {"color": INK, "linewidth": 1.2, "linestyle": "--"},
    "estimate": {"color": PALETTE[1], "linewidth": 1.4, "linestyle": "--"},
}
_BROAD = re.compile("[\u2e80-\u9fff\uff00-\uff60]")  # Chinese characters and signs
_PIECE = re.compile("[\u2e80-\u9fff\uff00-\uff60][\u3001-\u3011\uff01-\uff1f]*|[^\\s\u2e80-\u9fff\uff00-\uff60]+|\\s+")
OVER: Mapping[str, Any] = {"x": 0.01, "ha": "left", "fontsize": 11, "fontweight": "bold"}  # a title over the figure


class Ticks(Formatter):
    """Tick labels that say where the tick is: as many digits as it takes, and no more.

    Parameters
    ----------
    unit : {'number', 'percent', 'points', 'money'}
        ``percent`` writes shares in percent, ``points`` in percentage points without a sign; money and numbers from
        ten thousand on get separators (a year does not).
    each : bool
        Digits for each tick alone, as logarithmic axes need them.
    """

    def __init__(self, unit: str = "number", each: bool = False) -> None:
        self.unit, self.each = unit, each

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        """Label all ticks of an axis."""
        scale, sign = SCALES.get(self.unit, (1.0, ""))
        ticks = [scale * float(v) for v in values]
        steps = np.diff(sorted(set(ticks)))
        close = [1e-6 * (abs(t) if self.each else float(min(steps, default=1.0))) for t in ticks]
        enough = ((d for d in range(9) if abs(round(t, d) - t) <= c) for t, c in zip(ticks, close, strict=True))
        digits = [next(found, 9) for found in enough]
        comma = "," if self.unit == "money" or max(map(abs, ticks), default=0) >= 10_000 else ""
        most = max(digits, default=0)
        return [f"{t + 0.0:{comma}.{d if self.each else most}f}{sign}" for t, d in zip(ticks, digits, strict=True)]

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Label one tick."""
        return self.format_ticks([x])[0]


def spoken(text: str) -> str:
    """Return a text as figures can draw it."""
    return words.english(text) if shared.english else text


def breadth(text: str) -> int:
    """Count the characters of a text; a Chinese one is as broad as two."""
    return len(text) + len(_BROAD.findall(text))


def wrap(text: str, width: int) -> str:
    """Break each line of a text into as few lines as fit, of about equal length."""

    def broken(row: str, width: int) -> list[str]:
        if not _BROAD.search(row):
            return textwrap.wrap(row, width, break_on_hyphens=False, break_long_words=False)
        lines = [""]
        for piece in _PIECE.findall(row):
            if lines[-1] and breadth(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece if lines[-1] else piece.lstrip()
        return [line.rstrip() for line in lines]

    out = []
    for row in text.split("\n"):
        lines = len(broken(row, max(width, 12)))
        narrow = next(
            (w for w in range(breadth(row) // max(lines, 1) + 1, width) if len(broken(row, w)) == lines), width
        )
        out += broken(row, max(narrow, 1)) or [""]
    return "\n".join(out)


def label(text: str, unit: str = "number") -> str:
    """Name the bank's currency in a label: in the place of the word money, or behind a label of money."""
    currency = shared.currency
    if not currency:
        return text
    named = re.sub(rf"(?<![a-zA-Z]){say('money')}(?![a-zA-Z])", currency, text)
    return f"{named}, {currency}" if unit == "money" and text and currency not in named else named


def groups(data: pd.DataFrame, column: str = "group", ordered: bool = False) -> dict[Any, Any]:
    """Return the colour of each group in the order of appearance, or of categories; ordered ones go light to dark."""
    if column not in data:
        return {None: ACCENT}
    kind = data[column].dtype
    if isinstance(kind, pd.CategoricalDtype):
        names, ordered = [c for c in kind.categories if (data[column] == c).any()], ordered or bool(kind.ordered)
    else:
        names = list(dict.fromkeys(data[column]))
    few = PALETTE if len(names) <= len(PALETTE) else sns.color_palette("husl", len(names))
    return dict(zip(names, sns.color_palette("crest", len(names)) if ordered else few, strict=False))


def part(data: pd.DataFrame, name: Any, column: str = "group") -> pd.DataFrame:
    """Return the rows of one group."""
    return data if name is None else data[data[column] == name]


def bars(ax: Any, at: Any, low: Any, high: Any, lying: bool, colors: Any, **style: Any) -> None:
    """Draw intervals from end to end, whatever the estimate: that of a bootstrap may lie outside."""
    lines = ax.hlines if lying else ax.vlines
    lines(np.asarray(at), np.asarray(low, float), np.asarray(high, float), colors=colors, **{"linewidth": 1.6} | style)


def dots(ax: Any, x: Any, y: Any, colors: Any, hollow: Any = None, **style: Any) -> None:
    """Draw points, hollow ones with a white middle."""
    style = {"s": 34, "linewidth": 0} | style
    sns.scatterplot(x=np.asarray(x), y=np.asarray(y), ax=ax, legend=False, zorder=3, **style)
    points = ax.collections[-1]
    face = [colors] * len(x) if isinstance(colors, str | tuple) else list(colors)
    points.set_edgecolors(face)
    points.set_linewidths(1.3)
    points.set_facecolors(face if hollow is None else ["white" if h else c for h, c in zip(hollow, face, strict=True)])


def line(color: Any, name: str, **style: Any) -> Line2D:
    """Return a handle for the legend; a marker alone with ``linestyle=""``."""
    return Line2D([], [], color=color, label=name, **style)


def patch(color: Any, name: str, alpha: float = 1.0) -> Patch:
    """Return a filled handle for the legend."""
    return Patch(color=color, label=name, alpha=alpha, linewidth=0)


def unit_axis(axis: Any, unit: str, log: bool = False) -> None:
    """Give an axis truthful ticks; on a logarithmic one those that divide what is shown into steps one can read."""
    low, high = sorted(axis.get_view_interval())
    if log:
        if high / low < 6:
            ticks = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
        else:
            steps = (1, 2, 5) if high / low < 3e3 else (1,)
            ticks = [m * 10.0**k for k in range(math.floor(math.log10(low)), 20) for m in steps]
        axis.set_ticks([t for t in ticks if low <= t <= high])
        axis.set_ticks([], minor=True)
    form = Ticks(unit, each=log)
    axis.set_major_formatter(form)
    if axis.axis_name == "x" and not log:
        longest = max(map(len, form.format_ticks(axis.get_majorticklocs())), default=1)
        most = 0.7 * axis.axes.bbox.width / axis.axes.figure.dpi / (0.075 * (longest + 2))
        if len(axis.get_majorticklocs()) > most + 2:  # one beyond each end is not shown
            axis.set_major_locator(MaxNLocator(max(int(most), 2), steps=[1, 2, 2.5, 5, 10]))


def categories(axis: Any, names: Sequence[Any], places: Sequence[float]) -> None:
    """Name categories along an axis: in lines, slanted or thinned when they would not fit."""
    width, height = axis.axes.bbox.size / axis.axes.figure.dpi  # inches
    roomy = height >= 0.38 * len(names)  # two lines of type a name
    wide = 22 if axis.axis_name == "x" else 40 if roomy else 80
    texts = [wrap(str(n), wide) for n in names]
    if axis.axis_name == "y":
        axis.set_ticks(places, texts)
        axis.set_tick_params(labelsize=None if roomy else 8.5)
        return
    longest = max((breadth(row) for t in texts for row in t.split("\n")), default=1)
    every = 1 if len(names) <= 14 else -(-len(names) // 8)
    slanted = len(names[::every]) * (longest + 1.5) * 0.075 > width
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_ticks(places[::every], [str(n) for n in names[::every]] if slanted else texts[::every], **turned)


def margin_labels(
    ax: Any, points: Sequence[tuple[float, float]], texts: Sequence[str], colors: Sequence[Any], heading: str = ""
) -> None:
    """Write names in the right margin, by height and never closer than a line, each with a line to its point."""
    height = ax.bbox.height * 72 / ax.figure.dpi / 11  # the axis in lines of type
    wanted = [ax.transAxes.inverted().transform(ax.transData.transform(p))[1] for p in points]
    wrapped = [wrap(t, 24) for t in texts]
    half = [(t.count("\n") + 1) / height / 2 for t in wrapped]
    order, floor, ceiling = sorted(range(len(points)), key=lambda i: wanted[i]), -np.inf, 1 + 0.5 / height
    for k in order:
        wanted[k] = max(wanted[k], floor + half[k])
        floor = wanted[k] + half[k]
    for k in reversed(order):
        wanted[k] = min(wanted[k], ceiling - half[k])
        ceiling = wanted[k] - half[k]
    arrow = {"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)}
    for k in order:
        ax.annotate(wrapped[k], points[k], (1.03, wanted[k]), textcoords="axes fraction", va="center", fontsize=8.5,
                    color=colors[k], arrowprops=arrow, gid="margin")  # fmt: skip
    if heading:
        top = max(w + h for w, h in zip(wanted, half, strict=True)) + 0.3 / height
        ax.annotate(heading, (1.03, top), xycoords="axes fraction", va="bottom", fontsize=8.5, color=GREY, gid="margin")


def marks(ax: Any, picture: Picture, axis: str = "") -> list[Any]:
    """Draw reference lines and shaded spans; return the handles of what is named in the legend.

    A text of an upright line stands above the axes; one of a level line in the legend.
    """
    handles: list[Any] = []
    for low, high, text in picture.options.get("spans", ()):
        (ax.axhspan if axis == "y" else ax.axvspan)(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0.5)
        handles += [patch(GREY, text, 0.3)] if text else []
    for mark in picture.options.get("marks", ()):
        upright = (axis or mark.axis) == "x"
        (ax.axvline if upright else ax.axhline)(mark.at, zorder=1.5, **STYLES[mark.style])
        if mark.text and not upright:
            handles.append(line(name=mark.text, **STYLES[mark.style]))
    return handles


def _above(ax: Any, picture: Picture, axis: str, rows: int) -> int:
    """Write the texts of upright lines above the axes, in as many rows as keep them apart; return the rows used."""
    ends: list[float] = [np.inf] * rows  # how far each row is taken
    named = [m for m in picture.options.get("marks", ()) if m.text and (axis or m.axis) == "x"]
    for mark in sorted(named, key=lambda m: m.at):
        place = ax.transAxes.inverted().transform(ax.transData.transform((mark.at, ax.get_ylim()[0])))[0]
        width = breadth(mark.text) * 0.068 * ax.figure.dpi / ax.bbox.width
        start = min(max(place - width / 2, -0.05), 1.02 - width)
        row = next((k for k, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + width + 0.02]
        ax.annotate(mark.text, (start, 1), (0, 3 + 12 * row), xycoords="axes fraction", textcoords="offset points",
                    fontsize=8.5, color=STYLES[mark.style]["color"])  # fmt: skip
    return len(ends)


def finish(ax: Any, picture: Picture, *, handles: Sequence[Any] = (), over: bool = False, axis: str = "",
           x_unit: str = "number", y_unit: str = "number", subtitle: str = "", color: Any = INK) -> None:  # fmt: skip
    """Write title and labels, and set the legend beside the data.

    Parameters
    ----------
    ax : Axes
        With everything drawn and its limits set.
    picture : Picture
        Where the words come from.
    handles : sequence
        Of the legend, to the right of the axes.
    over : bool
        Whether the title stands over the whole figure, since long labels leave little room over the axes.
    axis : {'', 'x', 'y'}
        Axis of all marks, where the kind decides it.
    x_unit, y_unit : str
        For the currency in a label of money.
    subtitle, color : str
        What a single curve is, in its colour, under the title.
    """
    ax.set_xlabel(label(picture.x, x_unit))
    ax.set_ylabel(label(picture.y, y_unit))
    if subtitle:
        ax.annotate(subtitle, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=9,
                    color=color)  # fmt: skip
    rows = _above(ax, picture, axis, 1 if subtitle else 0)
    if over and sum(a.get_visible() for a in ax.figure.axes) == 1:
        ax.figure.suptitle(label(picture.title), **OVER)
    else:
        ax.set_title(label(picture.title), loc="left", pad=6 + 12 * rows)
    if handles:
        ax.legend(handles=list(handles), title=picture.options.get("legend"), loc="upper left",
                  bbox_to_anchor=(1.01, 1.0), alignment="left", borderaxespad=0)  # fmt: skip


def fit(places: Sequence[Any], widen: bool) -> None:
    """Make room for what stands beside the axes, and break titles and labels into lines that fit.

    The layout makes room for ticks and legends, not for titles and labels longer than their axis.

    Parameters
    ----------
    places : sequence of Axes
        All panels of a figure.
    widen : bool
        Whether the figure may grow by its legends.
    """
    figure = places[0].figure
    beside = sum(map(_beside, places))
    if widen:
        figure.set_figwidth(figure.get_figwidth() + beside)
    wide, high = figure.get_size_inches()
    if len(places) > 1 and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)  # to know how wide each panel is
    for ax in places:
        left = 0.075 * max((breadth(r) for t in ax.get_yticklabels() for r in t.get_text().split("\n")), default=0)
        panel = ax.bbox.width / figure.dpi if len(places) > 1 else wide - beside - left - 0.7
        tall = high / ax.get_subplotspec().get_gridspec().nrows if ax.get_subplotspec() else high
        ax.set_xlabel(wrap(ax.get_xlabel(), int(panel * 1.05 / 0.077)))
        ax.set_ylabel(wrap(ax.get_ylabel(), int((tall - 0.9) / 0.077)))
        across = panel + 0.2 if len(places) > 1 else wide - left - 0.7
        ax._left_title.set_text(wrap(ax.get_title(loc="left"), int(across / 0.094)))  # as it is otherwise
    if figure.get_suptitle():
        figure.suptitle(wrap(figure.get_suptitle(), int((wide - 0.2) / 0.094)), **OVER)


def _beside(ax: Any) -> float:
    """Width of legend or names to the right of the axes, in inches."""
    texts = [t.get_text() for t in (ax.get_legend().get_texts() if ax.get_legend() else ())]
    texts += [t.get_text() for t in ax.texts if t.get_gid() == "margin"]
    longest = max((breadth(row) for t in texts for row in t.split("\n")), default=0)
    return min(0.072 * longest + 0.4, 3.2) if longest else 0.0
