"""Reductions of study 1: engine against plain pandas on a small bank, published counts, and what is missing."""

import datetime
import hashlib

import numpy as np
import pandas as pd
import pytest

from crmresearch.data.bank import Bank
from crmresearch.data.reductions import value as reductions
from crmresearch.errors import InputError, Missing

ABOUT = {
    "name": "tiny",
    "currency": "EUR",
    "observation_start": datetime.date(2020, 1, 1),
    "observation_end": datetime.date(2022, 12, 31),
    "evidence": "simulated",
    "tolerance_days": {"*": 1000},
}


def frames(n=60, seed=0):
    """A bank small enough to check by hand: late entry, leavers, a customer who comes back."""
    rng = np.random.default_rng(seed)
    customers, monthly, days = [], [], []
    for i in range(n):
        name, start, stop = f"c{i:03d}", int(rng.integers(-24, 34)), int(rng.integers(4, 60))
        if i == 7:  # away from month 12 to 17
            start, stop = -5, 60
        last = min(max(start, 0) + stop, 36)
        months = [m for m in range(max(start, 0), last) if i != 7 or not 12 <= m < 18]
        acquired = pd.Timestamp("2020-01-01") + pd.DateOffset(months=start)
        left = pd.Timestamp("2020-01-01") + pd.DateOffset(months=last) - pd.Timedelta(days=1) if last < 36 else pd.NaT
        customers.append((name, acquired, left))
        for m in months:
            money = np.round(rng.normal([20, 5, 12, 3, 4], [15, 3, 4, 2, 0]), 2)
            monthly.append((name, pd.Timestamp("2020-01-01") + pd.DateOffset(months=m), 100.0, *money))
        for day in rng.integers(max(start, 0) * 30, last * 30, rng.integers(1, 12)):
            for _ in range(rng.integers(1, 3)):
                days.append(
                    (name, pd.Timestamp("2020-01-01") + pd.Timedelta(days=int(day)), round(rng.gamma(2, 30), 2))
                )
    columns = ["balance", "net_interest", "fees", "service_cost", "risk_cost", "allocated_cost"]
    people = pd.DataFrame(customers, columns=["customer_id", "acquired_on", "left_on"])
    people["exit_cause"] = np.where(people["left_on"].notna(), "voluntary", None)
    return {
        "customers": people,
        "monthly": pd.DataFrame(monthly, columns=["customer_id", "month", *columns]),
        "transactions": pd.DataFrame(days, columns=["customer_id", "occurred_on", "amount"]),
    }


@pytest.fixture(scope="module")
def tables():
    return frames()


@pytest.fixture(scope="module")
def bank(tables):
    return Bank.from_frames(tables, ABOUT)


@pytest.fixture(scope="module")
def months(tables):
    """Monthly rows by pandas: contribution, month number, tenure."""
    m = tables["monthly"].merge(tables["customers"], on="customer_id")
    m["contribution"] = m["net_interest"] + m["fees"] - m["service_cost"] - m["risk_cost"]
    m["number"] = m["month"].dt.year * 12 + m["month"].dt.month - 1
    m["tenure"] = m["number"] - (m["acquired_on"].dt.year * 12 + m["acquired_on"].dt.month - 1)
    return m


END = 2022 * 12 + 11


def test_contribution_against_pandas(bank, months):
    got = reductions.contribution(bank, months=12).set_index("customer_id")
    inside = months[months["number"] > END - 12]
    expected = inside.groupby("customer_id")["contribution"].sum()
    assert list(got.index) == sorted(expected.index)
    # engine sums are exact in cents; pandas adds doubles
    np.testing.assert_allclose(got["contribution"], expected, atol=1e-9)
    loaded = expected - inside.groupby("customer_id")["allocated_cost"].sum()
    np.testing.assert_allclose(got["fully_loaded"], loaded, atol=1e-9)


def test_fully_loaded_is_left_out_where_costs_are_not_allocated(tables):
    bare = {**tables, "monthly": tables["monthly"].drop(columns="allocated_cost")}
    assert "fully_loaded" not in reductions.contribution(Bank.from_frames(bare, ABOUT)).columns


def test_windows_and_years_against_pandas(bank, months):
    windows = reductions.contribution_windows(bank, windows=(3, 12, 48)).set_index("customer_id")
    assert list(windows.columns) == ["contribution_3", "contribution_12"]  # 48 months were not observed
    for w in (3, 12):
        expected = months[months["number"] > END - w].groupby("customer_id")["contribution"].sum()
        np.testing.assert_allclose(windows[f"contribution_{w}"].dropna(), expected, atol=1e-9)
    years = reductions.yearly(bank, years=5).set_index("customer_id")
    assert list(years.columns) == ["year_2020-12", "year_2021-12", "year_2022-12"]
    expected = months.pivot_table(
        index="customer_id", columns=months["month"].dt.year, values="contribution", aggfunc="sum"
    )
    np.testing.assert_allclose(years.to_numpy(), expected.to_numpy(), atol=1e-9)


def fold(customer: str) -> int:
    """Group of a customer for the jackknife, by a hash."""
    return int(hashlib.md5(customer.encode()).hexdigest()[:3], 16) % 1_024 % 20


def test_tenure_table_against_pandas(bank, months):
    got = reductions.tenure_margin(bank, until="2021-12")
    seen = months[months["number"] <= END - 12].copy()
    seen["fold"] = seen["customer_id"].map(fold)
    last = seen.groupby("customer_id")["number"].transform("max")
    seen["gone"] = (seen["number"] == last) & (last < END - 12)
    seen["at_risk"] = seen["number"] < END - 12
    expected = seen.groupby(["fold", "tenure"]).agg(
        n=("number", "size"), at_risk=("at_risk", "sum"), exits=("gone", "sum"), total=("contribution", "sum")
    )
    assert got[["fold", "tenure_month"]].to_numpy().tolist() == [list(k) for k in expected.index]
    counts = ["n", "at_risk", "exits"]
    np.testing.assert_array_equal(got[counts], expected[counts])
    np.testing.assert_allclose(got["contribution"], expected["total"], atol=1e-9)
    windows = reductions.tenure_windows(bank, until="2021-12", windows=(12, 24, 60))
    assert sorted(windows["window"].unique()) == [12, 24]
    pd.testing.assert_frame_equal(windows[windows["window"] == 24].drop(columns="window").reset_index(drop=True), got)


@pytest.mark.parametrize("end", ["2022-12-31", "2022-05-31"])
def test_vintages_against_pandas(tables, months, end):
    """Years end with the observation; the months before the first full one are left out."""
    stop = pd.Timestamp(end)
    last = stop.year * 12 + stop.month - 1
    cut = {**tables, "monthly": tables["monthly"][tables["monthly"]["month"] <= stop]}
    cut["customers"] = tables["customers"].assign(left_on=tables["customers"]["left_on"].where(lambda d: d <= stop))
    cut["customers"]["exit_cause"] = cut["customers"]["exit_cause"].where(cut["customers"]["left_on"].notna(), None)
    cut["customers"] = cut["customers"][cut["customers"]["acquired_on"] <= stop]
    cut = {k: cut[k] for k in ("customers", "monthly")}
    got = reductions.vintages(Bank.from_frames(cut, {**ABOUT, "observation_end": stop.date()}))
    full = 12 * ((last - 2020 * 12 + 1) // 12)
    seen = months[months["number"].between(last - full + 1, last)].copy()
    seen["fold"] = seen["customer_id"].map(fold)
    seen["ago"] = (last - seen["number"]) // 12
    seen["won"] = (last - (seen["number"] - seen["tenure"])) // 12
    final = seen.groupby("customer_id")["number"].transform("max")
    seen["gone"] = (seen["number"] == final) & (final < last)
    seen["at_risk"] = seen["number"] < last
    expected = seen.groupby(["fold", "won", "ago"]).agg(
        customers=("customer_id", "nunique"),
        n=("number", "size"),
        at_risk=("at_risk", "sum"),
        exits=("gone", "sum"),
        contribution=("contribution", "sum"),
    )
    expected = expected.reset_index().sort_values(["fold", "won", "ago"], ascending=[True, False, False])
    assert list(got["vintage"]) == [(stop.to_period("M") - 12 * k).strftime("%Y-%m") for k in expected["won"]]
    assert list(got["period"]) == [(stop.to_period("M") - 12 * k).strftime("%Y-%m") for k in expected["ago"]]
    np.testing.assert_array_equal(got["age"], expected["won"] - expected["ago"])
    counts = ["fold", "customers", "n", "at_risk", "exits"]
    np.testing.assert_array_equal(got[counts], expected[counts])
    np.testing.assert_allclose(got["contribution"], expected["contribution"], atol=1e-9)


def test_customers_at_against_pandas(bank, months):
    got = reductions.customers_at(bank, at="2020-12").set_index("customer_id")
    now = END - 24
    here = months[months["number"] == now].set_index("customer_id")
    assert list(got.index) == sorted(here.index)
    np.testing.assert_array_equal(got["tenure"], here["tenure"].sort_index())
    spans = {"before": (now - 11, now), "all": (0, now), "after": (now + 1, now + 12), "second": (now + 13, now + 24)}
    for name, (first, last) in spans.items():
        rows = months[months["number"].between(first, last) & months["customer_id"].isin(got.index)]
        grouped = rows.groupby("customer_id")["contribution"]
        np.testing.assert_array_equal(got[f"months_{name}"], grouped.size().reindex(got.index, fill_value=0))
        np.testing.assert_allclose(got[name], grouped.sum().reindex(got.index, fill_value=0.0), atol=1e-9)


def test_equity_frame_and_who_came_back(bank, months):
    got = reductions.equity(bank, opening="2021-03", closing="2021-12").set_index("customer_id")
    back = got.loc["c007"]
    assert (back["known"], back["here_opening"]) == (True, False)
    now = END - 21
    inside = months[months["number"].between(now + 1, END - 12)].groupby("customer_id")["contribution"].sum()
    np.testing.assert_allclose(got["realised"], inside.reindex(got.index, fill_value=0.0), atol=1e-9)
    present = set(months[months["number"] == now]["customer_id"])
    assert set(got.index[got["here_opening"]]) == present


def _summary(days, end, unit=7.0):
    """Purchase summary the slow way."""
    merged = days[days["occurred_on"] <= end].groupby(["customer_id", "occurred_on"])["amount"].sum().reset_index()
    rows = []
    for name, part in merged.groupby("customer_id"):
        first, last = part["occurred_on"].min(), part["occurred_on"].max()
        repeat = part[part["occurred_on"] > first]["amount"]
        mean = repeat.mean() if len(repeat) else 0.0
        rows.append((name, len(repeat), (last - first).days / unit, (end - first).days / unit, mean))
    return pd.DataFrame(rows, columns=["customer_id", "frequency", "recency", "T", "monetary_value"])


def test_summary_against_pandas(bank, tables):
    end = pd.Timestamp("2021-06-30")
    got = reductions.summary(bank, calibration_end=end.date())
    expected = _summary(tables["transactions"], end)
    assert got["customer_id"].tolist() == expected["customer_id"].tolist()
    for column in expected.columns[1:]:
        np.testing.assert_allclose(got[column], expected[column], atol=1e-9, err_msg=column)
    later = tables["transactions"][tables["transactions"]["occurred_on"] > end]
    held = later.drop_duplicates(["customer_id", "occurred_on"]).groupby("customer_id").size()
    np.testing.assert_array_equal(got["frequency_holdout"], held.reindex(got["customer_id"], fill_value=0))
    assert got["duration_holdout"].unique() == pytest.approx([(datetime.date(2022, 12, 31) - end.date()).days / 7])


def test_summary_units_and_gross(bank):
    weeks, days = (reductions.summary(bank, unit=u) for u in ("week", "day"))
    np.testing.assert_allclose(weeks["T"] * 7, days["T"])
    signed = frames()
    signed["transactions"]["amount"] *= -1
    gross = reductions.summary(Bank.from_frames(signed, ABOUT), gross=True)
    np.testing.assert_allclose(gross["monetary_value"], weeks["monetary_value"], atol=1e-9)


def test_a01_counts_of_cdnow(open_data):
    bank = open_data("cdnow")
    whole = reductions.summary(bank)
    assert len(whole) == 23_570
    assert reductions.contribution(bank, months=18)["spend"].sum() == pytest.approx(2_500_315.63, abs=0.005)
    assert bank.rows("transactions") == 69_659


def test_a01_counts_of_the_cdnow_sample(shared):
    """The sample's calibration and holdout counts, from the log, by the same expression that banks use."""
    import ibis

    log = pd.read_csv(shared / "data" / "cdnow" / "CDNOW_sample.csv", dtype=str)
    assert len(log) == 6_919
    frame = pd.DataFrame(
        {
            "customer_id": log["customer_id"],
            "occurred_on": pd.to_datetime(log["date"], format="%Y%m%d"),
            "amount": log["dollar_value"].astype(float),
        }
    )
    connection = ibis.duckdb.connect()
    t = connection.create_table("t", frame).mutate(occurred_on=lambda r: r.occurred_on.date())
    got = reductions.summary_expression(
        t, calibration_end=datetime.date(1997, 9, 30), holdout_end=datetime.date(1998, 6, 30)
    ).execute()
    assert len(got) == 2_357
    assert got["frequency"].sum() == 2_457
    assert (got["frequency"] > 0).sum() == 946
    assert got["frequency_holdout"].sum() == 1_882
    repeat = got[got["frequency"] > 0]
    # A10: correlation of frequency and mean spend; the published figure is rounded to two digits
    assert np.corrcoef(repeat["frequency"], repeat["monetary_value"])[0, 1] == pytest.approx(0.11, abs=0.005)


def test_calibration_share_finds_the_usual_split(open_data):
    bank = open_data("cdnow")
    assert reductions.split_day(bank, 0.5) == datetime.date(1997, 9, 30)
    periods = reductions.purchases_by_period(bank)
    assert len(periods) == 78
    assert periods["calibration"].sum() == 39
    history = reductions.latent_summary(bank, calibration_share=0.5)
    assert periods.loc[periods["calibration"], "repeats"].sum() == history["frequency"].sum()
    assert periods["repeats"].sum() == history[["frequency", "frequency_holdout"]].to_numpy().sum()


def test_by_month_against_pandas(bank, months):
    got = reductions.contribution_by_month(bank, at="2021-12").head(6)
    cohort = set(months[months["number"] == END - 12]["customer_id"])
    later = months[months["customer_id"].isin(cohort) & months["number"].between(END - 11, END - 6)]
    np.testing.assert_allclose(got["contribution"], later.groupby("number")["contribution"].sum(), atol=1e-9)
    np.testing.assert_array_equal(got["n"], later.groupby("number").size())


def test_what_is_missing_is_said(bank, tables):
    shop = Bank.from_frames({"transactions": tables["transactions"]}, ABOUT)
    for missing in (
        reductions.yearly(shop),
        reductions.margins(shop),
        reductions.tenure_margin(shop),
        reductions.vintages(shop),
        reductions.customers_at(shop),
        reductions.equity(shop, opening="2021-12", closing="2022-12"),
        reductions.tenure_windows(shop, until="2021-12"),
        reductions.contribution_by_month(shop, at="2021-12"),
    ):
        assert isinstance(missing, Missing)
        assert "monthly" in missing.reason
    assert "spend" in reductions.contribution(shop).columns
    assert "leaving is not latent" in reductions.latent_summary(bank).reason
    signed = tables["transactions"].assign(amount=-tables["transactions"]["amount"])
    assert "not purchases" in reductions.latent_summary(Bank.from_frames({"transactions": signed}, ABOUT)).reason
    assert "were not observed" in reductions.customers_at(bank, at="2020-06").reason
    assert "60 months are needed" in reductions.contribution(bank, months=60).reason


def test_snapshots_and_undated_banks(open_data):
    berka = reductions.contribution(open_data("berka"))
    assert list(berka.columns) == ["customer_id", "fees", "interest", "turnover"]
    assert len(berka) == 4_492  # eight accounts have no summary
    churners = open_data("bank-churners")
    assert list(reductions.contribution(churners).columns) == ["customer_id", "spend"]
    assert isinstance(reductions.month_end(churners), Missing)
    assert isinstance(reductions.contribution_windows(churners), Missing)


def test_bad_arguments_are_refused(bank):
    with pytest.raises(InputError, match="not of the form YYYY-MM"):
        reductions.customers_at(bank, at="2021-13")
    with pytest.raises(InputError, match="must come after opening"):
        reductions.equity(bank, opening="2021-12", closing="2021-06")
    with pytest.raises(InputError, match="outside the covered period"):
        reductions.summary(bank, calibration_end=datetime.date(2030, 1, 1))
    with pytest.raises(InputError, match="must be one of"):
        reductions.summary(bank, unit="quarter")
    with pytest.raises(InputError, match="calibration_share"):
        reductions.summary(bank, calibration_share=0)
    with pytest.raises(InputError, match="positive numbers"):
        reductions.contribution_windows(bank, windows=(0, 3))
    with pytest.raises(InputError, match="two or more"):
        reductions.yearly(bank, years=1)
