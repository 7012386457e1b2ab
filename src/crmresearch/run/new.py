"""A new notebook with its study, its test and its words: the files of ``template/`` under its own name."""

from __future__ import annotations

import re
from pathlib import Path

from crmresearch import ledger
from crmresearch.errors import InputError


def create(name: str, root: Path) -> list[Path]:
    """Write notebook, study and test, and append the study's words in each language; return the files touched.

    Parameters
    ----------
    name : str
        Name of the notebook, like ``05_example``; the study is called what follows the number.
    root : Path
        A clone of the project.

    Raises
    ------
    InputError
        If this is no clone or no such name, no claim of the register names the notebook, or a file is there already.
    """
    if not re.fullmatch(r"\d\d_[a-z][a-z_]*", name):
        raise InputError(f"{name or 'an empty name'} is no name of a notebook; it is like 05_example")
    lines = [line.line_id for line in ledger.lines().values() if line.notebook == name]
    if not lines:
        raise InputError(f"no claim in claims.yaml names the notebook {name}; write the claim first: estimand and rule")
    study, package = name[3:], root / "src" / "crmresearch"
    if not package.is_dir():
        raise InputError("a new notebook is made in a clone of the project")
    new = {
        "notebook.ipynb": root / "notebooks" / f"{name}.ipynb",
        "study.py": package / "studies" / f"{study}.py",
        "test.py": root / "tests" / f"test_{study}.py",
    }
    for path in (*new.values(), package / "studies" / study):
        if path.exists():
            raise InputError(f"{path.relative_to(root)} is there already")
    words = {f"words.{path.name}": path for path in sorted((package / "words").glob("*.yaml"))}
    for part, path in (new | words).items():
        text = (Path(__file__).parent / "template" / f"{part}.txt").read_text("utf-8")
        with path.open("a", encoding="utf-8") as file:
            file.write(text.replace("05_example", name).replace("example", study).replace("S00", lines[0]))
    return [*new.values(), *words.values()]
