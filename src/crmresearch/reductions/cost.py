"""What study 3 takes out of the engine: spend and outcome of prospects, upkeep of customers, and campaigns.

Sums are taken over *blocks* of people, drawn by a hash of their identifier, so that sampling errors can be had from a
small frame. A won prospect and the customer he became share a block. Tenure months are calendar months since the one of
winning; the first is seen in part, and counts as that part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, Missing

if TYPE_CHECKING:
    import ibis

    from crmresearch.bank import Bank

__all__ = [
    "BLOCKS",
    "acquisition",
    "campaigns",
    "contacts_per_sale",
    "currency",
    "joint",
    "period",
    "prospects",
    "upkeep",
    "upkeep_by_group",
]

BLOCKS = 1024  # a power of two: the block is a bit mask of the hash
CAMPAIGN_DAYS = 31  # contacts that are not drawn and spread over more days are upkeep, not a campaign
MOST_CAMPAIGNS = 8
DAYS_PER_MONTH = 30.4375
TENURE_BANDS = (1, 3, 6, 10)  # years
UNKNOWN = "not recorded"

# Data without dates come as one summary; these are the publishers' names for the same things.
SNAPSHOT = {
    "smcrm": {"won": "acquisition", "spend": "acq_exp", "retention_cost": "ret_exp", "days": "duration"},
    "smcrm-acquisition": {
        "won": "acquisition",
        "spend": "acq_expense",
        "retention_cost": "ret_expense",
        "days": "duration",
    },
}


def period(bank: Bank) -> str:
    """Observation period in words."""
    a = bank.about
    return f"{a.observation_start:%Y-%m} to {a.observation_end:%Y-%m}" if a.dated else "not dated"


def currency(bank: Bank) -> str:
    """Currency of all amounts; one per bank, as the contract declares."""
    return bank.about.currency


def _block(key: Any) -> Any:
    return (key.hash() & (BLOCKS - 1)).cast("int32")


def _float(value: Any) -> Any:
    return value.cast("float64")


def _one_currency(bank: Bank, table: str) -> None:
    """Refuse a table whose own currency column holds more than one."""
    if "currency" in bank.table(table).columns:
        found = bank.frame(bank.table(table).select("currency").distinct().order_by("currency"))["currency"].tolist()
        if len(found) > 1:
            raise InputError(
                f"{table} mixes currencies ({', '.join(map(str, found))}); convert to {currency(bank)} first"
            )


def _snapshot(bank: Bank, *names: str) -> dict[str, str] | Missing:
    """Find the columns of a summary that stand for spend, winning, upkeep and duration."""
    for columns in SNAPSHOT.values():
        if bank.require(*(f"snapshot.{columns[n]}" for n in names)) is None:
            return columns
    return Missing(
        f"the bank '{bank.name}' brings neither prospects with their spend nor a summary of it",
        ("prospects", "contacts"),
    )


def _person(t: Any) -> Any:
    """Block of a prospect: that of the customer he became."""
    return _block(t.customer_id.fill_null(t.prospect_id) if "customer_id" in t.columns else t.prospect_id)


def _segment(c: Any) -> Any:
    """Segment of a customer: city tier."""
    return ("tier " + c.city_tier.cast("string")).fill_null(UNKNOWN)


def acquisition(bank: Bank) -> pd.DataFrame | Missing:
    """Spend and wins by block, channel, and segment of the won.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``segment`` (city tier; missing for prospects not won), ``n`` prospects, ``spend``,
        ``spend_won`` (money), ``won`` (count).
    """
    if bank.require("prospects") is None:
        _one_currency(bank, "prospects")
        t = bank.table("prospects")
        t = t.mutate(block=_person(t))
        if bank.require("prospects.customer_id", "customers.city_tier") is None:
            c = bank.table("customers")
            c = c.select(who=c.customer_id, segment=_segment(c))
            t = t.left_join(c, t.customer_id == c.who)
        else:
            t = t.mutate(segment=t.won.ifelse(UNKNOWN, None))
        return bank.frame(
            t.group_by("block", "channel", "segment")
            .aggregate(
                n=t.count(),
                spend=_float(t.spend.sum()),
                spend_won=_float(t.spend.sum(where=t.won).fill_null(0)),
                won=t.won.cast("int64").sum(),
            )
            .order_by("block", "channel", "segment")
        )
    names = _snapshot(bank, "won", "spend")
    if isinstance(names, Missing):
        return names
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    return pd.DataFrame(
        {
            "block": np.arange(len(s)),
            "channel": UNKNOWN,
            "segment": s["won"].map({1.0: UNKNOWN}),
            "n": 1,
            "spend": s["spend"],
            "spend_won": s["spend"] * s["won"],
            "won": s["won"],
        }
    )


def _plain(bank: Bank, names: dict[str, str]) -> ibis.Table:
    """Summary rows under our names; numbers as double."""
    t = bank.table("snapshot")
    own = {ours: _float(t[theirs]) for ours, theirs in names.items() if theirs in t.columns}
    rest = [c for c in ("industry", "revenue", "employees") if c in t.columns]
    extra = {c: _float(t[c]) for c in ("freq", "crossbuy", "sow", "profit", "frequency") if c in t.columns}
    return t.select("customer_id", *rest, **own, **extra)


def prospects(bank: Bank) -> pd.DataFrame | Missing:
    """One row per prospect, in compact columns.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``spend`` (money), ``won`` (0/1); ``spend_randomised`` where the bank says; the firm's
        ``industry``, ``revenue``, ``employees`` for the teaching data.
    """
    if bank.require("prospects") is None:
        _one_currency(bank, "prospects")
        t = bank.table("prospects")
        more = {"spend_randomised": t.spend_randomised} if "spend_randomised" in t.columns else {}
        frame = bank.frame(
            t.select(
                block=_person(t),
                channel=t.channel,
                spend=_float(t.spend),
                won=t.won.cast("int8"),
                id=t.prospect_id,
                **more,
            )
            .order_by("id")
            .drop("id")
        )
        return frame.assign(channel=frame["channel"].astype("category"))
    names = _snapshot(bank, "won", "spend")
    if isinstance(names, Missing):
        return names
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    keep = [c for c in ("spend", "won", "industry", "revenue", "employees") if c in s]
    return s[keep].assign(block=np.arange(len(s)), channel="all")


def _exposed(bank: Bank, c: Any) -> Any:
    """Customers with the month numbers and shares of the months in which they are at risk."""
    import ibis

    a = bank.about
    start, end = ibis.date(a.observation_start), ibis.date(a.observation_end)
    entry = ibis.greatest(c.observed_from, c.acquired_on, start)
    left = c.left_on.notnull() & (c.left_on <= end)
    last = left.ifelse(c.left_on, end)
    t = c.mutate(_entry=entry, _last=last, _left=left.cast("int64"))
    t = t.filter(t._last >= t._entry)
    days_entry, days_last = _month_days(t._entry), _month_days(t._last)
    return t.mutate(
        block=_block(t.customer_id),
        entry=_number(t._entry) - _number(t.acquired_on),
        last=_number(t._last) - _number(t.acquired_on),
        before=(t._entry.day() - 1) / days_entry,  # share of the entry month before entry
        after=1 - (t._last.day() - t._left) / days_last,  # share of the last month after the end
    )


def _number(date: Any) -> Any:
    return date.year() * 12 + date.month() - 1


def _month_days(date: Any) -> Any:
    import ibis

    first = date.truncate("M")
    return _float((first + ibis.interval(months=1)).cast("date").delta(first, unit="day"))


def _costs(bank: Bank) -> Any:
    """Retention spend by contact: everything whose purpose is to retain."""
    _one_currency(bank, "contacts")
    t = bank.table("contacts")
    a = bank.about
    return t.filter((t.purpose == "retain") & t.contacted_on.between(a.observation_start, a.observation_end))


def upkeep(bank: Bank) -> pd.DataFrame | Missing:
    """Exposure, exits and money by block and tenure month.

    Returns
    -------
    DataFrame
        ``block``, ``tenure_month``, ``months`` at risk, ``years``, ``exits``, ``entered`` (customers whose exposure starts
        there), ``retention_cost``; with ``monthly`` also ``revenue`` (interest + fees - risk), ``service_cost``,
        ``contribution`` (money). For data without dates one row per customer: ``block``, ``years``, ``customers``,
        ``exits``, ``retention_cost``.

    Notes
    -----
    Customers enter at their tenure when observation starts. Exposure is counted from first and last days, so that no
    customer-month rows are made.
    """
    missing = bank.require("customers", "contacts")
    if missing is not None:
        return _upkeep_summary(bank, missing)
    c = bank.table("customers")
    e = _exposed(bank, c.select("customer_id", "acquired_on", "observed_from", "left_on"))
    first = bank.frame(
        e.group_by("block", month=e.entry)
        .aggregate(entered=e.count(), before=e.before.sum())
        .order_by("block", "month")
    )
    last = bank.frame(
        e.group_by("block", month=e["last"])
        .aggregate(ended=e.count(), after=e.after.sum(), exits=e._left.sum())
        .order_by("block", "month")
    )
    money = [_by_month(bank, _costs(bank), "contacted_on", retention_cost="cost")]
    if bank.require("monthly") is None:
        money.append(
            _by_month(bank, bank.table("monthly"), "month", "net_interest", "fees", "risk_cost", "service_cost")
        )
    length = 1 + max(int(f["month"].max()) for f in (first, last, *money) if len(f))

    def matrix(frame: pd.DataFrame, column: str) -> Any:
        out = np.zeros((BLOCKS, length))
        out[frame["block"].to_numpy(int), frame["month"].to_numpy(int)] = frame[column].to_numpy(float)
        return out

    entered, ended = matrix(first, "entered"), matrix(last, "ended")
    present = entered.cumsum(axis=1) - np.pad(ended.cumsum(axis=1), ((0, 0), (1, 0)))[:, :-1]
    months = np.clip(present - matrix(first, "before") - matrix(last, "after"), 0, None)
    block, month = np.divmod(np.arange(BLOCKS * length), length)
    out = pd.DataFrame(
        {
            "block": block.astype("int32"),
            "tenure_month": month.astype("int32"),
            "months": months.ravel(),
            "years": months.ravel() / 12,
            "exits": matrix(last, "exits").ravel(),
            "entered": entered.ravel(),
            "retention_cost": matrix(money[0], "retention_cost").ravel(),
        }
    )
    if len(money) > 1:
        parts = {n: matrix(money[1], n).ravel() for n in ("net_interest", "fees", "risk_cost", "service_cost")}
        out["revenue"] = parts["net_interest"] + parts["fees"] - parts["risk_cost"]
        out["service_cost"] = parts["service_cost"]
        out["contribution"] = out["revenue"] - out["service_cost"]
    return out[(out["months"] > 0) | (out["exits"] > 0) | (out["retention_cost"] > 0)].reset_index(drop=True)


def _by_month(bank: Bank, t: Any, date: str, *columns: str, **renamed: str) -> pd.DataFrame:
    """Sum money by block and tenure month; before the month of winning counts as that month."""
    c = bank.table("customers").select("customer_id", "acquired_on")
    j = t.join(c, "customer_id")
    tenure = (_number(j[date]) - _number(j.acquired_on)).clip(lower=0)
    sums = {ours: _float(j[theirs].sum()) for ours, theirs in ({n: n for n in columns} | renamed).items()}
    return bank.frame(
        j.group_by(block=_block(j.customer_id), month=tenure).aggregate(**sums).order_by("block", "month")
    )


def _upkeep_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Summary of the won: durations from ``spells`` with their censoring, where there are any, else taken as complete."""
    spells = bank.require("spells.event") is None
    names = _snapshot(bank, "won", "retention_cost", *(() if spells else ("days",)))
    if isinstance(names, Missing):
        return missing
    t = _plain(bank, names)
    if spells:
        s = bank.table("spells")
        s = s.select(who=s.customer_id, months=s.exit_months, exits=s.event.cast("int64"))
        f = bank.frame(t.left_join(s, t.customer_id == s.who).order_by("customer_id"))
        f = f.assign(years=f["months"] / 12)
    else:
        f = bank.frame(t.order_by("customer_id"))
        f = f.assign(years=f["days"] / 365.25, exits=1)
    f = f.assign(block=np.arange(len(f)), customers=1)
    won = f[f["won"] == 1]
    return won[["block", "years", "customers", "exits", "retention_cost"]].reset_index(drop=True)


def upkeep_by_group(bank: Bank, *, discount_annual: float = 0.08) -> pd.DataFrame | Missing:
    """Customer-years and retention spend by block, channel and segment.

    Returns
    -------
    DataFrame
        ``block``, ``channel``, ``segment`` (city tier), ``customers``, ``years``, ``retention_cost``, and both discounted to
        the day of winning (``..._discounted``; a customer's years at the middle of the years observed).
    """
    missing = bank.require("customers", "contacts")
    if missing is not None:
        return missing
    c = bank.table("customers")
    c = c.select(
        "customer_id", "acquired_on", "observed_from", "left_on",
        channel=c.acquisition_channel.fill_null(UNKNOWN), segment=_segment(c),
    )  # fmt: skip
    e = _exposed(bank, c)
    years = (e["last"] - e.entry + 1 - e.before - e.after) / 12
    middle = (e.entry + e.before + e["last"] + 1 - e.after) / 24
    e = e.mutate(years=years, discounted=years * _discount(discount_annual, middle))
    t = _costs(bank).join(bank.table("customers").select("customer_id", "acquired_on"), "customer_id")
    at = (_number(t.contacted_on) - _number(t.acquired_on)).clip(lower=0) / 12
    cost = t.mutate(discounted=_float(t.cost) * _discount(discount_annual, at))
    cost = cost.group_by("customer_id").aggregate(cost=cost.cost.sum(), cost_discounted=cost.discounted.sum())
    j = e.left_join(cost.rename(who="customer_id"), e.customer_id == cost.customer_id)
    return bank.frame(
        j.group_by("block", "channel", "segment")
        .aggregate(
            customers=j.count(),
            years=j.years.sum(),
            years_discounted=j.discounted.sum(),
            retention_cost=_float(j.cost.sum().fill_null(0)),
            retention_cost_discounted=j.cost_discounted.sum().fill_null(0.0),
        )
        .order_by("block", "channel", "segment")
    )


def _discount(rate: float, years: Any) -> Any:
    return (years * -float(np.log1p(rate))).exp()


def _dates(bank: Bank, horizon_months: int) -> pd.DataFrame:
    """Campaigns that can be studied: drawn by lot, or made within a month; with their first day and kind."""
    t = _costs(bank)
    g = t.group_by("campaign_id").aggregate(
        first=t.contacted_on.min(),
        last=t.contacted_on.max(),
        randomised=t.randomised.all(),
        n=t.customer_id.nunique(),
    )
    f = bank.frame(g.order_by("campaign_id"))
    f["days"] = (f["last"] - f["first"]).dt.days
    seen = (pd.Timestamp(bank.about.observation_end) - f["last"]).dt.days / DAYS_PER_MONTH
    f = f[(seen >= horizon_months - 0.1) & (f["randomised"] | (f["days"] <= CAMPAIGN_DAYS))]
    chosen = f.sort_values(["n", "campaign_id"], ascending=[False, True]).head(MOST_CAMPAIGNS)
    return chosen.sort_values("campaign_id").reset_index(drop=True)


def campaigns(bank: Bank, *, horizon_months: int = 12, most: int = 400_000) -> pd.DataFrame | Missing:
    """One row per customer and retention campaign he could have been part of.

    Parameters
    ----------
    bank : Bank
        With ``customers`` and ``contacts``; more tables give more characteristics.
    horizon_months : int
        Follow-up needed after the last contact of a campaign.
    most : int
        Rows at most; with more, blocks of customers are taken at random (by hash) and kept whole.

    Returns
    -------
    DataFrame
        ``block``, ``campaign_id``, ``arm``, ``treated``, ``randomised``, ``cost``, ``responded``, ``left``, ``months`` (to
        leaving or the end of observation), ``value_before`` (contribution of the twelve months before), and ``x_...``: what
        was known before the first contact.

    Notes
    -----
    Of a campaign that was not drawn, customers who could have been contacted are added: there at the time, with the same
    answer about marketing as somebody contacted.
    """
    missing = bank.require("customers", "contacts")
    if missing is not None:
        return missing
    known = _dates(bank, horizon_months)
    if known.empty:
        return Missing(f"no retention campaign was followed for {horizon_months} months", ("contacts",))
    keep = max(1, -(-int(known["n"].sum()) // most))
    frames = [bank.frame(_campaign(bank, row, keep).order_by("id").drop("id")) for row in known.itertuples()]
    out = pd.concat(frames, ignore_index=True)
    constant = [c for c in out.columns if str(c).startswith("x_") and out[c].nunique() < 2]
    return out.drop(columns=constant)


def _campaign(bank: Bank, row: Any, keep: int) -> Any:
    import ibis

    day = row.first.date()
    t = _costs(bank)
    t = t.filter(t.campaign_id == row.campaign_id)
    arm = t.group_by("customer_id").aggregate(
        arm=t.arm.min(), treated=(t.arm != "control").any().cast("int8"), cost=t.cost.sum(),
        responded=t.responded.cast("int8").max(),
    )  # fmt: skip
    c = bank.table("customers")
    end = ibis.date(bank.about.observation_end)
    there = (c.acquired_on <= day) & (c.observed_from <= day) & (c.left_on.isnull() | (c.left_on > day))
    c = c.filter(there & (_block(c.customer_id) % keep == 0))
    j = c.left_join(arm.rename(who="customer_id"), c.customer_id == arm.customer_id)
    if row.randomised:
        j = j.filter(j.treated.notnull())
    else:
        reached = c.semi_join(arm, "customer_id").select("consent_marketing").distinct()
        j = j.semi_join(reached, "consent_marketing")
    leaves = j.left_on.notnull() & (j.left_on <= end)
    tenure = _float(ibis.date(day).delta(j.acquired_on, unit="day")) / 365.25
    x = {"x_tenure": (tenure + 1).ln()}
    for years in TENURE_BANDS:
        x[f"x_tenure_below_{years}"] = (tenure < years).cast("int8")
    if bank.require("customers.city_tier") is None:
        x["x_tier_2"], x["x_tier_3"] = ((j.city_tier == k).fill_null(False).cast("int8") for k in (2, 3))
    if bank.require("customers.birth_year") is None:
        x["x_age"] = _float(day.year - j.birth_year).fill_null(45.0)
    if bank.require("customers.acquisition_channel") is None:
        for name in ("online", "agent", "referral"):
            x[f"x_{name}"] = (j.acquisition_channel == name).fill_null(False).cast("int8")
    base = j.select(
        id=j.customer_id,
        block=_block(j.customer_id),
        campaign_id=ibis.literal(str(row.campaign_id)),
        arm=j.arm.fill_null("control"),
        treated=j.treated.fill_null(0),
        randomised=ibis.literal(bool(row.randomised)),
        cost=_float(j.cost).fill_null(0.0),
        responded=j.responded,
        left=leaves.cast("int8"),
        months=_float(leaves.ifelse(j.left_on, end).delta(ibis.date(day), unit="day")) / DAYS_PER_MONTH,
        **x,
    )
    for part in (_families(bank, day), _complaints(bank, day), _value(bank, day)):
        if part is not None:
            base = base.left_join(part, base.id == part.who).drop("who")
    filled = [n for n in base.columns if n.startswith("x_") or n == "value_before"]
    return base.mutate(**{n: _float(base[n]).fill_null(0.0) for n in filled})


def _families(bank: Bank, day: Any) -> Any:
    if bank.require("holdings") is not None:
        return None
    h = bank.table("holdings")
    h = h.filter((h.opened_on < day) & (h.closed_on.isnull() | (h.closed_on >= day)))
    return h.group_by(who=h.customer_id).aggregate(x_families=h.product_family.nunique())


def _complaints(bank: Bank, day: Any) -> Any:
    if bank.require("service") is not None:
        return None
    s = bank.table("service")
    since = (pd.Timestamp(day) - pd.DateOffset(months=3)).date()
    s = s.filter((s.kind == "complaint") & (s.occurred_on >= since) & (s.occurred_on < day))
    more = {} if bank.require("service.resolved") else {"x_unmet_complaint": (~s.resolved).any().cast("int8")}
    return s.group_by(who=s.customer_id).aggregate(x_complaint=(s.count() > 0).cast("int8"), **more)


def _value(bank: Bank, day: Any) -> Any:
    if bank.require("monthly") is not None:
        return None
    m = bank.table("monthly")
    year, quarter = ((pd.Timestamp(day) - pd.DateOffset(months=k)).date() for k in (12, 3))
    m = m.filter((m.month >= year) & (m.month < day))
    g = m.group_by(who=m.customer_id).aggregate(
        value_before=_float((m.net_interest + m.fees - m.service_cost - m.risk_cost).sum()),
        balance=_float(m.balance.mean(where=m.month >= quarter)),
    )
    return g.select("who", "value_before", x_balance=(g.balance.clip(lower=0) + 1).ln())


def joint(bank: Bank) -> pd.DataFrame | Missing:
    """Prospects with what became of the won: duration and profit.

    Returns
    -------
    DataFrame
        ``block``, ``won``, ``spend`` (hundreds of the currency), ``spend_squared``, ``year`` of first contact (from the
        start), one 0/1 column ``channel_...`` per channel but the first; of the won ``log_months`` (at least one day),
        ``ended`` (0/1), ``profit`` (contribution per month as a customer); ``spend_randomised`` where the bank says.
    """
    missing = bank.require("prospects.customer_id", "customers", "monthly")
    if missing is not None:
        return _joint_summary(bank, missing)
    import ibis

    t, c, m = bank.table("prospects"), bank.table("customers"), bank.table("monthly")
    end = ibis.date(bank.about.observation_end)
    left = c.left_on.notnull() & (c.left_on <= end)
    c = c.select(
        who=c.customer_id, ended=left.cast("int8"),
        days=_float(left.ifelse(c.left_on, end).delta(c.acquired_on, unit="day")).clip(lower=1.0),
    )  # fmt: skip
    m = m.group_by(owner=m.customer_id).aggregate(
        money=_float((m.net_interest + m.fees - m.service_cost - m.risk_cost).sum())
    )
    j = t.left_join(c, t.customer_id == c.who)
    j = j.left_join(m, j.who == m.owner)
    start = ibis.date(bank.about.observation_start)
    more = {"spend_randomised": j.spend_randomised} if "spend_randomised" in t.columns else {}
    frame = bank.frame(
        j.select(
            id=j.prospect_id,
            block=_person(j),
            channel=j.channel,
            won=j.won.cast("int8"),
            spend=_float(j.spend) / 100,
            year=_float(j.first_contact_on.delta(start, unit="day")) / 365.25,
            log_months=(j.days / DAYS_PER_MONTH).ln(),
            ended=_float(j.ended),
            profit=j.money.fill_null(0.0) / (j.days / DAYS_PER_MONTH),
            **more,
        )
        .order_by("id")
        .drop("id")
    )
    frame["spend_squared"] = frame["spend"] ** 2
    for name in sorted(frame["channel"].unique())[1:]:
        frame[f"channel_{name}"] = (frame["channel"] == name).astype(float)
    # a won prospect without a customer row (lost from the extract) has no duration
    return frame[(frame["won"] == 0) | frame["log_months"].notna()].drop(columns="channel").reset_index(drop=True)


def _joint_summary(bank: Bank, missing: Missing) -> pd.DataFrame | Missing:
    """Durations and profit of a summary; taken as complete, since it does not say otherwise."""
    names = _snapshot(bank, "won", "spend", "days")
    if isinstance(names, Missing) or bank.require("snapshot.profit") is not None or bank.require("spells") is None:
        return missing
    s = bank.frame(_plain(bank, names).order_by("customer_id"))
    months = (s["days"] / DAYS_PER_MONTH).where(s["won"] == 1)
    return pd.DataFrame(
        {
            "block": np.arange(len(s)),
            "won": s["won"],
            "spend": s["spend"] / 100,
            "spend_squared": (s["spend"] / 100) ** 2,
            **{c: s[c] for c in ("industry", "revenue", "employees") if c in s},
            "log_months": np.log(months),
            "ended": months.notna().astype(float).where(months.notna()),
            "profit": s["profit"] / months,
        }
    )


def contacts_per_sale(bank: Bank) -> pd.DataFrame | Missing:
    """Contacts and sales of a telephone campaign by the outcome of an earlier one (no money, no customer ids).

    Returns
    -------
    DataFrame
        ``group`` (``new``: never approached before; ``won before``; ``refused before``), ``n`` people, ``contacts``,
        ``sold``, and the sums of squares and products ``contacts2``, ``contacts_sold`` that errors need.
    """
    missing = bank.require("snapshot.contacts", "snapshot.poutcome", "snapshot.sold")
    if missing is not None:
        return missing
    t = bank.table("snapshot")
    names = {"nonexistent": "new", "success": "won before", "failure": "refused before"}
    t = t.select(group=t.poutcome.substitute(names), calls=t.contacts.cast("int64"), sold=t.sold.cast("int64"))
    return bank.frame(
        t.group_by("group")
        .aggregate(
            n=t.count(),
            contacts=t.calls.sum(),
            sold=t.sold.sum(),
            contacts2=(t.calls * t.calls).sum(),
            contacts_sold=(t.calls * t.sold).sum(),
        )
        .order_by("group")
    )
