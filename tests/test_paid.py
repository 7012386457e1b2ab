"""Does a contact pay: planted effects come back net and gross, and holding the year before equal helps."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.reductions import cost as reductions
from crmresearch.errors import Missing
from crmresearch.lab import simulated
from crmresearch.studies import cost


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
    result = cost.paid(campaign(effect=effect, price=price))
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
    assert re.search(said, cost.paid(campaign(effect=effect, price=price)).picture.title)


def test_intervals_cover_over_seeds():
    hits = 0
    for seed in range(60):
        found = cost.paid(campaign(n=800, seed=seed)).finding("S02")
        hits += found.ci_low <= 12.0 - 5.0 <= found.ci_high
    assert hits >= 52  # 60 at .95: below 52 with a chance of .01


def test_an_offset_that_was_there_before_is_no_effect():
    """A draw that favours the offered by chance: the year before takes it off."""
    rows = campaign(n=3000, effect=0.0, price=0.0, names=("a",))
    rich = rows["value_before"] > rows["value_before"].quantile(0.9)
    rows = rows[~(rich & (rows["treated"] == 0) & (rows["block"] % 2 == 0))]
    result = cost.paid(rows)
    plain = result.table.set_index("quantity").loc["before the cost, the year before not held equal"]
    assert plain["ci_low"] > 0
    assert result.finding("S02a").ci_low < 0 < result.finding("S02a").ci_high


def test_without_money_or_lot_it_says_so():
    assert "no campaign has twelve months of contribution" in str(
        cost.paid(campaign().drop(columns="value_after")).finding("S02")
    )
    assert isinstance(cost.paid(campaign().assign(randomised=False)).finding("S02"), Missing)
    assert isinstance(cost.paid(campaign().assign(treated=1)).finding("S02"), Missing)


def test_one_customer_who_makes_the_error_closes_the_gate():
    rows = campaign(n=1000)
    rows.loc[0, "value_after"] = 5e5
    assert [c.name for c in cost.paid(rows).checks if c.status == "closed"] == ["no dominating customer"]


def test_the_year_before_ends_with_the_month_before_the_contact():
    tables = ["customers", "monthly", "contacts", "holdings", "service"]
    bank = simulated.bank(simulated.Settings(2_000, seed=4), tables)
    rows = reductions.campaigns(bank)
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
