"""What waiting does to exits and satisfaction: shocks to branches (S39, S51), and within customers (S39a, S51a)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import Missing, NotApplicable, first_missing
from crmresearch.estimators.blocks import slopes
from crmresearch.estimators.inference import (
    Estimate,
    ends,
    levels,
    natural_spline,
    normal,
    rates,
    robust_ols,
    told_apart,
)
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, study, unlooked

say = words.of("service")
LEAST = 10  # branches with waiting and exits
EXITS = 200  # what the effects of branches and quarters rest on
BUILT = 3  # quarters after the one of conversion in which its effect is still being built up
MINUTES = 10.0  # of waiting, which the lines are about
MOVED = 0.05  # standard deviations of rated quality per ten minutes beyond which waiting is not all that load moves
KNOTS = (0.05, 0.35, 0.65, 0.95)  # of waiting, as shares of answers
LEAST_TOLD = 0.5  # of what moves in waiting that must be no error
SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)


@study
def waiting(frame: pd.DataFrame) -> Result:
    """Exits (S39) and satisfaction (S51) as waiting moves within branches from quarter to quarter.

    Each branch is compared with itself, with others in the same quarter, and with others as long after conversion, so
    that what moves waiting is the load. Rated quality should not move with it where waiting is all that load does. Some
    forty visits tell a branch's mean waiting with an error, which draws slopes to none; they are divided by the share
    of what moves in it that is no error.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.

    References
    ----------
    Fuller (1987), *Measurement Error Models*, 1.2.
    """
    if frame["wait"].isna().all():
        raise NotApplicable(say("no_waiting"), "service")
    cells = frame[(frame["visits"] > 0) & (frame["at_risk"] > 0)]
    cells = cells[cells.groupby("branch")["exits"].transform("sum") > 0]
    if cells["branch"].nunique() < LEAST or cells["exits"].sum() < EXITS:
        raise NotApplicable(say("few_exits", least=LEAST, needed=EXITS), "branches", "service", "customers")
    n = int(cells["exits"].sum())
    rows, answered = [], {}
    for name in ("exits", "between"):
        x = _design(cells, within=name == "exits")
        b, se = rates(x, cells["exits"], cells["at_risk"], [cells["branch"].to_numpy()])
        share = _told_apart(x, cells, cells["at_risk"]) if name == "exits" else 1.0
        value, error = b[0] / share, se[0] / share
        rows.append((name, value, *ends(value, error), n))
        answered[name] = value, error
    for name in ("satisfaction", "quality"):
        told = _told(cells, name)
        if len(told) and (fit := _weighted(_design(told), told, name)) is not None:
            share = _told_apart(_design(told), told, told["answers"])
            answered[name] = value, error = fit[0][0] / share, fit[1][0, 0] ** 0.5 / share
            rows.append((name, value, *ends(value, error), int(told["answers"].sum())))
    checks = (unlooked(say("quality.name")),)
    if "quality" in answered:
        value, se = answered["quality"]
        checks = (gate(say, "quality", Deviation(value, *ends(value, se), limit=MOVED)),)
    value, se = answered["exits"]
    estimates = {"S39": normal(-value, se, say("ratio"), n, log=True, checks=checks)}
    if "satisfaction" in answered:
        estimates["S51"] = normal(*answered["satisfaction"], say("unit"), rows[2][-1], checks=checks)
    table = pd.DataFrame(rows, columns=["row", "effect", "low", "high", "n"])
    plain = float(np.exp(-answered["between"][0]))
    alike = estimates["S39"].ci_low <= plain <= estimates["S39"].ci_high
    return Result(
        table.assign(row=table["row"].map(say.names("rows"))).rename(columns=say.names("columns")),
        say("waited", found=estimates["S39"], branches=float(cells["branch"].nunique()))
        + (say("waited_alike", plain=plain) if alike else say("waited_apart", plain=plain)),
        estimates=estimates,
    )


def _design(cells: pd.DataFrame, within: bool = True) -> np.ndarray:
    """Waiting, quarters, and time since conversion; branches, where waiting within them counts alone."""
    since = (cells["quarter"] - cells["converted"]).clip(-1, BUILT)
    x = [cells["wait"].to_numpy() / MINUTES, np.ones(len(cells)), levels(cells["quarter"])]
    return np.column_stack([*x, *([levels(cells["branch"]), levels(since)] if within else [])])


def _told_apart(x: np.ndarray, cells: pd.DataFrame, weight: pd.Series) -> float:
    """Share of what moves in waiting, all else in the design held, that is no error of its mean.

    A visit alone tells of no error; the mean one of the others stands for it.
    """
    root = np.sqrt(weight.to_numpy(float))
    rest = x[:, 1:] * root[:, None]
    moved = x[:, 0] * root - rest @ np.linalg.lstsq(rest, x[:, 0] * root, rcond=None)[0]
    each = cells["noise"] * cells["visits"]
    noise = (each.fillna(each.mean()) / cells["visits"] / MINUTES**2).to_numpy(float)
    held = 1 - np.linalg.matrix_rank(rest) / len(x)  # of an error, beside branches and quarters
    share = 1 - held * float(weight.to_numpy(float) @ noise) / float(moved @ moved)
    if not share > LEAST_TOLD:
        raise NotApplicable(say("noisy"), "service")
    return share


def _told(cells: pd.DataFrame, name: str) -> pd.DataFrame:
    """Branches that are asked in two quarters or more; none where they, or the answers, are too few."""
    told = cells[cells[name].notna()]
    if told["answers"].sum() < EXITS or (told.groupby("branch").size() > 1).sum() < LEAST:
        return told[:0]
    return told[told.groupby("branch")[name].transform("size") > 1]


def _weighted(x: np.ndarray, told: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Least squares by answers, errors by branch; none where a quarter of a branch is fitted by itself."""
    root = np.sqrt(told["answers"].to_numpy(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        b, v = robust_ols(x * root[:, None], told[name].to_numpy() * root, told["branch"].to_numpy())
    return (b, v) if np.isfinite(v).all() else None


@study
def dose(frame: pd.DataFrame) -> Result:
    """Satisfaction over waiting within branches as a curve: whether the tenth minute costs as much as the thirtieth.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.service.branch_quarters`.
    """
    if frame["wait"].isna().all():
        raise NotApplicable(say("no_waiting"), "service")
    told = _told(frame[frame["visits"] > 0], "satisfaction")
    knots, at = (told["wait"].quantile(shares).to_numpy() for shares in (KNOTS, SHOWN))
    fit = None
    if len(told) and (np.diff(knots) > 0).all():
        x = np.column_stack([natural_spline(told["wait"], knots), _design(told)[:, 1:]])
        fit = _weighted(x, told, "satisfaction")
    if fit is None:
        raise NotApplicable(say("dose.few", least=EXITS), "pulse", "service")
    (b, v), k, n = fit, len(KNOTS) - 1, int(told["answers"].sum())

    def curve(minutes: np.ndarray) -> pd.DataFrame:
        gap = natural_spline(minutes, knots) - natural_spline(at[2:3], knots)
        value, se = gap @ b[:k], np.sqrt(np.einsum("ij,jk,ik->i", gap, v[:k, :k], gap))
        low, high = ends(value, se)
        return pd.DataFrame({"wait": minutes, "effect": value, "low": low, "high": high, "n": n})

    basis = MINUTES * np.diff(natural_spline(at, knots), axis=0) / np.diff(at)[:, None]
    ends_ = (basis[0], basis[-1], basis[-1] - basis[0])  # ten minutes more, at either end, and how far these differ
    first, last, apart = (normal(g @ b[:k], (g @ v[:k, :k] @ g) ** 0.5, say("unit"), n) for g in ends_)
    drawn = curve(np.linspace(at[0], at[-1], 41)).rename(columns={"wait": "x", "effect": "y"})
    marks = [Mark(0, style="none", axis="y")]
    clear, axis = told_apart(first) or told_apart(last), say("dose.x", n=n)
    title = say("dose.title", first=first, last=last) if clear else say("dose.title_open")
    return Result(
        curve(at).rename(columns=say.names("dose.columns")),
        say("dose.sentence", first=first, last=last, apart=apart, low=at[0], high=at[-1]),
        picture=Picture("curves", drawn, title, axis, say("dose.y"), {"marks": marks}),
    )


# --- customers against themselves -------------------------------------------------------------------------------------


@study
def customers(frames: Mapping[str, pd.DataFrame | Missing]) -> Result:
    """Exits (S39a) and satisfaction (S51a) as a customer waits longer than he used to; between customers beside.

    Parameters
    ----------
    frames : mapping of str to DataFrame or Missing
        ``stays`` and ``answers``, from :func:`crmresearch.data.reductions.service.stays_by_waiting` and
        :func:`crmresearch.data.reductions.service.answers_by_waiting`.

    References
    ----------
    Neuhaus and Kalbfleisch (1998), *Biometrics* 54, 638-645, on slopes within and between.
    """
    estimates: dict[str, Estimate | Missing] = {}
    rows = []
    stays, answers = frames["stays"], frames["answers"]
    if isinstance(stays, Missing):
        estimates["S39a"] = stays
    elif (exits := int(stays["exits"].sum())) < EXITS or min(stays[c].nunique() for c in ("more", "usual")) < 2:
        estimates["S39a"] = Missing(say("customers.few", n=exits, least=EXITS), ("service", "customers"))
    else:
        minutes = stays[["more", "usual"]].to_numpy(float) / MINUTES
        x = np.column_stack([minutes, np.ones(len(stays)), levels(stays["quarter"])])
        b, se = rates(x, stays["exits"], stays["n"], [stays["quarter"].to_numpy(), np.arange(len(stays))])
        estimates["S39a"] = normal(-b[0], se[0], say("ratio"), exits, log=True)
        rows += [(name, b[k], *ends(b[k], se[k]), exits) for k, name in enumerate(("exits", "exits_between"))]
    if isinstance(answers, Missing) or not (answers["xx"].sum() > 0):
        lacking = Missing(say("customers.once"), ("pulse", "service"))
        estimates["S51a"] = answers if isinstance(answers, Missing) else lacking
    else:
        n, (within, between) = int(answers["rows"].sum()), slopes(answers)
        within, between = MINUTES * within, MINUTES * between
        estimates["S51a"] = within.estimate(say("unit"), n)
        both = (("satisfaction", within), ("satisfaction_between", between))
        rows += [(name, one.value, one.low, one.high, n) for name, one in both]
    none = first_missing(estimates.values())
    if not rows and none is not None:
        return Result.not_applicable(none)
    table = pd.DataFrame(rows, columns=["row", "effect", "low", "high", "n"])
    stay, like = (estimates[line] for line in ("S39a", "S51a"))
    told = [say("customers.exits", found=stay) if isinstance(stay, Estimate) else ""]
    told += [say("customers.answers", found=like) if isinstance(like, Estimate) else ""]
    return Result(
        table.assign(row=table["row"].map(say.names("customers.rows"))).rename(columns=say.names("columns")),
        words.joined(told, by=" "),
        estimates=estimates,
    )
