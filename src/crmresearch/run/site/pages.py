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
from crmresearch.run.execution import read_notebook, write_notebook
from crmresearch.run.site import claims
from crmresearch.run.site.chips import EVIDENCE, VERDICTS, chip, interval_svg, slug

QUESTION = "Does relationship banking pay?"
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


def _raw(html: str) -> str:
    """Wrap HTML so that Markdown leaves it alone."""
    return "\n".join(["````{raw} html", html, "````", ""])


def _toctree(entries: Iterable[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", ":maxdepth: 1", "", *entries, "```", ""]


def _heading(cell: Mapping[str, Any]) -> str:
    match = re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
    return match[1].strip() if match else ""


def _title(notebook: Mapping[str, Any]) -> str:
    return next((_heading(c) for c in notebook["cells"] if c["cell_type"] == "markdown" and _heading(c)), "")


def _label(name: str) -> str:
    """Write a notebook's file name for people, e.g. ``01 Customer value``."""
    digits, _, words = name.partition("_")
    return f"{digits} {words.replace('_', ' ').capitalize()}"


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


def _index(frame: pd.DataFrame, about: Mapping[str, Any], pages: Mapping[str, str], status: Mapping[str, Any]) -> str:
    lines = frame["verdict"].isin(claims.DECIDED)
    registered = {line.line_id: line.claim_id for line in ledger.lines().values()}
    of = frame["claim_id"].map(registered)
    title, start, end = (escape(str(about[k])) for k in ("title", "observation_start", "observation_end"))
    lead = (
        f"Three essays make {of.nunique()} claims about managing customer relations. {of[lines].nunique()} of them, in "
        f"{int(lines.sum())} estimates, are measured here on <em>{title}</em>, observed from {start} to {end}."
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
        _raw(f'<p class="crm-lead">{lead}</p>{_evidence_note(str(about["evidence"]))}{alarm}{claims.tiles(frame)}'),
    ]
    rest = claims.unmeasured(frame).groupby(of).transform("all")  # a claim measured in part stays together
    for notebook, rows in frame[~rest].groupby("notebook", sort=True):
        name = str(notebook)
        parts.append(f"## {pages.get(name) or _label(name)}\n")
        if name in pages:
            link = f'<a href="notebooks/{name}.html">Open the notebook: {escape(_label(name))}</a>'
            parts.append(_raw(f'<p class="crm-study">{link}</p>'))
        parts.append(_raw(claims.cards(rows, pages)))
    if rest.any():
        parts.append("## Claims without an estimate\n")
        parts.append("No notebook of this run measures them, or no data could decide them.\n")
        parts.append(_raw(claims.cards(frame[rest], pages)))
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
        verdicts = claims.decided(frame, name)["verdict"]
        chips = " ".join(f"{n}&nbsp;{chip(v, VERDICTS)}" for v in VERDICTS if (n := int((verdicts == v).sum())))
        state = status.get("notebooks", {}).get(name, {}).get("status", "completed")
        mark = "" if state == "completed" else f'<p class="crm-alarm">did not finish: {escape(state)}</p>'
        rows.append(
            f'<li><a class="crm-card" href="notebooks/{name}.html"><span class="crm-num">{name[:2]}</span>'
            f"<span><strong>{escape(title or _label(name))}</strong>{mark}</span></a>"
            f'<p class="crm-chips">{chips}</p></li>'
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
    decided = claims.box(frame, path.stem)
    if decided:
        from nbformat.v4 import new_markdown_cell

        first = next((i for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and _heading(c)), 0)
        notebook.cells.insert(first + 1, new_markdown_cell(_raw(decided), id="claims-decided-here"))
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
