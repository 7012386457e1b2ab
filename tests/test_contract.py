"""The engine's single pass finds every planted fault and nothing else, and a report names no values."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from crmresearch.data import contract
from crmresearch.data.bank import Bank
from crmresearch.data.contract import ContractError
from crmresearch.data.tables import CONSENT, TABLES
from crmresearch.lab import simulated

END = datetime.date(2022, 12, 31)
ABOUT = {
    "name": "toy",
    "currency": "EUR",
    "observation_start": datetime.date(2020, 1, 1),
    "observation_end": END,
    "evidence": "simulated",
    "tolerance_days": {"*": 1000},
}


def valid(table: str, n: int, seed: int) -> pd.DataFrame:
    """A frame that keeps every rule of a table, with every column of the contract."""
    g = np.random.default_rng(seed)
    frame = {}
    for c in TABLES[table].columns:
        if c.kind == "id":
            frame[c.name] = [f"{c.name[0]}{i:04d}" for i in range(n)]
        elif c.kind == "text":
            frame[c.name] = g.choice(c.allowed or ("a", "b"), n)
        elif c.kind == "date":
            frame[c.name] = pd.Timestamp("2021-01-01") + pd.to_timedelta(g.integers(0, 300, n), "D")
        elif c.kind == "month":
            frame[c.name] = pd.Timestamp("2021-05-01")
        elif c.kind == "money":
            frame[c.name] = g.integers(0, 100_000, n) / 100
        elif c.kind == "number":
            frame[c.name] = g.uniform(c.low or 0, 1 if c.high is None else c.high, n)
        elif c.kind == "count":
            frame[c.name] = g.integers(c.low or 0, 10 if c.high is None else c.high + 1, n)
        else:
            frame[c.name] = g.random(n) < 0.5
    f = pd.DataFrame(frame)
    if table == "customers":
        f["observed_from"] = f["acquired_on"]
        f["left_on"] = f["acquired_on"] + pd.Timedelta(days=30)
        stays = g.random(n) < 0.5
        f["left_on"] = f["left_on"].mask(stays)
        f["exit_cause"] = f["exit_cause"].astype(object).mask(stays, None)
        f["referrer_id"] = None
    elif table == "holdings":
        f["closed_on"] = f["opened_on"] + pd.Timedelta(days=3)
    elif table == "prospects":
        f["customer_id"] = f["customer_id"].astype(object).where(f["won"], None)
    elif table == "survey":
        f["responded"] = f["sampled"]
    elif table == "spells":
        f["exit_months"] = f["entry_months"] + 1
    return f


def engine(table: str, frame: pd.DataFrame) -> list[contract.Problem]:
    try:
        Bank.from_frames({table: frame}, ABOUT)
    except ContractError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("table", TABLES)
def test_a_frame_that_keeps_the_rules_passes(table):
    assert engine(table, valid(table, 40, seed=1)) == []


def faults(table: str):
    """Every kind of fault a table can have: a name, and what it does to some rows of a frame."""
    t = TABLES[table]
    for c in t.columns:
        if not c.nullable and c.kind not in ("count", "flag"):
            yield f"{c.name} missing", c.name, None
        if c.allowed:
            yield f"{c.name} unknown value", c.name, "something else"
        if c.low is not None:
            yield f"{c.name} too low", c.name, c.low - 1
        if c.high is not None:
            yield f"{c.name} too high", c.name, c.high + 1
        if c.kind == "date":
            yield f"{c.name} in the future", c.name, pd.Timestamp("2023-01-01")
        if c.kind == "month":
            yield f"{c.name} in mid-month", c.name, pd.Timestamp("2021-05-02")
        if c.kind in ("money", "number"):
            yield f"{c.name} infinite", c.name, np.inf
    if table == "customers":
        yield "left before acquired", "left_on", pd.Timestamp("2019-01-01")
        yield "cause without exit", "left_on", pd.NaT
    if table == "holdings":
        yield "closed before opened", "closed_on", pd.Timestamp("2019-01-01")
    if table == "spells":
        yield "exit before entry", "exit_months", 0.0
    if table == "survey":
        yield "responded unsampled", "sampled", False
    if t.key:
        yield "duplicate", None, None


# faults between two columns, which only some of the planted rows have
BETWEEN = (
    "left before acquired",
    "cause without exit",
    "closed before opened",
    "exit before entry",
    "responded unsampled",
)
CASES = [(t, *fault) for t in TABLES for fault in faults(t)]


@pytest.mark.parametrize(("table", "what", "column", "value"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_every_planted_fault_is_found_in_its_rows(table, what, column, value):
    frame = valid(table, 30, seed=len(what))
    rows = np.sort(np.random.default_rng(len(what)).choice(30, 7, replace=False))
    if what == "duplicate":
        frame = pd.concat([frame, frame.iloc[rows]], ignore_index=True)
    else:
        if frame[column].dtype.kind in "iuf" and value is not None:
            frame[column] = frame[column].astype(float)
        frame[column] = frame[column].astype(object) if value is None else frame[column]
        frame.loc[rows, column] = value
        if frame[column].dtype == object and TABLES[table][column].kind in ("date", "month"):
            frame[column] = pd.to_datetime(frame[column])
    found = engine(table, frame)
    planted = set(rows + 1) if what != "duplicate" else set(range(31, 38))
    assert found, f"the engine let '{what}' pass"
    for problem in found:
        assert problem.rows <= 7
        assert set(problem.examples) <= planted
    if what not in BETWEEN:
        own = [p for p in found if p.column == (column or TABLES[table].key[0]) and p.rows == 7]
        assert own
        assert {p.examples for p in own} == {tuple(sorted(planted))[:5]}


@pytest.mark.parametrize("seed", range(12))
def test_many_faults_at_once_are_all_found(seed):
    g = np.random.default_rng(seed)
    table = ["customers", "prospects", "monthly"][seed % 3]
    frame = valid(table, 60, seed)
    planted = [f for f in faults(table) if f[1] is not None and f[0] not in BETWEEN and g.random() < 0.4]
    for _, column, value in planted:
        rows = g.choice(60, 3, replace=False)
        if TABLES[table][column].kind in ("money", "number", "count"):
            frame[column] = frame[column].astype(float)
        frame[column] = frame[column].astype(object).where(~frame.index.isin(rows), value)
        if TABLES[table][column].kind in ("date", "month"):
            frame[column] = pd.to_datetime(frame[column])
        elif TABLES[table][column].kind in ("money", "number", "count"):
            frame[column] = frame[column].astype(float)
    found = engine(table, frame)
    assert {column for _, column, _ in planted} <= {p.column for p in found}
    assert all(1 <= p.rows <= 60 and len(p.examples) == min(p.rows, 5) for p in found)


def test_uniqueness_counts_repeats_not_rows():
    frame = valid("customers", 4, seed=2)
    frame["customer_id"] = ["a", "a", "a", "b"]
    frame["referrer_id"] = None
    [problem] = engine("customers", frame)
    assert (problem.column, problem.rule) == ("customer_id", "customer_id must be unique")
    assert (problem.rows, problem.examples) == (2, (2, 3))


def test_keys_resolve_across_tables():
    customers = valid("customers", 5, seed=3)
    monthly = valid("monthly", 5, seed=3)
    monthly.loc[[1, 3], "customer_id"] = "nobody"
    monthly.loc[3, "month"] = pd.Timestamp("2021-06-01")
    with pytest.raises(
        ContractError, match=r"customer_id must occur in customers.customer_id \(2 rows: 2, 4\)"
    ) as error:
        Bank.from_frames({"customers": customers, "monthly": monthly}, ABOUT)
    assert [p.table for p in error.value.problems] == ["monthly"]


def test_one_report_holds_every_problem_and_no_value_of_a_person():
    customers = valid("customers", 8, seed=4)
    customers["birth_year"] = 1947
    customers.loc[2, "birth_year"] = 1066
    customers.loc[5, "consent_marketing"] = "perhaps-secretly"
    monthly = valid("monthly", 8, seed=4)
    monthly.loc[0, "balance"] = np.inf
    with pytest.raises(ContractError, match="3 problems") as error:
        Bank.from_frames({"customers": customers, "monthly": monthly}, ABOUT)
    text = str(error.value)
    assert "customers.birth_year: birth_year must be from 1850 to 2150 (1 row: 3)" in text
    assert "monthly.balance" in text
    for value in ("1947", "1066", "perhaps-secretly", customers["customer_id"].iloc[2]):
        assert value not in text


def test_at_most_five_row_numbers_are_given():
    customers = valid("customers", 50, seed=5)
    customers["acquired_on"] = pd.Timestamp("2030-01-01")
    customers["observed_from"] = customers["acquired_on"]
    customers["left_on"] = pd.NaT
    customers["exit_cause"] = None
    problems = [p for p in engine("customers", customers) if p.column == "acquired_on"]
    assert [(p.rows, p.examples) for p in problems] == [(50, (1, 2, 3, 4, 5))]
    assert "50 rows: 1, 2, 3, 4, 5, …" in str(problems[0])


def test_defaults_are_stated_facts():
    start = pd.Timestamp(ABOUT["observation_start"])
    customers = pd.DataFrame(
        {
            "customer_id": ["a", "b"],
            "acquired_on": pd.to_datetime(["2009-03-01", "2021-03-01"]),
            "left_on": pd.to_datetime(["2021-01-01", None]),
        }
    )
    bank = Bank.from_frames({"customers": customers}, ABOUT)
    frame = bank.frame(bank.table("customers").order_by("customer_id"))
    assert frame["observed_from"].tolist() == [start, pd.Timestamp("2021-03-01")]
    assert frame["exit_cause"].tolist() == ["unknown", None]
    assert set(frame["consent_analysis"]) <= set(CONSENT) == {"yes", "no", "not recorded"}
    assert bank.require("customers.observed_from") is not None  # a default is no observation


def test_the_check_is_one_statement():
    sql, checks = contract.check_sql(TABLES["monthly"], TABLES["monthly"].names, ["customers"], END)
    assert len(duckdb.extract_statements(sql)) == 1
    assert len(checks) >= 8


def test_misspelt_columns_are_refused_with_the_nearest_name():
    frame = valid("customers", 3, seed=6).rename(columns={"acquisition_channel": "acquisition_chanel"})
    with pytest.raises(ContractError, match="did you mean 'acquisition_channel'"):
        Bank.from_frames({"customers": frame}, ABOUT)
    with pytest.raises(ContractError, match="column customer_id is missing"):
        Bank.from_frames({"snapshot": pd.DataFrame({"x": [1]})}, ABOUT)
    with pytest.raises(ContractError, match="no such table in the contract; did you mean 'monthly'"):
        Bank.from_frames({"montly": frame}, ABOUT)
    with pytest.raises(ContractError, match="direct identifier"):
        Bank.from_frames({"customers": frame.rename(columns={"acquisition_chanel": "email"})}, ABOUT)


README = (Path(__file__).parents[1] / "data" / "README.md").read_text("utf-8")


def test_the_readme_names_every_table_and_column():
    rows = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", README, re.MULTILINE)}
    for name, table in TABLES.items():
        assert set(re.findall(r"`(\w+)`", rows[name])) == set(table.names), name
        optional = {c.name for c in table.columns if not c.required or c.nullable}
        assert set(re.findall(r"`(\w+)`\?", rows[name])) == optional, name


def test_the_readme_names_the_tables_that_the_reference_bank_lacks():
    [row] = re.findall(r"^\| `reference` \|([^|]+)\|", README, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(TABLES) - set(simulated.TABLES)
