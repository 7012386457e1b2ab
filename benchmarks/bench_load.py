"""Loading a bank of 10 million transactions from CSV and from Parquet, and checking it, beside older code.

    python benchmarks/bench_load.py [--before FOLDER] [--rows N] [--rounds N]

FOLDER is a checkout of that state, which loads the same files without the keys it does not know. Every load runs in a
process of its own with an empty cache, in turn; CPU seconds are user plus system time of opening the bank, imports
excluded, and memory is the peak of that process. ``check`` is the whole of ``crmresearch bank check`` on a bank that is
loaded already.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

KEYS = ", missing: {channel: [n/a]}, recode: {status: {B: booked, S: reversed, X: null}}"
BANK = """name: load
currency: EUR
evidence: simulated
observation_start: 2021-01-01
observation_end: 2025-12-31
tables:
  customers: customers.parquet
  transactions: {file: transactions.FORM, columns: {customer_id: client, occurred_on: day}KEYS}
"""


def write(folder: Path, rows: int) -> None:
    """Write customers and their transactions, in both forms."""
    import duckdb

    customers = rows // 100
    with duckdb.connect() as engine:
        engine.execute(
            """
            CREATE TABLE t AS SELECT 'c' || (hash(i) % $c) AS client,
              DATE '2021-01-01' + CAST(hash(-i) % 1826 AS INT) AS day,
              CAST(CAST(hash(i * 7) % 1000000 AS INT) / 100 - 2000 AS DECIMAL(18, 2)) AS amount,
              ['branch', 'mobile', 'atm', 'n/a'][1 + CAST(hash(i * 3) % 4 AS INT)] AS channel,
              ['B', 'B', 'S', 'X'][1 + CAST(hash(i * 5) % 4 AS INT)] AS status FROM range($n) r(i)
            """,
            {"c": customers, "n": rows},
        )
        engine.execute(f"COPY t TO '{folder}/transactions.csv' (HEADER)")
        engine.execute(f"COPY t TO '{folder}/transactions.parquet'")
        people = f"SELECT 'c' || i AS customer_id, DATE '2020-01-01' AS acquired_on FROM range({customers}) r(i)"
        engine.execute(f"COPY ({people}) TO '{folder}/customers.parquet'")


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(folder: str, step: str) -> None:
    """Print the CPU seconds of one step, and the peak of memory in MiB."""
    from crmresearch.data.bank import open_bank

    start = cpu()
    open_bank(folder)
    if step == "check":
        from typer.testing import CliRunner

        from crmresearch.run.cli import app

        start = cpu()
        CliRunner().invoke(app, ["bank", "check", folder], catch_exceptions=False)
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]  # not that of who started this
    print(cpu() - start, int(peak) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    ours = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder, given.rows)
        print("| step | before, CPU s (MiB) | ours | ours with keys | ratio |\n|---|---:|---:|---:|---:|")
        for form in ("csv", "parquet"):
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(given.rounds):
                for name, home, keys, step in (
                    ("before", given.before, "", "load"),
                    ("ours", ours, "", "load"),
                    ("keys", ours, KEYS, "load"),
                    ("check", ours, KEYS, "check"),
                ):
                    if home is None:
                        continue
                    (folder / "bank.yaml").write_text(BANK.replace("FORM", form).replace("KEYS", keys))
                    with tempfile.TemporaryDirectory() as cache:
                        env = {**os.environ, "PYTHONPATH": f"{home}/src", "CRMRESEARCH_CACHE": cache}
                        command = [sys.executable, __file__, "--step", step, scratch]
                        out = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
                    seconds, memory = map(float, out.split()[-2:])
                    found.setdefault(name, []).append((seconds, memory))
            s = {name: statistics.median(seconds for seconds, _ in values) for name, values in found.items()}
            shown = {n: f"{s[n]:.2f} ({statistics.median(m for _, m in v):.0f})" for n, v in found.items()}
            ratio = f"{s['keys'] / s['before']:.2f}" if "before" in s else "–"
            print(f"| load, {form} | {shown.get('before', '–')} | {shown['ours']} | {shown['keys']} | {ratio} |")
            share = f"{s['check'] / s['keys']:.2f} of the load"
            print(f"| check, {form} | – | – | {shown['check']} | {share} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        measure(sys.argv[3], sys.argv[2])
    else:
        main()
