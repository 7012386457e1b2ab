"""What runs are to do, checked whole before anything starts, and what of it is done already.

What a notebook writes is decided by its source, its parameters, the bank's data and pseudonyms, the code it imports,
what is installed, the register, the language and the rules of disclosure: together its *key*. What completed under the
same key is kept. All that runs of one call share is read once.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crmresearch import ledger, parameters, words
from crmresearch.data import pseudonyms
from crmresearch.errors import InputError
from crmresearch.review import OPEN, STORED
from crmresearch.rules import rules, use
from crmresearch.run import execution, staging
from crmresearch.run.people import People

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Plan:
    """One run: notebooks, their parameters, a bank, a folder.

    Attributes
    ----------
    bank : str
        As it was asked for.
    from_dir : Path, optional
        Folder with the files of an open data set.
    loaded : Loaded
        The bank, loaded.
    sources : mapping of str to Path
        Notebooks by name.
    given : mapping
        Parameters of each.
    out : Path
        The run's folder.
    prints : mapping
        Fingerprints, as ``run.json`` tells them.
    keys : mapping
        What decides what each notebook writes.
    whole : bool
        Whether these are all the notebooks that there are.
    since : Path, optional
        An earlier run of the bank, whose verdicts are compared.
    """

    bank: str
    from_dir: Path | None
    loaded: Loaded
    sources: Mapping[str, Path]
    given: Mapping[str, Mapping[str, Any]]
    out: Path
    prints: Mapping[str, Any]
    keys: Mapping[str, str]
    whole: bool
    since: Path | None = None

    def finished(self, site: bool) -> dict[str, Any] | None:
        """Return the status of the run that is there, if another would come to the same."""
        wanted = [f"notebooks/{name}.ipynb" for name in self.keys] + ["ledger.csv", "disclosure.json"]
        if site:
            wanted += ["site/index.html", *(f"site/{other}/index.html" for other in words.languages()[1:])]
        status, about = self.out / "status.json", self.out / "run.json"
        if staging.left(self.out) or not status.exists() or not all((self.out / name).exists() for name in wanted):
            return None
        told: dict[str, Any] = json.loads(status.read_text("utf-8"))
        keys = {name: record.get("fingerprint") for name, record in told["notebooks"].items()}
        same = json.loads(about.read_text("utf-8"))["fingerprints"] == self.prints
        return told if same and told["status"] == "completed" and keys == self.keys else None

    def waiting(self, force: bool) -> list[str]:
        """Return the notebooks to execute; what they found is merged anew with what is kept."""
        there = set() if force else staging.unchanged(self.out, self.keys)
        return [name for name in self.keys if name not in there]

    def request(self) -> dict[str, Any]:
        """Return what :func:`crmresearch.run.remote.carry_out` is asked for."""
        values = {k: v for part in self.given.values() for k, v in part.items() if k != "bank_name"}
        places = {"out": self.out, "from_dir": self.from_dir, "folder": next(iter(self.sources.values())).parent}
        return {"bank": self.bank, "studies": list(self.sources), "values": values, **places}


class Loaded:
    """A bank that is loaded, and what of it its runs share."""

    def __init__(self, opened: Bank) -> None:
        self.opened, self.data = opened, opened.engine.fingerprint()
        self.rules = json.dumps(asdict(rules))  # those of disclosure, which loading put in force
        self.key = pseudonyms.mark(pseudonyms.key())  # another key makes other pseudonyms

    @cached_property
    def people(self) -> People:
        """Whose identifiers must not be found."""
        return People.of(self.opened)


class Planner:
    """Makes plans of one call.

    Parameters
    ----------
    folder : Path, optional
        Where the notebooks are.
    inject : bool
        False executes notebooks as they are, with no cell of parameters.
    """

    def __init__(self, folder: Path | None = None, inject: bool = True) -> None:
        self.available, self.inject = find_notebooks(folder), inject
        self.banks: dict[tuple[str, Path | None], Loaded] = {}
        self.code = Code()
        self.notebooks: dict[str, tuple[str, str]] = {}

    def check(self, studies: Iterable[str] | None, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the parameters of the notebooks chosen.

        Raises
        ------
        InputError
            If a study or a parameter is unknown, or a value is refused.
        """
        return split({name: self.available[name] for name in select(self.available, studies)}, values)

    def takes(self, studies: Iterable[str]) -> set[str]:
        """Return the parameters that any of the notebooks takes."""
        return {key for name in select(self.available, studies) for key in parameters.read(self.available[name])}

    def load(self, bank: str, from_dir: Path | None = None) -> Loaded:
        """Load a bank, once."""
        if (bank, from_dir) not in self.banks:
            self.banks[bank, from_dir] = Loaded(load(bank, from_dir))
        return self.banks[bank, from_dir]

    def plan(
        self,
        bank: str,
        studies: Iterable[str] | None,
        values: Mapping[str, Any],
        out: Path | None,
        from_dir: Path | None,
        since: Path | None = None,
    ) -> Plan:
        """Return what one run is to do.

        Raises
        ------
        InputError
            If anything of it is refused.
        """
        given = self.check(studies, values)
        loaded = self.load(bank, from_dir)
        name = loaded.opened.about.name
        out = out or staging.place(Path("outputs") / "runs" / name)
        if self.inject:
            given = {n: {"bank_name": name} | part for n, part in given.items()}
        prints = {"data": loaded.data, **self._shared, "notebooks": {n: self._notebook(n)[0] for n in given}}
        shared = [loaded.data, loaded.rules, loaded.key, *(self._shared[k] for k in ("lock", "register", "language"))]
        keys = {n: sha(*self._notebook(n), json.dumps(part, sort_keys=True), *shared) for n, part in given.items()}
        sources = {n: self.available[n] for n in given}
        if since is not None:
            prints["since"] = earlier(since, name)
        return Plan(bank, from_dir, loaded, sources, given, out, prints, keys, set(given) == set(self.available), since)

    @cached_property
    def _shared(self) -> dict[str, str]:
        return {
            "code": self.code.whole(),
            "lock": lock(),
            "register": ledger.register_hash(),
            "language": words.language(),
        }

    def _notebook(self, name: str) -> tuple[str, str]:
        """Return the fingerprints of a notebook's source, and of the code it imports."""
        if name not in self.notebooks:
            content = json.loads(self.available[name].read_text("utf-8"))
            code = self.code.imported(content, self.available[name].parent)
            self.notebooks[name] = sha(execution.source_of(content)), code
        return self.notebooks[name]


class Code:
    """Fingerprints of code, each file of which is read once."""

    def __init__(self) -> None:
        self.files: dict[Path, tuple[str, frozenset[str]]] = {}
        self.modules: dict[tuple[str, Path, Path], set[Path]] = {}

    def whole(self) -> str:
        """Return that of the package's source and data, and of what its site is made with."""
        files = sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".yaml", ".css", ".js", ".html"})
        return sha(*(part for p in files for part in (p.relative_to(PACKAGE).as_posix(), p.read_bytes())))

    def imported(self, notebook: Mapping[str, Any], folder: Path) -> str:
        """Return that of the modules a notebook imports, of the package or beside it, and of the package's data.

        What is installed besides has its version in the lock.
        """
        sources = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
        found = {p for p in PACKAGE.rglob("*.yaml") if "run" not in p.relative_to(PACKAGE).parts[:1]}
        waiting = {p for s in sources for name in _names(s) for p in self._modules(name, folder, folder)}
        waiting |= {Path(execution.__file__), PACKAGE / "run" / "kernels.py"}  # which write it
        while waiting:
            path = waiting.pop()
            found.add(path)
            waiting |= {p for name in self._file(path)[1] for p in self._modules(name, path.parent, folder)} - found
            if {"importlib.import_module", "pkgutil"} & self._file(path)[1]:  # it finds its neighbours by name
                waiting |= set(path.parent.rglob("*.py")) - found
        if PACKAGE / "lab" / "recover" / "report.py" in found and (table := recovery()).is_file():
            found.add(table)
        if PACKAGE / "review.py" in found and (table := STORED / OPEN).is_file():
            found.add(table)
        return sha(*(part for p in sorted(found) for part in (p.name, self._file(p)[0])))

    def _file(self, path: Path) -> tuple[str, frozenset[str]]:
        if path not in self.files:
            content = path.read_bytes()
            self.files[path] = sha(content), _names(content.decode("utf-8")) if path.suffix == ".py" else frozenset()
        return self.files[path]

    def _modules(self, name: str, here: Path, folder: Path) -> set[Path]:
        if (name, here, folder) not in self.modules:
            plain = name.lstrip(".")
            up = len(name) - len(plain)
            self.modules[name, here, folder] = _modules(
                plain, ([here, *here.parents][up - 1],) if up else (folder, PACKAGE.parent)
            )
        return self.modules[name, here, folder]


def earlier(folder: Path, bank: str) -> str:
    """Return the fingerprint of an earlier run's ledger, or refuse what is none of this bank."""
    about = folder / "run.json"
    if not (about.is_file() and (folder / "ledger.csv").is_file()):
        raise InputError(f"{folder} is no finished run; --since names the folder of an earlier one")
    if (theirs := json.loads(about.read_text("utf-8"))["bank"]["name"]) != bank:
        raise InputError(f"{folder} is a run of the bank {theirs}, not of {bank}; --since names one of the same bank")
    return sha((folder / "ledger.csv").read_bytes())


def recovery() -> Path:
    """Return where :func:`crmresearch.lab.recover.report.published` finds its table, which a notebook reads."""
    default = PACKAGE.parents[1] / "outputs" / "reference" / "recovery.csv"
    return Path(os.environ.get("CRMRESEARCH_RECOVERY") or default)


def _names(source: str) -> frozenset[str]:
    """Return what a source imports, by full name: ``from a import b`` is a and perhaps a module a.b.

    Dots in front say that it is looked for beside the source itself.
    """
    names = set()
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            before = "." * node.level + (node.module or "")
            names |= {before, *(f"{before}{'.' * bool(node.module)}{a.name}" for a in node.names)}
    return frozenset(names)


_MAGIC = re.compile(r"^(\s*)[%!?].*", re.M)
_IMPORT = re.compile(r"^[ \t]*((?:import|from)[ \t](?:[^(\n]*\([^)]*\)|.*))", re.M)


def _parsed(source: str) -> ast.Module:
    """Read a source: as Python, else without lines for the shell, else what looks like an import."""
    for text in (source, _MAGIC.sub(r"\1pass", source), "\n".join(_IMPORT.findall(source))):
        with contextlib.suppress(SyntaxError):
            return ast.parse(text)
    return ast.Module([], [])  # the kernel will say why


def _modules(name: str, places: Iterable[Path]) -> set[Path]:
    """Return the files of a module, and of the packages around it, where one of the places has it."""
    parts, found = name.split("."), set()
    for place in places:
        for depth in range(1, len(parts) + 1):
            here = place.joinpath(*parts[:depth])
            found |= {p for p in (here.with_suffix(".py"), here / "__init__.py") if p.is_file()}
        if found:
            break
    return found


def sha(*parts: bytes | str) -> str:
    """Return a fingerprint of texts, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def lock() -> str:
    """Return the fingerprint of what is installed: Python, and exact versions of every distribution."""
    from importlib.metadata import distributions

    names = sorted({f"{d.name}=={d.version}".lower() for d in distributions() if d.name})
    return sha("\n".join([platform.python_version(), *names]))


def find_notebooks(folder: Path | None = None) -> dict[str, Path]:
    """Return the study notebooks by name; by default those of a clone, of ``./notebooks``, or of the package.

    Raises
    ------
    InputError
        If there are none.
    """
    for place in [folder] if folder is not None else parameters.folders():
        found = {p.stem: p for p in sorted(place.glob("[0-9][0-9]_*.ipynb"))}
        if found:
            return found
    raise InputError("no notebooks here; a study's notebook is named like 05_example.ipynb")


def select(available: Iterable[str], studies: Iterable[str] | None = None) -> list[str]:
    """Return the notebooks chosen by name or number (all when ``studies`` is None), in their order.

    Raises
    ------
    InputError
        If a study is unknown; the nearest one is named.
    """
    names = sorted(available)
    if studies is None:
        return names
    chosen = set()
    for study in studies:
        wanted = study.strip().removesuffix(".ipynb")
        match = [n for n in names if wanted in (n, n.partition("_")[0], n.partition("_")[2])]
        if not match:
            known = [*names, *(n.partition("_")[2] for n in names)]
            raise InputError(f"no study {study.strip() or '(empty)'}; {parameters.near(wanted, known, 'there are')}")
        chosen |= set(match)
    return sorted(chosen)


def split(notebooks: Mapping[str, Path], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each notebook the values it takes, all but the bank, which is the run's.

    Raises
    ------
    InputError
        If a value names the bank, or :func:`crmresearch.parameters.split` refuses one.
    """
    if "bank_name" in values:
        raise InputError("the bank of a run is named once: use --bank NAME instead of -p bank_name=NAME")
    return parameters.split(notebooks, values)


def load(bank: str, from_dir: Path | None = None) -> Bank:
    """Load the bank once, before any kernel asks for it."""
    from crmresearch.data.bank import open_bank
    from crmresearch.data.sources import names, open_data

    if from_dir is not None and bank in open_data.catalogue():
        open_data.get(bank, from_dir)
    opened = open_bank(bank, from_dir)
    use(opened.about.disclosure)
    name = opened.about.name
    if bank != name and name in {row["name"] for row in names.listing() if row["status"] != "own files"}:
        raise InputError(f"{bank} calls its bank {name}, the name of an embedded one; rename it in bank.yaml")
    return opened
