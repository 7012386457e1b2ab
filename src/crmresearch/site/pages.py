"""Write the sources of the site: ledger, studies, how to read it, about the run, and one page per notebook."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import disclosure, ledger
from crmresearch.execution import read_notebook, write_notebook
from crmresearch.site.chips import EVIDENCE, VERDICTS, chip, interval_svg, number, slug

__all__ = ["write"]

QUESTION = "Does relationship banking pay?"
DECIDED = ("supported", "refuted", "undecided", "blocked", "reported")
FACTS = (
    "title",
    "name",
    "evidence",
    "observation_start",
    "observation_end",
    "currency",
    "tables",
    "licence",
    "citation",
)
SCROLL = '<div class="crm-scroll" tabindex="0" role="region" aria-label="table">'
QUESTIONS = {
    "00_customer_base": "What does the customer database hold?",
    "01_customer_value": "How is customer value distributed, and what is a customer worth?",
    "02_churn_survival": "Who leaves, when, and why?",
    "03_acquisition_retention_cost": "What does it cost to win a customer, and to keep one?",
    "04_satisfaction_loyalty": "Does satisfaction become loyalty, and loyalty contribution?",
    "05_segment_strategy": "Do segments and campaigns earn their cost?",
    "06_competition": "Do rivals take customers, and which?",
    "07_channels_service": "Do channels and service keep customers?",
    "08_product_preference": "Which products do customers choose?",
    "90_recovery": "Do the estimators find a truth that is known?",
    "99_ledger": "What do all findings say together?",
}


def _raw(html: str) -> str:
    """Wrap HTML so that Markdown leaves it alone."""
    return "\n".join(["````{raw} html", html, "````", ""])


def _toctree(entries: Iterable[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", ":maxdepth: 1", "", *entries, "```", ""]


def _bounds(row: Mapping[str, Any]) -> str:
    """Write the interval; what was counted and not estimated has none."""
    if row["ci_low"] == row["estimate"] == row["ci_high"]:
        return "counted"
    return f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _interval(row: Mapping[str, Any]) -> str:
    return f"{number(row['estimate'])} {_bounds(row)}"


def _decided(frame: pd.DataFrame, notebook: str) -> pd.DataFrame:
    """Lines a notebook looked at, those it could not apply included."""
    return frame[(frame["notebook"] == notebook) & frame["verdict"].isin((*DECIDED, "not applicable"))]


def _heading(cell: Mapping[str, Any]) -> str:
    match = re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
    return match[1].strip() if match else ""


def _title(notebook: Mapping[str, Any]) -> str:
    return next((_heading(c) for c in notebook["cells"] if c["cell_type"] == "markdown" and _heading(c)), "")


def _label(name: str) -> str:
    """Write a notebook's file name for people, e.g. ``01 Customer value``."""
    digits, _, words = name.partition("_")
    return f"{digits} {words.replace('_', ' ').capitalize()}"


def _claim_row(row: Mapping[str, Any], pages: Iterable[str]) -> str:
    """One line of the ledger: claim, verdict, estimate; everything else folds out."""
    line = ledger.lines().get(row["claim_id"])
    verdict = row["verdict"]
    measured = pd.notna(row["estimate"])
    anchor = ""
    claim = next((c for c in ledger.claims() if line is not None and c["id"] == line.claim_id), None)
    if claim and claim.get("anchor"):
        anchor = f'<p class="crm-anchor" lang="zh-Hans">{escape(" … ".join(claim["anchor"]))}</p>'
    estimand = f'<p class="crm-estimand">{escape(row["estimand"])}</p>' if row["estimand"] else ""
    facts = [("Rule", row["rule"])]
    result = ""
    if measured:
        words = _interval(row)
        result = (
            f'<p class="crm-estimate"><strong>{number(row["estimate"])}</strong> '
            f'<span class="crm-ci">{_bounds(row)}</span> '
            f'<span class="crm-unit">{escape(str(row["unit"]))}</span></p>'
            + interval_svg(row["estimate"], row["ci_low"], row["ci_high"], line.rule if line else {}, words)
        )
        facts.append(("Rests on", f"n = {row['n']:,.0f}" if pd.notna(row["n"]) else ""))
        tests = [f"{key[0]} = {number(row[key])}" for key in ("p_value", "q_value") if pd.notna(row[key])]
        facts.append(("Tests", ", ".join(tests)))
    reason = str(row["checks"] or "")
    facts.append(("Gates" if measured else "Reason", reason))
    facts.append(("Parameters", row["parameters_hash"]))
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts if str(v).strip())
    link = ""
    if row["notebook"] in pages and verdict not in {"not measured", "not testable"}:
        target = f"notebooks/{row['notebook']}.html" + (f"#cell-{row['cell']}" if row["cell"] else "")
        link = f'<a class="crm-cell" href="{escape(target)}">See the cell in {escape(row["notebook"])}</a>'
    if not measured and reason:
        result = f'<p class="crm-reason">{escape(reason)}</p>'
    evidence = chip(row["evidence"], EVIDENCE) if verdict in (*DECIDED, "not applicable") else ""
    return (
        f'<li class="crm-claim" id="{escape(row["claim_id"])}" data-verdict="{slug(verdict)}">'
        f'<div class="crm-head"><span class="crm-id">{escape(row["claim_id"])}</span>'
        f"{chip(verdict, VERDICTS)}{evidence}</div>"
        f'<div class="crm-what"><p class="crm-text">{escape(row["claim"])}</p>{anchor}{estimand}</div>'
        f'<div class="crm-result">{result}</div>'
        f"<details><summary>How it was decided</summary><dl>{listed}</dl>{link}</details></li>"
    )


def _tiles(frame: pd.DataFrame) -> str:
    counts = frame["verdict"].value_counts()
    tiles = [
        f'<button type="button" class="crm-tile" data-filter="{slug(v)}" aria-pressed="false">'
        f'<span class="crm-count">{counts[v]}</span>{chip(v, VERDICTS)}</button>'
        for v in VERDICTS
        if v in counts
    ]
    label = "Ledger lines by verdict; press one to see only those"
    return f'<div class="crm-tiles" role="group" aria-label="{label}">{"".join(tiles)}</div>'


def _evidence_note(evidence: str) -> str:
    notes = {
        "simulated": "<strong>Simulated bank.</strong> Its truth was planted. A verdict below says that an estimator "
        "finds what is there; it says nothing about banks.",
        "real, other trade": "<strong>Real customers of another trade.</strong> A verdict below is about them; whether "
        "it carries over to banks is open.",
        "real bank": "<strong>A real bank.</strong> A verdict below is about this bank and this period.",
        "published": "<strong>Published numbers.</strong> A verdict below repeats what others measured.",
    }
    return f'<p class="crm-note crm-evidence-{slug(evidence)}">{notes.get(evidence, escape(evidence))}</p>'


def _order(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows in the order of the register: S2 before S19, S19 before S19a."""
    rows = [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
    return sorted(rows, key=lambda r: (int(re.sub(r"\D", "", r["claim_id"])), r["claim_id"]))


def _index(frame: pd.DataFrame, about: Mapping[str, Any], pages: Mapping[str, str], status: Mapping[str, Any]) -> str:
    measured = frame[frame["verdict"].isin(DECIDED)]
    title, start, end = (escape(str(about[k])) for k in ("title", "observation_start", "observation_end"))
    lead = (
        f"Three essays claim that managing customer relations pays. Each claim is a line of this ledger: "
        f"{len(measured)} of {len(frame)} lines could be estimated on <em>{title}</em>, observed from {start} to {end}."
    )
    failed = [n for n, s in status.get("notebooks", {}).items() if s["status"] != "completed"]
    alarm = ""
    if failed:
        alarm = (
            '<p class="crm-note crm-alarm"><strong>This run is incomplete.</strong> These notebooks did not finish: '
            f"{escape(', '.join(failed))}. Their claims are not measured here.</p>"
        )
    parts = [
        f"# {QUESTION}\n",
        _raw(f'<p class="crm-lead">{lead}</p>{_evidence_note(str(about["evidence"]))}{alarm}{_tiles(frame)}'),
    ]
    shown = frame[~frame["verdict"].isin({"not measured", "not testable"})]
    for notebook, rows in shown.groupby("notebook", sort=True):
        name = str(notebook)
        head = QUESTIONS.get(name, pages.get(name, name))
        parts.append(f"## {head}\n")
        if name in pages:
            link = f'<a href="notebooks/{name}.html">Open the notebook: {escape(_label(name))}</a>'
            parts.append(_raw(f'<p class="crm-study">{link}</p>'))
        items = "".join(_claim_row(r, pages) for r in _order(rows))
        parts.append(_raw(f'<ul class="crm-ledger">{items}</ul>'))
    rest = frame[frame["verdict"].isin({"not measured", "not testable"})]
    if len(rest):
        items = "".join(_claim_row(r, pages) for r in _order(rest))
        parts.append("## Claims without an estimate\n")
        parts.append(_raw(f'<ul class="crm-ledger crm-rest">{items}</ul>'))
    parts.append("## Take it with you\n")
    parts.append(
        _raw(
            '<p>The whole ledger as a table: <a href="ledger.csv" download>ledger.csv</a>. '
            'What verdicts mean: <a href="how-to-read.html">how to read this</a>. '
            'Data, parameters and versions: <a href="about-this-run.html">about this run</a>.</p>'
        )
    )
    toc = ["Ledger <self>", "studies", "how-to-read", "about-this-run"]
    return "\n".join([*parts, "", *_toctree(toc)])


def _studies(pages: Mapping[str, str], frame: pd.DataFrame, status: Mapping[str, Any]) -> str:
    rows = []
    for name, title in pages.items():
        verdicts = _decided(frame, name)["verdict"]
        chips = " ".join(f"{n}&nbsp;{chip(v, VERDICTS)}" for v in VERDICTS if (n := int((verdicts == v).sum())))
        state = status.get("notebooks", {}).get(name, {}).get("status", "completed")
        mark = "" if state == "completed" else f'<p class="crm-alarm">did not finish: {escape(state)}</p>'
        question = QUESTIONS.get(name, title)
        sub = f'<p class="crm-sub">{escape(title)}</p>' if title and title != question else ""
        rows.append(
            f'<li><a class="crm-card" href="notebooks/{name}.html"><span class="crm-num">{name[:2]}</span>'
            f'<span><strong>{escape(question)}</strong>{sub}{mark}</span></a><p class="crm-chips">{chips}</p></li>'
        )
    cards = _raw(f'<ul class="crm-cards">{"".join(rows)}</ul>')
    return "\n".join(["# Studies\n", cards, *_toctree(f"{_label(n)} <notebooks/{n}>" for n in pages)])


def _how_to_read() -> str:
    def table(heads: tuple[str, str], meanings: Mapping[str, tuple[str, str]]) -> str:
        body = "".join(f"<tr><td>{chip(k, meanings)}</td><td>{escape(m)}</td></tr>" for k, (_, m) in meanings.items())
        head = "".join(f'<th scope="col">{h}</th>' for h in heads)
        return _raw(f'<table class="crm-plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')

    rule = {"supported": {"above": 1.0}, "refuted": {"below": 0.9}}
    parts = {
        "VERDICTS": table(("Verdict", "What it says"), VERDICTS),
        "EVIDENCE": table(("Evidence", "What it can show"), EVIDENCE),
        "EXAMPLE": _raw(f'<p class="crm-example">{interval_svg(1.3, 1.15, 1.45, rule, "an example")}</p>'),
        "Q": f"{ledger.Q_LEVEL:.2f}",
        "CELL": str(disclosure.MIN_CELL),
    }
    text = Path(__file__).with_name("how-to-read.md").read_text("utf-8")
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _rows(pairs: Iterable[tuple[str, Any]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(_words(v))}</td></tr>'
        for k, v in pairs
        if v not in (None, "", [], {})
    )
    return _raw(f'<table class="crm-plain"><tbody>{body}</tbody></table>')


def _about(run: Mapping[str, Any], hidden: Mapping[str, Any]) -> str:
    about = dict(run["bank"])
    cannot = about.pop("cannot_answer", [])
    parameters = [
        (notebook, ", ".join(f"{k} = {v}" for k, v in values.items())) for notebook, values in run["parameters"].items()
    ]
    prints = {k: v for k, v in run["fingerprints"].items() if isinstance(v, str)}
    parts = ["# About this run\n", "## Bank\n", _rows((k.replace("_", " "), about.get(k)) for k in FACTS)]
    if cannot:
        parts += ["## What these data cannot answer\n", *(f"- {escape(str(c))}" for c in cannot), ""]
    parts += ["## Parameters\n", "Those not listed have the value shown in the notebook.\n", _rows(parameters)]
    parts += ["## Suppressed for disclosure\n"]
    suppressed = hidden.get("suppressed", {})
    if suppressed:
        parts.append(_rows((file, f"{s['rows']} rows: {s['rule']}") for file, s in suppressed.items()))
    else:
        parts.append("Nothing had to be suppressed in the tables of this run.\n")
    parts += ["## Fingerprints\n", "Two runs with the same fingerprints on one machine give the same bytes.\n"]
    parts += [_rows(prints.items()), "## Versions\n", _rows(run["versions"].items())]
    return "\n".join(parts)


def _notebook_page(path: Path, target: Path, frame: pd.DataFrame) -> dict[str, str]:
    """Copy a notebook for the site: anchors, the claims it decides, tables that scroll; return alt texts by picture."""
    notebook = read_notebook(path)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    alts: dict[str, str] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata["crm_id"] = cell["id"]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"] = ["injected-parameters"]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                digest = hashlib.sha256(b64decode(data["image/png"])).hexdigest()
                alts[digest] = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if "text/html" in data:
                html = "".join(data["text/html"])
                data["text/html"] = html.replace("<table ", f"{SCROLL}<table ").replace("</table>", "</table></div>")
    decided = _decided(frame, path.stem)
    if len(decided):
        items = []
        for row in _order(decided):
            estimate = _interval(row) if pd.notna(row["estimate"]) else ""
            place = f' href="#cell-{row["cell"]}"' if row["cell"] else ""
            items.append(
                f"<li><a{place}>{escape(row['claim_id'])}</a> {chip(row['verdict'], VERDICTS)} "
                f'<span class="crm-ci">{estimate}</span> '
                f'<a href="../index.html#{escape(row["claim_id"])}">{escape(row["claim"])}</a></li>'
            )
        from nbformat.v4 import new_markdown_cell

        box = f'<div class="crm-decides"><p><strong>Claims decided here</strong></p><ul>{"".join(items)}</ul></div>'
        first = next((i for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and _heading(c)), 0)
        notebook.cells.insert(first + 1, new_markdown_cell(_raw(box), id="claims-decided-here"))
    write_notebook(notebook, target)
    return alts


def write(run: Path, source: Path) -> None:
    """Write the Sphinx sources of a run's site into the folder ``source``."""
    frame = ledger.read(run)
    described = json.loads((run / "run.json").read_text("utf-8"))
    status = json.loads((run / "status.json").read_text("utf-8")) if (run / "status.json").exists() else {}
    hidden = json.loads((run / "disclosure.json").read_text("utf-8")) if (run / "disclosure.json").exists() else {}
    (source / "notebooks").mkdir(parents=True)
    notebooks = sorted((run / "notebooks").glob("*.ipynb"))
    pages = {p.stem: _title(read_notebook(p)) for p in notebooks}
    alts: dict[str, str] = {}
    for path in notebooks:
        alts |= _notebook_page(path, source / "notebooks" / path.name, frame)
    (source / "alt.json").write_text(json.dumps(alts), encoding="utf-8")
    content = {
        "index": _index(frame, described["bank"], pages, status),
        "studies": _studies(pages, frame, status),
        "how-to-read": _how_to_read(),
        "about-this-run": _about(described, hidden),
    }
    for name, text in content.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
