"""Pseudonyms in the place of identifiers: what a loaded bank calls its people, told apart by a key alone.

``00001220077-9c1f0a33b5d2e846``: the last part is HMAC-SHA256 of the identifier by the key. What goes before it is
fixed by the identifier, not by the key: the place in the order of all, and the block that resampling draws. So two keys
give two banks that nobody can join, and equal results. The identifiers themselves are kept nowhere.

Rows hold the code of a person (place and block, one whole number), which takes a quarter of the room and is written and
grouped fast; :data:`PEOPLE` has the name of each code, and stands in its place wherever the engine gives a frame.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from crmresearch.data.engines import CODE, PEOPLE, DuckDB
from crmresearch.data.places import cache_dir, locked, put
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError

COLUMNS = ("customer_id", "referrer_id", "prospect_id", "manager_id")  # of any table, that name people
KEY, KEY_FILE = "CRMRESEARCH_KEY", "CRMRESEARCH_KEY_FILE"  # the key, or the file that holds it
DIGITS = 16  # of a pseudonym: one chance in ten million that two of a million people share one
BLOCKS = 1024  # of people, by a hash of the identifier
LEAST = 16  # signs of a key
AT_ONCE = 200_000  # people who are named at once: rows of Python take half a kilobyte each
OUT = 2**64 - 1  # in the place of the code of who did not consent, whose rows are left out
_WORD = re.compile(r"[^\W_]+")


def key() -> bytes:
    """Return the key: of the environment or a file, and else one of the cache folder's own, made once.

    Raises
    ------
    InputError
        If it is too short to be secret, or its file cannot be read.
    """
    if KEY in os.environ:
        found, where = os.environ[KEY].encode(), KEY
    elif KEY_FILE in os.environ:
        where = f"the file of {KEY_FILE}"
        try:
            found = Path(os.environ[KEY_FILE]).expanduser().read_bytes().strip()
        except OSError as error:
            raise InputError(f"{where} cannot be read ({error.strerror}); name one that can") from None
    else:
        own = cache_dir() / "key"
        with locked(own):  # of two processes at once, one makes it
            if not own.exists():
                put(own, secrets.token_hex(32).encode())
        return own.read_bytes()
    if len(found) < LEAST:
        raise InputError(f"the key in {where} has fewer than {LEAST} signs; make one: openssl rand -hex 32")
    return found


def mark(key: bytes) -> str:
    """Return what tells whether a bank was loaded with this key, and does not tell the key."""
    return digest(key, "crmresearch")


def digest(key: bytes, text: str) -> str:
    """Return the pseudonym of an identifier."""
    return hmac.digest(key, text.encode(), "sha256").hex()[:DIGITS]


def normal(text: str) -> str:
    """Write an identifier without what may be written otherwise: case, width, signs and blanks."""
    return "".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def pseudonym(name: Any) -> Any:
    """Return the part of a name (or of a column of them) that the key makes, which is what lists of people show."""
    return name.str[-DIGITS:] if hasattr(name, "str") else name[-DIGITS:]


def places_of(noted: Collection[str], unlinked: Collection[str] | None = None) -> list[tuple[str, str]]:
    """Return the columns of tables that name people; given unlinked tables, without those that name no others."""
    known = [t for t in noted if t in TABLES]
    if unlinked is not None and "customers" in known:
        known = [t for t in known if not linked(t, unlinked)]
    return [(t, c) for t in known for c in COLUMNS if c in TABLES[t].names]


def linked(table: str, unlinked: Collection[str]) -> bool:
    """Tell whether a table names customers alone, who are all among those of ``customers``, as is checked."""
    others = ("customers", "prospects", *unlinked)
    return "customers" not in unlinked and table not in others and [c for _, c in places_of([table])] == ["customer_id"]


def called(rows: Collection[tuple[str, int, int, bool]], key: bytes, first: int = 0, people: int = 0) -> Any:
    """Return the table of the pseudonyms of people, of whom each row tells the identifier, block, draw, and kind.

    The rows are all people, or those from place ``first`` on of so many ``people``.
    """
    import pyarrow as pa

    width = max(7, len(str(people or len(rows))))
    named = [f"{k:0{width}d}{b:04d}-{digest(key, i)}" for k, (i, b, _, _) in enumerate(rows, first)]
    plain = [normal(i) if known else "" for i, _, _, known in rows]
    return pa.table(
        {
            "id": pa.array([r[0] for r in rows], pa.string()),
            "code": pa.array([k * BLOCKS + b for k, (_, b, _, _) in enumerate(rows, first)], pa.uint64()),
            "draw": pa.array([draw for _, _, draw, _ in rows], pa.int16()),
            "name": pa.array(named, pa.string()),
            "found_by": pa.array([digest(key, f"={text}") if text else None for text in plain], pa.string()),
            "size": pa.array([len(text) for text in plain], pa.int32()),
            "number": pa.array([text.isdecimal() for text in plain], pa.bool_()),
        }
    )


def make(engine: DuckDB, noted: Mapping[str, Any], unlinked: Collection[str], key: bytes) -> bool:
    """Make a pseudonym for every identifier of people in the tables read, and put its code in their place.

    Where tables that name them are yet to be read, :func:`coded` writes these with codes at once. Returns whether any
    of them did not consent to analysis.
    """
    places = places_of(noted, unlinked)
    parts = [f'SELECT "{c}" AS id, {t not in unlinked} AS known FROM "{t}" WHERE "{c}" IS NOT NULL' for t, c in places]
    if not parts:
        return False
    low, draw = (f"CAST(concat('0x', substr(md5(id), {k}, 3)) AS INTEGER)" for k in (1, 4))
    found = f"id, {low} % {BLOCKS}, {draw}, bool_or(known)"
    engine.run(f"CREATE TEMP TABLE _all AS SELECT {found} FROM ({' UNION ALL '.join(parts)}) GROUP BY id ORDER BY id")
    [(people,)] = engine.run("SELECT count(*) FROM _all")
    for first in range(0, max(people, 1), AT_ONCE):
        rows = engine.run(f"SELECT * FROM _all WHERE rowid BETWEEN {first} AND {first + AT_ONCE - 1} ORDER BY rowid")
        with engine.visible({"_some": called(rows, key, first, people)}):
            engine.run(("INSERT INTO _made" if first else "CREATE TEMP TABLE _made AS") + " FROM _some")
    refused = "SELECT customer_id FROM customers WHERE consent_analysis = 'no'"
    here = f"CASE WHEN id IN ({refused}) THEN {OUT} ELSE code END" if "customers" in noted else "code"
    engine.run(f"CREATE TABLE {PEOPLE} AS SELECT * EXCLUDE id FROM _made")
    engine.run(f"CREATE TEMP TABLE _codes AS SELECT id, CAST(code AS {CODE}) AS code, {here} AS here FROM _made")
    engine.run("DROP TABLE _made; DROP TABLE _all")
    for table in dict.fromkeys(t for t, _ in places_of(noted)):
        engine.write(table, coded(table, f'FROM "{table}"'), joined=True)
    return bool(engine.run(f"SELECT 1 FROM _codes WHERE here = {OUT} LIMIT 1"))


def coded(table: str, query: str, *, consenting: bool = False) -> str:
    """Write the query of a table that has codes of people, made before, in the place of identifiers.

    Who is nobody known gets a code of no person, each their own, which the checks find. ``consenting`` leaves the rows
    of those out who did not consent to analysis.
    """
    column = "here" if consenting else "code"
    code = f"(SELECT {column} FROM _codes WHERE id = t.{{0}})"  # a LEFT JOIN puts rows of nobody behind others
    nobody = "CASE WHEN t.{0} IS NOT NULL THEN hash(t.{0}) | 9223372036854775808 END"
    items = ", ".join(f"coalesce({code}, {nobody}) AS {{0}}".format(c) for _, c in places_of([table]))
    query = f"SELECT t.* REPLACE ({items}) FROM ({query}) t"
    return f"FROM ({query}) WHERE customer_id IS DISTINCT FROM {OUT}" if consenting else query
