"""Notebook 09: planted tastes by age, what closes its gates, and what a bank without attributes or ages is told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import competition
from crmresearch.data.reductions import preference as reductions
from crmresearch.errors import Missing
from crmresearch.lab import simulated
from crmresearch.lab.simulated import Settings
from crmresearch.studies import preference

ASKED = {"price": "yield_bp", "service": "service", "guarantee": "guaranteed", "older_from": 55}
TASTES = {"younger": (0.012, 0.36, 0.48), "older": (0.008, 0.48, 1.2)}  # worth 30 and 40, 60 and 150 basis points
ABOUT = {"name": "x", "currency": "EUR", "evidence": "simulated", "dated": False}


def options(people=1_500, each=6, width=3, seed=1, opt_out=False, first=0.0, nest=0.0, ages=True):
    """Options as the reduction gives them; ``nest`` makes the products alike, ``first`` favours the first."""
    rng = np.random.default_rng(seed)
    n = people * each
    age = rng.integers(25, 80, people)
    x = np.stack([25.0 * rng.integers(8, 19, (n, width)), *rng.integers(0, 2, (2, n, width)).astype(float)], axis=2)
    old = np.repeat(age >= 55, each)[:, None, None]
    taste = np.where(old, TASTES["older"], TASTES["younger"])
    u = (x * taste).sum(axis=2) + (1 - nest) * rng.gumbel(size=(n, width)) + first * (np.arange(width) == 0)
    u += nest * rng.gumbel(size=(n, 1)) * 4
    out = {"yield_bp": x[..., 0], "service": x[..., 1], "guaranteed": x[..., 2]}
    if opt_out:
        u = np.column_stack([u, 3.5 + rng.gumbel(size=n)])
        out = {k: np.column_stack([v, np.zeros(n)]) for k, v in out.items()}
        out["opt_out"] = np.column_stack([np.zeros((n, width)), np.ones(n)])
    size = u.shape[1]
    person = np.repeat(np.arange(people), each * size)
    return pd.DataFrame({
        "person": person,
        "task": np.repeat(np.arange(n), size),
        "chosen": (u == u.max(axis=1, keepdims=True)).ravel(),
        "age": age[person].astype(float) if ages else np.nan,
        **{k: v.ravel() for k, v in out.items()},
        "first": np.tile(np.arange(size) == 0, n),
    })  # fmt: skip


def status(result, name):
    [found] = [c.status for c in result.checks if c.name == preference.say(f"{name}.name")]
    return found


def test_planted_tastes_are_found_by_age_and_for_everybody():
    """Within four errors of what was planted, over both groups and their difference."""
    frame = options()
    result = preference.worth(frame, **ASKED)
    share = frame.groupby("person")["age"].first().ge(55).mean()
    want = {
        "S49": (1 - share) * 30 + share * 60, "S49a": (1 - share) * 40 + share * 150, "S54": 110.0,
    }  # fmt: skip
    for line, truth in want.items():
        found = result.finding(line)
        assert abs(found.value - truth) < 4 * found.se, line
        assert found.unit == "basis points"
    assert {status(result, k) for k in ("told", "first")} == {"open"}
    assert status(result, "stated") == "declared"
    assert result.finding("S20").value == result.finding("S49").value


@pytest.mark.parametrize(("older", "off"), [(TASTES["older"], True), (TASTES["younger"], False)])
def test_one_model_for_all_is_the_taste_of_nobody(monkeypatch, older, off):
    """Naive: the pooled worth of a guarantee leaves the mean of two tastes out; with one taste both hold.

    Over twelve banks of 6,000; three misses of twelve have a chance of 2% at a coverage of .95.
    """
    monkeypatch.setitem(TASTES, "older", older)
    missed = failed = 0
    for seed in range(12):
        frame = options(people=6_000, each=3, seed=seed)
        share = frame.groupby("person")["age"].first().ge(55).mean()
        truth = (1 - share) * 40 + share * older[2] / older[0]
        pooled = preference.fitted(frame).worth("guaranteed", "yield_bp")
        found = preference.worth(frame, **ASKED).finding("S49a")
        missed += abs(pooled.value - truth) > 1.96 * pooled.se
        failed += not found.ci_low <= truth <= found.ci_high
    assert failed < 3
    assert missed >= 11 if off else missed < 3


@pytest.mark.parametrize(("first", "expected"), [(0.0, "open"), (0.6, "closed"), (1.0, "closed")])
def test_an_option_taken_for_its_place_closes_a_gate(first, expected):
    assert status(preference.worth(options(first=first), **ASKED), "first") == expected


def test_options_that_do_not_substitute_alike_are_seen():
    alike = preference.worth(options(opt_out=True), **ASKED)
    assert status(alike, "alike") == "open"
    assert abs(alike.finding("S49a").value - preference.worth(options(), **ASKED).finding("S49a").value) < 20
    nested = preference.worth(options(opt_out=True, nest=0.7, people=3_000), **ASKED)
    [gate] = [c for c in nested.checks if c.name == preference.say("alike.name")]
    assert gate.deviation.low > 0 or gate.deviation.high < 0


def test_a_price_that_nobody_minds_closes_its_gate():
    frame = options(people=200)
    rng = np.random.default_rng(3)
    result = preference.worth(frame.assign(yield_bp=rng.permutation(frame["yield_bp"])), **ASKED)
    assert status(result, "told") == "closed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.drop(columns="yield_bp"), "no attribute yield_bp that differs between options"),
        (lambda f: f.assign(yield_bp=200.0), "no attribute yield_bp that differs between options"),
        (lambda f: f[f["person"] < 20], "20 persons chose; 30 are needed"),
        (lambda f: f.drop(columns=["service", "guaranteed"]), "no attribute yield_bp"),
    ],
)
def test_what_cannot_be_computed_says_why(change, said):
    assert said in preference.worth(change(options(people=60)), **ASKED).sentence


@pytest.mark.parametrize("unknown", [0, 40, 120])
def test_those_of_unknown_age_are_left_out_with_a_word(unknown):
    frame = options(people=400)
    found = preference.worth(frame.assign(age=frame["age"].mask(frame["person"] < unknown)), **ASKED)
    assert found.finding("S49").n == 400 - unknown
    assert (f"Another {unknown}, of unknown age, are left out" in found.sentence) == (unknown > 0)


@pytest.mark.parametrize(("people", "bands"), [(600, 5), (120, 3), (90, 2)])
def test_no_age_band_is_left_out(people, bands):
    frame = options(people=people)
    asked = {"price": "yield_bp", "attribute": "guaranteed", "age_bands": [35, 45, 55, 65]}
    found = preference.differences(frame, **asked)
    assert found.finding("S54a").n == found.table["n"].sum() == people
    assert len(found.table) <= bands
    assert found.table["n"].min() >= 30
    ageless = preference.differences(frame.assign(age=frame["age"].mask(frame["person"] < 15)), **asked)
    assert "Another 15, of unknown age, are left out" in ageless.sentence


def test_lines_that_a_bank_cannot_answer_say_why():
    young = preference.worth(options(people=100, ages=False), **ASKED)
    assert "fewer than 30 persons of known age on one side of 55" in young.finding("S54").reason
    assert young.finding("S49").n == 100
    no_service = preference.worth(options(people=200).drop(columns="service"), **ASKED)
    assert "no attribute service" in no_service.finding("S49").reason
    fee = options(people=200).rename(columns={"yield_bp": "fee"})
    paid = preference.worth(fee.assign(fee=-fee["fee"]), **{**ASKED, "price": "fee"})
    assert "in basis points" in paid.finding("S49").reason
    assert paid.table["worth"].to_numpy() == pytest.approx(
        preference.worth(options(people=200), **ASKED).table["worth"]
    )


def test_bands_differ_where_tastes_do_and_not_where_they_do_not():
    asked = {"price": "yield_bp", "attribute": "guaranteed", "age_bands": [35, 45, 55, 65]}
    found = preference.differences(options(people=2_000), **asked).finding("S54a")
    assert found.ci_low > 20
    frame = options(people=2_000)
    shuffled = frame.assign(age=np.random.default_rng(4).permutation(80)[frame["person"] % 80])
    none = preference.differences(shuffled, **asked).finding("S54a")
    assert none.ci_low < 5
    alone = preference.differences(options(people=40), **asked)
    assert "fewer than two age bands" in alone.sentence


# --- out of the engine ------------------------------------------------------------------------------------------------


def bank(**more):
    frame = options(people=12, each=2)
    rows = frame.assign(
        customer_id=[f"c{p:02}" for p in frame["person"]],
        task_id=[f"t{t}" for t in frame["task"]],
        option_id=[f"o{i % 3}" for i in range(len(frame))],
    )
    return Bank.from_frames({"choices": rows.drop(columns=["person", "task", "first", "age"]).assign(**more)}, ABOUT)


def test_no_id_leaves_the_engine_and_the_first_option_is_known():
    frame = reductions.choices(bank())
    assert list(frame) == ["person", "task", "chosen", "age", "yield_bp", "service", "guaranteed", "first"]
    assert frame["first"].to_numpy().reshape(-1, 3).tolist() == [[True, False, False]] * 24
    assert frame["age"].isna().all()
    assert frame.groupby("task")["chosen"].sum().eq(1).all()


def test_a_large_table_is_drawn_by_whole_persons():
    whole, small = reductions.choices(bank()), bank()
    small.most = 40
    part = reductions.choices(small)
    assert 0 < len(part) <= 40 < len(whole)
    assert part.groupby("person").size().eq(6).all()


def test_a_column_of_ages_is_used_and_texts_are_no_attributes():
    frame = reductions.choices(bank(age=44, colour="red"))
    assert frame["age"].eq(44).all()
    assert "colour" not in frame
    rows = {"customer_id": ["a", "a"], "task_id": ["t", "t"], "option_id": ["1", "2"], "chosen": [True, False]}
    missing = reductions.choices(Bank.from_frames({"choices": pd.DataFrame(rows).assign(colour="red")}, ABOUT))
    assert isinstance(missing, Missing)
    assert "no attribute that is a number" in missing.reason


def test_the_simulated_bank_gives_back_its_part_worths():
    """Four errors; ages at the observation end split the bank where its tastes do."""
    frames = simulated.frames(
        Settings(customers=4_096, seed=5, changes={"choice_share": 0.5}), ["choices", "customers"]
    )
    frame = frames["choices"].merge(frames["customers"][["customer_id", "birth_year"]], on="customer_id")
    frame = frame.assign(age=2025.0 - frame["birth_year"], person=frame["customer_id"])
    frame["task"] = frame["customer_id"] + frame["task_id"]
    frame["first"] = frame["option_id"] == "option-1"
    frame = frame.drop(columns=["customer_id", "task_id", "option_id", "birth_year"])
    found = preference.worth(frame, price="yield_bp", service="priority_service", guarantee="guaranteed", older_from=55)
    gap = found.finding("S54")
    assert abs(gap.value - (1.0 / 0.008 - 0.5 / 0.012)) < 4 * gap.se


# --- deeds ------------------------------------------------------------------------------------------------------------


def cells(seed=1, *, priority=-0.3, rate=-0.2, reacts=False, cities=30, months=48):
    """Cells as the reduction gives them, with log hazards planted; rates may follow exits of the month before."""
    rng = np.random.default_rng(seed)
    city, month, year, best = (a.ravel() for a in np.indices((cities, months, 3, 2)))
    gap = 25.0 * rng.integers(-1, 2, (cities, months))
    shock = rng.normal(0, 0.2, (cities, months))
    if reacts:
        gap[:, 1:] = 25 * np.sign(shock[:, :-1])
    log = -4.5 + priority * best + rate * gap[city, month] / gap.std(ddof=1) + shock[city, month] - 0.2 * year
    at_risk = rng.integers(20, 60, len(city))
    frame = pd.DataFrame({"city": city, "month": month, "year": year, "priority": best > 0, "gap": gap[city, month]})
    return frame.assign(at_risk=at_risk, exits=rng.poisson(at_risk * np.exp(log)))


def test_planted_hazards_of_priority_and_of_the_rate_are_found():
    """The mean of forty banks within four of its errors, and intervals that hold the truth in most of them."""
    found = [preference.served(cells(seed, cities=20, months=24)).estimates["S20a"] for seed in range(40)]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(-0.1, abs=4 * values.std(ddof=1) / np.sqrt(len(values)))
    assert np.mean([f.ci_low <= -0.1 <= f.ci_high for f in found]) >= 0.85  # of 40 at 95%: below it once in 200


def test_the_three_hazards_stand_beside_each_other():
    table = preference.served(cells(cities=60)).table.set_index("log hazard of exit")["estimate"]
    first, second, less = table
    assert first - second == pytest.approx(less, abs=1e-9)  # two models, one maximum
    assert first == pytest.approx(-0.3, abs=0.15)
    assert second == pytest.approx(-0.2, abs=0.08)


@pytest.mark.parametrize(("reacts", "expected"), [(False, "open"), (True, "closed")])
def test_a_rate_that_follows_exits_closes_its_gate(reacts, expected):
    assert status(preference.served(cells(cities=60, reacts=reacts)), "later") == expected


def test_months_that_do_not_follow_each_other_leave_the_control_unseen():
    some = cells()
    assert status(preference.served(some[some["month"] % 3 == 0]), "later") == "declared"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.assign(gap=25.0), "rate moves in 0 places or months, counted as if all moved alike; 10"),
        (lambda f: f.assign(gap=f["city"] + 3.0 * f["month"]), "rate moves in 0 places or months"),
        (lambda f: f.assign(gap=25.0 * ((f["city"] == 1) & (f["month"] == 2))), "rate moves in 1 places or months"),
        (lambda f: f[f["city"] < 6], "rate moves in 6 places or months"),
        (lambda f: f.assign(priority=False), "0 exits with priority service, or without it; 50 are needed of each"),
    ],
)
def test_where_nothing_can_be_compared_it_says_so(change, said):
    assert said in preference.served(change(cells())).sentence


def test_customers_at_risk_by_a_second_route():
    """Month by month over customers in pandas; and the same exits as notebook 06 counts."""
    bank = simulated.bank(Settings(2_000, 36, 3, "wider"), ["customers", "markets"])
    frame = reductions.served(bank)
    customers = bank.frame(bank.table("customers"))
    number = {k: customers[k].dt.year * 12 + customers[k].dt.month - 1 for k in ("acquired_on", "left_on")}
    since = customers["priority_since"]
    since = since.dt.year * 12 + since.dt.month - 1 + (since.dt.day > 1)
    by = {}
    for month in sorted(frame["month"].unique()):
        there = (number["acquired_on"] < month) & ~(number["left_on"] < month)
        for best in (False, True):
            some = there & ((since <= month) == best)
            by[month, best] = some.sum(), (some & (number["left_on"] == month)).sum()
    got = frame.groupby(["month", "priority"])[["at_risk", "exits"]].sum()
    assert {k: tuple(row) for k, row in zip(got.index, got.to_numpy(), strict=True)} == {
        k: v for k, v in by.items() if v[0]
    }
    assert frame["exits"].sum() == competition.stays(bank)["exits"].sum() > 0
