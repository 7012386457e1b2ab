"""Text from outside (a bank, a file, a parameter) stays text: in Markdown, in HTML, in spreadsheets, on terminals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# what a terminal obeys instead of showing: controls, but for tabs and line ends, and marks that turn text round
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# what a spreadsheet computes instead of showing; a number with its sign is one
_FORMULA = re.compile(r"\s*[=@＝＠]|\t|\s*[-+＋－](?![\d.,\s%]*(?:e[-+]?\d+)?$)")


def terminal(text: str) -> str:
    """Write out the characters that move a terminal's cursor, change its colours or turn the direction of text."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)  # as JSON reads it, too


def markdown(text: object) -> str:
    """Write text for Markdown and HTML alike: every mark as a character reference, all of it on one line."""
    return re.sub(r"[^\w ]", lambda match: f"&#{ord(match[0])};", " ".join(str(text).split()))


def csv(frame: pd.DataFrame, *, index: bool = False) -> bytes:
    """Write a table as CSV; a text that a spreadsheet would take for a formula has an apostrophe before it."""

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        value = re.sub("\r\n?", "\n", value)  # a bare return would end the row unquoted
        return f"'{value}" if _FORMULA.match(value) else value

    if index:
        frame = frame.reset_index(names=["" if n is None else n for n in frame.index.names], allow_duplicates=True)
    shown = frame.rename(columns=cell)
    texts = [i for i, kind in enumerate(shown.dtypes) if kind.kind == "O"]  # also categories
    for i in texts:
        shown.isetitem(i, list(map(cell, shown.iloc[:, i])))
    return shown.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode()
