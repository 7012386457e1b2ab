"""What a bank was understood to hold: a report of aggregates, and what deserves a look before anything is run.

No value of a row is printed: numbers are told by the power of ten within which they lie, dates by their years, and
counts of fewer rows than may be shown as such.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crmresearch.data.bank import Bank
from crmresearch.data.contract import quoted
from crmresearch.data.description import TableSource
from crmresearch.data.loading import breaches, made_missing
from crmresearch.data.pseudonyms import COLUMNS
from crmresearch.data.reductions import loyalty as reductions
from crmresearch.data.sources.names import find
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError, Missing, NotApplicable
from crmresearch.rules import rules
from crmresearch.studies import loyalty

KINDS = {"VARCHAR": "text", "BIGINT": "whole number", "DOUBLE": "number", "BOOLEAN": "yes or no", "DATE": "date"}
KINDS |= {"count": "whole number", "flag": "yes or no"}
MOST = "nearly all"  # how a count is shown whose complement is suppressed
COSTS = ("service_cost", "risk_cost", "allocated_cost")  # positive, and taken off
INCOME = ("fees", "net_interest")
# counts in what loading and the studies say
COUNTED = re.compile(r"(?<![\w.,])\d+(?= (?:rows|ids|customers|came|were)\b)|(?<=\()\d+(?=\))")
WAYS = (  # names of a column that tells debits from credits
    *(
        "debit",
        "dc",
        "d_c",
        "debit_credit",
        "credit_debit",
        "direction",
        "sign",
        "type",
        "transaction_type",
        "trans_type",
    ),
    *("soll_haben", "sollhaben", "s_h", "s_h_kennzeichen", "sens", "signo", "segno", "借贷", "借贷标志", "收支"),
)


class Seen(NamedTuple):
    """A column in aggregates: type, values, distinct ones (approximately), the ends, values below and above nothing."""

    kind: str
    n: int
    distinct: int
    low: Any = None
    high: Any = None
    below: int = 0
    above: int = 0


def seen(bank: Bank, table: str) -> dict[str, Seen]:
    """Look at all columns of a table in one pass of the engine."""
    brought = bank.columns(table)
    coded = COLUMNS if bank.pseudonymous else ()
    described = bank.engine.described(quoted(table))
    columns = {c: "VARCHAR" if c in coded else kind for c, kind in described if c in brought}
    # the estimate may lie far above the values that there are
    distinct = "least(approx_count_distinct({0}), count({0}))" if bank.engine.here else "count(DISTINCT {0})"
    parts = []
    for c, kind in columns.items():
        q = quoted(c)
        ends = f"min({q}), max({q})" if kind not in ("VARCHAR", "BOOLEAN") else "NULL, NULL"
        signs = (
            f"count(*) FILTER (WHERE {q} < 0), count(*) FILTER (WHERE {q} > 0)"
            if kind.startswith("DECIMAL")
            else "0, 0"
        )
        parts.append(f"count({q}), {distinct.format(q)}, {ends}, {signs}")
    [row] = bank.engine.ask(f"SELECT {', '.join(parts)} FROM {quoted(table)}")
    return {c: Seen(kind, *row[6 * i : 6 * i + 6]) for i, (c, kind) in enumerate(columns.items())}


def report(bank: Bank, name: str, from_dir: Path | None = None) -> tuple[list[str], int]:
    """Say what a bank holds as it was read, in 80 columns, and what deserves a look.

    Parameters
    ----------
    bank : Bank
        As opened.
    name : str
        By what name or path.
    from_dir : Path, optional
        Another folder than its own whose files a ``bank.yaml`` may name.

    Returns
    -------
    lines : list of str
    doubts : int
        How many things deserve a look; the last lines name them.
    """
    description = find(name, from_dir)
    coded = made_missing(description)
    lines: list[str] = []
    doubts: list[str] = []
    for table in bank.tables:
        facts = seen(bank, table)
        source = description.tables.get(table, TableSource("", origin="other tables"))
        lines.append(f"{table}: {_told(bank.rows(table))} rows from {source.origin}")
        lines += _columns(bank, table, facts)
        lines += [f"{table}: {_covered(line)}" for line in bank.made(table)]
        if unread := bank.unread(table):
            lines.append(f"{table}: columns not read: {', '.join(unread)}")
        if counts := coded.get(table):
            told = (f"{c} ({_told(n, bank.rows(table))})" for c, n in counts.items())
            lines.append(f"{table}: made missing by codes: {', '.join(told)}")
        if table == "transactions" and facts["amount"].above and not facts["amount"].below and not _way(bank, facts):
            lines.append(f"{table}: no amount is negative: all are read as purchases or credits, none as a debit")
        if n := _tolerated(bank, table):
            days = bank.about.tolerance_days
            within = days.get(table, days.get("*", 0))
            late = f"by {within} days at most (tolerance_days): {_told(n, bank.rows(table))} rows"
            lines.append(f"{table}: out of its customer's time {late}")
        lines.append("")
        doubts += _signs(bank, table, facts, source.theirs)
    doubts += _survey(bank)
    what = f"{len(doubts)} to look at" if doubts else "no problem found"
    if bank.about.exit_rule:
        lines += [f"rows left out by the exit rule: {bank.rules()['exit']}", ""]
    lines.append(f"{bank.name}: {len(bank.tables)} table{'s' if len(bank.tables) > 1 else ''}, {what}")
    lines += [f"  - {doubt}" for doubt in doubts]
    fold = textwrap.TextWrapper(80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [fold.fill(line) for line in lines], len(doubts)


def _columns(bank: Bank, table: str, facts: Mapping[str, Seen]) -> Iterator[str]:
    known = {c.name: c.kind for c in TABLES[table].columns}
    yield f"  {'column':<24} {'type':<12} {'missing':>10} {'distinct':>10}  within"
    for name, s in facts.items():
        kind = known.get(name) or KINDS.get(s.kind) or s.kind.lower()
        rows, few = bank.rows(table), 0 < s.n < rules.least
        counts = f"{_told(rows - s.n, rows):>10} {rules.below if few else f'~{s.distinct:,}':>10}"
        within = "" if few else _within(name, s)
        yield f"  {_fitted(name, 24)} {KINDS.get(kind, kind):<12} {counts}  {within}".rstrip()


def _told(n: int, of: int = 0) -> str:
    """Write how many rows there are, unless they, or the rest of all, are few."""
    most = MOST if n > 0 and 0 < of - n < rules.least else f"{n:,}"
    return rules.below if 0 < n < rules.least else most


def _covered(text: str) -> str:
    """Hide counts of few rows in a sentence."""
    return COUNTED.sub(lambda match: rules.below if 0 < int(match[0]) < rules.least else match[0], text)


def _fitted(text: str, width: int) -> str:
    """Fill or cut a text to so many cells of a terminal, in which a Chinese sign takes two."""
    out, used = "", 0
    for sign in text:
        cells = 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        if used + cells > width:
            return (
                out[:-1] + "…" + " " * (width - used - 1 + (2 if unicodedata.east_asian_width(out[-1]) in "WF" else 1))
            )
        out, used = out + sign, used + cells
    return out + " " * (width - used)


def _within(name: str, s: Seen) -> str:
    """Tell the ends of a column by years, or by the powers of ten outside them."""
    if s.low is None:
        return ""
    if hasattr(s.low, "year"):
        return f"{s.low.year}" if s.low.year == s.high.year else f"{s.low.year} to {s.high.year}"
    if name.endswith("year"):
        return f"{int(s.low) // 10 * 10} to {int(s.high) // 10 * 10 + 9}"

    def power(value: Any, up: bool) -> str:
        size = float(abs(value))
        if size == 0:
            return "0"
        exponent = (math.ceil if up == (value > 0) else math.floor)(math.log10(size))
        shown = f"{10**exponent:,}" if 0 <= exponent <= 6 else f"1e{exponent}"
        return shown if value > 0 else f"-{shown}"

    return f"{power(s.low, False)} to {power(s.high, True)}"


def _tolerated(bank: Bank, table: str) -> int:
    """Count what a declared tolerance lets pass: what breaks the rules of a load that allows nothing."""
    about = bank.about
    if not about.tolerance_days:
        return 0
    return breaches(bank.engine, table, bank.tables, dataclasses.replace(about, tolerance_days={}))[2]


# --- what deserves a look ---------------------------------------------------------------------------------------------


def _signs(bank: Bank, table: str, facts: Mapping[str, Seen], theirs: Mapping[str, str]) -> Iterator[str]:
    """Find amounts whose sign is another convention than the contract's."""

    def turned(column: str) -> str:
        name = theirs.get(column, column)
        return f"declare derived: {{{column}: {json.dumps('-' + _term(name), ensure_ascii=False)}}} under {table}"

    for column in (c for c in (*COSTS, *INCOME) if table == "monthly" and c in facts):
        s = facts[column]
        expected = (
            "costs are positive here, and taken off" if column in COSTS else "what customers bring is positive here"
        )
        if s.below and not s.above:
            yield f"{table}.{column}: no amount is positive, but {expected}. Try: {turned(column)}"
        elif column in COSTS and s.below > s.above / 10:
            both = f"{_told(s.below, s.n)} amounts are negative and {_told(s.above, s.n)} positive"
            name = _term(theirs.get(column, column))
            whole = f"derived: {{{column}: {json.dumps(f'abs({name})', ensure_ascii=False)}}}"
            remedy = f"correct them, or, where none is a refund, declare {whole} under {table}"
            yield f"{table}.{column}: {both}, but {expected}. Try: {remedy}"
    if table == "transactions":
        s = facts["amount"]
        if s.above and not s.below and (way := _way(bank, facts)):
            amount = _term(theirs.get("amount", "amount"))
            formula = f"case when {_term(theirs.get(way, way))} = 'debit' then -{amount} else {amount} end"
            yield (
                f"{table}.amount: no amount is negative, but debits carry a minus here. Try: declare derived: "
                f"{{amount: {json.dumps(formula, ensure_ascii=False)}}} under {table}, with your word for debits"
            )
        elif s.below and not s.above:
            yield f"{table}.amount: no amount is positive, but credits and purchases are here. Try: {turned('amount')}"


def _way(bank: Bank, facts: Mapping[str, Seen]) -> str:
    """Return the column that says whether an amount is a debit, if the source has one."""
    columns = [*facts, *bank.unread("transactions")]
    other = "SELECT count(*) FILTER (WHERE direction NOT IN ('in', 'out')) FROM transactions"
    if "direction" in facts and bank.engine.ask(other) == [(0,)]:
        columns.remove("direction")  # the contract's own words: money moved, whose way is known without a sign
    return next((c for c in columns if c.casefold().replace(" ", "_").replace("/", "_") in WAYS), "")


def _term(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else f'"{name}"'


def _survey(bank: Bank) -> Iterator[str]:
    """Find what study 4 would stop at, construct by construct, by its own functions."""
    if "survey" not in bank.tables:
        return
    about, frame = bank.about, reductions.survey(bank)
    if isinstance(frame, Missing):
        return
    try:
        model = loyalty.declared_model(about.constructs, about.paths, frame)
    except InputError as error:
        if about.constructs:
            yield f"survey: {error}"
        return
    if about.constructs and not model.paths:
        yield "survey: no path leads from a construct to another. Try: declare paths: [[one, other]] in bank.yaml"
    for construct in model.names:
        try:
            loyalty.prepare_items(frame, model.only(construct))
        except NotApplicable:
            continue
        except InputError as error:
            yield f"survey: {_covered(str(error))}"
