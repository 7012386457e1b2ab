"""What leaves as a package: the files of a run that pass the scan, a manifest to sign, and no difference that tells.

Two releases of one bank that differ by a few people tell about those by subtraction. So the cache keeps, for the user
alone, what earlier releases counted; a release with a cell that differs by fewer than the rules allow is refused, or
rounded.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crmresearch import ledger, rounding
from crmresearch.data.places import locked, private, put
from crmresearch.data.pseudonyms import mark
from crmresearch.errors import InputError
from crmresearch.run.leaks import counted, number, of_people, shared, told
from crmresearch.run.people import People
from crmresearch.run.scan import PRIVATE, Breach, declared, html_tables, least, own_of, scan

AT_HOME = (PRIVATE, "logs", "records")
WHEN = (1980, 1, 1, 0, 0, 0)  # of every file: the same content gives the same bytes
Own = Mapping[str, Collection[str]]  # columns that count people as their results declare, by file
HEADER = ("path", "sha256", "bytes", "what it is", "rows", "smallest count", "rows suppressed", "rules")
SIGN = """Release of the run of bank {bank} (data {data}), {n} files{rounded}.

Fingerprint of the manifest: {fingerprint}

Each file of manifest.csv was looked at, and may leave.

Name:                              Date:                              Signature:
"""


@dataclass(frozen=True)
class Released:
    """What a release came to: its files, its fingerprint, and what was left out and why."""

    files: int
    fingerprint: str
    left_out: list[Breach]


def release(folder: Path, out: Path, people: People, rounded: bool = False) -> Released:
    """Pack what of a run may leave.

    Parameters
    ----------
    folder : Path
        A run's folder.
    out : Path
        The zip file to write.
    people : People
        Whose identifiers are looked for.
    rounded : bool
        Whether tables alone leave, counts rounded to multiples of the least count and numbers to three digits.

    Raises
    ------
    InputError
        If the file is there already, nothing passes, or a cell differs from an earlier release by too few people.
    """
    if out.exists():
        raise InputError(f"{out.name} is there already; name another file")
    report = scan(folder, people)
    refused = {b.file for b in report.breaches} | {*report.unread}
    left_out = report.breaches + [
        Breach(name, "kind of file that cannot be read", "the file") for name in report.unread
    ]
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [n for n in names if n.split("/")[0] not in AT_HOME and n not in refused]
    if rounded:
        names = [n for n in names if n == "ledger.csv" or (n.startswith("tables/") and n.endswith(".csv"))]
    if not names:
        raise InputError(f"nothing of {folder.name} passes; crmresearch check says why")
    base = least(folder)
    contents = {n: (folder / n).read_bytes() for n in names}
    own = {f"tables/{name}": {c for g in groups for c in g} for name, groups in declared(folder).items()}
    if rounded:
        contents = {n: _rounded(content.decode("utf-8"), base, own.get(n, ())) for n, content in contents.items()}
    facts = json.loads((folder / "run.json").read_text("utf-8"))
    bank, data = str(facts["bank"]["name"]), str(facts["fingerprints"]["data"])
    cells = {} if rounded else _cells(contents, own)  # round numbers tell of nobody by subtraction
    who = {"bank": bank, "data": data, "key": mark(people.key), "people": people.sketch()}
    record = private("releases") / f"{data}.json"
    with locked(private("releases") / "lock"):
        every = {path: json.loads(path.read_text("utf-8")) for path in sorted(record.parent.glob("*.json"))}
        before = [{"bank": path.stem} | old for path, own in every.items() for old in own]
        before = [old for old in before if _alike(old, who)]
        _compared(cells, data, before, base)
        manifest = _manifest(folder, contents, refused, own)
        fingerprint = hashlib.sha256(manifest).hexdigest()
        how = f", tables alone, in round numbers (counts to {base}, else {rounding.DIGITS} digits)" if rounded else ""
        form = SIGN.format(bank=bank, data=data, n=len(contents), rounded=how, fingerprint=fingerprint)
        if fingerprint not in [old["fingerprint"] for old in before]:  # before it leaves: no release without a record
            put(
                record,
                json.dumps([*every.get(record, []), who | {"fingerprint": fingerprint, "cells": cells}]).encode(),
            )
        put(out, _zip({**contents, "manifest.csv": manifest, "sign.txt": form.encode()}), private=False)
    return Released(len(contents), fingerprint, left_out)


def _zip(contents: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(name, WHEN)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            file.writestr(entry, content)
    return packed.getvalue()


# --- the manifest ----------------------------------------------------------------------------------------------------

_WHAT = {"tables": "table", "figures": "figure", "notebooks": "notebook", "findings": "estimates", "site": "page"}


def _manifest(folder: Path, contents: Mapping[str, bytes], refused: Collection[str], own: Own) -> bytes:
    """Write what leaves, file by file: what it is, how many it counts at least, which rules hid rows.

    Nothing is told here that stands in a file that does not pass.
    """
    path = folder / "disclosure.json"
    told = path.exists() and path.name not in refused
    suppressed = json.loads(path.read_text("utf-8"))["suppressed"] if told else {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for name, content in sorted(contents.items()):
        part, stem = name.split("/")[0], Path(name).stem
        alt = f"figures/{stem}.txt"
        what = f"{_WHAT.get(part, 'part of the run')} {stem}".replace("_", " ")
        if part == "figures" and name.endswith(".png") and (folder / alt).exists() and alt not in refused:
            what = f"figure: {' '.join((folder / alt).read_text('utf-8').split())[:200]}"
        rows = _rows(content) if name.endswith(".csv") else []
        counts = [n for row in rows for n in _people(row, own.get(name, ())).values() if n]
        hidden = suppressed.get(Path(name).name, {})
        digest = hashlib.sha256(content).hexdigest()
        writer.writerow([name, digest, len(content), what, len(rows) or "", min(counts, default=""),
                         hidden.get("rows", 0 if rows else ""), hidden.get("rule", "")])  # fmt: skip
    return text.getvalue().encode()


def _rows(content: bytes) -> list[dict[str, str]]:
    found = csv.DictReader(io.StringIO(content.decode("utf-8")))
    return [{k.casefold(): v or "" for k, v in row.items() if k} for row in found]


def _shown(content: bytes) -> Iterator[tuple[dict[str, str], Collection[str]]]:
    """Yield the rows of the tables that a notebook shows, of which not all are written, and what they count by."""
    for cell in json.loads(content).get("cells", []):
        for output in cell.get("outputs", []):
            tables = html_tables("".join(output.get("data", {}).get("text/html", "")))
            for people, (head, *rows) in ((people, rows) for people, rows in tables if rows):
                own = {head[k] for groups in people for k in own_of(head, groups)}
                yield from (({k.casefold(): v for k, v in zip(head, r, strict=False)}, own) for r in rows if head and r)


# --- differences between releases ------------------------------------------------------------------------------------


def _people(row: Mapping[str, str], own: Collection[str]) -> dict[str, int]:
    """Return what a row counts, by column: those that say so, and those that its result declared."""
    own = {name.casefold() for name in own}
    return {k: n for k, v in row.items() if (k in own or of_people(k)) and (n := counted(v)) is not None}


def _cells(contents: Mapping[str, bytes], own: Own) -> dict[str, dict[str, Any]]:
    """Take out what tables count, by file and row, what their shares give back, and a digest of what else a row says.

    Of tables that are written, and that notebooks show. And what texts count: alt texts, and notebooks.
    """
    found: dict[str, dict[str, Any]] = {}

    def put_down(key: str, counts: dict[str, int], said: Iterable[str] = ()) -> None:
        while key in found:
            key += " +"
        found[key] = {"counts": counts, "said": hashlib.sha256("|".join(said).encode()).hexdigest()[:16]}

    for name, content in contents.items():
        kept = name.endswith(".csv") and name.split("/")[0] in ("tables", "ledger.csv")
        written = ((row, own.get(name, ())) for row in _rows(content)) if kept else ()
        for row, by in _shown(content) if name.endswith(".ipynb") else written:
            counts = _people(row, by)
            first, *_ = row
            words = [v for k, v in row.items() if k == first or not (k in counts or of_people(k) or number(v))]
            said = [v for k, v in row.items() if not (k in counts or of_people(k)) and number(v)]
            if counts:
                counts |= dict(shared(row, counts.get("n", 0)))
                put_down(f"{name}: {', '.join(words[:6])}", counts, said)
        for before, n in told(content.decode("utf-8")) if name.endswith((".txt", ".ipynb")) else ():
            put_down(f"{name}: {before}", {"": n})
    return found


def _alike(old: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether two releases are about the same people, whatever their banks are called.

    They are if the data are the same or somebody is in both; where that cannot be seen (nobody is known by an
    identifier, or another key made the pseudonyms), the name decides.
    """
    if old["data"] == now["data"]:
        return True
    if old.get("people") and now["people"] and old["key"] == now["key"]:
        return not set(old["people"]).isdisjoint(now["people"])
    return bool(old["bank"] == now["bank"])


def _compared(cells: Mapping[str, Any], data: str, before: list[dict[str, Any]], base: int) -> None:
    """Refuse cells that an earlier release counted almost alike: the few between them would be told by subtraction."""
    found: dict[str, None] = {}
    for old in before:
        for key, cell in old["cells"].items():
            now = cells.get(key)
            if now is None:
                continue
            apart = [abs(n - now["counts"].get(c, n)) for c, n in cell["counts"].items()]
            moved = old["data"] != data and now["said"] != cell["said"] and not any(apart)
            if moved or any(0 < d < base for d in apart):
                found[key.partition(": ")[0]] = None
        if old["data"] == data:
            found |= dict.fromkeys(_cut_otherwise(old["cells"], cells, base))
    if found:
        few = f"{', '.join(list(found)[:3])}{' and others' if len(found) > 3 else ''}"
        raise InputError(
            f"cells of {few} differ from an earlier release of this bank by fewer than {base} people, who could "
            "be told by subtraction; release with --round (tables alone, in round numbers), or what was released before"
        )


def _cut_otherwise(old: Mapping[str, Any], new: Mapping[str, Any], base: int) -> Iterator[str]:
    """Yield tables where the same people are cut at another edge, so that a few change from one row to another."""
    before, now = ({k: v for k, v in a.items() if k not in b} for a, b in ((old, new), (new, old)))
    for key, cell in before.items():
        name = key.partition(": ")[0]
        alike = [c for k, c in now.items() if name.startswith("tables/") and k.startswith(f"{name}: ")]
        if any(0 < abs(n - c["counts"].get(k, n)) < base for c in alike for k, n in cell["counts"].items()):
            yield name


def _rounded(text: str, base: int, people_in: Collection[str] = ()) -> bytes:
    """Write a table in round numbers: see :func:`.rounding.table`."""
    first, *rest = csv.reader(io.StringIO(text))
    named = [name in people_in or of_people(name) for name in first]
    people = [
        {k: n for k, cell in enumerate(row) if named[k] and (n := counted(cell)) is not None}
        if row[0] not in ledger.IMPERSONAL
        else {}
        for row in rest
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([first, *rounding.table(first, rest, people, base)])
    return out.getvalue().encode()
