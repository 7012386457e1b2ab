"""The personal offer and the invitation of the simulated bank: lots, truth by two routes, nothing where off."""

import numpy as np
import pytest

from crmresearch.lab import simulated
from crmresearch.lab.simulated import draws, estimands, life, policies
from crmresearch.lab.simulated.campaigns import campaign_months

Settings = simulated.Settings
LOTS = {"personal_lot": 0.8, "invite_lot": 0.5}
PERSONAL, INVITE = (campaign_months(60)[c] for c in ("personal", "invite"))


def pair(seed, **changes):
    """Lives with an effect and without, the same random numbers."""
    on, off = Settings(seed=seed, changes={**LOTS, **changes}), Settings(seed=seed, changes=LOTS)
    return on, life.draw_life(on, 0), life.draw_life(off, 0)


def test_lots_without_effect_add_rows_of_contacts_and_nothing_else():
    plain, known = (simulated.frames(Settings(300, 24, 3, changes=c)) for c in ({}, LOTS))
    later = known["contacts"]["campaign_id"].isin(["personal", "invite"])
    assert set(known["contacts"]["campaign_id"][later]) == {"personal", "invite"}
    known["contacts"] = known["contacts"][~later].reset_index(drop=True)
    for name, frame in plain.items():
        assert known[name].equals(frame), name


@pytest.mark.parametrize(("seed", "personal", "invite"), [(1, 0.8, 0.5), (2, 0.4, 0.2), (3, 1.0, 0.9)])
def test_arms_are_drawn_by_lot(seed, personal, invite):
    s = Settings(8_192, 60, seed, changes={"personal_lot": personal, "invite_lot": invite})
    got = simulated.frames(s, ["contacts", "customers"])
    c = got["contacts"].merge(got["customers"], on="customer_id")
    expected = {"generic": personal / 2, "personal": personal / 2, "control": 1 - personal}
    for campaign, shares in (("personal", expected), ("invite", {"treatment": invite, "control": 1 - invite})):
        rows = c[c["campaign_id"] == campaign]
        assert rows["randomised"].all()
        assert (rows["purpose"] == "retain").all()
        assert (rows["cost"] == 0).eq(rows["arm"] == "control").all()
        assert rows["responded"].isna().eq(rows["arm"] == "control").all()
        for arm, share in shares.items():
            assert (rows["arm"] == arm).mean() == pytest.approx(share, abs=4 * np.sqrt(0.25 / len(rows)))
        ages = rows.groupby("arm")["birth_year"].agg(["mean", "std", "count"])
        assert np.ptp(ages["mean"]) < 5 * (ages["std"] / np.sqrt(ages["count"])).max()


@pytest.mark.parametrize(("seed", "generic", "personal"), [(1, -0.15, -1.6), (2, 0.2, -0.5), (3, 0.0, 0.7)])
def test_offers_move_the_hazard_of_the_scored_for_a_year(seed, generic, personal):
    s, on, off = pair(seed, generic_exit=generic, personal_exit=personal)
    truth = estimands.parameter_estimands(s)
    size = np.array([0, truth["cox.generic.log_hr"], truth["cox.personal.log_hr"]])[on.arms["personal"]]
    months = (np.arange(60) >= PERSONAL) & (np.arange(60) < PERSONAL + 12)
    reached = on.scored & on.consent & (on.people.acquired < PERSONAL)
    np.testing.assert_allclose(on.linear - off.linear, (size * reached)[:, None] * months, atol=1e-12)
    assert 0.4 < on.scored.mean() < 0.8


@pytest.mark.parametrize(("seed", "size"), [(1, 0.45), (2, -0.3), (3, 1.0)])
def test_a_personal_offer_pleases_half_a_year_later(seed, size):
    s, on, off = pair(seed, personal_satisfaction=size)
    moved = on.attitudes["SAT"] - off.attitudes["SAT"]
    got = life.contacted(on, "personal") & (on.arms["personal"] == 2)
    assert life.wave_months(60)[1] == PERSONAL + 6
    assert not moved[:, 0].any()
    np.testing.assert_allclose(moved[:, 1], estimands.parameter_estimands(s)["satisfaction.personal_offer"] * got)


@pytest.mark.parametrize(("seed", "effect"), [(1, -1.5), (2, -0.3), (3, 0.5)])
def test_an_invitation_works_by_coming(seed, effect):
    s, on, off = pair(seed, invite_exit=effect, attend_loyalty=0.8)
    months = (np.arange(60) >= INVITE) & (np.arange(60) < INVITE + 12)
    came = life.contacted(on, "invite") & (on.arms["invite"] == 1) & on.comes
    size = estimands.parameter_estimands(s)["cox.came.log_hr"]
    np.testing.assert_allclose(on.linear - off.linear, (size * came)[:, None] * months, atol=1e-12)
    assert 0.3 < on.comes.mean() < 0.8


@pytest.mark.parametrize("slope", [0.0, 0.8, 2.0])
def test_the_loyal_come_as_the_logit_says(slope):
    """The score of the logit at its parameters is nothing but noise."""
    s = Settings(seed=5, changes={**LOTS, "attend_loyalty": slope})
    lives = [life.draw_life(s, b) for b in range(6)]
    loyal = np.concatenate([d.attitudes["LOY"][:, 2] for d in lives])
    left = np.concatenate([d.comes for d in lives]) - 1 / (1 + np.exp(-0.4 - slope * loyal))
    for x in (np.ones(len(loyal)), loyal):
        assert abs((left * x).sum()) < 4 * np.sqrt((left**2 * x**2).sum())


def sums(s, blocks=8):
    z = [{} for _ in range(blocks)]
    for b, out in enumerate(z):
        policies.lot_sums(s, life.draw_life(s, b), b, out)
    return {k: sum(out[k] for out in z) for k in z[0]}


def test_who_comes_stays_anyway_but_the_lot_is_not_deceived():
    """Without an effect of coming: those who came stay more often, and those invited do not."""
    s = Settings(seed=5, changes={**LOTS, "attend_loyalty": 0.8})
    of, z = policies.offer_estimands(s), sums(s)
    assert of["campaign.invite.retention_12m"](z) == 0
    assert of["campaign.came.naive.retention_12m"](z) > 0.008  # satisfaction keeps, and makes loyal
    none = Settings(seed=5, changes=LOTS)
    assert abs(policies.offer_estimands(none)["campaign.came.naive.retention_12m"](sums(none))) < 0.004


@pytest.mark.parametrize(("campaign", "arms"), [("personal", (1, 2)), ("personal", (0, 1)), ("invite", (0, 1))])
def test_drawn_exits_agree_with_the_averaged_ones(campaign, arms):
    s, at = Settings(seed=7, world="wider"), campaign_months(60)[campaign]
    z, kept, n = sums(s), np.zeros(2), np.zeros(2)
    for b in range(8):
        d = life.draw_life(s, b)
        there = life.contacted(d, campaign) & (d.left > at)
        for k, arm in enumerate(arms):
            own = there & (d.arms[campaign] == arm)
            kept[k], n[k] = kept[k] + (d.left[own] > at + 12).sum(), n[k] + own.sum()
    share = kept / n
    error = np.sqrt((share * (1 - share) / n).sum())
    expected = (z[f"{campaign}.{arms[1]}"] - z[f"{campaign}.{arms[0]}"]) / z[f"{campaign}.n"]
    assert share[1] - share[0] == pytest.approx(expected, abs=4 * error)


def test_contacts_and_limits_know_campaigns_only_where_somebody_is_drawn():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("uniform_best", True)):
        values, _ = draws.limits(Settings(seed=1, world=world), 2)
        assert ("campaign.invite.retention_12m" in values) is there
        contacts = simulated.frames(Settings(200, 60, world=world), ["contacts"])["contacts"]
        assert ("personal" in set(contacts["arm"])) is there


def test_a_personal_offer_moves_all_that_hangs_on_satisfaction():
    s = Settings(seed=2, world="wider")
    d = life.draw_life(s, 0)
    forced, plain = (life.with_arm(s, d, 0, "personal", arm) for arm in (2, 1))
    moved = forced.satisfaction - plain.satisfaction
    assert moved[:, 24:].any()
    assert not moved[:, :24].any()
