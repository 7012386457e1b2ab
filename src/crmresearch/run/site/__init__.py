"""The reviewers' site of one run, or of several: the answer first, each claim linked to the cell that decides it.

Static pages built by Sphinx from what a run wrote; nothing is computed here, and no page asks another host for
anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from crmresearch import words
from crmresearch.errors import CrmError, InputError

HERE = Path(__file__).parent
UNPUBLISHED = (".buildinfo", "objects.inv", ".doctrees", "jupyter_execute", "_sources", "_static/webpack-macros.html")


def build(folders: Sequence[Path], target: Path, lost: Mapping[str, str] | None = None) -> Path:
    """Build the site of one run, or of several joined, from their ledgers, notebooks and descriptions.

    Further languages stand beside the first in folders of their names, and each page leads to its like in the others.

    Parameters
    ----------
    folders : sequence of Path
        The runs' folders; of several runs of one bank the last is shown, and the others are compared to it.
    target : Path
        Where the site is to stand; an earlier one there is replaced.
    lost : mapping of str to str, optional
        Banks that could not be run, and why; the first page tells.

    Returns
    -------
    Path
        The site's first page.

    Raises
    ------
    InputError
        If a folder is not a run, or ``target`` holds something that is no site.
    CrmError
        If the pages cannot be built.
    """
    spoken = words.languages()
    try:
        for k, language in enumerate(spoken):
            words.choose(language, *spoken)
            _build(folders, target / language if k else target, lost or {}, "../" if k else "")
    finally:
        words.choose(*spoken)
    return target / "index.html"


def _build(folders: Sequence[Path], target: Path, lost: Mapping[str, str], up: str) -> None:
    """Build the site in the language that is spoken; ``up`` leads from its root to that of the first language."""
    from crmresearch.run.site import downloads, pages, pictures, runs

    shown, moved = runs.chosen(folders)
    if target.exists() and not (target / "searchindex.js").exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} holds something that is not a site; choose another --out, or empty it first")
    with tempfile.TemporaryDirectory(prefix="crm-site-") as scratch:
        source, out = Path(scratch) / "source", Path(scratch) / "out"
        pages.write(shown, source, lost, moved, up)
        command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html", "-c", str(HERE)]
        command += ["-A", f"up={up}", "-d", str(Path(scratch) / "doctrees"), str(source), str(out)]
        # the order of Sphinx's sets, and with it the search index, follows the hash seed
        environment = {**os.environ, "PYTHONHASHSEED": "0", "TZ": "UTC", "SOURCE_DATE_EPOCH": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0 or not (out / "index.html").exists():
            raise CrmError(f"the site could not be built: {done.stderr.strip()[-2000:]}")
        if done.stderr.strip():
            print(done.stderr.replace(scratch, "…").strip(), file=sys.stderr)
        for name in UNPUBLISHED:
            path = out / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for name in (pictures.FOLDER, downloads.FOLDER)[: 1 if up else 2]:  # what is taken along is there once
            shutil.copytree(source / name, out / name)
        for name in ("ledger.csv", "claims.csv"):  # one below the other, the heads once
            texts = [(run.folder / name).read_bytes() for run in shown]
            (out / name).write_bytes(b"".join([texts[0], *(t.split(b"\n", 1)[1] for t in texts[1:])]))
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(out, partial, ignore=shutil.ignore_patterns("*.map"))
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise CrmError(f"the site could not be written to {target}: {error}") from None
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
