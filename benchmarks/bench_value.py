"""Study 1 against its peers, side by side in one run: purchase summary, and bootstrap of the Gini coefficient.

    python benchmarks/bench_value.py --peer PATH_TO_A_PYTHON_WITH_THE_PEERS [--quick]

Peers: plain DuckDB, Polars, pandas and lifetimes 0.11.3 for the summary; scipy.stats.bootstrap for the Gini
coefficient. Every measure runs in a process of its own, sides in turn; CPU seconds are user plus system time of the
step alone (imports and first calls excluded, reading the Parquet file included), peak memory is that of the whole
process. The engines get one thread each: with more, CPU seconds measure how busy the machine is with other work. The
bootstrap of ours also does what the peer's does not: five statistics instead of one, each with a standard error inside
every resample (studentised intervals), by Poisson weights on pooled values. ``agrees`` compares checksums of the
summaries, or the standard errors of the Gini coefficient.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

END = datetime.date(2024, 9, 30)
RESAMPLES = 1000
TWO_STAGE = """
WITH days AS (
  SELECT customer_id, occurred_on, sum(amount) AS amount FROM '{path}' WHERE occurred_on <= DATE '{end}' GROUP BY ALL)
SELECT customer_id, count(*) - 1 AS frequency, (max(occurred_on) - min(occurred_on)) / 7.0 AS recency,
  (DATE '{end}' - min(occurred_on)) / 7.0 AS "T",
  coalesce((sum(amount) - arg_min(amount, occurred_on)) / nullif(count(*) - 1, 0), 0.0) AS monetary_value
FROM days GROUP BY customer_id ORDER BY customer_id"""


def log_of_transactions(path: Path, rows: int) -> None:
    """Write a time-sorted log: a tenth as many customers as rows, skewed rates, amounts in whole cents."""
    import pandas as pd

    rng = np.random.default_rng(20261123)
    customers = rows // 10
    who = rng.choice(customers, rows, p=(p := rng.gamma(0.7, 1.0, customers) + 1e-9) / p.sum())
    day = np.sort(rng.integers(0, 1_000, rows))
    frame = pd.DataFrame({"customer_id": who.astype(np.int64), "amount": rng.integers(100, 20_000, rows)})
    frame["occurred_on"] = (np.datetime64("2022-01-01", "D") + day).astype("datetime64[s]")
    frame["occurred_on"] = frame["occurred_on"].dt.date.astype("datetime64[s]").dt.date
    frame.to_parquet(path, compression="snappy")


def summary(side: str, path: str) -> np.ndarray:
    """Make the purchase summary; return its checksums."""
    if side == "ours":
        from crmresearch.data.engines import DuckDB
        from crmresearch.data.reductions.value.purchases import summary_expression

        os.environ["CRMRESEARCH_THREADS"] = os.environ["POLARS_MAX_THREADS"]
        engine = DuckDB()
        engine.run(f"CREATE VIEW log AS FROM '{path}'")
        frame = engine.frame(summary_expression(engine.table("log"), calibration_end=END))
    elif side == "duckdb":
        import duckdb

        frame = (
            duckdb.connect(config={"threads": int(os.environ["POLARS_MAX_THREADS"])})
            .execute(TWO_STAGE.format(path=path, end=END))
            .df()
        )
    elif side == "polars":
        import polars as pl

        day = pl.col("occurred_on")
        days = (
            pl.scan_parquet(path).filter(day <= END).group_by("customer_id", "occurred_on").agg(pl.col("amount").sum())
        )
        grouped = days.group_by("customer_id").agg(
            frequency=pl.len().cast(pl.Int64) - 1,
            recency=(day.max() - day.min()).dt.total_days() / 7,
            T=(pl.lit(END) - day.min()).dt.total_days() / 7,
            total=pl.col("amount").sum(),
            first=pl.col("amount").get(day.arg_min()),
        )
        mean = (
            pl.when(pl.col("frequency") > 0)
            .then((pl.col("total") - pl.col("first")) / pl.col("frequency"))
            .otherwise(0.0)
        )
        frame = grouped.with_columns(monetary_value=mean).sort("customer_id").collect(engine="streaming")
    else:
        frame = _pandas(side, path)
    names = ("frequency", "recency", "T", "monetary_value")
    return np.array([len(frame), *(np.asarray(frame[n], dtype=float).sum() for n in names)])


def _pandas(side: str, path: str):
    import pandas as pd

    log = pd.read_parquet(path)
    log["occurred_on"] = pd.to_datetime(log["occurred_on"])
    log = log[log["occurred_on"] <= pd.Timestamp(END)]
    if side == "lifetimes":
        from lifetimes.utils import summary_data_from_transaction_data

        end = pd.Timestamp(END)
        frame = summary_data_from_transaction_data(
            log, "customer_id", "occurred_on", monetary_value_col="amount", observation_period_end=end
        )
        return frame.assign(recency=frame["recency"] / 7, T=frame["T"] / 7)
    days = log.groupby(["customer_id", "occurred_on"], sort=True)["amount"].sum().reset_index()
    first = days.drop_duplicates("customer_id").set_index("customer_id")["amount"]
    grouped = days.groupby("customer_id")
    frame = grouped.agg(
        n=("amount", "size"), total=("amount", "sum"), begin=("occurred_on", "min"), last=("occurred_on", "max")
    )
    frame["frequency"] = frame["n"] - 1
    frame["recency"] = (frame["last"] - frame["begin"]).dt.days / 7
    frame["T"] = (pd.Timestamp(END) - frame["begin"]).dt.days / 7
    frame["monetary_value"] = ((frame["total"] - first) / frame["frequency"].where(frame["frequency"] > 0)).fillna(0.0)
    return frame


def gini(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Gini coefficient along an axis."""
    x = np.sort(x, axis=axis)
    n = x.shape[axis]
    return 2 * (x * ((np.arange(n) + 0.5) / n)).sum(axis=axis) / x.sum(axis=axis) - 1


def bootstrap(side: str, path: str) -> np.ndarray:
    """Bootstrap the Gini coefficient; return estimate and standard error."""
    x = np.load(path)
    if side == "ours":
        from crmresearch.estimators.inequality import intervals

        row = intervals(x, seed=1, resamples=RESAMPLES).loc["Gini"]
        return np.array([row["estimate"], row["se"]])
    from scipy.stats import bootstrap as resample

    batch = max(1, 2_000_000 // x.size)
    done = resample((x,), gini, n_resamples=RESAMPLES, method="percentile", batch=batch, vectorized=True, rng=1)
    return np.array([gini(x), done.standard_error])


def cpu() -> float:
    """CPU seconds of this process so far."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def warm(side: str, what: str) -> None:
    """Do the step on a handful of rows, so that imports and first calls are not measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("tiny.parquet" if what == "summary" else "tiny.npy")
        if what == "summary":
            log_of_transactions(path, 1_000)
        else:
            np.save(path, np.arange(1.0, 100.0))
        (summary if what == "summary" else bootstrap)(side, str(path))


def child(side: str, what: str, path: str) -> None:
    """Do one measure and print it."""
    warm(side, what)
    begin = cpu()
    numbers = (summary if what == "summary" else bootstrap)(side, path)
    seconds = cpu() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"cpu": seconds, "memory": memory, "numbers": numbers.tolist()}))


def run(python: str, side: str, what: str, path: Path, threads: int = 1) -> dict:
    """Start one process; its engine has so many threads."""
    command = [python, __file__, "--child", side, what, str(path)]
    one = {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **one})
    if done.returncode:
        raise SystemExit(f"{side} {what} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def agrees(what: str, ours: list[float], peer: list[float]) -> str:
    """Compare the numbers of both sides."""
    a, b = np.array(ours), np.array(peer)
    if what == "summary":
        return f"{np.max(np.abs(a - b) / np.abs(b)):.0e}"
    return f"se {a[1] / b[1] - 1:+.1%}"


def main() -> None:
    """Print a table of all measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python interpreter that has duckdb, polars, pandas, pyarrow, lifetimes, scipy")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median is reported")
    parser.add_argument("--threads", type=int, default=1, help="of the engines that make the summary")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--log", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.log:
        log_of_transactions(Path(options.log[0]), int(options.log[1]))
        return
    if options.child:
        child(*options.child)
        return
    rows, n = (1_000_000, 100_000) if options.quick else (10_000_000, 100_000)
    sides = {"summary": ("ours", "duckdb", "polars", "pandas", "lifetimes"), "Gini": ("ours", "scipy")}
    goals = {"duckdb": "0.91", "polars": "0.91", "pandas": "memory 2", "lifetimes": "4", "scipy": "30"}
    if not options.peer:
        print("peers not run: give an interpreter that has them with --peer")
        sides = dict.fromkeys(sides, ("ours",))
    with tempfile.TemporaryDirectory() as folder:
        paths = {"summary": Path(folder) / "log.parquet", "Gini": Path(folder) / "values.npy"}
        # in a process of its own: a child's peak memory counts what its parent held when it was started
        subprocess.run([sys.executable, __file__, "--log", str(paths["summary"]), str(rows)], check=True)
        np.save(paths["Gini"], np.random.default_rng(1).lognormal(0, 1, n))
        print("| measure | side | CPU s | ours | ratio | goal | MiB | ours MiB | agrees |")
        print("|---|---|---|---|---|---|---|---|---|")
        for what, names in sides.items():
            # rounds alternate the sides, so that a busy spell of the machine hits all of them
            seen: dict[str, list[dict]] = {s: [] for s in names}
            for _ in range(options.repeats):
                for s in names:
                    seen[s].append(
                        run(sys.executable if s == "ours" else options.peer, s, what, paths[what], options.threads)
                    )
            size = {s: (np.median([r["cpu"] for r in v]), max(r["memory"] for r in v) / 2**20) for s, v in seen.items()}
            label = (
                f"summary of {rows:,} transactions, threads: {options.threads}"
                if what == "summary"
                else f"Gini, {RESAMPLES:,} resamples, n = {n:,}"
            )
            for s in names[1:] or names:
                same = agrees(what, seen["ours"][0]["numbers"], seen[s][0]["numbers"])
                theirs, ours = size[s][0], size["ours"][0]
                cells = f"{theirs:.2f} | {ours:.2f} | {theirs / ours:.2f} | {goals.get(s, '')}"
                print(f"| {label} | {s} | {cells} | {size[s][1]:.0f} | {size['ours'][1]:.0f} | {same} |", flush=True)


if __name__ == "__main__":
    main()
