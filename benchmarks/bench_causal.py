"""Effects of staggered adoption by group and time against diff-diff, side by side: 5,000 units, 60 months, 12 cohorts.

    python benchmarks/bench_causal.py [--peer PYTHON] [--quick]

Effects, errors and their mean with its error. Each side runs in a process of its own; CPU seconds are those of the
estimation alone (the peer's table is made before, imports and a first small call are not counted), peak memory is that
of the whole process. ``difference`` is the largest of effects and errors. Needs the extra ``oracles``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

CONTROLS = {"never": "never_treated", "not yet": "not_yet_treated"}


def main() -> None:
    """Measure both sides and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 units")
    parser.add_argument("--peer", default=sys.executable, help="Python of an environment with diff-diff 3.13")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], arguments.child[1], int(arguments.child[2]))
    n = 500 if arguments.quick else 5_000
    if subprocess.run([arguments.peer, "-c", "import diff_diff"], capture_output=True).returncode:
        return print("skipped: diff-diff is not installed; name an environment that has it by --peer")
    print("| controls | units | ours, CPU s | diff-diff, CPU s | ratio | ours, MB | peer, MB | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for controls in CONTROLS:
        sides = []
        for python, side in ((sys.executable, "ours"), (arguments.peer, "peer")):
            command = [python, __file__, "--child", side, controls, str(n)]
            sides.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout.splitlines()[-1]))
        a, b = sides
        gap = np.abs(np.subtract(a["found"], b["found"])).max()
        print(
            f"| {controls} | {n:,} | {a['cpu']:.4f} | {b['cpu']:.4f} | {b['cpu'] / a['cpu']:.0f} "
            f"| {a['memory']:.0f} | {b['memory']:.0f} | {gap:.1e} |"
        )
    return None


def child(side: str, controls: str, n: int) -> None:
    """Do one side five times and print the median."""
    rng, periods = np.random.default_rng(7), 60
    first = rng.choice(np.r_[np.arange(6, 54, 4), np.inf], n)
    y = rng.normal(size=(n, 1)) + rng.normal(size=periods) + rng.normal(size=(n, periods))
    y += 0.2 * (np.arange(periods) >= first[:, None])
    fit = ours if side == "ours" else peer(y, first)
    fit(y[:50], first[:50], controls)
    cpu = []
    for _ in range(5):
        begin = used()
        found = fit(y, first, controls)
        cpu.append(used() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"cpu": float(np.median(cpu)), "memory": memory, "found": np.concatenate(found).tolist()}))


def used() -> float:
    """User and system seconds of this process."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def ours(y, first, controls):
    """Effects and errors by group and time, then the mean over treated units."""
    from crmresearch.estimators.causal.staggered import Panel, group_time, treated

    fit = group_time(Panel(y, first), controls=controls)
    simple = treated(fit).pooled()
    return fit.effect, fit.se, simple.effect, simple.se


def peer(y, first):
    """The same by diff-diff, without its bootstrap; its table is made here."""
    import pandas as pd
    from diff_diff import CallawaySantAnna

    n, t = y.shape
    columns = {"unit": np.repeat(np.arange(n), t), "time": np.tile(np.arange(t), n), "y": y.ravel()}
    frame = pd.DataFrame(columns | {"first": np.repeat(np.where(np.isinf(first), 0, first), t)})

    def fit(some, _, controls):
        method = CallawaySantAnna(control_group=CONTROLS[controls], estimation_method="reg")
        names = {"outcome": "y", "unit": "unit", "time": "time", "first_treat": "first"}
        found = method.fit(frame.iloc[: some.size], **names)
        cells = [found.group_time_effects[key] for key in sorted(found.group_time_effects)]
        each = (np.array([cell[k] for cell in cells]) for k in ("effect", "se"))
        return *each, np.array([found.overall_att]), np.array([found.overall_se])

    return fit


if __name__ == "__main__":
    main()
