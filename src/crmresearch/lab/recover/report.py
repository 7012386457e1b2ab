"""The recovery table, read: what estimators get right, where they fail, and which gates notice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing
from crmresearch.lab.recover.harness import OWN
from crmresearch.lab.recover.summary import COLUMNS, NOMINAL, read
from crmresearch.result import Result, study

SHOWN = 120  # quantities in one figure; more are in the table
STEP = 0.22  # inches per quantity

# Why intervals miss where they do: (start of the quantity, estimator or "", world or "" for all) -> reason.
# A failure without a reason fails a test.
REASONS: dict[tuple[str, str, str], str] = {
    ("naive", "", ""): "the naive estimator is shown on purpose; its bias is what the remedy removes",
    ("campaign.targeted.naive", "", ""): "the naive estimator is shown on purpose; its bias is what the remedy removes",
    ("mean.contribution", "contribution", "heavy_tail"): (
        "contribution has no variance there; this plain mean carries no gate, the study's concentration does"
    ),
    ("", "concentration", "heavy_tail"): "contribution has no variance there; the gate on the tail index closes",
    ("", "", "no_overlap"): "comparable customers are missing there; the gate on overlap closes",
    ("satisfaction.mean weighted", "response", "mnar_response"): (
        "response depends on satisfaction itself, which weights from accounts only reduce; the bounds hold"
    ),
    ("satisfaction.mean bounds", "response", ""): (
        "bounds, not an interval: they hold whatever response depends on, and so cover more than 95%"
    ),
    (
        "S10c",
        "paths",
        "null",
    ): "a product of two paths that are both nothing: its interval is too wide, on the safe side",
    ("S10d", "paths", "null"): "a product of paths that are all nothing: its interval is too wide, on the safe side",
    (
        "S10a",
        "paths",
        "null",
    ): "weights of unrelated items are left to chance: the interval is too wide, on the safe side",
    (
        "",
        "concentration",
        "small",
    ): "about a hundred customers; the gates on the tail index and the mean close in most banks",
}


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
        return Missing("no recovery table has been computed yet; make recover writes one", ())
    table = read(file)
    lacking = [c for c in COLUMNS if c not in table]
    if lacking:
        raise InputError(f"recovery table {file.name} lacks {', '.join(lacking)}; write it anew with make recover")
    return table


def _chosen(table: pd.DataFrame, world: str | None, study_name: str) -> pd.DataFrame:
    rows = table[table["study"] != "all"]
    if world is not None:
        # models tried on their own process belong to the world without a violation
        rows = rows[rows["world"].isin((world, OWN) if world == "baseline" else (world,))]
    return rows if study_name == "all" else rows[rows["study"] == study_name]


def _none(what: str) -> Result:
    return Result.not_applicable(Missing(f"the recovery table has no {what}", ()))


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
        ``study, world, estimators, quantities`` with a truth, ``pass``, ``fail``, ``seeds`` (fewest), ``lowest
        coverage``.
    """
    rows = _chosen(table, None, "all")
    judged = rows[rows["coverage"].notna()]
    if judged.empty:
        return _none("quantity with a truth")
    grouped = judged.groupby(["study", "world"], sort=True)
    out = grouped.agg(
        estimators=("estimator", "nunique"),
        quantities=("quantity", "size"),
        passed=("verdict", lambda v: int((v == "pass").sum())),
        failed=("verdict", lambda v: int((v == "fail").sum())),
        seeds=("seeds", "min"),
        lowest_coverage=("coverage", "min"),
    ).reset_index()
    passed, every = int(out["passed"].sum()), int(out["quantities"].sum())
    sentence = (
        f"{passed} of {every} quantities with a known truth are covered as they should be: the 99.9% binomial interval "
        f"of the coverage reaches into [{NOMINAL[0]:.2f}, {NOMINAL[1]:.2f}]. In worlds that break an assumption a "
        "failure is expected, and it is the gate's task to notice."
    )
    return Result(out, sentence, counts=(), digits=3)


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
        Per quantity: truth, mean, bias with Monte-Carlo error, root mean square error, coverage with its 99.9%
        interval, ratio of mean standard error to the true spread, verdict. The figure has the spread of the estimates
        around the truth on the left and the coverage on the right.
    """
    rows = _chosen(table, world, study_name)
    rows = rows[rows["truth"].notna() & rows["mean"].notna()].reset_index(drop=True)
    if rows.empty:
        return _none(f"quantity with a truth in world {world}" + ("" if study_name == "all" else f" for {study_name}"))
    keep = ["study", "estimator", "quantity", "unit", "seeds", "truth", "mean", "bias", "bias_error", "rmse"]
    keep += ["coverage", "coverage_low", "coverage_high", "se_ratio", "verdict"]
    biased = (rows["bias"].abs() > 4 * rows["bias_error"]).sum()
    failed = int((rows["verdict"] == "fail").sum())
    low = rows.loc[rows["coverage"].idxmin()] if rows["coverage"].notna().any() else rows.iloc[0]
    sentence = (
        f"World {world}: {len(rows)} quantities over {int(rows['seeds'].min()):,} to {int(rows['seeds'].max()):,} "
        f"banks; {failed} with a coverage outside the accepted band, {int(biased)} with a mean further from the truth "
        f"than four Monte-Carlo errors. Lowest coverage: {low['coverage']:.3f} ({low['quantity']} by "
        f"{low['estimator']})."
    )

    def draw(ax: Any) -> Any:
        _draw_estimates(ax, rows, f"{studies}, {world}: estimate against truth")
        return ax

    studies = ", ".join(rows["study"].unique())
    alt = (
        f"Left: for {len(rows)} quantities of {studies} in world {world}, mean estimate less truth in units of the "
        "estimates' own spread, with the range that holds 95% of estimates; zero is the truth. Right: coverage of the "
        f"95% intervals with its 99.9% binomial interval; {failed} of {len(rows)} miss the accepted band."
    )
    return Result(rows[keep], sentence, draw=draw, alt=alt, counts=(), figsize=(11.0, 1.8 + STEP * len(rows)), panels=2)


def _draw_estimates(ax: Any, rows: pd.DataFrame, title: str) -> None:
    from crmresearch import figures

    left, right = ax
    y = np.arange(len(rows))[::-1]
    spread = rows["true_spread"].where(rows["true_spread"] > 0)
    shift = (rows["bias"] / spread).to_numpy(float)
    error = (rows["bias_error"] / spread).to_numpy(float)
    bad = (rows["verdict"] == "fail").to_numpy()
    left.hlines(y, shift - 1.96, shift + 1.96, color=figures.GREY, lw=1.2)
    left.hlines(
        y, shift - 1.96 * error, shift + 1.96 * error, color=figures.ACCENT, lw=4, label="mean, Monte-Carlo 95%"
    )
    left.axvline(0, color=figures.INK, lw=1)
    left.set_ylim(-0.7, len(rows) - 0.3)
    right.set_ylim(-0.7, len(rows) - 0.3)
    left.set_yticks(y, rows["quantity"] + " (" + rows["estimator"] + ")", fontsize=8.5)
    left.set_xlabel(
        "estimate less truth, in spreads of the estimate\n(grey: 95% of estimates; blue: mean, Monte-Carlo 95%)"
    )
    left.set_title(title)
    coverage = rows["coverage"].to_numpy(float)
    low, high = rows["coverage_low"].to_numpy(float), rows["coverage_high"].to_numpy(float)
    right.axvspan(*NOMINAL, color=figures.GREY, alpha=0.2, lw=0, label="accepted")
    for group, color, label in ((~bad, figures.ACCENT, "pass"), (bad, figures.PALETTE[1], "fail")):
        if group.any():
            right.hlines(y[group], low[group], high[group], color=color, lw=1.4)
            right.plot(coverage[group], y[group], "o" if label == "pass" else "s", color=color, ms=4, label=label)
    right.set_yticks(y, [f"{int(n):,}" for n in rows["seeds"]], fontsize=8.5)
    right.set_ylabel("banks")
    figures.percent_axis(right, "x")
    right.set_xlabel("coverage of 95% intervals, with its 99.9% interval")
    right.set_title("Coverage")
    right.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=7.5)


@study
def decisions(table: pd.DataFrame, *, study_name: str = "all") -> Result:
    """Show how often a rule is met: by mistake in the null world, rightly elsewhere.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.
    study_name : str
        One study, or ``all``.

    Returns
    -------
    Result
        Per quantity with a decision rule and world: share of banks in which p is at most .05 and every gate open, with
        its 95% interval; and whether that is a false positive or power. The last row adjusts for all rules together.
    """
    rows = table if study_name == "all" else table[table["study"] == study_name]
    rows = rows[rows["rejected"].notna()].reset_index(drop=True)
    if rows.empty:
        return _none("quantity with a decision rule" + ("" if study_name == "all" else f" for {study_name}"))
    keep = ["study", "estimator", "quantity", "world", "seeds", "rejected", "rejected_low", "rejected_high"]
    keep += ["rejected_means", "gates_open"]
    single = rows[(rows["study"] != "all") & rows["world"].isin(("null", "baseline"))]
    null, base = (single[single["rejected_means"] == m] for m in ("false positives", "power"))
    parts = []
    if len(null):
        above = int((null["rejected_low"] > 0.05).sum())
        parts.append(
            f"where there is nothing to find, {above} of {len(null)} rules are met significantly more often than 5%"
        )
    if len(base):
        strong = int((base["rejected"] >= 0.8).sum())
        parts.append(f"{strong} of {len(base)} planted effects are found in at least 80% of banks")
    together = rows[rows["study"] == "all"]
    if len(together):
        r = together.iloc[0]
        parts.append(
            f"with all p-values of a bank adjusted together, anything at all is supported in {r['rejected']:.1%} of "
            f"null banks (one-sided 95% bound {r['rejected_high']:.1%}, at most 7.5% allowed)"
        )
    sentence = "; ".join(parts).capitalize() + "." if parts else "No rule was tried in the null world or in baseline."
    shown = single.head(SHOWN)

    def draw(ax: Any) -> Any:
        return _draw_decisions(ax, shown)

    alt = (
        f"Share of simulated banks in which a rule is met, for {shown['quantity'].nunique()} quantities, with 95% "
        "intervals: squares where there is nothing to find, which should lie at 5% or below, dots for planted effects, "
        "which should lie to the right of 80%."
    )
    size = (8.6, 1.6 + STEP * len(shown.drop_duplicates(["estimator", "quantity"])))
    return Result(rows[keep], sentence, draw=draw if len(shown) else None, alt=alt, counts=(), figsize=size)


def _draw_decisions(ax: Any, rows: pd.DataFrame) -> Any:
    from crmresearch import figures

    names = list(dict.fromkeys(rows["quantity"] + " (" + rows["estimator"] + ")"))
    place = {name: len(names) - 1 - i for i, name in enumerate(names)}
    kinds = (
        ("false positives", "s", figures.PALETTE[1], "nothing to find"),
        ("power", "o", figures.ACCENT, "effect planted"),
    )
    for meaning, marker, color, label in kinds:
        part = rows[rows["rejected_means"] == meaning]
        y = [place[n] for n in part["quantity"] + " (" + part["estimator"] + ")"]
        ax.hlines(y, part["rejected_low"], part["rejected_high"], color=color, lw=1.4)
        ax.plot(part["rejected"], y, marker, color=color, ms=5, label=label)
    for bound in (0.05, 0.8):
        ax.axvline(bound, color=figures.INK, lw=0.9, ls=":")
    ax.set_yticks(range(len(names)), names[::-1], fontsize=7.5)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.7, len(names) - 0.3)
    figures.percent_axis(ax, "x")
    ax.set_xlabel("share of banks in which the rule is met and every gate is open (95% interval)")
    ax.set_title("False positives and power")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return ax


def _reason(row: Any) -> str:
    for (quantity, estimator, world), reason in REASONS.items():
        if str(row.quantity).startswith(quantity) and estimator in ("", row.estimator) and world in ("", row.world):
            return reason
    return ""


@study
def failures(table: pd.DataFrame) -> Result:
    """List the quantities whose intervals do not cover as they should, and why.

    Parameters
    ----------
    table : DataFrame
        From :func:`published`.

    Returns
    -------
    Result
        ``study, estimator, world, quantity, seeds, coverage`` with its 99.9% interval, ``gates_open``, ``reason``
        (empty where nobody knows).
    """
    rows = table[(table["study"] != "all") & (table["verdict"] == "fail")]
    if rows.empty:
        return Result(pd.DataFrame(), "Every quantity with a known truth is covered as it should be.", counts=())
    rows = rows.assign(reason=[_reason(r) for r in rows.itertuples()])
    keep = ["study", "estimator", "world", "quantity", "seeds", "coverage", "coverage_low", "coverage_high"]
    out = rows[[*keep, "gates_open", "reason"]].reset_index(drop=True)
    unknown = int((out["reason"] == "").sum())
    sentence = f"{len(out)} quantities miss the accepted band, " + (
        "each for the reason that stands beside it." if unknown == 0 else f"{unknown} of them for no known reason."
    )
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
        return _none("gate" + ("" if study_name == "all" else f" for {study_name}"))
    wide = rows.pivot_table(index=["study", "estimator"], columns="world", values="gates_open", aggfunc="min")
    order = ["baseline", *sorted(c for c in wide.columns if c != "baseline")]
    wide = wide[[c for c in order if c in wide]].reset_index().rename_axis(columns=None)
    parts = []
    if "baseline" in wide:
        good = wide["baseline"].dropna()
        parts.append(
            f"in baseline {int((good >= 0.9).sum())} of {len(good)} estimators keep their gates open in at least 90%"
        )
    closed = [w for w in order if w not in ("baseline", "null") and w in wide and (wide[w] < 0.5).any()]
    parts.append("worlds in which some gate closes in most banks: " + (", ".join(closed) or "none"))
    return Result(wide, "; ".join(parts).capitalize() + ".", counts=(), digits=2)
