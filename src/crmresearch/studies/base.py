"""Study 0: what the customer database holds, how complete and fresh it is, and what can be asked of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Check, Result, study


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
    full = int(frame["runs"].eq("in full").sum())
    part = int(frame["runs"].eq("in part").sum())
    sentence = f"Of {len(frame)} studies, {full} can run in full and {part} in part on this bank."
    return Result(frame, sentence, counts=())


@study
def breaches(frame: pd.DataFrame) -> Result:
    """Rows that break a rule of the data contract (S07).

    Parameters
    ----------
    frame : DataFrame
        ``table``, ``rows``, ``rules``, ``breaches``, from :func:`crmresearch.data.reductions.base.contract_breaches`.
    """
    rows, bad = int(frame["rows"].sum()), int(frame["breaches"].sum())
    share = bad / rows if rows else math.nan
    sentence = f"{rows:,} rows in {len(frame)} tables, {int(frame['rules'].sum())} rules checked: {bad:,} breaches."
    return Result(frame, sentence, estimates={"S07": _census(share, "share of rows", rows)}, counts=())


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
    table = pd.DataFrame(
        {
            "measure": [
                "product rows without a customer, share",
                "customers who look like another, share",
                "open products per customer who holds one",
            ],
            "value": [orphans, alike, factor],
            "n": [n, n, holders],
        }
    )
    sentence = (
        f"{orphans:.1%} of product rows point to no customer. Counting open products as customers would overstate the "
        f"customer base by a factor of {factor:.2f}."
    )
    sentence += (
        f" {alike:.2%} of customers share day of acquisition, birth year, city and channel with another; "
        "such pairs are candidates for a manual look, not proof of duplicates."
        if known
        else " The bank records too few traits to look for customers who are entered twice."
    )
    estimates = {"S21": _census(orphans, "share of rows", int(row["holdings"]))}
    gate = Check.of("traits recorded", known, "two traits besides the day of acquisition are needed", "undecided")
    value = alike if known else math.nan
    estimates["S21a"] = Estimate(value, value, value, "share of customers", n, checks=(gate,))
    return Result(table, sentence, estimates=estimates)


@study
def growth(frame: pd.DataFrame, *, observation_start: int) -> Result:
    """Customers by year of acquisition, and how many of them the database saw only after the fact.

    Parameters
    ----------
    frame : DataFrame
        ``year``, ``n``, ``left``, ``before_observation``, from :func:`crmresearch.data.reductions.base.acquired`.
    observation_start : int
        Year in which the observation starts.
    """
    total, early = int(frame["n"].sum()), int(frame["before_observation"].sum())
    share = early / total
    first, last = frame["year"].min(), frame["year"].max()
    sentence = (
        f"{total:,} customers, acquired from {first} to {last}; {share:.0%} of them before the observation starts, "
        "so they enter every risk set late."
        if early
        else f"{total:,} customers, all acquired under observation (from {first} to {last})."
    )

    def draw(ax: Any) -> Any:
        from crmresearch import figures

        stay = frame["n"] - frame["left"]
        ax.bar(frame["year"], stay, color=figures.PALETTE[0], label="still a customer")
        ax.bar(frame["year"], frame["left"], bottom=stay, color=figures.PALETTE[1], label="left")
        ax.axvline(observation_start - 0.5, color=figures.INK, linewidth=1, linestyle="--")
        ax.annotate(
            "observation starts",
            (observation_start - 0.4, 0.97),
            xycoords=("data", "axes fraction"),
            va="top",
            fontsize=8.5,
        )
        ax.set(
            xlabel="year of acquisition", ylabel="customers", title=f"Customers by year of acquisition (n = {total:,})"
        )
        ax.margins(y=0.12)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(loc="upper left", bbox_to_anchor=(0, 0.93))
        return ax

    alt = (
        f"Bars of customers by year of acquisition, {first} to {last}, split into those still there and those who "
        f"left; a dashed line marks the start of observation in {observation_start}."
    )
    return Result(frame.set_index("year"), sentence, draw=draw, alt=alt, counts=("n", "left"))


@study
def standing(tenure: pd.DataFrame) -> Result:
    """Customers there at the observation end, by completed years of tenure.

    Parameters
    ----------
    tenure : DataFrame
        ``from_years``, ``n``, from :func:`crmresearch.data.reductions.base.tenure`.
    """
    width = int(tenure["from_years"].diff().min()) if len(tenure) > 1 else 1
    bands = [f"{a} to under {a + width} years" for a in tenure["from_years"]]
    total = int(tenure["n"].sum())
    table = pd.DataFrame({"tenure": bands, "n": tenure["n"], "share": tenure["n"] / total})
    half = int(tenure["n"].cumsum().searchsorted(total / 2))
    sentence = f"{total:,} customers at the end of the observation; the median tenure lies at {bands[half]}."
    return Result(table, sentence)


@study
def places(tiers: pd.DataFrame) -> Result:
    """The customer base by city tier.

    Parameters
    ----------
    tiers : DataFrame
        ``city_tier``, ``n``, ``left``, from :func:`crmresearch.data.reductions.base.tiers`.
    """
    names = [f"tier {t:.0f}" if pd.notna(t) else "not recorded" for t in tiers["city_tier"]]
    total = int(tiers["n"].sum())
    table = pd.DataFrame({"city": names, "n": tiers["n"], "left": tiers["left"], "share": tiers["n"] / total})
    largest = table.loc[table["n"].idxmax()]
    sentence = f"Most customers, {largest['share']:.0%} of {total:,}, live in a city of {largest['city']}."
    return Result(table, sentence, counts=("n", "left"))


@study
def exit_rates(frame: pd.DataFrame) -> Result:
    """Yearly exit rates by cause, with exact Poisson intervals.

    Parameters
    ----------
    frame : DataFrame
        ``year``, ``cause``, ``exits``, ``exposure``, from :func:`crmresearch.data.reductions.base.exits`.
    """
    from scipy.stats import chi2

    causes = frame.groupby("cause")["exits"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    table = frame.pivot_table(index="year", columns="cause", values="exits", fill_value=0).astype(int)
    exposure = frame.groupby("year")["exposure"].first()
    out = []
    for cause in causes:
        d = table[cause]
        low = chi2.ppf(0.025, 2 * d) / 2 / exposure
        high = chi2.ppf(0.975, 2 * d + 2) / 2 / exposure
        rates = pd.DataFrame(
            {"cause": cause, "n": d, "exposure": exposure, "rate": d / exposure, "ci_low": low, "ci_high": high}
        )
        rates.loc[d.eq(0), "ci_low"] = 0.0
        out.append(rates.reset_index())
    rates = pd.concat(out, ignore_index=True)
    exits, years = int(frame["exits"].sum()), float(exposure.sum())
    lowest, highest = chi2.ppf(0.025, 2 * exits) / 2 / years, chi2.ppf(0.975, 2 * exits + 2) / 2 / years
    overall = f"{exits / years:.1%} a year [{lowest:.1%}, {highest:.1%}]"
    sentence = f"{exits:,} exits in {years:,.0f} observed customer-years, {overall}, over {len(causes)} causes."

    def draw(ax: Any) -> Any:
        from crmresearch import figures

        for color, cause in zip(figures.PALETTE, causes, strict=False):
            one = rates[rates["cause"].eq(cause)]
            label = f"{cause.replace('_', ' ')} (n = {int(one['n'].sum()):,})"
            ax.plot(one["year"], one["rate"], marker="o", color=color, label=label)
            figures.interval_band(ax, one["year"], one["ci_low"], one["ci_high"], color)
        figures.percent_axis(ax, digits=1)
        ax.set(
            xlabel="calendar year", ylabel="exits per customer-year", title="Exit rates by cause, with 95% intervals"
        )
        ax.set_xticks(sorted(rates["year"].unique()))
        ax.set_ylim(bottom=0)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax

    alt = (
        "Lines of yearly exit rates by cause with shaded 95% intervals; "
        f"{causes[0].replace('_', ' ')} exits are the most frequent."
    )
    return Result(rates.set_index(["year", "cause"]), sentence, draw=draw, alt=alt, digits=4)


@study
def completeness(frame: pd.DataFrame) -> Result:
    """Share of customer-months in which the platform saw the customer (S30).

    Parameters
    ----------
    frame : DataFrame
        ``month``, ``n``, ``with_any``, ``with_all``, from :func:`crmresearch.data.reductions.base.coverage`.
    """
    total = int(frame["n"].sum())
    any_share, all_share = frame["with_any"].sum() / total, frame["with_all"].sum() / total
    by_year = frame.groupby(frame["month"].dt.year.rename("year"))[["n", "with_any", "with_all"]].sum().reset_index()
    by_year["any_channel"] = by_year["with_any"] / by_year["n"]
    by_year["every_channel"] = by_year["with_all"] / by_year["n"]
    table = by_year.rename(columns={"n": "customer_months"})[
        ["year", "customer_months", "any_channel", "every_channel"]
    ]
    sentence = (
        f"In {any_share:.0%} of {total:,} customer-months the customer made a transaction, in {all_share:.1%} through "
        "every channel; a month without one is silence, not absence."
    )

    def draw(ax: Any) -> Any:
        from crmresearch import figures

        ax.plot(frame["month"], frame["with_any"] / frame["n"], color=figures.ACCENT)
        figures.percent_axis(ax)
        ax.set(ylim=(0, 1), xlabel="month", ylabel="share of customers")
        ax.set_title(f"Customers with a transaction in the month ({total:,} customer-months)")
        return ax

    alt = (
        f"A line of the monthly share of customers with at least one transaction; it runs between "
        f"{(frame['with_any'] / frame['n']).min():.0%} and {(frame['with_any'] / frame['n']).max():.0%}."
    )
    estimates = {"S30": _census(any_share, "share of customer-months", total)}
    return Result(
        table.set_index("year"), sentence, estimates=estimates, draw=draw, alt=alt, counts=("customer_months",)
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
    wide = table.pivot_table(index="year", columns="channel", values="share", fill_value=0.0)
    first, last = wide.index[0], wide.index[-1]
    top = wide.loc[last].idxmax()
    count = int(mix["transactions"].sum())
    sentence = f"{count:,} transactions; in {last} most, {wide.loc[last, top]:.0%}, came by {top.replace('_', ' ')}."

    def draw(ax: Any) -> Any:
        from crmresearch import figures

        base = np.zeros(len(wide))
        for color, channel in zip(figures.PALETTE, wide.columns, strict=False):
            ax.bar(wide.index, wide[channel], bottom=base, color=color, label=channel.replace("_", " "), width=0.7)
            base += wide[channel].to_numpy()
        figures.percent_axis(ax)
        ax.set(xlabel="calendar year", ylabel="share of transactions", title=f"Channel mix ({count:,} transactions)")
        ax.set_xticks(wide.index)
        ax.grid(visible=False, axis="x")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax

    grown = (wide.loc[last] - wide.loc[first]).idxmax()
    alt = (
        f"Stacked bars of the channel mix from {first} to {last}; {grown.replace('_', ' ')} gains the most, from "
        f"{wide.loc[first, grown]:.0%} to {wide.loc[last, grown]:.0%}."
    )
    return Result(table.set_index(["year", "channel"]), sentence, draw=draw, alt=alt)


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
    share = d["digital"] / total
    square = d["dd"] - 2 * share * d["dt"] + share**2 * d["tt"]  # sum of squared residuals; they add up to zero
    se = math.sqrt(max(square, 0.0) * n / max(n - 1, 1)) / total
    low, high = max(share - 1.959964 * se, 0.0), min(share + 1.959964 * se, 1.0)
    interval = f"{share:.1%} [{low:.1%}, {high:.1%}]"
    sentence = f"In the last year {interval} of {total:,.0f} transactions came through digital channels."
    table = pd.DataFrame({"n": [n], "transactions": [int(total)], "share": [share], "ci_low": [low], "ci_high": [high]})
    estimates = {"S36": Estimate(share, low, high, "share of transactions", n, se=se)}
    return Result(table, sentence, estimates=estimates)


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
    sentence = f"The table furthest behind the end of the observation is {worst}, by {int(behind[worst]):,} days."
    daily: Estimate | Missing = Missing("the bank brings no table transactions", ("transactions",))
    if "transactions" in behind:
        daily = _census(float(behind["transactions"]), "days", len(frame))
    return Result(frame, sentence, estimates={"S34": daily}, counts=())


@study
def information(frame: pd.DataFrame, *, seed: int, repetitions: int = 200) -> Result:
    """How much of next year's contribution this year's tables explain (S26), out of sample.

    Ordinary least squares on ranks (contribution is heavy-tailed), one block of columns after the other; R squared is
    measured on customers the fit did not see (five folds dealt at random), its interval is a percentile bootstrap over
    customers' squared errors.

    Parameters
    ----------
    frame : DataFrame
        One row per customer, from :func:`crmresearch.data.reductions.base.explained`.
    seed : int
        Seed of folds and resamples.
    repetitions : int
        Bootstrap resamples.
    """
    rng = np.random.default_rng(seed)
    n = len(frame)
    ranks = (frame.drop(columns="customer_id").rank() - 0.5) / n
    y = ranks["contribution"].to_numpy()
    blocks = {
        "tenure": ["tenure_years"],
        "+ products held": ["families"],
        "+ transactions": ["transactions"],
        "+ balance and contribution of the year before": ["past_balance", "past_contribution"],
    }
    fold = rng.permutation(n) % 5
    weights = rng.multinomial(n, np.full(n, 1 / n), size=repetitions).astype(np.float32)
    centred = (y - y.mean()) ** 2
    used: list[str] = []
    rows = []
    for name, columns in blocks.items():
        present = [c for c in columns if c in ranks]
        if not present:
            continue
        used += present
        x = np.column_stack([np.ones(n), ranks[used].to_numpy(), ranks[used].to_numpy() ** 2])
        error = np.empty(n)
        for k in range(5):
            beta, *_ = np.linalg.lstsq(x[fold != k], y[fold != k], rcond=None)
            error[fold == k] = (y[fold == k] - x[fold == k] @ beta) ** 2
        draws = 1 - (weights @ error) / (weights @ centred)
        low, high = np.quantile(draws, [0.025, 0.975])
        rows.append((name, n, 1 - error.sum() / centred.sum(), low, high))
    table = pd.DataFrame(rows, columns=["tables used", "n", "r_squared", "ci_low", "ci_high"])
    best = table.iloc[-1]
    sentence = (
        f"On customers the fit did not see, the tables explain {best['r_squared']:.0%} [{best['ci_low']:.0%}, "
        f"{best['ci_high']:.0%}] of the variance of next year's contribution (in ranks)."
    )
    value, low, high = (float(best[c]) for c in ("r_squared", "ci_low", "ci_high"))
    estimate = Estimate(value, low, high, "R squared of ranks", n)
    return Result(table, sentence, estimates={"S26": estimate})
