"""The reader's language: chosen by the command, carried to kernels, part of a run; figures without a font for it."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib import font_manager
from typer.testing import CliRunner

from crmresearch import disclosure, figures, ledger, notebook, words
from crmresearch.errors import InputError
from crmresearch.figures import Mark, Picture
from crmresearch.figures.dress import breadth, label, wrap
from crmresearch.run import batch, cli

WIDE = "\u4e00"  # the first Chinese character


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv(words.LANGUAGE, "zh")


@pytest.fixture
def fonts(monkeypatch):
    """Say which fonts are installed; the theme is set back afterwards."""

    known = list(font_manager.fontManager.ttflist)

    def installed(*names: str) -> None:
        own = [font for font in known if font.name in names]
        others = [font_manager.FontEntry(name=n) for n in names if n not in {font.name for font in own}]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", own + others)
        monkeypatch.setattr(font_manager, "findSystemFonts", list)

    yield installed
    monkeypatch.undo()
    figures.use()


# --- choosing it ------------------------------------------------------------------------------------------------------


def test_english_is_spoken_unless_asked_otherwise(monkeypatch):
    monkeypatch.delenv(words.LANGUAGE, raising=False)
    assert words.language() == "en"
    assert words.local("supported") == "supported"


@pytest.mark.parametrize("command", [["run", "--studies", "00"], ["site", "nowhere"]])
def test_the_command_refuses_a_language_without_words(command, monkeypatch):
    monkeypatch.setenv(words.LANGUAGE, "en")
    with pytest.raises(InputError, match="no words in the language 'tlh'; there are en, zh"):
        CliRunner().invoke(cli.app, [*command, "--lang", "tlh"], catch_exceptions=False)
    assert words.language() == "en"


def test_the_command_sets_it_for_every_process_it_starts(monkeypatch):
    monkeypatch.setenv(words.LANGUAGE, "en")
    monkeypatch.setattr(batch, "run", lambda *_, **__: pytest.fail(words.language()))
    with pytest.raises(pytest.fail.Exception, match="zh"):
        CliRunner().invoke(cli.app, ["run", "--lang", "zh"], catch_exceptions=False)


# --- saying it --------------------------------------------------------------------------------------------------------


def test_what_is_written_in_english_elsewhere_is_said_in_chinese(chinese):
    line = ledger.lines()["S40"]
    assert line.claim.isascii()
    assert not words.local(line.claim).isascii()
    assert words.english(words.local(line.claim)) == line.claim
    assert words.local("a bank's own words") == "a bank's own words"
    assert words.local(" ") == " "


def test_columns_are_named_in_chinese_and_figures_stay(chinese):
    table = pd.DataFrame({"estimate": [0.5], "ci_low": [0.4], "ci_high": [0.6], "own column": [True]})
    heads, cells = disclosure.text(table).splitlines()
    assert "estimate" not in heads
    assert "own column" in heads
    assert "0.500 [0.400, 0.600]" in cells
    assert "yes" not in cells


@pytest.mark.parametrize(
    "answer", ["open", "consistent; mixed: S10b", "shown; mixed: S42a, S06, with a doubtful assumption"]
)
def test_what_is_added_to_an_answer_is_said_in_words(answer, chinese, monkeypatch):
    said = ledger.beside(answer)
    assert not {"mixed", "doubtful"} & set(said.split())
    monkeypatch.setenv(words.LANGUAGE, "en")
    assert answer.endswith(ledger.beside(answer))


# --- drawing it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SimHei", "PingFang SC", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Microsoft YaHei"])
def test_a_font_that_is_there_draws_chinese(name, fonts, chinese, capsys):
    fonts("DejaVu Sans", "Comic Sans MS", name)
    figures.use()
    assert mpl.rcParams["font.family"] == ["DejaVu Sans", name]
    assert not figures.shared.english
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["intervals", "curves", "distribution", "scatter", "matrix", "calibration"])
def test_words_of_a_picture_are_said_and_names_of_ways_to_draw_stay(kind, chinese):
    options = {"unit": "percent", "x_unit": "money", "scale": "symlog", "legend": "customers"}
    options["marks"] = [Mark(1, "age")]
    data = pd.DataFrame({"label": ["age"], "n": [40]})
    said = figures._said(Picture(kind, data, "age", "customers", options=options))
    assert (said.kind, *list(said.options.values())[:3]) == (kind, "percent", "money", "symlog")
    assert said.options["marks"][0].style == "none"
    spoken = [said.title, said.x, said.options["legend"], said.options["marks"][0].text, said.data["label"][0]]
    assert spoken == [words.local(t) for t in ("age", "customers", "customers", "age", "age")]
    assert not any(t.isascii() for t in spoken)


def test_a_font_installed_after_the_list_of_fonts_was_kept_is_found(monkeypatch, chinese):
    from matplotlib import font_manager

    # the list without any Chinese font, whatever this machine has, and one that has come since
    there = [f for f in font_manager.fontManager.ttflist if f.name not in figures.CHINESE]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", there)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/new/simhei.ttf", "/new/broken.ttf"])

    def add(path):
        if "broken" in path:
            raise RuntimeError(path)
        there.append(font_manager.FontEntry(fname=path, name="SimHei"))

    monkeypatch.setattr(font_manager.fontManager, "addfont", add)
    assert figures.fonts() == ["SimHei"]


def test_without_a_font_figures_are_in_english(fonts, chinese):
    fonts("DejaVu Sans")
    figures.use(source=words.of("data.bank")("source.line", title="a bank", period="", evidence="simulated", money=""))
    assert figures.shared.english
    assert figures.shared.source.isascii() is False
    say = words.of("value.shares")
    part = say.names("measures")["contribution"]
    groups = pd.Categorical([part, words.of("value.stability")("core.seen")])
    data = pd.DataFrame(
        {
            "group": groups,
            "n": [40, 50],
            "label": [f"{part}\nn = 40", "own"],
            "estimate": [1.0, 2.0],
            "low": [0.5, 1.0],
            "high": [1.5, 3.0],
        }
    )
    marks = [Mark(1.5, words.of("value.margin")("clv.mean", mean=3.0))]
    axes = figures.draw(
        Picture("intervals", data, say("whale", measure=part, row={"estimate": 0.8}), part, options={"marks": marks})
    )
    figure = axes.get_figure()
    said = [t.get_text() for t in figure.findobj(mpl.text.Text)]
    assert [t for t in said if not t.isascii()] == []
    assert "contribution" in "".join(said)


@pytest.mark.parametrize("installed", ["DejaVu Sans", "SimHei"])
def test_one_notice_says_that_figures_are_in_english(installed, fonts, chinese, small_bank, monkeypatch, capsys):
    fonts("DejaVu Sans", installed)
    monkeypatch.setattr("crmresearch.data.bank.open_bank", lambda _: small_bank)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    notebook.start("00_customer_base", bank_name="reference", tenure_band_years=5, seed=1)
    assert capsys.readouterr().out.count("\n") == (installed == "DejaVu Sans")


def test_english_needs_no_chinese_font(fonts, monkeypatch, capsys):
    monkeypatch.setenv(words.LANGUAGE, "en")
    fonts("DejaVu Sans")
    figures.use()
    assert not figures.shared.english
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("width", [12, 20, 33])
def test_chinese_is_broken_by_breadth_and_no_line_begins_with_a_stop(width):
    text = f"{WIDE * 9}\uff0c{WIDE * 14} 12.5% {WIDE * 3}\u3002"
    lines = wrap(text, width).split("\n")
    assert max(map(breadth, lines)) <= width + 2
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert not any(line[0] in "\uff0c\u3002" for line in lines)


def test_money_is_named_by_its_currency_in_chinese_too(chinese):
    say = words.of("strategy")
    figures.use(currency="CNY")
    assert "CNY" in label(say("money"))


def test_a_notebook_names_bank_and_parameters_in_chinese(chinese, small_bank):
    nb = notebook.Notebook("01_customer_value", {"seed": 1}, small_bank, None, {"seed": "seed of resamples, [0, )"})
    shown = nb._repr_html_()
    assert "seed of resamples" not in shown
    assert "[0, )" in shown
    assert small_bank.about.title not in shown
