"""Parameters of notebooks: read from the cell they are written in, refused before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from crmresearch import notebook, parameters
from crmresearch.errors import InputError

ROOT = Path(__file__).parents[1]


def written(path: Path, *lines: str) -> Path:
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "\n".join(lines)}
    path.write_text(json.dumps({"cells": [cell], "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def taken(name: str) -> dict[str, parameters.Parameter]:
    return parameters.read(ROOT / "notebooks" / f"{name}.ipynb")


# --- the grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "good", "bad", "reason"),
    [
        ("p: int = 2  # width, years, [1, 10]", [1, 10], [0, 11, True, "2", 2.0, None], "in [1, 10]|a valid integer"),
        ("p: int = 2  # seed, [0, )", [0, 10**30], [-1], "in [0, )"),
        ("p: float = .5  # rate, (0, 1]", [1e-9, 1, 1.0], [0, 0.0, 1.01, float("nan"), True], "in (0, 1]|valid number"),
        ("p: float = .5  # share, (0, 1)", [0.2], [0, 1], "in (0, 1)"),
        ("p: float = 0  # change, (, 0.5)", [-1e9, 0.49], [0.5, float("-inf")], "in (, 0.5)"),
        ("p: int = -2  # degrees, [-5, -1]", [-5], [0], "in [-5, -1]"),
        ('p: str = "day"  # unit; one of day, week', ["week"], ["weak", 1, "day, week"], "one of day, week|a text"),
        ('p: str = "a # b"  # name, not empty', ["x"], ["", 1], "empty|a text"),
        ("p: bool = False  # scaled, one of True, False", [True], [0, 1, "true"], "True or False"),
        (
            "p: list[int] = [3]  # windows, months, 1 to 3 items, each [1, 9]",
            [[1], [1, 2, 9]],
            [[], [1, 1, 1, 1], [0], [1, "2"], (1, 2), 1],
            "1 to 3 items|each should lie in [1, 9]|each should be a valid integer|a list",
        ),
        ('p: list[str] = ["a", "b"]  # ends, 2 items, each one of a, b', [["b", "b"]], [["a"]], "2 items, not 1"),
    ],
)
def test_ranges_are_read_and_held(tmp_path, line, good, bad, reason):
    takes = parameters.read(written(tmp_path / "05_x.ipynb", line))
    for value in good:
        parameters.check("05_x", takes, {"p": value})
    for value in bad:
        with pytest.raises(InputError) as caught:
            parameters.check("05_x", takes, {"p": value})
        assert any(part in str(caught.value) for part in reason.split("|")), caught.value
        assert line.partition("  # ")[2] in str(caught.value)  # meaning, unit and range


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("p = 1  # no type, [0, 1]", "is written"),
        ("p: int = 1", "is written"),
        ("p: int = 1  # no range", "is written"),
        ("p: int = 1  # no such number, [0, 1e3]", "is written"),
        ("p: complex = 1j  # odd, [0, 1]", "is written"),
        ("p: list = [1]  # of what, 1 items, each [0, 1]", "is written"),
        ("p: list[int] = [1]  # how many, [0, 1]", "no such range"),
        ('p: str = "a"  # text in an interval, [0, 1]', "no such range"),
        ("p: int = 2  # default out of range, [0, 1]", "the default should lie in"),
        ("p: int = x + 1  # computed, [0, 1]", "the default should be a valid integer"),
        ("import os", "is written"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_refused_with_its_line(tmp_path, line, match):
    with pytest.raises(InputError, match=match) as caught:
        parameters.read(written(tmp_path / "05_x.ipynb", line))
    assert line in str(caught.value)


def test_a_file_without_such_a_cell_is_refused(tmp_path):
    for text in ("{}", "no json", '{"cells": []}', "[]"):
        (tmp_path / "05_x.ipynb").write_text(text)
        with pytest.raises(InputError, match="tagged parameters"):
            parameters.read(tmp_path / "05_x.ipynb")


def test_a_cell_that_changed_is_read_again(tmp_path):
    path = written(tmp_path / "05_x.ipynb", "p: int = 1  # width, [0, 1]")
    assert parameters.read(path)["p"].default == 1
    written(path, "p: int = 2  # width, [0, 2]", "", "q: int = 1  # depth, [0, 2]")
    assert list(parameters.read(path)) == ["p", "q"]


# --- checking --------------------------------------------------------------------------------------------------------


def test_misspelt_parameter_names_the_nearest():
    with pytest.raises(InputError, match="no parameter bank_nam; did you mean bank_name"):
        parameters.check("00_customer_base", taken("00_customer_base"), {"bank_nam": "berka"})


def test_wrong_type_and_range_are_refused_with_the_meaning():
    takes = taken("00_customer_base")
    with pytest.raises(InputError, match=r"tenure_band_years = '2'.*valid integer.*width of a tenure band"):
        parameters.check("00_customer_base", takes, {"tenure_band_years": "2"})
    with pytest.raises(InputError, match=r"tenure_band_years = 0: should lie in \[1, 10\]"):
        parameters.check("00_customer_base", takes, {"tenure_band_years": 0})


def test_split_gives_each_notebook_its_part(tmp_path):
    other = written(tmp_path / "98_other.ipynb", 'bank_name: str = "x"  # bank, not empty')
    paths = {"00_customer_base": ROOT / "notebooks" / "00_customer_base.ipynb", "98_other": other}
    parts = parameters.split(paths, {"tenure_band_years": 3, "bank_name": "berka"})
    assert parts == {
        "00_customer_base": {"tenure_band_years": 3, "bank_name": "berka"},
        "98_other": {"bank_name": "berka"},
    }
    with pytest.raises(InputError, match="takes a parameter tenure_band_year; did you mean tenure_band_years"):
        parameters.split(paths, {"tenure_band_year": 3})


# --- a notebook opened by hand ---------------------------------------------------------------------------------------


def test_start_refuses_what_the_cell_does_not_declare(monkeypatch, tmp_path):
    good = {"bank_name": "reference", "tenure_band_years": 2, "seed": 1}
    for values, match in [
        (good | {"seeds": 1}, "no parameter seeds; did you mean seed"),
        ({"bank_name": "reference", "seed": 1}, "missing: tenure_band_years"),
        (good | {"seed": -1}, r"should lie in \[0, \)"),
        (good | {"bank_name": ""}, "not be empty"),
    ]:
        with pytest.raises(InputError, match=match):
            notebook.start("00_customer_base", **values)
    with pytest.raises(InputError, match="no notebook 00_customer_bas is known; did you mean 00_customer_base"):
        notebook.start("00_customer_bas", **good)


def test_the_notebook_beside_the_kernel_goes_first(monkeypatch, tmp_path):
    assert parameters.find("00_customer_base") == ROOT / "notebooks" / "00_customer_base.ipynb"
    mine = written(tmp_path / "00_customer_base.ipynb", "p: int = 1  # width, [0, 1]")
    monkeypatch.chdir(tmp_path)
    assert parameters.find("00_customer_base") == mine


def test_an_installed_wheel_knows_the_notebooks_and_their_parameters(tmp_path):
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(tmp_path / "site")
    look = """
import json, sys
from crmresearch import parameters
from crmresearch.run import plan
found = plan.find_notebooks()
names = list(parameters.read(parameters.find("01_customer_value")))
print(json.dumps([parameters.__file__, *map(str, found.values()), names]))
"""
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    module, *paths, names = json.loads(done.stdout)
    assert Path(module).is_relative_to(tmp_path / "site")
    assert [Path(p).name for p in paths] == sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert all(Path(p).is_relative_to(tmp_path / "site") for p in paths)
    assert names == list(taken("01_customer_value"))
