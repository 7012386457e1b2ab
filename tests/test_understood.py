"""What ``bank check`` says: types and aggregates, no value of a row, and what deserves a look, and its remedy."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from crmresearch.run.cli import app
from test_checking import written


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Write tables and a description, run ``bank check``, and return its exit code and what it said in one line."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def checked(tables, more="", **specs):
        texts = {name: pd.DataFrame(table).to_csv(index=False) for name, table in tables.items()}
        result = CliRunner().invoke(app, ["bank", "check", str(written(tmp_path, texts, more, specs))])
        assert all(len(line) <= 80 for line in result.stdout.splitlines() if " - " not in line)
        return result.exit_code, result.output

    return checked


def remedy(said, key):
    """Return what a doubt advises to declare."""
    return re.search(rf"declare\s+{key}", said) and re.search(rf"({key}: \{{.*?\}}) under", " ".join(said.split()))[1]


MONTHS = {
    "customer_id": [f"c{i}" for i in range(40)],
    "month": "2020-02-01",
    "balance": 1234.56,
    "net_interest": 3.21,
    "fees": 4.0,
    "service_cost": np.linspace(0.5, 90, 40).round(2),
    "risk_cost": 0.0,
}


def test_a_bank_is_told_in_types_and_aggregates_and_no_value(check):
    customers = {
        "customer_id": MONTHS["customer_id"],
        "acquired_on": ["2017-03-04", "2019-11-05"] * 20,
        "birth_year": [1947, 1983, None, 1991] * 10,
        "Filiale": "Bern",
    }
    code, said = check({"customers": customers, "monthly": MONTHS | {"客户等级说明": 7}})
    assert code == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in said.splitlines() if line.startswith("  ")}
    assert lines["birth_year"] == "birth_year whole number 10 ~3 1940 to 1999"
    assert lines["acquired_on"] == "acquired_on date 0 ~2 2017 to 2019"
    assert lines["service_cost"].endswith(" 1e-1 to 100")
    assert lines["balance"] == "balance money 0 ~1 1,000 to 10,000"
    assert "customers: columns not read: Filiale" in said
    for value in ("1947", "2017-03-04", "1234", "90", "Bern", "c7"):
        assert not re.search(rf"\b{value}\b", said.replace("1990", ""))


@pytest.mark.parametrize("column", ["service_cost", "risk_cost", "fees", "net_interest"])
@pytest.mark.parametrize("theirs", [None, "Kosten/Monat", "费用", "cost"])
def test_a_sign_the_other_way_round_is_found_and_the_advised_formula_turns_it(check, column, theirs):
    months = MONTHS | {column: -np.linspace(0.5, 90, 40).round(2)}
    spec = ""
    if theirs:
        months[theirs] = months.pop(column)
        spec = f", columns: {{{column}: {theirs}}}"
    code, said = check({"monthly": months}, monthly=spec)
    assert code == 1
    assert f"monthly.{column}: no amount is positive" in said
    code, said = check({"monthly": months}, monthly=f", {remedy(said, 'derived')}")
    assert code == 0, said


def test_costs_of_both_signs_are_counted(check):
    code, said = check({"monthly": MONTHS | {"service_cost": [-5.0] * 15 + [5.0] * 25}})
    assert code == 1
    assert "15 amounts are negative and 25 positive" in said


@pytest.mark.parametrize("way", ["type", "S/H", "Soll Haben", "借贷标志", "direction"])
def test_debits_without_a_minus_are_found_and_the_advised_formula_gives_them_one(check, way):
    moves = {"customer_id": "a", "occurred_on": "2020-02-01", "amount": [5.0, 7.0], way: ["debit", "credit"]}
    code, said = check({"transactions": moves})
    assert code == 1
    assert "no amount is negative, but debits carry a minus" in said
    code, said = check({"transactions": moves}, transactions=f", {remedy(said, 'derived')}")
    assert code == 0, said


@pytest.mark.parametrize(
    ("words", "code"), [(["in", "out"], 0), (["out", None], 0), (["in", "debit"], 1), (["D", "C"], 1)]
)
def test_money_moved_whose_direction_is_told_in_the_words_of_the_contract_is_no_doubt(check, words, code):
    moves = {"customer_id": "a", "occurred_on": "2020-02-01", "amount": [5.0, 7.0], "direction": words}
    found, said = check({"transactions": moves})
    assert found == code
    assert ("debits carry a minus" in said) is (code == 1)


def test_purchases_without_a_way_are_no_doubt(check):
    code, said = check({"transactions": {"customer_id": "a", "occurred_on": "2020-02-01", "amount": [5.0, 7.0]}})
    assert code == 0
    assert "all are read as purchases or credits" in said
    code, said = check({"transactions": {"customer_id": "a", "occurred_on": "2020-02-01", "amount": [-5.0, -7.0]}})
    assert code == 1
    assert "no amount is positive" in said


def answers(n=80, **changed):
    rng = np.random.default_rng(3)
    trait = rng.normal(0, 1, n)
    items = {
        f"{c}{k}": np.clip(np.round(5.5 + 2 * trait + rng.normal(0, 1, n)), 1, 10)
        for c in ("sat", "loy")
        for k in (1, 2)
    }
    rows = {"customer_id": [f"c{i}" for i in range(n)], "sampled": "yes", "responded": "yes"} | items
    return rows | {name: make(rows[name]) for name, make in changed.items()}


def put(value, rows=5):
    return lambda column: [value if i < rows else v for i, v in enumerate(column)]


MODEL = "constructs: {satisfaction: [sat1, sat2], loyalty: [loy1, loy2]}\npaths: [[satisfaction, loyalty]]\n"
SHORT = "constructs: {satisfaction: [sat2], loyalty: [loy1, loy2]}\n"
OTHER = "constructs: {good: [sat1, sat2], bad: [loy1, loy2]}\n"
SCALED = "constructs: {satisfaction: {items: [sat1, sat2], scale: [1, 10]}, loyalty: [loy1, loy2]}\n"


@pytest.mark.parametrize(
    ("changed", "model", "doubt", "spec", "more"),
    [
        ({"sat1": put(99)}, MODEL, r"sat1 has <10 rows with 99, outside its scale", ", missing: {sat1: [99]}", MODEL),
        ({"loy2": put(-9)}, MODEL, r"item loy2 has <10 rows with -9", ", missing: {loy2: [-9]}", MODEL),
        ({"sat2": put(12)}, SCALED, r"item sat2 has <10 rows with 12", ", missing: {sat2: [12]}", SCALED),
        ({"sat1": lambda c: c * 0 + 4}, MODEL, r"sat1 has one answer in all 80 rows", ", drop: [sat1]", SHORT),
        ({"loy1": lambda c: 11 - c}, MODEL, r"loy1 runs against the other items", "", MODEL + "reversed: [loy1]\n"),
        ({"loy1": put("often")}, MODEL, r"item loy1 holds text in <10 rows", ", missing: {loy1: [often]}", MODEL),
        ({}, OTHER, r"no path leads", "", OTHER + "paths: [[good, bad]]\n"),
        ({"sat1": put(99), "loy1": put(98)}, "", r"2 to look at", ", missing: [98, 99]", ""),
    ],
)  # fmt: skip
def test_what_notebook_04_would_stop_at_is_found_and_what_it_advises_mends_it(check, changed, model, doubt, spec, more):
    code, said = check({"survey": answers(**changed)}, model)
    assert code == 1, said
    assert re.search(doubt, " ".join(said.split()))
    code, said = check({"survey": answers(**changed)}, more, survey=spec)
    assert code == 0, said


def test_a_bank_that_does_not_load_exits_with_2_and_a_tolerated_row_is_counted(check):
    customers = {"customer_id": ["a"], "acquired_on": "2020-03-01"}
    moves = {"customer_id": "a", "occurred_on": ["2020-02-20", "2020-03-05"], "amount": [5, -7]}
    tables = {"customers": customers, "transactions": moves}
    assert check(tables)[0] != 0  # 2 from the command, see test_cli
    code, said = check(tables, "tolerance_days: 20\n")
    assert code == 0
    assert "transactions: out of its customer's time by 20 days at most (tolerance_days): <10 rows" in " ".join(
        said.split()
    )


@pytest.mark.parametrize("known", [1, 5, 9])
def test_the_complement_of_few_is_not_counted(known, check):
    """Missing in 40 less a few rows, the rows that codes make missing, amounts of the other sign: each told the few."""
    left = ["2020-05-01"] * known + ["9999-12-31"] * (40 - known)
    customers = {
        "customer_id": MONTHS["customer_id"], "acquired_on": "2017-03-04", "left_on": left,
        "birth_year": [1987] * known + [None] * (40 - known),
    }  # fmt: skip
    cost = [1.0] * known + [-1.0] * (40 - known)
    months = MONTHS | {"month": "2019-02-01", "service_cost": cost}
    code, said = check({"customers": customers, "monthly": months}, customers=", missing: {left_on: [9999-12-31]}")
    text = " ".join(said.split())
    assert "birth_year whole number nearly all <10 customers:" in text
    assert "198" not in text
    assert "made missing by codes: left_on (nearly all)" in text
    assert "nearly all amounts are negative and <10 positive" in text
    assert not re.search(rf"(?<!~)\b{40 - known}\b", text)
    assert code == 1


@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_tiny_bank_is_not_counted(size, check):
    customers = {"customer_id": [f"c{i}" for i in range(size)], "acquired_on": "2017-03-04", "birth_year": 1987}
    _, said = check({"customers": customers})
    assert "customers: <10 rows" in said
    assert "198" not in said
    assert not re.search(rf"~{size}\b", said)
