"""Loads one after the other: the same as all at once, a file twice, bad files, what is refused."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from crmresearch import ledger
from crmresearch.data.bank import open_bank
from crmresearch.data.contract import ContractError
from crmresearch.errors import InputError
from crmresearch.lab import simulated
from crmresearch.run import batch, cli, replay
from crmresearch.run.replay import Arrivals

SETTINGS = simulated.Settings(120, 60, 2, "wider")
TABLES = ["customers", "monthly", "transactions"]
FACTS = {
    "name": "arriving", "title": "A bank as it came", "currency": "EUR", "evidence": "simulated", "licence": "none",
    "citation": "none", "observation_start": "2021-01-01", "observation_end": "2025-12-31",
}  # fmt: skip


def parts():
    """Tables by the month in which their rows came: customers and their statuses, months, transactions."""
    frames = simulated.frames(SETTINGS, TABLES)
    people = frames["customers"]
    came = people["acquired_on"].clip(lower=pd.Timestamp("2021-01-01"))
    status = pd.concat([
        people[["customer_id"]].assign(since=people["acquired_on"], status="active", came=came),
        people.loc[people["left_on"].notna(), ["customer_id"]].assign(
            since=people["left_on"], status=people["exit_cause"], came=people["left_on"]
        ),
    ])  # fmt: skip
    trait = people[["customer_id", "birth_year", "consent_marketing"]].assign(came=came)
    monthly = frames["monthly"][
        ["customer_id", "month", "balance", "net_interest", "fees", "service_cost", "risk_cost"]
    ]
    moved = frames["transactions"][["customer_id", "occurred_on", "amount"]]
    by = {"customers": trait, "history": status, "monthly": monthly.assign(came=monthly["month"]),
          "transactions": moved.assign(came=moved["occurred_on"])}  # fmt: skip
    return {name: frame.sort_values("came", kind="stable") for name, frame in by.items()}


@pytest.fixture(scope="module")
def arriving(tmp_path_factory):
    """A bank in sixty monthly files a table, and the same in one file a table."""
    folder = tmp_path_factory.mktemp("arriving")
    for name, frame in parts().items():
        whole = frame.drop(columns="came")
        (folder / "whole").mkdir(exist_ok=True)
        (folder / "monthly" / name).mkdir(parents=True, exist_ok=True)
        whole.to_csv(folder / "whole" / f"{name}.csv", index=False)
        for month, own in whole.groupby(frame["came"].dt.strftime("%Y-%m")):
            own.to_csv(folder / "monthly" / name / f"{name}-{month}.csv", index=False)
    for kind, end in (("whole", ".csv"), ("monthly", "/")):
        tables = {name: f"{name}{end}" for name in ("customers", "monthly", "transactions")}
        tables |= {"history": {"file": f"history{end}", "returns": "first"}}
        (folder / kind / "bank.yaml").write_text(yaml.safe_dump(FACTS | {"tables": tables}), "utf-8")
    return folder


@pytest.fixture
def runs(monkeypatch):
    """Runs that are asked for, with the bank as it is then, instead of notebooks."""
    asked = []

    def run(bank, *, out, since=None, from_dir=None, **_):
        opened = open_bank(bank, from_dir)
        asked.append((out.name, opened.about.observation_end, {t: opened.rows(t) for t in opened.tables}, since))
        prints = {"data": opened.engine.fingerprint(), "notebooks": {}}
        ledger.write_json(out / "run.json", {"fingerprints": prints, "parameters": {}, "bank": {"name": "arriving"}})
        ledger.merge(out)
        return batch.Outcome(out, {"status": "completed"})

    monkeypatch.setattr(batch, "run", run)
    return asked


@pytest.fixture
def bank(arriving, tmp_path):
    """The first two years of the bank of monthly files, for a test to spoil, and the rows of its tables."""
    shutil.copytree(arriving / "monthly", tmp_path / "bank")
    for path in (tmp_path / "bank").rglob("*-202[345]-*.csv"):
        path.unlink()
    about = tmp_path / "bank" / "bank.yaml"
    about.write_text(about.read_text("utf-8").replace("2025-12-31", "2022-12-31"), "utf-8")
    opened = open_bank(tmp_path / "bank")
    return tmp_path / "bank", {t: opened.rows(t) for t in opened.tables}


# --- the same as one load ---------------------------------------------------------------------------------------------


def test_sixty_loads_are_one_load_in_every_table(arriving, tmp_path, runs):
    done = replay.replay(arriving / "monthly", tmp_path / "out")
    assert [label for label, *_ in runs] == [f"202{k}-12-31" for k in range(1, 6)]
    assert done.aside == {}
    assert done.again == []
    loaded, at_once = (open_bank(arriving / kind) for kind in ("monthly", "whole"))
    for table in at_once.tables:
        one, other = (b.frame(b.table(table)) for b in (loaded, at_once))
        order = [c for c in ("customer_id", "month", "occurred_on", "amount") if c in one]
        texts = [f.sort_values(order, kind="stable").to_csv(index=False).encode() for f in (one, other)]
        assert texts[0] == texts[1], table
    agreed = set(parts()["customers"].query("consent_marketing == 'yes'")["customer_id"])
    for label, *_ in runs:
        path = tmp_path / "out" / "restricted" / f"actions-{label}.csv"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert set(pd.read_csv(path)["customer_id"]) <= agreed
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    grown = [rows["monthly"] for _, _, rows, _ in runs]
    assert grown == sorted(grown)
    assert grown[-1] == loaded.rows("monthly")
    assert [end.isoformat() for _, end, _, _ in runs] == [label for label, *_ in runs]
    assert [since and since.name for *_, since in runs] == [None, *[label for label, *_ in runs[:-1]]]


def test_sixty_loads_give_the_ledger_of_one_load_to_the_byte(arriving, tmp_path):
    ways = {"studies": ["00"], "site": False}
    done = replay.replay(arriving / "monthly", tmp_path / "out", every=60, **ways)
    [last] = done.outcomes.values()
    for kind in ("monthly", "whole"):
        one = batch.run(str(arriving / kind), out=tmp_path / kind, **ways)
        files = ["ledger.csv", "claims.csv", *(f"tables/{p.name}" for p in (one.folder / "tables").iterdir())]
        assert len(files) > 5
        state = ledger.read(one.folder)["data_fingerprint"].max().encode()
        now = ledger.read(last.folder)["data_fingerprint"].max().encode()
        for name in files:
            theirs = (one.folder / name).read_bytes().replace(state, now)
            assert (last.folder / name).read_bytes() == theirs, (kind, name)


# --- what arrives twice, or broken ------------------------------------------------------------------------------------


def test_the_same_file_twice_changes_nothing(bank, tmp_path, runs):
    folder, rows = bank
    for table, month, again in (("monthly", "2022-03", "2022-04-b"), ("transactions", "2021-05", "2022-11-b")):
        (folder / table / f"{table}-{again}.csv").write_bytes((folder / table / f"{table}-{month}.csv").read_bytes())
    done = replay.replay(folder, tmp_path / "out")
    assert done.again == ["monthly-2022-04-b.csv", "transactions-2022-11-b.csv"]
    assert done.aside == {}
    assert runs[-1][2] == rows


@pytest.mark.parametrize(
    ("table", "month", "spoil", "said"),
    [
        ("monthly", "2022-06", lambda text: text.replace("2022-06-01", "2022-06-32"), "month must be"),
        ("transactions", "2021-02", lambda text: text.replace("2021-02", "2032-02"), "occurred_on"),
        ("monthly", "2022-01", lambda text: text + text.splitlines()[1] + "\n", "must be unique"),
        ("transactions", "2022-07", lambda text: "", "empty"),
    ],
)
def test_a_bad_file_is_set_aside_with_its_report_and_the_rest_goes_on(bank, tmp_path, runs, table, month, spoil, said):
    folder, rows = bank
    path = folder / table / f"{table}-{month}.csv"
    lost = len(path.read_text("utf-8").splitlines()) - 1
    path.write_text(spoil(path.read_text("utf-8")), "utf-8")
    done = replay.replay(folder, tmp_path / "out", every=6)
    assert list(done.aside) == [path.name]
    assert said in done.aside[path.name]
    assert runs[-1][2] == {t: n - lost * (t == table) for t, n in rows.items()}
    assert json.loads((tmp_path / "out" / "replay.json").read_text("utf-8"))["aside"] == done.aside
    assert len(runs) == 4


def test_what_moved_is_said_and_a_file_set_aside_is_no_success(bank, tmp_path, runs, monkeypatch, capsys):
    folder, _ = bank
    (folder / "monthly" / "monthly-2022-06.csv").write_text("month\nx\n", "utf-8")
    words, table = iter(["undecided", "supported", "supported", "refuted"]), ledger.table

    def changing(sources, *args, **kwargs):
        frame = table(sources, *args, **kwargs)
        frame.loc[frame["line_id"] == "S40", "verdict"] = next(words)
        return frame

    monkeypatch.setattr(ledger, "table", changing)
    asked = ["crmresearch", "replay", "--bank", str(folder), "--out", str(tmp_path / "out"), "--every", "6"]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert "2021-12-31: 1 verdicts moved\n  S40: undecided -> supported" in said.out
    assert "2022-06-30: 0 verdicts moved" in said.out
    assert "set aside: monthly-2022-06.csv: bank 'arriving' was not loaded" in said.err
    moved = pd.read_csv(tmp_path / "out" / "moved.csv")
    assert moved[["line", "until"]].to_numpy().tolist() == [["S40", "2021-12-31"], ["S40", "2022-12-31"]]


def test_by_day_each_day_is_a_load(tmp_path, runs):
    (tmp_path / "bank" / "transactions").mkdir(parents=True)
    customers = "customer_id,acquired_on\n" + "".join(f"c{k},2021-01-01\n" for k in range(12))
    (tmp_path / "bank" / "customers.csv").write_text(customers, "utf-8")
    for day in ("2021-02-03", "2021-02-04", "20210301"):
        text = f"customer_id,occurred_on,amount\nc1,{day if '-' in day else '2021-03-01'},5.00\n"
        (tmp_path / "bank" / "transactions" / f"t{day}.csv").write_text(text, "utf-8")
    facts = FACTS | {
        "observation_end": "2021-03-31",
        "tables": {"customers": "customers.csv", "transactions": "transactions/"},
    }
    (tmp_path / "bank" / "bank.yaml").write_text(yaml.safe_dump(facts), "utf-8")
    replay.replay(tmp_path / "bank", tmp_path / "days", by="day", every=1)
    assert [(label, rows["transactions"]) for label, _, rows, _ in runs] == [
        ("2021-02-03", 1), ("2021-02-04", 2), ("2021-03-31", 3)
    ]  # fmt: skip
    runs.clear()
    replay.replay(tmp_path / "bank", tmp_path / "months", every=1)
    assert [(label, rows["transactions"]) for label, _, rows, _ in runs] == [("2021-02-28", 2), ("2021-03-31", 3)]


# --- what must not leave ----------------------------------------------------------------------------------------------


def test_what_a_replay_leaves_tells_no_place_of_the_machine_and_nobody(bank, tmp_path, runs):
    folder, _ = bank
    (folder / "monthly" / "monthly-2022-06.csv").write_text("month\nx\n", "utf-8")
    assert replay.replay(folder, tmp_path / "out").report.breaches == []
    assert not (tmp_path / "out" / "state").exists()
    left = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(left) > 4
    assert [p for p in left if str(tmp_path).encode() in p.read_bytes()] == []


def test_a_replay_is_looked_through_for_the_bank_s_people_and_places(bank, tmp_path, runs, monkeypatch, capsys):
    folder, _ = bank
    one = pd.read_csv(next((folder / "customers").glob("*.csv")))["customer_id"][0]
    (folder / "monthly" / f"monthly-{one}-2022-06.csv").write_text("month\nx\n", "utf-8")
    (folder / "monthly" / "monthly-2022-07.csv").write_text("month\nx\n", "utf-8")
    was = Arrivals.breaks

    def telling(self, *given):
        error = was(self, *given)
        return error and ContractError("mine", [replace(p, hint=f"{folder}/x, /srv/bank") for p in error.problems])

    monkeypatch.setattr(Arrivals, "breaks", telling)
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["crmresearch", "replay", "--bank", str(folder), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = json.loads((out / "replay.json").read_text("utf-8"))
    assert {b["rule"] for b in told["disclosure"]} == {"customer identifier", "local path"}
    assert str(folder) not in str(told)
    assert "replay.json, aside" in capsys.readouterr().out


def test_files_outside_the_bank_s_folder_are_refused_and_the_remedy_works(bank, tmp_path, runs):
    folder, rows = bank
    (folder / "monthly").rename(tmp_path / "elsewhere")
    about = folder / "bank.yaml"
    about.write_text(about.read_text("utf-8").replace("monthly: monthly/", f"monthly: {tmp_path}/elsewhere/"), "utf-8")
    with pytest.raises(InputError, match=r"csv lies outside the folder of bank\.yaml; move it there") as refused:
        replay.replay(folder, tmp_path / "out")
    assert str(tmp_path) not in str(refused.value)
    (tmp_path / "elsewhere").rename(folder / "monthly")
    about.write_text(about.read_text("utf-8").replace(f"{tmp_path}/elsewhere/", "monthly/"), "utf-8")
    replay.replay(folder, tmp_path / "out", every=100)
    assert runs[-1][2] == rows


# --- what is refused --------------------------------------------------------------------------------------------------


def test_banks_whose_files_carry_no_dates_are_refused_with_a_remedy(arriving, tmp_path):
    with pytest.raises(InputError, match=r"fewer than two files .* use: crmresearch run --bank"):
        replay.replay(arriving / "whole", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_and_files_after_the_end_are_refused(arriving, bank, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(InputError, match="not a replay"):
        replay.replay(arriving / "monthly", tmp_path / "full")
    folder, _ = bank
    text = (folder / "bank.yaml").read_text("utf-8").replace("2022-12-31", "2022-11-30")
    (folder / "bank.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError, match="after the observation_end"):
        replay.replay(folder, tmp_path / "out")


def test_an_observation_that_ends_within_a_month_takes_the_files_of_it(bank, tmp_path, runs):
    folder, _ = bank
    about, last = folder / "bank.yaml", folder / "transactions" / "transactions-2022-12.csv"
    about.write_text(about.read_text("utf-8").replace("2022-12-31", "2022-12-20"), "utf-8")
    done = replay.replay(folder, tmp_path / "late", every=100)
    assert list(done.aside) == [last.name]  # for its rows of the last days
    rows = pd.read_csv(last)
    rows[rows["occurred_on"] <= "2022-12-20"].to_csv(last, index=False)
    assert not replay.replay(folder, tmp_path / "out", every=100).aside
    assert [end.day for _, end, *_ in runs] == [20, 20]


@pytest.mark.parametrize("word", ["week", "", "Month"])
def test_another_period_is_refused(word, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["crmresearch", "replay", "--bank", "x", "--by", word])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "--by takes month or day" in capsys.readouterr().err
