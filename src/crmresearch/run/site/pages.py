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

from crmresearch import answer, ledger, words
from crmresearch.estimators.verdicts import ALPHA, Bound
from crmresearch.rules import rules
from crmresearch.run.execution import read_notebook, write_notebook
from crmresearch.run.site import chips, claims, tables
from crmresearch.run.site.chips import SYMBOLS, chip, interval_svg, slug

say = words.of("site.pages")


def _raw(html: str) -> str:
    """Write HTML as a block of its own in Markdown, which only an empty line would end; texts in it are escaped."""
    return "\n".join(["", re.sub(r"\n\s*\n", "\n", html.strip()), "", ""])


def _toctree(entries: Iterable[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", ":maxdepth: 1", "", *entries, "```", ""]


def _heading(cell: Mapping[str, Any]) -> str:
    match = re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
    return match[1].strip() if match else ""


def _title(notebook: Mapping[str, Any]) -> str:
    return next((_heading(c) for c in notebook["cells"] if c["cell_type"] == "markdown" and _heading(c)), "")


def _label(name: str) -> str:
    """Write a notebook's file name for people, e.g. ``01 Customer value``."""
    digits, _, rest = name.partition("_")
    return f"{digits} {words.local(rest.replace('_', ' ').capitalize())}"


def _index(frame: pd.DataFrame, about: Mapping[str, Any], places: Iterable[str], status: Mapping[str, Any]) -> str:
    """The first page: the question, its answer in five sentences, and the claims by theme."""
    table = ledger.answers(frame)
    answers = dict(zip(table["claim_id"], table["answer"], strict=True))
    checks = table.loc[table["design"] == "check", "claim_id"]
    idle = claims.unmeasured(frame).groupby(frame["claim_id"]).transform("all")  # a claim measured in part is not
    judged = frame[~idle & ~frame["claim_id"].isin(checks)]
    bank = {k: escape(words.local(str(v))) for k, v in about.items()}
    period = say("period", bank=bank) if about.get("observation_start") else ""
    lead = say("lead", claims=len(table), measured=judged["claim_id"].nunique(), bank=bank, period=period)
    failed = escape(", ".join(n for n, s in status.get("notebooks", {}).items() if s["status"] != "completed"))
    alarm = f'<p class="crm-note crm-alarm">{say("incomplete", notebooks=failed)}</p>' if failed else ""
    part = f'<p class="crm-note crm-alarm">{say("part")}</p>' if frame["provisional"].eq("yes").any() else ""
    kind = str(about["evidence"])
    note = f'<p class="crm-note crm-evidence-{slug(kind)}">{say.names("evidence").get(kind, escape(kind))}</p>'
    counted = (answers[k] for k in table["claim_id"] if k not in set(checks))
    said = claims.answer(answer.sentences(frame, str(about["currency"])))
    parts = [say("question"), _raw(f"{note}{alarm}{part}"), say("answer"), _raw(said)]
    parts += [say("claims"), _raw(f'<p class="crm-lead">{lead}</p>{claims.tiles(counted)}')]
    themes = dict(zip(table["claim_id"], table["theme"], strict=True))
    for theme, title in say.names("themes").items():
        rows = judged[judged["claim_id"].map(themes) == theme]
        if len(rows):
            parts += [f"## {title}\n", _raw(claims.cards(rows, answers, places))]
    for title, chosen in (("checks", ~idle & frame["claim_id"].isin(checks)), ("rest", idle)):
        if chosen.any():
            parts += [say.names("groups")[title], _raw(claims.cards(frame[chosen], answers, places))]
    parts += [say("more"), _raw(f"<p>{say('links')}</p>"), ""]
    return "\n".join([*parts, *_toctree([f"{say('ledger')} <self>", "studies", "how-to-read", "about-this-run"])])


def _studies(pages: Mapping[str, str], frame: pd.DataFrame, status: Mapping[str, Any]) -> str:
    rows = []
    for name, title in pages.items():
        found = claims.decided(frame, name)["verdict"]
        counts = " ".join(f"{n}&nbsp;{chip(v)}" for v in SYMBOLS if (n := int((found == v).sum())))
        state = status.get("notebooks", {}).get(name, {}).get("status", "completed")
        mark = "" if state == "completed" else f'<p class="crm-alarm">{say("unfinished", state=escape(state))}</p>'
        rows.append(
            f'<li><a class="crm-card" href="notebooks/{name}.html"><span class="crm-num">{name[:2]}</span>'
            f"<span><strong>{escape(words.local(title) or _label(name))}</strong>{mark}</span></a>"
            f'<p class="crm-chips">{counts}</p></li>'
        )
    cards = _raw(f'<ul class="crm-cards">{"".join(rows)}</ul>')
    return "\n".join([say("studies"), cards, *_toctree(f"{_label(n)} <notebooks/{n}>" for n in pages)])


def _how_to_read() -> str:
    def table(heads: Mapping[str, str], meanings: Mapping[str, str]) -> str:
        body = "".join(f"<tr><td>{chip(k)}</td><td>{escape(m)}</td></tr>" for k, m in meanings.items())
        head = "".join(f'<th scope="col">{h}</th>' for h in heads.values())
        return _raw(f'<table class="crm-plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')

    moved = [f"- {c['date']}, {_which(c['lines'])}: {escape(words.local(c['why']))}" for c in ledger.changes()]
    picture = interval_svg(1.3, 1.15, 1.45, Bound(1.0, 1.0, "above"), say("example"))
    return say(
        "reading",
        answers=table(say.names("answer_heads"), chips.say.names("answers")),
        designs=table(say.names("design_heads"), chips.say.names("designs")),
        changes="\n".join(moved),
        verdicts=table(say.names("verdict_heads"), chips.say.names("verdicts")),
        evidence=table(say.names("evidence_heads"), chips.say.names("evidence")),
        example=_raw(f'<p class="crm-example">{picture}</p>'),
        q=ALPHA,
        cell=rules.least,
    )


def _which(lines: str | list[str]) -> str:
    return words.local(lines) if isinstance(lines, str) else ", ".join(lines)


def _rows(pairs: Iterable[tuple[str, Any]]) -> str:
    shown = [(k, ", ".join(map(str, v)) if isinstance(v, list) else words.local(str(v))) for k, v in pairs if v]
    body = "".join(f'<tr><th scope="row">{escape(str(k))}</th><td>{escape(v)}</td></tr>' for k, v in shown)
    return _raw(f'<table class="crm-plain"><tbody>{body}</tbody></table>')


def _about(run: Mapping[str, Any], hidden: Mapping[str, Any]) -> str:
    about = dict(run["bank"])
    cannot = about.pop("cannot_answer", [])
    parameters = [
        (notebook, ", ".join(f"{k} = {v}" for k, v in values.items())) for notebook, values in run["parameters"].items()
    ]
    prints = {k: v for k, v in run["fingerprints"].items() if isinstance(v, str)}
    suppressed = hidden.get("suppressed", {})
    parts = [say("about"), _rows((name, about.get(k)) for k, name in say.names("facts").items())]
    if cannot:
        parts += [say("cannot"), _raw(f"<ul>{''.join(f'<li>{escape(words.local(str(c)))}</li>' for c in cannot)}</ul>")]
    parts += [
        say("rules"),
        _rows((words.local(k), v) for k, v in run["rules"].items()),
        say("parameters"),
        _rows(parameters),
        say("suppressed"),
    ]
    rows = [(file, say("suppressed_row", row=row)) for file, row in suppressed.items()]
    parts += [_rows(rows) if rows else say("suppressed_nothing")]
    parts += [say("fingerprints"), _rows(prints.items()), say("versions"), _rows(run["versions"].items())]
    return "\n".join(parts)


def _notebook_page(path: Path, target: Path, frame: pd.DataFrame, spoken: str) -> dict[str, str]:
    """Copy a notebook for the site: anchors, the claims it decides, code folded; return alt texts by picture.

    Its prose is in English and its outputs in the language of the run, ``spoken``; where the site's is another, it says
    so.
    """
    notebook = read_notebook(path)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    alts: dict[str, str] = {}
    started = any(c.get("outputs") for c in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata["crm_id"] = cell["id"]
        tags = set(cell.metadata.get("tags", []))
        # code is folded, and parameters are told once: by the table of the cell that starts the notebook
        told = started and tags & {"parameters", "injected-parameters"}
        cell.metadata["tags"] = ["remove-cell" if told else "hide-input"]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                digest = hashlib.sha256(b64decode(data["image/png"])).hexdigest()
                alts[digest] = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            if "text/html" in data:
                data["text/html"] = tables.framed("".join(data["text/html"]))
    here = words.language()
    notes = [say("prose")] * (here != "en") + [say("other")] * (here != spoken)
    decided = "".join(f'<p class="crm-note">{note}</p>' for note in notes) + claims.box(frame, path.stem)
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
    spoken = described["fingerprints"].get("language", "en")
    for path in notebooks:
        alts |= _notebook_page(path, source / "notebooks" / path.name, frame, spoken)
    (source / "alt.json").write_text(json.dumps(alts), encoding="utf-8")
    (source / "index.md").write_text(_index(frame, described["bank"], pages, status), encoding="utf-8")
    (source / "studies.md").write_text(_studies(pages, frame, status), encoding="utf-8")
    (source / "how-to-read.md").write_text(_how_to_read(), encoding="utf-8")
    (source / "about-this-run.md").write_text(_about(described, hidden), encoding="utf-8")
