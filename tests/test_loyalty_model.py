"""Inputs of study 4: what is refused, and what is treated as documented."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crmresearch.errors import InputError, Missing, answered
from crmresearch.estimators.measurement.model import PathModel
from crmresearch.estimators.measurement.moments import covariance
from crmresearch.estimators.measurement.pls import fit_pls
from crmresearch.estimators.measurement.sem import fit_sem
from crmresearch.studies import loyalty

BLOCKS = {"quality": ["q1", "q2", "q3"], "satisfaction": ["s1", "s2"], "loyalty": ["l1", "l2"]}
PATHS = [("quality", "satisfaction"), ("satisfaction", "loyalty")]


@pytest.fixture
def answers():
    rng = np.random.default_rng(5)
    common = rng.normal(size=(200, 1))
    raw = 3 + 1.2 * common + rng.normal(size=(200, 7)) * 0.8
    return pd.DataFrame(np.clip(np.rint(raw), 1, 5), columns=[i for b in BLOCKS.values() for i in b])


@pytest.fixture
def model():
    return PathModel(BLOCKS, PATHS)


@pytest.mark.parametrize(
    ("constructs", "paths", "words"),
    [
        (BLOCKS, [*PATHS, ("loyalty", "quality")], "loop through"),
        (BLOCKS, [("quality", "quality")], "loop through quality"),
        (BLOCKS, [("quality", "image")], "paths name image"),
        (BLOCKS, [PATHS[0], PATHS[0]], "declared twice"),
        ({**BLOCKS, "value": []}, PATHS, "value has no item"),
        ({**BLOCKS, "value": ["v1", "q1"]}, PATHS, "item q1 is listed in two places"),
    ],
)
def test_model_refuses(constructs, paths, words):
    with pytest.raises(InputError, match=words):
        PathModel(constructs, paths)


def test_mode_and_reversed_items_are_checked():
    with pytest.raises(InputError, match="modes map"):
        PathModel(BLOCKS, PATHS, {"quality": "C"})
    with pytest.raises(InputError, match="belong to no construct"):
        PathModel(BLOCKS, PATHS, reversed_items=["x9"])


def test_unknown_item_is_named(answers, model):
    with pytest.raises(InputError, match="item l2 is not in the survey"):
        loyalty.prepare_items(answers.drop(columns="l2"), model)


def test_item_without_variance_is_named(answers, model):
    with pytest.raises(InputError, match="item s2 has one answer in all 200 rows"):
        loyalty.prepare_items(answers.assign(s2=4), model)


@pytest.mark.parametrize(("code", "rows"), [(99, 3), (98, 1), (-1, 2)])
def test_codes_left_in_are_counted(answers, model, code, rows):
    answers.loc[: rows - 1, "q2"] = code
    with pytest.raises(InputError, match=rf"item q2 has {rows} rows with {code}.*recoded to missing"):
        loyalty.prepare_items(answers, model)


@pytest.mark.parametrize(
    ("codes", "said"), [([8], "1 rows with 8"), ([9, 9], "2 rows with 9"), ([8, 9, 9], "3 rows with 8, 9")]
)
def test_eight_and_nine_behind_answers_up_to_five_are_codes_alone_and_together(answers, model, codes, said):
    answers.loc[: len(codes) - 1, "q2"] = codes
    with pytest.raises(InputError, match=f"item q2 has {said}, outside its scale"):
        loyalty.prepare_items(answers, model)


def test_declared_scale_decides_what_a_code_is(answers):
    model = PathModel(BLOCKS, PATHS, scale=(1, 5))
    answers.loc[0, "q1"] = 6
    with pytest.raises(InputError, match="item q1 has 1 rows with 6"):
        loyalty.prepare_items(answers, model)


def test_backward_item_is_refused_and_turned_when_declared(answers, model):
    turned = answers.assign(q3=6 - answers["q3"])
    with pytest.raises(InputError, match=r"item q3 runs against .*list it under reversed"):
        loyalty.prepare_items(turned, model)
    declared = PathModel(BLOCKS, PATHS, reversed_items=["q3"], scale=(1, 5))
    pd.testing.assert_frame_equal(loyalty.prepare_items(turned, declared), loyalty.prepare_items(answers, model))


def test_text_and_too_few_answers(answers, model):
    with pytest.raises(InputError, match="item s1 holds text in 1 rows"):
        loyalty.prepare_items(
            answers.astype(object)
            .replace({"s1": {answers["s1"].iloc[0]: None}})
            .assign(s1=["often", *answers["s1"].iloc[1:]]),
            model,
        )
    answers.loc[30:, "q1"] = np.nan
    few = loyalty.prepare_items(answers, model)
    assert isinstance(few, Missing)
    assert "30 of 200 respondents answered every item" in few.reason


def test_only_respondents_count(answers, model):
    answers["responded"] = np.arange(200) < 120
    assert len(loyalty.prepare_items(answers, model)) == 120


def test_declaration_forms_agree():
    by_pairs = loyalty.declared_model(BLOCKS, [list(p) for p in PATHS])
    by_arrows = loyalty.declared_model(
        {c: {"items": b} for c, b in BLOCKS.items()}, ["quality -> satisfaction", "satisfaction -> loyalty"]
    )
    assert by_pairs == by_arrows
    with pytest.raises(InputError, match="not of the form"):
        loyalty.declared_model(BLOCKS, ["quality satisfaction"])


def test_default_index_for_banks_that_declare_nothing():
    columns = ["imag1", "imag2", "sat1", "sat2", "loy1", "loy2", "customer_id", "age1"]
    model = loyalty.declared_model({}, (), columns)
    assert model.names == ("imag", "sat", "loy")
    assert set(model.paths) == {("imag", "sat"), ("imag", "loy"), ("sat", "loy")}
    assert model.role("satisfaction") == "sat"
    assert model.role("quality") is None
    with pytest.raises(InputError, match="declares no constructs"):
        loyalty.declared_model({}, (), ["x", "y"])


def test_constructs_without_path_are_left_to_measurement():
    model = PathModel({**BLOCKS, "concern": ["c1", "c2"]}, PATHS)
    assert model.connected.names == tuple(BLOCKS)
    with pytest.raises(InputError, match="concern has no path"):
        fit_pls(np.eye(9), model)
    with pytest.raises(InputError, match="declares no paths"):
        _ = PathModel(BLOCKS).connected


def test_missing_frames_pass_through():
    missing = Missing("no survey", ("survey",))
    model = loyalty.declared_model({}, (), missing)
    assert model is missing
    assert loyalty.prepare_items(missing, model) is missing
    result = loyalty.htmt(loyalty.prepare_items(missing, model), model, seed=1)
    assert not result.applicable
    assert "no survey" in result.sentence
    assert answered()(lambda x: x + 1)(1) == 2


def test_fit_refuses_what_it_cannot_mean(answers, model):
    cov = covariance(answers.to_numpy())
    with pytest.raises(InputError, match="scheme 'wold' is unknown"):
        fit_pls(cov, model, scheme="wold")
    with pytest.raises(InputError, match="consistent PLS"):
        fit_pls(cov, model, scaled=False, consistent=True)
    with pytest.raises(InputError, match="model has 7 items"):
        fit_pls(cov[:5, :5], model)
    with pytest.raises(InputError, match="formative"):
        fit_sem(answers, PathModel(BLOCKS, PATHS, {"quality": "B"}))


def test_study_says_what_the_survey_lacks(answers):
    model = PathModel({c: BLOCKS[c] for c in ("quality", "satisfaction")}, [PATHS[0]])
    result = loyalty.moderation(answers, model)
    assert not result.applicable
    assert "no construct for loyalty, privacy" in result.sentence
    modelled = loyalty.path_model(answers[list(model.items)], model, resamples=50, seed=1)
    assert np.isfinite(modelled.finding("S10b").value)
    absent = modelled.finding("S10a")
    assert np.isnan(absent.value)
    assert absent.checks[0].status == "closed"
