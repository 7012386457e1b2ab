"""Reductions of study 2: counted in the engine, compared with plain loops over customers and months."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from conftest import consenting
from crmresearch.data.bank import _STATEMENTS as statements
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import churn as reductions
from crmresearch.data.reductions import cost, loyalty
from crmresearch.errors import InputError, Missing
from crmresearch.lab import simulated

ABOUT = {
    "name": "handmade",
    "title": "Three customers",
    "currency": "EUR",
    "observation_start": datetime.date(2020, 1, 1),
    "observation_end": datetime.date(2020, 12, 31),
    "evidence": "simulated",
    "licence": "none",
    "citation": "none",
    "cannot_answer": ["anything"],
}


def months(later: pd.Timestamp, earlier: pd.Timestamp, up: bool) -> int:
    whole = (later.year - earlier.year) * 12 + later.month - earlier.month
    return whole + (later.day > earlier.day) if up else whole - (later.day < earlier.day)


@pytest.fixture(scope="module")
def handmade() -> Bank:
    customers = pd.DataFrame(
        {
            "customer_id": ["a", "b", "c", "d"],
            "acquired_on": pd.to_datetime(["2018-01-15", "2020-03-10", "2020-12-20", "2020-02-01"]),
            "observed_from": pd.to_datetime(["2020-01-01", "2020-03-10", "2020-12-20", "2020-02-01"]),
            "left_on": pd.to_datetime(["2020-06-20", None, None, "2020-12-31"]),
            "exit_cause": ["voluntary", None, None, "death"],
        }
    )
    holdings = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b", "d", "d"],
            "product_family": ["current", "card", "current", "current", "fund"],
            "opened_on": pd.to_datetime(["2018-01-15", "2020-03-20", "2020-03-10", "2020-02-01", "2020-02-01"]),
            "closed_on": pd.to_datetime([None, None, None, None, "2020-05-20"]),
        }
    )
    service = pd.DataFrame(
        {
            "customer_id": ["b"],
            "occurred_on": pd.to_datetime(["2020-04-15"]),
            "kind": ["complaint"],
            "channel": ["branch"],
            "resolved": [False],
        }
    )
    return Bank.from_frames({"customers": customers, "holdings": holdings, "service": service}, ABOUT)


def test_spells_in_whole_months_with_late_entry(handmade):
    found = reductions.spells(handmade)
    rows = found[["entry", "exit", "event", "cause", "n"]].to_numpy().tolist()
    # a: 23.5 months old when observed, so from 24; left in month 30. b: 9 full months by the end. c: no full month,
    # left
    # out. d: left on the last day, in month 11, of which the last full month is the eleventh (2020-02-01 to 2021-01-01)
    assert rows == [[0, 9, 0, None, 1], [0, 11, 1, "death", 1], [24, 30, 1, "voluntary", 1]]


def test_states_are_read_so_many_months_earlier(handmade):
    now = reductions.person_months(handmade, lag=0)
    # a: the card of 2020-03-20 is held when month 28 of tenure begins (2020-04-15), not yet when month 27 does
    a = now[now["tenure"] > 20].set_index("tenure")
    assert a["families"].to_dict() == {25: 1, 26: 1, 27: 1, 28: 2, 29: 2, 30: 2}
    assert a["events voluntary"].to_dict() == {25: 0, 26: 0, 27: 0, 28: 0, 29: 0, 30: 1}
    lagged = reductions.person_months(handmade, lag=2)
    a = lagged[lagged["tenure"] > 20].set_index("tenure")
    # the first two months have no state on record two months earlier; the card shows two months later
    assert a["families"].to_dict() == {27: 1, 28: 1, 29: 1, 30: 2}


def test_unmet_requests_count_for_half_a_year(handmade):
    found = reductions.person_months(handmade, states=("unmet",), lag=0)
    b = found[found["unmet"] == 1]
    # the complaint of 2020-04-15 is on record when months 3 (2020-05-10) to 8 begin
    assert b["tenure"].tolist() == [3, 4, 5, 6, 7, 8]
    assert b["at_risk"].tolist() == [1] * 6


def test_a_closed_product_is_not_held(handmade):
    found = reductions.person_months(handmade, states=("families",), lag=0)
    d = found[(found["tenure"] <= 11) & (found["families"] == 2)]
    # the fund of d, closed 2020-05-20, is held when months 1 to 4 begin (2020-05-01 is the fourth)
    assert d["tenure"].tolist() == [1, 2, 3, 4]


def test_bad_requests_are_refused(handmade):
    with pytest.raises(InputError, match="no exit definition 'silence'"):
        reductions.spells(handmade, definition="silence")
    with pytest.raises(InputError, match="no group 'colour'"):
        reductions.spells(handmade, groups=("colour",))
    with pytest.raises(InputError, match="no state 'mood'"):
        reductions.person_months(handmade, states=("mood",))
    with pytest.raises(InputError, match="cannot be read in the future"):
        reductions.person_months(handmade, lag=-1)


def test_missing_tables_are_an_answer(handmade):
    assert isinstance(reductions.arms(handmade), Missing)
    assert isinstance(reductions.targeted(handmade), Missing)
    assert isinstance(reductions.spells(handmade, definition="dormancy"), Missing)
    assert isinstance(reductions.spells(handmade, groups=("city_tier",)), Missing)
    assert isinstance(reductions.landmark_dates(handmade, 12), Missing)
    assert reductions.groups_of(handmade) == ()


@pytest.fixture(scope="module")
def drawn():
    """A simulated bank of 300 customers: frames and bank."""
    settings = simulated.Settings(customers=300, months=36, seed=5)
    names = ["customers", "holdings", "service", "monthly", "transactions", "contacts", "prospects"]
    frames = simulated.frames(settings, names)
    return consenting(frames), Bank.from_frames(frames, simulated.about(settings))


def expanded(frames: dict[str, pd.DataFrame], lag: int) -> pd.DataFrame:
    """Person-months written out one by one."""
    end = pd.Timestamp("2024-01-01")
    held = dict(iter(frames["holdings"].groupby("customer_id")))
    service = frames["service"]
    trouble = service[(service["kind"] == "complaint") | service["resolved"].eq(False).fillna(False)]
    trouble = {k: g["occurred_on"].tolist() for k, g in trouble.groupby("customer_id")}
    rows = []
    for c in frames["customers"].itertuples():
        entry = months(c.observed_from, c.acquired_on, up=True)
        last = months(end, c.acquired_on, up=False)
        gone = max(months(c.left_on, c.acquired_on, up=True), 1) if pd.notna(c.left_on) else None
        event = gone is not None and gone <= last
        stop = gone if event else last
        for tenure in range(entry + 1 + lag, stop + 1):
            at = tenure - 1 - lag  # months of tenure at which the state is read

            def known(day, at=at, acquired=c.acquired_on):
                return pd.notna(day) and months(day, acquired, up=True) <= at

            h = held.get(c.customer_id)
            families = (
                0
                if h is None
                else sum(known(o) and not known(k) for o, k in zip(h.opened_on, h.closed_on, strict=True))
            )
            bad = trouble.get(c.customer_id, [])
            unmet = any(known(d) and not known(d + pd.DateOffset(months=6)) for d in bad)
            rows.append((tenure, min(families, 6), int(unmet), int(event and tenure == stop), c.exit_cause))
    return pd.DataFrame(rows, columns=["tenure", "families", "unmet", "left", "cause"])


@pytest.mark.parametrize("lag", [0, 3])
def test_counted_person_months_equal_the_expanded_ones(drawn, lag):
    frames, bank = drawn
    slow = expanded(frames, lag)
    keys = ["tenure", "families", "unmet"]
    cells = slow.groupby(keys)["left"].agg(at_risk="size", events="sum").reset_index()
    own = slow[slow["cause"] == "voluntary"].groupby(keys)["left"].sum().rename("events voluntary").reset_index()
    cells = cells.merge(own, how="left", on=keys).fillna({"events voluntary": 0}).astype("int64")
    fast = reductions.person_months(bank, lag=lag)
    pd.testing.assert_frame_equal(fast[cells.columns], cells, check_dtype=False)
    assert fast["events"].sum() > 20


def test_lags_counted_together_equal_each_alone(drawn):
    _, bank = drawn
    together = reductions.person_months_by_lag(bank, (0, 1, 6))
    assert list(together) == [0, 1, 6]
    for lag, cells in together.items():
        pd.testing.assert_frame_equal(cells, reductions.person_months(bank, lag=lag))
    # each month of lag takes one month at risk from everybody who has so many
    spells = reductions.spells(bank)
    months = spells["exit"] - spells["entry"]
    for lag, cells in together.items():
        assert cells["at_risk"].sum() == (spells["n"] * (months - lag).clip(lower=0)).sum()


def test_what_leaves_the_engine_of_person_months_has_no_pair_of_months(drawn, monkeypatch):
    """Pairs of a first and a last month grow with the bank, to millions of rows; months do not."""
    (_, bank), seen = drawn, []
    frame = type(bank).frame
    monkeypatch.setattr(type(bank), "frame", lambda b, expr: seen.append(frame(b, expr)) or seen[-1])
    cells = reductions.person_months_by_lag(bank, (0, 3))
    [rows] = seen
    assert not rows.duplicated(["lag", "month", "cause", *reductions.STATES]).any()
    assert len(rows) < 3 * sum(map(len, cells.values()))


def test_spells_and_person_months_agree(drawn):
    _, bank = drawn
    spells, cells = reductions.spells(bank), reductions.person_months(bank, lag=0)
    assert cells["at_risk"].sum() == (spells["n"] * (spells["exit"] - spells["entry"])).sum()
    assert cells["events"].sum() == spells.loc[spells["event"] == 1, "n"].sum()
    by_state = reductions.spells(bank, states=reductions.STATES)
    assert by_state["n"].sum() == spells["n"].sum()
    assert by_state.loc[by_state["event"] == 1, "n"].sum() == spells.loc[spells["event"] == 1, "n"].sum()
    grouped = reductions.spells(bank, groups=reductions.groups_of(bank))
    assert grouped["n"].sum() == spells["n"].sum()


def test_reductions_are_ordered_and_repeatable(drawn):
    _, bank = drawn
    for function in (reductions.spells, reductions.person_months):
        pd.testing.assert_frame_equal(function(bank), function(bank))


def test_what_is_kept_of_one_bank_is_true_of_another_of_its_shape():
    """Statements are kept for banks of one shape: thirds of the first one's balances were those of all."""
    banks = [simulated.bank(simulated.Settings(customers=300, months=36, seed=seed)) for seed in (5, 6)]
    asked = {
        "spells": lambda b: reductions.spells(b, groups=reductions.groups_of(b)),
        "person-months": lambda b: reductions.person_months(b, groups=reductions.groups_of(b)),
        "landmark": lambda b: reductions.landmark(b, on=reductions.landmark_dates(b, 12)[0], horizon=12),
        "joined": loyalty.joined, "referred": loyalty.referred, "campaigns": cost.campaigns, "upkeep": cost.upkeep,
    }  # fmt: skip
    kept = {name: [of(b) for b in banks][1] for name, of in asked.items()}
    statements.clear()
    for name, of in asked.items():
        pd.testing.assert_frame_equal(kept[name], of(banks[1]), obj=name)
    bands = kept["spells"].groupby("value_band")["n"].sum()
    assert bands.max() - bands.min() <= 2


def test_earlier_signs_of_leaving_never_come_after_closure(drawn):
    _, bank = drawn
    by = reductions.spells_by_definition(bank, months=6)
    closed = by["closure"]
    for name in ("dormancy", "run-off", "main bank"):
        spells = by[name]
        assert spells.loc[spells["event"] == 1, "n"].sum() >= closed.loc[closed["event"] == 1, "n"].sum()
        time = (spells["n"] * (spells["exit"] - spells["entry"])).sum()
        assert time <= (closed["n"] * (closed["exit"] - closed["entry"])).sum()


def test_dormancy_by_hand():
    customers = pd.DataFrame({"customer_id": ["a", "b"], "acquired_on": pd.to_datetime(["2020-01-01", "2020-01-01"])})
    days = ["2020-01-05", "2020-02-05", "2020-09-05", "2020-01-10", "2020-05-10", "2020-09-10"]
    moves = pd.DataFrame({"customer_id": list("aaabbb"), "occurred_on": pd.to_datetime(days), "amount": 1.0})
    bank = Bank.from_frames({"customers": customers, "transactions": moves}, ABOUT)
    found = reductions.spells(bank, definition="dormancy", months=6)
    rest = Bank.from_frames({"customers": customers, "transactions": moves.iloc[[2, 3, 4, 5]]}, ABOUT)
    late = reductions.spells(rest, definition="dormancy", months=6)  # exits are kept by bank, and by months
    assert late["event"].sum() == 0
    assert reductions.spells(rest, definition="dormancy", months=3)["n"].tolist() == [1, 1]
    # a is silent from 5 February to 5 September: dormant on 5 August, in month 8; b is never silent for six months
    assert found[["exit", "event", "cause"]].to_numpy().tolist() == [[8, 1, "dormancy"], [12, 0, None]]


def test_landmark_rows_know_nothing_of_the_future(drawn):
    frames, bank = drawn
    on, horizon = reductions.early_landmark(bank, 12)
    rows = reductions.landmark(bank, on, horizon)
    assert rows["customer_id"].is_unique
    day = pd.Timestamp(on)
    cut = {
        "holdings": frames["holdings"][frames["holdings"]["opened_on"] <= day],
        "service": frames["service"][frames["service"]["occurred_on"] < day],
        "transactions": frames["transactions"][frames["transactions"]["occurred_on"] < day],
        "monthly": frames["monthly"][frames["monthly"]["month"] < day],
        "contacts": frames["contacts"][frames["contacts"]["contacted_on"] <= day],
    }
    past = Bank.from_frames({**frames, **cut}, bank.about)
    pd.testing.assert_frame_equal(reductions.landmark(past, on, horizon), rows)


def test_landmark_follow_up_by_hand(drawn):
    frames, bank = drawn
    on = datetime.date(2022, 1, 1)
    rows = reductions.landmark(bank, on, 12).set_index("customer_id")
    customers = frames["customers"].set_index("customer_id")
    day = pd.Timestamp(on)
    there = customers[(customers["observed_from"] <= day) & ~(customers["left_on"] <= day)]
    assert set(rows.index) == set(there.index)
    left = there["left_on"].map(lambda d: max(months(d, day, up=True), 1) if pd.notna(d) else np.inf)
    assert (rows["event"] == (left.reindex(rows.index) <= 12).astype(int)).all()
    assert rows.loc[rows["event"] == 1, "exit"].tolist() == left.reindex(rows.index)[rows["event"] == 1].tolist()


def test_campaign_arms_add_up(drawn):
    frames, bank = drawn
    found = reductions.arms(bank)
    drawn_by_lot = frames["contacts"].query("randomised and purpose == 'retain'")
    assert found["n"].sum() == drawn_by_lot[["customer_id", "campaign_id"]].drop_duplicates().shape[0]
    assert found.loc[found["event"] == 0, "exit"].max() <= 12


def test_aimed_campaign_finds_the_contacted(drawn):
    frames, bank = drawn
    rows = reductions.targeted(bank)
    contacted = set(frames["contacts"].query("campaign_id == 'target'")["customer_id"])
    assert set(rows.loc[rows["treated"] == 1, "customer_id"]) <= contacted
    assert 0 < rows["treated"].mean() < 1


def test_life_course_counts(drawn):
    frames, bank = drawn
    found = reductions.life_course(bank)
    people = len(frames["customers"]) + int((~frames["prospects"]["won"].astype(bool)).sum())
    assert found["paths"]["n"].sum() == people
    assert (found["stages"].groupby("date")["n"].sum() == people).all()


def test_win_back_is_a_prospect_won_after_leaving():
    customers = pd.DataFrame(
        {
            "customer_id": ["a", "b"],
            "acquired_on": pd.to_datetime(["2017-01-01", "2017-01-01"]),
            "observed_from": pd.to_datetime(["2020-01-01", "2020-01-01"]),
            "left_on": pd.to_datetime(["2020-03-01", None]),
            "exit_cause": ["voluntary", None],
        }
    )
    prospects = pd.DataFrame(
        {
            "prospect_id": ["p", "q"],
            "channel": "branch",
            "first_contact_on": pd.to_datetime(["2020-09-01", "2020-05-01"]),
            "spend": [10.0, 5.0],
            "won": [True, False],
            "customer_id": ["a", None],
        }
    )
    found = reductions.life_course(Bank.from_frames({"customers": customers, "prospects": prospects}, ABOUT))
    rows = {tuple(r[:-1]): r[-1] for r in found["paths"].to_numpy().tolist()}
    assert rows == {("kept", "kept"): 1, ("kept", "won back"): 1, ("not met", "declined"): 1}
    last = found["stages"][found["stages"]["date"] == "2021-01-01"].set_index("stage")["n"]
    assert last[last > 0].to_dict() == {"kept": 1, "won back": 1, "declined": 1}


def test_spells_without_dates_pass_through():
    table = pd.DataFrame(
        {
            "customer_id": list("abc"),
            "entry_months": [0.0, 0, 0],
            "exit_months": [5.0, 7.5, 3],
            "event": [True, False, True],
            "income": [1.0, 2, 3],
        }
    )
    about = {k: v for k, v in ABOUT.items() if not k.startswith("observation")} | {"dated": False}
    bank = Bank.from_frames({"spells": table}, about)
    found = reductions.spells(bank)
    assert found[["entry", "exit", "event", "income"]].to_numpy().tolist() == [
        [0, 5, 1, 1],
        [0, 7.5, 0, 2],
        [0, 3, 1, 3],
    ]
    assert "customer_id" not in found
    assert isinstance(reductions.spells_by_definition(bank), Missing)
    assert isinstance(reductions.person_months(bank), Missing)
    assert isinstance(reductions.landmark_dates(bank, 12), Missing)
    assert isinstance(reductions.life_course(bank), Missing)
