"""Branches: the panel by hand, conversion and waiting against planted truth, gates, banks that bring little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from conftest import lacking
from crmresearch import ledger
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import service as reductions
from crmresearch.errors import Missing
from crmresearch.estimators.causal.panels import seen_whole
from crmresearch.lab import simulated
from crmresearch.lab.simulated import draws
from crmresearch.studies import service

OPTIONS = {"window_quarters": 8, "resamples": 199, "seed": 1}
TABLES = ["customers", "branches", "pulse", "service"]
BUILT = np.clip(np.arange(1, 9) / 4, 0, 1).mean()  # of a conversion's effect, over eight quarters


def bank(world, seed=3, customers=20_000, **changes):
    return simulated.bank(simulated.Settings(customers, 60, seed, world, changes), TABLES)


@pytest.fixture(scope="module")
def panels():
    worlds = ("wider", "selected_conversion", "load_lowers_quality")
    return {world: reductions.branch_quarters(bank(world)) for world in worlds}


@pytest.fixture(scope="module")
def planted():
    s = simulated.Settings(seed=1, world="wider")
    return {**draws.limits(s, 6)[0], **simulated.estimands.parameter_estimands(s)}


def cells(rng, n=60, quarters=20, effect=0.2, drift=0.0, slope=0.1, rated=0.0, noise=0.0):
    """Draw branches whose satisfaction a conversion raises over a year, and whose exits and answers follow waiting."""
    first = np.where(rng.random(n) < 0.8, rng.integers(4, 13, n), 99)
    load = rng.normal(size=(n, quarters)) * 5
    since = np.arange(quarters) - first[:, None]
    answer = 4 + 0.1 * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, quarters))
    answer = answer + effect * np.clip((since + 1) / 4, 0, 1)
    answer = answer - drift * (np.minimum(first, quarters)[:, None] - 10) / 5 * np.arange(quarters) / 4 - 0.02 * load
    row, quarter = (a.ravel() for a in np.indices(load.shape))
    return pd.DataFrame({
        "branch": row, "quarter": 8_000 + quarter, "converted": np.where(first < 99, 8_000.0 + first, np.inf)[row],
        "at_risk": 300, "exits": rng.poisson(3 * np.exp(slope * load.ravel() / 10)), "visits": 40,
        "wait": 20 + load.ravel() + np.sqrt(noise) * rng.normal(size=load.size), "noise": noise,
        "answers": 10, "satisfaction": answer.ravel(),
        "quality": 4 + 0.3 * rng.normal(size=load.size) + rated * load.ravel() / 10,
    })  # fmt: skip


# --- reduction --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_panel_is_that_of_the_tables_by_hand(seed):
    s = simulated.Settings(400, 21, seed, "wider")
    frames = simulated.frames(s, TABLES)
    found = reductions.branch_quarters(simulated.bank(s, TABLES))
    people = frames["customers"]  # a simulated bank in memory is not asked for consent again
    names = sorted(frames["branches"]["branch_id"])
    home = people.set_index("customer_id")["branch_id"].map(names.index)
    assert len(found) == 180 * 7
    number = {q: k for k, q in enumerate(pd.period_range("2021Q1", "2022Q3", freq="Q"))}

    def counted(frame, day, column):
        got = frame.dropna(subset=[column])
        keys = [home.loc[got["customer_id"]].to_numpy(), got[day].dt.to_period("Q").map(number).to_numpy()]
        return got.groupby(keys)[column].agg(["size", "mean"])

    one = found.assign(quarter=found["quarter"] - 2021 * 4).set_index(["branch", "quarter"])
    for table, day, column, (size, mean) in (
        ("service", "occurred_on", "wait_minutes", ("visits", "wait")),
        ("pulse", "asked_on", "satisfaction", ("answers", "satisfaction")),
    ):
        hand = counted(frames[table], day, column)
        got = one.loc[hand.index]
        assert (got[size] == hand["size"]).all()
        scale = frames[table][column].std(ddof=0) if table == "pulse" else 1
        np.testing.assert_allclose(got[mean], hand["mean"] / scale)
        assert one[size].sum() == hand["size"].sum()
    month = people["left_on"].dt.to_period("M")
    start, at_risk = pd.Period("2021-01", "M"), np.zeros((180, 21))
    exits = np.zeros((180, 21))
    for i, row in people.iterrows():
        seen = row["observed_from"].to_period("M")
        first = max((seen - start).n + (row["observed_from"].day > 1), 0)
        last = (month[i] - start).n if pd.notna(row["left_on"]) else 21
        branch = names.index(row["branch_id"])
        at_risk[branch, first : last + 1] += 1
        if row["exit_cause"] == "voluntary" and first <= last:
            exits[branch, last] += 1
    for name, hand in (("at_risk", at_risk), ("exits", exits)):
        np.testing.assert_array_equal(found[name].fillna(0), hand.reshape(180, 7, 3).sum(axis=2).ravel())


@pytest.mark.parametrize(
    ("start", "quarter"),
    [("2021-01-01", 1), ("2021-01-15", 2), ("2021-02-15", 2), ("2021-03-31", 2), ("2021-04-01", 2), ("2021-04-02", 3)],
)
def test_every_quarter_that_is_seen_whole_is_told(start, quarter):
    s = simulated.Settings(100, 21, 1, "wider")
    about = simulated.about(s) | {"observation_start": pd.Timestamp(start).date()}
    found = reductions.branch_quarters(Bank.from_frames(simulated.frames(s, TABLES), about, checked=False))
    assert found["quarter"].min() == 2021 * 4 + quarter - 1


@pytest.mark.parametrize("absent", [["branches"], ["customers", "branch_id"], ["customers", "left_on"]])
def test_a_bank_without_branches_or_exits_says_what_it_lacks(absent):
    s = simulated.Settings(200, 21, 1, "wider")
    frames = lacking(simulated.frames(s, TABLES), *absent)
    found = reductions.branch_quarters(Bank.from_frames(frames, simulated.about(s)))
    assert isinstance(found, Missing)
    assert absent[0] in str(found.tables)


@pytest.mark.parametrize("absent", ["pulse", "service", "converted_on"])
def test_what_a_bank_does_not_bring_is_not_told(absent):
    s = simulated.Settings(3_000, 60, 1, "wider")
    frames = simulated.frames(s, TABLES)
    whole = reductions.branch_quarters(Bank.from_frames(frames, simulated.about(s)))
    less = lacking(frames, *([absent] if absent in frames else ["branches", absent]))
    found = reductions.branch_quarters(Bank.from_frames(less, simulated.about(s)))
    told = {"pulse": "satisfaction", "service": "wait"}.get(absent)
    if told:
        assert found[told].isna().all()
    converted, waited = service.conversion(found, **OPTIONS), service.waiting(found)
    # too few branches are asked in every quarter of so small a bank; without a pulse it says that nobody was asked
    assert converted.sentence == service.conversion(whole, **OPTIONS).sentence or absent == "pulse"
    assert (converted.missing == Missing(service.branches.say("unasked"), ("pulse",))) == (absent == "pulse")
    assert waited.applicable == (absent != "service")
    if absent == "pulse":
        assert set(waited.estimates) == {"S39"}
        assert [c.status for c in waited.estimates["S39"].checks] == ["declared"]  # nobody rated quality


# --- conversion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.0, 0.2, -0.3])
def test_planted_conversion_is_covered(effect):
    hits = []
    for seed in range(40):
        found = service.conversion(cells(np.random.default_rng(seed), effect=effect), **OPTIONS).finding("S29")
        hits.append(found.ci_low <= effect * BUILT <= found.ci_high)
    assert np.mean(hits) > 0.83  # of 95%, 3.5 errors of 40 trials below


def test_conversion_of_the_simulated_bank_is_found_and_is_the_limit(panels, planted):
    result = service.conversion(panels["wider"], **OPTIONS)
    found = result.finding("S29")
    truth = planted["conversion.satisfaction.observed"] * BUILT
    assert found.ci_low > 0.02  # the bound of S29
    assert found.value == pytest.approx(truth, abs=4 * found.se)
    assert found.checks[0].status == "open"
    ledger.checked("S29", found)


def test_trends_that_differ_before_conversion_close_the_gate(panels):
    assert service.conversion(panels["selected_conversion"], **OPTIONS).finding("S29").checks[0].status == "closed"
    for drift, status in ((0.0, "open"), (0.1, "closed"), (-0.1, "closed")):
        frame = cells(np.random.default_rng(1), n=180, drift=drift)
        assert service.conversion(frame, **OPTIONS).finding("S29").checks[0].status == status


@pytest.mark.parametrize(("wild", "status"), [(0.0, "open"), (0.5, "closed"), (-0.5, "closed"), (0.3, "declared")])
def test_what_trends_that_go_on_would_undo_is_not_told(wild, status):
    frame = cells(np.random.default_rng(1), n=180, effect=0.2)
    frame["satisfaction"] += wild * (frame["quarter"] - frame["converted"]).between(-8, -5)  # two years before alone
    result = service.conversion(frame, **OPTIONS)
    checks = {c.name: c.status for c in result.finding("S29").checks}
    assert checks["trends that go on to differ"] == status
    early = result.table.set_index(result.table.columns[0]).loc[service.branches.say.names("rows")["placebo"]]
    assert early.iloc[1] == pytest.approx(-wild, abs=0.06)  # what a conversion a year earlier would have done


@pytest.mark.parametrize(("wild", "status"), [(0.0, "open"), (0.3, "declared"), (1.0, "closed")])
def test_minutes_that_trends_before_would_undo_are_not_told(wild, status):
    frame = cells(np.random.default_rng(1), n=180)
    steps = 5 - 0.75 * (frame["quarter"] >= frame["converted"])
    early = (frame["quarter"] - frame["converted"]).between(-8, -5)  # two years before alone
    noise = np.random.default_rng(2).normal(0, 0.2, (2, len(frame)))
    frame = frame.assign(steps=steps + noise[0], handling=0.6 * steps + wild * early + noise[1])
    cases = pd.DataFrame({"n": 9, "x": [20.0, 25.0], "y": [10.0, 12.0], "xx": 9.0, "xy": [5.0, 6.0], "rows": 30})
    cases = cases.assign(mean_xx=[60.0, 90.0], mean_xy=[30.0, 45.0])
    found = service.handling(frame, cases, window_quarters=8).finding("S55")
    assert {c.name: c.status for c in found.checks}["trends that go on to differ"] == status
    still = service.handling(frame.assign(steps=5 + noise[0]), cases, window_quarters=8)
    assert "a step takes" not in still.sentence  # conversion moves no step: -6.54 minutes [-inf, inf]
    assert "∞" not in str(still)


def test_trends_nobody_saw_are_taken_on_trust():
    frame = cells(np.random.default_rng(1), n=180)
    late = frame[frame["quarter"] >= 8_002].assign(converted=lambda t: t["converted"].clip(upper=8_006))
    checks = service.conversion(late.assign(converted=late["converted"].where(late["branch"] < 150, np.inf)), **OPTIONS)
    assert [c.status for c in checks.finding("S29").checks] == ["open", "declared"]


@pytest.mark.parametrize("effect", [0.0, 0.2, -0.3])
def test_groups_by_year_are_what_the_means_are_made_of(effect):
    frame = cells(np.random.default_rng(4), n=180, effect=effect).assign(handling=np.nan)
    table = service.cohorts(frame, window_quarters=8).table
    first = frame.drop_duplicates("branch")["converted"]
    assert table.groupby("converted")["branches"].first().sum() == np.isfinite(first).sum()
    year = table.groupby("year since conversion")["effect"].mean()
    assert year.index.tolist() == [-2, -1, 1, 2]  # there is no year 0
    np.testing.assert_allclose(year, [0, 0, 0.625 * effect, effect], atol=0.1)
    assert set(table.loc[table["branches"] == (first == 8_005).sum(), "converted"]) >= {"2001-Q2"}


@pytest.mark.parametrize("n", [5, 9, 12])
def test_few_branches_are_not_read(n):
    assert not service.conversion(cells(np.random.default_rng(1), n=n), **OPTIONS).applicable


def test_branches_that_convert_too_late_to_be_followed_do_not_count():
    frame = cells(np.random.default_rng(1), n=60)
    late = (frame["branch"] >= 11) & np.isfinite(frame["converted"])
    frame["converted"] = frame["converted"].mask(late, 8_013)  # seven of twenty quarters are left
    assert frame.loc[late, "branch"].nunique() > 10
    assert not service.conversion(frame, **OPTIONS).applicable


def test_units_seen_whole_make_the_panel():
    y = pd.DataFrame(np.arange(24.0).reshape(6, 4), index=list("abcdef"), columns=[10, 11, 12, 13])
    other = y.copy()
    y.loc["a", 12], other[10] = np.nan, np.nan  # a has a gap; nobody has the other outcome in period 10
    when = pd.Series([12.0, 13.0, np.inf, -np.inf, 99.0, 11.0], index=y.index)
    panels, units, gaps = seen_whole(when, y, other)
    assert (units.tolist(), gaps) == (["b", "c", "e"], 1)  # d always was treated, f from the first period on
    for panel in panels:
        assert panel.first.tolist() == [2, np.inf, np.inf]
        assert panel.values.tolist() == y.loc[units, [11, 12, 13]].to_numpy().tolist()
    assert seen_whole(when.where(when.isin([11, -np.inf]), np.inf), y, other)[0] == []
    assert seen_whole(when, y * np.nan)[0] == []


def test_branches_not_asked_in_a_quarter_are_left_out_and_counted():
    frame = cells(np.random.default_rng(2))
    frame.loc[(frame["branch"] < 3) & (frame["quarter"] == 8_004), "satisfaction"] = np.nan
    assert "3 branches were not asked in every quarter" in service.conversion(frame, **OPTIONS).sentence


# --- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "noise"), [(0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.3, 6.0), (0.2, 12.0)])
def test_planted_waiting_is_covered_also_where_few_visits_tell_of_it(slope, noise):
    hits = []
    for seed in range(25):
        result = service.waiting(cells(np.random.default_rng(seed), slope=slope, noise=noise))
        found, answers = result.finding("S39"), result.finding("S51")
        hits.append([found.ci_low <= np.exp(-slope) <= found.ci_high, answers.ci_low <= -0.2 <= answers.ci_high])
    assert (np.mean(hits, axis=0) >= 0.8).all()  # of 95%, 3.4 errors of 25 trials below


def test_waiting_of_the_simulated_bank_is_found_and_is_the_limit(panels, planted):
    result = service.waiting(panels["wider"])
    found, answers = result.finding("S39"), result.finding("S51")
    truth = np.exp(planted["waiting.exit.ten_minutes_less.log_hr"])
    assert found.ci_low <= truth <= found.ci_high
    assert answers.ci_high < -0.02  # the bound of S51
    assert answers.value == pytest.approx(planted["waiting.satisfaction.by_load.observed"], abs=3 * answers.se)
    for line, one in (("S39", found), ("S51", answers)):
        assert one.checks[0].status == "open"
        ledger.checked(line, one)


def test_load_that_moves_quality_closes_the_gate(panels):
    assert service.waiting(panels["load_lowers_quality"]).finding("S39").checks[0].status == "closed"
    for rated, status in ((0.0, "open"), (-0.3, "closed"), (0.3, "closed")):
        found = service.waiting(cells(np.random.default_rng(1), rated=rated)).finding("S51")
        assert found.checks[0].status == status


@pytest.mark.parametrize("worse", [{"exits": 0}, {"wait": np.nan}, {"branch": 1}, {"noise": 15.0}])
def test_too_little_is_not_read(worse):
    assert not service.waiting(cells(np.random.default_rng(1)).assign(**worse)).applicable
