"""Notebook 06: who leaves after entry, trends, and what relations do, against planted truth and statsmodels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch import ledger
from crmresearch.errors import Missing
from crmresearch.rules import rules
from crmresearch.studies import competition


def left(after, before=Missing("not seen")):  # noqa: B008
    return competition.leaving({"after": after, "before": before}, window_months=24)


def grown(stays, markets, winning=Missing("no prospects")):  # noqa: B008
    return competition.trend(stays, {"winning": winning, "markets": markets})


# --- exits ------------------------------------------------------------------------------------------------------------


def counted(rng, effect=0.0, other=0.0, run_down=0.0, n=400, places=20):
    """Draw exits of high-value and other customers in entered places, and at the same dates where none came."""
    rows = []
    for city in range(places):
        entered = city % 2 == 0
        for date in [24_000 + city % 5] if entered else range(24_000, 24_005):
            place = rng.normal() * 0.02  # what a place shares
            for high, at_risk in ((True, n // 4), (False, n)):
                rate = 0.12 - 0.02 * high + place + entered * (other + effect * high) + run_down * high
                exits = rng.binomial(at_risk, rate)
                rows.append((city, entered, date, high, at_risk, exits, at_risk * 24 - 12 * exits))
    return pd.DataFrame(rows, columns=["city", "entered", "date", "high", "n", "exits", "exposure"])


@pytest.mark.parametrize("effect", [0.0, 0.08])
def test_planted_differences_are_covered(effect):
    hits = []
    for seed in range(100):
        frame = counted(np.random.default_rng(seed), effect, other=0.03)
        e = left(frame).finding("S46")
        hits.append(e.ci_low <= effect <= e.ci_high)
    assert np.mean(hits) > 0.88


def test_ratio_and_difference_are_those_of_the_counts():
    frame = counted(np.random.default_rng(1), 0.05)
    frame = frame[frame["date"] == 24_000]  # one date: pooled rates
    frame = pd.concat([frame.assign(city=frame["city"] + 100 * k) for k in range(4)])
    found = left(frame)
    s = frame.groupby(["entered", "high"])[["n", "exits", "exposure"]].sum()
    p, rate = s["exits"] / s["n"], s["exits"] / s["exposure"]
    want = (p[True, True] - p[True, False]) - (p[False, True] - p[False, False])
    assert found.finding("S46").value == pytest.approx(want)
    want = (rate[True, True] / rate[True, False]) / (rate[False, True] / rate[False, False])
    assert found.finding("S46a").value == pytest.approx(want)
    for line in ("S46", "S46a"):
        ledger.checked(line, found.finding(line))


def test_groups_that_part_before_entry_close_the_gate():
    rng = np.random.default_rng(2)
    after = counted(rng, 0.08)
    status = {}
    for name, before in (("alike", counted(rng)), ("parted", counted(rng, 0.15))):
        status[name] = left(after, before).finding("S46").checks[0].status
    assert status == {"alike": "open", "parted": "closed"}


@pytest.mark.parametrize("least", [10, 50, 200])
def test_exits_of_few_are_told_by_no_share(least, monkeypatch):
    frame = counted(np.random.default_rng(4))
    fewest = frame.groupby(["entered", "high"])["exits"].sum().min()
    monkeypatch.setattr(rules, "least", least)
    found = left(frame)
    assert found.applicable == (fewest >= least)
    assert 50 < fewest < 200
    if found.applicable:
        assert found.table["exits"].min() == fewest


@pytest.mark.parametrize("few", [
    lambda f: f[f["city"] < 5], lambda f: f[~f["entered"]], lambda f: f.assign(exits=f["exits"].where(~f["high"], 0)),
])  # fmt: skip
def test_too_few_places_or_exits_are_not_applicable(few):
    frame = few(counted(np.random.default_rng(3)))
    assert not left(frame).applicable


# --- trends -----------------------------------------------------------------------------------------------------------


def risk(rng, trend=0.0, rivals=0.0, season=0.3, shock=0.0):
    """Draw exits by place, month and year of tenure; rivals come one a year in half of the places."""
    city, month, year = (a.ravel() for a in np.indices((20, 60, 6)))
    markets = pd.DataFrame({"city": city, "month": month, "rivals": (city % 2) * (month // 12), "tier": 3})
    log = trend * month / 12 + season * np.cos(month % 12 / 12 * 2 * np.pi) - 0.1 * year
    log = log + rivals * np.log1p(markets["rivals"]) + shock * rng.normal(size=60)[month]
    n = rng.integers(40, 60, len(city))
    stays = markets.drop(columns=["rivals", "tier"]).assign(
        year=year, at_risk=n, exits=rng.poisson(n * 0.01 * np.exp(log))
    )
    return stays, markets.drop_duplicates()


@pytest.mark.parametrize(("trend", "shock"), [(0.0, 0.0), (0.08, 0.0), (0.05, 0.15)])
def test_planted_trends_are_covered_with_season_and_shocks(trend, shock):
    hits = []
    for seed in range(60):
        stays, markets = risk(np.random.default_rng(seed), trend, shock=shock)
        e = grown(stays, markets).finding("S01")
        hits.append(e.ci_low <= trend <= e.ci_high)
    assert np.mean(hits) > 0.86


def test_what_rivals_explain_is_gone_when_they_are_held():
    stays, markets = risk(np.random.default_rng(5), rivals=0.8)
    found = grown(stays, markets)
    assert found.finding("S01").ci_low > 0.05
    held = found.finding("S01b")
    assert held.ci_low < 0 < held.ci_high
    assert isinstance(found.finding("S01a"), Missing)


def test_the_trend_is_a_poisson_regression_of_statsmodels():
    import statsmodels.formula.api as smf

    stays, markets = risk(np.random.default_rng(6), 0.05)
    model = smf.poisson("exits ~ I(month / 12) + C(month % 12) + C(year)", stays, exposure=stays["at_risk"])
    want = model.fit(disp=0, cov_type="cluster", cov_kwds={"groups": stays["month"], "use_correction": False})
    found = grown(stays, markets).finding("S01")
    assert found.value == pytest.approx(want.params["I(month / 12)"], rel=1e-6)
    assert found.se >= want.bse["I(month / 12)"] * 0.999


def test_cost_per_win_grows_as_planted():
    rng, month = np.random.default_rng(7), np.arange(60)
    spend = 1000 * np.exp(0.1 * rng.normal(size=60))
    winning = pd.DataFrame(
        {
            "month": month,
            "spend": spend,
            "squares": spend**2 / 200,
            "won": rng.poisson(0.1 * spend * np.exp(-0.06 * month / 12)),
            "n": 200,
        }
    )
    stays, markets = risk(rng)
    e = grown(stays, markets, winning).finding("S01a")
    assert e.ci_low < 0.06 < e.ci_high
    assert e.ci_high - e.ci_low < 0.08


@pytest.mark.parametrize("few", [lambda s: s[s["month"] < 20], lambda s: s.assign(exits=0)])
def test_short_or_empty_histories_have_no_trend(few):
    stays, markets = risk(np.random.default_rng(8))
    assert not grown(few(stays), markets).applicable


# --- relations --------------------------------------------------------------------------------------------------------


def managed(rng, weaker=0.0, follows=0.0, early=0.0):
    """Draw exits of forty places, most of them entered; intensity weakens entry, and may follow a place's risk."""
    city, month = (a.ravel() for a in np.indices((40, 60)))
    z, risk_of = rng.normal(size=(2, 40))
    z = follows * risk_of + np.sqrt(1 - follows**2) * z
    entered = np.where(np.arange(40) < 30, rng.integers(15, 45, 40), np.inf)
    after = month >= entered[city]
    before = (month >= entered[city] - 12) & ~after
    log = (
        0.3 * risk_of[city]
        + 0.1 * rng.normal(size=60)[month]
        + after * (0.3 + weaker * z[city])
        + before * early * z[city]
    )
    n = rng.integers(400, 600, len(city))
    stays = pd.DataFrame({"city": city, "month": month, "year": month % 3, "at_risk": n})
    stays["exits"] = rng.poisson(n * 0.006 * np.exp(log))
    return stays, pd.DataFrame({"city": city, "month": month, "entered": entered[city], "intensity": 5 + 2 * z[city]})


@pytest.mark.parametrize(("weaker", "follows"), [(0.0, 0.0), (-0.2, 0.0), (-0.2, 0.8)])
def test_planted_weakening_is_covered_also_where_intensity_follows_risk(weaker, follows):
    hits = []
    for seed in range(40):
        stays, markets = managed(np.random.default_rng(seed), weaker, follows)
        sd = markets.groupby("city")["intensity"].first().std(ddof=0) / 2  # one standard deviation of the places drawn
        e = competition.managed(stays, markets).finding("S47")
        hits.append([e.ci_low <= weaker * sd <= e.ci_high, e.checks[0].status == "open"])
    covered, opened = np.mean(hits, axis=0)
    assert covered > 0.82  # Monte-Carlo error .035
    assert opened > 0.9
    ledger.checked("S47", e)


def test_relations_that_act_before_any_rival_comes_close_the_gate():
    e = competition.managed(*managed(np.random.default_rng(1), -0.2, early=-0.4)).finding("S47")
    assert e.checks[0].status == "closed"


@pytest.mark.parametrize("spoil", [
    lambda m: m.assign(intensity=np.nan), lambda m: m.assign(intensity=1.0), lambda m: m.assign(entered=np.inf),
])  # fmt: skip
def test_places_without_intensity_or_entry_have_no_weakening(spoil):
    stays, markets = managed(np.random.default_rng(2))
    assert not competition.managed(stays, spoil(markets)).applicable
