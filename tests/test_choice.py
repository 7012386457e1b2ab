"""Conditional logit against published numbers, another implementation and planted weights; spread between groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from crmresearch.errors import FitError, InputError, RankError
from crmresearch.estimators.choice import conditional_logit, spread


def tasks(rng, people=200, each=4, options=3, weights=(0.8, -0.5)):
    """Tasks of several options, chosen by utility with extreme-value noise."""
    n = people * each
    x = rng.normal(size=(n, options, len(weights)))
    u = x @ np.array(weights) + rng.gumbel(size=(n, options))
    chosen = u == u.max(axis=1, keepdims=True)
    task = np.repeat(np.arange(n), options)
    return x.reshape(-1, len(weights)), chosen.ravel(), task, np.repeat(np.arange(people), each * options)


def test_travel_mode_gives_the_published_numbers():
    """Greene (2003), Table 21.11: 210 travellers, four modes; published to six digits (H01, H02)."""
    import statsmodels.api as sm

    d = sm.datasets.modechoice.load_pandas().data
    air, train, bus = (d["mode"].eq(k).astype(float) for k in (1, 2, 3))
    x = np.column_stack([air, train, bus, d["gc"], d["ttme"], air * d["hinc"]])
    fit = conditional_logit(x, d["choice"], d["individual"])
    assert fit.params == pytest.approx([5.207433, 3.869036, 3.163190, -0.015501, -0.096125, 0.013287], abs=2e-5)
    errors = np.sqrt(np.diag(fit.model_covariance))
    assert errors == pytest.approx([0.779055, 0.443127, 0.450266, 0.004408, 0.010440, 0.010262], abs=2e-6)
    assert fit.loglik == pytest.approx(-199.1284, abs=1e-4)


@pytest.fixture(scope="module")
def published(shared):
    """Values of the published choice models by id, all of them recomputed there."""
    import yaml

    entries = yaml.safe_load((shared / "reference" / "published_results_wider.yaml").read_text("utf-8"))
    entries = entries if isinstance(entries, list) else entries["results"]
    return {e["id"]: e["values"] for e in entries if e.get("topic") == "choice" and e["verified"]}


def long(d, stems, options, sep, chosen):
    """Stack a wide table: one row per case and option, attributes by stem, constants after the first option."""
    n = len(d)
    x = {stem: np.concatenate([d[f"{stem}{sep}{o}"] for o in options]) for stem in stems}
    x |= {o: np.concatenate([np.full(n, float(p == o)) for p in options]) for o in options}
    y = np.concatenate([np.asarray(chosen == o) for o in options])
    return pd.DataFrame(x), y, np.tile(np.arange(n), len(options))


def test_heating_gives_the_published_numbers(shared, published):
    """Train's exercises (H03, H04): coefficients, errors, willingness to pay; printed to seven digits."""
    d = pd.read_csv(shared / "data" / "choice" / "Heating.csv.gz")
    x, y, task = long(d, ("ic", "oc"), ("gc", "gr", "ec", "er", "hp"), ".", d["depvar"])
    fit = conditional_logit(x[["ic", "oc"]], y, task, names=["ic", "oc"])
    want = published["H03"]
    errors = np.sqrt(np.diag(fit.model_covariance))
    assert np.column_stack([fit.params, errors]) == pytest.approx(np.array([want["ic"], want["oc"]]), abs=1e-6)
    assert fit.params[1] / fit.params[0] == pytest.approx(want["wtp"], abs=1e-6)
    names = ["ec", "er", "gc", "gr", "ic", "oc"]
    found = dict(zip(names, conditional_logit(x[names], y, task).params, strict=True))
    want = published["H04"]
    assert found == pytest.approx({k: want[k] for k in names}, abs=1e-6)
    assert found["oc"] / found["ic"] == pytest.approx(want["wtp"], abs=1e-5)


def test_fishing_gives_the_published_numbers(shared, published):
    """Cameron and Trivedi (2005), Table 15.2 (H06, H07)."""
    d = pd.read_csv(shared / "data" / "choice" / "Fishing.csv.gz")
    modes = ("beach", "pier", "boat", "charter")
    x, y, task = long(d, ("price", "catch"), modes, ".", d["mode"])
    fit = conditional_logit(x[["price", "catch"]], y, task)
    want = published["H06"]
    assert [*fit.params, fit.loglik] == pytest.approx([want["price"], want["catch"], want["loglik"]], abs=6e-5)
    income = {f"income {m}": x[m] * np.tile(d["income"] / 1000, 4) for m in modes[1:]}
    x, names = x.assign(**income), ["price", "catch", *modes[1:]]
    fit = conditional_logit(x[[*names, *income]], y, task)
    want = published["H07"]
    assert fit.params[:5] == pytest.approx([want[k] for k in names], abs=1e-5)
    assert fit.loglik == pytest.approx(want["loglik"], abs=1e-4)


def test_yogurt_gives_the_published_numbers(shared, published):
    """Jain and others (1994) by logitr (H09, H10): brands against dannon, worth in money."""
    d = pd.read_csv(shared / "data" / "choice" / "yogurt_long.csv.gz")
    brands = pd.get_dummies(d["alt"], dtype=float)
    x = pd.concat([d[["price", "feat"]], brands[["hiland", "weight", "yoplait"]]], axis=1)
    fit = conditional_logit(x, d["choice"], d["chid"], names=list(x))
    want = published["H09"]
    assert dict(zip(x, fit.params, strict=True)) == pytest.approx({k: want[k] for k in x}, abs=2e-6)
    assert fit.loglik == pytest.approx(want["loglik"], abs=1e-5)
    for name, worth in published["H10"].items():
        assert fit.worth(name, "price").value == pytest.approx(worth, abs=1e-3)


def test_electricity_gives_the_published_numbers(shared, published):
    """Revelt and Train (2000) by xlogit (H12): 361 customers, up to twelve choices each."""
    d = pd.read_csv(shared / "data" / "choice" / "Electricity.csv.gz")
    names = ("pf", "cl", "loc", "wk", "tod", "seas")
    x, y, task = long(d, names, ("1", "2", "3", "4"), "", d["choice"].astype(str))
    fit = conditional_logit(x[list(names)], y, task, np.tile(d["id"], 4))
    want = published["H12"]
    assert fit.params == pytest.approx([want[k] for k in names], abs=1e-5)
    assert fit.loglik == pytest.approx(want["loglik"], abs=1e-4)
    assert fit.people == 361


def test_card_conjoint_gives_the_pooled_logit(shared, published):
    """Allenby and Ginter (1995), pairs as differences (H15): another program's numbers, errors by respondent."""
    d = pd.read_csv(shared / "data" / "card-conjoint" / "bank_choiceAtt.csv.gz")
    names = list(d.columns[2:])
    x = np.concatenate([d[names], np.zeros((len(d), len(names)))])
    pair, person = np.tile(np.arange(len(d)), 2), np.tile(d["id"], 2)
    fit = conditional_logit(x, np.concatenate([d["choice"], 1 - d["choice"]]), pair, person, names)
    want = published["H15"]
    assert dict(zip(names, fit.params, strict=True)) == pytest.approx({k: want[k] for k in names}, abs=2e-4)
    assert fit.loglik == pytest.approx(want["loglik"], abs=2e-4)
    k = names.index("Low_FInt")
    assert np.sqrt(fit.covariance[k, k]) == pytest.approx(want["se_cluster_Low_FInt"], abs=2e-4)
    assert np.sqrt(fit.model_covariance[k, k]) == pytest.approx(want["se_iid_Low_FInt"], abs=2e-4)
    assert (fit.tasks, fit.people) == (14_799, 946)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_statsmodels_finds_the_same(seed):
    from statsmodels.discrete.conditional_models import ConditionalLogit

    x, y, task, _ = tasks(np.random.default_rng(seed), people=60, options=2 + seed)
    other = ConditionalLogit(y.astype(float), x, groups=task).fit(disp=0, method="newton")
    fit = conditional_logit(x, y, task)
    assert fit.params == pytest.approx(other.params, abs=1e-6)
    assert fit.loglik == pytest.approx(other.llf, abs=1e-8)
    assert fit.model_covariance == pytest.approx(other.cov_params(), rel=1e-4)  # its Hessian is numerical


def test_the_order_of_rows_and_what_a_task_has_in_common_change_nothing():
    rng = np.random.default_rng(5)
    x, y, task, person = tasks(rng)
    fit = conditional_logit(x, y, task, person)
    order = rng.permutation(len(y))
    moved = (x + rng.normal(size=(task.max() + 1, 2))[task])[order]
    again = conditional_logit(moved, y[order], task[order], person[order])
    assert again.params == pytest.approx(fit.params, abs=1e-10)
    assert again.covariance == pytest.approx(fit.covariance, rel=1e-8)


def test_an_option_that_is_not_on_offer_is_a_row_that_is_not_there():
    """Tasks of two to four options; within four errors of the planted weights."""
    rng = np.random.default_rng(6)
    n, weights = 4_000, np.array([0.8, -0.5])
    size = rng.integers(2, 5, n)
    task = np.repeat(np.arange(n), size)
    x = rng.normal(size=(len(task), 2))
    u = pd.Series(x @ weights + rng.gumbel(size=len(task)))
    y = u.index.isin(u.groupby(task).idxmax())
    fit = conditional_logit(x, y, task)
    assert (np.abs(fit.params - weights) < 4 * np.sqrt(np.diag(fit.covariance))).all()


def test_repeated_tasks_of_a_person_add_nothing():
    x, y, task, person = tasks(np.random.default_rng(7), people=300, each=1)
    once = conditional_logit(x, y, task, person)
    four = [np.concatenate([a] * 4) for a in (x, y)]
    again = conditional_logit(*four, np.concatenate([task + k * 1000 for k in range(4)]), np.tile(person, 4))
    assert again.covariance == pytest.approx(once.covariance, rel=1e-6)
    assert again.model_covariance == pytest.approx(once.model_covariance / 4, rel=1e-6)


def test_worth_is_in_units_of_the_price_whether_wanted_or_paid():
    x, y, task, person = tasks(np.random.default_rng(8), people=500, weights=(0.6, -0.3))
    fit = conditional_logit(x, y, task, person, ["service", "fee"])
    turned = conditional_logit(x * [1, -1], y, task, person, ["service", "yield"])
    for found in (fit.worth("service", "fee"), turned.worth("service", "yield")):
        assert found.value == pytest.approx(2.0, abs=4 * found.se)
        low, high = found.fieller.ends
        assert low < found.value < high
    assert fit.worth("service", "fee").fieller.ends == pytest.approx(turned.worth("service", "yield").fieller.ends)


def test_a_price_that_is_not_told_from_zero_has_an_unbounded_set():
    x, y, task, person = tasks(np.random.default_rng(9), people=50, weights=(1.0, 0.0))
    fit = conditional_logit(x, y, task, person, ["service", "fee"])
    assert abs(fit.z("fee")) < 1.96
    assert fit.worth("service", "fee").fieller.kind != "bounded"


def _without(y, task, which):
    return np.where(task == which, False, y)


def test_bad_input_is_refused_by_name_and_count():
    x, y, task, _ = tasks(np.random.default_rng(10), people=20)
    bad = {
        "1 of 80 choice tasks have no choice": (x, _without(y, task, 3), task),
        "1 of 80 choice tasks have several choices": (x, np.where(task == 3, True, y), task),
        "1 of 81 choice tasks have a single option": (np.r_[x, x[:1]], np.r_[y, True], np.r_[task, 999]),
        "attributes is missing or infinite in 1 of 240 rows": (np.r_[x[1:], [[np.nan, 0]]], y, task),
    }  # fmt: skip
    for said, arrays in bad.items():
        with pytest.raises(InputError, match=said):
            conditional_logit(*arrays)
    with pytest.raises(RankError, match="double = combination of one"):
        conditional_logit(np.column_stack([x[:, 0], 2 * x[:, 0]]), y, task, names=["one", "double"])
    with pytest.raises(RankError, match="income is zero in every row"):
        conditional_logit(np.column_stack([x, task]), y, task, names=["a", "b", "income"])
    with pytest.raises(FitError, match="decide every choice"):
        conditional_logit(y.astype(float)[:, None], y, task)


# --- spread -----------------------------------------------------------------------------------------------------------


def test_the_spread_is_that_of_another_implementation_and_its_ends_are_those_of_q():
    from statsmodels.stats.meta_analysis import combine_effects

    y, s = np.array([1, 2, 4, 1.5]), np.array([0.3, 0.4, 0.5, 0.2])
    found = spread(y, s)
    assert found.value == pytest.approx(np.sqrt(combine_effects(y, s**2, method_re="iterated").tau2), abs=1e-5)

    def q(tau):
        w = 1 / (s**2 + tau**2)
        return (w * (y - (w * y).sum() / w.sum()) ** 2).sum()

    assert chi2.sf([q(found.low), q(found.high)], 3) == pytest.approx([0.025, 0.975], abs=1e-9)


@pytest.mark.parametrize("planted", [0.0, 0.5, 2.0])
def test_the_interval_of_the_spread_covers(planted):
    """1,000 draws of five groups; a share below .93 or, away from zero, above .97 has a chance below 1 in 100."""
    rng, s = np.random.default_rng(11), np.array([0.4, 0.5, 0.6, 0.8, 1.0])
    found = [spread(rng.normal(0, np.hypot(planted, s)), s) for _ in range(1000)]
    share = np.mean([f.low <= planted <= f.high for f in found])
    assert share > 0.93
    assert planted == 0 or share < 0.97


def test_equal_groups_have_no_spread_and_one_is_refused():
    assert spread([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]).value == 0.0
    with pytest.raises(InputError, match="at least two groups"):
        spread([1.0], [0.1])
