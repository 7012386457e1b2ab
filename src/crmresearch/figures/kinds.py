"""The six kinds of figure, drawn with seaborn on the axes they are given. See :class:`crmresearch.figures.Picture`.

Loaded when the first figure is drawn. Every kind takes the options ``marks`` (:class:`crmresearch.figures.Mark`),
``spans`` (``(low, high, text)``, shaded) and ``legend`` (its title); a mark that rests on fewer people than the
disclosure threshold (column ``n``) is left out. Units are ``number``, ``percent``, ``points`` (shares in percentage
points) and ``money`` (the label names the bank's currency; so does the word money in any label).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.patches import Rectangle
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import MaxNLocator

from crmresearch import words
from crmresearch.figures import forest
from crmresearch.figures.dress import (
    Ticks,
    bars,
    categories,
    dots,
    finish,
    groups,
    line,
    margin_labels,
    marks,
    part,
    patch,
    spoken,
    unit_axis,
)
from crmresearch.figures.paths import paths
from crmresearch.figures.picture import ACCENT, GREY, INK, WIDTH, Picture
from crmresearch.rules import rules

say = words.of("top.figures")

BINS = 40
MARKERS = ("o", "s", "D", "X", "^", "v", "P")


def size(several: tuple[Picture, ...]) -> tuple[float, float] | None:
    """Return the size that lying labels need, in inches; None where the usual one does."""
    heights = []
    for picture in several:
        data = picture.data
        if picture.kind not in ("intervals", "distribution") or "label" not in data or picture.options.get("upright"):
            return None
        dodged = data["group"].nunique() if "group" in data and data["label"].duplicated().any() else 1
        heights.append(1.5 + data["label"].nunique() * max(0.36, 0.2 * dodged))
    return 0.6 + WIDTH * (1 if len(several) == 1 else 0.72 * len(several)), max(heights)


def intervals(ax: Any, picture: Picture) -> None:
    """Draw estimates with their intervals, one line a label.

    Columns: ``label`` (a category each, in order), ``estimate``, ``low``, ``high`` (may be missing); ``group`` (colour,
    side by side where labels repeat, legend), ``text`` (written beside the mark), ``strong`` (others are grey),
    ``hollow``, ``base`` (a bar from there to the estimate), ``outer_low``, ``outer_high`` (a wider interval, thin and
    grey, behind), ``n``; of lying rows ``over`` (what stands above it, up to the next such text), ``bound``, ``mirror``
    (dashed, of this row alone), ``truth`` (a triangle).
    Options: ``upright`` (labels along the x axis), ``log``, ``unit``, ``limits`` (of the value axis; an interval that
    leaves it ends in an arrow; without limits an interval many times as wide as the others does so), ``ordered``.
    """
    data, o = picture.data.reset_index(drop=True), picture.options
    lying, log, unit = not o.get("upright"), bool(o.get("log")), o.get("unit", "number")
    along, across, set_view, set_rows = (
        (ax.xaxis, ax.yaxis, ax.set_xlim, ax.set_ylim) if lying else (ax.yaxis, ax.xaxis, ax.set_ylim, ax.set_xlim)
    )
    names, colors = list(dict.fromkeys(data["label"])), groups(data, ordered=bool(o.get("ordered")))
    apart = min(0.2, 0.76 / len(colors)) if data["label"].duplicated().any() else 0.0
    group = data["group"].astype(object) if "group" in data else pd.Series(None, index=data.index, dtype=object)
    side = group.map({g: k for k, g in enumerate(colors)}).fillna(0) - (len(colors) - 1) / 2
    places = forest.places(data, ax.figure.get_figwidth()) if lying else {n: i for i, n in enumerate(names)}
    data["at"] = data["label"].map(places).astype(float) + (-1 if lying else 1) * apart * side
    data["shade"] = group.map(colors) if "group" in data else ACCENT
    if "strong" in data and data["strong"].any():
        data["shade"] = data["shade"].where(data["strong"].astype(bool), GREY)
    floor, ceiling = o.get("limits") or _reach(data, log)
    ends = {c: data[c].clip(floor, ceiling) for c in ("low", "high", "outer_low", "outer_high") if c in data}
    styles = {g: MARKERS[k % len(MARKERS)] if apart else "o" for k, g in enumerate(colors)}
    if "base" in data:
        thick = 0.62 / len(colors) if apart else 0.62
        draw, size, base = (ax.barh, "height", "left") if lying else (ax.bar, "width", "bottom")
        length = data["estimate"] - data["base"]
        draw(data["at"], length, color=list(data["shade"]), **{size: thick, base: data["base"]})
        bars(ax, data["at"], ends["low"], ends["high"], lying, INK)
    else:
        if "outer_low" in data:
            bars(ax, data["at"], ends["outer_low"], ends["outer_high"], lying, GREY, linewidth=1.2)
        thick = 4.0 if "outer_low" in data else 1.6
        bars(ax, data["at"], ends["low"], ends["high"], lying, list(data["shade"]), linewidth=thick)
        for name, style in styles.items():
            own = part(data, name)
            own = own[own["estimate"].between(floor, ceiling)]
            if len(own):
                x, y = (own["estimate"], own["at"]) if lying else (own["at"], own["estimate"])
                dots(ax, x, y, list(own["shade"]), own.get("hollow"), marker=style)
    _beyond(ax, data, floor, ceiling, lying)
    forest.held_against(ax, data)
    handles = marks(ax, picture, "x" if lying else "y")
    if log:
        getattr(ax, "set_xscale" if lying else "set_yscale")("log")
    set_view(*(v if np.isfinite(v) else None for v in (floor, ceiling)))
    unit_axis(along, unit, log)
    categories(across, names, list(places.values()))
    set_rows(-0.65, max(places.values()) + 0.65 + forest.over(ax, data, places))
    ax.grid(visible=False, axis="y" if lying else "x")
    named = [
        (patch(c, g) if "base" in data else line(c, g, marker=styles[g])) for g, c in colors.items() if g is not None
    ]
    value = {"x_unit" if lying else "y_unit": unit}
    finish(ax, picture, handles=named + handles, over=lying, axis="x" if lying else "y", **value)


def _beyond(ax: Any, data: pd.DataFrame, floor: float, ceiling: float, lying: bool) -> None:
    """Draw arrows where intervals leave the axis, and the texts beside the marks."""
    for out, end, arrow in (
        (data["low"] < floor, floor, "<" if lying else "v"),
        (data["high"] > ceiling, ceiling, ">" if lying else "^"),
    ):
        if out.any():
            at, ends = data.loc[out, "at"], np.full(int(out.sum()), end)
            x, y = (ends, at) if lying else (at, ends)
            dots(ax, x, y, list(data.loc[out, "shade"]), marker=arrow, s=26, clip_on=False)
    row: Any
    for row in data.dropna(subset=["text"]).itertuples() if "text" in data else ():
        where = (float(np.clip(row.estimate, floor, ceiling)), row.at)
        offset = (0, 6) if lying else (7, 0)
        ax.annotate(row.text, where if lying else where[::-1], offset, textcoords="offset points", fontsize=8.5,
                    ha="center" if lying else "left", va="bottom" if lying else "center",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})  # fmt: skip


def _reach(data: pd.DataFrame, log: bool) -> tuple[float, float]:
    """Ends of the value axis: open, unless single intervals are so wide that they would hide the others."""
    ends = data[["low", "high"]].replace([np.inf, -np.inf], np.nan)
    reach = ends.abs().max(axis=1)
    if log or "base" in data or len(data) < 5 or not reach.notna().any():
        return -np.inf, np.inf
    most = max(6 * reach.median(), 1.3 * data["estimate"].abs().max())
    low, high = ends["low"].min(), ends["high"].max()
    return (-most if low < -most else -np.inf), (most if high > most else np.inf)


def curves(ax: Any, picture: Picture) -> None:
    """Draw curves with bands.

    Columns: ``x`` (number, date or category), ``y``; ``low``, ``high``, ``group``, ``dashed``, ``strong`` (others are
    grey), ``n``. A curve is broken where it rests on too few people.
    Options: ``step`` (the value holds until the next), ``dots`` (a point at every value), ``bars`` (intervals as bars),
    ``stacked`` (areas, one upon the other; dashed groups are lines over them), ``points`` (a frame ``x, y`` with
    ``low, high, group, n``, drawn on top), ``risk`` (a frame ``group, time, at_risk``: numbers at risk under the
    axis), ``unit``, ``x_unit``, ``xlim``, ``ylim``, ``ordered``. Curves are named at their ends.
    """
    data, o = picture.data.copy(), picture.options
    unit, x_unit, stacked = o.get("unit", "number"), o.get("x_unit", "number"), bool(o.get("stacked"))
    values = [c for c in ("y", "low", "high") if c in data]
    data[values] = data[values].astype(float)
    named = [] if data["x"].dtype.kind in "ifMm" else list(dict.fromkeys(data["x"]))
    if named:
        data["x"] = data["x"].map({v: i for i, v in enumerate(named)}).astype(float)
    colors = groups(data, ordered=bool(o.get("ordered")))
    if "strong" in data:
        strong = groups(data[data["strong"].astype(bool)])
        colors = {g: strong.get(g, GREY) for g in colors}
    handles: list[Any] = []
    lines: list[tuple[Any, Any, pd.DataFrame, str]] = []
    below = np.zeros(0)
    for group, color in colors.items():
        own = part(data, group)
        dashed = "dashed" in own and bool(own["dashed"].iloc[0])
        if stacked and not dashed:
            below = _area(ax, own, below if below.size else np.zeros(len(own)), color, o)
            handles.append(patch(color, group, 0.75))
            continue
        color, style = INK if stacked else color, "--" if dashed else "-"
        _line(ax, own, color, style, o)
        if group is not None and own["y"].notna().any():
            lines.append((group, color, own.dropna(subset=["y"]), style))
    if "points" in o:
        handles += _points(ax, o["points"].reset_index(drop=True), colors)
    handles += marks(ax, picture)
    ax.set_xlim(*o.get("xlim", (None, None)))
    ax.set_ylim(*o.get("ylim", (0 if stacked else None, None)))
    unit_axis(ax.yaxis, unit)
    if named:
        categories(ax.xaxis, named, list(range(len(named))))
    elif data["x"].dtype.kind in "if":
        seen = sorted(set(data["x"].dropna()))
        if len(seen) <= 12 and all(float(v).is_integer() for v in seen) and "xlim" not in o:
            ax.set_xticks(seen)
        unit_axis(ax.xaxis, x_unit)
    if "risk" in o:
        _at_risk(ax, o["risk"])
    subtitle, color = "", INK
    if len(lines) == 1 and not handles:
        subtitle, color = lines[0][:2]
    elif handles:
        handles = [line(c, g, linestyle=style) for g, c, _, style in lines] + handles
    elif lines:
        # where a curve leaves the axis it is named at the last place where it is seen
        seen = [own[own["y"].between(*ax.get_ylim())] for *_, own, _ in lines]
        last = [tuple((s if len(s) else own)[["x", "y"]].iloc[-1]) for s, (*_, own, _) in zip(seen, lines, strict=True)]
        margin_labels(ax, last, [str(g) for g, *_ in lines], [c for _, c, *_ in lines], o.get("legend", ""))
    finish(ax, picture, handles=handles, x_unit=x_unit, y_unit=unit, subtitle=str(subtitle), color=color)


def _area(ax: Any, own: pd.DataFrame, below: np.ndarray, color: Any, o: Mapping[str, Any]) -> np.ndarray:
    """Draw one area upon another; return its upper edge."""
    step, upper = "post" if o.get("step") else None, below + own["y"].fillna(0).to_numpy()
    ax.fill_between(own["x"], below, upper, step=step, color=color, alpha=0.75, linewidth=0)
    if {"low", "high"} <= set(own):
        band = below + own["low"], below + own["high"]
        ax.fill_between(own["x"], *band, step=step, color=INK, alpha=0.3, linewidth=0)
    return np.asarray(upper)


def _line(ax: Any, own: pd.DataFrame, color: Any, style: str, o: Mapping[str, Any]) -> None:
    """Draw one curve with its intervals, broken where it is not known."""
    for _, run in own.groupby(own["y"].isna().cumsum()):
        known = run.dropna(subset=["y"])
        if known.empty:
            continue
        marker = "o" if o.get("dots") or len(known) == 1 else None
        sns.lineplot(x=known["x"], y=known["y"], ax=ax, color=color, errorbar=None, estimator=None, sort=False,
                     legend=False, drawstyle="steps-post" if o.get("step") else "default", marker=marker,
                     linestyle=style, markeredgewidth=0)  # fmt: skip
        if {"low", "high"} <= set(known) and o.get("bars"):
            bars(ax, known["x"], known["low"], known["high"], False, color)
        elif {"low", "high"} <= set(known):
            step = "post" if o.get("step") else None
            ax.fill_between(known["x"], known["low"], known["high"], step=step, color=color, alpha=0.18, linewidth=0)


def _points(ax: Any, points: pd.DataFrame, colors: Mapping[Any, Any]) -> list[Any]:
    """Draw data over the curves, in the colours of theirs; return handles of groups without a curve."""
    hues = {**groups(points), **colors}
    shades = [hues[g] for g in points["group"]] if "group" in points else [INK] * len(points)
    if {"low", "high"} <= set(points):
        bars(ax, points["x"], points["low"], points["high"], False, shades)
    dots(ax, points["x"], points["y"], shades)
    alone = [g for g in groups(points) if g not in colors and g is not None]
    return [line(hues[g], g, marker="o", linestyle="") for g in alone]


def _at_risk(ax: Any, risk: pd.DataFrame) -> None:
    """Write numbers at risk under the axis, one line per curve; counts below the threshold are not shown."""
    first, last = ax.get_xlim()
    ticks = [t for t in ax.get_xticks() if first <= t <= last]
    style = {"textcoords": "offset points", "va": "top", "fontsize": 8, "annotation_clip": False}
    tables = list(risk.groupby("group", sort=False))
    ax.annotate(spoken(say("at_risk")), (0, 0), (-20, -36), xycoords="axes fraction", ha="right", color=GREY, **style)
    for row, (name, table) in enumerate(tables):
        time, count = table["time"].to_numpy(), table["at_risk"].to_numpy()
        y = -36 if len(tables) == 1 else -48 - 12 * row  # a single curve needs no name
        if len(tables) > 1:
            ax.annotate(str(name), (0, 0), (-20, y), xycoords="axes fraction", ha="right", **style)
        last_told = np.inf
        for tick in ticks:
            # at risk just after the tick is the risk set of the next listed time
            place = np.searchsorted(time, tick, side="right")
            n = count[place] if place < len(count) else 0
            told = n == 0 or (n >= rules.least and not 0 < abs(last_told - n) < rules.least)
            text = f"{n:,.0f}" if told else rules.below if n < rules.least else ""  # nor do two counts differ by few
            last_told = n if told else last_told
            ax.annotate(text, (tick, 0), (0, y), xycoords=("data", "axes fraction"), ha="center", **style)


def calibration(ax: Any, picture: Picture) -> None:
    """Draw what was observed against what was predicted, with the line of agreement.

    Columns: ``predicted``, ``observed``; ``low``, ``high`` (of the observed), ``group``, ``n``.
    Options: ``unit``, ``agreement`` (what the line is called).
    """
    data, o = picture.data.reset_index(drop=True), picture.options
    unit = o.get("unit", "number")
    colors = groups(data)
    seen = data[[c for c in ("predicted", "observed", "low", "high") if c in data]].to_numpy(float)
    low, high = np.nanmin(seen), np.nanmax(seen)
    room = 0.05 * (high - low)
    ends = [0.0 if 0 <= low < 0.5 * high else low - room, high + room]
    sns.lineplot(x=ends, y=ends, ax=ax, color=GREY, linestyle="--", linewidth=1, errorbar=None, legend=False)
    handles = [line(GREY, o["agreement"], linestyle="--", linewidth=1)] if o.get("agreement") else []
    for k, (group, color) in enumerate(colors.items()):
        own = part(data, group)
        if {"low", "high"} <= set(own):
            bars(ax, own["predicted"], own["low"], own["high"], False, color)
        dots(ax, own["predicted"], own["observed"], color, marker=MARKERS[k])
        if group is not None:
            handles.insert(k, line(color, group, marker=MARKERS[k], linestyle=""))
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    handles += marks(ax, picture)
    unit_axis(ax.xaxis, unit)
    unit_axis(ax.yaxis, unit)
    finish(ax, picture, handles=handles, x_unit=unit, y_unit=unit)


def distribution(ax: Any, picture: Picture) -> None:
    """Draw how values are spread, or of which parts wholes consist.

    Columns: ``value`` and ``group``: bins of equal width on the axis as it is drawn, each as high as the share of the
    group's values in it (the density per bin, so that groups of unequal size compare); bins of too few people stay
    empty, and the axis ends at the tenth value from either end. Or ``label``, ``part`` and ``share`` (or ``count``),
    ``n``: stacked bars in order.
    Options: ``scale`` (``linear``, or ``symlog``: equal width on a symmetric logarithmic axis), ``limits`` (of the
    bins), ``unit`` (of the value, share or count), ``ordered`` (the parts have an order: sequential palette),
    ``upright`` (bars stand; numeric labels keep their distances).
    """
    if "part" in picture.data:
        _composition(ax, picture)
        return
    data, o = picture.data, picture.options
    symlog, unit = o.get("scale") == "symlog", o.get("unit", "number")
    x = data["value"].to_numpy(float)
    near = max(float(np.quantile(np.abs(x), 0.1)), 1e-6)
    scale = SymmetricalLogTransform(10, near, 1.0)
    low, high = o.get("limits") or (np.sort(x)[rules.least - 1], np.sort(x)[-rules.least])  # nobody's own value
    if high <= low:
        low, high = low - 1, low + 1
    if symlog:
        first, last = scale.transform(np.array([low, high]))
        edges = scale.inverted().transform(np.linspace(first, last, BINS + 1))
    else:
        edges = np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    colors = groups(data)
    handles = []
    for group, color in colors.items():
        own = part(data, group)["value"].to_numpy(float)
        count, _ = np.histogram(own, edges)
        share = np.where(count < rules.least, 0, count) / len(own)
        # each bin once, weighted, at its middle: seaborn bins nothing anew
        sns.histplot(x=(edges[1:] + edges[:-1]) / 2, weights=share, bins=list(edges), element="step", color=color,
                     alpha=0.35, ax=ax, legend=False)  # fmt: skip
        handles += [patch(color, group, 0.5)] if group is not None else []
    if symlog:
        ax.set_xscale("symlog", linthresh=near)
        tens = [10.0**k for k in range(int(np.ceil(np.log10(2 * near))), 16)]
        ticks = [t for t in (*(-t for t in reversed(tens)), 0, *tens) if edges[0] <= t <= edges[-1]]
        ax.set_xticks(ticks, Ticks(unit, each=True).format_ticks(ticks))
        ax.set_xticks([], minor=True)
        if max(map(len, (t.get_text() for t in ax.get_xticklabels())), default=0) * len(ticks) > 60:
            ax.tick_params(axis="x", labelrotation=30)
    else:
        unit_axis(ax.xaxis, unit)
    ax.set_xlim(edges[0], edges[-1])
    ax.set_ylim(0, None)
    unit_axis(ax.yaxis, "percent")
    handles += marks(ax, picture)
    finish(ax, picture, handles=handles, x_unit=unit)


def _composition(ax: Any, picture: Picture) -> None:
    """Draw stacked bars, the first part at the axis."""
    data, o = picture.data.reset_index(drop=True), picture.options
    if data.empty:  # every part is of few: an empty panel, which says what it would show
        finish(ax, picture)
        return
    measure = "share" if "share" in data else "count"
    unit = o.get("unit", "percent" if measure == "share" else "number")
    colors = groups(data, "part", bool(o.get("ordered")))
    upright = bool(o.get("upright"))
    numeric = upright and pd.api.types.is_numeric_dtype(data["label"].dtype)
    names = list(dict.fromkeys(data["label"]))
    places = {n: n if numeric else i if upright else len(names) - 1 - i for i, n in enumerate(names)}
    side = "x" if upright else "y"
    frame = pd.DataFrame({side: data["label"].map(places), "part": data["part"].astype(str), "size": data[measure]})
    shades = {str(g): c for g, c in colors.items()}
    # seaborn puts the last of the hues at the axis
    sns.histplot(frame, **{side: side}, weights="size", hue="part", hue_order=list(shades)[::-1], palette=shades,
                 multiple="stack", discrete=True, shrink=0.8, alpha=1, linewidth=0, ax=ax, legend=False)  # fmt: skip
    along, across = (ax.xaxis, ax.yaxis) if upright else (ax.yaxis, ax.xaxis)
    if measure == "share":
        getattr(ax, "set_ylim" if upright else "set_xlim")(0, 1)
    unit_axis(across, unit)
    if numeric:
        along.set_ticks(names if len(names) <= 8 else MaxNLocator(9, integer=True).tick_values(min(names), max(names)))
        ax.set_xlim(min(names) - 0.8, max(names) + 0.8)
        unit_axis(along, "number")
    else:
        categories(along, names, list(places.values()))
    ax.grid(visible=False, axis=side)
    handles = [patch(c, g) for g, c in shades.items()]
    handles = (handles[::-1] if upright else handles) + marks(ax, picture)  # as they lie, from the top
    finish(ax, picture, handles=handles, over=not upright, **{"y_unit" if upright else "x_unit": unit})


def scatter(ax: Any, picture: Picture) -> None:
    """Draw points with intervals in both directions, on a map of contours where one is given.

    Columns: ``x``, ``y``; ``x_low``, ``x_high``, ``low``, ``high``, ``group``, ``label`` (written in the margin, with
    a line to the point), ``pale`` (small and pale, as resamples are), ``n``.
    Options: ``contours`` (``x``, ``y``, ``z``, ``levels``), ``unit``, ``x_unit``, ``xlim``, ``ylim``; or ``nodes``
    (name and text of each, in order), which draws ``source``, ``target``, ``estimate``, ``low``, ``high``, ``closed``
    as arrows between them.
    """
    if "nodes" in picture.options:
        paths(ax, picture)
        return
    data, o = picture.data.reset_index(drop=True), picture.options
    colors = groups(data)
    if "contours" in o:
        c = o["contours"]
        lines = ax.contour(c["x"], c["y"], c["z"], levels=c["levels"], colors=GREY, linewidths=0.8)
        ax.clabel(lines, fmt=Ticks(), fontsize=7)
    handles = []
    for k, (group, color) in enumerate(colors.items()):
        own = part(data, group)
        pale = bool(own["pale"].iloc[0]) if "pale" in own else False
        for low, high, lying in (("low", "high", False), ("x_low", "x_high", True)):
            if {low, high} <= set(own):
                bars(ax, own["x" if not lying else "y"], own[low], own[high], lying, color, alpha=0.35)
        marker = "o" if "label" in data else MARKERS[k % len(MARKERS)]
        dots(ax, own["x"], own["y"], color, marker=marker, **({"s": 12, "alpha": 0.3} if pale else {"s": 46}))
        handles += [line(color, group, marker=marker, linestyle="")] if group is not None else []
    ax.set_xlim(*o.get("xlim", (None, None)))
    ax.set_ylim(*o.get("ylim", (None, None)))
    unit, x_unit = o.get("unit", "number"), o.get("x_unit", "number")
    handles += marks(ax, picture)
    unit_axis(ax.xaxis, x_unit)
    unit_axis(ax.yaxis, unit)
    if "label" not in data:
        finish(ax, picture, handles=handles, x_unit=x_unit, y_unit=unit)
        return
    ax.set_ylim(*ax.get_ylim())
    shades = [colors[g] for g in data["group"]] if "group" in data else [INK] * len(data)
    margin_labels(ax, list(zip(data["x"], data["y"], strict=True)), list(map(str, data["label"])), shades)
    finish(ax, picture, over=True, x_unit=x_unit, y_unit=unit)
    if handles:  # the margin is taken
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6)


def matrix(ax: Any, picture: Picture) -> None:
    """Draw a table of values as colours, each with its number.

    Columns: ``row``, ``column`` (in order), ``value``; ``low``, ``high`` (written under the value), ``text`` (instead
    of the number), ``strong`` (framed), ``n``. Cells without a row, or of too few people, say so by a dash.
    Options: ``unit``, ``vmin``, ``vmax``, ``bar`` (label of a colour bar), ``empty`` (what stands in empty cells).
    """
    data, o = picture.data.reset_index(drop=True), picture.options
    unit = o.get("unit", "number")
    rows, columns = (list(dict.fromkeys(picture.data[c])) for c in ("row", "column"))

    def wide(column: str) -> pd.DataFrame:
        cells = data.pivot_table(index="row", columns="column", values=column, aggfunc="first")
        return cells.reindex(rows, columns=columns)

    value = wide("value").astype(float)
    form = "{:.0%}" if unit == "percent" else "{:,.0f}" if unit == "money" else "{:.2f}"
    if "text" not in data:
        data["text"] = data["value"].map(form.format)
        if {"low", "high"} <= set(data):
            ends = [f"\n[{form.format(a)}, {form.format(b)}]" for a, b in zip(data["low"], data["high"], strict=True)]
            data["text"] = data["text"] + ends
    text = wide("text").where(value.notna())
    sns.heatmap(value, ax=ax, annot=text.fillna(""), fmt="", cmap="Blues", vmin=o.get("vmin"), vmax=o.get("vmax"),
                cbar="bar" in o, cbar_kws={"label": o["bar"], "shrink": 0.8} if "bar" in o else None, linewidths=1,
                annot_kws={"fontsize": 8})  # fmt: skip
    strong = wide("strong") if "strong" in data else None
    for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)):
        if pd.isna(value.loc[r, c]):
            ax.annotate(o.get("empty", "–"), (j + 0.5, i + 0.5), ha="center", va="center", color=GREY)
        elif strong is not None and strong.loc[r, c]:
            ax.add_patch(Rectangle((j + 0.03, i + 0.03), 0.94, 0.94, fill=False, edgecolor="#D55E00", linewidth=2.2))
    ax.grid(visible=False)
    categories(ax.xaxis, columns, [j + 0.5 for j in range(len(columns))])
    categories(ax.yaxis, rows, [i + 0.5 for i in range(len(rows))])
    ax.tick_params(axis="y", labelrotation=0)
    finish(ax, picture, over=True)
