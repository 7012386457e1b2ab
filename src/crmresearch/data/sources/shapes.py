"""The keys of a ``bank.yaml``: what each must look like, and how its text is read."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from crmresearch.data.contract import nearest
from crmresearch.data.description import About
from crmresearch.data.rules import LOOKS
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError

# A shape: "" is a text, [s] a list of s, {"": s} a mapping to s, a tuple one of several, ... anything. Beside it an
# example.
EITHER = ("", {"": ""})
TABLE: dict[str, tuple[Any, str]] = {
    "file": (("", [""]), "customers.csv (or a list of files, or a folder)"),
    "sheet": ("", "Kunden"),
    "as_of": ("", "2023-12-31 (a day or a time, in UTC), or 12 (a version)"),
    "table": ("", "balances"),
    "query": ("", "SELECT id, opened FROM accounts"),
    "database": ("", "BANK_DATABASE (an environment variable, or postgresql://user@host/name, sc://host:15002)"),
    "columns": ({"": ""}, "{ours: theirs}"),
    "drop": ([""], "[Surname, IBAN]"),
    "constants": ({"": ""}, "{sampled: true}"),
    "id": ("", "rows"),
    "returns": ("", "first (or last)"),
    "derived": ({"": ""}, '{exit_months: "quarters * 3"}'),
    "recode": ({"": {"": ("", None)}}, "{column: {theirs: ours}}"),
    "missing": (([""], {"": [""]}), "[98, 99] (or {column: [98, 99]})"),
    "date_format": (("", [""], {"": ("", [""])}), "'%d.%m.%Y' (or {column: '%d.%m.%Y'}, or a list of formats)"),
    "decimal": (EITHER, "',' (or {column: ','})"),
    "thousands": (EITHER, "'.' (or {column: '.'})"),
    "timezone": (EITHER, "Asia/Shanghai (or {column: Asia/Shanghai})"),
    "currency": ({"": ("", {"": ""})}, "{column: theirs, rates: {USD: 0.92}}"),
    "reversed": ([""], "[sat3]"),
    "sep": ("", '";" (one character)'),
    "encoding": ("", "gb18030"),
}
PLANTED = "{S06: {world: 0.8, limit: 0.78, error: 0.01}}"
BANK: dict[str, tuple[Any, str]] = {f.name: ("", "one text") for f in fields(About)} | {
    "tables": ({"": ...}, "{customers: customers.csv}"),
    "engine": ("", "postgres (or spark)"),
    "connect": ("", "BANK_DATABASE (an environment variable, or postgresql://user@host/name, sc://host:15002)"),
    "constructs": ({"": ([""], {"": ("", [""])})}, "{satisfaction: [sat1, sat2]}"),
    "paths": ([[""]], "[[satisfaction, loyalty]]"),
    "covered": ({"": [""]}, "{transactions: [2022-01-01, 2022-06-30]}"),
    "tolerance_days": (EITHER, "30 (or {transactions: 30})"),
    "refused": ({"": ""}, "{monthly.fees: why it is kept out}"),
    "unlinked": ([""], "[contacts]"),
    "cannot_answer": ([""], "[what the data cannot show]"),
    "reversed": ([""], "[sat3]"),
    "truth": ({"": {"": ""}}, PLANTED),
    "exit_rule": ({"": ""}, LOOKS["exit_rule"]),
    "contribution": ([""], LOOKS["contribution"]),
    "segments": ({"": ("", [""], {"": [""]})}, LOOKS["segments"]),
}
# tables that may have row numbers for ids: one row is one customer, or one asked or addressed
NUMBERED = dict.fromkeys(("customers", "contacts", "survey", "spells", "snapshot"), "customer_id")
NUMBERED["prospects"] = "prospect_id"
RATES: dict[str, tuple[Any, str]] = {"column": ("", "Währung"), "rates": ({"": ""}, "{USD: 0.92}")}
CONSTRUCT: dict[str, tuple[Any, str]] = {
    "items": ([""], "[sat1, sat2]"),
    "reversed": ([""], "[sat3]"),
    "mode": ("", "A (reflective) or B (formative)"),
    "scale": ([""], "[1, 10]"),
}


def _fits(value: Any, shape: Any) -> bool:
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(v, shape[0]) for v in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(_fits(v, shape[""]) for v in value.values())
    return shape is ... or (value is None if shape is None else isinstance(value, str))


def _must(key: str, look: str, where: str) -> InputError:
    return InputError(f"{where}: {key} must look like this: {look}")


def keys_of(given: Any, known: Mapping[str, tuple[Any, str]], where: str, of: str = "") -> dict[str, Any]:
    """Return what is given under known keys; an unknown one, or one of another shape, is refused by name."""
    if not isinstance(given, dict):
        raise _must(of.removeprefix(" of "), f"{{{next(iter(known))}: …}}", where)
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'{of}: {nearest(str(key), known)}")
        shape, example = known[key]
        if value is None:
            continue
        fits = _fits(value, shape)
        if key == "sep" and fits:
            fits = value == "\\t" or (len(value) == 1 and not value.isalnum() and value not in "\"'\r\n")
        fits = fits and value in {"id": ("rows",), "returns": ("first", "last")}.get(key, (value,))
        pairs = {"paths": value, "covered": [*value.values()] if isinstance(value, dict) else [], "scale": [value]}
        if not fits or any(len(pair) != 2 for pair in pairs.get(key, ())):
            raise _must(key + of, f"{key}: {example}", where)
    return {key: value for key, value in given.items() if value is not None}


def numbered(tables: Any) -> list[str]:
    """Return the tables whose customer ids are to be row numbers."""
    found = tables.items() if isinstance(tables, dict) else ()
    return [
        name for name, spec in found if NUMBERED.get(name) == "customer_id" and isinstance(spec, dict) and "id" in spec
    ]


def day(text: str, key: str, where: str) -> datetime.date:
    """Read a date."""
    try:
        return datetime.datetime.fromisoformat(text).date()
    except ValueError as error:
        raise InputError(f"{where}: {key} must be a date such as 2022-12-31; impossible value: {error}") from None


def days(given: str | Mapping[str, str], key: str, where: str) -> dict[str, int]:
    """Read a number of days, of all tables or by table."""
    given = {"*": given} if isinstance(given, str) else given
    for table, number in given.items():
        if table not in (*TABLES, "*"):
            raise InputError(f"{where}: {key} names no table '{table}': {nearest(table, TABLES)}")
        if not number.isdecimal():
            raise _must(key, f"{key}: {BANK[key][1]}", where)
    return {table: int(number) for table, number in given.items()}


def truth(text: str, key: str, where: str) -> bool:
    """Read a truth value."""
    if text.lower() not in ("true", "yes", "on", "false", "no", "off"):
        raise _must(key, f"{key}: false", where)
    return text.lower() in ("true", "yes", "on")


def planted(given: Mapping[str, Mapping[str, str]], where: str) -> dict[str, dict[str, float]]:
    """Read what was planted in a simulated bank, by line of the register."""
    if any(not {"error"} < {*one, "error"} <= {"world", "limit", "error"} for one in given.values()):
        raise _must("truth", f"truth: {PLANTED}", where)
    try:
        found = {line: {name: float(value) for name, value in one.items()} for line, one in given.items()}
    except ValueError:
        raise _must("truth", f"truth: {PLANTED}", where) from None
    if any(not math.isfinite(v) or (name == "error" and v < 0) for one in found.values() for name, v in one.items()):
        raise _must("truth", f"truth: {PLANTED}", where)
    return found


def constructs(given: Mapping[str, Any], turned: Sequence[str], where: str) -> dict[str, Any]:
    """Read constructs: a list of items, or a mapping where more is said; ``turned`` are items worded the other way."""
    found: dict[str, Any] = {}
    for name, block in given.items():
        of = f" of construct {name}"
        block = keys_of({"items": block} if isinstance(block, list) else block, CONSTRUCT, where, of)
        if not block.get("items"):
            raise _must(f"items{of}", "items: [sat1, sat2]", where)
        again = [i for i in block["items"] if block["items"].count(i) > 1 or i in TABLES["survey"].names]
        if again:
            what = "is no answer" if again[0] in TABLES["survey"].names else "stands there twice"
            raise InputError(f"{where}: items{of}: '{again[0]}' {what}; leave it out")
        lost = [i for i in block.get("reversed", ()) if i not in block["items"]]
        if lost:
            raise InputError(f"{where}: reversed{of} names '{lost[0]}': {nearest(lost[0], block['items'])}")
        block["reversed"] = [i for i in block["items"] if i in (*turned, *block.get("reversed", ()))]
        if block.get("mode", "A") not in ("A", "B"):
            raise _must(f"mode{of}", "mode: A (reflective) or B (formative)", where)
        if "scale" in block:
            try:
                low, high = block["scale"] = [float(end) for end in block["scale"]]
            except ValueError:
                raise _must(f"scale{of}", "scale: [1, 10]", where) from None
            if not -math.inf < low < high < math.inf:
                ends = f"{high:g}, {low:g}" if -math.inf < high < low < math.inf else "1, 10"
                lowest = f"from the lowest answer to the highest: scale: [{ends}]"
                raise InputError(f"{where}: scale{of} must rise, {lowest} (items worded the other way are reversed:)")
        more = {key: value for key, value in block.items() if value}
        found[name] = more if len(more) > 1 else block["items"]
    items = [i for b in found.values() for i in (b["items"] if isinstance(b, dict) else b)]
    for item in turned:
        if item not in items:
            raise InputError(f"{where}: reversed names '{item}', an item of no construct: {nearest(item, items)}")
    return found
