"""What customers of the simulated bank hold elsewhere, and what offers bring in: truth by two routes."""

import numpy as np
import pytest

from crmresearch.lab import simulated
from crmresearch.lab.simulated import draws, estimands, life, policies, wallet
from crmresearch.lab.simulated.campaigns import DOSES, campaign_months

Settings = simulated.Settings
WALLET = {"outside_median": 25_000}


def shares(low, middle, high):
    return {"low": low, "middle": middle, "high": high}


def pair(seed, **changes):
    """Lives with an effect and without, the same random numbers."""
    on, off = Settings(seed=seed, changes={**WALLET, **changes}), Settings(seed=seed, changes=WALLET)
    return on, life.draw_life(on, 0), life.draw_life(off, 0)


def test_the_guess_stands_in_one_column_and_moves_nothing_else():
    plain, known = (simulated.frames(Settings(300, 24, 3, changes=c)) for c in ({}, WALLET))
    assert set(known["customers"]) - set(plain["customers"]) == {"outside_estimate"}
    known["customers"] = known["customers"].drop(columns="outside_estimate")
    for name, frame in plain.items():
        assert known[name].equals(frame), name


@pytest.mark.parametrize(("seed", "share"), [(1, 0.08), (2, 0.02), (3, 0.5)])
def test_an_offer_brings_in_its_share_of_what_is_held_elsewhere_for_good(seed, share):
    s, on, off = pair(seed, offer_wallet=share)
    outside, _ = wallet.elsewhere(s, 0)
    at, offered = campaign_months(60)["develop"], (on.arms["develop"] == 1) & life.contacted(on, "develop")
    gained = np.exp(on.log_balance) - np.exp(off.log_balance)
    truth = estimands.parameter_estimands(s)["offer.balance.per_gap"]
    np.testing.assert_allclose(gained[offered, at:], np.repeat(truth * outside[offered, None], 60 - at, 1), rtol=1e-6)
    assert not gained[:, :at].any()
    assert not gained[~offered].any()
    assert offered.sum() > 100


@pytest.mark.parametrize(("seed", "share"), [(1, 0.08), (2, 0.2), (3, 0.05)])
def test_effect_by_the_guess_is_weaker_by_its_noise(seed, share):
    """What came in, regressed on the table's guess, against the closed form of two lognormals."""
    s = Settings(12_288, 30, seed, changes={**WALLET, "offer_wallet": share})
    guess = simulated.frames(s, ["customers"])["customers"]["outside_estimate"].to_numpy()
    outside = np.concatenate([wallet.elsewhere(s, b)[0] for b in range(s.blocks)])
    x = guess - guess.mean()
    slope = share * (x @ outside) / (x @ x)
    closed = share * np.expm1(wallet.SPREAD**2) / np.expm1(wallet.SPREAD**2 + wallet.NOISE**2)
    assert slope == pytest.approx(closed, rel=0.2)  # squares of lognormals: seeds differ by .07
    sums = {}
    policies.offer_sums(s, 0, sums)
    limit = policies.offer_estimands(s)["offer.balance.per_guess"](sums)  # of one block, by exits, too
    assert 0.4 * closed < limit < 1.3 * closed


@pytest.mark.parametrize(("seed", "by_band"), [(1, (0.0, 0.1, 0.6)), (2, (0.3, 0.3, 0.3)), (3, (0.5, 0.0, 0.2))])
def test_a_dose_works_by_value_band_for_a_year(seed, by_band):
    s, on, off = pair(seed, dose_wallet=shares(*by_band))
    outside, _ = wallet.elsewhere(s, 0)
    at, reached = campaign_months(60)["dose"], life.contacted(on, "dose")
    band = wallet.bands(off.log_balance[:, at - 1])
    size = 1 - np.exp(-np.array([0, 5, 12, 30]) / s.parameters.dose_scale)
    expected = np.array(by_band)[band] * size[on.arms["dose"]] * outside * reached
    gained = np.exp(on.log_balance) - np.exp(off.log_balance)
    np.testing.assert_allclose(gained[:, at : at + 12], np.repeat(expected[:, None], 12, 1), rtol=1e-6, atol=1e-5)
    assert not gained[:, :at].any()
    assert not gained[:, at + 12 :].any()
    assert [(band == k).mean() for k in range(3)] == pytest.approx([0.43, 0.31, 0.26], abs=0.04)


def test_contribution_by_dose_and_segment_is_the_share_times_the_margin():
    """Every arm to everybody with the same random numbers, against share, holding and margin of who is reached."""
    s, out = Settings(seed=4, world="wider"), {}
    sums = [{} for _ in range(6)]
    for b, z in enumerate(sums):
        policies.offer_sums(s, b, z)
    out = {k: sum(z[k] for z in sums) for k in sums[0]}
    size = 1 - np.exp(-30 / s.parameters.dose_scale)
    for gap in policies.GAPS:
        name = f"policy.high.{gap}"
        held, n = 0.0, 0
        for b in range(6):
            d = life.draw_life(s, b, {"dose": 0})
            outside, guess = wallet.elsewhere(s, b)
            there = life.contacted(d, "dose") & (d.left > 6) & ((guess > 25_000) == (gap == "large"))
            there &= wallet.bands(d.log_balance[:, 5]) == 2
            held, n = held + outside[there].sum(), n + there.sum()
        assert out[f"{name}.n"] == n
        closed = s.parameters.dose_wallet["high"] * size * s.parameters.margin * held / n
        found = policies.offer_estimands(s)[f"{name}.high.contribution"](out)
        assert found == pytest.approx(closed, rel=0.1)  # some leave within the year, margins vary
    gain = policies.offer_estimands(s)["policy.gain"](out)
    assert 10 < gain < 60


def test_one_dose_is_best_for_all_where_that_is_planted():
    s, sums = Settings(seed=4, world="uniform_best"), [{} for _ in range(8)]
    for b, z in enumerate(sums):
        policies.offer_sums(s, b, z)
    of = policies.offer_estimands(s)
    out = {k: sum(z[k] for z in sums) for k in sums[0]}
    assert of["policy.gain"](out) == pytest.approx(0, abs=1e-9)
    assert of["policy.cost"](out) == 30


@pytest.mark.parametrize(
    ("value", "gain", "cost"),
    [
        # two segments as large; doses cost 0, 5, 12, 30; gross value by dose
        (((0, 10, 20, 30), (0, 10, 20, 30)), 0, 12),
        (
            ((0, 0, 0, 0), (0, 20, 60, 100)),
            50 - (30 + (50 - 30) * 3 / 18),
            15,
        ),  # medium and high, together 15 a customer
        (((0, 40, 40, 40), (0, 0, 0, 0)), 20 - 10, 2.5),  # half of those drawn get low
    ],
)
def test_gain_is_over_the_best_lottery_at_the_same_cost(value, gain, cost):
    z = {}
    for name, row in zip("ab", value, strict=True):
        z |= {f"policy.{name}.n": 100.0} | {f"policy.{name}.{d}": 100.0 * v for d, v in zip(DOSES, row, strict=True)}
    assert policies.best(Settings(), z, ["a", "b"]) == pytest.approx((gain, cost))


def test_retention_by_dose_takes_balances_along():
    """What an offer brings in lifts some over the threshold of priority, so that exits move, too."""
    s = Settings(seed=2, world="wider")
    d = life.draw_life(s, 0)
    forced = life.with_arm(s, d, 0, "dose", 3)
    assert (forced.vip & ~d.vip).any()
    assert (forced.arms["dose"] == 3).all()
    off = Settings(seed=2)
    assert life.with_arm(off, life.draw_life(off, 0), 0, "dose", 3).vip is not None


def test_limits_hold_offers_only_where_they_bring_something_in():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("uniform_best", True)):
        values, _ = draws.limits(Settings(seed=1, world=world), 2)
        assert ("policy.gain" in values) is there
        assert (
            "outside_estimate" in simulated.frames(Settings(20, 6, world=world), ["customers"])["customers"]
        ) is there
