"""Figures of the loyalty study: each draws on the axes it is given; labels say unit, n and interval."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures
from crmresearch.figures import ACCENT, GREY, INK, PALETTE

PROPORTION = 1.6  # width over height of the path diagram


def answers(ax: Any, shares: pd.DataFrame, n: int) -> Any:
    """Stacked shares of answers, one bar per item, dark for high answers."""
    from matplotlib import colormaps

    colours = colormaps["viridis_r"](np.linspace(0.05, 0.95, shares.shape[1]))
    left = np.zeros(len(shares))
    place = np.arange(len(shares))[::-1]
    for colour, answer in zip(colours, shares.columns, strict=True):
        ax.barh(place, shares[answer], left=left, color=colour, label=f"{answer:g}", height=0.8)
        left += shares[answer].to_numpy()
    ax.set_yticks(place, shares.index)
    ax.grid(visible=False)
    ax.set_xlim(0, 1)
    figures.percent_axis(ax, "x")
    ax.set_xlabel(f"share of answers (n = {n:,})")
    ax.set_title("How the items were answered")
    ax.legend(title="answer", ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _bars(ax: Any, table: pd.DataFrame, value: str, place: np.ndarray, colour: str, label: str | None = None) -> None:
    low = table.get(f"{value}_low", table.get("low"))
    high = table.get(f"{value}_high", table.get("high"))
    figures.intervals(ax, place, table[value], low, high, horizontal=True, color=colour, label=label)


def intervals(
    ax: Any, table: pd.DataFrame, names: str, value: str, label: str, mark: float | None = None, title: str = ""
) -> Any:
    """Points with intervals, one line each."""
    place = np.arange(len(table))[::-1]
    _bars(ax, table, value, place, ACCENT)
    if mark is not None:
        ax.axvline(mark, color=GREY, linestyle="--", linewidth=1)
    ax.set_yticks(place, table[names])
    ax.set_ylim(-0.7, len(table) - 0.3)
    ax.set_xlabel(label if "interval" in label else f"{label}; bars: 95% intervals")
    ax.set_title(title)
    return ax


def grouped_intervals(
    ax: Any,
    table: pd.DataFrame,
    names: str,
    group: str,
    value: str,
    label: str,
    mark: float | None = 0,
    title: str = "",
) -> Any:
    """Points with intervals, several treatments per line."""
    lines, kinds = list(table[names].unique()), list(table[group].unique())
    for k, kind in enumerate(kinds):
        part = table[table[group] == kind]
        place = np.array([len(lines) - 1 - lines.index(v) for v in part[names]]) + 0.18 * ((len(kinds) - 1) / 2 - k)
        _bars(ax, part, value, place, PALETTE[k % len(PALETTE)], kind)
    if mark is not None:
        ax.axvline(mark, color=GREY, linestyle="--", linewidth=1)
    ax.set_yticks(range(len(lines)), lines[::-1])
    limits = table[value].abs().quantile(0.9) * 4
    if table["low"].min() < -limits or table["high"].max() > limits:
        ax.set_xlim(
            max(table["low"].min(), -limits), min(table["high"].max(), limits)
        )  # wild intervals run off the page
    ax.set_xlabel(f"{label}; bars: 95% intervals")
    ax.set_title(title)
    ax.legend()
    return ax


def heat(
    ax: Any, names: Sequence[str], value: np.ndarray, low: np.ndarray, high: np.ndarray, limit: float, n: int
) -> Any:
    """Lower triangle of ratios with interval ends; closed pairs framed."""
    from matplotlib.patches import Rectangle

    k = len(names)
    shown = np.full((k - 1, k - 1), np.nan)
    for i in range(1, k):
        shown[i - 1, :i] = value[i, :i]
    image = ax.imshow(shown, cmap="Blues", vmin=0.3, vmax=1.1, aspect="auto")
    ax.figure.colorbar(image, ax=ax, label="HTMT", shrink=0.8)
    for i in range(1, k):
        for j in range(i):
            closed = high[i, j] >= limit
            dark = value[i, j] > 0.75
            ax.text(
                j,
                i - 1,
                f"{value[i, j]:.2f}\n[{low[i, j]:.2f}, {high[i, j]:.2f}]",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
                fontweight="bold" if closed else "normal",
            )
            if closed:
                ax.add_patch(
                    Rectangle((j - 0.48, i - 1.48), 0.96, 0.96, fill=False, edgecolor=PALETTE[1], linewidth=2.5)
                )
    ax.set_xticks(range(k - 1), names[:-1])
    ax.set_yticks(range(k - 1), names[1:])
    ax.grid(visible=False)
    ax.set_title("Which constructs can be told apart")
    ax.set_xlabel(f"HTMT [95% interval], framed: upper end at {limit:.2f} or more (n = {n:,})")
    return ax


def rivals(ax: Any, rows: Sequence[Mapping[str, Any]], n: int) -> Any:
    """CFI and RMSEA of two models, side by side with their usual limits; RMSEA with its interval."""
    for panel, key, mark, better in ((ax[0], "cfi", 0.95, "higher"), (ax[1], "rmsea", 0.06, "lower")):
        for place, row in enumerate(rows):
            panel.plot(row[key], place, "o", color=PALETTE[place], markersize=9)
            panel.annotate(f"{row[key]:.3f}", (row[key], place), xytext=(0, 9), textcoords="offset points", ha="center")
            if key == "rmsea":
                ends = [row["rmsea_low"], row["rmsea_high"]]
                panel.plot(ends, [place, place], "|-", color=PALETTE[place], markersize=9)
        panel.axvline(mark, color=GREY, linestyle="--", linewidth=1)
        panel.set_yticks(range(len(rows)), [r["model"] for r in rows])
        panel.set_ylim(-0.6, len(rows) - 0.4)
        panel.margins(x=0.2)
        bars = "" if key == "cfi" else "; 95% intervals"
        panel.set_xlabel(f"{key.upper()}, {better} is better (n = {n:,})\ndashed: {mark:g}{bars}")
    ax[0].set_title("Constructs or one factor: fit index")
    ax[1].set_title("... and error of approximation")
    return ax


def invariance(ax: Any, table: pd.DataFrame) -> Any:
    """Mean differences between groups by construct; filled where they differ after Holm's correction."""
    groups, lines = list(table["groups"].unique()), list(table["construct"].unique())
    for g, name in enumerate(groups):
        part = table[table["groups"] == name]
        place = np.array([len(lines) - 1 - lines.index(c) for c in part["construct"]]) + 0.15 * (
            (len(groups) - 1) / 2 - g
        )
        colour = PALETTE[g % len(PALETTE)]
        face = np.where(part["p_mean"] < 0.05, colour, "white")
        ax.scatter(
            part["mean_difference"],
            place,
            c=face,
            edgecolors=colour,
            s=45,
            zorder=3,
            label=f"{name} (n = {part['n'].iloc[0]:,})",
        )
    ax.axvline(0, color=GREY, linestyle="--", linewidth=1)
    ax.set_yticks(range(len(lines)), lines[::-1])
    ax.set_xlabel("difference of means, standard deviations; filled: differs at 5% after Holm")
    ax.set_title("Do groups answer alike?")
    ax.legend()
    return ax


def path_diagram(
    ax: Any,
    names: Sequence[str],
    order: Sequence[str],
    table: pd.DataFrame,
    r2: Mapping[str, float],
    n: int,
) -> Any:
    """Constructs in layers from left to right, arrows with estimates and intervals; dashed where a gate is closed.

    ``table``: source, target, estimate, low, high, gate.
    """
    depth: dict[str, int] = {}
    for c in order:
        above = table.loc[table["target"] == c, "source"]
        depth[c] = 1 + max((depth[a] for a in above), default=-1)
    places: dict[str, tuple[float, float]] = {}
    layers = max(depth.values()) + 1
    for c in order:
        # alternating heights keep long arrows off the boxes between
        places[c] = (depth[c] / max(layers - 1, 1), (0.12, 0.88, 0.5)[depth[c] % 3])
    for layer in range(layers):
        inside = [c for c in order if depth[c] == layer]
        for k, c in enumerate(inside[1:], start=1):
            x, y = places[inside[0]]
            places[c] = (x, (y + 0.38 * k) % 1.0)
    for row in table.to_dict("records"):
        (x0, y0), (x1, y1) = places[row["source"]], places[row["target"]]
        closed = row["gate"] == "closed"
        clear = row["low"] > 0 or row["high"] < 0
        colour = GREY if closed else PALETTE[0] if row["estimate"] >= 0 else PALETTE[1]
        # an arrow that passes over a layer is bent away from the boxes between
        passes = depth[row["target"]] - depth[row["source"]] > 1
        bend = 0.08 if not passes else -0.32 if (y0 + y1) / 2 > 0.4 else 0.42
        ax.annotate(
            "",
            (x1, y1),
            (x0, y0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "linestyle": "--" if closed else "-",
                "linewidth": 0.8 + 3.2 * min(abs(row["estimate"]), 1),
                "alpha": 1.0 if clear else 0.45,
                "shrinkA": 34,
                "shrinkB": 34,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )
        # a point of the curve (quadratic Bezier), in the proportions of the figure; long arrows carry theirs further on
        t = 0.62 if passes else 0.5
        across = 2 * t * (1 - t) * bend
        ax.text(
            x0 + t * (x1 - x0) + across * (y1 - y0) / PROPORTION,
            y0 + t * (y1 - y0) - across * (x1 - x0) * PROPORTION,
            f"{row['estimate'] + 0.0:.2f}\n[{row['low']:.2f}, {row['high']:.2f}]",
            ha="center",
            va="center",
            fontsize=7.5,
            color=INK,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=4,
        )
    for c, (x, y) in places.items():
        label = f"{c}\nR² {r2[c]:.2f}" if r2.get(c, 0) > 0 else c
        ax.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.5", "facecolor": "#EAF2F8", "edgecolor": INK},
            zorder=5,
        )
    ax.set_xlim(-0.12, 1.12)
    ax.set_ylim(-0.14, 1.12)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_title("Paths between constructs")
    ax.set_xlabel(
        f"standardised path [95% bootstrap interval], n = {n:,}; dashed grey: gate closed; pale: interval includes 0"
    )
    return ax


def dose(
    ax: Any, table: pd.DataFrame, curve: pd.DataFrame | None, kink: tuple[float, float, float] | None, item: str, n: int
) -> Any:
    """Share of top answers by satisfaction: bins, spline with band where one fits, and the kink with its interval."""
    if curve is not None:
        ax.plot(curve["x"], curve["share"], color=ACCENT)
        figures.interval_band(ax, curve["x"], curve["low"], curve["high"])
    figures.intervals(ax, table["satisfaction"], table["share"], table["low"], table["high"], color=INK)
    if kink is not None:
        at, low, high = kink
        ax.axvspan(low, high, color=PALETTE[1], alpha=0.12, linewidth=0)
        ax.axvline(at, color=PALETTE[1], linestyle="--", linewidth=1.2)
        ax.annotate("kink", (at, 0.02), xytext=(4, 0), textcoords="offset points", color=PALETTE[1])
    ax.set_ylim(0, 1)
    figures.percent_axis(ax)
    ax.set_xlabel(f"satisfaction score, standard deviations from the mean (n = {n:,}; bars, band: 95% intervals)")
    ax.set_ylabel(f"share with a top-two answer to {item}")
    ax.set_title("Satisfaction and loyalty: the dose and its response")
    return ax


def _name_items(ax: Any, table: pd.DataFrame, colors: Mapping[Any, str]) -> None:
    """Write names in the right margin, by height and never closer than a line, each with a line to its point."""
    low, high = ax.get_ylim()  # found when asked for
    ax.set_ylim(low, high)
    line = 10 / (ax.bbox.height * 72 / ax.figure.dpi)  # ten points of type, as a share of the axis
    place = -np.inf
    for row in table.sort_values("importance").itertuples():
        place = max((row.importance - low) / (high - low), place + line)
        ax.annotate(
            row.item,
            (row.performance, row.importance),
            xytext=(1.02, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colors[row.construct],
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5, "shrinkA": 0, "shrinkB": 3},
        )


def importance(ax: Any, table: pd.DataFrame, n: int) -> Any:
    """Importance-performance map with simultaneous intervals and medians."""
    colors = dict(zip(table["construct"].unique(), itertools.cycle(PALETTE), strict=False))
    for name, color in colors.items():
        part = table[table["construct"] == name]
        x, y = part["performance"], part["importance"]
        half, pale = 1.96 * part["performance_se"], (color, 0.35)
        figures.intervals(ax, x, y, part["low"], part["high"], fmt="", color=pale)
        figures.intervals(ax, y, x, x - half, x + half, horizontal=True, fmt="", color=pale)
        ax.plot(x, y, "o", color=color, markersize=6, label=name)
    _name_items(ax, table, colors)
    ax.axvline(table["performance"].median(), color=GREY, linewidth=1, linestyle="--")
    ax.axhline(table["importance"].median(), color=GREY, linewidth=1, linestyle="--")
    figures.percent_axis(ax, digits=1)
    ax.set_xlabel(f"performance: mean answer, 0 to 100 (n = {n:,})\nbars: 95% intervals, simultaneous for importance")
    ax.set_ylabel("importance: share of explained variance of satisfaction")
    ax.set_title("Upper left: important and rated low")
    ax.legend(loc="upper left")
    return ax


def calibration(ax: Any, table: pd.DataFrame, months: int) -> Any:
    """Actual share leaving against the stated chance of leaving, with the line of agreement."""
    figures.intervals(ax, table["stated"], table["actual"], table["low"], table["high"])
    top = max(table["stated"].max(), table["high"].max()) * 1.08
    ax.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1)
    ax.annotate("as stated", (top, top), ha="right", va="top", xytext=(-8, -12), textcoords="offset points", color=GREY)
    ax.set_xlim(0, top)
    ax.set_ylim(0, top)
    figures.percent_axis(ax, "x")
    figures.percent_axis(ax, "y")
    ax.set_xlabel(f"stated chance of leaving, group mean (n = {table['n'].sum():,}; bars: 95% intervals)")
    ax.set_ylabel(f"left within {months} months")
    ax.set_title("Intention against behaviour")
    return ax
