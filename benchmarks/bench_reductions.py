"""What notebooks take out of a large bank, against an older state of this project on the same bank.

    python benchmarks/bench_reductions.py --before CHECKOUT [--customers 200000] [--rounds 3]

Every measurement takes a process of its own, in turn; the bank is opened, and the imports are done, before the clock
starts. CPU seconds are user plus system time; memory is what the peak of the process grows by. Frames must be equal;
the gap of referred customers, which draws, agrees in its estimates.
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
STEPS = ("completeness of channels", "exits by four definitions", "survey with accounts", "gap of referred customers")


def step(what: str, bank):
    """Return the work of a step, ready to be done, and what of its result must be equal."""
    from crmresearch.data.reductions import base, loyalty
    from crmresearch.data.reductions.churn import histories
    from crmresearch.estimators.measurement import referral

    def everything(found):
        return [frame.drop(columns="customer_id", errors="ignore").to_csv() for frame in found]  # each side has its key

    if what == STEPS[0]:
        return lambda: [base.coverage(bank)], everything
    if what == STEPS[1]:
        ways = (histories.spells_by_definition, histories.person_months_by_definition)
        return lambda: [frame for way in ways for frame in way(bank).values()], everything
    if what == STEPS[2]:
        return lambda: [loyalty.joined(bank)], everything
    rows, _ = referral.matched(loyalty.referred(bank))
    return (
        lambda: referral.stay_gap(rows, 3, resamples=500, seed=1),
        lambda found: [round(e.value, 12) for e in found.values()],
    )


def measure(what: str, bank: str) -> None:
    """Do one step and print what it took."""
    from crmresearch.data.bank import open_bank

    work, equal = step(what, open_bank(bank))
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu": cpu, "mib": (after.ru_maxrss - before.ru_maxrss) / 1024, "found": equal(found)}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path, help="a checkout of an older state; without it ours is measured alone")
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bank = Path(scratch, "bank")
        simulate = ["-m", "crmresearch", "bank", "simulate", "--customers", str(given.customers), "--out", str(bank)]
        subprocess.run([sys.executable, *simulate], check=True, stdout=subprocess.DEVNULL)
        taken: dict[tuple[str, str], list[dict]] = {}
        sides = {"before": given.before, "ours": ROOT} if given.before else {"ours": ROOT}
        for turn in range(given.rounds + 1):  # the first one loads the bank
            for what in STEPS if turn else STEPS[:1]:
                for side, place in sides.items():
                    own = {"PYTHONPATH": str(place / "src"), "CRMRESEARCH_CACHE": str(Path(scratch, side))}
                    command = [sys.executable, "-W", "ignore", __file__, "--measure", what, str(bank)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | own)
                    if turn:
                        taken.setdefault((what, side), []).append(json.loads(done.stdout.splitlines()[-1]))
    for what in STEPS:
        found = {s: {k: statistics.median(r[k] for r in taken[what, s]) for k in ("cpu", "mib")} for s in sides}
        assert len({str(taken[what, s][0]["found"]) for s in sides}) == 1, what
        told = ", ".join(f"{s} {one['cpu']:.2f} s ({one['mib']:.0f} MiB)" for s, one in found.items())
        ratio = f", times ours {found['before']['cpu'] / found['ours']['cpu']:.2f}" if given.before else ""
        print(f"{what:28s} {told}{ratio}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    else:
        main()
