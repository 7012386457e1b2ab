"""Every sentence, label and alt text of the project, by key, in the reader's language.

A language is one file beside this one (``en.yaml``): a tree of templates. A template is filled with typed values, whose
formats it carries itself, as in ``{line.value:.2f}`` or ``{row[kept]:.1%}``, so that no module formats a number and no
module holds a sentence. A module asks for its own branch once::

    say = words.of("churn.relationship")
    say("sentence", main=main, n=n)

Keys are literal, and the values those that the template names: a test reads both sides and compares. What is written in
English elsewhere (the register, the catalogue of banks, parameters of notebooks, verdicts, columns of tables) is looked
up by its English text in the branch ``elsewhere`` of other languages: see :func:`local`.
"""

from __future__ import annotations

import functools
import math
import numbers
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Formatter
from typing import Any

from crmresearch.errors import InputError
from crmresearch.rules import blunt, few, rounded, rules

CHOSEN = {"rate", "margin"}  # no share of anybody
CELLS = "cells"  # what a cell says that is the name of a column, too, which is called otherwise
NOTHING = "–"  # a number that is not there, or must not be told

_BROAD = re.compile("[\u3400-\u9fff]")  # Chinese characters
LANGUAGE = "CRMRESEARCH_LANG"  # by environment, so that it reaches kernels, and notebooks that papermill runs by hand


@functools.cache
def catalogue(language: str) -> Mapping[str, Any]:
    """Return the tree of templates of a language.

    Raises
    ------
    InputError
        If there is no such language.
    """
    path = files(__package__) / f"{language}.yaml"
    if not path.is_file():
        known = sorted(p.name.removesuffix(".yaml") for p in files(__package__).iterdir() if p.name.endswith(".yaml"))
        raise InputError(f"no words in the language '{language}'; there are {', '.join(known)}")
    return dict(parsed(path.read_text(encoding="utf-8")))


def parsed(text: str) -> Any:
    """Parse a YAML file of the package, where there is one with the parser in C: a seventh of the time."""
    import yaml

    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def languages() -> list[str]:
    """Return the readers' languages: ``CRMRESEARCH_LANG``, as in ``zh`` or ``en,zh``, or English.

    The first is spoken; a site is built in the others, too.
    """
    return os.environ.get(LANGUAGE, "en").split(",")


def language() -> str:
    """Return the language that is spoken."""
    return languages()[0]


def choose(*languages: str) -> None:
    """Set the readers' languages for this process and those it starts; one without words is refused."""
    for one in languages:
        catalogue(one)
    os.environ[LANGUAGE] = ",".join(dict.fromkeys(languages))


@functools.cache
def _elsewhere(language: str) -> Mapping[str, str]:
    groups = catalogue(language).get("elsewhere", {}).items()
    return {english: text for name, group in groups if name != CELLS for english, text in group.items()}


@functools.cache
def _cells(language: str) -> Mapping[str, str]:
    return dict(catalogue(language).get("elsewhere", {}).get(CELLS, {}))


@functools.cache
def _back() -> dict[str, str]:
    """English of what other languages say for it, as a run in one of them wrote it."""
    others = (p.name.removesuffix(".yaml") for p in files(__package__).iterdir() if p.name.endswith(".yaml"))
    return {text: english for other in others for of in (_elsewhere, _cells) for english, text in of(other).items()}


def back(text: str) -> str:
    """Return the English of a name of a column, a value or a unit in another language; of others, what they are."""
    return _back().get(text, text) if _BROAD.search(text) else text


def local(text: str) -> str:
    """Return in the reader's language what is written in English elsewhere; a bank's own words stay what they are."""
    if language() == "en":
        return back(text)
    plain = " ".join(text.split())
    return remember(_elsewhere(language()).get(plain) or _filled(plain, language()) or text, text)


def cell(text: str) -> str:
    """Return in the reader's language what a cell of a table says; a column of that name may be called otherwise."""
    said = _cells(language()).get(text)
    return remember(said, text) if said else local(text)


@functools.cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Reasons with values in them, which other modules write in English, as what they match."""
    with_values = ((k, v) for k, v in _elsewhere(language).items() if "{" in k)
    return [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^;]+)", re.escape(k))), v) for k, v in with_values]


@functools.lru_cache(4096)
def _filled(text: str, language: str) -> str:
    """Translate a reason that has values in it, or several; empty where it is none."""
    if text.count(" ") < 2:
        return ""
    for pattern, template in _patterns(language):
        if found := pattern.fullmatch(text):
            # a single word is the name of a bank, a table or a column
            given = found.groupdict().items()
            return template.format_map({name: local(value) if " " in value else value for name, value in given})
    parts = text.split("; ")
    if len(parts) > 1 and local(parts[-1]) == parts[-1]:  # the rest of a reason that is the first one's last value
        for found in filter(None, (pattern.fullmatch(parts[0]) for pattern, _ in _patterns(language))):
            *_, value = found.groups()
            whole = text[len(parts[0]) - len(value) :]
            if parts[0].endswith(value) and (said := local(whole)) != whole:
                return local(parts[0]).removesuffix(value) + said
    return local("; ").join(map(local, parts)) if len(parts) > 1 and any(local(p) != p for p in parts) else ""


_ENGLISH: dict[str, str] = {}  # what was said in another language, for figures without a font for its signs


def remember(text: str, english: str) -> str:
    """Keep what a text is in English; return the text."""
    if text != english:
        _ENGLISH[text] = english
    return text


def english(text: str) -> str:
    """Return the English of what was said in the reader's language, and of what was put together from it."""
    if text in _ENGLISH or text.isascii():
        return _ENGLISH.get(text, text)
    known = _back() | _ENGLISH
    for part in sorted((p for p in known if p in text), key=len, reverse=True):
        text = text.replace(part, known[part])
    return text


_PEOPLE = re.compile(
    r"(?<!least )(?<!than )(?<!needs )(?<![\w.,])\d+(?:,\d{3})*(?= (?:of [\d,]+ )?"
    r"(?:rows?|customers?|persons?|people|prospects|spells?|exits?|wins|answers|respondents|referrals)\b)"
)


def told(reason: str) -> str:
    """Return why something cannot be answered, as an estimator wrote it, its numbers of people as they are told."""
    return _PEOPLE.sub(lambda n: counted(int(n[0].replace(",", ""))), reason)


def counted(n: Any) -> str:
    """Write a count: one of few as <10, another one rounded where the rules say so."""
    return rules.below if few(n) else f"{rounded(n):,.0f}"


def written(number: Any, spec: str) -> str:
    """Write a number by its format; ``.2m`` is money, of any currency: two digits that count, no cents of 100,000."""
    if not spec.endswith("m"):
        return format(number, spec)
    head, _, digits = spec[:-1].rpartition(".")
    size = math.floor(math.log10(abs(number))) if number and math.isfinite(number) else 5
    fewest = 0 if size >= 5 else int(digits)
    return format(number, f"{head}.{max(fewest, 0 if number % 1 == 0 else 1 - size)}f")


def _ends(value: Any) -> list[Any]:
    """Ends of the interval of an estimate, of whatever kind; of a plain number none."""
    return [getattr(value, f"ci_{end}", getattr(value, end, None)) for end in ("low", "high")]


class Careful(Formatter):
    """Fill templates, and tell no number of few people: the door of every sentence, title, label and legend.

    A number that is missing is a dash. So is every number of a value that counts its people (``n``) and counts few, and
    of a table's row that is suppressed. A count is a whole number written with ``,``: see :func:`counted`. A number
    with a direction says it in words, and its interval likewise: ``{change:rose|fell} by {change:||.1%}``. Money ends
    in ``m``, as in ``{cost:,.0m}``: see :func:`written`.
    """

    def vformat(self, format_string: str, args: Any, kwargs: Any) -> str:
        """Fill a template; where counts are rounded, its shares are those of round counts of the people it counts."""
        if rules.base > 1:
            fields = [(name or "", spec or "") for _, name, spec, _ in self.parse(format_string)]
            counts = [
                kwargs[name] for name, spec in fields if spec == "," and isinstance(kwargs.get(name), numbers.Real)
            ]
            n = min((n for n in counts if not few(n)), default=math.nan)
            shares = {name for name, spec in fields if spec.endswith("%")} & kwargs.keys() - CHOSEN
            kwargs = {**kwargs, **{name: blunt(kwargs[name], n) for name in shares}}
        return super().vformat(format_string, args, kwargs)

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
        number = getattr(value, "value", value)  # of an estimate
        if isinstance(number, numbers.Real) and number != number:
            return NOTHING if format_spec.count("|") != 1 else format_spec.partition("|")[0]
        if "|" in format_spec and isinstance(number, numbers.Real):  # words for up and down, and a number without sign
            up, down, *spec = format_spec.split("|")
            word, way = (down, -1) if number < 0 else (up, 1)
            span = [way * end for end in _ends(value)[::way] if end is not None and spec]
            told_of = [written(x, spec[0]) for x in (way * number, *span)] if spec else []
            return word + "".join(told_of[:1]) + (f" [{', '.join(told_of[1:])}]" if span else "")
        if format_spec == "," and isinstance(value, numbers.Real):
            return counted(value)
        if format_spec.endswith("m") and isinstance(number, numbers.Real):
            span = [written(end, format_spec) for end in _ends(value) if end is not None]
            return written(number, format_spec) + (f" [{', '.join(span)}]" if span else "")
        return str(super().format_field(local(told(value)) if isinstance(value, str) else value, format_spec))


careful = Careful()


class Words:
    """One branch of the catalogue; see :func:`of`."""

    def __init__(self, branch: str) -> None:
        self.branch = branch

    def _find(self, key: str, spoken: str) -> Any:
        node: Any = catalogue(spoken)
        for part in f"{self.branch}.{key}".split("."):
            if not isinstance(node, Mapping) or part not in node:
                raise InputError(f"no words for {self.branch}.{key} in {spoken}.yaml")
            node = node[part]
        return node

    def __call__(self, key: str, /, **values: Any) -> str:
        """Fill one template.

        Raises
        ------
        InputError
            If the key is unknown, or a value that the template names is not given.
        """
        texts = [str(self._find(key, spoken)) for spoken in dict.fromkeys((language(), "en"))]
        try:
            said, *other = (careful.vformat(text, (), values) for text in texts)
            return remember(said, english(other[0])) if other else said
        except (KeyError, AttributeError, IndexError) as error:
            raise InputError(f"{self.branch}.{key} needs a value that is not there: {error}") from None

    def names(self, key: str) -> Mapping[str, str]:
        """Return a branch of plain names (labels of parts, causes, models), in its order."""
        found = dict(self._find(key, language()))
        if language() != "en":
            for name, text in self._find(key, "en").items():
                remember(str(found[name]), str(text))
        return found


def of(branch: str) -> Words:
    """Return the words of one branch, such as ``"churn.relationship"``."""
    return Words(branch)


def joined(parts: list[str] | tuple[str, ...], by: str = "; ") -> str:
    """Join fragments, leaving out empty ones, by a sign of the reader's language."""
    return local(by).join(p for p in parts if p)
