"""Tables say, in any language, which of their columns count people; that adds to what is guessed, and hides nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from crmresearch import disclosure, words
from crmresearch.run.scan import scan
from test_scan import WHO, clean, notebook, output


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return clean(tmp_path / "run")


DECLARED = {"counts": {"00_c.csv": [["first", "first_did"], ["held_out"]], "00_a.csv": [[]]}}


def page(rows: str, declared: str | None) -> str:
    """Write rows of a CSV as a table of a page, with what it declares."""
    head, *cells = ("".join(f"<{tag}>{c}</{tag}>" for c in row.split(",")) for tag, row in marked(rows))
    people = "" if declared is None else f' data-people="{declared}"'
    return f'<table class="dataframe"{people}>{"".join(f"<tr>{row}</tr>" for row in (head, *cells))}</table>'


def marked(rows: str) -> list[tuple[str, str]]:
    return [("th" if k == 0 else "td", row) for k, row in enumerate(rows.strip().split("\n"))]


@pytest.mark.parametrize(
    ("row", "found"),
    [("40,20,12", 0), ("40,20,4", 1), ("40,20,4.5", 1), ("40,33,12", 1), (",,", 0), ("40,0,12", 0)],
    ids=["enough", "few", "weighted", "all but few", "hidden", "none"],
)
def test_columns_count_people_where_their_table_says_so(run, row, found):
    """In its file or where it stands in a page; a table with the same headings that says otherwise counts otherwise."""
    (run / "disclosure.json").write_text(json.dumps({"threshold": 10, **DECLARED}))
    rows = f"month,first,first_did,held_out\n2020-01,{row}\n"
    (run / "tables/00_c.csv").write_text(rows)
    (run / "site/c.html").write_text(page(rows, "1,2 3"))
    (run / "site/d.html").write_text(page(rows, "") + page(rows, "1") + page("first,x\n4,y\n", None))
    assert [b.file for b in scan(run, WHO).breaches] == ["site/c.html", "tables/00_c.csv"] * found


MISFIT = "declaration of counts that is not this table's"


@pytest.mark.parametrize(
    ("rows", "declared", "rule"),
    [
        ("g,n\nx,3\n", "", "fewer than 10 people in 'n'"),  # no declaration makes blind
        ("g,first,Number of customers\nx,30,3\n", "1", "fewer than 10 people in 'Number of customers'"),
        ("g,x,y\nn,3,50\n", "", "fewer than 10 people in 'n'"),
        ("g,x\nshare,0.5\ncustomers,3\n", "", "fewer than 10 people in 'customers'"),
        ("g,first,n,n\nx,30,3,30\n", "1", "fewer than 10 people in 'n'"),  # of two columns of one name the first
        ("g,first\nx,3 [1; 6]\n", "1", "fewer than 10 people in 'first'"),
        ("g,first\nx,30\n", "2", MISFIT),
        ("g,first\nx,thirty-3\ny,40\n", "1", MISFIT),
        ("g,first\nx,&lt;10\ny,\nz,–\n", "1", None),
    ],
)
def test_a_declaration_adds_to_what_is_searched_and_must_be_the_table_s_own(run, rows, declared, rule):
    (run / "site/c.html").write_text(page(rows, declared))
    assert {b.rule for b in scan(run, WHO).breaches} == ({rule} if rule else set())


def test_a_column_that_was_renamed_in_its_file_is_missed_by_its_declaration(run):
    (run / "disclosure.json").write_text(json.dumps({"threshold": 10, **DECLARED}))
    (run / "tables/00_c.csv").write_text("month,erste,first_did,held_out\n2020-01,3,0,12\n")
    assert [b.rule for b in scan(run, WHO).breaches] == [MISFIT]


def shown_in_chinese(run: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]) -> list[str]:
    """Write a table with a count whose Chinese heading no guess knows as page and notebook; return what is found."""
    monkeypatch.setenv(words.LANGUAGE, "zh")
    frame = pd.DataFrame({"from": ["2020", "2021"], "jaccard": 0.5, "ci_low": 0.25, "ci_high": 0.75})
    frame = disclosure.safe(frame.assign(n=[400, 300], core_after=[45, 44]), (("n",), ("core_after",)))
    html, text = (write(frame).replace(*change) for write in (disclosure.html, disclosure.text))
    assert "core_after" not in html
    assert 'data-people="2 3"' in html
    (run / "site/zh.html").write_text(html)
    (run / "notebooks/00_b.ipynb").write_text(notebook(output(**{"text/html": html, "text/plain": text})))
    files = disclosure.html(
        disclosure.safe(pd.DataFrame({"table": ["customers", "monthly"], "days_behind": [1, 30]}), ())
    )
    assert words.cell("customers") in files
    (run / "site/files.html").write_text(files)
    return [f"{b.file} {'plain' * ('text/plain' in b.where)}".strip() for b in scan(run, WHO).breaches]


def test_a_small_cell_is_found_in_chinese_and_nothing_else(run, monkeypatch):
    assert shown_in_chinese(run, monkeypatch, ("44", "44")) == []
    leak = ["notebooks/00_b.ipynb", "notebooks/00_b.ipynb plain", "site/zh.html"]
    assert sorted(shown_in_chinese(run, monkeypatch, ("44", " 4"))) == leak


@pytest.mark.parametrize("name", ["流失数", "获取数", "面临流失", "受邀人数"])
def test_a_foreign_table_with_chinese_headings_is_guessed_at(run, name):
    (run / "site/c.html").write_text(page(f"g,{name}\nx,3\n", None))
    assert [b.rule for b in scan(run, WHO).breaches] == [f"fewer than 10 people in '{name}'"]


def test_a_declared_table_may_name_the_table_of_customers(run):
    """One day behind is no customer; the same lines in a table of which nobody says what it counts may be."""
    rows = "table,newest,days_behind\ncustomers,2025-12-30,1\nmonthly,2025-12-01,30\n"
    (run / "tables/00_f.csv").write_text(rows)
    (run / "site/f.html").write_text(page(rows, None))
    assert [b.rule for b in scan(run, WHO).breaches] == ["fewer than 10 people in 'customers'"] * 2
    (run / "site/f.html").write_text(page(rows, ""))
    (run / "disclosure.json").write_text(json.dumps({"threshold": 10, "counts": {"00_f.csv": []}}))
    assert scan(run, WHO).breaches == []
    site = run.with_name("site")  # which holds no declaration of its own
    shutil.copytree(run / "tables", site)
    assert len(scan(site, WHO).breaches) == 1
    assert scan(site, WHO, runs=[run]).breaches == []


# --- two tables of one run --------------------------------------------------------------------------------------------

ALL = "region,n,left\nnorth,300,40\nsouth,200,30\n"
ANSWERED = "region,satisfaction,answered\nnorth,4.5,{}\nsouth,4.1,150\n"


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (ALL, ANSWERED.format(295), 1),
        (ALL, ANSWERED.format(285), 0),
        (ALL, ANSWERED.format(300), 0),
        (ALL, ALL, 0),  # shown twice
        (ALL, ALL.replace("n,left", "n,left,answered").replace("300,40", "300,40,290"), 0),  # which its own row tells
        (ALL, ANSWERED.format(295).replace("region", "city"), 0),  # others may be called so
        (ALL, ANSWERED.format(295).replace("north", "east"), 0),
        ("year,n\n2020,300\n", "year,n\n2020,295\n", 0),
        (ALL + "north,304,40\n", "", 0),
        ("g,n\nx,3\n", "g,n\nx,5\n", 1),
    ],
)
def test_rows_of_two_tables_that_count_a_few_more_or_less_are_to_be_looked_at(run, first, second, found):
    """They are no breach: who counts whom is not known."""
    (run / "tables/00_c.csv").write_text(first)
    (run / "tables/00_d.csv").write_text(second)
    report = scan(run, WHO)
    assert len(report.alike) == found
    assert all(told.startswith("tables/00_c.csv and tables/00_d.csv (") for told in report.alike)
    assert bool(report.breaches) == first.startswith("g")
