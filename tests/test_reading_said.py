"""What is said of a bank: by ``bank check``, by the studies of the survey, and of a place that is no folder."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import test_reading
from crmresearch.errors import InputError
from crmresearch.estimators.measurement.model import complete_answers
from crmresearch.run.cli import app
from crmresearch.studies import loyalty
from test_reading import FACTS, SURVEY

bank = test_reading.bank

# --- what bank check says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "text", "said"),
    [
        (
            "survey: {file: t.csv, missing: [98, 99]}",
            SURVEY,
            "survey: made missing by codes: sat1 (<10), sat2 (<10), sat3 (<10)",
        ),
        (
            "survey: {file: t.csv, missing: {sat1: [99], sat2: [98], '*': [98]}}",
            SURVEY,
            "survey: made missing by codes: sat1 (<10), sat2 (<10), sat3 (<10)",
        ),
        (
            "transactions: t.csv",
            "customer_id,occurred_on,amount,ccy,note\na,2020-05-13,1,EUR,x\n",
            "transactions: columns not read: note",
        ),
        (
            "customers: t.csv",
            "customer_id,acquired_on,Beruf,Filiale\na,2020-05-13,x,y\n",
            "customers: columns not read: Beruf, Filiale",
        ),
    ],
)
def test_bank_check_names_what_is_left_out(bank, tables, text, said):
    bank(tables, t__csv=text)
    result = CliRunner().invoke(app, ["bank", "check", str(bank.folder)])
    assert result.exit_code == 0
    assert said in result.stdout


@pytest.mark.parametrize("place", ["s3://bucket/run", "gs://bucket/a/b", "https://host/run", "file:///tmp/run"])
@pytest.mark.parametrize("command", [["bank", "simulate"], ["recover"]])  # a run or a sweep is uploaded
def test_a_remote_place_is_refused_before_anything_runs(tmp_path, monkeypatch, place, command):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*command, "--out", place])
    assert result.exit_code == 2
    assert "folder of this machine" in result.output
    assert list(tmp_path.iterdir()) == []


# --- what the studies of the survey advise ----------------------------------------------------------------------------


def answers(n=120, seed=3):
    """Three items of one construct, from 1 to 10, the third worded the other way round."""
    rng = np.random.default_rng(seed)
    level = rng.normal(5.5, 1.5, n)
    sat = np.clip(np.round(level[:, None] + rng.normal(0, 1, (n, 3))), 1, 10).astype(int)
    frame = pd.DataFrame(sat, columns=["sat1", "sat2", "sat3"]).assign(sampled="true", responded="true")
    return frame.assign(customer_id=[f"c{i}" for i in range(n)])


@pytest.mark.parametrize("codes", [[98, 99], [99], [-1], [88, 97, 98, 99, 998]])
def test_the_advice_on_codes_works_as_it_is_written(bank, codes):
    frame = answers()
    frame.loc[: len(codes) - 1, "sat2"] = codes
    facts = FACTS + "constructs: {satisfaction: [sat1, sat2, sat3]}\n"
    found = bank("survey: s.csv", facts, s__csv=frame.to_csv(index=False))
    model = loyalty.declared_model(found.about.constructs, ())
    with pytest.raises(InputError, match="must be recoded to missing") as error:
        complete_answers(found.frame("SELECT * FROM survey"), model)
    advised = re.search(r"missing: \{sat2: \[.*?\]\}", str(error.value))[0]
    found = bank(f"survey: {{file: s.csv, {advised}}}", facts, s__csv=frame.to_csv(index=False))
    assert len(complete_answers(found.frame("SELECT * FROM survey"), model)) == len(frame) - len(codes)


@pytest.mark.parametrize("item", ["sat1", "sat2", "sat3"])
def test_the_advice_on_a_reversed_item_works_as_it_is_written(bank, item):
    frame = answers()
    frame[item] = 11 - frame[item]
    facts = FACTS + "constructs: {satisfaction: [sat1, sat2, sat3]}\n"
    found = bank("survey: s.csv", facts, s__csv=frame.to_csv(index=False))
    with pytest.raises(InputError, match=f"item {item} runs against") as error:
        complete_answers(found.frame("SELECT * FROM survey"), loyalty.declared_model(found.about.constructs, ()))
    advised = re.search(r"reversed: \[\w+\]", str(error.value))[0]
    found = bank("survey: s.csv", f"{facts}{advised}\n", s__csv=frame.to_csv(index=False))
    turned = complete_answers(found.frame("SELECT * FROM survey"), loyalty.declared_model(found.about.constructs, ()))
    assert turned.corr().min().min() > 0


@pytest.mark.parametrize(("first", "second"), [((1, 10), (1, 5)), ((1, 5), (1, 10)), ((0, 100), (1, 7))])
def test_each_construct_has_its_own_scale(first, second):
    rng = np.random.default_rng(1)
    ends = {"satisfaction": first, "loyalty": second}
    blocks = {c: [f"{c[:3]}{i}" for i in (1, 2)] for c in ends}
    frame = pd.DataFrame({i: rng.integers(ends[c][0], ends[c][1] + 1, 80) for c, b in blocks.items() for i in b})
    frame.loc[0] = [first[1]] * 2 + [second[1]] * 2
    said = {c: {"items": b, "scale": ends[c], "reversed": b} for c, b in blocks.items()}
    model = loyalty.declared_model(said, [("satisfaction", "loyalty")])
    turned = complete_answers(frame, model)
    assert turned.iloc[0].tolist() == [first[0]] * 2 + [second[0]] * 2
    frame.loc[1, "loy1"] = second[1] + 1
    with pytest.raises(InputError, match="item loy1 has 1 rows with"):
        complete_answers(frame, model)
