"""The ledger as people read it: one card per claim, its lines below, failed assumptions in sight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.answer import Said
from crmresearch.estimators.verdicts import bare, power
from crmresearch.run.site.chips import ALWAYS, ANSWERS, chance, chip, interval_svg, number, slug
from crmresearch.words import local

say = words.of("site.claims")
answer_words = words.of("top.answer")


def unmeasured(frame: pd.DataFrame) -> pd.Series:
    """Lines that nothing in this run estimated or looked at."""
    return frame["verdict"].isin(ledger.UNMEASURED) & frame["estimate"].isna()


def decided(frame: pd.DataFrame, notebook: str) -> pd.DataFrame:
    """Lines a notebook looked at, those it could not apply included."""
    return frame[(frame["notebook"] == notebook) & ~unmeasured(frame)]


def _claims(frame: pd.DataFrame) -> list[list[Any]]:
    """Lines by claim, in the order of the register: the primary line first."""
    return [part.to_dict("records") for _, part in frame.groupby("claim_id", sort=False)]


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
    """Say in sight which assumptions failed or are in doubt, and which the verdict takes on trust."""
    names = say.names("gates")
    return "".join(
        f'<p class="crm-gate crm-gate-{status}"><strong>{names[status]}:</strong> {escape(text)}</p>'
        for status, text in _gates(row)
        if status not in ("open", "weak check")
    )


def _planted(row: Mapping[str, Any]) -> str:
    """Say what was planted, whether the interval holds it, and how the verdict looks beside it."""
    if pd.isna(row["truth"]):
        return ""
    held = row["limit"] if pd.notna(row["limit"]) else row["truth"]
    covers = answer_words("covers") if row["ci_low"] <= held <= row["ci_high"] else answer_words("misses")
    limit = answer_words("limit", limit=number(row["limit"])) if pd.notna(row["limit"]) else ""
    found = f" {chip(row['truth_verdict'])}" if row["truth_verdict"] else ""
    if row["truth_verdict"] == "missed":
        bound = ledger.lines()[row["line_id"]].bound
        found_in = power(row["estimate"], row["ci_low"], row["ci_high"], bound, row["truth"]) if bound else math.nan
        found += "" if math.isnan(found_in) else say("power", chance=found_in)
    text = say("planted", truth=number(row["truth"]), limit=limit, covers=covers)
    return f'<p class="crm-planted">{text}{found}</p>'


def _facts(row: Mapping[str, Any]) -> str:
    """Everything else about a line, folded away."""
    names, status_names = say.names("facts"), say.names("gates")
    line = ledger.lines()[row["line_id"]]
    because = say("because", because=local(line.because)) if line.because else ""
    facts = {"rule": escape(ledger.rule_text(line) + because)}
    if pd.notna(row["n"]):
        facts["n"] = f"n = {row['n']:,.0f}"
        tests = [f"{key[0]} {chance(row[key])}" for key in ("p_value", "q_value") if pd.notna(row[key])]
        gates = "".join(f"<li>{status_names[status]}: {escape(text)}</li>" for status, text in _gates(row))
        facts |= {"tests": ", ".join(tests), "gates": f"<ul>{gates}</ul>" if gates else ""}
    facts["parameters"] = row["parameters_hash"]
    return "".join(f"<div><dt>{names[key]}</dt><dd>{text}</dd></div>" for key, text in facts.items() if text)


def _line(row: Mapping[str, Any], pages: Iterable[str]) -> str:
    """One line: verdict, estimand, estimate against its bound, and the way to the cell."""
    verdict, line = row["verdict"], ledger.lines()[row["line_id"]]
    if pd.notna(row["estimate"]):
        interval = (row["estimate"], row["ci_low"], row["ci_high"])
        result = (
            f'<p class="crm-estimate"><strong>{number(row["estimate"])}</strong> '
            f'<span class="crm-ci">{_bounds(row)}</span> <span class="crm-unit">{escape(local(row["unit"]))}</span></p>'
            + interval_svg(*interval, line.bound, _estimate(row), row["truth"])
            + _planted(row)
        )
    else:
        result = (
            f'<p class="crm-reason">{escape(local(row["checks"]))}</p>' if pd.isna(row["n"]) and row["checks"] else ""
        )
    link = ""
    if row["notebook"] in pages and verdict != "not measured":
        target = f"notebooks/{row['notebook']}.html{_cell(row)}"
        link = f'<a class="crm-cell" href="{escape(target)}">{say("cell") if row["cell"] else say("notebook")}</a>'
    facts = _facts(row)
    details = f"<details><summary>{say('details')}</summary><dl>{facts}</dl></details>" if facts else ""
    return (
        f'<li class="crm-line" id="{escape(row["line_id"])}" data-verdict="{slug(verdict)}">'
        f'<div class="crm-what"><p class="crm-head"><span class="crm-id">{escape(row["line_id"])}</span> '
        f"{_verdict(row)} {chip(line.design)}</p>"
        f'<p class="crm-estimand">{escape(local(row["estimand"]))}</p>{_trouble(row)}'
        f'<div class="crm-more">{link}{details}</div></div><div class="crm-result">{result}</div></li>'
    )


def _verdict(row: Mapping[str, Any]) -> str:
    """The verdict as a chip; how a refuted line is refuted, and whether it is provisional, beside it."""
    beside = [chip("provisional")] if row["provisional"] == "yes" else []
    if row["verdict"] == "refuted":
        beside.append(ledger.refuted_words(ledger.lines()[row["line_id"]], row["ci_low"], row["ci_high"]))
    return " ".join([chip(row["verdict"]), *beside])


def _answer(answer: str) -> str:
    main = bare(answer)
    return f'{chip(main)}<span class="crm-beside">{escape(ledger.beside(answer))}</span>'


def _card(rows: list[dict[str, Any]], answer: str, pages: Iterable[str]) -> str:
    claim = next(c for c in ledger.claims() if c["id"] == rows[0]["claim_id"])
    anchor = " … ".join(claim["anchor"])
    said = f'<p class="crm-anchor" lang="zh-Hans">{escape(anchor)}</p>' if anchor else ""
    evidence = "" if unmeasured(pd.DataFrame(rows)).all() else chip(rows[0]["evidence"])
    text = escape(local(rows[0]["claim"]))
    return (
        f'<li class="crm-claim" data-answer="{slug(bare(answer))}"><div class="crm-title">'
        f'<p class="crm-text">{text}</p><span class="crm-said">{_answer(answer)} {evidence}</span>'
        f'</div>{said}<ul class="crm-lines">{"".join(_line(r, pages) for r in rows)}</ul></li>'
    )


def cards(frame: pd.DataFrame, answers: Mapping[str, str], pages: Iterable[str]) -> str:
    """Return the ledger lines of a frame as a list of claims."""
    found = (_card(rows, answers[rows[0]["claim_id"]], pages) for rows in _claims(frame))
    return f'<ul class="crm-ledger">{"".join(found)}</ul>'


def answer(parts: Mapping[str, list[Said]]) -> str:
    """Return the answer to the question, one sentence per part, each line with the way to its claim."""
    items, names = [], answer_words.names("parts")
    for part, said in parts.items():
        first = said[0].text[0].upper()
        text = "; ".join(
            f'{escape(s.text)} <a href="#{escape(s.line_id)}">{escape(s.line_id)}</a> {_answer(s.answer)}' for s in said
        )
        planted = " ".join(f"{escape(s.line_id)}: {escape(s.planted)}" for s in said if s.planted)
        beside = f'<p class="crm-planted">{planted}</p>' if planted else ""
        items.append(f"<li><p><strong>{names[part]}.</strong> {first}{text[1:]}</p>{beside}</li>")
    return f'<ol class="crm-answer">{"".join(items)}</ol>'


def tiles(answers: Iterable[str]) -> str:
    """Count claims by answer; pressing a tile shows those alone. That nothing is blocked is worth a tile, too."""
    counts = Counter(map(bare, answers))
    buttons = "".join(
        f'<button type="button" class="crm-tile" data-filter="{slug(a)}" aria-pressed="false"'
        f"{'' if a in counts else ' disabled'}>"
        f'<span class="crm-count">{counts[a]}</span>{chip(a)}</button>'
        for a in ANSWERS
        if a in counts or a in ALWAYS
    )
    return f'<div class="crm-tiles" role="group" aria-label="{say("tiles")}">{buttons}</div>'


def box(frame: pd.DataFrame, notebook: str) -> str:
    """Return what a notebook decides: each claim once, its lines below; empty if it decides nothing."""
    items = []
    rows = decided(frame, notebook)
    for claim in _claims(rows):
        lines = []
        for row in claim:
            name = escape(row["line_id"])
            mark = f'<a href="{escape(_cell(row))}">{name}</a>' if row["cell"] else name
            estimate = _estimate(row) if pd.notna(row["estimate"]) else ""
            lines.append(
                f'<li>{mark} {_verdict(row)} <span class="crm-ci">{estimate}</span> '
                f"{escape(local(row['estimand']))}{_trouble(row)}</li>"
            )
        place = f"../index.html#{escape(claim[0]['line_id'])}"
        items.append(f'<li><a href="{place}">{escape(local(claim[0]["claim"]))}</a><ul>{"".join(lines)}</ul></li>')
    if not items:
        return ""
    head = f"<p><strong>{say('box')}</strong> {chip(str(rows['evidence'].iloc[0]))}</p>"
    return f'<div class="crm-decides">{head}<ul>{"".join(items)}</ul></div>'
