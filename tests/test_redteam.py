"""What is planted in a bank leaves by no table, figure, sentence, alt text, display, CSV or JSON.

The notebooks run by rules that round counts, to a base that no number has by chance.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text

import poor_banks
import redteam
from crmresearch import disclosure, figures, ledger, rules, words
from crmresearch.data.reductions import cost as cost_reductions
from crmresearch.data.reductions import value as value_reductions
from crmresearch.errors import InputError, Reader, Withheld
from crmresearch.estimators.inference import Estimate
from crmresearch.figures import Picture
from crmresearch.notebook import Notebook
from crmresearch.result import Result, study
from crmresearch.studies import cost, value

BASE = 7
PEOPLE = re.compile(
    r"(?<![\w.,%-])(?<!at least )(?<!than )(\d[\d,]*)(?= (?:of [\d,]+ )?(?:customers?|persons?|people|prospects"
    r"|spells?|exits?|wins|answers|respondents|referrals)\b(?![ -](?:value|years)))"
    r"|\bn\s=\s(\d[\d,]*)|\"n\": (\d+)"
)
COUNTS = re.compile(r"^(n|left|exits|wins|prospects|customers|both|referrals|events|sold|at_risk)$")


@pytest.fixture(scope="module", params=["00", "01", "02", "03", "04", "06", "07", "09"])
def leaked(request, tmp_path_factory) -> tuple[Path, str]:
    """Everything a notebook wrote or showed of the bank."""
    folder = tmp_path_factory.mktemp("redteam")
    return folder, written_of(redteam.bank(), folder, request.param)


def written_of(bank, folder: Path, notebook: str) -> str:
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poor_banks, "shown", lambda *shown, **_: told.extend(map(_written, shown)))
        patch.setenv(rules.CHOSEN, f"default, base={BASE}")
        poor_banks.run(bank, folder, [p for p in poor_banks.NOTEBOOKS if p.name.startswith(notebook)])
    for path in folder.rglob("*"):
        if path.is_file() and "restricted" not in path.parts and path.suffix in {".csv", ".json", ".txt"}:
            told.append(path.read_text("utf-8"))
    figures.use()
    return "\n".join(told)


def _written(shown) -> str:
    html = shown._repr_html_() if hasattr(shown, "_repr_html_") else getattr(shown, "data", "")
    told = f"{shown!r}\n{html if isinstance(html, str) else ''}"
    return re.sub(r"base64,[\w+/=]+", "", told)  # pixels spell any number


def test_no_name_that_somebody_typed_and_no_identifier_leaves(leaked):
    _, told = leaked
    assert [name for name in redteam.TYPED if name in told] == []
    assert re.findall(r"\bC0000\d{4}\b", told) == []


def test_nobody_who_dominates_is_told_from_a_total_a_mean_or_a_quantile(leaked):
    folder, told = leaked
    values = {float(v.replace(",", "")) for v in re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d{6,}", told)}
    for people in (1, 2, 10, 12):  # his month, year and three years, or a mean of what is drawn around him
        for months in (1, 12, 36):
            own = redteam.FEES * months / people
            if own > 50_000:
                assert not [v for v in values if abs(v - own) < 0.0005 * own], (people, months)
    for path in folder.rglob("*.csv"):  # where commas stand between numbers
        told = told.replace(path.read_text("utf-8"), "")
    assert re.findall(r"[1-9]\d{0,2}(?:,\d{3}){2,}", told) == []  # nobody else has millions, alone or in a mean


@pytest.mark.parametrize(
    ("column", "notebook"),
    [(column, "03") for column in redteam.DOMINATED[:4]]
    + [("monthly.service_cost", "01"), ("transactions.amount", "00")],
)
def test_nobody_who_dominates_another_column_of_money_is_told(column, notebook, tmp_path):
    told = written_of(redteam.bank(dominated=column), tmp_path, notebook)
    cells = []  # of tables by themselves: commas stand between numbers of three digits there
    for text in (path.read_text("utf-8") for path in tmp_path.rglob("*.csv")):
        told = told.replace(text, "")
        cells += [cell for row in csv.reader(text.splitlines()) for cell in row]
    large = re.compile(r"(?<![\w.])\d{9,}\b|e\+(?:09|[1-9]\d)|(?<![\d.])\d{1,3}(?:,\d{3}){3,}(?!\.?\d*,)")
    assert [found for text in (told, *cells) for found in large.findall(text)] == []


def test_nobody_who_gains_in_one_month_what_he_loses_in_the_next_is_told():
    """His fees add up to nothing, and are most of every month that he was there."""
    bank = redteam.bank(dominated=redteam.CANCELLING)
    won, lives = cost_reductions.acquisition(bank), cost_reductions.upkeep(bank)
    hidden = [cost.payback(won, lives), cost.replacement(won, lives)]
    hidden.append(value.age_period_cohort(value_reductions.vintages(bank)))
    landmark = value_reductions.customers_at(bank, at=value_reductions.month_end(bank, 24))
    hidden.append(value.tenure_curves(value.fit_margin(value_reductions.tenure_margin(bank), landmark)))
    for result in hidden:
        assert words.of("top.disclosure").names("rules")["dominance"] in result.hidden, result


def test_no_count_of_one_to_nine_stands_in_a_table(leaked):
    folder, _ = leaked
    for path in sorted((folder / "tables").glob("*.csv")):
        frame = pd.read_csv(path)
        for column in [c for c in frame if COUNTS.match(c)]:
            few = pd.to_numeric(frame[column], errors="coerce").between(1, 9)
            assert not few.any(), (path.name, column)


def test_every_count_of_people_is_rounded_by_one_rule(leaked):
    folder, told = leaked
    found = [next(filter(None, m.groups())).replace(",", "") for m in PEOPLE.finditer(told)]
    assert len(found) > 5
    kept = [json.loads(p.read_text("utf-8"))["lines"] for p in (folder / "findings").glob("*.json")]
    files = {str(lines[k]["n"]) for lines in kept for k in ledger.IMPERSONAL if "n" in lines.get(k, ())}
    assert {n for n in found if int(n) % BASE} <= files | {str(rules.Rules().least)}
    for path in sorted((folder / "tables").glob("*.csv")):
        frame = pd.read_csv(path)
        for column in [c for c in frame if COUNTS.match(c)]:
            counts = pd.to_numeric(frame[column], errors="coerce").dropna()
            assert not (counts[counts > 1] % BASE).any(), (path.name, column)  # where "left" is a share it is below


def test_what_protection_did_to_each_headline_is_written_down(leaked):
    folder, _ = leaked
    for path in (folder / "disclosure").glob("*.json"):
        headlines = json.loads(path.read_text("utf-8"))["headlines"]
        if path.stem.startswith("03"):  # one customer makes the money of whoever is lost
            assert headlines["S41"] == "withheld"
            assert headlines["S40"] == "as computed"
        if path.stem.startswith("00"):
            assert len(headlines) > 3
            assert set(headlines.values()) == {"as computed"}


def test_a_bank_of_sixty_renders_suppressed_and_explained(tmp_path):
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poor_banks, "shown", lambda *shown, **_: told.extend(map(_written, shown)))
        poor_banks.run(redteam.bank(60), tmp_path, [p for p in poor_banks.NOTEBOOKS if p.name.startswith("00")])
    figures.use()
    text = "\n".join(told)
    assert "too few people" in text
    assert [name for name in redteam.TYPED if name in text] == []


@pytest.mark.parametrize("notebook", ["02", "04", "09"])
def test_every_study_that_fits_a_model_passes_the_rule_of_residual_degrees_of_freedom(notebook, tmp_path):
    """Where no model may be told, what is left are counts, curves and means."""
    shown: list[Result] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            poor_banks, "shown", lambda *values, **_: shown.extend(v for v in values if isinstance(v, Result))
        )
        patch.setenv(rules.CHOSEN, "default, freedom=1000000")
        poor_banks.run(redteam.bank(), tmp_path, [p for p in poor_banks.NOTEBOOKS if p.name.startswith(notebook)])
    figures.use()
    assert {line for r in shown for line in r.estimates} <= {"S28", "stated_over_actual", "stated_less_actual"}
    assert sum("degrees of freedom" in str(r.missing) for r in shown) > {"02": 7, "04": 14, "09": 0}[notebook]


@pytest.mark.parametrize(
    ("notebook", "blank"), [("00", False), *((n, True) for n in ("01", "02", "03", "04", "06", "07", "09"))]
)
def test_impossible_values_of_hidden_rows_are_drawn_and_told_nowhere(notebook, blank, tmp_path, monkeypatch):
    """Every figure of a notebook, from frames whose hidden rows hold what nobody could have.

    Counts of hidden rows stay blank where a study asks by them what is hidden.
    """
    honest, drawn = disclosure.protect, []

    def poisoned(frame, *args, **values):
        safe = honest(frame, *args, **values)
        if disclosure.REASON in safe.frame:
            off = safe.frame[disclosure.REASON].ne("")
            counts = {c for group in disclosure.grouped(safe.counts) for c in group if blank}
            for column in safe.frame.select_dtypes("number").columns.difference([*counts]):
                safe.frame[column] = safe.frame[column].mask(off, -12_345_678.0)
        return safe

    def looked_at(shown, *, alt, name=None):
        if shown is not None:
            axes = shown.ravel() if hasattr(shown, "ravel") else [shown]
            drawn.extend(t.get_text() for a in axes for t in a.findobj(Text))
            drawn.extend(map(str, (v for a in axes for v in (*a.get_xlim(), *a.get_ylim()))))
        drawn.append(alt)

    monkeypatch.setattr(disclosure, "protect", poisoned)
    monkeypatch.setattr(figures, "show", looked_at)
    monkeypatch.setattr(
        poor_banks, "shown", lambda *shown, **_: drawn.extend(s.sentence for s in shown if hasattr(s, "sentence"))
    )
    poor_banks.run(redteam.bank(), tmp_path, [p for p in poor_banks.NOTEBOOKS if p.name[:2] == notebook])
    figures.use()
    assert len(drawn) > (5 if notebook in ("06", "07", "09") else 10)
    assert [t for t in drawn if re.search(r"12,?345,?678|1\.23\d*e\+?0?7", t)] == []


NOBODYS = {"shares, pooled quantiles", "taken out above", "a score", "a share who stay", "a rate of leaving"}
MONEY = re.compile(r"money|cost|contribution|spend|income|margin(?!al)|fees|balance|price|revenue", re.I)
NOT_MONEY = {"costs"}  # what a row is
DECLARED = {"00": 0, "01": 6, "02": 0, "03": 8, "04": 0, "06": 2, "07": 1, "09": 0}  # columns of money, at least


@pytest.mark.parametrize("notebook", DECLARED)
def test_no_money_leaves_that_says_not_whose_it_is(notebook, tmp_path, monkeypatch):
    """Every table, line and figure of every study, where each total has somebody who dominates it: no money is left."""
    made, shown, reasons, honest = [], [], set(), Result.__post_init__
    everybody = property(lambda own: reasons.add(own.nobody) is None)
    monkeypatch.setattr(rules.Whose, "dominated", everybody)
    monkeypatch.setattr(Result, "__post_init__", lambda self: honest(self) or made.append(self))
    monkeypatch.setattr(poor_banks, "shown", lambda *values, **_: shown.extend(values))
    rows = poor_banks.run(redteam.bank(), tmp_path, [p for p in poor_banks.NOTEBOOKS if p.name[:2] == notebook])
    figures.use()
    for result in made:
        bare = [
            str(c)
            for c in result.table
            if result.counts and MONEY.search(str(c)) and c not in {*result.money, *NOT_MONEY}
        ]
        assert bare == [], result.sentence[:200]  # no column of money is forgotten
        assert not result.table[result.table.columns.intersection([*result.money])].notna().any(axis=None)
    assert [k for k, e in rows["estimate"].items() if ledger.lines()[k].money and pd.notna(e)] == []
    of_money = [r for r in shown if isinstance(r, Result) and r.applicable and r.money]
    assert [r.sentence for r in of_money if re.search(r"\d[.,]\d", r.sentence)] == []
    assert len({c for r in made for c in r.money}) >= DECLARED[notebook]
    assert reasons - {""} <= NOBODYS  # a new reason is looked at here


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ({"spent": [5.0], "n": [50]}, {"money": ["spent"]}),
        ({"spent": [5.0], "n": [50], "whose": [False]}, {"money": ["spent"]}),
        (
            {"x": [5.0], "n": [50]},
            {
                "picture": figures.Picture(
                    "curves", pd.DataFrame({"x": [1.0], "y": [1.0], "n": [50]}), "", "", "", {"unit": "money"}
                )
            },
        ),
        ({"x": [5.0, 6.0], "n": [50, 60], "whose": [rules.nobodys("a score"), None]}, {"money": ["x"]}),
        ({"x": [], "n": []}, {"money": ["x"], "estimates": {"S02": Estimate(5.0, 4.0, 6.0, "money", 50)}}),
    ],
)
def test_a_table_or_figure_of_money_that_says_not_whose_it_is_is_refused(table, values):
    with pytest.raises(InputError, match="whose"):
        Result(pd.DataFrame(table), "told", **values)


@pytest.mark.parametrize("line", ["S12", "S45a", "S19", "S02"])
def test_a_line_of_money_is_kept_only_where_the_result_says_which_columns_are(line, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crmresearch.data.bank.open_bank", lambda _: redteam.bank(60))
        names: dict = {}
        for cell in poor_banks.cells(poor_banks.NOTEBOOKS[0])[:2]:
            exec(cell.source, names)
        nb = next(v for v in names.values() if isinstance(v, Notebook))
        found = {line: Estimate(1.0, 0.5, 1.5, "", 60)}
        result = Result(pd.DataFrame({"x": [1.0], "n": [60]}), "told", estimates=found)
        with pytest.raises(InputError, match=rf"{line} tell"):
            nb.keep(result, "x", line)


@pytest.mark.parametrize("hidden", [1.25, 250.0, -3.0])  # a whole number as well
def test_an_estimate_of_a_hidden_row_is_withheld(monkeypatch, hidden):
    monkeypatch.setattr(Reader, "in_notebook", True)
    own = [rules.whose([9e6, *[1.0] * 60]), rules.whose([1.5] * 60), rules.whose([2.5] * 70)]
    table = pd.DataFrame({"row": ["a", "b", "c"], "x": [hidden, 2.25, 3.25], "n": [61, 160, 70], "whose": own})
    found = {k: Estimate(x, x - 1, x + 1, "", 61) for k, x in (("a", hidden), ("b", 2.25), ("c", 3.25))}

    @study
    def asked():
        picture = Picture(
            "intervals", pd.DataFrame({"label": ["b"], "estimate": 2.25, "n": 160}), f"It is {hidden}", "x"
        )
        shown = disclosure.safe(table, parts=False).rename(columns={"x": "y"})
        return Result(shown, f"It is {hidden}.", estimates=found, picture=picture)  # what is asked in a notebook

    result = asked()
    assert str(hidden) not in result.sentence
    assert str(hidden) not in result.alt
    assert [isinstance(result.estimates[k], Withheld) for k in found] == [True, False, False]
    assert "off" not in result.table.attrs
