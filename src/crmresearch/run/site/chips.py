"""Small pieces of the pages: verdict chips, numbers, blocks of HTML, lists of pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Any

from crmresearch import ledger, words
from crmresearch.answer import number

say = words.of("site.chips")
# beside the word, so that colour is never the only sign
SYMBOLS = {
    **dict.fromkeys(("supported", "shown", "consistent", "as described", "holds", "found"), "✓"),
    **dict.fromkeys(("refuted", "contradicted", "smaller than matters", "not borne out", "not as described"), "✗"),
    **dict.fromkeys(("fails", "wrong"), "✗"),
    "conflicting": "≠",
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
    *(
        "not as described",
        "conflicting",
        "open",
        "blocked",
        "reported",
        "provisional",
        "not applicable",
        "not testable",
        "not built",
    ),
)
SMALLEST = 1e-16  # of a p-value that is written out
FOLDED = ("not testable", "not built")  # whatever the bank
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
    return (
        f'<span class="crm-chip crm-{slug(word)}" title="{escape(meaning)}">{mark}{escape(ledger.named(word))}</span>'
    )


def chance(value: float) -> str:
    """Write a p- or q-value after its letter, as HTML; below what tails are computed to, only that it is smaller."""
    return f"&lt; {number(SMALLEST, 0)}" if value < SMALLEST else f"= {number(value, 0)}"


def raw(html: str) -> str:
    """Write HTML as a block of its own in Markdown, which only an empty line would end; texts in it are escaped."""
    return "\n".join(["", re.sub(r"\n\s*\n", "\n", html.strip()), "", ""])


def rows(pairs: Iterable[tuple[str, Any]]) -> str:
    """Write names and values as a table of their own, without those that say nothing."""
    shown = [(k, ", ".join(map(str, v)) if isinstance(v, list) else words.local(str(v))) for k, v in pairs if v]
    body = "".join(f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(v)}</td></tr>' for k, v in shown)
    return raw(f'<table class="crm-plain"><tbody>{body}</tbody></table>')


def toctree(entries: Iterable[str], caption: str = "") -> list[str]:
    """List pages that are reached from this one."""
    named = [f":caption: {caption}"] if caption else []
    return ["```{toctree}", ":hidden:", ":maxdepth: 1", *named, "", *entries, "```", ""]
