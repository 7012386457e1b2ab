"""Text from outside stays text: on pages, in spreadsheets, on terminals; and a description chooses no file to read."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from crmresearch import escape, figures, ledger, notebook, parameters
from crmresearch.data.bank import Bank, open_bank
from crmresearch.errors import InputError, Missing
from crmresearch.run import cli, execution, site
from crmresearch.run.progress import Events
from test_batch import BANK
from test_cli import crm  # noqa: F401 (a fixture)
from test_site import PIXEL, _run

SECRET = "the-secret-of-another-folder"
MARKUP = [
    "x\n\n```{literalinclude} @SECRET@\n```",
    "x\n\n````\n\n```{include} @SECRET@\n```",
    "x\n\n~~~{eval-rst}\n.. include:: @SECRET@\n~~~",
    "x\n\n:::{raw} html\n:file: @SECRET@\n:::",
    "![y](http://host.invalid/pixel.png)",
    "x</li></ul>\n\n[y](@SECRET@) {download}`@SECRET@`",
    "<img src='http://host.invalid/pixel.png' onerror='alert(1)'><script>alert(1)</script>",
    "$\\input{@SECRET@}$ <!-- \n\n# heading",
]


def bank(folder: Path, *more: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bank.yaml").write_text("\n".join([BANK, *more]), "utf-8")
    rows = ["customer_id,acquired_on,observed_from", *(f"client-{i:04d},2019-03-01,2020-01-01" for i in range(40))]
    (folder / "customers.csv").write_text("\n".join(rows) + "\n")
    return folder


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The site of a run whose bank, parameters, findings and notebooks try all of it; and what they said."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret.txt").write_text(SECRET)
    said = [text.replace("@SECRET@", str(folder / "secret.txt")) for text in MARKUP]
    run = _run(folder / "run")
    content = json.loads((run / "run.json").read_text())
    content["bank"] |= {"cannot_answer": said, "title": said[1], "licence": said[0], "citation": said[5]}
    content["parameters"] = {"01_customer_value": dict.fromkeys("abcdefgh", "")} | {"x": dict(enumerate(said))}
    ledger.write_json(run / "run.json", content)
    found = {"S57": Missing(said[1]), "S22": Missing(said[7]), "S03a": Missing(said[6])}
    known = {k: v for k, v in found.items() if k in ledger.lines()}
    ledger.record(run, "01_customer_value", known, bank="tiny", evidence="simulated", parameters={"seed": 1})
    written = "\n\n".join(
        [*said, '<iframe src="https://host.invalid"></iframe><p style="background:url(//h.invalid)">']
    )
    shown = [
        new_output("display_data", {"text/html": f"<p>{said[6]}</p>", "text/plain": ""}),
        new_output("display_data", {"text/markdown": written, "text/plain": ""}),
        new_output("stream", text=written),
        new_output("display_data", {"image/png": PIXEL}),
    ]
    told = {"status": "failed", "cell": "c1", "error": said[1]}
    mark = execution.say("unfinished", result={key: escape.markdown(value) for key, value in told.items()})
    cells = [new_markdown_cell(mark, id="unfinished"), new_markdown_cell(f"# Written\n\n{written}", id="opening")]
    cells += [new_code_cell("1", id="c1", outputs=shown, execution_count=1)]
    execution.write_notebook(new_notebook(cells=cells), run / "notebooks" / "03_written.ipynb")
    ledger.merge(run)
    return site.build([run], run / "site").parent, said


def test_no_page_shows_a_file_fetches_anything_or_runs_a_script(hostile):
    built, _ = hostile
    files = [p for p in built.rglob("*") if p.is_file() and "_static" not in p.parts]
    assert [p.name for p in files if SECRET.encode() in p.read_bytes()] == []
    pages = [p for p in files if p.suffix == ".html"]
    assert len(pages) > 6
    for page in pages:
        text = page.read_text("utf-8")
        assert not re.search(r"<(img|iframe|script|link|source)[^>]*(src|href)=[\"']?(https?:)?//", text), page.name
        assert "<script>alert" not in text
        assert "<iframe" not in text
    written = (built / "notebooks" / "03_written.html").read_text("utf-8")
    assert "data:image" in written or "<img" in written  # what the notebook drew is there


def test_what_was_said_is_read_as_it_was_said(hostile):
    built, said = hostile
    page = html.unescape(re.sub(r"<[^>]+>", "", (built / "about-this-run.html").read_text("utf-8")))
    for text in said:
        assert " ".join(text.split()) in " ".join(page.split())


@pytest.mark.parametrize("text", ["a*b*", "`c`", "# d", "<b>&amp;", "[e](f)", "$g$", "h\n\n---\n\ni", "{j}", "银行 ü"])
def test_markdown_and_html_show_the_text_itself(text):
    from markdown_it import MarkdownIt

    shown = MarkdownIt().render(f"x {escape.markdown(text)} y")
    assert shown.count("<") == 2  # a paragraph, and nothing else
    assert html.unescape(shown) == f"<p>x {' '.join(text.split())} y</p>\n"


# --- spreadsheets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+cmd|x", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", " =1"])
def test_no_cell_starts_a_formula(text):
    frame = pd.DataFrame({"channel": [text, "branch"], text: [1.5, -2.0]}, index=pd.Index([text, "b"], name="city"))
    rows = list(csv.reader(io.StringIO(escape.csv(frame, index=True).decode(), newline="")))
    safe = "'" + text.replace("\r", "\n")
    assert rows == [["city", "channel", safe], [safe, safe, "1.5"], ["b", "branch", "-2"]]


def test_what_is_no_formula_is_written_as_before():
    frame = pd.DataFrame(
        {"a": ["-5", "+3.2 %", "-1.7e-05", None], "b": [-1.0, 2.5, None, 1e-9], "c": pd.Categorical(list("wxyz"))}
    )
    for index in (False, True):
        plain = frame.rename_axis("k" if index else None)
        old = plain.to_csv(index=index, float_format="%.9g", lineterminator="\n")
        assert escape.csv(plain, index=index).decode() == old
    both = frame.set_index(["a", "c"])
    assert escape.csv(both, index=True).decode() == both.to_csv(float_format="%.9g", lineterminator="\n")


# --- terminals -------------------------------------------------------------------------------------------------------


CODES = ["\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "a\rb", "\u202egnp.exe"]


@pytest.mark.parametrize("code", CODES)
def test_events_and_objects_for_programs_move_no_cursor_and_read_as_they_were(code, tmp_path, capsys):
    with Events(tmp_path / "events.jsonl", None) as events:
        events.end("00_a", {"status": "failed", "error": code})
    cli._object(tmp_path, "failed", error=code)
    for written in ((tmp_path / "events.jsonl").read_text("utf-8"), capsys.readouterr().out):
        assert not set("\x1b\x07\x9b\r\u202e") & set(written)
        assert json.loads(written)["error"] == code


@pytest.mark.parametrize("code", CODES)
def test_no_name_moves_the_cursor_or_turns_the_text(code, tmp_path, crm, monkeypatch):  # noqa: F811
    folder = bank(tmp_path / "bank")
    text = (folder / "customers.csv").read_text()
    (folder / "customers.csv").write_bytes(
        text.replace("observed_from", f'observed_from,"x{code}"').replace("01\n", "01,1\n").encode()
    )
    monkeypatch.setenv("CRMRESEARCH_BANKS", str(folder))
    for words in (["bank", "check", str(folder)], ["bank", "list"], ["bank", "check", f"no such {code}"]):
        _, out, err = crm(*words)
        assert not set(code) & set("\x1b\x07\x9b\r\u202e") & set(out + err)


@pytest.mark.parametrize("name", ["$\\frac{", "a$b$c", "$$", "50 $ to 60 $"])
def test_a_name_in_a_figure_is_no_formula(name):
    import matplotlib.pyplot as plt

    figures.use()
    figure, ax = plt.subplots()
    shown = ax.set_title(name)
    figure.canvas.draw()  # mathtext would raise, or leave out the signs
    assert not shown.get_parse_math()
    plt.close(figure)


# --- what a bank.yaml may read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["absolute", "above", "link", "in a list", "folder"])
def test_a_file_outside_needs_its_folder_to_be_named(way, tmp_path, crm):  # noqa: F811
    inside, other = bank(tmp_path / "bank"), tmp_path / "other folder"
    other.mkdir()
    (other / "elsewhere.csv").write_bytes((inside / "customers.csv").read_bytes())
    if way == "link":
        (inside / "link.csv").symlink_to(other / "elsewhere.csv")
    file = {"absolute": str(other / "elsewhere.csv"), "above": "../other folder/elsewhere.csv", "link": "link.csv"}
    file |= {"in a list": "[../other folder/elsewhere.csv]", "folder": "../other folder"}
    text = (inside / "bank.yaml").read_text().replace("file: customers.csv", f"file: {file[way]}")
    (inside / "bank.yaml").write_text(text)
    code, _, err = crm("bank", "check", str(inside))
    assert code == 2
    assert "lies outside the folder of bank.yaml" in err
    remedy = shlex.split(err.partition("allow its folder: ")[2].splitlines()[0].rstrip(")"))
    code, out, err = crm("bank", "check", str(inside), *remedy)
    assert (code, err) == (0, "")
    assert "customers: 40 rows from" in out
    with pytest.raises(InputError, match="lies outside"):
        open_bank(inside)  # allowed once is not allowed for ever


# --- parameters that nothing reads -----------------------------------------------------------------------------------

CELL = 'bank_name: str = "reference"  # bank, not empty\nseed: int = 1  # seed, [0, )'
START = "from crmresearch import notebook\nnb = notebook.start('05_x', bank_name=bank_name, seed=seed)"


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ([CELL, "# Parameters\nsede = 7\n", START], ["sede"]),
        ([CELL.replace("seed", "sede"), START], ["sede"]),
        ([CELL, '# Parameters\nbank_nam = "x"\nseed = 2', "1 + 1", START], ["bank_nam"]),
        ([CELL, START, "x = 1", "# Parameters\nseed = 7", START], []),
        ([CELL, "# Parameters\nsede = 7", START, CELL, START], []),  # told before, and mended
        ([CELL, "x = 1\ny = 2", "import os", "%matplotlib inline", START], []),
        ([CELL, "sede = seed + 1", START], []),
    ],
)
def test_names_set_like_parameters_are_known_or_told(cells, found):
    takes = dict.fromkeys(("bank_name", "seed"))
    assert parameters.undeclared(cells, takes) == found


def test_papermill_by_hand_with_a_misspelt_parameter_is_refused(tmp_path):
    first = new_code_cell(CELL, metadata={"tags": ["parameters"]})
    spec = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    execution.write_notebook(new_notebook(cells=[first, new_code_cell(START)], metadata=spec), tmp_path / "05_x.ipynb")
    command = [sys.executable, "-m", "papermill", "05_x.ipynb", "out.ipynb", "-p", "sede", "7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "05_x: no parameter sede; did you mean seed?" in done.stderr


def test_a_withheld_site_stays_withheld(tmp_path, crm, monkeypatch):  # noqa: F811
    run = _run(tmp_path / "run")
    monkeypatch.setattr(site, "build", None)  # nothing may be built
    leak = new_notebook(cells=[new_markdown_cell("/" + "home/ann/bank.csv")])
    execution.write_notebook(leak, run / "notebooks" / "04_leak.ipynb")
    code, out, err = crm("site", str(run))
    assert code == 1
    assert "04_leak.ipynb, cells 0" in out
    assert err.splitlines()[-1] == "the site is withheld"
    (run / "notebooks" / "04_leak.ipynb").unlink()
    status = json.loads((run / "status.json").read_text())  # found then, by a bank that is out of reach now
    withheld = [{"file": "a.ipynb", "rule": "customer identifier", "where": "line 3"}]
    ledger.write_json(run / "status.json", status | {"disclosure": withheld})
    code, out, _ = crm("site", str(run))
    assert (code, out) == (1, "a.ipynb, line 3: customer identifier\n")


def test_restricted_rows_are_their_users_alone_and_of_those_who_agreed(tmp_path, capsys):
    about = {"name": "b", "currency": "EUR", "evidence": "simulated", "observation_start": date(2020, 1, 1)}
    days = {"acquired_on": pd.to_datetime(["2020-01-01"] * 3), "observed_from": pd.to_datetime(["2020-01-01"] * 3)}
    customers = pd.DataFrame(
        {"customer_id": ["a", "b", "c"], **days, "consent_marketing": ["yes", "no", "not recorded"]}
    )
    bank = Bank.from_frames({"customers": customers}, about | {"observation_end": date(2020, 12, 31)})
    nb = notebook.Notebook("05_x", {}, bank, tmp_path, {})
    nb.keep_restricted(pd.DataFrame({"customer_id": ["b", "c"]}), "nobody")
    nb.keep_restricted(pd.DataFrame({"customer_id": ["c", "b", "a"], "risk": [1, 2, 3]}), "list")
    (written,) = (tmp_path / "restricted").iterdir()
    assert written.read_text() == "customer_id,risk\na,3\n"
    assert capsys.readouterr().out.startswith(
        "No list is written: nobody in it agreed to marketing.\nThe list of <10 customers"
    )
    assert [p.stat().st_mode & 0o777 for p in (written, written.parent)] == [0o600, 0o700]
