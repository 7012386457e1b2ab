"""Every notebook on banks of growing size: seconds, CPU seconds and peak memory of a whole run, and how cost grows.

    python benchmarks/bench_banks.py [--customers 20000 200000 1000000] [--months 60] [--studies 00 01 02 03 04]
                                     [--keep DIRECTORY] [--rows]

Each notebook is a run of its own (kernel, figures, ledger, scan and site), one at a time, on a bank that was loaded
before; loading stands in a row of its own. Banks are thrown away, or kept in a directory and found there by the next
run, which measures a single notebook again. Peak memory is that of the largest process. *Growth* is the exponent of
customers in CPU seconds since the size before: 1 is linear. There is no peer: nothing else runs these studies.

With ``--rows``, no notebook is run: every reduction of notebooks 00 to 04 is asked for, and the rows of its largest
frame are set beside each other, with those under a cap of a twentieth of the largest bank, and those that 100 million
customers come to at most.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial

TIME = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=2).returncode
use = resource.getrusage(resource.RUSAGE_CHILDREN)
print(use.ru_utime + use.ru_stime, use.ru_maxrss)
sys.exit(code)"""
FAR, CAP = 100_000_000, 400_000  # customers to plan for; most rows of a frame, as of a bank
Found = dict[str, tuple[int, float]]


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


def kept(where: str | None, name: str) -> AbstractContextManager[str]:
    """Directory of one bank: of its own, or gone when it was measured."""
    if not where:
        return tempfile.TemporaryDirectory()
    os.makedirs(path := os.path.join(where, name), exist_ok=True)
    return nullcontext(path)


def frames_of(bank_folder: str, cache: str, most: int | None = None) -> Found:
    """Ask a bank for every reduction; rows and MiB of the largest frame of each, under a cap of rows if one is given.

    The largest is that which the engine gave, not what was made of it.
    """
    sys.path.append(os.path.join(os.path.dirname(__file__), "..", "tests"))
    from crmresearch.data.bank import open_bank
    from crmresearch.data.engines import DuckDB
    from crmresearch.data.reductions import churn
    from test_engines import reductions

    os.environ["CRMRESEARCH_CACHE"] = cache
    bank, found, frame = open_bank(bank_folder), {}, DuckDB.frame
    bank.most = most or bank.most
    seen: list[tuple[int, float]] = []
    in_groups = {"churn.spells": churn.spells, "churn.person_months_by_lag": churn.person_months_by_lag}

    def noted(engine: DuckDB, expr: object) -> object:
        made = frame(engine, expr)
        seen.append((len(made), made.memory_usage(deep=True).sum() / 2**20))
        return made

    DuckDB.frame = noted
    try:
        for name, run in reductions(bank):
            if name in in_groups:  # as notebook 02 does: in the groups that this bank has
                run = partial(in_groups[name], bank, **{**run.keywords, "groups": churn.groups_of(bank)})
            seen.clear()
            run()
            found[name] = max(seen, default=(0, 0.0))
    finally:
        DuckDB.frame = frame
    return found


def tell_rows(sizes: list[int], found: list[Found], capped: Found) -> None:
    """Print the rows of every reduction's largest frame, by size of bank, and at most how many they come to beyond.

    A frame is *capped* if it had more rows than the lower cap and kept within it when told to, *bounded* if it hardly
    grows (counted cells that are all there), *cells* if it grows, but slower than customers, else it *grows*.
    """
    most = sizes[-1] // 20
    heads = [*(f"{n:,}" for n in sizes), "growth", f"capped at {most:,}", "kind", "MiB", f"{FAR:,}, at most"]
    print("| reduction | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads))
    for name, (last, mib) in sorted(found[-1].items(), key=lambda one: -one[1][0]):
        rows, under = [f[name][0] for f in found], capped[name][0]
        growth = math.log(max(last, 1) / max(rows[-2], 1), sizes[-1] / sizes[-2])
        kind = "bounded" if growth < 0.05 else "cells" if growth < 0.9 else "grows"
        kind = "capped" if last > most >= under else kind
        far = last * (FAR / sizes[-1]) ** max(growth, 0.0)
        cells = [*(f"{n:,}" for n in rows), f"{growth:.2f}", f"{under:,}", kind, f"{mib:.1f}"]
        print(f"| {name} | {' | '.join(cells)} | {min(far, CAP) if kind == 'capped' else far:,.0f} |")


def main() -> None:
    """Print a table of all sizes and notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    parser.add_argument("--months", type=int, default=60)
    parser.add_argument("--studies", nargs="+", default=["00", "01", "02", "03", "04"])
    parser.add_argument("--keep", help="directory where banks and what was loaded of them stay for the next run")
    parser.add_argument("--rows", action="store_true", help="the rows of frames in the place of notebooks")
    given = parser.parse_args()
    studies: list[str] = [] if given.rows else given.studies
    print("| customers | step | s | CPU s | peak GiB | growth |\n|---:|---|---:|---:|---:|---:|", flush=True)
    before: dict[str, tuple[int, float]] = {}
    found, capped = [], {}
    for customers in given.customers:
        with kept(given.keep, f"{customers}x{given.months}") as scratch:
            bank, cache, total = f"{scratch}/bank", f"{scratch}/cache", 0.0
            drawn = ["--customers", str(customers), "--months", str(given.months), "--out", bank]
            steps = [("drawn", ["bank", "simulate", *drawn]), ("loaded and checked", ["bank", "check", bank])]
            steps = [] if os.path.exists(cache) else steps
            own = ["run", "--jobs", "1", "--timeout", "36000", "--bank", bank]
            steps += [(s, [*own, "--studies", s, "--out", f"{scratch}/{s}"]) for s in studies]
            for step, words in steps:
                seconds, cpu, gib = measured(words, cache)
                total += cpu if step in studies else 0.0
                grown = f"{math.log(cpu / before[step][1], customers / before[step][0]):.2f}" if step in before else ""
                before[step] = customers, cpu
                print(f"| {customers:,} | {step} | {seconds:.0f} | {cpu:.0f} | {gib:.2f} | {grown} |", flush=True)
            if given.rows:
                found.append(frames_of(bank, cache))
                capped = frames_of(bank, cache, customers // 20) if customers == given.customers[-1] else {}
            else:
                print(f"| {customers:,} | all notebooks | | {total:.0f} | | |", flush=True)
    if given.rows:
        tell_rows(given.customers, found, capped)


if __name__ == "__main__":
    main()
