"""The rules of disclosure: which rows they hide, what an attacker still learns, and that no text tells the rest."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crmresearch import disclosure, estimators, rules, studies, words
from crmresearch.errors import InputError
from crmresearch.estimators.inference import Estimate, logit_fit, rates, robust_ols, sizes
from crmresearch.estimators.survival import cox
from crmresearch.result import Result, study
from crmresearch.studies.churn.gates import model_gates

CELLS = pd.DataFrame({"band": list("abcd"), "n": [400, 7, 25, 90], "share": [0.4, 0.9, 0.2, 0.1]})


@pytest.fixture(autouse=True)
def _default_rules():
    yield
    rules.use()


def hidden(frame: pd.DataFrame, *counts: str) -> list[bool]:
    return disclosure.hidden(frame, counts or ("n",)).ne("").tolist()


# -- counts ------------------------------------------------------------------------------------------------------------


def test_small_cell_and_its_complement_are_hidden_with_their_rules():
    safe = disclosure.protect(CELLS)
    assert safe.suppressed == 2  # 7 people, and the next smallest row, so that differencing does not give it back
    assert safe.frame["n"].isna().tolist() == [False, True, True, False]
    assert safe.frame.loc[1, ["n", "share"]].isna().all()
    assert safe.frame["suppressed"].tolist() == ["", "too few people", "would give another row away", ""]
    assert CELLS["n"].tolist() == [400, 7, 25, 90]  # the input is not changed
    assert disclosure.protect(safe.frame).frame.equals(safe.frame)  # and once is enough


@pytest.mark.parametrize("few", [{"n": 1, "left": 0}, {"n": 9, "left": 0}, {"n": 0, "left": 3}, {"n": 50, "left": 2}])
def test_any_count_from_one_to_nine_hides_its_row_whatever_stands_beside_it(few):
    rows = [few | {"share": 0.123}, {"n": 40, "left": 0, "share": 0.2}, {"n": 700, "left": 30, "share": 0.3}]
    shown = disclosure.protect(pd.DataFrame(rows), ("n", "left")).frame
    assert shown["share"].isna()[0]


@pytest.mark.parametrize("whole_and_part", [(50, 49), (50, 41), (1200, 1191), (30, 29)])
def test_a_part_that_leaves_few_of_its_whole_hides_the_row(whole_and_part):
    n, left = whole_and_part
    frame = pd.DataFrame({"n": [n, 400, 700], "left": [left, 30, 60]})
    assert hidden(frame, "n", "left")[0]
    apart = disclosure.hidden(frame, (("n",), ("left",)))  # two counts of different people leave nobody
    assert not apart.ne("").any()


@pytest.mark.parametrize("lacking", [np.nan, None, pd.NA])
def test_a_row_without_its_count_is_hidden(lacking):
    assert hidden(CELLS.assign(n=pd.Series([400, lacking, 250, 90], dtype=object))) == [False, True, False, False]


def test_flags_notes_and_their_numbers_go_with_their_row():
    frame = CELLS.assign(loyal=[True, True, False, True], note=["", "pays 1,234.50 a month", "", "n = 90"])
    row = disclosure.protect(frame).frame.loc[1]
    assert (row["band"], row["note"]) == ("b", "")
    assert row[["n", "share", "loyal"]].isna().all()


def test_zero_is_shown_and_ten_is_enough():
    assert not any(hidden(CELLS.assign(n=[400, 0, 10, 90])))


@pytest.mark.parametrize("where", ["column", "index", "Customer_ID", "level"])
def test_identifiers_are_refused_wherever_they_stand(where):
    frame = CELLS.assign(customer_id=list("wxyz"))
    frame = {
        "column": lambda: frame,
        "index": lambda: frame.set_index("customer_id"),
        "Customer_ID": lambda: frame.rename(columns={"customer_id": "Customer_ID"}),
        "level": lambda: frame.set_index(["band", "customer_id"]),
    }[where]()
    with pytest.raises(InputError, match="identifier column"):
        disclosure.protect(frame)


def test_a_count_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="counts people by left, which it lacks"):
        disclosure.protect(CELLS, ("n", "left"))


# -- totals ------------------------------------------------------------------------------------------------------------


def lines_of(frame: pd.DataFrame) -> list[np.ndarray]:
    return disclosure._lines(frame)


@pytest.mark.parametrize("seed", range(60))
def test_linear_programming_finds_no_hidden_count_of_a_list(seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"n": rng.choice([0, 1, 3, 8, 12, 15, 40, 300], size=rng.integers(2, 9))})
    out = disclosure.hidden(frame, ("n",)).ne("").to_numpy()
    own = frame["n"].to_numpy(float)
    for row in np.flatnonzero(out & (own > 0) & (own < 10)):
        low, high = disclosure.interval(own, out, lines_of(frame), int(row))
        # whoever sees a list that is hidden as a whole knows its total alone
        assert high - low >= 9 or out[own > 0].all()


@pytest.mark.parametrize("seed", range(40))
def test_linear_programming_finds_no_hidden_count_of_a_crossed_table(seed):
    rng = np.random.default_rng(100 + seed)
    shape = rng.integers(3, 6, size=2)
    keys = pd.MultiIndex.from_tuples(list(itertools.product(*map(range, shape))), names=["year", "channel"])
    frame = pd.DataFrame({"n": rng.choice([2, 7, 12, 30, 80, 200, 900], p=[0.08, 0.07, 0.1, 0.2, 0.25, 0.2, 0.1],
                                          size=len(keys))}, index=keys)  # fmt: skip
    out = disclosure.hidden(frame, ("n",)).ne("").to_numpy()
    own, lines = frame["n"].to_numpy(float), lines_of(frame)
    for row in np.flatnonzero(out & (own < 10)):
        low, high = disclosure.interval(own, out, lines, int(row))
        everything = all(out[line].all() for line in lines if row in line)
        assert high - low >= 9 or everything, (seed, row, low, high)


def test_without_the_rule_for_totals_the_attack_succeeds():
    """The attack can find something: a single hidden row is known from the total."""
    own = np.array([400.0, 7.0, 25.0])
    assert disclosure.interval(own, np.array([False, True, False]), [np.arange(3)], 1) == (7.0, 7.0)


# -- money -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contributions", "found"),
    [([60, 20, 20], True), ([40, 30, 10, 10, 10], True), ([20] * 5, False), ([-60, 20, 20], True), ([], False),
     ([98_765_432.10, *[30.0] * 1199], True), ([0.0] * 20, False), ([60, 20, 20, np.nan], True),
     ([np.nan, *[20.0] * 5], False), ([np.nan], False)],
)  # fmt: skip
def test_who_makes_most_of_a_total_is_found(contributions, found):
    assert rules.whose(contributions).dominated is found


def test_gains_that_are_others_losses_or_one_s_own_hide_nobody():
    """A group where one gains what the others lose adds up to little; so does he who gains and loses."""
    of = pd.DataFrame({"block": np.arange(200) % 100, "made": 30.0, "gross_made": 30.0})
    of.loc[7, ["made", "gross_made"]] = 10.0, 9e7
    assert rules.of_groups(of, "block", "made").dominated
    assert not rules.of_groups(of.drop(7), "block", "made").dominated
    net = of.assign(made=of["made"] * (-1.0) ** (np.arange(200) // 100), gross_made=30.0)
    assert not rules.of_groups(net, "block", "made").dominated  # and a small net total is no large share of anybody
    assert not rules.of_squares([2e5], [5e5]).dominated


def test_a_dominated_row_is_hidden_and_cannot_be_had_from_the_total():
    frame = pd.DataFrame({"fees": [9e7, 1e3, 2e3], "n": [700, 300, 200]})
    frame["whose"] = [rules.whose(x) for x in ([9e7, *[1] * 699], [10] * 300, [10] * 200)]
    safe = disclosure.protect(frame)
    assert safe.rules == {"one or two dominate": 1, "would give another row away": 1}
    assert "whose" not in safe.frame
    assert safe.frame["fees"].isna().tolist() == [True, False, True]


SIZE = re.compile(r"linalg\.(?:solve|inv|lstsq)|minimize\(|\.fit\(|_newton\(")
SIZED_ELSEWHERE = {  # what solves, and is no model of its own
    "survival/diagnostics.py": "tests of a model that was fitted",
    "survival/curves.py": "a test of curves, without parameters",
    "survival/finegray.py": "fitted by cox.fit_sets",
    "causal/staggered.py": "of places and months, not of people",
    "causal/doubly_robust.py": "in no study yet",
    "blocks.py": "a test of means",
    "measurement/panel.py": "fitted by robust_ols and cox",
    "measurement/response.py": "fitted by logit_fit",
    "measurement/lags.py": "moments.resampled_covariances puts down rows and items",
    "service/load.py": "of branches and quarters; the model is fitted by rates and robust_ols",
    "worth/purchases.py": "four parameters, of 250 customers at least",
}  # fmt: skip


def test_every_model_puts_down_its_size():
    folder = Path(estimators.__file__).parent
    solving = {}
    for path in (*folder.rglob("*.py"), *Path(studies.__file__).parent.rglob("*.py")):
        name, source = path.as_posix().rpartition("/estimators/")[2].rpartition("/studies/")[2], path.read_text("utf-8")
        if SIZE.search(source) and not name.startswith("lifetime/"):  # fitted by worth/purchases.py
            solving[name] = "sized(" in source
    assert {name for name, known in solving.items() if not known} == set(SIZED_ELSEWHERE)
    assert sum(solving.values()) >= 12


@study
def fitted(n: int, columns: int) -> Result:
    x = np.random.default_rng(1).normal(size=(n, columns))
    beta, _ = robust_ols(x, x @ np.ones(columns))
    return Result(pd.DataFrame({"n": [n], "slope": beta[:1]}), "told")


def test_a_result_of_a_model_needs_residual_degrees_of_freedom():
    assert fitted(30, 20).fitted == {(30, 20)}
    assert fitted(30, 20).applicable
    refused = fitted(29, 20)
    assert "fewer than 10 residual degrees of freedom" in str(refused.missing)
    assert refused.table.empty
    rules.use("default, freedom=9")
    assert fitted(29, 20).applicable
    rules.use()
    with sizes() as found:
        assert {c.status for c in model_gates(12, 2)} == {"closed"}  # told, though too few events per parameter
    assert found == {(12, 2, 12)}


@study
def counted(people: int, events: int, columns: int, kind: str) -> Result:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(people, columns)), np.arange(people) < events
    if kind == "logit":
        beta = logit_fit(x, y.astype(float)).params
    elif kind == "rates":
        beta, _ = rates(x, y, np.ones(people), [np.arange(people)])
    else:
        spells = pd.DataFrame(x).add_prefix("x").assign(entry=0.0, exit=rng.uniform(1, 9, people), event=y)
        beta = cox.cox(spells, [f"x{k}" for k in range(columns)]).params.to_numpy()
    return Result(pd.DataFrame({"n": [people], "slope": beta[:1]}), "told")


@pytest.mark.parametrize("kind", ["logit", "rates", "cox"])
def test_a_model_that_counts_events_needs_some_a_parameter(kind):
    assert counted(400, 60, 12, kind).applicable
    rules.use("default, per_parameter=6")
    assert "fewer than 6 events a parameter" in str(counted(400, 60, 12, kind).missing)
    rules.use()
    assert not counted(400, 20, 12, kind).applicable  # eight more than parameters
    if kind == "logit":
        assert not counted(400, 380, 12, kind).applicable  # of outcomes that are one or the other the rarer counts


# -- sets of rules -----------------------------------------------------------------------------------------------------


def test_sets_of_rules_differ_where_they_say():
    assert rules.use("abs") == "abs"
    assert hidden(pd.DataFrame({"n": [500, 400], "left": [470, 20]}), "n", "left")[0]  # nearly all of them
    assert rules.use("eurostat") == "eurostat"
    assert not rules.whose([45, 35, 10, 10]).dominated  # two may make four fifths
    assert disclosure.protect(CELLS.assign(n=[400, 31, 28, 93])).frame["n"].tolist() == [400, 30, 30, 95]
    assert rules.use("default, least=30") == "default, least=30"
    assert hidden(CELLS.assign(n=[400, 29, 250, 90])) == [False, True, False, True]
    assert rules.use() == "default"
    assert not any(hidden(CELLS.assign(n=[400, 29, 250, 90])))


@pytest.mark.parametrize(
    ("chosen", "told"),
    [("onz", "no disclosure rules 'onz'"), ("abs, most=3", "'most=3' sets none"), ("abs, least=many", "'least=many'"),
     ("least=2", "no disclosure rules 'least=2'"), ("default, least=2", "below 3")],
)  # fmt: skip
def test_unknown_rules_are_refused_with_a_remedy_that_works(chosen, told):
    with pytest.raises(InputError, match=told):
        rules.use(chosen)
    assert rules.rules == rules.Rules()


# -- text --------------------------------------------------------------------------------------------------------------


def test_no_sentence_tells_a_number_of_few_people():
    told = words.careful.vformat
    row = pd.Series({"mean": 697_845.191, "n": 4, "name": "branch"})
    assert told("{row[name]}: {row[mean]:,.2f} (n = {row[n]:,})", (), {"row": row}) == "branch: – (n = <10)"
    assert told("{e.value:.1%} or {e:.1%}", (), {"e": Estimate(0.5, 0.4, 0.6, "share", 9)}) == "– or –"
    assert told("{e.value:.1%}", (), {"e": Estimate(0.5, 0.4, 0.6, "share", 10)}) == "50.0%"
    assert [told("{n:,}", (), {"n": n}) for n in (0, 1, 9, 10, np.nan)] == ["0", "<10", "<10", "10", "–"]
    shown = disclosure.protect(CELLS).frame
    assert told("{row[band]} {row[share]:.0%}", (), {"row": shown.iloc[2]}) == "c –"


@pytest.mark.parametrize("column", ["channel", "segment", "city"])
def test_a_name_that_somebody_typed_for_a_few_is_no_name_of_a_row(column):
    frame = pd.DataFrame({column: ["branch", "ask for Zhang Wei 138 0013 8000", "online"], "n": [400, 2, 300]})
    for shown in (disclosure.safe(frame), disclosure.safe(frame.set_index(column)).reset_index(),
                  disclosure.safe(frame.assign(year=2020).set_index(["year", column])).reset_index()):  # fmt: skip
        assert shown[column].tolist() == ["branch", "other, fewer than 10", "online"]


def test_a_run_chooses_its_rules_before_the_bank(monkeypatch):
    assert rules.use("abs") == "abs"
    monkeypatch.setenv(rules.CHOSEN, "eurostat, least=25")
    assert rules.use("abs") == "eurostat, least=25"
    assert (rules.rules.least, rules.rules.base) == (25, 5)


def test_small_amounts_keep_two_digits_where_large_ones_have_none():
    frame = pd.DataFrame(
        {"value": [3.613, 1613.2], "ci_low": [0.664, 1500.4], "ci_high": [6.562, 1700.6], "n": [713, 713]}
    )
    assert "3.6 [0.7, 6.6]" in disclosure.text(frame, digits=0)  # was 4 [1, 7], in a money of large units
    assert "1,613 [1,500, 1,701]" in disclosure.text(frame, digits=0)


@pytest.mark.parametrize(
    ("declared", "groups"),
    [((), []), (("n",), [["n"]]), (("n", "left"), [["n", "left"]]), ((("n", "left"), "won"), [["n", "left"], ["won"]])],
)
def test_groups_of_counts_hold_a_whole_each(declared, groups):
    assert disclosure.grouped(declared) == groups
