"""Notebook 07: reductions by hand, planted truth, naive rows that fail, gates, banks that bring little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from conftest import lacking
from crmresearch import ledger
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import channels as reductions
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.survival.predict import concordance_gain
from crmresearch.lab import simulated
from crmresearch.studies import channels

TABLES = ["customers", "monthly", "transactions", "branches"]
OPTIONS = {"window_quarters": 8, "resamples": 99, "seed": 1}
EVERY = {
    "snapshots": lambda bank: channels.fresh(reductions.snapshots(bank), seed=1),
    "adoption": lambda bank: channels.adopted(reductions.adoption(bank)),
    "contribution": lambda bank: channels.earned(reductions.contribution(bank)),
    "helped": lambda bank: channels.helped(reductions.helped(bank), **OPTIONS),
}


def months_of(days):
    return days.dt.year * 12 + days.dt.month - 1


# --- reductions -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    s = simulated.Settings(500, 36, 4, "wider", {"mobile_rate": 0.8, "failed_share": 0.2})
    return simulated.frames(s, TABLES), simulated.bank(s, TABLES)


def test_snapshots_are_those_of_the_tables_by_hand(small):
    frames, bank = small
    found = reductions.snapshots(bank)
    m = frames["monthly"].merge(frames["customers"], on="customer_id")
    m = m.assign(number=months_of(m["month"]), gone=months_of(m["left_on"]))
    m = m[(m["observed_from"] <= m["month"]) & (m["number"] < 2021 * 12 + 35) & ~(m["gone"] <= m["number"])]
    leaves = m[(m["gone"] == m["number"] + 1) & (m["exit_cause"] == "voluntary")]
    assert found["exit"].sum() == len(leaves)
    assert abs((found["exit"] == 0).sum() / len(leaves) - reductions.EACH) < 3
    one = found.merge(m.drop(columns="month"), left_on=["month", "balance"], right_on=["number", "balance"])
    assert len(one) == len(found)
    assert (one["lookups_x"] == one["lookups_y"]).all()
    assert (one["last_week"] == one["lookups_last_week"]).all()
    assert one.groupby("customer")["customer_id"].nunique().max() == 1
    own = frames["monthly"].set_index(["customer_id", months_of(frames["monthly"]["month"])])["balance"]
    before = own.reindex(pd.MultiIndex.from_arrays([one["customer_id"], one["month"] - 1]))
    np.testing.assert_allclose(one["balance_before"], before)


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_stays_after_adoption_are_those_by_hand(small, lag):
    frames, bank = small
    found = reductions.adoption(bank, lag=lag)
    c, t = frames["customers"], frames["transactions"]
    t = t.assign(quarter=months_of(t["occurred_on"]) // 3)
    mobile = t[t["channel"] == "mobile"].groupby("customer_id")["quarter"].min()
    paid = t.groupby("customer_id")["quarter"].agg(set)
    first, last = 2021 * 4, 2021 * 4 + 11
    rows = []
    for row in c.itertuples():
        gone = (row.left_on.year * 12 + row.left_on.month - 1) // 3 if pd.notna(row.left_on) else last + 1
        seen = row.observed_from.year * 12 + row.observed_from.month - 1 + (row.observed_from.day > 1)
        begun = mobile.get(row.customer_id, np.inf)
        for q in range(max(-(-seen // 3), first + lag + 4), min(gone, last) + 1):
            if not {q - lag - k for k in range(1, 5)} & paid.get(row.customer_id, set()):
                continue
            early = begun < first + 4 and (row.acquired_on.year * 12 + row.acquired_on.month - 1) // 3 < first
            since = q - begun
            state = "never" if np.isinf(begun) else "later" if since <= lag else "before" if early else "new"
            leaves = gone == q
            rows.append((q, state, leaves and row.exit_cause == "voluntary", leaves and row.exit_cause == "death"))
    hand = pd.DataFrame(rows, columns=["quarter", "state", "exits", "deaths"]).assign(n=1)
    told = found.assign(state=found["state"].replace(["recent", "year", "long"], "new"))
    keys, sums = ["quarter", "state"], ["n", "exits", "deaths"]
    left, right = (frame.groupby(keys)[sums].sum().astype(int) for frame in (told, hand))
    pd.testing.assert_frame_equal(left, right, check_dtype=False)


def test_contribution_around_a_first_payment_is_that_by_hand(small):
    frames, bank = small
    found = reductions.contribution(bank)
    m, t = frames["monthly"], frames["transactions"]
    made = m["net_interest"] + m["fees"] - m["service_cost"] - m["risk_cost"]
    wide = m.assign(made=made, month=months_of(m["month"])).pivot_table(
        index="customer_id", columns="month", values="made"
    )
    mobile = months_of(t[t["channel"] == "mobile"].groupby("customer_id")["occurred_on"].min())
    first, last = 2021 * 12, 2021 * 12 + 35
    n = change = base_of = 0.0
    for who, date in mobile.items():
        own = wide.loc[who]
        if not first + 6 <= date <= last - 11 or own[[date - 6, date - 5, date - 4, date]].isna().any():
            continue
        base = own[[date - 6, date - 5, date - 4]].mean()
        after = own[list(range(date, min(date + 12, last + 1)))].dropna()
        n, change, base_of = n + len(after), change + (after - base).sum(), base_of + base * len(after)
    one = found[found["adopts"].astype(bool) & found["since"].between(0, 11)]
    np.testing.assert_allclose(one[["n", "change", "base"]].sum(), [n, change, base_of])
    others = found[~found["adopts"].astype(bool)]
    assert (others["n"] <= others["there"]).all()
    assert (others.groupby("date")["fold"].nunique() > 1).any()


def test_failures_by_branch_are_those_by_hand(small):
    frames, bank = small
    found = reductions.helped(bank, older_from=60)
    c, t = frames["customers"], frames["transactions"]
    one = t.assign(quarter=months_of(t["occurred_on"]) // 3, fails=t["status"] == "failed")
    early = set(one.loc[one["fails"] & (one["quarter"] < 2022 * 4), "customer_id"])
    one = one.merge(c[["customer_id", "branch_id", "birth_year"]], on="customer_id")
    names = sorted(frames["branches"]["branch_id"])
    one = one.assign(
        branch=one["branch_id"].map(names.index),
        older=one["birth_year"] <= 1961,
        failing=one["customer_id"].isin(early),
    )
    keys = ["branch", "quarter", "older", "failing"]
    hand = one.groupby(keys)["fails"].agg(["size", "sum"])
    told = found[found["transactions"] > 0].set_index(keys).sort_index()
    np.testing.assert_array_equal(told[["transactions", "failed"]], hand)
    help_from = frames["branches"].set_index("branch_id")["help_from"]
    when = found.groupby("branch")["helped"].first()
    assert all(
        when[k] == (months_of(help_from)[name] // 3 if pd.notna(help_from[name]) else np.inf)
        for k, name in enumerate(names)
        if k in when.index
    )
    assert found["exits"].sum() == (c["exit_cause"] == "voluntary").sum() - _too_late(c)
    people = one.groupby(["branch", "older", "failing"])["customer_id"].nunique()
    np.testing.assert_array_equal(found.groupby(keys[:1] + keys[2:])["people"].first().loc[people.index], people)


def _too_late(c):
    """Exits of those who are not there when a quarter begins."""
    seen = -(-(months_of(c["observed_from"]) + (c["observed_from"].dt.day > 1)) // 3)
    return ((c["exit_cause"] == "voluntary") & (months_of(c["left_on"]) // 3 < seen)).sum()


LACKS = [
    ("snapshots", "monthly", "lookups_last_week"), ("snapshots", "monthly", None),
    ("snapshots", "customers", "left_on"),
    ("adoption", "transactions", "channel"), ("adoption", "transactions", None), ("adoption", "customers", "left_on"),
    ("contribution", "monthly", "net_interest"), ("contribution", "transactions", "channel"),
    ("contribution", "customers", None), ("helped", "branches", "help_from"), ("helped", "branches", None),
    ("helped", "customers", "birth_year"), ("helped", "transactions", "status"),
]  # fmt: skip


@pytest.mark.parametrize(("reduction", "table", "column"), LACKS)
def test_a_bank_that_lacks_something_says_what(small, reduction, table, column):
    about = simulated.about(simulated.Settings(500, 36, 4, "wider"))
    bank = Bank.from_frames(lacking(small[0], table, column), about, checked=False)
    found = getattr(reductions, reduction)(bank)
    assert isinstance(found, Missing)
    assert table in str(found.tables)
    assert not EVERY[reduction](bank).applicable


@pytest.mark.parametrize(
    ("reduction", "table", "worse"),
    [
        ("snapshots", "customers", {"left_on": pd.NaT, "exit_cause": None}),
        ("adoption", "transactions", {"channel": "branch"}),
        ("contribution", "transactions", {"channel": None}),
        ("helped", "transactions", {"status": "completed"}),
    ],
)
def test_a_bank_where_nothing_of_the_kind_happened_is_not_applicable(small, reduction, table, worse):
    frames = {**small[0], table: small[0][table].assign(**worse)}
    about = simulated.about(simulated.Settings(500, 36, 4, "wider"))
    bank = Bank.from_frames(frames, about, checked=False)
    assert not EVERY[reduction](bank).applicable


@pytest.mark.parametrize("lacking", ["birth_year", "city_tier", "acquisition_channel"])
def test_what_is_held_may_be_unknown(lacking):
    s = simulated.Settings(3_000, 60, 1, "wider")
    frames = simulated.frames(s, TABLES[:3])
    frames["customers"] = frames["customers"].drop(columns=lacking)
    bank = Bank.from_frames(frames, simulated.about(s), checked=False)
    found = channels.adopted(reductions.adoption(bank)).finding("S14")
    assert found.ci_low < 0.8 < found.ci_high


# --- fresh events -----------------------------------------------------------------------------------------------------


def looks(rng, n=12_000, late=1.0, month=0.0):
    """Draw months of customers whose last week, or whole month, tells of exits."""
    exit_ = rng.random(n) < 0.1
    usual = 20 * rng.gamma(4, 0.25, n) * np.exp(month * exit_)
    week = rng.poisson(usual * 7 / 30.4 * np.exp(late * (exit_ & (rng.random(n) < 0.5))))
    balance = np.exp(rng.normal(10, 1, n) - 0.5 * exit_)
    return pd.DataFrame({
        "customer": rng.integers(0, n // 3, n), "month": 24_000, "exit": exit_.astype(int), "balance": balance,
        "lookups": week + rng.poisson(usual * 23.4 / 30.4), "last_week": week, "balance_before": balance,
        "lookups_before": usual, "tenure": rng.integers(1, 200, n),
    })  # fmt: skip


@pytest.mark.parametrize(("late", "month", "found"), [(1.0, 0.0, True), (0.0, 0.0, False), (0.0, 0.7, False)])
def test_only_what_the_last_week_adds_counts(late, month, found):
    result = channels.fresh(looks(np.random.default_rng(1), late=late, month=month), seed=2026)
    one = result.finding("S13")
    assert (one.ci_low > 0.002) == found
    assert (one.ci_high < 0.002) == (not found)
    assert one.checks[0].status == "open"
    naive = result.table["gain"].iloc[1]
    assert (naive > 0.02) == bool(month or late)  # look-ups of the month pass for fresh ones
    ledger.checked("S13", one)
    kept = result.finding("S13a")
    assert kept.value == pytest.approx(result.table["gain"].iloc[2])
    assert f"{kept.value:+.4f}" in result.sentence
    ledger.checked("S13a", kept)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_concordances_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    event, first, second = rng.random(80) < 0.3, rng.integers(0, 9, 80), rng.normal(size=80)
    for score, got in zip((first, second), concordance_gain(event, first, second, np.arange(80)), strict=False):
        gaps = score[event][:, None] - score[~event][None, :]
        assert got == pytest.approx((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def test_error_of_a_gain_is_that_of_a_bootstrap_of_customers():
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(300), 3)
    event = rng.random(900) < 0.2
    own = rng.normal(size=300)[who]
    first, second = event + own, 1.2 * event + own + rng.normal(size=900)
    drawn = []
    for _ in range(400):
        some = np.concatenate([3 * k + np.arange(3) for k in rng.integers(0, 300, 300)])
        a, b, _ = concordance_gain(event[some], first[some], second[some], who[some])
        drawn.append(b - a)
    assert concordance_gain(event, first, second, who)[2] == pytest.approx(np.std(drawn), rel=0.15)


@pytest.mark.parametrize("worse", [{"exit": 0}, {"lookups": 0}, {"exit": 1}])
def test_nothing_to_predict_is_not_applicable(worse):
    assert not channels.fresh(looks(np.random.default_rng(1)).assign(**worse), seed=1).applicable
    with pytest.raises(InputError, match="missing"):
        concordance_gain(np.array([True, False]), np.array([1.0, np.nan]), np.array([1.0, 2.0]), np.arange(2))


# --- exits after adoption ---------------------------------------------------------------------------------------------


def stays(rng, effect=-0.25, deaths=0.0, immortal=True):
    """Draw exits and deaths by quarter, tenure, age and state; those who will adopt cannot leave before."""
    grid = pd.MultiIndex.from_product(
        [
            range(8_088, 8_104),
            range(0, 16, 4),
            range(20, 80, 10),
            ["never", "later", "recent", "year", "long", "before"],
        ],
        names=["quarter", "tenure", "age", "state"],
    ).to_frame(index=False)
    new = grid["state"].isin(["recent", "year", "long", "before"])
    n = np.where(grid["state"] == "later", 40, 60)
    ever = np.where(grid["state"] == "later", 0.0, np.where(grid["state"] == "never", 100 / 60, 1.0)) if immortal else 1
    exits = rng.poisson(n * 0.012 * ever * np.exp(effect * new - 0.03 * grid["tenure"]))
    died = rng.poisson(n * 0.003 * np.exp(0.09 * (grid["age"] - 45) + deaths * new))
    return grid.assign(tier=None, channel=None, n=n, exits=exits, deaths=died)


@pytest.mark.parametrize("effect", [0.0, -0.25, 0.3])
def test_planted_effect_of_adoption_is_covered_and_immortal_time_is_seen(effect):
    hits, naive = [], []
    for seed in range(25):
        result = channels.adopted(stays(np.random.default_rng(seed), effect))
        found = result.finding("S14")
        hits.append(found.ci_low <= np.exp(effect) <= found.ci_high)
        naive.append(result.table["hazard ratio"].iloc[-1] < found.ci_low)
    assert np.mean(hits) >= 0.8  # of 95%, 3.4 errors of 25 trials below
    assert np.mean(naive) > 0.95
    ledger.checked("S14", found)


def test_without_immortal_time_the_naive_row_is_right():
    gaps = []
    for seed in range(15):
        result = channels.adopted(stays(np.random.default_rng(seed), 0.0, immortal=False))
        gaps.append(np.log(result.table["hazard ratio"].iloc[-1]))
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 15**0.5


@pytest.mark.parametrize(("deaths", "status"), [(0.0, "open"), (-0.5, "closed"), (0.5, "closed")])
def test_deaths_that_follow_adoption_close_the_gate(deaths, status):
    checks = channels.adopted(stays(np.random.default_rng(1), deaths=deaths)).finding("S14").checks
    assert [c.status for c in checks] == [status, "declared"]


@pytest.mark.parametrize("worse", [{"exits": 0}, {"state": "never"}, {"state": "before"}])
def test_too_few_exits_are_not_read(worse):
    assert not channels.adopted(stays(np.random.default_rng(1)).assign(**worse)).applicable


# --- contribution -----------------------------------------------------------------------------------------------------


def money(rng, effect=-3.0, drift=0.0, n=20):
    """Draw sums of contribution around adoption, by fold and date; an effect by month, and a drift of adopters."""
    axes = [range(50), range(24_006, 24_030), [False, True], range(-12, 24)]
    frame = pd.MultiIndex.from_product(axes, names=["fold", "date", "adopts", "since"]).to_frame(index=False)
    gap = np.where(frame["since"] >= 0, effect, 0.0) + drift * (frame["since"] + 5)
    change = n * (gap * frame["adopts"] + 0.1 * frame["since"]) + rng.normal(0, 20 * n**0.5, len(frame))
    base = 20.0 * n
    made = base + change
    own = {"made": made, "gross": made.abs(), "squares": 4_000.0 * n}
    return frame.assign(n=n, there=n, change=change, base=base, **own)


@pytest.mark.parametrize("effect", [0.0, -3.0, 2.0])
def test_planted_change_of_contribution_is_covered(effect):
    hits = []
    for seed in range(25):
        found = channels.earned(money(np.random.default_rng(seed), effect)).finding("S14a")
        hits.append(found.ci_low <= 12 * effect <= found.ci_high)
    assert np.mean(hits) >= 0.8
    ledger.checked("S14a", found)


@pytest.mark.parametrize(("drift", "status"), [(0.0, "open"), (0.5, "closed"), (-0.5, "closed")])
def test_contribution_that_parts_before_adoption_closes_the_gate(drift, status):
    result = channels.earned(money(np.random.default_rng(1), drift=drift))
    assert result.finding("S14a").checks[0].status == status
    half, wide = result.table.iloc[-2], result.table.iloc[-1]
    assert wide["low"] <= half["low"] <= half["high"] <= wide["high"]
    assert wide["low"] <= -36 + 12 * drift * 10.5 <= wide["high"]


@pytest.mark.parametrize(
    ("effect", "drift", "status"),
    [(-30.0, 0.0, "open"), (30.0, 0.0, "open"), (-3.0, 0.15, "declared"), (-3.0, 0.5, "closed")],
)
def test_trends_that_undo_a_verdict_close_its_gate(effect, drift, status):
    found = channels.earned(money(np.random.default_rng(1), effect, drift)).finding("S14a")
    assert found.checks[1].status == status


@pytest.mark.parametrize("last", [24_010, 24_015, 24_020])
def test_the_first_year_of_dates_seen_for_two_is_theirs(last):
    frame = money(np.random.default_rng(1))
    frame = frame[(frame["date"] <= last) | (frame["since"] < 12)]
    rows = channels.earned(frame).table.set_index("reading")
    own = channels.earned(frame[frame["date"] <= last]).table.iloc[0]
    told = rows.loc["first twelve months, of payments whose later months are all seen"]
    assert told[["change of contribution", "low", "high", "n"]].tolist() == pytest.approx(own.iloc[1:5].tolist())


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_quarters_since_adoption_are_named_by_the_lag(lag):
    named = channels.adopted(stays(np.random.default_rng(1)), lag_quarters=lag).table["customers"].tolist()
    assert named[1:4] == [
        f"{lag + 1} to {lag + 3} quarters ago",
        f"{lag + 4} to {lag + 7} quarters ago",
        f"more than {lag + 7} quarters ago",
    ]


def test_who_leaves_counts_as_nothing_in_the_second_row():
    frame = money(np.random.default_rng(1), effect=0.0)
    late = frame["since"] > 0
    frame.loc[late & ~frame["adopts"], ["n", "there", "change", "made", "gross", "base", "squares"]] *= 0.5
    rows = channels.earned(frame).table["change of contribution"]
    assert rows.iloc[1] - rows.iloc[0] == pytest.approx(11 * 20 * 0.5, rel=0.05)  # half of the others go


@pytest.mark.parametrize(
    "seen", [lambda f: f["since"] >= -6, lambda f: f["adopts"] == (f["date"] < 24_010), lambda f: f["since"] < 10]
)
def test_contribution_seen_of_one_side_or_too_short_says_what_is_needed(seen):
    frame = money(np.random.default_rng(1))
    result = channels.earned(frame[seen(frame)])
    assert not result.applicable
    assert "two years of monthly results" in result.sentence


@pytest.mark.parametrize("worse", [{"adopts": False}, {"adopts": True}, {"n": 0}])
def test_contribution_without_adopters_is_not_applicable(worse):
    assert not channels.earned(money(np.random.default_rng(1)).assign(**worse)).applicable


# --- help -------------------------------------------------------------------------------------------------------------


def failures(rng, effect=-0.015, drift=0.0, n=120, always=0):
    """Draw branches whose help lets fewer transactions of older customers fail."""
    first = np.where(rng.random(n) < 0.85, rng.integers(4, 12, n), 99).astype(float)
    row, quarter, older, failing = (a.ravel() for a in np.indices((n, 20, 2, 2)))
    late = (np.minimum(first, 20) - 10) / 5
    share = 0.03 + 0.01 * failing + drift * late[row] * quarter / 4 + effect * older * (quarter >= first[row])
    helped = np.where(first < 99, 8_000 + first, np.inf)
    helped[:always] = -np.inf
    return pd.DataFrame({
        "branch": row, "quarter": 8_000 + quarter, "helped": helped[row], "older": older == 1, "failing": failing == 1,
        "transactions": 150, "failed": rng.binomial(150, np.clip(share, 0.001, 1)), "at_risk": 50,
        "exits": rng.binomial(50, 0.02, len(row)), "people": 40,
    })  # fmt: skip


@pytest.mark.parametrize("effect", [0.0, -0.015, 0.01])
def test_planted_help_is_covered(effect):
    hits = []
    for seed in range(25):
        result = channels.helped(failures(np.random.default_rng(seed), effect), **OPTIONS)
        found = result.finding("S31")
        hits.append(found.ci_low <= effect <= found.ci_high)
    assert np.mean(hits) >= 0.8
    younger = result.table.set_index("reading").loc["younger customers"]
    assert younger["low"] < 0 < younger["high"]
    less = result.table.set_index("reading").loc["older less younger customers"]
    assert less["effect"] == pytest.approx(result.table["effect"].iloc[0] - younger["effect"], abs=1e-9)
    assert f"by {100 * less['effect']:+.2f} points" in result.sentence
    ledger.checked("S31", found)


@pytest.mark.parametrize("people", [2, 5, 9])
def test_a_part_of_few_customers_is_hidden_with_another(people):
    frame = failures(np.random.default_rng(1))
    frame["people"] = np.where(frame["older"] & frame["failing"], (frame["branch"] < people).astype(int), 40)
    hidden = channels.helped(frame, **OPTIONS).table.set_index("reading")["effect"].isna()
    assert hidden["older, one had failed in the first year"]
    assert hidden.sum() >= 2


@pytest.mark.parametrize("quarters", [4, 7, 9])
def test_trends_that_cannot_be_looked_at_are_declared(quarters):
    frame = failures(np.random.default_rng(1))
    frame = frame[frame["quarter"] < 8_004 + quarters]
    found = channels.helped(frame, window_quarters=2, resamples=99, seed=1).finding("S31")
    assert found.checks[1].status == ("declared" if quarters < 8 else "open")


@pytest.mark.parametrize(("drift", "status"), [(0.0, "open"), (0.006, "closed"), (-0.006, "closed")])
def test_failures_that_part_before_help_close_the_gate(drift, status):
    found = channels.helped(failures(np.random.default_rng(1), drift=drift, n=300), **OPTIONS).finding("S31")
    assert found.checks[0].status == status


@pytest.mark.parametrize(("wild", "status"), [(0.0, "open"), (0.02, "declared"), (0.03, "closed")])
def test_help_that_trends_before_it_would_undo_is_not_told(wild, status):
    frame = failures(np.random.default_rng(1), n=300)
    early = (frame["quarter"] - frame["helped"]).between(-8, -5) & frame["older"]  # two years before alone
    share = np.clip(frame["failed"] / 150 + wild * early, 0, 1)
    found = channels.helped(frame.assign(failed=np.random.default_rng(2).binomial(150, share)), **OPTIONS)
    assert found.finding("S31").checks[1].status == status


@pytest.mark.parametrize(("always", "text"), [(3, "; 3 helped from the start and are left out"), (0, "")])
def test_branches_left_out_are_counted(always, text):
    said = channels.helped(failures(np.random.default_rng(1), always=always), **OPTIONS).sentence
    assert ("helped from the start" in said) == bool(always)
    assert text in said


@pytest.mark.parametrize("worse", [{"helped": np.inf}, {"helped": -np.inf}, {"transactions": 0}])
def test_no_roll_out_is_not_applicable(worse):
    assert not channels.helped(failures(np.random.default_rng(1)).assign(**worse), **OPTIONS).applicable
