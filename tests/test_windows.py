"""Windows are whole months by date, and printed; one number of exits, or the reason why there are two."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import base as counted
from crmresearch.data.reductions import churn as stays
from crmresearch.data.reductions import value as reductions
from crmresearch.errors import Missing
from crmresearch.studies import base, churn, value

ABOUT = {"name": "shop", "currency": "GBP", "observation_start": datetime.date(2009, 12, 1), "evidence": "simulated"}


def gini(x: pd.Series) -> float:
    """Half the mean difference of all pairs over the mean, written out."""
    values = x.to_numpy()
    return float(np.abs(values[:, None] - values).mean() / (2 * values.mean()))


def purchases(end: str) -> pd.DataFrame:
    """Two years of a gift shop whose winter is busier, up to the last day."""
    rng = np.random.default_rng(9)
    days = (pd.Timestamp(end) - pd.Timestamp("2009-12-01")).days
    who = rng.choice(120, 3000, p=rng.dirichlet(np.full(120, 0.4)))
    when = pd.Timestamp("2009-12-01") + pd.to_timedelta(rng.integers(0, days + 1, 3000), "D")
    amount = rng.gamma(2, 10, 3000) * np.where(when.month >= 11, 3, 1) + 0.5
    return pd.DataFrame({"customer_id": [f"c{k}" for k in who], "occurred_on": when, "amount": amount.round(2)})


@pytest.mark.parametrize(
    ("end", "first"),
    [
        ("2011-12-09", "2010-12-10"),
        ("2012-02-29", "2011-03-01"),
        ("2011-11-30", "2010-12-01"),
        ("2011-12-31", "2011-01-01"),
    ],
)
def test_twelve_months_of_spend_end_with_the_last_day(end, first):
    rows = purchases(end)
    bank = Bank.from_frames({"transactions": rows}, ABOUT | {"observation_end": datetime.date.fromisoformat(end)})
    everybody = rows.groupby("customer_id")["amount"].sum() * 0
    by_date, calendar = (
        everybody.add(rows[rows["occurred_on"] >= start].groupby("customer_id")["amount"].sum(), fill_value=0)
        for start in (pd.Timestamp(first), pd.Timestamp(end).replace(day=1) - pd.DateOffset(months=11))
    )
    found = value.concentration(reductions.contribution(bank, months=12), seed=1, resamples=99)
    assert found.estimates["S19c"].value == pytest.approx(gini(by_date), abs=1e-12)
    assert f"{first} to {end}, both days included" in found.sentence
    whole = (pd.Timestamp(end) + pd.Timedelta(days=1)).day == 1
    assert (abs(gini(calendar) - gini(by_date)) < 1e-12) is whole


def accounts(end: str, start: str = "2020-01-01") -> Bank:
    """Five customers who bring 10 a whole month; a month seen in part brings 1."""
    about = ABOUT | {"observation_start": datetime.date.fromisoformat(start)}
    about["observation_end"] = datetime.date.fromisoformat(end)
    rows = []
    for month in pd.date_range(pd.Timestamp(start).replace(day=1), end, freq="MS"):
        cut = month < pd.Timestamp(start) or month + pd.offsets.MonthEnd(0) > pd.Timestamp(end)
        rows += [(f"c{k}", month, 100.0, 1.0 if cut else 10.0, 0.0, 0.0, 0.0) for k in range(5)]
    columns = ["customer_id", "month", "balance", "net_interest", "fees", "service_cost", "risk_cost"]
    people = pd.DataFrame({"customer_id": [f"c{k}" for k in range(5)], "acquired_on": pd.Timestamp("2015-03-01")})
    return Bank.from_frames({"customers": people, "monthly": pd.DataFrame(rows, columns=columns)}, about)


@pytest.mark.parametrize(
    ("end", "last", "window"),
    [
        ("2022-12-09", "2022-11", "2021-12-01 to 2022-11-30"),
        ("2022-12-30", "2022-11", "2021-12-01 to 2022-11-30"),
        ("2022-12-31", "2022-12", "2022-01-01 to 2022-12-31"),
        ("2020-12-01", "2020-11", ""),  # eleven whole months
    ],
)
def test_a_month_seen_in_part_is_in_no_window(end, last, window):
    bank = accounts(end)
    assert reductions.month_end(bank) == last
    if not window:
        assert "observed for 11 whole ones" in str(reductions.contribution(bank, months=12))
        return
    year = reductions.contribution(bank, months=12)
    assert year["contribution"].tolist() == [120.0] * 5
    assert " to ".join(map(str, year.attrs["window"])) == window
    assert reductions.contribution_windows(bank, windows=(3, 24))["contribution_24"].tolist() == [240.0] * 5
    assert set(reductions.yearly(bank, years=2).drop(columns="customer_id").to_numpy().ravel()) == {120.0}
    assert reductions.customers_at(bank)["before"].tolist() == [120.0] * 5
    assert counted.explained(bank)["contribution"].tolist() == [120.0] * 5
    assert counted.explained(bank)["past_contribution"].tolist() == [120.0] * 5
    margins = reductions.tenure_margin(bank)
    assert (margins["contribution"] == 10 * margins["n"]).all()
    assert margins["exits"].sum() == 0  # that the last month is missing is no exit


@pytest.mark.parametrize("start", ["2020-01-02", "2020-01-15", "2020-01-31"])
def test_a_first_month_seen_in_part_is_in_no_window(start):
    bank = accounts("2022-01-31", start)
    margins = reductions.tenure_margin(bank)
    assert (margins["contribution"] == 10 * margins["n"]).all()
    assert margins["n"].sum() == 5 * 24
    assert isinstance(reductions.contribution(bank, months=25), Missing) or start < "2020-01-02"


def test_two_numbers_of_exits_are_explained():
    """Of 60 leavers 48 left in whole months seen; 00 counts all, 02 those."""
    n = 200
    rng = np.random.default_rng(4)
    left = pd.Series(pd.NaT, index=range(n), dtype="datetime64[ns]")
    left[:48] = pd.Timestamp("2021-03-10") + pd.to_timedelta(rng.integers(0, 500, 48), "D")
    left[48:60] = pd.Timestamp("2022-12-25")  # after the last full month of tenure, which ends on the 19th
    people = pd.DataFrame({"customer_id": [f"c{k}" for k in range(n)], "acquired_on": pd.Timestamp("2019-05-20")})
    people = people.assign(left_on=left, exit_cause=np.where(left.notna(), "voluntary", None))
    about = {"observation_start": datetime.date(2021, 1, 1), "observation_end": datetime.date(2022, 12, 31)}
    bank = Bank.from_frames({"customers": people}, ABOUT | about)
    assert "60 exits in" in base.exit_rates(counted.exits(bank)).sentence
    said = churn.definitions(stays.spells_by_definition(bank)).sentence
    assert "Of 60 customers on record as having left, 48 count as closures here" in said
    for count in (48, 53):  # all of them, or all but five, who are too few to be told from a difference
        other = Bank.from_frames({"customers": people.iloc[:count]}, ABOUT | about)
        assert "on record" not in churn.definitions(stays.spells_by_definition(other)).sentence
