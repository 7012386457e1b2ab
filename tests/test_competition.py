"""Notebook 06: reductions by hand, shares after entry and platforms against planted truth, banks that bring little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch import ledger
from crmresearch.data.reductions import competition as reductions
from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.lab import simulated
from crmresearch.lab.recover import competition as trials
from crmresearch.studies import competition
from crmresearch.studies.competition import rivals

OPTIONS = {"window_months": 24, "resamples": 199, "seed": 1}


def towns(rng, n=60, months=60, effect=-0.03, drift=0.0, always=0):
    """Draw markets of one tier, half of them entered; an effect that builds up over a year, and a drift."""
    entered = np.where(rng.random(n) < 0.5, rng.integers(26, 37, n), np.inf)
    t = np.arange(months)
    since = t - np.where(np.isinf(entered), 1e9, entered)[:, None]
    share = 0.4 + 0.05 * rng.normal(size=(n, 1)) + 0.003 * rng.normal(size=(n, months))
    share += effect * np.clip((since + 1) / 12, 0, 1) + drift * t * np.isfinite(entered)[:, None]
    entered[:always] = -np.inf
    city, month = (a.ravel() for a in np.indices(share.shape))
    columns = {"city": city, "month": 24_000 + month, "tier": 3, "share": share.ravel(), "rivals": since.ravel() >= 0}
    columns |= {"entered": np.repeat(24_000 + entered, months), "region": city, "owner_share": np.nan}
    return pd.DataFrame(columns)


def left(after, before=Missing("not seen")):  # noqa: B008
    return competition.leaving({"after": after, "before": before}, window_months=24)


def grown(stays, markets, winning=Missing("no prospects")):  # noqa: B008
    return competition.trend(stays, {"winning": winning, "markets": markets})


MEAN = -0.03 * np.clip(np.arange(1, 25) / 12, 0, 1).mean()


# --- reductions -------------------------------------------------------------------------------------------------------


def own_bank(tmp_path, **tables):
    from crmresearch.data.bank import open_bank

    for name, frame in tables.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    lines = ["name: own", "currency: EUR", "evidence: simulated", "observation_start: 2020-01-01"]
    lines += ["observation_end: 2021-12-31", "tables:", *(f"  {name}: {name}.csv" for name in tables)]
    (tmp_path / "bank.yaml").write_text("\n".join(lines), "utf-8")
    return open_bank(tmp_path)


def market_rows():
    rows = []
    for city, came in (("a", 5), ("b", None), ("c", 0)):
        for month in range(24):
            branches = 0 if came is None or month < came else 2
            rows.append((city, f"{2020 + month // 12}-{month % 12 + 1:02d}-01", 3, 0.4, branches))
    return pd.DataFrame(rows, columns=["city_id", "month", "tier", "own_share", "rival_branches"])


def test_entry_is_read_from_branches_or_dates_and_starts_with_rivals_are_told_apart(tmp_path):
    frame = reductions.markets(own_bank(tmp_path, markets=market_rows()))
    entered = frame.groupby("city")["entered"].first().tolist()
    assert entered == [2020 * 12 + 5, np.inf, -np.inf]
    assert frame["owner_share"].isna().all()
    assert (frame["region"] == frame["city"]).all()


def test_a_bank_of_markets_alone_knows_nobody(tmp_path, monkeypatch):
    from crmresearch.data import pseudonyms
    from crmresearch.run.people import People

    monkeypatch.setattr(pseudonyms, "key", lambda: b"k" * 32)
    assert len(People.of(own_bank(tmp_path, markets=market_rows()))) == 0


def test_the_date_that_a_bank_gives_goes_before_its_branches(tmp_path):
    rows = market_rows().assign(rival_entered_on="", region_id="north", owner_share=0.3)
    rows.loc[rows["city_id"] == "a", "rival_entered_on"] = "2020-09-15"
    frame = reductions.markets(own_bank(tmp_path, markets=rows))
    assert frame.groupby("city")["entered"].first().tolist() == [2020 * 12 + 8, np.inf, -np.inf]
    assert frame["region"].nunique() == 1
    assert (frame["owner_share"] == 0.3).all()


@pytest.mark.parametrize(
    ("marks", "entered"),
    [
        ({"a": 1, "b": 0, "c": 1}, [-np.inf, np.inf, -np.inf]),  # what the branches of the first come to is not all
        ({"a": 0, "b": 0, "c": 0}, [2020 * 12 + 5, np.inf, 2020 * 12]),  # rivals came to the last in the first month
        ({"a": "", "b": 1, "c": ""}, [2020 * 12 + 5, -np.inf, -np.inf]),  # where nothing is said, branches tell
        ({"a": 0, "b": "", "c": 1}, [2020 * 12 + 5, np.inf, -np.inf]),
    ],
)
def test_the_mark_of_a_bank_says_where_rivals_were_from_the_start(tmp_path, marks, entered):
    rows = market_rows()
    frame = reductions.markets(own_bank(tmp_path, markets=rows.assign(always_treated=rows["city_id"].map(marks))))
    assert frame.groupby("city")["entered"].first().tolist() == entered


def test_a_mark_in_some_months_is_one_of_the_place(tmp_path):
    rows = market_rows().assign(always_treated=0)
    rows.loc[(rows["city_id"] == "a") & (rows.index == 3), "always_treated"] = 1
    frame = reductions.markets(own_bank(tmp_path, markets=rows))
    assert frame.groupby("city")["entered"].first().tolist() == [-np.inf, np.inf, 2020 * 12]


def people(joined, left, city="a", seen=None):
    columns = {"customer_id": [f"k{i}" for i in range(len(joined))], "acquired_on": joined, "left_on": left}
    return pd.DataFrame(columns | {"city_id": city} | ({} if seen is None else {"observed_from": seen}))


def test_months_at_risk_and_exits_are_counted_by_hand(tmp_path):
    customers = people(["2019-06-10", "2020-01-20", "2020-03-01", "2021-12-05"], ["2020-02-03", "", "2020-03-20", ""])
    t = reductions.stays(own_bank(tmp_path, customers=customers, markets=market_rows()))
    by_month = t.groupby("month")[["at_risk", "exits"]].sum()
    # the first is there in January and leaves in February; the second from February on; the third leaves in the month
    # of the acquisition and the fourth comes in the last month: neither is ever at risk
    assert by_month["at_risk"].tolist() == [1, 2, *[1] * 22]
    assert by_month["exits"].tolist() == [0, 1, *[0] * 22]
    assert t.loc[t["month"] == 2021 * 12 + 11, "year"].tolist() == [1]
    assert set(t["city"]) == {0}


def test_exits_after_entry_are_counted_by_hand(tmp_path):
    """Two of ten in a place that is entered leave, one of high value; where none came, dates are those of the other."""
    entered = people(["2018-01-01"] * 10, ["", "2021-02-10", "2021-03-10", *[""] * 7], "a")
    never = people(["2018-01-01"] * 10, ["2020-01-15", *[""] * 9], "b").assign(
        customer_id=lambda d: "n" + d.customer_id
    )
    customers = pd.concat([entered, never])
    rows = market_rows()
    rows.loc[(rows["city_id"] == "a"), "rival_branches"] = [0] * 13 + [1] * 11  # from February 2021
    months = [f"2020-{m:02d}-01" for m in range(1, 13)]
    seen = {"nk0": months[:1]}
    balance = {k: 100.0 * i for i, k in enumerate(customers["customer_id"])} | {"k1": 99_999.0}
    rows_of = [(k, m, v) for k, v in balance.items() for m in seen.get(k, months)]
    monthly = pd.DataFrame(rows_of, columns=["customer_id", "month", "balance"])
    bank = own_bank(tmp_path, customers=customers, markets=rows, monthly=monthly)
    t = reductions.after_entry(bank, window=6, before=12, best=0.2).set_index(["entered", "high"])
    assert t["date"].unique().tolist() == [2021 * 12 + 1]
    assert t["n"].groupby("entered").sum().tolist() == [9, 10]  # one had left before the date
    assert t.loc[(True, True), ["n", "exits", "exposure"]].tolist() == [1, 1, 0.5]
    assert t.loc[(True, False), ["n", "exits", "exposure"]].tolist() == [9, 1, 8 * 6 + 1.5]
    assert t.loc[False, "exits"].sum() == 0
    assert isinstance(reductions.after_entry(bank, window=12), Missing)  # not seen so long
    assert isinstance(reductions.after_entry(bank, window=6, before=14), Missing)  # no balance is so old


def test_income_and_wins_are_summed_by_place_and_month(tmp_path):
    customers = pd.concat(
        [people(["2018-01-01"] * 2, ["", ""], "a"), people(["2018-01-01"], [""], "b").assign(customer_id="x")]
    )
    monthly = pd.DataFrame(
        {
            "customer_id": ["k0", "k1", "x"],
            "month": "2020-05-01",
            "balance": 1.0,
            "net_interest": [1.5, 2, 4],
            "fees": 1.0,
        }
    )
    prospects = pd.DataFrame(
        {
            "prospect_id": ["p", "q"],
            "channel": "x",
            "first_contact_on": ["2020-05-02", "2020-05-30"],
            "spend": [10.0, 5.0],
            "won": [1, 0],
        }
    )
    bank = own_bank(tmp_path, customers=customers, markets=market_rows(), monthly=monthly, prospects=prospects)
    assert reductions.income(bank)[["income", "n"]].to_numpy().tolist() == [[5.5, 2], [5.0, 1]]
    assert reductions.winning(bank)[["spend", "won", "n"]].to_numpy().tolist() == [[15.0, 1, 2]]


# --- shares -----------------------------------------------------------------------------------------------------------


def test_planted_losses_are_covered():
    hits = []
    for seed in range(60):
        e = competition.entry(towns(np.random.default_rng(seed)), **OPTIONS).finding("S45")
        hits.append([e.ci_low <= MEAN <= e.ci_high, all(c.status == "open" for c in e.checks)])
    covered, opened = np.mean(hits, axis=0)
    assert covered > 0.88
    assert opened > 0.9
    ledger.checked("S45", e)


def test_a_trend_before_entry_closes_the_gate_and_widens_the_bound():
    frame = towns(np.random.default_rng(3), effect=0.0, drift=-0.002)
    found = competition.entry(frame, **OPTIONS)
    e = found.finding("S45")
    assert e.ci_high < 0  # it looks like an effect
    assert {c.name: c.status for c in e.checks}["trends that go on to differ"] == "closed"
    rows = found.table.set_index("reading")
    assert rows.loc["trends may differ by two moves", "high"] > 0
    assert rows.loc["years after less the year before", "high"] < 0


@pytest.mark.parametrize(("drift", "status"), [(-0.001, "open"), (-0.0025, "declared"), (-0.005, "closed")])
def test_an_entry_that_trends_before_it_would_undo_is_not_told(drift, status):
    found = competition.entry(towns(np.random.default_rng(3), drift=drift), **OPTIONS).finding("S45")
    assert found.checks[0].status == status


@pytest.mark.parametrize("step", [3, 12])
def test_quarters_and_years_serve_as_well_as_months(step):
    frame = towns(np.random.default_rng(4), n=200)
    coarse = frame[(frame["month"] - 24_000) % step == 0]
    e = competition.entry(coarse, **OPTIONS).finding("S45")
    assert e.ci_low < e.value < e.ci_high < -0.01


def test_places_with_rivals_from_the_start_or_gaps_are_left_out_and_told():
    frame = towns(np.random.default_rng(5), always=3)
    whole = competition.entry(frame, **OPTIONS)
    assert "3 had rivals from the start" in whole.sentence
    holes = competition.entry(frame.drop(frame.index[-5:]), **OPTIONS)
    assert "1 places are not seen in every period" in holes.sentence
    rest = competition.entry(frame[frame["city"] >= 3], **OPTIONS)
    assert rest.finding("S45").value == whole.finding("S45").value


@pytest.mark.parametrize("spoil", [
    lambda f: f.assign(entered=np.inf), lambda f: f.assign(entered=-np.inf), lambda f: f[f["month"] < 24_030],
    lambda f: f.assign(entered=24_030.0), lambda f: f[f["month"] == 24_000],
])  # fmt: skip
def test_markets_without_an_entry_or_a_comparison_are_not_applicable(spoil):
    frame = spoil(towns(np.random.default_rng(6)))
    assert not competition.entry(frame, **OPTIONS).applicable


def test_a_month_whose_share_nobody_knows_moves_no_entry():
    frame = towns(np.random.default_rng(5))
    told = frame["month"] != 24_010
    blank, without = frame.assign(share=frame["share"].where(told)), frame[told]
    for study, options in ((competition.entry, OPTIONS), (competition.cohorts, {"window_months": 24})):
        pd.testing.assert_frame_equal(study(blank, **options).table, study(without, **options).table)


def test_cohorts_average_to_the_mean_effect():
    frame = towns(np.random.default_rng(7))
    table = competition.cohorts(frame, window_months=24).table
    mean = np.average(table["effect"], weights=table["places entered"])
    assert mean == pytest.approx(competition.entry(frame, **OPTIONS).finding("S45").value, abs=1e-12)


# --- platforms --------------------------------------------------------------------------------------------------------


def test_payments_of_the_year_before_are_counted_by_hand(tmp_path):
    """Four payments of the first leave in 2021, one in four to a platform; the second pays to none and stays."""
    customers = people(["2019-01-05"] * 2, ["2021-08-15", ""])
    days = ["2020-01-15", "2020-04-15", "2020-08-15", "2020-11-15"]
    rows = [("k0", day, to, "out") for day, to in zip(days, ("platform", "bank", "bank", "own"), strict=True)]
    rows += [("k1", day, "bank", "out") for day in days] + [("k1", days[0], "platform", "in")]
    paid = pd.DataFrame(rows, columns=["customer_id", "occurred_on", "counterparty", "direction"]).assign(amount=5.0)
    bank = own_bank(tmp_path, customers=customers, transactions=paid)
    t = reductions.payments(bank, lag=1).set_index(["quarter", "share"])
    first = 2021 * 4 + 1  # a whole year of payments ends a quarter before April 2021
    assert t.index.get_level_values("quarter").min() == first
    assert t.loc[(first, 0.25), ["n", "exits"]].tolist() == [1, 0]
    assert t.loc[(first, 0.0), ["n", "exits"]].tolist() == [1, 0]
    third = t.loc[first + 1].sum()  # January's payment to the platform is older than a year by then
    assert third[["n", "exits"]].tolist() == [2, 1]
    assert t.loc[first + 1].index.tolist() == [0.0]
    assert reductions.payments(bank, lag=0)["quarter"].min() == first - 1
    assert isinstance(reductions.payments(bank, lag=9), Missing)


def paying(rng, effect=0.07, n=250):
    frame = pd.MultiIndex.from_product(
        [range(12), range(5), np.arange(0, 0.65, 0.05)], names=["quarter", "year", "share"]
    )
    frame = frame.to_frame(index=False).assign(n=n)
    log = effect * frame["share"] / 0.1 - 0.1 * frame["year"] + 0.1 * rng.normal(size=12)[frame["quarter"]]
    return frame.assign(exits=rng.poisson(n * 0.015 * np.exp(log)))


@pytest.mark.parametrize("effect", [0.0, 0.07])
def test_planted_ratios_are_covered(effect):
    hits = []
    for seed in range(60):
        frame = paying(np.random.default_rng(seed), effect)
        e = competition.platforms({"earlier": frame, "until": Missing("not seen")}).finding("S17")
        hits.append(e.ci_low <= np.exp(effect) <= e.ci_high)
    assert np.mean(hits) > 0.86
    ledger.checked("S17", e)


@pytest.mark.parametrize("few", [lambda f: f.assign(exits=0), lambda f: f.assign(share=0.0)])
def test_payments_without_exits_or_differences_are_not_applicable(few):
    frame = few(paying(np.random.default_rng(1)))
    assert not competition.platforms({"earlier": frame, "until": frame}).applicable
    assert not competition.platforms({"earlier": Missing("no payments"), "until": frame}).applicable


def test_leaning_to_platforms_is_found_where_it_is_planted_and_relations_weaken_entry():
    """One bank of the world with both: more leave with platforms, fewer where relations are kept."""
    bank = simulated.bank(simulated.Settings(20_000, seed=3, world="wider"), ["customers", "markets", "transactions"])
    run = {e.name: e.run for e in trials.ESTIMATORS}
    assert run["platforms"](bank)["S17"].ci_low > 1
    assert run["managed"](bank)["S47"].ci_high < 0
    bank.engine.close()


# --- banks ------------------------------------------------------------------------------------------------------------


def test_the_simulated_banks_loss_is_found_and_nothing_where_nothing_is_lost():
    """Truth in closed form; 20 seeds of each world (the share takes no customers)."""
    hits, false = [], []
    for world, kept in (("baseline", hits), ("null", false)):
        settings = simulated.Settings(200, world=world)
        truth = trials.planted({"world": world, "months": settings.months})["S45"]
        for seed in range(1, 21):
            bank = simulated.bank(simulated.Settings(200, seed=seed, world=world), ["markets"])
            e = trials.ESTIMATORS[0].run(bank)["S45"]
            kept.append([e.ci_low <= truth <= e.ci_high, e.ci_high < -0.001])
    assert np.mean(hits, axis=0)[0] > 0.7
    assert np.mean(hits, axis=0)[1] == 1.0
    assert np.mean(false, axis=0)[1] < 0.15


def test_entry_lowers_the_share_of_old_locations_on_real_banks(open_data):
    """FDIC deposits: two to three points; shares by owner fall twice as far, by mergers alone."""
    frame = reductions.markets(open_data("fdic-sod-county"))
    found = competition.entry(frame, window_months=24, resamples=999, seed=1)
    e = found.finding("S45")
    assert e.value == pytest.approx(-0.0262, abs=5e-4)
    assert e.ci_high < -0.02
    rows = found.table.set_index("reading")["effect"]
    assert rows["naive: by owner, mergers included"] < -0.045
    assert {c.name: c.status for c in e.checks} == {
        "trends that go on to differ": "open",
        "dates that nobody had": "open",
    }
    assert found.table.set_index("reading").loc["trends may differ by two moves", "high"] < -0.005


def test_every_line_of_the_small_bank_is_known_to_the_register(small_bank):
    markets = reductions.markets(small_bank)
    results = [
        competition.entry(markets, **OPTIONS),
        competition.income(markets, reductions.income(small_bank), **OPTIONS),
        left(reductions.after_entry(small_bank, window=24)),
        grown(reductions.stays(small_bank), markets, reductions.winning(small_bank)),
    ]
    for result in results:
        for line, found in result.estimates.items():
            if isinstance(found, Estimate):
                ledger.checked(line, found)


def test_a_bank_without_the_tables_says_so(open_data):
    bank = open_data("cdnow-sample")
    for frame in (reductions.markets(bank), reductions.income(bank), reductions.after_entry(bank, window=24)):
        assert isinstance(frame, Missing)
    assert not competition.entry(reductions.markets(bank), **OPTIONS).applicable


def test_bounds_beside_trends_are_those_of_the_register():
    known = ledger.lines()
    assert {"share": known["S45"].bound.at, "income": known["S45a"].bound.at} == rivals.BOUNDS
