"""A bank described by nothing but a history of statuses: what follows is what its customers, and its spells, give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import poor_banks
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.reductions import base, churn
from crmresearch.studies import churn as studies

FACTS = "currency: EUR\nevidence: simulated\nobservation_start: 2021-01-01\nobservation_end: 2023-12-31\n"
LEFT = ["voluntary", "bank_initiated", "death", "unknown"]


def lives(kind: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Histories of 300 customers, their customers by hand, and the rule by which who came back is counted."""
    rng, rows, people = np.random.default_rng(8), [], []
    for k in range(300):
        who, day = f"c{k}", pd.Timestamp("2015-01-01") + pd.Timedelta(days=int(rng.integers(0, 3200)))
        rows.append((who, day, "active"))
        exits = []
        stays = 1 if kind == "once" else int(rng.integers(1, 4))
        back = True
        for _ in range(stays):
            gone = (day if not exits else rows[-1][1]) + pd.Timedelta(days=int(rng.exponential(1200)) + 1)
            if gone > pd.Timestamp("2023-12-31"):
                break
            cause = LEFT[int(rng.choice(4, p=[0.6, 0.2, 0.1, 0.1]))]
            rows.append((who, gone, cause))
            exits.append((gone, cause))
            again = gone + pd.Timedelta(days=int(rng.integers(1, 200)))
            back = kind != "once" and rng.random() < 0.6 and again <= pd.Timestamp("2023-12-31")
            if not back:
                break
            rows.append((who, again, "active"))
        ended = bool(exits) and not back
        left = exits[-1] if ended else (pd.NaT, None)
        if kind == "first" and exits:
            left = exits[0]
        people.append((who, day, *left))
    if kind == "repeated":  # a status noted again changes nothing
        rows += [(who, day + pd.Timedelta(days=0), status) for who, day, status in rows[::3]]
    history = pd.DataFrame(rows, columns=["customer_id", "since", "status"]).sample(frac=1, random_state=1)
    customers = pd.DataFrame(people, columns=["customer_id", "acquired_on", "left_on", "exit_cause"])
    seen = customers["left_on"].isna() | (customers["left_on"] >= pd.Timestamp("2021-01-01"))
    kept = customers[seen]
    return (
        history[history["customer_id"].isin(kept["customer_id"])],
        kept,
        {"once": "", "repeated": "last"}.get(kind, kind),
    )


def of_files(folder, name: str, table: str, frame: pd.DataFrame, more: str = "") -> Bank:
    folder.mkdir(parents=True)
    frame.to_csv(folder / "t.csv", index=False)
    (folder / "bank.yaml").write_text(f"name: {name}\n{FACTS}tables: {{{table}: {{file: t.csv{more}}}}}\n")
    return open_bank(folder)


@pytest.fixture(params=["once", "first", "last", "repeated"])
def banks(request, tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    history, customers, rule = lives(request.param)
    returns = f", returns: {rule}" if rule else ""
    return (
        of_files(tmp_path / "h", "lives", "history", history, returns),
        of_files(tmp_path / "c", "lives", "customers", customers),
    )


def test_what_follows_from_a_history_is_what_follows_from_its_customers(banks, tmp_path):
    ours, theirs = banks
    columns = ["customer_id", "acquired_on", "observed_from", "left_on", "exit_cause"]
    one, other = (b.frame(b.table("customers")[columns].order_by("customer_id")) for b in (ours, theirs))
    pd.testing.assert_frame_equal(one, other)
    assert theirs.rows("customers") > 150
    for reduction in (base.acquired, base.tenure, base.exits, churn.spells):
        pd.testing.assert_frame_equal(reduction(ours), reduction(theirs))
    # and the spells of the same people, brought as such, give the same curve
    spells = churn.spells(ours)
    rows = spells.loc[spells.index.repeat(spells["n"])].reset_index(drop=True)
    given = rows.rename(columns={"entry": "entry_months", "exit": "exit_months"})
    given = given[["entry_months", "exit_months", "event", "cause"]].assign(
        customer_id=lambda f: [f"s{k}" for k in f.index]
    )
    about = {"name": "spells", "currency": "EUR", "evidence": "simulated", "dated": False}
    undated = Bank.from_frames({"spells": given.assign(event=given["event"] == 1)}, about)
    curves = [studies.retention(churn.spells(b), dated=True).table for b in (ours, undated)]
    pd.testing.assert_frame_equal(*curves)


def test_every_notebook_says_the_same_of_a_history_and_of_its_customers(tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    history, customers, rule = lives("last")
    pair = (
        of_files(tmp_path / "h", "lives", "history", history, f", returns: {rule}"),
        of_files(tmp_path / "c", "lives", "customers", customers),
    )
    rows = [poor_banks.run(bank, tmp_path / f"run{k}") for k, bank in enumerate(pair)]
    for one in rows:
        poor_banks.reasoned(one)
    prints = ["data_fingerprint"]
    pd.testing.assert_frame_equal(rows[0].drop(columns=prints), rows[1].drop(columns=prints))
    told = [
        {
            p.name: p.read_text().replace(rows[k]["data_fingerprint"].iloc[0][:12], "")
            for p in (tmp_path / f"run{k}").rglob("*.csv")
            if p.parent.name == "tables"
        }
        for k in (0, 1)
    ]
    assert {name.partition("_")[0] for name in told[0]} >= {"00", "02"}
    assert any("retention" in name for name in told[0])
    assert told[0] == told[1]
