"""Conditional logit against statsmodels' ConditionalLogit, side by side: 100,000 choices of three options.

    python benchmarks/bench_choice.py [--quick]

Each side runs in a process of its own; CPU seconds are those of the fit alone, peak memory is that of the whole
process. statsmodels is run by Newton's method, its quickest, on a tenth of the choices, and its seconds are scaled up;
``difference`` is the largest of the coefficients on that tenth.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

WEIGHTS = np.array([0.8, -0.5, 0.3, 0.0, 1.0, -1.0])


def main() -> None:
    """Measure both sides and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 choices")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], int(arguments.child[1]))
    n = 2_000 if arguments.quick else 100_000
    print("| measure | choices | ours, CPU s | statsmodels, CPU s | ratio | ours, MB | peer, MB | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    sides = []
    for side, size in (("ours", n), ("ours", n // 10), ("peer", n // 10)):
        command = [sys.executable, __file__, "--child", side, str(size)]
        sides.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout.splitlines()[-1]))
    a, tenth, b = sides
    b["cpu"] *= 10
    gap = np.abs(np.subtract(tenth["found"], b["found"])).max()
    print(
        f"| conditional logit | {n:,} | {a['cpu']:.3f} | {b['cpu']:.1f} | {b['cpu'] / a['cpu']:.0f} "
        f"| {a['memory']:.0f} | {b['memory']:.0f} | {gap:.1e} |"
    )
    return None


def child(side: str, n: int) -> None:
    """Do one side and print it."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, 3, len(WEIGHTS)))
    u = x @ WEIGHTS + rng.gumbel(size=(n, 3))
    y, x = (u == u.max(axis=1, keepdims=True)).ravel(), x.reshape(-1, len(WEIGHTS))
    task = np.repeat(np.arange(n), 3)
    if side == "ours":
        from crmresearch.estimators.choice import conditional_logit

        begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        found = conditional_logit(x, y, task).params
    else:
        from statsmodels.discrete.conditional_models import ConditionalLogit

        begin = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        found = ConditionalLogit(y.astype(float), x, groups=task).fit(method="newton", disp=0).params
    use = resource.getrusage(resource.RUSAGE_SELF)
    memory = use.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"cpu": use.ru_utime - begin, "memory": memory, "found": found.tolist()}))


if __name__ == "__main__":
    main()
