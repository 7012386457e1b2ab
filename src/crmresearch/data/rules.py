"""Rules of a bank's own: who counts as gone, what counts as contribution, how customers are grouped.

They are declared with the facts about the bank (:class:`~crmresearch.data.description.About`). Exits and groups are
worked out once, inside the engine, when the bank is loaded, so that no reduction can forget them; contribution is added
up by one expression of the reductions.
"""

from __future__ import annotations

import calendar
import dataclasses
import datetime
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crmresearch.data.contract import Problem, literal, nearest, quoted
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from crmresearch.data.description import About, TableSource
    from crmresearch.data.engines import DuckDB


CONTRIBUTION = ("net_interest", "fees", "-service_cost", "-risk_cost")
NUMBERS = ("DECIMAL", "DOUBLE", "BIGINT")
SEGMENT = "segment"  # column of ``customers`` that stands where city tiers do, if one is declared
MOST_SEGMENTS = 12
FEWEST = 10  # customers of a segment that models tell apart from the largest
MOST_CUTS = 8
LOOKS = {
    "exit_rule": "{without: transactions, months: 12} or {balance_below: 100, months: 6}",
    "contribution": "[net_interest, fees, -service_cost, -risk_cost]",
    "segments": "{tier: column of customers, or {column: [cut points]}, band: [cut points of the balance]}",
}


# --- what is declared -------------------------------------------------------------------------------------------------


def _must(key: str) -> InputError:
    return InputError(f"{key} must look like this: {LOOKS[key]}")


def exit_rule(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the rule by which customers count as gone; empty: only whoever closed the relationship."""
    if not given:
        return {}
    keys = set(given)
    try:
        months = int(str(given.get("months")))
        found = {"without": given["without"]} if "without" in keys else {"balance_below": float(given["balance_below"])}
    except (KeyError, ValueError, TypeError):
        raise _must("exit_rule") from None
    if len(keys) != 2 or not 1 <= months <= 120 or found.get("without", "transactions") != "transactions":
        raise _must("exit_rule")
    if not math.isfinite(found.get("balance_below", 0)):
        raise _must("exit_rule")
    return {**found, "months": months}


def contribution(given: Sequence[str]) -> tuple[str, ...]:
    """Read the columns of ``monthly`` that are added up, with a minus before those that are taken off."""
    names = tuple(str(name).replace(" ", "") for name in given)
    bare = [name.removeprefix("-") for name in names]
    if not names or not all(bare) or len(set(bare)) < len(bare):
        raise _must("contribution")
    return names


def segments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Read the groups: ``tier`` is ``{column: cut points}`` (none: its values), ``band`` cut points of the balance."""
    if not isinstance(given, Mapping) or set(given) - {"tier", "band"}:
        raise _must("segments")
    found: dict[str, Any] = {}
    if tier := given.get("tier"):
        column, cuts = next(iter(tier.items())) if isinstance(tier, Mapping) and len(tier) == 1 else (tier, ())
        if not isinstance(column, str):
            raise _must("segments")
        found["tier"] = {column: _cuts(cuts, of_values=True)}
    if "band" in given:
        found["band"] = _cuts(given["band"])
    return found


def _cuts(given: Any, of_values: bool = False) -> tuple[float, ...]:
    try:
        cuts = tuple(float(cut) for cut in ([] if isinstance(given, str) else given))
    except (ValueError, TypeError):
        raise _must("segments") from None
    rising = all(low < high for low, high in itertools.pairwise(cuts)) and all(map(math.isfinite, cuts))
    if not rising or len(cuts) > MOST_CUTS or not (cuts or of_values):
        raise InputError(f"cut points of segments must rise, and be no more than {MOST_CUTS}, such as [1000, 20000]")
    return cuts


def followed_to(about: About) -> datetime.date:
    """Return the last day on which an exit can be told: the exit rule's months before the observation ends."""
    end: datetime.date = about.observation_end
    if not about.exit_rule:
        return end
    after = end + datetime.timedelta(days=1)
    year, month = divmod(after.year * 12 + after.month - 1 - about.exit_rule["months"], 12)
    day = min(after.day, calendar.monthrange(year, month + 1)[1])
    return datetime.date(year, month + 1, day) - datetime.timedelta(days=1)


def followed(about: About) -> About:
    """Return the facts about a bank with the end of observation that its exit rule leaves."""
    if not about.exit_rule:
        return about
    last = followed_to(about)
    covered = {t: (min(first, last), min(end, last)) for t, (first, end) in about.covered.items()}
    return dataclasses.replace(about, observation_end=last, covered=covered)


def bands(cuts: Sequence[float]) -> list[str]:
    """Name the groups between cut points, so that the alphabet keeps their order."""
    inner = [f"{low:.10g} to {high:.10g}" for low, high in itertools.pairwise(cuts)]
    names = [f"below {cuts[0]:.10g}", *inner, f"{cuts[-1]:.10g} and more"]
    return [f"{k}: {name}" for k, name in enumerate(names, 1)]


# --- what is done at load ---------------------------------------------------------------------------------------------


def apply(engine: DuckDB, about: About, noted: dict[str, Any], sources: Mapping[str, TableSource]) -> list[Problem]:
    """Rewrite the loaded tables by the bank's rules; ``noted`` gets what changed, or the problems are returned."""
    found = list(problems(engine, about, noted, sources))
    if found:
        return found
    if tier := about.segments.get("tier"):
        _group(engine, *next(iter(tier.items())))
        noted["customers"]["brought"][SEGMENT] = "VARCHAR"
        sizes = engine.run(f"SELECT {SEGMENT}, count(*) FROM customers GROUP BY 1 ORDER BY 2 DESC, 1")
        noted["_segments"] = [name for name, size in sizes if name is not None and size >= FEWEST]
        n = len([name for name, _ in sizes if name is not None])
        if n > MOST_SEGMENTS:
            column = next(iter(tier))
            number = noted["customers"]["brought"][column].startswith(NUMBERS)
            hint = f"declare cut points: segments: {{tier: {{{column}: [low, high]}}}}, with your numbers"
            hint = hint if number else f"recode it to {MOST_SEGMENTS} values at most, or take segments out of bank.yaml"
            return [Problem("customers", column, f"{n:,} values are too many for segments", hint=hint)]
    if about.exit_rule:
        noted["_exits"] = _exits(engine, about, noted)
        noted["customers"]["brought"] |= {"left_on": "DATE", "exit_cause": "VARCHAR"}
        for name in (t for t in noted if t in TABLES):
            noted[name]["rows"] = int(engine.run(f'SELECT count(*) FROM "{name}"')[0][0])
    return []


def problems(
    engine: DuckDB, about: About, noted: Mapping[str, Any], sources: Mapping[str, TableSource]
) -> Iterator[Problem]:
    """Say what rules cannot be followed with the tables there are."""

    def lacks(key: str, *tables: str) -> Iterator[Problem]:
        for table in tables:
            if table not in noted:
                yield Problem(table, "", f"{key} needs this table", hint=f"bring it, or take {key} out of bank.yaml")

    if about.exit_rule:
        table = "transactions" if "without" in about.exit_rule else "monthly"
        yield from lacks("exit_rule", "customers", table)
        if not about.dated or followed_to(about) <= about.observation_start:
            rule = f"no observation is left {about.exit_rule['months']} months before it ends"
            yield Problem(table, "", rule, hint="declare fewer months in exit_rule")
        elif about.covered.get(table, (about.observation_start, about.observation_end)) != (
            about.observation_start,
            about.observation_end,
        ):
            hint = "shorten the observation period to what the table covers"
            yield Problem(table, "", "exit_rule needs this table over the whole period", hint=hint)
    if about.contribution != CONTRIBUTION:
        yield from lacks("contribution", "monthly")
        brought = noted.get("monthly", {}).get("brought", {})
        numbers = [c for c, kind in brought.items() if kind.startswith(NUMBERS) and c != "balance"]
        for name in (n.removeprefix("-") for n in about.contribution) if brought else ():
            if name not in numbers:
                rule = "is what an account holds, and no contribution" if name == "balance" else ""
                rule = rule or f"contribution names no column of amounts; {nearest(name, numbers)}"
                hint = "take it out of contribution, and name what is earned in a month" if name == "balance" else ""
                yield Problem("monthly", name, rule, hint=hint)
            elif gaps := engine.ask(f"SELECT count(*) FROM monthly WHERE {quoted(name)} IS NULL")[0][0]:
                yield Problem("monthly", name, "counts as contribution, so it must not be missing", int(gaps))
    if "band" in about.segments:
        yield from lacks("segments", "monthly")
    if tier := about.segments.get("tier"):
        yield from lacks("segments", "customers")
        brought = noted.get("customers", {}).get("brought", {})
        column, cuts = next(iter(tier.items()))
        if brought and (column not in brought or column == "customer_id"):
            known = [c for c in brought if c != "customer_id"]
            yield Problem("customers", column, f"segments names no column; {nearest(column, known)}")
        elif column in ("left_on", "exit_cause"):
            hint = "name a column that is known of everybody, or take segments out of bank.yaml"
            yield Problem(
                "customers", column, "is known only of those who left, and groups nobody who stays", hint=hint
            )
        elif brought and brought[column] == "DATE":
            yield Problem("customers", column, "is a date, and no group", hint=_by_year(column, about, sources))
        elif brought and cuts and not brought[column].startswith(NUMBERS):
            yield Problem("customers", column, "cut points need a column of numbers", hint="leave the cut points out")
        elif brought and SEGMENT in brought and column != SEGMENT:
            yield Problem("customers", SEGMENT, "a column of this name is in the way of segments", hint="rename it")


def _by_year(column: str, about: About, sources: Mapping[str, TableSource]) -> str:
    """Say how a date becomes a group: by its year, where it stands in a file."""
    source = sources.get("customers")
    if source is None or "history" in sources or source.origin == "frame":
        return "name a column of groups or numbers"
    year = f"{column.removesuffix('_on')}_year"
    formula = f"year({quoted(source.theirs.get(column, column))})".replace("'", "''")
    cut = f"segments: {{tier: {{{year}: [{about.observation_start.year}]}}}}"
    return f"declare derived: {{{year}: '{formula}'}} under customers, and {cut} with your years"


def _group(engine: DuckDB, column: str, cuts: Sequence[float]) -> None:
    """Write the segment of every customer beside what it is made of."""
    q = quoted(column)
    value = f"CAST({q} AS VARCHAR)"
    if cuts:
        *below, last = bands(cuts)
        arms = " ".join(f"WHEN {q} < {cut!r} THEN {literal(name)}" for cut, name in zip(cuts, below, strict=True))
        value = f"CASE WHEN {q} IS NULL THEN NULL {arms} ELSE {literal(last)} END"
    if column != SEGMENT:
        engine.run(f"ALTER TABLE customers ADD COLUMN {SEGMENT} VARCHAR")
        engine.run(f"UPDATE customers SET {SEGMENT} = {value}")
    else:
        engine.run(f"ALTER TABLE customers ALTER {SEGMENT} TYPE VARCHAR USING {value}")


def _exits(engine: DuckDB, about: About, noted: Mapping[str, Any]) -> dict[str, int]:
    """Date exits by the rule, end the observation as many months earlier, and count what that changed.

    A customer is gone after the last sign of life before the first ``months`` without one, counted from the next day;
    a closure within these months stays what it is. Who was there before the observation and gives no sign in its first
    months had gone before it. What follows the new end, or an exit by the rule, is left out.
    """
    end = f"DATE '{followed_to(about)}'"
    if "without" in about.exit_rule:
        sign = "SELECT DISTINCT customer_id, occurred_on AS day FROM transactions"
    else:
        below = repr(about.exit_rule["balance_below"])
        sign = f"SELECT customer_id, last_day(month) AS day FROM monthly WHERE balance >= {below}"
    silent = f"CAST({{day}} + INTERVAL 1 DAY + INTERVAL {about.exit_rule['months']} MONTH AS DATE)"
    engine.run(
        "CREATE TEMP TABLE _signs AS SELECT s.customer_id, s.day, lead(s.day) OVER (PARTITION BY s.customer_id "
        f"ORDER BY s.day) AS following FROM ({sign} UNION SELECT customer_id, acquired_on FROM customers) s "
        "JOIN customers c USING (customer_id) WHERE s.day >= c.observed_from AND (c.left_on IS NULL OR "
        "s.day <= c.left_on)"
    )
    engine.run(
        "CREATE TEMP TABLE _gone AS SELECT customer_id, min(s.day) AS day, arg_min(s.following, s.day) AS following, "
        "any_value(c.left_on) AS closed FROM _signs s JOIN customers c USING (customer_id) "
        f"WHERE s.day <= {end} AND coalesce(s.following, DATE '9999-12-31') >= {silent.format(day='s.day')} "
        f"AND coalesce(c.left_on, DATE '9999-12-31') >= {silent.format(day='s.day')} GROUP BY customer_id"
    )
    first = silent.format(day="(c.observed_from - 1)")
    engine.run(
        f"CREATE TEMP TABLE _unseen AS SELECT c.customer_id, c.observed_from > {end} AS later FROM customers c "
        "LEFT JOIN (SELECT customer_id, min(day) AS day FROM _signs GROUP BY customer_id) s USING (customer_id) "
        f"WHERE c.observed_from > {end} OR (coalesce(s.day, DATE '9999-12-31') >= {first} "
        f"AND coalesce(c.left_on, DATE '9999-12-31') >= {first})"
    )
    engine.run("DELETE FROM _gone WHERE customer_id IN (SELECT customer_id FROM _unseen)")
    counts = {
        "dormant": "SELECT count(*) FROM _gone",
        "closed_later": "SELECT count(*) FROM _gone WHERE closed IS NOT NULL",
        "came_back": "SELECT count(*) FROM _gone WHERE following IS NOT NULL",
        "before": "SELECT count(*) FROM _unseen WHERE NOT later",
        "later": "SELECT count(*) FROM _unseen WHERE later",
    }
    found = {name: int(engine.run(query)[0][0]) for name, query in counts.items()}
    _cut(engine, end, noted)
    for name in ("_signs", "_gone", "_unseen"):
        engine.run(f"DROP TABLE {name}")
    return found | {"closed": int(engine.run("SELECT count(left_on) FROM customers")[0][0]) - found["dormant"]}


def consent(engine: DuckDB, noted: dict[str, Any]) -> dict[str, int]:
    """Leave out who did not consent to analysis, in every table; count customers by what they said."""
    counted = engine.run("SELECT consent_analysis, count(*) FROM customers GROUP BY ALL ORDER BY ALL")
    found = {said: int(n) for said, n in counted if said is not None}
    if found.get("no"):
        engine.run("CREATE TEMP TABLE _unseen AS SELECT customer_id FROM customers WHERE consent_analysis = 'no'")
        for name in (name for name in noted if name in TABLES):
            _without(engine, name, [r[0] for r in engine.run(f'DESCRIBE "{name}"')])
            noted[name]["rows"] = int(engine.run(f'SELECT count(*) FROM "{name}"')[0][0])
        engine.run("DROP TABLE _unseen")
        noted["customers"]["made"].append(left_out(found["no"]))
    return found


def left_out(n: int) -> str:
    """Say how many did not consent."""
    return f"{n:,} did not consent to analysis and are left out, in every table"


def _without(engine: DuckDB, name: str, there: Collection[str]) -> None:
    """Leave the people of ``_unseen`` out of a table: their rows, or who they are where the column may be empty."""
    for column in ("referrer_id", "customer_id") if name in ("customers", "prospects") else ("customer_id",):
        if column in there:
            optional = TABLES[name][column].nullable
            action = f'UPDATE "{name}" SET "{column}" = NULL' if optional else f'DELETE FROM "{name}"'
            engine.run(f'{action} WHERE "{column}" IN (SELECT customer_id FROM _unseen)')


def _cut(engine: DuckDB, end: str, noted: Mapping[str, Any]) -> None:
    """Leave out who is not observed, and what happened after the end or after an exit by the rule."""
    engine.run("UPDATE customers SET left_on = g.day, exit_cause = 'dormant' FROM _gone g "
               "WHERE g.customer_id = customers.customer_id")  # fmt: skip
    for name, table in ((name, TABLES[name]) for name in noted if name in TABLES):
        there = [r[0] for r in engine.run(f'DESCRIBE "{name}"')]
        dates = [c.name for c in table.columns if c.kind in ("date", "month")]
        for column in dates:
            late = f'"{column}" > {end}'
            if column == table.day:
                engine.run(f'DELETE FROM "{name}" WHERE {late}')
            elif table[column].nullable:
                cause = ", exit_cause = NULL" if column == "left_on" else ""
                engine.run(f'UPDATE "{name}" SET "{column}" = NULL{cause} WHERE {late}')
        _without(engine, name, there)
        if "customer_id" in there and name not in ("customers", "prospects") and table.day:
            gone = f'FROM _gone g WHERE g.customer_id = "{name}".customer_id'
            engine.run(f'DELETE FROM "{name}" WHERE EXISTS (SELECT 1 {gone} AND "{name}"."{table.day}" > g.day)')
            if name == "holdings":
                engine.run(f"UPDATE holdings SET closed_on = least(closed_on, g.day) {gone}")
