"""Survival estimators against lifelines and statsmodels, side by side in one run.

    python benchmarks/bench_churn.py [--quick]

Every measure runs in a process of its own, peer and ours in turn. CPU seconds are user plus system time of the step
alone (imports and drawing the data excluded); peak memory is that of the whole process. ``difference`` is the largest
absolute difference of what both return. Data are simulated whole-month durations with a fixed seed. ``--quick`` takes
fewer customers where a peer needs gigabytes or minutes, and says so in the table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = [f"x{i}" for i in range(10)]
REFITS = {"ours": 1000, "peer": 10}  # the peer's CPU is scaled up to as many refits
# measure: (customers, customers with --quick, smallest ratio of CPU seconds asked for)
MEASURES = {
    "incidence with variance, arrays": (10_000, 10_000, 1000),
    "incidence with variance, table": (10_000, 10_000, None),
    "incidence with variance, more, table": (100_000, 10_000, None),
    "incidence, arrays, ours alone": (1_000_000, 1_000_000, None),
    "incidence, table, ours alone": (1_000_000, 1_000_000, None),
    "Kaplan-Meier": (1_000_000, 1_000_000, 1),
    "Cox, 10 covariates": (1_000_000, 200_000, 1),
    "Cox bootstrap, 1,000 refits": (10_000, 10_000, 25),
    "monthly hazard, person-months": (100_000, 10_000, 10),
    "Fine-Gray, ours alone": (100_000, 100_000, None),
}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def draw(customers: int) -> pd.DataFrame:
    """Whole-month durations up to ten years with ten covariates, 58% exits of two causes."""
    rng = np.random.default_rng(20261123)
    x = rng.standard_normal((customers, 10))
    t = np.ceil(rng.exponential(80 * np.exp(-x @ np.linspace(-0.3, 0.3, 10)))).astype(int)
    stop = rng.integers(1, 121, customers)
    frame = pd.DataFrame(x, columns=COLUMNS)
    frame["exit"], frame["event"] = np.minimum(t, stop), (t <= stop).astype(int)
    frame["cause"] = np.where(frame["event"] == 1, np.where(rng.random(customers) < 0.7, "voluntary", "other"), None)
    return frame


def levels(frame: pd.DataFrame) -> pd.DataFrame:
    """The same spells with two covariates of few levels, as products held and channel are."""
    groups = pd.DataFrame({"a": np.digitize(frame["x0"], [-1, 0, 1]), "b": (frame["x9"] > 0).astype(int)})
    return pd.concat([frame[["exit", "event"]], groups], axis=1)


def incidence_codes(frame: pd.DataFrame) -> np.ndarray:
    return frame["cause"].map({"voluntary": 1, "other": 2}).fillna(0).astype(int).to_numpy()


def repeated(step: Callable[[], Any], customers: int) -> tuple[float, Any]:
    """CPU seconds of one of many runs, after one for imports and first allocations."""
    step()
    repeats = max(1, 2_000_000 // customers)
    begin = cpu()
    for _ in range(repeats):
        found = step()
    return (cpu() - begin) / repeats, found


def incidence(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    """From a frame of spells, checked, to a table of curves with intervals, for both causes."""
    if side == "peer":
        return incidence_peer(frame)
    from crmresearch.estimators.survival import incidence as ours

    spent, found = repeated(lambda: ours.cumulative_incidence(frame), len(frame))
    at = found[(found["cause"] == "voluntary") & (found["time"] == 12)]
    return spent, [float(at["incidence"].iloc[0])]


def incidence_arrays(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    """From arrays of months and causes to arrays of incidence and standard error, for both causes."""
    if side == "peer":
        return incidence_peer(frame)
    from crmresearch.estimators.survival import incidence as exact
    from crmresearch.estimators.survival import risk

    spells, code = risk.read_spells(frame), incidence_codes(frame)
    spent, found = repeated(lambda: exact.aalen_johansen(spells, code, 2), len(frame))
    return spent, [float(found.incidence[0, np.searchsorted(found.time, 12)])]


def incidence_peer(frame: pd.DataFrame) -> tuple[float, list[float]]:
    """From arrays of months and causes to lifelines' fitted curve of one cause with its variance."""
    from lifelines import AalenJohansenFitter

    months, code = frame["exit"].to_numpy(), incidence_codes(frame)
    begin = cpu()
    fit = AalenJohansenFitter(seed=1, calculate_variance=True).fit(months, code, event_of_interest=1)
    spent = cpu() - begin
    curve = fit.cumulative_density_.iloc[:, 0]
    return spent, [float(curve[curve.index <= 12.49].iloc[-1])]


def kaplan_meier(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    if side == "ours":
        from crmresearch.estimators.survival import curves as ours

        ours.kaplan_meier(frame.head(1000))
        begin = cpu()
        curve = ours.kaplan_meier(frame)
        return cpu() - begin, [float(curve.loc[curve["time"] == m, "survival"].iloc[0]) for m in (12, 60)]
    from lifelines import KaplanMeierFitter

    KaplanMeierFitter().fit(frame["exit"].head(1000), frame["event"].head(1000))
    begin = cpu()
    fit = KaplanMeierFitter().fit(frame["exit"], frame["event"])
    return cpu() - begin, [float(fit.predict(m)) for m in (12, 60)]


def cox(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    small = frame.head(2000)
    if side == "ours":
        from crmresearch.estimators.survival import cox as ours

        ours.cox(small, COLUMNS)
        begin = cpu()
        fit = ours.cox(frame, COLUMNS)
        return cpu() - begin, fit.params.tolist()
    from lifelines import CoxPHFitter

    keep = [*COLUMNS, "exit", "event"]
    CoxPHFitter().fit(small[keep], "exit", "event")
    begin = cpu()
    peer = CoxPHFitter().fit(frame[keep], "exit", "event")
    return cpu() - begin, peer.params_[COLUMNS].tolist()


def bootstrap(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    if side == "ours":
        from crmresearch.estimators.survival import cox as ours

        ours.cox(frame, COLUMNS)
        begin = cpu()
        draws = ours.cox_bootstrap(frame, COLUMNS, repeats=REFITS["ours"], seed=1)
        return cpu() - begin, draws.std().tolist()
    from lifelines import CoxPHFitter

    keep = [*COLUMNS, "exit", "event"]
    rng = np.random.default_rng(1)
    CoxPHFitter().fit(frame[keep], "exit", "event")
    begin = cpu()
    found = []
    for _ in range(REFITS["peer"]):
        sample = frame[keep].iloc[rng.integers(0, len(frame), len(frame))]
        found.append(CoxPHFitter().fit(sample, "exit", "event").params_[COLUMNS].to_numpy())
    return (cpu() - begin) * REFITS["ours"] / REFITS["peer"], np.std(found, axis=0, ddof=1).tolist()


def monthly_hazard(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    import statsmodels.api as sm

    from crmresearch.estimators.inference import natural_spline
    from crmresearch.estimators.survival import curves, discrete

    spells = levels(frame)
    begin = cpu()
    tables = []
    for (a, b), part in spells.groupby(["a", "b"]):
        table = curves.life_table(part).query("time > 0 and at_risk > 0")
        tables.append(table.rename(columns={"time": "tenure"}).assign(a=a, b=b))
    cells = pd.concat(tables)[["tenure", "at_risk", "events", "a", "b"]]
    if side == "ours":
        fit = discrete.discrete_hazard(cells, ["a", "b"])
        return cpu() - begin, fit.params.tolist()
    # the same model on one row per customer and month, with the same knots
    _, knots = discrete.tenure_terms(cells["tenure"].to_numpy(), cells["at_risk"].to_numpy())
    begin = cpu()
    months = spells.loc[spells.index.repeat(spells["exit"])]
    tenure = months.groupby(level=0).cumcount().to_numpy() + 1
    left = ((tenure == months["exit"]) & (months["event"] == 1)).to_numpy(dtype=float)
    basis = natural_spline(np.log(tenure), knots.tolist())
    x = np.column_stack([months[["a", "b"]].to_numpy(dtype=float), np.ones(len(months)), basis])
    family = sm.families.Binomial(link=sm.families.links.CLogLog())
    peer = sm.GLM(left, x, family=family).fit(tol=1e-10, rtol=1e-13, tol_criterion="deviance", maxiter=100)
    return cpu() - begin, peer.params.tolist()


def fine_gray(side: str, frame: pd.DataFrame) -> tuple[float, list[float]]:
    from crmresearch.estimators.survival import finegray as ours

    ours.fine_gray(frame.head(2000), COLUMNS, "voluntary", repeats=0)
    begin = cpu()
    fit = ours.fine_gray(frame, COLUMNS, "voluntary", repeats=0)
    return cpu() - begin, fit.params.tolist()


STEPS = {
    "incidence with variance, arrays": incidence_arrays,
    "incidence with variance, table": incidence,
    "incidence with variance, more, table": incidence,
    "incidence, arrays, ours alone": incidence_arrays,
    "incidence, table, ours alone": incidence,
    "Kaplan-Meier": kaplan_meier,
    "Cox, 10 covariates": cox,
    "Cox bootstrap, 1,000 refits": bootstrap,
    "monthly hazard, person-months": monthly_hazard,
    "Fine-Gray, ours alone": fine_gray,
}


def one(side: str, what: str, customers: int) -> None:
    """Run one measure in this process and print it as JSON."""
    warnings.simplefilter("ignore")
    spent, numbers = STEPS[what](side, draw(customers))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": spent, "peak": peak, "numbers": numbers}))


def measured(side: str, what: str, customers: int) -> dict:
    command = [sys.executable, __file__, "--one", side, what, str(customers)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main(quick: bool, chosen: list[str]) -> None:
    print(f"lifelines {version('lifelines')}, statsmodels {version('statsmodels')}, numpy {version('numpy')}")
    if quick:
        print("reduced sizes (--quick): ratios grow with the number of customers")
    print("\n| measure | customers | peer CPU s | our CPU s | ratio | asked | peer MB | our MB | ratio | difference |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for what, (full, reduced, asked) in MEASURES.items():
        if chosen and not any(c in what for c in chosen):
            continue
        n = reduced if quick else full
        ours = measured("ours", what, n)
        if "ours alone" in what:
            print(f"| {what} | {n:,} | – | {ours['cpu']:.6f} | – | – | – | {ours['peak']:.0f} | – | – |", flush=True)
            continue
        peer = measured("peer", what, n)
        gap = float(np.max(np.abs(np.array(ours["numbers"]) - np.array(peer["numbers"]))))
        print(
            f"| {what} | {n:,} | {peer['cpu']:.3f} | {ours['cpu']:.6f} | {peer['cpu'] / ours['cpu']:,.1f} | {asked} "
            f"| {peer['peak']:.0f} | {ours['peak']:.0f} | {peer['peak'] / ours['peak']:.1f} | {gap:.1e} |",
            flush=True,
        )
    print(
        "\nincidence: the peer jitters tied months, and writes a table in each row; "
        "bootstrap: difference of standard deviations"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller banks where a peer needs gigabytes or minutes")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of measures")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "MEASURE", "CUSTOMERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], arguments.one[1], int(arguments.one[2]))
    else:
        main(arguments.quick, arguments.only)
