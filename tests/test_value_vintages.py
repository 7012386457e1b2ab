"""Vintages: what is identified is recovered, what is not moves nothing, and both routes agree."""

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError, Missing
from crmresearch.studies import value

FOLDS, PERIODS, OLDEST = 20, range(2018, 2025), 2008


def world(seed=0, n=6_000, hazard=None, level=None, noise=3.0):
    """Customers by year: ``hazard(age, vintage)`` per month, ``level(age, period, vintage)`` per customer-month."""
    rng = np.random.default_rng(seed)
    vintage = rng.integers(OLDEST, PERIODS[-1] + 1, n)
    lasting = rng.normal(0, noise, n)
    fold = np.arange(n) % FOLDS
    here, rows = np.ones(n, dtype=bool), []
    for period in range(OLDEST, PERIODS[-1] + 1):
        age = period - vintage
        in_year = here & (age >= 0)
        h = (hazard or (lambda a, v: 0.01 + 0 * a))(np.maximum(age, 0), vintage)
        months = np.where(in_year, np.minimum(rng.geometric(h), 12), 0)
        gone = in_year & (months < 12)
        here = here & ~gone
        if period not in PERIODS:
            continue
        mean = (level or (lambda a, p, v: 10.0 + 0 * a))(age, period, vintage)
        last = period == PERIODS[-1]
        part = pd.DataFrame({"fold": fold, "vintage": vintage, "age": age, "n": months, "exits": gone.astype(int)})
        part["at_risk"] = months - (in_year & ~gone & last)
        part["contribution"] = months * (mean + lasting)
        part["customers"] = in_year.astype(int)
        rows.append(part[in_year].assign(period=period))
    frame = pd.concat(rows).groupby(["fold", "vintage", "period", "age"]).sum().reset_index()
    return frame.assign(**{c: [f"{y}-12" for y in frame[c]] for c in ("vintage", "period")})


def curved(age, period, vintage):
    return 12 + 3 * np.sqrt(np.maximum(age, 0)) + 0.2 * (period - 2020) ** 2 - 0.05 * (vintage - 2015.0) ** 2


def detrended(effect, levels, weights):
    slope, level = np.polyfit(levels, effect, 1, w=np.sqrt(weights))
    return effect - level - slope * levels, slope


def effects(frame, table):
    """Levels of each factor, their customer-months, and the effects planted in ``curved``."""
    numbers = frame.assign(**{c: frame[c].str[:4].astype(int) for c in ("vintage", "period")})
    planted = {
        "age": lambda a: curved(a, 2020, 2015.0),
        "period": lambda p: curved(0, p, 2015.0),
        "vintage": lambda v: curved(0, 2020, v),
    }
    out, names = {}, (("age", "age"), ("period", "calendar year"), ("vintage", "vintage"))
    shown = {f: table.loc[table["factor"] == name, "level"].str[:4].astype(int).to_numpy() for f, name in names}
    for factor, levels in shown.items():  # cells of a level with few customers are not used
        numbers = numbers[numbers[factor].isin(levels)]
    for factor, name in names:
        levels = shown[factor]
        weights = numbers.groupby(factor)["n"].sum().loc[levels].to_numpy(dtype=float)
        out[name] = detrended(planted[factor](levels), levels, weights)
    return out


def test_curvature_and_sums_of_trends_are_exact_without_noise():
    frame = world(level=curved, noise=0.0)
    table = value.age_period_cohort(frame).table
    truth = effects(frame, table)
    for name, (deviation, _) in truth.items():
        np.testing.assert_allclose(table.loc[table["factor"] == name, "estimate"], deviation, atol=1e-8)
    trends = table.loc[table["factor"] == "trend", "estimate"].to_numpy()
    slope = {name: s for name, (_, s) in truth.items()}
    np.testing.assert_allclose(
        trends, [slope["age"] + slope["calendar year"], slope["vintage"] - slope["age"]], atol=1e-8
    )


def test_trends_that_cancel_change_nothing():
    """Age + 5 a year, calendar - 5, vintage + 5: another story, the same data."""
    plain = value.age_period_cohort(world(level=curved)).table
    other = value.age_period_cohort(world(level=lambda a, p, v: curved(a, p, v) + 5 * a - 5 * (p - v))).table
    numbers = ["estimate", "ci_low", "ci_high"]
    np.testing.assert_allclose(other[numbers], plain[numbers], atol=1e-8)
    # while a trend that does not cancel is seen, in the sums and nowhere else
    more = value.age_period_cohort(world(level=lambda a, p, v: curved(a, p, v) + 5 * a)).table
    np.testing.assert_allclose(more["estimate"][:2], plain["estimate"][:2] + np.array([5, -5]), atol=1e-8)
    np.testing.assert_allclose(more["estimate"][2:], plain["estimate"][2:], atol=1e-8)


def test_second_route_by_minimum_norm_dummies():
    """Three full sets of dummies have no unique solution; the deviations of any solution are these."""
    frame = world(level=curved, seed=3)
    table = value.age_period_cohort(frame).table
    cells = frame.groupby(["vintage", "period", "age"])[["n", "contribution"]].sum().reset_index()
    dummies = [pd.get_dummies(cells[c]).to_numpy(dtype=float) for c in ("age", "period", "vintage")]
    root = np.sqrt(cells["n"].to_numpy(dtype=float))[:, None]
    beta = np.linalg.pinv(np.hstack(dummies) * root) @ (cells["contribution"] / cells["n"] * root[:, 0])
    at = 0
    for name, d, factor in zip(("age", "calendar year", "vintage"), dummies, ("age", "period", "vintage"), strict=True):
        weights = cells.groupby(factor)["n"].sum().to_numpy(dtype=float)
        levels = np.arange(d.shape[1], dtype=float)
        want, _ = detrended(beta[at : at + d.shape[1]], levels, weights)
        np.testing.assert_allclose(table.loc[table["factor"] == name, "estimate"], want, atol=1e-7)
        at += d.shape[1]


def test_intervals_of_curvature_cover():
    hits = []
    for seed in range(40):
        frame = world(level=curved, seed=seed, n=3_000)
        table = value.age_period_cohort(frame).table
        for name, (deviation, _) in effects(frame, table).items():
            part = table[table["factor"] == name]
            hits.append(((part["ci_low"] < deviation) & (deviation < part["ci_high"])).mean())
    assert 0.92 < np.mean(hits) < 0.98, np.mean(hits)


def test_exits_are_compared_at_equal_age():
    """The hazard falls with age in every vintage: raw retention differs, the ratio does not."""
    frame = world(seed=1, n=40_000, hazard=lambda a, v: 0.04 / (1 + a))
    table = value.vintages(frame).table
    old, new = table.iloc[0], table.iloc[-1]
    assert old["stay the year"] > new["stay the year"] + 0.2
    covered = (table["ratio_low"] < 1) & (table["ratio_high"] > 1)
    assert covered.mean() >= 0.8
    risky = world(seed=1, n=40_000, hazard=lambda a, v: 0.04 / (1 + a) * np.where(v == 2019, 1.8, 1.0))
    found = value.vintages(risky).table.set_index("acquired in the year to").loc["2019-12"]
    assert 1.4 < found["ratio_low"] < 1.8 < found["ratio_high"] + 0.15


def test_vintage_table_by_hand():
    frame = world(seed=2, n=4_000)
    result = value.vintages(frame)
    for _, row in result.table.iterrows():
        part = frame[frame["vintage"] == row["acquired in the year to"]]
        assert row["monthly contribution"] == pytest.approx(part["contribution"].sum() / part["n"].sum())
        assert row["stay the year"] == pytest.approx((1 - part["exits"].sum() / part["at_risk"].sum()) ** 12)
        first = part[part["period"] == part["period"].min()]
        assert row["n"] == first["customers"].sum()  # all were there in the first year that was seen
        assert row["ci_low"] < row["monthly contribution"] < row["ci_high"]
    assert result.plot() is not None
    assert "seen at ages" in result.sentence


def test_a_vintage_that_is_alone_at_its_ages_is_compared_with_none():
    frame = world(seed=2, n=4_000)
    young = frame[frame["period"] == "2024-12"]  # each vintage at one age of its own
    for result, alone in ((value.vintages(young), True), (value.vintages(frame), False)):
        ratio = result.table["exits over expected"]
        assert (ratio.isna() if alone else ratio.notna()).all()  # 1 [1, 1] by arithmetic
        assert len(result.pictures) == (2 if alone else 3)
    some = young.assign(exits=young["exits"].where(young["vintage"] != "2020-12", 0))
    stay = value.vintages(some).table.set_index("acquired in the year to").loc["2020-12"]
    assert stay["stay the year"] == 1
    assert np.isnan(stay[["stay_low", "stay_high"]].astype(float)).all()


def test_broken_or_thin_input_is_refused():
    frame = world(n=3_000)
    nothing = Missing("no table monthly")
    assert not value.vintages(nothing).applicable
    assert not value.age_period_cohort(nothing).applicable
    with pytest.raises(InputError, match="no column exits"):
        value.vintages(frame.drop(columns="exits"))
    with pytest.raises(InputError, match="missing or infinite"):
        value.vintages(frame.assign(n=frame["n"].where(frame.index != 0)))
    with pytest.raises(InputError, match="negative age"):
        value.vintages(frame.assign(age=-1))
    with pytest.raises(InputError, match="cut alike"):
        value.vintages(frame.assign(age=frame["age"] + 1))
    thin = value.age_period_cohort(frame[frame["period"] >= "2023-12"])
    assert "calendar year: fewer than three levels" in thin.sentence
    one = value.vintages(frame[frame["vintage"] == "2020-12"])
    assert not one.applicable
    assert "a comparison needs two" in one.sentence
