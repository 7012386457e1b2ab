"""Lifetime models against lifetimes 0.11.3, side by side in one run.

    python benchmarks/bench_lifetime.py --peer PATH_TO_A_PYTHON_WITH_LIFETIMES [--quick]

Every measure runs in a process of its own, peer and ours in turn; CPU seconds are user plus system time of the step
alone (imports and reading the data excluded), peak memory is that of the whole process. Data are simulated daily
purchase histories with a fixed seed. ``difference`` is the largest relative difference of parameters (or of single
customers' CLV); ``loglik`` is ours minus the peer's log-likelihood (positive: we are higher), both evaluated by our
code.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

DAY_MONTH = 30  # lifetimes' month for daily data
REFITS = {"ours": 1000, "peer": 20}  # the peer's CPU is scaled up to as many refits


def simulate(customers: int, seed: int, dropout: str) -> dict[str, np.ndarray]:
    """Daily histories of a year; dropout 'coin' after a purchase (BG/NBD) or 'clock' (Pareto/NBD)."""
    rng = np.random.default_rng(seed)
    age = rng.integers(180, 366, customers).astype(float)
    rate = rng.gamma(0.6, 1 / 30, customers)
    coin = rng.beta(0.8, 2.5, customers)
    end = age if dropout == "coin" else np.minimum(age, rng.exponential(1 / rng.gamma(0.6, 1 / 80, customers)))
    frequency, recency, clock = (np.zeros(customers) for _ in range(3))
    live = np.arange(customers)
    while live.size:
        clock[live] += rng.exponential(1 / rate[live])
        live = live[clock[live] <= end[live]]
        day = np.minimum(np.ceil(clock[live]), age[live])
        frequency[live] += day > recency[live]  # purchases of one day are one
        recency[live] = day
        if dropout == "coin":
            live = live[rng.random(live.size) > coin[live]]
    spend = rng.gamma(6.0 * np.maximum(frequency, 1)) / rng.gamma(4.0, 1 / 15.0, customers) / np.maximum(frequency, 1)
    return {"frequency": frequency, "recency": recency, "T": age, "spend": spend}


def step(side: str, what: str, data: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """Do one measure; return its CPU seconds and its numbers."""
    x, t_x, age, spend = data["frequency"], data["recency"], data["T"], data["spend"]
    if side == "peer":
        import warnings

        import pandas as pd
        from lifetimes import (
            BetaGeoBetaBinomFitter,
            BetaGeoFitter,
            GammaGammaFitter,
            ModifiedBetaGeoFitter,
            ParetoNBDFitter,
        )
        from lifetimes.utils import _customer_lifetime_value

        warnings.simplefilter("ignore")
    else:
        from crmresearch.estimators.lifetime import (
            BetaGeoBetaBinomFitter,
            BetaGeoFitter,
            Discounting,
            GammaGammaFitter,
            ModifiedBetaGeoFitter,
            ParetoNBDFitter,
            bootstrap,
            customer_lifetime_value,
        )
    models = {"bg-nbd": BetaGeoFitter, "mbg-nbd": ModifiedBetaGeoFitter, "pareto-nbd": ParetoNBDFitter}
    again = x > 0
    if what in models:
        begin = cpu()
        fit = models[what]().fit(x, t_x, age)
        return cpu() - begin, np.asarray(fit.params_, dtype=float)
    if what == "bg-bb":
        begin = cpu()
        fit = BetaGeoBetaBinomFitter().fit(x, t_x, age, weights=spend)
        return cpu() - begin, np.asarray(fit.params_, dtype=float)
    if what == "gamma-gamma":
        begin = cpu()
        fit = GammaGammaFitter().fit(x[again], spend[again])
        return cpu() - begin, np.asarray(fit.params_, dtype=float)
    known = {"r": 0.6, "alpha": 30.0, "a": 0.8, "b": 2.5}
    if what == "clv 12 months" and side == "peer":
        model = BetaGeoFitter()
        model.params_ = pd.Series(known)
        model.predict = model.conditional_expected_number_of_purchases_up_to_time
        columns = [pd.Series(v) for v in (x, t_x, age, spend)]
        begin = cpu()
        value = _customer_lifetime_value(model, *columns, time=12, discount_rate=0.01, freq="D")
        return cpu() - begin, np.asarray(value, dtype=float)
    if what == "clv 12 months":
        begin = cpu()
        discounting = Discounting(1.01**12 - 1, 12 * DAY_MONTH)
        value = customer_lifetime_value(BetaGeoFitter.from_params(known), x, t_x, age, spend, discounting, 12)
        return cpu() - begin, value
    if side == "peer":
        rng = np.random.default_rng(1)
        begin = cpu()
        for _ in range(REFITS["peer"]):
            rows = rng.integers(0, len(x), len(x))
            BetaGeoFitter().fit(x[rows], t_x[rows], age[rows])
        return (cpu() - begin) * REFITS["ours"] / REFITS["peer"], np.zeros(0)
    fit = BetaGeoFitter().fit(x, t_x, age)
    frame = __import__("pandas").DataFrame({"frequency": x, "recency": t_x, "T": age})
    begin = cpu()
    bootstrap(fit, frame, REFITS["ours"], seed=1)
    return cpu() - begin, np.zeros(0)


def donations(peer: str) -> dict[str, np.ndarray]:
    """Read the published BG/BB table from the peer's package."""
    where = "import lifetimes, os; print(os.path.dirname(lifetimes.__file__))"
    folder = subprocess.run([peer, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    table = np.genfromtxt(Path(folder) / "datasets" / "donations.csv", delimiter=",", skip_header=1)
    return dict(zip(("frequency", "recency", "T", "spend"), table.T, strict=True))  # T: periods, spend: weights


def cpu() -> float:
    """CPU seconds of this process so far."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def peak() -> int:
    """Peak resident memory of this process, bytes; getrusage would count the parent's before exec."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(side: str, what: str, path: str) -> None:
    """Do one measure and print it."""
    seconds, numbers = step(side, what, dict(np.load(path)))
    np.save(f"{path}.{side}.npy", numbers)
    print(json.dumps({"cpu": seconds, "memory": peak()}))


def run(python: str, side: str, what: str, path: Path, repeats: int) -> dict[str, float]:
    """Start a process for each repeat; the median of their CPU seconds, the largest memory."""
    command = [python, __file__, "--child", side, what, str(path)]
    seen = []
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{side} {what} failed:\n{done.stderr}")
        seen.append(json.loads(done.stdout.splitlines()[-1]))
    return {"cpu": float(np.median([s["cpu"] for s in seen])), "memory": max(s["memory"] for s in seen)}


def versions(python: str, *packages: str) -> str:
    """Name the versions of an interpreter and its packages."""
    code = (
        "import sys, importlib.metadata as m; "
        f"print('Python ' + sys.version.split()[0], *(p + ' ' + m.version(p) for p in {packages!r}), sep=', ')"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def compare(what: str, path: Path) -> tuple[str, str]:
    """Relative difference of the numbers, and difference of log-likelihoods at both optima."""
    ours, peer = np.load(f"{path}.ours.npy"), np.load(f"{path}.peer.npy")
    if not ours.size:
        return "", ""
    difference = np.max(np.abs(ours - peer) / np.maximum(np.abs(peer), 1e-300))
    if ours.size > 4:
        return f"{difference:.1e}", ""
    from crmresearch.estimators import lifetime

    names = {"bg-nbd": "BetaGeo", "mbg-nbd": "ModifiedBetaGeo", "pareto-nbd": "ParetoNBD", "gamma-gamma": "GammaGamma"}
    model = getattr(lifetime, f"{names.get(what, 'BetaGeoBetaBinom')}Fitter")()
    data = dict(np.load(path))
    again = data["frequency"] > 0
    columns = [data["frequency"][again], data["spend"][again]]
    if what != "gamma-gamma":
        columns = [data["frequency"], data["recency"], data["T"]]
    weights = data["spend"] if what == "bg-bb" else np.ones(len(columns[0]))
    likelihood = model._likelihood(columns, weights)
    return f"{difference:.1e}", f"{likelihood(np.log(ours))[0] - likelihood(np.log(peer))[0]:+.1e}"


def main() -> None:
    """Print a table of all measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python interpreter that has lifetimes 0.11.3")
    parser.add_argument("--quick", action="store_true", help="only up to 100,000 customers, without the slow peer runs")
    parser.add_argument("--repeats", type=int, default=3, help="processes per measure; the median is reported")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    if options.peer is None and importlib.util.find_spec("lifetimes"):
        options.peer = sys.executable
    if options.peer is None:
        print("The peer is not run: lifetimes is not installed here, and no --peer is given.\n")
    small, middle, large = 2_400, 100_000, 1_000_000
    plan = [  # measure, dropout, customers, goal for the ratio, whether the peer can do it in a few minutes
        ("bg-nbd", "coin", small, 5, True),
        ("bg-nbd", "coin", middle, None, True),
        ("mbg-nbd", "coin", middle, None, True),
        ("pareto-nbd", "clock", small, 5, True),
        ("pareto-nbd", "clock", middle, 40, not options.quick),
        ("gamma-gamma", "coin", middle, None, True),
        ("clv 12 months", "coin", middle, 10, True),
        ("1,000 refits of bg-nbd", "coin", small, 12, True),
    ]
    if not options.quick:
        plan += [
            ("bg-nbd", "coin", large, 50, True),
            ("pareto-nbd", "clock", large, None, False),
            ("gamma-gamma", "coin", large, 30, True),
            ("clv 12 months", "coin", large, 10, True),
        ]
    if options.peer:
        plan.append(("bg-bb", "donations", 11_104, None, True))
        print(f"Peer: {versions(options.peer, 'lifetimes', 'numpy', 'scipy', 'pandas')}\n")
    print(f"Ours: {versions(sys.executable, 'numpy', 'scipy', 'pandas')}\n")
    print("| measure | customers | peer CPU s | our CPU s | ratio | goal | peer MiB | our MiB | difference | loglik |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for what, dropout, customers, goal, peer_can in plan:
            path = Path(folder) / f"{dropout}{customers}.npz"
            if not path.exists():
                data = donations(options.peer) if dropout == "donations" else simulate(customers, 20261123, dropout)
                np.savez(path, **data)
            repeats = 1 if what == "pareto-nbd" and customers > small else options.repeats
            peer = run(options.peer, "peer", what, path, repeats) if options.peer and peer_can else None
            ours = run(sys.executable, "ours", what, path, options.repeats)
            ratio = f"{peer['cpu'] / ours['cpu']:.0f}" if peer else "not run"
            cells = [f"{peer['cpu']:.3g}" if peer else "not run", f"{ours['cpu']:.3g}", ratio, f"{goal or ''}"]
            cells += [f"{peer['memory'] / 2**20:.0f}" if peer else "", f"{ours['memory'] / 2**20:.0f}"]
            cells += compare(what, path) if peer else ["", ""]
            print(f"| {what} | {customers:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
