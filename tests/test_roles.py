"""Every key of a bank.yaml whose value is of the wrong role, order or range is refused, and what is advised loads."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
import yaml

from crmresearch.data.bank import open_bank
from crmresearch.errors import InputError


@pytest.fixture
def written(example, tmp_path, monkeypatch):
    """Open the example bank with keys changed: ``{"tables.customers.sep": …}``; None takes a key out."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    described = yaml.load((example / "bank.yaml").read_text(), yaml.BaseLoader)
    described["tables"] |= {t: {"file": f"{t}.csv"} for t in ("monthly", "survey")}
    shutil.copytree(example, tmp_path / "bank")

    def opened(changes):
        facts = copy.deepcopy(described)
        for key, value in changes.items():
            *way, last = key.split(".")
            place = facts
            for step in way:
                place = place.setdefault(step, {})
            place[last] = value
        facts = {k: v for k, v in facts.items() if v is not None}
        (tmp_path / "bank" / "bank.yaml").write_text(yaml.safe_dump(facts, allow_unicode=True, sort_keys=False))
        return open_bank(tmp_path / "bank")

    return opened


def constructs(**more):
    return {"satisfaction": {"items": ["sat1", "sat2"]} | more, "loyalty": ["loy1", "loy2"]}


# what is declared, what the refusal advises, and that advice followed
CASES = {
    "tier is a date": (
        {"segments": {"tier": "acquired_on"}},
        "derived: {acquired_year: 'year(\"since\")'} under customers, and segments: {tier: {acquired_year: [2022]}}",
        {
            "segments": {"tier": {"acquired_year": ["2022"]}},
            "tables.customers.derived": {"acquired_year": 'year("since")'},
        },
    ),
    "tier is a date, cut": (
        {"segments": {"tier": {"observed_from": ["2020"]}}, "tables.customers.columns.observed_from": "since"},
        "derived: {observed_from_year: 'year(\"since\")'}",
        {
            "segments": {"tier": {"observed_from_year": ["2022"]}},
            "tables.customers.derived": {"observed_from_year": 'year("since")'},
        },
    ),
    "tier is the exit": ({"segments": {"tier": "left_on"}}, "take segments out", {"segments": None}),
    "tier is the cause": ({"segments": {"tier": "exit_cause"}}, "take segments out", {"segments": None}),
    "tier is a number of many values": (
        {"segments": {"tier": "birth_year"}},
        "segments: {tier: {birth_year: [low, high]}}",
        {"segments": {"tier": {"birth_year": ["1960", "1980"]}}},
    ),
    "band as a text": ({"segments": {"band": "123"}}, "such as [1000, 20000]", {"segments": {"band": ["1000"]}}),
    "band falls": ({"segments": {"band": ["9", "5"]}}, "such as [1000, 20000]", {"segments": {"band": ["5", "9"]}}),
    "band without balances": (
        {"segments": {"band": ["5"]}, "tables": {"survey": "survey.csv"}, "constructs": None, "paths": None},
        "take segments out",
        {"segments": None, "tables": {"survey": "survey.csv"}, "constructs": None, "paths": None},
    ),
    "balance as contribution": (
        {"contribution": ["balance", "fees"]}, "take it out of contribution", {"contribution": ["fees"]}
    ),
    **{
        f"scale {what}": ({"constructs": constructs(scale=given)}, f"scale: [{low}, {high}]",
                          {"constructs": constructs(scale=[low, high])})
        for what, given, (low, high) in (
            ("falls", ["10", "1"], ("1", "10")),
            ("of fives falls", ["5", "-5"], ("-5", "5")),
            ("of one answer", ["3", "3"], ("1", "10")),
            ("without end", ["1", "inf"], ("1", "10")),
        )
    },
    "an item twice": (
        {"constructs": constructs(items=["sat1", "sat1", "sat2"])},
        "'sat1' stands there twice; leave it out",
        {"constructs": constructs()},
    ),
    "an id as an item": (
        {"constructs": constructs(items=["sat1", "sat2", "customer_id"])},
        "'customer_id' is no answer; leave it out",
        {"constructs": constructs()},
    ),
    "a path to itself": (
        {"paths": [["satisfaction", "loyalty"], ["loyalty", "loyalty"]]},
        "take [loyalty, loyalty] out of paths",
        {"paths": [["satisfaction", "loyalty"]]},
    ),
    "covered backwards": (
        {"covered": {"monthly": ["2023-06-30", "2022-02-01"]}},
        "monthly: [2022-02-01, 2023-06-30]",
        {"covered": {"monthly": ["2022-02-01", "2023-06-30"]}},
    ),
    "covered beyond the observation": (
        {"covered": {"survey": ["2021-06-30", "2033-02-01"]}},
        "survey: [2022-01-01, 2023-12-31]",
        {"covered": {"survey": ["2022-01-01", "2023-12-31"]}},
    ),
    "covered before the observation": (
        {"covered": {"monthly": ["2001-06-30", "2003-02-01"]}}, "take it out", {"covered": None}
    ),
    "covered without dates": (
        {"covered": {"snapshot": ["2022-06-30", "2023-02-01"]}}, "take it out of covered", {"covered": None}
    ),
    "unlinked is no table": ({"unlinked": ["contract"]}, "did you mean 'contacts'?", {"unlinked": ["contacts"]}),
    "refused is no table": (
        {"refused": {"mothly.fees": "why"}}, "did you mean 'monthly'?", {"refused": {"monthly.fees": "why"}}
    ),
    "currency in words": ({"currency": "euro"}, "three capitals, such as EUR", {"currency": "EUR"}),
    "currency as a sign": ({"currency": "¥"}, "three capitals, such as EUR", {"currency": "CNY"}),
    "the period backwards": (
        {"observation_start": "2023-12-31", "observation_end": "2022-01-01"},
        "exchange the two",
        {"observation_start": "2022-01-01", "observation_end": "2023-12-31"},
    ),
    "an end that never comes": (
        {"observation_end": "9999-12-31"}, "write the day the data end with", {"observation_end": "2023-12-31"}
    ),
    "a name longer than a file's": (
        {"name": "银" * 90}, "shorten it, and say more in title", {"name": "银", "title": "银" * 90}
    ),
    "a planted error below zero": (
        {"truth": {"S06": {"world": "0.8", "error": "-1"}}},
        "truth: {S06: {world: 0.8, limit: 0.78, error: 0.01}}",
        {"truth": {"S06": {"world": "0.8", "limit": "0.78", "error": "0.01"}}},
    ),
    "an exit rule without dates": (
        {"exit_rule": {"balance_below": "5", "months": "3"}, "dated": "false", "observation_start": None,
         "observation_end": None},
        "leave out one of the two",
        {"exit_rule": {"balance_below": "5", "months": "3"}},
    ),
    "reversed customers": ({"tables.customers.reversed": ["birth_year"]}, "take it out", {}),
    "returns of customers": ({"tables.customers.returns": "first"}, "take it out", {}),
    "a date format of a text": (
        {"tables.customers.date_format": {"*": "%d.%m.%Y", "city_id": "%Y"}}, "take city_id out of date_format", {}
    ),
    "marks of a date": ({"tables.customers.decimal": {"acquired_on": ","}}, "take acquired_on out of decimal", {}),
    "a zone of a number": ({"tables.monthly.timezone": {"fees": "UTC"}}, "take fees out of timezone", {}),
    "currency of what holds no money": ({"tables.customers.currency": {"column": "town"}}, "take currency: out", {}),
    "a rate of the bank's own currency": (
        {"tables.monthly.currency": {"column": "month", "rates": {"EUR": "2"}}}, "take EUR out of rates", {}
    ),
    "a key of currency misspelt": ({"tables.monthly.currency": {"colum": "x"}}, "did you mean 'column'?", {}),
    "a constant that is no date": (
        {"tables.monthly.constants": {"month": "May"}},
        "must be a date such as 2022-12-31",
        {},
    ),
    "a constant that is no number": (
        {"tables.survey.constants": {"weight": "heavy"}},
        "must be a finite number",
        {"tables.survey.constants": {"weight": "1.5"}},
    ),
    "a constant the contract does not know": (
        {"tables.customers.constants": {"consent_analysis": "maybe"}},
        "one of yes, no, not recorded",
        {"tables.customers.constants": {"consent_analysis": "yes"}},
    ),
    "no file": ({"tables.customers.file": []}, "file: customers.csv", {}),
    "a file without a name": ({"tables.survey.file": ""}, "file: survey.csv", {}),
    "an encoding of no text": ({"tables.customers.encoding": "rot13"}, "utf-8", {"tables.customers.encoding": "utf-8"}),
    "a letter between columns": ({"tables.customers.sep": "a"}, 'sep: ";"', {"tables.customers.sep": ";"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_value_of_the_wrong_role_order_or_range_is_refused_and_the_advice_loads(case, written):
    wrong, advice, right = CASES[case]
    with pytest.raises(InputError, match=re.escape(advice)) as error:
        written(wrong)
    assert len(str(error.value).splitlines()) <= 3  # one problem: the bank, the line, where rows begin
    assert written(right).tables


@pytest.mark.parametrize("key", ["sep", "encoding"])
@pytest.mark.parametrize("file", ["t.parquet", "t.xlsx", "t.duckdb"])
def test_keys_of_text_beside_other_files_are_refused(key, file, written, tmp_path):
    (tmp_path / "bank" / file).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=f"{key}: goes with a CSV file, not with {file}. Try: take {key}: out"):
        written({"tables.survey": {"file": file, key: {"sep": ";", "encoding": "utf-8"}[key]}})


def test_a_constant_day_is_written_as_in_bank_yaml_whatever_the_format_of_the_file(written):
    bank = written({"tables.survey.constants": {"wave_on": "2023-06-01"}, "tables.survey.date_format": "%d.%m.%Y",
                    "tolerance_days": "999"})  # fmt: skip
    assert str(bank.scalar(bank.table("survey").wave_on.max())).startswith("2023-06-01")
