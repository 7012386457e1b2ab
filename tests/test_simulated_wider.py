"""Rates by lot, growing concern, and declined choices of the simulated bank: truth by two routes, nothing where off."""

import numpy as np
import pytest
from scipy.stats import norm

from crmresearch.data.reductions.preference import OWN
from crmresearch.estimators.choice import conditional_logit
from crmresearch.lab import simulated
from crmresearch.lab.simulated import draws, estimands, life, markets, relations

Settings = simulated.Settings


def parameter(s, name):
    return estimands.parameter_estimands(s)[name]


# --- what the bank pays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "spread", "effect"), [(1, 25, -0.15), (2, 50, -0.1), (3, 10, 0.4)])
def test_a_rate_gap_moves_the_hazard_as_planted(seed, spread, effect):
    """Log hazards with the effect less those without, same random numbers, on the table's gap."""
    on = Settings(2_048, 60, seed, changes={"rate_spread": spread, "rate_exit": effect})
    off = Settings(2_048, 60, seed, changes={"rate_spread": spread})
    gap = simulated.frames(on, ["markets"])["markets"].pivot(index="city_id", columns="month", values="rate_gap")
    assert set(np.unique(gap)) == {-spread, 0, spread}
    a, b = life.draw_life(on, 0), life.draw_life(off, 0)
    expected = parameter(on, "cox.rate_gap.log_hr") / 25 * gap.to_numpy()[a.people.city]
    np.testing.assert_allclose(a.linear - b.linear, expected, atol=1e-12)


def test_drawn_exits_follow_the_rate_gap():
    """Exits drawn under each gap over the time at risk there: their ratio is the parameter."""
    s = Settings(seed=7, changes={"rate_spread": 25, "rate_exit": -0.5})
    gap, exits, time = markets.rate_gaps(s), np.zeros(3), np.zeros(3)
    for block in range(8):
        d = life.draw_life(s, block)
        own = (gap[d.people.city] / 25 + 1).astype(int)
        without = np.exp(-parameter(s, "cox.rate_gap.log_hr") * (own - 1)) * d.cumulative[:, :, 0]
        time += np.bincount(own.ravel(), (draws.alive(d) * without).ravel(), 3)
        gone = np.flatnonzero(d.cause == 0)
        exits += np.bincount(own[gone, d.left[gone].astype(int)], minlength=3)
    log = np.log(exits / time)
    assert (log[2] - log[0]) / 2 == pytest.approx(-0.5, abs=4 * np.sqrt((1 / exits).sum()) / 2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rates_are_drawn_by_lot(seed):
    """A third of city-months each, and nothing to do with the month before or with the entry of rivals."""
    s = Settings(seed=seed, world="wider")
    gap = markets.rate_gaps(s) / 25
    error = 1 / np.sqrt(gap.size)
    assert [(gap == k).mean() for k in (-1, 0, 1)] == pytest.approx([1 / 3] * 3, abs=2 * error)
    assert abs(np.corrcoef(gap[:, 1:].ravel(), gap[:, :-1].ravel())[0, 1]) < 4 * error
    assert abs(np.corrcoef(gap.ravel(), markets.rival_months(s).ravel())[0, 1]) < 4 * error


@pytest.mark.parametrize(
    "shared",
    [{"rate_exit": 0.1, "rate_spread": 25}, {"intensity_entry": -0.2}, {"use_margin": 0.1}, {"ability_margin": 0.1}],
)
def test_limits_average_over_what_customers_of_a_city_or_a_manager_share(shared):
    assert draws._bank(Settings(seed=5, changes=shared), 3).seed == 8
    assert draws._bank(Settings(seed=5), 3).seed == 5


# --- growing concern --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "growth"), [(1, 0.15), (2, -0.1), (3, 0.3)])
def test_answers_about_concern_move_as_planted_and_nothing_else(seed, growth):
    """The same people with the same random numbers: answers move as the closed form says, the first wave not at all."""
    on, off = Settings(4_096, 60, seed, changes={"concern_growth": growth}), Settings(4_096, 60, seed)
    a, b = (simulated.frames(s, ["survey"])["survey"] for s in (on, off))
    items = relations.ITEMS["CONC"]
    assert a.drop(columns=items).equals(b.drop(columns=items))
    moved = (a[items] - b[items]).mean(axis=1).groupby(a["wave_on"]).mean().to_numpy()
    years = np.array(life.wave_months(60)) / 12
    shift = parameter(on, "concern.growth") * on.parameters.item_loading * (years - years[0])
    # the mean of whole answers from 1 to 10, of a normal that is moved
    mean = 1 + norm.sf((np.arange(1.5, 10) - 6.6)[:, None] / 1.9 - shift).sum(axis=0)
    assert moved[0] == 0
    assert moved == pytest.approx(mean - mean[0], abs=0.04)  # some 300 answer each wave


# --- choosing none ----------------------------------------------------------------------------------------------------


def tasks(s):
    """Choices as customer-task x option: which was chosen, attributes by name, and who is older."""
    got = simulated.frames(s, ["choices", "customers"])
    frame = got["choices"].merge(got["customers"][["customer_id", "birth_year"]], on="customer_id")
    size = frame["option_id"].nunique()
    wide = {c: frame[c].to_numpy().reshape(-1, size) for c in frame if c not in OWN and c != "birth_year"}
    return frame["chosen"].to_numpy().reshape(-1, size), wide, frame["birth_year"].to_numpy()[::size] <= 1970


def with_none(s, younger, older):
    taste = {age: {**t, "opt_out": c} for (age, t), c in zip(s.parameters.taste.items(), (younger, older), strict=True)}
    return Settings(s.customers, s.months, s.seed, s.world, {"taste": taste})


@pytest.mark.parametrize(("seed", "younger", "older"), [(1, 3.0, 2.0), (2, 2.0, 2.0), (3, -1.0, 1.5)])
def test_tasks_are_declined_as_often_as_the_logit_says(seed, younger, older):
    """Share of tasks with none chosen against the closed form, by age; who chooses a product chooses as without."""
    off = Settings(12_288, 6, seed)
    on = with_none(off, younger, older)
    chosen, x, old = tasks(on)
    before, _, _ = tasks(off)
    value = 0.0
    for name, attribute in x.items():
        taste = np.where(old, *(parameter(on, f"taste.{age}.{name}") for age in ("older", "younger")))
        value = value + taste[:, None] * attribute
    chance = np.exp(value)[:, -1] / np.exp(value).sum(axis=1)
    assert (x["opt_out"].sum(axis=1) == 1).all()
    for group in (old, ~old):
        error = np.sqrt((chance * (1 - chance))[group].sum()) / group.sum()
        assert chosen[group, -1].mean() == pytest.approx(chance[group].mean(), abs=4 * error)
    took = ~chosen[:, -1]
    np.testing.assert_array_equal(chosen[took, :-1], before[took])


def test_conditional_logit_finds_the_taste_for_none():
    s = Settings(world="wider")
    chosen, x, old = tasks(s)
    names = list(x)
    stacked = np.stack([x[n][~old] for n in names], axis=2).reshape(-1, len(names))
    task = np.repeat(np.arange((~old).sum()), 4)
    fit = conditional_logit(stacked, chosen[~old].ravel(), task, task)
    planted = [parameter(s, f"taste.younger.{n}") for n in names]
    assert abs((fit.params - planted) / np.sqrt(np.diag(fit.model_covariance))).max() < 4
    assert 0.05 < chosen[:, -1].mean() < 0.4


@pytest.mark.parametrize(
    ("table", "column", "worlds"),
    [
        ("markets", "rate_gap", ("wider", "risky_cities")),
        ("markets", "always_treated", ("wider", "lifelike")),
        ("choices", "opt_out", ("wider", "selected_entry")),
    ],
)
def test_columns_are_there_only_where_they_do_something(table, column, worlds):
    for world in ("baseline", "null", "small", *worlds):
        assert (column in simulated.frames(Settings(50, 6, world=world), [table])[table]) is (world in worlds)


@pytest.mark.parametrize("world", ["wider", "selected_entry", "lifelike"])
def test_cities_are_marked_where_rivals_were_from_the_start(world):
    table = simulated.frames(Settings(50, 24, world=world), ["markets"])["markets"]
    first = table[table["month"] == table["month"].min()]
    assert 0 < first["always_treated"].sum() < len(first)
    assert (first["always_treated"].astype(bool) == (first["rival_branches"] > 0)).all()
    assert (table.groupby("city_id")["always_treated"].nunique() == 1).all()
