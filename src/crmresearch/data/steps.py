"""What lies between reading and checking: histories of statuses, several ids of one person, accounts of several owners.

Each comes as a table of its own (:data:`~crmresearch.data.tables.STEPS`), is worked into the others inside the engine,
in the order above, and is not kept. What was done is noted with the table it was done to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from crmresearch.data.contract import Problem, quoted
from crmresearch.data.description import About, TableSource
from crmresearch.data.engines import DuckDB
from crmresearch.data.tables import SQL_TYPE, TABLES, Column, Table

FROM_HISTORY = {"acquired_on": "DATE", "left_on": "DATE", "exit_cause": "VARCHAR"}
SHARED = ("holdings", "monthly", "transactions")  # tables that may name an account in place of a customer
OFF = 0.01  # what the shares of an account may lack of 1, as thirds do


def shaped(table: Table, columns: Mapping[str, Any], tables: Mapping[str, Any]) -> Table:
    """Return a table as it is read, where a step brings what it lacks."""
    if table.name == "customers" and "history" in tables:
        dated = (replace(c, required=c.required and c.name not in FROM_HISTORY) for c in table.columns)
        return replace(table, columns=tuple(dated))
    if table.name in SHARED and "owners" in tables and "account_id" in columns and "customer_id" not in columns:
        named = tuple(Column("account_id", "id") if c.name == "customer_id" else c for c in table.columns)
        return replace(table, columns=named, refers="")
    return table


def work(engine: DuckDB, about: About, noted: dict[str, Any], sources: dict[str, TableSource]) -> list[Problem]:
    """Work the tables of steps into the others; ``noted`` says what was done, problems are returned."""
    found = list(_twice(engine, noted))
    for name, step in (("history", _history), ("same_as", _same_as), ("owners", _owners)):
        if name in noted and not found:
            found = list(step(engine, about, noted, sources))
    for name in ("history", "same_as", "owners"):
        if noted.pop(name, None):
            engine.run(f"DROP TABLE {name}")
    return found


def _count(engine: DuckDB, query: str) -> int:
    return int(engine.run(f"SELECT count(*) FROM ({query})")[0][0])


def _twice(engine: DuckDB, noted: Mapping[str, Any]) -> Iterator[Problem]:
    """Find customers and months that are there twice, before rows of a kind are made one."""
    keys = {"customers": ["customer_id"]} if "same_as" in noted else {}
    if {"same_as", "owners"} & {*noted}:
        by_account = "account_id" in noted.get("monthly", {}).get("brought", {})
        keys["monthly"] = ["account_id" if by_account else "customer_id", "month"]
    for table, key in keys.items():
        if table in noted:
            whole = " AND ".join(f"{c} IS NOT NULL" for c in key)
            n = _count(engine, f"SELECT 1 FROM {table} WHERE {whole} GROUP BY {', '.join(key)} HAVING count(*) > 1")
            if n:
                yield Problem(table, key[0], f"{' + '.join(key)} must be unique", n, hint="keep one row per key")


# --- statuses ---------------------------------------------------------------------------------------------------------


def _history(engine: DuckDB, about: About, noted: dict[str, Any], sources: dict[str, TableSource]) -> Iterator[Problem]:
    """Find out from rows of (customer, day, status) when customers came and left, and why."""
    both = [c for c in FROM_HISTORY if c in noted.get("customers", {}).get("brought", {})]
    for c in both:
        theirs = sources["customers"].theirs.get(c, c)
        hint = f"drop: [{theirs}] under customers in bank.yaml, or take history out"
        yield Problem("customers", c, "comes from history too", hint=hint)
    twice = "SELECT 1 FROM history GROUP BY customer_id, since HAVING count(DISTINCT status) > 1"
    if n := _count(engine, twice):
        hint = "keep the status in which a day ends"
        yield Problem("history", "status", "a customer has two statuses on one day", n, hint=hint)
    nobody = "SELECT DISTINCT customer_id FROM history ANTI JOIN customers USING (customer_id)"
    unknown = _count(engine, nobody) if "customers" in noted else 0
    if unknown:
        hint = "bring the missing rows of customers, or take customers out: history alone makes the table"
        yield Problem("history", "customer_id", "customer_id must occur in customers.customer_id", unknown, hint=hint)
    if both or n or unknown:
        return
    rule = sources["history"].returns
    gone, back = "status <> 'active' AND before = 'active'", "status = 'active' AND before <> 'active'"
    ended = "arg_max(status, since) <> 'active'" if rule == "last" else "true"
    first, which = ("max", "arg_max") if rule == "last" else ("min", "arg_min")
    engine.run(f"""
        CREATE TEMP TABLE _lives AS
        WITH came AS (SELECT customer_id, min(since) AS acquired_on FROM history WHERE status = 'active' GROUP BY ALL),
        seen AS (SELECT h.customer_id, since, status, acquired_on,
            lag(status) OVER (PARTITION BY h.customer_id ORDER BY since) AS before
            FROM (SELECT DISTINCT customer_id, since, status FROM history) h JOIN came USING (customer_id)
            WHERE since >= acquired_on)
        SELECT customer_id, min(acquired_on) AS acquired_on,
            CASE WHEN {ended} THEN {first}(since) FILTER (WHERE {gone}) END AS left_on,
            CASE WHEN {ended} THEN {which}(status, since) FILTER (WHERE {gone}) END AS exit_cause,
            coalesce(bool_or({back}), false) AS returned
        FROM seen GROUP BY customer_id ORDER BY customer_id""")
    returned = _count(engine, "FROM _lives WHERE returned")
    if returned and not rule:
        hint = "declare returns: first (the first exit counts), or last (who came back never left), under history"
        yield Problem("history", "status", "customers come back after leaving", returned, hint=hint)
        return
    never = _count(engine, "SELECT DISTINCT customer_id FROM history ANTI JOIN _lives USING (customer_id)")
    said = f"{', '.join(FROM_HISTORY)} are those of history"
    said += f"; {returned:,} came back after leaving, and their {rule} exit counts" if returned else ""
    if "customers" in noted:
        _dated(engine, about, noted["customers"])
    else:
        said += f"; {never:,} were never active and are left out" if never else ""
        _made_of_lives(engine, about)
        noted["customers"] = {"brought": {"customer_id": "VARCHAR"}, "unread": (), "made": []}
        sources["customers"] = sources["history"]
    noted["customers"]["brought"] |= FROM_HISTORY
    noted["customers"]["made"].append(said)


def _default(column: Column, about: About) -> str:
    """Write what fills a column that the bank does not bring."""
    return f"CAST({(column.default or 'NULL').format(start=about.observation_start)} AS {SQL_TYPE[column.kind]})"


def _dated(engine: DuckDB, about: About, customers: Mapping[str, Any]) -> None:
    """Give loaded customers the days of their history."""
    setting = ", ".join(f"{c} = h.{c}" for c in FROM_HISTORY)
    engine.run(f"UPDATE customers SET {setting} FROM _lives h WHERE customers.customer_id = h.customer_id")
    if "observed_from" not in customers["brought"]:
        engine.run(f"UPDATE customers SET observed_from = {_default(TABLES['customers']['observed_from'], about)}")


def _made_of_lives(engine: DuckDB, about: About) -> None:
    """Make the table of customers of nothing but their history."""
    table = TABLES["customers"]
    known = ("customer_id", *FROM_HISTORY)
    more = [f"{_default(c, about)} AS {c.name}" for c in table.columns if c.name not in known]
    inner = f"SELECT {', '.join(known)}, {', '.join(more)} FROM _lives"
    engine.run(f"CREATE TABLE customers AS SELECT {', '.join(table.names)} FROM ({inner}) ORDER BY customer_id")


# --- several ids of one person ----------------------------------------------------------------------------------------


def _same_as(engine: DuckDB, about: About, noted: dict[str, Any], sources: dict[str, TableSource]) -> Iterator[Problem]:
    """Give each person one id in every table: the one that a chain of links ends at."""
    engine.run(
        "CREATE TEMP TABLE _same AS SELECT customer_id AS id, same_as AS root FROM same_as WHERE customer_id <> same_as"
    )
    links = _count(engine, "FROM _same")
    for _ in range(links.bit_length()):  # each round doubles the length of the chains that are resolved
        engine.run(
            "CREATE OR REPLACE TEMP TABLE _same AS SELECT s.id, coalesce(t.root, s.root) AS root "
            "FROM _same s LEFT JOIN _same t ON s.root = t.id"
        )
    if n := _count(engine, "FROM _same WHERE root IN (SELECT id FROM _same)"):
        hint = "leave out one link of each circle"
        yield Problem("same_as", "same_as", "ids lead back to themselves", n, hint=hint)
        return
    for name, facts in noted.items():
        if name in about.unlinked or name in ("history", "same_as"):
            continue
        columns = ("referrer_id",) if name == "customers" else ("customer_id",)  # customers are merged below
        for column in (c for c in columns if c in facts["brought"]):
            [(rows,)] = engine.run(f"UPDATE {name} SET {column} = s.root FROM _same s WHERE {name}.{column} = s.id")
            if rows:
                facts["made"].append(f"{rows:,} rows have another {column} by same_as")
    if "customers" in noted:
        _merged(engine, noted["customers"])
    if "customer_id" in noted.get("monthly", {}).get("brought", {}):
        _added_up(engine, about, noted["monthly"])


def _merged(engine: DuckDB, facts: dict[str, Any]) -> None:
    """Make one row of the customers who are one person: first day, last exit if all left, the kept id's traits."""
    columns = [c[0] for c in engine.run("DESCRIBE customers")]
    engine.run(
        "CREATE TEMP TABLE _ids AS SELECT c.*, c.rowid AS _row, s.id IS NOT NULL AS _old, "
        "coalesce(s.root, c.customer_id) AS _who FROM customers c LEFT JOIN _same s ON s.id = c.customer_id"
    )
    engine.run("UPDATE _ids SET referrer_id = NULL WHERE referrer_id = _who")
    left = "CASE WHEN count(left_on) = count(*) THEN {} END"
    ours = {
        "customer_id": "_who",
        "acquired_on": "min(acquired_on)",
        "observed_from": "min(observed_from)",
        "left_on": left.format("max(left_on)"),
        "exit_cause": left.format("arg_max(exit_cause, left_on)"),
        "consent_analysis": "min(consent_analysis)",  # no, not recorded, yes: the strictest
        "consent_marketing": "min(consent_marketing)",
    }
    traits = [c for c in columns if c not in ours]
    ours |= {c: f"first({quoted(c)} ORDER BY _old, _row) FILTER (WHERE {quoted(c)} IS NOT NULL)" for c in traits}
    several = "SELECT _who FROM _ids GROUP BY _who HAVING count(*) > 1"
    people, [(ids,)] = _count(engine, several), engine.run(f"SELECT count(*) FROM _ids WHERE _who IN ({several})")
    differ = ", ".join(f"count(*) FILTER (WHERE n{i} > 1)" for i in range(len(traits)))
    counts = ", ".join(f"count(DISTINCT {quoted(c)}) AS n{i}" for i, c in enumerate(traits))
    [conflicts] = engine.run(f"SELECT {differ} FROM (SELECT {counts} FROM _ids GROUP BY _who)")
    items = ", ".join(f"{ours[c]} AS {quoted(c)}" for c in columns)
    engine.run(f"CREATE OR REPLACE TABLE customers AS SELECT {items} FROM _ids GROUP BY _who ORDER BY min(_row)")
    said = f"{ids:,} ids are {people:,} customers by same_as"
    unlike = [f"{c} ({n:,})" for c, n in zip(traits, conflicts, strict=True) if n]
    facts["made"].append(said + (f"; ids differ in {', '.join(unlike)}, and the kept one's holds" if unlike else ""))


def _added_up(engine: DuckDB, about: About, facts: dict[str, Any]) -> None:
    """Make one row of the rows of a customer and month: amounts added up, of anything else the first."""
    items = []
    for c, kind in ((c[0], c[1]) for c in engine.run("DESCRIBE monthly")):
        q = quoted(c)
        if c in ("customer_id", "month"):
            items.append(q)
        elif _amount(c, kind, about):
            items.append(f"CAST(sum({q}) AS {kind}) AS {q}")
        else:
            items.append(f"first({q} ORDER BY rowid) FILTER (WHERE {q} IS NOT NULL) AS {q}")
    before = _count(engine, "FROM monthly")
    engine.run(
        f"CREATE OR REPLACE TABLE monthly AS SELECT {', '.join(items)} FROM monthly "
        "GROUP BY customer_id, month ORDER BY min(rowid)"
    )
    if gone := before - _count(engine, "FROM monthly"):
        facts["made"].append(f"{gone:,} rows are added to others of the same customer and month")


def _amount(column: str, kind: str, about: About) -> bool:
    return kind.startswith("DECIMAL") or column in [n.removeprefix("-") for n in about.contribution]


# --- several owners of one account ------------------------------------------------------------------------------------


def _owners(engine: DuckDB, about: About, noted: dict[str, Any], sources: dict[str, TableSource]) -> Iterator[Problem]:
    """Share rows of accounts out to their owners; parts are whole cents and add up to the amount."""
    tables = [t for t in SHARED if "account_id" in noted.get(t, {}).get("brought", {})]
    if not tables:
        hint = f"map the account's number in {', '.join(SHARED)} (columns: {{account_id: theirs}})"
        yield Problem("owners", "account_id", "no table brings accounts", hint=hint)
        return
    share = "sum(share)" if "share" in noted["owners"]["brought"] else "1.0 / any_value(owners)"
    every = "OVER (PARTITION BY account_id ORDER BY customer_id)"
    engine.run(f"""
        CREATE TEMP TABLE _shares AS
        WITH own AS (SELECT *, count(DISTINCT customer_id) OVER (PARTITION BY account_id) AS owners FROM owners),
        part AS (SELECT account_id, customer_id, {share} AS w FROM own GROUP BY account_id, customer_id HAVING w > 0),
        upto AS (SELECT account_id, customer_id, sum(w) {every} AS till,
            lead(customer_id) {every} IS NULL AS final FROM part),
        ends AS (SELECT *, CASE WHEN final THEN 1 ELSE CAST(till AS DECIMAL(18,9)) END AS high FROM upto)
        SELECT *, coalesce(lag(high) {every}, 0) AS low FROM ends""")
    if n := _count(engine, f"FROM _shares WHERE final AND abs(till - 1) > {OFF}"):
        hint = "write parts of 1, such as 0.5 and 0.5, or drop the column for equal ones"
        yield Problem("owners", "share", "the shares of an account must add up to 1", n, hint=hint)
        return
    for t in tables:
        nobody = f"FROM {t} ANTI JOIN _shares USING (account_id)"
        if n := _count(engine, nobody):
            hint = "bring the missing owners, or drop the rows of these accounts"
            yield Problem(t, "account_id", "account_id must occur in owners.account_id", n, hint=hint)
        else:
            _split(engine, t, about, noted[t])


def _split(engine: DuckDB, table: str, about: About, facts: dict[str, Any]) -> None:
    """Replace the rows of accounts by one row per owner."""
    columns = [(c[0], c[1]) for c in engine.run(f"DESCRIBE {table}")]
    items = []
    for c, kind in columns:
        q = f"t.{quoted(c)}"
        if c == "account_id":
            q = "s.customer_id"
        elif kind.startswith("DECIMAL"):  # what is due up to an owner, less what is due before: the parts add up
            q = f"CAST(CAST({q} * s.high AS {kind}) - CAST({q} * s.low AS {kind}) AS {kind}) AS {quoted(c)}"
        elif _amount(c, kind, about):
            q = f"{q} * CAST(s.high - s.low AS DOUBLE) AS {quoted(c)}"
        items.append(q)
    [(joint,)] = engine.run(
        f"SELECT count(*) FROM {table} WHERE account_id IN (SELECT account_id FROM _shares WHERE NOT final)"
    )
    engine.run(
        f"CREATE OR REPLACE TABLE {table} AS SELECT {', '.join(items)} "
        f"FROM {table} t JOIN _shares s ON s.account_id = t.account_id ORDER BY t.rowid, s.customer_id"
    )
    facts["brought"] = {("customer_id" if c == "account_id" else c): k for c, k in facts["brought"].items()}
    facts["made"].append(f"{joint:,} rows of joint accounts are shared out to their owners")
    if table == "monthly":
        _added_up(engine, about, facts)
