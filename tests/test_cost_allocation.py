"""Splitting a budget and losing customers: identities, closed forms, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError
from crmresearch.estimators.blocks import mean_ratio
from crmresearch.estimators.spending.budget import Curve, customer_equity, optimum
from crmresearch.estimators.spending.retention import customer_value, elasticities
from crmresearch.result import Result
from crmresearch.rules import nobodys
from crmresearch.studies import cost


def cases(count: int, seed: int):
    g = np.random.default_rng(seed)
    for _ in range(count):
        won = Curve(
            *(ceiling := g.uniform(0.2, 0.9),), rate=10 ** g.uniform(-2.2, -0.7), floor=g.uniform(0, 0.3) * ceiling
        )
        kept = Curve(ceiling := g.uniform(0.6, 0.97), 10 ** g.uniform(-1.8, -0.5), g.uniform(0, 0.8) * ceiling)
        yield g.uniform(30, 300), won, kept, g.uniform(0.03, 0.2)


def test_identity_at_the_free_optimum():
    """Marginal cost of winning = marginal cost of keeping = value of a customer, wherever the optimum is inside."""
    inside = 0
    for margin, won, kept, d in cases(200, 1):
        best = optimum(margin, won, kept, d)
        if not best.corner:
            inside += 1
            assert best.marginal_acquisition == pytest.approx(best.value, rel=1e-8)
            assert best.marginal_retention == pytest.approx(best.value, rel=1e-8)
    assert inside >= 100


def test_identity_with_a_binding_budget():
    """They still equal each other, lie below value, and the shadow price is what one more unit of budget adds."""
    inside = 0
    for margin, won, kept, d in cases(120, 2):
        free = optimum(margin, won, kept, d)
        budget = 0.6 * free.budget_used
        bound = optimum(margin, won, kept, d, budget)
        assert bound.budget_used == pytest.approx(budget, rel=1e-6)
        if bound.corner or free.corner:
            continue
        inside += 1
        assert bound.marginal_acquisition == pytest.approx(bound.marginal_retention, rel=1e-6)
        assert bound.marginal_acquisition < bound.value
        more = optimum(margin, won, kept, d, budget * (1 + 1e-4)).equity
        less = optimum(margin, won, kept, d, budget * (1 - 1e-4)).equity
        assert (more - less) / (2e-4 * budget) == pytest.approx(bound.shadow_price, rel=1e-3)
    assert inside >= 50


def test_optimum_beats_every_point_of_a_grid():
    for margin, won, kept, d in cases(25, 3):
        best = optimum(margin, won, kept, d)
        a, r = np.meshgrid(np.linspace(0, 3 * best.acquisition + 10, 200), np.linspace(0, 3 * best.retention + 10, 200))
        assert best.equity >= customer_equity(a, r, margin, won, kept, d).max() - 1e-9 * abs(best.equity)


def test_a_budget_that_does_not_bind_changes_nothing():
    margin, won, kept, d = next(cases(1, 4))
    free = optimum(margin, won, kept, d)
    assert optimum(margin, won, kept, d, 2 * free.budget_used + 1) == free


def test_nothing_is_spent_where_nothing_pays():
    best = optimum(1.0, Curve(0.2, 0.001, 0.1), Curve(0.9, 0.001, 0.85), 0.1)
    assert (best.acquisition, best.retention, best.corner) == (0.0, 0.0, True)


def test_an_average_ratio_of_five_to_one_at_the_optimum():
    found = cost.five_to_one()
    free, half = found.details["free"], found.details["half"]
    assert free.average_ratio == pytest.approx(5.0, rel=1e-9)
    assert free.marginal_acquisition == pytest.approx(free.marginal_retention, rel=1e-9)
    assert free.marginal_acquisition == pytest.approx(free.value, rel=1e-9)
    assert half.marginal_acquisition < half.value
    assert half.shadow_price > 0


def test_curves_and_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="0 <= floor < ceiling <= 1"):
        Curve(0.3, 0.1, 0.4)
    with pytest.raises(InputError, match="positive margin and discount"):
        optimum(-1, Curve(0.4, 0.1), Curve(0.8, 0.1), 0.1)
    with pytest.raises(InputError, match="budget cannot be negative"):
        optimum(10, Curve(0.4, 0.1), Curve(0.8, 0.1), 0.1, -1)


TESTED = {"top_predicted": 0.3, "top_won": 0.31, "top_low": 0.28, "top_high": 0.34}


def curve_frame(rows: int) -> pd.DataFrame:
    g = np.random.default_rng(5)
    frame = pd.DataFrame(
        {"margin": 80 + g.standard_normal(rows), "won_floor": 0.0, "won_ceiling": 0.4, "won_rate": 0.02}
    )
    frame = frame.assign(kept_floor=0.0, kept_ceiling=0.8, kept_rate=0.1, n=1000, whose=nobodys("made up"))
    return frame.assign(
        spend_acquisition=10.0, spend_retention=10.0, most_acquisition=40.0, most_retention=40.0, **TESTED
    )


def test_split_reports_the_optimum_of_its_first_row_with_an_interval_around_it():
    found = cost.split(curve_frame(80))
    row = found.table.iloc[0]
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert found.details["gain"] > 0
    assert all(c.status == "open" for c in found.checks)
    with pytest.raises(InputError, match="needs 50"):
        cost.split(curve_frame(20))


def test_split_says_when_the_optimum_lies_beyond_what_was_tried():
    found = cost.split(curve_frame(80).assign(most_acquisition=12.0))
    assert found.checks[1].status == "closed"


# --- losing customers ------------------------------------------------------------------------------------------------


def tenure_frame(blocks: int = 200, months: int = 84, hazard: float = 0.01, seed: int = 6) -> pd.DataFrame:
    """Customers whose revenue grows over two years, exits at a constant rate, service costs flat."""
    g = np.random.default_rng(seed)
    block, month = np.divmod(np.arange(blocks * months), months)
    at_risk = g.uniform(4, 6, len(month)) * np.exp(-hazard * month)
    revenue = at_risk * np.where(month < 24, 5 + 5 * month / 24, 10)
    frame = pd.DataFrame(
        {"block": block, "tenure_month": month, "months": at_risk, "years": at_risk / 12, "revenue": revenue}
    )
    frame["exits"] = g.poisson(hazard * at_risk)
    frame["entered"] = np.where(month == 0, 5.0, 0.0)
    return frame.assign(service_cost=at_risk * 2.0, contribution=revenue - at_risk * 2.0, retention_cost=at_risk * 0.5)


def acquisition_frame(blocks: int = 200, per_win: float = 150.0) -> pd.DataFrame:
    g = np.random.default_rng(7)
    won = g.poisson(4, blocks)
    frame = pd.DataFrame({"block": np.arange(blocks), "channel": "a", "segment": "x", "n": won + 6, "won": won})
    return frame.assign(spend=per_win * won * g.uniform(0.8, 1.2, blocks), spend_won=40.0 * won)


def test_replacement_cost_equals_its_closed_form():
    """Revenue lost while growing: sum of v^k S_k (5 - 5 k / 24) over two years; service costs do not differ."""
    found = cost.replacement(
        acquisition_frame(), tenure_frame(), ramp_months=24, horizon_months=60, discount_annual=0.08
    )
    k = np.arange(24)
    loss = np.sum(1.08 ** (-(k + 0.5) / 12) * np.exp(-0.01 * k) * (5 - 5 * k / 24))
    parts = found.details["parts"]
    assert parts["ramp-up loss of revenue"].value == pytest.approx(loss, rel=0.02)  # 1% of error from drawn exits
    assert parts["service cost saved"].value == pytest.approx(0.0, abs=1e-9)
    total = parts["acquisition cost per win"].value + parts["ramp-up loss of revenue"].value
    assert found.estimates["S41"].value == pytest.approx(total)
    lost = found.estimates["S41"]
    assert lost.value - (lost.value - lost.ci_low) * 3.29 / 1.96 > 0  # far from 0: p below .001


def test_replacement_needs_established_customers_and_wins():
    short = tenure_frame(months=12)
    assert "beyond 24 months of tenure" in cost.replacement(acquisition_frame(), short).sentence
    assert (
        "only <10 prospects"
        in cost.replacement(
            acquisition_frame().assign(won=0, n=6).assign(won=lambda f: (f["block"] < 3).astype(int)), tenure_frame()
        ).sentence
    )


def test_payback_month_is_where_the_sum_passes_the_cost():
    found = cost.payback(acquisition_frame(), tenure_frame(), horizon_months=60, discount_annual=0.08)
    k = np.arange(60)
    path = np.cumsum(1.08 ** (-(k + 0.5) / 12) * np.exp(-0.01 * k) * (np.where(k < 24, 5 + 5 * k / 24, 10) - 2))
    level = found.details["won"].value
    assert found.table["value"].iloc[1] == pytest.approx(np.flatnonzero(path >= level)[0] + 1, abs=1)
    assert found.table["value"].iloc[2] < found.table["value"].iloc[1]


def test_a_win_that_never_pays_back_is_said_to_take_longer():
    found = cost.payback(acquisition_frame(per_win=5000.0), tenure_frame())
    assert "more than 60" in found.sentence


def test_winning_without_recorded_spend_is_not_free():
    free = acquisition_frame().assign(spend=0.0)
    for found in (cost.payback(free, tenure_frame()), cost.replacement(free, tenure_frame())):
        assert not found.applicable
        assert "no spend on prospects is recorded" in found.sentence


def test_a_point_of_retention_equals_the_difference_of_two_values():
    tenure = tenure_frame()
    found = cost.retention_point(tenure, discount_annual=0.08)
    kept = np.exp(-tenure["exits"].sum() / tenure["years"].sum())
    margin = tenure["contribution"].sum() / tenure["years"].sum()
    gain = customer_value(margin, kept + 0.01, 0.08) - customer_value(margin, kept, 0.08)
    assert found.table["value"].iloc[2] == pytest.approx(gain)
    # its interval, by the delta method, against the spread over resampled blocks
    g, draws = np.random.default_rng(8), []
    sums = tenure.groupby("block")[["exits", "years", "contribution"]].sum()
    for _ in range(400):
        s = sums.iloc[g.integers(0, len(sums), len(sums))].sum()
        m, k = s["contribution"] / s["years"], np.exp(-s["exits"] / s["years"])
        draws.append(customer_value(m, k + 0.01, 0.08) - customer_value(m, k, 0.08))
    assert found.details["gain"].se == pytest.approx(np.std(draws), rel=0.12)


def test_values_out_of_range_are_refused():
    with pytest.raises(InputError, match="retention rate from 0 to 1"):
        customer_value(1, 1.2, 0.1)
    with pytest.raises(InputError, match="choose one of"):
        customer_value(1, 0.8, 0.1, "later")
    with pytest.raises(InputError, match="pass 100%"):
        cost.five_points(0.97, 0.1)
    with pytest.raises(InputError, match="value net of acquisition cost is not above zero"):
        elasticities(1, 0.5, 0.1, 100)


def test_customers_who_lose_money_have_no_break_even():
    tenure = tenure_frame().assign(contribution=-1.0)
    assert "loses money" in cost.retention_point(tenure).sentence


# --- the best offer, from drawn campaigns -----------------------------------------------------------------------------

COSTS = {"control": 0.0, "low": 5.0, "medium": 12.0, "high": 30.0}


def offers(seed: int, fall: float, n: int = 9_000) -> pd.DataFrame:
    """A randomised campaign in four arms: exits fall by ``fall (1 - exp(-cost / 10))`` of their 9% without an offer."""
    g = np.random.default_rng(seed)
    frame = pd.DataFrame({"block": np.arange(n) % 512, "campaign_id": "dose", "arm": g.choice(list(COSTS), n)})
    cost_ = frame["arm"].map(COSTS).to_numpy()
    left = g.random(n) < 0.09 * (1 - fall * (1 - np.exp(-cost_ / 10)))
    frame = frame.assign(cost=cost_, treated=(cost_ > 0) * 1, randomised=True, left=left * 1)
    return frame.assign(months=np.where(left, 6.0, 24.0))


def best_offers(fall: float, draws: int) -> list[Result]:
    g = np.random.default_rng(11)
    people = pd.DataFrame({"block": np.arange(2_000) % 512, "channel": "a", "spend": g.lognormal(4, 0.5, 2_000)})
    people["won"] = (g.standard_normal(2_000) < people["spend"] / 60 - (people["spend"] / 150) ** 2 - 1) * 1
    upkeep = pd.DataFrame({"block": np.arange(512), "years": 10.0, "retention_cost": 0.0, "contribution": 1_400.0})
    response = cost.response(people)
    return [
        cost.split(cost.response_curves(people, offers(k, fall), upkeep, response, resamples=99)) for k in range(draws)
    ]


def test_the_interval_of_the_best_offer_covers_what_the_planted_response_implies():
    """Second route to the truth: the highest point of a customer's value over a fine grid of offers."""
    r = np.linspace(0, 30, 30_001)
    kept = 1 - 0.09 * (1 - 0.5 * (1 - np.exp(-r / 10)))
    truth = r[np.argmax(140 + (140 * kept - r) / (1.08 - kept))]
    assert 10 < truth < 20
    found = best_offers(0.5, 60)
    each = [f.estimates["spend_per_customer_year"] for f in found]
    inside = sum(e.ci_low <= truth <= e.ci_high for e in each)
    assert inside >= 51  # of 60; with 95% intervals fewer have a chance of 0.0003
    assert np.mean([f.checks[0].status == "open" for f in found]) > 0.9
    assert np.median([e.value for e in each]) == pytest.approx(truth, rel=0.2)


def test_offers_that_do_nothing_have_an_interval_that_starts_at_zero():
    found = best_offers(0.0, 25)
    assert sum(f.estimates["spend_per_customer_year"].ci_low == 0 for f in found) >= 22  # 97.5% of intervals
    for f in found:
        assert (f.checks[0].status == "closed") == (f.estimates["spend_per_customer_year"].value == 0)


def test_intervals_of_payback_agree_with_resampled_blocks(small_bank):
    """Two routes to one error: the jackknife over 20 groups knows it to a sixth, 30 resamples to an eighth."""
    from crmresearch.data.reductions import cost as reductions

    acquisition, tenure = reductions.acquisition(small_bank), reductions.upkeep(small_bank)
    table = cost.payback(acquisition, tenure).table.set_index("quantity")
    names = ["share gone before that", "loss on them, per win"]
    assert (table["ci_low"] <= table["value"]).all()
    assert (table["value"] <= table["ci_high"]).all()
    g, drawn = np.random.default_rng(1), []
    parts = {f: dict(list(frame.groupby(frame["block"] % 50))) for f, frame in (("a", acquisition), ("t", tenure))}
    for _ in range(30):
        picked = g.integers(0, 50, 50)
        a, t = (
            pd.concat([parts[f][k].assign(block=parts[f][k]["block"] // 50 * 50 + at) for at, k in enumerate(picked)])
            for f in ("a", "t")
        )
        again = cost.payback(a, t).table.set_index("quantity")
        drawn.append(again.reindex(names)["value"].to_numpy())
    spread = np.nanstd(drawn, axis=0, ddof=1)
    half = ((table["ci_high"] - table["ci_low"]) / 2 / 2.093).loc[names].to_numpy()
    # the resamples also move the month of payback, which the jackknife holds
    assert ((half / spread > 0.4) & (half / spread < 1.6)).all(), half / spread


def test_the_gain_of_five_points_has_the_interval_of_the_rate_it_starts_from():
    point = cost.retention_point(tenure_frame(), discount_annual=0.08)
    found = cost.five_points(point, 0.08).table
    ends = point.table.set_index("quantity").loc["yearly retention", ["ci_low", "ci_high"]]
    for column, rate in zip(("ci_low", "ci_high"), ends, strict=True):
        np.testing.assert_allclose(found[column], cost.five_points(float(rate), 0.08).table["gain"], rtol=1e-12)
    assert ((found["ci_low"] < found["gain"]) & (found["gain"] < found["ci_high"])).all()


@pytest.mark.parametrize("estimated", [False, True])
def test_intervals_of_the_elasticities_agree_with_resampled_blocks(estimated):
    """With the cost of a win known, and with one estimated from the same blocks."""
    tenure, g = tenure_frame(), np.random.default_rng(8)
    blocks = np.arange(tenure["block"].max() + 1)
    people = pd.DataFrame(
        {"block": blocks, "spend": 4 + 16 * g.random(len(blocks)), "won": g.random(len(blocks)) < 0.5}
    )
    win = mean_ratio(people["spend"].to_numpy(), people["won"].to_numpy(float))
    given = Result(pd.DataFrame(), "", details={"cost_per_win": win}) if estimated else win.value
    found = cost.retention_point(tenure, discount_annual=0.08, acquisition_cost=given).table.set_index("quantity")
    found = found[found.index.str.startswith("% value")]
    draws = []
    sums = tenure.groupby("block")[["exits", "years", "contribution"]].sum().join(people.set_index("block"))
    for _ in range(400):
        s = sums.iloc[g.integers(0, len(sums), len(sums))].sum()
        m, k = s["contribution"] / s["years"], np.exp(-s["exits"] / s["years"])
        draws.append(elasticities(m, k, 0.08, s["spend"] / s["won"] if estimated else win.value).to_numpy())
    width = (found["ci_high"] - found["ci_low"]).to_numpy()
    # a standard deviation of 400 draws has a standard error of 3.5%; 12% is over three of them
    np.testing.assert_allclose(width, 2 * 1.96 * np.std(draws, axis=0), rtol=0.12)
