"""What keeping costs: exits prevented by a randomised and by a targeted campaign, and money per customer saved.

"Saved" is always a difference between offered customers and comparable ones without the offer; customers who were
offered something and stayed are not thereby saved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.causal.aipw import MIN_ARM, aipw, tipping
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

Array = NDArray[np.float64]

EDGE = 0.05  # estimated chance of an offer below which, or above one less which, few comparable customers exist
MOST_AT_EDGE = 0.10  # share of customers there that closes the overlap gate
MIN_LEFT = 10  # exits an arm needs

NEEDED = ("block", "campaign_id", "treated", "randomised", "cost", "left", "months")


def covariates_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Columns named ``x_...``: what is known of a customer before the contact."""
    return tuple(c for c in frame.columns if c.startswith("x_"))


def _checked(campaigns: pd.DataFrame) -> None:
    r.checked(campaigns, NEEDED, ("cost", "months"), "campaigns")


def sampling(campaigns: pd.DataFrame) -> str:
    """Say that only part of the customers was studied; nothing where all were."""
    one_in = int(campaigns["one_in"].iloc[0]) if "one_in" in campaigns and len(campaigns) else 1
    if one_in == 1:
        return ""
    return f" One customer in {one_in} was studied, drawn by hash; intervals are those of that sample."


def _horizon(rows: pd.DataFrame, horizon_months: int) -> tuple[Array, Array]:
    """Exit within the horizon, and years stayed in it."""
    months = rows["months"].to_numpy(float)
    left = rows["left"].to_numpy(bool) & (months <= horizon_months)
    return left.astype(float), np.minimum(months, horizon_months) / 12


def difference_by_block(frame: pd.DataFrame, value: Array, blocks: int) -> r.Functional:
    """Mean of the offered less mean of the others, within campaigns, averaged by campaign size."""
    block, t = frame["block"].to_numpy(np.intp), frame["treated"].to_numpy(bool)
    campaign = pd.factorize(frame["campaign_id"], sort=True)[0]
    total, influence = 0.0, np.zeros(blocks)
    for c in range(campaign.max() + 1):
        weight = float((campaign == c).mean())
        for arm, sign in ((True, 1.0), (False, -1.0)):
            own = (campaign == c) & (t == arm)
            mean = value[own].mean()
            total += sign * weight * mean
            influence += sign * weight * np.bincount(block[own], (value[own] - mean) / own.sum(), minlength=blocks)
    return r.Functional(total, influence)


def two_armed(campaigns: pd.DataFrame) -> pd.DataFrame | Missing:
    """Randomised campaigns with one offer and a control; those with several offers if there are no others."""
    drawn = campaigns[campaigns["randomised"].to_numpy(bool)]
    arms = drawn.groupby("campaign_id", observed=True)["treated"].agg(["min", "max"])
    both = arms.index[(arms["min"] == 0) & (arms["max"] == 1)]
    drawn = drawn[drawn["campaign_id"].isin(both)]
    if drawn.empty:
        return Missing("no retention campaign was randomised with a control group", ("contacts",))
    if "arm" in drawn:
        levels = drawn.groupby("campaign_id", observed=True)["arm"].nunique()
        simple = levels.index[levels == 2]
        if len(simple):
            drawn = drawn[drawn["campaign_id"].isin(simple)]
    smallest = int(drawn.groupby(["campaign_id", "treated"], observed=True).size().min())
    if smallest < MIN_ARM:
        return Missing(
            f"an arm of the randomised campaign has {smallest} customers; {MIN_ARM} are needed", ("contacts",)
        )
    return drawn


@study
def saved(campaigns: pd.DataFrame, *, horizon_months: int = 12, currency: str = "") -> Result:
    """Exits prevented by randomised offers, and what a customer and a customer-year saved cost (intention to treat).

    Parameters
    ----------
    campaigns : DataFrame
        One row per eligible customer and campaign: ``block``, ``campaign_id``, ``arm``, ``treated`` (0/1),
        ``randomised``, ``cost`` (money, of the campaign), ``left`` (whether the customer left while followed),
        ``months`` (until leaving or the end of follow-up, at least the horizon for those who stayed); ``responded``
        (0/1) if recorded.
    horizon_months : int
        Months after the contact.
    currency : str
        For labels.

    Returns
    -------
    Result
        Estimate ``S42``: exit incidence at the horizon, offered less control. ``details``: ``kept``, ``years``
        (customer-years per head), ``spend`` (money per head), all offered less control.

    Raises
    ------
    InputError
        If columns are missing, costs are negative, or follow-up is shorter than the horizon.

    Notes
    -----
    Money per customer saved is spend over exits prevented, with Fieller's set. The complier effect divides by the share
    who took the offer up; it needs the offer to do nothing to those who did not. Deferral: the share of the effect
    at the horizon still there at twice the horizon.
    """
    _checked(campaigns)
    rows = two_armed(campaigns)
    if isinstance(rows, Missing):
        return Result.not_applicable(rows)
    short = ~rows["left"].to_numpy(bool) & (rows["months"].to_numpy(float) < horizon_months - 1e-9)
    if short.any():
        raise InputError(
            f"campaigns: {int(short.sum())} customers who stayed were followed for less than {horizon_months} months; "
            "shorten the horizon or leave the campaign out"
        )
    blocks = r.unit_of(campaigns)
    left, years = _horizon(rows, horizon_months)
    t = rows["treated"].to_numpy(bool)
    n = len(rows)
    exits = difference_by_block(rows, left, blocks)
    stay = difference_by_block(rows, years, blocks)
    spend = difference_by_block(rows, rows["cost"].to_numpy(float), blocks)
    kept = r.Functional(-exits.value, -exits.influence)
    low, high = exits.interval()
    p = one_sided_p(exits.value, exits.se, 0.0, "below")
    estimate = Estimate(exits.value, low, high, "share of customers", n, p_value=p, se=exits.se)
    table_rows = [
        _row("exit incidence, offered", float(left[t].mean()), *_share_interval(left[t]), n),
        _row("exit incidence, control", float(left[~t].mean()), *_share_interval(left[~t]), n),
        _row("difference (intention to treat)", exits.value, low, high, n),
        _row("customer-years gained per 100 offers", 100 * stay.value, *_hundred(stay), n),
        _row("spend per offer", spend.value, *spend.interval(), n),
        _money("spend per customer saved", spend, kept, n),
        _money("spend per customer-year saved within the horizon", spend, stay, n),
    ]
    if "responded" in rows and rows["responded"].notna().any() and rows.loc[t, "responded"].astype(float).sum() > 0:
        took = difference_by_block(rows, rows["responded"].fillna(0).to_numpy(float), blocks)
        found = _money("complier effect on exit incidence", exits, took, n)
        table_rows += [_row("share who took the offer up", took.value, *took.interval(), n), found]
    path = _path(rows, horizon_months)
    late = path[path["month"] == 2 * horizon_months]
    deferral = ""
    if len(late):
        remain = float(late["kept"].iloc[0])
        deferral = f" At {2 * horizon_months} months {remain:.2%} more are still there: " + (
            "exits were prevented."
            if float(late["low"].iloc[0]) > 0
            else "whether exits were prevented or deferred is open."
        )
    events = int(min(left[t].sum(), left[~t].sum()))
    each = table_rows[5]
    sentence = (
        f"Of those offered, {left[t].mean():.2%} left within {horizon_months} months, of the control group "
        f"{left[~t].mean():.2%}: a difference of {100 * exits.value:.2f} [{100 * low:.2f}, {100 * high:.2f}] points. "
        f"One customer saved costs {each['value']:,.0f} {each['set']} {currency}.".replace(" .", ".")
        + deferral
        + sampling(campaigns)
    )
    return Result(
        pd.DataFrame(table_rows),
        sentence,
        checks=(
            Check.of("exits per arm", events >= MIN_LEFT, f"{events} in one arm, {MIN_LEFT} needed", "undecided"),
            _balance(rows),
        ),
        estimates={"S42": estimate},
        draw=lambda ax: draw_path(ax, path, n, horizon_months),
        alt=f"Line with 95% band: customers still there, offered less control, by months since the contact. {sentence}",
        details={
            "kept": kept, "years": stay, "spend": spend, "blocks": blocks, "path": path,
            "horizon_months": horizon_months,
        },
    )  # fmt: skip


def _row(name: str, value: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {
        "quantity": name,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "set": f"[{low:,.4g}, {high:,.4g}]",
        "n": n,
    }


def _hundred(f: r.Functional) -> tuple[float, float]:
    low, high = f.interval()
    return 100 * low, 100 * high


def _money(name: str, num: r.Functional, den: r.Functional, n: int) -> dict[str, Any]:
    found = r.ratio_set(num, den)
    bounded = found.kind == "bounded"
    ends = (found.low, found.high) if bounded else (-np.inf, np.inf)
    return _row(name, num.value / den.value if den.value else np.nan, *ends, n) | {"set": found.text()}


def _share_interval(y: Array) -> tuple[float, float]:
    """Wilson's interval of a share."""
    p, n, z = y.mean(), len(y), 1.959964
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))


def _balance(rows: pd.DataFrame) -> Check:
    """Standardised differences of what was known before a random draw: they should be small."""
    t = rows["treated"].to_numpy(bool)
    worst, name = 0.0, "nothing recorded"
    for c in covariates_of(rows):
        value = rows[c].to_numpy(float)
        spread = value.std()
        if spread > 0 and (gap := abs(value[t].mean() - value[~t].mean()) / spread) > worst:
            worst, name = gap, c.removeprefix("x_").replace("_", " ")
    limit = max(0.1, 4 * np.sqrt(1 / t.sum() + 1 / (~t).sum()))
    return Check.of(
        "arms alike before the offer",
        worst < limit,
        f"largest standardised difference {worst:.3f} ({name}), limit {limit:.2f}",
    )


def _path(rows: pd.DataFrame, horizon_months: int) -> pd.DataFrame:
    """Difference in the share still there by month, as far as everybody is followed, at most twice the horizon."""
    months, left, t = (rows[c].to_numpy() for c in ("months", "left", "treated"))
    left, t = left.astype(bool), t.astype(bool)
    followed = months[~left].min() if (~left).any() else horizon_months
    out = []
    for month in range(1, int(min(followed + 1e-9, 2 * horizon_months)) + 1):
        stays = ~(left & (months <= month))
        a, b = stays[t].mean(), stays[~t].mean()
        half = 1.959964 * np.sqrt(a * (1 - a) / t.sum() + b * (1 - b) / (~t).sum())
        out.append((month, a - b, a - b - half, a - b + half))
    return pd.DataFrame(out, columns=["month", "kept", "low", "high"])


def draw_path(ax: Any, path: pd.DataFrame, n: int, horizon: int) -> Any:
    """Draw what an offer keeps, month by month."""
    from crmresearch import figures

    ax.plot(path["month"], path["kept"], color=figures.ACCENT, label=f"offered less control, n = {n:,}, 95% band")
    figures.interval_band(ax, path["month"], path["low"], path["high"])
    ax.axhline(0, color=figures.INK, lw=1)
    ax.axvline(horizon, color=figures.GREY, ls=":", lw=1)
    figures.percent_axis(ax, digits=1)
    ax.set_xlabel("months since the contact")
    ax.set_ylabel("difference in share still there")
    ax.set_title("Prevented or only deferred: customers kept by the offer")
    ax.legend(loc="upper left")
    return ax


@study
def targeted(campaigns: pd.DataFrame, *, horizon_months: int = 12, currency: str = "") -> Result:
    """Effect of a campaign that was aimed, not drawn: weighting and doubly robust, with overlap gate and sensitivity.

    Parameters
    ----------
    campaigns : DataFrame
        As for :func:`saved`, with the customers who could have been contacted and were not, and columns ``x_...`` known
        before the contact.
    horizon_months : int
        Months after the contact.
    currency : str
        For labels.

    Returns
    -------
    Result
        Exit incidence, offered less comparable others: plain difference, weighting, regression, doubly robust. Its
        verdict can only be read with the declared assumption that nothing unseen steered the offers.

    Raises
    ------
    InputError
        If columns are missing.
    """
    _checked(campaigns)
    rows = campaigns[~campaigns["randomised"].to_numpy(bool)]
    names = covariates_of(campaigns)
    if rows.empty or rows["treated"].nunique() < 2:
        return Result.not_applicable(Missing("no targeted campaign with customers it left out", ("contacts",)))
    if not names:
        return Result.not_applicable(
            Missing("nothing is known about customers before the targeted campaign", ("customers",))
        )
    if rows["treated"].value_counts().min() < MIN_ARM:
        return Result.not_applicable(Missing(f"the targeted campaign has fewer than {MIN_ARM} customers on one side"))
    blocks = r.unit_of(campaigns)
    left, years = _horizon(rows, horizon_months)
    fit, stay = aipw(rows, left, names, blocks), aipw(rows, years, names, blocks)
    t, n = rows["treated"].to_numpy(float), len(rows)
    kept = r.Functional(-fit.effect_treated.value, -fit.effect_treated.influence)
    spend = r.constant(float(rows["cost"].to_numpy(float)[t == 1].mean()), blocks)
    naive = difference_by_block(rows.assign(campaign_id=0), left, blocks)
    low, high = fit.effect.interval()
    table = pd.DataFrame(
        [
            _row("plain difference (targeting ignored)", fit.naive, *naive.interval(), n),
            _row("weighting", fit.weighted.value, *fit.weighted.interval(), n),
            _row("regression", fit.regressed.value, *fit.regressed.interval(), n),
            _row("doubly robust, all eligible", fit.effect.value, low, high, n),
            _row("doubly robust, those offered", fit.effect_treated.value, *fit.effect_treated.interval(), n),
            _money("spend per customer saved, those offered", spend, kept, n),
            _row("customer-years gained per 100 offers", 100 * stay.effect_treated.value,
                 *_hundred(stay.effect_treated), n),
        ]
    ).drop(columns="set")  # fmt: skip
    calmed, words = _calmed(rows, horizon_months)
    table = pd.concat([table, calmed], ignore_index=True)
    edge = float(((fit.propensity < EDGE) | (fit.propensity > 1 - EDGE)).mean())
    half = fit.effect.se * 1.645
    tip = tipping(t, left, fit.propensity, half, np.sign(fit.effect.value))
    overlap = Check.of(
        "overlap",
        edge <= MOST_AT_EDGE,
        f"{edge:.1%} of customers had an estimated chance of an offer below {EDGE:.0%} or above {1 - EDGE:.0%}; "
        f"at most {MOST_AT_EDGE:.0%} are allowed",
    )
    unseen = Check(
        "nothing unseen steered the offers",
        "declared",
        "no table shows it; the effect keeps its sign unless something unseen changes the odds of an offer by "
        f"a factor of {tip:.2f}",
        "undecided",
    )
    estimate = Estimate(
        fit.effect.value, low, high, "share of customers", n,
        p_value=one_sided_p(fit.effect.value, fit.effect.se, 0.0, "below"), se=fit.effect.se,
    )  # fmt: skip
    sentence = (
        f"Between customers who got the targeted offer and others, exit incidence differs by {100 * fit.naive:+.2f} "
        f"points; between like customers by {100 * fit.effect.value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] points"
        + (". " if overlap.status == "open" else ", but comparable customers are missing: not to be relied on. ")
        + words
    ).rstrip() + sampling(campaigns)
    return Result(
        table,
        sentence,
        checks=(overlap, unseen),
        estimates={"targeted": estimate},
        draw=lambda ax: draw_targeted(ax, table, t, fit.propensity),
        alt="Two histograms of the estimated chance of a targeted offer, for customers who got it and who did not. "
        + sentence,
        digits=4,
        details={"fit": fit, "kept": kept, "spend": spend, "tipping": tip, "edge": edge, "blocks": blocks},
    )


def _calmed(rows: pd.DataFrame, horizon_months: int) -> tuple[pd.DataFrame, str]:
    """Regression to the mean: how many of those who complained and got no offer complain again a horizon later."""
    if not {"x_complaint", "complaint_after"} <= set(rows.columns):
        return pd.DataFrame(), ""
    there = rows["months"].to_numpy(float) >= horizon_months
    before = rows["x_complaint"].to_numpy(float) > 0
    out, shares = [], {}
    for arm, name in ((1, "offered"), (0, "not offered")):
        own = there & before & (rows["treated"].to_numpy() == arm)
        if own.sum() < MIN_LEFT:
            return pd.DataFrame(), ""
        again = rows["complaint_after"].to_numpy(float)[own]
        shares[name] = again.mean()
        words = f"of those who complained before, again {horizon_months} months later: {name}"
        out.append(_row(words, float(again.mean()), *_share_interval(again), int(own.sum())))
    said = (
        f"Of customers who had complained and got no offer, {shares['not offered']:.1%} complained again at "
        "the end: a "
        "comparison of before and after would have called the rest a success."
    )
    return pd.DataFrame(out).drop(columns="set"), said


def draw_targeted(ax: Any, table: pd.DataFrame, treated: Array, propensity: Array) -> Any:
    """Draw the overlap of offered and other customers."""
    from crmresearch import figures

    bins = np.linspace(0, 1, 26)
    for arm, name, colour in ((1, "offered", figures.PALETTE[1]), (0, "not offered", figures.PALETTE[0])):
        own = propensity[treated == arm]
        ax.hist(
            own,
            bins,
            weights=np.full(len(own), 1 / len(own)),
            alpha=0.55,
            color=colour,
            label=f"{name}, n = {len(own):,}",
        )
    for edge in (EDGE, 1 - EDGE):
        ax.axvline(edge, color=figures.INK, ls="--", lw=1)
    figures.percent_axis(ax, digits=1)
    ax.set_xlabel("estimated chance of an offer (dashed: limits of overlap)")
    ax.set_ylabel("share of the group's customers")
    ax.set_title("Were there comparable customers?")
    ax.legend()
    return ax
