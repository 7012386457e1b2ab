"""Time and memory of writing the simulated bank.

    python benchmarks/bench_simulate.py [--customers 1000000] [--months 60]

Writes to a temporary folder, once the tables of accounts (customers, holdings, monthly, transactions) and once all
tables, each in a process of its own. Goal at a million customers and sixty months: all tables in under 3 CPU minutes
and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

ACCOUNTS = ("customers", "holdings", "monthly", "transactions")
GOAL = (180, 1)  # CPU seconds and GiB


def one(customers: int, months: int, tables: tuple[str, ...] | None) -> dict[str, float]:
    """Write a bank in this process and measure it."""
    import pyarrow.parquet as pq

    from crmresearch.lab import simulated

    settings = simulated.Settings(customers=customers, months=months)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        out = simulated.write(settings, Path(folder) / "bank", tables)
        seconds = time.perf_counter() - begin
        files = sorted(out.glob("*.parquet"))
        rows = {p.stem: pq.ParquetFile(p).metadata.num_rows for p in files}
        size = sum(p.stat().st_size for p in files)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gib": round(usage.ru_maxrss / 2**20, 2),
        "rows": sum(rows.values()),
        "gib_on_disk": round(size / 2**30, 2),
    }


def main() -> None:
    """Measure both sets of tables and compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--months", type=int, default=60)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for name, tables in (("accounts", ACCOUNTS), ("all", None)):
        with context.Pool(1) as pool:
            found = pool.apply(one, (given.customers, given.months, tables))
        line: dict[str, object] = {"tables": name, "customers": given.customers, "months": given.months, **found}
        if given.customers >= 1_000_000 and given.months >= 60:
            line["met"] = found["cpu_seconds"] <= GOAL[0] and found["peak_gib"] <= GOAL[1]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
