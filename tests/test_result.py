"""Results display themselves safely, pass on what is missing, and refuse nonsense."""

from __future__ import annotations

import html as markup
import re

import numpy as np
import pandas as pd
import pytest

from crmresearch import disclosure, figures
from crmresearch.errors import InputError, Missing, Reader
from crmresearch.estimators.inference import Estimate
from crmresearch.figures import Picture
from crmresearch.result import Check, Result, study

CELLS = pd.DataFrame({"band": list("abcd"), "n": [400, 7, 25, 90], "share": [0.4, 0.9, 0.2, 0.1]})


RESULT = Result(
    CELLS,
    "The share is 40%.",
    checks=(Check.of("enough events", True, "42 events, at least 10 needed"),),
    estimates={"S19": Estimate(0.4, 0.3, 0.5, "share", 400)},
    picture=Picture("curves", pd.DataFrame({"x": [0, 1], "y": [0, 1], "n": 40}), "Rising", "tenure, months"),
)


# -- disclosure --------------------------------------------------------------------------------------------------------


# -- display -----------------------------------------------------------------------------------------------------------


def test_display_shows_no_small_cell():
    for shown in (repr(RESULT), RESULT._repr_html_()):
        assert "0.900" not in shown
        assert "The share is 40%." in shown
        assert "enough events" in shown


def test_html_is_escaped_and_has_headers():
    html = disclosure.html(pd.DataFrame({"<b>": ["<script>"]}).rename_axis("band"))
    assert "<script>" not in html
    assert html.count('<th scope="col"') == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,234,567"), (0.12345, "0.123"), (1e-9, "1.0e-09"), (np.inf, "∞"), (np.nan, "–"), (True, "yes"),
     (1234.5, "1,234"), (42.0, "42"), (0.0, "0")],
)  # fmt: skip
def test_cells_are_rounded(value, shown):
    assert disclosure._cell(value, 3) == shown


# -- missing -----------------------------------------------------------------------------------------------------------


def test_study_passes_on_what_is_missing():
    @study
    def mean(frame: pd.DataFrame, column: str = "x") -> Result:
        return Result(frame, "computed")

    missing = Missing("bank b brings no table monthly", ("monthly",))
    result = mean(missing)
    assert not result.applicable
    assert repr(result) == "Not applicable: bank b brings no table monthly"
    assert result.plot() is None
    assert result.finding("S37") is missing
    assert mean(CELLS, column="n").applicable


def test_finding_carries_the_checks_of_the_result():
    assert [c.name for c in RESULT.finding("S19").checks] == ["enough events"]
    with pytest.raises(InputError, match="no estimate for S20; it has S19"):
        RESULT.finding("S20")


def test_interval_must_not_be_upside_down():
    with pytest.raises(InputError, match="upside down"):
        Estimate(1, 2, 0, "x", 3)


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    """What figures show, as it is stored."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw=False: shown.append(data))
    return shown


def test_show_stores_alt_text_and_source_once(tmp_path, displayed):
    told = "Rising. Curves (tenure, months): 0 at 0, 1 at 1."
    figures.use("an invented bank, 2020-2024", tmp_path, prefix="01")
    axes = RESULT.plot()
    figures.show(axes, alt=RESULT.alt, name="line")
    assert [d["text/plain"] for d in displayed] == [told]
    assert re.match(
        rf'<img alt="{re.escape(told)}" width="\d+" src="data:image/png;base64,[\w+/=]+">', displayed[0]["text/html"]
    )
    assert displayed[0]["text/html"].endswith(f"<summary>This figure in words</summary><p>{told}</p></details>")
    assert (tmp_path / "01_line.txt").read_text() == f"{told}\n"
    assert (tmp_path / "01_line.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "01_line.svg").read_text()
    assert axes.figure.get_supxlabel() == "Source: an invented bank, 2020-2024"
    figures.use()


def test_same_figure_same_bytes(tmp_path, displayed):
    figures.use("s", tmp_path)
    for name in ("a", "b"):
        figures.show(RESULT.plot(), alt="x", name=name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    figures.use()


def test_show_needs_alt_text_but_shows_nothing_for_nothing():
    with pytest.raises(InputError, match="alt text"):
        figures.show(RESULT.plot(), alt=" ")
    assert figures.show(None, alt="") is None


@pytest.mark.parametrize(("panels", "visible"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)])
def test_axes_gives_as_many_panels_as_asked(panels, visible):
    axes = figures.axes(panels)
    assert len(np.atleast_1d(axes)) == visible


@pytest.mark.parametrize("alt", ["Rises & <falls>.", 'The "core" stays.', "It's 5% [4%, 6%]; 客户流失."])
def test_nbconvert_and_jupyterlab_show_a_picture_with_its_alt_text(displayed, alt):
    """JupyterLab shows a PNG without alt text; HTML it shows, with ``alt`` and ``src``."""
    nbformat, nbconvert = pytest.importorskip("nbformat"), pytest.importorskip("nbconvert")
    figures.show(RESULT.plot(), alt=alt)
    assert list(displayed[0]) == ["text/html", "text/plain"]  # nothing that either would show instead
    output = nbformat.v4.new_output("display_data", displayed[0])
    page, _ = nbconvert.HTMLExporter().from_notebook_node(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    )
    found = re.findall(r"<img alt=(\"[^\"]*\"|'[^']*')", page)  # nbconvert chooses the quotes
    assert [markup.unescape(f[1:-1]) for f in found] == [alt]


def test_an_estimate_and_its_interval_are_one_column():
    frame = pd.DataFrame(
        {
            "line": ["a", "b"], "ratio": [1.5, np.nan], "ci_low": [1.0, np.nan], "ci_high": [2.0, np.nan],
            "rank_low": [1, 2], "rank_high": [3, 4], "low": [1.0, 2.0], "n": [40, 50],
        }
    )  # fmt: skip
    html = disclosure.html(frame)
    heads = re.findall("<th [^>]*>(.*?)</th>", html)
    assert heads == ["line", "ratio [interval]", "rank [interval]", "low", "n"]
    assert re.findall("<td[^>]*>(.*?)</td>", html) == [
        "a", "1.500 [1.000, 2.000]", "[1, 3]", "1.000", "40", "b", "–", "[2, 4]", "2.000", "50"
    ]  # fmt: skip
    assert "1.500 [1.000, 2.000]" in disclosure.text(frame)
    assert disclosure.html(frame[["line", "ci_low", "ci_high"]]).count("[interval]") == 1  # ends without an estimate


@pytest.mark.parametrize(
    ("columns", "heads"),
    [
        ({"share": 0.02, "n": 168, "low": 0.01, "high": 0.03}, ["share [interval]", "n"]),
        ({"estimate": 0.3, "se": 0.1, "low": 0.1, "high": 0.5}, ["estimate [interval]", "se"]),
        ({"size": 0.4, "loglik": -7.0, "size_low": 0.3, "size_high": 0.5}, ["size [interval]", "loglik"]),
        ({"ratio": 4.4, "customers": 900, "bootstrap_low": 1.0, "bootstrap_high": 2.0},
         ["ratio", "bootstrap [interval]", "customers"]),
        ({"months": 12, "gates": 3, "gini": 0.4, "low": 0.3, "high": 0.5}, ["months", "gini [interval]", "gates"]),
        ({"segment": "a", "rule": "b", "n": 20, "note": "c", "mean": 4.0, "mean_low": 3.0, "mean_high": 5.0, "k": 1},
         ["segment", "rule", "mean [interval]", "n", "note", "k"]),
        ({"year": 2020, "cause": "c", "n": 20, "rate": 4.0, "low": 3.0, "high": 5.0, "se": 2.0, "se_low": 1.0,
          "se_high": 3.0}, ["year", "cause", "rate [interval]", "se [interval]", "n"]),
    ],
)  # fmt: skip
def test_an_interval_stands_beside_the_estimate_it_holds_and_before_the_rest(columns, heads):
    html = disclosure.html(pd.DataFrame({k: [v, v] for k, v in columns.items()}))
    assert re.findall("<th [^>]*>(.*?)</th>", html) == heads


@pytest.mark.parametrize(
    ("counts", "people", "told"),
    [(("n",), (1,), False), (("n",), (9, 4), False), (("n",), (10,), True), (("n",), (3, 12), True), ((), (3,), True)],
)
def test_a_notebook_is_told_nothing_that_rests_on_a_few_people(counts, people, told, monkeypatch):
    lines = {f"line {k}": Estimate(0.5, 0.4, 0.6, "share", n) for k, n in enumerate(people)}
    asked = study(lambda: Result(pd.DataFrame({"n": [40]}), "It is 50%.", estimates=lines, counts=counts))
    assert "50%" in repr(asked())  # by a caller of the library, who counts by hand
    monkeypatch.setattr(Reader, "in_notebook", True)
    assert ("50%" in repr(asked())) == told
    assert told or ("fewer than 10 people" in repr(asked()) and asked().plot() is None)


def test_every_gate_is_shown_once_in_the_state_that_the_ledger_gives_it():
    from crmresearch import ledger
    from crmresearch.estimators.verdicts import Deviation

    weak = Check("alike", "open", "0.05 [-0.2, 0.3]", Deviation(0.05, -0.2, 0.3, limit=0.1))
    own = Check("drift", "closed", "0.9", Deviation(0.9, 0.8, 1.0, limit=0.1))
    lines = {"S06": Estimate(1, 0.5, 2, "u", 100, checks=(own,)), "S42": Estimate(1, 0.5, 2, "u", 100)}
    result = Result(pd.DataFrame({"v": [1.0]}), "Said.", (weak,), lines, counts=())
    assert [(state, c.name) for state, c in result.gates] == [("weak check", "alike"), ("closed", "drift")]
    for line in lines:
        found = result.finding(line)
        told = ledger.split_checks(ledger._join_checks(found.checks))
        assert {text.partition(" (")[0]: state for state, text in told}.items() <= {
            c.name: state for state, c in result.gates
        }.items()
    assert repr(result).count("[closed] drift") == 1
    assert "[weak check] alike" in repr(result)
    assert result._repr_html_().count("<li>") == 2


@pytest.mark.parametrize("few", ["3", "3,", "3.1"])
def test_a_number_of_a_gate_is_no_row_of_a_column_that_counts_people(few):
    from crmresearch.run.scan import _text_tables

    table = pd.DataFrame({"quantity": ["answered, of those asked", "asked"], "n": [100, 200]})
    at = repr(Result(table, "Said.")).splitlines()[1].index(" n") + 2  # where the column's numbers end
    gate = Check("a", "open", "")
    detail = few.rjust(at - len(f"[open] {gate.name}: "))
    shown = repr(Result(table, "Said.", (Check("a", "open", detail),)))
    assert list(_text_tables(shown, True, ())) == [([], [["n"], ["100"], ["200"]])]
