"""Tables of the site: they scroll, long ones are folded, and on a narrow screen each row is a list of its cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

from crmresearch import words
from crmresearch.run.site import methods

say = words.of("site.tables")
LONGEST = 24  # rows of a table that is not folded
WIDEST = 4  # columns of a table whose rows stay rows on a telephone
SCROLL = '<div class="crm-scroll" tabindex="0" role="group" aria-label="{name}">'
# said where they are usual: a style sheet that turns rows into lists would take them from who does not see it
ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader", "td": "cell"}
_HEAD = re.compile(r"<th scope=\"col\"[^>]*>(.*?)</th>", re.DOTALL)


def stacked(table: str) -> str:
    """Name in each cell the column it belongs to, for screens on which the table has none."""
    names: Iterator[str] = cycle(re.sub("<[^>]+>", "", head).strip() for head in _HEAD.findall(table))
    table = re.sub(r"<(table|thead|tbody|tr|th|td)\b", lambda m: f'{m[0]} role="{ROLES[m[1]]}"', table)
    many = " crm-many" * (table.count("]</th>") > 2)  # intervals
    table = table.replace('class="dataframe"', f'class="dataframe crm-wide{many}"', 1)
    return re.sub(r"<td\b", lambda m: f'{m[0]} data-label="{next(names)}"', table)


def framed(html: str, up: str = "") -> str:
    """Let each table scroll; a long one is folded, a wide one fits a telephone, and terms are explained."""
    return re.sub("<table .*?</table>", lambda table: _framed(table[0], up), html, flags=re.DOTALL)


def _framed(table: str, up: str) -> str:
    rows, columns = table.count("<tr>") - 1, len(_HEAD.findall(table))
    wide = columns > WIDEST and len(re.findall(r"<td\b", table)) == rows * columns
    shown = methods.explained(stacked(table) if wide else table, up)
    shown = f"{SCROLL.format(name=say('table'))}{shown}</div>"
    if rows <= LONGEST:
        return shown
    return f'<details class="crm-fold"><summary>{say("fold", rows=rows)}</summary>{shown}</details>'
