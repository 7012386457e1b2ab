"""The nine ratios: Fieller's sets, tenure corrected for censoring, edge cases, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError, Missing
from crmresearch.estimators import blocks as r
from crmresearch.estimators.blocks import mean_ratio
from crmresearch.estimators.inference import fieller
from crmresearch.estimators.spending.tenure import lifetime_cost
from crmresearch.estimators.spending.winning import shared_per_win
from crmresearch.studies import cost
from crmresearch.studies.cost.grid import LINES


def frames(n: int = 600, seed: int = 1, spend: float = 100.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prospects, of whom the won are the customers; every person is a block."""
    g = np.random.default_rng(seed)
    won = g.random(n) < 0.4
    paid = g.gamma(4, spend / 4, n)
    acquisition = pd.DataFrame({"block": np.arange(n), "channel": np.where(np.arange(n) % 2, "a", "b"), "n": 1})
    acquisition = acquisition.assign(
        spend=paid, spend_won=paid * won, won=won.astype(int), segment=np.where(won, "x", None)
    )
    years = g.exponential(5, n) + 0.1
    upkeep = pd.DataFrame({"block": np.arange(n), "years": years, "retention_cost": years * g.gamma(4, 12.5, n)})
    upkeep = upkeep.assign(customers=1, exits=1, channel=acquisition["channel"], segment="x")[won].reset_index(
        drop=True
    )
    return acquisition, upkeep


# --- Fieller ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denominator", [0.5, 1.5, 3.0, 8.0])
def test_fieller_covers_however_weak_the_denominator(denominator):
    """Exact for normal estimates; 4,000 draws put 99.9% of binomial coverage within .95 +- .0115."""
    g, truth, runs = np.random.default_rng(2), 2.0, 4000
    cov = np.array([[1.0, 0.3], [0.3, 1.0]])
    draws = g.multivariate_normal([truth * denominator, denominator], cov, runs)
    sets = [fieller(n, d, 1.0, 1.0, 0.3) for n, d in draws]
    assert np.mean([s.covers(truth) for s in sets]) == pytest.approx(0.95, abs=0.0115)
    open_share = np.mean([s.kind != "bounded" for s in sets])
    assert open_share == pytest.approx(np.mean(np.abs(draws[:, 1]) <= 1.959964), abs=1e-9)


@pytest.mark.parametrize(
    ("n", "d", "kind"),
    [(10.0, 5.0, "bounded"), (10.0, 1.0, "disjoint"), (0.5, 0.5, "unbounded"), (-4.0, 6.0, "bounded")],
)
def test_fieller_is_the_inverted_test(n, d, kind):
    """The set holds exactly those ratios that a normal test of n - r d does not reject."""
    found = fieller(n, d, 1.0, 1.0, 0.2)
    grid = np.linspace(-60, 60, 24_001)
    kept = np.abs(n - grid * d) <= 1.959964 * np.sqrt(1 - 2 * 0.2 * grid + grid**2)
    assert found.kind == kind
    assert np.array_equal([found.covers(v) for v in grid], kept)


def test_fieller_refuses_what_is_not_finite():
    with pytest.raises(InputError, match="finite estimates and variances"):
        fieller(1.0, np.nan, 1.0, 1.0)
    with pytest.raises(InputError, match="finite estimates and variances"):
        fieller(1.0, 1.0, -1.0, 1.0)


# --- linearisation ----------------------------------------------------------------------------------------------


def test_variance_of_a_ratio_equals_the_textbook_formula():
    g = np.random.default_rng(3)
    x, y = g.gamma(2, 3, 500), g.gamma(5, 1, 500)
    f = mean_ratio(x, y)
    residual = x - f.value * y
    assert f.variance == pytest.approx(residual.var(ddof=1) / 500 / y.mean() ** 2, rel=1e-9)


def test_product_and_difference_follow_the_delta_method():
    """Numerical derivative of the product in block weights, against the stored influence."""
    g = np.random.default_rng(4)
    x, y, z = (g.gamma(3, 1, 80) for _ in range(3))
    a, b = mean_ratio(x, y), mean_ratio(z, y)
    f, h = r.product(a, b), 1e-6
    weights = np.ones((80, 80)) + h * np.eye(80)
    assert (f.redrawn(weights) - f.value) / h == pytest.approx(f.influence, abs=1e-5)


def population(n: int, seed: int, cost_rate: float = 50.0, hazard: float = 0.10) -> pd.DataFrame:
    """Tenure months of customers won up to ten years before a five-year window: late entry and censoring."""
    g = np.random.default_rng(seed)
    won = g.uniform(-120, 60, 4 * n)
    end = won + g.exponential(12 / hazard, 4 * n)
    won, end = won[end > 0][:n], end[end > 0][:n]
    entry, last = np.maximum(0, -won), np.minimum(end, 60) - won
    left = end < 60
    rows = []
    for k in range(180):
        at = np.clip(np.minimum(last, k + 1) - np.maximum(entry, k), 0, None)
        here = at > 0
        gone = left & (last >= k) & (last < k + 1)
        rate = cost_rate / 12 * (1 + (k < 12))  # the first year costs twice as much
        block = np.flatnonzero(here | gone)
        part = pd.DataFrame({"block": block, "months": at[block], "exits": gone[block].astype(float)})
        rows.append(part.assign(tenure_month=k, retention_cost=at[block] * rate, years=at[block] / 12))
    return pd.concat(rows, ignore_index=True)


def test_cost_of_a_tenure_is_right_under_late_entry_and_censoring():
    """Truth in closed form; the plain mean of what was spent in the window is far off, in nearly every draw."""
    hazard, rate, months = 0.10, 50.0, 60

    def through(t):
        return rate / hazard * (1 - np.exp(-hazard * t))

    truth = through(months / 12) + through(1)
    inside = naive_out = 0
    for seed in range(30):
        upkeep = population(400, seed)
        found = lifetime_cost(upkeep, "retention_cost", 400, months).cost
        inside += found.interval()[0] <= truth <= found.interval()[1]
        per = upkeep.groupby("block")["retention_cost"].sum()
        naive_out += abs(per.mean() - truth) > 1.96 * per.std() / np.sqrt(len(per))
    assert inside >= 25  # 30 draws at 95%: below 25 has a chance of 0.3%
    assert naive_out >= 29


def test_discounting_lowers_the_cost_of_a_tenure():
    upkeep = population(400, 5)
    plain = lifetime_cost(upkeep, "retention_cost", 400, 60).cost.value
    discounted = lifetime_cost(upkeep, "retention_cost", 400, 60, 0.08).cost.value
    assert 0.80 * plain < discounted < 0.95 * plain


def test_tenure_curve_ends_where_fewer_than_fifty_are_at_risk():
    upkeep = population(400, 6)
    few = upkeep[(upkeep["tenure_month"] < 30) | (upkeep["block"] < 20)]
    assert lifetime_cost(few, "retention_cost", 400, 60).months <= 30


# --- the grid -----------------------------------------------------------------------------------------------------


def test_ratios_do_not_depend_on_the_currency_or_on_splitting_rows():
    acquisition, upkeep = frames()
    first = cost.ratios(acquisition, upkeep).estimates["S40"]
    scaled = cost.ratios(
        acquisition.assign(spend=acquisition["spend"] * 7.1, spend_won=acquisition["spend_won"] * 7.1),
        upkeep.assign(retention_cost=upkeep["retention_cost"] * 7.1),
    ).estimates["S40"]
    half = acquisition.assign(**{c: acquisition[c] / 2 for c in ("n", "spend", "spend_won", "won")})
    split = cost.ratios(pd.concat([half, half], ignore_index=True), upkeep).estimates["S40"]
    for other in (scaled, split):
        assert (other.value, other.ci_low, other.ci_high) == pytest.approx((first.value, first.ci_low, first.ci_high))


def test_bootstrap_and_fieller_agree_when_the_denominator_is_strong():
    table = cost.ratios(*frames(2000)).table.set_index("line")
    for end in ("low", "high"):  # 1,000 resamples: end points are good to about a tenth of the width
        width = table.loc["S40", "ci_high"] - table.loc["S40", "ci_low"]
        assert table.loc["S40", f"bootstrap_{end}"] == pytest.approx(table.loc["S40", f"ci_{end}"], abs=0.15 * width)


def test_simultaneous_sets_are_wider():
    table = cost.ratios(*frames()).table.dropna(subset=["ratio"])
    assert (table["simultaneous_low"] < table["ci_low"]).all()
    assert (table["simultaneous_high"] > table["ci_high"]).all()


def test_simultaneous_critical_value_of_independent_ratios_is_sidaks():
    """Eight independent numerators over constants: the largest of eight |z|; from 20,000 draws, good to .03."""
    blocks = 4000
    g = np.random.default_rng(8)
    one = r.constant(1.0, blocks)
    pairs = [(r.Functional(1.0, g.standard_normal(blocks)), one) for _ in range(8)]
    from scipy.stats import norm

    assert r.simultaneous(pairs, seed=1) == pytest.approx(norm.ppf(0.5 + 0.95 ** (1 / 8) / 2), abs=0.05)


def test_every_ratio_is_defined_before_it_is_computed():
    table = cost.definitions("2021-01 to 2025-12", 60).table
    assert table["line"].tolist() == list(LINES.values())
    assert table["numerator"].nunique() == table["denominator"].nunique() == 3


def test_lines_that_do_not_apply_say_why():
    found = cost.ratios(*frames())
    assert isinstance(found.finding("S40c"), Missing)
    assert "no saving cost" in str(found.finding("S40c"))
    assert np.isfinite(found.finding("S40").ci_high)


# --- edge cases ------------------------------------------------------------------------------------------------------


def test_zero_wins_and_zero_retention_spend_are_not_applicable():
    acquisition, upkeep = frames()
    none = cost.ratios(acquisition.assign(won=0, spend_won=0.0), upkeep)
    assert not none.applicable
    assert "0 prospects were won" in none.sentence
    free = cost.ratios(acquisition, upkeep.assign(retention_cost=0.0))
    assert "no retention spend is recorded" in free.sentence


def test_zero_spend_is_none_recorded_and_gives_no_ratio_of_zero():
    acquisition, upkeep = frames()
    found = cost.ratios(acquisition.assign(spend=0.0, spend_won=0.0), upkeep)
    assert not found.applicable  # 0 [0, 0] refuted that winning costs several times keeping
    assert "no spend on prospects is recorded" in found.sentence


def at(frame, column, value, *rows):
    """Put a value into some rows of a column."""
    return frame.assign(**{column: frame[column].mask(frame.index.isin(rows), value)})


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda a, u: (at(a, "spend", -1.0, 3, 7), u), "spend is negative in 2 rows, e.g. row 3, 7"),
        (lambda a, u: (at(a, "spend_won", -1.0, 3, 7), u), "spend_won is negative in 2 rows, e.g. row 3, 7"),
        (lambda a, u: (a, at(u, "retention_cost", -5.0, 0)), "retention_cost is negative in 1 rows"),
        (lambda a, u: (a.assign(currency=np.where(a.index % 3, "EUR", "CNY")), u), r"mixes currencies \(CNY, EUR\)"),
        (lambda a, u: (a.drop(columns="spend_won"), u), "acquisition lacks spend_won"),
        (lambda a, u: (a, u.iloc[:0]), "upkeep has no rows"),
        (lambda a, u: (at(a, "spend", np.nan, 5), u), "1 rows without spend, e.g. row 5"),
    ],
)
def test_frames_that_cannot_be_used_are_refused(spoilt, message):
    with pytest.raises(InputError, match=message):
        cost.ratios(*spoilt(*frames()))


def test_channels_without_wins_or_with_one_customer_have_an_answer():
    acquisition, upkeep = frames()
    acquisition.loc[:99, "channel"] = "empty"
    acquisition.loc[:99, ["won", "spend_won"]] = 0
    one = acquisition.index[acquisition["won"] == 1][0]
    acquisition.loc[one, "channel"] = "single"
    table = cost.ratios_by(acquisition, upkeep).table.query("line.isna() | line == 'S40'").set_index("channel")
    assert "single" not in table.index  # a name of few is no name of a row
    assert "no wins: cost per win is not defined; at least" in table.loc["empty", "note"]
    few = table.drop(index=["empty", "a", "b"])
    assert (few["suppressed"] == "too few people").all()  # one prospect, one win
    assert few["ratio"].isna().all()
    assert (table.loc[["a", "b"], "ratio"] > 0).all()


def test_no_wins_bound_is_the_rule_of_three():
    """Zero of 300: at 95% the win probability is below about 3 / 300, so a win costs at least 100 prospects' spend."""
    acquisition, upkeep = frames()
    empty = acquisition.iloc[:300].assign(channel="empty", won=0, spend_won=0.0, spend=1.0)
    rest = acquisition.iloc[300:]
    note = cost.ratios_by(pd.concat([empty, rest]), upkeep).table.set_index("channel").loc["empty", "note"]
    assert "at least 101 per win" in note


def segmented(n: int = 3000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prospects of two channels and one that wins nobody; the won fall into two segments."""
    acquisition, upkeep = frames(n)
    acquisition.loc[:199, ["channel", "won", "spend_won"]] = ["none", 0, 0.0]
    acquisition["segment"] = np.where(acquisition["won"] == 1, np.where(np.arange(n) % 3, "x", "y"), None)
    return acquisition, upkeep.assign(segment=np.where(upkeep["block"] % 3, "x", "y"))


def test_spend_shared_out_to_segments_adds_up():
    acquisition, _ = segmented()
    wins = acquisition.groupby("segment")["won"].sum()
    for column in ("spend", "n"):  # what a channel without wins spent is shared out too
        parts = {s: shared_per_win(acquisition, s, column, 3000).value * wins[s] for s in wins.index}
        assert sum(parts.values()) == pytest.approx(acquisition[column].sum())


def test_the_error_of_shared_spend_counts_the_wins_once():
    """With one channel the cost per win of a segment is that of all; with several, resamples redraw the shares."""
    acquisition, _ = segmented()
    one = acquisition.assign(channel="a")
    whole = r.mean_ratio(r.by_block(one, "spend", 3000), r.by_block(one, "won", 3000))
    part = shared_per_win(one, "y", "spend", 3000)
    assert part.value == pytest.approx(whole.value)
    np.testing.assert_allclose(part.influence, whole.influence, atol=1e-12)
    several = shared_per_win(acquisition, "y", "spend", 3000)
    drawn = several.redrawn(r.resampled(3000, 1500, 5))
    assert several.se == pytest.approx(drawn.std(ddof=1), rel=0.08)  # 1,500 draws: 1.8%; more than four of it
    assert drawn.mean() == pytest.approx(several.value, rel=0.01)


def test_a_group_without_campaigns_or_with_missing_ones_keeps_its_other_lines(small_bank):
    from crmresearch.data.reductions import cost as reductions

    acquisition, upkeep = reductions.acquisition(small_bank), reductions.upkeep(small_bank, by="channel")
    response, campaigns = cost.response(reductions.prospects(small_bank)), reductions.campaigns(small_bank)
    others = campaigns[campaigns["channel"] != "agent"]
    agent = cost.ratios_by(acquisition, upkeep, response, others, resamples=99).table.query("channel == 'agent'")
    noted = agent[agent["ratio"].isna()]
    assert noted["line"].tolist() == ["S40c", "S40f", "S40i"]
    assert (noted["note"] == "not applicable: no campaign reached this channel").all()
    for none in (None, Missing("no campaign was followed"), campaigns.drop(columns="channel")):
        found = cost.ratios_by(acquisition, upkeep, response, none, resamples=99).table.dropna(subset=["ratio"])
        assert set(found["line"]) == {"S40", "S40b", "S40d", "S40e", "S40g", "S40h"}


def test_a_tenure_curve_that_ends_early_is_said(small_bank):
    """Fewer than fifty are left after a year: the row says so, the verdict is open, no discounted year is made up."""
    from crmresearch.data.reductions import cost as reductions

    acquisition, upkeep = reductions.acquisition(small_bank), reductions.upkeep(small_bank, by="channel")
    short = upkeep[(upkeep["channel"] != "agent") | (upkeep["tenure_month"] < 12) | (upkeep["block"] < 30)]
    table = cost.ratios_by(acquisition, short, resamples=99).table.set_index(["channel", "line", "costs"])
    assert table.loc[("agent", "S40b", "as paid"), "tenure_months"] == 12
    assert table.loc[("agent", "S40b", "as paid"), "note"] == "tenure seen for 12 of 60 months"
    assert table.loc[("agent", "S40", "as paid"), "note"] == ""
    assert table.loc[("branch", "S40b", "as paid"), "tenure_months"] == 60
    own = short[short["channel"] == "agent"]
    found = cost.ratios(acquisition[acquisition["channel"] == "agent"], own, resamples=99)
    assert [c.status for c in found.estimates["S40b"].checks] == ["closed"]
    assert found.estimates["S40"].checks == ()
    half = own.assign(
        months=np.where(
            own["tenure_month"] == 0,
            own["months"] * 40 / own["months"].where(own["tenure_month"] == 0).sum(),
            own["months"],
        )
    )
    assert lifetime_cost(half, "retention_cost", 1024, 60).months == 12  # 40 months, of some eighty winning
    late = own[own["tenure_month"] > 3]
    found = cost.ratios(acquisition, late, resamples=99).table
    assert found.loc[found["line"] == "S40", "costs"].tolist() == ["as paid"]


def test_a_closed_gate_of_a_groups_campaign_stands_in_its_rows(small_bank):
    from crmresearch.data.reductions import cost as reductions

    acquisition, upkeep = reductions.acquisition(small_bank), reductions.upkeep(small_bank, by="channel")
    campaigns = reductions.campaigns(small_bank)
    quiet = campaigns.assign(left=np.where(campaigns["channel"] == "agent", 0, campaigns["left"]), months=36.0)
    found = cost.ratios_by(acquisition, upkeep, None, quiet, resamples=99)
    notes = found.table.query("channel == 'agent' and line == 'S40c'")["note"]
    assert notes.str.contains("closed: exits per arm (0 in one arm, 10 needed)", regex=False).all()
    assert "come with a note and are not counted" in found.sentence


def test_ratios_below_the_axis_are_left_out_of_the_figure(small_bank):
    from crmresearch.data.reductions import cost as reductions

    acquisition, upkeep = reductions.acquisition(small_bank), reductions.upkeep(small_bank, by="channel")
    campaigns = reductions.campaigns(small_bank)
    harmful = campaigns.assign(left=np.where(campaigns["treated"] == 1, 1, campaigns["left"]))
    harmful["months"] = np.where(harmful["treated"] == 1, 1.0, harmful["months"])
    dear = campaigns.assign(cost=campaigns["cost"] * 1e6)
    for frame in (harmful, dear):
        found = cost.ratios_by(acquisition, upkeep, None, frame, resamples=99)
        assert (found.table["ci_high"] < 0.005).any()
        assert found.plot() is not None


def test_unknown_grouping_is_refused():
    with pytest.raises(InputError, match="group by channel or segment"):
        cost.ratios_by(*frames(), by="city")
    acquisition, upkeep = frames()
    with pytest.raises(InputError, match="acquisition lacks segment"):
        cost.ratios_by(acquisition.drop(columns="segment"), upkeep, by="segment")
    with pytest.raises(InputError, match="upkeep lacks customers"):
        cost.ratios_by(acquisition, upkeep.drop(columns="customers"))


# --- contacts per sale ---------------------------------------------------------------------------------------------


def test_contacts_per_sale_from_sums_equals_the_one_from_rows():
    g = np.random.default_rng(11)
    rows = pd.DataFrame({"group": np.repeat(["new", "won before"], [4000, 500]), "contacts": g.geometric(0.4, 4500)})
    rows["sold"] = (g.random(4500) < np.where(rows["group"] == "new", 0.09, 0.6)).astype(int)
    rows = rows.assign(n=1, contacts2=rows["contacts"] ** 2, contacts_sold=rows["contacts"] * rows["sold"])
    found = cost.per_sale(rows.groupby("group", as_index=False).sum())
    new = rows[rows["group"] == "new"]
    f = mean_ratio(new["contacts"].to_numpy(float), new["sold"].to_numpy(float))
    row = found.table.set_index("group").loc["new"]
    assert row["per_sale"] == pytest.approx(f.value)
    assert row["ci_high"] == pytest.approx(f.interval()[1], rel=1e-3)  # n against n - 1
    assert found.checks[0].status == "declared"
    assert found.estimates["contacts"].ci_low > 2


def test_the_grid_of_a_group_is_the_grid_of_its_rows(small_bank):
    """Two routes: the study by channel, and every step run on one channel alone."""
    from crmresearch.data.reductions import cost as reductions

    acquisition, people = reductions.acquisition(small_bank), reductions.prospects(small_bank)
    upkeep, campaigns = reductions.upkeep(small_bank, by="channel"), reductions.campaigns(small_bank)
    response = cost.response(people)
    options = {"discount_annual": 0.2, "resamples": 99, "seed": 3}
    found = cost.ratios_by(acquisition, upkeep, response, campaigns, **options)
    assert (found.table.groupby("line").size() == 8).all()  # four channels, as paid and discounted
    for name, part in found.table.groupby("channel"):
        a, p, u, c = (f[f["channel"] == name] for f in (acquisition, people, upkeep, campaigns))
        alone = cost.ratios(a, u, cost.response(p), cost.saved(c), **options).table.dropna(subset=["ratio"])
        same = ["line", "costs", "ratio", "ci_low", "ci_high"]
        # a channel's block numbers may end earlier, which moves the n - 1 of the variance; an end near 0 needs an atol
        pd.testing.assert_frame_equal(
            part[same].reset_index(drop=True), alone[same].reset_index(drop=True), rtol=1e-5, atol=1e-5
        )
        drawn = ["bootstrap_low", "bootstrap_high"]  # other blocks stand beside the channel's own: not the same draws
        close = part.set_index("line")[drawn] / alone.set_index("line")[drawn] - 1
        assert close.loc[["S40", "S40d"]].abs().max(axis=None) < 0.05


def test_segments_have_no_marginal_cost_and_campaigns_of_their_own(small_bank):
    from crmresearch.data.reductions import cost as reductions

    response = cost.response(reductions.prospects(small_bank))
    found = cost.ratios_by(
        reductions.acquisition(small_bank),
        reductions.upkeep(small_bank, by="segment"),
        response,
        reductions.campaigns(small_bank),
        by="segment",
        resamples=99,
    )
    known = found.table.dropna(subset=["ratio"])
    assert set(known["line"]) == {"S40", *(f"S40{x}" for x in "bcdef")}
    assert found.table["note"].str.contains("prospects who were not won have no segment").sum() == 9
    assert found.sentence.startswith("By segment, the primary ratio runs from ")


def test_intervals_of_discounted_ratios_agree_with_resampled_blocks(small_bank):
    """Fieller's interval is linear in the blocks; the resamples compute wins, cost and survival anew."""
    from crmresearch.data.reductions import cost as reductions

    acquisition, upkeep = reductions.acquisition(small_bank), reductions.upkeep(small_bank)
    table = cost.ratios(acquisition, upkeep, discount_annual=0.3, resamples=400, seed=1).table
    paid, row = (table[table["costs"] == c].set_index("line").loc["S40b"] for c in ("as paid", "discounted"))
    assert row["ratio"] > paid["ratio"]  # later upkeep weighs less
    blocks = max(r.unit_of(acquisition), r.unit_of(upkeep))
    win = r.mean_ratio(r.by_block(acquisition, "spend", blocks), r.by_block(acquisition, "won", blocks))
    life = lifetime_cost(upkeep, "retention_cost", blocks, 60, 0.3).cost
    weights = r.resampled(blocks, 400, 1)
    spread = np.std(win.redrawn(weights) / life.redrawn(weights), ddof=1)
    # a standard deviation of 400 draws has a standard error of 3.5%; 12% is over three of them
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * spread, rel=0.12)
    drawn = np.quantile(win.redrawn(weights) / life.redrawn(weights), [0.025, 0.975])
    assert [row["bootstrap_low"], row["bootstrap_high"]] == pytest.approx(drawn, rel=1e-9)
