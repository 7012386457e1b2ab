"""Small pieces of the pages: verdict chips, numbers, and the picture of an interval against its rule."""

from __future__ import annotations

import math
import re
from html import escape
from itertools import pairwise

from crmresearch import words
from crmresearch.estimators.verdicts import Bound, position

say = words.of("site.chips")
# beside the word, so that colour is never the only sign
SYMBOLS = {
    **dict.fromkeys(("supported", "shown", "consistent", "as described", "holds", "found"), "✓"),
    **dict.fromkeys(("refuted", "contradicted", "smaller than matters", "not borne out", "not as described"), "✗"),
    **dict.fromkeys(("fails", "wrong"), "✗"),
    **dict.fromkeys(("undecided", "open", "missed", "at the bound"), "?"),
    "blocked": "■",
    "reported": "•",
    "provisional": "…",
    "not applicable": "–",
    "not measured": "○",
    "not built": "○",
    "not testable": "∅",
}
ANSWERS = (  # of claims, in the order of display; those above the line are worth a tile even where no claim has it
    *("shown", "consistent", "as described", "smaller than matters", "contradicted", "not borne out"),
    *("not as described", "open", "blocked", "reported", "provisional", "not applicable", "not testable", "not built"),
)
SMALLEST = 1e-16  # of a p-value that is written out
ALWAYS = ("shown", "consistent", "open", "blocked")


def slug(text: str) -> str:
    """Turn words into a CSS class."""
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")


def chip(word: str) -> str:
    """Return a verdict or a kind of evidence as a labelled chip; its meaning is the tooltip."""
    meanings = [say.names("answers"), say.names("verdicts"), say.names("evidence")]
    meanings += [say.names("designs"), say.names("truths")]
    meaning = next((found[word] for found in meanings if word in found), "")
    mark = f'<span aria-hidden="true">{SYMBOLS[word]}</span> ' if word in SYMBOLS else ""
    return f'<span class="crm-chip crm-{slug(word)}" title="{escape(meaning)}">{mark}{escape(words.local(word))}</span>'


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


def chance(value: float) -> str:
    """Write a p- or q-value after its letter, as HTML; below what tails are computed to, only that it is smaller."""
    return f"&lt; {number(SMALLEST)}" if value < SMALLEST else f"= {number(value)}"


def _grounds(bound: Bound, left: float, right: float) -> list[tuple[str, float, float]]:
    """Stretches of the picture where a whole interval would be supported or refuted."""
    ends = [left, *(p for p in bound.points if left < p < right), right]
    places = [(position((a + b) / 2, (a + b) / 2, bound), a, b) for a, b in pairwise(ends)]
    return sorted(places)


def interval_svg(
    estimate: float, low: float, high: float, bound: Bound | None, text: str, truth: float = math.nan
) -> str:
    """Draw an interval on the ground of its bound, and the truth where it was planted; without a bound nothing."""
    if bound is None or not math.isfinite(estimate):
        return ""
    finite = [v for v in (estimate, low, high, truth, *bound.points) if math.isfinite(v)]
    left, right = min(finite), max(finite)
    margin = 0.18 * (right - left) or max(abs(left), 1.0) * 0.2
    left, right = left - margin, right + margin
    width, height = 220.0, 26.0

    def x(value: float) -> float:
        return round(width * (min(max(value, left), right) - left) / (right - left), 1)

    grounds = [
        f'<rect class="crm-{part}-ground" x="{x(a)}" y="3" width="{x(b) - x(a):.1f}" height="20" rx="2"/>'
        for part, a, b in _grounds(bound, left, right)
    ]
    lines = [f'<line class="crm-bound" x1="{x(p)}" x2="{x(p)}" y1="1" y2="25"/>' for p in bound.points]
    planted = f'<path class="crm-truth-mark" d="M{x(truth)} 2l4 5h-8z"/>' if math.isfinite(truth) else ""
    a, b, e = x(low), x(high), x(estimate)
    return (
        f'<svg class="crm-interval" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(say("interval", text=text))}">'
        f'<line class="crm-axis" x1="0" x2="{width:g}" y1="13" y2="13"/>{"".join(grounds)}{"".join(lines)}'
        f'<line class="crm-bar" x1="{a}" x2="{b}" y1="13" y2="13"/>'
        f'<circle class="crm-dot" cx="{e}" cy="13" r="4.5"/>{planted}</svg>'
    )
