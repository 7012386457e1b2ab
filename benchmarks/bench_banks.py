"""Every notebook on banks of growing size: seconds, CPU seconds and peak memory of a whole run, and how cost grows.

    python benchmarks/bench_banks.py [--customers 20000 200000 1000000] [--months 60] [--studies 00 01 02 03 04]

Each notebook is a run of its own (kernel, figures, ledger, scan and site), one at a time, on a bank that was loaded
before; loading stands in a row of its own. Peak memory is that of the largest process. *Growth* is the exponent of
customers in CPU seconds since the size before: 1 is linear. There is no peer: nothing else runs these studies.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time

TIME = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=2).returncode
use = resource.getrusage(resource.RUSAGE_CHILDREN)
print(use.ru_utime + use.ru_stime, use.ru_maxrss)
sys.exit(code)"""


def measured(words: list[str], cache: str) -> tuple[float, float, float]:
    """Run a command of the package; its seconds, CPU seconds and peak GiB, processes it started included."""
    command = [sys.executable, "-c", TIME, sys.executable, "-m", "crmresearch", *words]
    environment = {**os.environ, "CRMRESEARCH_CACHE": cache}
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    cpu, kib = map(float, done.stdout.split()[-2:])
    return time.perf_counter() - begin, cpu, kib / 2**20


def main() -> None:
    """Print a table of all sizes and notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    parser.add_argument("--months", type=int, default=60)
    parser.add_argument("--studies", nargs="+", default=["00", "01", "02", "03", "04"])
    given = parser.parse_args()
    print("| customers | step | s | CPU s | peak GiB | growth |\n|---:|---|---:|---:|---:|---:|", flush=True)
    before: dict[str, tuple[int, float]] = {}
    for customers in given.customers:
        with tempfile.TemporaryDirectory() as scratch:
            bank, cache, total = f"{scratch}/bank", f"{scratch}/cache", 0.0
            drawn = ["--customers", str(customers), "--months", str(given.months), "--out", bank]
            steps = [("drawn", ["bank", "simulate", *drawn]), ("loaded and checked", ["bank", "check", bank])]
            own = ["run", "--jobs", "1", "--timeout", "36000", "--bank", bank]
            steps += [(s, [*own, "--studies", s, "--out", f"{scratch}/{s}"]) for s in given.studies]
            for step, words in steps:
                seconds, cpu, gib = measured(words, cache)
                total += cpu if step in given.studies else 0.0
                grown = f"{math.log(cpu / before[step][1], customers / before[step][0]):.2f}" if step in before else ""
                before[step] = customers, cpu
                print(f"| {customers:,} | {step} | {seconds:.0f} | {cpu:.0f} | {gib:.2f} | {grown} |", flush=True)
            print(f"| {customers:,} | all notebooks | | {total:.0f} | | |", flush=True)


if __name__ == "__main__":
    main()
