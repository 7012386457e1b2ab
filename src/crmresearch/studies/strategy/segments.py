"""Can customers be put into classes (S43, S43a), and who of them are companies that trade electronically (S27)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.disclosure import safe
from crmresearch.errors import NotApplicable
from crmresearch.estimators.clusters import agreements, assign, centres, one_class, ranked
from crmresearch.estimators.inference import Estimate, Jackknife, held_out_r2, jackknife, mean_interval, wilson
from crmresearch.estimators.inference.resampling import MIN_GROUPS
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.result import Result, gate, study
from crmresearch.rules import few, rules, whose

say = words.of("segments")
BEHAVIOUR = ("payments", "families", "visits")
PAST = ("recency", "frequency", "money")
REFERENCES = 3  # one-class banks drawn for each pair of samples
SMALLEST = 0.02  # share of customers below which a segment is no market
ROOM = 0.2  # between the agreement of one class and a whole one, below which an excess of a tenth cannot be told


def _columns(frame: pd.DataFrame) -> np.ndarray:
    """What customers do, in standardised ranks."""
    found = [c for c in BEHAVIOUR if c in frame and frame[c].min() < frame[c].max()]
    if len(found) < 2:
        raise NotApplicable(say("one_column"), "transactions", "holdings", "service")
    return ranked(frame[found].to_numpy(float))


def _label(frame: pd.DataFrame, segments: int, seed: int) -> np.ndarray:
    """Segment of each customer, numbered by what its customers pay a month, the least first."""
    x = _columns(frame)
    label = assign(x, centres(x, segments, np.random.default_rng(seed)))
    paid = frame["payments"].groupby(label).mean()
    return np.asarray(paid.rank(method="first").reindex(label).astype(int) - 1)


@study
def profile(frame: pd.DataFrame, *, segments: int, seed: int) -> Result:
    """Who the segments are: what their customers do, and what they bring in the year after.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.segments.behaviour`.
    segments : int
        Number of segments.
    seed : int
        Of the starts of k-means.
    """
    label, rows = _label(frame, segments, seed), []
    known = [c for c in BEHAVIOUR if c in frame]
    for k in range(segments):
        own = frame[label == k]
        made = own["contribution"].to_numpy(float)
        ends_ = dict(zip(("later", "low", "high"), mean_interval(made), strict=True)) if len(own) > 1 else {}
        rows.append({"segment": k + 1, **own[known].mean(), **ends_, "share": len(own) / len(frame), "n": len(own),
                     "whose": whose(made)})  # fmt: skip
    table = safe(pd.DataFrame(rows).set_index("segment"))
    told, names = table.dropna(subset="later").sort_values("later"), say.names("columns")
    sentence = say("profiled", n=len(frame), segments=segments)
    apart = len(told) > 1 and told["high"].iloc[0] < told["low"].iloc[-1]
    if apart:  # of two means that may be one, none is the larger
        spread = say("spread", most=told["later"].iloc[-1], least=told["later"].iloc[0])
        sentence = words.joined([sentence, spread], by=" ")
    return Result(table.rename(columns=names), sentence, money=[names[c] for c in ("later", "low", "high")], digits=2)


@study
def gain(frame: pd.DataFrame, *, segments: int, seed: int, resamples: int = 200) -> Result:
    """What segments add to recency, frequency and money in predicting the next year's contribution (S43).

    Least squares on ranks (contribution is heavy-tailed), on customers the fit did not see. Segments are learned from
    behaviour alone, so that they know nothing of what is predicted.

    Parameters
    ----------
    frame, segments, seed
        As for :func:`profile`.
    resamples : int
        Of customers, for the intervals.
    """
    if not frame["contribution"].min() < frame["contribution"].max():
        raise NotApplicable(say("alike"), "monthly")
    label, n = _label(frame, segments, seed), len(frame)
    ranks = (frame[["contribution", *PAST]].rank() - 0.5) / n
    names = say.names("blocks")
    blocks = {names["past"]: ranks[list(PAST)].to_numpy(), names["segments"]: np.eye(segments)[label][:, 1:]}
    table = held_out_r2(ranks["contribution"].to_numpy(), blocks, seed=seed, repetitions=resamples)
    value, se, low, high = (float(table[f"gain{c}"].iloc[-1]) for c in ("", "_se", "_low", "_high"))
    smallest = int(np.bincount(label, minlength=segments).min())
    size = say("fewer", least=rules.least) if few(smallest) else say("part", share=smallest / n)  # a share tells few
    checks = (gate(say, "smallest", smallest >= SMALLEST * n, size=size, least=SMALLEST),)
    found = Estimate(value, low, high, say("ranks"), n, se=se, checks=checks)
    table.loc[table.index[0], ["gain", "gain_se", "gain_low", "gain_high"]] = np.nan
    points = 100 * table.iloc[-1][["gain", "gain_low", "gain_high"]]
    return Result(
        table.drop(columns="gain_se").rename(columns=say.names("columns")).set_index(say.names("columns")["block"]),
        say("gained", points=points, segments=segments, past=table.iloc[0]),
        estimates={"S43": found},
        digits=4,
    )


@study
def stability(frame: pd.DataFrame, *, segments: int, beside: Sequence[int] = (), part: int, seed: int) -> Result:
    """Agreement of segments learned from two samples, in excess of that in a bank of one class (S43a).

    Parameters
    ----------
    frame, segments, seed
        As for :func:`profile`.
    beside : sequence of int
        Numbers of segments that are shown beside.
    part : int
        Customers of each sample.
    """
    x = _columns(frame)
    if len(x) < 2 * part * MIN_GROUPS:
        raise NotApplicable(say("few", needed=2 * part * MIN_GROUPS, part=part), "customers")
    rows, names, estimates = [], say.names("kinds"), {}
    for k in sorted({*beside, segments}):
        rng = np.random.default_rng([seed, k])
        seen = agreements(x, k, part=part, rng=rng)
        alone = np.mean([agreements(one_class(x, rng), k, part=part, rng=rng) for _ in range(REFERENCES)], axis=0)
        parts = {name: _mean(v) for name, v in (("seen", seen), ("alone", alone), ("excess", seen - alone))}
        rows += [(k, names[name], *(m.value, m.low, m.high), len(x)) for name, m in parts.items()]
        if k == segments:
            e, a = parts["excess"], parts["alone"]
            room = gate(say, "room", Deviation(1 - a.value, 1 - a.high, 1 - a.low, limit=ROOM, least=True))
            found = Estimate(e.value, e.low, e.high, say("rand"), len(x), float(e.se), (room,))
            estimates = {"S43a": found}
    table = pd.DataFrame(rows, columns=["segments", "of", "estimate", "ci_low", "ci_high", "n"])
    drawn = table[table["of"] != names["excess"]].rename(columns={"segments": "x", "estimate": "y", "of": "group"})
    drawn = drawn.assign(dashed=drawn["group"] == names["alone"])
    title = say("told", segments=segments) if found.ci_low > 0 else say("untold", segments=segments)
    axes = title, say("number", part=part, pairs=len(x) // (2 * part)), say("rand")
    return Result(
        table.rename(columns=say.names("columns")).set_index([say.names("columns")[c] for c in ("segments", "of")]),
        say("stable", found=found, segments=segments),
        estimates=estimates,
        picture=Picture("curves", drawn, *axes, {"dots": True, "ylim": (None, 1)}),
    )


def _mean(values: np.ndarray) -> Jackknife:
    """Mean of independent values, with Student's interval."""
    total, n = values.sum(), len(values)
    return jackknife(np.r_[total / n, (total - values) / (n - 1)])


@study
def companies(frame: pd.DataFrame) -> Result:
    """Corporate customers, and the share of them with products of electronic commerce, by year (S27).

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.segments.companies`.
    """
    share, low, high = wilson(frame["with_it"], frame["n"])
    table = frame.assign(share=share, ci_low=low, ci_high=high).set_index("year")
    table = safe(table, [("n", "with_it")], parts=False).reset_index()  # years are no parts of a whole
    last = table.iloc[-1]
    if pd.isna(last["share"]):
        raise NotApplicable(say("few_firms"), "customers", "holdings")
    first = table.dropna(subset="share").iloc[0]
    n, se = int(last["n"]), float((last["share"] * (1 - last["share"]) / last["n"]) ** 0.5)
    found = Estimate(float(last["share"]), float(last["ci_low"]), float(last["ci_high"]), say("firms"), n, se=se)
    drawn = table.rename(columns={"year": "x", "share": "y", "ci_low": "low", "ci_high": "high"})
    axes = say("traded_title", first=first, last=last), say("year"), say("firms")
    return Result(
        table.rename(columns=say.names("columns")).set_index(say.names("columns")["year"]),
        say("traded", found=found, n=n, first=first),
        estimates={"S27": found},
        picture=Picture("curves", drawn, *axes, {"unit": "percent", "dots": True, "ylim": (0, None)}),
        counts=[("n", say.names("columns")["with_it"])],
    )
