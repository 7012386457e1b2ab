"""The reviewers' site, built once from a small run: complete, accessible, self-contained, the same every time."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crmresearch import disclosure, figures, ledger, words
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import Deviation
from crmresearch.result import Check
from crmresearch.run import site
from crmresearch.run.execution import write_notebook
from crmresearch.run.site import chips, search, tables

# the smallest picture there is: one transparent pixel
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
ALT = 'Lorenz curve bending far below the diagonal; "top tenth" marked'
MATHS = r"inline $S(t) = \exp(-\int_0^t h(u)\,du)$ and" + "\n\n" + r"$$\hat\beta = \arg\max_\beta \ell(\beta)$$"


def _run(folder: Path) -> Path:
    """Write what a run leaves behind, without running anything."""
    (folder / "notebooks").mkdir(parents=True)
    gates = (Check.of("enough events", False, "3 events; at least 10 needed"), Check.of("a rival", True, "none"))
    doubted = Check("negative control", "open", "far off", deviation=Deviation(0.15, 0.05, 0.25, limit=0.2))
    findings = {
        "S19": Estimate(0.62, 0.58, 0.66, "share of contribution", 18_342),
        "S19a": Estimate(0.14, 0.12, 0.16, "share of contribution", 18_342),
        "S37": Missing("the bank brings no table <monthly> & more"),
        "S22": Estimate(0.7, 0.65, 0.75, "Jaccard overlap", 18_342, checks=gates),
        "S03": Estimate(0.0, 0.0, 0.0005, "share", 18_342),
        "S06": Estimate(0.8, 0.75, 0.85, "hazard ratio", 18_342, checks=(doubted,)),
    }
    truth = {"S06": {"world": 0.82, "limit": 0.81, "error": 0.001}, "S19": {"world": 0.6}}
    about = {"bank": "tiny", "evidence": "simulated", "parameters": {"seed": 1}, "truth": truth}
    ledger.record(folder, "01_customer_value", findings, **about)
    figure = new_output("display_data", {"text/html": figures.img(PIXEL, ALT, 40), "text/plain": ALT})
    for part, kept in {"figures": ("share.png", "share.svg"), "tables": ("share.csv",)}.items():
        (folder / part).mkdir()
        for file in kept:
            (folder / part / f"01_customer_value_{file}").write_bytes(base64.b64decode(PIXEL))
    rows = '<thead><tr><th scope="col">band</th></tr></thead><tbody><tr><td>1</td></tr></tbody>'
    table = f'<table class="dataframe">{rows}</table>'
    shown = new_output("execute_result", {"text/html": table, "text/plain": "band"}, execution_count=2)
    cells = [
        new_markdown_cell(f"# What a customer is worth\n\nOpening, {MATHS}", id="opening"),
        new_code_cell("seed: int = 1", id="parameters", metadata={"tags": ["parameters"]}, execution_count=1),
        new_markdown_cell("## Result\n\nWords.", id="result"),
        new_code_cell(
            'nb.keep(share, "share", "S19", "S19a", "S37", "S22", "S03", "S06")',
            id="keep",
            outputs=[shown],
            execution_count=2,
        ),
        new_code_cell("figures.show(share.plot(), alt=share.alt)", id="figure", outputs=[figure], execution_count=3),
    ]
    write_notebook(new_notebook(cells=cells), folder / "notebooks" / "01_customer_value.ipynb")
    failed = [new_markdown_cell("# Who leaves\n\nWords.", id="opening"), new_code_cell("1/0", id="fit")]
    write_notebook(new_notebook(cells=failed), folder / "notebooks" / "02_churn_survival.ipynb")
    ledger.merge(folder)
    about = {"name": "tiny", "title": "A <tiny> bank", "evidence": "simulated", "currency": "EUR"}
    about |= {"observation_start": "2020-01-01", "observation_end": "2020-12-31", "cannot_answer": ["who returns"]}
    prints = {"data": "0a1b", "code": "2c3d", "lock": "4e5f", "notebooks": {}}
    parameters = {"01_customer_value": {"seed": 1}}
    versions = {"python": "3.12.1"}
    described = {"bank": about, "parameters": parameters, "fingerprints": prints, "versions": versions}
    ledger.write_json(folder / "run.json", described | {"rules": {"exit": "no <b>transaction</b> for 6 months"}})
    states = {"01_customer_value": {"status": "completed"}, "02_churn_survival": {"status": "failed", "error": "x"}}
    ledger.write_json(folder / "status.json", {"status": "failed", "notebooks": states})
    hidden = {
        "threshold": 10,
        "suppressed": {"01_customer_value_share.csv": {"rows": 2, "rule": "fewer than 10 people"}},
    }
    ledger.write_json(folder / "disclosure.json", hidden)
    (folder / "restricted").mkdir()
    (folder / "restricted" / "01_customer_value_list.csv").write_text("customer_id\nclient-0007\n")
    return folder


class Page(HTMLParser):
    """What a test wants to know about a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag]

    @property
    def ids(self) -> set[str]:
        return {a["id"] for _, a in self.tags if a.get("id")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = _run(tmp_path_factory.mktemp("site") / "run")
    return site.build([run], run / "site").parent


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[str, Page]:
    return {str(p.relative_to(built)): Page(p.read_text("utf-8")) for p in sorted(built.rglob("*.html"))}


def test_every_part_is_there(pages, built):
    assert {"index.html", "studies.html", "how-to-read.html", "about-this-run.html", "search.html"} < set(pages)
    assert {"notebooks/01_customer_value.html", "notebooks/02_churn_survival.html"} < set(pages)
    assert (built / "ledger.csv").read_bytes() == (built.parent / "ledger.csv").read_bytes()


def test_ledger_shows_every_line_once_with_its_verdict(pages, built):
    frame = ledger.read(built.parent)
    lines = [a for a in pages["index.html"].all("li") if a.get("class") == "crm-line"]
    assert sorted(a["id"] for a in lines) == sorted(frame["line_id"])
    shown = {a["id"]: a["data-verdict"] for a in lines}
    assert shown == {k: chips.slug(v) for k, v in zip(frame["line_id"], frame["verdict"], strict=True)}
    text = (built / "index.html").read_text("utf-8")
    assert "<strong>0.620</strong>" in text
    assert "[0.580, 0.660]" in text
    assert "Simulated bank." in text


def test_a_claim_stands_once_above_its_lines(built):
    text = (built / "index.html").read_text("utf-8")
    page = (built / "notebooks" / "01_customer_value.html").read_text("utf-8")
    box = re.search(r'<div class="crm-decides">.*?</div>', page, re.DOTALL)[0]
    for line_id in ("S19", "S19a"):
        line = ledger.lines()[line_id]
        assert text.count(f'crm-text">{line.claim}<') == 1
        assert box.count(line.claim) == 1
        assert line.estimand in box
    assert "simulated" in box


def test_a_failed_assumption_is_in_sight_and_an_open_gate_is_folded_away(built):
    text = (built / "index.html").read_text("utf-8")
    sight, folded = re.search(r'id="S22".*?</details>', text, re.DOTALL)[0].split("<details>")
    assert "Failed assumption:</strong> enough events (3 events; at least 10 needed)" in sight
    assert "a rival" not in sight
    assert "Checked: a rival (none)" in folded


def test_claims_are_counted_by_answer_and_checks_stand_apart(pages, built):
    table = pd.read_csv(built / "claims.csv", keep_default_na=False).set_index("claim_id")
    assert table["answer"]["S06"] == "consistent, with a doubtful assumption"
    assert table["answer"][["S03", "S19", "S37", "S45", "S32"]].tolist() == [
        "holds", "reported", "not applicable", "not built", "not testable",
    ]  # fmt: skip
    text = (built / "index.html").read_text("utf-8")
    tile = re.search(r'data-filter="consistent"[^>]*><span class="crm-count">(\d+)<', text)[1]
    assert int(tile) == 1
    assert 'data-filter="holds"' not in text  # a check is no claim
    assert text.index("Checks of the instrument") < text.index('id="S03"') < text.index("Without an answer")
    assert text.index('id="S06"') < text.index("Checks of the instrument")


def test_the_page_begins_with_the_question_and_its_answer(built):
    text = (built / "index.html").read_text("utf-8")
    told = re.search(r'<ol class="crm-answer">.*?</ol>', text, re.DOTALL)[0]
    assert re.findall(r"<strong>(.+?)\.</strong>", told) == ["Paying", "Winning", "Keeping", "Satisfying", "The core"]
    assert "The best fifth of customers make up 62.0% [58.0%, 66.0%]" in told
    assert "S19: planted 60.0%; the interval holds it." in told
    assert "an assumption failed: enough events (3 events; at least 10 needed)" in told
    assert "What winning a customer costs against keeping one was not measured" in told
    assert re.findall(r'href="#(\w+)"', told) == ["S02", "S25", "S40", "S42", "S10c", "S12", "S19", "S22"]
    assert text.index("Does relationship banking pay?") < text.index(told) < text.index('class="crm-tiles"')


def test_what_was_planted_stands_beside_the_estimate(built):
    text = (built / "index.html").read_text("utf-8")
    line = re.search(r'id="S06".*?</div></li>', text, re.DOTALL)[0]
    assert "Planted 0.820 (this estimator tends to 0.810); the interval holds it." in line
    assert "found</span>" in line
    assert "Doubtful assumption:</strong> negative control" in line
    assert "E-value" in line
    described = re.search(r'id="S19".*?</div></li>', text, re.DOTALL)[0]
    assert "Planted 0.600; the interval holds it." in described


def test_each_measured_claim_links_to_its_cell(pages):
    links = {a["href"] for a in pages["index.html"].all("a") if a.get("class") == "crm-cell"}
    assert links == {"notebooks/01_customer_value.html#cell-keep"}
    assert "cell-keep" in pages["notebooks/01_customer_value.html"].ids


def test_every_link_within_the_site_resolves(pages, built):
    broken = []
    for name, page in pages.items():
        for tag, key in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for attributes in page.all(tag):
                target = attributes.get(key)
                if not target or re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                file = (built / name).parent / path.partition("?")[0] if path else built / name
                found = file.exists()
                if found and anchor:
                    found = anchor in pages[str(file.resolve().relative_to(built.resolve()))].ids
                if not found:
                    broken.append((name, target))
    assert broken == []


def test_no_page_asks_another_host_for_anything(pages, built):
    asked = [
        (name, a.get("src") or a.get("href"))
        for name, page in pages.items()
        for tag in ("script", "img", "link", "iframe", "source")
        for a in page.all(tag)
        if re.match(r"(https?:)?//", str(a.get("src") or a.get("href")))
    ]
    assert asked == []
    styles = [
        p.name for p in built.rglob("*.css") if re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", p.read_text("utf-8"))
    ]
    assert styles == []


def test_pages_are_accessible(pages):
    for name, page in pages.items():
        assert page.all("html")[0].get("lang") == "en", name
        assert len(page.all("h1")) == 1, name
        assert page.all("title"), name
        assert page.all("main"), name
        assert all(a.get("alt") for a in page.all("img")), name
    shown = [a["alt"] for a in pages["notebooks/01_customer_value.html"].all("img")]
    assert shown == [ALT]
    pictures = [a for a in pages["index.html"].all("img") if a.get("class") == "crm-forest"]
    assert sorted(str(a["src"]) for a in pictures) == ["claims/S06.svg", "claims/S19.svg", "claims/S22.svg"]


def test_maths_is_mathml_and_leaves_nothing_raw(built):
    text = (built / "notebooks" / "01_customer_value.html").read_text("utf-8")
    assert text.count("<math ") == 2
    for raw in ("$$", r"\arg", r"\hat", r"\int"):
        assert raw not in text, raw


def test_a_notebook_that_did_not_finish_is_announced(built):
    assert (
        "02_churn_survival" in re.search(r"This run is incomplete.*?</p>", (built / "index.html").read_text("utf-8"))[0]
    )
    assert "did not finish: failed" in (built / "studies.html").read_text("utf-8")


def test_texts_from_data_are_escaped(built):
    text = (built / "index.html").read_text("utf-8")
    assert "no table &lt;monthly&gt; &amp; more" in text
    assert "A &lt;tiny&gt; bank" in text


def test_about_page_tells_data_parameters_and_suppression(built):
    text = (built / "about-this-run.html").read_text("utf-8")
    for word in ("who returns", "seed = 1", "fewer than 10 people", "0a1b", "3.12.1", "no &lt;b&gt;transaction"):
        assert word in text, word


def test_nothing_restricted_and_no_source_is_published(built):
    names = {p.name for p in built.rglob("*")}
    assert not names & {"restricted", "_sources", ".buildinfo", ".doctrees", "alt.json"}
    assert not [p for p in built.rglob("*") if p.is_file() and b"client-0007" in p.read_bytes()]


def _index(built: Path) -> dict:
    index = (built / "searchindex.js").read_text("utf-8")
    return json.loads(index[index.index("(") + 1 : index.rindex(")")])


def test_search_finds_claims_and_studies(built):
    found = _index(built)
    assert "worth" in found["titleterms"]  # a notebook's title
    assert any(t.startswith("competit") for t in found["terms"])  # from a claim of the ledger
    # the index drops tags: cells beside each other would be one word, and a row of numbers a telephone's
    assert [p.name for p in built.rglob("*.html") if re.search("</t[dh]><t[dh]", p.read_text("utf-8"))] == [
        "py-modindex.html"
    ]


@pytest.mark.parametrize("asked", ["客户流失", "客户", "优质客户", "成本", "忠诚度"])
def test_search_finds_chinese_words_within_longer_ones(built, asked):
    pairs = search.Search({}).split(asked)
    assert all(len(p) == 2 for p in pairs)
    assert set(pairs) <= set(_index(built)["terms"])


@pytest.mark.parametrize(("asked", "place"), [("s40", "S40"), ("客户流失", "S06"), ("loyalty", "S12"), ("优质", "S19")])
def test_search_leads_to_the_claim_itself(built, pages, asked, place):
    found = _index(built)
    claims = [(f"{prefix}.{m[4]}".strip("."), m[0], m[3]) for prefix, ms in found["objects"].items() for m in ms]
    claims = [c for c in claims if c[2].startswith("claim-")]  # others are of the reference
    assert len(claims) == len(ledger.claims())
    places = {anchor: found["docnames"][doc] for said, doc, anchor in claims if asked in said.lower()}
    assert f"claim-{place}" in places
    assert all(anchor in pages[f"{doc}.html"].ids for anchor, doc in places.items())


def test_words_are_split_at_the_same_places_in_index_and_browser():
    found = search.Search({}).split("S40 老客户的, costs_of 2.5 户")
    assert found == ["S40", "老客", "客户", "户的", "costs_of", "2", "5", "户"]
    assert r"[\u3400-\u9fff]+" in search.WORDS.pattern
    assert r"[\u3400-\u9fff]+" in search.Search.js_splitter_code


@pytest.mark.parametrize(("rows", "folded"), [(3, False), (24, False), (25, True), (116, True)])
def test_long_tables_are_folded_and_all_scroll(rows, folded):
    table = disclosure.html(pd.DataFrame({"line": range(rows), "ratio": 1.0}))
    shown = tables.framed(f"<p>a</p>{table}<p>b</p>")
    assert table in shown
    assert shown.count('class="crm-scroll"') == 1
    assert (f"<summary>Table of {rows} rows</summary>" in shown) == folded


def test_on_a_telephone_a_wide_table_lists_its_cells():
    narrow = dict(_rules("screen and (max-width: 46rem)"))
    assert "display: grid" in narrow["table.crm-wide td, table.crm-wide td:last-child"]
    assert "attr(data-label)" in narrow[".crm-wide td::before"]


def test_code_is_folded_and_parameters_are_told_once(built):
    page = (built / "notebooks" / "01_customer_value.html").read_text("utf-8")
    assert page.count("<details") >= page.count("Code of this cell") / 2 > 0
    assert 'id="cell-parameters"' not in page
    assert 'id="cell-keep"' in page
    failed = (built / "notebooks" / "02_churn_survival.html").read_text("utf-8")
    assert 'id="cell-fit"' in failed


def _rules(media: str) -> list[tuple[str, str]]:
    """Selectors and declarations inside the blocks of a medium."""
    css = files("crmresearch.run.site").joinpath("static/crmresearch.css").read_text("utf-8")
    blocks = re.findall(rf"^@media {re.escape(media)} {{\n(.*?)^}}", css, flags=re.DOTALL | re.MULTILINE)
    return [(s.strip(), d) for block in blocks for s, d in re.findall(r"([^{}]+){([^}]*)}", block)]


@pytest.mark.parametrize("part", ["tiles", "more", "gate", "planted", "result", "lines"])
def test_print_keeps_answers_rules_and_gates(part):
    hidden = [s for s, declared in _rules("print") if "display: none" in declared]
    assert hidden
    assert not [s for s in hidden if f".crm-{part}" in s]


def test_print_opens_what_is_folded():
    script = files("crmresearch.run.site").joinpath("static/crmresearch.js").read_text("utf-8")
    opened = re.search(r'folded = "(.*?)"', script)[1].split(", ")
    assert {"details.crm-fold", ".cell_output details", ".crm-more details"} <= set(opened)


@pytest.mark.parametrize(
    ("selector", "declared"),
    [
        (".bd-main .bd-content", "display: block"),  # else pages beyond those counted are cut off
        (".crm-sortable th button", "display: contents"),  # else only the first page has heads
        (".crm-sortable .crm-ci, .crm-sortable .crm-chip", "white-space: normal"),  # else the last column is cut off
    ],
)
def test_print_loses_no_page_no_head_and_no_column(selector, declared):
    assert any(s.endswith(selector) and declared in d for s, d in _rules("print"))


@pytest.mark.parametrize("media", ["screen and (max-width: 46rem)", "print"])
def test_narrow_tables_wrap_so_that_estimates_stay_in_sight(media):
    wrapped = [s for s, declared in _rules(media) if "white-space: normal" in declared]
    assert "table.dataframe th, table.dataframe td" in wrapped


def test_two_builds_are_equal_byte_by_byte(built, tmp_path):
    again = site.build([_run(tmp_path / "run")], tmp_path / "run" / "site").parent
    first = {str(p.relative_to(built)): p.read_bytes() for p in built.rglob("*") if p.is_file()}
    second = {str(p.relative_to(again)): p.read_bytes() for p in again.rglob("*") if p.is_file()}
    assert first == second


def test_a_run_of_an_older_version_without_svg_shows_what_it_has(tmp_path):
    run = _run(tmp_path / "run")
    (run / "figures" / "01_customer_value_share.svg").unlink()
    shown = site.build([run], run / "site").parent
    page = (shown / "notebooks" / "01_customer_value.html").read_text("utf-8")
    assert 'share.png" download' in page
    assert "share.svg" not in page + (shown / "downloads.html").read_text("utf-8")


def test_a_bank_without_dates_has_no_period(tmp_path):
    run = _run(tmp_path / "run")
    about = json.loads((run / "run.json").read_text("utf-8"))
    about["bank"] |= {"observation_start": None, "observation_end": None}
    ledger.write_json(run / "run.json", about)
    front = site.build([run], run / "site").read_text("utf-8")
    assert "A &lt;tiny&gt; bank" in front
    assert "None" not in front


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"run\.json"):
        site.build([tmp_path], tmp_path / "site")


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "&lt; 1.0e−16"),
        (3.5e-323, "&lt; 1.0e−16"),
        (9e-17, "&lt; 1.0e−16"),
        (2e-16, "= 2.0e−16"),
        (0.0412, "= 0.0412"),
    ],
)
def test_a_chance_is_never_none(p, text):
    assert chips.chance(p) == text


def test_pixel_is_a_picture():
    assert base64.b64decode(PIXEL).startswith(b"\x89PNG")


# --- two languages ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = _run(tmp_path_factory.mktemp("languages") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(words.LANGUAGE, "zh,en")
        return site.build([run], run / "site").parent


@pytest.mark.parametrize("page", ["index", "how-to-read", "studies", "notebooks/01_customer_value", "search"])
def test_each_page_leads_to_its_like_in_the_other_language(both, page):
    for root, spoken, other, there in ((both, "zh", "en", both / "en"), (both / "en", "en", "zh", both)):
        here = root / f"{page}.html"
        text = here.read_text("utf-8")
        assert f'<html lang="{spoken}' in text
        [href] = set(re.findall(rf'<a class="nav-link" lang="{other}"[^>]* href="([^"]+)"', text))
        assert (here.parent / href).resolve() == (there / f"{page}.html").resolve()


def test_a_site_in_chinese_says_claims_answers_and_units_in_chinese(both):
    here, there = ((root / "index.html").read_text("utf-8") for root in (both, both / "en"))
    for line in ("S19", "S06"):
        said = ledger.lines()[line].claim
        assert said in there
        assert said not in here
    assert re.findall(r'<span class="crm-chip[^>]*>(?:<span[^>]*>[^<]*</span> )?([a-z][^<]*)</span>', here) == []
    assert [u for u in re.findall(r'<span class="crm-unit">([^<]*)</span>', here) if u.isascii()] == []
