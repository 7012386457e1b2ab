"""A first ``bank.yaml`` from files: what they seem to hold, guesses marked, and what could not be guessed."""

from __future__ import annotations

import csv
import datetime
import functools
import gzip
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from crmresearch import identifiers
from crmresearch.data import casting
from crmresearch.data.contract import literal
from crmresearch.data.engines import DuckDB
from crmresearch.data.sources import excel, readers
from crmresearch.data.tables import CONSENT, TABLES, Column
from crmresearch.errors import InputError
from crmresearch.estimators.measurement.model import CODES

LOOK = 100_000  # rows that are looked at
FEW = 12  # most values of a column whose words are recoded


@dataclass
class Seen:
    """A file as it was looked at: how to read it, its columns as text, and what was guessed of it."""

    file: Path
    keys: dict[str, str]
    columns: dict[str, list[str]]
    typed: bool = False
    table: str = ""
    matched: int = 0
    named: dict[str, str] = field(default_factory=dict)  # ours to theirs


@functools.cache
def _synonyms() -> dict[str, dict[str, list[str]]]:
    import yaml

    text = (files(__package__) / "synonyms.yaml").read_text("utf-8")
    given = yaml.load(text, yaml.BaseLoader)
    return {part: {k: [_plain(w) for w in (k, *words)] for k, words in tree.items()} for part, tree in given.items()}


def _plain(name: str) -> str:
    """Return a name without case, accents and signs; an umlaut is one vowel."""
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name).casefold())
    text = "".join(c for c in text if c.isalnum())
    return re.sub(r"([aou])e", r"\1", text) or name.strip().casefold()


# --- looking at files -------------------------------------------------------------------------------------------------


def _look(file: Path) -> Iterator[Seen]:
    """Look at a file; a book of Excel has several sheets."""
    if problem := readers.problems_of("", file):
        raise InputError(f"{problem[0].rule}; {problem[0].hint}")
    import python_calamine

    engine = DuckDB()
    try:
        if file.suffix in excel.SUFFIXES:
            yield from _sheets(file)
        elif file.suffix == ".parquet":
            relation = f"read_parquet({literal(file)})"
            header = [c[0] for c in engine.run(f"DESCRIBE SELECT * FROM {relation}")]
            yield Seen(file, {}, _columns(header, engine.run(f"SELECT * FROM {relation} LIMIT {LOOK}")), typed=True)
        elif file.name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
            yield _text(file)
        else:
            raise InputError(f"{file.name} is no CSV (.csv, .csv.gz, .txt), Parquet or Excel file; export it as one")
    except (python_calamine.CalamineError, engine.error, csv.Error, OSError):
        raise InputError(f"{file.name} is damaged, or no file of its kind; write it again") from None


def _sheets(file: Path) -> Iterator[Seen]:
    import python_calamine

    book = python_calamine.load_workbook(str(file))
    for sheet in book.sheet_names:
        cells = [row for row in book.get_sheet_by_name(sheet).to_python() if any(v != "" for v in row)]
        if len(cells) > 1:
            keys = {"sheet": sheet} if len(book.sheet_names) > 1 else {}
            yield Seen(file, keys, _columns([str(v).strip() for v in cells[0]], cells[1:]), typed=True)


def _text(file: Path) -> Seen:
    opened = gzip.open if file.suffix == ".gz" else open
    sep, encoding = readers.guessed(file)
    keys = {k: v for k, v in (("sep", sep), ("encoding", encoding)) if v not in (",", "utf-8")}
    with opened(file, "rb") as handle:
        marked = encoding.replace("utf-8", "utf-8-sig")  # a byte order mark before a quote would make it part of a name
        text = io.TextIOWrapper(handle, encoding=marked, errors="replace", newline="")
        rows = list(itertools.islice(csv.reader(text, delimiter=sep), LOOK + 1)) or [[]]
    header = [c.removeprefix("\ufeff").strip() for c in rows[0]]
    named, width = sum(map(bool, header)), max(sum(map(bool, row)) for row in rows[:20])
    if named < 2 <= width:
        what = f"line 1 of {file.name} names {named or 'none'} of {width} columns"
        raise InputError(f"{what}; delete what stands above the header")
    return Seen(file, keys, _columns(header, [r for r in rows[1:] if len(r) == len(header)]))


def _columns(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    def text(value: Any) -> str:
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return "" if value is None else str(value).strip().removesuffix(" 00:00:00")

    return {name: [text(row[i]) for row in rows] for i, name in enumerate(header) if name}


# --- guessing ---------------------------------------------------------------------------------------------------------


def _assign(seen: Seen) -> None:
    """Find the table a file holds, and which of its columns are the contract's."""
    stem = _plain(str(seen.keys.get("sheet", seen.file.name.split(".")[0])))
    best = (0.0, 0)
    for name, table in TABLES.items():
        found: dict[str, str] = {}
        for exact in (True, False):
            for column in (c for c in table.columns if c.name not in found):
                words = [_plain(column.name)] if exact else _synonyms()["columns"].get(column.name, [])
                theirs = next((t for t in seen.columns if _plain(t) in words and t not in found.values()), None)
                if theirs:
                    found[column.name] = theirs
        needed = [c.name for c in table.columns if c.required]
        share = sum(c in found for c in needed) / len(needed)
        called = any(len(w) > 1 and w in stem for w in _synonyms()["tables"].get(name, [_plain(name)]))
        score = (share + called + 0.3 * len(found) / len(table.columns), len(found))
        if "customer_id" in found and score > best and len(needed) > 1:
            best, seen.table, seen.named, seen.matched = score, name, found, len(found)
    if not seen.table and any(_plain(t) in _synonyms()["columns"]["customer_id"] for t in seen.columns):
        seen.table = "snapshot"
        key = next(t for t in seen.columns if _plain(t) in _synonyms()["columns"]["customer_id"])
        seen.named, seen.matched = {"customer_id": key}, 1


def _days(values: Sequence[str], typed: bool) -> tuple[str, list[datetime.date]]:
    """Find the format all dates are in, and the dates."""
    missing = _synonyms()["words"]["missing"]
    given = [v for v in values if v and _plain(v) not in missing]
    for form in (("%Y-%m-%d",) if typed else casting.FORMATS) if given else ():
        read = casting.english if "%b" in form else str.strip
        if re.fullmatch("(%[Ymdy])+", form) and {*map(len, given)} != {len(form) + 2 * ("%Y" in form)}:
            continue  # 43831 is no day of 2043
        try:
            return form, [datetime.datetime.strptime(v[:10] if typed else read(v), form).date() for v in given]
        except ValueError:
            continue
    return "", []


def _marks(values: Sequence[str]) -> dict[str, str]:
    """Find the marks of numbers in text, where the decimal one is a comma or thousands are parted."""
    numbers = [v for v in values if re.fullmatch(r"[-+]?\d[\d.,' \u00a0\u202f]*", v)]
    comma = any(re.search(r",\d{1,2}$", v) or re.search(r"\.\d{3}(?!\d).*,|\.\d{3}\.", v) for v in numbers)
    parted = {
        m[1]
        for v in numbers
        if (m := re.match(rf"[-+]?\d{{1,3}}([{'' if comma else ','}' \u00a0\u202f])\d{{3}}(?!\d)", v))
    }
    sure = parted - {","} or any(re.search(r",\d{3}[.,]", v) for v in numbers)  # 1,250 alone reads in two ways
    found = {"decimal": ","} if comma else {}
    return found | ({"thousands": parted.pop()} if sure and len(parted) == 1 else {})


def _codes(values: Sequence[str]) -> list[str]:
    """Find values that mean "missing": words for it, and 98, 99 and the like far above all other answers."""
    found = dict.fromkeys(v for v in values if v and _plain(v) in _synonyms()["words"]["missing"])
    numbers = {v for v in values if re.fullmatch(r"-?\d+", v)}
    usual = [int(v) for v in numbers if int(v) not in CODES]
    if usual and len(numbers) <= FEW and min(usual) >= 0 and max(usual) <= 11:
        found |= dict.fromkeys(v for v in sorted(numbers) if int(v) in CODES)
    return list(found)


def _words(column: Column, values: Sequence[str], codes: Sequence[str]) -> tuple[dict[str, str], bool]:
    """Find what the words of a column mean in the contract; whether all of them could be told."""
    given = sorted({v for v in values if v and v not in codes})
    allowed = column.allowed or (("true", "false", "yes", "no", "1", "0") if column.kind == "flag" else ())
    if not allowed or len(given) > FEW or all((v.lower() if column.kind == "flag" else v) in allowed for v in given):
        return {}, True
    meant = {}
    for word in given:
        for ours in (*CONSENT[:2], "voluntary", "bank_initiated", "death", "dormant"):
            if _plain(word) in _synonyms()["words"][ours] and ours in (
                *allowed,
                *(CONSENT[:2] if column.kind == "flag" else ()),
            ):
                meant[word] = ours
    rest = allowed[-1] if column.allowed else "no"
    return {word: meant.get(word, rest) for word in given}, len(meant) == len(given)


# --- writing ----------------------------------------------------------------------------------------------------------


def _said(value: Any) -> str:
    """Write a value for YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_said(k)}: {_said(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_said, value)) + "]"
    text = str(value)
    if not text.isprintable():
        return json.dumps(text, ensure_ascii=False)
    plain = re.fullmatch(r"[^\W_]([\w./ -]*[\w.])?", text) and text.casefold() not in ("null", "~")
    return text if plain else "'" + text.replace("'", "''") + "'"


def _table_lines(seen: Seen, folder: Path) -> tuple[list[str], dict[str, list[datetime.date]]]:
    """Write what was guessed of one file; return the dates of its columns too."""
    table = TABLES[seen.table]
    kinds = {c.name: c for c in table.columns}
    of = f"{seen.matched} of its columns are there"
    place = seen.file.relative_to(folder) if seen.file.is_relative_to(folder) else seen.file
    lines = [f"  {seen.table}:  # guessed: {of}", f"    file: {_said(place.as_posix())}"]
    lines += [f"    {key}: {_said(value)}  # guessed" for key, value in seen.keys.items()]
    kept = {theirs: ours for ours, theirs in seen.named.items()}
    other = [theirs for ours, theirs in seen.named.items() if kinds[ours].kind not in ("id", "text")]
    people = {
        t: k for t in seen.columns if (k := identifiers.named(t) or (t not in other and _by_value(seen.columns[t])))
    }
    if table.open:
        kept |= {t: t for t in seen.columns if t not in kept and t not in people}
    dates: dict[str, list[datetime.date]] = {}
    formats: dict[str, str] = {}
    marks: dict[str, str] = {}
    recode: dict[str, dict[str, str]] = {}
    codes: dict[str, list[str]] = {}
    unsure: list[str] = []
    for theirs, ours in kept.items():
        values, kind = seen.columns[theirs], kinds[ours].kind if ours in kinds else ""
        if kind != "id" and (found := _codes(values)):
            codes[ours] = found
        if kind in ("date", "month"):
            formats[ours], days = _days(values, seen.typed)
            none = {d for d in days if kinds[ours].nullable and str(d) in casting.STAND_INS}  # ends that are open
            dates[ours] = [d for d in days if d not in none]
            codes |= {ours: [*codes.get(ours, ()), *map(str, sorted(none))]} if none else {}
        elif kind in ("money", "number", "") and not seen.typed:
            marks |= _marks(values)
        if ours in kinds:
            words, sure = _words(kinds[ours], values, codes.get(ours, ()))
            recode |= {ours: words} if words else {}
            unsure += [] if sure else [ours]
    lines += [
        f"    # to fill in: date_format: {{{ours}: ...}}, its dates could not be told"
        for ours, form in formats.items()
        if not form and any(seen.columns[seen.named[ours]])
    ]
    told = sorted({f for f in formats.values() if f and f != "%Y-%m-%d"})
    if told and not seen.typed:
        given = (
            told[0] if len({f for f in formats.values() if f}) == 1 else {c: f for c, f in formats.items() if f in told}
        )
        also = " (or the month first?)" if "%d/%m/%Y" in told else ""
        lines.append(f"    date_format: {_said(given)}  # guessed{also}")
    lines += [f"    {key}: {_said(value)}  # guessed" for key, value in marks.items()]
    lines += [f"    missing: {_said(codes)}  # guessed"] if codes else []
    if any(ours != theirs for theirs, ours in kept.items()):
        lines += [
            "    columns:",
            *(f"      {_said(o)}: {_said(t)}" + ("" if o == t else "  # guessed") for t, o in kept.items()),
        ]
    if recode:
        lines.append("    recode:")
        for ours, words in recode.items():
            marked = "to fill in: what could not be told" if ours in unsure else "guessed"
            lines.append(f"      {ours}: {_said(words)}  # {marked}")
    lines += _lacking(seen, people, kept)
    return lines, dates


def _lacking(seen: Seen, people: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """Say what is refused, what is not read, and what the contract asks for that was not found."""
    table = TABLES[seen.table]
    lines = []
    if people:
        lines.append(f"    drop: {_said(list(people))}  # guessed: {', '.join(dict.fromkeys(people.values()))}")
    if unread := [t for t in seen.columns if t not in kept and t not in people]:
        lines.append(f"    # not read: {' '.join(', '.join(unread).split())}")
    asked = [c for c in table.columns if c.required and (c.name not in seen.named or seen.named[c.name] in people)]
    flags = {c.name: "true" for c in asked if c.kind == "flag"} if seen.table == "survey" else {}
    if flags:
        lines.append(f"    constants: {_said(flags)}  # guessed: whoever is in the file was asked, and answered")
    names = [c.name for c in asked if c.name not in flags]
    if names:
        lines.append(f"    # to fill in: columns for {', '.join(names)} (columns, constants or derived)")
    return lines


def _by_value(values: Sequence[str]) -> str | None:
    found = identifiers.among({v for v in values[:5000] if re.search(identifiers.COARSE, v)}, len(set(values[:5000])))
    return found[0] if found else None


def suggest(paths: Sequence[Path], folder: Path) -> str:
    """Write a ``bank.yaml`` for files.

    Parameters
    ----------
    paths : sequence of Path
        CSV (gzipped too), Parquet, Excel.
    folder : Path
        Where the ``bank.yaml`` is to stand; file names count from it.

    Returns
    -------
    str
        YAML, each guess marked ``# guessed``, and what could not be guessed ``# to fill in``.
    """
    found: dict[str, Seen] = {}
    left = []
    for seen in (seen for path in paths for seen in _look(path.absolute())):
        _assign(seen)
        if not seen.table or seen.table in found:
            why = f"holds {seen.table}, as {found[seen.table].file.name} does" if seen.table else "could not be told"
            left.append(
                f"# to fill in: what {seen.file.name} {seen.keys.get('sheet', '')} holds ({why})".replace("  ", " ")
            )
        else:
            found[seen.table] = seen
    if not found:
        raise InputError(
            "none of the files has a column that names a customer, so no table could be guessed; delete what stands "
            "above the header, call that column customer_id, or write bank.yaml after data/example/bank.yaml"
        )
    lines: list[str] = []
    days: dict[str, list[datetime.date]] = {}
    for name in (n for n in TABLES if n in found):
        more, dates = _table_lines(found[name], folder.absolute())
        lines += more
        days |= {f"{name}.{column}": values for column, values in dates.items() if values}
    head = ["name: mybank  # to fill in: a short name", "currency: EUR  # to fill in: of every amount"]
    head.append("evidence: real bank  # to fill in: or simulated; or real, other trade")
    if days:
        went_on = [
            d for place, v in days.items() if place.split(".")[0] in ("monthly", "transactions", "service") for d in v
        ]
        first = min(went_on or days.get("customers.left_on") or [d for v in days.values() for d in v]).replace(day=1)
        last = (max(d for v in days.values() for d in v).replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
        head.append(f"observation_start: {first}  # guessed: first day covered")
        head.append(f"observation_end: {last - datetime.timedelta(days=1)}  # guessed: last day covered")
    elif any("date_format" in line for line in lines):
        head.append("# to fill in: observation_start and observation_end, the first and the last day covered")
    else:
        head.append("dated: false  # guessed: no dates were found")
    return "\n".join([*head, "tables:", *lines, *_constructs(found.get("survey")), *left]) + "\n"


def _constructs(survey: Seen | None) -> list[str]:
    """Group items of one stem: sat1, sat2."""
    if survey is None:
        return []
    stems: dict[str, list[str]] = {}
    for name in survey.columns:
        match = re.fullmatch(r"(\D+?)[_ ]?\d+", name)
        if match and name not in survey.named.values():
            stems.setdefault(match[1], []).append(name)
    blocks = {stem: items for stem, items in stems.items() if len(items) > 1}
    if not blocks:
        return ["# to fill in: constructs: {satisfaction: [its items], loyalty: [its items]}"]
    lines = [f"constructs: {_said(blocks)}  # guessed", "# to fill in: paths: [[from, to]]"]
    return lines
