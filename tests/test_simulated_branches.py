"""Branches of the simulated bank: the truth of conversion, load, waiting and handling by two routes."""

import numpy as np
import pytest

from crmresearch.data.bank import Bank
from crmresearch.errors import InputError
from crmresearch.lab import simulated
from crmresearch.lab.simulated import branches, draws, estimands, life, service, shocks
from crmresearch.lab.simulated.relations import answer_moments, answered

Settings = simulated.Settings
BLOCKS = 4
OFF = ("convert_quality", "convert_wait", "convert_steps", "convert_fees")


def wider(seed=7, **changes):
    """Without the invitation, which the loyal follow: what a branch does to them would reach exits that way, too."""
    return Settings(4_096, 60, seed, "wider", {"invite_lot": 0.0, **changes})


def lives(s):
    return [life.draw_life(s, b) for b in range(BLOCKS)]


def truth(s):
    return estimands.parameter_estimands(s)


# --- who converts, and when -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_branches_convert_over_ten_quarters_and_some_never(seed):
    table = simulated.frames(wider(seed), ["branches"])["branches"]
    assert len(table) == 180
    assert (table.groupby("city_id").size() == 3).all()
    for column in ("converted_on", "help_from"):
        assert table[column].isna().mean() == pytest.approx(0.15, abs=0.003)
        counts = table[column].value_counts()
        assert len(counts) == 10
        assert counts.max() - counts.min() <= 1
        assert (table[column].dropna().dt.month % 3 == 1).all()
    both = table.dropna()
    assert abs(both["converted_on"].corr(both["help_from"])) < 4 / np.sqrt(len(both))


@pytest.mark.parametrize(("world", "low", "high"), [("wider", -0.05, 0.05), ("selected_conversion", -0.9, -0.6)])
def test_weak_branches_convert_later_only_where_selected(world, low, high):
    found = []
    for seed in range(12):
        of = branches.draw_branches(Settings(seed=seed, world=world))
        late = np.where(np.isfinite(of.converted), of.converted, 60)
        found.append(np.corrcoef(of.strength, late)[0, 1])
    assert low < np.mean(found) < high


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_load_has_unit_variance_and_persists_by_quarter(seed):
    load = branches.draw_branches(wider(seed)).load
    np.testing.assert_array_equal(load[:, ::3], load[:, 2::3])
    z = load[:, ::3]
    assert z.std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(z[:, 1:].ravel(), z[:, :-1].ravel())[0, 1] == pytest.approx(0.5, abs=0.05)


def test_every_customer_has_a_branch_of_the_city():
    got = simulated.frames(wider(), ["customers", "branches"])
    joined = got["customers"].merge(got["branches"], on="branch_id", suffixes=("", "_of_branch"))
    assert len(joined) == len(got["customers"])
    assert (joined["city_id"] == joined["city_id_of_branch"]).all()


# --- what conversion does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [0.45, 0.2, -0.3])
def test_conversion_lifts_satisfaction_as_built_up(quality):
    """Lives with conversion less those without, same random numbers, against the parameters times what is built."""
    s = wider(convert_quality=quality, convert_wait=0.0)
    expected = truth(s)["conversion.satisfaction.by_quality"]
    of = branches.draw_branches(s)
    for a, b in zip(lives(s), lives(wider(**dict.fromkeys(OFF, 0.0))), strict=True):
        built = of.built[a.home]
        np.testing.assert_allclose(a.satisfaction - b.satisfaction, expected * built, atol=1e-12)
        np.testing.assert_allclose(a.linear - b.linear, s.parameters.satisfaction_exit * expected * built, atol=1e-9)
        np.testing.assert_array_equal(a.people.frailty, b.people.frailty)
    quarters = np.floor((np.arange(60) - of.converted[:, None]) / 3)
    for since, share in ((-1, 0), (0, 0.25), (1, 0.5), (2, 0.75), (3, 1), (8, 1)):
        assert (of.built[quarters == since] == share).all()


def test_stored_effects_are_those_of_lives_drawn_with_and_without():
    """Everybody converted less nobody, by the pulse's answers of the same people, against the limit."""
    s = wider(pulse_share=1.0)
    limits = draws.limits(s, BLOCKS)[0]
    answers = []
    for built in (1.0, 0.0):
        with pytest.MonkeyPatch.context() as patch:
            usual = branches.draw_branches

            def all_or_none(s, built=built, usual=usual):
                of = usual(s)
                return branches.Branches(
                    of.parameters, of.converted, of.helped, of.strength, np.full_like(of.built, built), of.load
                )

            patch.setattr(life, "draw_branches", all_or_none)
            patch.setattr(service, "draw_branches", all_or_none)
            frames = [service.pulse(s, d, b) for b, d in enumerate(lives(s))]
        rows = [
            {(b, r, day): v for r, day, v in zip(f["customer_id"].codes, f["asked_on"], f["satisfaction"], strict=True)}
            for b, f in enumerate(frames)
        ]
        answers.append({k: v for part in rows for k, v in part.items()})
    shared = [k for k in answers[0] if k in answers[1] and not np.isnan(answers[0][k] + answers[1][k])]
    x, y = (np.array([a[k] for k in shared]) for a in answers)
    observed = (x - y).mean() / np.concatenate([x, y]).std()
    assert observed == pytest.approx(limits["conversion.satisfaction.observed"], abs=0.015)


@pytest.mark.parametrize("change", [0.1, -0.2, 0.3])
def test_fees_and_waiting_follow_the_conversion(change):
    """Tables of the same bank with and without: log fees by what is built, waiting by the other parameter."""
    on, off = wider(convert_fees=change, convert_wait=change), wider(convert_fees=0.0, convert_wait=0.0)
    keep = {"satisfaction_exit": 0.0}  # so that the same people stay
    a, b = (simulated.frames(wider(**s.changes, **keep), ["monthly", "service", "customers"]) for s in (on, off))
    home = a["customers"].set_index("customer_id")["branch_id"].str[-3:].astype(int) - 1
    built = branches.draw_branches(on).built
    month = (a["monthly"]["month"].dt.year - 2021) * 12 + a["monthly"]["month"].dt.month - 1
    at = built[home.loc[a["monthly"]["customer_id"]].to_numpy(), month.to_numpy()]
    paid = b["monthly"]["fees"].to_numpy() > 1  # in whole cents
    got = np.log(a["monthly"]["fees"][paid] / b["monthly"]["fees"][paid]).to_numpy()
    assert np.abs(got - truth(on)["conversion.log_fees"] * at[paid]).max() < 0.02
    when = (a["service"]["occurred_on"].dt.year - 2021) * 12 + a["service"]["occurred_on"].dt.month - 1
    at = built[home.loc[a["service"]["customer_id"]].to_numpy(), when.to_numpy()]
    waited = b["service"]["wait_minutes"].to_numpy() > 10
    ratio = np.log(a["service"]["wait_minutes"] / b["service"]["wait_minutes"]).to_numpy()
    assert np.abs(ratio - truth(on)["conversion.log_wait"] * at)[waited].max() < 0.02  # one decimal


# --- load, waiting, and what they do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [-0.35, -0.1, 0.2])
def test_waiting_acts_beyond_five_minutes_and_through_satisfaction_on_exit(effect):
    s = wider(wait_satisfaction=effect)
    for a, b in zip(lives(s), lives(wider(wait_satisfaction=0.0)), strict=True):
        expected = branches.minutes(branches.draw_branches(s), a.people.service, a.vip, a.home)
        moved = (a.satisfaction - b.satisfaction) / truth(s)["waiting.satisfaction.ten_minutes"] * 10
        flat = expected <= 5
        assert np.ptp(moved[flat]) < 1e-9
        np.testing.assert_allclose((moved - expected)[~flat], (moved - expected)[~flat][0], atol=1e-9)
        per_ten = -truth(s)["waiting.exit.ten_minutes_less.log_hr"]
        np.testing.assert_allclose(a.linear - b.linear, per_ten * moved / 10, atol=1e-9)


def test_expected_waiting_is_that_of_the_table():
    s = wider(satisfaction_exit=0.0)
    total = np.zeros(2)
    for block, d in enumerate(lives(s)):
        table = service.service(s, d, block)
        month = np.asarray(table["occurred_on"], "datetime64[D]").astype("datetime64[M]").astype(int) - 612
        expected = branches.minutes(branches.draw_branches(s), d.people.service, d.vip, d.home)
        there = ~np.isnan(table["wait_minutes"])
        total += [table["wait_minutes"][there].sum(), expected[table["customer_id"].codes, month][there].sum()]
    assert total[0] / total[1] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("world", ["wider", "load_lowers_quality"])
def test_satisfaction_follows_the_load_as_the_limit_says(world):
    """Slope of mean satisfaction on mean waiting, both as they move with a branch's load, against the limit."""
    s = Settings(4_096, 60, 7, world, {"convert_quality": 0.0, "convert_wait": 0.0, "branch_quality": 0.0})
    of, limits = branches.draw_branches(s), draws.limits(s, BLOCKS)[0]
    top = bottom = quality = 0.0
    for d in lives(s):
        z = of.load[d.home]
        z = z - z.mean()
        top += (d.lift["SAT"] * z).sum()
        bottom += (branches.minutes(of, d.people.service, d.vip, d.home) * z).sum()
        quality += abs(d.lift["QUAL"]).max()
    found = 10 * top / bottom
    assert found == pytest.approx(limits["waiting.satisfaction.by_load"], abs=0.02)
    structural = truth(s)["waiting.satisfaction.ten_minutes"]
    # quality is what tells the worlds apart: where waiting alone acts it does not move
    if world == "wider":
        assert found == pytest.approx(structural, abs=0.02)
        assert quality == 0
    else:
        assert found < structural - 0.08
        assert quality > 0


def test_answers_have_the_moments_that_are_written_down():
    s, g = Settings(), np.random.default_rng(1)
    for level in (-2.0, 0.0, 1.5):
        drawn = answered(s.parameters.item_loading, level, g.standard_normal(200_000))
        mean, square = answer_moments(s.parameters.item_loading, np.array(level))
        assert drawn.mean() == pytest.approx(mean, abs=0.02)
        assert (drawn**2).mean() == pytest.approx(square, abs=0.2)


def test_realised_trend_knows_of_the_branches():
    """The mean lift by month against that of drawn customers without priority."""
    s, total = wider(), []
    for d in lives(s):
        total.append(np.where(d.vip, np.nan, d.lift["SAT"]))
    drawn = np.nanmean(np.concatenate(total), axis=0)
    np.testing.assert_allclose(drawn - drawn.mean(), (m := branches.mean_lift(s)) - m.mean(), atol=0.05)
    assert shocks.realised_trend(s) != shocks.realised_trend(wider(branches=0))


# --- handling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "case"), [(1.2, 0.5), (0.0, 0.5), (2.0, 0.0)])
def test_handling_by_conversion_is_the_step_and_within_customers_is_more(step, case):
    """Fewer steps by conversion give the parameter; plain regression within customers adds how hard cases are."""
    s = Settings(12_288, 60, 7, "wider", {"handling_step": step, "handling_case": case})
    built = branches.draw_branches(s).built
    parts = []
    for block in range(12):
        d = life.draw_life(s, block)
        t = service.service(s, d, block)
        month = np.asarray(t["occurred_on"], "datetime64[D]").astype("datetime64[M]").astype(int) - 612
        there = ~np.isnan(t["handling_minutes"])
        row = t["customer_id"].codes
        parts.append(
            np.stack([t["handling_minutes"], t["steps"], built[d.home[row], month], row + 1024 * block])[:, there]
        )
    minutes, steps, done, who = np.concatenate(parts, axis=1)
    done = done - (np.bincount(who.astype(int), done) / np.bincount(who.astype(int)).clip(1))[who.astype(int)]
    first, reduced = (done * steps).sum(), (done * minutes).sum()
    error = np.sqrt((done**2).sum() * (1 + case**2 * 2)) / abs(first)
    assert reduced / first == pytest.approx(truth(s)["handling.step"], abs=4 * error)
    inside = steps - (np.bincount(who.astype(int), steps) / np.bincount(who.astype(int)).clip(1))[who.astype(int)]
    within = (inside * minutes).sum() / (inside**2).sum()
    assert within == pytest.approx(step + case, abs=0.05)


def test_steps_fall_by_the_share_planted():
    s = wider(convert_steps=-0.5, satisfaction_exit=0.0)
    steps = [
        np.concatenate([service.service(x, d, b)["steps"] for b, d in enumerate(lives(x))])
        for x in (s, wider(convert_steps=0.0, satisfaction_exit=0.0))
    ]
    assert len(steps[0]) == len(steps[1])
    assert (steps[0] <= steps[1]).all()
    built = []
    for block, d in enumerate(lives(s)):
        t = service.service(s, d, block)
        month = np.asarray(t["occurred_on"], "datetime64[D]").astype("datetime64[M]").astype(int) - 612
        built.append(branches.draw_branches(s).built[d.home[t["customer_id"].codes], month])
    kept, more = np.exp(-0.5 * np.concatenate(built)), np.maximum(steps[1] - 1, 0)  # none where there is no count
    left = np.maximum(steps[0] - 1, 0)
    assert left.sum() == pytest.approx((more * kept).sum(), abs=4 * np.sqrt((more * kept * (1 - kept)).sum()))
    assert left.sum() < 0.85 * more.sum()


# --- what the tables hold, and what is refused ------------------------------------------------------------------------


def test_tables_and_columns_are_there_only_with_branches():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("load_lowers_quality", True)):
        frames = simulated.frames(Settings(50, 6, world=world))
        assert {"branches", "pulse"} <= set(frames) if there else not {"branches", "pulse"} & set(frames)
        assert ("branch_id" in frames["customers"]) is there
        assert ("handling_minutes" in frames["service"]) is there
    with pytest.raises(InputError, match="no table pulse; it has customers"):
        simulated.frames(Settings(5, 2), ["pulse"])


@pytest.mark.parametrize("world", ["wider", "selected_conversion", "load_lowers_quality"])
@pytest.mark.parametrize("months", [2, 7, 20])
def test_worlds_with_branches_obey_the_contract(world, months):
    s = Settings(300, months, 2, world)
    Bank.from_frames(simulated.frames(s), simulated.about(s))


def test_written_bank_holds_the_further_tables(tmp_path, monkeypatch):
    from crmresearch.data.bank import open_bank

    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    s = Settings(400, 18, 3, "wider")
    bank = open_bank(simulated.write(s, tmp_path / "bank"))
    assert {"branches", "pulse"} <= set(bank.tables)
    assert bank.tables == simulated.bank(s).tables
    assert bank.rows("branches") == 180
