"""Theme, captions, source line and alt text of every figure.

Plot functions take axes and return them; only :func:`show` displays, and it stores the alt text with the picture.
"""

from __future__ import annotations

import contextlib
import io
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import words
from crmresearch.errors import InputError
from crmresearch.figures.picture import ACCENT, DPI, GREY, HEIGHT, INK, PALETTE, WIDTH, Mark, Picture, shared

if TYPE_CHECKING:
    from matplotlib.figure import Figure

say = words.of("top.figures")
CHINESE = (  # fonts with Chinese signs, by system: Linux, macOS, Windows
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "PingFang HK", "Heiti SC", "Hiragino Sans GB"),
    *("Microsoft YaHei", "SimHei", "SimSun"),
)
CODES = ("unit", "x_unit", "scale")  # options that name a way to draw, no words


def fonts() -> list[str]:
    """Return the first font with Chinese signs that is installed; it draws what the figures' own font lacks."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {font.name for font in fontManager.ttflist}
    if words.language() != "en" and known.isdisjoint(CHINESE):  # the list is kept on disk: look for newer ones
        for path in sorted(set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}):
            with contextlib.suppress(RuntimeError, OSError):  # a file that is no font
                fontManager.addfont(path)
        known = {font.name for font in fontManager.ttflist}
    return [name for name in CHINESE if name in known][:1]


def _said(said: Any) -> Any:
    """Say every text of a picture in the reader's language, or in English where no font is there to draw it."""
    import pandas as pd

    if isinstance(said, str):
        return words.english(said) if shared.english else words.local(said)
    if isinstance(said, Picture):
        options = {name: value if name in CODES else _said(value) for name, value in said.options.items()}
        spoken = {name: _said(getattr(said, name)) for name in ("data", "title", "x", "y")}
        return replace(said, **spoken, options=options)
    if isinstance(said, Mark):
        return replace(said, text=_said(said.text))
    if isinstance(said, pd.DataFrame):
        return said.apply(_said)
    if isinstance(said, pd.Series):
        if isinstance(said.dtype, pd.CategoricalDtype):
            return said.cat.rename_categories(list(map(_said, said.cat.categories)))
        return said if pd.api.types.is_numeric_dtype(said) else said.map(_said)
    if isinstance(said, Mapping):
        return {_said(key): _said(value) for key, value in said.items()}
    return type(said)(map(_said, said)) if isinstance(said, tuple | list) else said


def draw(picture: Picture | tuple[Picture, ...], ax: Any = None) -> Any:
    """Draw one picture, or several side by side; return the axes."""
    from crmresearch.figures import dress, kinds

    several = picture if isinstance(picture, tuple) else (picture,)
    several = several if words.language() == "en" else _said(several)
    fresh = ax is None
    if fresh:  # nothing is left to draw where every mark rests on too few people
        several = tuple(p for p in several if not p.blank)
        if not several:
            return None
    if ax is None:
        ax = axes(len(several), several[0].size or kinds.size(several))
    places = [ax] if len(several) == 1 else list(ax)
    for one, place in zip(several, places, strict=True):
        named = one.data.rename(columns={"ci_low": "low", "ci_high": "high"})
        getattr(kinds, one.kind)(place, replace(one, data=named))
    names = [list(p.data["label"]) if p.kind == "intervals" and not p.options.get("upright") else None for p in several]
    for place in places[1:] if names[0] and all(n == names[0] for n in names) else ():
        place.tick_params(labelleft=False)  # the same labels once
    dress.fit(places, widen=fresh)
    return ax


def svg(several: tuple[Picture, ...]) -> bytes:
    """Draw pictures of intervals below each other, each as high as its rows, as SVG."""
    from crmresearch.figures import forest

    places = forest.axes([forest.height(p.data) for p in several])
    draw(several, places if len(several) > 1 else places[0])
    return _saved(places[0].figure, "svg")


def told(several: Picture | tuple[Picture, ...]) -> str:
    """Tell in words what :func:`draw` draws: titles, axes and values, from the data themselves."""
    from crmresearch.figures import telling

    pictures = several if isinstance(several, tuple) else (several,)
    return " ".join(telling.told(p) for p in pictures if not p.blank)


def use(source: str = "", folder: Path | None = None, prefix: str = "", currency: str = "") -> None:
    """Set the theme and, for the figures to come, source line, folder that keeps a copy, and currency."""
    import logging

    # the first figure on a new machine builds a font cache and says so on stderr, which would end up in a notebook
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib as mpl
    from cycler import cycler

    shared.source, shared.folder, shared.prefix, shared.number = source, folder, prefix, 0
    shared.currency, chinese = currency, fonts()
    shared.english = words.language() != "en" and not chinese
    mpl.rcParams.update(
        {
            "figure.dpi": DPI,
            "text.parse_math": False,  # a dollar in a bank's words is a dollar
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "font.family": ["DejaVu Sans", *chinese],
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "axes.labelcolor": INK,
            "axes.edgecolor": GREY,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=PALETTE),
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.8,
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "lines.linewidth": 1.8,
            "svg.hashsalt": "crmresearch",
        }
    )


def axes(panels: int = 1, figsize: tuple[float, float] | None = None) -> Any:
    """Return fresh axes: one, or an array of ``panels`` side by side (two to a row from three on)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = panels if panels < 3 else 2 if panels == 4 else 3
    rows = -(-panels // columns)
    size = figsize or (WIDTH if columns == 1 else WIDTH * 0.72 * columns, HEIGHT * (1 if rows == 1 else 0.9 * rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[panels:]:
        spare.set_visible(False)
    return grid[0] if panels == 1 else grid[:panels]


def _figure(shown: Any) -> Figure:
    first = shown.ravel()[0] if hasattr(shown, "ravel") else shown[0] if isinstance(shown, list | tuple) else shown
    return first if hasattr(first, "savefig") else first.get_figure()


def _saved(figure: Figure, ending: str) -> bytes:
    """Save a figure, laid out once and for good: ``savefig`` draws all of it once more, each time, to lay it out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    buffer = io.BytesIO()
    if ending == "png":
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    else:
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def img(data: str, alt: str, width: int | None = None) -> str:
    """Write a picture with its alt text as HTML: JupyterLab shows an output of type PNG without any."""
    size = f' width="{width}"' if width else ""
    return f'<img alt="{escape(alt)}"{size} src="data:image/png;base64,{data}">'


def show(shown: Any, *, alt: str, name: str | None = None) -> None:
    """Display a figure once, with its alt text and source line, and keep a copy in the run's folder.

    Parameters
    ----------
    shown : Figure, Axes, array of Axes or None
        What a plot function returned. None (a study that does not apply) shows nothing.
    alt : str
        What one sees in the picture, in a sentence or two; required.
    name : str, optional
        File name of the copy, without ending; numbered when absent.

    Raises
    ------
    InputError
        If ``alt`` is empty although there is a figure.
    """
    if shown is None:
        return
    if not alt.strip():
        raise InputError("a figure needs alt text: say what one sees, for readers who do not see it")
    from IPython.display import display
    from matplotlib import pyplot as plt

    figure = _figure(shown)
    if shared.source and not getattr(figure, "_crm_source", False):
        line = say("source", line=shared.source)
        figure.supxlabel(words.english(line) if shared.english else line, x=0.01, ha="left", fontsize=7.5, color=GREY)
        figure._crm_source = True  # type: ignore[attr-defined]
    shared.number += 1
    data = _saved(figure, "png")
    if shared.folder is not None:
        stem = "_".join(p for p in (shared.prefix, name or f"figure_{shared.number:02d}") if p)
        stem = re.sub(r"[^\w-]+", "_", stem)
        shared.folder.mkdir(parents=True, exist_ok=True)
        (shared.folder / f"{stem}.png").write_bytes(data)
        (shared.folder / f"{stem}.txt").write_text(alt + "\n", encoding="utf-8")
        (shared.folder / f"{stem}.svg").write_bytes(_saved(figure, "svg"))
    picture = img(b64encode(data).decode(), alt, int(figure.get_figwidth() * 100))
    folded = f"<details><summary>{say('in_words')}</summary><p>{escape(alt)}</p></details>"
    display({"text/html": picture + folded, "text/plain": alt}, raw=True)
    plt.close(figure)
