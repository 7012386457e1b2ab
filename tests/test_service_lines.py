"""Steps, priority, invitations, managers, customers against themselves: planted truth, naive rows, gates, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch import ledger
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import service as reductions
from crmresearch.errors import Missing
from crmresearch.estimators.blocks import slopes
from crmresearch.estimators.causal.discontinuity import jump
from crmresearch.estimators.inference import robust_ols
from crmresearch.estimators.verdicts import position
from crmresearch.lab import simulated
from crmresearch.lab.recover.service import planted
from crmresearch.studies import service

OPTIONS = {"window_quarters": 8, "resamples": 199, "seed": 1}
TABLES = ["customers", "branches", "pulse", "service", "monthly", "managers", "survey", "contacts"]
THRESHOLD = 50_000.0
NOTHING = {
    "convert_quality": 0, "convert_wait": 0, "convert_steps": 0, "convert_fees": 0, "wait_satisfaction": 0,
    "wait_vip": 0, "vip_satisfaction": 0, "invite_exit": 0, "use_margin": 0, "ability_margin": 0, "wait_service": 0,
}  # fmt: skip


def settings(world="wider", customers=20_000, seed=3, months=60, **changes):
    return simulated.Settings(customers, months, seed, world, changes)


@pytest.fixture(scope="module")
def bank():
    return simulated.bank(settings(), TABLES)


@pytest.fixture(scope="module")
def panel(bank):
    return reductions.branch_quarters(bank)


@pytest.fixture(scope="module")
def truth():
    known = simulated.truth(settings(seed=1))
    names = {
        "S38": "manager.use.contribution", "S52": "priority.satisfaction.observed", "S55": "handling.step",
        "S53": "campaign.invite.retention_12m",
    }  # fmt: skip
    return planted(known) | {line: known["estimands"][name] for line, name in names.items()}


def priority(bank, threshold=THRESHOLD):
    read = (reductions.near_threshold, reductions.balances)
    return service.priority(*(reduction(bank, threshold=threshold) for reduction in read))


def customers(bank):
    read = {"stays": reductions.stays_by_waiting(bank), "answers": reductions.answers_by_waiting(bank)}
    return service.customers(read)


def lines(bank):
    """Every line of notebook 08 that a bank gives."""
    q = reductions.branch_quarters(bank)
    results = [
        service.conversion(q, **OPTIONS), service.waiting(q), customers(bank), priority(bank),
        service.handling(q, reductions.handling_by_steps(bank), window_quarters=8),
        service.invited(reductions.campaigns(bank), campaign="invite"), service.managed(reductions.managed(bank)),
    ]  # fmt: skip
    return {line: r.finding(line) for r in results for line in r.estimates}


def naive(result, row):
    table = result.table.set_index(result.table.columns[0])
    return table.loc[next(label for label in table.index if label.startswith(row))]


def holds(found, value):
    return found.ci_low <= value <= found.ci_high


# --- what is taken out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_are_those_of_the_tables_by_hand(seed):
    s = settings(customers=400, seed=seed, months=21)
    frames, bank = simulated.frames(s, TABLES), simulated.bank(s, TABLES)
    people, visits, months = frames["customers"], frames["service"], frames["monthly"]
    q = reductions.branch_quarters(bank).set_index(["branch", "quarter"])
    names = sorted(frames["branches"]["branch_id"])
    home = people.set_index("customer_id")["branch_id"].map(names.index)
    told = visits.dropna(subset=["steps", "handling_minutes"]).astype({"steps": float})
    quarter = told["occurred_on"].dt.year * 4 + told["occurred_on"].dt.quarter - 1
    hand = told.groupby([home.loc[told["customer_id"]].to_numpy(), quarter])[["steps", "handling_minutes"]]
    np.testing.assert_allclose(q.loc[hand.mean().index, ["steps", "handling"]].astype(float), hand.mean().astype(float))
    assert q["cases"].sum() == len(told)
    assert q["income"].sum() == pytest.approx((months["net_interest"] + months["fees"]).sum())
    both = reductions.handling_by_steps(bank)
    own = told.groupby("customer_id")[["steps", "handling_minutes"]].transform("mean")
    steps, minutes = told["steps"] - own["steps"], told["handling_minutes"] - own["handling_minutes"]
    assert slopes(both)[0].value == pytest.approx((steps * minutes).sum() / (steps**2).sum())
    mean = told.groupby("customer_id")[["steps", "handling_minutes"]].mean()
    assert slopes(both)[1].value == pytest.approx(np.polyfit(mean["steps"], mean["handling_minutes"], 1)[0])
    near = reductions.near_threshold(bank, threshold=THRESHOLD)
    survey = frames["survey"]
    month = survey["wave_on"].dt.to_period("M").dt.to_timestamp() - pd.DateOffset(months=1)
    known = survey.assign(month=month).merge(months[months["balance"] > 0], on=["customer_id", "month"])
    np.testing.assert_allclose(np.sort(near["x"]), np.sort(np.log(known["balance"].astype(float) / THRESHOLD)))
    items = known[[f"satisfaction_{k}" for k in range(1, 5)]].mean(axis=1)
    assert near["answer"].mean() == pytest.approx(items.mean())
    managed = reductions.managed(bank)
    mine = months[months["customer_id"].isin(people.dropna(subset=["manager_id"])["customer_id"])]
    made = mine["net_interest"] + mine["fees"] - mine["service_cost"] - mine["risk_cost"]
    assert managed["made"].sum() == pytest.approx(made.sum())
    assert managed["n"].sum() == len(mine)


def test_stays_by_waiting_are_those_counted_by_hand():
    s = settings(customers=1_500, months=30)
    frames, found = simulated.frames(s, TABLES), reductions.stays_by_waiting(simulated.bank(s, TABLES))
    visits = frames["service"].dropna(subset=["wait_minutes"])
    visits = visits.assign(quarter=visits["occurred_on"].dt.to_period("Q"))
    one = visits.groupby(["customer_id", "quarter"])["wait_minutes"].agg(["size", "sum"])
    gone = frames["customers"].set_index("customer_id")
    later = one.groupby("customer_id").cumcount() > 0
    rows = one[later].reset_index()
    left = gone.loc[rows["customer_id"], "left_on"].dt.to_period("Q").to_numpy() == rows["quarter"].to_numpy()
    chosen = (gone.loc[rows["customer_id"], "exit_cause"] == "voluntary").to_numpy()
    assert found["n"].sum() == len(rows)
    assert found["exits"].sum() == (left & chosen).sum() > 10


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_slopes_are_those_of_a_regression_with_units(seed):
    g = np.random.default_rng(seed)
    unit = np.repeat(np.arange(60), 5)
    x = g.normal(size=300) + g.normal(size=60)[unit]
    y = 0.5 * x + g.normal(size=60)[unit] + g.normal(size=300)
    frame = pd.DataFrame({"unit": unit, "x": x, "y": y})
    mean = frame.groupby("unit").mean()
    gap = frame.set_index("unit") - mean.loc[unit]
    sums = pd.DataFrame({
        "n": 1, "x": mean["x"], "y": mean["y"], "mean_xx": mean["x"] ** 2, "mean_xy": mean["x"] * mean["y"],
        "xx": (gap["x"] ** 2).groupby("unit").sum(), "xy": (gap["x"] * gap["y"]).groupby("unit").sum(),
    })  # fmt: skip
    within, between = slopes(sums)
    b, v = robust_ols(np.column_stack([x, pd.get_dummies(unit).to_numpy(float)]), y, unit)
    assert within.value == pytest.approx(b[0])
    assert within.se == pytest.approx(v[0, 0] ** 0.5, rel=0.25)  # HC3 with a parameter a unit is on the wide side
    b, v = robust_ols(np.column_stack([mean["x"], np.ones(60)]), mean["y"].to_numpy())
    assert (between.value, between.se) == pytest.approx((b[0], v[0, 0] ** 0.5), rel=0.1)


def test_a_jump_of_units_seen_twice_has_the_error_of_units():
    found = []
    for seed in range(60):
        g = np.random.default_rng(seed)
        x = np.tile(g.uniform(-1, 1, 400), 2) + 0.001 * g.normal(size=800)
        y = np.tile(g.normal(size=400), 2) + 0.1 * g.normal(size=800)
        unit = np.tile(np.arange(400), 2)
        plain, told = (jump(x, y, bandwidths=(0.8, 0.8), cluster=c) for c in (None, unit))
        found.append((told.value, told.se, plain.se))
    value, se, plain = np.array(found).T
    assert se.mean() == pytest.approx(value.std(), rel=0.3)  # of 60, three errors of the deviation
    assert plain.mean() < 0.8 * se.mean()


# --- planted truth, naive rows, nothing -------------------------------------------------------------------------------


def test_lines_of_the_simulated_bank_are_found(bank, truth):
    found = lines(bank)
    for line, one in found.items():
        ledger.checked(line, one)
        assert all(check.status != "closed" for check in one.checks), line
    assert holds(found["S29"], truth["S29"])
    assert holds(found["S55"], truth["S55"])
    assert holds(found["S52"], truth["S52"])
    assert holds(found["S53"], truth["S53"])
    assert found["S38"].value == pytest.approx(truth["S38"], abs=4 * found["S38"].se)
    for line, bound in {"S29": 0.02, "S38": 0.01, "S52": 0.05, "S53": 0.002, "S55": 0.2, "S55a": 0.2}.items():
        assert found[line].ci_low > bound, line
    for line, bound in {"S39": 0.97, "S51": -0.02, "S51a": -0.02}.items():
        assert found[line].ci_high < bound, line


def test_naive_rows_leave_the_truth_out(bank, panel, truth):
    read = service.handling(panel, reductions.handling_by_steps(bank), window_quarters=8)
    assert naive(read, "naive")["low"] > truth["S55"] + 0.2  # hard cases take longer
    read = service.invited(reductions.campaigns(bank), campaign="invite")
    assert naive(read, "naive")["low"] > truth["S53"] + 0.01  # who comes is loyal anyway
    read = service.managed(reductions.managed(bank))
    assert naive(read, "naive")["low"] > truth["S38"] + 0.05  # able managers use the system more


def test_nothing_is_found_where_nothing_is_planted():
    found = lines(simulated.bank(settings(**NOTHING, handling_step=0.0, handling_case=0.0), TABLES))
    for line in ("S29", "S38", "S39", "S51", "S52", "S53"):
        assert position(found[line].ci_low, found[line].ci_high, ledger.lines()[line].bound) != "supported", line
    assert not found["S55"].ci_low > 0.2  # no steps are taken away: the ratio has no ends, or holds none
    naive_off = service.managed(reductions.managed(simulated.bank(settings(**NOTHING), TABLES)))
    assert abs(naive(naive_off, "naive")["share of the mean"]) < 0.15  # ability moves nothing any more


def test_conversion_shows_waiting_and_revenue_and_who_is_missing(panel):
    read = service.beside(panel, **OPTIONS)
    by = read.table.set_index(["outcome", "reading"])["effect"]
    first = {
        name.split(",")[0].split(" of")[0]: value for (name, how), value in by.items() if how.startswith("not yet")
    }
    assert first["waiting"] < -2  # a quarter of some fourteen minutes, built up over a year
    assert 0.005 < first["log"] < 0.09  # fees are a part of income
    gaps = panel.copy()
    gaps.loc[(panel["branch"] < 5) & (panel["quarter"] == 8_090), "satisfaction"] = np.nan
    table = service.missing(gaps).table
    assert table.loc[table["panel"] == "left out", "branches"].sum() == 5


# --- gates ------------------------------------------------------------------------------------------------------------


def test_customers_who_lift_themselves_over_close_the_gate():
    result = priority(simulated.bank(settings("bunching"), TABLES))
    status = {c.name: c.status for c in result.finding("S52").checks}
    assert status["nobody sorts across the threshold"] == "closed"


@pytest.mark.parametrize("moved", ["age", "tenure", "answer"])
def test_what_jumps_beforehand_or_elsewhere_closes_the_gate(bank, moved):
    frame = reductions.near_threshold(bank, threshold=THRESHOLD)
    below = frame.loc[(frame["x"] < 0) & frame["answer"].notna(), "x"]
    over = frame["x"] >= (0 if moved != "answer" else float(below.quantile(0.75)))
    frame[moved] = frame[moved] + 2 * frame[moved].std() * over
    gates = [
        c.status for c in service.priority(frame, reductions.balances(bank, threshold=THRESHOLD)).finding("S52").checks
    ]
    assert "closed" in gates


@pytest.mark.parametrize("lead", [0.0, 0.5])
def test_use_that_follows_contribution_closes_the_gate(bank, lead):
    frame = reductions.managed(bank)
    later = frame[["manager", "month", "use"]].assign(month=frame["month"] - 12)
    both = frame.merge(later, on=["manager", "month"], how="left", suffixes=("", "_later"))
    z = (both["use_later"] - both["use"].mean()).fillna(0) / both["use"].std()
    frame["made"] = frame["made"] * (1 + lead * z.to_numpy())
    gates = {c.name: c.status for c in service.managed(frame).finding("S38").checks}
    assert gates["later use foretells nothing"] == ("closed" if lead else "open")


def test_arms_that_differ_beforehand_close_the_gate_and_who_came_is_no_part_of_it(bank):
    frame = reductions.campaigns(bank)
    plain = service.invited(frame, campaign="invite").finding("S53")
    mixed = frame.assign(responded=np.random.default_rng(1).permutation(frame["responded"]))
    assert service.invited(mixed, campaign="invite").finding("S53").value == plain.value
    worse = frame.assign(x_age=frame["x_age"] + 5 * frame["treated"])
    assert service.invited(worse, campaign="invite").finding("S53").checks[0].status == "closed"


def drawn(seed, *, choose):
    """Customers of whom all answer below the threshold and, by choice, the better ones or any above it; jump of .5."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, 6_000), rng.normal(size=6_000)
    y = np.round(2 * (y + 0.5 * (x >= 0))) / 2  # few different answers
    asked = rng.random(6_000) < np.where(x >= 0, 0.9, 0.6)
    best = rng.random(6_000) < np.where(x >= 0, np.where(y > np.quantile(y, 0.3), 0.95, 0.4), 0.6)
    told = best if choose else asked
    frame = pd.DataFrame({"unit": np.arange(6_000), "x": x, "answer": np.where(told, y, np.nan), "weight": 1.0})
    return frame.assign(age=rng.normal(size=6_000))


@pytest.mark.parametrize("choose", [False, True])
def test_the_bounds_hold_the_jump_whoever_answers(choose):
    held = []
    for seed in range(6):
        frame = drawn(seed, choose=choose)
        result = service.priority(frame, frame[["x"]])
        rows = result.table.set_index("jump")[["low", "high"]]
        scale = frame["answer"].std()
        two = rows[rows.index.str.contains("side that answers more")]
        held.append(two["low"].min() <= 0.5 / scale <= two["high"].max())
        checks = {c.name: c.status for c in result.finding("S52").checks}
        assert checks["who answers does not turn on the answer"] == ("open" if two["low"].min() > 0.05 else "declared")
    assert all(held)


@pytest.mark.parametrize("absent", ["balances", "age", "few"])
def test_a_gate_that_cannot_be_looked_at_is_declared(absent):
    frame = drawn(1, choose=False)
    balances = frame[["x"]][:5] if absent == "balances" else frame[["x"]]
    if absent == "age":
        frame = frame.drop(columns="age")
    if absent == "few":
        frame["x"] = np.where(frame["x"] < 0, -1, 1) * (np.abs(frame["x"]).rank(method="first") % 25 + 1) / 25
    name = {"balances": "nobody sorts", "age": "alike on both", "few": "no jump where"}[absent]
    checks = service.priority(frame, balances).finding("S52").checks
    assert len(checks) == 4
    assert next(c for c in checks if c.name.startswith(name)).status == "declared"


def test_equal_answers_are_left_out_evenly():
    rows = service.threshold._lowest(np.array([3.0, 1, 2, 2, 2, 2]), np.arange(6), 0.5)
    assert rows.tolist() == [1, 2, 4]


# --- banks that bring little ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", ["branches", "pulse", "service", "monthly", "managers", "survey", "contacts"])
def test_what_a_bank_lacks_is_said_and_the_rest_is_read(absent):
    s = settings(customers=1_000, months=30)
    frames = simulated.frames(s, TABLES)
    del frames[absent]
    bank = Bank.from_frames(frames, simulated.about(s))
    q = reductions.branch_quarters(bank)
    read = {
        "branches": service.conversion(q, **OPTIONS), "pulse": service.missing(q), "service": customers(bank),
        "monthly": priority(bank), "survey": priority(bank), "managers": service.managed(reductions.managed(bank)),
        "contacts": service.invited(reductions.campaigns(bank), campaign="invite"),
    }  # fmt: skip
    assert absent in str(read[absent].missing.tables) or absent in read[absent].missing.reason
    for result in (service.beside(q, **OPTIONS), service.dose(q), service.waiting(q)):
        assert result.applicable or result.missing.reason


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda b: service.invited(reductions.campaigns(b), campaign="outing"), "no campaign 'outing'"),
        (lambda b: service.invited(reductions.campaigns(b), campaign="target"), "no campaign 'target'"),
        (lambda b: priority(b, 1e9), "one side"),
        (lambda b: priority(b, 0.01), "one side"),
        (lambda b: reductions.near_threshold(b, threshold=THRESHOLD, answer="joy"), "no number called 'joy'"),
        (lambda b: service.managed(reductions.managed(b).assign(use=1.0)), "whose use of the system moves"),
        (lambda b: service.managed(reductions.managed(b).query("manager < 5")), "whose use of the system moves"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(bank, told, words):
    found = told(bank)
    missing = found if isinstance(found, Missing) else found.missing
    assert words in missing.reason
    assert "\n" not in missing.reason
