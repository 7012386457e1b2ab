"""What of a run must not leave: identifiers, small cells, paths and secrets, in every file that can be read.

``run``, ``site``, ``check`` and ``release`` use this one scan. Text is read by lines, JSON and notebooks by their
strings, CSV, Parquet and HTML also as tables, pictures by the text that they carry beside their pixels.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import html
import io
import json
import re
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crmresearch import disclosure, identifiers, ledger
from crmresearch.rules import rules
from crmresearch.run.people import People

PRIVATE = "restricted"  # lists of customers, which stay where they are
HERE = ("local path", "object address")  # what logs may tell, which never leave
PNG, PARQUET, GZIP = b"\x89PNG\r\n\x1a\n", b"PAR1", b"\x1f\x8b"
_COUNTS = (
    "n customers clients people persons prospects respondents exits events left stayed wins kunden personen anzahl "
    "客户数 人数"
)
COUNTS = frozenset(_COUNTS.split())  # columns that count people, whatever a table calls them
_IMPERSONAL = [[line] for line in ledger.IMPERSONAL]


@dataclass(frozen=True)
class Breach:
    """One place in a file that must not leave; what stands there is not repeated."""

    file: str
    rule: str
    where: str


@dataclass
class Report:
    """What a scan found, in how many files, and what it did not look at, in words.

    ``people`` is false where it was not known whose identifiers to look for; ``unread`` names files of other kinds.
    """

    breaches: list[Breach] = field(default_factory=list)
    files: int = 0
    left_out: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    people: bool = True


# --- what is looked for in a text ------------------------------------------------------------------------------------

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
_EMBEDDED = re.compile(r"data:[\w.+-]+/[\w.+-]+[^,\s]{0,40};base64,([A-Za-z0-9+/=\s]+)")
_FINGERPRINT = re.compile(r"\b[0-9a-f]{64}\b")  # of a picture, which is called by it
_DRAWN = re.compile(r'\b(?:d|points)="[MLHVCSQTAZmlhvcsqtaz\d\s.,+-]*"')  # coordinates of a drawing, which say nothing
_INLINE = re.compile(r"</?(?:a|abbr|b|code|em|i|mark|small|span|strong|sub|sup|u|wbr)\b[^>]*>", re.I)


@functools.lru_cache(maxsize=300_000)
def _said(text: str, people: People) -> frozenset[str]:
    """What in a text must not leave: names of rules. Lines that return are looked at once."""
    text = _FINGERPRINT.sub("…", text)
    found = people.named(text) | {rule for rule, pattern in _RULES if pattern.search(text)}
    for shape in _SHAPES:
        if any(shape.holds is None or shape.holds(m[0]) for m in shape.pattern.finditer(text)):
            found.add(shape.what)
    return frozenset(found)


def _heading(name: str) -> str | None:
    """Tell whether a column's heading announces what identifies people."""
    name = name.strip()
    if _HEADER.fullmatch(name):
        return "identifier column"
    kind = identifiers.named(name)
    return f"column of {kind}" if kind and name.casefold() not in ("name", "names") else None


# --- how a file is read ----------------------------------------------------------------------------------------------

Piece = tuple[str, str]  # where, and what stands there


class _Unreadable(Exception):
    """A file of a kind whose content cannot be looked at."""


class _Reader:
    """Looks through one file after another."""

    def __init__(self, people: People, least: int) -> None:
        self.said, self.least = functools.partial(_said, people=people), least

    def file(self, path: Path, name: str) -> Iterator[tuple[str, str]]:
        """Yield what a file holds that must not leave: where, and the rule."""
        yield from (("its name", rule) for rule in sorted(self.said(name)))
        if path.is_symlink():
            yield "the file", "link to another place"
            return
        with path.open("rb") as handle:
            start = handle.read(8)
        if start[:4] == PARQUET:
            yield from self.parquet(path)
            return
        content = path.read_bytes()
        ending = path.suffix.lower()
        if start[:2] == GZIP:
            try:
                content, ending = gzip.decompress(content), Path(path.stem).suffix.lower()
            except (OSError, EOFError, zlib.error):
                raise _Unreadable from None
        if path.name == "searchindex.js":  # words, and the numbers of their pages
            content = re.sub(rb":(?:\d+|\[[\d,\s\[\]]*\])", b": ", content)
        yield from self.content(content, ending)

    def content(self, content: bytes, ending: str) -> Iterator[tuple[str, str]]:
        """Look through the content of a file."""
        if content.startswith(PNG):
            yield from self.lines(png_texts(content))
            return
        text = _decoded(content)
        if ending in (".ipynb", ".json"):
            try:
                yield from self.strings(json.loads(text), "")
                return
            except ValueError:
                pass  # not JSON: by its lines
        if ending in (".csv", ".tsv"):
            first = text.partition("\n")[0]
            yield from self.table(csv.reader(io.StringIO(text), delimiter=max(",;\t|", key=first.count)))
            return
        yield from self.text(_DRAWN.sub("", text) if ending == ".svg" else text)

    def text(self, text: str, within: str = "") -> Iterator[tuple[str, str]]:
        """Look through a text by lines and tables, and into what is embedded in it."""
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{within}line {number}"
            for match in _EMBEDDED.finditer(line) if "base64," in line else ():
                with contextlib.suppress(_Unreadable):  # pixels, fonts
                    yield from ((f"{where}, embedded {w}", rule) for w, rule in self.content(_base64(match[1]), ""))
            line = html.unescape(_EMBEDDED.sub("", line) if "base64," in line else line)
            yield from self.lines([(where, line)])
            if (shown := _INLINE.sub("", line)) != line:  # as one reads it: words may be marked up in parts
                yield from self.lines([(where, shown)])
        for k, rows in enumerate(_html_tables(text), start=1):
            yield from self.table(rows, f"{within}table {k}, ", cells=False)

    def lines(self, pieces: Iterable[Piece]) -> Iterator[tuple[str, str]]:
        """Look through pieces of text."""
        for where, text in pieces:
            for rule in sorted(self.said(text)):
                yield where, rule

    def strings(self, value: Any, where: str) -> Iterator[tuple[str, str]]:
        """Look through all strings of JSON, names included; of a notebook's images, the text they carry."""
        if isinstance(value, dict):
            for key, part in value.items():
                place = f"{where}, {key}".removeprefix(", ")
                yield from self.lines([(place, key)])
                if key.startswith("image/") and key != "image/svg+xml":
                    with contextlib.suppress(_Unreadable):
                        found = self.content(_base64("".join(part)), "")
                        yield from ((f"{place}, {w}", rule) for w, rule in found)
                elif isinstance(part, str) or (isinstance(part, list) and all(isinstance(p, str) for p in part)):
                    text = part if isinstance(part, str) else ("" if key in _JOINED else "\n").join(part)
                    # what JSON names so, its value is: "customer_id": "17", "password": "…"
                    named = f"{key}: {text}" if len(text) < 200 else text
                    yield from self.text(named, f"{place}, ")
                else:
                    yield from self.strings(part, place)
        elif isinstance(value, list):
            for k, part in enumerate(value):
                yield from self.strings(part, f"{where} {k}".strip())
        elif value is not None and not isinstance(value, bool):
            key = where.rpartition(", ")[2]
            yield from self.text(f"{key}: {value}" if re.fullmatch(r"\w+", key) else str(value), f"{where}, ")

    def parquet(self, path: Path) -> Iterator[tuple[str, str]]:
        """Look through a Parquet file: its notes, its columns, all values."""
        import pyarrow.parquet as parquet

        try:
            file = parquet.ParquetFile(path)
        except Exception as error:
            raise _Unreadable from error
        notes = file.schema_arrow.metadata or {}
        yield from self.lines(("its notes", f"{_decoded(k)}: {_decoded(v)}") for k, v in notes.items())

        def rows() -> Iterator[list[str]]:
            yield list(file.schema_arrow.names)
            for batch in file.iter_batches():
                for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                    yield ["" if v is None else str(v) for v in row]

        yield from self.table(rows())

    def table(self, rows: Iterable[list[str]], within: str = "", cells: bool = True) -> Iterator[tuple[str, str]]:
        """Look at a table: its headings, cells of one to nine people, and columns whose values identify as a whole."""
        rows = iter(rows)
        header = next(rows, [])
        yield from ((f"{within}heading", rule) for name in header if (rule := _heading(name)))
        if cells:
            yield from self.lines((f"{within}line 1", name) for name in header)
        counting = [k for k, name in enumerate(header) if name.strip().casefold() in COUNTS]
        line = header.index("line_id") if "line_id" in header else None  # of a ledger, where some count no people
        different: list[set[str]] = [set() for _ in header]
        for number, row in enumerate(rows, start=2):
            for k in counting if line is None or row[line : line + 1] not in _IMPERSONAL else ():
                if k < len(row) and 0 < (counted(row[k]) or 0) < self.least:
                    yield f"{within}line {number}", f"fewer than {self.least} people in '{header[k]}'"
            for k, cell in enumerate(row):
                if cells:
                    yield from self.lines([(f"{within}line {number}", cell)])
                if k < len(different) and len(cell) > 6 and len(different[k]) < 50_000:
                    different[k].add(cell)
        for name, values in zip(header, different, strict=True):
            if found := identifiers.among(values):
                yield f"{within}column '{name}'", found[0]


_JOINED = ("source", "text", "text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "traceback")


def counted(cell: str) -> int | None:
    """Return what a cell counts, if it does."""
    text = cell.strip().removesuffix(".0")
    return int(text) if text.isdecimal() else None


def least(folder: Path) -> int:
    """Return how many people a number of a run must rest on: as the run was told, and not fewer than now."""
    path = folder / "disclosure.json"
    return max(rules.least, json.loads(path.read_text("utf-8")).get("threshold", 0) if path.exists() else 0)


def _decoded(content: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if b"\0" in content[:100_000]:
        raise _Unreadable
    return content.decode("utf-8", errors="replace")


def _base64(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""


def png_texts(content: bytes) -> list[Piece]:
    """Return the texts that a PNG carries beside its pixels (other images have none that could be read)."""
    found, at = [], len(PNG)
    while content.startswith(PNG) and at + 8 <= len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data, at = content[at + 8 : at + 8 + size], at + 12 + size
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            if kind == b"zTXt" or (kind == b"iTXt" and data.partition(b"\0")[2][:1] == b"\1"):
                name, _, packed = data.partition(b"\0")
                packed = packed[1:] if kind == b"zTXt" else packed[2:].split(b"\0", 2)[-1]
                with contextlib.suppress(zlib.error):
                    data = name + b" " + zlib.decompress(packed)
            found += [("text in the image", t) for t in re.split(r"[\0\n]+", data.decode("utf-8", errors="replace"))]
    if at < len(content) and content.startswith(PNG):
        found.append(("behind the image", content[at:].decode("utf-8", errors="replace")))
    return found


def _html_tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the tables of a page, row by row, without markup."""
    for table in re.findall(r"<table\b.*?</table>", text, re.S | re.I) if "<table" in text else ():
        rows = re.findall(r"<tr\b.*?</tr>", table, re.S | re.I)
        cells = (re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.S | re.I) for row in rows)
        found = [[html.unescape(re.sub(r"<[^>]+>", "", c)).strip() for c in row] for row in cells]
        named = not rows or not re.search(
            r"<td\b", rows[0], re.I
        )  # else each row names itself, and no column has a head
        yield found if named else [[""] * len(found[0]), *found]


# --- a whole run -----------------------------------------------------------------------------------------------------


def scan(folder: Path, people: People | None) -> Report:
    """Look through everything of a run but its lists of customers (``restricted/``).

    Parameters
    ----------
    folder : Path
        A run's folder, or a part of one.
    people : People, optional
        Whose identifiers are looked for; without them the report says that they were not.
    """
    report, reader = Report(people=people is not None), _Reader(people or People.called(()), least(folder))
    images = theme = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == PRIVATE or (path.is_dir() and not path.is_symlink()):
            continue
        if _of_the_theme(path):
            theme += 1
            continue
        try:
            found = list(reader.file(path, name))
        except _Unreadable:
            report.unread.append(name)
            continue
        report.files += 1
        images += path.suffix.lower() == ".png"
        at_home = HERE if name.startswith("logs/") else ()
        report.breaches += [Breach(name, rule, where) for where, rule in dict.fromkeys(found) if rule not in at_home]
    said = {
        f"{PRIVATE}/, which stays here": (folder / PRIVATE).is_dir(),
        f"the pixels of {images} pictures": images,
        f"{theme} files of the site's theme, the same as installed": theme,
        f"what cannot be read: {', '.join(report.unread)}": report.unread,
        "identifiers of customers, as their bank is not known": people is None,
    }
    report.left_out = [words for words, so in said.items() if so] + (people.left_out if people else [])
    return report


@functools.cache
def _theme() -> dict[str, list[Path]]:
    """Files that the site's pages are dressed with, as they are installed, by name."""
    import importlib.util

    found: dict[str, list[Path]] = {}
    for package in ("sphinx", "pydata_sphinx_theme", "myst_nb"):
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(place).rglob("static/**/*"):
                found.setdefault(path.name, []).append(path)
    return found


def _of_the_theme(path: Path) -> bool:
    """Tell whether a file of the site is one that came with its theme, byte by byte."""
    if "_static" not in path.parts or path.is_symlink():
        return False
    content = path.read_bytes()
    return any(p.is_file() and p.read_bytes() == content for p in _theme().get(path.name, ()))
