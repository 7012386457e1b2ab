"""Look-ups, adopters from before, managers, companies, gains and classes: truth by two routes, nothing where off."""

import numpy as np
import pytest

from crmresearch.lab import simulated
from crmresearch.lab.simulated import accounts, draws, estimands, intentions, life, managers, relations, traits

Settings = simulated.Settings
NOTHING_ELSE = [
    ({"lookups_month": 20.0}, {"monthly": {"lookups", "lookups_last_week"}}, set()),
    ({"crm_hours": 20.0}, {}, {"managers"}),
    ({"benefit_share": 0.6}, {"survey": {"net_benefit"}}, set()),
]


def truth(s, name):
    return {**estimands.parameter_estimands(s), **estimands.closed_forms(s)}[name]


@pytest.mark.parametrize(("changes", "new_columns", "tables"), NOTHING_ELSE)
def test_without_an_effect_columns_and_tables_are_added_and_nothing_else(changes, new_columns, tables):
    plain, known = (simulated.frames(Settings(300, 24, 3, changes=c)) for c in ({}, changes))
    assert set(known) - set(plain) == tables
    for name, frame in plain.items():
        assert set(known[name]) - set(frame) == new_columns.get(name, set())
        assert known[name][frame.columns].equals(frame), name


# --- intentions and look-ups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "start", "effect"), [(1, 0.04, 3.0), (2, 0.1, 1.0), (3, 0.02, -1.0)])
def test_an_intention_moves_the_hazard_around_its_mean(seed, start, effect):
    on, off = (Settings(seed=seed, changes={"intention_start": start, "intention_exit": e}) for e in (effect, 0.0))
    a, b = life.draw_life(on, 0), life.draw_life(off, 0)
    _, _, felt = intentions.draw_intentions(on, 0)
    moved = a.linear - b.linear
    assert moved[felt].mean() - moved[~felt].mean() == pytest.approx(truth(on, "cox.intention.log_hr"))
    share = truth(on, "intention.share")
    assert felt[:, 12:].mean() == pytest.approx(share, abs=5 * np.sqrt(share / felt[:, 12:].size))
    assert np.exp(moved[:, 12:]).mean() == pytest.approx(1, abs=0.1)  # exits are as many as without


def test_an_intention_comes_first_and_fades_with_an_exit_or_without():
    """Each is felt from the month after the one in which it begins, whether the customer leaves or not."""
    s = Settings(seed=3, world="wider")
    begins, at, felt = intentions.draw_intentions(s, 0)
    assert ((at >= intentions.EARLIEST) & (at < 1)).all()
    assert felt[:, 1:][begins[:, :-1]].all()
    starts = felt[:, 1:] & ~felt[:, :-1]
    assert begins[:, :-1][starts].all()
    length = [np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]))))[::2] for row in felt.astype(int)]
    assert np.concatenate(length).mean() == pytest.approx(1 / intentions.FADES, abs=0.12)  # some meet the next one
    d = life.draw_life(s, 0)
    gone = (d.cause == 0)[:, None] & (np.floor(d.left)[:, None] == np.arange(60))
    assert 0.005 < gone[felt].mean() < 0.2  # most fade


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_look_ups_whether_the_intention_moves_exits_or_not(seed):
    """Look-ups tell of the intention, not of the exit: who stays in both worlds looked up the same before."""
    twice = []
    for effect in (3.0, 0.0):
        s = Settings(seed=seed, world="wider", changes={"intention_exit": effect, "lookups_month": 20})
        d = life.draw_life(s, 0)
        table = accounts.monthly(s, d, 0)
        row, month = table["customer_id"].codes, np.searchsorted(np.unique(table["month"]), table["month"])
        begins, _, felt = intentions.draw_intentions(s, 0)
        mobile = (d.adopted[row] < month) & (d.left[row] > month + 1) & (d.exposed[row, month] == 1)
        quiet = mobile & ~felt[row, month] & ~begins[row, month]
        means = [table["lookups"][k].mean() for k in (quiet, mobile & felt[row, month])]
        week = [table["lookups_last_week"][k].mean() for k in (quiet, mobile & begins[row, month])]
        assert means[0] == pytest.approx(20, rel=0.06)
        assert means[1] / means[0] == pytest.approx(2, rel=0.07)
        assert week[0] / means[0] == pytest.approx(intentions.WEEK, rel=0.03)
        # begun in the second half: all of the last week is doubled in (.5 - week) of .5, and half of it else
        assert week[1] / week[0] == pytest.approx(2 - intentions.WEEK, rel=0.07)
        assert not table["lookups"][d.adopted[row] >= month].any()
        twice.append(means[0])
    assert twice[0] == pytest.approx(twice[1], rel=0.05)


# --- adopters from before ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "years"), [(1, 4.0), (2, 1.0), (3, 10.0)])
def test_some_adopted_before_the_observation_as_the_rate_says(seed, years):
    s = Settings(seed=seed, changes={"mobile_history": years})
    p, expected, before, n = s.parameters, 0.0, 0, 0
    for b in range(4):
        d = life.draw_life(s, b)
        old = d.people.acquired < 0
        rate = p.mobile_rate / 12 * np.exp(p.mobile_age * (d.people.age - 40) + p.mobile_concern * d.concern)
        had = np.minimum(-d.people.acquired, 12 * years)[old]
        expected, n = expected - np.expm1(-rate[old] * had).sum(), n + old.sum()
        before += (d.adopted[old] < 0).sum()
    assert before == pytest.approx(expected, abs=4 * np.sqrt(n) / 2)
    limit = draws.limits(s, 4)[0]["mobile.before.share"]
    assert limit == pytest.approx(before / n)


def test_nobody_adopted_before_where_it_is_off():
    assert (life.draw_life(Settings(seed=2), 0).adopted >= 0).all()


# --- managers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "use", "ability", "rho"), [(1, 0.06, 0.15, 0.6), (2, 0.2, 0.0, 0.0), (3, 0.0, 0.3, 0.9)]
)
def test_use_and_ability_move_the_interest_of_those_who_are_managed(seed, use, ability, rho):
    effects = {"crm_hours": 20, "use_follows_ability": rho, "use_margin": use, "ability_margin": ability}
    on, off = Settings(seed=seed, changes=effects), Settings(seed=seed)
    a, b = (accounts.monthly(s, life.draw_life(s, 0), 0) for s in (on, off))
    d, (able, used) = life.draw_life(on, 0), managers.draw_managers(on)
    row, month = a["customer_id"].codes, np.searchsorted(np.unique(a["month"]), a["month"])
    city, large = d.people.city[row], b["net_interest"] > 2_000
    ratio = np.log(a["net_interest"][large] / b["net_interest"][large])
    expected = (ability * able[city] + truth(on, "manager.use.log_margin") * used[city, month]) * d.managed[row]
    np.testing.assert_allclose(ratio, expected[large], atol=2e-3)  # whole cents


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_able_managers_use_the_system_more_so_that_comparing_them_misleads(seed):
    s = Settings(20_000, 60, seed, "wider")
    table = simulated.frames(s, ["managers"])["managers"]
    used = table.pivot(index="manager_id", columns="month", values="crm_use").to_numpy()
    able, _ = managers.draw_managers(s)
    assert used.mean() == pytest.approx(20, rel=0.1)
    assert np.corrcoef(able, used[:, 5])[0, 1] == pytest.approx(0.6, abs=0.3)
    use = (used - 20) / 20 / managers.SPREAD
    p = s.parameters
    margin = p.ability_margin * able[:, None] + p.use_margin * use
    within = use - use.mean(axis=1, keepdims=True)
    assert (within * margin).sum() / (within**2).sum() == pytest.approx(p.use_margin, abs=1e-6)
    found = [np.polyfit(use[:, m], margin[:, m], 1)[0] for m in range(60)]
    assert np.mean(found) == pytest.approx(truth(s, "manager.use.log_margin.between"), abs=0.04)


# --- companies, gains, classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "share", "rate"), [(1, 0.12, 0.15), (2, 0.5, 0.1), (3, 0.3, 1.0)])
def test_companies_hold_electronic_commerce_as_the_rates_say(seed, share, rate):
    s = Settings(6_144, 60, seed, changes={"corporate_share": share, "ecommerce_rate": rate})
    got = simulated.frames(s, ["customers", "holdings"])
    customers, end = got["customers"].set_index("customer_id"), np.datetime64("2025-12-31")
    firm = customers["customer_type"] == "corporate"
    assert firm.mean() == pytest.approx(truth(s, "corporate.share"), abs=4 * np.sqrt(0.25 / len(firm)))
    online = got["holdings"][got["holdings"]["product_family"] == "ecommerce"]
    assert firm[online["customer_id"]].all()
    assert online["term_months"].isna().all()
    stays = firm & customers["left_on"].isna()
    years = (end - customers["acquired_on"][stays]).dt.days / 365.25
    close = s.parameters.family_close
    chance = rate / (close - rate) * (np.exp(-rate * years) - np.exp(-close * years))
    has = online[online["closed_on"].isna()]["customer_id"].nunique()
    assert has == pytest.approx(chance.sum(), abs=4 * np.sqrt((chance * (1 - chance)).sum()) + 0.05 * len(chance))
    limit = draws.limits(s, 6)[0]["corporate.ecommerce.share"]
    assert limit == pytest.approx(has / stays.sum(), abs=0.04)


@pytest.mark.parametrize(("seed", "share", "effect"), [(1, 0.6, 0.12), (2, 1.0, 0.3), (3, 0.3, -0.2)])
def test_stated_gain_and_margin_move_together_as_planted(seed, share, effect):
    on = Settings(seed=seed, changes={"benefit_share": share, "benefit_margin": effect})
    off = Settings(seed=seed, changes={"benefit_share": share})
    gain, said = traits.benefit(on, 0)
    a, b = (accounts.monthly(s, life.draw_life(s, 0), 0) for s in (on, off))
    row, month = a["customer_id"].codes, np.searchsorted(np.unique(a["month"]), a["month"])
    wave = np.maximum(np.searchsorted(life.wave_months(60), month, side="right") - 1, 0)
    large = b["net_interest"] > 2_000
    ratio = np.log(a["net_interest"][large] / b["net_interest"][large])
    np.testing.assert_allclose(ratio, (truth(on, "benefit.log_margin") * gain[row, wave])[large], atol=2e-3)
    r = np.corrcoef(gain.ravel(), said.ravel())[0, 1]
    assert r == pytest.approx(np.sqrt(share), abs=0.05)  # whole answers
    table = relations.survey(on, life.draw_life(on, 0), 0)
    own = table["responded"] == 1
    first = table["wave_on"] == table["wave_on"].min()
    np.testing.assert_array_equal(table["net_benefit"][own & first], said[table["customer_id"].codes[own & first], 0])


@pytest.mark.parametrize(("seed", "distance"), [(1, 1.0), (2, 0.5), (3, 2.0)])
def test_classes_pay_and_grow_in_ways_of_their_own(seed, distance):
    on, off = Settings(seed=seed, changes={"class_distance": distance}), Settings(seed=seed)
    of = traits.classes(on, 0)
    a, b = life.draw_life(on, 0), life.draw_life(off, 0)
    counts = np.array([(of == k).mean() for k in range(4)])
    assert counts == pytest.approx([0.25] * 4, abs=0.06)
    assert truth(on, "classes.planted") == 4
    assert truth(off, "classes.planted") == 1
    paid = accounts.transactions(on, a, 0)["customer_id"].codes
    months = a.exposed.sum(axis=1).clip(0.1)
    rate = np.bincount(paid, minlength=1024) / months
    for k, sign in enumerate(traits.CLASSES[:, traits.PAYS]):
        usual = np.exp(distance * sign) * on.parameters.transactions_month
        assert 0.3 * usual < rate[(of == k) & (months > 24)].mean() < 1.2 * usual
    here = (a.people.acquired < 0)[:, None] & (a.opened < 48) & (a.opened > 12)
    opened = [here[of == k][:, 1:].sum() / (of == k).sum() for k in range(4)]
    assert min(opened[0], opened[2]) > max(opened[1], opened[3])
    grown = traits.own_margin(on, 0)
    slope = (grown[:, 59] - grown[:, 0]) / 59 * 12
    np.testing.assert_allclose(slope, distance * traits.GROWTH[of])
    assert traits.own_margin(off, 0) == 0.0
    assert b.opened.shape == a.opened.shape
    np.testing.assert_array_equal(estimands.latent(on, a, 0)["class"], of)


def test_optional_parts_are_there_only_where_they_do_something():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("classes", True)):
        bank = simulated.frames(Settings(300, 12, world=world))
        assert ("managers" in bank) is there
        assert ("customer_type" in bank["customers"]) is there
        assert ("net_benefit" in bank["survey"]) is there
        assert ("lookups" in bank["monthly"]) is there
        assert ("ecommerce" in set(bank["holdings"]["product_family"])) is there


@pytest.mark.parametrize("world", ["baseline", "wider", "classes"])
def test_a_bank_describes_every_table_it_has(world):
    bank = simulated.bank(Settings(200, 24, world=world))
    assert list(bank.describe().table.iloc[:, 0]) == list(bank.tables)
    assert ("managers" in bank.tables) is (world != "baseline")
