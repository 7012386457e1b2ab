"""Naive estimators fail on the simulated bank in the documented direction, over seeds; the remedies do not.

For each trap: the naive interval misses the truth in at least 95% of seeds and on the expected side, the remedy covers
it, and with the mechanism switched off the naive bias is gone. Remedies cover 95% of the time by design; that they do
so in fewer than 75% of 20 seeds (60% of 8) happens by chance about once in a thousand times. "Gone" means a mean within
4 standard errors of the truth.
"""

import functools

import numpy as np
import pandas as pd
import pytest

from crmresearch.lab import simulated

Settings = simulated.Settings
Z = 1.959963984540054
END = pd.Timestamp("2026-01-01")
HEAVY = 8  # seeds where a bank must be large


def judge(naive, remedy, truth, direction, seeds):
    """``naive`` and ``remedy``: (estimate, standard error) by seed."""
    value, se = np.array(naive).T
    assert (np.abs(value - truth) > Z * se).mean() >= 0.95
    assert (np.sign(value - truth) == direction).mean() >= 0.95
    value, se = np.array(remedy).T
    assert (np.abs(value - truth) <= Z * se).mean() >= (0.75 if seeds >= 20 else 0.6)


def unbiased(estimates, truth):
    """Whether the mean over seeds is the truth but for Monte-Carlo error."""
    value = np.array([v for v, _ in estimates])
    return abs(value.mean() - truth) <= 4 * value.std(ddof=1) / np.sqrt(len(value))


# --- late entry -------------------------------------------------------------------------------------------------------


def survival(entry, stop, event, horizon):
    """Kaplan-Meier estimate and Greenwood error at the horizon."""
    times = np.sort(stop[event & (stop <= horizon)])
    at_risk = np.searchsorted(np.sort(entry), times) - np.searchsorted(np.sort(stop), times)
    s = np.exp(np.log1p(-1 / at_risk).sum())
    return s, s * np.sqrt((1 / (at_risk * (at_risk - 1))).sum())


def late_entry(world, seed, changes=None):
    c = simulated.frames(Settings(customers=2048, seed=seed, world=world, changes=changes or {}), ["customers"])[
        "customers"
    ]
    days = (c["left_on"].fillna(END) - c["acquired_on"]).dt.days.to_numpy(float) / 30.4375
    entry = (c["observed_from"] - c["acquired_on"]).dt.days.to_numpy(float) / 30.4375
    event = c["left_on"].notna().to_numpy()
    return survival(np.zeros(len(c)), days, event, 24), survival(entry, days, event, 24)


def test_ignoring_late_entry_inflates_survival():
    truth = simulated.truth(Settings())["estimands"]["survival_24"]
    both = [late_entry("baseline", seed) for seed in range(1, 21)]
    judge([b[0] for b in both], [b[1] for b in both], truth, +1, 20)


def test_without_late_entry_the_naive_curve_is_right():
    truth = simulated.truth(Settings(world="no_late_entry"))["estimands"]["survival_24"]
    assert unbiased([late_entry("no_late_entry", seed)[0] for seed in range(1, 21)], truth)


# --- immortal time ----------------------------------------------------------------------------------------------------
# Exits at one constant rate that no product changes: the true rate ratio of card holders is 1.
CONSTANT = {"voluntary_shape": 1.0, "frailty_variance": 0.0, "death_age": 0.0}


def log_rate_ratio(events, years):
    """Log ratio of two rates (with, without) and its error."""
    return np.log(events[0] / years[0] / (events[1] / years[1])), np.sqrt(1 / events[0] + 1 / events[1])


def cards(seed):
    """Log rate ratio of card holders: as known at the end, split where the card is opened, as known at entry."""
    f = simulated.frames(Settings(customers=2048, seed=seed, world="null", changes=CONSTANT), ["customers", "holdings"])
    c = f["customers"].set_index("customer_id")
    card = f["holdings"].query("product_family == 'card'").groupby("customer_id")["opened_on"].min().reindex(c.index)
    stop, left = c["left_on"].fillna(END), c["left_on"].notna().to_numpy()
    years = (stop - c["observed_from"]).dt.days.to_numpy(float) / 365.25
    after = ((stop - card.clip(lower=c["observed_from"])).dt.days / 365.25).fillna(0.0).to_numpy(float)
    ever, early = card.notna().to_numpy(), (card <= c["observed_from"]).to_numpy()

    def by(group):
        return log_rate_ratio((left[group].sum(), left[~group].sum()), (years[group].sum(), years[~group].sum()))

    split = log_rate_ratio((left[ever].sum(), left[~ever].sum()), (after.sum(), years.sum() - after.sum()))
    return by(ever), split, by(early)


def test_a_product_measured_at_the_end_gives_immortal_time():
    every = [cards(seed) for seed in range(1, 21)]
    judge([e[0] for e in every], [e[1] for e in every], 0.0, -1, 20)
    assert unbiased([e[2] for e in every], 0.0)  # nobody waits for a card held at entry


# --- targeted campaigns -----------------------------------------------------------------------------------------------


def targeted(seed, changes=None):
    """Retention of those targeted less the others': plain, and within cells of what steered the campaign."""
    s = Settings(customers=10 * 1024, seed=seed, changes=changes or {})
    f = simulated.frames(s, ["customers", "contacts", "holdings", "service"])
    contacts = f["contacts"].query("campaign_id == 'target'")
    day = contacts["contacted_on"].iloc[0]
    c = f["customers"].set_index("customer_id")
    c = c[(c["acquired_on"] < day) & ~(c["left_on"] <= day) & (c["consent_marketing"] == "yes")]
    treated = c.index.isin(contacts["customer_id"])
    stayed = ~(c["left_on"] <= day + pd.DateOffset(months=12)).to_numpy()
    h = f["holdings"].query("opened_on <= @day and not closed_on < @day").groupby("customer_id").size()
    unmet = f["service"].query("kind == 'complaint' and not resolved")
    unmet = unmet[(unmet["occurred_on"] < day) & (unmet["occurred_on"] >= day - pd.DateOffset(months=12))]
    cell = pd.DataFrame(
        {
            "families": h.reindex(c.index).clip(upper=4).to_numpy(),
            "unmet": c.index.isin(unmet["customer_id"]),
            "recent": ((day - c["acquired_on"]).dt.days < 3 * 365.25).to_numpy(),
            "third_tier": (c["city_tier"] == 3).to_numpy(),
        }
    )
    frame = cell.assign(treated=treated, stayed=stayed.astype(float))
    a, b = frame.loc[treated, "stayed"], frame.loc[~treated, "stayed"]
    plain = a.mean() - b.mean(), np.sqrt(a.var() / len(a) + b.var() / len(b))
    g = frame.groupby([*cell.columns, "treated"])["stayed"].agg(["mean", "size"]).unstack("treated").dropna()
    weight = g["size"][True] / g["size"][True].sum()
    within = (weight * (g["mean"][True] - g["mean"][False])).sum()
    p = g["mean"].clip(0.01, 0.99)
    variance = p * (1 - p) / g["size"]
    return plain, (within, np.sqrt((weight**2 * variance.sum(axis=1)).sum()))


@functools.cache
def targeted_truth():
    return simulated.truth(Settings())["estimands"]["campaign.targeted.retention_12m"]


def test_targeted_campaigns_look_harmful():
    both = [targeted(seed) for seed in range(1, HEAVY + 1)]
    judge([b[0] for b in both], [b[1] for b in both], targeted_truth(), -1, HEAVY)
    truth = simulated.truth(Settings())
    limit, error = (truth[k]["campaign.targeted.naive.retention_12m"] for k in ("estimands", "error"))
    assert limit < -5 * error  # harmful, not just weaker, ...
    assert unbiased([b[0] for b in both], limit)  # ... which is what the seeds show
    assert targeted_truth() > 0


def test_a_campaign_at_random_needs_no_adjustment():
    changes = {"target_slope": 0.0}
    truth = simulated.truth(Settings(customers=10, changes=changes))["estimands"]["campaign.targeted.retention_12m"]
    assert unbiased([targeted(seed, changes)[0] for seed in range(1, HEAVY + 1)], truth)


# --- completers only --------------------------------------------------------------------------------------------------


def satisfaction(seed, changes=None):
    """Mean of the satisfaction items in the first wave: of those who answered, and weighted by what accounts show."""
    s = Settings(customers=8 * 1024, seed=seed, world="mar_response", changes={"survey_share": 1.0} | (changes or {}))
    f = simulated.frames(s, ["survey", "service", "monthly", "customers"])
    v = f["survey"]
    wave = v["wave_on"].min()
    v = v[v["wave_on"] == wave].set_index("customer_id")
    month = wave.replace(day=1)
    complaints = f["service"].query("kind == 'complaint'")
    complaints = complaints[
        (complaints["occurred_on"] < month) & (complaints["occurred_on"] >= month - pd.DateOffset(months=6))
    ]
    m = f["monthly"]
    balance = m[m["month"] == month - pd.DateOffset(months=1)].set_index("customer_id")["balance"].reindex(v.index)
    age = 2021 - f["customers"].set_index("customer_id")["birth_year"].reindex(v.index)
    cell = [
        v.index.isin(complaints["customer_id"]),
        (balance >= s.parameters.vip_threshold).to_numpy(),
        (age // 10).to_numpy(),
    ]
    answered = v["responded"].to_numpy(bool)
    weight = 1 / pd.Series(answered, index=v.index).astype(float).groupby(cell).transform("mean").to_numpy()[answered]
    y = v.loc[answered, [f"satisfaction_{i}" for i in range(1, 5)]].mean(axis=1).to_numpy()
    mean = (weight * y).sum() / weight.sum()
    se = np.sqrt((weight**2 * (y - mean) ** 2).sum()) / weight.sum()
    return (y.mean(), y.std(ddof=1) / np.sqrt(len(y))), (mean, se)


@functools.cache
def satisfaction_truth():
    """Mean over everybody invited in the first wave: a large draw in which all answer."""
    changes = {"survey_share": 1.0, "response": 1 - 1e-9, "response_complaint": 0, "response_vip": 0, "response_age": 0}
    means = []
    for seed in (501, 502):
        s = Settings(customers=24 * 1024, seed=seed, world="mar_response", changes=changes)
        v = simulated.frames(s, ["survey"])["survey"]
        first = v[v["wave_on"] == v["wave_on"].min()]
        means.append(first[[f"satisfaction_{i}" for i in range(1, 5)]].mean(axis=1).mean())
    return float(np.mean(means))


def test_completers_only_satisfaction_is_too_high():
    both = [satisfaction(seed) for seed in range(1, HEAVY + 1)]
    judge([b[0] for b in both], [b[1] for b in both], satisfaction_truth(), +1, HEAVY)


def test_response_at_random_needs_no_weights():
    off = {"response_complaint": 0.0, "response_vip": 0.0, "response_age": 0.0}
    assert unbiased([satisfaction(seed, off)[0] for seed in range(1, HEAVY + 1)], satisfaction_truth())


# --- reverse causation ------------------------------------------------------------------------------------------------


def balance_slope(seed, lag, world="baseline"):
    """Log hazard ratio of a halved balance (against a year before), read ``lag`` months before the month at risk."""
    s = Settings(customers=2048, seed=seed, world=world)
    f = simulated.frames(s, ["customers", "monthly"])
    wide = (
        f["monthly"]
        .pivot_table(index="customer_id", columns="month", values="balance")
        .reindex(columns=sorted(f["monthly"]["month"].unique()))
    )
    b = np.log(wide.to_numpy().clip(1))
    left = f["customers"].set_index("customer_id").reindex(wide.index)
    gone = left["left_on"].where(left["exit_cause"] == "voluntary")
    exit_month = ((gone.dt.year - 2021) * 12 + gone.dt.month - 1).to_numpy()
    fell, exits = [], []
    for m in range(12 + lag, b.shape[1]):
        there = ~np.isnan(b[:, m]) & ~np.isnan(b[:, m - lag - 12])
        fell.append((b[there, m - lag] - b[there, m - lag - 12]) < -0.5)
        exits.append(exit_month[there] == m)
    fell, exits = np.concatenate(fell), np.concatenate(exits)
    events = exits[fell].sum() + 0.5, exits[~fell].sum() + 0.5
    return log_rate_ratio(events, (fell.sum(), (~fell).sum()))


@pytest.mark.parametrize(("lag", "misleads"), [(1, True), (4, False)])
def test_balances_that_run_down_before_leaving_mislead_at_short_lags(lag, misleads):
    """The balance has no effect of its own: with a lag longer than the run-down of three months nothing is left."""
    found = [balance_slope(seed, lag) for seed in range(1, 7)]
    z = np.array([v / se for v, se in found])
    assert (z > 3).all() if misleads else np.abs(z).mean() < 2
