"""Data of other shapes than the contract's: without ids, without money, status by status, people and accounts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import test_reading
from crmresearch.data.bank import open_bank
from crmresearch.data.reductions import base, cost, loyalty, value
from crmresearch.errors import InputError, Missing
from crmresearch.run.cli import app
from test_reading import CUSTOMERS, SURVEY, UNDATED, column

bank = test_reading.bank


def said(folder):
    """What ``bank check`` says of the bank in a folder."""
    result = CliRunner().invoke(app, ["bank", "check", str(folder)])
    assert result.exit_code == 0, result.output
    return result.stdout


# --- row numbers for ids ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "text", "constants"),
    [
        ("snapshot", "income,age\n3,4\n5,6\n", ""),
        ("spells", "exit_months,event\n3,1\n5,0\n", ", constants: {entry_months: 0}"),
        ("survey", "sat1\n3\n5\n", ", constants: {sampled: true, responded: true}"),
        ("customers", "acquired_on\n2020-05-13\n2020-06-01\n", ""),
        (
            "contacts",
            "contacted_on\n2020-05-13\n2020-06-01\n",
            ", constants: {purpose: retain, campaign_id: x, arm: a, randomised: no, channel: post, cost: 1}",
        ),
    ],
)
def test_rows_without_ids_are_numbered_and_joined_with_nothing(bank, table, text, constants):
    found = bank(f"{table}: {{file: t.csv, id: rows{constants}}}", t__csv=text)
    assert column(found, table, "customer_id") == [f"{table}-1", f"{table}-2"]
    assert found.about.unlinked == (table,)
    assert found.require(table) is None
    assert f"{table}: ids are row numbers" in said(bank.folder)


def test_prospects_without_ids_are_numbered(bank):
    text = "channel,first_contact_on,spend,won\nweb,2020-05-13,3,true\nweb,2020-05-14,3,false\n"
    found = bank("prospects: {file: t.csv, id: rows}", t__csv=text)
    assert column(found, "prospects", "prospect_id") == ["prospects-1", "prospects-2"]
    assert found.about.unlinked == ()


@pytest.mark.parametrize("form", ["parquet", "csv", "parts"])
def test_row_numbers_are_those_of_the_file_at_every_reading(bank, form, monkeypatch):
    frame = pd.DataFrame({"value": np.arange(400_000)})
    names = ["t.csv"] if form == "csv" else ["t1.parquet", "t2.parquet"] if form == "parts" else ["t.parquet"]
    for i, name in enumerate(names):
        part = frame.iloc[i * 200_000 : (i + 1) * 200_000] if len(names) > 1 else frame
        if form == "csv":
            part.to_csv(bank.folder / name, index=False)
        else:
            part.to_parquet(bank.folder / name, row_group_size=20_000)
    for threads in ("4", "1"):
        monkeypatch.setenv("CRMRESEARCH_THREADS", threads)
        monkeypatch.setenv("CRMRESEARCH_CACHE", str(bank.folder / f"cache{threads}"))
        found = bank(f"snapshot: {{file: [{', '.join(names)}], id: rows}}", UNDATED)
        wrong = "SELECT count(*) AS n FROM snapshot WHERE customer_id <> 'snapshot-' || (value + 1)"
        assert found.frame(wrong)["n"].tolist() == [0]
        assert found.rows("snapshot") == len(frame)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("snapshot: {file: s.csv, id: rows}", "snapshot.customer_id: id: rows stands beside a customer_id"),
        ("snapshot: {file: s.csv, id: rows, columns: {customer_id: sat1}}", "id: rows stands beside a customer_id"),
        ("transactions: {file: s.csv, id: rows}", "transactions: id: rows, but a row is no customer of its own"),
        ("snapshot: {file: s.csv, id: sat1}", "id of table snapshot must look like this: id: rows"),
    ],
)
def test_row_numbers_out_of_place_are_refused(bank, line, message):
    with pytest.raises(InputError) as error:
        bank(line, s__csv=SURVEY)
    assert message in str(error.value)
    if "take id: rows out" in str(error.value) and "snapshot" in line:
        assert bank(line.replace(", id: rows", ""), s__csv=SURVEY).rows("snapshot") == 3


def test_nothing_is_joined_by_row_numbers(bank):
    files = {"c__csv": CUSTOMERS, "s__csv": SURVEY.replace("customer_id", "nr")}
    found = bank("customers: c.csv\n  survey: {file: s.csv, id: rows, constants: {wave_on: 2020-05-13}}", **files)
    assert "ids of table survey are row numbers" in str(found.require("survey", "customers"))
    assert found.require("survey.sat1") is None
    tables = "customers: {file: c.csv, id: rows, drop: [customer_id]}\n  survey: s.csv"
    with pytest.raises(InputError, match=r"survey\.customer_id: the customers have row numbers.*take this table out"):
        bank(tables, c__csv=CUSTOMERS, s__csv=SURVEY)
    assert bank(tables.partition("\n")[0]).rows("customers") == 2


# --- balances without money columns -----------------------------------------------------------------------------------

MONEY = ["net_interest", "fees", "service_cost", "risk_cost"]


@pytest.fixture
def own(example, tmp_path, monkeypatch):
    """A copy of the example bank."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(example, tmp_path / "own"))


@pytest.fixture
def balances(own):
    """Write the example bank's months with some of their columns only."""

    def written(*columns, facts=""):
        whole = pd.read_csv(own / "monthly.csv")
        whole[["customer_id", "month", "balance", *columns]].to_csv(own / "monthly.csv", index=False)
        text = (own / "bank.yaml").read_text("utf-8")
        (own / "bank.yaml").write_text(facts + text, "utf-8")
        return open_bank(own)

    return written


def asks_for_money(bank):
    """Reductions that add up contribution."""
    yield value.contribution(bank)
    yield value.contribution_windows(bank, windows=(6, 12))
    yield value.tenure_margin(bank)
    yield value.yearly(bank, years=2)
    yield base.explained(bank)
    yield cost.joint(bank)


@pytest.mark.parametrize(
    ("columns", "lacking"),
    [
        ((), "net_interest, fees, service_cost, risk_cost"),
        (("fees",), "net_interest, service_cost, risk_cost"),
        (("net_interest", "fees", "service_cost"), "risk_cost"),
    ],
)
def test_without_money_contribution_is_unknown_and_never_zero(balances, columns, lacking):
    bank = balances(*columns)
    assert bank.require("monthly") is None
    assert base.contract_breaches(bank)["breaches"].sum() == 0
    for answer in asks_for_money(bank):
        assert isinstance(answer, Missing)
        if "prospects" not in answer.tables:
            assert f"brings no {lacking} (contribution: in bank.yaml says what counts)" in answer.reason
    frame = loyalty.joined(bank, horizon_months=6)
    assert isinstance(frame, Missing) or "contribution_after" not in frame
    said = base.usable(bank).set_index("study")
    assert said.loc["02 churn", "runs"] == "in full"
    assert "monthly.contribution" in said.loc["01 customer value", "lacks"]


@pytest.mark.parametrize(
    ("columns", "declared"),
    [
        (("net_interest",), "[net_interest]"),
        (("net_interest", "fees"), "[net_interest, fees]"),
        (("fees", "risk_cost"), "[fees, -risk_cost]"),
    ],
)
def test_the_advice_on_contribution_works_as_it_is_written(balances, columns, declared):
    bank = balances(*columns, facts=f"contribution: {declared}\n")
    frame = value.contribution(bank)
    t = bank.frame("SELECT * FROM monthly WHERE month >= DATE '2023-01-01'")
    money = sum(-t[c] if c.endswith("cost") else t[c] for c in columns)
    expected = money.groupby(t["customer_id"]).sum()
    np.testing.assert_allclose(frame.set_index("customer_id")["contribution"], expected, rtol=1e-9)


@pytest.mark.parametrize("gap", MONEY)
def test_a_column_of_money_that_is_brought_has_no_gaps(own, gap):
    frame = pd.read_csv(own / "monthly.csv")
    frame.loc[3, gap] = None
    frame.to_csv(own / "monthly.csv", index=False)
    with pytest.raises(InputError, match=rf"monthly\.{gap}: {gap} must not be missing \(1 row: 4\)"):
        open_bank(own)
