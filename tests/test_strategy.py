"""Offers by lot and policies: planted effects come back, naive rows fail, gates close, what a bank lacks is said."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import strategy as reductions
from crmresearch.errors import InputError, Missing
from crmresearch.lab import simulated
from crmresearch.lab.simulated.campaigns import DOSES
from crmresearch.lab.simulated.policies import GAPS
from crmresearch.lab.simulated.wallet import BANDS, EDGES
from crmresearch.studies import strategy


def campaign(n=6000, effect=12.0, price=5.0, seed=1, names=("a", "b")):
    """Two campaigns drawn by lot among the same customers; contribution follows that of the year before."""
    rng = np.random.default_rng(seed)
    customer = np.tile(np.arange(n), len(names))
    before = np.tile(rng.lognormal(4.5, 1.0, n), len(names))
    treated = rng.random(len(customer)) < np.repeat([0.5, 0.75], n)[: len(customer)]
    after = 0.9 * before + rng.normal(0, 30, len(customer)) + effect * treated
    return pd.DataFrame(
        {
            "block": customer % 200,
            "campaign_id": np.repeat(names, n),
            "arm": np.where(treated, "treatment", "control"),
            "treated": treated.astype(int),
            "randomised": True,
            "cost": price * treated,
            "left": 0,
            "months": 24.0,
            "value_before": before,
            "value_after": after,
        }
    )


@pytest.mark.parametrize(("effect", "price"), [(12.0, 5.0), (3.0, 8.0), (0.0, 0.0)])
def test_gross_and_net_come_back(effect, price):
    result = strategy.paid(campaign(effect=effect, price=price))
    net, gross = result.finding("S02"), result.finding("S02a")
    assert gross.value == pytest.approx(effect, abs=4 * gross.se)
    assert net.value == pytest.approx(gross.value - price, abs=1e-9)
    plain = result.table.set_index("quantity").loc["before the cost, the year before not held equal"]
    assert gross.se < 0.5 * (plain["ci_high"] - plain["ci_low"]) / 3.92  # the year before explains most of it
    assert len(result.table) == 6


@pytest.mark.parametrize(
    ("effect", "price", "said"), [(3, 9, r"loses [5-7]\.\d\d "), (40, 9, r"earns 3\d\.\d\d "), (9, 9, "cannot be told")]
)
def test_the_title_says_a_loss_without_a_sign(effect, price, said):
    assert re.search(said, strategy.paid(campaign(effect=effect, price=price)).picture.title)


@pytest.mark.parametrize(
    ("effects", "said"), [((60, -20), (1, 1)), ((60, 60), (2, 0)), ((-20, 5), (0, 1)), ((5, 5), (0, 0))]
)
def test_campaigns_are_told_by_themselves_beside_their_mean(effects, said):
    rows = campaign(effect=0.0)
    rows["value_after"] += rows["treated"] * rows["campaign_id"].map(dict(zip("ab", effects, strict=True)))
    result = strategy.paid(rows)
    assert f"by themselves {said[0]} of the 2 lie clearly above 0 and {said[1]} clearly below" in result.sentence
    assert f"(2 campaigns: {said[0]} clearly above 0, {said[1]} below)" in result.picture.title
    alone = strategy.paid(campaign(names=("a",)))
    assert "campaigns: " not in alone.picture.title


def test_intervals_cover_over_seeds():
    hits = 0
    for seed in range(60):
        found = strategy.paid(campaign(n=800, seed=seed)).finding("S02")
        hits += found.ci_low <= 12.0 - 5.0 <= found.ci_high
    assert hits >= 52  # 60 at .95: below 52 with a chance of .01


def test_an_offset_that_was_there_before_is_no_effect():
    """A draw that favours the offered by chance: the year before takes it off."""
    rows = campaign(n=3000, effect=0.0, price=0.0, names=("a",))
    rich = rows["value_before"] > rows["value_before"].quantile(0.9)
    rows = rows[~(rich & (rows["treated"] == 0) & (rows["block"] % 2 == 0))]
    result = strategy.paid(rows)
    plain = result.table.set_index("quantity").loc["before the cost, the year before not held equal"]
    assert plain["ci_low"] > 0
    assert result.finding("S02a").ci_low < 0 < result.finding("S02a").ci_high


def test_without_money_or_lot_it_says_so():
    assert "no campaign has twelve months of contribution" in str(
        strategy.paid(campaign().drop(columns="value_after")).finding("S02")
    )
    assert isinstance(strategy.paid(campaign().assign(randomised=False)).finding("S02"), Missing)
    assert isinstance(strategy.paid(campaign().assign(treated=1)).finding("S02"), Missing)


def test_one_customer_who_makes_the_error_closes_the_gate():
    rows = campaign(n=1000)
    rows.loc[0, "value_after"] = 5e5
    assert [c.name for c in strategy.paid(rows).checks if c.status == "closed"] == ["no dominating customer"]


# --- products held ----------------------------------------------------------------------------------------------------


def developed(n=4000, families=0.1, leaves=0.08, saved=0.0, slope=0.05, seed=1):
    """An offer to develop: products, balances over what is held elsewhere; who holds few products leaves first."""
    rng = np.random.default_rng(seed)
    t, before = rng.random(n) < 0.5, rng.poisson(2, n) + 1.0
    gone = rng.random(n) < (leaves - saved * t) * 2 / before
    balance, outside = rng.lognormal(10, 0.8, n), rng.lognormal(10, 0.9, n)
    grown = balance * np.exp(0.1 * rng.normal(size=n)) + t * slope * outside
    return pd.DataFrame({
        "block": np.arange(n) % 300, "campaign_id": "develop", "arm": np.where(t, "treatment", "control"),
        "treated": t.astype(int), "randomised": True, "cost": 10.0 * t, "left": gone.astype(int),
        "months": np.where(gone, 6.0, 36.0), "x_families": before,
        "families_after": before + (rng.random(n) < families * t) - (rng.random(n) < 0.05),
        "outside": outside, "balance_before": balance, "balance_after": grown,
    })  # fmt: skip


@pytest.mark.parametrize("families", [0.0, 0.1, 0.5])
def test_products_are_covered_with_those_gone_counted_with_none(families):
    hits = []
    for seed in range(60):
        rows = developed(families=families, seed=seed)
        there = 1 - np.clip(0.16 / rows["x_families"], 0, 1).mean()
        found = strategy.held(rows).finding("S05")
        hits.append(found.ci_low <= families * there <= found.ci_high)
    assert np.mean(hits) > 0.86  # of 95%, 3.2 errors of 60 trials below


def test_among_those_still_there_an_offer_that_keeps_the_weak_looks_weaker():
    rows = developed(n=40_000, families=0.0, leaves=0.25, saved=0.2)
    table = strategy.held(rows).table.set_index("quantity")
    equal = table.loc["families held, those gone with none, the number before held equal"]
    naive = table.loc["naive: families held by those still there"]
    assert equal["ci_low"] > 0.1  # who is kept holds products
    assert naive["ci_high"] < 0.05
    assert table.loc["share gone", "ci_high"] < 0


@pytest.mark.parametrize("worse", [{"families_after": None}, {"randomised": False}, {"treated": 1}])
def test_without_products_or_a_lot_it_says_so(worse):
    rows = developed()
    rows = rows.drop(columns=list(worse)) if None in worse.values() else rows.assign(**worse)
    assert isinstance(strategy.held(rows).finding("S05"), Missing)


def test_arms_unlike_before_the_offer_close_the_gate():
    rows = developed()
    rows["x_families"] += rows["treated"]
    assert [c.name for c in strategy.held(rows).checks if c.status == "closed"] == ["arms alike before the offer"]


# --- a targeted offer -------------------------------------------------------------------------------------------------


def aimed(n=9000, leaves=(0.10, 0.09, 0.06), content=(0.0, 0.0, 0.4), answers=(0.4, 0.4, 0.4), seed=1):
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 3, n)
    gone = rng.random(n) < np.array(leaves)[k]
    asked = rng.random(n) < 0.4
    said = asked & (rng.random(n) < np.array(answers)[k])
    return pd.DataFrame({
        "block": np.arange(n) % 300, "campaign_id": "personal", "arm": np.array(["control", "generic", "personal"])[k],
        "treated": (k > 0).astype(int), "randomised": True, "cost": 10.0 * k, "left": gone.astype(int),
        "months": np.where(gone, 6.0, 36.0), "asked": np.where(asked, 1.0, np.nan),
        "answer": np.where(said, 6 + 2 * (rng.normal(size=n) + np.array(content)[k]), np.nan),
        "x_age": rng.normal(size=n), "wave_months": np.where(asked, 5.5, np.nan),
    })  # fmt: skip


ARMS = {"targeted": "personal", "generic": "generic"}


@pytest.mark.parametrize(("kept", "content"), [(0.03, 0.4), (0.0, 0.0), (-0.02, -0.3)])
def test_targeted_against_generic_is_covered(kept, content):
    hits = []
    for seed in range(60):
        result = strategy.aimed(aimed(leaves=(0.1, 0.09, 0.09 - kept), content=(0, 0, content), seed=seed), **ARMS)
        stay, told = result.finding("S18"), result.finding("S18a")
        spread = np.sqrt(1 + content**2 / 4)
        hits.append([stay.ci_low <= kept <= stay.ci_high, told.ci_low <= content / spread <= told.ci_high])
    assert (np.mean(hits, axis=0) > 0.86).all()


def test_bounds_hold_what_answering_because_of_the_offer_hides():
    """The targeted answer more often, the content among them above all: the plain difference is all selection."""
    rng = np.random.default_rng(2)
    rows = aimed(n=60_000, content=(0, 0, 0))
    extra = (rows["arm"] == "personal") & rows["asked"].eq(1) & rows["answer"].isna() & (rng.random(len(rows)) < 0.4)
    rows.loc[extra, "answer"] = 9.0
    result = strategy.aimed(rows, **ARMS)
    table = result.table.set_index("quantity")
    assert result.finding("S18a").ci_low > 0.1
    assert table.loc["satisfaction, lower bound for those who stay and answer either way", "value"] < 0.03
    assert table.loc["satisfaction, upper bound for those who stay and answer either way", "value"] > 0.3
    assert [c.name for c in result.finding("S18a").checks if c.status == "closed"] == ["both arms answer alike"]


@pytest.mark.parametrize("saved", [0.2, 0.3, 0.4])
def test_bounds_hold_what_staying_because_of_the_offer_hides(saved):
    """The targeted offer keeps customers who are discontented: among those asked it seems to displease."""
    rng = np.random.default_rng(3)
    rows = aimed(n=60_000, leaves=(0, 0, 0), content=(0, 0, 0))
    low = np.where(rows["answer"].isna(), rng.random(len(rows)) < 0.5, rows["answer"] < 6)
    gone = rng.random(len(rows)) < np.where(low, 0.4, 0.05) - saved * (low & (rows["arm"] == "personal"))
    rows = rows.assign(left=gone.astype(int), months=np.where(gone, 2.0, 36.0))
    rows.loc[gone, ["asked", "answer", "wave_months"]] = np.nan
    result = strategy.aimed(rows, **ARMS)
    table = result.table.set_index("quantity")
    ends = [f"satisfaction, {side} bound for those who stay and answer either way" for side in ("lower", "upper")]
    assert result.finding("S18a").ci_high < 0
    assert table.loc[ends[0], "ci_low"] < 0 < table.loc[ends[1], "ci_high"]
    lost = [table.loc[f"left before the wave, of the {arm}", "value"] for arm in ("generic", "targeted")]
    assert lost[0] - lost[1] == pytest.approx(saved / 2, abs=0.02)
    assert "6 months after it satisfaction" in result.sentence


def test_without_the_arms_or_the_survey_it_says_so():
    assert "both an arm 'vip'" in str(strategy.aimed(aimed(), targeted="vip", generic="generic").finding("S18"))
    result = strategy.aimed(aimed().drop(columns=["asked", "answer"]), **ARMS)
    assert result.finding("S18").n > 5_000
    assert "answered on satisfaction" in str(result.finding("S18a"))


# --- what is held elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.05, 0.2])
def test_the_slope_over_what_is_held_elsewhere_is_covered(slope):
    hits = []
    for seed in range(40):
        found = strategy.potential(developed(slope=slope, leaves=0.0, seed=seed)).finding("S23")
        hits.append(found.ci_low <= slope <= found.ci_high)
    assert np.mean(hits) > 0.84


@pytest.mark.parametrize("slope", [0.0, 0.05, 0.2])
def test_what_is_held_equal_moves_the_slope_by_noise_alone_where_the_effect_differs_by_it(slope):
    """The effect goes with the guess, and with a balance that goes with the guess: one slope, two routes."""
    gaps, found = [], []
    for seed in range(30):
        rows = developed(slope=slope, leaves=0.0, seed=seed)
        rows["balance_before"] += 0.5 * rows["outside"]
        rows["balance_after"] += 0.5 * rows["outside"] + 0.1 * rows["treated"] * rows["balance_before"]
        table = strategy.potential(rows).table
        found.append(table["value"].iloc[0])
        gaps.append(table["value"].iloc[0] - table["value"].iloc[1])
    assert np.mean(found) == pytest.approx(slope + 0.05, abs=4 * np.std(found) / 30**0.5)  # what goes with it counts
    assert np.mean(gaps) == pytest.approx(0, abs=4 * np.std(gaps) / 30**0.5)


def test_one_customer_who_makes_the_slope_closes_the_gate():
    rows = developed()
    rows.loc[0, ["outside", "balance_after"]] = [5e7, 5e7]
    assert "no dominating customer" in [c.name for c in strategy.potential(rows).checks if c.status == "closed"]


@pytest.mark.parametrize("absent", ["outside", "balance_before", "balance_after"])
def test_without_a_guess_or_balances_it_says_so(absent):
    assert "a guess of what customers hold elsewhere" in str(
        strategy.potential(developed().drop(columns=absent)).finding("S23")
    )


# --- policies ---------------------------------------------------------------------------------------------------------

BEST = np.array([[0, 0, 0, 0], [0, 12, 30, 20], [0, 20, 60, 150]], dtype=float)  # band x dose: what it brings
PRICE = np.array([0.0, 5.0, 12.0, 30.0])
STATED = {"parts": [1, 1, 1, 1], "band_edges": [30_000, 15_000]}


def dosed(n=8000, effect=BEST, seed=1, chance=(0.25, 0.25, 0.25, 0.25)):
    rng = np.random.default_rng(seed)
    k, balance = rng.choice(4, n, p=chance), rng.lognormal(np.log(21_000), 0.85, n)
    band = np.searchsorted([15_000, 30_000], balance, side="right")
    before = rng.normal(0, 100, n)
    return pd.DataFrame({
        "block": np.arange(n) % 400, "campaign_id": "dose", "arm": np.array(["control", "low", "medium", "high"])[k],
        "treated": (k > 0).astype(int), "randomised": True, "cost": PRICE[k], "left": 0, "months": 30.0,
        "balance_before": balance, "value_before": before, "x_age": rng.normal(size=n),
        "value_after": before + effect[band, k] + rng.normal(0, 40, n), "outside": rng.lognormal(10, 0.9, n),
    })  # fmt: skip


def test_a_policy_is_found_where_segments_differ_and_what_offers_bring_is_covered():
    result = strategy.policy(dosed(n=40_000), **STATED)
    assert result.finding("S25").ci_low > 5
    cells = result.details["cells"]
    net = (BEST - PRICE)[:, 1:]
    want = np.repeat(net, 2, axis=0).ravel()  # both guesses alike
    assert ((cells["ci_low"] - 6 <= want) & (want <= cells["ci_high"] + 6)).all()
    chosen = cells[cells["halves"] == 2].groupby("segment")["offer"].first()
    assert chosen.str.contains("high").sum() == 2
    assert "low" not in set(chosen)


def test_no_policy_is_found_where_one_offer_is_best_for_all():
    alike = np.array([[0, 30, 60, 120]] * 3, dtype=float)
    found = [strategy.policy(dosed(effect=alike, seed=seed), **STATED).finding("S25") for seed in range(30)]
    assert all(f.ci_low <= 0 <= f.ci_high for f in found)


def test_within_a_band_the_policy_adds_what_the_guess_tells_apart():
    rows = dosed(n=20_000, effect=np.zeros((3, 4)))
    much, k = (
        rows["outside"] > rows["outside"].median(),
        rows["arm"].map({"control": 0, "low": 1, "medium": 2, "high": 3}),
    )
    rows["value_after"] += np.where(much, np.array([0, 20, 60, 150])[k], 0)
    assert strategy.by_band(rows, **STATED).finding("S57").ci_low > 10
    same = strategy.by_band(dosed(n=20_000), **STATED)
    assert isinstance(same.finding("S57"), Missing)  # one offer for all of the band: nothing to compare
    assert "one offer was chosen throughout" in str(same.finding("S57"))
    assert len(same.table) == 3
    assert same.table["value"].isna().tolist()[-1]


def test_offers_drawn_otherwise_than_stated_close_the_gate():
    rows = dosed(chance=(0.4, 0.2, 0.2, 0.2))
    for study in (strategy.policy, strategy.by_band):
        closed = [c.name for c in study(rows, **STATED).checks if c.status == "closed"]
        assert closed == ["offers drawn by the stated chances"]
        assert not [c for c in study(rows, **{**STATED, "parts": [2, 1, 1, 1]}).checks if c.status == "closed"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (dosed().drop(columns="value_after"), "no campaign has contribution after it"),
        (dosed().assign(cost=0.0), "no campaign drawn by lot has two offers of different cost"),
        (dosed()[:300], "are needed"),
    ],
)
def test_what_a_policy_needs_is_said(rows, reason):
    assert reason in str(strategy.policy(rows, **STATED).finding("S25"))


def test_parts_that_do_not_fit_are_refused_with_what_to_set():
    with pytest.raises(InputError, match=r"`drawn_parts` holds 3 numbers, and campaign dose has 4 offers by cost"):
        strategy.policy(dosed(), parts=[1, 1, 1], band_edges=[15_000])


def test_bands_of_the_bank_come_before_those_of_the_parameter():
    rows = dosed()
    own = np.where(rows["balance_before"] < 20_000, "small", "large")
    rows["band"] = pd.Categorical(own, ["small", "large"], ordered=True)
    found = strategy.by_band(rows.drop(columns="outside"), **STATED)
    assert found.table["band"].tolist() == ["small", "large"]


# --- the simulated bank -----------------------------------------------------------------------------------------------

TABLES = ["customers", "monthly", "contacts", "holdings", "service", "survey"]


@pytest.fixture(scope="module", params=["wider", "uniform_best"])
def reference(request):
    """Both purposes of offers on a bank of the reference size, and what was planted."""
    s = simulated.Settings(20_000, 60, 1, request.param)
    bank = simulated.bank(s, TABLES)
    return [reductions.offers(bank, purpose=p) for p in ("retain", "develop")], simulated.truth(s)


def test_what_was_planted_is_found_and_every_forced_offer_is_covered(reference):
    (kept, developed), truth = reference
    e, price = truth["estimands"], truth["parameters"]["dose_costs"]
    result = strategy.policy(kept, parts=[1, 1, 1, 1], band_edges=EDGES)
    gain = result.finding("S25")
    assert gain.ci_low <= e["policy.gain"] <= gain.ci_high
    assert (gain.ci_low > 0) == (truth["world"] == "wider")  # in uniform_best one offer is best for all
    names = [f"{band}.{gap}.{dose}" for band in BANDS for gap in GAPS for dose in DOSES[1:]]
    want = [e[f"policy.{name}.contribution"] - price[name.split(".")[2]] for name in names]
    cells = result.details["cells"]
    se = (cells["ci_high"] - cells["ci_low"]) / 3.92
    assert (np.abs(cells["value"] - want) / se).max() < 3.5  # of eighteen, by Bonferroni, at one in a hundred
    top = strategy.by_band(kept, parts=[1, 1, 1, 1], band_edges=EDGES).finding("S57")
    assert isinstance(top, Missing) or top.ci_low <= 0 <= top.ci_high  # the top band's planted gain is 0
    for found, name, bound in (
        (strategy.held(developed).finding("S05"), "offer.families", 0.01),
        (strategy.aimed(kept, **ARMS).finding("S18"), "campaign.personal.retention_12m", 0.005),
        (strategy.potential(developed).finding("S23"), "offer.balance.per_guess", 0.01),
    ):
        assert found.value == pytest.approx(e[name], abs=3 * found.se)
        assert found.ci_low > bound


# --- reduction --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wider():
    s = simulated.Settings(1_500, 60, 5, "wider")
    return simulated.about(s), simulated.frames(s, TABLES)


def test_what_follows_an_offer_is_that_of_the_tables_by_hand(wider):
    about, f = wider
    found = reductions.offers(Bank.from_frames(f, about, checked=False), purpose="develop")
    c = f["contacts"].query("purpose == 'develop'")
    day = pd.Timestamp(c["contacted_on"].iloc[0])
    end = day + pd.DateOffset(months=12)
    who = c["customer_id"]
    assert len(found) == len(who)
    m = f["monthly"][f["monthly"]["customer_id"].isin(who)]
    assert found["balance_before"].sum() == pytest.approx(
        m.loc[m["month"] == day - pd.DateOffset(months=1), "balance"].sum()
    )
    assert found["balance_after"].sum() == pytest.approx(
        m.loc[m["month"] == end - pd.DateOffset(months=1), "balance"].sum()
    )
    h = f["holdings"][f["holdings"]["customer_id"].isin(who)]
    h = h[(h["opened_on"] < end) & (h["closed_on"].isna() | (h["closed_on"] >= end))]
    assert found["families_after"].sum() == h.groupby("customer_id")["product_family"].nunique().sum()
    guess = f["customers"].set_index("customer_id")["outside_estimate"]
    assert found["outside"].sum() == pytest.approx(guess[who].sum())


def test_answers_are_those_of_the_first_wave_after_the_offer(wider):
    about, f = wider
    f = {**f, "survey": f["survey"].assign(weight=1.0)}
    rows = reductions.offers(Bank.from_frames(f, about, checked=False))
    c = f["contacts"].query("campaign_id == 'personal'")
    survey = f["survey"][f["survey"]["customer_id"].isin(c["customer_id"])]
    wave = survey[survey["wave_on"] == survey.loc[survey["wave_on"] > c["contacted_on"].iloc[0], "wave_on"].min()]
    own = rows[rows["campaign_id"] == "personal"]
    assert own["asked"].sum() == len(wave)
    days = (wave["wave_on"].iloc[0] - c["contacted_on"].iloc[0]).days
    assert own["wave_months"].max() == pytest.approx(days / 30.4375, abs=0.05)
    items = [f"satisfaction_{k}" for k in range(1, 5)]
    assert own["answer"].mean() == pytest.approx(wave[items].astype(float).mean(axis=1).mean())
    often = f["survey"]["customer_id"].str[-1].isin(list("02468"))  # asked twice as often as the others
    f["survey"]["weight"] = np.where(often, 0.5, 1.0)
    thinned = reductions.offers(Bank.from_frames(f, about, checked=False))
    asked = thinned[thinned["campaign_id"] == "personal"]["asked"].sum() / len(wave)
    assert asked == pytest.approx(1 - wave["customer_id"].str[-1].isin(list("02468")).mean() / 2, abs=0.1)


@pytest.mark.parametrize("absent", ["holdings", "monthly", "survey", "outside_estimate", "contacts"])
def test_a_bank_that_lacks_something_says_what_it_can(wider, absent):
    about, f = wider
    f = {k: v for k, v in f.items() if k != absent}
    if absent == "outside_estimate":
        f["customers"] = f["customers"].drop(columns=absent)
    found = reductions.offers(Bank.from_frames(f, about, checked=False), purpose="develop")
    if absent == "contacts":
        assert isinstance(found, Missing)
        return
    lacking = {"holdings": "families_after", "monthly": "balance_after", "survey": "answer"}.get(absent, "outside")
    assert lacking not in found
    assert strategy.held(found).applicable == (absent != "holdings")
    assert not strategy.paid(found).applicable or absent != "monthly"


def test_a_purpose_without_a_lot_is_missing(wider):
    about, f = wider
    f = {**f, "contacts": f["contacts"].assign(randomised=False)}
    found = reductions.offers(Bank.from_frames(f, about, checked=False))
    assert "no campaign to retain was drawn by lot" in str(found)


def test_the_year_before_ends_with_the_month_before_the_contact():
    tables = ["customers", "monthly", "contacts", "holdings", "service"]
    bank = simulated.bank(simulated.Settings(2_000, seed=4), tables)
    rows = reductions.offers(bank)
    at = pd.Timestamp(
        bank.frame(bank.table("contacts").filter(lambda t: t.campaign_id == "trial"))["contacted_on"].min()
    )
    months = bank.frame(bank.table("monthly"))
    made = months["net_interest"] + months["fees"] - months["service_cost"] - months["risk_cost"]
    trial = bank.frame(bank.table("contacts").filter(lambda t: t.campaign_id == "trial"))["customer_id"].unique()
    year = months["month"].between(at - pd.DateOffset(months=12), at - pd.DateOffset(days=1))
    after = months["month"].between(at, at + pd.DateOffset(months=11))
    drawn = months["customer_id"].isin(trial)
    own = rows[rows["campaign_id"] == "trial"]
    assert own["value_before"].sum() == pytest.approx(made[year & drawn].sum())
    assert own["value_after"].sum() == pytest.approx(made[after & drawn].sum())
