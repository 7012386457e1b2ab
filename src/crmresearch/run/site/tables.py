"""Tables of the site: they scroll, long ones are folded, and on a narrow screen each row is a list of its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

from crmresearch import words

say = words.of("site.tables")
LONGEST = 24  # rows of a table that is not folded
WIDEST = 4  # columns of a table whose rows stay rows on a telephone
SCROLL = '<div class="crm-scroll" tabindex="0" role="region" aria-label="{name}">'
# said where they are usual: a style sheet that turns rows into lists would take them from who does not see it
ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader", "td": "cell"}


def _stacked(table: str, heads: list[str]) -> str:
    """Name in each cell the column it belongs to, for screens on which the table has none."""
    table = re.sub(r"<(table|thead|tbody|tr|th|td)\b", lambda m: f'{m[0]} role="{ROLES[m[1]]}"', table)
    table = table.replace('class="dataframe"', 'class="dataframe crm-wide"', 1)
    names: Iterator[str] = cycle(re.sub("<[^>]+>", "", head).strip() for head in heads)
    return re.sub(r"<td\b", lambda m: f'{m[0]} data-label="{next(names)}"', table)


def framed(html: str) -> str:
    """Let each table scroll; a long one is folded, and a wide one can be read on a telephone."""
    return re.sub("<table .*?</table>", _framed, html, flags=re.DOTALL)


def _framed(table: re.Match[str]) -> str:
    shown, heads = table[0], re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", table[0], flags=re.DOTALL)
    rows = shown.count("<tr>") - 1
    if len(heads) > WIDEST and len(re.findall(r"<td\b", shown)) == rows * len(heads):
        shown = _stacked(shown, heads)
    shown = f"{SCROLL.format(name=say('table'))}{shown}</div>"
    if rows <= LONGEST:
        return shown
    return f'<details class="crm-fold"><summary>{say("fold", rows=rows)}</summary>{shown}</details>'
