"""What a reader does with the site: filter, sort, look up, take along, cite; without scripts, and on a telephone."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from importlib.resources import files

import pandas as pd
import pytest

from crmresearch import disclosure, ledger
from crmresearch.run.site import api, methods, provenance, tables
from test_site import built, pages  # noqa: F401

TABLE = disclosure.html(pd.DataFrame({"model": ["a"], "htmt": [0.9], "low": [0.8], "high": [0.95], "n": [40]}))
SCRIPT = files("crmresearch.run.site").joinpath("static/crmresearch.js").read_text("utf-8")


def _rows(text: str, name: str) -> list[list[str]]:
    table = re.search(rf'<table [^>]*id="{name}".*?</table>', text, re.DOTALL)[0]
    rows = re.findall(r"<tr\b[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]
    return [re.findall(r'<td [^>]*data-sort="([^"]*)"', row) for row in rows]


def test_the_tables_hold_each_claim_and_line_that_was_looked_at(built):  # noqa: F811
    text = (built / "ledger.html").read_text("utf-8")
    frame = ledger.read(built.parent)
    looked = frame[~frame["verdict"].isin(ledger.UNMEASURED) | frame["estimate"].notna()]
    assert [row[0] for row in _rows(text, "lines")] == list(looked["line_id"])
    estimates = {row[0]: row[2] for row in _rows(text, "lines")}
    assert float(estimates["S19"]) == 0.62
    assert estimates["S37"] == ""  # not applicable
    assert {"S03", "S06", "S19", "S22"} <= {row[0] for row in _rows(text, "claims")}


@pytest.mark.parametrize("word", ["防止客户流失", "18,342", "hazard ratio", "consistent", "S06"])
def test_what_is_filtered_stands_in_the_row(built, word):  # noqa: F811
    text = (built / "ledger.html").read_text("utf-8")
    rows = re.findall(r"<tr\b[^>]*>.*?</tr>", text, re.DOTALL)
    assert any("S06" in row and word in row for row in rows)


def test_without_scripts_tables_are_whole_and_no_control_is_useless(built):  # noqa: F811
    for name in ("index.html", "ledger.html"):
        text = (built / name).read_text("utf-8")
        assert re.search(r'<p class="crm-find" hidden><label>Filter <input type="search">', text), name
        assert not re.search(r'<(tr|li)\b[^>]*class="crm-claim"[^>]*hidden', text)
    assert "<button" not in re.search(r"<thead.*?</thead>", text, re.DOTALL)[0]


@pytest.mark.parametrize(
    "part", ["aria-sort", "history.replaceState", "hashchange", "finder.hidden = false", "beforeprint"]
)
def test_the_script_sorts_for_all_and_keeps_what_it_does_in_the_address(part):
    assert part in SCRIPT
    assert not re.search(r"https?://|fetch\(|import\b|XMLHttp", SCRIPT)


@pytest.mark.parametrize("columns", [3, 5, 12])
def test_each_cell_of_a_wide_table_names_its_column(columns):
    table = disclosure.html(pd.DataFrame({f"c{k}": [1.0, 2.0] for k in range(columns)}))
    shown = tables.framed(table)
    names = re.findall(r'<td data-label="(\w+)"', shown)
    assert names == ([f"c{k}" for k in range(columns)] * 2 if columns > tables.WIDEST else [])
    assert shown.count('role="columnheader"') == (columns if columns > tables.WIDEST else 0)
    foreign = table.replace("<td ", "<th ", 1).replace("</td>", "</th>", 1)
    assert "data-label" not in tables.framed(foreign)


@pytest.mark.parametrize(
    ("up", "place"), [("", "methods.html"), ("../", "../methods.html"), ("../../", "../../methods.html")]
)
def test_a_column_that_is_a_term_leads_to_its_meaning(up, place):
    shown = tables.framed(TABLE, up)
    assert f'<a href="{place}#term-htmt">htmt</a> [interval]</th>' in shown
    assert f'<a href="{place}#term-n">n</a></th>' in shown
    assert ">model</th>" in shown
    assert 'data-label="htmt [interval]"' in tables.framed(tables.stacked(TABLE), up)


def test_each_method_has_its_source_and_each_term_a_place(built, pages):  # noqa: F811
    assert list(methods.SOURCES) == list(methods.say.names("uses"))
    assert all(re.search(r"\((19|20)\d\d\)", source) for source in methods.SOURCES.values())
    terms = [i for i in pages["methods.html"].ids if i.startswith("term-")]
    assert len(terms) == len(methods.say.names("meanings"))
    text = (built / "methods.html").read_text("utf-8")
    assert all(source.partition(" ")[0] in text for source in methods.SOURCES.values())


def test_everything_a_run_leaves_can_be_taken(built, pages):  # noqa: F811
    links = {str(a["href"]) for a in pages["downloads.html"].all("a") if "download" in a}
    assert {
        f"downloads/{p.relative_to(built / 'downloads').as_posix()}" for p in (built / "downloads").rglob("*.*")
    } == links
    kinds = {link.rpartition(".")[2] for link in links}
    assert kinds == {"ipynb", "csv", "png", "svg"}
    page = (built / "notebooks" / "01_customer_value.html").read_text("utf-8")
    place = "../downloads/figures/01_customer_value_share"
    assert f'src="{place}.png"' in page
    assert f'href="{place}.svg" download' in page
    assert "data:image/png" not in page


@pytest.mark.parametrize(
    "told", ["探讨银行客户关系管理论文 篇一", "篇三", "not given", "The crmresearch developers", "Date of the run"]
)
def test_where_it_comes_from_and_how_to_cite_it(built, told):  # noqa: F811
    assert told in (built / "about-this-run.html").read_text("utf-8")


def test_the_essays_are_named_as_they_stand(shared):
    text = (shared / "essays" / "bank-crm-essays.zh.txt").read_text("utf-8")
    assert all(title in text for title in provenance.say.names("titles").values())


def test_the_reference_holds_what_is_public_and_nothing_private(reference, monkeypatch):
    monkeypatch.setattr(api, "PARTS", reference)
    named = re.findall(r"auto(?:class|function):: (\S+)", "\n".join(api.pages().values()))
    assert len(named) == len(set(named)) > 300
    for name in named:
        module, _, own = name.rpartition(".")
        thing = getattr(import_module(module), own)
        assert inspect.getdoc(thing), name
        assert not any(part.startswith("_") for part in name.split(".")), name
    for expected in ("notebook.start", "result.Result", "studies.churn.retention", "estimators.inference.wilson"):
        assert any(name.startswith(f"crmresearch.{expected}") for name in named), expected
    assert not [name for name in named if re.search(r"crmresearch\.(run|lab)\b", name)]


def test_the_reference_is_on_the_site(built, pages):  # noqa: F811
    assert "crmresearch.result.Result" in pages["api/result.html"].ids
    text = (built / "api" / "result.html").read_text("utf-8")
    assert "Aggregates only;" in text  # what its docstring says of a parameter
