"""The package's reference, from its docstrings: what an author of notebooks, studies or estimators calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import isclass, isfunction
from itertools import groupby
from pkgutil import iter_modules

from crmresearch import words
from crmresearch.run.site.chips import raw, toctree

say = words.of("site.api")
FOLDER = "api"
PARTS = (
    *("notebook", "result", "answer", "figures", "ledger", "parameters", "disclosure", "errors"),
    *("data.bank", "data.contract", "data.description", "data.reductions", "studies", "estimators"),
)


def index(names: Iterable[str]) -> str:
    """Write the page that leads to the others."""
    listed = "".join(f'<li><a href="{name}.html">{name.partition("/")[2]}</a></li>' for name in names)
    return "\n".join([say("title"), raw(f"<ul>{listed}</ul>"), *toctree(names)])


def pages() -> dict[str, str]:
    """Write the reference: a page for each module, or package of modules, that offers something."""
    offered = [pair for part in PARTS for pair in _offered(f"crmresearch.{part}")]
    grouped = groupby(offered, lambda pair: ".".join(pair[0].split(".")[1:3]))
    return {
        f"{FOLDER}/{name}": f"# {name}\n\n" + "\n".join(_section(*pair) for pair in pairs) for name, pairs in grouped
    }


def _offered(name: str) -> Iterator[tuple[str, list[str]]]:
    """What a module offers, by its full name: functions and classes that are its own and not private."""
    module = import_module(name)
    found = {k: v for k, v in vars(module).items() if not k.startswith("_") and (isfunction(v) or isclass(v))}
    own = [
        f"auto{'class' if isclass(v) else 'function'}:: {name}.{k}"
        for k, v in found.items()
        if v.__doc__ and f"{v.__module__}.".startswith(f"{name}.")
    ]
    if own:
        yield name, own
    if all(v.__module__ == name for k, v in found.items() if f"{v.__module__}.".startswith(f"{name}.")):
        for inner in iter_modules(getattr(module, "__path__", ())):
            yield from _offered(f"{name}.{inner.name}")


def _section(name: str, own: list[str]) -> str:
    directives = "\n".join(f".. {directive}" for directive in own)
    return f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n\n{directives}\n```\n"
