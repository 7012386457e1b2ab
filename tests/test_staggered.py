"""Staggered adoption against published numbers, other implementations, own means and planted effects."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from crmresearch.errors import FitError, InputError
from crmresearch.estimators.causal.doubly_robust import group_time_given
from crmresearch.estimators.causal.pretrends import bounded, breakdown, standing
from crmresearch.estimators.causal.staggered import (
    Panel,
    Several,
    across,
    by_block,
    by_event,
    by_group,
    by_time,
    decomposed,
    group_time,
    imputed,
    treated,
    two_way,
    wild,
)

NEVER = np.inf


@pytest.fixture(scope="module")
def published(shared):
    """Values and tolerances of the published entries on staggered adoption, all of them recomputed there."""
    entries = yaml.safe_load((shared / "reference" / "published_results_wider.yaml").read_text("utf-8"))["results"]
    return {e["id"]: e["values"] for e in entries if e["id"][0] == "F" and e["verified"]}


@pytest.fixture(scope="module")
def counties(shared):
    """Minimum wage and teen employment: 500 counties, 2003 to 2007."""
    d = pd.read_csv(shared / "data" / "mpdta" / "mpdta.csv.gz")
    y = d.pivot(index="countyreal", columns="year", values="lemp")
    year = d.groupby("countyreal")["first.treat"].first().reindex(y.index)
    return y.to_numpy(), np.where(year == 0, NEVER, year - 2003)


@pytest.fixture(scope="module")
def castle(shared):
    """Castle doctrine laws: 50 states, 2000 to 2010."""
    d = pd.read_csv(shared / "data" / "bacon" / "castle.csv.gz")
    y, on = (d.pivot(index="state", columns="year", values=k).to_numpy() for k in ("l_homicide", "post"))
    return Panel(y, np.where(on.any(axis=1), on.argmax(axis=1), NEVER))


def drawn(rng, units=200, periods=12, starts=(4, 6, 9, NEVER), effect=lambda e: 1.0 * (e >= 0), noise=1.0):
    """Draw a panel with unit and period effects, and an effect by periods since treatment."""
    first = rng.choice(starts, units)
    y = rng.normal(size=(units, 1)) + rng.normal(size=periods) + noise * rng.normal(size=(units, periods))
    since = np.arange(periods) - np.where(np.isinf(first), 1e9, first)[:, None]
    return y + np.where(since >= 0, effect(since), 0.0), first


def selected(rng, units=400, periods=8, starts=(3, 5, NEVER)):
    """Draw a panel with an effect of 1, whose trends follow two traits that decide on treatment, too."""
    y, first = drawn(rng, units, periods, starts)
    x = rng.normal(size=(units, 2)) + np.isinf(first)[:, None] * [0.4, -0.3]
    return y + (x @ [0.3, 0.1])[:, None] * np.arange(periods), first, x


# --- published --------------------------------------------------------------------------------------------------------


def test_group_time_effects_are_the_published_ones(counties, published):
    """Callaway and Sant'Anna (2021), their README (F01, F02): twelve effects; its errors are a bootstrap's."""
    fit, want, errors = group_time(Panel(*counties)), published["F01"], published["F02"]
    for year in (2004, 2006, 2007):
        mine = fit.where(fit.group == year - 2003)
        assert mine.when.tolist() == [1, 2, 3, 4]
        assert mine.effect == pytest.approx(want[f"g{year}"], abs=5e-5)
        assert mine.se == pytest.approx(errors[f"g{year}"], rel=0.1)
    assert fit.where(fit.group == 1).se == pytest.approx(errors["analytic_g2004_here"], abs=5e-5)


def test_aggregations_are_the_published_ones(counties, published):
    """Event study with its mean, all treated cells, groups with their mean (F03, F04, F05)."""
    fit = group_time(Panel(*counties))
    event, simple, group = by_event(fit), treated(fit).pooled(), by_group(fit)
    want = published["F03"]
    assert {f"e{e:.0f}": v for e, v in zip(event.when, event.effect, strict=True)} == pytest.approx(
        {k: v for k, v in want.items() if k != "overall"}, abs=5e-5
    )
    assert event.where(event.when >= 0).mean().effect == pytest.approx([want["overall"]], abs=5e-5)
    assert simple.effect == pytest.approx([published["F04"]["att"]], abs=1e-6)
    assert simple.se == pytest.approx([0.012034], abs=5e-7)  # diff-diff's, with the estimated weights
    want = published["F05"]
    assert [*group.effect, *group.pooled().effect] == pytest.approx(
        [want["g2004"], want["g2006"], want["g2007"], want["overall"]], abs=5e-5
    )


def test_universal_base_gives_the_interaction_weighted_study(counties, published):
    """Sun and Abraham (2021), reference -1 (F08): with never treated controls it is the same estimator."""
    event, want = by_event(group_time(Panel(*counties), base="universal")), published["F08"]
    found = {f"e{e:.0f}": v for e, v in zip(event.when, event.effect, strict=True)}
    assert found == pytest.approx({k: want[k] for k in found}, abs=1e-5)
    errors = dict(zip(event.when, event.se, strict=True))
    assert [errors[0], errors[3]] == pytest.approx([want["se_e0"], want["se_e3"]], rel=0.005)  # theirs with a factor


def test_two_way_and_imputation_are_the_published_ones(counties, published, castle):
    """The naive coefficients (F07, F13) with the factor that regression programs use, and the imputation (F10)."""

    def error(panel):
        n, cells = len(panel.first), panel.values.size
        return two_way(panel).se[0] * np.sqrt(n / (n - 1) * (cells - 1) / (cells - panel.periods - 1))

    panel, want = Panel(*counties), published["F07"]
    assert [two_way(panel).effect[0], error(panel)] == pytest.approx([want["b"], want["se"]], abs=1e-6)
    want = published["F13"]
    assert [two_way(castle).effect[0], error(castle)] == pytest.approx([want["b"], want["se_crv1_state"]], abs=1e-5)
    y, first = counties
    fit, want = imputed(Panel(y[first != 1], first[first != 1])), published["F10"]
    assert [fit.effect[0], fit.se[0]] == pytest.approx([want["att"], want["se"]], abs=1e-5)


def test_castle_decomposition_is_the_published_one(castle, published):
    """Goodman-Bacon (2021) on the castle laws (F12): weights and effects by kind of comparison; they add up."""
    table = decomposed(castle)
    for kind, (weight, effect) in published["F12"].items():
        part = table[table["kind"] == kind.replace("_vs_", " against ")]
        assert part["weight"].sum() == pytest.approx(weight, abs=2e-5)
        assert np.average(part["effect"], weights=part["weight"]) == pytest.approx(effect, abs=2e-5)
    assert table["weight"] @ table["effect"] == pytest.approx(two_way(castle).effect[0], abs=1e-12)


@pytest.mark.parametrize("controls", ["never", "not yet"])
def test_effects_are_those_of_diff_diff(controls):
    """Effects and errors of every cell, and their mean; equal to rounding."""
    peer = pytest.importorskip("diff_diff", reason="an oracle of the extra `oracles`, which `make test` installs")
    y, first = drawn(np.random.default_rng(5), units=150)
    n, t = y.shape
    columns = {"unit": np.repeat(np.arange(n), t), "time": np.tile(np.arange(t), n), "y": y.ravel()}
    frame = pd.DataFrame(columns | {"first": np.repeat(np.where(np.isinf(first), 0, first), t)})
    method = peer.CallawaySantAnna(control_group=controls.replace("never", "never_treated").replace(
        "not yet", "not_yet_treated"), estimation_method="reg")  # fmt: skip
    theirs = method.fit(frame, outcome="y", unit="unit", time="time", first_treat="first")
    ours = group_time(Panel(y, first), controls=controls)
    cells = [theirs.group_time_effects[g, at] for g, at in zip(ours.group, ours.when, strict=True)]
    assert len(cells) == len(theirs.group_time_effects)
    assert ours.effect == pytest.approx([c["effect"] for c in cells], abs=1e-10)
    assert ours.se == pytest.approx([c["se"] for c in cells], abs=1e-10)
    simple = treated(ours).pooled()
    assert [simple.effect[0], simple.se[0]] == pytest.approx([theirs.overall_att, theirs.overall_se], abs=1e-10)


def test_doubly_robust_effects_are_the_published_ones(shared, counties, published):
    """Given log population (F06), which is known before; printed to four digits."""
    d = pd.read_csv(shared / "data" / "mpdta" / "mpdta.csv.gz")
    fit, want = group_time_given(Panel(*counties), d.groupby("countyreal")["lpop"].first()), published["F06"]
    for year in (2004, 2006, 2007):
        assert fit.effect[fit.group == year - 2003] == pytest.approx(want[f"g{year}"], abs=1e-4)
    assert treated(fit).pooled().effect == pytest.approx([want["simple"]], abs=1e-4)


@pytest.mark.parametrize("controls", ["never", "not yet"])
def test_doubly_robust_effects_are_close_to_those_of_diff_diff(controls):
    """Its weights of controls sum to the treated units in expectation, ours (and R's) always: .01 of an error."""
    peer = pytest.importorskip("diff_diff", reason="an oracle of the extra `oracles`, which `make test` installs")
    y, first, x = selected(np.random.default_rng(6), units=400)
    n, t = y.shape
    columns = {"unit": np.repeat(np.arange(n), t), "time": np.tile(np.arange(t), n), "y": y.ravel()}
    columns |= {"a": np.repeat(x[:, 0], t), "b": np.repeat(x[:, 1], t)}
    frame = pd.DataFrame(columns | {"first": np.repeat(np.where(np.isinf(first), 0, first), t)})
    method = peer.CallawaySantAnna(control_group=controls.replace("never", "never_treated").replace(
        "not yet", "not_yet_treated"), estimation_method="dr", pscore_trim=1e-6)  # fmt: skip
    theirs = method.fit(frame, outcome="y", unit="unit", time="time", first_treat="first", covariates=["a", "b"])
    ours = group_time_given(Panel(y, first), x, controls=controls)
    cells = [theirs.group_time_effects[g, at] for g, at in zip(ours.group, ours.when, strict=True)]
    assert len(cells) == len(theirs.group_time_effects)
    assert np.abs(ours.effect - [c["effect"] for c in cells]).max() < 0.01 * ours.se.min()
    assert ours.se == pytest.approx([c["se"] for c in cells], rel=0.005)
    simple = treated(ours).pooled()
    assert [simple.effect[0], simple.se[0]] == pytest.approx([theirs.overall_att, theirs.overall_se], rel=0.005)


# --- two routes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["varying", "universal"])
@pytest.mark.parametrize("controls", ["never", "not yet"])
def test_group_time_effects_are_differences_of_means(controls, base):
    y, first = drawn(np.random.default_rng(3), units=60)
    fit = group_time(Panel(y, first), controls=controls, base=base)
    for g, t, value in zip(fit.group, fit.when.astype(int), fit.effect, strict=True):
        before = t - 1 if t < g and base == "varying" else int(g) - 1
        other = np.isinf(first) if controls == "never" else (first > max(t, before)) & (first != g)
        change = y[:, t] - y[:, before]
        assert value == pytest.approx(change[first == g].mean() - change[other].mean(), abs=1e-12)
    assert len(fit.when) == 3 * 11
    assert by_event(fit).covariance.diagonal() == pytest.approx((by_event(fit).influence ** 2).sum(axis=0))


def test_influence_is_what_leaving_a_unit_out_changes():
    """To first order in one over the number of units, estimated weights included."""
    y, first = drawn(np.random.default_rng(4), units=400, effect=lambda e: 0.5 * (e + 1))
    fits = {
        "given a trait": lambda p: treated(group_time_given(p, p.values[:, :2])).pooled(),
        "pooled": lambda p: treated(group_time(p, controls="not yet"), 3).pooled(),
        "groups": lambda p: by_group(group_time(p)).pooled(),
        "time": lambda p: by_time(group_time(p)).mean(),
        "blocks": lambda p: by_block(group_time(p, base="universal"), 3, 1, 1),
        "two-way": two_way,
    }
    for name, fit in fits.items():
        whole = fit(Panel(y, first))
        for i in (0, 7, 11, 200):
            rest = np.arange(len(y)) != i
            moved = whole.effect - fit(Panel(y[rest], first[rest])).effect
            assert moved == pytest.approx(whole.influence[i], abs=2e-4, rel=0.03), name


def test_imputation_and_two_way_are_regressions_on_dummies():
    import statsmodels.api as sm

    y, first = drawn(np.random.default_rng(6), units=40, effect=lambda e: 0.3 * (e + 1))
    unit, time = (a.ravel() for a in np.indices(y.shape))
    on = time >= first[unit]
    dummies = pd.get_dummies(pd.DataFrame({"u": unit, "t": time}), columns=["u", "t"], dtype=float)
    dummies = dummies.drop(columns=["t_0"]).to_numpy()
    fit = sm.OLS(y.ravel()[~on], dummies[~on]).fit()
    effect = y.ravel()[on] - dummies[on] @ fit.params
    assert imputed(Panel(y, first)).effect == pytest.approx([effect.mean()], abs=1e-10)
    early = (time - first[unit] < 3)[on]  # every group is seen for three periods
    assert imputed(Panel(y, first), window=3).effect == pytest.approx([effect[early].mean()], abs=1e-10)
    naive = sm.OLS(y.ravel(), np.column_stack([on.astype(float), dummies])).fit()
    naive = naive.get_robustcov_results("cluster", groups=unit, use_correction=False)
    found = two_way(Panel(y, first))
    assert [found.effect[0], found.se[0]] == pytest.approx([naive.params[0], naive.bse[0]], rel=1e-8)


def test_blocks_are_means_over_periods():
    y, first = drawn(np.random.default_rng(8), units=80, periods=16, starts=(6, 8, NEVER))
    found = by_block(group_time(Panel(y, first), base="universal"), 3, 2, 2)
    assert found.when.tolist() == [-2, 0, 1]

    def block(g, b):
        own = slice(int(g + 3 * b), int(g + 3 * b + 3))
        gap = y[first == g].mean(axis=0) - y[np.isinf(first)].mean(axis=0)
        return gap[own].mean() - gap[int(g) - 3 : int(g)].mean()

    n = [(first == g).sum() for g in (6, 8)]
    want = [np.average([block(g, b) for g in (6, 8)], weights=n) for b in found.when]
    assert found.effect == pytest.approx(want, abs=1e-12)


def test_separate_panels_are_put_together_by_weights_and_may_share_clusters():
    rng, state = np.random.default_rng(10), np.arange(200) % 7
    panels = [Panel(*drawn(rng), state) for _ in range(2)]
    parts = [by_event(group_time(p, base="universal")) for p in panels]
    both = across(parts, [1, 3])
    assert both.effect == pytest.approx(0.25 * parts[0].effect + 0.75 * parts[1].effect)
    sums = [np.stack([p.influence[state == s].sum(axis=0) for s in range(7)]) for p in parts]
    together = 0.25 * sums[0] + 0.75 * sums[1]
    assert both.covariance == pytest.approx(together.T @ together)
    apart = across([by_event(group_time(Panel(p.values, p.first), base="universal")) for p in panels], [1, 3])
    alone = [w**2 * (p.influence**2).sum(axis=0) for w, p in zip((0.25, 0.75), parts, strict=True)]
    assert apart.se**2 == pytest.approx(sum(alone))
    assert bounded(both, 1.0)[0] < bounded(both, 0.0)[0]


def test_a_difference_within_units_removes_what_both_groups_share():
    """Triple difference: shocks of treated units alone spoil each group's effect, and not the difference."""
    rng = np.random.default_rng(9)
    y, first = drawn(rng, units=300, effect=lambda e: 0.5 * (e >= 0))
    other = y - 0.5 * (np.arange(12) >= first[:, None]) + 0.1 * rng.normal(size=y.shape)
    shock = 2.0 * (np.arange(12) >= first[:, None] - 2)
    triple = treated(group_time(Panel(y + shock - other - shock, first))).pooled()
    assert triple.effect == pytest.approx([0.5], abs=4 * triple.se[0])
    assert abs(by_event(group_time(Panel(y + shock, first))).effect).max() > 1.5  # the trend that one group shows


# --- planted ----------------------------------------------------------------------------------------------------------


def covered(fit, truth, seeds, **how):
    """Share of seeds in which the 95% interval of each estimator holds the truth."""
    hits = []
    for seed in range(seeds):
        panel = Panel(*drawn(np.random.default_rng(seed), **how))
        want = truth(panel) if callable(truth) else truth
        hits.append([abs(e.effect[0] - want) < 1.96 * e.se[0] for e in fit(panel)])
    return np.mean(hits, axis=0)


def test_planted_effects_are_covered_and_the_naive_row_is_not():
    """200 seeds (Monte-Carlo error .015); effects that grow, which the static regression cannot average."""

    def first_three(panel):
        both = [treated(group_time(panel, controls=c), 3).pooled() for c in ("never", "not yet")]
        return [*both, imputed(panel, window=3)]

    assert (covered(first_three, 1.0, 200, effect=lambda e: 0.5 * (e + 1)) > 0.91).all()
    late = {"starts": (3, 7, 11), "effect": lambda e: 0.5 * (e + 1)}  # all treated at last; the last group is seen once
    naive = covered(lambda p: [two_way(p)], lambda p: 0.5 * (p.since[p.since >= 0] + 1).mean(), 100, **late)
    assert naive[0] < 0.05
    assert covered(lambda p: [two_way(p)], 1.0, 100)[0] > 0.88  # one effect for all: the naive row is right


@pytest.mark.parametrize("shown", ["both", "trend", "lot"])
def test_trends_that_follow_a_trait_are_told_from_an_effect(shown):
    """Also where trends or treatment alone are written down rightly; the plain row is off by 1.5 errors."""
    plain, given = [], []
    for seed in range(60):
        y, first, x = selected(np.random.default_rng(100 + seed))
        odd = np.exp(x[:, 0] / 2)
        if shown == "trend":  # it follows the traits, being treated another function of them
            keep = np.random.default_rng(seed).random(len(y)) < np.where(np.isinf(first), 1.5 * odd / (1 + odd), 1.0)
            y, first, x = y[keep], first[keep], x[keep]
        if shown == "lot":  # it follows another function of the trait
            y = y + 0.1 * (x[:, 0] ** 2)[:, None] * np.arange(y.shape[1])
        panel = Panel(y, first)
        fits = [treated(f).pooled() for f in (group_time(panel), group_time_given(panel, x))]
        for kept, fit in zip((plain, given), fits, strict=True):
            kept.append((fit.effect[0] - 1) / fit.se[0])
    assert np.abs(np.mean(plain)) > 1.5
    assert np.abs(np.mean(given)) < 0.4  # three errors of a mean of 60
    assert np.mean(np.abs(given) < 1.96) > 0.86


def test_groups_of_one_unit_have_no_error_of_their_own_and_their_mean_has():
    rng = np.random.default_rng(1)
    y, _ = drawn(rng, units=40, periods=30)
    first = np.r_[np.arange(5, 21), np.full(24, NEVER)]
    fit = group_time(Panel(y, first))
    assert np.isnan(fit.se).all()
    hits = []
    for seed in range(200):
        own = np.random.default_rng(seed).normal(size=(40, 1))  # effects that differ between units
        noise = np.random.default_rng(1000 + seed).normal(size=(40, 30))
        pooled = treated(group_time(Panel(noise + own * (np.arange(30) >= first[:, None]), first)), 8).pooled()
        hits.append(abs(pooled.effect[0]) < 1.96 * pooled.se[0])
    assert np.mean(hits) > 0.9


def test_few_clusters_are_held_by_the_wild_bootstrap():
    """Sixteen clusters of five units with shocks of their own: unit errors fail, the bootstrap by cluster holds."""
    hits = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        state = np.repeat(np.arange(16), 5)
        first = np.where(state < 8, 5.0, NEVER)
        y = rng.normal(size=(16, 10))[state] + 0.5 * rng.normal(size=(80, 10))
        alone, together = (treated(group_time(Panel(y, first, c))).pooled() for c in (None, state))
        critical = wild(together, draws=399, seed=seed)[0][0]
        hits.append([abs(alone.effect[0]) < 1.96 * alone.se[0], abs(together.effect[0]) < critical * together.se[0]])
    plain, held = np.mean(hits, axis=0)
    assert plain < 0.75
    assert held > 0.91


def test_intervals_that_hold_all_effects_are_wider_than_those_of_each():
    event = by_event(group_time(Panel(*drawn(np.random.default_rng(2)))))
    each, together = wild(event, draws=999, seed=1)
    assert together > each.max() > 1.8
    again = wild(event, draws=999, seed=1)
    assert (again[0] == each).all()


# --- trends that differ -----------------------------------------------------------------------------------------------


def test_bounds_start_at_the_plain_interval_and_widen():
    event = by_event(group_time(Panel(*drawn(np.random.default_rng(12))), base="universal"))
    mean = event.where(event.when >= 0).mean()
    ends = [bounded(event, m) for m in (0.0, 0.5, 1.0, 2.0)]
    assert ends[0] == pytest.approx((mean.effect[0] - 1.959964 * mean.se[0], mean.effect[0] + 1.959964 * mean.se[0]))
    assert all(b[0] < a[0] and b[1] > a[1] for a, b in itertools.pairwise(ends))
    largest = breakdown(event)
    assert bounded(event, largest)[0] == pytest.approx(0.0, abs=1e-5)
    assert breakdown(event, point=mean.effect[0]) == 0.0


def test_bounds_hold_where_trends_differ_and_the_test_of_pre_trends_does_not():
    """A gap that moves by .1 a period before and after, and no effect: the plain interval misses it."""
    hits = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y, first = drawn(rng, units=300, periods=8, starts=(4, NEVER), effect=lambda e: 0.0 * e)
        y = y + 0.1 * np.arange(8) * np.isfinite(first)[:, None]
        event = by_event(group_time(Panel(y, first), base="universal"))
        before, plain, bound = event.where(event.when < 0), bounded(event, 0.0), bounded(event, 1.0)
        tested = (abs(before.effect) < 2.5 * before.se).all()
        hits.append([tested, plain[0] < 0 < plain[1], bound[0] < 0 < bound[1]])
    tested, plain, bound = np.mean(hits, axis=0)
    assert tested > 0.3  # the test often sees nothing
    assert plain < 0.5
    assert bound > 0.95


@pytest.mark.parametrize(
    ("moved", "se", "told"),
    [
        (0.0, 0.1, True),  # nothing moved before
        (1.2, 0.1, None),  # half of it in the first year, all in the second: .9 of the effect may be that
        (3.0, 0.1, False),  # what moved is surely enough
        (2.1, 0.3, None),  # more than the effect, and the effect may be larger than it is found
        (3.0, 0.9, True),  # the plain interval holds 0: nothing is decided
    ],
)
def test_an_effect_stands_falls_or_is_not_told(moved, se, told):
    event = Several(np.array([-2.0, 0.0, 1.0]), np.array([moved, 1.0, 1.0]), se * np.eye(3), np.full(3, 9), None)
    for sign in (1.0, -1.0):
        assert standing(replace(event, effect=sign * event.effect), 0.5, 0.0) is told


def test_dates_drawn_for_the_never_treated_find_nothing():
    """Placebo: in never treated units, the dates of others give an interval that holds 0 in 95 of 100 draws."""
    y, first = drawn(np.random.default_rng(20), units=600, effect=lambda e: 3.0 * (e >= 0))
    dates, rest = first[np.isfinite(first)], y[np.isinf(first)]
    hits = []
    for seed in range(200):
        drawn_dates = np.random.default_rng(seed).choice(np.r_[dates, np.full(len(dates), NEVER)], len(rest))
        found = treated(group_time(Panel(rest, drawn_dates)), 3).pooled()
        hits.append(abs(found.effect[0]) < 1.96 * found.se[0])
    assert np.mean(hits) > 0.9


# --- rejected ---------------------------------------------------------------------------------------------------------


def test_units_treated_from_the_first_period_are_left_out_and_counted():
    y, first = drawn(np.random.default_rng(2), starts=(0, 4, 6, NEVER))
    panel = Panel(y, first)
    assert panel.left_out == (first == 0).sum() > 0
    kept = Panel(y[first > 0], first[first > 0])
    assert (treated(group_time(panel)).effect == treated(group_time(kept)).effect).all()


def test_later_treatment_than_the_panel_is_no_treatment():
    y, first = drawn(np.random.default_rng(2), starts=(4, 6, NEVER))
    later = np.where(np.isinf(first), 12.0 + np.arange(len(first)) % 3, first)
    assert (group_time(Panel(y, later)).effect == group_time(Panel(y, first)).effect).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y, f: (np.where(np.arange(12) == 3, np.nan, y), f), "outcome is missing or infinite in 200 of 200"),
        (lambda y, f: (y, np.where(f == 4, np.nan, f)), "first treated period is missing"),
        (lambda y, f: (y[0], f), "array of units by periods"),
        (lambda y, f: (y, f[:-1]), "array of units by periods"),
        (lambda y, f: (y, np.full(len(f), NEVER)), "no unit is treated after the first period"),
        (lambda y, f: (y, np.zeros(len(f))), "no unit is treated after the first period"),
    ],
)
def test_panels_that_say_nothing_are_refused(spoil, message):
    with pytest.raises(InputError, match=message):
        Panel(*spoil(*drawn(np.random.default_rng(2))))


def test_covariates_are_one_row_a_unit_and_do_not_separate():
    y, first, x = selected(np.random.default_rng(8), units=60)
    with pytest.raises(InputError, match="covariates have 59 rows and the panel 60 units"):
        group_time_given(Panel(y, first), x[1:])
    with pytest.raises(FitError, match="function of the covariates"):
        group_time_given(Panel(y, first), np.isinf(first) + 0.1 * x[:, 0])


def test_nothing_to_compare_with_is_refused():
    y, first = drawn(np.random.default_rng(2), starts=(4, 6))
    panel = Panel(y, first)
    with pytest.raises(InputError, match="no unit remains untreated"):
        group_time(panel)
    with pytest.raises(InputError, match="in the last periods every unit is treated"):
        imputed(panel)
    later = group_time(panel, controls="not yet")
    assert later.when.max() == 5  # until the last group is treated
    with pytest.raises(InputError, match="no group is seen for 9 periods"):
        treated(later, 9)
    with pytest.raises(InputError, match="no group is seen for 1 and 1 blocks of 7"):
        by_block(group_time(Panel(*drawn(np.random.default_rng(2))), base="universal"), 7, 1, 1)
    with pytest.raises(InputError, match="no unit is seen for 9 periods"):
        imputed(Panel(*drawn(np.random.default_rng(2), starts=(4, NEVER))), window=9)
    with pytest.raises(InputError, match="no two periods before treatment"):
        bounded(by_event(group_time(Panel(*drawn(np.random.default_rng(2), starts=(1, NEVER))))), 1.0)
