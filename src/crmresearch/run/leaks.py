"""What must not stand in a text or a row: identifiers, paths, secrets, and counts of few people; how a text reads.

A text is looked at as it stands and as it reads when marks, entities, escapes, base64, base32 and hex are undone.
Identifiers are looked for as whole words, and in longer ones where letters and digits meet.
"""

from __future__ import annotations

import contextlib
import functools
import html
import re
import unicodedata
from base64 import b32decode, urlsafe_b64decode
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from crmresearch import disclosure, identifiers, words
from crmresearch.run.people import People

_COUNTS = (
    "n customers clients people persons prospects respondents exits events left stayed wins kunden personen anzahl "
    "members referrals leavers invited answered sold 客户数 人数"
)
COUNTS = frozenset(_COUNTS.split())  # columns that count people, whatever a table calls them
_OF = {"number", "of", "total", "count", "der", "von", "the", "all"}  # words beside those
_TOP = "home root tmp Users work mnt private data opt srv var etc usr media Volumes nfs export proc scratch run net app"
_PERSON = r"(?:customer|client|kunden?|prospect|account|konto|person|member|user|referrer|manager|holder)s?"
_NUMBERED = r"(?:id|nr|no|num|number|nummer|key|code)"
_CALL = r"(?i:\b(?:tel|phone|telephone|telefon|mobile?|mobil|fax|handy|tél|whatsapp)\w*|电话|手机|電話)\W{0,4}"
RULES = [
    ("object address", r"\bat 0x[0-9a-f]{6,}\b"),
    ("local path", rf"(?<![\w/.:~…-])/(?:{'|'.join(_TOP.split())})/[^\s\"'<>]+"),
    ("local path", r"(?<!\w)file:/{1,3}[\w.]"),
    ("local path", r"(?<![\w\\])(?:[A-Z]:\\{1,2}(?![nrtu]\b)\w|[a-z]:\\{1,2}[\w .$-]+(?:\\|\.\w))"),
    ("local path", r"(?<!\\)\\\\[A-Za-z][\w.-]+\\{1,2}[\w$][\w.$-]*(?:\\|\.\w|\s|$)"),
    ("local path", r"(?<![\w/])~/?[\w.-]*/[\w.-]+/"),
    ("password in an address", r"\b[A-Za-z][\w+.-]*://[^\s/:@\"'<>]*:[^\s/@\"'<>]+@"),
    ("secret", r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,})"),
    ("secret", r"\b(?:sk|pk|rk)[-_][\w-]{20,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.|-----BEGIN [A-Z ]*PRIVATE KEY"),
    ("secret", r"(?i)(?<![\w-])(?:\w*password|passwd|pwd|\w*secret|\w*api[_-]?key|\w*token)[\"']?\s*[=:]\s*"
               r"[\"']?(?=[^\s\"'<>]*\d)[^\s\"'<>(){}\[\],;]{8,}"),
    ("secret", r"(?i)\bauthorization\W{1,4}(?:bearer|basic)\s+\S{8,}"),
    ("telephone number", _CALL + r"(?:\+|\b0)\d(?:[ ./()-]{0,3}\d){6,13}\b"),
    ("telephone number", r"(?<![\w.,+-])1(?:3\d|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9\d)\d{8}(?![\w.,]?\d)"),
]  # fmt: skip
_RULES = [(rule, re.compile(pattern)) for rule, pattern in RULES]
_SHAPES = [s for s in identifiers.SHAPES if not s.pattern.pattern.startswith("^")]
_IDS = f"{_PERSON}[\\W_]*{_NUMBERED}|{'|'.join(disclosure.IDENTIFIER_COLUMNS)}"
_HEADER = re.compile(rf"{_IDS}|(?:客户|客戶|会员|用户)(?:号|號|编号|编码|id)", re.I)
_FINGERPRINT = re.compile(r"\b[0-9a-f]{64}\b")  # of a picture, which is called by it
_TOLD = re.compile(
    r"(?<![\w.,%<-])(?<!least )(?<!than )(?<!needs )([1-9][\d,]*)(?= (?:of [\d,]+ )?"
    r"(?:customers?|clients?|leavers?|persons?|people|prospects?|exits?|respondents?)\b(?!-))"
    r"|\b[nN] ?= ?(\d[\d,]*)(?![\d.]*\d)|([1-9]\d*) ?[位名](?:客户|潜在客户|受访者|人)"
    r"|\b(?:[Cc]ustomers|[Cc]lients|[Pp]ersons|[Pp]eople|[Pp]rospects|[Rr]espondents) ?[=:] ?([1-9][\d,]*)(?![\d.]*\d)"
)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]|\x1b\\[[0-9;]*m|<!--.*?-->")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\([0-9a-fA-F]{2}) ")  # of JSON, scripts, style sheets
_CODED = re.compile(r"[%\\&\x1b]|[^\x00-\x7f]|<!--")
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:0[xX])?((?:[0-9a-fA-F]{2}[ :,-]?){6,})(?![0-9A-Za-z])")
_PACKED = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{12,}={0,2}(?![\w+/=-])")


def _readings(text: str) -> Iterator[str]:
    """Yield a text as it stands, with marks, entities and escapes undone, and what it holds in base64, base32, hex."""
    yield text
    plain = text
    for _ in range(3 if _CODED.search(text) else 0):
        plain = _ESCAPED.sub(lambda m: chr(int(m[1] or m[2] or m[3], 16)), plain) if "\\" in plain else plain
        plain = html.unescape(unquote(_UNSEEN.sub("", plain)))
    if not plain.isascii():
        plain = "".join(str(unicodedata.decimal(c, c)) for c in plain)
    plain = re.sub(r"([\"'])\s*\+\s*\1", "", plain)  # what a script puts together
    if plain != text:
        yield plain
    if (shown := re.sub(r"\*\*|`|\\(?=\W)", "", plain)) != plain:  # marks of Markdown
        yield shown
    for match in _PACKED.finditer(plain):
        for read in (_base64, _base32):
            with contextlib.suppress(ValueError):
                if (packed := read(match[0]).decode()).isprintable():
                    yield packed
    for match in _HEX.finditer(plain):
        with contextlib.suppress(ValueError):
            if (packed := bytes.fromhex(re.sub(r"\W", "", match[1])).decode()).isprintable():
                yield packed


_SAFE = str.maketrans("+/", "-_")


def _base64(text: str) -> bytes:
    return urlsafe_b64decode(f"{text.translate(_SAFE).rstrip('=')}===")


def _base32(text: str) -> bytes:
    text = text.rstrip("=").upper()
    return b32decode(text + "=" * (-len(text) % 8))


def told(text: str) -> Iterator[tuple[str, int]]:
    """Yield the counts of people that a text tells, each with the words before it."""
    text = re.sub(r"\s", " ", text)  # blanks of every width
    for found in _TOLD.finditer(text):
        before = re.sub(r"[\d,.]+", "#", text[max(0, found.start() - 60) : found.start()])
        yield before, int(next(filter(None, found.groups())).replace(",", ""))


@functools.lru_cache(maxsize=300_000)
def said(text: str, people: People, least: int) -> frozenset[str]:
    """What in a text must not leave: names of rules. Lines that return are looked at once."""
    found: set[str] = set()
    for reading in _readings(_FINGERPRINT.sub("…", text)):
        found |= people.named(reading) | {rule for rule, pattern in _RULES if pattern.search(reading)}
        found |= {f"fewer than {least} people" for _, n in told(reading) if 0 < n < least}
        for shape in _SHAPES:
            if any(shape.holds is None or shape.holds(m[0]) for m in shape.pattern.finditer(reading)):
                found.add(shape.what)
    return frozenset(found)


def heading(name: str) -> str | None:
    """Tell whether a column's heading announces what identifies people."""
    name = name.strip()
    if _HEADER.fullmatch(name):
        return "identifier column"
    kind = identifiers.named(name)
    return f"column of {kind}" if kind and name.casefold() not in ("name", "names") else None


# --- rows of tables --------------------------------------------------------------------------------------------------


@functools.lru_cache(10_000)
def of_people(name: str) -> bool:
    """Tell whether a heading announces a count of people, in a language that there are words of."""
    said = set(re.split(r"[\W_\d]+", words.back(name.strip()).casefold())) - {""}
    return (bool(said & COUNTS) and said <= COUNTS | _OF) or said in ({"count"}, {"at", "risk"})


def shared(row: Mapping[str, str], whole: float) -> Iterator[tuple[str, int]]:
    """Yield the counts that shares of a row give back, where they are written to enough digits to be sure."""
    for name, cell in row.items():
        if re.search(r"(?i)share|percent|anteil|占比", words.back(name)) and number(cell.removesuffix("%")):
            part = whole * float(cell.removesuffix("%")) / (100 if cell.endswith("%") else 1)
            if abs(part - round(part)) < 1e-6 * whole:
                yield name, round(part)


def measured(cell: Any) -> float | None:
    """Return the number of a cell, if it is one; its share, its interval or a mark may stand behind it."""
    text = re.sub(r"\s*(?:\([^)]*\)|\[[^]]*\]|[*†‡])$", "", str(cell).strip()).removeprefix("~").replace(",", "")
    return float(text) if number(text) else None


def counted(cell: Any) -> int | None:
    """Return what a cell counts, if it does."""
    n = measured(cell)
    return int(n) if n is not None and n.is_integer() else None


def number(cell: str) -> bool:
    """Tell whether a cell is a number."""
    return bool(re.fullmatch(r"\s*-?\d*\.?\d+\.?(?:e[+-]?\d+)?\s*", cell, re.I))
