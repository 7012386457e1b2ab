"""PLS bootstrap against plspm 0.5.7, covariance model against semopy, ordered logit against statsmodels, side by side.

    python benchmarks/bench_loyalty.py --peer PATH_TO_A_PYTHON_WITH_PLSPM [--quick]

Three constructs, ten items, three paths, 1,000 resamples. Every measure runs in a process of its own; CPU seconds are
user plus system time of the step alone (imports and drawing the data excluded), peak memory is that of the whole
process. The peer does as many resamples as it can in reasonable time and is scaled up; the table says how many.
``difference`` is the largest difference of path estimates on the whole sample; both programs use unscaled items there,
because the peer's scaling divides by one pooled deviation. semopy gets the covariance matrix of each resample ready
made; the difference there is that of standardised paths over the resamples it did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys

import numpy as np

BLOCKS = {"image": 3, "satisfaction": 3, "loyalty": 4}
PATHS = [("image", "satisfaction"), ("image", "loyalty"), ("satisfaction", "loyalty")]
RESAMPLES = 1000
PEER_RESAMPLES = {250: 40, 100_000: 4}
SEM_RESAMPLES = 40  # of semopy
SEM_TEXT = "\n".join(
    [f"{name} =~ {' + '.join(f'{name}{k + 1}' for k in range(count))}" for name, count in BLOCKS.items()]
    + [f"{b} ~ {a}" for a, b in PATHS]
)


def items(n: int) -> tuple[np.ndarray, list[str]]:
    """Ten ordinal items of three constructs, answers 1 to 10."""
    rng = np.random.default_rng(7)
    image = rng.normal(size=n)
    satisfaction = 0.5 * image + np.sqrt(0.75) * rng.normal(size=n)
    loyal = 0.2 * image + 0.5 * satisfaction + 0.75 * rng.normal(size=n)
    columns, names = [], []
    for (name, count), score in zip(BLOCKS.items(), (image, satisfaction, loyal), strict=True):
        for k in range(count):
            columns.append(np.clip(np.rint(6.6 + 1.9 * (0.8 * score + 0.6 * rng.normal(size=n))), 1, 10))
            names.append(f"{name}{k + 1}")
    return np.column_stack(columns), names


def cpu() -> float:
    """CPU seconds of this process so far."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def ours(what: str, n: int) -> tuple[float, list[float]]:
    """Our side of one measure."""
    from crmresearch.estimators.measurement import moments, ordinal, pls, sem
    from crmresearch.estimators.measurement.model import PathModel

    x, names = items(n)
    model = PathModel({c: [m for m in names if m.startswith(c)] for c in BLOCKS}, PATHS)
    if what == "ordered logit":
        import scipy.linalg
        import scipy.special  # noqa: F401  (loaded before the clock starts, as the peer's modules are)

        begin = cpu()
        fit = ordinal.fit_ordered_logit(x[:, :5], np.digitize(x[:, 9], [4, 6, 7, 9]))
        return cpu() - begin, fit.slopes.tolist()
    if what == "sem bootstrap":
        import pandas as pd

        frame = pd.DataFrame(x, columns=names)
        fitted = sem.fit_sem(frame, model)
        begin = cpu()
        drawn, _ = sem.bootstrap_sem(frame, model, fitted, resamples=RESAMPLES, seed=1)
        return cpu() - begin, drawn[:SEM_RESAMPLES].ravel().tolist()
    begin = cpu()
    fit = pls.fit_pls(moments.covariance(x), model, scaled=False)
    if what == "pls bootstrap":
        drawn = moments.resampled_covariances(x, RESAMPLES, seed=1)
        pls.fit_pls(drawn, model, scaled=False, like=fit)
    return cpu() - begin, [float(fit.path(*p)[0]) for p in PATHS]


def peer(what: str, n: int) -> tuple[float, list[float]]:
    """The peer's side of one measure, scaled up to as many resamples."""
    import warnings

    import pandas as pd

    warnings.simplefilter("ignore")
    x, names = items(n)
    if what == "ordered logit":
        from statsmodels.miscmodels.ordinal_model import OrderedModel

        begin = cpu()
        fit = OrderedModel(np.digitize(x[:, 9], [4, 6, 7, 9]), x[:, :5], distr="logit").fit(method="bfgs", disp=0)
        return cpu() - begin, fit.params[:5].tolist()
    if what == "sem bootstrap":
        import semopy

        from crmresearch.estimators.measurement import moments

        stack = moments.resampled_covariances(x, RESAMPLES, seed=1)
        found = []
        begin = cpu()
        for cov in stack[:SEM_RESAMPLES]:
            model = semopy.Model(SEM_TEXT)
            model.fit(cov=pd.DataFrame(cov, names, names), n_samples=n)
            found.append(model.inspect(std_est=True, se_robust=False).set_index(["lval", "op", "rval"])["Est. Std"])
        seconds = (cpu() - begin) * RESAMPLES / SEM_RESAMPLES
        return seconds, [float(f[b, "~", a]) for f in found for a, b in PATHS]
    import plspm.config as config
    from plspm.mode import Mode
    from plspm.plspm import Plspm
    from plspm.scheme import Scheme

    frame = pd.DataFrame(x, columns=names)
    structure = pd.DataFrame(0, index=list(BLOCKS), columns=list(BLOCKS))
    for a, b in PATHS:
        structure.loc[b, a] = 1

    def fit_once(rows: pd.DataFrame) -> pd.DataFrame:
        setup = config.Config(structure, scaled=False)
        for name in BLOCKS:
            setup.add_lv_with_columns_named(name, Mode.A, rows, name)
        return Plspm(rows, setup, Scheme.CENTROID).path_coefficients()

    if what == "pls fit":
        begin = cpu()
        fit = fit_once(frame)
        return cpu() - begin, [float(fit.loc[b, a]) for a, b in PATHS]
    count = PEER_RESAMPLES[n]
    fit = fit_once(frame)
    rng = np.random.default_rng(1)
    begin = cpu()
    for _ in range(count):
        fit_once(frame.iloc[rng.integers(0, n, n)].reset_index(drop=True))
    return (cpu() - begin) * RESAMPLES / count, [float(fit.loc[b, a]) for a, b in PATHS]


def child(side: str, what: str, n: int) -> None:
    """Do one measure and print it."""
    seconds, numbers = (ours if side == "ours" else peer)(what, n)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"cpu": seconds, "memory": memory, "numbers": numbers}))


def run(python: str, side: str, what: str, n: int, repeats: int) -> dict[str, object]:
    """Start a process for each repeat; the median of their CPU seconds, the largest memory."""
    seen = []
    for _ in range(repeats):
        command = [python, __file__, "--child", side, what, str(n)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if done.returncode:
            raise SystemExit(f"{side} {what} failed:\n{done.stderr}")
        seen.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        "cpu": float(np.median([s["cpu"] for s in seen])),
        "memory": max(s["memory"] for s in seen),
        "numbers": seen[0]["numbers"],
    }


def main() -> None:
    """Measure both sides and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=os.environ.get("CRMRESEARCH_PEER_PLSPM"), help="Python that has plspm 0.5.7")
    parser.add_argument("--quick", action="store_true", help="250 rows only, one repeat")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], arguments.child[1], int(arguments.child[2]))
        return
    where = "import importlib.metadata as m, platform; print(m.version('plspm'), platform.python_version())"
    version = ["not run (name a Python that has it with --peer)", platform.python_version()]
    if arguments.peer:
        done = subprocess.run([arguments.peer, "-c", where], capture_output=True, text=True, check=True)
        version = done.stdout.split()
    import importlib.metadata

    statsmodels = importlib.metadata.version("statsmodels")
    print(f"plspm {version[0]} on Python {version[1]}; statsmodels {statsmodels}; {RESAMPLES:,} resamples\n")
    print("| measure | rows | peer | ours, CPU s | peer, CPU s | ratio | ours, MB | peer, MB | difference |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|")
    sizes = [250] if arguments.quick else [250, 100_000]
    repeats = 1 if arguments.quick else 3
    peers = {"pls fit": "plspm", "pls bootstrap": "plspm", "sem bootstrap": "semopy", "ordered logit": "statsmodels"}
    for what, name in peers.items():
        for n in sizes:
            other = arguments.peer if name == "plspm" else sys.executable
            a = run(sys.executable, "ours", what, n, repeats)
            if other is None:
                print(f"| {what} | {n:,} | not run | {a['cpu']:.4f} | | | {a['memory'] / 1e6:.0f} | | |", flush=True)
                continue
            b = run(other, "peer", what, n, repeats if "bootstrap" not in what else 1)
            gap = max(abs(x - y) for x, y in zip(a["numbers"], b["numbers"], strict=True))
            done = {"pls bootstrap": PEER_RESAMPLES[n], "sem bootstrap": SEM_RESAMPLES}.get(what)
            note = f", {done} resamples scaled up" if done else ""
            print(
                f"| {what} | {n:,} | {name}{note} | {a['cpu']:.4f} | {b['cpu']:.2f} | {b['cpu'] / a['cpu']:,.0f} | "
                f"{a['memory'] / 1e6:.0f} | {b['memory'] / 1e6:.0f} | {gap:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
