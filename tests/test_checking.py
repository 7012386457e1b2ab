"""What is checked across tables and columns: found with counts, refused where it cannot be meant, with a remedy."""

from __future__ import annotations

import re

import pytest

from crmresearch.data.bank import open_bank
from crmresearch.errors import InputError
from test_reading import FACTS

CUSTOMERS = "customer_id,acquired_on,left_on\na,2020-03-10,2021-03-20\nb,2020-06-01,\n"


def written(folder, tables, more, specs):
    """Write tables and a description that says more of the bank, and of its tables."""
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")
    lines = [f"  {name}: {{file: {name}.csv{specs.get(name, '')}}}" for name in tables]
    (folder / "bank.yaml").write_text(f"{FACTS}{more}tables:\n" + "\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """Write tables and a description, and open them."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def opened(tables, more="", **specs):
        return open_bank(written(tmp_path, tables, more, specs))

    opened.folder = tmp_path
    return opened


def remedy(error):
    """Return the line of bank.yaml that a report advises."""
    return re.search(r"declare (\w+: .*?) in bank\.yaml", str(error.value))[1] + "\n"


# --- in time ----------------------------------------------------------------------------------------------------------

# rows of customer a, who came on 2020-03-10 and left on 2021-03-20: header, how a row begins and ends, the day's name
ROWS = {
    "transactions": ("customer_id,occurred_on,amount", "a,{},5", "occurred_on"),
    "monthly": ("customer_id,month,balance,net_interest,fees,service_cost,risk_cost", "a,{},1,1,1,1,1", "month"),
    "contacts": (
        "customer_id,contacted_on,purpose,campaign_id,arm,randomised,channel,cost",
        "a,{},retain,x,call,no,mail,1",
        "contacted_on",
    ),
    "service": ("customer_id,occurred_on,kind,channel", "a,{},question,branch", "occurred_on"),
    "survey": ("customer_id,wave_on,sampled,responded", "a,{},yes,no", "wave_on"),
    "holdings": ("customer_id,product_family,opened_on", "a,card,{}", "opened_on"),
}
WITHIN = {"monthly": ["2020-03-01", "2020-08-01", "2021-03-01"]}
EARLY = {"monthly": ("2020-02-01", "2020-01-01")}
LATE = {"monthly": ("2021-05-01", "2021-10-01")}


@pytest.mark.parametrize("table", ROWS)
@pytest.mark.parametrize("side", ["before acquired_on", "after left_on"])
def test_rows_before_acquisition_or_after_leaving_are_counted_and_the_advised_tolerance_loads(bank, table, side):
    header, row, day = ROWS[table]
    inside = WITHIN.get(table, ["2020-03-10", "2020-08-01", "2021-03-20"])
    days = (
        EARLY.get(table, ("2020-03-09", "2020-01-20"))
        if "before" in side
        else LATE.get(table, ("2021-03-21", "2021-12-01"))
    )
    text = "\n".join([header, *(row.format(d) for d in inside)]) + "\n"
    assert bank({"customers": CUSTOMERS, table: text}).rows(table) == 3
    text += "".join(row.format(d) + "\n" for d in days)
    message = rf"{table}\.{day}: {day} must not be {side} of its customer \(2 rows: 4, 5\)"
    with pytest.raises(InputError, match=message) as error:
        bank({"customers": CUSTOMERS, table: text})
    assert not any(d in str(error.value) for d in days)
    assert bank({"customers": CUSTOMERS, table: text}, remedy(error)).rows(table) == 5


def test_a_holding_closed_after_leaving_is_counted(bank):
    text = (
        "customer_id,product_family,opened_on,closed_on\na,card,2020-03-10,2021-06-01\nb,card,2020-06-01,2021-06-01\n"
    )
    with pytest.raises(InputError, match=r"closed_on must not be after left_on of its customer \(1 row: 1\)") as error:
        bank({"customers": CUSTOMERS, "holdings": text})
    assert bank({"customers": CUSTOMERS, "holdings": text}, remedy(error)).rows("holdings") == 2


@pytest.mark.parametrize(
    ("tolerance", "left"),
    [("30", 2), ("{transactions: 30}", 2), ("{service: 300}", 3), ("5", 3), ("{transactions: 50}", 1), ("60", 0)],
)
def test_a_tolerance_is_declared_for_all_tables_or_by_table(bank, tolerance, left):
    text = "customer_id,occurred_on,amount\na,2021-03-30,1\na,2021-04-29,1\na,2021-05-19,1\nb,2021-05-19,1\n"
    declared = f"tolerance_days: {tolerance}\n"
    if left:
        with pytest.raises(InputError, match=rf"after left_on of its customer \({left} row"):
            bank({"customers": CUSTOMERS, "transactions": text}, declared)
    else:
        assert bank({"customers": CUSTOMERS, "transactions": text}, declared).rows("transactions") == 4


@pytest.mark.parametrize("tolerance", ["-3", "soon", "[1]", "{transaction: 3}", "{transactions: 1.5}"])
def test_a_malformed_tolerance_is_one_line(bank, tolerance):
    with pytest.raises(
        InputError, match=r"tolerance_days must look like this: .*30|names no table 'transaction': did you"
    ):
        bank({"customers": CUSTOMERS}, f"tolerance_days: {tolerance}\n")


@pytest.mark.parametrize(
    ("referrers", "rule"),
    [
        (("a", ""), r"must not be the customer's own \(1 row: 1\)"),
        (("", "c"), r"must occur in customers\.customer_id \(1 row: 2\)"),
        (("b", ""), r"must name a customer acquired no later \(1 row: 1\)"),
        (("", "a"), None),
    ],
)
def test_referrers_are_others_who_were_there_before(bank, referrers, rule):
    text = "customer_id,acquired_on,referrer_id\na,2020-03-10,{}\nb,2020-06-01,{}\n".format(*referrers)
    if rule is None:
        assert bank({"customers": text}).rows("customers") == 2
    else:
        with pytest.raises(InputError, match=rf"customers\.referrer_id: referrer_id {rule}"):
            bank({"customers": text})
