"""What is checked of a bank beyond the contract's own rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crmresearch import identifiers
from crmresearch.data import pseudonyms
from crmresearch.data.contract import Problem, flow, literal, quoted
from crmresearch.data.description import FILE, TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import TABLES, Table

LOOK = 50_000  # rows of a column of many different values that are looked at, evenly over the table
FEW = 5_000  # different values in them up to which a column is looked at as a whole
CODES = frozenset(
    re.findall(
        "[A-Z]+",  # ISO 4217
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
        "CHF CLF CLP CNH CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF "
        "GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
        "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN "
        "PGK PHP PKR PLN PYG QAR RMB RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
        "TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG ZWL",
    )
)
LONG = 10**10  # numbers that may be a telephone, a card or a person


# --- identifiers ------------------------------------------------------------------------------------------------------


def identifiers_by_name(table: Table, columns: Mapping[str, str], source: TableSource) -> Iterator[Problem]:
    """Refuse columns whose name, here or in the source, announces a direct identifier.

    Ids of the contract may be anything: pseudonyms take their place.
    """
    for name in columns:
        if name in table.names and name in pseudonyms.COLUMNS:
            continue
        theirs = source.theirs.get(name, name)
        kind = identifiers.named(theirs) or (None if name in table.names else identifiers.named(name))
        if kind:
            shown = name.removeprefix(FILE)
            called = "" if theirs == shown else f", '{theirs}' in {source.origin}"
            rule = f"a direct identifier ({kind}) is refused{called}"
            yield Problem(table.name, shown, rule, hint=_out(table, name, source))


def shortened(engine: DuckDB, table: Table, brought: Mapping[str, str]) -> Iterator[Problem]:
    """Refuse ids that Excel has rounded to a few digits, 1.23E+11: they no longer tell people apart."""
    for column in (c for c in pseudonyms.COLUMNS if c in brought):
        rounded = f"contains({column}, 'E+') AND regexp_full_match({column}, '[0-9]([.,][0-9]+)?E[+][0-9]+')"
        if n := engine.run(f"SELECT count(*) FROM {table.name} WHERE {rounded}")[0][0]:
            rule = "holds numbers that Excel has shortened (as in 1.23E+11), which no longer tell people apart"
            yield Problem(table.name, column, rule, int(n), hint="export the column as text, with all its digits")


def identifiers_by_value(
    engine: DuckDB, noted: Mapping[str, Any], sources: Mapping[str, TableSource]
) -> Iterator[Problem]:
    """Refuse loaded columns whose values are direct identifiers, whatever their names."""
    for name, facts in noted.items():
        table = TABLES[name]
        for column, kind in facts["brought"].items():
            if may_identify(table, column, kind):
                total, texts = _different(engine, name, column, kind, facts["rows"])
                yield from identifying(table, column, total, texts, sources[name])


def may_identify(table: Table, column: str, kind: str) -> bool:
    """Tell whether values of a column may be direct identifiers that nothing takes the place of."""
    known = table[column] if column in table.names else None
    replaced = known and column in pseudonyms.COLUMNS
    if replaced or (known and (known.allowed or known.kind not in ("id", "text"))):
        return False
    return kind in ("VARCHAR", "BIGINT", "DOUBLE")


def identifying(table: Table, column: str, total: int, texts: list[str], source: TableSource) -> Iterator[Problem]:
    """Refuse a column of so many different values some of which, as texts, are direct identifiers."""
    found = identifiers.among(texts, total)
    if found:
        what, n = found
        rule = f"holds {what}, which are refused ({n:,} of {total:,} different values looked at)"
        yield Problem(table.name, column, rule, hint=_out(table, column, source))


def _out(table: Table, column: str, source: TableSource) -> str:
    theirs = flow(source.theirs.get(column, column))
    out = "leave the column out"
    return out if source.origin == "frame" else f"{out}: drop: [{theirs}] under {table.name} in bank.yaml"


def _different(engine: DuckDB, table: str, column: str, kind: str, rows: int) -> tuple[int, list[str]]:
    """Count the different values of a column, and return those that may identify, as text.

    A column of many different values is looked at in evenly spaced rows: where it identifies, they show it. Free text,
    which has blanks or signs of another script, is looked at as a whole: one remark in a million may name somebody.
    """
    q, text = quoted(column), "v"
    if kind != "VARCHAR":
        whole = f"abs(v) BETWEEN {LONG} AND 1e36 AND v = trunc(v)"
        text = f"CASE WHEN {whole} THEN CAST(CAST(v AS HUGEINT) AS VARCHAR) ELSE CAST(v AS VARCHAR) END"
    listed = f"list({text}) FILTER (WHERE regexp_matches({text}, {literal(identifiers.COARSE)}))"

    def look(where: str) -> tuple[int, int, list[str]]:
        distinct = f"SELECT DISTINCT {q} AS v FROM {quoted(table)} WHERE {q} IS NOT NULL{where}"
        free = "count(*) FILTER (WHERE regexp_matches(trim(CAST(v AS VARCHAR)), '[^!-~]'))"
        [row] = engine.run(f"SELECT count(*), {free}, ({listed})[:{LOOK}] FROM ({distinct})")
        return int(row[0]), int(row[1]), row[2] or []

    step = -(-rows // LOOK)
    total, free, found = look(f" AND rowid % {step} = 0" if step > 1 else "")
    if step > 1 and (total <= FEW or free > total / 10):
        total, _, found = look("")
    return total, found


# --- currencies -------------------------------------------------------------------------------------------------------


def currencies(engine: DuckDB, table: Table, source: TableSource, extras: Sequence[str], own: str) -> Iterator[Problem]:
    """Refuse columns beside amounts that hold codes of other currencies, whatever they are called."""
    if source.rates or source.origin == "frame" or all(c.kind != "money" for c in table.columns):
        return
    read = f"SELECT {', '.join(map(quoted, extras))} FROM ({source.query})" if extras else ""
    for query in filter(None, (source.beside, read)):
        columns = [c for c, kind in engine.described(f"({query})") if kind == "VARCHAR" or kind.startswith("ENUM")]
        codes = [f"trim(CAST({quoted(c)} AS VARCHAR))" for c in columns]
        first = engine.ask(f"SELECT {', '.join(codes)} FROM ({query}) AS q LIMIT {FEW}") if codes else []
        for column, code, seen in zip(columns, codes, zip(*first, strict=True), strict=False):
            if {*seen} - CODES - {"", None}:
                continue
            asked = f"SELECT DISTINCT {code} FROM ({query}) AS q WHERE {code} <> '' LIMIT {len(CODES) + 1}"
            found = {c for (c,) in engine.ask(asked)}
            if found <= CODES and found - {own} and found != {"ALL"}:
                rule = f"holds codes of currencies ({', '.join(sorted(found)[:5])}), and amounts are read as {own}"
                theirs = flow(source.theirs.get(column, column))
                rates = ", ".join(f"{c}: …" for c in sorted(found - {own}))
                said = f"currency: {{column: {theirs}, rates: {{{rates}}}}}"
                hint = f"declare {said} under {table.name}, or that it says nothing of the amounts: drop: [{theirs}]"
                yield Problem(table.name, column, rule, hint=hint)
