"""The ledger as people read it: one card per claim, its lines below, failed assumptions in sight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.answer import Said, beneath, number, sentences
from crmresearch.data.description import EVIDENCE
from crmresearch.estimators.verdicts import UNANSWERED, Summed, bare, over_banks, power
from crmresearch.multiverse import NOTEBOOK
from crmresearch.run.site.chips import ALWAYS, ANSWERS, FOLDED, chance, chip, slug
from crmresearch.run.site.runs import Run
from crmresearch.words import local

say = words.of("site.claims")
answer_words = words.of("top.answer")
Draw = Callable[[Sequence[Run], str], tuple[str, str] | None]  # the picture of a claim: its address and its words


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


def estimate(row: Mapping[str, Any]) -> str:
    """Write an estimate with its interval."""
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
    told = beneath(row, number)
    if not told:
        return ""
    found = f" {chip(row['truth_verdict'])}" if row["truth_verdict"] else ""
    if row["truth_verdict"] == "missed":
        bound = ledger.lines()[row["line_id"]].bound
        ends = row["estimate"], row["ci_low"], row["ci_high"]
        found_in = power(*ends, bound, ledger.goal(row)) if bound else math.nan
        found += "" if math.isnan(found_in) else say("power", chance=found_in)
    return f'<p class="crm-planted">{told[0].upper()}{told[1:]}{local(".")}{found}</p>'


def _facts(row: Mapping[str, Any]) -> str:
    """Everything else about a line, folded away."""
    names, status_names = say.names("facts"), say.names("gates")
    line = ledger.lines()[row["line_id"]]
    because = say("because", because=local(line.because)) if line.because else ""
    facts = {"rule": escape(ledger.rule_text(line) + because)}
    if pd.notna(row["n"]) and row["line_id"] not in ledger.IMPERSONAL:
        facts["n"] = f"n = {row['n']:,.0f}"
        tests = [f"{key[0]} {chance(row[key])}" for key in ("p_value", "q_value") if pd.notna(row[key])]
        gates = "".join(f"<li>{status_names[status]}: {escape(text)}</li>" for status, text in _gates(row))
        facts |= {"tests": ", ".join(tests), "gates": f"<ul>{gates}</ul>" if gates else ""}
    facts["parameters"] = row["parameters_hash"]
    return "".join(f"<div><dt>{names[key]}</dt><dd>{text}</dd></div>" for key, text in facts.items() if text)


def _elsewise(row: Mapping[str, Any], run: Run) -> str:
    """Say in how many other specifications a line holds, and lead to their page."""
    n = run.tried.get(row["line_id"])
    if n is None:
        return ""
    counts = {k: int(n[k]) for k in ("known", "compared", "held")}
    said = say("held", n=counts) if counts["compared"] else say("tried", n=counts)
    if pd.notna(p := n.get("joint_p", math.nan)):
        said += say("joint", p="&lt; 0.001" if p < 0.001 else chance(p))  # thousands of draws tell no more
    return f'<p class="crm-planted"><a href="{escape(run.page(NOTEBOOK))}.html">{said}</a></p>'


def _line(row: Mapping[str, Any], run: Run) -> str:
    """One line: verdict, estimand, estimate with interval, and the way to the cell."""
    verdict, line = row["verdict"], ledger.lines()[row["line_id"]]
    if pd.notna(row["estimate"]):
        result = (
            f'<p class="crm-estimate"><strong>{number(row["estimate"])}</strong> '
            f'<span class="crm-ci">{_bounds(row)}</span> <span class="crm-unit">{escape(local(row["unit"]))}</span></p>'
        )
        result += _planted(row) + _elsewise(row, run)
    else:
        result = (
            f'<p class="crm-reason">{escape(local(row["checks"]))}</p>' if pd.isna(row["n"]) and row["checks"] else ""
        )
    link = ""
    if row["notebook"] in {p.stem for p in run.notebooks} and verdict != "not measured":
        target = f"{run.page(row['notebook'])}.html{_cell(row)}"
        link = f'<a class="crm-cell" href="{escape(target)}">{say("cell") if row["cell"] else say("notebook")}</a>'
    facts = _facts(row)
    details = f"<details><summary>{say('details')}</summary><dl>{facts}</dl></details>" if facts else ""
    return (
        f'<li class="crm-line" id="{escape(run.anchor(row["line_id"]))}" data-verdict="{slug(verdict)}">'
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


def answered(answer: str) -> str:
    """Write an answer as a chip, with what qualifies it beside."""
    main = bare(answer)
    return f'{chip(main)}<span class="crm-beside">{escape(ledger.beside(answer))}</span>'


def by_evidence(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by class of evidence, in the order in which these are shown."""
    return {e: own for e in EVIDENCE if (own := [r for r in runs if r.evidence == e])}


def main_answer(runs: Sequence[Run], claim_id: str) -> str:
    """The answer by which a claim is counted among those of a class of evidence; the most frequent one of several."""
    told = Counter(bare(r.answers[claim_id]) for r in runs)
    if _real(runs, claim_id).said == "conflicting":
        return "conflicting"
    return max(told, key=lambda a: (a not in UNANSWERED, told[a]))


def _real(runs: Sequence[Run], claim_id: str) -> Summed:
    return over_banks(runs[0].lines[claim_id][0]["design"], [(r.evidence, r.answers[claim_id]) for r in runs])


def of_class(runs: Sequence[Run], claim_id: str) -> str:
    """Say as chips what the banks of one class answer: how many of how many real banks, and which other ones."""
    told: dict[str, list[str]] = {}
    for run in runs:
        if bare(run.answers[claim_id]) not in UNANSWERED:
            told.setdefault(bare(run.answers[claim_id]), []).append(str(run.about["name"]))
    if not told:
        return chip(main_answer(runs, claim_id))
    real = _real(runs, claim_id)
    head = chip("conflicting") if real.said == "conflicting" else ""
    names = {a: say("of", k=len(b), m=real.m) if real.m else ", ".join(b) for a, b in told.items()}
    return head + " ".join(f'{chip(a)} <span class="crm-beside">{escape(names[a])}</span>' for a in told)


def _bank(run: Run, claim_id: str) -> str:
    """One bank's lines of a claim, folded under its name, its answer and its estimate."""
    rows = run.lines[claim_id]
    told = f'<span class="crm-ci">{estimate(rows[0])}</span>' if run.has(rows[0]) else ""
    lines = "".join(_line(r, run) for r in rows if r["verdict"] != "not measured")
    return (
        f'<details class="crm-fold"><summary><strong>{escape(str(run.about["name"]))}</strong> {chip(run.evidence)} '
        f'{answered(run.answers[claim_id])} {told}</summary><ul class="crm-lines">{lines}</ul></details>'
    )


def _lacking(runs: Sequence[Run], claim_id: str) -> str:
    """Say, folded, which banks cannot answer a claim, and why."""
    if not runs:
        return ""
    names = escape(", ".join(str(r.about["name"]) for r in runs))
    why = "".join(
        f"<li>{escape(str(r.about['name']))}: {escape(local(str(r.lines[claim_id][0]['checks'])))}</li>" for r in runs
    )
    return f'<details class="crm-fold"><summary>{say("lacking", banks=names)}</summary><ul>{why}</ul></details>'


def _card(runs: Sequence[Run], claim_id: str, draw: Draw) -> str:
    claim = next(c for c in ledger.claims() if c["id"] == claim_id)
    anchor = " … ".join(claim["anchor"])
    words_of_essay = f'<p class="crm-anchor" lang="zh-Hans">{escape(anchor)}</p>' if anchor else ""
    head = columns = ""
    if len(runs) == 1:
        run = runs[0]
        answers = slug(bare(run.answers[claim_id]))
        evidence = "" if run.idle(claim_id) else chip(run.evidence)
        head = f'<span class="crm-said">{answered(run.answers[claim_id])} {evidence}</span>'
        body = f'<ul class="crm-lines">{"".join(_line(r, run) for r in run.lines[claim_id])}</ul>'
    else:
        classes = by_evidence(runs)
        answers = " ".join(f"{slug(e)}-{slug(main_answer(own, claim_id))}" for e, own in classes.items())
        cells = (f"<div><dt>{chip(e)}</dt><dd>{of_class(own, claim_id)}</dd></div>" for e, own in classes.items())
        columns = f'<dl class="crm-classes">{"".join(cells)}</dl>'
        body = "".join(_bank(r, claim_id) for r in runs if r.measures(claim_id))
        body += _lacking([r for r in runs if not r.measures(claim_id) and not r.idle(claim_id)], claim_id)
        if all(r.idle(claim_id) for r in runs):  # what the register says of it
            body = f'<ul class="crm-lines">{"".join(_line(r, runs[0]) for r in runs[0].lines[claim_id])}</ul>'
    drawn = draw(runs, claim_id)
    figure = f'<img class="crm-forest" loading="lazy" src="{drawn[0]}" alt="{escape(drawn[1])}">' if drawn else ""
    return (
        f'<li class="crm-claim" id="claim-{claim_id}" data-answer="{answers}"><div class="crm-title">'
        f'<p class="crm-text">{escape(local(claim["claim"]))}</p>{head}</div>{words_of_essay}{columns}'
        f'<div class="crm-body">{figure}<div class="crm-told">{body}</div></div></li>'
    )


def cards(runs: Sequence[Run], claim_ids: Iterable[str], draw: Draw) -> str:
    """Return claims as a list: what each class of evidence answers, one picture, and the lines of each bank."""
    return f'<ul class="crm-ledger">{"".join(_card(runs, c, draw) for c in claim_ids)}</ul>'


def answer(runs: Sequence[Run]) -> str:
    """Return the answer to the question, one sentence per part; of several runs, by class of evidence and bank."""
    told = [(run, sentences(run.frame, str(run.about["currency"]))) for run in runs]
    items, names = [], answer_words.names("parts")
    for part in told[0][1]:
        said = [(run, s) for run, parts in told for s in parts[part]]
        if len(runs) == 1:
            first = said[0][1].text[0].upper()
            text = local("; ").join(_sentence(run, s) for run, s in said)
            items.append(f"<li><p><strong>{names[part]}{local('.')}</strong> {first}{text[1:]}</p>{_truths(said)}</li>")
            continue
        rows = [f"<div><dt>{chip(e)}</dt><dd>{_of_part(own, said)}</dd></div>" for e, own in by_evidence(runs).items()]
        items.append(
            f'<li><p><strong>{names[part]}{local(".")}</strong></p><dl class="crm-classes">{"".join(rows)}</dl></li>'
        )
    return f'<ol class="crm-answer">{"".join(items)}</ol>'


def _of_part(runs: Sequence[Run], said: Sequence[tuple[Run, Said]]) -> str:
    """What the banks of one class say of a part of the answer, bank by bank."""
    own = [(run, s) for run, s in said if run in runs]
    measured = [(run, s) for run, s in own if run.has(run.line(s.line_id))]
    told = [f"<p>{escape(str(run.about['name']))}: {_sentence(run, s)}</p>" for run, s in measured]
    claims = dict.fromkeys(ledger.lines()[s.line_id].claim_id for _, s in measured)
    head = [f"<p>{of_class(runs, c)}</p>" for c in claims if sum(r.measures(c) for r in runs) > 1]
    silent = [str(run.about["name"]) for run in runs if run not in [r for r, _ in measured]]
    lacking = f'<p class="crm-beside">{escape(say("nobody", banks=", ".join(silent)))}</p>' if silent else ""
    return "".join([*head, *told]) + _truths(measured) + lacking


def _sentence(run: Run, said: Said) -> str:
    anchor = escape(run.anchor(said.line_id))
    return f'{escape(said.text)} <a href="#{anchor}">{escape(said.line_id)}</a> {answered(said.answer)}'


def _truths(said: Sequence[tuple[Run, Said]]) -> str:
    planted = " ".join(f"{escape(s.line_id)}: {escape(s.planted)}" for _, s in said if s.planted)
    return f'<p class="crm-planted">{planted}</p>' if planted else ""


def tiles(answers: Mapping[str, Iterable[str]]) -> str:
    """Count claims by answer, for each class of evidence where there are several; pressing a tile shows those alone."""
    groups = []
    for kind, found in answers.items():
        counts, several = Counter(map(bare, found)), len(answers) > 1
        prefix = f"{slug(kind)}-" if several else ""
        buttons = "".join(
            f'<button type="button" class="crm-tile" data-filter="{prefix}{slug(a)}" aria-pressed="false"'
            f"{'' if a in counts else ' disabled'}>"
            f'<span class="crm-count">{counts[a]}</span>{chip(a)}</button>'
            for a in ANSWERS
            if (a in counts and not (several and a in FOLDED)) or (a in ALWAYS and not several)
        )
        head = f'<p class="crm-kind">{chip(kind)}</p>' if several else ""
        label = escape(f"{say('tiles')} ({local(kind)})")
        groups.append(f'{head}<div class="crm-tiles" role="group" aria-label="{label}">{buttons}</div>')
    return "".join(groups)


def box(run: Run, notebook: str) -> str:
    """Return what a notebook decides: each claim once, its lines below; empty if it decides nothing."""
    items = []
    rows = decided(run.frame, notebook)
    for claim in _claims(rows):
        lines = []
        for row in claim:
            name = escape(row["line_id"])
            mark = f'<a href="{escape(_cell(row))}">{name}</a>' if row["cell"] else name
            found = estimate(row) if pd.notna(row["estimate"]) else ""
            lines.append(
                f'<li>{mark} {_verdict(row)} <span class="crm-ci">{found}</span> '
                f"{escape(local(row['estimand']))}{_trouble(row)}</li>"
            )
        place = f"{'../' * run.page(notebook).count('/')}index.html#claim-{claim[0]['claim_id']}"
        items.append(f'<li><a href="{place}">{escape(local(claim[0]["claim"]))}</a><ul>{"".join(lines)}</ul></li>')
    if not items:
        return ""
    head = f"<p><strong>{say('box')}</strong> {chip(str(rows['evidence'].iloc[0]))}</p>"
    return f'<div class="crm-decides">{head}<ul>{"".join(items)}</ul></div>'
