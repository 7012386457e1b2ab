"""Rules of a bank's own: exits, contribution and segments, each against a count by hand."""

from __future__ import annotations

import datetime
import shutil

import pandas as pd
import pytest

from crmresearch.data.bank import PINNED, Bank, open_bank
from crmresearch.data.contract import ContractError
from crmresearch.data.description import About
from crmresearch.data.reductions import base, churn, cost, value
from crmresearch.data.rules import followed
from crmresearch.errors import InputError

ABOUT = {
    "name": "tiny",
    "currency": "EUR",
    "observation_start": datetime.date(2021, 1, 1),
    "observation_end": datetime.date(2022, 12, 31),
    "evidence": "simulated",
    "tolerance_days": {"contacts": 500},
}
OLD = "2015-06-01"
OFTEN = [f"{year}-{month:02d}-15" for year in (2021, 2022) for month in range(1, 13)]
# a customer's acquisition, closure and transactions; then the exit that six silent months make of them (None: stays,
# "out": not observed), by hand
SILENT = {
    "stays": (OLD, None, OFTEN, None),
    "stops": (OLD, None, [d for d in OFTEN if d <= "2022-06-15"], "2022-06-15"),  # the last that can be told
    "stops later": (OLD, None, [d for d in OFTEN if d <= "2022-07-15"], None),  # cannot be told any more
    "silent at the start": (OLD, None, ["2021-07-01", *OFTEN[7:]], "out"),
    "just heard": (OLD, None, ["2021-06-30", *OFTEN[6:]], None),
    "never": ("2021-02-01", None, [], "2021-02-01"),
    "closes": (OLD, "2021-09-30", OFTEN[:6], "2021-09-30"),
    "closes long after": (OLD, "2022-05-01", OFTEN[:6], "2021-06-15"),
    "closes beyond the end": (OLD, "2022-10-01", OFTEN[:21], None),
    "comes back": (OLD, None, ["2021-01-05", *OFTEN[8:]], "2021-01-05"),
    "a day too late": (OLD, None, ["2021-01-10", "2021-07-11", *OFTEN[7:]], "2021-01-10"),
    "the day before": (OLD, None, ["2021-01-10", "2021-07-10", *OFTEN[7:]], None),
    "came too late": ("2022-08-01", None, OFTEN[20:], "out"),
}
RULE = {"exit_rule": {"without": "transactions", "months": 6}}


def frames() -> dict[str, pd.DataFrame]:
    people = [(k, pd.Timestamp(a), pd.Timestamp(left), left and "voluntary") for k, (a, left, *_) in SILENT.items()]
    customers = pd.DataFrame(people, columns=["customer_id", "acquired_on", "left_on", "exit_cause"])
    customers["tariff"] = [("plus", "basic", "young")[k % 3] for k in range(len(customers))]
    customers["birth_year"] = [1950 + 5 * k for k in range(len(customers))]
    days = [(k, pd.Timestamp(day), 10.0) for k, (_, _, days, _) in SILENT.items() for day in days]
    months = [
        (k, month, 100.0 * (i + 1), 9.0, 4.0, 2.0, 1.0, 3.0, 5.0)
        for i, (k, (since, left, *_)) in enumerate(SILENT.items())
        for month in pd.date_range("2021-01-01", "2022-12-01", freq="MS")
        if pd.Timestamp(since) <= month <= pd.Timestamp(left or "2022-12-31")
    ]
    money = ["balance", "net_interest", "fees", "service_cost", "risk_cost", "allocated_cost", "commission"]
    held = pd.DataFrame({"customer_id": list(SILENT), "product_family": "card", "opened_on": customers["acquired_on"]})
    contact = {
        "purpose": "retain",
        "campaign_id": "k",
        "arm": "a",
        "randomised": False,
        "channel": "letter",
        "cost": 2.0,
    }
    return {
        "customers": customers,
        "holdings": held,
        "monthly": pd.DataFrame(months, columns=["customer_id", "month", *money]),
        "transactions": pd.DataFrame(days, columns=["customer_id", "occurred_on", "amount"]),
        "contacts": held[["customer_id"]].assign(contacted_on=pd.Timestamp("2022-09-01"), **contact),
    }


def bank(**more) -> Bank:
    return Bank.from_frames(frames(), ABOUT | more)


def exits_of(bank: Bank) -> dict[str, str | None]:
    c = bank.frame(bank.table("customers"))
    return {
        k: None if pd.isna(day) else f"{day:%Y-%m-%d}" for k, day in zip(c["customer_id"], c["left_on"], strict=True)
    }


# --- exits -----------------------------------------------------------------------------------------------------------


def test_six_silent_months_are_an_exit_as_by_hand():
    found = bank(**RULE)
    assert found.about.observation_end == datetime.date(2022, 6, 30)
    assert exits_of(found) == {k: exit_on for k, (*_, exit_on) in SILENT.items() if exit_on != "out"}
    causes = found.frame(found.table("customers")).set_index("customer_id")["exit_cause"].dropna()
    assert (causes == "dormant").sum() == 5
    assert causes["closes"] == "voluntary"
    said = found.describe().sentence  # counts below ten are not told
    assert "no transaction for 6 months counts as gone (dormant)" in said
    assert "so do fewer than ten customers" in said
    assert found._meta["_exits"] == {
        "dormant": 5, "closed_later": 1, "came_back": 2, "before": 1, "later": 1, "closed": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("active", "silent", "said"),
    [
        (4, 30, "so do all but fewer than ten customers"),
        (30, 4, "so do fewer than ten customers"),
        (20, 30, "so do 30 customers, of whom 0 closed"),
    ],
)
def test_the_exit_sentence_tells_neither_few_nor_all_but_few(active, silent, said):
    ids = [f"c{k}" for k in range(active + silent)]
    customers = pd.DataFrame({"customer_id": ids, "acquired_on": pd.Timestamp(OLD), "left_on": pd.NaT})
    days = [(i, pd.Timestamp(d), 1.0) for k, i in enumerate(ids) for d in (OFTEN if k < active else OFTEN[:6])]
    moves = pd.DataFrame(days, columns=["customer_id", "occurred_on", "amount"])
    found = Bank.from_frames({"customers": customers, "transactions": moves}, ABOUT | RULE)
    assert found._meta["_exits"]["dormant"] == silent
    assert said in found.describe().sentence


def test_who_stays_is_not_told_by_those_who_left():
    """Thirty silent and twelve closures of 45 would tell that three stay."""
    ids = [f"c{k}" for k in range(45)]
    left = [pd.Timestamp("2021-09-30") if 30 <= k < 42 else pd.NaT for k in range(45)]
    cause = ["voluntary" if 30 <= k < 42 else None for k in range(45)]
    frame = {"customer_id": ids, "acquired_on": pd.Timestamp(OLD), "left_on": left, "exit_cause": cause}
    signs = [OFTEN[:6] if k < 30 else OFTEN[:9] if k < 42 else OFTEN for k in range(45)]
    days = [(i, pd.Timestamp(d), 1.0) for i, often in zip(ids, signs, strict=True) for d in often]
    moves = pd.DataFrame(days, columns=["customer_id", "occurred_on", "amount"])
    found = Bank.from_frames({"customers": pd.DataFrame(frame), "transactions": moves}, ABOUT | RULE)
    assert found._meta["_exits"] | {"dormant": 30, "closed": 12} == found._meta["_exits"]
    assert (
        "All but fewer than ten other" in found.rules()["exit"]
        or "all but fewer than ten other" in found.rules()["exit"]
    )


def test_nothing_after_an_exit_or_the_end_is_left():
    found = bank(**RULE)
    gone = {k: pd.Timestamp(day or "2022-06-30") for k, day in exits_of(found).items()}
    for table, day in (("transactions", "occurred_on"), ("monthly", "month"), ("holdings", "closed_on")):
        rows = found.frame(found.table(table))
        assert set(rows["customer_id"]) <= set(gone)
        assert not (rows[day] > rows["customer_id"].map(gone)).any()
        assert found.rows(table) == len(rows)
    assert found.rows("contacts") == 0  # all of them in September 2022
    assert base.contract_breaches(found)["breaches"].sum() == 0


def test_the_rule_reaches_every_reduction():
    before, after = bank(), bank(**RULE)
    assert base.exits(before)["exits"].sum() == 3
    by_cause = base.exits(after).groupby("cause")["exits"].sum()
    assert by_cause.to_dict() == {"dormant": 5, "voluntary": 1}
    spells = churn.spells(after)
    assert spells["event"].mul(spells["n"]).sum() == 6
    stays = spells[spells["event"] == 0]["exit"].max()
    assert stays == 85  # June 2015 to June 2022, both counted; 91 to December 2022 without the rule
    assert churn.spells(before)["exit"].max() == 91
    assert value.tenure_margin(after)["exits"].sum() > value.tenure_margin(before)["exits"].sum()


@pytest.mark.parametrize(
    ("end", "months", "expected"),
    [
        ("2022-12-31", 6, "2022-06-30"),
        ("2024-06-30", 6, "2023-12-31"),  # a month's last day stays one
        ("2024-08-31", 6, "2024-02-29"),
        ("2022-12-09", 3, "2022-09-09"),
        ("2023-03-30", 1, "2023-02-27"),  # a month from 28 February ends on 27 March
    ],
)
def test_the_observation_ends_as_many_months_earlier(end, months, expected):
    rule = {"exit_rule": {"without": "transactions", "months": months}}
    about = About.of(ABOUT | rule | {"observation_end": datetime.date.fromisoformat(end)})
    assert followed(about).observation_end.isoformat() == expected


def test_a_balance_below_the_limit_is_an_exit_as_by_hand():
    tables = frames()
    m = tables["monthly"]
    low = {"stays": "2022-03-01", "stops": "2021-05-01", "just heard": "2022-11-01"}  # first month below 50
    for who, since in low.items():
        m.loc[(m["customer_id"] == who) & (m["month"] >= since), "balance"] = 49.99
    m.loc[(m["customer_id"] == "stops") & (m["month"] == "2021-07-01"), "balance"] = 50.0  # after two months only
    found = Bank.from_frames(tables, ABOUT | {"exit_rule": {"balance_below": 50, "months": 3}})
    assert found.about.observation_end == datetime.date(2022, 9, 30)
    exits = exits_of(found)
    assert exits["stays"] == "2022-02-28"
    assert exits["stops"] == "2021-07-31"
    assert exits["just heard"] is None  # two months below are no three
    assert exits["closes"] == "2021-09-30"


# --- contribution and segments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["net_interest", "fees", "-service_cost", "-risk_cost"], 10.0),
        (["net_interest", "fees", "-service_cost"], 11.0),
        (["net_interest", "fees", "-service_cost", "-risk_cost", "-allocated_cost"], 7.0),
        (["fees", "commission"], 9.0),
        (["-allocated_cost", "net_interest"], 6.0),
    ],
)
def test_what_counts_as_contribution_is_added_up_everywhere(columns, expected):
    found = bank(contribution=columns)
    year = value.contribution(found, months=12).set_index("customer_id")
    assert year.loc["stays", "contribution"] == 12 * expected
    assert ("fully_loaded" in year) is ("-allocated_cost" not in columns)
    if "fully_loaded" in year:
        assert year.loc["stays", "fully_loaded"] == 12 * (expected - 3)
    months = len(frames()["monthly"])
    assert value.tenure_margin(found)["contribution"].sum() == months * expected
    assert base.explained(found)["contribution"].max() == 12 * expected
    upkeep = cost.upkeep(found)
    assert upkeep["contribution"].sum() == pytest.approx(months * expected)
    assert upkeep["service_cost"].sum() == pytest.approx(months * 2.0 * ("-service_cost" in columns))


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("tariff", {"plus": 5, "basic": 4, "young": 4}),
        ({"birth_year": [1960, 1990]}, {"1: below 1960": 2, "2: 1960 to 1990": 6, "3: 1990 and more": 5}),
        ({"birth_year": [1975]}, {"1: below 1975": 5, "2: 1975 and more": 8}),
    ],
)
def test_own_segments_stand_where_city_tiers_do(tier, expected):
    found = bank(segments={"tier": tier})
    assert base.tiers(found).set_index("segment")["n"].to_dict() == expected
    groups = churn.groups_of(found)
    assert "segment" in groups
    assert "city_tier" not in groups
    spells = churn.spells(found, groups=groups)
    assert set(spells["segment"]) == set(expected)
    upkeep = cost.upkeep(found, by="segment")
    assert set(upkeep["segment"]) == set(expected)


def test_own_bands_stand_where_thirds_of_the_balance_do():
    found = bank(segments={"band": [250, 1000]})
    spells = churn.spells(found, groups=("value_band",))
    counts = spells.groupby("value_band")["n"].sum().to_dict()
    assert counts == {"1: below 250": 2, "2: 250 to 1000": 7, "3: 1000 and more": 4}  # 100, 200, … 1,300


# --- what is declared ------------------------------------------------------------------------------------------------

RULES = {
    "exit": "exit_rule: {balance_below: 1000, months: 3}",
    "contribution": "contribution: [net_interest, fees]",
    "segments": "segments: {tier: {birth_year: [1970]}, band: [1000]}",
    "survey model": "paths: [[loyalty, satisfaction]]",
}


def written(example, folder, line=""):
    shutil.copytree(example, folder)
    text = (folder / "bank.yaml").read_text()
    if line.startswith("paths"):
        text = text.replace("paths: [[satisfaction, loyalty]]", "")
    (folder / "bank.yaml").write_text(f"{text}\n{line}\n")
    return open_bank(folder)


def test_every_rule_is_part_of_the_fingerprint_and_stands_in_words(example, tmp_path):
    plain = written(example, tmp_path / "plain")
    prints = {plain.engine.fingerprint()}
    for name, line in RULES.items():
        found = written(example, tmp_path / name.replace(" ", "-"), line)
        prints.add(found.engine.fingerprint())
        changed = [k for k, text in found.rules().items() if text != plain.rules()[k]]
        assert changed == [name]
    assert len(prints) == 1 + len(RULES)
    assert plain.rules() == {
        "exit": "whoever closed the relationship has left, on the day of closing",
        "contribution": "net interest + fees − service cost − risk cost",
        "segments": "city tiers; value bands are thirds by the first balance",
        "survey model": "satisfaction from sat1, sat2; loyalty from loy1, loy2; satisfaction → loyalty",
    }


@pytest.mark.parametrize("name", RULES)
def test_a_kernel_reads_the_bank_of_its_run_by_the_same_rules(name, example, tmp_path, monkeypatch):
    found = written(example, tmp_path / "bank", RULES[name])
    monkeypatch.setenv(PINNED, str(found.engine.path))
    again = open_bank("example")
    assert again.about == found.about
    assert again.rules() == found.rules()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("exit_rule: {without: logins, months: 6}", "exit_rule must look like this"),
        ("exit_rule: {without: transactions}", "exit_rule must look like this"),
        ("exit_rule: {balance_below: much, months: 6}", "exit_rule must look like this"),
        ("exit_rule: {balance_below: 5, months: 0}", "exit_rule must look like this"),
        ("exit_rule: {without: transactions, months: 6}", "exit_rule needs this table"),
        ("exit_rule: {balance_below: 5, months: 24}", "no observation is left 24 months before it ends"),
        ("contribution: [fees, fees]", "contribution must look like this"),
        ("contribution: [fees, -servicecost]", "did you mean 'service_cost'"),
        ("segments: {tier: birthyear}", "did you mean 'birth_year'"),
        ("segments: {tier: birth_year}", "too many for segments"),
        ("segments: {tier: {acquisition_channel: [3]}}", "cut points need a column of numbers"),
        ("segments: {band: [5, 3]}", "cut points of segments must rise"),
        ("segments: {tiers: tariff}", "segments must look like this"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(example, tmp_path, line, said):
    with pytest.raises((InputError, ContractError), match=said):
        written(example, tmp_path / "bank", line)
