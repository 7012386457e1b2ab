"""Every sentence, label and alt text of the project, by key, in the reader's language.

A language is one file beside this one (``en.yaml``): a tree of templates. A template is filled with typed values, whose
formats it carries itself, as in ``{line.value:.2f}`` or ``{row[kept]:.1%}``, so that no module formats a number and no
module holds a sentence. A module asks for its own branch once::

    say = words.of("churn.relationship")
    say("sentence", main=main, n=n)

Keys are literal, and the values those that the template names: a test reads both sides and compares.
"""

from __future__ import annotations

import functools
import numbers
import os
from collections.abc import Mapping
from importlib.resources import files
from string import Formatter
from typing import Any

from crmresearch.errors import InputError
from crmresearch.rules import few, rules

NOTHING = "–"  # a number that is not there, or must not be told


@functools.cache
def catalogue(language: str) -> Mapping[str, Any]:
    """Return the tree of templates of a language.

    Raises
    ------
    InputError
        If there is no such language.
    """
    import yaml

    path = files(__package__) / f"{language}.yaml"
    if not path.is_file():
        known = sorted(p.name.removesuffix(".yaml") for p in files(__package__).iterdir() if p.name.endswith(".yaml"))
        raise InputError(f"no words in the language '{language}'; there are {', '.join(known)}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load(path.read_text(encoding="utf-8"), loader))


def language() -> str:
    """Return the reader's language: ``CRMRESEARCH_LANGUAGE``, or English."""
    return os.environ.get("CRMRESEARCH_LANGUAGE", "en")


class Careful(Formatter):
    """Fill templates, and tell no number of few people: the door of every sentence, title, label and legend.

    A number that is missing is a dash. So is every number of a value that counts its people (``n``) and counts few, and
    of a table's row that is suppressed. A count is a whole number written with ``,``: one of few is written <10.
    """

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """Find a value, and see whether what it is a part of may be told."""
        value, first = super().get_field(field_name, args, kwargs)
        whole = kwargs[first]
        asked = getattr(whole, "get", lambda name: getattr(whole, name, None))
        n, rule = asked("n"), asked("suppressed")
        untold = (isinstance(n, numbers.Real) and few(n)) or (isinstance(rule, str) and rule)
        if untold and not isinstance(value, str) and value is not n:
            value = float("nan")
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        """Write one value."""
        if isinstance(value, numbers.Real) and value != value:
            return NOTHING
        if format_spec == "," and isinstance(value, numbers.Real) and few(value):
            return rules.below
        return str(super().format_field(value, format_spec))


careful = Careful()


class Words:
    """One branch of the catalogue; see :func:`of`."""

    def __init__(self, branch: str) -> None:
        self.branch = branch

    def _find(self, key: str) -> Any:
        node: Any = catalogue(language())
        for part in f"{self.branch}.{key}".split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise InputError(f"no words for {self.branch}.{key} in {language()}.yaml")
            node = node[part]
        return node

    def __call__(self, key: str, /, **values: Any) -> str:
        """Fill one template.

        Raises
        ------
        InputError
            If the key is unknown, or a value that the template names is not given.
        """
        template = self._find(key)
        try:
            return careful.vformat(str(template), (), values)
        except (KeyError, AttributeError, IndexError) as error:
            raise InputError(f"{self.branch}.{key} needs a value that is not there: {error}") from None

    def names(self, key: str) -> Mapping[str, str]:
        """Return a branch of plain names (labels of parts, causes, models), in its order."""
        return dict(self._find(key))


def of(branch: str) -> Words:
    """Return the words of one branch, such as ``"churn.relationship"``."""
    return Words(branch)


def joined(parts: list[str] | tuple[str, ...], by: str = "; ") -> str:
    """Join fragments, leaving out empty ones."""
    return by.join(p for p in parts if p)
