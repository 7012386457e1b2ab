"""The ledger as people read it: one card per claim, its lines below, failed assumptions in sight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.run.site.chips import DECIDED, SYMBOLS, chip, interval_svg, number, slug

say = words.of("site.claims")


def unmeasured(frame: pd.DataFrame) -> pd.Series:
    """Lines that nothing in this run estimated or looked at."""
    return frame["verdict"].isin({"not measured", "not testable"}) & frame["estimate"].isna()


def decided(frame: pd.DataFrame, notebook: str) -> pd.DataFrame:
    """Lines a notebook looked at, those it could not apply included."""
    return frame[(frame["notebook"] == notebook) & ~unmeasured(frame)]


def _claims(frame: pd.DataFrame) -> list[list[Any]]:
    """Lines by claim, in the order of the register: S2 before S19, S19 before S19a."""
    number_of = frame["claim_id"].str.replace(r"\D", "", regex=True).astype(int)
    ordered = frame.assign(claim_number=number_of).sort_values(["claim_number", "claim_id"])
    return [part.to_dict("records") for _, part in ordered.groupby("claim_number")]


def _bounds(row: Mapping[str, Any]) -> str:
    """Write the interval; a count or identity over every row has none."""
    exact = row["ci_low"] == row["estimate"] == row["ci_high"]
    return say("exact") if exact else f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _estimate(row: Mapping[str, Any]) -> str:
    return f"{number(row['estimate'])} {_bounds(row)}"


def _cell(row: Mapping[str, Any]) -> str:
    return f"#cell-{row['cell']}" if row["cell"] else ""


def _gates(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Status and words of each gate; nothing for a line whose ``checks`` is a reason."""
    return ledger.split_checks(row["checks"]) if pd.notna(row["n"]) else []


def _trouble(row: Mapping[str, Any]) -> str:
    """Say in sight which assumptions failed, and which the verdict takes on trust."""
    names = say.names("gates")
    return "".join(
        f'<p class="crm-gate crm-gate-{status}"><strong>{names[status]}:</strong> {escape(text)}</p>'
        for status, text in _gates(row)
        if status != "open"
    )


def _facts(row: Mapping[str, Any]) -> str:
    """Everything else about a line, folded away."""
    names, status_names = say.names("facts"), say.names("gates")
    facts = {"rule": escape(row["rule"])}
    if pd.notna(row["n"]):
        facts["n"] = f"n = {row['n']:,.0f}"
        tests = [f"{key[0]} = {number(row[key])}" for key in ("p_value", "q_value") if pd.notna(row[key])]
        gates = "".join(f"<li>{status_names[status]}: {escape(text)}</li>" for status, text in _gates(row))
        facts |= {"tests": ", ".join(tests), "gates": f"<ul>{gates}</ul>" if gates else ""}
    facts["parameters"] = row["parameters_hash"]
    return "".join(f"<div><dt>{names[key]}</dt><dd>{text}</dd></div>" for key, text in facts.items() if text)


def _line(row: Mapping[str, Any], pages: Iterable[str]) -> str:
    """One line: verdict, estimand, estimate against its rule, and the way to the cell."""
    verdict = row["verdict"]
    line = ledger.lines().get(row["claim_id"])
    if pd.notna(row["estimate"]):
        result = (
            f'<p class="crm-estimate"><strong>{number(row["estimate"])}</strong> '
            f'<span class="crm-ci">{_bounds(row)}</span> <span class="crm-unit">{escape(row["unit"])}</span></p>'
            + interval_svg(row["estimate"], row["ci_low"], row["ci_high"], line.rule if line else {}, _estimate(row))
        )
    else:
        result = f'<p class="crm-reason">{escape(row["checks"])}</p>' if pd.isna(row["n"]) and row["checks"] else ""
    link = ""
    if row["notebook"] in pages and verdict != "not measured":
        target = f"notebooks/{row['notebook']}.html{_cell(row)}"
        link = f'<a class="crm-cell" href="{escape(target)}">{say("cell") if row["cell"] else say("notebook")}</a>'
    facts = _facts(row)
    details = f"<details><summary>{say('details')}</summary><dl>{facts}</dl></details>" if facts else ""
    return (
        f'<li class="crm-line" id="{escape(row["claim_id"])}" data-verdict="{slug(verdict)}">'
        f'<div class="crm-what"><p class="crm-head"><span class="crm-id">{escape(row["claim_id"])}</span> '
        f'{chip(verdict)}</p><p class="crm-estimand">{escape(row["estimand"])}</p>{_trouble(row)}'
        f'<div class="crm-more">{link}{details}</div></div><div class="crm-result">{result}</div></li>'
    )


def _card(rows: list[dict[str, Any]], pages: Iterable[str]) -> str:
    line = ledger.lines().get(rows[0]["claim_id"])
    claim = next((c for c in ledger.claims() if line is not None and c["id"] == line.claim_id), {})
    anchor = " … ".join(claim.get("anchor", ()))
    said = f'<p class="crm-anchor" lang="zh-Hans">{escape(anchor)}</p>' if anchor else ""
    evidence = "" if unmeasured(pd.DataFrame(rows)).all() else chip(rows[0]["evidence"])
    return (
        f'<li class="crm-claim"><div class="crm-title"><p class="crm-text">{escape(rows[0]["claim"])}</p>'
        f'{evidence}</div>{said}<ul class="crm-lines">{"".join(_line(r, pages) for r in rows)}</ul></li>'
    )


def cards(frame: pd.DataFrame, pages: Iterable[str]) -> str:
    """Return the ledger lines of a frame as a list of claims."""
    return f'<ul class="crm-ledger">{"".join(_card(rows, pages) for rows in _claims(frame))}</ul>'


def tiles(frame: pd.DataFrame) -> str:
    """Count lines by verdict; pressing a tile shows those alone. That nothing is blocked is worth a tile, too."""
    counts = frame["verdict"].value_counts()
    buttons = "".join(
        f'<button type="button" class="crm-tile" data-filter="{slug(v)}" aria-pressed="false"'
        f"{'' if v in counts else ' disabled'}>"
        f'<span class="crm-count">{counts.get(v, 0)}</span>{chip(v)}</button>'
        for v in SYMBOLS
        if v in counts or v in DECIDED
    )
    return f'<div class="crm-tiles" role="group" aria-label="{say("tiles")}">{buttons}</div>'


def box(frame: pd.DataFrame, notebook: str) -> str:
    """Return what a notebook decides: each claim once, its lines below; empty if it decides nothing."""
    items = []
    rows = decided(frame, notebook)
    for claim in _claims(rows):
        lines = []
        for row in claim:
            name = escape(row["claim_id"])
            mark = f'<a href="{escape(_cell(row))}">{name}</a>' if row["cell"] else name
            estimate = _estimate(row) if pd.notna(row["estimate"]) else ""
            lines.append(
                f'<li>{mark} {chip(row["verdict"])} <span class="crm-ci">{estimate}</span> '
                f"{escape(row['estimand'])}{_trouble(row)}</li>"
            )
        place = f"../index.html#{escape(claim[0]['claim_id'])}"
        items.append(f'<li><a href="{place}">{escape(claim[0]["claim"])}</a><ul>{"".join(lines)}</ul></li>')
    if not items:
        return ""
    head = f"<p><strong>{say('box')}</strong> {chip(str(rows['evidence'].iloc[0]))}</p>"
    return f'<div class="crm-decides">{head}<ul>{"".join(items)}</ul></div>'
