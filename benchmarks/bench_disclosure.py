"""What disclosure control costs: notebooks run with the door, and with a door that lets every table through.

    python benchmarks/bench_disclosure.py [--notebooks 00 01] [--rounds 3]

Every run takes a process of its own, in turn, and writes tables and figures to a temporary folder; CPU seconds are user
plus system time, opening the bank and imports included in both; a first round fills the caches and is not counted.
Then the tables and figures are looked through as ``crmresearch check`` does. Goal: 1.10 with the scan.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def let_through() -> None:
    """Replace protection by the identity."""
    from crmresearch import disclosure

    def identity(frame, counts=("n",), parts=True):
        out = frame.drop(columns=[disclosure.WHOSE], errors="ignore").copy()
        out.attrs |= {"counts": counts, "parts": parts, disclosure.WHOSE: True}
        return disclosure.Protected(out, {}, counts)

    disclosure.protect = identity


def measure(step: str, names: list[str]) -> None:
    """Run the cells of notebooks, or look through what they wrote, and print the CPU seconds."""
    start = cpu()
    if step == "scan":
        from crmresearch.data.bank import open_bank
        from crmresearch.run.people import People
        from crmresearch.run.scan import scan

        bank = open_bank("reference")
        start = cpu()
        scan(Path(os.environ["CRMRESEARCH_OUT"]), People.of(bank))
    else:
        from IPython.core.interactiveshell import InteractiveShell

        if step == "open":
            let_through()
        for name in names:
            shell = InteractiveShell()
            (path,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
            for cell in json.loads(path.read_text("utf-8"))["cells"]:
                if cell["cell_type"] == "code":
                    shell.run_cell("".join(cell["source"]), store_history=False).raise_error()
    print(f"\nCPU {cpu() - start}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--notebooks", nargs="+", default=["00", "01"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[float]] = {"door": [], "open": [], "scan": []}
    for _ in range(given.rounds + 1):
        with tempfile.TemporaryDirectory() as with_door, tempfile.TemporaryDirectory() as without:
            for step, out in (("door", with_door), ("open", without), ("scan", with_door)):
                env = {**os.environ, "CRMRESEARCH_OUT": out, "MPLBACKEND": "agg"}
                command = [sys.executable, __file__, "--step", step, *given.notebooks]
                told = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
                found[step].append(float(told.split()[-1]))
    s = {step: statistics.median(values[1:]) for step, values in found.items()}
    print("| notebooks | without, CPU s | with, CPU s | scan, CPU s | ratio | with the scan | goal |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {', '.join(given.notebooks)} | {s['open']:.2f} | {s['door']:.2f} | {s['scan']:.2f} "
        f"| {s['door'] / s['open']:.2f} | {(s['door'] + s['scan']) / s['open']:.2f} | 1.10 |"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        measure(sys.argv[2], sys.argv[3:])
    else:
        main()
