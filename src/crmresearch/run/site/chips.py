"""Small pieces of the pages: verdict chips, numbers, and the picture of an interval against its rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from crmresearch import words

say = words.of("site.chips")
DECIDED = ("supported", "refuted", "undecided", "blocked", "reported")
# beside the word, so that colour is never the only sign; in the order of display
SYMBOLS = dict(zip((*DECIDED, "not applicable", "not measured", "not testable"), "✓✗?■•–○∅", strict=True))


def slug(text: str) -> str:
    """Turn words into a CSS class."""
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")


def chip(word: str) -> str:
    """Return a verdict or a kind of evidence as a labelled chip; its meaning is the tooltip."""
    meaning = {**say.names("verdicts"), **say.names("evidence")}.get(word, "")
    mark = f'<span aria-hidden="true">{SYMBOLS[word]}</span> ' if word in SYMBOLS else ""
    return f'<span class="crm-chip crm-{slug(word)}" title="{escape(meaning)}">{mark}{escape(word)}</span>'


def number(value: float) -> str:
    """Write a number with three significant digits, thousands separated."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size < 0.0001:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{min(6, max(0, 2 - math.floor(math.log10(size))))}f}"
    return text.replace("-", "−")


def _side(rule: Mapping[str, Any], name: str, low: float, high: float) -> tuple[float, float] | None:
    """Interval of values a rule calls supported or refuted, clipped to the picture."""
    where = rule.get(name)
    if not isinstance(where, Mapping):
        return None
    start, end = max(low, where.get("above", low)), min(high, where.get("below", high))
    return (start, end) if start < end else None


def interval_svg(estimate: float, low: float, high: float, rule: Mapping[str, Any], text: str) -> str:
    """Draw an interval on the ground of its decision rule; without a rule there is nothing to see."""
    sides = [rule[part] for part in ("supported", "refuted") if isinstance(rule.get(part), Mapping)]
    bounds = [bound for side in sides for bound in side.values()]
    finite = [v for v in (estimate, low, high, *bounds) if math.isfinite(v)]
    if not bounds or not math.isfinite(estimate):
        return ""
    left, right = min(finite), max(finite)
    margin = 0.18 * (right - left) or max(abs(left), 1.0) * 0.2
    left, right = left - margin, right + margin
    width, height = 220.0, 26.0

    def x(value: float) -> float:
        return round(width * (min(max(value, left), right) - left) / (right - left), 1)

    grounds = []
    for part in ("refuted", "supported"):
        if side := _side(rule, part, left, right):
            a, b = x(side[0]), x(side[1])
            grounds.append(f'<rect class="crm-{part}-ground" x="{a}" y="3" width="{b - a:.1f}" height="20" rx="2"/>')
    lines = [f'<line class="crm-bound" x1="{x(b)}" x2="{x(b)}" y1="1" y2="25"/>' for b in sorted(set(bounds))]
    a, b, e = x(low), x(high), x(estimate)
    return (
        f'<svg class="crm-interval" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(say("interval", text=text))}">'
        f'<line class="crm-axis" x1="0" x2="{width:g}" y1="13" y2="13"/>{"".join(grounds)}{"".join(lines)}'
        f'<line class="crm-bar" x1="{a}" x2="{b}" y1="13" y2="13"/>'
        f'<circle class="crm-dot" cx="{e}" cy="13" r="4.5"/></svg>'
    )
