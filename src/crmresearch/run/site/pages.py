"""Write the sources of the site: ledger, studies, how to read it, about the run, and one page per notebook."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crmresearch import figures, ledger, words
from crmresearch.escape import markdown as md
from crmresearch.estimators.verdicts import ALPHA
from crmresearch.rules import rules
from crmresearch.run.execution import read_notebook, write_notebook
from crmresearch.run.site import (
    api,
    chips,
    claims,
    comparison,
    downloads,
    front,
    listing,
    methods,
    pictures,
    provenance,
    tables,
)
from crmresearch.run.site.chips import SYMBOLS, chip, raw, rows, toctree
from crmresearch.run.site.runs import Run

say = words.of("site.pages")


def _heading(cell: Mapping[str, Any]) -> str:
    match = re.search(r"^# (.+)$", "".join(cell["source"]), re.MULTILINE)
    return match[1].strip() if match else ""


def _title(notebook: Mapping[str, Any]) -> str:
    return next((_heading(c) for c in notebook["cells"] if c["cell_type"] == "markdown" and _heading(c)), "")


def _label(name: str) -> str:
    """Write a notebook's file name for people, e.g. ``01 Customer value``."""
    digits, _, rest = name.partition("_")
    return f"{digits} {words.local(rest.replace('_', ' ').capitalize())}"


def _studies(runs: Sequence[Run]) -> str:
    """Cards of the notebooks, bank by bank."""
    parts = [say("studies")]
    for run in runs:
        states = run.json("status").get("notebooks", {})
        items = []
        for path in run.notebooks:
            found = claims.decided(run.frame, path.stem)["verdict"]
            counts = " ".join(f"{n}&nbsp;{chip(v)}" for v in SYMBOLS if (n := int((found == v).sum())))
            state = states.get(path.stem, {}).get("status", "completed")
            mark = "" if state == "completed" else f'<p class="crm-alarm">{say("unfinished", state=escape(state))}</p>'
            title = words.local(_title(read_notebook(path))) or _label(path.stem)
            items.append(
                f'<li><a class="crm-card" href="{run.page(path.stem)}.html">'
                f'<span class="crm-num">{path.stem[:2]}</span>'
                f"<span><strong>{escape(title)}</strong>{mark}</span></a>"
                f'<p class="crm-chips">{counts}</p></li>'
            )
        if run.key:
            parts.append(f"## {md(words.local(str(run.about['title'])))}\n")
        parts.append(raw(f'<ul class="crm-cards">{"".join(items)}</ul>'))
        parts += toctree((f"{_label(p.stem)} <{run.page(p.stem)}>" for p in run.notebooks), run.key)
    return "\n".join(parts)


def _how_to_read(source: Path) -> str:
    def table(heads: Mapping[str, str], meanings: Mapping[str, str]) -> str:
        body = "".join(f"<tr><td>{chip(k)}</td><td>{escape(m)}</td></tr>" for k, m in meanings.items())
        head = "".join(f'<th scope="col">{h}</th>' for h in heads.values())
        return raw(f'<table class="crm-plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')

    moved = [f"- {c['date']}, {_which(c['lines'])}: {escape(words.local(c['why']))}" for c in ledger.listed("changes")]
    src, alt = pictures.example(source)
    return say(
        "reading",
        answers=table(say.names("answer_heads"), chips.say.names("answers")),
        designs=table(say.names("design_heads"), chips.say.names("designs")),
        changes="\n".join(moved),
        verdicts=table(say.names("verdict_heads"), chips.say.names("verdicts")),
        evidence=table(say.names("evidence_heads"), chips.say.names("evidence")),
        example=raw(f'<img class="crm-forest" src="{src}" alt="{escape(alt)}">'),
        q=ALPHA,
        cell=rules.least,
    )


def _which(lines: str | list[str]) -> str:
    return words.local(lines) if isinstance(lines, str) else ", ".join(lines)


def _about(run: Run) -> str:
    described, hidden = run.json("run"), run.json("disclosure")
    about = dict(run.about)
    cannot = about.pop("cannot_answer", [])
    parameters = [
        (notebook, ", ".join(f"{k} = {v}" for k, v in values.items()))
        for notebook, values in described["parameters"].items()
    ]
    prints = {k: v for k, v in described["fingerprints"].items() if isinstance(v, str)}
    suppressed = hidden.get("suppressed", {})
    parts = [say("about"), rows((name, about.get(k)) for k, name in say.names("facts").items())]
    if cannot:
        parts += [say("cannot"), raw(f"<ul>{''.join(f'<li>{escape(words.local(str(c)))}</li>' for c in cannot)}</ul>")]
    parts += [
        say("rules"),
        rows((words.local(k), v) for k, v in described["rules"].items()),
        say("parameters"),
        rows(parameters),
        say("suppressed"),
    ]
    hidden_rows = [(file, say("suppressed_row", row=row)) for file, row in suppressed.items()]
    parts += [rows(hidden_rows) if hidden_rows else say("suppressed_nothing")]
    parts += [say("fingerprints"), rows(prints.items()), say("versions"), rows(described["versions"].items())]
    parts += [provenance.made(run)] + [provenance.essays()] * (not run.key)
    return "\n".join(parts)


def _notebook_page(path: Path, target: Path, run: Run, drawn: Mapping[str, Sequence[str]], root: str) -> None:
    """Copy a notebook for the site: anchors, the claims it decides, code folded, figures from their files.

    Its prose is in English and its outputs in the language of the run; where the site's is another, it says
    so.
    """
    notebook, up = read_notebook(path), "../" * run.page(path.stem).count("/")
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    started = any(c.get("outputs") for c in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type != "code":  # its headings are what the page is found by
            cell.source = re.sub(r"(?m)^(#+ )(.+)$", lambda m: m[1] + words.local(m[2]), cell.source)
            continue
        cell.metadata["crm_id"] = cell["id"]
        tags = set(cell.metadata.get("tags", []))
        # code is folded, and parameters are told once: by the table of the cell that starts the notebook
        told = started and tags & {"parameters", "injected-parameters"}
        cell.metadata["tags"] = ["remove-cell" if told else "hide-input"]
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:  # drawn without the project's means
                data["text/html"] = figures.img("".join(data["image/png"].split()), say("untold"))
            if "text/html" in data:
                shown = downloads.linked("".join(data["text/html"]), drawn, f"{up}{root}{downloads.place(run.key)}")
                data["text/html"] = tables.framed(shown, up)
    here = words.language()
    notes = [say("prose")] * (here != "en") + [say("other")] * (here != run.language)
    decided = "".join(f'<p class="crm-note">{note}</p>' for note in notes) + claims.box(run, path.stem)
    if decided:
        from nbformat.v4 import new_markdown_cell

        first = next((i for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and _heading(c)), 0)
        notebook.cells.insert(first + 1, new_markdown_cell(raw(decided), id="claims-decided-here"))
    write_notebook(notebook, target)


def write(
    runs: Sequence[Run], source: Path, lost: Mapping[str, str], moved: Sequence[tuple[Run, Run]], root: str = ""
) -> None:
    """Write the Sphinx sources of a site into the folder ``source``, and the pictures of claims beside them.

    ``root`` leads from the site in this language to that in the first one, where the files lie that can be taken along.
    """
    for run in runs:
        drawn = downloads.copied(run.folder, source / downloads.place(run.key))
        for path in run.notebooks:
            target = source / f"{run.page(path.stem)}.ipynb"
            target.parent.mkdir(parents=True, exist_ok=True)
            _notebook_page(path, target, run, drawn, root)
    texts = {
        "index": front.page(runs, source, lost, moved),
        "studies": _studies(runs),
        "how-to-read": _how_to_read(source),
        "downloads": downloads.page(runs, source, root),
        "ledger": listing.page(runs),
        "methods": methods.page(),
        **(reference := api.pages()),
        "reference": api.index(reference),
    }
    texts |= {run.about_page: _about(run) for run in runs}
    if len(runs) > 1:
        pages = toctree(f"{run.key} <{run.about_page}>" for run in runs)
        texts["about-this-run"] = "\n".join(
            [say("about_all"), raw(front.banks(runs, lost)), provenance.essays(), *pages]
        )
    texts |= {comparison.address(k): comparison.page(old, new) for k, (old, new) in enumerate(moved, 1)}
    for name, text in texts.items():
        path = source / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
