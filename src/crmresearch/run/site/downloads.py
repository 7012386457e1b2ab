"""What can be taken from the site: each table as CSV, each figure as PNG and SVG, each notebook."""

from __future__ import annotations

import hashlib
import re
import shutil
from base64 import b64decode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from crmresearch import words
from crmresearch.escape import markdown
from crmresearch.run.site.chips import raw
from crmresearch.run.site.runs import Run

say = words.of("site.downloads")
FOLDER = "downloads"
PARTS = {"notebooks": "*.ipynb", "tables": "*.csv", "figures": "*.[ps][nv]g"}
# an embedded picture as figures.img writes it
_PICTURE = re.compile(r'(<img alt="[^"]*"(?: width="\d+")? src=)"data:image/png;base64,([\w+/=]+)">')


def place(key: str) -> str:
    """Return where a run's files lie in the site."""
    return f"{FOLDER}/{key}".rstrip("/")


def copied(run: Path, target: Path) -> dict[str, list[str]]:
    """Copy what a run leaves to take along; return files of figures by their content (PNG alone in older runs)."""
    for part, names in PARTS.items():
        (target / part).mkdir(parents=True)
        for path in sorted((run / part).glob(names)):
            shutil.copyfile(path, target / part / path.name)
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): [p.name for p in sorted(path.parent.glob(f"{path.stem}.*"))]
        for path in sorted((target / "figures").glob("*.png"))
    }


def linked(html: str, drawn: Mapping[str, Sequence[str]], files: str) -> str:
    """Show a run's figures from their files, each with what can be taken of it; other pictures stay embedded."""

    def link(picture: re.Match[str]) -> str:
        names = drawn.get(hashlib.sha256(b64decode(picture[2])).hexdigest())
        if names is None:
            return picture[0]
        places = [escape(f"{files}/figures/{name}") for name in names]
        return f'{picture[1]}"{places[0]}">{_files({p.rpartition(".")[2].upper(): p for p in places})}'

    return _PICTURE.sub(link, html)


def page(runs: Sequence[Run], source: Path, root: str) -> str:
    """List what can be taken of each run."""
    parts = [say("title")]
    for run in runs:
        heading = f"## {markdown(run.about['title'])}\n" if run.key else ""
        parts += [heading, raw(_table(source / place(run.key), f"{root}{place(run.key)}"))]
    return "\n".join(parts)


def _files(places: Mapping[str, str]) -> str:
    links = (f'<a href="{place}" download>{kind}</a>' for kind, place in places.items())
    return f'<p class="crm-files">{" · ".join(links)}</p>'


def _table(folder: Path, files: str) -> str:
    """List what was copied to a folder of the site: a row for each notebook, table and figure."""
    rows, kinds = [], say.names("kinds")
    for notebook in sorted(p.stem for p in (folder / "notebooks").iterdir()):
        rows.append((notebook, kinds["notebooks"], {"ipynb": f"notebooks/{notebook}.ipynb"}))
        for part, endings in (("tables", ("csv",)), ("figures", ("png", "svg"))):
            for name in sorted({p.stem for p in (folder / part).glob(f"{notebook}_*.{endings[0]}")}):
                shown = name.removeprefix(f"{notebook}_").replace("_", " ")
                there = [k for k in endings if (folder / part / f"{name}.{k}").exists()]
                rows.append((shown, kinds[part], {k: f"{part}/{name}.{k}" for k in there}))
    body = "".join(
        f"<tr><td>{escape(name)}</td><td>{kind}</td>"
        f"<td>{_files({k.upper(): escape(f'{files}/{file}') for k, file in own.items()})}</td></tr>"
        for name, kind, own in rows
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in say.names("heads").values())
    return f'<table class="crm-plain"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
