"""What of a run must not leave: identifiers, small cells, paths and secrets, in every file that can be read.

``run``, ``site``, ``check`` and ``release`` use this one scan; what it looks for is in :mod:`.leaks`. Text is read by
lines, JSON and notebooks by their strings, CSV, Parquet, HTML and Markdown also as tables, pictures by what they carry
beside their pixels.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import html
import io
import itertools
import json
import re
import zlib
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crmresearch import disclosure, identifiers, ledger, words
from crmresearch.data.tables import TABLES
from crmresearch.rules import rules
from crmresearch.run.leaks import counted, heading, measured, of_people, said, shared
from crmresearch.run.people import People

PRIVATE = "restricted"  # lists of customers, which stay where they are
HERE = ("local path", "object address")  # what logs may tell, which never leave
_END = b"IEND\xaeB`\x82"  # how a PNG ends
PNG, PARQUET, GZIP = b"\x89PNG\r\n\x1a\n", b"PAR1", b"\x1f\x8b"
_WHOLES, _PARTS = ("n", "prospects", "customers", "invited"), ("left", "exits", "stayed", "wins", "answered", "sold")
_TOTAL = re.compile(r"(?i)(?:grand )?total|sum|summe|gesamt|overall|合计|总计")
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
    ``alike`` are rows of two tables that somebody who knows whom they count must look at: see :meth:`_Reader.beside`.
    """

    breaches: list[Breach] = field(default_factory=list)
    files: int = 0
    left_out: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    people: bool = True
    alike: list[str] = field(default_factory=list)


_EMBEDDED = re.compile(r"data:[\w.+-]+/[\w.+-]+[^,\s]{0,40};base64,([A-Za-z0-9+/=\s]+)")
_DRAWN = re.compile(r'\b(?:d|points)="[MLHVCSQTAZmlhvcsqtaz\d\s.,+-]*"')  # coordinates of a drawing, which say nothing
_INLINE = re.compile(r"</?(?:a|abbr|b|code|em|i|mark|small|span|strong|sub|sup|tspan|u|wbr)\b[^>]*>", re.I)


# --- how a file is read ----------------------------------------------------------------------------------------------

Piece = tuple[str, str]  # where, and what stands there
Groups = Sequence[Sequence[str | int]]  # columns that count people, by name or place: a whole and its parts


class _Unreadable(Exception):
    """A file of a kind whose content cannot be looked at."""


class _Reader:
    """Looks through one file after another."""

    def __init__(self, people: People, runs: Sequence[Path]) -> None:
        self.least = max(map(least, runs))
        self.said = functools.partial(said, people=people, least=self.least)
        self.declared: dict[str, list[Groups]] = {}  # by the table's file, which a site holds as well
        for name, groups in ((name, g) for run in runs for name, g in declared(run).items()):
            self.declared.setdefault(name, []).append(groups)
        self.at = ""  # the file that is read
        self.rows: dict[str, dict[frozenset[float], str]] = {}  # what rows of one name count, and where
        self.alike: dict[str, str] = {}

    def file(self, path: Path, name: str) -> Iterator[tuple[str, str]]:
        """Yield what a file holds that must not leave: where, and the rule."""
        self.at = name
        yield from (("its name", rule) for rule in sorted(self.said(name)))
        if path.is_symlink():
            yield "the file", "link to another place"
            return
        if not path.is_file():
            raise _Unreadable
        with path.open("rb") as handle:
            start = handle.read(8)
        if start[:4] == PARQUET:
            yield from self.parquet(path)
            return
        content = path.read_bytes()
        ending = path.suffix.lower()
        if start[:2] == GZIP:
            if content[3] & 8:  # what it was called when it was packed
                yield from self.lines([("its packed name", content[10:500].partition(b"\0")[0].decode("latin-1"))])
            try:
                content, ending = gzip.decompress(content), Path(path.stem).suffix.lower()
            except (OSError, EOFError, zlib.error):
                raise _Unreadable from None
        if path.name == "searchindex.js":  # words, and the numbers of their pages
            content = re.sub(rb":(?:\d+|\[[\d,\s\[\]]*\])", b": ", content)
        yield from self.content(content, ending, self.declared.get(path.name, ()))

    def content(self, content: bytes, ending: str, people: Iterable[Groups] = ()) -> Iterator[tuple[str, str]]:
        """Look through the content of a file; ``people`` declares what a table counts."""
        if content.startswith(PNG):
            yield from self.lines(png_texts(content))
            if not content.endswith(_END):
                yield "behind the image", "what is no part of it"
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
            yield from self.table(csv.reader(io.StringIO(text), delimiter=max(",;\t|", key=first.count)), people=people)
            return
        yield from self.text(_DRAWN.sub("", text) if ending == ".svg" else text)

    def text(self, text: str, within: str = "", beside: Collection[str] = ()) -> Iterator[tuple[str, str]]:
        """Look through a text by lines and tables, and into what is embedded in it; ``beside`` are known headings."""
        broken = ""
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{within}line {number}"
            for match in _EMBEDDED.finditer(line) if "base64," in line else ():
                with contextlib.suppress(_Unreadable):  # pixels, fonts
                    yield from ((f"{where}, embedded {w}", rule) for w, rule in self.content(_base64(match[1]), ""))
            line = _EMBEDDED.sub("", line) if "base64," in line else line
            line, broken = html.unescape(f"{broken}{line.lstrip()}" if broken else line), ""
            if len(line) < 500 and line.rstrip().endswith(("-", "/", "_")):  # a word may go on in the next line
                broken = line.split()[-1]
            yield from self.lines([(where, line)])
            if (shown := _INLINE.sub("", line)) != line:  # as one reads it: words may be marked up in parts
                yield from self.lines([(where, shown)])
        plain = _text_tables(text, "text/plain" in within, beside)
        for k, (people, rows) in enumerate((*html_tables(text), *plain), start=1):
            yield from self.table(rows, f"{within}table {k}, ", cells=False, people=people)

    def lines(self, pieces: Iterable[Piece]) -> Iterator[tuple[str, str]]:
        """Look through pieces of text."""
        for where, text in pieces:
            for rule in sorted(self.said(text)):
                yield where, rule

    def strings(self, value: Any, where: str) -> Iterator[tuple[str, str]]:
        """Look through all strings of JSON, names included; of a notebook's images, the text they carry."""
        if isinstance(value, dict):
            shown = html_tables("".join(value["text/html"])) if {"text/html", "text/plain"} <= value.keys() else ()
            beside = {rows[0][k] for told, rows in shown if rows for own in told for k in own_of(rows[0], own)}
            impersonal = where.rpartition(", ")[2] in ledger.IMPERSONAL or value.get("line_id") in ledger.IMPERSONAL
            for key, part in value.items():
                place = f"{where}, {key}".removeprefix(", ")
                yield from self.lines([(place, key)])
                column = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
                if of_people(key) and not impersonal and any(map(self.few, map(counted, column))):
                    yield place, f"fewer than {self.least} people"
                if re.fullmatch(r"image/(?!svg)\S+|application/(?!.*json)\S+", key) and not isinstance(part, dict):
                    try:
                        found = list(self.content(_base64("".join(part)), ""))
                    except _Unreadable:
                        found = [("it", "embedded file that cannot be read")]
                    yield from ((f"{place}, {w}", rule) for w, rule in found)
                elif isinstance(part, str) or (isinstance(part, list) and all(isinstance(p, str) for p in part)):
                    text = part if isinstance(part, str) else ("" if key in _JOINED else "\n").join(part)
                    # what JSON names so, its value is: "customer_id": "17", "password": "…"
                    named = f"{key}: {text}" if len(text) < 200 and "\n" not in text else text
                    yield from self.text(named, f"{place}, ", beside if key == "text/plain" else ())
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
        schema = file.schema_arrow
        notes = [*(schema.metadata or {}).items(), *(kv for f in schema for kv in (f.metadata or {}).items())]
        yield from self.lines(("its notes", f"{_decoded(k)}: {_decoded(v)}") for k, v in notes)

        def rows() -> Iterator[list[str]]:
            yield list(schema.names)
            for batch in file.iter_batches():
                for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                    yield ["" if v is None else str(v) for v in row]

        attrs: Any = {}
        with contextlib.suppress(ValueError):
            attrs = json.loads((schema.metadata or {}).get(b"PANDAS_ATTRS", b""))  # as a result's table has them
        people = disclosure.grouped(attrs["counts"]) if isinstance(attrs, dict) and "counts" in attrs else None
        yield from self.table(rows(), people=[] if people is None else [people])
        for batch in file.iter_batches():
            for name, column in zip(schema.names, batch.columns, strict=True):
                for value in column.dictionary.to_pylist() if hasattr(column, "dictionary") else ():  # unused ones, too
                    yield from self.lines([(f"column '{name}'", str(value))])
                for value in column.to_pylist() if hasattr(column, "flatten") else ():  # a cell that is a table itself
                    yield from self.strings(value, name)

    def table(
        self, rows: Iterable[list[str]], within: str = "", cells: bool = True, people: Iterable[Groups] = ()
    ) -> Iterator[tuple[str, str]]:
        """Look at a table: its headings, cells of one to nine people, and columns whose values identify as a whole.

        People are counted by the columns that stand in its declaration, and by those that are called so in any table.
        """
        rows = (row for row in rows if not (row and row[0].startswith("#")))
        header = next(rows, [])
        yield from ((f"{within}heading", rule) for name in header if (rule := heading(name)))
        if cells:
            yield from self.lines((f"{within}line 1", name) for name in header)
        line = header.index("line_id") if "line_id" in header else None  # of a ledger, where some count no people
        told = list(people)
        fitting = [placed for groups in told if (placed := _placed(header, groups)) is not None]
        fits, groups = bool(fitting) or not told, list(itertools.chain(*fitting))
        own = set(itertools.chain(*groups))
        different: list[set[str]] = [set() for _ in header]
        sums: dict[int, float] = {}
        lines, named = dict[int, str](), set[str]()
        for number, row in enumerate(rows, start=2):
            here: dict[int, float] = {
                k: n
                for k, (name, cell) in enumerate(zip(header, row, strict=False))
                if (n := measured(cell) if k in own else counted(cell) if of_people(name) else None)
            }
            fits &= not any(measured(row[k]) is None and _DIGITS.search(row[k]) for k in own if k < len(row))
            if line is not None and row[line : line + 1] in _IMPERSONAL:
                here = {}
            if row and of_people(row[0]) and any(map(self.few, map(counted, row[1:]))):  # counts may stand in a line
                lines[number] = row[0]
            named |= {words.back(row[0].strip())} if row and not named - TABLES.keys() else set()
            if cells:  # else a table that is shown, and mostly stands in a file
                self.beside(header, row, {*here.values()})
            for rule in self._few_in(header, row, here, sums, groups):
                yield f"{within}line {number}", rule
            for k, cell in enumerate(row):
                if cells:
                    yield from self.lines([(f"{within}line {number}", cell)])
                if k < len(different) and len(cell) > 6 and len(different[k]) < 50_000:
                    different[k].add(cell)
        if not fits:
            yield f"{within}its columns", "declaration of counts that is not this table's"
        # a result that declares its columns may tell of the table `customers`, where every row is a table of the bank
        for number, name in lines.items() if not fitting or named - TABLES.keys() else ():
            yield f"{within}line {number}", f"fewer than {self.least} people in '{name}'"
        for name, values in zip(header, different, strict=True):
            if found := identifiers.among(values):
                yield f"{within}column '{name}'", found[0]

    def beside(self, header: list[str], row: list[str], counts: set[float]) -> None:
        """Note where a row of another file, of one name with this one, counts a few people more or less.

        If one counts some of whom the other does (of a region all, and those who answered), the few between them are
        told by subtraction; if they are others altogether, nobody is. Numbers do not tell which: this is no breach, but
        to be looked at. Rows that a number names (a year) are left aside, as too many are alike by chance.
        """
        names = list(itertools.takewhile(lambda pair: measured(pair[1]) is None, zip(header, row, strict=False)))
        if not counts or not any(name for _, name in names):
            return
        key = ", ".join(f"{head} {name}".strip() for head, name in names)
        seen = self.rows.setdefault(key, {})
        for other, place in seen.items():  # what both tell is no news
            if place != self.at and any(self.few(abs(a - b)) for a in other - counts for b in counts - other):
                self.alike.setdefault(key, f"{place} and {self.at} ({key})")
        seen.setdefault(frozenset(counts), self.at)

    def few(self, n: float | None) -> bool:
        """Tell whether a count is of few people."""
        return n is not None and 0 < n < self.least

    def _few_in(
        self, header: list[str], row: list[str], here: dict[int, float], sums: dict[int, float], groups: list[list[int]]
    ) -> Iterator[str]:
        """Tell which counts of a row are of few people: as it stands, by its complement, its shares, or its total."""
        names = {k: words.back(header[k].strip()).casefold() for k in here}
        whole = next((n for k, n in here.items() if names[k] in _WHOLES), 0)
        for k, n in here.items():
            rest = whole - n if names[k] in _PARTS else 0
            total = n - sums.get(k, 0) if _TOTAL.fullmatch(row[0].strip()) else 0
            if any(map(self.few, (n, rest, total))):
                yield f"fewer than {self.least} people in '{header[k]}'"
            sums[k] = sums.get(k, 0) + n
        for all_, *parts in filter(None, groups):
            for k in parts:
                if all_ in here and self.few(abs(here[all_] - here.get(k, here[all_]))):
                    yield f"fewer than {self.least} people in '{header[all_]}' but not in '{header[k]}'"
        for name, part in shared(dict(zip(header, row, strict=False)), whole):
            if any(map(self.few, (part, whole - part))):
                yield f"fewer than {self.least} people by '{name}'"


_DIGITS = re.compile(r"^(?!\s*[<＜]).*\d")  # what should count and is no number; <10 tells of nobody


def _placed(header: list[str], groups: Groups) -> list[list[int]] | None:
    """Return the places of the columns that a declaration names, or gives by place; None where one is not there."""
    at: dict[Any, int] = {k: k for k in range(len(header))} | {name: k for k, name in enumerate(header)}
    return [[at[c] for c in group] for group in groups] if all(c in at for c in itertools.chain(*groups)) else None


def own_of(header: list[str], groups: Groups) -> set[int]:
    """Places of all columns that a declaration has, whatever they are part of; none where it is not this table's."""
    return set(itertools.chain(*(_placed(header, groups) or ())))


_JOINED = ("source", "text", "text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "traceback")


def least(folder: Path) -> int:
    """Return how many people a number of a run must rest on: as the run was told, and not fewer than now."""
    path = folder / "disclosure.json"
    return max(rules.least, json.loads(path.read_text("utf-8")).get("threshold", 0) if path.exists() else 0)


def declared(folder: Path) -> dict[str, list[list[str]]]:
    """Return the columns of a run's tables that count people, by file, as their results declare: a whole, its parts."""
    path = folder / "disclosure.json"
    found: dict[str, list[list[str]]] = json.loads(path.read_text("utf-8")).get("counts", {}) if path.exists() else {}
    return found


_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    if re.search(rb"[\0-\x07\x0e-\x1a\x1c-\x1f]", content[:100_000]):  # packed, or no text at all
        raise _Unreadable
    return content.decode("utf-8", errors="replace")


def _base64(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""


def png_texts(content: bytes) -> list[Piece]:
    """Return the texts that a PNG carries beside its pixels (other images have none that could be read)."""
    found, at, kind = [], len(PNG), b""
    while content.startswith(PNG) and at + 8 <= len(content) and kind != b"IEND":
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data, at = content[at + 8 : at + 8 + size], at + 12 + size
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"fdAT"):  # pixels
            continue
        if kind == b"zTXt" or (kind == b"iTXt" and data.partition(b"\0")[2][:1] == b"\1"):
            name, _, packed = data.partition(b"\0")
            packed = packed[1:] if kind == b"zTXt" else packed[2:].split(b"\0", 2)[-1]
            with contextlib.suppress(zlib.error):
                data = name + b" " + zlib.decompress(packed)
        for text in (data, data.replace(b"\0", b"")):  # the latter of signs of two bytes
            found += [("text in the image", t) for t in re.split(r"[\0\n]+", text.decode("utf-8", errors="replace"))]
    if at < len(content):
        found.append(("behind the image", content[at:].decode("utf-8", errors="replace")))
    return found


def _text_tables(text: str, plain: bool, beside: Collection[str]) -> Iterator[tuple[list[Groups], list[list[str]]]]:
    """Yield the tables of a text: of Markdown, and if plain those with numbers that end where their head does.

    The head is a word for people, or one that a table in HTML beside it declares.
    """
    lines, rows = text.splitlines(), list[list[str]]()
    for line in (*lines, ""):
        if line.lstrip().startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            yield [], rows
            rows = []
    known = [re.compile(rf"(?<!\S){re.escape(name)}(?!\S)") for name in beside if name]
    for at, head in enumerate(lines if plain else ()):
        guessed = (w for w in re.finditer(r"(?<!\S)\S+", head) if "  " in head and w[0].isalpha() and of_people(w[0]))
        for word in (*guessed, *itertools.chain(*(name.finditer(head) for name in known))):
            number = re.compile(rf"(?<!\S)(?:[\d,.]+|–)(?<=^.{{{word.end()}}})(?!\S)")
            cells = (number.search(line) for line in lines[at + 1 :])
            yield (
                [[[0]]] if word[0] in beside else [],
                [[word[0]], *([c[0]] for c in itertools.takewhile(bool, cells) if c)],
            )


def html_tables(text: str) -> Iterator[tuple[list[Groups], list[list[str]]]]:
    """Yield the tables of a page: the declaration that stands with it, if any, and its rows without markup."""
    for table in re.findall(r"<table\b.*?</table>", text, re.S | re.I) if "<table" in text else ():
        rows = re.findall(r"<tr\b.*?</tr>", table, re.S | re.I)
        cells = (re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.S | re.I) for row in rows)
        found = [[html.unescape(re.sub(r"<[^>]+>", "", c)).strip() for c in row] for row in cells]
        named = not rows or not re.search(
            r"<td\b", rows[0], re.I
        )  # else each row names itself, and no column has a head
        told = re.match(r'<table\b[^>]*?\sdata-people="([\d, ]*)"', table, re.I)  # see disclosure.places
        people: list[Groups] = [[[int(k) for k in re.findall(r"\d+", g)] for g in told[1].split()]] if told else []
        yield people, found if named else [[""] * len(found[0]), *found]


# --- a whole run -----------------------------------------------------------------------------------------------------


def scan(folder: Path, people: People | None, deep: bool = True, runs: Sequence[Path] = ()) -> Report:
    """Look through everything of a run but its lists of customers (``restricted/``).

    Parameters
    ----------
    folder : Path
        A run's folder, or a part of one.
    people : People, optional
        Whose identifiers are looked for; without them the report says that they were not.
    deep : bool
        Whether what lies in its folders is looked through, too.
    runs : sequence of Path
        The runs that it shows and whose declarations hold; by default it is the run itself.
    """
    report, reader = Report(people=people is not None), _Reader(people or People.called(()), runs or [folder])
    images = theme = 0
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
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
        "what lies in its folders": not deep,
        f"{PRIVATE}/, which stays here": (folder / PRIVATE).is_dir(),
        f"the pixels of {images} pictures": images,
        f"{theme} files of the site's theme, the same as installed": theme,
        f"what cannot be read: {', '.join(report.unread)}": report.unread,
        "people between two tables, but for those in files whose rows have one name": True,
        "identifiers of customers, as their bank is not known": people is None,
    }
    report.alike = list(reader.alike.values())
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
