"""Study 0: what the customer database holds, how complete and fresh it is, and what can be asked of it."""

from __future__ import annotations

import datetime
import math

import pandas as pd

from crmresearch import disclosure, words
from crmresearch.disclosure import safe
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.inference import Estimate, ends, held_out_r2, poisson_rate, ratio_delta
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, gate, leading, study
from crmresearch.rules import rounded

say = words.of("base")
BLOCKS = {
    "tenure": ["tenure_years"],
    "products": ["families"],
    "transactions": ["transactions"],
    "past": ["past_balance", "past_contribution"],
}  # of columns, in the order in which they are added


def _census(value: float, unit: str, n: int) -> Estimate:
    """A count over everybody: no sampling interval."""
    return Estimate(value, value, value, unit, n)


@study
def studies(frame: pd.DataFrame) -> Result:
    """Say which studies the bank's tables carry.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.base.usable`.
    """
    full, part = (int(frame["runs"].eq(how).sum()) for how in ("in full", "in part"))
    return Result(frame, say("studies.sentence", n=len(frame), full=full, part=part), counts=())


@study
def breaches(frame: pd.DataFrame) -> Result:
    """Rows that break a rule of the data contract (S07).

    Parameters
    ----------
    frame : DataFrame
        ``table``, ``rows``, ``rules``, ``breaches``, from :func:`crmresearch.data.reductions.base.contract_breaches`.
    """
    rows, rules, bad = (int(frame[c].sum()) for c in ("rows", "rules", "breaches"))
    sentence = say("breaches.sentence", rows=rows, tables=len(frame), rules=rules, bad=bad)
    share = bad / rows if rows else math.nan
    frame = frame.assign(rows=frame["rows"].map(rounded))  # a table of people has a row for each of them
    return Result(frame, sentence, estimates={"S07": _census(share, say("units.rows"), rows)}, counts=())


@study
def linkage(frame: pd.DataFrame) -> Result:
    """One customer, one key: orphans, look-alikes, and what counting products instead of customers would claim (S21).

    Parameters
    ----------
    frame : DataFrame
        One row: ``n``, ``holdings``, ``orphans``, ``holders``, ``open_holdings``, ``look_alike``, from
        :func:`crmresearch.data.reductions.base.keys`.
    """
    row = frame.iloc[0]
    n, holders = int(row["n"]), int(row["holders"])
    orphans = row["orphans"] / row["holdings"] if row["holdings"] else 0.0
    factor = row["open_holdings"] / holders if holders else math.nan
    alike = row["look_alike"] / n if n else math.nan
    known = not math.isnan(alike)
    measures = list(say.names("linkage.measures").values())
    table = pd.DataFrame({"measure": measures, "value": [orphans, alike, factor], "n": [n, n, holders]})
    sentence = say("linkage.sentence", orphans=orphans, factor=factor)
    traits, names = frame.attrs.get("traits", ()), say.names("anonymity.traits")
    told = words.joined([names[t] for t in traits], ", ")
    some = say("linkage.some", alike=alike, traits=told) if 0 < len(traits) < 3 else say("linkage.alike", alike=alike)
    sentence += " " + (some if known else say("linkage.no_traits"))
    recorded = gate(say, "linkage.traits", known)
    estimates = {
        "S21": _census(orphans, say("units.rows"), int(row["holdings"])),
        "S21a": Estimate(alike, alike, alike, say("units.customers"), n, checks=(recorded,)),
    }
    return Result(table, sentence, estimates=estimates)


@study
def growth(frame: pd.DataFrame, *, observation_start: datetime.date) -> Result:
    """Customers by year of acquisition, and how many of them the database saw only after the fact.

    Parameters
    ----------
    frame : DataFrame
        ``year``, ``n``, ``left``, ``before_observation``, from :func:`crmresearch.data.reductions.base.acquired`.
    observation_start : date
        First day of the observation.
    """
    total, early = int(frame["n"].sum()), int(frame["before_observation"].sum())
    frame = safe(frame.set_index("year"), ("n", "left", "before_observation")).reset_index()
    first, last, share = frame["year"].min(), frame["year"].max(), early / total
    sentence, title = say("growth.all", total=total, first=first, last=last), say("growth.title_all", total=total)
    if early:
        sentence = say("growth.early", total=total, first=first, last=last, share=share)
        title = say("growth.title_most") if share > 0.5 else say("growth.title")
    here, gone = say.names("growth.parts").values()
    parts = frame.assign(**{here: frame["n"] - frame["left"], gone: frame["left"]})
    parts = parts.melt("year", [here, gone], "part", "count").rename(columns={"year": "label"})
    axes = title, say("growth.x", total=total), say("growth.y")
    options = {"upright": True, "marks": [Mark(observation_start.year - 0.5, say("growth.mark"), "limit")]}
    picture = Picture("distribution", parts.assign(n=parts["count"]), *axes, options)
    return Result(frame.set_index("year"), sentence, picture=picture)


@study
def standing(tenure: pd.DataFrame) -> Result:
    """Customers there at the observation end, by completed years of tenure.

    Parameters
    ----------
    tenure : DataFrame
        ``from_years``, ``to_years``, ``n``, from :func:`crmresearch.data.reductions.base.tenure`.
    """
    ends = zip(tenure["from_years"], tenure["to_years"], strict=True)
    bands = [say("standing.band", low=low, high=high) for low, high in ends]
    total = int(tenure["n"].sum())
    table = safe(pd.DataFrame({"tenure": bands, "n": tenure["n"], "share": tenure["n"] / total}))
    half = int(tenure["n"].cumsum().searchsorted(total / 2))
    return Result(table, say("standing.sentence", total=total, median=bands[half]))


@study
def places(tiers: pd.DataFrame) -> Result:
    """The customer base by city tier, or by segment of the bank's own.

    Parameters
    ----------
    tiers : DataFrame
        ``city_tier`` or ``segment``, ``n``, ``left``, from :func:`crmresearch.data.reductions.base.tiers`.
    """
    total = int(tiers["n"].sum())
    counts, own = {"n": tiers["n"], "left": tiers["left"], "share": tiers["n"] / total}, "segment" in tiers
    if own:
        table = pd.DataFrame({"segment": tiers["segment"].fillna(say("places.unknown")), **counts})
    else:
        names = [say("places.tier", tier=t) if pd.notna(t) else say("places.unknown") for t in tiers["city_tier"]]
        table = pd.DataFrame({"city": names, **counts})
    table = safe(table, ("n", "left"))
    if table["n"].isna().all():
        raise NotApplicable(say("few", total=total))
    largest = table.loc[table["n"].idxmax()]
    return Result(table, say("places.own" if own else "places.sentence", largest=largest, total=total))


@study
def anonymity(frame: pd.DataFrame) -> Result:
    """How many customers could be told apart by traits that others may know: k-anonymity of what the studies work on.

    Parameters
    ----------
    frame : DataFrame
        ``size``, ``n``, with ``attrs["traits"]``, from :func:`crmresearch.data.reductions.base.alike`.

    References
    ----------
    Sweeney (2002). k-anonymity: a model for protecting privacy. *Int. J. Uncertainty, Fuzziness and Knowledge-Based
    Systems* 10, 557-570.
    """
    total, names = int(frame["n"].sum()), say.names("anonymity.traits")
    edges = {"alone": (1, 1), "few": (2, 4), "some": (5, 9), "many": (10, math.inf)}
    n = [int(frame.loc[frame["size"].between(*ends), "n"].sum()) for ends in edges.values()]
    bands = say.names("anonymity.bands")
    table = pd.DataFrame({"alike": [bands[k] for k in edges], "n": n, "share": [size / total for size in n]})
    table = safe(table, ("n",))
    told = words.joined([names[t] for t in frame.attrs["traits"]], ", ")
    few = sum(n[:3])
    sentence = say("anonymity.sentence", traits=told, total=total, k=str(frame["size"].min()), share=few / total)
    return Result(table, sentence if not disclosure.few(few) else say("anonymity.none", traits=told, total=total))


@study
def exit_rates(frame: pd.DataFrame) -> Result:
    """Yearly exit rates by cause, with exact Poisson intervals.

    Parameters
    ----------
    frame : DataFrame
        ``year``, ``cause``, ``exits``, ``exposure``, from :func:`crmresearch.data.reductions.base.exits`.
    """
    causes = frame.groupby("cause")["exits"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    wide = frame.pivot_table(index="year", columns="cause", values="exits", fill_value=0).astype(int)
    exposure = frame.groupby("year")["exposure"].first()
    rates = pd.concat(
        [pd.DataFrame({"cause": cause, "n": wide[cause], "exposure": exposure}).reset_index() for cause in causes],
        ignore_index=True,
    )
    rates["rate"], rates["ci_low"], rates["ci_high"] = poisson_rate(rates["n"], rates["exposure"])
    rates = leading(rates, "year", "cause", "rate", "ci_low", "ci_high")
    rates = safe(rates.set_index(["year", "cause"])).reset_index()
    exits, years = int(frame["exits"].sum()), float(exposure.sum())
    overall = Estimate(*poisson_rate(exits, years), say("units.rate"), exits)
    sentence = say("exit_rates.sentence", exits=exits, years=years, overall=overall, causes=len(causes))
    plain = {c: c.replace("_", " ") for c in causes}
    told = rates.groupby("cause")["n"].sum()  # of the rows that are told: nought where those of exits are hidden
    named = {c: say("exit_rates.group", cause=plain[c], n=n) if n else plain[c] for c, n in told.items()}
    shown = rates.rename(columns={"year": "x", "rate": "y", "ci_low": "low", "ci_high": "high"})
    latest = rates[rates["year"] == rates["year"].max()].set_index("cause").loc[causes]
    top, title = latest.iloc[0], say("exit_rates.title_open")
    if len(latest) > 1 and (top["ci_low"] > latest["ci_high"].iloc[1:]).all():
        title = say("exit_rates.title", cause=plain[causes[0]], top=top)
    axes = title, say("exit_rates.x"), say("exit_rates.y")
    options = {"unit": "percent", "dots": True, "ylim": (0, None)}
    picture = Picture("curves", shown.assign(group=shown["cause"].map(named)), *axes, options)
    return Result(rates.set_index(["year", "cause"]), sentence, picture=picture, digits=4)


@study
def completeness(frame: pd.DataFrame) -> Result:
    """Share of customer-months in which the platform saw the customer (S30).

    Parameters
    ----------
    frame : DataFrame
        ``month``, ``n``, ``with_any``, ``with_all``, from :func:`crmresearch.data.reductions.base.coverage`.
    """
    if few := disclosure.few(frame["n"].max()):
        raise NotApplicable(few)
    total = int(frame["n"].sum())
    any_share, all_share = frame["with_any"].sum() / total, frame["with_all"].sum() / total
    table = frame.groupby(frame["month"].dt.year.rename("year"))[["n", "with_any", "with_all"]].sum()
    table = table.assign(any_channel=table["with_any"] / table["n"], every_channel=table["with_all"] / table["n"])
    table = table.rename(columns={"n": "customer_months"})[["customer_months", "any_channel", "every_channel"]]
    monthly = safe(frame.set_index("month")[["n", "with_any"]], parts=False)  # no month is told beside its year
    monthly = monthly.assign(y=monthly["with_any"] / monthly["n"]).rename_axis("x").reset_index()
    title = say("completeness.title", low=monthly["y"].min(), high=monthly["y"].max())
    axes = title, say("completeness.x", total=total), say("completeness.y")
    picture = Picture("curves", monthly, *axes, {"unit": "percent", "ylim": (0, 1)})
    return Result(
        table,
        say("completeness.sentence", any_share=any_share, total=total, all_share=all_share),
        estimates={"S30": _census(any_share, say("units.months"), total)},
        picture=picture,
        counts=("customer_months",),
    )


@study
def channel_mix(mix: pd.DataFrame) -> Result:
    """Channel mix of transactions by calendar year.

    Parameters
    ----------
    mix : DataFrame
        ``year``, ``channel``, ``transactions``, ``n``, from :func:`crmresearch.data.reductions.base.channels`.
    """
    table = mix.assign(share=mix["transactions"] / mix.groupby("year")["transactions"].transform("sum"))
    table = safe(table.set_index(["year", "channel"])).reset_index()
    wide = table.pivot_table(index="year", columns="channel", values="share")
    if wide.empty or wide.iloc[-1].isna().all():
        raise NotApplicable(say("few", total=int(mix["n"].max())))
    first, last = wide.index[0], wide.index[-1]
    top, grown = wide.loc[last].idxmax(), (wide.loc[last] - wide.loc[first]).fillna(-1).idxmax()
    count, before, after = int(mix["transactions"].sum()), wide.loc[first, grown], wide.loc[last, grown]
    title = say("channel_mix.title_top", top=top.replace("_", " "), share=wide.loc[last, top])
    if after > before:
        title = say("channel_mix.title", grown=grown.replace("_", " "), before=before, after=after)
    axes = title, say("channel_mix.x", count=count), say("channel_mix.y")
    data = table.assign(part=table["channel"].str.replace("_", " ")).rename(columns={"year": "label"})
    picture = Picture("distribution", data, *axes, {"upright": True})
    return Result(
        table.set_index(["year", "channel"]),
        say("channel_mix.sentence", count=count, last=last, share=wide.loc[last, top], top=top.replace("_", " ")),
        picture=picture,
    )  # fmt: skip


@study
def digital_share(digital: pd.DataFrame) -> Result:
    """Share of digital transactions in the last year of observation (S36).

    The standard error treats the share as a ratio of two sums over customers (linearised), since the transactions of
    one customer are alike.

    Parameters
    ----------
    digital : DataFrame
        From :func:`crmresearch.data.reductions.base.digital`.
    """
    d = digital.iloc[0]
    n, total = int(d["n"]), float(d["total"])
    # sums of squares about zero: at the ratio the residuals add up to zero
    var_n, var_d, cov = (d[c] * n / max(n - 1, 1) for c in ("dd", "tt", "dt"))
    share, se = (float(v) for v in ratio_delta(d["digital"], total, var_n, var_d, cov))
    low, high = ends(share, se)
    estimate = Estimate(share, max(low, 0.0), min(high, 1.0), say("units.transactions"), n, se=se)
    row = {"n": n, "transactions": int(total), "share": share, "ci_low": estimate.ci_low, "ci_high": estimate.ci_high}
    sentence = say("digital_share.sentence", estimate=estimate, total=total)
    return Result(pd.DataFrame([row]), sentence, estimates={"S36": estimate})


@study
def newest(frame: pd.DataFrame) -> Result:
    """How far each table lies behind the end of the observation (S34).

    Parameters
    ----------
    frame : DataFrame
        ``table``, ``newest``, ``days_behind``, from :func:`crmresearch.data.reductions.base.freshness`.
    """
    behind = frame.set_index("table")["days_behind"]
    worst = behind.idxmax()
    daily: Estimate | Missing = Missing(say("newest.no_transactions"), ("transactions",))
    if "transactions" in behind:
        daily = _census(float(behind["transactions"]), "days", len(frame))
    sentence = say("newest.sentence", worst=worst, days=int(behind[worst]))
    return Result(frame, sentence, estimates={"S34": daily}, counts=())


@study
def information(frame: pd.DataFrame, *, seed: int, repetitions: int = 200) -> Result:
    """How much of next year's contribution this year's tables explain (S26), out of sample.

    Ordinary least squares on ranks (contribution is heavy-tailed), one block of columns after the other; see
    :func:`crmresearch.estimators.inference.held_out_r2`.

    Parameters
    ----------
    frame : DataFrame
        One row per customer, from :func:`crmresearch.data.reductions.base.explained`.
    seed : int
        Seed of folds and resamples.
    repetitions : int
        Bootstrap resamples.
    """
    n = len(frame)
    ranks = (frame.drop(columns="customer_id").rank() - 0.5) / n
    names = say.names("information.blocks")
    present = {k: [c for c in columns if c in ranks] for k, columns in BLOCKS.items()}
    blocks = {names[k]: ranks[columns].to_numpy() for k, columns in present.items() if columns}
    table = held_out_r2(ranks["contribution"].to_numpy(), blocks, seed=seed, repetitions=repetitions)
    table = table[["block", "n", "r_squared", "ci_low", "ci_high"]].rename(columns={"block": "tables used"})
    value, low, high = (float(table[c].iloc[-1]) for c in ("r_squared", "ci_low", "ci_high"))
    estimate = Estimate(value, low, high, say("units.ranks"), n)
    return Result(table, say("information.sentence", estimate=estimate), estimates={"S26": estimate})
