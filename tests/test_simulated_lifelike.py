"""The harder world of the simulated bank: each mechanism by two routes, and `wider` where they are taken away."""

import numpy as np
import pytest

from crmresearch.lab import simulated
from crmresearch.lab.simulated import accounts, draws, estimands, life, relations
from crmresearch.lab.simulated.campaigns import campaign_months
from crmresearch.lab.simulated.people import standard_age

Settings = simulated.Settings
BLOCKS = 4


def lives(s):
    return [life.draw_life(s, b) for b in range(BLOCKS)]


def joined(drawn, of):
    return np.concatenate([of(d) for d in drawn])


def test_without_what_it_changes_the_world_is_wider():
    wider = Settings(world="wider")
    changed = set(simulated.worlds()["lifelike"]["changes"]) - set(simulated.worlds()["wider"]["changes"])
    assert {"balance_tail", "rare_loss", "retain_spread", "loading_spread", "trait_correlation"} <= changed
    given = wider.parameters.model_dump()
    assert Settings(world="lifelike", changes={name: given[name] for name in changed}).parameters == wider.parameters


# --- contacts that keep some and drive others away --------------------------------------------------------------------


@pytest.mark.parametrize(("campaign", "spread"), [("trial", 0.8), ("target", 1.5), ("trial", 0.3)])
def test_a_contact_drives_away_as_many_as_the_closed_form_says_and_keeps_as_many_on_average(campaign, spread):
    """Hazards with a contact for everybody over those without, same random numbers."""
    s = Settings(seed=3, changes={"retain_spread": spread})
    log = []
    for block, one in enumerate(lives(s)):
        on, off = (life.with_arm(s, one, block, campaign, arm) for arm in (1, 0))
        month = campaign_months(60)[campaign]
        log.append((on.linear - off.linear)[life.contacted(one, campaign), month])
    moved = np.concatenate(log)
    harmed, error = estimands.closed_forms(s)["retain.harmed.share"], 4 / np.sqrt(len(moved))
    assert (moved > 0).mean() == pytest.approx(harmed, abs=error * np.sqrt(harmed * (1 - harmed)))
    ratio = np.exp(moved)
    planted = np.exp(estimands.parameter_estimands(s)["cox.retain.log_hr"])
    assert ratio.mean() == pytest.approx(planted, abs=error * ratio.std())


def test_contacts_keep_about_as_many_customers_as_in_a_bank_where_they_work_alike():
    """Drawn exits of the arms given to everybody against the expectation, and against a bank of one effect."""
    s, alike = (Settings(seed=4, changes={"retain_spread": k}) for k in (0.8, 0.0))
    at, kept = campaign_months(60)["trial"], []
    for block, one in enumerate(lives(s)):
        there = life.contacted(one, "trial") & (one.left > at)
        stay = [life.with_arm(s, one, block, "trial", arm).left[there] > at + 12 for arm in (1, 0)]
        kept.append(stay[0].astype(int) - stay[1])
    kept = np.concatenate(kept)
    expected = [draws.limits(one, BLOCKS, people=1)[0]["campaign.itt.retention_12m"] for one in (s, alike)]
    assert kept.mean() == pytest.approx(expected[0], abs=4 * kept.std() / np.sqrt(len(kept)))
    assert (kept < 0).any()
    assert expected[0] == pytest.approx(expected[1], rel=0.2)  # whom it drives away is left to chance


# --- contribution -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "rate", "size"), [(1, 0.01, 15_000), (2, 0.05, 800), (3, 0.02, 100_000)])
def test_rare_losses_cost_what_they_should_and_move_nothing_else(seed, rate, size):
    on, off = Settings(seed=seed, changes={"rare_loss": rate, "rare_loss_size": size}), Settings(seed=seed)
    lost = []
    for block, one in enumerate(lives(off)):
        a, b = (accounts.monthly(s, one, block) for s in (on, off))
        lost.append((a.pop("risk_cost") - b.pop("risk_cost")) / 100)
        for name, column in a.items():
            own = (column.codes, b[name].codes) if name == "customer_id" else (column, b[name])
            np.testing.assert_array_equal(*own)
    lost = np.concatenate(lost)
    hits = len(lost) * rate / 12
    assert (lost > 0).sum() == pytest.approx(hits, abs=4 * np.sqrt(hits))
    assert lost.sum() == pytest.approx(hits * size, abs=4 * size * np.sqrt(2 * hits))


@pytest.mark.parametrize("tail", [1.5, 2.2, 4.0])
def test_the_wealthiest_tenth_has_a_tail_and_the_others_are_as_before(tail):
    """Hill's estimate of the index, and how many hold ten times what the tenth begins with (Pareto)."""
    on, off = (lives(Settings(seed=6, changes={"balance_tail": k, "balance_noise": 0.0})) for k in (tail, 0.0))
    a, b = (joined(one, lambda d: d.log_balance[:, 0]) for one in (on, off))
    value = joined(on, lambda d: d.people.value)
    p = Settings().parameters
    edge = np.log(p.balance_median) + p.balance_spread * 1.2815516
    rich = a > edge
    np.testing.assert_array_equal(a[~rich], b[~rich])
    np.testing.assert_array_equal(np.argsort(a), np.argsort(value))  # the same order of customers
    above = (a - edge)[rich]
    assert 1 / above.mean() == pytest.approx(tail, rel=5 / np.sqrt(len(above)))  # who is won easily is worth less
    few = 10.0 ** -min(tail, 2.0)
    far = np.log(few) / -tail
    assert (above > far).mean() == pytest.approx(few, abs=5 * np.sqrt(few / len(above)))


def test_contribution_has_a_long_tail_on_both_sides():
    s = [draws.contributions(Settings(seed=8, world=w), b) for w in ("wider", "lifelike") for b in range(BLOCKS)]
    wider, own = (np.concatenate(part) for part in (s[:BLOCKS], s[BLOCKS:]))
    assert own.max() > 1.5 * wider.max()
    assert own.min() < wider.min()
    assert own.std() > 1.3 * wider.std()


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("middle", "spread"), [(0.65, 0.25), (0.82, 0.0), (0.5, 0.4), (0.8, 0.2)])
def test_items_load_as_planted(middle, spread):
    """Correlation of each item with the attitude, of unit variance in the first wave, against its loading."""
    s = Settings(seed=9, changes={"item_loading": middle, "loading_spread": spread, "response": 1 - 1e-9,
                                  "survey_share": 1.0, "response_complaint": 0.0})  # fmt: skip
    expected = relations.loadings(s.parameters)
    assert expected == pytest.approx(middle + spread * np.array([-1, -1 / 3, 1 / 3, 1]))
    drawn = [relations.survey(s, d, b) for b, d in enumerate(lives(s))]
    latent = np.concatenate(
        [d.attitudes["IMAG"][f["customer_id"].codes[f["wave_on"] == f["wave_on"].min()], 0]
         for f, d in zip(drawn, lives(s), strict=True)]
    )  # fmt: skip
    for item, loading in zip(relations.ITEMS["IMAG"], expected, strict=True):
        answers = np.concatenate([f[item][f["wave_on"] == f["wave_on"].min()] for f in drawn])
        # whole answers from 1 to 10 take two hundredths of it
        assert np.corrcoef(answers, latent)[0, 1] == pytest.approx(0.98 * loading, abs=0.06)


@pytest.mark.parametrize("loading", [0.4, 0.65, 0.9])
def test_moments_of_answers_are_those_of_answers_drawn(loading):
    g = np.random.default_rng(1)
    for level in (-1.5, 0.0, 2.0):
        answers = relations.answered(loading, level, g.standard_normal(200_000))
        mean, square = relations.answer_moments(loading, np.array(level))
        assert answers.mean() == pytest.approx(mean, abs=0.02)
        assert (answers**2).mean() == pytest.approx(square, abs=0.25)


def test_who_is_satisfied_answers_more_often():
    """Mean satisfaction of those who answer less that of all invited: more than in `wider`."""
    gaps = []
    for world in ("wider", "lifelike"):
        s, z = Settings(seed=10, world=world), {}
        draws._survey_sums(s, 0, life.draw_life(s, 0), z)
        gaps.append(z["answers.sum"] / z["answers.n"] - z["satisfaction.sum"] / z["satisfaction.n"])
    assert gaps[1] > gaps[0] + 0.1


# --- traits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "r"), [(1, 0.3), (2, -0.4), (3, 0.6)])
def test_traits_go_together_as_planted(seed, r):
    drawn = lives(Settings(seed=seed, changes={"trait_correlation": r}))
    age, value, service = (joined(drawn, lambda d, k=k: getattr(d.people, k)) for k in ("age", "value", "service"))
    lean = joined(drawn, lambda d: d.platforms)
    error = 4 / np.sqrt(len(age))
    for a, b, expected in ((age, value, r), (value, service, r), (age, lean, -r)):
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(expected, abs=error)
    for x in (standard_age(age), value, service, lean):
        assert x.std() == pytest.approx(1, abs=0.06)
