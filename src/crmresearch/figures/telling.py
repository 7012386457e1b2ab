"""What a figure shows, in words: rendered from the data that are drawn, so that text and picture cannot part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.figures.dress import label
from crmresearch.figures.picture import Picture
from crmresearch.rules import rules

say = words.of("top.figures")
MOST = 12  # marks told one by one; of more, the ends


def told(picture: Picture) -> str:
    """Tell title, axes and values of a picture."""
    named = picture.data.rename(columns={"ci_low": "low", "ci_high": "high"})
    kind = "paths" if "nodes" in picture.options else "composition" if "part" in named else picture.kind
    marks = [(m.text, m.at) for m in picture.options.get("marks", ()) if m.text]
    unit = picture.options.get("unit", "number") if kind != "curves" else picture.options.get("x_unit", "number")
    values = [*TELLING[kind](named, picture), *(say("mark", text=t, at=number(at, unit)) for t, at in marks)]
    head = label(_line(picture.title))
    head += "" if not head or head.endswith(("?", ".", "\uff1f", "\u3002")) else words.local(".")
    axes = words.joined([label(_line(picture.x)), label(_line(picture.y))], ", ")
    known = kind != "intervals" or ("low" in named and named["low"].notna().any())
    what = say.names("kinds")[kind if known else "estimates"]
    told = words.joined(values)
    body = say("told", what=what, axes=axes, values=told) if axes else say("told_bare", what=what, values=told)
    return words.joined([head, body], " ")


def number(value: Any, unit: str = "number") -> str:
    """Write a value as a reader needs it: three digits that count, and those before the point."""
    if isinstance(value, pd.Timestamp | np.datetime64):
        return str(pd.Timestamp(value).date())
    if not isinstance(value, int | float | np.number):
        return str(value)
    value = float(value)
    if not np.isfinite(value):
        return say("none")
    scaled, sign = (100 * value, "%" if unit == "percent" else "") if unit in ("percent", "points") else (value, "")
    whole = abs(scaled) >= 100 or abs(scaled - round(scaled)) < 1e-9
    digits = 0 if whole else max(0, 2 - int(np.floor(np.log10(max(abs(scaled), 1e-9)))))
    if unit in ("percent", "points"):
        digits = min(digits, 1 if unit == "percent" else 2)
    comma = "," if abs(scaled) >= 10_000 or unit == "money" else ""
    return f"{round(scaled, digits) + 0.0:{comma}.{digits}f}{sign}"


def _line(text: Any) -> str:
    return words.local(" ".join(str(text).split()))


def _with_ends(value: Any, low: Any, high: Any, unit: str) -> str:
    if pd.isna(low) or pd.isna(high):
        return number(value, unit)
    return say("interval", value=number(value, unit), low=number(low, unit), high=number(high, unit))


def _few(rows: list[str], order: pd.Series) -> list[str]:
    """All of few rows; of many the lowest and the highest."""
    if len(rows) <= MOST:
        return rows
    order = order.reset_index(drop=True)
    ends = rows[int(order.argmin())], rows[int(order.argmax())]
    return [say("many", count=len(rows), least=ends[0], most=ends[1])]


def _cells(data: pd.DataFrame, value: str, unit: str) -> list[str]:
    ends = (data[c] if c in data else pd.Series(np.nan, index=data.index) for c in ("low", "high"))
    return [_with_ends(v, a, b, unit) for v, a, b in zip(data[value], *ends, strict=True)]


def _intervals(data: pd.DataFrame, picture: Picture) -> list[str]:
    names = data["label"].map(_line)
    if "group" in data and data["label"].duplicated().any():
        names = names + ", " + data["group"].astype(str).map(_line)
    if "base" in data:  # a bar is as long as it reaches from there
        ends = [c for c in ("estimate", "low", "high") if c in data]
        data = data.assign(**{c: data[c] - data["base"] for c in ends})
    unit = picture.options.get("unit", "number")
    cells = _cells(data, "estimate", unit)
    for row, (_, beside) in enumerate(data.iterrows()):
        if pd.notna(beside.get("bound", np.nan)):
            cells[row] = say("bound", cell=cells[row], at=number(beside["bound"], unit))
        if pd.notna(beside.get("truth", np.nan)):
            cells[row] = say("truth", cell=cells[row], at=number(beside["truth"], unit))
    return _few([f"{name}: {cell}" for name, cell in zip(names, cells, strict=True)], data["estimate"])


def _grouped(data: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if "group" not in data:
        yield "", data
        return
    for name in dict.fromkeys(data["group"]):
        yield f"{_line(name)}: ", data[data["group"] == name]


def _curves(data: pd.DataFrame, picture: Picture) -> list[str]:
    o = picture.options
    unit, x_unit = o.get("unit", "number"), o.get("x_unit", "number")
    out = []
    for name, own in _grouped(data):
        known = own[own["y"].notna()]
        if known.empty:
            continue
        places = sorted({0, len(known) // 2, len(known) - 1}) if len(known) > 4 else range(len(known))
        at = known.iloc[list(places)]
        cells = zip(at["x"], _cells(at, "y", unit), strict=True)
        out.append(name + ", ".join(say("at", value=cell, x=number(x, x_unit)) for x, cell in cells))
    if "points" in o:
        points = o["points"].dropna(subset="y").reset_index(drop=True)
        for name, own in _grouped(points) if len(points) else ():
            cells = zip(own["x"], _cells(own, "y", unit), strict=True)
            rows = [say("at", value=cell, x=number(x, x_unit)) for x, cell in cells]
            out.append(name + say("points", points=", ".join([rows[0], rows[-1]] if len(rows) > 1 else rows)))
    return _few(out, pd.Series(range(len(out))))


def _calibration(data: pd.DataFrame, picture: Picture) -> list[str]:
    unit, out = picture.options.get("unit", "number"), []
    for name, own in _grouped(data):
        pairs = zip(own["predicted"], _cells(own, "observed", unit), strict=True)
        rows = [say("against", predicted=number(p, unit), observed=cell) for p, cell in pairs]
        out.append(name + ", ".join(_few(rows, own["predicted"])))
    return out


def _histogram(data: pd.DataFrame, picture: Picture) -> list[str]:
    """Share below zero, unless it is one of few, and where the middle half lies, to two digits: nobody's own value."""
    unit, out = picture.options.get("unit", "number"), []
    for name, own in _grouped(data):
        value = own["value"].to_numpy(float)
        middle = [number(float(f"{q:.2g}"), unit) for q in np.quantile(value, (0.25, 0.75))]
        lower = int((value < 0).sum())
        tellable = lower >= rules.least and not 0 < value.size - lower < rules.least
        below = say("below", share=number(lower / value.size, "percent")) if tellable else ""
        out.append(name + words.joined([below, say("middle", low=middle[0], high=middle[1])], ", "))
    return out


def _composition(data: pd.DataFrame, picture: Picture) -> list[str]:
    measure = "share" if "share" in data else "count"
    unit = picture.options.get("unit", "percent" if measure == "share" else "number")
    names = list(dict.fromkeys(data["label"]))
    out = []
    for name in names if len(names) <= 4 else [names[0], names[-1]]:
        own = data[data["label"] == name]
        parts = [f"{_line(p)} {number(v, unit)}" for p, v in zip(own["part"], own[measure], strict=True)]
        out.append(say("parts", name=_line(name), parts=", ".join(parts)))
    return out


def _scatter(data: pd.DataFrame, picture: Picture) -> list[str]:
    o = picture.options
    units = o.get("x_unit", "number"), o.get("unit", "number")
    out = []
    for name, own in _grouped(data):
        if "pale" in own and bool(own["pale"].iloc[0]):
            out.append(say("cloud", name=name.removesuffix(": "), count=len(own)))
            continue
        labels = own["label"].map(_line) + " " if "label" in own else pd.Series("", index=own.index)
        rows = [
            say("place", name=a, x=number(x, units[0]), y=number(y, units[1]))
            for a, x, y in zip(labels, own["x"], own["y"], strict=True)
        ]
        out.append(name + ", ".join(_few(rows, own["y"])))
    return out


def _paths(data: pd.DataFrame, picture: Picture) -> list[str]:
    cells = _cells(data, "estimate", "number")
    return [
        say("path", source=a, target=b, cell=c) for a, b, c in zip(data["source"], data["target"], cells, strict=True)
    ]


def _matrix(data: pd.DataFrame, picture: Picture) -> list[str]:
    names = [say("cell", row=_line(r), column=_line(c)) for r, c in zip(data["row"], data["column"], strict=True)]
    cells = _cells(data, "value", picture.options.get("unit", "number"))
    known = data["value"].notna().to_numpy()
    rows = [f"{name}: {cell}" for name, cell, k in zip(names, cells, known, strict=True) if k]
    return _few(rows, data["value"][known])


TELLING = {
    "paths": _paths, "composition": _composition, "intervals": _intervals, "curves": _curves,
    "calibration": _calibration, "distribution": _histogram, "scatter": _scatter, "matrix": _matrix,
}  # fmt: skip
