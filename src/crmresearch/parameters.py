"""Parameters of notebooks, read where they are written: in the cell tagged ``parameters``, once.

One line a parameter: its annotation, its default, and a comment that ends in what it may be::

    sweep_months: list[int] = [3, 6, 12]  # windows to compare, months, 1 to 12 items, each [1, 120]

=============================================  ======================================================================
``[a, b]``, ``(a, b)``, ``(a, b]``, ``[a, )``  an interval; a round bracket leaves its end out, no number leaves it open
``one of x, y, z``                             one of these
``not empty``                                  any text but none
``n items, each ...``, ``n to m items, ...``   a list, and what each of its items may be
=============================================  ======================================================================
"""

from __future__ import annotations

import ast
import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crmresearch.errors import InputError

KINDS: dict[str, tuple[str, Any]] = {
    "str": ("a text", (str,)),
    "bool": ("True or False", (bool,)),
    "int": ("a valid integer", (int,)),
    "float": ("a valid number", (float, int)),
}
_LINE = re.compile(
    rf"(?P<name>\w+): (?P<listed>list\[)?(?P<kind>{'|'.join(KINDS)})(?(listed)\]) = "
    r"""(?P<default>"[^"]*"|[^#]+?) *# *(?P<comment>.+)"""
)
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGE = re.compile(
    rf"[,;] (?:(?P<fewest>\d+)(?: to (?P<most>\d+))? items, each )?(?P<range>"
    rf"(?P<left>[\[(])(?P<low>{_NUMBER})?, (?P<high>{_NUMBER})?(?P<right>[\])])|one of (?P<options>.+)|not empty)$"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter: its type, default and meaning, and what it may be.

    Attributes
    ----------
    kind : str
        Type of the value, or of each item of a list.
    comment : str
        Meaning, unit and range, as written.
    range : mapping
        Parts of the range by name; those of other kinds of range are None.
    """

    kind: str
    default: Any
    comment: str
    range: Mapping[str, str | None]

    def refusal(self, value: Any) -> str | None:
        """Say what is wrong with a value; None if nothing is."""
        fewest, most = self.range["fewest"], self.range["most"]
        if fewest is None:
            return self._refusal(value)
        if not isinstance(value, list):
            return "should be a list"
        if not int(fewest) <= len(value) <= int(most or fewest):
            return f"should have {fewest if most is None else f'{fewest} to {most}'} items, not {len(value)}"
        return next((f"each {reason}" for item in value if (reason := self._refusal(item))), None)

    def _refusal(self, value: Any) -> str | None:
        name, types = KINDS[self.kind]
        if not isinstance(value, types) or isinstance(value, bool) != (self.kind == "bool"):  # True is an int to Python
            return f"should be {name}"
        r = self.range
        if r["options"] is not None:
            return None if str(value) in r["options"].split(", ") else f"should be {r['range']}"
        if r["left"] is None:
            return None if value else "should not be empty"
        low, high = float(r["low"] or "-inf"), float(r["high"] or "inf")
        inside = low < value < high or (value == low and r["left"] == "[") or (value == high and r["right"] == "]")
        return None if inside else f"should lie in {r['range']}"


def folders() -> list[Path]:
    """Where notebooks are: in a clone, in ``./notebooks``, in the installed package."""
    here = Path(__file__).resolve().parent
    return [here.parents[1] / "notebooks", Path.cwd() / "notebooks", here / "notebooks"]


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """Ask whether the nearest of the known names was meant, or list them all."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else f"{otherwise} {', '.join(known)}"


def find(notebook: str) -> Path:
    """Return the file of a notebook by its name; the folder a kernel works in, its notebook's own, goes first.

    Raises
    ------
    InputError
        If there is none; the nearest name is given.
    """
    places = [Path.cwd(), *folders()]
    for place in places:
        if (place / f"{notebook}.ipynb").is_file():
            return place / f"{notebook}.ipynb"
    known = sorted({p.stem for place in places for p in place.glob("*.ipynb")})
    raise InputError(f"no notebook {notebook} is known; {near(notebook, known, 'known are')}")


def read(path: Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook, in their order.

    Raises
    ------
    InputError
        If the file is no notebook with such a cell, or a line of it is not written as told above.
    """
    return dict(_read(path, path.stat().st_mtime_ns))


@functools.lru_cache(64)
def _read(path: Path, changed: int) -> dict[str, Parameter]:
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    except (ValueError, KeyError, TypeError, StopIteration):
        raise InputError(f"{path.name}: no notebook with a cell tagged parameters") from None
    out = {}
    for line in filter(None, map(str.strip, source.splitlines())):
        written = _LINE.fullmatch(line)
        limits = _RANGE.search(written["comment"]) if written else None
        if written is None or limits is None:
            raise InputError(f"{path.name}: a parameter is written name: type = value  # meaning, range; not {line}")
        parameter = Parameter(written["kind"], _literal(written["default"]), written["comment"], limits.groupdict())
        ordered = parameter.kind in ("int", "float")
        if bool(written["listed"]) != bool(limits["fewest"]) or (limits["left"] and not ordered):
            raise InputError(f"{path.name}: this type has no such range: {line}")
        if reason := parameter.refusal(parameter.default):
            raise InputError(f"{path.name}: the default {reason}: {line}")
        out[written["name"]] = parameter
    return out


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None  # of no type that a parameter has


def check(name: str, takes: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """Check values against the parameters that a notebook takes.

    Raises
    ------
    InputError
        If a name is unknown (the nearest valid one is given), or a value has the wrong type or range.
    """
    wrong = []
    for key, value in values.items():
        if key not in takes:
            wrong.append(f"no parameter {key}; {near(key, takes, 'it takes')}")
        elif reason := takes[key].refusal(value):
            wrong.append(f"{key} = {value!r}: {reason} ({takes[key].comment})")
    if wrong:
        raise InputError(f"{name}: {'; '.join(wrong)}")


def undeclared(cells: Sequence[str], takes: Mapping[str, Parameter]) -> list[str]:
    """Return names that were given a value like parameters and that the notebook does not take: misspelt ones.

    Parameters
    ----------
    cells : sequence of str
        Sources of the cells run so far. The last is the one that asks; those before an earlier asking are past.
    takes : mapping of str to Parameter
        What the notebook takes.
    """
    found: list[str] = []
    for source in reversed(cells[:-1]):
        if "notebook.start(" in source:
            break
        names = _assigned(source)
        if source.startswith("# Parameters") or not takes.keys().isdisjoint(names):  # as papermill writes it, or alike
            found += [n for n in names if n not in takes]
    return found


def _assigned(source: str) -> list[str]:
    """Return the names a cell assigns literals to; none if it does anything else."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return []
    names = []
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if not isinstance(targets[0], ast.Name) or value is None or _literal(ast.unparse(value)) is None:
            return []
        names.append(targets[0].id)
    return names


def split(notebooks: Mapping[str, Path], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the values it takes, and check them.

    Raises
    ------
    InputError
        If no notebook takes a name, one of them refuses its value, or a notebook's parameters cannot be read.
    """
    takes = {name: read(path) for name, path in notebooks.items()}
    known = sorted({key for names in takes.values() for key in names})
    for key in values:
        if key not in known:
            raise InputError(f"none of the selected notebooks takes a parameter {key}; {near(key, known, 'they take')}")
    out = {name: {k: v for k, v in values.items() if k in takes[name]} for name in notebooks}
    for name, part in out.items():
        check(name, takes[name], part)
    return out
