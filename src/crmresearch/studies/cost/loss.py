"""What losing a customer costs, what a point of retention is worth, and what "85% more profit" needs to be true."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate, one_sided_p
from crmresearch.result import Check, Result, study
from crmresearch.studies.cost import ratio as r

Timing = Literal["at once", "residual", "end of period"]


def _rates(retention: Any, discount: float) -> Any:
    rate = np.asarray(retention, float)
    if not (np.all((rate >= 0) & (rate <= 1)) and discount >= 0 and np.all(1 + discount - rate > 0)):
        raise InputError(
            f"customer value needs a retention rate from 0 to 1 and 1 + discount above it, not {retention} and "
            f"{discount:g}"
        )
    return rate


def customer_value(margin: float, retention: Any, discount: float, timing: Timing = "at once") -> Any:
    """Value of a customer with a constant margin and retention rate.

    Parameters
    ----------
    margin : float
        Contribution per period.
    retention : float or array
        Share retained per period.
    discount : float
        Discount rate per period.
    timing : {'at once', 'residual', 'end of period'}
        ``at once``: m (1+d) / (1+d-r), the first margin is certain; the ceiling of what winning may cost. ``residual``:
        m r / (1+d-r), the next margin comes if the customer stays. ``end of period``: m / (1+d-r), the first
        margin is certain and comes after one period.

    References
    ----------
    Fader, Hardie (2012). Reconciling and clarifying CLV formulas. Note, brucehardie.com.
    """
    rate = _rates(retention, discount)
    first = {"at once": 1 + discount, "residual": rate, "end of period": 1.0}
    if timing not in first:
        raise InputError(f"timing = {timing!r}: choose one of {', '.join(first)}")
    out = margin * first[timing] / (1 + discount - rate)
    return float(out) if np.ndim(out) == 0 else out


def elasticities(margin: float, retention: float, discount: float, acquisition_cost: float = 0.0) -> pd.Series:
    """Percent change of a won customer's value, net of the cost of winning, for a 1% improvement.

    Parameters
    ----------
    margin, retention, discount : float
        Per period; the next margin comes if the customer stays (``residual``).
    acquisition_cost : float
        Cost per win, same money.

    Returns
    -------
    Series
        ``retention``, ``margin``, ``discount_rate``, ``acquisition_cost`` (each improvement raises value: costs and
        discount rate fall).

    Notes
    -----
    Without acquisition cost the retention elasticity is (1+i) / (1+i-r). The cost of the extra retention is not in it.

    References
    ----------
    Gupta, Lehmann, Stuart (2004). Valuing customers. *J. Marketing Research* 41, 7-18.
    """
    gross = customer_value(margin, retention, discount, "residual")
    net = gross - acquisition_cost
    if not net > 0:
        raise InputError(f"value net of acquisition cost is {net:,.2f}; an elasticity needs it above zero")
    rest = 1 + discount - retention
    return pd.Series(
        {
            "retention": gross / net * (1 + discount) / rest,
            "margin": gross / net,
            "discount_rate": gross / net * discount / rest,
            "acquisition_cost": acquisition_cost / net,
        }
    )


def five_points(retention: float | Result, discount: float, points: float = 0.05) -> Result:
    """Test the sentence "five points more retention give 85% more profit" in the constant-margin model.

    Parameters
    ----------
    retention : float or Result
        Present share retained a year, or what :func:`retention_point` returned.
    discount : float
        Annual discount rate.
    points : float
        Rise of the retention rate.

    Raises
    ------
    InputError
        If the rate would pass 1.

    References
    ----------
    Reichheld, Sasser (1990). Zero defections. *Harvard Business Review* 68(5), 105-111.
    """
    ends: tuple[float, ...] = ()
    if isinstance(retention, Result):
        if retention.missing is not None:
            return retention
        ends, retention = retention.details["retention_interval"], float(retention.details["retention"])
    if not 0 < retention + points <= 1:
        raise InputError(f"{points:.0%} points on a retention rate of {retention:.1%} pass 100%")
    # every gain rises with the rate, so that the ends of its interval are those of the gain; a given rate has none
    at = np.minimum([retention, *ends], 1 - points)
    models: list[tuple[str, bool, Any]] = []
    for timing, words in (("at once", "first payment counted"), ("residual", "first payment not counted")):
        before, after = (customer_value(1, rate, discount, timing) for rate in (at, at + points))  # type: ignore[arg-type]
        models.append((words, True, after / before - 1))
    if at.max() + points < 1:
        models.append(("expected lifetime", False, (1 - at) / (1 - at - points) - 1))
    table = pd.DataFrame(
        [
            {"model": words, "discounted": paid, **dict(zip(("gain", "ci_low", "ci_high"), gain, strict=False))}
            for words, paid, gain in models
        ]
    )
    gains = table.loc[table["discounted"], "gain"]
    low, high = gains.min(), gains.max()
    sentence = (
        f"From a retention rate of {retention:.1%}, {points * 100:.0f} points more raise the value of a customer by "
        f"{low:.0%} to {high:.0%}, depending on whether the first payment counts, and before the cost of those "
        "points. The "
        f"quoted 85% {'lies in' if low <= 0.85 <= high else 'is not in'} that range"
        + (f"; without discounting, expected lifetime rises by {table['gain'].iloc[2]:.0%}." if len(table) > 2 else ".")
    )
    return Result(table, sentence, counts=(), details={"retention": retention})


@study
def replacement(
    acquisition: pd.DataFrame,
    tenure: pd.DataFrame,
    *,
    ramp_months: int = 24,
    horizon_months: int = 60,
    discount_annual: float = 0.08,
    currency: str = "",
) -> Result:
    """Cost of replacing a lost customer: acquisition + ramp-up loss - saved service cost, survival-weighted.

    Parameters
    ----------
    acquisition : DataFrame
        ``block``, ``n``, ``spend``, ``won``.
    tenure : DataFrame
        One row per block and tenure month: ``block``, ``tenure_month``, ``months``, ``exits``, ``revenue``
        (interest and fees less risk cost) and ``service_cost``, money.
    ramp_months : int
        Tenure from which a customer counts as established.
    horizon_months : int
        Months of tenure over which the new customer is compared with an established one.
    discount_annual : float
        Annual discount rate.
    currency : str
        For the sentence.

    Returns
    -------
    Result
        The three parts and their sum, estimate ``S41``.

    Notes
    -----
    Ramp-up loss is sum_k v^k S_k (revenue of an established customer - revenue at tenure month k), S_k the survival
    of new customers; saved service cost is the same sum for service cost. Levels by tenure compare different customers,
    not one customer over time: those who stayed long may always have been better.
    """
    r.checked(acquisition, ("block", "n", "spend", "won"), ("spend", "won"), "acquisition")
    undated = r.undated(tenure, "revenue", "service_cost")
    if undated is not None:
        return Result.not_applicable(undated)
    r.checked(
        tenure, ("block", "tenure_month", "months", "exits", "revenue", "service_cost"), ("service_cost",), "tenure"
    )
    blocks = max(r.unit_of(acquisition), r.unit_of(tenure))
    wins = int(acquisition["won"].sum())
    if wins < r.MIN_WINS:
        return Result.not_applicable(Missing(f"only {wins} prospects were won; a cost per win needs {r.MIN_WINS}"))
    old = tenure[tenure["tenure_month"] >= ramp_months]
    if old["months"].sum() < r.MIN_AT_RISK or horizon_months < ramp_months:
        return Result.not_applicable(
            Missing(f"no {r.MIN_AT_RISK} customer-months beyond {ramp_months} months of tenure")
        )
    won = r.mean_ratio(r.by_block(acquisition, "spend", blocks), r.by_block(acquisition, "won", blocks))
    parts = {"acquisition cost per win": won}
    life = None
    for column, name in (("revenue", "ramp-up loss of revenue"), ("service_cost", "service cost saved")):
        life = r.lifetime_cost(tenure, column, blocks, horizon_months, discount_annual)
        if not life.months:
            return Result.not_applicable(Missing("too few new customers at risk for a tenure curve"))
        level = r.mean_ratio(r.by_block(old, column, blocks), r.by_block(old, "months", blocks))
        alive = r.product(life.years, r.constant(12.0, blocks))
        parts[name] = r.difference(r.product(level, alive), life.cost)
    total = r.difference(
        r.Functional(
            won.value + parts["ramp-up loss of revenue"].value,
            won.influence + parts["ramp-up loss of revenue"].influence,
        ),
        parts["service cost saved"],
    )
    rows = []
    for name, part in (*parts.items(), ("replacement cost", total)):
        low, high = part.interval()
        rows.append({"part": name, "money": part.value, "ci_low": low, "ci_high": high, "n": wins})
    table = pd.DataFrame(rows)
    low, high = total.interval()
    p = one_sided_p(total.value, total.se, 0.0)
    estimate = Estimate(total.value, low, high, "money per customer", wins, p_value=p, se=total.se)
    assert life is not None
    spared = parts["service cost saved"].value
    return Result(
        table,
        f"Replacing a lost customer costs {estimate.text(0)} {currency}: {won.value:,.0f} to win the new one, "
        f"{parts['ramp-up loss of revenue'].value:,.0f} of revenue while he grows, {'less' if spared > 0 else 'and'} "
        f"{abs(spared):,.0f} of service cost {'saved' if spared > 0 else 'added'}, over {life.months} months.",
        checks=(
            Check.of("wins", wins >= 30, f"{wins} wins; 30 make the normal limits usable", "undecided"),
            Check.of(
                "tenure seen to the horizon",
                life.months >= ramp_months,
                f"tenure curve seen for {life.months} of {horizon_months} months, ramp-up taken as {ramp_months}",
                "undecided",
            ),
        ),
        estimates={"S41": estimate},
        draw=lambda ax: draw_parts(ax, table, currency),
        alt="Bars with 95% intervals for the parts of replacement cost: "
        + ", ".join(f"{row.part} {row.money:,.0f}" for row in table.itertuples())
        + ".",
        digits=0,
        details={"total": total, "parts": parts, "months": life.months},
    )


def draw_parts(ax: Any, table: pd.DataFrame, currency: str) -> Any:
    """Draw the parts of replacement cost and their sum."""
    from crmresearch import figures

    sign = np.where(table["part"] == "service cost saved", -1.0, 1.0)
    y = np.arange(len(table))[::-1]
    ax.barh(y, sign * table["money"], color=[figures.PALETTE[5]] * (len(table) - 1) + [figures.ACCENT], height=0.55)
    for at, s, row in zip(y, sign, table.itertuples(), strict=True):
        ax.plot(sorted((s * row.ci_low, s * row.ci_high)), [at, at], color=figures.INK, lw=1.5)
    ax.axvline(0, color=figures.INK, lw=1)
    ax.set_yticks(y, table["part"].replace("service cost saved", "service cost added (below 0: saved)"))
    ax.set_xlabel(f"{currency} per lost customer, 95% interval; n = {int(table['n'].iloc[0]):,} wins".strip())
    figures.money_axis(ax, "x")
    ax.set_title("What replacing a lost customer costs")
    return ax


@study
def retention_point(
    tenure: pd.DataFrame,
    saved: Result | None = None,
    *,
    discount_annual: float = 0.08,
    acquisition_cost: float | Result = 0.0,
    currency: str = "",
) -> Result:
    """Value of one point of yearly retention beside what the point costs, and the elasticities.

    Parameters
    ----------
    tenure : DataFrame
        ``block``, ``years``, ``exits``, ``contribution`` (money), ``entered`` (customers whose exposure starts there).
    saved : Result, optional
        From :func:`saved`: the cost of a point is that of keeping a customer, times one in a hundred.
    discount_annual : float
        Annual discount rate.
    acquisition_cost : float or Result
        Cost per win, taken as known, or what :func:`ratios` returned, whose error is then carried into
        the elasticities, which are net of it; left out if a customer's value does not cover it.
    currency : str
        For the sentence.

    Notes
    -----
    Break-even is V(r + .01) - V(r) with V = m (1+d) / (1+d-r): what may be spent once per customer for a lasting point.
    The yearly figure spreads it over the customer's discounted life. Constant margin and retention are assumed.
    """
    undated = r.undated(tenure, "contribution")
    if undated is not None:
        return Result.not_applicable(undated)
    r.checked(tenure, ("block", "years", "exits", "contribution", "entered"), ("years", "exits"), "tenure")
    win: Any = acquisition_cost
    if isinstance(win, Result):
        win = win.details.get("cost_per_win", 0.0)
    if not isinstance(win, r.Functional):
        win = r.constant(float(win), r.unit_of(tenure))
    blocks = max(r.unit_of(tenure), len(win.influence))
    years, exits, money = (r.by_block(tenure, c, blocks) for c in ("years", "exits", "contribution"))
    hazard, margin = r.mean_ratio(exits, years), r.mean_ratio(money, years)
    kept = float(np.exp(-hazard.value))
    d = discount_annual
    if not margin.value > 0:
        return Result.not_applicable(
            Missing(f"mean contribution is {margin.value:,.2f} a year; keeping such customers loses money")
        )
    point = 0.01
    if kept + point >= 1:
        return Result.not_applicable(Missing(f"yearly retention is already {kept:.1%}; a point more is not possible"))

    def worth(keep: float) -> float:
        return float(customer_value(1, keep + point, d) - customer_value(1, keep, d))

    step = 1e-6
    slope = (worth(kept + step) - worth(kept - step)) / (2 * step) * -kept
    gain = r.Functional(
        margin.value * worth(kept), worth(kept) * margin.influence + margin.value * slope * hazard.influence
    )
    spread = (1 + d - kept) / (1 + d)  # level payment per year with present value one
    if not win.value < customer_value(margin.value, kept, d, "residual"):
        win = r.constant(0.0, blocks)
    at = np.array([margin.value, kept, win.value])

    def shares(at: Any) -> pd.Series:
        return elasticities(at[0], at[1], d, at[2])

    def slope_in(i: int) -> pd.Series:
        move = np.eye(3)[i] * step * max(abs(at[i]), 1.0)  # a central difference, as for the gain
        return (shares(at + move) - shares(at - move)) / (2 * move[i])

    share, by_margin, by_kept, by_win = shares(at), slope_in(0), slope_in(1), slope_in(2)
    low, high = gain.interval()
    count = int(tenure["entered"].sum())
    rows: list[dict[str, Any]] = [
        {
            "quantity": "yearly retention",
            "value": kept,
            "ci_low": float(np.exp(-hazard.interval()[1])),
            "ci_high": float(np.exp(-hazard.interval()[0])),
        },
        {
            "quantity": "contribution per customer-year",
            "value": margin.value,
            "ci_low": margin.interval()[0],
            "ci_high": margin.interval()[1],
        },
        {
            "quantity": "value of a lasting point, once per customer",
            "value": gain.value,
            "ci_low": low,
            "ci_high": high,
        },
        {
            "quantity": "the same per customer and year (break-even)",
            "value": gain.value * spread,
            "ci_low": low * spread,
            "ci_high": high * spread,
        },
    ]
    words = "no campaign shows what a point costs"
    if isinstance(saved, Result) and saved.applicable:
        spend, kept_more = saved.details["spend"], saved.details["kept"]
        found = r.ratio_set(r.product(spend, r.constant(point, len(spend.influence))), kept_more)
        bounded = found.kind == "bounded"
        cost = point * spend.value / kept_more.value
        rows.append(
            {
                "quantity": "cost of a point, per customer and year (campaign)",
                "value": cost,
                "ci_low": found.low if bounded else -np.inf,
                "ci_high": found.high if bounded else np.inf,
            }
        )
        words = f"the campaign paid {cost:,.2f} {found.text()} for it"
    for name, value in share.items():
        influence = by_margin[str(name)] * margin.influence - by_kept[str(name)] * kept * hazard.influence
        influence = influence + by_win[str(name)] * win.influence
        ends = r.Functional(float(value), influence).interval()
        rows.append(
            {
                "quantity": f"% value for 1% better {str(name).replace('_', ' ')}",
                "value": value,
                "ci_low": ends[0],
                "ci_high": ends[1],
            }
        )
    first = rows[-len(share)]  # retention
    return Result(
        pd.DataFrame(rows).assign(n=count),
        f"At {kept:.1%} yearly retention a lasting point is worth {gain.value * spread:,.2f} "
        f"[{low * spread:,.2f}, {high * spread:,.2f}] {currency} per customer and year; {words}. One percent "
        "of retention "
        f"is worth {share['retention']:.1f}% [{first['ci_low']:.1f}, {first['ci_high']:.1f}] of customer value, "
        "before its cost.",
        details={
            "retention": kept,
            "retention_interval": (rows[0]["ci_low"], rows[0]["ci_high"]),
            "margin": margin.value,
            "hazard": hazard,
            "gain": gain,
            "value": float(customer_value(margin.value, kept, d)),
        },
    )
