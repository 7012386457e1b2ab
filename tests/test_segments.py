"""Segments and value bands of a bank's own stand in every table, figure and model where city tiers and bands would."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import poor_banks
from crmresearch.data.bank import Bank
from crmresearch.data.reductions import base, churn, cost, loyalty, value
from crmresearch.estimators.measurement.panel import account_covariates
from crmresearch.estimators.measurement.referral import matched
from crmresearch.estimators.survival.exitmodel import _expand
from crmresearch.studies import churn as churn_studies
from crmresearch.studies import cost as cost_studies
from crmresearch.studies import value as value_studies
from test_cost_models import campaign

CUTS = [5_000, 40_000]
BANDS = ["1: below 5000", "2: 5000 to 40000", "3: 40000 and more"]
TARIFFS = ("plus", "basic", "young", "gold")


@pytest.fixture(scope="module")
def plain(small_bank):
    return {t: small_bank.frame(small_bank.table(t)[list(small_bank.columns(t))]) for t in small_bank.tables}


@pytest.fixture(scope="module")
def own(small_bank, plain):
    """The simulated bank of 2,000 customers, with a tariff that has nothing to do with its cities."""
    customers = plain["customers"].assign(tariff=lambda c: [TARIFFS[k % 7 % 4] for k in range(len(c))])
    about = small_bank.about.plain() | {
        "segments": {"tier": "tariff", "band": CUTS},
        "observation_start": small_bank.about.observation_start,
        "observation_end": small_bank.about.observation_end,
    }
    return Bank.from_frames(
        plain | {"customers": customers}, about | {"covered": small_bank.about.covered}, checked=False
    )


def tariffs(bank):
    return bank.frame(bank.table("customers")[["customer_id", "tariff"]]).set_index("customer_id")["tariff"]


def test_models_hold_all_segments_but_the_largest_equal(own):
    assert set(own.segments) == set(TARIFFS)
    apart, tariff = own.segments[1:], tariffs(own)
    day = churn.early_landmark(own, 24)
    rows = churn.landmark(own, *day)
    assert [c for c in rows if c.startswith("tier_")] == [f"tier_{t}" for t in apart]
    for t in apart:
        assert (rows[f"tier_{t}"] == (rows["customer_id"].map(tariff) == t)).all()
    offered = cost.campaigns(own)
    assert [c for c in offered if c.startswith("x_tier")] == [f"x_tier_{t}" for t in apart]
    assert set(offered["segment"].cat.categories) == set(TARIFFS)
    joined = loyalty.joined(own)
    assert "city_tier" not in joined
    assert [c for c in account_covariates(joined) if "segment" in c] == [f"segment_{t}" for t in sorted(TARIFFS)[1:]]
    # and the models that get them
    assert {f"tier_{t}" for t in apart} <= set(churn_studies.breadth(rows).details["fit"].params.index)
    assert {f"tier_{t}" for t in apart} <= set(_expand(rows, {}))


def test_groups_tables_and_cells_are_of_segments(own):
    assert set(base.tiers(own)["segment"]) == set(TARIFFS)
    assert "segment" in churn.groups_of(own)
    assert "segment" in loyalty.survey(own)
    assert "city_tier" not in loyalty.survey(own)
    referred = loyalty.referred(own)
    tariff = tariffs(own)
    assert (referred["segment"] == referred["customer_id"].map(tariff)).all()
    cells, _ = matched(referred)
    assert (cells.groupby("cell")["segment"].nunique() == 1).all()
    assert set(cost.upkeep(own, by="segment")["segment"]) == set(TARIFFS)


@pytest.fixture(scope="module")
def balances(own):
    """Band of each customer and month, by hand."""
    m = own.frame("SELECT customer_id, month, CAST(balance AS DOUBLE) AS balance FROM monthly")
    m["band"] = np.select([m["balance"] < CUTS[0], m["balance"] < CUTS[1]], BANDS[:2], BANDS[2])
    return m


def test_moves_between_years_are_moves_between_own_bands(own, balances):
    years = value.yearly(own, years=4)
    ends = [c.removeprefix("year_") for c in years if c.startswith("year_")]
    last = {}
    for end in ends:
        month = pd.Timestamp(f"{end}-01")
        inside = balances[(balances["month"] <= month) & (balances["month"] > month - pd.DateOffset(months=12))]
        last[end] = inside.sort_values("month").groupby("customer_id")["band"].last()
        assert (
            years.set_index("customer_id")[f"band_{end}"].dropna().astype(str).sort_index() == last[end].sort_index()
        ).all()
    before, after = ends[-2:]
    expected = pd.crosstab(last[before], last[after].reindex(last[before].index).fillna("left"))
    table = value_studies.transitions(years).table
    shares = table[[*BANDS, "left"]].to_numpy()[:3] * table["n"].to_numpy()[:3, None]
    seen = np.isfinite(shares)
    assert seen.sum() >= 4  # few people are told in the others
    assert np.allclose(shares[seen], expected[[*BANDS, "left"]].to_numpy()[seen])
    assert "loss" not in value_studies.transitions(years).sentence
    assert list(value_studies.regression_to_mean(years).table.iloc[:, 0]) == BANDS
    assert list(value_studies.markov_value(years).table["band"]) == BANDS


def test_values_and_hazards_are_by_own_band(own, balances):
    end, earlier = value.month_end(own), value.month_end(own, 24)
    landmark, now = value.customers_at(own, at=earlier), value.customers_at(own, at=end)
    model = value_studies.fit_margin(value.tenure_margin(own, until=end), landmark)
    assert model.own == tuple(BANDS)
    assert model.ratio.shape == (21, 3)
    table = value_studies.clv_by_band(model, now).table
    here = balances[balances["month"] == f"{end}-01"]
    assert table["n"].tolist() == here["band"].value_counts().reindex(BANDS).tolist()
    split = value.month_end(own, 12)
    opening = value_studies.fit_margin(
        value.tenure_margin(own, until=split), value.customers_at(own, at=value.month_end(own, 36))
    )
    frame = value.equity(own, opening=split, closing=end)
    there = frame[frame["here_closing"]].set_index("customer_id")["band_closing"]
    assert (there.astype(str).sort_index() == here.set_index("customer_id")["band"].sort_index()).all()
    assert value_studies.equity_accounting(frame, opening, model).applicable
    assert value_studies.holdout(opening, value.customers_at(own, at=split)).applicable


def test_offers_are_told_by_own_band(own):
    offered = cost.campaigns(own)
    assert list(offered["band"].cat.categories) == BANDS
    assert offered["band"].notna().mean() > 0.9
    frame = campaign(2000, 1)
    codes = np.arange(len(frame)) % 7 % 4 - 1  # -1: no balance known
    table = cost_studies.uplift(frame.assign(band=pd.Categorical.from_codes(codes, BANDS, ordered=True))).table
    found = table[table["by"] == "value"]
    assert found["group"].tolist() == BANDS[::-1]
    assert found["n"].tolist() == [286, 571, 571]  # one, two and two of seven of the arms that are compared


def test_every_notebook_runs_with_own_segments_and_names_no_city_tier(tmp_path):
    frames = poor_banks._of(*poor_banks._whole())
    customers = frames["customers"].assign(tariff=[TARIFFS[k % 3] for k in range(len(frames["customers"]))])
    about = poor_banks._about("own-segments", segments={"tier": "tariff", "band": [1000]})
    poor_banks.reasoned(poor_banks.run(Bank.from_frames(frames | {"customers": customers}, about), tmp_path))
    tables = [p for p in tmp_path.rglob("*.csv") if p.parent.name == "tables"]
    told = {p.stem: p.read_text() for p in tables}
    named = {name for name, text in told.items() if "tier 1" in text or "tier_3" in text or "50% to 80%" in text}
    assert named == set()
    assert {"plus", "basic", "young"} <= {t for t in TARIFFS if any(t in text for text in told.values())}


def test_a_segment_of_few_is_not_told_apart(plain):
    customers = plain["customers"].assign(
        tariff=["rare" if k < 9 else TARIFFS[k % 2] for k in range(len(plain["customers"]))]
    )
    bank = Bank.from_frames({"customers": customers}, poor_banks._about("few", segments={"tier": "tariff"},
                            observation_end=poor_banks.datetime.date(2026, 12, 31)), checked=False)  # fmt: skip
    assert set(bank.segments) == {"plus", "basic"}
