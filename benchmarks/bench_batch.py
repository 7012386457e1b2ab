"""Runs of one notebook with other parameters: our sweep, warm and cold, beside papermill's loops.

The peers are papermill's API in one process, and its command from a shell, a process per run, both with this
interpreter's kernel. CPU seconds are those of all processes; outputs are compared after normalising. The light
notebook is what a short analysis is: libraries, 2,000 rows, a curve, a regression, three figures, two tables.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook

from crmresearch.run import execution, kernels

ROOT = Path(__file__).parents[1]
LIGHT = (
    'bank_name: str = "none"  # bank to study, not empty\nseed: int = 1  # seed of the draws, [0, )',
    "import lifelines\nimport matplotlib.pyplot as plt\nimport numpy as np\nimport pandas as pd\nimport seaborn as sns",
    "rng = np.random.default_rng(seed)\n"
    'frame = pd.DataFrame({"months": rng.exponential(20, 2000) + 0.1, "gone": rng.random(2000) < 0.7})\n'
    'frame["group"], frame["age"] = rng.integers(0, 3, 2000), rng.normal(45, 12, 2000)',
    'lifelines.KaplanMeierFitter().fit(frame["months"], frame["gone"]).plot_survival_function()\nplt.show()',
    'cox = lifelines.CoxPHFitter().fit(frame, "months", "gone")\ncox.summary[["coef", "p"]]',
    'sns.histplot(frame, x="months", hue="group")\nplt.show()',
    'sns.boxplot(frame, x="group", y="age")\nplt.show()',
    'frame.groupby("group").agg("mean")',
)
API = """import json, os, sys, papermill
for number, out in json.loads(sys.argv[2]).items():
    os.environ["CRMRESEARCH_OUT"] = os.path.dirname(out)
    given = {"bank_name": "reference", sys.argv[3]: int(number)}
    ways = {"kernel_name": "python3", "cwd": os.path.dirname(sys.argv[1]), "progress_bar": False}
    papermill.execute_notebook(sys.argv[1], out, given, **ways)
"""
OURS = """import json, sys
from pathlib import Path
from crmresearch.run import spare_grammars, sweep
spare_grammars()
path, values = Path(sys.argv[1]), {sys.argv[3]: json.loads(sys.argv[4])}
planned = sweep.prepare(values, Path(sys.argv[2]), studies=[[path.stem]], folder=path.parent)
sweep.run(planned, jobs=1, cold=sys.argv[5] == "cold")
"""


def used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measured(commands: list[list[str]], environment: dict[str, str], cwd: Path) -> tuple[float, float]:
    """Return CPU and wall seconds of commands, one after the other."""
    cpu, wall = used(), time.monotonic()
    for command in commands:
        subprocess.run(command, env=environment, cwd=cwd, check=True, capture_output=True)
    return used() - cpu, time.monotonic() - wall


def compare(path: Path, name: str, runs: int, peers: int, scratch: Path) -> None:
    """Print the CPU seconds of a run, by each way, and whether outputs are equal."""
    environment = {**os.environ, **kernels.ENVIRONMENT}
    ways, written = {}, {}
    values = range(1, runs + 1)
    for way in ("warm", "cold"):
        out, some = scratch / way, values if way == "warm" else values[:peers]
        command = [sys.executable, "-c", OURS, str(path), str(out), name, json.dumps(list(some)), way]
        cpu, wall = measured([command], environment, path.parents[1])
        ways[f"ours, {way}"] = cpu / len(some), wall / len(some)
        written[way] = [out / f"{name}-{k}" / "notebooks" / path.name for k in some[:peers]]
        if way == "warm":
            cpu, wall = measured([command], environment, path.parents[1])
            print(f"  {runs} unchanged runs, again: {cpu:.1f} CPU s, {wall:.1f} s")
    for way in ("papermill, API", "papermill, shell"):
        outs = {k: scratch / way.replace(", ", "-") / str(k) / path.name for k in values[:peers]}
        for out in outs.values():
            out.parent.mkdir(parents=True)
        written[way] = list(outs.values())
        if way == "papermill, API":
            told = json.dumps({k: str(out) for k, out in outs.items()})
            commands = [[sys.executable, "-c", API, str(path), told, name]]
            ways[way] = tuple(x / peers for x in measured(commands, environment, path.parent))
            continue
        total = [0.0, 0.0]
        for k, out in outs.items():
            given = ["-p", "bank_name", "reference", "-p", name, str(k), "-k", "python3", "--no-progress-bar"]
            command = [sys.executable, "-m", "papermill", str(path), str(out), *given, "--cwd", str(path.parent)]
            spent = measured([command], environment | {"CRMRESEARCH_OUT": str(out.parent)}, path.parent)
            total = [a + b for a, b in zip(total, spent, strict=True)]
        ways[way] = total[0] / peers, total[1] / peers
    texts = {
        way: [json.dumps(execution.normalise(execution.read_notebook(p)), sort_keys=True) for p in paths]
        for way, paths in written.items()
    }
    for way, (cpu, wall) in ways.items():
        print(f"  {way:17} {cpu:6.2f} CPU s, {wall:6.2f} s a run; {cpu / ways['ours, warm'][0]:.2f} times ours")
    for way, found in texts.items():
        print(f"  outputs {'equal' if found == texts['warm'] else 'DIFFER'}: {way}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--peers", type=int, default=20, help="runs of the peers")
    parser.add_argument("--only", choices=("light", "00"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        light = Path(scratch) / "light" / "notebooks" / "05_light.ipynb"
        light.parent.mkdir(parents=True)
        cells = [
            new_code_cell(text, id=f"c{k}", metadata={"tags": ["parameters"]} if not k else {})
            for k, text in enumerate(LIGHT)
        ]
        execution.write_notebook(new_notebook(cells=cells, metadata={"kernelspec": kernels.KERNELSPEC}), light)
        whole = ROOT / "notebooks" / "00_customer_base.ipynb"
        for key, path, name in (("light", light, "seed"), ("00", whole, "seed")):
            if given.only in (None, key):
                print(f"{path.stem}, {given.runs} runs (peers {given.peers})", flush=True)
                compare(path, name, given.runs, given.peers, Path(scratch) / key)


if __name__ == "__main__":
    main()
