"""Several runs in one site: by evidence, each bank once, one picture a claim, runs of one bank compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from crmresearch import figures, ledger
from crmresearch.data.sources import open_data
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.run import batch, site
from crmresearch.run.execution import write_notebook
from crmresearch.run.people import People
from crmresearch.run.site import claims, comparison, pictures, runs
from test_site import Page

N = 18_342
NOBODY, SOMEBODY = People.called(()), People.called(["client-0007"])
FEWER = {"S42": Estimate(-0.02, -0.03, -0.01, "share of customers", N)}
MORE = {"S42": Estimate(0.02, 0.01, 0.03, "share of customers", N)}
ODDS = {
    "S12": Estimate(9.0, 4.0, 14.0, "money per customer-year", N),
    "S12a": Estimate(0.6, 0.5, 0.7, "hazard ratio", N),
    "S40": Estimate(4.0, 3.5, np.inf, "ratio", N),
}


def _run(folder: Path, bank: str, evidence: str, found: dict, *, seed: int = 1, prints: str = "0a", **truth) -> Path:
    """Write what a run of one notebook leaves behind."""
    name = "02_churn_survival"
    missing = {"S06": Missing("no table spells")}
    values = {name: {"seed": seed}}
    ledger.record(folder, name, missing | found, bank=bank, evidence=evidence, parameters=values[name], truth=truth)
    (folder / "notebooks").mkdir(exist_ok=True)
    write_notebook(
        new_notebook(cells=[new_markdown_cell("# Who leaves?", id="a")]), folder / "notebooks" / f"{name}.ipynb"
    )
    ledger.merge(folder)
    about = {"name": bank, "title": f"The bank {bank}", "evidence": evidence, "currency": "CZK"}
    about |= {"observation_start": "2020-01-01", "observation_end": "2020-12-31"}
    fingerprints = {"data": prints, "code": "1", "lock": "2", "register": "3", "notebooks": {name: "4"}}
    described = {"bank": about, "parameters": values, "fingerprints": fingerprints, "versions": {}, "rules": {}}
    ledger.write_json(folder / "run.json", described)
    ledger.write_json(folder / "status.json", {"started": "2026-01-02T03:04:05", "notebooks": {}})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("runs")
    return [
        _run(place / "tiny", "tiny", "simulated", FEWER | ODDS, S42={"world": -0.018}),
        _run(place / "before", "alpha", "real bank", MORE, seed=7),
        _run(place / "alpha", "alpha", "real bank", FEWER | ODDS),
        _run(place / "beta", "beta", "real bank", MORE),
        _run(place / "shop", "shop", "real, other trade", FEWER),
    ]


@pytest.fixture(scope="module")
def shown(folders: list[Path]) -> list[runs.Run]:
    return runs.chosen(folders)[0]


@pytest.fixture(scope="module")
def built(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.build(folders, tmp_path_factory.mktemp("joined") / "site", {"gamma": "no <file> here"}).parent


@pytest.fixture(scope="module")
def index(built: Path) -> str:
    return (built / "index.html").read_text("utf-8")


# --- which runs, in which order --------------------------------------------------------------------------------------


def test_each_bank_is_shown_once_and_real_evidence_first(folders, shown):
    assert [r.key for r in shown] == ["alpha", "beta", "shop", "tiny"]
    assert shown[0].folder.name == "alpha"  # the last named of its bank
    assert [(a.folder.name, b.folder.name) for a, b in runs.chosen(folders)[1]] == [("before", "alpha")]


def test_two_runs_of_one_bank_alone_make_its_usual_site_and_a_comparison(folders):
    shown, moved = runs.chosen(folders[1:3])
    assert [(r.folder.name, r.page("a"), r.about_page) for r in shown] == [("alpha", "notebooks/a", "about-this-run")]
    assert [old.folder.name for old, _ in moved] == ["before"]


def test_a_run_made_with_another_register_is_refused(tmp_path):
    folder = _run(tmp_path / "old", "old", "simulated", FEWER)
    frame = pd.read_csv(folder / "ledger.csv", keep_default_na=False)
    frame[frame["line_id"] != "S57"].to_csv(folder / "ledger.csv", index=False)
    with pytest.raises(InputError, match="another register"):
        site.build([folder], tmp_path / "site")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_site_is_not_replaced(folders, tmp_path, kind):
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        target = target / "chapters"
        target.mkdir()
        (target / "one.txt").write_text("work")
    else:
        target.write_text("work")
    with pytest.raises(InputError, match="not a site"):
        site.build(folders, target)
    assert (target if kind == "file" else target / "one.txt").read_text() == "work"


# --- the first page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["alpha"], "shown 1 of 1"),
        (["alpha", "beta"], "conflicting shown 1 of 2 contradicted 1 of 2"),
        (["shop"], "shown shop"),
        (["tiny"], "shown tiny"),
    ],
)
def test_real_banks_are_counted_and_others_named(shown, kinds, expected):
    told = claims.of_class([r for r in shown if r.key in kinds], "S42")
    assert re.sub(r"[^\w ]|<[^>]*>", "", re.sub(r"<[^>]*>", " ", told)).split() == expected.split()


def test_each_claim_stands_once_with_a_column_for_each_class(index):
    assert index.count('id="claim-S42"') == 1
    card = re.search(r'<li class="crm-claim" id="claim-S42".*?</dl>', index, re.DOTALL)[0]
    assert re.findall(r"<dt><span[^>]*>(.*?)</span>", card) == ["real bank", "real, other trade", "simulated"]
    assert 'data-answer="real-bank-conflicting real-other-trade-shown simulated-shown"' in card


def test_the_answer_is_told_by_evidence_and_bank(index):
    keeping = re.search(r"<strong>Keeping\.</strong>.*?</li>", index, re.DOTALL)[0]
    real, other, simulated = re.split(r"<dt>", keeping)[1:]
    assert "conflicting" in real
    assert real.index("alpha: ") < real.index("beta: ")
    assert "planted" not in real + other
    assert "shop: " in other
    assert "S42: planted" in simulated
    winning = re.search(r"<strong>Paying\.</strong>.*?</li>", index, re.DOTALL)[0]
    assert "Not measured: alpha, beta." in winning


def test_a_bank_that_could_not_be_run_is_told_and_hides_no_other(index):
    assert "gamma could not be shown.</strong> no &lt;file&gt; here" in index
    assert all(f"The bank {name}" in index for name in ("alpha", "beta", "shop", "tiny"))


def test_claims_are_counted_by_evidence_and_what_is_not_built_is_folded(index):
    tiles = dict(re.findall(r'data-filter="([\w-]+)"[^>]*><span class="crm-count">(\d+)<', index))
    assert tiles["real-bank-conflicting"] == "1"
    assert not [t for t in tiles if t.endswith("not-built")]
    heading = index.index("Without an answer")
    assert heading < index.index("<summary>", heading) < index.index('id="claim-S45"')


def test_every_link_of_a_joined_site_resolves(built):
    pages = {p.relative_to(built): Page(p.read_text("utf-8")) for p in built.rglob("*.html")}
    broken = []
    for name, page in pages.items():
        for tag, key in (("a", "href"), ("img", "src")):
            for target in (str(a[key]) for a in page.all(tag) if a.get(key) and not re.match(r"[a-z]+:", str(a[key]))):
                path, _, anchor = target.partition("#")
                file = (built / name.parent / path.partition("?")[0]).resolve() if path else built / name
                if not file.exists() or (anchor and anchor not in pages[file.relative_to(built.resolve())].ids):
                    broken.append((str(name), target))
    assert broken == []


def test_ledgers_are_one_table(built, shown):
    frame = pd.read_csv(built / "ledger.csv", keep_default_na=False)
    assert list(dict.fromkeys(frame["bank"])) == [r.key for r in shown]
    assert len(frame) == sum(len(r.frame) for r in shown)


# --- one picture a claim ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["S42", "S12", "S40"])
def test_no_panel_mixes_evidence_and_panels_of_a_unit_share_an_axis(shown, claim):
    panels = pictures.pictures(shown, claim)
    names = figures_of(panels)
    for panel in panels:
        assert panel.data["evidence"].nunique() == 1
        assert panel.data["truth"].isna().all() or panel.title == "Simulated"
    units = {u: {p.options["limits"] for p in panels if p.x.startswith(u)} for u in names}
    assert all(len(limits) == 1 for limits in units.values())


def figures_of(panels) -> list[str]:
    return list(dict.fromkeys(p.x.partition(";")[0] for p in panels))


def test_lines_of_one_bank_in_several_units_have_a_panel_each(shown):
    panels = pictures.pictures(shown, "S12")
    assert figures_of(panels) == ["CZK per customer-year", "hazard ratio"]
    assert [p.options["log"] for p in panels] == [False, False, True, True]


@pytest.mark.parametrize(
    ("low", "high", "shown_to"),
    [([1, 1, 0], [2, 2, 900], 20), ([1, 1, 1], [2, 2, np.inf], 3), ([-5, 1, 1], [2, 2, 2], 3)],
)
def test_no_interval_is_so_wide_that_it_hides_the_others(low, high, shown_to):
    frame = pd.DataFrame({"estimate": 1.5, "low": low, "high": high, "bound": 1.0, "mirror": np.nan, "truth": np.nan})
    floor, ceiling = pictures._limits(frame.astype(float), log=False)
    assert floor < 1
    assert 1.5 < ceiling < shown_to
    assert all(np.isfinite([floor, ceiling]))


def test_the_words_of_a_picture_are_told_from_what_is_drawn(shown):
    text = figures.told(pictures.pictures(shown, "S42"))
    assert "Real banks" in text
    assert "S42 alpha: -0.0200 [-0.0300, -0.0100], bound -0.00200; S42 beta: 0.0200 [0.0100, 0.0300]" in text
    assert text.count("triangle at -0.0180") == 1
    assert text.index("S42 beta") < text.index("Simulated") < text.index("triangle at -0.0180")


def test_pictures_are_the_same_every_time_and_of_checks_there_are_none(shown, tmp_path):
    first, again = (pictures.draw(shown, "S40", tmp_path / part) for part in "ab")
    assert first == again
    assert (tmp_path / "a" / "claims" / "S40.svg").read_bytes() == (tmp_path / "b" / "claims" / "S40.svg").read_bytes()
    assert pictures.draw(shown, "S03", tmp_path) is None


# --- two runs of one bank --------------------------------------------------------------------------------------------

Q = Estimate(-0.02, -0.03, -0.0021, "share of customers", N)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"found": MORE, "prints": "0b"}, {"found": FEWER}, "data"),
        ({"found": MORE, "seed": 2}, {"found": FEWER}, "parameters"),
        ({"found": MORE, "prints": "0b", "seed": 2}, {"found": FEWER}, "data, parameters"),
        ({"found": MORE}, {"found": FEWER}, "nothing that is recorded"),
    ],
)
def test_a_comparison_names_what_can_have_moved_a_line(tmp_path, before, after, why):
    old, new = (runs.Run(_run(tmp_path / k, "alpha", "real bank", **kind)) for k, kind in (("a", before), ("b", after)))
    page = comparison.page(old, new)
    assert "1 verdicts moved" in page
    row = re.search(r"<strong>S42</strong>.*?</tr>", page, re.DOTALL)[0]
    assert re.findall(r"<td[^>]*>([^<]*)</td></tr>", row) == [why]
    assert "0.0200 [0.0100, 0.0300]" in row


@pytest.mark.parametrize(("column", "why"), [("bound", "register"), ("q_value", "the other lines of the bank (q)")])
def test_a_verdict_that_moves_alone_was_moved_by_its_rule_or_the_lines_beside_it(tmp_path, column, why):
    old, new = (_run(tmp_path / k, "alpha", "real bank", FEWER) for k in "ab")
    frame = ledger.read(old)
    frame.loc[frame["line_id"] == "S42", ["verdict", column]] = ["undecided", 0.2]
    frame.to_csv(old / "ledger.csv", index=False)
    row = re.search(r"<strong>S42</strong>.*?</tr>", comparison.page(runs.Run(old), runs.Run(new)), re.DOTALL)[0]
    assert re.findall(r"<td[^>]*>([^<]*)</td></tr>", row) == [why]


def test_runs_that_agree_are_said_to(tmp_path):
    old, new = (runs.Run(_run(tmp_path / k, "alpha", "real bank", FEWER)) for k in "ab")
    page = comparison.page(old, new)
    assert "0 verdicts moved; 0 lines differ" in page
    assert "Nothing that is recorded differs" in page


def test_runs_of_one_bank_are_compared_on_a_page(built, index):
    page = (built / "comparison-1.html").read_text("utf-8")
    assert "alpha: before (2026-01-02) and alpha (2026-01-02)" in page
    assert "seed = 7" in page
    assert 'href="comparison-1.html"' in index


# --- every open bank -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "berka", "some folder"])
def test_files_of_an_open_bank_are_found_here_or_one_folder_down(tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    needed = [f for f, facts in open_data.catalogue()["berka"]["files"].items() if not facts.get("optional")]
    for name in needed[1:]:
        (tmp_path / place / name).touch()
    assert open_data.holding("berka", tmp_path) is None
    (tmp_path / place / needed[0].replace(".csv", ".asc")).touch()
    assert open_data.holding("berka", tmp_path) == tmp_path / place


@pytest.fixture
def open_banks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two banks whose files are there, one of which cannot be loaded, and one whose files are not."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    banks = {n: {"files": {f"{n}.csv": {}}, "title": n, "evidence": "real bank"} for n in ("one", "two", "elsewhere")}
    monkeypatch.setattr(open_data, "catalogue", lambda: banks)
    monkeypatch.setattr("crmresearch.data.sources.names.catalogue", lambda: banks)
    for name in ("one", "two"):
        (tmp_path / "files" / name).mkdir(parents=True)
        (tmp_path / "files" / name / f"{name}.csv").touch()

    def load(name: str, place: Path | None) -> None:
        if name == "two":
            raise InputError("two.csv: content differs")

    def run(name: str, *, out: Path, **_: object) -> batch.Outcome:
        return batch.Outcome(_run(out, name, "real bank", FEWER), {"status": "completed"})

    monkeypatch.setattr(batch, "load", load)
    monkeypatch.setattr(batch.People, "of", lambda opened: NOBODY)
    monkeypatch.setattr(batch, "run", run)
    return tmp_path / "files"


def test_a_bank_that_fails_is_told_and_the_others_are_joined(open_banks, tmp_path):
    outcomes, lost, report = batch.run_open(open_banks, studies=["02"], values={}, out=tmp_path / "out")
    assert list(outcomes) == ["one"]
    assert lost == {"two": "two.csv: content differs"}
    assert report.breaches == []
    page = (tmp_path / "out" / "site" / "index.html").read_text("utf-8")
    assert "two could not be shown.</strong> two.csv: content differs" in page
    assert "elsewhere" not in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"studies": ["17"], "values": {}}, "no study 17"),
        ({"studies": None, "values": {"bank_name": "x"}}, "named once"),
        ({"studies": None, "values": {}, "from_dir": "nowhere"}, "no folder nowhere"),
        ({"studies": None, "values": {}, "from_dir": "empty"}, "no open bank could be run"),
    ],
)
def test_what_no_bank_could_take_is_refused_once(open_banks, tmp_path, given, message):
    (tmp_path / "empty").mkdir()
    place = tmp_path / given.pop("from_dir") if "from_dir" in given else open_banks
    with pytest.raises(InputError, match=message):
        batch.run_open(place, out=tmp_path / "out", **given)


def test_a_run_that_holds_what_must_not_leave_is_withheld_and_told(folders, tmp_path):
    bad = _run(tmp_path / "bad", "delta", "real bank", FEWER)
    (bad / "tables").mkdir()
    (bad / "tables" / "list.csv").write_text("name\nclient-0007\n")
    strange = _run(tmp_path / "strange", "epsilon", "real bank", FEWER)
    report = batch.rebuild({folders[2]: SOMEBODY, bad: SOMEBODY, strange: None}, tmp_path / "site")
    assert {b.file for b in report.breaches} == {"bad/tables/list.csv"}
    assert not report.people
    text = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "bad could not be shown.</strong> Its run holds what must not leave." in text
    assert "strange could not be shown" in text
    assert "The bank alpha" in text
    assert "The bank delta" not in text
    assert "The bank epsilon" not in text


def test_where_every_run_is_withheld_no_site_is_left(tmp_path):
    bad = _run(tmp_path / "bad", "delta", "real bank", FEWER)
    (bad / "list.csv").write_text("name\nclient-0007\n")
    assert batch.rebuild({bad: SOMEBODY}, tmp_path / "site").breaches
    assert not (tmp_path / "site").exists()


def test_what_a_run_was_found_to_hold_is_not_forgotten(tmp_path):
    bad = _run(tmp_path / "bad", "delta", "real bank", FEWER)
    status = json.loads((bad / "status.json").read_text())
    breach = {"file": "tables/x.csv", "where": "row 1", "rule": "customer identifiers"}
    ledger.write_json(bad / "status.json", status | {"disclosure": [breach]})
    assert [b.file for b in batch.rebuild({bad: NOBODY}, tmp_path / "site").breaches] == ["tables/x.csv"]
