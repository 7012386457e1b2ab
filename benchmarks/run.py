"""Run every benchmark of this folder, one process each, and print what they print.

Each ``bench_*.py`` times an estimator of the package beside a peer, says which version of the peer it ran with, and
skips itself with a reason where the peer is not installed (peers are no dependencies of the project).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def main(names: list[str]) -> int:
    """Run the benchmarks whose names contain one of ``names`` (all by default); return the number that failed."""
    files = [p for p in sorted(FOLDER.glob("bench_*.py")) if not names or any(n in p.stem for n in names)]
    if not files:
        print(f"no benchmark matches {' '.join(names) or 'bench_*.py'}", file=sys.stderr)
        return 1
    failed = 0
    for path in files:
        print(f"== {path.stem}", flush=True)
        failed += subprocess.run([sys.executable, str(path)], env={**os.environ, **ONE_THREAD}).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
