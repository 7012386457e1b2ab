"""What notebook 00 takes out of the engine: what the database holds, how complete it is, and how it grew.

Every function returns a small, ordered frame of counts, or :class:`~crmresearch.errors.Missing`.
"""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Iterable

import numpy as np
import pandas as pd

from crmresearch.data.bank import Bank
from crmresearch.data.loading import breaches
from crmresearch.data.reductions.expressions import (
    DAYS_PER_YEAR,
    DIGITAL,
    STAFFED,
    as_float,
    beside,
    called,
    contribution_of,
    day_after,
    days_between,
    first_of_month,
    grouped,
    month_number,
    needs,
    open_before,
    tier_of,
    whole_months,
)
from crmresearch.data.tables import TABLES
from crmresearch.errors import Missing

# What each study can work on; any one of the alternatives is enough to run some of it.
STUDIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "01 customer value": (("monthly.contribution",), ("transactions",), ("snapshot",)),
    "02 churn": (("customers", "monthly"), ("customers",), ("spells",)),
    "03 acquisition and retention cost": (
        ("prospects", "contacts", "monthly.contribution"),
        ("prospects",),
        ("snapshot",),
    ),
    "04 satisfaction and loyalty": (("survey", "customers", "monthly.contribution"), ("survey",)),
    "06 competition": (("customers", "monthly", "markets", "prospects"), ("markets",), ("customers",)),
    "07 channels": (
        ("customers", "monthly", "transactions", "branches"),
        ("customers", "transactions"),
        ("customers", "monthly"),
    ),
    "08 service": (
        ("customers", "branches", "pulse", "service", "monthly", "survey", "contacts", "managers"),
        ("customers", "branches", "service"),
        ("survey", "monthly"),
        ("customers", "contacts"),
        ("service",),
    ),
    "09 product preference": (("choices", "customers.birth_year"), ("choices",)),
}


def usable(bank: Bank) -> pd.DataFrame:
    """Say for each study which of the tables it can work on the bank brings.

    Returns
    -------
    DataFrame
        ``study``, ``runs`` (in full, in part, no), ``uses``, ``lacks`` (for the full study).
    """
    rows = []
    for study, alternatives in STUDIES.items():
        full = alternatives[0]
        lacks = [t for t in full if bank.require(t) is not None]
        part = next((a for a in alternatives if bank.require(*a) is None), ())
        runs = "no" if not part else "in part" if lacks else "in full"
        rows.append((study, runs, ", ".join(part) or "–", ", ".join(lacks) or "–"))
    return pd.DataFrame(rows, columns=["study", "runs", "uses", "lacks"])


def contract_breaches(bank: Bank) -> pd.DataFrame:
    """Check the loaded tables against the contract once more, inside the engine.

    Returns
    -------
    DataFrame
        ``table``, ``rows``, ``rules`` checked, ``breaches`` (rows that break a rule, summed over rules).
    """
    rows = [(name, *breaches(bank.engine, name, bank.tables, bank.about)) for name in bank.tables]
    return pd.DataFrame(rows, columns=["table", "rows", "rules", "breaches"])


@needs("customers")
def acquired(bank: Bank) -> pd.DataFrame | Missing:
    """Customers by the year in which they were acquired.

    Returns
    -------
    DataFrame
        ``year``, ``n`` customers in the database, ``left`` of them, ``before_observation`` acquired before it starts.
    """
    t = bank.table("customers")
    early = t.acquired_on < bank.about.observation_start
    counts = {"n": t.count(), "left": t.left_on.notnull().sum(), "before_observation": early.sum()}
    return grouped(bank, t, {"year": t.acquired_on.year()}, **counts)


@needs("customers")
def tenure(bank: Bank, *, band_years: int = 2) -> pd.DataFrame | Missing:
    """Customers still there at the observation end, by completed years of tenure.

    Returns
    -------
    DataFrame
        ``from_years`` (lower end of a band of ``band_years``), ``to_years``, ``n``.
    """
    t = bank.table("customers")
    t = t.filter(t.left_on.isnull())
    months = month_number(bank.about.observation_end) - month_number(t.acquired_on)
    band = (months // (12 * band_years) * band_years).cast("int64")
    frame = grouped(bank, t, {"from_years": band}, n=t.count())
    if frame.empty:
        return Missing(f"no customer of the bank '{bank.name}' is there at the end", ("customers",))
    frame.insert(1, "to_years", frame["from_years"] + band_years)  # bands of nobody are not there
    return frame


@needs("customers")
def tiers(bank: Bank) -> pd.DataFrame | Missing:
    """Customers by city tier, or by segment of the bank's own: ``city_tier`` or ``segment``, ``n``, ``left``."""
    column = tier_of(bank)
    missing = bank.require(f"customers.{column}")
    if missing is not None:
        return missing
    t = bank.table("customers")
    return grouped(bank, t, [column], n=t.count(), left=t.left_on.notnull().sum())


def _telling(bank: Bank, traits: Iterable[str]) -> list[str]:
    """Which traits the bank records and tell somebody apart: not the same of everybody, nor empty."""
    c = bank.table("customers")
    told = [k for k in traits if bank.require(f"customers.{k}") is None]
    several = bank.frame(c.aggregate(**{k: c[k].nunique() > 1 for k in told})) if told else pd.DataFrame()
    return [k for k in told if several[k].iloc[0]]


@needs("customers")
def alike(bank: Bank) -> pd.DataFrame | Missing:
    """Customers by how many share all traits with them that others may know.

    Returns
    -------
    DataFrame
        ``size`` (customers with the same traits, themselves included), ``n`` (customers in groups of that size). The
        traits, in ``attrs["traits"]``, are those that tell customers apart of year of birth, city or tier, channel of
        acquisition, and year of acquisition.
    """
    t = bank.table("customers")
    place = next((c for c in ("city_id", tier_of(bank)) if bank.require(f"customers.{c}") is None), None)
    traits = _telling(bank, [c for c in ("birth_year", place, "acquisition_channel") if c])
    if not traits:
        return Missing("no trait of customers is recorded that others may know", ("customers",))
    keys = {c: t[c] for c in traits} | {"acquired": t.acquired_on.year()}
    groups = t.group_by(**keys).aggregate(size=t.count())
    frame = grouped(bank, groups, ["size"], n=groups["size"].sum())
    frame.attrs["traits"] = [*traits, "acquired"]
    return frame


@needs("customers.left_on")
def exits(bank: Bank) -> pd.DataFrame | Missing:
    """Exits by calendar year and cause, with the time customers were under observation.

    Returns
    -------
    DataFrame
        One row per year of the observation and cause, those without an exit included: ``year``, ``cause``, ``exits``,
        ``exposure`` (customer-years under observation in that year, days over 365.25, the last day of the observation
        counted). Missing where nobody is recorded as having left.
    """
    import ibis

    t = bank.table("customers")
    about = bank.about
    gone = t.filter(t.left_on.notnull())
    by = {"year": gone.left_on.year(), "cause": gone.exit_cause.fill_null("unknown")}
    counts = grouped(bank, gone, by, exits=gone.count())
    if counts.empty:
        return Missing(f"the bank '{bank.name}' records no leaving dates", ("customers",))
    years = range(about.observation_start.year, about.observation_end.year + 1)
    spans = {}
    for year in years:
        # days from the later start to the earlier end, the day of leaving itself not counted
        low = ibis.greatest(t.observed_from, ibis.date(year, 1, 1), ibis.date(about.observation_start))
        last = ibis.least(ibis.date(year + 1, 1, 1), ibis.date(day_after(bank)))
        high = ibis.least(ibis.coalesce(t.left_on, last), last)
        spans[f"y{year}"] = as_float(ibis.greatest(high.delta(low, unit="day"), 0).sum()) / DAYS_PER_YEAR
    exposure = bank.frame(t.aggregate(**spans)).iloc[0]
    grid = pd.MultiIndex.from_product([years, sorted(counts["cause"].unique())], names=["year", "cause"])
    out = counts.set_index(["year", "cause"]).reindex(grid, fill_value=0).reset_index()
    return out.assign(exposure=[float(exposure[f"y{year}"]) for year in out["year"]])


@needs("transactions.channel")
def channels(bank: Bank) -> pd.DataFrame | Missing:
    """Transactions by calendar year and channel: ``year``, ``channel``, ``transactions``, ``n`` customers with one."""
    t = bank.table("transactions")
    by = {"year": t.occurred_on.year(), "channel": t.channel.fill_null("not recorded")}
    return grouped(bank, t, by, transactions=t.count(), n=t.customer_id.nunique())


@needs("transactions.channel")
def digital(bank: Bank) -> pd.DataFrame | Missing:
    """Sums for the share of digital transactions in the last year, and its error clustered by customer.

    Returns
    -------
    DataFrame
        One row: ``n`` customers, ``total`` and ``digital`` transactions, and over customers the sums of squares and
        products ``tt``, ``dd``, ``dt``.
    """
    t = bank.table("transactions")
    t = t.filter(t.occurred_on > bank.about.observation_end - datetime.timedelta(days=365))
    one = t.group_by("customer_id").aggregate(total=t.count(), digital=called(t.channel, DIGITAL).sum())
    total, digital = one.total, one.digital
    terms = {"total": total, "digital": digital, "tt": total * total, "dd": digital * digital, "dt": digital * total}
    frame = bank.frame(one.aggregate(n=one.count(), **{name: as_float(of.sum()) for name, of in terms.items()}))
    if frame.loc[0, "n"] == 0:
        return Missing(f"the bank '{bank.name}' records no transaction in its last year", ("transactions",))
    unknown = t.filter(t.channel.isnull() | ~called(t.channel, STAFFED))
    if not frame.loc[0, "digital"] and bank.scalar(unknown.count()):  # in the bank's own words
        remedy = f"recode channel in bank.yaml to these words, and others to {', '.join(STAFFED)}"
        return Missing(f"no transaction has a channel named {', '.join(DIGITAL)}; {remedy}", ("transactions",))
    return frame


@needs("customers", "transactions")
def coverage(bank: Bank) -> pd.DataFrame | Missing:
    """Customer-months with transactions, by calendar month.

    Returns
    -------
    DataFrame
        ``month``, ``n`` customers with a relationship in that month, ``with_any`` of them with a transaction,
        ``with_all`` with one through every channel that occurs. Whole months from the first to the last transaction.
    """
    import ibis

    t, c = bank.table("transactions"), bank.table("customers")
    t = t.filter(month_number(t.occurred_on).between(*whole_months(bank, "transactions")))  # a part sees fewer
    names = grouped(bank, t, ["channel"], n=t.count())["channel"].dropna().tolist()
    used = {f"used_{k}": (t.channel == name).any() for k, name in enumerate(names)}  # dearer: counting distinct ones
    seen = t.group_by("customer_id", month=month_number(t.occurred_on)).aggregate(**used, n=t.count())
    every = functools.reduce(operator.and_, (seen[k] for k in used), (seen.n > 0) & ibis.literal(bool(names)))
    frame = grouped(bank, seen, ["month"], with_any=seen.count(), with_all=every.sum())
    stays = grouped(bank, c, {"came": month_number(c.acquired_on), "gone": month_number(c.left_on)}, n=c.count())
    if frame.empty:
        return Missing(f"the bank '{bank.name}' records no transaction in a whole month", ("transactions",))
    month = frame.pop("month").to_numpy()

    def by_then(edge: str, month: np.ndarray) -> np.ndarray:
        counts = stays.groupby(edge)["n"].sum()
        return np.concatenate([[0], counts.cumsum()])[np.searchsorted(counts.index, month, side="right")]

    n = by_then("came", month) - by_then("gone", month - 1)
    day = pd.DatetimeIndex([first_of_month(m) for m in month]).as_unit("ns")
    return pd.DataFrame({"month": day, "n": n.astype("int64"), **frame})


@needs()
def freshness(bank: Bank) -> pd.DataFrame | Missing:
    """Days from a table's newest row to the observation end: ``table``, ``newest``, ``days_behind``.

    A month reaches to its last day.
    """
    end, rows = pd.Timestamp(bank.about.observation_end), []
    for name in bank.tables:
        if (day := TABLES[name].day) and not pd.isna(newest := bank.scalar(bank.table(name)[day].max())):
            reaches = newest + pd.offsets.MonthEnd() if TABLES[name][day].kind == "month" else newest
            rows.append((name, newest.strftime("%Y-%m-%d"), max((end - reaches).days, 0)))
    if not rows:
        return Missing(f"no row of the bank '{bank.name}' has a date", bank.tables)
    return pd.DataFrame(rows, columns=["table", "newest", "days_behind"])


@needs("customers", "holdings")
def keys(bank: Bank) -> pd.DataFrame | Missing:
    """Audit the linkage of products to customers.

    Returns
    -------
    DataFrame
        One row: ``n`` customers, ``holdings`` rows, ``orphans`` among them, ``holders`` customers with a product open
        at the observation end, ``open_holdings`` those products, ``look_alike`` customers who share day of acquisition,
        birth year, city and channel with another (missing where the bank records fewer than two of these, or the same
        of everybody); those it records, in ``attrs["traits"]``.
    """
    c, h = bank.table("customers"), bank.table("holdings")
    end = bank.about.observation_end
    open_now = h.filter(h.closed_on.isnull() | (h.closed_on > end))
    parts = [
        c.aggregate(n=c.count()),
        h.aggregate(holdings=h.count()),
        h.anti_join(c, "customer_id").aggregate(orphans=lambda t: t.count()),
        open_now.aggregate(holders=open_now.customer_id.nunique(), open_holdings=open_now.count()),
    ]
    frame = pd.concat([bank.frame(part) for part in parts], axis=1)
    traits = _telling(bank, ("birth_year", "city_id", "acquisition_channel"))
    frame["look_alike"], frame.attrs["traits"] = float("nan"), traits
    if len(traits) >= 2:
        groups = c.group_by(["acquired_on", *traits]).aggregate(size=c.count())
        frame["look_alike"] = float(bank.scalar(groups.filter(groups["size"] > 1)["size"].sum().fill_null(0)))
    return frame


@needs("customers", "monthly.contribution", per="customers")
def explained(bank: Bank) -> pd.DataFrame | Missing:
    """One row per customer: contribution of the last twelve months, and what the tables held before them.

    Returns
    -------
    DataFrame
        ``customer_id``, ``contribution`` (last twelve months); from the twelve months before: ``past_contribution``,
        ``past_balance``; ``tenure_years``; ``families`` held at the cut; ``transactions`` in the year before it (zero
        where the bank brings no such table). Customers with rows in both years.
    """
    import ibis

    start, end = whole_months(bank)
    if end - 23 < start:
        return Missing("two observed years are needed", ("monthly",))
    cut, before = first_of_month(end - 11), first_of_month(end - 23)
    m, c = bank.table("monthly"), bank.table("customers")
    money = contribution_of(bank, m)
    past, last = (m.month >= before) & (m.month < cut), m.month.between(cut, first_of_month(end))
    value = m.group_by("customer_id").aggregate(
        contribution=as_float(money.sum(where=last)),
        past_contribution=as_float(money.sum(where=past)),
        past_balance=as_float(m.balance.mean(where=past)),
    )
    value = value.filter(value.contribution.notnull() & value.past_contribution.notnull())
    tenure_years = days_between(ibis.date(cut), c.acquired_on) / DAYS_PER_YEAR
    frame = value.join(c, "customer_id").select(value, tenure_years=tenure_years)
    if "holdings" in bank.tables:
        h = bank.table("holdings")
        h = h.filter(open_before(h, cut))
        frame = beside(frame, h.group_by("customer_id").aggregate(families=h.product_family.nunique()), "customer_id")
        frame = frame.mutate(families=frame.families.fill_null(0))
    if "transactions" in bank.tables:
        t = bank.table("transactions")
        t = t.filter((t.occurred_on >= before) & (t.occurred_on < cut))
        frame = beside(frame, t.group_by("customer_id").aggregate(transactions=t.count()), "customer_id")
        frame = frame.mutate(transactions=frame.transactions.fill_null(0))
    return bank.frame(frame.order_by("customer_id"))
