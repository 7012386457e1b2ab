"""Options of the command line, and how values are read and lines are written."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crmresearch import escape, rules, words
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from crmresearch.run.remote import Storage


ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:")  # not C:, a drive


def here(path: Path | None) -> Path | None:
    """Refuse an address; as a path it has lost a slash by now (``s3:/bucket``)."""
    if path is not None and ADDRESS.match(str(path)):
        raise typer.BadParameter("name a folder of this machine, and copy the run from there")
    return path


def target(text: str | None) -> tuple[Path | None, Storage | None]:
    """Read where a run is to go: a folder, or an address that it is uploaded to from its usual folder."""
    if text is None or not ADDRESS.match(text):
        return None if text is None else Path(text), None
    from crmresearch.run.remote import Storage

    return None, Storage(text)


def upload(folder: Path, storage: Storage | None) -> None:
    """Upload what of a folder may leave, if it is to go anywhere."""
    if storage is not None:
        echo(f"uploaded: {storage.upload(folder)} files of runs that completed, to {storage.address}", err=True)


def rule(chosen: str | None) -> str | None:
    """Choose the rules of what may be shown, here and in the kernels."""
    if chosen is not None:
        rules.read(chosen)
        os.environ[rules.CHOSEN] = chosen
    return chosen


def speak(languages: str | None) -> str | None:
    """Set the readers' languages, before anything is said."""
    if languages is not None:
        words.choose(*(one.strip() for one in languages.split(",")))
    return languages


Bank = Annotated[str, typer.Option(help="Name of a bank, path of a bank.yaml or of its folder, or all-open.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Folder of an open data set, or one that bank.yaml may name.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Notebooks at a time.")]
Out = Annotated[
    str | None,
    typer.Option(
        help="The run's folder, outputs/runs/<bank> by default; or an address, as s3://bucket/run, to upload it to."
    ),
]
Given = Annotated[
    list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A notebook parameter; repeatable.")
]
Force = Annotated[bool, typer.Option("--force", help="Execute what is unchanged, too.")]
Json = Annotated[bool, typer.Option("--json", help="Write what came of it to standard output, as one JSON object.")]
Studies = Annotated[str | None, typer.Option(help="Numbers or names, e.g. 00,01; all by default.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds per notebook.")]
Cold = Annotated[bool, typer.Option("--cold", help="Start every kernel anew, as papermill does; slower.")]
Whose = Annotated[
    str | None, typer.Option("--bank", help="The run's bank, where it is no longer loaded: name, or path of bank.yaml.")
]
Since = Annotated[
    Path | None, typer.Option(help="An earlier run of the bank; notebook 99 lists the verdicts that moved since.")
]
Lang = Annotated[
    str | None,
    typer.Option(callback=speak, help="Language of what readers see, en or zh; en,zh puts a site in Chinese beside."),
]
Disclosure = Annotated[
    str | None,
    typer.Option(callback=rule, help="Rules of what may be shown: default, eurostat or abs, as in: abs, least=20."),
]
UNKNOWN = "the bank of this run is not here, so that its customers were not looked for; name it: --bank PATH"
Run = Annotated[Path, typer.Argument(help="A run's folder, e.g. outputs/runs/reference.")]


def echo(text: str, err: bool = False) -> None:
    """Write a line; what a bank or a file brings moves no cursor and no colour."""
    typer.echo(escape.terminal(text), err=err)


def short(path: Path) -> str:
    """Write a path as it is called from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def value(text: str) -> Any:
    """Read a parameter's value: a JSON number, truth value or list; anything else is a string."""
    try:
        return json.loads({"True": "true", "False": "false"}.get(text, text))
    except json.JSONDecodeError:
        return text


def several(text: str) -> list[Any]:
    """Read values separated by commas; those within brackets are one."""
    return [value(part.strip()) for part in re.split(r",(?![^\[]*\])", text)]


def listed(text: str | None) -> list[str] | None:
    """Read names separated by commas."""
    return None if text is None else [part.strip() for part in text.split(",")]


def pairs(given: list[str] | None) -> dict[str, str]:
    """Read ``name=text``, each name once."""
    out: dict[str, str] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise InputError(f"parameter {item!r} has no value; write -p name=value")
        if name.strip() in out:
            raise InputError(f"parameter {name.strip()} is given twice")
        out[name.strip()] = text
    return out


def values(given: list[str] | None) -> dict[str, Any]:
    """Read ``name=value``, each name once."""
    return {name: value(text) for name, text in pairs(given).items()}
