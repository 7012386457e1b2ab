"""The multiverse: the registered specification is the ledger's, choices reach their lines, shares add up."""

from __future__ import annotations

import itertools
import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

from crmresearch import ledger, multiverse, parameters, words
from crmresearch.data import pseudonyms
from crmresearch.data.bank import open_bank
from crmresearch.data.reductions.named import Named
from crmresearch.errors import InputError, Missing, Reader
from crmresearch.run import cli, sweep
from crmresearch.run.plan import Code
from crmresearch.run.site import claims
from crmresearch.run.site.runs import Run
from crmresearch.studies import Choices
from poor_banks import balances_only, one_customer
from test_project import PACKAGE, ROOT

DECLARED = multiverse.declared()


def asked(bank, claim: str):
    """One claim's function from a setting to an estimate, and its registered setting."""
    of = DECLARED[claim]
    given = {n: p.default for n, p in parameters.read(parameters.find(ledger.lines()[of.line].notebook)).items()}
    return of.ask(Named(bank), given), {k: v[0] for k, v in of.options.items()}


def of(claim: str, rows: dict[tuple, tuple[float, str]], bound: float = -0.002) -> pd.DataFrame:
    """Specifications whose estimates and verdicts are written here; the first is the registered one."""
    declared = DECLARED[claim]
    out = [
        {"claim": claim, "line": declared.line, "choices": json.dumps(dict(zip(declared.options, chosen, strict=True))),
         "default": not k, "bound": bound, "why": "", "estimate": at, "ci_low": at - 0.001, "ci_high": at + 0.001,
         "n": 500, "verdict": verdict, **dict.fromkeys(multiverse.JOINT, math.nan)}
        for k, (chosen, (at, verdict)) in enumerate(rows.items())
    ]  # fmt: skip
    return pd.DataFrame(out)


def test_studies_declare_choices_and_the_module_knows_none_by_name() -> None:
    assert list(DECLARED) == ["S06", "S10", "S19", "S40", "S42"]
    source = (PACKAGE / "multiverse.py").read_text("utf-8")
    assert [c for c in DECLARED if c in source] == []
    assert "studies." not in source.replace("studies.declared", "")
    for language in ("en", "zh"):
        tree = words.catalogue(language)["multiverse"]
        assert set(tree["short"]) == set(DECLARED)
        assert set(tree["choices"]) == {k for c in DECLARED.values() for k in c.options}
        assert set(tree["values"]) == {f"{k} {v}" for c in DECLARED.values() for k, o in c.options.items() for v in o}


def test_the_registered_specification_is_the_ledgers_line(tested, identifiers_as_they_came, monkeypatch) -> None:
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tested / "cache"))  # the notebooks have loaded it
    bank = open_bank("reference")
    stored = ledger.read(ROOT / "outputs" / "reference").set_index("line_id")
    for claim, declared in DECLARED.items():
        line = ledger.lines()[declared.line]
        assert line.primary
        one, registered = asked(bank, claim)
        found, row = one(registered), stored.loc[declared.line]
        for value, column in ((found.value, "estimate"), (found.ci_low, "ci_low"), (found.ci_high, "ci_high")):
            assert value == pytest.approx(row[column], rel=1e-8), (declared.line, column)
        assert ledger.verdict(line, found, row["q_value"]) == row["verdict"]
        assert line.bound is None or declared.bound(line.bound, registered) == line.bound


def test_every_choice_reaches_the_estimate_or_its_bound(small_bank) -> None:
    frames = multiverse.tried(small_bank, "S42 S40")
    lot, ratios = frames["S42"], frames["S40"]
    assert lot["default"].tolist() == [True] + 5 * [False]
    assert lot["estimate"].nunique() == 6  # one value for several would be a choice that was ignored
    assert multiverse.idle(lot) == []
    assert len(ratios) == 54
    assert set(ratios["bound"]) == {1.5, 2.0, 3.0}
    assert ratios["choices"].is_unique
    assert ratios["estimate"].nunique() > 9
    assert multiverse.idle(ratios, "estimate") == ["several"]
    one, registered = asked(small_bank, "S06")
    other = {"exits": "every", "lag": 6, "strata": "none", "weights": "products"}
    moved = [registered, *(registered | {k: v} for k, v in other.items())]
    assert len({one(setting).value for setting in moved}) == len(moved)


def test_what_the_bound_was_not_written_for_is_shown_and_not_counted(small_bank) -> None:
    frame = multiverse.tried(small_bank, "S42")["S42"]
    months = frame["choices"].map(json.loads).str["horizon"]
    assert (frame["bound"].notna() == (months == 12)).all()
    assert set(frame.loc[months != 12, "verdict"]) <= {"reported", "blocked"}
    told = multiverse.curve(frame)
    assert "of 2 specifications" in told.sentence
    assert "4 estimate what the bound was not written for" in told.sentence
    assert "without the adjustment over all lines" in told.sentence
    (picture,) = told.pictures
    assert len(picture.data) == 6
    assert picture.data["hollow"].sum() == 4
    assert "bound" not in picture.data  # it stands across all rows, once


def test_a_curve_has_each_estimate_once_and_speaks_in_words(small_bank) -> None:
    frame = multiverse.tried(small_bank, "S40")["S40"]
    (picture,) = multiverse.curve(frame).pictures
    known = frame[frame["estimate"].notna()]
    assert len(picture.data) == len(known) / 3
    assert picture.data["label"].is_unique
    assert sorted(m.at for m in picture.options["marks"]) == [1.5, 2, 3]
    codes = {str(v) for options in DECLARED["S40"].options.values() for v in options}
    assert not codes & {part for label in picture.data["label"] for part in label.split(", ")} - {"discounted"}
    for part in ("S40", "95% interval", "n ="):
        assert part in picture.x, part


def test_variance_is_shared_out_and_idle_choices_are_named() -> None:
    exits, horizon = DECLARED["S42"].options.values()
    by_exits = {
        (e, h): (-0.02 + 0.015 * (e == exits[1]), "supported" if e == exits[0] else "undecided")
        for e, h in itertools.product(exits, horizon)
    }
    frame = of("S42", by_exits)
    assert multiverse.explained(frame, log=False) == pytest.approx({"exits": 1, "horizon": 0})
    assert multiverse.idle(frame) == ["horizon"]
    told = multiverse.curve(frame)
    assert "holds in 3 of 6" in told.sentence
    assert told.table["reaches"].tolist() == ["moves the estimate", "does not reach the line"]
    assert told.pictures[0].title == "Retention contacts lower exits: so in 3 of 6 specifications"
    assert len(told.pictures[0].data) == 2
    for k, key in enumerate(by_exits):  # both choices alike
        frame.loc[k, "estimate"] = -0.02 + 0.01 * exits.index(key[0]) + 0.001 * horizon.index(key[1])
    shares = multiverse.explained(frame, log=False)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["exits"] > shares["horizon"] > 0
    assert multiverse.idle(frame) == []
    row = multiverse.overview({"S42": frame}).table.iloc[0]
    assert (row["held"], row["compared"], row["against"]) == (3, 6, 0)


def test_a_bank_that_brings_little_says_why(monkeypatch) -> None:
    monkeypatch.setattr(Reader, "in_notebook", True)
    for bank in (balances_only(), one_customer()):
        frames = multiverse.tried(bank, "S06 S10 S19 S40 S42")
        for claim, frame in frames.items():
            assert (frame["estimate"].notna() | (frame["why"].str.len() > 20)).all(), claim
            assert frame.loc[frame["estimate"].isna(), "verdict"].isin(["not measured"]).all()
        told = [multiverse.curve(f) for f in frames.values()]
        assert all(isinstance(t.missing, Missing) or t.picture is not None for t in told)
        overview, every = multiverse.overview(frames).table, multiverse.every(frames).table
        assert overview["tried"].tolist() == [len(f) for f in frames.values()]  # nobody is told of where nothing is
        lacking = every["estimate"].isna()
        assert len(every) == overview["tried"].sum()
        assert (every.loc[lacking, "why"].str.len() > 20).all()
        assert overview["known"].sum() == (~lacking).sum()


def test_lines_without_choices_are_listed() -> None:
    listed = ", ".join(multiverse.unreached().table["lines"]).split(", ")
    primary = [line.line_id for line in ledger.lines().values() if line.primary]
    assert sorted([*listed, *(c.line for c in DECLARED.values())]) == sorted(primary)
    assert all(isinstance(c, Choices) for c in DECLARED.values())


def test_the_command_writes_typed_choices_and_a_curve(tmp_path, monkeypatch) -> None:
    done = CliRunner().invoke(cli.app, ["multiverse", "--claims", "S42", "--out", str(tmp_path / "many")])
    assert done.exit_code == 0, done.output
    assert "this holds in" in done.output
    assert "<img" not in done.output
    table = pd.read_csv(tmp_path / "many" / "multiverse.csv")
    assert json.loads(table["choices"].iloc[1])["horizon"] == 6
    assert {"default", "estimate", "ci_low", "ci_high", "bound", "verdict", "notebook", "data"} <= set(table)
    assert (tmp_path / "many" / "figures" / "multiverse_S42.png").exists()


def test_a_claim_that_no_choice_reaches_is_refused() -> None:
    with pytest.raises(InputError, match=r"no choice reaches S41.*\n.*choices are declared for S06"):
        multiverse.checked("S40,S41")
    with pytest.raises(InputError, match="no claim S999"):
        multiverse.checked(["S999"])
    with pytest.raises(InputError, match="twice"):
        multiverse.checked("S40 S40")
    with pytest.raises(InputError, match="no claim is named"):
        multiverse.checked(" ")


# --- its notebook, and what the site says of it ----------------------------------------------------------------------

SOURCE = json.loads((ROOT / "notebooks" / f"{multiverse.NOTEBOOK}.ipynb").read_text("utf-8"))


def test_the_notebook_asks_all_that_is_declared_and_its_key_holds_every_study() -> None:
    default = parameters.read(parameters.find(multiverse.NOTEBOOK))["claims"].default
    assert multiverse.checked(default) == list(DECLARED)
    code = Code()
    code.imported(SOURCE, ROOT / "notebooks")
    assert {p for part in ("studies", "data/reductions") for p in (PACKAGE / part).rglob("*.py")} <= set(code.files)


def test_a_card_says_in_how_many_specifications_its_line_holds(tmp_path) -> None:
    for name in ("run.json", "ledger.csv", "claims.csv"):
        (tmp_path / name).write_text("{}", "utf-8")
    assert any('nb.keep(overview, "claims")' in "".join(c["source"]) for c in SOURCE["cells"])
    frames = {"S42": of("S42", {("any", 12): (-0.02, "supported"), ("any", 6): (0.01, "undecided")})}
    frames |= {"S19": of("S19", {(12, "contribution"): (0.8, "reported")}, bound=float("nan"))}
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / f"{multiverse.NOTEBOOK}_claims.csv"
    multiverse.overview(frames).table.to_csv(path, index=False)
    assert Run(tmp_path).tried == {}  # without the page there is nothing to lead to
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / f"{multiverse.NOTEBOOK}.ipynb").write_text("{}", "utf-8")
    said = {line: claims._elsewise({"line_id": line}, Run(tmp_path)) for line in ("S42", "S19", "S06")}
    assert f'<a href="notebooks/{multiverse.NOTEBOOK}.html">Holds in 1 of 2 specifications</a>' in said["S42"]
    assert "Asked in 1 specifications" in said["S19"]
    assert said["S06"] == ""
    assert "together" not in said["S42"]
    frames["S42"] = frames["S42"].assign(t=[2.5, 2.0], joint_p=0.004, share_p=0.2)
    multiverse.overview(frames).table.to_csv(path, index=False)
    assert "specifications; tested together, p = 0.00400</a>" in claims._elsewise({"line_id": "S42"}, Run(tmp_path))
    frames["S42"] = frames["S42"].assign(joint_p=0.0002)
    multiverse.overview(frames).table.to_csv(path, index=False)
    assert "tested together, p &lt; 0.001</a>" in claims._elsewise({"line_id": "S42"}, Run(tmp_path))


def test_the_sweep_beside_the_notebooks_varies_each_that_holds_a_primary_line(tmp_path) -> None:
    path = ROOT / "notebooks" / "robustness.yaml"
    done = CliRunner().invoke(cli.app, ["sweep", str(path), "--dry-run", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    runs = [line.rpartition(": ")[2] for line in done.output.splitlines() if line.startswith("studies-")]
    holding = {line.notebook for line in ledger.lines().values() if line.primary and line.notebook < "90"}
    assert min(map(runs.count, holding)) >= 2
    assert set(runs) == holding
    grid = sweep.read(path)["grid"]
    for name in holding:  # what it is stored with is among what is tried
        taken = {k: p.default for k, p in parameters.read(parameters.find(name)).items() if k in grid}
        assert taken, name
        assert [k for k, default in taken.items() if default not in grid[k]] == [], name


def test_a_claim_whose_gates_leave_no_estimate_says_so():
    frame = of("S42", {(0, 0): (math.nan, "blocked")})
    result = multiverse.curve(frame)
    assert not result.applicable
    assert result.sentence.rstrip().endswith("there is no estimate")
