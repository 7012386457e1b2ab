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
from crmresearch.data.loading import made_missing
from crmresearch.data.reductions import base, cost, loyalty, value
from crmresearch.data.sources.names import find
from crmresearch.errors import InputError, Missing
from crmresearch.run.cli import app
from test_reading import CUSTOMERS, SURVEY, UNDATED, column

bank = test_reading.bank


def said(folder):
    """What ``bank check`` says of the bank in a folder."""
    result = CliRunner().invoke(app, ["bank", "check", str(folder)])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())  # long lines are wrapped


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


# --- statuses become customers ----------------------------------------------------------------------------------------

HISTORY = (
    "id,at,status\na,2020-01-05,A\na,2020-06-01,A\na,2021-03-04,C\nb,2020-02-01,P\nb,2020-02-10,A\nc,2020-03-01,P\n"
)
BOTH = {"a": ("2020-01-05", "2021-03-04", "voluntary"), "b": ("2020-02-10", "", "")}  # lives of those in it
AGAIN = (
    HISTORY
    + "d,2020-01-01,A\nd,2020-05-01,C\nd,2020-09-01,A\nd,2021-02-01,D\ne,2020-01-01,A\ne,2020-04-01,D\ne,2020-06-01,A\n"
)
MEANS = "columns: {customer_id: id, since: at}, recode: {status: {A: active, P: dormant, C: voluntary, D: death}}"


def lives(bank):
    """Days and causes of customers, by id."""
    frame = bank.frame("SELECT customer_id, acquired_on, left_on, exit_cause FROM customers")
    text = frame.astype(str).replace({"NaT": "", "None": ""})
    return {row[0]: row[1:] for row in text.itertuples(index=False, name=None)}


@pytest.mark.parametrize(
    ("text", "returns", "expected"),
    [
        (HISTORY, "", BOTH),
        (
            AGAIN,
            ", returns: first",
            BOTH | {"d": ("2020-01-01", "2020-05-01", "voluntary"), "e": ("2020-01-01", "2020-04-01", "death")},
        ),
        (AGAIN, ", returns: last", BOTH | {"d": ("2020-01-01", "2021-02-01", "death"), "e": ("2020-01-01", "", "")}),
    ],
)
def test_a_history_of_statuses_gives_customers(bank, text, returns, expected):
    found = bank(f"history: {{file: h.csv, {MEANS}{returns}}}", h__csv=text)
    assert lives(found) == expected
    assert found.tables == ("customers",)
    assert set(found.columns("customers")) == {"customer_id", "acquired_on", "left_on", "exit_cause"}
    assert column(found, "customers", "observed_from")[0] == pd.Timestamp(2020, 1, 5 if "a" in expected else 1)
    line = said(bank.folder)
    assert "customers: acquired_on, left_on, exit_cause are those of history" in line
    assert "<10 were never active and are left out" in line
    assert ("<10 came back after leaving" in line) == bool(returns)
    made = "; ".join(found.made("customers"))
    assert "1 were never active" in made
    assert ("2 came back" in made) == bool(returns)


@pytest.mark.parametrize("rule", ["first", "last"])
def test_returns_need_a_declared_rule(bank, rule):
    with pytest.raises(InputError, match=r"history\.status: customers come back after leaving \(2 rows\)") as error:
        bank(f"history: {{file: h.csv, {MEANS}}}", h__csv=AGAIN)
    assert f"returns: {rule}" in str(error.value).replace("or last", "returns: last")
    assert bank(f"history: {{file: h.csv, {MEANS}, returns: {rule}}}").rows("customers") == 4


@pytest.mark.parametrize("born", ["1950", "", "1990"])
def test_a_history_completes_customers_that_are_brought(bank, born):
    files = {"h__csv": HISTORY.replace("c,2020-03-01,P\n", ""), "c__csv": f"customer_id,birth_year\nb,{born}\na,1960\n"}
    found = bank(f"customers: c.csv\n  history: {{file: h.csv, {MEANS}}}", **files)
    assert column(found, "customers", "customer_id") == ["b", "a"]
    assert column(found, "customers", "left_on") == [None, pd.Timestamp(2021, 3, 4)]
    assert column(found, "customers", "observed_from")[0] == pd.Timestamp(2020, 2, 10)
    assert column(found, "customers", "birth_year") == [int(born) if born else None, 1960]


@pytest.mark.parametrize(
    ("tables", "text", "message"),
    [
        ("", HISTORY + "a,2020-06-01,C\n", r"history\.status: a customer has two statuses on one day \(1 row\)"),
        ("", HISTORY.replace("P", "X"), r"history\.status: status holds values without a recoding \(2 rows: 4, 6\)"),
        (
            "customers: c.csv\n  ",
            HISTORY[:-15],
            r"customers\.acquired_on: comes from history too.*drop: \[acquired_on\]",
        ),
        (
            "customers: {file: c.csv, drop: [acquired_on, left_on]}\n  ",
            HISTORY,
            r"history\.customer_id: .*occur in customers.*\(1 row\)",
        ),
    ],
)
def test_a_history_that_says_two_things_is_refused(bank, tables, text, message):
    with pytest.raises(InputError, match=message):
        bank(f"{tables}history: {{file: h.csv, {MEANS}}}", h__csv=text, c__csv=CUSTOMERS)


# --- several ids of one person ----------------------------------------------------------------------------------------

SAME = "same_as: {file: l.csv, columns: {customer_id: old, same_as: kept}}"
PEOPLE = """customer_id,acquired_on,left_on,birth_year,city_id,consent_marketing,referrer_id
a,2020-05-13,2021-01-01,1950,x,yes,
b,2020-03-01,,1950,y,no,
c,2020-04-01,2021-02-01,,x,yes,b
d,2020-04-01,2020-12-31,1980,z,yes,c
e,2020-06-01,,1990,,not recorded,a
"""
MONTHS = (
    "customer_id,month,balance,fees\na,2020-06-01,1.10,1\nb,2020-06-01,2.20,2\nb,2020-07-01,3,3\ne,2020-06-01,9,9\n"
)


@pytest.mark.parametrize(
    ("links", "ids", "first", "left"),
    [
        ("a,b", ["b", "c", "d", "e"], "2020-03-01", None),
        ("a,b\nb,c\nc,d", ["d", "e"], "2020-03-01", None),
        ("c,d\na,d", ["d", "b", "e"], "2020-04-01", "2021-02-01"),
        ("a,a\nd,c", ["a", "b", "c", "e"], "2020-04-01", "2021-02-01"),
        ("a,new\nd,new", ["new", "b", "c", "e"], "2020-04-01", "2021-01-01"),
    ],
)
def test_ids_of_one_person_are_one_customer_everywhere(bank, links, ids, first, left):
    tables = "customers: c.csv\n  monthly: m.csv\n  " + SAME
    found = bank(tables, c__csv=PEOPLE, m__csv=MONTHS, l__csv="old,kept\n" + links + "\n")
    assert column(found, "customers", "customer_id") == ids
    rows = found.frame("SELECT * FROM customers").set_index("customer_id")
    merged = rows.loc[links[-1] if "new" not in links else "new"]
    assert merged["acquired_on"] == pd.Timestamp(first)
    assert (merged["left_on"] == pd.Timestamp(left)) if left else pd.isna(merged["left_on"])
    assert (merged["exit_cause"] == "unknown") == bool(left)
    assert found.frame("SELECT sum(balance) AS s FROM monthly")["s"].tolist() == [15.3]
    assert set(column(found, "monthly", "customer_id")) <= set(ids)
    assert "by same_as" in said(bank.folder)


def test_what_ids_disagree_in_is_counted_and_the_kept_one_holds(bank):
    tables = "customers: c.csv\n  monthly: m.csv\n  " + SAME
    found = bank(tables, c__csv=PEOPLE, m__csv=MONTHS, l__csv="old,kept\na,b\nc,d\n")
    rows = found.frame("SELECT * FROM customers").set_index("customer_id")
    assert rows.loc["b", ["city_id", "birth_year", "consent_marketing"]].tolist() == ["y", 1950, "no"]
    assert rows.loc["d", ["city_id", "birth_year", "referrer_id"]].tolist() == ["z", 1980, "b"]
    assert rows.loc["e", "referrer_id"] == "b"
    assert found.made("customers")[-1].startswith("4 ids are 2 customers by same_as; ids differ in city_id (2), and")
    assert found.made("monthly")[-1] == "1 rows are added to others of the same customer and month"
    line = said(bank.folder)
    assert "customers: <10 ids are <10 customers by same_as; ids differ in city_id (<10), and the kept" in line
    assert "monthly: <10 rows are added to others" in line
    assert found.frame("SELECT balance FROM monthly")["balance"].tolist() == [3.3, 3.0, 9.0]


@pytest.mark.parametrize(("links", "n"), [("a,b\nb,a", 2), ("e,a\na,b\nb,c\nc,a", 4), ("e,d\na,b\nb,c\nc,b", 3)])
def test_circles_of_ids_are_refused_and_counted(bank, links, n):
    tables = "customers: c.csv\n  " + SAME
    with pytest.raises(InputError, match=rf"same_as\.same_as: ids lead back to themselves \({n} rows\)"):
        bank(tables, c__csv=PEOPLE, l__csv="old,kept\n" + links + "\n")
    broken = links.rpartition("\n")[0]  # leave out one link of the circle
    assert bank(tables, l__csv="old,kept\n" + broken + "\n").rows("customers") < 5


def test_an_id_of_two_persons_and_months_that_are_there_twice_are_refused(bank):
    tables = "customers: c.csv\n  monthly: m.csv\n  " + SAME
    with pytest.raises(InputError, match=r"same_as\.customer_id: customer_id must be unique \(1 row: 2\)"):
        bank(tables, c__csv=PEOPLE, m__csv=MONTHS, l__csv="old,kept\na,b\na,c\n")
    with pytest.raises(InputError, match=r"monthly\.customer_id: customer_id \+ month must be unique \(1 row\)"):
        bank(tables, m__csv=MONTHS + "e,2020-06-01,9,9\n", l__csv="old,kept\na,b\n")
    with pytest.raises(InputError, match=r"customers\.customer_id: customer_id must be unique \(1 row\)"):
        bank(tables, c__csv=PEOPLE + "e,2020-06-01,,1990,,yes,\n", m__csv=MONTHS)


def test_codes_of_the_tables_of_steps_are_counted(bank):
    bank(f"history: {{file: h.csv, missing: [N], {MEANS}}}", h__csv=HISTORY)
    assert made_missing(find(bank.folder)) == {"history": {}}


# --- accounts of several owners ---------------------------------------------------------------------------------------

OWNERS = "account_id,customer_id,share\n1,a,0.5\n1,b,0.5\n2,b,1\n3,a,0.2\n3,b,0.3\n3,e,0.5\n"


@pytest.fixture
def accounts(bank):
    """Open a bank of accounts with their owners."""

    def opened(owners=OWNERS, **files):
        tables = ["customers: c.csv", "owners: o.csv", *(f"{name}: {name}.csv" for name in files)]
        texts = {f"{name}__csv": text for name, text in files.items()}
        return bank("\n  ".join(tables), c__csv=PEOPLE, o__csv=owners, **texts)

    return opened


@pytest.mark.parametrize("owners", [OWNERS, OWNERS.replace("0.5\n2", "0.5\n2").replace("0.3", "0.295"), "equal"])
@pytest.mark.parametrize("cents", [1, 2, 3333, -101, 999_999_999_999_999])
def test_amounts_of_an_account_are_shared_to_the_cent(accounts, owners, cents):
    if owners == "equal":
        owners = "\n".join(line.rpartition(",")[0] for line in OWNERS.splitlines())
    amount = f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"
    rows = "".join(f"{k},2020-06-0{k},{amount}\n" for k in (1, 2, 3))
    found = accounts(owners, transactions="account_id,occurred_on,amount\n" + rows)
    frame = found.engine.run(
        "SELECT occurred_on, count(*), sum(amount) FROM transactions GROUP BY occurred_on ORDER BY occurred_on"
    )
    assert [r[1] for r in frame] == [2, 1, 3]
    assert [int(r[2] * 100) for r in frame] == [cents] * 3
    halves = found.engine.run(
        "SELECT amount FROM transactions WHERE occurred_on = DATE '2020-06-01' ORDER BY customer_id"
    )
    assert abs(halves[0][0] - halves[1][0]) * 100 <= 1


def test_months_of_accounts_become_months_of_customers(accounts, bank):
    text = "account_id,month,balance\n1,2020-06-01,10.01\n2,2020-06-01,5\n3,2020-06-01,100\n3,2020-07-01,1\n"
    found = accounts(
        monthly=text, holdings="account_id,product_family,opened_on\n1,loan,2020-06-01\n2,card,2020-07-01\n"
    )
    frame = found.frame("SELECT customer_id, month, balance FROM monthly ORDER BY month, customer_id")
    assert frame["customer_id"].tolist() == ["a", "b", "e", "a", "b", "e"]
    assert frame["balance"].tolist() == [25.01, 40.0, 50.0, 0.2, 0.3, 0.5]
    assert column(found, "holdings", "customer_id") == ["a", "b", "b"]
    for table, n in (("monthly", 3), ("holdings", 1)):
        assert f"{n} rows of joint accounts are shared out to their owners" in found.made(table)
        assert f"{table}: <10 rows of joint accounts are shared out to their owners" in said(bank.folder)


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        (OWNERS.replace("3,e,0.5", "3,e,0.4"), r"owners\.share: the shares of an account must add up to 1 \(1 row\)"),
        (
            OWNERS.replace("2,b,1\n", ""),
            r"transactions\.account_id: account_id must occur in owners\.account_id \(1 row\)",
        ),
        (OWNERS.replace("2,b,1", "2,b,"), r"owners\.share: share must not be missing \(1 row: 3\)"),
        (OWNERS.replace("2,b,1", "2,zz,1"), r"transactions\.customer_id: customer_id must occur in customers"),
        ("1,a,1\n".join(["account_id,customer_id,share\n", "3,a,1\n"]), r"account_id must occur in owners.* \(1 row\)"),
        (OWNERS + "2,b,1\n", r"owners\.account_id: account_id \+ customer_id must be unique \(1 row: 7\)"),
    ],
)
def test_owners_that_do_not_fit_are_refused(accounts, owners, message):
    text = "account_id,occurred_on,amount\n1,2020-06-01,1\n2,2020-06-01,1\n"
    with pytest.raises(InputError, match=message):
        accounts(owners, transactions=text)
    with pytest.raises(InputError, match=r"transactions\.account_id: account_id must occur in owners.* \(1 row\)"):
        accounts(transactions=text + ",2020-06-01,1\n")


def test_owners_without_accounts_are_refused(accounts):
    text = "customer_id,occurred_on,amount\na,2020-06-01,1\n"
    with pytest.raises(
        InputError, match=r"owners\.account_id: no table brings accounts.*columns: \{account_id: theirs\}"
    ):
        accounts(transactions=text)


def test_one_person_who_owns_an_account_twice_owns_it_once(bank):
    tables = "customers: c.csv\n  owners: o.csv\n  transactions: t.csv\n  " + SAME
    text = "account_id,occurred_on,amount\n1,2020-06-01,1\n3,2020-06-01,1\n"
    found = bank(tables, c__csv=PEOPLE, o__csv=OWNERS, l__csv="old,kept\na,b\n", t__csv=text)
    assert column(found, "transactions", "customer_id") == ["b", "b", "e"]
    assert column(found, "transactions", "amount") == [1, 0.5, 0.5]


def test_the_readme_s_example_of_other_shapes_loads(bank):
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text("utf-8")
    [block] = [b for b in text.split("```") if b.startswith("yaml\n  history:")]
    files = {
        "status__csv": "nr,date,status\na,2020-01-05,A\na,2021-03-04,C\nb,2020-02-01,A\nold,2020-01-01,A\n",
        "links__csv": "old,new\nold,b\n",
        "owners__csv": "account,client\n1,a\n1,old\n",
        "balances__csv": "account,month,saldo\n1,2020-06-01,10.01\n",
    }
    found = bank(block.removeprefix("yaml\n  "), **files)
    assert column(found, "customers", "acquired_on") == [pd.Timestamp(2020, 1, 5), pd.Timestamp(2020, 1, 1)]
    assert sorted(column(found, "monthly", "balance")) == [5.0, 5.01]


def test_the_readme_s_formulas_load(bank):
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text("utf-8")
    formulas = " ".join(text.partition("**Formulas.** `")[2].partition("` computes")[0].split())
    line = f"snapshot: {{file: s.csv, {formulas}}}"
    found = bank(line, s__csv="customer_id,quarters,year,month,status\na,2,2020,5,closed\n")
    assert column(found, "snapshot", "exit_months") == [6]
    assert column(found, "snapshot", "acquired_on") == [pd.Timestamp(2020, 5, 1)]
    assert column(found, "snapshot", "event") == [1]
