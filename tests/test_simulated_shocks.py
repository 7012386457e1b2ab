"""What customers of the simulated bank share: nothing where it is off, the truth by two routes where it is on."""

import dataclasses
import hashlib

import numpy as np
import pytest

from crmresearch.lab import simulated
from crmresearch.lab.simulated import accounts, columns, draws, estimands, life, markets, shocks

Settings = simulated.Settings
BLOCKS = 6
TIME = ("trend_exit", "season_exit", "nation_shock", "city_shock")


def drawn(s):
    return [life.draw_life(s, b) for b in range(BLOCKS)]


def without(*names, world="wider", seed=7):
    """The same bank, the same random numbers, some effects taken away."""
    return Settings(seed=seed, world=world, changes=dict.fromkeys(names, 0.0))


def joined(lives, of):
    return np.concatenate([of(d) for d in lives])


# --- nothing where it is off ------------------------------------------------------------------------------------------

# of all tables of banks of 150 customers and 24 months, seed 3, before there were shocks
BEFORE = {
    "baseline": "d2f263582b3ec637",
    "null": "92a15853433fb149",
    "non_proportional": "03a605873c307dea",
    "no_overlap": "520d061facd17288",
    "reverse_causation": "00ba0ecf2f0742ef",
    "informative_censoring": "3ef999796df5705d",
    "one_factor_survey": "d2f149c5d8da9924",
    "endogenous_spend": "beebaa3ce9ff6950",
    "no_late_entry": "f7353734dbb96f3b",
    "heavy_tail": "248e343c2c212ef4",
    "mar_response": "0c7fb2be7bbe5b65",
    "mnar_response": "505837b1c4c3d048",
    "no_frailty": "06165ae9b1ebb424",
    "small": "d2f263582b3ec637",
}


# and of worlds that are wider, with what had been planted in them when these were put down
WIDER = {"wider": "6b08b9a426ef8342", "selected_entry": "9076b124579d7306", "risky_cities": "8238845dcacf7b8f"}
PLANTED = {
    "trend_exit", "season_exit", "nation_shock", "city_shock", "manager_shock", "household_shock", "platform_exit",
    "platform_share", "intensity_entry", "share_shock", "concern_growth", "rate_spread", "rate_exit", "taste",
}  # fmt: skip
# and as they stood before there was `lifelike`
BEFORE_LIFELIKE = {
    "wider": "bd0c2ae0965127d1",
    "selected_entry": "45abdf41de23301e",
    "risky_cities": "5e01212200e24857",
    "uniform_best": "85b13f8fb5464ea4",
    "selected_conversion": "48f71a5b3ad2984b",
    "load_lowers_quality": "3809b2e21b758343",
    "bunching": "474656b726062d0b",
    "classes": "17fbffea328228da",
}


def _digest(world, none):
    """Hash every table; that cities had rivals from the start came later as a column, and moves nothing else."""
    bank = simulated.frames(Settings(150, 24, 3, world, none))
    bank["markets"] = bank["markets"].drop(columns="always_treated", errors="ignore")
    text = "".join(f"{name}\n{frame.to_csv(index=False, float_format='%.9g')}" for name, frame in bank.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("world", [*BEFORE, *WIDER])
def test_former_worlds_give_the_former_tables(world):
    later = set(simulated.worlds()["wider"]["changes"]) - PLANTED if world in WIDER else set()
    none = {name: simulated.worlds()["baseline"]["parameters"][name] for name in later}
    assert _digest(world, none) == {**BEFORE, **WIDER}[world]


@pytest.mark.parametrize("world", BEFORE_LIFELIKE)
def test_worlds_before_lifelike_give_the_tables_they_gave(world):
    assert _digest(world, {}) == BEFORE_LIFELIKE[world]


def test_no_world_is_without_a_digest():
    assert {*BEFORE, *BEFORE_LIFELIKE, "lifelike"} == set(simulated.world_names())


def test_wider_without_its_effects_is_the_baseline():
    planted = simulated.worlds()["wider"]["changes"]
    zero = {k: dict.fromkeys(v, 0.0) if isinstance(v, dict) else 0.0 for k, v in planted.items()}
    none = {age: {k: v for k, v in taste.items() if k != "opt_out"} for age, taste in planted["taste"].items()}
    off = Settings(seed=7, world="wider", changes={**zero, "taste": none})
    assert off.parameters == Settings().parameters
    assert estimands.closed_forms(off)["trend.exit.realised"] == 0.0


def test_a_world_like_another_takes_its_changes():
    wider, risky = (simulated.worlds()[w] for w in ("wider", "risky_cities"))
    assert risky["changes"] == {**wider["changes"], "city_risk": 0.4, "intensity_follows_risk": 0.8}
    assert "like" not in risky


# --- the truth by two routes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_realised_trend_is_that_of_expected_exits(seed):
    """Slope of the log of expected exits, with the effects over without; random numbers and customers are the same."""
    on, off = Settings(seed=seed, world="wider"), without(*TIME, "branches", seed=seed)
    exits = [sum((draws.alive(b) * a.cumulative[:, :, 0]).sum(axis=0) for a, b in pairs) for pairs in (
        list(zip(drawn(on), drawn(off), strict=True)), [(d, d) for d in drawn(off)]
    )]  # fmt: skip
    month = np.arange(on.months)
    x = np.column_stack([month / 12, month[:, None] % 12 == np.arange(12)])
    slope = np.linalg.lstsq(x, np.log(exits[0] / exits[1]), rcond=None)[0]
    truth = simulated.truth(dataclasses.replace(on, customers=10))["estimands"]
    assert slope[0] == pytest.approx(truth["trend.exit.realised"], abs=0.006)  # cities' weights in 6,144 customers
    assert truth["trend.exit"] == 0.1
    assert slope[1] - slope[7] == pytest.approx(2 * on.parameters.season_exit, abs=0.15)  # January less July


def test_drawn_exits_rise_as_the_trend_says():
    """Exits drawn with and without a trend of .3 a year, by year, against the expected ones."""
    on, off = Settings(seed=7, changes={"trend_exit": 0.3}), Settings(seed=7)
    late = [np.floor(joined(drawn(s), lambda d: d.left[d.cause == 0]) / 12) for s in (on, off)]
    counts = [np.bincount(x.astype(int), minlength=5) for x in late]
    at_risk = [sum(draws.alive(d)[:, ::12].sum(axis=0) for d in drawn(s)) for s in (on, off)]
    log = np.log(counts[0] / at_risk[0]) - np.log(counts[1] / at_risk[1])
    error = np.sqrt((1 / counts[0] + 1 / counts[1]).mean() / 10)  # of a slope over five years
    assert np.polyfit(np.arange(5), log, 1)[0] == pytest.approx(0.3, abs=4 * error)


def test_shocks_have_their_size_persist_and_differ_by_seed():
    drawn_ = [shocks.draw_shocks(Settings(seed=k, world="risky_cities")) for k in range(20)]
    city = np.concatenate([d.city for d in drawn_])
    assert city.std() == pytest.approx(0.15, abs=0.006)
    assert np.corrcoef(city[:, :-1].ravel(), city[:, 1:].ravel())[0, 1] == pytest.approx(0.7, abs=0.02)
    assert np.mean([d.manager.std() for d in drawn_]) == pytest.approx(0.2, abs=0.02)
    assert np.mean([d.share.std() for d in drawn_]) == pytest.approx(0.003, abs=0.0002)
    followed = [np.corrcoef(d.risk, d.intensity)[0, 1] for d in drawn_]
    assert np.mean(followed) == pytest.approx(0.8, abs=0.05)
    entry = [markets.entry_months(Settings(seed=k, world="wider")) for k in (1, 2)]
    np.testing.assert_array_equal(*entry)  # a circumstance of the world


@pytest.mark.parametrize("name", ["household_shock", "manager_shock"])
def test_households_and_managers_share_a_term(name):
    """Customers of one group have one term, of the size planted; nobody else has any."""
    size = Settings(world="wider").parameters.model_dump()[name]
    found = []
    for seed in range(4):
        pairs = zip(drawn(Settings(seed=seed, world="wider")), drawn(without(name, seed=seed)), strict=True)
        for on, off in pairs:
            term = (on.linear - off.linear)[:, 0]
            if name == "household_shock":
                np.testing.assert_allclose(term[::2], term[1::2], atol=1e-12)
                found.append(term[::2])
            else:
                assert not term[~on.managed].any()
                _, first = np.unique(on.people.city[on.managed], return_index=True)
                found.append(term[on.managed][first])
    values = np.concatenate(found)
    distinct = len(np.unique(values.round(9)))
    assert values.std() == pytest.approx(size, abs=4 * size / np.sqrt(2 * distinct))


def test_two_of_a_household_leave_together():
    """Exits of the two move together with a shared term of one, and do not without."""
    both = []
    for size in (1.0, 0.0):
        gone = joined(drawn(Settings(seed=3, changes={"household_shock": size})), lambda d: d.cause == 0)
        both.append(np.corrcoef(gone[::2], gone[1::2])[0, 1])
    error = 1 / np.sqrt(512 * BLOCKS)
    assert both[0] > 4 * error
    assert abs(both[1]) < 4 * error


@pytest.mark.parametrize("world", ["wider", "risky_cities"])
def test_intensity_weakens_entry_and_nothing_before_it(world):
    """Expected exits with the effect over without, by city, on the table's intensity: the parameter, after entry."""
    on, off = Settings(seed=7, world=world), without("intensity_entry", world=world)
    table = simulated.frames(dataclasses.replace(on, customers=1), ["markets"])["markets"]
    intensity = table.groupby("city_id")["crm_intensity"].first().to_numpy()
    assert intensity.mean() == pytest.approx(0, abs=1e-4)
    assert intensity.std() == pytest.approx(1, abs=1e-3)
    x, y = [], []
    for a, b in zip(drawn(on), drawn(off), strict=True):
        log = np.log(a.cumulative[:, 30, 0].clip(1e-300) / b.cumulative[:, 30, 0].clip(1e-300))
        x.append(intensity[a.people.city] * a.rival[:, 30])
        y.append(log)
    x, y = np.concatenate(x), np.concatenate(y)
    seen = (y != 0) | (x == 0)  # who is won later has no hazard yet
    assert abs(y[x == 0]).max() < 1e-12
    assert np.polyfit(x[seen], y[seen], 1)[0] == pytest.approx(on.parameters.intensity_entry, abs=1e-3)
    assert estimands.parameter_estimands(on)["entry.intensity.log_hazard"] == on.parameters.intensity_entry


def test_drawn_exits_after_entry_are_fewer_where_crm_was_intense():
    """Exits drawn with a strong effect less those without, same random numbers: the sign turns with the intensity."""
    on, off = Settings(seed=7, world="wider", changes={"intensity_entry": -0.6}), without("intensity_entry")
    intensity, change = shocks.draw_shocks(on).intensity, np.zeros(2)
    for a, b in zip(drawn(on), drawn(off), strict=True):
        after = a.rival.argmax(axis=1)
        more = [(d.cause == 0) & (d.left >= after) & a.rival.any(axis=1) for d in (a, b)]
        for k, side in enumerate((intensity[a.people.city] < -0.5, intensity[a.people.city] > 0.5)):
            change[k] += (more[0] & side).sum() - (more[1] & side).sum()
    assert change[0] > 0 > change[1]


def test_between_cities_intensity_misleads_where_it_follows_risk():
    """The hazard after entry by city, on intensity: near the effect in `wider`, far above it in `risky_cities`."""
    slope = {}
    for world in ("wider", "risky_cities"):
        found = []
        for seed in range(6):
            s = Settings(seed=seed, world=world)
            entered = np.isfinite(markets.entry_months(s))
            of = shocks.draw_shocks(s)
            level = of.risk + s.parameters.intensity_entry * of.intensity + of.city[:, -12:].mean(axis=1)
            found.append(np.polyfit(of.intensity[entered], level[entered], 1)[0])
        slope[world] = np.mean(found)
    assert slope["wider"] == pytest.approx(-0.25, abs=0.05)
    assert slope["risky_cities"] > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_share_falls_before_entry_where_it_is_selected(seed):
    """Market shares of `selected_entry` less those of `wider`: the pre-trend, in cities that rivals enter."""
    share = {}
    for world in ("wider", "selected_entry"):
        frame = simulated.frames(Settings(1, 60, seed, world), ["markets"])["markets"]
        share[world] = frame.pivot(index="city_id", columns="month", values="own_share").to_numpy()
    change = np.diff(share["selected_entry"] - share["wider"], axis=1)
    enters = np.isfinite(markets.entry_months(Settings()))
    truth = estimands.parameter_estimands(Settings(world="selected_entry"))["market.pretrend"]
    assert truth == -0.0005
    assert change[enters] == pytest.approx(truth, abs=2.1e-5)  # shares are rounded to five digits
    assert not change[~enters].any()


def test_intensity_is_told_only_where_it_does_something():
    for world, there in (("baseline", False), ("null", False), ("wider", True), ("selected_entry", True)):
        frame = simulated.frames(Settings(1, 6, world=world), ["markets"])["markets"]
        assert ("crm_intensity" in frame) is there


def test_limits_average_over_shocks():
    """Blocks are taken from banks of other seeds where shocks are shared, and from one bank where none are."""
    assert [draws._bank(Settings(seed=5, world="wider"), b).seed for b in (0, 3)] == [5, 8]
    assert draws._bank(Settings(seed=5), 3).seed == 5


# --- outside platforms ------------------------------------------------------------------------------------------------


def payments(s):
    """Transactions of some blocks with the months to a voluntary exit (infinite without one), and the lives."""
    lives, parts = drawn(s), []
    for block, d in enumerate(lives):
        t = accounts.transactions(s, d, block)
        row = t["customer_id"].codes
        month = np.searchsorted(columns.month_starts(s.months), t["occurred_on"], side="right") - 1
        goes = np.where(d.cause == 0, np.floor(d.left), np.inf)[row] - month
        parts.append([t["direction"].codes, t["counterparty"].codes, d.platforms[row], goes])
    return lives, [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("changes", [{}, {"platform_share": 0.2}, {"platform_share": 0.5, "platform_exit": 0.0}])
def test_platform_share_of_payments_follows_the_leaning(changes):
    s = Settings(seed=7, world="wider", changes=changes)
    _, (out, to, lean, goes) = payments(s)
    paid = (out == 1) & (goes >= s.parameters.rundown_months)
    slope, level = np.polyfit(lean[paid], to[paid] == 2, 1)
    error = 0.5 / np.sqrt(paid.sum())
    assert level == pytest.approx(s.parameters.platform_share, abs=4 * error)
    assert slope == pytest.approx(s.parameters.platform_share * accounts.LEANING, abs=4 * error + 0.003)  # few at zero
    assert not (to[out == 0] == 2).any()


def test_payments_to_banks_before_an_exit_mislead_and_those_three_months_earlier_do_not():
    """With no effect of platforms: their share falls in the run-down, to banks, and is as ever three months before."""
    s = Settings(seed=7, world="wider", changes={"platform_exit": 0.0})
    _, (out, to, _, goes) = payments(s)
    paid = out == 1
    usual = paid & ~np.isfinite(goes)
    share = {c: (to[usual] == c).mean() for c in (1, 2)}
    for lag, moved in ((0, True), (1, True), (2, True), (3, False), (4, False)):
        at = paid & (goes == lag)
        error = np.sqrt(0.25 / at.sum())
        for c, sign in ((1, 1), (2, -1)):
            change = sign * ((to[at] == c).mean() - share[c])
            assert change > 3 * error if moved else abs(change) < 4 * error, (lag, c)


def test_leaning_raises_the_hazard_as_planted():
    """Expected and drawn exits with the effect and without, same random numbers, against the parameter."""
    on, off = Settings(seed=7, world="wider"), without("platform_exit")
    lives = [drawn(on), drawn(off)]
    log = [joined(pair, lambda d: d.linear[:, 30]) for pair in lives]
    lean = joined(lives[0], lambda d: d.platforms)
    truth = estimands.parameter_estimands(on)
    np.testing.assert_allclose(log[0] - log[1], truth["cox.platform.log_hr"] * lean, atol=1e-12)
    # who leaves has the leaning of the others tilted by the effect: a normal whose mean is moved by it
    gone = [joined(pair, lambda d: (d.cause == 0) & (d.left < 12)) for pair in lives]
    moved = lean[gone[0]].mean() - lean[gone[1]].mean()
    assert moved == pytest.approx(truth["cox.platform.log_hr"], abs=4 / np.sqrt(gone[1].sum()))
    assert truth["outflow.ten_points.log_hr"] == pytest.approx(0.4 * 0.1 / (0.4 * 0.35))


def test_where_payments_go_is_told_only_where_it_is_known_and_changes_nothing_else():
    plain = simulated.frames(Settings(300, 12, 3), ["transactions"])["transactions"]
    known = simulated.frames(Settings(300, 12, 3, changes={"platform_share": 0.25}), ["transactions"])["transactions"]
    assert set(known) - set(plain) == {"direction", "counterparty"}
    assert known[plain.columns].equals(plain)
