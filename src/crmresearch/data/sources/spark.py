"""Tables of a Spark cluster, reduced where they are; see `engines.Link`.

What is read is known by the version of a Delta table or the snapshot of an Iceberg table, and else by a digest of its
rows that the cluster computes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from typing import Any

from crmresearch.data.contract import quoted
from crmresearch.data.sources.relations import Relation, refuse

NEEDED = "python -m pip install 'crmresearch[spark]'"
LOCAL = {  # of a session in this process; `spark-defaults.conf` cannot know it
    "spark.driver.memory": "2g", "spark.driver.host": "127.0.0.1", "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "OFF",
}  # fmt: skip
NAMED = {"spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true"}  # what numbers depend on
TRIES = 6  # to reach a cluster that does not answer: half a minute
VERSION = {  # of tables that have them
    "delta": "DESCRIBE HISTORY {0} LIMIT 1",
    "iceberg": "SELECT max_by(snapshot_id, committed_at) AS version FROM {0}.snapshots",
}


class Session:
    """A session of Spark, with views of its own."""

    name, language, binary, plain = "Spark", "pyspark", "", False

    def __init__(self, table: str, said: str, key: str = "connect") -> None:
        address = said if re.match(r"local\b|\w+://|yarn$", said) else os.environ.get(said, "")
        if not address:
            refuse(table, f"the environment variable {said} is not set", f"export {said}=sc://host:15002")
        self.remote = address.startswith("sc://")
        if not self.remote and shutil.which("java") is None and "JAVA_HOME" not in os.environ:
            refuse(table, "Spark needs Java 17 or 21, which is not here", "install one, or set JAVA_HOME")
        self.error: tuple[type[Exception], ...] = (OSError, EOFError, RuntimeError)
        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):  # which would write values to stderr
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            import ibis
            from pyspark.errors import PySparkException

            self.error += (PySparkException,)
            _ = ibis.pyspark  # which brings what expressions are written by, and the words of this SQL
            self.session = self._far(address) if self.remote else self._near(address)
            for option, value in NAMED.items():
                self.session.conf.set(option, value)
        except ImportError:
            refuse(table, "PySpark, or what it needs for this address, is not installed", NEEDED)
        except self.error:
            refuse(table, f"{key}: Spark cannot be reached", "check the address, and that the cluster runs")
        self.kept: list[Any] = []
        self.read: dict[str, list[str]] = {}  # by table: kind, name there, what is read of it

    def _far(self, address: str) -> Any:
        """Begin a session of a Spark Connect server."""
        from pyspark.sql.connect.client.retries import DefaultPolicy
        from pyspark.sql.connect.session import SparkSession

        session = SparkSession.builder.remote(address).create()
        session.client.set_retry_policies([DefaultPolicy(max_retries=TRIES, max_backoff=10_000)])
        return session

    def _near(self, address: str) -> Any:
        """Begin a session of the driver of this process, which has but one."""
        from py4j.protocol import Py4JError
        from pyspark.sql import SparkSession

        self.error += (Py4JError,)
        options: dict[str, Any] = LOCAL if address.startswith("local") else {}
        return SparkSession.builder.master(address).config(map=options).getOrCreate().newSession()

    def relation(self, table: str, spec: Mapping[str, Any]) -> Relation:
        """Find what a table is read by, and its columns."""
        parts = [a or b for a, b in re.findall(r"`([^`]+)`|([^.`]+)", spec["table"])]
        try:
            if len(parts) == 1:  # named in full, as a view of the session may be called like it
                [here] = self.ask("SELECT current_catalog() AS c, current_database() AS d").to_pylist()
                parts = [here["c"], here["d"], *parts]
            theirs = ".".join(f"`{part}`" for part in parts)
            header = self.session.sql(f"SELECT * FROM {theirs} LIMIT 0").columns
        except self.error as error:
            hint = "write it as [catalog.]schema.table, or as parquet.`folder`, and see that you may read it"
            refuse(table, f"Spark cannot read a table '{spec['table']}' ({_code(error)})", hint)
        self.read[table] = [parts[0] if len(parts) == 2 else "", theirs, ""]
        return Relation(".".join(map(quoted, parts)), header, f"table {spec['table']}", text=False)

    def watch(self, table: str, spec: Mapping[str, Any], select: str) -> None:
        """Count the rows of a query among those that :meth:`digest` tells apart."""
        self.read[table][2] = select

    def digest(self) -> str:
        """Return what changes with the rows that are read, whatever their order."""
        found = []
        for table, (kind, name, select) in self.read.items():
            with contextlib.suppress(*self.error):  # files have no description
                described = self.ask(f"DESCRIBE TABLE EXTENDED {name}").to_pylist()
                kind = next((r["data_type"] for r in described if r["col_name"] == "Provider"), kind)
            rows = "SELECT count(*) AS n, sum(CAST(xxhash64(*) AS DECIMAL(38, 0))) AS h FROM ({}) AS q"
            asked = VERSION[kind].format(name) if kind in VERSION else rows.format(select)
            try:
                [row] = self.ask(asked).to_pylist()
                found.append((table, kind, row.get("version", row)))
            except self.error as error:
                refuse(table, f"it cannot be read from Spark ({_code(error)})", "check that it is still there")
        return repr(found)

    def ask(self, text: str) -> Any:
        """Return what a query answers, as an Arrow table."""
        return self.session.sql(text).toArrow()

    def view(self, name: str, text: str) -> None:
        """Call a query by a name, which it takes from another query."""
        self.session.sql(text).createOrReplaceTempView(f"`{name}`")

    def keep(self, name: str, text: str) -> None:
        """Compute the answer of a query once, and call it by a name."""
        found = self.session.sql(text).cache()
        self.kept.append(found)
        found.count()
        found.createOrReplaceTempView(f"`{name}`")

    def close(self) -> None:
        """Let go of what was computed, and of the session where it has a server; this process has but one driver."""
        for one in self.kept:
            one.unpersist()
        if self.remote:
            self.session.stop()


def _code(error: Exception) -> str:
    """Return what an error is called: its words may hold values."""
    return getattr(error, "getSqlState", lambda: None)() or type(error).__name__
