"""Run every benchmark of this folder, one process each, and print what they print.

Each ``bench_*.py`` times an estimator of the package beside a peer, says which version of the peer it ran with, and
skips itself with a reason where the peer is not installed (peers are no dependencies of the project). ``--peer`` names
a Python that has them; ``make bench-peers`` sets one up.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def processor() -> str:
    """Name the processor, and whether it has the wide vectors that decide some ratios."""
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    wide = "with" if " avx512f" in told else "without"
    return f"{names[0] if names else platform.machine()}, {len(names)} cores, {wide} AVX-512"


def main() -> int:
    """Run the benchmarks whose names contain one of those given (all by default); return the number that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names of benchmarks")
    parser.add_argument("--peer", help="Python interpreter that has the peers")
    options = parser.parse_args()
    wanted = options.names or [""]
    files = [p for p in sorted(FOLDER.glob("bench_*.py")) if any(n in p.stem for n in wanted)]
    if not files:
        print(f"no benchmark matches {' '.join(wanted)}", file=sys.stderr)
        return 1
    print(f"Processor: {processor()}; load {', '.join(f'{x:.1f}' for x in os.getloadavg())}")
    failed = 0
    for path in files:
        print(f"== {path.stem}", flush=True)
        peer = ["--peer", options.peer] if options.peer and '"--peer"' in path.read_text("utf-8") else []
        failed += subprocess.run([sys.executable, str(path), *peer], env={**os.environ, **ONE_THREAD}).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
