"""The multiverse: the registered specification is the ledger's, choices reach their lines, shares add up."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from crmresearch import ledger
from crmresearch.data.bank import open_bank
from crmresearch.errors import InputError
from crmresearch.run import cli, multiverse
from test_project import ROOT


def of(claim: str, rows: dict[tuple, tuple[float, str]]) -> pd.DataFrame:
    """Specifications whose estimates and verdicts are written here; the first is the registered one."""
    declared = multiverse.DECLARED[claim]
    out = [
        {"claim": claim, "line": declared.line, "choices": json.dumps(dict(zip(declared.choices, chosen, strict=True))),
         "default": not k, "bound": -0.002, "why": "", "estimate": at, "ci_low": at - 0.001, "ci_high": at + 0.001,
         "n": 500, "verdict": verdict}
        for k, (chosen, (at, verdict)) in enumerate(rows.items())
    ]  # fmt: skip
    return pd.DataFrame(out)


def test_the_registered_specification_is_the_ledgers_line() -> None:
    bank = open_bank("reference")
    stored = ledger.read(ROOT / "outputs" / "reference").set_index("line_id")
    for declared in multiverse.DECLARED.values():
        assert ledger.lines()[declared.line].primary
        given = multiverse._defaults(ledger.lines()[declared.line].notebook)
        found = declared.prepare(bank, given)(**{k: v[0] for k, v in declared.choices.items()})
        row = stored.loc[declared.line]
        for value, column in ((found.value, "estimate"), (found.ci_low, "ci_low"), (found.ci_high, "ci_high")):
            assert value == pytest.approx(row[column], rel=1e-8), (declared.line, column)
        assert "several" not in declared.choices or declared.choices["several"][0] == row["bound"]


def test_every_choice_reaches_the_estimate_or_its_bound(small_bank) -> None:
    frame = multiverse.specifications(small_bank, "S42")
    assert frame["default"].sum() == 1
    assert frame["default"].iloc[0]
    assert len(frame) == 6
    assert frame["estimate"].nunique() == 6  # one value for several would be a choice that was ignored
    assert multiverse.idle(frame) == []
    ratios = multiverse.specifications(small_bank, "S40")
    assert len(ratios) == 54
    assert set(ratios["bound"]) == {1.5, 2.0, 3.0}
    assert ratios.groupby("choices").size().eq(1).all()
    assert ratios["estimate"].nunique() > 9
    weighed = multiverse.DECLARED["S06"].prepare(small_bank, {})
    one = {"exits": "voluntary", "lag": 3, "strata": "declared", "weights": "equal"}
    moved = [one, one | {"exits": "every"}, one | {"lag": 6}, one | {"strata": "none"}, one | {"weights": "products"}]
    assert len({weighed(**setting).value for setting in moved}) == len(moved)


def test_variance_is_shared_out_and_idle_choices_are_named() -> None:
    exits, horizon = multiverse.DECLARED["S42"].choices.values()
    by_exits = {
        (e, h): (-0.02 + 0.015 * (e == exits[1]), "supported" if e == exits[0] else "undecided")
        for e in exits
        for h in horizon
    }
    frame = of("S42", by_exits)
    assert multiverse.explained(frame, log=False) == pytest.approx({"exits": 1, "horizon": 0})
    assert multiverse.idle(frame) == ["horizon"]
    told = multiverse.curve(frame)
    assert "holds in 3 of 6" in told.sentence
    assert "horizon" in told.sentence.split("do not reach")[1]
    assert told.pictures[0].title == "S42 holds in 3 of 6 specifications"
    for k, key in enumerate(by_exits):  # both choices alike
        frame.loc[k, "estimate"] = -0.02 + 0.01 * exits.index(key[0]) + 0.001 * horizon.index(key[1])
    shares = multiverse.explained(frame, log=False)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["exits"] > shares["horizon"] > 0
    assert multiverse.idle(frame) == []


def test_the_command_writes_typed_choices_and_a_curve(tmp_path, monkeypatch) -> None:
    done = CliRunner().invoke(cli.app, ["multiverse", "--claims", "S42", "--out", str(tmp_path / "many")])
    assert done.exit_code == 0, done.output
    assert "S42 holds in" in done.output
    assert "<img" not in done.output
    table = pd.read_csv(tmp_path / "many" / "multiverse.csv")
    assert json.loads(table["choices"].iloc[1])["horizon"] == 6
    assert {"default", "estimate", "ci_low", "ci_high", "bound", "verdict", "notebook", "data"} <= set(table)
    assert (tmp_path / "many" / "figures" / "multiverse_S42.png").exists()


def test_a_claim_that_no_choice_reaches_is_refused() -> None:
    with pytest.raises(InputError, match=r"no choice reaches S41.*\n.*choices are declared for S06"):
        multiverse.checked(["S40", "S41"])
    with pytest.raises(InputError, match="no claim S999"):
        multiverse.checked(["S999"])
    with pytest.raises(InputError, match="twice"):
        multiverse.checked(["S40", "S40"])
