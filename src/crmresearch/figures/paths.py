"""The map of paths: constructs in layers from left to right, arrows with estimates and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crmresearch.figures.dress import finish
from crmresearch.figures.picture import ACCENT, GREY, INK, PALETTE, Picture

BENDS = {"arrow": 0.08, "under": -0.32, "over": 0.42}  # of arrows to the next layer, and of those that pass one


def _layers(order: Sequence[str], arrows: pd.DataFrame) -> tuple[dict[str, int], dict[str, tuple[float, float]]]:
    """Depth and place of each node; alternating heights keep long arrows off the boxes between."""
    depth: dict[str, int] = {}
    for name in order:
        above = arrows.loc[arrows["target"] == name, "source"]
        depth[name] = 1 + max((depth[a] for a in above), default=-1)
    last = max(depth.values())
    places: dict[str, tuple[float, float]] = {}
    for layer in range(last + 1):
        x, y = layer / max(last, 1), (0.12, 0.88, 0.5)[layer % 3]
        for k, name in enumerate(n for n in order if depth[n] == layer):
            places[name] = (x, y if k == 0 else (y + 0.38 * k) % 1.0)
    return depth, places


def paths(ax: Any, picture: Picture) -> None:
    """Draw the map; an arrow is dashed grey where ``closed``, pale where its interval includes zero."""
    arrows, nodes = picture.data, picture.options["nodes"]
    depth, places = _layers(list(nodes), arrows)
    wide, high = ax.figure.get_size_inches()
    shape = wide / high
    row: Any
    for row in arrows.itertuples():
        (x0, y0), (x1, y1) = places[row.source], places[row.target]
        passes = depth[row.target] - depth[row.source] > 1
        bend = BENDS["arrow"] if not passes else BENDS["under"] if (y0 + y1) / 2 > 0.4 else BENDS["over"]
        arrow = {
            "arrowstyle": "-|>",
            "color": GREY if row.closed else ACCENT if row.estimate >= 0 else PALETTE[1],
            "linestyle": "--" if row.closed else "-",
            "linewidth": 0.8 + 3.2 * min(abs(row.estimate), 1),
            "alpha": 1.0 if row.low > 0 or row.high < 0 else 0.45,
            "shrinkA": 34,
            "shrinkB": 34,
            "connectionstyle": f"arc3,rad={bend}",
        }
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        # a point of the curve (quadratic Bezier), in the proportions of the figure; long arrows carry theirs further on
        t = 0.62 if passes else 0.5
        across = 2 * t * (1 - t) * bend
        ax.text(
            x0 + t * (x1 - x0) + across * (y1 - y0) / shape,
            y0 + t * (y1 - y0) - across * (x1 - x0) * shape,
            f"{row.estimate + 0.0:.2f}\n[{row.low:.2f}, {row.high:.2f}]",
            ha="center",
            va="center",
            fontsize=7.5,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=4,
        )
    for name, text in nodes.items():
        box = {"boxstyle": "round,pad=0.5", "facecolor": "#EAF2F8", "edgecolor": INK}
        ax.text(*places[name], text, ha="center", va="center", fontsize=9.5, fontweight="bold", bbox=box, zorder=5)
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.14, 1.12), xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    finish(ax, picture)
