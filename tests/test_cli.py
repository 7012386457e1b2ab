"""The command line: exit statuses, messages without tracebacks, values read from the command."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from crmresearch.data.sources import names
from crmresearch.errors import CrmError, InputError
from crmresearch.lab import recover
from crmresearch.run import batch, cli, options, workers


@pytest.fixture
def crm(monkeypatch, capsys):
    """Run a command; return exit status, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["crmresearch", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """Replace the runner by one that returns what a test asks for, and keeps how it was called."""
    calls: list[dict] = []

    def give(status: str, **more: object) -> list[dict]:
        def run(bank: str = "reference", **options: object) -> batch.Outcome:
            calls.append({"bank": bank, **options})
            content = {"status": status, "verdicts": {"supported": 3}, "notebooks": {}, **more}
            return batch.Outcome(tmp_path, content)

        monkeypatch.setattr(batch, "run", run)
        return calls

    return give


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("a", "a"),
        ("2021-01-01", "2021-01-01"),
        ("[1, 2]", [1, 2]),
    ],
)
def test_values_are_read_as_what_they_look_like(text, value):
    read = options.values([f"name={text}"])["name"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("given", "match"), [(["seed"], "name=value"), (["seed=1", "seed=2"], "twice")])
def test_malformed_parameters_are_refused(given, match):
    with pytest.raises(InputError, match=match):
        options.values(given)


def test_a_completed_run_exits_with_0(crm, outcome):
    calls = outcome("completed")
    code, out, _ = crm(
        "run", "--bank", "tiny", "--studies", "00,01", "-p", "seed=7", "-p", "bank_name=x", "--jobs", "3"
    )
    assert code == 0
    assert "3 supported" in out
    assert calls[0]["studies"] == ["00", "01"]
    assert calls[0]["values"] == {"seed": 7, "bank_name": "x"}
    assert calls[0]["jobs"] == 3


def test_a_failed_run_exits_with_1_and_names_the_notebook(crm, outcome):
    outcome("failed", notebooks={"02_x": {"status": "kernel died", "error": "out of memory", "cell": "fit"}})
    code, _, err = crm("run")
    assert code == 1
    assert "02_x kernel died: out of memory (cell fit)" in err


def test_a_breach_is_named(crm, outcome):
    outcome("failed", disclosure=[{"file": "a.ipynb", "rule": "local path", "where": "line 3"}])
    code, _, err = crm("run")
    assert code == 1
    assert "local path in a.ipynb, line 3" in err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "-p", "bank_nme=reference"], "bank_name"),
        (["run", "--studies", "0_customer_base"], "00_customer_base"),
        (["run", "--bank", "referense"], "reference"),
        (["bank", "describe", "berca"], "berka"),
        (["bank", "get", "cdnov"], "cdnow"),
        (["site", "nowhere"], "run.json"),
        (["check", "nowhere"], "run.json"),
        (["run", "--jobs", "0"], "jobs"),
        (["runn"], "runn"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_says_what_can(crm, monkeypatch, words, hint):
    monkeypatch.setattr(workers.Worker, "run", None)  # no kernel may start
    code, _, err = crm(*words)
    assert code == 2
    assert hint in err
    assert "Traceback" not in err


def test_other_errors_of_the_package_exit_with_1(crm, monkeypatch):
    def run(*_: object, **__: object) -> None:
        raise CrmError("the disk is full")

    monkeypatch.setattr(batch, "run", run)
    assert crm("run")[::2] == (1, "crmresearch: the disk is full\n")


def test_notebooks_are_stored_in_a_clone_alone(crm, monkeypatch, tmp_path):
    monkeypatch.setattr(batch, "PROJECT", tmp_path)
    monkeypatch.setattr(batch, "run", None)  # nothing may run
    code, _, err = crm("notebooks")
    assert code == 2
    assert "in a clone" in err


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("run", "what was finished is kept, go on with: crmresearch run"),
        ("notebooks", "nothing was stored, begin anew with: crmresearch notebooks"),
    ],
)
def test_an_interruption_exits_with_130(crm, monkeypatch, word, told):
    def run(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "run", run)
    code, _, err = crm(word)
    assert code == 130
    assert told in err


def test_recover_passes_on_what_was_asked(crm, monkeypatch, tmp_path):
    calls = []

    def run(*words: object) -> Path:
        calls.append(words)
        return tmp_path / "recovery.csv"

    monkeypatch.setattr(recover, "run", run)
    code, out, _ = crm("recover", "--studies", "value, churn", "--seeds", "5", "--jobs", "1", "--out", str(tmp_path))
    assert code == 0
    assert calls == [(["value", "churn"], 5, None, 1, tmp_path)]
    assert "recovery.csv" in out


def test_bank_list_names_every_bank(crm):
    code, out, _ = crm("bank", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [row["name"] for row in names.listing()]


def test_bank_check_counts_the_rows_or_reports_the_problem(crm, tmp_path):
    (tmp_path / "bank.yaml").write_text(
        "{name: mine, currency: EUR, observation_start: 2020-01-01, observation_end: 2020-12-31, "
        "evidence: simulated, tables: {customers: {file: c.csv}}}"
    )
    rows = ["customer_id,acquired_on,observed_from", "a,2019-01-01,2020-01-01", "b,2019-01-01,2020-01-01"]
    (tmp_path / "c.csv").write_text("\n".join(rows) + "\n")
    code, out, _ = crm("bank", "check", str(tmp_path))
    assert code == 0
    assert "customers: <10 rows from c.csv" in out
    (tmp_path / "c.csv").write_text("\n".join([*rows, "a,2019-01-01,2020-01-01"]) + "\n")
    code, _, err = crm("bank", "check", str(tmp_path))
    assert code == 2
    assert "customer_id" in err


def test_simulate_writes_a_bank_that_can_be_opened(crm, tmp_path):
    code, out, _ = crm(
        "bank", "simulate", "--customers", "300", "--months", "24", "--seed", "3", "--out", str(tmp_path / "b")
    )
    assert code == 0
    assert "300 customers" in out
    assert (tmp_path / "b" / "bank.yaml").exists()
    assert list((tmp_path / "b").glob("truth.*"))
    code, _, _ = crm("bank", "check", str(tmp_path / "b"))
    assert code == 0


def test_progress_writes_plain_lines_when_nobody_watches(capsys):
    import sys

    from crmresearch.run import progress

    with progress.for_stream(sys.stderr) as listener:
        listener.begin(2)
        listener.say("opening bank tiny")
        listener.cell("00_a", 1, 3)
        listener.end("00_a", {"status": "completed", "seconds": 1.25})
        listener.end("01_b", {"status": "failed", "seconds": 2.0, "error": "ValueError: no"})
        listener.begin(1)  # the next of several banks
        listener.end("00_a", {"status": "completed", "seconds": 1.25})
    assert capsys.readouterr().err.splitlines() == [
        "== opening bank tiny",
        "[1/2] 00_a: completed in 1.2 s",
        "[2/2] 01_b: failed in 2.0 s; ValueError: no",
        "[1/1] 00_a: completed in 1.2 s",
    ]


def test_listeners_hear_one_thread_after_the_other(tmp_path):
    from crmresearch.run import progress

    within, heard = threading.Event(), threading.Event()

    class Listener(progress.Progress):
        busy, met = False, False

        def cell(self, *_: object) -> None:
            self.busy = True
            within.set()
            heard.wait(0.2)  # where both are heard at once, the other comes by now
            self.busy = False

        def end(self, *_: object) -> None:
            self.met = self.busy
            heard.set()

    listener = Listener()
    with progress.Events(tmp_path / "events.jsonl", listener) as events:
        other = threading.Thread(target=events.cell, args=("00_a", 1, 2))
        other.start()
        within.wait()
        events.end("01_b", {"status": "completed"})
        other.join()
    assert not listener.met


def test_progress_draws_a_bar_on_a_terminal():
    import io

    from crmresearch.run import progress

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress.for_stream(stream) as listener:
        listener.begin(1)
        listener.cell("00_a", 1, 2)
        listener.end("00_a", {"status": "failed", "seconds": 1.0, "error": "[bold] is no markup"})
    shown = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", stream.getvalue())
    assert "✗ 00_a: failed in 1.0 s; [bold] is no markup" in shown
