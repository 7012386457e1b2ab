"""Study 3 at a million prospects, and its estimators beside statsmodels'.

    python benchmarks/bench_cost.py [--copies 60] [--quick]

Scale: a simulated bank of 20,000 customers is copied inside the engine (new identifiers, same lives; about a million
prospects, 1.2 million customers and 50 million customer-months at 60 copies), and everything notebook 03 computes runs
on it in a process of its own: wall and CPU seconds of each step, peak memory of the process. Goal: under 60 s and 4 GiB
on two cores. Drawing and copying the bank is not counted. The notebook itself, with kernel and figures, is timed by the
commands at the end of ``README.md``.

Peers: a win model (probit in spend and its square) against ``statsmodels`` Probit with robust errors, and the doubly
robust effect against ``statsmodels`` TreatmentEffect, each in a process of its own; CPU seconds are user plus system
time of the fit alone, after a small one, so that imports are done. ``difference`` is the largest relative difference
of the estimates.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TABLES = ("customers", "prospects", "contacts", "monthly", "holdings", "service")
WARM = 500
IDS = ("customer_id", "prospect_id", "referrer_id")


def cpu() -> float:
    """CPU seconds of this process so far."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def build(path: Path, copies: int) -> None:
    """Write a database with ``copies`` copies of a simulated bank."""
    from crmresearch.data.engines import NOTES
    from crmresearch.lab import simulated

    bank = simulated.bank(simulated.Settings(customers=20_000, months=60, seed=1), TABLES)
    run = bank.engine.run
    run(f"ATTACH '{path}' AS big")
    for table in TABLES:
        names = [r[0] for r in run(f"DESCRIBE {table}")]
        columns = ", ".join(f"{c} || '-' || k AS {c}" if c in IDS else f'"{c}"' for c in names)
        run(f"CREATE TABLE big.{table} AS SELECT {columns} FROM {table}, range({copies}) t(k)")
    run(f"CREATE TABLE big.{NOTES} AS FROM {NOTES}")
    run("DETACH big")


def scale(path: Path) -> dict[str, Any]:
    """Run everything notebook 03 computes; return seconds by step and peak memory."""
    from crmresearch.data.bank import Bank
    from crmresearch.data.description import About
    from crmresearch.data.engines import DuckDB
    from crmresearch.data.reductions import cost as reductions
    from crmresearch.lab import simulated
    from crmresearch.studies import cost

    os.environ |= {"CRMRESEARCH_THREADS": "2", "CRMRESEARCH_MEMORY": "2GB"}
    about = About.of(simulated.about(simulated.Settings()))
    bank = Bank(DuckDB(path, read_only=True), about)
    steps: list[tuple[str, float, float]] = []
    begin, used = time.perf_counter(), cpu()

    def timed(name: str, do: Callable[[], Any]) -> Any:
        wall, before = time.perf_counter(), cpu()
        out = do()
        steps.append((name, time.perf_counter() - wall, cpu() - before))
        return out

    acquisition = timed("reduce acquisition", lambda: reductions.acquisition(bank))
    people = timed("reduce prospects", lambda: reductions.prospects(bank))
    upkeep = timed("reduce upkeep", lambda: reductions.upkeep(bank))
    campaigns = timed("reduce campaigns", lambda: reductions.campaigns(bank))
    groups = timed("reduce groups", lambda: {b: reductions.upkeep(bank, by=b) for b in ("channel", "segment")})
    joint = timed("reduce joint", lambda: reductions.joint(bank))
    response = timed("response", lambda: cost.response(people))
    saved = timed("saved", lambda: cost.saved(campaigns))
    ratios = timed("ratios", lambda: cost.ratios(acquisition, upkeep, response, saved))
    timed(
        "by channel, segment",
        lambda: [cost.ratios_by(acquisition, u, response, campaigns, by=b) for b, u in groups.items()],
    )
    timed("payback", lambda: cost.payback(acquisition, upkeep))
    timed("targeted", lambda: cost.targeted(campaigns))
    point = timed("retention point", lambda: cost.retention_point(upkeep, saved))
    timed("uplift", lambda: cost.uplift(campaigns))
    timed("policies", lambda: cost.policies(campaigns, value_saved=point))
    timed("jointly", lambda: cost.jointly(joint))
    timed("split", lambda: cost.split(cost.response_curves(people, campaigns, upkeep, response)))
    timed("replacement", lambda: cost.replacement(acquisition, upkeep))
    total = (time.perf_counter() - begin, cpu() - used)
    steps.append(("total", *total))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"steps": steps, "peak": peak, "prospects": len(people), "rows": len(campaigns), "S40": ratios.sentence}


def draw(n: int) -> pd.DataFrame:
    """Prospects with spend and outcome; customers with an offer that follows a covariate."""
    rng = np.random.default_rng(7)
    spend = 85 * np.exp(0.5 * rng.standard_normal(n) - 0.125)
    won = -1.1 + 1.6 * spend / 100 - 0.35 * (spend / 100) ** 2 + rng.standard_normal(n) > 0
    x = rng.standard_normal((n, 5))
    treated = rng.random(n) < 1 / (1 + np.exp(-x[:, 0]))
    years = np.minimum(rng.exponential(1 / (0.12 * np.exp(0.5 * x[:, 0] - 0.4 * treated))), 1.0)
    frame = pd.DataFrame({"block": np.arange(n) % 1024, "spend": spend, "won": won.astype(int), "treated": treated * 1})
    return frame.assign(years=years, **{f"x_{k}": x[:, k] for k in range(5)})


def fit(side: str, what: str, n: int) -> dict[str, Any]:
    """One fit of one side."""
    from crmresearch.estimators.causal.aipw import aipw
    from crmresearch.estimators.spending.winning import win_model

    if n > WARM:
        fit(side, what, WARM)
    frame = draw(n)
    names = tuple(f"x_{k}" for k in range(5))
    if side == "peer":
        import statsmodels.api as sm
        from statsmodels.treatment.treatment_effects import TreatmentEffect
    before = cpu()
    if (side, what) == ("ours", "win model"):
        out = (win_model(frame).params * [1, 100, 1e4]).tolist()
    elif (side, what) == ("peer", "win model"):
        s = frame["spend"].to_numpy() / 100
        x = np.column_stack([np.ones(n), s, s * s])
        out = sm.Probit(frame["won"].to_numpy(), x).fit(disp=0, cov_type="HC0").params.tolist()
    elif (side, what) == ("ours", "doubly robust"):
        out = [aipw(frame, frame["years"].to_numpy(), names, 1024).effect.value]
    else:
        x = sm.add_constant(frame[list(names)])
        x.iloc[:, 1:] = (x.iloc[:, 1:] - x.iloc[:, 1:].mean()) / x.iloc[:, 1:].std(ddof=0)
        chance = sm.Logit(frame["treated"], x).fit(disp=0)
        effect = TreatmentEffect(sm.OLS(frame["years"].to_numpy(), x), frame["treated"].to_numpy(), chance).aipw()
        out = [float(effect.effect[0])]
    return {"cpu": cpu() - before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "out": out}


def child(*args: str) -> dict[str, Any]:
    """Run one measure in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *args], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="two copies, small peers")
    parser.add_argument("--scale", help=argparse.SUPPRESS)
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scale:
        print(json.dumps(scale(Path(args.scale))))
        return
    if args.fit:
        print(json.dumps(fit(args.fit[0], args.fit[1], int(args.fit[2]))))
        return
    rows = []
    for what in ("win model", "doubly robust"):
        for n in (2_000,) if args.quick else (20_000, 300_000):
            ours, peer = (child("--fit", side, what, str(n)) for side in ("ours", "peer"))
            gap = np.max(np.abs(np.array(ours["out"]) / np.array(peer["out"]) - 1))
            rows.append((what, n, ours["cpu"], peer["cpu"], peer["cpu"] / ours["cpu"], ours["peak"], peer["peak"], gap))
    names = ["fit", "n", "ours cpu s", "peer cpu s", "ratio", "ours GiB", "peer GiB", "difference"]
    print(pd.DataFrame(rows, columns=names).to_string(index=False, float_format="%.3g"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.duckdb"
        build(path, 2 if args.quick else args.copies)
        found = child("--scale", str(path))
    print(f"\n{found['prospects']:,} prospects, {found['rows']:,} campaign rows, peak memory {found['peak']:.2f} GiB")
    print(pd.DataFrame(found["steps"], columns=["step", "wall s", "cpu s"]).to_string(index=False, float_format="%.2f"))
    print(found["S40"])


if __name__ == "__main__":
    main()
