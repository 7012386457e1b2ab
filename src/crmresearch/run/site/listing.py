"""Claims and lines of the ledger as tables, which a reader filters and sorts; without scripts they are whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from crmresearch import disclosure, ledger, words
from crmresearch.run.site import claims, tables
from crmresearch.run.site.chips import chip, raw
from crmresearch.run.site.runs import Run

say = words.of("site.listing")
front_words = words.of("site.front")


def finder() -> str:
    """Return the field that filters what a page lists; the script shows it, so that none stands there without use."""
    said = f'<span role="status" data-said="{escape(say("shown"))}"></span>'
    return f'<p class="crm-find" hidden><label>{say("find")} <input type="search"></label> {said}</p>'


def page(runs: Sequence[Run]) -> str:
    """Write the page: a row for each claim and bank, and one for each line that was looked at."""
    essays = {c["id"]: " ".join([c["claim"], *c["anchor"]]) for c in ledger.claims()}
    lines = [(run, row) for run in runs for claim in run.lines for row in run.lines[claim] if _looked_at(row)]
    answered = [(run, claim) for claim in essays for run in runs if not run.idle(claim)]
    parts = [
        say("title"),
        raw(finder()),
        say("claims"),
        raw(_table("claims", say.names("claims_heads"), (_claim(*pair) for pair in answered))),
    ]
    parts += [
        say("lines"),
        raw(_table("lines", say.names("lines_heads"), (_line(run, row, essays) for run, row in lines))),
    ]
    return "\n".join(parts)


def _looked_at(row: Mapping[Any, Any]) -> bool:
    return row["verdict"] not in ledger.UNMEASURED or pd.notna(row["estimate"])


def _claim(run: Run, claim: str) -> str:
    row = run.lines[claim][0]
    told = {
        "claim": (claim, f'<a href="index.html#claim-{claim}">{claim}</a>'),
        "answer": (run.answers[claim], claims.answered(run.answers[claim])),
        "estimate": _estimate(row),
        "bank": (str(run.about["name"]), f"{escape(str(run.about['name']))} {chip(run.evidence)}"),
        "theme": (theme := front_words.names("themes")[ledger.lines()[row["line_id"]].theme], theme),
        "says": (row["claim"], escape(words.local(row["claim"]))),
    }
    return _row(told, " ".join(next(c["anchor"] for c in ledger.claims() if c["id"] == claim)))


def _line(run: Run, row: Mapping[Any, Any], essays: Mapping[str, str]) -> str:
    people = math.nan if row["line_id"] in ledger.IMPERSONAL else row["n"]
    shown = not run.key or run.measures(row["claim_id"])  # else a joined site's first page shows the claim alone
    place = run.anchor(row["line_id"]) if shown else f"claim-{row['claim_id']}"
    told = {
        "line": (row["line_id"], f'<a href="index.html#{escape(place)}">{row["line_id"]}</a>'),
        "verdict": (row["verdict"], chip(row["verdict"])),
        "estimate": _estimate(row),
        "bank": (str(run.about["name"]), f"{escape(str(run.about['name']))} {chip(run.evidence)}"),
        "design": (row["design"], chip(row["design"])),
        "n": ("", "–") if pd.isna(people) else (f"{people:.9g}", f"{people:,.0f}"),
        "measures": (row["estimand"], escape(words.local(row["estimand"]))),
    }
    return _row(told, essays[row["claim_id"]])


def _estimate(row: Mapping[Any, Any]) -> tuple[str, str]:
    if pd.isna(row["estimate"]):
        return "", "–"
    unit = f'<span class="crm-unit">{escape(words.local(row["unit"]))}</span>'
    return f"{row['estimate']:.9g}", f'<span class="crm-ci">{claims.estimate(row)}</span> {unit}'


def _row(told: Mapping[str, tuple[str, str]], find: str) -> str:
    cells = "".join(f'<td data-sort="{escape(key)}"><div>{shown}</div></td>' for key, shown in told.values())
    return f'<tr data-find="{escape(find)}">{cells}</tr>'


def _table(name: str, named: Mapping[str, str], rows: Iterable[str]) -> str:
    heads = "".join(f'<th scope="col" data-key="{key}">{head}</th>' for key, head in named.items())
    head = f'<table class="dataframe" id="{name}"{disclosure.places([*named], [["n"]])}><thead><tr>{heads}</tr></thead>'
    whole = f"{head}<tbody>{''.join(rows)}</tbody></table>"
    shown = tables.stacked(whole).replace("crm-wide", "crm-wide crm-sortable", 1)
    return f'<div class="crm-scroll">{shown}</div>'
