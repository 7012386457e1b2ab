"""The recovery table, read: what estimators get right, where they fail, and which gates notice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import ends
from crmresearch.figures import Mark, Picture
from crmresearch.lab.recover.harness import OWN
from crmresearch.lab.recover.summary import ANY, COLUMNS, COVERED, SHARE, WIDE, read
from crmresearch.lab.simulated.settings import REFERENCE
from crmresearch.result import Result, study

say = words.of("recover")
SHOWN = 120  # quantities in one figure; more are in the table
STEP = 0.22  # inches per quantity
POWER = 0.8  # least share of banks in which a planted effect is found
VERDICTS = ("pass", "conservative", "short", "biased", "between")

# Why intervals miss where they do, in words: (start of the quantity, estimator or "", world or "" for all).
# A failure without a reason fails a test.
REASONS: tuple[tuple[str, str, str, str], ...] = (
    ("naive", "", "", "naive"),
    ("campaign.targeted.naive", "", "", "naive"),
    ("mean.contribution", "contribution", "heavy_tail", "no_variance"),
    ("mean.contribution", "contribution", "null", "inexact"),
    ("", "concentration", "heavy_tail", "tail_gate"),
    ("", "", "no_overlap", "overlap_gate"),
    ("satisfaction.mean weighted", "response", "mnar_response", "weights"),
    ("satisfaction.mean bounds", "response", "", "bounds"),
    ("S10c", "paths", "null", "two_paths"),
    ("S10d", "paths", "null", "paths"),
    ("S10a", "paths", "null", "unrelated"),
    ("", "concentration", "small", "small"),
    ("", "concentration", "baseline", "long_tail"),
    ("path.SAT_LOY", "latent_paths", "baseline", "answering"),
    ("S04", "response", "", "curvature"),
    ("marginal_cost", "response", "", "reciprocal"),
    ("stated_over_actual", "intention", "null", "unknown"),
    ("stated_over_actual", "intention", "wider", "clipped"),
    ("forecast.level", "forecast", "", "level"),
    ("S54a", "worth", "", "spread"),
    ("S43", "classes", "wider", "beyond"),
    ("r", "mbg_nbd", "", "skewed"),
    ("b", "mbg_nbd", "", "skewed"),
    ("s", "pareto_nbd", "", "flat"),
    ("beta", "pareto_nbd", "", "flat"),
)


def published(path: str | Path | None = None) -> pd.DataFrame | Missing:
    """Return the committed recovery table.

    Parameters
    ----------
    path : path, optional
        The table; by default ``outputs/reference/recovery.csv`` of the checkout (``CRMRESEARCH_RECOVERY`` overrides).

    Returns
    -------
    DataFrame or Missing
        See :func:`crmresearch.lab.recover.summarise`.

    Raises
    ------
    InputError
        If the file lacks columns.
    """
    default = Path(__file__).parents[4] / "outputs" / "reference" / "recovery.csv"
    file = Path(path or os.environ.get("CRMRESEARCH_RECOVERY") or default)
    if not file.is_file():
        return Missing(say("missing.table"), ())
    table = read(file)
    lacking = [c for c in COLUMNS if c not in table]
    if lacking:
        raise InputError(say("missing.columns", file=file.name, lacking=", ".join(lacking)))
    return table


def _chosen(table: pd.DataFrame, world: str | None, study_name: str) -> pd.DataFrame:
    rows = table[table["study"] != "all"]
    if world is not None:
        # models tried on their own process belong to the world without a violation
        rows = rows[rows["world"].isin((world, OWN) if world == "baseline" else (world,))]
    return rows if study_name == "all" else rows[rows["study"] == study_name]


def _none(what: str, table: pd.DataFrame, study_name: str = "all") -> Result:
    """Return the result that says what the table does not hold."""
    names = ", ".join(n for n in table["study"].unique() if n != "all")
    of = "" if study_name == "all" else say("missing.of", study=study_name, names=names)
    return Result.not_applicable(Missing(say("missing.rows", what=what, of=of), ()))


@study
def overview(table: pd.DataFrame) -> Result:
    """Count, by study and world, the quantities whose intervals cover as they should.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.

    Returns
    -------
    Result
        ``study, world, estimators, quantities`` with a truth, how many of them are judged ``pass``, ``conservative``,
        ``short``, ``biased``, ``between``; ``provisional`` ones, ``seeds`` (fewest), ``lowest coverage``.
    """
    rows = _chosen(table, None, "all")
    judged = rows[rows["coverage"].notna()]
    if judged.empty:
        return _none(say("missing.truth"), table)
    grouped = judged.groupby(["study", "world"], sort=True)
    out = grouped.agg(estimators=("estimator", "nunique"), quantities=("quantity", "size"))
    for verdict in VERDICTS:
        out[verdict] = judged["verdict"].eq(verdict).groupby([judged["study"], judged["world"]]).sum()
    out["provisional"] = judged["provisional"].eq("yes").groupby([judged["study"], judged["world"]]).sum()
    out["seeds"], out["lowest_coverage"] = grouped["seeds"].min(), grouped["coverage"].min()
    counts = {v: int((judged["verdict"] == v).sum()) for v in VERDICTS}
    few = int((judged["provisional"] == "yes").sum())
    sentence = say("overview.sentence", n=len(judged), counts=counts, few=few)
    return Result(out.reset_index(), sentence, counts=(), digits=3)


@study
def estimates(table: pd.DataFrame, *, world: str = "baseline", study_name: str = "all") -> Result:
    """Show estimates against the truth, with intervals, in one world.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.
    world : str
        Name of the world.
    study_name : str
        One study, or ``all``.

    Returns
    -------
    Result
        Per quantity: truth, mean, bias in standard deviations, coverage with its 95% interval, ratio of mean standard
        error to the true spread, verdict, and whether it is provisional. The figure has the spread of the estimates
        around the truth on the left and the coverage on the right.
    """
    rows = _chosen(table, world, study_name)
    rows = rows[rows["truth"].notna() & rows["mean"].notna()].reset_index(drop=True)
    if rows.empty:
        return _none(say("missing.truth_in", world=world), table, study_name)
    keep = ["study", "estimator", "quantity", "verdict", "coverage", "coverage_low", "coverage_high", "bias_sd"]
    keep += ["se_ratio", "truth", "truth_error", "mean", "seeds", "provisional", "unit"]
    short, biased, wide = (int((rows["verdict"] == v).sum()) for v in ("short", "biased", "conservative"))
    n, judged = len(rows), int(rows["coverage"].notna().sum())
    worst = rows.loc[rows["coverage"].idxmin()] if judged else rows.iloc[0]
    seeds, studies = rows["seeds"].agg(["min", "max"]), ", ".join(rows["study"].unique())
    titles = say("estimates.title", biased=biased, n=n), say("estimates.coverage", failed=short, n=judged)
    few = int((rows["provisional"] == "yes").sum())
    return Result(
        rows[keep],
        say(
            "estimates.sentence",
            world=world,
            n=n,
            seeds=seeds,
            short=short,
            biased=biased,
            wide=wide,
            few=few,
            worst=worst,
        ),
        picture=_pictures(rows, titles, seeds, say("estimates.x", studies=studies, world=world)),
        counts=(),
    )


def _label(rows: pd.DataFrame) -> pd.Series:
    return rows["quantity"] + " (" + rows["estimator"] + ")"


def _pictures(rows: pd.DataFrame, titles: tuple[str, str], seeds: pd.Series, x: str) -> tuple[Picture, Picture]:
    """Estimates against the truth in spreads of the estimate, and their coverage."""
    spread = rows["true_spread"].where(rows["true_spread"] > 0)
    shift = rows["bias"] / spread
    (outer_low, outer_high), (low, high) = ends(shift, 1.0), ends(shift, rows["bias_error"] / spread)
    left = pd.DataFrame({"label": _label(rows), "estimate": shift, "low": low, "high": high})
    right = left.assign(estimate=rows["coverage"], low=rows["coverage_low"], high=rows["coverage_high"])
    size = (11.0, 1.8 + STEP * len(rows))
    return (
        Picture("intervals", left.assign(outer_low=outer_low, outer_high=outer_high), titles[0], x,
                options={"marks": [Mark(0)]}, size=size, people=False),
        Picture("intervals", right.assign(group=rows["verdict"].where(rows["verdict"] == "short", "pass")),
                titles[1], say("estimates.coverage_x", seeds=seeds),
                options={"unit": "percent", "spans": [(COVERED, WIDE, say("estimates.accepted"))]}, people=False),
    )  # fmt: skip


@study
def decisions(table: pd.DataFrame, *, study_name: str = "all") -> Result:
    """Show how often a line of the register is decided: rightly, and where its bound is the truth.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.
    study_name : str
        One study, or ``all``.

    Returns
    -------
    Result
        Per line and world: its ``bound``, the share of banks that *find* what is true there (the whole interval on the
        truth's side of the bound, gates open) with its one-sided 95% bound, the share decided the other way, and the
        share decided *at the bound* (were the bound the truth, any decision would be false) with its one-sided 95%
        bound. The last rows adjust all primary lines of a bank together, as the ledger does.
    """
    rows = table if study_name == "all" else table[table["study"] == study_name]
    rows = rows[rows["found"].notna() | rows["at_bound"].notna()].reset_index(drop=True)
    if rows.empty:
        return _none(say("missing.rule"), table, study_name)
    primary = ledger.lines()
    line = [say("decisions.primary") if q in primary and primary[q].primary else "" for q in rows["quantity"]]
    keep = ["estimator", "quantity", "world", "bound", "found", "found_low", "wrong", "at_bound", "at_bound_high"]
    shown = rows.assign(primary=line)[
        ["quantity", "primary", *keep[:1], *keep[2:], "gates_open", "seeds", "provisional"]
    ]
    single = rows[rows["study"] != "all"]
    base = single[(single["world"] == REFERENCE) & single["found"].notna()]
    strong = int((base["found"] >= POWER).sum())
    weak = ", ".join(base.loc[base["found"] < POWER, "quantity"])
    parts = [say("decisions.power", world=REFERENCE, strong=strong, n=len(base))] if len(base) else []
    parts += [say("decisions.weak", lines=weak)] if weak else []
    together = rows[rows["study"] == "all"]
    parts += [say("decisions.together", row=row, most=ANY if k % 2 == 0 else SHARE) for k, (_, row) in
              enumerate(together.iterrows())]  # fmt: skip
    sentence = words.joined(parts, by=" ") if parts else say("decisions.none", world=REFERENCE)
    drawn = base.head(SHOWN).reset_index(drop=True)
    kinds = say.names("decisions.groups")
    data = pd.concat(
        [
            drawn.assign(label=_label(drawn), estimate=drawn[share], low=low, high=high, group=kinds[share])
            for share, low, high in (("found", drawn["found_low"], 1.0), ("at_bound", 0.0, drawn["at_bound_high"]))
        ]
    )
    data = data[data["estimate"].notna()].reset_index(drop=True)
    data["group"] = pd.Categorical(data["group"], list(kinds.values()))
    picture = Picture(
        "intervals",
        data,
        say("decisions.title", strong=strong, n=len(base)),
        say("decisions.x"),
        options={"unit": "percent", "marks": [Mark(0.05, style="limit"), Mark(POWER, style="limit")]},
        size=(9.6, 1.6 + STEP * data["label"].nunique()),
        people=False,
    )
    return Result(shown, sentence, picture=picture if len(drawn) else None, counts=())


def _reason(row: Any) -> str:
    reasons = say.names("reasons")
    for quantity, estimator, world, reason in REASONS:
        if str(row.quantity).startswith(quantity) and estimator in ("", row.estimator) and world in ("", row.world):
            return reasons[reason]
    return ""


@study
def failures(table: pd.DataFrame) -> Result:
    """List the quantities whose intervals cover too rarely or that are biased, and why.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.

    Returns
    -------
    Result
        ``study, estimator, world, quantity, verdict, coverage`` with its 95% interval, ``bias_sd``, ``gates_open``,
        ``seeds, provisional, reason`` (empty where nobody knows).
    """
    rows = table[(table["study"] != "all") & table["verdict"].isin(("short", "biased"))]
    if rows.empty:
        return Result(pd.DataFrame(), say("failures.none"), counts=())
    rows = rows.assign(reason=[_reason(r) for r in rows.itertuples()])
    keep = [
        "study",
        "estimator",
        "world",
        "quantity",
        "verdict",
        "coverage",
        "coverage_low",
        "coverage_high",
        "bias_sd",
    ]
    out = rows[[*keep, "gates_open", "seeds", "provisional", "reason"]].reset_index(drop=True)
    unknown = int((out["reason"] == "").sum())
    why = say("failures.some", unknown=unknown) if unknown else say("failures.all")
    sentence = say("failures.sentence", n=len(out), why=why)
    return Result(out, sentence, counts=(), digits=3)


@study
def gates(table: pd.DataFrame, *, study_name: str = "all") -> Result:
    """Show in which worlds gates close.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.
    study_name : str
        One study, or ``all``.

    Returns
    -------
    Result
        Per study and estimator, one column per world: share of banks in which every gate is open (smallest over its
        quantities).
    """
    rows = _chosen(table, None, study_name)
    rows = rows[rows["gates_open"].notna()]
    if rows.empty:
        return _none(say("missing.gate"), table, study_name)
    wide = rows.pivot_table(index=["study", "estimator"], columns="world", values="gates_open", aggfunc="min")
    order = ["baseline", *sorted(c for c in wide.columns if c != "baseline")]
    wide = wide[[c for c in order if c in wide]].reset_index().rename_axis(columns=None)
    parts = []
    healthy = [w for w in ("baseline", REFERENCE) if w in wide]
    for world in healthy:
        good = wide[world].dropna()
        parts.append(say("gates.healthy", world=world, good=int((good >= 0.9).sum()), n=len(good)))
    closed = [w for w in order if w not in (*healthy, "null") and w in wide and (wide[w] < 0.5).any()]
    parts.append(say("gates.closed", worlds=", ".join(closed) or say("gates.none")))
    return Result(wide, words.joined(parts).capitalize() + words.local("."), counts=(), digits=2)
