"""How a column of a source becomes one of the contract: expressions in SQL of the loading engine.

Strict ones stop at the first value that cannot be read; the others make it missing, for those that count.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crmresearch.data import formulas
from crmresearch.data.contract import Problem, literal, quoted
from crmresearch.data.description import FILE, TableSource
from crmresearch.data.tables import CONSENT, SQL_TYPE, Column, Table
from crmresearch.errors import InputError

FAILED = ": failed"  # after the name of a derived column: whether its formula could not be computed
DERIVED = {"number": "number", "text": "text", "date": "date", "truth": "flag", "whole": "count"}  # kinds of formulas
CURRENCY = "_currency"  # beside money whose rows state a currency
ISO = r"\d{4}-\d{2}-\d{2}"  # a date
ZONED = ":[0-9.]+ ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"  # the end of a time that carries a zone
NUMERIC = ("money", "number")
MINUS = r"^\((.*)\)$|^(.*\d.*?)\s*-$"  # how accounts write what is below 0: (1,250.50), 1.250,50-
WIDE = ("−–０１２３４５６７８９．，－＋（）／：", "--0123456789.,-+()/:")  # and what is read instead
SIGN = {
    "EUR": "€",
    "GBP": "£",
    "USD": r"\$",
    "CNY": "[¥￥元]",
    "JPY": "[¥￥円]",
    "INR": "₹",
    "KRW": "₩",
    "CHF": r"Fr\.",
}
FORMATS = (  # of dates, as they are looked for
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y. %m. %d.", "%Y%m%d", "%d%m%Y", "%m%d%Y",
    "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%y/%m/%d",
    "%y.%m.%d", "%y%m%d", "%d%m%y", "%m%d%y", "%Y年%m月%d日", "%y年%m月%d日", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y",
    "%d. %b %Y", "%d.%b.%Y", "%d/%b/%Y", "%d/%b/%y", "%b %d, %Y", "%a, %d %b %Y", "%a %d %b %Y", "%a, %d.%m.%Y",
    "%a %d.%m.%Y", "%a %d/%m/%Y", "%Y-%m", "%m/%Y", "%m.%Y", "%Y%m", "%b %Y", "%b %y", "%b-%Y", "%b-%y", "%b/%Y",
    "%b/%y", "%Y年%m月", "%Y년 %m월 %d일", "%Y년 %m월", "%G-W%V-%u", "%G-W%V", "%Y-%j",
)  # fmt: skip
HOURS = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S.%f")  # behind them
MONTHS = (  # in other languages, what is cut to three letters; and how they stand between the numbers
    (r"(\d)(st|nd|rd|th|er)\b", r"\1"), (r" de ", " "), (r"\bjuin\b[.]?", "Jun"), (r"\bjuil\pL*[.]?", "Jul"),
    (r"(\pL{3})\pL*[.] ", r"\1 "), (r"(\pL{3})\pL+", r"\1"), ("jän|ene|gen", "Jan"), ("f[ée]v", "Feb"),
    ("m(är|rz|rt|aa)", "Mar"), ("abr|avr", "Apr"), ("ma[ig]|mei", "May"), ("giu", "Jun"), ("lug", "Jul"),
    ("ago|ao[ûu]", "Aug"), ("set", "Sep"), ("okt|ott|out", "Oct"), ("dez|dic|déc", "Dec"),
)  # fmt: skip
SERIAL = (  # numbers that are days: least and most, what they count from, and how many make a day
    (2e4, 8e4, "1899-12-30", 1),  # Excel
    (3e8, 5e9, "1970-01-01", 86_400),
    (3e11, 5e12, "1970-01-01", 86_400_000),
)
STAND_INS = (  # days that stand for none
    *("9999-12-31", "9999-01-01", "2999-12-31", "3000-01-01", "2999-01-01", "2199-12-31", "2100-01-01", "2099-12-31"),
    *("2099-01-01", "4712-12-31", "2262-04-11", "1900-01-01", "1901-01-01", "1899-12-30", "1899-12-31", "1800-01-01"),
    *("1753-01-01", "1601-01-01", "0001-01-01", "1970-01-01"),
)


def cleaned(table: Table, source: TableSource, types: Mapping[str, str]) -> tuple[TableSource, dict[str, str]]:
    """Make codes for "missing" missing, and times that carry a zone the local times of theirs."""
    items, found = [], dict(types)
    for name, t in types.items():
        value = q = quoted(name)
        zone = source.zones.get(name, source.zones.get("*"))
        dated = name.startswith(FILE) or (name in table.names and table[name].kind in ("date", "month"))
        if zone and t == "TIMESTAMP WITH TIME ZONE":
            value, found[name] = f"timezone({literal(zone)}, {q})", "TIMESTAMP"
        elif zone and t == "VARCHAR" and dated:
            local = f"CAST(CAST(timezone({literal(zone)}, TRY_CAST({q} AS TIMESTAMPTZ)) AS DATE) AS VARCHAR)"
            value = f"CASE WHEN regexp_matches({q}, '{ZONED}') THEN {local} ELSE {q} END"
        if codes := codes_of(table, name, source):
            text = f"CAST({f'CAST({q} AS DATE)' if found[name].startswith('TIMESTAMP') else q} AS VARCHAR)"
            value = f"CASE WHEN trim({text}) IN ({', '.join(map(literal, codes))}) THEN NULL ELSE {value} END"
        if value != q:
            items.append(f"{value} AS {q}")
    if not items:
        return source, found
    return replace(source, query=f"SELECT * REPLACE ({', '.join(items)}) FROM ({source.query})"), found


def codes_of(table: Table, name: str, source: TableSource) -> list[str]:
    """Return how values that mean "missing" are written in a column: dates in its format too."""
    known = table[name] if name in table.names else None
    codes = source.missing.get(name, () if known and known.kind == "id" else source.missing.get("*", ()))
    forms = source.forms(name) if known and known.kind in ("date", "month") else ()
    return [*codes, *(_spelled(day, form) for day in codes if re.fullmatch(ISO, day) for form in forms)]


def _spelled(day: str, form: str) -> str:
    """Write a day in a format; one that is none, such as 0000-00-00, in its digits."""
    try:
        return datetime.date.fromisoformat(day).strftime(form)
    except ValueError:
        for sign, part in (("%Y", day[:4]), ("%y", day[2:4]), ("%m", day[5:7]), ("%d", day[8:])):
            form = form.replace(sign, part)
        return form


def texts(table: Table, source: TableSource, types: Mapping[str, str]) -> list[str]:
    """Return the columns of text that hold dates and numbers of the contract."""
    kinds = {c.name for c in table.columns if c.kind in ("date", "month", "count", *NUMERIC)}
    return [
        c for c, t in types.items() if t == "VARCHAR" and (c in kinds or c.startswith(FILE)) and c not in source.recode
    ]


def asks_wide(name: str, source: TableSource) -> str:
    """Write the query that has a row if a column holds digits of full width."""
    return f"SELECT 1 FROM ({source.query}) WHERE regexp_matches({quoted(name)}, '[０-９]') LIMIT 1"


def narrowed(source: TableSource, names: list[str]) -> TableSource:
    """Write the digits of these columns as numbers have them here."""
    items = ", ".join(f"translate({q}, '{WIDE[0]}', '{WIDE[1]}') AS {q}" for q in map(quoted, names))
    return replace(source, query=f"SELECT * REPLACE ({items}) FROM ({source.query})")


@functools.cache
def shape(form: str) -> re.Pattern[str]:
    """Return what texts in a format of days look like."""
    parts = {
        "Y": r"\d{4}",
        "b": r"(?:de )?[^\W\d_]{3,}\.?(?: de)?",
        "a": r"[^\W\d_]+\.?",
        "p": "[AaPp][Mm]",
        "f": r"\d+",
    }
    parts |= {"G": r"\d{4}", "j": r"\d{3}"} | ({"d": r"\d\d?(?:st|nd|rd|th|er)?"} if "%b" in form else {})
    return re.compile(re.sub("%([A-Za-z])", lambda m: parts.get(m[1], r"\d\d?"), re.sub(r"[.]", r"\\.", form)))


def english(text: str) -> str:
    """Write the names of months in a text as formats read them."""
    for theirs, ours in MONTHS:
        text = re.sub(theirs.replace(r"\pL", r"[^\W\d_]"), ours, text, flags=re.IGNORECASE)
    return text


def _day(text: str, forms: Sequence[str], strict: bool, bad: str) -> str:
    """Write the reading of a day; unless strict, one of two digits is no year of the first century."""
    if forms and all(form.startswith("%a") for form in forms):  # the name of the weekday, in any language
        text, forms = f"regexp_replace({text}, '^\\pL+[.]?,? *', '')", [form[2:].lstrip(", ") for form in forms]
    if any(name in form for form in forms for name in ("%b", "%B")):  # names of months: three letters, in English
        forms = [form.replace("%B", "%b") for form in forms]
        for theirs, ours in MONTHS:
            text = f"regexp_replace({text}, '{theirs}', '{ours}', 'gi')"
    if forms:
        days = f"CAST({'' if strict else 'try_'}strptime({text}, [{', '.join(map(literal, forms))}]) AS DATE)"
    else:
        days = f"{'' if strict else 'TRY_'}CAST({text} AS DATE)"
    if strict:  # years are looked at afterwards, all at once
        return days
    short = f"{days} < DATE '1000-01-01' AND NOT regexp_matches({text}, '0[0-9]{{3}}')"
    return f"CASE WHEN {short} THEN {bad} ELSE {days} END"


def _kind(raw_type: str) -> str | None:
    """Return what a formula takes a column of the source for; None for text."""
    if raw_type == "BOOLEAN":
        return "truth"
    if raw_type == "DATE" or raw_type.startswith("TIMESTAMP"):
        return "date"
    numbers = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "FLOAT", "DECIMAL")
    return "number" if raw_type.removeprefix("U").startswith(numbers) else None


def computed(
    table: Table, source: TableSource, types: Mapping[str, str], strict: bool = True
) -> tuple[TableSource, dict[str, str], list[str], list[Problem]]:
    """Put formulas' results in the place of the columns that only they read; unless strict, failures are marked beside.

    Returns the source, the types of its columns, the columns that were read as numbers of text, and problems.
    """
    numbers: dict[str, None] = {}
    found = {c: t for c, t in types.items() if not c.startswith(FILE)}
    kinds = {c.removeprefix(FILE): _kind(t) for c, t in types.items() if c.startswith(FILE)}

    def read(name: str, kind: str) -> str:
        name, t = FILE + name, types[FILE + name]
        q = quoted(name)
        if kind == "text" and t in ("DOUBLE", "FLOAT"):
            return formulas.of_number(q)
        value = cast(Column(name, DERIVED[kind]), t, source, strict=False)
        if kind == "text":
            return value
        if kind in ("number", "whole") and t == "VARCHAR":
            numbers[name] = None
        given = f"trim({q}) <> ''" if t == "VARCHAR" else f"{q} IS NOT NULL"
        value = f"CAST({value} AS INTEGER)" if kind == "whole" else value
        return f"CASE WHEN {value} IS NOT NULL THEN {value} WHEN {given} THEN {formulas.fails(kind)} END"

    items, problems = [quoted(c) for c in found], []
    for name, formula in source.derived.items():
        try:
            kind = table[name].kind if name in table.names else ""
            value, found[name] = formulas.written(formula, kinds, read, kind)
        except InputError as error:
            problems.append(Problem(table.name, name, f"its formula {error}"))
            continue
        if strict:
            items.append(f"{value} AS {quoted(name)}")
        else:
            items.append(f"TRY({value}) AS {quoted(name)}")
            items.append(f"TRY(struct_pack(v := {value})) IS NULL AS {quoted(name + FAILED)}")
    if source.derived:
        codes = {c: v for c, v in source.missing.items() if c in source.derived}
        source = replace(source, query=f"SELECT {', '.join(items)} FROM ({source.query})", missing=codes, zones={})
        source, _ = cleaned(table, source, {c: found[c] for c in codes})
    return source, found, list(numbers), problems


def own_column(name: str, raw_type: str, source: TableSource) -> Column:
    """Make a column of the bank's own with derived or recoded values: the latter are numbers if all of them are."""
    if name in source.recode:
        kinds = (("count", r"-?\d+"), ("number", r"-?\d+(\.\d+)?"), ("text", ".*"))
        values = source.recode[name].values()
        kind = next(k for k, pattern in kinds if all(re.fullmatch(pattern, value) for value in values))
    else:
        kind = next(k for k, t in DERIVED.items() if formulas.TYPE[k] == raw_type)
    return Column(name, DERIVED.get(kind, kind), required=False, nullable=True)


def plain(name: str, source: TableSource) -> str:
    """Write the text of a number with a decimal point and no mark of thousands; a mark out of place spoils it.

    Where marks are declared, a minus behind the number, brackets for one, full width, 万 and 亿, and the sign of the
    bank's own currency are read too. That of another currency is not: what it is worth is for the bank to say.
    """
    q = quoted(name)
    decimal, thousands = (m.get(name, m.get("*")) for m in (source.decimal, source.thousands))
    if decimal is None and thousands is None:
        return q
    decimal = decimal or ("," if thousands == "." else ".")
    thousands = thousands or ("." if decimal == "," else ",")
    money = "|".join(filter(None, (SIGN.get(source.currency), source.currency)))
    sign = literal(rf"^([-+(]?)\s*(?:{money})?\s*|\s*(?:{money})\s*([-)]?)$")
    bare = f"regexp_replace(translate(trim({q}), '{WIDE[0]}', '{WIDE[1]}'), {sign}, '\\1\\2', 'g')"
    bare = f"regexp_replace({bare}, {literal(MINUS)}, '-\\1\\2')"
    for unit, power in (("[万萬]", "e4"), ("[亿億]", "e8")):
        bare = f"regexp_replace({bare}, '([0-9]){unit}$', '\\1{power}')"
    first, last = f"left(ltrim(trim({q}), '+-'), 1)", f"right(trim({q}), 1)"
    q = f"CASE WHEN {first} BETWEEN '0' AND '9' AND {last} BETWEEN '0' AND '9' THEN {q} ELSE {bare} END"
    mark, point = re.escape(thousands), re.escape(decimal)
    parted = rf"(({mark}\d{{2}})*{mark}\d{{3}}|({mark}\d{{3}})+)"  # 1,25,000 is an Indian 125,000
    whole = literal(rf"[-+]?\d{{1,3}}{parted}({point}\d*)?(e[48])?")
    bare = f"replace({q}, {literal(thousands)}, '')"
    bare = bare if decimal == "." else f"translate({bare}, '{decimal}.', '.?')"
    return (
        f"CASE WHEN contains({q}, {literal(thousands)}) AND NOT regexp_full_match(trim({q}), {whole}) "
        f"THEN '?' ELSE {bare} END"
    )


def cast(column: Column, raw_type: str, source: TableSource, strict: bool) -> str:
    """Write the cast of one column; strict stops at the first bad value, otherwise bad values become null."""
    q, target = quoted(column.name), SQL_TYPE[column.kind]
    cast = "CAST" if strict else "TRY_CAST"
    bad = f"CAST(error('{column.name}') AS {target})" if strict else "NULL"
    text = raw_type == "VARCHAR" or raw_type.startswith("ENUM")
    mapping = source.recode.get(column.name)
    if mapping:
        arms = " ".join(f"WHEN {literal(theirs)} THEN {literal(ours)}" for theirs, ours in mapping.items())
        kept = (
            f"WHEN CAST({q} AS VARCHAR) IN ({', '.join(map(literal, column.allowed))}) THEN {q} "
            if column.allowed
            else ""
        )
        value = f"CASE WHEN {q} IS NULL THEN NULL {kept}ELSE CASE CAST({q} AS VARCHAR) {arms} ELSE "
        value += ("error('recode')" if strict else "NULL") + " END END"
        return f"{cast}({value} AS {target})"
    if raw_type == "BOOLEAN" and column.allowed == CONSENT:
        return f"CASE WHEN {q} THEN 'yes' WHEN NOT {q} THEN 'no' END"
    if column.kind in ("date", "month"):
        forms = source.forms(column.name)
        if forms and raw_type not in ("DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_S", "TIMESTAMP_MS"):
            return _day(f"CAST({q} AS VARCHAR)", forms, strict, bad)
        if (not text and "INT" in raw_type) or raw_type in ("DOUBLE", "FLOAT"):
            return f"{cast}(CAST({q} AS VARCHAR) AS DATE)"
        if text:  # midnight in a bank's zone is another day in UTC
            return f"CASE WHEN suffix({q}, 'Z') THEN {bad} ELSE {_day(q, (), strict, bad)} END"
        return f"{cast}({q} AS DATE)"
    if text and column.kind in ("count", *NUMERIC):
        q = plain(column.name, source)
    if column.kind == "money" and source.rates:
        arms = " ".join(
            f"WHEN {literal(c)} THEN {cast}({q} AS {target})"
            if rate == 1
            else f"WHEN {literal(c)} THEN {cast}({cast}({q} AS DOUBLE) * {rate!r} AS {target})"
            for c, rate in source.rates.items()
        )
        return f"CASE {CURRENCY} {arms} ELSE {bad} END"
    if column.kind == "count" and raw_type not in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT"):
        number = f"{cast}({q} AS DOUBLE)"
        whole = f"WHEN {number} = round({number}) THEN {cast}({number} AS BIGINT)"
        return f"CASE WHEN {q} IS NULL THEN NULL {whole} ELSE {bad} END"
    if column.kind == "number":
        number = f"{cast}({q} AS DOUBLE)"
        return f"CASE WHEN {q} IS NULL THEN NULL WHEN isfinite({number}) THEN {number} ELSE {bad} END"
    if column.kind == "flag" and text:
        return f"{cast}(lower(trim({q})) AS BOOLEAN)"
    if column.kind == "id" and raw_type in ("DOUBLE", "FLOAT"):  # whole numbers with gaps: 12 is no 12.0
        return formulas.of_number(q)
    if column.kind in ("id", "text") and text and source.text:
        return f"nullif(trim({q}), '')"
    return f"{cast}({q} AS {target})"


def cast_own(name: str, sql_type: str, raw_type: str, source: TableSource) -> str:
    """Write the cast of a column of the bank's own."""
    if not source.text or raw_type != "VARCHAR":
        return f"CAST({quoted(name)} AS {sql_type})"
    value = quoted(name) if sql_type == "VARCHAR" else plain(name, source)
    return f"CAST(nullif(trim({value}), '') AS {sql_type})"
