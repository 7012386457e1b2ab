"""Columns derived from others of the same row: a small, safe language, of which every piece is listed here.

SQL's own grammar, parsed by sqlglot; whatever is not listed is refused. How a name is read depends on where it stands:
beside numbers as a number, in a date's place as a date. Nothing fails silently: what cannot be computed in a row
raises, and the load counts it.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crmresearch.data.contract import literal, nearest
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from sqlglot.expressions import Expression


TYPE = {"number": "DOUBLE", "whole": "INTEGER", "text": "VARCHAR", "date": "DATE", "truth": "BOOLEAN"}
WANTED = {"money": "number", "number": "number", "count": "number", "month": "date", "date": "date", "flag": "truth"}
FUNCTIONS: dict[str, tuple[tuple[str, ...], str, str]] = {  # kinds of the arguments, kind of the result, SQL
    "number": (("number",), "number", "{0}"),
    "year": (("date",), "number", "CAST(year({0}) AS DOUBLE)"),
    "month": (("date",), "number", "CAST(month({0}) AS DOUBLE)"),
    "day": (("date",), "number", "CAST(day({0}) AS DOUBLE)"),
    "add_days": (("date", "whole"), "date", "({0} + {1})"),
    "add_months": (("date", "whole"), "date", "CAST({0} + to_months({1}) AS DATE)"),
    "days_between": (("date", "date"), "number", "CAST({0} - {1} AS DOUBLE)"),
    "months_between": (
        ("date", "date"),
        "number",
        "CAST(date_diff('month', {1}, {0}) - CAST(day({0}) < day({1}) AS INTEGER) AS DOUBLE)",
    ),
    "first_of_month": (("date",), "date", "CAST(date_trunc('month', {0}) AS DATE)"),
    "abs": (("number",), "number", "abs({0})"),
    "round": (("number",), "number", "round({0})"),
    "floor": (("number",), "number", "floor({0})"),
    "ceil": (("number",), "number", "ceil({0})"),
    "lower": (("text",), "text", "lower({0})"),
    "upper": (("text",), "text", "upper({0})"),
    "trim": (("text",), "text", "trim({0})"),
    "length": (("text",), "number", "CAST(length({0}) AS DOUBLE)"),
    "replace": (("text", "text", "text"), "text", "replace({0}, {1}, {2})"),
    "substring": (("text", "whole", "whole"), "text", "substring({0}, {1}, {2})"),
}
NAMES = ("date", "text", "coalesce", *FUNCTIONS)
ALLOWED = (
    "columns of the file, numbers, 'texts', null, true, false, + - * / %, ||, = <> < <= > >=, in, between, is null, "
    "and, or, not, case, " + ", ".join(sorted(NAMES))
)
SIGNS = {"Add": "+", "Sub": "-", "Mul": "*"}
EQUAL = {"EQ": "=", "NEQ": "<>"}
ORDER = {"LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
SAID = {"truth": "truth value", "whole": "whole number"}
TOO_LONG = "is too long; derive it in steps, in the file"
LONGEST = 20_000  # characters of SQL: some arguments are written twice


@functools.cache
def _parser() -> Any:
    from sqlglot.parser import Parser

    class Plain(Parser):
        """No function is known, so that each comes as it was written: a name and its arguments."""

        FUNCTIONS = {}  # noqa: RUF012 (as the base class does)
        FUNCTION_PARSERS = {}  # noqa: RUF012
        NO_PAREN_FUNCTIONS = {}  # noqa: RUF012

    return Plain


def parsed(text: str) -> Expression:
    """Parse one formula; more, less, or something else is refused."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        found = _parser()().parse(sqlglot.tokenize(text), text)
    except (SqlglotError, RecursionError):
        hint = 'write one such as quarters * 3; a name that is a word of SQL, or has blanks, in double quotes: "end"'
        raise InputError(f"cannot be read: {_short(text)}; {hint}") from None
    if len(found) != 1 or found[0] is None:
        raise InputError(f"is not one formula: {_short(text)}")
    return found[0]


def names_in(text: str, header: Sequence[str]) -> list[str]:
    """Return the columns of a file that a formula names; a name that is none is refused with the nearest."""
    from sqlglot.expressions import Column

    found = dict.fromkeys(c.name for c in parsed(text).find_all(Column))
    for name in found:
        if name not in header:
            raise InputError(f"names no column of the file, {name}: {nearest(name, header)}")
    return list(found)


def written(
    text: str, kinds: Mapping[str, str | None], read: Callable[[str, str], str], kind: str = ""
) -> tuple[str, str]:
    """Write a formula for the engine.

    Parameters
    ----------
    text : str
        The formula.
    kinds : mapping
        What each column of the file is (number, date, truth); None for text, which may be any of them.
    read : callable
        Writes how a column is read as a kind.
    kind : str
        Kind of the contract's column that it fills; empty for one of the bank's own.

    Returns
    -------
    sql, type : str
        What the engine computes, and its type there.
    """
    tree, wanted = parsed(text), WANTED.get(kind, "text" if kind else None)
    writer = _Writer(kinds, read)
    try:
        own = writer.kind(tree) or wanted or "text"
        if wanted == "text" or (wanted == "truth" and own == "number"):  # 1 and 0 are read as a flag's text is
            own = "text"
        if wanted not in (None, own) and own != "text":
            raise InputError(f"gives a {SAID.get(own, own)}, not a {SAID.get(wanted, wanted)}: {_short(text)}")
        return (writer.as_text(tree) if own == "text" else writer.write(tree, own)), TYPE[own]
    except RecursionError:
        raise InputError(TOO_LONG) from None


def fails(kind: str) -> str:
    """Write what fails when it is computed, and not before."""
    return f"CAST('?' AS {TYPE[kind]})"


def of_number(value: str) -> str:
    """Write a number as text, a whole one without decimals."""
    whole = f"{value} = round({value}) AND abs({value}) < 1e15"
    return f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) ELSE CAST({value} AS VARCHAR) END"


def _short(piece: Expression | str) -> str:
    text = " ".join((piece if isinstance(piece, str) else piece.sql(normalize_functions=False)).split())
    return text if len(text) <= 60 else text[:57] + "…"


class _Writer:
    """Writes a parsed formula, piece by piece."""

    def __init__(self, kinds: Mapping[str, str | None], read: Callable[[str, str], str]) -> None:
        self.kinds, self.read = kinds, read

    def kind(self, node: Any) -> str | None:
        """Return what a piece is, whatever stands around it; None if that decides."""
        name = type(node).__name__
        if name == "Paren":
            return self.kind(node.this)
        if name == "Column":
            return self.kinds.get(node.name)
        if name == "Literal":
            return None if node.is_string else "number"
        if name == "Case":
            return self.common([i.args["true"] for i in node.args["ifs"]] + [node.args.get("default")])
        if name == "Anonymous":
            called = str(node.this).lower()
            if called == "coalesce":
                return self.common(node.expressions)
            return {"date": "date", "text": "text"}.get(called) or FUNCTIONS.get(called, ((), "", ""))[1] or None
        if name in (*SIGNS, "Div", "Mod", "Neg"):
            return "number"
        if name in (*EQUAL, *ORDER, "And", "Or", "Not", "In", "Between", "Is", "Boolean"):
            return "truth"
        return "text" if name == "DPipe" else None

    def common(self, nodes: Sequence[Any]) -> str | None:
        """Return what pieces that stand side by side are: the first that says so decides."""
        return next((k for n in nodes if n is not None and (k := self.kind(n))), None)

    def as_text(self, node: Any) -> str:
        """Write a piece as text, whatever it is."""
        own = self.kind(node)
        if own in (None, "text") or type(node).__name__ == "Column":
            return self.write(node, "text")
        value = self.write(node, str(own))
        return of_number(value) if own == "number" else f"CAST({value} AS VARCHAR)"

    def write(self, node: Any, kind: str) -> str:
        """Write a piece as a kind, or refuse it by name."""
        name = type(node).__name__
        written = self.neutral(node, name, kind)
        if written is None:
            own = self.kind(node)
            made = self.made(node, name)
            if made is None or own is None:
                raise InputError(f"has a piece that is not allowed, {_short(node)}; allowed are {ALLOWED}")
            if kind == "whole" and own == "number":
                made = (
                    f"CASE WHEN {made} = round({made}) THEN CAST({made} AS INTEGER) "
                    f"WHEN {made} IS NOT NULL THEN {fails('whole')} END"
                )
            elif own != kind:
                raise InputError(_instead(own, kind, node))
            written = made
        if len(written) > LONGEST:
            raise InputError(TOO_LONG)
        return written

    def neutral(self, node: Any, name: str, kind: str) -> str | None:
        """Write a piece that becomes what is wanted of it; None if it is something of its own."""
        if name == "Paren":
            return f"({self.write(node.this, kind)})"
        if name == "Null":
            return f"CAST(NULL AS {TYPE[kind]})"
        if name == "Literal":
            return _constant(node, kind)
        if name == "Column" and not node.args.get("table"):
            own = self.kinds.get(node.name)
            numeric = own == "number" and kind in ("whole", "date")  # days may be numbers: 20200513
            if own not in (None, kind) and kind != "text" and not numeric:
                raise InputError(_instead(str(own), kind, node))
            return self.read(node.name, kind)
        if name == "Case":
            arms = node.args["ifs"]
            if node.this is not None:
                arms = [arm.copy() for arm in arms]
                for arm in arms:
                    arm.set("this", _equal(node.this, arm.this))
            inner = " ".join(
                f"WHEN {self.write(a.this, 'truth')} THEN {self.write(a.args['true'], kind)}" for a in arms
            )
            last = node.args.get("default")
            return f"CASE {inner}{'' if last is None else f' ELSE {self.write(last, kind)}'} END"
        if name == "Anonymous" and str(node.this).lower() == "coalesce" and node.expressions:
            return f"coalesce({', '.join(self.write(n, kind) for n in node.expressions)})"
        return None

    def made(self, node: Any, name: str) -> str | None:
        """Write a piece that is of one kind, wherever it stands; None if it is not in the list."""
        if name in (*SIGNS, "Div", "Mod"):
            left, right = self.write(node.this, "number"), self.write(node.expression, "number")
            if name in SIGNS:
                return f"({left} {SIGNS[name]} {right})"
            by = f"CASE WHEN {right} = 0 THEN {fails('number')} ELSE {right} END"
            return f"({left} {'/' if name == 'Div' else '%'} {by})"
        if name == "Neg":
            return f"(-{self.write(node.this, 'number')})"
        if name == "DPipe":
            return f"({self.as_text(node.this)} || {self.as_text(node.expression)})"
        if name == "Boolean":
            return "true" if node.this else "false"
        if name in ("And", "Or"):
            return f"({self.write(node.this, 'truth')} {name.upper()} {self.write(node.expression, 'truth')})"
        if name == "Not":
            return f"(NOT {self.write(node.this, 'truth')})"
        if name == "Is" and type(node.expression).__name__ == "Null":
            return f"({self.as_text(node.this)} IS NULL)"
        if name in (*EQUAL, *ORDER):
            left, right = self.alike([node.this, node.expression], ordered=name in ORDER)
            return f"({left} {(EQUAL | ORDER)[name]} {right})"
        if name == "In" and set(node.args) == {"this", "expressions"}:
            value, *listed = self.alike([node.this, *node.expressions])
            return f"({value} IN ({', '.join(listed)}))"
        if name == "Between" and not node.args.get("symmetric"):
            value, low, high = self.alike([node.this, node.args["low"], node.args["high"]], ordered=True)
            return f"({value} BETWEEN {low} AND {high})"
        return self.called(node) if name == "Anonymous" else None

    def alike(self, nodes: Sequence[Any], ordered: bool = False) -> list[str]:
        """Write pieces that are compared, all as one kind."""
        kind = self.common(nodes) or "text"
        if ordered and kind == "text":
            pieces = " and ".join(_short(n) for n in nodes)
            raise InputError(f"puts texts in order, {pieces}; write number(…) or date(…) around a column")
        return [self.as_text(n) if kind == "text" else self.write(n, kind) for n in nodes]

    def called(self, node: Any) -> str | None:
        """Write a call of one of the functions."""
        called, given = str(node.this).lower(), node.expressions
        if called == "text" and len(given) == 1:
            return self.as_text(given[0])
        if called == "number" and len(given) == 1 and self.kind(given[0]) == "text":
            return f"CAST(nullif(trim({self.as_text(given[0])}), '') AS DOUBLE)"
        if called == "date" and len(given) == 3:
            return f"make_date({', '.join(self.write(n, 'whole') for n in given)})"
        kinds, _, sql = (("date",), "date", "{0}") if called == "date" else FUNCTIONS.get(called, ((), "", ""))
        if sql and len(kinds) != len(given):
            raise InputError(f"calls {called} with {len(given)} values instead of {len(kinds)}, {_short(node)}")
        return sql.format(*(self.write(n, k) for n, k in zip(given, kinds, strict=True))) if sql else None


def _instead(own: str, kind: str, node: Any) -> str:
    return f"has a {SAID.get(own, own)} where a {SAID.get(kind, kind)} is wanted, {_short(node)}"


def _equal(left: Any, right: Any) -> Any:
    from sqlglot.expressions import EQ

    return EQ(this=left.copy(), expression=right.copy())


def _constant(node: Any, kind: str) -> str:
    """Write a number or a text that stands in a formula."""
    value = str(node.this)
    if node.is_string and kind == "text":
        return literal(value)
    if node.is_string and kind == "date":
        try:
            return f"DATE '{datetime.date.fromisoformat(value):%Y-%m-%d}'"
        except ValueError:
            raise InputError(f"has a date that is none, '{value}'; write '2022-12-31'") from None
    if not node.is_string and kind == "whole" and re.fullmatch(r"\d{1,9}", value):
        return value
    if not node.is_string and kind == "number" and re.fullmatch(r"\d*\.?\d+([eE][+-]?\d+)?|\d+\.", value):
        return f"CAST({value} AS DOUBLE)"
    raise InputError(f"has {_short(node)} where a {SAID.get(kind, kind)} is wanted")
