"""What a report advises where values cannot be read: declarations that read them, found in the values themselves.

No advice holds a value of a row; words and days that stand for none are known beforehand.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from crmresearch.data import casting
from crmresearch.data.contract import Problem, flow, literal, quoted
from crmresearch.data.description import TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import Column

_QUARTER = "date(number(substring({{t}}, {}, 4)), 3 * number(substring({{t}}, {}, 1)) - 2, 1)"
_PARTS = "date({}number(substring({{t}}, {}, {})), number(substring({{t}}, {}, 2)), number(substring({{t}}, {}, 2)))"
WRITTEN = (  # what no format reads: quarters, by their first day, years of the Republic of China, Excel's mark of text
    (r"\d{4}[-/ ]?[QT][1-4]", _QUARTER.format(1, "length({t})")),
    (r"[QT][1-4][-/ ]?\d{4}", _QUARTER.format("length({t}) - 3", 2)),
    (r"[1-4]\D{1,12}\d{4}", _QUARTER.format("length({t}) - 3", 1)),
    (r"\d{3}[-/.]\d\d[-/.]\d\d", _PARTS.format("1911 + ", 1, 3, 5, 8)),
    (r"'\d{4}-\d\d-\d\d", _PARTS.format("", 2, 4, 7, 10)),
)  # fmt: skip
DISTINCT = 10_000  # values of a column that are looked at: the days of 27 years
NONE = (
    *("0000-00-00", "00.00.0000", "00/00/0000", "00000000", "0", "-", "--", ".", "?", "n/a", "na", "#n/a", "n.a."),
    *("null", "none", "nan", "nat", "nil", "never", "open", "unknown", "k.a.", "keine", "offen", "unbekannt", "leer"),
    *("无", "無", "无数据", "未知", "空", "至今"),
)  # fmt: skip


def century(
    engine: DuckDB, p: Problem, brought: Collection[str], source: TableSource | None, end: datetime.date
) -> Problem:
    """Advise a formula where years of two digits lie after the end (68 is read as 2068, 69 as 1969) or stand alone."""
    if source is None or p.column not in brought:
        return p
    day = _theirs(p.column, source)
    if p.column == "birth_year" and p.rule.startswith("birth_year must be from"):
        last = engine.run("SELECT max(birth_year) FILTER (birth_year < 1850), min(birth_year) FROM customers")
        if last[0][0] is None or not 0 <= last[0][1] <= last[0][0] < 100:
            return p
        formula = (
            f"case when {day} > 99 then {day} when {day} > {end.year % 100} then 1900 + {day} else 2000 + {day} end"
        )
        return replace(p, hint=f"years of two digits: {_derive(p.column, formula)}, or {p.hint}")
    if not p.rule.endswith("after the observation end"):
        return p
    if "%y" not in "".join(source.forms(p.column)):
        return p
    formula = f"case when {day} > date('{end}') then add_months({day}, -1200) else {day} end"
    return replace(p, hint=f"years of two digits up to 68 are read as 20xx; {_derive(p.column, formula)}, or {p.hint}")


def _theirs(name: str, source: TableSource) -> str:
    """Write a column's name in the file for a formula."""
    theirs = source.theirs.get(name, name)
    return theirs if re.fullmatch("[A-Za-z_][A-Za-z_0-9]*", theirs) else quoted(theirs)


def _derive(name: str, formula: str) -> str:
    shown = json.dumps(formula, ensure_ascii=False)
    return f"declare derived: {{{name}: {shown}}}, in the place of its entry under columns"


def named(p: Problem, source: TableSource | None) -> Problem:
    """Put the name that a column bears in the file into the formula that is advised for it."""
    formula = json.dumps(f"{_theirs(p.column, source)} / 100", ensure_ascii=False) if source else '"theirs / 100"'
    return replace(p, hint=p.hint.replace('"theirs / 100"', formula))


YES = frozenset(re.findall(r"\S+", "j ja y t true 1 o oui s si sí sim d da tak 是 有 同意 はい 예"))
NO = frozenset(re.findall(r"\S+", "n nein f false 0 non no não nao nee net nie 否 无 不同意 いいえ 아니오"))


def consents(engine: DuckDB, p: Problem, source: TableSource | None) -> Problem:
    """Write out the recoding of a column of consents whose words are known."""
    if source is None or not p.rule.endswith("must be one of yes, no, not recorded") or p.column in source.derived:
        return p
    query = f"SELECT DISTINCT trim(CAST({p.column} AS VARCHAR)) AS v FROM ({source.query}) WHERE v <> '' LIMIT 13"
    given = [v for (v,) in engine.run(query)]
    meant = {v: "yes" if v.lower() in YES else "no" for v in sorted(given) if v.lower() in (*YES, *NO, "yes")}
    if {*meant} != {*given}:
        return p
    said = ", ".join(f"{flow(v)}: {ours}" for v, ours in meant.items())
    return replace(p, hint=f"recode the values in bank.yaml (recode: {{{p.column}: {{{said}}}}})")


def edge(p: Problem, rows: int) -> Problem:
    """Say where the one bad row may be none: a total at the foot, units below the header."""
    if p.rows != 1 or rows < 10 or p.examples not in ((1,), (rows,)):
        return p
    where = "the first, below the header: if it holds units or a second header" if p.examples == (1,) else "the last"
    where += "" if p.examples == (1,) else ": if it holds a total"
    return replace(p, hint=f"that row is {where}, delete it; {p.hint or 'or fill the value in'}")


ALIKE = (  # ids that differ in how they are written: as compared here, and the formula that writes them alike
    ("zeros in front are left out", "[0-9]{1,15}([.]0)?", "ltrim(regexp_replace({t}, '[.]0$', ''), '0')",
     "text(number({t}))"),
    ("capitals are small", ".*", "lower({t})", "lower({t})"),
    ("signs within are left out", ".*", "translate({t}, '- ./', '')",
     "replace(replace(replace(replace({t}, '-', ''), ' ', ''), '.', ''), '/', '')"),
)  # fmt: skip


def alike(engine: DuckDB, p: Problem, sources: Mapping[str, TableSource]) -> Problem:
    """Advise formulas where rows of nobody name customers, whose ids are written otherwise there."""
    ours, theirs = sources.get("customers"), sources.get(p.table)
    if not p.rule.endswith("must occur in customers.customer_id") or not ours or not theirs or ours.origin == "frame":
        return p
    if "customer_id" in ours.derived or p.column in theirs.derived:
        return p
    ids = [
        f"(SELECT DISTINCT trim(CAST({column} AS VARCHAR)) AS i FROM ({source.query}) WHERE {column} IS NOT NULL)"
        for source, column in ((ours, "customer_id"), (theirs, p.column))
    ]
    best: tuple[int, str] = (0, "")
    for how, shape, form, formula in ALIKE:
        written, plain = form.format(t="i"), f"count(*) = count(DISTINCT {form.format(t='i')})"
        known = f"SELECT {written} FROM {ids[0]}"
        fits = f"bool_and(regexp_full_match(i, '{shape}'))"
        [(apart, fit)] = engine.run(f"SELECT {plain}, {fits} FROM {ids[0]}")
        asked = f"SELECT count(*) FILTER ({written} IN ({known})), {fits} FROM {ids[1]} WHERE i NOT IN (FROM {ids[0]})"
        [(n, others)] = engine.run(asked)
        if apart and fit and others and n > best[0]:
            needed = []
            for table, column, source, column_ids in (
                ("customers", "customer_id", ours, ids[0]),
                (p.table, p.column, theirs, ids[1]),
            ):
                if engine.run(f"SELECT 1 FROM {column_ids} WHERE i <> {written} LIMIT 1"):
                    told = _derive(column, formula.format(t=_theirs(column, source)))
                    needed.append(f"under {table} {told}")
            best = n, f"{n:,} of these ids are there when {how}: {'; and '.join(needed)}"
    return replace(p, hint=f"{best[1]}; or {p.hint}") if best[0] else p


def percent(engine: DuckDB, column: Column, source: TableSource) -> str:
    """Advise a formula where percent signs stand behind numbers: hundredths, or what the sign stands behind."""
    value = f"regexp_extract({quoted(column.name)}, '[.,]?[0-9]+ *[%％]$')"
    asked = f"SELECT count(*), count(*) FILTER (WHERE v[1] = ',') FROM (SELECT {value} AS v FROM ({source.query}))"
    [(n, commas)] = engine.run(f"{asked} WHERE v <> ''")
    number = f"replace(replace({_theirs(column.name, source)}, '%', ''), '％', '')"
    declared = source.decimal.get(column.name, source.decimal.get("*"))
    mark = "" if declared == "." else "."  # 1,200% are twelve where a point is declared
    number = f"replace({number}, ',', '{mark}')" if commas else number
    return _derive(column.name, f"number({number}) / 100") if n else ""


def foreign(engine: DuckDB, column: Column, source: TableSource) -> int:
    """Count the amounts with the sign of another currency than the bank's."""
    own = casting.SIGN.get(source.currency, "")
    signs = "|".join(sign for sign in {*casting.SIGN.values(), "[A-Z]{3}"} if sign != own)
    where = f"regexp_matches({quoted(column.name)}, '[0-9] ?({signs})|({signs}) ?[0-9]')"
    [(n,)] = engine.run(f"SELECT count(*) FROM ({source.query}) WHERE {where}")
    return int(n)


def dates(
    engine: DuckDB, column: Column, raw_type: str, source: TableSource, end: datetime.date
) -> tuple[str, Sequence[str]]:
    """Say what to declare for a column of dates that cannot be read; and the formats that would read them all.

    Days after the end speak against a way of writing: 20-02-29 is rather a day of 2020 than one of 2029.
    """
    name, text = column.name, f"CAST({quoted(column.name)} AS VARCHAR)"
    engine.run(
        f"CREATE OR REPLACE TEMP TABLE _days AS SELECT {quoted(name)}, trim({text}) AS t, count(*) AS n "
        f"FROM ({source.query}) WHERE trim({text}) <> '' GROUP BY ALL LIMIT {DISTINCT}"
    )
    known = ", ".join(map(literal, NONE))
    [(zoned, hours, words)] = engine.run(
        f"SELECT count(*) FILTER (regexp_matches(t, '{casting.ZONED}')), count(*) FILTER (contains(t, ':')), "
        f"list(t ORDER BY t) FILTER (lower(t) IN ({known})) FROM _days"
    )
    if zoned:
        return f"declare timezone: {{{name}: UTC}} (or where the bank is, such as Asia/Shanghai) in bank.yaml", ()
    engine.run(f"DELETE FROM _days WHERE lower(t) IN ({known})")
    some = [t for (t,) in engine.run("SELECT t FROM _days")]
    some = some[:: len(some) // 200 + 1]
    ways = [day + hour for day in casting.FORMATS for hour in (casting.HOURS if hours else ("", ".0"))]
    ways = [way for way in ways if any(map(casting.shape(way).fullmatch, some))] or ["%Y-%m-%d"]

    def read(*forms: str) -> str:
        plain = replace(source, formats={name: forms}, zones={})
        return f"({casting.cast(column, raw_type, plain, False)})"

    def best(among: str) -> tuple[list[str], int]:
        """Find the ways that leave fewest rows unread, of these the fewest days after the end; and the rows left."""
        sums = [
            f"coalesce(sum(n) FILTER (coalesce(year({r}) NOT BETWEEN 1850 AND 2150, true)), 0), "
            f"count(*) FILTER ({r} > DATE '{end}')"
            for r in map(read, ways)
        ]
        [(*row, every)] = engine.run(f"SELECT {', '.join(sums)}, coalesce(sum(n), 0) FROM _days WHERE {among}")
        left = list(zip(row[::2], row[1::2], strict=True))
        least = min(left)
        return [way for way, n in zip(ways, left, strict=True) if n == least and least[0] < every], int(least[0])

    forms, rest = best("true")
    shown = ""
    if forms and rest:  # a second way of writing, that no value of the first has
        more, left = best(f"{read(forms[0])} IS NULL")
        if len(more) == 1 and engine.run(f"SELECT 1 FROM _days WHERE {read(forms[0])} <> {read(*more)}") == []:
            forms, rest = [forms[0], *more], left
            shown = f"both ways in which dates are written (date_format: {{{name}: {forms}}})"
    if forms and not shown and forms[0] not in (source.forms(name) or ("%Y-%m-%d",)):
        also = "".join(f" or '{form}'" for form in forms[1:3])
        shown = f"how dates are written (date_format: {{{name}: '{forms[0]}'}}{also})"
    number = "TRY_CAST(t AS DOUBLE)"
    [(low, high, texts)] = engine.run(f"SELECT min({number}), max({number}), count(*) - count({number}) FROM _days")
    for least, most, start, day in casting.SERIAL if not forms and low is not None and not texts else ():
        if least <= low and high <= most:
            value = f"add_days('{start}', floor(number({_theirs(name, source)}) / {day}))"
            shown, rest = f"that the numbers count days ({_derive(name, value).removeprefix('declare ')})", 0
    for shape, formula in WRITTEN if not forms and some and not shown else ():
        if all(re.fullmatch(shape, t) for t in some):
            derived = _derive(name, formula.format(t=_theirs(name, source))).removeprefix("declare ")
            shown, rest = f"a formula ({derived})", 0
    codes = f"codes for none (missing: {{{name}: {words}}})" if words else ""
    hint = f"declare {' and '.join(filter(None, (shown, codes)))} in bank.yaml" if shown or codes else ""
    if rest or not hint:
        hint += f"{'; correct the rest' if hint else 'correct these rows'} (no such day, or written otherwise)"
        hint += "" if forms else ", or declare date_format with %d, %m, %Y (%y of two digits, %b for names of months)"
    return hint, forms if forms and not rest else ()


def born(engine: DuckDB, column: Column, raw_type: str, source: TableSource, end: datetime.date) -> str:
    """Advise a formula where days of birth stand in the place of years."""
    _, forms = dates(engine, replace(column, kind="date"), raw_type, source, end)
    if not forms:
        return ""
    formula = _derive(column.name, f"year(date({_theirs(column.name, source)}))")
    written = f" and date_format: {{{column.name}: '{forms[0]}'}}"
    return f"{formula.removeprefix('declare ')}{written if forms[0] != '%Y-%m-%d' else ''}, or "


def marks(engine: DuckDB, column: Column, raw_type: str, source: TableSource, bad: int) -> str:
    """Say which marks of numbers, declared, would let most values be read; both, where two do."""
    name, left = column.name, dict[int, list[str]]()
    told = source.decimal.get(name, source.decimal.get("*"))
    for decimal, thousands in ((",", ""), ("", ","), ("", "'"), (",", " "), (",", "\u00a0"), (",", "\u202f")):
        marks = {"decimal": decimal, "thousands": thousands}
        by = {key: {name: mark} if mark else {} for key, mark in marks.items()}
        read = casting.cast(column, raw_type, replace(source, decimal=by["decimal"], thousands=by["thousands"]), False)
        where = f"trim({quoted(name)}) <> '' AND ({read}) IS NULL"
        [(n,)] = engine.run(f"SELECT count(*) FROM ({source.query}) WHERE {where}")
        shown = [
            f"{key}: {literal(mark) if mark in ', ' else json.dumps(mark)}"
            for key, mark in marks.items()
            if mark and (key, mark) != ("decimal", told)
        ]
        left.setdefault(int(n), []).append(", ".join(shown))
    best = min(left)
    if best >= bad:
        return ""
    first, *more = left[best]
    rest = f" ({best:,} are then left to correct)" if best else ""
    two = first == "decimal: ','" and "thousands: ','" in more
    return f"{first} (if 1,250 is 1.25) or thousands: ',' (if it is 1250), or " if two else f"{first}{rest}, or "


def signed(engine: DuckDB, column: Column, source: TableSource) -> str:
    """Advise a formula where letters behind the amounts tell debits from credits: 12.50 CR, 12,50 S."""
    value, t = f"trim({quoted(column.name)})", f"trim({_theirs(column.name, source)})"
    for plus, minus in (
        (("CR", "DR"), ("Cr", "Dr"), ("H", "S"), ("C", "D"), ("+", "-")) if column.kind == "money" else ()
    ):
        shape = f"[-0-9.,'' ]*[0-9] ?({re.escape(plus)}|{re.escape(minus)})"
        query = f"SELECT 1 FROM ({source.query}) WHERE {value} <> ''"
        if not engine.run(f"{query} AND NOT regexp_full_match({value}, '{shape}') LIMIT 1"):
            text = f"trim(substring({t}, 1, length({t}) - {len(plus)}))"
            ends = f"substring({t}, length({t}) - {len(minus) - 1}, {len(minus)}) = '{minus}'"
            point, comma = (
                _derive(column.name, f"case when {ends} then -number({number}) else number({number}) end")
                for number in (f"replace({text}, ',', '')", f"replace(replace({text}, '.', ''), ',', '.')")
            )
            declared = source.decimal.get(column.name, source.decimal.get("*"))
            if declared is not None:
                return comma if declared == "," else point
            if engine.run(f"{query} AND regexp_matches({value}, ',[0-9]{{1,2}} ?[^0-9]+$|[.][0-9]{{3}},') LIMIT 1"):
                return comma
            parted = "[-+]?([1-9]\\d{0,2}([.]\\d{3})+|\\d{1,3}) ?[^0-9]+"  # 1.250: a thousand, or one and a quarter
            two = not engine.run(f"{query} AND NOT regexp_full_match({value}, '{parted}') LIMIT 1")
            two = two and bool(engine.run(f"{query} AND contains({value}, '.') LIMIT 1"))
            return f"{point} (if 1.250 is 1.25) or {comma} (if it is 1250)" if two else point
    return ""


def codes_without_rate(engine: DuckDB, source: TableSource) -> list[str]:
    """Return the codes of currencies that have no rate; what is too long for one is not shown."""
    known = ", ".join(map(literal, source.recode[casting.CURRENCY]))
    asked = f"SELECT DISTINCT {casting.CURRENCY} FROM ({source.query}) WHERE {casting.CURRENCY} NOT IN ({known})"
    codes = sorted(code for (code,) in engine.run(f"{asked} LIMIT 20") if len(code) <= 4)
    return codes or ["(texts that are no codes)"]
