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
import os
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from crmresearch.errors import InputError


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
            return str(template).format_map(values)
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
