"""What winning costs: response to spend and its marginal cost, and winning, duration and profit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, NotApplicable
from crmresearch.estimators.blocks import average, checked, equal, unit_of
from crmresearch.estimators.causal.selection import censored_selection, relevance, two_step, two_step_draws
from crmresearch.estimators.frames import inner
from crmresearch.estimators.inference import ends, from_draws, tied_groups
from crmresearch.estimators.spending.winning import MIN_WINS, selection_bound, win_model
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, gate, leading, study
from crmresearch.rules import of_groups, whose
from crmresearch.studies.cost.common import by_lot, further

say = words.of("cost.response")
tell = words.of("cost.jointly")

TOLERATED = 0.10  # correlation of log spend and the unseen ease of winning that a conclusion must bear
MOST = 20_000  # prospects of a joint model; with more, every so many-th block is taken
RELEVANT = 10  # Wald chi-square per excluded column
EXCLUDED = ("spend", "spend_squared")  # assumed not to act on duration or profit (the exclusion restriction)


@study
def response(prospects: pd.DataFrame, *, currency: str = "") -> Result:
    """Response of winning to spend by channel: marginal cost and diminishing returns.

    Parameters
    ----------
    prospects : DataFrame
        One row per prospect: ``block``, ``channel``, ``spend`` (money, at least 0), ``won`` (0/1);
        ``spend_randomised`` (true where the bank set spend by lot), if it says. Further numbers are held fixed.
    currency : str
        For labels.

    Returns
    -------
    Result
        By channel: cost per win, marginal cost (one over the mean derivative of the win probability by spend), second
        derivative. Estimate ``S04`` is the second derivative averaged over all prospects; ``details['slope']`` the mean
        derivative as a functional, ``details['slopes']`` that of each channel.

    Raises
    ------
    InputError
        If columns are missing, spend is negative or currencies are mixed.

    Notes
    -----
    Returns diminish when the interval of the mean second derivative lies below 0; the sign of a squared term alone says
    nothing, since the link bends too. Marginal cost is undefined where the marginal effect's interval includes 0.
    """
    checked(prospects, ("block", "channel", "spend", "won"), ("spend",), "prospects")
    covariates, blocks = further(prospects), unit_of(prospects)
    rows, fitted = [], {}
    for name, part in prospects.groupby("channel", observed=True, sort=True):
        row, fit = _fit_channel(name, part, covariates, blocks)
        rows.append(row)
        if fit:
            fitted[name] = fit | {"part": part}
    table = pd.DataFrame(rows)
    table = leading(table, "channel", "marginal_cost", "marginal_low", "marginal_high", "cost_per_win")
    table = table[[c for c in table.columns if c != "note"] + ["note"]]
    table = safe(table, ("n", "wins"))
    if not fitted:
        raise NotApplicable(say("no_curve"))
    n = sum(len(f["part"]) for f in fitted.values())
    shares = [len(f["part"]) / n for f in fitted.values()]
    slope, second = (average(shares, [f[k] for f in fitted.values()]) for k in ("slope", "second"))
    wald, p = equal([f["slope"] for f in fitted.values()])
    defined = table.dropna(subset=["marginal_cost"]) if "marginal_cost" in table else table.iloc[:0]
    each = ", ".join(say("marginal", row=row) for _, row in defined.iterrows())
    undefined = ", ".join(str(name) for name in fitted if name not in set(defined["channel"]))
    shown = "< 0.001" if p < 0.001 else f"{p:.3f}"
    heterogeneity = "" if len(fitted) < 2 else say("differ" if p < 0.05 else "alike", wald=wald, p=shown)
    returns = "diminish" if second.high < 0 else "grow" if second.low > 0 else "unclear"
    titles, told = say.names("titles"), say.names("returns")
    sentence = words.joined(
        [
            say("costs", each=each, currency=currency).replace(" .", ".") if each else say("no_costs"),
            say("undefined", names=undefined) if undefined else "",
            heterogeneity,
            say("second", second=second, returns=told[returns]),
        ],
        by=" ",
    )
    return Result(
        table,
        sentence,
        checks=(_selection_gate(fitted, shares, covariates, by_lot(prospects), second.value),),
        estimates={"S04": second.estimate(say("unit"), n)},
        picture=_curves(fitted, titles[returns]),
        money=["mean_spend", "cost_per_win", "marginal_cost"],
        digits=4,
        details={
            "slope": slope, "second": second, "blocks": blocks, "fits": {c: f["model"] for c, f in fitted.items()},
            "slopes": {c: f["slope"] for c, f in fitted.items()}, "n": n,
        },
    )  # fmt: skip


def _fit_channel(
    name: Any, part: pd.DataFrame, covariates: tuple[str, ...], blocks: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Row of a channel, and its fit; nothing where no curve can be fitted."""
    wins, total = int(part["won"].sum()), float(part["spend"].sum())
    row: dict[str, Any] = {"channel": name, "n": len(part), "wins": wins, "mean_spend": total / len(part)}
    row |= {"cost_per_win": total / wins if wins else np.inf, "whose": of_groups(part, "block", "spend")}
    if total == 0:
        return row | {"note": say("free")}, {}
    if wins < MIN_WINS:
        return row | {"note": say("few_wins", least=MIN_WINS)}, {}
    if len(part) - wins < MIN_WINS:
        return row | {"note": say("few_losses", least=MIN_WINS)}, {}
    try:
        model = win_model(part, covariates)
    except FitError as error:
        return row | {"note": str(error)}, {}
    slope, second, each = model.derivatives(part, blocks)
    row["negative_slopes"] = float((each < 0).mean())
    if slope.low > 0:
        row |= {"marginal_cost": 1 / slope.value, "marginal_low": 1 / slope.high, "marginal_high": 1 / slope.low}
    row["note"] = "" if slope.low > 0 else say("falls") if slope.high < 0 else say("flat")
    row |= {"second_derivative": second.value, "second_low": second.low, "second_high": second.high}
    return row, {"model": model, "slope": slope, "second": second}


def _selection_gate(
    fitted: dict[Any, Any], shares: list[float], covariates: tuple[str, ...], randomised: bool, second: float
) -> Check:
    if randomised:
        return gate(say, "lot", True)
    values = []
    for c in (-TOLERATED, TOLERATED):
        try:
            each = [selection_bound(f["part"], c, covariates)[1].value for f in fitted.values()]
        except FitError:
            continue
        values.append(sum(w * v for w, v in zip(shares, each, strict=True)))
    span = say("span", low=min(values), high=max(values)) if values else say("no_span")
    return gate(say, "aim", None, tolerated=TOLERATED, span=span, second=second)


def _curves(fitted: dict[Any, Any], title: str) -> Picture:
    """Fitted win probabilities by spend with bands, and the data in ten groups of equal size."""
    lines, points = [], []
    for name, fit in fitted.items():
        part, label = fit["part"], say("label", channel=name, n=len(fit["part"]))
        spend = part["spend"].to_numpy(float)
        grid = inner(spend, 0.01, 80)
        lines.append(fit["model"].curve(grid, part).assign(group=label, n=len(part)))
        tenth = tied_groups(spend, max(1, min(10, len(part) // 20)))
        shown = part.groupby(tenth).agg(x=("spend", "mean"), y=("won", "mean"), n=("won", "size"))
        points.append(shown.assign(group=label))
    options = {"points": pd.concat(points, ignore_index=True), "unit": "percent", "x_unit": "money"}
    data = pd.concat(lines, ignore_index=True)
    return Picture("curves", data, title, say("x"), say("y"), options, (7.6, 4.6))


@study
def jointly(prospects: pd.DataFrame, *, resamples: int = 100, seed: int = 0) -> Result:
    """Winning, duration and profit with selection, by both routes.

    Parameters
    ----------
    prospects : DataFrame
        ``block``, ``won`` (0/1), ``spend``, ``spend_squared``; for the won ``log_months`` (log of months as a
        customer), ``ended`` (0/1), ``profit`` (money per month as a customer); ``spend_randomised`` where the bank
        says. Further numbers stand in all equations.
    resamples, seed : int
        Bootstrap of both steps of the profit equation, over blocks.

    Notes
    -----
    The relevance of spend, which is excluded from duration and profit, is tested (Wald in the probit). That it does not
    act directly cannot be, unless it was set by lot. Of more than 20,000 prospects every so many-th block is taken;
    intervals are those of the sample.
    """
    regressors = further(prospects)
    select, names = (*EXCLUDED, *regressors), ", ".join(EXCLUDED)
    checked(prospects, ("block", "won", *select), what="prospects")
    keep = max(1, -(-len(prospects) // MOST))
    sample = prospects[prospects["block"] % keep == 0] if keep > 1 else prospects
    if sample["won"].sum() < 100 or (sample["won"] == 0).sum() < 100:
        raise NotApplicable(tell("few"))
    if sample["spend"].nunique() < 2:
        raise NotApplicable(tell("alike"))
    wald = relevance(sample, select, EXCLUDED)
    drawn = two_step_draws(sample, select, "profit", regressors, resamples, seed)
    rows = []
    for term, value in two_step(sample, select, "profit", regressors).outcome.items():
        rows.append((tell("profit"), term, value, *from_draws(drawn[str(term)].dropna())[1:]))
    imr = rows[-1]
    fitted = None
    if sample["ended"].fillna(0).sum() >= len(regressors) + 12:
        fitted = censored_selection(sample, select, "log_months", regressors, "ended")
        for term, value in fitted.outcome.items():
            rows.append((tell("months"), term, value, *ends(value, float(fitted.se_outcome[str(term)]))))
        rows.append((tell("months"), "rho", fitted.rho, *fitted.rho_interval))
        for name in EXCLUDED:
            rows.append((tell("winning"), name, fitted.won[name], *ends(fitted.won[name], fitted.se_won[name])))
    table = pd.DataFrame(rows, columns=["equation", "term", "value", "ci_low", "ci_high"]).assign(n=len(sample))
    table["whose"] = whose(sample["profit"].dropna())
    sentence = words.joined(
        [
            (tell("lower") if imr[4] < 0 else tell("higher") if imr[3] > 0 else tell("neither"))
            + tell("imr", value=imr[2], low=imr[3], high=imr[4]),
            tell("rho", fit=fitted) if fitted is not None else "",
            tell("sampled", sample=len(sample), total=len(prospects)) if keep > 1 else "",
        ]
    )
    excluded_gate = gate(tell, "lot", True, names=names)
    if not by_lot(prospects):
        excluded_gate = gate(tell, "exclusion", None, names=names)
    return Result(
        table,
        sentence + words.local("."),
        checks=(gate(tell, "relevance", wald > RELEVANT, wald=wald, needed=RELEVANT), excluded_gate),
        money=["value"],
        digits=4,
    )
